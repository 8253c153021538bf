"""What planners and models cost, and how many episodes they solve, side by side.

    python -m benchmarks.planning --model results/model.eqx [--episodes 40] [--planner contact]
        [--action-noise-std 8] [--coverage 0.95] [--world flow_4 --world nominal]
        [--candidates 300 --rounds 4]

Episodes start at gym-pusht's resets of seeds from 1000000 on, which the tables of planning do not
use, and are run by the fast simulator, whose states are those of gym-pusht. Planning is done for
all of them side by side. Times are CPU time of all threads, without compilation: the first plan is
made before the clock starts. `cem` with the simulator takes about 10 s an episode.
"""

import argparse
import time
from typing import NamedTuple

import jax
import numpy as np

from nsf_pipeline.config import CEMConfig, DMPConfig, SearchConfig
from nsf_pipeline.model import PushTModel, load_model
from nsf_pipeline.planning import (
    Goal,
    InSteps,
    Noiseless,
    Nominal,
    OnePass,
    Plan,
    Simulated,
    WorldModel,
    plan_batch,
)
from nsf_pipeline.pusht import geometry
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE

FIRST_SEED, STEPS = 1_000_000, 300
WORLDS = ("nominal", "flow_mean", "flow_4", "flow_16", "simulator_0")


class Outcome(NamedTuple):
    """What came of one row's episodes."""

    solved: np.ndarray
    steps: np.ndarray
    pushes: int
    seconds: float
    queries: int


def world(name: str, model: PushTModel | None, dmp: DMPConfig) -> WorldModel:
    """The world model of a name."""
    kind, _, count = name.partition("_")
    if kind == "nominal":
        return Nominal(dmp)
    if kind == "simulator":
        return Simulated(dmp, int(count))
    if model is None:
        raise SystemExit(f"--world {name} needs --model")
    if count == "mean":
        return Noiseless(model)
    return InSteps(model, int(count[6:])) if "steps" in count else OnePass(model, int(count))


def play(
    model: WorldModel, config: SearchConfig, goal: Goal, noise: float, first: int, episodes: int
) -> Outcome:
    """Run episodes to success, or to their last step."""
    simulators = [Simulator() for _ in range(episodes)]
    states = np.stack([s.reset(first + row) for row, s in enumerate(simulators)])
    randoms = [np.random.default_rng([1, first + row]) for row in range(episodes)]
    used, solved = np.zeros(episodes, int), np.zeros(episodes, bool)
    pushes, queries, seconds = 0, 0, 0.0

    def plans_of(rows: np.ndarray, number: int) -> list[Plan]:
        keys = [jax.random.fold_in(jax.random.key(first + row), number) for row in rows]
        return plan_batch(
            model, states[rows], goals=goal, keys=keys, config=config, action_noise_std=noise
        )

    plans_of(np.arange(1), 0)
    for number in range(STEPS):
        rows = np.flatnonzero(~solved & (used < STEPS))
        if not rows.size:
            break
        started = time.process_time()
        plans = plans_of(rows, number)
        seconds += time.process_time() - started
        for row, plan in zip(rows, plans, strict=True):
            targets = plan.push.targets(model.dmp)[: STEPS - used[row]]
            noisy = targets + randoms[row].normal(0.0, noise, targets.shape)
            actions = np.clip(noisy, *geometry.WORKSPACE).astype(np.float32)
            path = simulators[row].rollout(actions)
            covered = geometry.coverage(path[1:, STATE.block]) > goal.coverage
            solved[row] = covered.any()
            used[row] += covered.argmax() + 1 if solved[row] else len(targets)
            states[row] = path[-1]
            queries += plan.queries
        pushes += len(rows)
    return Outcome(solved, used, pushes, seconds, queries)


def main() -> None:
    """Print a table with a row for each planner and model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", help="a model's file; without it, only models without learning")
    parser.add_argument("--episodes", type=int, default=20)
    parser.add_argument("--first", type=int, default=FIRST_SEED, help="seed of the first reset")
    parser.add_argument("--planner", action="append", choices=["cem", "contact"])
    parser.add_argument("--world", action="append", help=f"among {', '.join(WORLDS)} and others")
    parser.add_argument("--action-noise-std", type=float, default=0.0, help="px")
    parser.add_argument("--coverage", type=float, default=geometry.SUCCESS_THRESHOLD)
    budget = CEMConfig()
    parser.add_argument("--candidates", type=int, default=budget.candidates, help="of cem, a round")
    parser.add_argument("--rounds", type=int, default=budget.rounds, help="of cem")
    options = parser.parse_args()
    budget = CEMConfig(
        candidates=options.candidates,
        rounds=options.rounds,
        elites=min(budget.elites, options.candidates),
    )
    trained = load_model(options.model) if options.model else None
    dmp = trained.encoder.dmp if trained else DMPConfig()
    names = options.world or [n for n in WORLDS if trained or not n.startswith("flow")]
    print(f"{options.action_noise_std:g} px of noise, coverage above {options.coverage:g}\n")
    print(
        "| planner | model | solved | steps, median | pushes | s an episode | s a plan "
        "| queries an episode | queries/s |"
    )
    print(f"| --- | --- |{' ---: |' * 7}")
    for planner in options.planner or ["cem", "contact"]:
        for name in names:
            found = play(
                world(name, trained, dmp),
                SearchConfig(planner=planner, cem=budget),
                Goal(coverage=options.coverage),
                options.action_noise_std,
                options.first,
                options.episodes,
            )
            steps = np.median(found.steps[found.solved]) if found.solved.any() else np.nan
            cells = (
                f"{found.solved.sum()}/{options.episodes}",
                f"{steps:.0f}",
                f"{found.pushes / options.episodes:.1f}",
                f"{found.seconds / options.episodes:.2f}",
                f"{found.seconds / found.pushes:.3f}",
                f"{found.queries / options.episodes:.0f}",
                f"{found.queries / found.seconds:.0f}",
            )
            print(f"| {planner} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
