"""What the stages that compare models share: checked models, and a folder of reports."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nsf_pipeline.config import Config
from nsf_pipeline.data import store
from nsf_pipeline.drawing import NOT_DRAWN, write_figure_or_placeholder
from nsf_pipeline.evaluation.tables import FLOW
from nsf_pipeline.files import FileError, replacing
from nsf_pipeline.model.file import require_trained_on
from nsf_pipeline.provenance import Record, digest_of, require_current
from nsf_pipeline.stages.models import Model, read_model
from nsf_pipeline.user_models import UserModel


def load_models(
    paths: Mapping[str, Path], dataset: Path, config: Config
) -> tuple[dict[str, Model], list[Record]]:
    """Load models, and check that they were trained on a data set, with the settings' DMPs.

    The default model, and the settings' variants and scaling points, must also be current.

    Args:
        paths: files, by the names that tables give them; the default model's is `FLOW`.
        dataset: the data set.
        config: today's settings.

    Returns:
        The models by name; the records of the default model and of the data set.

    Raises:
        FileError: a file cannot be read, does not belong to the others or is stale.
    """
    read = {name: read_model(path, config) for name, path in paths.items()}
    models = {name: model for name, (model, _) in read.items()}
    headers = {name: header for name, (_, header) in read.items()}
    if isinstance(models[FLOW], UserModel):
        raise FileError(f"{paths[FLOW]}: a model of a user's class; give it as --variant NAME=PATH")
    with store.reading(dataset, "dataset") as file:
        source = store.record_of(file)
    for name, path in paths.items():
        if models[name].dmp != config.dmp:
            raise FileError(
                f"{path}: its policies are defined by other dmp settings than those given; "
                "train it again, or evaluate it with its own settings"
            )
        require_trained_on(dataset, source.fingerprint, path, headers[name])
    require_current(dataset, source, config)
    for name, path in paths.items():
        if name == FLOW or name in config.changed:
            own = config if name == FLOW else config.variant(name)
            require_current(path, Record.read(headers[name]), own)
    return models, [Record.read(headers[FLOW]), source]


def write_reports(
    folder: Path,
    names: Mapping[str, str],
    made: Record,
    texts: Mapping[str, str],
    figures: Mapping[str, Callable[[], Any]],
) -> None:
    """Write reports, and last a provenance file: what made them, and the checksum of each.

    Tables are written before any figure is drawn. A figure that cannot be drawn gets a placeholder,
    which the provenance file names.

    Args:
        folder: where to write.
        names: file names, by what a file holds, as in `paths.SCORES`.
        made: the record of all reports.
        texts: contents of the tables, by the same keys.
        figures: functions that make the pictures, by the same keys.

    Raises:
        FileError: a file cannot be written.
    """
    for what, text in texts.items():
        _write(folder / names[what], text)
    reasons = {
        names[what]: write_figure_or_placeholder(draw, folder / names[what])
        for what, draw in figures.items()
    }
    written = [names[what] for what in (*texts, *figures)]
    digests = {name: digest_of(folder / name) for name in written}
    missing = {name: reason for name, reason in reasons.items() if reason}
    fields = made.fields() | {"files": digests} | ({NOT_DRAWN: missing} if missing else {})
    _write(folder / names["provenance"], json.dumps(fields, indent=2, sort_keys=True) + "\n")


def _write(path: Path, text: str) -> None:
    with replacing(path) as beside:
        beside.write_text(text, encoding="utf-8")
