"""Contact: how far the agent is from the T."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nsf_pipeline.pusht.geometry import AGENT_RADIUS, T_RECTANGLES
from nsf_pipeline.pusht.state import rotated

Point = Float[Array, "*batch 2"]
Pose = Float[Array, "3"]
# In the code that runs at every step of a push, a plane vector is two scalars. Mapped over a batch,
# each is one contiguous array, which suits a processor's vector units.
Scalar = Float[Array, "..."]
Pair = tuple[Any, Any]

CENTRES = [(x, y) for x, y in ((T_RECTANGLES[:, :2] + T_RECTANGLES[:, 2:]) / 2).tolist()]
"""px; of bar and stem, in the block's frame."""
HALF_SIZES = [(x, y) for x, y in ((T_RECTANGLES[:, 2:] - T_RECTANGLES[:, :2]) / 2).tolist()]
"""px; half the widths and heights of bar and stem."""


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


def _distance_and_normal(point: Pair) -> tuple[Scalar, Pair]:
    bar, stem = (
        jax.lax.stop_gradient(from_rectangle(point, centre, half)[0])
        for centre, half in zip(CENTRES, HALF_SIZES, strict=True)
    )
    is_bar = bar <= stem
    return from_rectangle(point, choose(is_bar, *CENTRES), choose(is_bar, *HALF_SIZES))


def from_rectangle(point: Pair, centre: Pair, half: Pair) -> tuple[Scalar, Pair]:
    """Signed distance (px) of a point from a rectangle's outline, and the direction away from it.

    Args:
        point: px.
        centre: px, the rectangle's.
        half: px, half its width and half its height.
    """
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


def choose(condition: Array, if_true: Pair, if_false: Pair) -> Pair:
    """One plane vector or another."""
    first, second = (
        jnp.where(condition, yes, no) for yes, no in zip(if_true, if_false, strict=True)
    )
    return first, second
