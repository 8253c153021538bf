"""stable-worldmodel's flat HDF5 file: the steps of all episodes, one array per column.

Row i of an episode has state i and the action taken from it; the action of the last row is NaN,
and so is the reward of the first. Actions are relative to the agent, in units of 100 px: its
environment moves the target to agent + 100 a. That environment does not clip, so neither do these
actions, although it names [-1, 1] as their range.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nsf_pipeline.data.exports.columns import Columns
from nsf_pipeline.data.exports.format import Format
from nsf_pipeline.data.exports.source import Episode, Source
from nsf_pipeline.data.store import Sink
from nsf_pipeline.pusht.state import STATE

SCALE = 100.0
"""px; of an action's unit."""
WIDTHS: dict[str, int] = {"action": 2, "proprio": 4, "state": 7}
SINGLE = {"reward": "float32", "terminated": "bool", "truncated": "bool"}
NUMBERS = {"episode_idx": "int32", "step_idx": "int32"}
CHUNK = 1 << 12
"""Rows in a chunk of everything but frames, of which each is a chunk."""


def columns_of(episode: Episode) -> dict[str, np.ndarray]:
    """The columns of one episode, T + 1 rows each, but for its frames."""
    states, length = episode.states, episode.length
    agent, velocity = states[:, STATE.agent], states[:, STATE.velocity]
    pose = states[:, STATE.block].copy()
    pose[:, 2] = episode.observations[:, -1]  # in [0, 2 pi)
    relative = (episode.actions.astype(np.float64) - agent[:-1]) / SCALE
    last = np.arange(length + 1) == length
    return {
        "action": _with(relative, np.full((1, 2), np.nan)),
        "proprio": np.concatenate([agent, velocity], axis=-1),
        "state": np.concatenate([agent, pose, velocity], axis=-1),
        "reward": _with(np.full(1, np.nan), episode.rewards),
        "terminated": last & episode.success,
        "truncated": last & (not episode.success),
        "episode_idx": np.full(length + 1, episode.number, np.int32),
        "step_idx": np.arange(length + 1, dtype=np.int32),
    }


class Beyond:
    """Counts actions outside [-1, 1]."""

    def __init__(self) -> None:
        self._outside = self._all = 0

    def add(self, actions: np.ndarray) -> None:
        """Count the actions (T + 1, 2) of an episode, of which the last is none."""
        self._outside += int((np.abs(actions[:-1]) > 1.0).any(axis=1).sum())
        self._all += len(actions) - 1

    def notes(self) -> dict[str, Any]:
        """What is worth knowing of them."""
        return {"actions beyond [-1, 1]": f"{self._outside} of {self._all}"}


def write(source: Source, folder: Path) -> dict[str, Any]:
    """Write `pusht.h5`."""
    # Its reader opens the file for SWMR, which HDF5's first layout was not made for.
    with Sink(folder / "pusht.h5", "w+") as sink:
        try:
            with h5py.File(sink, "w", libver=("v110", "v110")) as file:
                return _fill(source, file)
        finally:
            if sink.failure:
                raise sink.failure from None


def _fill(source: Source, file: Any) -> dict[str, Any]:
    lengths, total = source.lengths + 1, source.steps + len(source)
    file["ep_len"] = lengths.astype(np.int32)
    file["ep_offset"] = (np.cumsum(lengths) - lengths).astype(np.int64)
    arrays = {}
    for name, dtype in (dict.fromkeys(WIDTHS, "float32") | SINGLE | NUMBERS).items():
        width = (WIDTHS[name],) if name in WIDTHS else ()
        chunks = (min(CHUNK, total), *width)
        arrays[name] = file.create_dataset(name, (total, *width), dtype, chunks=chunks)
    if source.frames:
        size = (source.frames, source.frames, 3)
        arrays["pixels"] = file.create_dataset(
            "pixels",
            (total, *size),
            "uint8",
            chunks=(1, *size),
            compression="gzip",
            compression_opts=1,
        )
    columns, beyond = Columns(arrays), Beyond()
    for episode in source.episodes():
        rows = columns_of(episode)
        beyond.add(rows["action"])
        if source.frames:
            rows["pixels"] = np.asarray(episode.recording.frames)
        columns.add(rows)
    columns.close()
    return beyond.notes()


def _with(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    return np.concatenate([first, second]).astype(np.float32)


FORMAT = Format("stable_worldmodel", "stable-worldmodel", write)
