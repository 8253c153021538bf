"""Verbs that train and score models."""

import re
import signal
from pathlib import Path
from typing import Annotated

import typer

from nsf_pipeline import paths, user_code
from nsf_pipeline.cli.command import SIGNALLED, Exit, resolved, verb
from nsf_pipeline.cli.options import (
    CONFIG,
    CORES,
    MAX_PROCESSES,
    Dataset,
    Folder,
    Jobs,
    Model,
    Provenance,
    Settings,
    Threads,
    before_jax,
    of_variant,
)
from nsf_pipeline.config import (
    MAX_CHECKPOINT_SECONDS,
    MAX_DATA_MEMORY,
    MAX_SHARDS,
    UNTRAINED,
    load_config,
    require_free_name,
)
from nsf_pipeline.errors import UserError, shown
from nsf_pipeline.system import slurm
from nsf_pipeline.system.printing import STANDARD_ERROR

MODEL_NAME = "[A-Za-z_][A-Za-z0-9_]{0,63}"
"""What the name of a model looks like in the tables and in paths."""
MAX_DESCRIPTOR = 2**31 - 1
Variants = Annotated[
    list[str],
    typer.Option(
        metavar="NAME=PATH", help="Another model, and its name in the tables; repeatable."
    ),
]
Ensembles = Annotated[Path, typer.Option(help="Folder of the ensembles' shards.")]
ENSEMBLE_SHARDS = Path(paths.ENSEMBLES).parent


@verb("train", "--config my.yaml")
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
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=MAX_PROCESSES,
            metavar="N",
            help="CPU threads for a model of a user's class; others take training.threads.",
        ),
    ] = None,
) -> None:
    """Train the model, or a variant of it, on a data set."""
    settings = load_config(config)
    if variant and not re.fullmatch(MODEL_NAME, variant):
        raise UserError(f"--variant {shown(variant)}: expected the name of a variant")
    settings = of_variant(settings, "--variant", variant)
    given = {"checkpoint_seconds": checkpoint_seconds, "data_memory": data_memory}
    changes = {name: value for name, value in given.items() if value is not None}
    runtime = settings.runtime.model_copy(update=changes)
    settings = settings.model_copy(update={"runtime": runtime})
    written = (
        output or Path(paths.of_variant(paths.MODEL, variant)),
        metrics or Path(paths.of_variant(paths.METRICS, variant)),
        curves or Path(paths.of_variant(paths.CURVES, variant)),
    )
    if settings.model.user_class:
        user_code.require(settings.model.user_class)
    before_jax(threads if settings.model.user_class else settings.training.threads)
    if settings.model.user_class:
        from nsf_pipeline.stages import user_train

        user_train.run(settings, dataset, *written, variant=variant)
        return
    from nsf_pipeline.stages import train
    from nsf_pipeline.training import Stopped

    try:
        train.run(settings, dataset, *written, variant=variant, terminals=(bar, STANDARD_ERROR))
    except Stopped as stopped:
        if stopped.code == SIGNALLED + signal.SIGTERM:
            slurm.run_again()  # it has made steps, so it will end some day
        raise Exit(stopped.code, str(stopped)) from None


@verb("ensembles", "--config my.yaml --jobs 4")
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


@verb("evaluate", "--config my.yaml --model results/model.eqx")
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
        if resolved(folder) == resolved(Path(taken)):
            raise UserError(
                f"--output {folder}: the workflow keeps other reports there; name another"
            )
    _score(stage, config, model, variant, dataset, ensembles, folder, threads)


@verb("compare", "--variant gaussian=results/variants/gaussian/model.eqx")
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
    before_jax(threads)
    from nsf_pipeline.stages import STAGES, evaluate

    evaluate.run(settings, STAGES[stage], model, variants, dataset, ensembles, output)


@verb("scaling", "--config my.yaml --threads 8")
def _scaling(
    config: Settings = CONFIG,
    model: Model = Path(paths.MODEL),
    variant: Variants = [],  # noqa: B006
    dataset: Dataset = Path(paths.DATASET),
    ensembles: Ensembles = ENSEMBLE_SHARDS,
    output: Folder = Path(paths.SCALING),
    threads: Threads = None,
) -> None:
    """Score the models of the scaling curves, which `train --variant` trains."""
    settings = load_config(config)
    points = {n: Path(paths.of_variant(paths.MODEL, n)) for n in settings.points}
    points = _variants(variant) or points
    before_jax(threads)
    from nsf_pipeline.stages import scaling

    scaling.run(settings, model, points, dataset, ensembles, output)


@verb("speed", "--scores results/ablations/horizons.csv --threads 8")
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
    before_jax(threads)
    from nsf_pipeline.stages import speed

    speed.run(settings, model, variants, dataset, scores, provenance, output, threads)


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
