"""Settings of the exports."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nsf_pipeline.config.section import Section, require_each_once

ExportFormat = Literal[
    "npz",
    "minari",
    "lerobot",
    "diffusion_policy",
    "stable_worldmodel",
    "stable_worldmodel_lance",
]
Split = Literal["train", "validation", "test"]
FrameSize = Literal[0, 96, 224]


class ExportConfig(Section):
    """What `snakemake export` writes for other people's tools, one folder per format."""

    formats: Annotated[tuple[ExportFormat, ...], Field(min_length=1, max_length=6)] = (
        "npz",
        "minari",
        "lerobot",
        "diffusion_policy",
        "stable_worldmodel",
        "stable_worldmodel_lance",
    )
    """Formats, one folder each."""
    splits: Annotated[tuple[Split, ...], Field(min_length=1, max_length=3)] = (
        "train",
        "validation",
        "test",
    )
    """Splits of the data set, in the order in which their trajectories are written."""
    successes_only: bool = False
    """Leave out trajectories that do not succeed."""
    contact_only: bool = False
    """Leave out trajectories that do not move the block."""
    frames: FrameSize = 96
    """px; width and height of the rendered frames; 0: none."""

    @model_validator(mode="after")
    def _names_each_once(self) -> "ExportConfig":
        require_each_once("formats", self.formats, "format")
        require_each_once("splits", self.splits, "split")
        return self
