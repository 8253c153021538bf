"""The evaluation: models, baselines and the simulator itself, held against the test split."""

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from nsf_pipeline.config import Config
from nsf_pipeline.data.store import reading
from nsf_pipeline.evaluation import consistency, figures, metrics, tables
from nsf_pipeline.evaluation.metrics import GROUPS, JOINTS, Need, Resampler, Score
from nsf_pipeline.evaluation.predictors import (
    Kinematic,
    OnePass,
    Persistence,
    Prediction,
    Predictor,
    Recursive,
    Simulator,
)
from nsf_pipeline.evaluation.states import Ensembles, load_ensembles, typical_changes
from nsf_pipeline.evaluation.tables import FLOW, SIMULATOR, Cell
from nsf_pipeline.evaluation.tracked import log_evaluation
from nsf_pipeline.files import FileError, replacing
from nsf_pipeline.model import PushTModel, load_model
from nsf_pipeline.model.file import model_header
from nsf_pipeline.provenance import record, versions


def evaluate_pusht(
    config: Config,
    model_path: Path,
    dataset: Path,
    ensembles: Path,
    folder: Path,
    variants: Mapping[str, Path] | None = None,
) -> None:
    """Score models on the test states and write tables, figures and what made them.

    Args:
        config: what the stage `evaluate` reads; of the ablations, what `compare` reads.
        model_path: `model.eqx`, which tables call `flow`.
        dataset: `dataset.h5`.
        ensembles: folder of the ensembles' shards.
        folder: where the reports go.
        variants: other models' files, by the names that tables give them; None for the default
            target's reports, which hold none.

    Raises:
        FileError: a model, the data set or an ensemble cannot be read or does not belong to the
            others, or a report cannot be written.
        UserError: a horizon has too few states.
    """
    started = time.monotonic()
    paths = {FLOW: model_path, **(variants or {})}
    models = _load(paths, config, dataset)
    found = load_ensembles(ensembles, config)
    changes = typical_changes(dataset, found)
    flow = models[FLOW]
    predictors: list[Predictor] = [
        Simulator(found),
        Persistence(changes),
        Kinematic(config.dmp),
        Recursive("recursive", flow, config.evaluation.num_recursive_samples),
        *(OnePass(name, model) for name, model in models.items()),
    ]
    cells: list[Cell] = []
    drawn: dict[float, np.ndarray] = {}
    steps: list[dict[str, Any]] = []
    key = jax.random.key(config.seed)
    for horizon, ensemble in found.items():
        resampler = Resampler(ensemble.contact, ensemble.weight, ensemble.trajectory, config.seed)
        for predictor in predictors:
            prediction = predictor(
                ensemble.states,
                config.evaluation.num_samples,
                key=jax.random.fold_in(key, ensemble.states.gap),
            )
            if not np.isfinite(prediction.draws).all():
                path = paths.get(predictor.name, model_path)
                raise FileError(f"{path}: draws {horizon:g} s ahead are not finite; train it again")
            scores = score(predictor.name, prediction, ensemble, changes[horizon], config.seed)
            means = resampler.means(np.stack(list(scores.values()), axis=1))
            for contact, values in means.items():
                named = dict(zip(scores, values.T, strict=True))
                size = resampler.sizes[contact]
                cells.append(Cell(predictor.name, horizon, contact, size, named))
            if predictor.name == FLOW:
                drawn[horizon] = prediction.draws
        for name, model in models.items():
            if model.transition.view.config.kind == "flow":
                some_key = jax.random.fold_in(key, ensemble.states.gap)
                steps += consistency.measure(
                    name, model, horizon, ensemble, changes[horizon], config.seed, key=some_key
                )
        print(f"{horizon:g} s ahead: {len(ensemble.states)} states scored", flush=True)
    seconds = time.monotonic() - started
    horizons, intervals = tables.horizons(cells), tables.intervals(cells)
    notes = _notes(config, found, seconds, of_steps=bool(steps))
    consistent = consistency.as_table(steps)
    text = tables.as_markdown(horizons, notes, consistency.as_markdown(consistent))
    calibration = tables.calibration(cells)
    stage = "evaluate" if variants is None else "compare"
    made = json.dumps(record(stage, config), indent=2, sort_keys=True) + "\n"
    reports = {
        "horizons.csv": tables.as_csv(horizons),
        "intervals.csv": tables.as_csv(intervals),
        "distances.csv": tables.as_csv(tables.distances(cells)),
        "calibration.csv": tables.as_csv(calibration),
        "consistency.csv": tables.as_csv(consistent),
        "horizons.md": text,
        "provenance.json": made,
    }
    for name, content in reports.items():
        with replacing(folder / name) as beside:
            beside.write_text(content, encoding="utf-8")
    pictures = {
        "skill.png": figures.skill(intervals),
        "calibration.png": figures.calibration(calibration),
        "block_positions.png": figures.block_positions(drawn, found),
    }
    for name, figure in pictures.items():
        figures.save(figure, folder / name)
    print(text, flush=True)
    if not variants:
        log_evaluation(
            config, model_header(model_path), model_path, dataset, folder / "horizons.csv"
        )


