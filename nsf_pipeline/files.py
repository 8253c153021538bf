"""Opening files that users name, and writing files so that none is ever left half written."""

import csv
import errno
import io
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote

from nsf_pipeline.errors import UserError
from nsf_pipeline.system import temporary


class FileError(UserError):
    """A file is missing, damaged, cannot be written, or is not what was expected there."""


def again(path: Path | str) -> str:
    """The end of an error message: how to make a file again that cannot be used."""
    return (
        f"if the workflow made it, snakemake --cores 1 --force {quote(str(path))} with your other "
        "options makes it again"
    )


MAX_TABLE, MAX_COLUMNS = 1 << 24, 1000
"""Bytes and columns of a CSV that is read, at most."""
_SPECIAL = {
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def open_file(path: Path | str) -> io.BufferedReader:
    """Open an ordinary file to read its bytes. All files that users name are opened here.

    A FIFO or a device could block for ever or never end, so it is refused at once.

    Raises:
        OSError: it cannot be opened, or is no ordinary file; `strerror` says so.
    """
    try:
        file = open(path, "rb", opener=_open_at_once)  # noqa: SIM115
    except ValueError as error:  # a NUL in the path
        raise OSError(errno.EINVAL, str(error), str(path)) from None
    try:
        kind = stat.S_IFMT(os.fstat(file.fileno()).st_mode)
        if kind != stat.S_IFREG:
            found = _SPECIAL.get(kind, "something else")
            raise OSError(errno.EINVAL, f"expected a file, got {found}", str(path))
    except BaseException:
        file.close()
        raise
    return file


def _open_at_once(path: str, flags: int) -> int:
    # Without O_NONBLOCK, opening a FIFO would wait for its writer. Files ignore it.
    return os.open(path, flags | os.O_NONBLOCK)


def read_file(path: Path | str, most: int) -> bytes:
    """The bytes of an ordinary file of limited size.

    Args:
        path: the file.
        most: bytes that it may have; a longer file is not what the caller expects.

    Raises:
        OSError: as `open_file`, or the file is longer.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(errno.EFBIG, f"{size} bytes, expected at most {most}", str(path))
        return file.read(most)


def require_file(path: Path | str) -> None:
    """Check that a file that is handed on can be opened.

    Raises:
        FileError: it cannot, or is no ordinary file.
    """
    try:
        open_file(path).close()
    except OSError as error:
        raise FileError(f"{path}: cannot read it: {error.strerror}") from None


def require_folder(path: Path) -> None:
    """Make a folder for what long work will write, before that work starts.

    Raises:
        FileError: it cannot be made, or there is a file of that name.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"{path}: cannot make this folder: {error.strerror}") from None


def require_place(path: Path) -> None:
    """Make the folder of a file that long work will write, before that work starts.

    Raises:
        FileError: the folder cannot be made or written, or the path is no file's.
    """
    require_replaceable(path)
    require_folder(path.parent)
    try:
        tempfile.TemporaryFile(dir=path.parent).close()
    except OSError as error:
        raise FileError(f"{path}: cannot write a file there: {error.strerror}") from None


def read_table(path: Path | str, what: str = "a table") -> tuple[list[str], list[list[str]]]:
    """The columns' names and the rows of a CSV.

    Args:
        path: the file.
        what: is expected there, in words.

    Raises:
        FileError: it cannot be read, or is no table: UTF-8 with a line of names, all different,
            and rows as long as that.
    """
    fault = f"{path}: not {what}: "
    try:
        text = read_file(path, MAX_TABLE).decode("utf-8")
        rows = csv.reader(io.StringIO(text, newline=""), strict=True)
        names = next(rows, [])
        found = [row for row in rows if row]
    except OSError as error:
        raise FileError(f"{fault}cannot read it: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise FileError(f"{fault}expected a CSV in UTF-8") from None
    printable = all(name and name.isprintable() for name in names)
    if not 0 < len(names) <= MAX_COLUMNS or len({*names}) < len(names) or not printable:
        raise FileError(f"{fault}expected a first line with the names of its columns")
    for number, row in enumerate(found, 1):
        if len(row) != len(names):
            raise FileError(f"{fault}row {number} has {len(row)} cells under {len(names)} names")
    return names, found


def require_replaceable(path: Path) -> None:
    """Check that there is nothing in the place of a file to write, or an ordinary file.

    A user who may do anything would otherwise replace a device by a file, for all programs.

    Raises:
        FileError: there is a folder or a special file, or the path cannot be looked up.
    """
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except OSError:  # there is nothing; or writing says why not
        return
    except ValueError as error:  # a NUL in the path
        raise FileError(f"{path}: cannot write it: {error}") from None
    if kind != stat.S_IFREG:
        found = "a folder" if kind == stat.S_IFDIR else _SPECIAL.get(kind, "something else")
        raise FileError(f"{path}: cannot write it: it is {found}; name a file")


@contextmanager
def replacing(path: Path, *, anything: bool = False) -> Iterator[Path]:
    """A temporary path to write to, which replaces `path` on success and is removed on an error.

    Temporary files in the folder are removed, too, if the processes that wrote them are known to
    be dead. Of two writers of one file, each has a file of its own, and the last one wins.

    Args:
        path: the file.
        anything: replace special files too, where nobody but this package writes.

    Raises:
        FileError: the disk is full, the folder cannot be written, or the path is no file's.
    """
    path = Path(path)
    if not anything:
        require_replaceable(path)
    beside = temporary.beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.remove_leftovers(path.parent)
        try:
            yield beside
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise FileError(f"{path}: cannot write it: {reason}; nothing was changed") from error


def require_new(path: Path) -> None:
    """Check that there is nothing in the place of a folder to make.

    Raises:
        FileError: there is something, or its place cannot be written.
    """
    try:
        taken = os.path.lexists(path)
    except ValueError as error:  # a NUL in the path
        raise FileError(f"{path}: cannot make it: {error}") from None
    if taken:
        raise FileError(f"{path}: there is something of that name; name a new folder or remove it")
    require_folder(path.parent)
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise FileError(f"{path}: cannot make it: {path.parent} cannot be written")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder to fill, which gets the name `path` on success and else is removed.

    As for `replacing`, what processes that were killed have left in the folder is removed.

    Raises:
        FileError: there is something of that name, or it cannot be written.
    """
    require_new(path)
    beside = temporary.beside(path)
    try:
        temporary.remove_leftovers(path.parent)
        beside.mkdir()
        try:
            yield beside
            require_new(path)
            os.rename(beside, path)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        reason = " ".join((error.strerror or str(error)).split())
        raise FileError(f"{path}: cannot write it: {reason}; nothing was changed") from error
