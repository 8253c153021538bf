"""The evaluation's tables and a video, logged to the run that its model was trained under."""

import tempfile
from pathlib import Path
from typing import Any

from nsf_pipeline.config import Config
from nsf_pipeline.data.recording import record_trajectory
from nsf_pipeline.errors import UserError
from nsf_pipeline.tracking import RUN_ID, WandbRun


def log_evaluation(
    config: Config, header: dict[str, Any], model: Path, dataset: Path, table: Path
) -> None:
    """Log to the run whose id lies beside the model's checkpoints; without one, do nothing.

    Args:
        config: whether and where to.
        header: the model's.
        model: its file, in the folder that `training/` is in.
        dataset: its best trajectory is recorded.
        table: `horizons.csv`.
    """
    training = model.parent / "training"
    checkpoints = training / "checkpoints" / str(header.get("fingerprint"))
    if not (checkpoints / RUN_ID).exists():
        return
    settings = header.get("settings", {})
    with (
        WandbRun(config.wandb, training, checkpoints, settings) as run,
        tempfile.TemporaryDirectory() as folder,
    ):
        if run.mode == "disabled":
            return
        run.log_history(training / "metrics.csv")
        run.log_table("horizons", table)
        video = Path(folder) / "best.mp4"
        try:
            record_trajectory(dataset, "best", video)
            run.log_video("best trajectory", video)
        except UserError as error:
            print(f"wandb: no video: {error}", flush=True)
        run.finish({})
