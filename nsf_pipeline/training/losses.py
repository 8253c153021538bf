"""The losses of a batch: means over its examples."""

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from nsf_pipeline.data.transitions import TransitionBatch
from nsf_pipeline.flow.losses import (
    Bridge,
    Transition,
    consistency_losses,
    negative_log_likelihood,
    see,
)

MID_RANGE = (0.1, 0.9)
"""Where between s and t the consistency losses look, as shares of the gap."""
MID_STEPS = 2
"""And at least how many time steps from either: one may leave a law without a density."""


def batch_view(flow: Transition, batch: TransitionBatch) -> PyTree:
    """What the flow sees of each example."""

    def one(batch: TransitionBatch) -> PyTree:
        return see(flow, batch.x_init, batch.t_init, batch.t_final, batch.condition)

    return jax.vmap(one)(batch)


def batch_likelihood(flow: Transition, batch: TransitionBatch, seen: PyTree) -> Float[Array, ""]:
    """The negative log-likelihood, a mean over a batch."""
    losses = jax.vmap(partial(negative_log_likelihood, flow))(*batch[:-1], seen)
    return jnp.mean(losses)


def batch_consistency(
    flow: Transition,
    bridge: Bridge,
    batch: TransitionBatch,
    seen: PyTree,
    time_step: float | None = None,
    *,
    key: PRNGKeyArray,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The 1->2 and 2->1 losses, means over a batch.

    With a time step, the time between is a whole number of such steps after the start, and two or
    more from either end; shorter examples have no such time, and no loss.
    """
    count, gap = len(batch.t_init), batch.t_final - batch.t_init
    mid_key, key = jax.random.split(key)
    share = jax.random.uniform(mid_key, (count,), minval=MID_RANGE[0], maxval=MID_RANGE[1])
    has_mid = jnp.ones(count, bool)
    if time_step is not None:
        steps = jnp.round(gap / time_step)
        has_mid = steps >= 2 * MID_STEPS
        mid = jnp.clip(jnp.round(share * steps), MID_STEPS, steps - MID_STEPS)
        share = jnp.where(has_mid, mid / steps, share)
    t_mid = batch.t_init + share * gap

    def one(
        batch: TransitionBatch, t_mid: Array, seen: PyTree, key: PRNGKeyArray
    ) -> tuple[Array, Array]:
        times = (batch.t_init, t_mid, batch.t_final)
        return consistency_losses(
            flow, bridge, batch.x_init, *times, batch.condition, seen=seen, key=key
        )

    losses = jax.vmap(one)(batch, t_mid, seen, jax.random.split(key, count))
    one_to_two, two_to_one = (jnp.mean(jnp.where(has_mid, loss, 0.0)) for loss in losses)
    return one_to_two, two_to_one
