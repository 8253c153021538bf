"""The test states: where predictions start, and what came of them."""

from typing import NamedTuple

import numpy as np

from nsf_pipeline.data.transitions import Trajectories
from nsf_pipeline.errors import UserError
from nsf_pipeline.timing import CONTROL_DT


class States(NamedTuple):
    """States of one split that have a successor at one horizon.

    Attributes:
        x_init: (n, state_dim).
        x_final: (n, state_dim), a horizon later.
        t_init: (n) s.
        t_final: (n) s.
        condition: (n, C).
    """

    x_init: np.ndarray
    x_final: np.ndarray
    t_init: np.ndarray
    t_final: np.ndarray
    condition: np.ndarray

    def __len__(self) -> int:
        return len(self.x_init)


def choose_states(
    trajectories: Trajectories, horizon: float, count: int, random: np.random.Generator
) -> States:
    """States drawn without replacement, uniformly over all that have a successor.

    Args:
        trajectories: of one split.
        horizon: s, a multiple of the control step.
        count: how many, at most; fewer where the split has fewer.
        random: decides which.

    Raises:
        UserError: no trajectory is that long.
    """
    gap = round(horizon / CONTROL_DT)
    last_start = trajectories.length[:, None] - gap
    rows, steps = np.nonzero(np.arange(trajectories.states.shape[1]) <= last_start)
    if not len(rows):
        raise UserError(
            f"no trajectory of this split lasts {horizon:g} s; lower evaluation.horizons or raise "
            "num_trajectories"
        )
    chosen = np.sort(random.permutation(len(rows))[:count])
    row, step = rows[chosen], steps[chosen]
    return States(
        x_init=trajectories.states[row, step],
        x_final=trajectories.states[row, step + gap],
        t_init=np.float32(CONTROL_DT) * step.astype(np.float32),
        t_final=np.float32(CONTROL_DT) * (step + gap).astype(np.float32),
        condition=trajectories.condition[row],
    )
