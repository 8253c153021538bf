"""Contact: how far the agent is from the T, and where the agent's nominal path pushes the T.

In every substep PushT's block starts at rest (the space damps all motion), there is no friction,
and neither the agent nor the walls give way. Where one of these overlaps the block by d, in the
direction u that separates them, with the lever arm l = r x u about the centre of mass, the block
receives the impulse

    j = d / (1 / m + l^2 / I),    moves by j u / m and turns by j l / I.

Applied along the agent's noiseless path, this is the nominal push.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nsf_pipeline.pusht.geometry import (
    AGENT_RADIUS,
    OVERLAP_DECAY,
    T_CENTRE,
    T_INERTIA,
    T_RECTANGLES,
    WALLS,
)
from nsf_pipeline.pusht.state import rotated, rotated_back

Point = Float[Array, "*batch 2"]
Pose = Float[Array, "3"]
# In the code that runs at every step of the push, a plane vector is two scalars. Mapped over a
# batch, each is one contiguous array, which suits a processor's vector units.
Scalar = Float[Array, "..."]
Pair = tuple[Any, Any]

SWEEPS = 2
"""How many times the contacts of one step are resolved, one after the other."""

# As plain numbers.
_CENTRES = [(x, y) for x, y in ((T_RECTANGLES[:, :2] + T_RECTANGLES[:, 2:]) / 2).tolist()]
_HALF_SIZES = [(x, y) for x, y in ((T_RECTANGLES[:, 2:] - T_RECTANGLES[:, :2]) / 2).tolist()]
_MASS_X, _MASS_Y = T_CENTRE.tolist()
# The rectangles' low and high corners, from the centre of mass.
_ENDS = (T_RECTANGLES - np.tile(T_CENTRE, 2)).reshape(2, 2, 2).tolist()


class Body(NamedTuple):
    """The block by its centre of mass (px) and angle (rad), whose cosine and sine are kept."""

    x: Scalar
    y: Scalar
    angle: Scalar
    cos: Scalar
    sin: Scalar

    def to_room(self, vector: Pair) -> Pair:
        """A vector given in the block's frame, in the room's."""
        return rotated(*vector, self.cos, self.sin)

    def to_block(self, vector: Pair) -> Pair:
        """A vector given in the room's frame, in the block's."""
        return rotated_back(*vector, self.cos, self.sin)


def rotate(points: Point, angle: Float[Array, ""]) -> Point:
    """Points rotated by an angle in rad about the origin."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack(rotated(points[..., 0], points[..., 1], cos, sin), axis=-1)


def in_frame_of(pose: Pose, points: Point) -> Point:
    """Points of the room in the frame of a block at a pose (px, px, rad)."""
    return rotate(points - pose[:2], -pose[2])


def distance_and_normal(point: Float[Array, "2"]) -> tuple[Float[Array, ""], Float[Array, "2"]]:
    """Signed distance (px) from the T's outline, in its frame, and the direction away from it."""
    distance, normal = _distance_and_normal((point[0], point[1]))
    return distance, jnp.stack(normal)


def clearance(pose: Pose, agent: Float[Array, "2"]) -> Float[Array, ""]:
    """px between the agent's circle and a block at a pose; negative where they overlap."""
    return distance_and_normal(in_frame_of(pose, agent))[0] - AGENT_RADIUS


def nominal_push(
    path: Float[Array, "knots 2"], pose: Pose, step: Float[Array, ""]
) -> tuple[Float[Array, "knots 3"], Float[Array, " steps"]]:
    """Where the block goes as the agent follows a path.

    An overlap at the start is separated gradually, as Chipmunk does it, so where no time passes
    nothing moves.

    Args:
        path: (knots, 2) px, the agent's positions.
        pose: px, px, rad; of the block at the path's start.
        step: s, from knot to knot.

    Returns:
        Poses (knots, 3), and for each step how deep the agent was in the block before the block
        moved, px (knots - 1); negative where they did not touch.
    """
    agents = path[:, 0], path[:, 1]
    frame = Body(pose[0], pose[1], pose[2], jnp.cos(pose[2]), jnp.sin(pose[2]))
    offset_x, offset_y = frame.to_room((_MASS_X, _MASS_Y))
    body = frame._replace(x=frame.x + offset_x, y=frame.y + offset_y)
    ends = [(axis, end) for axis in range(2) for end in range(2)]
    tolerated = [
        jnp.maximum(depth, 0.0)
        for depth in (
            _agent_overlap(body, (agents[0][0], agents[1][0]))[0],
            *(_wall_depth(body, axis, end, _outermost(body, axis, end)) for axis, end in ends),
        )
    ]

    def advance(body: Body, now: tuple[Pair, Scalar]) -> tuple[Body, tuple[Body, Scalar]]:
        agent, decay = now
        overlap, arm, direction = _agent_overlap(body, agent)
        depth = overlap - decay * tolerated[0]
        body = _separate(body, depth, arm, direction)
        for axis in range(2):
            corners = [_outermost(body, axis, end) for end in range(2)]
            low, high = (
                _wall_depth(body, axis, end, corners[end]) - decay * tolerated[1 + 2 * axis + end]
                for end in range(2)
            )
            is_low = low > high
            arm = body.to_room(_where(is_low, *corners))
            inward = jnp.where(is_low, 1.0, -1.0)
            still = jnp.zeros_like(inward)
            direction = (inward, still) if axis == 0 else (still, inward)
            body = _separate(body, jnp.maximum(low, high), arm, direction)
        return body, (body, depth)

    decay = OVERLAP_DECAY ** (step * jnp.arange(1, path.shape[0]))
    sweeps = (agents[0][1:], agents[1][1:]), decay
    sweeps = jax.tree.map(lambda values: jnp.repeat(values, SWEEPS, axis=0), sweeps)
    _, (bodies, depths) = jax.lax.scan(jax.checkpoint(advance), body, sweeps)
    bodies = jax.tree.map(lambda values: values[SWEEPS - 1 :: SWEEPS], bodies)
    depths = depths[::SWEEPS]
    offset_x, offset_y = bodies.to_room((_MASS_X, _MASS_Y))
    poses = jnp.stack([bodies.x - offset_x, bodies.y - offset_y, bodies.angle], axis=-1)
    # An untouched block keeps its pose to the last bit.
    untouched = (bodies.x == body.x) & (bodies.y == body.y) & (bodies.angle == body.angle)
    poses = jnp.where(untouched[:, None], pose, poses)
    return jnp.concatenate([pose[None], poses]), depths


