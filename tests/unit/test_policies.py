"""Sampled policies: their ranges, and what they may depend on."""

import numpy as np
import pytest

from nsf_pipeline.config import Config, PolicyConfig
from nsf_pipeline.data import store
from nsf_pipeline.data.policies import block_centre, sample_policies
from nsf_pipeline.data.randomness import Stream, generator, reset_seed
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE

CONFIG = Config(
    policies=PolicyConfig(stiffness=(20.0, 80.0), damping_ratio=(0.5, 2.0), goal_x=(100.0, 300.0))
)
COUNT = 60


def with_policies(**settings):
    return CONFIG.model_copy(update={"policies": CONFIG.policies.model_copy(update=settings)})


@pytest.fixture(scope="module")
def policies():
    return sample_policies(CONFIG, 0, COUNT)


def test_a_shard_fits_its_schema(policies, tmp_path):
    store.write(tmp_path / "00000.h5", "policies", policies, {})
    for name, values in store.read(tmp_path / "00000.h5", "policies").items():
        np.testing.assert_array_equal(values, policies[name], err_msg=name)


@pytest.mark.parametrize(("first", "stop"), [(0, 1), (17, 18), (10, 30), (41, 60)])
def test_a_trajectory_is_the_same_in_any_shard(policies, first, stop):
    for name, values in sample_policies(CONFIG, first, stop).items():
        np.testing.assert_array_equal(values, policies[name][first:stop], err_msg=name)


def test_sizes_of_data_and_shards_change_no_policy(policies):
    other = CONFIG.model_copy(update={"num_trajectories": 20, "shard_size": 3})
    for name, values in sample_policies(other, 3, 6).items():
        np.testing.assert_array_equal(values, policies[name][3:6], err_msg=name)


def test_another_seed_gives_other_policies(policies):
    other = sample_policies(CONFIG.model_copy(update={"seed": 1}), 0, COUNT)
    for name in ("seed", "duration", "stiffness", "damping"):
        assert not np.intersect1d(policies[name], other[name]).size
    for name in ("initial_state", "goal", "weights"):
        assert (policies[name] != other[name]).any()


def test_every_use_of_randomness_has_a_stream_of_its_own():
    draws = {
        generator(seed, trajectory, stream).random()
        for seed in (0, 1, 2**63 - 1)
        for trajectory in (0, 1, 10**6)
        for stream in Stream
    }
    assert len(draws) == 3 * 3 * len(Stream)
    seeds = [reset_seed(0, trajectory) for trajectory in range(1000)]
    assert len(set(seeds)) == 1000
    assert all(0 <= seed < 2**31 for seed in seeds)


def test_policies_start_where_the_agent_is(policies):
    simulator = Simulator()
    for row, state in enumerate(policies["initial_state"]):
        if policies["from_reset"][row]:
            simulator.reset(int(policies["seed"][row]))
        else:
            simulator.enter(state)
        np.testing.assert_array_equal(simulator.state(), state)
    np.testing.assert_array_equal(policies["start"], policies["initial_state"][:, STATE.agent])
    np.testing.assert_array_equal(policies["trajectory"], np.arange(COUNT))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_a_share_of_policies_starts_in_mid_task(share):
    count = 300
    found = sample_policies(with_policies(mid_task_fraction=share), 0, count)
    spread = np.sqrt(share * (1 - share) / count)
    assert abs(np.mean(~found["from_reset"]) - share) <= 4 * spread
    all_reset = sample_policies(with_policies(mid_task_fraction=0.0), 0, count)
    still = found["from_reset"]
    for name in ("initial_state", "goal", "weights", "duration"):
        np.testing.assert_array_equal(found[name][still], all_reset[name][still], err_msg=name)
    np.testing.assert_array_equal(found["duration"], all_reset["duration"])


def test_the_condition_is_the_packed_policy(policies):
    params = DMPParams(*(policies[name] for name in DMPParams._fields))
    np.testing.assert_array_equal(policies["condition"], params.as_vector())


