"""The time that a predicted trajectory takes, for models and simulators."""

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nsf_pipeline.config import Config
from nsf_pipeline.evaluation import speed
from nsf_pipeline.evaluation.tables import FLOW, as_csv
from nsf_pipeline.files import require_folder
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.paths import SPEED
from nsf_pipeline.provenance import Record, require_reports
from nsf_pipeline.stages import STAGES
from nsf_pipeline.stages.reports import load_models, write_reports
from nsf_pipeline.system.printing import say

STAGE = STAGES["speed"]


@with_defaults
def run(
    config: Config,
    model_path: Path,
    variants: Mapping[str, Path],
    dataset: Path,
    scores: Path,
    provenance: Path | None,
    folder: Path,
    threads: int | None = None,
) -> None:
    """Time predictions to the longest horizon; write tables, a figure and what made them.

    Nothing else should run on the machine meanwhile.

    Args:
        config: the settings.
        model_path: `model.eqx`, which tables call `flow`.
        variants: other models' files, by the names that tables give them.
        dataset: its test split holds the states to start from.
        scores: `horizons.csv`, for the accuracy in the figure.
        provenance: JSON that says what made the scores; None accepts any.
        folder: where the reports go.
        threads: cores to simulate on; None for all.

    Raises:
        FileError: a file cannot be read, is stale, or cannot be written.
        UserError: no test trajectory is as long as the horizon.
    """
    started = time.monotonic()
    horizon = max(config.ensembles.horizons)
    crps = speed.read_crps(scores, horizon)
    if provenance:
        require_reports(provenance, [scores], config)
    models, sources = load_models({FLOW: model_path, **variants}, dataset, config)
    view, cores = STAGE.view(config), threads or len(os.sched_getaffinity(0))
    starts = speed.choose_starts(view, dataset, horizon, max(config.speed.sizes))
    require_folder(folder)
    table = speed.measure(view, models, starts, horizon, cores)
    text = speed.as_markdown(table, horizon, view, cores, time.monotonic() - started)
    reports = {"table": as_csv(table), "text": text}

    def draw() -> Any:
        # Imported here, because it is not needed for the table and may fail.
        from nsf_pipeline.evaluation.cost import accuracy_against_cost

        return accuracy_against_cost(table, crps, horizon)

    made = Record.new(STAGE, config, *sources)
    write_reports(folder, SPEED, made, reports, {"figure": draw})
    say(text)
