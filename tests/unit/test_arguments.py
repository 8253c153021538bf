"""Arguments that mean nothing: one line where they are known, NaN where they are traced."""

import datetime
import fractions
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mostly_thorough

from nsf_pipeline import checks, dmp
from nsf_pipeline.config import DMPConfig, ModelConfig, NetworkConfig, TrainingConfig
from nsf_pipeline.data.randomness import Stream, generator
from nsf_pipeline.data.transitions import Trajectories, TransitionBatch, Transitions, rows_of
from nsf_pipeline.errors import UserError
from nsf_pipeline.evaluation import metrics
from nsf_pipeline.flow import (
    ConditionalAuxiliaryFlow,
    ConditionalNeuralStochasticFlow,
    MultivariateNormalDiag,
    consistency_losses,
)
from nsf_pipeline.flow.guard import require_key
from nsf_pipeline.model import Normaliser, build_model, fit_normaliser
from nsf_pipeline.model.arguments import condition_vector, sample_count, start_and_end, vector
from nsf_pipeline.pusht import geometry
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.training import fit

KEY = jax.random.key(0)
DMP = DMPConfig()
STATE = np.array([200.0, 260.0, 60.0, -10.0, 260.0, 230.0, 0.4], np.float32)
WEIGHTS = np.linspace(-0.5, 0.5, 12)
CONDITION = np.array([2.0, 190.0, 250.0, 330.0, 280.0, *WEIGHTS, 50.0, 14.0, 8.0], np.float32)
DURATION, STIFFNESS, DAMPING, NOISE = 0, -3, -2, -1
NORMALISER = Normaliser(((0.0, 0.0), (500.0, 500.0)), (8.0, 8.0, 60.0, 60.0, 5.0, 5.0, 0.1))


def changed(values, place, number):
    """A copy with one other number."""
    values = np.array(values)
    values[place] = number
    return values


NO_NUMBERS = {
    "boolean": True,
    "boolean of NumPy": np.True_,
    "booleans": np.array([True, False]),
    "boolean in a list": [1.0, True],
    "boolean array in a list": [1.0, np.array(True)],
    "text": "1",
    "texts": ["1", "2"],
    "array of text": np.array(["1"]),
    "bytes": b"1",
    "complex": 1.0 + 0.0j,
    "complex in a list": [1.0, 1j],
    "date": datetime.date(2026, 1, 1),
    "dates": np.array(["2026-01-01"], "datetime64[D]"),
    "time span": np.timedelta64(1, "s"),
    "nothing": None,
    "object": object(),
    "mapping": {1: 2},
    "set": {1.0},
    "function": abs,
    "fraction": fractions.Fraction(1, 2),
    "integer of 400 digits": 10**399,
    "ragged list": [[1.0], [1.0, 2.0]],
    "structured": np.zeros(1, [("a", float)]),
    "masked": np.ma.masked_array([1.0, 2.0], [False, True]),
    "keys": jax.random.split(KEY, 2),
    "boolean of JAX": jnp.array(True),
}


@pytest.mark.parametrize("case", NO_NUMBERS)
def test_what_is_no_number_is_named_in_one_line(case):
    for call in (
        lambda: checks.numbers("x", NO_NUMBERS[case]),
        lambda: vector("x", NO_NUMBERS[case], 2),
    ):
        with pytest.raises(UserError, match=r"^expected x to be numbers, got [ -~]{1,80}$"):
            call()


@pytest.mark.parametrize(
    "values",
    [1, 2.5, np.int8(3), np.float16(0.5), [1, 2.0], (np.ones(2), np.ones(2)), jnp.ones(3)],
    ids=repr,
)
def test_numbers_keep_their_values(values):
    np.testing.assert_array_equal(checks.numbers("x", values), np.asarray(values, np.float64))


NO_COUNTS = {
    "negative": -1,
    "fraction": 2.5,
    "whole but real": np.float64(2.0),
    "true": True,
    "text": "3",
    "nothing": None,
    "two": np.array([1, 2]),
    "too many": 10**12,
    "400 digits": 10**399,
    "NaN": float("nan"),
}


@pytest.mark.parametrize("case", NO_COUNTS)
def test_a_count_that_is_none_is_named_in_one_line(case):
    with pytest.raises(UserError, match=r"^expected num_samples [ -~]{1,120}$"):
        sample_count(NO_COUNTS[case])


