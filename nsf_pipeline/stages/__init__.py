"""The stages: functions from settings and paths to files.

Each reads and checks its sources, calls what computes, and writes. `cli` gives each a verb; which
files go into which, the workflow's rules say.
"""

import time
from pathlib import Path

from nsf_pipeline.config import Config
from nsf_pipeline.provenance import Stage

# The settings that shape a stage's files: what it reads, and what shaped its sources.
POLICIES = ("seed", "shard_size", "dmp", "policies")
ROLLOUTS = (*POLICIES, "simulation")
DATASET = (*ROLLOUTS, "num_trajectories", "dataset")
MODEL = (*DATASET, "model", "training")
ENSEMBLES = (*DATASET, "ensembles")
EVALUATION = (*MODEL, "ensembles", "evaluation")
COMPARISON = (*EVALUATION, "variants")
SPEED = (*COMPARISON, "speed")

STAGES = {
    name: Stage(name, f"nsf_pipeline.stages.{module}", reads)
    for name, module, reads in (
        ("policies", "policies", POLICIES),
        ("rollouts", "rollouts", ROLLOUTS),
        ("dataset", "dataset", DATASET),
        ("picture", "picture", DATASET),
        ("train", "train", MODEL),
        ("ensembles", "ensembles", ENSEMBLES),
        ("evaluate", "evaluate", EVALUATION),
        ("compare", "evaluate", COMPARISON),
        ("speed", "speed", SPEED),
        ("upload", "upload", (*EVALUATION, "wandb")),
        # Settings choose which videos there are, not what is in one.
        ("video", "video", ROLLOUTS),
        ("ranked_video", "video", DATASET),
        ("prediction", "prediction", MODEL),
        ("table_page", "pages", EVALUATION),
        ("ablation_page", "pages", SPEED),
        ("video_page", "pages", MODEL),
        ("settings_page", "pages", tuple(Config.model_fields)),
    )
}


def say(output: Path, what: str, started: float) -> None:
    """A line of a job's log: what was written, and the seconds since it started.

    Args:
        output: the file.
        what: it holds.
        started: what `time.monotonic` gave then; s.
    """
    print(f"{output}: {what}, {time.monotonic() - started:.1f} s", flush=True)
