"""The losses of a batch: means over its examples."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray, PyTree

from nsf_pipeline.data.transitions import TransitionBatch
from nsf_pipeline.flow.losses import (
    Bridge,
    Transition,
    consistency_losses,
    distillation_loss,
    encode,
    negative_log_likelihood,
)

MID_RANGE = (0.1, 0.9)
"""Range of the consistency losses' time in between, m, as a share of the gap after s."""
MID_STEPS = 2
"""Least number of time steps from m to s and to t: over a single one a law may have no density."""


def batch_encoding(flow: Transition, batch: TransitionBatch) -> PyTree:
    """The flow's encoding of each example."""

    def one(batch: TransitionBatch) -> PyTree:
        return encode(flow, batch.x_init, batch.t_init, batch.t_final, batch.condition)

    return jax.vmap(one)(batch)


def batch_likelihood(
    flow: Transition, batch: TransitionBatch, encoding: PyTree
) -> Float[Array, ""]:
    """The mean negative log-likelihood of a batch."""

    def one(batch: TransitionBatch, encoding: PyTree) -> Array:
        return negative_log_likelihood(flow, *batch, encoding=encoding)

    return jnp.mean(jax.vmap(one)(batch, encoding))


def batch_consistency(
    flow: Transition,
    bridge: Bridge,
    batch: TransitionBatch,
    encoding: PyTree,
    time_step: float | None = None,
    *,
    key: PRNGKeyArray,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The 1->2 and 2->1 losses, means over a batch; for their times see `_times_between`."""
    mid_key, key = jax.random.split(key)
    t_mid, has_mid = _times_between(batch, time_step, key=mid_key)

    def one(
        batch: TransitionBatch, t_mid: Array, encoding: PyTree, key: PRNGKeyArray
    ) -> tuple[Array, Array]:
        times = (batch.t_init, t_mid, batch.t_final)
        return consistency_losses(
            flow, bridge, batch.x_init, *times, batch.condition, encoding=encoding, key=key
        )

    losses = jax.vmap(one)(batch, t_mid, encoding, jax.random.split(key, len(t_mid)))
    one_to_two, two_to_one = (jnp.mean(jnp.where(has_mid, loss, 0.0)) for loss in losses)
    return one_to_two, two_to_one


def batch_distillation(
    flow: Transition,
    batch: TransitionBatch,
    encoding: PyTree,
    time_step: float | None = None,
    *,
    key: PRNGKeyArray,
) -> Float[Array, ""]:
    """The distillation loss, a mean over a batch; for its times see `_times_between`."""
    mid_key, key = jax.random.split(key)
    t_mid, has_mid = _times_between(batch, time_step, key=mid_key)

    def one(batch: TransitionBatch, t_mid: Array, encoding: PyTree, key: PRNGKeyArray) -> Array:
        times = (batch.t_init, t_mid, batch.t_final)
        return distillation_loss(
            flow, batch.x_init, *times, batch.condition, encoding=encoding, key=key
        )

    losses = jax.vmap(one)(batch, t_mid, encoding, jax.random.split(key, len(t_mid)))
    return jnp.mean(jnp.where(has_mid, losses, 0.0))


def _times_between(
    batch: TransitionBatch, time_step: float | None, *, key: PRNGKeyArray
) -> tuple[Float[Array, " batch"], Bool[Array, " batch"]]:
    """A time between the ends of each transition, and whether there is one.

    With a time step, the time in between is a whole number of such steps after the start, and at
    least `MID_STEPS` from both ends. Shorter transitions have no such time; their losses are 0.
    """
    count, gap = len(batch.t_init), batch.t_final - batch.t_init
    share = jax.random.uniform(key, (count,), minval=MID_RANGE[0], maxval=MID_RANGE[1])
    has_mid = jnp.ones(count, bool)
    if time_step is not None:
        steps = jnp.round(gap / time_step)
        has_mid = steps >= 2 * MID_STEPS
        mid = jnp.clip(jnp.round(share * steps), MID_STEPS, steps - MID_STEPS)
        share = jnp.where(has_mid, mid / steps, share)
    return batch.t_init + share * gap, has_mid
