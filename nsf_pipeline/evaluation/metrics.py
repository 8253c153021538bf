"""Scores of predicted laws, given by draws, against what happened."""

from typing import NamedTuple

import numpy as np
import scoringrules

INTERVALS = (0.5, 0.9)


class Group(NamedTuple):
    """Components that are scored together.

    Attributes:
        columns: where in a state, counted from the end where negative.
        unit: of the scores.
        factor: from the state's unit to this one.
    """

    columns: tuple[int, ...]
    unit: str
    factor: float


GROUPS = {
    "agent": Group((0, 1), "px", 1.0),
    "block_position": Group((-3, -2), "px", 1.0),
    "block_angle": Group((-1,), "degrees", 180.0 / np.pi),
}


class Scores(NamedTuple):
    """Scores of a number of states, each with the group's components along the last axis.

    Attributes:
        crps: (n, components) continuous ranked probability score, in the group's unit.
        covered: (n, components, 2) whether the central 50 % and 90 % intervals hold the truth.
    """

    crps: np.ndarray
    covered: np.ndarray


def score(draws: np.ndarray, truth: np.ndarray, group: Group) -> Scores:
    """Score draws of a group's components.

    The CRPS is the fair (unbiased) estimate from an ensemble, by probability-weighted moments: no
    table of all pairs of draws. Angles are continuous on both sides, so differences need no
    wrapping.

    Args:
        draws: (n, draws, state_dim).
        truth: (n, state_dim).
        group: what to score.
    """
    columns = list(group.columns)
    ensemble, observed = draws[..., columns] * group.factor, truth[:, columns] * group.factor
    crps = scoringrules.crps_ensemble(observed, ensemble, m_axis=1, estimator="pwm")
    covered = [_in_central_interval(ensemble, observed, share) for share in INTERVALS]
    return Scores(np.asarray(crps), np.stack(covered, axis=-1))


def score_point(prediction: np.ndarray, truth: np.ndarray, group: Group) -> Scores:
    """Score one prediction per state, a law without spread: its CRPS is the absolute error.

    Args:
        prediction: (n, state_dim).
        truth: (n, state_dim).
        group: what to score.
    """
    columns = list(group.columns)
    error = np.abs(prediction[:, columns] - truth[:, columns]) * group.factor
    return Scores(error, np.repeat((error == 0.0)[..., None], len(INTERVALS), axis=-1))


def gaussian_log_density(error: np.ndarray, std: np.ndarray) -> np.ndarray:
    """(n) nats: log-density of errors (n, d) under independent Gaussians of standard deviation."""
    return -0.5 * np.sum((error / std) ** 2 + np.log(2.0 * np.pi * std**2), axis=-1)


def _in_central_interval(ensemble: np.ndarray, observed: np.ndarray, share: float) -> np.ndarray:
    low, high = np.quantile(ensemble, [(1.0 - share) / 2.0, (1.0 + share) / 2.0], axis=1)
    return (low <= observed) & (observed <= high)
