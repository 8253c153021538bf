"""Functions called in several processes: results, failures, and machines without semaphores."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from nsf_pipeline.errors import UserError
from nsf_pipeline.system.processes import KILLED, processes


def square(number):
    return number * number


def fail(number):
    raise UserError(f"no {number}")


def kill(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def process_of(number):
    time.sleep(0.2)
    return os.getpid()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_results_come_in_the_order_of_the_calls(method):
    with processes(3, method) as several:
        for count in (10, 2, 0):
            calls = [(number,) for number in range(count)]
            assert several.map(square, calls) == [number * number for number in range(count)]


def test_calls_run_side_by_side_in_processes_that_end():
    with processes(3) as several:
        used = set(several.map(process_of, [(0,), (1,), (2,)]))
        assert len(used) == 3
    for process in used:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


# By case: the function, the error, and its message.
FAILURES = {
    # Either of both processes may be the first to fail.
    "an error of the user's": (fail, UserError, "no [01]"),
    "a process that was killed": (kill, UserError, KILLED),
    "an error of the code": (len, TypeError, "has no len"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_comes_back_and_ends_all(case):
    function, kind, message = FAILURES[case]
    with pytest.raises(kind, match=message), processes(2) as several:
        several.map(function, [(number,) for number in range(8)])


def test_an_interrupt_ends_all_at_once():
    started = time.monotonic()
    threading.Timer(1.0, os.kill, [os.getpid(), signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt), processes(2) as several:
        several.map(time.sleep, [(60.0,), (60.0,)])
    assert time.monotonic() - started < 30.0


CALL = "from nsf_pipeline.system.processes import processes\n"
CALL += "with processes(2, {method!r}) as several: print(several.map(abs, [(-1,), (2,), (-3,)]))"
WITHOUT = "import _multiprocessing\ndel _multiprocessing.SemLock\n"
# By case: how the folder that holds semaphores is mounted; needs root.
MOUNTS = {
    "read-only": "mount -t tmpfs -o ro tmpfs /dev/shm",
    "without room": "mount -t tmpfs -o nr_inodes=1 tmpfs /dev/shm",
    "absent": "mount -t tmpfs tmpfs /dev && mknod -m 666 /dev/null c 1 3 && "
    "mknod -m 666 /dev/urandom c 1 9",
}


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("case", MOUNTS)
def test_no_semaphores_are_needed(case, method):
    code = CALL.format(method=method)
    hide = ["unshare", "--mount", "sh", "-c", f'{MOUNTS[case]} && exec "$@"', "sh"]
    if subprocess.run([*hide, "true"], capture_output=True).returncode:
        code, hide = WITHOUT + code, []  # as where Python was built without them
    done = subprocess.run([*hide, sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[1, 2, 3]\n", "")


def test_too_many_are_one_line():
    code = CALL.replace("(2,", "(50,").format(method="fork")
    command = ["bash", "-c", 'ulimit -n 20; exec "$@"', "bash", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert last == (
        "nsf_pipeline.errors.UserError: cannot start 50 processes: Too many open files; give fewer "
        "--jobs or --threads"
    )
