"""Exports: read back by the library that each is for, and compared with the data set."""

import contextlib
import io
import json
import os
import sys
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
from conftest import run, run_verb, simulated
from gym_pusht.envs import PushTEnv
from PIL import Image

from nsf_pipeline import why
from nsf_pipeline.cli import main
from nsf_pipeline.config import Config, DatasetConfig, ExportConfig, PolicyConfig
from nsf_pipeline.data import store
from nsf_pipeline.data.exports import FORMATS
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.statistics import SPLITS
from nsf_pipeline.pusht import keypoints
from nsf_pipeline.pusht.compat import ensure_add_collision_handler
from nsf_pipeline.pusht.recorder import Recorder

CONFIG = Config(
    num_trajectories=14,
    shard_size=14,
    policies=PolicyConfig(duration=(0.5, 1.2), mid_task_fraction=0.5),
    dataset=DatasetConfig(validation_fraction=0.2, test_fraction=0.2),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small data set; not to be changed."""
    policies = sample_policies(CONFIG, 0, CONFIG.num_trajectories)
    return simulated(tmp_path_factory.mktemp("exports"), policies, CONFIG)


@pytest.fixture(scope="module")
def physical(folder):
    """The data set's arrays in physical units, train trajectories first, as an export has them."""
    with store.reading(folder / "dataset.h5", "dataset") as file:
        split, everything = file["split"][...], slice(0, CONFIG.num_trajectories)
        order = np.argsort(split, kind="stable")
        arrays = {name: store.physical(file, name, everything)[order] for name in store.ROLLOUTS}
    return arrays | {"split": split[order]}


@pytest.fixture(scope="module")
def episodes(physical):
    """The rows of each trajectory without padding."""
    found = []
    for row, length in enumerate(physical["length"]):
        each = {name: values[row] for name, values in physical.items()}
        for name in ("observations", "agent_velocity", "block_angle", "block_velocity"):
            each[name] = each[name][: length + 1]
        for name in ("actions", "rewards"):
            each[name] = each[name][:length]
        found.append(each)
    return found


@pytest.fixture(scope="module")
def pictures(episodes):
    """What gym-pusht shows as pixels along two trajectories that start at a reset, by row."""
    ensure_add_collision_handler()
    env, found = PushTEnv(obs_type="pixels"), {}
    rows = [row for row, each in enumerate(episodes) if each["from_reset"]][:2]
    for row in rows:
        seen, _ = env.reset(seed=int(episodes[row]["seed"]))
        found[row] = np.array([seen, *(env.step(a)[0] for a in episodes[row]["actions"])])
    return found


def flat(episodes, name, rows=slice(None)):
    """Some rows of all trajectories, one after the other."""
    return np.concatenate([each[name][rows] for each in episodes])


def export(folder, tmp_path, name, *options):
    arguments = ["export", "--format", name, "--dataset", str(folder / "dataset.h5")]
    tmp_path.mkdir(exist_ok=True)
    with contextlib.chdir(tmp_path):  # the workflow gives relative paths
        assert main([*arguments, "--output", name, "--jobs", "1", *options]) == 0
    return tmp_path / name


def test_formats_are_those_of_the_settings():
    assert tuple(FORMATS) == ExportConfig().formats


def test_npz_holds_the_padded_arrays(folder, physical, tmp_path):
    output = export(folder, tmp_path, "npz", "--frames", "96")
    with np.load(output / "pusht.npz") as held:
        assert {*held.keys()} == {*physical, "frames", "conditions"} - {"condition"}
        for name, values in physical.items():
            stored = held["conditions" if name == "condition" else name]
            assert stored.dtype == values.dtype
            assert (stored == values).all(), name
        frames, length = held["frames"], physical["length"]
        assert frames.shape[1:] == (physical["observations"].shape[1], 96, 96, 3)
        for row, steps in enumerate(length):
            assert frames[row, : steps + 1].any(axis=(1, 2, 3)).all()
            assert not frames[row, steps + 1 :].any()
    metadata = json.loads((output / "pusht.meta.json").read_text())
    assert metadata["num_trajectories"] == CONFIG.num_trajectories
    assert metadata["splits"]["test"] == (physical["split"] == 2).sum()
    low = physical["actions"][physical["action_mask"]].min(axis=0)
    assert metadata["min"]["actions"] == low.tolist()


def test_minari_repeats_every_episode_to_the_bit(folder, episodes, tmp_path, monkeypatch):
    import minari

    output = export(folder, tmp_path, "minari")
    assert "MINARI_DATASETS_PATH" not in os.environ
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(output))
    held = minari.load_dataset("pusht-dmp-v0")
    assert held.total_episodes == len(episodes)
    assert held.total_steps == sum(each["length"] for each in episodes)
    env = held.recover_environment(disable_env_checker=True)
    assert env.spec.id == "nsf_pipeline/PushT-v0"
    for read, own, about in zip(
        held, episodes, held.storage.get_episode_metadata(range(len(episodes))), strict=True
    ):
        assert read.observations.dtype == np.float64
        assert (read.observations.astype(np.float32) == own["observations"]).all()
        assert (read.actions == own["actions"]).all()
        assert (read.infos["vel_agent"].astype(np.float32) == own["agent_velocity"]).all()
        assert read.terminations[-1] == own["success"] != read.truncations[-1]
        assert not (read.terminations | read.truncations)[:-1].any()
        assert about["seed"] == own["seed"]
        assert (about["condition"] == own["condition"]).all()
        options = about.get("options")
        assert (options is None) == own["from_reset"]
        seen, _ = env.reset(seed=about["seed"], options=options)
        assert (seen == read.observations[0]).all()
        for action, after, reward in zip(
            read.actions, read.observations[1:], read.rewards, strict=True
        ):
            seen, given, *_ = env.step(action)
            assert (seen == after).all()
            assert given == pytest.approx(reward, abs=1e-9)


