"""Merging: all rollout shards into one data set, scaled by the train split's bounds.

Two passes over the shards, one shard in memory at a time: the first checks each and gathers bounds
and statistics, the second writes.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nsf_pipeline.config import Config, DatasetConfig
from nsf_pipeline.data import store
from nsf_pipeline.data.randomness import Stream, generator
from nsf_pipeline.data.states import join_state
from nsf_pipeline.files import FileError, again, replacing
from nsf_pipeline.provenance import Record, Stage, require_current
from nsf_pipeline.pusht.state import STATE_WITHOUT_VELOCITY
from nsf_pipeline.timing import CONTROL_DT, num_steps

TRAIN, VALIDATION, TEST = range(3)
SPLITS = ("train", "validation", "test")
SCALED = tuple(name for name, field in store.DATASET.items() if field.scaled)


def merge(
    shards: Sequence[Path], config: Config, stage: Stage, *, output: Path, metadata_output: Path
) -> dict[str, Any]:
    """Merge rollout shards.

    Args:
        shards: the rollout shards' paths, in order.
        config: the current settings.
        stage: the stage that makes the data set; its record is stored in the file.
        output: the data set.
        metadata_output: its bounds and statistics, as JSON.

    Returns:
        The metadata.

    Raises:
        FileError: shards are missing, damaged, foreign or were made by other settings or code; the
            message has a line for each. Or the data set cannot be written.
    """
    current_record = partial(require_current, config=config)
    config = stage.view(config)
    if len(shards) != config.num_shards:
        raise store.StoreError(f"expected {config.num_shards} rollout shards, got {len(shards)}")
    steps = num_steps(config.policies.duration[1])
    statistics = Statistics()
    refused: list[str] = []
    sources: list[Record] = []
    for index, path in enumerate(shards):
        try:
            with store.reading(path, "rollouts") as file:
                # All records are equal: one is enough.
                sources[:] = [current_record(path, store.record_of(file))]
                _check(path, file, config.shard_range(index), steps)
                rollouts = {name: file[name][...] for name in store.ROLLOUTS}
        except FileError as error:
            refused.append(str(error))
        else:
            statistics.add(rollouts, split_of(config.seed, rollouts["trajectory"], config.dataset))
    if refused:
        raise FileError("\n".join(refused))
    attributes = Record.new(stage, config, *sources).fields()
    low, high = statistics.bounds()
    metadata = statistics.metadata() | attributes
    sizes = {
        "n": config.num_trajectories,
        "T": steps,
        "T+1": steps + 1,
        "C": statistics.condition_dim,
    }
    text = json.dumps(metadata, indent=2, sort_keys=True) + "\n"
    # The data set is renamed first: if that fails, neither file has changed.
    with replacing(metadata_output) as temporary_metadata, replacing(output) as temporary:
        temporary_metadata.write_text(text, encoding="utf-8")
        with store.create(temporary, "dataset", sizes, attributes | {"metadata": text}) as file:
            for index, path in enumerate(shards):
                rollouts = store.read(path, "rollouts")
                rollouts["split"] = split_of(config.seed, rollouts["trajectory"], config.dataset)
                for name in SCALED:
                    rollouts[name] = scaled(name, rollouts, low[name], high[name])
                rows = slice(*config.shard_range(index))
                for name in store.DATASET:
                    file[name][rows] = rollouts[name]
    return metadata


def split_of(
    seed: int, trajectories: Iterable[int] | np.ndarray, config: DatasetConfig
) -> np.ndarray:
    """(n) 0 train, 1 validation, 2 test, from (seed, trajectory) alone."""
    uniform = np.array([generator(seed, int(i), Stream.SPLIT).random() for i in trajectories])
    held_out = config.validation_fraction + config.test_fraction
    split = np.full(len(uniform), TRAIN, np.uint8)
    split[uniform < held_out] = TEST
    split[uniform < config.validation_fraction] = VALIDATION
    return split


@dataclass
class Statistics:
    """Bounds and statistics of the data set, summed up shard by shard."""

    low: dict[str, store.Bound] = field(default_factory=dict)
    high: dict[str, store.Bound] = field(default_factory=dict)
    final_coverage: list[np.ndarray] = field(default_factory=list)
    splits: np.ndarray = field(default_factory=lambda: np.zeros(len(SPLITS), np.int64))
    successes: int = 0
    moved_steps: int = 0
    steps: int = 0
    condition_dim: int = 0

    def add(self, rollouts: dict[str, np.ndarray], split: np.ndarray) -> None:
        """Add one shard."""
        train = split == TRAIN
        for name in SCALED:
            values = rollouts[name][train][_valid(name, rollouts)[train]].astype(np.float64)
            if len(values):
                low, high = values.min(axis=0), values.max(axis=0)
                self.low[name] = np.minimum(self.low.get(name, low), low)
                self.high[name] = np.maximum(self.high.get(name, high), high)
        last = rollouts["length"] - 1
        self.final_coverage.append(rollouts["coverage"][np.arange(len(last)), last])
        self.splits += np.bincount(split, minlength=len(SPLITS))
        self.successes += int(rollouts["success"].sum())
        self.moved_steps += int(block_moved(rollouts).sum())
        self.steps += int(rollouts["action_mask"].sum())
        self.condition_dim = rollouts["condition"].shape[1]

    def bounds(self) -> tuple[dict[str, store.Bound], dict[str, store.Bound]]:
        """Least and greatest value per array and dimension over the train split.

        Raises:
            StoreError: the train split is empty.
        """
        if not self.low:
            raise store.StoreError(
                "no trajectory fell into the train split; raise num_trajectories or lower "
                "dataset.validation_fraction and dataset.test_fraction"
            )
        return self.low, self.high

    def metadata(self) -> dict[str, Any]:
        """The part of `dataset.meta.json` that describes the data."""
        coverage = np.concatenate(self.final_coverage).astype(np.float64)
        return {
            "num_trajectories": len(coverage),
            "dt": CONTROL_DT,
            "observation_dim": STATE_WITHOUT_VELOCITY.dim,
            "action_dim": 2,
            "condition_dim": self.condition_dim,
            "min": {name: self.low[name].tolist() for name in SCALED},
            "max": {name: self.high[name].tolist() for name in SCALED},
            "success_rate": self.successes / len(coverage),
            "coverage_mean": float(coverage.mean()),
            "coverage_std": float(coverage.std()),
            "contact_fraction": self.moved_steps / self.steps,
            "num_steps": self.steps,
            "splits": dict(zip(SPLITS, self.splits.tolist(), strict=True)),
        }


def block_moved(rollouts: dict[str, np.ndarray]) -> np.ndarray:
    """(n, T) bool: the block's pose changed in this step."""
    pose = join_state(rollouts, STATE_WITHOUT_VELOCITY)[..., STATE_WITHOUT_VELOCITY.block]
    return (np.diff(pose, axis=1) != 0).any(axis=-1) & rollouts["action_mask"]


