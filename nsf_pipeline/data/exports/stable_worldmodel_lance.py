"""stable-worldmodel's Lance table: the columns of its HDF5 file, and frames as JPEG.

Lance names its files by random numbers, so the same data do not give the same bytes.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from nsf_pipeline.data.exports.format import Format
from nsf_pipeline.data.exports.source import Source
from nsf_pipeline.data.exports.stable_worldmodel import NUMBERS, SINGLE, WIDTHS, Beyond, columns_of

QUALITY = 95
"""Of JPEG, as its own writer has it."""


def write(source: Source, folder: Path) -> dict[str, Any]:
    """Write `pusht.lance`."""
    import lance
    import pyarrow as pa

    widths = dict.fromkeys(SINGLE, 1) | WIDTHS
    fields = [pa.field(name, pa.int32()) for name in NUMBERS]
    fields += [pa.field(name, pa.list_(pa.float32(), width)) for name, width in widths.items()]
    if source.frames:
        fields.append(pa.field("pixels", pa.binary()))
    schema, beyond = pa.schema(fields), Beyond()

    failed: list[Exception] = []

    def batches() -> Iterator[Any]:
        try:
            for episode in source.episodes():
                rows = columns_of(episode)
                beyond.add(rows["action"])
                columns = [pa.array(rows[name], pa.int32()) for name in NUMBERS]
                for name, width in widths.items():
                    flat = pa.array(rows[name].astype(np.float32).reshape(-1), pa.float32())
                    columns.append(pa.FixedSizeListArray.from_arrays(flat, width))
                if source.frames:
                    frames = np.asarray(episode.recording.frames)
                    columns.append(pa.array(map(_jpeg, frames), pa.binary()))
                yield pa.record_batch(columns, schema=schema)
        except Exception as error:
            failed.append(error)
            raise

    reader = pa.RecordBatchReader.from_batches(schema, batches())
    try:
        lance.write_dataset(reader, str(folder / "pusht.lance"), schema)
    except Exception:
        if failed:  # Lance would tell it as its own, in many lines
            raise failed[0] from None
        raise
    return beyond.notes()


def _jpeg(frame: np.ndarray) -> bytes:
    """A frame (H, W, 3) in RGB, encoded."""
    done, encoded = cv2.imencode(".jpg", frame[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    if not done:
        raise ValueError("OpenCV could not encode a frame as JPEG")
    return encoded.tobytes()


FORMAT = Format(
    "stable_worldmodel_lance",
    "stable-worldmodel",
    write,
    (("lance", "pylance"), ("pyarrow", "pyarrow")),
)
