"""Tables: CSV for programs, Markdown for people."""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from nsf_pipeline.evaluation import metrics
from nsf_pipeline.evaluation.metrics import (
    BINS,
    GROUPS,
    HISTOGRAM,
    JOINTS,
    ByContact,
    Estimate,
    Means,
    Metric,
    Over,
    Ranking,
    Score,
    estimate,
)

FLOW, SIMULATOR, PERSISTENCE, RANDOM = "flow", "simulator", "persistence", "random"
FLOORS = {"simulator_from_10": "members_10", "simulator_from_7": "members_7"}
"""The simulator entered at a state's numbers, and the members that are: what the simulator predicts
from no more than ten or seven numbers."""
PLACE = ("model", "horizon_s", "group", "contact")
"""The first columns of all tables; metrics' columns follow, and the last is `n_states`."""
INTERVALS = (*PLACE, "metric", *Estimate._fields, "n_states")
SHARES = ("pit_from", "pit_to", "share", "share_lower", "share_upper")
CALIBRATION = (*PLACE, *SHARES, "n_states")
STRATA = ("all", "contact", "free")


class Cell(NamedTuple):
    """Mean scores over some states.

    Attributes:
        model: its name in tables.
        horizon_s: s.
        contact: "all", "contact" or "free".
        n_states: how many.
        means: by score and group, the mean and after it those of the resamples.
    """

    model: str
    horizon_s: float
    contact: str
    n_states: int
    means: dict[tuple[Score, str], np.ndarray]


def horizons(cells: Sequence[Cell]) -> pd.DataFrame:
    """Metrics per model, horizon, group and contact; NaN where undefined."""
    return _wide(cells, [m for m in metrics.METRICS if m.score.over is not Over.JOINTS])


def distances(cells: Sequence[Cell]) -> pd.DataFrame:
    """Metrics of joint vectors per model, horizon, group and contact; NaN where undefined."""
    return _wide(cells, [m for m in metrics.METRICS if m.score.over is Over.JOINTS])


def noise(cells: Mapping[str, Sequence[Cell]]) -> pd.DataFrame:
    """The rows of `horizons` for each class of action noise; none if all states have the same.

    Args:
        cells: by the name of the class.
    """
    parts = {name: horizons(of_class) for name, of_class in cells.items()} or {"": horizons([])}
    for name, part in parts.items():
        part.insert(len(PLACE), "noise", name)
    return pd.concat(parts.values(), ignore_index=True)


def intervals(cells: Sequence[Cell]) -> pd.DataFrame:
    """Metrics with their 95 % intervals, one per row; no row where undefined."""
    rows = [
        (*place, metric.name, *found, size)
        for place, estimates, size in _estimates(cells, [m for m in metrics.METRICS if m.row])
        for metric, found in estimates.items()
        if np.isfinite(found.value)
    ]
    return pd.DataFrame(rows, columns=list(INTERVALS))


def calibration(cells: Sequence[Cell]) -> pd.DataFrame:
    """PIT histograms: the share of truths in each bin, with its 95 % interval."""
    rows = []
    for cell in cells:
        for group in GROUPS:
            for number, score in enumerate(HISTOGRAM):
                found = estimate(cell.means[score, group])
                place = (cell.model, cell.horizon_s, group, cell.contact)
                bounds = number / BINS, (number + 1) / BINS
                rows.append((*place, *bounds, *found, cell.n_states))
    return pd.DataFrame(rows, columns=list(CALIBRATION))


def _wide(cells: Sequence[Cell], chosen: Sequence[Metric]) -> pd.DataFrame:
    names = {
        (metric, field): metric.name if field == "value" else f"{metric.name}_{field}"
        for metric in chosen
        for field in metric.columns
    }
    rows = [
        (*place, *(getattr(found[metric], field) for metric, field in names), size)
        for place, found, size in _estimates(cells, chosen)
    ]
    return pd.DataFrame(rows, columns=[*PLACE, *names.values(), "n_states"])


def _estimates(
    cells: Sequence[Cell], chosen: Sequence[Metric]
) -> Iterator[tuple[tuple[str, float, str, str], dict[Metric, Estimate], int]]:
    """For each cell and group: the first columns, the metrics, and the number of states."""
    by_place = {(cell.model, cell.horizon_s, cell.contact): cell for cell in cells}
    for cell in cells:
        beside = [
            by_place[model, cell.horizon_s, cell.contact].means
            for model in (cell.model, SIMULATOR, PERSISTENCE)
        ]
        for group in (*GROUPS, *JOINTS):
            found = {
                metric: estimate(
                    metric.derived(Means(*(m[metric.score, metric.of(group)] for m in beside)))
                )
                for metric in chosen
                if group in metric.groups
            }
            if found:
                yield (cell.model, cell.horizon_s, group, cell.contact), found, cell.n_states


