"""A cluster for all tests, and runs of Snakemake that are submitted to it."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path

import pytest
from cluster import PACKAGES, Cluster, missing
from conftest import ROOT

QUICK = ("--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "10")
CORES = {"train": 2, "evaluate": 2}
"""Threads, for a node of two cores."""


class Submitted:
    """A Snakemake that submits its jobs to a cluster, and runs until it ends or is killed."""

    def __init__(
        self, cluster, folder, settings, *targets, profile="slurm", options=(), threads=CORES
    ):
        self.printed = folder / "printed"
        self.command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile"]
        self.command += ["--directory", folder, "--workflow-profile", profile, *targets]
        self.command += ["--configfile", settings, *QUICK, *options]
        self.command += ["--set-threads", *(f"{rule}={count}" for rule, count in threads.items())]
        with self.printed.open("w") as output:
            self.process = subprocess.Popen(
                [str(part) for part in self.command],
                env=environment(cluster),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=heed_interrupts,
            )

    def text(self):
        return self.printed.read_text()

    def wait(self, seconds=600):
        try:
            self.process.wait(seconds)
        finally:
            self.end(signal.SIGKILL)
        assert self.process.returncode == 0, self.text()
        return self

    def end(self, number):
        if self.process.poll() is None:
            os.killpg(self.process.pid, number)
        return self.process.wait(120)


def heed_interrupts():
    """Let the process end on SIGINT, also where a shell has started the tests in the background."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def environment(cluster):
    """Of a person who uses the cluster; the repository is all that jobs need."""
    return cluster.environment | {"PYTHONPATH": str(ROOT), "WANDB_MODE": "disabled"}


class Watcher(threading.Thread):
    """What the kernel says of the pipeline's processes while they run.

    Attributes:
        seen: of each verb, its processes by number: (cores it may use, threads that computed).
    """

    def __init__(self, folder):
        super().__init__(daemon=True)
        self.folder, self.left = folder, threading.Event()
        self.seen: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)

    def run(self):
        while not self.left.wait(0.1):
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    self.look(process)
                except (OSError, IndexError, ValueError):  # it has ended meanwhile
                    continue

    def look(self, process):
        words = (process / "cmdline").read_text().split("\0")
        if words[1:3] != ["-m", "nsf_pipeline"] or not self.is_here(process):
            return
        cores = len(os.sched_getaffinity(int(process.name)))
        busy = sum(map(is_busy, (process / "task").iterdir()))
        _, most = self.seen[words[3]].get(process.name, (0, 0))
        self.seen[words[3]][process.name] = cores, max(most, busy)

    def is_here(self, process):
        return (process / "cwd").resolve() == self.folder.resolve()


def is_busy(task):
    """Whether a thread has computed for a fifth of a second or more."""
    fields = (task / "stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") > 0.2


def wait_for(found, what, seconds=300):
    end = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < end, f"{what}: not after {seconds} s"
        time.sleep(0.2)
    return value


# On the node nothing can be written in the home folder, and there is no folder for temporary files.
NODE = """\
#!/bin/sh
echo export HOME=/proc
echo export TMPDIR=/nonexistent
"""


@contextmanager
def own_cluster(*programs):
    """A cluster, in a folder with a short path; where a program is lacking the test is skipped."""
    lacking = [*missing(), *(name for name in programs if not shutil.which(name))]
    if lacking:
        pytest.skip(f"no {', '.join(lacking)}: install Debian's {', '.join(PACKAGES)}")
    with tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True) as name:
        prolog = Path(name, "prolog")
        prolog.write_text(NODE)
        prolog.chmod(0o755)
        with Cluster(Path(name), more=f"TaskProlog={prolog}") as cluster:
            yield cluster
