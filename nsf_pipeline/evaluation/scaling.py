"""Scaling curves: scores against data, width, depth and steps, one of them changed at a time."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from nsf_pipeline.evaluation.tables import FLOW

GROUP, METRIC = "block_position", "crps_ratio"
SIZES = ("trajectories", "width", "depth", "steps")
"""Columns of a model's sizes. Each is an axis, too."""
COLUMNS = (
    *("axis", "model", *SIZES, "parameters", "seconds", "seed", "validation_nll"),
    *("horizon_s", METRIC, f"{METRIC}_lower", f"{METRIC}_upper", "n_states"),
)
UNITS = {
    "trajectories": "trajectories trained on",
    "width": "units per hidden layer",
    "depth": "hidden layers of a network",
    "steps": "optimisation steps",
}


class Trained(NamedTuple):
    """A trained model of the curves.

    Attributes:
        trajectories: that it was trained on.
        width: units per hidden layer.
        depth: hidden layers of a network.
        steps: of the optimisation.
        parameters: of the transition law, without the bridge.
        seconds: that training took; s.
        seed: of the run.
        validation_nll: nats; the lowest, which the parameters belong to.
    """

    trajectories: int
    width: int
    depth: int
    steps: int
    parameters: int
    seconds: float
    seed: int
    validation_nll: float


def table(
    axes: Mapping[str, Sequence[str]], trained: Mapping[str, Trained], scores: pd.DataFrame
) -> pd.DataFrame:
    """`scaling.csv`: a row for each axis, model and horizon, by the value on the axis.

    Args:
        axes: by axis, the names of its models; the run's own model belongs to each, and none need
            name it.
        trained: the models by name.
        scores: of all of them, as `tables.intervals` gives them.
    """
    of_block = (scores["group"] == GROUP) & (scores["contact"] == "all")
    scores = scores[of_block & (scores["metric"] == METRIC)]
    rows = []
    for axis, names in axes.items():
        for name in sorted({FLOW, *names}, key=lambda name: getattr(trained[name], axis)):
            for found in scores[scores["model"] == name].to_dict("records"):
                of_horizon = (found[c] for c in ("horizon_s", "value", "lower", "upper"))
                rows.append((axis, name, *trained[name], *of_horizon, found["n_states"]))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def as_markdown(table: pd.DataFrame, notes: Sequence[str]) -> str:
    """A short table for each axis, and notes; the run's own model is marked.

    Args:
        table: as `table` gives it.
        notes: items to list.
    """
    lines = ["# Scaling", ""]
    for axis, rows in table.groupby("axis", sort=False):
        lines += [*_of_axis(str(axis), rows), ""]
    return "\n".join([*lines, *(f"- {note}" for note in notes), ""])


def _of_axis(axis: str, rows: pd.DataFrame) -> Iterator[str]:
    horizons = sorted(set(rows["horizon_s"]))
    heads = [UNITS[axis], "parameters", "training (min)", "validation NLL (nats)"]
    yield f"| {' | '.join([*heads, *(f'`{METRIC}`, {horizon:g} s' for horizon in horizons)])} |"
    yield f"|{' ---: |' * (len(heads) + len(horizons))}"
    for name, found in rows.groupby("model", sort=False):
        first, ratios = found.iloc[0], found.set_index("horizon_s")
        texts = [
            f"{first[axis]:,}" + " (the run)" * (name == FLOW),
            f"{first['parameters']:,}",
            f"{first['seconds'] / 60.0:.1f}",
            f"{first['validation_nll']:.2f}",
            *(_ratio(ratios.loc[horizon]) for horizon in horizons),
        ]
        yield f"| {' | '.join(texts)} |"


def _ratio(row: pd.Series) -> str:
    return f"{row[METRIC]:.3f} ({row[f'{METRIC}_lower']:.2f} to {row[f'{METRIC}_upper']:.2f})"


def notes(own: Trained, states: int, draws: int) -> list[str]:
    """What readers of the tables must know.

    Args:
        own: the run's own model.
        states: per horizon.
        draws: per state.
    """
    return [
        f"The columns of horizons have `{METRIC}`: the CRPS of the block's position in one pass, "
        "divided by the simulator's own; 1 is the limit. In brackets its 95 % interval, over "
        f"{states} test states with {draws} draws each. The states are the same for all models, so "
        "a difference between two models is surer than these intervals suggest.",
        f"The run's own model has {own.trajectories:,} training trajectories, width {own.width}, "
        f"depth {own.depth} and {own.steps:,} steps. Every other one has one of these changed. "
        f"Fewer trajectories are among more. Seed {own.seed}.",
        "The NLL is over the same validation split for all, and is the lowest during training. "
        "Parameters: of the transition law, without the bridge. Minutes are of this machine and "
        "what else it did.",
    ]
