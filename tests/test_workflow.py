"""The workflow: the whole chain run small, what reruns when, and what it refuses."""

import json
import re

import h5py
import imageio_ffmpeg
import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import SMOKE, run_snakemake, run_verb

from nsf_pipeline import load_model
from nsf_pipeline.dmp import condition_dim
from nsf_pipeline.model.file import model_header
from nsf_pipeline.pusht.state import STATE

CHANGES = yaml.safe_load(SMOKE.read_text())
COUNT, SHARD = CHANGES["num_trajectories"], CHANGES["shard_size"]
SHARDS = [f"{shard:05d}" for shard in range(COUNT // SHARD)]
STEPS, BASIS = 36, 6
CONDITION = condition_dim(BASIS)
SPLITS = ("train", "validation", "test")
HORIZONS = (0.1, 0.5, 1.0, 2.0)
GROUPS = ("agent", "block_position", "block_angle")
# What the contract says of each file: axes after the trajectory's, and the type.
CARRIED_OVER = {
    "trajectory": ((), "i8"),
    "seed": ((), "i8"),
    "initial_state": ((7,), "f8"),
    "from_reset": ((), "?"),
    "action_noise_std": ((), "f8"),
    "condition": ((CONDITION,), "f8"),
}
POLICIES = CARRIED_OVER | {
    "duration": ((), "f8"),
    "start": ((2,), "f8"),
    "goal": ((2,), "f8"),
    "weights": ((2, BASIS), "f8"),
    "stiffness": ((), "f8"),
    "damping": ((), "f8"),
}
ROLLOUTS = CARRIED_OVER | {
    "observations": ((STEPS + 1, 5), "f4"),
    "agent_velocity": ((STEPS + 1, 2), "f4"),
    "block_velocity": ((STEPS + 1, 3), "f4"),
    "block_angle": ((STEPS + 1,), "f4"),
    "targets": ((STEPS, 2), "f4"),
    "actions": ((STEPS, 2), "f4"),
    "rewards": ((STEPS,), "f4"),
    "coverage": ((STEPS,), "f4"),
    "observation_mask": ((STEPS + 1,), "?"),
    "action_mask": ((STEPS,), "?"),
    "state_times": ((STEPS + 1,), "f4"),
    "action_times": ((STEPS,), "f4"),
    "length": ((), "i4"),
    "success": ((), "?"),
}


def arrays_of(path):
    with h5py.File(path) as file:
        return {name: values[...] for name, values in file.items()}, dict(file.attrs)


def assert_schema(arrays, schema, count):
    found = {name: (values.shape, values.dtype) for name, values in arrays.items()}
    assert found == {
        name: ((count, *axes), np.dtype(kind)) for name, (axes, kind) in schema.items()
    }


@pytest.mark.parametrize("shard", SHARDS)
def test_shards_hold_what_the_contract_says(smoke, shard):
    policies, _ = arrays_of(smoke.results / f"policies/{shard}.h5")
    rollouts, attributes = arrays_of(smoke.results / f"rollouts/{shard}.h5")
    assert_schema(policies, POLICIES, SHARD)
    assert_schema(rollouts, ROLLOUTS, SHARD)
    assert attributes.keys() >= {"schema_version", "dt", "fingerprint", "config", "versions"}
    first = int(shard) * SHARD
    np.testing.assert_array_equal(rollouts["trajectory"], np.arange(first, first + SHARD))
    for name in CARRIED_OVER:
        np.testing.assert_array_equal(policies[name], rollouts[name])
    np.testing.assert_array_equal(policies["start"], policies["initial_state"][:, STATE.agent])
    np.testing.assert_array_equal(rollouts["action_mask"].sum(axis=1), rollouts["length"])
    np.testing.assert_array_equal(rollouts["observation_mask"].sum(axis=1), rollouts["length"] + 1)


def test_dataset_holds_the_shards(smoke):
    dataset, attributes = arrays_of(smoke.results / "dataset.h5")
    metadata = json.loads((smoke.results / "dataset.meta.json").read_text())
    scaled = {name: (axes, "f8") for name, (axes, _) in ROLLOUTS.items() if name in metadata["min"]}
    assert_schema(dataset, ROLLOUTS | scaled | {"split": ((), "u1")}, COUNT)
    shards = [arrays_of(smoke.results / f"rollouts/{shard}.h5")[0] for shard in SHARDS]
    train = dataset["split"] == 0
    masks = {"observations": "observation_mask", "targets": "action_mask"}
    on_states = ("agent_velocity", "block_angle", "block_velocity")
    masks |= dict.fromkeys(on_states, "observation_mask")
    masks |= {"actions": "action_mask"}
    assert scaled.keys() == masks.keys() | {"initial_state", "condition"}
    for name in ROLLOUTS:
        physical = np.concatenate([shard[name] for shard in shards])
        if name not in scaled:
            np.testing.assert_array_equal(dataset[name], physical)
            continue
        rows = dataset[masks[name]] if name in masks else np.ones(COUNT, bool)
        low, high = (np.array(metadata[bound][name]) for bound in ("min", "max"))
        of_train = physical[train][rows[train]]
        np.testing.assert_array_equal(low, of_train.min(axis=0))
        np.testing.assert_array_equal(high, of_train.max(axis=0))
        back = low + (dataset[name] + 1) / 2 * np.where(high > low, high - low, 1.0)
        np.testing.assert_allclose(back[rows], physical[rows], rtol=1e-6, atol=1e-9)
    assert metadata["num_trajectories"] == COUNT
    assert metadata["dt"] == 0.1
    sizes = [metadata[f"{name}_dim"] for name in ("observation", "action", "condition")]
    assert sizes == [5, 2, CONDITION]
    assert metadata["success_rate"] == dataset["success"].mean()
    counts = [metadata["splits"][name] for name in SPLITS]
    np.testing.assert_array_equal(counts, np.bincount(dataset["split"], minlength=3))
    assert 0 < metadata["contact_fraction"] < 1
    assert metadata["fingerprint"] == attributes["fingerprint"]
    assert metadata["versions"].keys() >= {"python", "gym-pusht", "pymunk", "numpy"}


def test_model_says_what_it_is(smoke):
    model = load_model(smoke.results / "model.eqx")
    header = model_header(smoke.results / "model.eqx")
    assert len(model.state_names) == 7
    assert model.condition_dim == CONDITION
    assert header["config"]["model"]["path_points"] == CHANGES["model"]["path_points"]
    metrics = pd.read_csv(smoke.results / "training/metrics.csv")
    best = metrics.iloc[int(metrics["validation_nll"].to_numpy().argmin())]
    assert header["step"] == best["step"]
    assert header["validation_nll"] == pytest.approx(best["validation_nll"])
    assert len(header["fingerprint"]) == 16


def test_metrics_are_a_row_per_validation(smoke):
    metrics = pd.read_csv(smoke.results / "training/metrics.csv")
    settings = CHANGES["training"]
    every = settings["validate_every"]
    assert metrics["step"].tolist() == list(range(every, settings["steps"] + 1, every))
    assert np.isfinite(metrics).all(axis=None)
    assert metrics["nll"].is_monotonic_decreasing


def test_horizons_table_is_whole_and_sane(smoke):
    table = pd.read_csv(smoke.results / "evaluation/horizons.csv")
    columns = [
        *("model", "horizon_s", "group", "contact", "crps", "crps_lower", "crps_upper"),
        *("crps_simulator", "crps_ratio", "skill", "coverage_50", "coverage_90", "nll", "n_states"),
    ]
    # Other metrics may stand between them.
    assert [column for column in table.columns if column in columns] == columns
    table = table.set_index(["model", "horizon_s", "group", "contact"]).sort_index()
    assert set(table.index) == {
        (model, horizon, group, contact)
        for model in (
            *("simulator", "simulator_from_10", "simulator_from_7"),
            *("flow", "recursive", "kinematic", "persistence", "random"),
        )
        for horizon in HORIZONS
        for group in GROUPS
        for contact in ("all", "contact", "free")
    }
    shares = table[["coverage_50", "coverage_90"]]
    assert ((shares >= 0) & (shares <= 1)).all(axis=None)
    assert (table["coverage_50"] <= table["coverage_90"]).all()
    assert (table["crps_lower"] <= table["crps_upper"]).all()
    densities = table["nll"].groupby(level=["model", "horizon_s", "contact"]).nunique()
    has_density = densities.index.get_level_values("model").isin(["flow", "persistence"])
    assert (densities[has_density] == 1).all()
    assert (densities[~has_density] == 0).all()
    of_all = table.xs("all", level="contact")
    assert (of_all["n_states"] == CHANGES["ensembles"]["num_states"]).all()
    by_noise = pd.read_csv(smoke.results / "evaluation/noise.csv")
    assert {*by_noise["noise"]} == {"no noise", "0 to 8 px", "8 to 16 px"}
    sizes = by_noise.groupby(["model", "horizon_s", "group", "contact"])["n_states"].sum()
    np.testing.assert_array_equal(sizes.sort_index(), table["n_states"].sort_index())
    rows = by_noise[(by_noise["model"] == "flow") & (by_noise["group"] == "agent")]
    crps = rows[rows["contact"] == "all"].pivot(index="horizon_s", columns="noise", values="crps")
    assert (crps["no noise"] < crps["8 to 16 px"] / 2).all()
    flow, persistence, limit = (of_all.loc[m] for m in ("flow", "persistence", "simulator"))
    assert (persistence["crps"] > 0).all()
    np.testing.assert_allclose(flow["skill"], 1 - flow["crps"] / persistence["crps"], atol=2e-5)
    np.testing.assert_allclose(flow["crps_ratio"], flow["crps"] / limit["crps"], rtol=2e-5)
    assert (persistence["skill"] == 0).all()
    assert (flow["nll"] < persistence["nll"]).all()
    assert (flow.xs("agent", level="group")["skill"] > 0.5).all()
    assert (limit["crps"] < persistence["crps"]).all()


def test_reports_are_for_people(smoke):
    text = (smoke.results / "evaluation/horizons.md").read_text()
    table = pd.read_csv(smoke.results / "evaluation/horizons.csv")
    rows = table[(table["model"] == "flow") & (table["contact"] == "all")]
    for group, of_group in rows.groupby("group"):
        section = text[text.index(f"CRPS of the {str(group).replace('_', ' ')}") :]
        (line,) = re.findall(r"^\| flow \|.*$", section.split("\n\n")[0], re.MULTILINE)
        for row in of_group.itertuples():
            assert f"{row.crps:.3g}" in line, row
    for name in ("block_positions", "skill", "calibration"):
        assert (smoke.results / f"evaluation/{name}.png").read_bytes()[1:4] == b"PNG"
    video = smoke.results / "videos/0000000.mp4"
    rollouts, _ = arrays_of(smoke.results / "rollouts/00000.h5")
    assert imageio_ffmpeg.count_frames_and_secs(video)[0] == rollouts["length"][0] + 1


LOGS = {
    "policies/00001": "policies 60 to 119",
    "rollouts/00001": "60 trajectories, ",
    "dataset": "240 trajectories (",
    "picture": "picture of results/dataset.h5",
    "train": "step 300 of 300",
    "ensembles/00001": "ensembles/00001.h5: 100 states, 16 members each, 50 with contact, ",
    "evaluate": "# Prediction on the test split",
    "videos/0000000": "videos/0000000.mp4: trajectory 0, ",
    "videos/best": "videos/best.mp4: trajectory ",
    "videos/predicted/test_0000000": "test_0000000.mp4: prediction of trajectory ",
    "report/tables": "results/report/tables.html: ",
    "report/videos": "results/report/videos.html: ",
    "report/settings": "results/report/settings.html: ",
}


@pytest.mark.parametrize("log", LOGS)
def test_logs_hold_what_jobs_printed(smoke, log):
    text = (smoke.results / f"logs/{log}.log").read_text()
    assert LOGS[log] in text
    assert text.startswith("+ python -m nsf_pipeline ")
    assert set(text.splitlines()) <= set(smoke.printed.splitlines())
    assert (smoke.results / f"benchmarks/{log}.tsv").exists()


def test_generate_data_writes_the_same_bytes(smoke, tmp_path):
    done = run_verb(
        "generate-data", "--config", smoke.settings, "--output", tmp_path, "--jobs", "2"
    )
    assert (done.returncode, done.stderr) == (0, "")
    made = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    names = {f"{kind}/{shard}.h5" for kind in ("policies", "rollouts") for shard in SHARDS}
    assert {str(path) for path in made} == names | {"dataset.h5", "dataset.meta.json"}
    for path in made:
        assert (tmp_path / path).read_bytes() == (smoke.results / path).read_bytes(), path


def test_what_runs_nothing_needs_no_cores(smoke):
    done = smoke.snakemake("--summary", "--", "all", "ablations", cores=())
    assert done.returncode == 0, done.stderr
    for path in ("evaluation/horizons.md", "ablations/speed.md"):
        assert f"results/{path}\t" in done.stdout


REFUSED = {
    "unknown": (
        {"training": {"stepz": 5}},
        "config: training.stepz: unknown setting; did you mean steps?",
    ),
    "wrong type": (
        {"training": {"steps": "many"}},
        'config: training.steps: expected a valid integer, got "many"',
    ),
    "out of range": ({"seed": -1}, "config: seed: expected greater than or equal to 0, got -1"),
    "horizon too long": (
        {"ensembles": {"horizons": [5.0]}},
        "config: ensembles.horizons = 5 s is longer than any trajectory",
    ),
    "more in a shard than there are": (
        {"shard_size": 1000},
        "config: shard_size = 1000 is more than num_trajectories = 240",
    ),
    "prediction of no test trajectory": (
        {"videos": {"predicted": [50]}},
        "config: videos.predicted: there is no test trajectory 50",
    ),
    "batch larger than the data": (
        {"training": {"batch_size": 10_000_000}},
        "config: training.batch_size = 10000000 is larger than the data",
    ),
    "variant that tables cannot name": (
        {"variants": {"nan": {}}},
        "config: variants.nan: programs that read the tables take that name for a missing value",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_settings_are_one_line(tmp_path, case):
    settings, message = REFUSED[case]
    file = tmp_path / "bad.yaml"
    file.write_text(yaml.safe_dump(settings))
    require_one_line(message, tmp_path, "--configfile", SMOKE, file)


STRANGE = {
    "section twice": (
        "training: {steps: 5}\nseed: 1\ntraining: {batch_size: 3}\n",
        "training: given twice, in lines 1 and 3; keep one",
    ),
    "twice in JSON": ('{"seed": 1, "seed": 2}', "seed: given twice; keep one"),
    "repeated without end": (
        "a: &a [x, x]\n"
        + "".join(
            f"{name}: &{name} [{', '.join([f'*{before}'] * 20)}]\n"
            for before, name in zip("abcdefghi", "bcdefghij", strict=True)
        ),
        "more than 200000 values, counting repeated ones",
    ),
}


@pytest.mark.parametrize("case", STRANGE)
def test_what_snakemake_would_drop_or_never_finish_is_one_line(tmp_path, case):
    text, message = STRANGE[case]
    file = tmp_path / "strange.yaml"
    file.write_text(text)
    require_one_line(f"{file}: ", tmp_path, "--configfile", SMOKE, file, contained=message)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (f"num_trajectories={10**18}", "config: num_trajectories: expected less than or equal to"),
        (f"seed={'9' * 400}", "config: seed: expected a smaller number, got one of about 401 digi"),
    ],
    ids=["trajectories", "400 digits"],
)
def test_a_strange_setting_on_the_command_line_is_one_line(tmp_path, setting, message):
    require_one_line(message, tmp_path, "--config", setting)


def require_one_line(start, folder, *options, contained=""):
    """Check that Snakemake refuses its options in one line, before it makes anything."""
    done = run_snakemake(folder, *options)
    assert done.returncode == 1
    *notes, line = done.stderr.splitlines()
    assert line.startswith(start)
    assert contained in line
    assert all(
        note.startswith(("Config file", "Using workflow specific profile")) for note in notes
    )
    assert "Traceback" not in done.stdout + done.stderr
    assert not (folder / "results").exists()
