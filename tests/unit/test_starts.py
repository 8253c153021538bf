"""Mid-task starts, checked with Chipmunk itself."""

import numpy as np
import pytest

from nsf_pipeline.data.starts import sample_start
from nsf_pipeline.pusht import geometry
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE

COUNT = 600


@pytest.fixture(scope="module")
def starts():
    return np.stack([sample_start(np.random.default_rng(seed)) for seed in range(COUNT)])


def overlaps(state):
    """Overlap (px) of agent and block, agent and walls, block and walls, as Chipmunk finds it."""
    simulator = Simulator()
    simulator.enter(state)
    env = simulator._env
    for body in (env.agent, env.block):
        env.space.reindex_shapes_for_body(body)
    (circle,), block = env.agent.shapes, env.block.shapes
    walls = env.space.static_body.shapes

    def deepest(shapes, others):
        found = [info for shape in shapes for info in env.space.shape_query(shape)]
        points = [info.contact_point_set.points for info in found if info.shape in others]
        return max((abs(point.distance) for group in points for point in group), default=0.0)

    return deepest([circle], block), deepest([circle], walls), deepest(block, walls)


def distances(starts):
    """(n) px between the agent's rim and the block."""
    agents, blocks = starts[:, STATE.agent], starts[:, STATE.block]
    nearest = list(map(geometry.nearest_on_block, blocks, agents))
    return np.linalg.norm(agents - nearest, axis=1) - geometry.AGENT_RADIUS


def test_nothing_overlaps(starts):
    for state in starts:
        assert overlaps(state) == (0.0, 0.0, 0.0), state


def test_chipmunk_reports_an_overlap(starts):
    """So the test above can fail."""
    agent, block = starts[0, STATE.agent], starts[0, STATE.block]
    nearest = geometry.nearest_on_block(block, agent)
    inward = (nearest - agent) / np.linalg.norm(nearest - agent)
    rest = np.zeros(2)
    into = STATE.join(nearest - inward * (geometry.AGENT_RADIUS - 1.0), rest, block)
    assert overlaps(into)[0] == pytest.approx(1.0, abs=0.01)
    assert overlaps(STATE.join([20.0, 256.0], rest, [256.0, 256.0, 0.0]))[1] > 1
    assert overlaps(STATE.join([400.0, 256.0], rest, [62.0, 256.0, 0.0]))[2] > 1


def test_agents_are_beside_the_block_touch_it_and_keep_away(starts):
    gap = distances(starts)
    assert (gap > 0).all()
    touching = gap < 2e-6
    for share in (touching, ~touching & (gap <= 40.0), gap > 40.0):
        assert share.mean() > 0.15
    # An agent that touches the block pushes it at once.
    simulator = Simulator()
    for state in starts[touching][:20]:
        simulator.enter(state)
        centre = geometry.t_outline(state[STATE.block]).mean(axis=0)
        states = simulator.rollout(np.tile(centre, (2, 1)))
        assert (states[-1, STATE.block] != state[STATE.block]).any()


def test_agents_rest_and_move(starts):
    speed = np.linalg.norm(starts[:, STATE.velocity], axis=1)
    assert 0.2 < np.mean(speed == 0.0) < 0.4
    assert 100 < speed[speed > 0].mean() < 140


def test_blocks_are_anywhere_near_walls_and_in_the_goal(starts):
    corners = np.stack([geometry.t_outline(pose) for pose in starts[:, STATE.block]])
    low, high = geometry.WALLS
    to_wall = np.minimum(corners.min(axis=(1, 2)) - low, high - corners.max(axis=(1, 2)))
    assert (to_wall > 0).all()
    assert 0.25 < np.mean(to_wall < 20.0) < 0.65
    covered = geometry.coverage(starts[:, STATE.block])
    assert 5 <= np.sum(covered > 1 - 1e-6) <= 40
    assert np.mean((covered > 0.3) & (covered < 0.95)) > 0.08
    centres = corners.mean(axis=1)
    cells = {tuple(cell) for cell in (centres // 128).astype(int)}
    assert len(cells) == 16  # of four by four
    assert np.ptp(starts[:, STATE.angle]) > 6


def test_the_same_generator_gives_the_same_start():
    first, again = (sample_start(np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(first, again)
