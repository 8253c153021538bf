"""Test trajectories that go on with further policies, drawn as those of the data."""

from typing import NamedTuple

import numpy as np

from nsf_pipeline.config import Config
from nsf_pipeline.data.policies import sample_noise_std, sample_policy
from nsf_pipeline.data.rollouts import start
from nsf_pipeline.dmp import DMPParams, targets
from nsf_pipeline.pusht.episode import as_actions
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE, STATE_WITH_BLOCK_VELOCITY
from nsf_pipeline.timing import num_steps


class Part(NamedTuple):
    """The part of a trajectory in which one policy is followed.

    Attributes:
        first: control steps before it.
        steps: how many control steps it takes.
        condition: (C) the packed DMP vector.
        targets: (steps, 2) px, without noise.
    """

    first: int
    steps: int
    condition: np.ndarray
    targets: np.ndarray


class Continued(NamedTuple):
    """A trajectory that goes on.

    Attributes:
        states: (steps + 1, 10) as `STATE_WITH_BLOCK_VELOCITY`.
        parts: one after another.
    """

    states: np.ndarray
    parts: tuple[Part, ...]


def continued(
    simulator: Simulator,
    test: dict[str, np.ndarray],
    row: int,
    steps: int,
    random: np.random.Generator,
    config: Config,
) -> Continued:
    """A trajectory of the test split, which further policies follow until it is long enough.

    Args:
        simulator: is changed.
        test: as `ensembles.load_test_split` gives it.
        row: of the trajectory.
        steps: that it takes in all; the parts may go further.
        random: draws the policies and their noise.
        config: what policies are drawn from.
    """
    start(simulator, test, row)
    length = int(test["length"][row])
    actions, layout = test["actions"][row, :length].astype(np.float64), STATE_WITH_BLOCK_VELOCITY
    states = [simulator.rollout(actions, layout)]
    parts = [Part(0, length, test["condition"][row], test["targets"][row, :length])]
    while (done := parts[-1].first + parts[-1].steps) < steps:
        std = sample_noise_std(random, config.policies)
        state = states[-1][-1, : STATE.dim]
        policy: DMPParams = sample_policy(random, state, config.policies, config.dmp, std)
        wanted = targets(policy, config.dmp, num_steps(float(policy.duration)))
        noise = random.normal(0.0, std, wanted.shape)
        states.append(simulator.rollout(as_actions(wanted, noise).astype(np.float64), layout))
        parts.append(Part(done, len(wanted), policy.as_vector(), wanted))
    whole = np.concatenate([states[0], *(part[1:] for part in states[1:])])
    return Continued(whole[: steps + 1], tuple(parts))
