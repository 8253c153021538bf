"""Settings of the ensembles."""

import math
from collections.abc import Iterator
from typing import Annotated

from pydantic import Field, model_validator

from nsf_pipeline.config import shards
from nsf_pipeline.config.policies import PolicyConfig
from nsf_pipeline.config.section import MAX_DURATION, Section
from nsf_pipeline.config.shards import MAX_SHARD_SIZE, MAX_SHARDS
from nsf_pipeline.timing import CONTROL_DT

MAX_DRAWN = 2
"""GiB of draws that the evaluation holds, at most; it needs a few times as much memory."""

ENTERED_OF = 4
"""Of so many members, one is also entered at the state: more would take nearly as long again as all
the members."""

Horizon = Annotated[float, Field(ge=CONTROL_DT, le=MAX_DURATION)]
Horizons = Annotated[tuple[Horizon, ...], Field(min_length=1, max_length=100)]


class EnsembleConfig(Section):
    """The simulator's own law, which predictions are compared with: rollouts from test states."""

    horizons: Horizons = (0.1, 0.5, 1.0, 2.0)
    """s; multiples of the control step, 0.1 s."""
    num_states: int = Field(default=2000, ge=10, le=1_000_000)
    """Test states per horizon, half of them with contact; fewer if the test split has fewer."""
    num_members: int = Field(default=64, ge=4, le=65_536)
    """Rollouts from each state, each with its own noise; a quarter also from its numbers alone."""
    shard_size: int = Field(default=1000, ge=1, le=MAX_SHARD_SIZE)
    """States per shard: one file and one job each."""

    @model_validator(mode="after")
    def _horizons_are_control_steps(self) -> "EnsembleConfig":
        for horizon in self.horizons:
            if not math.isclose(horizon / CONTROL_DT, round(horizon / CONTROL_DT), abs_tol=1e-6):
                raise ValueError(
                    f"horizons: {horizon:g} s is not a multiple of the control step {CONTROL_DT} s"
                )
        if len({round(horizon / CONTROL_DT) for horizon in self.horizons}) < len(self.horizons):
            raise ValueError(f"horizons: {list(self.horizons)} names one horizon twice")
        return self

    @property
    def all_states(self) -> int:
        """States of all horizons."""
        return len(self.horizons) * self.num_states

    @property
    def num_entered(self) -> int:
        """Members of each state that are also entered at the state instead of replayed."""
        return entered_of(self.num_members)

    @property
    def num_shards(self) -> int:
        """Shards that hold the states of all horizons."""
        return shards.num_shards(self.all_states, self.shard_size)

    def shard_range(self, shard: int) -> tuple[int, int]:
        """First state of a shard, and one past its last; one horizon follows another."""
        return shards.shard_range(shard, self.all_states, self.shard_size)

    def contradictions(self, policies: PolicyConfig) -> Iterator[str]:
        """One line for each contradiction, also between settings of this section."""
        yield from policies.outlasted_by("ensembles.horizons", max(self.horizons))
        if self.num_shards > MAX_SHARDS:
            yield (
                f"ensembles.num_states = {self.num_states} in shards of {self.shard_size} makes "
                f"{self.num_shards} shards, more than {MAX_SHARDS}; raise ensembles.shard_size"
            )
        members, entered = self.num_members, 2 * self.num_entered
        yield from too_much_memory("ensembles.num_members", members, self.all_states, entered)


def entered_of(num_members: int) -> int:
    """Of a state's members, how many are also entered at the state; scores need at least two."""
    return max(2, num_members // ENTERED_OF)


def too_much_memory(name: str, draws: int, states: int, beside: int = 0) -> Iterator[str]:
    """A line if a setting's number of draws per state, and those beside, need too much memory."""
    # Seven numbers in single precision each.
    if (size := states * (draws + beside) * 28 / 2**30) > MAX_DRAWN:
        yield (
            f"{name} = {draws} for each of {states} states takes {size:.1f} GiB, more than "
            f"{MAX_DRAWN}; lower it or ensembles.num_states"
        )
