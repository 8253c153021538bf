"""Merging: all rollout shards into one data set, scaled by the train split's bounds.

Two passes over the shards, one shard in memory at a time: the first checks each and gathers bounds
and statistics, the second writes. For a data set of several files, several jobs share each pass.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nsf_pipeline import label
from nsf_pipeline.config import Config, DatasetConfig
from nsf_pipeline.config.shards import Division
from nsf_pipeline.data import checking, store
from nsf_pipeline.data.randomness import Stream, generator
from nsf_pipeline.data.schema import fields_of
from nsf_pipeline.data.statistics import SCALED as SCALED
from nsf_pipeline.data.statistics import SPLITS as SPLITS
from nsf_pipeline.data.statistics import TEST as TEST
from nsf_pipeline.data.statistics import TRAIN as TRAIN
from nsf_pipeline.data.statistics import VALIDATION as VALIDATION
from nsf_pipeline.data.statistics import Statistics, read_statistics, valid
from nsf_pipeline.data.statistics import block_moved as block_moved
from nsf_pipeline.files import FileError, again, read_file, replacing
from nsf_pipeline.paths import shard_in
from nsf_pipeline.provenance import Record, Stage, require_current
from nsf_pipeline.timing import num_steps

Arrays = dict[str, np.ndarray]


def merge(
    shards: Sequence[Path], config: Config, stage: Stage, *, output: Path, metadata_output: Path
) -> dict[str, Any]:
    """Merge rollout shards into one data set.

    Args:
        shards: the rollout shards' paths, in order.
        config: the current settings. If they divide the data set into files, `output` is the index
            of these, and they go to the folder `store.folder_of(output)`.
        stage: the stage that makes the data set; its record is stored in the file.
        output: the data set.
        metadata_output: its bounds and statistics, as JSON.

    Returns:
        The metadata.

    Raises:
        FileError: shards are missing, damaged, foreign or were made by other settings or code; the
            message has a line for each. Or the data set cannot be written.
    """
    config = stage.view(config)
    if len(shards) != config.num_shards:
        raise store.StoreError(f"expected {config.num_shards} rollout shards, got {len(shards)}")
    if not config.parts.num_shards:
        span = (0, config.num_trajectories)
        return in_one_file(
            shards, config, stage, span, output=output, metadata_output=metadata_output
        )
    statistics, source = gather(shards, config, (0, config.num_trajectories))
    metadata = statistics.metadata() | Record.new(stage, config, source).fields()
    folder = store.folder_of(output)
    for number in range(config.parts.num_shards):
        own = [shards[shard] for shard in config.shards_with(*config.parts.shard_range(number))]
        write_part(own, config, number, metadata, output=shard_in(folder, number))
    write_metadata(metadata, metadata_output)
    write_index(config, output)
    return metadata


def in_one_file(
    shards: Sequence[Path],
    config: Config,
    stage: Stage,
    span: tuple[int, int],
    *,
    output: Path,
    metadata_output: Path,
) -> dict[str, Any]:
    """Merge rollout shards into a data set of one file, whatever the settings divide it into.

    Args:
        shards: those that hold the trajectories, in order.
        config: the current settings.
        stage: as for `merge`.
        span: the first trajectory and one past the last.
        output: the data set.
        metadata_output: its bounds and statistics, as JSON.

    Returns:
        The metadata.

    Raises:
        FileError: as `merge`.
    """
    statistics, source = gather(shards, config, span)
    metadata = statistics.metadata() | Record.new(stage, config, source).fields()
    # The data set is renamed first: if that fails, neither file has changed.
    with replacing(metadata_output) as temporary_metadata, replacing(output) as temporary:
        temporary_metadata.write_text(_text(metadata), encoding="utf-8")
        _write(temporary, shards, config, span, metadata)
    return metadata


def gather(
    shards: Sequence[Path], config: Config, span: tuple[int, int]
) -> tuple[Statistics, Record]:
    """The statistics of some shards, and the record of what made these.

    Args:
        shards: those that hold the trajectories, in order.
        config: the current settings.
        span: the first trajectory and one past the last.

    Raises:
        FileError: as `merge`.
    """
    statistics, refused, sources = Statistics(), list[str](), list[Record]()
    for path, own in _with_spans(shards, config, span):
        try:
            rollouts, made = _rollouts(path, config, own)
        except FileError as error:
            refused.append(str(error))
        else:
            # All are equal, or those of a second round include the others: the last is enough.
            sources[:] = [made]
            statistics += Statistics.of(rollouts, rollouts["split"])
    if refused:
        raise FileError("\n".join(refused))
    return statistics, sources[0]


def join(files: Sequence[Path], config: Config, stage: Stage) -> dict[str, Any]:
    """The metadata of a data set from the statistics of its parts.

    Args:
        files: the statistics, in order.
        config: the current settings.
        stage: the stage that makes the data set.

    Raises:
        FileError: statistics are missing, damaged, about other trajectories or out of date.
    """
    total, sources = Statistics(), list[Record]()
    for number, path in enumerate(files):
        statistics, made = read_statistics(path, *config.parts.shard_range(number))
        sources[:] = [require_current(path, made, config)]
        total += statistics
    return total.metadata() | Record.new(stage, config, *sources).fields()


def write_metadata(metadata: dict[str, Any], path: Path) -> None:
    """Write `dataset.meta.json`.

    Raises:
        FileError: it cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_text(_text(metadata), encoding="utf-8")


