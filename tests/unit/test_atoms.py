"""Laws with atoms: draws, densities and the consistency losses where a state may rest exactly."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import Array, Float

from nsf_pipeline.flow import (
    Atom,
    ConditionalNeuralStochasticFlow,
    LawWithAtoms,
    MultivariateNormalDiag,
    consistency_losses,
    distillation_loss,
)
from nsf_pipeline.flow.atoms import NEVER
from nsf_pipeline.flow.distributions import Distribution, log_densities

KEY = jax.random.key(0)
CONTEXT = jnp.array([0.3, -0.8])
POINTS = jnp.array([[9.0, 0.1, -0.7], [9.0, 9.0, 0.3]])
PINNED = [False, True, True], [False, False, True]


def randomised(tree, size=0.3):
    """The same with other weights: networks start at 0."""
    leaves, structure = jax.tree.flatten(eqx.filter(tree, eqx.is_inexact_array))
    keys = jax.random.split(KEY, len(leaves))
    other = [size * jax.random.normal(k, leaf.shape) for k, leaf in zip(keys, leaves, strict=True)]
    return eqx.combine(jax.tree.unflatten(structure, other), tree)


@functools.cache
def networks():
    flow = ConditionalNeuralStochasticFlow(
        3,
        hidden_size=8,
        num_flow_layers=3,
        moved=[[place == moved for place in range(3)] for moved in (0, 1, 2)],
        groups=(0, 1, 2),
        key=KEY,
    )
    flow, atoms = randomised((flow, tuple(Atom(pinned, 2, 8, key=KEY) for pinned in PINNED)))
    return eqx.filter_jit(flow)(jnp.zeros(3), 0.0, 1.0), atoms


def law_of(*shift):
    """Three components: the second and the third may be pinned, or the third alone."""
    law, atoms = networks()
    return LawWithAtoms(law, atoms, POINTS, CONTEXT, jnp.array(shift or (0.0, 0.0)))


def kinds_of(x):
    """How many components are free: 1, 2 or 3."""
    third = x[..., 2] == POINTS[:, 2, None]
    return np.where((x[..., 1] == POINTS[0, 1]) & third[0], 1, np.where(third[1], 2, 3))


@eqx.filter_jit
def drawn(law, keys):
    def one(key):
        return *law.sample_and_log_prob(key), law.sample(key)

    return jax.vmap(one)(keys)


@eqx.filter_jit
def log_probs(law, x):
    return jax.vmap(law.log_prob)(x)


def test_draws_are_pinned_to_the_bit_and_have_the_density_of_their_kind():
    law = law_of()
    assert isinstance(law, Distribution)
    x, density, again = drawn(law, jax.random.split(KEY, 4000))
    np.testing.assert_array_equal(x, again)
    kinds = kinds_of(x)
    counts = [(kinds == kind).sum() for kind in (1, 2, 3)]
    assert min(counts) > 200
    np.testing.assert_allclose(density, log_probs(law, x), rtol=1e-3, atol=5e-3)


def test_density_over_points_and_volumes_sums_to_one():
    """The integral of each kind's density is its probability, and their sum is 1."""
    law, random = law_of(), np.random.default_rng(0)
    kinds = kinds_of(drawn(law, jax.random.split(KEY, 20_000))[0])
    moving = np.asarray(jax.vmap(law.law.sample)(jax.random.split(KEY, 4000)))
    total = 0.0
    for kind in (1, 2, 3):
        # Importance sampling of the free components, from a wider Gaussian.
        mean, covariance = moving[:, :kind].mean(axis=0), 2.0 * np.cov(moving[:, :kind].T)
        root = np.linalg.cholesky(covariance.reshape(kind, kind))
        noise = random.normal(size=(20_000, kind))
        log_q = -0.5 * (noise**2 + np.log(2 * np.pi)).sum(axis=1) - np.log(np.diag(root)).sum()
        x = np.tile(POINTS[min(kind, 2) - 1], (len(noise), 1))
        x[:, :kind] = mean + noise @ root.T
        weight = np.exp(np.asarray(log_probs(law, jnp.asarray(x, jnp.float32))) - log_q)
        probability, error = (kinds == kind).mean(), weight.std() / np.sqrt(len(weight))
        assert error < 0.05 * probability
        assert abs(weight.mean() - probability) < 5 * error + 0.015
        total += weight.mean()
    assert total == pytest.approx(1.0, abs=0.05)


