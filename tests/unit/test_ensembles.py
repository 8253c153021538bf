"""Ensembles: which states, that members follow the trajectory's own law, and what is refused."""

import numpy as np
import pytest
from conftest import simulated
from hdf5_files import changed as changed_file
from scipy.stats import kstest

from nsf_pipeline.config import Config, DatasetConfig, EnsembleConfig, PolicyConfig
from nsf_pipeline.data import store
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.randomness import Stream, generator
from nsf_pipeline.data.rollouts import start
from nsf_pipeline.errors import UserError
from nsf_pipeline.evaluation.ensembles import load_test_split, simulate_ensembles
from nsf_pipeline.pusht.geometry import WORKSPACE
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE

COUNT, STATES, MEMBERS = 60, 40, 8
HORIZONS = (0.1, 0.5)
CONFIG = Config(
    num_trajectories=COUNT,
    shard_size=COUNT,
    policies=PolicyConfig(duration=(0.5, 1.2)),
    dataset=DatasetConfig(test_fraction=0.8),
    ensembles=EnsembleConfig(horizons=HORIZONS, num_states=STATES, num_members=MEMBERS),
)


def changed(config, section, **changes):
    return config.model_copy(update={section: getattr(config, section).model_copy(update=changes)})


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ensembles")
    return simulated(folder, sample_policies(CONFIG, 0, COUNT), CONFIG) / "dataset.h5"


@pytest.fixture(scope="module")
def test_split(dataset):
    return load_test_split(dataset)


@pytest.fixture(scope="module")
def ensembles(dataset):
    return simulate_ensembles(CONFIG, dataset, 0, len(HORIZONS) * STATES)


@pytest.mark.parametrize("size", [7, 33, STATES])
def test_states_and_members_do_not_depend_on_the_shard_size(dataset, ensembles, size):
    total = len(HORIZONS) * STATES
    shards = [
        simulate_ensembles(CONFIG, dataset, first, min(first + size, total))
        for first in range(0, total, size)
    ]
    for name, whole in ensembles.items():
        np.testing.assert_array_equal(np.concatenate([part[name] for part in shards]), whole)


def test_fewer_members_are_the_first_of_more(dataset, ensembles):
    fewer = simulate_ensembles(changed(CONFIG, "ensembles", num_members=5), dataset, 0, 6)
    np.testing.assert_array_equal(fewer["members"], ensembles["members"][:6, :5])


def test_arrays_are_what_the_schema_says(ensembles, tmp_path):
    store.write(tmp_path / "shard.h5", "ensembles", ensembles, {"first": 3, "stop": 9})
    back = store.read(tmp_path / "shard.h5", "ensembles")
    for name, values in ensembles.items():
        np.testing.assert_array_equal(back[name], values)
    assert b'"first": 3, "stop": 9' in (tmp_path / "shard.h5").read_bytes()[:512]
    empty = {name: values[:0] for name, values in ensembles.items()}
    store.write(tmp_path / "empty.h5", "ensembles", empty, {"first": 3, "stop": 9})
    assert store.read(tmp_path / "empty.h5", "ensembles")["members"].shape == (0, MEMBERS, 7)


def at(test_split, ensembles, row):
    """A state's place in the test split, its step and its horizon's steps."""
    place = int(np.flatnonzero(test_split["trajectory"] == ensembles["trajectory"][row])[0])
    return place, int(ensembles["step"][row]), round(ensembles["horizon_s"][row] / 0.1)


def observed(test_split, place, step):
    x, y, block_x, block_y, _ = test_split["observations"][place, step]
    angle = test_split["block_angle"][place, step]
    return [x, y, *test_split["agent_velocity"][place, step], block_x, block_y, angle]


def test_states_and_truths_are_the_trajectorys(test_split, ensembles):
    assert len(ensembles["step"]) == len(HORIZONS) * STATES
    for row in range(len(ensembles["step"])):
        place, step, gap = at(test_split, ensembles, row)
        assert step + gap <= test_split["length"][place]
        for name, when in (("state", step), ("truth", step + gap)):
            np.testing.assert_array_equal(
                ensembles[name][row].astype(np.float32), observed(test_split, place, when)
            )
        for name, when in (("block_velocity", step), ("truth_block_velocity", step + gap)):
            stored = test_split["block_velocity"][place, when]
            np.testing.assert_allclose(ensembles[name][row], stored, rtol=1e-6, atol=1e-11)
        np.testing.assert_array_equal(ensembles["condition"][row], test_split["condition"][place])
    places = np.stack([ensembles[name] for name in ("horizon_s", "trajectory", "step")])
    assert len(np.unique(places, axis=1).T) == places.shape[1]


