"""PushT's state: the names, units and indices of its numbers, and how the plane is rotated.

Code that reads or builds a state takes indices and names from a layout defined here. Planar parts
are x and y of a vector along the workspace's axes. The block's angle is a real number that does not
jump at 2 pi.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Array = Any  # NumPy's or JAX's: nothing here needs JAX


@dataclass(frozen=True)
class StateLayout:
    """The names, units and indices of the numbers in a state.

    Attributes:
        names: of the numbers, in order.
        units: px, px/s, rad or rad/s, one for each number.
        meaning: short description of the numbers, which is stored in files that hold states.
        agent: the agent's position.
        velocity: the agent's velocity; None if the state does not hold it.
        block: the block's pose: its position, then its angle.
        block_position: x and y of the block.
        block_angle: the block's angle, as a slice of length 1.
        planar: all numbers before the angle: x and y of each planar part in turn.
        block_velocity: the velocity of the block's centre of mass, x and y; None if the state does
            not hold it.
        block_angular_velocity: as a slice of length 1; None if the state does not hold it.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    meaning: str
    agent: slice
    velocity: slice | None
    block: slice
    block_position: slice
    block_angle: slice
    planar: slice
    block_velocity: slice | None = None
    block_angular_velocity: slice | None = None

    @property
    def dim(self) -> int:
        """How many numbers a state has."""
        return len(self.names)

    @property
    def angle(self) -> int:
        """The index of the block's angle."""
        return self.block_angle.start

    @property
    def planes(self) -> tuple[slice, ...]:
        """The planar parts, x and y each: these rotate when the frame does; the others do not."""
        parts = (self.agent, self.velocity, self.block_position, self.block_velocity)
        return tuple(part for part in parts if part is not None)

    @property
    def groups(self) -> dict[str, list[int]]:
        """The indices of numbers that are scored together, by the group's name in tables.

        The group `state` means the seven numbers of `STATE`; a state without the agent's velocity
        does not have it.
        """
        indices = list(range(self.dim))
        agent, position, angle = (
            indices[part] for part in (self.agent, self.block_position, self.block_angle)
        )
        pose = agent + position + angle
        groups = {"agent": agent, "block_position": position, "block_angle": angle, "pose": pose}
        if self.velocity is None:
            return groups
        return groups | {"state": indices[: self.block_angle.stop]}

    def join(
        self,
        agent: Array,
        velocity: Array,
        block: Array,
        xp: Any = np,
        *,
        block_velocity: Array | None = None,
    ) -> Array:
        """States (..., dim) from their parts.

        Args:
            agent: (..., 2) px.
            velocity: (..., 2) px/s; ignored if the state does not hold it.
            block: (..., 3) px, px, rad.
            xp: `numpy` or `jax.numpy`.
            block_velocity: (..., 3) px/s, px/s, rad/s; ignored if the state does not hold it.

        Raises:
            ValueError: the state holds the block's velocity, and none is given.
        """
        parts = (agent, block) if self.velocity is None else (agent, velocity, block)
        if self.block_velocity is not None:
            if block_velocity is None:
                raise ValueError(f"states of {self.dim} numbers need the block's velocity")
            parts = (*parts, block_velocity)
        return xp.concatenate(parts, axis=-1)

    def columns(self, names: Sequence[str]) -> list[int]:
        """The indices of some numbers, by name.

        Raises:
            ValueError: the state has no number of that name.
        """
        return [self.names.index(name) for name in names]


def _layout(has_velocity: bool) -> StateLayout:
    first = 4 if has_velocity else 2
    velocity = ("agent_velocity_x", "agent_velocity_y") if has_velocity else ()
    return StateLayout(
        names=("agent_x", "agent_y", *velocity, "block_x", "block_y", "block_angle"),
        units=("px", "px", *["px/s"] * len(velocity), "px", "px", "rad"),
        meaning=f"agent x, y, {'velocity x, y, ' if has_velocity else ''}block x, y, angle",
        agent=slice(0, 2),
        velocity=slice(2, 4) if has_velocity else None,
        block=slice(first, first + 3),
        block_position=slice(first, first + 2),
        block_angle=slice(first + 2, first + 3),
        planar=slice(0, first + 2),
    )


STATE = _layout(has_velocity=True)
"""The state of seven numbers: Markov, except for the block's momentary velocity and what Chipmunk
remembers of contacts."""
STATE_WITHOUT_VELOCITY = _layout(has_velocity=False)
"""The five numbers that gym-pusht's observation shows."""
STATE_WITH_BLOCK_VELOCITY = replace(
    STATE,
    names=(*STATE.names, "block_velocity_x", "block_velocity_y", "block_angular_velocity"),
    units=(*STATE.units, "px/s", "px/s", "rad/s"),
    meaning=f"{STATE.meaning}, block velocity x, y, angular velocity",
    block_velocity=slice(7, 9),
    block_angular_velocity=slice(9, 10),
)
"""The seven numbers, then the block's velocity, with which it moves for one more substep of 0.01 s:
PushT's block has no inertia beyond that. It is the velocity of the centre of mass, whereas the
position is that of the body's origin."""
_BY_DIM = {
    layout.dim: layout for layout in (STATE_WITHOUT_VELOCITY, STATE, STATE_WITH_BLOCK_VELOCITY)
}


def layout_of(dim: int) -> StateLayout:
    """The layout of states with `dim` numbers.

    Raises:
        ValueError: there is no such layout.
    """
    if dim not in _BY_DIM:
        *first, last = map(str, _BY_DIM)
        raise ValueError(f"expected state_dim {', '.join(first)} or {last}, got {dim}")
    return _BY_DIM[dim]


def rotated(x: Array, y: Array, cos: Array, sin: Array) -> tuple[Array, Array]:
    """x and y of planar vectors, rotated by the angle that has this cosine and sine."""
    return cos * x - sin * y, sin * x + cos * y


def rotated_back(x: Array, y: Array, cos: Array, sin: Array) -> tuple[Array, Array]:
    """The inverse of `rotated`."""
    return cos * x + sin * y, cos * y - sin * x
