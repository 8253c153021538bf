"""Imports: what an export held comes back, and what is no demonstration is refused."""

import csv
import json
import shutil
from typing import Any

import numpy as np
import pytest
from conftest import simulated

from nsf_pipeline import dmp
from nsf_pipeline.cli import main
from nsf_pipeline.config import Config, DMPConfig, PolicyConfig, TrainingConfig, load_config
from nsf_pipeline.data import store
from nsf_pipeline.data.imports import Demonstration, demonstrations
from nsf_pipeline.data.imports.fit import fitted
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.policy_file import params_of
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE

CONFIG = Config(
    num_trajectories=12,
    shard_size=12,
    policies=PolicyConfig(duration=(0.8, 3.6), mid_task_fraction=0.5, noiseless_fraction=0.5),
    training=TrainingConfig(batch_size=16),
)
SETTINGS = json.dumps(CONFIG.model_dump(mode="json"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set, its exports, and what is imported from them; not to be changed."""
    folder = tmp_path_factory.mktemp("imports")
    simulated(folder, sample_policies(CONFIG, 0, 12), CONFIG)
    for name, place in (("diffusion_policy", "pusht.zarr"), ("minari", "pusht-dmp-v0")):
        source = ["--dataset", str(folder / "dataset.h5"), "--output", str(folder / name)]
        assert main(["export", "--format", name, "--jobs", "1", *source]) == 0
        output = ["--output", str(folder / f"from_{name}"), "--config", SETTINGS]
        assert main(["import", str(folder / name / place), *output]) == 0
    return folder


@pytest.fixture(scope="module")
def original(folder):
    """The data set's rollouts in the order of an export."""
    rollouts = store.read(folder / "00000.h5", "rollouts")
    split = store.read(folder / "dataset.h5", "dataset", ("split",))["split"]
    order = np.argsort(split, kind="stable")
    return {name: values[order] for name, values in rollouts.items()}


def stretches(folder):
    with (folder / "stretches.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", ["diffusion_policy", "minari"])
def test_what_was_exported_comes_back(name, folder, original):
    """Recorded actions, to the bit; states, as the replay gives them, near the original."""
    imported = folder / f"from_{name}"
    rows = [row for row in stretches(imported) if row["became"] != "left out"]
    rollouts = store.read(imported / "rollouts.h5", "rollouts")
    assert len(rows) == len(rollouts["length"])
    # A replay that starts from what is recorded can lose contacts that were there.
    assert len({row["episode"] for row in rows}) >= 10
    for row, length in enumerate(rollouts["length"]):
        first, episode = int(rows[row]["first_step"]), int(rows[row]["episode"])
        own = slice(first, first + length)
        assert length == int(rows[row]["steps"]) or rollouts["success"][row]
        assert (rollouts["actions"][row, :length] == original["actions"][episode, own]).all()
        found = rollouts["observations"][row, :length]
        assert np.abs(found - original["observations"][episode, own])[:, :4].max() < 2.0
        # The velocity, which neither format needs to hold, follows from the agent's path.
        velocity = original["agent_velocity"][episode, first]
        assert rollouts["agent_velocity"][row, 0] == pytest.approx(velocity, abs=0.1)


@pytest.mark.parametrize("name", ["diffusion_policy", "minari"])
def test_policies_are_found_again(name, folder, original):
    """Where there was no noise, the DMP's path is the one that was executed."""
    rows = stretches(folder / f"from_{name}")
    policies = store.read(folder / f"from_{name}" / "policies.h5", "policies")
    kept = [row for row in rows if row["became"] == "policy"]
    noiseless = 0
    for number, row in enumerate(kept):
        episode = int(row["episode"])
        assert policies["action_noise_std"][number] <= 8.0
        if original["action_noise_std"][episode] or original["length"][episode] != int(
            row["steps"]
        ):
            continue
        noiseless += 1
        params = DMPParams.from_vector(policies["condition"][number])
        path = dmp.targets(params, CONFIG.dmp, int(row["steps"]))
        executed = original["actions"][episode, : len(path)]
        assert np.abs(path - executed).max() < 6.0
        assert np.sqrt(np.square(path - executed).mean()) < 2.0
    assert noiseless >= 2


def test_the_data_set_can_be_trained_on(folder):
    """Settings and files agree, as every stage that reads them checks."""
    imported = folder / "from_minari"
    settings = load_config(str(imported / "settings.yaml"))
    with store.reading(imported / "dataset.h5", "dataset") as file:
        assert store.record_of(file).changes(settings) == []
        assert len(file["trajectory"]) == settings.num_trajectories


def test_policies_can_be_given_to_a_run(folder):
    """The settings beside them name them, and sampling then begins with them."""
    imported = folder / "from_minari"
    given = load_config(str(imported / "given.yaml")).policies.given
    shard = store.read(imported / "policies.h5", "policies")
    assert len(given) == len(shard["trajectory"])
    first: Any = given[0]
    assert params_of(first.policy).as_vector() == pytest.approx(shard["condition"][0])
    assert first.state == pytest.approx(shard["initial_state"][0])


def test_a_path_that_a_dmp_makes_is_fitted():
    random = np.random.default_rng(0)
    config = DMPConfig()
    for _ in range(5):
        params = DMPParams(
            duration=np.array(2.0),
            start=random.uniform(100, 400, 2),
            goal=random.uniform(100, 400, 2),
            weights=random.uniform(-0.5, 0.5, (2, config.n_basis)),
            stiffness=np.array(50.0),
            damping=np.array(2 * 50**0.5),
            action_noise_std=np.array(0.0),
        )
        targets = dmp.targets(params, config, 20)
        found, path = fitted(params.start, targets, config, 50.0, 2 * 50**0.5)
        assert np.abs(path - targets).max() < 3.0
        assert found.action_noise_std < 1.0
        noisy = targets + random.normal(0.0, 8.0, targets.shape)
        assert (
            4.0 < fitted(params.start, noisy, config, 50.0, 2 * 50**0.5)[0].action_noise_std < 9.0
        )


def test_what_does_not_replay_is_told_and_left_out(tmp_path, capsys):
    """An episode in which the block moves by itself, among two that the simulator made."""
    episodes = [recorded(seed) for seed in (3, 4, 5)]
    episodes[1][0][:, 2] += np.linspace(0.0, 30.0, len(episodes[1][0]))
    write_buffer(tmp_path / "demos.zarr", episodes)
    output = ["--output", str(tmp_path / "out"), "--config", SETTINGS]
    assert main(["import", str(tmp_path / "demos.zarr"), *output, "--most-residual", "1000"]) == 0
    rows = stretches(tmp_path / "out")
    assert [row["became"] for row in rows] == ["policy", "left out", "policy"]
    assert float(rows[1]["replay_error_px"]) > 2.0
    assert "1 stretches left out, which do not replay to within 2 px" in capsys.readouterr().out


def test_the_settings_of_a_few_stretches_can_be_used(tmp_path):
    """The defaults, whose batches and videos are for more data, and policies that last longer."""
    write_buffer(tmp_path / "demos.zarr", [recorded(seed) for seed in (3, 5)])
    out, config = tmp_path / "out", "policies: {duration: [0.8, 4.2]}\n"
    (tmp_path / "my.yaml").write_text(config)
    source = ["import", str(tmp_path / "demos.zarr"), "--output", str(out)]
    assert main([*source, "--config", str(tmp_path / "my.yaml"), "--most-residual", "1000"]) == 0
    settings = load_config(str(out / "settings.yaml"))
    assert settings.num_trajectories == 2
    assert settings.training.batch_size < TrainingConfig().batch_size
    with store.reading(out / "dataset.h5", "dataset") as file:
        assert store.record_of(file).changes(settings) == []
    assert load_config(str(out / "given.yaml")).policies.duration == (0.8, 4.2)


def test_settings_of_another_scene_are_refused(tmp_path, capsys):
    write_buffer(tmp_path / "demos.zarr", [recorded(3)])
    scene = json.dumps({"policies": {"scene": {"block_scale": [0.8, 1.2]}}})
    line = "policies.scene: demonstrations are replayed in gym-pusht's scene"
    refused(tmp_path, capsys, line, tmp_path / "demos.zarr", "--config", scene)


def recorded(seed):
    """States (11, 5) and actions (10, 2) of the simulator's."""
    simulator, random = Simulator(), np.random.default_rng(seed)
    start = simulator.reset(seed)
    actions = (start[STATE.agent] + random.normal(0.0, 20.0, (10, 2)).cumsum(axis=0)).clip(30, 480)
    actions = actions.astype(np.float32).astype(float)
    states = simulator.rollout(actions)
    return states[:, STATE.columns(("agent_x", "agent_y", "block_x", "block_y", "block_angle"))], (
        actions
    )


def write_buffer(path, episodes, **changes):
    """A replay buffer; the last state of an episode is not in it."""
    import zarr

    group = zarr.open_group(path, mode="w", zarr_format=2)
    arrays = {
        "data/state": np.concatenate([states[:-1] for states, _ in episodes]).astype(np.float32),
        "data/action": np.concatenate([actions for _, actions in episodes]).astype(np.float32),
        "meta/episode_ends": np.cumsum([len(actions) for _, actions in episodes]),
    }
    for name, values in (arrays | changes).items():
        if values is not None:
            group.create_array(name, data=values)


# By case: what is changed in a sound replay buffer, and the line.
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no states": ({"data/state": None}, "not a replay buffer of diffusion-policy"),
    "ends that fall": ({"meta/episode_ends": np.array([9, 3])}, "meta/episode_ends: expected"),
    "ends beyond the rows": ({"meta/episode_ends": np.array([99])}, "meta/episode_ends: expected"),
    "states of seven": ({"data/state": np.zeros((10, 7))}, "episode 0: expected states (n, 5)"),
    "actions of three": ({"data/action": np.zeros((10, 3))}, "episode 0: expected actions (n, 2)"),
    "NaN": ({"data/action": np.full((10, 2), np.nan)}, "a number in its actions is not finite"),
    "text": ({"data/state": np.full((10, 5), "a")}, "episode 0 cannot be read"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_buffer_that_means_nothing_is_refused(case, tmp_path, capsys):
    changes, line = BAD[case]
    write_buffer(tmp_path / "demos.zarr", [recorded(3)], **changes)
    refused(tmp_path, capsys, line, tmp_path / "demos.zarr")


def refused(tmp_path, capsys, line, source, *options):
    before = {path.name for path in tmp_path.iterdir()}
    output = ["--output", str(tmp_path / "out"), "--config", SETTINGS]
    assert main(["import", str(source), *output, *options]) == 1
    printed = capsys.readouterr().err
    assert line in printed
    assert printed.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == before


def test_a_damaged_minari_data_set_is_refused(folder, tmp_path, capsys):
    source = tmp_path / "damaged"
    shutil.copytree(folder / "minari" / "pusht-dmp-v0", source)
    (source / "data" / "main_data.hdf5").write_bytes(b"no HDF5")
    refused(tmp_path, capsys, "not a Minari data set of PushT", source)


def test_other_folders_and_hopeless_tolerances_are_refused(folder, tmp_path, capsys):
    expected = "expected a Minari data set or a replay buffer of diffusion-policy, found neither"
    refused(tmp_path, capsys, expected, tmp_path)
    source = folder / "diffusion_policy" / "pusht.zarr"
    shifted = [recorded(3)]
    shifted[0][0][:, 2] += np.linspace(0.0, 60.0, 11)
    write_buffer(tmp_path / "demos.zarr", shifted)
    refused(tmp_path, capsys, "steps replays to within 2 px (the nearest:", tmp_path / "demos.zarr")
    write_buffer(
        tmp_path / "short.zarr", [(states[:4], actions[:3]) for states, actions in shifted]
    )
    refused(tmp_path, capsys, "demonstrations of at least 5 steps", tmp_path / "short.zarr")
    assert [each.number for each in demonstrations(source)] == [*range(12)]
    assert isinstance(next(demonstrations(source)), Demonstration)
