"""A data set of several files: the same numbers as one file, and files that do not belong to it."""

import json
import os
import resource
import shutil
from itertools import permutations

import h5py
import jax
import numpy as np
import pytest
from conftest import flip
from test_merge import CONFIG as UNDIVIDED
from test_merge import merged, with_shards

from nsf_pipeline import paths, why
from nsf_pipeline.config import Config, RuntimeConfig
from nsf_pipeline.data import store, streaming
from nsf_pipeline.data.merge import split_of
from nsf_pipeline.data.picture import summarise
from nsf_pipeline.data.recording import one_trajectory
from nsf_pipeline.data.sources import sources
from nsf_pipeline.data.statistics import Statistics, read_statistics, write_statistics
from nsf_pipeline.data.streaming import StreamedTransitions
from nsf_pipeline.data.transitions import load_trajectories
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import FileError
from nsf_pipeline.provenance import Record
from nsf_pipeline.stages import STATISTICS
from nsf_pipeline.stages import dataset as stage

UNDIVIDED = UNDIVIDED.model_copy(update={"shard_size": 10})
DATASET = UNDIVIDED.dataset.model_copy(update={"trajectories_per_file": 20})
CONFIG = UNDIVIDED.model_copy(update={"dataset": DATASET})  # three files, the last of 10
PARTS = range(3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The data set as one file, and as several; not to be changed."""
    folder = tmp_path_factory.mktemp("parts")
    shards = with_shards(folder / "rollouts", UNDIVIDED)
    for name, config in (("one", UNDIVIDED), ("several", CONFIG)):
        (folder / name).mkdir()
        merged(shards, folder / name, config)
    return folder


@pytest.fixture
def several(folder, tmp_path):
    """A copy of the data set of several files, to be changed: the path of its index."""
    shutil.copytree(folder / "several", tmp_path / "moved")
    return tmp_path / "moved/dataset.h5"


def metadata_of(folder):
    return json.loads((folder / "dataset.meta.json").read_text())


def part_of(index, number):
    return paths.shard_in(store.folder_of(index), number)


def test_several_files_hold_what_one_does(folder, several):
    expected = store.read(folder / "one/dataset.h5", "dataset")
    for name, values in store.read(several, "dataset").items():
        assert values.dtype == expected[name].dtype
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    with h5py.File(several) as file:  # as other programs read it, here in a folder that was moved
        assert file.keys() == expected.keys()
        for name, values in expected.items():
            np.testing.assert_array_equal(file[name][...], values, err_msg=name)
            assert file[name].attrs["unit"] == store.DATASET[name].unit
    one, divided = metadata_of(folder / "one"), metadata_of(several.parent)
    assert {name for name in one if one[name] != divided[name]} == {"config", "fingerprint"}
    with store.reading(several, "dataset") as file:
        assert json.loads(file.attrs["metadata"]) == divided
        assert store.record_of(file).fingerprint == divided["fingerprint"]
        np.testing.assert_array_equal(file["actions"][13:47], expected["actions"][13:47])
        assert file["actions"][30:30].shape == (0, *expected["actions"].shape[1:])


def test_many_jobs_write_the_bytes_of_one(folder, several, tmp_path):
    metadata, index = tmp_path / "dataset.meta.json", tmp_path / "dataset.h5"
    for number in PARTS:
        span = CONFIG.parts.shard_range(number)
        output = tmp_path / f"statistics/{number:05d}.jsonl"
        stage.statistics(CONFIG, folder / "rollouts", *span, output)
        assert not why.judge(CONFIG, output, why.fields_of(output, whole=True))
    stage.metadata(CONFIG, tmp_path / "statistics", metadata)
    for number in PARTS:
        stage.part(CONFIG, folder / "rollouts", metadata, number, part_of(index, number))
    stage.index(CONFIG, index)
    made = why.made_in(tmp_path)
    assert [path.name for path in made] == [
        *(f"{number:05d}.{ending}" for ending in ("jsonl", "h5") for number in PARTS),
        *("dataset.h5", "dataset.meta.json"),
    ]
    for path in made:
        assert not why.judge(CONFIG, path, why.fields_of(path, whole=True))
        if path.suffix != ".jsonl":
            other = several.parent / path.relative_to(tmp_path)
            assert path.read_bytes() == other.read_bytes(), path
    wider = CONFIG.model_copy(update={"num_trajectories": 60})
    (found,) = why.judge(wider, made[2], why.fields_of(made[2]))
    assert found == "holds trajectories 40 to 49, expected 40 to 59"


@pytest.mark.parametrize("memory", [0, 1000], ids=["streamed", "in memory"])
def test_batches_are_the_same_to_the_bit(folder, several, memory, monkeypatch):
    monkeypatch.setattr(streaming, "MOST_OPEN", 2)  # fewer than there are files
    config = Config(runtime=RuntimeConfig(data_memory=memory))
    keys = jax.random.split(jax.random.key(0), 5)
    batches = []
    for dataset in (folder / "one/dataset.h5", several):
        with store.reading(dataset, "dataset") as file:
            both = sources(config, dataset, file)
        assert isinstance(both[0], StreamedTransitions) == (not memory)
        batches.append(
            [
                leaf
                for source in both
                for found in (source.sample(keys[0], 300), source.batches(keys, 64))
                for leaf in jax.tree.leaves(found)
            ]
        )
    for one, divided in zip(*batches, strict=True):
        np.testing.assert_array_equal(one, divided)


def test_what_else_reads_a_data_set_reads_several_files(folder, several):
    found = []
    for dataset in (folder / "one/dataset.h5", several):
        with store.reading(dataset, "dataset") as file:
            summary = summarise(file)
            found.append(
                [
                    *load_trajectories(dataset, 2, 7),
                    *(one_trajectory(dataset, file, which)["actions"] for which in (45, "best")),
                    *(store.physical(file, name, slice(15, 45)) for name in store.ROLLOUTS),
                    *(summary.coverage, *summary.moved.values(), *summary.sample.agent),
                ]
            )
            assert "fingerprint" in store.origin(dataset, file)
    for one, divided in zip(*found, strict=True):
        np.testing.assert_array_equal(one, divided)


def test_no_more_files_are_open_than_allowed(folder, tmp_path):
    config = CONFIG.model_copy(
        update={
            "shard_size": 1,
            "dataset": DATASET.model_copy(update={"trajectories_per_file": 1}),
        }
    )
    shards = with_shards(tmp_path / "rollouts", config)
    merged(shards, tmp_path, config)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    path, before = tmp_path / "dataset.h5", len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (before + 30, limits[1]))
    try:
        with store.reading(path, "dataset") as file:
            source = StreamedTransitions(path, file, np.arange(50), 7, 1.0)
        batch = source.sample(jax.random.key(0), 2000)
        held = len(os.listdir("/proc/self/fd")) - before
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert held <= (before + 30) // 4
    assert np.isfinite(batch.x_init).all()


def replaced(index, number):
    """Put a file in place of another one while both are read."""
    part = part_of(index, number)
    shutil.copy(part_of(index, 0), part.with_suffix(".new"))
    os.replace(part.with_suffix(".new"), part)


def swapped(index):
    first, second = part_of(index, 0), part_of(index, 1)
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


def of_another_run(index):
    """A file of the same trajectories, whose other split changed the bounds."""
    other = DATASET.model_copy(update={"test_fraction": 0.1})
    config = CONFIG.model_copy(update={"dataset": other})
    folder = index.parent / "other"
    shards = with_shards(folder / "rollouts", config)
    merged(shards, folder, config)
    shutil.copy(part_of(folder / "dataset.h5", 1), part_of(index, 1))


def in_place(index, what):
    part = part_of(index, 1)
    part.unlink()
    what(part)


# What happens to a file of the data set, which one is named, and the message.
UNFIT = {
    "missing": (lambda index: part_of(index, 1).unlink(), 1, "no such file, but the data set's in"),
    "the last one missing": (lambda index: part_of(index, 2).unlink(), 2, "no such file"),
    "all missing": (lambda index: shutil.rmtree(store.folder_of(index)), 0, "no such file"),
    "truncated": (lambda index: os.truncate(part_of(index, 1), 9000), 1, "truncated or damaged"),
    "empty": (lambda index: os.truncate(part_of(index, 1), 0), 1, "truncated or damaged"),
    "longer": (
        lambda index: os.truncate(part_of(index, 1), 10**6),
        1,
        "truncated or damaged",
    ),
    "a text": (lambda index: part_of(index, 1).write_text("x" * 9000), 1, "truncated or damaged"),
    "a folder": (lambda index: in_place(index, os.mkdir), 1, "Is a directory"),
    "a FIFO": (lambda index: in_place(index, os.mkfifo), 1, "expected a file, got a FIFO"),
    "without a label": (
        lambda index: in_place(index, lambda path: h5py.File(path, "w").close()),
        1,
        "not the file that the index names: expected",
    ),
    "swapped": (swapped, 0, "not the file that the index names: expected first 0, got 20"),
    "the same one twice": (lambda index: replaced(index, 1), 1, "expected first 20, got 0"),
    "of another run": (of_another_run, 1, "not the file that the index names: expected fingerpr"),
    "a rollout shard": (
        lambda index: shutil.copy(index.parents[1] / "shard.h5", part_of(index, 1)),
        1,
        "expected format nsf_pipeline dataset, got nsf_pipeline rollouts",
    ),
    # Only reading all of it shows this.
    "one bit": (lambda index: flip(part_of(index, 1)), 1, "does not match its checksum"),
}


def read_through(index, *, opens):
    """Read an array of the first file, which is sound, and then of all."""
    with store.reading(index, "dataset") as file:
        assert opens
        assert file["length"][:20].shape == (20,)
        assert file["length"][...].all()


@pytest.mark.parametrize("case", UNFIT)
def test_a_file_that_does_not_belong_is_named_in_one_line(case, folder, several):
    spoil, number, message = UNFIT[case]
    shutil.copy(folder / "rollouts/00000.h5", several.parents[1] / "shard.h5")
    spoil(several)
    only_when_read = "checksum" in message
    with pytest.raises(FileError) as caught:
        read_through(several, opens=only_when_read)
    part = part_of(several, number)
    assert str(caught.value).startswith(f"{part}: ")
    assert message in str(caught.value)
    assert f"snakemake --cores 1 --force {part} " in str(caught.value)
    assert "\n" not in str(caught.value)
    line, *_ = why.describe(CONFIG, [several])
    assert line.startswith("up to date" if only_when_read else f"{several}: {part}: ")
    line, *_ = why.describe(CONFIG, [part], whole=True) if part.is_file() else [str(part)]
    assert line.startswith(str(part)) or case in ("swapped", "the same one twice")


def test_a_file_that_is_replaced_while_rows_are_read_is_named(several, monkeypatch):
    monkeypatch.setattr(streaming, "MOST_OPEN", 1)
    with store.reading(several, "dataset") as file:
        source = StreamedTransitions(several, file, np.arange(50), 7, 1.0)
    replaced(several, 1)
    with pytest.raises(FileError, match="another file was put in its place while it was read"):
        source.sample(jax.random.key(0), 500)


def test_a_file_of_a_data_set_is_none(several):
    with (
        pytest.raises(FileError, match="is one file of a data set of several; name the data set's"),
        store.reading(part_of(several, 0), "dataset"),
    ):
        pass


def with_parts(change):
    """Another list of files in the index, and a label to it."""

    def spoil(index):
        from hdf5_files import seal

        from nsf_pipeline import label

        with index.open("rb") as file:
            fields = label.read(file)
        with h5py.File(index, "r+", locking=False) as file:
            held = json.loads(file.attrs["parts"])
            change(held)
            file.attrs["parts"] = json.dumps(held)
        seal(index, fields)

    return spoil


BAD_INDEX = {
    "one bit": (flip, "does not match its checksum"),
    "another folder": (with_parts(lambda held: held.update(folder="../x")), "expected a folder's"),
    "no folder": (with_parts(lambda held: held.update(folder="..")), "expected a folder's name"),
    "no list": (with_parts(lambda held: held.update(files={})), "expected a folder's name"),
    "fewer files": (with_parts(lambda held: held["files"].pop()), "do not hold all trajectories"),
    "out of order": (with_parts(lambda held: held["files"].reverse()), "file 1 in it cannot be"),
    "no file": (with_parts(lambda held: held["files"].__setitem__(0, 5)), "file 0 in it cannot"),
}


@pytest.mark.parametrize("case", BAD_INDEX)
def test_an_index_that_is_not_sound_is_refused(case, several):
    spoil, message = BAD_INDEX[case]
    spoil(several)
    with pytest.raises(FileError, match=message) as caught, store.reading(several, "dataset"):
        pass
    assert str(caught.value).startswith(f"{several}: ")
    assert "\n" not in str(caught.value)


UNFIT_FOR_INDEX = {
    "missing": UNFIT["missing"][:2],
    "truncated": UNFIT["truncated"][:2],
    "swapped": UNFIT["swapped"][:2],
    "of another run": UNFIT["of another run"][:2],
    "a data set": (
        lambda index: shutil.copy(index.parents[1] / "one.h5", part_of(index, 1)),
        1,
    ),
}


@pytest.mark.parametrize("case", UNFIT_FOR_INDEX)
def test_no_index_is_made_of_files_that_do_not_belong_together(case, folder, several):
    spoil, number = UNFIT_FOR_INDEX[case]
    shutil.copy(folder / "one/dataset.h5", several.parents[1] / "one.h5")
    before = several.read_bytes()
    spoil(several)
    with pytest.raises(FileError) as caught:
        stage.index(CONFIG, several)
    assert str(caught.value).startswith(f"{part_of(several, number)}: ")
    assert "\n" not in str(caught.value)
    assert several.read_bytes() == before


ASKED = {
    "a part of one file": (
        lambda folder, out: stage.part(UNDIVIDED, folder, folder, 0, out),
        "dataset.trajectories_per_file = 0: the data set is one file",
    ),
    "an index of one file": (
        lambda folder, out: stage.index(UNDIVIDED, out),
        "dataset.trajectories_per_file = 0: the data set is one file",
    ),
    "a part beyond the last": (
        lambda folder, out: stage.part(CONFIG, folder, folder, 3, out),
        "--part 3: expected one below 3",
    ),
    "statistics from within a shard": (
        lambda folder, out: stage.statistics(CONFIG, folder / "rollouts", 5, 20, out),
        "--first 5 --stop 20: expected a multiple of shard_size = 10",
    ),
    "statistics of nothing": (
        lambda folder, out: stage.statistics(CONFIG, folder / "rollouts", 20, 20, out),
        "--first 20 --stop 20: expected",
    ),
    "no metadata": (
        lambda folder, out: stage.part(CONFIG, folder, folder / "none.json", 0, out),
        "none.json: cannot be read: No such file",
    ),
    "a name without an ending": (
        lambda folder, out: stage.index(CONFIG, out.with_suffix("")),
        "needs a name with an ending, as in",
    ),
    "metadata of other settings": (
        lambda folder, out: stage.part(CONFIG, folder, folder / "one/dataset.meta.json", 0, out),
        "dataset.meta.json: dataset.trajectories_per_file was 0, is 20",
    ),
}


@pytest.mark.parametrize("case", ASKED)
def test_what_cannot_be_made_is_said_in_one_line(case, folder, tmp_path):
    call, message = ASKED[case]
    with pytest.raises(UserError) as caught:
        call(folder, tmp_path / "out.h5")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def shards(folder):
    """The statistics of each shard."""
    found = []
    for path in sorted((folder / "rollouts").iterdir()):
        rollouts = store.read(path, "rollouts")
        rollouts["coverage"] *= np.float32(1 / 3)  # numbers with many digits
        found.append(Statistics.of(rollouts, split_of(0, rollouts["trajectory"], CONFIG.dataset)))
    return found


def test_statistics_do_not_depend_on_how_the_data_are_divided(shards, folder, tmp_path):
    expected = json.dumps(sum(shards, Statistics()).metadata())
    for number, order in enumerate(list(permutations(shards))[::17]):
        cut = number % 5
        halves = sum(order[:cut], Statistics()), sum(order[cut:], Statistics())
        assert json.dumps(sum(halves, Statistics()).metadata()) == expected
    made = Record.new(STATISTICS, CONFIG)
    for number, each in enumerate((*shards, Statistics(num_trajectories=1, splits=(0, 1, 0)))):
        path = tmp_path / f"{number}.jsonl"
        write_statistics(path, each, made, 0, 10)
        found, record = read_statistics(path, 0, 10)
        assert record.fingerprint == made.fingerprint
        assert json.dumps((found + shards[0]).metadata()) == json.dumps(
            (each + shards[0]).metadata()
        )


def test_zeros_of_both_signs_are_one_bound(folder):
    rollouts, found = store.read(folder / "rollouts/00000.h5", "rollouts"), set()
    split = np.zeros(len(rollouts["length"]), np.uint8)
    for first in (0.0, -0.0):
        rollouts["block_angle"][...] = -first
        rollouts["block_angle"][0, 0] = first
        found.add(json.dumps(Statistics.of(rollouts, split).metadata()["min"]["block_angle"]))
    assert found == {"0.0"}


BAD_STATISTICS = {
    "missing": (lambda path: path.unlink(), "No such file"),
    "one bit": (flip, "does not match its checksum"),
    "truncated": (lambda path: os.truncate(path, path.stat().st_size - 1), "truncated or damaged"),
    "a text": (lambda path: path.write_text("hello"), "truncated or damaged"),
    "of other trajectories": (
        lambda path: write_statistics(path, Statistics(), Record.new(STATISTICS, CONFIG), 0, 20),
        "expected statistics of the trajectories 20 to 39, got others",
    ),
    "no statistics": (
        lambda path: shutil.copy(path.parents[1] / "shard.h5", path),
        "expected statistics of a part",
    ),
    "impossible": (
        lambda path: write_statistics(
            path, Statistics(steps=-1), Record.new(STATISTICS, CONFIG), 20, 40
        ),
        "its numbers cannot be those of trajectories",
    ),
    "out of date": (
        lambda path: write_statistics(
            path,
            Statistics(),
            Record.new(STATISTICS, CONFIG.model_copy(update={"seed": 1})),
            20,
            40,
        ),
        "seed was 1, is 0",
    ),
}


@pytest.mark.parametrize("case", BAD_STATISTICS)
def test_statistics_that_do_not_belong_are_named_in_one_line(case, folder, tmp_path):
    spoil, message = BAD_STATISTICS[case]
    shutil.copy(folder / "rollouts/00000.h5", tmp_path / "shard.h5")
    for number in PARTS:
        span = CONFIG.parts.shard_range(number)
        path = tmp_path / f"statistics/{number:05d}.jsonl"
        write_statistics(path, Statistics(), Record.new(STATISTICS, CONFIG), *span)
    path = tmp_path / "statistics/00001.jsonl"
    spoil(path)
    with pytest.raises(FileError) as caught:
        stage.metadata(CONFIG, path.parent, tmp_path / "dataset.meta.json")
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "dataset.meta.json").exists()
