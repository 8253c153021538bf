"""Records and digests: what changes them, and what must not."""

import ast
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nsf_pipeline import label, provenance
from nsf_pipeline.config import (
    Config,
    ConfigError,
    ModelConfig,
    TrainingChanges,
    TrainingConfig,
    Variant,
)
from nsf_pipeline.files import FileError
from nsf_pipeline.provenance import (
    Record,
    fingerprint_of,
    modules_from,
    packages_of,
    require_current,
    version_of,
)
from nsf_pipeline.stages import STAGES
from nsf_pipeline.stamps import Stamps

PAGES = {"table_page", "ablation_page", "planning_page", "video_page", "settings_page"}
PAGES |= {"episode_page", "scaling_page", "second_page"}
VIDEOS = {"video", "ranked_video", "prediction", "episode_videos"}
EXPORTS, IMPORTS = {"export"}, {"import"}
TABLES_OF_PLANNING = {"planning_tables", "push_tables", "goal_tables", "short_planning"}
# With and without a trained model behind them.
TRIALS = {"episodes", "pushes", "goals"}
UNTRAINED_TRIALS = {f"untrained_{name}" for name in TRIALS}
PLANNED = {*TRIALS, *UNTRAINED_TRIALS, *TABLES_OF_PLANNING}
# Tasks come from the test split; episodes from resets.
WITH_TASKS = PLANNED - {"episodes", "untrained_episodes"}
OF_MODELS = {"evaluate", "compare", "scaling", "speed", "prediction", "upload", "user_train"}
OF_MODELS |= PLANNED
WITH_USERS = {"user_train", "evaluate", "compare", "scaling", "speed", *PLANNED}
WITHOUT_JAX = {"policies", "rollouts", "dataset", "picture", "ensembles", *VIDEOS, *PAGES}
WITHOUT_JAX |= EXPORTS | IMPORTS
WITHOUT_JAX -= {"prediction"}
EVERY = set(STAGES)
# The second round's stages are those of the first with other files, but for its policies.
SECOND = {name for name in STAGES if name.startswith("second_")}
SECOND_OF = {f"second_{name}": name for name in ("dataset", "train", "episodes", "pushes")}
SECOND_OF |= {"second_tables": "planning_tables", "second_page": "planning_page"}
SECOND_PLANNED = SECOND - {"second_dataset", "second_train", "second_page"}
SIMULATED = {"rollouts", "ensembles", "speed", *VIDEOS, *EXPORTS, *IMPORTS}
SCORED = {"evaluate", "compare", "scaling"}
IN_FULL = SCORED - {"scaling"}
# What follows from the settings of any stage before it; the settings' page, of all.
OF_SETTINGS = EVERY - {"settings_page"}
FROM_SPEED = {"speed", "ablation_page"}
FROM_COMPARE = {"compare", *FROM_SPEED}
FROM_SCALING = {"scaling", "scaling_page"}
FROM_EVALUATE = {"evaluate", "upload", "table_page", *FROM_COMPARE, *FROM_SCALING}
OF_EPISODES = {"episode_videos", "episode_page"}
FROM_TRIALS = {*TABLES_OF_PLANNING, "planning_page", *OF_EPISODES}
FROM_TRAIN = {
    "train",
    "user_train",
    "prediction",
    "video_page",
    *FROM_EVALUATE,
    *TRIALS,
    *FROM_TRIALS,
}
FROM_ENSEMBLES = {"ensembles", *FROM_EVALUATE}
AFTER_ROLLOUTS = {"dataset", "picture", "ranked_video", *EXPORTS, *FROM_TRAIN, *FROM_ENSEMBLES}
AFTER_ROLLOUTS |= UNTRAINED_TRIALS - {"untrained_episodes"}
OF_DATA = OF_SETTINGS - {"untrained_episodes"}
# A setting of every section, another value, and the stages that it makes stale.
SETTINGS = {
    "seed": (1, OF_SETTINGS),
    "num_trajectories": (60_000, AFTER_ROLLOUTS),
    "shard_size": (250, OF_DATA),
    "dmp.phase_decay": (3.0, OF_SETTINGS),
    "policies.duration": ((1.0, 3.5), OF_DATA),
    "policies.action_noise_std": ((0.0, 4.0), OF_DATA),
    "dataset.test_fraction": (0.2, AFTER_ROLLOUTS),
    "model.autonomous": (True, FROM_TRAIN),
    "model.flow.depth": (3, FROM_TRAIN),
    "training.steps": (13_000, FROM_TRAIN),
    "wandb.mode": ("disabled", {"upload"}),
    "runtime.data_memory": (1, set()),
    "ensembles.horizons": ((0.5,), FROM_ENSEMBLES),
    "ensembles.num_members": (32, FROM_ENSEMBLES),
    "evaluation.num_samples": (64, FROM_EVALUATE),
    "variants": ({}, FROM_COMPARE | FROM_TRIALS - OF_EPISODES),
    "planning.search.planner": ("cem", PLANNED | FROM_TRIALS),
    "protocols.episodes": (600, FROM_TRIALS),
    "second_round.trajectories": (10_000, set()),
    "speed.rounds": (9, FROM_SPEED),
    "scaling.depth": ((4,), FROM_SCALING),
    "videos.trajectories": ((5,), set()),
    "exports.frames": (224, set()),
}

