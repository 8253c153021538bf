"""The PushT model: its law in physical units, what its networks see, and its file."""

import functools
import importlib
import inspect
import io
import itertools
import json
import pkgutil

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mostly_thorough
from shapely import Point
from shapely.geometry import box
from shapely.ops import unary_union

from nsf_pipeline import label
from nsf_pipeline.config import BridgeConfig, Config, DMPConfig, ModelConfig, NetworkConfig
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.rollouts import desired_positions, simulate
from nsf_pipeline.evaluation.figures import t_outline
from nsf_pipeline.flow import (
    ContinuousSplineCoupling,
    consistency_losses,
    negative_log_likelihood,
)
from nsf_pipeline.model import (
    ModelFileError,
    Normaliser,
    agent_motion,
    build_model,
    fit_normaliser,
    load_model,
    nominal,
    save_model,
)
from nsf_pipeline.model.agent_motion import nominal_path, propagator
from nsf_pipeline.model.agent_noise import LEAST_NOISE, noise_factor, noise_share
from nsf_pipeline.model.contact import clearance, distance_and_normal
from nsf_pipeline.model.file import FORMAT, FORMAT_VERSION, model_header
from nsf_pipeline.model.push import OVERLAP_ALLOWED, nominal_pushes
from nsf_pipeline.model.transition import FlowTransition
from nsf_pipeline.pusht import geometry, simulator
from nsf_pipeline.pusht.state import layout_of

DMP = DMPConfig()
NETWORK = NetworkConfig(hidden_size=8, depth=1, num_flow_layers=2)
KEY = jax.random.key(0)
SCALES = {7: (8.0, 8.0, 60.0, 60.0, 5.0, 5.0, 0.1), 5: (8.0, 8.0, 5.0, 5.0, 0.1)}
SCALES[10] = (*SCALES[7], 40.0, 40.0, 0.8)
# Agent beside the block, moving; in the middle of a policy that goes through the block.
STATE = np.array([200.0, 260.0, 60.0, -10.0, 260.0, 230.0, 0.4], np.float32)
WEIGHTS = np.linspace(-0.5, 0.5, 12)
CONDITION = jnp.array([2.0, 190.0, 250.0, 330.0, 280.0, *WEIGHTS, 50.0, 14.0, 8.0], jnp.float32)
VARIANTS = mostly_thorough([(7, False), (7, True), (5, False), (5, True)], (7, False), (5, True))
FIRST_VARIANT = mostly_thorough([(7, False), (7, True), (5, False), (5, True)], (7, False))


@functools.cache
def model_of(state_dim=7, autonomous=False, conditional=True, physics="push"):
    """A model with every parameter random."""
    config = ModelConfig(
        state_dim=state_dim,
        conditional=conditional,
        autonomous=autonomous,
        physics=physics,
        path_points=3,
        flow=NETWORK,
        bridge=BridgeConfig(**dict(NETWORK)),
    )
    return randomised(config)


def quickly_compiled():
    """A model without the nominal push, which takes most of the time to compile."""
    return model_of(physics="path")


def randomised(config):
    """A model with every parameter random, for which nothing is compiled."""
    normaliser = Normaliser(((40.0, 40.0), (470.0, 470.0)), SCALES[config.state_dim])
    random = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: (
            jnp.asarray(random.normal(0.0, 0.2, leaf.shape), leaf.dtype)
            if isinstance(leaf, jax.ShapeDtypeStruct)
            else leaf
        ),
        eqx.filter_eval_shape(build_model, config, DMP, normaliser, key=KEY),
    )


def state_of(state_dim):
    return jnp.asarray(STATE if state_dim == 7 else np.delete(STATE, [2, 3]))


COUNT = 8192


@eqx.filter_jit
def draw_and_score(model, state, times, ends):
    """Draws, and the log-densities of some ends: one compilation for all tests of a variant."""
    draws = model.sample(KEY, state, *times, CONDITION, COUNT)
    score = jax.vmap(lambda end: model.log_prob(end, state, *times, CONDITION))
    return draws, score(ends)


def sample(model, state, s=0.5, t=0.9):
    return draw_and_score(model, state, jnp.array([s, t]), jnp.zeros((COUNT, len(state))))[0]


@pytest.mark.parametrize("autonomous", [False, True])
def test_an_unconditional_law_hides_the_policy(autonomous):
    hidden = model_of(7, autonomous, conditional=False).encoder
    told = model_of(7, autonomous).encoder

    @eqx.filter_jit
    def encoded_at(encoder, s, t, condition):
        encoding = encoder(jnp.asarray(STATE), s, t, condition)
        return jnp.concatenate([encoding.displacements[-1], encoding.features])

    def encoded(encoder, s, condition):
        return encoded_at(encoder, jnp.float32(s), jnp.float32(s + 0.4), condition)

    other = CONDITION.at[3:5].set(100.0).at[0].set(3.0)
    assert (encoded(told, 0.5, CONDITION) != encoded(told, 0.5, other)).any()
    np.testing.assert_array_equal(encoded(hidden, 0.5, CONDITION), encoded(hidden, 0.5, other))
    tells_time = (encoded(hidden, 0.5, CONDITION) != encoded(hidden, 0.7, CONDITION)).any()
    assert tells_time != autonomous
    assert not encoded(hidden, 0.5, CONDITION)[:7].any()


