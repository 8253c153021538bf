"""Mirror images and quarter turns of the room, and how walls push the T out."""

import equinox as eqx
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
STATE_10 = layout_of(10)
IMAGES = [
    Image(jnp.float32(side), jnp.float32(k * np.pi / 2), *map(jnp.float32, turn))
    for side in (1.0, -1.0)
    for k, turn in enumerate(((1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)))
]


def random_state(random):
    """A block anywhere, at a velocity, and an agent beside it."""
    block = random.uniform(150.0, 350.0, 2)
    agent = block + random.uniform(-120.0, 120.0, 2)
    return STATE_10.join(
        agent,
        random.uniform(-80, 80, 2),
        np.array([*block, random.uniform(-4.0, 4.0)]),
        block_velocity=random.uniform(-1.0, 1.0, 3) * np.array([20.0, 20.0, 0.5]),
    )


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


def state_in(image, state, layout=STATE):
    """A state in an image of the room."""
    velocity, motion = layout.velocity, layout.block.stop
    return layout.join(
        image.points(state[layout.agent]),
        None if velocity is None else image.vectors(state[velocity]),
        image.poses(state[layout.block]),
        jnp,
        block_velocity=None if layout.block_velocity is None else image.motions(state[motion:]),
    )


def policy_in(image, policy):
    # The forcing scales with the way to the goal on each axis, so a mirror leaves the weights.
    weights = policy.weights if image.sin == 0.0 else policy.weights[::-1]
    start, goal = image.points(policy.start), image.points(policy.goal)
    return policy._replace(start=start, goal=goal, weights=weights).as_vector(jnp)


def random_model(state_dim):
    """A model whose networks all have a say; the last layers of a new one are zero."""
    normaliser = Normaliser(((0.0, 0.0), (512.0, 512.0)), (2.0,) * state_dim)
    config = ModelConfig(state_dim=state_dim, path_points=6)
    model = build_model(config, DMP, normaliser, key=jax.random.key(0))
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    leaves, tree = jax.tree.flatten(arrays)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    shaken = [
        leaf + 0.05 * jax.random.normal(key, leaf.shape)
        for leaf, key in zip(leaves, keys, strict=True)
    ]
    return eqx.combine(jax.tree.unflatten(tree, shaken), rest)


@pytest.mark.parametrize("state_dim", [7, 5, 10])
def test_a_law_has_the_symmetries_of_the_room(state_dim):
    layout, model = layout_of(state_dim), random_model(state_dim)
    columns = np.array([STATE_10.names.index(name) for name in layout.names])
    times = jnp.float32(0.2), jnp.float32(0.9)

    @jax.jit
    def drawn(state, condition):
        end = model.transition(state, *times, condition).sample(jax.random.key(2))
        return end, bridge(state, end, condition).sample(jax.random.key(3))

    @jax.jit
    def densities(state, end, between, condition):
        law = model.transition(state, *times, condition)
        return law.log_prob(end), bridge(state, end, condition).log_prob(between)

    def bridge(state, end, condition):
        return model.bridge(state, end, times[0], jnp.float32(0.5), times[1], condition)

    random = np.random.default_rng(0)
    for _ in range(12):
        whole = random_state(random)
        state = jnp.array(whole[columns], jnp.float32)
        policy = random_policy(random, whole)
        given = policy_in(IMAGES[0], policy)
        draws = drawn(state, given)
        known = densities(state, *draws, given)
        for image in IMAGES[1:]:
            seen = [state_in(image, each, layout) for each in (state, *draws)]
            given = policy_in(image, policy)
            assert np.allclose(densities(*seen, given), known, rtol=1e-3, atol=0.02)
            for own, draw in zip(drawn(seen[0], given), seen[1:], strict=True):
                assert np.allclose(own, draw, rtol=1e-4, atol=0.02)
        other = densities(state, draws[0].at[0].add(10.0), draws[1], policy_in(IMAGES[0], policy))
        assert abs(other[0] - known[0]) > 0.1


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
    """(direction, depth, lever) of all contacts of the T with a wall, by Chipmunk."""
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
        normal = np.array(touching.normal)
        for point in touching.points:
            arm = np.array(point.point_b) - pose[:2]
            lever = arm[0] * normal[1] - arm[1] * normal[0]
            found.append((normal, -point.distance, lever))
    return found


