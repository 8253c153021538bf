"""The history of training as a table: metrics.csv."""

import csv
import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from nsf_pipeline.files import FileError, replacing
from nsf_pipeline.training.callbacks import Callback
from nsf_pipeline.training.state import SUMMED, Row, TrainingState

METRICS = ("step", "seconds", *SUMMED, "validation_nll")
"""Columns of metrics.csv: means since the row before, losses in nats; clipped: share of steps."""


def write_table(rows: Sequence[Row], path: Path) -> None:
    """Write rows of the history as CSV.

    Raises:
        FileError: it cannot be written.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, METRICS)
    writer.writeheader()
    writer.writerows(rows)
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def growing_table(path: Path) -> Callback:
    """Write the whole table again with each row; if that fails, training goes on."""

    def write(state: TrainingState) -> None:
        with suppress(FileError):
            write_table(state.history, path)

    return Callback(on_row=write)
