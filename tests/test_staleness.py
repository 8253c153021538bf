"""What reruns when, by real Snakemake runs and dry runs, and whether `why` says the same."""

import os
import re
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from conftest import (
    EIGHT,
    ROOT,
    SMOKE,
    SmokeRun,
    contents,
    merged,
    remade,
    run_eight,
    run_snakemake,
)

from nsf_pipeline import provenance, staleness
from nsf_pipeline.cli import main
from nsf_pipeline.config import load_config
from nsf_pipeline.data import store
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.rollouts import simulate

CHANGES = yaml.safe_load(SMOKE.read_text())
COUNT, SHARD = CHANGES["num_trajectories"], CHANGES["shard_size"]
SHARDS = range(COUNT // SHARD)
DATASET = {"results/dataset.h5", "results/dataset.meta.json"}
TRAINING = {"results/model.eqx", "results/training/metrics.csv", "results/training/curves.png"}
EVALUATION = {
    f"results/evaluation/{name}"
    for name in (
        "horizons.csv",
        "horizons.md",
        "intervals.csv",
        "distances.csv",
        "calibration.csv",
        "consistency.csv",
        "skill.png",
        "calibration.png",
        "block_positions.png",
        "provenance.json",
    )
}
TABLE_PAGE, VIDEO_PAGE, SETTINGS_PAGE = (
    {f"results/report/{name}.html"} for name in ("tables", "videos", "settings")
)
FROM_EVALUATION = EVALUATION | TABLE_PAGE
PREDICTED = {"results/videos/predicted/test_0000000.mp4"} | VIDEO_PAGE
FROM_TRAINING = TRAINING | FROM_EVALUATION | PREDICTED
OF_DATASET = {"results/dataset.png", "results/videos/best.mp4"} | VIDEO_PAGE
FROM_DATASET = DATASET | FROM_TRAINING | OF_DATASET
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


def stale(run, monkeypatch, targets=(), changes=None):
    """The files that `why` calls stale, in this process."""
    settings = merged(yaml.safe_load(run.settings.read_text()), changes or {})
    run.settings.write_text(yaml.safe_dump(settings))
    config = load_config(run.settings)
    monkeypatch.chdir(run.folder)
    jobs = staleness.needed(staleness.jobs_of(config), targets)
    return {path for job in staleness.reasons(config, jobs) for path in job.outputs}


def test_a_finished_run_is_up_to_date(smoke, monkeypatch, capsys):
    assert remade(smoke.snakemake("-n")) == set()
    monkeypatch.chdir(smoke.folder)
    assert main(["why", "--config", str(smoke.settings), "--full"]) == 0
    assert capsys.readouterr().out == "up to date\n"


# What is lost, what is asked for, and what is made again.
LOST = {
    "a rollout shard": (
        ["results/rollouts/00001.h5"],
        "results/model.eqx",
        shards("rollouts", [1]) | DATASET | TRAINING,
    ),
    "the shard of a video": (
        ["results/rollouts/00000.h5"],
        "all",
        shards("rollouts", [0]) | FROM_DATASET | VIDEO,
    ),
    "a policy shard": (
        ["results/policies/00002.h5"],
        "results/dataset.h5",
        shards("policies", [2]) | shards("rollouts", [2]) | DATASET,
    ),
    "what is not asked for": (["results/rollouts/00001.h5"], "results/videos/0000000.mp4", set()),
    "a shard and the data set": (
        ["results/rollouts/00001.h5", "results/dataset.h5"],
        "results/model.eqx",
        shards("rollouts", [1]) | DATASET | TRAINING,
    ),
    "the data set's page": (["results/dataset.meta.json"], "all", FROM_DATASET),
    "the model": (["results/model.eqx"], "evaluate", TRAINING | EVALUATION),
    "a table": (["results/evaluation/horizons.md"], "all", FROM_EVALUATION),
    "a video": (["results/videos/predicted/test_0000000.mp4"], "all", PREDICTED),
    "a page": (["results/report/videos.html"], "all", VIDEO_PAGE),
    "an ensemble shard": (
        ["results/ensembles/00001.h5"],
        "all",
        shards("ensembles", [1]) | FROM_EVALUATION,
    ),
}


@pytest.mark.parametrize("case", LOST)
def test_a_lost_file_is_remade_with_what_follows(finished, monkeypatch, case):
    lost, target, expected = LOST[case]
    for path in lost:
        (finished.folder / path).unlink()
    assert remade(finished.snakemake("-n", target)) == expected
    assert stale(finished, monkeypatch, [target]) == expected


# A change of each stage's settings, and what it makes again; the settings' page aside.
CHANGED = {
    "policies": ({"dmp": {"phase_decay": 3.0}}, shards("policies") | FROM_ROLLOUTS),
    "simulation": ({"simulation": {"action_noise_std": 4.0}}, FROM_ROLLOUTS),
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
    "what shapes no result": ({"wandb": {"project": "another"}}, set()),
}


@pytest.mark.parametrize("change", CHANGED)
def test_a_changed_setting_reruns_the_stages_that_read_it(finished, monkeypatch, tmp_path, change):
    settings, expected = CHANGED[change]
    expected = expected | SETTINGS_PAGE
    file = tmp_path / "changes.yaml"
    file.write_text(yaml.safe_dump(settings))
    assert remade(finished.snakemake("-n", configfiles=(SMOKE, file))) == expected
    assert stale(finished, monkeypatch, changes=settings) == expected


VARIANTS = {
    f"results/variants/{name}/{path}"
    for name in ("unconditional", "neural_sde")
    for path in ("model.eqx", "training/metrics.csv", "training/curves.png")
}
ABLATIONS = {f"results/ablations/{name}" for name in (*staleness.EVALUATION, *staleness.SPEED)}
ABLATIONS |= {"results/report/ablations.html"}


def test_ablations_are_made_when_asked_for(finished, monkeypatch):
    assert remade(finished.snakemake("-n", "ablations")) == VARIANTS | ABLATIONS
    assert stale(finished, monkeypatch, ["ablations"]) == VARIANTS | ABLATIONS
    assert stale(finished, monkeypatch) == set()


def test_a_changed_variant_makes_no_other_stale(smoke):
    config = load_config(smoke.settings)
    settings = yaml.safe_load(smoke.settings.read_text())
    changes = {"variants": {"neural_sde": {"training": {"steps": 201}}}}
    (smoke.folder / "changed.yaml").write_text(yaml.safe_dump(merged(settings, changes)))
    changed = load_config(smoke.folder / "changed.yaml")

    def fingerprints(of):
        return {
            job.outputs[0]: provenance.stage_fingerprint(job.stage, job.config(of))
            for job in staleness.jobs_of(of)
        }

    before, after = fingerprints(config), fingerprints(changed)
    assert {path for path in before if before[path] != after[path]} == {
        "results/variants/neural_sde/model.eqx",
        "results/ablations/provenance.json",
        "results/ablations/speed.json",
        "results/report/ablations.html",
        "results/report/settings.html",
    }


def test_num_trajectories_can_be_raised_on_the_command_line(smoke):
    found = remade(smoke.snakemake("-n", "--config", f"num_trajectories={COUNT + SHARD}"))
    assert found == CHANGED["one more shard"][1] | SETTINGS_PAGE


# Edited modules, and what they make again.
EDITED = {
    "none, only new times": (None, set()),
    "what only training runs": ("training/fitting.py", FROM_TRAINING),
    "what rollouts run": ("data/rollouts.py", FROM_ROLLOUTS),
    "tables": ("evaluation/tables.py", FROM_EVALUATION),
    "what simulates ensembles": ("evaluation/ensembles.py", ENSEMBLES | FROM_EVALUATION),
    "what draws videos": (
        "data/recording.py",
        VIDEO | {"results/videos/best.mp4"} | PREDICTED,
    ),
    "what predicts": ("prediction.py", PREDICTED),
    "pages": ("pages.py", TABLE_PAGE | VIDEO_PAGE | SETTINGS_PAGE),
    "what draws the picture": ("data/picture.py", {"results/dataset.png"}),
}


@pytest.mark.parametrize("edit", EDITED)
def test_edited_code_reruns_the_stages_that_run_it(finished, monkeypatch, tmp_path, edit):
    module, expected = EDITED[edit]
    copy_checkout(tmp_path)
    if module:
        path = tmp_path / "nsf_pipeline" / module
        path.write_text(path.read_text() + "\nEDITED = True\n")
    assert remade(finished.snakemake("-n", snakefile=tmp_path / "Snakefile")) == expected
    with monkeypatch.context() as patched:
        look_in(tmp_path / "nsf_pipeline", patched)
        assert stale(finished, patched) == expected
    forget()


def copy_checkout(folder):
    for name in ("nsf_pipeline", "workflow", "envs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=ignored, copy_function=shutil.copyfile)
    for name in ("Snakefile", "config.yaml"):
        shutil.copyfile(ROOT / name, folder / name)


def look_in(package, monkeypatch):
    monkeypatch.setattr(provenance, "PACKAGE", package)
    forget()


def forget():
    """A new process would have read no module yet."""
    provenance._file_digest.cache_clear()
    provenance._reachable.cache_clear()


def test_why_names_the_setting_and_the_module(finished, monkeypatch, tmp_path, capsys):
    copy_checkout(tmp_path)
    package = tmp_path / "nsf_pipeline"
    for module in ("training/fitting.py", "extra.py"):
        with (package / module).open("a") as file:
            file.write("\nfrom nsf_pipeline import extra\n" if module != "extra.py" else "")
    (finished.results / "rollouts/00001.h5").unlink()
    settings = yaml.safe_load(finished.settings.read_text())
    settings = merged(settings, {"evaluation": {"num_samples": 33}})
    finished.settings.write_text(yaml.safe_dump(settings))
    monkeypatch.chdir(finished.folder)
    with monkeypatch.context() as patched:
        look_in(package, patched)
        assert main(["why", "--config", "settings.yaml"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines == [
            "results/rollouts/00001.h5: missing",
            "results/dataset.h5, dataset.meta.json: comes from results/rollouts/00001.h5, which is "
            "missing",
            "results/model.eqx, training/metrics.csv, training/curves.png: nsf_pipeline.extra is "
            "new; nsf_pipeline.training.fitting changed",
            "results/ensembles/00000.h5 to 00002.h5 (3 files): comes from results/dataset.h5, "
            "which is stale",
            "results/evaluation/provenance.json, horizons.csv, horizons.md, intervals.csv, "
            "distances.csv, calibration.csv, consistency.csv, skill.png, calibration.png, "
            "block_positions.png: "
            "evaluation.num_samples was 32, is 33",
            "results/dataset.png: comes from results/dataset.h5, which is stale",
            "results/videos/predicted/test_0000000.mp4: comes from results/model.eqx and 1 more, "
            "which are stale",
            "results/videos/best.mp4: comes from results/dataset.h5, which is stale",
            "results/report/videos.html: comes from results/videos/predicted/test_0000000.mp4 and "
            "1 more, which are stale",
            "results/report/tables.html: evaluation.num_samples was 32, is 33",
            "results/report/settings.html: evaluation.num_samples was 32, is 33",
        ]
    forget()
    settings["policies"]["duration"] = [1.0, 3.5]
    settings["training"]["max_gap"] = 3.0
    finished.settings.write_text(yaml.safe_dump(settings))
    assert main(["why", "--config", "settings.yaml", "dataset"]) == 0
    was = "policies.duration was [1.0, 3.6], is [1.0, 3.5]"
    assert capsys.readouterr().out.splitlines() == [
        f"results/policies/00000.h5 to 00003.h5 (4 files): {was}",
        f"results/rollouts/00000.h5 to 00003.h5 (3 files): {was}",
        "results/rollouts/00001.h5: missing",
        f"results/dataset.h5, dataset.meta.json: {was}",
    ]


def test_why_refuses_what_nothing_makes(smoke, monkeypatch, capsys):
    monkeypatch.chdir(smoke.folder)
    assert main(["why", "--config", str(smoke.settings), "results/other.h5"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nsf_pipeline: results/other.h5: nothing makes it; expected a file such")


def test_a_lost_snakemake_folder_hides_nothing(finished):
    shutil.rmtree(finished.folder / ".snakemake")
    assert remade(finished.snakemake("-n")) == set()
    shutil.rmtree(finished.folder / ".snakemake")
    file = finished.folder / "changes.yaml"
    file.write_text(yaml.safe_dump({"simulation": {"action_noise_std": 4.0}}))
    done = finished.snakemake("-n", "results/model.eqx", configfiles=(SMOKE, file))
    assert remade(done) == shards("rollouts") | DATASET | TRAINING
    assert "results/rollouts/00000.h5 to 00003.h5 (4 files): made by other" in done.stderr


# Eight shards, run for real up to the data set.


def jobs(done):
    """How many jobs of each rule ran, all without fault."""
    assert done.returncode == 0, done.stdout + done.stderr
    return Counter(re.findall(r"^(?:local)?rule (\w+):$", done.stderr, re.MULTILINE))


@pytest.fixture
def run(eight, tmp_path):
    return Path(shutil.copytree(eight, tmp_path / "run"))


def test_one_deleted_shard_of_eight_is_one_job(run):
    before = contents(run)
    (run / "results/rollouts/00003.h5").unlink()
    assert jobs(run_eight(run)) == {"rollouts": 1, "dataset": 1}
    assert contents(run) == before
    assert jobs(run_eight(run)) == {}


def test_new_times_rerun_nothing_however_large_the_files(run):
    """As after a copy or a fresh checkout; Snakemake itself looks into small files alone."""
    options = ("--max-checksum-file-size", "1000")
    for path in sorted((run / "results").rglob("*.h5"), reverse=True):  # sources come to be newer
        path.touch()
        time.sleep(0.01)
    assert jobs(run_eight(run, *options)) == {}


def test_more_trajectories_run_the_new_shards_alone(run):
    before = contents(run)
    assert jobs(run_eight(run, num_trajectories=34)) == {"policies": 2, "rollouts": 2, "dataset": 1}
    after = contents(run)
    kept = {name for name, content in before.items() if after[name] == content}
    assert kept == shards("policies", range(7)) | shards("rollouts", range(7))
    assert after.keys() - before.keys() == shards("policies", [8]) | shards("rollouts", [8])


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def flip_the_label(path):
    content = bytearray(path.read_bytes())
    content[2] ^= 1
    path.write_bytes(content)


def swap(path):
    other = path.with_name("00004.h5")
    aside = path.with_name("aside")
    for source, target in [(path, aside), (other, path), (aside, other)]:
        source.rename(target)


def of_another_config(path):
    config = load_config(ROOT / "config.yaml").model_copy(update={"seed": 1, **SIZES})
    arrays = simulate(config, sample_policies(config, 12, 16))
    store.write(path, "rollouts", arrays, provenance.record("rollouts", config))


SIZES = {name: EIGHT[name] for name in ("num_trajectories", "shard_size")}
AGAIN = (
    "to make it again, run snakemake --cores 1 --force results/rollouts/00003.h5 with your other"
)


def unreadable(path):
    path.unlink()
    path.mkdir()


# What happens to a shard, and the line that names it.
BAD = {
    "truncated": (lambda path: os.truncate(path, 9000), "truncated or damaged: 8488 bytes where"),
    "empty": (lambda path: os.truncate(path, 0), "truncated or damaged: it starts neither with"),
    "flipped": (flip, "truncated or damaged: its content does not match its checksum"),
    "flipped in its first bytes": (flip_the_label, "truncated or damaged: it starts neither with"),
    "swapped": (swap, "holds trajectories 16 to 19, expected 12 to 15"),
    "of another config": (of_another_config, "seed was 1, is 0"),
    "unreadable": (unreadable, "cannot be read: Is a directory"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_shard_is_named_before_it_does_harm(run, case):
    spoil, message = BAD[case]
    good = contents(run)
    shard = run / "results/rollouts/00003.h5"
    spoil(shard)
    before = contents(run)
    done = run_eight(run)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("results/rollouts/0000")]
    assert len(lines) == (2 if case == "swapped" else 1)
    assert lines[0].startswith(f"results/rollouts/00003.h5: {message}")
    assert AGAIN in lines[0]
    assert "Traceback" not in done.stderr
    assert contents(run) == before
    if case not in ("flipped", "swapped"):
        return
    for line in lines:
        *_, path = re.findall(r"--force (\S+)", line)
        file = run / "eight.yaml"
        again = run_snakemake(run, "--force", path, "--configfile", file)
        assert jobs(again) == {"rollouts": 1}
    assert jobs(run_eight(run)) == {}
    assert contents(run) == good


def test_a_bad_policy_shard_costs_no_good_rollouts(run):
    flip(run / "results/policies/00003.h5")
    before = contents(run)
    done = run_eight(run)
    assert done.returncode == 1
    assert "results/policies/00003.h5: truncated or damaged: its content does not" in done.stderr
    assert contents(run) == before