NOT_OF_SECOND = {"ensembles", "evaluation", "variants", "speed", "videos", "wandb", "runtime"}
NOT_OF_SECOND |= {"exports", "scaling"}
SECOND_SETTINGS = {
    **{name: SECOND for name in SETTINGS if name.partition(".")[0] not in NOT_OF_SECOND},
    "variants": {"second_tables", "second_page"},
    "protocols.episodes": {"second_tables", "second_page"},
    # More of them make new shards only.
    "second_round.trajectories": SECOND - {"second_policies"},
}


def changed(config, name, value):
    first, _, rest = name.partition(".")
    value = changed(getattr(config, first), rest, value) if rest else value
    return config.model_copy(update={first: value})


def digests(config=None):
    return {name: stage.digest(config or Config()) for name, stage in STAGES.items()}


def stale(before, after):
    return {stage for stage in STAGES if before[stage] != after[stage]}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_makes_stale_its_stage_and_what_follows(name):
    value, expected = SETTINGS[name]
    found = stale(digests(), digests(changed(Config(), name, value)))
    assert found - SECOND == {*expected, "settings_page"} - SECOND
    assert found & SECOND == SECOND_SETTINGS.get(name, set())


def test_every_section_is_some_stages():
    assert {name.partition(".")[0] for name in SETTINGS} == set(Config.model_fields)
    assert sorted(STAGES["settings_page"].reads) == sorted(Config.model_fields)
    others = [stage for name, stage in STAGES.items() if name != "settings_page"]
    # How training runs, and which videos and exports there are, shape no result.
    read = {name for stage in others for name in stage.reads}
    assert read | {"runtime", "videos", "exports"} == set(Config.model_fields)


def test_digests_are_sixteen_digits_and_differ():
    found = digests()
    assert len(set(found.values())) == len(STAGES)
    assert all(len(digits) == 16 and int(digits, 16) >= 0 for digits in found.values())


def test_a_stage_cannot_read_what_it_does_not_declare():
    view = STAGES["rollouts"].view(Config())
    assert view.policies == Config().policies
    assert view.runtime == Config().runtime
    with pytest.raises(ConfigError, match="have no training"):
        _ = view.training
    assert Config().training  # of others, nothing is taken


@pytest.fixture(scope="module")
def unedited():
    """The digests of the code as it is."""
    return digests()


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
    provenance._source.cache_clear()
    modules_from.cache_clear()


def edit(path, change=lambda text: text + "\nEDITED = True\n"):
    path.write_bytes(change(path.read_bytes().decode()).encode())
    forget()


