"""Sizes that the training data fix: where blocks lie, and how large residuals are."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from nsf_pipeline import checks
from nsf_pipeline.config import DMPConfig, ModelConfig
from nsf_pipeline.dmp import DMPParams, condition_dim
from nsf_pipeline.model.agent_noise import effective_noise
from nsf_pipeline.model.nominal import Condition, Scalar, State, knows_noise, nominal_motion
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.pusht.state import layout_of

LEAST = 1e-3
"""px, px/s, rad, rad/s; no size is smaller, so that nothing is divided by 0."""


class Normaliser(NamedTuple):
    """What the training data fixes before training; it is never trained.

    Attributes:
        block_bounds: least and greatest block x and y, px.
        scale: (state_dim) root mean square size of the residuals: px, px/s, rad, rad/s. Where the
            agent's noise is known, the agent's are per px of noise on the targets.
    """

    block_bounds: tuple[tuple[float, float], tuple[float, float]]
    scale: tuple[float, ...]

    def require_meaning(self, dim: int) -> None:
        """Check the numbers for states of so many.

        Raises:
            ValueError: a number is not finite, a size not positive, or a bound not below the other.
        """
        low, high = checks.numbers("block_bounds", self.block_bounds, (2, 2))
        checks.numbers("block_bounds' width", high - low, above=0.0)
        checks.numbers("scale", self.scale, (dim,), above=0.0, dtype=np.float32)


def noise_unit(condition: Condition, config: ModelConfig) -> State:
    """(state_dim) what a scale is given per: the agent's noise (px) where it is known, or 1."""
    layout = layout_of(config.state_dim)
    if not knows_noise(config):
        return jnp.ones(layout.dim)
    noise = effective_noise(DMPParams.from_vector(condition).action_noise_std)
    is_agents = np.arange(layout.dim) < layout.block.start
    return jnp.where(is_agents, noise, 1.0)


@with_defaults
def fit_normaliser(
    config: ModelConfig, dmp: DMPConfig, transitions: tuple[Array | None, ...]
) -> Normaliser:
    """Measure the normaliser on some training transitions.

    Args:
        config: the model's.
        dmp: what all policies share.
        transitions: x_init, x_final, t_init, t_final and condition, with the batch in front.

    Raises:
        ValueError: there is no transition, shapes do not belong together, a number is not finite, a
            t_final is not after its t_init, or a policy means nothing.
    """
    layout = layout_of(config.state_dim)
    _check(transitions, config.state_dim, condition_dim(dmp.n_basis))
    block = np.asarray(transitions[0], np.float64)[:, layout.block_position]
    low = block.min(axis=0)
    high = np.maximum(block.max(axis=0), low + 1.0)

    @jax.jit
    @jax.vmap
    def residual(start: State, end: State, s: Scalar, t: Scalar, condition: Condition) -> State:
        motion = nominal_motion(start, s, t, condition, config, dmp)
        return (end - start - motion.displacements[-1]) / noise_unit(condition, config)

    residuals = np.asarray(residual(*transitions))
    size = np.sqrt(np.mean(residuals.astype(np.float64) ** 2, axis=0))
    # Frames are rotated, so x and y share one size.
    for plane in layout.planes:
        size[plane] = np.sqrt(np.mean(size[plane] ** 2))
    return Normaliser(
        block_bounds=(tuple(low.tolist()), tuple(high.tolist())),
        scale=tuple(float(max(each, LEAST)) for each in size),
    )


def _check(transitions: Sequence[Any], dim: int, size: int) -> None:
    x_init, x_final, t_init, t_final, condition = transitions
    count = checks.whole("number of transitions", len(x_init), 1)
    for name, states in (("x_init", x_init), ("x_final", x_final)):
        checks.numbers(name, states, (count, dim), dtype=np.float32)
    start, end = (
        checks.numbers(name, times, (count,))
        for name, times in (("t_init", t_init), ("t_final", t_final))
    )
    checks.numbers("t_final - t_init", end - start, above=0.0)
    checks.require_shape("condition", np.shape(condition), (count, size))
    DMPParams.from_vector(np.asarray(condition)).require_meaning()
