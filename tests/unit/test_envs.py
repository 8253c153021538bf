"""PushT as Gymnasium environments, against gym-pusht and Gymnasium's own vectorisation."""

import subprocess
import sys
from typing import Any

import gym_pusht  # noqa: F401  (it registers the environment)
import gymnasium
import numpy as np
import pytest
from gym_pusht.envs import PushTEnv as GymPushT
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from shapely import affinity, box, union_all

from nsf_pipeline import envs
from nsf_pipeline.envs import PUSHT
from nsf_pipeline.envs.single import PushTEnv
from nsf_pipeline.errors import UserError
from nsf_pipeline.pusht import geometry
from nsf_pipeline.pusht.compat import ensure_add_collision_handler
from nsf_pipeline.pusht.factors import Factors
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE

STEPS = 25
START = np.array([150.0, 200.0, 30.0, -10.0, 260.0, 230.0, 9.5])
OTHER: dict[str, Any] = {
    "block_scale": 0.8,
    "agent_radius": 22.0,
    "goal_pose": (300.0, 220.0, 2.0),
    "walls": (30.0, 470.0),
}


class Altered(GymPushT):
    """gym-pusht's environment with other factors, by what it makes its scene of."""

    @staticmethod
    def add_segment(space, a, b, radius):
        moved = {5: 28.0, 506: 472.0}
        ends = [tuple(moved[x] for x in end) for end in (a, b)]
        return GymPushT.add_segment(space, *ends, radius)

    @staticmethod
    def add_circle(space, position, radius):
        return GymPushT.add_circle(space, position, 22.0)

    @staticmethod
    def add_tee(space, position, angle):
        return GymPushT.add_tee(space, position, angle, scale=24.0)

    def _setup(self):
        super()._setup()
        self.goal_pose = np.array([300.0, 220.0, 2.0])


@pytest.fixture(scope="module", autouse=True)
def on_any_pymunk():
    ensure_add_collision_handler()


def pushes(random, observation):
    """Targets through the block and on to anywhere, as float32 in the workspace."""
    agent, block = observation[:2], observation[2:4]
    first = np.linspace(agent, block, STEPS // 2)
    then = np.linspace(block, random.uniform(0, 512, 2), STEPS - STEPS // 2)
    targets = np.concatenate([first, then]) + random.normal(0, 8, (STEPS, 2))
    return targets.clip(0, 512).astype(np.float32)


def assert_same_info(ours, theirs):
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        if name == "coverage":
            assert abs(ours[name] - value) < 1e-9
        else:
            np.testing.assert_array_equal(ours[name], value)


def compare(ours, theirs, seeds):
    """Step two environments alike; returns how many states had contact and how many succeeded."""
    touched = ended = 0
    for seed in seeds:
        random = np.random.default_rng(seed)
        observation, info = ours.reset(seed=seed)
        expected, expected_info = theirs.reset(seed=seed)
        for action in pushes(random, expected):
            assert observation.dtype == expected.dtype
            np.testing.assert_array_equal(observation, expected)
            assert_same_info(info, expected_info)
            observation, reward, *ends, info = ours.step(action)
            expected, expected_reward, *expected_ends, expected_info = theirs.step(action)
            assert abs(reward - expected_reward) < 1e-9
            assert ends == expected_ends
            touched, ended = touched + info["n_contacts"], ended + ends[0]
        np.testing.assert_array_equal(observation, expected)
    np.testing.assert_array_equal(ours.render(), theirs.render())
    return touched, ended


def test_the_environment_is_gym_pushts():
    ours = gymnasium.make(PUSHT)
    theirs = gymnasium.make("gym_pusht/PushT-v0", disable_env_checker=True)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    assert ours.spec is not None
    assert theirs.spec is not None
    assert ours.spec.max_episode_steps == theirs.spec.max_episode_steps
    touched, _ = compare(ours, theirs, range(15))
    assert touched > 60
    # Without a seed, both go on with the same random numbers.
    np.testing.assert_array_equal(ours.reset()[0], theirs.reset()[0])


def test_it_is_an_altered_gym_pusht():
    ours = gymnasium.make(PUSHT, **OTHER)
    touched, _ = compare(ours, Altered(), range(100, 112))
    assert touched > 50
    assert Factors(**OTHER).changed == list(OTHER)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7])