FROM_MERGED = EVERY - {"policies", "rollouts", "video", "ranked_video", "upload", *PAGES, *EXPORTS}
FROM_MERGED -= {*(PLANNED - WITH_TASKS), "episode_videos"}
# A module, and the stages whose code imports it, near or far.
MODULES = {
    "data/__init__.py": EVERY - PAGES - {"upload"},  # run by an import of any module beside it
    "data/policies.py": {"policies", *IMPORTS, *IN_FULL, *PLANNED},
    "data/policy_file.py": {"policies", *IMPORTS, *IN_FULL, *PLANNED},
    "data/actions.py": SIMULATED - {"episode_videos"} | PLANNED | IN_FULL,
    "data/randomness.py": EVERY - PAGES - {"upload", "episode_videos"},
    "dmp.py": EVERY - {"dataset", "picture", "episode_videos", *PAGES},
    "pusht/geometry.py": EVERY - {"dataset", *PAGES},
    "pusht/simulator.py": {"policies", *SIMULATED, *IN_FULL, *PLANNED},
    "pusht/episode.py": {*PLANNED, *IN_FULL, "episode_videos"},
    "pusht/factors.py": {
        "policies",
        "picture",
        "train",
        "user_train",
        *SIMULATED,
        *SCORED,
        *PLANNED,
    },
    "pusht/state.py": EVERY - PAGES,
    "pusht/environment.py": {"policies", *SIMULATED, "train", *OF_MODELS},
    "model/agent_noise.py": {"train", *OF_MODELS},
    "model/encoder.py": {"train", *OF_MODELS},
    "model/model.py": {"train", *OF_MODELS},
    "model/neural_sde.py": {"train", *OF_MODELS},
    "data/rollouts.py": SIMULATED - {"episode_videos"} | WITH_TASKS | IN_FULL,
    "data/merge.py": FROM_MERGED,
    "data/store.py": EVERY - PAGES - {"upload"},
    "data/schema.py": EVERY - PAGES - {"upload"},
    "data/scaling.py": EVERY - PAGES - {"upload"},
    "data/checking.py": set(),
    "timing.py": EVERY - PAGES,
    "data/scenes.py": {"policies", "picture", "train", "user_train", *SIMULATED, *SCORED, *PLANNED}
    - {"episode_videos"},
    "data/simulators.py": {"policies", *SIMULATED, *IN_FULL, *PLANNED} - {"episode_videos"},
    "data/states.py": FROM_MERGED | EXPORTS,
    "data/transitions.py": {"train", "user_train", "scaling", "speed", "prediction"},
    "data/sources.py": {"train", "user_train"},
    "flow/losses.py": {"train", *OF_MODELS},
    "flow/guard.py": {"train", *OF_MODELS},
    "model/arguments.py": {"train", *OF_MODELS},
    "checks.py": set(),
    "data/streaming.py": {"train", "user_train"},
    "training/__init__.py": {"train"},
    "training/blocks.py": {"train"},
    "training/devices.py": {"train"},
    "training/failures.py": {"train"},
    "training/feed.py": {"train"},
    "training/fitting.py": {"train"},
    "training/history.py": {"train"},
    "training/keys.py": {"train"},
    "training/losses.py": {"train"},
    "training/pusht.py": {"train"},
    "training/state.py": {"train"},
    "training/step.py": {"train"},
    "training/table.py": {"train"},
    "stages/train.py": {"train"},
    "stages/user_train.py": {"user_train"},
    "stages/models.py": WITH_USERS - {"user_train"},
    "user_models/__init__.py": WITH_USERS,
    "user_models/file.py": WITH_USERS,
    "user_models/model.py": WITH_USERS,
    "user_models/protocol.py": WITH_USERS,
    "user_code.py": set(),
    "syntax.py": set(),
    "numerics.py": {"train", *OF_MODELS},
    "system/surroundings.py": set(),
    "training/callbacks.py": set(),
    "training/checkpoints.py": set(),
    "training/curves.py": set(),
    "training/progress.py": set(),
    "training/stopping.py": set(),
    "evaluation/__init__.py": {"ensembles", "prediction", *SCORED, "speed", *WITH_TASKS},
    "evaluation/ensembles.py": {"ensembles", *IN_FULL, *WITH_TASKS},
    "evaluation/continued.py": {*IN_FULL, *WITH_TASKS - {"pushes", "untrained_pushes"}},
    "evaluation/open_loop.py": IN_FULL,
    "planning/planner.py": PLANNED,
    "planning/models.py": PLANNED,
    "planning/second_round.py": {"second_policies"},
    "stages/second_round.py": {"second_policies"},
    "protocols/second_tables.py": TABLES_OF_PLANNING,
    "protocols/__init__.py": {*PLANNED, "episode_videos"},
    "protocols/episodes.py": {"episodes", "untrained_episodes"},
    "protocols/rows.py": {*PLANNED, "episode_videos"},
    "protocols/videos.py": {"episode_videos"},
    "protocols/tables.py": TABLES_OF_PLANNING,
    "protocols/figures.py": TABLES_OF_PLANNING,
    "protocols/one_push.py": {"pushes", "untrained_pushes", *TABLES_OF_PLANNING},
    "protocols/goals.py": {"goals", "untrained_goals", *TABLES_OF_PLANNING},
    "stages/episodes.py": {"episodes", "untrained_episodes"},
    "stages/planning.py": TABLES_OF_PLANNING,
    "stages/trials.py": {*TABLES_OF_PLANNING, "episode_videos"},
    "stages/episode_videos.py": {"episode_videos"},
    "evaluation/comparison.py": SCORED,
    "evaluation/metrics.py": {*SCORED, "speed", *TABLES_OF_PLANNING},
    "evaluation/predictors.py": SCORED,
    "evaluation/states.py": {*SCORED, "speed"},
    "evaluation/speed.py": {"speed"},
    "evaluation/cost.py": {"speed"},
    "evaluation/figures.py": IN_FULL | {"speed"},
    "plotting.py": {"picture", *SCORED, "speed", *TABLES_OF_PLANNING},
    "drawing.py": set(),
    "system/printing.py": set(),
    "stages/evaluate.py": IN_FULL,
    "stages/scaling.py": {"scaling"},
    "evaluation/scaling.py": {"scaling"},
    "stages/upload.py": {"upload"},
    "pusht/video.py": VIDEOS | EXPORTS,
    "pusht/recorder.py": EXPORTS,
    "pusht/keypoints.py": EXPORTS | IMPORTS,
    "data/exports/__init__.py": EXPORTS,
    "data/exports/source.py": EXPORTS,
    "data/exports/minari.py": EXPORTS,
    "stages/export.py": EXPORTS,
    "data/imports/__init__.py": IMPORTS,
    "data/imports/fit.py": IMPORTS,
    "stages/imports.py": IMPORTS,
    "data/recording.py": VIDEOS - {"episode_videos"},
    "evaluation/prediction.py": {"prediction"},
    "stages/pages.py": PAGES,
    "data/picture.py": {"picture"},
    "model/file.py": {"train", *OF_MODELS},
    "arrays.py": {"train", *OF_MODELS},
    "paths.py": set(),
    "system/processes.py": set(),
    "config/__init__.py": set(),
    "config/scene.py": set(),
    "config/training.py": set(),
    "config/yaml_text.py": set(),
    "system/signals.py": set(),
    "system/temporary.py": set(),
    "tracking.py": set(),
    "provenance.py": set(),
    "stages/__init__.py": set(),
    "cli/__init__.py": set(),
    "cli/planning.py": set(),
    "envs/__init__.py": EXPORTS,
    "envs/single.py": set(),
    "learned_envs/dynamics.py": set(),
    "system/clocks.py": set(),
    "__init__.py": set(),
}

