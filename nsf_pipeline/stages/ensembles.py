"""Ensembles: the simulator's own law from test states, a shard at a time."""

import time
from pathlib import Path

from nsf_pipeline.config import Config
from nsf_pipeline.data import store
from nsf_pipeline.evaluation.ensembles import simulate_ensembles
from nsf_pipeline.provenance import Record, require_current
from nsf_pipeline.stages import STAGES, say

STAGE = STAGES["ensembles"]


def run(config: Config, dataset: Path, shard: int, output: Path) -> None:
    """Write one shard of ensembles.

    Args:
        config: the settings.
        dataset: the data set; its test split holds the states.
        shard: which, from 0.
        output: the shard.

    Raises:
        UserError: the data set cannot be read, is stale or does not replay, no test trajectory is
            as long as a horizon, or the shard cannot be written.
    """
    started = time.monotonic()
    with store.reading(dataset, "dataset") as file:
        source = require_current(dataset, store.record_of(file), config)
    first, stop = config.ensembles.shard_range(shard)
    arrays = simulate_ensembles(STAGE.view(config), dataset, first, stop)
    attributes = Record.new(STAGE, config, source).fields() | {"first": first, "stop": stop}
    store.write(output, "ensembles", arrays, attributes)
    count = len(arrays["step"])
    fewer = stop - first - count
    short = (
        f" ({fewer} fewer: the test split has no more with, or without, contact)" if fewer else ""
    )
    say(
        output,
        f"{count} states{short}, {config.ensembles.num_members} members each, "
        f"{arrays['contact'].sum()} with contact",
        started,
    )
