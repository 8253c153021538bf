"""The file of a user's model: one line of JSON that says what it is, then its arrays.

The line names no code: which class reads the arrays is for the caller to say, from settings. It
holds the record of what made the file, and each array's type and shape.
"""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import ConfigDict, Field, ValidationError

from nsf_pipeline import arrays, label
from nsf_pipeline.config import DMPConfig
from nsf_pipeline.config.section import Section
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import again, open_file, replacing
from nsf_pipeline.model.file import USER_FORMAT, USER_START, ModelFileError, damage_is_told
from nsf_pipeline.provenance import Record
from nsf_pipeline.user_models.model import KINDS_OF_NUMBERS, MOST_ARRAYS, UserModel

VERSION = 1
Axis = Annotated[int, Field(ge=0, lt=2**40)]


class _Array(Section):
    dtype: Annotated[str, Field(pattern=f"^[<|][{KINDS_OF_NUMBERS}][1248]$")]
    shape: Annotated[tuple[Axis, ...], Field(max_length=16)]


class _Header(Section):
    model_config = ConfigDict(extra="allow")

    format: Literal["nsf_pipeline user model"]
    format_version: int
    dmp: DMPConfig
    arrays: Annotated[dict[str, _Array], Field(max_length=MOST_ARRAYS)]
    dataset_fingerprint: str | None = None


def save_user_model(path: Path, model: UserModel, attributes: Mapping[str, Any]) -> None:
    """Write a model; what stood there before is replaced only by a whole file.

    Args:
        path: where.
        model: what to save.
        attributes: plain values that are kept in the header: what made it.

    Raises:
        FileError: the file cannot be written.
        UserError: the class gives no arrays of finite numbers by name.
    """
    content, described = io.BytesIO(), {}
    for name, array in model.arrays().items():
        plain = np.ascontiguousarray(array).reshape(array.shape)
        plain = plain.astype(plain.dtype.newbyteorder("<"), copy=False)
        np.lib.format.write_array(content, plain, (1, 0), allow_pickle=False)
        described[name] = {"dtype": plain.dtype.str, "shape": list(plain.shape)}
    header = {
        "format": USER_FORMAT,
        "format_version": VERSION,
        "dmp": model.dmp.model_dump(mode="json"),
        "arrays": described,
        **attributes,
    }
    content.seek(0)
    line = label.line(label.seal(header, content))
    if len(line) > label.MAX_BYTES:
        raise ModelFileError(
            f"{path}: cannot write it: its header would be longer than {label.MAX_BYTES} bytes; "
            "give fewer arrays"
        )
    with replacing(path) as beside:
        beside.write_bytes(line + content.getvalue())


def is_user_model(path: Path | str) -> bool:
    """Whether a file starts as that of a user's model does; what cannot be read does not."""
    try:
        with open_file(path) as file:
            return file.read(len(USER_START)) == USER_START
    except OSError:
        return False


def user_model_header(path: Path | str) -> dict[str, Any]:
    """What the first line of a user's model says; the arrays are not read.

    Raises:
        ModelFileError: it cannot be read, or is none.
    """
    with _opened(path) as (_, fields, _):
        return fields


def load_user_model(path: Path | str, kind: str) -> UserModel:
    """Read a user's model: this imports and runs the class that is given.

    Args:
        path: the file.
        kind: `package.module:Class`, from the settings or the user, never from the file.

    Raises:
        ModelFileError: the file cannot be read, or is damaged, or the class refuses its arrays.
        UserError: the class cannot be imported, or refuses the settings of the training.
    """
    with _opened(path) as (file, fields, header):
        trained = fields.get("settings", {}).get("model", {})
        if trained.get("kind") != kind:
            raise ModelFileError(
                f"{path}: it is of another class than {kind}, which the settings name; train again"
            )
        like = {name: (each.dtype, each.shape) for name, each in header.arrays.items()}
        with damage_is_told(path):
            arrays.require_numpy_size(like, fields["size"])
            content = io.BytesIO(file.read(fields["size"]))
            label.check(fields, content)
            content.seek(0)
            found = arrays.read_numpy(content, like)
    model = UserModel(kind, trained.get("settings", {}), header.dmp)
    try:
        model.load(found)
    except UserError as error:
        raise ModelFileError(f"{path}: {error}") from None
    return model


@contextmanager
def _opened(path: Path | str) -> Iterator[tuple[io.BufferedReader, dict[str, Any], _Header]]:
    """The file at its arrays; its header, as it stands there and as checked."""
    try:
        with open_file(path) as file:
            fields = label.read(file) or {}
            header = _Header.model_validate_json(json.dumps(fields))
            settings = fields.get("settings", {})
            model = settings.get("model", {}) if isinstance(settings, dict) else None
            if not isinstance(model, dict) or not isinstance(model.get("settings", {}), dict):
                raise label.LabelError("its settings cannot be read")
            if header.format_version != VERSION:
                raise label.LabelError(
                    f"format version {header.format_version}, expected {VERSION}"
                )
            Record.read(fields)
            yield file, fields, header
    except OSError as error:
        raise ModelFileError(f"{path}: cannot read it: {error.strerror}") from None
    except ValidationError as error:
        reason = label.explained(error)
        raise ModelFileError(
            f"{path}: its header is not that of a user's model: {reason}; {again(path)}"
        ) from None
    except label.LabelError as error:
        raise ModelFileError(f"{path}: not a user's model: {error}; {again(path)}") from None
