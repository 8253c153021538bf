"""Random keys: that of a training, and those of its steps, which follow from it."""

import jax
from jaxtyping import Array, Int, PRNGKeyArray


def training_key(seed: int, training_seed: int) -> PRNGKeyArray:
    """The key of a training, from the settings `seed` and `training.seed`."""
    key = jax.random.key(seed)
    return jax.random.fold_in(key, training_seed) if training_seed else key


def batch_key(key: PRNGKeyArray, step: Int[Array, ""]) -> PRNGKeyArray:
    """The key that a step's batch is drawn with."""
    return _keys(key, step)[0]


def loss_key(key: PRNGKeyArray, step: Int[Array, ""]) -> PRNGKeyArray:
    """The key of a step's consistency losses."""
    return _keys(key, step)[1]


def _keys(key: PRNGKeyArray, step: Int[Array, ""]) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    of_batch, of_losses = jax.random.split(jax.random.fold_in(key, step))
    return of_batch, of_losses
