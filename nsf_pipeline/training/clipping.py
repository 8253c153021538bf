"""Clipping of gradients whose norm stands out from those before.

With the global norm n of a step's likelihood gradient and a ratio k, the gradient is shortened to

    k m,    where m <- b m + (1 - b) min(n, k m)    (b = 0.99)

is the running mean of the norms, each after its own clipping, so that one outlier moves m by
(1 - b)(k - 1) m at most. At the first step m is n. A fixed limit would fit one scale of the loss
only: norms change with units, batch size and the phase of training. (ZClip, arXiv:2504.02507, and
AutoClip, arXiv:2007.14469, rest on the same idea.)
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

DECAY = 0.99
"""b; the running mean goes back over about 100 steps."""


def reference(running: Float[Array, ""], norm: Float[Array, ""]) -> Float[Array, ""]:
    """m before this step: the running norm, or the step's own norm where there is none (0)."""
    return jnp.where(running > 0, running, jnp.where(jnp.isfinite(norm), norm, 0.0))


def updated(usual: Float[Array, ""], norm: Float[Array, ""], ratio: float) -> Float[Array, ""]:
    """m after this step; a norm that is not finite leaves it as it is."""
    changed = DECAY * usual + (1.0 - DECAY) * jnp.minimum(norm, ratio * usual)
    return jnp.where(jnp.isfinite(norm), changed, usual)


def shortened(gradients: PyTree, norm: Float[Array, ""], limit: Float[Array, ""] | float) -> PyTree:
    """Gradients of a global norm, scaled down to one of at most `limit`."""
    factor = jnp.minimum(1.0, limit / jnp.maximum(norm, 1e-12))
    # Gradients whose norm is not finite have no direction: they are replaced by 0.
    finite = jnp.isfinite(norm)
    return jax.tree.map(lambda g: jnp.where(finite, factor * g, 0.0), gradients)
