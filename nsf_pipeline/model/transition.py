"""The transition law as one pass of a flow, and the bridge that it is trained with."""

import abc
from typing import final

import equinox as eqx
import jax.numpy as jnp

from nsf_pipeline.flow import ConditionalAuxiliaryFlow, ConditionalNeuralStochasticFlow
from nsf_pipeline.flow.distributions import Distribution
from nsf_pipeline.flow.guard import finite, require_times
from nsf_pipeline.model.agent_motion import end_of_at_least_a_step
from nsf_pipeline.model.agent_noise import noise_factor, noise_share
from nsf_pipeline.model.encoder import Encoder, Encoding
from nsf_pipeline.model.law import BlockFrameLaw, rotate_planes
from nsf_pipeline.model.nominal import Condition, Scalar, State
from nsf_pipeline.model.normaliser import noise_unit
from nsf_pipeline.model.within_step import PartOfStep
from nsf_pipeline.pusht.state import STATE

TIME_UNIT = 0.5
"""s; the flow's unit of time, so that gaps are of order one."""
SHORTEST = 1e-3
"""s; for a shorter gap, noise has the shape that it has for this one."""


class PushTTransition(eqx.Module):
    """p(x_t | x_s, s, t, c) in physical units: an encoding, then the law that follows from it.

    Arguments that are known are checked. Traced ones are not: this is what training compiles, and a
    guard would change how it rounds. `PushTModel` guards the results for its users.
    """

    encoder: eqx.AbstractVar[Encoder]

    @abc.abstractmethod
    def encode(
        self, x_init: State, t_init: Scalar, t_final: Scalar, condition: Condition
    ) -> Encoding:
        """All that the law depends on besides the parameters.

        Args:
            x_init: px, px/s, rad, at t_init.
            t_init: s since the policy started.
            t_final: s since the policy started, not before t_init.
            condition: the packed DMP vector.
        """

    @abc.abstractmethod
    def law(self, encoding: Encoding) -> Distribution:
        """The law of the state at t_final."""

    def __call__(
        self, x_init: State, t_init: Scalar, t_final: Scalar, condition: Condition
    ) -> Distribution:
        """The law of the state at t_final; see `encode` for the arguments."""
        return self.law(self.encode(x_init, t_init, t_final, condition))


@final
class FlowTransition(PushTTransition):
    """The law as one pass of a flow."""

    flow: ConditionalNeuralStochasticFlow
    encoder: Encoder

    def encode(
        self, x_init: State, t_init: Scalar, t_final: Scalar, condition: Condition
    ) -> Encoding:
        """See `PushTTransition.encode`."""
        return self.encoder(x_init, t_init, t_final, condition)

    def law(self, encoding: Encoding) -> BlockFrameLaw:
        """The law of the state at t_final.

        Raises:
            ValueError: an argument that is known means nothing.
        """
        self.encoder.require_meaning(*encoding[:4])
        state, t_init, t_final = encoding.state, encoding.t_init, encoding.t_final
        gap, step = t_final - t_init, end_of_at_least_a_step(t_init, t_final) - t_init
        delta = step / TIME_UNIT
        # The flow moves the residual, which starts at 0; the state enters by the features alone.
        whole = self.flow.unguarded(jnp.zeros_like(state), 0.0, delta, encoding.features)
        share, scale = gap / step, self.encoder.scale(encoding.condition)
        noise, factor = share, None
        moved = share * encoding.displacements[-1]
        if self.encoder.knows_noise:
            moved = encoding.displacement(share)
            # The agent's numbers get their units from the factor, which is per px of noise.
            agents = noise_unit(encoding.condition, self.encoder.config)[: STATE.block.start]
            scale = jnp.concatenate([agents, scale[STATE.block]])
            noise = noise_share(t_init, t_final)
            # In no time there is neither noise nor residual, and any factor will do.
            later = t_init + jnp.maximum(gap, SHORTEST)
            factor = noise_factor(t_init, later) / jnp.sqrt(delta * noise_share(t_init, later))
        residual = PartOfStep.of(whole, share, noise)
        angle = self.encoder.frame(state)
        return BlockFrameLaw(residual, state + moved, angle, scale, factor)


@final
class PushTBridge(eqx.Module):
    """b(x_m | x_s, x_t, s, m, t, c) in physical units, from the transition's encoding of s to t.

    Traced arguments are not checked, as in `PushTTransition`.
    """

    flow: ConditionalAuxiliaryFlow
    encoder: Encoder

    def law(self, encoding: Encoding, x_final: State, t_mid: Scalar) -> BlockFrameLaw:
        """The law of the state at t_mid (s).

        Raises:
            ValueError: an argument that is known means nothing, or t_mid is not between the times.
        """
        self.encoder.require_meaning(*encoding[:4])
        state, t_init, t_final = encoding.state, encoding.t_init, encoding.t_final
        require_times(t_init=t_init, t_mid=t_mid, t_final=t_final)
        x_final = finite("x_final", x_final, state.shape, jnp.float32)
        step = end_of_at_least_a_step(t_init, t_final) - t_init
        to_mid = encoding.displacement((t_mid - t_init) / step)
        to_final = encoding.displacement((t_final - t_init) / step)
        scale, angle = self.encoder.scale(encoding.condition), self.encoder.frame(state)
        end = rotate_planes(x_final - state - to_final, -angle) / scale
        mid, final = ((t - t_init) / TIME_UNIT for t in (t_mid, t_final))
        start = jnp.zeros_like(state)
        residual = self.flow.unguarded(start, end, 0.0, mid, final, encoding.features)
        return BlockFrameLaw(residual, state + to_mid, angle, scale)

    def __call__(
        self,
        x_init: State,
        x_final: State,
        t_init: Scalar,
        t_mid: Scalar,
        t_final: Scalar,
        condition: Condition,
    ) -> BlockFrameLaw:
        """The law of the state at t_mid (s)."""
        return self.law(self.encoder(x_init, t_init, t_final, condition), x_final, t_mid)
