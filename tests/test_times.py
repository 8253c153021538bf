"""Files with wrong times, and clocks that are set back, cost no work."""

import os
import shutil
import subprocess
import sys
import time

import pytest
import yaml
from conftest import ROOT, merged, remade, run_snakemake
from test_survival import BRIEF, SETTINGS

HOURS = 3600
TARGETS = ["results/dataset.h5", "results/dataset.png", "results/model.eqx"]
DATASET = {"results/dataset.h5", "results/dataset.meta.json"}


def snakemake(folder, *arguments):
    return run_snakemake(folder, *arguments, "--configfile", folder / "settings.yaml")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run up to a model; tests must not change it."""
    folder = tmp_path_factory.mktemp("clocks")
    changes = {"shard_size": 30, "training": BRIEF | {"steps": 100, "validate_every": 50}}
    (folder / "settings.yaml").write_text(yaml.safe_dump(merged(SETTINGS, changes)))
    done = snakemake(folder, *TARGETS)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def run(made, tmp_path):
    """A copy of it, to be changed."""
    folder = tmp_path / "run"
    shutil.copytree(made, folder, symlinks=True)
    return folder


def shift(path, seconds):
    """Move a file's time, or those of all files in a folder."""
    for each in path.rglob("*") if path.is_dir() else [path]:
        moved = each.stat().st_mtime + seconds
        os.utime(each, (moved, moved))


def date(path, seconds):
    """Date all files in a folder the same."""
    for each in path.rglob("*"):
        os.utime(each, (seconds, seconds))


def linked(folder):
    """The data set lies elsewhere; it and the link to it are from the future."""
    here, there = folder / "results/dataset.h5", folder / "elsewhere.h5"
    here.rename(there)
    here.symlink_to(there)
    shift(there, 2 * HOURS)
    later = time.time() + HOURS
    os.utime(here, (later, later), follow_symlinks=False)


def ahead(*names):
    """A change that dates files, or those in folders, two hours ahead."""

    def change(folder):
        for name in names:
            shift(folder / "results" / name, 2 * HOURS)

    return change


PICTURE = {"results/dataset.png"}
# By case: what happens to the times, the files that are lost, and those that are made again.
WRONG = {
    "a data set two hours ahead": (
        ahead("dataset.h5"),
        ["results/dataset.png"],
        PICTURE,
    ),
    "shards and stamps": (
        ahead("policies", "rollouts", "stamps"),
        ["results/dataset.h5", "results/rollouts/00001.h5"],
        {"results/rollouts/00001.h5"} | DATASET,
    ),
    "a linked data set": (linked, ["results/dataset.png"], PICTURE),
    "a clock set back after the run": (ahead("."), ["results/dataset.png"], PICTURE),
    "files of 1970": (
        lambda folder: date(folder / "results", 0),
        ["results/dataset.png"],
        PICTURE,
    ),
}
ORDERED = {"a clock set back after the run"}
"""Cases in which the order of times is as it was, so that Snakemake needs none of its records."""


@pytest.mark.parametrize("case", WRONG)
def test_wrong_times_of_files_cost_no_work(case, run):
    change, lost, expected = WRONG[case]
    for path in lost:
        (run / path).unlink()
    change(run)
    assert remade(snakemake(run, *lost)) == expected
    assert all((run / path).exists() for path in lost)
    if case in ORDERED:
        shutil.rmtree(run / ".snakemake")
    assert remade(snakemake(run, "-n", *(TARGETS if case in ORDERED else lost))) == set()


def test_an_input_dated_ahead_while_the_job_runs_costs_no_work(run):
    """As by a clock that is set back in the middle of training."""
    model, dataset = run / "results/model.eqx", run / "results/dataset.h5"
    shutil.rmtree(run / "results/training")
    model.unlink()
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "--directory", run]
    command += ["--cores", "2", "results/model.eqx", "--configfile", run / "settings.yaml"]
    with (run / "said").open("w") as said:
        process = subprocess.Popen(
            [str(part) for part in command],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=said,
            stderr=said,
        )
        while not list(run.glob("results/training/checkpoints/*/*.checkpoint")):
            assert process.poll() is None, (run / "said").read_text()
            time.sleep(0.02)
        shift(dataset, 2 * HOURS)
        assert process.wait() == 0, (run / "said").read_text()
    assert model.exists()
