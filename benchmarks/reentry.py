"""How closely a trajectory that is re-entered half way continues as it did before.

    python benchmarks/reentry.py [--trajectories 2000]

A state's seven numbers leave out the block's momentary velocity, which ten have, and the contacts
that Chipmunk keeps from substep to substep. Trajectories are re-entered at random steps, with both,
and their actions replayed; the table has quantiles of the block's distance (px) from where it was.
"""

import argparse

import numpy as np

from nsf_pipeline.config import Config
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.rollouts import simulate
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE, STATE_WITH_BLOCK_VELOCITY
from nsf_pipeline.timing import CONTROL_DT

HORIZONS = (1, 5, 10, 20)
QUANTILES = (0.5, 0.9, 0.99, 1.0)
LAYOUTS = (STATE, STATE_WITH_BLOCK_VELOCITY)


def main() -> None:
    """Print one table per kind of entry."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trajectories", type=int, default=2000)
    options = parser.parse_args()
    config = Config()
    policies = sample_policies(config, 0, options.trajectories)
    rollouts = simulate(config, policies)
    simulator, random = Simulator(), np.random.default_rng(0)
    kinds: dict[str, list[list[list[float]]]] = {
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
        states = simulator.rollout(actions, STATE_WITH_BLOCK_VELOCITY)
        at = int(random.integers(1, length - 1))
        moved = (np.diff(states[:, STATE.block], axis=0) != 0.0).any(axis=1)
        kind = names[2] if moved[at - 1] else names[1] if moved[at:].any() else names[0]
        errors = []
        for layout in LAYOUTS:
            simulator.enter(states[at, : layout.dim])
            again = simulator.rollout(actions[at:])
            off = (again - states[at:, : STATE.dim])[:, STATE.block_position]
            error = np.linalg.norm(off, axis=1)
            errors.append([error[h] if h < len(error) else np.nan for h in HORIZONS])
            agents_same += all(
                np.array_equal(again[:, part], states[at:, part])
                for part in (STATE.agent, STATE.velocity)
            )
            count += 1
        kinds[kind].append(errors)
    print(f"{count} re-entries; the agent's path has the same bits in {agents_same}.\n")
    print(
        "| at entry | entries | numbers | after | "
        + " | ".join(f"{q:.0%}" for q in QUANTILES)
        + " | same bits |"
    )
    print("| --- | ---: | ---: | ---: |" + " ---: |" * (len(QUANTILES) + 1))
    for kind, rows in kinds.items():
        errors_of = np.moveaxis(np.array(rows), 0, -1)  # by layout and horizon
        for place, horizon in enumerate(HORIZONS):
            for layout, columns in zip(LAYOUTS, errors_of, strict=True):
                found = columns[place][~np.isnan(columns[place])]
                quantiles = " | ".join(f"{q:.2g}" for q in np.quantile(found, QUANTILES))
                same = f"{np.mean(found == 0.0):.1%}"
                where = f"| {kind} | {len(found)} | {layout.dim} | {CONTROL_DT * horizon:g} s"
                print(f"{where} | {quantiles} | {same} |")


if __name__ == "__main__":
    main()
