"""The PushT model: what `load_model` returns."""

from typing import Any, SupportsIndex, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from nsf_pipeline.flow.distributions import Distribution, jittable
from nsf_pipeline.model.arguments import (
    Numbers,
    sample_count,
    start_and_end,
    times_in_order,
    vector,
)
from nsf_pipeline.model.encoder import Encoder, Encoding
from nsf_pipeline.model.nominal import Condition, Scalar, State
from nsf_pipeline.model.transition import PushTBridge, PushTTransition
from nsf_pipeline.numerics import with_defaults


@final
class Law(eqx.Module):
    """The law of a later state. Each method is compiled at its first call.

    Attributes:
        distribution: the same law, uncompiled.
        state_dim: numbers in a state.
    """

    distribution: Distribution
    state_dim: int = eqx.field(static=True)

    @jittable
    @with_defaults
    def sample(self, key: PRNGKeyArray) -> State:
        """One state (state_dim)."""
        return _call(self.distribution, "sample", key)

    @jittable
    @with_defaults
    def log_prob(self, x: Numbers) -> Scalar:
        """Log-density of a state (state_dim) in nats, per px, px/s and rad.

        Raises:
            ValueError: the shape is another.
        """
        return _call(self.distribution, "log_prob", vector("x", x, self.state_dim))

    @jittable
    @with_defaults
    def sample_and_log_prob(self, key: PRNGKeyArray) -> tuple[State, Scalar]:
        """One state and its log-density."""
        return _call(self.distribution, "sample_and_log_prob", key)


@final
class PushTModel(eqx.Module):
    """The law of PushT's state at any later time, and the bridge that it was trained with.

    The methods take one example at a time, as plain numbers, NumPy or JAX arrays; `jax.vmap`,
    `jax.jit` and `jax.grad` work on them. Called plainly, each compiles itself once per shape.
    States are in px, px/s and rad, in the order of `state_names`; the block's angle is continuous.
    Times are in s since the policy started; JAX arrays of times that run backwards give NaN, other
    numbers an error. A condition is the packed DMP vector, (condition_dim).

    Attributes:
        transition: the law, by a flow or by a neural SDE. Draws of a neural SDE come from a solver
            and cannot be differentiated by `jax.grad`.
        bridge: used in training only; a neural SDE has none.
    """

    transition: PushTTransition
    bridge: PushTBridge | None

    @property
    def encoder(self) -> Encoder:
        """What the model was built with: its settings, and the sizes that the data fixed."""
        return self.transition.encoder

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of a state's numbers, in order."""
        return self.encoder.layout.names

    @property
    def condition_dim(self) -> int:
        """Numbers in a packed DMP vector."""
        return self.encoder.condition_dim

    @jittable
    @with_defaults
    def encode(
        self, state: Numbers, t_init: ArrayLike, t_final: ArrayLike, condition: Numbers
    ) -> Encoding:
        """What `law` needs of a transition: its features and nominal motion, without networks.

        Args:
            state: (state_dim) at t_init.
            t_init: time of `state`, in seconds.
            t_final: time of the state to come, in seconds, not before t_init.
            condition: (condition_dim) the packed DMP vector.

        Raises:
            ValueError: a shape is not what the model was trained for, or times run backwards.
        """
        return _encode(self, *self._checked(state, t_init, t_final, condition))

    @jittable
    @with_defaults
    def law(self, encoding: Encoding) -> Law:
        """The law of the state at t_final, with `sample`, `log_prob` and `sample_and_log_prob`.

        Args:
            encoding: what `encode` returned.
        """
        return Law(_law(self, encoding), len(self.state_names))

    @jittable
    @with_defaults
    def sample(
        self,
        key: PRNGKeyArray,
        state: Numbers,
        t_init: ArrayLike,
        t_final: ArrayLike,
        condition: Numbers,
        num_samples: SupportsIndex = 64,
    ) -> Float[Array, "samples dim"]:
        """Draw states at a later time, in one pass each.

        `jax.jit` takes `num_samples` as a static argument.

        Args:
            key: for the draws.
            state: (state_dim) at t_init.
            t_init: time of `state`, in seconds.
            t_final: time of the state to come, in seconds, not before t_init.
            condition: (condition_dim) the packed DMP vector.
            num_samples: how many.

        Returns:
            (num_samples, state_dim) states.

        Raises:
            ValueError: a shape is not what the model was trained for, or times run backwards.
        """
        given = self._checked(state, t_init, t_final, condition)
        return _sample(self, key, *given, sample_count(num_samples))

    @jittable
    @with_defaults
    def log_prob(
        self,
        next_state: Numbers,
        state: Numbers,
        t_init: ArrayLike,
        t_final: ArrayLike,
        condition: Numbers,
    ) -> Scalar:
        """Log-density in nats, per px, px/s and rad, of a state at a later time.

        At t_final = t_init the law is a point mass and the result is not finite. A neural SDE's
        density is known over one control step (0.1 s) at most; beyond, the result is NaN.

        Args:
            next_state: (state_dim) at t_final; its angle continues that of `state`.
            state: (state_dim) at t_init.
            t_init: time of `state`, in seconds.
            t_final: time of the state to come, in seconds, not before t_init.
            condition: (condition_dim) the packed DMP vector.

        Raises:
            ValueError: a shape is not what the model was trained for, or times run backwards.
        """
        end = vector("next_state", next_state, len(self.state_names))
        return _log_prob(self, end, *self._checked(state, t_init, t_final, condition))

    @jittable
    @with_defaults
    def rollout(
        self,
        key: PRNGKeyArray,
        state: Numbers,
        times: Numbers,
        condition: Numbers,
        num_samples: SupportsIndex | None = None,
    ) -> Float[Array, "*samples time dim"]:
        """Draw a path: the state at one time after the other, each drawn given the one before.

        `jax.jit` takes `num_samples` as a static argument.

        Args:
            key: for the draws.
            state: (state_dim) at the first of the times.
            times: (n) s, never decreasing, at least one.
            condition: (condition_dim) the packed DMP vector.
            num_samples: how many paths; one, without an axis of its own, if None.

        Returns:
            (n, state_dim) states, the first of them `state`; with num_samples, that many along a
            new first axis.

        Raises:
            ValueError: a shape is not what the model was trained for, or times run backwards.
        """
        times = times_in_order(times)
        start = vector("state", state, len(self.state_names))
        known = vector("condition", condition, self.condition_dim)
        count = 1 if num_samples is None else sample_count(num_samples)
        paths = _rollout(self, key, start, times, known, count)
        return paths[0] if num_samples is None else paths

    def _checked(
        self, state: Numbers, t_init: ArrayLike, t_final: ArrayLike, condition: Numbers
    ) -> tuple[State, Scalar, Scalar, Condition]:
        return (
            vector("state", state, len(self.state_names)),
            *start_and_end(t_init, t_final),
            vector("condition", condition, self.condition_dim),
        )


