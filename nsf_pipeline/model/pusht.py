"""The PushT model: a conditional Neural Stochastic Flow of what the block's frame sees.

The flow draws the residual

    e = R(-angle_s) (x_t - x_s - nominal(s, t)) / scale

where R turns the planar parts of a state, and the nominal displacement is what would happen
without noise. At t = s both vanish, so the law is the point mass at x_s, exactly. A start angle
enters by its sine and cosine alone: 2 pi more shift the law by 2 pi, to rounding, and change
nothing else.
"""

import abc
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nsf_pipeline.config import NetworkConfig
from nsf_pipeline.flow import ConditionalAuxiliaryFlow, ConditionalNeuralStochasticFlow
from nsf_pipeline.flow.distributions import Distribution, Given, jittable
from nsf_pipeline.model.between import PartOfStep
from nsf_pipeline.model.contact import rotate
from nsf_pipeline.model.control import at_least_a_step, noise_factor, noise_share
from nsf_pipeline.model.view import Condition, Scalar, Seen, State, View, interpolate

STATE_NAMES = {
    7: (
        "agent_x",
        "agent_y",
        "agent_velocity_x",
        "agent_velocity_y",
        "block_x",
        "block_y",
        "block_angle",
    ),
    5: ("agent_x", "agent_y", "block_x", "block_y", "block_angle"),
}
ACTIVATIONS = {
    "silu": jax.nn.silu,
    "tanh": jax.nn.tanh,
    "gelu": jax.nn.gelu,
    "softplus": jax.nn.softplus,
}
TIME_UNIT = 0.5
"""s; the flow's unit of time, so that gaps are of order one."""
MIN_STD = 0.02
"""Least noise of the base law, in units of the scale and per root of TIME_UNIT."""
SHORTEST = 1e-3
"""s; a gap below which noise is shaped as in this one."""
AGENT_MIN_STD = 0.3
"""Of the agent, where what noise does to it is known, and in units of that."""


class BlockFrameLaw(eqx.Module):
    """A law of residuals, as the law of states in physical units.

    Attributes:
        residual: the law of e.
        origin: x_s plus the nominal displacement.
        angle: of the block at s, rad.
        scale: sizes of the residuals.
        agent: what it makes of the agent's scaled residuals, in pairs, is position and velocity;
            its determinant is positive. None: they are as they are.
    """

    residual: Distribution
    origin: State
    angle: Scalar
    scale: tuple[float, ...] = eqx.field(static=True)
    agent: Float[Array, "2 2"] | None = None

    def sample(self, key: PRNGKeyArray) -> State:
        """One state."""
        return self._state(self.residual.sample(key))

    def log_prob(self, x: State) -> Scalar:
        """Log-density in nats."""
        return self.residual.log_prob(self.residual_of(x)) - self._log_volume()

    def sample_and_log_prob(self, key: PRNGKeyArray) -> tuple[State, Scalar]:
        """One state and its log-density."""
        residual, log_prob = self.residual.sample_and_log_prob(key)
        return self._state(residual), log_prob - self._log_volume()

    def residual_of(self, x: State) -> State:
        """e of a state."""
        moved = turn(x - self.origin, -self.angle)
        if self.agent is not None:
            (a, b), (c, d) = self.agent
            position, velocity = moved[:2], moved[2:4]
            first = (d * position - b * velocity) / (a * d - b * c)
            second = (a * velocity - c * position) / (a * d - b * c)
            moved = jnp.concatenate([first, second, moved[4:]])
        return moved / jnp.array(self.scale)

    def _state(self, residual: State) -> State:
        moved = jnp.array(self.scale) * residual
        if self.agent is not None:
            first, second = moved[:2], moved[2:4]
            (a, b), (c, d) = self.agent
            moved = jnp.concatenate([a * first + b * second, c * first + d * second, moved[4:]])
        return self.origin + turn(moved, self.angle)

    def _log_volume(self) -> Scalar:
        # Turning the frame leaves volumes as they are.
        volume = jnp.asarray(np.log(self.scale).sum(), jnp.float32)
        if self.agent is None:
            return volume
        (a, b), (c, d) = self.agent
        return volume + 2.0 * jnp.log(a * d - b * c)


