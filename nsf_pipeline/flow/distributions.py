"""Distributions with exact densities: one draw at a time, batched by `jax.vmap`."""

import functools
from collections.abc import Callable
from typing import Any, Protocol, final, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nsf_pipeline import checks
from nsf_pipeline.flow.guard import finite, require_key

Given = Array | np.ndarray


@final
class jittable:  # noqa: N801
    """Decorates a method so that `jax.jit` accepts it: Equinox's bound methods are not hashable."""

    def __init__(self, function: Callable[..., Any]):
        self.__doc__ = function.__doc__
        self.function = function

    def __get__(self, instance: Any, owner: type) -> Any:
        if instance is None:
            return self.function
        bound = functools.partial(self.function, instance)
        bound.__doc__ = self.__doc__
        return bound


@runtime_checkable
class Distribution(Protocol):
    """The methods of every distribution in this package."""

    def sample(self, key: PRNGKeyArray) -> Float[Array, " dim"]:
        """One draw."""
        ...

    def noiseless(self) -> Float[Array, " dim"]:
        """The draw for which all noise is 0: what is drawn from a standard Gaussian."""
        ...

    def log_prob(self, x: Float[Array, " dim"]) -> Float[Array, ""]:
        """Log-density in nats."""
        ...

    def sample_and_log_prob(
        self, key: PRNGKeyArray
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """One draw and its log-density, in one pass."""
        ...


def _require_known(
    name: str, values: Array, shape: tuple[int, ...] | None, least: float | None = None
) -> None:
    """Check the numbers of a law that are known; of traced ones, only the shape."""
    if checks.is_traced(values):
        checks.require_shape(name, values.shape, shape)
    else:
        checks.numbers(name, values, shape, least=least)


@final
class MultivariateNormalDiag(eqx.Module):
    """A Gaussian with independent components.

    Attributes:
        loc: mean.
        scale: standard deviations; if they are 0, the law is a point mass and has no density.
    """

    loc: Float[Array, " dim"]
    scale: Float[Array, " dim"]

    def __check_init__(self) -> None:
        _require_known("loc", self.loc, self.loc.shape)
        _require_known("scale", self.scale, self.loc.shape, least=0.0)

    @jittable
    def sample(self, key: PRNGKeyArray) -> Float[Array, " dim"]:
        """One draw."""
        require_key(key)
        return self._from_noise(self._noise(key))

    @jittable
    def noiseless(self) -> Float[Array, " dim"]:
        """The mean."""
        return self.loc

    @jittable
    def log_prob(self, x: Float[Given, " dim"]) -> Float[Array, ""]:
        """Log-density in nats."""
        x = finite("x", x, self.loc.shape, self.loc.dtype)
        return self._log_prob_of_noise((x - self.loc) / self.scale)

    @jittable
    def sample_and_log_prob(
        self, key: PRNGKeyArray
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """One draw and its log-density."""
        require_key(key)
        noise = self._noise(key)
        return self._from_noise(noise), self._log_prob_of_noise(noise)

    def _noise(self, key: PRNGKeyArray) -> Array:
        return jax.random.normal(key, self.loc.shape, self.loc.dtype)

    def _from_noise(self, noise: Array) -> Array:
        return self.loc + self.scale * noise

    def _log_prob_of_noise(self, noise: Array) -> Array:
        return -jnp.sum(0.5 * noise**2 + jnp.log(self.scale) + 0.5 * np.log(2.0 * np.pi))


@final
class MultivariateNormalTri(eqx.Module):
    """A Gaussian with correlated components.

    Attributes:
        loc: mean.
        factor: Cholesky factor L of the covariance L L^T: lower triangular, diagonal positive.
    """

    loc: Float[Array, " dim"]
    factor: Float[Array, "dim dim"]

    def __check_init__(self) -> None:
        _require_known("loc", self.loc, self.loc.shape)
        _require_known("factor", self.factor, self.loc.shape * 2)
        if not checks.is_traced(self.factor):
            _require_known("factor's diagonal", jnp.diagonal(self.factor), None, least=0.0)

    @jittable
    def sample(self, key: PRNGKeyArray) -> Float[Array, " dim"]:
        """One draw."""
        require_key(key)
        return self.loc + self.factor @ self._noise(key)

    @jittable
    def noiseless(self) -> Float[Array, " dim"]:
        """The mean."""
        return self.loc

    @jittable
    def log_prob(self, x: Float[Given, " dim"]) -> Float[Array, ""]:
        """Log-density in nats."""
        error = finite("x", x, self.loc.shape, self.loc.dtype) - self.loc
        return self._log_prob_of_noise(
            jax.scipy.linalg.solve_triangular(self.factor, error, lower=True)
        )

    @jittable
    def sample_and_log_prob(
        self, key: PRNGKeyArray
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """One draw and its log-density."""
        require_key(key)
        noise = self._noise(key)
        return self.loc + self.factor @ noise, self._log_prob_of_noise(noise)

    def _noise(self, key: PRNGKeyArray) -> Array:
        return jax.random.normal(key, self.loc.shape, self.loc.dtype)

    def _log_prob_of_noise(self, noise: Array) -> Array:
        log_scale = jnp.log(jnp.diagonal(self.factor))
        return -jnp.sum(0.5 * noise**2 + log_scale + 0.5 * np.log(2.0 * np.pi))


@runtime_checkable
class Coupling(Protocol):
    """A bijection that is the identity at strength `delta` = 0."""

    def forward(
        self,
        x: Float[Array, " dim"],
        delta: Float[Array, ""],
        context: Float[Array, " context"],
        base: MultivariateNormalDiag,
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """y, and the log-determinant of dy/dx."""
        ...

    def inverse(
        self,
        y: Float[Array, " dim"],
        delta: Float[Array, ""],
        context: Float[Array, " context"],
        base: MultivariateNormalDiag,
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """x, and the log-determinant of dx/dy."""
        ...


@final
class ContinuousNormalizingFlow(eqx.Module):
    """A base distribution pushed through couplings of strength `delta`.

    Attributes:
        base: the distribution that draws start from.
        couplings: applied in order.
        delta: strength of all couplings; at 0 they are the identity.
        context: input that the couplings' networks share.
    """

    base: MultivariateNormalDiag
    couplings: tuple[Coupling, ...]
    delta: Float[Array, ""]
    context: Float[Array, " context"]

    @jittable
    def sample(self, key: PRNGKeyArray) -> Float[Array, " dim"]:
        """One draw: one pass through the couplings."""
        require_key(key)
        return self._forward(self.base.sample(key))[0]

    @jittable
    def noiseless(self) -> Float[Array, " dim"]:
        """The draw that the base's mean becomes; not the mean of the law."""
        return self._forward(self.base.noiseless())[0]

    @jittable
    def log_prob(self, x: Float[Given, " dim"]) -> Float[Array, ""]:
        """Log-density in nats, by the change of variables."""
        x = finite("x", x, self.base.loc.shape, self.base.loc.dtype)
        log_det = jnp.zeros((), x.dtype)
        for coupling in reversed(self.couplings):
            x, change = coupling.inverse(x, self.delta, self.context, self.base)
            log_det += change
        return self.base.log_prob(x) + log_det

    @jittable
    def sample_and_log_prob(
        self, key: PRNGKeyArray
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """One draw and its log-density, in one pass."""
        z, log_prob = self.base.sample_and_log_prob(key)
        x, log_det = self._forward(z)
        return x, log_prob - log_det

    def _forward(self, x: Array) -> tuple[Array, Array]:
        log_det = jnp.zeros((), x.dtype)
        for coupling in self.couplings:
            x, change = coupling.forward(x, self.delta, self.context, self.base)
            log_det += change
        return x, log_det
