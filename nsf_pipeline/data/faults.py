"""What is said of an HDF5 file that cannot be read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from nsf_pipeline.errors import UserError, on_one_line
from nsf_pipeline.files import FileError, again


class StoreError(FileError):
    """An HDF5 file is missing, damaged, or not the kind of file that was expected."""


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what HDF5 raises while a file is read into one line about the file.

    Raises:
        StoreError: the file is damaged or cannot be read.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if isinstance(error, OSError) or _passed_h5py(error.__traceback__):
            raise damaged(path, error) from None
        raise


def damaged(path: Path, error: Exception) -> StoreError:
    """The error that says that a file is damaged."""
    return StoreError(f"{path}: damaged: {in_words(error)}; {again(path)}")


def in_words(error: Exception) -> str:
    """An error on one line, with its kind where that says more than its text."""
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
