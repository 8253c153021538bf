"""Writing files so that no file is ever left half written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from shlex import quote
from typing import Any

from nsf_pipeline.errors import UserError


class FileError(UserError):
    """A file is missing, damaged, cannot be written, or is not what was expected there."""


def again(path: Path | str) -> str:
    """The end of an error message: how to make a file again that cannot be used."""
    return (
        f"if the workflow made it, snakemake --cores 1 --force {quote(str(path))} with your other "
        "options makes it again"
    )


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to, which replaces `path` on success and is removed on an error.

    Temporary files of `path` that a killed process left are removed too.

    Raises:
        FileError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise FileError(f"{path}: cannot write it: it is a folder; name a file")
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


def write_figure(figure: Any, path: Path, *, dpi: int = 110, comment: str | None = None) -> None:
    """Write a matplotlib figure as PNG: the same figure gives the same bytes.

    Args:
        figure: the figure.
        path: the file to write.
        dpi: dots per inch.
        comment: text to store in the file.

    Raises:
        FileError: it cannot be written.
    """
    metadata = {"Software": None, "Comment": comment}
    with replacing(path) as beside:
        figure.savefig(beside, format="png", dpi=dpi, metadata=metadata)
