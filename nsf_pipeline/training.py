"""Training: any flow on any transitions, and the PushT model on its data set."""

import csv
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, PRNGKeyArray, PyTree

from nsf_pipeline.config import Config, TrainingConfig
from nsf_pipeline.data.merge import TRAIN, VALIDATION
from nsf_pipeline.data.store import reading, require_fingerprint
from nsf_pipeline.data.transitions import TransitionBatch, Transitions, load_trajectories
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import replacing
from nsf_pipeline.flow.losses import (
    Bridge,
    Transition,
    consistency_losses,
    negative_log_likelihood,
)
from nsf_pipeline.model import PushTModel, build_model, fit_normaliser, save_model
from nsf_pipeline.provenance import record, stage_fingerprint
from nsf_pipeline.tracking import WandbRun

FlowT = TypeVar("FlowT", bound=Transition)
BridgeT = TypeVar("BridgeT", bound=Bridge)
Row = dict[str, int | float]
MID_RANGE = (0.1, 0.9)
"""Where between s and t the consistency losses look, as shares of the gap."""


NORMALISER_SIZE = 65_536
"""Transitions that the residuals' sizes are measured on."""
METRICS = (
    "step",
    "seconds",
    "loss",
    "nll",
    "one_to_two",
    "two_to_one",
    "gradient_norm",
    "clipped",
    "validation_nll",
)
"""Columns of metrics.csv: means since the row before; nats; clipped is a share of steps."""


class TrainingError(UserError):
    """Training diverged."""


@runtime_checkable
class TransitionSource(Protocol):
    """Where batches come from."""

    def sample(self, key: PRNGKeyArray, batch_size: int) -> TransitionBatch:
        """Draw a batch; jit-able."""
        ...


class Losses(NamedTuple):
    """The terms of the loss, in nats."""

    nll: Float[Array, ""]
    one_to_two: Float[Array, ""]
    two_to_one: Float[Array, ""]


class Progress(NamedTuple):
    """What one optimisation step hands to the next."""

    trainable: PyTree
    optimiser: optax.OptState
    step: Int[Array, ""]
    sums: Row | dict[str, Array]


