"""A law some of whose numbers are the hyperbolic sines of others.

A block's velocity has heavy tails: where the agent overlaps it deeply, Chipmunk pushes it out with
thousands of px/s, where tens are usual. Its residual y is y = sinh(e), and the flow gives the law
of e: near 0 that is the same, and far from it a Gaussian e gives y the tails that it needs.

Beyond |e| = `LINEAR_FROM` y goes on along its tangent, so that no e that a network may give, for a
state far from those that it was trained on, overflows.
"""

from typing import final

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from nsf_pipeline.flow.distributions import LawOfNoise
from nsf_pipeline.model.nominal import State

LINEAR_FROM = 10.0
"""|e| beyond which y grows linearly; y is then 11,000 times the usual size of a residual."""


@final
class HeavyTailed(LawOfNoise):
    """The law of y, in terms of that of e.

    Attributes:
        law: of e.
        first: the numbers from this one on have y = sinh(e), those before y = e.
    """

    law: LawOfNoise
    first: int = eqx.field(static=True)

    @property
    def no_noise(self) -> State:
        """Noise of 0."""
        return self.law.no_noise

    def from_noise(self, noise: State) -> tuple[State, State]:
        """See `LawOfNoise.from_noise`."""
        e, log_slopes = self.law.from_noise(noise)
        return stretched(e, self.first), log_slopes + self._log_slopes(e)

    def to_noise(self, x: State) -> tuple[State, State]:
        """See `LawOfNoise.to_noise`."""
        e = compressed(x, self.first)
        noise, log_slopes = self.law.to_noise(e)
        return noise, log_slopes + self._log_slopes(e)

    def _log_slopes(self, e: State) -> State:
        """log cosh(e), and no more than where y grows linearly."""
        e = _bounded(e)
        return jnp.where(_from(e, self.first), jnp.logaddexp(e, -e) - np.log(2.0), 0.0)


def stretched(e: State, first: int) -> State:
    """y."""
    tails = e[first:]
    curved = _bounded(tails)
    return jnp.concatenate([e[:first], jnp.sinh(curved) + np.cosh(LINEAR_FROM) * (tails - curved)])


def compressed(y: State, first: int) -> State:
    """e, the inverse of `stretched`."""
    tails = y[first:]
    end = np.sinh(LINEAR_FROM)
    curved = jnp.clip(tails, -end, end)
    e = jnp.arcsinh(curved) + (tails - curved) / np.cosh(LINEAR_FROM)
    return jnp.concatenate([y[:first], e])


def _bounded(e: State) -> State:
    return jnp.clip(e, -LINEAR_FROM, LINEAR_FROM)


def _from(e: State, first: int) -> np.ndarray:
    return np.arange(len(e)) >= first
