"""The picture of the data shows what is in the data."""

import json
import struct
import sys

import numpy as np
import pytest
from conftest import ROOT, run, simulated
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.patches import Polygon, StepPatch

from nsf_pipeline.config import Config, PolicyConfig
from nsf_pipeline.data import store
from nsf_pipeline.data.picture import (
    APART,
    BINS,
    CONTACT,
    POSES,
    STARTS,
    picture,
    summarise,
)
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.pusht import geometry
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.pusht.state import STATE_WITHOUT_VELOCITY as SEEN
from nsf_pipeline.stages import picture as stage

COUNT = 60
CONFIG = Config(
    num_trajectories=COUNT, shard_size=COUNT, policies=PolicyConfig(duration=(0.5, 2.0))
)


def dataset(folder, policies, config=CONFIG):
    """The path of the data set of some policies."""
    return simulated(folder, policies, config) / "dataset.h5"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A data set of which every third trajectory starts without a reset, near the goal."""
    policies = sample_policies(CONFIG, 0, COUNT)
    policies["from_reset"][::3] = False
    policies["initial_state"][::3, STATE.block] = geometry.GOAL_POSE + np.array([10.0, -10.0, 0.0])
    return dataset(tmp_path_factory.mktemp("picture"), policies)


@pytest.fixture(scope="module")
def rollouts(path):
    return store.read(path.with_name("00000.h5"), "rollouts")


def summary_of(path):
    with store.reading(path, "dataset") as file:
        return summarise(file)


@pytest.fixture(scope="module")
def summary(path):
    return summary_of(path)


def moves(rollouts, row, step):
    position = rollouts["observations"][row, :, SEEN.block_position]
    pose = np.column_stack([position, rollouts["block_angle"][row]])
    return bool((pose[step] != pose[step + 1]).any())


def test_the_summary_is_of_all_steps(path, rollouts, summary):
    taken = {kind: np.zeros(CONFIG.max_steps, int) for kind in (True, False)}
    moved = {kind: np.zeros(CONFIG.max_steps, int) for kind in (True, False)}
    for row, length in enumerate(rollouts["length"]):
        kind = bool(rollouts["from_reset"][row])
        for step in range(length):
            taken[kind][step] += 1
            moved[kind][step] += moves(rollouts, row, step)
        assert summary.coverage[row] == rollouts["coverage"][row, length - 1]
    for kind in (True, False):
        np.testing.assert_array_equal(summary.taken[kind], taken[kind])
        np.testing.assert_array_equal(summary.moved[kind], moved[kind])
        assert 0 < moved[kind].sum() < taken[kind].sum()
    metadata = json.loads(path.with_name("dataset.meta.json").read_text())
    steps = sum(steps.sum() for steps in taken.values())
    assert metadata["num_steps"] == steps
    assert metadata["contact_fraction"] == sum(steps.sum() for steps in moved.values()) / steps
    assert metadata["coverage_mean"] == pytest.approx(summary.coverage.mean())


def test_sampled_paths_are_those_stored(rollouts, summary):
    sample = summary.sample
    assert len(sample.agent) == COUNT  # fewer than would be drawn of a larger one
    for row, length in enumerate(rollouts["length"]):
        seen = rollouts["observations"][row, : length + 1]
        np.testing.assert_array_equal(sample.agent[row], seen[:, SEEN.agent])
        np.testing.assert_array_equal(sample.block[row][:, :2], seen[:, SEEN.block_position])
        angle = rollouts["block_angle"][row, : length + 1]
        np.testing.assert_array_equal(sample.block[row][:, 2], angle)
        assert sample.moved[row].tolist() == [moves(rollouts, row, step) for step in range(length)]
        assert sample.from_reset[row] == rollouts["from_reset"][row]


def test_a_sample_is_evenly_spaced(path, rollouts, monkeypatch):
    monkeypatch.setattr("nsf_pipeline.data.picture.PATHS", 4)
    paths = summary_of(path).sample.agent
    starts = rollouts["observations"][[0, 19, 39, 59], 0, SEEN.agent]
    np.testing.assert_array_equal([path[0] for path in paths], starts)


def test_the_size_of_blocks_changes_nothing(path, summary, monkeypatch):
    monkeypatch.setattr(store, "BLOCK", 7)
    other = summary_of(path)
    np.testing.assert_array_equal(other.coverage, summary.coverage)
    for kind in (True, False):
        np.testing.assert_array_equal(other.moved[kind], summary.moved[kind])
    for ours, theirs in zip(other.sample.block, summary.sample.block, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_contact_is_coloured_apart(summary):
    agent, *_ = picture(summary).axes
    touched = [moved.any() for moved in summary.sample.moved]
    assert 0 < sum(touched) < COUNT
    colours = [line.get_color() for line in agent.lines]
    assert colours == [CONTACT if contact else APART for contact in touched]
    pushes = [drawn for drawn in agent.collections if isinstance(drawn, LineCollection)]
    moving = sum(moved.sum() for moved in summary.sample.moved)
    assert sum(len(drawn.get_segments()) for drawn in pushes) == moving


def test_starts_are_outlines_in_the_colour_of_their_kind(summary):
    _, block, *_ = picture(summary).axes
    goal, *starts = (patch for patch in block.patches if isinstance(patch, Polygon))
    np.testing.assert_array_equal(goal.get_xy()[:-1], geometry.t_outline(geometry.GOAL_POSE))
    assert len(starts) == POSES
    rows = np.linspace(0, COUNT - 1, POSES).astype(int)
    for row, patch in zip(rows, starts, strict=True):
        outline = geometry.t_outline(summary.sample.block[row][0])
        np.testing.assert_array_equal(patch.get_xy()[:-1], outline)
        assert patch.get_edgecolor() == to_rgba(STARTS[summary.sample.from_reset[row]])


def test_the_histogram_counts_every_trajectory(summary):
    _, _, axis, _ = picture(summary).axes
    (steps,) = (patch for patch in axis.patches if isinstance(patch, StepPatch))
    counts, edges, _ = steps.get_data()
    assert counts.sum() == COUNT
    np.testing.assert_array_equal(edges, np.linspace(0, 1, BINS + 1))
    assert counts[0] == (summary.coverage < 1 / BINS).sum()
    assert axis.get_yscale() == "log"
    (text,) = (drawn.get_text() for drawn in axis.texts)
    assert f"nothing: {(summary.coverage == 0).mean():.1%}" in text


def test_shares_of_contact_are_by_time_and_kind(summary):
    *_, axis = picture(summary).axes
    steps = [patch for patch in axis.patches if isinstance(patch, StepPatch)]
    legend = axis.get_legend()
    assert legend is not None
    labels = [text.get_text() for text in legend.get_texts()]
    for kind, drawn, label in zip((True, False), steps, labels, strict=True):
        taken, moved = summary.taken[kind], summary.moved[kind]
        some = taken > 0
        shares, _, _ = drawn.get_data()
        np.testing.assert_array_equal(shares[some], moved[some] / taken[some])
        assert f"{moved.sum() / taken.sum():.1%} over all time" in label


def chunks(data):
    """A PNG file's chunks: their types."""
    at, found = 8, []
    while at < len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        found.append(kind.decode())
        at += size + 12
    return found


