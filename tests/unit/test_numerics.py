"""JAX's options: whatever a session has set, models and training give the same bits."""

from contextlib import contextmanager

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_model import CONDITION, DMP, KEY, NETWORK, SCALES, STATE
from test_training import SETTINGS, BrownianTransitions, laws

from nsf_pipeline.config import BridgeConfig, ModelConfig, TrainingConfig
from nsf_pipeline.errors import UserError
from nsf_pipeline.model import Normaliser, build_model, fit_normaliser, load_model, save_model
from nsf_pipeline.numerics import FIXED
from nsf_pipeline.training import fit

# Each alone would change bits, or make something fail.
SET = {
    "jax_enable_x64": True,
    "jax_default_matmul_precision": "bfloat16",
    "jax_default_prng_impl": "rbg",
    "jax_threefry_partitionable": False,
    "jax_numpy_dtype_promotion": "strict",
    "jax_numpy_rank_promotion": "raise",
    "jax_debug_nans": True,
    "jax_debug_infs": True,
    "jax_debug_key_reuse": True,
    "jax_check_tracer_leaks": True,
    "jax_enable_checks": True,
    "jax_disable_jit": True,
    "jax_legacy_prng_key": "error",
    "jax_softmax_custom_jvp": True,
    "jax_transfer_guard": "disallow_explicit",
    "jax_no_execution": True,
}
OTHERWISE = {
    "jax_random_seed_offset": 5,
    "jax_disable_most_optimizations": True,
    "jax_optimization_level": "O0",
    "jax_exec_time_optimization_effort": 1.0,
    "jax_memory_fitting_effort": 1.0,
    "jax_enable_pgle": True,
    "jax_error_checking_behavior_nan": "raise",
    "jax_error_checking_behavior_divide": "raise",
    "jax_error_checking_behavior_oob": "raise",
}


@contextmanager
def session(**options):
    """Options set as `jax.config.update` sets them."""
    before = {name: jax.config.values[name] for name in options}
    try:
        for name, value in options.items():
            jax.config.update(name, value)
        yield
    finally:
        for name, value in before.items():
            jax.config.update(name, value)


SMALL = NETWORK.model_copy(update={"num_flow_layers": 1})
CONFIG = ModelConfig(autonomous=True, path_points=1, flow=SMALL, bridge=BridgeConfig(**dict(SMALL)))
NORMALISER = Normaliser(((40.0, 40.0), (470.0, 470.0)), SCALES[7])
LATER = STATE + np.float32(1.0)
CONDITIONS = np.asarray(CONDITION)
TIMES = np.linspace(0.5, 0.8, 4)


def computed(path):
    """Everything that a user has of a model, as NumPy arrays; the model goes through a file."""
    save_model(path, build_model(CONFIG, DMP, NORMALISER, key=KEY), {})
    model = load_model(path)
    law = model.law(model.encode(STATE, 0.5, 0.9, CONDITIONS))
    return {
        "file": np.frombuffer(path.read_bytes(), np.uint8),
        "sample": model.sample(KEY, STATE, 0.5, 0.9, CONDITIONS, 8),
        "log_prob": model.log_prob(LATER, STATE, 0.5, 0.9, CONDITIONS),
        "no density": model.log_prob(STATE, STATE, 0.5, 0.5, CONDITIONS),
        "rollout": model.rollout(KEY, STATE, TIMES, CONDITIONS),
        "law": law.sample(KEY),
        "law's density": law.log_prob(LATER),
        "both": law.sample_and_log_prob(KEY)[1],
    }


def require_same(found, expected):
    for name, values in expected.items():
        assert found[name].dtype == values.dtype, name
        np.testing.assert_array_equal(np.asarray(found[name]), np.asarray(values), err_msg=name)


@pytest.fixture(scope="module")
def usual(tmp_path_factory):
    return computed(tmp_path_factory.mktemp("usual") / "model.eqx")


@pytest.mark.parametrize("name", SET)
def test_an_option_of_the_session_changes_no_bit(usual, name, tmp_path):
    with session(**{name: SET[name]}):
        found = computed(tmp_path / "model.eqx")
    require_same(found, usual)


def test_matrix_products_keep_full_precision_on_any_device():
    model = build_model(CONFIG, DMP, NORMALISER, key=KEY)
    compiled = jax.jit(model.log_prob).lower(LATER, STATE, 0.5, 0.9, CONDITIONS).as_text()
    products = [line for line in compiled.splitlines() if "dot_general" in line]
    assert products
    assert all("HIGHEST, HIGHEST" in line for line in products)


def test_the_session_keeps_its_options(usual, tmp_path):
    with session(jax_enable_x64=True):
        computed(tmp_path / "model.eqx")
        assert jnp.ones(1).dtype == jnp.float64


