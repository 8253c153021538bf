"""The model's file: one line of JSON that says what it is, then the arrays.

Reading it runs no code from it: the line is data, held against a schema, and arrays are read
without pickle into a model that this package builds.
"""

import io
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import equinox as eqx
import jax
from pydantic import ConfigDict, Field, ValidationError

from nsf_pipeline import arrays, label
from nsf_pipeline.config import DMPConfig, ModelConfig
from nsf_pipeline.config.section import Section
from nsf_pipeline.files import FileError, again, open_file, replacing
from nsf_pipeline.model.build import build_model
from nsf_pipeline.model.model import PushTModel
from nsf_pipeline.model.normaliser import LEAST, Normaliser
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.provenance import Record

FORMAT = "nsf_pipeline model"
FORMAT_VERSION = 5
START = json.dumps({"format": FORMAT})[:-1].encode()
"""How each file starts."""
USER_FORMAT = "nsf_pipeline user model"
USER_START = json.dumps({"format": USER_FORMAT})[:-1].encode()
"""How each file of a model of a user's class starts; `user_models.file` reads these."""
GREATEST = 1e5
"""px, px/s, rad; no size in a normaliser is greater."""


class ModelFileError(FileError):
    """A model's file is missing, damaged, foreign, or of another version."""


Size = Annotated[float, Field(ge=LEAST, le=GREATEST)]
Place = Annotated[float, Field(ge=-GREATEST, le=GREATEST)]


class _Normaliser(Section):
    block_bounds: tuple[tuple[Place, Place], tuple[Place, Place]]
    scale: tuple[Size, ...]


class _Parts(Section):
    model: ModelConfig
    dmp: DMPConfig


class _Settings(Section):
    """What is read of the settings that the training had; an older version may have had others."""

    model_config = ConfigDict(extra="allow")

    seed: int = Field(default=0, ge=0, lt=2**63)


class _Header(Section):
    """The first line. What users add, under other names, is kept and means nothing here."""

    model_config = ConfigDict(extra="allow")

    format: Literal["nsf_pipeline model"]
    format_version: int
    config: _Parts
    normaliser: _Normaliser
    settings: _Settings = _Settings()
    dataset_fingerprint: str | None = None
    step: Annotated[int, Field(ge=0)] | None = None
    validation_nll: float | None = None


@with_defaults
def save_model(path: Path | str, model: PushTModel, attributes: dict[str, Any]) -> None:
    """Write a model; what stood there before is replaced only by a whole file.

    Args:
        path: where.
        model: what to save; its numbers are finite.
        attributes: plain values that are kept in the header: fingerprint and versions, say.

    Raises:
        FileError: the file cannot be written, or `load_model` would refuse it.
    """
    encoder = model.encoder
    if not arrays.are_finite(model):
        raise ModelFileError(f"{path}: cannot write it: the model's weights are not finite")
    leaves = io.BytesIO()
    eqx.tree_serialise_leaves(leaves, model)
    header = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "config": {
            "model": encoder.config.model_dump(mode="json"),
            "dmp": encoder.dmp.model_dump(mode="json"),
        },
        "normaliser": encoder.normaliser._asdict(),
    }
    if taken := header.keys() & attributes.keys():
        raise ModelFileError(f"{path}: cannot write it: the attribute {min(taken)} is taken")
    leaves.seek(0)
    line = label.line(label.seal({**header, **attributes}, leaves))
    try:
        if len(line) > label.MAX_BYTES:
            raise label.LabelError(f"its header would be longer than {label.MAX_BYTES} bytes")
        _parsed(label.mapping(line))
    except ValueError as error:
        raise ModelFileError(f"{path}: cannot write it: {error}") from None
    with replacing(Path(path)) as beside:
        beside.write_bytes(line + leaves.getvalue())


@with_defaults
def load_model(path: Path | str) -> PushTModel:
    """Read a model, bit for bit the one that was saved.

    Raises:
        ModelFileError: one line: what is wrong with the file.
    """
    with _opened(path) as (file, fields, header):
        config, dmp = header.config.model, header.config.dmp
        normaliser = Normaliser(**dict(header.normaliser))
        skeleton = eqx.filter_eval_shape(
            build_model, config, dmp, normaliser, key=jax.random.key(0)
        )
        with damage_is_told(path):
            arrays.require_size(skeleton, fields["size"])
            leaves = io.BytesIO(file.read(fields["size"]))
            label.check(fields, leaves)
            leaves.seek(0)
            model = arrays.read(leaves, skeleton)
    if not arrays.are_finite(model):
        raise ModelFileError(f"{path}: its weights are not finite; train again")
    return model


