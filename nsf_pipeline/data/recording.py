"""Videos of trajectories, recorded by replaying their stored actions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nsf_pipeline import label
from nsf_pipeline.data import store
from nsf_pipeline.data.rollouts import start
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.files import replacing
from nsf_pipeline.provenance import record_after
from nsf_pipeline.pusht.geometry import coverage
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.video import annotated, record, write_mp4
from nsf_pipeline.timing import CONTROL_DT

NEEDED = (
    "trajectory",
    "seed",
    "initial_state",
    "from_reset",
    "condition",
    "length",
    "targets",
    "actions",
)
RANKED = {"best": 0.0, "median": 0.5, "worst": 1.0}
"""Place in the ranking by last coverage: 0 is the highest, 1 the lowest."""


def record_trajectory(source: Path, which: int | str, output: Path) -> int:
    """Replay one trajectory of a rollout shard or data set and write it as MP4.

    Drawn in are the DMP's path, its goal and the agent's way so far.

    Args:
        source: the shard or data set.
        which: the trajectory's index in the whole data set, or a name in `RANKED`.
        output: the video.

    Returns:
        The trajectory's index.

    Raises:
        UserError: the source cannot be read or does not hold the trajectory, there is no ffmpeg, or
            the video cannot be written.
    """
    with store.reading(source, "rollouts", "dataset") as file:
        row = _ranked(file, RANKED[which]) if isinstance(which, str) else _row(source, file, which)
        trajectory = {name: store.physical(file, name, slice(row, row + 1)) for name in NEEDED}
        made = record_after("videos", file.attrs.get("fingerprint", ""))
    with replacing(output) as beside:
        frames = replayed(trajectory, f"trajectory {trajectory['trajectory'][0]}")
        write_mp4(beside, frames, fps=round(1 / CONTROL_DT), comment=label.embed(made))
    return int(trajectory["trajectory"][0])


def last_coverage(file: Any) -> np.ndarray:
    """(n) float32: each trajectory's coverage when it ended, read a block at a time."""
    last = file["length"][...] - 1
    ends = []
    for rows in store.blocks(len(last)):
        block = file["coverage"][rows]
        ends.append(block[np.arange(len(block)), last[rows]])
    return np.concatenate(ends)


def _ranked(file: Any, place: float) -> int:
    ranking = np.argsort(-last_coverage(file), kind="stable")  # ties in the order of trajectories
    return int(ranking[int(place * (len(ranking) - 1))])


def _row(source: Path, file: Any, trajectory: int) -> int:
    held = file["trajectory"][...]
    rows = np.flatnonzero(held == trajectory)
    if not len(rows):
        raise store.StoreError(
            f"{source}: expected trajectory {trajectory}, but it holds {held[0]} to {held[-1]}"
        )
    return int(rows[0])


def replayed(trajectory: dict[str, np.ndarray], title: str) -> Iterator[np.ndarray]:
    """Frames of one trajectory, simulated again from its start by its stored actions.

    Args:
        trajectory: the arrays `NEEDED`, one row each, in physical units.
        title: starts every frame's caption.

    Yields:
        length + 1 frames (512, 512, 3) uint8.
    """
    length = trajectory["length"][0]
    actions = trajectory["actions"][0, :length].astype(np.float64)
    params = DMPParams.from_vector(trajectory["condition"][0])
    desired = np.concatenate([params.start[None], trajectory["targets"][0, :length]])
    simulator = Simulator()
    start(simulator, trajectory, 0)
    travelled: list[np.ndarray] = []
    for step, frame in enumerate(record(simulator, actions)):
        state = simulator.state()
        travelled.append(state[:2])
        caption = f"{title}   {CONTROL_DT * step:.1f} s   coverage {coverage(state[4:]):.1%}"
        yield annotated(frame, desired, params.goal, np.array(travelled), caption)