@pytest.mark.thorough
def test_an_encoding_is_computed_once_for_all_losses(monkeypatch):
    model, state, (s, m, t) = model_of(), state_of(7), jnp.array([0.5, 0.6, 0.9])
    flow, push, pushes = model.transition, nominal.nominal_pushes, itertools.count()

    def counted(*given):
        next(pushes)
        return push(*given)

    monkeypatch.setattr(nominal, "nominal_pushes", counted)

    @jax.jit
    def losses(state):
        encoding = flow.encode(state, s, t, CONDITION)
        ends, steps = (state, state + 1.0, s, t, CONDITION), (state, s, m, t, CONDITION)
        consistency = consistency_losses(flow, model.bridge, *steps, encoding=encoding, key=KEY)
        shared = *consistency, negative_log_likelihood(flow, *ends, encoding=encoding)
        # For the step to t, the first one, and both second ones at once.
        assert next(pushes) == 3
        alone = consistency_losses(flow, model.bridge, *steps, key=KEY)
        return shared, (*alone, negative_log_likelihood(flow, *ends))

    shared, alone = losses(state)
    np.testing.assert_allclose(shared, alone, rtol=1e-4)


@pytest.mark.thorough
def test_public_methods_are_jitted_as_they_are():
    model, state = model_of(), state_of(7)
    arguments = state, 0.5, 0.9, CONDITION
    draws = jax.jit(model.sample, static_argnames="num_samples")(KEY, *arguments, num_samples=3)
    np.testing.assert_allclose(draws, model.sample(KEY, *arguments, num_samples=3), atol=1e-2)
    score = jax.jit(model.log_prob)(draws[0], *arguments)
    np.testing.assert_allclose(score, model.log_prob(draws[0], *arguments), atol=1e-3)


def log_probs(model, ends, state, s=0.5, t=0.9):
    ends = jnp.asarray(ends, jnp.float32)
    return draw_and_score(model, state, jnp.array([s, t]), ends)[1]


@pytest.mark.parametrize(("state_dim", "autonomous"), VARIANTS)
def test_draws_and_densities_are_in_physical_units(state_dim, autonomous):
    model, state = model_of(state_dim, autonomous), state_of(state_dim)
    draws = sample(model, state)
    assert draws.shape == (COUNT, state_dim)
    assert model.state_names == layout_of(state_dim).names
    assert jnp.isfinite(draws).all()
    spread = np.asarray(draws).std(axis=0) / SCALES[state_dim]
    assert ((spread > 0.05) & (spread < 20.0)).all()
    again = sample(model, state)
    np.testing.assert_array_equal(draws, again)
    near = log_probs(model, draws, state)
    far = log_probs(model, draws + 1e3, state)
    assert jnp.isfinite(near).all()
    assert (near > far).all()


def wider_gaussian(draws):
    """COUNT draws of a Gaussian with twice the covariance of the draws, and their log-density."""
    mean, covariance = draws.mean(axis=0), 2.0 * np.cov(draws.T)
    wide = np.random.default_rng(0).multivariate_normal(mean, covariance, COUNT)
    offset = np.linalg.solve(np.linalg.cholesky(covariance), (wide - mean).T)
    log_q = -0.5 * (offset**2).sum(axis=0)
    return wide, log_q - 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]


@pytest.mark.parametrize(
    ("state_dim", "gap"), mostly_thorough([(7, 0.4), (7, 0.03), (5, 0.4)], (7, 0.4), (7, 0.03))
)
def test_log_prob_is_the_density_of_draws(state_dim, gap):
    require_density_of_draws(model_of(state_dim), state_of(state_dim), gap)


def require_density_of_draws(model, state, gap):
    """Over 7 dimensions a grid is out of reach: weigh draws of a Gaussian by the density instead.

    The expectation of p / q under q is the integral of p: the probability that the block moves, or
    that it rests, where p is a density of the agent alone.
    """
    draws, state = np.asarray(sample(model, state, 0.5, 0.5 + gap)), np.asarray(state)
    block = model.encoder.layout.block
    rests = (draws[:, block] == state[block]).all(axis=1)
    assert 0.1 < rests.mean() < 0.9
    total = 0.0
    for kind, size in ((~rests, len(state)), (rests, block.start)):
        own = draws[kind, :size].astype(np.float64)
        wide, log_q = wider_gaussian(own)
        ends = np.tile(state, (COUNT, 1))
        ends[:, :size] = wide
        log_p = np.asarray(log_probs(model, ends, state, 0.5, 0.5 + gap))
        weight = np.exp(log_p - log_q)
        error = weight.std() / np.sqrt(len(weight))
        assert error < 0.05
        assert abs(weight.mean() - kind.mean()) < 5 * error + 0.02
        moved = (weight[:, None] * (wide - own.mean(axis=0))).mean(axis=0)
        assert (np.abs(moved) < 0.25 * own.std(axis=0)).all()
        total += weight.mean()
    assert total == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(("state_dim", "autonomous"), FIRST_VARIANT)
def test_a_block_rests_bit_for_bit(state_dim, autonomous):
    """Over a control step and a part of it; each draw has the probability of its kind."""
    model, state = model_of(state_dim, autonomous), state_of(state_dim)
    block = model.encoder.layout.block
    for end in (0.53, 0.9):
        draws = sample(model, state, 0.5, end)
        rests = (np.asarray(draws)[:, block] == np.asarray(state)[block]).all(axis=1)
        assert 0.1 < rests.mean() < 0.9
        densities = np.asarray(log_probs(model, draws, state, 0.5, end))
        beside = draws.at[:, block.start].set(np.nextafter(state[block.start], np.float32(1e3)))
        other = np.asarray(log_probs(model, beside, state, 0.5, end))
        assert np.isfinite(densities).all()
        # One bit beside the point there is only a density, far smaller in 3 narrow components.
        assert (densities[rests] != other[rests]).all()


