"""The command line: a verb for each stage, and a few more; `nsf VERB --help` has an example.

A verb imports its stage only when it runs, so that jobs start fast and simulate without JAX.
"""

import os
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Annotated, get_args, get_type_hints

if __name__ == "__main__":
    sys.exit("nsf_pipeline: this file is a part; run `python -m nsf_pipeline` or `nsf` instead")

import typer

from nsf_pipeline import paths
from nsf_pipeline.config import (
    MAX_CHECKPOINT_SECONDS,
    MAX_DATA_MEMORY,
    MAX_PARTS,
    MAX_SHARD_SIZE,
    MAX_SHARDS,
    MAX_TRAJECTORIES,
    UNTRAINED,
    Config,
    Planner,
    Rank,
    json_schema,
    load_config,
    require_free_name,
)
from nsf_pipeline.errors import UserError, line_for, shown
from nsf_pipeline.system import clocks, slurm, surroundings
from nsf_pipeline.system.printing import (
    STANDARD_ERROR,
    complain,
    make_streams_safe,
    report_lost_output,
    say,
)
from nsf_pipeline.system.signals import Ended, Handling, behind

MAX_PROCESSES = 4096
"""Processes or threads, at most."""
MAX_EPISODES = 100_000
MAX_DRAWS = 65_536
MAX_SEED = 2**63 - 1
MAX_FIRST_SEED = 2**62 - 1
MAX_DESCRIPTOR = 2**31 - 1
MAX_PORT = 65_535
MODEL_NAME = "[A-Za-z_][A-Za-z0-9_]{0,63}"
"""What the name of a model looks like in the tables and in paths."""
FAILED, SIGNALLED, INTERRUPTED = 1, 128, 130
app = typer.Typer(
    help="A conditional Neural Stochastic Flow on PushT: data, training, evaluation.",
    add_completion=False,
    no_args_is_help=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Settings = Annotated[
    str,
    typer.Option(
        metavar="YAML", help="Settings: a YAML file, or JSON text as the workflow gives it."
    ),
]
MustMatch = Annotated[
    str | None,
    typer.Option(
        metavar="YAML",
        help="Settings; files made with other settings are refused. Without it, any file is read.",
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(min=1, max=MAX_PROCESSES, metavar="N", help="CPU threads; all if unset."),
]
Jobs = Annotated[int, typer.Option(min=1, max=MAX_PROCESSES, metavar="N", help="Processes.")]
Dataset = Annotated[Path, typer.Option(help="The data set.")]
Model = Annotated[Path, typer.Option(help="The model.")]
Variants = Annotated[
    list[str],
    typer.Option(
        metavar="NAME=PATH", help="Another model, and its name in the tables; repeatable."
    ),
]
Provenance = Annotated[
    Path | None, typer.Option(help="JSON that says what made the scores; without it, any are read.")
]
Ensembles = Annotated[Path, typer.Option(help="Folder of the ensembles' shards.")]
Rollouts = Annotated[Path, typer.Option(help="Folder of the rollout shards.")]
PlayedEpisodes = Annotated[Path, typer.Option(help="Folder of the episodes, a folder a row.")]
PlayedSeconds = Annotated[Path, typer.Option(help="Folder of the times, a folder a row.")]
WorldModel = Annotated[
    str, typer.Option(metavar="NAME", help="A world model: flow_4, nominal, simulator_8, ...")
]
ActionNoise = Annotated[
    float, typer.Option(min=0.0, max=256.0, metavar="PX", help="Noise on the actions.")
]
Seconds = Annotated[Path | None, typer.Option(help="JSON to write: the time that it took.")]
TrainedModel = Annotated[
    Path | None, typer.Option(help="The model, if the world model is a trained one.")
]
Folder = Annotated[Path, typer.Option(help="Folder to write to.")]
Output = Annotated[Path, typer.Option(help="File to write.")]
CONFIG = "config.yaml"
CORES = os.cpu_count() or 1
ROLLOUT_SHARDS, ENSEMBLE_SHARDS = (Path(path).parent for path in (paths.ROLLOUTS, paths.ENSEMBLES))

EPISODE_ROWS, SECONDS_ROWS = (Path(path).parent.parent for path in (paths.EPISODES, paths.SECONDS))
SECOND_DATASET, SECOND_METADATA = (
    Path(paths.of_second_round(path)) for path in (paths.DATASET, paths.METADATA)
)
SECOND_ROLLOUTS = Path(paths.of_second_round(paths.ROLLOUTS)).parent
FIRST_SEED = 100_000


class _Exit(Exception):  # noqa: N818
    """Ends the command with an exit code and a message."""

    def __init__(self, code: int, line: str):
        super().__init__(line)
        self.code = code


def main(arguments: list[str] | None = None) -> int:
    """Run one verb and return its exit code.

    After a mistake of the user's, or a failure of the machine, it is 1, and a line says which.
    """
    try:
        app(args=arguments, prog_name="nsf")
    except _Exit as exit:
        return _print_and_return(exit.code, str(exit))
    except SystemExit as exit:
        return exit.code if isinstance(exit.code, int) else 0
    except KeyboardInterrupt:
        return _print_and_return(INTERRUPTED, "interrupted")
    except Exception as error:
        line = line_for(error)
        if line is None:
            raise
        return _print_and_return(FAILED, line)
    return 0


def entry() -> None:
    """What the command `nsf` and `python -m nsf_pipeline` run."""
    surroundings.settle()
    make_streams_safe()
    with Handling():
        code = main()
        report_lost_output()
        if code > SIGNALLED:
            # Without cleanup: after a signal, JAX's threads may crash at exit and change the code.
            os._exit(code)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # all is done: no traceback of Python's end
    sys.exit(code)


def _print_and_return(code: int, lines: str) -> int:
    for line in lines.splitlines():
        complain(f"nsf_pipeline: {line}")
    return code


def _verb(name: str, example: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function as a verb whose help ends with an example."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def run(*arguments: object, **options: object) -> None:
            written, read = _paths_in(options)
            _refuse_to_overwrite_inputs(written, read)
            try:
                _date_now(written, read)
                function(*arguments, **options)
                with suppress(UserError):  # the clock may have been set back meanwhile
                    _date_now(written, read)
            except BaseException as error:
                ended = behind(error)
                if ended is None:
                    raise
                if isinstance(ended, Ended):
                    raise _Exit(int(str(ended.code)), ended.reason) from None
                raise _Exit(INTERRUPTED, "interrupted") from None

        for hint in get_type_hints(function, include_extras=True).values():
            for option in getattr(hint, "__metadata__", ()):
                option.readable = False  # verbs say in a line what cannot be read
        app.command(name, epilog=f"Example: nsf {name} {example}".rstrip())(run)
        return run

    return register


WRITTEN = ("output", "metadata", "metrics", "curves", "seconds")
"""Options that name output files; every other path is an input."""


def _paths_in(options: Mapping[str, object]) -> tuple[list[tuple[str, Path]], list[Path]]:
    """The outputs, each with its option's name, and the inputs."""
    written: list[tuple[str, Path]] = []
    read: list[Path] = []
    for name, value in options.items():
        several = value if isinstance(value, list) else [value]
        named = [path for path in several if isinstance(path, Path)]
        if name in WRITTEN:
            written += [(name, path) for path in named]
        else:
            read += named
            # Settings are text or a file; models are given as NAME=PATH.
            for text in (each for each in several if isinstance(each, str)):
                read += [Path(p) for p in (text, text.partition("=")[2]) if os.path.isfile(p)]
    return written, read


def _refuse_to_overwrite_inputs(written: Sequence[tuple[str, Path]], read: Sequence[Path]) -> None:
    """Refuse an output that is an input, a file in a folder that is one, or another output."""
    resolved, taken = [_resolved(path) for path in read], dict[Path, str]()
    for name, path in written:
        place = _resolved(path)
        if (other := taken.setdefault(place, name)) != name:
            raise UserError(f"--{name} {path}: that is --{other} too; name another")
        if os.path.isfile(place) and not {place, place.parent}.isdisjoint(resolved):
            raise UserError(f"--{name} {path}: that file is an input; name another")


def _resolved(path: Path) -> Path:
    """A path without links, also where a link leads to itself or the path is none."""
    try:
        return Path(os.path.realpath(path))
    except ValueError:  # a NUL in it; opening it says so
        return path


def _date_now(written: Sequence[tuple[str, Path]], read: Sequence[Path]) -> None:
    """In a job of the workflow, date inputs now that are dated in the future."""
    folders = {
        parent for _, path in written for parent in path.parents if parent.name == paths.RESULTS
    }
    for folder in folders:
        clocks.date_now(read, folder)


@_verb("generate-data", "--config my.yaml --jobs 4")
def _generate_data(
    config: Settings = CONFIG, output: Folder = Path(paths.RESULTS), jobs: Jobs = CORES
) -> None:
    """Make a data set, without Snakemake."""
    from nsf_pipeline.stages import generate

    generate.data(load_config(config), output, jobs)


@_verb("policies", "--first 0 --stop 100 --output policies.h5")
def _policies(
    first: Annotated[int, typer.Option(min=0, max=MAX_TRAJECTORIES, help="First trajectory.")],
    stop: Annotated[
        int, typer.Option(min=1, max=MAX_TRAJECTORIES, help="One past the last trajectory.")
    ],
    output: Output,
    config: Settings = CONFIG,
) -> None:
    """Sample a shard of policies."""
    settings = load_config(config)
    _require_shard(first, stop)
    from nsf_pipeline.stages import policies

    policies.run(settings, first, stop, output)


@_verb("second-policies", "--first 50000 --stop 50100 --output policies.h5")
def _second_policies(
    first: Annotated[int, typer.Option(min=0, max=MAX_TRAJECTORIES, help="First trajectory.")],
    stop: Annotated[
        int, typer.Option(min=1, max=MAX_TRAJECTORIES, help="One past the last trajectory.")
    ],
    output: Output,
    config: Settings = CONFIG,
    model: Model = Path(paths.MODEL),
    threads: Threads = None,
) -> None:
    """Let a planner choose a shard of policies, for a second round of data."""
    settings = load_config(config)
    _require_shard(first, stop)
    _before_jax(threads)
    from nsf_pipeline.stages import second_round

    second_round.run(settings, model, first, stop, output)


@_verb("rollouts", "--policies policies.h5 --output rollouts.h5")
def _rollouts(
    policies: Annotated[Path, typer.Option(help="Policy shard.")],
    output: Output,
    config: Settings = CONFIG,
    first: Annotated[
        int | None,
        typer.Option(
            min=0, max=MAX_TRAJECTORIES, help="First trajectory that the shard must hold."
        ),
    ] = None,
    stop: Annotated[
        int | None, typer.Option(min=1, max=MAX_TRAJECTORIES, help="One past the last one.")
    ] = None,
) -> None:
    """Run a shard of policies in the simulator."""
    settings = load_config(config)
    from nsf_pipeline.stages import rollouts

    span = None if first is None or stop is None else (first, stop)
    rollouts.run(settings, policies, output, span)


@_verb("dataset", "--config my.yaml")
def _dataset(
    config: Settings = CONFIG,
    rollouts: Rollouts = ROLLOUT_SHARDS,
    output: Output = Path(paths.DATASET),
    metadata: Annotated[Path, typer.Option(help="Metadata to write.")] = Path(paths.METADATA),
) -> None:
    """Merge rollout shards into one data set: one file, or several and their index."""
    settings = load_config(config)
    from nsf_pipeline.stages import dataset

    dataset.run(settings, rollouts, output, metadata)


@_verb("second-dataset", "--config my.yaml")
def _second_dataset(
    config: Settings = CONFIG,
    rollouts: Rollouts = ROLLOUT_SHARDS,
    second: Annotated[
        Path, typer.Option(help="Folder of the rollout shards of the second round.")
    ] = SECOND_ROLLOUTS,
    output: Output = SECOND_DATASET,
    metadata: Annotated[Path, typer.Option(help="Metadata to write.")] = SECOND_METADATA,
) -> None:
    """Merge the rollout shards of both rounds into one data set."""
    settings = load_config(config)
    from nsf_pipeline.stages import dataset

    dataset.both_rounds(settings, rollouts, second, output, metadata)


@_verb("dataset-statistics", "--first 0 --stop 5000 --output results/statistics/00000.jsonl")
def _dataset_statistics(
    first: Annotated[int, typer.Option(min=0, max=MAX_TRAJECTORIES, help="First trajectory.")],
    stop: Annotated[
        int, typer.Option(min=1, max=MAX_TRAJECTORIES, help="One past the last trajectory.")
    ],
    output: Output,
    config: Settings = CONFIG,
    rollouts: Rollouts = ROLLOUT_SHARDS,
) -> None:
    """Gather bounds and statistics of a part of a data set of several files."""
    settings = load_config(config)
    from nsf_pipeline.stages import dataset

    dataset.statistics(settings, rollouts, first, stop, output)


@_verb("dataset-metadata", "--config my.yaml")
def _dataset_metadata(
    config: Settings = CONFIG,
    statistics: Annotated[Path, typer.Option(help="Folder of the parts' statistics.")] = Path(
        paths.STATISTICS
    ).parent,
    output: Output = Path(paths.METADATA),
) -> None:
    """Join the statistics of all parts of a data set of several files."""
    settings = load_config(config)
    from nsf_pipeline.stages import dataset

    dataset.metadata(settings, statistics, output)


@_verb("dataset-part", "--config my.yaml --part 0 --output results/dataset/00000.h5")
def _dataset_part(
    part: Annotated[int, typer.Option(min=0, max=MAX_PARTS, help="Number of the file.")],
    output: Output,
    config: Settings = CONFIG,
    rollouts: Rollouts = ROLLOUT_SHARDS,
    bounds: Annotated[Path, typer.Option(help="Metadata of the data set.")] = Path(paths.METADATA),
) -> None:
    """Write one file of a data set of several files."""
    settings = load_config(config)
    from nsf_pipeline.stages import dataset

    dataset.part(settings, rollouts, bounds, part, output)


@_verb("dataset-index", "--config my.yaml")
def _dataset_index(config: Settings = CONFIG, output: Output = Path(paths.DATASET)) -> None:
    """Write the index of a data set of several files, which lie in a folder beside it."""
    settings = load_config(config)
    from nsf_pipeline.stages import dataset

    dataset.index(settings, output)


@_verb("picture", "--dataset results/dataset.h5 --output dataset.png")
def _picture(
    config: MustMatch = None,
    dataset: Dataset = Path(paths.DATASET),
    output: Output = Path(paths.PICTURE),
) -> None:
    """Draw a data set: its paths, coverage and contact."""
    settings = _load_if_given(config)
    from nsf_pipeline.stages import picture

    picture.run(settings, dataset, output)


@_verb("train", "--config my.yaml --threads 8")
def _train(
    config: Settings = CONFIG,
    variant: Annotated[
        str, typer.Option(metavar="NAME", help="A variant of the model, named in the settings.")
    ] = "",
    dataset: Dataset = Path(paths.DATASET),
    output: Annotated[Path | None, typer.Option(help=f"Model to write ({paths.MODEL}).")] = None,
    metrics: Annotated[
        Path | None, typer.Option(help=f"History to write ({paths.METRICS}).")
    ] = None,
    curves: Annotated[Path | None, typer.Option(help=f"Curves to write ({paths.CURVES}).")] = None,
    checkpoint_seconds: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MAX_CHECKPOINT_SECONDS,
            metavar="S",
            help="Seconds between checkpoints (runtime.checkpoint_seconds).",
        ),
    ] = None,
    data_memory: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MAX_DATA_MEMORY,
            metavar="MIB",
            help="Data larger than this are streamed from the file (runtime.data_memory).",
        ),
    ] = None,
    bar: Annotated[
        int,
        typer.Option(
            min=0,
            max=MAX_DESCRIPTOR,
            metavar="FD",
            help="File descriptor of a terminal for the progress bar.",
        ),
    ] = STANDARD_ERROR,
    threads: Threads = None,
) -> None:
    """Train the model, or a variant of it, on a data set."""
    settings = load_config(config)
    if variant and not re.fullmatch(MODEL_NAME, variant):
        raise UserError(f"--variant {shown(variant)}: expected the name of a variant")
    settings = _of_variant(settings, "--variant", variant)
    given = {"checkpoint_seconds": checkpoint_seconds, "data_memory": data_memory}
    changes = {name: value for name, value in given.items() if value is not None}
    runtime = settings.runtime.model_copy(update=changes)
    settings = settings.model_copy(update={"runtime": runtime})
    _before_jax(threads)
    from nsf_pipeline.stages import train
    from nsf_pipeline.training import Stopped

    try:
        train.run(
            settings,
            dataset,
            output or Path(paths.of_variant(paths.MODEL, variant)),
            metrics or Path(paths.of_variant(paths.METRICS, variant)),
            curves or Path(paths.of_variant(paths.CURVES, variant)),
            variant=variant,
            terminals=(bar, STANDARD_ERROR),
        )
    except Stopped as stopped:
        if stopped.code == SIGNALLED + signal.SIGTERM:
            slurm.run_again()  # it has made steps, so it will end some day
        raise _Exit(stopped.code, str(stopped)) from None


