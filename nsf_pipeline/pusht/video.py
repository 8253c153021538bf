"""Videos of PushT: H.264 in MP4, as browsers play it."""

import contextlib
import itertools
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, cast

import cv2  # in whichever build gym-pusht installs
import imageio_ffmpeg
import numpy as np

from nsf_pipeline import checks
from nsf_pipeline.errors import MOST, UserError, shown
from nsf_pipeline.files import replacing
from nsf_pipeline.pusht.geometry import AGENT_RADIUS, t_outline
from nsf_pipeline.pusht.simulator import FARTHEST, Simulator
from nsf_pipeline.pusht.state import layout_of

DESIRED, TRAVELLED, TEXT = (190, 40, 180), (65, 105, 225), (0, 0, 0)  # RGB; the agent's blue
BLOCK = (119, 136, 153)  # the block's grey
PREDICTED = (205, 85, 0)
GOAL_RADIUS, OPACITY, FAINT = 8, 0.7, 0.6
LINE_HEIGHT = 16  # px, of a caption's lines
FASTEST = 1_000
_FRACTION_BITS = 4  # OpenCV draws to a sixteenth of a pixel

# One thread, and no encoder version or date in the file: the same frames give the same bytes.
_REPRODUCIBLE = ["-threads", "1", "-map_metadata", "-1", "-fflags", "+bitexact"]
_REPRODUCIBLE += ["-flags:v", "+bitexact", "-movflags", "+faststart", "-f", "mp4"]
_RANDOM_ACCESS = ["-g", "2", "-bf", "0"]

# Without this, ffmpeg is started by a fork that runs Python, which can hang if JAX has threads.
os.environ.setdefault("IMAGEIO_FFMPEG_NO_PREVENT_SIGINT", "1")


def record(simulator: Simulator, actions: np.ndarray) -> Iterator[np.ndarray]:
    """Frames of a rollout from the simulator's current state.

    Args:
        simulator: after `reset` or `enter`; it takes T steps.
        actions: (T, 2) px, the agent's targets.

    Yields:
        T + 1 frames (512, 512, 3) uint8, the current state's first.
    """
    yield simulator.render()
    for action in actions:
        simulator.step(action)
        yield simulator.render()


def with_outlines(frame: np.ndarray, backdrop: np.ndarray, states: np.ndarray) -> np.ndarray:
    """A frame with the outlines of other states drawn in faintly, behind its agent and block.

    Args:
        frame: (512, 512, 3) uint8, as rendered.
        backdrop: (512, 512, 3) uint8, the scene without agent and block.
        states: (n, 5 or 7), of either layout of `pusht.state`.

    Returns:
        (512, 512, 3) uint8, a new frame.

    Raises:
        ValueError: a wrong shape, or a number that is not finite.
    """
    states = checks.numbers("states", states, (None, None))
    drawn, layout = backdrop.copy(), layout_of(states.shape[-1])
    radius = int(AGENT_RADIUS) << _FRACTION_BITS
    for state in states:
        outline = _subpixel(t_outline(state[layout.block]))
        centre = _subpixel(state[layout.agent]).tolist()
        cv2.polylines(drawn, [outline], True, BLOCK, 1, cv2.LINE_AA, _FRACTION_BITS)
        cv2.circle(drawn, centre, radius, TRAVELLED, 1, cv2.LINE_AA, _FRACTION_BITS)
    behind = cv2.addWeighted(drawn, FAINT, backdrop, 1.0 - FAINT, 0.0)
    return np.where((frame != backdrop).any(axis=-1, keepdims=True), frame, behind)


def annotated(
    frame: np.ndarray,
    desired: np.ndarray,
    goal: np.ndarray,
    travelled: np.ndarray,
    caption: str,
    *,
    predicted: np.ndarray | None = None,
) -> np.ndarray:
    """A frame with paths, a goal and a caption drawn in, thin and translucent.

    Args:
        frame: (512, 512, 3) uint8, as rendered.
        desired: (P, 2) px, a path to follow.
        goal: (2,) px, where it leads.
        travelled: (Q, 2) px, the agent's path so far.
        caption: short lines.
        predicted: (3,) px, px, rad: a pose of the block, whose outline is drawn; None for none.

    Returns:
        (512, 512, 3) uint8, a new frame.

    Raises:
        ValueError: a wrong shape, or a number that is not finite.
    """
    desired, travelled = (
        checks.numbers(name, points, (None, 2))
        for name, points in (("desired", desired), ("travelled", travelled))
    )
    goal = checks.numbers("goal", goal, (2,))
    drawn = frame.copy()

    def line(
        points: np.ndarray, colour: tuple[int, int, int], width: int, *, closed: bool = False
    ) -> None:
        points = _subpixel(points)
        cv2.polylines(drawn, [points], closed, colour, width, cv2.LINE_AA, _FRACTION_BITS)

    if predicted is not None:
        pose = checks.numbers("predicted", predicted, (3,))
        line(t_outline(pose), PREDICTED, 2, closed=True)
    line(travelled, TRAVELLED, 2)
    line(desired, DESIRED, 1)
    centre, radius = _subpixel(goal).tolist(), GOAL_RADIUS << _FRACTION_BITS
    cv2.circle(drawn, centre, radius, DESIRED, 2, cv2.LINE_AA, _FRACTION_BITS)
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.42
    for number, text in enumerate(caption.split("\n")):
        place = (14, 26 + LINE_HEIGHT * number)
        cv2.putText(drawn, text, place, font, size, TEXT, 1, cv2.LINE_AA)
    return cv2.addWeighted(drawn, OPACITY, frame, 1.0 - OPACITY, 0.0)