def test_paths_of_many_states_count_as_many():
    assert sample_count(10, 1000) == 10
    with pytest.raises(UserError, match="expected num_samples of at most 10000, got 10001"):
        sample_count(10_001, 1000)


NO_KEYS = {
    "seed": 0,
    "nothing": None,
    "numbers": np.zeros(2),
    "batch": jax.random.split(KEY, 3),
    "batch of old keys": jax.random.split(jax.random.PRNGKey(0), 3),
    "raw data of another size": np.zeros(4, np.uint32),
}


@pytest.mark.parametrize("case", NO_KEYS)
def test_a_key_that_is_none_is_named_in_one_line(case):
    with pytest.raises(UserError, match=r"^expected key to be one key, [ -~]{1,150}$"):
        require_key(NO_KEYS[case])


def test_keys_of_both_styles_pass():
    for key in (KEY, jax.random.PRNGKey(0), jax.random.key(0, impl="rbg")):
        require_key(key)
        jax.vmap(require_key)(jax.random.split(key, 2))


@functools.cache
def model_of(kind="flow", **settings):
    """A small model with random weights."""
    network = NetworkConfig(hidden_size=8, depth=1, num_flow_layers=1)
    config = ModelConfig(kind=kind, **{"path_points": 2, "flow": network, **settings})
    model = build_model(config, DMP, NORMALISER, key=KEY)
    arrays, rest = jax.tree.flatten(model)
    keys = jax.random.split(KEY, len(arrays))
    return jax.tree.unflatten(
        rest,
        [
            array + 0.1 * jax.random.normal(key, array.shape) if hasattr(array, "shape") else array
            for array, key in zip(arrays, keys, strict=True)
        ],
    )


GOOD: dict[str, Any] = {"state": STATE, "t_init": 0.5, "t_final": 0.6, "condition": CONDITION}
BAD: dict[str, Any] = {
    "times backwards": ({"t_final": 0.4}, "finite times in order, got 0.5 s and then 0.4 s"),
    "start is NaN": ({"t_init": np.nan}, "finite times in order, got nan s and then"),
    "end is NaN": ({"t_final": np.nan}, "finite times in order, got 0.5 s and then nan s"),
    "start without beginning": ({"t_init": -np.inf}, "finite times in order, got -inf s"),
    "no end": ({"t_final": np.inf}, "finite times in order, got 0.5 s and then inf s"),
    "before the start": ({"t_init": -1.0}, "times from 0 to 10000 s since the policy started"),
    "end far ahead": ({"t_final": 1e30}, "times from 0 to 10000 s since the policy started"),
    "NaN in the state": ({"state": changed(STATE, 4, np.nan)}, r"state to be finite.*nan at \[4\]"),
    "infinite state": ({"state": changed(STATE, 0, np.inf)}, r"state to be finite.*inf at \[0\]"),
    "NaN among the weights": ({"condition": changed(CONDITION, 8, np.nan)}, r"nan at \[8\]"),
    "infinite goal": ({"condition": changed(CONDITION, 3, -np.inf)}, r"-inf at \[3\]"),
    "no duration": (
        {"condition": changed(CONDITION, DURATION, 0)},
        "duration to be above 0, got 0",
    ),
    "negative duration": ({"condition": changed(CONDITION, DURATION, -2)}, "duration.*got -2"),
    "no stiffness": ({"condition": changed(CONDITION, STIFFNESS, 0)}, "stiffness.*above 0, got 0"),
    "negative stiffness": ({"condition": changed(CONDITION, STIFFNESS, -50)}, "stiffness.*got -50"),
    "negative damping": (
        {"condition": changed(CONDITION, DAMPING, -1)},
        "damping.*least 0, got -1",
    ),
    "negative noise": (
        {"condition": changed(CONDITION, NOISE, -1)},
        "action_noise_std.*least 0, got -1",
    ),
}
KNOWN_ONLY: dict[str, Any] = {
    "too large for single precision": ({"state": [1e39] * 7}, "finite in single precision"),
    "too small for single precision": (
        {"condition": changed(CONDITION.astype(np.float64), DURATION, 1e-60)},
        "duration to be above 0, got 0",
    ),
    "boolean time": ({"t_init": True}, "t_init to be numbers, got True"),
    "complex state": ({"state": STATE + 0j}, "state to be numbers"),
    "boolean states": ({"state": STATE > 0}, "state to be numbers"),
    "arrays of JAX": ({"state": jnp.full(7, jnp.nan)}, "state to be finite"),
    "times of JAX": (
        {"t_init": jnp.float32(1.0), "t_final": jnp.float32(0.5)},
        "finite times in order, got 1.0 s and then 0.5 s",
    ),
    "empty state": ({"state": np.zeros(0)}, r"state of shape \(7,\), got \(0,\)"),
    "empty time": ({"t_final": np.zeros(0)}, r"t_final to be one number, got shape \(0,\)"),
}