def test_members_are_what_direct_simulation_gives(test_split, ensembles):
    """The whole trajectory from its start, with the member's noise from the state on."""
    simulator, pushed = Simulator(), 0
    for row in range(len(ensembles["step"])):
        place, step, gap = at(test_split, ensembles, row)
        trajectory = int(ensembles["trajectory"][row])
        random = generator(CONFIG.seed, trajectory, Stream.ENSEMBLE, step, gap)
        noise = random.normal(0.0, test_split["action_noise_std"][place], (MEMBERS, gap, 2))
        targets = test_split["targets"][place, step : step + gap]
        actions = np.clip(targets + noise, *WORKSPACE).astype(np.float32)
        before = test_split["actions"][place, :step]
        for member in (0, MEMBERS - 1):
            start(simulator, test_split, place)
            states = simulator.rollout(np.concatenate([before, actions[member]]))
            found = ensembles["members"][row, member]
            np.testing.assert_array_equal(found, states[-1].astype(np.float32))
        entered = np.array(observed(test_split, place, step))
        for name in ("members_7", "members_10"):
            simulator.enter(entered)
            end = simulator.rollout(actions[1])[-1]
            np.testing.assert_array_equal(ensembles[name][row, 1], end.astype(np.float32))
            entered = np.append(entered, test_split["block_velocity"][place, step])
        poses = states[:, STATE.block]
        pushed += bool(step and (poses[step] != poses[step - 1]).any())
    assert pushed > 5  # states in the middle of a push are among them


def test_without_noise_every_member_is_the_truth(tmp_path):
    config = changed(CONFIG, "policies", noiseless_fraction=1.0)
    config = changed(config, "ensembles", num_members=4)
    dataset = simulated(tmp_path, sample_policies(config, 0, COUNT), config) / "dataset.h5"
    found = simulate_ensembles(config, dataset, 0, 2 * STATES)
    truth = found["truth"][:, None].astype(np.float32)
    np.testing.assert_array_equal(found["members"], np.broadcast_to(truth, found["members"].shape))
    moved = truth[:, 0] != found["state"].astype(np.float32)
    moves = moved[:, STATE.block].any(axis=1)
    # Labels are made from the state as stored, in single precision.
    assert (moves == found["contact"]).mean() > 0.95


def test_half_of_the_states_have_contact(ensembles):
    for horizon in HORIZONS:
        rows = ensembles["horizon_s"] == horizon
        assert ensembles["contact"][rows].sum() == STATES // 2
        assert ensembles["weight"][rows].mean() == pytest.approx(1.0)


def test_where_there_are_fewer_states_all_are_taken_as_often_as_they_are(dataset, test_split):
    config = changed(CONFIG, "ensembles", horizons=(1.0,), num_states=1000, num_members=4)
    found = simulate_ensembles(config, dataset, 0, 1000)
    available = int(np.maximum(test_split["length"] - 10 + 1, 0).sum())
    assert 10 < len(found["step"]) == available
    assert 0 < found["contact"].sum() < available
    np.testing.assert_allclose(found["weight"], 1.0)
    places = {*zip(found["trajectory"].tolist(), found["step"].tolist(), strict=True)}
    assert len(places) == available


def test_weights_stand_for_all_states(dataset, ensembles):
    """The share of contact in a sample, weighted, is that of all states."""
    horizon, share = HORIZONS[1], {}
    config = changed(CONFIG, "ensembles", horizons=(horizon,), num_states=1000, num_members=4)
    for name, found in (("all", simulate_ensembles(config, dataset, 0, 1000)), ("some", ensembles)):
        rows = found["horizon_s"] == horizon
        contact, weight = found["contact"][rows], found["weight"][rows]
        share[name] = weight[contact].sum() / weight.sum()
    assert share["some"] == pytest.approx(share["all"], abs=0.2)
    assert share["all"] != pytest.approx(0.5, abs=0.01)


def test_truth_and_members_follow_one_law(dataset):
    config = changed(CONFIG, "ensembles", horizons=(0.3,), num_states=200, num_members=19)
    found = simulate_ensembles(config, dataset, 0, 200)
    random = np.random.default_rng(0)
    for column in range(STATE.dim):
        members, truth = found["members"][..., column], found["truth"][:, None, column]
        truth = truth.astype(np.float32)
        below, equal = (members < truth).sum(axis=1), (members == truth).sum(axis=1)
        rank = (below + random.uniform(0.0, equal + 1.0)) / 20
        assert kstest(rank, "uniform").pvalue > 1e-3


def test_a_horizon_beyond_all_trajectories_is_named(dataset):
    config = changed(CONFIG, "ensembles", horizons=(1.3,))
    with pytest.raises(UserError, match=r"no trajectory of the test split lasts 1\.3 s; lower ens"):
        simulate_ensembles(config, dataset, 0, 1)


def test_what_does_not_replay_is_refused(dataset, tmp_path):
    def weaken(file):
        file["actions"][...] *= 0.9

    changed_file(dataset, tmp_path / "other.h5", weaken, labelled=True)
    with pytest.raises(store.StoreError, match=r"other\.h5: trajectory \d+ does not replay \(off"):
        simulate_ensembles(CONFIG, tmp_path / "other.h5", 0, STATES)