def pushed_out(poses):
    """Two contacts with a wall of each axis, for each pose (n, 3); and those that Chipmunk finds.

    Yields:
        the pose's row, the axis, the contacts as (direction, depth, lever), Chipmunk's.
    """
    bodies = Body(*map(jnp.float32, (*poses.T, np.cos(poses[:, 2]), np.sin(poses[:, 2]))))
    low, high = WALLS[0] - WALL_RADIUS, WALLS[1] + WALL_RADIUS
    contacts = [
        (np.stack(each.direction, -1), np.array(each.depth), np.array(each.lever))
        for each in jax.jit(jax.vmap(with_walls))(bodies)
    ]
    for row, pose in enumerate(poses):
        for axis in (0, 1):
            at = low if pose[axis] < MIDDLE else high
            wall = [(at, end) if axis == 0 else (end, at) for end in (low, high)]
            pair = [tuple(part[row] for part in each) for each in contacts[2 * axis :][:2]]
            yield row, axis, pair, chipmunks(pose, wall)


def is_among(own, known):
    direction, depth, arm = own
    return any(
        np.allclose(direction, one, atol=1e-3)
        and abs(depth - two) < 0.01
        and abs(arm - three) < 0.5
        for one, two, three in known
    )


def test_walls_push_the_t_out_as_chipmunk_does():
    """Also where it has been pressed through a wall, or into a corner of the room."""
    random, count = np.random.default_rng(3), 3000
    poses = np.concatenate(
        [random.uniform(-15.0, 60.0, (count, 2)), random.uniform(-np.pi, np.pi, (count, 1))], axis=1
    )
    poses[: count // 2, 0] = random.uniform(60.0, 450.0, count // 2)
    poses[::2, :2] = sum(WALLS) - poses[::2, :2]
    inward, through, past_end, unlike = 0, 0, 0, 0
    for row, axis, (deepest, _), known in pushed_out(poses):
        direction, depth, _ = deepest
        if depth < 0.5:
            continue
        if not is_among(deepest, known):
            unlike += 1
            continue
        along = direction[axis] * (1.0 if poses[row, axis] < MIDDLE else -1.0)
        inward, through = inward + (along > 0.999), through + (along < -0.999)
        past_end += abs(along) < 0.999
    assert min(inward, through, past_end) > 30
    assert unlike < 10  # near the round end of a wall


@pytest.mark.parametrize("off", [0.0, 1e-8, 1e-6, 1e-3, None])
def test_both_contacts_with_a_wall_are_those_of_chipmunk(off):
    """A side of the T lies along the wall, but for a small angle; or at any angle."""
    random, poses = np.random.default_rng(4), []
    corners = np.array(
        [
            (x, y)
            for low_x, low_y, high_x, high_y in T_RECTANGLES - np.tile(T_CENTRE, 2)
            for x in (low_x, high_x)
            for y in (low_y, high_y)
        ]
    )
    for _ in range(300):
        angle = np.float32(random.integers(-4, 5) * np.pi / 2 + random.uniform(-1, 1) * (off or 0))
        if off is None:
            angle = np.float32(random.uniform(-np.pi, np.pi))
        x = corners @ np.array([np.cos(angle), -np.sin(angle)])
        depth = random.uniform(0.05, 3.0)
        poses.append((WALLS[0] - x.min() - depth, random.uniform(150.0, 350.0), angle))
    firsts: list[bool] = []
    seconds: list[bool] = []
    for _, axis, pair, known in pushed_out(np.array(poses, np.float32).astype(float)):
        if axis == 0:
            for contact, seen in zip(pair, (firsts, seconds), strict=True):
                if contact[1] > 0.02:
                    seen.append(is_among(contact, known))
    assert len(firsts) > 250
    assert np.mean(firsts) > 0.99
    assert len(seconds) > (250 if off is not None else 10)
    assert np.mean(seconds) > 0.99
