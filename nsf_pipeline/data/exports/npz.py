"""Padded arrays in one `.npz`, and `.meta.json` with their bounds and statistics.

The arrays are those that the first description of this data set names: observations and actions
padded to the longest trajectory, with masks, times, rewards and the DMP vectors (`conditions`).
The others of a rollout shard are beside them.
"""

import json
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy

from nsf_pipeline.data import store
from nsf_pipeline.data.exports.format import Format
from nsf_pipeline.data.exports.source import Source
from nsf_pipeline.data.statistics import SPLITS

NAMES = {"condition": "conditions"}
"""Arrays with another name in the file than in a rollout shard."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of each array in the file, so that the same data give the same bytes."""


def write(source: Source, folder: Path) -> dict[str, Any]:
    """Write `pusht.npz` and `pusht.meta.json`."""
    with zipfile.ZipFile(folder / "pusht.npz", "w", allowZip64=True) as archive:
        for name, field in store.ROLLOUTS.items():
            blocks = (block[name] for block in source.blocks(name))
            _add(archive, NAMES.get(name, name), source.shape_of(name), field.dtype, blocks)
        splits = np.empty(len(source), np.uint8)
        for name, (first, stop) in source.splits.items():
            splits[first:stop] = SPLITS.index(name)
        _add(archive, "split", splits.shape, "uint8", [splits])
        if source.frames:
            shape = (len(source), source.longest + 1, source.frames, source.frames, 3)
            frames = (_padded(each.recording.frames, shape[1:]) for each in source.episodes())
            _add(archive, "frames", shape, "uint8", frames, zipfile.ZIP_DEFLATED)
    text = json.dumps(source.statistics(), indent=2, sort_keys=True)
    (folder / "pusht.meta.json").write_text(text + "\n", encoding="utf-8")
    return {}


def _add(
    archive: zipfile.ZipFile,
    name: str,
    shape: tuple[int, ...],
    dtype: str,
    blocks: Iterable[np.ndarray],
    compression: int = zipfile.ZIP_STORED,
) -> None:
    """Add an array, a block after the other."""
    entry = zipfile.ZipInfo(f"{name}.npy", EPOCH)
    entry.compress_type = compression
    header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": shape}
    with archive.open(entry, "w", force_zip64=True) as file:
        npy.write_array_header_1_0(file, header)
        for block in blocks:
            file.write(np.ascontiguousarray(block, dtype).tobytes())


def _padded(frames: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    padded = np.zeros(shape, np.uint8)
    if frames is not None:
        padded[: len(frames)] = frames
    return padded


FORMAT = Format("npz", "NumPy", write)
