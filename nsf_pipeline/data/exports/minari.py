"""Minari: one group per episode in HDF5, through Minari's own writer.

Each episode has a seed, or the state that it starts in as an option of the reset, so that the
recovered environment repeats it to the bit. Observations are the environment's own, in double
precision, from the replay.
"""

import errno
import itertools
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from nsf_pipeline.data.exports.format import Format
from nsf_pipeline.data.exports.source import Episode, Source
from nsf_pipeline.envs import PUSHT
from nsf_pipeline.pusht.geometry import coverage, reward
from nsf_pipeline.pusht.state import STATE

DATASET_ID = "pusht-dmp-v0"
"""What `minari.load_dataset` takes; the export's folder is then MINARI_DATASETS_PATH."""
AT_ONCE = 64
"""Episodes handed to Minari at once."""
OVERHEAD = 1 << 16
"""Bytes of an episode that are not in its arrays, at most."""
ABOUT = "PushT, pushed by dynamic movement primitives with noise on every action"


def write(source: Source, folder: Path) -> dict[str, Any]:
    """Write the data set `DATASET_ID` below the folder."""
    import minari
    from minari.data_collector.episode_buffer import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    path = folder / DATASET_ID / "data"
    path.mkdir(parents=True)
    # It takes a state as an option of its reset, which gym-pusht's does not.
    env = gymnasium.make(PUSHT, disable_env_checker=True)
    observations: gymnasium.Space[Any] = env.observation_space
    if source.frames:
        pixels = gymnasium.spaces.Box(0, 255, (source.frames, source.frames, 3), np.uint8)
        observations = gymnasium.spaces.Dict({"state": observations, "pixels": pixels})
    storage = MinariStorage.new(path, observations, env.action_space, env.spec)
    storage.update_metadata(
        {
            "dataset_id": DATASET_ID,
            "minari_version": minari.__version__,
            "description": ABOUT,
            "algorithm_name": "nsf_pipeline",
        }
    )
    for batch in _batches(source.episodes()):
        buffers = [_buffer(each) for each in batch]
        _require_room(path, buffers)
        storage.update_episodes([EpisodeBuffer(**buffer) for buffer in buffers])
        numbers = [each.number for each in batch]
        storage.update_episode_metadata([_metadata(each) for each in batch], numbers)
    return {"dataset_id": DATASET_ID}


def _require_room(folder: Path, buffers: Sequence[Mapping[str, Any]]) -> None:
    """Check that the disk has room for episodes: HDF5, which Minari uses, crashes where it is full.

    Raises:
        OSError: it has not.
    """
    parts = [part for buffer in buffers for part in buffer.values()]
    arrays = [each for part in parts for each in (part.values() if type(part) is dict else [part])]
    size = sum(np.asarray(each).nbytes for each in arrays) + OVERHEAD * len(buffers)
    if shutil.disk_usage(folder).free < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _batches(episodes: Iterator[Episode]) -> Iterator[list[Episode]]:
    while batch := list(itertools.islice(episodes, AT_ONCE)):
        yield batch


def _buffer(episode: Episode) -> dict[str, Any]:
    """An episode as Minari takes it."""
    states, frames = episode.recording.states, episode.recording.frames
    seen = states[:, [*range(*STATE.agent.indices(7)), *range(*STATE.block.indices(7))]]
    seen[:, -1] %= 2 * np.pi
    last = np.arange(episode.length) == episode.length - 1
    starts: dict[str, Any] = {"seed": episode.seed}
    if not episode.from_reset:
        starts["options"] = {"state": episode.initial_state}
    return {
        **starts,
        "observations": seen if frames is None else {"state": seen, "pixels": frames},
        "actions": episode.actions,
        "rewards": reward(coverage(states[1:, STATE.block])),
        "terminations": last & episode.success,
        "truncations": last & (not episode.success),
        "infos": {"vel_agent": states[:, STATE.velocity], "block_pose": states[:, STATE.block]},
    }


def _metadata(episode: Episode) -> dict[str, Any]:
    """What else is known of an episode."""
    return {
        "trajectory": episode.trajectory,
        "split": episode.split,
        "from_reset": episode.from_reset,
        "action_noise_std": episode.action_noise_std,
        "condition": episode.condition,
    }


FORMAT = Format("minari", "Minari", write, (("minari", "minari"), ("PIL", "pillow")), replays=True)
