"""The data set: all rollout shards merged, divided and scaled; in one job, or in many."""

import time
from pathlib import Path
from typing import Any

from nsf_pipeline import paths
from nsf_pipeline.config import Config
from nsf_pipeline.data import merge
from nsf_pipeline.data.statistics import SPLITS, write_statistics
from nsf_pipeline.errors import UserError
from nsf_pipeline.provenance import Record
from nsf_pipeline.stages import STAGES, STATISTICS, say

STAGE = STAGES["dataset"]


def run(config: Config, folder: Path, output: Path, metadata: Path) -> None:
    """Merge rollout shards into one file, or into several behind an index.

    Args:
        config: the settings.
        folder: holds the shards, `00000.h5` and so on.
        output: the data set, or its index.
        metadata: its bounds and statistics, as JSON.

    Raises:
        FileError: shards are missing, damaged or stale (one line for each), or the data set cannot
            be written.
    """
    started = time.monotonic()
    shards = _shards(folder, config, 0, config.num_trajectories)
    found = merge.merge(shards, config, STAGE, output=output, metadata_output=metadata)
    _say(output, found, started)


def both_rounds(config: Config, folder: Path, second: Path, output: Path, metadata: Path) -> None:
    """Merge the rollout shards of both rounds into one file.

    Args:
        config: the settings.
        folder: holds the shards of the first round.
        second: holds those of the second round, which are numbered on.
        output: the data set.
        metadata: its bounds and statistics, as JSON.

    Raises:
        FileError: as `run`.
        UserError: there is no second round.
    """
    started = time.monotonic()
    stage = STAGES["second_dataset"]
    config = stage.view(config)
    require_second_round(config)
    shards = _shards(folder, config, 0, config.num_trajectories)
    shards += [paths.shard_in(second, shard) for shard in config.second_shards]
    span = (0, config.all_trajectories)
    found = merge.in_one_file(shards, config, stage, span, output=output, metadata_output=metadata)
    _say(output, found, started)


def require_second_round(config: Config) -> None:
    """Check that there is a second round.

    Raises:
        UserError: there is none.
    """
    if not config.second_round.trajectories:
        raise UserError(
            "second_round.trajectories = 0: there is no second round; set it, for example to 10000"
        )


def statistics(config: Config, folder: Path, first: int, stop: int, output: Path) -> None:
    """Write the bounds and statistics of some trajectories.

    Args:
        config: the settings.
        folder: holds the rollout shards.
        first: the first trajectory; the first of a shard.
        stop: one past the last.
        output: a label, and a line of JSON.

    Raises:
        FileError: as `run`.
    """
    started = time.monotonic()
    config = STATISTICS.view(config)
    if first % config.shard_size or stop <= first:
        raise UserError(
            f"--first {first} --stop {stop}: expected a multiple of shard_size = "
            f"{config.shard_size}, and a later trajectory"
        )
    found, source = merge.gather(_shards(folder, config, first, stop), config, (first, stop))
    write_statistics(output, found, Record.new(STATISTICS, config, source), first, stop)
    say(output, f"statistics of the trajectories {first} to {stop - 1}", started)


def metadata(config: Config, folder: Path, output: Path) -> None:
    """Write the bounds and statistics of a data set from those of its parts.

    Args:
        config: the settings.
        folder: holds the statistics of the parts, `00000.jsonl` and so on.
        output: `dataset.meta.json`.

    Raises:
        FileError: statistics are missing, damaged or stale, or the output cannot be written.
    """
    started = time.monotonic()
    config = STAGE.view(config)
    files = [folder / f"{paths.shard_name(part)}.jsonl" for part in range(_parts(config))]
    found = merge.join(files, config, STAGE)
    merge.write_metadata(found, output)
    _say(output, found, started)


def part(config: Config, folder: Path, described: Path, number: int, output: Path) -> None:
    """Write one of the files of a data set.

    Args:
        config: the settings.
        folder: holds the rollout shards.
        described: `dataset.meta.json`.
        number: which file, from 0.
        output: the file.

    Raises:
        FileError: as `run`.
    """
    started = time.monotonic()
    config = STAGE.view(config)
    if number >= _parts(config):
        raise UserError(
            f"--part {number}: expected one below {_parts(config)}, the number of files"
        )
    found = merge.read_metadata(described, config)
    first, stop = config.parts.shard_range(number)
    shards = _shards(folder, config, first, stop)
    merge.write_part(shards, config, number, found, output=output)
    say(output, f"the trajectories {first} to {stop - 1}", started)


def index(config: Config, output: Path) -> None:
    """Write the index of a data set of several files, which lie in a folder beside it.

    Args:
        config: the settings.
        output: the index; the folder is named like it without the ending.

    Raises:
        FileError: a file is missing, damaged or stale, or the index cannot be written.
    """
    started = time.monotonic()
    config = STAGE.view(config)
    _parts(config)
    _say(output, merge.write_index(config, output), started)


def _parts(config: Config) -> int:
    """The number of files that the settings divide the data set into.

    Raises:
        UserError: they do not divide it.
    """
    count = config.parts.num_shards
    if not count:
        raise UserError(
            "dataset.trajectories_per_file = 0: the data set is one file, which `nsf dataset` "
            "writes; set it to a multiple of shard_size"
        )
    return count


def _shards(folder: Path, config: Config, first: int, stop: int) -> list[Path]:
    return [paths.shard_in(folder, shard) for shard in config.shards_with(first, stop)]


def _say(output: Path, found: dict[str, Any], started: float) -> None:
    splits = ", ".join(f"{found['splits'][name]} {name}" for name in SPLITS)
    say(
        output,
        f"{found['num_trajectories']} trajectories ({splits}), {found['num_steps']} steps, the "
        f"block moves in {found['contact_fraction']:.1%} of them, "
        f"{found['success_rate']:.2%} successes",
        started,
    )
