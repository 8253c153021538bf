"""Open-loop prediction errors after some control steps: the offline view of stable-worldmodel.

A prediction starts in a state of a test trajectory and is told the policies that follow, and
nothing else. Trajectories are shorter than the longest prediction; they go on with further
policies (`continued`), and a model predicts each policy's end, or the state asked for, in one pass
from the draws before.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from jaxtyping import Float, PRNGKeyArray

from nsf_pipeline.config import Config
from nsf_pipeline.data.actions import executed
from nsf_pipeline.data.randomness import Stream, generator
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.errors import UserError
from nsf_pipeline.evaluation.continued import Continued, Part, continued
from nsf_pipeline.evaluation.ensembles import load_test_split
from nsf_pipeline.evaluation.predictors import one_draw_each
from nsf_pipeline.evaluation.states import States
from nsf_pipeline.evaluation.tables import PERSISTENCE, RANDOM, SIMULATOR
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE, STATE_WITH_BLOCK_VELOCITY, layout_of
from nsf_pipeline.timing import CONTROL_DT

AHEAD = (5, 25, 50)
"""Control steps."""
STATES, DRAWS = 256, 16
"""Test trajectories, at most, with one start each; and draws from each start."""
TASK_OF_NO_STEPS = 0
"""Tells the random numbers of these starts from those of goals some steps ahead."""
Z_95 = 1.959963984540054
"""The standard normal law lies within this of 0 with a probability of 95 %."""
GROUPS = {"agent": "px", "block_position": "px", "block_angle": "degrees"}
ERRORS = ("error_of_mean", "error_of_a_draw")
COLUMNS = (
    *("model", "steps", "group"),
    *(f"{name}{end}" for name in ERRORS for end in ("", "_lower", "_upper")),
    "n_states",
)
Draws = Float[np.ndarray, "n draws dim"]


class Starts(NamedTuple):
    """Where predictions start, and what comes after.

    Attributes:
        trajectory: (n) index in the whole data set.
        step: (n) control step at which the prediction starts.
        courses: n trajectories.
    """

    trajectory: np.ndarray
    step: np.ndarray
    courses: Sequence[Continued]

    def states(self, ahead: int) -> Float[np.ndarray, "n 10"]:
        """The true states some steps later."""
        pairs = zip(self.courses, self.step, strict=True)
        return np.array([course.states[step + ahead] for course, step in pairs])


def measure(
    config: Config, models: Mapping[str, Any], dataset: Path, *, key: PRNGKeyArray
) -> pd.DataFrame:
    """`open_loop.csv`: the errors of the simulator, of models and of two floors.

    Args:
        config: what the stage `evaluate` reads.
        models: by the names that tables give them: of this package or of a user's class.
        dataset: the data set.
        key: for the draws of models.

    Raises:
        StoreError: the data set cannot be read, or its test split is empty.
        UserError: a model's draws are not finite.
    """
    starts = choose(config, dataset)
    others = _others(len(starts.step), config.seed)
    simulated = _simulated(config, starts)
    predictions: dict[str, Callable[[int], Draws]] = {SIMULATOR: lambda ahead: simulated[ahead]}
    for name, model in models.items():
        found = in_one_pass_each(model, starts, key=key)
        if not all(np.isfinite(draws).all() for draws in found.values()):
            raise UserError(f"{name}: draws of several policies are not finite; train it again")
        predictions[name] = found.__getitem__
    predictions[PERSISTENCE] = lambda ahead: starts.states(0)[:, None]
    predictions[RANDOM] = lambda ahead: starts.states(ahead)[others]
    rows = [
        (name, ahead, *row)
        for name, predict in predictions.items()
        for ahead in AHEAD
        for row in _errors(predict(ahead), starts.states(ahead))
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _others(count: int, seed: int) -> np.ndarray:
    """(count, DRAWS): places of others, at random; only of a single one there is no other."""
    random = np.random.default_rng([seed, Stream.TASK, TASK_OF_NO_STEPS])
    away = random.integers(1, max(2, count), (count, DRAWS))
    return (np.arange(count)[:, None] + away) % count


def choose(config: Config, dataset: Path) -> Starts:
    """A random step of each of some test trajectories, and what follows.

    Raises:
        StoreError: the data set cannot be read, or its test split is empty.
    """
    test, simulator = load_test_split(dataset), Simulator()
    random = np.random.default_rng([config.seed, Stream.SELECTION, TASK_OF_NO_STEPS])
    rows = np.sort(random.permutation(len(test["trajectory"]))[:STATES])
    steps, courses = [], []
    for row in rows:
        own = generator(config.seed, int(test["trajectory"][row]), Stream.TASK, TASK_OF_NO_STEPS)
        steps.append(int(own.integers(test["length"][row])))
        courses.append(continued(simulator, test, int(row), steps[-1] + AHEAD[-1], own, config))
    return Starts(test["trajectory"][rows], np.array(steps), courses)


def in_one_pass_each(model: Any, starts: Starts, *, key: PRNGKeyArray) -> dict[int, Draws]:
    """A model's draws by the number of steps ahead, in one pass for each policy.

    Args:
        model: of this package or of a user's class.
        starts: where predictions start, and the policies that follow.
        key: for the draws.
    """
    columns = STATE_WITH_BLOCK_VELOCITY.columns(model.state_names)
    last = starts.step + AHEAD[-1]
    known = np.repeat(starts.states(0)[:, None, columns], DRAWS, axis=1).astype(np.float32)
    found = {ahead: np.zeros_like(known) for ahead in AHEAD}
    at, number = starts.step.copy(), 0
    while (rows := np.flatnonzero(at < last)).size:
        parts = [_part_at(starts.courses[int(row)].parts, int(at[row])) for row in rows]
        end = np.array([part.first + part.steps for part in parts])
        for ahead in (*AHEAD, None):  # None: the end of the policy, where the next one starts
            goal = end if ahead is None else starts.step[rows] + ahead
            within = np.flatnonzero((at[rows] < goal) & (goal <= end))
            if not within.size:
                continue
            chosen, own = rows[within], jax.random.fold_in(key, number)
            spans = [(parts[i], int(at[rows[i]]), int(goal[i])) for i in within]
            draws = _passed(model, known[chosen], spans, key=own)
            number += 1
            if ahead is None:
                known[chosen], at[chosen] = draws, end[within]
            else:
                found[ahead][chosen] = draws
    return found


def _part_at(parts: Sequence[Part], step: int) -> Part:
    return next(part for part in parts if step < part.first + part.steps)


def _passed(
    model: Any, known: Draws, spans: Sequence[tuple[Part, int, int]], *, key: PRNGKeyArray
) -> Draws:
    """Draws (n, draws, dim) some steps after others, within one policy each.

    Args:
        model: of this package or of a user's class.
        known: (n, draws, dim) where each goes on.
        spans: n policies, with the steps of their trajectories at which to start and to end.
        key: for the draws.
    """
    count, draws, dim = known.shape
    times = CONTROL_DT * np.array([(at - p.first, goal - p.first) for p, at, goal in spans])
    conditions = np.array([part.condition for part, _, _ in spans])
    s, t, condition = (
        np.repeat(values.astype(np.float32), draws, axis=0)
        for values in (times[:, 0], times[:, 1], conditions)
    )
    flat = known.reshape(-1, dim)
    later = one_draw_each(model, States(flat, flat, s, t, condition), key=key)
    return later.reshape(count, draws, dim)


def _simulated(config: Config, starts: Starts) -> dict[int, Draws]:
    """The simulator's own draws, which follow the policies with fresh noise, by steps ahead."""
    simulator, found = Simulator(), []
    for trajectory, step, course in zip(*starts, strict=True):
        random = generator(config.seed, int(trajectory), Stream.TASK, TASK_OF_NO_STEPS, 0)
        actions = []
        for part in course.parts:
            std = float(DMPParams.from_vector(part.condition).action_noise_std)
            actions.append(executed(part.targets.astype(np.float64), std, DRAWS, random))
        ahead = np.concatenate(actions, axis=1)[:, step : step + AHEAD[-1]]
        state = course.states[step, : STATE.dim]
        found.append(simulator.ensemble(state, ahead)[:, AHEAD])
    return dict(zip(AHEAD, np.moveaxis(np.array(found), 2, 0), strict=True))


