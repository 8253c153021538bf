"""A real Slurm of one node on this machine, for the tests: `python tests/slurm/cluster.py FOLDER`.

It needs Debian's packages in `PACKAGES`, and neither changes nor uses a Slurm that is already
there: its settings, keys, sockets, ports and logs are its own. The daemons run as the present user.
With `--install`, root installs the packages first.
"""

import argparse
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType

PACKAGES = ("slurm-wlm", "slurm-wlm-torque", "munge")
DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "scancel", "scontrol", "sinfo", "squeue", "srun")
ENVIRONMENT = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin"}
PATIENCE = 60.0
"""s that a daemon may take to start or to stop."""

SETTINGS = """\
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
# A job that must wait again may start after these seconds.
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
SlurmctldPort={controller_port}
SlurmdPort={node_port}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MailProg=/bin/true
# Each job gets the cores that it asks for, and no others.
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
TaskPlugin=task/affinity
ProctrackType=proctrack/linuxproc
# A job over its memory is ended; without control groups by whoever measures it.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=1
JobAcctGatherParams=OverMemoryKill
# Jobs that have ended stay known to the end of the tests.
MinJobAge=7200
# What ran, in the controller's own words.
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/completed.txt
# A partition whose jobs push those of the other one from the node; they are warned, and wait again.
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
# Quick, since there are few jobs.
SchedulerParameters=preempt_send_user_signal,batch_sched_delay=0,sched_interval=2,bf_interval=2
KillWait=10
OverTimeLimit=0
ReturnToService=2
# The null device, which jobs can ask for as if it were a GPU.
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cores} RealMemory={memory} Gres=gpu:a100:1 State=UNKNOWN
PartitionName=short Nodes={host} Default=YES State=UP PriorityTier=1 GraceTime=300
PartitionName=urgent Nodes={host} State=UP PriorityTier=9
{more}
"""


def missing() -> list[str]:
    """The programs that are not there."""
    return [name for name in DAEMONS + COMMANDS if not shutil.which(name, path=ENVIRONMENT["PATH"])]


def install() -> None:
    """Install Slurm from Debian's packages, where that is possible."""
    if os.geteuid() or not shutil.which("apt-get"):
        return
    environment = ENVIRONMENT | {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES],
    ):
        subprocess.run(command, check=False, env=environment, stdout=subprocess.DEVNULL)


