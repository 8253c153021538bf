"""Steps a second of Gymnasium environments, and how close the learned ones come to the simulator.

    python -m benchmarks.environments [--model results/model.eqx] [--rounds 5]

All sides take turns in one run, each with the same random targets, with episodes that end and
begin; a step is a control step of 0.1 s. Ratios are of the medians over rounds, to gym-pusht's own
environment from `gymnasium.make`.
Without a model, an untrained one of the default size is timed, and nothing is said of accuracy.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from benchmarks.first_use import untrained
from nsf_pipeline.envs import LEARNED_PUSHT, PUSHT
from nsf_pipeline.learned_envs.dynamics import GREATEST, LEAST
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE

GYM_PUSHT = "gym_pusht:gym_pusht/PushT-v0"
TARGETS = (100.0, 400.0)
"""px; the agent's targets are uniform between these."""
ENVS, STEPS = 256, 100
"""Environments and steps by which accuracy is measured."""
SPEED = 25.0
"""px; in the pushes, targets move by so much a step."""
SHOWN = (1, 10, 50, 100)


def one(env: gymnasium.Env, steps: int) -> Callable[[], int]:
    """Steps of one environment; the function returns how many."""
    random = np.random.default_rng(0)
    targets = random.uniform(*TARGETS, (steps, 2)).astype(np.float32)
    env.reset(seed=0)

    def run() -> int:
        for target in targets:
            _, _, ended, cut, _ = env.step(target)
            if ended or cut:
                env.reset()
        return steps

    return run


def many(env: gymnasium.vector.VectorEnv, steps: int) -> Callable[[], int]:
    """Steps of many environments; the function returns how many of all together."""
    random = np.random.default_rng(0)
    space: Any = env.single_action_space
    low, high = TARGETS if space.shape == (2,) else (space.low, space.high)
    shape = (steps, env.num_envs, *space.shape)
    actions = random.uniform(low, high, shape).astype(np.float32)
    env.reset(seed=0)

    def run() -> int:
        count = 0
        for each in actions:
            *_, info = env.step(each)
            count += int(info["control_steps"].sum()) if "control_steps" in info else env.num_envs
        return count

    return run


def sides(model: Path) -> dict[str, Callable[[], int]]:
    """What is timed, by name; the first is what the others are compared with."""
    cores = len(os.sched_getaffinity(0))

    def sync(name: str, count: int, steps: int) -> Callable[[], int]:
        return many(gymnasium.make_vec(name, count, "sync"), steps)

    def parallel(name: str, count: int, steps: int) -> Callable[[], int]:
        context = {"context": "spawn"}  # JAX has threads
        return many(gymnasium.make_vec(name, count, "async", vector_kwargs=context), steps)

    def own(name: str, count: int, steps: int, **settings: Any) -> Callable[[], int]:
        return many(gymnasium.make_vec(name, count, **settings), steps)

    learned: dict[str, Any] = {"model": str(model)}
    return {
        "gym-pusht, `make`": one(gymnasium.make(GYM_PUSHT), 300),
        "gym-pusht, `SyncVectorEnv` of 8": sync(GYM_PUSHT, 8, 40),
        f"gym-pusht, `AsyncVectorEnv` of {cores}": parallel(GYM_PUSHT, cores, 150),
        "PushT, `make`": one(gymnasium.make(PUSHT), 2000),
        "PushT, `SyncVectorEnv` of 8": sync(PUSHT, 8, 200),
        f"PushT, `AsyncVectorEnv` of {cores}": parallel(PUSHT, cores, 500),
        "PushT, `make_vec` of 8": own(PUSHT, 8, 300),
        "PushT, `make_vec` of 64": own(PUSHT, 64, 80),
        "PushT, `make_vec` of 1024": own(PUSHT, 1024, 8),
        "LearnedPushT, `make`": one(gymnasium.make(LEARNED_PUSHT, **learned), 100),
        "LearnedPushT, `make_vec` of 64": own(LEARNED_PUSHT, 64, 20, **learned),
        "LearnedPushT, `make_vec` of 1024": own(LEARNED_PUSHT, 1024, 5, **learned),
        'LearnedPushT, `mode="policy"`, `make_vec` of 1024': own(
            LEARNED_PUSHT, 1024, 5, mode="policy", **learned
        ),
    }


def speed(model: Path, rounds: int) -> None:
    """Print a table of steps a second."""
    timed = sides(model)
    for run in timed.values():
        run()  # compiles
    rates: dict[str, list[float]] = {name: [] for name in timed}
    for turn in range(rounds):
        for name in list(timed)[:: -1 if turn % 2 else 1]:
            started = time.perf_counter()
            count = timed[name]()
            rates[name].append(count / (time.perf_counter() - started))
    usual = statistics.median(next(iter(rates.values())))
    print("\n| environment | steps/s, median (least to most) | times gym-pusht's |")
    print("| --- | ---: | ---: |")
    for name, found in rates.items():
        median = statistics.median(found)
        print(
            f"| {name} | {median:,.0f} ({min(found):,.0f} to {max(found):,.0f}) "
            f"| {median / usual:.1f} |"
        )


