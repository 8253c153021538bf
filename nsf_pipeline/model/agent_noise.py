"""What noise on the targets adds to the agent's position and velocity, in closed form.

The agent's control is linear (`nsf_pipeline.model.agent_motion`), so independent Gaussian noise on
each target makes position and velocity jointly Gaussian, with a known covariance. At whole control
steps it is the simulator's. Within a control step noise arrives gradually (`noise_share`).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nsf_pipeline.model.agent_motion import (
    PROJECTIONS,
    RATES,
    TOLERANCE,
    end_of_at_least_a_step,
    propagator,
)
from nsf_pipeline.timing import CONTROL_DT

OWN_SHARE = 0.01
"""Share of the velocity's noise that is independent of the position's. In the simulator one target
moves both alike, and the law of a single control step would have no density."""
LEAST_NOISE = 0.25
"""px; noise on the targets that the agent's law has at least, so that it has a density where there
is none."""
MAX_STEPS = 32
"""Control steps after which the first target's noise no longer matters."""

_STEP = np.tensordot(np.exp(RATES * CONTROL_DT), PROJECTIONS, 1)
_RESPONSE = (np.eye(2) - _STEP)[:, 0]
"""Position and velocity after a control step, per px of its target."""


def _covariances() -> np.ndarray:
    """(MAX_STEPS + 1, 2, 2): covariance after so many control steps with noise of 1 px."""
    own = (OWN_SHARE * _RESPONSE[1]) ** 2
    of_step = np.outer(_RESPONSE, _RESPONSE) + np.diag([0.0, own])
    found = [np.zeros((2, 2))]
    for _ in range(MAX_STEPS):
        found.append(_STEP @ found[-1] @ _STEP.T + of_step)
    return np.array(found)


_COVARIANCES = _covariances()


def effective_noise(std: Float[Array, "*batch"]) -> Float[Array, "*batch"]:
    """px: the noise on the targets that the agent's law has, with LEAST_NOISE beside the own."""
    return jnp.sqrt(std**2 + LEAST_NOISE**2)


def position_spread(elapsed: Float[Array, "*times"]) -> Float[Array, "*times"]:
    """px; standard deviation of the position after a time (s), under target noise of 1 px.

    It is exact at whole control steps from the start of one, and linear in between.
    """
    known = np.sqrt(_COVARIANCES[:, 0, 0]).astype(np.float32)
    return jnp.interp(elapsed / CONTROL_DT, np.arange(len(known), dtype=np.float32), known)


def noise_share(t_init: Float[Array, ""], t_final: Float[Array, ""]) -> Float[Array, ""]:
    """Share of one target's noise that arrives between two times: 0 in no time, 1 in a whole step.

    In the simulator a target's noise acts from the start of its control step. The state does not
    contain it, so a law that knows only the state cannot reproduce that. Here the noise arrives
    gradually instead, at the rate that gives the velocity, at any time after the start of the
    control step, the variance that it has in the simulator.
    """
    first, then, _, _ = _noise_parts(t_init, t_final)
    return jnp.where(t_final < end_of_at_least_a_step(t_init, t_final), first + then, 1.0)


def noise_factor(t_init: Float[Array, ""], t_final: Float[Array, ""]) -> Float[Array, "2 2"]:
    """L, where L L^T is the covariance of position and velocity under target noise of 1 px.

    Its rows are in px and px/s. Within a control step noise arrives as `noise_share` says, so that
    covariances add up: one long step has the covariance of several short ones. t_final must be
    after t_init.
    """
    first, then, start, stop = _noise_parts(t_init, t_final)
    steps = jnp.minimum(stop - start, MAX_STEPS).astype(int)
    whole = jnp.asarray(_COVARIANCES, jnp.float32)
    # At the end of the last control step: what the first target adds, those between, and the last.
    covariance = first * (whole[steps] - whole[steps - 1])
    covariance += whole[jnp.maximum(steps - 1, 1)] - whole[1] + then * whole[1]
    position = jnp.sqrt(covariance[0, 0])
    shared = covariance[1, 0] / position
    own = jnp.sqrt(jnp.maximum(covariance[1, 1] - shared**2, 1e-6 * covariance[1, 1]))
    # From the end of the last control step back to t_final.
    return propagator(t_final - CONTROL_DT * stop) @ jnp.array([[position, 0.0], [shared, own]])


def _noise_parts(t_init: Float[Array, ""], t_final: Float[Array, ""]) -> tuple[Array, ...]:
    """Noise shares of the first and the last target held between two times, and their steps.

    Returns:
        The share of the first target's noise that arrives, that of the last target's (0 where both
        are one), the control step at which the first begins, and that at which the last ends.
    """
    start = _rounded_once(jnp.floor(t_init / CONTROL_DT + TOLERANCE))
    stop = _rounded_once(jnp.maximum(jnp.ceil(t_final / CONTROL_DT - TOLERANCE), start + 1.0))
    is_one = stop - start < 1.5
    begin = jnp.maximum(t_init - CONTROL_DT * start, 0.0)
    first = _arrived(begin, jnp.where(is_one, t_final - t_init, CONTROL_DT - begin))
    into = jnp.clip(t_final - CONTROL_DT * (stop - 1.0), 0.0, CONTROL_DT)
    then = jnp.where(is_one, 0.0, _arrived(jnp.zeros_like(into), into))
    return first, then, start, stop


def _rounded_once(step: Float[Array, ""]) -> Float[Array, ""]:
    """Keeps the compiler from computing a control step's number twice, rounded differently."""
    return jax.lax.optimization_barrier(jax.lax.stop_gradient(step))


def _arrived(begin: Float[Array, ""], time: Float[Array, ""]) -> Float[Array, ""]:
    """Share of a target's noise that arrives in a time (s), from `begin` (s) into its step on.

    At x seconds into the control step, a noise of 1 px has changed the velocity by v(x) in the
    simulator. Noise that has that effect when the control step ends had, at x, the effect
    e(x) = a exp(r x) + b exp(q x), so the share (v / e)^2 has arrived. With u = exp((q - r) x),
    v / e = c (u - 1) / (a + b u), and differences of it have a form without cancellation.
    """
    rate = float(RATES[1] - RATES[0])
    a, b = ((PROJECTIONS @ _RESPONSE)[:, 1] * np.exp(-RATES * CONTROL_DT)).tolist()
    c = -float(PROJECTIONS[1, 1, 0])
    u, later = jnp.exp(rate * begin), jnp.exp(rate * (begin + time))
    before = c * jnp.expm1(rate * begin) / (a + b * u)
    change = c * (a + b) * u * jnp.expm1(rate * time) / ((a + b * u) * (a + b * later))
    return change * (change + 2.0 * before)