@_verb("ensembles", "--config my.yaml --jobs 4")
def _ensembles(
    config: Settings = CONFIG,
    dataset: Dataset = Path(paths.DATASET),
    output: Folder = ENSEMBLE_SHARDS,
    shard: Annotated[
        int | None, typer.Option(min=0, max=MAX_SHARDS, help="Number of one shard; all if unset.")
    ] = None,
    jobs: Jobs = CORES,
) -> None:
    """Simulate ensembles from the test states."""
    settings = load_config(config)
    count = settings.ensembles.num_shards
    if shard is not None and shard >= count:
        raise UserError(
            f"--shard {shard}: expected one below {count}, the number of shards for the states "
            "of all ensembles.horizons; give a lower one"
        )
    from nsf_pipeline.stages import ensembles, generate

    if shard is None:
        generate.all_ensembles(settings, dataset, output, jobs)
    else:
        ensembles.run(settings, dataset, shard, paths.shard_in(output, shard))


@_verb("evaluate", "--config my.yaml --model results/model.eqx")
def _evaluate(
    config: Settings = CONFIG,
    model: Model = Path(paths.MODEL),
    variant: Variants = [],  # noqa: B006
    dataset: Dataset = Path(paths.DATASET),
    ensembles: Ensembles = ENSEMBLE_SHARDS,
    output: Annotated[
        Path | None,
        typer.Option(help=f"Folder ({paths.EVALUATION}; with variants, {paths.COMPARISON})."),
    ] = None,
    threads: Threads = None,
) -> None:
    """Score a model on the test split, alone or beside others."""
    stage, usual = ("compare", paths.COMPARISON) if variant else ("evaluate", paths.EVALUATION)
    folder = output or Path(usual)
    for taken in {paths.EVALUATION, paths.ABLATIONS} - {usual}:
        if _resolved(folder) == _resolved(Path(taken)):
            raise UserError(
                f"--output {folder}: the workflow keeps other reports there; name another"
            )
    _score(stage, config, model, variant, dataset, ensembles, folder, threads)


