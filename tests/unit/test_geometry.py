"""Coverage against shapely and against gym-pusht itself."""

import numpy as np
import pymunk
import pytest
import shapely
from gym_pusht.envs import PushTEnv
from hypothesis import example, given
from hypothesis import strategies as st

from nsf_pipeline.pusht import geometry
from nsf_pipeline.pusht.compat import ensure_add_collision_handler

GOAL = tuple(geometry.GOAL_POSE)


def t_shape(pose):
    """The T as one shapely polygon, built without the code under test."""
    t = shapely.union_all([shapely.box(*rectangle) for rectangle in geometry.T_RECTANGLES])
    t = shapely.affinity.rotate(t, pose[2], origin=(0, 0), use_radians=True)
    return shapely.affinity.translate(t, pose[0], pose[1])


def shapely_coverage(pose):
    goal = t_shape(geometry.GOAL_POSE)
    return goal.intersection(t_shape(pose)).area / goal.area


@pytest.fixture(scope="module")
def env():
    ensure_add_collision_handler()
    env = PushTEnv(obs_type="state")
    env.reset(seed=0)
    return env


anywhere = st.tuples(st.floats(0, 512), st.floats(0, 512), st.floats(-20, 20))
near_goal = st.tuples(st.floats(-20, 20), st.floats(-20, 20), st.floats(-0.3, 0.3)).map(
    lambda shift: tuple(np.add(GOAL, shift))
)
barely_off = st.tuples(*[st.floats(-1e-9, 1e-9)] * 3).map(lambda shift: tuple(np.add(GOAL, shift)))
quarter_turns = st.tuples(st.integers(-150, 150), st.integers(-150, 150), st.integers(-4, 4)).map(
    lambda n: (256 + n[0] / np.sqrt(2), 256 + n[1] / np.sqrt(2), np.pi / 4 + n[2] * np.pi / 2)
)


@given(st.one_of(anywhere, near_goal, barely_off, quarter_turns))
@example(GOAL)
@example((GOAL[0], GOAL[1], GOAL[2] + 2 * np.pi))
def test_coverage_agrees_with_shapely(pose):
    assert abs(geometry.coverage(np.array(pose)) - shapely_coverage(pose)) < 1e-12


@given(st.one_of(anywhere, near_goal))
def test_coverage_agrees_with_the_environment(env, pose):
    env.block.angle = pose[2]
    env.block.position = pose[:2]
    found = (*env.block.position, env.block.angle)
    assert abs(geometry.coverage(np.array(found)) - env._get_coverage()) < 1e-9


def test_t_agrees_with_the_environment(env):
    for shape, (x_min, y_min, x_max, y_max) in zip(
        env._block_shapes, geometry.T_RECTANGLES, strict=True
    ):
        assert isinstance(shape, pymunk.Poly)
        assert sorted(map(tuple, shape.get_vertices())) == sorted(
            [(x_min, y_min), (x_min, y_max), (x_max, y_min), (x_max, y_max)]
        )
    np.testing.assert_array_equal(env.goal_pose, geometry.GOAL_POSE)
    assert env.success_threshold == geometry.SUCCESS_THRESHOLD
    (agent_shape,) = env.agent.shapes
    assert agent_shape.radius == geometry.AGENT_RADIUS
    np.testing.assert_allclose(tuple(env.block.center_of_gravity), geometry.T_CENTRE)
    assert env.block.moment / env.block.mass == pytest.approx(geometry.T_INERTIA)


def test_the_space_agrees_with_the_environment(env):
    space = env.action_space
    assert {*space.low.tolist(), *space.high.tolist()} == {*geometry.WORKSPACE}
    walls = [shape for shape in env.space.shapes if isinstance(shape, pymunk.Segment)]
    edges = {
        end + inwards * wall.radius
        for wall in walls
        for end, inwards in zip(sorted({*wall.a, *wall.b}), (1, -1), strict=True)
    }
    assert edges == {*geometry.WALLS}
    assert env.space.collision_bias == pytest.approx(geometry.OVERLAP_DECAY, rel=1e-3)


def test_batch_gives_what_single_poses_give():
    rng = np.random.default_rng(0)
    poses = rng.normal(GOAL, (80, 80, 3), (3, 2000, 3))
    poses[:, 500:1500] = np.repeat(poses[:, 500:600], 10, axis=1)  # resting blocks
    batch = geometry.coverage(poses)
    assert batch.shape == (3, 2000)
    assert batch.dtype == np.float64
    for index in rng.integers((3, 2000), size=(300, 2)):
        single = geometry.coverage(poses[tuple(index)])
        assert single.shape == ()
        assert single == batch[tuple(index)]


def test_coverage_of_no_pose():
    assert geometry.coverage(np.empty((0, 3))).shape == (0,)


def test_coverage_is_zero_far_from_the_goal_and_one_on_it():
    far = (GOAL[0] + 300, GOAL[1], GOAL[2])
    none, everything = geometry.coverage(np.array([far, GOAL]))
    assert none == 0.0
    assert everything == pytest.approx(1.0, abs=1e-14)


def test_reward():
    np.testing.assert_array_equal(geometry.reward([0.0, 0.475, 0.95, 1.0]), [0.0, 0.5, 1.0, 1.0])
    assert geometry.reward(np.float64(0.19)).shape == ()


def test_the_nearest_point_of_the_block_agrees_with_shapely():
    rng = np.random.default_rng(3)
    for _ in range(300):
        pose = np.array([*rng.uniform(0, 512, 2), rng.normal(0, 5)])
        point = rng.uniform(-50, 562, 2)
        shape = shapely.Polygon(geometry.t_outline(pose))
        nearest = geometry.nearest_on_block(pose, point)
        distance = shape.distance(shapely.Point(point))
        assert np.linalg.norm(point - nearest) == pytest.approx(distance, abs=1e-9)
        assert shape.distance(shapely.Point(nearest)) < 1e-9
