"""The transition law as one pass of a flow, and the bridge that it is trained with."""

import abc
from typing import final

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from nsf_pipeline.flow import ConditionalAuxiliaryFlow, ConditionalNeuralStochasticFlow
from nsf_pipeline.flow.atoms import LARGEST_LOGIT, NEVER, Atom, LawWithAtoms
from nsf_pipeline.flow.distributions import Distribution, LawOfNoise
from nsf_pipeline.flow.guard import finite, require_times
from nsf_pipeline.model.agent_motion import end_of_at_least_a_step
from nsf_pipeline.model.agent_noise import noise_factor, noise_share
from nsf_pipeline.model.encoder import Encoder, Encoding
from nsf_pipeline.model.heavy_tails import HeavyTailed, compressed
from nsf_pipeline.model.law import BlockFrameLaw, rotate_planes
from nsf_pipeline.model.nominal import Condition, Scalar, State
from nsf_pipeline.model.normaliser import noise_unit
from nsf_pipeline.model.within_step import PartOfStep
from nsf_pipeline.pusht.state import STATE

TIME_UNIT = 0.5
"""s; the flow's unit of time, so that gaps are of order one."""
TINY = 1e-6
"""Least share of a gap whose logarithm is taken."""
UNLIKELY = -2.0 * LARGEST_LOGIT
"""Added to a logit, makes the atom unlikely whatever its network says."""
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
            x_init: px, px/s, rad, rad/s, at t_init.
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
    """The law as one pass of a flow, and an atom where the block rests.

    A block that nothing touches keeps its pose exactly. With a probability that depends on the
    features and on the agent's noise it rests, and the agent alone follows the flow. Over a part of
    a control step the probability is that of the whole step: so the mean motions of the parts add
    up, as do those of the agent, but several short rests are less probable than the long one.

    Where the state holds the block's velocity, a resting block has the velocity 0, and so has one
    that has moved and is not touched any more: a second atom tells how probable that is, given the
    pose.

    Attributes:
        flow: of the residual.
        rest: the atom of a resting block, and that of a velocity of 0 if the state holds it; none
            if every block is said to move.
        encoder: see `Encoder`.
    """

    flow: ConditionalNeuralStochasticFlow
    rest: tuple[Atom, ...]
    encoder: Encoder

    def encode(
        self, x_init: State, t_init: Scalar, t_final: Scalar, condition: Condition
    ) -> Encoding:
        """See `PushTTransition.encode`."""
        return self.encoder(x_init, t_init, t_final, condition)

    def law(self, encoding: Encoding) -> LawWithAtoms:
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
        share, sizes = gap / step, self.encoder.sizes(encoding.condition)
        noise, factor = share, None
        moved = share * encoding.displacements[-1]
        if self.encoder.knows_noise:
            moved = encoding.displacement(share)
            # The agent's numbers get their units from the factor, which is per px of noise.
            agents = noise_unit(encoding.condition, self.encoder.config)[: STATE.block.start]
            sizes = jnp.concatenate([agents, sizes[STATE.block.start :]])
            noise = noise_share(t_init, t_final)
            # In no time there is neither noise nor residual, and any factor will do.
            later = t_init + jnp.maximum(gap, SHORTEST)
            factor = noise_factor(t_init, later) / jnp.sqrt(delta * noise_share(t_init, later))
        residual: LawOfNoise = PartOfStep.of(whole, share, noise)
        if self.encoder.layout.block_velocity is not None:
            residual = HeavyTailed(residual, self.encoder.layout.block.stop)
        angle = self.encoder.frame(state)
        scale = self.encoder.signs(encoding) * sizes
        moving = BlockFrameLaw(residual, state + moved, angle, scale, factor)
        points, shift = self._atoms(state, gap)
        return LawWithAtoms(moving, self.rest, points, whole.context, shift)

    def _atoms(self, state: State, gap: Scalar) -> tuple[Array, Array]:
        """Where the atoms are, and what is added to their logits."""
        if len(self.rest) < 2:
            return jnp.tile(state, (len(self.rest), 1)), jnp.zeros(len(self.rest))
        rests = _unless_moving(state[self.encoder.layout.block.stop :])
        # In no time the velocity is what it was.
        stops = jnp.where(gap > 0.0, 0.0, NEVER)
        # Of the second point, only the velocity of 0 is used.
        return jnp.stack([state, jnp.zeros_like(state)]), jnp.stack([rests, stops])


