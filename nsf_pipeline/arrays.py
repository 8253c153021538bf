"""Arrays one after another in NumPy's format, read back only as they are expected.

The reader knows every array's type and shape beforehand. It compares what a file says with that and
believes nothing else: no size from a file decides how much memory is taken, and nothing is parsed.
"""

import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from nsf_pipeline.label import Binary

HEADER_BYTES = 1 << 10
"""An array's own header is shorter."""


Described = tuple[str, tuple[int, ...]]
"""The type, as NumPy names it, and the shape of an array."""


class ArraysError(ValueError):
    """Arrays in a file are not those expected; the message says so in a few words."""


def require_size(like: PyTree, size: int) -> None:
    """Check that so many bytes can be the arrays of a tree, before any of them is read.

    Raises:
        ArraysError: they are too few or too many.
    """
    leaves = [leaf for leaf in jax.tree.leaves(like) if _is_array(leaf)]
    _require_size([leaf.size * leaf.dtype.itemsize for leaf in leaves], size)


def require_numpy_size(like: Mapping[str, Described], size: int) -> None:
    """The same for arrays of NumPy's, of which types and shapes are known."""
    sizes = [np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in like.values()]
    _require_size(sizes, size)


def _require_size(sizes: Sequence[int], size: int) -> None:
    least = sum(sizes)
    most = least + HEADER_BYTES * len(sizes)
    if not least <= size <= most:
        raise ArraysError(f"expected arrays of {least} to {most} bytes, got {size}")


def read(file: Binary, like: PyTree) -> PyTree:
    """The tree that `equinox.tree_serialise_leaves` wrote, up to the end of a file.

    Args:
        file: at the first array.
        like: the tree, whose arrays may be shapes and types only; all else is taken from it.

    Raises:
        ArraysError: an array has another type or shape or is cut off, or bytes are left over.
    """
    leaves, structure = jax.tree.flatten(like)
    found = [
        jnp.array(_array(file, leaf.dtype, leaf.shape)) if _is_array(leaf) else leaf
        for leaf in leaves
    ]
    _require_end(file)
    return jax.tree.unflatten(structure, found)


def read_numpy(file: Binary, like: Mapping[str, Described]) -> dict[str, np.ndarray]:
    """Arrays of NumPy's, up to the end of a file.

    Args:
        file: at the first array.
        like: the types and shapes, by name, in the order of the file.

    Raises:
        ArraysError: as for `read`.
    """
    found = {name: _array(file, dtype, shape).copy() for name, (dtype, shape) in like.items()}
    _require_end(file)
    return found


def _require_end(file: Binary) -> None:
    if file.read(1):
        raise ArraysError("bytes are left over after the last array")


def are_finite(tree: PyTree) -> bool:
    """Whether all numbers in the arrays of a tree are finite."""
    leaves = (leaf for leaf in jax.tree.leaves(tree) if _is_array(leaf))
    return all(np.isfinite(leaf).all() for leaf in leaves)


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape") and hasattr(leaf, "dtype")


def _array(file: Binary, dtype: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The next array, which must not be written to."""
    dtype, shape = np.dtype(dtype), tuple(shape)
    size = math.prod(shape) * dtype.itemsize
    expected = _header(dtype, shape)
    start = file.read(len(np.lib.format.magic(1, 0)) + 2)
    text = file.read(min(int.from_bytes(start[-2:], "little"), HEADER_BYTES))
    if (start[:-2], text.split()) != (np.lib.format.magic(1, 0), expected.split()):
        raise ArraysError(f"expected an array {dtype}{list(shape)}, got another or none")
    content = file.read(size)
    if len(content) != size:
        raise ArraysError(f"an array {dtype}{list(shape)} is cut off")
    return np.frombuffer(content, dtype).reshape(shape)


def _header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """What NumPy writes about an array, without the lengths before it; padding may differ."""
    written = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False}
    np.lib.format.write_array_header_1_0(written, {**described, "shape": shape})
    return written.getvalue()[len(np.lib.format.magic(1, 0)) + 2 :]
