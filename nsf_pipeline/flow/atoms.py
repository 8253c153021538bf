"""Laws with atoms: points that some components take exactly, with positive probability.

A continuous law gives no single point a positive probability. Where the components of a group may
take known values exactly, the law here says so: with a learnt probability they do, and otherwise
they follow a density. Its density is with respect to Lebesgue measure on the components that are
free, times the counting measure on the points that the others may take. So log-densities of states
with and without pinned components have different units, and only their sum over data means
something: it is still maximised by the true law.
"""

import itertools
from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from nsf_pipeline import checks
from nsf_pipeline.flow.bijectors import Activation, Conditioner
from nsf_pipeline.flow.distributions import (
    Given,
    LawOfNoise,
    jittable,
    log_densities,
    require_known,
)
from nsf_pipeline.flow.guard import finite, require_key
from nsf_pipeline.flow.splines import BOX
from nsf_pipeline.flow.transition import DEEPEST, LARGEST

LARGEST_LOGIT = 15.0
"""Bound of what a network says for or against an atom, so that a surprise costs a finite amount."""
NEVER = -1e30
"""The logarithm of a probability of 0, as a finite number: gradients stay finite."""


@final
class Atom(eqx.Module):
    """The network that tells how probable it is that some components take known values exactly.

    It gets a context and the noise of the free components: whether a collision happens depends on
    where the noise takes those who may collide.

    Attributes:
        network: gives a logit, at first 0.
        pinned: which components take known values.
    """

    network: Conditioner
    pinned: tuple[bool, ...] = eqx.field(static=True)

    def __init__(
        self,
        pinned: Sequence[bool],
        context_dim: int,
        hidden_size: int = 64,
        depth: int = 1,
        activation: Activation = jax.nn.silu,
        *,
        key: PRNGKeyArray,
    ):
        """Build one, with `depth` hidden layers.

        Raises:
            ValueError: no component is pinned, a size is out of range, or the key is no single key.
        """
        if not any(pinned):
            raise ValueError("expected an atom to pin at least one component, got none")
        checks.whole("context_dim", context_dim, 0, LARGEST)
        checks.whole("hidden_size", hidden_size, 1, LARGEST)
        checks.whole("depth", depth, 1, DEEPEST)
        require_key(key)
        self.network = Conditioner(
            len(pinned), context_dim, 1, hidden_size, depth, activation, key=key
        )
        self.pinned = tuple(bool(component) for component in pinned)

    @property
    def free(self) -> np.ndarray:
        """(dim) which components follow a density."""
        return ~np.array(self.pinned)

    def logit(
        self, noise: Float[Array, " dim"], context: Float[Array, " context"]
    ) -> Float[Array, ""]:
        """The logit of the probability."""
        seen = jnp.clip(noise, -4.0 * BOX, 4.0 * BOX) * self.free.astype(np.float32)
        return jnp.clip(self.network(seen, context)[0], -LARGEST_LOGIT, LARGEST_LOGIT)


