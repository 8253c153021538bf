"""The evaluation: models, baselines and the simulator itself, scored on the test split."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from nsf_pipeline.config import Config
from nsf_pipeline.errors import UserError
from nsf_pipeline.evaluation import consistency, metrics
from nsf_pipeline.evaluation.metrics import GROUPS, JOINTS, Need, Resampler, Score
from nsf_pipeline.evaluation.predictors import (
    Kinematic,
    Persistence,
    Prediction,
    Predictor,
    Random,
    Recursive,
    Simulator,
    in_one_pass,
)
from nsf_pipeline.evaluation.states import Ensembles, noise_classes
from nsf_pipeline.evaluation.tables import FLOORS, FLOW, SIMULATOR, Cell
from nsf_pipeline.model import PushTModel
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.provenance import versions
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.system.printing import say
from nsf_pipeline.user_models import UserModel


class Comparison(NamedTuple):
    """The results for all predictions.

    Attributes:
        cells: mean scores by model, horizon and contact.
        by_noise: the same over the states of each class of action noise, by its name; empty if all
            states have the same noise.
        steps: rows of `consistency.csv`.
        drawn: by horizon in s, the flow's draws (n, draws, dim).
    """

    cells: list[Cell]
    by_noise: dict[str, list[Cell]]
    steps: list[dict[str, Any]]
    drawn: dict[float, np.ndarray]


@with_defaults
def compare(
    config: Config,
    models: Mapping[str, PushTModel | UserModel],
    ensembles: Mapping[float, Ensembles],
    changes: Mapping[float, np.ndarray],
) -> Comparison:
    """Score models, baselines and the simulator itself on the test states.

    Args:
        config: what the stages `evaluate` and `compare` read.
        models: by the names that tables give them, the default one as `FLOW`.
        ensembles: by horizon in s.
        changes: by horizon in s, the state's typical changes (7).

    Raises:
        UserError: a model's draws are not finite.
    """
    flow = models[FLOW]
    predictors: list[Predictor] = [
        Simulator(ensembles),
        *(Simulator(ensembles, name, members) for name, members in FLOORS.items()),
        Persistence(changes),
        Random(ensembles, config.seed),
        Kinematic(config.dmp),
        Recursive("recursive", flow, config.evaluation.num_recursive_samples),
        *(in_one_pass(name, model) for name, model in models.items()),
    ]
    cells: list[Cell] = []
    by_noise: dict[str, list[Cell]] = {}
    drawn: dict[float, np.ndarray] = {}
    steps: list[dict[str, Any]] = []
    key = jax.random.key(config.seed)
    for horizon, ensemble in ensembles.items():
        every = np.ones(len(ensemble.states), bool)
        classes = noise_classes(ensemble.states.condition, config.policies)
        chosen = [
            (cells, every, _resampler(ensemble, every, config.seed)),
            *(
                (by_noise.setdefault(name, []), rows, _resampler(ensemble, rows, config.seed))
                for name, rows in classes.items()
            ),
        ]
        for predictor in predictors:
            prediction = _predict(config, predictor, horizon, ensemble, key)
            scores = score(predictor.name, prediction, ensemble, changes[horizon], config.seed)
            of_states = np.stack(list(scores.values()), axis=1)
            for found, rows, resampler in chosen:
                found += _cells(predictor.name, horizon, scores, of_states[rows], resampler)
            if predictor.name == FLOW:
                drawn[horizon] = prediction.draws
        for name, model in models.items():
            if isinstance(model, PushTModel) and model.encoder.config.kind == "flow":
                some_key = jax.random.fold_in(key, ensemble.states.gap)
                steps += consistency.measure(
                    name, model, horizon, ensemble, changes[horizon], config.seed, key=some_key
                )
        say(f"{horizon:g} s ahead: {len(ensemble.states)} states scored")
    return Comparison(cells, by_noise, steps, drawn)


@with_defaults
def in_one_pass_only(
    config: Config,
    models: Mapping[str, PushTModel | UserModel],
    ensembles: Mapping[float, Ensembles],
    changes: Mapping[float, np.ndarray],
) -> list[Cell]:
    """The cells of `compare` that belong to models in one pass.

    With them are those that scores are divided by: of the simulator and of persistence.

    Args:
        config: seed and number of draws.
        models: by the names that tables give them.
        ensembles: by horizon in s.
        changes: by horizon in s, the state's typical changes (7).

    Raises:
        UserError: a model's draws are not finite.
    """
    predictors: list[Predictor] = [
        Simulator(ensembles),
        Persistence(changes),
        *(in_one_pass(name, model) for name, model in models.items()),
    ]
    cells: list[Cell] = []
    key = jax.random.key(config.seed)
    for horizon, ensemble in ensembles.items():
        resampler = _resampler(ensemble, np.ones(len(ensemble.states), bool), config.seed)
        for predictor in predictors:
            prediction = _predict(config, predictor, horizon, ensemble, key)
            scores = score(predictor.name, prediction, ensemble, changes[horizon], config.seed)
            of_states = np.stack(list(scores.values()), axis=1)
            cells += _cells(predictor.name, horizon, scores, of_states, resampler)
        say(f"{horizon:g} s ahead: {len(ensemble.states)} states scored")
    return cells


def _predict(
    config: Config, predictor: Predictor, horizon: float, ensemble: Ensembles, key: PRNGKeyArray
) -> Prediction:
    """The prediction of an ensemble's states, which must be finite."""
    prediction = predictor(
        ensemble.states,
        config.evaluation.num_samples,
        key=jax.random.fold_in(key, ensemble.states.gap),
    )
    if not np.isfinite(prediction.draws).all():
        raise UserError(
            f"{predictor.name}: draws {horizon:g} s ahead are not finite; train the model again"
        )
    return prediction


