"""Videos: what is written is read back, and nothing is left half-written."""

import subprocess

import imageio_ffmpeg
import numpy as np
import pytest

from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.video import record, write_mp4


@pytest.fixture(scope="module")
def frames():
    simulator = Simulator()
    state = simulator.reset(0)
    return list(record(simulator, np.linspace(state[:2], state[4:6], 12)))


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
    simulator.rollout(np.linspace(state[:2], state[4:6], 12))
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
def test_unfit_frames_are_named_and_the_old_video_stays(bad, message, tmp_path):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"old")
    with pytest.raises(ValueError, match=message):
        write_mp4(path, bad)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_failure_of_the_source_leaves_nothing(frames, tmp_path):
    def failing():
        yield frames[0]
        raise RuntimeError("source")

    with pytest.raises(RuntimeError, match="source"):
        write_mp4(tmp_path / "video.mp4", failing())
    assert not list(tmp_path.iterdir())


def test_missing_folder_is_named(frames, tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        write_mp4(tmp_path / "missing" / "video.mp4", frames)


def test_failure_of_ffmpeg_is_one_line(frames, tmp_path, monkeypatch):
    def broken(*args, **kwargs):
        yield
        raise OSError("broken pipe\n\nFFMPEG COMMAND:\n")

    monkeypatch.setattr(imageio_ffmpeg, "write_frames", broken)
    with pytest.raises(OSError, match="ffmpeg did not finish") as error:
        write_mp4(tmp_path / "video.mp4", frames)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_truncated_video_is_not_kept(frames, tmp_path, monkeypatch):
    monkeypatch.setattr(imageio_ffmpeg, "count_frames_and_secs", lambda path: (12, 1.2))
    with pytest.raises(OSError, match="did not finish"):
        write_mp4(tmp_path / "video.mp4", frames)
    assert not list(tmp_path.iterdir())
