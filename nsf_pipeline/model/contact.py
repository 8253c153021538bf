"""Contact: how far the agent is from the T, and where its nominal path would push it.

Every substep PushT's block starts at rest (the space damps all motion), nothing rubs, and neither
the agent nor the walls give way. So Chipmunk's substep comes down to this: the block moves with the
velocity that the last one found; where it then overlaps the agent or a wall, impulses j along the
contacts' normals n, at arms r from the centre of mass, give it a new velocity,

    n . (v + w x r) >= n . u + (1 - decay) overlap / h    at each contact,    j >= 0,

with u the velocity of the agent (of a wall: 0) and h the substep. They are found by sweeping over
the contacts. Carried along the agent's noiseless path, this is the push to expect.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from nsf_pipeline.model.control import SUBSTEP
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
# In what runs at every step of the push, a plane vector is two scalars: mapped over a batch, each
# is one contiguous array, which a processor's vector units take whole.
Scalar = Float[Array, "..."]
Pair = tuple[Any, Any]

WALL_RADIUS = 2.0
"""px; half of a wall's thickness. Walls are segments, with room on both sides."""
OVERLAP_ALLOWED = 0.1
"""px; overlap that Chipmunk leaves as it is: a space's default collision slop."""
SWEEPS = 4
"""Times that the contacts of one step are resolved, in turn; Chipmunk does it ten times."""

# As plain numbers.
_CENTRES = [(x, y) for x, y in ((T_RECTANGLES[:, :2] + T_RECTANGLES[:, 2:]) / 2).tolist()]
_HALF_SIZES = [(x, y) for x, y in ((T_RECTANGLES[:, 2:] - T_RECTANGLES[:, :2]) / 2).tolist()]
_MASS_X, _MASS_Y = T_CENTRE.tolist()
_MIDDLES = WALLS[0] - WALL_RADIUS, WALLS[1] + WALL_RADIUS
_HALFWAY = sum(WALLS) / 2


class Body(NamedTuple):
    """The block by its centre of mass (px) and angle (rad), whose cosine and sine are kept."""

    x: Scalar
    y: Scalar
    angle: Scalar
    cos: Scalar
    sin: Scalar

    def turned(self, vector: Pair) -> Pair:
        """A vector of the block's frame, as the room sees it."""
        x, y = vector
        return self.cos * x - self.sin * y, self.sin * x + self.cos * y

    def seen(self, vector: Pair) -> Pair:
        """A vector of the room, as the block's frame sees it."""
        x, y = vector
        return self.cos * x + self.sin * y, self.cos * y - self.sin * x


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
    distance, normal = _distance_and_normal((point[0], point[1]))
    return distance, jnp.stack(normal)


def clearance(pose: Pose, agent: Float[Array, "2"]) -> Float[Array, ""]:
    """px between the agent's circle and a block at a pose; negative where they overlap."""
    return distance_and_normal(seen_from(pose, agent))[0] - AGENT_RADIUS


class Contact(NamedTuple):
    """Where something touches the block.

    Attributes:
        overlap: px; there is no contact unless it is above 0.
        lever: px, of the normal about the centre of mass.
        normal: where to the block is pushed; a 0.0 where it never is.
        speed: px/s, of what touches, along the normal.
    """

    overlap: Scalar
    lever: Scalar
    normal: Pair
    speed: Any


class Motion(NamedTuple):
    """Velocity of the centre of mass in px/s, and rad/s."""

    x: Any
    y: Any
    turn: Any

    def pushed(self, impulse: Scalar, contact: Contact) -> "Motion":
        """After an impulse at a contact (per mass, px/s)."""
        normal_x, normal_y = contact.normal
        return Motion(
            self.x if _is_zero(normal_x) else self.x + impulse * normal_x,
            self.y if _is_zero(normal_y) else self.y + impulse * normal_y,
            self.turn + impulse * contact.lever * (1.0 / T_INERTIA),
        )

    def along(self, contact: Contact) -> Scalar:
        """px/s, of the block where it is touched, along the contact's normal."""
        speed = contact.lever * self.turn
        for normal, velocity in zip(contact.normal, self[:2], strict=True):
            speed = speed if _is_zero(normal) else speed + normal * velocity
        return speed


