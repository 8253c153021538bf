"""Settings of the data set."""

from typing import Annotated

from pydantic import Field, model_validator

from nsf_pipeline.config.section import Section

Share = Annotated[float, Field(ge=1e-9, lt=1.0)]


class DatasetConfig(Section):
    """How trajectories are divided into splits; the rest is the train split."""

    validation_fraction: Share = 0.1
    """Share of trajectories for model selection."""
    test_fraction: Share = 0.1
    """Share of trajectories for the evaluation alone."""

    @property
    def held_out(self) -> float:
        """Share of trajectories that training does not see."""
        return self.validation_fraction + self.test_fraction

    @model_validator(mode="after")
    def _leaves_a_train_split(self) -> "DatasetConfig":
        if self.held_out >= 1.0:
            raise ValueError(
                f"validation_fraction + test_fraction = {self.held_out:g} leaves nothing to train "
                "on; make their sum less than 1"
            )
        return self
