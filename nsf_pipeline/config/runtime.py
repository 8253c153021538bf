"""Settings of how training runs."""

from pydantic import Field

from nsf_pipeline.config.section import Section

MAX_CHECKPOINT_SECONDS = 1_000_000_000
"""s between checkpoints, at most: some thirty years."""
MAX_DATA_MEMORY = 1 << 40
"""MiB of data that are held in memory, at most: more than any machine has."""


class RuntimeConfig(Section):
    """How training runs. Nothing here changes a result or makes a model stale."""

    checkpoint_seconds: int = Field(default=300, ge=0, le=MAX_CHECKPOINT_SECONDS)
    """s between checkpoints; 0: about one per second."""
    data_memory: int = Field(default=2048, ge=0, le=MAX_DATA_MEMORY)
    """MiB; larger data are streamed from the disk."""
