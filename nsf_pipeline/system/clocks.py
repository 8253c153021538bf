"""Files dated in the future are dated now, so that no work is lost for it.

A file gets there by a clock that was wrong, or differs between machines. Snakemake dates a job's
outputs when the job is done, and deletes them if an input is dated later, after any rerun too. The
order of the files' times stays as it is, so nothing becomes out of date.
"""

import os
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from nsf_pipeline.errors import UserError


def date_now(inputs: Iterable[Path], folder: Path) -> None:
    """If an input is dated in the future, date it, and all such files in a folder, now.

    Args:
        inputs: the files that a job reads, or folders of them, also of folders of them; missing
            ones are passed over.
        folder: the run's folder of results, with whose clock times are compared.

    Raises:
        UserError: an input's time cannot be changed.
    """
    now = _now(folder)
    late = [file for path in inputs for file in _files(path) if _time_of(file) > now]
    if late:
        for path in [*late, *folder.rglob("*")]:
            with suppress(OSError):
                _date(path, now)
    for path in late:
        if _time_of(path) > _now(folder):
            raise UserError(
                f"{path}: its modification time lies in the future and cannot be changed, so that "
                "Snakemake would delete what is made from it; have its owner `touch` it, or "
                "correct the clock"
            )


def _files(path: Path) -> list[Path]:
    """What lies in a folder, also in the folders in it; or the path itself."""
    with suppress(OSError):
        if path.is_dir():
            return [*path.rglob("*")]
    return [path]


def _now(folder: Path) -> int:
    """The time that a new file in a folder gets, in ns: on a network, that of the file server."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return time.time_ns()


def _time_of(path: Path) -> int:
    """The later modification time, in ns, of a path and the file that it may link to."""
    times = [0]
    for follow in (False, True):
        with suppress(OSError, ValueError):
            times.append(os.stat(path, follow_symlinks=follow).st_mtime_ns)
    return max(times)


def _date(path: Path, now: int) -> None:
    for follow in (False, True):
        found = os.stat(path, follow_symlinks=follow)
        if found.st_mtime_ns > now:
            try:
                os.utime(path, ns=(found.st_atime_ns, now), follow_symlinks=follow)
            except PermissionError:  # only the owner may set any time; who may write, this one
                os.utime(path, follow_symlinks=follow)