@_verb("compare", "--variant gaussian=results/variants/gaussian/model.eqx")
def _compare(
    config: Settings = CONFIG,
    model: Model = Path(paths.MODEL),
    variant: Variants = [],  # noqa: B006
    dataset: Dataset = Path(paths.DATASET),
    ensembles: Ensembles = ENSEMBLE_SHARDS,
    output: Folder = Path(paths.ABLATIONS),
    threads: Threads = None,
) -> None:
    """Score a model and all variants of the settings side by side, as the workflow does."""
    wanted = load_config(config).variant_names
    given = variant or [f"{n}={paths.of_variant(paths.MODEL, n)}" for n in wanted]
    if sorted(_variants(given)) != sorted(wanted):
        raise UserError(
            f"--variant: expected all variants of the settings, {', '.join(wanted) or 'none'}; "
            "use `evaluate` to compare others"
        )
    variant = given
    _score("compare", config, model, variant, dataset, ensembles, output, threads)


def _score(
    stage: str,
    config: str,
    model: Path,
    variant: list[str],
    dataset: Path,
    ensembles: Path,
    output: Path,
    threads: int | None,
) -> None:
    settings, variants = load_config(config), _variants(variant)
    _before_jax(threads)
    from nsf_pipeline.stages import STAGES, evaluate

    evaluate.run(settings, STAGES[stage], model, variants, dataset, ensembles, output)