def pushes(states: np.ndarray) -> np.ndarray:
    """(STEPS, n, 2) px: targets that go through the block and on to anywhere, by turns."""
    random = np.random.default_rng(0)
    onward = random.uniform(60.0, 450.0, (STEPS // 20 + 1, len(states), 2))
    target, targets = states[:, STATE.agent].copy(), []
    for step in range(STEPS):
        leg = step // 20
        to_block = ((np.arange(len(states)) + leg) % 2 == 0)[:, None]
        way = np.where(to_block, states[:, STATE.block_position], onward[leg]) - target
        length = np.linalg.norm(way, axis=1, keepdims=True)
        target = (target + way * np.minimum(1.0, SPEED / np.maximum(length, 1e-9))).clip(25, 487)
        targets.append(target)
    return np.array(targets)


def accuracy(model: Path) -> None:
    """Print how far the learned environment is from the simulator's, without noise."""
    # No episode ends: the goal is out of reach.
    settings: dict[str, Any] = {"max_episode_steps": -1, "goal_pose": (0.0, 0.0, 0.0)}
    learned: Any = gymnasium.make_vec(LEARNED_PUSHT, ENVS, model=str(model), **settings)
    simulator, random = Simulator(), np.random.default_rng(0)
    starts = np.array([simulator.reset(seed) for seed in range(ENVS)])
    kinds = {"pushes": pushes(starts), "uniform": random.uniform(25, 487, (STEPS, ENVS, 2))}
    for name, actions in kinds.items():
        paths = []
        for row in range(ENVS):
            simulator.reset(row)
            paths.append(simulator.rollout(actions[:, row]))
        true = np.array(paths).swapaxes(0, 1)  # (STEPS + 1, ENVS, 7)
        print(f"\n{name}: {ENVS} episodes of {STEPS} steps\n")
        print("| one step | agent, px | block where it moved, px | its angle, rad | at rest, px |")
        print("| --- | ---: | ---: | ---: | ---: |")
        found = []
        for before, each in zip(true[:-1], actions, strict=True):
            learned.reset(options={"state": before})
            learned.step(each)
            found.append(learned.states.copy())
        agent, block, angle = distances(np.array(found), true[1:])
        moved = (true[1:, :, STATE.block] != true[:-1, :, STATE.block]).any(axis=-1)
        numbers = agent, block[moved], angle[moved], block[~moved]
        for what, of in (("median", np.median), ("mean", np.mean)):
            print(f"| {what} | " + " | ".join(f"{of(each):.3f}" for each in numbers) + " |")
        way = np.linalg.norm(np.diff(true[..., STATE.block_position], axis=0), axis=-1)
        print(f"\nThe block moved in {moved.mean():.0%} of the steps, {way[moved].mean():.2f} px.")
        print("\n| after | agent, median px | block, median px | block, mean px |")
        print("| --- | ---: | ---: | ---: |")
        learned.reset(seed=0, options={"state": starts})
        for step, each in enumerate(actions, 1):
            learned.step(each)
            if step in SHOWN:
                agent, block, _ = distances(learned.states, true[step])
                shown = np.median(agent), np.median(block), block.mean()
                cells = " | ".join(f"{number:.2f}" for number in shown)
                print(f"| {step} steps | {cells} |")


def outside(model: Path) -> None:
    """Print how many draws are brought back to the window, with uniform actions."""
    for mode, steps in (("step", 100), ("policy", 20)):
        envs: Any = gymnasium.make_vec(
            LEARNED_PUSHT, ENVS, model=str(model), mode=mode, max_episode_steps=-1
        )
        envs.reset(seed=0)
        space, random, count = envs.single_action_space, np.random.default_rng(0), 0
        for _ in range(steps):
            envs.step(random.uniform(space.low, space.high, (ENVS, *space.shape)))
            count += int(((envs.states <= LEAST) | (envs.states >= GREATEST)).any(axis=1).sum())
        print(f"\n{mode}: {count} of {steps * ENVS} draws were brought back to the window")


def distances(states: np.ndarray, true: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of agents (px), blocks (px) and their angles (rad), for states (..., 7)."""
    parts = STATE.agent, STATE.block_position, STATE.block_angle
    agent, block, angle = (
        np.linalg.norm(states[..., part] - true[..., part], axis=-1) for part in parts
    )
    return agent, block, angle


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds: expected at least 1, got {options.rounds}")
    if options.model and not options.model.is_file():
        parser.error(f"--model: {options.model} is no file")
    with tempfile.TemporaryDirectory() as folder:
        path = options.model or Path(folder, "model.eqx")
        if not options.model:
            untrained(path)
        speed(path, options.rounds)
        if options.model:
            accuracy(path)
            outside(path)


if __name__ == "__main__":
    main()
