"""Verbs that are asked to end, or killed, at any moment: what they leave, and their processes."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, mostly_thorough

PROMPT = 20.0
"""s within which a verb and all its processes must have ended."""
MANY = '{"num_trajectories": 40000, "shard_size": 1000}'
GENERATE = ("-m", "nsf_pipeline", "generate-data", "--config", MANY, "--output", "out", "--jobs")
VIDEO = """
import sys
import numpy as np
from nsf_pipeline.pusht.video import write_mp4
from nsf_pipeline.system.signals import Handling

def frames(count):
    for number in range(count):
        print("frame", number, flush=True)
        yield np.full((512, 512, 3), number % 256, np.uint8)
    print("last", flush=True)

with Handling():
    write_mp4("out/video.mp4", frames(int(sys.argv[1])))
"""
ENDLESS, SHORT = "1000000000", "200"


def started(folder, *arguments, **options):
    (folder / "out").mkdir(exist_ok=True)
    return subprocess.Popen(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def wait_for(process, text):
    assert any(text in line for line in process.stdout), process.communicate()[1]


def running(group):
    """The processes of a group that have not ended."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, its_group = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has just ended
            continue
        if int(its_group) == group and state not in "ZX":
            found.append(int(stat.parent.name))
    return found


def wait_for_all(process):
    """Wait until the process and its children have ended."""
    until = time.monotonic() + PROMPT
    try:
        process.wait(PROMPT)
        while left := running(process.pid):
            assert time.monotonic() < until, left
            time.sleep(0.1)
    finally:
        for left in running(process.pid):
            os.kill(left, signal.SIGKILL)
    for stream in (process.stdout, process.stderr):
        stream.close()


def temporary_files(folder):
    return [path for path in folder.rglob("*") if path.name.startswith(".")]


# By case: the signal, whether all processes get it, the exit code and what is printed.
ASKED = {
    "SIGTERM": (signal.SIGTERM, False, 143, "nsf_pipeline: stopped by SIGTERM\n"),
    "SIGTERM to all": (signal.SIGTERM, True, 143, "nsf_pipeline: stopped by SIGTERM\n"),
    "SIGHUP": (signal.SIGHUP, False, 129, "nsf_pipeline: stopped by SIGHUP\n"),
    "SIGHUP to all": (signal.SIGHUP, True, 129, "nsf_pipeline: stopped by SIGHUP\n"),
    "SIGINT": (signal.SIGINT, False, 130, "nsf_pipeline: interrupted\n"),
    "SIGINT to all": (signal.SIGINT, True, 130, "nsf_pipeline: interrupted\n"),
}


# One process has no others that could get it, too.
ASKED_OF = [
    (case, jobs) for case in ASKED for jobs in ("1", "2") if jobs > "1" or not ASKED[case][1]
]


@pytest.mark.parametrize(
    ("case", "jobs"),
    mostly_thorough(ASKED_OF, ("SIGHUP", "1"), ("SIGTERM to all", "2"), ("SIGINT", "2")),
)
def test_a_verb_that_is_asked_to_end_tidies_up(case, jobs, tmp_path):
    number, to_all, code, line = ASKED[case]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not ignored, as in the background
    process = started(tmp_path, *GENERATE, jobs)
    wait_for(process, "policies 0 to 999")
    (os.killpg if to_all else os.kill)(process.pid, number)
    _, printed = process.communicate(timeout=PROMPT)
    assert (process.returncode, printed) == (code, line)
    assert running(process.pid) == []
    assert temporary_files(tmp_path) == []


def test_what_is_ignored_stays_ignored(tmp_path):
    """As under nohup."""
    process = started(
        tmp_path, *GENERATE, "1", preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)
    )
    wait_for(process, "policies 0 to 999")
    process.send_signal(signal.SIGHUP)
    wait_for(process, "policies 1000 to 1999")
    process.kill()
    wait_for_all(process)


def test_the_processes_of_a_killed_verb_end_and_tidy_up(tmp_path):
    process = started(tmp_path, *GENERATE, "2")
    wait_for(process, "policies 0 to 999")
    process.kill()
    wait_for_all(process)
    assert temporary_files(tmp_path) == []


WRITING = """
import os, signal, sys
import numpy as np
from pathlib import Path
from nsf_pipeline.data import store
from nsf_pipeline.dmp import condition_dim
from nsf_pipeline.system.signals import Handling

sizes = {"B": 6, "C": condition_dim(6)}
shapes = {
    name: (50, *(sizes.get(axis, axis) for axis in field.axes))
    for name, field in store.POLICIES.items()
}
arrays = {name: np.ones(shape, store.POLICIES[name].dtype) for name, shape in shapes.items()}
arrays["trajectory"] = np.arange(50)
calls = 0

def called(data):
    global calls
    calls += 1
    if calls == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGTERM)
    return memoryview(data)

store.memoryview = called  # used where HDF5 writes
with Handling():
    while True:
        store.write(Path("out/it.h5"), "policies", arrays, {"fingerprint": "0" * 16})
"""


