"""Tables of goals some steps ahead."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from nsf_pipeline.data.schema import GOAL_HELD
from nsf_pipeline.protocols.goals import TOLERANCE
from nsf_pipeline.protocols.rows import GoalRow
from nsf_pipeline.protocols.tables import wilson

COLUMNS = (
    *("planner", "model", "steps_ahead", "budget", "rule", "tasks"),
    *("success", "success_lower", "success_upper", "steps_to_success"),
    *("seconds_per_task", "queries_per_task"),
)
RULES = {"agent_and_block": "both_step", "block_held": "block_step"}
"""The array of the step of success, by the rule's name."""
QUOTED = (
    ("LeWM", "96 % at 25 steps; 53 % at 50, 18 % at 75", "50 tasks; reruns 89 to 94 %"),
    ("LeFlow", "96.5 % at 25 steps", "200 tasks"),
    ("DINO-WM", "74 to 91 % at 25 steps", ""),
)
"""Of others, as quoted: name, success by the rule `agent_and_block`, what is said of it."""


class Tried(NamedTuple):
    """All tasks of a row.

    Attributes:
        row: of the table.
        arrays: of `GOALS`, with all shards in order.
        seconds: of one core that they took, together.
    """

    row: GoalRow
    arrays: Mapping[str, np.ndarray]
    seconds: float


def goals(tried: Sequence[Tried]) -> pd.DataFrame:
    """A line for each row and rule."""
    lines = []
    for each in tried:
        count = len(each.arrays["task"])
        for rule, name in RULES.items():
            step = each.arrays[name]
            number = int((step > 0).sum())
            lines.append(
                (
                    *(each.row.planner, each.row.model, each.row.steps, 2 * each.row.steps),
                    *(rule, count, number / count, *wilson(number, count)),
                    float(np.median(step[step > 0])) if number else math.nan,
                    each.seconds / count,
                    float(each.arrays["queries"].mean()),
                )
            )
    return pd.DataFrame(lines, columns=list(COLUMNS))


def goals_text(table: pd.DataFrame) -> str:
    """The table for people, with what others report beside it."""
    places = list(dict.fromkeys(zip(table["steps_ahead"], table["rule"], strict=True)))
    heads = " | ".join(f"{steps} steps, {rule.replace('_', ' ')}" for steps, rule in places)
    lines = [
        "# Planning: goals some steps ahead on the same trajectory",
        "",
        f"| planner | model | {heads} |",
        "| --- | --- |" + " ---: |" * len(places),
    ]
    for (planner, model), part in table.groupby(["planner", "model"], sort=False):
        of = {(row["steps_ahead"], row["rule"]): row for row in part.to_dict("records")}
        cells = [
            f"{of[place]['success']:.1%} ({of[place]['success_lower']:.1%} to "
            f"{of[place]['success_upper']:.1%})"
            for place in places
        ]
        lines.append(f"| {planner} | {model} | {' | '.join(cells)} |")
    lines += [
        "",
        "| others, as quoted | success | what is said of it |",
        "| --- | --- | --- |",
        *(f"| {name} | {figure} | {note} |" for name, figure, note in QUOTED),
        "",
        f"- {table['tasks'].iloc[0]} tasks for each number of steps: the goal is the state so many "
        "steps later on the same test trajectory, and twice as many may be taken. No task starts "
        "with the block at its goal. In brackets Wilson's 95 % interval.",
        "- agent and block: stable-worldmodel's rule. After any step, the positions of both are "
        f"within {TOLERANCE.distance:g} px of the goal as one norm, and the block's angle within "
        f"{math.degrees(TOLERANCE.turn):g} degrees.",
        f"- block held: the block alone, within the same tolerances for {GOAL_HELD} steps in a "
        "row.",
        "- Others plan from pixels, on trajectories of human demonstrations, some of which start "
        "with the goal reached. Here planners know the full state. `random` is a policy drawn as "
        "those of the data.",
    ]
    return "\n".join([*lines, ""])
