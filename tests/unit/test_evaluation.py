"""The evaluation: scores against closed forms, predictors against known laws, reports."""

import io
import shutil
import tracemalloc
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
import scoringrules
from conftest import simulated
from scipy.stats import kstest, multivariate_normal, norm
from shapely import Polygon
from shapely.ops import unary_union
from test_consistency import rollout

from nsf_pipeline.config import Config, EnsembleConfig, PolicyConfig
from nsf_pipeline.data import store
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.transitions import load_trajectories
from nsf_pipeline.drawing import write_figure
from nsf_pipeline.errors import UserError
from nsf_pipeline.evaluation import figures, metrics, tables
from nsf_pipeline.evaluation.comparison import score
from nsf_pipeline.evaluation.ensembles import simulate_ensembles
from nsf_pipeline.evaluation.metrics import GROUPS, Resampler, estimate
from nsf_pipeline.evaluation.predictors import (
    Kinematic,
    OnePass,
    Persistence,
    Prediction,
    Recursive,
    Simulator,
)
from nsf_pipeline.evaluation.states import (
    Ensembles,
    States,
    load_ensembles,
    noise_classes,
    typical_changes,
)
from nsf_pipeline.files import FileError
from nsf_pipeline.provenance import Record
from nsf_pipeline.pusht import simulator as pusht
from nsf_pipeline.pusht.state import (
    STATE,
    STATE_WITH_BLOCK_VELOCITY,
    STATE_WITHOUT_VELOCITY,
    layout_of,
)
from nsf_pipeline.stages import STAGES

HORIZONS = (0.1, 0.3)
SEEN = STATE.columns(STATE_WITHOUT_VELOCITY.names)
CONFIG = Config(
    num_trajectories=40,
    shard_size=40,
    policies=PolicyConfig(duration=(0.5, 1.0)),
    ensembles=EnsembleConfig(horizons=HORIZONS, num_states=30, num_members=6, shard_size=25),
)


def gaussian_crps(mean, std, truth):
    """Gneiting and Raftery 2007, section 4.2."""
    z = (truth - mean) / std
    return std * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))


def near(found, expected, errors=4.0):
    """Whether the mean of independent values is what it should be, within standard errors."""
    return abs(np.mean(found) - expected) < errors * np.std(found) / np.sqrt(len(found))


def test_crps_is_the_gaussians():
    random = np.random.default_rng(0)
    truth = random.normal(0.0, 3.0, (4000, 2))
    draws = random.normal([1.0, -2.0], [2.0, 0.5], (4000, 16, 2))
    expected = gaussian_crps(np.array([1.0, -2.0]), np.array([2.0, 0.5]), truth).mean(axis=1)
    found = metrics.crps(draws, truth)
    # Fair: without bias, although there are only 16 draws.
    assert near(found - expected, 0.0)
    assert (found - expected).std() < 0.5


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("state_dim", [5, 7, 10])
def test_groups_pick_their_components_and_units(name, state_dim):
    columns = getattr(layout_of(state_dim), name)
    factor = 180.0 / np.pi if name == "block_angle" else 1.0
    random = np.random.default_rng(0)
    truth, guess = random.normal(size=(2, 30, state_dim))
    # A law without spread scores its absolute error.
    draws = np.repeat(guess[:, None], 8, axis=1)
    expected = factor * np.abs(guess - truth)[:, columns].mean(axis=1)
    of = GROUPS[name].of
    np.testing.assert_allclose(metrics.crps(of(draws), of(truth)), expected)
    squared = (factor * (guess - truth)[:, columns]) ** 2
    other = np.repeat(truth[:, None], 5, axis=1)
    found = metrics.squared_bias(of(draws), of(other))
    np.testing.assert_allclose(found, squared.mean(axis=1))


@pytest.mark.parametrize("rest", [0.0, 0.6])
def test_ranks_of_a_calibrated_law_are_uniform(rest):
    """Also where truth and draws are a point now and then, as a block at rest is."""
    random = np.random.default_rng(0)
    values = random.normal(size=(6000, 21, 2)) * random.uniform(0.1, 10.0, (6000, 1, 1))
    values[random.random((6000, 21, 2)) < rest] = 0.0
    ranks = metrics.pit(values[:, 1:], values[:, 0], random)
    assert kstest(ranks[:, 0], "uniform").pvalue > 1e-3
    for share in (0.5, 0.9):
        assert metrics.covered(ranks, share).mean() == pytest.approx(share, abs=0.02)
    too_sure = metrics.pit(0.5 * values[:, 1:], values[:, 0], random)
    assert kstest(too_sure[:, 0], "uniform").pvalue < 1e-6


