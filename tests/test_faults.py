"""Runs that are killed, meet a full disk, or meet each other."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import yaml
from conftest import ROOT, run, run_snakemake, run_verb

SETTINGS = {"num_trajectories": 30, "shard_size": 4, "training": {"batch_size": 64}}
TARGET = "results/dataset.h5"
KILLS = 20


def arguments(folder):
    file = folder / "settings.yaml"
    file.write_text(yaml.safe_dump(SETTINGS))
    return TARGET, "--configfile", file


def started(folder):
    """A run in a process group of its own."""
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "--directory", folder]
    return subprocess.Popen(
        [str(part) for part in (*command, "--cores", "2", *arguments(folder))],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def results(folder):
    """Bytes of all files of a run, logs and times aside."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / "results").rglob("*"))
        if path.is_file() and not {"logs", "benchmarks"} & {*path.parts}
    }


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    done = run_snakemake(folder, *arguments(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_a_run_killed_again_and_again_ends_with_the_same_bytes(undisturbed, tmp_path):
    """SIGKILL to all its processes: nothing of it can tidy up."""
    moments = random.Random(0)
    kills, shards = 0, set()
    while kills < KILLS:
        process = started(tmp_path)
        try:
            process.wait(moments.uniform(0.5, 6.0))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        else:  # it got to its end: begin again
            assert process.returncode == 0
            assert results(tmp_path) == results(undisturbed)
            shutil.rmtree(tmp_path / "results")
            shutil.rmtree(tmp_path / ".snakemake")
        shards.add(len(list(tmp_path.glob("results/rollouts/*.h5"))))
    assert len(shards) > 2, "no run was killed at work"
    done = run_snakemake(tmp_path, *arguments(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert results(tmp_path) == results(undisturbed)  # and no temporary file among them
    assert "Nothing to be done" in run_snakemake(tmp_path, "-n", *arguments(tmp_path)).stdout


def test_a_second_run_beside_the_first_is_refused(undisturbed, tmp_path):
    first = started(tmp_path)
    while not list(tmp_path.glob("results/policies/*.h5")):
        assert first.poll() is None
        time.sleep(0.05)
    second = run_snakemake(tmp_path, *arguments(tmp_path))
    assert second.returncode == 1
    assert "Directory cannot be locked" in second.stderr
    assert first.wait() == 0
    assert results(tmp_path) == results(undisturbed)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a disk of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_one_line_and_loses_nothing(undisturbed, small_disk):
    shutil.copytree(undisturbed / "results/rollouts", small_disk / "rollouts")
    kept = small_disk / "dataset.h5"
    kept.write_bytes(b"what stood there before")
    free = shutil.disk_usage(small_disk).free
    (small_disk / "filling").write_bytes(bytes(free - 8192))
    before = sorted(small_disk.rglob("*"))
    folders = [
        "--rollouts",
        small_disk / "rollouts",
        "--metadata",
        small_disk / "dataset.meta.json",
    ]
    settings = undisturbed / "settings.yaml"
    done = run_verb("dataset", "--config", settings, *folders, "--output", kept)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"nsf_pipeline: {small_disk}/dataset")
    assert "cannot write it: " in line
    assert "nothing was changed" in line
    assert sorted(small_disk.rglob("*")) == before
    assert kept.read_bytes() == b"what stood there before"


def test_a_file_that_may_not_grow_is_one_line_and_loses_nothing(undisturbed, tmp_path):
    """As a full disk, where none can be mounted."""
    output = tmp_path / "00000.h5"
    output.write_bytes(b"what stood there before")
    policies = undisturbed / "results/policies/00000.h5"
    verb = f"-m nsf_pipeline rollouts --policies {policies} --output {output}"
    verb += f" --config {undisturbed / 'settings.yaml'}"
    # SIGXFSZ is ignored by Python, so that writing fails instead.
    done = run("bash", "-c", f"ulimit -f 8; exec {sys.executable} {verb}")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"nsf_pipeline: {output}: cannot write it: ")
    assert list(tmp_path.iterdir()) == [output]
    assert output.read_bytes() == b"what stood there before"
