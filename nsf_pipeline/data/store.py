"""Every HDF5 file of the pipeline: its schema, writing and reading.

A schema is a table of arrays. A file is written under a temporary name and renamed when complete,
so that a file under its own name is always whole. Identical content gives identical bytes. HDF5's
user block, ahead of its own bytes, holds a label: it says what the file holds and what made it, and
its checksum detects damage before the HDF5 library reads the file.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

from nsf_pipeline import label
from nsf_pipeline.files import FileError, again, replacing
from nsf_pipeline.provenance import Record
from nsf_pipeline.pusht.state import STATE, STATE_WITHOUT_VELOCITY, StateLayout
from nsf_pipeline.signals import undisturbed

SCHEMA_VERSION = 1
# Shards are compressed, in chunks of this many trajectories. The data set is not, because training
# reads its rows at random. docs/benchmarks.md has the figures.
CHUNK_TRAJECTORIES = 64
BLOCK = 4 * CHUNK_TRAJECTORIES  # trajectories in memory at once when a long file is read
USER_BLOCK = 512  # bytes; the smallest that HDF5 allows


class StoreError(FileError):
    """An HDF5 file is missing, damaged, or not the kind of file that was expected."""


class Field(NamedTuple):
    """One array: its axes after the trajectory's, type, unit and meaning.

    Axes are numbers or names: "T" control steps, "T+1" states, "B" basis functions, "C" the DMP
    vector's length, "M" members. `scaled` arrays are scaled to [-1, 1] in `dataset.h5`.
    """

    axes: tuple[int | str, ...]
    dtype: str
    unit: str
    meaning: str
    scaled: bool = False


def state_field(
    layout: StateLayout, dtype: str, meaning: str, *axes: int | str, scaled: bool = False
) -> Field:
    """States of a layout along some axes."""
    unit = ", ".join(dict.fromkeys(layout.units))
    return Field((*axes, layout.dim), dtype, unit, meaning, scaled)


TRAJECTORY = Field((), "int64", "1", "index in the whole data set")
SEED = Field((), "int64", "1", "seed of env.reset")
INITIAL_STATE = state_field(STATE, "float64", STATE.meaning, scaled=True)
FROM_RESET = Field((), "bool", "1", "the state of env.reset(seed); false: entered directly")
CONDITION = Field(("C",), "float64", "mixed", "the packed DMP vector", scaled=True)

POLICIES: dict[str, Field] = {
    "trajectory": TRAJECTORY,
    "seed": SEED,
    "initial_state": INITIAL_STATE,
    "from_reset": FROM_RESET,
    "duration": Field((), "float64", "s", "length of the policy"),
    "start": Field((2,), "float64", "px", "first desired position"),
    "goal": Field((2,), "float64", "px", "last desired position"),
    "weights": Field((2, "B"), "float64", "1", "forcing weights"),
    "stiffness": Field((), "float64", "1/duration^2", "K"),
    "damping": Field((), "float64", "1/duration", "D"),
    "condition": CONDITION,
}

ROLLOUTS: dict[str, Field] = {
    "trajectory": TRAJECTORY,
    "seed": SEED,
    "initial_state": INITIAL_STATE,
    "from_reset": FROM_RESET,
    "condition": CONDITION,
    "observations": state_field(
        STATE_WITHOUT_VELOCITY,
        "float32",
        f"{STATE_WITHOUT_VELOCITY.meaning} in [0, 2 pi)",
        "T+1",
        scaled=True,
    ),
    "agent_velocity": Field(("T+1", 2), "float32", "px/s", "agent velocity", scaled=True),
    "block_angle": Field(("T+1",), "float32", "rad", "continuous angle, not wrapped", scaled=True),
    "targets": Field(("T", 2), "float32", "px", "the DMP's desired positions", scaled=True),
    "actions": Field(("T", 2), "float32", "px", "what the environment was given", scaled=True),
    "rewards": Field(("T",), "float32", "1", "reward of each step"),
    "coverage": Field(("T",), "float32", "1", "share of the goal covered after each step"),
    "observation_mask": Field(("T+1",), "bool", "1", "true where a state was reached"),
    "action_mask": Field(("T",), "bool", "1", "true where a step was taken"),
    "state_times": Field(("T+1",), "float32", "s", "time of each state"),
    "action_times": Field(("T",), "float32", "s", "time at which each action starts"),
    "length": Field((), "int32", "steps", "steps taken"),
    "success": Field((), "bool", "1", "coverage exceeded 0.95"),
}

DATASET: dict[str, Field] = {
    name: field._replace(dtype="float64") if field.scaled else field
    for name, field in ROLLOUTS.items()
} | {"split": Field((), "uint8", "1", "0 train, 1 validation, 2 test")}

ENSEMBLES: dict[str, Field] = {
    "horizon_s": Field((), "float64", "s", "from the state to its truth and members"),
    "trajectory": TRAJECTORY,
    "step": Field((), "int32", "steps", "control step of the state"),
    "state": state_field(STATE, "float64", "where the members start"),
    "truth": state_field(STATE, "float64", "the trajectory's own state a horizon later"),
    "members": state_field(STATE, "float32", "the same with fresh action noise", "M"),
    "contact": Field((), "bool", "1", "the policy without noise moves the block in the horizon"),
    "weight": Field((), "float64", "1", "in means over all states of the horizon; 1 on average"),
    "condition": Field(("C",), "float64", "mixed", "the packed DMP vector"),
}

MASKS: dict[int | str, str] = {"T": "action_mask", "T+1": "observation_mask"}
"""By axis, the mask that is false past a trajectory's length."""