@_verb("speed", "--scores results/ablations/horizons.csv --threads 8")
def _speed(
    config: Settings = CONFIG,
    model: Model = Path(paths.MODEL),
    variant: Variants = [],  # noqa: B006
    dataset: Dataset = Path(paths.DATASET),
    scores: Annotated[
        Path, typer.Option(help="Table of scores, for the figure of accuracy against cost.")
    ] = Path(paths.ABLATIONS, paths.SCORES["table"]),
    provenance: Provenance = None,
    output: Folder = Path(paths.ABLATIONS),
    threads: Threads = None,
) -> None:
    """Time the predictions of models, and the simulators."""
    settings, variants = load_config(config), _variants(variant)
    _before_jax(threads)
    from nsf_pipeline.stages import speed

    speed.run(settings, model, variants, dataset, scores, provenance, output, threads)


@_verb("episodes", "--planner contact --world-model flow_4 --stop 50 --output episodes.h5")
def _episodes(
    world_model: WorldModel,
    stop: Annotated[
        int, typer.Option(min=1, max=MAX_EPISODES, help="One past the last episode's number.")
    ],
    output: Output,
    first: Annotated[
        int, typer.Option(min=0, max=MAX_EPISODES, help="The first episode's number.")
    ] = 0,
    planner: Annotated[str, typer.Option(help="cem, contact or both.")] = "contact",
    noise: ActionNoise = 0.0,
    variation: Annotated[
        str, typer.Option(metavar="NAME", help="What else is different from the standard.")
    ] = "standard",
    first_seed: Annotated[
        int,
        typer.Option(
            min=0, max=MAX_FIRST_SEED, metavar="SEED", help="Seed of the reset of episode 0."
        ),
    ] = FIRST_SEED,
    seconds: Seconds = None,
    config: Settings = CONFIG,
    model: TrainedModel = None,
    threads: Threads = None,
) -> None:
    """Play episodes of gym-pusht's environment with a planner."""
    from nsf_pipeline.protocols.rows import checked_row, variant_of

    row = checked_row(planner, world_model, noise, variation)
    settings = _of_variant(load_config(config), "--world-model", variant_of(row.trained))
    if stop <= first:
        raise UserError(f"--stop {stop} must be more than --first {first}")
    _before_jax(threads)
    from nsf_pipeline.stages import episodes

    episodes.run(settings, row, first_seed, first, stop, model, output, seconds)