def test_energy_score_of_one_coordinate_is_the_crps():
    random = np.random.default_rng(0)
    draws, truth = 100.0 + random.normal(size=(300, 20, 1)), 100.0 + random.normal(size=(300, 1))
    expected = scoringrules.crps_ensemble(truth[:, 0], draws[..., 0], estimator="pwm")
    np.testing.assert_allclose(metrics.energy_score(draws, truth), expected, atol=1e-7)


def test_energy_distance_of_equal_laws_is_zero_in_the_mean():
    random = np.random.default_rng(0)
    one, other = random.normal(size=(4000, 6, 3)), random.normal(size=(4000, 9, 3))
    found = metrics.energy_distance(one, other)
    assert near(found, 0.0)
    assert (found < 0).any()
    assert near(metrics.squared_bias(one, other), 0.0)


def test_energy_distance_and_bias_of_shifted_gaussians():
    random, shift = np.random.default_rng(0), 1.5
    one, other = random.normal(size=(4000, 6, 1)), shift + random.normal(size=(4000, 9, 1))
    # Twice the integral of the squared difference of the distribution functions.
    x = np.linspace(-9.0, 11.0, 20001)
    expected = 2.0 * np.sum((norm.cdf(x) - norm.cdf(x - shift)) ** 2) * (x[1] - x[0])
    assert near(metrics.energy_distance(one, other), expected)
    assert near(metrics.squared_bias(one, other), shift**2)


def test_distances_do_not_depend_on_how_many_are_in_memory(monkeypatch):
    random = np.random.default_rng(0)
    one, other = random.normal(size=(20, 5, 3)), random.normal(size=(20, 4, 3))
    expected = metrics.energy_distance(one, other)
    monkeypatch.setattr(metrics, "CHUNK", 7)
    np.testing.assert_array_equal(metrics.energy_distance(one, other), expected)
    for pairs in (60, 11, 1):  # of two states, of two draws, of one
        monkeypatch.setattr(metrics, "PAIRS", pairs)
        np.testing.assert_allclose(metrics.energy_distance(one, other), expected, atol=1e-12)


def test_many_draws_take_no_more_memory():
    random = np.random.default_rng(0)
    draws = random.normal(size=(2, 6000, 1))
    tracemalloc.start()
    found = metrics.mean_distance(draws)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5 * 8 * metrics.PAIRS  # all pairs of a state are 8.6 PAIRS
    np.testing.assert_allclose(found, 2 / np.sqrt(np.pi), rtol=0.05)


def test_gaussian_density_is_scipys():
    random = np.random.default_rng(0)
    error, std = random.normal(size=(20, 3)), np.array([0.5, 2.0, 30.0])
    expected = multivariate_normal(np.zeros(3), np.diag(std**2)).logpdf(error)
    np.testing.assert_allclose(metrics.gaussian_log_density(error, std), expected)


def test_means_stand_for_all_states_and_intervals_are_as_wide_as_theory_says():
    random = np.random.default_rng(0)
    contact = np.arange(600) % 2 == 0
    weight = np.where(contact, 0.4, 1.6)  # contact is a fifth of all states, and half of these
    values = np.where(contact, 10.0, 1.0) + random.normal(size=600)
    trajectory = np.arange(600)
    resampler = Resampler(contact, weight, trajectory, seed=0)
    means = resampler.means(np.stack([values, 2.0 * values], axis=1))
    assert resampler.sizes == {"contact": 300, "free": 300, "all": 600}
    for stratum, rows in (("contact", contact), ("free", ~contact)):
        found = estimate(means[stratum][:, 0])
        assert found.value == pytest.approx(values[rows].mean())
        error = values[rows].std() / np.sqrt(300)
        half = (found.upper - found.lower) / 2
        assert half == pytest.approx(1.96 * error, rel=0.15)
    found = estimate(means["all"][:, 0])
    assert found.value == pytest.approx((weight * values).mean())
    # Strata keep their shares, so the difference between them adds nothing to the error.
    assert found.upper - found.lower < 0.25
    assert estimate(means["all"][:, 1] / means["all"][:, 0]) == pytest.approx((2.0, 2.0, 2.0))
    both = np.stack([values, 2.0 * values], axis=1)
    again = Resampler(contact, weight, trajectory, seed=0).means(both)
    np.testing.assert_array_equal(again["all"], means["all"])
    other = Resampler(contact, weight, trajectory, seed=1).means(values[:, None])
    assert not np.allclose(other["all"][1:, 0], means["all"][1:, 0])