def _agent_overlap(body: Body, agent: Pair) -> tuple[Scalar, Pair, Pair]:
    """Depth (px), arm from the centre of mass to the contact, and direction the block moves in."""
    local_x, local_y = body.to_block((agent[0] - body.x, agent[1] - body.y))
    distance, normal = _distance_and_normal((local_x + _MASS_X, local_y + _MASS_Y))
    arm = body.to_room((local_x - normal[0] * distance, local_y - normal[1] * distance))
    away_x, away_y = body.to_room(normal)
    return AGENT_RADIUS - distance, arm, (-away_x, -away_y)


def _outermost(body: Body, axis: int, end: int) -> Pair:
    """The corner, in the block's frame, that is furthest out at an axis's low or high end."""
    side = 1.0 if end else -1.0
    # The way out, in the block's frame.
    out_x, out_y = body.to_block((side, 0.0) if axis == 0 else (0.0, side))
    bar, stem = (
        (jnp.where(out_x > 0, high_x, low_x), jnp.where(out_y > 0, high_y, low_y))
        for (low_x, low_y), (high_x, high_y) in _ENDS
    )
    is_bar = out_x * bar[0] + out_y * bar[1] >= out_x * stem[0] + out_y * stem[1]
    return _where(jax.lax.stop_gradient(is_bar), bar, stem)


def _wall_depth(body: Body, axis: int, end: int, corner: Pair) -> Scalar:
    """How far (px) a corner is beyond the wall at an axis's low or high end."""
    at = body[axis] + body.to_room(corner)[axis]
    return at - WALLS[1] if end else WALLS[0] - at


def _separate(body: Body, depth: Scalar, arm: Pair, direction: Pair) -> Body:
    """The body after one overlap is resolved; the same to the last bit where there is none."""
    lever = arm[0] * direction[1] - arm[1] * direction[0]
    # Exactly 0 where nothing overlaps.
    impulse = jnp.where(depth > 0, depth, 0.0) / (1.0 + lever**2 * (1.0 / T_INERTIA))
    angle = impulse * lever * (1.0 / T_INERTIA)
    # Cosine and sine of a small angle, by the tangent of its half: the exact functions would cost
    # more than the rest of the step.
    tangent = angle / 2 + angle**3 / 24
    scale = 1.0 / (1.0 + tangent**2)
    cos, sin = scale * (1.0 - tangent**2), scale * 2.0 * tangent
    return Body(
        body.x + impulse * direction[0],
        body.y + impulse * direction[1],
        body.angle + angle,
        body.cos * cos - body.sin * sin,
        body.sin * cos + body.cos * sin,
    )


def _distance_and_normal(point: Pair) -> tuple[Scalar, Pair]:
    bar, stem = (
        jax.lax.stop_gradient(_from_rectangle(point, centre, half)[0])
        for centre, half in zip(_CENTRES, _HALF_SIZES, strict=True)
    )
    is_bar = bar <= stem
    return _from_rectangle(point, _where(is_bar, *_CENTRES), _where(is_bar, *_HALF_SIZES))


def _from_rectangle(point: Pair, centre: Pair, half: Pair) -> tuple[Scalar, Pair]:
    x, y = point[0] - centre[0], point[1] - centre[1]
    beyond_x, beyond_y = jnp.abs(x) - half[0], jnp.abs(y) - half[1]
    outside_x, outside_y = jnp.maximum(beyond_x, 0.0), jnp.maximum(beyond_y, 0.0)
    squared = outside_x**2 + outside_y**2
    is_outside = squared > 0
    # The root's argument is kept from 0, where its slope is not finite.
    reach = jnp.sqrt(jnp.where(is_outside, squared, 1.0))
    per_reach = 1.0 / reach
    nearer_x = jnp.where(beyond_x > beyond_y, 1.0, 0.0)
    normal_x = jnp.where(is_outside, outside_x * per_reach, nearer_x)
    normal_y = jnp.where(is_outside, outside_y * per_reach, 1.0 - nearer_x)
    distance = jnp.where(is_outside, reach, jnp.maximum(beyond_x, beyond_y))
    return distance, (jnp.where(x < 0, -normal_x, normal_x), jnp.where(y < 0, -normal_y, normal_y))


def _where(condition: Array, if_true: Pair, if_false: Pair) -> Pair:
    first, second = (
        jnp.where(condition, yes, no) for yes, no in zip(if_true, if_false, strict=True)
    )
    return first, second