@pytest.mark.parametrize("call", mostly_thorough([1, 5, 20, 80], 20))
def test_a_signal_in_the_middle_of_writing_hdf5_crashes_nothing(call, tmp_path):
    """HDF5 calls functions of this package, and an exception in these would crash it."""
    process = started(tmp_path, "-c", WRITING, str(call))
    _, printed = process.communicate(timeout=PROMPT)
    assert (process.returncode, printed) == (143, "")
    assert {path.name for path in (tmp_path / "out").iterdir()} <= {"it.h5"}


BUSY = """
import time, weakref
from nsf_pipeline.system import signals

class Thing:
    pass

def endless():
    while True:
        try:
            print("busy", flush=True)
            time.sleep(600)
        except SystemExit:
            pass

def called_back():
    thing = Thing()
    kept = weakref.ref(thing, lambda _: (print("busy", flush=True), time.sleep(2)))
    del thing
    time.sleep(600)

signals.PATIENCE = 4
with signals.Handling():
    {}()
"""
# By case: where the exception is dropped, and what is printed when the process ends.
DROPPED = {
    "by the program": ("endless", "nsf_pipeline: stopped by SIGTERM\n"),
    "by Python, in a callback": ("called_back", ""),
}


@pytest.mark.parametrize("case", DROPPED)
def test_a_process_that_drops_the_exception_ends_too(case, tmp_path):
    function, line = DROPPED[case]
    process = started(tmp_path, "-c", BUSY.format(function))
    wait_for(process, "busy")
    process.terminate()
    _, printed = process.communicate(timeout=PROMPT)
    assert (process.returncode, printed) == (143, line)


# By case: how many frames there are, and the line that is printed when the signal is sent.
MOMENTS = {
    "before the first frame": (ENDLESS, "frame 0"),
    "at the first frame": (ENDLESS, "frame 1"),
    "at work": (ENDLESS, "frame 100"),
    "after the last frame": (SHORT, "last"),
}
SIGNALS = ("SIGKILL", "SIGTERM", "SIGHUP", "SIGINT")
# Each signal at work; at the other moments one that cannot be handled, and one that is.
SENT = [("at work", name) for name in SIGNALS]
SENT += [(moment, name) for moment in MOMENTS if moment != "at work" for name in SIGNALS[:2]]


@pytest.mark.parametrize(
    ("moment", "name"),
    mostly_thorough(
        SENT,
        ("at work", "SIGTERM"),
        ("before the first frame", "SIGKILL"),
        ("after the last frame", "SIGTERM"),
    ),
)
def test_a_video_whose_writer_ends_leaves_nothing_behind(moment, name, tmp_path):
    frames, line = MOMENTS[moment]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/video.mp4").write_bytes(b"what stood there before")
    process = started(tmp_path, "-c", VIDEO, frames)
    wait_for(process, line)
    process.send_signal(signal.Signals[name])
    wait_for_all(process)
    (video,) = (tmp_path / "out").iterdir()
    if frames == ENDLESS:  # otherwise it may have been faster
        assert process.returncode != 0
        assert video.read_bytes() == b"what stood there before"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGINT"])
def test_a_video_whose_ffmpeg_ends_is_one_error_and_leaves_nothing(name, tmp_path):
    process = started(tmp_path, "-c", VIDEO, ENDLESS)
    wait_for(process, "frame 100")
    (ffmpeg,) = set(running(process.pid)) - {process.pid}
    os.kill(ffmpeg, signal.Signals[name])
    _, printed = process.communicate(timeout=PROMPT)
    assert process.returncode == 1
    last = printed.splitlines()[-1]
    assert last.startswith("nsf_pipeline.files.FileError: out/video.mp4: cannot write it: ffmpeg")
    assert list((tmp_path / "out").iterdir()) == []


def test_without_files_in_memory_videos_are_the_same(tmp_path):
    """As on other systems than Linux."""
    code = VIDEO.replace("import sys", "import os, sys; del os.memfd_create")
    for name, script in {"with": VIDEO, "without": code}.items():
        folder = tmp_path / name
        folder.mkdir()
        process = started(folder, "-c", script, SHORT)
        _, printed = process.communicate()
        assert (process.returncode, printed) == (0, "")
    videos = {path.read_bytes() for path in tmp_path.glob("*/out/video.mp4")}
    assert len(videos) == 1