def test_minari_shows_frames(folder, episodes, pictures, tmp_path, monkeypatch):
    import minari

    output = export(folder, tmp_path, "minari", "--frames", "96")
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(output))
    held = minari.load_dataset("pusht-dmp-v0")
    for row, frames in pictures.items():
        read = held[row].observations["pixels"]
        assert read.shape == frames.shape
        assert np.abs(read.astype(int) - frames).mean() < 4.0  # JPEG


def test_lerobot_has_the_columns_of_lerobot_pusht(folder, episodes, pictures, tmp_path):
    import pandas as pd

    output = export(folder, tmp_path, "lerobot", "--frames", "96")
    info = json.loads((output / "meta/info.json").read_text())
    count = {name: sum(each["split"] == i for each in episodes) for i, name in enumerate(SPLITS)}
    ends = np.cumsum([0, *count.values()])
    assert info["splits"] == {name: f"{ends[i]}:{ends[i + 1]}" for i, name in enumerate(SPLITS)}
    rows = pd.read_parquet(output / "data/chunk-000/file-000.parquet")
    assert {*rows.columns} | {"observation.image"} == {*info["features"]}
    assert info["total_frames"] == len(rows) == sum(each["length"] for each in episodes)
    assert (np.stack([*rows["action"]]) == flat(episodes, "actions")).all()
    agents = flat(episodes, "observations", slice(-1))[:, :2]
    assert (np.stack([*rows["observation.state"]]) == agents).all()
    assert (rows["next.reward"] == flat(episodes, "rewards")).all()
    assert rows["next.success"].sum() == sum(each["success"] for each in episodes)
    table = pd.read_parquet(output / "meta/episodes/chunk-000/file-000.parquet")
    assert table["length"].tolist() == [each["length"] for each in episodes]
    assert (table["dataset_to_index"] - table["dataset_from_index"] == table["length"]).all()
    tasks = pd.read_parquet(output / "meta/tasks.parquet")
    assert tasks["task_index"].tolist() == [0]
    statistics = json.loads((output / "meta/stats.json").read_text())
    actions = flat(episodes, "actions").astype(float)
    for name, of in (("mean", np.mean), ("std", np.std), ("min", np.min), ("max", np.max)):
        assert statistics["action"][name] == pytest.approx(of(actions, axis=0).tolist())
    assert np.shape(statistics["observation.image"]["mean"]) == (3, 1, 1)
    video = output / "videos/observation.image/chunk-000/file-000.mp4"
    frames = cv2.VideoCapture(str(video))
    shown = np.array([frames.read()[1][..., ::-1] for _ in range(len(rows))])
    assert not frames.read()[0]
    for row, expected in pictures.items():
        first = round(table["videos/observation.image/from_timestamp"][row] * info["fps"])
        read = shown[first : first + len(expected) - 1]
        assert np.abs(read.astype(int) - expected[:-1]).mean() < 4.0  # H.264