def _subpixel(points: np.ndarray) -> np.ndarray:
    # Far outside the picture, where whole numbers of 32 bits end, nothing is drawn anyway.
    near = np.clip(points, -FARTHEST, FARTHEST)
    return np.rint(near * (1 << _FRACTION_BITS)).astype(np.int32)


def write_mp4(
    path: str | os.PathLike[str],
    frames: Iterable[np.ndarray],
    fps: int = 10,
    comment: str = "",
    *,
    random_access: bool = False,
) -> None:
    """Write frames as a video; the file is written when ffmpeg is done.

    Args:
        path: the file to write, replaced if it exists.
        frames: at least one (H, W, 3) uint8, all of one size, H and W even.
        fps: frames per second.
        comment: stored in the file's metadata.
        random_access: every second frame is encoded by itself, so that single frames are read fast.

    Raises:
        ValueError: no frame, or one of another shape or type; or `fps` is no whole number from 1 to
            1,000.
        FileError: ffmpeg did not finish the video, or the file cannot be written.
        UserError: ffmpeg is not installed.
    """
    fps = checks.whole("fps", fps, 1, FASTEST)
    _require_ffmpeg()
    unfinished = OSError(
        "ffmpeg did not finish the video; was it killed, or does this ffmpeg lack libx264?"
    )
    frames = _checked(frames)
    with replacing(Path(path)) as beside, _out_of_sight() as (name, video):
        first = next(frames)
        writer = imageio_ffmpeg.write_frames(
            name,
            size=(first.shape[1], first.shape[0]),
            fps=fps,
            codec="libx264",
            pix_fmt_out="yuv420p",
            quality=7,
            macro_block_size=2,
            ffmpeg_log_level="error",
            output_params=[
                *("-metadata", f"comment={comment}", *_REPRODUCIBLE),
                *(_RANDOM_ACCESS if random_access else ()),
            ],
        )
        sent = 0
        with contextlib.closing(writer):
            writer.send(None)
            for frame in itertools.chain([first], frames):
                try:
                    writer.send(frame)
                    sent += 1
                except OSError:  # its message is long, and ffmpeg has printed the reason
                    raise unfinished from None
        # The writer hides ffmpeg's exit status: only this count shows that it got to the end.
        try:
            written, _ = imageio_ffmpeg.count_frames_and_secs(name)
        except RuntimeError:
            raise unfinished from None
        if written != sent:
            raise unfinished
        beside.write_bytes(video.read())


@contextlib.contextmanager
def _out_of_sight() -> Iterator[tuple[str, BinaryIO]]:
    """An empty file for ffmpeg, and its name: in memory where that is possible (on Linux).

    A kill then leaves nothing behind. Elsewhere it is in the system's folder for temporary files.
    """
    with contextlib.ExitStack() as stack:
        found: tuple[str, BinaryIO] | None = None
        with contextlib.suppress(OSError, AttributeError):
            file = stack.enter_context(os.fdopen(os.memfd_create("video"), "rb"))
            name = f"/proc/{os.getpid()}/fd/{file.fileno()}"
            if os.path.samestat(os.stat(name), os.fstat(file.fileno())):
                found = name, file
        if not found:
            other = stack.enter_context(tempfile.NamedTemporaryFile(suffix=".mp4"))
            found = other.name, cast(BinaryIO, other)
        yield found


def _require_ffmpeg() -> None:
    try:
        found = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        found = ""
    if not shutil.which(found):
        name = "IMAGEIO_FFMPEG_EXE"
        got = (
            f"{name}={shown(found, MOST)}"
            if os.environ.get(name)
            else "none with imageio-ffmpeg or on PATH"
        )
        raise UserError(
            f"expected ffmpeg to write videos, got {got}; install it (`apt install ffmpeg`), or "
            f"set {name} to where it is"
        )


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
