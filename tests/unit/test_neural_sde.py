"""The neural SDE: its solver against exact laws, its density, its fit, and its file."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_model import CONDITION, DMP, KEY, SCALES, STATE

from nsf_pipeline.config import Config, ModelConfig, NetworkConfig, TrainingConfig
from nsf_pipeline.data.transitions import TransitionBatch
from nsf_pipeline.model import Normaliser, build_model, load_model, save_model
from nsf_pipeline.model.file import model_header
from nsf_pipeline.model.transition import TIME_UNIT
from nsf_pipeline.training import fit

NETWORK = NetworkConfig(hidden_size=8, depth=1)
TINY = ModelConfig(kind="neural_sde", conditional=False, path_points=2, flow=NETWORK)
BOUNDS = ((40.0, 40.0), (470.0, 470.0))
COUNT = 20_000
UPRIGHT = jnp.asarray(STATE).at[-1].set(0.0)
"""The block's frame is the world's."""


def built(config=TINY, scale=SCALES[7]):
    return build_model(config, DMP, Normaliser(BOUNDS, scale), key=KEY)


def constant(model, drift, raw):
    """The same model with coefficients that see nothing."""

    def always(network, outputs):
        last = network.layers[-1]
        where = lambda n: (n.layers[-1].weight, n.layers[-1].bias)  # noqa: E731
        return eqx.tree_at(where, network, (jnp.zeros_like(last.weight), jnp.asarray(outputs)))

    step = model.transition
    changed = always(step.drift, drift), always(step.diffusion, raw)
    return eqx.tree_at(lambda m: (m.transition.drift, m.transition.diffusion), model, changed)


def test_constant_coefficients_are_drawn_from_the_exact_law():
    # The block hardly turns, so the motion is Brownian with drift.
    scale = (*SCALES[7][:6], 1e-6)
    drift = np.linspace(-1.0, 1.0, 7, dtype=np.float32)
    raw = np.linspace(-1.0, 1.0, 28, dtype=np.float32)
    model = constant(built(scale=scale), drift, raw)
    step = model.transition
    now = jnp.float32(0.0)
    _, _, factor = step.coefficients(step.encode(UPRIGHT, now, now, CONDITION))
    assert (jnp.triu(factor, 1) == 0).all()
    assert (jnp.diagonal(factor) > 0).all()
    # The last of these eleven steps is shorter.
    draw = model.sample
    draws = np.asarray(draw(KEY, UPRIGHT, 0.5, 1.55, CONDITION, num_samples=COUNT), np.float64)
    spread = np.asarray(scale)[:, None] * np.asarray(factor, np.float64)
    cov = 1.05 / TIME_UNIT * spread @ spread.T
    mean = np.asarray(UPRIGHT, np.float64) + 1.05 / TIME_UNIT * np.asarray(scale) * drift
    std = np.sqrt(np.diag(cov))
    error = (draws.mean(axis=0) - mean)[:6] / std[:6]
    assert np.abs(error).max() < 5 / np.sqrt(COUNT)
    found = np.cov(draws[:, :6].T) / np.outer(std, std)[:6, :6]
    np.testing.assert_allclose(found, cov[:6, :6] / np.outer(std, std)[:6, :6], atol=0.05)


def test_one_step_of_the_solver_is_the_law_that_is_fitted():
    model = built(ModelConfig(kind="neural_sde", path_points=2, flow=NETWORK))
    times = jnp.float32(0.5), jnp.float32(0.6)
    law = eqx.filter_jit(model.transition)(jnp.asarray(STATE), *times, CONDITION).euler_step()
    draw = model.sample
    draws = np.asarray(draw(KEY, STATE, 0.5, 0.6, CONDITION, num_samples=COUNT), np.float64)
    residuals = jax.jit(jax.vmap(law.residual_of))(jnp.asarray(draws, jnp.float32))
    noise = residuals - law.residual.loc
    whitened = np.linalg.solve(np.asarray(law.residual.factor, np.float64), np.asarray(noise).T)
    np.testing.assert_allclose(whitened.mean(axis=1), 0.0, atol=5 / np.sqrt(COUNT))
    np.testing.assert_allclose(np.cov(whitened), np.eye(7), atol=0.06)
    # No time, no step.
    same = draw(KEY, STATE, 0.5, 0.5, CONDITION, num_samples=COUNT)
    np.testing.assert_array_equal(same, np.broadcast_to(STATE, same.shape))


def test_a_density_is_given_where_it_is_known():
    model = built()
    score = model.log_prob
    end = STATE + 0.5
    times = jnp.float32(0.5), jnp.float32(0.6)
    law = eqx.filter_jit(model.transition)(jnp.asarray(STATE), *times, CONDITION)
    assert float(score(end, STATE, 0.5, 0.6, CONDITION)) == pytest.approx(
        float(law.log_prob(jnp.asarray(end))), rel=1e-4
    )
    _, same = law.sample_and_log_prob(KEY)
    assert float(same) == pytest.approx(float(law.log_prob(law.sample(KEY))), abs=1e-2)
    assert np.isfinite(score(end, STATE, 3.5, 3.6, CONDITION))
    assert np.isnan(score(end, STATE, 0.5, 0.7, CONDITION))


@jax.jit
def drawn_until(end):
    """Draws up to a time that is traced."""
    return built().sample(KEY, STATE, 0.5, end, CONDITION)


@pytest.mark.parametrize("end", [0.4, np.inf, np.nan])
def test_the_solver_ends_whatever_the_times(end):
    assert np.isnan(drawn_until(jnp.float32(end))).all()


FACTOR = np.eye(7) + np.tril(np.random.default_rng(0).normal(0.0, 0.5, (7, 7)), -1)


class Driven(eqx.Module):
    """States pushed the same way with the same correlated noise, over one control step."""

    def sample(self, key, batch_size):
        noise = jax.random.normal(key, (batch_size, 7)) @ jnp.asarray(FACTOR, jnp.float32).T
        start = jnp.broadcast_to(UPRIGHT, (batch_size, 7))
        zeros = jnp.zeros(batch_size)
        known = jnp.broadcast_to(CONDITION, (batch_size, len(CONDITION)))
        end = start + 0.5 * jnp.asarray(SCALES[7]) * (1.0 + noise)
        return TransitionBatch(start, end, zeros, zeros + 0.1, known)


def test_a_fit_recovers_correlated_noise():
    model = built()
    settings: dict[str, Any] = {
        "one_to_two_weight": 0.0,
        "two_to_one_weight": 0.0,
    }
    config = TrainingConfig(
        steps=400,
        batch_size=256,
        warmup_steps=10,
        learning_rate=0.03,
        validate_every=400,
        **settings,
    )
    step, bridge, _ = fit(model.transition, None, Driven(), config, key=KEY)
    assert bridge is None
    law = step(UPRIGHT, jnp.float32(0.0), jnp.float32(0.1), CONDITION).euler_step()
    np.testing.assert_allclose(law.residual.loc, 0.5, atol=0.1)
    np.testing.assert_allclose(law.residual.factor, 0.5 * FACTOR, atol=0.1)


def test_it_is_saved_and_loaded(tmp_path):
    model = built()
    save_model(tmp_path / "model.eqx", model, {})
    assert model_header(tmp_path / "model.eqx")["config"]["model"]["kind"] == "neural_sde"
    assert eqx.tree_equal(load_model(tmp_path / "model.eqx"), model)


def test_by_default_it_has_as_many_parameters_as_the_flow():
    config = Config()

    def count(settings):
        normaliser = Normaliser(BOUNDS, SCALES[7])
        model = eqx.filter_eval_shape(build_model, settings, DMP, normaliser, key=KEY)
        leaves = jax.tree.leaves(model.transition)
        arrays = [leaf for leaf in leaves if isinstance(leaf, jax.ShapeDtypeStruct)]
        return sum(leaf.size for leaf in arrays if jnp.issubdtype(leaf.dtype, jnp.inexact))

    flow, solved = count(config.model), count(config.variant("neural_sde").model)
    assert abs(solved / flow - 1.0) < 0.01
