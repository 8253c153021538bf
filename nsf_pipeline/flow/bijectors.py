"""Couplings: bijections that are the identity at elapsed time 0, and depart from it with time."""

from collections.abc import Callable, Sequence
from typing import Literal, final

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nsf_pipeline import checks
from nsf_pipeline.flow.distributions import Coupling, MultivariateNormalDiag
from nsf_pipeline.flow.splines import BOX, Spline, num_parameters

ScaleFunction = Literal["tanh_exp", "exp", "softplus"]
CouplingKind = Literal["affine", "spline"]
Activation = Callable[[Array], Array]
TANH_BOUND = 1.5
"""Bound of the log-scale of one `tanh_exp` coupling."""
MOST_BINS = 1_024
LOG_SCALE_BOUND = 4.0
"""Bound of the log-scale of one `exp` or `softplus` coupling, so that many fit in float32."""


@final
class Conditioner(eqx.Module):
    """A network that computes a coupling's parameters from a state and a context.

    The first layer is the sum of a linear map of each. The context's map does not depend on the
    state, so `vmap` over states computes it once. The last layer starts at zero, so that a new
    coupling is the identity.
    """

    context_layer: eqx.nn.Linear
    state_layer: eqx.nn.Linear
    hidden_layers: tuple[eqx.nn.Linear, ...]
    last_layer: eqx.nn.Linear
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        state_dim: int,
        context_dim: int,
        out_dim: int,
        hidden_size: int,
        depth: int,
        activation: Activation,
        *,
        key: PRNGKeyArray,
    ):
        keys = jax.random.split(key, depth + 2)
        self.context_layer = eqx.nn.Linear(context_dim, hidden_size, key=keys[0])
        self.state_layer = eqx.nn.Linear(state_dim, hidden_size, use_bias=False, key=keys[1])
        self.hidden_layers = tuple(
            eqx.nn.Linear(hidden_size, hidden_size, key=k) for k in keys[2 : depth + 1]
        )
        self.last_layer = zero_linear(hidden_size, out_dim, key=keys[-1])
        self.activation = activation

    def __call__(
        self, state: Float[Array, " dim"], context: Float[Array, " context"]
    ) -> Float[Array, " out"]:
        """Evaluate the network."""
        hidden = self.activation(self.state_layer(state) + self.context_layer(context))
        for layer in self.hidden_layers:
            hidden = self.activation(layer(hidden))
        return self.last_layer(hidden)


