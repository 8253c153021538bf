"""Videos: what is written is read back, and nothing is left half-written."""

import itertools
import os
import struct
import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
from conftest import run_verb, simulated

from nsf_pipeline.cli import main
from nsf_pipeline.config import Config, PolicyConfig
from nsf_pipeline.data import store
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.recording import last_coverage
from nsf_pipeline.evaluation.prediction import NOWHERE
from nsf_pipeline.files import FileError
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE, STATE_WITHOUT_VELOCITY
from nsf_pipeline.pusht.video import (
    BLOCK,
    DESIRED,
    TRAVELLED,
    annotated,
    record,
    with_outlines,
    write_mp4,
)
from nsf_pipeline.stages import video

COUNT = 40
CONFIG = Config(
    num_trajectories=COUNT, shard_size=COUNT, policies=PolicyConfig(duration=(0.5, 3.0))
)


@pytest.fixture(scope="module")
def frames():
    simulator = Simulator()
    state = simulator.reset(0)
    return list(record(simulator, np.linspace(state[STATE.agent], state[STATE.block_position], 12)))


def decoded(path):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    pixels = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(pixels, np.uint8).reshape(-1, 512, 512, 3)


def test_record_is_the_rollout(frames):
    simulator = Simulator()
    state = simulator.reset(0)
    assert len(frames) == 13
    for frame in frames:
        assert frame.shape == (512, 512, 3)
        assert frame.dtype == np.uint8
    np.testing.assert_array_equal(frames[0], simulator.render())
    simulator.rollout(np.linspace(state[STATE.agent], state[STATE.block_position], 12))
    np.testing.assert_array_equal(frames[-1], simulator.render())


def test_written_video_reads_back(frames, tmp_path, capfd):
    path = tmp_path / "video.mp4"
    write_mp4(path, frames, fps=10)
    assert imageio_ffmpeg.count_frames_and_secs(path) == (13, pytest.approx(1.3))
    for frame, original in zip(decoded(path), frames, strict=True):
        assert np.abs(frame.astype(int) - original).mean() < 4
    assert b"avc1" in path.read_bytes()  # H.264
    assert [p.name for p in tmp_path.iterdir()] == ["video.mp4"]
    assert capfd.readouterr() == ("", "")


def test_same_frames_give_same_bytes(frames, tmp_path):
    for name in ("a.mp4", "b.mp4"):
        write_mp4(tmp_path / name, iter(frames))
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "at least one"),
        ([np.zeros((16, 16), np.uint8)], "expected .H, W, 3. uint8"),
        ([np.zeros((15, 16, 3), np.uint8)], "H and W even, got .15, 16, 3. uint8"),
        ([np.zeros((16, 16, 3))], "got .16, 16, 3. float64"),
        ([np.zeros((16, 16, 3), np.uint8), np.zeros((18, 16, 3), np.uint8)], "expected all"),
    ],
)
def test_wrong_frames_are_named_and_the_old_video_stays(bad, message, tmp_path):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match=message):
        write_mp4(path, bad)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_ffmpeg_is_started_without_a_fork_that_runs_python(frames, tmp_path):
    forks = []
    os.register_at_fork(before=lambda: forks.append("fork"))
    write_mp4(tmp_path / "video.mp4", frames)
    assert forks == []


def test_failure_of_the_source_leaves_nothing(frames, tmp_path):
    def failing():
        yield frames[0]
        raise RuntimeError("source")

    with pytest.raises(RuntimeError, match="source"):
        write_mp4(tmp_path / "video.mp4", failing())
    assert not list(tmp_path.iterdir())


def test_a_file_in_place_of_the_folder_is_named(frames, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileError, match=r"file/video\.mp4: cannot write it: "):
        write_mp4(tmp_path / "file" / "video.mp4", frames)


