"""Contact: how far the agent is from the T, and where its nominal path would push it.

Every substep PushT's block starts at rest (the space damps all motion), the agent is not pushed
back, and nothing rubs. So where the agent's circle goes deeper by d along the contact's normal n,
with the lever arm l = r x n about the centre of mass, the block yields by the impulse

    j = d / (1 / m + l^2 / I),    moving by -j n / m and turning by -j l / I.

Carried along the agent's noiseless path, this is the push to expect; walls and noise are left to
the flow.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nsf_pipeline.pusht.geometry import AGENT_RADIUS, T_CENTRE, T_INERTIA, T_RECTANGLES

Point = Float[Array, "*batch 2"]
Pose = Float[Array, "3"]


def rotate(points: Point, angle: Float[Array, ""]) -> Point:
    """Points turned by an angle in rad about the origin."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    x, y = points[..., 0], points[..., 1]
    return jnp.stack([cos * x - sin * y, sin * x + cos * y], axis=-1)


def seen_from(pose: Pose, points: Point) -> Point:
    """Points in the frame of a block at a pose (px, px, rad)."""
    return rotate(points - pose[:2], -pose[2])


def distance_and_normal(point: Float[Array, "2"]) -> tuple[Float[Array, ""], Float[Array, "2"]]:
    """Signed distance (px) from the T's outline, in its frame, and the direction away from it."""
    low, high = T_RECTANGLES[:, :2], T_RECTANGLES[:, 2:]
    offset = point - (low + high) / 2
    side = jnp.where(offset < 0, -1.0, 1.0)
    beyond = jnp.abs(offset) - (high - low) / 2
    outside = jnp.maximum(beyond, 0.0)
    squared = jnp.sum(outside**2, axis=-1)
    # The root is kept from 0, where its slope is not finite.
    reach = jnp.sqrt(jnp.where(squared > 0, squared, 1.0))
    is_outside = squared > 0
    nearest_side = jnp.where(beyond[:, :1] > beyond[:, 1:], jnp.eye(2)[0], jnp.eye(2)[1])
    distances = jnp.where(is_outside, reach, jnp.max(beyond, axis=-1))
    normals = side * jnp.where(is_outside[:, None], outside / reach[:, None], nearest_side)
    first = distances[0] <= distances[1]
    return jnp.min(distances), jnp.where(first, normals[0], normals[1])


def clearance(pose: Pose, agent: Float[Array, "2"]) -> Float[Array, ""]:
    """px between the agent's circle and a block at a pose; negative where they overlap."""
    return distance_and_normal(seen_from(pose, agent))[0] - AGENT_RADIUS


def nominal_push(path: Float[Array, "knots 2"], pose: Pose) -> tuple[Array, Array]:
    """Where the block goes as the agent follows a path.

    The agent is kept from going deeper than it is at first, so a path that stays moves nothing.

    Args:
        path: (knots, 2) px, the agent's positions.
        pose: px, px, rad; of the block at the path's start.

    Returns:
        Poses (knots, 3), and how deep each step took the agent before the block yielded, px
        (knots - 1); negative where it did not touch.
    """
    tolerated = jnp.maximum(-clearance(pose, path[0]), 0.0)

    def step(pose: Array, agent: Array) -> tuple[Array, tuple[Array, Array]]:
        local = seen_from(pose, agent)
        distance, normal = distance_and_normal(local)
        depth = AGENT_RADIUS - distance - tolerated
        arm = local - normal * distance - T_CENTRE
        lever = arm[0] * normal[1] - arm[1] * normal[0]
        impulse = jnp.maximum(depth, 0.0) / (1.0 + lever**2 / T_INERTIA)
        angle = pose[2] - impulse * lever / T_INERTIA
        centre = pose[:2] + rotate(T_CENTRE - impulse * normal, pose[2])
        origin = centre - rotate(jnp.asarray(T_CENTRE, jnp.float32), angle)
        # Untouched, the block keeps its pose to the last bit.
        pose = jnp.where(depth > 0, jnp.append(origin, angle), pose)
        return pose, (pose, depth)

    _, (poses, depths) = jax.lax.scan(step, pose, path[1:])
    return jnp.concatenate([pose[None], poses]), depths
