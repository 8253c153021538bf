"""One push under noise: a shard of a model's choices, and what comes of them."""

import time
from pathlib import Path

from nsf_pipeline.config import Config
from nsf_pipeline.errors import UserError
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.protocols.models import world_model
from nsf_pipeline.protocols.one_push import LEAST_ERROR, STEPS, Trial, judge
from nsf_pipeline.protocols.rows import SIMULATOR, first_look, trained
from nsf_pipeline.protocols.tasks import from_test_split
from nsf_pipeline.stages import say
from nsf_pipeline.stages.planners import Shard


@with_defaults
def run(
    config: Config,
    world: str,
    trial: Trial,
    first: int,
    stop: int,
    model_path: Path | None,
    dataset: Path,
    output: Path,
    seconds: Path | None,
) -> None:
    """Let a model choose pushes in some tasks, and run them.

    Args:
        config: the settings, with a variant's changes if the model is one.
        world: name of the world model.
        trial: noise, candidates and runs.
        first: number of the first task.
        stop: one past the last.
        model_path: the trained model; None if there is none behind the world model.
        dataset: its test split has the tasks.
        output: the shard.
        seconds: JSON with the time that the choices took, which differs from run to run; None for
            none.

    Raises:
        FileError: the model or the data set cannot be read, is stale or of other settings, or a
            file cannot be written.
        UserError: the world model needs a trained model and has none, or the test split gives fewer
            tasks.
    """
    started = time.monotonic()
    shard = Shard("pushes", first, stop, output, seconds)
    model, made = shard.prepare(config, world, trained(world), model_path, dataset)
    tasks = from_test_split(dataset, stop, STEPS, LEAST_ERROR, config.seed)
    if len(tasks.step) < stop:
        raise UserError(
            f"{dataset}: expected {stop} tasks, but its test split gives {len(tasks.step)}; lower "
            "protocols.push_tasks or raise num_trajectories"
        )
    look = first_look(world)
    arrays, took = judge(
        world_model(world, model, config.dmp),
        world_model(look, model, config.dmp) if look else None,
        world_model(f"{SIMULATOR}_0", None, config.dmp),
        tasks.between(first, stop),
        first,
        trial,
        config.planning.search,
        config.seed,
    )
    shard.write(made, {"model": world, **trial._asdict()}, arrays, took)
    reached = ", ".join(f"{share:.2f}" for share in arrays["reached"].mean(axis=0))
    say(output, f"{reached} within the tolerances, {took / (stop - first):.2f} s a task", started)
