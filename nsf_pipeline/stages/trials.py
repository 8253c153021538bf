"""Shards of trials, read for what is made from them: of episodes, single pushes or goals ahead."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nsf_pipeline import label, paths
from nsf_pipeline.config import Config
from nsf_pipeline.data import store
from nsf_pipeline.files import FileError, again
from nsf_pipeline.protocols.rows import Row, shards, variant_of
from nsf_pipeline.provenance import Record, require_current
from nsf_pipeline.pusht.episode import MAX_STEPS


def arrays_of(
    config: Config,
    kind: str,
    trained: str,
    folder: Path,
    described: Mapping[str, Any],
    spans: Sequence[tuple[int, int]],
    steps: int | None = None,
) -> tuple[dict[str, np.ndarray], list[Record]]:
    """The arrays of all shards in a folder, in order, and the shards' records.

    Args:
        config: the settings.
        kind: of file.
        trained: the trained model behind them; empty for none.
        folder: of the shards.
        described: what each file must say of the row that it belongs to.
        spans: the numbers of the first item of each shard, and one past its last.
        steps: the length of the axis S, if they have it.

    Raises:
        FileError: a shard cannot be read, is stale, or holds other items.
    """
    variant = variant_of(trained)
    own = config.variant(variant) if variant else config
    parts, records = [], []
    for number, (first, stop) in enumerate(spans):
        path = paths.shard_in(folder, number)
        with store.reading(path, kind) as file:
            records.append(require_current(path, store.record_of(file), own))
            held = label.mapping(file.attrs.get("row", "{}").encode())
            span = int(file.attrs["first"]), int(file.attrs["stop"])
            length = file["actions"].shape[1] if steps else None
            if (held, span, length) != (dict(described), (first, stop), steps):
                raise FileError(
                    f"{path}: expected {kind} {first} to {stop - 1} of {folder.name}, got others; "
                    f"{again(path)}"
                )
            parts.append({name: file[name][...] for name in store.SCHEMAS[kind]})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, records


def episodes_of(
    config: Config, row: Row, folder: Path
) -> tuple[dict[str, np.ndarray], list[Record]]:
    """The arrays of all episodes of a row, and the records of their shards.

    Args:
        config: the settings.
        row: of the tables.
        folder: of its shards.

    Raises:
        FileError: a shard cannot be read, is stale, or holds other episodes.
    """
    spans = shards(row, config.protocols)
    arrays, records = arrays_of(
        config, "episodes", row.trained, folder, row.described(), spans, MAX_STEPS
    )
    first_seed = config.protocols.first_seed
    others = np.flatnonzero(arrays["seed"] != first_seed + arrays["episode"])
    if len(others):
        path = paths.shard_in(folder, int(others[0]) // config.protocols.shard_size)
        raise FileError(
            f"{path}: its episodes were not reset with the seeds from protocols.first_seed = "
            f"{first_seed} on; {again(path)}"
        )
    return arrays, records
