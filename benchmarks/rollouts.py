"""Rollouts: ours against a plain `gym.make` loop that stores the same fields.

    python benchmarks/rollouts.py [--trajectories 200] [--rounds 7]

Both sides run in one process, by turns, on the same policies with the same noise. Ratios are of the
medians over rounds; the spread stands beside them. The loop is given the DMPs' targets, integrated
as a batch, so it pays for no more than the environment and the bookkeeping.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from nsf_pipeline.config import Config, PolicyConfig
from nsf_pipeline.data import store
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.randomness import Stream, generator
from nsf_pipeline.data.rollouts import CARRIED_OVER, desired_positions, simulate
from nsf_pipeline.pusht import geometry
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE, STATE_WITHOUT_VELOCITY
from nsf_pipeline.timing import CONTROL_DT, num_steps


def gym_loop(config: Config, policies: dict[str, np.ndarray], env: gymnasium.Env) -> dict:
    """A rollout shard's arrays by `env.reset` and `env.step`."""
    count, steps = len(policies["trajectory"]), config.max_steps
    targets = desired_positions(policies["condition"], config)
    arrays = {
        name: np.zeros((count, *shape), kind)
        for name, shape, kind in [
            ("observations", (steps + 1, STATE_WITHOUT_VELOCITY.dim), np.float32),
            ("agent_velocity", (steps + 1, 2), np.float32),
            ("block_angle", (steps + 1,), np.float32),
            ("block_velocity", (steps + 1, 3), np.float32),
            ("targets", (steps, 2), np.float32),
            ("actions", (steps, 2), np.float32),
            ("rewards", (steps,), np.float32),
            ("coverage", (steps,), np.float32),
            ("observation_mask", (steps + 1,), bool),
            ("action_mask", (steps,), bool),
            ("state_times", (steps + 1,), np.float32),
            ("action_times", (steps,), np.float32),
            ("length", (), np.int32),
            ("success", (), bool),
        ]
    }

    inner: Any = env.unwrapped

    def store_state(row: int, t: int, observation: np.ndarray, info: dict) -> None:
        arrays["observations"][row, t] = observation
        arrays["agent_velocity"][row, t] = info["vel_agent"]
        arrays["block_angle"][row, t] = info["block_pose"][2]
        block = inner.block
        arrays["block_velocity"][row, t] = (*block.velocity, block.angular_velocity)
        arrays["observation_mask"][row, t] = True
        arrays["state_times"][row, t] = CONTROL_DT * t

    for row in range(count):
        random = generator(config.seed, int(policies["trajectory"][row]), Stream.ACTION_NOISE)
        length = num_steps(float(policies["duration"][row]))
        noise = random.normal(0.0, policies["action_noise_std"][row], (length, 2))
        actions = np.clip(targets[row, :length] + noise, *geometry.WORKSPACE).astype(np.float32)
        observation, info = env.reset(seed=int(policies["seed"][row]))
        store_state(row, 0, observation, info)
        for t, action in enumerate(actions):
            observation, reward, terminated, _, info = env.step(action)
            store_state(row, t + 1, observation, info)
            arrays["targets"][row, t] = targets[row, t]
            arrays["actions"][row, t] = action
            arrays["rewards"][row, t] = reward
            arrays["coverage"][row, t] = info["coverage"]
            arrays["action_mask"][row, t] = True
            arrays["action_times"][row, t] = CONTROL_DT * t
            arrays["length"][row] = t + 1
            if terminated:
                arrays["success"][row] = True
                break
    return {name: policies[name] for name in CARRIED_OVER} | arrays


def seconds(work: Callable[[], object]) -> float:
    """Wall-clock time of one call."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def alternate(sides: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each side, round by round, every second round in reverse order."""
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        for name in list(sides)[:: -1 if turn % 2 else 1]:
            taken[name].append(seconds(sides[name]))
    return taken


