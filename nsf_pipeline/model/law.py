"""The law of a state in physical units, given the law of its residual.

The residual of a transition is

    e = R(-angle_s) (x_t - x_s - nominal(s, t)) / scale

where R rotates the planar parts of a state into the block's frame, and the nominal displacement is
what would happen without noise. A model with `physics: none` has neither: no rotation, and a
nominal displacement of 0. Where the agent's noise is known, `agent_factor` mixes the agent's
two parts of e, each x and y, into position and velocity.

In no time both the displacement and the residual are 0, so the law is exactly a point mass at x_s.
The start angle enters by its sine and cosine only: adding 2 pi to it shifts the law by 2 pi, up to
rounding, and changes nothing else.
"""

from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from nsf_pipeline.flow.distributions import Distribution
from nsf_pipeline.model.contact import rotate
from nsf_pipeline.model.nominal import Scalar, State
from nsf_pipeline.pusht.state import STATE, layout_of


@final
class BlockFrameLaw(eqx.Module):
    """The law of a state, as that of its residual in the frame of the block at s, or another.

    Attributes:
        residual: the law of e.
        origin: x_s plus the nominal displacement.
        angle: rad, of the residual's frame: of the block at s, or 0 for the room's.
        scale: sizes of the residual's numbers.
        agent_factor: (2, 2), mixes the agent's two scaled residuals into its position and velocity,
            in x and in y alike; its determinant is positive. None: nothing is mixed.
    """

    residual: Distribution
    origin: State
    angle: Scalar
    scale: State
    agent_factor: Float[Array, "2 2"] | None = None

    def sample(self, key: PRNGKeyArray) -> State:
        """One state."""
        return self._state(self.residual.sample(key))

    def noiseless(self) -> State:
        """The state for which the residual's noise is 0."""
        return self._state(self.residual.noiseless())

    def log_prob(self, x: State) -> Scalar:
        """Log-density in nats, per px, px/s and rad."""
        return self.residual.log_prob(self.residual_of(x)) - self._log_volume()

    def sample_and_log_prob(self, key: PRNGKeyArray) -> tuple[State, Scalar]:
        """One state and its log-density."""
        residual, log_prob = self.residual.sample_and_log_prob(key)
        return self._state(residual), log_prob - self._log_volume()

    def residual_of(self, x: State) -> State:
        """e of a state."""
        moved = rotate_planes(x - self.origin, -self.angle)
        if self.agent_factor is not None:
            (a, b), (c, d) = self.agent_factor
            position, velocity = moved[STATE.agent], moved[STATE.velocity]
            first = (d * position - b * velocity) / (a * d - b * c)
            second = (a * velocity - c * position) / (a * d - b * c)
            moved = STATE.join(first, second, moved[STATE.block], jnp)
        return moved / self.scale

    def _state(self, residual: State) -> State:
        moved = self.scale * residual
        if self.agent_factor is not None:
            first, second = moved[STATE.agent], moved[STATE.velocity]
            (a, b), (c, d) = self.agent_factor
            position, velocity = a * first + b * second, c * first + d * second
            moved = STATE.join(position, velocity, moved[STATE.block], jnp)
        return self.origin + rotate_planes(moved, self.angle)

    def _log_volume(self) -> Scalar:
        # Rotating the frame leaves volumes as they are.
        volume = jnp.log(self.scale).sum()
        if self.agent_factor is None:
            return volume
        (a, b), (c, d) = self.agent_factor
        return volume + 2.0 * jnp.log(a * d - b * c)


def rotate_planes(state: State, angle: Scalar) -> State:
    """A state or displacement with its planar parts rotated by an angle."""
    layout = layout_of(len(state))
    planes = rotate(state[layout.planar].reshape(-1, 2), angle)
    return jnp.concatenate([planes.ravel(), state[layout.block_angle]])
