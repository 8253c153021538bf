"""The evaluation and videos, logged to the Weights & Biases run of the model's training."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from nsf_pipeline import paths
from nsf_pipeline.config import Config
from nsf_pipeline.files import replacing
from nsf_pipeline.model.file import model_header
from nsf_pipeline.provenance import Record, require_current, require_reports
from nsf_pipeline.stages import STAGES, say
from nsf_pipeline.tracking import WandbRun

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
    """Go on with the run that the training started, or start one; and write down which it is.

    Whatever W&B does, this does not fail for it.

    Args:
        config: whether and where to.
        model: its header names the run's settings.
        metrics: the history of training, in the folder that holds the checkpoints.
        table: scores, as CSV.
        provenance: JSON that says what made the scores; without, any will do.
        videos: logged under their files' names.
        output: JSON with the run's id and mode.

    Raises:
        FileError: a file cannot be read or is not of the settings, or the output not written.
    """
    started = time.monotonic()
    made = require_current(model, Record.read(model_header(model)), config)
    if provenance:
        require_reports(provenance, [table], config)
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