def read_metadata(path: Path, config: Config) -> dict[str, Any]:
    """Read `dataset.meta.json`.

    Raises:
        FileError: it is missing, damaged or out of date.
    """
    try:
        metadata = label.mapping(read_file(path, label.MAX_BYTES))
        checking.bounds_in(metadata, "its bounds")
        made = Record.read(metadata)
    except (OSError, label.LabelError, checking.UnsoundError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise FileError(f"{path}: cannot be read: {reason}; {again(path)}") from None
    require_current(path, made, config)
    return metadata


def write_part(
    shards: Sequence[Path], config: Config, number: int, metadata: dict[str, Any], *, output: Path
) -> None:
    """Write one of the files of a data set.

    Args:
        shards: those that hold its trajectories, in order.
        config: the current settings.
        number: which file, from 0.
        metadata: of the whole data set.
        output: the file.

    Raises:
        FileError: as `merge`.
    """
    with replacing(output) as temporary:
        first, stop = config.parts.shard_range(number)
        _write(temporary, shards, config, (first, stop), metadata, first=first, stop=stop)


def write_index(config: Config, output: Path) -> dict[str, Any]:
    """Write the index of a data set of several files, whose numbers are not read.

    Args:
        config: the current settings.
        output: the index; the files lie in the folder `store.folder_of(output)`.

    Returns:
        The metadata.

    Raises:
        FileError: a file is missing, damaged, out of date, holds other trajectories or was scaled
            by other bounds; or the index cannot be written.
    """
    found = list[store.PartFile]()
    for number in range(config.parts.num_shards):
        path = shard_in(store.folder_of(output), number)
        each = store.part_file(path)
        require_current(path, Record.read(each.attributes), config)
        first, stop = config.parts.shard_range(number)
        if (each.part.first, each.part.stop) != (first, stop):
            raise store.StoreError(
                f"{path}: expected trajectories {first} to {stop - 1}, got {each.part.first} to "
                f"{each.part.stop - 1}; {again(path)}"
            )
        if each.attributes["metadata"] != (found or [each])[0].attributes["metadata"]:
            raise store.StoreError(
                f"{path}: scaled by other bounds than {found[0].part.path}; {again(path)}"
            )
        found.append(each)
    store.write_index(output, found)
    return label.mapping(str(found[0].attributes["metadata"]).encode())


def _text(metadata: dict[str, Any]) -> str:
    return json.dumps(metadata, indent=2, sort_keys=True) + "\n"


def _with_spans(
    shards: Sequence[Path], config: Config, span: tuple[int, int]
) -> Iterator[tuple[Path, tuple[int, int]]]:
    """The shards of some trajectories, each with those that it must hold."""
    first, stop = span
    for number, path in enumerate(shards, first // config.shard_size):
        yield path, Division(stop, config.shard_size).shard_range(number)


def _rollouts(path: Path, config: Config, span: tuple[int, int]) -> tuple[Arrays, Record]:
    """The arrays of a shard and the split of each trajectory, after all checks."""
    with store.reading(path, "rollouts") as file:
        made = require_current(path, store.record_of(file), config)
        _check(path, file, span, num_steps(config.policies.duration[1]))
        rollouts = {name: file[name][...] for name in fields_of("rollouts", file)}
    split = split_of(config.seed, rollouts["trajectory"], config.dataset)
    return rollouts | {"split": split}, made


def _write(
    path: Path,
    shards: Sequence[Path],
    config: Config,
    span: tuple[int, int],
    metadata: dict[str, Any],
    **attributes: Any,
) -> None:
    """Write the trajectories of some shards, scaled, with more attributes: the second pass."""
    first, stop = span
    bounds = {name: [np.asarray(metadata[end][name]) for end in ("min", "max")] for name in SCALED}
    steps = num_steps(config.policies.duration[1])
    sizes = {"n": stop - first, "T": steps, "T+1": steps + 1, "C": metadata["condition_dim"]}
    if not config.policies.scene.is_usual:
        sizes["F"] = checking.AXES["F"]
    attributes |= {name: metadata[name] for name in Record.read(metadata).fields()}
    attributes["metadata"] = _text(metadata)
    with store.create(path, "dataset", sizes, attributes) as file:
        for shard, own in _with_spans(shards, config, span):
            rollouts, _ = _rollouts(shard, config, own)
            for name in SCALED:
                rollouts[name] = scaled(name, rollouts, *bounds[name])
            for name in fields_of("dataset", rollouts):
                file[name][own[0] - first : own[1] - first] = rollouts[name]


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


def scaled(name: str, rollouts: Arrays, low: store.Bound, high: store.Bound) -> np.ndarray:
    """An array of rollouts as the data set holds it: in [-1, 1], and 0 past the length."""
    inside = valid(name, rollouts)
    values = store.scale(rollouts[name], low, high)
    return np.where(inside.reshape(inside.shape + (1,) * (values.ndim - inside.ndim)), values, 0.0)


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