@pytest.mark.parametrize("case", BAD | KNOWN_ONLY)
def test_arguments_of_a_model_that_are_known_are_named_in_one_line(case):
    model, (changes, message) = model_of(), (BAD | KNOWN_ONLY)[case]
    given = GOOD | changes
    state, s, t, condition = given.values()
    calls = [
        lambda: model.encode(**given),
        lambda: model.sample(KEY, **given),
        lambda: model.log_prob(STATE, **given),
    ]
    if np.shape(t) == ():
        calls.append(lambda: model.rollout(KEY, state, [s, t], condition))
    for call in calls:
        with pytest.raises(UserError) as caught:
            call()
        text = str(caught.value)
        assert "\n" not in text
        assert text.startswith("expected ")
    with pytest.raises(UserError, match=message):
        model.sample(KEY, **given)


@pytest.mark.parametrize("case", BAD)
def test_known_arguments_of_a_transition_are_named_in_one_line(case):
    model, given = model_of(), GOOD | BAD[case][0]
    with pytest.raises(UserError, match=r"^expected [ -~]+$"):
        model.transition.encode(*(jnp.asarray(value, jnp.float32) for value in given.values()))


def test_other_arguments_of_a_model_are_named():
    model = model_of()
    with pytest.raises(UserError, match="expected next_state to be finite"):
        model.log_prob(changed(STATE, 6, np.nan), **GOOD)
    encoding = model.encode(**GOOD)
    law = model.law(encoding)
    with pytest.raises(UserError, match="expected x to be finite"):
        law.log_prob(changed(STATE, 6, np.inf))
    for broken, message in (
        (encoding._replace(t_final=jnp.float32(0.1)), "finite times in order"),
        (encoding._replace(features=encoding.features * jnp.nan), "features to be finite"),
        (encoding._replace(features=encoding.features[1:]), "features of shape"),
        (encoding._replace(displacements=encoding.displacements[:, 1:]), "displacements of shape"),
    ):
        with pytest.raises(UserError, match=message):
            model.law(broken)


def batch_of(cases, good):
    """Each argument of several cases, stacked, with a good case in front."""
    rows = [good, *(good | changes for changes, _ in cases.values())]
    return [jnp.asarray(np.stack([row[name] for row in rows]), jnp.float32) for name in good]


# By kind: settings of the model. The nominal push takes long to compile, so one has it.
KINDS: dict[str, Any] = {"flow": {}, "neural_sde": {"autonomous": True, "path_points": 1}}


@pytest.mark.parametrize("kind", mostly_thorough(KINDS, "flow"))
def test_traced_arguments_of_a_model_that_mean_nothing_give_nan(kind):
    model, given = model_of(kind, **KINDS[kind]), batch_of(BAD, GOOD)

    @jax.jit
    @jax.vmap
    def results(state, s, t, condition):
        encoding = model.encode(state, s, t, condition)
        law = model.law(encoding)
        return {
            "encoding": jnp.concatenate([encoding.features, encoding.displacements.ravel()]),
            "sample": model.sample(KEY, state, s, t, condition, 2),
            "log_prob": model.log_prob(STATE, state, s, t, condition),
            "rollout": model.rollout(KEY, state, jnp.stack([0.2 * s, s, t]), condition),
            "law": jnp.append(*law.sample_and_log_prob(KEY)),
        }

    for name, values in results(*given).items():
        values = np.asarray(values).reshape(len(values), -1)
        assert np.isfinite(values[0]).all(), name
        for case, row in zip(BAD, values[1:], strict=True):
            assert np.isnan(row).all(), (name, case)


