"""Videos of trajectories, recorded by replaying their stored actions."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nsf_pipeline.data import store
from nsf_pipeline.data.rollouts import start
from nsf_pipeline.data.scenes import FACTORS, in_row
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.pusht.geometry import coverage
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.pusht.video import annotated, record
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


def one_trajectory(source: Path, file: Any, which: int | str) -> dict[str, np.ndarray]:
    """The arrays named in `NEEDED`, and the factors if the file has them, for one trajectory.

    Each has one row, in physical units.

    Args:
        source: the file's path, for messages.
        file: an open rollout shard or data set, from `store.reading`.
        which: the trajectory's index in the whole data set, or a name in `RANKED`.

    Raises:
        StoreError: the file does not hold the trajectory.
    """
    row = _ranked(file, RANKED[which]) if isinstance(which, str) else _row(source, file, which)
    return in_file(file, row)


def in_file(file: Any, row: int) -> dict[str, np.ndarray]:
    """The same for the trajectory in a row of an open file."""
    names = (*NEEDED, FACTORS) if FACTORS in file else NEEDED
    return {name: store.physical(file, name, slice(row, row + 1)) for name in names}


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
        trajectory: as from `one_trajectory`.
        title: beginning of every frame's caption.

    Yields:
        length + 1 frames (512, 512, 3) uint8.
    """
    length = trajectory["length"][0]
    actions = trajectory["actions"][0, :length].astype(np.float64)
    params = DMPParams.from_vector(trajectory["condition"][0])
    desired = np.concatenate([params.start[None], trajectory["targets"][0, :length]])
    factors = in_row(trajectory, 0)
    simulator = Simulator(factors)
    start(simulator, trajectory, 0)
    travelled: list[np.ndarray] = []
    for step, frame in enumerate(record(simulator, actions)):
        state = simulator.state()
        travelled.append(state[STATE.agent])
        covered = coverage(state[STATE.block], factors.goal, factors.block_scale)
        caption = f"{title}   {CONTROL_DT * step:.1f} s   coverage {covered:.1%}"
        yield annotated(frame, desired, params.goal, np.array(travelled), caption)
