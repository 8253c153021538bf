"""Training, evaluation and the workflow, whatever becomes of their messages and figures."""

import json
import os
import shlex
import subprocess
import sys

import pytest
import yaml
from conftest import ROOT, SMOKE, merged, run_verb
from PIL import Image
from test_survival import BRIEF, SETTINGS

from nsf_pipeline import label

FEW = {
    "training": BRIEF,
    "ensembles": {"horizons": [0.1], "num_states": 10, "num_members": 8},
    "evaluation": {"num_samples": 8, "num_recursive_samples": 4},
}
ASCII = {
    "PYTHONIOENCODING": "ascii:strict",
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
}
BACKEND = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
VERB = [sys.executable, "-m", "nsf_pipeline"]


def run_in(folder, command, redirected="", **environment):
    """The exit code of a command in a folder, with its streams redirected as in a shell."""
    words = " ".join(shlex.quote(str(word)) for word in command)
    (folder / "code").unlink(missing_ok=True)
    subprocess.run(
        [
            "bash",
            "-c",
            f"{{ {words}; echo $? > {shlex.quote(str(folder / 'code'))}; }} {redirected}",
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return int((folder / "code").read_text())


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with a data set, its ensembles, and a model trained and scored undisturbed."""
    folder = tmp_path_factory.mktemp("finished")
    defaults = yaml.safe_load((ROOT / "config.yaml").read_text())
    settings = folder / "settings.yaml"
    settings.write_text(yaml.safe_dump(merged(merged(defaults, SETTINGS), FEW)))
    data = ["--dataset", folder / "dataset.h5"]
    for verb, *options in (
        ["generate-data", "--output", folder],
        ["ensembles", *data, "--output", folder / "ensembles"],
        train(folder, folder),
        evaluate(folder, folder),
    ):
        done = run_verb(verb, "--config", settings, *options)
        assert done.returncode == 0, done.stderr
    return folder


def train(finished, folder):
    paths = {"output": "model.eqx", "metrics": "metrics.csv", "curves": "curves.png"}
    options = [word for name, path in paths.items() for word in (f"--{name}", folder / path)]
    return ["train", "--dataset", finished / "dataset.h5", *options]


def evaluate(finished, folder):
    inputs = {"model": "model.eqx", "dataset": "dataset.h5", "ensembles": "ensembles"}
    options = [word for name, path in inputs.items() for word in (f"--{name}", finished / path)]
    return ["evaluate", *options, "--output", folder / "evaluation"]


STREAMS = {
    "all closed": (">&- 2>&- <&-", {}),
    "error closed, a bar there": ("2>&- 3>&-", {}),
    "full, ascii, a notebook's backend": (">/dev/full 2>&1", {**ASCII, **BACKEND}),
    "nobody reads": ("2>&1 | true", ASCII),
}


@pytest.mark.parametrize("name", list(STREAMS)[:3])
def test_no_stream_fails_training_or_changes_the_model(name, finished, tmp_path):
    redirected, environment = STREAMS[name]
    command = [*VERB, *train(finished, tmp_path), "--config", finished / "settings.yaml"]
    assert run_in(tmp_path, [*command, "--bar", "3"], redirected, **environment) == 0
    for made in ("model.eqx", "curves.png"):
        found = (tmp_path / made).read_bytes()
        if made == "model.eqx":
            assert found == (finished / made).read_bytes()
        else:
            assert "not_drawn" not in label.find(found)


@pytest.mark.parametrize("name", list(STREAMS)[2:])
def test_no_stream_fails_the_evaluation_or_changes_the_scores(name, finished, tmp_path):
    redirected, environment = STREAMS[name]
    command = [*VERB, *evaluate(finished, tmp_path), "--config", finished / "settings.yaml"]
    assert run_in(tmp_path, command, redirected, **environment) == 0
    for made in sorted((finished / "evaluation").iterdir()):
        if made.suffix in (".csv", ".png"):
            assert (tmp_path / "evaluation" / made.name).read_bytes() == made.read_bytes()


BROKEN = """
import os
from pathlib import Path
here = Path(os.environ["HERE"])
paths = [path for path in here.rglob("*") if path.is_file() and "checkpoints" not in path.parts]
if not (here.parent / "seen").exists():  # it is imported for each figure
    (here.parent / "seen").write_text(" ".join(sorted(path.name for path in paths)))
raise MemoryError("no figures")
"""


@pytest.fixture
def broken(tmp_path):
    """An environment in which matplotlib fails; it notes which files were there before."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "broken/matplotlib.py").write_text(BROKEN)
    return {"PYTHONPATH": f"{tmp_path}/broken:{ROOT}", "HERE": str(tmp_path / "here")}


def test_a_model_outlives_its_curves(finished, tmp_path, broken):
    here = tmp_path / "here"
    done = run_verb(*train(finished, here), "--config", finished / "settings.yaml", **broken)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "seen").read_text() == "metrics.csv model.eqx"
    assert (here / "model.eqx").read_bytes() == (finished / "model.eqx").read_bytes()
    (line,) = [line for line in done.stdout.splitlines() if "placeholder" in line]
    assert line.startswith(f"{here}/curves.png: a placeholder, because drawing failed: UserError: ")
    assert "not_drawn" in label.find((here / "curves.png").read_bytes())
    Image.open(here / "curves.png").verify()


def test_scores_outlive_their_figures(finished, tmp_path, broken):
    here = tmp_path / "here"
    done = run_verb(*evaluate(finished, here), "--config", finished / "settings.yaml", **broken)
    assert done.returncode == 0, done.stderr
    theirs = {path.name for path in (finished / "evaluation").iterdir()}
    tables = {name for name in theirs if name.endswith((".csv", ".md"))}
    assert {*(tmp_path / "seen").read_text().split()} == tables
    assert {path.name for path in (here / "evaluation").iterdir()} == theirs
    missing = json.loads((here / "evaluation/provenance.json").read_text())["not_drawn"]
    assert sorted(missing) == sorted(name for name in theirs if name.endswith(".png"))
    assert sum("a placeholder" in line for line in done.stdout.splitlines()) == len(missing)


WORKFLOWS = {
    "error closed": ("2>&-", {}),
    "all closed, ascii, a notebook's backend": (">&- 2>&- <&-", {**ASCII, **BACKEND}),
}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_no_stream_fails_a_run_of_the_workflow(name, tmp_path):
    redirected, environment = WORKFLOWS[name]
    settings = tmp_path / "settings.yaml"
    settings.write_text(yaml.safe_dump({"num_trajectories": 30, "shard_size": 30}))
    command = [sys.executable, "-m", "snakemake", "results/dataset.png", "--cores", "2"]
    command += ["-s", str(ROOT / "Snakefile"), "--configfile", str(SMOKE), str(settings)]
    # Snakemake says that it uses a profile, and stops if it cannot.
    command += ["--workflow-profile", "none"]
    assert run_in(tmp_path, command, redirected, **environment) == 0
    log = (tmp_path / "results/logs/picture.log").read_text()
    assert log.startswith("+ python -m nsf_pipeline picture ")
    assert "results/dataset.png: picture of results/dataset.h5" in log
