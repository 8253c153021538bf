"""Rollouts: a shard's policies run in the simulator, with noise on every action."""

import numpy as np

from nsf_pipeline import dmp
from nsf_pipeline.config import Config
from nsf_pipeline.data.randomness import Stream, generator
from nsf_pipeline.errors import UserError
from nsf_pipeline.pusht import geometry
from nsf_pipeline.pusht.simulator import Simulator, observations
from nsf_pipeline.timing import CONTROL_DT, num_steps


def simulate(config: Config, policies: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a rollout shard for those of a policy shard.

    A trajectory takes the control steps that cover its duration, or ends with the first step after
    which the block covers enough of the goal, as the environment's episodes do.
    """
    count, steps = len(policies["trajectory"]), config.max_steps
    planned = np.array([num_steps(duration) for duration in policies["duration"].tolist()])
    targets = desired_positions(policies["condition"], config)
    states = np.zeros((count, steps + 1, 7))
    actions = np.zeros((count, steps, 2), np.float32)
    simulator = Simulator()
    for row in range(count):
        length = planned[row]
        random = generator(config.seed, int(policies["trajectory"][row]), Stream.ACTION_NOISE)
        noise = random.normal(0.0, config.simulation.action_noise_std, (length, 2))
        # The environment's actions are float32 within its workspace: what is stored replays.
        actions[row, :length] = np.clip(targets[row, :length] + noise, *geometry.WORKSPACE)
        if policies["from_reset"][row]:
            state = simulator.reset(int(policies["seed"][row]))
            if not np.array_equal(state, policies["initial_state"][row]):
                raise UserError(
                    f"trajectory {policies['trajectory'][row]}: env.reset no longer gives its "
                    "policy's initial state, so another version of gym-pusht or pymunk sampled it; "
                    "delete the policy shard and run the workflow again"
                )
        else:
            simulator.enter(policies["initial_state"][row])
        states[row, : length + 1] = simulator.rollout(actions[row, :length].astype(np.float64))
    coverage = geometry.coverage(states[:, 1:, 4:7])
    step = np.arange(steps)
    succeeds = (coverage > geometry.SUCCESS_THRESHOLD) & (step < planned[:, None])
    success = np.any(succeeds, axis=1)
    length = np.where(success, succeeds.argmax(axis=1) + 1, planned)
    taken = step < length[:, None]
    reached = np.arange(steps + 1) <= length[:, None]

    def padded(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
        return np.where(mask.reshape(mask.shape + (1,) * (values.ndim - 2)), values, 0)

    return {
        **{name: policies[name] for name in CARRIED_OVER},
        "observations": padded(observations(states), reached),
        "agent_velocity": padded(states[:, :, 2:4], reached),
        "block_angle": padded(states[:, :, 6], reached),
        "targets": padded(targets, taken),
        "actions": padded(actions, taken),
        "rewards": padded(geometry.reward(coverage), taken),
        "coverage": padded(coverage, taken),
        "observation_mask": reached,
        "action_mask": taken,
        "state_times": padded(CONTROL_DT * np.arange(steps + 1)[None], reached),
        "action_times": padded(CONTROL_DT * step[None], taken),
        "length": length,
        "success": success,
    }


CARRIED_OVER = ("trajectory", "seed", "initial_state", "from_reset", "condition")


def desired_positions(condition: np.ndarray, config: Config) -> np.ndarray:
    """(n, T, 2) px: each step's target is where the DMP wants to be when the step ends."""
    times = CONTROL_DT * np.arange(1, config.max_steps + 1)
    path = dmp.integrate(dmp.DMPParams.from_vector(condition), config.dmp)
    return dmp.evaluate(path, np.broadcast_to(times, (len(condition), len(times))), config.dmp)
