"""A data set of several files behind an index: which files, and reading them as if they were one.

The index has the attributes of a data set, and each array as an HDF5 virtual one, so that any
program reads it as one file. This package never reads a virtual array: where a file is missing,
HDF5 fills in numbers without a word, and variables of the environment may lead it to other files.
Instead it opens the files that the index names, and compares them with the index first.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import EllipsisType
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from nsf_pipeline.data.checking import INDEX, UnsoundError
from nsf_pipeline.data.faults import StoreError, readable
from nsf_pipeline.errors import UserError
from nsf_pipeline.paths import shard_name


class Part(NamedTuple):
    """A file of a data set, as the index knows it.

    Attributes:
        path: where it lies.
        first: its first trajectory.
        stop: one past its last.
        size: bytes after its label.
        sha256: checksum in its label.
        fingerprint: of the data set.
    """

    path: Path
    first: int
    stop: int
    size: int
    sha256: str
    fingerprint: str

    def check(self, label: Mapping[str, Any] | None) -> None:
        """Check that a file's label is that of this part.

        Raises:
            UnsoundError: it is not.
        """
        expected = {
            "format": "nsf_pipeline dataset",
            "fingerprint": self.fingerprint,
            "first": self.first,
            "stop": self.stop,
            "size": self.size,
            "sha256": self.sha256,
        }
        for name, value in expected.items():
            if (label or {}).get(name) != value:
                raise UnsoundError(
                    f"not the file that the index names: expected {name} {value}, got "
                    f"{(label or {}).get(name)}"
                )


def folder_of(index: Path) -> Path:
    """The folder of an index's files: beside it, named like it without the ending.

    Raises:
        UserError: it has no ending.
    """
    if not index.suffix:
        raise UserError(
            f"{index}: a data set of several files needs a name with an ending, as in {index}.h5, "
            "for their folder is named like it without the ending"
        )
    return index.with_suffix("")


def listed(parts: Sequence[Part]) -> dict[str, Any]:
    """The attribute of an index that names its files."""
    files = [{"stop": part.stop, "size": part.size, "sha256": part.sha256} for part in parts]
    return {"folder": parts[0].path.parent.name, "files": files}


def parts_of(index: Path, attributes: Mapping[str, Any]) -> list[Part]:
    """The files that an index names.

    Args:
        index: its path; where it is a link, the files lie beside the file that it leads to.
        attributes: of the index, checked one by one.

    Raises:
        UnsoundError: the list of files is not sound.
    """
    held = attributes[INDEX]
    folder, files = held.get("folder"), held.get("files")
    is_name = (
        isinstance(folder, str) and folder == os.path.basename(folder) and folder.isprintable()
    )
    if not is_name or folder in ("", ".", "..") or not isinstance(files, list):
        raise UnsoundError(f"attribute '{INDEX}': expected a folder's name and a list of files")
    base = (Path(os.path.realpath(index)) if index.is_symlink() else index).parent / folder
    found, first = [], attributes["first"]
    for number, each in enumerate(files):
        path = base / f"{shard_name(number)}.h5"
        match each:
            case {"stop": int(stop), "size": int(size), "sha256": str(sha256)} if stop > first:
                fingerprint = str(attributes.get("fingerprint"))
                found.append(Part(path, first, stop, size, sha256, fingerprint))
                first = stop
            case _:
                raise UnsoundError(f"attribute '{INDEX}': file {number} in it cannot be read")
    if attributes["first"] or not found or first != attributes["stop"]:
        raise UnsoundError(f"attribute '{INDEX}': its files do not hold all trajectories")
    return found


class DataFile(NamedTuple):
    """A file whose rows can be read without HDF5.

    Attributes:
        path: where it lies.
        head: its first bytes, with the label, by which to know it again.
        stop: one past the last row that it holds, counted in the whole data set.
        offsets: by array, where its bytes start; None if they do not lie in one piece.
        descriptor: of a data set of one file, as long as that is open with h5py.
    """

    path: Path
    head: bytes
    stop: int
    offsets: dict[str, int | None]
    descriptor: int | None = None


def require_head(path: Path, raw: BinaryIO, head: bytes) -> None:
    """Check that an open file is the one that was checked before, by its first bytes.

    Raises:
        StoreError: it is another one.
    """
    if raw.read(len(head)) != head:
        raise StoreError(
            f"{path}: another file was put in its place while it was read; start again"
        )


def offsets_in(file: Any) -> dict[str, int | None]:
    """By array of an open HDF5 file, where its bytes start; None if they are not in one piece."""
    return {name: file[name].id.get_offset() for name in file}


class Joined:
    """The files of a data set, read as if they were one open HDF5 file.

    Before any number of a file is used, all of the file is held against its checksum and the
    schema, so a job that needs only the attributes reads none of them. One is open at a time.
    """

    def __init__(
        self,
        index: Any,
        parts: Sequence[Part],
        open_part: Callable[[Part, bytes], tuple[Any, bytes]],
    ):
        """Join the files.

        Args:
            index: open with h5py; it is checked.
            parts: its files.
            open_part: opens one of them; returns it with its first bytes. All of it is checked,
                unless its first bytes from an earlier opening are given, which are then compared.
        """
        self.index, self.parts, self._open_part = index, parts, open_part
        self._stops = np.array([part.stop for part in parts])
        self._known: dict[int, DataFile] = {}
        self._current: tuple[int, Any] | None = None

    @property
    def attrs(self) -> Any:
        """The attributes of the data set."""
        return self.index.attrs

    @property
    def userblock_size(self) -> int:
        """Bytes of the label."""
        return int(self.index.userblock_size)

    def __contains__(self, name: str) -> bool:
        return name in self.index

    def __getitem__(self, name: str) -> "JoinedArray":
        return JoinedArray(self, name)

    def close(self) -> None:
        """Close the file that is open."""
        if self._current:
            self._current[1].close()
        self._current = None

    def files(self) -> list[DataFile]:
        """All files, checked."""
        for number in range(len(self.parts)):
            if number not in self._known:
                self._open(number)
        return [self._known[number] for number in range(len(self.parts))]

    def read(self, name: str, start: int, stop: int) -> np.ndarray:
        """Rows of an array, one after another.

        Raises:
            StoreError: a file cannot be read, or is not what the index says.
        """
        array, place = self.index[name], start
        found = np.empty((stop - start, *array.shape[1:]), array.dtype)
        while place < stop:
            number = int(np.searchsorted(self._stops, place, side="right"))
            part = self.parts[number]
            until, file = min(stop, part.stop), self._open(number)
            with readable(part.path):
                rows = file[name][place - part.first : until - part.first]
            found[place - start : until - start] = rows
            place = until
        return found

    def _open(self, number: int) -> Any:
        """A file, open with h5py until another one is asked for."""
        if not self._current or self._current[0] != number:
            self.close()
            part = self.parts[number]
            known = self._known.get(number)
            file, head = self._open_part(part, known.head if known else b"")
            self._current = number, file
            if not known:
                with readable(part.path):
                    self._known[number] = DataFile(part.path, head, part.stop, offsets_in(file))
        return self._current[1]


class JoinedArray:
    """An array of a data set of several files, of which slices are read as of an HDF5 one."""

    def __init__(self, joined: Joined, name: str):
        self._joined, self._name = joined, name
        array = joined.index[name]
        self.shape, self.dtype = array.shape, array.dtype

    def __len__(self) -> int:
        return int(self.shape[0])

    def __getitem__(self, rows: slice | EllipsisType) -> np.ndarray:
        start, stop, step = (slice(None) if rows is ... else rows).indices(len(self))
        if step != 1:
            raise ValueError(f"expected rows one after another, got every {step}th")
        return self._joined.read(self._name, start, max(start, stop))