OF_SECOND_POLICIES = {
    *("data/__init__.py", "data/policies.py", "data/randomness.py", "data/store.py"),
    *("data/actions.py", "data/policy_file.py", "data/scenes.py", "data/simulators.py"),
    *("data/schema.py", "data/scaling.py", "dmp.py", "timing.py", "numerics.py", "arrays.py"),
    *(
        "pusht/geometry.py",
        "pusht/factors.py",
        "pusht/simulator.py",
        "pusht/state.py",
        "pusht/environment.py",
    ),
    *("model/agent_noise.py", "model/arguments.py", "model/encoder.py", "model/file.py"),
    *("model/model.py", "model/neural_sde.py", "flow/guard.py", "flow/losses.py"),
    *("planning/models.py", "planning/planner.py", "planning/second_round.py"),
    *("protocols/__init__.py", "protocols/rows.py", "stages/second_round.py"),
    *("user_models/__init__.py", "user_models/file.py", "user_models/model.py"),
    *("user_models/protocol.py", "stages/models.py"),
}


@pytest.mark.parametrize("module", MODULES)
def test_an_edit_changes_the_stages_that_import_it(module, unedited, package):
    edit(package / module)
    found = stale(unedited, digests())
    assert found - SECOND == MODULES[module] - SECOND
    for second, first in SECOND_OF.items():
        assert (second in found) == (first in found)
    assert ("second_policies" in found) == (module in OF_SECOND_POLICIES)


