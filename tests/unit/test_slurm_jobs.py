"""What is said and done about jobs in Slurm's queue; tests/slurm runs a real one."""

import pytest

from nsf_pipeline.system import signals, slurm
from nsf_pipeline.system.slurm import Job, Limits

JOB = Job("17", "PENDING", "PartitionConfig", "train", "short", "4", "8000M", "4:00:00")
LIMITS = Limits(64, 256_000, "1-00:00:00")
WAITS = {
    "cores": (JOB._replace(cores="80"), "lower set-threads: train, or"),
    "memory": (JOB._replace(memory="500G"), "lower set-resources: train: mem_mb, or"),
    "time": (JOB._replace(time="2-00:00:00"), "lower set-resources: train: runtime, or"),
    "time without end": (JOB._replace(time="UNLIMITED"), "train: runtime, or"),
    "cores and memory": (
        JOB._replace(cores="80", memory="1T"),
        "lower set-threads: train and set-resources: train: mem_mb, or",
    ),
    "something else": (JOB._replace(reason="BadConstraints"), "name another account"),
}


@pytest.mark.parametrize("name", WAITS)
def test_the_setting_to_change_is_named(name):
    job, expected = WAITS[name]
    line = slurm.why_not(job, LIMITS)
    assert line.startswith(f"job 17 (train) can never run ({job.reason}): it asks for {job.cores} ")
    assert expected in line
    assert "\n" not in line
    assert "profiles/slurm/config.yaml, name another account, part" in slurm.why_not(job, None)


@pytest.mark.parametrize(
    ("reason", "never"),
    [
        ("PartitionConfig", True),
        ("PartitionTimeLimit", True),
        ("BadConstraints", True),
        ("QOSMaxCpuPerJobLimit", True),
        ("QOSMaxMemoryPerJob", True),
        ("AssocMaxWallDurationPerJobLimit", True),
        ("InvalidAccount", True),
        ("Resources", False),
        ("Priority", False),
        ("BeginTime", False),
        ("QOSMaxJobsPerUserLimit", False),
        ("AssocGrpCpuLimit", False),
        ("ReqNodeNotAvail, UnavailableNodes:n1", False),
        ("JobHeldUser", False),
        ("None", False),
    ],
)
def test_reasons_that_pass_are_told_from_those_that_do_not(reason, never):
    assert bool(slurm.NEVER.fullmatch(reason)) == never


def test_a_job_that_can_never_run_is_told_once(monkeypatch, capsys):
    monkeypatch.setattr(slurm, "_limits", lambda partition: LIMITS)
    jobs = [JOB, JOB._replace(number="18"), JOB._replace(number="19", reason="Priority")]
    hopeless = slurm.Hopeless()
    hopeless.tell(jobs)
    hopeless.tell(jobs)
    printed = capsys.readouterr().err
    assert printed.count("can never run") == 1
    assert "job 17" in printed


LOG = """\
Error in rule rollouts:
    message: SLURM sbatch failed. The error message was 'sbatch: error: Memory is too much
sbatch: error: Batch job submission failed: Requested node configuration is not available'.
    sbatch call:
        sbatch --parsable --comment rule_rollouts_wildcards_00000   -p short -t 90 --mem 9999999 \
--requeue --ntasks=1 --cpus-per-task=2 -D /run --wrap="python -m snakemake -t 1 --mem 3"
    jobid: 0
"""


