"""The workflow of a data set of several files: which jobs run, and which run again."""

import shutil

import pytest
import yaml
from conftest import remade, run_snakemake, shared

from nsf_pipeline.config import Config
from nsf_pipeline.data import store

SETTINGS = {"num_trajectories": 12, "shard_size": 4, "dataset": {"trajectories_per_file": 8}}
SETTINGS["training"] = {"batch_size": 8}
INDEX, METADATA = "results/dataset.h5", "results/dataset.meta.json"


def files(kind, *numbers):
    ending = "jsonl" if kind == "statistics" else "h5"
    return {f"results/{kind}/{number:05d}.{ending}" for number in numbers}


def run(folder, *arguments, **changes):
    """A run up to the data set; the targets are those of the default target."""
    config = Config.model_validate(SETTINGS | changes)
    (folder / "settings.yaml").write_text(yaml.safe_dump(SETTINGS | changes))
    shards, parts = range(config.num_shards), range(config.parts.num_shards)
    targets = files("policies", *shards) | files("rollouts", *shards) | {INDEX, METADATA}
    targets |= files("statistics", *parts) | files("dataset", *parts)
    return run_snakemake(folder, *arguments, *targets, "--configfile", folder / "settings.yaml")


@pytest.fixture(scope="session")
def divided(tmp_path_factory):
    """A folder with a data set of two files, the second of them shorter; not to be changed."""
    with shared(tmp_path_factory, "divided") as (folder, is_first):
        if is_first:
            folder.mkdir()
            done = run(folder)
            assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_data_set_of_several_files_is_made(divided):
    with store.reading(divided / INDEX, "dataset") as file:
        assert file["trajectory"][...].tolist() == list(range(12))
        assert [part.path.name for part in file.parts] == ["00000.h5", "00001.h5"]
    for log in ("statistics/00001", "metadata", "dataset/00001", "dataset"):
        assert (divided / f"results/logs/{log}.log").read_text().startswith("+ python -m nsf_pip")
        assert (divided / f"results/benchmarks/{log}.tsv").exists()


WRITTEN = {METADATA, INDEX} | files("dataset", 0, 1)
# By case: files that are lost, changed settings, and the files that are made again.
CASES: dict[str, tuple[set[str], dict, set[str]]] = {
    "nothing": (set(), {}, set()),
    "a file": (files("dataset", 0), {}, files("dataset", 0) | {INDEX}),
    "a shard": (
        files("rollouts", 2),
        {},
        files("rollouts", 2) | files("statistics", 1) | WRITTEN,
    ),
    "one more shard": (
        set(),
        {"num_trajectories": 16},
        files("policies", 3) | files("rollouts", 3) | files("statistics", 1) | WRITTEN,
    ),
    "one file": (set(), {"dataset": {}}, {METADATA, INDEX}),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_lost_or_changed_is_made_again(case, divided, tmp_path):
    lost, changes, expected = CASES[case]
    folder = tmp_path / "run"
    shutil.copytree(divided, folder)
    for path in lost:
        (folder / path).unlink()
    assert remade(run(folder, "-n", **changes)) == expected
    if "num_trajectories" in changes:  # also without its records, Snakemake finds the same
        shutil.rmtree(folder / ".snakemake")
        assert remade(run(folder, "-n", **changes)) == expected
