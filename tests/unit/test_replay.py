"""Replay: it reproduces what is stored, and finds numbers that were changed."""

import tracemalloc

import numpy as np
import pytest

from nsf_pipeline.cli import main
from nsf_pipeline.config import Config, PolicyConfig
from nsf_pipeline.data import store
from nsf_pipeline.data.merge import merge
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.replay import COMPARED, replay
from nsf_pipeline.data.rollouts import simulate
from nsf_pipeline.provenance import Record, versions
from nsf_pipeline.pusht import geometry
from nsf_pipeline.pusht.state import STATE, STATE_WITHOUT_VELOCITY
from nsf_pipeline.stages import STAGES

COUNT, SHARD = 60, 30
CONFIG = Config(
    num_trajectories=COUNT, shard_size=SHARD, policies=PolicyConfig(duration=(0.5, 2.0))
)
# A change of one number, for each array: where, and by how much it is then off.
STEP = {"observations": (3, 2), "agent_velocity": (3, 1), "block_angle": (3,), "coverage": (3,)}
STEP |= {"block_velocity": (3, 2), "rewards": (3,), "success": ()}


def policies(first, stop):
    """Every third trajectory starts in mid-task, with the agent moving."""
    arrays = sample_policies(CONFIG, first, stop)
    for row in range(0, stop - first, 3):
        random = np.random.default_rng(first + row)
        arrays["from_reset"][row] = False
        state = arrays["initial_state"][row]
        state[STATE.velocity] = random.normal(0.0, 50.0, 2).round(6)
        state[STATE.block_position] += random.normal(0.0, 20.0, 2).round(6)
        state[STATE.angle] = round(random.uniform(-7.0, 7.0), 6)
    return arrays


