"""Rows in chunks: the same numbers whatever the chunks and the threads."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nsf_pipeline.chunks import TIMES_ON_GPU, in_chunks


@pytest.mark.parametrize("count", [1, 4, 11])
@pytest.mark.parametrize("at_once", [1, 3, None])
def test_each_row_has_its_own_result(count, at_once):
    rows = {"x": np.arange(count, dtype=np.float32)}, jax.random.split(jax.random.key(0), count)

    @jax.jit
    @jax.vmap
    def noisy(row, key):
        return row["x"] + jax.random.normal(key, (2,)), 2 * row["x"]

    found, expected = in_chunks(noisy, rows, 4, at_once=at_once), noisy(*rows)
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(got, np.asarray(wanted))


def test_chunks_run_side_by_side_after_the_first_and_with_the_defaults_of_jax():
    together, seen = threading.Barrier(2, timeout=30), []

    def function(values):
        seen.append((values[0].item(), jnp.zeros(1).dtype))
        if values[0]:
            together.wait()  # breaks unless two chunks are under way
        return values

    with jax.enable_x64(True):
        found = in_chunks(function, (np.arange(6),), 2, at_once=2)
    np.testing.assert_array_equal(found, np.arange(6))
    assert seen[0][0] == 0
    assert {dtype for _, dtype in seen} == {np.dtype(np.float32)}


@pytest.mark.parametrize(("at_once", "size"), [(None, 2 * TIMES_ON_GPU), (1, 2)])
def test_chunks_are_larger_on_a_gpu_unless_it_is_said_how_many(monkeypatch, at_once, size):
    """Models of users' classes are promised the same number of rows everywhere."""
    sizes = []

    def function(values):
        sizes.append(len(values))
        return values

    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    rows = np.arange(2 * TIMES_ON_GPU + 1)
    found = in_chunks(function, (rows,), 2, at_once=at_once)
    np.testing.assert_array_equal(found, rows)
    assert sizes == [size] * -(-len(rows) // size)


def test_one_at_once_stays_in_the_callers_thread():
    seen = set()

    def function(values):
        seen.add(threading.current_thread())
        return values

    in_chunks(function, (np.arange(6),), 2, at_once=1)
    assert seen == {threading.current_thread()}


def test_what_goes_wrong_in_a_chunk_is_raised():
    def function(values):
        if values[0]:
            raise ValueError("this one")
        return values

    with pytest.raises(ValueError, match="this one"):
        in_chunks(function, (np.arange(6),), 2)