def report(what: str, unit: str, amount: float, taken: dict[str, list[float]]) -> None:
    """Print rates, and how many times as fast the first side is as each."""
    print(f"\n{what}\n\n| | {unit}/s, median (least to most) | ours is faster by |")
    print("| --- | ---: | ---: |")
    ours = statistics.median(next(iter(taken.values())))
    for name, times in taken.items():
        median = statistics.median(times)
        spread = f"{amount / max(times):,.0f} to {amount / min(times):,.0f}"
        print(f"| {name} | {amount / median:,.0f} ({spread}) | {median / ours:.1f}x |")


def shards(config: Config, first: int, count: int) -> None:
    """A process's share of the work: `count` shards of policies, simulated and stored."""
    size = config.shard_size
    with tempfile.TemporaryDirectory() as folder:
        for shard in range(first, first + count):
            policies = sample_policies(config, shard * size, (shard + 1) * size)
            path = Path(folder) / f"{shard}.h5"
            store.write(path, "rollouts", simulate(config, policies), {})


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trajectories", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    # The environment cannot enter a state, so both sides start from resets.
    config = Config(policies=PolicyConfig(mid_task_fraction=0.0), shard_size=500)
    policies = sample_policies(config, 0, options.trajectories)
    env = gymnasium.make("gym_pusht/PushT-v0", obs_type="state", disable_env_checker=True)

    with tempfile.TemporaryDirectory() as folder:
        ours, plain = Path(folder) / "ours.h5", Path(folder) / "plain.h5"
        whole = alternate(
            {
                "ours": lambda: store.write(ours, "rollouts", simulate(config, policies), {}),
                "gym.make loop": lambda: store.write(
                    plain, "rollouts", gym_loop(config, policies, env), {}
                ),
            },
            options.rounds,
        )
        stored = [store.read(path, "rollouts") for path in (ours, plain)]
    for name in store.ROLLOUTS:
        difference = np.abs(stored[0][name].astype(float) - stored[1][name]).max()
        if difference > (1e-6 if name in ("coverage", "rewards") else 0.0):
            raise SystemExit(f"the two sides differ in {name} by {difference:g}")
    report(
        f"Whole trajectories (reset, {stored[0]['length'].mean():.1f} steps on average, coverage, "
        "reward, storing), one core; both sides stored the same numbers",
        "trajectories",
        options.trajectories,
        whole,
    )

    simulator, random = Simulator(), np.random.default_rng(0)
    actions = random.uniform(100.0, 400.0, (40, 25, 2))

    def step_ours() -> None:
        for row, targets in enumerate(actions):
            simulator.reset(row)
            geometry.coverage(simulator.rollout(targets)[1:, STATE.block])

    def step_env(env: gymnasium.Env) -> None:
        for row, targets in enumerate(actions):
            env.reset(seed=row)
            for action in targets:
                env.step(action)

    def resets(reset: Callable[[int], object]) -> float:
        return min(seconds(lambda: [reset(row) for row in range(40)]) for _ in range(5))

    bare = env.unwrapped
    sides = {
        "ours": (step_ours, resets(simulator.reset)),
        "env.step": (lambda: step_env(env), resets(lambda row: env.reset(seed=row))),
        "env.unwrapped.step": (lambda: step_env(bare), resets(lambda row: bare.reset(seed=row))),
    }
    stepping = alternate({name: work for name, (work, _) in sides.items()}, options.rounds)
    report(
        "Control steps alone, coverage included (the time of the resets is taken off)",
        "steps",
        actions[..., 0].size,
        {name: [t - sides[name][1] for t in times] for name, times in stepping.items()},
    )

    # Each process has the same work, so two take as long as one if they do not hinder each other.
    share, together = 4, []
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(shards, [config] * 2, [0, share], [1, 1]))  # imports, and the caches
        for _ in range(options.rounds):
            alone = seconds(lambda: pool.submit(shards, config, 0, share).result())
            both = seconds(lambda: list(pool.map(shards, [config] * 2, [0, share], [share] * 2)))
            together.append(alone / both)
    print(
        f"\nParallel efficiency from 1 to 2 processes (policies, simulation, storing): median "
        f"{statistics.median(together):.2f} ({min(together):.2f} to {max(together):.2f})"
    )


if __name__ == "__main__":
    main()
