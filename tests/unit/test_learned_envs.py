"""Environments of a trained model: what an action means, seeds, and many in one pass."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from test_model import model_of

from nsf_pipeline import dmp
from nsf_pipeline.envs import LEARNED_PUSHT, PUSHT
from nsf_pipeline.errors import UserError
from nsf_pipeline.learned_envs.dynamics import Dynamics
from nsf_pipeline.learned_envs.single import LearnedPushTEnv
from nsf_pipeline.model import save_model
from nsf_pipeline.model.nominal import nominal_motion
from nsf_pipeline.pusht import geometry
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.timing import CONTROL_DT

START = np.array([150.0, 200.0, 30.0, -10.0, 260.0, 230.0, 9.5])
MODEL = model_of()


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.eqx"
    save_model(path, MODEL, {})
    return path


@pytest.fixture(scope="module")
def many(path):
    return gymnasium.make_vec(LEARNED_PUSHT, 2, model=path, max_episode_steps=3)


def test_a_target_is_a_policy_that_stands_still_there():
    random = np.random.default_rng(0)
    dynamics, simulator = Dynamics(MODEL, "step"), Simulator()
    encoder = MODEL.encoder
    actions = random.uniform(25.0, 487.0, (20, 2))
    policies = dynamics.policies(np.tile(START, (20, 1)), actions, 3.0)
    targets = dmp.targets(policies, encoder.dmp, 3)
    np.testing.assert_allclose(targets, np.repeat(actions[:, None], 3, 1), rtol=0, atol=1e-9)
    assert (policies.action_noise_std == 3.0).all()
    motion = jax.jit(
        lambda condition: nominal_motion(
            jnp.asarray(START, jnp.float32),
            jnp.zeros(()),
            jnp.float32(CONTROL_DT),
            condition,
            encoder.config,
            encoder.dmp,
        ).displacements[-1]
    )
    for action, condition in zip(actions, policies.as_vector(), strict=True):
        simulator.enter(START)
        simulator.step(action)
        moved = simulator.state() - START
        found = np.asarray(motion(jnp.asarray(condition, jnp.float32)))
        np.testing.assert_allclose(found[:4], moved[:4], rtol=1e-4, atol=2e-3)


def test_a_policy_starts_where_the_agent_is():
    dynamics = Dynamics(MODEL, "policy")
    dynamics.space.seed(0)
    actions = np.array([dynamics.space.sample() for _ in range(4)])
    actions[:, 0] = 0.1, 0.11, 1.1, 3.6
    policies = dynamics.policies(np.tile(START, (4, 1)), actions.astype(np.float64), 0.0)
    np.testing.assert_array_equal(policies.start, np.tile(START[STATE.agent], (4, 1)))
    np.testing.assert_array_equal(policies.goal, actions[:, 1:3])
    np.testing.assert_array_equal(policies.weights.reshape(4, -1), actions[:, 3:])
    assert dynamics.steps(policies).tolist() == [1, 2, 11, 36]


@pytest.mark.filterwarnings("ignore:.*symmetric and normalized")
def test_gymnasiums_checker_finds_nothing():
    env = gymnasium.make(LEARNED_PUSHT, model=MODEL)
    check_env(env.unwrapped)


@pytest.mark.parametrize("mode", ["step", "policy"])
def test_one_is_the_first_of_many(mode, path, many):
    if mode == "policy":
        many = gymnasium.make_vec(LEARNED_PUSHT, 2, model=path, mode=mode)
    one, exact = gymnasium.make(LEARNED_PUSHT, model=path, mode=mode), gymnasium.make(PUSHT)
    for seed in (0, 1):
        observations, _ = many.reset(seed=seed)
        observation, info = one.reset(seed=seed)
        expected, expected_info = exact.reset(seed=seed)
        for found in (observations[0], observation):
            np.testing.assert_array_equal(found, expected)
        assert set(expected_info) - set(info) == {"n_contacts"}
        many.action_space.seed(0)
        for _ in range(2):
            actions = many.action_space.sample()
            observations, rewards, ends, _, infos = many.step(actions)
            observation, reward, ended, cut, info = one.step(actions[0])
            np.testing.assert_allclose(observations[0], observation, rtol=0, atol=1e-2)
            assert rewards[0] == pytest.approx(reward, abs=1e-3)
            assert (ends[0], cut) == (ended, False)
            share = geometry.coverage(info["block_pose"])
            assert info["coverage"] == pytest.approx(float(share))
            assert infos["coverage"][0] == pytest.approx(float(share), abs=1e-3)
            assert ("control_steps" in info) == (mode == "policy")
        drawn = infos["block_pose"].copy()
        many.reset(seed=seed)
        many.action_space.seed(0)
        again = [many.step(many.action_space.sample())[4]["block_pose"] for _ in range(2)]
        np.testing.assert_array_equal(again[-1], drawn)
    assert np.asarray(one.render()).shape == (680, 680, 3)


def test_other_seeds_draw_other_states_and_episodes_end(many):
    options = {"state": START}
    many.reset(seed=[0, 1], options=options)
    ends = []
    for _ in range(4):
        *_, cut, info = many.step(np.full((2, 2), 250.0))
        ends.append(cut.all())
        if len(ends) == 1:
            assert (info["pos_agent"][0] != info["pos_agent"][1]).all()
    assert ends == [False, False, True, False]


@pytest.mark.thorough
def test_a_state_without_velocity_and_another_goal():
    env = gymnasium.make(LEARNED_PUSHT, model=model_of(5, True), mode="policy", goal_pose=(9, 9, 0))
    _, info = env.reset(options={"state": START})
    np.testing.assert_array_equal(info["goal_pose"], [9, 9, 0])
    *_, info = env.step(env.action_space.sample())
    np.testing.assert_array_equal(info["vel_agent"], [0.0, 0.0])


MADE = {
    "no model": ({}, "expected model to be the path of a trained model"),
    "no file": ({"model": "none.eqx"}, r"none\.eqx"),
    "mode": ({"model": MODEL, "mode": "leap"}, "expected mode to be step or policy"),
    "unconditional": ({"model": model_of(conditional=False)}, "model.conditional = false"),
    "autonomous": ({"model": model_of(autonomous=True)}, "model.autonomous = true"),
    "no physics": ({"model": model_of(physics="none")}, "model.physics = none knows only policies"),
    "factor": ({"model": MODEL, "block_scale": 0.5}, "block_scale: the model knows gym-pusht's"),
    "unknown": ({"model": MODEL, "size": 1}, "no setting 'size'"),
    "noise": ({"model": MODEL, "action_noise_std": 1e9}, "action_noise_std to be at most 256"),
}


@pytest.mark.parametrize("case", MADE)
def test_what_means_nothing_is_refused(case):
    settings, message = MADE[case]
    with pytest.raises(UserError, match=message):
        LearnedPushTEnv(**settings)


def test_targets_beyond_the_workspace_are_refused():
    env = LearnedPushTEnv(MODEL)
    env.reset(seed=0)
    with pytest.raises(UserError, match="number 1, to be from 25 to 487, got 500"):
        env.step([100.0, 500.0])
