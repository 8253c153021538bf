"""A data set written for other people's tools."""

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

from nsf_pipeline import paths
from nsf_pipeline.config import Config, ExportConfig
from nsf_pipeline.data import store
from nsf_pipeline.data.exports import Format, Source, chosen_from, format_of
from nsf_pipeline.files import FileError, new_folder, require_new
from nsf_pipeline.provenance import Record, require_current
from nsf_pipeline.stages import STAGES, say
from nsf_pipeline.system.printing import say as print_line

STAGE = STAGES["export"]
DISK_IS_FULL = ("No space left", "errno = 28", "os error 28")
"""How libraries say so, in many words."""


def run(
    config: Config | None,
    dataset: Path,
    name: str,
    chosen: ExportConfig,
    output: Path,
    jobs: int = 1,
) -> None:
    """Write chosen trajectories of a data set in a format.

    Args:
        config: settings that must have made the data set; None accepts any data set.
        dataset: the data set: one file, or the index of several.
        name: of the format.
        chosen: which trajectories, and the size of their frames.
        output: a new folder.
        jobs: processes that render.

    Raises:
        UserError: there is no such format, its library is not installed, or no trajectory is left.
        FileError: the data set cannot be read or is stale, or the folder exists or cannot be
            written; nothing is left half written.
    """
    started = time.monotonic()
    format_ = format_of(name)
    format_.require_libraries()
    require_new(output)
    with store.reading(dataset, "dataset") as file:
        made = require_current(dataset, store.record_of(file), config)
        origin = store.origin(dataset, file)
        with (
            chosen_from(dataset, file, chosen, replays=format_.replays, jobs=jobs) as source,
            new_folder(output) as beside,
        ):
            notes = _written(format_, source, beside, output)
            size = sum(path.stat().st_size for path in beside.rglob("*") if path.is_file())
            held = {
                "format": name,
                "frames": chosen.frames,
                "successes_only": chosen.successes_only,
                "contact_only": chosen.contact_only,
                "chosen_splits": chosen.splits,
                "trajectories": len(source),
                "steps": source.steps,
                "splits": source.splits,
                "bytes": size,
                "libraries": format_.versions(),
                **notes,
            }
            fields = {"export": held} | Record.new(STAGE, None, made).fields()
            text = json.dumps(fields, indent=2, sort_keys=True) + "\n"
            (beside / paths.RECEIPT).write_text(text, encoding="utf-8")
    if not config:
        print_line(origin)
    for key, value in notes.items():
        print_line(f"{key}: {value}")
    seconds = time.monotonic() - started
    each = f"{size / len(source) / 1e3:.1f} kB each, {len(source) / seconds:.0f} trajectories/s"
    say(output, f"{len(source)} trajectories for {format_.reader}, {each}", started)


def _written(format_: Format, source: Source, beside: Path, output: Path) -> dict[str, Any]:
    """Write an export to a temporary folder; failures are told of the final one, in one line."""
    whole = beside.absolute()  # Minari joins a relative one to itself
    try:
        return format_.write(source, whole)
    except FileError as error:
        raise FileError(str(error).replace(str(whole), str(output))) from None
    except (OSError, RuntimeError) as error:
        if any(part in str(error) for part in DISK_IS_FULL):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
        raise
