"""Settings of the speed measurement."""

from typing import Annotated

from pydantic import Field

from nsf_pipeline.config.section import Section


class SpeedConfig(Section):
    """The measurement of the time per predicted trajectory, by `snakemake ablations`."""

    sizes: Annotated[tuple[Annotated[int, Field(ge=1, le=1_000_000)], ...], Field(min_length=1)] = (
        1,
        16,
        256,
        4096,
        16_384,
    )
    """Trajectories predicted at once."""
    rounds: int = Field(default=5, ge=1, le=1000)
    """Repetitions, of which the tables show medians."""
