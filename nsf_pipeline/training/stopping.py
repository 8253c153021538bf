"""Stopping on signals: SIGTERM (preemption on a cluster), SIGHUP and SIGINT (Ctrl-C)."""

import signal
from typing import final

from nsf_pipeline.system import slurm
from nsf_pipeline.system.signals import ENDING, Handling


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
class StopSignals(Handling):
    """A context that records signals instead of obeying them; a SIGINT after another is obeyed.

    If the main thread does not stop in time, only the work since the last checkpoint is lost.
    """

    def __init__(self) -> None:
        last_words = "stopped; run it again to continue training"
        patience = slurm.patience()
        super().__init__(self._record, ENDING, last_words, again=False, patience=patience)
        self.code = 0
        """Exit code to stop with; 0 until a signal arrives."""

    def __enter__(self) -> "StopSignals":
        super().__enter__()
        return self

    def _record(self, number: int) -> None:
        if self.code and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.code = 128 + number