def test_the_bridge_rests_where_its_ends_do():
    model, start = model_of(), state_of(7)
    end = start + 3.0

    @eqx.filter_jit
    def drawn(end, mid):
        law = model.bridge(start, end, jnp.float32(0.5), mid, jnp.float32(1.3), CONDITION)
        draws, densities = jax.vmap(law.sample_and_log_prob)(jax.random.split(KEY, 1000))
        return draws[:, 4:], densities, jax.vmap(law.log_prob)(draws)

    mid = jnp.float32(0.9)
    block, drawn_with, asked_again = drawn(end, mid)
    np.testing.assert_allclose(drawn_with, asked_again, rtol=1e-3, atol=0.01)
    early, late = ((block == x[4:]).all(axis=1) for x in (start, end))
    for kind in (early, late, ~early & ~late):
        assert 0.05 < kind.mean() < 0.9
    assert (drawn(end.at[4:].set(start[4:]), mid)[0] == start[4:]).all()
    assert (drawn(end, jnp.float32(0.5))[0] == start[4:]).all()
    assert (drawn(end, jnp.float32(1.3))[0] == end[4:]).all()


@pytest.mark.parametrize("start", [0.5, 0.54])
def test_short_steps_make_up_a_control_step(start):
    """Means and spreads, where the law hardly changes on the way: no contact, and small weights."""
    model, state = model_of(), state_of(7).at[4:6].set(400.0)
    weights, others = eqx.partition(model.transition.flow, eqx.is_inexact_array)
    small = eqx.combine(jax.tree.map(lambda leaf: 0.05 * leaf, weights), others)
    # Of a block that moves: each part has a rest of its own, and their spreads do not add up.
    bias = lambda model: model.transition.rest[0].network.last_layer.bias  # noqa: E731
    model = eqx.tree_at(bias, model, jnp.array([-1e6]))
    model = eqx.tree_at(lambda model: model.transition.flow, model, small)
    whole = np.asarray(sample(model, state, start, start + 0.1))
    times = np.linspace(start, start + 0.1, 11)
    parts = np.asarray(model.rollout(KEY, state, times, CONDITION, COUNT)[:, -1])
    spread = whole.std(axis=0)
    assert (np.abs(parts.mean(axis=0) - whole.mean(axis=0)) / spread).max() < 0.1
    np.testing.assert_allclose(parts.std(axis=0), spread, rtol=0.2)


