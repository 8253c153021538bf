"""The stages: functions from settings and paths to files.

Each one reads and checks its sources, calls the code that computes, and writes the results. `cli`
has a verb for each. The workflow's rules say which files each stage reads.
"""

import time
from pathlib import Path

from nsf_pipeline.config import Config
from nsf_pipeline.provenance import Stage
from nsf_pipeline.system import printing

# The settings that shape a stage's files: what it reads, and what shaped its sources.
POLICIES = ("seed", "shard_size", "dmp", "policies")
DATASET = (*POLICIES, "num_trajectories", "dataset")
MODEL = (*DATASET, "model", "training")
ENSEMBLES = (*DATASET, "ensembles")
EVALUATION = (*MODEL, "ensembles", "evaluation")
COMPARISON = (*EVALUATION, "variants")
SPEED = (*COMPARISON, "speed")
SCALING = (*EVALUATION, "scaling")
PLANNING = (*MODEL, "planning")
# Which rows there are shapes the tables, but no episode.
PROTOCOLS = (*PLANNING, "variants", "protocols")

SECOND_ROUND = (*PLANNING, "second_round")

STAGES = {
    name: Stage(name, f"nsf_pipeline.stages.{module}", reads)
    for name, module, reads in (
        ("policies", "policies", POLICIES),
        ("rollouts", "rollouts", POLICIES),
        ("dataset", "dataset", DATASET),
        ("picture", "picture", DATASET),
        ("train", "train", MODEL),
        # A variant of a user's class.
        ("user_train", "user_train", MODEL),
        ("ensembles", "ensembles", ENSEMBLES),
        ("evaluate", "evaluate", EVALUATION),
        ("compare", "evaluate", COMPARISON),
        ("speed", "speed", SPEED),
        ("scaling", "scaling", SCALING),
        # Not `second_round`: how many trajectories it has changes none of them.
        ("second_policies", "second_round", PLANNING),
        ("second_dataset", "dataset", SECOND_ROUND),
        ("second_train", "train", SECOND_ROUND),
        ("second_episodes", "episodes", SECOND_ROUND),
        ("second_pushes", "pushes", SECOND_ROUND),
        ("second_tables", "planning", (*PROTOCOLS, "second_round")),
        ("episodes", "episodes", PLANNING),
        # No model is behind them, so no data either.
        ("untrained_episodes", "episodes", ("seed", "dmp", "planning")),
        ("pushes", "pushes", PLANNING),
        ("untrained_pushes", "pushes", (*DATASET, "planning")),
        ("goals", "goals", PLANNING),
        ("untrained_goals", "goals", (*DATASET, "planning")),
        ("goal_tables", "planning", PROTOCOLS),
        ("push_tables", "planning", PROTOCOLS),
        ("planning_tables", "planning", PROTOCOLS),
        ("short_planning", "planning", PROTOCOLS),
        # No other variant than the flow is shown.
        ("episode_videos", "episode_videos", (*PLANNING, "protocols")),
        ("upload", "upload", (*EVALUATION, "wandb")),
        # Not `videos`: these settings choose which videos are made, not what one shows.
        ("video", "video", POLICIES),
        ("ranked_video", "video", DATASET),
        ("prediction", "prediction", MODEL),
        # Not `exports`: these settings choose what is written, which the stamp holds besides.
        ("export", "export", DATASET),
        ("import", "imports", POLICIES),
        ("table_page", "pages", EVALUATION),
        ("ablation_page", "pages", SPEED),
        ("scaling_page", "pages", SCALING),
        ("planning_page", "pages", PROTOCOLS),
        ("second_page", "pages", (*PROTOCOLS, "second_round")),
        ("episode_page", "pages", (*PLANNING, "protocols")),
        ("video_page", "pages", MODEL),
        ("settings_page", "pages", tuple(Config.model_fields)),
    )
}

TITLE = "title"
"""Field of a video's comment: what it shows, for its page."""

STATISTICS = STAGES["dataset"]._replace(name="statistics", reads=(*POLICIES, "dataset"))
"""The first half of `dataset`, for a part of the data: it does not depend on how many there are."""


def say(output: Path, what: str, started: float) -> None:
    """Print a line of a job's log: what was written, and the seconds since the job started.

    Args:
        output: the file.
        what: what the file holds.
        started: `time.monotonic()` when the job started; s.
    """
    printing.say(f"{output}: {what}, {time.monotonic() - started:.1f} s")
