"""What the workflow asks of Slurm: which jobs of its folder there are, and to run one again."""

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from nsf_pipeline.system import signals
from nsf_pipeline.system.printing import complain, say

NOTICE = 120.0
"""s before it ends a job that Slurm warns it, as the profile asks for."""
PATIENCE = 30.0
"""s that a command of Slurm's may take."""
EVERY = 20.0
"""s between two looks at the queue."""
PROFILE = "profiles/slurm/config.yaml"
NEVER = re.compile(
    r"Partition(Config|NodeLimit|TimeLimit)|BadConstraints|MaxMemPerLimit|\w*PerJob(Limit)?"
    r"|\w*MaxWall\w*|Invalid(Account|QOS)|(Account|QOS)NotAllowed"
)
"""Reasons for which a job waits until its settings, or the cluster's, are changed."""
NOTHING_RUNS = re.compile(
    r"-[DFSfhklptv]*n[A-Za-z]*|--(dry-?run|unlock|lint|list\S*|summary|detailed-summary|report|dag"
    r"|rulegraph|filegraph|d3dag|touch|cleanup-\S+|containerize|archive|help|version)(=.*)?|-[hlStDv]"
)
"""Options of Snakemake's with which it runs no job."""


class Job(NamedTuple):
    """A job in Slurm's queue."""

    number: str
    state: str
    reason: str
    rule: str
    partition: str
    cores: str
    memory: str
    time: str


REFUSED = re.compile(
    r"SLURM sbatch failed\. The error message was '(?P<error>.*?)'\.\s+sbatch call:\s+"
    r"(?P<call>sbatch [^\n]*?) --wrap",
    re.DOTALL,
)
"""What the executor says of a job that Slurm did not take."""
PASSES = re.compile(r"timed out|contact|connect|temporarily|try again|communicat", re.IGNORECASE)
"""What such an error has in it if Slurm did not answer: the job itself may be all right."""
RULE = re.compile(r"(?:rule|group)_(\w+?)(_wildcards_.*)?$")
"""What the executor writes into the comment of a job."""
FIELDS = ("%i", "%T", "%r", "%k", "%P", "%C", "%m", "%l", "%Z")


def jobs_in(folder: Path) -> list[Job] | None:
    """The jobs that Snakemake has submitted from a folder and that wait or run.

    Returns:
        None if there is no Slurm here, or it does not answer.
    """
    output = _output("squeue", "--me", "--noheader", f"--format={'|'.join(FIELDS)}")
    if output is None:
        return None
    found = []
    for line in output.splitlines():
        *values, place = line.split("|", len(FIELDS) - 1)
        if len(values) == len(FIELDS) - 1 and os.path.realpath(place) == os.path.realpath(folder):
            job = Job(*(value.strip() for value in values))
            if rule := RULE.match(job.rule):
                found.append(job._replace(rule=rule[1]))
    return found


