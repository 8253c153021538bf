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
    keys = jax.random.split(key, 4)
    if seen is None:
        seen = see(flow, x_init, t_init, t_final, condition)
    one_step = flow(x_init, t_init, t_final, seen)
    first_step = flow(x_init, t_init, t_mid, see(flow, x_init, t_init, t_mid, condition))

    def between(x_final: State) -> Distribution:
        return bridge(x_init, x_final, t_init, t_mid, t_final, seen)

    x_final, log_one_step = one_step.sample_and_log_prob(keys[0])
    x_mid, log_between = between(x_final).sample_and_log_prob(keys[1])
    other_mid, log_first = first_step.sample_and_log_prob(keys[2])

    # Both second steps at once: a loop within costs two no more than one.
    both = jax.vmap(lambda x: see(flow, x, t_mid, t_final, condition))(
        jnp.stack([x_mid, other_mid])
    )
    seen_mid, seen_other = (jax.tree.map(lambda values: values[i], both) for i in range(2))  # noqa: B023

    log_second = flow(x_mid, t_mid, t_final, seen_mid).log_prob(x_final)
    one_to_two = log_one_step + log_between - first_step.log_prob(x_mid) - log_second

    second_step = flow(other_mid, t_mid, t_final, seen_other)
    other_final, log_second = second_step.sample_and_log_prob(keys[3])
    log_bridged = one_step.log_prob(other_final) + between(other_final).log_prob(other_mid)
    two_to_one = log_first + log_second - log_bridged
    return one_to_two, two_to_one


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
