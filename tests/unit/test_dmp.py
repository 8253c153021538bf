"""The DMP against movement-primitives and SciPy, and its documented properties."""

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from movement_primitives.dmp import DMP
from movement_primitives.dmp._forcing_term import ForcingTerm
from scipy.integrate import solve_ivp

from nsf_pipeline.config import DMPConfig
from nsf_pipeline.dmp import (
    FIXED_SCALE,
    DMPParams,
    basis,
    condition_dim,
    evaluate,
    follow,
    forcing,
    integrate,
)

# Wide enough that nothing is clipped: what is compared is the differential equation.
WIDE = (0.0, 512.0)
STIFFNESS = 50.0
RATIOS = {"under": 0.4, "critical": 1.0, "over": 2.5}


def policy(seed=0, ratio=1.0, stiffness=STIFFNESS, spread=0.5, n_basis=6, count=None):
    """A policy well inside the workspace, or some."""
    rng = np.random.default_rng(seed)
    axes = () if count is None else (count,)
    return DMPParams(
        duration=rng.uniform(1.0, 3.6, axes),
        start=rng.uniform(150.0, 250.0, (*axes, 2)),
        goal=rng.uniform(260.0, 360.0, (*axes, 2)),
        weights=rng.uniform(-spread, spread, (*axes, 2, n_basis)),
        stiffness=np.full(axes, stiffness),
        damping=np.full(axes, 2.0 * ratio * np.sqrt(stiffness)),
        action_noise_std=np.full(axes, 8.0),
    )


def desired(params, config, points=101, xp=np):
    """The desired positions (points, 2) at times spread evenly over the duration."""
    times = xp.asarray(params.duration)[..., None] * xp.linspace(0.0, 1.0, points)
    return evaluate(path_of(params, config, xp), times, config, xp)


def path_of(params, config, xp=np):
    return integrate(params, config, xp, jax.lax.scan if xp is jnp else None)


def forcing_scale(params, config):
    by_goal = config.scale_forcing_by_goal_delta
    return params.goal - params.start if by_goal else np.full(2, FIXED_SCALE)


def movement_primitives_path(params, config, steps):
    """(steps + 1, 2): the path of movement-primitives' DMP with our parameters.

    Theirs is tau^2 y'' = alpha (beta (g - y) - tau y') + f(z), f = z sum(psi w) / sum(psi), so
    alpha = D, beta = K / D, and their weights are K s times ours. Basis functions overlap by
    exp(-2) at the next centre; ours cross at exp(-1/2) half way. Two things are only in theirs:
    `smooth_scaling` (off), and a Runge-Kutta step from t to t + dt that takes the forcing from
    t + dt to t + 2 dt, which a forcing that starts dt later undoes.
    """
    duration = float(params.duration)
    dt = duration / steps
    theirs = DMP(
        n_dims=2,
        execution_time=duration,
        dt=dt,
        n_weights_per_dim=config.n_basis,
        alpha_y=float(params.damping),
        beta_y=float(params.stiffness / params.damping),
        smooth_scaling=False,
    )
    term = ForcingTerm(2, config.n_basis, duration, 0.0, np.exp(-2.0), config.phase_decay)
    term.weights_ = params.stiffness * forcing_scale(params, config)[:, None] * params.weights
    np.testing.assert_allclose((term.centers, term.widths), basis(config), rtol=1e-12)
    term.start_t, term.goal_t = dt, duration + dt
    theirs.forcing_term = term
    theirs.configure(start_y=params.start, goal_y=params.goal)
    return theirs.open_loop(run_t=duration, step_function="rk4")[1]


@pytest.mark.parametrize("by_goal", [True, False], ids=["scaled by the goal", "fixed scale"])
@pytest.mark.parametrize("ratio", RATIOS.values(), ids=RATIOS)
def test_movement_primitives_makes_the_same_path(ratio, by_goal):
    fine = DMPConfig(
        scale_forcing_by_goal_delta=by_goal, workspace=WIDE, integration_steps=4096, n_basis=8
    )
    params = policy(1, ratio, spread=0.5 if by_goal else 0.2, n_basis=8)
    theirs = movement_primitives_path(params, fine, 400)
    np.testing.assert_allclose(desired(params, fine, 401), theirs, atol=1e-4)
    # The default number of steps takes the forcing as linear over 1/32 of the duration.
    coarse = fine.model_copy(update={"integration_steps": DMPConfig().integration_steps})
    np.testing.assert_allclose(desired(params, coarse, 401), theirs, atol=1.0)


def reference(params, config, times):
    """(len(times), 2): the module's equations, solved by SciPy in time over duration."""
    centres, widths = basis(config)
    scale = forcing_scale(params, config)

    def derivative(u, state):
        position, velocity = state[:2], state[2:]
        phase = np.exp(-config.phase_decay * u)
        psi = np.exp(-widths * (phase - centres) ** 2)
        f = phase * (params.weights @ psi) / psi.sum() * scale
        pull = params.stiffness * (params.goal + f - position)
        return np.concatenate([velocity, pull - params.damping * velocity])

    start = np.concatenate([params.start, np.zeros(2)])
    solution = solve_ivp(derivative, (0.0, 1.0), start, "DOP853", times, rtol=1e-11, atol=1e-9)
    return solution.y[:2].T


