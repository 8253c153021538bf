"""The effect of single settings: each is changed alone, and the model trained briefly and scored.

    snakemake --cores 2                                 # the data set and the ensembles
    python -m benchmarks.tuning [--results results] [--steps 4000] [--seeds 1] [NAME ...]

Short trainings rank settings; they do not show what long ones reach. The validation loss uses the
default gaps and blur for all settings, so that it can be compared; that of `no rest` alone cannot,
since a density at rest has other units.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from nsf_pipeline.config import Config
from nsf_pipeline.data.merge import TRAIN, VALIDATION
from nsf_pipeline.data.transitions import Trajectories, Transitions, load_trajectories
from nsf_pipeline.evaluation import consistency
from nsf_pipeline.evaluation.metrics import GROUPS, crps
from nsf_pipeline.evaluation.predictors import OnePass
from nsf_pipeline.evaluation.states import Ensembles, load_ensembles, typical_changes
from nsf_pipeline.model import PushTModel, build_model, fit_normaliser
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.timing import CONTROL_DT
from nsf_pipeline.training import fit

HORIZONS = (0.1, 0.5, 1.0, 2.0)
CHANGES: dict[str, dict[str, Any]] = {
    "default": {},
    "no consistency losses": {"training": {"one_to_two_weight": 0, "two_to_one_weight": 0}},
    "consistency on 1/16": {"training": {"consistency_fraction": 1 / 16}},
    "consistency on 1/64": {"training": {"consistency_fraction": 1 / 64}},
    "consistency weights 1": {"training": {"one_to_two_weight": 1.0, "two_to_one_weight": 1.0}},
    "consistency weights 0.1": {"training": {"one_to_two_weight": 0.1, "two_to_one_weight": 0.1}},
    "consistency weights 0.01": {
        "training": {"one_to_two_weight": 0.01, "two_to_one_weight": 0.01}
    },
    "rate 0.001": {"training": {"learning_rate": 0.001}},
    "rate 0.002": {"training": {"learning_rate": 0.002}},
    "rate 0.008": {"training": {"learning_rate": 0.008}},
    "batch 256": {"training": {"batch_size": 256}},
    "batch 1024": {"training": {"batch_size": 1024}},
    "width 64": {"model": {"flow": {"hidden_size": 64}}},
    "width 256": {"model": {"flow": {"hidden_size": 256}}},
    "depth 3": {"model": {"flow": {"depth": 3}}},
    "6 couplings": {"model": {"flow": {"num_flow_layers": 6}}},
    "6 affine couplings": {"model": {"flow": {"num_flow_layers": 6, "coupling": "affine"}}},
    "4 bins": {"model": {"flow": {"num_bins": 4}}},
    "12 path points": {"model": {"path_points": 12}},
    "48 path points": {"model": {"path_points": 48}},
    "gaps to 2 s": {"training": {"max_gap": 2.0}},
    "clipped at 1.5 times the running norm": {"training": {"clip_ratio": 1.5}},
    "no rest": {"model": {"rest": False}},
    "distillation 0.1": {
        "training": {"one_to_two_weight": 0, "two_to_one_weight": 0, "distillation_weight": 0.1}
    },
    "blur 0.05": {"training": {"block_blur": 0.05}},
    "blur 0.25": {"training": {"block_blur": 0.25}},
    "blur 0.5": {"training": {"block_blur": 0.5}},
}
CURRICULUM = "short gaps first"
"""A quarter of the steps on gaps up to 0.9 s, then the rest as usual."""
CHANGES[CURRICULUM] = {}


def config_of(change: dict[str, Any], steps: int, seed: int) -> Config:
    """The default settings with one change, trained for so many steps."""
    settings = {"seed": seed, **change}
    brief = {"steps": steps, "validate_every": max(1, steps // 8), "warmup_steps": steps // 20}
    settings["training"] = {**brief, **change.get("training", {})}
    return Config.model_validate_json(json.dumps(settings))


def warmed_up(
    flow: Any, bridge: Any, trajectories: Trajectories, config: Config, *, key: Any
) -> tuple[Any, Any, Config]:
    """Flow and bridge after a quarter of the steps on short gaps, and settings for the rest."""
    settings, steps = config.training, config.training.steps // 4
    short = {"steps": steps, "validate_every": steps, "final_learning_rate": 1.0}
    source = Transitions.build(
        trajectories, 0.9, block_blur=settings.block_blur, keeps_rest=config.model.knows_rest
    )
    brief = settings.model_copy(update=short)
    flow, bridge, _ = fit(flow, bridge, source, brief, key=key, time_step=CONTROL_DT)
    rest = settings.model_copy(update={"steps": settings.steps - steps})
    return flow, bridge, config.model_copy(update={"training": rest})


def steps_apart(model: PushTModel, ensemble: Ensembles, change: np.ndarray) -> float:
    """Energy distance between poses 1 s ahead drawn in one step and in ten."""
    rows = consistency.measure("flow", model, 1.0, ensemble, change, 0, key=jax.random.key(0))
    table = consistency.as_table(rows)
    of = (table["steps"] == 10) & (table["group"] == "pose") & (table["contact"] == "all")
    return float(table[of]["energy_distance"].iloc[0])


def main() -> None:
    """Print a row of a Markdown table for each change and seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CHANGES)} (all)")
    parser.add_argument("--results", type=Path, default=Path("results"))
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    if unknown := {*options.names} - {*CHANGES}:
        parser.error(f"expected some of {', '.join(CHANGES)}, got {', '.join(sorted(unknown))}")
    usual = Config()
    found = load_ensembles(options.results / "ensembles", usual)
    changes = typical_changes(options.results / "dataset.h5", found)
    splits = [
        load_trajectories(options.results / "dataset.h5", split, STATE.dim)
        for split in (TRAIN, VALIDATION)
    ]
    blur = usual.training.block_blur
    held_out = Transitions.build(
        splits[1], usual.training.max_gap, block_blur=blur, keeps_rest=usual.model.knows_rest
    )
    heads = " | ".join(f"block CRPS {horizon:g} s (px)" for horizon in HORIZONS)
    print(f"| changed | seed | validation NLL | NLL {HORIZONS[0]:g} s | {heads} | 1 from 10 | s |")
    print(f"| --- | ---: | ---: | ---: |{' ---: |' * len(HORIZONS)} ---: | ---: |")
    for name in options.names or CHANGES:
        for seed in range(options.seeds):
            config = config_of(CHANGES[name], options.steps, seed)
            started = time.monotonic()
            training = Transitions.build(
                splits[0],
                config.training.max_gap,
                block_blur=config.training.block_blur,
                keeps_rest=config.model.knows_rest,
            )
            keys = jax.random.split(jax.random.key(seed), 3)
            normaliser = fit_normaliser(config.model, config.dmp, training.sample(keys[0], 65_536))
            model = build_model(config.model, config.dmp, normaliser, key=keys[1])
            flow, bridge = model.transition, model.bridge
            if name == CURRICULUM:
                flow, bridge, config = warmed_up(flow, bridge, splits[0], config, key=keys[2])
            flow, bridge, history = fit(
                flow,
                bridge,
                training,
                config.training,
                key=keys[2],
                time_step=CONTROL_DT,
                validation=held_out,
            )
            seconds = time.monotonic() - started
            model = PushTModel(flow, bridge)
            predict = OnePass("flow", model)
            scores, densities = [], []
            for horizon in HORIZONS:
                states, weight = found[horizon].states, found[horizon].weight
                predicted = predict(states, 64, key=jax.random.key(0))
                error = crps(*map(GROUPS["block_position"].of, (predicted.draws, states.x_final)))
                scores.append(np.average(error, weights=weight))
                assert predicted.log_density is not None
                densities.append(np.average(predicted.log_density, weights=weight))
            best = min(row["validation_nll"] for row in history)
            cells = " | ".join(f"{value:.2f}" for value in scores)
            apart = steps_apart(model, found[1.0], changes[1.0])
            row = [name, seed, f"{best:.2f}", f"{-densities[0]:.2f}", cells]
            row += [f"{apart:.3f}", f"{seconds:.0f}"]
            print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
