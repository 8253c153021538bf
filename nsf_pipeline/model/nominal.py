"""Nominal motion: where agent and block go without noise, as far as a model may know it."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from nsf_pipeline.config import DMPConfig, ModelConfig
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.model.agent_motion import desired_path, end_of_at_least_a_step, nominal_path
from nsf_pipeline.model.contact import nominal_push
from nsf_pipeline.pusht.state import layout_of

PUSH_STEPS = 4
"""Steps of the nominal push from one point of the path to the next."""

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

    Attributes:
        agent: (2) px; where the agent is at s.
        velocity: (2) px/s; the agent's at s. None where the state does not hold it.
        block: (3) px, px, rad; where the block is at s.
        displacements: (knots, dim) px, px/s, rad; from the state at s, at evenly spaced times.
        path: (points, 2) px; the agent's way, without its start.
        end: (3) px, px, rad; where the block is at the end. None where the push is not known.
        depths: (points) px; how deep the agent pushes into the block on the way to each point of
            the path, negative where they do not touch. None where the push is not known.
    """

    agent: Float[Array, "2"]
    velocity: Float[Array, "2"] | None
    block: Float[Array, "3"]
    displacements: Float[Array, "knots dim"]
    path: Float[Array, "points 2"]
    end: Float[Array, "3"] | None = None
    depths: Float[Array, " points"] | None = None


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
        state: (dim) px, px/s, rad, at t_init.
        t_init: s since the policy started.
        t_final: s since the policy started.
        condition: the packed DMP vector.
        config: what the model may know, and how many points of the path.
        dmp: what all policies share.
    """
    layout, points = layout_of(config.state_dim), config.path_points
    agent, block = state[layout.agent], state[layout.block]
    velocity = None if layout.velocity is None else state[layout.velocity]
    still = jnp.zeros((2, config.state_dim))
    if config.physics == "none" or not config.conditional:
        return NominalMotion(agent, velocity, block, still, agent[None])
    if config.autonomous:
        duration = DMPParams.from_vector(condition).duration
        times = duration * jnp.arange(1, points + 1) / points
        path = desired_path(condition, times, dmp)
        return NominalMotion(agent, velocity, block, still, path)
    step = (end_of_at_least_a_step(t_init, t_final) - t_init) / (PUSH_STEPS * points)
    times = t_init + step * jnp.arange(PUSH_STEPS * points + 1)
    # An agent whose velocity is not known is taken to be at rest.
    initial = jnp.zeros(2) if velocity is None else velocity
    knots, velocities = nominal_path(agent, initial, times, condition, dmp)
    path = knots[PUSH_STEPS::PUSH_STEPS]
    if config.physics == "path":
        poses = jnp.broadcast_to(block, (len(knots), 3))
        moved = layout.join(knots, velocities, poses, jnp) - state
        return NominalMotion(agent, velocity, block, moved, path)
    poses, depths = nominal_push(knots, initial, block, step)
    return NominalMotion(
        agent,
        velocity,
        block,
        displacements=layout.join(knots, velocities, poses, jnp) - state,
        path=path,
        end=poses[-1],
        depths=depths.reshape(points, PUSH_STEPS).max(axis=1),
    )
