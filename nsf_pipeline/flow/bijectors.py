"""Bijections that grow out of the identity as time passes."""

from collections.abc import Callable, Sequence
from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

ScaleFunction = Literal["tanh_exp", "exp", "softplus"]
Activation = Callable[[Array], Array]
LOG_SCALE_BOUND = 1.5
"""Bound of the log-scale of one `tanh_exp` coupling."""


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
    - `exp`: log-scale = d * raw, held within [-8, 8];
    - `softplus`: scale = softplus(d * raw + 1) / softplus(1).

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
        if not any(moved):
            raise ValueError("a coupling must move at least one component, got none")
        if scale_function not in SCALE_FUNCTIONS:
            raise ValueError(
                f"expected a scale function of {sorted(SCALE_FUNCTIONS)}, got {scale_function!r}"
            )
        dim = len(moved)
        self.conditioner = Conditioner(
            dim, context_dim, 2 * dim, hidden_size, depth, activation, key=key
        )
        self.moved = tuple(bool(component) for component in moved)
        self.scale_function = scale_function

    def forward(
        self, x: Float[Array, " dim"], delta: Float[Array, ""], context: Float[Array, " context"]
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """y, and the log-determinant of dy/dx."""
        log_scale, shift = self._log_scale_and_shift(x, delta, context)
        return x * jnp.exp(log_scale) + shift, jnp.sum(log_scale)

    def inverse(
        self, y: Float[Array, " dim"], delta: Float[Array, ""], context: Float[Array, " context"]
    ) -> tuple[Float[Array, " dim"], Float[Array, ""]]:
        """x, and the log-determinant of dx/dy."""
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


def _tanh_exp(raw: Array) -> Array:
    return LOG_SCALE_BOUND * jnp.tanh(raw / LOG_SCALE_BOUND)


def _exp(raw: Array) -> Array:
    return jnp.clip(raw, -8.0, 8.0)


def _softplus(raw: Array) -> Array:
    # Held from below: softplus underflows. The double where keeps both value and slope exact at 0.
    log_scale = jnp.log(jax.nn.softplus(jnp.maximum(raw, -8.0) + 1.0) / jax.nn.softplus(1.0))
    return jnp.where(raw == 0.0, raw * (jax.nn.sigmoid(1.0) / jax.nn.softplus(1.0)), log_scale)


SCALE_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "tanh_exp": _tanh_exp,
    "exp": _exp,
    "softplus": _softplus,
}


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
