"""Writing and reading every HDF5 file of the pipeline; `schema` says what they hold.

A file is written under a temporary name and renamed when complete, so that a file under its own
name is always whole. Identical content gives identical bytes. HDF5's user block, ahead of its own
bytes, holds a label: it says what the file holds and what made it, and its checksum detects damage
before the HDF5 library reads the file. When a file is opened, `checking` looks at all of it. A data
set may be an index of several files; `parts` reads these as if they were one.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from io import FileIO
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
from h5py import h5d, h5p, h5s, h5t

from nsf_pipeline import label
from nsf_pipeline.data import checking
from nsf_pipeline.data.faults import StoreError as StoreError
from nsf_pipeline.data.faults import damaged, in_words, readable
from nsf_pipeline.data.parts import (
    DataFile,
    Joined,
    Part,
    listed,
    offsets_in,
    parts_of,
    require_head,
)
from nsf_pipeline.data.parts import folder_of as folder_of
from nsf_pipeline.data.scaling import Bound as Bound
from nsf_pipeline.data.scaling import bounds_range as bounds_range
from nsf_pipeline.data.scaling import scale as scale
from nsf_pipeline.data.scaling import unscale
from nsf_pipeline.data.schema import DATASET as DATASET
from nsf_pipeline.data.schema import ENSEMBLES as ENSEMBLES
from nsf_pipeline.data.schema import EPISODES as EPISODES
from nsf_pipeline.data.schema import GOALS as GOALS
from nsf_pipeline.data.schema import (
    MASKS,
    ROLLOUTS,
    SCENES,
    SCHEMA_VERSION,
    SCHEMAS,
    fields_of,
)
from nsf_pipeline.data.schema import POLICIES as POLICIES
from nsf_pipeline.data.schema import PUSHES as PUSHES
from nsf_pipeline.errors import on_one_line
from nsf_pipeline.files import again, open_file, replacing
from nsf_pipeline.paths import shard_name
from nsf_pipeline.provenance import Record
from nsf_pipeline.system.signals import undisturbed

# Shards are compressed, in chunks of this many trajectories. The data set is not, because training
# reads its rows at random. docs/benchmarks.md has the figures.
CHUNK_TRAJECTORIES = 64
BLOCK = 4 * CHUNK_TRAJECTORIES  # trajectories in memory at once when a long file is read
USER_BLOCK = 512  # bytes; the smallest that HDF5 allows

LOCKING = "HDF5_USE_FILE_LOCKING"
"""Variable of HDF5's; it overrides what the code asks for."""


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
            `first` and `stop` from them, or else from the trajectories in the file. With `parts`,
            the file is the index of a data set.
    """
    options: dict[str, Any] = {"libver": ("v110", "v110"), "userblock_size": USER_BLOCK}
    with Sink(path, "w+") as sink:
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


class Sink(FileIO):
    """A file that stores its first failure instead of raising it, since that may crash HDF5.

    For the same reason signals wait until HDF5 has returned.
    """

    failure: OSError | None = None

    @undisturbed
    def write(self, data: Any) -> int:
        """Write bytes, unless a write has failed before; returns how many they are."""
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
        """Set the file's size."""
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
    for name, field in fields_of(kind, sizes).items():
        axes = (sizes[axis] if isinstance(axis, str) else axis for axis in field.axes)
        shape = (sizes["n"], *axes)
        if checking.INDEX in attributes:
            dataset = _virtual(file, name, shape, field.dtype, attributes[checking.INDEX])
        else:
            dataset = _real(file, kind, name, shape, field.dtype)
        dataset.attrs["unit"] = field.unit
        dataset.attrs["meaning"] = field.meaning


def _real(file: Any, kind: str, name: str, shape: tuple[int, ...], dtype: str) -> Any:
    """A new array whose numbers lie in the file."""
    options: dict[str, Any] = {"fill_time": "never"}  # every number is written
    if len(shape) > 1 and kind != "dataset" and shape[0]:
        chunks = (min(CHUNK_TRAJECTORIES, shape[0]), *shape[1:])
        options |= {"chunks": chunks, "compression": "gzip", "compression_opts": 1}
    return file.create_dataset(name, shape, dtype, **options)


UNKNOWN = {"f": float("nan"), "i": -1, "u": 255, "b": False}
"""By kind of type, what HDF5 fills in where a file of a data set is missing."""


def _virtual(
    file: Any, name: str, shape: tuple[int, ...], dtype: str, parts: Mapping[str, Any]
) -> Any:
    """A new virtual array, whose numbers lie in other files, which are named relative to this."""
    made, whole = h5p.create(h5p.DATASET_CREATE), h5s.create_simple(shape)
    made.set_obj_track_times(False)  # h5py's own way to make one writes the time
    made.set_fill_value(np.array([UNKNOWN[np.dtype(dtype).kind]], dtype))
    first = 0
    for number, part in enumerate(parts["files"]):
        path = f"{parts['folder']}/{shard_name(number)}.h5".replace("%", "%%").encode()
        own = (part["stop"] - first, *shape[1:])
        whole.select_hyperslab((first, *[0] * len(shape[1:])), own)
        made.set_virtual(whole, path, name.encode(), h5s.create_simple(own))
        first = part["stop"]
    whole.select_all()
    type_ = h5t.py_create(np.dtype(dtype), logical=True)
    return h5py.Dataset(h5d.create(file.id, name.encode(), type_, whole, made))


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
        for name in fields_of(kind, arrays):
            file[name][...] = arrays[name]


