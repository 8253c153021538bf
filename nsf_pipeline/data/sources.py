"""What models are trained on: transitions, on the device if they fit, and a random key."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from nsf_pipeline.config import Config
from nsf_pipeline.data.merge import TRAIN, VALIDATION
from nsf_pipeline.data.streaming import StreamedTransitions
from nsf_pipeline.data.transitions import Transitions, rows_of, trajectories_of
from nsf_pipeline.errors import UserError

MIB = 1 << 20
Source = Transitions | StreamedTransitions


def sources(config: Config, dataset: Path, file: Any) -> tuple[Source, Source]:
    """Transitions of the train and the validation split: on the device if they fit, else streamed.

    Args:
        config: the settings of the stage `train`.
        dataset: the data set's path.
        file: the open data set, from `store.reading`.

    Raises:
        StoreError: a split is empty.
        UserError: the train split has fewer trajectories than the settings ask for.
    """
    training, state_dim = config.training, config.model.state_dim
    blur, keeps_rest = training.block_blur, config.model.knows_rest
    splits = [rows_of(dataset, file, split) for split in (TRAIN, VALIDATION)]
    splits[0] = _first(splits[0], training.trajectories, dataset)
    times, size = file["observations"].shape[1], file["condition"].shape[1]
    needed = 4 * (times * state_dim + size) * sum(map(len, splits))
    room = data_room(config.runtime.data_memory)
    if needed <= room:
        found: list[Source] = [
            Transitions.build(
                trajectories_of(file, rows, state_dim),
                training.max_gap,
                block_blur=blur,
                keeps_rest=keeps_rest,
            )
            for rows in splits
        ]
    else:
        found = [
            StreamedTransitions(
                dataset,
                file,
                rows,
                state_dim,
                training.max_gap,
                block_blur=blur,
                keeps_rest=keeps_rest,
            )
            for rows in splits
        ]
    return found[0], found[1]


def training_key(config: Config) -> PRNGKeyArray:
    """The key of a training: of its initial parameters and of the transitions that it draws."""
    key = jax.random.key(config.seed)
    return jax.random.fold_in(key, config.training.seed) if config.training.seed else key


def _first(rows: np.ndarray, count: int, dataset: Path) -> np.ndarray:
    """The first `count` rows, so that fewer are always among more; all for 0."""
    if count > len(rows):
        raise UserError(
            f"{dataset}: expected a train split of at least training.trajectories = {count}, got "
            f"{len(rows)} trajectories; lower that or raise num_trajectories"
        )
    return rows[:count] if count else rows


def data_room(mib: int) -> int:
    """Bytes that data may take on the device: `mib` MiB, but at most half of its memory."""
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    return min(mib * MIB, limit // 2) if limit else mib * MIB
