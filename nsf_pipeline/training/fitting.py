"""Training any flow on any transitions."""

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, Key, PRNGKeyArray, PyTree

from nsf_pipeline.config import TrainingConfig
from nsf_pipeline.data.transitions import TransitionBatch
from nsf_pipeline.errors import UserError
from nsf_pipeline.flow.losses import (
    Bridge,
    Transition,
    consistency_losses,
    encode,
    negative_log_likelihood,
)
from nsf_pipeline.training.checkpoints import Checkpoints
from nsf_pipeline.training.stopping import Stopped

FlowT = TypeVar("FlowT", bound=Transition)
BridgeT = TypeVar("BridgeT", bound=Bridge | None)
Row = dict[str, int | float]
MID_RANGE = (0.1, 0.9)
"""Where between s and t the consistency losses look, as shares of the gap."""
MID_STEPS = 2
"""And at least how many time steps from either: one may leave a law without a density."""
BLOCK_SECONDS = 1.0
"""How long a block of steps takes, about: so prompt are progress, checkpoints and stopping."""
CHUNK_STEPS, CHUNK_ROWS = 128, 1 << 16
"""At most so many batches, and so many transitions, are drawn at once."""
DIVERGED_ROWS = 3
"""So many rows in a row beyond the limit are a divergence; see `fit`."""


class TrainingError(UserError):
    """Training diverged."""


@runtime_checkable
class TransitionSource(Protocol):
    """Where batches come from.

    One that cannot be compiled, because it reads a file say, also has
    `batches(keys, batch_size)`: a batch for each key, along a new first axis, as `sample` draws it.
    """

    def sample(self, key: PRNGKeyArray, batch_size: int) -> TransitionBatch:
        """Draw a batch; jit-able."""
        ...


class Losses(NamedTuple):
    """The terms of the loss, in nats."""

    nll: Float[Array, ""]
    one_to_two: Float[Array, ""]
    two_to_one: Float[Array, ""]


SUMMED = ("loss", *Losses._fields, "gradient_norm", "clipped")
"""What is summed from step to step, and a mean in the history."""


class Progress(NamedTuple):
    """What one optimisation step hands to the next.

    Attributes:
        trainable: the parameters.
        optimiser: its state.
        step: steps done.
        sums: of `SUMMED`, since the last row of the history.
        first_nll: of the first step's batch, nats.
        fault: the first step, from 1, whose loss was not finite; 0 while there is none.
        faulty: which terms were not.
    """

    trainable: PyTree
    optimiser: optax.OptState
    step: Int[Array, ""]
    sums: Float[Array, " values"]
    first_nll: Float[Array, ""]
    fault: Int[Array, ""]
    faulty: Bool[Array, " terms"]


