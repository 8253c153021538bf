"""Transitions read from the data set's files, for data that do not fit on the device."""

import os
import resource
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Int, Key, PRNGKeyArray

from nsf_pipeline.data import store
from nsf_pipeline.data.parts import DataFile, require_head
from nsf_pipeline.data.states import join_state, state_parts
from nsf_pipeline.data.transitions import (
    Picker,
    Picks,
    TransitionBatch,
    finish_batches,
    pick_batches,
)
from nsf_pipeline.files import again, open_file
from nsf_pipeline.pusht.state import layout_of
from nsf_pipeline.timing import CONTROL_DT

SLICE = 1 << 13
"""Transitions read at once, few enough for memory."""
MOST_OPEN = 1024
"""Files of a data set that are open at a time, at most."""


class StreamedFiles:
    """The files of a data set, of which rows are read with `os.pread`.

    The files' pages stay in the operating system's cache and do not count as memory of this
    process. (With a memory map, each row that is read would count as the 64 KiB around it.) Only
    some files are open at a time, so that there may be more of them than a process may open.
    """

    def __init__(self, files: Sequence[DataFile]):
        """Prepare to read files.

        Args:
            files: from `store.files_of`. Those that are open may be replaced meanwhile, but must
                not be written to; the others must not be replaced.
        """
        self.files, self._most = files, most_open()
        self.stops = np.array([file.stop for file in files])
        self.firsts = np.concatenate([[0], self.stops[:-1]])
        self._descriptors: OrderedDict[int, int] = OrderedDict()
        weakref.finalize(self, _close_all, self._descriptors)
        if files[0].descriptor is not None:
            self._descriptors[0] = os.dup(files[0].descriptor)

    def read(self, number: int, sizes: list[int], places: list[int]) -> list[bytes]:
        """Pieces of a file.

        Args:
            number: which file.
            sizes: of the pieces, in bytes.
            places: of the first byte of each.

        Raises:
            StoreError: the file cannot be read, or was replaced.
        """
        if number not in self._descriptors:
            self._open(number)
        self._descriptors.move_to_end(number)
        held = self._descriptors[number]
        try:
            return [os.pread(held, size, at) for size, at in zip(sizes, places, strict=True)]
        except OSError as error:
            raise self._error(number, error) from None

    def _open(self, number: int) -> None:
        """Open a file, in place of the one that was not read for longest if there are too many."""
        path, head = self.files[number].path, self.files[number].head
        try:
            with open_file(path) as file:
                require_head(path, file, head)
                while len(self._descriptors) >= self._most:
                    os.close(self._descriptors.popitem(last=False)[1])
                self._descriptors[number] = os.dup(file.fileno())
        except OSError as error:
            raise self._error(number, error) from None

    def _error(self, number: int, error: OSError) -> store.StoreError:
        return store.StoreError(f"{self.files[number].path}: cannot be read: {error.strerror}")


def most_open() -> int:
    """Files of one data set that are open at a time: a quarter of what the process may open."""
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST_OPEN if allowed == resource.RLIM_INFINITY else max(1, min(allowed // 4, MOST_OPEN))


def _close_all(descriptors: OrderedDict[int, int]) -> None:
    while descriptors:
        os.close(descriptors.popitem()[1])


class StreamedArray:
    """An array of a data set, of which single rows are read."""

    def __init__(self, files: StreamedFiles, name: str, array: Any):
        """Find an array in its files.

        Args:
            files: those of the data set.
            name: of the array.
            array: (n, times, ...) or (n, ...), of the data set, open with `store.reading`.

        Raises:
            StoreError: the array is compressed or in chunks.
        """
        self.files, self.name, self.dtype, self.shape = files, name, array.dtype, array.shape
        offsets = [file.offsets[name] for file in files.files]
        if None in offsets:
            path = files.files[offsets.index(None)].path
            raise store.StoreError(
                f"{path}: its arrays lie in chunks and cannot be streamed: raise "
                f"runtime.data_memory; {again(path)}"
            )
        self._offsets = np.array(offsets)

    def rows(self, row: Int[np.ndarray, " m"]) -> np.ndarray:
        """(m, ...) some rows of the array.

        Raises:
            StoreError: a file cannot be read, or is too short.
        """
        width = self.dtype.itemsize * int(np.prod(self.shape[1:]))
        skipped, size = np.zeros(len(row), int), np.full(len(row), width)
        return self._array(self._read(row, skipped, size), self.shape[1:])

    def ends(
        self, row: np.ndarray, step: np.ndarray, later: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Some rows at the indices `step` and `later` of their time axis, each (m, ...).

        Raises:
            StoreError: as for `rows`.
        """
        width = self.dtype.itemsize * int(np.prod(self.shape[2:]))
        pieces = self._read(row, step * width, (later - step + 1) * width)
        shape = self.shape[2:]
        return (
            self._array([piece[:width] for piece in pieces], shape),
            self._array([piece[-width:] for piece in pieces], shape),
        )

    def _read(self, row: np.ndarray, skipped: np.ndarray, size: np.ndarray) -> list[bytes]:
        """Some bytes of each row: how many, after how many others."""
        files = self.files
        number = np.searchsorted(files.stops, row, side="right")
        width = self.dtype.itemsize * int(np.prod(self.shape[1:]))
        place = self._offsets[number] + (row - files.firsts[number]) * width + skipped
        # File after file, so that each is opened at most once.
        order = np.argsort(number, kind="stable")
        found: list[bytes] = []
        for group in np.split(order, np.flatnonzero(np.diff(number[order])) + 1):
            which, sizes = int(number[group[0]]), size[group]
            pieces = files.read(which, sizes.tolist(), place[group].tolist())
            if sum(map(len, pieces)) != sizes.sum():
                path = files.files[which].path
                raise store.StoreError(
                    f"{path}: ends within `{self.name}`: it was cut short while it was read; "
                    f"{again(path)}"
                )
            found += pieces
        if len(files.files) == 1:
            return found
        return [found[index] for index in np.argsort(order).tolist()]

    def _array(self, pieces: list[bytes], shape: tuple[int, ...]) -> np.ndarray:
        return np.frombuffer(b"".join(pieces), self.dtype).reshape(-1, *shape)


class StreamedTransitions:
    """Draws the same transitions as `Transitions`, bit for bit, but reads them from the disk."""

    def __init__(
        self,
        path: Path,
        file: Any,
        rows: np.ndarray,
        state_dim: int,
        max_gap: float,
        dt: float = CONTROL_DT,
        block_blur: float = 0.0,
        keeps_rest: bool = False,
    ):
        """Prepare to read some trajectories of a data set.

        Args:
            path: the data set; as one file, it may be replaced meanwhile, but not be written to.
            file: the same, open, from `store.reading`.
            rows: indices of the trajectories' rows, ascending.
            state_dim: 5, 7 or 10.
            max_gap: s, the longest gap.
            dt: s per control step.
            block_blur: px per root second; see `blur_of`.
            keeps_rest: whether a block that rested from start to end is not blurred.

        Raises:
            StoreError: arrays are compressed or in chunks.
        """
        self.rows, self.layout = rows, layout_of(state_dim)
        length = file["length"][...][rows]
        self.picker = Picker.build(length, state_dim, max_gap, dt, block_blur, keeps_rest)
        names = (*state_parts(self.layout), "condition")
        files = StreamedFiles(store.files_of(path, file))
        self._arrays = {name: StreamedArray(files, name, file[name]) for name in names}
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
