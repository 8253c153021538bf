"""Fingerprints: what changes them, and what must not."""

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nsf_pipeline import provenance
from nsf_pipeline.config import Config
from nsf_pipeline.provenance import STAGES, source_digest, stage_fingerprint, stage_settings

PAGES = ("table_page", "ablation_page", "video_page", "settings_page")
WITHOUT_JAX = ("policies", "rollouts", "dataset", "videos", "picture", "ensembles", *PAGES)
# What follows from the settings and code of any stage before it. The settings' page follows from
# all settings and its own code, the videos' from whatever videos there are.
EVERY = set(STAGES) - {"video_page", "settings_page"}
FROM_SPEED = {"speed", "ablation_page"}
FROM_COMPARE = {"compare", *FROM_SPEED}
FROM_EVALUATE = {"evaluate", "table_page", *FROM_COMPARE}  # both run the same code
FROM_TRAIN = {"train", "predictions", *FROM_EVALUATE}
FROM_ENSEMBLES = {"ensembles", *FROM_EVALUATE}
AFTER_ROLLOUTS = {"dataset", "picture", *FROM_TRAIN, *FROM_ENSEMBLES}
# A setting of every section, another value, and the stages that it makes stale.
SETTINGS = {
    "seed": (1, EVERY),
    "num_trajectories": (60_000, AFTER_ROLLOUTS),
    "shard_size": (250, AFTER_ROLLOUTS),
    "dmp.phase_decay": (3.0, EVERY),
    "policies.duration": ((1.0, 3.5), EVERY),
    "simulation.action_noise_std": (4.0, EVERY - {"policies"}),
    "dataset.test_fraction": (0.2, AFTER_ROLLOUTS),
    "model.autonomous": (True, FROM_TRAIN),
    "model.flow.depth": (3, FROM_TRAIN),
    "training.steps": (13_000, FROM_TRAIN),
    "wandb.mode": ("disabled", set()),
    "runtime.data_memory": (1, set()),
    "ensembles.horizons": ((0.5,), FROM_ENSEMBLES),
    "ensembles.num_members": (32, FROM_ENSEMBLES),
    "evaluation.num_samples": (64, FROM_EVALUATE),
    "variants": ({}, FROM_COMPARE),
    "speed.rounds": (9, FROM_SPEED),
    "videos.trajectories": ((5,), set()),
}


def changed(config, name, value):
    first, _, rest = name.partition(".")
    value = changed(getattr(config, first), rest, value) if rest else value
    return config.model_copy(update={first: value})


def fingerprints(config=None):
    return {stage: stage_fingerprint(stage, config or Config()) for stage in STAGES}


def stale(before, after):
    return {stage for stage in STAGES if before[stage] != after[stage]}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_makes_stale_its_stage_and_what_follows(name):
    value, expected = SETTINGS[name]
    assert stale(fingerprints(), fingerprints(changed(Config(), name, value))) == {
        *expected,
        "settings_page",
    }


def test_every_section_is_some_stages():
    assert {name.partition(".")[0] for name in SETTINGS} == set(Config.model_fields)
    assert sorted(STAGES["settings_page"].settings) == sorted(Config.model_fields)
    stages = [stage for name, stage in STAGES.items() if name != "settings_page"]
    read = [name for stage in stages for name in stage.settings]
    # Logging, how training runs and which videos there are shape no result.
    assert {*read, "runtime", "videos", "wandb"} == set(Config.model_fields)


def test_fingerprints_are_sixteen_digits_and_differ():
    found = fingerprints()
    assert len(set(found.values())) == len(STAGES)
    assert all(len(digits) == 16 and int(digits, 16) >= 0 for digits in found.values())


