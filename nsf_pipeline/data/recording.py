"""Videos of trajectories, recorded by replaying their stored actions."""

from pathlib import Path

import numpy as np

from nsf_pipeline.data import store
from nsf_pipeline.files import replacing
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.video import record, write_mp4


def record_trajectory(rollouts: Path, trajectory: int, output: Path) -> None:
    """Replay one trajectory of a rollout shard and write it as MP4.

    Raises:
        FileError: the shard cannot be read or does not hold the trajectory, or the video cannot be
            written.
    """
    names = ("trajectory", "seed", "initial_state", "from_reset", "actions", "length")
    arrays = store.read(rollouts, "rollouts", names)
    rows = np.flatnonzero(arrays["trajectory"] == trajectory)
    if not len(rows):
        held = arrays["trajectory"]
        raise store.StoreError(
            f"{rollouts}: expected trajectory {trajectory}, but it holds {held[0]} to {held[-1]}"
        )
    row = rows[0]
    simulator = Simulator()
    if arrays["from_reset"][row]:
        simulator.reset(int(arrays["seed"][row]))
    else:
        simulator.enter(arrays["initial_state"][row])
    actions = arrays["actions"][row, : arrays["length"][row]].astype(np.float64)
    with replacing(output) as beside:
        write_mp4(beside, record(simulator, actions))
