"""Settings of the data set."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, model_validator

from nsf_pipeline.config.section import Section
from nsf_pipeline.config.shards import MAX_PARTS, MAX_TRAJECTORIES, num_shards

Share = Annotated[float, Field(ge=1e-9, lt=1.0)]


class DatasetConfig(Section):
    """How trajectories are divided into splits (the rest is the train split) and files."""

    validation_fraction: Share = 0.1
    """Share of trajectories for model selection."""
    test_fraction: Share = 0.1
    """Share of trajectories for the evaluation alone."""
    trajectories_per_file: int = Field(default=0, ge=0, le=MAX_TRAJECTORIES)
    """0: the data set is one file. A multiple of shard_size: it is divided into files of that many
    trajectories, which jobs write side by side, for data too large for one job."""

    @property
    def held_out(self) -> float:
        """Share of trajectories that training does not see."""
        return self.validation_fraction + self.test_fraction

    def train_trajectories(self, num_trajectories: int) -> float:
        """Trajectories of the train split, about: each one's split is drawn."""
        return num_trajectories * (1.0 - self.held_out)

    @model_validator(mode="after")
    def _leaves_a_train_split(self) -> "DatasetConfig":
        if self.held_out >= 1.0:
            raise ValueError(
                f"validation_fraction + test_fraction = {self.held_out:g} leaves nothing to train "
                "on; make their sum less than 1"
            )
        return self

    def contradictions(self, num_trajectories: int, shard_size: int) -> Iterator[str]:
        """One line for each contradiction between these settings and the size of shards."""
        size = self.trajectories_per_file
        name = f"dataset.trajectories_per_file = {size}"
        if size % shard_size:
            yield (
                f"{name} is no multiple of shard_size = {shard_size}; make it one, or 0 for one "
                "file"
            )
        elif size and (count := num_shards(num_trajectories, size)) > MAX_PARTS:
            yield (
                f"{name} divides num_trajectories = {num_trajectories} into {count} files, more "
                f"than {MAX_PARTS}; raise it"
            )
