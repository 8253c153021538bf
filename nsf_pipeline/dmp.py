"""Planar Dynamic Movement Primitives: a policy's parameters, and its desired path.

In the policy's own time u = t / duration in [0, 1], with the phase x(u) = exp(-a u):

    y'' = K (g + f(x) - y) - D y',        y(0) = start, y'(0) = 0
    f(x) = x * (sum_i psi_i(x) w_i) / (sum_i psi_i(x)) * s
    psi_i(x) = exp(-h_i (x - c_i)^2)

with stiffness K, damping D, goal g and weights w. The forcing's scale s is goal - start, coordinate
by coordinate, or a fixed length (Ijspeert et al. 2013, doi:10.1162/NECO_a_00393). K multiplies the
forcing as in Pastor et al. 2009, so that a weight displaces the attractor by a length that does not
depend on the stiffness.

The attractor g + f is approximated as linear between the integration's knots; each step from knot
to knot is then exact. The functions take NumPy or JAX arrays, of one policy or any number of them.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from nsf_pipeline import checks
from nsf_pipeline.config import DMPConfig
from nsf_pipeline.timing import CONTROL_DT

Array = Any  # NumPy's or JAX's: this module must run without JAX
Scan = Callable[..., Any]  # with the signature of `jax.lax.scan`
FIXED_SCALE = 256.0
"""px; the forcing's scale if it is not goal - start."""

LIMITS: dict[str, dict[str, Any]] = {
    "duration": {"above": 0.0},
    "stiffness": {"above": 0.0},
    "damping": {"least": 0.0},
    "action_noise_std": {"least": 0.0},
}
"""Limits of a policy's parameters."""


class DMPParams(NamedTuple):
    """Parameters of one policy, or of many with leading axes.

    Attributes:
        duration: (...) s.
        start: (..., 2) px.
        goal: (..., 2) px.
        weights: (..., 2, n_basis), in units of the forcing's scale.
        stiffness: (...) K, in 1 / duration^2.
        damping: (...) D, in 1 / duration.
        action_noise_std: (...) px; standard deviation of the noise that its targets get when it is
            executed. The desired path does not depend on it.
    """

    duration: Array
    start: Array
    goal: Array
    weights: Array
    stiffness: Array
    damping: Array
    action_noise_std: Array

    def as_vector(self, xp: Any = np) -> Array:
        """Packed in the order of the attributes, the weights row by row: (..., `condition_dim`)."""
        *axes, _, n_basis = self.weights.shape
        parts = [
            xp.reshape(xp.asarray(value), (*axes, math.prod(shape)))
            for value, shape in zip(self, _shapes(n_basis), strict=True)
        ]
        return xp.concatenate(parts, axis=-1)

    def require_meaning(self) -> None:
        """Check parameters that are known: those traced by a compiler of JAX pass.

        Raises:
            ValueError: a number is not finite, a duration or stiffness not positive, a damping or
                noise negative, or the shapes do not belong together.
        """
        shape = np.shape(self.weights)
        checks.require_shape("weights", shape, (..., 2, None))
        *axes, _, n_basis = shape
        for name, values, own in zip(self._fields, self, _shapes(n_basis), strict=True):
            if checks.is_traced(values):
                checks.require_shape(name, values.shape, (*axes, *own))
            else:
                checks.numbers(name, values, (*axes, *own), **LIMITS.get(name, {}))

    def in_range(self) -> Array:
        """(...) whether duration and stiffness are positive, damping and noise not negative."""
        is_positive = (self.duration > 0.0) & (self.stiffness > 0.0)
        return is_positive & (self.damping >= 0.0) & (self.action_noise_std >= 0.0)

    @classmethod
    def from_vector(cls, vector: Array) -> "DMPParams":
        """The inverse of `as_vector`; the number of basis functions follows from the length.

        Raises:
            ValueError: no whole number of basis functions fits the length.
        """
        checks.require_shape("a DMP vector", np.shape(vector), (..., None))
        *axes, length = vector.shape
        n_basis, rest = divmod(length - condition_dim(0), 2)
        if n_basis < 1 or rest:
            raise ValueError(
                f"a DMP vector has {condition_dim(0)} + 2 n_basis numbers, got {length}: "
                + ", ".join(cls._fields)
            )
        parts, first = [], 0
        for shape in _shapes(n_basis):
            stop = first + math.prod(shape)
            parts.append(vector[..., first:stop].reshape((*axes, *shape)))
            first = stop
        return cls(*parts)


def _shapes(n_basis: int) -> DMPParams:
    """The shape of each parameter of one policy."""
    return DMPParams(
        duration=(),
        start=(2,),
        goal=(2,),
        weights=(2, n_basis),
        stiffness=(),
        damping=(),
        action_noise_std=(),
    )