@final
class ContinuousAffineCoupling(eqx.Module):
    """An affine coupling whose strength is the elapsed time.

    For the components A that are kept and the components B that are moved,

        y_A = x_A,    y_B = x_B * exp(d * scale(x_A, c)) + d * shift(x_A, c)

    with the elapsed time d and the context c. At d = 0 it is exactly the identity. The scale is
    bounded:

    - `tanh_exp`: log-scale = b tanh(d * raw / b) with b = 1.5;
    - `exp`: log-scale = d * raw, clipped to [-4, 4];
    - `softplus`: scale = softplus(d * raw + 1) / softplus(1), its logarithm clipped to [-4, 4].

    Attributes:
        moved: which components are moved; in one dimension, the only one.
        seen: which of A the network gets.
    """

    conditioner: Conditioner
    moved: tuple[bool, ...] = eqx.field(static=True)
    seen: tuple[bool, ...] = eqx.field(static=True)
    scale_function: ScaleFunction = eqx.field(static=True)

    def __init__(
        self,
        moved: Sequence[bool],
        context_dim: int,
        hidden_size: int = 64,
        depth: int = 2,
        activation: Activation = jax.nn.silu,
        scale_function: ScaleFunction = "tanh_exp",
        *,
        groups: Sequence[int] | None = None,
        key: PRNGKeyArray,
    ):
        """Build a coupling; for `groups`, see `seen_by`.

        Raises:
            ValueError: no component is moved, the scale function is unknown, or components of
                several groups are moved.
        """
        check_coupling(moved, scale_function)
        dim = len(moved)
        self.conditioner = Conditioner(
            dim, context_dim, 2 * dim, hidden_size, depth, activation, key=key
        )
        self.moved = tuple(bool(component) for component in moved)
        self.seen = seen_by(self.moved, groups)
        self.scale_function = scale_function

    def forward(
        self,
        x: Float[Array, " dim"],
        delta: Float[Array, ""],
        context: Float[Array, " context"],
        base: MultivariateNormalDiag | None = None,
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """y, and the log-determinant of dy/dx; `base` is not used."""
        log_scale, shift = self._log_scale_and_shift(x, delta, context)
        return x * jnp.exp(log_scale) + shift, jnp.sum(log_scale)

    def inverse(
        self,
        y: Float[Array, " dim"],
        delta: Float[Array, ""],
        context: Float[Array, " context"],
        base: MultivariateNormalDiag | None = None,
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """x, and the log-determinant of dx/dy; `base` is not used."""
        log_scale, shift = self._log_scale_and_shift(y, delta, context)
        return (y - shift) * jnp.exp(-log_scale), -jnp.sum(log_scale)

    def _log_scale_and_shift(
        self, state: Array, delta: Array, context: Array
    ) -> tuple[Array, Array]:
        moved, seen = jnp.array(self.moved, state.dtype), jnp.array(self.seen, state.dtype)
        raw, shift = jnp.split(self.conditioner(state * seen, context), 2)
        log_scale = SCALE_FUNCTIONS[self.scale_function](delta * raw)
        return moved * log_scale, moved * (delta * shift)


@final
class ContinuousSplineCoupling(eqx.Module):
    """A rational-quadratic spline coupling, in coordinates standardised by the base law.

    With u = (x - loc) / scale, where loc and scale are the base law's mean and standard deviations,

        y_A = x_A,    y_B = x_B + scale_B * (v - u_B),
        v = T(u_B) * exp(log-scale) + shift(u_A, c).

    T is a monotone spline (`nsf_pipeline.flow.splines`). A network computes its parameters and the
    log-scale from (u_A, c); both are multiplied by sqrt(d), for the elapsed time d. The base law's
    scale is itself of order sqrt(d), so at d = 0 the coupling is exactly the identity.

    The resulting law can have any shape, in one dimension too. Noise that is correlated between
    components needs a shift of order one, at any d; `ContinuousAffineCoupling` would need one of
    order 1 / sqrt(d).

    Attributes:
        moved: which components are moved; in one dimension, the only one.
        seen: which of A the network gets.
        num_bins: pieces of the spline.
    """

    conditioner: Conditioner
    moved: tuple[bool, ...] = eqx.field(static=True)
    seen: tuple[bool, ...] = eqx.field(static=True)
    scale_function: ScaleFunction = eqx.field(static=True)
    num_bins: int = eqx.field(static=True)

    def __init__(
        self,
        moved: Sequence[bool],
        context_dim: int,
        hidden_size: int = 64,
        depth: int = 2,
        activation: Activation = jax.nn.silu,
        scale_function: ScaleFunction = "tanh_exp",
        num_bins: int = 8,
        *,
        groups: Sequence[int] | None = None,
        key: PRNGKeyArray,
    ):
        """Build a coupling; for `groups`, see `seen_by`.

        Raises:
            ValueError: no component is moved, the scale function is unknown, num_bins is no whole
                number from 1 to 1,024, or components of several groups are moved.
        """
        check_coupling(moved, scale_function)
        checks.whole("num_bins", num_bins, 1, MOST_BINS)
        out_dim = sum(moved) * (2 + num_parameters(num_bins))
        self.conditioner = Conditioner(
            len(moved), context_dim, out_dim, hidden_size, depth, activation, key=key
        )
        self.moved = tuple(bool(component) for component in moved)
        self.seen = seen_by(self.moved, groups)
        self.scale_function = scale_function
        self.num_bins = num_bins

    def forward(
        self,
        x: Float[Array, " dim"],
        delta: Float[Array, ""],
        context: Float[Array, " context"],
        base: MultivariateNormalDiag,
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """y, and the log-determinant of dy/dx."""
        u, width, log_scale, shift, spline = self._coordinates(x, delta, context, base)
        curved, log_slope = spline.forward(u)
        v = curved * jnp.exp(log_scale) + shift
        return x.at[self._moved_indices].add(width * (v - u)), jnp.sum(log_slope + log_scale)

    def inverse(
        self,
        y: Float[Array, " dim"],
        delta: Float[Array, ""],
        context: Float[Array, " context"],
        base: MultivariateNormalDiag,
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """x, and the log-determinant of dx/dy."""
        v, width, log_scale, shift, spline = self._coordinates(y, delta, context, base)
        u, log_slope = spline.inverse((v - shift) * jnp.exp(-log_scale))
        return y.at[self._moved_indices].add(width * (u - v)), jnp.sum(log_slope - log_scale)

    @property
    def _moved_indices(self) -> np.ndarray:
        return np.flatnonzero(self.moved)

    def _coordinates(
        self, state: Array, delta: Array, context: Array, base: MultivariateNormalDiag
    ) -> tuple[Array, Array, Array, Array, Spline]:
        """u_B, scale_B, log-scale, shift and spline."""
        positive = base.scale > 0.0
        noise = (state - base.loc) / jnp.where(positive, base.scale, 1.0)
        # Clipped, so that gradients stay finite for states far from the base law's mean.
        seen = jnp.clip(noise, -4.0 * BOX, 4.0 * BOX) * np.array(self.seen, np.float32)
        moved = self._moved_indices
        raw = self.conditioner(seen, context).reshape(len(moved), -1)
        strength = safe_sqrt(delta)
        log_scale = SCALE_FUNCTIONS[self.scale_function](strength * raw[:, 0])
        spline = Spline.of(strength * raw[:, 2:])
        return noise[moved], base.scale[moved], log_scale, raw[:, 1], spline


def _tanh_exp(raw: Array) -> Array:
    return TANH_BOUND * jnp.tanh(raw / TANH_BOUND)


def _exp(raw: Array) -> Array:
    return jnp.clip(raw, -LOG_SCALE_BOUND, LOG_SCALE_BOUND)


def _softplus(raw: Array) -> Array:
    # The lower bound keeps softplus from underflowing; `where` makes value and slope exact at 0.
    log_scale = jnp.log(jax.nn.softplus(jnp.maximum(raw, -8.0) + 1.0) / jax.nn.softplus(1.0))
    log_scale = jnp.clip(log_scale, -LOG_SCALE_BOUND, LOG_SCALE_BOUND)
    return jnp.where(raw == 0.0, raw * (jax.nn.sigmoid(1.0) / jax.nn.softplus(1.0)), log_scale)


SCALE_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "tanh_exp": _tanh_exp,
    "exp": _exp,
    "softplus": _softplus,
}


def check_coupling(moved: Sequence[bool], scale_function: str) -> None:
    """Refuse couplings that cannot be built.

    Raises:
        ValueError: no component is moved, or the scale function is unknown.
    """
    if not any(moved):
        raise ValueError("a coupling must move at least one component, got none")
    if scale_function not in SCALE_FUNCTIONS:
        raise ValueError(
            f"expected a scale function of {sorted(SCALE_FUNCTIONS)}, got {scale_function!r}"
        )


def seen_by(moved: Sequence[bool], groups: Sequence[int] | None) -> tuple[bool, ...]:
    """Which components the network of a coupling gets: all that it does not move.

    With groups, a number per component, it gets those of its own and of earlier groups only. The
    law of the first groups is then that of their own couplings, whatever the later ones do.

    Raises:
        ValueError: there is not one group per component, or components of several groups are moved.
    """
    if groups is None:
        return tuple(not component for component in moved)
    checks.require_shape("groups", np.shape(groups), (len(moved),))
    own = {group for group, component in zip(groups, moved, strict=True) if component}
    if len(own) != 1:
        raise ValueError(f"expected a coupling to move one group, got groups {sorted(own)}")
    latest = own.pop()
    return tuple(
        group <= latest and not component for group, component in zip(groups, moved, strict=True)
    )


def build_couplings(
    cycle: Sequence[Sequence[bool]],
    context_dim: int,
    depth: int,
    activation: Activation,
    scale_function: ScaleFunction,
    kind: str,
    num_bins: int,
    *,
    groups: Sequence[int] | None = None,
    keys: Sequence[PRNGKeyArray],
) -> tuple[Coupling, ...]:
    """One coupling per key; `cycle` holds their masks in order, and is repeated.

    The hidden layers are as wide as the context. For `groups`, see `seen_by`.

    Raises:
        ValueError: the kind is unknown, or a coupling cannot be built.
    """
    if kind not in ("affine", "spline"):
        raise ValueError(f"expected couplings 'affine' or 'spline', got {kind!r}")
    dims = {len(moved) for moved in cycle}
    if len(dims) > 1:
        raise ValueError(f"expected masks of one length, got lengths {sorted(dims)}")
    masks = [cycle[i % len(cycle)] for i in range(len(keys))]
    sizes = (context_dim, context_dim, depth, activation, scale_function)
    if kind == "affine":
        return tuple(
            ContinuousAffineCoupling(moved, *sizes, groups=groups, key=key)
            for moved, key in zip(masks, keys, strict=True)
        )
    return tuple(
        ContinuousSplineCoupling(moved, *sizes, num_bins, groups=groups, key=key)
        for moved, key in zip(masks, keys, strict=True)
    )


def alternating_halves(dim: int, count: int) -> tuple[tuple[bool, ...], ...]:
    """Which components each of `count` couplings moves: the second half, the first, and so on.

    In one dimension, every coupling moves the only component.
    """
    second = tuple(i >= dim // 2 for i in range(dim))
    first = tuple(not moved for moved in second) if dim > 1 else second
    return tuple(second if i % 2 == 0 else first for i in range(count))


def zero_linear(in_dim: int, out_dim: int, *, key: PRNGKeyArray) -> eqx.nn.Linear:
    """A linear layer that starts at zero."""
    layer = eqx.nn.Linear(in_dim, out_dim, key=key)
    return jax.tree.map(jnp.zeros_like, layer)


def safe_sqrt(x: Float[Array, ""]) -> Float[Array, ""]:
    """Square root whose derivative at 0 is 0 instead of infinite."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)
