"""What the simulator does with a policy."""

import time
from typing import NamedTuple

import numpy as np

from nsf_pipeline import dmp
from nsf_pipeline.config import PolicyFile
from nsf_pipeline.data.actions import executed
from nsf_pipeline.data.policy_file import params_of, start_of
from nsf_pipeline.pusht.geometry import coverage
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.timing import CONTROL_DT, num_steps

MEMBERS = 64
"""Of an ensemble, and draws of a model."""
ENSEMBLE_SEED = 2**32
"""Of the ensembles' noise; rollouts count from 0."""


def targets(file: PolicyFile) -> np.ndarray:
    """(steps, 2) px: the policy's targets, one a control step of 0.1 s."""
    return dmp.targets(params_of(file.policy), file.dmp, num_steps(file.policy.duration))


class Rollout(NamedTuple):
    """One rollout.

    Attributes:
        states: (T + 1, 7) px, px/s, rad.
        coverage: (T + 1) share of the goal covered.
    """

    states: np.ndarray
    coverage: np.ndarray


def rollout(simulator: Simulator, file: PolicyFile, seed: int) -> Rollout:
    """Push once, with noise of the policy's level."""
    (actions,) = _actions(file, 1, seed)
    simulator.enter(start_of(file))
    states = simulator.rollout(actions)
    return Rollout(states, coverage(states[:, STATE.block]))


class Law(NamedTuple):
    """The simulator's own law at one time, by rollouts from one state with noise of their own.

    Attributes:
        members: (n, 7) px, px/s, rad; of the ensemble.
        truths: (n, 7) other rollouts, against which ensemble and models are scored.
        seconds: s; how long the ensemble took.
    """

    members: np.ndarray
    truths: np.ndarray
    seconds: float


def law(simulator: Simulator, file: PolicyFile, time_s: float) -> Law:
    """The law a time after the start, s, rounded to control steps."""
    steps = round(time_s / CONTROL_DT)
    actions = _actions(file, 2 * MEMBERS, ENSEMBLE_SEED)[:, :steps]
    started = time.perf_counter()
    members = simulator.ensemble(start_of(file), actions[:MEMBERS])[:, -1]
    seconds = time.perf_counter() - started
    return Law(members, simulator.ensemble(start_of(file), actions[MEMBERS:])[:, -1], seconds)


def _actions(file: PolicyFile, count: int, seed: int) -> np.ndarray:
    """(count, T, 2) px."""
    std, random = file.policy.action_noise_std, np.random.default_rng(seed)
    return executed(targets(file), std, count, random)
