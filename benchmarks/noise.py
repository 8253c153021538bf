"""What it costs a model to know a range of noise levels, and what it brings.

One run has a single level of noise, 8 px say, and another the default range. Both models are scored
on the first run's test states, or on some of the second's; the first model knows only its own level
and is told that. All means use the same resamples, so ratios are paired.

    echo 'policies: {action_noise_std: [8.0, 8.0], noiseless_fraction: 0.0}' > one.yaml
    snakemake --cores 2 --directory one --configfile one.yaml
    snakemake --cores 2 --directory range results/model.eqx
    python -m benchmarks.noise --config one.yaml --results one/results range/results/model.eqx
    python -m benchmarks.noise --config config.yaml --results range/results one/results/model.eqx \
        --among 'no noise' --tell 8
"""

import argparse
from pathlib import Path

import jax
import numpy as np

from nsf_pipeline.config import load_config
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.evaluation.metrics import GROUPS, Resampler, crps, estimate, ratio
from nsf_pipeline.evaluation.predictors import OnePass
from nsf_pipeline.evaluation.states import Ensembles, States, load_ensembles, noise_classes
from nsf_pipeline.model import load_model

BLOCK = GROUPS["block_position"]


def _some(found: Ensembles, rows: np.ndarray) -> Ensembles:
    """Some states of an ensemble."""
    states = States(*(values[rows] for values in found.states))
    return Ensembles(states, *(values[rows] for values in found[1:]))


def main() -> None:
    """Print a table of the block's CRPS in px."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", type=Path, nargs="+", help="compared with the run's own")
    parser.add_argument("--config", type=Path, required=True, help="settings of the run")
    parser.add_argument("--results", type=Path, required=True, help="of the run")
    parser.add_argument("--among", help="a class of noise: only states of it, as in noise.csv")
    parser.add_argument("--tell", type=float, help="px; noise that the other models are told")
    options = parser.parse_args()
    config = load_config(options.config)
    paths = [options.results / "model.eqx", *options.models]
    models = {str(path): load_model(path) for path in paths}
    own = str(paths[0])
    rows: dict[str, list[str]] = {name: [] for name in ("simulator", *models)}
    for horizon, found in load_ensembles(options.results / "ensembles", config).items():
        if options.among:
            found = _some(
                found, noise_classes(found.states.condition, config.policies)[options.among]
            )
        truth = BLOCK.of(found.states.x_final)
        scores = {"simulator": crps(BLOCK.of(found.members), truth)}
        for name, model in models.items():
            key = jax.random.fold_in(jax.random.key(config.seed), found.states.gap)
            states = found.states
            if options.tell is not None and name != own:
                params = DMPParams.from_vector(states.condition)
                level = np.full_like(params.action_noise_std, options.tell)
                told = params._replace(action_noise_std=level).as_vector()
                states = States(*states[:-1], told)
            drawn = OnePass(name, model)(states, config.evaluation.num_samples, key=key)
            scores[name] = crps(BLOCK.of(drawn.draws), truth)
        resampler = Resampler(found.contact, found.weight, found.trajectory, config.seed)
        means = resampler.means(np.stack(list(scores.values()), axis=1))["all"]
        of = dict(zip(scores, means.T, strict=True))
        for name, values in of.items():
            relative = estimate(ratio(values, of[own]))
            of_limit = ratio(values, of["simulator"])[0]
            text = f"{values[0]:.3f}" + f" (×{of_limit:.3f})" * bool(np.isfinite(of_limit))
            if name not in ("simulator", own):
                text += (
                    f", {relative.value:.3f} [{relative.lower:.3f}, {relative.upper:.3f}] of {own}"
                )
            rows[name].append(f"{horizon:g} s: {text}")
    for name, texts in rows.items():
        print(name, *texts, sep="\n    ")


if __name__ == "__main__":
    main()