class Cluster:
    """A controller and a node, which run until the context is left.

    Attributes:
        folder: of its settings, logs and state.
        environment: with it, Slurm's commands talk to this cluster.
    """

    def __init__(self, folder: Path, cores: int | None = None, more: str = ""):
        """Name what it has.

        Args:
            folder: an empty or new one. Its path must be short: it holds a socket.
            cores: of the node; all that this process may use by default.
            more: lines for slurm.conf.
        """
        self.folder = folder.resolve()
        self.cores = cores or len(os.sched_getaffinity(0))
        self.more = more
        # By scripts in front of the programs too: Snakemake's executor drops the variable.
        self.environment = ENVIRONMENT | {
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "PATH": f"{self.folder / 'bin'}:{ENVIRONMENT['PATH']}",
        }
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> "Cluster":
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        # Keys and the socket are only trusted in folders that no one else can write to.
        self.folder.chmod(0o755)
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
        with ExitStack() as ports:  # all at once, so that no two are the same
            controller_port, node_port = (ports.enter_context(free_port()) for _ in range(2))
            settings = SETTINGS.format(
                host=socket.gethostname().partition(".")[0],
                user=getpass.getuser(),
                folder=self.folder,
                controller_port=controller_port.getsockname()[1],
                node_port=node_port.getsockname()[1],
                cores=self.cores,
                memory=int(memory * 0.9),
                more=self.more,
            )
        (self.folder / "slurm.conf").write_text(settings)
        (self.folder / "cgroup.conf").touch()
        (self.folder / "gres.conf").write_text("Name=gpu Type=a100 File=/dev/null\n")
        for name in COMMANDS:
            program = self.folder / "bin" / name
            own = shutil.which(name, path=ENVIRONMENT["PATH"])
            program.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {own} "$@"\n')
            program.chmod(0o755)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        try:
            self._start_munge()
            self.start("slurmctld", "-D", "-c")
            self.start("slurmd", "-D")
            self.wait(lambda: "idle" in self.run("sinfo", "-h", "-o", "%T"), "an idle node")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _start_munge(self) -> None:
        folder = self.folder
        self.start(
            "munged",
            "--foreground",
            "--force",
            f"--socket={folder}/munge.socket",
            f"--key-file={folder}/munge.key",
            f"--pid-file={folder}/munge.pid",
            f"--log-file={folder}/munge.log",
            f"--seed-file={folder}/munge.seed",
        )
        self.wait((folder / "munge.socket").exists, "munge's socket")

    def start(self, program: str, *options: str) -> None:
        """Start a daemon; what it prints is in `{program}.out`."""
        with (self.folder / f"{program}.out").open("ab") as output:
            self.daemons[program] = subprocess.Popen(
                [program, *options],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def stop(self, program: str, number: int = signal.SIGTERM) -> None:
        """Stop a daemon."""
        daemon = self.daemons.pop(program)
        daemon.send_signal(number)
        try:
            daemon.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def run(self, *command: str, check: bool = True) -> str:
        """What a command of Slurm's prints."""
        done = subprocess.run(
            command, env=self.environment, text=True, capture_output=True, check=False
        )
        if check and done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        return done.stdout

    def jobs(self) -> list[dict[str, str]]:
        """What the controller says of each job that it knows; the oldest first."""
        return [fields(line) for line in self.run("scontrol", "-o", "show", "job").splitlines()]

    def completed(self) -> list[dict[str, str]]:
        """What the controller has written down of each job that has ended."""
        path = self.folder / "completed.txt"
        return [fields(line) for line in path.read_text().splitlines()] if path.exists() else []

    def wait(self, found: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
        """Wait until a function returns something true."""
        end = time.monotonic() + patience
        while time.monotonic() < end:
            try:
                if found():
                    return
            except RuntimeError:  # the controller does not answer yet
                pass
            for program, daemon in self.daemons.items():
                if daemon.poll() is not None:
                    output = (self.folder / f"{program}.out").read_text(errors="replace")
                    raise RuntimeError(f"{program} ended:\n{output[-2000:]}")
            time.sleep(0.1)
        raise TimeoutError(f"{what}: not after {patience:g} s")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if "slurmctld" in self.daemons:
            self.run("scancel", "--state=PENDING", f"--user={getpass.getuser()}", check=False)
            self.run("scancel", "--signal=KILL", f"--user={getpass.getuser()}", check=False)
            self.run("scancel", f"--user={getpass.getuser()}", check=False)
        for program in ("slurmd", "slurmctld", "munged"):
            if program in self.daemons:
                self.stop(program)


def free_port() -> socket.socket:
    """A socket that holds a free port until it is closed."""
    found = socket.socket()
    found.bind(("127.0.0.1", 0))
    return found


def fields(line: str) -> dict[str, str]:
    """The fields of a line that `scontrol` or the controller has written."""
    pairs = (part.partition("=") for part in line.split())
    return {name: value for name, equals, value in pairs if equals}


def exports(environment: Mapping[str, str], names: Sequence[str] = ("SLURM_CONF", "PATH")) -> str:
    """A line for a shell."""
    return " ".join(["export", *(f"{name}={environment[name]}" for name in names)])


def main() -> None:
    """Install Slurm, or run a cluster until Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="for its settings, logs and state")
    parser.add_argument("--cores", type=int, help="of the node (all by default)")
    parser.add_argument("--install", action="store_true", help="first install Slurm, as root")
    arguments = parser.parse_args()
    if missing() and arguments.install:
        install()
    if missing():
        sys.exit(
            f"no {', '.join(missing())}: install {', '.join(PACKAGES)}, or use --install as root"
        )
    if not arguments.folder:
        return
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Cluster(arguments.folder, arguments.cores) as cluster:
        print(exports(cluster.environment), flush=True)
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
