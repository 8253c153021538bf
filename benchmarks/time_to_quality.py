"""The seconds of training after which the validation loss is below stated marks, per training.

    python -m benchmarks.time_to_quality [NAME=]PATH ... [--marks 12 11 10.5 10]

Each PATH is a `metrics.csv` that training has written (`results/training/metrics.csv`, or that of a
variant, or of another version of this package on the same data). Between two rows the loss is taken
to fall evenly. A training that does not reach a mark has a dash. Times are comparable only from one
machine that had the same other work; steps are given beside them.
"""

import argparse
import csv
from pathlib import Path

Row = dict[str, float]


def read(path: Path) -> list[Row]:
    """The rows of a `metrics.csv`."""
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def reached(rows: list[Row], mark: float, column: str) -> float | None:
    """The seconds or steps after which the loss is first at the mark; None if it never is."""
    before: Row | None = None
    for row in rows:
        loss = row["validation_nll"]
        if loss <= mark:
            if before is None or before["validation_nll"] <= loss:
                return row[column]
            part = (before["validation_nll"] - mark) / (before["validation_nll"] - loss)
            return before[column] + part * (row[column] - before[column])
        before = row
    return None


def table(trainings: dict[str, list[Row]], marks: list[float]) -> str:
    """A Markdown table: a row per training, and of each mark the seconds and the steps."""
    heads = " | ".join(f"{mark:g} nats: s (steps)" for mark in marks)
    lines = [f"| training | {heads} | best, nats |", "| --- |" + " ---: |" * (len(marks) + 1)]
    for name, rows in trainings.items():
        cells = []
        for mark in marks:
            seconds, steps = (reached(rows, mark, column) for column in ("seconds", "step"))
            cells.append(
                "–" if seconds is None or steps is None else f"{seconds:.0f} ({steps:.0f})"
            )
        best = min(row["validation_nll"] for row in rows)
        lines.append(f"| {name} | {' | '.join(cells)} | {best:.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trainings", nargs="+", metavar="[NAME=]PATH")
    parser.add_argument("--marks", nargs="+", type=float, default=[12.0, 11.0, 10.5, 10.0])
    options = parser.parse_args()
    named = (given.rpartition("=") for given in options.trainings)
    print(table({name or path: read(Path(path)) for name, _, path in named}, options.marks))


if __name__ == "__main__":
    main()