def test_a_job_that_slurm_did_not_take_is_told(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(slurm, "_limits", lambda partition: LIMITS)
    log = tmp_path / "log"
    log.write_text(LOG + LOG.replace("00000", "00001") + "no more")
    slurm.Hopeless().tell(slurm.refused_in([log]))
    printed = capsys.readouterr().err
    assert printed == (
        "a job of rollouts can never run (Memory is too much Batch job submission failed: "
        "Requested node configuration is not available): it asks for 2 cores, 9999999M of memory "
        "and a time of 1:30:00; a node of partition short has at most 64 cores and 256000M, for a "
        "time of 1-00:00:00; in profiles/slurm/config.yaml, lower set-resources: rollouts: mem_mb, "
        "or name another partition\n"
    )
    for error in (
        "Unable to contact slurm controller (connect failure)",
        "Socket timed out on send",
    ):
        log.write_text(LOG.replace("Requested node configuration is not available", error))
        assert not slurm.refused_in([log])
    assert slurm.refused_in([tmp_path / "none"]) == slurm.refused_in([]) == []


QUEUE = """\
12|RUNNING|None|rule_train|short|4|8000M|4:00:00|{folder}
13_[2-9]|PENDING|Resources|rule_rollouts_wildcards_00001|short|1|1000M|30:00|{folder}
14|RUNNING|None|group_shards|short|1|1000M|30:00|{folder}
15|RUNNING|None|(null)|short|1|1000M|30:00|{folder}
16|RUNNING|None|rule_train|short|1|1000M|30:00|/elsewhere
"""


def program(folder, name, text):
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_jobs_of_the_folder_are_found(monkeypatch, tmp_path):
    program(
        tmp_path,
        "squeue",
        f"""test "$SQUEUE_STATES" || cat <<'END'\n{QUEUE.format(folder=tmp_path)}END""",
    )
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    found = slurm.jobs_in(tmp_path)
    assert [(job.number, job.rule) for job in found or []] == [
        ("12", "train"),
        ("13_[2-9]", "rollouts"),
        ("14", "shards"),
    ]


@pytest.mark.parametrize("text", ["exit 1", "kill $$"])
def test_a_slurm_that_does_not_answer_stops_nothing(monkeypatch, tmp_path, text):
    program(tmp_path, "squeue", text)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    assert slurm.jobs_in(tmp_path) is None
    slurm.await_earlier_jobs(tmp_path)
    slurm.watch(tmp_path, [], slurm.Hopeless())


@pytest.mark.parametrize(
    ("arguments", "runs"),
    [
        (["--workflow-profile", "slurm"], True),
        (["--cores", "4", "results/model.eqx"], True),
        (["--jobs", "4", "-k"], True),
        (["-n"], False),
        (["-np"], False),
        (["--dry-run"], False),
        (["--dryrun"], False),
        (["--unlock"], False),
        (["--report", "report.html"], False),
        (["--report=report.html"], False),
        (["--lint"], False),
        (["--summary"], False),
        (["-sSnakefile", "-dnew", "-Rtrain"], True),
        (["-Fn"], False),
    ],
)
def test_only_runs_wait_for_earlier_jobs(arguments, runs):
    assert slurm.runs_jobs(arguments) == runs


def test_earlier_jobs_are_waited_for_while_slurm_does_not_answer(monkeypatch, tmp_path):
    answers = [[JOB], None, None, [JOB], []]
    monkeypatch.setattr(slurm, "jobs_in", lambda folder: answers.pop(0))
    monkeypatch.setattr(slurm, "_limits", lambda partition: LIMITS)
    monkeypatch.setattr(slurm, "EVERY", 0.0)
    slurm.await_earlier_jobs(tmp_path)
    assert not answers


@pytest.mark.parametrize(
    ("job", "again"),
    [
        ("RUNNING|rule_train", True),
        ("RUNNING|rule_train_variant_wildcards_state5", True),
        ("RUNNING|group_models", True),
        ("COMPLETING|rule_train", False),
        ("CANCELLED|rule_train", False),
        ("RUNNING|(null)", False),
        ("RUNNING|", False),
        ("RUNNING|my notebook", False),
    ],
)
def test_only_a_running_job_of_snakemake_asks_to_run_again(monkeypatch, tmp_path, job, again):
    program(tmp_path, "squeue", f"echo '{job}'")
    program(tmp_path, "scontrol", f'echo "$@" > {tmp_path}/asked')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("SLURM_JOB_ID", "12")
    assert slurm.run_again() == again
    assert (tmp_path / "asked").exists() == again
    assert slurm.patience() > signals.PATIENCE


@pytest.mark.parametrize("number", ["", "x", None])
def test_outside_of_slurm_nothing_is_asked(monkeypatch, number):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    if number is not None:
        monkeypatch.setenv("SLURM_JOB_ID", number)
    assert not slurm.run_again()
    assert slurm.patience() == signals.PATIENCE