def test_the_same_data_give_the_same_bytes_without_a_date(path, tmp_path):
    for name in ("a.png", "b.png"):
        stage.run(None, path, tmp_path / name)
    data = (tmp_path / "a.png").read_bytes()
    assert data == (tmp_path / "b.png").read_bytes()
    assert data[1:4] == b"PNG"
    assert set(chunks(data)) == {"IHDR", "pHYs", "tEXt", "IDAT", "IEND"}
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.png", "b.png"]


@pytest.mark.parametrize("count", [2, 30])
def test_a_data_set_without_contact_or_resets_is_drawn(tmp_path, count):
    config = CONFIG.model_copy(update={"num_trajectories": count, "shard_size": count})
    policies = sample_policies(config, 0, count)
    policies["from_reset"][:] = False
    policies["initial_state"][:, STATE.block_position] = [300.0, 160.0]
    policies["initial_state"][:, STATE.agent] = [100.0, 400.0]  # it stays there, far from the block
    stays = np.full((count, 2), [100.0, 400.0])
    params = DMPParams.from_vector(policies["condition"])
    policies["condition"] = params._replace(start=stays, goal=stays).as_vector()
    found = summary_of(dataset(tmp_path, policies, config))
    assert not found.taken[True].any()
    assert not found.moved[False].any()
    figure = picture(found)
    assert "0.0% of which move the block" in figure.get_suptitle()
    stage.run(None, tmp_path / "dataset.h5", tmp_path / "dataset.png")
    assert (tmp_path / "dataset.png").stat().st_size > 10_000


def test_drawing_needs_neither_jax_nor_a_display(path, tmp_path):
    code = (
        "import sys; from nsf_pipeline.cli import main; "
        f"assert main(['picture', '--dataset', {str(path)!r}, '--output', 'x.png']) == 0; "
        "assert not {'jax', 'equinox', 'matplotlib.pyplot', 'pandas'} & sys.modules.keys()"
    )
    environment = {"PYTHONPATH": str(ROOT), "DISPLAY": "", "MPLBACKEND": "agg"}
    done = run("env", "-C", tmp_path, sys.executable, "-W", "error", "-c", code, **environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert [file.name for file in tmp_path.iterdir()] == ["x.png"]
