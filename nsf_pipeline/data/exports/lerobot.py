"""LeRobot's data sets, version 3.0: Parquet, JSON, and videos.

With frames, the features are those of lerobot/pusht; without, those of lerobot/pusht_keypoints.
Frame i shows the state before action i; rewards and success are those of the step that follows, so
the last state of an episode is not in it. Splits are ranges of episodes.
"""

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from nsf_pipeline.data.exports.format import Format
from nsf_pipeline.data.exports.source import Episode, Source
from nsf_pipeline.pusht.keypoints import corners, placed
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.pusht.video import write_mp4
from nsf_pipeline.timing import CONTROL_DT

VERSION = "v3.0"
TASK = "Push the T-shaped block onto the T-shaped target."
IMAGE, ENVIRONMENT_STATE = "observation.image", "observation.environment_state"
FPS = round(1 / CONTROL_DT)
STEPS_PER_FILE = 20_000
"""Steps in a file of data or video, about."""
FILES_PER_CHUNK = 1000
STEPS_AT_ONCE, EPISODES_AT_ONCE = 1 << 13, 1 << 7
"""Rows of a table that are written together."""
PATH = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA, EPISODES = f"data/{PATH}.parquet", f"meta/episodes/{PATH}.parquet"
VIDEO = f"videos/{{video_key}}/{PATH}.mp4"
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
STATISTICS = ("min", "max", "mean", "std", *QUANTILES, "count")
VECTORS = {"observation.state": 2, "action": 2}
SINGLE = {
    "next.reward": "float32",
    "next.done": "bool",
    "next.success": "bool",
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


def write(source: Source, folder: Path) -> dict[str, Any]:
    """Write `meta`, `data` and, with frames, `videos`."""
    import pandas as pd
    import pyarrow as pa

    vectors = VECTORS if source.frames else {**VECTORS, ENVIRONMENT_STATE: 2 * len(corners())}
    columns = {name: pa.list_(pa.float32(), size) for name, size in vectors.items()}
    columns |= {name: pa.type_for_alias(dtype) for name, dtype in SINGLE.items()}
    data_schema = pa.schema(columns)
    described = [*columns, *([IMAGE] if source.frames else [])]
    starts = np.cumsum(source.lengths) - source.lengths
    totals = {name: _Total() for name in described}
    episodes = _Table(folder / _path(EPISODES, 0), _episode_schema(described), EPISODES_AT_ONCE)

    def group_of(episode: Episode) -> int:
        return int(starts[episode.number]) // STEPS_PER_FILE

    def frames_of(group: Iterator[Episode], file: int, data: _Table) -> Iterator[np.ndarray]:
        """Write the rows of each episode, then give its frames to the video."""
        first: int | None = None
        for episode in group:
            start = int(starts[episode.number])
            first = start if first is None else first
            rows = _rows(episode, start, vectors)
            data.add(pa.table(_arrays(rows, vectors), data_schema), episode.length)
            found = {name: _statistics(rows[name]) for name in columns}
            shown = episode.recording.frames if source.frames else None
            if shown is not None:
                found[IMAGE] = _statistics_of_frames(shown[:-1])
            for name, each in found.items():
                totals[name].add(each)
            row = _described(episode, start, start - first, file, found)
            episodes.add(pa.Table.from_pylist([row], episodes.schema), 1)
            if shown is not None:
                yield from shown[:-1]

    for file, group in itertools.groupby(source.episodes(), group_of):
        data = _Table(folder / _path(DATA, file), data_schema, STEPS_AT_ONCE)
        frames = frames_of(group, file, data)
        if source.frames:
            video = folder / _path(VIDEO, file, video_key=IMAGE)
            video.parent.mkdir(parents=True, exist_ok=True)
            write_mp4(video, frames, FPS, random_access=True)
        else:
            list(frames)
        data.close()
    episodes.close()
    tasks = pd.DataFrame({"task_index": [0]}, index=[TASK])
    tasks.to_parquet(folder / "meta" / "tasks.parquet")
    _write_json(folder / "meta" / "info.json", _info(source, vectors))
    statistics = {name: total.described() for name, total in totals.items()}
    _write_json(folder / "meta" / "stats.json", statistics)
    return {}


class _Table:
    """A Parquet file to which rows are added; many are written together."""

    def __init__(self, path: Path, schema: Any, at_once: int) -> None:
        import pyarrow.parquet as pq

        path.parent.mkdir(parents=True, exist_ok=True)
        self.schema = schema
        self._writer = pq.ParquetWriter(path, schema)
        self._waiting: list[Any] = []
        self._rows, self._at_once = 0, at_once

    def add(self, table: Any, rows: int) -> None:
        self._waiting.append(table)
        self._rows += rows
        if self._rows >= self._at_once:
            self._write()

    def close(self) -> None:
        if self._waiting:
            self._write()
        self._writer.close()

    def _write(self) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.concat_tables(self._waiting))
        self._waiting, self._rows = [], 0