def _unless_moving(block_velocity: Float[Array, " velocity"]) -> Scalar:
    """Added to the logit of a rest at a place where the block has this velocity.

    A block that moves is elsewhere a substep later. It is no more than unlikely, so that a velocity
    too small to change the pose costs a finite amount.
    """
    return jnp.where((block_velocity != 0.0).any(), UNLIKELY, 0.0)


@final
class PushTBridge(eqx.Module):
    """b(x_m | x_s, x_t, s, m, t, c) in physical units, from the transition's encoding of s to t.

    A block that rests from s to t rests at m. Another one rests until after m, has come to rest
    before m, or lies in between; the two atoms tell how probable that is. Where the state holds the
    block's velocity, a third one is that of a velocity of 0 in between.

    Traced arguments are not checked, as in `PushTTransition`.

    Attributes:
        flow: of the residual.
        rests: the atoms of a block that is still where it was at s, and of one that is already
            where it is at t, and of a velocity of 0; none for a transition without an atom.
        encoder: see `Encoder`.
    """

    flow: ConditionalAuxiliaryFlow
    rests: tuple[Atom, ...]
    encoder: Encoder

    def law(self, encoding: Encoding, x_final: State, t_mid: Scalar) -> LawWithAtoms:
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
        scale, angle = self.encoder.scale(encoding), self.encoder.frame(state)
        end = rotate_planes(x_final - state - to_final, -angle) / scale
        mid, final = ((t - t_init) / TIME_UNIT for t in (t_mid, t_final))
        start = jnp.zeros_like(state)
        heavy = self.encoder.layout.block_velocity is not None
        first = self.encoder.layout.block.stop
        end = compressed(end, first) if heavy else end
        residual = self.flow.unguarded(start, end, 0.0, mid, final, encoding.features)
        law = HeavyTailed(residual, first) if heavy else residual
        between = BlockFrameLaw(law, state + to_mid, angle, scale)
        # Of the third point, only the velocity of 0 is used.
        points = jnp.stack([state, x_final, start])[: len(self.rests)]
        shift = jnp.stack(self._shifts(state, x_final, mid / final))[: len(self.rests)]
        return LawWithAtoms(between, self.rests, points, residual.context, shift)

    def _shifts(self, state: State, x_final: State, r: Scalar) -> tuple[Scalar, Scalar, Scalar]:
        """What is added to the logits, so that the ends are exact.

        At s the block is where it was at s, at t where it is then, and always there if it rests.
        """
        early = jnp.log(jnp.clip(1.0 - r, TINY)) - jnp.log(jnp.clip(r, TINY))
        early = jnp.where(r <= 0.0, -NEVER, jnp.where(r >= 1.0, NEVER, early))
        first, velocity = self.encoder.layout.block.start, self.encoder.layout.block.stop
        rests = (state[first:] == x_final[first:]).all()
        at_start = early + _unless_moving(state[velocity:])
        at_end = _unless_moving(x_final[velocity:]) - early
        return jnp.where(rests, -NEVER, at_start), at_end, jnp.zeros(())

    def __call__(
        self,
        x_init: State,
        x_final: State,
        t_init: Scalar,
        t_mid: Scalar,
        t_final: Scalar,
        condition: Condition,
    ) -> LawWithAtoms:
        """The law of the state at t_mid (s)."""
        return self.law(self.encoder(x_init, t_init, t_final, condition), x_final, t_mid)