class PartFile(NamedTuple):
    """What an index says of one of its files, and what it copies from it.

    Attributes:
        part: how the index knows it again.
        sizes: the length of each named axis.
        attributes: as they are stored.
    """

    part: Part
    sizes: dict[str, int]
    attributes: dict[str, Any]


def part_file(path: Path) -> PartFile:
    """Read the label, the attributes and the sizes of a file of a data set, but no numbers.

    Raises:
        StoreError: it is missing, of another kind, or not sound.
    """
    opened = _opened(path, ("dataset",), part=True, whole=False)
    with opened.file, readable(path):
        names = ("first", "stop", "size", "sha256", "fingerprint")
        part = Part(path, *(opened.label[name] for name in names))
        sizes = checking.sizes_of("dataset", opened.file)
        return PartFile(part, sizes, dict(opened.file.attrs))


def write_index(path: Path, files: Sequence[PartFile]) -> None:
    """Write the index of a data set: its attributes, and its arrays as virtual ones.

    Args:
        path: where.
        files: those that it names, in order, of one data set; they lie in one folder beside it.

    Raises:
        FileError: the file cannot be written.
    """
    last = files[-1]
    attributes = {name: value for name, value in last.attributes.items() if "schema" not in name}
    attributes |= {"first": 0, "stop": last.part.stop}
    attributes[checking.INDEX] = listed([each.part for each in files])
    sizes = last.sizes | {"n": last.part.stop}
    with replacing(path) as temporary, create(temporary, "dataset", sizes, attributes):
        pass


@contextmanager
def reading(path: Path | str, *kinds: str, unlabelled: bool = False) -> Iterator[Any]:
    """An open file of one of the kinds, all of which was held against its schema.

    The index of a data set of several files is opened as if it were one file (see `Joined`): they
    must all be there, with the sizes and checksums in their labels that the index says. All of a
    file is checked before the first of its numbers is read.

    Args:
        path: the file.
        kinds: those that it may be of.
        unlabelled: also read a file without a label, of which nothing says what made it. Only
            where a person asks for that file.

    Raises:
        StoreError: the file is missing, damaged, of another kind or version, holds what its schema
            does not allow, or has no label. The same if HDF5 fails while the file is open.
    """
    opened = _opened(path := Path(path), kinds, unlabelled=unlabelled)
    with opened.file as file, readable(path):
        if checking.INDEX in opened.attributes:
            parts = _parts_of(path, opened.attributes)
            if fault := _fault_in(parts):
                raise StoreError(f"{fault}; {again(fault.part.path)}")
            with closing(Joined(file, parts, _open_part)) as joined:
                yield joined
        else:
            yield file


class _Opened(NamedTuple):
    """A file, open with h5py: its first bytes, its label (empty if it has none) and attributes."""

    file: Any
    head: bytes
    label: dict[str, Any]
    attributes: dict[str, Any]


def _opened(
    path: Path,
    kinds: Sequence[str],
    *,
    unlabelled: bool = False,
    part: bool = False,
    whole: bool = True,
) -> _Opened:
    """Open a file of one of the kinds and check it.

    Args:
        path: the file.
        kinds: those that it may be of.
        unlabelled: as for `reading`.
        part: whether it is one file of a data set of several.
        whole: check its numbers and its checksum, too.

    Raises:
        StoreError: as `reading`.
    """
    expected = " or ".join(kinds)
    try:
        with open_file(path) as raw:
            fields = _label_of(raw, whole=whole)
            if not fields and not unlabelled:
                raise StoreError(
                    f"{path}: has no label, so nothing says what made it or whether it is whole; "
                    f"{again(path)}"
                )
            head = os.pread(raw.fileno(), USER_BLOCK, 0)
            file = _open(path, raw)
    except FileNotFoundError:
        raise StoreError(f"{path}: no such file; expected the HDF5 file of {expected}") from None
    except StoreError:
        raise
    except Exception as error:  # HDF5 may fail in any way on bytes that it did not write
        raise StoreError(
            f"{path}: not a readable HDF5 file ({in_words(error)}); {again(path)}"
        ) from None
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
        if checking.is_part(attributes) != part:
            raise StoreError(
                f"{path}: expected one file of a data set of several, got a whole data set; "
                f"{again(path)}"
                if part
                else f"{path}: is one file of a data set of several; name the data set's index, "
                f"{path.parent}.h5 in a run of the workflow"
            )
        if whole:
            checking.check_arrays(file, str(kind), attributes)
        Record.read(attributes)
        if fields:
            checking.check_label(fields, file, attributes)
    except BaseException as error:
        file.close()
        if isinstance(error, StoreError) or not isinstance(error, Exception):
            raise
        if isinstance(error, checking.UnsoundError):
            raise StoreError(f"{path}: {error}; {again(path)}") from None
        raise damaged(path, error) from None
    return _Opened(file, head, fields or {}, attributes)


