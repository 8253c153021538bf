"""The scripts of `profiles/generic`, with schedulers that say what they are told to."""

import subprocess

import pytest
import yaml
from conftest import ROOT

PROFILE = ROOT / "profiles/generic"
UNKNOWN = "qstat: Unknown Job Id 12.server"
# Name: (scheduler, what its command says, its exit status, the job's record, the status).
STATUSES = {
    "queued": ("pbs", "Job Id: 12.server\n    job_state = Q", 0, None, "running"),
    "running": ("pbs", "Job Id: 12.server\n    job_state = R", 0, None, "running"),
    "held": ("pbs", "    job_state = H", 0, None, "running"),
    "ending": ("pbs", "    job_state = E\n    exit_status = 0", 0, "0", "running"),
    "requeued after a failure": ("pbs", "    job_state = Q", 0, "1", "running"),
    "done": ("pbs", "    job_state = C", 0, "0", "success"),
    "failed": ("pbs", "    job_state = C", 0, "1", "failed"),
    "finished": ("pbs", "    job_state = F", 0, "0", "success"),
    "killed": ("pbs", "    job_state = C", 0, None, "failed"),
    "killed in writing": ("pbs", "    job_state = C", 0, "", "failed"),
    "forgotten": ("pbs", UNKNOWN, 153, "0", "success"),
    "forgotten, of another version": ("pbs", UNKNOWN, 1, "0", "success"),
    "forgotten without a word": ("pbs", "", 153, "0", "success"),
    "forgotten after a failure": ("pbs", UNKNOWN, 153, "2", "failed"),
    "deleted from the queue": ("pbs", UNKNOWN, 153, None, "failed"),
    "history": ("pbs", "qstat: 12.server Job has finished, use -x or -H", 35, "0", "success"),
    "no server": (
        "pbs",
        "qstat: cannot connect to server server (errno=111)",
        111,
        None,
        "running",
    ),
    "no server, another version": ("pbs", "Connection refused", 255, "1", "running"),
    "timed out": ("pbs", "", 1, "0", "running"),
    "no answer": ("pbs", "", 0, None, "running"),
    "no qstat": ("pbs", "sh: qstat: not found", 127, None, "running"),
    "LSF queued": ("lsf", "PEND", 0, None, "running"),
    "LSF running": ("lsf", "RUN", 0, None, "running"),
    "LSF suspended": ("lsf", "SSUSP", 0, None, "running"),
    "LSF node lost": ("lsf", "UNKWN", 0, None, "running"),
    "LSF done": ("lsf", "DONE", 0, "0", "success"),
    "LSF failed": ("lsf", "EXIT", 0, "1", "failed"),
    "LSF killed": ("lsf", "EXIT", 0, None, "failed"),
    "LSF forgotten": ("lsf", "Job <12.server> is not found", 255, "0", "success"),
    "LSF down": ("lsf", "LSF is down. Please wait ...", 255, None, "running"),
    "Grid Engine known": ("sge", "job_number: 12", 0, None, "running"),
    "Grid Engine done": ("sge", "Following jobs do not exist: \n12", 1, "0", "success"),
    "Grid Engine killed": ("sge", "Following jobs do not exist: \n12", 1, None, "failed"),
    "Grid Engine down": ("sge", "error: commlib error: got select error", 1, "0", "running"),
}
SUBMISSIONS = {
    "PBS": ("pbs", "qsub", "12.server.site", "12.server.site"),
    "Torque": ("pbs", "qsub", "12.localhost", "12.localhost"),
    "Grid Engine": ("sge", "qsub", "12", "12"),
    "LSF": ("lsf", "bsub", "Job <12> is submitted to default queue <normal>.", "12"),
    "with a notice": (
        "lsf",
        "bsub",
        "Memory is low\nJob <12> is submitted to queue <short>.",
        "12",
    ),
}


