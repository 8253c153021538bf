"""Losses for one transition; `jax.vmap` makes them a batch's.

Both consistency losses are bounds, by the bridge b, on the disagreement between one step from s to
t and two steps through m (Neural Stochastic Flows, arXiv:2510.25769):

    1->2:  E [log p(x_t|x_s) + log b(x_m|x_s,x_t) - log p(x_m|x_s) - log p(x_t|x_m)],
           x_t ~ p(.|x_s), x_m ~ b(.|x_s,x_t)
    2->1:  E [log p(x_m|x_s) + log p(x_t|x_m) - log p(x_t|x_s) - log b(x_m|x_s,x_t)],
           x_m ~ p(.|x_s), x_t ~ p(.|x_m)

Each is a Kullback-Leibler divergence between laws of (x_m, x_t), so at least 0 on average.
"""

from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from nsf_pipeline.flow.distributions import Distribution

Scalar = Float[Array, ""]
State = Float[Array, " dim"]
Condition = Float[Array, " condition"] | None


@runtime_checkable
class Transition(Protocol):
    """p(x_t | x_s, s, t, c)."""

    def __call__(
        self, x_init: State, t_init: Scalar, t_final: Scalar, condition: Any, /
    ) -> Distribution:
        """The law of the state at t_final."""
        ...


@runtime_checkable
class Seeing(Transition, Protocol):
    """A transition whose networks see something computed from state, times and condition.

    Where that is dear, it is computed once for all losses: `seen` may be given in place of the
    condition, to the transition and to the bridge. Nothing in it may be trained.
    """

    def see(self, x_init: State, t_init: Scalar, t_final: Scalar, condition: Any, /) -> Any:
        """What the networks see from a state at t_init, of a step to t_final."""
        ...


@runtime_checkable
class Bridge(Protocol):
    """b(x_m | x_s, x_t, s, m, t, c)."""

    def __call__(
        self,
        x_init: State,
        x_final: State,
        t_init: Scalar,
        t_mid: Scalar,
        t_final: Scalar,
        condition: Any,
        /,
    ) -> Distribution:
        """The law of the state at t_mid."""
        ...


def see(flow: Transition, x_init: State, t_init: Scalar, t_final: Scalar, condition: Any) -> Any:
    """What is given to a flow, and to its bridge, as their condition."""
    return flow.see(x_init, t_init, t_final, condition) if isinstance(flow, Seeing) else condition


def negative_log_likelihood(
    flow: Transition,
    x_init: State,
    x_final: State,
    t_init: Scalar,
    t_final: Scalar,
    condition: Any = None,
) -> Scalar:
    """-log p(x_t | x_s), in nats; `condition` may be what `see` gives."""
    return -flow(x_init, t_init, t_final, condition).log_prob(x_final)


def consistency_losses(
    flow: Transition,
    bridge: Bridge,
    x_init: State,
    t_init: Scalar,
    t_mid: Scalar,
    t_final: Scalar,
    condition: Condition = None,
    *,
    seen: Any = None,
    key: PRNGKeyArray,
) -> tuple[Scalar, Scalar]:
    """The 1->2 and the 2->1 loss, each on one sample; what can serve both is computed once.

    Args:
        flow: p.
        bridge: b.
        x_init: the state at t_init.
        t_init: s.
        t_mid: m.
        t_final: t.
        condition: c.
        seen: what `see` gives for the step from t_init to t_final, where it is known.
        key: for the samples.
    """
    if seen is None:
        seen = see(flow, x_init, t_init, t_final, condition)

    def draw(x: State, s: Scalar, t: Scalar, seen: Any, key: PRNGKeyArray) -> tuple[State, Scalar]:
        return flow(x, s, t, seen).sample_and_log_prob(key)

    def density(x: State, s: Scalar, t: Scalar, seen: Any, later: State) -> Scalar:
        return flow(x, s, t, seen).log_prob(later)

    def between(x_final: State) -> Distribution:
        return bridge(x_init, x_final, t_init, t_mid, t_final, seen)

    # What does not wait for one another goes through the networks together. Names that end in _ are
    # of the samples of 2->1, the others of those of 1->2.
    key, *keys = jax.random.split(key, 4)
    seen_first = see(flow, x_init, t_init, t_mid, condition)
    (x_final, x_mid_), (log_one_step, log_first) = jax.vmap(draw, (None, None, 0, 0, 0))(
        x_init, t_init, *_stacked((t_final, seen, keys[0]), (t_mid, seen_first, keys[1]))
    )
    x_mid, log_between = between(x_final).sample_and_log_prob(keys[2])
    seen_mid, seen_mid_ = (see(flow, x, t_mid, t_final, condition) for x in (x_mid, x_mid_))
    x_final_, log_second = draw(x_mid_, t_mid, t_final, seen_mid_, key)
    log_one_step_, log_mid, log_final = jax.vmap(density)(
        *_stacked(
            (x_init, t_init, t_final, seen, x_final_),
            (x_init, t_init, t_mid, seen_first, x_mid),
            (x_mid, t_mid, t_final, seen_mid, x_final),
        )
    )
    one_to_two = log_one_step + log_between - log_mid - log_final
    two_to_one = log_first + log_second - log_one_step_ - between(x_final_).log_prob(x_mid_)
    return one_to_two, two_to_one


def _stacked(*rows: Any) -> Any:
    return jax.tree.map(lambda *values: jnp.stack(values), *rows)


def one_to_two_loss(
    flow: Transition,
    bridge: Bridge,
    x_init: State,
    t_init: Scalar,
    t_mid: Scalar,
    t_final: Scalar,
    condition: Condition = None,
    *,
    key: PRNGKeyArray,
) -> Scalar:
    """The 1->2 loss on one sample."""
    return consistency_losses(flow, bridge, x_init, t_init, t_mid, t_final, condition, key=key)[0]


def two_to_one_loss(
    flow: Transition,
    bridge: Bridge,
    x_init: State,
    t_init: Scalar,
    t_mid: Scalar,
    t_final: Scalar,
    condition: Condition = None,
    *,
    key: PRNGKeyArray,
) -> Scalar:
    """The 2->1 loss on one sample."""
    return consistency_losses(flow, bridge, x_init, t_init, t_mid, t_final, condition, key=key)[1]


def combined_loss(
    flow: Transition,
    bridge: Bridge,
    x_init: State,
    x_final: State,
    t_init: Scalar,
    t_mid: Scalar,
    t_final: Scalar,
    condition: Condition = None,
    *,
    one_to_two_weight: float,
    two_to_one_weight: float,
    key: PRNGKeyArray,
) -> Scalar:
    """Negative log-likelihood plus both consistency losses, weighted."""
    seen = see(flow, x_init, t_init, t_final, condition)
    one_to_two, two_to_one = consistency_losses(
        flow, bridge, x_init, t_init, t_mid, t_final, condition, seen=seen, key=key
    )
    return (
        negative_log_likelihood(flow, x_init, x_final, t_init, t_final, seen)
        + one_to_two_weight * one_to_two
        + two_to_one_weight * two_to_one
    )
