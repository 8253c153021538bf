"""Transitions straight from the data set's file, for data that do not fit on the device."""

import mmap
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key, PRNGKeyArray

from nsf_pipeline.data import store
from nsf_pipeline.data.transitions import (
    Picker,
    Picks,
    TransitionBatch,
    finish_batches,
    join_state,
    pick_batches,
    state_parts,
)
from nsf_pipeline.timing import CONTROL_DT

SLICE = 1 << 16
"""Transitions read between two releases of the file's pages; few cost time, see benchmarks.md."""


class StreamedTransitions:
    """Draws what `Transitions` draws, bit for bit, and reads it from the file row by row.

    What is read stays in the system's cache of the disk, not in this process's memory.
    """

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
        """Map some trajectories of a data set.

        Args:
            path: the data set; it may be replaced meanwhile, but must not be written to.
            file: the same, open, as `store.reading` gives it.
            rows: places of the trajectories, in order.
            state_dim: 7 or 5.
            max_gap: s, the longest gap.
            dt: s per control step.
            block_blur: px per root second; see `blur_of`.

        Raises:
            StoreError: the file's arrays are compressed or in chunks.
        """
        self.rows, self.state_dim = rows, state_dim
        self.picker = Picker.build(file["length"][...][rows], state_dim, max_gap, dt, block_blur)
        with path.open("rb") as raw:
            self._map = mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ)
        self._map.madvise(mmap.MADV_RANDOM)  # else each row drags in its neighbours
        names = (*state_parts(state_dim), "condition")
        self._arrays = {name: self._array(path, file[name]) for name in names}
        self._bounds = {name: store.bounds_of(file, name) for name in names}

    def __len__(self) -> int:
        return len(self.picker)

    def sample(self, key: PRNGKeyArray, batch_size: int) -> TransitionBatch:
        """Draw transitions, with replacement."""
        picks = self.picker.pick(key, batch_size)
        return self.picker.batch(picks, *jax.device_put(self._read(picks)))

    def batches(self, keys: Key[Array, " n"], batch_size: int) -> TransitionBatch:
        """A batch for each of some keys, along a new first axis."""
        picks = pick_batches(self.picker, keys, batch_size)
        return finish_batches(self.picker, picks, *self._read(picks))

    def _array(self, path: Path, dataset: Any) -> np.ndarray:
        offset = dataset.id.get_offset()
        if offset is None:
            raise store.StoreError(
                f"{path}: its arrays lie in chunks and cannot be streamed; delete it and run the "
                "workflow again, or raise runtime.data_memory"
            )
        return np.ndarray(dataset.shape, dataset.dtype, self._map, offset)

    def _read(self, picks: Picks) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """States at both ends and conditions of what was picked, in physical units."""
        row, step, later = (np.asarray(values) for values in picks[:3])
        shape, place = row.shape, self.rows[row.ravel()]
        states = np.empty((2, len(place), self.state_dim), np.float32)
        condition = np.empty((len(place), self._arrays["condition"].shape[1]), np.float32)
        for first in range(0, len(place), SLICE):
            part = slice(first, first + SLICE)
            for end, at in enumerate((step, later)):
                where = place[part], at.ravel()[part]
                values = {name: self._take(name, *where) for name in state_parts(self.state_dim)}
                states[end, part] = join_state(values, self.state_dim)
            condition[part] = self._take("condition", place[part])
            # The pages that were touched, and their neighbours, stay in the system's cache, but
            # count no more as this process's memory.
            self._map.madvise(mmap.MADV_DONTNEED)
        x_init, x_final = states.reshape(2, *shape, self.state_dim)
        return x_init, x_final, condition.reshape(*shape, -1)

    def _take(self, name: str, *where: np.ndarray) -> np.ndarray:
        return store.unscale(self._arrays[name][where], *self._bounds[name])
