"""Weights & Biases as a guest: it obeys WANDB_MODE, and never stops a run."""

import sys
from types import SimpleNamespace

import pytest
from conftest import run

from nsf_pipeline.config import WandbConfig
from nsf_pipeline.tracking import WandbRun

SCRIPT = """
import sys
from pathlib import Path
from nsf_pipeline.config import WandbConfig
from nsf_pipeline.tracking import WandbRun
run = WandbRun(WandbConfig(mode=sys.argv[1]), Path("training"), {"seed": 3})
run.log({"nll": 1.5}, step=10)
run.finish({"best_step": 10})
print("mode", run.mode, "wandb" in sys.modules)
"""


def script(tmp_path, mode, **environment):
    """Log from a folder of its own, without a key or settings of whoever runs the tests."""
    home = {"HOME": str(tmp_path), "NETRC": str(tmp_path / "netrc"), "WANDB_API_KEY": ""}
    command = f"import os; os.chdir({str(tmp_path)!r})\n{SCRIPT}"
    done = run(sys.executable, "-c", command, mode, **home, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), sorted(tmp_path.glob("training/wandb/offline-run-*"))


@pytest.mark.parametrize(
    ("mode", "environment"),
    [
        ("disabled", {}),
        ("offline", {"WANDB_MODE": "disabled"}),
        ("online", {"WANDB_MODE": "disabled"}),
    ],
)
def test_disabled_does_not_even_import_it(tmp_path, mode, environment):
    printed, runs = script(tmp_path, mode, **environment)
    assert printed == ["mode disabled False"]
    assert runs == []
    assert not (tmp_path / "training").exists()


@pytest.mark.parametrize(
    ("mode", "environment", "first"),
    {
        "offline": ("offline", {}, None),
        "the variable wins": ("disabled", {"WANDB_MODE": "offline"}, None),
        "online without a key": (
            "online",
            {},
            "wandb: no key found, so this run is logged offline",
        ),
    }.values(),
    ids=["offline", "the variable wins", "online without a key"],
)
def test_offline_writes_a_run_and_says_how_to_upload_it(tmp_path, mode, environment, first):
    printed, runs = script(tmp_path, mode, **environment)
    (folder,) = runs
    assert list(folder.glob("run-*.wandb"))
    *notes, upload, state = printed
    assert notes == ([first] if first else [])
    command = "wandb: offline; upload with: wandb sync "
    assert upload.startswith(command)
    assert (tmp_path / upload.removeprefix(command)).samefile(folder)
    assert state == "mode offline True"


class Broken:
    """A run that fails wherever it is told to."""

    def __init__(self, where):
        self.where, self.calls = where, []
        self.summary = SimpleNamespace(update=lambda summary: self._called("summary"))
        self.dir = "folder/files"

    def log(self, row, step):
        self._called("log")

    def finish(self):
        self._called("finish")

    def _called(self, name):
        self.calls.append(name)
        if name == self.where:
            raise RuntimeError("no space\nleft")


@pytest.mark.parametrize(
    ("where", "calls"),
    {
        "import": [],
        "init": [],
        "log": ["log"],
        "summary": ["log", "log", "summary"],
        "finish": ["log", "log", "summary", "finish"],
    }.items(),
)
def test_its_failures_stay_its_own(where, calls, tmp_path, monkeypatch, capsys):
    broken = Broken(where)

    def init(**_):
        broken._called("init")
        broken.calls.clear()
        return broken

    wandb = SimpleNamespace(init=init, Settings=lambda **_: None)
    monkeypatch.setitem(sys.modules, "wandb", None if where == "import" else wandb)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    guest = WandbRun(WandbConfig(mode="offline"), tmp_path, {})
    guest.log({"nll": 1.0}, step=1)
    guest.log({"nll": 1.0}, step=2)
    guest.finish({})
    guest.finish({})
    assert broken.calls == (["init"] if where == "init" else calls)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("wandb: switched off: ")
    assert where == "import" or line.endswith("RuntimeError: no space left")