def test_failure_of_ffmpeg_is_one_line(frames, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        yield
        raise OSError("broken pipe\n\nFFMPEG COMMAND:\n")

    monkeypatch.setattr(imageio_ffmpeg, "write_frames", broken)
    with pytest.raises(FileError, match="ffmpeg did not finish") as error:
        write_mp4(tmp_path / "video.mp4", frames)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_truncated_video_is_not_kept(frames, tmp_path, monkeypatch):
    monkeypatch.setattr(imageio_ffmpeg, "count_frames_and_secs", lambda path: (12, 1.2))
    with pytest.raises(FileError, match="did not finish"):
        write_mp4(tmp_path / "video.mp4", frames)
    assert not list(tmp_path.iterdir())


def boxes(data):
    """An MP4 file's boxes, or those within one: (type, content) in order."""
    at = 0
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        assert size >= 8
        yield kind.decode(), data[at + 8 : at + size]
        at += size
    assert at == len(data)


def inside(data, *path):
    """The content of the box at a path."""
    for kind in path:
        data = dict(boxes(data))[kind]
    return data


def test_browsers_can_play_it(frames, tmp_path):
    """Its structure, parsed as in ISO/IEC 14496-12 and -15."""
    path = tmp_path / "video.mp4"
    write_mp4(path, frames, fps=10)
    data = path.read_bytes()
    order = [kind for kind, _ in boxes(data)]
    assert order[0] == "ftyp"
    assert order.index("moov") < order.index("mdat")  # starts before all of it has come
    assert order.count("mdat") == 1
    scale, duration = struct.unpack_from(">II", inside(data, "moov", "mvhd"), 12)
    assert duration / scale == pytest.approx(1.3)
    track = inside(data, "moov", "trak", "mdia")
    assert inside(track, "hdlr")[8:12] == b"vide"
    table = inside(track, "minf", "stbl")
    entries, delta_count, delta = struct.unpack_from(">III", inside(table, "stts"), 4)
    assert (entries, delta_count) == (1, len(frames))
    assert struct.unpack_from(">I", inside(track, "mdhd"), 12)[0] / delta == 10  # a second
    ((kind, sample),) = boxes(inside(table, "stsd")[8:])
    assert kind == "avc1"
    assert struct.unpack_from(">HH", sample, 24) == (512, 512)
    settings = inside(sample[78:], "avcC")
    _, profile, _, level = settings[:4]
    assert profile == 100  # High
    assert level <= 31
    chroma_format, luma_depth, chroma_depth = (byte & 3 for byte in settings[-4:-1])
    assert (chroma_format, luma_depth, chroma_depth) == (1, 0, 0)  # 4:2:0 of 8 bits


def test_ffmpeg_itself_calls_it_h264(frames, tmp_path):
    write_mp4(tmp_path / "video.mp4", frames)
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-hide_banner", "-i", tmp_path / "video.mp4"]
    text = subprocess.run(command, capture_output=True, text=True).stderr
    (stream,) = [line for line in text.splitlines() if "Stream #" in line]
    for words in ("Video: h264 (High) (avc1", "yuv420p", "512x512", "10 fps"):
        assert words in stream
    assert "Duration: 00:00:01.30, start: 0.000000" in text


def test_paths_goal_and_caption_are_drawn_thin(frames):
    frame = frames[0].copy()
    desired = np.array([[300.0, 60.0], [460.0, 60.0]])
    travelled = np.array([[300.0, 90.0], [460.0, 90.0]])
    drawn = annotated(frame, desired, desired[-1], travelled, "caption")
    np.testing.assert_array_equal(frame, frames[0])
    assert (drawn.shape, drawn.dtype) == (frame.shape, np.uint8)
    assert (frame[50:100, 290:480] == 255).all()  # nothing was there
    for (y, colour), x in itertools.product(((60, DESIRED), (90, TRAVELLED)), (320, 400)):
        # On white, and translucent: between its colour and white.
        assert (drawn[y, x] <= 255 - (255 - np.array(colour)) // 2).all()
        assert (drawn[y, x] >= colour).all()
    changed = (drawn != frame).any(axis=-1)
    assert changed[52:69, 452:469].any(axis=1).all()  # the goal's ring, of 8 px radius
    assert changed[10:30, 10:100].any()  # the caption
    assert changed.mean() < 0.01
    assert not changed[100:].any()


def test_outlines_are_behind_agent_and_block_and_faint():
    simulator = Simulator()
    simulator.enter(NOWHERE)
    backdrop = simulator.render()
    simulator.enter(STATE.join([100.0, 100.0], np.zeros(2), [150.0, 400.0, 0.0]))
    frame = simulator.render()
    others = np.array([[100.0, 120.0, 400.0, 60.0, 0.0], [100.0, 100.0, 150.0, 400.0, 0.5]])
    drawn = with_outlines(frame, backdrop, others)
    assert (drawn.shape, drawn.dtype) == (frame.shape, np.uint8)
    scene = (frame != backdrop).any(axis=-1)
    np.testing.assert_array_equal(drawn[scene], frame[scene])
    changed = (drawn != frame).any(axis=-1)
    assert changed[60, 345:455].all()  # the upper edge of the first T, 120 px wide
    assert (drawn[60, 400] > BLOCK).all()
    assert changed[135, 100]  # the lowest point of the first agent, 15 px from its centre
    assert changed[380:, 60:260].any()  # the second T, turned, where the block does not hide it
    assert 0.001 < changed.mean() < 0.01


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A rollout shard and its data set."""
    folder = tmp_path_factory.mktemp("videos")
    return simulated(folder, sample_policies(CONFIG, 0, COUNT), CONFIG)


@pytest.fixture(scope="module")
def rollouts(folder):
    return store.read(folder / "00000.h5", "rollouts")


@pytest.mark.parametrize("from_reset", [True, False])
def test_shard_and_data_set_give_the_same_video(folder, rollouts, tmp_path, from_reset):
    trajectory = int(np.flatnonzero(rollouts["from_reset"] == from_reset)[0])
    videos: list[bytes] = []
    for name in ("00000.h5", "dataset.h5", "dataset.h5"):
        path = tmp_path / f"{len(videos)}.mp4"
        assert video.run(None, folder / name, trajectory, path) == trajectory
        videos.append(path.read_bytes())
    assert videos[1] == videos[2]
    shard, dataset = (decoded(tmp_path / f"{number}.mp4") for number in (0, 1))
    np.testing.assert_array_equal(shard, dataset)  # in another file, made by other stages
    length = rollouts["length"][trajectory]
    found = imageio_ffmpeg.count_frames_and_secs(tmp_path / "0.mp4")
    assert found == (length + 1, pytest.approx((length + 1) / 10))


def test_a_video_shows_what_is_stored(folder, rollouts, tmp_path):
    """Apart from the overlay: the scene that the environment draws of each stored state."""
    row = int(np.argmax(np.ptp(rollouts["block_angle"], axis=1)))
    video.run(None, folder / "00000.h5", row, tmp_path / "video.mp4")
    shown = decoded(tmp_path / "video.mp4")
    simulator = Simulator()
    for step, frame in enumerate(shown):
        seen = rollouts["observations"][row, step].astype(float)
        agent = seen[STATE_WITHOUT_VELOCITY.agent]
        position = seen[STATE_WITHOUT_VELOCITY.block_position]
        pose = [*position, rollouts["block_angle"][row, step]]
        simulator.enter(STATE.join(agent, np.zeros(2), pose))
        off = np.abs(frame.astype(int) - simulator.render()).mean(axis=-1)
        off[:40] = 0  # the caption
        # Except for the lines and the cross.
        assert np.mean(off > 60) < 0.015, step


@pytest.mark.parametrize("source", ["00000.h5", "dataset.h5"])
def test_ranks_are_by_last_coverage_and_then_in_order(folder, rollouts, tmp_path, source):
    last = rollouts["coverage"][np.arange(COUNT), rollouts["length"] - 1]
    assert (last == 0).sum() > 1
    assert last.max() > 0
    ranking = sorted(range(COUNT), key=lambda row: (-last[row], row))
    expected = {"best": ranking[0], "median": ranking[(COUNT - 1) // 2], "worst": ranking[-1]}
    for name, trajectory in expected.items():
        assert video.run(None, folder / source, name, tmp_path / f"{name}.mp4") == trajectory
    with store.reading(folder / source, "rollouts", "dataset") as file:
        np.testing.assert_array_equal(last_coverage(file), last)


def test_last_coverages_are_read_in_blocks(rollouts, monkeypatch):
    last = rollouts["coverage"][np.arange(COUNT), rollouts["length"] - 1]
    monkeypatch.setattr(store, "BLOCK", 7)
    np.testing.assert_array_equal(last_coverage(rollouts), last)


NO_FFMPEG = "nsf_pipeline: expected ffmpeg to write videos, got "


def test_a_machine_without_ffmpeg_gets_one_line(folder, tmp_path, monkeypatch, capsys):
    def none():
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.delenv("IMAGEIO_FFMPEG_EXE", raising=False)
    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", none)
    arguments = ["--source", folder / "dataset.h5", "--trajectory", "0", "--output"]
    assert main(["video", *map(str, arguments), str(tmp_path / "videos/video.mp4")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(NO_FFMPEG + "none with imageio-ffmpeg or on PATH; install it")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_ffmpeg_named_where_there_is_none_is_one_line(folder, tmp_path):
    arguments = ["--source", folder / "dataset.h5", "--trajectory", "0", "--output"]
    environment = {"IMAGEIO_FFMPEG_EXE": str(tmp_path / "none")}
    done = run_verb("video", *arguments, tmp_path / "video.mp4", **environment)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(NO_FFMPEG + f"IMAGEIO_FFMPEG_EXE={tmp_path / 'none'}; install it")
    assert list(tmp_path.iterdir()) == []


def test_an_ffmpeg_that_fails_is_reported(folder, tmp_path):
    fake = tmp_path / "ffmpeg"
    fake.write_text("#!/bin/sh\nexit 1\n")
    fake.chmod(0o755)
    arguments = ["--source", folder / "dataset.h5", "--trajectory", "0", "--output"]
    environment = {"IMAGEIO_FFMPEG_EXE": str(fake)}
    done = run_verb("video", *arguments, tmp_path / "video.mp4", **environment)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "ffmpeg did not finish the video; was it killed, or does this ffmpeg lack" in line
    assert list(tmp_path.iterdir()) == [fake]
