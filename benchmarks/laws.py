"""Known transition laws: linear SDEs, geometric Brownian motion and a double well.

Starts are drawn as in training. Times are in the laws' own units, of order one.
"""

from collections.abc import Callable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.linalg import eigh_tridiagonal

from nsf_pipeline.data.transitions import TransitionBatch

TRAINED_GAPS = (0.1, 0.2, 0.4, 0.7, 1.0)
GAPS_BETWEEN = (0.15, 0.3, 0.55, 0.85)
GAPS = tuple(sorted(TRAINED_GAPS + GAPS_BETWEEN))


class Law(eqx.Module):
    """A Markov process whose transitions can be drawn and have a known density."""

    dim: int = eqx.field(static=True, default=1, kw_only=True)
    condition_dim: int = eqx.field(static=True, default=0, kw_only=True)

    def start(self, key: PRNGKeyArray) -> tuple[Array, Array | None]:
        """A start, and a condition where there is one."""
        return 1.5 * jax.random.normal(key, (self.dim,)), None

    def draw(
        self, key: PRNGKeyArray, x: Array, gap: Array, condition: Array | None
    ) -> Float[Array, " dim"]:
        """The state a gap later."""
        raise NotImplementedError

    def log_prob(self, y: Array, x: Array, gap: Array, condition: Array | None) -> Float[Array, ""]:
        """The log-density of that state, nats."""
        raise NotImplementedError

    def transitions(self, key: PRNGKeyArray, gaps: Float[Array, " n"]) -> TransitionBatch:
        """A transition over each gap, each from its own start."""

        def one(key: PRNGKeyArray, gap: Array) -> tuple[Array, Array, Array | None]:
            start_key, key = jax.random.split(key)
            x, condition = self.start(start_key)
            return x, self.draw(key, x, gap, condition), condition

        x, y, condition = jax.vmap(one)(jax.random.split(key, len(gaps)), gaps)
        return TransitionBatch(x, y, jnp.zeros_like(gaps), gaps, condition)

    def sample(self, key: PRNGKeyArray, batch_size: int) -> TransitionBatch:
        """What `fit` trains on: transitions over the trained gaps, all equally likely."""
        gap_key, key = jax.random.split(key)
        gaps = jax.random.choice(gap_key, jnp.array(TRAINED_GAPS), (batch_size,))
        return self.transitions(key, gaps)


class GaussianLaw(Law):
    """A law whose transitions are Gaussian."""

    def moments(self, x: Array, gap: Array, condition: Array | None) -> tuple[Array, Array]:
        """Mean, and a lower triangular root of the covariance."""
        raise NotImplementedError

    def draw(self, key: PRNGKeyArray, x: Array, gap: Array, condition: Array | None) -> Array:
        """The state a gap later."""
        mean, root = self.moments(x, gap, condition)
        return mean + root @ jax.random.normal(key, mean.shape)

    def log_prob(self, y: Array, x: Array, gap: Array, condition: Array | None) -> Array:
        """The log-density of that state, nats."""
        mean, root = self.moments(x, gap, condition)
        noise = jax.scipy.linalg.solve_triangular(root, y - mean, lower=True)
        log_root = jnp.log(jnp.diag(root))
        return -jnp.sum(0.5 * noise**2 + log_root + 0.5 * np.log(2.0 * np.pi))


class Brownian(GaussianLaw):
    """dX = 0.8 dt + 0.6 dW."""

    def moments(self, x: Array, gap: Array, condition: Array | None) -> tuple[Array, Array]:
        """Mean, and a root of the covariance."""
        return x + 0.8 * gap, 0.6 * jnp.sqrt(gap) * jnp.eye(1)


class OrnsteinUhlenbeck(GaussianLaw):
    """dX = 1.2 (0.5 - X) dt + 0.8 dW; as a family, rate and mean are the condition."""

    def start(self, key: PRNGKeyArray) -> tuple[Array, Array | None]:
        """A start; in the family a rate in [0.5, 2] and a mean in [-1, 1], scaled to [-1, 1]."""
        start_key, key = jax.random.split(key)
        x, _ = super().start(start_key)
        if not self.condition_dim:
            return x, None
        return x, jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)

    def moments(self, x: Array, gap: Array, condition: Array | None) -> tuple[Array, Array]:
        """Mean, and a root of the covariance."""
        rate, mean = jnp.array(1.2), jnp.array(0.5)
        if condition is not None:
            rate, mean = 1.25 + 0.75 * condition[0], condition[1]
        decay = jnp.exp(-rate * gap)
        variance = 0.8**2 * (1.0 - decay**2) / (2.0 * rate)
        return mean + (x - mean) * decay, jnp.sqrt(variance) * jnp.eye(1)


