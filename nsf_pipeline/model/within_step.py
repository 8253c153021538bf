"""The law of a step shorter than a control step, as a part of a whole control step's law.

The data say nothing of times between control steps: a control step is the shortest gap that the
networks are trained on. For a shorter gap they are given the whole control step that lies ahead,
and the law is a part of that step's. With the whole step's residual e, whose law has the base drift
d, the residual of the part is

    e' = a d + sqrt(b) (e - d),

where a is the part's share of the time and b its share of the noise. Drifts and variances of the
parts of a control step add up to the whole step's. So, away from contact, several short steps lead
to about the law that one step leads to. (The mean shift of the couplings counts as noise here, and
does not add up.) In no time the residual is exactly 0.
"""

from typing import final

import jax.numpy as jnp
from jaxtyping import Array, Float

from nsf_pipeline.flow import ContinuousNormalizingFlow
from nsf_pipeline.flow.bijectors import safe_sqrt
from nsf_pipeline.flow.distributions import LawOfNoise

Scalar = Float[Array, ""]
State = Float[Array, " dim"]


@final
class PartOfStep(LawOfNoise):
    """The law of e', in terms of that of e.

    Attributes:
        whole: the law of e.
        shift: (a - sqrt(b)) d; 0 for a whole step.
        root: sqrt(b); 1 for a whole step.
    """

    whole: ContinuousNormalizingFlow
    shift: State
    root: Scalar

    @classmethod
    def of(cls, whole: ContinuousNormalizingFlow, share: Scalar, noise: Scalar) -> "PartOfStep":
        """The part with these shares of the time and of the noise."""
        root = safe_sqrt(noise)
        return cls(whole, (share - root) * whole.base.loc, root)

    @property
    def no_noise(self) -> State:
        """Noise of 0."""
        return self.whole.no_noise

    def from_noise(self, noise: State) -> tuple[State, State]:
        """See `LawOfNoise.from_noise`."""
        residual, log_slopes = self.whole.from_noise(noise)
        return self.root * residual + self.shift, log_slopes + jnp.log(self.root)

    def to_noise(self, x: State) -> tuple[State, State]:
        """See `LawOfNoise.to_noise`."""
        noise, log_slopes = self.whole.to_noise((x - self.shift) / self.root)
        return noise, log_slopes + jnp.log(self.root)
