"""Policies: DMP parameters and initial states, a shard at a time."""

import time
from pathlib import Path

from nsf_pipeline.config import Config
from nsf_pipeline.data import store
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.provenance import Record
from nsf_pipeline.stages import STAGES, say

STAGE = STAGES["policies"]


def run(config: Config, first: int, stop: int, output: Path) -> None:
    """Write the policy shard of trajectories first to stop - 1.

    Raises:
        FileError: it cannot be written.
    """
    started = time.monotonic()
    policies = sample_policies(STAGE.view(config), first, stop)
    store.write(output, "policies", policies, Record.new(STAGE, config).fields())
    say(output, f"policies {first} to {stop - 1}", started)
