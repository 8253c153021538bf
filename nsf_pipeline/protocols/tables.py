"""Tables of episodes: how often a coverage was exceeded, how soon, and at what cost."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from nsf_pipeline.data.schema import HELD, NEVER, THRESHOLDS
from nsf_pipeline.evaluation.tables import as_csv as as_csv
from nsf_pipeline.protocols.rows import DISTURBED, HIDDEN, IN_STEPS, SHORT, STANDARD, Row
from nsf_pipeline.protocols.rows import HELD as LASTING

Z_95 = 1.959963984540054
"""The standard normal law lies within this of 0 with a probability of 95 %."""
FEWER_STEPS = 100
"""Steps of the protocol that allows a third of the usual."""
NOISE, IN_FEWER_STEPS = "noise", f"{FEWER_STEPS}_steps"
PLACE = ("planner", "model", "action_noise_std", "threshold")
OUTCOMES = (
    *("episodes", "success", "success_lower", "success_upper"),
    *("mean_max_coverage", "steps_to_success", "seconds_per_episode", "queries_per_episode"),
)


class Played(NamedTuple):
    """All episodes of a row.

    Attributes:
        row: of the tables.
        arrays: of `EPISODES`, with all shards in order.
        seconds: of one core that they took, together.
    """

    row: Row
    arrays: Mapping[str, np.ndarray]
    seconds: float


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a probability (Wilson 1927, doi:10.1080/01621459.1927.10502953).

    Args:
        successes: how many of the trials.
        trials: at least one.
    """
    share, square = successes / trials, Z_95**2 / trials
    middle = (share + square / 2) / (1 + square)
    half = Z_95 * math.sqrt(share * (1 - share) / trials + square / (4 * trials)) / (1 + square)
    # At the ends the bound is exactly 0 or 1, but for rounding.
    low = 0.0 if successes == 0 else middle - half
    return low, 1.0 if successes == trials else middle + half


def paired(first: np.ndarray, second: np.ndarray) -> tuple[float, float, float]:
    """How much more often the second succeeds than the first, with a 95 % interval.

    Wilson's intervals of both shares and the correlation between them make it: Newcombe's tenth
    method (1998, doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C). It has a
    width also where all trials come out alike, which the interval of a normal law has not.

    Args:
        first: (n) whether each trial succeeds; n at least 1.
        second: (n) the same, of the same trials.
    """
    count, both = len(first), int((first & second).sum())
    one, other = int(first.sum()), int(second.sum())
    neither = count - one - other + both
    agreement = float(both * neither - (one - both) * (other - both))
    if agreement > 0:
        agreement = max(0.0, agreement - count / 2)
    spread = math.sqrt(one * (count - one) * other * (count - other))
    correlation = agreement / spread if spread else 0.0
    share, share_of_other = one / count, other / count
    (low, high), (low_of_other, high_of_other) = wilson(one, count), wilson(other, count)

    def width(down: float, up: float) -> float:
        return math.sqrt(max(0.0, down**2 - 2 * correlation * down * up + up**2))

    difference = share_of_other - share
    below = width(share_of_other - low_of_other, high - share)
    above = width(share - low, high_of_other - share_of_other)
    return difference, difference - below, difference + above


def standard(played: Sequence[Played], thresholds: Sequence[float] = THRESHOLDS) -> pd.DataFrame:
    """A line for each row and threshold: the columns `PLACE` and `OUTCOMES`."""
    lines = [
        (*_place(each.row, threshold), *_outcome(each, threshold))
        for each in played
        for threshold in thresholds
    ]
    return pd.DataFrame(lines, columns=[*PLACE, *OUTCOMES])


def harder(played: Sequence[Played]) -> pd.DataFrame:
    """The same with a first column: what is harder than in the standard protocol.

    Episodes of the standard protocol are counted again: for the success within fewer steps.
    """
    lines = []
    for each in played:
        for variation, steps in kinds_of(each.row):
            for threshold in THRESHOLDS:
                outcome = _outcome(each, threshold, steps)
                lines.append((variation, *_place(each.row, threshold), *outcome))
    table = pd.DataFrame(lines, columns=["variation", *PLACE, *OUTCOMES])
    return table.sort_values("variation", kind="stable")


def _place(row: Row, threshold: float) -> tuple[str, str, float, float]:
    return row.planner, row.model, row.action_noise_std, threshold


def kinds_of(row: Row) -> list[tuple[str, int]]:
    """The harder protocols that a row counts for, and the steps of each; 0 for all."""
    if row.variation != STANDARD:
        return [(row.variation, 0)]
    noise = [(NOISE, 0)] if row.action_noise_std > 8.0 else []
    return [*noise, (IN_FEWER_STEPS, FEWER_STEPS)]


def succeeded(each: Played, threshold: float, steps: int = 0) -> np.ndarray:
    """(n) whether each episode exceeded a threshold within some steps; 0 for all of them."""
    first = _first(each, threshold)
    return (first != NEVER) & (first <= (steps or math.inf))


def _first(each: Played, threshold: float) -> np.ndarray:
    """(n) the step after which each episode first exceeded a threshold, as its row asks for."""
    if each.row.variation == DISTURBED:
        exceeded = _counted(each) > threshold
        return np.where(exceeded.any(axis=1), exceeded.argmax(axis=1) + 1, NEVER)
    reached = each.arrays["first_held" if each.row.variation == LASTING else "first_step"]
    return reached[:, THRESHOLDS.index(threshold)]


def _counted(each: Played) -> np.ndarray:
    """(n, S) the coverage after each step; 0 up to the last disturbance."""
    coverage, disturbed = each.arrays["coverage"], each.arrays["disturbed_step"].max(axis=1)
    return np.where(np.arange(1, coverage.shape[1] + 1) > disturbed[:, None], coverage, 0.0)


