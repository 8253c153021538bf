"""Tables: CSV for programs, Markdown for people."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from nsf_pipeline.evaluation.metrics import GROUPS, Estimate, estimate

FLOW, SIMULATOR, PERSISTENCE = "flow", "simulator", "persistence"
BINS = 20
"""Of PIT histograms."""
HORIZONS = (
    "model",
    "horizon_s",
    "group",
    "contact",
    "crps",
    "crps_lower",
    "crps_upper",
    "crps_simulator",
    "crps_ratio",
    "skill",
    "coverage_50",
    "coverage_90",
    "nll",
    "n_states",
)
STRATA = ("all", "contact", "free")


class Cell(NamedTuple):
    """What was averaged over some states.

    Attributes:
        model: as tables name it.
        horizon_s: s.
        contact: "all", "contact" or "free".
        n_states: how many.
        means: by the names of `comparison.score`, the mean and after it those of the resamples.
    """

    model: str
    horizon_s: float
    contact: str
    n_states: int
    means: dict[str, np.ndarray]


def horizons(cells: Sequence[Cell]) -> pd.DataFrame:
    """Scores per model, horizon, group and contact; NaN where undefined."""
    rows = []
    for cell, group, derived in _derived(cells):
        found = {name: estimate(values) for name, values in derived.items()}
        rows.append(
            {
                "model": cell.model,
                "horizon_s": cell.horizon_s,
                "group": group,
                "contact": cell.contact,
                "crps": found["crps"].value,
                "crps_lower": found["crps"].lower,
                "crps_upper": found["crps"].upper,
                "crps_simulator": found["crps_simulator"].value,
                "crps_ratio": found["crps_ratio"].value,
                "skill": found["skill"].value,
                "coverage_50": found["coverage_50"].value,
                "coverage_90": found["coverage_90"].value,
                "nll": found["nll"].value,
                "n_states": cell.n_states,
            }
        )
    return pd.DataFrame(rows, columns=list(HORIZONS))


def intervals(cells: Sequence[Cell]) -> pd.DataFrame:
    """Every score of `horizons`, and the bias of the mean, with its 95 % interval: one a row."""
    rows = []
    for cell, group, derived in _derived(cells):
        for name, values in derived.items():
            found = estimate(values)
            if name != "crps_simulator" and np.isfinite(found.value):
                place = (cell.model, cell.horizon_s, group, cell.contact)
                rows.append((*place, name, *found, cell.n_states))
    columns = ["model", "horizon_s", "group", "contact", "metric", *Estimate._fields, "n_states"]
    return pd.DataFrame(rows, columns=columns)


def distances(cells: Sequence[Cell]) -> pd.DataFrame:
    """Joint scores of the whole state, with 95 % intervals."""
    rows: list[dict[str, object]] = []
    for cell in cells:
        for joint in ("state", "pose"):
            row: dict[str, object] = {
                "model": cell.model,
                "horizon_s": cell.horizon_s,
                "group": joint,
                "contact": cell.contact,
            }
            for name in ("energy_score", "energy_distance", "split_half"):
                found = estimate(cell.means[f"{name} {joint}"])
                row |= {name: found.value, f"{name}_lower": found.lower}
                row |= {f"{name}_upper": found.upper}
            rows.append({**row, "n_states": cell.n_states})
    return pd.DataFrame(rows)


def calibration(cells: Sequence[Cell]) -> pd.DataFrame:
    """PIT histograms: the share of truths in each bin, with its 95 % interval."""
    rows = []
    for cell in cells:
        for group in GROUPS:
            for number in range(BINS):
                found = estimate(cell.means[f"pit_{number} {group}"])
                place = (cell.model, cell.horizon_s, group, cell.contact)
                bounds = number / BINS, (number + 1) / BINS
                rows.append((*place, *bounds, *found, cell.n_states))
    columns = ["model", "horizon_s", "group", "contact", "pit_from", "pit_to"]
    return pd.DataFrame(rows, columns=[*columns, "share", "share_lower", "share_upper", "n_states"])


def _derived(cells: Sequence[Cell]) -> Iterator[tuple[Cell, str, dict[str, np.ndarray]]]:
    """By cell and group, its scores and those relative to the simulator's and persistence's."""
    by_place = {(cell.model, cell.horizon_s, cell.contact): cell for cell in cells}
    for cell in cells:
        place = (cell.horizon_s, cell.contact)
        for group in GROUPS:
            crps, limit, still = (
                by_place[model, *place].means[f"crps {group}"]
                for model in (cell.model, SIMULATOR, PERSISTENCE)
            )
            bias = cell.means[f"squared_bias {group}"]
            yield (
                cell,
                group,
                {
                    "crps": crps,
                    "crps_simulator": limit,
                    "crps_ratio": _ratio(crps, limit),
                    "skill": 1.0 - _ratio(crps, still),
                    "coverage_50": cell.means[f"coverage_50 {group}"],
                    "coverage_90": cell.means[f"coverage_90 {group}"],
                    "bias": np.sqrt(np.maximum(bias, 0.0)),
                    "nll": cell.means["nll"],
                },
            )


def _ratio(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """NaN where there is nothing to divide by: fair scores of next to nothing may be negative."""
    positive = other > 0.0
    return np.where(positive, one / np.where(positive, other, 1.0), np.nan)


def as_csv(table: pd.DataFrame) -> str:
    """CSV with six significant digits, and nothing where a value is undefined."""
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def as_markdown(table: pd.DataFrame, notes: Sequence[str], more: Sequence[str] = ()) -> str:
    """Short tables, over all states: models sorted, the best in bold, the limit apart.

    Args:
        table: as `horizons` gives it.
        notes: lines that follow.
        more: a table of another kind.
    """
    found = sorted({float(horizon) for horizon in table["horizon_s"]})
    lines = ["# Prediction on the test split"]
    of_all = table[table["contact"] == "all"]
    for name, group in GROUPS.items():
        label = f"CRPS of the {name.replace('_', ' ')} ({group.unit})"
        rows = of_all[of_all["group"] == name]
        lines += ["", *_ranking(label, rows, "crps", found)]
    rows = of_all[of_all["group"] == next(iter(GROUPS))]
    rows = rows[rows["nll"].notna()]
    lines += ["", *_ranking("negative log-likelihood (nats)", rows, "nll", found)]
    lines += ["", *_calibration(table, found), "", *more, *[""] * bool(more)]
    return "\n".join([*lines, *(f"- {note}" for note in notes), ""])


def _head(first: str, columns: Sequence[str]) -> list[str]:
    heads = f"| {first} | {' | '.join(columns)} |"
    return [heads, f"| --- |{' ---: |' * len(columns)}"]


def _ranking(label: str, rows: pd.DataFrame, score: str, found: Sequence[float]) -> Iterator[str]:
    yield from _head(label, [f"{horizon:g} s" for horizon in found])
    values = rows.pivot(index="model", columns="horizon_s", values=score)
    limit = values.loc[SIMULATOR] if SIMULATOR in values.index else None
    rivals = values.drop(index=SIMULATOR, errors="ignore")
    rivals = rivals.iloc[rivals[found[-1]].argsort(kind="stable")]
    best = rivals.min()
    if limit is not None:
        yield f"| *the simulator itself: the limit* | {_joined(f'{limit[h]:.3g}' for h in found)} |"
    for model, scores in rivals.iterrows():
        shown = []
        for horizon in found:
            if np.isnan(scores[horizon]):
                shown.append("")
                continue
            text = f"{scores[horizon]:.3g}" if score == "crps" else f"{scores[horizon]:.2f}"
            text = f"**{text}**" if scores[horizon] == best[horizon] else text
            if limit is not None and limit[horizon] > 0:
                text += f" (×{scores[horizon] / limit[horizon]:.3g})"
            shown.append(text)
        yield f"| {model} | {_joined(shown)} |"


def _calibration(table: pd.DataFrame, found: Sequence[float]) -> Iterator[str]:
    columns = [f"{horizon:g} s" for horizon in found]
    yield from _head("flow: truths within the central 50 % / 90 %", columns)
    of_flow = {
        (row["group"], row["contact"], row["horizon_s"]): row
        for row in table[table["model"] == FLOW].to_dict("records")
    }
    for group in GROUPS:
        for contact in STRATA:
            shown = []
            for horizon in found:
                row = of_flow.get((group, contact, horizon))
                shown.append(f"{row['coverage_50']:.0%} / {row['coverage_90']:.0%}" if row else "")
            yield f"| {group.replace('_', ' ')}, {_worded(contact)} | {_joined(shown)} |"


def _worded(contact: str) -> str:
    return {"all": "all states", "contact": "with contact", "free": "without"}[contact]


def _joined(texts: Sequence[str] | Iterator[str]) -> str:
    return " | ".join(texts)