def _errors(draws: Draws, truth: Float[np.ndarray, "n 10"]) -> Iterator[tuple[Any, ...]]:
    """Rows of the table without their first two columns."""
    layout = layout_of(draws.shape[-1])
    for group, unit in GROUPS.items():
        own, true = draws[..., layout.groups[group]], truth[:, None, STATE.groups[group]]
        is_angle = unit == "degrees"
        mean = _mean_angle(own) if is_angle else own.mean(axis=1, keepdims=True)
        errors = (_turned_less(each - true) if is_angle else each - true for each in (mean, own))
        lengths = (np.linalg.norm(each, axis=-1).mean(axis=1) for each in errors)
        intervals = (value for each in lengths for value in _interval(each))
        yield (group, *intervals, len(truth))


def _mean_angle(draws: Draws) -> Float[np.ndarray, "n 1 1"]:
    """rad: the direction of the mean of the angles' unit vectors."""
    return np.arctan2(*(of(draws).mean(axis=1, keepdims=True) for of in (np.sin, np.cos)))


def _turned_less(error: np.ndarray) -> np.ndarray:
    """Degrees: angles in rad without whole turns, which are no error."""
    return np.degrees((error + np.pi) % (2.0 * np.pi) - np.pi)


def _interval(values: np.ndarray) -> tuple[float, float, float]:
    """The mean and its 95 % interval over trajectories, by a normal law."""
    mean = float(values.mean())
    half = Z_95 * float(values.std(ddof=1)) / len(values) ** 0.5 if len(values) > 1 else np.nan
    return mean, mean - half, mean + half


