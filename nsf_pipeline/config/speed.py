"""Settings of the speed measurement."""

from typing import Annotated

from pydantic import Field, model_validator

from nsf_pipeline.config.section import Section, require_each_once

Size = Annotated[int, Field(ge=1, le=1_000_000)]
Sizes = Annotated[tuple[Size, ...], Field(min_length=1, max_length=100)]


class SpeedConfig(Section):
    """The measurement of the time per predicted trajectory, by `snakemake ablations`."""

    sizes: Sizes = (1, 16, 256, 4096, 16_384)
    """Trajectories predicted at once."""
    rounds: int = Field(default=5, ge=1, le=1000)
    """Repetitions, of which the tables show medians."""

    @model_validator(mode="after")
    def _measures_each_size_once(self) -> "SpeedConfig":
        require_each_once("sizes", self.sizes, "size")
        return self
