"""The nominal push: where the agent's nominal path pushes the T.

The push is Chipmunk's own, in its own order. PushT has no friction, neither the agent nor the walls
give way, and the space damps all motion: in every substep the block's velocity is found anew from
its contacts. With a contact's direction u and its lever arm l = r x u about the centre of mass, an
impulse j >= 0 (over the mass) changes the velocity by j u and the turning by j l / I, and so the
speed along another contact's direction u' by j (u . u' + l l' / I). Impulses are found one after
the other, such that the block leaves each contact at least as fast as the agent or wall comes, and
faster where they overlap: a share of the overlap is recovered in each substep. The next substep
moves the block.

Applied along the agent's noiseless path, in somewhat longer steps than Chipmunk's, this is the
nominal push.
"""

import itertools
from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nsf_pipeline.model.contact import (
    CENTRES,
    HALF_SIZES,
    Pair,
    Pose,
    Scalar,
    choose,
    from_rectangle,
)
from nsf_pipeline.pusht.geometry import (
    AGENT_RADIUS,
    OVERLAP_DECAY,
    T_CENTRE,
    T_INERTIA,
    T_RECTANGLES,
    WALLS,
)
from nsf_pipeline.pusht.state import rotated, rotated_back

OVERLAP_ALLOWED = 0.1
"""px; overlap that Chipmunk does not recover: its default collision slop."""
SWEEPS = 2
"""How many times the contacts of one step are solved, one after the other."""
CONTACTS = 6
"""At most: the agent with both rectangles, and two corners with a wall of each axis."""

# As plain numbers.
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


class Moving(NamedTuple):
    """The block between two steps.

    Attributes:
        body: where it is.
        velocity: px/s, px/s, rad/s.
        impulses: (CONTACTS) of the last step, over the block's mass, px/s.
    """

    body: Body
    velocity: tuple[Scalar, Scalar, Scalar]
    impulses: tuple[Scalar, ...]


class Pushed(NamedTuple):
    """A nominal push.

    Attributes:
        poses: (knots, 3) px, px, rad; where the block is as the agent is at each knot of its path.
        depths: (knots - 1) px; for each step the greatest overlap of agent and block at its end,
            negative where they do not touch.
        velocities: (knots, 3) px/s, px/s, rad/s; the block's, exactly 0 where nothing pushes it.
    """

    poses: Float[Array, "_ 3"]
    depths: Float[Array, " _"]
    velocities: Float[Array, "_ 3"]


def nominal_pushes(
    paths: Sequence[tuple[Float[Array, "_ 2"], Float[Array, ""]]],
    velocity: Float[Array, "2"],
    pose: Pose,
) -> list[Pushed]:
    """Where the block goes as the agent follows a path, for each of some paths.

    All pushes run one after the other in one loop: a compiler takes seconds for each loop.

    Args:
        paths: for each, (knots, 2) px, the agent's positions; and s, from knot to knot, above 0.
        velocity: (2) px/s, the agent's at the paths' start. A block that it touches moves with it.
        pose: px, px, rad; of the block at the paths' start.
    """
    frame = Body(pose[0], pose[1], pose[2], jnp.cos(pose[2]), jnp.sin(pose[2]))
    offset_x, offset_y = frame.to_room((_MASS_X, _MASS_Y))
    start = frame._replace(x=frame.x + offset_x, y=frame.y + offset_y)
    at_rest = Moving(start, (jnp.zeros_like(start.x),) * 3, (jnp.zeros_like(start.x),) * CONTACTS)

    def advance(moving: Moving, now: tuple[Any, ...]) -> tuple[Moving, tuple[Any, ...]]:
        is_first, step, recovered, position, agent_velocity = now
        moving = jax.tree.map(partial(jnp.where, is_first), at_rest, moving)
        body = _moved(moving, step)
        agent = _with_agent(body, position, agent_velocity)
        contacts = [*agent, *_with_walls(body, 0), *_with_walls(body, 1)]
        answered = _answer(body, contacts, moving.impulses, recovered)
        depth = jnp.maximum(agent[0].depth, agent[1].depth)
        return answered, (body, depth, answered.velocity)

    knots = [len(path) for path, _ in paths]
    is_first = np.concatenate([np.arange(count) == 0 for count in knots])
    steps = jnp.concatenate([jnp.full(len(path), step) for path, step in paths])
    recovered = (1.0 - OVERLAP_DECAY**steps) / steps
    positions = jnp.concatenate([path for path, _ in paths])
    velocities = jnp.concatenate(
        [part for path, step in paths for part in (velocity[None], jnp.diff(path, axis=0) / step)]
    )
    agents = (positions[:, 0], positions[:, 1]), (velocities[:, 0], velocities[:, 1])
    each = is_first, steps, recovered, *agents
    _, (bodies, depths, moving) = jax.lax.scan(jax.checkpoint(advance), at_rest, each)
    offset_x, offset_y = bodies.to_room((_MASS_X, _MASS_Y))
    poses = jnp.stack([bodies.x - offset_x, bodies.y - offset_y, bodies.angle], axis=-1)
    # An untouched block keeps its pose to the last bit.
    untouched = (bodies.x == start.x) & (bodies.y == start.y) & (bodies.angle == start.angle)
    poses = jnp.where(untouched[:, None], pose, poses)
    ends = np.cumsum(knots)[:-1].tolist()
    parts = (jnp.split(of_all, ends) for of_all in (poses, depths, jnp.stack(moving, axis=-1)))
    return [Pushed(own, depth[1:], speed) for own, depth, speed in zip(*parts, strict=True)]


