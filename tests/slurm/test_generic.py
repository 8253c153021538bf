"""`profiles/generic` as it is, with the PBS commands that Slurm has: Debian's slurm-wlm-torque."""

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from slurm_runs import own_cluster

ROOT = Path(__file__).resolve().parents[2]
SHARDS = [f"results/rollouts/{shard:05d}.h5" for shard in range(2)]
COMMANDS = ("qsub", "qstat", "qdel")


def slurms_own(name):
    """The PBS command of Slurm's, if it is installed."""
    found = shutil.which(name)
    return found if found and "Slurm" in Path(found).read_text(errors="replace") else None


@pytest.fixture(scope="module")
def cluster():
    with own_cluster(*COMMANDS) as running:
        if not all(map(slurms_own, COMMANDS)):
            pytest.skip("the commands of another scheduler are in the way of Slurm's")
        yield with_pbs_commands(running)
        for run in started:
            run.kill()
            run.wait()


def with_pbs_commands(running):
    for name in COMMANDS:
        (running.folder / "bin" / name).symlink_to(slurms_own(name))
    return running


started: list[subprocess.Popen[bytes]] = []


def workflow(cluster, folder, *more):
    """Snakemake, started in a folder."""
    # The checkout's path is relative, as users give it.
    command = [sys.executable, "-m", "snakemake", "-s", "Snakefile", "--directory", str(folder)]
    command += [*SHARDS, "--workflow-profile", "generic", "--latency-wait", "20"]
    command += ["--seconds-between-status-checks", "1"]
    command += ["--configfile", "tests/smoke.yaml"]
    environment = {**cluster.environment}
    environment["PATH"] = f"{environment['PATH']}:{Path(sys.executable).parent}"
    with (folder / "run.txt").open("ab") as output:
        run = subprocess.Popen(
            [*command, *more], cwd=ROOT, env=environment, stdout=output, stderr=output
        )
    started.append(run)
    return run


def named(cluster, name):
    return [job for job in cluster.jobs() if job.get("JobName") == f"nsf.{name}"]


def test_a_killed_run_goes_on_with_its_jobs_and_a_deleted_job_is_run_again(cluster, tmp_path):
    said = tmp_path / "run.txt"

    def until(run, text):
        def found():
            assert run.poll() is None, said.read_text()
            return said.read_text().count(text) == len(SHARDS)

        cluster.wait(found, text)

    node = cluster.run("sinfo", "-h", "-o", "%n").split()[0]
    cluster.run("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    first = workflow(cluster, tmp_path)
    until(first, "Submitted job")
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert workflow(cluster, tmp_path, "--unlock").wait() == 0
    second = workflow(cluster, tmp_path)
    until(second, "of an earlier run still runs")
    cluster.run("scontrol", "update", f"nodename={node}", "state=resume")

    def deleted():
        assert second.poll() is None, said.read_text()
        for job in named(cluster, "rollouts"):
            if job["JobState"] == "RUNNING":
                return cluster.run("qdel", job["JobId"]) == ""
        return False

    cluster.wait(deleted, "a job to delete")
    assert second.wait(240) == 0, said.read_text()
    assert all((tmp_path / shard).stat().st_size for shard in SHARDS)
    # None twice but the deleted one, and each with what its rule asks for.
    jobs = cluster.jobs()
    assert Counter(job["JobName"] for job in jobs) == {"nsf.policies": 2, "nsf.rollouts": 3}
    asked = {(job["NumCPUs"], job["MinMemoryNode"], job["TimeLimit"]) for job in jobs}
    assert asked == {
        ("1", "500M", "00:10:00"),
        ("1", "1000M", "00:30:00"),
        ("1", "2000M", "01:00:00"),  # the one that was deleted, the second time
    }
    logs = tmp_path / "results/logs/generic"
    done = [job["JobId"] for job in jobs if job["JobState"] == "COMPLETED"]
    assert {f"{id}.exit" for id in done} <= set(os.listdir(logs))
    assert len([*logs.glob("rollouts.*.log")]) == 2
