"""Models that are given less of the physics: what their networks see, and the law that follows."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mostly_thorough
from test_model import (
    CONDITION,
    DMP,
    KEY,
    NETWORK,
    SCALES,
    STATE,
    model_of,
    randomised,
    require_density_of_draws,
)

from nsf_pipeline.config import ModelConfig, parse_config
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.learned_envs.dynamics import Draws, Dynamics
from nsf_pipeline.model import fit_normaliser, load_model, save_model
from nsf_pipeline.model.nominal import PARTS
from nsf_pipeline.planning import InSteps, Noiseless, OnePass, WorldModel
from nsf_pipeline.pusht.state import layout_of

ANGLE = layout_of(7).angle
PLAIN, PATH, PUSH = (model_of(physics=which) for which in ("none", "path", "push"))


@eqx.filter_jit
def encoded(model, state, s, t, condition):
    return model.encoder(state, s, t, condition)


def plain_features(given, s=0.5, gap=0.4):
    """The features of a state and a condition, one after the other."""
    state, condition = jnp.split(jnp.asarray(given, jnp.float32), [7])
    times = jnp.float32(s), jnp.float32(s + gap)
    return np.asarray(encoded(PLAIN, state, *times, condition).features)


def test_without_physics_the_networks_see_plain_numbers():
    """State, s and condition, each scaled and no more: all but the angle enter linearly."""
    given = np.append(STATE, CONDITION)
    features = plain_features(given)
    assert features.shape == (7 + 1 + 1 + len(CONDITION),)
    assert np.abs(features).max() < 3.0
    cosine, sine = np.cos(given[ANGLE]), np.sin(given[ANGLE])
    np.testing.assert_allclose(features[6:9], [cosine, sine, 0.5], rtol=1e-6)
    random, moved = np.random.default_rng(0), np.arange(len(given)) != ANGLE
    step = np.where(moved, random.uniform(0.1, 0.3, len(given)) * given, 0.0)
    once, twice = (plain_features(given + count * step) - features for count in (1, 2))
    np.testing.assert_allclose(twice, 2.0 * once, atol=1e-5)
    assert (once != 0.0).sum() == moved.sum()
    # One of a state's numbers, or of the condition's, moves one feature.
    for number in (0, 5, 7, 10, len(given) - 1):
        one = np.where(np.arange(len(given)) == number, 10.0, 0.0)
        assert ((plain_features(given + one) - features) != 0.0).sum() == 1
    # Features tell s, and leave t - s to the flow; nothing is taken to move by itself.
    np.testing.assert_array_equal(plain_features(given, gap=2.0), features)
    assert ((plain_features(given, s=0.7) - features) != 0.0).sum() == 1
    encoding = encoded(PLAIN, jnp.asarray(STATE), jnp.float32(0.5), jnp.float32(0.9), CONDITION)
    assert not encoding.displacements.any()


def test_with_the_path_alone_the_networks_see_all_but_the_push():
    given = jnp.asarray(STATE), jnp.float32(0.5), jnp.float32(1.4), CONDITION
    told, hidden = encoded(PUSH, *given), encoded(PATH, *given)
    points = PUSH.encoder.config.path_points
    assert np.abs(told.displacements[-1, 4:]).max() > 1.0
    assert not hidden.displacements[:, 4:].any()
    np.testing.assert_allclose(
        hidden.displacements[:, :4], told.displacements[:, :4], rtol=1e-5, atol=1e-3
    )
    # Between the distances and the block's pose: how it moves, by pushes aside too, and how those
    # differ from the push itself; how deep, and the deepest.
    first = 2 + 2 * points + 1 + points + 2
    pushed = np.arange(first, first + 3 * (PARTS + 2 + 2) + points + 1)
    np.testing.assert_allclose(
        hidden.features, np.delete(told.features, pushed), rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("gap", [0.4, 0.03])
def test_the_law_without_physics_has_the_density_of_its_draws(gap):
    require_density_of_draws(PLAIN, jnp.asarray(STATE), gap)


@pytest.mark.parametrize("physics", mostly_thorough(["none", "path"], "none"))
def test_in_no_time_nothing_moves(physics):
    draws = np.asarray(model_of(physics=physics).sample(KEY, STATE, 0.5, 0.5, CONDITION, 4))
    np.testing.assert_array_equal(draws, np.tile(STATE, (4, 1)))


def test_without_physics_a_residual_is_the_change_of_the_state():
    """In the room's frame: of the law, of the bridge, and of a neural SDE."""
    network = NETWORK.model_copy(update={"num_flow_layers": 0})
    solver = randomised(ModelConfig(kind="neural_sde", physics="none", flow=network))
    state, end = jnp.asarray(STATE), jnp.asarray(STATE) + 3.0
    s, m, t = jnp.float32([0.5, 0.6, 0.7])

    @eqx.filter_jit
    def residuals(plain, solver):
        laws = (
            plain.transition(state, s, t, CONDITION).law,
            plain.bridge(state, end, s, m, t, CONDITION).law,
            solver.transition(state, s, m, CONDITION).euler_step(),
        )
        return [law.residual_of(end) for law in laws]

    for residual in residuals(PLAIN, solver):
        np.testing.assert_allclose(residual, 3.0 / np.array(SCALES[7]), rtol=1e-5)


