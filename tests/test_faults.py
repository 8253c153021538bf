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
from conftest import EIGHT, EIGHT_TARGETS, ROOT, contents, run, run_eight, run_verb

KILLS = 6


def started(folder, targets=EIGHT_TARGETS):
    """A run of eight shards in a separate process group; its output goes to the file `said`."""
    settings = folder / "eight.yaml"
    settings.write_text(yaml.safe_dump(EIGHT))
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "--directory", folder]
    command += ["--cores", "2", *targets, "--configfile", settings]
    with (folder / "said").open("wb") as said:
        return subprocess.Popen(
            [str(part) for part in command],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def wait_for_a_job(folder, process):
    """Return when a job runs, or the run has ended."""
    while b"rule " not in (folder / "said").read_bytes() and process.poll() is None:
        time.sleep(0.02)


def test_a_run_killed_again_and_again_ends_with_the_same_bytes(eight, tmp_path):
    """SIGKILL to all its processes: none of them can clean up, and Snakemake's lock stays."""
    moments = random.Random()  # others each time; a failure prints which
    kills, told = 0, []
    while kills < KILLS:
        unlocked(tmp_path)
        process = started(tmp_path)
        if kills % 3:  # else it may still be starting
            wait_for_a_job(tmp_path, process)
        # The last at once, while it holds its lock.
        told.append(moments.uniform(0.0, 3.0) if kills < KILLS - 1 else 0.0)
        try:
            process.wait(told[-1])
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
        else:  # it got to its end: begin again
            assert process.returncode == 0, (told, (tmp_path / "said").read_text())
            assert contents(tmp_path) == contents(eight), told
            shutil.rmtree(tmp_path / "results")
            shutil.rmtree(tmp_path / ".snakemake")
    done = run_eight(tmp_path)
    assert done.returncode == 1
    assert "--unlock" in done.stderr
    unlocked(tmp_path)
    done = run_eight(tmp_path)
    assert done.returncode == 0, (told, done.stdout + done.stderr)
    assert contents(tmp_path) == contents(eight), told  # and no temporary file among them
    assert "Nothing to be done" in run_eight(tmp_path, "-n").stdout


def unlocked(folder):
    """Unlock the folder, as a user does when Snakemake asks for it."""
    done = run_eight(folder, "--unlock")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_second_run_beside_the_first_is_refused(eight, tmp_path):
    targets = EIGHT_TARGETS[:2]
    first = started(tmp_path, targets)
    wait_for_a_job(tmp_path, first)
    first.send_signal(signal.SIGSTOP)  # so that it cannot end before the second comes
    second = run_eight(tmp_path)
    first.send_signal(signal.SIGCONT)
    assert second.returncode == 1
    assert "Directory cannot be locked" in second.stderr
    assert first.wait() == 0
    made = contents(tmp_path)
    assert made.keys() == {*targets}
    assert all(contents(eight)[name] == content for name, content in made.items())


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


def test_a_full_disk_is_one_line_and_loses_nothing(eight, small_disk):
    shutil.copytree(eight / "results/rollouts", small_disk / "rollouts")
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
    settings = eight / "eight.yaml"
    done = run_verb("dataset", "--config", settings, *folders, "--output", kept)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"nsf_pipeline: {small_disk}/dataset")
    assert "cannot write it: " in line
    assert "nothing was changed" in line
    assert sorted(small_disk.rglob("*")) == before
    assert kept.read_bytes() == b"what stood there before"


def test_a_file_that_may_not_grow_is_one_line_and_loses_nothing(eight, tmp_path):
    """Like a full disk, for machines that cannot mount one."""
    output = tmp_path / "00000.h5"
    output.write_bytes(b"what stood there before")
    policies = eight / "results/policies/00000.h5"
    verb = f"-m nsf_pipeline rollouts --policies {policies} --output {output}"
    verb += f" --config {eight / 'eight.yaml'}"
    # SIGXFSZ is ignored by Python, so that writing fails instead.
    done = run("bash", "-c", f"ulimit -f 8; exec {sys.executable} {verb}")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"nsf_pipeline: {output}: cannot write it: ")
    assert list(tmp_path.iterdir()) == [output]
    assert output.read_bytes() == b"what stood there before"