@pytest.mark.parametrize("name", OTHERWISE)
def test_an_option_without_a_context_is_named(name, tmp_path):
    assert OTHERWISE.keys() == FIXED.keys()
    with session(**{name: OTHERWISE[name]}), pytest.raises(UserError) as caught:
        load_model(tmp_path / "model.eqx")
    assert str(caught.value).startswith(f"{name} is ")
    assert name.upper() in str(caught.value)


def test_a_key_of_another_generator_is_named(usual, tmp_path):
    key = jax.random.key(0, impl="rbg")
    with pytest.raises(UserError, match=r"expected a random key of threefry2x32, got one of rbg"):
        build_model(CONFIG, DMP, NORMALISER, key=key)
    computed(tmp_path / "model.eqx")
    with pytest.raises(UserError, match=r"jax.random.key\(seed, impl='threefry2x32'\)"):
        load_model(tmp_path / "model.eqx").sample(key, STATE, 0.5, 0.9, CONDITIONS)


@pytest.mark.parametrize(
    ("variable", "flag"),
    [
        ("XLA_FLAGS", "--xla_cpu_enable_fast_math=true"),
        ("XLA_FLAGS", "--xla_dump_to=/tmp --xla_backend_optimization_level=0"),
        ("XLA_FLAGS", "flags.txt"),
        ("LIBTPU_INIT_ARGS", "--xla_tpu_anything=1"),
    ],
)
def test_a_flag_of_the_compiler_is_named(variable, flag, tmp_path, monkeypatch):
    monkeypatch.setenv(variable, flag)
    with pytest.raises(UserError) as caught:
        load_model(tmp_path / "model.eqx")
    assert str(caught.value).startswith(f"{variable} has {flag.split()[-1]}")


@pytest.mark.thorough
def test_within_the_users_own_functions_of_double_precision(usual, tmp_path):
    """They give single precision, the same to rounding."""
    model = load_model_of(tmp_path)
    states, ends = (np.stack([STATE, x]).astype(np.float64) for x in (LATER, LATER))

    def density(state, end):
        return model.log_prob(end, state, 0.5, 0.9, CONDITIONS)

    def all_ways():
        mapped = jax.vmap(density)(states, ends)
        compiled = jax.jit(jax.vmap(density))(states, ends)
        slopes = jax.grad(density)(states[0], ends[0])
        compiled_slopes = jax.jit(jax.grad(density))(states[0], ends[0])
        draws = jax.jit(lambda key, x: model.sample(key, x, 0.5, 0.9, CONDITIONS, 4))(
            KEY, states[0]
        )
        path = jax.jit(lambda key, x: model.rollout(key, x, TIMES, CONDITIONS))(KEY, states[0])
        return mapped, compiled, slopes, compiled_slopes, draws, path

    single = all_ways()
    with session(jax_enable_x64=True):
        double = all_ways()
    for one, other in zip(single, double, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-3)
    assert {double[place].dtype for place in (0, 1, 4, 5)} == {np.dtype(np.float32)}


def load_model_of(folder):
    path = folder / "model.eqx"
    save_model(path, build_model(CONFIG, DMP, NORMALISER, key=KEY), {})
    return load_model(path)


def trained():
    config = TrainingConfig(**SETTINGS | {"steps": 6, "validate_every": 3, "warmup_steps": 2})
    source = BrownianTransitions()
    flow, _, history = fit(*FLOWS, source, config, key=KEY, validation=source)
    leaves = jax.tree.leaves(eqx.filter(flow, eqx.is_array))
    return {str(place): leaf for place, leaf in enumerate(leaves)}, history


FLOWS = laws()


@pytest.mark.thorough
def test_options_of_the_session_change_no_bit_of_training():
    expected, history = trained()
    with session(**{name: SET[name] for name in SET if name != "jax_debug_key_reuse"}):
        found, again = trained()
    require_same(found, expected)
    for row, other in zip(history, again, strict=True):
        assert row | {"seconds": 0} == other | {"seconds": 0}


def test_double_precision_is_not_trained():
    with session(jax_enable_x64=True):
        flow, bridge = laws()
        with pytest.raises(UserError, match=r"expected parameters of float32, got float64"):
            fit(flow, bridge, BrownianTransitions(), TrainingConfig(**SETTINGS), key=KEY)


def test_options_change_no_normaliser():
    states, times = jnp.stack([STATE, LATER]), jnp.array([0.5, 0.5])
    transitions = (states, states + 2.0, times, times + 0.4, jnp.stack([CONDITION] * 2))
    expected = fit_normaliser(CONFIG, DMP, transitions)
    with session(**SET):
        assert fit_normaliser(CONFIG, DMP, transitions) == expected