@pytest.mark.parametrize(("state_dim", "autonomous"), FIRST_VARIANT)
def test_networks_see_no_step_shorter_than_a_control_step(state_dim, autonomous):
    transition = eqx.filter_jit(model_of(state_dim, autonomous).transition)
    state = state_of(state_dim)
    laws = [transition(state, *jnp.float32([0.5, t]), CONDITION) for t in (0.5, 0.53, 0.6, 0.7)]
    none, part, whole, two = (law.law.residual.whole for law in laws)
    for one in none, part, whole:
        np.testing.assert_allclose(one.context, whole.context, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(one.base.scale, whole.base.scale, rtol=1e-4)
    assert (two.context != whole.context).any()
    assert [float(law.law.residual.root) for law in laws[::2]] == [0.0, 1.0]
    assert not laws[2].law.residual.shift.any()


@pytest.mark.parametrize(("state_dim", "autonomous"), FIRST_VARIANT)
def test_no_time_gives_the_state_itself(state_dim, autonomous):
    """Also where the agent lies inside the block, or the block in a wall."""
    model, random = model_of(state_dim, autonomous), np.random.default_rng(0)
    states = random.uniform(20.0, 490.0, (64, 7)).astype(np.float32)
    states[:, 6] = random.uniform(0.0, 2 * np.pi, 64)
    states[:32, :2] = states[:32, 4:6] + random.normal(0.0, 30.0, (32, 2))
    states = states if state_dim == 7 else np.delete(states, [2, 3], axis=1)

    @jax.jit
    @jax.vmap
    def still(state, time):
        return model.sample(KEY, state, time, time, CONDITION, 2)

    # Whatever the time, which a compiler may round in several ways.
    times = np.append(random.uniform(0.0, 3.6, 400), 0.1 * np.arange(36)).astype(np.float32)
    times = np.append(np.full(64, 0.7, np.float32), times)
    states = np.append(states, np.repeat(states[:1], 436, axis=0), axis=0)
    drawn = still(states, times)
    np.testing.assert_array_equal(drawn, np.repeat(states[:, None], 2, axis=1))
    if (state_dim, autonomous) == (7, False):  # compiled as for one state, it rounds otherwise
        draw = lambda time: model.sample(KEY, states[0], time, time, CONDITION, 2)  # noqa: E731
        drawn = jax.jit(lambda times: jax.lax.map(draw, times))(times)
        np.testing.assert_array_equal(drawn, np.broadcast_to(states[0], drawn.shape))


@pytest.mark.parametrize("autonomous", mostly_thorough([False, True], False))
def test_a_full_turn_shifts_the_law_by_a_full_turn(autonomous):
    model, state = model_of(7, autonomous), state_of(7)
    turned = state.at[6].add(2 * np.pi)
    draws, shifted = (sample(model, x) for x in (state, turned))
    np.testing.assert_allclose(shifted[:, :6], draws[:, :6], atol=0.01)
    np.testing.assert_allclose(shifted[:, 6] - draws[:, 6], 2 * np.pi, atol=1e-4)
    densities = log_probs(model, draws, state)
    same = log_probs(model, draws.at[:, 6].add(2 * np.pi), turned)
    np.testing.assert_allclose(same, densities, atol=0.02)


@pytest.mark.parametrize(("state_dim", "autonomous"), FIRST_VARIANT)
def test_law_depends_on_s_unless_autonomous(state_dim, autonomous):
    model, state = model_of(state_dim, autonomous), state_of(state_dim)
    early, late = (sample(model, state, s, s + 0.5) for s in (0.5, 1.0))
    assert bool((early == late).all()) == autonomous


@pytest.mark.parametrize(("state_dim", "autonomous"), FIRST_VARIANT)
def test_slopes_are_finite_and_batches_agree(state_dim, autonomous):
    model, state = model_of(state_dim, autonomous), state_of(state_dim)
    offsets = np.random.default_rng(0).normal(size=(4, state_dim))
    states = (state + 5.0 * offsets).astype(jnp.float32)
    ends = states + 1.0

    @eqx.filter_jit
    def slopes(model):
        def total(model):
            batched = jax.vmap(model.log_prob, (0, 0, None, None, None))
            densities = batched(ends, states, 0.5, 0.9, CONDITION)
            return densities.sum(), densities

        return eqx.filter_value_and_grad(total, has_aux=True)(model)

    (_, densities), found = slopes(model)
    alone = log_probs(model, jnp.tile(ends[1], (COUNT, 1)), states[1])[0]
    assert float(densities[1]) == pytest.approx(float(alone), rel=1e-3)
    assert jax.tree.leaves(found.transition)
    for leaf in jax.tree.leaves(found.transition):
        assert jnp.isfinite(leaf).all()
        assert (leaf != 0).any()


@pytest.mark.thorough
def test_slopes_by_state_time_and_condition_are_finite():
    """Planning differentiates through the law: at contact, within the block and at rest too."""
    model = model_of()

    @jax.jit
    @jax.vmap
    def slopes(state):
        mean = lambda *inputs: model.sample(KEY, *inputs, 2).mean()  # noqa: E731
        return jax.grad(mean, (0, 1, 2, 3))(state, 0.5, 0.9, CONDITION)

    centre = np.array([260.0, 230.0])
    states = np.stack([STATE] * 4)
    states[1, :2], states[2, :2], states[3, 2:4] = centre, centre - np.array([0.0, 15.0]), 0.0
    for slope in slopes(jnp.asarray(states)):
        assert jnp.isfinite(slope).all()
        assert (slope != 0).any()


@pytest.mark.parametrize(
    ("changes", "message"),
    {
        "batched state": ({"state": np.zeros((3, 7))}, r"state of shape \(7,\), got \(3, 7\)"),
        "short state": ({"state": np.zeros(5)}, r"state of shape \(7,\), got \(5,\)"),
        "condition": ({"condition": np.zeros(8)}, r"condition of shape \(20,\), got \(8,\)"),
    }.values(),
    ids=["batched state", "short state", "condition"],
)
def test_wrong_shapes_are_named(changes, message):
    arguments = {"state": STATE, "t_init": 0.5, "t_final": 0.9, "condition": CONDITION} | changes
    model = model_of()
    methods = (
        model.encode,
        functools.partial(model.sample, KEY),
        functools.partial(model.log_prob, STATE),
    )
    for method in methods:
        with pytest.raises(ValueError, match=message):
            method(**arguments)
    times = {"times": [0.5, 0.9], **{name: arguments[name] for name in ("state", "condition")}}
    with pytest.raises(ValueError, match=message):
        model.rollout(KEY, **times)


def test_a_wrong_number_of_samples_is_named():
    model = model_of()
    message = "expected num_samples to be a whole number from 0 on, got -1"
    with pytest.raises(ValueError, match=message):
        model.sample(KEY, STATE, 0.5, 0.9, CONDITION, -1)
    with pytest.raises(ValueError, match=message):
        model.rollout(KEY, STATE, [0.5, 0.9], CONDITION, -1)
    for count in (3, np.int64(3), np.array(3)):
        assert model.sample(KEY, STATE, 0.5, 0.9, CONDITION, count).shape == (3, 7)


@pytest.mark.parametrize("times", [(np.zeros(2), 0.9), (0.5, jnp.ones(1))])
def test_times_that_are_no_single_numbers_are_named(times):
    with pytest.raises(ValueError, match=r"expected t_(init|final) to be one number, got shape"):
        model_of().sample(KEY, STATE, *times, CONDITION)


def test_methods_are_described():
    assert "Draw states" in model_of().sample.__doc__


def test_wrong_times_of_a_rollout_are_named():
    for times in ([], 0.5, [[0.5, 0.9]]):
        with pytest.raises(ValueError, match=r"expected times of shape \(n,\), n at least 1, got"):
            model_of().rollout(KEY, STATE, times, CONDITION)


BACKWARDS = [[0.9, 0.5], [np.float64(0.9), np.array(0.5)], [0.1, np.nan], [0.1, np.inf]]


@pytest.mark.parametrize("times", mostly_thorough(BACKWARDS, [0.9, 0.5]))
def test_times_that_run_backwards_are_named(times):
    model = quickly_compiled()
    calls = [
        lambda: model.encode(STATE, *times, CONDITION),
        lambda: model.sample(KEY, STATE, *times, CONDITION),
        lambda: model.log_prob(STATE, STATE, *times, CONDITION),
        lambda: model.rollout(KEY, STATE, list(times), CONDITION),
        lambda: model.rollout(KEY, STATE, np.array(times), CONDITION),
    ]
    for call in calls:
        with pytest.raises(
            ValueError, match=r"expected finite times in order, got 0\.\d s and then"
        ):
            call()
    # What a compiler cannot refuse is not a number.
    draws, density, path = jax.jit(
        lambda s, t: (
            model.sample(KEY, STATE, s, t, CONDITION, 3),
            model.log_prob(STATE, STATE, s, t, CONDITION),
            model.rollout(KEY, STATE, [s, t], CONDITION),
        )
    )(*map(float, times))
    assert np.isnan(draws).all()
    assert np.isnan(density)
    assert np.isnan(path).all()


@pytest.mark.parametrize("room", ["flow", "model"])
def test_modules_are_abstract_or_final(room):
    """Nothing is inherited but what says that it is meant to be."""
    package = importlib.import_module(f"nsf_pipeline.{room}")
    found = [
        value
        for info in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
        for value in vars(importlib.import_module(info.name)).values()
        if isinstance(value, type) and issubclass(value, eqx.Module)
        if value.__module__ == info.name
    ]
    assert len(found) > 4
    for one in found:
        assert inspect.isabstract(one) != getattr(one, "__final__", False), one


@pytest.mark.thorough
def test_a_rollout_draws_each_state_given_the_one_before():
    model, times = model_of(), [0.5, 0.6, 0.83, 0.83]
    paths = np.asarray(model.rollout(KEY, STATE, times, CONDITION, num_samples=2))
    assert paths.shape == (2, 4, 7)
    np.testing.assert_array_equal(paths[:, 0], np.stack([STATE] * 2))
    for number, (s, t) in enumerate(itertools.pairwise(times)):
        keys = jax.random.split(jax.random.fold_in(KEY, number), 2)
        for key, path in zip(keys, paths, strict=True):
            (expected,) = model.sample(key, path[number], s, t, CONDITION, 1)
            np.testing.assert_allclose(path[number + 1], expected, rtol=1e-4, atol=1e-2)
    np.testing.assert_array_equal(paths[:, 3], paths[:, 2])  # no time passes
    alone = model.rollout(KEY, STATE, times, CONDITION)
    np.testing.assert_array_equal(
        alone, model.rollout(KEY, STATE, times, CONDITION, num_samples=1)[0]
    )
    later = [s - times[0] for s in times]
    traced = jax.jit(lambda s: model.rollout(KEY, STATE, [s + gap for gap in later], CONDITION))
    np.testing.assert_allclose(traced(times[0]), alone, rtol=1e-4, atol=1e-2)
    only = model.rollout(KEY, STATE, [0.5], CONDITION)
    np.testing.assert_array_equal(only, STATE[None])


def test_sample_and_log_prob_are_those_of_the_law_of_the_encoding():
    model = quickly_compiled()
    encoding = model.encode(STATE, 0.5, 0.9, CONDITION)
    law = model.law(encoding)
    (key,) = jax.random.split(KEY, 1)
    (draw,) = model.sample(KEY, STATE, 0.5, 0.9, CONDITION, 1)
    np.testing.assert_allclose(law.sample(key), draw, rtol=1e-5, atol=1e-4)
    density = model.log_prob(draw, STATE, 0.5, 0.9, CONDITION)
    assert float(law.log_prob(draw)) == pytest.approx(float(density), abs=1e-3)
    again, same = law.sample_and_log_prob(key)
    np.testing.assert_allclose(again, draw, rtol=1e-5, atol=1e-4)
    assert float(same) == pytest.approx(float(density), abs=1e-2)


def test_methods_compile_once_per_shape(caplog):
    """Other numbers compile nothing, whether they come as Python's, NumPy's or JAX's."""
    model = quickly_compiled()

    def use(s, t, kind):
        state, condition = kind(STATE), kind(CONDITION)
        draws = model.sample(KEY, state, s, t, condition, num_samples=3)
        model.log_prob(draws[0], state, s, t, condition)
        model.rollout(KEY, state, [s, t], condition)
        model.law(model.encode(state, s, t, condition))

    kinds = jnp.asarray, np.asarray, lambda values: np.asarray(values).tolist()
    for kind in kinds:
        use(0.5, 0.9, kind)
    with jax.log_compiles():
        for s, t in ((0.7, 1.0), (1, 2), (np.float64(0.25), np.float32(0.5)), (0.3, 0.3)):
            for kind in kinds:
                use(s, t, kind)
        assert "Compiling" not in caplog.text
        model.sample(KEY, STATE, 0.5, 0.9, CONDITION, num_samples=5)
        assert "Compiling" in caplog.text


# The file.


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "model.eqx"
    save_model(path, model_of(), {"fingerprint": "abc", "versions": {"jax": jax.__version__}})
    return path


def test_a_model_comes_back_bit_for_bit(saved):
    model, loaded = model_of(), load_model(saved)
    assert eqx.tree_equal(model, loaded)
    np.testing.assert_array_equal(sample(model, state_of(7)), sample(loaded, state_of(7)))
    header = model_header(saved)
    assert header["fingerprint"] == "abc"
    assert header["normaliser"]["scale"] == list(SCALES[7])
    assert json.loads(saved.read_bytes().split(b"\n", 1)[0]) == header


def of_couplings(path, **changes):
    """A model of some couplings, saved."""
    network = NETWORK.model_copy(update=changes)
    bridge = BridgeConfig(**dict(network))
    config = ModelConfig(state_dim=5, path_points=3, flow=network, bridge=bridge)
    model = randomised(config)
    save_model(path, model, {})
    return model


def test_a_model_with_spline_couplings_comes_back_bit_for_bit(tmp_path):
    model = of_couplings(tmp_path / "model.eqx", coupling="spline", num_bins=3)
    loaded = load_model(tmp_path / "model.eqx")
    assert eqx.tree_equal(model, loaded)
    assert isinstance(loaded.transition, FlowTransition)
    couplings = loaded.transition.flow.couplings
    assert [isinstance(c, ContinuousSplineCoupling) and c.num_bins for c in couplings] == [3] * 2


def reheaded(content, leaves=None, **changes):
    """The file's content with its header changed, or its arrays; the checksum is right again."""
    line, kept = content.split(b"\n", 1)
    header, leaves = json.loads(line) | changes, leaves or kept
    del header["sha256"]
    return label.line(label.seal(header, io.BytesIO(leaves))) + leaves


def pickled(content):
    """A file that would run code, were it read with pickle."""
    leaves = io.BytesIO()
    np.save(leaves, np.array([{"an": "object"}], object), allow_pickle=True)
    return reheaded(content, leaves.getvalue())


def wider(content):
    config = json.loads(content.split(b"\n", 1)[0])["config"]
    config["model"]["flow"]["hidden_size"] = 16
    return reheaded(content, config=config)


DAMAGED = {
    "truncated": (lambda content: content[:-10], "damaged"),
    "cut in its header": (lambda content: content[:100], "not a model"),
    "edited header": (lambda content: content.replace(b'"abc"', b'"abd"', 1), "damaged"),
    "edited arrays": (lambda content: content[:-1] + bytes([content[-1] ^ 1]), "damaged"),
    "empty": (lambda content: b"", "not a model"),
    "foreign": (lambda content: b"\x89HDF\r\n\x1a\n" + content, "not a model"),
    "another format": (lambda content: reheaded(content, format="other"), "not a model"),
    "older": (
        lambda content: reheaded(content, format_version=FORMAT_VERSION - 1),
        f"format version {FORMAT_VERSION - 1}, .* reads version {FORMAT_VERSION}; .* train the",
    ),
    "newer": (
        lambda content: reheaded(content, format_version=FORMAT_VERSION + 1),
        f"format version {FORMAT_VERSION + 1}, .* reads version {FORMAT_VERSION}",
    ),
    "header of another model": (wider, "header does not describe its arrays"),
    "header without settings": (lambda content: reheaded(content, config={}), "header"),
    "header of wrong settings": (lambda content: reheaded(content, config=[1]), "header"),
    "normaliser of another size": (
        lambda content: reheaded(
            content, normaliser={"block_bounds": [[0, 0], [1, 1]], "scale": [1.0]}
        ),
        "header",
    ),
    "pickled": (pickled, "header does not describe its arrays"),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_named_in_one_line(saved, tmp_path, case):
    damage, message = DAMAGED[case]
    path = tmp_path / "model.eqx"
    path.write_bytes(damage(saved.read_bytes()))
    with pytest.raises(ModelFileError, match=message) as caught:
        load_model(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"none\.eqx: cannot read it: No such file"):
        load_model(tmp_path / "none.eqx")


def test_format_is_the_files_first_word(saved):
    assert saved.read_bytes().startswith(json.dumps({"format": FORMAT})[:-1].encode())


# What the networks see, against the simulator and against shapely.


@pytest.fixture(scope="module")
def sim():
    return simulator.Simulator()


def test_constants_are_the_environments(sim):
    block = sim._env.block
    np.testing.assert_allclose(tuple(block.center_of_gravity), geometry.T_CENTRE)
    assert block.moment / block.mass == pytest.approx(geometry.T_INERTIA)
    assert sim._env.space.collision_bias == pytest.approx(geometry.OVERLAP_DECAY, rel=1e-3)
    assert sim._env.space.collision_slop == pytest.approx(OVERLAP_ALLOWED)


def test_distance_is_shapelys():
    rectangles = [box(*rectangle) for rectangle in geometry.T_RECTANGLES]
    points = np.random.default_rng(0).uniform([-150, -90], [150, 210], (400, 2))
    nearest = jax.jit(jax.vmap(distance_and_normal))
    distances, normals = nearest(jnp.asarray(points, jnp.float32))
    for point, distance in zip(points, distances, strict=True):
        place = Point(*point)
        depths = [part.exterior.distance(place) for part in rectangles if part.contains(place)]
        expected = -max(depths) if depths else unary_union(rectangles).distance(place)
        assert float(distance) == pytest.approx(expected, abs=1e-3)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1.0, rtol=1e-5)
    beyond = jnp.asarray(points - np.asarray(distances)[:, None] * np.asarray(normals))
    on_outline, _ = nearest(beyond.astype(jnp.float32))
    assert np.quantile(np.abs(on_outline), 0.9) < 1e-2


def test_clearance_turns_and_moves_with_the_scene():
    random = np.random.default_rng(0)
    agent, block = random.uniform(100, 400, 2), random.uniform(150, 350, 2)
    angle, shift = 1.1, np.array([20.0, -35.0])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    here = clearance(jnp.array([*block, 0.3]), jnp.asarray(agent, jnp.float32))
    there = clearance(
        jnp.array([*(turn @ block + shift), 0.3 + angle]),
        jnp.asarray(turn @ agent + shift, jnp.float32),
    )
    assert float(here) == pytest.approx(float(there), abs=1e-3)
    assert float(clearance(jnp.array([100.0, 100.0, 0.0]), jnp.array([100.0, 85.0]))) == 0.0


@pytest.fixture(scope="module")
def noiseless():
    """Rollouts without noise, as (states, targets, lengths, conditions)."""
    config = Config.model_validate_json('{"policies": {"noiseless_fraction": 1.0}}')
    policies = sample_policies(config, 0, 120)
    rollouts = simulate(config, policies)
    velocity, angle = rollouts["agent_velocity"], rollouts["block_angle"][..., None]
    observations = rollouts["observations"]
    states = np.concatenate(
        [observations[..., :2], velocity, observations[..., 2:4], angle], axis=-1
    )
    np.testing.assert_allclose(
        desired_positions(policies["condition"], config)[0, :8],
        rollouts["targets"][0, :8],
        rtol=1e-6,
    )
    return states.astype(np.float32), rollouts["length"], policies["condition"].astype(np.float32)


@functools.partial(jax.jit, static_argnums=4)
@functools.partial(jax.vmap, in_axes=(0, None, 0, 0, None))
def nominally(state, s, t, condition, points):
    times = jnp.linspace(s, t, points + 1)
    knots, velocities = nominal_path(state[:2], state[2:4], times, condition, DMP)
    (push,) = nominal_pushes([(knots, (t - s) / points)], state[2:4], state[4:])
    return knots[-1], velocities[-1], push.poses[-1], push.depths.max()


@pytest.mark.parametrize("steps", mostly_thorough([1, 2, 3, 10], 1, 10))
def test_noise_of_the_agent_is_the_simulators(steps):
    """Covariance of position and velocity, of draws with noise of 1 px on each target."""
    state = np.array([250.0, 400.0, 20.0, -30.0, 100.0, 100.0, 0.0])
    noise = np.random.default_rng(steps).normal(size=(4000, steps, 2))
    ends = simulator.Simulator().ensemble(state, np.array([240.0, 390.0]) + noise)[:, -1]
    assert (ends[:, 4:] == state[4:]).all()
    factor = np.asarray(noise_factor(jnp.float32(0.3), jnp.float32(0.3 + 0.1 * steps)))
    assert abs(factor[0, 1]) < 1e-6
    for axis in range(2):
        along = ends[:, [axis, 2 + axis]]
        whitened = np.linalg.solve(factor, (along - along.mean(axis=0)).T)
        expected = np.diag([1.0, float(steps > 1)])
        np.testing.assert_allclose(np.cov(whitened), expected, atol=5 * np.sqrt(2 / 4000))


def test_the_agents_law_is_the_simulators_at_any_noise(level_laws):
    """Of an untrained model, whose agent's law is the closed form up to 1 %."""
    start, gap = 0.3, 8
    state = np.array([250.0, 400.0, 20.0, -30.0, 100.0, 100.0, 0.0])
    for level in (0.0, 2.0, 8.0, 16.0):
        draws = np.asarray(level_laws(state, level, start, start + 0.1 * gap), np.float64)
        condition = np.asarray(CONDITION.at[-1].set(level), np.float64)[None]
        targets = desired_positions(condition, Config())[0, 3 : 3 + gap]
        noise = level * np.random.default_rng(0).normal(size=(4000, gap, 2))
        ends = simulator.Simulator().ensemble(state, targets + noise)[:, -1]
        assert (ends[:, 4:] == state[4:]).all()
        off = draws[:, :4].mean(axis=0) - ends[:, :4].mean(axis=0)
        assert (np.abs(off) < 0.1 * max(level, 1.0) * np.array([1.0, 1.0, 6.0, 6.0])).all()
        spread, expected = (values[:, :4].std(axis=0) for values in (draws, ends))
        if level:
            np.testing.assert_allclose(spread, expected, rtol=0.05)
            found, known = (np.corrcoef(values[:, [0, 2]].T) for values in (draws, ends))
            np.testing.assert_allclose(found, known, atol=0.05)
        else:
            assert (expected < 1e-9).all()
            assert (spread < LEAST_NOISE * np.array([1.0, 1.0, 6.0, 6.0])).all()
            assert (spread > 0.0).all()


def test_the_agents_scale_is_per_px_of_noise():
    """Of residuals that grow with the noise; where it is not known, the scale is theirs."""
    noise = jnp.asarray(np.random.default_rng(0).uniform(0.0, 16.0, 64), jnp.float32)
    condition = jnp.tile(CONDITION, (64, 1)).at[:, -1].set(noise)
    states, s, t = jnp.tile(STATE, (64, 1)), jnp.full(64, 0.5), jnp.full(64, 0.9)
    known, hidden = (ModelConfig(path_points=3, autonomous=which) for which in (False, True))
    motion = nominal.nominal_motion(states[0], s[0], t[0], CONDITION, known, DMP)
    size = jnp.sqrt(noise**2 + LEAST_NOISE**2)[:, None]
    residual = jnp.where(np.arange(7) < 4, 0.5 * size, 3.0)
    ends = states + motion.displacements[-1] + residual
    scale = fit_normaliser(known, DMP, (states, ends, s, t, condition)).scale
    np.testing.assert_allclose(scale, [0.5] * 4 + [3.0] * 3, rtol=1e-3)
    scale = fit_normaliser(hidden, DMP, (states, states + residual, s, t, condition)).scale
    rms = 0.5 * np.sqrt(np.mean(np.asarray(size) ** 2))
    np.testing.assert_allclose(scale, [rms] * 4 + [3.0] * 3, rtol=1e-3)


@pytest.fixture(scope="module")
def level_laws():
    """Draws of an untrained model with the noise given."""
    bridge = BridgeConfig(**dict(NETWORK))
    config = ModelConfig(path_points=3, flow=NETWORK, bridge=bridge)
    scale = (0.4, 0.4, 3.0, 3.0, 5.0, 5.0, 0.1)
    model = build_model(config, DMP, Normaliser(((40.0, 40.0), (470.0, 470.0)), scale), key=KEY)

    @jax.jit
    def draw(state, level, s, t):
        return model.sample(KEY, state, s, t, CONDITION.at[-1].set(level), COUNT)

    return lambda *given: draw(*map(jnp.float32, given))


def covariance_of(s, t):
    factors = np.asarray(jax.vmap(noise_factor)(*jnp.array([s, t], jnp.float32)), np.float64)
    assert (np.linalg.det(factors) > 0).all()
    return factors @ np.swapaxes(factors, 1, 2)


def test_noise_of_the_agent_adds_up_over_any_times():
    """One step to t is two steps through m, whether or not these are whole control steps."""
    random = np.random.default_rng(0)
    s, m, t = np.sort(random.uniform(0.0, 1.5, (3, 500)), axis=0)
    t[:100] = s[:100] + 0.1 * random.uniform(0.1, 1.0, 100)
    m[:100] = s[:100] + random.uniform(0.0, 1.0, 100) * (t[:100] - s[:100])
    kept = np.asarray(propagator(jnp.asarray(t - m, jnp.float32)), np.float64)
    through = kept @ covariance_of(s, m) @ np.swapaxes(kept, 1, 2) + covariance_of(m, t)
    directly = covariance_of(s, t)
    size = np.sqrt(np.einsum("nii->ni", directly))
    off = (through - directly) / (size[:, :, None] * size[:, None])
    assert np.abs(off).max() < 1e-3


@pytest.mark.parametrize("physics", ["none", "path", "push"])
def test_states_far_outside_do_not_take_draws_further_and_further(physics):
    """Each pass of a model without bounds took them ten times further, until they overflowed."""
    model = jax.tree.map(
        lambda leaf: 10.0 * leaf if eqx.is_inexact_array(leaf) else leaf, model_of(physics=physics)
    )
    draw = jax.jit(lambda key, state: model.sample(key, state, 0.3, 1.1, CONDITION, 1)[0])
    far, furthest = 1e5 * STATE, []
    for key in jax.random.split(KEY, 8):
        far = draw(key, far)
        furthest.append(np.abs(far).max())
    assert np.isfinite(furthest).all()
    assert furthest[-1] < 100.0 * furthest[0]


def test_modes_are_real_where_numpy_gives_complex_eigenvalues(monkeypatch):
    """NumPy 2.5 does."""
    solve, expected = np.linalg.eig, agent_motion._modes()
    monkeypatch.setattr(
        np.linalg, "eig", lambda matrix: [part.astype(complex) for part in solve(matrix)]
    )
    for found, wanted in zip(agent_motion._modes(), expected, strict=True):
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, wanted)