def as_markdown(table: pd.DataFrame) -> list[str]:
    """The table for people: the simulator, the models in the order of the last column, the floors.

    Args:
        table: as `measure` gives it.
    """
    heads = [f"{group.replace('_', ' ')}, {steps}" for group in GROUPS for steps in AHEAD]
    cells = {(r["model"], r["group"], r["steps"]): r for r in table.to_dict("records")}
    names = list(dict.fromkeys(table["model"]))
    ends = (SIMULATOR, PERSISTENCE, RANDOM)
    rivals = [name for name in names if name not in ends]
    rivals.sort(key=lambda name: cells[name, "block_position", AHEAD[-1]]["error_of_a_draw"])
    lines = [
        "## Open-loop errors after some control steps (px, degrees): the mean of draws / one draw",
        "",
        f"| | {' | '.join(heads)} |",
        "| --- |" + " ---: |" * len(heads),
    ]
    for name in (SIMULATOR, *rivals, PERSISTENCE, RANDOM):
        shown = []
        for group in GROUPS:
            for steps in AHEAD:
                row = cells[name, group, steps]
                shown.append(" / ".join(f"{row[error]:.3g}" for error in ERRORS))
        lines.append(f"| {name} | {' | '.join(shown)} |")
    count = int(table["n_states"].iloc[0])
    return [
        *lines,
        "",
        f"{count} starts, each in a random state of another test trajectory, and {DRAWS} draws "
        "from each. A prediction is told the policies, takes one pass for each, and sees nothing "
        "after the start; trajectories go on with further policies, drawn as those of the data. "
        f"`{PERSISTENCE}`: nothing moves. `{RANDOM}`: the state of another of these trajectories "
        f"after as many steps. `{SIMULATOR}`: other runs of the simulator, which is the limit. "
        "`open_loop.csv` has the 95 % intervals.",
    ]
