"""The data set: all rollout shards merged, divided and scaled."""

import time
from pathlib import Path

from nsf_pipeline import paths
from nsf_pipeline.config import Config
from nsf_pipeline.data.merge import merge
from nsf_pipeline.stages import STAGES, say

STAGE = STAGES["dataset"]


def run(config: Config, folder: Path, output: Path, metadata: Path) -> None:
    """Merge rollout shards.

    Args:
        config: the settings.
        folder: holds the shards, `00000.h5` and so on.
        output: the data set.
        metadata: its bounds and statistics, as JSON.

    Raises:
        FileError: shards are missing, damaged or stale (one line for each), or the data set cannot
            be written.
    """
    started = time.monotonic()
    shards = [paths.shard_in(folder, shard) for shard in range(config.num_shards)]
    found = merge(shards, config, STAGE, output=output, metadata_output=metadata)
    splits = ", ".join(f"{count} {name}" for name, count in found["splits"].items())
    say(
        output,
        f"{found['num_trajectories']} trajectories ({splits}), {found['num_steps']} steps, the "
        f"block moves in {found['contact_fraction']:.1%} of them, "
        f"{found['success_rate']:.2%} successes",
        started,
    )
