"""Where agent and walls may push the T: the contacts of a nominal push, as Chipmunk finds them.

Chipmunk pushes two shapes that overlap apart on the shortest way. The T is two rectangles, each a
shape of its own, the agent a circle, and a wall a segment with a radius.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from nsf_pipeline.model.contact import CENTRES, HALF_SIZES, Pair, Scalar, choose, from_rectangle
from nsf_pipeline.pusht.geometry import AGENT_RADIUS, T_CENTRE, WALLS
from nsf_pipeline.pusht.state import rotated, rotated_back

WALL_RADIUS = 2.0
"""px; half the thickness of gym-pusht's walls."""
NEVER = -1.0
"""px; the depth of a contact that there is not."""
ROUNDING = 1e-3
"""px; more than two computations of one depth differ by."""

# As plain numbers.
MASS_X, MASS_Y = T_CENTRE.tolist()
# The rectangles' middles from the centre of mass, and half their sizes.
_RECTANGLES = [
    ((x - MASS_X, y - MASS_Y), half) for (x, y), half in zip(CENTRES, HALF_SIZES, strict=True)
]
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
        levers: px; of pushes there, about the centre of mass.
        reach: px; how far the rectangle reaches beyond the wall's surface.
    """

    direction: Pair
    depths: tuple[Scalar, Scalar]
    levers: tuple[Scalar, Scalar]
    reach: Scalar


def with_walls(body: Body) -> list[Contact]:
    """Two contacts with the nearer wall of each axis.

    One is of the rectangle that reaches further out, the other of its second point or of the other
    rectangle, whichever is deeper.

    The shortest way out of the wall leads into the room; through the wall, where more than half of
    a rectangle is beyond its middle line; or along the rectangle's sides past the wall's end, in a
    corner of the room that the agent has pressed the block into.
    """
    is_low = [body[axis] < sum(WALLS) / 2 for axis in (0, 1)]
    line_x, line_y = (jnp.where(each, *_LINES) for each in is_low)
    # Where the two walls meet, in the block's frame.
    end = body.to_block((line_x - body.x, line_y - body.y))
    contacts = []
    for axis in (0, 1):
        side = jnp.where(is_low[axis], -1.0, 1.0)
        beyond = side * body[axis] - jnp.where(is_low[axis], -WALLS[0], WALLS[1])
        into_room = jnp.where(is_low[1 - axis], 1.0, -1.0)
        still = jnp.zeros_like(side)
        # The way out of the room, and that along the wall from its end, in the block's frame.
        out, wall = (
            body.to_block((x, y) if axis == 0 else (y, x))
            for x, y in ((side, still), (still, into_room))
        )
        bar, stem = (
            _shorter(
                _past_end(body, end, wall, *rectangle),
                _into_or_through(body, axis, out, side, beyond, *rectangle),
            )
            for rectangle in _RECTANGLES
        )
        is_bar = jax.lax.stop_gradient(bar.reach >= stem.reach)
        first, other = (
            jax.tree.map(lambda one, two, is_bar=is_bar: jnp.where(is_bar, one, two), *pair)
            for pair in ((bar, stem), (stem, bar))
        )
        is_same = jax.lax.stop_gradient(first.depths[1] >= other.depths[0])
        depth = jnp.where(is_same, first.depths[1], other.depths[0])
        lever = jnp.where(is_same, first.levers[1], other.levers[0])
        direction = choose(is_same, first.direction, other.direction)
        contacts += [
            Contact(first.depths[0], first.direction, first.levers[0], still),
            Contact(depth, direction, lever, still),
        ]
    return contacts


def _into_or_through(
    body: Body, axis: int, out: Pair, side: Scalar, beyond: Scalar, middle: Pair, half: Pair
) -> _WayOut:
    """The shorter way of those at a right angle to the wall, for two corners of a rectangle.

    Args:
        body: the block.
        axis: that the wall is at a right angle to.
        out: the way out of the room, in the block's frame.
        side: -1 for the low wall, 1 for the high one.
        beyond: px; how far the centre of mass is beyond the wall's surface.
        middle: of the rectangle, from the centre of mass.
        half: its half width and half height.
    """
    across_x, across_y = jnp.abs(out[0]) * half[0], jnp.abs(out[1]) * half[1]
    # How far the rectangle's middle is beyond the wall's middle line.
    at = dot(out, middle) + beyond - WALL_RADIUS
    towards = jnp.where(at > 0.0, side, -side)
    deep = WALL_RADIUS - jnp.abs(at)
    # From the middle to the deepest corner, and to the other one of that side.
    x, y = (jnp.where(out[each] > 0, half[each], -half[each]) for each in (0, 1))
    faces_x = jnp.abs(out[0]) > jnp.abs(out[1])
    next_x, next_y = choose(faces_x, (x, -y), (-x, y))
    next_across = jnp.where(faces_x, across_x - across_y, across_y - across_x)
    of_middle, *of_corners = (
        body.to_room(vector)[1 - axis] for vector in (middle, (x, y), (next_x, next_y))
    )
    # On the way through the wall, the deepest corner is on the other side of the middle.
    levers = [side * each - of_middle * towards for each in of_corners]
    if axis == 1:
        levers = [-each for each in levers]
    still = jnp.zeros_like(towards)
    return _WayOut(
        (towards, still) if axis == 0 else (still, towards),
        (deep + across_x + across_y, deep + next_across),
        (levers[0], levers[1]),
        reach=WALL_RADIUS + at + across_x + across_y,
    )


def _past_end(body: Body, end: Pair, wall: Pair, middle: Pair, half: Pair) -> _WayOut:
    """The shortest way along the sides of a rectangle, past an end of the wall.

    Args:
        body: the block.
        end: of the wall's middle line, in the block's frame from the centre of mass.
        wall: unit vector from there along the wall, in the block's frame.
        middle: of the rectangle, from the centre of mass.
        half: its half width and half height.
    """
    sign_x, sign_y = (jnp.where(each < 0.0, 1.0, -1.0) for each in wall)
    by_x = half[0] + sign_x * (end[0] - middle[0])
    by_y = half[1] + sign_y * (end[1] - middle[1])
    is_x = by_x < by_y
    own = jnp.where(is_x, sign_x, 0.0), jnp.where(is_x, 0.0, sign_y)
    depth = jnp.minimum(by_x, by_y) + WALL_RADIUS
    lever = end[0] * own[1] - end[1] * own[0]
    none = jnp.full_like(depth, NEVER)
    return _WayOut(body.to_room(own), (depth, none), (lever, lever), none)


def _shorter(past_end: _WayOut, other: _WayOut) -> _WayOut:
    """The shorter of two ways, with the reach of the other one.

    The way past an end has no slopes: few states take it, and a gradient would take half as long
    again. Where a side of the T lies along the wall both ways are one, and only the other has its
    levers right, so the way past the end must be shorter by more than rounding.
    """
    past_end = jax.lax.stop_gradient(past_end)
    is_past = past_end.depths[0] < other.depths[0] - ROUNDING
    chosen = jax.tree.map(lambda one, two: jnp.where(is_past, one, two), past_end, other)
    return chosen._replace(reach=other.reach)


def dot(one: Pair, other: Pair) -> Scalar:
    """The product of two plane vectors."""
    return one[0] * other[0] + one[1] * other[1]