def fit(
    flow: FlowT,
    bridge: BridgeT,
    transitions: TransitionSource,
    config: TrainingConfig,
    *,
    key: PRNGKeyArray,
    time_step: float | None = None,
    validation: TransitionSource | None = None,
    report: Callable[[Row], None] | None = None,
    checkpoints: Checkpoints | None = None,
    watch: Callable[[int], None] | None = None,
    stop: Callable[[], int] | None = None,
) -> tuple[FlowT, BridgeT, list[Row]]:
    """Train a flow and its bridge together.

    The loss is the negative log-likelihood plus both flow-consistency losses, weighted. Steps run
    in compiled blocks of about a second, on batches drawn ahead; each batch is divided among all
    devices. Every random number follows from the key and the step, so how steps are cut into
    blocks, and whether they are interrupted, changes no bit.

    Args:
        flow: p(x_t | x_s, s, t, c), called with one example.
        bridge: b(x_m | x_s, x_t, s, m, t, c), likewise; None where both weights are 0.
        transitions: what to train on.
        config: optimisation settings.
        key: for batches and losses.
        time_step: where it is given, states are Markov only at whole multiples of it after a
            start, and one step and two are made to agree there alone, two or more from the ends.
        validation: what to choose the best parameters on; without it the last are returned.
        report: called with each row of the history as it is made or restored.
        checkpoints: where to go on from, and to leave what it takes to go on.
        watch: called after each block with the number of steps done.
        stop: asked after each block; an exit code other than 0 stops training.

    Returns:
        The trained flow and bridge, and the history: a row for every `validate_every` steps.

    Raises:
        TrainingError: a loss is not finite, or training diverged: three means in a row of the
            likelihood's loss, each over `validate_every` steps, were worse than the first step's
            by 10 nats and its own size.
        Stopped: `stop` asked for it; a checkpoint was left.
        UserError: the devices cannot share a batch evenly.
    """
    spread = Devices.all(config.batch_size)
    batch_key, validation_key = jax.random.split(key)
    optimiser = make_optimiser(config)
    trainable, fixed = eqx.partition((flow, bridge), eqx.is_inexact_array)

    weights = config.one_to_two_weight, config.two_to_one_weight

    def likelihood(trainable: PyTree, batch: TransitionBatch, encoding: PyTree) -> Array:
        flow, _ = eqx.combine(trainable, fixed)
        return batch_likelihood(flow, batch, encoding)

    def consistency(
        trainable: PyTree, batch: TransitionBatch, encoding: PyTree, key: PRNGKeyArray
    ) -> tuple[Array, tuple[Array, Array]]:
        flow, bridge = eqx.combine(trainable, fixed)
        pair = batch_consistency(flow, bridge, batch, encoding, time_step, key=key)
        return weights[0] * pair[0] + weights[1] * pair[1], pair

    @partial(jax.jit, donate_argnums=0)
    def run_block(
        progress: Progress, batches: TransitionBatch, first: Int[Array, ""], stop: Int[Array, ""]
    ) -> Progress:
        """Steps up to `stop`, on batches of which the first is that of the step `first`."""

        def one_step(step: Array, progress: Progress) -> Progress:
            batch = jax.tree.map(lambda values: values[step - first], batches)
            loss_key = _keys_of(batch_key, step)[1]
            # Once for all losses, and outside of what is differentiated.
            encoding = batch_encoding(eqx.combine(progress.trainable, fixed)[0], batch)
            nll, gradients = jax.value_and_grad(likelihood)(progress.trainable, batch, encoding)
            gradients, norm = clip(gradients, config.clip_norm)
            total, pair = jnp.zeros(()), (jnp.zeros(()), jnp.zeros(()))
            if any(weights):
                count = max(1, round(config.consistency_fraction * config.batch_size))
                part = jax.tree.map(lambda values: values[:count], (batch, encoding))
                (total, pair), more = jax.value_and_grad(consistency, has_aux=True)(
                    progress.trainable, *spread.constrain(part), loss_key
                )
                # Clipped by itself: its samples can meet the law where it is steepest, and one
                # such would drown a whole batch's likelihood.
                more, _ = clip(more, sum(weights) * config.clip_norm)
                gradients = jax.tree.map(jnp.add, gradients, more)
            updates, state = optimiser.update(gradients, progress.optimiser, progress.trainable)
            clipped = (norm > config.clip_norm).astype(jnp.float32)
            faulty = ~jnp.isfinite(jnp.stack([nll, *pair]))
            is_first = (progress.fault == 0) & faulty.any()
            return Progress(
                optax.apply_updates(progress.trainable, updates),
                state,
                step + 1,
                progress.sums + jnp.stack([nll + total, nll, *pair, norm, clipped]),
                jnp.where(step == 0, nll, progress.first_nll),
                jnp.where(is_first, step + 1, progress.fault),
                jnp.where(is_first, faulty, progress.faulty),
            )

        return jax.lax.fori_loop(progress.step, stop, one_step, progress)

    @jax.jit
    def validate(trainable: PyTree, batch: TransitionBatch) -> Array:
        encoding = batch_encoding(eqx.combine(trainable, fixed)[0], batch)
        return likelihood(trainable, batch, encoding)

    held_out = None
    if validation is not None:
        held_out = spread.batch(validation.sample(validation_key, config.validation_size))
    progress = Progress(
        trainable,
        optimiser.init(trainable),
        jnp.zeros((), jnp.int32),
        jnp.zeros(len(SUMMED)),
        jnp.zeros(()),
        jnp.zeros((), jnp.int32),
        jnp.zeros(len(Losses._fields), bool),
    )
    best, best_nll = trainable, math.inf
    history: list[Row] = []
    row: Row
    restored = checkpoints.restore((progress, best)) if checkpoints else None
    if restored:
        progress, best = restored.arrays
        best_nll, history = restored.notes["best_nll"], restored.notes["history"]
        if report:
            for row in history:
                report(row)
    # Copies, for blocks write into what they are given.
    progress, best = spread.everywhere(jax.tree.map(jnp.array, (progress, best)))

    def save(step: int) -> None:
        if checkpoints:
            checkpoints.save(step, (progress, best), {"best_nll": best_nll, "history": history})

    step, size = int(progress.step), 1
    with Feed(transitions, batch_key, config, spread) as feed:
        while step < config.steps:
            start = step - step % config.validate_every
            row_end = min(start + config.validate_every, config.steps)
            began = time.monotonic()
            batches, first, last = feed(step)
            until = min(step + size, last, row_end)
            progress = run_block(progress, batches, jnp.asarray(first), jnp.asarray(until))
            fault = int(progress.fault)
            pace = (time.monotonic() - began) / (until - step)
            size = max(1, min(int(BLOCK_SECONDS / pace), 4 * size))
            step = until
            if fault:
                terms = [n for n, bad in zip(Losses._fields, progress.faulty, strict=True) if bad]
                raise TrainingError(
                    f"step {fault}: {' and '.join(terms)} stopped being finite; "
                    + _advice(checkpoints)
                )
            if step == row_end:
                row = {"step": step}
                for name, total in zip(SUMMED, progress.sums.tolist(), strict=True):
                    row[name] = total / (step - start)
                progress = progress._replace(sums=spread.everywhere(jnp.zeros(len(SUMMED))))
                if held_out is None:
                    best = jax.tree.map(jnp.array, progress.trainable)
                else:
                    row["validation_nll"] = float(validate(progress.trainable, held_out))
                    if row["validation_nll"] < best_nll:
                        best = jax.tree.map(jnp.array, progress.trainable)
                        best_nll = row["validation_nll"]
                history.append(row)
                if report:
                    report(row)
                _require_sane(history, float(progress.first_nll), checkpoints)
            if watch:
                watch(step)
            code = stop() if stop else 0
            if code or step == config.steps or (checkpoints and checkpoints.due()):
                save(step)
            if code and step < config.steps:
                raise Stopped(code, f"stopped at step {step} of {config.steps}")
    if held_out is not None and best_nll == math.inf:
        raise TrainingError("no validation was finite; lower training.learning_rate")
    best_flow, best_bridge = eqx.combine(best, fixed)
    return best_flow, best_bridge, history


