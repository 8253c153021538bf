"""Temporary files and folders: a name says which process writes it.

A name is `.{name}.{machine}.{process}.{number}.tmp`. The machine is the host's name and digits that
differ between machines, their boots, and containers on one machine. The process is its number and
its start time, so that a new process with an old number is not taken for the old one. The last
number tells apart the files of one process. What dead processes have left is removed.
"""

import hashlib
import itertools
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path

MAX_NAME = 255
"""Bytes of a file's name, at most, on usual file systems."""
_NAME = re.compile(
    r"\..*\.(?P<machine>[A-Za-z0-9-]+-[0-9a-f]{12})"
    r"\.(?P<process>[1-9][0-9]{0,8})-(?P<start>[0-9]{1,20})\.[0-9]+\.tmp",
    re.DOTALL,
)
_numbers = itertools.count()


def beside(path: Path) -> Path:
    """A path in the same folder that no other writer uses, in this process or elsewhere."""
    process = os.getpid()
    machine, started = _machine() or f"{_host()}-unknown", _started(process) or "unknown"
    end = f".{machine}.{process}-{started}.{next(_numbers)}.tmp"
    name = path.name
    while len(os.fsencode(f".{name}{end}")) > MAX_NAME:
        name = name[:-1]
    return path.with_name(f".{name}{end}")


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders in a folder whose writers are known to be dead.

    These ran on this machine since it started, and in this container. Others' files stay, as do
    those whose names say nothing: their writers may be alive.
    """
    machine = _machine()
    with suppress(OSError):
        for name in os.listdir(folder) if machine else []:
            found = _NAME.fullmatch(name)
            own = found and found["machine"] == machine
            if found and own and _is_dead(int(found["process"]), found["start"]):
                with suppress(OSError):
                    os.unlink(folder / name)
                    continue
                shutil.rmtree(folder / name, ignore_errors=True)  # it is a folder


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9-]", "-", os.uname().nodename)[:32]


def _machine() -> str:
    """The machine's part of a name; empty if it cannot be told from others, as without /proc."""
    try:
        if os.readlink("/proc/self") != str(os.getpid()):  # /proc shows other processes
            return ""
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
        numbers = os.readlink("/proc/self/ns/pid")  # the container that gives processes numbers
    except (OSError, ValueError):
        return ""
    times = ""  # what start times count from, where that can differ
    with suppress(OSError):
        times = os.readlink("/proc/self/ns/time")
    text = "\n".join([os.uname().nodename, boot.strip(), numbers, times])
    return f"{_host()}-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _fields(process: int) -> list[bytes]:
    """What /proc says of a process, from its state on; empty if that cannot be read."""
    try:
        # The program's name in brackets, before these, can hold anything.
        return Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()
    except (OSError, ValueError):
        return []


def _started(process: int) -> str:
    """When a process started, in ticks since the machine did; empty if that cannot be read."""
    fields = _fields(process)
    return fields[19].decode() if len(fields) > 19 else ""


def _is_dead(process: int, started: str) -> bool:
    """Whether the process of this number that started then has ended for sure."""
    try:
        os.kill(process, 0)  # sends nothing
    except ProcessLookupError:
        return True
    except OSError:  # it is another user's
        pass
    # Nothing can be read if /proc hides the processes of other users.
    fields = _fields(process)
    if len(fields) < 20:
        return False
    state, threads, its_start = fields[0], fields[17], fields[19].decode()
    # One that has ended keeps its number until its parent asks for its exit code.
    has_ended = state == b"Z" and threads in (b"0", b"1")
    return has_ended or its_start != started
