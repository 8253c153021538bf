"""How closely a trajectory that is re-entered half way continues as it did before.

    python benchmarks/reentry.py [--trajectories 2000]

A state's seven numbers leave out the block's momentary velocity and the contacts that Chipmunk
keeps from substep to substep. Trajectories are re-entered at random steps and their actions
replayed; the table has quantiles of the block's distance (px) from where it was.
"""

import argparse

import numpy as np

from nsf_pipeline.config import Config
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.rollouts import simulate
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.timing import CONTROL_DT

HORIZONS = (1, 5, 10, 20)
QUANTILES = (0.5, 0.9, 0.99, 1.0)


def main() -> None:
    """Print one table per kind of entry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trajectories", type=int, default=2000)
    options = parser.parse_args()
    config = Config()
    policies = sample_policies(config, 0, options.trajectories)
    rollouts = simulate(config, policies)
    simulator, random = Simulator(), np.random.default_rng(0)
    kinds: dict[str, list[list[float]]] = {
        "block at rest, and not touched later": [],
        "block at rest, touched later": [],
        "block moving": [],
    }
    names = list(kinds)
    agents_same, count = 0, 0
    for row in range(options.trajectories):
        length = int(rollouts["length"][row])
        if length < 3:
            continue
        actions = rollouts["actions"][row, :length].astype(np.float64)
        if policies["from_reset"][row]:
            simulator.reset(int(policies["seed"][row]))
        else:
            simulator.enter(policies["initial_state"][row])
        states = simulator.rollout(actions)
        at = int(random.integers(1, length - 1))
        simulator.enter(states[at])
        again = simulator.rollout(actions[at:])
        moved = (np.diff(states[:, STATE.block], axis=0) != 0.0).any(axis=1)
        kind = names[2] if moved[at - 1] else names[1] if moved[at:].any() else names[0]
        error = np.linalg.norm((again - states[at:])[:, STATE.block_position], axis=1)
        kinds[kind].append([error[h] if h < len(error) else np.nan for h in HORIZONS])
        agents_same += all(
            np.array_equal(again[:, part], states[at:, part])
            for part in (STATE.agent, STATE.velocity)
        )
        count += 1
    print(f"{count} re-entries; the agent's path has the same bits in {agents_same}.\n")
    print(
        "| at entry | entries | after | "
        + " | ".join(f"{q:.0%}" for q in QUANTILES)
        + " | same bits |"
    )
    print("| --- | ---: | ---: |" + " ---: |" * (len(QUANTILES) + 1))
    for kind, rows in kinds.items():
        for column, horizon in zip(np.array(rows).T, HORIZONS, strict=True):
            found = column[~np.isnan(column)]
            quantiles = " | ".join(f"{q:.2g}" for q in np.quantile(found, QUANTILES))
            same = f"{np.mean(found == 0.0):.1%}"
            print(f"| {kind} | {len(found)} | {CONTROL_DT * horizon:g} s | {quantiles} | {same} |")


if __name__ == "__main__":
    main()