def fit(
    flow: FlowT,
    bridge: BridgeT,
    transitions: TransitionSource,
    config: TrainingConfig,
    *,
    key: PRNGKeyArray,
    validation: TransitionSource | None = None,
    report: Callable[[Row], None] | None = None,
) -> tuple[FlowT, BridgeT, list[Row]]:
    """Train a flow and its bridge together.

    The loss is the negative log-likelihood plus both flow-consistency losses, weighted. Steps run
    in compiled blocks that draw their own batches.

    Args:
        flow: p(x_t | x_s, s, t, c), called with one example.
        bridge: b(x_m | x_s, x_t, s, m, t, c), likewise.
        transitions: what to train on.
        config: optimisation settings.
        key: for batches and losses.
        validation: what to choose the best parameters on; without it the last are returned.
        report: called with each row of the history as it is made.

    Returns:
        The trained flow and bridge, and the history: a row for every `validate_every` steps.

    Raises:
        TrainingError: a loss is not finite.
    """
    batch_key, validation_key = jax.random.split(key)
    optimiser = make_optimiser(config)
    trainable, fixed = eqx.partition((flow, bridge), eqx.is_inexact_array)

    weights = config.one_to_two_weight, config.two_to_one_weight

    def likelihood(trainable: PyTree, batch: TransitionBatch) -> Array:
        flow, _ = eqx.combine(trainable, fixed)
        return jnp.mean(_over_batch(negative_log_likelihood, flow, batch))

    def consistency(
        trainable: PyTree, batch: TransitionBatch, key: PRNGKeyArray
    ) -> tuple[Array, tuple[Array, Array]]:
        flow, bridge = eqx.combine(trainable, fixed)
        pair = batch_consistency(flow, bridge, batch, config, key=key)
        return weights[0] * pair[0] + weights[1] * pair[1], pair

    # The data are an argument: closed over, they would be compiled in as a constant.
    @eqx.filter_jit
    def run_block(
        transitions: TransitionSource, progress: Progress, steps: Int[Array, ""]
    ) -> Progress:
        def one_step(_: Array, progress: Progress) -> Progress:
            sample_key, loss_key = jax.random.split(jax.random.fold_in(batch_key, progress.step))
            batch = transitions.sample(sample_key, config.batch_size)
            nll, gradients = jax.value_and_grad(likelihood)(progress.trainable, batch)
            gradients, norm = clip(gradients, config.clip_norm)
            total, pair = jnp.zeros(()), (jnp.zeros(()), jnp.zeros(()))
            if any(weights):
                (total, pair), more = jax.value_and_grad(consistency, has_aux=True)(
                    progress.trainable, batch, loss_key
                )
                # Clipped by itself: its samples can meet the law where it is steepest, and one
                # such would drown a whole batch's likelihood.
                more, _ = clip(more, sum(weights) * config.clip_norm)
                gradients = jax.tree.map(jnp.add, gradients, more)
            updates, state = optimiser.update(gradients, progress.optimiser, progress.trainable)
            values = {"loss": nll + total, **Losses(nll, *pair)._asdict(), "gradient_norm": norm}
            values["clipped"] = (norm > config.clip_norm).astype(jnp.float32)
            sums = {name: progress.sums[name] + value for name, value in values.items()}
            return Progress(
                optax.apply_updates(progress.trainable, updates), state, progress.step + 1, sums
            )

        return jax.lax.fori_loop(0, steps, one_step, progress)

    validate = eqx.filter_jit(likelihood)
    held_out = None
    if validation is not None:
        held_out = validation.sample(validation_key, config.validation_size)
    zero = dict.fromkeys(("loss", *Losses._fields, "gradient_norm", "clipped"), jnp.zeros(()))
    state = optimiser.init(trainable)
    progress = Progress(trainable, state, jnp.zeros((), jnp.int32), zero)
    best, best_nll = trainable, float("inf")
    history: list[Row] = []
    for start in range(0, config.steps, config.validate_every):
        steps = min(config.validate_every, config.steps - start)
        progress = run_block(transitions, progress, jnp.asarray(steps))
        row: Row = {"step": start + steps}
        row |= {name: float(total) / steps for name, total in progress.sums.items()}
        if not jnp.isfinite(row["loss"]):
            terms = [name for name in Losses._fields if not jnp.isfinite(row[name])]
            raise TrainingError(
                f"the loss stopped being finite between steps {start} and {start + steps} "
                f"({', '.join(terms) or 'gradients'}); lower training.learning_rate or "
                "training.clip_norm"
            )
        progress = progress._replace(sums=jax.tree.map(jnp.zeros_like, progress.sums))
        if held_out is None:
            best = progress.trainable
        else:
            row["validation_nll"] = float(validate(progress.trainable, held_out))
            if row["validation_nll"] < best_nll:
                best, best_nll = progress.trainable, row["validation_nll"]
        history.append(row)
        if report:
            report(row)
    if held_out is not None and best_nll == float("inf"):
        raise TrainingError("no validation was finite; lower training.learning_rate")
    best_flow, best_bridge = eqx.combine(best, fixed)
    return best_flow, best_bridge, history


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