def test_no_module_that_checks_settings_is_hashed(package):
    edit(package / "dmp.py", lambda text: text + "\nimport nsf_pipeline.config.dmp\n")
    edit(
        package / "data/policies.py", lambda text: text + "\nfrom nsf_pipeline.config import dmp\n"
    )
    imported = digests()
    for path in (package / "config").glob("*.py"):
        edit(path)
    assert digests() == imported
    for stage in STAGES.values():
        assert not [name for name in stage.modules() if name.startswith("nsf_pipeline.config")]


def commented(text):
    return "# Another comment.\n" + text.replace("\n\n", "\n\n# And one more.\n", 1)


def reworded(text):
    """Every docstring another: of the module, of classes, functions and attributes."""
    lines = text.split("\n")
    found = [
        node
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    ]
    for node in sorted(found, key=lambda node: -node.lineno):
        lines[node.lineno - 1 : node.end_lineno] = [" " * node.col_offset + "'Other words.'", ""]
    return "\n".join(lines)


HARMLESS = {
    "line ends": lambda text: text.replace("\n", "\r\n"),
    "comments": commented,
    "docstrings": reworded,
    "nothing but the time": lambda text: text,
}


@pytest.mark.parametrize("change", HARMLESS)
def test_what_changes_no_behaviour_changes_no_digest(change, unedited, package):
    for path in package.rglob("*.py"):
        edit(path, HARMLESS[change])
        os.utime(path, (0, 0))
    assert digests() == unedited


@pytest.mark.parametrize(
    ("before", "after"),
    [("1", "2"), ("a + b", "a - b"), ('"x"', '"y"'), ("f(a, b)", "f(b, a)"), ("1", "1.0")],
)
def test_what_changes_behaviour_changes_the_digest(before, after, package):
    edit(package / "dmp.py", lambda text: f"{text}\nLAST = {before}\n")
    first = digests()
    edit(package / "dmp.py", lambda text: text.replace(f"LAST = {before}", f"LAST = {after}"))
    assert "policies" in stale(first, digests())


def test_a_new_import_is_followed(unedited, package):
    (package / "extra.py").write_text("VALUE = 1\n")
    forget()
    assert digests() == unedited
    edit(package / "data/rollouts.py", lambda text: text + "\nfrom nsf_pipeline import extra\n")
    imported = digests()
    edit(package / "extra.py")
    assert stale(imported, digests()) - SECOND == MODULES["data/rollouts.py"]


def test_imports_in_a_circle_end(package):
    edit(package / "dmp.py", lambda text: text + "\nimport nsf_pipeline.data.policies\n")
    assert modules_from("nsf_pipeline.stages.policies")


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_starts_at_a_module_and_reaches_others(stage):
    found = STAGES[stage].modules()
    assert STAGES[stage].module in found
    assert len(found) > 1


@pytest.mark.parametrize("stage", sorted(WITHOUT_JAX))
def test_simulation_reaches_no_module_that_imports_jax(stage):
    for name in STAGES[stage].modules():
        for node in ast.walk(ast.parse(provenance._source(name) or b"")):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            tops = {imported.partition(".")[0] for imported in names}
            assert not tops & {"jax", "equinox", "optax", "wandb"}, name


def test_simulation_runs_without_jax():
    modules = sorted({STAGES[stage].module for stage in WITHOUT_JAX})
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


