"""Goals some steps ahead: a shard of tasks, tried in gym-pusht's own environment."""

import time
from pathlib import Path

from nsf_pipeline.config import Config
from nsf_pipeline.data import store
from nsf_pipeline.files import require_place
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.protocols.goals import ahead, attempt
from nsf_pipeline.protocols.models import world_model
from nsf_pipeline.protocols.rows import GoalRow, variant_of
from nsf_pipeline.provenance import Record, require_current
from nsf_pipeline.stages import STAGES, say
from nsf_pipeline.stages.planners import load_trained, write_seconds


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
    for path in filter(None, (output, seconds)):
        require_place(path)
    stage = STAGES["goals" if row.trained else "untrained_goals"]
    with store.reading(dataset, "dataset") as file:
        sources = [require_current(dataset, store.record_of(file), config)]
    model = None
    if row.trained:
        model, source = load_trained(model_path, row.model, config)
        sources.append(source)
    tasks = ahead(dataset, config, stop, row.steps).between(first, stop)
    search = config.planning.search.model_copy(update={"planner": row.planner})
    world = None if row.is_random else world_model(row.model, model, config.dmp)
    if world:  # so that JAX compiles what the planner needs before the clock starts
        attempt(world, tasks.between(0, 1), first, 1, search, config)
    arrays, took = attempt(world, tasks, first, row.steps, search, config)
    variant = variant_of(row.trained)
    attributes = Record.new(stage, config, *sources, variant=variant).fields()
    attributes |= {"first": first, "stop": stop, "row": row._asdict()}
    store.write(output, "goals", arrays, attributes)
    if seconds:
        write_seconds(seconds, took)
    both, block = ((arrays[name] > 0).mean() for name in ("both_step", "block_step"))
    say(output, f"agent and block reached {both:.0%} of goals, the block {block:.0%}", started)
