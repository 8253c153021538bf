"""The tables of planning, from episodes."""

from pathlib import Path
from typing import Any

import numpy as np

from nsf_pipeline import label, paths
from nsf_pipeline.config import Config
from nsf_pipeline.data import store
from nsf_pipeline.files import FileError, again, read_file, require_folder
from nsf_pipeline.protocols import rows, tables
from nsf_pipeline.protocols.rows import FLOW, Row
from nsf_pipeline.protocols.tables import Played
from nsf_pipeline.provenance import Record, require_current
from nsf_pipeline.stages import STAGES
from nsf_pipeline.stages.reports import write_reports
from nsf_pipeline.system.printing import say


def run(config: Config, episodes: Path, seconds: Path, folder: Path) -> None:
    """Write the tables of the standard and the harder protocols.

    Args:
        config: the settings.
        episodes: folder of the rows' folders of shards.
        seconds: folder of the rows' folders of times.
        folder: where the reports go.

    Raises:
        FileError: a shard cannot be read or is stale, or a report cannot be written.
    """
    stage = STAGES["planning_tables"]
    protocols = config.protocols
    plain = [_played(config, row, episodes, seconds) for row in rows.standard(protocols)]
    hard = [_played(config, row, episodes, seconds) for row in rows.harder(protocols)]
    require_folder(folder)
    table = tables.standard([each for each, _ in plain])
    harder = tables.harder([each for each, _ in (*plain, *hard)])
    text = tables.standard_text(table)
    reports = {
        "table": tables.as_csv(table),
        "text": text,
        "harder": tables.as_csv(harder),
        "harder_text": tables.harder_text(harder),
    }

    def draw() -> Any:
        # Imported here, because it is not needed for the tables and may fail.
        from nsf_pipeline.protocols.figures import starts

        return starts([each for each, _ in plain])

    sources = [made for _, records in (*plain, *hard) for made in records]
    made = Record.new(stage, config, *sources)
    write_reports(folder, paths.PLANNED, made, reports, {"figure": draw})
    say(text)


def short(config: Config, episodes: Path, seconds: Path, folder: Path) -> None:
    """Write the short table of the default run; the arguments are those of `run`."""
    played = [_played(config, row, episodes, seconds) for row in rows.short(config.protocols)]
    require_folder(folder)
    table = tables.standard([each for each, _ in played], tables.THRESHOLDS[:1])
    text = tables.short_text(table)
    sources = [made for _, records in played for made in records]
    made = Record.new(STAGES["short_planning"], config, *sources)
    write_reports(
        folder, paths.PLANNED_SHORT, made, {"table": tables.as_csv(table), "text": text}, {}
    )
    say(text)


def _played(config: Config, row: Row, episodes: Path, seconds: Path) -> tuple[Played, list[Record]]:
    """All episodes of a row, and the records of their shards."""
    own = config.variant(row.trained) if row.trained not in ("", FLOW) else config
    parts, records, took = [], [], 0.0
    for number, (first, stop) in enumerate(rows.shards(row, config.protocols)):
        path = paths.shard_in(episodes / row.name, number)
        with store.reading(path, "episodes") as file:
            records.append(require_current(path, store.record_of(file), own))
            held = label.mapping(file.attrs["row"].encode())
            span = int(file.attrs["first"]), int(file.attrs["stop"])
            if (held, span) != (row.described(), (first, stop)):
                raise FileError(
                    f"{path}: expected episodes {first} to {stop - 1} of {row.name}, got others; "
                    f"{again(path)}"
                )
            parts.append({name: file[name][...] for name in store.EPISODES})
        took += _seconds(paths.shard_in(seconds / row.name, number, "json"))
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in store.EPISODES}
    return Played(row, arrays, took), records


def _seconds(path: Path) -> float:
    try:
        value = label.mapping(read_file(path, label.MAX_BYTES)).get("seconds")
    except OSError as error:
        raise FileError(f"{path}: cannot read it: {error.strerror}; {again(path)}") from None
    except label.LabelError as error:
        raise FileError(f"{path}: expected JSON with seconds; {again(path)} ({error})") from None
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1e9:
        raise FileError(f"{path}: expected seconds, got {value!r}; {again(path)}")
    return float(value)