@_verb("pushes", "--world-model flow_256 --model results/model.eqx --stop 10 --output pushes.h5")
def _pushes(
    world_model: WorldModel,
    stop: Annotated[int, typer.Option(min=1, max=MAX_EPISODES, help="One past the last task.")],
    output: Output,
    first: Annotated[int, typer.Option(min=0, max=MAX_EPISODES, help="The first task.")] = 0,
    noise: ActionNoise = 8.0,
    candidates: Annotated[
        int, typer.Option(min=1, max=100_000, metavar="N", help="Pushes to choose from, about.")
    ] = 1000,
    runs: Annotated[
        int, typer.Option(min=1, max=65_536, metavar="N", help="Noisy runs of the chosen push.")
    ] = 256,
    seconds: Seconds = None,
    config: Settings = CONFIG,
    model: TrainedModel = None,
    dataset: Dataset = Path(paths.DATASET),
    threads: Threads = None,
) -> None:
    """Let a world model choose single pushes from test states, and run them with noise."""
    from nsf_pipeline.protocols.rows import trained, variant_of

    variant = variant_of(trained(world_model))
    settings = _of_variant(load_config(config), "--world-model", variant)
    if stop <= first:
        raise UserError(f"--stop {stop} must be more than --first {first}")
    _before_jax(threads)
    from nsf_pipeline.protocols.one_push import Trial
    from nsf_pipeline.stages import pushes

    trial = Trial(noise, candidates, runs)
    pushes.run(settings, world_model, trial, first, stop, model, dataset, output, seconds)