@pytest.fixture
def command(tmp_path, monkeypatch):
    """A function that puts a scheduler's command on the path."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.chdir(tmp_path)
    for name in ("PBS_JOBID", "LSB_JOBID", "SLURM_JOB_ID", "JOB_ID"):
        monkeypatch.delenv(name, raising=False)

    def put(name, text):
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)

    return put


def saying(answer, code=0):
    return f"cat << 'END'\n{answer}\nEND\nexit {code}"


def run(script, *words):
    command = ["sh", PROFILE / script, *words]
    return subprocess.run(command, text=True, capture_output=True, timeout=20, check=False)


@pytest.mark.parametrize(
    ("scheduler", "answer", "code", "record", "status"), STATUSES.values(), ids=STATUSES
)
def test_status(scheduler, answer, code, record, status, command, tmp_path):
    command("bjobs" if scheduler == "lsf" else "qstat", saying(answer, code))
    command("sleep", "exit")
    if record is not None:
        (tmp_path / "results/logs/generic").mkdir(parents=True)
        (tmp_path / "results/logs/generic/12.server.exit").write_text(record and f"{record}\n")
    done = run("status.sh", scheduler, "12.server")
    assert (done.stdout, done.stderr, done.returncode) == (f"{status}\n", "", 0)


def test_an_unknown_scheduler_is_an_error():
    done = run("status.sh", "lfs", "12")
    assert done.returncode == 1
    assert "expected pbs, lsf or sge, got lfs" in done.stderr
    assert not done.stdout


@pytest.mark.parametrize(
    ("scheduler", "program", "answer", "id"), SUBMISSIONS.values(), ids=SUBMISSIONS
)
@pytest.mark.parametrize("code", [0, 3])
def test_a_job_is_submitted_and_leaves_its_exit_status(
    scheduler, program, answer, id, code, command, tmp_path
):
    command(program, saying(answer))
    script = tmp_path / "a job.sh"
    script.write_text(f"#!/bin/sh\n# properties = {{}}\ncd '{tmp_path}' && exit {code}\n")
    done = run("submit.sh", scheduler, program, "-o", "a file", str(script))
    assert (done.stdout, done.stderr, done.returncode) == (f"{id}\n", "", 0)
    name = {"pbs": "PBS_JOBID", "lsf": "LSB_JOBID", "sge": "JOB_ID"}[scheduler]
    job = subprocess.run([script], env={name: id, "PATH": "/usr/bin:/bin"}, cwd="/", check=False)
    assert job.returncode == code
    assert (tmp_path / f"results/logs/generic/{id}.exit").read_text() == f"{code}\n"
    assert [path.name for path in (tmp_path / "results/logs/generic").iterdir()] == [f"{id}.exit"]


# Name: (state of the first job, jobs are the same, the ids that are printed)
AGAIN = {
    "it runs": ("R", True, ["1", "1"]),
    "it waits": ("Q", True, ["1", "1"]),
    "it has ended": ("C", True, ["1", "2"]),
    "it is another job": ("R", False, ["1", "2"]),
}


@pytest.mark.parametrize(("state", "same", "ids"), AGAIN.values(), ids=AGAIN)
def test_a_job_that_still_runs_is_not_submitted_again(state, same, ids, command, tmp_path):
    command("qsub", "echo >> submitted; wc -l < submitted")
    command("qstat", f"echo job_state = {state}")
    command("sleep", "exit")
    printed = []
    for number in range(2):
        (tmp_path / "job.sh").write_text(
            f'#!/bin/sh\n# properties = {{"rule": "{"r" if same else number}", '
            f'"jobid": {number}, "cluster": {{}}}}\ntrue\n'
        )
        printed += run("submit.sh", "pbs", "qsub", "job.sh").stdout.split()
    assert printed == ids


@pytest.mark.parametrize(
    ("answer", "code"), [("qsub: no such queue", 170), ("thank you", 0), ("", 0)]
)
def test_what_the_scheduler_refuses_is_no_job(answer, code, command, tmp_path):
    command("qsub", saying(answer, code))
    (tmp_path / "job.sh").write_text("#!/bin/sh\n")
    done = run("submit.sh", "pbs", "qsub", "job.sh")
    assert done.returncode == (code or 1)
    assert not done.stdout
    assert answer in done.stderr


def test_the_comments_of_the_profile_are_one():
    text = (PROFILE / "config.yaml").read_text()
    profile = yaml.safe_load(text)
    # The commands of the other schedulers, without the marks of a comment.
    begin, end = text.index("# LSF"), text.index("# Cores")
    for part in text[begin:end].split("\n\n")[:2]:
        lines = [line.removeprefix("# ") for line in part.splitlines()]
        first = next(i for i, line in enumerate(lines) if line.startswith("cluster-generic"))
        other = yaml.safe_load("\n".join(lines[first:]))
        assert other.keys() == {name for name in profile if name.startswith("cluster-generic")}