def test_a_stratum_without_states_has_no_mean():
    resampler = Resampler(np.ones(5, bool), np.ones(5), np.arange(5), seed=0)
    means = resampler.means(np.arange(5.0)[:, None])
    assert means.keys() == {"contact", "all"}
    np.testing.assert_array_equal(means["all"], means["contact"])


def test_states_of_one_trajectory_are_no_independent_ones():
    random = np.random.default_rng(0)
    trajectory = np.repeat(np.arange(150), 4)
    contact = np.arange(600) % 2 == 0
    values = random.normal(size=150)[trajectory]
    means = Resampler(contact, np.ones(600), trajectory, seed=0).means(values[:, None])
    # Also of both strata together: a trajectory has states of both.
    for stratum in ("contact", "free", "all"):
        found = estimate(means[stratum][:, 0])
        assert found.value == pytest.approx(values.mean())
        half = (found.upper - found.lower) / 2
        assert half == pytest.approx(1.96 * values.std() / np.sqrt(150), rel=0.15)


def test_resamples_without_a_state_of_a_stratum_are_left_out():
    contact, trajectory = np.arange(6) == 0, np.array([0, 0, 1, 1, 2, 2])
    means = Resampler(contact, np.ones(6), trajectory, seed=0).means(np.arange(6.0)[:, None])
    assert np.isnan(means["contact"][:, 0]).mean() == pytest.approx((2 / 3) ** 3, abs=0.05)
    assert estimate(means["contact"][:, 0]) == (0.0, 0.0, 0.0)
    assert np.isfinite(estimate(means["all"][:, 0])).all()
    assert np.isnan(estimate(np.full(5, np.nan))).all()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set and its ensembles."""
    folder = tmp_path_factory.mktemp("evaluation")
    dataset = simulated(folder, sample_policies(CONFIG, 0, 40), CONFIG) / "dataset.h5"
    for shard in range(CONFIG.ensembles.num_shards):
        first, stop = CONFIG.ensembles.shard_range(shard)
        arrays = simulate_ensembles(CONFIG, dataset, first, stop)
        attributes = Record.new(STAGES["ensembles"], CONFIG).fields() | {
            "first": first,
            "stop": stop,
        }
        store.write(folder / f"ensembles/{shard:05d}.h5", "ensembles", arrays, attributes)
    return folder


@pytest.fixture(scope="module")
def ensembles(folder):
    return load_ensembles(folder / "ensembles", CONFIG)


def test_ensembles_are_read_by_horizon(ensembles):
    assert tuple(ensembles) == HORIZONS
    for horizon, found in ensembles.items():
        assert found.states.gap == round(horizon / 0.1)
        assert found.members.shape == (len(found.states), 6, 7)
        assert found.members_7.shape == found.members_10.shape == (len(found.states), 2, 7)
        assert found.states.x_init.shape == found.states.x_final.shape == (len(found.states), 10)
        np.testing.assert_allclose(found.states.t_init, 0.1 * found.step, atol=1e-6)
        np.testing.assert_allclose(found.states.t_final, 0.1 * found.step + horizon, atol=1e-6)
        five = found.states.with_numbers(STATE_WITHOUT_VELOCITY.names)
        np.testing.assert_array_equal(five.x_init, found.states.x_init[:, SEEN])


def test_ensembles_of_other_settings_are_refused(folder):
    other = CONFIG.model_copy(update={"seed": 1})
    with pytest.raises(FileError, match=r"00000\.h5: seed was 0, is 1; if the workflow made it, "):
        load_ensembles(folder / "ensembles", other)


def test_a_copied_shard_is_refused(tmp_path, folder):
    shutil.copytree(folder / "ensembles", tmp_path, dirs_exist_ok=True)
    shutil.copy(tmp_path / "00000.h5", tmp_path / "00001.h5")
    with pytest.raises(
        store.StoreError, match=r"00001\.h5: expected states 25 to 49, got 0 to 24;"
    ):
        load_ensembles(tmp_path, CONFIG)


def test_too_few_states_are_named(tmp_path, folder):
    config = CONFIG.model_copy(
        update={"ensembles": EnsembleConfig(horizons=(0.1,), num_states=10, num_members=4)}
    )
    arrays = simulate_ensembles(config, folder / "dataset.h5", 0, 1)
    attributes = Record.new(STAGES["ensembles"], config).fields() | {"first": 0, "stop": 10}
    store.write(tmp_path / "00000.h5", "ensembles", arrays, attributes)
    with pytest.raises(UserError, match=r"at least 2 states 0\.1 s ahead, got 1; raise num_traj"):
        load_ensembles(tmp_path, config)


def test_typical_changes_are_the_train_splits(folder):
    train = load_trajectories(folder / "dataset.h5", 0, 7)
    found = typical_changes(folder / "dataset.h5", HORIZONS)
    for horizon in HORIZONS:
        gap = round(horizon / 0.1)
        changes = [
            states[gap : length + 1] - states[: length + 1 - gap]
            for states, length in zip(train.states.astype(float), train.length, strict=True)
        ]
        expected = np.sqrt(np.mean(np.concatenate(changes) ** 2, axis=0))
        np.testing.assert_allclose(found[horizon], expected, rtol=1e-5, atol=2e-6)


class Brownian(eqx.Module):
    """A known law of a state with five numbers: drift and noise that grow with time."""

    drift: float = 30.0
    noise: float = 2.0

    @property
    def state_names(self):
        return STATE_WITHOUT_VELOCITY.names

    def sample(self, key, state, t_init, t_final, condition, num_samples):
        gap = t_final - t_init
        noise = jax.random.normal(key, (num_samples, 5))
        return state + self.drift * gap + self.noise * jnp.sqrt(gap) * noise

    rollout = rollout

    def log_prob(self, next_state, state, t_init, t_final, condition):
        gap = t_final - t_init
        z = (next_state - state - self.drift * gap) / (self.noise * jnp.sqrt(gap))
        return jax.scipy.stats.norm.logpdf(z).sum() - 5 * jnp.log(self.noise * jnp.sqrt(gap))


def some_states(count, gap):
    random = np.random.default_rng(0)
    start, end = random.uniform(100, 400, (2, count, STATE.dim)).astype(np.float32)
    t_init = random.integers(0, 9, count).astype(np.float32) * np.float32(0.1)
    return States(start, end, t_init, t_init + np.float32(0.1 * gap), np.zeros((count, 3), "f4"))


def test_one_pass_and_recursion_draw_from_a_known_law():
    states, key = some_states(300, gap=8), jax.random.key(0)
    once = OnePass("brownian", Brownian())(states, 32, key=key)
    steps = Recursive("recursive", Brownian(), max_samples=20)(states, 32, key=key)
    assert once.draws.shape == (300, 32, 5)
    assert steps.draws.shape == (300, 20, 5)
    start = states.x_init[:, None, SEEN]
    for draws in (once.draws, steps.draws):
        z = (draws - start - 24.0) / (2.0 * np.sqrt(0.8))
        assert kstest(z.ravel(), "norm").pvalue > 1e-3
    assert steps.log_density is None
    expected = norm(start[:, 0] + 24.0, 2.0 * np.sqrt(0.8)).logpdf(states.x_final[:, SEEN])
    assert once.log_density is not None
    np.testing.assert_allclose(once.log_density, expected.sum(axis=1), rtol=1e-4)


def test_draws_do_not_depend_on_how_many_states_there_are():
    states, predictor = some_states(300, gap=3), OnePass("brownian", Brownian())
    whole = predictor(states, 4, key=jax.random.key(1))
    assert np.isfinite(whole.draws).all()
    assert len(np.unique(whole.draws[:, 0, 0] - states.x_init[:, 0])) == 300


def test_baselines_say_what_they_say(ensembles, folder):
    states, key = ensembles[0.3].states, jax.random.key(0)
    changes = typical_changes(folder / "dataset.h5", HORIZONS)
    still = Persistence(changes)(states, 5, key=key)
    np.testing.assert_array_equal(still.draws, np.repeat(states.x_init[:, None, :7], 5, axis=1))
    assert still.log_density is not None
    assert np.isfinite(still.log_density).all()
    # Without noise the agent follows its path, which the block does not change.
    nominal = Kinematic(CONFIG.dmp)(states, 5, key=key)
    assert nominal.log_density is None
    np.testing.assert_array_equal(nominal.draws[..., STATE.block], still.draws[..., STATE.block])
    mean = ensembles[0.3].members[..., STATE.agent].mean(axis=1)
    off = np.abs(nominal.draws[:, 0, STATE.agent] - mean)
    assert off.mean() < 4.0  # of noise of 8 px each step
    itself = Simulator(ensembles)(states, 5, key=key)
    np.testing.assert_array_equal(itself.draws, ensembles[0.3].members[:, :5])
    entered = Simulator(ensembles, "simulator_from_7", "members_7")(states, 5, key=key)
    np.testing.assert_array_equal(entered.draws, ensembles[0.3].members_7)


class Moving(eqx.Module):
    """A model of ten numbers: the block goes on with its velocity."""

    state_names = STATE_WITH_BLOCK_VELOCITY.names

    def sample(self, key, state, t_init, t_final, condition, num_samples):
        moved = state.at[4:7].add(0.01 * state[7:])
        return moved + jax.random.normal(key, (num_samples, 10))

    def log_prob(self, next_state, state, t_init, t_final, condition):
        return jax.scipy.stats.norm.logpdf(next_state - state).sum()


def test_a_model_of_ten_numbers_is_given_the_blocks_velocity(ensembles):
    ensemble = ensembles[0.3]
    found = OnePass("moving", Moving())(ensemble.states, 4, key=jax.random.key(0))
    assert found.draws.shape == (len(ensemble.states), 4, 10)
    off = found.draws.mean(axis=1) - ensemble.states.x_init
    moving = ensemble.states.x_init[:, 7:]
    assert np.abs(moving).max() > 10.0
    np.testing.assert_allclose(off[:, 4:7], 0.01 * moving, atol=2.5)
    scores = score("moving", found, ensemble, np.ones(STATE.dim), 0)
    for (kind, _), values in scores.items():
        # Its density over ten numbers is not comparable with those over seven.
        assert np.isfinite(values).all() == (kind.over is not metrics.Over.STATE)


def known_law(count, members=16):
    """An ensemble of a known law, and predictions: the law itself, and one that is off."""
    random = np.random.default_rng(0)
    states = some_states(count, gap=5)
    spread = random.uniform(1.0, 5.0, (count, 1, 1)).astype(np.float32)
    values = states.x_init[:, None] + spread * random.normal(size=(count, members + 33, STATE.dim))
    values = values.astype(np.float32)
    states = States(states.x_init, values[:, 0], *states[2:])
    contact = np.arange(count) % 2 == 0
    found = Ensembles(
        states,
        values[:, 1 : members + 1],
        contact,
        np.ones(count),
        np.arange(count),
        contact * 1,
        members_7=values[:, 1:5] + 3.0 * spread,
        members_10=values[:, 1:5],
    )
    good, bad = values[:, members + 1 :], values[:, members + 1 :] + 8.0 * spread
    density = np.zeros(count)
    return found, {
        "simulator": Prediction(found.members, None),
        "simulator_from_7": Prediction(found.members_7, None),
        "simulator_from_10": Prediction(found.members_10, None),
        "persistence": Prediction(np.repeat(states.x_init[:, None] + 30, 8, axis=1), density),
        "flow": Prediction(good, density - 1.0),
        "state5": Prediction(bad[..., SEEN], density - 2.0),
    }


def cells_of(count=400, horizons=(0.5, 0.1)):
    cells = []
    for horizon in horizons:
        ensemble, predictions = known_law(count)
        resampler = Resampler(ensemble.contact, ensemble.weight, ensemble.trajectory, seed=0)
        for name, prediction in predictions.items():
            values = score(name, prediction, ensemble, np.full(STATE.dim, 10.0), 0)
            means = resampler.means(np.stack(list(values.values()), axis=1))
            for contact, found in means.items():
                named = dict(zip(values, found.T, strict=True))
                cell = tables.Cell(name, horizon, contact, resampler.sizes[contact], named)
                cells.append(cell)
    return cells


@pytest.fixture(scope="module")
def cells():
    return cells_of()


def test_a_perfect_prediction_reaches_the_limit(cells):
    table: Any = tables.horizons(cells).set_index(["model", "horizon_s", "group", "contact"])
    table = table.sort_index()
    flow, limit = (table.loc[name, 0.5] for name in ("flow", "simulator"))
    np.testing.assert_allclose(limit["crps_ratio"], 1.0)
    np.testing.assert_allclose(flow["crps_ratio"], 1.0, atol=0.05)
    assert (table.loc["state5", "crps_ratio"] > 2.0).all()
    np.testing.assert_allclose(table.loc["simulator_from_10", "crps_ratio"], 1.0, atol=0.15)
    assert (table.loc["simulator_from_7", "crps_ratio"] > 1.5).all()
    assert (table.loc["persistence", "skill"] == 0.0).all()
    assert ((table["crps_lower"] <= table["crps"]) & (table["crps"] <= table["crps_upper"])).all()
    for row in (flow, limit):
        np.testing.assert_allclose(row["coverage_50"], 0.5, atol=0.1)
        np.testing.assert_allclose(row["coverage_90"], 0.9, atol=0.06)
    assert limit["nll"].isna().all()
    np.testing.assert_allclose(flow["nll"], 1.0)
    joint: Any = tables.distances(cells).set_index(["model", "horizon_s", "group", "contact"])
    joint = joint.sort_index()
    for group in ("state", "pose"):
        same = joint.loc["flow", 0.5, group, "all"]
        assert same["energy_distance_lower"] < 0.0 < same["energy_distance_upper"]
        assert joint.loc["persistence", 0.5, group, "all"]["energy_distance_lower"] > 0.5
    assert joint.xs("state", level="group").loc["state5", "energy_score"].isna().all()
    assert joint.xs("pose", level="group").loc["state5", "energy_distance"].gt(0.5).all()


def test_intervals_hold_every_score(cells):
    found = tables.intervals(cells)
    assert {*found["metric"]} == {metric.name for metric in metrics.METRICS if metric.row}
    assert {*found["metric"]} >= {
        "crps", "crps_ratio", "skill", "coverage_50", "coverage_90", "bias", "nll"
    }  # fmt: skip
    assert (found["lower"] <= found["value"] + 1e-9).all()
    place = ["model", "horizon_s", "group", "contact"]
    wide = found.pivot(index=place, columns="metric", values="value")
    table: Any = tables.horizons(cells).set_index(place)
    for name in ("crps", "crps_ratio", "skill", "coverage_90", "nll"):
        both = wide[name].align(table[name])
        pd.testing.assert_series_equal(*both, check_names=False)
    bias = found[(found["metric"] == "bias") & (found["contact"] == "all")]
    assert (bias.loc[bias["model"] == "state5", "lower"] > 10.0).all()
    assert (bias.loc[(bias["model"] == "flow") & (bias["group"] == "agent"), "value"] < 1.0).all()


def test_calibration_is_a_histogram(cells):
    found = tables.calibration(cells)
    totals = found.groupby(["model", "horizon_s", "group", "contact"])["share"].sum()
    np.testing.assert_allclose(totals, 1.0)
    np.testing.assert_allclose(found["pit_to"] - found["pit_from"], 1 / tables.BINS)
    off = found[(found["model"] == "state5") & (found["pit_from"] == 0.0)]
    assert (off["share"] > 0.9).all()


def test_tables_read_back(cells):
    for table in (tables.horizons(cells), tables.intervals(cells), tables.distances(cells)):
        back = pd.read_csv(io.StringIO(tables.as_csv(table)))
        pd.testing.assert_frame_equal(back, table, check_exact=False, rtol=1e-5, atol=1e-9)
    for table, own in ((tables.horizons(cells), "nll"), (tables.distances(cells), "split_half")):
        assert tuple(table.columns[:4]) == tables.PLACE
        assert own in table
        assert table.columns[-1] == "n_states"


def test_markdown_is_sorted_with_the_best_in_bold_and_the_limit_apart(cells):
    table = tables.horizons(cells)
    lines = tables.as_markdown(table, tables.noise({}), ["A note."]).splitlines()
    assert lines[0].startswith("# ")
    assert lines[-1] == "- A note."
    first = lines.index("| CRPS of the agent (px) | 0.1 s | 0.5 s |")
    models = [line.split(" | ")[0] for line in lines[first + 2 : first + 8]]
    floors = ["*simulator_from_10*", "*simulator_from_7*"]
    names = ["*the simulator itself: the limit*", *floors, "flow", "state5", "persistence"]
    assert models == [f"| {name}" for name in names]
    row = table[(table["model"] == "flow") & (table["contact"] == "all")]
    row = row[row["group"] == "agent"].set_index("horizon_s")
    assert (
        lines[first + 5]
        == "| flow | "
        + " | ".join(f"**{row['crps'][h]:.3g}** (×{row['crps_ratio'][h]:.3g})" for h in (0.1, 0.5))
        + " |"
    )
    others = (*lines[first + 3 : first + 5], *lines[first + 6 : first + 8])
    assert not any("**" in line for line in others)
    assert all("(×" in line for line in others)
    assert "| persistence | **0.00** | **0.00** |" in lines
    assert not any("nan" in line for line in lines)


CLASSES: dict[str, Any] = {
    "a range, and none": (
        ((0.0, 16.0), [0.0, 3.0, 8.0, 9.0]),
        {"no noise": [0], "0 to 8 px": [1, 2], "8 to 16 px": [3]},
    ),
    "a range alone": (((2.0, 4.0), [2.5, 4.0]), {"2 to 3 px": [0], "3 to 4 px": [1]}),
    "one level, and none": (((8.0, 8.0), [8.0, 0.0]), {"no noise": [1], "8 px": [0]}),
    "one level": (((8.0, 8.0), [8.0, 8.0]), {}),
    "none": (((0.0, 0.0), [0.0, 0.0]), {}),
}


@pytest.mark.parametrize("case", CLASSES)
def test_states_are_told_apart_by_their_noise(case):
    (bounds, levels), expected = CLASSES[case]
    condition = np.ones((len(levels), 20), np.float32)
    condition[:, -1] = levels
    found = noise_classes(condition, PolicyConfig(action_noise_std=bounds))
    assert {name: np.flatnonzero(rows).tolist() for name, rows in found.items()} == expected


def test_scores_by_noise_have_a_table_of_their_own():
    table = tables.noise({"no noise": cells_of(40), "0 to 8 px": cells_of(60)})
    assert tuple(table.columns[:5]) == (*tables.PLACE, "noise")
    own = table[table["noise"] == "0 to 8 px"].drop(columns="noise").reset_index(drop=True)
    pd.testing.assert_frame_equal(own, tables.horizons(cells_of(60)))
    text = tables.as_markdown(tables.horizons(cells_of(60)), table, [])
    (row,) = own[
        (own["model"] == "flow")
        & (own["group"] == "block_position")
        & (own["contact"] == "all")
        & (own["horizon_s"] == 0.1)
    ].itertuples()
    assert f"| block position, 0 to 8 px | {row.crps:.3g} (×{row.crps_ratio:.3g}) |" in text
    assert "| agent, no noise |" in text
    none = tables.noise({})
    assert none.empty
    assert list(none.columns) == list(table.columns)


def test_a_ratio_to_nothing_is_undefined():
    """Without noise the simulator's draws are the truth, and its score is 0 up to rounding."""
    truth = np.random.default_rng(0).uniform(0.0, 512.0, (50, 2))
    limit = metrics.crps(np.repeat(truth[:, None], 64, axis=1), truth)
    assert np.isnan(metrics.ratio(np.ones(50), limit)).all()