@_verb("goals", "--world-model nominal --steps 25 --stop 10 --output goals.h5")
def _goals(
    world_model: WorldModel,
    steps: Annotated[
        int, typer.Option(min=1, max=100, metavar="N", help="Steps from the state to the goal.")
    ],
    stop: Annotated[int, typer.Option(min=1, max=MAX_EPISODES, help="One past the last task.")],
    output: Output,
    first: Annotated[int, typer.Option(min=0, max=MAX_EPISODES, help="The first task.")] = 0,
    planner: Annotated[str, typer.Option(help="cem, contact, both or random.")] = "contact",
    seconds: Seconds = None,
    config: Settings = CONFIG,
    model: TrainedModel = None,
    dataset: Dataset = Path(paths.DATASET),
    threads: Threads = None,
) -> None:
    """Try tasks with goals some steps ahead on the same test trajectory."""
    from nsf_pipeline.protocols.rows import checked_goal_row, variant_of

    row = checked_goal_row(planner, world_model, steps)
    settings = _of_variant(load_config(config), "--world-model", variant_of(row.trained))
    if stop <= first:
        raise UserError(f"--stop {stop} must be more than --first {first}")
    _before_jax(threads)
    from nsf_pipeline.stages import goals

    goals.run(settings, row, first, stop, model, dataset, output, seconds)


@_verb("goal-tables", "--config my.yaml")
def _goal_tables(
    config: Settings = CONFIG,
    goals: Annotated[Path, typer.Option(help="Folder of the tasks, a folder a row.")] = Path(
        paths.GOALS
    ).parent.parent,
    times: PlayedSeconds = Path(paths.GOAL_SECONDS).parent.parent,
    output: Folder = Path(paths.PLANNING),
) -> None:
    """Write the table of goals some steps ahead."""
    settings = load_config(config)
    surroundings.import_jax()
    from nsf_pipeline.stages import planning

    planning.goals(settings, goals, times, output)


@_verb("push-tables", "--config my.yaml")
def _push_tables(
    config: Settings = CONFIG,
    pushes: Annotated[
        Path, typer.Option(help="Folder of the chosen pushes, a folder a model.")
    ] = Path(paths.PUSHES).parent.parent,
    times: PlayedSeconds = Path(paths.PUSH_SECONDS).parent.parent,
    output: Folder = Path(paths.PLANNING),
) -> None:
    """Write the table of one push under noise."""
    settings = load_config(config)
    surroundings.import_jax()
    from nsf_pipeline.stages import planning

    planning.pushes(settings, pushes, times, output)


@_verb("planning-tables", "--config my.yaml")
def _planning_tables(
    config: Settings = CONFIG,
    episodes: PlayedEpisodes = EPISODE_ROWS,
    times: PlayedSeconds = SECONDS_ROWS,
    output: Folder = Path(paths.PLANNING),
) -> None:
    """Write the tables of the standard and the harder planning protocols."""
    settings = load_config(config)
    surroundings.import_jax()
    from nsf_pipeline.stages import planning

    planning.run(settings, episodes, times, output)


@_verb("episode-videos", "--config my.yaml")
def _episode_videos(
    config: Settings = CONFIG,
    episodes: PlayedEpisodes = EPISODE_ROWS,
    output: Folder = Path(paths.EPISODE_VIDEO).parent,
) -> None:
    """Record episodes that were planned with the flow: three successes, and the hardest three."""
    settings = load_config(config)
    from nsf_pipeline.stages import episode_videos

    episode_videos.run(settings, episodes, output)


@_verb("second-round", "--config my.yaml")
def _second_round(
    config: Settings = CONFIG,
    episodes: PlayedEpisodes = EPISODE_ROWS,
    times: PlayedSeconds = SECONDS_ROWS,
    pushes: Annotated[
        Path, typer.Option(help="Folder of the chosen pushes, a folder a model.")
    ] = Path(paths.PUSHES).parent.parent,
    push_times: PlayedSeconds = Path(paths.PUSH_SECONDS).parent.parent,
    output: Folder = Path(paths.PLANNING),
) -> None:
    """Write the table of what a second round of data brings to planning."""
    settings = load_config(config)
    surroundings.import_jax()
    from nsf_pipeline.stages import dataset, planning

    dataset.require_second_round(settings)
    planning.second_round(settings, episodes, times, pushes, push_times, output)


@_verb("short-planning", "--config my.yaml")
def _short_planning(
    config: Settings = CONFIG,
    episodes: PlayedEpisodes = EPISODE_ROWS,
    times: PlayedSeconds = SECONDS_ROWS,
    output: Folder = Path(paths.PLANNING),
) -> None:
    """Write the short table of planning that the default run has."""
    settings = load_config(config)
    surroundings.import_jax()
    from nsf_pipeline.stages import planning

    planning.short(settings, episodes, times, output)


