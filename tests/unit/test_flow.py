"""The flow, with all parameters of its networks random."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mostly_thorough

from nsf_pipeline.flow import (
    ConditionalAuxiliaryFlow,
    ConditionalGaussianTransition,
    ConditionalNeuralStochasticFlow,
    ContinuousAffineCoupling,
    ContinuousSplineCoupling,
    MultivariateNormalDiag,
    combined_loss,
    consistency_losses,
    negative_log_likelihood,
    one_to_two_loss,
    two_to_one_loss,
)
from nsf_pipeline.flow.bijectors import (
    SCALE_FUNCTIONS,
    alternating_halves,
    build_couplings,
    check_coupling,
)
from nsf_pipeline.flow.splines import BOX, Spline, num_parameters

COUPLINGS = {"affine": ContinuousAffineCoupling, "spline": ContinuousSplineCoupling}
CASES = [
    (1, "tanh_exp", "affine"),
    (2, "tanh_exp", "affine"),
    (7, "tanh_exp", "affine"),
    (3, "exp", "affine"),
    (3, "softplus", "affine"),
    (1, "tanh_exp", "spline"),
    (3, "exp", "spline"),
    (2, "softplus", "spline"),
]
MOST_CASES = mostly_thorough(CASES, CASES[2], CASES[-1])
SMALL: dict[str, Any] = {"hidden_size": 8, "depth": 2}
SPLINES: dict[str, Any] = {"coupling": "spline", "num_flow_layers": 2}
S, M, T = 0.25, 0.5, 1.0
KEY = jax.random.key(0)


def randomised(build, seed=0, size=0.4):
    """The result of `build`, all parameters random: last layers that are zero would hide errors."""
    random = np.random.default_rng(seed)

    def fill(leaf):
        is_array = isinstance(leaf, jax.ShapeDtypeStruct)
        return jnp.asarray(random.normal(0.0, size, leaf.shape), leaf.dtype) if is_array else leaf

    return jax.tree.map(fill, eqx.filter_eval_shape(build))


def transition(dim, condition_dim=0, seed=0, **changes):
    settings = {"num_flow_layers": 3, **SMALL, **changes}
    flow = ConditionalNeuralStochasticFlow
    return randomised(lambda: flow(dim, condition_dim, **settings, key=KEY), seed)


def bridge(dim, condition_dim=0, **changes):
    settings = {"num_flow_layers": 3, **SMALL, **changes}
    return randomised(
        lambda: ConditionalAuxiliaryFlow(dim, condition_dim, **settings, key=KEY), seed=1
    )


def numbers(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


# Law by name: a transition or a bridge, conditioned or not, by its dimension.
LAWS = {
    "transition": lambda dim: transition(dim)(numbers(1, dim), S, T),
    "transition, condition": lambda dim: transition(dim, 4)(numbers(1, dim), S, T, numbers(2, 4)),
    "transition, with s": lambda dim: transition(dim, autonomous=False)(numbers(1, dim), S, T),
    "transition, Gaussian": lambda dim: transition(dim, num_flow_layers=0)(numbers(1, dim), S, T),
    "transition, spline": lambda dim: transition(dim, **SPLINES)(numbers(1, dim), S, T),
    "bridge, spline": lambda dim: bridge(dim, **SPLINES)(numbers(1, dim), numbers(3, dim), S, M, T),
    "bridge": lambda dim: bridge(dim)(numbers(1, dim), numbers(3, dim), S, M, T),
    "bridge, condition": lambda dim: bridge(dim, 4, autonomous=False)(
        numbers(1, dim), numbers(3, dim), S, M, T, numbers(2, 4)
    ),
}


@pytest.mark.parametrize(
    ("name", "dim"),
    mostly_thorough(
        [*((name, 3) for name in LAWS), *(("bridge, condition", dim) for dim in (1, 2, 7))],
        ("transition, spline", 3),
        ("transition, Gaussian", 3),
        ("bridge, condition", 7),
    ),
)
def test_a_draws_density_is_its_log_prob(name, dim):
    @jax.jit
    @jax.vmap
    def draw(key):
        law = LAWS[name](dim)
        drawn, density = law.sample_and_log_prob(key)
        return drawn, density, law.sample(key), law.log_prob(drawn)

    drawn, densities, again, expected = draw(jax.random.split(KEY, 32))
    np.testing.assert_array_equal(drawn, again)
    np.testing.assert_allclose(densities, expected, rtol=1e-4, atol=2e-3)
    assert np.ptp(densities) > 0.1


@pytest.mark.parametrize(("dim", "scale_function", "kind"), MOST_CASES)
def test_couplings_invert_and_give_their_log_determinant(dim, scale_function, kind):
    context, x, loc = numbers(1, 5), numbers(2, dim), numbers(3, dim)
    for moved in alternating_halves(dim, 2):
        coupling = randomised(
            lambda moved=moved: COUPLINGS[kind](
                moved, 5, scale_function=scale_function, **SMALL, key=KEY
            )
        )

        @jax.jit
        def both(x, delta, coupling=coupling):
            base = MultivariateNormalDiag(loc, jnp.sqrt(delta) * jnp.arange(1.0, dim + 1.0))
            y, change = coupling.forward(x, delta, context, base)
            back, change_back = coupling.inverse(y, delta, context, base)
            jacobian = jax.jacfwd(lambda x: coupling.forward(x, delta, context, base)[0])(x)
            return y, change, back, change_back, jacobian

        for delta in (0.01, 0.3, 2.0):
            y, change, back, change_back, jacobian = both(x, delta)
            np.testing.assert_allclose(back, x, rtol=1e-4, atol=1e-5)
            kept = ~np.array(moved)
            np.testing.assert_array_equal(y[kept], x[kept])
            assert (y[~kept] != x[~kept]).all()
            sign, log_det = np.linalg.slogdet(jacobian)
            assert sign == 1
            np.testing.assert_allclose(change, log_det, rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(change_back, -log_det, rtol=1e-3, atol=1e-4)


def random_spline(seed, dim=3, bins=8, size=2.0):
    raw = size * numbers(seed, dim, num_parameters(bins))
    return Spline.of(raw), raw


def test_a_spline_inverts_and_gives_its_slopes_inside_and_outside_its_box():
    spline, _ = random_spline(1)
    x = jnp.linspace(-2.5 * BOX, 2.5 * BOX, 400)[:, None] * jnp.ones(3)

    @jax.jit
    @jax.vmap
    def all_of(x):
        y, log_slope = spline.forward(x)
        back, log_slope_back = spline.inverse(y)
        slope = jnp.diag(jax.jacfwd(lambda x: spline.forward(x)[0])(x))
        slope_back = jnp.diag(jax.jacfwd(lambda y: spline.inverse(y)[0])(y))
        return y, log_slope, back, log_slope_back, slope, slope_back

    y, log_slope, back, log_slope_back, slope, slope_back = all_of(x)
    assert (jnp.diff(y, axis=0) > 0).all()
    assert np.ptp(log_slope) > 3.0
    # A rounding error in y is an error in x of that size divided by the slope.
    tolerance = 1e-5 * (1.0 + np.abs(y)) / np.minimum(np.exp(log_slope), 1.0)
    assert (np.abs(back - x) < tolerance).all()
    np.testing.assert_allclose(jnp.exp(log_slope), slope, rtol=1e-3)
    np.testing.assert_allclose(log_slope_back, -log_slope, atol=5e-3)
    np.testing.assert_allclose(slope_back, 1.0 / slope, rtol=5e-3)


def test_a_spline_passes_its_knots_with_their_slopes_and_continues_as_lines():
    spline, _ = random_spline(2, size=1.0)
    for knot in range(spline.x.shape[1]):
        for side in (-1e-4, 1e-4):
            y, log_slope = spline.forward(spline.x[:, knot] + side)
            np.testing.assert_allclose(y, spline.y[:, knot], atol=1e-2)
            np.testing.assert_allclose(jnp.exp(log_slope), spline.slope[:, knot], rtol=0.05)
    far, further = spline.forward(jnp.full(3, 100.0))[0], spline.forward(jnp.full(3, 200.0))[0]
    np.testing.assert_allclose(further - far, 100.0 * spline.slope[:, -1], rtol=1e-4)


def test_a_spline_of_zeros_is_the_identity():
    spline = Spline.of(jnp.zeros((3, num_parameters(8))))
    x = jnp.array([-2.0 * BOX, 0.37, 4.9])
    y, log_slope = spline.forward(x)
    np.testing.assert_allclose(y, x, atol=2e-6)
    np.testing.assert_allclose(log_slope, 0.0, atol=1e-6)


def test_a_spline_makes_a_law_in_one_dimension_that_is_not_gaussian():
    for kind, gaussian in [("affine", True), ("spline", False)]:
        law = transition(1, coupling=kind, num_flow_layers=1)(numbers(1, 1), S, T)
        curve = jax.jit(jax.vmap(jax.hessian(lambda y, law=law: law.log_prob(y))))(
            law.base.loc + law.base.scale * jnp.linspace(-2.0, 2.0, 9)[:, None]
        ).ravel()
        assert (np.ptp(curve) < 1e-2 * np.abs(curve).max()) == gaussian


@pytest.mark.parametrize("delta", [1e-4, 1e-2, 1.0])
def test_noise_correlated_between_components_takes_the_same_spline_coupling_at_any_gap(delta):
    coupling = randomised(lambda: ContinuousSplineCoupling([False, True], 5, **SMALL, key=KEY))
    base = MultivariateNormalDiag(numbers(1, 2), jnp.sqrt(delta) * jnp.array([0.5, 2.0]))
    noise = jnp.array([[0.3, -0.2], [1.3, -0.2]])
    move = lambda u: coupling.forward(  # noqa: E731
        base.loc + base.scale * u, jnp.zeros(()), numbers(2, 5), base
    )[0]
    moved = (jax.vmap(move)(noise) - base.loc) / base.scale
    assert abs(float(moved[1, 1] - moved[0, 1])) > 0.05
    expected = jax.vmap(lambda u: coupling.conditioner(u * jnp.array([1.0, 0.0]), numbers(2, 5))[1])
    np.testing.assert_allclose(moved[:, 1] - noise[:, 1], expected(noise), atol=2e-3)


@pytest.mark.parametrize("scale_function", SCALE_FUNCTIONS)
def test_scale_functions_leave_zero_and_are_bounded(scale_function):
    log_scale = SCALE_FUNCTIONS[scale_function]
    assert log_scale(jnp.zeros(())) == 0.0
    at_zero, nearby = jax.vmap(jax.grad(log_scale))(jnp.array([0.0, 1e-3]))
    assert 0.5 < float(at_zero) == pytest.approx(float(nearby), rel=1e-2)
    wide = log_scale(jnp.linspace(-50.0, 50.0, 401))
    assert (jnp.diff(wide) >= 0).all()
    assert jnp.abs(wide).max() <= 4.0
    if scale_function == "softplus":
        raw = np.linspace(-4.0, 6.0, 11)
        expected = np.log(np.logaddexp(0.0, raw + 1.0) / np.logaddexp(0.0, 1.0))
        np.testing.assert_allclose(log_scale(jnp.asarray(raw)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("dim", "scale_function", "kind"), MOST_CASES)
def test_no_time_means_no_change_bit_for_bit(dim, scale_function, kind):
    settings = {"autonomous": False, "scale_function": scale_function, "num_flow_layers": 2}
    settings["coupling"] = kind
    flow, between = transition(dim, **settings), bridge(dim, **settings)
    keys = jax.random.split(KEY, 16)
    start, end = 30.0 * numbers(1, 16, dim), 0.01 * numbers(2, 16, dim)

    @jax.jit
    @jax.vmap
    def draws(start, end, key):
        return (
            flow(start, 0.7, 0.7).sample(key),
            between(start, end, 0.7, 0.7, 1.9).sample(key),
            between(start, end, 0.7, 1.9, 1.9).sample(key),
            between(start, end, 0.7, 1.0, 1.9).sample(key),
        )

    still, at_start, at_end, amid = draws(start, end, keys)
    np.testing.assert_array_equal(still, start)
    np.testing.assert_array_equal(at_start, start)
    np.testing.assert_array_equal(at_end, end)
    assert (amid != start).all()


@pytest.mark.parametrize(
    ("name", "dim"),
    mostly_thorough(
        [
            (name, dim)
            for name in ("transition, condition", "bridge", "transition, spline", "bridge, spline")
            for dim in (1, 2)
        ],
        ("transition, spline", 2),
        ("bridge", 2),
    ),
)
def test_density_integrates_to_one(name, dim):
    law = eqx.filter_jit(LAWS[name])(dim)
    draws = np.asarray(jax.jit(jax.vmap(law.sample))(jax.random.split(KEY, 4000)))
    centre, spread = draws.mean(axis=0), draws.std(axis=0)
    # Random splines are spiky, and have long tails.
    axis = np.linspace(-15.0, 15.0, 30_001 if dim == 1 else 1201)
    grids = np.meshgrid(*[axis] * dim, indexing="ij")
    points = centre + spread * np.stack([grid.ravel() for grid in grids], axis=-1)
    log_density = jax.jit(lambda points: jax.lax.map(law.log_prob, points, batch_size=100_000))
    density = np.exp(log_density(jnp.asarray(points, jnp.float32)))
    cell = np.prod(spread) * (axis[1] - axis[0]) ** dim
    assert density.sum() * cell == pytest.approx(1.0, abs=2e-3)
    mean = (density[:, None] * points).sum(axis=0) * cell
    np.testing.assert_allclose(mean, centre, atol=5.0 * spread.max() / np.sqrt(len(draws)))


def test_a_new_flow_is_the_gaussian_it_starts_from():
    x, y = numbers(1, 3), numbers(2, 3)
    flow = ConditionalNeuralStochasticFlow(3, num_flow_layers=2, **SMALL, key=KEY)
    std = (np.log(2.0) + 1e-3) * np.sqrt(T - S)
    expected = MultivariateNormalDiag(x, jnp.full(3, std)).log_prob(y)
    assert flow(x, S, T).log_prob(y) == pytest.approx(float(expected), rel=1e-5)


def test_the_base_is_a_euler_maruyama_step():
    base = randomised(lambda: ConditionalGaussianTransition(2, 5, key=KEY))
    x, context = numbers(1, 2), numbers(2, 5)
    one, four = (base(x, jnp.asarray(delta), context) for delta in (1.0, 4.0))
    np.testing.assert_allclose(four.loc - x, 4.0 * (one.loc - x), rtol=1e-4)
    np.testing.assert_allclose(four.scale, 2.0 * one.scale, rtol=1e-6)


@pytest.mark.parametrize("autonomous", [True, False])
@pytest.mark.parametrize("kind", COUPLINGS)
def test_law_depends_on_s_unless_autonomous(autonomous, kind):
    x, y, z = numbers(1, 3), numbers(2, 3), numbers(3, 3)
    settings = {"autonomous": autonomous, "coupling": kind}
    flow, between = transition(3, **settings), bridge(3, **settings)

    @jax.jit
    def densities(s, m, t):
        return flow(x, s, t).log_prob(y), between(x, z, s, m, t).log_prob(y)

    now, later = (densities(s, s + 0.25, s + 0.75) for s in (1.0, 3.0))
    for one, other in zip(now, later, strict=True):
        assert (one == other) == autonomous


FAR = 1000.0
"""A state this far out is this many times larger than usual."""


@pytest.mark.parametrize("kind", COUPLINGS)
@pytest.mark.parametrize(
    ("dim", "scale_function"),
    [
        (3, "tanh_exp"),
        pytest.param(1, "tanh_exp", marks=pytest.mark.thorough),
        *(pytest.param(3, name, marks=pytest.mark.thorough) for name in ("exp", "softplus")),
    ],
)
def test_gradients_are_finite_near_and_far(kind, dim, scale_function):
    # Two couplings in a row for one scale function: more would only take longer to compile.
    layers = 2 if scale_function == "tanh_exp" else 1
    settings = {"scale_function": scale_function, "coupling": kind, "num_flow_layers": layers}
    laws = transition(dim, 2, **settings), bridge(dim, 2, **settings)
    x, y, condition = numbers(1, dim), numbers(2, dim), numbers(4, 2)

    @eqx.filter_jit
    @eqx.filter_vmap(in_axes=(None, 0, 0))
    def slopes(laws, gap, size):
        def loss(given):
            (flow, between), x, gap, condition = given
            end = size * (x + 0.1 * y)
            nll = negative_log_likelihood(flow, size * x, end, 0.0 * gap, gap, condition)
            law = between(size * x, end, 0.0 * gap, 0.3 * gap, gap, condition)
            return nll - law.log_prob(size * (x + 0.03 * y))

        return eqx.filter_value_and_grad(loss)((laws, x, gap, condition))

    gaps = jnp.repeat(jnp.array([1e-6, 1e-3, 0.1, 1.0, 10.0]), 2)
    values, found = slopes(laws, gaps, jnp.tile(jnp.array([1.0, FAR]), 5))
    assert jnp.isfinite(values).all()
    for slope in jax.tree.leaves(found):
        assert jnp.isfinite(slope).all()
    if dim > 1:  # in one dimension no component is kept, so the networks have no state as input
        assert all((slope != 0).any() for slope in jax.tree.leaves(found[0]))


@pytest.mark.parametrize("kind", mostly_thorough(COUPLINGS, "spline"))
def test_slopes_are_finite_where_no_time_passes(kind):
    settings = {"coupling": kind, "num_flow_layers": 1}
    flow, between = transition(3, **settings), bridge(3, **settings)
    x, y = numbers(1, 3), numbers(2, 3)
    draws = {
        "at s": lambda t: flow(x, 0.5, t).sample(KEY),
        "at the bridge's start": lambda m: between(x, y, 0.5, m, 2.0).sample(KEY),
        "at its end": lambda m: between(x, y, -1.0, m, 0.5).sample(KEY),
    }
    for draw in draws.values():
        assert jnp.isfinite(jax.jit(jax.jacfwd(draw))(0.5)).all()


@pytest.mark.parametrize("kind", mostly_thorough(COUPLINGS, "affine"))
def test_only_layers_are_trained_and_masks_stay(kind):
    flow = transition(5, coupling=kind)
    layers = jax.tree.leaves(flow, is_leaf=lambda node: isinstance(node, eqx.nn.Linear))
    assert len([layer for layer in layers if eqx.is_array(layer)]) == 0
    masks = [coupling.moved for coupling in flow.couplings]
    first, second = (True, True, False, False, False), (False, False, True, True, True)
    assert masks == [second, first, second]
    ends = numbers(1, 5), numbers(2, 5)

    @eqx.filter_jit
    def slopes(flow):
        loss = lambda flow: negative_log_likelihood(flow, *ends, jnp.zeros(()), jnp.ones(()))  # noqa: E731
        return eqx.filter_grad(loss)(flow)

    trained = eqx.apply_updates(flow, slopes(flow))
    assert [coupling.moved for coupling in trained.couplings] == masks
    same = jax.tree.map(
        lambda old, new: bool((old == new).all()),
        *(eqx.filter(f, eqx.is_array) for f in (flow, trained)),
    )
    assert not any(jax.tree.leaves(same))


def test_couplings_move_the_components_that_the_caller_names():
    moved = [[True, False, False], [False, False, True]]
    flow = transition(3, moved=moved, num_flow_layers=3)
    masks = [list(coupling.moved) for coupling in flow.couplings]
    assert masks == [moved[0], moved[1], moved[0]]


@pytest.mark.parametrize("kind", mostly_thorough(COUPLINGS, "spline"))
def test_batches_compile_once_and_agree_with_single_calls(kind):
    @eqx.debug.assert_max_traces(max_traces=1)
    def all_of(flow, between, key, x, y, s, t, condition):
        law = flow(x, s, t, condition)
        middle = between(x, y, s, s + 0.3 * (t - s), t, condition)
        drawn, density = law.sample_and_log_prob(key)
        return law.log_prob(y), drawn, density, law.sample(key), middle.log_prob(0.5 * (x + y))

    @eqx.filter_jit
    def single(flow, key, x, y, s, t, condition):
        law = flow(x, s, t, condition)
        return law.log_prob(y), law.sample(key)

    batched = eqx.filter_jit(eqx.filter_vmap(all_of, in_axes=(None, None, *[0] * 6)))
    settings = {"coupling": kind, "num_flow_layers": 2}
    for seed in range(3):
        laws = transition(2, 3, seed, **settings), bridge(2, 3, **settings)
        x, y, condition = numbers(seed, 6, 2), numbers(seed + 9, 6, 2), numbers(seed, 6, 3)
        s = jnp.abs(numbers(seed, 6))
        t = s + 0.1 + jnp.abs(numbers(seed + 5, 6))
        keys = jax.random.split(jax.random.key(seed), 6)
        together = batched(*laws, keys, x, y, s, t, condition)
        density, drawn = single(laws[0], keys[2], x[2], y[2], s[2], t[2], condition[2])
        np.testing.assert_allclose(together[0][2], density, rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(together[1][2], drawn, rtol=1e-4, atol=1e-4)


def test_times_that_are_python_numbers_compile_once():
    flow = transition(2)

    @jax.jit
    @eqx.debug.assert_max_traces(max_traces=1)
    def density(x, y, s, t):
        return flow(x, s, t).log_prob(y)

    found = [density(numbers(1, 2), numbers(2, 2), 0.1 * i, 1.0 + i) for i in range(4)]
    assert len(set(map(float, found))) == 4


@pytest.mark.parametrize("kind", mostly_thorough(COUPLINGS, "spline"))
def test_a_laws_methods_can_be_jitted_mapped_and_differentiated_as_they_are(kind):
    flow = transition(2, coupling=kind, num_flow_layers=1)
    law = eqx.filter_jit(flow)(numbers(1, 2), S, T)
    keys, points = jax.random.split(KEY, 3), numbers(2, 3, 2)
    for each in (law, law.base):
        drawn, density = jax.jit(each.sample_and_log_prob)(KEY)
        np.testing.assert_allclose(drawn, jax.jit(each.sample)(KEY), rtol=1e-5)
        np.testing.assert_allclose(density, jax.jit(each.log_prob)(drawn), rtol=1e-3, atol=1e-3)
        assert jax.jit(jax.vmap(each.sample))(keys).shape == (3, 2)
        assert jax.jit(jax.vmap(each.log_prob))(points).shape == (3,)
        assert jnp.isfinite(jax.jit(jax.grad(each.log_prob))(points[0])).all()
    # A batch of laws is a law of batches.
    laws = jax.jit(jax.vmap(flow, in_axes=(0, None, None)))(points, S, T)
    one = jax.jit(jax.vmap(lambda law, y: law.log_prob(y)))(laws, points)[1]
    alone = jax.jit(lambda x, y: flow(x, S, T).log_prob(y))(points[1], points[1])
    np.testing.assert_allclose(one, alone, rtol=1e-4)


def test_numpy_arrays_are_taken_as_they_are():
    x, y, condition = (
        np.asarray(numbers(seed, size), np.float64) for seed, size in ((1, 2), (2, 2), (3, 3))
    )
    found = transition(2, 3)(x, 0.0, 1.0, condition).log_prob(y)
    expected = transition(2, 3)(jnp.asarray(x), 0.0, 1.0, jnp.asarray(condition)).log_prob(
        jnp.asarray(y)
    )
    assert found == expected
    assert found.dtype == jnp.float32


WRONG = {
    "no state": (lambda: transition(0), "state_dim of at least 1, got 0"),
    "negative condition": (lambda: transition(2, -1), "condition_dim to be .* from 0 on, got -1"),
    "condition missing": (
        lambda: transition(2, 3)(numbers(1, 2), S, T),
        r"expected condition=an array \(3,\), got None",
    ),
    "condition not asked for": (
        lambda: transition(2)(numbers(1, 2), S, T, numbers(2, 3)),
        r"expected condition=None, got an array \(3,\)",
    ),
    "condition of another size": (
        lambda: bridge(2, 4)(numbers(1, 2), numbers(3, 2), S, M, T, numbers(2, 3)),
        r"expected condition=an array \(4,\), got an array \(3,\)",
    ),
    "unknown coupling": (
        lambda: build_couplings([[True]], 3, 1, jnp.tanh, "exp", "cubic", 8, keys=[KEY]),
        "expected couplings 'affine' or 'spline', got 'cubic'",
    ),
    "unknown scale function": (
        lambda: check_coupling([True], "relu"),
        "expected a scale function of .*, got 'relu'",
    ),
    "no bins": (
        lambda: transition(2, coupling="spline", num_bins=0),
        "expected num_bins of at least 1, got 0",
    ),
    "nothing moved": (
        lambda: ContinuousAffineCoupling([False, False], 3, **SMALL, key=KEY),
        "must move at least one component",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_named(case):
    call, message = WRONG[case]
    with pytest.raises(ValueError, match=message):
        call()


class Brownian(eqx.Module):
    """Brownian motion with drift: a consistent transition law."""

    drift: float = 0.7
    std: float = 1.3

    def __call__(self, x_init, t_init, t_final, condition):
        gap = t_final - t_init
        scale = jnp.full_like(x_init, self.std) * jnp.sqrt(gap)
        return MultivariateNormalDiag(x_init + self.drift * gap, scale)


class BrownianBridge(eqx.Module):
    """The bridge of `Brownian`, exact if `factor` is 1."""

    std: float = 1.3
    factor: float = 1.0

    def __call__(self, x_init, x_final, t_init, t_mid, t_final, condition):
        r = (t_mid - t_init) / (t_final - t_init)
        scale = self.factor * self.std * jnp.sqrt(r * (1 - r) * (t_final - t_init))
        return MultivariateNormalDiag((1 - r) * x_init + r * x_final, jnp.full_like(x_init, scale))


X = jnp.array([0.3, -2.0])
TIMES = jnp.asarray(S), jnp.asarray(M), jnp.asarray(T)


def losses_of(flow, bridge, count=4000):
    one = lambda key: consistency_losses(flow, bridge, X, *TIMES, key=key)  # noqa: E731
    return [np.asarray(loss) for loss in jax.jit(jax.vmap(one))(jax.random.split(KEY, count))]


def test_consistency_losses_vanish_for_a_consistent_pair():
    for loss in losses_of(Brownian(), BrownianBridge()):
        np.testing.assert_allclose(loss, 0.0, atol=2e-5)


@pytest.mark.parametrize("factor", [0.6, 1.5])
def test_consistency_losses_are_the_divergence_of_a_wrong_bridge(factor):
    expected = (
        len(X) * ((factor**2 - 1) / 2 - np.log(factor)),
        len(X) * (np.log(factor) + (factor**-2 - 1) / 2),
    )
    found = losses_of(Brownian(), BrownianBridge(factor=factor))
    for loss, divergence in zip(found, expected, strict=True):
        assert divergence > 0.1
        assert abs(loss.mean() - divergence) < 5 * loss.std() / np.sqrt(len(loss))


def test_consistency_losses_are_positive_for_a_random_flow():
    for loss in losses_of(transition(2, num_flow_layers=2), bridge(2, num_flow_layers=2)):
        assert loss.mean() > 5 * loss.std() / np.sqrt(len(loss))


def test_losses_are_parts_of_the_combined_loss():
    flow, between = (law(2, 3, num_flow_layers=1) for law in (transition, bridge))
    x_final, condition = numbers(1, 2), numbers(2, 3)
    arguments = (flow, between, X, *TIMES, condition)
    one_to_two, two_to_one = consistency_losses(*arguments, key=KEY)
    assert one_to_two_loss(*arguments, key=KEY) == one_to_two
    assert two_to_one_loss(*arguments, key=KEY) == two_to_one
    nll = negative_log_likelihood(flow, X, x_final, TIMES[0], TIMES[2], condition)
    assert nll == -flow(X, S, T, condition).log_prob(x_final)
    total = combined_loss(
        flow,
        between,
        X,
        x_final,
        *TIMES,
        condition,
        one_to_two_weight=0.3,
        two_to_one_weight=2.0,
        key=KEY,
    )
    assert total == pytest.approx(float(nll + 0.3 * one_to_two + 2.0 * two_to_one), rel=1e-5)
