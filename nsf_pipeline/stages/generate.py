"""All shards in parallel processes, for use without Snakemake."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from nsf_pipeline import paths
from nsf_pipeline.config import Config
from nsf_pipeline.stages import dataset, ensembles, policies, rollouts
from nsf_pipeline.system.processes import processes


def data(config: Config, folder: Path, jobs: int) -> None:
    """Write a data set with its policy and rollout shards.

    Args:
        config: the settings.
        folder: where to write, with the same paths as in the workflow's `results`.
        jobs: processes.

    Raises:
        FileError: a file cannot be written.
    """
    _in_parallel(jobs, _shard, [(config, shard, folder) for shard in range(config.num_shards)])
    merged, metadata = (paths.below(folder, path) for path in (paths.DATASET, paths.METADATA))
    dataset.run(config, paths.below(folder, paths.ROLLOUTS).parent, merged, metadata)


def all_ensembles(config: Config, source: Path, folder: Path, jobs: int) -> None:
    """Write every shard of ensembles.

    Args:
        config: the settings.
        source: the data set.
        folder: where the shards go.
        jobs: processes.

    Raises:
        UserError: as in the stage `ensembles`.
    """
    shards = range(config.ensembles.num_shards)
    calls = [(config, source, shard, paths.shard_in(folder, shard)) for shard in shards]
    _in_parallel(jobs, ensembles.run, calls)


def _shard(config: Config, shard: int, folder: Path) -> None:
    policy_shard, rollout_shard = (
        paths.shard_in(paths.below(folder, path).parent, shard)
        for path in (paths.POLICIES, paths.ROLLOUTS)
    )
    span = config.shard_range(shard)
    policies.run(config, *span, policy_shard)
    rollouts.run(config, policy_shard, rollout_shard, span)


def _in_parallel(
    count: int, function: Callable[..., None], calls: Sequence[tuple[Any, ...]]
) -> None:
    """Make all calls of a function, each with its arguments, in at most `count` processes."""
    count = min(count, len(calls))
    if count <= 1:
        for arguments in calls:
            function(*arguments)
        return
    with processes(count) as several:
        several.map(function, calls)