def _require_sane(history: list[Row], first: float, checkpoints: Checkpoints | None) -> None:
    limit = first + abs(first) + 10.0
    last = history[-DIVERGED_ROWS:]
    if len(last) == DIVERGED_ROWS and all(row["nll"] > limit for row in last):
        raise TrainingError(
            f"step {last[-1]['step']}: nll diverged: a mean of {last[-1]['nll']:.4g} nats, above "
            f"{limit:.4g} in {DIVERGED_ROWS} rows of the metrics, where the first step had "
            f"{first:.4g}; " + _advice(checkpoints)
        )


def _advice(checkpoints: Checkpoints | None) -> str:
    newest = checkpoints.newest if checkpoints else None
    where = f"last good checkpoint: {newest or 'none'}; " if checkpoints else ""
    return f"{where}lower training.learning_rate or training.clip_norm"


class Devices(NamedTuple):
    """How arrays lie on the devices: batches divided among them, all else on each."""

    mesh: Mesh

    @classmethod
    def all(cls, batch_size: int) -> "Devices":
        """All devices there are.

        Raises:
            UserError: they cannot share a batch evenly.
        """
        devices = jax.devices()
        if batch_size % len(devices):
            raise UserError(
                f"training.batch_size = {batch_size} does not divide among {len(devices)} devices; "
                f"make it a multiple of {len(devices)}, or hide some (CUDA_VISIBLE_DEVICES)"
            )
        return cls(Mesh(np.array(devices), ("batch",)))

    def everywhere(self, tree: PyTree) -> PyTree:
        """Arrays copied to each device."""
        return jax.device_put(tree, NamedSharding(self.mesh, PartitionSpec()))

    def batch(self, batch: PyTree) -> PyTree:
        """A batch divided by its first axis, where that goes evenly."""
        return jax.device_put(batch, self._along(0, jax.tree.leaves(batch)[0].shape[0]))

    def batches(self, batches: PyTree) -> PyTree:
        """Batches, one after the other along the first axis, each divided."""
        return jax.device_put(batches, self._along(1, jax.tree.leaves(batches)[0].shape[1]))

    def constrain(self, batch: PyTree) -> PyTree:
        """As `batch`, within a compiled function."""
        along = self._along(0, jax.tree.leaves(batch)[0].shape[0])
        return jax.lax.with_sharding_constraint(batch, along)

    def _along(self, axis: int, count: int) -> NamedSharding:
        parts = (None,) * axis + (("batch",) if count % self.mesh.size == 0 else ())
        return NamedSharding(self.mesh, PartitionSpec(*parts))


