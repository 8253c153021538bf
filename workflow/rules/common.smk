# What the rules share: the checked settings, and what makes a job stale.
import json

from nsf_pipeline.config import ConfigError, parse_config
from nsf_pipeline.provenance import source_digest, stage_settings

try:
    SETTINGS = parse_config(config, "config")
except ConfigError as error:
    print(error, file=sys.stderr)
    sys.exit(1)

SHARDS = [f"{shard:05d}" for shard in range(SETTINGS.num_shards)]
ENSEMBLES = [f"{shard:05d}" for shard in range(SETTINGS.ensembles.num_shards)]
VIDEOS = [f"results/videos/{index:07d}.mp4" for index in SETTINGS.videos.trajectories]
VIDEOS += [f"results/videos/{name}.mp4" for name in SETTINGS.videos.ranked]
PREDICTIONS = [
    f"results/videos/predicted/test_{place:07d}.mp4" for place in SETTINGS.videos.predicted
]
# The evaluation's tables for people, as the report shows them.
TABLES = ["results/evaluation/horizons.md"]
VARIANTS = SETTINGS.variant_names
# Where training is logged to is no parameter of the job: changing it makes no model stale.
os.environ.setdefault("WANDB_MODE", SETTINGS.wandb.mode)
os.environ.setdefault("WANDB_PROJECT", SETTINGS.wandb.project)


wildcard_constraints:
    shard=r"\d{5}",
    trajectory=r"\d{7,10}|best|median|worst",
    place=r"\d{7,10}",
    variant="|".join(VARIANTS) or "(?!)",


def settings_of(stage, variant=""):
    """The settings that a stage and those before it read: they are a job's `--config`."""
    settings = SETTINGS.variant(variant) if variant else SETTINGS
    return json.dumps(stage_settings(stage, settings))


def code_of(stage):
    """Hash of the modules that a stage runs: a job is stale when it changes."""
    return source_digest(stage)


def holder_of(wildcards):
    """The file that holds a trajectory: its rollout shard, or all of them to rank."""
    if not wildcards.trajectory.isdecimal():
        return "results/dataset.h5"
    return f"results/rollouts/{int(wildcards.trajectory) // SETTINGS.shard_size:05d}.h5"


def options_of(models):
    """The command's options that name models."""
    return [part for name, path in models.items() for part in ("--variant", f"{name}={path}")]