class Spiral(GaussianLaw):
    """dX = (-r I + w J) X dt + L dW in the plane, J a quarter turn: r = 0.8, w = 2.

    The noise is correlated: L L' = [[0.5, 0.3], [0.3, 0.3]], a correlation of 0.77. The isotropic
    part q of L L' decays at the rate 2 r; the other part also turns, at the rate 2 w.
    """

    def moments(self, x: Array, gap: Array, condition: Array | None) -> tuple[Array, Array]:
        """Mean, and a root of the covariance."""
        rate, turn, covariance = 0.8, 2.0, np.array([[0.5, 0.3], [0.3, 0.3]])
        angle = turn * gap
        rotation = jnp.array([[jnp.cos(angle), -jnp.sin(angle)], [jnp.sin(angle), jnp.cos(angle)]])
        mean = jnp.exp(-rate * gap) * rotation @ x
        q = 0.5 * np.trace(covariance)
        half = covariance[0, 0] - q + 1j * covariance[0, 1]
        even = q * (1.0 - jnp.exp(-2.0 * rate * gap)) / (2.0 * rate)
        power = -2.0 * rate + 2j * turn
        odd = half * (jnp.exp(power * gap) - 1.0) / power
        total = jnp.array([[even + odd.real, odd.imag], [odd.imag, even - odd.real]])
        return mean, jnp.linalg.cholesky(total)


class GeometricBrownian(Law):
    """dX = 0.3 X dt + 0.5 X dW."""

    def start(self, key: PRNGKeyArray) -> tuple[Array, Array | None]:
        """A start in [0.5, 2]."""
        return jax.random.uniform(key, (1,), minval=0.5, maxval=2.0), None

    def draw(self, key: PRNGKeyArray, x: Array, gap: Array, condition: Array | None) -> Array:
        """The state a gap later."""
        noise = jax.random.normal(key, (1,))
        return x * jnp.exp((0.3 - 0.5**2 / 2.0) * gap + 0.5 * jnp.sqrt(gap) * noise)

    def log_prob(self, y: Array, x: Array, gap: Array, condition: Array | None) -> Array:
        """The log-density of that state, nats."""
        std = 0.5 * jnp.sqrt(gap)
        noise = (jnp.log(y / x) - (0.3 - 0.5**2 / 2.0) * gap) / std
        return jnp.sum(-0.5 * noise**2 - jnp.log(std * y) - 0.5 * np.log(2.0 * np.pi))


