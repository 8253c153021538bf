"""Arguments that mean nothing: refused where they are known, answered by NaN where they are not.

Under `jax.jit`, `jax.vmap` and `jax.grad` values are not known when a function is called, so no
error can name a wrong one. All numbers of the result are NaN then, never one that looks plausible.
Where arguments are as they should be, results keep their bits.
"""

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, PyTree

from nsf_pipeline import checks
from nsf_pipeline.errors import UserError

OLD_KEY = (2,)
"""Shape of a key of the old style, as `jax.random.PRNGKey(0)` gives it."""
BATCHES = "; map over batches with jax.vmap"
TreeT = TypeVar("TreeT", bound=PyTree)


def finite(name: str, values: Any, shape: checks.Shape, dtype: DTypeLike | None = None) -> Array:
    """Finite numbers as an array; of traced ones only type and shape are checked.

    Args:
        name: of the argument, for the message.
        values: real numbers.
        shape: of the array; None stands for any size.
        dtype: of the result; JAX's usual one if None.

    Raises:
        UserError: they are no such numbers, or the shape is another.
    """
    dtype = jnp.result_type(float) if dtype is None else jnp.dtype(dtype)
    if checks.is_traced(values):
        array = traced(name, values)
        checks.require_shape(name, array.shape, shape, BATCHES)
        return jnp.asarray(array, dtype)
    found = checks.real(name, values)
    checks.require_shape(name, found.shape, shape, BATCHES)
    found = checks.numbers(name, found, dtype=dtype)
    # An array of JAX stays on its device.
    return jnp.asarray(values if isinstance(values, jax.Array) else found, dtype)


def traced(name: str, values: Any) -> Array:
    """Numbers of which only type and shape are known.

    Raises:
        UserError: they are not real.
    """
    array = jnp.asarray(values)
    if not any(jnp.issubdtype(array.dtype, kind) for kind in (jnp.floating, jnp.integer)):
        raise UserError(f"expected {name} to be numbers, got {array.dtype}")
    return array


def require_times(**times: Any) -> None:
    """Check times that are known: each is one finite number, and none is before another.

    Args:
        times: in order, by the arguments' names.

    Raises:
        UserError: one is no such number, or they run backwards.
    """
    known = {}
    for name, time in times.items():
        if checks.is_traced(time):
            checks.require_shape(name, traced(name, time).shape, (), BATCHES)
        else:
            checks.require_shape(name, checks.real(name, time).shape, (), BATCHES)
            known[name] = checks.number(name, time)
    checks.in_order(list(known), list(known.values()))


def nan_unless(is_meant: Bool[Array, ""], result: TreeT) -> TreeT:
    """The result, or NaN in all its numbers where its arguments mean nothing.

    Args:
        is_meant: whether they mean something.
        result: an array of real numbers, or a tree of such arrays.
    """
    return jax.tree.map(lambda values: jnp.where(is_meant, values, jnp.nan), result)


def all_finite(*arrays: Array) -> Bool[Array, ""]:
    """Whether all numbers of some arrays are finite."""
    found = [jnp.isfinite(array).all() for array in arrays]
    return jnp.stack(found).all()


def require_key(key: Any, name: str = "key") -> None:
    """Check that a key is one key, of the present or of the old style.

    Raises:
        UserError: it is none, or a batch of them.
    """
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", ())
    if dtype is not None and jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key):
        is_one, is_batch = shape == (), True
    else:
        is_raw = dtype == jnp.uint32
        is_one, is_batch = is_raw and shape == OLD_KEY, is_raw and shape[-1:] == OLD_KEY
    if not is_one:
        got = (
            f"keys of shape {shape}; map over them with jax.vmap" if is_batch else checks.shown(key)
        )
        raise UserError(f"expected {name} to be one key, as jax.random.key(0) gives, got {got}")
