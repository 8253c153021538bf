"""The effect of shorter steps in the neural SDE's solver.

    python benchmarks/solver.py [--results results] [--states 400]

The trained model computes its coefficients once per control step. Here they are computed at every
step of a solver with steps as long, half as long and a quarter as long. The table has the CRPS.
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from nsf_pipeline import load_model
from nsf_pipeline.config import load_config
from nsf_pipeline.evaluation.metrics import GROUPS, crps
from nsf_pipeline.evaluation.predictors import OnePass
from nsf_pipeline.evaluation.states import States, load_ensembles
from nsf_pipeline.model import neural_sde

SHARES = (1, 2, 4)


def main() -> None:
    """Print a table of CRPS by horizon and step, with paired differences from the first."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="config.yaml")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--states", type=int, default=400)
    options = parser.parse_args()
    config = load_config(options.config)
    model = load_model(options.results / "variants/neural_sde/model.eqx")
    found = load_ensembles(options.results / "ensembles", config)
    print(
        "| horizon (s) | step (s) | "
        + " | ".join(GROUPS)
        + " |\n| ---: | ---: | ---: | ---: | ---: |"
    )
    whole = neural_sde.STEP
    for horizon, ensemble in found.items():
        rows = np.random.default_rng(0).permutation(len(ensemble.states))[: options.states]
        states = States(*(values[rows] for values in ensemble.states))
        first: dict[str, np.ndarray] = {}
        for share in SHARES:
            neural_sde.STEP = whole / share
            jax.clear_caches()  # the step is a constant of what is compiled
            draws = OnePass("neural_sde", model)(states, 64, key=jax.random.key(0)).draws
            shown = []
            for name, group in GROUPS.items():
                scores = crps(group.of(draws), group.of(states.x_final))
                difference = scores - first.setdefault(name, scores)
                error = difference.std() / len(scores) ** 0.5
                shown.append(f"{scores.mean():.3g} ({difference.mean():+.2g} ± {error:.1g})")
            print(f"| {horizon:g} | {neural_sde.STEP:g} | {' | '.join(shown)} |", flush=True)
    neural_sde.STEP = whole


if __name__ == "__main__":
    main()