class Feed:
    """Batches in the order of steps, a chunk of them drawn while the one before is trained on."""

    def __init__(
        self, source: TransitionSource, key: PRNGKeyArray, config: TrainingConfig, spread: Devices
    ):
        self.steps, self.batch_size = config.steps, config.batch_size
        self._key, self._spread = key, spread
        self._draw = getattr(source, "batches", None) or partial(_sampled, source)
        self.size = max(1, min(CHUNK_STEPS, CHUNK_ROWS // self.batch_size))
        self._pool = ThreadPoolExecutor(1)
        self._next: tuple[int, Future[TransitionBatch]] | None = None
        self._current: tuple[int, TransitionBatch] | None = None

    def __enter__(self) -> "Feed":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def __call__(self, step: int) -> tuple[TransitionBatch, int, int]:
        """The chunk of batches that holds a step's, its first step and one past its last."""
        chunk = step // self.size
        if not self._current or self._current[0] != chunk:
            if not self._next or self._next[0] != chunk:
                self._next = chunk, self._pool.submit(self._chunk, chunk)
            self._current = chunk, self._next[1].result()
            if (chunk + 1) * self.size < self.steps:
                self._next = chunk + 1, self._pool.submit(self._chunk, chunk + 1)
        return self._current[1], chunk * self.size, (chunk + 1) * self.size

    def _chunk(self, chunk: int) -> TransitionBatch:
        steps = jnp.arange(chunk * self.size, (chunk + 1) * self.size)
        return self._spread.batches(self._draw(_sample_keys(self._key, steps), self.batch_size))


@eqx.filter_jit
def _sampled(
    source: TransitionSource, keys: Key[Array, " steps"], batch_size: int
) -> TransitionBatch:
    return jax.vmap(lambda key: source.sample(key, batch_size))(keys)


def _keys_of(key: PRNGKeyArray, step: Int[Array, ""]) -> tuple[PRNGKeyArray, PRNGKeyArray]:
    """A step's keys, for its batch and for its losses."""
    sample_key, loss_key = jax.random.split(jax.random.fold_in(key, step))
    return sample_key, loss_key


@jax.jit
def _sample_keys(key: PRNGKeyArray, steps: Int[Array, " steps"]) -> Key[Array, " steps"]:
    return jax.vmap(lambda step: _keys_of(key, step)[0])(steps)


def make_optimiser(config: TrainingConfig) -> optax.GradientTransformation:
    """Adam with linear warm-up and cosine decay."""
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0 if config.warmup_steps else config.learning_rate,
        peak_value=config.learning_rate,
        warmup_steps=config.warmup_steps,
        decay_steps=config.steps,
        end_value=config.final_learning_rate * config.learning_rate,
    )
    return optax.adam(schedule)


def clip(gradients: PyTree, limit: float) -> tuple[PyTree, Float[Array, ""]]:
    """Gradients shortened to a global norm of at most `limit`, and the norm that they had."""
    norm = optax.tree.norm(gradients)
    factor = jnp.minimum(1.0, limit / jnp.maximum(norm, 1e-12))
    # One that is not finite has no direction: it counts for nothing.
    finite = jnp.isfinite(norm)
    return jax.tree.map(lambda g: jnp.where(finite, factor * g, 0.0), gradients), norm


def batch_encoding(flow: Transition, batch: TransitionBatch) -> PyTree:
    """The flow's encoding of each example."""

    def one(batch: TransitionBatch) -> PyTree:
        return encode(flow, batch.x_init, batch.t_init, batch.t_final, batch.condition)

    return jax.vmap(one)(batch)


def batch_likelihood(
    flow: Transition, batch: TransitionBatch, encoding: PyTree
) -> Float[Array, ""]:
    """The negative log-likelihood, a mean over a batch."""

    def one(batch: TransitionBatch, encoding: PyTree) -> Array:
        return negative_log_likelihood(flow, *batch, encoding=encoding)

    return jnp.mean(jax.vmap(one)(batch, encoding))


def batch_consistency(
    flow: Transition,
    bridge: Bridge,
    batch: TransitionBatch,
    encoding: PyTree,
    time_step: float | None = None,
    *,
    key: PRNGKeyArray,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The 1->2 and 2->1 losses, means over a batch.

    With a time step, the time between is a whole number of such steps after the start, and two or
    more from either end; shorter examples have no such time, and no loss.
    """
    count, gap = len(batch.t_init), batch.t_final - batch.t_init
    mid_key, key = jax.random.split(key)
    share = jax.random.uniform(mid_key, (count,), minval=MID_RANGE[0], maxval=MID_RANGE[1])
    has_mid = jnp.ones(count, bool)
    if time_step is not None:
        steps = jnp.round(gap / time_step)
        has_mid = steps >= 2 * MID_STEPS
        mid = jnp.clip(jnp.round(share * steps), MID_STEPS, steps - MID_STEPS)
        share = jnp.where(has_mid, mid / steps, share)
    t_mid = batch.t_init + share * gap

    def one(
        batch: TransitionBatch, t_mid: Array, encoding: PyTree, key: PRNGKeyArray
    ) -> tuple[Array, Array]:
        times = (batch.t_init, t_mid, batch.t_final)
        return consistency_losses(
            flow, bridge, batch.x_init, *times, batch.condition, encoding=encoding, key=key
        )

    losses = jax.vmap(one)(batch, t_mid, encoding, jax.random.split(key, count))
    one_to_two, two_to_one = (jnp.mean(jnp.where(has_mid, loss, 0.0)) for loss in losses)
    return one_to_two, two_to_one
