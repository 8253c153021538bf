"""The model of states that hold the block's velocity."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mostly_thorough
from test_model import CONDITION, COUNT, DMP, KEY, draw_and_score, model_of, wider_gaussian

from nsf_pipeline.config import Config, ModelConfig
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.rollouts import simulate
from nsf_pipeline.data.states import join_state
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.flow import MultivariateNormalDiag, consistency_losses
from nsf_pipeline.learned_envs.dynamics import Draws, Dynamics
from nsf_pipeline.model.heavy_tails import LINEAR_FROM, HeavyTailed
from nsf_pipeline.model.law import rotate_planes
from nsf_pipeline.model.nominal import nominal_motion
from nsf_pipeline.model.states import in_layout, of_seven
from nsf_pipeline.planning import InSteps, Noiseless, OnePass, WorldModel
from nsf_pipeline.pusht.state import STATE, STATE_WITH_BLOCK_VELOCITY, layout_of

LAYOUT = STATE_WITH_BLOCK_VELOCITY
POSE, VELOCITY = slice(4, 7), slice(7, 10)
# Agent beside the block, which rests or moves.
RESTING = jnp.array([200.0, 260.0, 60.0, -10.0, 260.0, 230.0, 0.4, 0.0, 0.0, 0.0])
MOVING = RESTING.at[VELOCITY].set(jnp.array([30.0, -5.0, 0.2]))


def kinds(draws, state):
    """Which draws rest, which have moved and stopped, and which move."""
    still = (draws[:, VELOCITY] == 0.0).all(axis=1)
    rests = still & (draws[:, POSE] == np.asarray(state)[POSE]).all(axis=1)
    return rests, still & ~rests, ~still


@pytest.mark.parametrize("gap", mostly_thorough([0.4, 0.03], 0.4))
def test_a_block_rests_or_stops_exactly_or_moves(gap):
    """Each with the probability that its density says: what integrates to it, given the draws."""
    model, times = model_of(10), jnp.array([0.5, 0.5 + gap])
    draws = np.asarray(draw_and_score(model, RESTING, times, jnp.zeros((COUNT, 10)))[0])
    total = 0.0
    for kind, size in zip(kinds(draws, RESTING), (4, 7, 10), strict=True):
        assert 0.05 < kind.mean() < 0.9
        own = draws[kind, :size].astype(np.float64)
        wide, log_q = wider_gaussian(own)
        ends = np.tile(RESTING, (COUNT, 1))
        ends[:, :size] = wide
        log_p = np.asarray(draw_and_score(model, RESTING, times, jnp.asarray(ends))[1])
        weight = np.exp(log_p - log_q)
        assert abs(weight.mean() - kind.mean()) < 5 * weight.std() / np.sqrt(COUNT) + 0.02
        total += weight.mean()
    assert total == pytest.approx(1.0, abs=0.06)


def test_a_block_that_moves_does_not_rest():
    times = jnp.array([0.5, 0.9])
    draws, density = draw_and_score(model_of(10), MOVING, times, jnp.tile(MOVING, (COUNT, 1)))
    rests, stops, moves = kinds(np.asarray(draws), MOVING)
    assert not rests.any()
    assert stops.any()
    assert moves.any()
    assert np.isfinite(density).all()  # of the state itself, which the simulator never reaches


STARTS = pytest.mark.parametrize("state", [RESTING, MOVING], ids=["resting", "moving"])


@eqx.filter_jit
def path_of(model, state, times):
    return model.rollout(KEY, state, times, CONDITION, 8)


@STARTS
def test_no_time_gives_the_state_itself(state):
    """At whole control steps and between them, and a path goes on from it."""
    for time in (0.5, 0.537):
        path = np.asarray(path_of(model_of(10), state, jnp.array([time, time, time, 0.6, 1.2])))
        np.testing.assert_array_equal(path[:, :3], np.broadcast_to(state, (8, 3, 10)))
        assert np.isfinite(path).all()


@eqx.filter_jit
def between(model, state, end, mid):
    """The block in draws of the bridge, with their densities when drawn and when asked again."""
    law = model.bridge(state, end, jnp.float32(0.5), mid, jnp.float32(1.3), CONDITION)
    draws, densities = jax.vmap(law.sample_and_log_prob)(jax.random.split(KEY, 1000))
    return draws[:, 4:], densities, jax.vmap(law.log_prob)(draws)


@STARTS
def test_the_bridge_is_exact_at_both_ends(state):
    model, stopped = model_of(10), (state + 3.0).at[VELOCITY].set(0.0)
    for end in (state + 3.0, stopped):
        assert (between(model, state, end, jnp.float32(0.5))[0] == state[4:]).all()
        assert (between(model, state, end, jnp.float32(1.3))[0] == end[4:]).all()
        block, drawn_with, asked_again = between(model, state, end, jnp.float32(0.9))
        np.testing.assert_allclose(drawn_with, asked_again, rtol=1e-3, atol=0.01)
        early, late = ((block == x[4:]).all(axis=1) for x in (state, end))
        still = (block[:, 3:] == 0.0).all(axis=1)
        assert early.any() == (state is RESTING)
        assert late.any() == (end is stopped)
        assert (still & ~early & ~late).any()
        assert not still.all()


def test_a_block_that_rests_from_start_to_end_rests_between():
    end = RESTING.at[:4].add(3.0)
    block = between(model_of(10), RESTING, end, jnp.float32(0.9))[0]
    assert (block == RESTING[4:]).all()


def test_heavy_tails_are_those_of_a_density_and_never_overflow():
    """Of one number, which a wide Gaussian e takes far beyond where y grows linearly."""
    law = HeavyTailed(MultivariateNormalDiag(jnp.zeros(1), jnp.full(1, 6.0)), 0)
    noise = jnp.linspace(-5.0, 5.0, 20_001)[:, None]
    y, log_slopes = jax.vmap(law.from_noise)(noise)
    assert (jnp.abs(6.0 * noise) > LINEAR_FROM).any()
    back, slopes_back = jax.vmap(law.to_noise)(y)
    np.testing.assert_allclose(back, noise, atol=1e-5)
    np.testing.assert_allclose(slopes_back, log_slopes, atol=1e-4)
    density = np.exp(np.asarray(jax.vmap(law.log_prob)(y), np.float64))
    assert np.trapezoid(density, np.asarray(y[:, 0], np.float64)) == pytest.approx(1.0, abs=1e-3)
    extreme, slope = jax.vmap(jax.value_and_grad(lambda x: law.from_noise(x[None])[0][0]))(
        jnp.array([-1e20, 100.0, 1e30])
    )
    assert np.isfinite(extreme).all()
    assert np.isfinite(slope).all()
    assert np.isfinite(jax.vmap(law.log_prob)(jnp.array([[1e7], [-1e7]]))).all()


@pytest.mark.thorough
def test_losses_and_their_slopes_are_finite():
    model, times = model_of(10), jnp.array([0.5, 0.8, 1.3])
    states = jnp.repeat(jnp.stack([RESTING, MOVING]), 16, axis=0)

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def slopes(parts):
        def one(state, key):
            flow, bridge = parts
            s, m, t = times
            losses = consistency_losses(flow, bridge, state, s, m, t, CONDITION, key=key)
            return losses[0] + losses[1]

        return jax.vmap(one)(states, jax.random.split(KEY, len(states))).mean()

    value, found = slopes((model.transition, model.bridge))
    assert np.isfinite(value)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    for atom in (*found[0].rest, *found[1].rests):
        assert any(leaf.any() for leaf in jax.tree.leaves(atom))


def test_all_planes_rotate_and_nothing_else():
    state = jnp.arange(1.0, 11.0)
    turned = np.asarray(rotate_planes(state, jnp.float32(np.pi / 2)))
    np.testing.assert_allclose(turned, [-2, 1, -4, 3, -6, 5, 7, -9, 8, 10], rtol=1e-5)


def test_the_nominal_velocity_is_the_simulators_without_noise():
    """Over three control steps, of blocks that are pushed before and after."""
    config = Config.model_validate_json('{"policies": {"noiseless_fraction": 1.0}}')
    policies = sample_policies(config, 0, 60)
    rollouts = simulate(config, policies)
    states, gap = join_state(rollouts, LAYOUT), 3
    model = ModelConfig(state_dim=10)

    @jax.jit
    @jax.vmap
    def nominally(state, s, condition):
        motion = nominal_motion(state, s, s + 0.1 * gap, condition, model, DMP)
        return motion.displacements

    rows, steps = np.nonzero(np.arange(states.shape[1]) <= rollouts["length"][:, None] - gap)
    start, end = states[rows, steps], states[rows, steps + gap]
    conditions = policies["condition"][rows].astype(np.float32)
    moved = np.asarray(nominally(start, 0.1 * steps.astype(np.float32), conditions))
    assert not moved[:, 0].any()
    found = (start + moved[:, -1])[:, VELOCITY]
    pushed, expected = (values.any(axis=1) for values in (found, end[:, VELOCITY]))
    assert (pushed == expected).mean() > 0.9
    both = pushed & expected
    error = np.linalg.norm((found - end[:, VELOCITY])[both, :2], axis=1)
    assert both.sum() > 100
    assert np.median(error) < 0.1 * np.median(np.linalg.norm(end[both, 7:9], axis=1))


@pytest.mark.parametrize("dim", [5, 7, 10])
def test_states_of_seven_numbers_go_in_and_out(dim):
    states = np.random.default_rng(0).normal(size=(3, 2, 7))
    known = in_layout(states, layout_of(dim))
    assert known.shape == (3, 2, dim)
    assert not known[..., 7:].any()
    back = of_seven(known)
    kept = [at for at in range(7) if dim != 5 or not 2 <= at < 4]
    np.testing.assert_array_equal(back[..., kept], states[..., kept])
    assert (dim == 5) == (not back[..., STATE.velocity].any())


@pytest.mark.parametrize("asked", mostly_thorough(["once", "in every way"], "once"))
def test_planning_and_learned_environments_take_it(asked):
    states = np.array([[200.0, 260.0, 60.0, -10.0, 260.0, 230.0, 0.4]]).repeat(3, axis=0)
    policies = DMPParams.from_vector(np.tile(np.asarray(CONDITION, np.float64), (3, 1)))
    worlds: list[WorldModel] = [OnePass(model_of(10), 2)]
    if asked == "in every way":
        worlds += [Noiseless(model_of(10)), InSteps(model_of(10), 1)]
    for world in worlds:
        ends = world.predict(states, policies, key=KEY)
        assert ends.shape[2:] == (7,)
        assert np.isfinite(ends).all()
    dynamics = Dynamics(model_of(10), "policy")
    draws = Draws(np.zeros((3, 2), np.uint32), np.arange(3, dtype=np.uint32))
    found = dynamics.draw(states, policies, np.full(3, 20), draws)
    assert found.shape == (3, 7)
    assert np.isfinite(found).all()