class PushTLaw(eqx.Module):
    """p(x_t | x_s, s, t, c) in physical units."""

    view: eqx.AbstractVar[View]

    @abc.abstractmethod
    def __call__(
        self, x_init: State, t_init: Scalar, t_final: Scalar, condition: Condition
    ) -> BlockFrameLaw:
        """The law of the state at t_final (s), from x_init (px, px/s, rad) at t_init (s)."""


class PushTTransition(PushTLaw):
    """The law as one pass of a flow."""

    flow: ConditionalNeuralStochasticFlow
    view: View

    def see(self, x_init: State, t_init: Scalar, t_final: Scalar, condition: Condition) -> Seen:
        """What may be given in place of the condition, for these times."""
        return self.view(x_init, t_init, t_final, condition)

    def __call__(
        self, x_init: State, t_init: Scalar, t_final: Scalar, condition: Condition | Seen
    ) -> BlockFrameLaw:
        """The law of the state at t_final (s), from x_init (px, px/s, rad) at t_init (s)."""
        displacements, seen = self.view(x_init, t_init, t_final, condition)
        gap, step = t_final - t_init, at_least_a_step(t_init, t_final) - t_init
        delta = step / TIME_UNIT
        whole = self.flow(jnp.zeros_like(x_init), 0.0, delta, seen)
        share = noise = gap / step
        scale, agent, moved = self.view.normaliser.scale, None, share * displacements[-1]
        if self.view.knows_noise:
            moved = interpolate(displacements, share)
            scale = (self.view.normaliser.noise,) * 4 + scale[4:]
            noise = noise_share(t_init, t_final)
            # Without time there is neither noise nor residual: any factor will do.
            later = t_init + jnp.maximum(gap, SHORTEST)
            agent = noise_factor(t_init, later) / jnp.sqrt(delta * noise_share(t_init, later))
        residual = PartOfStep.of(whole, share, noise)
        return BlockFrameLaw(residual, x_init + moved, x_init[-1], scale, agent)


class PushTBridge(eqx.Module):
    """b(x_m | x_s, x_t, s, m, t, c) in physical units; it sees what the transition sees."""

    flow: ConditionalAuxiliaryFlow
    view: View

    def __call__(
        self,
        x_init: State,
        x_final: State,
        t_init: Scalar,
        t_mid: Scalar,
        t_final: Scalar,
        condition: Condition | Seen,
    ) -> BlockFrameLaw:
        """The law of the state at t_mid (s)."""
        displacements, seen = self.view(x_init, t_init, t_final, condition)
        step = at_least_a_step(t_init, t_final) - t_init
        to_mid = interpolate(displacements, (t_mid - t_init) / step)
        to_final = interpolate(displacements, (t_final - t_init) / step)
        scale = jnp.array(self.view.normaliser.scale)
        end = turn(x_final - x_init - to_final, -x_init[-1]) / scale
        mid, final = ((t - t_init) / TIME_UNIT for t in (t_mid, t_final))
        residual = self.flow(jnp.zeros_like(x_init), end, 0.0, mid, final, seen)
        return BlockFrameLaw(residual, x_init + to_mid, x_init[-1], self.view.normaliser.scale)