def _outcome(each: Played, threshold: float, steps: int = 0) -> tuple[int | float, ...]:
    arrays, count = each.arrays, len(each.arrays["episode"])
    first = _first(each, threshold)
    succeeds = succeeded(each, threshold, steps)
    number = int(succeeds.sum())
    coverage = _counted(each)[:, : steps or None]
    return (
        count,
        number / count,
        *wilson(number, count),
        float(coverage.max(axis=1).mean()),
        float(np.median(first[succeeds])) if number else math.nan,
        each.seconds / count,
        float(arrays["queries"].mean()),
    )


QUOTED = (
    ("Diffusion Policy (LeRobot)", "63.8 %", "500 episodes; from human demonstrations, on pixels"),
    ("VQ-BeT (LeRobot)", "63.8 %", "500 episodes; from human demonstrations, on pixels"),
    ("the highest that we found quoted", "about 74 %", "from human demonstrations, on pixels"),
)
"""Success of others at coverage 0.95 within 300 steps: name, figure as quoted, what differs."""
MEANINGS = {
    STANDARD: "as gym-pusht has it",
    NOISE: "with more action noise than in the standard protocol",
    IN_FEWER_STEPS: f"the standard protocol's episodes, but only {FEWER_STEPS} steps count",
    LASTING: f"the coverage is exceeded after {HELD} steps in a row; the agent stops when it is",
    DISTURBED: "the block is moved twice, by up to 40 px and 20 degrees; only the coverage after "
    "that counts",
    HIDDEN: "the planner is not told the agent's velocity",
    IN_STEPS: "as the standard, with the flow one control step at a time as the model",
    SHORT: "an episode ends at its first success",
}


def standard_text(table: pd.DataFrame, notes: Sequence[str] = ()) -> str:
    """The table of the standard protocol for people, with what others report beside it."""
    lines = [
        "# Planning: PushT from gym-pusht's own resets",
        "",
        *_by_threshold(table),
        "",
        "| others, as quoted | coverage above 0.95 | what differs |",
        "| --- | ---: | --- |",
        *(f"| {name} | {figure} | {differs} |" for name, figure, differs in QUOTED),
        "",
        "- Success: the coverage is above the threshold after any of 300 steps, in gym-pusht's own "
        "environment; in brackets Wilson's 95 % interval. Planners know the full state and use no "
        "demonstration; the figures of others are from policies that see pixels, so they answer "
        "another question.",
        "- `nominal` is physics without learning. `simulator_N` plans with the simulator itself, "
        "with N noisy runs of each push, or with one run without noise where N is 0. `random` is "
        "the floor: pushes drawn as the first candidates of `cem`, carried out unseen.",
        "- Steps: the median until coverage exceeds 0.95, where it does. Seconds are of one core, "
        "for planning and the environment, without compilation; an episode goes on after its "
        "first success, for the higher thresholds. A query is one push that the model was asked "
        "about.",
        *(f"- {note}" for note in notes),
    ]
    return "\n".join([*lines, ""])


def harder_text(table: pd.DataFrame) -> str:
    """The tables of the harder protocols for people, one after another."""
    lines = ["# Planning: harder than the standard"]
    for variation in dict.fromkeys(table["variation"]):
        part = table[table["variation"] == variation]
        title = f"## {variation.replace('_', ' ').capitalize()}: {MEANINGS[variation]}"
        lines += ["", title, "", *_by_threshold(part)]
    lines += ["", "- Seconds and queries are of whole episodes, also where only some steps count."]
    return "\n".join([*lines, ""])


def short_text(table: pd.DataFrame) -> str:
    """The short table of the default run, for people."""
    lines = [
        "# Planning, a short table",
        "",
        *_by_threshold(table),
        "",
        "- Success: the coverage is above 0.95 after any of 300 steps, in gym-pusht's own "
        "environment, without action noise; in brackets Wilson's 95 % interval. A smaller search "
        "than in `snakemake planning`, and an episode ends at its first success. `nominal` is "
        "physics without learning, `simulator_0` plans with the simulator itself, and `random` is "
        "the floor: random pushes. Few episodes: "
        "`snakemake planning` makes the tables that count.",
    ]
    return "\n".join([*lines, ""])


def _by_threshold(table: pd.DataFrame) -> Iterator[str]:
    """A line for each planner, model and noise, with its success at all thresholds."""
    thresholds = sorted(set(table["threshold"]))
    heads = [f"above {threshold:g}" for threshold in thresholds]
    heads += ["mean of the greatest coverage", "steps", "s an episode", "queries", "episodes"]
    yield f"| planner | model | action noise | {' | '.join(heads)} |"
    yield "| --- | --- | ---: |" + " ---: |" * len(heads)
    for place, part in table.groupby(list(PLACE[:3]), sort=False):
        planner, model, noise = place
        by = {row["threshold"]: row for row in part.to_dict("records")}
        first = by[thresholds[0]]
        cells = [
            f"{by[t]['success']:.1%} ({by[t]['success_lower']:.1%} to {by[t]['success_upper']:.1%})"
            for t in thresholds
        ]
        steps = first["steps_to_success"]
        cells += [
            f"{first['mean_max_coverage']:.3f}",
            "" if math.isnan(steps) else f"{steps:.0f}",
            f"{first['seconds_per_episode']:.2g}",
            f"{first['queries_per_episode']:,.0f}",
            f"{first['episodes']}",
        ]
        yield f"| {planner} | {model} | {noise:g} px | {' | '.join(cells)} |"
