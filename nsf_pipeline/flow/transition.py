"""The transition law p(x_t | x_s, s, t, c) as one pass of a conditional flow."""

from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nsf_pipeline import checks
from nsf_pipeline.flow.bijectors import (
    Activation,
    CouplingKind,
    ScaleFunction,
    alternating_halves,
    build_couplings,
    safe_sqrt,
    zero_linear,
)
from nsf_pipeline.flow.distributions import (
    ContinuousNormalizingFlow,
    Coupling,
    Given,
    MultivariateNormalDiag,
)
from nsf_pipeline.flow.guard import all_finite, finite, nan_unless, require_key, require_times

LARGEST, DEEPEST = 65_536, 1_024
"""The most numbers in a layer, and the most layers, of one network."""


@final
class ConditionalGaussianTransition(eqx.Module):
    """The base law: a Gaussian in the form of an Euler-Maruyama step.

    z = x_s + d * mu(c) + sqrt(d) * sigma(c) * noise, for the elapsed time d and the context c.

    Attributes:
        min_std: least sigma. It keeps densities bounded if a component does not move at all.
    """

    head: eqx.nn.Linear
    min_std: float | tuple[float, ...] = eqx.field(static=True)

    def __init__(
        self,
        state_dim: int,
        context_dim: int,
        min_std: float | tuple[float, ...] = 1e-3,
        *,
        key: PRNGKeyArray,
    ):
        self.head = zero_linear(context_dim, 2 * state_dim, key=key)
        self.min_std = min_std

    def __call__(
        self,
        x_init: Float[Array, " dim"],
        delta: Float[Array, ""],
        context: Float[Array, " context"],
    ) -> MultivariateNormalDiag:
        """The law of z after the time `delta`."""
        drift, std = drift_and_std(self.head(context), self.min_std)
        return MultivariateNormalDiag(x_init + delta * drift, safe_sqrt(delta) * std)


@final
class ConditionalNeuralStochasticFlow(eqx.Module):
    """The law of the state at a later time, given the state, both times and a condition.

    A Gaussian step is followed by couplings. All of them tend to the identity as t -> s, and at
    t = s the law is exactly a point mass at x_s (Neural Stochastic Flows, arXiv:2510.25769, with a
    condition). States, conditions and times should be of order one: the caller scales them.

    `affine` couplings are those of the paper; in one dimension the law stays Gaussian. `spline`
    couplings allow any shape, and correlated noise (`ContinuousSplineCoupling`).

    Attributes:
        state_dim: numbers in a state, at least 1.
        condition_dim: numbers in a condition; 0 if there is none.
        autonomous: whether the law depends on the two times only through t - s.
    """

    encoder: eqx.nn.MLP
    base: ConditionalGaussianTransition
    couplings: tuple[Coupling, ...]
    state_dim: int = eqx.field(static=True)
    condition_dim: int = eqx.field(static=True)
    autonomous: bool = eqx.field(static=True)

    def __init__(
        self,
        state_dim: int,
        condition_dim: int = 0,
        autonomous: bool = True,
        hidden_size: int = 64,
        depth: int = 2,
        num_flow_layers: int = 4,
        activation: Activation = jax.nn.silu,
        scale_function: ScaleFunction = "tanh_exp",
        min_std: float | tuple[float, ...] = 1e-3,
        moved: Sequence[Sequence[bool]] | None = None,
        coupling: CouplingKind = "affine",
        num_bins: int = 8,
        groups: Sequence[int] | None = None,
        *,
        key: PRNGKeyArray,
    ):
        """Build a flow.

        Args:
            state_dim: numbers in a state.
            condition_dim: numbers in a condition.
            autonomous: whether the law depends on the two times only through t - s.
            hidden_size: units per hidden layer.
            depth: hidden layers per network.
            num_flow_layers: couplings.
            activation: of the hidden layers.
            scale_function: of the couplings.
            min_std: least standard deviation of the base, per square root of time: one number, or
                one per component.
            moved: which components each coupling moves, repeated; alternating halves if None.
            coupling: affine or spline.
            num_bins: pieces of a spline.
            groups: of the components, a number each: a coupling of one group does not see later
                groups, so the law of the first groups does not depend on the later (`seen_by`).
            key: for the initial weights.

        Raises:
            ValueError: a size is out of range, a name is unknown, or a coupling moves several
                groups.
        """
        check_sizes(state_dim, condition_dim, hidden_size, depth, num_flow_layers)
        check_min_std(min_std, state_dim)
        require_key(key)
        encoder_key, base_key, *keys = jax.random.split(key, num_flow_layers + 2)
        times = 2 if autonomous else 3
        in_dim = state_dim + condition_dim + times
        self.encoder = build_encoder(in_dim, hidden_size, depth, activation, key=encoder_key)
        self.base = ConditionalGaussianTransition(state_dim, hidden_size, min_std, key=base_key)
        self.couplings = build_couplings(
            moved or alternating_halves(state_dim, 2),
            hidden_size,
            depth,
            activation,
            scale_function,
            coupling,
            num_bins,
            groups=groups,
            keys=keys,
        )
        self.state_dim = state_dim
        self.condition_dim = condition_dim
        self.autonomous = autonomous

    def __call__(
        self,
        x_init: Float[Given, " dim"],
        t_init: Float[Array, ""] | float,
        t_final: Float[Array, ""] | float,
        condition: Float[Given, " condition"] | None = None,
    ) -> ContinuousNormalizingFlow:
        """The law of the state at t_final >= t_init; NaN for traced arguments that mean nothing.

        Raises:
            ValueError: a shape is not what the flow was built for, times run backwards, or a number
                is not finite.
        """
        x_init = finite("x_init", x_init, (self.state_dim,))
        known = check_condition(condition, self.condition_dim)
        require_times(t_init=t_init, t_final=t_final)
        in_order = jnp.asarray(t_init <= t_final)
        is_meant = in_order & all_finite(x_init, known, jnp.asarray(t_final - t_init))
        return self.unguarded(nan_unless(is_meant, x_init), t_init, t_final, condition)

    def unguarded(
        self,
        x_init: Float[Given, " dim"],
        t_init: Float[Array, ""] | float,
        t_final: Float[Array, ""] | float,
        condition: Float[Given, " condition"] | None = None,
    ) -> ContinuousNormalizingFlow:
        """The same law, for code that has checked its arguments.

        What is added for `nan_unless` can change how a compiler rounds, for example in training.

        Raises:
            ValueError: the condition does not have the shape that the flow was built for.
        """
        condition = check_condition(condition, self.condition_dim)
        x_init = jnp.asarray(x_init, jnp.result_type(float))
        delta = jnp.asarray(t_final - t_init, x_init.dtype)
        times = [delta, safe_sqrt(delta)]
        if not self.autonomous:
            times.append(jnp.asarray(t_init, x_init.dtype))
        context = self.encoder(jnp.concatenate([x_init, condition, jnp.stack(times)]))
        return ContinuousNormalizingFlow(
            self.base(x_init, delta, context), self.couplings, delta, context
        )


