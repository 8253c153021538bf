"""Figures: the same under all of a user's settings; one that fails costs nothing but itself."""

import hashlib
import json
import os
import re
import subprocess
import sys
from typing import Any

import matplotlib
import pytest
from conftest import ROOT
from PIL import Image

from nsf_pipeline import drawing, label, why
from nsf_pipeline.config import Config
from nsf_pipeline.drawing import write_figure, write_figure_or_placeholder
from nsf_pipeline.files import FileError
from nsf_pipeline.provenance import Record, require_reports
from nsf_pipeline.stages import STAGES
from nsf_pipeline.stages.reports import write_reports

# Code that draws, for this process and others, which are to import nothing more.
DRAWING = """
import numpy as np
from nsf_pipeline.data.picture import Sample, Summary, picture
from nsf_pipeline.pusht.factors import USUAL

def draw():
    walk = np.linspace([100.0, 100.0, 0.0], [300.0, 400.0, 1.0], 11)
    sample = Sample([walk[:, :2]], [walk], [np.arange(10) > 5], [True], [USUAL])
    taken, moved = {True: np.full(10, 5), False: np.zeros(10, int)}, np.arange(10) // 4
    return picture(Summary(np.array([0.0, 0.5]), taken, {True: moved, False: moved}, sample))
"""
SCRIPT = """
import sys
from pathlib import Path
from nsf_pipeline.drawing import write_figure
write_figure(draw, Path(sys.argv[1]))
"""


def draw():
    names: dict[str, Any] = {}
    exec(DRAWING, names)
    return names["draw"]()


SETTINGS = """
text.usetex: True
font.family: no such font
savefig.format: pdf
savefig.dpi: 10
savefig.bbox: tight
savefig.transparent: True
savefig.facecolor: red
figure.dpi: 10000
figure.autolayout: True
axes.prop_cycle: cycler("color", ["red"])
axes.grid: True
image.cmap: nonsense
path.sketch: 1, 100, 2
lines.linewidth: 9
backend: TkAgg
a line without a meaning
"""
FILE: dict[str, bytes | None] = {"matplotlibrc": SETTINGS.encode()}
PIPE = None
"""In place of a file's content: a pipe that nobody writes to."""
ENVIRONMENTS: dict[str, tuple[dict[str, str], dict[str, bytes | None]]] = {
    "none": ({}, {}),
    "the backend of a notebook": ({"MPLBACKEND": "module://matplotlib_inline.backend_inline"}, {}),
    "the backend of a window": ({"MPLBACKEND": "TkAgg"}, {}),
    "a backend that is none": ({"MPLBACKEND": "nonsense"}, {}),
    "another way to draw letters": ({"FREETYPE_PROPERTIES": "truetype:interpreter-version=35"}, {}),
    "settings in the folder": ({}, FILE),
    "settings in a named file": (
        {"MATPLOTLIBRC": "its/matplotlibrc"},
        {"its/matplotlibrc": SETTINGS.encode()},
    ),
    "settings of the user": ({"MPLCONFIGDIR": "its"}, {"its/matplotlibrc": SETTINGS.encode()}),
    "settings that are no text": ({}, {"matplotlibrc": b"\xff\xfe\x00"}),
    "settings that are a pipe": ({}, {"matplotlibrc": PIPE}),
    "settings without an end": ({"MATPLOTLIBRC": "/dev/zero"}, {}),
    "a folder that cannot be made": ({"MPLCONFIGDIR": "/proc/none"}, {}),
    "no home": ({"HOME": "/none", "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": ""}, {}),
    "a damaged list of fonts": ({"MPLCONFIGDIR": "its"}, {"its/fontlist-v390.json": b"{broken"}),
    "a style of the user": (
        {"MPLCONFIGDIR": "its"},
        {"its/stylelib/default.mplstyle": SETTINGS.encode()},
    ),
}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    path = tmp_path_factory.mktemp("expected") / "drawn.png"
    write_figure(draw, path)
    return path.read_bytes()


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_a_figure_is_the_same_under_all_settings(name, expected, tmp_path):
    environment, files = ENVIRONMENTS[name]
    for path, content in files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True, parents=True)
        if content is PIPE:
            os.mkfifo(tmp_path / path)
        else:
            (tmp_path / path).write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", DRAWING + SCRIPT, "drawn.png"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120.0,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "drawn.png").read_bytes() == expected


SESSIONS: dict[str, dict[Any, Any]] = {
    "LaTeX": {"text.usetex": True},
    "format": {"savefig.format": "pdf"},
    "dpi": {"figure.dpi": 10_000.0, "savefig.dpi": 3.0},
    "font": {"font.family": ["no such font"], "font.size": 30.0},
    "transparent": {"savefig.transparent": True},
    "sketch": {"path.sketch": (1, 100, 2)},
    "layout": {"savefig.bbox": "tight", "figure.autolayout": True},
}