@_verb("plan", "--model results/model.eqx --seed 7 --output push.json")
def _plan(
    config: Settings = CONFIG,
    model: Annotated[
        str,
        typer.Option(
            metavar="PATH", help="The model; or nominal (physics alone), or simulator (slow)."
        ),
    ] = paths.MODEL,
    draws: Annotated[
        int,
        typer.Option(
            min=0,
            max=MAX_DRAWS,
            metavar="N",
            help="The model's draws of where a push ends; 0: the one without noise.",
        ),
    ] = 4,
    state: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="Agent x, y, velocity x, y, block x, y (px), angle (rad), by commas; the velocity "
            "may be left out.",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(min=0, max=MAX_SEED, metavar="N", help="Or the seed of a reset."),
    ] = None,
    goal: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS", help="The block's goal: x, y, angle; the environment's if unset."
        ),
    ] = None,
    coverage: Annotated[
        float | None,
        typer.Option(metavar="SHARE", help="How much of the goal to cover; 0.95 if unset."),
    ] = None,
    planner: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="cem, contact or both (planning.search.planner)."),
    ] = None,
    action_noise_std: Annotated[
        float, typer.Option(metavar="PX", help="Noise on the actions when they are executed.")
    ] = 0.0,
    output: Annotated[
        Path | None, typer.Option(help="JSON file to write; printed if unset.")
    ] = None,
    threads: Threads = None,
) -> None:
    """Plan a push from a state to a goal, with a model."""
    settings = load_config(config)
    start: int | list[float]
    match state, seed:
        case str(), None:
            start = _numbers("--state", state)
        case None, int():
            start = seed
        case _:
            raise UserError("expected either --state or --seed: where the push starts; give one")
    if planner is not None:
        if planner not in get_args(Planner):
            raise UserError(
                f"--planner {shown(planner)}: expected one of {', '.join(get_args(Planner))}"
            )
        search = settings.planning.search.model_copy(update={"planner": planner})
        planning = settings.planning.model_copy(update={"search": search})
        settings = settings.model_copy(update={"planning": planning})
    pose = None if goal is None else _numbers("--goal", goal)
    _before_jax(threads)
    from nsf_pipeline.stages import plan

    plan.run(settings, model, draws, start, pose, coverage, action_noise_std, output)


@_verb("explore", "--results results")
def _explore(
    results: Annotated[Path, typer.Option(help="Folder of a run's results.")] = Path(paths.RESULTS),
    model: Annotated[
        list[Path], typer.Option(help="Another model than those in the results; repeatable.")
    ] = [],  # noqa: B006
    dataset: Annotated[
        Path | None, typer.Option(help="Another data set than the one in the results.")
    ] = None,
    config: Annotated[
        str,
        typer.Option(metavar="YAML", help="Settings of the DMPs; the first model's if unset."),
    ] = "",
    port: Annotated[
        int, typer.Option(min=1, max=MAX_PORT, metavar="N", help="Port on this machine.")
    ] = 2718,
    browser: Annotated[
        bool, typer.Option("--browser/--no-browser", help="Open the page in a browser.")
    ] = True,
    threads: Threads = None,
) -> None:
    """Shape a policy with sliders; see what it does and what models believe (needs marimo)."""
    _before_jax(threads)
    from nsf_pipeline.explorer import command

    command.run(results, model, dataset, config, port, browser)


@_verb("upload", "--config my.yaml --video results/videos/best.mp4")
def _upload(
    config: Settings = CONFIG,
    model: Model = Path(paths.MODEL),
    history: Annotated[Path, typer.Option("--metrics", help="The model's history.")] = Path(
        paths.METRICS
    ),
    table: Annotated[Path, typer.Option(help="Scores.")] = Path(
        paths.EVALUATION, paths.SCORES["table"]
    ),
    provenance: Provenance = None,
    video: Annotated[list[Path], typer.Option(help="A video; repeatable.")] = [],  # noqa: B006
    output: Output = Path(paths.UPLOAD),
) -> None:
    """Log scores and videos to the Weights & Biases run of the model's training."""
    settings = load_config(config)
    surroundings.import_jax()
    from nsf_pipeline.stages import upload

    upload.run(settings, model, history, table, provenance, video, output)


@_verb("video", "--source results/dataset.h5 --trajectory best --output best.mp4")
def _video(
    source: Annotated[Path, typer.Option(help="Rollout shard or data set.")],
    trajectory: Annotated[
        str,
        typer.Option(metavar="WHICH", help="Its index, or best, median or worst by last coverage."),
    ],
    output: Output,
    config: MustMatch = None,
) -> None:
    """Record a trajectory by replaying it."""
    is_index = re.fullmatch("[0-9]{1,10}", trajectory) and int(trajectory) < MAX_TRAJECTORIES
    if trajectory not in get_args(Rank) and not is_index:
        ranks = ", ".join(get_args(Rank))
        raise typer.BadParameter(
            f"--trajectory: expected an index below {MAX_TRAJECTORIES}, or {ranks}, got "
            f"'{shown(trajectory)}'"
        )
    settings = _load_if_given(config)
    from nsf_pipeline.stages import video

    which = int(trajectory) if is_index else trajectory
    video.run(settings, source, which, output)


@_verb("predicted-video", "--place 0 --output prediction.mp4")
def _predicted_video(
    place: Annotated[
        int,
        typer.Option(
            min=0, max=MAX_TRAJECTORIES, metavar="N", help="Place in the test split, from 0."
        ),
    ],
    output: Output,
    config: MustMatch = None,
    model: Model = Path(paths.MODEL),
    dataset: Dataset = Path(paths.DATASET),
    threads: Threads = None,
) -> None:
    """Record a trajectory of the test split beside the model's prediction of it."""
    settings = _load_if_given(config)
    _before_jax(threads)
    from nsf_pipeline.stages import prediction

    prediction.run(settings, model, dataset, place, output)