def test_a_traced_next_state_that_is_not_finite_has_no_density():
    model = model_of()
    ends = jnp.stack([STATE, changed(STATE, 0, np.nan), changed(STATE, 6, np.inf)])
    found = jax.vmap(lambda end: model.log_prob(end, **GOOD))(ends)
    assert np.isfinite(found).tolist() == [True, False, False]
    assert np.isnan(found[1:]).all()


@pytest.mark.thorough
def test_gradients_at_arguments_that_mean_nothing_are_no_crash():
    model = model_of()
    for state, time in ((STATE, 0.4), (changed(STATE, 0, np.nan), 0.6)):
        found = jax.grad(lambda x, t: model.log_prob(STATE, x, 0.5, t, CONDITION), (0, 1))(
            jnp.asarray(state), time
        )
        for gradient in found:
            assert (np.isnan(gradient) | (np.asarray(gradient) == 0.0)).all()


NORMALISERS = {
    "NaN": NORMALISER._replace(scale=(float("nan"), *NORMALISER.scale[1:])),
    "no size": NORMALISER._replace(scale=(0.0, *NORMALISER.scale[1:])),
    "too few sizes": NORMALISER._replace(scale=NORMALISER.scale[:5]),
    "reversed bounds": NORMALISER._replace(block_bounds=NORMALISER.block_bounds[::-1]),
}


@pytest.mark.parametrize("case", NORMALISERS)
def test_a_normaliser_that_means_nothing_makes_no_model(case):
    with pytest.raises(UserError, match=r"^expected (scale|block_bounds)"):
        build_model(ModelConfig(), DMP, NORMALISERS[case], key=KEY)


ROWS: list[Any] = [
    jnp.repeat(jnp.asarray(row, jnp.float32)[None], 3, axis=0)
    for row in (STATE, STATE + 1, 0.0, 0.1, CONDITION)
]
TRANSITIONS: Any = TransitionBatch(*ROWS)
UNFIT = {
    "none": TransitionBatch(*(values[:0] for values in TRANSITIONS)),
    "NaN": TRANSITIONS._replace(x_final=TRANSITIONS.x_final * np.nan),
    "no time passes": TRANSITIONS._replace(t_final=TRANSITIONS.t_init),
    "no duration": TRANSITIONS._replace(condition=0 * TRANSITIONS.condition),
}


@pytest.mark.parametrize("case", UNFIT)
def test_transitions_that_mean_nothing_give_no_normaliser(case):
    with pytest.raises(UserError, match=r"^expected "):
        fit_normaliser(ModelConfig(), DMP, UNFIT[case])


SMALL: dict[str, Any] = {"hidden_size": 4, "depth": 1, "num_flow_layers": 1}
X, Y, C = np.array([0.1, 0.2]), np.array([0.3, -0.1]), np.array([0.5])


def flow():
    return ConditionalNeuralStochasticFlow(2, 1, **SMALL, key=KEY)


def bridge():
    return ConditionalAuxiliaryFlow(2, 1, **SMALL, key=KEY)


