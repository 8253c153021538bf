"""Signals that ask a process to end, and processes that end with their parent."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any, TypeVar, cast, final

PATIENCE = 8.0
"""s that the main thread has to end by itself, before the process is ended."""
SENDINGS = 80
"""Times that a signal is sent again meanwhile, if need be."""
ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
"""Sent by clusters, when a terminal is closed, and by Ctrl-C."""


@final
class Ended(SystemExit):
    """The process was asked to end. It is raised in the main thread, so that files are tidied.

    Attributes:
        code: exit code, 128 + the signal's number: 143 for SIGTERM, 129 for SIGHUP.
        reason: a line's text.
    """

    def __init__(self, number: int):
        super().__init__(128 + number)
        self.reason = _reason(number)


def _reason(number: int) -> str:
    if number == signal.SIGINT:
        return "interrupted"
    return f"stopped by {signal.Signals(number).name}"


def raise_ended(number: int) -> None:
    """Raise `Ended`, or `KeyboardInterrupt` for SIGINT."""
    raise KeyboardInterrupt if number == signal.SIGINT else Ended(number)


def behind(error: BaseException) -> Ended | KeyboardInterrupt | None:
    """What a signal raised, if the error is that or was raised while files were tidied then."""
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, Ended | KeyboardInterrupt):
            return cause
        cause = cause.__context__
    return None


_undisturbed: set[CodeType] = set()
Function = TypeVar("Function", bound=Callable[..., Any])


def undisturbed(function: Function) -> Function:
    """Mark a function in which no signal raises an exception; it is raised when it has returned.

    For functions that are called by libraries in C which an exception would crash.
    """
    _undisturbed.add(cast(FunctionType, function).__code__)
    return function


class Handling:
    """A context in which a function handles signals; those that are ignored stay ignored.

    Python handles signals only between its own instructions, and compiling a model may keep it from
    doing so for a minute. So a thread watches for signals too, and ends the process if the context
    is not left within `PATIENCE`. Python also drops exceptions that are raised in callbacks, such
    as those of weak references; so the thread sends the signal again.
    """

    def __init__(
        self,
        handle: Callable[[int], None] = raise_ended,
        numbers: Sequence[signal.Signals] = ENDING,
        last_words: str = "",
        again: bool = True,
        patience: float = PATIENCE,
    ):
        """Name the signals.

        Args:
            handle: called in the main thread with a signal's number.
            numbers: the signals.
            last_words: printed if the thread ends the process; the signal if empty.
            again: the function raises an exception; call it again if that was dropped.
            patience: s that the main thread has after SIGTERM; after others it is `PATIENCE`.
        """
        self._handle, self._numbers = handle, numbers
        self._last_words, self._again, self._obeyed = last_words, again, False
        self._patience = patience

    def __enter__(self) -> "Handling":
        self._left = threading.Event()
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._before = {
            number: signal.signal(number, self._called)
            for number in self._numbers
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        self._wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
        self._hook, sys.unraisablehook = sys.unraisablehook, self._dropped
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._left.set()
        sys.unraisablehook = self._hook
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._write_end)  # the thread, if it waits to read, gets the end of the pipe
        self._thread.join(1.0)
        os.close(self._read_end)

    def _called(self, number: int, frame: FrameType | None) -> None:
        if self._again:
            if self._obeyed:  # files are being tidied, which nothing should disturb
                return
            while frame:
                if frame.f_code in _undisturbed:
                    return  # the signal is sent again
                frame = frame.f_back
            self._obeyed = True
        self._handle(number)

    def _dropped(self, found: "sys.UnraisableHookArgs") -> None:
        """Print an exception that Python drops; one raised here is raised again instead."""
        if issubclass(found.exc_type, (Ended, KeyboardInterrupt)):
            self._obeyed = False
        else:
            self._hook(found)

    def _watch(self) -> None:
        while data := os.read(self._read_end, 1):
            number = data[0]
            if number not in self._before:
                continue
            patience = self._patience if number == signal.SIGTERM else PATIENCE
            for _ in range(SENDINGS):
                if self._left.wait(patience / SENDINGS):
                    return
                if self._again:
                    signal.pthread_kill(threading.main_thread().ident or 0, number)
            if not self._left.is_set():
                with contextlib.suppress(OSError):
                    os.write(2, f"nsf_pipeline: {self._last_words or _reason(number)}\n".encode())
                os._exit(128 + number)
            return


def in_worker(parent: int) -> None:
    """Set up a process that works for another: Ctrl-C does not end it, its parent's end does.

    Args:
        parent: the parent's number. It handles Ctrl-C, and ends the others by SIGTERM.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    Handling(numbers=[signal.SIGTERM]).__enter__()  # until the process ends
    end_with(parent)


def end_with(parent: int, patience: float = PATIENCE) -> None:
    """End this process by SIGTERM when its parent has ended, and some time later without it.

    Args:
        parent: the parent's number.
        patience: s.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()
