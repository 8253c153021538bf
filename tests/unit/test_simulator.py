"""The simulator against gym-pusht itself, to the last bit."""

import os
import subprocess
import sys

import gymnasium
import numpy as np
import pymunk
import pytest
from gym_pusht.envs import PushTEnv

from nsf_pipeline.pusht import compat, geometry, simulator
from nsf_pipeline.pusht.environment import CONTROL, Control
from nsf_pipeline.pusht.simulator import Simulator, observations
from nsf_pipeline.pusht.state import STATE, STATE_WITH_BLOCK_VELOCITY
from nsf_pipeline.timing import CONTROL_DT

STEPS = 25
GOAL = geometry.GOAL_POSE


@pytest.fixture(scope="module")
def sim():
    return Simulator()


@pytest.fixture(scope="module")
def gym_env():
    """What `gymnasium.make` gives, without its checker (which warns about far targets)."""
    compat.ensure_add_collision_handler()
    return gymnasium.make("gym_pusht/PushT-v0", obs_type="state", disable_env_checker=True)


@pytest.fixture(params=["native", "public"])
def path(request, monkeypatch):
    """Both ways to drive Chipmunk."""
    if request.param == "public":
        monkeypatch.setattr(simulator, "_chipmunk", None)
    else:
        assert simulator._chipmunk is not None
    return request.param


