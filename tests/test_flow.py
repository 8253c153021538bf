"""The flow on networks whose every parameter is random: exact where it claims to be."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nsf_pipeline.flow import (
    ConditionalAuxiliaryFlow,
    ConditionalGaussianTransition,
    ConditionalNeuralStochasticFlow,
    ContinuousAffineCoupling,
    MultivariateNormalDiag,
    combined_loss,
    consistency_losses,
    negative_log_likelihood,
    one_to_two_loss,
    two_to_one_loss,
)
from nsf_pipeline.flow.bijectors import SCALE_FUNCTIONS, alternating_halves

CASES = [
    (1, "tanh_exp"),
    (2, "tanh_exp"),
    (7, "tanh_exp"),
    (3, "exp"),
    (3, "softplus"),
]
SMALL = {"hidden_size": 8, "depth": 2}
S, M, T = 0.25, 0.5, 1.0
KEY = jax.random.key(0)


def randomised(build, seed=0, size=0.4):
    """What `build` builds, with all parameters random: last layers start at zero and hide much."""
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
    "bridge": lambda dim: bridge(dim)(numbers(1, dim), numbers(3, dim), S, M, T),
    "bridge, condition": lambda dim: bridge(dim, 4, autonomous=False)(
        numbers(1, dim), numbers(3, dim), S, M, T, numbers(2, 4)
    ),
}


@pytest.mark.parametrize(
    ("name", "dim"),
    [*((name, 3) for name in LAWS), *(("bridge, condition", dim) for dim in (1, 2, 7))],
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


@pytest.mark.parametrize(("dim", "scale_function"), CASES)
def test_couplings_invert_and_know_their_volume(dim, scale_function):
    context, x = numbers(1, 5), numbers(2, dim)
    for moved in alternating_halves(dim, 2):
        coupling = randomised(
            lambda moved=moved: ContinuousAffineCoupling(
                moved, 5, scale_function=scale_function, **SMALL, key=KEY
            )
        )

        @jax.jit
        def both(x, delta, coupling=coupling):
            y, change = coupling.forward(x, delta, context)
            back, change_back = coupling.inverse(y, delta, context)
            jacobian = jax.jacfwd(lambda x: coupling.forward(x, delta, context)[0])(x)
            return y, change, back, change_back, jacobian

        for delta in (0.01, 0.3, 2.0):
            y, change, back, change_back, jacobian = both(x, delta)
            np.testing.assert_allclose(back, x, rtol=1e-4, atol=1e-5)
            kept = ~np.array(moved)
            np.testing.assert_array_equal(y[kept], x[kept])
            assert (y[~kept] != x[~kept]).all()
            if dim > 1:  # in one dimension nothing is kept, and the map is no coupling
                sign, log_det = np.linalg.slogdet(jacobian)
                assert sign == 1
                np.testing.assert_allclose(change, log_det, rtol=1e-3, atol=1e-5)
                np.testing.assert_allclose(change_back, -log_det, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("scale_function", SCALE_FUNCTIONS)
def test_scale_functions_leave_zero_and_are_bounded(scale_function):
    log_scale = SCALE_FUNCTIONS[scale_function]
    assert log_scale(jnp.zeros(())) == 0.0
    at_zero, beside = jax.vmap(jax.grad(log_scale))(jnp.array([0.0, 1e-3]))
    assert 0.5 < float(at_zero) == pytest.approx(float(beside), rel=1e-2)
    wide = log_scale(jnp.linspace(-50.0, 50.0, 401))
    assert (jnp.diff(wide) >= 0).all()
    assert jnp.abs(wide).max() <= 4.0
    if scale_function == "softplus":
        raw = np.linspace(-4.0, 6.0, 11)
        expected = np.log(np.logaddexp(0.0, raw + 1.0) / np.logaddexp(0.0, 1.0))
        np.testing.assert_allclose(log_scale(jnp.asarray(raw)), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("dim", "scale_function"), CASES)
def test_no_time_means_no_change_bit_for_bit(dim, scale_function):
    settings = {"autonomous": False, "scale_function": scale_function, "num_flow_layers": 2}
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
    [("transition, condition", 1), ("transition, condition", 2), ("bridge", 1), ("bridge", 2)],
)
def test_density_integrates_to_one(name, dim):
    law = eqx.filter_jit(LAWS[name])(dim)
    draws = np.asarray(jax.jit(jax.vmap(law.sample))(jax.random.split(KEY, 4000)))
    centre, spread = draws.mean(axis=0), draws.std(axis=0)
    axis = np.linspace(-9.0, 9.0, 501)
    grids = np.meshgrid(*[axis] * dim, indexing="ij")
    points = centre + spread * np.stack([grid.ravel() for grid in grids], axis=-1)
    density = np.exp(jax.jit(jax.vmap(law.log_prob))(jnp.asarray(points, jnp.float32)))
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
def test_law_depends_on_s_unless_autonomous(autonomous):
    x, y, z = numbers(1, 3), numbers(2, 3), numbers(3, 3)
    flow, between = transition(3, autonomous=autonomous), bridge(3, autonomous=autonomous)
    now, later = ((s, s + 0.25, s + 0.75) for s in (1.0, 3.0))
    for one, other in [
        (flow(x, now[0], now[2]).log_prob(y), flow(x, later[0], later[2]).log_prob(y)),
        (between(x, z, *now).log_prob(y), between(x, z, *later).log_prob(y)),
    ]:
        assert (one == other) == autonomous


# How far from order one states may be before single precision overflows, with random networks.
@pytest.mark.parametrize(
    ("scale_function", "far"), {"tanh_exp": 50.0, "exp": 5.0, "softplus": 5.0}.items()
)
def test_gradients_are_finite_near_and_far(scale_function, far):
    flow = transition(3, 2, scale_function=scale_function, num_flow_layers=2)
    x, y, condition = numbers(1, 3), numbers(2, 3), numbers(4, 2)

    @eqx.filter_jit
    @eqx.filter_vmap(in_axes=(None, 0, 0))
    def slopes(flow, gap, size):
        loss = lambda flow: negative_log_likelihood(  # noqa: E731
            flow, size * x, size * (x + 0.1 * y), 0.0 * gap, gap, condition
        )
        return eqx.filter_value_and_grad(loss)(flow)

    gaps = jnp.repeat(jnp.array([1e-6, 1e-3, 0.1, 1.0, 10.0]), 2)
    values, found = slopes(flow, gaps, jnp.tile(jnp.array([1.0, far]), 5))
    assert jnp.isfinite(values).all()
    for slope in jax.tree.leaves(found):
        assert jnp.isfinite(slope).all()
        assert (slope != 0).any(axis=tuple(range(1, slope.ndim))).any()


def test_slopes_are_finite_where_no_time_passes():
    flow = transition(3)
    x = numbers(1, 3)
    slope = jax.jit(jax.grad(lambda t: flow(x, 0.5, t).sample(KEY).sum()))(0.5)
    assert jnp.isfinite(slope)


def test_only_layers_are_trained_and_masks_stay():
    flow = transition(5)
    layers = jax.tree.leaves(flow, is_leaf=lambda node: isinstance(node, eqx.nn.Linear))
    assert len([layer for layer in layers if eqx.is_array(layer)]) == 0
    masks = [coupling.moved for coupling in flow.couplings]
    first, second = (True, True, False, False, False), (False, False, True, True, True)
    assert masks == [second, first, second]

    @eqx.filter_jit
    def slopes(flow):
        loss = lambda flow: negative_log_likelihood(flow, *ends, jnp.zeros(()), jnp.ones(()))  # noqa: E731
        return eqx.filter_grad(loss)(flow)

    ends = numbers(1, 5), numbers(2, 5)
    trained = eqx.apply_updates(flow, slopes(flow))
    assert [coupling.moved for coupling in trained.couplings] == masks
    same = jax.tree.map(
        lambda old, new: bool((old == new).all()),
        *(eqx.filter(f, eqx.is_array) for f in (flow, trained)),
    )
    assert not any(jax.tree.leaves(same))


def test_couplings_move_what_the_caller_says():
    moved = [[True, False, False], [False, False, True]]
    flow = transition(3, moved=moved, num_flow_layers=3)
    masks = [list(coupling.moved) for coupling in flow.couplings]
    assert masks == [moved[0], moved[1], moved[0]]


def test_batches_compile_once_and_agree_with_single_calls():
    @eqx.debug.assert_max_traces(max_traces=1)
    def density(flow, x, y, s, t, condition):
        return flow(x, s, t, condition).log_prob(y)

    batched = eqx.filter_jit(eqx.filter_vmap(density, in_axes=(None, 0, 0, 0, 0, 0)))
    for seed in range(3):
        flow = transition(2, 3, seed)
        x, y, condition = numbers(seed, 6, 2), numbers(seed + 9, 6, 2), numbers(seed, 6, 3)
        s = jnp.abs(numbers(seed, 6))
        t = s + 0.1 + jnp.abs(numbers(seed + 5, 6))
        together = batched(flow, x, y, s, t, condition)
        one = flow(x[2], s[2], t[2], condition[2]).log_prob(y[2])
        np.testing.assert_allclose(together[2], one, rtol=1e-4)


WRONG = {
    "no state": (lambda: transition(0), "got 0, 8, 2, 0 and 3"),
    "negative condition": (lambda: transition(2, -1), "got 2, 8, 2, -1 and 3"),
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
    "nothing moved": (
        lambda: ContinuousAffineCoupling([False, False], 3, **SMALL, key=KEY),
        "must move at least one component",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_unfit_arguments_are_named(case):
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
    """Its bridge, exactly, where `factor` is 1."""

    std: float = 1.3
    factor: float = 1.0

    def __call__(self, x_init, x_final, t_init, t_mid, t_final, condition):
        r = (t_mid - t_init) / (t_final - t_init)
        scale = self.factor * self.std * jnp.sqrt(r * (1 - r) * (t_final - t_init))
        return MultivariateNormalDiag((1 - r) * x_init + r * x_final, jnp.full_like(x_init, scale))


X = jnp.array([0.3, -2.0])
TIMES = tuple(map(jnp.asarray, (S, M, T)))


def losses_of(flow, bridge, count=4000):
    one = lambda key: consistency_losses(flow, bridge, X, *TIMES, key=key)  # noqa: E731
    return [np.asarray(loss) for loss in jax.vmap(one)(jax.random.split(KEY, count))]


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
    for loss in losses_of(transition(2), bridge(2)):
        assert loss.mean() > 5 * loss.std() / np.sqrt(len(loss))


def test_losses_are_parts_of_the_combined_loss():
    flow, between = transition(2, 3), bridge(2, 3)
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
