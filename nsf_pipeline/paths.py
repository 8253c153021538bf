"""Where the files of a run lie, seen from its folder. Rules and verbs take them from here."""

from pathlib import Path

RESULTS = "results"
POLICIES = "results/policies/{shard}.h5"
ROLLOUTS = "results/rollouts/{shard}.h5"
DATASET = "results/dataset.h5"
METADATA = "results/dataset.meta.json"
PICTURE = "results/dataset.png"
ENSEMBLES = "results/ensembles/{shard}.h5"
MODEL = "results/model.eqx"
METRICS = "results/training/metrics.csv"
CURVES = "results/training/curves.png"
CHECKPOINTS = "checkpoints"  # beside the metrics
EVALUATION = "results/evaluation"
ABLATIONS = "results/ablations"
COMPARISON = "results/comparison"  # by hand
VIDEO = "results/videos/{trajectory}.mp4"
PREDICTION = "results/videos/predicted/test_{place}.mp4"
PAGE = "results/report/{page}.html"
UPLOAD = "results/wandb.json"
STAMPS = "results/stamps"
LOG = "results/logs/{job}.log"
BENCHMARK = "results/benchmarks/{job}.tsv"

SCORES = {
    "table": "horizons.csv",
    "text": "horizons.md",
    "intervals": "intervals.csv",
    "distances": "distances.csv",
    "ranks": "calibration.csv",
    "consistency": "consistency.csv",
    "skill": "skill.png",
    "calibration": "calibration.png",
    "figure": "block_positions.png",
    "provenance": "provenance.json",
}
"""What an evaluation leaves in its folder, by what it is."""
SPEED = {
    "table": "speed.csv",
    "text": "speed.md",
    "figure": "accuracy_against_cost.png",
    "provenance": "speed.json",
}
"""What a measurement of speed leaves in its folder, by what it is."""


def of_variant(path: str, variant: str) -> str:
    """Where a variant of the model has what the default model has at a path."""
    return path.replace(RESULTS, f"{RESULTS}/variants/{variant}", 1) if variant else path


RECORDED = (
    POLICIES,
    ROLLOUTS,
    DATASET,
    METADATA,
    PICTURE,
    MODEL,
    CURVES,
    of_variant(MODEL, "{variant}"),
    of_variant(CURVES, "{variant}"),
    ENSEMBLES,
    f"{EVALUATION}/{SCORES['provenance']}",
    f"{ABLATIONS}/{SCORES['provenance']}",
    f"{ABLATIONS}/{SPEED['provenance']}",
    VIDEO,
    PREDICTION,
    UPLOAD,
    PAGE,
)
"""Files that say what made them, the reports beside a provenance file included; sources first."""


def below(folder: Path, path: str) -> Path:
    """What lies at a path, where a folder takes the place of `RESULTS`."""
    return folder / Path(path).relative_to(RESULTS)


def shard_name(number: int) -> str:
    """Five digits."""
    return f"{number:05d}"


def shard_in(folder: Path, number: int) -> Path:
    """The file of a shard."""
    return folder / f"{shard_name(number)}.h5"