def median_error(draws, truth):
    return np.abs(np.median(draws, axis=1) - truth).mean(axis=-1)


def added(monkeypatch, **fields):
    """Cells, and their table, with one more metric."""
    known = {"name": "added", "unit": None, "meaning": "Absolute error of the median"}
    metric = metrics.Metric(**known | fields)
    monkeypatch.setattr(metrics, "METRICS", (*metrics.METRICS, metric))
    cells = cells_of(40)
    return cells, tables.horizons(cells)


def test_a_new_metric_is_one_entry(monkeypatch):
    score = metrics.Score(metrics.Over.GROUPS, ("draws", "truth"), median_error)
    shown = metrics.Ranking("median error", ".4f")
    cells, table = added(monkeypatch, score=score, shown=shown)
    assert list(table.columns[-2:]) == ["added", "n_states"]
    ensemble, predictions = known_law(40)
    angles = (predictions["flow"].draws[..., -1], ensemble.states.x_final[:, -1])
    expected = np.degrees(np.abs(np.median(angles[0], axis=1) - angles[1]).mean())
    place = ["model", "horizon_s", "group", "contact"]
    where = ("flow", 0.5, "block_angle", "all")
    assert table.set_index(place).loc[where, "added"] == pytest.approx(expected)
    rows: Any = tables.intervals(cells).set_index(["metric", *place])
    row = rows.loc[("added", *where)]
    assert row["value"] == pytest.approx(expected)
    assert row["lower"] < row["value"] < row["upper"]
    text = tables.as_markdown(table, tables.noise({}), [])
    section = text[text.index("| median error of the block angle (degrees) | 0.1 s | 0.5 s |") :]
    assert f"| flow | **{expected:.4f}** " in section
    assert "- `added` (px or degrees): Absolute error of the median." in text
    assert tables.distances(cells).columns.str.startswith("added").sum() == 0