def condition_dim(n_basis: int) -> int:
    """How many numbers `DMPParams.as_vector` packs."""
    return sum(map(math.prod, _shapes(n_basis)))


class Path(NamedTuple):
    """A desired path at the integration's knots, evenly spaced in time.

    Attributes:
        duration: (...) s.
        position: (..., knots, 2) px, not yet clipped to the workspace.
        velocity: (..., knots, 2) px per duration.
    """

    duration: Array
    position: Array
    velocity: Array


def basis(config: DMPConfig) -> tuple[np.ndarray, np.ndarray]:
    """Centres and widths in phase space, each (n_basis).

    Centres are evenly spaced in time, so exponentially in phase. Neighbouring functions cross at
    the value exp(-1/2).
    """
    centres = np.exp(-config.phase_decay * np.linspace(0.0, 1.0, config.n_basis))
    gaps = -np.diff(centres)
    widths = 2.0 / np.append(gaps, gaps[-1]) ** 2
    return centres, widths


def phase_and_activations(config: DMPConfig, time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The phase x (n) and the basis functions psi (n, n_basis) at times (n), in durations."""
    centres, widths = basis(config)
    phase = np.exp(-config.phase_decay * time)
    return phase, np.exp(-widths * (phase[:, None] - centres) ** 2)


def forcing(params: DMPParams, config: DMPConfig, xp: Any = np) -> Array:
    """f at the knots, (..., knots, 2) px."""
    time = np.linspace(0.0, 1.0, config.integration_steps + 1)
    phase, psi = phase_and_activations(config, time)
    # The phase and the basis are the same for all policies, so one product serves all.
    table = phase[:, None] * psi / psi.sum(axis=1, keepdims=True)
    shape = xp.moveaxis(params.weights @ xp.asarray(table.T, params.weights.dtype), -1, -2)
    if config.scale_forcing_by_goal_delta:
        return shape * (params.goal - params.start)[..., None, :]
    return shape * FIXED_SCALE


def integrate(
    params: DMPParams,
    config: DMPConfig,
    xp: Any = np,
    scan: Scan | None = None,
    *,
    guard: bool = True,
) -> Path:
    """Desired paths of one policy or many, as one array computation.

    Args:
        params: the policies.
        config: settings that they share.
        xp: `numpy` or `jax.numpy`.
        scan: the loop over knots: `jax.lax.scan` for JAX, a plain loop if None.
        guard: as for `follow`.

    Raises:
        ValueError: as for `DMPParams.require_meaning`, or the number of basis functions is not that
            of the settings.
    """
    params.require_meaning()
    checks.require_shape("weights", params.weights.shape, (..., 2, config.n_basis))
    attractor = params.goal[..., None, :] + forcing(params, config, xp)
    position, velocity = follow(
        xp.moveaxis(attractor, -2, 0),
        params.start,
        xp.zeros_like(params.start),
        params.stiffness,
        params.damping,
        1.0 / config.integration_steps,
        xp,
        scan,
        guard=guard,
    )
    return Path(params.duration, xp.moveaxis(position, 0, -2), xp.moveaxis(velocity, 0, -2))


def evaluate(
    path: Path, times: Array, config: DMPConfig, xp: Any = np, *, guard: bool = True
) -> Array:
    """Desired positions (..., P, 2) px at times (..., P) s, clipped to the workspace.

    Before the start it is the path's first point, after the end its last. `guard` is as for
    `follow`, for times that are not finite and durations that are not positive.

    Raises:
        ValueError: a number is not finite, or a duration not positive.
    """
    _require_known("duration", path.duration, above=0.0)
    _require_known("times", times)
    last = path.position.shape[-2] - 1
    knot = xp.clip(times / path.duration[..., None], 0.0, 1.0) * last
    lower = xp.clip(xp.floor(knot).astype(np.int32), 0, last - 1)
    u = (knot - lower)[..., None]
    y0, y1, v0, v1 = (
        xp.take_along_axis(values, index[..., None], axis=-2)
        for values in (path.position, path.velocity / last)
        for index in (lower, lower + 1)
    )
    # Cubic Hermite interpolation.
    hermite = (
        (1 + 2 * u) * (1 - u) ** 2 * y0
        + u**2 * (3 - 2 * u) * y1
        + u * (1 - u) ** 2 * v0
        - u**2 * (1 - u) * v1
    )
    desired = xp.clip(hermite, *config.workspace)
    if guard and checks.is_traced([path.duration, times]):
        is_meant = xp.isfinite(times) & (path.duration > 0.0)[..., None]
        desired = xp.where(is_meant[..., None], desired, xp.nan)
    return desired


def targets(params: DMPParams, config: DMPConfig, steps: int) -> np.ndarray:
    """(..., steps, 2) px: each control step's target is where the DMP wants to be when it ends.

    Args:
        params: the policies.
        config: settings that they share.
        steps: how many control steps; after a policy's end, its last point is held.

    Raises:
        ValueError: as for `integrate`.
    """
    times = CONTROL_DT * np.arange(1, steps + 1)
    path = integrate(params, config)
    return evaluate(path, np.broadcast_to(times, (*np.shape(params.duration), steps)), config)


def follow(
    attractor: Array,
    position: Array,
    velocity: Array,
    stiffness: Array,
    damping: Array,
    step: Array,
    xp: Any = np,
    scan: Scan | None = None,
    *,
    guard: bool = True,
) -> tuple[Array, Array]:
    """Solve y'' = K (r - y) - D y' for an attractor r that is linear between knots.

    Args:
        attractor: (knots, ..., 2) r.
        position: (..., 2) y at the first knot.
        velocity: (..., 2) y' there.
        stiffness: (...) K > 0.
        damping: (...) D.
        step: (...) time from knot to knot.
        xp: `numpy` or `jax.numpy`.
        scan: as for `integrate`.
        guard: whether numbers that are traced by a compiler of JAX, and so cannot be refused, give
            NaN where they are out of range. What is added for it can change how a compiler rounds.

    Returns:
        y and y' at every knot, each (knots, ..., 2).

    Raises:
        ValueError: a number is not finite, a stiffness or step not positive, or a damping negative.
    """
    for name, values in (("attractor", attractor), ("position", position), ("velocity", velocity)):
        _require_known(name, values)
    _require_known("stiffness", stiffness, above=0.0)
    _require_known("damping", damping, least=0.0)
    _require_known("step", step, above=0.0)
    stiffness, damping, step = (
        xp.asarray(value)[..., None] for value in (stiffness, damping, step)
    )
    if guard and checks.is_traced([stiffness, damping, step]):
        is_meant = (stiffness > 0.0) & (damping >= 0.0) & (step > 0.0)
        position, velocity = (xp.where(is_meant, each, xp.nan) for each in (position, velocity))
    (yy, yv), (vy, vv) = _propagator(stiffness, damping, step, xp)
    # Where r is linear, y = r - (D / K) r', y' = r' solves the equation. The difference from it
    # decays by the propagator P, so z = (y, y') obeys z_(k+1) = P z_k + u_k. `changes` are the u_k.
    slope = (attractor[1:] - attractor[:-1]) / step
    lag = damping / stiffness * slope
    start, end = attractor[:-1] - lag, attractor[1:] - lag
    changes = (end - yy * start - yv * slope, slope - vy * start - vv * slope)

    def advance(state: tuple[Array, Array], change: tuple[Array, Array]) -> tuple[Any, Any]:
        (y, v), (dy, dv) = state, change
        state = (yy * y + yv * v + dy, vy * y + vv * v + dv)
        return state, state

    _, (ys, vs) = (scan or _loop)(advance, (position, velocity), changes)
    return xp.concatenate([position[None], ys]), xp.concatenate([velocity[None], vs])


def _require_known(name: str, values: Array, **limits: Any) -> None:
    """Check numbers that are known; traced ones pass."""
    if not checks.is_traced(values):
        checks.numbers(name, values, **limits)


def _loop(step: Callable[..., Any], state: Any, inputs: tuple[np.ndarray, ...]) -> tuple[Any, Any]:
    """`jax.lax.scan` for NumPy arrays."""
    outputs = []
    for values in zip(*inputs, strict=True):
        state, output = step(state, values)
        outputs.append(output)
    return state, tuple(map(np.stack, zip(*outputs, strict=True)))


def _propagator(stiffness: Array, damping: Array, step: Array, xp: Any) -> tuple[Any, Any]:
    """exp(A h) for A = [[0, 1], [-K, -D]], below, at and above critical damping.

    It is e^(-a h) (c I + s (A + a I)) with a = D / 2, q^2 = a^2 - K, c = cosh(q h) and
    s = sinh(q h) / q. Above critical damping, e^(q h) is moved from c and s into the factor before
    them, so that nothing overflows.
    """
    half = damping / 2
    square = (half**2 - stiffness) * step**2
    root = xp.sqrt(xp.maximum(xp.abs(square), 1e-12))
    critical = xp.abs(square) < 1e-6
    over = (square > 0) & ~critical
    c = xp.where(
        critical, 1 + square / 2, xp.where(over, (1 + xp.exp(-2 * root)) / 2, xp.cos(root))
    )
    s = xp.where(over, -xp.expm1(-2 * root) / 2, xp.sin(root)) / root
    s = xp.where(critical, 1 + square / 6, s) * step
    decay = xp.exp(xp.where(over, root, 0) - half * step)
    return (
        (decay * (c + s * half), decay * s),
        (-decay * s * stiffness, decay * (c - s * half)),
    )
