"""A picture of the data set: paths, starts, coverage and contact."""

import time
from pathlib import Path

from nsf_pipeline.config import Config
from nsf_pipeline.data import store
from nsf_pipeline.data.picture import picture, summarise
from nsf_pipeline.drawing import write_figure
from nsf_pipeline.provenance import Record, require_current
from nsf_pipeline.stages import STAGES, say
from nsf_pipeline.system.printing import say as print_line

STAGE = STAGES["picture"]


def run(config: Config | None, dataset: Path, output: Path) -> None:
    """Write the picture of a data set as PNG.

    Args:
        config: settings that must have made the data set; None accepts any data set.
        dataset: the data set.
        output: the picture.

    Raises:
        FileError: the data set cannot be read or is stale, or the picture cannot be drawn or
            written.
    """
    started = time.monotonic()
    with store.reading(dataset, "dataset") as file:
        made = require_current(dataset, store.record_of(file), config)
        origin = store.origin(dataset, file)
        summary = summarise(file)
    fields = Record.new(STAGE, None, made).fields()
    # Not higher than a browser's window: the report cuts off the top of higher pictures.
    write_figure(lambda: picture(summary), output, fields, dpi=90)
    if not config:
        print_line(origin)
    say(output, f"picture of {dataset}", started)