def test_lerobot_without_frames_has_the_corners_of_the_block(folder, episodes, tmp_path):
    import pandas as pd

    output = export(folder, tmp_path, "lerobot")
    rows = pd.read_parquet(output / "data/chunk-000/file-000.parquet")
    assert not (output / "videos").exists()
    env = PushTEnv(obs_type="environment_state_agent_pos")
    row = next(row for row, each in enumerate(episodes) if each["from_reset"])
    seen, _ = env.reset(seed=int(episodes[row]["seed"]))
    first = sum(each["length"] for each in episodes[:row])
    read = rows["observation.environment_state"][first]
    assert np.allclose(read, seen["environment_state"], atol=1e-3)


def test_diffusion_policy_has_the_replay_buffer_of_its_repository(
    folder, episodes, pictures, tmp_path
):
    import zarr

    output = export(folder, tmp_path, "diffusion_policy", "--frames", "96")
    held: Any = zarr.open(output / "pusht.zarr", mode="r")
    assert held.metadata.zarr_format == 2
    data, ends = held["data"], held["meta/episode_ends"][:]
    assert ends.tolist() == np.cumsum([each["length"] for each in episodes]).tolist()
    shapes = {name: array.shape[1:] for name, array in data.arrays()}
    assert shapes == {
        "img": (96, 96, 3),
        "state": (5,),
        "action": (2,),
        "keypoint": (9, 2),
        "n_contacts": (1,),
    }
    assert all(array.dtype == np.float32 for _, array in data.arrays())
    assert (data["action"][:] == flat(episodes, "actions")).all()
    state = data["state"][:]
    assert (state[:, :4] == flat(episodes, "observations", slice(-1))[:, :4]).all()
    assert (state[:, 4] == flat(episodes, "block_angle", slice(-1))).all()
    centre = data["keypoint"][:].mean(axis=1) - state[:, 2:4]
    assert np.linalg.norm(centre, axis=1).max() < 120.0
    for row, frames in pictures.items():
        stop = ends[row]
        read = data["img"][stop - len(frames) + 1 : stop]
        assert (read == frames[:-1]).all()


