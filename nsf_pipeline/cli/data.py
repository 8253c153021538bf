"""Verbs that make data: policies, rollouts, data sets."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from nsf_pipeline import paths
from nsf_pipeline.cli.command import verb
from nsf_pipeline.cli.options import (
    CONFIG,
    CORES,
    Dataset,
    Folder,
    Jobs,
    Model,
    MustMatch,
    Output,
    Settings,
    Threads,
    before_jax,
    load_if_given,
    require_shard,
)
from nsf_pipeline.config import (
    MAX_PARTS,
    MAX_TRAJECTORIES,
    ExportConfig,
    FrameSize,
    Split,
    load_config,
)
from nsf_pipeline.errors import UserError, shown

Rollouts = Annotated[Path, typer.Option(help="Folder of the rollout shards.")]
SECOND_DATASET, SECOND_METADATA = (
    Path(paths.of_second_round(path)) for path in (paths.DATASET, paths.METADATA)
)
SECOND_ROLLOUTS = Path(paths.of_second_round(paths.ROLLOUTS)).parent
MAX_PX = 1000.0
"""px; no distance on the command line is longer."""
ROLLOUT_SHARDS = Path(paths.ROLLOUTS).parent


@verb("generate-data", "--config my.yaml --jobs 4")
def _generate_data(
    config: Settings = CONFIG, output: Folder = Path(paths.RESULTS), jobs: Jobs = CORES
) -> None:
    """Make a data set, without Snakemake."""
    from nsf_pipeline.stages import generate

    generate.data(load_config(config), output, jobs)


@verb("policies", "--first 0 --stop 100 --output policies.h5")
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
    require_shard(first, stop)
    from nsf_pipeline.stages import policies

    policies.run(settings, first, stop, output)


@verb("second-policies", "--first 200000 --stop 200100 --output policies.h5")
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
    require_shard(first, stop)
    before_jax(threads)
    from nsf_pipeline.stages import second_round

    second_round.run(settings, model, first, stop, output)


@verb("rollouts", "--policies policies.h5 --output rollouts.h5")
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


@verb("dataset", "--config my.yaml")
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


@verb("second-dataset", "--config my.yaml")
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


@verb("dataset-statistics", "--first 0 --stop 5000 --output results/statistics/00000.jsonl")
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


@verb("dataset-metadata", "--config my.yaml")
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


@verb("dataset-part", "--config my.yaml --part 0 --output results/dataset/00000.h5")
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


@verb("dataset-index", "--config my.yaml")
def _dataset_index(config: Settings = CONFIG, output: Output = Path(paths.DATASET)) -> None:
    """Write the index of a data set of several files, which lie in a folder beside it."""
    settings = load_config(config)
    from nsf_pipeline.stages import dataset

    dataset.index(settings, output)


@verb("picture", "--dataset results/dataset.h5 --output dataset.png")
def _picture(
    config: MustMatch = None,
    dataset: Dataset = Path(paths.DATASET),
    output: Output = Path(paths.PICTURE),
) -> None:
    """Draw a data set: its paths, coverage and contact."""
    settings = load_if_given(config)
    from nsf_pipeline.stages import picture

    picture.run(settings, dataset, output)


@verb("export", "--format minari --dataset results/dataset.h5 --output minari --frames 96")
def _export(
    format_: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help="Such as minari; docs/exports.md.")
    ],
    output: Annotated[Path, typer.Option(help="Folder to make.")],
    config: MustMatch = None,
    dataset: Dataset = Path(paths.DATASET),
    split: Annotated[
        list[str], typer.Option(metavar="SPLIT", help="A split; repeatable; all if none is named.")
    ] = [],  # noqa: B006
    successes_only: Annotated[
        bool, typer.Option("--successes-only", help="Leave out what does not succeed.")
    ] = False,
    contact_only: Annotated[
        bool, typer.Option("--contact-only", help="Leave out what does not move the block.")
    ] = False,
    frames: Annotated[
        int, typer.Option(metavar="PX", help="Size of the frames: 0 (none), 96 or 224.")
    ] = 0,
    jobs: Jobs = CORES,
) -> None:
    """Write a data set for other people's tools."""
    settings = load_if_given(config)
    given: list[tuple[str, Sequence[Any], Sequence[Any]]] = [
        ("--split", get_args(Split), split),
        ("--frames", get_args(FrameSize), [frames]),
    ]
    for option, allowed, values in given:
        for value in values:
            if value not in allowed or list(values).count(value) > 1:
                expected = f"{', '.join(map(str, allowed[:-1]))} or {allowed[-1]}"
                raise UserError(
                    f"{option} {shown(str(value))}: expected {expected}, each at most once"
                )
    chosen = ExportConfig.model_validate(
        {
            "splits": tuple(split) or get_args(Split),
            "successes_only": successes_only,
            "contact_only": contact_only,
            "frames": frames,
        }
    )
    from nsf_pipeline.stages import export

    export.run(settings, dataset, format_, chosen, output, jobs)


@verb("import", "pusht.zarr --output demonstrations")
def _import(
    source: Annotated[
        Path, typer.Argument(help="Replay buffer of diffusion-policy, or Minari data set.")
    ],
    output: Annotated[Path, typer.Option(help="Folder to make.")],
    config: Settings = CONFIG,
    most_residual: Annotated[
        float,
        typer.Option(min=0.0, max=MAX_PX, metavar="PX", help="A DMP farther off is no policy."),
    ] = 8.0,
    tolerance: Annotated[
        float,
        typer.Option(min=0.0, max=MAX_PX, metavar="PX", help="A replay may stray so far."),
    ] = 2.0,
) -> None:
    """Turn demonstrations of PushT into policies, rollouts and a data set."""
    settings = load_config(config)
    from nsf_pipeline.stages import imports

    imports.run(settings, source, output, most_residual, tolerance)