@pytest.mark.parametrize("ratio", RATIOS.values(), ids=RATIOS)
def test_more_steps_converge_to_the_solution(ratio):
    params = policy(2, ratio)
    exact = reference(params, DMPConfig(), np.linspace(0.0, 1.0, 101))
    errors = [
        np.abs(desired(params, DMPConfig(workspace=WIDE, integration_steps=steps)) - exact).max()
        for steps in (32, 64, 128, 256, 512)
    ]
    # Second order: each doubling divides the error by four.
    assert errors[0] < 1.0
    assert errors[-1] < 0.005
    assert all(finer < coarser / 3 for coarser, finer in pairwise(errors))


@pytest.mark.parametrize("ratio", [0.0, *RATIOS.values(), 1 - 1e-6, 1 + 1e-6, 1 - 1e-3, 1 + 1e-3])
def test_a_linear_attractor_is_followed_exactly(ratio):
    """Whatever the step: only between knots is the attractor approximated."""
    stiffness, damping = 30.0, 2 * ratio * np.sqrt(30.0)
    start, slope = np.array([3.0, -1.0]), np.array([5.0, 40.0])
    times = np.linspace(0.0, 1.0, 9)
    position, velocity = follow(
        start + times[:, None] * slope, np.ones(2), np.array([-7.0, 2.0]), stiffness, damping, 1 / 8
    )

    def derivative(u, state):
        pull = stiffness * (start + u * slope - state[:2])
        return np.concatenate([state[2:], pull - damping * state[2:]])

    exact = solve_ivp(derivative, (0, 1), [1, 1, -7, 2], "DOP853", times, rtol=1e-12, atol=1e-12).y
    np.testing.assert_allclose(np.hstack([position, velocity]), exact.T, atol=1e-8)


def test_extreme_damping_and_stiffness_stay_finite():
    """exp(-D h / 2) underflows and cosh overflows where their product is of order one."""
    for stiffness, damping in [(50.0, 1e5), (1e9, 1.0), (1e9, 1e9), (1e-3, 1e3)]:
        for xp, dtype in [(np, np.float64), (jnp, jnp.float32)]:
            params = policy()._replace(stiffness=np.array(stiffness), damping=np.array(damping))
            params = DMPParams(*(xp.asarray(value, dtype) for value in params))
            assert all(xp.isfinite(values).all() for values in path_of(params, DMPConfig(), xp))


@pytest.mark.parametrize("change", ["stiffness", "damping"])
def test_stiffness_and_damping_are_used(change):
    params, config = policy(), DMPConfig()
    changed = params._replace(**{change: 1.5 * getattr(params, change)})
    apart = np.abs(desired(changed, config) - desired(params, config))
    assert apart.max() > 1.0


def test_only_underdamped_paths_overshoot():
    config = DMPConfig(workspace=WIDE)
    furthest = {
        name: desired(policy(0, ratio, 200.0, spread=0.0), config).max(axis=0)
        for name, ratio in RATIOS.items()
    }
    goal = policy(0).goal
    assert (furthest["under"] > goal + 1.0).all()
    assert (furthest["critical"] <= goal).all()
    assert (furthest["over"] < furthest["critical"]).all()


@pytest.mark.parametrize("by_goal", [True, False])
def test_forcing_scales_with_the_goals_offset_or_not(by_goal):
    config = DMPConfig(scale_forcing_by_goal_delta=by_goal)
    near = policy()
    far = near._replace(goal=near.start + 3.0 * (near.goal - near.start))
    factor = 3.0 if by_goal else 1.0
    np.testing.assert_allclose(forcing(far, config), factor * forcing(near, config))
    still = near._replace(goal=near.start)
    assert forcing(still, config).any() == (not by_goal)


def test_without_weights_the_goal_is_reached():
    params = policy(stiffness=200.0, spread=0.0)
    path = desired(params, DMPConfig())
    np.testing.assert_array_equal(path[0], params.start)
    np.testing.assert_allclose(path[-1], params.goal, atol=0.01)
    assert (np.diff(path, axis=0) > 0).all()


def test_before_and_after_its_duration_a_path_rests_at_its_ends():
    params, config = policy(), DMPConfig()
    path = desired(params, config)
    times = np.array([-1.0, 0.0, params.duration, 100.0])
    outside = evaluate(integrate(params, config), times, config)
    np.testing.assert_allclose(outside, path[[0, 0, -1, -1]], atol=1e-9)


