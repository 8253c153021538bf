"""What made a file: the settings that its stage read and the code that ran.

A stage's fingerprint is the hash of both, and of the fingerprints of the stages before it.
Snakemake sees it as a parameter of each job, and every file carries it, so that either alone can
tell a stale file. Settings count by value and code by content: a new mtime changes nothing.
"""

import ast
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from nsf_pipeline.config import Config

PACKAGE = Path(__file__).parent
# Settings count by value; these modules check them, hash, log, keep and word errors, and shape no
# model: its curves are not worth training again for.
NOT_HASHED = frozenset(
    f"nsf_pipeline.{name}"
    for name in (
        "config",
        "errors",
        "evaluation.tracked",
        "provenance",
        "tracking",
        "training.checkpoints",
        "training.curves",
        "training.progress",
        "training.stopping",
    )
)


@dataclass(frozen=True)
class Stage:
    """One step of the chain.

    Attributes:
        modules: where its code starts; their imports within the package count too.
        settings: the sections, or single settings, of the config that it reads.
        after: the stages whose files it reads.
    """

    modules: tuple[str, ...]
    settings: tuple[str, ...]
    after: tuple[str, ...] = ()


STAGES = {
    "policies": Stage(
        ("nsf_pipeline.data.policies", "nsf_pipeline.data.store"), ("seed", "dmp", "policies")
    ),
    "rollouts": Stage(
        ("nsf_pipeline.data.rollouts", "nsf_pipeline.data.store"),
        ("simulation",),
        after=("policies",),
    ),
    "dataset": Stage(
        ("nsf_pipeline.data.merge",),
        ("num_trajectories", "shard_size", "dataset"),
        after=("rollouts",),
    ),
    "picture": Stage(("nsf_pipeline.data.picture",), (), after=("dataset",)),
    "train": Stage(("nsf_pipeline.training",), ("model", "training"), after=("dataset",)),
    "ensembles": Stage(("nsf_pipeline.evaluation.ensembles",), ("ensembles",), after=("dataset",)),
    "evaluate": Stage(
        ("nsf_pipeline.evaluation.comparison",), ("evaluation",), after=("train", "ensembles")
    ),
    "compare": Stage(
        ("nsf_pipeline.evaluation.comparison",),
        ("evaluation", "variants"),
        after=("train", "ensembles"),
    ),
    "speed": Stage(("nsf_pipeline.evaluation.speed",), ("speed",), after=("compare",)),
    # Settings choose which videos there are, not what is in one; some come from the data set.
    "videos": Stage(("nsf_pipeline.data.recording",), (), after=("rollouts",)),
    "predictions": Stage(("nsf_pipeline.prediction",), (), after=("train",)),
    # Pages of the report. The videos' page comes after whatever videos there are.
    "table_page": Stage(("nsf_pipeline.pages",), (), after=("evaluate",)),
    "ablation_page": Stage(("nsf_pipeline.pages",), (), after=("speed",)),
    "video_page": Stage(("nsf_pipeline.pages",), ()),
    "settings_page": Stage(("nsf_pipeline.pages",), tuple(Config.model_fields)),
}


def stage_settings(stage: str, config: Config) -> dict[str, Any]:
    """The settings that a stage and those before it read, by name, as plain JSON values."""
    return config.model_dump(mode="json", include=set(_settings_of(stage)))


def stage_fingerprint(stage: str, config: Config) -> str:
    """Sixteen hexadecimal digits that change when the stage's settings or code do."""
    # The number of trajectories and of shards decides which files there are, not what is in one.
    before = [stage_fingerprint(earlier, config) for earlier in STAGES[stage].after]
    own = config.model_dump(mode="json", include=set(STAGES[stage].settings))
    return _fingerprint(stage, before, own)


def fingerprint_after(stage: str, source: str) -> str:
    """Fingerprint of what a stage without settings makes from a file, or from several.

    Args:
        stage: the stage.
        source: the file's own fingerprint; of several, each in turn, with blanks between.
    """
    return _fingerprint(stage, [source], {})


def record_after(stage: str, source: str) -> dict[str, Any]:
    """What a file of a stage without settings says of its making; see `fingerprint_after`."""
    return {"fingerprint": fingerprint_after(stage, source), "modules": stage_modules(stage)}


def record(stage: str, config: Config) -> dict[str, Any]:
    """What every file of a stage says of its making, as plain JSON values.

    Returns:
        `fingerprint`; `config`, the settings that the stage and those before it read; `modules`,
        the digest of each module that the stage runs; `versions`.
    """
    return {
        "fingerprint": stage_fingerprint(stage, config),
        "config": stage_settings(stage, config),
        "modules": stage_modules(stage),
        "versions": versions(),
    }


def stage_modules(stage: str) -> dict[str, str]:
    """Digest of the source of every module that a stage's code imports from this package."""
    return {name: _file_digest(path) for name, path in sorted(_reachable(STAGES[stage].modules))}


def source_digest(stage: str) -> str:
    """Hash of all the source that a stage runs."""
    return _digest(stage_modules(stage))


def versions() -> dict[str, str]:
    """Versions of what decides the numbers."""
    names = (
        *("nsf_pipeline", "gym-pusht", "gymnasium", "h5py", "numpy", "pymunk"),
        *("jax", "equinox", "diffrax", "scoringrules"),
    )
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _fingerprint(stage: str, before: list[str], settings: Any) -> str:
    return _digest({"before": before, "settings": settings, "code": source_digest(stage)})


def _settings_of(stage: str) -> Iterator[str]:
    yield from STAGES[stage].settings
    for before in STAGES[stage].after:
        yield from _settings_of(before)


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@cache
def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes().replace(b"\r\n", b"\n")).hexdigest()[:16]


@cache
def _reachable(start: tuple[str, ...]) -> frozenset[tuple[str, Path]]:
    found: dict[str, Path] = {}
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        if name in found or name in NOT_HASHED:
            continue
        path = _module_path(name)
        if path is None:  # a name inside a module, or the package itself
            continue
        found[name] = path
        waiting.append(name.rpartition(".")[0])  # importing it runs its package first
        waiting.extend(_imports(path))
    return frozenset(found.items())


def _module_path(name: str) -> Path | None:
    parts = name.split(".")
    if parts[0] != PACKAGE.name or len(parts) == 1:
        return None
    base = PACKAGE.joinpath(*parts[1:])
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    return None


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