def written(path, arrays, **attributes):
    made = Record.new(STAGES["rollouts"], CONFIG).fields()
    store.write(path, "rollouts", arrays, made | {"dt": 0.1} | attributes)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two shards and their data set; not to be changed."""
    folder = tmp_path_factory.mktemp("replay")
    shards = [
        written(folder / f"{shard}.h5", simulate(CONFIG, policies(first, first + SHARD)))
        for shard, first in enumerate(range(0, COUNT, SHARD))
    ]
    merge(
        shards,
        CONFIG,
        STAGES["dataset"],
        output=folder / "dataset.h5",
        metadata_output=folder / "dataset.meta.json",
    )
    return folder


@pytest.fixture(scope="module")
def rollouts(folder):
    return store.read(folder / "0.h5", "rollouts")


@pytest.mark.parametrize("names", [("0.h5", "1.h5"), ("dataset.h5",)], ids=["shards", "data set"])
def test_what_is_stored_replays_bit_for_bit(folder, capsys, names):
    paths = [folder / name for name in names]
    report = replay(paths)
    assert (report.trajectories, report.differing, report.largest) == (COUNT, 0, {})
    lengths = store.read(folder / "dataset.h5", "dataset", ("length",))["length"]
    assert report.steps == lengths.sum()
    assert main(["replay", *map(str, paths), "--verify"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    for name in COMPARED:
        assert [name, "0"] in [line.split() for line in printed.out.splitlines()]
    assert f"{COUNT} trajectories, {report.steps} steps, 0 trajectories differ" in printed.out


def test_starts_of_both_kinds_move_the_block(folder, rollouts):
    """Otherwise the test above could not find an error in them."""
    assert 0 < rollouts["from_reset"].sum() < SHARD
    for kind in (True, False):
        rows = rollouts["from_reset"] == kind
        poses = rollouts["observations"][rows, :4, STATE_WITHOUT_VELOCITY.block_position]
        assert np.ptp(poses, axis=1).any()


@pytest.mark.parametrize("name", STEP)
def test_a_changed_number_is_found_where_it_is(folder, rollouts, tmp_path, capsys, name):
    row, place = 17, STEP[name]
    arrays = {key: values.copy() for key, values in rollouts.items()}
    before = arrays[name][(row, *place)]
    if name == "success":
        after, size = not before, 1.0
    else:
        after = np.nextafter(before, np.float32(np.inf))
        size = float(after) - float(before)
    arrays[name][(row, *place)] = after
    path = written(tmp_path / "changed.h5", arrays, versions=versions())
    report = replay([folder / "1.h5", path])
    found = report.largest[name]
    assert (found.trajectory, found.step, found.path) == (row, *(place[:1] or (None,)), path)
    assert found.size == size
    assert report.differing == 1
    assert report.largest.keys() == {name}
    arguments = ["replay", str(folder / "1.h5"), str(path)]
    assert main(arguments) == 0
    assert f"{found}" in capsys.readouterr().out
    assert main([*arguments, "--verify"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"nsf_pipeline: 1 of {COUNT} trajectories do not replay: {name} differs")
    assert str(path) in line
    assert "altered since, or made where arithmetic differs" in line


def test_a_data_set_is_compared_in_physical_units(folder, tmp_path):
    arrays = store.read(folder / "dataset.h5", "dataset")
    with store.reading(folder / "dataset.h5", "dataset") as file:
        attributes = {name: file.attrs[name] for name in ("metadata", "versions")}
        low, high = store.bounds_of(file, "observations")
    arrays["observations"][40, 5, 3] += 1e-3
    store.write(tmp_path / "dataset.h5", "dataset", arrays, attributes)
    report = replay([tmp_path / "dataset.h5"])
    assert report.largest.keys() == {"observations"}
    found = report.largest["observations"]
    assert (found.trajectory, found.step) == (40, 5)
    assert found.size == pytest.approx(1e-3 * (high - low)[3] / 2)


@pytest.mark.parametrize("change", [-1, 1])
def test_a_changed_length_shows_in_what_lies_beyond_it(rollouts, tmp_path, change):
    length = rollouts["length"].copy()
    row = length.argmin()
    length[row] += change
    arrays = rollouts | {
        "length": length,
        "action_mask": np.arange(rollouts["action_mask"].shape[1]) < length[:, None],
        "observation_mask": np.arange(rollouts["observation_mask"].shape[1]) <= length[:, None],
    }
    report = replay([written(tmp_path / "changed.h5", arrays)])
    assert report.differing == 1
    found = report.largest["observations"]
    assert (found.trajectory, found.step) == (row, rollouts["length"][row] + max(change, 0))


def test_other_actions_lead_elsewhere(rollouts, tmp_path):
    """The replay depends on the stored actions, not on the other arrays."""
    arrays = {key: values.copy() for key, values in rollouts.items()}
    arrays["actions"][5, 0] += 30.0
    report = replay([written(tmp_path / "changed.h5", arrays)])
    found = report.largest["observations"]
    assert (report.differing, found.trajectory) == (1, 5)
    assert found.size > 1.0


def test_a_file_made_by_other_versions_says_so(rollouts, tmp_path, capsys):
    arrays = rollouts | {"coverage": rollouts["coverage"] + np.float32(0.5)}
    made_with = versions() | {"pymunk": "5.0"}
    path = written(tmp_path / "old.h5", arrays, versions=made_with)
    assert main(["replay", str(path)]) == 0
    assert main(["replay", str(path), "--verify"]) == 1
    line = capsys.readouterr().err
    assert f"made with pymunk 5.0 (here {versions()['pymunk']})" in line


UNFIT = {
    "length": (4, 1000),
    "seed": (4, -1),
    "actions": ((4, 0), np.nan),
    "initial_state": ((4, 0), np.inf),
    "rewards": ((2, 1), np.nan),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_cannot_be_simulated_is_one_line(rollouts, tmp_path, name, capsys):
    place, value = UNFIT[name]
    arrays = rollouts | {name: rollouts[name].copy()}
    arrays[name][place] = value
    path = written(tmp_path / "unfit.h5", arrays)
    assert main(["replay", str(path)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"nsf_pipeline: {path}: expected '{name}' of ")


def test_a_success_ends_its_replay_too(monkeypatch, tmp_path):
    """With an easier threshold, since few random policies reach the real one."""
    highest = simulate(CONFIG, policies(0, SHARD))["coverage"].max(axis=1)
    monkeypatch.setattr(geometry, "SUCCESS_THRESHOLD", np.sort(highest)[-5])
    arrays = simulate(CONFIG, policies(0, SHARD))
    assert arrays["success"].sum() == 4
    assert replay([written(tmp_path / "0.h5", arrays)]).differing == 0


def test_memory_does_not_grow_with_the_number_of_trajectories(rollouts, tmp_path, monkeypatch):
    monkeypatch.setattr(store, "BLOCK", SHARD)

    def longer(name, values):
        """With more room past the length, so that what is stored outweighs the simulator."""
        room = [(0, 0)] * values.ndim
        if store.MASKS.keys() & store.ROLLOUTS[name].axes:
            room[1] = (0, 500)
        return np.pad(values, room)

    config = Record.new(STAGES["rollouts"], CONFIG).settings
    config = config | {"policies": config["policies"] | {"duration": [0.5, 52.0]}}

    rollouts = {name: longer(name, values) for name, values in rollouts.items()}

    def peak(times):
        arrays = {name: np.concatenate([values] * times) for name, values in rollouts.items()}
        arrays["trajectory"] = np.arange(times * SHARD)
        path = written(tmp_path / f"{times}.h5", arrays, config=config)
        replay([path])  # a first time, for what stays in memory in any case
        tracemalloc.start()
        assert replay([path]).trajectories == times * SHARD
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    size = sum(values.nbytes for values in rollouts.values())
    assert peak(4) < peak(1) + size
