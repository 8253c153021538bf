"""Bijections that grow out of the identity as time passes."""

from collections.abc import Callable, Sequence
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nsf_pipeline.flow.distributions import Coupling, MultivariateNormalDiag
from nsf_pipeline.flow.splines import BOX, Spline, num_parameters

ScaleFunction = Literal["tanh_exp", "exp", "softplus"]
CouplingKind = Literal["affine", "spline"]
Activation = Callable[[Array], Array]
TANH_BOUND = 1.5
"""Bound of the log-scale of one `tanh_exp` coupling."""
LOG_SCALE_BOUND = 4.0
"""Bound of the log-scale of one `exp` or `softplus` coupling, so that many fit in float32."""


class Conditioner(eqx.Module):
    """A network of a state and a context, whose first layer adds up both.

    The context's share of the first layer does not depend on the state: `vmap` over states leaves
    it a single product. The last layer starts at zero, so that a new coupling is the identity.
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


class ContinuousAffineCoupling(eqx.Module):
    """An affine coupling whose strength is the elapsed time.

    With A the components kept and B those moved,

        y_A = x_A,    y_B = x_B * exp(d * scale(x_A, c)) + d * shift(x_A, c)

    for the time d and the context c: the identity, exactly, at d = 0. The scale is bounded:

    - `tanh_exp`: log-scale = b tanh(d * raw / b) with b = 1.5;
    - `exp`: log-scale = d * raw, held within [-4, 4];
    - `softplus`: scale = softplus(d * raw + 1) / softplus(1), its logarithm within [-4, 4].

    Attributes:
        moved: which components are moved, fixed; all of them where there is nothing to keep.
    """

    conditioner: Conditioner
    moved: tuple[bool, ...] = eqx.field(static=True)
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
        key: PRNGKeyArray,
    ):
        """Build a coupling.

        Raises:
            ValueError: no component is moved, or the scale function is unknown.
        """
        check_coupling(moved, scale_function)
        dim = len(moved)
        self.conditioner = Conditioner(
            dim, context_dim, 2 * dim, hidden_size, depth, activation, key=key
        )
        self.moved = tuple(bool(component) for component in moved)
        self.scale_function = scale_function

    def forward(
        self,
        x: Float[Array, " dim"],
        delta: Float[Array, ""],
        context: Float[Array, " context"],
        base: MultivariateNormalDiag | None = None,
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """y, and the log-determinant of dy/dx; `base` plays no part."""
        log_scale, shift = self._log_scale_and_shift(x, delta, context)
        return x * jnp.exp(log_scale) + shift, jnp.sum(log_scale)

    def inverse(
        self,
        y: Float[Array, " dim"],
        delta: Float[Array, ""],
        context: Float[Array, " context"],
        base: MultivariateNormalDiag | None = None,
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """x, and the log-determinant of dx/dy; `base` plays no part."""
        log_scale, shift = self._log_scale_and_shift(y, delta, context)
        return (y - shift) * jnp.exp(-log_scale), -jnp.sum(log_scale)

    def _log_scale_and_shift(
        self, state: Array, delta: Array, context: Array
    ) -> tuple[Array, Array]:
        moved = jnp.array(self.moved, state.dtype)
        kept_state = state * (1.0 - moved)
        raw, shift = jnp.split(self.conditioner(kept_state, context), 2)
        log_scale = SCALE_FUNCTIONS[self.scale_function](delta * raw)
        return moved * log_scale, moved * (delta * shift)


class ContinuousSplineCoupling(eqx.Module):
    """A monotone rational-quadratic coupling in the coordinates of the base law's noise.

    With u = (x - loc) / scale for a base law of that mean and those standard deviations,

        y_A = x_A,    y_B = x_B + scale_B * (v - u_B),
        v = T(u_B) * exp(log-scale) + shift(u_A, c),

    where T is a spline (`nsf_pipeline.flow.splines`), and its parameters and the log-scale, which
    depend on (u_A, c), are of strength sqrt(d). The scale of a step is itself of order sqrt(d): the
    identity, exactly, where it is 0.

    It makes laws of any shape, also in one dimension, where there is nothing to keep. And noise
    that is correlated between components is a shift of order one here, whatever the time, where
    `ContinuousAffineCoupling` would need one of order 1 / sqrt(d).

    Attributes:
        moved: which components are moved, fixed; all of them where there is nothing to keep.
        num_bins: pieces of the spline.
    """

    conditioner: Conditioner
    moved: tuple[bool, ...] = eqx.field(static=True)
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
        key: PRNGKeyArray,
    ):
        """Build a coupling.

        Raises:
            ValueError: no component is moved, the scale function is unknown, or there is no bin.
        """
        check_coupling(moved, scale_function)
        if num_bins < 1:
            raise ValueError(f"expected num_bins of at least 1, got {num_bins}")
        out_dim = sum(moved) * (2 + num_parameters(num_bins))
        self.conditioner = Conditioner(
            len(moved), context_dim, out_dim, hidden_size, depth, activation, key=key
        )
        self.moved = tuple(bool(component) for component in moved)
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
        return x.at[self._places].add(width * (v - u)), jnp.sum(log_slope + log_scale)

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
        return y.at[self._places].add(width * (u - v)), jnp.sum(log_slope - log_scale)

    @property
    def _places(self) -> np.ndarray:
        return np.flatnonzero(self.moved)

    def _coordinates(
        self, state: Array, delta: Array, context: Array, base: MultivariateNormalDiag
    ) -> tuple[Array, Array, Array, Array, Spline]:
        """u_B, scale_B, log-scale, shift and spline."""
        positive = base.scale > 0.0
        noise = (state - base.loc) / jnp.where(positive, base.scale, 1.0)
        # Bounded, so that states far away leave slopes finite.
        kept = jnp.clip(noise, -4.0 * BOX, 4.0 * BOX) * (1.0 - np.array(self.moved, np.float32))
        places = self._places
        raw = self.conditioner(kept, context).reshape(len(places), -1)
        strength = safe_sqrt(delta)
        log_scale = SCALE_FUNCTIONS[self.scale_function](strength * raw[:, 0])
        spline = Spline.of(strength * raw[:, 2:])
        return noise[places], base.scale[places], log_scale, raw[:, 1], spline


def _tanh_exp(raw: Array) -> Array:
    return TANH_BOUND * jnp.tanh(raw / TANH_BOUND)


def _exp(raw: Array) -> Array:
    return jnp.clip(raw, -LOG_SCALE_BOUND, LOG_SCALE_BOUND)


def _softplus(raw: Array) -> Array:
    # Held from below before softplus underflows; `where` keeps value and slope exact at 0.
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


def build_couplings(
    cycle: Sequence[Sequence[bool]],
    context_dim: int,
    depth: int,
    activation: Activation,
    scale_function: ScaleFunction,
    kind: str,
    num_bins: int,
    *,
    keys: Sequence[PRNGKeyArray],
) -> tuple[Coupling, ...]:
    """Couplings as wide as their context, one per key, whose masks go round in a cycle.

    Raises:
        ValueError: the kind is unknown, or a coupling cannot be built.
    """
    if kind not in ("affine", "spline"):
        raise ValueError(f"expected couplings 'affine' or 'spline', got {kind!r}")
    masks = [cycle[i % len(cycle)] for i in range(len(keys))]
    sizes = (context_dim, context_dim, depth, activation, scale_function)
    if kind == "affine":
        return tuple(
            ContinuousAffineCoupling(moved, *sizes, key=key)
            for moved, key in zip(masks, keys, strict=True)
        )
    return tuple(
        ContinuousSplineCoupling(moved, *sizes, num_bins, key=key)
        for moved, key in zip(masks, keys, strict=True)
    )


def alternating_halves(dim: int, count: int) -> tuple[tuple[bool, ...], ...]:
    """Which components each of `count` couplings moves: the second half, the first, and so on.

    In one dimension every coupling moves it: there is nothing to keep.
    """
    second = tuple(i >= dim // 2 for i in range(dim))
    first = tuple(not moved for moved in second) if dim > 1 else second
    return tuple(second if i % 2 == 0 else first for i in range(count))


def zero_linear(in_dim: int, out_dim: int, *, key: PRNGKeyArray) -> eqx.nn.Linear:
    """A linear layer that starts at zero."""
    layer = eqx.nn.Linear(in_dim, out_dim, key=key)
    return jax.tree.map(jnp.zeros_like, layer)


def safe_sqrt(x: Float[Array, ""]) -> Float[Array, ""]:
    """Square root with slope 0, not infinity, at 0."""
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)
