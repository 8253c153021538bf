"""The evaluation of a model on the test split, and of persistence beside it."""

import json
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from nsf_pipeline.config import Config
from nsf_pipeline.data.merge import TEST, TRAIN
from nsf_pipeline.data.store import reading
from nsf_pipeline.data.transitions import Trajectories, load_trajectories
from nsf_pipeline.evaluation import figures, tables
from nsf_pipeline.evaluation.metrics import (
    GROUPS,
    Scores,
    gaussian_log_density,
    score,
    score_point,
)
from nsf_pipeline.evaluation.states import States, choose_states
from nsf_pipeline.evaluation.tracked import log_evaluation
from nsf_pipeline.files import FileError, replacing
from nsf_pipeline.model import PushTModel, load_model
from nsf_pipeline.model.file import model_header
from nsf_pipeline.provenance import record, versions

MODEL, REFERENCE = "flow", "persistence"
CHUNK = 256
"""States drawn from at once, which bounds the memory."""
Row = dict[str, object]


def evaluate_pusht(config: Config, model_path: Path, dataset: Path, folder: Path) -> None:
    """Score a model on the test split and write tables, a figure and what made them.

    Args:
        config: what the stage `evaluate` reads.
        model_path: `model.eqx`.
        dataset: `dataset.h5`.
        folder: where the reports go.

    Raises:
        FileError: the model or data set cannot be read, or a report not written.
        UserError: no test trajectory is as long as a horizon.
    """
    started = time.monotonic()
    model = load_model(model_path)
    if model.transition.view.dmp != config.dmp:
        raise FileError(
            f"{model_path}: its policies are defined by other dmp settings than those given; "
            "train it again, or evaluate it with its own settings"
        )
    header = model_header(model_path)
    trained_on = header.get("dataset_fingerprint")
    with reading(dataset, "dataset") as file:
        if file.attrs.get("fingerprint") != trained_on:
            raise FileError(
                f"{dataset}: not the data set that {model_path} was trained on (fingerprint "
                f"{file.attrs.get('fingerprint')}, then {trained_on}): its test split may hold "
                "trajectories that the model has seen; train again or give the other data set"
            )
    state_dim = len(model.state_names)
    test = load_trajectories(dataset, TEST, state_dim)
    train = load_trajectories(dataset, TRAIN, state_dim)
    rows: list[Row] = []
    all_draws: dict[float, np.ndarray] = {}
    all_states: dict[float, States] = {}
    key = jax.random.key(config.seed)
    for index, horizon in enumerate(config.evaluation.horizons):
        random = np.random.default_rng([config.seed, index])
        states = choose_states(test, horizon, config.evaluation.num_states, random)
        draws, log_density = predict(
            model, states, config.evaluation.num_samples, key=jax.random.fold_in(key, index)
        )
        if not np.isfinite(draws).all():
            raise FileError(f"{model_path}: draws {horizon:g} s ahead are not finite; train again")
        std = persistence_std(train, horizon)
        error = states.x_final - states.x_init
        for name, group in GROUPS.items():
            rows += [
                _row(MODEL, horizon, name, score(draws, states.x_final, group), log_density),
                _row(
                    REFERENCE,
                    horizon,
                    name,
                    score_point(states.x_init, states.x_final, group),
                    gaussian_log_density(error, std),
                ),
            ]
        all_draws[horizon], all_states[horizon] = draws, states
        print(f"{horizon:g} s ahead: {len(states)} states scored", flush=True)
    table = tables.with_skill(rows, REFERENCE)
    seconds = time.monotonic() - started
    text = tables.as_markdown(table, MODEL, REFERENCE, _notes(config, seconds))
    made = json.dumps(record("evaluate", config), indent=2, sort_keys=True) + "\n"
    reports = {"horizons.csv": tables.as_csv(table), "horizons.md": text, "provenance.json": made}
    for name, content in reports.items():
        with replacing(folder / name) as beside:
            beside.write_text(content, encoding="utf-8")
    figures.save(figures.block_positions(all_draws, all_states), folder / "block_positions.png")
    print(text, flush=True)
    log_evaluation(config, header, model_path, dataset, folder / "horizons.csv")


def predict(
    model: PushTModel, states: States, num_samples: int, *, key: PRNGKeyArray
) -> tuple[np.ndarray, np.ndarray]:
    """Draws (n, num_samples, state_dim), and the log-density (n) of what happened, in nats."""
    keys = jax.random.split(key, len(states))
    results = []
    for first in range(0, len(states), CHUNK):
        # The last chunk is filled up with its own last state, so that one compilation serves all.
        rows = np.minimum(np.arange(first, first + CHUNK), len(states) - 1)
        part = jax.tree.map(lambda values: values[rows], states)  # noqa: B023
        results.append(
            [np.asarray(values) for values in _predict(model, part, keys[rows], num_samples)]
        )
    parts = zip(*results, strict=True)
    draws, log_density = (np.concatenate(part)[: len(states)] for part in parts)
    return draws, log_density


@eqx.filter_jit
def _predict(
    model: PushTModel, states: States, keys: Array, num_samples: int
) -> tuple[Array, Array]:
    def one(state: States, key: Array) -> tuple[Array, Array]:
        start, end, s, t, condition = map(jnp.asarray, state)
        draws = model.sample(key, start, s, t, condition, num_samples)
        return draws, model.log_prob(end, start, s, t, condition)

    return jax.vmap(one)(states, keys)


def persistence_std(train: Trajectories, horizon: float) -> np.ndarray:
    """(state_dim) root mean square change over a horizon in the train split.

    Gives persistence a density: a Gaussian round the present state.
    """
    everywhere = choose_states(train, horizon, train.states.size, np.random.default_rng(0))
    change = (everywhere.x_final - everywhere.x_init).astype(np.float64)
    return np.sqrt(np.mean(change**2, axis=0)) + 1e-6


def _row(model: str, horizon: float, group: str, scores: Scores, log_density: np.ndarray) -> Row:
    coverage_50, coverage_90 = scores.covered.mean(axis=(0, 1))
    return {
        "model": model,
        "horizon_s": horizon,
        "group": group,
        "crps": scores.crps.mean(),
        "coverage_50": coverage_50,
        "coverage_90": coverage_90,
        "nll": -log_density.astype(np.float64).mean(),
        "n_states": len(scores.crps),
    }


def _notes(config: Config, seconds: float) -> list[str]:
    found = versions()
    return [
        "CRPS: continuous ranked probability score, fair estimate from "
        f"{config.evaluation.num_samples} draws per state, mean over states and components; the "
        "smaller, the better. Persistence predicts that nothing moves, so its CRPS is the mean "
        "absolute change.",
        "Skill: 1 - CRPS / CRPS of persistence; 1 is perfect, 0 no better than persistence.",
        "Intervals: how often the central interval of the draws holds the truth; a calibrated law "
        "has 50 % and 90 %.",
        "Negative log-likelihood: of the whole state, agent and block together, with densities per "
        "px, px/s and rad. Persistence is a Gaussian round the present state with the train "
        "split's root mean square change. Test states are as simulated, while training and "
        "validation blur the block (training.block_blur): their figures are another quantity.",
        f"Test states are drawn with seed {config.seed}. Evaluated in {seconds:.0f} s; "
        + ", ".join(f"{name} {version}" for name, version in found.items())
        + ".",
    ]
