"""One optimisation step: a pure function from a state and a batch to the next state."""

from dataclasses import dataclass
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray, PyTree

from nsf_pipeline.config import TrainingConfig
from nsf_pipeline.data.transitions import TransitionBatch
from nsf_pipeline.training import clipping
from nsf_pipeline.training.devices import Devices
from nsf_pipeline.training.keys import loss_key
from nsf_pipeline.training.losses import (
    batch_consistency,
    batch_distillation,
    batch_encoding,
    batch_likelihood,
)
from nsf_pipeline.training.state import SUMMED, TERMS, StepState


@final
@dataclass(frozen=True, eq=False)
class Step:
    """`next_state = step(state, batch)`; jit-able.

    The loss is the negative log-likelihood plus both flow-consistency losses and the distillation
    loss, weighted. All but the likelihood are estimated on the first part of the batch.

    Attributes:
        fixed: the parts of the flow and the bridge that are not trained.
        config: optimisation settings.
        devices: how batches are divided among devices.
        key: of the training; with the number of the step it gives the step's random numbers.
        time_step: s, or None; see `batch_consistency`.
    """

    fixed: PyTree
    config: TrainingConfig
    devices: Devices
    key: PRNGKeyArray
    time_step: float | None = None

    def init(self, parameters: PyTree) -> StepState:
        """The state before the first step."""
        return StepState(
            parameters=parameters,
            optimiser=make_optimiser(self.config).init(parameters),
            running_norm=jnp.zeros(()),
            step=jnp.zeros((), jnp.int32),
            sums=jnp.zeros(len(SUMMED)),
            first_nll=jnp.zeros(()),
            fault=jnp.zeros((), jnp.int32),
            faulty=jnp.zeros(len(TERMS), bool),
        )

    def __call__(
        self, state: StepState, batch: TransitionBatch, encoding: PyTree = None
    ) -> StepState:
        """The state after one step; `encoding` is that of the batch, if already computed."""
        if encoding is None:
            encoding = self._encoding(state.parameters, batch)
        terms, loss, gradients, norm, usual = self._gradients(state, batch, encoding)
        updates, optimiser = make_optimiser(self.config).update(
            gradients, state.optimiser, state.parameters
        )
        clipped = (norm > self.config.clip_ratio * usual).astype(jnp.float32)
        faulty = ~jnp.isfinite(jnp.stack(terms))
        is_first = (state.fault == 0) & faulty.any()
        return StepState(
            parameters=optax.apply_updates(state.parameters, updates),
            optimiser=optimiser,
            running_norm=clipping.updated(usual, norm, self.config.clip_ratio),
            step=state.step + 1,
            sums=state.sums + jnp.stack([loss, *terms, norm, clipped]),
            first_nll=jnp.where(state.step == 0, terms[0], state.first_nll),
            fault=jnp.where(is_first, state.step + 1, state.fault),
            faulty=jnp.where(is_first, faulty, state.faulty),
        )

    def validation_loss(self, parameters: PyTree, batch: TransitionBatch) -> Float[Array, ""]:
        """The negative log-likelihood of held-out transitions, nats; a mean."""
        return self._likelihood(parameters, batch, self._encoding(parameters, batch))

    def _gradients(
        self, state: StepState, batch: TransitionBatch, encoding: PyTree
    ) -> tuple[list[Array], Array, PyTree, Array, Array]:
        """The `TERMS` of the loss, the loss, its clipped gradients, and two norms.

        They are that of the likelihood's gradients before they were clipped, and the running norm
        that it is held against.
        """
        config, parameters = self.config, state.parameters
        weight = config.consistency_weight + config.distillation_weight
        nll, gradients = jax.value_and_grad(self._likelihood)(parameters, batch, encoding)
        norm = optax.tree.norm(gradients)
        usual = clipping.reference(state.running_norm, norm)
        gradients = clipping.shortened(gradients, norm, config.clip_ratio * usual)
        if not weight:
            return [nll, *jnp.zeros(len(TERMS) - 1)], nll, gradients, norm, usual
        count = max(1, round(config.consistency_fraction * config.batch_size))
        part = jax.tree.map(lambda values: values[:count], (batch, encoding))
        (total, others), more = jax.value_and_grad(self._two_steps, has_aux=True)(
            parameters, *self.devices.constrain(part), loss_key(self.key, state.step)
        )
        # Clipped apart, by the likelihood's running norm: one sample where the log-density is very
        # steep would outweigh the likelihood of the whole batch.
        more = clipping.shortened(more, optax.tree.norm(more), weight * usual)
        gradients = jax.tree.map(jnp.add, gradients, more)
        return [nll, *others], nll + total, gradients, norm, usual

    def _encoding(self, parameters: PyTree, batch: TransitionBatch) -> PyTree:
        flow, _ = eqx.combine(parameters, self.fixed)
        return batch_encoding(flow, batch)

    def _likelihood(self, parameters: PyTree, batch: TransitionBatch, encoding: PyTree) -> Array:
        flow, _ = eqx.combine(parameters, self.fixed)
        return batch_likelihood(flow, batch, encoding)

    def _two_steps(
        self, parameters: PyTree, batch: TransitionBatch, encoding: PyTree, key: PRNGKeyArray
    ) -> tuple[Array, list[Array]]:
        """The weighted sum of the losses that compare one step with two, and each of them."""
        flow, bridge = eqx.combine(parameters, self.fixed)
        config, given = self.config, (batch, encoding, self.time_step)
        losses = [jnp.zeros(())] * 3
        if config.consistency_weight:
            losses[:2] = batch_consistency(flow, bridge, *given, key=key)
        if config.distillation_weight:
            losses[2] = batch_distillation(flow, *given, key=key)
        weights = config.one_to_two_weight, config.two_to_one_weight, config.distillation_weight
        return jnp.dot(jnp.array(weights), jnp.stack(losses)), losses


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