@final
class LawWithAtoms(eqx.Module):
    """A law of noise whose components may be pinned to points.

    Atoms are tried in order, and the first that happens holds; if none does, all components are
    free. Atom i happens with the probability

        P_i = sigmoid(logit_i(noise, context) + shift_i).

    What an atom pins includes what the next one pins, and the law of the components that it leaves
    free must not depend on those that it pins, nor on their noise (`seen_by`).

    Numbers that are known when it is made are checked; of traced ones, only the shapes.

    Attributes:
        law: of the state, if no atom happens.
        atoms: in order.
        points: the values that each atom's components take; the others are not used.
        context: for the atoms' networks.
        shift: of the logits; `NEVER` or -`NEVER` rule the atom out, or make it certain.
    """

    law: LawOfNoise
    atoms: tuple[Atom, ...]
    points: Float[Array, "atoms dim"]
    context: Float[Array, " context"]
    shift: Float[Array, " atoms"]

    def __check_init__(self) -> None:
        dim = jax.eval_shape(lambda: self.law.no_noise).shape
        require_known("points", self.points, (len(self.atoms), *dim))
        require_known("shift", self.shift, (len(self.atoms),))
        for atom in self.atoms:
            checks.require_shape("an atom's pinned", np.shape(atom.pinned), dim)
            size = int(atom.network.context_layer.in_features)
            require_known("context", self.context, (size,))
        for atom, following in itertools.pairwise(self.atoms):
            if (atom.free & ~following.free).any():
                raise ValueError(
                    "expected each atom to pin what the next one pins, got "
                    f"{atom.pinned} and then {following.pinned}"
                )

    @jittable
    def sample(self, key: PRNGKeyArray) -> Float[Array, " dim"]:
        """One draw; pinned components are the points' bit for bit."""
        noise, happens = self._choices(key)
        return self._pinned(self.law.from_noise(noise)[0], happens)

    @jittable
    def noiseless(self) -> Float[Array, " dim"]:
        """The draw for which the noise is 0, with the first atom that is likelier than not."""
        noise = self.law.no_noise
        happens = [log_chance > np.log(0.5) for log_chance, _ in self._log_chances(noise)]
        return self._pinned(self.law.from_noise(noise)[0], happens)

    @jittable
    def log_prob(self, x: Float[Given, " dim"]) -> Float[Array, ""]:
        """Log-density in nats: that of the free components, times the atoms' probabilities.

        Components count as pinned where they equal an atom's point exactly.
        """
        like = self.law.no_noise
        x = finite("x", x, like.shape, like.dtype)
        noise, log_slopes = self.law.to_noise(x)
        happens = [
            ((x == point) | atom.free).all()
            for atom, point in zip(self.atoms, self.points, strict=True)
        ]
        return self._log_prob(noise, log_slopes, happens)

    @jittable
    def sample_and_log_prob(
        self, key: PRNGKeyArray
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """One draw and its log-density, in one pass."""
        noise, happens = self._choices(key)
        x, log_slopes = self.law.from_noise(noise)
        return self._pinned(x, happens), self._log_prob(noise, log_slopes, happens)

    def _choices(self, key: PRNGKeyArray) -> tuple[Array, list[Bool[Array, ""]]]:
        """Noise, and whether each atom would happen."""
        require_key(key)
        noise_key, key = jax.random.split(key)
        noise = self.law.noise(noise_key)
        uniform = jax.random.uniform(key, (len(self.atoms),))
        log_chances = self._log_chances(noise)
        return noise, [
            u < jnp.exp(log_p) for u, (log_p, _) in zip(uniform, log_chances, strict=True)
        ]

    def _log_chances(self, noise: Array) -> list[tuple[Array, Array]]:
        """Of each atom, log P and log(1 - P)."""
        found = []
        for atom, shift in zip(self.atoms, self.shift, strict=True):
            logit = atom.logit(noise, self.context) + shift
            found.append((jax.nn.log_sigmoid(logit), jax.nn.log_sigmoid(-logit)))
        return found

    def _log_prob(
        self, noise: Array, log_slopes: Array, happens: Sequence[Bool[Array, ""]]
    ) -> Float[Array, ""]:
        density = log_densities(noise, log_slopes)
        log_chances = self._log_chances(noise)
        result = density.sum()
        for atom, happened, (log_p, log_not) in reversed(
            list(zip(self.atoms, happens, log_chances, strict=True))
        ):
            pinned = log_p + jnp.where(atom.free, density, 0.0).sum()
            result = jnp.where(happened, pinned, log_not + result)
        return result

    def _pinned(self, x: Array, happens: Sequence[Bool[Array, ""]]) -> Array:
        # The first atom is applied last, over those after it.
        for atom, point, happened in reversed(
            list(zip(self.atoms, self.points, happens, strict=True))
        ):
            x = jnp.where(happened & ~atom.free, point, x)
        return x