class DoubleWell(Law):
    """dX = 2 (X - X^3) dt + 0.7 dW.

    Training sees paths of Euler and Maruyama's method, 1000 steps per unit of time. The truth is
    the Fokker-Planck equation on cells, with rates that keep detailed balance, solved at `GAPS` by
    its eigenvectors: exact up to the size of the cells, 0.005.
    """

    paths: Float[Array, "n gaps"]
    cells: Float[Array, " cells"]
    log_density: Float[Array, "gaps cells cells"]
    cumulative: Float[Array, "gaps cells edges"]

    def __init__(self, num_paths: int = 2**17, cell: float = 0.005):
        self.dim, self.condition_dim = 1, 0
        centres = np.arange(-3.0 + cell / 2.0, 3.0, cell)
        diffusion = 0.7**2 / 2.0
        potential = 2.0 * (centres**4 / 4.0 - centres**2 / 2.0) / diffusion
        rise = np.diff(potential)
        outflow = np.zeros_like(centres)
        outflow[:-1] += np.exp(-rise / 2.0)
        outflow[1:] += np.exp(rise / 2.0)
        unit = diffusion / cell**2
        values, vectors = eigh_tridiagonal(-unit * outflow, np.full(len(rise), unit))
        weight = np.exp(-potential / 2.0)
        tables = [
            np.clip((vectors * np.exp(values * gap)) @ vectors.T * weight / weight[:, None], 0, 1)
            for gap in GAPS
        ]
        shares = np.stack([table / table.sum(axis=1, keepdims=True) for table in tables])
        self.cells = jnp.asarray(centres, jnp.float32)
        self.log_density = jnp.asarray(np.log(np.maximum(shares / cell, 1e-30)), jnp.float32)
        edges = np.pad(shares.cumsum(axis=2), ((0, 0), (0, 0), (1, 0)))
        self.cumulative = jnp.asarray(edges, jnp.float32)
        self.paths = _double_well_paths(num_paths)

    def start(self, key: PRNGKeyArray) -> tuple[Array, Array | None]:
        """A start in [-2, 2], in the middle of a cell."""
        nearest = self._cell(jax.random.uniform(key, (1,), minval=-2.0, maxval=2.0))
        return self.cells[nearest][None], None

    def draw(self, key: PRNGKeyArray, x: Array, gap: Array, condition: Array | None) -> Array:
        """The state a gap of `GAPS` later."""
        edges = self.cumulative[self._gap(gap), self._cell(x)]
        share = jax.random.uniform(key)
        place = jnp.clip(jnp.searchsorted(edges, share, side="right") - 1, 0, len(self.cells) - 1)
        mass = jnp.maximum(edges[place + 1] - edges[place], 1e-12)
        within = jnp.clip((share - edges[place]) / mass, 0.0, 1.0) - 0.5
        return (self.cells[place] + within * (self.cells[1] - self.cells[0]))[None]

    def log_prob(self, y: Array, x: Array, gap: Array, condition: Array | None) -> Array:
        """The log-density of that state, nats."""
        return jnp.interp(y[0], self.cells, self.log_density[self._gap(gap), self._cell(x)])

    def sample(self, key: PRNGKeyArray, batch_size: int) -> TransitionBatch:
        """Transitions of the simulated paths over the trained gaps."""
        path_key, gap_key = jax.random.split(key)
        path = jax.random.randint(path_key, (batch_size,), 0, len(self.paths))
        gap = jax.random.randint(gap_key, (batch_size,), 0, len(TRAINED_GAPS))
        ends = self.paths[path, gap + 1]
        gaps = jnp.array(TRAINED_GAPS)[gap]
        return TransitionBatch(
            self.paths[path, :1], ends[:, None], jnp.zeros(batch_size), gaps, None
        )

    def _gap(self, gap: Array) -> Array:
        return jnp.argmin(jnp.abs(jnp.array(GAPS) - gap))

    def _cell(self, x: Array) -> Array:
        return jnp.argmin(jnp.abs(self.cells - x[0]))


def _double_well_paths(count: int, dt: float = 0.001) -> Float[Array, "n gaps"]:
    """States at time 0 and after the trained gaps."""
    start_key, key = jax.random.split(jax.random.key(2025))
    start = jax.random.uniform(start_key, (count,), minval=-2.0, maxval=2.0)

    @jax.jit
    def all_steps(start: Array) -> Array:
        def step(x: Array, index: Array) -> tuple[Array, Array]:
            noise = jax.random.normal(jax.random.fold_in(key, index), x.shape)
            x = x + dt * 2.0 * (x - x**3) + 0.7 * dt**0.5 * noise
            return x, x

        def leg(x: Array, steps: tuple[int, int]) -> Array:
            return jax.lax.scan(lambda x, i: (step(x, i)[0], None), x, jnp.arange(*steps))[0]

        states, done = [start], 0
        for gap in TRAINED_GAPS:
            until = round(gap / dt)
            states.append(leg(states[-1], (done, until)))
            done = until
        return jnp.stack(states, axis=1)

    return all_steps(start)


LAWS: dict[str, Callable[[], Law]] = {
    "Ornstein-Uhlenbeck": OrnsteinUhlenbeck,
    "Brownian motion with drift": Brownian,
    "correlated linear, 2-D": lambda: Spiral(dim=2),
    "Ornstein-Uhlenbeck family": lambda: OrnsteinUhlenbeck(condition_dim=2),
    "geometric Brownian motion": GeometricBrownian,
    "double well": DoubleWell,
}
