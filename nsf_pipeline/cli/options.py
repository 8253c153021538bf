"""Options that several verbs have, and what reads them."""

import os
from pathlib import Path
from typing import Annotated

import typer

from nsf_pipeline.config import MAX_SHARD_SIZE, Config, load_config
from nsf_pipeline.errors import UserError
from nsf_pipeline.system import surroundings

MAX_PROCESSES = 4096
"""Processes or threads, at most."""
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
Provenance = Annotated[
    Path | None, typer.Option(help="JSON that says what made the scores; without it, any are read.")
]
Folder = Annotated[Path, typer.Option(help="Folder to write to.")]
Output = Annotated[Path, typer.Option(help="File to write.")]
CONFIG = "config.yaml"
CORES = os.cpu_count() or 1


def require_shard(first: int, stop: int) -> None:
    """Check that a shard has something in it, and not too much; a UserError if not."""
    if not 0 < stop - first <= MAX_SHARD_SIZE:
        raise UserError(
            f"--stop {stop} must be more than --first {first}, by at most {MAX_SHARD_SIZE}"
        )


def of_variant(settings: Config, option: str, variant: str) -> Config:
    """The settings with a variant's changes; as they are, for none or if they are a stamp's."""
    if not variant or "variants" not in settings.held:
        return settings
    if variant not in settings.changed:
        raise UserError(
            f"{option} {variant}: no such variant; expected one of "
            f"{', '.join(settings.changed) or 'none: the settings have no variants'}"
        )
    return settings.variant(variant)


def load_if_given(config: str | None) -> Config | None:
    """The settings; None if none are given."""
    return None if config is None else load_config(config)


def before_jax(threads: int | None) -> None:
    """Prepare the environment for JAX, which reads these variables when it is imported.

    Args:
        threads: CPU threads; None for all.
    """
    if threads is not None:
        os.environ["NPROC"] = str(threads)
    # By default JAX takes most of a GPU's memory at once, which other programs may need too.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    surroundings.require_usual_compiler()
    surroundings.leave_broken_cache()
    surroundings.require_device()