def test_contacts_are_counted_as_gym_pusht_counts_them(episodes):
    env, recorder = PushTEnv(), Recorder()
    moved = 0
    for own in [each for each in episodes if each["from_reset"]]:
        env.reset(seed=int(own["seed"]))
        recorder.reset(int(own["seed"]))
        found = recorder.record(own["actions"].astype(float))
        for step, action in enumerate(own["actions"]):
            env.step(action)
            assert found.contacts[step] == -(-env.n_contact_points // 10)
            moved += found.contacts[step]
    assert moved


def test_points_are_spread_over_the_block():
    points = keypoints.spread()
    apart = np.linalg.norm(points[:, None] - points, axis=-1) + 1e3 * np.eye(len(points))
    assert apart.min() > 25.0
    assert (points.min(axis=0) >= (-61, -2)).all()
    assert (points.max(axis=0) <= (62, 124)).all()


@pytest.mark.parametrize("kind", ["hdf5", "lance"])
def test_stable_worldmodel_reaches_the_same_targets(kind, folder, episodes, pictures, tmp_path):
    read = read_hdf5 if kind == "hdf5" else read_lance
    columns, decoded = read(folder, tmp_path)
    lengths = np.array([each["length"] for each in episodes]) + 1
    assert (np.bincount(columns["episode_idx"]) == lengths).all()
    starts = np.cumsum(lengths) - lengths
    assert (columns["step_idx"][starts] == 0).all()
    seen = flat(episodes, "observations")
    assert (columns["state"][:, :5] == seen).all()
    assert (columns["state"][:, 5:] == flat(episodes, "agent_velocity")).all()
    assert (columns["proprio"] == columns["state"][:, [0, 1, 5, 6]]).all()
    last = starts + lengths - 1
    assert np.isnan(columns["action"][last]).all()
    inner = np.setdiff1d(np.arange(len(seen)), last)
    targets = columns["state"][inner, :2] + 100.0 * columns["action"][inner]
    assert np.allclose(targets, flat(episodes, "actions"), rtol=0, atol=1e-4)
    assert np.isnan(columns["reward"][starts]).all()
    assert (columns["reward"][inner + 1].ravel() == flat(episodes, "rewards")).all()
    for row, frames in pictures.items():
        shown = np.array([decoded(starts[row] + step) for step in range(len(frames))])
        close = 0.0 if kind == "hdf5" else 3.0  # JPEG
        assert np.abs(shown.astype(int) - frames).mean() <= close


def read_hdf5(folder, tmp_path):
    output = export(folder, tmp_path, "stable_worldmodel", "--frames", "96")
    with h5py.File(output / "pusht.h5", "r", swmr=True) as file:
        held = {name: file[name][:] for name in file}
    assert held["ep_offset"].tolist() == (np.cumsum(held["ep_len"]) - held["ep_len"]).tolist()
    assert (held["ep_len"].dtype, held["ep_offset"].dtype) == (np.int32, np.int64)
    assert held["pixels"].dtype == np.uint8
    return held, lambda row: held["pixels"][row]


READ_LANCE = """
import sys, lance, numpy
table = lance.dataset(sys.argv[1]).to_table()
columns = {name: table[name].to_pylist() for name in table.column_names}
pixels = columns.pop("pixels")
numpy.savez(sys.argv[2], pixels=numpy.array(pixels, object).astype("S"), **columns)
"""


def read_lance(folder, tmp_path):
    """In processes of its own: once Lance is imported, it complains of every fork."""
    output, read = tmp_path / "lance", tmp_path / "read.npz"
    source = ("--dataset", folder / "dataset.h5", "--output", output)
    name = "stable_worldmodel_lance"
    done = run_verb("export", "--format", name, *source, "--frames", "96", "--jobs", "2")
    assert (done.returncode, done.stderr) == (0, "")
    done = run(sys.executable, "-c", READ_LANCE, output / "pusht.lance", read)
    assert (done.returncode, done.stderr) == (0, "")
    with np.load(read) as file:
        held = dict(file)
    # NumPy drops zeros at the end, of which a JPEG has none.
    return held, lambda row: np.array(Image.open(io.BytesIO(held["pixels"][row])))


# Once Lance is imported, it complains of every fork.
@pytest.mark.parametrize("name", [name for name in FORMATS if not name.endswith("lance")])
def test_a_relative_folder_is_made_as_any_other(name, folder, tmp_path, monkeypatch):
    """As the workflow names it."""
    monkeypatch.chdir(tmp_path)
    arguments = ["--dataset", str(folder / "dataset.h5"), "--split", "test", "--jobs", "1"]
    assert main(["export", "--format", name, "--output", name, *arguments]) == 0
    assert os.listdir(tmp_path) == [name]


def test_an_export_holds_what_was_chosen(folder, physical, tmp_path):
    chosen = ("--split", "test", "--split", "validation", "--contact-only")
    output = export(folder, tmp_path, "npz", *chosen)
    block = np.concatenate(
        [physical["observations"][..., 2:4], physical["block_angle"][..., None]], axis=-1
    )
    moved = ((np.diff(block, axis=1) != 0).any(axis=-1) & physical["action_mask"]).any(axis=1)
    expected = [
        physical["trajectory"][(physical["split"] == split) & moved].tolist() for split in (2, 1)
    ]
    with np.load(output / "pusht.npz") as held:
        assert held["trajectory"].tolist() == [*expected[0], *expected[1]]
    receipt = json.loads((output / "nsf_pipeline.json").read_text())
    assert receipt["export"]["trajectories"] == len(expected[0]) + len(expected[1])


# By case: other settings of the exports, and what `nsf why` says.
OTHERWISE: dict[str, tuple[dict[str, Any], list[str]]] = {
    "the same": ({}, []),
    "size": ({"frames": 224}, ["exports.frames was 0, is 224"]),
    "splits": (
        {"splits": ("test",)},
        ['exports.splits was ["train", "validation", "test"], is ["test"]'],
    ),
    "left out": ({"formats": ("minari",)}, ["exports.formats leaves npz out"]),
}


def test_an_export_says_when_the_settings_ask_for_another(folder, tmp_path):
    """As the workflow, which makes it anew then."""
    receipt = export(folder, tmp_path / "exports", "npz") / "nsf_pipeline.json"
    for changes, said in OTHERWISE.values():
        asked = ExportConfig.model_validate({"frames": 0} | changes)
        config = CONFIG.model_copy(update={"exports": asked})
        assert why.judge(config, receipt, why.fields_of(receipt)) == said
    # The receipt is no proof that the export is still there.
    receipt.with_name("pusht.npz").unlink()
    config = CONFIG.model_copy(update={"exports": ExportConfig(frames=0)})
    (lost,) = why.judge(config, receipt, why.fields_of(receipt))
    assert "bytes of the" in lost


# By case: options that are refused, and the line.
REFUSED = {
    "no such format": (["--format", "zip"], "--format zip: no such format; expected one of npz"),
    "an existing folder": (["--output", "."], ".: there is something of that name; name a new"),
    "a folder below a file": (["--output", "file/x"], "file: cannot make this folder"),
    "no such split": (["--split", "all"], "--split all: expected train, validation or test"),
    "a split twice": (["--split", "test", "--split", "test"], "--split test: expected train"),
    "no such size": (["--frames", "100"], "--frames 100: expected 0, 96 or 224"),
    "no data set": (["--dataset", "none.h5"], "none.h5: no such file; expected the HDF5 file"),
    "nothing left": (["--successes-only"], "expected at least one trajectory to export, found"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_leaves_nothing_behind(case, folder, tmp_path, monkeypatch, capsys):
    options, line = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    given = {"--format": "npz", "--dataset": str(folder / "dataset.h5"), "--output": "new"}
    usual = [each for name, value in given.items() if name not in options for each in (name, value)]
    assert main(["export", *usual, *options]) == 1
    printed = capsys.readouterr().err
    assert line in printed
    assert printed.count("\n") == 1
    assert os.listdir(tmp_path) == ["file"]


def test_a_missing_library_is_named(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(
        FORMATS, "npz", FORMATS["npz"]._replace(needs=(("not_there", "not-there"),))
    )
    arguments = ["--dataset", str(folder / "dataset.h5"), "--output", str(tmp_path / "new")]
    assert main(["export", "--format", "npz", *arguments]) == 1
    assert "the format npz needs not-there, not installed here" in capsys.readouterr().err
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), RuntimeError("write: errno = 28")], ids=type
)
def test_a_full_disk_leaves_nothing_half_written(error, folder, tmp_path, monkeypatch, capsys):
    def write(source, beside):
        (beside / "half").write_text("written")
        raise error

    monkeypatch.setitem(FORMATS, "npz", FORMATS["npz"]._replace(write=write))
    arguments = ["--dataset", str(folder / "dataset.h5"), "--output", str(tmp_path / "new")]
    assert main(["export", "--format", "npz", *arguments]) == 1
    printed = capsys.readouterr().err
    assert "cannot write it" in printed
    assert printed.count("\n") == 1
    assert not os.listdir(tmp_path)
