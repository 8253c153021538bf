"""Rollouts against gym-pusht itself, and their documented properties."""

import gymnasium
import numpy as np
import pytest

from nsf_pipeline.config import Config, PolicyConfig
from nsf_pipeline.data import store
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.rollouts import simulate
from nsf_pipeline.dmp import DMPParams, evaluate, integrate
from nsf_pipeline.pusht import compat, geometry
from nsf_pipeline.pusht.simulator import Simulator, observations
from nsf_pipeline.pusht.state import STATE, STATE_WITHOUT_VELOCITY
from nsf_pipeline.timing import CONTROL_DT, num_steps

CONFIG = Config(policies=PolicyConfig(duration=(0.5, 2.55)))
COUNT = 40
GOAL = geometry.GOAL_POSE


def with_noise(policies, std):
    """The same policies, each with noise of this standard deviation."""
    params = DMPParams.from_vector(policies["condition"])
    level = np.broadcast_to(np.asarray(std, float), params.duration.shape)
    condition = params._replace(action_noise_std=level).as_vector()
    return {**policies, "action_noise_std": level, "condition": condition}


def stored(config, policies):
    """What a rollout shard of these policies holds."""
    arrays = simulate(config, policies)
    return {name: np.asarray(arrays[name], field.dtype) for name, field in store.ROLLOUTS.items()}


def rows(arrays, selection):
    return {name: values[selection] for name, values in arrays.items()}


@pytest.fixture(scope="module")
def policies():
    return sample_policies(CONFIG, 0, COUNT)


@pytest.fixture(scope="module")
def rollouts(policies):
    return stored(CONFIG, policies)


@pytest.fixture(scope="module")
def env():
    compat.ensure_add_collision_handler()
    return gymnasium.make("gym_pusht/PushT-v0", disable_env_checker=True)


def next_to_the_goal(seed):
    """A policy that pushes the block the last few px into its goal; not from a reset."""
    config = CONFIG.model_copy(
        update={
            "policies": CONFIG.policies.model_copy(update={"weights": (0.0, 0.0)}),
            "seed": seed,
        }
    )
    policy = sample_policies(config, 0, 1)
    direction = np.array([np.cos(seed), np.sin(seed)])
    block = GOAL[:2] - 8.0 * direction
    centre = block + np.array([-45.0, 45.0]) / np.sqrt(2)
    start, goal = centre - 110.0 * direction, centre
    policy["from_reset"][:] = False
    policy["initial_state"][0] = STATE.join(start, np.zeros(2), [*block, GOAL[2]])
    policy["start"][0], policy["goal"][0] = start, goal
    params = DMPParams.from_vector(policy["condition"])
    policy["condition"] = params._replace(start=start[None], goal=goal[None]).as_vector()
    return policy


def entered(env, state):
    """The observation of a state put into the environment by hand, in a new space."""
    bare = env.unwrapped
    bare._setup()
    bare.agent.position = tuple(state[STATE.agent])
    bare.agent.velocity = tuple(state[STATE.velocity])
    bare.block.angle = state[STATE.angle]
    bare.block.position = tuple(state[STATE.block_position])
    return bare.get_obs()


def replay(env, rollouts, row):
    """Step the environment through a stored trajectory and compare all that is stored."""
    observation, _ = env.reset(seed=int(rollouts["seed"][row]))
    if not rollouts["from_reset"][row]:
        observation = entered(env, rollouts["initial_state"][row])
    length = rollouts["length"][row]
    for t in range(length + 1):
        np.testing.assert_array_equal(
            rollouts["observations"][row, t], observation.astype(np.float32)
        )
        bare = env.unwrapped
        velocity = np.asarray(bare.agent.velocity, np.float32)
        np.testing.assert_array_equal(rollouts["agent_velocity"][row, t], velocity)
        assert rollouts["block_angle"][row, t] == np.float32(bare.block.angle)
        velocity = np.array([*bare.block.velocity, bare.block.angular_velocity], np.float32)
        np.testing.assert_array_equal(rollouts["block_velocity"][row, t], velocity)
        if t == length:
            return
        observation, reward, terminated, _, info = env.step(rollouts["actions"][row, t])
        np.testing.assert_allclose(rollouts["rewards"][row, t], reward, atol=1e-6)
        np.testing.assert_allclose(rollouts["coverage"][row, t], info["coverage"], atol=1e-6)
        assert terminated == (rollouts["success"][row] and t == length - 1)


