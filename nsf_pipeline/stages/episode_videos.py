"""Videos of planned episodes: successes, and the hardest of all."""

import time
from pathlib import Path

from nsf_pipeline import label, paths
from nsf_pipeline.config import Config
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import require_folder
from nsf_pipeline.protocols import rows, videos
from nsf_pipeline.provenance import Record
from nsf_pipeline.pusht.video import write_mp4
from nsf_pipeline.stages import STAGES, TITLE, say
from nsf_pipeline.stages.trials import episodes_of
from nsf_pipeline.timing import CONTROL_DT

STAGE = STAGES["episode_videos"]


def run(config: Config, episodes: Path, folder: Path) -> None:
    """Write MP4s of episodes that the flow has planned in the standard protocol.

    Args:
        config: the settings.
        episodes: folder of the rows' folders of shards.
        folder: where the videos go.

    Raises:
        UserError: the flow plays no episodes by these settings; a shard cannot be read or is stale;
            there is no ffmpeg, or a video cannot be written.
    """
    started = time.monotonic()
    shown = [row for row in rows.standard(config.protocols) if row.trained == rows.FLOW]
    if not shown:
        raise UserError(
            f"protocols.models: expected {rows.FLOW} among them, whose episodes the videos show; "
            "add it"
        )
    played, sources = [], []
    for row in shown:
        arrays, records = episodes_of(config, row, episodes / row.name)
        played.append((row, arrays))
        sources += records
    require_folder(folder)
    made = Record.new(STAGE, config, *sources).fields()
    for name, each in videos.choose(played).items():
        output = folder / Path(paths.EPISODE_VIDEO.format(shown=name)).name
        comment = label.embed({**made, TITLE: each.title})
        write_mp4(output, videos.frames(each), fps=round(1 / CONTROL_DT), comment=comment)
        say(output, each.title, started)