# A package, and the stages that compute with it; what follows from these is stale as well.
PACKAGES = {
    "numpy": EVERY - PAGES,
    "gym-pusht": EVERY - {"dataset", "second_dataset", "picture", *PAGES},
    "gymnasium": EVERY - {"dataset", "second_dataset", "picture", *PAGES},
    "pymunk": {"policies", *SIMULATED, *IN_FULL, *PLANNED, *SECOND_PLANNED},
    "jax": {"train", "second_train", *OF_MODELS, *SECOND_PLANNED},
    "jaxlib": {"train", "second_train", *OF_MODELS, *SECOND_PLANNED},
    "equinox": {"train", "second_train", *OF_MODELS, *SECOND_PLANNED},
    "optax": {"train", "second_train"},
    # By default, only a variant is a neural SDE.
    "diffrax": {"compare", "speed", "second_tables", *TABLES_OF_PLANNING},
    "scoringrules": {*SCORED, "speed", "second_tables", *TABLES_OF_PLANNING},
    "pandas": {*SCORED, *EXPORTS, "speed", "second_tables", *TABLES_OF_PLANNING},
    # These draw, encode, store, check or report.
    "matplotlib": set(),
    "opencv-python-headless": set(),
    "imageio-ffmpeg": set(),
    "h5py": set(),
    "pydantic": set(),
    "jaxtyping": set(),
    "markdown": set(),
    "wandb": set(),
    "snakemake": set(),
    "nsf_pipeline": set(),
}


@pytest.fixture
def install(monkeypatch):
    """Pretend that other versions of packages are installed, or none."""

    def pretend(**found):
        named = {name.replace("_", "-"): version for name, version in found.items()}
        monkeypatch.setattr(
            provenance, "version_of", lambda name: named.get(name, version_of(name))
        )

    version_of.cache_clear()
    return pretend


@pytest.mark.parametrize("package", PACKAGES)
def test_another_version_makes_stale_the_stages_that_compute_with_it(package, unedited, install):
    install(**{package: "0.0.1"})
    assert stale(unedited, digests()) == PACKAGES[package]


def test_every_package_that_counts_is_in_the_table():
    counting = {name for names in provenance.DECIDING.values() for name in names}
    assert {name for name, stages in PACKAGES.items() if stages} == counting


def test_every_package_that_stages_import_is_known():
    """So that one that is new to the code is either counted or said to decide nothing."""
    known = {*provenance.DECIDING, *UNCOUNTED}
    for stage in STAGES.values():
        for module in stage.modules():
            tops = provenance._tops(module) - sys.stdlib_module_names - {"nsf_pipeline"}
            assert tops <= known, module


UNCOUNTED = {
    *("matplotlib", "cv2", "imageio_ffmpeg", "h5py", "pydantic", "jaxtyping", "markdown", "yaml"),
    *("pygame", "minari", "pyarrow", "lance", "zarr", "numcodecs"),
}


@pytest.mark.parametrize(("kind", "counts"), [("flow", False), ("neural_sde", True)])
def test_diffrax_counts_for_the_models_that_it_solves(kind, counts):
    config = Config() if kind == "flow" else Config().variant("neural_sde")
    stage = STAGES["train"]
    assert ("diffrax" in packages_of(stage.modules(), stage.settings(config))) == counts


# Records, which files carry.


def chain(config):
    """Records of a policy shard, its rollouts and their data set."""
    policies = Record.new(STAGES["policies"], config)
    rollouts = Record.new(STAGES["rollouts"], config, policies)
    return policies, rollouts, Record.new(STAGES["dataset"], config, rollouts)


def test_a_record_holds_what_shaped_the_sources_too():
    policies, rollouts, dataset = chain(Config())
    assert policies.settings.keys() == {"seed", "shard_size", "dmp", "policies"}
    assert rollouts.settings.keys() == policies.settings.keys()
    assert dataset.settings.keys() == {*rollouts.settings, "num_trajectories", "dataset"}
    assert policies.modules.items() < rollouts.modules.items() < dataset.modules.items()
    assert len({made.fingerprint for made in (policies, rollouts, dataset)}) == 3


def test_a_record_comes_back_from_the_fields_of_a_file():
    *_, made = chain(Config())
    assert Record.read(made.fields()) == made


@pytest.mark.parametrize(
    ("name", "value", "what"),
    [
        ("policies.duration", (1.0, 3.5), "policies.duration was [1.0, 3.6], is [1.0, 3.5]"),
        ("policies.noiseless_fraction", 0.2, "policies.noiseless_fraction was 0.1, is 0.2"),
        ("dataset.test_fraction", 0.2, "dataset.test_fraction was 0.1, is 0.2"),
        ("training.steps", 5, ""),
    ],
)
def test_a_file_is_stale_for_what_shaped_its_sources(name, value, what):
    *_, made = chain(Config())
    assert made.changes(changed(Config(), name, value)) == [what] * bool(what)


