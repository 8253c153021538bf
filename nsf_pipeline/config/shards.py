"""Shards: items in order, divided into files of equal size; the last may hold fewer."""

from typing import NamedTuple

MAX_SHARDS = 100_000
"""As many as can be numbered with five digits."""
MAX_SHARD_SIZE = 1_000_000
"""Trajectories that one job holds in memory, some 6.5 GB."""
MAX_PARTS = 5000
"""Files of a data set, at most; its index lists them all."""
MAX_TRAJECTORIES = 1_000_000_000
"""Of 60 s each, these take some 60 TB."""


def num_shards(items: int, size: int) -> int:
    """Number of shards of a size that hold all items."""
    return -(-items // size)


def shard_range(shard: int, items: int, size: int) -> tuple[int, int]:
    """First item of a shard, and one past its last."""
    first = shard * size
    return first, min(first + size, items)


class Division(NamedTuple):
    """The division of some items into shards of a size.

    Attributes:
        items: how many there are.
        size: items per shard; 0 if there is no shard.
    """

    items: int
    size: int

    @property
    def num_shards(self) -> int:
        """Shards that hold all items."""
        return num_shards(self.items, self.size) if self.size else 0

    def shard_range(self, shard: int) -> tuple[int, int]:
        """First item of a shard, and one past its last."""
        return shard_range(shard, self.items, self.size)
