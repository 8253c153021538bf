"""Optimisation steps in compiled blocks."""

import time
from typing import final

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from nsf_pipeline.training.feed import Drawn, Feed
from nsf_pipeline.training.state import StepState
from nsf_pipeline.training.step import Step

BLOCK_SECONDS = 1.0
"""Approximate time of a block; progress, checkpoints and stopping wait for its end."""


@final
class Blocks:
    """Runs a block of steps at each call; the result does not depend on the blocks' sizes."""

    def __init__(self, step: Step, feed: Feed):
        self._step, self._feed, self._size = step, feed, 1
        self._run = jax.jit(self._block, donate_argnums=0)

    def __call__(self, state: StepState, end: int) -> StepState:
        """The state after a block of at least one step, up to the step `end` at most.

        The arrays of the given state are overwritten.
        """
        began, step = time.monotonic(), int(state.step)
        drawn, first, last = self._feed(step)
        until = min(step + self._size, last, end)
        state = jax.block_until_ready(
            self._run(state, drawn, jnp.asarray(first), jnp.asarray(until))
        )
        pace = (time.monotonic() - began) / (until - step)
        self._size = max(1, min(int(BLOCK_SECONDS / pace), 4 * self._size))
        return state

    def _block(
        self, state: StepState, drawn: Drawn, first: Int[Array, ""], end: Int[Array, ""]
    ) -> StepState:
        """Run the steps up to `end`; the first of the batches belongs to the step `first`."""

        def body(index: Array, state: StepState) -> StepState:
            return self._step(state, *jax.tree.map(lambda values: values[index - first], drawn))

        return jax.lax.fori_loop(state.step, end, body, state)
