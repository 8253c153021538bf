"""Stopping on signals: SIGTERM (preemption on a cluster) and SIGINT (Ctrl-C)."""

import contextlib
import os
import signal
import threading
from types import FrameType, TracebackType
from typing import final

PATIENCE = 8.0
"""s that the main thread has to stop by itself, before the process is ended."""


@final
class Stopped(Exception):  # noqa: N818
    """Training was asked to stop, and has stopped.

    Attributes:
        code: exit code, 128 + the signal's number: 143 for SIGTERM, 130 for SIGINT.
    """

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


@final
class StopSignals:
    """A context that records signals instead of obeying them; a SIGINT after another is obeyed.

    Python handles signals only between its own instructions, and compiling a model may keep it from
    doing so for a minute. So a thread watches for signals too, and ends the process if the main
    thread does not stop within `PATIENCE`. Only the work since the last checkpoint is then lost.
    """

    def __init__(self) -> None:
        self.code = 0
        """Exit code to stop with; 0 until a signal arrives."""

    def __enter__(self) -> "StopSignals":
        self._ended = threading.Event()
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._write_end, False)
        self._before = {
            number: signal.signal(number, self._record)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        self._wakeup = signal.set_wakeup_fd(self._write_end, warn_on_full_buffer=False)
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
        os.close(self._write_end)  # the thread, if it waits to read, gets the end of the pipe
        self._thread.join(1.0)
        os.close(self._read_end)

    def _record(self, number: int, frame: FrameType | None) -> None:
        if self.code and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.code = 128 + number

    def _watch(self) -> None:
        while data := os.read(self._read_end, 1):
            number = data[0]
            if number not in self._before:
                continue
            if not self._ended.wait(PATIENCE):
                with contextlib.suppress(OSError):
                    os.write(2, b"nsf_pipeline: stopped; run it again to continue training\n")
                os._exit(128 + number)
            return