# What the methods compile. Times are arrays here, so that other numbers compile nothing anew.


@eqx.filter_jit
def _encode(model: PushTModel, *given: Array) -> Encoding:
    return model.transition.encode(*given)


@eqx.filter_jit
def _law(model: PushTModel, encoding: Encoding) -> Distribution:
    return model.transition.law(encoding)


@eqx.filter_jit
def _call(distribution: Distribution, method: str, given: Array) -> Any:
    return getattr(distribution, method)(given)


@eqx.filter_jit
def _sample(
    model: PushTModel,
    key: PRNGKeyArray,
    state: State,
    t_init: Scalar,
    t_final: Scalar,
    condition: Condition,
    num_samples: int,
) -> Float[Array, "samples dim"]:
    law = model.transition(state, t_init, t_final, condition)
    draws = jax.vmap(law.sample)(jax.random.split(key, num_samples))
    return _if_in_order(t_init, t_final, draws)


@eqx.filter_jit
def _log_prob(
    model: PushTModel,
    next_state: State,
    state: State,
    t_init: Scalar,
    t_final: Scalar,
    condition: Condition,
) -> Scalar:
    density = model.transition(state, t_init, t_final, condition).log_prob(next_state)
    return _if_in_order(t_init, t_final, density)


def _if_in_order(t_init: Scalar, t_final: Scalar, result: Array) -> Array:
    """NaN where times run backwards or never end."""
    return jnp.where((t_init <= t_final) & jnp.isfinite(t_final), result, jnp.nan)


@eqx.filter_jit
def _rollout(
    model: PushTModel,
    key: PRNGKeyArray,
    state: State,
    times: Float[Array, " time"],
    condition: Condition,
    num_samples: int,
) -> Float[Array, "samples time dim"]:
    def advance(states: Array, step: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        number, s, t = step
        keys = jax.random.split(jax.random.fold_in(key, number), num_samples)
        states = jax.vmap(lambda key, x: _sample(model, key, x, s, t, condition, 1)[0])(
            keys, states
        )
        return states, states

    start = jnp.repeat(state[None], num_samples, axis=0)
    _, later = jax.lax.scan(advance, start, (jnp.arange(len(times) - 1), times[:-1], times[1:]))
    return jnp.moveaxis(jnp.concatenate([start[None], later]), 0, 1)
