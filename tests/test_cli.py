"""The verbs: what they refuse and how, and that they write the same files as the workflow."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib

import pandas as pd
import pytest
import yaml
from conftest import ROOT, merged, run, run_verb
from hdf5_files import changed, with_attribute

from nsf_pipeline import label
from nsf_pipeline.cli import main
from nsf_pipeline.config import json_schema
from nsf_pipeline.provenance import Record, fingerprint_of

CHOICES = {
    "missing settings": (["--config", "none.yaml"], "none.yaml: cannot read the settings: No such"),
    "settings not YAML": (["--config", "broken.yaml"], "broken.yaml: not valid YAML"),
    "settings not by name": (["--config", "list.yaml"], "list.yaml: expected settings by name"),
    "unknown setting": (["--config", '{"sead": 1}'], "--config: sead: unknown setting; did you"),
    "settings not text": (
        ["--config", "shard.h5"],
        "shard.h5: cannot read the settings: not a text",
    ),
}
CONFIGURED = {
    "policies": ["--first", "0", "--stop", "2", "--output", "out.h5"],
    "rollouts": ["--policies", "policies.h5", "--output", "out.h5"],
    "dataset": ["--rollouts", ".", "--output", "out.h5", "--metadata", "out.json"],
    "dataset-statistics": ["--first", "0", "--stop", "60", "--output", "out.jsonl"],
    "dataset-metadata": ["--statistics", ".", "--output", "out.json"],
    "dataset-part": ["--part", "0", "--output", "out.h5"],
    "dataset-index": ["--output", "out.h5"],
    "generate-data": ["--output", "out"],
    "train": ["--dataset", "dataset.h5", "--output", "out.eqx", "--metrics", "out.csv"],
    "ensembles": ["--dataset", "dataset.h5", "--output", "out"],
    "evaluate": ["--model", "model.eqx", "--dataset", "dataset.h5", "--output", "out"],
    "plan": ["--model", "nominal", "--seed", "1", "--output", "out.json"],
    "episodes": ["--world-model", "nominal", "--stop", "1", "--output", "out.h5"],
    "pushes": ["--world-model", "nominal", "--stop", "1", "--output", "out.h5"],
    "goals": ["--world-model", "nominal", "--steps", "25", "--stop", "1", "--output", "out.h5"],
    "planning-tables": ["--output", "out"],
    "push-tables": ["--output", "out"],
    "goal-tables": ["--output", "out"],
    "short-planning": ["--output", "out"],
    "episode-videos": ["--output", "out"],
    "second-policies": ["--first", "240", "--stop", "242", "--output", "out.h5"],
    "second-dataset": ["--output", "out.h5", "--metadata", "out.json"],
    "second-round": ["--output", "out"],
    "import": ["pusht.zarr", "--output", "out"],
    "table-page": ["table.md", "--output", "out.html"],
    "settings-page": ["--output", "out.html"],
}
PROMPT = 20.0
"""s within which Ctrl-C must have ended a verb."""
PREDICTED = ("predicted-video", "--model", "model.eqx", "--place")
EVALUATE = ("evaluate", *CONFIGURED["evaluate"])
EPISODE = ("episodes", "--stop", "1")
VIDEO = ("video", "--source", "shard.h5", "--trajectory", "0")
PAGE = ("table-page", "list.yaml", "--output", "out.html")
PROVENANCE = ("--provenance", "provenance.json", "--output", "out.json")
OUT = ("--output", "out.h5")
FILES = {
    "rollouts of nothing": (
        ["rollouts", "--policies", "none.h5", "--output", "out.h5"],
        "none.h5: no such file; expected the HDF5 file of policies",
    ),
    "rollouts of a rollout shard": (
        ["rollouts", "--policies", "shard.h5", "--output", "out.h5"],
        "shard.h5: expected policies, got rollouts",
    ),
    "rollouts of a truncated shard": (
        ["rollouts", "--policies", "truncated.h5", "--output", "out.h5"],
        "truncated.h5: not a readable HDF5 file",
    ),
    "rollouts of no HDF5 file": (
        ["rollouts", "--policies", "broken.yaml", "--output", "out.h5"],
        "broken.yaml: not a readable HDF5 file",
    ),
    "dataset of nothing": (
        ["dataset", "--rollouts", "none", "--output", "out.h5", "--metadata", "out.json"],
        "none/00000.h5: no such file",
    ),
    "dataset of a truncated shard": (
        ["dataset", "--rollouts", "damaged", "--output", "out.h5", "--metadata", "out.json"],
        "damaged/00001.h5: not a readable HDF5 file",
    ),
    "dataset of exchanged shards": (
        ["dataset", "--rollouts", "exchanged", "--output", "out.h5", "--metadata", "out.json"],
        "exchanged/00000.h5: expected trajectories 0 to 59, got 60 from 60",
    ),
    "dataset of policies": (
        ["dataset", "--rollouts", "policies", "--output", "out.h5", "--metadata", "out.json"],
        "policies/00000.h5: expected rollouts, got policies",
    ),
    "train on nothing": (
        ["train", "--dataset", "none.h5", "--output", "out.eqx", "--metrics", "out.csv"],
        "none.h5: no such file; expected the HDF5 file of dataset",
    ),
    "train on a shard": (
        ["train", "--dataset", "shard.h5", "--output", "out.eqx", "--metrics", "out.csv"],
        "shard.h5: expected dataset, got rollouts",
    ),
    "evaluate no model": (
        ["evaluate", "--model", "none.eqx", "--dataset", "dataset.h5", "--output", "out"],
        "none.eqx: cannot read it: No such file",
    ),
    "evaluate a data set": (
        ["evaluate", "--model", "dataset.h5", "--dataset", "dataset.h5", "--output", "out"],
        "dataset.h5: not a model",
    ),
    "evaluate without ensembles": (
        ["evaluate", "--model", "model.eqx", "--dataset", "dataset.h5", "--output", "out"],
        "results/ensembles/00000.h5: no such file; expected the HDF5 file of ensembles",
    ),
    "evaluate a variant that is not there": (
        [*EVALUATE, "--variant", "other=none.eqx"],
        "none.eqx: cannot read it: No such file",
    ),
    "evaluate two variants of one name": (
        [*EVALUATE, "--variant", "other=model.eqx", "--variant", "other=model.eqx"],
        "--variant: expected each name once",
    ),
    "evaluate a variant by the model's name": (
        [*EVALUATE, "--variant", "flow=model.eqx"],
        "--variant flow: that name is taken",
    ),
    "time a variant by a simulator's name": (
        ["speed", "--variant", "gym_pusht=model.eqx"],
        "--variant gym_pusht: that name is taken",
    ),
    "episodes of another model than named": (
        [*EPISODE, "--world-model", "second_round_4", "--model", "model.eqx", *OUT],
        "model.eqx: it is the model flow; expected second_round, for second_round_4",
    ),
    "pushes of another variant than named": (
        ["pushes", "--stop", "1", "--world-model", "neural_sde_4", "--model", "model.eqx", *OUT],
        "model.eqx: it is the model flow; expected neural_sde, for neural_sde_4",
    ),
    "episodes of a variant that is not there": (
        [*EPISODE, "--world-model", "none_4", "--model", "model.eqx", *OUT],
        "--world-model none: no such variant; expected one of unconditional, neural_sde",
    ),
    "episodes where their time goes": (
        [*EPISODE, "--world-model", "nominal", "--seconds", "out.h5", *OUT],
        "--seconds out.h5: that is --output too; name another",
    ),
    "episodes in a file's place": (
        [*EPISODE, "--world-model", "nominal", "--output", "shard.h5/out.h5"],
        "shard.h5: cannot make this folder: File exists",
    ),
    "a short table of nothing": (
        ["short-planning", "--output", "out"],
        "protocols.short_episodes = 0: there is no short table; set it, for example to 40",
    ),
    "time without scores": (
        ["speed", "--model", "model.eqx", "--dataset", "dataset.h5", "--scores", "none.csv"],
        "none.csv: not a table of scores: ",
    ),
    "evaluate against rollouts": (
        ["evaluate", "--model", "model.eqx", "--dataset", "dataset.h5", "--ensembles", "damaged"],
        "damaged/00000.h5: expected ensembles, got rollouts",
    ),
    "ensembles of a shard": (
        ["ensembles", "--dataset", "shard.h5", "--output", "out"],
        "shard.h5: expected dataset, got rollouts",
    ),
    "ensembles of other settings' data": (
        ["ensembles", "--dataset", "other_dataset.h5", "--output", "out"],
        "other_dataset.h5: made by other settings or code (fingerprint 0000000000000000, now ",
    ),
    "an ensemble shard too many": (
        ["ensembles", "--dataset", "dataset.h5", "--output", "out", "--shard", "3"],
        "--shard 3: expected one below 3, the number of shards for the states of all",
    ),
    "video of a trajectory elsewhere": (
        ["video", "--source", "shard.h5", "--trajectory", "60", "--output", "out.mp4"],
        "shard.h5: expected trajectory 60, but it holds 0 to 59",
    ),
    "video of nothing": (
        ["video", "--source", "none.h5", "--trajectory", "0", "--output", "out.mp4"],
        "none.h5: no such file",
    ),
    "picture of a shard": (
        ["picture", "--dataset", "shard.h5", "--output", "out.png"],
        "shard.h5: expected dataset, got rollouts",
    ),
    "picture in a file's place": (
        ["picture", "--dataset", "dataset.h5", "--output", "shard.h5/out.png"],
        "shard.h5/out.png: cannot write it: ",
    ),
    "replay of nothing": (
        ["replay", "none.h5"],
        "none.h5: no such file; expected the HDF5 file of rollouts or dataset",
    ),
    "replay of policies": (
        ["replay", "policies.h5"],
        "policies.h5: expected rollouts or dataset, got policies",
    ),
    "rollouts of other settings' policies": (
        ["rollouts", "--policies", "other_policies.h5", "--output", "out.h5"],
        "other_policies.h5: made by other settings or code (fingerprint 0000000000000000, now ",
    ),
    "train on other settings' data": (
        ["train", "--dataset", "other_dataset.h5", "--output", "out.eqx", "--metrics", "out.csv"],
        "other_dataset.h5: made by other settings or code (fingerprint 0000000000000000, now ",
    ),
    "evaluate on other data than trained on": (
        ["evaluate", "--model", "model.eqx", "--dataset", "other_dataset.h5", "--output", "out"],
        "other_dataset.h5: not the data set that model.eqx was trained on",
    ),
    "video of policies": (
        ["video", "--source", "policies.h5", "--trajectory", "best", "--output", "out.mp4"],
        "policies.h5: expected rollouts or dataset, got policies",
    ),
    "predicted video of no model": (
        ["predicted-video", "--model", "none.eqx", "--place", "0", "--output", "out.mp4"],
        "none.eqx: cannot read it: No such file",
    ),
    "predicted video of other data than trained on": (
        [*PREDICTED, "0", "--output", "out.mp4", "--dataset", "other_dataset.h5"],
        "other_dataset.h5: not the data set that model.eqx was trained on",
    ),
    "predicted video beyond the test split": (
        [*PREDICTED, "500", "--output", "out.mp4", "--dataset", "dataset.h5"],
        "dataset.h5: expected a test trajectory 500, but its test split holds ",
    ),
    "page of no table": (
        ["table-page", "none.md", "--output", "out.html"],
        "none.md: cannot read it: No such file",
    ),
    "page of no video": (
        ["video-page", "broken.yaml", "--output", "out.html"],
        "broken.yaml: truncated or damaged: it has no label; expected a video that this package",
    ),
    "page in a file's place": (
        ["settings-page", "--output", "shard.h5/out.html"],
        "shard.h5/out.html: cannot write it: ",
    ),
    "video of other settings' rollouts": (
        [*VIDEO, "--output", "out.mp4", "--config", '{"policies": {"noiseless_fraction": 0.2}}'],
        "shard.h5: policies.noiseless_fraction was 0.1, is 0.2; shard_size was 60, is 2500; if the",
    ),
    "picture of other settings' data": (
        ["picture", "--dataset", "dataset.h5", "--output", "out.png", "--config", '{"seed": 1}'],
        "dataset.h5: num_trajectories was 240, is 200000; seed was 0, is 1; shard_size was 60, is ",
    ),
    "page of other settings' tables": (
        [*PAGE, "--provenance", "provenance.json", "--config", '{"seed": 1}'],
        "provenance.json: ensembles.num_members was 16, is 64; ",
    ),
    "page of tables made by nobody knows what": (
        [*PAGE, "--provenance", "broken.yaml"],
        "broken.yaml: expected JSON that says what made the reports; if the workflow",
    ),
    "page of a table that was altered": (
        ["table-page", "horizons.md", "--output", "out.html", "--provenance", "provenance.json"],
        "horizons.md: not what provenance.json says was written; if the workflow made it, ",
    ),
    "page of two tables made by one": (
        ["table-page", "horizons.md", *PAGE[1:], "--provenance", "provenance.json"],
        "--provenance: expected one for each of 2 tables, in order",
    ),
    "costs of scores that were altered": (
        ["speed", "--scores", "horizons.csv", "--provenance", "provenance.json"],
        "horizons.csv: not what provenance.json says was written",
    ),
    "upload of scores that were altered": (
        ["upload", "--model", "model.eqx", "--table", "horizons.csv", *PROVENANCE],
        "horizons.csv: not what provenance.json says was written",
    ),
    "upload of a model of other settings": (
        ["upload", "--model", "other_model.eqx", "--table", "horizons.csv", *PROVENANCE],
        "other_model.eqx: training.steps was 200, is 300; ",
    ),
    "rollouts of other policies than expected": (
        ["rollouts", "--policies", "policies.h5", "--first", "60", "--stop", "120", *OUT],
        "policies.h5: expected trajectories 60 to 119, got 60 from 0; if the workflow",
    ),
    "video over its source": (
        [*VIDEO, "--output", "shard.h5"],
        "--output shard.h5: that file is an input; name another",
    ),
    "picture over its data set": (
        ["picture", "--dataset", "dataset.h5", "--output", "./dataset.h5"],
        "--output dataset.h5: that file is an input; name another",
    ),
    "data set over a shard": (
        ["dataset", "--rollouts", "policies", "--output", "policies/00000.h5"],
        "--output policies/00000.h5: that file is an input; name another",
    ),
    "page over a table": (
        ["table-page", "horizons.md", "--output", "horizons.md"],
        "--output horizons.md: that file is an input; name another",
    ),
    "upload over the history": (
        ["upload", "--metrics", "horizons.csv", "--output", "horizons.csv"],
        "--output horizons.csv: that file is an input; name another",
    ),
    "reports in a file's place": (
        [*EVALUATE[:-2], "--ensembles", "ensembles", "--output", "shard.h5"],
        "shard.h5: cannot make this folder: File exists",
    ),
    "page in a folder's place": (
        ["settings-page", "--output", "policies"],
        "policies: cannot write it: it is a folder; name a file",
    ),
    "variants among the workflow's reports": (
        [*EVALUATE[:-2], "--variant", "a=model.eqx", "--output", "results/evaluation"],
        "--output results/evaluation: the workflow keeps other reports there; name another",
    ),
    "the default model among the ablations": (
        [*EVALUATE[:-2], "--output", "results/ablations"],
        "--output results/ablations: the workflow keeps other reports there; name another",
    ),
    "a comparison of some variants": (
        ["compare", "--variant", "neural_sde=model.eqx"],
        "--variant: expected all variants of the settings, unconditional, neural_sde; ",
    ),
    "training with another stage's stamp": (
        ["train", "--config", "policies.stamp.json", "--dataset", "dataset.h5"],
        "the settings given have no model: they are the stamp of another stage; ",
    ),
    "evaluate a model of other settings": (
        [*EVALUATE, "--model", "other_model.eqx"],
        "other_model.eqx: training.steps was 200, is 300; if the workflow made it, snakemake ",
    ),
    "evaluate another variant by a variant's name": (
        [*EVALUATE, "--variant", "neural_sde=model.eqx"],
        'model.eqx: model.kind was "flow", is "neural_sde"; ',
    ),
    "train a variant that is not there": (
        ["train", "--variant", "none"],
        "--variant none: no such variant; expected one of unconditional, neural_sde",
    ),
    "upload of no model": (
        ["upload", "--model", "none.eqx", "--output", "out.json"],
        "none.eqx: cannot read it: No such file",
    ),
    "video in a file's place": (
        ["video", "--source", "shard.h5", "--trajectory", "0", "--output", "shard.h5/out.mp4"],
        "shard.h5/out.mp4: cannot write it: ",
    ),
    "policies that end before they start": (
        ["policies", "--first", "5", "--stop", "3", "--output", "out.h5"],
        "--stop 3 must be more than --first 5",
    ),
    "output in a file's place": (
        ["policies", "--first", "0", "--stop", "1", "--output", "shard.h5/out.h5"],
        "shard.h5/out.h5: cannot write it: ",
    ),
}
NUM_BAD_SHARDS = {FILES[f"dataset of {what}"][1]: 4 for what in ("nothing", "policies")}


@pytest.fixture(scope="module")
def prepared(smoke, tmp_path_factory):
    """A folder with sound files and damaged ones; verbs that are refused change none of them."""
    folder = tmp_path_factory.mktemp("prepared")
    shard = smoke.results / "rollouts/00000.h5"
    shutil.copy(shard, folder / "shard.h5")
    for name in ("dataset.h5", "model.eqx", "evaluation/provenance.json"):
        shutil.copy(smoke.results / name, folder)
    for name in ("horizons.md", "horizons.csv"):
        (folder / name).write_bytes((smoke.results / "evaluation" / name).read_bytes() + b"\n")
    (stamp,) = (smoke.results / "stamps/policies").iterdir()
    shutil.copy(stamp, folder / "policies.stamp.json")
    retrained(folder / "model.eqx", folder / "other_model.eqx")
    shutil.copytree(smoke.results / "ensembles", folder / "ensembles")
    policies = (smoke.results / "policies/00000.h5").read_bytes()
    (folder / "policies.h5").write_bytes(policies)
    (folder / "truncated.h5").write_bytes(policies[: len(policies) // 2])
    for name in ("damaged", "exchanged"):
        shutil.copytree(smoke.results / "rollouts", folder / name)
    shutil.copytree(smoke.results / "policies", folder / "policies")
    damaged, exchanged = folder / "damaged/00001.h5", folder / "exchanged/00000.h5"
    damaged.write_bytes(damaged.read_bytes()[:4000])
    shutil.copy(folder / "exchanged/00001.h5", exchanged)
    for kind in ("policies", "dataset"):
        refingerprint(folder / f"{kind}.h5", folder / f"other_{kind}.h5")
    (folder / "broken.yaml").write_text("training: {steps: [")
    (folder / "list.yaml").write_text("- 1\n")
    shutil.copy(smoke.settings, folder / "config.yaml")
    return folder


@pytest.fixture
def folder(prepared, monkeypatch):
    """It, as the current folder."""
    monkeypatch.chdir(prepared)
    return prepared


def refingerprint(source, target):
    """A sound copy whose record names other settings."""
    changed(source, target, with_attribute("fingerprint", "0" * 16), labelled=True)


def retrained(source, target):
    """A sound copy whose record says that it was trained with other settings."""
    with source.open("rb") as file:
        fields = label.read(file)
        assert fields
        leaves = io.BytesIO(file.read())
    made = Record.read(fields)
    made.settings["training"]["steps"] = 200
    fields["fingerprint"] = fingerprint_of(made.settings, made.modules, made.versions)
    fields["settings"] = made.settings
    sealed = label.seal({n: v for n, v in fields.items() if n not in ("size", "sha256")}, leaves)
    target.write_bytes(label.line(sealed) + leaves.getvalue())


def files_in(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def assert_refused(folder, capsys, arguments, message):
    before = files_in(folder)
    assert main(arguments) == 1
    printed = capsys.readouterr()
    lines = printed.err.splitlines()
    assert lines[0].startswith(f"nsf_pipeline: {message}")
    # A merge names every bad shard, one a line.
    assert len(lines) == NUM_BAD_SHARDS.get(message, 1)
    assert all(line.startswith("nsf_pipeline: ") for line in lines)
    assert printed.out == ""
    assert files_in(folder) == before


@pytest.mark.parametrize("case", FILES)
def test_unfit_files_are_one_line(folder, capsys, case):
    assert_refused(folder, capsys, *FILES[case])


@pytest.mark.parametrize("case", CHOICES)
def test_unfit_settings_are_one_line(folder, capsys, case):
    arguments, message = CHOICES[case]
    for verb, rest in CONFIGURED.items():
        assert_refused(folder, capsys, [verb, *rest, *arguments], message)


def test_a_process_says_the_same_without_traceback(tmp_path):
    arguments = ["train", "--dataset", tmp_path / "none.h5", "--config", "{}"]
    done = run_verb(*arguments, "--output", tmp_path / "out.eqx", "--metrics", tmp_path / "out.csv")
    assert done.returncode == 1
    assert done.stderr.startswith(f"nsf_pipeline: {tmp_path / 'none.h5'}: no such file")
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["dance"],
        [],
        ["train", "--threads", "0"],
        ["generate-data", "--jobs", "many"],
        ["policies", "--first", "0", "--output", "out.h5"],
        ["video", "--source", "r.h5", "--trajectory", "longest", "--output", "v.mp4"],
    ],
    ids=["unknown verb", "no verb", "no threads", "not a number", "missing argument", "no rank"],
)
def test_misused_arguments_show_the_usage(arguments, capsys):
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("Usage: nsf ")
    assert "Error: " in printed


def verbs(capsys):
    assert main(["--help"]) == 0
    _, found = capsys.readouterr().out.split("Commands:\n")
    return re.findall(r"^  ([a-z-]+)\b", found, re.MULTILINE)


def test_help_names_every_verb(capsys):
    others = {"video", "predicted-video", "video-page", "picture", "replay", "why", "schema"}
    others |= {"compare", "explore", "export", "scaling", "speed", "upload"}
    assert set(verbs(capsys)) == {*CONFIGURED, *others}


def test_every_verb_explains_itself_with_an_example(capsys):
    for verb in verbs(capsys):
        assert main([verb, "--help"]) == 0
        text = capsys.readouterr().out
        assert re.search(rf"^  Example: nsf {verb}( |$)", text, re.MULTILINE), verb
        options = re.findall(r"^  (--[a-z-]+)( .*)?$", text, re.MULTILINE)
        assert options
        # Each is described, on its line or on the next.
        assert all(re.search(rf"^  {name}\b.*(  |\n {{10,}})\S", text, re.M) for name, _ in options)


def test_the_console_command_is_the_module(capsys):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"nsf": "nsf_pipeline.cli:entry"}
    assert run_verb("schema").stdout == json_schema()


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken():
        raise ValueError("not the user's fault")

    monkeypatch.setattr("nsf_pipeline.cli.tools.json_schema", broken)
    with pytest.raises(ValueError, match="not the user's fault"):
        main(["schema"])


def test_an_interrupt_is_no_traceback(monkeypatch, capsys):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr("nsf_pipeline.cli.tools.json_schema", interrupted)
    assert main(["schema"]) == 130
    assert capsys.readouterr().err == "nsf_pipeline: interrupted\n"


def interrupted(printed, *arguments, cwd):
    """Run a verb, and send Ctrl-C to it and its processes once it is well under way."""
    # A process started in the background ignores Ctrl-C, and its children would, too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    process = subprocess.Popen(
        [sys.executable, "-m", "nsf_pipeline", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout
        assert any(printed in line for line in process.stdout), process.communicate()[1]
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=PROMPT)
    finally:
        process.kill()
    return process.returncode, errors


def test_an_interrupt_ends_all_processes_at_once(tmp_path):
    settings = '{"num_trajectories": 40000, "shard_size": 5000}'
    arguments = ["generate-data", "--config", settings, "--jobs", "2", "--output", "out"]
    done = interrupted("policies 0 to 4999", *arguments, cwd=tmp_path)
    assert done == (130, "nsf_pipeline: interrupted\n")
    assert not list(tmp_path.glob("out/rollouts/*.h5"))


def test_an_interrupt_ends_jax_with_its_own_code(folder):
    arguments = [*EVALUATE, "--ensembles", "ensembles"]
    done = interrupted("0.1 s ahead: ", *arguments, cwd=folder)
    assert done == (130, "nsf_pipeline: interrupted\n")


def test_by_hand_verbs_write_the_workflows_bytes(smoke, tmp_path, capsys):
    config = ["--config", str(smoke.settings)]
    made = {name: tmp_path / name for name in ("policies/00001.h5", "rollouts/00001.h5")}
    policies, rollouts = map(str, made.values())
    assert main(["policies", *config, "--first", "60", "--stop", "120", "--output", policies]) == 0
    assert main(["rollouts", *config, "--policies", policies, "--output", rollouts]) == 0
    made |= {name: tmp_path / name for name in ("dataset.h5", "dataset.meta.json")}
    dataset = ["--rollouts", str(smoke.results / "rollouts"), "--output", str(made["dataset.h5"])]
    assert main(["dataset", *config, *dataset, "--metadata", str(made["dataset.meta.json"])]) == 0
    for name, path in made.items():
        assert path.read_bytes() == (smoke.results / name).read_bytes(), name
    printed = capsys.readouterr()
    assert printed.err == ""
    assert [line.split(": ")[0] for line in printed.out.splitlines()] == [
        str(path) for name, path in made.items() if name != "dataset.meta.json"
    ]
    shard, video = smoke.results / "rollouts/00000.h5", tmp_path / "videos/0000000.mp4"
    done = run_verb("video", "--source", shard, "--trajectory", "0", "--output", video)
    assert (done.returncode, done.stderr) == (0, "")
    assert video.read_bytes() == (smoke.results / "videos/0000000.mp4").read_bytes()


def test_evaluate_by_hand_scores_as_the_workflow(smoke, tmp_path):
    """With one of the four horizons, in one shard, the states, members and draws are the same."""
    settings = yaml.safe_load(smoke.settings.read_text())
    settings = merged(settings, {"ensembles": {"horizons": [0.1], "shard_size": 64}})
    config, dataset = ["--config", json.dumps(settings)], smoke.results / "dataset.h5"
    assert main(["ensembles", *config, "--dataset", str(dataset), "--output", str(tmp_path)]) == 0
    arguments = ["--model", smoke.results / "model.eqx", "--dataset", dataset]
    arguments += ["--ensembles", tmp_path, "--output", tmp_path]
    done = run_verb("evaluate", *config, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    ours, theirs = (
        pd.read_csv(folder / "horizons.csv") for folder in (tmp_path, smoke.results / "evaluation")
    )
    theirs = theirs[theirs["horizon_s"] == 0.1].reset_index(drop=True)
    pd.testing.assert_frame_equal(ours, theirs)


SIMULATION = """
import sys
from nsf_pipeline.cli import main
assert main(["policies", "--config", "{}", "--first", "0", "--stop", "2", "--output", "p.h5"]) == 0
assert main(["rollouts", "--config", "{}", "--policies", "p.h5", "--output", "r.h5"]) == 0
assert main(["video", "--source", "r.h5", "--trajectory", "1", "--output", "v.mp4"]) == 0
assert main(["replay", "r.h5", "--verify"]) == 0
heavy = {"jax", "equinox", "optax", "wandb", "matplotlib", "pandas", "snakemake"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""


def test_simulation_verbs_do_not_import_jax(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(sys.executable, "-W", "error", "-c", SIMULATION, PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
