"""Verbs that show results: videos, pages, the upload to W&B."""

import re
from pathlib import Path
from typing import Annotated, get_args

import typer

from nsf_pipeline import paths
from nsf_pipeline.cli.command import verb
from nsf_pipeline.cli.options import (
    CONFIG,
    Dataset,
    Model,
    MustMatch,
    Output,
    Provenance,
    Settings,
    Threads,
    before_jax,
    load_if_given,
)
from nsf_pipeline.config import MAX_TRAJECTORIES, Rank, load_config
from nsf_pipeline.errors import UserError, shown
from nsf_pipeline.system import surroundings


@verb("upload", "--config my.yaml --video results/videos/best.mp4")
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


@verb("video", "--source results/dataset.h5 --trajectory best --output best.mp4")
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
    settings = load_if_given(config)
    from nsf_pipeline.stages import video

    which = int(trajectory) if is_index else trajectory
    video.run(settings, source, which, output)


@verb("predicted-video", "--place 0 --output prediction.mp4")
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
    settings = load_if_given(config)
    before_jax(threads)
    from nsf_pipeline.stages import prediction

    prediction.run(settings, model, dataset, place, output)


@verb("table-page", "results/evaluation/horizons.md --output tables.html")
def _table_page(
    tables: Annotated[list[Path], typer.Argument(metavar="MARKDOWN...", help="Files to show.")],
    output: Output,
    provenance: Annotated[
        list[Path], typer.Option(help="JSON that says what made a table; one for each, in order.")
    ] = [],  # noqa: B006
    config: MustMatch = None,
) -> None:
    """Write Markdown tables of the evaluation as an HTML page."""
    settings = load_if_given(config)
    if provenance and len(provenance) != len(tables):
        raise UserError(f"--provenance: expected one for each of {len(tables)} tables, in order")
    from nsf_pipeline.stages import pages

    pages.tables(settings, tables, provenance, output)


@verb("video-page", "results/videos/best.mp4 --output videos.html")
def _video_page(
    videos: Annotated[list[Path], typer.Argument(metavar="MP4...", help="Files to show.")],
    output: Output,
    config: MustMatch = None,
) -> None:
    """Write one HTML page that contains videos."""
    settings = load_if_given(config)
    from nsf_pipeline.stages import pages

    pages.videos(settings, videos, output)


@verb("settings-page", "--config my.yaml --output settings.html")
def _settings_page(output: Output, config: Settings = CONFIG) -> None:
    """Write all settings and their defaults as an HTML page."""
    settings = load_config(config)
    from nsf_pipeline.stages import pages

    pages.settings(settings, output)
