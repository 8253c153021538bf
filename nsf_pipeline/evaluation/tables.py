"""Tables: CSV for programs, Markdown for people."""

import pandas as pd

from nsf_pipeline.evaluation.metrics import GROUPS

COLUMNS = (
    "model",
    "horizon_s",
    "group",
    "crps",
    "skill",
    "coverage_50",
    "coverage_90",
    "nll",
    "n_states",
)


def with_skill(rows: list[dict[str, object]], reference: str) -> pd.DataFrame:
    """The table of some rows, with skill = 1 - CRPS over the reference model's."""
    table = pd.DataFrame(rows)
    of_reference = table.loc[table["model"] == reference, ["horizon_s", "group", "crps"]]
    matched = table.merge(of_reference, on=["horizon_s", "group"], suffixes=("", "_reference"))
    table["skill"] = 1.0 - matched["crps"] / matched["crps_reference"]
    return table[list(COLUMNS)]


def as_csv(table: pd.DataFrame) -> str:
    """CSV with six significant digits."""
    return table.to_csv(index=False, float_format="%.6g", lineterminator="\n")


def as_markdown(table: pd.DataFrame, model: str, reference: str, notes: list[str]) -> str:
    """A short table: per group and horizon, a model beside its reference.

    Args:
        table: as `with_skill` gives it.
        model: whose scores are read.
        reference: what they are held against.
        notes: lines that follow.
    """
    cells = {(r["model"], r["group"], r["horizon_s"]): r for r in table.to_dict("records")}
    horizons = sorted({float(horizon) for horizon in table["horizon_s"]})
    lines = [
        "# Prediction on the test split",
        "",
        f"| | horizon (s) | CRPS: {model} | CRPS: {reference} | skill | 50 % interval holds "
        "| 90 % interval holds | states |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, group in GROUPS.items():
        for horizon in horizons:
            row, other = (cells[side, name, horizon] for side in (model, reference))
            label = f"{name.replace('_', ' ')} ({group.unit})"
            lines.append(
                f"| {label} | {horizon:g} | {row['crps']:.3g} | {other['crps']:.3g} | "
                f"{row['skill']:.2f} | {row['coverage_50']:.0%} | {row['coverage_90']:.0%} | "
                f"{row['n_states']:.0f} |"
            )
    lines += [
        "",
        f"| horizon (s) | negative log-likelihood (nats): {model} | {reference} |",
        "| ---: | ---: | ---: |",
    ]
    first = next(iter(GROUPS))
    for horizon in horizons:
        nll, other_nll = (cells[side, first, horizon]["nll"] for side in (model, reference))
        lines.append(f"| {horizon:g} | {nll:.2f} | {other_nll:.2f} |")
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), ""])
