"""Many rows through a compiled function: a chunk at a time, several chunks at once.

A chunk bounds the memory, and one that fits into a core's cache is faster. XLA runs much of a
program on a single core (the loop over the steps of the nominal push, for example), so a thread for
each core takes the next chunk. On a GPU a chunk takes as long as its loops have steps, however many
rows it has, so there it has more of them. Each row has its own random key, so neither the chunks,
nor the number of threads, nor their order changes a number.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jaxtyping import PyTree

from nsf_pipeline.numerics import with_defaults

TIMES_ON_GPU = 16
"""Rows in a chunk that is computed on a GPU, for each row of one on a CPU."""


def in_chunks(
    function: Callable[..., PyTree], rows: tuple[Any, ...], size: int, *, at_once: int | None = None
) -> PyTree:
    """A function's results for all rows.

    Args:
        function: takes what `rows` holds, a chunk of it; gives arrays with as many rows.
        rows: trees of arrays, with n rows each.
        size: rows in a chunk; TIMES_ON_GPU times as many on a GPU, unless `at_once` is given.
        at_once: chunks at once; one for each thread that JAX may use, if None. With 1, all are
            computed in the caller's thread.

    Returns:
        The function's arrays, of NumPy's, with n rows.
    """
    count = len(jax.tree.leaves(rows)[0])
    if at_once is None and jax.default_backend() != "cpu":
        size *= TIMES_ON_GPU

    @with_defaults  # contexts do not reach other threads
    def one(first: int) -> PyTree:
        # The last chunk is padded with the last row, so that all chunks share one compilation.
        places = np.minimum(np.arange(first, first + size), count - 1)
        part = jax.tree.map(lambda values: values[places], rows)
        return jax.tree.map(np.asarray, function(*part))

    # The first compiles the function for all.
    results, rest = [one(0)], range(size, count, size)
    threads = min(at_once or _threads(), len(rest))
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            results += pool.map(one, rest)
    else:
        results += map(one, rest)
    return jax.tree.map(lambda *parts: np.concatenate(parts)[:count], *results)


def _threads() -> int:
    """Threads that JAX may use: those of `--threads`, or a thread for each core."""
    given = os.environ.get("NPROC", "")
    return max(1, int(given)) if given.isdecimal() else len(os.sched_getaffinity(0))
