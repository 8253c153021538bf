"""The tables of planning, from episodes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nsf_pipeline import label, paths
from nsf_pipeline.config import Config, ProtocolConfig
from nsf_pipeline.data import store
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import FileError, again, require_folder
from nsf_pipeline.protocols import goal_tables, push_tables, rows, second_tables, tables
from nsf_pipeline.protocols.goal_tables import Tried
from nsf_pipeline.protocols.one_push import Trial
from nsf_pipeline.protocols.push_tables import Judged
from nsf_pipeline.protocols.rows import SECOND_ROUND, SECOND_WORLDS, Row, variant_of
from nsf_pipeline.protocols.tables import Played
from nsf_pipeline.provenance import Record, require_current
from nsf_pipeline.pusht.episode import MAX_STEPS
from nsf_pipeline.stages import STAGES
from nsf_pipeline.stages.planners import read_seconds
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
    """Write the short table of the default run; the arguments and errors are those of `run`.

    Raises:
        UserError: by the settings there is no such table.
    """
    if not config.protocols.short_episodes:
        raise UserError(
            "protocols.short_episodes = 0: there is no short table; set it, for example to 40"
        )
    played = [_played(config, row, episodes, seconds) for row in rows.short(config.protocols)]
    require_folder(folder)
    table = tables.standard([each for each, _ in played], tables.THRESHOLDS[:1])
    text = tables.short_text(table)
    sources = [made for _, records in played for made in records]
    made = Record.new(STAGES["short_planning"], config, *sources)
    _write(folder, paths.PLANNED_SHORT, made, table, text)


def pushes(config: Config, chosen: Path, times: Path, folder: Path) -> None:
    """Write the table of one push under noise.

    Args:
        config: the settings.
        chosen: folder of the models' folders of shards.
        times: folder of the models' folders of times.
        folder: where the reports go.

    Raises:
        FileError: a shard cannot be read or is stale, or a report cannot be written.
    """
    trial = trial_of(config.protocols)
    found = [_judged(config, world, chosen, times) for world in rows.worlds(config.protocols)]
    require_folder(folder)
    table = push_tables.one_push([each for each, _ in found], trial)
    text = push_tables.one_push_text(table, trial)
    sources = [made for _, records in found for made in records]
    made = Record.new(STAGES["push_tables"], config, *sources)
    _write(folder, paths.PUSHED, made, table, text)


def goals(config: Config, tried: Path, times: Path, folder: Path) -> None:
    """Write the table of goals some steps ahead; the arguments are those of `pushes`."""
    spans = [(0, config.protocols.goal_tasks)]
    found, sources = [], []
    for row in rows.goals(config.protocols):
        arrays, records = _arrays(
            config, "goals", row.trained, tried / row.name, row._asdict(), spans, 2 * row.steps
        )
        found.append(Tried(row, arrays, _took(times / row.name, len(spans))))
        sources += records
    require_folder(folder)
    table = goal_tables.goals(found)
    text = goal_tables.goals_text(table)
    made = Record.new(STAGES["goal_tables"], config, *sources)
    _write(folder, paths.REACHED, made, table, text)


def second_round(
    config: Config,
    episodes: Path,
    seconds: Path,
    chosen: Path,
    push_seconds: Path,
    folder: Path,
) -> None:
    """Write the table of what a second round of data brings.

    Args:
        config: the settings.
        episodes: folder of the rows' folders of shards.
        seconds: folder of the rows' folders of times.
        chosen: folder of the models' folders of shards of one push.
        push_seconds: folder of the models' folders of times.
        folder: where the reports go.

    Raises:
        FileError: a shard cannot be read or is stale, or a report cannot be written.
    """
    judged = [_judged(config, world, chosen, push_seconds) for world in SECOND_WORLDS]
    played = [
        _played(config, row, episodes, seconds) for row in rows.second_round(config.protocols)
    ]
    require_folder(folder)
    of = {each.row: each for each, _ in played}
    pairs = [
        (each, of[row._replace(model=f"{SECOND_ROUND}_4")])
        for row, each in of.items()
        if row.trained != SECOND_ROUND
    ]
    (flow, _), (second, _) = judged
    table = second_tables.second_round((flow, second), config.protocols.push_noise, pairs)
    text = second_tables.second_round_text(
        table, config.second_round.trajectories, config.all_trajectories
    )
    sources = [made for _, records in (*judged, *played) for made in records]
    made = Record.new(STAGES["second_tables"], config, *sources)
    _write(folder, paths.SECOND, made, table, text)


def _write(
    folder: Path, files: Mapping[str, str], made: Record, table: pd.DataFrame, text: str
) -> None:
    """Write a table, as CSV and as a page, with what made it; and print the page."""
    write_reports(folder, files, made, {"table": tables.as_csv(table), "text": text}, {})
    say(text)


def trial_of(config: ProtocolConfig) -> Trial:
    """What one push is tried under, by the settings."""
    return Trial(config.push_noise, config.push_candidates, config.push_runs)


def _judged(config: Config, world: str, chosen: Path, times: Path) -> tuple[Judged, list[Record]]:
    """All tasks of a model, and the records of their shards."""
    described = {"model": world, **trial_of(config.protocols)._asdict()}
    spans = config.protocols.push_shards
    arrays, records = _arrays(
        config, "pushes", rows.trained(world), chosen / world, described, spans
    )
    return Judged(world, arrays, _took(times / world, len(spans))), records


def _played(config: Config, row: Row, episodes: Path, seconds: Path) -> tuple[Played, list[Record]]:
    """All episodes of a row, and the records of their shards."""
    spans = rows.shards(row, config.protocols)
    folder = episodes / row.name
    arrays, records = _arrays(
        config, "episodes", row.trained, folder, row.described(), spans, MAX_STEPS
    )
    first_seed = config.protocols.first_seed
    others = np.flatnonzero(arrays["seed"] != first_seed + arrays["episode"])
    if len(others):
        path = paths.shard_in(folder, int(others[0]) // config.protocols.shard_size)
        raise FileError(
            f"{path}: its episodes were not reset with the seeds from protocols.first_seed = "
            f"{first_seed} on; {again(path)}"
        )
    return Played(row, arrays, _took(seconds / row.name, len(spans))), records


def _arrays(
    config: Config,
    kind: str,
    trained: str,
    folder: Path,
    described: Mapping[str, Any],
    spans: Sequence[tuple[int, int]],
    steps: int | None = None,
) -> tuple[dict[str, np.ndarray], list[Record]]:
    """The arrays of all shards in a folder, in order, and the shards' records.

    Args:
        config: the settings.
        kind: of file.
        trained: the trained model behind them; empty for none.
        folder: of the shards.
        described: what each file must say of the row that it belongs to.
        spans: the numbers of the first item of each shard, and one past its last.
        steps: the length of the axis S, if they have it.
    """
    variant = variant_of(trained)
    own = config.variant(variant) if variant else config
    parts, records = [], []
    for number, (first, stop) in enumerate(spans):
        path = paths.shard_in(folder, number)
        with store.reading(path, kind) as file:
            records.append(require_current(path, store.record_of(file), own))
            held = label.mapping(file.attrs.get("row", "{}").encode())
            span = int(file.attrs["first"]), int(file.attrs["stop"])
            length = file["actions"].shape[1] if steps else None
            if (held, span, length) != (dict(described), (first, stop), steps):
                raise FileError(
                    f"{path}: expected {kind} {first} to {stop - 1} of {folder.name}, got others; "
                    f"{again(path)}"
                )
            parts.append({name: file[name][...] for name in store.SCHEMAS[kind]})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}, records


def _took(folder: Path, shards: int) -> float:
    """Seconds that all shards took."""
    return sum(read_seconds(paths.shard_in(folder, number, "json")) for number in range(shards))