def _output(*command: str) -> str | None:
    """What a command prints; None if it is not there, fails, or takes too long."""
    if not shutil.which(command[0]):
        return None
    try:
        done = subprocess.run(
            command,
            # A person's own choice of columns, states or partitions is for the terminal.
            env={k: v for k, v in os.environ.items() if not k.startswith(("SQUEUE_", "SINFO_"))},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout


def refused_in(logs: Sequence[Path | str]) -> list[Job]:
    """The jobs that Slurm did not take, by what Snakemake has logged.

    Args:
        logs: Snakemake's; none if it was told to keep none.
    """
    text = ""
    for log in logs:
        with suppress(OSError):
            text += Path(log).read_text(encoding="utf-8", errors="replace")
    found = []
    for refused in REFUSED.finditer(text):
        if PASSES.search(refused["error"]):
            continue
        options = refused["call"]

        def option(name: str, options: str = options) -> str:
            value = re.search(rf" {name}[ =]'?([\w.-]+)", options)
            return value[1] if value else ""

        rule = RULE.match(option("--comment"))
        reason = " ".join(refused["error"].replace("sbatch: error: ", "").split())
        hours, minutes = divmod(_number(option("-t")), 60)
        found.append(
            Job(
                *("", "REFUSED", reason, rule[1] if rule else "a rule", option("-p")),
                *(option("--cpus-per-task"), f"{option('--mem')}M", f"{hours}:{minutes:02}:00"),
            )
        )
    return found


def runs_jobs(arguments: Sequence[str]) -> bool:
    """Whether Snakemake runs jobs with these arguments."""
    return not any(map(NOTHING_RUNS.fullmatch, arguments))


def await_earlier_jobs(folder: Path) -> None:
    """Wait for the jobs of a run whose Snakemake was killed; else they would be submitted twice.

    Args:
        folder: the run's.
    """
    said: list[str] = []
    hopeless = Hopeless()
    while (jobs := jobs_in(folder)) or (jobs is None and said):
        if jobs is None:  # Slurm had answered before: it will again
            time.sleep(EVERY)
            continue
        numbers = [job.number for job in jobs]
        if numbers != said:
            shown = ", ".join(f"{job.number} ({job.rule})" for job in jobs[:5])
            more = f" and {len(jobs) - 5} more" if len(jobs) > 5 else ""
            complain(
                f"waiting for jobs of another run in this folder: {shown}{more}; end this one if "
                "that one goes on; if it was killed, end this one, run `snakemake --unlock`, and "
                "start it again; `scancel` ends the jobs"
            )
            said = numbers
        hopeless.tell(jobs)
        time.sleep(EVERY / 4)


def watch(folder: Path, logs: Sequence[Path | str], hopeless: "Hopeless") -> None:
    """Start a thread that names jobs which can never run, and the setting to change.

    Args:
        folder: the run's.
        logs: Snakemake's.
        hopeless: those that are named.
    """

    def look() -> None:
        while True:
            time.sleep(EVERY)
            hopeless.tell([*(jobs_in(folder) or []), *refused_in(logs)])

    if shutil.which("squeue"):
        threading.Thread(target=look, daemon=True).start()


class Hopeless:
    """Jobs that can never run, each rule's told once."""

    def __init__(self) -> None:
        self._told = set[tuple[str, str]]()

    def tell(self, jobs: Sequence[Job]) -> None:
        """Print a line for each rule of which a job can never run."""
        for job in jobs:
            is_hopeless = job.state == "REFUSED" or (
                job.state == "PENDING" and NEVER.fullmatch(job.reason)
            )
            if is_hopeless and (job.rule, job.reason) not in self._told:
                self._told.add((job.rule, job.reason))
                complain(why_not(job, _limits(job.partition)))


class Limits(NamedTuple):
    """What a partition has: the most of its nodes."""

    cores: int
    memory: int
    time: str


def _limits(partition: str) -> Limits | None:
    output = _output("sinfo", "--exact", "--noheader", "-p", partition, "--format=%c|%m|%l") or ""
    nodes = [line.split("|") for line in output.splitlines() if line.count("|") == 2]
    if not nodes:
        return None
    cores, memories, times = zip(*nodes, strict=True)
    return Limits(max(map(_number, cores)), max(map(_number, memories)), times[0].strip())


def _number(text: str) -> int:
    digits = re.match(r" *(\d+)", text)
    return int(digits[1]) if digits else 0


def megabytes(text: str) -> float:
    """Memory as Slurm writes it, such as 8000M, 7.8G or 1T, in MB."""
    amount = re.match(r"([\d.]+)([KMGT]?)", text)
    if not amount:
        return 0.0
    return float(amount[1]) * {"K": 2**-10, "": 1, "M": 1, "G": 2**10, "T": 2**20}[amount[2]]


def minutes(text: str) -> float:
    """A time as Slurm writes it, such as 30:00, 4:00:00, 1-00:00:00 or infinite, in min."""
    found = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", text)
    if not found:
        return float("inf")
    days, hours, mins, seconds = (int(part or 0) for part in found.groups())
    return 1440 * days + 60 * hours + mins + seconds / 60


def why_not(job: Job, limits: Limits | None) -> str:
    """One line: a job that can never run, what it asks for, what there is, what to change."""
    asked = f"it asks for {job.cores} cores, {job.memory} of memory and a time of {job.time}"
    named = f"job {job.number} ({job.rule})" if job.number else f"a job of {job.rule}"
    line = f"{named} can never run ({job.reason}): {asked}"
    lower = []
    if limits:
        line += (
            f"; a node of partition {job.partition} has at most {limits.cores} cores and "
            f"{limits.memory}M, for a time of {limits.time}"
        )
        if _number(job.cores) > limits.cores:
            lower.append(f"set-threads: {job.rule}")
        if megabytes(job.memory) > limits.memory:
            lower.append(f"set-resources: {job.rule}: mem_mb")
        if minutes(job.time) > minutes(limits.time):
            lower.append(f"set-resources: {job.rule}: runtime")
    if lower:
        return f"{line}; in {PROFILE}, lower {' and '.join(lower)}, or name another partition"
    return f"{line}; in {PROFILE}, name another account, partition or GPU, or ask for less"


def patience() -> float:
    """s that this process may take to end when it is warned: most of Slurm's notice in a job."""
    return 0.8 * NOTICE if _own_job() else signals.PATIENCE


def _own_job() -> str | None:
    """The number of the job that this process belongs to."""
    number = os.environ.get("SLURM_JOB_ID", "")
    return number if number.isdecimal() else None


def run_again() -> bool:
    """Ask Slurm to run this process's job again later, if it is a running one that allows it.

    A job that was cancelled stays so, and one that Snakemake has not submitted, such as that of a
    notebook with a terminal in which a person trains.
    """
    number = _own_job()
    if not number:
        return False
    output = _output("squeue", "--noheader", "-j", number, "--format=%T|%k") or ""
    state, _, comment = output.strip().partition("|")
    if state != "RUNNING" or not RULE.match(comment):
        return False
    if _output("scontrol", "requeue", number) is None:
        return False
    say(f"Slurm will run job {number} again, and training will go on")
    return True
