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

    def of(self, stage: Stage, *, part: str = "", variant: str = "", **more: Any) -> str:
        """The path of a stage's stamp, which is written if it is not there as it should be.

        Args:
            stage: the stage.
            part: of the stage's files, for those that differ from the others.
            variant: of the model, whose settings the stamp holds.
            more: what else shapes a job's files.
        """
        key = (stage.name, part or variant, *more.items())
        if key not in self._used:
            config = self.config.variant(variant) if variant else self.config
            name = f"{stage.digest(config, **more)}{STAMP}"
            path = self._used[key] = self._folder(stage, part or variant) / name
            text = json.dumps(stage.settings(config), indent=2) + "\n"
            # Where nothing can be read or written, Snakemake says what is missing.
            with suppress(FileError, OSError, ValueError):
                if not path.exists() or path.read_text(encoding="utf-8") != text:
                    with replacing(path) as beside:
                        beside.write_text(text, encoding="utf-8")
        return str(self._used[key])

    def has(self, stage: Stage, part: str) -> bool:
        """Whether a part of a stage's files has, or had, a stamp of its own."""
        return self._folder(stage, part).is_dir()

    def drop_others(self) -> None:
        """Remove what other settings or code left beside the stamps in use."""
        for path in self._used.values():
            for other in path.parent.glob(f"*{STAMP}"):
                if other != path:
                    with suppress(OSError):
                        other.unlink()

    def _folder(self, stage: Stage, part: str) -> Path:
        return self.folder / "-".join(filter(None, [stage.name, part]))
