"""Settings of the videos."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from nsf_pipeline.config.dataset import DatasetConfig
from nsf_pipeline.config.section import Section, require_each_once
from nsf_pipeline.config.shards import MAX_TRAJECTORIES

Rank = Literal["best", "median", "worst"]
Places = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=MAX_TRAJECTORIES)], ...], Field(max_length=1000)
]


class VideoConfig(Section):
    """Which trajectories are recorded."""

    trajectories: Places = (0, 1)
    """Trajectories, by index in the data set."""
    ranked: Annotated[tuple[Rank, ...], Field(max_length=3)] = ("best", "median", "worst")
    """Trajectories, by the rank of their last coverage."""
    predicted: Places = (0, 1)
    """Trajectories shown beside the model's prediction, by place in the test split."""

    @model_validator(mode="after")
    def _names_each_once(self) -> "VideoConfig":
        for name in ("trajectories", "ranked", "predicted"):
            require_each_once(name, getattr(self, name), "video")
        return self

    def contradictions(self, dataset: DatasetConfig, num_trajectories: int) -> Iterator[str]:
        """One line for each contradiction with another section."""
        last = max(self.trajectories, default=0)
        if last >= num_trajectories:
            yield (
                f"videos.trajectories: there is no trajectory {last}: they count from 0 and "
                f"num_trajectories = {num_trajectories}; lower the one or raise the other"
            )
        tests = num_trajectories * dataset.test_fraction
        last = max(self.predicted, default=0)
        if last and last >= tests:
            yield (
                f"videos.predicted: there is no test trajectory {last}: they count from 0 and "
                f"num_trajectories = {num_trajectories} gives about {tests:.0f}; lower the one or "
                "raise the other"
            )