def exact_covariance(s, t):
    """Step by step, in double precision."""
    (rates, vectors), total = agent_motion._modes(), np.zeros((2, 2))
    kept = lambda time: vectors @ np.diag(np.exp(rates * time)) @ np.linalg.inv(vectors)  # noqa: E731

    def arrived(time):
        now = kept(time - 0.1) @ (np.eye(2) - kept(0.1))[:, 0]
        return ((np.eye(2) - kept(time))[1, 0] / now[1]) ** 2

    answer = (np.eye(2) - kept(0.1))[:, 0]
    of_step = np.outer(answer, answer) + np.diag([0.0, (0.01 * answer[1]) ** 2])
    for step in range(int(s / 0.1 + 1e-4), int(np.ceil(t / 0.1 - 1e-4))):
        begin, end = (np.clip(time - 0.1 * step, 0.0, 0.1) for time in (s, t))
        back = kept(t - 0.1 * (step + 1))
        total += (arrived(end) - arrived(begin)) * back @ of_step @ back.T
    return total


def test_noise_of_the_agent_is_exact_at_and_beside_control_steps():
    """Compiled: where rounded numbers are computed twice, they may differ."""
    offsets = np.array([0.0, 1e-8, 1e-7, 1e-6, 1e-4, 1e-3, -1e-7, -1e-6, -1e-4, -1e-3, 0.0123])
    gaps = np.array([0.01, 0.05, 0.0999, 0.1, 0.1001, 0.137, 0.2001, 0.3, 1.0, 2.0])
    s, gap = np.meshgrid((0.1 * np.arange(1, 36)[:, None] + offsets).ravel(), gaps)
    s, t = (np.asarray(times.ravel(), np.float32) for times in (s, s + gap))
    factors = jax.jit(lambda *times: jax.lax.map(lambda pair: noise_factor(*pair), times))(s, t)
    exact = np.linalg.cholesky([exact_covariance(*pair) for pair in zip(s, t, strict=True)])
    factors = np.asarray(factors, np.float64)
    # Made lower triangular; last comes what the position leaves unknown of the velocity.
    found = np.linalg.cholesky(factors @ np.swapaxes(factors, 1, 2))
    off = np.abs(found - exact) / np.abs(exact).max(axis=1, keepdims=True)
    assert off[:, :, 0].max() < 1e-3
    assert off[:, 1, 1].max() < 0.03


