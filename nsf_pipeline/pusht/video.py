"""Videos of PushT: H.264 in MP4, as browsers play it."""

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np

from nsf_pipeline.pusht.simulator import Simulator

# One thread, and no encoder version or date in the file: the same frames give the same bytes.
_REPRODUCIBLE = ["-threads", "1", "-map_metadata", "-1", "-fflags", "+bitexact"]
_REPRODUCIBLE += ["-flags:v", "+bitexact", "-movflags", "+faststart", "-f", "mp4"]


def record(simulator: Simulator, actions: np.ndarray) -> Iterator[np.ndarray]:
    """Frames of a rollout from the simulator's current state.

    Args:
        simulator: reset, or in a state entered; it is stepped on.
        actions: (T, 2) px, the agent's targets.

    Yields:
        T + 1 frames (512, 512, 3) uint8, the current state's first.
    """
    yield simulator.render()
    for action in actions:
        simulator.step(action)
        yield simulator.render()


def write_mp4(path: str | os.PathLike[str], frames: Iterable[np.ndarray], fps: int = 10) -> None:
    """Write frames as a video, beside its path first and renamed when complete.

    Args:
        path: the file to write, replaced if it exists.
        frames: at least one (H, W, 3) uint8, all of one size, H and W even.
        fps: frames per second.

    Raises:
        ValueError: no frame, or one of another shape or type.
        OSError: ffmpeg did not finish the file.
        RuntimeError: there is no ffmpeg; the message says what to do.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.partial")
    unfinished = OSError(f"{path}: ffmpeg did not finish the video; is the disk full?")
    frames = _checked(frames)
    first = next(frames)
    writer = imageio_ffmpeg.write_frames(
        partial,
        size=(first.shape[1], first.shape[0]),
        fps=fps,
        codec="libx264",
        pix_fmt_out="yuv420p",
        quality=7,
        macro_block_size=2,
        ffmpeg_log_level="error",
        output_params=_REPRODUCIBLE,
    )
    partial.touch()  # ffmpeg would say less clearly that the folder is missing or closed to us
    sent = 0
    try:
        with contextlib.closing(writer):
            writer.send(None)
            for frame in itertools.chain([first], frames):
                try:
                    writer.send(frame)
                    sent += 1
                except OSError:  # a long one, of which ffmpeg has printed the point
                    raise unfinished from None
        # The writer passes on no exit status: a disk that fills up late shows here alone.
        try:
            written, _ = imageio_ffmpeg.count_frames_and_secs(partial)
        except RuntimeError:
            raise unfinished from None
        if written != sent:
            raise unfinished
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _checked(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames, each contiguous; a ValueError for one that cannot be encoded, or for none."""
    first = None
    for frame in frames:
        if first is None:
            first = frame
        even = frame.ndim == 3 and frame.shape[0] % 2 == 0 and frame.shape[1] % 2 == 0
        if not even or frame.shape[2] != 3 or frame.dtype != np.uint8:
            got = f"{frame.shape} {frame.dtype}"
            raise ValueError(f"frames: expected (H, W, 3) uint8 with H and W even, got {got}")
        if frame.shape != first.shape:
            raise ValueError(f"frames: expected all {first.shape}, got one {frame.shape}")
        yield np.ascontiguousarray(frame)
    if first is None:
        raise ValueError("frames: expected at least one, got none")