class PushTModel(eqx.Module):
    """What `load_model` returns: the transition law, with the bridge that it was trained with."""

    transition: PushTLaw
    bridge: PushTBridge | None

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of a state's components, in order."""
        return STATE_NAMES[self.transition.view.config.state_dim]

    @property
    def condition_dim(self) -> int:
        """Numbers in a packed DMP vector."""
        return 7 + 2 * self.transition.view.dmp.n_basis

    @jittable
    def sample(
        self,
        key: PRNGKeyArray,
        state: Given,
        t_init: Scalar | float,
        t_final: Scalar | float,
        condition: Given,
        num_samples: int = 64,
    ) -> Float[Array, "samples dim"]:
        """Draw states at a later time, in one pass each.

        `jax.jit` takes `num_samples` as a static argument.

        Args:
            key: for the draws.
            state: (state_dim) at t_init, in px, px/s, rad, as `state_names` has it.
            t_init: s since the policy started.
            t_final: s since the policy started, not before t_init.
            condition: (C) the packed DMP vector.
            num_samples: how many.

        Returns:
            (num_samples, state_dim) states; the angle is continuous.

        Raises:
            ValueError: a shape is not what the model was trained for.
        """
        law = self._law(state, t_init, t_final, condition)
        return jax.vmap(law.sample)(jax.random.split(key, num_samples))

    @jittable
    def log_prob(
        self,
        next_state: Given,
        state: Given,
        t_init: Scalar | float,
        t_final: Scalar | float,
        condition: Given,
    ) -> Scalar:
        """Log-density in nats, per px, px/s and rad, of a state at a later time.

        The arguments are those of `sample`; `next_state`'s angle continues that of `state`. At
        t_final = t_init the law is a point mass and the result is not finite.
        """
        law = self._law(state, t_init, t_final, condition)
        return law.log_prob(self._checked("next_state", next_state, len(self.state_names)))

    def _law(
        self, state: Given, t_init: Scalar | float, t_final: Scalar | float, condition: Given
    ) -> BlockFrameLaw:
        return self.transition(*self._given(state, t_init, t_final, condition))

    def _given(
        self, state: Given, t_init: Scalar | float, t_final: Scalar | float, condition: Given
    ) -> tuple[State, Scalar, Scalar, Condition]:
        return (
            self._checked("state", state, len(self.state_names)),
            jnp.asarray(t_init, jnp.float32),
            jnp.asarray(t_final, jnp.float32),
            self._checked("condition", condition, self.condition_dim),
        )

    @staticmethod
    def _checked(name: str, values: Given, size: int) -> Array:
        array = jnp.asarray(values, jnp.float32)
        if array.shape != (size,):
            raise ValueError(
                f"expected {name} of shape ({size},), got {array.shape}; "
                "map over batches with jax.vmap"
            )
        return array


def build_flow(view: View, *, key: PRNGKeyArray) -> PushTModel:
    """An untrained flow and its bridge."""
    config = view.config
    flow_key, bridge_key = jax.random.split(key)
    agent_dim = config.state_dim - 3
    # Block position given the rest, block angle given the rest, agent given the block: its law is
    # a Gaussian where it is known how noise moves it, for nothing pushes back.
    moved = [
        [False] * agent_dim + [True, True, False],
        [False] * agent_dim + [False, False, True],
        [True] * agent_dim + [False, False, False],
    ][: 2 if view.knows_noise else 3]
    least = AGENT_MIN_STD if view.knows_noise else MIN_STD
    flow = ConditionalNeuralStochasticFlow(
        config.state_dim,
        view.feature_dim,
        autonomous=True,  # the features tell s, where the law may know it
        min_std=(least,) * agent_dim + (MIN_STD,) * 3,
        **_network(config.flow),
        moved=moved,
        key=flow_key,
    )
    bridge = ConditionalAuxiliaryFlow(
        config.state_dim,
        view.feature_dim,
        autonomous=True,
        min_std=MIN_STD,
        **_network(config.bridge),
        key=bridge_key,
    )
    return PushTModel(PushTTransition(flow=flow, view=view), PushTBridge(bridge, view))


def _network(config: NetworkConfig) -> dict[str, Any]:
    return {**dict(config), "activation": ACTIVATIONS[config.activation]}


def turn(state: State, angle: Scalar) -> State:
    """The planar parts of a state or displacement turned by an angle; the block's angle is kept."""
    planes = rotate(state[:-1].reshape(-1, 2), angle)
    return jnp.concatenate([planes.ravel(), state[-1:]])