@_verb("table-page", "results/evaluation/horizons.md --output tables.html")
def _table_page(
    tables: Annotated[list[Path], typer.Argument(metavar="MARKDOWN...", help="Files to show.")],
    output: Output,
    provenance: Annotated[
        list[Path], typer.Option(help="JSON that says what made a table; one for each, in order.")
    ] = [],  # noqa: B006
    config: MustMatch = None,
) -> None:
    """Write Markdown tables of the evaluation as an HTML page."""
    settings = _load_if_given(config)
    if provenance and len(provenance) != len(tables):
        raise UserError(f"--provenance: expected one for each of {len(tables)} tables, in order")
    from nsf_pipeline.stages import pages

    pages.tables(settings, tables, provenance, output)


@_verb("video-page", "results/videos/best.mp4 --output videos.html")
def _video_page(
    videos: Annotated[list[Path], typer.Argument(metavar="MP4...", help="Files to show.")],
    output: Output,
    config: MustMatch = None,
) -> None:
    """Write one HTML page that contains videos."""
    settings = _load_if_given(config)
    from nsf_pipeline.stages import pages

    pages.videos(settings, videos, output)


@_verb("settings-page", "--config my.yaml --output settings.html")
def _settings_page(output: Output, config: Settings = CONFIG) -> None:
    """Write all settings and their defaults as an HTML page."""
    settings = load_config(config)
    from nsf_pipeline.stages import pages

    pages.settings(settings, output)


@_verb("replay", "results/dataset.h5 --verify")
def _replay(
    files: Annotated[
        list[Path], typer.Argument(metavar="PATH...", help="Rollout shards and data sets.")
    ],
    verify: Annotated[bool, typer.Option("--verify", help="Fail on any difference.")] = False,
) -> None:
    """Simulate stored trajectories again and compare."""
    from nsf_pipeline.data.replay import replay

    started = time.monotonic()
    report = replay(files)
    seconds = time.monotonic() - started
    say(f"largest differences from the replay:\n{report}")
    say(
        f"{report.trajectories} trajectories, {report.steps} steps, {report.differing} "
        f"trajectories differ, {seconds:.1f} s, {report.trajectories / seconds:.0f} trajectories/s"
    )
    if verify:
        report.require_no_difference()


@_verb("why", "--config my.yaml --full")
def _why(
    files: Annotated[
        list[Path] | None, typer.Argument(metavar="[PATH]...", help="Files; all if none is named.")
    ] = None,
    config: Settings = CONFIG,
    results: Annotated[Path, typer.Option(help="Folder that the run writes to.")] = Path(
        paths.RESULTS
    ),
    full: Annotated[
        bool, typer.Option("--full", help="Also compare files with their checksums.")
    ] = False,
) -> None:
    """Say which files are current, damaged or stale, and why."""
    settings = load_config(config)
    from nsf_pipeline import why

    for line in why.describe(settings, files or why.made_in(results), whole=full):
        say(line)


@_verb("schema", "> config.schema.json")
def _schema() -> None:
    """Print the JSON schema of config.yaml."""
    say(json_schema(), end="")


def _require_shard(first: int, stop: int) -> None:
    if not 0 < stop - first <= MAX_SHARD_SIZE:
        raise UserError(
            f"--stop {stop} must be more than --first {first}, by at most {MAX_SHARD_SIZE}"
        )


def _of_variant(settings: Config, option: str, variant: str) -> Config:
    """The settings with a variant's changes; as they are, for none or if they are a stamp's."""
    if not variant or "variants" not in settings.held:
        return settings
    if variant not in settings.variant_names:
        raise UserError(
            f"{option} {variant}: no such variant; expected one of "
            f"{', '.join(settings.variant_names) or 'none: the settings have no variants'}"
        )
    return settings.variant(variant)


def _load_if_given(config: str | None) -> Config | None:
    return None if config is None else load_config(config)


def _numbers(option: str, text: str) -> list[float]:
    """Numbers that an option separates by commas."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise UserError(
            f"{option} {shown(text)}: expected numbers separated by commas, as in 100,200,0.5"
        ) from None


def _variants(given: list[str]) -> dict[str, Path]:
    """Models by name, from options NAME=PATH."""
    found: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not (equals and path and re.fullmatch(MODEL_NAME, name)):
            raise typer.BadParameter(
                "--variant: expected NAME=PATH, with at most 64 letters a to z, digits and _ in "
                f"the name, got '{shown(text)}'"
            )
        if name in found:
            raise UserError("--variant: expected each name once; give every model its own name")
        if name in UNTRAINED:
            raise UserError(f"--variant {name}: that name is taken; give the model another name")
        try:
            require_free_name(name)
        except ValueError as error:
            raise UserError(f"--variant {name}: {error}") from None
        found[name] = Path(path)
    return found


def _before_jax(threads: int | None) -> None:
    # JAX reads both variables when it starts, so they are set before it is imported.
    if threads is not None:
        os.environ["NPROC"] = str(threads)
    # By default JAX takes most of a GPU's memory at once, which other programs may need too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    surroundings.require_usual_compiler()
    surroundings.leave_broken_cache()
    surroundings.require_device()
