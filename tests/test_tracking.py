"""Logging to Weights & Biases: it obeys WANDB_MODE, and never stops or slows a run."""

import json
import os
import struct
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
from conftest import ROOT, mostly_thorough, run

SCRIPT = """
import os, sys, time
from importlib import import_module
from pathlib import Path
os.chdir(sys.argv[2])
import nsf_pipeline.tracking as tracking
from nsf_pipeline.config import WandbConfig
tracking.PATIENCE = float(sys.argv[3])
folder = Path("training")
started = time.monotonic()
with tracking.WandbRun(WandbConfig(mode=sys.argv[1]), folder, folder / "run", {"seed": 3}) as run:
    run.log_history(Path("history.csv"))
    for step in range(10, 10 + int(sys.argv[4])):
        run.log({"step": step, "nll": 1.5 * step})
    if Path("table.csv").exists():
        run.log_table("horizons", Path("table.csv"))
        run.log_video("best trajectory", Path("video.mp4"))
    logged = time.monotonic() - started
    if "fail" in sys.argv:
        raise SystemExit(5)
    run.finish({"best_step": 10})
print("seconds", logged, time.monotonic() - started, "wandb" in sys.modules)
"""
KEY = "0123456789abcdef0123456789abcdef01234567"


def script(folder, mode, *, patience=60, rows=2, more=(), **environment):
    """Log from a separate folder, without the key and settings of the user who runs the tests."""
    home = {"HOME": str(folder), "NETRC": str(folder / "netrc"), "WANDB_API_KEY": ""}
    return run(
        *(sys.executable, "-c", SCRIPT, mode, folder, patience, rows, *more),
        **{**home, "PYTHONPATH": str(ROOT), **environment},
    )


def printed(done):
    """All lines except the last, which holds times."""
    assert done.returncode == 0, done.stderr
    *lines, last = done.stdout.splitlines()
    assert last.startswith("seconds ")
    assert last.endswith(" False")  # wandb was not imported into this process
    return lines


def runs_of(folder):
    return sorted(folder.glob("training/wandb/offline-run-*"))


def records_of(folder):
    """What the runs' files hold, as wandb would upload it."""
    found = import_module("wandb.proto.wandb_internal_pb2").Record
    (path,) = folder.glob("run-*.wandb")
    return [found.FromString(data) for data in pieces_of(path.read_bytes())]


def pieces_of(content, block=32_768, header=7):
    """LevelDB's log: blocks of pieces, each with a checksum, a size and a kind."""
    place, whole = header, b""
    while place + header <= len(content):
        left = block - place % block
        if left < header:
            place += left
            continue
        _, size, kind = struct.unpack_from("<IHB", content, place)
        whole += content[place + header : place + header + size]
        place += header + size
        if kind in (1, 4):  # full, or the last of some
            yield whole
            whole = b""


def history_of(folder):
    rows = []
    for record in records_of(folder):
        if record.HasField("history"):
            items = record.history.item
            rows.append({"".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items})
    return rows


@pytest.mark.parametrize(
    ("mode", "environment"),
    [
        ("disabled", {}),
        ("offline", {"WANDB_MODE": "disabled"}),
        ("online", {"WANDB_MODE": "disabled"}),
    ],
)
def test_disabled_starts_nothing(tmp_path, mode, environment):
    assert printed(script(tmp_path, mode, **environment)) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("mode", "environment", "notes"),
    {
        "offline": ("offline", {}, []),
        "the variable wins": ("disabled", {"WANDB_MODE": "offline"}, []),
        "unknown": (
            "offline",
            {"WANDB_MODE": "of"},
            ["wandb: unknown WANDB_MODE=of, so the mode is offline"],
        ),
        "project with a slash": (
            "offline",
            {"WANDB_PROJECT": "team/runs"},
            [
                "wandb: WANDB_PROJECT: expected at most 128 characters that can be printed, "
                'without / \\ # ? % : and without blanks at the ends, got "team/runs"; the '
                "project is nsf-pusht"
            ],
        ),
        "online without a key": (
            "online",
            {},
            ["wandb: no key found, so this run is logged offline"],
        ),
    }.values(),
    ids=["offline", "the variable wins", "unknown", "project with a slash", "no key"],
)
def test_offline_writes_a_run_and_says_how_to_upload_it(tmp_path, mode, environment, notes):
    *found, upload = printed(script(tmp_path, mode, **environment))
    assert found == notes
    (folder,) = runs_of(tmp_path)
    command = "wandb: offline; upload with: wandb sync "
    assert upload.startswith(command)
    assert (tmp_path / upload.removeprefix(command)).samefile(folder)
    assert [(row["_step"], row["nll"]) for row in history_of(folder)] == [(10, 15.0), (11, 16.5)]


def test_the_same_id_and_the_whole_history_after_an_interruption(tmp_path):
    """Killed after two rows; then the evaluation adds a table and a video."""
    script(tmp_path, "offline", more=["fail"])
    (tmp_path / "history.csv").write_text("step,nll\n8,12.0\n9,13.5\n")
    (tmp_path / "table.csv").write_text("model,crps,nll\nsimulator,1.0,\nflow,1.25,3.5\n")
    (tmp_path / "video.mp4").write_bytes(b"not much of a video")
    printed(script(tmp_path, "offline"))
    # The first logger was not waited for.
    deadline = time.monotonic() + 30
    while len(runs_of(tmp_path)) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    name = (tmp_path / "training/run/wandb-run").read_text()
    first, second = runs_of(tmp_path)
    assert first.name.endswith(name)
    assert name in second.name  # numbered where both began in the same second
    rows = history_of(second)
    assert [row["_step"] for row in rows][:4] == [8, 9, 10, 11]
    assert rows[0]["nll"] == 12.0
    (config,) = (r.run.config for r in records_of(second) if r.HasField("run"))
    assert {item.key: item.value_json for item in config.update}["seed"] == "3"
    (table,) = second.glob("files/media/table/*.json")
    assert json.loads(table.read_text())["data"] == [["simulator", 1.0, None], ["flow", 1.25, 3.5]]
    (video,) = second.glob("files/media/videos/*.mp4")
    assert video.read_bytes() == b"not much of a video"


