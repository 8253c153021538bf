"""The diffusion-policy repository's replay buffer (arXiv 2303.04137): a Zarr group of version 2.

Row i has the state before action i, so the last state of an episode is not in it. `n_contacts` is
that of the step before, and 0 in the first row.
"""

from pathlib import Path
from typing import Any

import numpy as np

from nsf_pipeline.data.exports.columns import Columns
from nsf_pipeline.data.exports.format import Format
from nsf_pipeline.data.exports.source import Episode, Source
from nsf_pipeline.pusht.keypoints import SPREAD, placed, spread
from nsf_pipeline.pusht.state import STATE

NAME = "pusht.zarr"
WIDTHS: dict[str, tuple[int, ...]] = {
    "state": (5,),
    "action": (2,),
    "keypoint": (SPREAD, 2),
    "n_contacts": (1,),
}
"""The shape of a row of each array but `img`; all are float32."""
CHUNK, CHUNK_OF_FRAMES = 1 << 14, 1 << 6
"""Rows in a chunk."""


def write(source: Source, folder: Path) -> dict[str, Any]:
    """Write `pusht.zarr`."""
    import zarr
    from numcodecs import Blosc

    group = zarr.open_group(folder / NAME, mode="w", zarr_format=2)
    data, meta = group.create_group("data"), group.create_group("meta")
    widths = dict(WIDTHS)
    if source.frames:
        widths["img"] = (source.frames, source.frames, 3)
    options: dict[str, Any] = {"dtype": "float32", "compressors": Blosc("zstd", 5, Blosc.SHUFFLE)}
    arrays = {
        name: data.create_array(
            name,
            shape=(source.steps, *width),
            chunks=(CHUNK_OF_FRAMES if name == "img" else CHUNK, *width),
            **options,
        )
        for name, width in widths.items()
    }
    ends = np.cumsum(source.lengths)
    meta.create_array("episode_ends", data=ends.astype(np.int64))
    columns = Columns(arrays)
    for episode in source.episodes():
        columns.add(_rows(episode))
    columns.close()
    return {}


def _rows(episode: Episode) -> dict[str, np.ndarray]:
    poses, frames = episode.recording.states[:-1, STATE.block], episode.recording.frames
    states = episode.states[:-1]
    contacts = np.concatenate([[0], episode.recording.contacts[:-1]])
    rows = {
        "state": np.concatenate([states[:, STATE.agent], states[:, STATE.block]], axis=-1),
        "action": episode.actions,
        "keypoint": placed(spread(), poses),
        "n_contacts": contacts[:, None],
    }
    if frames is not None:
        rows["img"] = frames[:-1]
    return {name: values.astype(np.float32) for name, values in rows.items()}


FORMAT = Format(
    "diffusion_policy", "the diffusion-policy repository", write, (("zarr", "zarr"),), replays=True
)
