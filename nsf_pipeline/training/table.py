"""The history of training as a table: metrics.csv."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from nsf_pipeline.files import FileError, replacing
from nsf_pipeline.training.callbacks import Callback
from nsf_pipeline.training.state import SUMMED, Row, TrainingState

METRICS = ("step", "seconds", *SUMMED, "validation_nll")
"""Columns of metrics.csv: means since the row before, losses in nats; clipped: share of steps."""


def best_of(rows: Sequence[Mapping[str, int | float]]) -> Mapping[str, int | float]:
    """The row with the lowest validation loss; NaN counts as the highest."""
    return min(rows, key=lambda row: (math.isnan(row["validation_nll"]), row["validation_nll"]))


def write_table(rows: Sequence[Row], path: Path) -> None:
    """Write rows of the history as CSV.

    Raises:
        FileError: it cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, METRICS)
    writer.writeheader()
    writer.writerows(rows)
    with replacing(path, anything=True) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def growing_table(path: Path) -> Callback:
    """Write the whole table again at the start and with each row; if that fails, training goes on.

    What stood there before is never read: an interrupted run's rows come from its checkpoint.
    """

    def write(state: TrainingState) -> None:
        with suppress(FileError):
            write_table(state.history, path)

    def begin(state: TrainingState) -> TrainingState:
        write(state)
        return state

    return Callback(on_start=begin, on_row=write)
