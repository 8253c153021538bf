"""Stopping when asked to: SIGTERM, a cluster's preemption, and SIGINT, Ctrl-C."""

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import final

PATIENCE = 8.0
"""s that the main thread has to come, before the process ends without it."""


@final
class Stopped(Exception):  # noqa: N818
    """Training was asked to stop, and did.

    Attributes:
        code: exit code, 128 and the signal's number: 143 for SIGTERM, 130 for SIGINT.
    """

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


@final
class StopSignals:
    """While entered, signals to stop are noted instead of obeyed; asked twice, SIGINT is obeyed.

    Python handles signals between two steps of its own, and compiling a model may keep it from any
    for a minute. So a thread watches too, and ends the process if nobody else does in time: what
    was done since the last checkpoint is then lost, but nothing else.
    """

    def __init__(self) -> None:
        self.code = 0
        """Exit code to stop with; 0 while nobody asked."""

    def __enter__(self) -> "StopSignals":
        self._ended = threading.Event()
        self._heard, self._hears = os.pipe()
        os.set_blocking(self._hears, False)
        self._before = {
            number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)
        }
        self._wakeup = signal.set_wakeup_fd(self._hears, warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._hears)  # the thread, if it is waiting, reads the end of it
        self._thread.join(1.0)
        os.close(self._heard)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.code and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.code = 128 + number

    def _watch(self) -> None:
        while heard := os.read(self._heard, 1):
            number = heard[0]
            if number not in self._before:
                continue
            if not self._ended.wait(PATIENCE):
                with contextlib.suppress(OSError):
                    os.write(2, b"nsf_pipeline: stopped; goes on from the last checkpoint\n")
                os._exit(128 + number)
            return