def nominal_push(
    path: Float[Array, "knots 2"],
    velocity: Float[Array, "2"],
    pose: Pose,
    times: Float[Array, " knots"],
) -> tuple[Float[Array, "knots 3"], Float[Array, " steps"]]:
    """Where the block goes as the agent follows a path.

    The simulator's own, but for rounding, where knots are its substeps and no more than a few
    contacts wedge the block; of longer steps, what one such substep would do.

    Args:
        path: (knots, 2) px, the agent's positions.
        velocity: (2) px/s, the agent's at the path's start; what it touches there moves already.
        pose: px, px, rad; of the block at the path's start.
        times: (knots) s, never decreasing; where no time passes, nothing moves.

    Returns:
        Poses (knots, 3), and how far the agent overlaps the block after each step, px (knots - 1);
        negative where it does not touch.
    """
    frame = Body(pose[0], pose[1], pose[2], jnp.cos(pose[2]), jnp.sin(pose[2]))
    offset_x, offset_y = frame.turned((_MASS_X, _MASS_Y))
    body = frame._replace(x=frame.x + offset_x, y=frame.y + offset_y)
    step = times[1:] - times[:-1]
    passes = step > 0
    per_step = jnp.where(passes, 1.0, 0.0) / jnp.where(passes, step, 1.0)
    velocities = (path[1:] - path[:-1]) * per_step[:, None]
    # Of an overlap, the speed that makes it as small as Chipmunk would.
    parting = (1.0 - OVERLAP_DECAY**step) * per_step
    still = jnp.zeros_like(body.x)
    rest = Motion(still, still, still), (still,) * 10

    def advance(state: tuple[Body, Any], now: Any) -> tuple[Any, tuple[Body, Scalar]]:
        body, (motion, impulses) = state
        step, agent, moves, parting = now
        body = _moved(body, *(step * speed for speed in motion))
        touching = _wall_contacts(body) + _agent_contacts(body, agent, moves)
        overlap = jnp.maximum(touching[-2].overlap, touching[-1].overlap)
        return (body, _resolved(touching, impulses, parting)), (body, overlap)

    # What the agent touches at the start has been pushed in the substep before.
    before = jnp.full_like(still, (1.0 - OVERLAP_DECAY**SUBSTEP) / SUBSTEP)
    first = still, (path[0, 0], path[0, 1]), (velocity[0], velocity[1]), before
    (_, moving), _ = advance((body, rest), first)
    steps = step, (path[1:, 0], path[1:, 1]), (velocities[:, 0], velocities[:, 1]), parting
    _, (bodies, overlaps) = jax.lax.scan(jax.checkpoint(advance), (body, moving), steps)
    offset_x, offset_y = bodies.turned((_MASS_X, _MASS_Y))
    poses = jnp.stack([bodies.x - offset_x, bodies.y - offset_y, bodies.angle], axis=-1)
    # Untouched, the block keeps its pose to the last bit.
    untouched = (bodies.x == body.x) & (bodies.y == body.y) & (bodies.angle == body.angle)
    poses = jnp.where(untouched[:, None], pose, poses)
    return jnp.concatenate([pose[None], poses]), overlaps


def _agent_contacts(body: Body, agent: Pair, velocity: Pair) -> list[Contact]:
    """Of the agent with bar and stem."""
    seen_x, seen_y = body.seen((agent[0] - body.x, agent[1] - body.y))
    found = []
    for centre, half in zip(_CENTRES, _HALF_SIZES, strict=True):
        distance, out = _from_rectangle((seen_x + _MASS_X, seen_y + _MASS_Y), centre, half)
        arm_x, arm_y = body.turned((seen_x - out[0] * distance, seen_y - out[1] * distance))
        away_x, away_y = body.turned(out)
        lever = arm_y * away_x - arm_x * away_y
        speed = -(away_x * velocity[0] + away_y * velocity[1])
        found.append(Contact(AGENT_RADIUS - distance, lever, (-away_x, -away_y), speed))
    return found


