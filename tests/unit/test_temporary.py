"""Temporary files: whose they are, and that only those of dead processes are removed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import ROOT

from nsf_pipeline.files import new_folder, replacing
from nsf_pipeline.system import temporary


@pytest.fixture(scope="module")
def dead():
    """The number of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    return process.pid


@pytest.fixture(scope="module")
def living():
    """The number of a process that runs."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        process.kill()


def named(machine, process, started, name="it.h5", number=0):
    return f".{name}.{machine}.{process}-{started}.{number}.tmp"


def started(process):
    return temporary._started(process)


# By case: a name, from this machine's part, a dead and a living process; and whether it is removed.
LEFTOVERS = {
    "a dead process of this machine": (lambda here, dead, living: named(here, dead, 5), True),
    "of another file": (lambda here, dead, _: named(here, dead, 5, "b.png"), True),
    "with dots, blanks and line ends": (lambda here, dead, _: named(here, dead, 5, "a. \nb"), True),
    "a number that a living process has now": (
        lambda here, _, living: named(here, living, 5),
        True,
    ),
    "the first process, started otherwise": (lambda here, *_: named(here, 1, 10**9), True),
    "a living process": (lambda here, _, living: named(here, living, started(living)), False),
    "this process": (
        lambda here, *_: named(here, os.getpid(), started(os.getpid()), number=10**6),
        False,
    ),
    "another machine": (lambda here, dead, _: named("node17-0123456789ab", dead, 5), False),
    "another start of this machine": (
        lambda here, dead, _: named(here[:-12] + "0123456789ab", dead, 5),
        False,
    ),
    "an unknown machine": (lambda here, dead, _: named("node-unknown", dead, 5), False),
    "an unknown start": (lambda here, dead, _: named(here, dead, "unknown"), False),
    "the name of before, of a dead process": (lambda here, dead, _: f".it.h5.{dead}.tmp", False),
    "the name of before, of a living one": (lambda *all: f".it.h5.{all[2]}.tmp", False),
    "no number": (lambda here, *_: named(here, "", 5), False),
    "number 0, which is the group": (lambda here, *_: named(here, 0, 5), False),
    "a negative number, which is a group": (lambda here, dead, _: named(here, -dead, 5), False),
    "a number beyond all": (lambda here, *_: named(here, 10**12, 5), False),
    "not hidden": (lambda here, dead, _: named(here, dead, 5)[1:], False),
    "another ending": (lambda here, dead, _: named(here, dead, 5) + "x", False),
    "a user's own": (lambda *_: ".notes.tmp", False),
}


@pytest.mark.parametrize("case", LEFTOVERS)
def test_only_what_a_dead_process_of_this_machine_left_is_removed(case, dead, living, tmp_path):
    name, is_removed = LEFTOVERS[case]
    left = tmp_path / name(temporary._machine(), dead, living)
    left.write_bytes(b"half")
    with replacing(tmp_path / "it.h5") as beside:
        beside.write_bytes(b"whole")
    assert left.exists() is not is_removed
    assert (tmp_path / "it.h5").read_bytes() == b"whole"
    assert len(list(tmp_path.iterdir())) == (1 if is_removed else 2)


@pytest.mark.parametrize("is_dead", [True, False])
def test_a_folder_of_a_dead_process_is_removed_with_all_in_it(is_dead, dead, living, tmp_path):
    process, start = (dead, 5) if is_dead else (living, started(living))
    left = tmp_path / named(temporary._machine(), process, start, "export")
    (left / "data").mkdir(parents=True)
    (left / "data" / "half").touch()
    with new_folder(tmp_path / "export") as beside:
        (beside / "whole").touch()
    assert left.exists() is not is_dead
    assert os.listdir(tmp_path / "export") == ["whole"]


# By case: what differs for another process that looks at the same folder.
ELSEWHERE = {
    "another boot": "boot",
    "another container": "pid",
    "another clock for processes": "time",
    "another host": "host",
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_what_is_read_elsewhere_is_left_alone(case, dead, tmp_path, monkeypatch):
    left = tmp_path / named(temporary._machine(), dead, 5)
    left.touch()
    changed, readlink = ELSEWHERE[case], os.readlink

    def other_link(path):
        return readlink(path) + ("0" if changed in str(path) else "")

    monkeypatch.setattr(os, "readlink", other_link)
    if changed == "boot":
        monkeypatch.setattr(temporary.Path, "read_text", lambda *_, **__: "another boot")
    if changed == "host":
        real = os.uname()
        fields = (real.sysname, "another", real.release, real.version, real.machine)
        monkeypatch.setattr(os, "uname", lambda: os.uname_result(fields))
    temporary.remove_leftovers(tmp_path)
    assert left.exists()


def unreadable(monkeypatch):
    def refuse(path):
        raise PermissionError(path)

    monkeypatch.setattr(os, "readlink", refuse)


def of_others(monkeypatch):
    monkeypatch.setattr(os, "readlink", lambda path: "12345")


UNKNOWN = {"no /proc": unreadable, "the /proc of another container": of_others}


@pytest.mark.parametrize("case", UNKNOWN)
def test_where_the_machine_cannot_be_told_nothing_is_removed(case, dead, tmp_path, monkeypatch):
    left = tmp_path / named(temporary._machine(), dead, 5)
    UNKNOWN[case](monkeypatch)
    unknown = temporary.beside(tmp_path / "it.h5")
    assert "-unknown." in unknown.name
    for path in (left, unknown):
        path.touch()
    with replacing(tmp_path / "it.h5") as beside:
        beside.touch()
    assert sorted(tmp_path.iterdir()) == sorted([left, unknown, tmp_path / "it.h5"])


def test_a_process_that_proc_hides_counts_as_alive(living, monkeypatch):
    monkeypatch.setattr(temporary, "_fields", lambda process: [])
    assert not temporary._is_dead(living, "5")


def test_a_process_whose_parent_has_not_noticed_its_end_is_dead():
    process = subprocess.Popen(["sleep", "600"])
    started_at = started(process.pid)
    assert not temporary._is_dead(process.pid, started_at)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert started(process.pid) == started_at
    assert temporary._is_dead(process.pid, started_at)
    process.wait()
    assert temporary._is_dead(process.pid, started_at)


def test_a_process_of_another_user_counts_as_alive(monkeypatch):
    def refused(process, number):
        raise PermissionError

    started = temporary._started(os.getpid())
    monkeypatch.setattr(os, "kill", refused)
    assert not temporary._is_dead(os.getpid(), started)


@pytest.mark.parametrize("name", ["n" * 255, "ü" * 127, "a"])
def test_names_of_any_length_can_be_written(name, tmp_path):
    with replacing(tmp_path / name) as beside:
        beside.write_bytes(b"whole")
        assert len(os.fsencode(beside.name)) <= 255
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_threads_of_one_process_write_one_file_at_once(tmp_path):
    path, together = tmp_path / "it", threading.Barrier(8)

    def write(content):
        with replacing(path) as beside:
            beside.write_bytes(content)
            together.wait()

    contents = [bytes([number]) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, contents))
    assert path.read_bytes() in contents
    assert list(tmp_path.iterdir()) == [path]


def test_a_forked_process_has_names_of_its_own(tmp_path):
    def write(names):
        names.put(temporary.beside(tmp_path / "it").name)

    context = multiprocessing.get_context("fork")
    names = context.SimpleQueue()
    process = context.Process(target=write, args=(names,))
    process.start()
    assert f".{process.pid}-" in names.get()
    process.join()


WRITER = """
import sys
from pathlib import Path
from nsf_pipeline.files import new_folder, replacing
path, content = Path(sys.argv[1]), sys.argv[2].encode() * 100_000
with replacing(path) as beside:
    with beside.open("wb") as file:
        file.write(content[:50_000])
        file.flush()
        print("halfway", flush=True)
        input()
        file.write(content[50_000:])
"""


def writer(path, content):
    """A process that has written half of its temporary file."""
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path), content],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "halfway\n"
    return process


def finish(process):
    printed, _ = process.communicate("\n")
    assert (process.returncode, printed) == (0, "")


def test_two_processes_that_write_one_file_end_in_order(tmp_path):
    """One is stopped halfway, as by a slow file system, while the other writes the whole file."""
    path = tmp_path / "it"
    slow = writer(path, "a")
    slow.send_signal(signal.SIGSTOP)
    for _ in range(2):
        finish(writer(path, "b"))
        assert path.read_bytes() == b"b" * 100_000
    slow.send_signal(signal.SIGCONT)
    finish(slow)
    assert path.read_bytes() == b"a" * 100_000
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_killed_writer_left_goes_with_the_next(tmp_path):
    path = tmp_path / "it"
    killed, running = writer(path, "a"), writer(path, "b")
    killed.kill()
    killed.communicate()
    assert len(list(tmp_path.iterdir())) == 2
    finish(writer(path, "c"))
    assert len(list(tmp_path.iterdir())) == 2  # it, and what the running one writes
    finish(running)
    assert list(tmp_path.iterdir()) == [path]
