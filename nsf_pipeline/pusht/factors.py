"""Factors of variation: what of PushT's scene may differ from gym-pusht's."""

from typing import NamedTuple

import numpy as np

from nsf_pipeline import checks
from nsf_pipeline.errors import UserError
from nsf_pipeline.pusht.geometry import AGENT_RADIUS, GOAL_POSE, WALLS, WORKSPACE

BLOCK_SCALES = (0.25, 2.0)
AGENT_RADII = (1.0, 60.0)
"""px."""
LEAST_ROOM = 200.0
"""px; between walls that face each other."""
PACKED = 7
"""Numbers in packed factors."""
MOST_TURN = 1000.0
"""rad; a goal's angle is at most this far from 0."""


class Factors(NamedTuple):
    """What of the scene may differ; the defaults are gym-pusht's.

    Attributes:
        block_scale: size of the T and of its goal, in multiples of gym-pusht's.
        agent_radius: px, of the agent's circle.
        goal_pose: (3) goal of the block: x, y in px, angle in rad.
        walls: least and greatest coordinate within the four walls, px.
    """

    block_scale: float = 1.0
    agent_radius: float = AGENT_RADIUS
    goal_pose: tuple[float, float, float] = (*GOAL_POSE[:2].tolist(), GOAL_POSE[2].item())
    walls: tuple[float, float] = WALLS

    def checked(self) -> "Factors":
        """The same factors as plain numbers.

        Raises:
            UserError: one is out of its range, or means nothing.
        """
        block_scale, agent_radius = (
            checks.number(name, value, least=least, most=most)
            for name, value, (least, most) in (
                ("block_scale", self.block_scale, BLOCK_SCALES),
                ("agent_radius", self.agent_radius, AGENT_RADII),
            )
        )
        x, y, angle = checks.numbers("goal_pose", self.goal_pose, (3,)).tolist()
        checks.numbers("goal_pose, x and y,", [x, y], least=WORKSPACE[0], most=WORKSPACE[1])
        checks.number("goal_pose's angle", angle, least=-MOST_TURN, most=MOST_TURN)
        walls = checks.numbers("walls", self.walls, (2,), least=WORKSPACE[0], most=WORKSPACE[1])
        low, high = walls.tolist()
        if high - low < LEAST_ROOM:
            raise UserError(
                f"expected walls at least {LEAST_ROOM:g} px apart, the lesser coordinate first, "
                f"got {low:g} and {high:g}"
            )
        return Factors(block_scale, agent_radius, (x, y, angle), (low, high))

    def as_vector(self) -> np.ndarray:
        """Packed in the order of the attributes: (7,) float64."""
        return np.array([self.block_scale, self.agent_radius, *self.goal_pose, *self.walls])

    @classmethod
    def from_vector(cls, vector: np.ndarray) -> "Factors":
        """The inverse of `as_vector`.

        Raises:
            UserError: another shape, or a number out of its range.
        """
        packed = checks.numbers("factors", vector, (PACKED,)).tolist()
        scale, radius, x, y, angle, low, high = packed
        return cls(scale, radius, (x, y, angle), (low, high)).checked()

    @property
    def changed(self) -> list[str]:
        """Names of the factors that are not gym-pusht's."""
        return [name for name in self._fields if getattr(self, name) != getattr(USUAL, name)]

    @property
    def goal(self) -> np.ndarray:
        """(3,) the goal of the block: px, px, rad."""
        return np.array(self.goal_pose)


USUAL = Factors()
"""gym-pusht's scene."""
