"""What it costs a model to know a range of noise levels: scores at one level.

One run has a single level of noise, 8 px say, and another the default range. Both models are scored
on the first run's test states. All means use the same resamples, so ratios are paired.

    echo 'policies: {action_noise_std: [8.0, 8.0], noiseless_fraction: 0.0}' > one.yaml
    snakemake --cores 2 --directory one --configfile one.yaml
    snakemake --cores 2 --directory range results/model.eqx
    python -m benchmarks.noise --config one.yaml --results one/results range/results/model.eqx
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from nsf_pipeline.config import load_config
from nsf_pipeline.evaluation.metrics import GROUPS, Resampler, crps, estimate
from nsf_pipeline.evaluation.predictors import OnePass
from nsf_pipeline.evaluation.states import load_ensembles
from nsf_pipeline.model import load_model

BLOCK = GROUPS["block_position"]


def main() -> None:
    """Print a table of the block's CRPS in px."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+", help="compared with the run's own")
    parser.add_argument("--config", type=Path, required=True, help="settings of the run")
    parser.add_argument("--results", type=Path, required=True, help="of the run with one level")
    options = parser.parse_args()
    config = load_config(options.config)
    paths = [options.results / "model.eqx", *options.models]
    models = {str(path): load_model(path) for path in paths}
    own = str(paths[0])
    rows: dict[str, list[str]] = {name: [] for name in ("simulator", *models)}
    for horizon, found in load_ensembles(options.results / "ensembles", config).items():
        truth = BLOCK.of(found.states.x_final)
        scores = {"simulator": crps(BLOCK.of(found.members), truth)}
        for name, model in models.items():
            key = jax.random.fold_in(jax.random.key(config.seed), found.states.gap)
            drawn = OnePass(name, model)(found.states, config.evaluation.num_samples, key=key)
            scores[name] = crps(BLOCK.of(drawn.draws), truth)
        resampler = Resampler(found.contact, found.weight, found.trajectory, config.seed)
        means = resampler.means(np.stack(list(scores.values()), axis=1))["all"]
        of = dict(zip(scores, means.T, strict=True))
        for name, values in of.items():
            ratio = estimate(values / of[own])
            text = f"{values[0]:.3f} (×{values[0] / of['simulator'][0]:.3f})"
            if name not in ("simulator", own):
                text += f", {ratio.value:.3f} [{ratio.lower:.3f}, {ratio.upper:.3f}] of {own}"
            rows[name].append(f"{horizon:g} s: {text}")
    for name, texts in rows.items():
        print(name, *texts, sep="\n    ")


if __name__ == "__main__":
    main()