def test_numbers_keep_to_their_ranges_and_fill_them():
    policies = sample_policies(CONFIG, 0, 300)
    ratio = policies["damping"] / (2 * np.sqrt(policies["stiffness"]))
    drawn = {
        "duration": (policies["duration"], CONFIG.policies.duration),
        "goal_x": (policies["goal"][:, 0], CONFIG.policies.goal_x),
        "goal_y": (policies["goal"][:, 1], CONFIG.policies.goal_y),
        "weights": (policies["weights"], CONFIG.policies.weights),
        "stiffness": (policies["stiffness"], CONFIG.policies.stiffness),
        "damping_ratio": (ratio, CONFIG.policies.damping_ratio),
        "action_noise_std": (policies["action_noise_std"], CONFIG.policies.action_noise_std),
    }
    for name, (values, (low, high)) in drawn.items():
        slack = 1e-12 * high
        assert low - slack <= values.min() < low + 0.05 * (high - low), name
        assert high - 0.05 * (high - low) < values.max() <= high + slack, name


def test_a_range_of_one_number_is_that_number():
    policies = sample_policies(Config(), 0, 3)
    np.testing.assert_array_equal(policies["stiffness"], 50.0)
    np.testing.assert_array_equal(policies["damping"], 2.0 * np.sqrt(50.0))  # critical


def test_noise_changes_no_other_number_and_a_share_of_policies_has_none():
    """A share has none whatever the range; the others keep their levels."""
    low, high, count = 4.0, 12.0, 300
    ranges = {"action_noise_std": (low, high)}
    never, some, always = (
        sample_policies(with_policies(noiseless_fraction=share, **ranges), 0, count)
        for share in (0.0, 0.3, 1.0)
    )
    usual = sample_policies(CONFIG, 0, count)
    for policies in (never, some, always):
        for name in policies.keys() - {"action_noise_std", "condition"}:
            np.testing.assert_array_equal(policies[name], usual[name], err_msg=name)
        np.testing.assert_array_equal(policies["condition"][:, -1], policies["action_noise_std"])
    noise = never["action_noise_std"]
    assert low <= noise.min() < noise.max() <= high
    assert not always["action_noise_std"].any()
    without = some["action_noise_std"] == 0.0
    assert without.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / count))
    np.testing.assert_array_equal(some["action_noise_std"][~without], noise[~without])


def test_contact_fraction_aims_at_the_block_and_moves_no_other_number():
    wide = {"goal_x": (0.0, 512.0), "goal_y": (0.0, 512.0)}
    fractions = (0.0, 0.4, 1.0)
    by_fraction = [
        sample_policies(with_policies(contact_fraction=fraction, **wide), 0, 300)
        for fraction in fractions
    ]
    none, some, every = by_fraction
    for policies in (some, every):
        for name in policies.keys() - {"goal", "condition"}:
            np.testing.assert_array_equal(policies[name], none[name], err_msg=name)
    aimed = (some["goal"] != none["goal"]).any(axis=1)
    assert 0.3 < aimed.mean() < 0.5
    # Each goal is either the uniform one or the one aimed at the block.
    np.testing.assert_array_equal(some["goal"][aimed], every["goal"][aimed])
    near, further, nearest = map(passes_block, by_fraction)
    assert near < 0.4 < nearest - 0.3
    assert near + 0.1 < further < nearest - 0.1


def passes_block(policies, reach=60.0):
    """Share of policies whose straight line from start to goal passes near the block's centre."""
    centre = np.stack([block_centre(state) for state in policies["initial_state"]])
    line = policies["goal"] - policies["start"]
    to_block = centre - policies["start"]
    along = np.clip((to_block * line).sum(axis=1) / (line**2).sum(axis=1), 0.0, 1.0)
    return (np.linalg.norm(to_block - along[:, None] * line, axis=1) < reach).mean()


def test_the_blocks_centre_is_its_centre_of_mass():
    simulator = Simulator()
    for seed in range(5):
        state = simulator.reset(seed)
        block = simulator._env.block
        np.testing.assert_allclose(
            block_centre(state), block.local_to_world(block.center_of_gravity), atol=1e-9
        )
