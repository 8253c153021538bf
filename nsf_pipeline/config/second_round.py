"""Settings of a second round of data."""

from collections.abc import Iterator

from pydantic import Field

from nsf_pipeline.config.planning import MOST_AT_ONCE, SearchConfig
from nsf_pipeline.config.section import Section
from nsf_pipeline.config.shards import MAX_SHARDS, MAX_TRAJECTORIES, num_shards

IN_A_ROW = 10
"""Pushes of a run: so many trajectories of the second round follow one from another."""


class SecondRoundConfig(Section):
    """A second round of data, where planning needs it: `snakemake second_round`."""

    trajectories: int = Field(default=0, ge=0, le=MAX_TRAJECTORIES)
    """Trajectories whose policies the planner chooses with the trained flow (planning.search); 0
    for no second round."""

    def contradictions(
        self, num_trajectories: int, shard_size: int, search: SearchConfig
    ) -> Iterator[str]:
        """One line for each contradiction with other settings."""
        if not self.trajectories:
            return
        if num_trajectories % shard_size:
            yield (
                f"second_round.trajectories = {self.trajectories} needs full shards before it, but "
                f"num_trajectories = {num_trajectories} is no multiple of shard_size = {shard_size}"
            )
        runs = -(-min(shard_size, self.trajectories) // IN_A_ROW)
        if runs * search.most_at_once > MOST_AT_ONCE:
            yield (
                f"second_round.trajectories = {self.trajectories} in shards of shard_size = "
                f"{shard_size} makes {runs} searches side by side, which ask for more than "
                f"{MOST_AT_ONCE} pushes at once; lower shard_size or the numbers of planning.search"
            )
        total = num_trajectories + self.trajectories
        if total > MAX_TRAJECTORIES or num_shards(total, shard_size) > MAX_SHARDS:
            yield (
                f"second_round.trajectories = {self.trajectories} and num_trajectories = "
                f"{num_trajectories} are more than {MAX_TRAJECTORIES} together, or make more than "
                f"{MAX_SHARDS} shards; lower one of them or raise shard_size"
            )
