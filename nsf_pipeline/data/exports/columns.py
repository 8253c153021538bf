"""Rows collected for files that are written in chunks."""

from collections.abc import Mapping
from typing import Any

import numpy as np


class Columns:
    """Arrays in a file, to which rows are added. Whole chunks are written, so each only once."""

    def __init__(self, arrays: Mapping[str, Any]) -> None:
        """Prepare to write arrays.

        Args:
            arrays: by name, of the length that they will have, with `chunks`; slices are set.
        """
        self._arrays = arrays
        self._waiting: dict[str, list[np.ndarray]] = {name: [] for name in arrays}
        self._written = dict.fromkeys(arrays, 0)

    def add(self, rows: Mapping[str, np.ndarray]) -> None:
        """Add rows to every array."""
        for name, array in self._arrays.items():
            self._waiting[name].append(rows[name])
            if sum(map(len, self._waiting[name])) >= array.chunks[0]:
                self._write(name, whole=array.chunks[0])

    def close(self) -> None:
        """Write what still waits."""
        for name in self._arrays:
            self._write(name, whole=1)

    def _write(self, name: str, whole: int) -> None:
        """Write a multiple of so many rows."""
        if self._waiting[name]:
            rows, first = np.concatenate(self._waiting[name]), self._written[name]
            count = len(rows) // whole * whole
            self._arrays[name][first : first + count] = rows[:count]
            self._written[name], self._waiting[name] = first + count, [rows[count:]]
