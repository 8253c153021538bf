"""Callbacks, which `fit` calls while it trains: tables, logs, bars, checkpoints, stopping."""

from collections.abc import Callable
from typing import NamedTuple, final

from nsf_pipeline.training.state import Row, TrainingState

Hook = Callable[[TrainingState], None]


def _nothing(_: TrainingState) -> None:
    pass


@final
class Callback(NamedTuple):
    """Functions that `fit` calls; those left out do nothing.

    Only `on_start` may change what is trained. The next block of steps overwrites the arrays of a
    state, so a callback that keeps them must copy them.

    Attributes:
        on_start: given the state before the first step; returns the state to start from instead.
        on_row: called when a row has been added to the history; it is `state.history[-1]`.
        on_block: called after each block of steps, which takes about a second.
        stop: called after each block; an exit code other than 0 stops training.
        on_end: called when training is done or was stopped, but not when it failed.
        on_failure: called when training fails; returns a text to add to the error message.
    """

    on_start: Callable[[TrainingState], TrainingState] = lambda state: state
    on_row: Hook = _nothing
    on_block: Hook = _nothing
    stop: Callable[[], int] = lambda: 0
    on_end: Hook = _nothing
    on_failure: Callable[[], str] = lambda: ""


def each_row(function: Callable[[Row], None]) -> Callback:
    """A function called with each new row of the history."""
    return Callback(on_row=lambda state: function(state.history[-1]))
