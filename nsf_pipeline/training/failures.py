"""Training that fails: a loss that is not finite, or one that grows without bound."""

from collections.abc import Sequence
from typing import final

from nsf_pipeline.errors import UserError
from nsf_pipeline.training.callbacks import Callback
from nsf_pipeline.training.state import TERMS, TrainingState

DIVERGED_ROWS = 3
"""This number of successive rows beyond the limit is a divergence."""


@final
class TrainingError(UserError):
    """Training failed: a loss was not finite, or diverged."""


def require_finite(state: TrainingState, callbacks: Sequence[Callback]) -> None:
    """Require that all losses so far were finite.

    Raises:
        TrainingError: one was not; it names the step and the terms.
    """
    fault = int(state.current.fault)
    if fault:
        terms = [name for name, bad in zip(TERMS, state.current.faulty, strict=True) if bad]
        raise _failed(f"step {fault}: {' and '.join(terms)} stopped being finite", callbacks)


def require_no_divergence(state: TrainingState, callbacks: Sequence[Callback]) -> None:
    """Require that not all of the last rows are much worse than the first step.

    Raises:
        TrainingError: the nll of each of the last `DIVERGED_ROWS` rows was above the limit, which
            is f + |f| + 10 nats with the first step's nll f.
    """
    first = float(state.current.first_nll)
    limit = first + abs(first) + 10.0
    last = state.history[-DIVERGED_ROWS:]
    if len(last) == DIVERGED_ROWS and all(row["nll"] > limit for row in last):
        raise _failed(
            f"step {last[-1]['step']}: nll diverged: a mean of {last[-1]['nll']:.4g} nats, above "
            f"{limit:.4g} in {DIVERGED_ROWS} rows of the metrics, where the first step had "
            f"{first:.4g}",
            callbacks,
        )


def _failed(what: str, callbacks: Sequence[Callback]) -> TrainingError:
    hints = [hint for callback in callbacks if (hint := callback.on_failure())]
    advice = "lower training.learning_rate or training.clip_ratio"
    return TrainingError("; ".join([what, *hints, advice]))