def push(rng, state, steps=STEPS):
    """Targets from the agent to the block, on to anywhere (walls and beyond), with noise."""
    onward = rng.uniform(-40, 552, 2)
    agent, block = state[STATE.agent], state[STATE.block_position]
    first = np.linspace(agent, block, steps // 2)
    then = np.linspace(block, onward, steps - steps // 2)
    return np.concatenate([first, then]) + rng.normal(0, 8, (steps, 2))


def mid_task(rng):
    """A state in mid-task: block anywhere, turned many times, agent moving, even overlapping."""
    agent, velocity = rng.uniform(30, 480, 2), rng.normal(0, 150, 2)
    return STATE.join(agent, velocity, [*rng.uniform(60, 450, 2), rng.normal(0, 9)])


def near_success(rng):
    """A block a little off the goal, and targets that push it in; its coverage passes 0.95."""
    direction = rng.normal(0, 1, 2)
    direction /= np.linalg.norm(direction)
    block = GOAL[:2] - rng.uniform(3, 6) * direction
    centre = block + np.array([-45.0, 45.0]) / np.sqrt(2)
    agent = centre - 110 * direction
    pose = [*block, GOAL[2] + 2 * np.pi * rng.integers(-2, 3)]
    state = STATE.join(agent, np.zeros(2), pose)
    return state, np.linspace(agent, centre, STEPS) + rng.normal(0, 3, (STEPS, 2))


def put(env, state):
    """Enter a state in the reference environment by hand, in a new space."""
    env.reset(seed=0)
    bare = env.unwrapped
    bare._setup()
    bare.agent.position = tuple(state[STATE.agent])
    bare.agent.velocity = tuple(state[STATE.velocity])
    bare.block.angle = state[STATE.angle]
    bare.block.position = tuple(state[STATE.block_position])


def assert_same_as_env(states, env, actions):
    """Step the environment through the actions and compare all that it reports."""
    share = geometry.coverage(states[1:, STATE.block])
    reward = geometry.reward(share)
    seen = observations(states)
    for t, action in enumerate(actions):
        observation, env_reward, terminated, _, info = env.step(action)
        np.testing.assert_array_equal(seen[t + 1], observation.astype(np.float32))
        np.testing.assert_array_equal(states[t + 1, STATE.velocity], info["vel_agent"])
        np.testing.assert_array_equal(states[t + 1, STATE.block], info["block_pose"])
        assert abs(share[t] - info["coverage"]) < 1e-9
        assert abs(reward[t] - env_reward) < 1e-9
        assert (share[t] > geometry.SUCCESS_THRESHOLD) == terminated
    return share


@pytest.mark.parametrize("batch", range(4))
def test_resets_and_pushes_agree_with_the_environment(sim, gym_env, batch):
    moved = walls = 0
    for seed in range(50 * batch, 50 * (batch + 1)):
        rng = np.random.default_rng(seed)
        state = sim.reset(seed)
        observation, info = gym_env.reset(seed=seed)
        np.testing.assert_array_equal(observations(state), observation.astype(np.float32))
        np.testing.assert_array_equal(state[STATE.block], info["block_pose"])
        actions = push(rng, state)
        states = sim.rollout(actions)
        np.testing.assert_array_equal(states[0], state)
        np.testing.assert_array_equal(states[-1], sim.state())
        assert_same_as_env(states, gym_env, actions)
        moved += (states[0, STATE.block] != states[-1, STATE.block]).any()
        walls += (np.abs(states[:, STATE.block_position] - 256) > 200).any()
    assert moved > 40
    assert walls >= 3


def test_entered_states_agree_with_the_environment(sim, gym_env):
    for seed in range(100):
        rng = np.random.default_rng(seed)
        state = mid_task(rng)
        actions = push(rng, state)
        sim.enter(state)
        put(gym_env, state)
        assert_same_as_env(sim.rollout(actions), gym_env, actions)


def test_success_comes_at_the_same_step_as_in_the_environment(sim, gym_env):
    successes = 0
    for seed in range(60):
        state, actions = near_success(np.random.default_rng(seed))
        sim.enter(state)
        put(gym_env, state)
        share = assert_same_as_env(sim.rollout(actions), gym_env, actions)
        start = geometry.coverage(state[STATE.block])
        successes += bool(start < geometry.SUCCESS_THRESHOLD < share.max())
    assert successes >= 15


def test_the_control_agrees_with_the_environment(gym_env):
    bare = gym_env.unwrapped
    assert Control.of(bare) == CONTROL
    assert (bare.k_p, bare.k_v, bare.dt) == CONTROL[:3]
    assert 1 / bare.control_hz == CONTROL_DT == pytest.approx(CONTROL.substeps * CONTROL.substep)


def test_float32_actions_agree_with_the_environment(sim, gym_env):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        actions = push(rng, sim.reset(seed)).astype(np.float32)
        gym_env.reset(seed=seed)
        assert_same_as_env(sim.rollout(actions), gym_env, actions)


def test_steps_make_a_rollout(path):
    sim, rng = Simulator(), np.random.default_rng(0)
    state = sim.reset(3)
    actions = push(rng, state)
    states = [state]
    for action in actions:
        sim.step(action)
        states.append(sim.state())
    sim.reset(3)
    np.testing.assert_array_equal(sim.rollout(actions), states)


def test_both_paths_give_the_same_bits(monkeypatch):
    tasks = [
        (state := mid_task(rng), rng.normal(0, 50, 3), push(rng, state))
        for rng in map(np.random.default_rng, range(40))
    ]

    def run():
        sim = Simulator()
        for state, block_velocity, actions in tasks:
            sim.enter(np.append(state, block_velocity))
            yield sim.rollout(actions, STATE_WITH_BLOCK_VELOCITY)

    native = list(run())
    monkeypatch.setattr(simulator, "_chipmunk", None)
    np.testing.assert_array_equal(native, list(run()))


@pytest.mark.parametrize("batch", range(2))
def test_a_space_used_before_leaves_no_trace(sim, batch):
    """Compared with a new space for each trajectory, through contacts of every kind."""
    for seed in range(150 * batch, 150 * (batch + 1)):
        rng = np.random.default_rng(seed)
        own = Simulator()
        if seed % 3 == 0:
            state, actions = near_success(rng)
        else:
            actions = push(rng, state := mid_task(rng))
        if seed % 3 == 1:
            state = sim.reset(seed)
            own._env._restart = None
            np.testing.assert_array_equal(own.reset(seed), state)
        else:
            sim.enter(state)
            own._env._restart = None
            own.enter(state)
        np.testing.assert_array_equal(sim.rollout(actions), own.rollout(actions))


ALONE = """
import sys
sys.path.insert(0, {tests!r})
import test_simulator
print(test_simulator.pinned(test_simulator.Simulator()))
"""


def pinned(sim):
    """Bits of a few trajectories with many contacts, after reset and from entered states."""
    bits = b""
    for seed in range(5):
        rng = np.random.default_rng(seed)
        bits += sim.rollout(push(rng, sim.reset(seed), 40)).tobytes()
        state = mid_task(rng)
        sim.enter(state)
        bits += sim.rollout(push(rng, state, 40)).tobytes()
    return bits.hex()


def test_trajectories_do_not_depend_on_what_ran_before():
    reused = Simulator()
    fresh = pinned(reused)
    for seed in range(500):
        reused.rollout(push(np.random.default_rng(seed), reused.reset(seed), 5))
    assert pinned(reused) == fresh
    assert pinned(Simulator()) == fresh
    script = ALONE.format(tests=str(__file__).rsplit("/", 1)[0])
    alone = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert alone.stdout.strip() == fresh


def test_reported_states_are_entered_bit_for_bit(sim):
    for seed in range(30):
        actions = push(np.random.default_rng(seed), sim.reset(seed))
        for state in sim.rollout(actions, STATE_WITH_BLOCK_VELOCITY):
            sim.enter(state)
            np.testing.assert_array_equal(sim.state(STATE_WITH_BLOCK_VELOCITY), state)
            sim.enter(state[:7])
            np.testing.assert_array_equal(
                sim.state(STATE_WITH_BLOCK_VELOCITY), [*state[:7], 0, 0, 0]
            )


def test_made_up_states_are_entered_to_rounding(sim):
    for seed in range(300):
        state = mid_task(np.random.default_rng(seed))
        sim.enter(state)
        entered = sim.state()
        for exact in (STATE.agent, STATE.velocity, STATE.block_angle):
            np.testing.assert_array_equal(entered[exact], state[exact])
        np.testing.assert_allclose(entered, state, rtol=0, atol=6e-14)
        sim.enter(entered)
        np.testing.assert_array_equal(sim.state(), entered)


def test_the_blocks_velocity_is_the_environments(gym_env, path):
    sim = Simulator()
    for seed in range(10):
        rng = np.random.default_rng(seed)
        actions = push(rng, sim.reset(seed))
        gym_env.reset(seed=seed)
        block = gym_env.unwrapped.block
        found = sim.rollout(actions, STATE_WITH_BLOCK_VELOCITY)[:, 7:]
        sim.reset(seed)
        np.testing.assert_array_equal(sim.state(STATE_WITH_BLOCK_VELOCITY)[7:], found[0])
        for action, velocity in zip(actions, found[1:], strict=True):
            gym_env.step(action)
            np.testing.assert_array_equal(velocity, [*block.velocity, block.angular_velocity])
    assert found.any()


def test_a_block_entered_with_a_velocity_moves_for_one_more_substep(sim):
    """Its position is the body's origin, which turns about the centre of mass."""
    state = STATE.join([50.0, 50.0], np.zeros(2), [300.0, 300.0, 0.3])
    sim.enter(np.append(state, [20.0, -30.0, 0.0]))
    states = sim.rollout(np.full((2, 2), 50.0), STATE_WITH_BLOCK_VELOCITY)
    np.testing.assert_allclose(states[1, STATE.block], [300.2, 299.7, 0.3], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(states[1, STATE.block], states[2, STATE.block])
    np.testing.assert_array_equal(states[1:, 7:], 0.0)
    sim.enter(np.append(state, [0.0, 0.0, 2.0]))
    turned = sim.rollout(np.full((1, 2), 50.0))[1, STATE.block]
    assert turned[2] == pytest.approx(0.32)
    assert 0.1 < np.linalg.norm(turned[:2] - 300.0) < 1.0


def test_reentering_and_replaying_reproduces_the_rest(sim):
    """Exact unless in contact: the numbers leave out the contact cache, seven the velocity too."""
    errors = []
    touched = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        actions = push(rng, sim.reset(seed), 40)
        sim.reset(seed)
        states = sim.rollout(actions, STATE_WITH_BLOCK_VELOCITY)
        moves = (np.diff(states[:, STATE.block], axis=0) != 0).any(axis=1)
        for t in range(3, 30, 3):
            row = []
            for entered in (states[t, :7], states[t]):
                sim.enter(entered)
                again = sim.rollout(actions[t : t + 10])
                off = (again - states[t : t + 11, :7])[:, STATE.block_position]
                row.append(np.linalg.norm(off, axis=1)[[1, 10]])
            errors.append(row)
            touched.append(moves[: t + 10].any())
    pushed = np.array(touched)
    off, still = np.array(errors)[pushed], np.array(errors)[~pushed]
    assert (still == 0).all()
    assert np.median(off[:, 0, 1]) < 0.05
    seven, ten = np.quantile(off, 0.9, axis=0)
    assert (seven < 1.0).all()
    assert (ten < 0.3 * seven).all()


def test_ensemble_members_are_single_rollouts(sim):
    rng = np.random.default_rng(0)
    state = mid_task(rng)
    actions = push(rng, state) + rng.normal(0, 8, (6, STEPS, 2))
    members = sim.ensemble(state, actions)
    assert members.shape == (6, STEPS + 1, 7)
    for member, targets in zip(members, actions, strict=True):
        sim.enter(state)
        np.testing.assert_array_equal(sim.rollout(targets), member)
    assert sim.ensemble(state, np.empty((0, 5, 2))).shape == (0, 6, 7)


def test_no_action_leaves_the_state(sim):
    state = sim.reset(0)
    np.testing.assert_array_equal(sim.rollout(np.empty((0, 2))), state[None])


def test_observations_wrap_the_angle_as_the_environment_does():
    compat.ensure_add_collision_handler()
    env = PushTEnv(obs_type="state")
    env.reset(seed=0)
    for angle in (
        -1e-20,
        -0.1,
        0.0,
        2 * np.pi,
        -2 * np.pi,
        50.0,
        -50.0,
        np.nextafter(2 * np.pi, 0),
    ):
        env.block.angle = angle
        pose = [*env.block.position, env.block.angle]
        bare = STATE.join(env.agent.position, np.zeros(2), pose)
        np.testing.assert_array_equal(observations(bare), env.get_obs().astype(np.float32))


def test_render_agrees_with_the_environment(sim):
    compat.ensure_add_collision_handler()
    env = PushTEnv(obs_type="state", visualization_width=512, visualization_height=512)
    env.reset(seed=5)
    actions = push(np.random.default_rng(5), sim.reset(5))
    np.testing.assert_array_equal(sim.render(), env.render())
    for action in actions:
        sim.step(action)
        env.step(action)
        np.testing.assert_array_equal(sim.render(), env.render())


def test_render_shows_an_entered_state_and_changes_nothing(sim, gym_env):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        state = mid_task(rng)
        actions = push(rng, state)
        sim.enter(state)
        states = sim.rollout(actions)
        sim.enter(state)
        put(gym_env, state)
        bare = gym_env.unwrapped
        for body in (bare.agent, bare.block):
            bare.space.reindex_shapes_for_body(body)
        screen = bare._draw()
        np.testing.assert_array_equal(sim.render(), bare._get_img(screen, 512, 512))
        drawn = []
        for action in actions:
            drawn.append(sim.state())
            sim.step(action)
            sim.render()
        np.testing.assert_array_equal([*drawn, sim.state()], states)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda sim: sim.enter(np.zeros(5)), r"state: expected shape \(7\), got \(5,\)"),
        (lambda sim: sim.enter(np.full(7, np.nan)), "state: expected finite"),
        (lambda sim: sim.rollout(np.zeros(2)), r"actions: expected shape \(any, 2\), got \(2,\)"),
        (lambda sim: sim.rollout(np.full((3, 2), np.inf)), "actions: expected finite"),
        (
            lambda sim: sim.ensemble(np.zeros(7), np.zeros((3, 2))),
            r"expected shape \(any, any, 2\)",
        ),
    ],
)
def test_wrong_input_is_named(sim, call, message):
    with pytest.raises(ValueError, match=message):
        call(sim)


