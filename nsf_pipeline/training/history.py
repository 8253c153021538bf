"""The history of training: a row of means and a validation for every `validate_every` steps."""

from collections.abc import Callable
from typing import final

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray, PyTree

from nsf_pipeline.config import TrainingConfig
from nsf_pipeline.training.feed import TransitionSource
from nsf_pipeline.training.state import SUMMED, Row, TrainingLog, TrainingState
from nsf_pipeline.training.step import Step


@final
class Validation:
    """The negative log-likelihood, in nats, of held-out transitions: the same ones each time."""

    def __init__(self, step: Step, source: TransitionSource, key: PRNGKeyArray):
        self._batch = step.devices.batch(source.sample(key, step.config.validation_size))
        self._loss = jax.jit(step.validation_loss)

    def __call__(self, parameters: PyTree) -> float:
        """The mean over these transitions."""
        return float(self._loss(parameters, self._batch))


def next_row(step: int, config: TrainingConfig) -> int:
    """The step after which the next row of the history is made."""
    return min(step - step % config.validate_every + config.validate_every, config.steps)


def with_row(
    state: TrainingState,
    step: Step,
    validate: Validation | None,
    clock: Callable[[], float],
) -> TrainingState:
    """The state with one more row in its history, new sums, and the best parameters so far.

    Args:
        state: after the last step of the row.
        step: the optimisation step.
        validate: scores the parameters; without it, the last are taken as the best.
        clock: time spent in training, s.
    """
    current, best, best_nll = state.current, state.best, state.log.best_nll
    steps = (state.step - 1) % step.config.validate_every + 1
    sums = dict(zip(SUMMED, current.sums.tolist(), strict=True))
    scores: Row = {"validation_nll": validate(current.parameters)} if validate else {}
    if not validate or scores["validation_nll"] < best_nll:
        best = jax.tree.map(jnp.array, current.parameters)  # copies, since blocks overwrite them
        best_nll = scores.get("validation_nll", best_nll)
    seconds = clock()
    means = {name: total / steps for name, total in sums.items()}
    row: Row = {"step": state.step, "seconds": round(seconds, 2), **means, **scores}
    zeros = step.devices.everywhere(jnp.zeros(len(SUMMED)))
    log = TrainingLog((*state.history, row), seconds, best_nll)
    return TrainingState(current._replace(sums=zeros), best, log)
