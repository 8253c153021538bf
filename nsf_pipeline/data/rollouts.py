"""Rollouts: a shard's policies run in the simulator, with noise on every action."""

from collections.abc import Mapping

import numpy as np

from nsf_pipeline import dmp
from nsf_pipeline.config import Config
from nsf_pipeline.data.actions import executed
from nsf_pipeline.data.randomness import Stream, generator
from nsf_pipeline.data.scenes import FACTORS, in_row
from nsf_pipeline.data.simulators import Simulators
from nsf_pipeline.errors import UserError
from nsf_pipeline.pusht import geometry
from nsf_pipeline.pusht.factors import Factors
from nsf_pipeline.pusht.simulator import Simulator, observations
from nsf_pipeline.pusht.state import STATE, STATE_WITH_BLOCK_VELOCITY
from nsf_pipeline.timing import CONTROL_DT, num_steps

CARRIED_OVER = (
    "trajectory",
    "seed",
    "initial_state",
    "from_reset",
    "action_noise_std",
    "condition",
)


def simulate(config: Config, policies: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a rollout shard, simulated from those of a policy shard.

    A trajectory has as many control steps as cover its policy's duration. Like an episode of the
    environment, it ends earlier if the block covers enough of the goal after a step.
    """
    planned = np.array([num_steps(duration) for duration in policies["duration"].tolist()])
    targets = desired_positions(policies["condition"], config)
    longest = num_steps(config.policies.duration[1])
    actions = np.zeros((len(planned), longest, 2), np.float32)
    for row, length in enumerate(planned):
        random = generator(config.seed, int(policies["trajectory"][row]), Stream.ACTION_NOISE)
        std = float(policies["action_noise_std"][row])
        actions[row, :length] = executed(targets[row, :length], std, 1, random)[0]
    return replayed(policies, targets, actions, planned)


def replayed(
    policies: Mapping[str, np.ndarray],
    targets: np.ndarray,
    actions: np.ndarray,
    planned: np.ndarray,
) -> dict[str, np.ndarray]:
    """The arrays of a rollout shard, simulated from those of a policy shard by given actions.

    Args:
        policies: arrays of a policy shard.
        targets: (n, T, 2) px, the policies' desired positions.
        actions: (n, T, 2) float32 px.
        planned: (n) steps that are taken without a success, at most T.

    Raises:
        UserError: a reset no longer gives the initial state that a policy names.
    """
    longest = actions.shape[1]
    states = states_of(policies, actions, planned)
    first = states[:, 0, : STATE.dim]
    differs = policies["from_reset"] & (first != policies["initial_state"]).any(axis=1)
    if differs.any():
        raise UserError(
            f"trajectory {policies['trajectory'][differs.argmax()]}: env.reset no longer gives its "
            "policy's initial state, so another version of gym-pusht or pymunk sampled it; "
            "delete the policy shard and run the workflow again"
        )
    outcome = outcome_of(states, planned, policies.get(FACTORS))
    reached, taken = outcome["observation_mask"], outcome["action_mask"]
    times = CONTROL_DT * np.arange(longest + 1)[None]
    return {
        **{name: policies[name] for name in (*CARRIED_OVER, FACTORS) if name in policies},
        **outcome,
        "targets": _padded(targets, taken),
        "actions": _padded(actions, taken),
        "state_times": _padded(times, reached),
        "action_times": _padded(times[:, :-1], taken),
    }


def states_of(
    starts: Mapping[str, np.ndarray], actions: np.ndarray, length: np.ndarray
) -> np.ndarray:
    """States simulated from starts and actions.

    Args:
        starts: `seed`, `initial_state` and `from_reset`, as a policy shard holds them, and
            `factors` if it has them.
        actions: (n, T, 2) px.
        length: (n) steps to take, at most T.

    Returns:
        (n, T+1, 10) float64 as `STATE_WITH_BLOCK_VELOCITY`: px, px/s, rad, rad/s; 0 past the
        length.
    """
    layout = STATE_WITH_BLOCK_VELOCITY
    states = np.zeros((len(length), actions.shape[1] + 1, layout.dim))
    simulators = Simulators()
    for row, steps in enumerate(length):
        simulator = simulators.of(in_row(starts, row))
        start(simulator, starts, row)
        own = actions[row, :steps].astype(np.float64)
        states[row, : steps + 1] = simulator.rollout(own, layout)
    return states


def start(simulator: Simulator, starts: Mapping[str, np.ndarray], row: int) -> None:
    """Put a simulator into a trajectory's first state, by a reset or by entering the state.

    Args:
        simulator: the simulator of the trajectory's scene, which is changed.
        starts: as for `states_of`.
        row: the trajectory's row in `starts`.
    """
    if starts["from_reset"][row]:
        simulator.reset(int(starts["seed"][row]))
    else:
        simulator.enter(starts["initial_state"][row])


def outcome_of(
    states: np.ndarray, planned: np.ndarray, factors: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The arrays of a rollout shard that follow from the states, cut after a success.

    Args:
        states: (n, T+1, 10), as `states_of` gives them.
        planned: (n) steps that are taken without a success.
        factors: (n, 7) packed, of the scenes; None where they are gym-pusht's.
    """
    poses = states[:, 1:, STATE.block]
    if factors is None:
        coverage = geometry.coverage(poses)
    else:
        each = [Factors.from_vector(row) for row in factors]
        shares = (
            geometry.coverage(path, own.goal, own.block_scale)
            for path, own in zip(poses, each, strict=True)
        )
        coverage = np.array(list(shares)).reshape(poses.shape[:-1])
    steps = np.arange(coverage.shape[1])
    succeeds = (coverage > geometry.SUCCESS_THRESHOLD) & (steps < planned[:, None])
    success = np.any(succeeds, axis=1)
    length = np.where(success, succeeds.argmax(axis=1) + 1, planned)
    taken = steps < length[:, None]
    reached = np.arange(states.shape[1]) <= length[:, None]
    return {
        "observations": _padded(observations(states[..., : STATE.dim]), reached),
        "agent_velocity": _padded(states[..., STATE.velocity], reached),
        "block_angle": _padded(states[..., STATE.angle], reached),
        "block_velocity": _padded(states[..., STATE.dim :], reached),
        "rewards": _padded(geometry.reward(coverage), taken),
        "coverage": _padded(coverage, taken),
        "observation_mask": reached,
        "action_mask": taken,
        "length": length,
        "success": success,
    }


def desired_positions(condition: np.ndarray, config: Config) -> np.ndarray:
    """(n, T, 2) px: each step's target is where the DMP wants to be when the step ends."""
    params = dmp.DMPParams.from_vector(condition)
    return dmp.targets(params, config.dmp, num_steps(config.policies.duration[1]))


def _padded(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The values (n, time, ...), and 0 outside the mask (n, time)."""
    return np.where(mask.reshape(mask.shape + (1,) * (values.ndim - 2)), values, 0)