def test_of_settings_that_a_job_was_not_given_it_does_not_judge():
    *_, made = chain(Config())
    given = changed(changed(Config(), "seed", 1), "dmp.n_basis", 4).only("seed")
    assert made.changes(given) == ["seed was 0, is 1"]


def test_a_file_of_other_code_is_stale(package):
    *_, made = chain(Config())
    edit(package / "data/policies.py", commented)
    assert made.changes(Config()) == []
    edit(package / "data/policies.py")
    assert made.changes(Config()) == ["nsf_pipeline.data.policies changed"]
    (package / "data/policies.py").unlink()
    forget()
    assert made.changes(Config()) == ["nsf_pipeline.data.policies is gone"]


def test_a_setting_that_came_since_is_named():
    *_, made = chain(Config())
    del made.settings["dmp"]["n_basis"]
    old = Record("dataset", made.settings, made.modules, "of before")
    assert old.changes(Config()) == ["dmp.n_basis was not there, is 6"]


def test_a_fingerprint_that_does_not_follow_is_refused():
    *_, made = chain(Config())
    other = replace(made, fingerprint="0" * 16)
    (line,) = other.changes(Config())
    assert line.startswith(f"made by other settings or code (fingerprint {'0' * 16}, now ")
    assert made.fingerprint == fingerprint_of(made.settings, made.modules, made.versions)


# By case: other versions, and what is said of a data set.
OTHER_VERSIONS: dict[str, tuple[dict[str, str | None], list[str]]] = {
    "what simulated it": ({"pymunk": "7.0"}, ["pymunk was {pymunk}, is 7.0"]),
    "what merged it": ({"numpy": "9.0"}, ["numpy was {numpy}, is 9.0"]),
    "two": (
        {"gym_pusht": "0.2", "gymnasium": "2.0"},
        ["gym-pusht was {gym-pusht}, is 0.2", "gymnasium was {gymnasium}, is 2.0"],
    ),
    "what only training needs": ({"jax": "9.0"}, []),
    "what draws": ({"matplotlib": "9.0"}, []),
    "none installed": ({"pymunk": None, "gym_pusht": None}, []),
}


@pytest.mark.parametrize("case", OTHER_VERSIONS)
def test_a_file_is_stale_for_the_versions_that_made_it_and_its_sources(case, install):
    found, expected = OTHER_VERSIONS[case]
    *_, made = chain(Config())
    read = Record.read(made.fields())
    install(**found)
    assert read.changes(Config()) == [line.format(**made.versions) for line in expected]


def test_versions_change_the_fingerprint(install):
    *_, made = chain(Config())
    install(pymunk="7.0")
    *_, other = chain(Config())
    assert other.fingerprint != made.fingerprint
    assert other.versions == made.versions | {"pymunk": "7.0"}
    assert other.changes(Config()) == []


def test_what_an_older_version_made_stays_so_in_what_is_made_from_it(install):
    """As in a picture of a data set that is read without settings."""
    *_, made = chain(Config())
    install(numpy="9.0", pymunk="7.0")
    picture = Record.new(STAGES["picture"], None, made)
    assert picture.versions == made.versions
    assert picture.fields()["versions"]["pymunk"] == made.versions["pymunk"]
    assert picture.changes(Config())[0] == f"numpy was {made.versions['numpy']}, is 9.0"


def test_a_record_without_versions_is_judged_by_the_rest(install):
    *_, made = chain(Config())
    fields = made.fields() | {
        "versions": {},
        "fingerprint": fingerprint_of(made.settings, made.modules, {}),
    }
    install(pymunk="7.0")
    assert Record.read(fields).changes(Config()) == []
    assert Record.read(fields).changes(Config(seed=1)) == ["seed was 0, is 1"]


