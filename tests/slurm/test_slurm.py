"""The smoke workflow through profiles/slurm, on a real Slurm that gives it a bad day.

What ran is read from Slurm and from the kernel, not from our own logs.
"""

import re
import signal
from collections import Counter
from types import SimpleNamespace

import pytest
import yaml
from conftest import ROOT, SMOKE, merged, run_snakemake
from slurm_runs import CORES, Submitted, Watcher, own_cluster, wait_for

# The model and its training are those of the other tests, which have left compiled code.
SETTINGS = {
    "runtime": {"checkpoint_seconds": 0},
    "videos": {"trajectories": [0], "ranked": [], "predicted": []},
}
LOCAL = {"all", "table_page", "settings_page", "video_page", "upload"}
SHARDS = 4


@pytest.fixture(scope="module")
def cluster():
    with own_cluster() as cluster:
        yield cluster


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "settings.yaml"
    path.write_text(yaml.safe_dump(merged(yaml.safe_load(SMOKE.read_text()), SETTINGS)))
    return path


@pytest.fixture(scope="module")
def local(settings, tmp_path_factory):
    """The undisturbed run on this machine, without Slurm."""
    folder = tmp_path_factory.mktemp("local")
    done = run_snakemake(folder, "results/model.eqx", "--configfile", settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "results"


@pytest.fixture(scope="module")
def bad_day(local, cluster, settings, tmp_path_factory):
    """A run to the end through all that happens, and what was seen of it.

    The local run comes first: it leaves compiled code to the cluster's.
    """
    folder = tmp_path_factory.mktemp("bad_day")
    watcher = Watcher(folder)
    watcher.start()
    day = SimpleNamespace(folder=folder, results=folder / "results", watcher=watcher)

    started = []

    def submit(*targets, **more):
        started.append(Submitted(cluster, folder, settings, *targets, **more))
        return started[-1]

    try:
        live_through(day, submit, cluster, settings)
    finally:
        watcher.left.set()
        for each in started:
            each.end(signal.SIGKILL)
    day.jobs = [job for job in cluster.jobs() if job["WorkDir"] == str(folder)]
    return day


def live_through(day, submit, cluster, settings):
    # Too little memory for Snakemake and our command on the node; the second time enough.
    memory = ("--set-resources", "policies:mem_mb=120*attempt*attempt")
    day.memory = submit("results/policies/00000.h5", options=memory).wait()

    # While shards are made, Snakemake is killed, the node drained and the controller restarted.
    first = submit("results/dataset.h5")
    wait_for(lambda: "RUNNING" in [job["JobState"] for job in cluster.jobs()], "a running job")
    first.end(signal.SIGKILL)
    host = cluster.jobs()[0]["NodeList"]
    cluster.run("scontrol", "update", f"NodeName={host}", "State=DRAIN", "Reason=test")
    run_snakemake(day.folder, "--configfile", settings, "--unlock")
    second = submit("results/dataset.h5")
    wait_for(lambda: "waiting for jobs" in second.text(), "the second Snakemake's line")
    cluster.run("scontrol", "update", f"NodeName={host}", "State=RESUME")
    cluster.stop("slurmctld")
    cluster.start("slurmctld", "-D")
    day.cancelled = wait_for(lambda: beginning(cluster, day), "rollouts that begin")[-1]
    cluster.run("scancel", day.cancelled["JobId"])
    day.resumed = second.wait()

    # Training must make room for others, and is cancelled later. It asks for a GPU.
    training = submit("results/model.eqx", profile=with_choices(day.folder / "profile"))
    log = day.results / "logs/train.log"

    def said(text):
        return log.exists() and text in log.read_text()

    wait_for(lambda: said(" starts, "), "training")
    cluster.run("sbatch", "-p", "urgent", "-c2", "-o", "/dev/null", "--wrap", "sleep 1")
    day.preempted = wait_for(
        lambda: [job for job in cluster.jobs() if job["Restarts"] == "1"], "a job that waits again"
    )[0]
    wait_for(lambda: said("going on from step"), "training that goes on")
    cluster.run("scancel", day.preempted["JobId"])
    day.trained = training.wait()

    day.finished = submit().wait()


def with_choices(folder):
    """The profile with its lines for a partition and a GPU, as a person would change them."""
    text = (ROOT / "profiles/slurm/config.yaml").read_text()
    for name in ("slurm_partition", "gres"):
        text, count = re.subn(rf"^( +)# ({name}: )", r"\1\2", text, flags=re.MULTILINE)
        assert count == 1
    folder.mkdir()
    (folder / "config.yaml").write_text(text.replace("my_partition", "short"))
    return folder


def part(pattern, text):
    """What the first group of a pattern holds."""
    found = re.search(pattern, text)
    assert found, text
    return found[1]


def rule_of(job):
    """The rule of a job; empty for one that was submitted by hand."""
    found = re.match(r"rule_(\w+?)(_wildcards_\w+)?$", job.get("Comment", ""))
    return found[1] if found else ""


def running(cluster, rule):
    return [job for job in cluster.jobs() if rule_of(job) == rule and job["JobState"] == "RUNNING"]


def beginning(cluster, day):
    """Running jobs of rollouts whose command has not begun, so that none can be done already."""
    logs = day.results / "logs/rollouts"
    shards = [(job, job["Comment"].rpartition("_")[2]) for job in running(cluster, "rollouts")]
    return [job for job, shard in shards if not (logs / f"{shard}.log").exists()]


def states(jobs, rule):
    return [job["JobState"] for job in jobs if rule_of(job) == rule]


def test_each_rule_ran_as_jobs_of_slurm(bad_day, cluster):
    done = Counter(rule_of(job) for job in bad_day.jobs if job["JobState"] == "COMPLETED")
    ensembles = len(list((bad_day.results / "ensembles").glob("*.h5")))
    assert done == {
        "policies": SHARDS,
        "rollouts": SHARDS,
        "dataset": 1,
        "picture": 1,
        "train": 1,
        "ensembles": ensembles,
        "evaluate": 1,
        "videos": 1,
    }
    # The controller wrote down the same.
    completed = {job["JobId"]: job["JobState"] for job in cluster.completed()}
    for job in bad_day.jobs:
        assert completed[job["JobId"]] == job["JobState"]


def test_what_needs_no_node_ran_here(bad_day):
    assert not LOCAL & {rule_of(job) for job in bad_day.jobs}
    assert (bad_day.results / "report/tables.html").exists()


def test_outputs_logs_and_benchmarks_are_where_they_are_after_a_local_run(bad_day, settings):
    done = run_snakemake(bad_day.folder, "--configfile", settings, "-n")
    assert "Nothing to be done" in done.stdout + done.stderr
    for kind in ("policies", "rollouts"):
        for shard in range(SHARDS):
            assert (bad_day.results / f"logs/{kind}/{shard:05d}.log").read_text()
            assert (bad_day.results / f"benchmarks/{kind}/{shard:05d}.tsv").read_text()
    for job in ("dataset", "picture", "train", "evaluate", "ensembles/00000"):
        assert "python -m nsf_pipeline" in (bad_day.results / f"logs/{job}.log").read_text()
        assert (bad_day.results / f"benchmarks/{job}.tsv").read_text()
    # What Slurm says is kept of jobs that failed.
    assert list((bad_day.results / "logs/slurm/rule_policies").rglob("*.log"))


def test_the_data_have_the_bytes_of_a_local_run(bad_day, local):
    for path in [*sorted(local.rglob("*.h5")), local / "dataset.meta.json"]:
        assert (bad_day.results / path.relative_to(local)).read_bytes() == path.read_bytes()


def test_training_that_was_stopped_twice_ends_in_the_bytes_of_a_local_run(bad_day, local):
    assert (bad_day.results / "model.eqx").read_bytes() == (local / "model.eqx").read_bytes()


def test_a_job_over_its_memory_is_tried_again_with_more(bad_day):
    jobs = [job for job in bad_day.jobs if job["Comment"].endswith("policies_wildcards_00000")]
    assert [job["JobState"] for job in jobs] == ["FAILED", "COMPLETED"]
    assert [part(r"mem=(\d+M)", job["TRES"]) for job in jobs] == ["120M", "480M"]


def test_nothing_is_submitted_twice_or_lost_when_snakemake_is_killed(bad_day):
    comments = Counter(
        job["Comment"] for job in bad_day.jobs if rule_of(job) in ("policies", "rollouts")
    )
    # One for its memory, and one that was cancelled.
    again = {"rule_policies_wildcards_00000", bad_day.cancelled["Comment"]}
    assert {comment for comment, count in comments.items() if count == 2} == again
    assert max(comments.values()) == 2
    assert len(comments) == 2 * SHARDS


def test_training_saves_a_checkpoint_and_waits_again_when_it_must_make_room(bad_day):
    said = (bad_day.results / "logs/train.log").read_text()
    assert int(part(r"going on from step (\d+)", said)) > 0
    assert bad_day.preempted["Requeue"] == "1"


def test_a_cancelled_shard_is_submitted_again(bad_day):
    jobs = [job for job in bad_day.jobs if job["Comment"] == bad_day.cancelled["Comment"]]
    assert [job["JobState"] for job in jobs] == ["CANCELLED", "COMPLETED"]


def test_cancelled_training_is_submitted_again(bad_day):
    assert states(bad_day.jobs, "train") == ["CANCELLED", "COMPLETED"]


def test_training_gets_the_partition_and_gpu_of_the_profile(bad_day):
    for job in bad_day.jobs:
        assert job["Partition"] == "short"
        assert ("gpu:a100" in job.get("TresPerNode", "")) == (rule_of(job) == "train")


def test_jobs_had_the_cores_that_they_asked_for_and_used_no_more(bad_day):
    simulation = {"policies", "rollouts", "dataset", "ensembles"}
    for verb in simulation | {"train", "evaluate"}:
        processes = bad_day.watcher.seen[verb]
        assert processes, verb
        for cores, busy in processes.values():
            assert cores == CORES.get(verb, 1), verb
            assert busy <= 1 or verb not in simulation, verb


def test_a_job_that_no_node_can_run_is_told(cluster, settings, tmp_path):
    target = "results/policies/00000.h5"
    hopeless = Submitted(cluster, tmp_path, settings, target, threads={"policies": 99})
    try:
        told = wait_for(
            lambda: [line for line in hopeless.text().splitlines() if "can never run" in line],
            "the line",
            seconds=60,
        )
        assert re.search(r"job \d+ \(policies\) .*99 cores.*set-threads: policies", told[0])
    finally:
        code = hopeless.end(signal.SIGINT)
    assert code != 0
    cluster.wait(lambda: not cluster.run("squeue", "-h"), "an empty queue")
