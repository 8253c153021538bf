"""Rollouts: a shard of policies run in the simulator."""

import time
from pathlib import Path

import numpy as np

from nsf_pipeline.config import Config
from nsf_pipeline.data import store
from nsf_pipeline.data.rollouts import simulate
from nsf_pipeline.data.schema import fields_of
from nsf_pipeline.files import FileError, again
from nsf_pipeline.provenance import Record, require_current
from nsf_pipeline.stages import STAGES, say
from nsf_pipeline.timing import CONTROL_DT

STAGE = STAGES["rollouts"]


def run(config: Config, policies: Path, output: Path, span: tuple[int, int] | None = None) -> None:
    """Write the rollout shard of a policy shard.

    Args:
        config: the settings.
        policies: the policy shard.
        output: the rollout shard.
        span: first trajectory that the policies must hold, and one past the last; None for any.

    Raises:
        FileError: the policies cannot be read, are stale or not those of `span`, or the rollouts
            cannot be written.
    """
    started = time.monotonic()
    with store.reading(policies, "policies") as file:
        source = require_current(policies, store.record_of(file), config)
        arrays = {name: file[name][...] for name in fields_of("policies", file)}
    held = arrays["trajectory"]
    if span and not np.array_equal(held, np.arange(*span)):
        raise FileError(
            f"{policies}: expected trajectories {span[0]} to {span[1] - 1}, got {len(held)} from "
            f"{held[0]}; {again(policies)}"
        )
    rollouts = simulate(STAGE.view(config), arrays)
    attributes = Record.new(STAGE, config, source).fields() | {"dt": CONTROL_DT}
    store.write(output, "rollouts", rollouts, attributes)
    count, steps = len(rollouts["length"]), int(rollouts["length"].sum())
    say(
        output,
        f"{count} trajectories, {steps} steps, {rollouts['success'].mean():.1%} successes, "
        f"{count / (time.monotonic() - started):.0f} trajectories/s",
        started,
    )
