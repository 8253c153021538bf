"""Tables of one push under noise."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from nsf_pipeline.data.schema import TOLERANCES
from nsf_pipeline.protocols.one_push import LEAST_ERROR, SECOND_LOOK, STEPS, Trial
from nsf_pipeline.protocols.rows import FIRST_LOOK, PAIRED_WITH, SIMULATOR_FIRST_LOOK
from nsf_pipeline.protocols.tables import Z_95

COLUMNS = (
    *("model", "action_noise_std", "tolerance_px", "tolerance_deg", "tasks"),
    *("score", "score_lower", "score_upper", "promised", "promised_at_choice"),
    *("against_flow", "against_flow_lower", "against_flow_upper", "seconds_per_task"),
)


class Judged(NamedTuple):
    """All tasks of a model.

    Attributes:
        world: its name.
        arrays: of `PUSHES`, with all shards in order.
        seconds: of one core that the choices took, together.
    """

    world: str
    arrays: Mapping[str, np.ndarray]
    seconds: float


def one_push(judged: Sequence[Judged], trial: Trial) -> pd.DataFrame:
    """A line for each model and tolerance.

    `score` is the mean share of noisy runs within the tolerance, `against_flow` the mean of its
    difference from that of `PAIRED_WITH` in the same tasks; both with 95 % intervals of a normal
    law over tasks.
    """
    of = {each.world: each.arrays["reached"] for each in judged}
    lines = []
    for each in judged:
        count = len(each.arrays["task"])
        for place, (px, degrees) in enumerate(TOLERANCES):
            reached = each.arrays["reached"][:, place]
            paired = of.get(PAIRED_WITH, np.full_like(each.arrays["reached"], np.nan))
            against = reached - paired[:, place]
            lines.append(
                (
                    *(each.world, trial.action_noise_std, px, degrees, count),
                    *mean_interval(reached),
                    each.arrays["promised"][:, place].mean(),
                    each.arrays["promised_at_choice"][:, place].mean(),
                    *mean_interval(against),
                    each.seconds / count,
                )
            )
    return pd.DataFrame(lines, columns=list(COLUMNS))


def mean_interval(values: np.ndarray) -> tuple[float, float, float]:
    """The mean and its 95 % interval; no interval of a single value."""
    mean = float(values.mean())
    if len(values) < 2:
        return mean, math.nan, math.nan
    half = Z_95 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean, mean - half, mean + half


def with_interval(row: Mapping[Any, Any], name: str, spec: str) -> str:
    """A number of a table's row and its interval, for people; without one, where there is none."""
    mean, lower, upper = (row[name + end] for end in ("", "_lower", "_upper"))
    interval = "" if math.isnan(lower) else f" ({lower:{spec}} to {upper:{spec}})"
    return f"{mean:{spec}}{interval}"


def one_push_text(table: pd.DataFrame, trial: Trial) -> str:
    """The table for people."""
    lines = [
        f"# One push under {trial.action_noise_std:g} px of action noise",
        "",
        *_by_tolerance(table),
        "",
        f"- Each of {table['tasks'].iloc[0]} tasks is a state of a test trajectory, and the pose "
        f"of the block {STEPS} steps later, at least {LEAST_ERROR:g} px away. Every model chooses "
        "one push from the same candidates by its expected cost; the push is run in the simulator "
        f"{trial.runs} times, each with its own noise. The score is the share of runs that end "
        "within the tolerance, of the block's centre of mass and of its angle; in brackets the "
        "95 % interval over tasks.",
        "- `random` is the floor: a random candidate.",
        f"- Against {PAIRED_WITH}: the difference of the scores in the same tasks.",
        "- Promised: the share that the model itself expects, by new draws of the chosen push; in "
        "brackets by the draws that it chose by, which flatter. A model with one draw promises all "
        "or nothing in each task.",
        "- Candidates: what the planner `cem` tries with the simulator without noise, "
        f"{trial.candidates} or a few less. A model with more than {FIRST_LOOK} draws, or a "
        f"simulator with more than {SIMULATOR_FIRST_LOOK} runs, judges only the {SECOND_LOOK} that "
        "a first look with as many finds best.",
    ]
    return "\n".join([*lines, ""])


def _by_tolerance(table: pd.DataFrame) -> Iterator[str]:
    heads = [
        head
        for px, degrees in TOLERANCES
        for head in (f"{px:g} px, {degrees:g}°", f"against {PAIRED_WITH}", "promised")
    ]
    yield f"| model | {' | '.join(heads)} | s a task |"
    yield "| --- |" + " ---: |" * (len(heads) + 1)
    for name, part in table.groupby("model", sort=False):
        cells = []
        for row in part.to_dict("records"):
            is_compared = name != PAIRED_WITH and not math.isnan(row["against_flow"])
            cells += [
                with_interval(row, "score", ".3f"),
                with_interval(row, "against_flow", "+.3f") if is_compared else "",
                f"{row['promised']:.3f} ({row['promised_at_choice']:.3f})",
            ]
        yield f"| {name} | {' | '.join(cells)} | {row['seconds_per_task']:.2g} |"
