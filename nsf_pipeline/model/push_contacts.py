"""Where agent and walls may push the T: the contacts of a nominal push, as Chipmunk finds them.

Chipmunk pushes two shapes that overlap apart on the shortest way. The T is two rectangles, each a
shape of its own, the agent a circle, and a wall a segment with a radius.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nsf_pipeline.model.contact import CENTRES, HALF_SIZES, Pair, Scalar, choose, from_rectangle
from nsf_pipeline.pusht.geometry import AGENT_RADIUS, T_CENTRE, T_RECTANGLES, WALLS
from nsf_pipeline.pusht.state import rotated, rotated_back

WALL_RADIUS = 2.0
"""px; half the thickness of gym-pusht's walls."""
NEVER = -1.0
"""px; the depth of a contact that there is not."""

# As plain numbers.
MASS_X, MASS_Y = T_CENTRE.tolist()
# The rectangles' low and high corners, from the centre of mass.
_CORNERS = (T_RECTANGLES - np.tile(T_CENTRE, 2)).reshape(2, 2, 2).tolist()
# The walls' middle lines.
_LINES = WALLS[0] - WALL_RADIUS, WALLS[1] + WALL_RADIUS


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


class Contact(NamedTuple):
    """Where the agent or a wall may push the block.

    Attributes:
        depth: px, how far both overlap; negative where they do not touch.
        direction: unit vector that the block is pushed in.
        lever: px, of that push about the centre of mass.
        velocity: px/s along the direction, of the agent or wall.
    """

    depth: Scalar
    direction: Pair
    lever: Scalar
    velocity: Scalar


def with_agent(body: Body, agent: Pair, velocity: Pair) -> list[Contact]:
    """The agent's contacts with stem and bar, in the order that comes nearest to Chipmunk's."""
    x, y = body.to_block((agent[0] - body.x, agent[1] - body.y))
    contacts = []
    for centre, half in zip(CENTRES[::-1], HALF_SIZES[::-1], strict=True):
        distance, normal = from_rectangle((x + MASS_X, y + MASS_Y), centre, half)
        arm = x - normal[0] * distance, y - normal[1] * distance
        # The block is pushed against the normal.
        lever = arm[1] * normal[0] - arm[0] * normal[1]
        away = body.to_room(normal)
        direction = -away[0], -away[1]
        speed = dot(direction, velocity)
        contacts.append(Contact(AGENT_RADIUS - distance, direction, lever, speed))
    return contacts


class _WayOut(NamedTuple):
    """The shortest way out of a wall for a rectangle.

    Attributes:
        direction: unit vector in the room.
        depths: px; how far it is for two points, the first the deepest.
        points: these, in the block's frame from the centre of mass.
        reach: px; how far the rectangle reaches beyond the wall's surface.
    """

    direction: Pair
    depths: tuple[Scalar, Scalar]
    points: tuple[Pair, Pair]
    reach: Scalar


def with_walls(body: Body, axis: int) -> list[Contact]:
    """Two contacts with the nearer wall of an axis.

    One is of the rectangle that reaches further out, the other of its second point or of the other
    rectangle, whichever is deeper.
    """
    bar, stem = (_way_out(body, axis, rectangle) for rectangle in range(2))
    is_bar = jax.lax.stop_gradient(bar.reach >= stem.reach)
    first, other = (
        jax.tree.map(lambda one, two: jnp.where(is_bar, one, two), *pair)
        for pair in ((bar, stem), (stem, bar))
    )
    is_same = jax.lax.stop_gradient(first.depths[1] >= other.depths[0])
    second = (
        jnp.where(is_same, first.depths[1], other.depths[0]),
        choose(is_same, first.points[1], other.points[0]),
        choose(is_same, first.direction, other.direction),
    )
    contacts = []
    for depth, point, direction in ((first.depths[0], first.points[0], first.direction), second):
        x, y = body.to_room(point)
        lever = x * direction[1] - y * direction[0]
        contacts.append(Contact(depth, direction, lever, jnp.zeros_like(depth)))
    return contacts


def _way_out(body: Body, axis: int, rectangle: int) -> _WayOut:
    """The shortest way out of the nearer wall of an axis, for bar (0) or stem (1).

    It leads into the room; out of it, where more than half of the rectangle is beyond the wall's
    middle line; or along the rectangle's own sides past an end of the wall, in a corner of the room
    that agent and walls have pressed the block into.
    """
    is_low = body[axis] < sum(WALLS) / 2
    side, inward = jnp.where(is_low, -1.0, 1.0), jnp.where(is_low, 1.0, -1.0)
    still = jnp.zeros_like(inward)

    def along(value: Scalar, other: Scalar) -> Pair:
        return (value, other) if axis == 0 else (other, value)

    surface = jnp.where(is_low, -WALLS[0], WALLS[1])
    # The way out of the room, in the block's frame.
    out = body.to_block(along(side, still))

    def beyond(corner: Pair) -> Scalar:
        return dot(out, corner) + side * body[axis] - surface

    (low_x, low_y), (high_x, high_y) = _CORNERS[rectangle]
    x, near_x = (jnp.where(out[0] > 0, *ends) for ends in ((high_x, low_x), (low_x, high_x)))
    y, near_y = (jnp.where(out[1] > 0, *ends) for ends in ((high_y, low_y), (low_y, high_y)))
    faces_x = jnp.abs(out[0]) > jnp.abs(out[1])
    outer = (x, y), choose(faces_x, (x, near_y), (near_x, y))
    inner = (near_x, near_y), choose(faces_x, (near_x, y), (x, near_y))
    reach = beyond(outer[0])
    into = reach, beyond(outer[1])
    through = tuple(2.0 * WALL_RADIUS - beyond(corner) for corner in inner)
    is_through = through[0] < reach
    depth, second = (
        jnp.where(is_through, out_of_it, in_it)
        for out_of_it, in_it in zip(through, into, strict=True)
    )
    point, second_point = (
        choose(is_through, far, near) for far, near in zip(inner, outer, strict=True)
    )
    towards = jnp.where(is_through, side, inward)
    direction = along(towards, still)
    line = jnp.where(is_low, *_LINES)
    across = body[1 - axis]
    one, two = (body.to_block(along(line - body[axis], end - across)) for end in _LINES)
    for past, own, end in (
        (jnp.maximum(one[0], two[0]) - low_x, (1.0, 0.0), choose(one[0] > two[0], one, two)),
        (high_x - jnp.minimum(one[0], two[0]), (-1.0, 0.0), choose(one[0] < two[0], one, two)),
        (jnp.maximum(one[1], two[1]) - low_y, (0.0, 1.0), choose(one[1] > two[1], one, two)),
        (high_y - jnp.minimum(one[1], two[1]), (0.0, -1.0), choose(one[1] < two[1], one, two)),
    ):
        is_shorter = past + WALL_RADIUS < depth
        depth = jnp.where(is_shorter, past + WALL_RADIUS, depth)
        second = jnp.where(is_shorter, NEVER, second)
        point = choose(is_shorter, end, point)
        direction = choose(is_shorter, body.to_room(own), direction)
    return _WayOut(direction, (depth, second), (point, second_point), reach)


def dot(one: Pair, other: Pair) -> Scalar:
    """The product of two plane vectors."""
    return one[0] * other[0] + one[1] * other[1]
