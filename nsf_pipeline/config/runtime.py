"""Settings of how training runs."""

from pydantic import Field

from nsf_pipeline.config.section import Section


class RuntimeConfig(Section):
    """How training runs. Nothing here changes a result or makes a model stale."""

    checkpoint_seconds: int = Field(default=300, ge=0)
    """s between checkpoints; 0: about one per second."""
    data_memory: int = Field(default=2048, ge=0, le=1 << 40)
    """MiB; larger data are streamed from the disk."""
