"""The state of training: all that it needs to go on."""

import math
from typing import NamedTuple, final

import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

Row = dict[str, int | float]
TERMS = ("nll", "one_to_two", "two_to_one")
"""The terms of the loss, in nats."""
SUMMED = ("loss", *TERMS, "gradient_norm", "clipped")
"""What is summed from step to step; the history has the means."""


@final
class StepState(NamedTuple):
    """What one optimisation step takes and returns: arrays on the devices.

    Attributes:
        parameters: those of the flow and the bridge.
        optimiser: its state.
        step: steps done.
        sums: of `SUMMED`, since the last row of the history.
        first_nll: of the first step's batch, nats.
        fault: the first step, counted from 1, whose loss was not finite; 0 while there is none.
        faulty: which of `TERMS` were not finite in that step.
    """

    parameters: PyTree
    optimiser: optax.OptState
    step: Int[Array, ""]
    sums: Float[Array, " values"]
    first_nll: Float[Array, ""]
    fault: Int[Array, ""]
    faulty: Bool[Array, " terms"]


@final
class TrainingLog(NamedTuple):
    """What training has measured so far: plain numbers on the host, which JSON can hold.

    Attributes:
        history: a row for every `validate_every` steps.
        seconds: time spent in training; what passed between interrupted runs does not count.
        best_nll: the lowest validation loss so far, nats; infinite while there is none.
    """

    history: tuple[Row, ...] = ()
    seconds: float = 0.0
    best_nll: float = math.inf


@final
class TrainingState(NamedTuple):
    """All that training needs to go on; a checkpoint holds this and nothing else.

    Attributes:
        current: what the next optimisation step starts from.
        best: the parameters with the lowest validation loss; without validation, those of the
            last row of the history.
        log: what has been measured.
    """

    current: StepState
    best: PyTree
    log: TrainingLog

    @property
    def step(self) -> int:
        """Optimisation steps done."""
        return int(self.current.step)

    @property
    def history(self) -> tuple[Row, ...]:
        """A row for every `validate_every` steps."""
        return self.log.history

    @property
    def seconds(self) -> float:
        """Time spent in training; what passed between interrupted runs does not count."""
        return self.log.seconds

    def with_seconds(self, seconds: float) -> "TrainingState":
        """The same state after so many seconds of training in all."""
        return self._replace(log=self.log._replace(seconds=seconds))
