"""Shards: items in order, divided into files of one size, of which the last may hold fewer."""

MAX_SHARDS = 100_000
"""As many as five digits can number."""
MAX_SHARD_SIZE = 100_000
"""Trajectories that one job can hold in memory."""


def num_shards(items: int, size: int) -> int:
    """Shards of a size that hold all items."""
    return -(-items // size)


def shard_range(shard: int, items: int, size: int) -> tuple[int, int]:
    """First item of a shard, and one past its last."""
    first = shard * size
    return first, min(first + size, items)
