"""The evaluation: scores against closed forms, states fairly chosen, reports that read back."""

import io

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal, norm
from shapely import Polygon
from shapely.ops import unary_union

from nsf_pipeline.data.transitions import Trajectories
from nsf_pipeline.errors import UserError
from nsf_pipeline.evaluation import figures, tables
from nsf_pipeline.evaluation.comparison import persistence_std
from nsf_pipeline.evaluation.metrics import (
    GROUPS,
    Group,
    gaussian_log_density,
    score,
    score_point,
)
from nsf_pipeline.evaluation.states import States, choose_states
from nsf_pipeline.pusht.simulator import Simulator

BOTH = Group((0, 1), "px", 1.0)


def gaussian_crps(mean, std, truth):
    """Gneiting and Raftery 2007, section 4.2."""
    z = (truth - mean) / std
    return std * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))


def test_crps_is_the_gaussians():
    random = np.random.default_rng(0)
    truth = random.normal(0.0, 3.0, (2000, 2))
    draws = random.normal([1.0, -2.0], [2.0, 0.5], (2000, 16, 2))
    expected = gaussian_crps(np.array([1.0, -2.0]), np.array([2.0, 0.5]), truth)
    found = score(draws, truth, BOTH).crps
    assert found.shape == (2000, 2)
    error = (found - expected).std(axis=0) / np.sqrt(len(truth))
    # Fair: without bias, although there are only 16 draws.
    assert (np.abs((found - expected).mean(axis=0)) < 4 * error).all()
    assert (error < 0.03).all()


def test_a_calibrated_law_is_covered_as_often_as_it_says():
    random = np.random.default_rng(0)
    spread = random.uniform(0.1, 10.0, (4000, 1, 2))
    draws = spread * random.normal(size=(4000, 200, 2))
    truth = spread[:, 0] * random.normal(size=(4000, 2))
    covered = score(draws, truth, BOTH).covered
    assert covered.shape == (4000, 2, 2)
    np.testing.assert_allclose(covered.mean(axis=(0, 1)), [0.5, 0.9], atol=0.02)
    too_sure = score(0.5 * draws, truth, BOTH).covered
    assert (too_sure.mean(axis=(0, 1)) < [0.4, 0.75]).all()


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("state_dim", [5, 7])
def test_groups_pick_their_components_and_units(name, state_dim):
    columns = {"agent": [0, 1], "block_position": [-3, -2], "block_angle": [-1]}[name]
    factor = 180.0 / np.pi if name == "block_angle" else 1.0
    random = np.random.default_rng(0)
    truth, guess = random.normal(size=(2, 30, state_dim))
    found = score_point(guess, truth, GROUPS[name])
    np.testing.assert_allclose(found.crps, factor * np.abs(guess - truth)[:, columns])
    assert not found.covered.any()
    assert score_point(truth, truth, GROUPS[name]).covered.all()
    # An ensemble without spread is a point.
    ensemble = np.repeat(guess[:, None], 8, axis=1)
    np.testing.assert_allclose(score(ensemble, truth, GROUPS[name]).crps, found.crps, rtol=1e-6)


def test_gaussian_density_is_scipys():
    random = np.random.default_rng(0)
    error, std = random.normal(size=(20, 3)), np.array([0.5, 2.0, 30.0])
    expected = multivariate_normal(np.zeros(3), np.diag(std**2)).logpdf(error)
    np.testing.assert_allclose(gaussian_log_density(error, std), expected)


def trajectories(count=6, longest=12):
    """States that say which trajectory and step they are."""
    length = np.arange(longest - count + 1, longest + 1, dtype=np.int32)
    row, step = np.meshgrid(np.arange(count), np.arange(longest + 1), indexing="ij")
    states = np.stack([row, step, row, row, step], axis=-1).astype(np.float32)
    states[step > length[:, None]] = np.nan
    return Trajectories(states, length, np.arange(count, dtype=np.float32)[:, None])


@pytest.mark.parametrize("horizon", [0.1, 0.5, 1.2])
@pytest.mark.parametrize("count", [5, 1000])
def test_states_are_chosen_fairly(horizon, count):
    source, gap = trajectories(), round(horizon / 0.1)
    available = int(np.maximum(source.length - gap + 1, 0).sum())
    states, again, other = (
        choose_states(source, horizon, count, np.random.default_rng(seed)) for seed in (0, 0, 1)
    )
    assert len(states) == min(count, available)
    for one, same in zip(states, again, strict=True):
        np.testing.assert_array_equal(one, same)
    if len(states) < available - 1:
        assert not np.array_equal(states.x_init, other.x_init)
    assert len(np.unique(states.x_init, axis=0)) == len(states)
    # Never beyond a trajectory's end, nor from one into another.
    assert np.isfinite(states.x_final).all()
    np.testing.assert_array_equal(states.x_final[:, 0], states.x_init[:, 0])
    np.testing.assert_array_equal(states.condition[:, 0], states.x_init[:, 0])
    np.testing.assert_array_equal(states.x_final[:, 1] - states.x_init[:, 1], gap)
    np.testing.assert_allclose(states.t_init, 0.1 * states.x_init[:, 1], atol=1e-6)
    np.testing.assert_allclose(states.t_final, 0.1 * states.x_final[:, 1], atol=1e-6)