def test_sizes_are_of_what_is_left_to_learn():
    """Of whole motions without physics, and of what the path leaves open with it."""
    count = 8
    start = jnp.tile(STATE, (count, 1))
    s, t, condition = jnp.zeros(count), jnp.full(count, 0.5), jnp.tile(CONDITION, (count, 1))
    path, plain = (ModelConfig(physics=which, path_points=3) for which in ("path", "none"))
    times = jnp.float32(0.0), jnp.float32(0.5)
    nominal = encoded(PATH, jnp.asarray(STATE), *times, CONDITION).displacements[-1]
    end = start + nominal + 4.0 * jnp.eye(7)[4]
    given = start, end, s, t, condition
    scales = [fit_normaliser(each, DMP, given).scale for each in (path, plain)]
    np.testing.assert_allclose(np.array(scales)[:, 4:6], 4.0 / np.sqrt(2.0), rtol=1e-5)
    whole = np.sqrt(np.mean(np.asarray(nominal[:2]) ** 2))
    assert scales[0][0] < 0.01
    assert scales[1][0] == pytest.approx(whole, rel=1e-4)


def test_a_file_gives_the_same_model(tmp_path):
    save_model(tmp_path / "model.eqx", PLAIN, {})
    assert eqx.tree_equal(load_model(tmp_path / "model.eqx"), PLAIN)


@pytest.mark.parametrize("asked", mostly_thorough(["once", "in every way"], "once"))
def test_planners_and_environments_ask_a_model_without_physics(asked):
    states = np.tile(STATE.astype(np.float64), (3, 1))
    policies = DMPParams.from_vector(np.tile(np.asarray(CONDITION, np.float64), (3, 1)))
    worlds: list[WorldModel] = [OnePass(PLAIN, 2)]
    if asked == "in every way":
        worlds += [Noiseless(PLAIN), InSteps(PLAIN, 1)]
    for world in worlds:
        ends = world.predict(states, policies, key=KEY)
        assert np.isfinite(ends).all()
        moved = ends != states[:, None]
        assert moved[..., :4].all()
        assert (moved[..., 4:].all(axis=-1) | ~moved[..., 4:].any(axis=-1)).all()  # or it rests
    dynamics = Dynamics(PLAIN, "policy")
    draws = Draws(np.zeros((3, 2), np.uint32), np.arange(3, dtype=np.uint32))
    assert np.isfinite(dynamics.draw(states, policies, np.full(3, 20), draws)).all()


@pytest.mark.parametrize(
    "changes", [{"autonomous": True}, {"state_dim": 5}, {"state_dim": 10}, {"physics": "none"}]
)
def test_the_default_variants_go_with_other_models(changes):
    config = parse_config({"model": changes})
    assert config.variant("path").model.physics == "path"
    assert config.variant("plain").model.physics == "none"


@pytest.mark.parametrize(
    ("changes", "size"),
    [
        ({"autonomous": True}, 8 + len(CONDITION)),
        ({"conditional": False}, 9),
        ({"state_dim": 5}, 7 + len(CONDITION)),
        ({"state_dim": 10}, 12 + len(CONDITION)),
    ],
    ids=["autonomous", "unconditional", "without velocity", "with the block's"],
)
def test_without_physics_other_settings_still_hide_what_they_hide(changes, size):
    assert model_of(**changes, physics="none").encoder.feature_dim == size