def test_the_first_changes_are_named_and_how_to_make_the_file_again():
    *_, made = chain(Config())
    config = Config()
    for name, value in [
        ("seed", 1),
        ("dmp.n_basis", 4),
        ("dmp.phase_decay", 3.0),
        ("policies.goal_x", (50.0, 100.0)),
    ]:
        config = changed(config, name, value)
    with pytest.raises(FileError) as caught:
        require_current("some where.h5", made, config)
    assert str(caught.value) == (
        "some where.h5: dmp.n_basis was 6, is 4; dmp.phase_decay was 4.0, is 3.0; policies.goal_x "
        "was [40.0, 472.0], is [50.0, 100.0]; and 1 more; if the workflow made it, snakemake "
        "--cores 1 --force 'some where.h5' with your other options makes it again"
    )
    assert require_current("some where.h5", made, None) == made


# Stamps, which show a change to Snakemake.


def test_a_stamp_is_written_once_and_named_by_what_it_holds(tmp_path, package):
    (first,) = {Stamps(Config(), tmp_path).of(STAGES["train"]) for _ in range(2)}
    path = Path(first)
    written = path.stat().st_mtime_ns
    assert Stamps(Config(), tmp_path).of(STAGES["train"]) == first
    other = Stamps(changed(Config(), "training.steps", 5), tmp_path).of(STAGES["train"])
    edit(package / "training/fitting.py")
    edited = Stamps(Config(), tmp_path).of(STAGES["train"])
    assert len({first, other, edited}) == 3
    assert path.stat().st_mtime_ns == written
    assert Path(other).parent == path.parent


def test_stamps_of_shards_of_two_sizes_stay_beside_each_other(tmp_path):
    """Those of a variant's episodes lie in one folder, also that of a last, smaller shard."""
    stamps = Stamps(Config(), tmp_path)
    stage, variant = STAGES["episodes"], "gaussian"
    used = [Path(stamps.of(stage, variant=variant, episodes=count)) for count in (50, 20)]
    assert used[0].parent == used[1].parent
    stamps.drop_others()
    assert all(path.exists() for path in used)


def test_a_run_removes_the_stamps_of_other_settings_of_its_own_stages(tmp_path):
    before, now = Stamps(Config(), tmp_path), Stamps(Config(seed=1), tmp_path)
    kept = [before.of(STAGES["evaluate"]), before.of(STAGES["train"], variant="gaussian")]
    gone = [before.of(STAGES["train"])]
    kept += [now.of(STAGES["train"]), now.of(STAGES["policies"], part="00003", trajectories=5)]
    now.drop_others()
    assert sorted(map(str, tmp_path.rglob("*.json"))) == sorted(kept)
    assert not Path(gone[0]).exists()


@pytest.mark.parametrize("text", ["", '{"seed": 0}', "\0"])
def test_an_altered_stamp_is_mended(tmp_path, text):
    path = Path(Stamps(Config(), tmp_path).of(STAGES["train"]))
    sound = path.read_text()
    path.write_text(text)
    assert Stamps(Config(), tmp_path).of(STAGES["train"]) == str(path)
    assert path.read_text() == sound


def test_a_variants_stamp_has_the_variants_settings(tmp_path):
    path = Stamps(Config(), tmp_path).of(STAGES["train"], variant="state5")
    assert json.loads(Path(path).read_text())["model"]["state_dim"] == 5
    # The same in other words is the same.
    same = Config(training=TrainingConfig(steps=5_000), variants={"state5": STEPS})
    other = Config(variants={"state5": STEPS})
    stamps = {Stamps(c, tmp_path).of(STAGES["train"], variant="state5") for c in (same, other)}
    assert len(stamps) == 1


STEPS = Variant(model=ModelConfig(state_dim=5), training=TrainingChanges(steps=3_000))


@pytest.mark.parametrize(
    "fields",
    [
        {"config": 5},
        {"modules": None},
        {"config": "yes"},
        {"versions": 5},
        {"versions": "[1]"},
        {"config": {"variants": [1]}},
        {"config": {"model": "flow"}},
    ],
)
def test_a_record_that_is_none_is_damage(fields):
    with pytest.raises(label.LabelError, match="the record of what made it cannot be read"):
        Record.read(fields)


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"file/train/.* cannot write it: Not a directory"):
        Stamps(Config(), tmp_path / "file").of(STAGES["train"])