NAN = np.array([0.1, np.nan])
FLOW = {
    "flow backwards": (lambda: flow()(X, 1.0, 0.5, C), "t_init <= t_final, got 1 and 0.5"),
    "flow to infinity": (lambda: flow()(X, 1.0, np.inf, C), "t_final to be finite"),
    "flow from NaN": (lambda: flow()(NAN, 0.0, 0.5, C), r"x_init to be finite.*nan at \[1\]"),
    "flow of NaN": (lambda: flow()(X, 0.0, 0.5, C * np.nan), "condition to be finite"),
    "flow of another size": (lambda: flow()(X[:1], 0.0, 0.5, C), r"x_init of shape \(2,\)"),
    "density of NaN": (lambda: flow()(X, 0.0, 0.5, C).log_prob(NAN), "x to be finite"),
    "density of another size": (lambda: flow()(X, 0.0, 0.5, C).log_prob(C), r"x of shape \(2,\)"),
    "middle before the start": (
        lambda: bridge()(X, Y, 0.5, 0.4, 1.0, C),
        "t_init <= t_mid, got 0.5 and 0.4",
    ),
    "middle after the end": (
        lambda: bridge()(X, Y, 0.5, 1.1, 1.0, C),
        "t_mid <= t_final, got 1.1 and 1",
    ),
    "bridge over no time": (lambda: bridge()(X, Y, 0.5, 0.5, 0.5, C), "t_final - t_init.*above 0"),
    "bridge to NaN": (lambda: bridge()(X, NAN, 0.0, 0.5, 1.0, C), "x_final to be finite"),
    "loss with its middle outside": (
        lambda: consistency_losses(
            flow(), bridge(), *map(jnp.float32, (X, 0.0, 2.0, 1.0, C)), key=KEY
        ),
        "expected t_mid <= t_final, got 2 and 1",
    ),
    "negative deviation": (
        lambda: MultivariateNormalDiag(jnp.zeros(2), jnp.array([1.0, -1.0])),
        r"scale to be at least 0, got -1 at \[1\]",
    ),
    "no state": (lambda: ConditionalNeuralStochasticFlow(0, key=KEY), "state_dim of at least 1"),
    "endless layers": (
        lambda: ConditionalNeuralStochasticFlow(2, hidden_size=10**12, key=KEY),
        "hidden_size of at most 65536",
    ),
    "least deviation of 0": (
        lambda: ConditionalNeuralStochasticFlow(2, min_std=0.0, key=KEY),
        "min_std to be above 0",
    ),
    "least deviation of NaN": (
        lambda: ConditionalAuxiliaryFlow(2, min_std=float("nan"), key=KEY),
        "min_std to be finite",
    ),
    "least deviations of another number": (
        lambda: ConditionalNeuralStochasticFlow(2, min_std=(0.1,) * 3, key=KEY),
        r"min_std of shape \(2,\), got \(3,\)",
    ),
}