def _moved(moving: Moving, step: Scalar) -> Body:
    """The body a step later; the same to the last bit where it does not move."""
    body, (x, y, turn) = moving.body, moving.velocity
    angle = turn * step
    # Cosine and sine of a small angle, by the tangent of its half: the exact functions would cost
    # more than the rest of the step.
    tangent = angle / 2 + angle**3 / 24
    scale = 1.0 / (1.0 + tangent**2)
    cos, sin = scale * (1.0 - tangent**2), scale * 2.0 * tangent
    return Body(
        body.x + x * step,
        body.y + y * step,
        body.angle + angle,
        body.cos * cos - body.sin * sin,
        body.sin * cos + body.cos * sin,
    )


def _answer(
    body: Body, contacts: list[Contact], impulses: tuple[Scalar, ...], recovered: Scalar
) -> Moving:
    """The body with the velocity that its contacts give it, from rest.

    Args:
        body: where it is.
        contacts: all that may be; those that do not overlap have no effect.
        impulses: those of the step before, from which the solution starts.
        recovered: share of an overlap that is recovered, per s.
    """
    touching = [contact.depth >= 0.0 for contact in contacts]
    wanted = [
        contact.velocity + recovered * jnp.maximum(contact.depth - OVERLAP_ALLOWED, 0.0)
        for contact in contacts
    ]
    # Exactly 0 where nothing overlaps.
    response = [
        jnp.where(touches, 1.0 / (1.0 + contact.lever**2 * (1.0 / T_INERTIA)), 0.0)
        for touches, contact in zip(touching, contacts, strict=True)
    ]
    total = tuple(
        jnp.where(touches, before, 0.0) for touches, before in zip(touching, impulses, strict=True)
    )
    # The speed at one contact of a pair from an impulse at the other.
    coupling = {}
    for one, other in itertools.combinations(range(CONTACTS), 2):
        along = _dot(contacts[one].direction, contacts[other].direction)
        turning = contacts[one].lever * contacts[other].lever * (1.0 / T_INERTIA)
        coupling[one, other] = coupling[other, one] = along + turning

    def sweep(_: Any, impulses: tuple[Scalar, ...]) -> tuple[Scalar, ...]:
        found = list(impulses)
        for one in range(CONTACTS):
            lacking = wanted[one]
            for other in range(CONTACTS):
                if other != one:
                    lacking = lacking - coupling[one, other] * found[other]
            found[one] = jnp.maximum(lacking * response[one], 0.0)
        return tuple(found)

    # A loop: unrolled, a compiler computes shared parts again and again.
    total = jax.lax.fori_loop(0, SWEEPS, sweep, total)
    x, y, turn = (
        sum(impulse * effect for impulse, effect in zip(total, effects, strict=True))
        for effects in zip(*((*each.direction, each.lever) for each in contacts), strict=True)
    )
    return Moving(body, (x, y, turn * (1.0 / T_INERTIA)), total)


def _with_agent(body: Body, agent: Pair, velocity: Pair) -> list[Contact]:
    """The agent's contacts with stem and bar, in the order that comes nearest to Chipmunk's."""
    x, y = body.to_block((agent[0] - body.x, agent[1] - body.y))
    contacts = []
    for centre, half in zip(CENTRES[::-1], HALF_SIZES[::-1], strict=True):
        distance, normal = from_rectangle((x + _MASS_X, y + _MASS_Y), centre, half)
        arm = x - normal[0] * distance, y - normal[1] * distance
        # The block is pushed against the normal.
        lever = arm[1] * normal[0] - arm[0] * normal[1]
        away = body.to_room(normal)
        direction = -away[0], -away[1]
        speed = direction[0] * velocity[0] + direction[1] * velocity[1]
        contacts.append(Contact(AGENT_RADIUS - distance, direction, lever, speed))
    return contacts


def _with_walls(body: Body, axis: int) -> list[Contact]:
    """Two contacts with the nearer wall of an axis.

    One is of the corner that is furthest out; the other is of the next one, which belongs to the
    other rectangle or lies on the same face.
    """
    is_low = body[axis] < sum(WALLS) / 2
    side, inward = jnp.where(is_low, -1.0, 1.0), jnp.where(is_low, 1.0, -1.0)
    still = jnp.zeros_like(inward)
    # The way out, in the block's frame.
    out = body.to_block((side, still) if axis == 0 else (still, side))
    faces_x = jnp.abs(out[0]) > jnp.abs(out[1])
    outermost, next_on_face = [], []
    for (low_x, low_y), (high_x, high_y) in _ENDS:
        x, other_x = (jnp.where(out[0] > 0, *ends) for ends in ((high_x, low_x), (low_x, high_x)))
        y, other_y = (jnp.where(out[1] > 0, *ends) for ends in ((high_y, low_y), (low_y, high_y)))
        outermost.append((x, y))
        next_on_face.append(choose(faces_x, (x, other_y), (other_x, y)))

    def is_further(one: Pair, other: Pair) -> Array:
        return jax.lax.stop_gradient(_dot(out, one) >= _dot(out, other))

    is_bar = is_further(*outermost)
    first, other = choose(is_bar, *outermost), choose(is_bar, *outermost[::-1])
    following = choose(is_bar, *next_on_face)
    second = choose(is_further(following, other), following, other)
    wall = jnp.where(is_low, -WALLS[0], WALLS[1])
    contacts = []
    for corner in (first, second):
        depth = _dot(out, corner) + side * body[axis] - wall
        arm = body.to_room(corner)
        direction = (inward, still) if axis == 0 else (still, inward)
        lever = (-arm[1] if axis == 0 else arm[0]) * inward
        contacts.append(Contact(depth, direction, lever, still))
    return contacts


def _dot(one: Pair, other: Pair) -> Scalar:
    return one[0] * other[0] + one[1] * other[1]