class _Total:
    """Statistics of all episodes from those of each, as LeRobot adds them up."""

    def __init__(self) -> None:
        self._count = 0
        self._low: Any = np.inf
        self._high: Any = -np.inf
        self._sums: dict[str, Any] = {}

    def add(self, found: dict[str, Any]) -> None:
        """Add the statistics of an episode."""
        count = int(found["count"][0])
        self._count += count
        self._low = np.minimum(self._low, found["min"])
        self._high = np.maximum(self._high, found["max"])
        moments = {"mean": found["mean"], "square": found["std"] ** 2 + found["mean"] ** 2}
        for name, value in (moments | {name: found[name] for name in QUANTILES}).items():
            self._sums[name] = self._sums.get(name, 0.0) + count * value

    def described(self) -> dict[str, Any]:
        """As `stats.json` has them."""
        means = {name: total / self._count for name, total in self._sums.items()}
        std = np.sqrt(np.maximum(means.pop("square") - means["mean"] ** 2, 0.0))
        found = {"min": self._low, "max": self._high, **means, "std": std}
        return {name: value.tolist() for name, value in found.items()} | {"count": [self._count]}


def _rows(episode: Episode, start: int, vectors: dict[str, int]) -> dict[str, np.ndarray]:
    """The columns of an episode, T rows each."""
    states, steps = episode.states[:-1], np.arange(episode.length)
    last = steps == episode.length - 1
    rows = {
        "observation.state": states[:, STATE.agent],
        "action": episode.actions,
        "next.reward": episode.rewards,
        "next.done": last,
        "next.success": last & episode.success,
        "timestamp": (steps / FPS).astype(np.float32),
        "frame_index": steps,
        "episode_index": np.full(episode.length, episode.number),
        "index": start + steps,
        "task_index": np.zeros(episode.length, int),
    }
    if ENVIRONMENT_STATE in vectors:
        points = placed(corners(), states[:, STATE.block].astype(np.float64))
        rows[ENVIRONMENT_STATE] = points.reshape(episode.length, -1).astype(np.float32)
    return rows


def _arrays(rows: dict[str, np.ndarray], vectors: dict[str, int]) -> dict[str, Any]:
    import pyarrow as pa

    flat = {name: pa.array(rows[name].reshape(-1), pa.float32()) for name in vectors}
    lists = {
        name: pa.FixedSizeListArray.from_arrays(values, vectors[name])
        for name, values in flat.items()
    }
    return lists | {name: rows[name] for name in SINGLE}


def _statistics(values: np.ndarray) -> dict[str, Any]:
    """Statistics of (T) or (T, d) numbers, each (1) or (d)."""
    numbers = values.reshape(len(values), -1).astype(np.float64)
    ordered = np.sort(numbers, axis=0)
    found: dict[str, Any] = {
        "min": ordered[0],
        "max": ordered[-1],
        "mean": numbers.mean(axis=0),
        "std": numbers.std(axis=0),
        "count": np.array([len(values)]),
    }
    for name, share in QUANTILES.items():
        place = share * (len(ordered) - 1)
        below = ordered[int(place)]
        found[name] = below + (place % 1.0) * (
            ordered[min(int(place) + 1, len(ordered) - 1)] - below
        )
    return found


