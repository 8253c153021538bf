"""Transitions read from the data set's file, for data that do not fit on the device."""

import os
import weakref
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int, Key, PRNGKeyArray

from nsf_pipeline.data import store
from nsf_pipeline.data.states import join_state, state_parts
from nsf_pipeline.data.transitions import (
    Picker,
    Picks,
    TransitionBatch,
    finish_batches,
    pick_batches,
)
from nsf_pipeline.files import again
from nsf_pipeline.pusht.state import layout_of
from nsf_pipeline.timing import CONTROL_DT

SLICE = 1 << 13
"""Transitions read at once, few enough for memory."""


class StreamedArray:
    """An array in a file, of which single rows are read with `os.pread`.

    The file's pages stay in the operating system's cache and do not count as memory of this
    process. (With a memory map, each row that is read would count as the 64 KiB around it.)
    """

    def __init__(self, path: Path, dataset: Any):
        """Find an array in its file.

        Args:
            path: the file, for messages; it may be replaced, but must not be written to.
            dataset: (n, times, ...) or (n, ...), of the file, open with `store.reading`.

        Raises:
            StoreError: the array is compressed or in chunks.
        """
        self.path, self.name, self.dtype = path, dataset.name.lstrip("/"), dataset.dtype
        self.shape, self.first = dataset.shape, dataset.id.get_offset()
        if self.first is None:
            raise store.StoreError(
                f"{path}: its arrays lie in chunks and cannot be streamed: raise "
                f"runtime.data_memory; {again(path)}"
            )
        self._descriptor = os.dup(dataset.file.id.get_vfd_handle())
        weakref.finalize(self, os.close, self._descriptor)

    def rows(self, row: Int[np.ndarray, " m"]) -> np.ndarray:
        """(m, ...) some rows of the array.

        Raises:
            StoreError: the file cannot be read, or is too short.
        """
        width = self.dtype.itemsize * int(np.prod(self.shape[1:]))
        return self._array(self._read(row * width, np.full(len(row), width)), self.shape[1:])

    def ends(
        self, row: np.ndarray, step: np.ndarray, later: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Some rows at the indices `step` and `later` of their time axis, each (m, ...).

        Raises:
            StoreError: as for `rows`.
        """
        width = self.dtype.itemsize * int(np.prod(self.shape[2:]))
        pieces = self._read((row * self.shape[1] + step) * width, (later - step + 1) * width)
        shape = self.shape[2:]
        return (
            self._array([piece[:width] for piece in pieces], shape),
            self._array([piece[-width:] for piece in pieces], shape),
        )

    def _read(self, offset: np.ndarray, size: np.ndarray) -> list[bytes]:
        try:
            pieces = [
                os.pread(self._descriptor, count, at)
                for count, at in zip(size.tolist(), (self.first + offset).tolist(), strict=True)
            ]
        except OSError as error:
            raise store.StoreError(f"{self.path}: cannot be read: {error.strerror}") from None
        if sum(map(len, pieces)) != size.sum():
            raise store.StoreError(
                f"{self.path}: ends within `{self.name}`: it was cut short while it was read; "
                f"{again(self.path)}"
            )
        return pieces

    def _array(self, pieces: list[bytes], shape: tuple[int, ...]) -> np.ndarray:
        return np.frombuffer(b"".join(pieces), self.dtype).reshape(-1, *shape)


class StreamedTransitions:
    """Draws the same transitions as `Transitions`, bit for bit, but reads them from the file."""

    def __init__(
        self,
        path: Path,
        file: Any,
        rows: np.ndarray,
        state_dim: int,
        max_gap: float,
        dt: float = CONTROL_DT,
        block_blur: float = 0.0,
    ):
        """Prepare to read some trajectories of a data set.

        Args:
            path: the data set; it may be replaced meanwhile, but must not be written to.
            file: the same file, open, from `store.reading`.
            rows: indices of the trajectories' rows, ascending.
            state_dim: 7 or 5.
            max_gap: s, the longest gap.
            dt: s per control step.
            block_blur: px per root second; see `blur_of`.

        Raises:
            StoreError: the file's arrays are compressed or in chunks.
        """
        self.rows, self.layout = rows, layout_of(state_dim)
        self.picker = Picker.build(file["length"][...][rows], state_dim, max_gap, dt, block_blur)
        names = (*state_parts(self.layout), "condition")
        self._arrays = {name: StreamedArray(path, file[name]) for name in names}
        self._bounds = {name: store.bounds_of(file, name) for name in names}

    def __len__(self) -> int:
        return len(self.picker)

    def sample(self, key: PRNGKeyArray, batch_size: int) -> TransitionBatch:
        """Draw transitions, with replacement."""
        picks = self.picker.pick(key, batch_size)
        return self.picker.batch(picks, *jax.device_put(self._read(picks)))

    def batches(self, keys: Key[Array, " n"], batch_size: int) -> TransitionBatch:
        """A batch for each key, along a new first axis."""
        picks = pick_batches(self.picker, keys, batch_size)
        return finish_batches(self.picker, picks, *self._read(picks))

    def _read(self, picks: Picks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """States at both ends and conditions of the picked transitions, in physical units."""
        row, step, later = (np.asarray(values) for values in picks[:3])
        shape = row.shape
        row, step, later = self.rows[row.ravel()], step.ravel(), later.ravel()
        states = np.empty((2, len(row), self.layout.dim), np.float32)
        condition = np.empty((len(row), self._arrays["condition"].shape[1]), np.float32)
        for first in range(0, len(row), SLICE):
            part = slice(first, first + SLICE)
            pairs = {
                name: self._arrays[name].ends(row[part], step[part], later[part])
                for name in state_parts(self.layout)
            }
            for end in range(2):
                values = {name: self._unscaled(name, pair[end]) for name, pair in pairs.items()}
                states[end, part] = join_state(values, self.layout)
            condition[part] = self._unscaled("condition", self._arrays["condition"].rows(row[part]))
        x_init, x_final = states.reshape(2, *shape, self.layout.dim)
        return x_init, x_final, condition.reshape(*shape, -1)

    def _unscaled(self, name: str, values: np.ndarray) -> np.ndarray:
        return store.unscale(values, *self._bounds[name])
