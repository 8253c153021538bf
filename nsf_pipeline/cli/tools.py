"""Verbs that no rule calls: they look at a run and at the settings."""

import time
from pathlib import Path
from typing import Annotated

import typer

from nsf_pipeline import paths
from nsf_pipeline.cli.command import verb
from nsf_pipeline.cli.options import CONFIG, Settings, Threads, before_jax
from nsf_pipeline.config import json_schema, load_config
from nsf_pipeline.system.printing import say

MAX_PORT = 65_535


@verb("explore", "--results results")
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
    before_jax(threads)
    from nsf_pipeline.explorer import command

    command.run(results, model, dataset, config, port, browser)


@verb("replay", "results/dataset.h5 --verify")
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


@verb("why", "--config my.yaml --full")
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


@verb("schema", "> config.schema.json")
def _schema() -> None:
    """Print the JSON schema of config.yaml."""
    say(json_schema(), end="")