def test_coverage_of_other_goals_and_sizes_agrees_with_shapely(scale):
    goal, random = np.array([300.0, 220.0, 2.0]), np.random.default_rng(0)

    def t_at(pose):
        t = union_all([box(*rectangle) for rectangle in scale * geometry.T_RECTANGLES])
        t = affinity.rotate(t, pose[2], origin=(0, 0), use_radians=True)
        return affinity.translate(t, pose[0], pose[1])

    for pose in goal + random.normal(0, 1, (20, 3)) * (20, 20, 0.5):
        share = t_at(goal).intersection(t_at(pose)).area / t_at(goal).area
        assert abs(geometry.coverage(pose, goal, scale) - share) < 1e-12


@pytest.mark.filterwarnings("ignore:.*symmetric and normalized")
def test_gymnasiums_checker_finds_nothing():
    check_env(gymnasium.make(PUSHT, **OTHER, action_noise_std=4.0).unwrapped)


def test_a_reset_to_a_state_gives_that_state():
    env = gymnasium.make(PUSHT)
    state = Simulator().reset(0)  # of those that Chipmunk can represent
    for _ in range(2):
        observation, info = env.reset(options={"state": state})
        entered = STATE.join(info["pos_agent"], info["vel_agent"], info["block_pose"])
        np.testing.assert_array_equal(entered, state)
        np.testing.assert_array_equal(observation[:2], state[STATE.agent])
        env.step(np.array([300.0, 300.0]))
    _, info = env.reset(options={"state": START})
    np.testing.assert_allclose(info["block_pose"], START[STATE.block], rtol=0, atol=6e-14)
    assert np.asarray(env.render()).shape == (680, 680, 3)
    # gym-pusht itself moves the block elsewhere, and has it rest there for a substep.
    theirs = GymPushT()
    asked = [*START[STATE.agent], *START[STATE.block]]
    found, _ = theirs.reset(options={"reset_to_state": asked})
    assert np.linalg.norm(found[2:4] - START[STATE.block_position]) > 1.0


def test_noise_is_drawn_from_the_environments_generator():
    env = gymnasium.make(PUSHT, action_noise_std=6.0, walls=(7.0, 504.0))
    plain = gymnasium.make(PUSHT)
    actions = np.full((3, 2), 300.0)
    found = []
    for _ in range(2):
        env.reset(seed=3)
        plain.reset(seed=3)
        for action in actions:
            observation, *_, info = env.step(action)
            assert (info["executed_action"] != action).all()
            expected, *_ = plain.step(info["executed_action"])
            np.testing.assert_array_equal(observation, expected)
        found.append(observation)
    np.testing.assert_array_equal(*found)


def assert_same_tree(ours, theirs, place):
    if isinstance(theirs, dict):
        assert set(ours) == set(theirs), place
        for name in theirs:
            assert_same_tree(ours[name], theirs[name], f"{place} {name}")
    elif theirs.dtype == object:
        for one, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=place)
    else:
        assert ours.dtype == theirs.dtype, place
        np.testing.assert_array_equal(ours, theirs, err_msg=place)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_many_are_what_gymnasium_makes_of_one(mode):
    settings: dict[str, Any] = {"max_episode_steps": 4, "action_noise_std": 3.0, "num_envs": 3}
    ours = gymnasium.make_vec(PUSHT, autoreset_mode=mode, **settings)
    theirs: Any = gymnasium.make_vec(
        PUSHT,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": mode},
        **settings,
    )
    assert ours.metadata["autoreset_mode"] is mode
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    options = {"state": START}
    for arguments in ({"seed": 5}, {"seed": [4, 9, 2]}, {"options": options}, {}):
        found, expected = (env.reset(**arguments)[0] for env in (ours, theirs))
        np.testing.assert_array_equal(found, expected)
    # The second succeeds in its first step, where its block is in the goal.
    states = np.array([START, START, START])
    states[1, STATE.block] = geometry.GOAL_POSE
    ours.reset(options={"state": states})
    for env, state in zip(theirs.envs, states, strict=True):
        env.reset(options={"state": state})
    random, successes = np.random.default_rng(0), 0
    for step in range(13):
        actions = random.uniform(0, 512, (3, 2)).astype(np.float32)
        found, expected = ours.step(actions), theirs.step(actions)
        for number, (one, other) in enumerate(zip(found, expected, strict=True)):
            assert_same_tree(one, other, f"step {step}, result {number}")
        successes += found[2].sum()
        ended = found[2] | found[3]
        if mode is AutoresetMode.DISABLED and ended.any():
            with pytest.raises(UserError, match="its episode has ended"):
                ours.step(actions)
            found, expected = (env.reset(options={"reset_mask": ended}) for env in (ours, theirs))
            for one, other in zip(found, expected, strict=True):
                assert_same_tree(one, other, "reset")
    assert successes == 1
    frames = ours.render()
    assert frames is not None
    np.testing.assert_array_equal(frames, theirs.render())