def as_csv(table: pd.DataFrame) -> str:
    """CSV with six significant digits, and nothing where a value is undefined."""
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def as_markdown(
    table: pd.DataFrame,
    by_noise: pd.DataFrame,
    notes: Sequence[str],
    more: Sequence[str] = (),
) -> str:
    """Short tables: the simulator's rows, then the models, sorted, with the best in bold.

    Args:
        table: as `horizons` gives it.
        by_noise: as `noise` gives it.
        notes: items to list after the meanings of the metrics.
        more: lines of another table.
    """
    found = sorted({float(horizon) for horizon in table["horizon_s"]})
    lines = ["# Prediction on the test split"]
    together: dict[str, list[tuple[Metric, ByContact]]] = {}
    for metric in metrics.METRICS:
        if isinstance(metric.shown, Ranking):
            lines += _ranking(metric, metric.shown, table, found)
        elif metric.shown:
            together.setdefault(metric.shown.title, []).append((metric, metric.shown))
    for title, shown in together.items():
        lines += ["", *_by_contact(title, shown, table, found)]
    if len(by_noise):
        lines += ["", *_by_noise(by_noise, found)]
    lines += ["", *more, *[""] * bool(more)]
    meanings = (f"`{m.name}` ({_unit(m)}): {m.meaning}." for m in metrics.METRICS)
    return "\n".join([*lines, *(f"- {note}" for note in (*meanings, *notes)), ""])


def _unit(metric: Metric) -> str:
    return metric.unit or " or ".join(dict.fromkeys(group.unit for group in GROUPS.values()))


def _head(first: str, found: Sequence[float]) -> list[str]:
    heads = _joined(f"{horizon:g} s" for horizon in found)
    return [f"| {first} | {heads} |", f"| --- |{' ---: |' * len(found)}"]


def _ranking(
    metric: Metric, shown: Ranking, table: pd.DataFrame, found: Sequence[float]
) -> Iterator[str]:
    """A table for each group, or one for the whole state, each after a blank line."""
    of_all, whole = table[table["contact"] == "all"], metric.score.over is Over.STATE
    for name, group in list(GROUPS.items())[: 1 if whole else None]:
        of = "" if whole else f" of the {name.replace('_', ' ')}"
        yield ""
        yield from _head(f"{shown.title}{of} ({metric.unit or group.unit})", found)
        rows = of_all[of_all["group"] == name]
        values = rows.pivot(index="model", columns="horizon_s", values=metric.name)
        yield from _ranked(values.dropna(how="all"), found, shown.number)


def _ranked(values: pd.DataFrame, found: Sequence[float], number: str) -> Iterator[str]:
    limit = values.loc[SIMULATOR].to_dict() if SIMULATOR in values.index else None
    rivals = values.drop(index=[SIMULATOR, *FLOORS], errors="ignore")
    rivals = rivals.iloc[rivals[found[-1]].argsort(kind="stable")]
    best = rivals.min()
    if limit is not None:
        shown = _joined(_text(limit[horizon], number) for horizon in found)
        yield f"| *the simulator itself: the limit* | {shown} |"
    floors = values.reindex([model for model in FLOORS if model in values.index])
    rows = [(f"*{model}*", scores, False) for model, scores in floors.iterrows()]
    rows += [(str(model), scores, True) for model, scores in rivals.iterrows()]
    for model, scores, competes in rows:
        texts = []
        for horizon in found:
            value = scores[horizon]
            text = _text(value, number)
            text = f"**{text}**" if competes and value == best[horizon] else text
            if text and limit is not None and limit[horizon] > 0:
                text += f" (×{value / limit[horizon]:.3g})"
            texts.append(text)
        yield f"| {model} | {_joined(texts)} |"


def _by_contact(
    title: str,
    shown: Sequence[tuple[Metric, ByContact]],
    table: pd.DataFrame,
    found: Sequence[float],
) -> Iterator[str]:
    parts = " / ".join(how.part for _, how in shown)
    yield from _head(f"{FLOW}: {title} {parts}", found)
    of_flow = {
        (row["group"], row["contact"], row["horizon_s"]): row
        for row in table[table["model"] == FLOW].to_dict("records")
    }
    for group in GROUPS:
        for contact in STRATA:
            texts = []
            for horizon in found:
                row = of_flow.get((group, contact, horizon), {})
                numbers = (_text(row[m.name], how.number) for m, how in shown if row)
                texts.append(" / ".join(numbers))
            yield f"| {group.replace('_', ' ')}, {_worded(contact)} | {_joined(texts)} |"


def _by_noise(table: pd.DataFrame, found: Sequence[float]) -> Iterator[str]:
    """The flow's CRPS by group and class of action noise, over all states."""
    yield from _head(f"{FLOW}: CRPS by action noise ({_unit(metrics.METRICS[0])})", found)
    rows = table[(table["model"] == FLOW) & (table["contact"] == "all")]
    cells = {(row["group"], row["noise"], row["horizon_s"]): row for row in rows.to_dict("records")}
    for group in GROUPS:
        for name in dict.fromkeys(rows["noise"]):
            texts = []
            for horizon in found:
                row = cells.get((group, name, horizon), {"crps": np.nan, "crps_ratio": np.nan})
                relative = _text(row["crps_ratio"], ".3g")
                texts.append(_text(row["crps"], ".3g") + f" (×{relative})" * bool(relative))
            yield f"| {group.replace('_', ' ')}, {name} | {_joined(texts)} |"


def _text(value: float, number: str) -> str:
    return "" if np.isnan(value) else format(value, number)


def _worded(contact: str) -> str:
    return {"all": "all states", "contact": "with contact", "free": "without"}[contact]


def _joined(texts: Sequence[str] | Iterator[str]) -> str:
    return " | ".join(texts)
