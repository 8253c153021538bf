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

from nsf_pipeline.model.contact import Pose, Scalar
from nsf_pipeline.model.push_contacts import (
    MASS_X,
    MASS_Y,
    Body,
    Contact,
    dot,
    with_agent,
    with_walls,
)
from nsf_pipeline.pusht.geometry import OVERLAP_DECAY, T_INERTIA

OVERLAP_ALLOWED = 0.1
"""px; overlap that Chipmunk does not recover: its default collision slop."""
SWEEPS = 2
"""How many times the contacts of one step are solved, one after the other."""
CONTACTS = 6
"""At most: the agent with both rectangles, and two points with a wall of each axis."""


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
    offset_x, offset_y = frame.to_room((MASS_X, MASS_Y))
    start = frame._replace(x=frame.x + offset_x, y=frame.y + offset_y)
    at_rest = Moving(start, (jnp.zeros_like(start.x),) * 3, (jnp.zeros_like(start.x),) * CONTACTS)

    def advance(moving: Moving, now: tuple[Any, ...]) -> tuple[Moving, tuple[Any, ...]]:
        is_first, step, recovered, position, agent_velocity = now
        moving = jax.tree.map(partial(jnp.where, is_first), at_rest, moving)
        body = _moved(moving, step)
        agent = with_agent(body, position, agent_velocity)
        contacts = [*agent, *with_walls(body)]
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
    offset_x, offset_y = bodies.to_room((MASS_X, MASS_Y))
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
        along = dot(contacts[one].direction, contacts[other].direction)
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
