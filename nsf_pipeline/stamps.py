"""Stamps: small files by which Snakemake sees that a stage's settings or code changed.

A stamp holds the settings that shape a stage's files, and the hash of these and of the stage's code
is its name. Rules take it as an input, and their commands as settings: a change gives another name,
so another set of inputs, and a file newer than all that was made before, which counts where
Snakemake has lost its records. A stamp that is there is left alone. One of other settings or code
goes when a run starts to overwrite what it stands for.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from nsf_pipeline.config import STAMP, Config
from nsf_pipeline.files import FileError, replacing
from nsf_pipeline.provenance import Stage


class Stamps:
    """The stamps of a workflow's jobs under some settings."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config, self.folder = config, folder
        self._used: dict[tuple[Any, ...], Path] = {}

    def of(self, stage: Stage, *, variant: str = "", **more: Any) -> str:
        """The path of a stage's stamp, which is written if it is not there.

        Args:
            stage: the stage.
            variant: of the model, for a stage that has one file each.
            more: what else shapes a job's files, for jobs that differ from the stage's others.
        """
        key = (stage.name, variant, *more.items())
        if key not in self._used:
            config = self.config
            if variant:  # which no other variant's changes concern
                stage = stage._replace(reads=(*stage.reads, "variants"))
                only = {variant: config.variants[variant]}
                config = config.model_copy(update={"variants": only})
            kind = "-".join([stage.name, *filter(None, [variant]), *more])
            path = self.folder / kind / f"{stage.digest(config, **more)}{STAMP}"
            self._used[key] = path
            if not path.exists():
                text = json.dumps(stage.settings(config), indent=2) + "\n"
                # Where nothing can be written, Snakemake says what is missing.
                with suppress(FileError), replacing(path) as beside:
                    beside.write_text(text, encoding="utf-8")
        return str(self._used[key])

    def drop_others(self) -> None:
        """Remove what other settings or code left beside the stamps in use."""
        for path in self._used.values():
            for other in path.parent.glob(f"*{STAMP}"):
                if other != path:
                    other.unlink(missing_ok=True)
