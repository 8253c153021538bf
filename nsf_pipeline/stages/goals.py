"""Goals some steps ahead: a shard of tasks, tried in gym-pusht's own environment."""

import time
from pathlib import Path

from nsf_pipeline.config import Config
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.protocols.goals import ahead, attempt
from nsf_pipeline.protocols.models import world_model
from nsf_pipeline.protocols.rows import GoalRow
from nsf_pipeline.stages import say
from nsf_pipeline.stages.planners import Shard


@with_defaults
def run(
    config: Config,
    row: GoalRow,
    first: int,
    stop: int,
    model_path: Path | None,
    dataset: Path,
    output: Path,
    seconds: Path | None,
) -> None:
    """Try some tasks.

    Args:
        config: the settings, with a variant's changes if the row is of a variant.
        row: what tries which tasks.
        first: number of the first task.
        stop: one past the last.
        model_path: the row's trained model; None if it has none.
        dataset: its test split has the tasks.
        output: the shard.
        seconds: JSON with the time that it took, which differs from run to run; None for none.

    Raises:
        FileError: the model or the data set cannot be read, is stale or of other settings, or a
            file cannot be written.
        UserError: the row needs a trained model and has none, or the test split gives fewer tasks.
    """
    started = time.monotonic()
    shard = Shard("goals", first, stop, output, seconds)
    model, made = shard.prepare(config, row.model, row.trained, model_path, dataset)
    tasks = ahead(dataset, config, stop, row.steps).between(first, stop)
    search = config.planning.search.model_copy(update={"planner": row.planner})
    world = None if row.is_random else world_model(row.model, model, config.dmp)
    if world:  # so that JAX compiles what the planner needs before the clock starts
        attempt(world, tasks.between(0, 1), first, 1, search, config)
    arrays, took = attempt(world, tasks, first, row.steps, search, config)
    shard.write(made, row._asdict(), arrays, took)
    both, block = ((arrays[name] > 0).mean() for name in ("both_step", "block_step"))
    say(output, f"agent and block reached {both:.0%} of goals, the block {block:.0%}", started)