BROKEN = """
import sys, time
class api: api_key = "there"
def Settings(**_): pass
def init(**_):
    {init}
    return Run()
class Run:
    dir = "a/b"
    summary = {{}}
    def log(self, row, step=None):
        {log}
    def finish(self, exit_code=0):
        {finish}
{top}
"""
FAULTS = {
    "import": {"top": "raise ImportError('no such\\nthing')"},
    "an exit": {"top": "raise SystemExit('Error: no such thing')"},
    "what it prints": {"top": "print('noise', flush=True); raise OSError('no such thing')"},
    "init": {"init": "raise RuntimeError('no such\\nthing')"},
    "log": {"log": "raise OSError('no such\\nthing')"},
    "finish": {"finish": "raise ValueError('no such\\nthing')"},
}


def broken(folder, **lines):
    """A package that fails, in place of wandb."""
    path = folder / "broken"
    path.mkdir()
    where = dict.fromkeys(("init", "log", "finish", "top"), "pass")
    (path / "wandb.py").write_text(BROKEN.format(**{**where, **lines}))
    return {"PYTHONPATH": f"{path}{os.pathsep}{ROOT}"}


@pytest.mark.parametrize("where", mostly_thorough(FAULTS, "import", "log"))
def test_a_failure_of_wandb_does_not_fail_the_run(where, tmp_path):
    (line,) = printed(script(tmp_path, "offline", **broken(tmp_path, **FAULTS[where])))
    assert line.startswith("wandb: switched off: ")
    assert line.endswith("Error: no such thing")


@pytest.mark.parametrize("where", mostly_thorough(["init", "log", "finish"], "log"))
def test_a_logger_that_hangs_is_not_waited_for(where, tmp_path):
    """More is logged than any pipe holds."""
    environment = broken(tmp_path, **{where: "time.sleep(1000)"})
    done = script(tmp_path, "online", patience=1, rows=50_000, **environment)
    assert printed(done) == ["wandb: switched off: not finished after 1 s"]


def test_a_logger_that_is_killed_does_not_fail_the_run(tmp_path):
    done = script(tmp_path, "offline", **broken(tmp_path, top="import os; os.kill(os.getpid(), 9)"))
    assert printed(done) == ["wandb: switched off: the logger's process ended with -9"]


DISTURBED = {
    "an unknown mode of several lines": {"WANDB_MODE": "x\ny"},
    "a mode that no terminal shows": {"WANDB_MODE": "\x1b[31m"},
    "disabled by another variable": {"WANDB_DISABLED": "true"},
    "a silence that is none": {"WANDB_SILENT": "nonsense"},
    "another folder": {"WANDB_DIR": "/proc/none"},
    "an address that is none": {"WANDB_BASE_URL": "nonsense", "WANDB_RESUME": "must"},
    "no home": {"HOME": "/none"},
    "ascii": {"PYTHONIOENCODING": "ascii:strict"},
}


@pytest.mark.parametrize(
    "name", mostly_thorough(DISTURBED, "a mode that no terminal shows", "no home")
)
def test_no_variable_of_wandbs_fails_the_run(name, tmp_path):
    assert all(
        line.startswith("wandb: ") and line.isprintable()
        for line in printed(script(tmp_path, "offline", **DISTURBED[name]))
    )


def test_tables_are_logged_without_a_home(tmp_path):
    """They wait for their upload in the run's folder, which outlives a job on another machine."""
    (tmp_path / "table.csv").write_text("name,nll\na,1.5\n")
    places = {"HOME": "/proc", "XDG_CACHE_HOME": "/proc", "XDG_DATA_HOME": "/proc"}
    assert not any("/proc" in line for line in printed(script(tmp_path, "offline", **places)))
    staged = tmp_path.glob("training/wandb/data/artifacts/staging/*")
    assert any(b"1.5" in path.read_bytes() for path in staged)


DAMAGED = {"no text": b"\xff\xfe", "empty": b""}


@pytest.mark.parametrize("name", mostly_thorough(DAMAGED, "no text"))
def test_a_damaged_id_is_replaced(name, tmp_path):
    path = tmp_path / "training/run/wandb-run"
    path.parent.mkdir(parents=True)
    path.write_bytes(DAMAGED[name])
    printed(script(tmp_path, "disabled", WANDB_MODE="offline"))
    assert len(path.read_text()) == 8


def test_a_key_is_never_printed(tmp_path):
    lines = {"init": "import os; print(os.environ); raise ValueError(os.environ['WANDB_API_KEY'])"}
    done = script(tmp_path, "online", WANDB_API_KEY=KEY, **broken(tmp_path, **lines))
    assert printed(done) == ["wandb: switched off: ValueError: [key]"]
    assert KEY not in done.stdout + done.stderr


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "training").write_text("a file")
    (line,) = printed(script(tmp_path, "offline"))
    assert line.startswith("wandb: switched off: ")
    assert Path(tmp_path / "training").read_text() == "a file"