@pytest.mark.parametrize("case", FLOW)
def test_arguments_of_a_flow_that_are_known_are_named_in_one_line(case):
    call, message = FLOW[case]
    with pytest.raises(UserError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


STEP: dict[str, Any] = {"x": X, "y": Y, "s": 0.0, "m": 0.5, "t": 1.0, "c": C}
OF_FLOW = {
    "backwards": ({"t": -1.0, "m": -0.5}, ""),
    "end is NaN": ({"t": np.nan}, ""),
    "no end": ({"t": np.inf}, ""),
    "NaN in the state": ({"x": NAN}, ""),
    "infinite state": ({"x": np.array([np.inf, 0.0])}, ""),
    "infinite condition": ({"c": C * np.inf}, ""),
}
OF_BRIDGE = OF_FLOW | {
    "middle before the start": ({"m": -0.1}, ""),
    "middle after the end": ({"m": 1.1}, ""),
    "middle is NaN": ({"m": np.nan}, ""),
    "no time": ({"t": 0.0, "m": 0.0}, ""),
    "NaN at the end": ({"y": NAN}, ""),
    "infinite end": ({"y": np.array([0.0, -np.inf])}, ""),
}


@pytest.mark.parametrize("activation", ["silu", "tanh"])
@pytest.mark.parametrize("cases", [OF_FLOW, OF_BRIDGE], ids=["flow", "bridge"])
def test_traced_arguments_of_a_flow_that_mean_nothing_give_nan(cases, activation):
    kind = ConditionalNeuralStochasticFlow if cases is OF_FLOW else ConditionalAuxiliaryFlow
    law = kind(2, 1, **SMALL, activation=getattr(jax.nn, activation), coupling="spline", key=KEY)

    @jax.jit
    @jax.vmap
    def results(x, y, s, m, t, c):
        given = (x, s, t, c) if cases is OF_FLOW else (x, y, s, m, t, c)
        x, density = law(*given).sample_and_log_prob(KEY)
        return jnp.concatenate([x, density[None], law(*given).log_prob(X)[None]])

    found = np.asarray(results(*batch_of(cases, STEP)))
    assert np.isfinite(found[0]).all()
    for case, row in zip(cases, found[1:], strict=True):
        assert np.isnan(row).all(), case


def policy(**changes):
    return dmp.DMPParams.from_vector(CONDITION.astype(np.float64))._replace(**changes)


def trajectories(**changes):
    states, condition = (
        np.repeat(STATE[None, None], 3, 1).repeat(2, 0),
        CONDITION[None].repeat(2, 0),
    )
    return Trajectories(states, np.array([2, 2]), condition)._replace(**changes)


def built(max_gap=1.0, dt=0.1, block_blur=0.0, **changes):
    return Transitions.build(trajectories(**changes), max_gap, dt, block_blur)


def trained(**changes):
    given: dict[str, Any] = {"key": KEY, "time_step": 0.1} | changes
    return fit(flow(), bridge(), built(), TrainingConfig(), **given)


D, T, R = np.zeros((3, 4, 2)), np.zeros((3, 2)), np.random.default_rng(0)
TIMES = np.array([0.0, 0.1])
OTHERS = {
    "path without duration": (
        lambda: dmp.integrate(policy(duration=np.float64(0)), DMP),
        "duration",
    ),
    "path without stiffness": (
        lambda: dmp.integrate(policy(stiffness=np.float64(-1)), DMP),
        "stiffness to be above 0, got -1",
    ),
    "path damped below 0": (
        lambda: dmp.integrate(policy(damping=np.float64(-1)), DMP),
        "damping to be at least 0, got -1",
    ),
    "path to NaN": (lambda: dmp.integrate(policy(goal=np.array([np.nan, 0])), DMP), "goal"),
    "path of other functions": (
        lambda: dmp.integrate(policy(weights=np.zeros((2, 3))), DMP),
        r"weights of shape \(\.\.\., 2, 6\), got \(2, 3\)",
    ),
    "path at NaN": (
        lambda: dmp.evaluate(dmp.integrate(policy(), DMP), TIMES * np.nan, DMP),
        "times to be finite",
    ),
    "spring of no stiffness": (
        lambda: dmp.follow(np.zeros((3, 2)), np.zeros(2), np.zeros(2), 0.0, 1.0, 0.1),
        "stiffness to be above 0",
    ),
    "spring over no time": (
        lambda: dmp.follow(np.zeros((3, 2)), np.zeros(2), np.zeros(2), 1.0, 1.0, 0.0),
        "step to be above 0",
    ),
    "negative seed": (lambda: Simulator().reset(-1), "seed to be a whole number from 0 on, got -1"),
    "true seed": (lambda: Simulator().reset(True), "seed to be a whole number"),
    "seed of 400 digits": (lambda: Simulator().reset(10**399), "seed of at most"),
    "state of text": (lambda: Simulator().enter(np.array(["1"] * 7)), "state to be numbers"),
    "state of 1e200": (lambda: Simulator().enter(STATE * 1e20), r"at least -1e\+06"),
    "action of NaN": (
        lambda: Simulator().step(np.array([np.nan, 0])),
        "action: expected finite numbers",
    ),
    "actions of 1e300": (lambda: Simulator().rollout(np.full((2, 2), 1e300)), r"at most 1e\+06"),
    "coverage of NaN": (lambda: geometry.coverage(np.full(3, np.nan)), "poses to be finite"),
    "coverage of two numbers": (lambda: geometry.coverage(np.zeros(2)), "poses of shape"),
    "reward above 1": (lambda: geometry.reward(np.array(1.5)), "coverage to be at most 1"),
    "outline of NaN": (lambda: geometry.t_outline(np.full(3, np.nan)), "pose to be finite"),
    "a fourth split": (lambda: rows_of("d.h5", {}, 3), "split of at most 2, got 3"),
    "a split before the first": (lambda: rows_of("d.h5", {}, -1), "split to be a whole number"),
    "negative trajectory": (lambda: generator(0, -1, Stream.START), "trajectory to be a whole"),
    "no trajectories": (
        lambda: built(
            states=np.zeros((0, 3, 7), np.float32),
            length=np.zeros(0, int),
            condition=np.zeros((0, 20), np.float32),
        ),
        "at least one trajectory, got none",
    ),
    "trajectory of no steps": (lambda: built(length=np.array([2, 0])), "length to be at least 1"),
    "trajectory longer than its states": (lambda: built(length=np.array([2, 3])), "at most 2"),
    "trajectory of NaN": (lambda: built(states=trajectories().states * np.nan), "states.*finite"),
    "gap of nothing": (lambda: built(max_gap=0.0), "max_gap to be at least 0.1"),
    "gap of NaN": (lambda: built(max_gap=float("nan")), "max_gap to be finite"),
    "steps of no time": (lambda: built(dt=0.0), "dt to be above 0"),
    "negative blur": (lambda: built(block_blur=-1.0), "block_blur to be at least 0"),
    "batch of none": (lambda: built().sample(KEY, 0), "batch_size of at least 1, got 0"),
    "batch of 10^12": (lambda: built().sample(KEY, 10**12), "batch_size of at most"),
    "training in steps of no time": (lambda: trained(time_step=0.0), "time_step to be above 0"),
    "score of one draw": (lambda: metrics.crps(D[:, :1], T), "at least 2 draws per state, got 1"),
    "score of no draw": (lambda: metrics.crps(D[:, :0], T), "at least 2 draws per state, got 0"),
    "score of NaN": (lambda: metrics.energy_score(D * np.nan, T), "draws to be finite"),
    "ranks among none": (lambda: metrics.pit(D[:, :0], T, R), "at least 1 draws"),
    "rank of NaN": (lambda: metrics.pit(D, T * np.nan, R), "truth to be finite"),
    "distance of one draw": (lambda: metrics.energy_distance(D, D[:, :1]), "at least 2 draws"),
    "bias of one draw": (lambda: metrics.squared_bias(D[:, :1], D), "at least 2 draws"),
    "no deviation": (lambda: metrics.gaussian_log_density(T, np.zeros(2)), "std to be above 0"),
    "means without weight": (
        lambda: metrics.Resampler(np.ones(2, bool), np.zeros(2), np.arange(2), 0),
        "sum of weights to be above 0",
    ),
    "means over none": (
        lambda: metrics.Resampler(np.ones(0, bool), np.zeros(0), np.arange(0), 0),
        "number of states of at least 1",
    ),
    "share above 1": (lambda: metrics.covered(T, 2.0), "share to be at most 1"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_arguments_of_other_functions_are_named_in_one_line(case):
    call, message = OTHERS[case]
    with pytest.raises(UserError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


PATHS: dict[str, dict[str, Any]] = {
    "no duration": {"duration": 0.0},
    "negative duration": {"duration": -2.0},
    "no stiffness": {"stiffness": 0.0},
    "negative stiffness": {"stiffness": -1.0},
    "negative damping": {"damping": -1.0},
    "duration of NaN": {"duration": np.nan},
    "stiffness of NaN": {"stiffness": np.nan},
    "goal of NaN": {"goal": [np.nan, np.nan]},
    "time of NaN": {"times": [np.nan, np.nan]},
    "infinite time": {"times": [np.inf, -np.inf]},
}


def desired(times, **changes):
    params = dmp.DMPParams.from_vector(jnp.asarray(CONDITION))._replace(**changes)
    path = dmp.integrate(params, DMP, jnp, jax.lax.scan)
    return dmp.evaluate(path, times, DMP, jnp)


@pytest.mark.parametrize("case", PATHS)
def test_a_traced_path_that_means_nothing_is_nan(case):
    given = {name: jnp.asarray(values) for name, values in PATHS[case].items()}
    found = jax.jit(desired)(**{"times": TIMES} | given)
    assert np.isnan(found).all()


def test_a_traced_path_that_means_something_is_the_same():
    found = jax.jit(desired)(TIMES, duration=jnp.float32(2.0))
    np.testing.assert_allclose(found, desired(jnp.asarray(TIMES)), rtol=1e-6)


def test_times_and_policies_on_the_edge_pass():
    start_and_end(-1e-17, 0.0)
    start_and_end(0.5, 0.5)
    start_and_end(0, 10_000)
    condition_vector(changed(CONDITION, DAMPING, 0.0), 20)
    condition_vector(changed(CONDITION, NOISE, 0.0), 20)


def test_an_empty_source_trains_nothing():
    class Empty:
        def __len__(self):
            return 0

        def sample(self, key, batch_size):
            raise AssertionError

    with pytest.raises(UserError, match="expected transitions to draw from, got none"):
        fit(flow(), bridge(), Empty(), TrainingConfig(), key=KEY)
