"""What the networks see of a transition, and the sizes that the training data fix."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nsf_pipeline.config import DMPConfig, ModelConfig
from nsf_pipeline.model.contact import nominal_push
from nsf_pipeline.model.control import at_least_a_step, desired_path, noise_factor, nominal_path
from nsf_pipeline.model.features import PUSH_STEPS, features, push_features

Scalar = Float[Array, ""]
State = Float[Array, " dim"]
Condition = Float[Array, " condition"]


class Normaliser(NamedTuple):
    """What the training data fixes; never trained.

    Attributes:
        block_bounds: least and greatest block x and y, px.
        scale: (state_dim) size of the residuals: px, px/s, rad.
        noise: px, size of what the agent's targets must have been off.
    """

    block_bounds: tuple[tuple[float, float], tuple[float, float]]
    scale: tuple[float, ...]
    noise: float


class Seen(NamedTuple):
    """How the networks see a transition.

    Attributes:
        displacements: nominal ones (px, px/s, rad) at even times from s to t, or of a control step
            where that is longer.
        features: of order one.
    """

    displacements: Float[Array, "knots dim"]
    features: Float[Array, " features"]


class View(eqx.Module):
    """Makes what the networks see of a transition; holds nothing that is trained."""

    config: ModelConfig = eqx.field(static=True)
    dmp: DMPConfig = eqx.field(static=True)
    normaliser: Normaliser = eqx.field(static=True)

    def __call__(
        self, x_init: State, t_init: Scalar, t_final: Scalar, condition: Condition | Seen
    ) -> Seen:
        """What is seen from a state at t_init (s), of t_final (s); kept if it is given already."""
        if isinstance(condition, Seen):
            return condition
        agent, block, points = x_init[:2], x_init[-3:], self.config.path_points
        velocity = x_init[2:4] if self.config.state_dim == 7 else None
        duration = condition[0]
        bounds = np.array(self.normaliser.block_bounds, np.float32)
        still, no_push = jnp.zeros((2, self.config.state_dim)), jnp.zeros(0)
        if not self.config.conditional:
            time = jnp.zeros(()) if self.config.autonomous else t_init
            path = agent[None]
            return Seen(still, features(agent, velocity, block, path, no_push, time, bounds))
        if self.config.autonomous:
            # Without s, all of the policy's path, and no guess at where on it the agent is.
            times = duration * jnp.arange(1, points + 1) / points
            path = desired_path(condition, times, self.dmp)
            return Seen(still, features(agent, velocity, block, path, no_push, duration, bounds))
        # Where the state hides the velocity, rest is the guess.
        initial = jnp.zeros(2) if velocity is None else velocity
        step = (at_least_a_step(t_init, t_final) - t_init) / (PUSH_STEPS * points)
        times = t_init + step * jnp.arange(PUSH_STEPS * points + 1)
        knots, velocities = nominal_path(agent, initial, times, condition, self.dmp)
        poses, depths = nominal_push(knots, block, step)
        parts = [knots, poses] if velocity is None else [knots, velocities, poses]
        path = knots[PUSH_STEPS::PUSH_STEPS]
        # The deepest of each point's steps.
        push = push_features(block, poses[-1], depths.reshape(points, PUSH_STEPS).max(axis=1))
        seen = features(agent, velocity, block, path, push, duration, bounds)
        return Seen(jnp.concatenate(parts, axis=1) - x_init, seen)

    @property
    def knows_noise(self) -> bool:
        """Whether what noise does to the agent can be told: its path is known, and its velocity."""
        config = self.config
        return config.conditional and not config.autonomous and config.state_dim == 7

    @property
    def feature_dim(self) -> int:
        """How many features there are."""
        config = self.config
        state, condition = (
            jax.ShapeDtypeStruct((size,), jnp.float32)
            for size in (config.state_dim, 7 + 2 * self.dmp.n_basis)
        )
        time = jax.ShapeDtypeStruct((), jnp.float32)
        return jax.eval_shape(self.__call__, state, time, time, condition).features.shape[0]


def fit_normaliser(
    config: ModelConfig, dmp: DMPConfig, transitions: tuple[Array | None, ...]
) -> Normaliser:
    """The normaliser of some training transitions: bounds, and root mean square residuals.

    Args:
        config: the model's.
        dmp: what all policies share.
        transitions: x_init, x_final, t_init, t_final and condition, with the batch in front.
    """
    block = np.asarray(transitions[0], np.float64)[:, -3:-1]
    low = block.min(axis=0).tolist()
    high = np.maximum(block.max(axis=0), block.min(axis=0) + 1.0).tolist()
    unit = Normaliser(((low[0], low[1]), (high[0], high[1])), (1.0,) * config.state_dim, 1.0)
    view = View(config, dmp, unit)

    @jax.jit
    @jax.vmap
    def residual(start: State, end: State, s: Scalar, t: Scalar, condition: Condition) -> State:
        return end - start - view(start, s, t, condition).displacements[-1]

    residuals = np.asarray(residual(*transitions))
    along = np.asarray(jax.jit(jax.vmap(noise_factor))(*transitions[2:4]))[:, :1, 0]
    noise = float(np.sqrt(np.mean((residuals[:, :2] / along).astype(np.float64) ** 2)))
    size = np.sqrt(np.mean(residuals.astype(np.float64) ** 2, axis=0))
    # The frame turns, so both coordinates of a plane share one size.
    for plane in range((config.state_dim - 1) // 2):
        size[2 * plane : 2 * plane + 2] = np.sqrt(np.mean(size[2 * plane : 2 * plane + 2] ** 2))
    scale = tuple(float(max(s, 1e-3)) for s in size)
    return unit._replace(scale=scale, noise=max(noise, 1e-3))


def interpolate(knots: Float[Array, "knots dim"], share: Scalar) -> State:
    """Values between knots, linearly; the first at share 0 and the last at share 1."""
    last = knots.shape[0] - 1
    place = share * last
    lower = jnp.clip(jnp.floor(place).astype(jnp.int32), 0, last - 1)
    weight = place - lower
    return (1.0 - weight) * knots[lower] + weight * knots[lower + 1]
