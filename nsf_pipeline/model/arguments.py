"""The arguments of a model's methods: checked, and made arrays of single precision.

Values that are known are looked at: plain numbers, and arrays of NumPy and JAX. What JAX traces
(under `jax.jit`, `jax.vmap` and `jax.grad`) is known by its shape alone; `is_meant` then tells,
within the compiled function, where results must be NaN.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float

from nsf_pipeline import checks
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.errors import UserError
from nsf_pipeline.flow.guard import BATCHES, all_finite, finite, traced

Numbers = ArrayLike | Sequence[Any]
"""An array, or plain numbers that make one."""
EARLIEST, LATEST = -1e-5, 1e4
"""s since the policy started; the first lets a rounded 0 pass. Single precision tells later times
apart too coarsely for control steps."""
MOST_STATES = 10_000_000
"""States that one call may draw; more do not fit into memory."""


def vector(name: str, values: Any, size: int) -> Array:
    """So many finite numbers.

    Raises:
        UserError: they are no such numbers, or the shape is another.
    """
    return finite(name, values, (size,), jnp.float32)


def condition_vector(values: Any, size: int) -> Array:
    """A packed DMP vector.

    Raises:
        UserError: it is no vector of that size, or its duration or stiffness is not positive, or
            its damping negative.
    """
    condition = vector("condition", values, size)
    if not checks.is_traced(condition):
        params = DMPParams.from_vector(np.asarray(condition))
        if not params.in_range():
            params.require_meaning()
    return condition


def start_and_end(t_init: ArrayLike, t_final: ArrayLike) -> tuple[Array, Array]:
    """Two times in s, the second not before the first.

    Raises:
        UserError: one is no single number, or they are not finite, in order and in range.
    """
    known = []
    for name, time in (("t_init", t_init), ("t_final", t_final)):
        if checks.is_traced(time):
            _require_one_number(name, traced(name, time))
        else:
            array = checks.numbers(name, time, finite=False)
            _require_one_number(name, array)
            known.append(array.item())
    _require_order(known)
    return jnp.asarray(t_init, jnp.float32), jnp.asarray(t_final, jnp.float32)


def times_in_order(values: Numbers) -> Array:
    """(n) times in s, at least one, never decreasing.

    Raises:
        UserError: the shape is another, or they are not finite, in order and in range.
    """
    is_known = not checks.is_traced(values)
    times = checks.numbers("times", values, finite=False) if is_known else traced("times", values)
    if times.ndim != 1 or not len(times):
        raise UserError(f"expected times of shape (n,), n at least 1, got {times.shape}")
    if is_known:
        _require_order(times.tolist())
    return jnp.asarray(values if isinstance(values, jax.Array) else times, jnp.float32)


def sample_count(num_samples: Any, states: int = 1) -> int:
    """How many samples, of so many states each.

    Raises:
        UserError: no whole number from 0 on, or too many.
    """
    return checks.whole("num_samples", num_samples, most=MOST_STATES // states)


def is_meant(
    state: Float[Array, " dim"],
    t_init: Float[Array, ""],
    t_final: Float[Array, ""],
    condition: Float[Array, " condition"],
) -> Bool[Array, ""]:
    """Whether traced arguments mean something: what `vector` and the others check of known ones."""
    in_order = (t_init >= EARLIEST) & (t_init <= t_final) & (t_final <= LATEST)
    return all_finite(state, condition) & in_order & DMPParams.from_vector(condition).in_range()


def _require_one_number(name: str, time: Array | np.ndarray) -> None:
    checks.require_shape(name, time.shape, (), BATCHES)


def _require_order(times: Sequence[float]) -> None:
    for before, after in itertools.pairwise(times):
        if not -math.inf < before <= after < math.inf:
            raise UserError(f"expected finite times in order, got {before} s and then {after} s")
    for time in times:
        if not EARLIEST <= time <= LATEST:
            raise UserError(
                f"expected times from 0 to {LATEST:g} s since the policy started, got {time} s"
            )