SCHEMAS = {
    "policies": POLICIES,
    "rollouts": ROLLOUTS,
    "dataset": DATASET,
    "ensembles": ENSEMBLES,
}


@contextmanager
def create(
    path: Path, kind: str, sizes: Mapping[str, int], attributes: Mapping[str, Any]
) -> Iterator[Any]:
    """A new HDF5 file of a kind with its arrays allocated, open until the block ends.

    Args:
        path: where.
        kind: one of `SCHEMAS`.
        sizes: "n" and the length of each named axis.
        attributes: stored beside the schema's version; mappings become JSON. The label takes
            `first` and `stop` from them, or else from the trajectories in the file.
    """
    options: dict[str, Any] = {"libver": ("v110", "v110"), "userblock_size": USER_BLOCK}
    with _Sink(path, "w+") as sink:
        try:
            with h5py.File(sink, "w", locking=False, **options) as file:
                _allocate(file, kind, sizes, attributes)
                yield file
                span = [attributes[end] for end in ("first", "stop") if end in attributes]
                first, stop = span or (file["trajectory"][0], file["trajectory"][-1] + 1)
                fields = {
                    "format": f"nsf_pipeline {kind}",
                    "first": int(first),
                    "stop": int(stop),
                    "fingerprint": attributes.get("fingerprint"),
                }
            sink.seek(USER_BLOCK)
            sealed = label.seal(fields, sink)
            sink.seek(0)
            sink.write(label.line(sealed, USER_BLOCK))
        finally:
            if sink.failure:
                raise sink.failure from None


class _Sink(FileIO):
    """A file that stores its first failure instead of raising it, since that may crash HDF5.

    For the same reason signals wait until HDF5 has returned.
    """

    failure: OSError | None = None

    @undisturbed
    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        try:
            while left and not self.failure:
                left = left[super().write(left) :]
        except OSError as error:
            self.failure = error
        return size

    @undisturbed
    def truncate(self, size: int | None = None) -> int:
        try:
            return super().truncate(size)
        except OSError as error:
            self.failure = self.failure or error
            return size or 0


def _allocate(
    file: Any, kind: str, sizes: Mapping[str, int], attributes: Mapping[str, Any]
) -> None:
    file.attrs["schema"] = kind
    file.attrs["schema_version"] = SCHEMA_VERSION
    for name, value in sorted(attributes.items()):
        is_plain = isinstance(value, str | int | float)
        file.attrs[name] = value if is_plain else json.dumps(value, sort_keys=True)
    for name, field in SCHEMAS[kind].items():
        axes = (sizes[axis] if isinstance(axis, str) else axis for axis in field.axes)
        shape = (sizes["n"], *axes)
        options: dict[str, Any] = {"fill_time": "never"}  # every number is written
        if field.axes and kind != "dataset" and shape[0]:
            chunks = (min(CHUNK_TRAJECTORIES, shape[0]), *shape[1:])
            options |= {"chunks": chunks, "compression": "gzip", "compression_opts": 1}
        dataset = file.create_dataset(name, shape, field.dtype, **options)
        dataset.attrs["unit"] = field.unit
        dataset.attrs["meaning"] = field.meaning


def write(
    path: Path, kind: str, arrays: Mapping[str, np.ndarray], attributes: Mapping[str, Any]
) -> None:
    """Write a whole file of a kind.

    Raises:
        FileError: the file cannot be written; an older file in its place is unchanged.
        ValueError: an array is missing, unknown or of the wrong shape: a bug in this package.
    """
    sizes = _sizes(kind, arrays)
    with replacing(path) as temporary, create(temporary, kind, sizes, attributes) as file:
        for name in SCHEMAS[kind]:
            file[name][...] = arrays[name]


@contextmanager
def reading(path: Path | str, *kinds: str) -> Iterator[Any]:
    """An open file of one of the kinds. Its schema is checked, and its label if it has one.

    Raises:
        StoreError: the file is missing, damaged, of another kind or of another version.
    """
    path, expected = Path(path), " or ".join(kinds)
    try:
        with open(path, "rb") as raw:
            _check_label(raw)
        file = h5py.File(path, "r", locking=False)
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file; expected the HDF5 file of {expected}") from None
    except (OSError, label.LabelError) as error:
        raise StoreError(
            f"{path}: not a readable HDF5 file ({' '.join(str(error).split())}); {again(path)}"
        ) from None
    with file:
        kind, version = (file.attrs.get(name) for name in ("schema", "schema_version"))
        if kind in SCHEMAS and kind not in kinds:
            raise StoreError(
                f"{path}: expected {expected}, got {kind}; name another file; {again(path)}"
            )
        if kind not in kinds or version != SCHEMA_VERSION:
            raise StoreError(
                f"{path}: expected {expected} of schema version {SCHEMA_VERSION}, got {kind} of "
                f"version {version}; {again(path)}"
            )
        try:
            _sizes(kind, file)
        except ValueError as error:
            raise StoreError(f"{path}: {error}; {again(path)}") from None
        try:
            yield file
        except OSError as error:
            raise StoreError(
                f"{path}: damaged: {' '.join(str(error).split())}; {again(path)}"
            ) from None


