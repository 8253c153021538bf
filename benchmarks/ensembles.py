"""Ensembles that enter the simulator at a state, against those that replay what led there.

    python benchmarks/ensembles.py [--dataset results/dataset.h5] [--states 400] [--members 64]

The table has the fair CRPS of both, from test states with contact and with the same noise; the mean
difference with its standard error; and the milliseconds per ensemble.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from nsf_pipeline.config import Config
from nsf_pipeline.evaluation.ensembles import (
    load_test_split,
    members_of,
    noisy_actions,
    select,
)
from nsf_pipeline.evaluation.metrics import GROUPS, crps
from nsf_pipeline.evaluation.states import gap_of
from nsf_pipeline.pusht.simulator import Simulator


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, default=Path("results/dataset.h5"))
    parser.add_argument("--states", type=int, default=400)
    parser.add_argument("--members", type=int, default=64)
    options = parser.parse_args()
    config = Config()
    sizes = {"num_states": 2 * options.states, "num_members": options.members}
    config = config.model_copy(update={"ensembles": config.ensembles.model_copy(update=sizes)})
    test, simulator = load_test_split(options.dataset), Simulator()
    print("| horizon | group | entered | replayed | difference | ms, entered | replayed |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    for horizon in config.ensembles.horizons:
        chosen, gap = select(simulator, test, config, horizon), gap_of(horizon)
        entered, replayed, truth, seconds = [], [], [], np.zeros(2)
        for place in np.flatnonzero(chosen.contact):
            row, step = int(chosen.row[place]), int(chosen.step[place])
            actions = noisy_actions(test, config, row, step, gap)
            started = time.perf_counter()
            ends = simulator.ensemble(test["states"][row, step], actions)[:, -1]
            entered.append(ends.astype(np.float32))
            between = time.perf_counter()
            replayed.append(members_of(simulator, test, row, step, actions))
            seconds += between - started, time.perf_counter() - between
            truth.append(test["states"][row, step + gap])
        happened = np.array(truth)
        milliseconds = " | ".join(f"{1e3 * s / len(truth):.1f}" for s in seconds)
        for name, group in GROUPS.items():
            one, other = (
                crps(group.of(np.array(draws)), group.of(happened)) for draws in (entered, replayed)
            )
            lost, error = one - other, (one - other).std() / np.sqrt(len(one))
            print(
                f"| {horizon:g} s | {name.replace('_', ' ')} ({group.unit}) | {one.mean():.3f} | "
                f"{other.mean():.3f} | {lost.mean():.3f} ± {error:.3f} | {milliseconds} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
