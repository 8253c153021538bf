"""The tables of planning, from episodes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from nsf_pipeline import paths
from nsf_pipeline.config import Config, ProtocolConfig
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import require_folder
from nsf_pipeline.protocols import goal_tables, push_tables, rows, second_tables, tables
from nsf_pipeline.protocols.goal_tables import Tried
from nsf_pipeline.protocols.one_push import Trial
from nsf_pipeline.protocols.push_tables import Judged
from nsf_pipeline.protocols.rows import SECOND_ROUND, SECOND_WORLDS, Row
from nsf_pipeline.protocols.tables import Played
from nsf_pipeline.provenance import Record
from nsf_pipeline.stages import STAGES
from nsf_pipeline.stages.planners import read_seconds
from nsf_pipeline.stages.reports import write_reports
from nsf_pipeline.stages.trials import arrays_of, episodes_of
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
        arrays, records = arrays_of(
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
    arrays, records = arrays_of(
        config, "pushes", rows.trained(world), chosen / world, described, spans
    )
    return Judged(world, arrays, _took(times / world, len(spans))), records


def _played(config: Config, row: Row, episodes: Path, seconds: Path) -> tuple[Played, list[Record]]:
    """All episodes of a row, and the records of their shards."""
    arrays, records = episodes_of(config, row, episodes / row.name)
    shards = len(rows.shards(row, config.protocols))
    return Played(row, arrays, _took(seconds / row.name, shards)), records


def _took(folder: Path, shards: int) -> float:
    """Seconds that all shards took."""
    return sum(read_seconds(paths.shard_in(folder, number, "json")) for number in range(shards))
