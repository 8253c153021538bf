"""What reruns when, by real Snakemake runs and dry runs, and whether `why` says the same."""

import os
import re
import shutil
import sys
from importlib.metadata import version

import pytest
import yaml
from conftest import (
    ROOT,
    SMOKE,
    SmokeRun,
    flip,
    merged,
    mostly_thorough,
    remade,
    run,
)

from nsf_pipeline import paths, why
from nsf_pipeline.cli import main
from nsf_pipeline.config import load_config
from nsf_pipeline.data import store

CHANGES = yaml.safe_load(SMOKE.read_text())
COUNT, SHARD = CHANGES["num_trajectories"], CHANGES["shard_size"]
SHARDS = range(COUNT // SHARD)
DATASET = {"results/dataset.h5", "results/dataset.meta.json"}
TRAINING = {"results/model.eqx", "results/training/metrics.csv", "results/training/curves.png"}
EVALUATION = {f"results/evaluation/{name}" for name in paths.SCORES.values()}
TABLE_PAGE, VIDEO_PAGE, SETTINGS_PAGE = (
    {f"results/report/{name}.html"} for name in ("tables", "videos", "settings")
)
FROM_EVALUATION = EVALUATION | TABLE_PAGE
PREDICTED = {"results/videos/predicted/test_0000000.mp4"} | VIDEO_PAGE
FROM_TRAINING = TRAINING | FROM_EVALUATION | PREDICTED
OF_DATASET = {"results/dataset.png", "results/videos/best.mp4"} | VIDEO_PAGE
VIDEO = {"results/videos/0000000.mp4"} | VIDEO_PAGE


def shards(kind, numbers=SHARDS):
    return {f"results/{kind}/{number:05d}.h5" for number in numbers}


ENSEMBLES = shards("ensembles", range(3))  # of four horizons' 64 states, 100 a shard
FROM_DATASET = DATASET | ENSEMBLES | FROM_TRAINING | OF_DATASET
FROM_ROLLOUTS = shards("rollouts") | FROM_DATASET | VIDEO


@pytest.fixture
def finished(smoke, tmp_path):
    """A copy of the finished run, to be changed."""
    folder = tmp_path / "run"
    shutil.copytree(smoke.folder, folder)
    return SmokeRun(folder, folder / "settings.yaml", "")


def stale(run, changes=None):
    """The files that `why` calls stale."""
    file = run.folder / "asked.yaml"
    file.write_text(yaml.safe_dump(merged(yaml.safe_load(run.settings.read_text()), changes or {})))
    config, files = load_config(file), why.made_in(run.results)
    found = {path for path in files if why.judge(config, path, why.fields_of(path))}
    return {str(path.relative_to(run.folder)) for path in found}


def test_a_finished_run_is_up_to_date(smoke, monkeypatch, capsys):
    assert remade(smoke.snakemake("-n")) == set()
    monkeypatch.chdir(smoke.folder)
    assert main(["why", "--config", str(smoke.settings), "--full"]) == 0
    assert re.fullmatch(r"up to date: \d\d files\n", capsys.readouterr().out)


# By case: the lost files, the target, and the files that are made again.
LOST = {
    "a rollout shard": (
        ["results/rollouts/00001.h5"],
        "all",
        shards("rollouts", [1]) | FROM_DATASET,
    ),
    "the shard of a video": (
        ["results/rollouts/00000.h5"],
        "all",
        shards("rollouts", [0]) | FROM_DATASET | VIDEO,
    ),
    "a policy shard": (
        ["results/policies/00002.h5"],
        "all",
        shards("policies", [2]) | shards("rollouts", [2]) | FROM_DATASET,
    ),
    # Snakemake does not make an existing file again because its source is missing.
    "a shard below what is asked for": (["results/rollouts/00001.h5"], "results/model.eqx", set()),
    "what is not asked for": (["results/rollouts/00001.h5"], "results/videos/0000000.mp4", set()),
    "a shard and the data set": (
        ["results/rollouts/00001.h5", "results/dataset.h5"],
        "results/dataset.h5",
        shards("rollouts", [1]) | DATASET,
    ),
    "the data set's page": (["results/dataset.meta.json"], "all", FROM_DATASET),
    "the model": (["results/model.eqx"], "all", FROM_TRAINING),
    "a table": (["results/evaluation/horizons.md"], "all", FROM_EVALUATION),
    "a video": (["results/videos/predicted/test_0000000.mp4"], "all", PREDICTED),
    "a page": (["results/report/videos.html"], "all", VIDEO_PAGE),
    "an ensemble shard": (
        ["results/ensembles/00001.h5"],
        "all",
        shards("ensembles", [1]) | FROM_EVALUATION,
    ),
}


@pytest.mark.parametrize(
    "case", mostly_thorough(LOST, "a policy shard", "the model", "a shard below what is asked for")
)
def test_a_lost_file_is_remade_with_what_follows(finished, case):
    lost, target, expected = LOST[case]
    for path in lost:
        (finished.folder / path).unlink()
    assert remade(finished.snakemake("-n", target)) == expected


# By case: changed settings, and the files that are made again besides the page of settings.
CHANGED = {
    "policies": (
        {"policies": {"action_noise_std": [0.0, 4.0]}},
        shards("policies") | FROM_ROLLOUTS,
    ),
    "dataset": ({"dataset": {"test_fraction": 0.2}}, FROM_DATASET),
    "training": ({"training": {"steps": 301}}, FROM_TRAINING),
    "evaluation": ({"evaluation": {"num_samples": 33}}, FROM_EVALUATION),
    "ensembles": ({"ensembles": {"num_members": 17}}, ENSEMBLES | FROM_EVALUATION),
    "more states": (
        {"ensembles": {"num_states": 80}},
        shards("ensembles", range(4)) | FROM_EVALUATION,
    ),
    "videos": (
        {"videos": {"trajectories": [0, 239], "ranked": ["best", "worst"]}},
        {"results/videos/0000239.mp4", "results/videos/worst.mp4"} | VIDEO_PAGE,
    ),
    "predictions": (
        {"videos": {"predicted": [0, 2]}},
        {"results/videos/predicted/test_0000002.mp4"} | VIDEO_PAGE,
    ),
    "no video": ({"videos": {"trajectories": [], "ranked": [], "predicted": []}}, set()),
    "one more shard": (
        {"num_trajectories": COUNT + SHARD},
        shards("policies", [4]) | shards("rollouts", [4]) | FROM_DATASET,
    ),
    "a part of the last shard": (
        {"num_trajectories": COUNT - 10},
        shards("policies", [3]) | shards("rollouts", [3]) | FROM_DATASET,
    ),
    "a variant": ({"variants": {"neural_sde": {"training": {"steps": 201}}}}, set()),
    "what shapes no result": ({"runtime": {"checkpoint_seconds": 7}}, set()),
}
# The changes that are looked at without Snakemake's records, too: one of each kind.
UNRECORDED = {"policies", "videos", "a part of the last shard", "what shapes no result"}


@pytest.mark.parametrize(
    "change",
    mostly_thorough(
        CHANGED, "policies", "training", "videos", "one more shard", "what shapes no result"
    ),
)
def test_a_changed_setting_reruns_the_stages_that_read_it(finished, tmp_path, change):
    settings, expected = CHANGED[change]
    expected = expected | SETTINGS_PAGE
    file = tmp_path / "changes.yaml"
    file.write_text(yaml.safe_dump(settings))
    assert remade(finished.snakemake("-n", configfiles=(SMOKE, file))) == expected
    # `why` calls the page of videos current, because the videos that it shows are.
    found = stale(finished, settings) | (expected & VIDEO_PAGE)
    assert found == {path for path in expected & recorded(finished)}
    if change in UNRECORDED:
        shutil.rmtree(finished.folder / ".snakemake")
        assert remade(finished.snakemake("-n", configfiles=(SMOKE, file))) == expected


def recorded(run):
    """The files that say what made them."""
    return {str(path.relative_to(run.folder)) for path in why.made_in(run.results)}


def test_a_look_at_other_settings_makes_nothing_stale(finished, tmp_path):
    """Also when Snakemake's records are lost, so that only times count."""
    file = tmp_path / "changes.yaml"
    file.write_text(yaml.safe_dump({"seed": 1}))
    assert len(remade(finished.snakemake("-n", configfiles=(SMOKE, file)))) > 20
    assert remade(finished.snakemake("-n")) == set()
    shutil.rmtree(finished.folder / ".snakemake")
    assert remade(finished.snakemake("-n")) == set()


def test_a_folder_with_a_package_of_the_same_name_changes_nothing(finished):
    """As in a clone with its own results: jobs run the code that the stamps stand for."""
    (finished.folder / "nsf_pipeline").mkdir()
    (finished.folder / "nsf_pipeline/__init__.py").write_text("raise RuntimeError")
    (finished.results / "report/settings.html").unlink()
    done = finished.snakemake("--", "results/report/settings.html")
    assert remade(done) == SETTINGS_PAGE


VARIANTS = {
    f"results/variants/{name}/{path}"
    for name in ("unconditional", "neural_sde")
    for path in ("model.eqx", "training/metrics.csv", "training/curves.png")
}
ABLATIONS = {
    f"results/ablations/{name}" for name in (*paths.SCORES.values(), *paths.SPEED.values())
}
ABLATIONS |= {"results/report/ablations.html"}


def test_ablations_are_made_when_asked_for(smoke):
    assert remade(smoke.snakemake("-n", "ablations")) == VARIANTS | ABLATIONS


def test_num_trajectories_can_be_raised_on_the_command_line(smoke):
    found = remade(smoke.snakemake("-n", "--config", f"num_trajectories={COUNT + SHARD}"))
    assert found == CHANGED["one more shard"][1] | SETTINGS_PAGE


def test_uploading_is_a_job_where_wandb_is_not_disabled(smoke, tmp_path):
    file = tmp_path / "changes.yaml"
    file.write_text(yaml.safe_dump({"wandb": {"mode": "offline"}}))
    found = remade(smoke.snakemake("-n", configfiles=(SMOKE, file)))
    assert found == {"results/wandb.json"} | SETTINGS_PAGE


# By case: an edited module, and the files that are made again.
EDITED = {
    "none: a fresh checkout, all its times new": (None, "", set()),
    "a comment": ("data/rollouts.py", "\n# A comment.\n", set()),
    "what only training runs": ("training/fitting.py", "\nEDITED = True\n", FROM_TRAINING),
    "what rollouts run": (
        "data/rollouts.py",
        "\nEDITED = True\n",
        FROM_ROLLOUTS | {"results/videos/best.mp4"},
    ),
    "tables": ("evaluation/tables.py", "\nEDITED = True\n", FROM_EVALUATION),
    "what simulates ensembles": (
        "evaluation/ensembles.py",
        "\nEDITED = True\n",
        ENSEMBLES | FROM_EVALUATION,
    ),
    "what draws videos": (
        "data/recording.py",
        "\nEDITED = True\n",
        VIDEO | {"results/videos/best.mp4"} | PREDICTED,
    ),
    "what predicts": ("evaluation/prediction.py", "\nEDITED = True\n", PREDICTED),
    "pages": ("stages/pages.py", "\nEDITED = True\n", TABLE_PAGE | VIDEO_PAGE | SETTINGS_PAGE),
    "what draws the picture": ("data/picture.py", "\nEDITED = True\n", {"results/dataset.png"}),
}


@pytest.mark.parametrize(
    "edit",
    mostly_thorough(
        EDITED,
        "none: a fresh checkout, all its times new",
        "a comment",
        "what rollouts run",
        "tables",
    ),
)
def test_edited_code_reruns_the_stages_that_run_it(finished, tmp_path, edit):
    module, more, expected = EDITED[edit]
    copy_checkout(tmp_path)
    if module:
        with (tmp_path / "nsf_pipeline" / module).open("a") as file:
            file.write(more)
    snakefile = tmp_path / "Snakefile"
    assert remade(finished.snakemake("-n", snakefile=snakefile)) == expected
    if edit in {"a comment", "what rollouts run"}:  # without its records, Snakemake finds the same
        shutil.rmtree(finished.folder / ".snakemake")
        assert remade(finished.snakemake("-n", snakefile=snakefile)) == expected
    command = (sys.executable, "-m", "nsf_pipeline", "why", "--config", finished.settings)
    done = run("env", "-C", finished.folder, *command, PYTHONPATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("up to date: ") == (not expected)
    name = f"nsf_pipeline.{(module or '').removesuffix('.py').replace('/', '.')} changed"
    assert (name in done.stdout) == bool(expected)


# By case: a package, its other version, and the files that are made again.
UPGRADED = {
    "what simulates": (
        "pymunk",
        shards("policies") | FROM_ROLLOUTS | {"results/videos/best.mp4"},
    ),
    "what trains": ("optax", FROM_TRAINING),
}


@pytest.mark.parametrize("case", UPGRADED)
def test_another_version_of_a_package_reruns_what_computes_with_it(finished, tmp_path, case):
    package, expected = UPGRADED[case]
    info = tmp_path / "site" / f"{package}-0.0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.0.1\n")
    search = {"PYTHONPATH": f"{info.parent}{os.pathsep}{ROOT}"}
    assert remade(finished.snakemake("-n", **search)) == expected
    if case == "what trains":  # without its records, Snakemake finds the same
        shutil.rmtree(finished.folder / ".snakemake")
        assert remade(finished.snakemake("-n", **search)) == expected
    command = (sys.executable, "-m", "nsf_pipeline", "why", "--config", finished.settings)
    done = run("env", "-C", finished.folder, *command, **search)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("up to date: ") == (not expected)
    assert (f"{package} was {version(package)}, is 0.0.1" in done.stdout) == bool(expected)


def copy_checkout(folder):
    for name in ("nsf_pipeline", "workflow", "envs", "profiles"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored, copy_function=shutil.copyfile)
    for name in ("Snakefile", "config.yaml"):
        shutil.copyfile(ROOT / name, folder / name)


def test_why_names_the_setting_and_what_is_damaged(smoke, finished, monkeypatch, capsys):
    settings = yaml.safe_load(finished.settings.read_text())
    changes = {"evaluation": {"num_samples": 33}, "num_trajectories": COUNT - 10}
    finished.settings.write_text(yaml.safe_dump(merged(settings, changes)))
    os.truncate(finished.results / "rollouts/00001.h5", 9000)
    (finished.results / "evaluation/skill.png").unlink()
    monkeypatch.chdir(finished.folder)
    assert main(["why", "--config", "settings.yaml"]) == 0
    lines = capsys.readouterr().out.splitlines()
    whole = (smoke.results / "rollouts/00001.h5").stat().st_size - store.USER_BLOCK
    fewer = f"num_trajectories was {COUNT}, is {COUNT - 10}"
    again = "if the workflow made it, snakemake --cores 1 --force {} with your other options"
    assert lines == [
        f"results/policies/00003.h5: holds trajectories 180 to {COUNT - 1}, expected 180 to 229",
        "results/rollouts/00001.h5: truncated or damaged: 8488 bytes where "
        f"{whole} were written; "
        f"{again.format('results/rollouts/00001.h5')} makes it again",
        f"results/rollouts/00003.h5: holds trajectories 180 to {COUNT - 1}, expected 180 to 229",
        f"results/dataset.h5, dataset.meta.json, dataset.png, model.eqx: {fewer}",
        f"results/training/curves.png: {fewer}",
        f"results/ensembles/00000.h5 to 00002.h5 (3 files): {fewer}",
        "results/evaluation/provenance.json: results/evaluation/skill.png is missing; "
        f"{again.format('results/evaluation/provenance.json')} makes it again",
        f"results/videos/best.mp4: {fewer}",
        f"results/videos/predicted/test_0000000.mp4: {fewer}",
        f"results/report/settings.html, tables.html: evaluation.num_samples was 32, is 33; {fewer}",
        f"results/report/videos.html: {fewer}",
        "current: 6 of 23 files",
    ]
    assert main(["why", "--config", "settings.yaml", "results/policies/00000.h5"]) == 0
    assert capsys.readouterr().out == "up to date: 1 file\n"


def test_why_full_finds_altered_bytes(finished, monkeypatch, capsys):
    monkeypatch.chdir(finished.folder)
    altered = ["rollouts/00002.h5", "model.eqx", "evaluation/horizons.csv"]
    for name in altered:
        flip(finished.results / name)
    arguments = ["why", "--config", "settings.yaml"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.startswith("up to date: ")
    assert main([*arguments, "--full"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 4
    for name in altered:
        assert any(f"results/{name}" in line and "damaged" in line for line in lines)


def test_why_refuses_what_is_not_there(smoke, monkeypatch, capsys):
    monkeypatch.chdir(smoke.folder)
    assert main(["why", "--config", str(smoke.settings), "results/other.h5"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line == (
        "nsf_pipeline: results/other.h5: no such file; `snakemake -n` says what would be made"
    )
