"""Settings of the logging to Weights & Biases."""

from typing import Literal

from pydantic import Field

from nsf_pipeline.config.section import Section


class WandbConfig(Section):
    """Logging of training to Weights & Biases, beside results/training/metrics.csv."""

    mode: Literal["offline", "online", "disabled"] = "offline"
    """The environment variable WANDB_MODE overrides it."""
    project: str = Field(default="nsf-pusht", min_length=1)
    """Project of the runs; the environment variable WANDB_PROJECT overrides it."""
