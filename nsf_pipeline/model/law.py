"""The law of a state in physical units, given the law of its residual.

The residual of a transition is

    e = R(-angle_s) (x_t - x_s - nominal(s, t)) / scale

where R rotates the planar parts of a state into the block's frame, and the nominal displacement is
what would happen without noise. Where the networks see a mirror image of the state, the scales of
the numbers that change their sign in it are negative. A model with `physics: none` has neither: no
rotation, and a nominal displacement of 0. Where the agent's noise is known, `agent_factor` mixes
the agent's two parts of e, each x and y, into position and velocity.

In no time both the displacement and the residual are 0, so the law is exactly a point mass at x_s.
The start angle enters by its sine and cosine only: adding 2 pi to it shifts the law by 2 pi, up to
rounding, and changes nothing else.
"""

from typing import final

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nsf_pipeline.flow.distributions import LawOfNoise
from nsf_pipeline.model.contact import rotate
from nsf_pipeline.model.nominal import Scalar, State
from nsf_pipeline.pusht.state import STATE, layout_of


@final
class BlockFrameLaw(LawOfNoise):
    """The law of a state, as that of its residual in the frame of the block at s, or another.

    Attributes:
        residual: the law of e.
        origin: x_s plus the nominal displacement.
        angle: rad, of the residual's frame: of the block at s, or 0 for the room's.
        scale: sizes of the residual's numbers, negative where it is mirrored.
        agent_factor: (2, 2), mixes the agent's two scaled residuals into its position and velocity,
            in x and in y alike; its determinant is positive. None: nothing is mixed.
    """

    residual: LawOfNoise
    origin: State
    angle: Scalar
    scale: State
    agent_factor: Float[Array, "2 2"] | None = None

    @property
    def no_noise(self) -> State:
        """Noise of 0."""
        return self.residual.no_noise

    def from_noise(self, noise: State) -> tuple[State, State]:
        """See `LawOfNoise.from_noise`; x is a state."""
        residual, log_slopes = self.residual.from_noise(noise)
        return self._state(residual), log_slopes + self._log_scales()

    def to_noise(self, x: State) -> tuple[State, State]:
        """See `LawOfNoise.to_noise`; x is a state, densities are in its units."""
        noise, log_slopes = self.residual.to_noise(self.residual_of(x))
        return noise, log_slopes + self._log_scales()

    def residual_of(self, x: State) -> State:
        """e of a state."""
        moved = rotate_planes(x - self.origin, -self.angle)
        if self.agent_factor is not None:
            (a, b), (c, d) = self.agent_factor
            position, velocity = moved[STATE.agent], moved[STATE.velocity]
            first = (d * position - b * velocity) / (a * d - b * c)
            second = (a * velocity - c * position) / (a * d - b * c)
            moved = jnp.concatenate([first, second, moved[STATE.block.start :]])
        return moved / self.scale

    def _state(self, residual: State) -> State:
        moved = self.scale * residual
        if self.agent_factor is not None:
            first, second = moved[STATE.agent], moved[STATE.velocity]
            (a, b), (c, d) = self.agent_factor
            position, velocity = a * first + b * second, c * first + d * second
            moved = jnp.concatenate([position, velocity, moved[STATE.block.start :]])
        return self.origin + rotate_planes(moved, self.angle)

    def _log_scales(self) -> State:
        # Rotating the frame leaves the volume of each plane as it is.
        scales = jnp.log(jnp.abs(self.scale))
        if self.agent_factor is None:
            return scales
        (a, b), (c, d) = self.agent_factor
        # The determinant counts once for x and once for y, divided among four numbers.
        is_agents = np.arange(len(scales)) < STATE.block.start
        return scales + 0.5 * jnp.log(a * d - b * c) * is_agents


def rotate_planes(state: State, angle: Scalar) -> State:
    """A state or displacement with its planar parts rotated by an angle."""
    layout = layout_of(len(state))
    planes = rotate(state[layout.planar].reshape(-1, 2), angle)
    parts = [planes.ravel(), state[layout.block_angle]]
    if layout.block_velocity is not None:
        parts += [rotate(state[layout.block_velocity], angle), state[layout.block_angular_velocity]]
    return jnp.concatenate(parts)
