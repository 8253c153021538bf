"""Training in separate processes, and the training files of the smoke run."""

import csv
import json
import os
import sys
from typing import Any

import jax
import numpy as np
import pytest
from conftest import ROOT, run

from nsf_pipeline import label
from nsf_pipeline.config import load_config
from nsf_pipeline.drawing import write_figure
from nsf_pipeline.model import Normaliser
from nsf_pipeline.model.file import model_header
from nsf_pipeline.provenance import Record
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.stages import train
from nsf_pipeline.training import METRICS, TrainingError
from nsf_pipeline.training.curves import picture
from nsf_pipeline.training.state import TrainingLog, TrainingState

NOTHING: Any = None
DEVICES = """
import json, sys
import jax
from test_training import KEY, SETTINGS, BrownianTransitions, TrainingConfig, fit, laws
# With one of the two losses that take long to compile.
config = TrainingConfig(**SETTINGS | {"batch_size": int(sys.argv[1]), "steps": 100,
    "validate_every": 25, "two_to_one_weight": 0.0})
source = BrownianTransitions()
history = fit(*laws(), source, config, key=KEY, validation=source)[2]
print(json.dumps([jax.device_count(), history]))
"""


def on_devices(count, batch_size=128):
    flags = f"--xla_force_host_platform_device_count={count}"
    path = f"{ROOT}{os.pathsep}{ROOT / 'tests/unit'}"
    return run(sys.executable, "-c", DEVICES, batch_size, XLA_FLAGS=flags, PYTHONPATH=path)


def test_two_devices_train_as_one_does():
    (one, alone), (two, together) = (json.loads(on_devices(count).stdout) for count in (1, 2))
    assert (one, two) == (1, 2)
    for row, other in zip(alone, together, strict=True):
        del row["seconds"], other["seconds"]
        assert other == pytest.approx(row, rel=1e-3, abs=1e-4)


def test_a_batch_that_does_not_divide_is_one_line():
    done = on_devices(2, batch_size=127)
    assert done.stderr.splitlines()[-1].endswith(
        "training.batch_size = 127 does not divide among 2 devices; make it a multiple of 2, or "
        "hide some (CUDA_VISIBLE_DEVICES)"
    )


def test_a_diverging_run_leaves_no_file(smoke, tmp_path, monkeypatch):
    config = load_config(smoke.settings)
    monkeypatch.setenv("WANDB_MODE", "disabled")

    def diverge(*_, callbacks, **__):
        state = TrainingState(NOTHING, NOTHING, TrainingLog((dict.fromkeys(METRICS, 1.0),)))
        for callback in callbacks:
            callback.on_row(state)
        raise TrainingError("the loss stopped being finite")

    unit = Normaliser(((0.0, 0.0), (1.0, 1.0)), (1.0,) * STATE.dim)
    monkeypatch.setattr("nsf_pipeline.stages.train.fit_normaliser", lambda *_: unit)
    monkeypatch.setattr("nsf_pipeline.stages.train.fit", diverge)
    paths = (tmp_path / name for name in ("model.eqx", "metrics.csv", "curves.png"))
    with pytest.raises(TrainingError):
        train.run(config, smoke.results / "dataset.h5", *paths)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_another_seed_of_training_is_another_training_on_the_same_data(
    smoke, tmp_path, monkeypatch
):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    begun = []

    def begin(transition, *_, key, **__):
        begun.append((jax.random.key_data(key), jax.tree.leaves(transition)))
        raise TrainingError("that is all")

    monkeypatch.setattr("nsf_pipeline.stages.train.fit", begin)
    for seed in (0, 0, 1):
        usual = load_config(smoke.settings)
        training = usual.training.model_copy(update={"seed": seed})
        config = usual.model_copy(update={"training": training})
        with pytest.raises(TrainingError):
            train.run(config, smoke.results / "dataset.h5", *[tmp_path / n for n in "abc"])
    first, same, other = begun
    assert jax.tree.all(jax.tree.map(np.array_equal, first, same))
    assert not np.array_equal(first[0], other[0])
    assert not jax.tree.all(jax.tree.map(np.array_equal, first[1], other[1]))


def test_metrics_have_their_columns(smoke):
    with (smoke.results / "training/metrics.csv").open(newline="") as file:
        assert tuple(next(csv.reader(file))) == METRICS


def test_curves_are_the_same_bytes_and_say_what_made_them(smoke, tmp_path):
    with (smoke.results / "training/metrics.csv").open(newline="") as file:
        rows = [{n: float(v) for n, v in row.items()} for row in csv.DictReader(file)]
    drawn = (smoke.results / "training/curves.png").read_bytes()
    made = label.find(drawn)
    assert Record.read(made) == Record.read(model_header(smoke.results / "model.eqx"))
    write_figure(lambda: picture(rows), tmp_path / "again.png", made)
    assert (tmp_path / "again.png").read_bytes() == drawn
    rows[0]["validation_nll"] += 1.0
    write_figure(lambda: picture(rows), tmp_path / "other.png", made)
    assert (tmp_path / "other.png").read_bytes() != drawn
