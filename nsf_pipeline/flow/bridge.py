"""The bridge b(x_m | x_s, x_t): the law of the state in between, given both ends."""

from collections.abc import Sequence
from typing import final

import equinox as eqx
import jax
import jax.numpy as jnp
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
from nsf_pipeline.flow.transition import (
    build_encoder,
    check_condition,
    check_min_std,
    check_sizes,
    drift_and_std,
)


@final
class ConditionalAuxiliaryFlow(eqx.Module):
    """The auxiliary law of the flow-consistency losses.

    With r = (m - s) / (t - s) and a = r (1 - r), it is a Gaussian around the straight line,

        z = (1 - r) x_s + r x_t + a * mu(c) + sqrt(a (t - s)) * sigma(c) * noise,

    followed by couplings of strength a. It gives exactly x_s at r = 0 and x_t at r = 1.
    """

    encoder: eqx.nn.MLP
    head: eqx.nn.Linear
    couplings: tuple[Coupling, ...]
    state_dim: int = eqx.field(static=True)
    condition_dim: int = eqx.field(static=True)
    autonomous: bool = eqx.field(static=True)
    min_std: float = eqx.field(static=True)

    def __init__(
        self,
        state_dim: int,
        condition_dim: int = 0,
        autonomous: bool = True,
        hidden_size: int = 64,
        depth: int = 2,
        num_flow_layers: int = 2,
        activation: Activation = jax.nn.silu,
        scale_function: ScaleFunction = "tanh_exp",
        min_std: float = 1e-3,
        moved: Sequence[Sequence[bool]] | None = None,
        coupling: CouplingKind = "affine",
        num_bins: int = 8,
        groups: Sequence[int] | None = None,
        *,
        key: PRNGKeyArray,
    ):
        """Build a bridge; the arguments are those of `ConditionalNeuralStochasticFlow`."""
        check_sizes(state_dim, condition_dim, hidden_size, depth, num_flow_layers)
        check_min_std(min_std, state_dim)
        require_key(key)
        encoder_key, head_key, *keys = jax.random.split(key, num_flow_layers + 2)
        times = 2 if autonomous else 3
        in_dim = 2 * state_dim + condition_dim + times
        self.encoder = build_encoder(in_dim, hidden_size, depth, activation, key=encoder_key)
        self.head = zero_linear(hidden_size, 2 * state_dim, key=head_key)
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
        self.min_std = min_std

    def __call__(
        self,
        x_init: Float[Given, " dim"],
        x_final: Float[Given, " dim"],
        t_init: Float[Array, ""] | float,
        t_mid: Float[Array, ""] | float,
        t_final: Float[Array, ""] | float,
        condition: Float[Given, " condition"] | None = None,
    ) -> ContinuousNormalizingFlow:
        """The law of the state at t_mid, for t_init <= t_mid <= t_final and t_init < t_final.

        It is NaN for traced arguments that mean nothing.

        Raises:
            ValueError: a shape is not what the bridge was built for, times are not in this order,
                or a number is not finite.
        """
        x_init = finite("x_init", x_init, (self.state_dim,))
        x_final = finite("x_final", x_final, (self.state_dim,))
        known = check_condition(condition, self.condition_dim)
        require_times(t_init=t_init, t_mid=t_mid, t_final=t_final)
        if not checks.is_traced([t_init, t_final]):
            # Under `jax.jit` a difference of known times would be traced.
            start, end = checks.number("t_init", t_init), checks.number("t_final", t_final)
            checks.number("t_final - t_init", end - start, above=0.0)
        gap = jnp.asarray(t_final - t_init)
        is_meant = (gap > 0.0) & all_finite(x_init, x_final, known, gap)
        is_meant &= jnp.asarray(t_init <= t_mid) & jnp.asarray(t_mid <= t_final)
        x_init = nan_unless(is_meant, x_init)
        return self.unguarded(x_init, x_final, t_init, t_mid, t_final, condition)

    def unguarded(
        self,
        x_init: Float[Given, " dim"],
        x_final: Float[Given, " dim"],
        t_init: Float[Array, ""] | float,
        t_mid: Float[Array, ""] | float,
        t_final: Float[Array, ""] | float,
        condition: Float[Given, " condition"] | None = None,
    ) -> ContinuousNormalizingFlow:
        """The same law, for code that has checked its arguments.

        What is added for `nan_unless` can change how a compiler rounds, for example in training.

        Raises:
            ValueError: the condition does not have the shape that the bridge was built for.
        """
        condition = check_condition(condition, self.condition_dim)
        x_init, x_final = (jnp.asarray(x, jnp.result_type(float)) for x in (x_init, x_final))
        gap = jnp.asarray(t_final - t_init, x_init.dtype)
        r = jnp.asarray(t_mid - t_init, x_init.dtype) / gap
        strength = r * (1.0 - r)
        times = [r, gap]
        if not self.autonomous:
            times.append(jnp.asarray(t_init, x_init.dtype))
        context = self.encoder(jnp.concatenate([x_init, x_final, condition, jnp.stack(times)]))
        drift, std = drift_and_std(self.head(context), self.min_std)
        line = (1.0 - r) * x_init + r * x_final
        base = MultivariateNormalDiag(line + strength * drift, safe_sqrt(strength * gap) * std)
        return ContinuousNormalizingFlow(base, self.couplings, strength, context)
