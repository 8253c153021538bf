"""The state of training: all that is needed to continue it."""

import math
from typing import NamedTuple, final

import optax
from jaxtyping import Array, Bool, Float, Int, PyTree

Row = dict[str, int | float]
TERMS = ("nll", "one_to_two", "two_to_one", "distillation")
"""The terms of the loss, in nats."""
SUMMED = ("loss", *TERMS, "gradient_norm", "clipped")
"""Quantities that are summed over steps; the history has their means."""


@final
class StepState(NamedTuple):
    """What one optimisation step takes and returns: arrays on the devices.

    Attributes:
        parameters: those of the flow and the bridge.
        optimiser: the optimiser's state.
        running_norm: of the likelihood's gradients; see `clipping`. 0 before the first step.
        step: steps done.
        sums: sums of the quantities `SUMMED` since the last row of the history.
        first_nll: nll of the first step's batch, nats.
        fault: the first step, counted from 1, whose loss was not finite; 0 if there is none.
        faulty: which of `TERMS` were not finite in that step.
    """

    parameters: PyTree
    optimiser: optax.OptState
    running_norm: Float[Array, ""]
    step: Int[Array, ""]
    sums: Float[Array, " values"]
    first_nll: Float[Array, ""]
    fault: Int[Array, ""]
    faulty: Bool[Array, " terms"]


@final
class TrainingLog(NamedTuple):
    """Measurements so far: plain numbers on the host, which JSON can hold.

    Attributes:
        history: a row for every `validate_every` steps.
        seconds: time spent in training; time between interrupted runs does not count.
        best_nll: the lowest validation loss so far, nats; infinite if there is none.
    """

    history: tuple[Row, ...] = ()
    seconds: float = 0.0
    best_nll: float = math.inf


@final
class TrainingState(NamedTuple):
    """All that is needed to continue training; a checkpoint holds this and nothing else.

    Attributes:
        current: what the next optimisation step starts from.
        best: the parameters with the lowest validation loss; without validation, those of the
            last row of the history.
        log: the measurements so far.
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
        """Time spent in training; time between interrupted runs does not count."""
        return self.log.seconds

    def with_seconds(self, seconds: float) -> "TrainingState":
        """The same state, with the total seconds of training replaced."""
        return self._replace(log=self.log._replace(seconds=seconds))
