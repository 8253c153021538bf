"""Batches, drawn and encoded ahead of the steps that use them.

An encoding has no parameters, so it need not wait for the step before. Drawn and encoded in a
thread of its own, a chunk of batches keeps a second core busy while the steps keep the first; the
numbers do not depend on how many cores there are.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, Protocol, final, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Int, Key, PRNGKeyArray, PyTree

from nsf_pipeline.config import TrainingConfig
from nsf_pipeline.data.transitions import TransitionBatch
from nsf_pipeline.flow.losses import Transition
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.training.devices import Devices
from nsf_pipeline.training.keys import batch_key
from nsf_pipeline.training.losses import batch_encoding

CHUNK_STEPS, CHUNK_ROWS = 128, 1 << 14
"""The most batches, and the most transitions, that are drawn at once: an encoding has some 3 KB."""


class Drawn(NamedTuple):
    """Batches along a first axis, and the flow's encodings of them."""

    batches: TransitionBatch
    encodings: PyTree


@runtime_checkable
class TransitionSource(Protocol):
    """A source of batches.

    A source that cannot be compiled, for example because it reads a file, also has a method
    `batches(keys, batch_size)`: for each key the batch of `sample`, along a new first axis.
    """

    def sample(self, key: PRNGKeyArray, batch_size: int) -> TransitionBatch:
        """Draw a batch; jit-able."""
        ...


@final
class Feed:
    """Batches in the order of steps, in chunks; while training uses one, the next is drawn."""

    def __init__(
        self,
        source: TransitionSource,
        flow: Transition,
        key: PRNGKeyArray,
        config: TrainingConfig,
        devices: Devices,
    ):
        self._steps, self._batch_size = config.steps, config.batch_size
        self._key, self._devices, self._flow = key, devices, flow
        self._draw = getattr(source, "batches", None) or partial(_sampled, source)
        self._size = max(1, min(CHUNK_STEPS, CHUNK_ROWS // self._batch_size))
        self._pool = ThreadPoolExecutor(1)
        self._next: tuple[int, Future[Drawn]] | None = None
        self._current: tuple[int, Drawn] | None = None

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, step: int) -> tuple[Drawn, int, int]:
        """The chunk of batches that a step is in, the chunk's first step and one past its last."""
        chunk = step // self._size
        if not self._current or self._current[0] != chunk:
            if not self._next or self._next[0] != chunk:
                self._next = chunk, self._pool.submit(self._chunk, chunk)
            self._current = chunk, self._next[1].result()
            if (chunk + 1) * self._size < self._steps:
                self._next = chunk + 1, self._pool.submit(self._chunk, chunk + 1)
        return self._current[1], chunk * self._size, (chunk + 1) * self._size

    @with_defaults  # in a thread of its own, which contexts around `fit` do not reach
    def _chunk(self, chunk: int) -> Drawn:
        steps = jnp.arange(chunk * self._size, (chunk + 1) * self._size)
        keys = _batch_keys(self._key, steps)
        batches = self._devices.batches(self._draw(keys, self._batch_size))
        return Drawn(batches, _encoded(self._flow, batches))


@eqx.filter_jit
def _sampled(
    source: TransitionSource, keys: Key[Array, " steps"], batch_size: int
) -> TransitionBatch:
    return jax.vmap(lambda key: source.sample(key, batch_size))(keys)


@eqx.filter_jit
def _encoded(flow: Transition, batches: TransitionBatch) -> PyTree:
    # One batch after another: what a batch needs fits into a core's cache.
    return jax.lax.map(lambda batch: batch_encoding(flow, batch), batches)


@jax.jit
def _batch_keys(key: PRNGKeyArray, steps: Int[Array, " steps"]) -> Key[Array, " steps"]:
    return jax.vmap(lambda step: batch_key(key, step))(steps)
