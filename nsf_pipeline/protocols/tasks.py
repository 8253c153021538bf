"""Tasks from test trajectories: bring the block from a state to where it lies some steps later."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from nsf_pipeline.data.randomness import Stream
from nsf_pipeline.errors import UserError
from nsf_pipeline.evaluation.ensembles import load_test_split
from nsf_pipeline.planning.goal import Goal
from nsf_pipeline.pusht.state import STATE


class Tasks(NamedTuple):
    """Some tasks.

    Attributes:
        trajectory: (n) index in the whole data set.
        step: (n) control step of the state.
        state: (n, 7) px, px/s, rad, where the task starts.
        goal: (n, 3) px, px, rad, where the block is to lie.
    """

    trajectory: np.ndarray
    step: np.ndarray
    state: np.ndarray
    goal: np.ndarray

    def between(self, first: int, stop: int) -> "Tasks":
        """The tasks from `first` up to, and without, `stop`."""
        return Tasks(*(values[first:stop] for values in self))


def is_possible(pose: np.ndarray) -> bool:
    """Whether planners take a pose (3,) as a goal: pressed to a wall, the T may reach into it."""
    try:
        Goal(pose).meant()
    except UserError:
        return False
    return True


def from_test_split(dataset: Path, count: int, steps: int, least_error: float, seed: int) -> Tasks:
    """Tasks from different test trajectories in which the block moves, drawn at random.

    Args:
        dataset: the data set.
        count: how many; fewer if there are not as many trajectories.
        steps: from the state to the goal.
        least_error: px; the block's error at the start (`Goal.distance`), at least.
        seed: of the choice.

    Raises:
        StoreError: the data set cannot be read.
        UserError: no trajectory is as long, or the block moves in none.
    """
    test = load_test_split(dataset)
    states = test["states"].astype(np.float64)
    rows, times = np.nonzero(np.arange(states.shape[1]) <= test["length"][:, None] - steps)
    poses = states[..., STATE.block]
    errors = np.array(
        [
            Goal(goal).distance(pose)
            for pose, goal in zip(poses[rows, times], poses[rows, times + steps], strict=True)
        ]
    )
    possible = [is_possible(goal) for goal in poses[rows, times + steps]]
    moved = np.flatnonzero((errors >= least_error) & possible) if len(rows) else np.zeros(0, int)
    if not len(moved):
        raise UserError(
            f"{dataset}: no test trajectory of {steps} steps moves the block by {least_error:g} px "
            "or more; raise num_trajectories or policies.duration"
        )
    order = np.random.default_rng([seed, Stream.TASK, steps]).permutation(moved)
    _, places = np.unique(rows[order], return_index=True)  # one of each trajectory
    chosen = order[np.sort(places)][:count]
    row, step = rows[chosen], times[chosen]
    return Tasks(test["trajectory"][row], step, states[row, step], poses[row, step + steps])
