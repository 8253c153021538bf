"""Writing and reading every HDF5 file of the pipeline; `schema` says what they hold.

A file is written under a temporary name and renamed when complete, so that a file under its own
name is always whole. Identical content gives identical bytes. HDF5's user block, ahead of its own
bytes, holds a label: it says what the file holds and what made it, and its checksum detects damage
before the HDF5 library reads the file. When a file is opened, `checking` looks at all of it.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from nsf_pipeline import label
from nsf_pipeline.data import checking
from nsf_pipeline.data.scaling import Bound as Bound
from nsf_pipeline.data.scaling import bounds_range as bounds_range
from nsf_pipeline.data.scaling import scale as scale
from nsf_pipeline.data.scaling import unscale
from nsf_pipeline.data.schema import DATASET as DATASET
from nsf_pipeline.data.schema import ENSEMBLES as ENSEMBLES
from nsf_pipeline.data.schema import MASKS, ROLLOUTS, SCHEMA_VERSION, SCHEMAS
from nsf_pipeline.data.schema import POLICIES as POLICIES
from nsf_pipeline.errors import UserError, on_one_line
from nsf_pipeline.files import FileError, again, open_file, replacing
from nsf_pipeline.provenance import Record
from nsf_pipeline.system.signals import undisturbed

# Shards are compressed, in chunks of this many trajectories. The data set is not, because training
# reads its rows at random. docs/benchmarks.md has the figures.
CHUNK_TRAJECTORIES = 64
BLOCK = 4 * CHUNK_TRAJECTORIES  # trajectories in memory at once when a long file is read
USER_BLOCK = 512  # bytes; the smallest that HDF5 allows

LOCKING = "HDF5_USE_FILE_LOCKING"
"""Variable of HDF5's; it overrides what the code asks for."""


class StoreError(FileError):
    """An HDF5 file is missing, damaged, or not the kind of file that was expected."""


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
                first, stop = checking.span_of(file, attributes)
                fields = {
                    "format": f"nsf_pipeline {kind}",
                    "first": first,
                    "stop": stop,
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
    sizes = checking.sizes_of(kind, arrays)
    with replacing(path) as temporary, create(temporary, kind, sizes, attributes) as file:
        for name in SCHEMAS[kind]:
            file[name][...] = arrays[name]


@contextmanager
def reading(path: Path | str, *kinds: str, unlabelled: bool = False) -> Iterator[Any]:
    """An open file of one of the kinds, all of which was held against its schema.

    Args:
        path: the file.
        kinds: those that it may be of.
        unlabelled: also read a file without a label, of which nothing says what made it. Only
            where a person asks for that file.

    Raises:
        StoreError: the file is missing, damaged, of another kind or version, holds what its schema
            does not allow, or has no label. The same if HDF5 fails while the file is open.
    """
    path, expected = Path(path), " or ".join(kinds)
    try:
        with open_file(path) as raw:
            fields = _label_of(raw, whole=True)
            if not fields and not unlabelled:
                raise StoreError(
                    f"{path}: has no label, so nothing says what made it or whether it is whole; "
                    f"{again(path)}"
                )
            file = _open(path, raw)
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file; expected the HDF5 file of {expected}") from None
    except StoreError:
        raise
    except Exception as error:  # HDF5 may fail in any way on bytes that it did not write
        raise StoreError(
            f"{path}: not a readable HDF5 file ({_in_words(error)}); {again(path)}"
        ) from None
    with file:
        try:
            attributes = _attributes(file)
            kind, version = (attributes.get(name) for name in ("schema", "schema_version"))
            if kind in SCHEMAS and kind not in kinds:
                raise StoreError(
                    f"{path}: expected {expected}, got {kind}; name another file; {again(path)}"
                )
            if kind not in kinds or version != SCHEMA_VERSION:
                raise StoreError(
                    f"{path}: expected {expected} of schema version {SCHEMA_VERSION}, got {kind} "
                    f"of version {version}; {again(path)}"
                )
            checking.check_arrays(file, kind, attributes)
            Record.read(attributes)
            if fields:
                checking.check_label(fields, file, attributes)
        except StoreError:
            raise
        except checking.UnsoundError as error:
            raise StoreError(f"{path}: {error}; {again(path)}") from None
        except Exception as error:
            raise _damaged(path, error) from None
        try:
            yield file
        except UserError:
            raise
        except Exception as error:
            if isinstance(error, OSError) or _passed_h5py(error.__traceback__):
                raise _damaged(path, error) from None
            raise


def _label_of(raw: Any, *, whole: bool) -> dict[str, Any] | None:
    """The label of a file, if it has one; compared with the content if `whole`."""
    fields = label.read(raw)
    if fields and raw.tell() != USER_BLOCK:
        raise label.LabelError(f"its label has {raw.tell()} bytes, expected {USER_BLOCK}")
    if fields and whole:
        label.check(fields, raw)
    return fields


def _open(path: Path, raw: Any) -> Any:
    """Open with h5py the file that `raw` is; its path may name another one by now.

    Files are not locked, for they are never changed in place. The environment can ask for it.
    """
    try:
        file = h5py.File(path, "r", driver="sec2", locking=False)
    except OSError as error:
        if LOCKING in os.environ and "unable to lock file" in str(error):
            raise StoreError(
                f"{path}: cannot be locked ({on_one_line(error)}); run `unset {LOCKING}`: no "
                "file here needs a lock"
            ) from None
        raise
    if not os.path.sameopenfile(raw.fileno(), file.id.get_vfd_handle()):
        file.close()
        raise OSError("another file was put in its place meanwhile; try again")
    return file


def _attributes(file: Any) -> dict[str, Any]:
    """The attributes of an open file whose storage is sound."""
    checking.check_storage(file, os.fstat(file.id.get_vfd_handle()).st_size)
    return checking.attributes_of(file)


def _damaged(path: Path, error: Exception) -> StoreError:
    return StoreError(f"{path}: damaged: {_in_words(error)}; {again(path)}")


def _in_words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    kind = "" if isinstance(error, OSError | ValueError) else f"{type(error).__name__} "
    return kind + on_one_line(error)


def _passed_h5py(trace: TracebackType | None) -> bool:
    """Whether an error came out of h5py: others are not the file's fault."""
    while trace:
        if str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] == "h5py":
            return True
        trace = trace.tb_next
    return False


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
        FileNotFoundError: there is no such file.
        LabelError: it cannot be read, has no label, or is not sound.
    """
    path = Path(path)
    try:
        with open_file(path) as raw:
            fields = _label_of(raw, whole=False)
            if not fields:
                raise label.LabelError("it has no label, so nothing says what made it")
            with _open(path, raw) as file:
                checking.check_label(fields, file, _attributes(file))
                return dict(file.attrs)
    except (FileNotFoundError, label.LabelError):
        raise
    except checking.UnsoundError as error:
        raise label.LabelError(str(error)) from None
    except Exception as error:
        raise label.LabelError(f"cannot be read: {_in_words(error)}") from None


def origin(path: Path, file: Any) -> str:
    """A line that says what made an open file from `reading`."""
    if not file.userblock_size:
        return f"{path}: no label: nothing says what made it"
    made = record_of(file)
    version = json.loads(file.attrs.get("versions", "{}")).get("nsf_pipeline", "unknown")
    return (
        f"{path}: made by {made.stage or 'an unknown stage'}, fingerprint {made.fingerprint}, "
        f"nsf_pipeline version {version}"
    )


def record_of(file: Any) -> Record:
    """The record of an open file from `reading`: what made it."""
    return Record.read(file.attrs)


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
