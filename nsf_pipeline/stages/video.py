"""Videos of trajectories, recorded by replaying their stored actions."""

import time
from pathlib import Path

from nsf_pipeline import label
from nsf_pipeline.config import Config
from nsf_pipeline.data import store
from nsf_pipeline.data.recording import one_trajectory, replayed
from nsf_pipeline.provenance import Record, require_current
from nsf_pipeline.pusht.video import write_mp4
from nsf_pipeline.stages import STAGES, say
from nsf_pipeline.system.printing import say as print_line
from nsf_pipeline.timing import CONTROL_DT

STAGE = STAGES["video"]


def run(config: Config | None, source: Path, which: int | str, output: Path) -> int:
    """Replay one trajectory of a rollout shard or data set and write it as MP4.

    The frames show the DMP's path, its goal and the agent's path so far.

    Args:
        config: settings that must have made the source; None accepts any source, even one
            without a label, and prints what made it.
        source: the shard or data set.
        which: the trajectory's index in the whole data set, or best, median or worst.
        output: the video.

    Returns:
        The trajectory's index.

    Raises:
        UserError: the source cannot be read, is stale or does not hold the trajectory, there is no
            ffmpeg, or the video cannot be written.
    """
    started = time.monotonic()
    with store.reading(source, "rollouts", "dataset", unlabelled=config is None) as file:
        made = require_current(source, store.record_of(file), config)
        origin = store.origin(source, file)
        trajectory = one_trajectory(source, file, which)
    comment = label.embed(Record.new(STAGE, None, made).fields())
    index = int(trajectory["trajectory"][0])
    frames = replayed(trajectory, f"trajectory {index}")
    write_mp4(output, frames, fps=round(1 / CONTROL_DT), comment=comment)
    if not config:
        print_line(origin)
    say(output, f"trajectory {index}", started)
    return index
