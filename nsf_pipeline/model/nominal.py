"""Nominal motion: where agent and block go without noise, as far as a model may know it."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from nsf_pipeline.config import DMPConfig, ModelConfig
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.model.agent_motion import desired_path, end_of_at_least_a_step, nominal_path
from nsf_pipeline.model.agent_noise import effective_noise, position_spread
from nsf_pipeline.model.push import nominal_pushes
from nsf_pipeline.model.symmetry import Image
from nsf_pipeline.pusht.state import layout_of

PUSH_STEPS = 3
"""Steps of the nominal push from one point of the path to the next."""
PARTS = 3
"""Parts of the way at whose ends the pushed block is looked at."""
LEAST_WAY = 1e-3
"""px; an agent that moves less has no sides."""

Scalar = Float[Array, ""]
State = Float[Array, " dim"]
Condition = Float[Array, " condition"]


def knows_noise(config: ModelConfig) -> bool:
    """Whether a model knows the agent's noise in closed form: that takes its path and velocity."""
    has_velocity = layout_of(config.state_dim).velocity is not None
    has_path = config.physics != "none" and config.conditional and not config.autonomous
    return has_path and has_velocity


class NominalMotion(NamedTuple):
    """What happens without noise from s to t, or for one control step where that is longer.

    All but the displacements is seen in one of the room's images (`model.symmetry`); a model that
    is not conditional, or is given no physics, sees the room as it is.

    Attributes:
        displacements: (knots, dim) px, px/s, rad, rad/s; in the room, from the state at s, at
            evenly spaced times.
        side: -1 if the image is mirrored, else 1.
        agent: (2) px; where the agent is at s.
        velocity: (2) px/s; the agent's at s. None where the state does not hold it.
        block: (3) px, px, rad; where the block is at s.
        path: (points, 2) px; the agent's way, without its start.
        pushed: (PARTS, 3) px, px, rad; where the block is after each part of the way, the last of
            them at the end. None where the push is not known.
        depths: (points) px; the greatest overlap of agent and block on the way to each point of the
            path, negative where they do not touch. None where the push is not known.
        aside: (2, 3) px, px, rad; where the block is at the end if noise keeps the agent to the
            left or to the right of its path. None where the push is not known.
        block_velocity: (3) px/s, px/s, rad/s; the block's at s. None where the state does not hold
            it.
        pushed_velocity: (2, 3) px/s, px/s, rad/s; those that the push gives the block at s and at
            the end. None where one of both is not known.
    """

    displacements: Float[Array, "knots dim"]
    side: Scalar
    agent: Float[Array, "2"]
    velocity: Float[Array, "2"] | None
    block: Float[Array, "3"]
    path: Float[Array, "points 2"]
    pushed: Float[Array, "parts 3"] | None = None
    depths: Float[Array, " points"] | None = None
    aside: Float[Array, "sides 3"] | None = None
    block_velocity: Float[Array, "3"] | None = None
    pushed_velocity: Float[Array, "ends 3"] | None = None


def nominal_motion(
    state: State,
    t_init: Scalar,
    t_final: Scalar,
    condition: Condition,
    config: ModelConfig,
    dmp: DMPConfig,
) -> NominalMotion:
    """The nominal motion from a state.

    A model that is not conditional knows no policy: nothing moves. One that is autonomous knows the
    policy but not the time: it is told the whole desired path, and again nothing moves. With
    `physics` path the agent moves and the block does not; with none, nothing moves.

    Args:
        state: (dim) px, px/s, rad, rad/s, at t_init.
        t_init: s since the policy started.
        t_final: s since the policy started.
        condition: the packed DMP vector.
        config: what the model may know, and how many points of the path.
        dmp: what all policies share.
    """
    layout, points = layout_of(config.state_dim), config.path_points
    agent, block = state[layout.agent], state[layout.block]
    velocity = None if layout.velocity is None else state[layout.velocity]
    moving = None if layout.block_velocity is None else state[layout.block.stop :]
    knows_policy = config.physics != "none" and config.conditional
    image = Image.of(block, agent) if knows_policy else Image.same()
    seen = NominalMotion(
        displacements=jnp.zeros((2, config.state_dim)),
        side=image.side,
        agent=image.points(agent),
        velocity=None if velocity is None else image.vectors(velocity),
        block=image.poses(block),
        path=image.points(agent)[None],
        block_velocity=None if moving is None else image.motions(moving),
    )
    if not knows_policy:
        return seen
    if config.autonomous:
        duration = DMPParams.from_vector(condition).duration
        times = duration * jnp.arange(1, points + 1) / points
        return seen._replace(path=image.points(desired_path(condition, times, dmp)))
    step = (end_of_at_least_a_step(t_init, t_final) - t_init) / (PUSH_STEPS * points)
    times = t_init + step * jnp.arange(PUSH_STEPS * points + 1)
    # An agent whose velocity is not known is taken to be at rest.
    initial = jnp.zeros(2) if velocity is None else velocity
    knots, velocities = nominal_path(agent, initial, times, condition, dmp)
    fine = image.points(knots)
    seen = seen._replace(path=fine[PUSH_STEPS::PUSH_STEPS])
    if config.physics == "path":
        rest = jnp.zeros((len(knots), 3))
        return seen._replace(displacements=_displacements(state, knots, velocities, rest, rest))
    coarse, coarse_step = fine[::PUSH_STEPS], PUSH_STEPS * step
    off = _aside(coarse, coarse_step, condition)
    push, left, right = nominal_pushes(
        [(fine, step), (coarse + off, coarse_step), (coarse - off, coarse_step)],
        image.vectors(initial),
        seen.block,
    )
    poses, depths, pushed = push
    moved, speeds = image.motions_of_room(poses - seen.block), image.motions_of_room(pushed)
    return seen._replace(
        displacements=_displacements(state, knots, velocities, moved, speeds),
        pushed=poses[points * PUSH_STEPS // PARTS :: points * PUSH_STEPS // PARTS],
        depths=depths.reshape(points, PUSH_STEPS).max(axis=1),
        aside=jnp.stack([left.poses[-1], right.poses[-1]]),
        pushed_velocity=None if moving is None else pushed[jnp.array([0, -1])],
    )


def _displacements(
    state: State,
    agent: Float[Array, "knots 2"],
    velocity: Float[Array, "knots 2"],
    moved: Float[Array, "knots 3"],
    block_velocity: Float[Array, "knots 3"],
) -> Float[Array, "knots dim"]:
    """From a state to those after it; the block's velocity at its own time is the state's."""
    layout = layout_of(len(state))
    if layout.block_velocity is not None:
        block_velocity = block_velocity.at[0].set(state[layout.block.stop :])
    block = state[layout.block] + moved
    later = layout.join(agent, velocity, block, jnp, block_velocity=block_velocity)
    return later - state


def _aside(
    path: Float[Array, "knots 2"], step: Scalar, condition: Condition
) -> Float[Array, "knots 2"]:
    """How far noise may keep the agent to one side of its path, px.

    It is one standard deviation of its position's noise, at a right angle to its whole way: what
    that changes tells how much noise will matter, and where a push would slip off.
    """
    way = path[-1] - path[0]
    x, y = way / jnp.sqrt(jnp.maximum(jnp.sum(way**2), LEAST_WAY**2))
    noise = effective_noise(DMPParams.from_vector(condition).action_noise_std)
    return noise * position_spread(step * jnp.arange(len(path)))[:, None] * jnp.stack([-y, x])