def read(path: Path, kind: str, names: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
    """Arrays of a file of a kind: all, or the named ones.

    Raises:
        StoreError: as `reading`.
    """
    with reading(path, kind) as file:
        return {name: file[name][...] for name in names or SCHEMAS[kind]}


def attributes_of(path: Path | str) -> dict[str, Any]:
    """The attributes of a file; its arrays are not read and its checksum is not verified.

    Raises:
        StoreError: it cannot be opened.
    """
    try:
        with h5py.File(path, "r", locking=False) as file:
            return dict(file.attrs)
    except OSError as error:
        reason = " ".join(str(error).split())
        raise StoreError(f"{path}: not a readable HDF5 file ({reason})") from None


def record_of(file: Any) -> Record:
    """The record of an open file from `reading`: what made it."""
    return Record.read(file.attrs)


Bound = np.ndarray | np.floating
"""Least or greatest values: one per dimension, or a number for arrays of one number per step."""


def bounds_range(low: Bound, high: Bound) -> np.ndarray:
    """high - low, or 1 if a dimension is constant."""
    return np.where(high > low, high - low, 1.0)


def scale(values: np.ndarray, low: Bound, high: Bound) -> np.ndarray:
    """Physical values to [-1, 1], float64: 2 (v - low) / (high - low) - 1."""
    return 2.0 * (np.asarray(values, np.float64) - low) / bounds_range(low, high) - 1.0


def unscale(values: np.ndarray, low: Bound, high: Bound) -> np.ndarray:
    """The inverse of `scale`: low + (v + 1) / 2 (high - low), rounded at the 12th decimal.

    Cast to float32, it gives what was stored before scaling, bit for bit (for magnitudes from
    2e-5 to 2000, and for 0, which only the rounding restores).
    """
    return np.round(low + (values + 1.0) / 2.0 * bounds_range(low, high), 12)


def blocks(count: int) -> Iterator[slice]:
    """Slices that cover `count` rows in order, each short enough for memory."""
    for first in range(0, count, BLOCK):
        yield slice(first, min(first + BLOCK, count))


def bounds_of(file: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest value, per dimension, by which an array of a data set was scaled."""
    metadata = json.loads(file.attrs["metadata"])
    return np.asarray(metadata["min"][name]), np.asarray(metadata["max"][name])


def physical(
    file: Any, name: str, rows: slice, among: np.ndarray | slice = slice(None)
) -> np.ndarray:
    """Rows of an array as a rollout shard holds them: physical units, its type, 0 past the length.

    float32 arrays of a data set come back exactly (see `unscale`). The float64 arrays
    `initial_state` and `condition` do so for numbers of at most 12 decimals.

    Args:
        file: an open rollout shard or data set, from `reading`.
        name: of the array.
        rows: consecutive trajectories.
        among: which of these rows to return; all by default.
    """
    values, field = file[name][rows][among], ROLLOUTS[name]
    if file.attrs["schema"] == "rollouts" or not field.scaled:
        return values
    back = unscale(values, *bounds_of(file, name)).astype(field.dtype)
    mask = MASKS.get(field.axes[0])
    if mask:
        back[~file[mask][rows][among]] = 0
    return back


def _check_label(raw: label.Binary) -> None:
    fields = label.read(raw)
    if fields:
        label.check(fields, raw)


def _sizes(kind: str, arrays: Any) -> dict[str, int]:
    """The length of each named axis; a ValueError if the arrays do not fit the schema."""
    unknown = sorted(set(arrays) - set(SCHEMAS[kind]))
    if unknown:
        raise ValueError(f"{kind} has no array '{unknown[0]}'")
    sizes: dict[str, int] = {}
    for name, field in SCHEMAS[kind].items():
        if name not in arrays:
            raise ValueError(f"expected an array '{name}' in {kind}, found none")
        shape = getattr(arrays[name], "shape", ())
        axes = ("n", *field.axes)
        expected = tuple(sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in axes)
        fits = len(shape) == len(axes) and all(
            isinstance(want, str) or want == got for want, got in zip(expected, shape, strict=True)
        )
        if not fits:
            raise ValueError(f"expected '{name}' of {kind} with shape {expected}, got {shape}")
        sizes |= {axis: got for axis, got in zip(axes, shape, strict=True) if isinstance(axis, str)}
    if "T" in sizes and sizes["T+1"] != sizes["T"] + 1:
        raise ValueError(f"expected T + 1 states for {sizes['T']} actions, got {sizes['T+1']}")
    return sizes
