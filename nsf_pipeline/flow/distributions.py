"""Distributions with exact densities: one draw at a time, batched by `jax.vmap`."""

import abc
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


def require_known(
    name: str, values: Array, shape: tuple[int, ...] | None, least: float | None = None
) -> None:
    """Check the numbers of a law that are known; of traced ones, only the shape."""
    if checks.is_traced(values):
        checks.require_shape(name, values.shape, shape)
    else:
        checks.numbers(name, values, shape, least=least)


class LawOfNoise(eqx.Module):
    """The law of what an invertible map makes of independent standard Gaussian noise.

    The map also gives the logarithm of its derivative as one number per component, whose sum is the
    log-determinant. Where the first components of x depend on the first of the noise alone, the
    first of these numbers are the log-determinant of that part of the map. So they give the density
    of the first components alone (`log_densities`).
    """

    @abc.abstractmethod
    def from_noise(
        self, noise: Float[Array, " dim"]
    ) -> tuple[Float[Array, " dim"], Float[Array, " dim"]]:
        """x, and the log-derivatives of x with respect to the noise."""

    @abc.abstractmethod
    def to_noise(
        self, x: Float[Array, " dim"]
    ) -> tuple[Float[Array, " dim"], Float[Array, " dim"]]:
        """The noise, and the log-derivatives of x with respect to it, as in `from_noise`."""

    @property
    @abc.abstractmethod
    def no_noise(self) -> Float[Array, " dim"]:
        """Noise of 0."""

    def noise(self, key: PRNGKeyArray) -> Float[Array, " dim"]:
        """Noise to make a draw of."""
        require_key(key)
        zeros = self.no_noise
        return jax.random.normal(key, zeros.shape, zeros.dtype)

    @jittable
    def sample(self, key: PRNGKeyArray) -> Float[Array, " dim"]:
        """One draw."""
        return self.from_noise(self.noise(key))[0]

    @jittable
    def noiseless(self) -> Float[Array, " dim"]:
        """The draw for which the noise is 0; in general not the mean of the law."""
        return self.from_noise(self.no_noise)[0]

    @jittable
    def log_prob(self, x: Float[Given, " dim"]) -> Float[Array, ""]:
        """Log-density in nats, by the change of variables."""
        zeros = self.no_noise
        noise, log_slopes = self.to_noise(finite("x", x, zeros.shape, zeros.dtype))
        return log_densities(noise, log_slopes).sum()

    @jittable
    def sample_and_log_prob(
        self, key: PRNGKeyArray
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """One draw and its log-density, in one pass."""
        noise = self.noise(key)
        x, log_slopes = self.from_noise(noise)
        return x, log_densities(noise, log_slopes).sum()


def log_densities(
    noise: Float[Array, " dim"], log_slopes: Float[Array, " dim"]
) -> Float[Array, " dim"]:
    """Numbers whose sum is the log-density of a `LawOfNoise`, in nats.

    The sum of the first is the log-density of the first components alone, if these depend on the
    first of the noise alone.
    """
    return -(0.5 * noise**2 + log_slopes + 0.5 * np.log(2.0 * np.pi))


@final
class MultivariateNormalDiag(LawOfNoise):
    """A Gaussian with independent components.

    Attributes:
        loc: mean.
        scale: standard deviations; if they are 0, the law is a point mass and has no density.
    """

    loc: Float[Array, " dim"]
    scale: Float[Array, " dim"]

    def __check_init__(self) -> None:
        require_known("loc", self.loc, self.loc.shape)
        require_known("scale", self.scale, self.loc.shape, least=0.0)

    @property
    def no_noise(self) -> Float[Array, " dim"]:
        """Noise of 0."""
        return jnp.zeros_like(self.loc)

    def from_noise(
        self, noise: Float[Array, " dim"]
    ) -> tuple[Float[Array, " dim"], Float[Array, " dim"]]:
        """See `LawOfNoise.from_noise`."""
        return self.loc + self.scale * noise, jnp.log(self.scale)

    def to_noise(
        self, x: Float[Array, " dim"]
    ) -> tuple[Float[Array, " dim"], Float[Array, " dim"]]:
        """See `LawOfNoise.to_noise`."""
        return (x - self.loc) / self.scale, jnp.log(self.scale)


@final
class MultivariateNormalTri(LawOfNoise):
    """A Gaussian with correlated components.

    Attributes:
        loc: mean.
        factor: Cholesky factor L of the covariance L L^T: lower triangular, diagonal positive.
    """

    loc: Float[Array, " dim"]
    factor: Float[Array, "dim dim"]

    def __check_init__(self) -> None:
        require_known("loc", self.loc, self.loc.shape)
        require_known("factor", self.factor, self.loc.shape * 2)
        if not checks.is_traced(self.factor):
            require_known("factor's diagonal", jnp.diagonal(self.factor), None, least=0.0)

    @property
    def no_noise(self) -> Float[Array, " dim"]:
        """Noise of 0."""
        return jnp.zeros_like(self.loc)

    def from_noise(
        self, noise: Float[Array, " dim"]
    ) -> tuple[Float[Array, " dim"], Float[Array, " dim"]]:
        """See `LawOfNoise.from_noise`."""
        return self.loc + self.factor @ noise, jnp.log(jnp.diagonal(self.factor))

    def to_noise(
        self, x: Float[Array, " dim"]
    ) -> tuple[Float[Array, " dim"], Float[Array, " dim"]]:
        """See `LawOfNoise.to_noise`."""
        noise = jax.scipy.linalg.solve_triangular(self.factor, x - self.loc, lower=True)
        return noise, jnp.log(jnp.diagonal(self.factor))


@runtime_checkable
class Coupling(Protocol):
    """A bijection that is the identity at strength `delta` = 0.

    Attributes:
        moved: which components it moves.
    """

    moved: tuple[bool, ...]

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
class ContinuousNormalizingFlow(LawOfNoise):
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

    @property
    def no_noise(self) -> Float[Array, " dim"]:
        """Noise of 0."""
        return self.base.no_noise

    def from_noise(
        self, noise: Float[Array, " dim"]
    ) -> tuple[Float[Array, " dim"], Float[Array, " dim"]]:
        """See `LawOfNoise.from_noise`; one pass through the couplings."""
        x, log_slopes = self.base.from_noise(noise)
        for coupling in self.couplings:
            x, change = coupling.forward(x, self.delta, self.context, self.base)
            log_slopes += change * _shares(coupling)
        return x, log_slopes

    def to_noise(
        self, x: Float[Array, " dim"]
    ) -> tuple[Float[Array, " dim"], Float[Array, " dim"]]:
        """See `LawOfNoise.to_noise`; one pass through the couplings."""
        log_slopes = jnp.zeros_like(x)
        for coupling in reversed(self.couplings):
            x, change = coupling.inverse(x, self.delta, self.context, self.base)
            log_slopes -= change * _shares(coupling)
        noise, of_base = self.base.to_noise(x)
        return noise, of_base + log_slopes


def _shares(coupling: Coupling) -> np.ndarray:
    """Divides a coupling's log-determinant among the components that it moves."""
    moved = np.array(coupling.moved, np.float32)
    return moved / moved.sum()