def test_free_components_do_not_depend_on_pinned_ones():
    law = law_of().law
    x = law.sample(KEY)
    for free in (1, 2):
        other = x.at[free:].add(1.0)
        (one, slopes), (two, slopes_two) = law.to_noise(x), law.to_noise(other)
        assert (one[free:] != two[free:]).any()
        np.testing.assert_array_equal(one[:free], two[:free])
        np.testing.assert_array_equal(
            log_densities(one, slopes)[:free], log_densities(two, slopes_two)[:free]
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"points": POINTS[:1], "shift": jnp.zeros(1)}, r"expected points of shape \(2, 3\)"),
        ({"points": POINTS.at[0, 1].set(jnp.nan)}, "expected points to be finite"),
        ({"context": jnp.zeros(3)}, r"expected context of shape \(2,\)"),
        ({"context": jnp.full(2, jnp.nan)}, "expected context to be finite"),
        ({"shift": jnp.full(2, jnp.nan)}, "expected shift to be finite"),
        ({"law": MultivariateNormalDiag(jnp.zeros(2), jnp.ones(2))}, "expected points of shape"),
        (
            {"atoms": tuple(Atom(each, 2, 8, key=KEY) for each in PINNED[::-1])},
            "expected each atom to pin what the next one pins",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(change, message):
    law, atoms = networks()
    usual = {"law": law, "atoms": atoms, "points": POINTS, "context": CONTEXT}
    with pytest.raises(ValueError, match=message):
        LawWithAtoms(**{**usual, "shift": jnp.zeros(2), **change})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((False, False), 1), "expected an atom to pin at least one component"),
        (((True,), -1), "expected context_dim"),
        (((True,), 1, 0), "expected hidden_size"),
        (((True,), 1, 4, 0), "expected depth"),
    ],
)
def test_an_atom_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Atom(*arguments, key=KEY)


def test_an_atom_may_be_certain_or_impossible():
    keys = jax.random.split(KEY, 500)
    assert (kinds_of(drawn(law_of(-NEVER, 0.0), keys)[0]) == 1).all()
    x, density, _ = drawn(law_of(NEVER, NEVER), keys)
    assert (kinds_of(x) == 3).all()
    np.testing.assert_allclose(density, log_probs(law_of().law, x), atol=5e-3)


def test_without_noise_the_likelier_kind_is_drawn():
    sure = law_of(5.0, 0.0).noiseless()
    np.testing.assert_array_equal(sure[1:], POINTS[0, 1:])
    free = law_of(-20.0, -20.0)
    np.testing.assert_array_equal(free.noiseless(), free.law.noiseless())


def test_slopes_are_finite():
    x = jnp.stack([POINTS[0].at[0].set(0.2), POINTS[1].at[:2].set(0.2), jnp.full(3, 0.2)])

    @eqx.filter_jit
    @eqx.filter_grad
    def slopes(law):
        return log_probs(law, x).sum()

    for shift in (0.0, -NEVER):
        found = jax.tree.leaves(slopes(law_of(shift, 0.0)))
        assert all(jnp.isfinite(leaf).all() for leaf in found)


class Resting(eqx.Module):
    """Two numbers, of which the second rests over a time d with the probability exp(-rate d).

    What moves has noise of variance d. So a rest over two steps is one over each of them.
    """

    rate: Float[Array, ""] | float

    def __call__(self, x, s, t, c):
        gap = t - s
        law = MultivariateNormalDiag(x, jnp.sqrt(gap) * jnp.ones(2))
        atom = Atom((False, True), 1, 4, key=KEY)
        log_p = -self.rate * gap
        shift = log_p - jnp.log(-jnp.expm1(log_p))
        return LawWithAtoms(law, (atom,), x[None], jnp.zeros(1), shift[None])


class RestingBridge(eqx.Module):
    """Rests if the end rests; else still at the start, already at the end, or between."""

    def __call__(self, x, y, s, m, t, c):
        r = (m - s) / (t - s)
        line = (1 - r) * x + r * y
        law = MultivariateNormalDiag(line, jnp.sqrt(r * (1 - r) * (t - s)) * jnp.ones(2))
        atoms = tuple(Atom((False, True), 1, 4, key=KEY) for _ in range(2))
        shift = jnp.stack([jnp.where(x[1] == y[1], -NEVER, 0.0), jnp.zeros(())])
        return LawWithAtoms(law, atoms, jnp.stack([x, y]), jnp.zeros(1), shift)


def test_consistency_losses_are_divergences_of_laws_with_atoms():
    """Finite in every row, and positive on average: all kinds of paths have a density in both."""
    times = jnp.array([0.0, 0.7, 1.5])
    one = lambda key: consistency_losses(  # noqa: E731
        Resting(0.5), RestingBridge(), jnp.array([0.3, -2.0]), *times, key=key
    )
    for loss in jax.jit(jax.vmap(one))(jax.random.split(KEY, 4000)):
        assert jnp.isfinite(loss).all()
        assert jnp.abs(loss).max() < 50.0
        assert loss.mean() > 5 * loss.std() / np.sqrt(len(loss))


class Mixed(eqx.Module):
    """Two short steps by one law, and the long step by another."""

    short: Resting
    long: Resting

    def __call__(self, x, s, t, c):
        both = self.long(x, s, t, c), self.short(x, s, t, c)
        return jax.tree.map(lambda long, short: jnp.where(t - s > 1.0, long, short), *both)


def test_distillation_is_least_for_the_law_of_two_steps():
    times = jnp.array([0.0, 0.7, 1.5])

    @jax.jit
    @jax.vmap
    def losses(rate):
        flow = Mixed(Resting(0.5), Resting(rate))
        one = lambda key: distillation_loss(flow, jnp.array([0.3, -2.0]), *times, key=key)  # noqa: E731
        return jax.vmap(one)(jax.random.split(KEY, 4000)).mean()

    rates = jnp.array([0.2, 0.5, 1.2])
    assert rates[jnp.argmin(losses(rates))] == 0.5