def test_a_stage_reads_its_own_settings_and_those_before():
    assert stage_settings("rollouts", Config()).keys() == {"seed", "dmp", "policies", "simulation"}
    assert stage_settings("videos", Config()) == stage_settings("rollouts", Config())
    assert stage_settings("speed", Config()).keys() == Config.model_fields.keys() - {
        "runtime",
        "videos",
        "wandb",
    }


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A copy of the package to edit; `provenance` looks there instead."""
    copy = tmp_path / "nsf_pipeline"
    shutil.copytree(provenance.PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "PACKAGE", copy)
    forget()
    yield copy
    forget()


def forget():
    """A new process would have read nothing yet."""
    provenance._file_digest.cache_clear()
    provenance._reachable.cache_clear()


def edit(path, change=lambda text: text + "\nEDITED = True\n"):
    path.write_bytes(change(path.read_bytes().decode()).encode())
    forget()


# A module, and the stages that an edit of it makes stale.
MODULES = {
    "data/__init__.py": EVERY,  # run by an import of any module beside it
    "data/policies.py": EVERY,
    "data/randomness.py": EVERY,
    "dmp.py": EVERY,
    "pusht/geometry.py": EVERY,
    "pusht/simulator.py": EVERY,
    "data/rollouts.py": EVERY - {"policies"},
    "data/merge.py": AFTER_ROLLOUTS,
    "data/store.py": EVERY,
    "timing.py": EVERY - {"policies"},
    "data/transitions.py": FROM_TRAIN,
    "flow/losses.py": FROM_TRAIN,
    "data/streaming.py": FROM_TRAIN,
    "training/fitting.py": FROM_TRAIN,
    "training/pusht.py": FROM_TRAIN,
    "training/checkpoints.py": set(),
    "training/curves.py": set(),
    "training/progress.py": set(),
    "training/stopping.py": set(),
    "evaluation/__init__.py": FROM_ENSEMBLES,
    "evaluation/ensembles.py": FROM_ENSEMBLES,
    "evaluation/comparison.py": FROM_EVALUATE,
    "evaluation/metrics.py": FROM_EVALUATE,
    "evaluation/predictors.py": FROM_EVALUATE,
    "evaluation/states.py": FROM_EVALUATE,
    "evaluation/speed.py": FROM_SPEED,
    "evaluation/tracked.py": set(),
    "pusht/video.py": {"videos", "predictions"},
    "data/recording.py": {"videos", "predictions"},
    "prediction.py": {"predictions"},
    "pages.py": set(PAGES),
    "data/picture.py": {"picture"},
    "config.py": set(),
    "tracking.py": set(),
    "provenance.py": set(),
    "__init__.py": set(),
}


@pytest.mark.parametrize("module", MODULES)
def test_an_edit_makes_stale_the_stages_that_import_it(module, package):
    before = fingerprints()
    edit(package / module)
    assert stale(before, fingerprints()) == MODULES[module]


def test_times_and_line_ends_make_nothing_stale(package):
    before = fingerprints()
    for path in package.rglob("*.py"):
        edit(path, lambda text: text.replace("\n", "\r\n"))
        os.utime(path, (0, 0))
    assert fingerprints() == before


def test_a_new_import_is_followed(package):
    (package / "extra.py").write_text("VALUE = 1\n")
    before = fingerprints()
    edit(package / "extra.py")
    assert fingerprints() == before
    edit(package / "data/rollouts.py", lambda text: text + "\nfrom nsf_pipeline import extra\n")
    imported = fingerprints()
    edit(package / "extra.py")
    assert stale(imported, fingerprints()) == EVERY - {"policies"}


def test_imports_in_a_circle_end(package):
    edit(package / "dmp.py", lambda text: text + "\nimport nsf_pipeline.data.policies\n")
    assert source_digest("policies")


def modules_of(stage):
    return dict(provenance._reachable(STAGES[stage].modules))


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_starts_at_a_module_and_reaches_others(stage):
    found = modules_of(stage)
    assert set(STAGES[stage].modules) <= found.keys()
    assert len(found) > 1


@pytest.mark.parametrize("stage", WITHOUT_JAX)
def test_simulation_reaches_no_module_that_imports_jax(stage):
    for name, path in modules_of(stage).items():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            tops = {imported.partition(".")[0] for imported in names}
            assert not tops & {"jax", "jaxtyping", "equinox", "optax", "wandb"}, name


def test_simulation_runs_without_jax():
    modules = [module for stage in WITHOUT_JAX for module in STAGES[stage].modules]
    code = "\n".join(f"import {module}" for module in modules)
    code += "\nimport sys; print(*{'jax', 'equinox', 'wandb'} & sys.modules.keys())"
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(Path(provenance.PACKAGE).parent)},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == ""


def test_no_import_of_the_package_is_relative():
    """`provenance` follows absolute imports alone."""
    for path in provenance.PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.ImportFrom) and node.level), path
