"""The DMP whose desired path is nearest to a stretch of recorded targets."""

import numpy as np

from nsf_pipeline import dmp
from nsf_pipeline.config import DMPConfig
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.timing import CONTROL_DT

RIDGE = 1e-3
"""Keeps weights small where a path hardly depends on them; times the number of targets."""
LEAST_DELTA = 5.0
"""px; along each axis, the goal lies at least this far from the start, which scales the forcing."""


def fitted(
    start: np.ndarray, targets: np.ndarray, config: DMPConfig, stiffness: float, damping: float
) -> tuple[DMPParams, np.ndarray]:
    """Fit goal and weights by least squares; the path is linear in them.

    With the goal's distance d from the start, and v_i the weights times the forcing's scale, the
    path is start + d gamma(t) + sum_i v_i phi_i(t) along each axis. The noise of the policy is the
    root mean square of what remains.

    Args:
        start: (2,) px, where the agent is.
        targets: (T, 2) px, one each control step.
        config: what all DMPs have in common.
        stiffness: K, in 1 / duration^2.
        damping: D, in 1 / duration.

    Returns:
        The policy, and its targets (T, 2) px.
    """
    steps = len(targets)
    duration = CONTROL_DT * steps
    reach, forced = _responses(steps, duration, config, stiffness, damping)
    delta, weights = np.empty(2), np.empty((2, config.n_basis))
    for axis in range(2):
        wanted = targets[:, axis] - start[axis]
        found = _least_squares(np.column_stack([reach, forced]), wanted)
        delta[axis], scaled = found[0], found[1:]
        if abs(delta[axis]) < LEAST_DELTA:
            delta[axis] = np.copysign(LEAST_DELTA, delta[axis])
            scaled = _least_squares(forced, wanted - delta[axis] * reach)
        by_goal = config.scale_forcing_by_goal_delta
        weights[axis] = scaled / (delta[axis] if by_goal else dmp.FIXED_SCALE)
    params = DMPParams(
        *(np.asarray(each) for each in (duration, start, start + delta, weights)),
        *(np.asarray(each) for each in (stiffness, damping, 0.0)),
    )
    path = dmp.targets(params, config, steps)
    noise = np.sqrt(np.square(path - targets).mean())
    return params._replace(action_noise_std=np.asarray(noise)), path


def _responses(
    steps: int, duration: float, config: DMPConfig, stiffness: float, damping: float
) -> tuple[np.ndarray, np.ndarray]:
    """What a goal 1 px away does to the path, (T), and forcings of 1 px, (T, n_basis)."""
    free = config.model_copy(
        update={"scale_forcing_by_goal_delta": False, "workspace": (-np.inf, np.inf)}
    )
    count = config.n_basis + 1
    goals = np.zeros((count, 2))
    goals[0] = 1.0
    weights = np.zeros((count, 2, config.n_basis))
    weights[1:, 0] = np.eye(config.n_basis) / dmp.FIXED_SCALE
    shared = (np.full(count, each) for each in (stiffness, damping, 0.0))
    params = DMPParams(np.full(count, duration), np.zeros((count, 2)), goals, weights, *shared)
    found = dmp.targets(params, free, steps)[..., 0]
    return found[0], found[1:].T


def _least_squares(table: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The x that minimises |table x - wanted|^2, with a little weight on |x|^2."""
    square = table.T @ table + RIDGE * len(table) * np.eye(table.shape[1]) * (table**2).mean()
    return np.linalg.solve(square, table.T @ wanted)