def test_a_new_metric_may_be_relative_and_of_joint_vectors(monkeypatch):
    score = metrics.Score(metrics.Over.JOINTS, ("draws", "truth"), median_error)
    cells, table = added(
        monkeypatch,
        score=score,
        unit="dimensionless",
        derived=lambda means: metrics.ratio(means.own, means.persistence),
        columns=("value", "upper"),
    )
    assert "added" not in table
    found: Any = tables.distances(cells).set_index(["model", "group"])
    assert list(found.columns[-3:]) == ["added", "added_upper", "n_states"]
    assert (found.loc["persistence", "added"] == 1.0).all()
    assert (found.loc["flow", "added"] < 0.5).all()
    # Of five numbers it is known for the pose alone.
    assert found.loc[("state5", "state"), "added"].isna().all()
    assert found.loc[("state5", "pose"), "added"].notna().all()
    rows = tables.intervals(cells)
    assert {*rows[rows["metric"] == "added"]["group"]} == {"state", "pose"}


def test_every_metric_has_a_name_of_its_own():
    names = [metric.name for metric in metrics.METRICS]
    assert len({*names, *tables.PLACE, "n_states"}) == len(names) + 5
    assert all(metric.meaning for metric in metrics.METRICS)


@pytest.mark.parametrize(
    ("over", "fields"),
    [
        ("JOINTS", {}),
        ("STATE", {}),
        ("JOINTS", {"unit": "px", "shown": metrics.Ranking("error", ".2f")}),
        ("GROUPS", {"columns": (), "shown": metrics.ByContact("error", "of", ".2f")}),
    ],
)
def test_a_metric_that_tables_cannot_show_is_refused(over, fields):
    score = metrics.Score(metrics.Over[over], ("draws", "truth"), median_error)
    with pytest.raises(ValueError, match=r"^error: "):
        metrics.Metric(**{"name": "error", "unit": None, "meaning": "", "score": score} | fields)


