"""Real runs of eight shards up to the data set, with shards lost, damaged or added."""

import json
import os
import re
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest
from conftest import (
    EIGHT,
    EIGHT_TARGETS,
    ROOT,
    contents,
    flip,
    mostly_thorough,
    run_eight,
    run_snakemake,
)

from nsf_pipeline.config import load_config
from nsf_pipeline.data import store
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.rollouts import simulate
from nsf_pipeline.provenance import Record
from nsf_pipeline.stages import STAGES

DATASET = {"results/dataset.h5", "results/dataset.meta.json"}


def shards(kind, numbers):
    return {f"results/{kind}/{number:05d}.h5" for number in numbers}


def jobs(done):
    """How many jobs of each rule ran, all without fault."""
    assert done.returncode == 0, done.stdout + done.stderr
    return Counter(re.findall(r"^(?:local)?rule (\w+):$", done.stderr, re.MULTILINE))


@pytest.fixture
def folder(eight, tmp_path):
    return Path(shutil.copytree(eight, tmp_path / "run"))


def test_one_deleted_shard_of_eight_is_one_job(folder):
    before = contents(folder)
    (folder / "results/rollouts/00003.h5").unlink()
    assert jobs(run_eight(folder)) == {"rollouts": 1, "dataset": 1}
    assert contents(folder) == before
    assert jobs(run_eight(folder)) == {}


def test_new_times_rerun_nothing_however_large_the_files(folder):
    """As after a copy, with file times in any order."""
    for path in sorted((folder / "results").rglob("*.*"), reverse=True):  # sources come to be newer
        path.touch()
        time.sleep(0.01)
    assert jobs(run_eight(folder)) == {}


def test_exports_are_made_on_request_and_anew_for_another_subset(folder):
    chosen = {"formats": ["npz"], "frames": 0}
    assert jobs(run_eight(folder, targets=["export"], exports=chosen)) == {
        "export": 1,
        "export_format": 1,
    }
    export = folder / "results/exports/npz"
    assert {path.name for path in export.iterdir() if path.suffix} >= {"pusht.npz"}
    # Another subset takes the place of what is there.
    done = run_eight(folder, targets=["export"], exports=chosen | {"splits": ["test"]})
    assert jobs(done) == {"export": 1, "export_format": 1}
    receipt = json.loads((export / "nsf_pipeline.json").read_text())
    assert receipt["export"]["splits"].keys() == {"test"}


def test_more_trajectories_run_the_new_shards_alone(folder):
    before = contents(folder)
    more = [f"results/{kind}/00008.h5" for kind in ("policies", "rollouts")]
    done = run_eight(folder, targets=[*EIGHT_TARGETS, *more], num_trajectories=34)
    assert jobs(done) == {"policies": 2, "rollouts": 2, "dataset": 1}
    after = contents(folder)
    kept = {name for name, content in before.items() if after[name] == content}
    assert kept == shards("policies", range(7)) | shards("rollouts", range(7))
    assert after.keys() - before.keys() == shards("policies", [8]) | shards("rollouts", [8])


@pytest.mark.parametrize("count", [32, 29])
def test_another_size_of_the_last_shard_without_records(folder, count):
    """The shard and what follows are made again, although no time and no setting shows it."""
    for number in (count, 30):
        shutil.rmtree(folder / ".snakemake")
        done = run_eight(folder, num_trajectories=number)
        assert jobs(done) == {"policies": 1, "rollouts": 1, "dataset": 1}
        shutil.rmtree(folder / ".snakemake")
        assert jobs(run_eight(folder, num_trajectories=number)) == {}


# By case: other settings, what is asked for, and the jobs.
BACK: dict[str, tuple[dict, list, dict]] = {
    "of shards": (
        {"seed": 1},
        ["results/policies/00005.h5", "results/rollouts/00005.h5"],
        {"policies": 1, "rollouts": 1},
    ),
    "of the data set": (
        {"dataset": {"test_fraction": 0.2}},
        EIGHT_TARGETS,
        {"dataset": 1},
    ),
}


