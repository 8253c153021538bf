"""Training any flow on any transitions."""

import math
import time
from collections.abc import Sequence, Sized
from typing import TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from nsf_pipeline import checks
from nsf_pipeline.config import TrainingConfig
from nsf_pipeline.errors import UserError
from nsf_pipeline.flow.guard import require_key
from nsf_pipeline.flow.losses import Bridge, Transition
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.training.blocks import Blocks
from nsf_pipeline.training.callbacks import Callback
from nsf_pipeline.training.devices import Devices
from nsf_pipeline.training.failures import TrainingError, require_finite, require_no_divergence
from nsf_pipeline.training.feed import Feed, TransitionSource
from nsf_pipeline.training.history import Validation, next_row, with_row
from nsf_pipeline.training.state import Row, TrainingLog, TrainingState
from nsf_pipeline.training.step import Step
from nsf_pipeline.training.stopping import Stopped

FlowT = TypeVar("FlowT", bound=Transition)
BridgeT = TypeVar("BridgeT", bound=Bridge | None)


@with_defaults
def fit(
    flow: FlowT,
    bridge: BridgeT,
    transitions: TransitionSource,
    config: TrainingConfig,
    *,
    key: PRNGKeyArray,
    time_step: float | None = None,
    validation: TransitionSource | None = None,
    callbacks: Sequence[Callback] = (),
) -> tuple[FlowT, BridgeT, list[Row]]:
    """Train a flow and its bridge together.

    The loss is the negative log-likelihood plus both flow-consistency losses and the distillation
    loss, weighted. Steps run in compiled blocks of about a second, on batches drawn ahead; each
    batch is divided among all devices. Every random number follows from the key and the step, so
    neither the blocks' sizes nor interruptions change the result.

    Args:
        flow: p(x_t | x_s, s, t, c), called with one example.
        bridge: b(x_m | x_s, x_t, s, m, t, c), likewise; None where both consistency weights are 0.
        transitions: what to train on.
        config: optimisation settings.
        key: for batches and losses.
        time_step: s; if given, states are Markov only at whole multiples of it after a start, and
            the consistency losses use only such times, at least two time steps from both ends.
        validation: chooses the best parameters; without it, the last are returned.
        callbacks: functions to call at each event, in this order.

    Returns:
        The trained flow and bridge, and the history: a row for every `validate_every` steps, with
        the columns of metrics.csv.

    Raises:
        TrainingError: a loss is not finite, or training diverged: three means of the nll in a row,
            each over `validate_every` steps, were above f + |f| + 10 nats with the first step's
            nll f.
        Stopped: a callback asked for it.
        UserError: the devices cannot share a batch evenly, a bridge is missing, there is nothing to
            draw from, the key is no single key, the time step is not positive, or a parameter is
            not of single precision.
    """
    if bridge is None and config.consistency_weight:
        raise UserError(
            f"expected a bridge for training.one_to_two_weight = {config.one_to_two_weight:g} and "
            f"training.two_to_one_weight = {config.two_to_one_weight:g}, got None; give one, or "
            "set both weights to 0"
        )
    require_key(key)
    if time_step is not None:
        checks.number("time_step", time_step, above=0.0)
    for name, source in (("transitions", transitions), ("validation", validation)):
        if isinstance(source, Sized) and not len(source):
            raise UserError(f"expected {name} to draw from, got none")
    devices = Devices.all(config.batch_size)
    step_key, validation_key = jax.random.split(key)
    parameters, fixed = eqx.partition((flow, bridge), eqx.is_inexact_array)
    for parameter in jax.tree.leaves(parameters):
        if parameter.dtype != jnp.float32:
            raise UserError(
                f"expected parameters of float32, got {parameter.dtype}: make the flow and the "
                "bridge while jax_enable_x64 is off"
            )
    step = Step(fixed, config, devices, step_key, time_step)
    validate = None if validation is None else Validation(step, validation, validation_key)
    state = TrainingState(step.init(parameters), parameters, TrainingLog())
    for callback in callbacks:
        state = callback.on_start(state)
    # Copies, because blocks overwrite the arrays that they are given.
    copies = jax.tree.map(jnp.array, (state.current, state.best))
    current, best = devices.everywhere(copies)
    state = TrainingState(current, best, state.log)
    started, code = time.monotonic() - state.seconds, 0

    def clock() -> float:
        return time.monotonic() - started

    with Feed(transitions, flow, step_key, config, devices) as feed:
        run_block = Blocks(step, feed)
        while state.step < config.steps and not code:
            row_end = next_row(state.step, config)
            state = state._replace(current=run_block(state.current, row_end)).with_seconds(clock())
            require_finite(state, callbacks)
            if state.step == row_end:
                state = with_row(state, step, validate, clock)
                for callback in callbacks:
                    callback.on_row(state)
                require_no_divergence(state, callbacks)
            for callback in callbacks:
                callback.on_block(state)
            code = max((callback.stop() for callback in callbacks), default=0)
        for callback in callbacks:
            callback.on_end(state)
    if code and state.step < config.steps:
        raise Stopped(code, f"stopped at step {state.step} of {config.steps}")
    if validate and state.log.best_nll == math.inf:
        raise TrainingError("no validation was finite; lower training.learning_rate")
    best_flow, best_bridge = eqx.combine(state.best, fixed)
    return best_flow, best_bridge, list(state.history)