@pytest.mark.parametrize("horizons", [(0.5,), (0.1, 0.5)])
def test_figures_have_the_same_bytes_each_time(tmp_path, horizons):
    cells = cells_of(12, horizons)
    ensemble, predictions = known_law(12)
    draws = dict.fromkeys(horizons, predictions["flow"].draws)
    found = dict.fromkeys(horizons, ensemble)
    for folder in ("a", "b"):
        pictures = {
            "skill": partial(figures.skill, tables.intervals(cells)),
            "calibration": partial(figures.calibration, tables.calibration(cells)),
            "block_positions": partial(figures.block_positions, draws, found),
        }
        titles = [axis.get_title() for axis in pictures["block_positions"]().axes]
        assert titles[: len(horizons)] == [f"{horizon:g} s ahead" for horizon in horizons]
        for name, draw in pictures.items():
            write_figure(draw, tmp_path / folder / f"{name}.png")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
        assert path.read_bytes().startswith(b"\x89PNG")
    assert len(list((tmp_path / "b").iterdir())) == 3


def test_a_model_has_one_colour_in_every_figure():
    few, many = figures.styles_of(["neural_sde", "mine"]), figures.styles_of(["wide", "mine"])
    assert few["neural_sde"] == many["neural_sde"]
    assert few["mine"] == many["wide"] != many["mine"]
    others = figures.styles_of(f"model{number}" for number in range(20))
    looks = [look for name, look in others.items() if name.startswith("model")]
    assert len(set(looks)) == 20
    assert len(set(others.values())) == len(others)


def test_the_outline_is_the_blocks():
    sim = pusht.Simulator()
    outline = Polygon(figures.t_outline(sim.reset(0)[STATE.block]))
    block = sim._env.block
    truth = unary_union(
        [
            Polygon([block.local_to_world(corner) for corner in shape.get_vertices()])
            for shape in block.shapes
        ]
    )
    assert outline.symmetric_difference(truth).area < 1e-6 * truth.area