def test_states_are_uniform_over_all_that_have_a_successor():
    source = trajectories()
    chosen = [
        tuple(choose_states(source, 1.0, 1, np.random.default_rng(seed)).x_init[0, :2])
        for seed in range(600)
    ]
    counts = np.unique(chosen, axis=0, return_counts=True)[1]
    assert len(counts) == 6  # of lengths 7 to 12, those of 10, 11 and 12 give 1, 2 and 3
    assert counts.min() > 60


def test_a_horizon_beyond_all_trajectories_is_named():
    with pytest.raises(UserError, match=r"no trajectory of this split lasts 1\.3 s; lower"):
        choose_states(trajectories(), 1.3, 5, np.random.default_rng(0))


def test_persistence_spreads_as_much_as_states_change():
    found = persistence_std(trajectories(), 0.5)
    np.testing.assert_allclose(found, [1e-6, 5.0, 1e-6, 1e-6, 5.0], atol=2e-6)


def rows():
    return [
        {
            "model": model,
            "horizon_s": horizon,
            "group": group,
            "crps": (place + 1.0) * factor / 3.0,
            "coverage_50": 0.5,
            "coverage_90": 0.9,
            "nll": 10.0 * horizon + factor,
            "n_states": 17,
        }
        for model, factor in (("flow", 0.25), ("persistence", 1.0))
        for place, horizon in enumerate((0.5, 0.1))
        for group in GROUPS
    ]


def test_tables_read_back():
    table = tables.with_skill(rows(), "persistence")
    back = pd.read_csv(io.StringIO(tables.as_csv(table)))
    assert tuple(back.columns) == tables.COLUMNS
    pd.testing.assert_frame_equal(back, table, check_exact=False, rtol=1e-5)
    assert back.loc[back["model"] == "flow", "skill"].eq(0.75).all()
    assert back.loc[back["model"] == "persistence", "skill"].eq(0.0).all()


def test_markdown_shows_each_score_once():
    table = tables.with_skill(rows(), "persistence")
    text = tables.as_markdown(table, "flow", "persistence", ["A note."])
    lines = text.splitlines()
    assert lines[0].startswith("# ")
    for label in ("agent (px)", "block position (px)", "block angle (degrees)"):
        assert f"| {label} | 0.1 | 0.167 | 0.667 | 0.75 | 50% | 90% | 17 |" in lines
        assert f"| {label} | 0.5 | 0.0833 | 0.333 | 0.75 | 50% | 90% | 17 |" in lines
    assert "| 0.1 | 1.25 | 2.00 |" in lines
    assert lines[-1] == "- A note."
    columns = {line.count("|") for line in lines if line.startswith("|")}
    assert columns == {9, 4}


def some_states(count, state_dim=7):
    random = np.random.default_rng(0)
    start = random.uniform(100, 400, (count, state_dim)).astype(np.float32)
    end = start + random.normal(0, 20, start.shape).astype(np.float32)
    zeros = np.zeros(count, np.float32)
    draws = end[:, None] + random.normal(0, 5, (count, 12, state_dim)).astype(np.float32)
    return draws, States(start, end, zeros, zeros + 1, np.zeros((count, 1), np.float32))


@pytest.mark.parametrize("count", [1, 30])
@pytest.mark.parametrize("horizons", [(0.5,), (0.1, 0.5, 1.0, 1.5, 2.0)])
def test_figures_have_the_same_bytes_each_time(tmp_path, horizons, count):
    draws, states = some_states(count)
    for name in ("a.png", "b.png"):
        figure = figures.block_positions(
            dict.fromkeys(horizons, draws), dict.fromkeys(horizons, states)
        )
        figures.save(figure, tmp_path / name)
    first, second = ((tmp_path / name).read_bytes() for name in ("a.png", "b.png"))
    assert first == second
    assert first.startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png"]
    titles = [axis.get_title() for axis in figure.axes]
    assert titles[: len(horizons)] == [f"{horizon:g} s ahead" for horizon in horizons]


def test_the_outline_is_the_blocks():
    sim = Simulator()
    outline = Polygon(figures.t_outline(sim.reset(0)[4:]))
    block = sim._env.block
    truth = unary_union(
        [
            Polygon([block.local_to_world(corner) for corner in shape.get_vertices()])
            for shape in block.shapes
        ]
    )
    assert outline.symmetric_difference(truth).area < 1e-6 * truth.area
