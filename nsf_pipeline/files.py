"""Writing files so that whatever stands under a name is whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from nsf_pipeline.errors import UserError


class FileError(UserError):
    """A file is missing, damaged, cannot be written, or is not what was expected there."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to, beside `path`, renamed to it if all goes well and removed if not.

    What a killed process left beside `path` is removed too.

    Raises:
        FileError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for left in path.parent.glob(f".{escape(path.name)}.*.tmp"):
            left.unlink(missing_ok=True)
        try:
            yield beside
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise FileError(f"{path}: cannot write it: {reason}; nothing was changed") from error