def _wall_contacts(body: Body) -> list[Contact]:
    """Of the nearer wall of either axis with bar and stem, each by the two corners furthest out."""
    found = []
    for axis in range(2):
        for (centre_x, centre_y), (half_x, half_y) in zip(_CENTRES, _HALF_SIZES, strict=True):
            centre_x, centre_y = centre_x - _MASS_X, centre_y - _MASS_Y
            at = body[axis] + body.turned((centre_x, centre_y))[axis]
            reach_x = half_x * (body.sin if axis else body.cos)
            reach_y = half_y * (body.cos if axis else -body.sin)
            past = at - jnp.where(at < _HALFWAY, *_MIDDLES)
            # A rectangle is pushed to where its centre is: of a wall driven through it, outwards.
            normal = jnp.where(past > 0, 1.0, -1.0)
            size_x, size_y = jnp.abs(reach_x), jnp.abs(reach_y)
            overlap = WALL_RADIUS + size_x + size_y - jnp.abs(past)
            side_x = jnp.where(reach_x * normal > 0, -half_x, half_x)
            side_y = jnp.where(reach_y * normal > 0, -half_y, half_y)
            by_x = jnp.where(size_x < size_y, -1.0, 1.0)
            next_overlap = overlap - 2.0 * jnp.minimum(size_x, size_y)
            for depth, x, y in (
                (overlap, side_x, side_y),
                (next_overlap, by_x * side_x, -by_x * side_y),
            ):
                arm_x, arm_y = body.turned((centre_x + x, centre_y + y))
                lever = arm_x * normal if axis else -arm_y * normal
                found.append(Contact(depth, lever, (0.0, normal) if axis else (normal, 0.0), 0.0))
    return found


def _resolved(
    contacts: list[Contact], impulses: tuple[Scalar, ...], parting: Scalar
) -> tuple[Motion, tuple[Scalar, ...]]:
    """The motion that contacts give the block, and their impulses; earlier ones are where to begin.

    In Chipmunk's order the agent, which has a body that moves, comes last.
    """
    still = jnp.zeros_like(parting)
    motion, found = Motion(still, still, still), []
    for contact, impulse in zip(contacts, impulses, strict=True):
        kept = jnp.where(contact.overlap > 0, impulse, 0.0)
        motion = motion.pushed(kept, contact)
        found.append(kept)
    wanted = [
        contact.speed + parting * jnp.maximum(contact.overlap - OVERLAP_ALLOWED, 0.0)
        for contact in contacts
    ]
    ease = [1.0 / (1.0 + contact.lever**2 * (1.0 / T_INERTIA)) for contact in contacts]

    def sweep(state: tuple[Motion, tuple[Scalar, ...]], _: None) -> tuple[Any, None]:
        motion, impulses = state
        found = []
        for contact, old, speed, yields in zip(contacts, impulses, wanted, ease, strict=True):
            new = jnp.maximum(old + yields * (speed - motion.along(contact)), 0.0)
            new = jnp.where(contact.overlap > 0, new, 0.0)
            motion = motion.pushed(new - old, contact)
            found.append(new)
        return (motion, tuple(found)), None

    resolved, _ = jax.lax.scan(sweep, (motion, tuple(found)), length=SWEEPS)
    return resolved


def _moved(body: Body, x: Scalar, y: Scalar, angle: Scalar) -> Body:
    """The body after a small displacement; itself, bit for bit, where there is none."""
    # Cosine and sine of a small angle, by its half's tangent: a processor's own cost more than all
    # the rest of a step.
    tangent = angle / 2 + angle**3 / 24
    scale = 1.0 / (1.0 + tangent**2)
    cos, sin = scale * (1.0 - tangent**2), scale * 2.0 * tangent
    return Body(
        body.x + x,
        body.y + y,
        body.angle + angle,
        body.cos * cos - body.sin * sin,
        body.sin * cos + body.cos * sin,
    )


def _is_zero(value: Any) -> bool:
    """Whether a number is left out of what is computed."""
    return isinstance(value, float) and value == 0.0


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
    # The root is kept from 0, where its slope is not finite.
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
