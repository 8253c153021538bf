"""The arguments of a model's methods: checked, and made arrays of single precision.

The values of JAX arrays are not looked at: they may be traced, or still to be computed.
"""

import itertools
import math
import operator
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array

Numbers = ArrayLike | Sequence[Any]
"""An array, or plain numbers that make one."""


def vector(name: str, values: Numbers, size: int) -> Array:
    """So many numbers.

    Raises:
        ValueError: the shape is another.
    """
    array = jnp.asarray(values, jnp.float32)
    if array.shape != (size,):
        raise ValueError(
            f"expected {name} of shape ({size},), got {array.shape}; map over batches with jax.vmap"
        )
    return array


def start_and_end(t_init: ArrayLike, t_final: ArrayLike) -> tuple[Array, Array]:
    """Two times in s, the second not before the first.

    Raises:
        ValueError: one is no single number, or they are not finite and in order.
    """
    for name, time in (("t_init", t_init), ("t_final", t_final)):
        if np.shape(time) != ():
            raise ValueError(
                f"expected {name} to be one number, got shape {np.shape(time)}; "
                "map over batches with jax.vmap"
            )
    _require_order(t_init, t_final)
    return jnp.asarray(t_init, jnp.float32), jnp.asarray(t_final, jnp.float32)


def times_in_order(values: Numbers) -> Array:
    """(n) times in s, at least one, never decreasing.

    Raises:
        ValueError: the shape is another, or they are not finite and in order.
    """
    unknown = any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(values))
    times = jnp.asarray(values, jnp.float32) if unknown else np.asarray(values, np.float64)
    if times.ndim != 1 or not len(times):
        raise ValueError(f"expected times of shape (n,), n at least 1, got {times.shape}")
    if not unknown:
        for pair in itertools.pairwise(times.tolist()):
            _require_order(*pair)
    return jnp.asarray(times, jnp.float32)


def sample_count(num_samples: Any) -> int:
    """How many samples.

    Raises:
        ValueError: no whole number from 0 on.
    """
    try:
        count = operator.index(num_samples)
    except TypeError:
        count = -1
    if count < 0:
        raise ValueError(f"expected num_samples to be a whole number from 0 on, got {num_samples}")
    return count


def _require_order(t_init: Any, t_final: Any) -> None:
    is_known = not isinstance(t_init, jax.Array) and not isinstance(t_final, jax.Array)
    if is_known and not -math.inf < t_init <= t_final < math.inf:
        raise ValueError(f"expected finite times in order, got {t_init} s and then {t_final} s")