def _cells(
    name: str,
    horizon: float,
    scores: Iterable[tuple[Score, str]],
    of_states: np.ndarray,
    resampler: Resampler,
) -> Iterator[Cell]:
    """Means of a prediction's scores (n, scores) over some states."""
    for contact, values in resampler.means(of_states).items():
        named = dict(zip(scores, values.T, strict=True))
        yield Cell(name, horizon, contact, resampler.sizes[contact], named)


def _resampler(ensemble: Ensembles, rows: np.ndarray, seed: int) -> Resampler:
    """For means over some states of an ensemble."""
    contact, weight = ensemble.contact[rows], ensemble.weight[rows]
    return Resampler(contact, weight, ensemble.trajectory[rows], seed)


def score(
    name: str, prediction: Prediction, ensemble: Ensembles, change: np.ndarray, seed: int
) -> dict[tuple[Score, str], np.ndarray]:
    """All scores of one prediction, each (n), to be averaged over states.

    Args:
        name: of the predictor; of the simulator's ensemble, one half is compared with the other,
            and entered members with those replayed that have other noise.
        prediction: for the ensemble's states.
        ensemble: of one horizon.
        change: (7) typical changes of the state, the units of joint scores.
        seed: breaks ties in ranks.

    Returns:
        By score and group; NaN where the prediction lacks what the score needs.
    """
    given = _arguments_of_scores(name, prediction, ensemble, change, seed)
    found = {}
    for scored in metrics.all_scores():
        for of in scored.over.value:
            needed = [given[of][need] for need in scored.needs]
            known = all(values is not None for values in needed)
            found[scored, of] = (
                scored.function(*needed) if known else np.full(len(ensemble.states), np.nan)
            )
    return found


def _arguments_of_scores(
    name: str, prediction: Prediction, ensemble: Ensembles, change: np.ndarray, seed: int
) -> dict[str, dict[Need, np.ndarray | None]]:
    """By group, the arguments that scores may need; None where the prediction lacks one."""
    draws, truth, members = prediction.draws, ensemble.states.x_final, ensemble.members
    halves = np.array_split(members, 2, axis=1)
    if name == SIMULATOR:
        compared, against = halves
    else:
        compared, against = draws, members[:, draws.shape[1] :] if name in FLOORS else members
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
    for joint in JOINTS:
        given[joint] = {need: metrics.joint(joint, x, change) for need, x in values.items()}
    # A density over other numbers cannot be compared with one over these seven.
    density = prediction.log_density if draws.shape[-1] == STATE.dim else None
    given["state"]["log_density"] = None if density is None else density.astype(np.float64)
    return given


def notes(
    config: Config, found: Mapping[float, Ensembles], seconds: float, *, of_steps: bool
) -> list[str]:
    """What readers of the tables must know, a paragraph each.

    Args:
        config: what the stages `evaluate` and `compare` read.
        found: the ensembles, by horizon in s.
        seconds: that the evaluation took.
        of_steps: whether there is a table of flow consistency.
    """
    sizes = "; ".join(
        f"{horizon:g} s: {ensemble.contact.sum()} with contact and {(~ensemble.contact).sum()} "
        f"without ({ensemble.weight[ensemble.contact].sum() / ensemble.weight.sum():.0%} of the "
        "split has contact)"
        for horizon, ensemble in found.items()
    )
    members, entered = config.ensembles.num_members, config.ensembles.num_entered
    draws = config.evaluation.num_samples
    on_steps = (
        "Energy distances between draws in one step and in several, from at most "
        f"{consistency.STATES} states with {consistency.DRAWS} draws each. Every number is divided "
        "by its typical change over the horizon. 0, up to noise, means the same law."
    )
    return [
        f"Scores are fair estimates from {draws} draws per state "
        f"({config.evaluation.num_recursive_samples} where the prediction goes one control step "
        f"at a time, {members} for the simulator). In brackets: the score divided by the "
        "simulator's own. Bold: the best.",
        f"{' and '.join(f'`{name}`' for name in FLOORS)}: the simulator entered at the state's "
        "numbers, ten with the block's velocity or seven with the block at rest, instead of "
        f"replayed: what it predicts from these numbers alone. {entered} members, with the "
        "noise of the first replayed ones.",
        f"Test states: drawn with seed {config.seed} from the test split, which neither training "
        f"nor model selection sees, and weighted to represent all of it. {sizes}. Contact: the "
        "policy without noise moves the block within the horizon.",
        *[on_steps] * of_steps,
        "Intervals, joint scores, rank histograms and the splits by contact and by action noise: "
        "`intervals.csv`, `distances.csv`, `calibration.csv`, `consistency.csv`, `horizons.csv` "
        "and `noise.csv`. `random`: the state of another test trajectory, the floor.",
        f"Evaluated in {seconds:.0f} s; "
        + ", ".join(f"{name} {version}" for name, version in versions().items())
        + ".",
    ]
