"""Settings of the scaling curves: which models `snakemake scaling` trains, and their names."""

from collections.abc import Iterator
from functools import reduce
from typing import Annotated, Any

from pydantic import Field, model_validator

from nsf_pipeline.config.section import Section, require_each_once
from nsf_pipeline.config.shards import MAX_TRAJECTORIES
from nsf_pipeline.config.training import MAX_STEPS
from nsf_pipeline.config.variants import POINT, Variant

AXES = {
    "trajectories": ("training", "trajectories"),
    "width": ("model", "flow", "hidden_size"),
    "depth": ("model", "flow", "depth"),
    "steps": ("training", "steps"),
}
"""The setting that each axis changes."""
MOST_OF_ALL = 0.9
"""Share of the train split; more trajectories would tell no more than all of them."""
MOST_VALUES = 20
"""Values of an axis, at most."""


Counts = Annotated[int, Field(ge=1, le=MAX_TRAJECTORIES)]
Widths = Annotated[int, Field(ge=1, le=4096)]
Depths = Annotated[int, Field(ge=1, le=16)]
Steps = Annotated[int, Field(ge=1, le=MAX_STEPS)]


class ScalingConfig(Section):
    """The models of `snakemake scaling`: each has one setting of the run changed to a value."""

    trajectories: Annotated[tuple[Counts, ...], Field(max_length=MOST_VALUES)] = (
        5000,
        20_000,
        80_000,
        320_000,
    )
    """training.trajectories; those above 90 % of the train split are left out."""
    width: Annotated[tuple[Widths, ...], Field(max_length=MOST_VALUES)] = (32, 64, 128, 256)
    """model.flow.hidden_size."""
    depth: Annotated[tuple[Depths, ...], Field(max_length=MOST_VALUES)] = (1, 2, 3)
    """model.flow.depth."""
    steps: Annotated[tuple[Steps, ...], Field(max_length=MOST_VALUES)] = (
        1000,
        4000,
        16_000,
        64_000,
    )
    """training.steps."""

    @model_validator(mode="after")
    def _takes_each_value_once(self) -> "ScalingConfig":
        for axis in AXES:
            require_each_once(axis, getattr(self, axis), "value")
        return self

    def points(self, run: Section, most_trajectories: float) -> Iterator[tuple[str, int, Variant]]:
        """The axis, the value and the changes of each model that is to be trained.

        Values that the run has itself are left out.

        Args:
            run: all settings.
            most_trajectories: of the train split, about.
        """
        for axis, setting in AXES.items():
            for value in getattr(self, axis):
                beyond = axis == "trajectories" and value > MOST_OF_ALL * most_trajectories
                if not beyond and value != reduce(getattr, setting, run):
                    changes: Any = value
                    for name in reversed(setting):
                        changes = {name: changes}
                    yield axis, value, Variant.model_validate(changes)


def name_of(axis: str, value: int) -> str:
    """The name of a point, under which it is trained like a variant."""
    return f"{POINT}{axis}_{value}"
