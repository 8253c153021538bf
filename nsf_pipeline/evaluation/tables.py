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
    keys = ["horizon_s", "group"]
    of_reference = table[table["model"] == reference].set_index(keys)["crps"]
    table["skill"] = 1.0 - table["crps"] / table.set_index(keys).index.map(of_reference)
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
    keys = ["group", "horizon_s"]
    ours = table[table["model"] == model].set_index(keys)
    theirs = table[table["model"] == reference].set_index(keys)
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
            row, other = ours.loc[(name, horizon)], theirs.loc[(name, horizon)]
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
        nll, other_nll = (side.loc[(first, horizon)]["nll"] for side in (ours, theirs))
        lines.append(f"| {horizon:g} | {nll:.2f} | {other_nll:.2f} |")
    return "\n".join([*lines, "", *(f"- {note}" for note in notes), ""])
