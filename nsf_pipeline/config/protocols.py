"""Settings of the protocols that put planners and models to the test."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field, model_validator

from nsf_pipeline.config.planning import MOST_AT_ONCE, SearchConfig
from nsf_pipeline.config.section import Section, require_each_once
from nsf_pipeline.config.shards import MAX_SHARD_SIZE, Division
from nsf_pipeline.config.variants import MAX_VARIANTS, VariantName

Episodes = Annotated[int, Field(ge=1, le=100_000)]
Variants = Annotated[tuple[VariantName, ...], Field(max_length=MAX_VARIANTS)]
Kind = Literal["flow", "nominal", "simulator"]
MOST_SHARDS = 1000
"""Shards of a row, at most."""
MOST_CHECKED = 2_000_000
"""Trajectories whose seeds are compared with those of the episodes, at most."""
DISJOINT = 2**31
"""All seeds of the data's resets are below."""


class ProtocolConfig(Section):
    """Planning put to the test: by `snakemake planning`, and a short table by the default run."""

    first_seed: int = Field(default=100_000, ge=0, lt=2**62)
    """Seed of env.reset of the first episode; the others follow. No trajectory may have been reset
    with one of them; those of the data are below 2^31."""
    episodes: Episodes = 500
    """Episodes of a row of the standard protocol."""
    harder_episodes: Episodes = 100
    """Episodes of a row of the harder ones."""
    short_episodes: int = Field(default=40, ge=0, le=100_000)
    """Episodes of a row of the short table in the default run; 0 for no such table."""
    shard_size: int = Field(default=50, ge=1, le=MAX_SHARD_SIZE)
    """Episodes per shard: one file and one job each. They are played side by side."""
    models: Annotated[tuple[Kind, ...], Field(min_length=1, max_length=3)] = (
        "flow",
        "nominal",
        "simulator",
    )
    """World models that get rows: the flow and its variants, the nominal push, the simulator."""
    push_tasks: int = Field(default=300, ge=1, le=100_000)
    """Tasks of one push under noise, from different test trajectories."""
    push_shard_size: int = Field(default=100, ge=1, le=MAX_SHARD_SIZE)
    """Tasks per shard: one file and one job each."""
    push_candidates: int = Field(default=1000, ge=1, le=100_000)
    """Pushes that the models choose from in each task, about."""
    push_runs: int = Field(default=256, ge=1, le=65_536)
    """Noisy runs of each chosen push."""
    push_noise: float = Field(default=8.0, ge=0.0, le=256.0)
    """px; standard deviation of the action noise of these."""
    goal_tasks: int = Field(default=200, ge=1, le=100_000)
    """Tasks with a goal some steps ahead, for each number of steps: one file and one job each."""
    variants: Variants = ()
    """Variants of the model that get rows too, besides the default model."""

    @model_validator(mode="after")
    def _names_variants_once(self) -> "ProtocolConfig":
        require_each_once("variants", self.variants, "variant")
        require_each_once("models", self.models, "model")
        return self

    @property
    def push_shards(self) -> list[tuple[int, int]]:
        """For each shard of one push, the number of its first task and one past its last."""
        division = Division(self.push_tasks, self.push_shard_size)
        return [division.shard_range(shard) for shard in range(division.num_shards)]

    @model_validator(mode="after")
    def _has_few_shards(self) -> "ProtocolConfig":
        for name, size in (
            *((each, "shard_size") for each in ("episodes", "harder_episodes", "short_episodes")),
            ("push_tasks", "push_shard_size"),
        ):
            count, own = getattr(self, name), getattr(self, size)
            if Division(count, own).num_shards > MOST_SHARDS:
                raise ValueError(
                    f"{name} = {count} in shards of {own} makes more than {MOST_SHARDS} shards of "
                    f"each row; raise {size}"
                )
        return self

    def contradictions(
        self, variants: list[str], num_trajectories: int, search: SearchConfig
    ) -> Iterator[str]:
        """One line for each contradiction with another section."""
        most = max(self.episodes, self.harder_episodes, self.short_episodes)
        for name, count in (
            ("shard_size", min(self.shard_size, most)),
            ("goal_tasks", self.goal_tasks),
        ):
            if count * search.most_at_once > MOST_AT_ONCE:
                yield (
                    f"protocols.{name}: {count} searches side by side, with up to "
                    f"{search.most_at_once} pushes each, ask for more than {MOST_AT_ONCE} pushes "
                    "at once; lower it or the numbers of planning.search"
                )
        if self.variants and "flow" not in self.models:
            yield (
                f"protocols.variants = {list(self.variants)} get rows beside the flow's, but "
                "protocols.models leaves out flow; add it, or name no variants"
            )
        for name in self.variants:
            if name not in variants:
                yield (
                    f"protocols.variants: there is no variant {name}; expected one of "
                    f"{', '.join(variants) or 'none: the settings have no variants'}"
                )
        if self.first_seed < DISJOINT and num_trajectories > MOST_CHECKED:
            yield (
                f"protocols.first_seed = {self.first_seed} is a seed that one of num_trajectories "
                f"= {num_trajectories} may have been reset with; give one of {DISJOINT} or more"
            )