def test_this_is_the_pymunk_asked_for():
    """The tests run on pymunk 6, and once more on the one that the variable names."""
    assert pymunk.version.split(".")[0] == os.environ.get("PYMUNK", "6")


def test_compat_touches_nothing_where_the_call_exists():
    compat.ensure_add_collision_handler()
    present = pymunk.Space.add_collision_handler
    compat.ensure_add_collision_handler()
    assert pymunk.Space.add_collision_handler is present
    legacy = int(pymunk.version.split(".")[0]) < 7
    assert (present.__module__ == "pymunk.space") == legacy


def falling_ball(space):
    """A ball on its way to a floor."""
    space.gravity = 0, -100
    ball = pymunk.Body(1, 1)
    ball.position = 0, 20
    floor = pymunk.Segment(space.static_body, (-50, 0), (50, 0), 1)
    space.add(ball, pymunk.Circle(ball, 5), floor)
    return ball


@pytest.mark.parametrize("phase", ["begin", "pre_solve"])
@pytest.mark.parametrize("accept", [True, False])
def test_collision_handler_calls_back_as_in_pymunk_6(phase, accept):
    compat.ensure_add_collision_handler()
    space = pymunk.Space()
    ball = falling_ball(space)
    calls = []
    handler = space.add_collision_handler(0, 0)
    assert space.add_collision_handler(0, 0) is handler
    handler.data["who"] = "floor"

    def judge(arbiter, space, data):
        calls.append((phase, data["who"]))
        return accept

    setattr(handler, phase, judge)
    handler.post_solve = lambda arbiter, space, data: calls.append(("post_solve", data["who"]))
    handler.separate = lambda arbiter, space, data: calls.append(("separate", data["who"]))
    for _ in range(200):
        space.step(0.01)
    assert calls[0] == (phase, "floor")
    assert (("post_solve", "floor") in calls) == accept
    assert (("separate", "floor") in calls) == (not accept)
    assert (ball.position.y > 0) == accept