def test_stored_actions_replay_in_the_environment_bit_for_bit(env, rollouts):
    for row in range(COUNT):
        replay(env, rollouts, row)
    moved = np.diff(rollouts["block_angle"], axis=1)[rollouts["action_mask"]] != 0
    assert moved.mean() > 0.1
    assert 0.2 < rollouts["from_reset"].mean() < 0.8


def test_a_shard_fits_its_schema(policies, rollouts, tmp_path):
    store.write(tmp_path / "00000.h5", "rollouts", simulate(CONFIG, policies), {})
    for name, values in store.read(tmp_path / "00000.h5", "rollouts").items():
        np.testing.assert_array_equal(values, rollouts[name], err_msg=name)


def test_masks_times_and_padding_agree_with_the_length(policies, rollouts):
    longest = CONFIG.max_steps
    assert longest == 26
    assert rollouts["observations"].shape == (COUNT, longest + 1, 5)
    assert rollouts["actions"].shape == (COUNT, longest, 2)
    planned = [num_steps(duration) for duration in policies["duration"]]
    ended = rollouts["success"]
    np.testing.assert_array_equal(rollouts["length"][~ended], np.array(planned)[~ended])
    for row, length in enumerate(rollouts["length"]):
        states, steps = np.arange(longest + 1) <= length, np.arange(longest) < length
        np.testing.assert_array_equal(rollouts["observation_mask"][row], states)
        np.testing.assert_array_equal(rollouts["action_mask"][row], steps)
        times = (CONTROL_DT * np.arange(longest + 1)).astype(np.float32)
        np.testing.assert_array_equal(rollouts["state_times"][row], times * states)
        np.testing.assert_array_equal(rollouts["action_times"][row], times[:-1] * steps)
        for name in ("observations", "agent_velocity", "block_angle", "block_velocity"):
            assert not rollouts[name][row, length + 1 :].any(), name
        for name in ("targets", "actions", "rewards", "coverage"):
            assert not rollouts[name][row, length:].any(), name


def test_each_trajectory_starts_in_its_initial_state(policies, rollouts):
    initial = rollouts["initial_state"]
    np.testing.assert_array_equal(initial, policies["initial_state"])
    start = rollouts["observations"][:, 0]
    positions = [name for name in STATE_WITHOUT_VELOCITY.names if name != "block_angle"]
    np.testing.assert_array_equal(
        start[:, STATE_WITHOUT_VELOCITY.columns(positions)],
        initial[:, STATE.columns(positions)].astype(np.float32),
    )
    np.testing.assert_array_equal(
        rollouts["block_angle"][:, 0], initial[:, STATE.angle].astype(np.float32)
    )


def test_the_angle_is_continuous_and_the_observation_wraps_it(rollouts):
    inside = rollouts["observation_mask"]
    angle = rollouts["block_angle"][inside].astype(float)
    wrapped = rollouts["observations"][inside][:, STATE_WITHOUT_VELOCITY.angle]
    turned = (angle - wrapped) / (2 * np.pi)
    np.testing.assert_allclose(turned, np.round(turned), atol=1e-5)
    changes = np.diff(rollouts["block_angle"], axis=1)[rollouts["action_mask"]]
    assert np.abs(changes).max() < 2.0


@pytest.mark.parametrize(("first", "stop"), [(0, 1), (13, 14), (20, 30)])
def test_a_trajectory_is_the_same_in_any_shard(policies, rollouts, first, stop):
    alone = stored(CONFIG, rows(policies, slice(first, stop)))
    for name, values in alone.items():
        np.testing.assert_array_equal(values, rollouts[name][first:stop], err_msg=name)


def test_a_trajectory_is_the_same_in_any_order(policies, rollouts):
    backwards = stored(CONFIG, rows(policies, slice(None, None, -1)))
    for name, values in backwards.items():
        np.testing.assert_array_equal(values[::-1], rollouts[name], err_msg=name)


