"""What the PushT networks see: the agent, its nominal path and the block, from the block's frame.

The block answers only to what touches it, wherever on the table it lies: seen from its own frame,
the same push is the same numbers. Everything here is a function of one state, two times and one
condition, in physical units.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nsf_pipeline import dmp
from nsf_pipeline.config import DMPConfig
from nsf_pipeline.model.contact import clearance, rotate, seen_from
from nsf_pipeline.timing import CONTROL_DT

PUSH_STEPS = 4
"""Steps of the nominal push from one point of the path to the next."""

# The environment's PD control of the agent, per s^2 and per s.
CONTROL_STIFFNESS = 100.0
CONTROL_DAMPING = 20.0


def desired_path(
    condition: Float[Array, " condition"], times: Float[Array, " points"], config: DMPConfig
) -> Float[Array, "points 2"]:
    """px: where the DMP wants the agent to be at some times."""
    params = dmp.DMPParams.from_vector(condition)
    path = dmp.integrate(params, config, jnp, jax.lax.scan)
    return dmp.evaluate(path, times, config, jnp)


def nominal_path(
    position: Float[Array, "2"],
    velocity: Float[Array, "2"],
    t_init: Float[Array, ""],
    t_final: Float[Array, ""],
    condition: Float[Array, " condition"],
    points: int,
    config: DMPConfig,
) -> tuple[Float[Array, "knots 2"], Float[Array, "knots 2"]]:
    """Where the agent goes without noise: the environment's control following the DMP.

    Args:
        position: px, of the agent at t_init.
        velocity: px/s, of the agent at t_init.
        t_init: s.
        t_final: s.
        condition: the DMP vector.
        points: steps from t_init to t_final.
        config: what all DMPs share.

    Returns:
        Positions in px and velocities in px/s at points + 1 even times, t_init and t_final
        included.
    """
    step = (t_final - t_init) / points
    times = t_init + step * jnp.arange(points + 1)
    # A target is held for one control step and is the DMP's position at the step's end: on
    # average it leads by half a step.
    desired = desired_path(condition, times + CONTROL_DT / 2, config)
    # Where no time passes, a step of 1 stands in: nothing that follows then moves anyway.
    moving = step > 0
    positions, velocities = dmp.follow(
        desired,
        position,
        velocity,
        jnp.float32(CONTROL_STIFFNESS),
        jnp.float32(CONTROL_DAMPING),
        jnp.where(moving, step, 1.0),
        jnp,
        jax.lax.scan,
    )
    return (
        jnp.where(moving, positions, position),
        jnp.where(moving, velocities, velocity),
    )


def features(
    agent: Float[Array, "2"],
    velocity: Float[Array, "2"] | None,
    block: Float[Array, "3"],
    path: Float[Array, "points 2"],
    push: Float[Array, " push"],
    time: Float[Array, ""],
    block_bounds: Float[np.ndarray, "2 2"],
) -> Float[Array, " features"]:
    """The networks' view, each number of order one.

    Args:
        agent: px.
        velocity: px/s, of the agent; None where the state does not hold it.
        block: px, px, rad.
        path: px, where the agent is headed.
        push: what the nominal push says, of order one.
        time: s, how long the policy lasts or has lasted.
        block_bounds: least and greatest block position in the training data, px.
    """
    low, high = block_bounds
    gap = clearance(block, agent)
    gaps = jax.vmap(clearance, (None, 0))(block, path)
    parts = [
        seen_from(block, agent) / 100.0,
        seen_from(block, path).ravel() / 100.0,
        # Sharp where it matters, at contact, and flat where it does not.
        jnp.tanh(gap[None] / 10.0),
        jnp.tanh(gaps / 10.0),
        gap[None] / 100.0,
        jnp.min(gaps)[None] / 30.0,
        push,
        2.0 * (block[:2] - low) / (high - low) - 1.0,
        jnp.stack([jnp.cos(block[2]), jnp.sin(block[2]), time]),
    ]
    if velocity is not None:
        parts.append(rotate(velocity, -block[2]) / 200.0)
    return jnp.concatenate(parts)


def push_features(
    block: Float[Array, "3"], end: Float[Array, "3"], depths: Float[Array, " points"]
) -> Float[Array, " push"]:
    """The nominal push as the networks see it: where to, and how narrowly, step by step."""
    moved = jnp.append(rotate(end[:2] - block[:2], -block[2]) / 50.0, end[2] - block[2])
    return jnp.concatenate([moved, jnp.tanh(depths / 10.0), jnp.tanh(jnp.max(depths)[None] / 3.0)])
