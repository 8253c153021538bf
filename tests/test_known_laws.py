"""A flow trained on a known law recovers it; and the measures of the difference are right."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import mostly_thorough

from benchmarks.known_laws import Settings, divergence, ends, energy_test, train
from benchmarks.laws import (
    GAPS,
    DoubleWell,
    GeometricBrownian,
    OrnsteinUhlenbeck,
    Spiral,
)
from nsf_pipeline.flow import MultivariateNormalDiag

KEY = jax.random.key(0)


def worst_divergence(flow, law):
    found = {gap: divergence(flow, law, gap, draws=20_000) for gap in GAPS}
    assert all(value > -5 * error for value, error in found.values())
    return max(value for value, _ in found.values())


def test_ornstein_uhlenbeck_is_learnt_at_all_gaps_and_in_one_step_as_in_ten():
    law = OrnsteinUhlenbeck()
    flow = train(law, Settings("affine", 1, target=0.01, steps=1000, hidden_size=16))
    assert worst_divergence(flow, law) < 0.01
    start = jnp.array([-1.0])
    one, ten = (
        np.asarray(
            ends(flow, start, None, 1.0, steps, jax.random.split(jax.random.key(steps), 2000))
        )
        for steps in (1, 10)
    )
    assert energy_test(one, ten, permutations=199) > 0.01


@pytest.mark.parametrize(
    ("coupling", "learnt"), mostly_thorough([("spline", True), ("affine", False)], ("spline", True))
)
def test_geometric_brownian_motion_needs_a_spline(coupling, learnt):
    law = GeometricBrownian()
    settings = Settings(coupling, 1, target=0.02, steps=600, hidden_size=16, consistency=0.0)
    assert (worst_divergence(train(law, settings), law) < 0.02) == learnt


class Shifted(eqx.Module):
    """An Ornstein-Uhlenbeck law with its mean shifted."""

    law: OrnsteinUhlenbeck
    shift: float

    def __call__(self, x, s, t, condition):
        mean, root = self.law.moments(x, t - s, condition)
        return MultivariateNormalDiag(mean + self.shift * root[0], jnp.diag(root))


@pytest.mark.parametrize("shift", [0.0, 0.1, 0.7])
def test_divergence_is_that_of_shifted_gaussians(shift):
    law = OrnsteinUhlenbeck()
    value, error = divergence(Shifted(law, shift), law, 0.3, draws=20_000)
    assert abs(value - shift**2 / 2) < 5 * error + 1e-6
    assert error < 0.01


def test_energy_test_rejects_no_more_often_than_it_should_and_sees_a_shift():
    random = np.random.default_rng(0)

    def p_value(shift):
        x, y = random.normal(size=(2, 500, 2))
        return energy_test(x, y + shift, permutations=99)

    same = [p_value(0.0) for _ in range(20)]
    assert sum(p < 0.1 for p in same) <= 6
    assert np.ptp(same) > 0.3
    assert p_value(0.3) == 0.01


@pytest.mark.parametrize("law", [OrnsteinUhlenbeck(), Spiral(dim=2), GeometricBrownian()])
def test_known_laws_obey_chapman_and_kolmogorov(law):
    """Two steps of a known law equal one: its formulas agree for all gaps."""
    start, condition = law.start(KEY)

    @jax.jit
    @jax.vmap
    def both(key):
        one, two, three = jax.random.split(key, 3)
        middle = law.draw(one, start, jnp.array(0.3), condition)
        twice = law.draw(two, middle, jnp.array(0.5), condition)
        return twice, law.draw(three, start, jnp.array(0.8), condition)

    twice, once = both(jax.random.split(KEY, 100_000))
    for moment in (lambda x: x, lambda x: x**2, lambda x: x * x[:, ::-1]):
        gap = moment(np.asarray(twice)) - moment(np.asarray(once))
        assert (np.abs(gap.mean(axis=0)) < 5 * gap.std(axis=0) / np.sqrt(len(gap))).all()


@pytest.mark.thorough
def test_the_double_wells_density_is_that_of_its_paths():
    law = DoubleWell(num_paths=2**14, cell=0.01)
    batch = eqx.filter_jit(law.sample)(KEY, 4000)
    starts, gaps = np.asarray(batch.x_init), np.asarray(batch.t_final)
    draw = jax.jit(jax.vmap(lambda key, x, gap: law.draw(key, x, gap, None)))
    again = np.asarray(draw(jax.random.split(KEY, len(gaps)), batch.x_init, batch.t_final))
    for gap in np.unique(gaps):
        here = gaps == gap
        # Starts and ends are tested together, so that the ends are compared for equal starts.
        paths = np.concatenate([starts[here], np.asarray(batch.x_final)[here]], axis=1)
        drawn = np.concatenate([starts[here], again[here]], axis=1)
        assert energy_test(paths, drawn, permutations=199) > 0.01
    points = jnp.linspace(-3.0, 3.0, 3001)[:, None]
    density = jnp.exp(
        jax.vmap(lambda y: law.log_prob(y, jnp.array([0.3]), jnp.array(0.4), None))(points)
    )
    assert float(density.sum() * 0.002) == pytest.approx(1.0, abs=1e-3)
    # Two wells.
    peaks = (np.diff(np.sign(np.diff(np.asarray(density)))) < 0).sum()
    assert peaks >= 2
