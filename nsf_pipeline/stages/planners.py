"""What the stages share that put planners and models to the test."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nsf_pipeline import checks, label
from nsf_pipeline.config import Config
from nsf_pipeline.data import store
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import FileError, again, read_file, replacing, require_place
from nsf_pipeline.protocols.rows import FLOW, SECOND_ROUND, trained, variant_of
from nsf_pipeline.provenance import Record, require_current
from nsf_pipeline.stages import STAGES
from nsf_pipeline.stages.models import Model, read_model


def load_trained(path: Path | None, world: str, config: Config) -> tuple[Model, Record]:
    """Load the trained model behind a world model, and its record.

    Args:
        path: the model; None if none was given.
        world: name of the world model.
        config: today's settings, with a variant's changes.

    Raises:
        FileError: the model cannot be read, is stale, is another than the name says, or has other
            dmp settings.
        UserError: none was given.
    """
    if path is None:
        raise UserError(f"--model: expected the trained model of {world}, got none")
    model, header = read_model(path, config)
    made = Record.read(header)
    own, wanted = name_of(made), trained(world)
    if own != wanted:
        raise FileError(f"{path}: it is the model {own}; expected {wanted}, for {world}")
    if model.dmp != config.dmp:
        raise FileError(
            f"{path}: its policies are defined by other dmp settings than those given; "
            "train it again, or plan with its own settings"
        )
    return model, require_current(path, made, config)


def name_of(made: Record) -> str:
    """The name of a trained model in tables, by its record."""
    both = "second_round" in made.settings  # it was trained on the data of both rounds
    return made.variant or (SECOND_ROUND if both else FLOW)


class Shard(NamedTuple):
    """A shard of what is put to the test, before it is written.

    Attributes:
        kind: of file: episodes, pushes or goals.
        first: number of its first item.
        stop: one past its last.
        output: the file.
        seconds: JSON with the time that it took, which differs from run to run; None for none.
    """

    kind: str
    first: int
    stop: int
    output: Path
    seconds: Path | None

    def prepare(
        self, config: Config, world: str, own: str, model_path: Path | None, dataset: Path | None
    ) -> tuple[Model | None, Record]:
        """Check all that can be checked before the long work.

        Args:
            config: the settings, with a variant's changes if the shard is of a variant.
            world: name of the world model.
            own: the trained model behind it; empty if there is none.
            model_path: the trained model's file; None if it has none.
            dataset: the data set that has the tasks; None for none.

        Returns:
            The trained model, or None; and the record of what makes the shard.

        Raises:
            FileError: a source cannot be read, is stale or of other settings, or a file cannot be
                written.
            UserError: the world model needs a trained model and has none.
        """
        for path in filter(None, (self.output, self.seconds)):
            require_place(path)
        sources, model = [], None
        if own:
            model, source = load_trained(model_path, world, config)
            sources.append(source)
        if dataset:
            with store.reading(dataset, "dataset") as file:
                sources.append(require_current(dataset, store.record_of(file), config))
        stage = STAGES[self.kind if own else f"untrained_{self.kind}"]
        return model, Record.new(stage, config, *sources, variant=variant_of(own))

    def write(
        self, made: Record, row: Mapping[str, Any], arrays: Mapping[str, np.ndarray], seconds: float
    ) -> None:
        """Write the shard, and the time that it took to a file of its own.

        Args:
            made: what makes it.
            row: the table's row that it belongs to.
            arrays: its arrays.
            seconds: that it took.

        Raises:
            FileError: a file cannot be written.
        """
        own = {"first": self.first, "stop": self.stop, "row": dict(row)}
        store.write(self.output, self.kind, arrays, made.fields() | own)
        if self.seconds:
            with replacing(self.seconds) as beside:
                text = json.dumps({"seconds": round(seconds, 3)})
                beside.write_text(text + "\n", encoding="utf-8")


def read_seconds(path: Path) -> float:
    """The time that a shard took, s.

    Raises:
        FileError: the file cannot be read or holds something else.
    """
    try:
        value = label.mapping(read_file(path, label.MAX_BYTES)).get("seconds")
    except OSError as error:
        raise FileError(f"{path}: cannot read it: {error.strerror}; {again(path)}") from None
    except label.LabelError as error:
        raise FileError(f"{path}: expected JSON with seconds; {again(path)} ({error})") from None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e9:
        raise FileError(f"{path}: expected seconds, got {checks.shown(value)}; {again(path)}")
    return float(value)