def test_noise_of_the_velocity_within_a_control_step_is_the_simulators():
    """Of 1 px on the target held: ten substeps of the environment's control, from rest."""
    position, velocity = 0.0, 0.0
    for substep in range(1, 11):
        velocity += 0.01 * (100.0 * (1.0 - position) - 20.0 * velocity)
        position += 0.01 * velocity
        times = np.array([[0.7], [0.7 + 0.01 * substep]])
        assert covariance_of(*times)[0, 1, 1] == pytest.approx(velocity**2, rel=2e-3)
    times = np.linspace(0.7, 0.8, 41, dtype=np.float32)
    shares = np.asarray(
        jax.jit(jax.vmap(noise_share))(jnp.asarray(times[:-1]), jnp.asarray(times[1:]))
    )
    assert (shares > 0).all()
    assert shares.sum() == pytest.approx(1.0, abs=1e-4)
    assert float(noise_share(jnp.float32(0.75), jnp.float32(0.85))) == 1.0


@pytest.mark.parametrize("start", [0, 5])
def test_nominal_motion_is_the_simulators_without_noise(noiseless, start):
    states, lengths, conditions = noiseless
    rows = np.flatnonzero(lengths >= start + 5)
    begin, end = states[rows, start], states[rows, lengths[rows]]
    times = (0.1 * start, 0.1 * lengths[rows].astype(np.float32))
    agent, velocity, pose, depth = map(np.asarray, nominally(begin, *times, conditions[rows], 96))
    assert np.abs(agent - end[:, :2]).max() < 0.02  # px
    assert np.abs(velocity - end[:, 2:4]).max() < 0.1  # px/s

    moved = np.linalg.norm(end[:, 4:6] - begin[:, 4:6], axis=1)
    missed = np.linalg.norm(pose[:, :2] - end[:, 4:6], axis=1)
    pushed = moved > 5.0
    assert pushed.sum() > 30
    assert np.median(missed[pushed] / moved[pushed]) < 0.05  # 0.005 measured
    assert missed[pushed].mean() < 0.25 * moved[pushed].mean()  # 0.09 measured
    turned, off = (np.abs(pose[:, 2] - begin[:, 6])[pushed], np.abs(pose[:, 2] - end[:, 6])[pushed])
    assert np.median(off) < 0.1 * np.median(turned)  # 0.05 measured

    outlines = np.stack([t_outline(block) for block in begin[:, 4:]])
    off_walls = (outlines > geometry.WALLS[0]) & (outlines < geometry.WALLS[1])
    untouched = (depth < -3.0) & off_walls.all(axis=(1, 2))
    assert untouched.sum() > 10
    np.testing.assert_array_equal(pose[untouched], begin[untouched, 4:])
    np.testing.assert_array_equal(end[untouched, 4:], begin[untouched, 4:])
