"""The table of what a second round of data brings."""

from collections.abc import Iterator, Sequence

import pandas as pd

from nsf_pipeline.data.schema import THRESHOLDS, TOLERANCES
from nsf_pipeline.protocols.push_tables import Judged, mean_interval, with_interval
from nsf_pipeline.protocols.rows import PAIRED_WITH, STANDARD, parsed
from nsf_pipeline.protocols.tables import NOISE, Played, kinds_of, paired, succeeded

COLUMNS = (
    *("protocol", "action_noise_std", "aim", "number", "flow", "second_round"),
    *("difference", "difference_lower", "difference_upper"),
)
ONE_PUSH = "one_push"


def second_round(
    judged: tuple[Judged, Judged], noise: float, played: Sequence[tuple[Played, Played]]
) -> pd.DataFrame:
    """A line for each protocol, level of the noise and aim.

    `flow` and `second_round` are the scores of one push, or the shares of episodes that succeeded;
    `difference` is the mean of what the second has more in the same tasks or episodes, with a 95 %
    interval: of a normal law over the tasks, and Newcombe's over the episodes (`tables.paired`).

    Args:
        judged: the tasks of one push, of the flow and of the flow with a second round.
        noise: px; the action noise of these.
        played: the episodes of each row, of the same two.
    """
    lines = []
    for place, (px, degrees) in enumerate(TOLERANCES):
        flow, second = (each.arrays["reached"][:, place] for each in judged)
        difference = mean_interval(second - flow)
        outcome = len(flow), flow.mean(), second.mean(), *difference
        lines.append((ONE_PUSH, noise, f"{px:g} px, {degrees:g} deg", *outcome))
    for pair in played:
        row = pair[0].row
        kinds = kinds_of(row)
        if row.variation == STANDARD and (NOISE, 0) not in kinds:
            kinds = [(STANDARD, 0), *kinds]
        for protocol, steps in kinds:
            for threshold in THRESHOLDS:
                flow, second = (succeeded(each, threshold, steps) for each in pair)
                outcome = len(flow), flow.mean(), second.mean(), *paired(flow, second)
                aim = f"above {threshold:g}"
                lines.append((protocol, row.action_noise_std, aim, *outcome))
    table = pd.DataFrame(lines, columns=list(COLUMNS)).drop_duplicates(list(COLUMNS[:3]))
    return table.sort_values("protocol", kind="stable", key=lambda names: names != ONE_PUSH)


def second_round_text(table: pd.DataFrame, trajectories: int, total: int) -> str:
    """The table for people.

    Args:
        table: of `second_round`.
        trajectories: of the second round.
        total: of both rounds.
    """
    lines = [
        f"# What a second round of {trajectories:,} trajectories brings",
        "",
        *_rows(table),
        "",
        f"- The second model is trained anew, on {total:,} trajectories of both rounds, by the "
        "same settings. In the second round a planner chose the policies with the first model.",
        "- one_push: the share of noisy runs of the chosen push that end within the tolerance, "
        f"with {parsed(PAIRED_WITH)[2]} draws of the model. Others: the share of episodes whose "
        "coverage exceeded the threshold, with the planner `contact` and 4 draws.",
        "- Difference: of the second model from the first in the same tasks or episodes; in "
        "brackets its 95 % interval, for episodes Newcombe's of paired proportions.",
    ]
    return "\n".join([*lines, ""])


def _rows(table: pd.DataFrame) -> Iterator[str]:
    yield "| protocol | action noise | aim | number | flow | second round | difference |"
    yield "| --- | ---: | --- | ---: | ---: | ---: | ---: |"
    for row in table.to_dict("records"):
        yield (
            f"| {row['protocol']} | {row['action_noise_std']:g} px | {row['aim']} | "
            f"{row['number']} | {row['flow']:.3f} | {row['second_round']:.3f} | "
            f"{with_interval(row, 'difference', '+.3f')} |"
        )
