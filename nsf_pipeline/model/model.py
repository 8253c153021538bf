"""The PushT model: what `load_model` returns."""

from typing import Any, SupportsIndex, final

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from nsf_pipeline import checks
from nsf_pipeline.config import DMPConfig
from nsf_pipeline.errors import UserError
from nsf_pipeline.flow.distributions import Distribution, jittable
from nsf_pipeline.flow.guard import all_finite, finite, nan_unless, require_key
from nsf_pipeline.model.arguments import (
    Numbers,
    condition_vector,
    is_meant,
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
        is_meant: whether the encoding means something; if not, all results are NaN.
    """

    distribution: Distribution
    state_dim: int = eqx.field(static=True)
    is_meant: Bool[Array, ""]

    @jittable
    @with_defaults
    def sample(self, key: PRNGKeyArray) -> State:
        """One state (state_dim).

        Raises:
            ValueError: the key is no single key.
        """
        require_key(key)
        return _call(self.distribution, self.is_meant, "sample", key)

    @jittable
    @with_defaults
    def log_prob(self, x: Numbers) -> Scalar:
        """Log-density of a state (state_dim) in nats, per px, px/s and rad.

        Where the block rests, it is of the agent alone: see `PushTModel.log_prob`.

        Raises:
            ValueError: the shape is another, or a number is not finite. Under `jax.jit` and
                `jax.vmap`, where numbers are not known, the result is NaN instead.
        """
        state = vector("x", x, self.state_dim)
        return _call(self.distribution, self.is_meant, "log_prob", state)

    @jittable
    @with_defaults
    def sample_and_log_prob(self, key: PRNGKeyArray) -> tuple[State, Scalar]:
        """One state and its log-density.

        Raises:
            ValueError: the key is no single key.
        """
        require_key(key)
        return _call(self.distribution, self.is_meant, "sample_and_log_prob", key)


@final
class PushTModel(eqx.Module):
    """The law of PushT's state at any later time, and the bridge that it was trained with.

    The methods take one example at a time, as plain numbers, NumPy or JAX arrays; `jax.vmap`,
    `jax.jit` and `jax.grad` work on them. Called plainly, each compiles itself once per shape.
    States are in px, px/s and rad, in the order of `state_names`; the block's angle is continuous.
    Times are in s since the policy started. A condition is the packed DMP vector, (condition_dim).

    Arguments that mean nothing are refused by a ValueError: what is no finite number, times that
    run backwards or lie before 0 or after 10,000 s, a duration or stiffness that is not positive, a
    negative damping or noise, a key that is none. What is traced under `jax.jit`, `jax.vmap` or
    `jax.grad` cannot be refused: all numbers of the result are then NaN, and gradients are NaN or
    0.

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
    def dmp(self) -> DMPConfig:
        """What all DMPs have in common."""
        return self.encoder.dmp

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
            ValueError: a shape is not what the model was trained for, or an argument means nothing.
        """
        return _encode(self, *self._checked(state, t_init, t_final, condition))

    @jittable
    @with_defaults
    def law(self, encoding: Encoding) -> Law:
        """The law of the state at t_final, with `sample`, `log_prob` and `sample_and_log_prob`.

        Args:
            encoding: what `encode` returned.

        Raises:
            ValueError: it is no such encoding, or its numbers mean nothing.
        """
        if not isinstance(encoding, Encoding):
            raise UserError(
                f"expected encoding to be what encode returned, got {checks.shown(encoding)}"
            )
        given = self._checked(*encoding[:4])
        moved = finite("displacements", encoding.displacements, (None, len(self.state_names)))
        features = finite("features", encoding.features, (None,))
        side = finite("side", encoding.side, ())
        distribution, known = _law(self, Encoding(*given, moved, features, side))
        return Law(distribution, len(self.state_names), known)

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
            ValueError: a shape is not what the model was trained for, or an argument means nothing.
        """
        require_key(key)
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

        If the block's pose is that of `state`, bit for bit, the block rests: the result is then
        the log-density of the agent alone, plus the logarithm of the probability of rest. (Unless
        the model was built with `rest: false`, or is a neural SDE.)

        At t_final = t_init the law is a point mass and the result is not finite. A neural SDE's
        density is known over one control step (0.1 s) at most; beyond, the result is NaN.

        Args:
            next_state: (state_dim) at t_final; its angle continues that of `state`.
            state: (state_dim) at t_init.
            t_init: time of `state`, in seconds.
            t_final: time of the state to come, in seconds, not before t_init.
            condition: (condition_dim) the packed DMP vector.

        Raises:
            ValueError: a shape is not what the model was trained for, or an argument means nothing.
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
            ValueError: a shape is not what the model was trained for, or an argument means nothing.
        """
        require_key(key)
        times = times_in_order(times)
        start = vector("state", state, len(self.state_names))
        known = condition_vector(condition, self.condition_dim)
        count = sample_count(1 if num_samples is None else num_samples, len(times))
        paths = _rollout(self, key, start, times, known, count)
        return paths[0] if num_samples is None else paths

    def _checked(
        self, state: Numbers, t_init: ArrayLike, t_final: ArrayLike, condition: Numbers
    ) -> tuple[State, Scalar, Scalar, Condition]:
        return (
            vector("state", state, len(self.state_names)),
            *start_and_end(t_init, t_final),
            condition_vector(condition, self.condition_dim),
        )


# What the methods compile. Times are arrays here, so that other numbers compile nothing anew.


@eqx.filter_jit
def _encode(model: PushTModel, *given: Array) -> Encoding:
    return nan_unless(is_meant(*given), model.transition.encode(*given))


@eqx.filter_jit
def _law(model: PushTModel, encoding: Encoding) -> tuple[Distribution, Bool[Array, ""]]:
    size = model.encoder.feature_dim
    checks.require_shape("features", encoding.features.shape, (size,))
    known = is_meant(*encoding[:4]) & all_finite(*encoding[4:]) & (jnp.abs(encoding.side) == 1.0)
    return model.transition.law(encoding), known


@eqx.filter_jit
def _call(distribution: Distribution, known: Bool[Array, ""], method: str, given: Array) -> Any:
    if method == "log_prob":
        known &= all_finite(given)
    return nan_unless(known, getattr(distribution, method)(given))


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
    given = state, t_init, t_final, condition
    draws = jax.vmap(model.transition(*given).sample)(jax.random.split(key, num_samples))
    return nan_unless(is_meant(*given), draws)


@eqx.filter_jit
def _log_prob(
    model: PushTModel,
    next_state: State,
    state: State,
    t_init: Scalar,
    t_final: Scalar,
    condition: Condition,
) -> Scalar:
    given = state, t_init, t_final, condition
    density = model.transition(*given).log_prob(next_state)
    return nan_unless(is_meant(*given) & all_finite(next_state), density)


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
    paths = jnp.moveaxis(jnp.concatenate([start[None], later]), 0, 1)
    in_order = (times[:-1] <= times[1:]).all()
    return nan_unless(in_order & is_meant(state, times[0], times[-1], condition), paths)
