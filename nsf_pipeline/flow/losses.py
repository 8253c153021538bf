"""Losses for one transition; `jax.vmap` makes them a batch's.

Both consistency losses are bounds, by the bridge b, on the disagreement between one step from s to
t and two steps through m (Neural Stochastic Flows, arXiv:2510.25769):

    1->2:  E [log p(x_t|x_s) + log b(x_m|x_s,x_t) - log p(x_m|x_s) - log p(x_t|x_m)],
           x_t ~ p(.|x_s), x_m ~ b(.|x_s,x_t)
    2->1:  E [log p(x_m|x_s) + log p(x_t|x_m) - log p(x_t|x_s) - log b(x_m|x_s,x_t)],
           x_m ~ p(.|x_s), x_t ~ p(.|x_m)

Each is a Kullback-Leibler divergence between laws of (x_m, x_t), so at least 0 on average.
"""

from typing import Protocol

import jax
from jaxtyping import Array, Float, PRNGKeyArray

from nsf_pipeline.flow.distributions import Distribution

Scalar = Float[Array, ""]
State = Float[Array, " dim"]
Condition = Float[Array, " condition"] | None


class Transition(Protocol):
    """p(x_t | x_s, s, t, c)."""

    def __call__(
        self, x_init: State, t_init: Scalar, t_final: Scalar, condition: Condition
    ) -> Distribution:
        """The law of the state at t_final."""
        ...


class Bridge(Protocol):
    """b(x_m | x_s, x_t, s, m, t, c)."""

    def __call__(
        self,
        x_init: State,
        x_final: State,
        t_init: Scalar,
        t_mid: Scalar,
        t_final: Scalar,
        condition: Condition,
    ) -> Distribution:
        """The law of the state at t_mid."""
        ...


def negative_log_likelihood(
    flow: Transition,
    x_init: State,
    x_final: State,
    t_init: Scalar,
    t_final: Scalar,
    condition: Condition = None,
) -> Scalar:
    """-log p(x_t | x_s), in nats."""
    return -flow(x_init, t_init, t_final, condition).log_prob(x_final)


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
    step_key, bridge_key = jax.random.split(key)
    one_step = flow(x_init, t_init, t_final, condition)
    x_final, log_one_step = one_step.sample_and_log_prob(step_key)
    between = bridge(x_init, x_final, t_init, t_mid, t_final, condition)
    x_mid, log_bridge = between.sample_and_log_prob(bridge_key)
    log_first = flow(x_init, t_init, t_mid, condition).log_prob(x_mid)
    log_second = flow(x_mid, t_mid, t_final, condition).log_prob(x_final)
    return log_one_step + log_bridge - log_first - log_second


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
    first_key, second_key = jax.random.split(key)
    x_mid, log_first = flow(x_init, t_init, t_mid, condition).sample_and_log_prob(first_key)
    x_final, log_second = flow(x_mid, t_mid, t_final, condition).sample_and_log_prob(second_key)
    log_one_step = flow(x_init, t_init, t_final, condition).log_prob(x_final)
    between = bridge(x_init, x_final, t_init, t_mid, t_final, condition)
    return log_first + log_second - log_one_step - between.log_prob(x_mid)


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
    keys = jax.random.split(key)
    times = (t_init, t_mid, t_final)
    return (
        negative_log_likelihood(flow, x_init, x_final, t_init, t_final, condition)
        + one_to_two_weight
        * one_to_two_loss(flow, bridge, x_init, *times, condition, key=keys[0])
        + two_to_one_weight
        * two_to_one_loss(flow, bridge, x_init, *times, condition, key=keys[1])
    )
