"""Policies of the second round: a planner chooses them with the trained flow."""

import time
from pathlib import Path

from nsf_pipeline.config import Config
from nsf_pipeline.data import store
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import require_place
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.planning.models import learned
from nsf_pipeline.planning.second_round import planned_policies
from nsf_pipeline.provenance import Record
from nsf_pipeline.stages import STAGES, say
from nsf_pipeline.stages.planners import load_trained

STAGE = STAGES["second_policies"]
DRAWS = 4
"""Of the model, for each push that the planner considers."""


@with_defaults
def run(config: Config, model_path: Path, first: int, stop: int, output: Path) -> None:
    """Write a policy shard of the second round.

    Args:
        config: the settings.
        model_path: the model that was trained on the first round.
        first: the first trajectory.
        stop: one past the last.
        output: the shard.

    Raises:
        FileError: the model cannot be read, is stale or of other settings, or the shard cannot be
            written.
        UserError: the trajectories belong to the first round.
    """
    started = time.monotonic()
    require_place(output)
    if first < config.num_trajectories:
        raise UserError(
            f"--first {first} is a trajectory of the first round; those of the second start at "
            f"num_trajectories = {config.num_trajectories}"
        )
    model, source = load_trained(model_path, f"flow_{DRAWS}", config)
    view = STAGE.view(config)
    policies = planned_policies(view, learned(model, DRAWS), first, stop)
    store.write(output, "policies", policies, Record.new(STAGE, config, source).fields())
    say(output, f"{stop - first} policies that a planner chose", started)
