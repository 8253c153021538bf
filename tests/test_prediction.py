"""Videos of predictions: what each side shows, and that the model does not see the truth."""

import subprocess

import imageio_ffmpeg
import jax
import numpy as np
import pytest

from nsf_pipeline import load_model
from nsf_pipeline.config import BridgeConfig, DMPConfig, ModelConfig, NetworkConfig
from nsf_pipeline.data import store
from nsf_pipeline.data.merge import TEST
from nsf_pipeline.data.recording import NEEDED
from nsf_pipeline.evaluation.prediction import NOWHERE, NUM_DRAWS, predict
from nsf_pipeline.model import Normaliser, build_model
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE, STATE_WITHOUT_VELOCITY
from nsf_pipeline.stages import prediction
from nsf_pipeline.stages import video as recording


def decoded(path):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", path]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    pixels = subprocess.run(command, check=True, capture_output=True).stdout
    return np.frombuffer(pixels, np.uint8).reshape(-1, 512, 1024, 3).astype(int)


@pytest.fixture(scope="module")
def trajectory(smoke):
    """The arrays of the first test trajectory."""
    with store.reading(smoke.results / "dataset.h5", "dataset") as file:
        row = int(np.argmax(file["split"][...] == TEST))
        return {name: store.physical(file, name, slice(row, row + 1)) for name in NEEDED}


@pytest.fixture(scope="module")
def video(smoke):
    return smoke.results / "videos/predicted/test_0000000.mp4"


def test_the_same_model_gives_the_same_bytes(smoke, trajectory, video, tmp_path):
    files = (smoke.results / "model.eqx", smoke.results / "dataset.h5")
    assert prediction.run(None, *files, 0, tmp_path / "video.mp4") == trajectory["trajectory"][0]
    assert (tmp_path / "video.mp4").read_bytes() == video.read_bytes()


def test_left_is_the_recording_and_both_start_alike(smoke, trajectory, video, tmp_path):
    frames = decoded(video)
    length = int(trajectory["length"][0])
    assert len(frames) == length + 1
    left, right = frames[:, :, :512], frames[:, :, 512:]
    recorded = tmp_path / "recorded.mp4"
    recording.run(None, smoke.results / "dataset.h5", int(trajectory["trajectory"][0]), recorded)
    # As written, compressed on their own; the captions differ.
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", recorded]
    command += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
    pixels = subprocess.run(command, check=True, capture_output=True).stdout
    alone = np.frombuffer(pixels, np.uint8).reshape(-1, 512, 512, 3).astype(int)
    assert np.abs(left - alone)[:, 40:].mean() < 2
    assert np.abs(left[0] - right[0])[40:].mean() < 1
    assert np.abs(left[-1] - right[-1])[40:].mean() > 1  # another sample, and outlines


def test_prediction_starts_there_and_sees_no_truth_after(smoke, trajectory):
    model = load_model(smoke.results / "model.eqx")
    path, draws = predict(model, trajectory, key=jax.random.key(0))
    length = int(trajectory["length"][0])
    assert path.shape == (length + 1, 7)
    assert draws.shape == (length + 1, NUM_DRAWS, 7)
    start = trajectory["initial_state"][0]
    np.testing.assert_allclose(path[0], start, rtol=1e-6)
    np.testing.assert_allclose(draws[0], np.tile(start, (NUM_DRAWS, 1)), rtol=1e-5, atol=1e-3)
    assert np.ptp(draws[-1], axis=0)[STATE.agent].min() > 0  # they spread
    others = {name: np.zeros_like(trajectory[name]) for name in ("actions", "targets", "seed")}
    again, draws_again = predict(model, trajectory | others, key=jax.random.key(0))
    np.testing.assert_array_equal(again, path)
    np.testing.assert_array_equal(draws_again, draws)
    other, _ = predict(model, trajectory, key=jax.random.key(1))
    assert (other[1:] != path[1:]).any(axis=1).all()


def test_a_model_without_velocity_is_shown_too(trajectory):
    network = NetworkConfig(hidden_size=8, depth=1, num_flow_layers=1)
    config = ModelConfig(
        state_dim=5,
        autonomous=True,
        path_points=1,
        flow=network,
        bridge=BridgeConfig(**dict(network)),
    )
    normaliser = Normaliser(((0.0, 0.0), (512.0, 512.0)), (1.0,) * 5)
    model = build_model(config, DMPConfig(), normaliser, key=jax.random.key(0))
    path, draws = predict(model, trajectory, key=jax.random.key(0))
    assert (path.shape[1], draws.shape[2]) == (5, 5)
    start = trajectory["initial_state"][0, STATE.columns(STATE_WITHOUT_VELOCITY.names)]
    np.testing.assert_allclose(path[0], start, rtol=1e-6)


def test_nowhere_is_an_empty_scene():
    simulator = Simulator()
    simulator.enter(NOWHERE)
    empty = simulator.render()
    simulator.enter(np.array([300.0, 60.0, 0.0, 0.0, 100.0, 100.0, 0.0]))
    changed = (simulator.render() != empty).any(axis=-1)
    assert changed[50:70, 290:310].all()
    assert not changed[250:].any()
