"""The model's file: one line of JSON that says what it is, then the arrays.

Reading it runs no code from it: the line is data, and arrays are read without pickle into a model
that this package builds.
"""

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
from pydantic import ValidationError

from nsf_pipeline import label
from nsf_pipeline.config import DMPConfig, ModelConfig
from nsf_pipeline.files import FileError, again, replacing
from nsf_pipeline.model.build import build_model
from nsf_pipeline.model.model import PushTModel
from nsf_pipeline.model.normaliser import Normaliser
from nsf_pipeline.numerics import with_defaults

FORMAT = "nsf_pipeline model"
FORMAT_VERSION = 2


class ModelFileError(FileError):
    """A model's file is missing, damaged, foreign, or of a newer version."""


@with_defaults
def save_model(path: Path | str, model: PushTModel, attributes: dict[str, Any]) -> None:
    """Write a model; what stood there before is replaced only by a whole file.

    Args:
        path: where.
        model: what to save.
        attributes: kept in the header: fingerprint and versions, say.

    Raises:
        FileError: the file cannot be written.
    """
    encoder = model.encoder
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
        **attributes,
    }
    leaves.seek(0)
    header = label.seal(header, leaves)
    with replacing(Path(path)) as beside:
        beside.write_bytes(label.line(header) + leaves.getvalue())


@with_defaults
def load_model(path: Path | str) -> PushTModel:
    """Read a model, bit for bit the one that was saved.

    Raises:
        ModelFileError: one line: what is wrong with the file.
    """
    header, leaves = _read(Path(path))
    try:
        label.check(header, io.BytesIO(leaves))
    except label.LabelError:
        raise ModelFileError(
            f"{path}: damaged: its content is not what was saved (truncated or edited); "
            f"{again(path)}"
        ) from None
    try:
        config = ModelConfig.model_validate_json(json.dumps(header["config"]["model"]))
        dmp = DMPConfig.model_validate_json(json.dumps(header["config"]["dmp"]))
        low, high = header["normaliser"]["block_bounds"]
        normaliser = Normaliser(
            block_bounds=((float(low[0]), float(low[1])), (float(high[0]), float(high[1]))),
            scale=tuple(float(size) for size in header["normaliser"]["scale"]),
            noise=float(header["normaliser"]["noise"]),
        )
        if len(normaliser.scale) != config.state_dim:
            raise ValueError(f"expected {config.state_dim} scales, got {len(normaliser.scale)}")
        skeleton = eqx.filter_eval_shape(
            build_model, config, dmp, normaliser, key=jax.random.key(0)
        )
        return eqx.tree_deserialise_leaves(io.BytesIO(leaves), skeleton)
    except (
        ValidationError,
        KeyError,
        TypeError,
        AttributeError,
        ValueError,
        RuntimeError,
        EOFError,
    ) as error:
        raise ModelFileError(
            f"{path}: its header does not describe its arrays: {' '.join(str(error).split())}"
        ) from None


def model_header(path: Path | str) -> dict[str, Any]:
    """What the first line of a model's file says.

    Raises:
        ModelFileError: as `load_model`.
    """
    return _read(Path(path))[0]


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


def _read(path: Path) -> tuple[dict[str, Any], bytes]:
    try:
        with path.open("rb") as file:
            line = file.readline(label.MAX_BYTES)
            leaves = file.read()
    except OSError as error:
        raise ModelFileError(f"{path}: cannot read it: {error.strerror}") from None
    try:
        header = json.loads(line)
    except ValueError:
        header = None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise ModelFileError(f"{path}: not a model of nsf_pipeline; expected results/model.eqx")
    if header.get("format_version") != FORMAT_VERSION:
        raise ModelFileError(
            f"{path}: format version {header.get('format_version')}, but this nsf_pipeline reads "
            f"version {FORMAT_VERSION}; update nsf_pipeline or train the model again"
        )
    return header, leaves
