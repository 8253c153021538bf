"""Ensembles that enter the simulator at a state, against those that replay what led there.

    python benchmarks/ensembles.py [--dataset results/dataset.h5] [--states 400] [--members 64]

The table has the fair CRPS of both, from test states with contact and with the same noise. Entered
are the seven numbers of a state, or ten, with the block's velocity. Beside them stand the mean
difference from the replayed ensembles with its standard error, and the milliseconds per ensemble.
"""

import argparse
import time
from pathlib import Path

import numpy as np

from nsf_pipeline.config import Config
from nsf_pipeline.evaluation.ensembles import (
    load_test_split,
    members_from,
    members_of,
    noisy_actions,
    select,
)
from nsf_pipeline.evaluation.metrics import GROUPS, crps
from nsf_pipeline.evaluation.states import gap_of
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE, STATE_WITH_BLOCK_VELOCITY


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", type=Path, default=Path("results/dataset.h5"))
    parser.add_argument("--states", type=int, default=400)
    parser.add_argument("--members", type=int, default=64)
    parser.add_argument("--horizons", type=float, nargs="+", default=Config().ensembles.horizons)
    options = parser.parse_args()
    config = Config()
    sizes = {"num_states": 2 * options.states, "num_members": options.members}
    config = config.model_copy(update={"ensembles": config.ensembles.model_copy(update=sizes)})
    test, simulator = load_test_split(options.dataset), Simulator()
    print(
        "| horizon | group | numbers | entered | replayed | difference | ms, entered | replayed |"
    )
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    layouts = (STATE, STATE_WITH_BLOCK_VELOCITY)
    for horizon in options.horizons:
        chosen, gap = select(simulator, test, config, horizon), gap_of(horizon)
        places = np.flatnonzero(chosen.contact)
        found: list[list[np.ndarray]] = [[], [], []]
        seconds = np.zeros(3)
        for place in places:
            row, step = int(chosen.row[place]), int(chosen.step[place])
            actions = noisy_actions(test, config, row, step, gap)
            for which, layout in enumerate((*layouts, None)):
                started = time.perf_counter()
                found[which].append(
                    members_of(simulator, test, row, step, actions)
                    if layout is None
                    else members_from(simulator, test, row, step, actions, layout)
                )
                seconds[which] += time.perf_counter() - started
        happened = test["states"][chosen.row[places], chosen.step[places] + gap]
        times = [f"{1e3 * s / len(places):.1f}" for s in seconds]
        for name, group in GROUPS.items():
            *entered, replayed = (
                crps(group.of(np.array(draws)), group.of(happened)) for draws in found
            )
            for layout, one, taken in zip(layouts, entered, times, strict=False):
                lost, error = one - replayed, (one - replayed).std() / np.sqrt(len(one))
                print(
                    f"| {horizon:g} s | {name.replace('_', ' ')} ({group.unit}) | {layout.dim} | "
                    f"{one.mean():.3f} | {replayed.mean():.3f} | {lost.mean():.3f} ± {error:.3f} | "
                    f"{taken} | {times[-1]} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
