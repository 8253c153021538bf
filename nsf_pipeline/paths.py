"""Paths of a run's files, relative to the run's folder, for the rules and the command line."""

from pathlib import Path

RESULTS = "results"
POLICIES = "results/policies/{shard}.h5"
ROLLOUTS = "results/rollouts/{shard}.h5"
STATISTICS = "results/statistics/{part}.jsonl"
PART = "results/dataset/{part}.h5"
DATASET = "results/dataset.h5"
METADATA = "results/dataset.meta.json"
PICTURE = "results/dataset.png"
ENSEMBLES = "results/ensembles/{shard}.h5"
MODEL = "results/model.eqx"
METRICS = "results/training/metrics.csv"
CURVES = "results/training/curves.png"
CHECKPOINTS = "checkpoints"  # in the folder of the metrics
EVALUATION = "results/evaluation"
SECOND_ROUND = "results/second_round"
ABLATIONS = "results/ablations"
SCALING = "results/scaling"
PLANNING = "results/planning"
EPISODES = "results/planning/episodes/{row}/{shard}.h5"
PUSHES = "results/planning/pushes/{world}/{shard}.h5"
GOALS = "results/planning/goals/{goal_row}/{shard}.h5"
SECONDS = "results/planning/seconds/{row}/{shard}.json"
PUSH_SECONDS = "results/planning/push_seconds/{world}/{shard}.json"
GOAL_SECONDS = "results/planning/goal_seconds/{goal_row}/{shard}.json"
EPISODE_VIDEO = "results/planning/videos/{shown}.mp4"
COMPARISON = "results/comparison"  # of `nsf evaluate --variant`, not of the workflow
VIDEO = "results/videos/{trajectory}.mp4"
PREDICTION = "results/videos/predicted/test_{place}.mp4"
EXPORT = "results/exports/{format}"
PAGE = "results/report/{page}.html"
UPLOAD = "results/wandb.json"
STAMPS = "results/stamps"
LOG = "results/logs/{job}.log"
BENCHMARK = "results/benchmarks/{job}.tsv"

RECEIPT = "nsf_pipeline.json"
"""File in the folder of an export that says what made it, and what it holds."""
SCORES = {
    "table": "horizons.csv",
    "text": "horizons.md",
    "intervals": "intervals.csv",
    "distances": "distances.csv",
    "noise": "noise.csv",
    "ranks": "calibration.csv",
    "consistency": "consistency.csv",
    "open_loop": "open_loop.csv",
    "skill": "skill.png",
    "calibration": "calibration.png",
    "figure": "block_positions.png",
    "provenance": "provenance.json",
}
"""Files that an evaluation writes to its folder, by what they hold."""
SPEED = {
    "table": "speed.csv",
    "text": "speed.md",
    "figure": "accuracy_against_cost.png",
    "provenance": "speed.json",
}
"""Files that a measurement of speed writes to its folder, by what they hold."""
SCALED = {
    "table": "scaling.csv",
    "text": "scaling.md",
    "figure": "scaling.png",
    "provenance": "scaling.json",
}
"""Files of the scaling curves in their folder, by what they hold."""
PLANNED = {
    "table": "pusht.csv",
    "text": "pusht.md",
    "harder": "harder.csv",
    "harder_text": "harder.md",
    "figure": "starts.png",
    "provenance": "episodes.json",
}
"""Tables of episodes in the folder of planning, by what they hold."""
PUSHED = {"table": "one_push.csv", "text": "one_push.md", "provenance": "pushes.json"}
"""Tables of one push under noise in that folder, by what they hold."""
REACHED = {"table": "goals.csv", "text": "goals.md", "provenance": "goals.json"}
"""Tables of goals some steps ahead in that folder, by what they hold."""
SECOND = {
    "table": "second_round.csv",
    "text": "second_round.md",
    "provenance": "second_round.json",
}
"""Tables of what a second round of data brings, in that folder, by what they hold."""
PLANNED_SHORT = {"table": "short.csv", "text": "short.md", "provenance": "short.json"}
"""The short table of the default run in that folder."""
SUCCESSES = {
    "success_fastest": "fastest",
    "success_median": "median",
    "success_slowest": "slowest",
}
"""Names of the videos of episodes that succeed, and which of these each is."""
HARDEST = {"hardest_1": "hardest", "hardest_2": "second hardest", "hardest_3": "third hardest"}
"""Names of the videos of episodes that come least far, and which of these each is."""


def of_variant(path: str, variant: str) -> str:
    """The path for a variant that corresponds to a path of the default model."""
    return path.replace(RESULTS, f"{RESULTS}/variants/{variant}", 1) if variant else path


def of_second_round(path: str) -> str:
    """The path in the second round that corresponds to a path of the first."""
    return path.replace(RESULTS, SECOND_ROUND, 1)


RECORDED = (
    POLICIES,
    ROLLOUTS,
    STATISTICS,
    PART,
    DATASET,
    METADATA,
    PICTURE,
    MODEL,
    CURVES,
    of_variant(MODEL, "{variant}"),
    of_variant(CURVES, "{variant}"),
    *map(of_second_round, (POLICIES, ROLLOUTS, DATASET, METADATA, MODEL, CURVES)),
    ENSEMBLES,
    f"{EVALUATION}/{SCORES['provenance']}",
    f"{ABLATIONS}/{SCORES['provenance']}",
    f"{ABLATIONS}/{SPEED['provenance']}",
    f"{SCALING}/{SCALED['provenance']}",
    EPISODES,
    PUSHES,
    GOALS,
    f"{PLANNING}/{REACHED['provenance']}",
    f"{PLANNING}/{PUSHED['provenance']}",
    f"{PLANNING}/{SECOND['provenance']}",
    f"{PLANNING}/{PLANNED_SHORT['provenance']}",
    f"{PLANNING}/{PLANNED['provenance']}",
    EPISODE_VIDEO,
    VIDEO,
    PREDICTION,
    UPLOAD,
    f"{EXPORT}/{RECEIPT}",
    PAGE,
)
"""Files with a record of what made them, sources first; provenance files cover their reports."""

FOLDERS = sorted(
    {
        str(parent)
        for path in (*RECORDED, METRICS, f"{STAMPS}/x", LOG, BENCHMARK)
        for parent in Path(path).parents
        if parent != Path() and "{" not in str(parent)
    }
)
"""The folders of a run, each after those that it lies in."""


def below(folder: Path, path: str) -> Path:
    """A path, with a folder in place of `RESULTS`."""
    return folder / Path(path).relative_to(RESULTS)


def shard_name(number: int) -> str:
    """The number of a shard in five digits."""
    return f"{number:05d}"


def shard_in(folder: Path, number: int, kind: str = "h5") -> Path:
    """The file of a shard."""
    return folder / f"{shard_name(number)}.{kind}"