def test_targets_are_where_the_dmp_wants_to_be_when_a_step_ends(policies, rollouts):
    for row, length in enumerate(rollouts["length"]):
        params = DMPParams(*(policies[name][row] for name in DMPParams._fields))
        ends = CONTROL_DT * np.arange(1, length + 1)
        expected = evaluate(integrate(params, CONFIG.dmp), ends, CONFIG.dmp)
        np.testing.assert_allclose(rollouts["targets"][row, :length], expected, atol=1e-4)
    low, high = CONFIG.dmp.workspace
    targets = rollouts["targets"][rollouts["action_mask"]]
    assert ((targets >= low) & (targets <= high)).all()


def test_without_noise_actions_are_targets(policies):
    silent = stored(CONFIG, with_noise(policies, 0.0))
    np.testing.assert_array_equal(silent["actions"], silent["targets"])


def test_noise_is_independent_and_as_large_as_each_trajectory_says():
    policies = sample_policies(CONFIG, 0, 150)
    std = np.where(np.arange(150) % 2, 2.0, 8.0)
    rollouts = stored(CONFIG, with_noise(policies, std))
    np.testing.assert_array_equal(rollouts["action_noise_std"], std)
    for level in (2.0, 8.0):
        require_noise(rows(rollouts, std == level), level)


def require_noise(rollouts, std):
    taken = rollouts["action_mask"]
    noise = (rollouts["actions"] - rollouts["targets"])[taken]
    count = noise.size
    # Four standard errors each; the workspace's border is far from the desired positions.
    assert abs(noise.mean()) < 4 * std / np.sqrt(count)
    assert abs(noise.std() / std - 1) < 4 / np.sqrt(2 * count)
    pairs = [noise[:, 0] * noise[:, 1], noise[:-1, 0] * noise[1:, 0]]
    assert all(abs(pair.mean()) < 4 * std**2 / np.sqrt(len(pair)) for pair in pairs)


def test_noise_leaves_actions_in_the_workspace(policies):
    actions = stored(CONFIG, with_noise(policies, 256.0))["actions"]
    assert (actions.min(), actions.max()) == geometry.WORKSPACE


def test_noise_is_the_only_randomness(policies, rollouts):
    for name, values in stored(CONFIG, policies).items():
        np.testing.assert_array_equal(values, rollouts[name], err_msg=name)
    other = stored(CONFIG.model_copy(update={"seed": 1}), policies)
    np.testing.assert_array_equal(other["targets"][:, :5], rollouts["targets"][:, :5])
    noisy = policies["action_noise_std"] > 0.0
    differs = (other["actions"] != rollouts["actions"])[noisy]
    assert differs[rollouts["action_mask"][noisy]].all()


def test_success_ends_a_trajectory(policies, monkeypatch):
    """With an easier threshold, since few random policies reach the real one."""
    full = simulate(CONFIG, policies)
    highest = full["coverage"].max(axis=1)
    threshold = np.sort(highest)[COUNT * 3 // 4]  # a success must exceed it
    assert threshold > 0
    monkeypatch.setattr(geometry, "SUCCESS_THRESHOLD", threshold)
    early = simulate(CONFIG, policies)
    np.testing.assert_array_equal(early["success"], highest > threshold)
    assert 0 < early["success"].sum() < COUNT
    for row in np.flatnonzero(early["success"]):
        length = early["length"][row]
        np.testing.assert_array_equal(
            early["length"][row], (full["coverage"][row] > threshold).argmax() + 1
        )
        np.testing.assert_array_equal(early["actions"][row, :length], full["actions"][row, :length])
    assert (early["length"] < full["length"]).any()


def test_the_block_pushed_into_its_goal_is_a_success():
    policies = [next_to_the_goal(seed) for seed in range(8)]
    together = {name: np.concatenate([p[name] for p in policies]) for name in policies[0]}
    together["trajectory"] = np.arange(8)
    rollouts = stored(CONFIG, with_noise(together, 0.0))
    assert rollouts["success"].any()
    last = np.arange(8), rollouts["length"] - 1
    reached = rollouts["coverage"][last]
    np.testing.assert_array_equal(rollouts["success"], reached > geometry.SUCCESS_THRESHOLD)
    np.testing.assert_array_equal(rollouts["rewards"][last] == 1.0, rollouts["success"])
    assert not rollouts["from_reset"].any()
    simulator = Simulator()
    for row, length in enumerate(rollouts["length"]):
        simulator.enter(together["initial_state"][row])
        states = simulator.rollout(rollouts["actions"][row, :length].astype(float))
        np.testing.assert_array_equal(
            rollouts["observations"][row, : length + 1], observations(states)
        )
