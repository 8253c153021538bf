"""Printing, which can never fail a job. All that the package prints is printed here.

A program calls `make_streams_safe` as it starts. Where the package is used as a library, the
streams belong to the caller; what `say` and `complain` print there cannot fail either.
"""

import io
import os
import select
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

STANDARD_INPUT, STANDARD_OUTPUT, STANDARD_ERROR = range(3)


def say(text: str, end: str = "\n") -> None:
    """Print to standard output; what cannot be printed there is escaped or dropped."""
    _print(sys.stdout, text + end)


def progress(seconds: float = 60.0) -> Callable[[str], None]:
    """A `say` for how far a long job has come: once in so many seconds, other lines are dropped."""
    last = time.monotonic()

    def say_if_due(text: str) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= seconds:
            last = now
            say(text)

    return say_if_due


def complain(text: str) -> None:
    """Print to standard error, as `say`."""
    _print(sys.stderr, text + "\n")


def is_terminal(descriptor: int) -> bool:
    """Whether a number is the file descriptor of a terminal."""
    with suppress(OSError, OverflowError):
        return os.isatty(descriptor)
    return False


def draw(terminal: int, text: str) -> None:
    """Write to the file descriptor of a terminal, unless it is gone or takes nothing now."""
    with suppress(OSError):
        waiting = select.poll()
        waiting.register(terminal, select.POLLOUT)
        if waiting.poll(0):
            os.write(terminal, text.encode())


def make_streams_safe() -> None:
    """Make the process's standard streams such that writing to them cannot fail.

    Descriptors that are closed are opened on the null device: the next file opened would take
    their numbers, and messages of libraries would land in it. Characters that the encoding lacks
    are escaped. What cannot be written is dropped, also when Python flushes the streams at its end.
    """
    for descriptor in (STANDARD_INPUT, STANDARD_OUTPUT, STANDARD_ERROR):
        try:
            os.fstat(descriptor)
        except OSError:  # closed; as all below are open, this is the number that `open` takes
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    if sys.stdin is None:
        sys.stdin = open(STANDARD_INPUT, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = _safe(sys.stdout, STANDARD_OUTPUT)
    sys.stderr = _safe(sys.stderr, STANDARD_ERROR)


def report_lost_output() -> None:
    """Say on standard error if standard output could not take all, as on a full disk."""
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    if isinstance(raw, _Unfailing) and raw.reason:
        complain(f"nsf_pipeline: standard output: {raw.reason}; the text there is incomplete")


class _Unfailing(io.RawIOBase):
    """Writes bytes to a descriptor, and drops those that cannot be written.

    Attributes:
        reason: why some were dropped; empty if none were, or only because the reader has gone.
    """

    def __init__(self, descriptor: int):
        self._descriptor = descriptor
        self.reason = ""

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return is_terminal(self._descriptor)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        try:
            while True:
                try:
                    return os.write(self._descriptor, data)
                except BlockingIOError:  # another program has set it not to wait
                    waiting = select.poll()
                    waiting.register(self._descriptor, select.POLLOUT)
                    waiting.poll()
        except OSError as error:
            if not isinstance(error, BrokenPipeError):  # nobody misses what follows, as with `head`
                self.reason = error.strerror or str(error)
            return len(data)


def _safe(stream: TextIO | None, descriptor: int) -> TextIO:
    """A stream in place of another one, or of none because its descriptor was closed."""
    if stream is not None:
        with suppress(OSError, ValueError):
            stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Unfailing(descriptor)),
        encoding=getattr(stream, "encoding", "utf-8"),
        errors="backslashreplace",
        line_buffering=True,
    )


def _print(stream: Any, text: str) -> None:
    if stream is None:  # its descriptor was closed when Python started
        return
    try:
        try:
            stream.write(text)
        except UnicodeError:
            stream.write(text.encode("ascii", "backslashreplace").decode("ascii"))
        stream.flush()
    except Exception:
        with suppress(Exception):
            _forget(stream)


def _forget(stream: Any) -> None:
    """Empty the buffer of a stream that cannot be written.

    Python would try again at its end, fail again, and change the exit code.
    """
    descriptor = stream.fileno()
    kept, nowhere = os.dup(descriptor), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, descriptor)
        stream.flush()
    finally:
        os.dup2(kept, descriptor)
        os.close(kept)
        os.close(nowhere)
