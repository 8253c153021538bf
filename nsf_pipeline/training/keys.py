"""Random keys of each optimisation step: they follow from the key of the training and the step."""

import jax
from jaxtyping import Array, Int, PRNGKeyArray


def batch_key(key: PRNGKeyArray, step: Int[Array, ""]) -> PRNGKeyArray:
    """The key that a step's batch is drawn with."""
    return _keys(key, step)[0]


def loss_key(key: PRNGKeyArray, step: Int[Array, ""]) -> PRNGKeyArray:
    """The key of a step's consistency losses."""
    return _keys(key, step)[1]


def _keys(key: PRNGKeyArray, step: Int[Array, ""]) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    of_batch, of_losses = jax.random.split(jax.random.fold_in(key, step))
    return of_batch, of_losses
