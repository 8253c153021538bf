"""Contact: how far the agent is from the T, and where its nominal path would push it.

Every substep PushT's block starts at rest (the space damps all motion), nothing rubs, and neither
the agent nor the walls give way. So where one of these overlaps the block by d in the direction u
that would part them, with the lever arm l = r x u about the centre of mass, the block yields by

    j = d / (1 / m + l^2 / I),    moving by j u / m and turning by j l / I.

Carried along the agent's noiseless path, this is the push to expect; noise is left to the flow.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nsf_pipeline.pusht.geometry import (
    AGENT_RADIUS,
    OVERLAP_DECAY,
    T_CENTRE,
    T_INERTIA,
    T_RECTANGLES,
    WALLS,
)

Point = Float[Array, "*batch 2"]
Pose = Float[Array, "3"]
SWEEPS = 2
"""Times that the contacts of one step are resolved, in turn."""

_CENTRES = (T_RECTANGLES[:, :2] + T_RECTANGLES[:, 2:]) / 2
_HALF_SIZES = (T_RECTANGLES[:, 2:] - T_RECTANGLES[:, :2]) / 2
_CORNERS = T_RECTANGLES[:, [[0, 1], [2, 1], [2, 3], [0, 3]]].reshape(-1, 2) - T_CENTRE


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
    offset = point - _CENTRES
    side = jnp.where(offset < 0, -1.0, 1.0)
    beyond = jnp.abs(offset) - _HALF_SIZES
    outside = jnp.maximum(beyond, 0.0)
    squared = jnp.sum(outside**2, axis=-1)
    is_outside = squared > 0
    # The root is kept from 0, where its slope is not finite.
    reach = jnp.sqrt(jnp.where(is_outside, squared, 1.0))
    nearest_side = jnp.where(beyond[:, :1] > beyond[:, 1:], jnp.eye(2)[0], jnp.eye(2)[1])
    distances = jnp.where(is_outside, reach, jnp.max(beyond, axis=-1))
    normals = side * jnp.where(is_outside[:, None], outside / reach[:, None], nearest_side)
    first = distances[0] <= distances[1]
    return jnp.min(distances), jnp.where(first, normals[0], normals[1])


def clearance(pose: Pose, agent: Float[Array, "2"]) -> Float[Array, ""]:
    """px between the agent's circle and a block at a pose; negative where they overlap."""
    return distance_and_normal(seen_from(pose, agent))[0] - AGENT_RADIUS


def nominal_push(
    path: Float[Array, "knots 2"], pose: Pose, step: Float[Array, ""]
) -> tuple[Float[Array, "knots 3"], Float[Array, " steps"]]:
    """Where the block goes as the agent follows a path.

    What overlaps at first is parted slowly, as Chipmunk does: where no time passes, nothing moves.

    Args:
        path: (knots, 2) px, the agent's positions.
        pose: px, px, rad; of the block at the path's start.
        step: s, from knot to knot.

    Returns:
        Poses (knots, 3), and how deep each step took the agent before the block yielded, px
        (knots - 1); negative where it did not touch.
    """
    centre = pose[:2] + rotate(jnp.asarray(T_CENTRE, jnp.float32), pose[2])
    body = jnp.append(centre, pose[2])
    tolerated = jnp.maximum(
        jnp.concatenate(
            [
                _agent_overlap(body, path[0])[0][None],
                *(_wall_overlaps(body, axis)[0] for axis in range(2)),
            ]
        ),
        0.0,
    )

    def sweep(body: Array, now: tuple[Array, Array]) -> tuple[Array, tuple[Array, Array]]:
        agent, tolerated = now
        overlap, *contact = _agent_overlap(body, agent)
        depth = overlap - tolerated[0]
        body = _part(body, depth, *contact)
        for axis in range(2):
            depths, arms, directions = _wall_overlaps(body, axis)
            depths -= tolerated[1 + 2 * axis : 3 + 2 * axis]
            is_low = depths[0] > depths[1]
            chosen = (jnp.where(is_low, low, high) for low, high in (arms, directions))
            body = _part(body, jnp.max(depths), *chosen)
        return body, (body, depth)

    decay = OVERLAP_DECAY ** (step * jnp.arange(1, path.shape[0]))
    inputs = (path[1:], decay[:, None] * tolerated)
    repeated = jax.tree.map(lambda values: jnp.repeat(values, SWEEPS, axis=0), inputs)
    _, (bodies, depths) = jax.lax.scan(sweep, body, repeated)
    bodies, depths = bodies[SWEEPS - 1 :: SWEEPS], depths[::SWEEPS]
    centre_seen = jax.vmap(rotate, (None, 0))(jnp.asarray(T_CENTRE, jnp.float32), bodies[:, 2])
    poses = jnp.concatenate([bodies[:, :2] - centre_seen, bodies[:, 2:]], axis=1)
    # Untouched, the block keeps its pose to the last bit.
    poses = jnp.where((bodies == body).all(axis=1, keepdims=True), pose, poses)
    return jnp.concatenate([pose[None], poses]), depths


def _agent_overlap(body: Array, agent: Array) -> tuple[Array, Array, Array]:
    """Depth (px), arm from the centre of mass to the contact, and where to the block yields."""
    local = rotate(agent - body[:2], -body[2]) + T_CENTRE
    distance, normal = distance_and_normal(local)
    arm = rotate(local - normal * distance - T_CENTRE, body[2])
    return AGENT_RADIUS - distance, arm, -rotate(normal, body[2])


def _wall_overlaps(body: Array, axis: int) -> tuple[Array, Array, Array]:
    """The same for the walls at an axis's low and high end: (2), (2, 2), (2, 2)."""
    arms = rotate(jnp.asarray(_CORNERS, jnp.float32), body[2])
    along = arms[:, axis]
    arms = arms[jnp.stack([jnp.argmin(along), jnp.argmax(along)])]
    low, high = body[axis] + arms[0, axis], body[axis] + arms[1, axis]
    inward = jnp.eye(2)[axis]
    return jnp.stack([WALLS[0] - low, high - WALLS[1]]), arms, jnp.stack([inward, -inward])


def _part(body: Array, depth: Array, arm: Array, direction: Array) -> Array:
    """The body after yielding to one overlap; itself, bit for bit, where there is none."""
    lever = arm[0] * direction[1] - arm[1] * direction[0]
    impulse = depth / (1.0 + lever**2 / T_INERTIA)
    change = jnp.append(impulse * direction, impulse * lever / T_INERTIA)
    return jnp.where(depth > 0, body + change, body)