def model_header(path: Path | str) -> dict[str, Any]:
    """What the first line of a model's file says; the arrays are not read.

    Raises:
        ModelFileError: as `load_model`.
    """
    with _opened(path) as (_, fields, _):
        return fields


def require_trained_on(
    dataset: Path, fingerprint: str | None, path: Path | str, header: Mapping[str, Any]
) -> None:
    """Refuse a data set that a model was not trained on: its test split is not the model's.

    Args:
        dataset: names the data set.
        fingerprint: the data set's.
        path: the model's file.
        header: what its first line says.

    Raises:
        FileError: it is another one.
    """
    trained_on = header.get("dataset_fingerprint")
    if fingerprint != trained_on:
        raise FileError(
            f"{dataset}: not the data set that {path} was trained on (fingerprint "
            f"{fingerprint}, then {trained_on}): its test split may hold "
            "trajectories that the model has seen; train again or give the other data set"
        )


@contextmanager
def damage_is_told(path: Path | str) -> Iterator[None]:
    """Turn what is wrong with the arrays of a model's file into a ModelFileError."""
    try:
        yield
    except label.LabelError:
        raise ModelFileError(
            f"{path}: damaged: its content is not what was saved (truncated or edited); "
            f"{again(path)}"
        ) from None
    except arrays.ArraysError as error:
        raise ModelFileError(
            f"{path}: its header does not describe its arrays: {error}; {again(path)}"
        ) from None


@contextmanager
def _opened(path: Path | str) -> Iterator[tuple[io.BufferedReader, dict[str, Any], _Header]]:
    """A model's file at its arrays; its header, as it stands there and as checked."""
    try:
        with open_file(path) as file:
            start = file.read(max(len(START), len(USER_START)))
            if start.startswith(USER_START):
                raise ModelFileError(
                    f"{path}: a model of a user's class, and a file never says of which; "
                    "`evaluate`, `compare`, `speed`, `plan` and `snakemake planning` take it from "
                    "the settings, and nsf_pipeline.user_models.load_user_model from its caller"
                )
            if not start.startswith(START):
                raise ModelFileError(
                    f"{path}: not a model of nsf_pipeline; expected results/model.eqx"
                )
            file.seek(0)
            fields = label.read(file) or {}
            version = fields.get("format_version")
            if type(version) is int and version != FORMAT_VERSION:
                raise ModelFileError(
                    f"{path}: format version {version}, but this nsf_pipeline reads version "
                    f"{FORMAT_VERSION}; update nsf_pipeline or train the model again"
                )
            yield file, fields, _parsed(fields)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot read it: {error.strerror}") from None
    except label.LabelError as error:
        raise ModelFileError(
            f"{path}: not a model of nsf_pipeline: {error}; {again(path)}"
        ) from None


def _parsed(fields: Mapping[str, Any]) -> _Header:
    """A header held against its schema; a LabelError if it contradicts that or itself."""
    try:
        header = _Header.model_validate_json(json.dumps(fields))
    except ValidationError as error:
        raise label.LabelError(f"its header is not a model's: {label.explained(error)}") from None
    scales, expected = len(header.normaliser.scale), header.config.model.state_dim
    low, high = header.normaliser.block_bounds
    if scales != expected:
        raise label.LabelError(
            f"its header is not a model's: expected {expected} scales, got {scales}"
        )
    if not all(least + LEAST <= most for least, most in zip(low, high, strict=True)):
        raise label.LabelError(f"its header is not a model's: block_bounds from {low} to {high}")
    if header.config.model.user_class:
        raise label.LabelError("its header is not a model's: its kind is none of this package's")
    for name, part in fields["config"].items():
        if fields.get("settings", {}).get(name, part) != part:
            raise label.LabelError(
                f"its header is not a model's: settings.{name} is not config.{name}"
            )
    Record.read(fields)
    return header