@pytest.mark.parametrize("name", SESSIONS)
def test_the_settings_of_a_session_change_no_figure_and_stay(name, expected, tmp_path):
    with matplotlib.rc_context(SESSIONS[name]):
        before = dict(matplotlib.rcParams)
        write_figure(draw, tmp_path / "drawn.png")
        assert dict(matplotlib.rcParams) == before
    assert (tmp_path / "drawn.png").read_bytes() == expected


def test_a_users_backend_stays_for_the_users_figures(tmp_path):
    code = "import nsf_pipeline.plotting, matplotlib, os; "
    code += "print(os.environ['MPLBACKEND'], matplotlib.rcParams['backend'])"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MPLBACKEND": "svg"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.stdout == "svg svg\n"


def fail(error):
    raise error


class LongError(Exception):
    def __str__(self):
        return "two\nlines, ×" + "x" * 5000


FAULTS = {
    "a value": (lambda: fail(ValueError("no\nsuch")), "ValueError: no such"),
    "memory": (lambda: fail(MemoryError()), "MemoryError"),
    "recursion": (lambda: fail(RecursionError("too deep")), "RecursionError: too deep"),
    "an import": (lambda: __import__("no_such_module"), "ModuleNotFoundError: No module named"),
    "a system error": (lambda: fail(OSError(28, "No space")), "OSError: [Errno 28] No space"),
    "a long message": (lambda: fail(LongError()), "LongError: two lines, …"),
    "no figure": (lambda: None, "AttributeError: 'NoneType' object has no attribute 'savefig'"),
}
MADE = Record.new(STAGES["settings_page"], Config()).fields()


@pytest.mark.parametrize("name", FAULTS)
def test_a_placeholder_takes_a_figures_place_and_says_why(name, tmp_path, capsys):
    fault, reason = FAULTS[name]
    path = tmp_path / "curves.png"
    told = write_figure_or_placeholder(fault, path, MADE)
    assert told.startswith(reason)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{path}: a placeholder, because drawing failed: {reason}")
    assert f"snakemake --cores 1 --force {path}" in line
    with Image.open(path) as image:
        image.load()
        assert min(image.tobytes()) < 10  # something is written on it
    fields = label.find(path.read_bytes())
    assert Record.read(fields) == Record.read(MADE)
    said, count = why.describe(Config(), [path], whole=True)
    assert said.startswith(f"{path}: a placeholder, because drawing failed: {reason}")
    assert count == "current: 0 of 1 files"


@pytest.mark.parametrize("name", FAULTS)
def test_a_figure_that_is_the_result_is_an_error_of_one_line(name, tmp_path):
    fault, reason = FAULTS[name]
    with pytest.raises(FileError) as caught:
        write_figure(fault, tmp_path / "dataset.png", MADE)
    assert str(caught.value).startswith(f"{tmp_path}/dataset.png: cannot draw it: {reason}")
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_placeholder_needs_no_pillow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert write_figure_or_placeholder(FAULTS["memory"][0], tmp_path / "a.png") == "MemoryError"
    monkeypatch.undo()
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == drawing.SIZE


NAMES = {
    "table": "a.csv",
    "text": "a.md",
    "skill": "a.png",
    "figure": "b.png",
    "provenance": "p.json",
}


def test_tables_are_written_before_figures_and_outlive_them(tmp_path):
    seen = []

    def fault():
        seen.append(sorted(path.name for path in tmp_path.iterdir()))
        raise ValueError("no")

    made = Record.new(STAGES["settings_page"], Config())
    texts = {"table": "a,b\n", "text": "# ×\n"}
    write_reports(tmp_path, NAMES, made, texts, {"skill": fault, "figure": draw})
    assert seen == [["a.csv", "a.md"]]
    fields = json.loads((tmp_path / "p.json").read_text())
    assert fields["not_drawn"] == {"a.png": "ValueError: no"}
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in tmp_path.iterdir()
    }
    digests.pop("p.json")
    assert fields["files"] == digests
    require_reports(tmp_path / "p.json", [tmp_path / name for name in digests], Config())
    said, _ = why.describe(Config(), [tmp_path / "p.json"], whole=True)
    assert said.startswith(f"{tmp_path}/p.json: a.png: a placeholder, because drawing failed: Val")
    write_reports(tmp_path, NAMES, made, texts, {"skill": draw, "figure": draw})
    assert "not_drawn" not in json.loads((tmp_path / "p.json").read_text())


def test_a_broken_matplotlib_is_one_line(tmp_path):
    (tmp_path / "matplotlib.py").write_text("raise RuntimeError('no\\nfigures')")
    done = subprocess.run(
        [sys.executable, "-m", "nsf_pipeline", "picture", "--output", "a.png"],
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("nsf_pipeline: matplotlib cannot be imported (")


def test_one_module_imports_matplotlib():
    """The others take from it what they draw with, so that it is imported without settings."""
    package = ROOT / "nsf_pipeline"
    found = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if re.search(r"^\s*(import|from) matplotlib", path.read_text(), re.MULTILINE)
    }
    assert found == {"plotting.py"}