def batch_consistency(
    flow: Transition,
    bridge: Bridge,
    batch: TransitionBatch,
    config: TrainingConfig,
    *,
    key: PRNGKeyArray,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The 1->2 and 2->1 losses, means over the first `consistency_fraction` of a batch."""
    count = max(1, round(config.consistency_fraction * config.batch_size))
    part: TransitionBatch = jax.tree.map(lambda values: values[:count], batch)
    mid_key, key = jax.random.split(key)
    share = jax.random.uniform(mid_key, (count,), minval=MID_RANGE[0], maxval=MID_RANGE[1])
    t_mid = part.t_init + share * (part.t_final - part.t_init)

    def one(batch: TransitionBatch, t_mid: Array, key: PRNGKeyArray) -> tuple[Array, Array]:
        times = (batch.t_init, t_mid, batch.t_final)
        return consistency_losses(flow, bridge, batch.x_init, *times, batch.condition, key=key)

    one_to_two, two_to_one = jax.vmap(one)(part, t_mid, jax.random.split(key, count))
    return jnp.mean(one_to_two), jnp.mean(two_to_one)


def _over_batch(loss: Callable[..., Array], flow: Transition, batch: TransitionBatch) -> Array:
    return jax.vmap(lambda one: loss(flow, *one))(batch)


def train_pusht(config: Config, dataset: Path, output: Path, metrics: Path) -> None:
    """Train the PushT model on a data set, and write it with its metrics.

    Args:
        config: what the stage `train` reads.
        dataset: `dataset.h5`.
        output: where the model goes.
        metrics: where the history goes, row by row, as CSV.

    Raises:
        FileError: the data set cannot be read or is not that of the settings, or a file cannot be
            written.
        TrainingError: a loss is not finite.
    """
    started = time.monotonic()
    with reading(dataset, "dataset") as file:
        require_fingerprint(dataset, file, stage_fingerprint("dataset", config))
    training, held_out = (
        Transitions.build(
            load_trajectories(dataset, split, config.model.state_dim),
            config.training.max_gap,
            block_blur=config.training.block_blur,
        )
        for split in (TRAIN, VALIDATION)
    )
    build_key, scale_key, fit_key = jax.random.split(jax.random.key(config.seed), 3)
    batch = training.sample(scale_key, NORMALISER_SIZE)
    normaliser = fit_normaliser(config.model, config.dmp, batch)
    model = build_model(config.model, config.dmp, normaliser, key=build_key)
    count = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))
    device = jax.devices()[0]
    print(f"{len(training)} starts, {count} parameters, on {device.device_kind}", flush=True)
    made = record("train", config)
    settings = made.pop("config")  # in the header, `config` is what the model is built from
    run = WandbRun(config.wandb, metrics.parent, settings)
    times: list[float] = []
    with replacing(metrics) as beside, beside.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, METRICS)
        writer.writeheader()

        def report(row: Row) -> None:
            seconds = time.monotonic() - started
            writer.writerow({"seconds": round(seconds, 2), **row})
            file.flush()
            run.log(row, step=int(row["step"]))
            times.append(seconds)
            rows_left = math.ceil(config.training.steps / config.training.validate_every) - len(
                times
            )
            # The first row's time is mostly compilation's.
            pace = (times[-1] - times[0]) / max(len(times) - 1, 1)
            left = f"{pace * rows_left:.0f} s left" if len(times) > 1 else "compiled"
            print(
                f"step {row['step']} of {config.training.steps}, {seconds:.0f} s, {left}: "
                f"nll {row['nll']:.3f}, "
                f"1->2 {row['one_to_two']:.3f}, 2->1 {row['two_to_one']:.3f}, "
                f"validation nll {row['validation_nll']:.3f}",
                flush=True,
            )

        transition, bridge, history = fit(
            model.transition,
            model.bridge,
            training,
            config.training,
            key=fit_key,
            validation=held_out,
            report=report,
        )
        best = min(history, key=lambda row: row["validation_nll"])
        attributes = {
            **made,
            "settings": settings,
            "dataset_fingerprint": stage_fingerprint("dataset", config),
            "step": best["step"],
            "validation_nll": best["validation_nll"],
        }
        save_model(output, PushTModel(transition, bridge), attributes)
    run.finish({"best_step": best["step"], "best_validation_nll": best["validation_nll"]})
    print(
        f"best at step {best['step']:.0f}: validation nll {best['validation_nll']:.3f}", flush=True
    )
