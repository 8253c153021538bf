"""Times between control steps, of which the data say nothing.

A control step is the shortest gap that the transition's networks ever see. Of a shorter one they
are shown the control step that lies ahead, and the law is a part of that step's: of its residuals
e, with the drift d that they start from,

    e' = a d + sqrt(b) (e - d),

where a is the share of the time, and b that of the noise. Drifts and variances of the parts of a
control step add up to its own, so that away from contact several short steps lead to about where
one leads; what couplings add on average counts as noise, and does not add up. No time leaves no
residual, exactly.
"""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from nsf_pipeline.flow import ContinuousNormalizingFlow
from nsf_pipeline.flow.bijectors import safe_sqrt

Scalar = Float[Array, ""]
State = Float[Array, " dim"]


class PartOfStep(eqx.Module):
    """The law of e', in terms of that of e.

    Attributes:
        whole: the law of e.
        shift: (a - sqrt(b)) d, which is 0 of a whole step.
        root: sqrt(b), which is 1 of a whole step.
    """

    whole: ContinuousNormalizingFlow
    shift: State
    root: Scalar

    @classmethod
    def of(cls, whole: ContinuousNormalizingFlow, share: Scalar, noise: Scalar) -> "PartOfStep":
        """A part with this share of the time, and this of the noise."""
        root = safe_sqrt(noise)
        return cls(whole, (share - root) * whole.base.loc, root)

    def sample(self, key: PRNGKeyArray) -> State:
        """One residual."""
        return self.root * self.whole.sample(key) + self.shift

    def log_prob(self, x: State) -> Scalar:
        """Log-density in nats."""
        return self.whole.log_prob((x - self.shift) / self.root) - len(x) * jnp.log(self.root)

    def sample_and_log_prob(self, key: PRNGKeyArray) -> tuple[State, Scalar]:
        """One residual and its log-density."""
        x, log_prob = self.whole.sample_and_log_prob(key)
        return self.root * x + self.shift, log_prob - len(x) * jnp.log(self.root)
