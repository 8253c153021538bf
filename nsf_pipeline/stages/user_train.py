"""Training a model of a user's class, by the class's own code, on the data set."""

import csv
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsFloat, SupportsInt

from nsf_pipeline.config import Config
from nsf_pipeline.data import store
from nsf_pipeline.data.sources import sources, training_key
from nsf_pipeline.drawing import write_figure_or_placeholder
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import replacing, require_place
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.provenance import Record, require_current
from nsf_pipeline.stages import STAGES
from nsf_pipeline.system import printing
from nsf_pipeline.user_models import Data, UserModel, save_user_model

STAGE = STAGES["user_train"]
Rows = Sequence[Mapping[str, int | float]]


class _History:
    """The rows that a user's code reports, printed as they come."""

    def __init__(self, kind: str) -> None:
        self._kind, self._started = kind, time.monotonic()
        self.rows: list[dict[str, int | float]] = []

    def __call__(self, step: SupportsInt, **numbers: SupportsFloat) -> None:
        """Take down a row.

        Raises:
            UserError: it has other names than the row before, or what is no number.
        """
        try:
            given = {name: float(value) for name, value in numbers.items()}
            row = {
                "step": int(step),
                "seconds": round(time.monotonic() - self._started, 1),
                **given,
            }
        except (TypeError, ValueError):
            raise UserError(f"{self._kind}: report(step, **numbers): expected numbers") from None
        if len(row) < 2 + len(given) or (self.rows and row.keys() != self.rows[0].keys()):
            raise UserError(
                f"{self._kind}: report(step, **numbers): expected the same names in every row, "
                "and neither step nor seconds"
            )
        self.rows.append(row)
        said = ", ".join(f"{name} {value:.4g}" for name, value in given.items())
        printing.say(f"step {row['step']}, {row['seconds']:.0f} s: {said}")


@with_defaults
def run(
    config: Config, dataset: Path, output: Path, metrics: Path, curves: Path, *, variant: str
) -> None:
    """Train a model of a user's class, and write it with its metrics.

    There are no checkpoints: an interrupted training starts anew.

    Args:
        config: the settings, with the variant's changes.
        dataset: `dataset.h5`.
        output: where the model goes.
        metrics: where the rows that the class reports go as CSV.
        curves: where they go as a picture (PNG); a placeholder if it cannot be drawn.
        variant: the variant's name.

    Raises:
        FileError: the data set cannot be read or is stale, or a file cannot be written.
        UserError: the class cannot be imported, refuses its settings, or gives no arrays.
    """
    model = UserModel(config.model.kind, config.model.settings, config.dmp)
    for path in (output, metrics, curves):
        require_place(path)
    with store.reading(dataset, "dataset") as file:
        source = require_current(dataset, store.record_of(file), config)
        made = Record.new(STAGE, config, source, variant=variant)
        view = STAGE.view(config)
        data, history = Data(*sources(view, dataset, file)), _History(model.kind)
        printing.say(f"{len(data.train)} starts; {model.kind} trains by its own code")
        model.fit(data, training_key(view), history)
    fields = made.fields()
    settings = fields.pop("config")
    header = {**fields, "settings": settings, "dataset_fingerprint": source.fingerprint}
    save_user_model(output, model, header)
    _write(history.rows, metrics)
    write_figure_or_placeholder(lambda: _picture(history.rows), curves, made.fields())


def _write(rows: Rows, path: Path) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]) if rows else ["step", "seconds"])
    writer.writeheader()
    writer.writerows(rows)
    with replacing(path) as beside:
        beside.write_text(text.getvalue(), encoding="utf-8")


def _picture(rows: Rows) -> Any:
    """The curves. The module that draws them is not needed to train, and its import may fail."""
    from nsf_pipeline.training.curves import plain_picture

    return plain_picture(rows)
