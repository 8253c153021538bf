"""Stamps: small files by which Snakemake sees that a stage's settings, code or packages changed.

A stamp holds the settings that shape a stage's files; its name is the hash of these, of the stage's
code, and of the versions of the packages that it computes with. A rule has a stamp as an input, and
its command reads the settings from it. After a change the stamp has another name, so that the job
has other inputs and runs again. If Snakemake has lost its records, it compares times instead: the
new stamp is newer than the files made before. An existing stamp is not written again. Stamps of
other settings, code or versions are removed when a run starts.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from nsf_pipeline.config import STAMP, Config
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import read_file, replacing
from nsf_pipeline.provenance import Stage

MOST = 2**24
"""Bytes of a stamp, at most."""


class Stamps:
    """The stamps of a workflow's jobs under some settings."""

    def __init__(self, config: Config, folder: Path) -> None:
        self.config, self.folder = config, folder
        self._used: dict[tuple[Any, ...], Path] = {}

    def of(self, stage: Stage, *, part: str = "", variant: str = "", **more: Any) -> str:
        """The path of a stage's stamp, which is written if it is missing or damaged.

        Args:
            stage: the stage.
            part: names those of the stage's files that need a separate stamp.
            variant: the model's variant whose settings the stamp holds.
            more: whatever else shapes the files.

        Raises:
            FileError: it cannot be written.
            UserError: the stage needs a model or exports data, and models or the formats' readers
                do not know the settings' scenes.
        """
        _require_known_scene(stage, self.config)
        key = (stage.name, part or variant, *more.items())
        if key not in self._used:
            config = self.config.variant(variant) if variant else self.config
            name = f"{stage.digest(config, **more)}{STAMP}"
            path = self._used[key] = self._folder(stage, part or variant) / name
            text = json.dumps(stage.settings(config), indent=2) + "\n"
            if _content(path) != text.encode():
                with replacing(path, anything=True) as beside:
                    beside.write_bytes(text.encode())
        return str(self._used[key])

    def has(self, stage: Stage, part: str) -> bool:
        """Whether a part of a stage's files has, or once had, a separate stamp."""
        return self._folder(stage, part).is_dir()

    def drop_others(self) -> None:
        """Remove the stamps of other settings, code or versions that lie beside those in use."""
        used = {*self._used.values()}
        for folder in {path.parent for path in used}:
            for other in {*folder.glob(f"*{STAMP}")} - used:
                with suppress(OSError):
                    other.unlink()

    def _folder(self, stage: Stage, part: str) -> Path:
        return self.folder / "-".join(filter(None, [stage.name, part]))


def _require_known_scene(stage: Stage, config: Config) -> None:
    if stage.name == "export" and not config.policies.scene.is_usual:
        raise UserError(
            "policies.scene: the formats' readers know gym-pusht's scene alone, so data in other "
            "scenes are not exported; ask for results/dataset.h5, or leave policies.scene as it is"
        )
    needs_model = {"model", "ensembles"} & set(stage.reads) and stage.name != "settings_page"
    if needs_model and not config.policies.scene.suits_models:
        raise UserError(
            "policies.scene: models know gym-pusht's block, agent and walls alone, so only data "
            "can be made in other scenes; ask for results/dataset.h5, or leave block_scale, "
            "agent_radius and walls as they are"
        )


def _content(path: Path) -> bytes:
    """The bytes of a stamp; none if it cannot be read."""
    with suppress(OSError):
        return read_file(path, MOST)
    return b""