def score(
    name: str, prediction: Prediction, ensemble: Ensembles, change: np.ndarray, seed: int
) -> dict[tuple[Score, str], np.ndarray]:
    """All scores of one prediction, each (n), to be averaged over states.

    Args:
        name: of the predictor; the simulator is held against itself, half against half.
        prediction: for the ensemble's states.
        ensemble: of one horizon.
        change: (7) units of the state's numbers in joint scores.
        seed: breaks ties in ranks.

    Returns:
        By score and what it is of; NaN where the prediction lacks what the score needs.
    """
    given = _given(name, prediction, ensemble, change, seed)
    found = {}
    for scored in metrics.all_scores():
        for of in scored.over.value:
            needed = [given[of][need] for need in scored.needs]
            known = all(values is not None for values in needed)
            found[scored, of] = (
                scored.function(*needed) if known else np.full(len(ensemble.states), np.nan)
            )
    return found


def _given(
    name: str, prediction: Prediction, ensemble: Ensembles, change: np.ndarray, seed: int
) -> dict[str, dict[Need, np.ndarray | None]]:
    """By group, what scores may need; None where the prediction lacks it."""
    draws, truth, members = prediction.draws, ensemble.states.x_final, ensemble.members
    halves = np.array_split(members, 2, axis=1)
    compared, against = halves if name == SIMULATOR else (draws, members)
    values: dict[Need, np.ndarray] = {
        "draws": draws,
        "truth": truth,
        "compared": compared,
        "against": against,
        "half": halves[0],
        "other_half": halves[1],
    }
    given: dict[str, dict[Need, np.ndarray | None]] = {}
    for group_name, group in GROUPS.items():
        of = {need: group.of(x) for need, x in values.items()}
        random = np.random.default_rng([seed, ensemble.states.gap])
        given[group_name] = {**of, "ranks": metrics.pit(of["draws"], of["truth"], random)}
    for joint, columns in JOINTS.items():
        unit = change[list(columns)]
        given[joint] = {
            # Of the velocity, five numbers say nothing.
            need: x[..., list(columns)] / unit if joint == "pose" or x.shape[-1] == 7 else None
            for need, x in values.items()
        }
    # The density of five numbers would be another quantity.
    density = prediction.log_density if draws.shape[-1] == 7 else None
    given["state"]["log_density"] = None if density is None else density.astype(np.float64)
    return given


def _load(paths: Mapping[str, Path], config: Config, dataset: Path) -> dict[str, PushTModel]:
    """Models that were trained on this data set and for these policies."""
    models = {name: load_model(path) for name, path in paths.items()}
    with reading(dataset, "dataset") as file:
        fingerprint = file.attrs.get("fingerprint")
    for name, path in paths.items():
        if models[name].transition.view.dmp != config.dmp:
            raise FileError(
                f"{path}: its policies are defined by other dmp settings than those given; "
                "train it again, or evaluate it with its own settings"
            )
        trained_on = model_header(path).get("dataset_fingerprint")
        if fingerprint != trained_on:
            raise FileError(
                f"{dataset}: not the data set that {path} was trained on (fingerprint "
                f"{fingerprint}, then {trained_on}): its test split may hold "
                "trajectories that the model has seen; train again or give the other data set"
            )
    return models


def _notes(
    config: Config, found: Mapping[float, Ensembles], seconds: float, *, of_steps: bool
) -> list[str]:
    sizes = "; ".join(
        f"{horizon:g} s: {ensemble.contact.sum()} with contact and {(~ensemble.contact).sum()} "
        f"without, {ensemble.weight[ensemble.contact].sum() / ensemble.weight.sum():.0%} of the "
        "split having contact"
        for horizon, ensemble in found.items()
    )
    members = config.ensembles.num_members
    draws = config.evaluation.num_samples
    on_steps = (
        f"Energy distances between one step and several, from {consistency.STATES} states at most "
        f"and {consistency.DRAWS} draws each, every number divided by its typical change over the "
        "horizon: 0, up to the noise, where they give the same law."
    )
    return [
        f"Scores are fair estimates from {draws} draws per state "
        f"({config.evaluation.num_recursive_samples} where the prediction goes one control step "
        f"at a time, {members} of the simulator). In brackets, how many times the simulator's own "
        "score. Bold: the best.",
        f"Test states: drawn with seed {config.seed} from the test split, which neither training "
        f"nor model selection sees, and weighted to stand for all of it. {sizes}. Contact: the "
        "policy without noise moves the block within the horizon.",
        *[on_steps] * of_steps,
        "Intervals, joint scores, rank histograms and the split by contact: `intervals.csv`, "
        "`distances.csv`, `calibration.csv`, `consistency.csv` and `horizons.csv`.",
        f"Evaluated in {seconds:.0f} s; "
        + ", ".join(f"{name} {version}" for name, version in versions().items())
        + ".",
    ]