@pytest.mark.parametrize("case", mostly_thorough(BACK, "of shards"))
def test_back_to_settings_of_before_without_records(case, folder):
    """The stamps of the first settings are gone, so file times show that all must be made."""
    changes, targets, expected = BACK[case]
    before = contents(folder)
    assert jobs(run_eight(folder, targets=targets, **changes)) == expected
    assert contents(folder).keys() == before.keys()
    assert contents(folder) != before
    shutil.rmtree(folder / ".snakemake")
    assert jobs(run_eight(folder, targets=targets)) == expected
    assert contents(folder) == before


def flip_the_label(path):
    content = bytearray(path.read_bytes())
    content[2] ^= 1
    path.write_bytes(content)


def another(path):
    shutil.copyfile(path.with_name("00004.h5"), path)


def of_another_config(path):
    config = load_config(ROOT / "config.yaml").model_copy(update={"seed": 1, **SIZES})
    made = Record.new(STAGES["rollouts"], config, Record.new(STAGES["policies"], config))
    first = int(path.stem) * EIGHT["shard_size"]
    policies = sample_policies(config, first, first + EIGHT["shard_size"])
    store.write(path, "rollouts", simulate(config, policies), made.fields())


SIZES = {name: EIGHT[name] for name in ("num_trajectories", "shard_size")}
# By shard: what happens to it, and how the job that reads it names it.
BAD = {
    0: (lambda path: os.truncate(path, 9000), "truncated or damaged: 8488 bytes where"),
    1: (lambda path: os.truncate(path, 0), "truncated or damaged: it starts neither with"),
    2: (flip, "truncated or damaged: its content does not match its checksum"),
    3: (another, "expected trajectories 12 to 15, got 4 from 16"),
    5: (of_another_config, "seed was 1, is 0"),
    6: (lambda path: path.write_text("shard"), "truncated or damaged: it starts neither with"),
    7: (flip_the_label, "truncated or damaged: it starts neither with"),
}


def test_bad_shards_are_named_by_the_job_that_reads_them(folder):
    good = contents(folder)
    for number, (spoil, _) in BAD.items():
        spoil(folder / f"results/rollouts/{number:05d}.h5")
    done = run_eight(folder)
    assert done.returncode == 1
    log = (folder / "results/logs/dataset.log").read_text()
    lines = [line for line in log.splitlines() if line.startswith("nsf_pipeline: ")]
    assert len(lines) == len(BAD)
    for line, (number, (_, message)) in zip(lines, BAD.items(), strict=True):
        path = f"results/rollouts/{number:05d}.h5"
        assert line in done.stdout
        assert line.startswith(f"nsf_pipeline: {path}: ")
        assert message in line
        assert f"snakemake --cores 1 --force {path} with your other options" in line
    assert "Traceback" not in done.stdout
    # The data set is gone, so that it cannot hold wrong numbers.
    left, bad = contents(folder), shards("rollouts", BAD)
    assert good.keys() - left.keys() == DATASET
    assert {name for name in left if left[name] != good[name]} == bad
    again = run_snakemake(folder, "--force", *bad, "--configfile", folder / "eight.yaml")
    assert jobs(again) == {"rollouts": len(BAD)}
    assert jobs(run_eight(folder)) == {"dataset": 1}
    assert contents(folder) == good


def test_a_bad_policy_shard_costs_no_other_rollouts(folder):
    good = contents(folder)
    flip(folder / "results/policies/00003.h5")
    done = run_eight(folder)
    assert done.returncode == 1
    assert "nsf_pipeline: results/policies/00003.h5: " in done.stdout
    assert "common.smk" not in done.stderr  # what the workflow does after an error has worked
    assert good.keys() - contents(folder).keys() == {"results/rollouts/00003.h5"}


def test_policies_in_another_shards_place_are_named(folder):
    good = contents(folder)
    another(folder / "results/policies/00003.h5")
    done = run_eight(folder)
    assert done.returncode == 1
    assert "nsf_pipeline: results/policies/00003.h5: expected trajectories 12 to 15, got 4" in (
        done.stdout
    )
    path = "results/policies/00003.h5"
    done = run_snakemake(folder, "--force", path, "--configfile", folder / "eight.yaml")
    assert jobs(done) == {"policies": 1}
    assert jobs(run_eight(folder)) == {"rollouts": 1, "dataset": 1}
    assert contents(folder) == good