@pytest.mark.parametrize("by_goal", [True, False])
@pytest.mark.parametrize("size", [10.0, 1000.0])
def test_extreme_weights_stay_in_the_workspace_without_jumps(size, by_goal):
    config = DMPConfig(scale_forcing_by_goal_delta=by_goal)
    low, high = config.workspace
    coarse, fine = (
        desired(policy(spread=size, count=50), config, points) for points in (3201, 32001)
    )
    assert (fine.min(), fine.max()) == (low, high)
    # Steps ten times shorter go a tenth of the way, at the borders as well.
    largest, a_tenth = (np.abs(np.diff(path, axis=1)).max() for path in (coarse, fine))
    assert a_tenth < 0.12 * largest


@pytest.mark.parametrize("by_goal", [True, False])
def test_a_batch_is_its_members_one_by_one(by_goal):
    config = DMPConfig(scale_forcing_by_goal_delta=by_goal)
    many = policy(ratio=0.7, count=5)
    together = desired(many, config)
    assert together.shape == (5, 101, 2)
    for row in range(5):
        one = DMPParams(*(value[row] for value in many))
        np.testing.assert_allclose(desired(one, config), together[row], rtol=1e-12)


@pytest.mark.parametrize("ratio", [*RATIOS.values(), 0.999, 1.001, 20.0])
def test_jax_in_single_precision_agrees(ratio):
    params = policy(ratio=ratio, count=20)
    single = DMPParams(*(jnp.asarray(value, jnp.float32) for value in params))
    path = desired(single, DMPConfig(), xp=jnp)
    assert path.dtype == jnp.float32
    np.testing.assert_allclose(path, desired(params, DMPConfig()), atol=0.01)


def test_jit_vmap_and_grad():
    config = DMPConfig(integration_steps=8)
    policies = [policy(ratio=ratio).as_vector() for ratio in RATIOS.values()]
    vectors, times = jnp.asarray(policies, jnp.float32), jnp.full(len(policies), 2.6)

    def position(vector, time):
        path = path_of(DMPParams.from_vector(vector), config, jnp)
        return evaluate(path, time[None], config, jnp)[0]

    compiled = jax.jit(jax.vmap(position))(vectors, times)
    for vector, time, found in zip(policies, times, compiled, strict=True):
        params = DMPParams.from_vector(vector)
        expected = evaluate(integrate(params, config), np.array([time]), config)[0]
        np.testing.assert_allclose(found, expected, atol=0.01)
    by_vector, by_time = jax.jit(jax.vmap(jax.jacobian(position, argnums=(0, 1))))(vectors, times)
    assert jnp.isfinite(by_vector).all()
    assert jnp.isfinite(by_time).all()
    # A position moves with each number: none is ignored.
    x = [0, 1, 3, *range(5, 11), 17, 18]
    y = [0, 2, 4, *range(11, 17), 17, 18]
    assert (by_vector[:, 0, jnp.array(x)] != 0).all()
    assert (by_vector[:, 1, jnp.array(y)] != 0).all()


def test_the_gradient_in_time_is_the_velocity():
    params, config = policy(), DMPConfig(workspace=WIDE)
    path = integrate(params, config)
    times = params.duration * np.arange(1, 32) / 32
    step = 1e-6
    before, after = (evaluate(path, times + sign * step, config) for sign in (-1, 1))
    np.testing.assert_allclose(
        (after - before) / (2 * step), path.velocity[1:-1] / params.duration, rtol=1e-4, atol=1e-3
    )


finite = st.floats(-1e6, 1e6)


@settings(max_examples=50)
@given(data=st.data(), n_basis=st.integers(1, 9), axes=st.sampled_from([(), (1,), (3,), (2, 2)]))
def test_vectors_and_params_round_trip(data, n_basis, axes):
    size = int(np.prod(axes)) * condition_dim(n_basis)
    values = data.draw(st.lists(finite, min_size=size, max_size=size))
    vector = np.array(values).reshape(*axes, -1)
    params = DMPParams.from_vector(vector)
    assert params.weights.shape == (*axes, 2, n_basis)
    np.testing.assert_array_equal(params.as_vector(), vector)
    for name, value in DMPParams.from_vector(params.as_vector())._asdict().items():
        np.testing.assert_array_equal(value, getattr(params, name), err_msg=name)


def test_the_vectors_order_is_the_file_formats():
    start, goal, weights = (
        np.array([2.0, 3.0]),
        np.array([4.0, 5.0]),
        np.array([[10, 11], [20, 21]]),
    )
    params = DMPParams(1.5, start, goal, weights, 6.0, 7.0, 8.0)
    assert params.as_vector().tolist() == [1.5, 2, 3, 4, 5, 10, 11, 20, 21, 6, 7, 8]
    assert condition_dim(2) == 12


@pytest.mark.parametrize("length", [0, 7, 8, 9, 11, 19])
def test_a_vector_of_impossible_length_is_refused(length):
    with pytest.raises(ValueError, match=rf"8 \+ 2 n_basis numbers, got {length}:"):
        DMPParams.from_vector(np.zeros(length))