def build_encoder(
    in_dim: int, hidden_size: int, depth: int, activation: Activation, *, key: PRNGKeyArray
) -> eqx.nn.MLP:
    """The network that computes the couplings' context from states, condition and times."""
    return eqx.nn.MLP(in_dim, hidden_size, hidden_size, depth - 1, activation, activation, key=key)


def check_sizes(
    state_dim: int, condition_dim: int, hidden_size: int, depth: int, num_flow_layers: int
) -> None:
    """Refuse sizes that no network can have.

    Raises:
        ValueError: a size is no whole number, too small or too large.
    """
    checks.whole("state_dim", state_dim, 1, LARGEST)
    checks.whole("condition_dim", condition_dim, 0, LARGEST)
    checks.whole("hidden_size", hidden_size, 1, LARGEST)
    checks.whole("depth", depth, 1, DEEPEST)
    checks.whole("num_flow_layers", num_flow_layers, 0, DEEPEST)


def check_min_std(min_std: float | tuple[float, ...], state_dim: int) -> None:
    """Refuse least standard deviations that are not positive.

    Raises:
        ValueError: they are not, or there is not one, or one per component.
    """
    found = checks.numbers("min_std", min_std, above=0.0, dtype=np.float32)
    if found.ndim:
        checks.require_shape("min_std", found.shape, (state_dim,))


def check_condition(condition: Given | None, condition_dim: int) -> Array:
    """The condition, or an empty array if the flow takes none.

    Raises:
        ValueError: the condition's shape is not what the flow was built for, or a number is not
            finite.
    """
    got = None if condition is None else np.shape(condition)
    if got != ((condition_dim,) if condition_dim else None):
        raise ValueError(
            f"expected condition={'None' if not condition_dim else f'an array ({condition_dim},)'}"
            f", got {'None' if got is None else f'an array {got}'}"
        )
    if condition is None:
        return jnp.zeros(0)
    return finite("condition", condition, (condition_dim,))


def drift_and_std(
    raw: Float[Array, " both"], min_std: float | tuple[float, ...]
) -> tuple[Array, Array]:
    """Split a head's output into a drift and a positive standard deviation."""
    drift, raw_std = jnp.split(raw, 2)
    return drift, jax.nn.softplus(raw_std) + jnp.array(min_std)
