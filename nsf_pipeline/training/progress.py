"""The progress of training: a line per validation, and a bar on a terminal."""

import os
import time
from collections.abc import Mapping
from typing import final

from nsf_pipeline.system import printing

WIDTH = 24
"""Characters of the bar itself, at most."""


@final
class Display:
    """Lines on standard output, and a bar on a terminal.

    Attributes:
        steps: how many there are in all.
    """

    def __init__(self, steps: int, terminals: tuple[int, ...] = (2,)):
        """Find a terminal.

        Args:
            steps: how many there are in all.
            terminals: file descriptors; the bar goes to the first that is a terminal.
        """
        self.steps = steps
        self._terminal = next(filter(printing.is_terminal, terminals), None)
        self._first: tuple[float, int] | None = None
        self._validation = ""

    def say(self, line: str) -> None:
        """A line of the log."""
        self._draw("")
        printing.say(line)

    def row(self, row: Mapping[str, int | float]) -> None:
        """A row of the history as a line."""
        step = int(row["step"])
        self._validation = f", validation nll {row['validation_nll']:.3f}"
        distilled = row["distillation"]
        self.say(
            f"step {step} of {self.steps}, {row['seconds']:.0f} s, {self._left(step)}: "
            f"nll {row['nll']:.3f}, 1->2 {row['one_to_two']:.3f}, 2->1 {row['two_to_one']:.3f}, "
            f"{f'distillation {distilled:.3f}, ' if distilled else ''}"
            f"gradient norm {row['gradient_norm']:.3g}, clipped {row['clipped']:.0%}"
            f"{self._validation}"
        )

    def bar(self, step: int) -> None:
        """Draw the bar; called after each block of steps."""
        if self._first is None:  # the first block's time is mostly compilation
            self._first = time.monotonic(), step
        speed = self._speed(step)
        pace = f", {speed:.3g} steps/s" if speed else ""
        text = f" step {step} of {self.steps}{pace}, {self._left(step)}{self._validation}"
        width = max(0, min(WIDTH, self._columns() - len(text) - 2))
        full = width * step // self.steps
        self._draw(f"[{'#' * full}{'.' * (width - full)}]{text}")

    def _speed(self, step: int) -> float:
        """Steps per second since the first block; 0 while unknown."""
        if self._first is None or step == self._first[1]:
            return 0.0
        return (step - self._first[1]) / (time.monotonic() - self._first[0])

    def _left(self, step: int) -> str:
        speed = self._speed(step)
        if step >= self.steps:
            return "done"
        return _duration((self.steps - step) / speed) + " left" if speed else "compiled"

    def _draw(self, text: str) -> None:
        if self._terminal is not None:
            printing.draw(self._terminal, "\r\x1b[K" + text[: self._columns()])

    def _columns(self) -> int:
        """Characters that fit into a line without wrapping."""
        try:
            return (os.get_terminal_size(self._terminal or 0).columns or 80) - 1
        except OSError:
            return 79


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