class _Fault(NamedTuple):
    """What is wrong with a file of a data set."""

    part: Part
    what: str

    def __str__(self) -> str:
        return f"{self.part.path}: {self.what}"


def _parts_of(index: Path, attributes: Mapping[str, Any]) -> list[Part]:
    try:
        return parts_of(index, attributes)
    except checking.UnsoundError as error:
        raise StoreError(f"{index}: {error}; {again(index)}") from None


def _fault_in(parts: Sequence[Part]) -> _Fault | None:
    """The first of the files that is missing or, by its label, not the one that the index names."""
    for part in parts:
        try:
            with open_file(part.path) as raw:
                part.check(_label_of(raw, whole=False))
        except FileNotFoundError:
            return _Fault(part, "no such file, but the data set's index names it")
        except (OSError, label.LabelError, checking.UnsoundError) as error:
            return _Fault(part, in_words(error))
    return None


def _open_part(part: Part, head: bytes) -> tuple[Any, bytes]:
    """Open a file of a data set; returns it with its first bytes.

    Args:
        part: the file.
        head: its first bytes when it was checked; none if it still has to be.
    """
    if head:
        with readable(part.path), open_file(part.path) as raw:
            require_head(part.path, raw, head)
            return _open(part.path, raw), head
    opened = _opened(part.path, ("dataset",), part=True)
    try:
        part.check(opened.label)
    except checking.UnsoundError as error:
        opened.file.close()
        raise StoreError(f"{part.path}: {error}; {again(part.path)}") from None
    return opened.file, opened.head


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


def read(path: Path, kind: str, names: tuple[str, ...] | None = None) -> dict[str, np.ndarray]:
    """Arrays of a file of a kind: all, or the named ones.

    Raises:
        StoreError: as `reading`.
    """
    with reading(path, kind) as file:
        return {name: file[name][...] for name in names or fields_of(kind, file)}


def attributes_of(path: Path | str) -> dict[str, Any]:
    """The attributes of a file; its arrays are not read and its checksum is not verified.

    Raises:
        FileNotFoundError: there is no such file.
        LabelError: it cannot be read, has no label, or is not sound; or it is an index, and a file
            that it names is missing or another one.
    """
    path = Path(path)
    try:
        with open_file(path) as raw:
            fields = _label_of(raw, whole=False)
            if not fields:
                raise label.LabelError("it has no label, so nothing says what made it")
            with _open(path, raw) as file:
                attributes = _attributes(file)
                checking.check_label(fields, file, attributes)
                parts = parts_of(path, attributes) if checking.INDEX in attributes else []
                if fault := _fault_in(parts):
                    raise label.LabelError(str(fault))
                return dict(file.attrs)
    except (FileNotFoundError, label.LabelError):
        raise
    except checking.UnsoundError as error:
        raise label.LabelError(str(error)) from None
    except Exception as error:
        raise label.LabelError(f"cannot be read: {in_words(error)}") from None


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


def files_of(path: Path, file: Any) -> list[DataFile]:
    """The files of an open data set from `reading`, in order: one, or those of its index."""
    if isinstance(file, Joined):
        return file.files()
    descriptor = file.id.get_vfd_handle()
    head = os.pread(descriptor, USER_BLOCK, 0)
    return [DataFile(path, head, len(file["trajectory"]), offsets_in(file), descriptor)]


def blocks(count: int) -> Iterator[slice]:
    """Slices that cover `count` rows in order, each short enough for memory."""
    for first in range(0, count, BLOCK):
        yield slice(first, min(first + BLOCK, count))


def bounds_of(file: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest value, per dimension, by which an array of a data set was scaled."""
    metadata = json.loads(file.attrs["metadata"])
    return np.asarray(metadata["min"][name]), np.asarray(metadata["max"][name])


def as_read(file: Any, name: str, values: np.ndarray) -> np.ndarray:
    """What `physical` would give back of values that a data set were given: nearly all of them.

    Magnitudes below 2e-5 lose their last bits (see `unscale`).

    Args:
        file: an open data set, from `reading`.
        name: of an array that is scaled.
        values: in physical units.
    """
    low, high = bounds_of(file, name)
    field = ROLLOUTS[name]
    return unscale(scale(values.astype(field.dtype), low, high), low, high).astype(field.dtype)


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
    values, field = file[name][rows][among], (ROLLOUTS | SCENES)[name]
    if file.attrs["schema"] == "rollouts" or not field.scaled:
        return values
    back = unscale(values, *bounds_of(file, name)).astype(field.dtype)
    mask = MASKS.get(field.axes[0])
    if mask:
        back[~file[mask][rows][among]] = 0
    return back
