"""Demonstrations in a replay buffer of the diffusion-policy repository."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nsf_pipeline.data.imports.demonstration import Demonstration, fault_in
from nsf_pipeline.errors import on_one_line
from nsf_pipeline.files import FileError

NEEDS = ("zarr", "zarr")
ARRAYS = {"state": "data/state", "action": "data/action", "ends": "meta/episode_ends"}


def fits(path: Path) -> bool:
    """Whether a folder looks like one."""
    return (path / "meta").is_dir() and any((path / name).exists() for name in (".zgroup", "data"))


def read(path: Path) -> Iterator[Demonstration]:
    """The episodes, in order.

    Raises:
        FileError: it is no such buffer, or its numbers mean nothing.
    """
    import zarr

    try:
        group: Any = zarr.open_group(path, mode="r")
        state, action, ends = (group[name] for name in ARRAYS.values())
        stops = np.asarray(ends[:]).astype(int)
        sound = (
            stops.ndim == 1
            and len(stops)
            and (np.diff(stops, prepend=0) > 0).all()
            and stops[-1] == state.shape[0] == action.shape[0]
        )
    except Exception as error:  # Zarr may fail in any way on what it did not write
        raise FileError(
            f"{path}: not a replay buffer of diffusion-policy: {on_one_line(error)}"
        ) from None
    if not sound:
        raise FileError(f"{path}: meta/episode_ends: expected rising row numbers up to the last")
    for number, (first, stop) in enumerate(zip([0, *stops[:-1]], stops, strict=True)):
        try:
            states, actions = (np.asarray(each[first:stop], float) for each in (state, action))
        except Exception as error:
            raise FileError(
                f"{path}: episode {number} cannot be read: {on_one_line(error)}"
            ) from None
        if fault := fault_in(states, actions):
            raise FileError(f"{path}: episode {number}: {fault}")
        yield Demonstration(number, states, actions)
