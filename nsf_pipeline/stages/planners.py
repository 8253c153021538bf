"""What the stages share that put planners and models to the test."""

import json
from pathlib import Path

from nsf_pipeline import checks, label
from nsf_pipeline.config import Config
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import FileError, again, read_file, replacing
from nsf_pipeline.model import PushTModel, load_model
from nsf_pipeline.model.file import model_header
from nsf_pipeline.protocols.rows import FLOW, SECOND_ROUND, trained
from nsf_pipeline.provenance import Record, require_current


def load_trained(path: Path | None, world: str, config: Config) -> tuple[PushTModel, Record]:
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
    model, made = load_model(path), Record.read(model_header(path))
    both = "second_round" in made.settings  # it was trained on the data of both rounds
    own, wanted = made.variant or (SECOND_ROUND if both else FLOW), trained(world)
    if own != wanted:
        raise FileError(f"{path}: it is the model {own}; expected {wanted}, for {world}")
    if model.encoder.dmp != config.dmp:
        raise FileError(
            f"{path}: its policies are defined by other dmp settings than those given; "
            "train it again, or plan with its own settings"
        )
    return model, require_current(path, made, config)


def write_seconds(path: Path, seconds: float) -> None:
    """Write the time that a shard took to a file of its own, for it differs from run to run."""
    with replacing(path) as beside:
        beside.write_text(json.dumps({"seconds": round(seconds, 3)}) + "\n", encoding="utf-8")


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
