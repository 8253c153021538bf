"""Mirror images and quarter turns of the room, and how walls push the T out."""

import jax
import jax.numpy as jnp
import numpy as np
import pymunk
import pytest

from nsf_pipeline.config import DMPConfig, ModelConfig
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.model import Normaliser, build_model
from nsf_pipeline.model.push_contacts import WALL_RADIUS, Body, with_walls
from nsf_pipeline.model.symmetry import MIDDLE, Image, changed_by_mirror
from nsf_pipeline.pusht.geometry import T_CENTRE, T_RECTANGLES, WALLS
from nsf_pipeline.pusht.state import STATE, layout_of

DMP = DMPConfig()
IMAGES = [
    Image(jnp.float32(side), jnp.float32(k * np.pi / 2), *map(jnp.float32, turn))
    for side in (1.0, -1.0)
    for k, turn in enumerate(((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)))
]


def random_state(random):
    """A block anywhere, and an agent beside it."""
    block = random.uniform(150.0, 350.0, 2)
    agent = block + random.uniform(-120.0, 120.0, 2)
    return np.array([*agent, *random.uniform(-80, 80, 2), *block, random.uniform(-4.0, 4.0)])


def random_policy(random, state):
    return DMPParams(
        start=jnp.array(state[:2], jnp.float32),
        goal=jnp.array(state[:2] + random.uniform(-60.0, 60.0, 2), jnp.float32),
        weights=jnp.array(random.uniform(-1.0, 1.0, (2, DMP.n_basis)), jnp.float32),
        duration=jnp.float32(1.5),
        stiffness=jnp.float32(50.0),
        damping=jnp.float32(2 * 50.0**0.5),
        action_noise_std=jnp.float32(6.0),
    )


def state_in(image, state):
    """A state (7,) in an image of the room."""
    agent, velocity, block = state[STATE.agent], state[STATE.velocity], state[STATE.block]
    return STATE.join(image.points(agent), image.vectors(velocity), image.poses(block), jnp)


def policy_in(image, policy):
    # The forcing scales with the way to the goal on each axis, so a mirror leaves the weights.
    weights = policy.weights if image.sin == 0.0 else policy.weights[::-1]
    start, goal = image.points(policy.start), image.points(policy.goal)
    return policy._replace(start=start, goal=goal, weights=weights).as_vector(jnp)


@pytest.mark.parametrize("state_dim", [7, 5])
def test_a_law_has_the_symmetries_of_the_room(state_dim):
    layout = layout_of(state_dim)
    normaliser = Normaliser(((0.0, 0.0), (512.0, 512.0)), (2.0,) * state_dim)
    model = build_model(
        ModelConfig(state_dim=state_dim, path_points=6), DMP, normaliser, key=jax.random.key(0)
    ).transition
    columns = np.array([STATE.names.index(name) for name in layout.names])

    @jax.jit
    def law(state, end, condition):
        found = model(state[columns], jnp.float32(0.2), jnp.float32(0.9), condition)
        return found.log_prob(end[columns])

    random = np.random.default_rng(0)
    unlike = []
    for _ in range(12):
        state = jnp.array(random_state(random), jnp.float32)
        policy = random_policy(random, state)
        end = state + jnp.array(random.normal(0.0, 5.0, 7), jnp.float32)
        seen = [
            float(law(state_in(image, state), state_in(image, end), policy_in(image, policy)))
            for image in IMAGES
        ]
        assert seen == pytest.approx([seen[0]] * 8, rel=1e-3, abs=0.02)
        other = end.at[0].add(10.0)
        unlike.append(abs(float(law(state, other, policy_in(IMAGES[0], policy))) - seen[0]))
    assert min(unlike) > 0.1


def test_motions_come_back_from_an_image():
    motions = jnp.array(np.random.default_rng(1).normal(0.0, 10.0, (5, 3)), jnp.float32)
    for image in IMAGES:
        assert np.array_equal(image.motions_of_room(image.motions(motions)), motions)
        assert not np.any(image.motions(jnp.zeros(3)))


def test_networks_see_one_of_eight_images():
    random = np.random.default_rng(2)
    for _ in range(20):
        state = jnp.array(random_state(random), jnp.float32)
        seen = []
        for image in IMAGES:
            given = state_in(image, state)
            own = Image.of(given[STATE.block], given[STATE.agent])
            seen.append([*own.points(given[STATE.agent]), *own.points(given[STATE.block_position])])
        assert np.allclose(seen, seen[0], atol=1e-3)


@pytest.mark.parametrize("dim", [5, 7, 10])
def test_a_mirror_changes_x_and_what_turns(dim):
    layout = layout_of(dim)
    changed = {
        name for name, is_so in zip(layout.names, changed_by_mirror(layout), strict=True) if is_so
    }
    assert changed == {
        name for name in layout.names if name.endswith("_x") or "angle" in name or "angular" in name
    }


def chipmunks(pose, wall):
    """(direction, greatest depth) of each rectangle of the T with a wall, by Chipmunk."""
    body = pymunk.Body(1.0, 1.0)
    body.angle, body.position = float(pose[2]), tuple(map(float, pose[:2]))
    start, end = wall
    static = pymunk.Body(body_type=pymunk.Body.STATIC)
    segment = pymunk.Segment(static, start, end, WALL_RADIUS)
    found = []
    for low_x, low_y, high_x, high_y in T_RECTANGLES - np.tile(T_CENTRE, 2):
        corners = [(low_x, low_y), (high_x, low_y), (high_x, high_y), (low_x, high_y)]
        shape = pymunk.Poly(body, corners)
        for each in (segment, shape):  # brings it to where its body is
            each.cache_bb()
        touching = segment.shapes_collide(shape)
        depths = [-point.distance for point in touching.points]
        found.append((tuple(touching.normal), max(depths)) if depths else None)
    return found


def test_walls_push_the_t_out_as_chipmunk_does():
    """Also where it has been pressed through a wall, or into a corner of the room."""
    random, count = np.random.default_rng(3), 3000
    poses = np.concatenate(
        [random.uniform(-15.0, 60.0, (count, 2)), random.uniform(-np.pi, np.pi, (count, 1))], axis=1
    )
    poses[: count // 2, 0] = random.uniform(60.0, 450.0, count // 2)
    poses[::2, :2] = sum(WALLS) - poses[::2, :2]
    bodies = Body(*map(jnp.float32, (*poses.T, np.cos(poses[:, 2]), np.sin(poses[:, 2]))))
    low, high = WALLS[0] - WALL_RADIUS, WALLS[1] + WALL_RADIUS
    inward, through, past_end, unlike = 0, 0, 0, 0
    contacts = jax.jit(jax.vmap(with_walls))(bodies)
    for axis, deepest in enumerate(contacts[::2]):
        for row in np.flatnonzero(deepest.depth > 0.5):
            is_low = poses[row, axis] < MIDDLE
            at = low if is_low else high
            wall = [(at, end) if axis == 0 else (end, at) for end in (low, high)]
            own = np.array([float(part[row]) for part in deepest.direction])
            known = [each for each in chipmunks(poses[row], wall) if each]
            if not any(
                np.allclose(own, normal, atol=1e-3) and abs(depth - deepest.depth[row]) < 0.01
                for normal, depth in known
            ):
                unlike += 1
                continue
            along = own[axis] * (1.0 if is_low else -1.0)
            inward, through = inward + (along > 0.999), through + (along < -0.999)
            past_end += abs(along) < 0.999
    assert min(inward, through, past_end) > 30
    assert unlike < 10  # near the round end of a wall