def _valid(name: str, rollouts: dict[str, np.ndarray]) -> np.ndarray:
    """(n) or (n, time) bool: the entries of an array that are not past a trajectory's length."""
    mask = store.MASKS.get(store.ROLLOUTS[name].axes[0])
    return rollouts[mask] if mask else np.ones(len(rollouts["length"]), bool)


def scaled(
    name: str, rollouts: dict[str, np.ndarray], low: store.Bound, high: store.Bound
) -> np.ndarray:
    """An array of rollouts as the data set holds it: in [-1, 1], and 0 past the length."""
    valid = _valid(name, rollouts)
    values = store.scale(rollouts[name], low, high)
    return np.where(valid.reshape(valid.shape + (1,) * (values.ndim - valid.ndim)), values, 0.0)


def _check(path: Path, file: Any, expected: tuple[int, int], steps: int) -> None:
    if file["actions"].shape[1] != steps:
        raise store.StoreError(
            f"{path}: expected room for {steps} steps, got {file['actions'].shape[1]}; "
            f"{again(path)}"
        )
    trajectories = file["trajectory"][...]
    if not np.array_equal(trajectories, np.arange(*expected)):
        raise store.StoreError(
            f"{path}: expected trajectories {expected[0]} to {expected[1] - 1}, got "
            f"{len(trajectories)} from {trajectories[0] if len(trajectories) else 'none'}; "
            f"{again(path)}"
        )
