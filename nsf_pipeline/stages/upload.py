"""The evaluation and videos, logged to the Weights & Biases run of the model's training."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from nsf_pipeline import paths
from nsf_pipeline.config import Config
from nsf_pipeline.files import read_table, replacing, require_file
from nsf_pipeline.model.file import model_header
from nsf_pipeline.provenance import Record, require_current, require_reports
from nsf_pipeline.stages import STAGES, say
from nsf_pipeline.tracking import WandbRun, history_in

STAGE = STAGES["upload"]


def run(
    config: Config,
    model: Path,
    metrics: Path,
    table: Path,
    provenance: Path | None,
    videos: Sequence[Path],
    output: Path,
) -> None:
    """Continue the run that the training started, or start one, and write its id to a file.

    A failure of W&B does not fail the job.

    Args:
        config: the settings; `wandb` says whether and where to log.
        model: its header holds the run's settings.
        metrics: the history of training as CSV, in the folder that holds the checkpoints.
        table: scores, as CSV.
        provenance: JSON that says what made the scores; None accepts any.
        videos: logged under the names of their files.
        output: JSON with the run's id and mode.

    Raises:
        FileError: a file cannot be read or is stale, or the output cannot be written.
    """
    started = time.monotonic()
    made = require_current(model, Record.read(model_header(model)), config)
    if provenance:
        require_reports(provenance, [table], config)
    read_table(table)
    if metrics.exists():
        history_in(metrics)
    for video in videos:
        require_file(video)
    folder = metrics.parent
    checkpoints = folder / paths.CHECKPOINTS / made.fingerprint
    with WandbRun(config.wandb, folder, checkpoints, made.settings) as tracked:
        tracked.log_history(metrics)
        tracked.log_table(table.stem, table)
        for video in videos:
            tracked.log_video(video.stem, video)
        tracked.finish({})
    fields = Record.new(STAGE, config, made).fields()
    fields |= {"run": tracked.id, "mode": tracked.mode}
    with replacing(output) as beside:
        beside.write_text(json.dumps(fields, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    say(output, f"{table} and {len(videos)} videos, {tracked.mode}", started)
