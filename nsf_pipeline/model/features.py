"""What the PushT networks see: the agent, its nominal path and the block, from the block's frame.

The block answers only to what touches it, wherever on the table it lies: seen from its own frame,
the same push is the same numbers. Everything here is a function of one state, two times and one
condition, in physical units.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nsf_pipeline.model.contact import clearance, rotate, seen_from

PUSH_STEPS = 4
"""Steps of the nominal push from one point of the path to the next."""


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