def _statistics_of_frames(frames: np.ndarray) -> dict[str, Any]:
    """Statistics of frames (T, H, W, 3) by channel, (3, 1, 1) each, of values in [0, 1]."""
    levels = np.arange(256) / 255.0
    counts = np.stack([np.bincount(frames[..., each].ravel(), minlength=256) for each in range(3)])
    shares = counts / counts.sum(axis=1, keepdims=True)
    upto = np.cumsum(shares, axis=1)
    mean = shares @ levels
    found = {
        "min": levels[(counts > 0).argmax(axis=1)],
        "max": levels[255 - (counts > 0)[:, ::-1].argmax(axis=1)],
        "mean": mean,
        "std": np.sqrt(np.maximum(shares @ levels**2 - mean**2, 0.0)),
    }
    found |= {name: levels[(upto >= share).argmax(axis=1)] for name, share in QUANTILES.items()}
    shaped: dict[str, Any] = {name: value.reshape(3, 1, 1) for name, value in found.items()}
    return shaped | {"count": np.array([len(frames)])}


def _path(template: str, file: int, **more: str) -> str:
    chunk, index = divmod(file, FILES_PER_CHUNK)
    return template.format(chunk_index=chunk, file_index=index, **more)


def _place(file: int) -> dict[str, int]:
    chunk, index = divmod(file, FILES_PER_CHUNK)
    return {"chunk_index": chunk, "file_index": index}


def _described(
    episode: Episode, start: int, in_file: int, file: int, found: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The row of an episode in the table of episodes."""
    row: dict[str, Any] = {
        "episode_index": episode.number,
        "tasks": [TASK],
        "length": episode.length,
        "dataset_from_index": start,
        "dataset_to_index": start + episode.length,
        **{f"data/{name}": value for name, value in _place(file).items()},
        **{f"meta/episodes/{name}": value for name, value in _place(0).items()},
    }
    if IMAGE in found:
        row |= {f"videos/{IMAGE}/{name}": value for name, value in _place(file).items()}
        row[f"videos/{IMAGE}/from_timestamp"] = in_file / FPS
        row[f"videos/{IMAGE}/to_timestamp"] = (in_file + episode.length) / FPS
    for name, each in found.items():
        row |= {f"stats/{name}/{kind}": value.tolist() for kind, value in each.items()}
    return row


def _episode_schema(described: list[str]) -> Any:
    import pyarrow as pa

    whole = ("chunk_index", "file_index")
    columns: dict[str, Any] = {
        "episode_index": pa.int64(),
        "tasks": pa.list_(pa.string()),
        "length": pa.int64(),
        "dataset_from_index": pa.int64(),
        "dataset_to_index": pa.int64(),
    }
    columns |= {f"{of}/{name}": pa.int64() for of in ("data", "meta/episodes") for name in whole}
    if IMAGE in described:
        columns |= {f"videos/{IMAGE}/{name}": pa.int64() for name in whole}
        ends = ("from_timestamp", "to_timestamp")
        columns |= {f"videos/{IMAGE}/{name}": pa.float64() for name in ends}
    for name in described:
        numbers = pa.list_(pa.float64())
        of = pa.list_(pa.list_(numbers)) if name == IMAGE else numbers
        columns |= {f"stats/{name}/{kind}": of for kind in STATISTICS}
        columns[f"stats/{name}/count"] = pa.list_(pa.int64())
    return pa.schema(columns)


def _info(source: Source, vectors: dict[str, int]) -> dict[str, Any]:
    features: dict[str, Any] = {
        name: {"dtype": "float32", "shape": [size], "names": None} for name, size in vectors.items()
    }
    features |= {
        name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in SINGLE.items()
    }
    if source.frames:
        features[IMAGE] = {
            "dtype": "video",
            "shape": [source.frames, source.frames, 3],
            "names": ["height", "width", "channel"],
            "info": {
                "video.height": source.frames,
                "video.width": source.frames,
                "video.codec": "h264",
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "video.fps": FPS,
                "video.channels": 3,
                "has_audio": False,
            },
        }
    return {
        "codebase_version": VERSION,
        "robot_type": "unknown",
        "total_episodes": len(source),
        "total_frames": source.steps,
        "total_tasks": 1,
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": FPS,
        "splits": {name: f"{first}:{stop}" for name, (first, stop) in source.splits.items()},
        "data_path": DATA,
        "video_path": VIDEO if source.frames else None,
        "features": features,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=4) + "\n", encoding="utf-8")


FORMAT = Format("lerobot", "LeRobot", write, (("pyarrow", "pyarrow"), ("pandas", "pandas")))