ACTION = np.array([100.0, 100.0])
REFUSED = {
    "far action": (lambda env: env.step(ACTION * 6), r"number 0, to be from 0 to 512, got 600"),
    "NaN": (lambda env: env.step(ACTION * np.nan), "got nan"),
    "three numbers": (lambda env: env.step(np.zeros(3)), r"action of shape \(2,\), got \(3,\)"),
    "text": (lambda env: env.step("left"), "expected action to be numbers"),
    "unknown option": (
        lambda env: env.reset(options={"reset_to_state": [1.0]}),
        "expected the options state alone, got 'reset_to_state'",
    ),
    "five numbers": (lambda env: env.reset(options={"state": np.zeros(5)}), "velocity x, y"),
    "infinite state": (lambda env: env.reset(options={"state": START * np.inf}), "finite"),
    "options": (lambda env: env.reset(options=[1]), "expected options to be a dict"),
    "mode": (lambda _: PushTEnv(render_mode="rgb"), "expected render_mode"),
    "size": (lambda _: gymnasium.make(PUSHT, visualization_width=0), "visualization_width"),
    "scale": (lambda _: gymnasium.make(PUSHT, block_scale=0.0), "block_scale to be at least"),
    "radius": (lambda _: gymnasium.make(PUSHT, agent_radius=np.nan), "agent_radius to be finite"),
    "goal": (lambda _: gymnasium.make(PUSHT, goal_pose=(9, 9)), r"goal_pose of shape \(3,\)"),
    "goal outside": (lambda _: gymnasium.make(PUSHT, goal_pose=(9, 600, 0)), "at most 512"),
    "walls": (lambda _: gymnasium.make(PUSHT, walls=(504, 7)), "at least 200 px apart"),
    "noise": (lambda _: gymnasium.make(PUSHT, action_noise_std=-1.0), "action_noise_std"),
}
REFUSED_OF_MANY = {
    "seeds": (lambda env: env.reset(seed=[1]), "expected 2 seeds, got 1"),
    "mask": (lambda env: env.reset(options={"reset_mask": [True]}), "array of 2 booleans"),
    "state": (lambda env: env.reset(options={"state": np.zeros((3, 7))}), r"\(2, 7\), got"),
    "action": (lambda env: env.step([[1, 2], [3, 600]]), r"at \[1, 1\], to be from 0 to 512"),
    "mode": (lambda _: gymnasium.make_vec(PUSHT, 2, autoreset_mode="later"), "one of NextStep"),
    "none": (lambda _: gymnasium.make_vec(PUSHT, 0), "num_envs of at least 1"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_means_nothing_is_refused(case):
    call, message = REFUSED[case]
    env = gymnasium.make(PUSHT)
    env.reset(seed=0)
    with pytest.raises(UserError, match=message):
        call(env)


@pytest.mark.parametrize("case", REFUSED_OF_MANY)
def test_what_means_nothing_to_many_is_refused(case):
    call, message = REFUSED_OF_MANY[case]
    many = gymnasium.make_vec(PUSHT, 2)
    with pytest.raises(UserError, match="expected a reset before"):
        many.step(np.ones((2, 2)))
    many.reset(seed=0)
    with pytest.raises(UserError, match=message):
        call(many)


ALONE = """
import sys
import {0}
assert "gym_pusht" not in sys.modules and "jax" not in sys.modules
import {1}
import gymnasium
env = gymnasium.make("{2}nsf_pipeline/PushT-v0")
env.reset(seed=0)
assert "jax" not in sys.modules
print(env.spec.id)
"""


@pytest.mark.parametrize(
    "imports",
    [
        ("nsf_pipeline", "gymnasium", ""),
        ("gymnasium", "nsf_pipeline", ""),
        ("sys", "sys", "nsf_pipeline:"),
    ],
)
def test_importing_the_package_is_enough(imports):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", ALONE.format(*imports)],
        capture_output=True,
        text=True,
        env=None,
    )
    assert (done.returncode, done.stdout.strip()) == (0, PUSHT), done.stderr


def test_importing_the_package_does_not_import_gymnasium():
    code = "import nsf_pipeline, sys; print({'gymnasium', 'numpy', 'jax'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
    assert envs.LEARNED_PUSHT in gymnasium.registry
