"""The ablations and the scaling curves: cheap variants and a user's class, trained and compared."""

import json
import shutil
from typing import Any

import pandas as pd
import pytest
import yaml
from conftest import ROOT, SMOKE, SmokeRun, merged, remade, run_verb

CHANGES: dict[str, dict[str, Any]] = {
    "variants": {
        "unconditional": None,
        "neural_sde": {
            "model": {"path_points": 1, "flow": {"hidden_size": 8, "depth": 1}},
            "training": {
                "steps": 20,
                "warmup_steps": 5,
                "validate_every": 20,
                "validation_size": 64,
            },
        },
        # Found in the run's folder.
        "mine": {"model": {"kind": "user_classes:Brownian", "settings": {"floor": 0.5}}},
    },
    "speed": {"sizes": [1, 4], "rounds": 1},
    "scaling": {"trajectories": [100], "width": [], "depth": [], "steps": []},
}


@pytest.fixture(scope="module")
def run(smoke, tmp_path_factory):
    """A copy of the finished run, with ablations."""
    folder = tmp_path_factory.mktemp("ablations") / "run"
    shutil.copytree(smoke.folder, folder)
    shutil.copy(ROOT / "tests/unit/user_classes.py", folder)
    settings = folder / "ablations.yaml"
    settings.write_text(yaml.safe_dump(CHANGES))
    run = SmokeRun(folder, settings, "")
    done = run.snakemake("--", "ablations", "scaling", configfiles=(SMOKE, settings))
    assert done.returncode == 0, done.stdout + done.stderr
    return run


def test_the_tables_hold_the_variant_beside_what_the_default_target_has(run):
    compared, alone = (
        pd.read_csv(run.results / folder / "horizons.csv") for folder in ("ablations", "evaluation")
    )
    assert set(compared["model"]) == {*alone["model"], "neural_sde", "mine"}
    rest = compared[compared["model"].isin(alone["model"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(rest, alone)
    assert len(compared) == len(alone) * 10 / 8
    steps = pd.read_csv(run.results / "ablations/consistency.csv")
    assert set(steps["model"]) == {"flow"}  # a neural SDE is consistent as it is


def test_a_users_class_is_trained_by_its_own_code_and_scored(run):
    rows = pd.read_csv(run.results / "variants/mine/training/metrics.csv")
    assert list(rows) == ["step", "seconds", "loss"]
    table = pd.read_csv(run.results / "ablations/horizons.csv").query("model == 'mine'")
    assert table[["crps", "nll"]].notna().all(axis=None)
    errors = pd.read_csv(run.results / "ablations/open_loop.csv")
    assert set(errors["model"]) == {
        *("simulator", "flow", "neural_sde", "mine", "persistence", "random")
    }
    done = run.snakemake("-n", "--", "ablations", configfiles=(SMOKE, run.settings))
    assert remade(done) == set()
    shutil.move(run.folder / "user_classes.py", run.folder / "elsewhere.py")
    done = run.snakemake("-n", "--", "ablations", configfiles=(SMOKE, run.settings))
    shutil.move(run.folder / "elsewhere.py", run.folder / "user_classes.py")
    assert done.returncode == 1
    said = "config: variants: user_classes:Brownian: there is no module user_classes where Python"
    assert said in done.stdout + done.stderr


def test_every_side_is_timed_and_drawn(run):
    table = pd.read_csv(run.results / "ablations/speed.csv")
    models, simulators = ("flow", "recursive", "neural_sde", "mine"), ("simulator", "gym_pusht")
    sides = (*models, *simulators, "simulator_all_cores")
    expected = {(name, size) for name in sides for size in CHANGES["speed"]["sizes"]}
    assert {*zip(table["model"], table["at_once"], strict=True)} == expected
    assert len(table) == len(expected)
    assert (table["seconds"] > 0).all()
    assert (table["measured_at_once"] == table["at_once"]).all()
    text = (run.results / "ablations/speed.md").read_text()
    assert "# Cost of predicting 2 s ahead" in text
    assert "with 2 cores; " in text
    for name in ("accuracy_against_cost", "skill", "calibration", "block_positions"):
        assert (run.results / f"ablations/{name}.png").read_bytes()[1:4] == b"PNG"


def test_the_curves_hold_a_model_of_fewer_data_beside_the_run(run):
    table = pd.read_csv(run.results / "scaling/scaling.csv")
    assert set(table["axis"]) == {"trajectories"}
    assert table["model"].unique().tolist() == ["scaling_trajectories_100", "flow"]
    known = pd.read_csv(run.results / "evaluation/horizons.csv").query(
        "model == 'flow' and group == 'block_position' and contact == 'all'"
    )
    own = table[table["model"] == "flow"]
    assert own["crps_ratio"].tolist() == known["crps_ratio"].tolist()
    assert own["trajectories"].iloc[0] > 100
    assert (table[["parameters", "seconds", "validation_nll"]].notna()).all(axis=None)
    for name in ("scaling.md", "scaling.png", "scaling.json"):
        assert (run.results / "scaling" / name).is_file()
    done = run.snakemake("-n", "--", "scaling", configfiles=(SMOKE, run.settings))
    assert remade(done) == set()
    settings = json.dumps(merged(yaml.safe_load(SMOKE.read_text()), CHANGES))
    files = [run.results / "scaling/scaling.json"]
    files += [run.results / "variants/scaling_trajectories_100/model.eqx"]
    assert "up to date: 2 files" in run_verb("why", "--config", settings, *files).stdout


def test_one_report_has_both(run, tmp_path):
    report = tmp_path / "report.html"
    arguments = ["--report", report, "--", "all", "ablations", "scaling"]
    done = run.snakemake(*arguments, configfiles=(SMOKE, run.settings), cores=())
    assert done.returncode == 0, done.stderr
    text = report.read_text()
    for name in (
        "accuracy_against_cost.png",
        "speed.csv",
        "block_positions.png",
        "dataset.png",
        "scaling.png",
    ):
        assert name in text
