"""The agent under the environment's control: where it goes without noise, and what noise adds.

The agent is a kinematic body: nothing pushes back, so its motion follows from the targets alone.
Each control step holds one target for ten substeps of h = 0.01 s,

    v <- v + h (100 (target - p) - 20 v),    p <- p + h v,

which is linear, with real eigenvalues. So position and velocity are known after any time in closed
form, and noise on the targets makes them jointly Gaussian, with a covariance that is known too.
From control step to control step both are the simulator's. Within one, the path is interpolated
between substeps, and the noise comes otherwise (`noise_share`).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nsf_pipeline import dmp
from nsf_pipeline.config import DMPConfig
from nsf_pipeline.timing import CONTROL_DT

# The environment's PD control of the agent, per s^2 and per s, and its substep in s.
STIFFNESS = 100.0
DAMPING = 20.0
SUBSTEP = 0.01
TOLERANCE = 1e-4
"""Control steps; times that are nearer than this to the start of one are there."""
LEAST_SHARE = 0.01
"""Of the velocity's noise, what is its own: one target moves position and velocity alike, so that
after one control step there would be no density."""
MOST_STEPS = 32
"""Control steps after which the noise of the first is forgotten."""


def _modes() -> tuple[np.ndarray, np.ndarray]:
    """Rates (2) per s, and vectors (2, 2), by column, of position (px) and velocity (px/s).

    Both relative to the target: each vector's share decays at its rate.
    """
    slowed = 1.0 - SUBSTEP * DAMPING
    step = np.array(
        [[1.0 - SUBSTEP**2 * STIFFNESS, SUBSTEP * slowed], [-SUBSTEP * STIFFNESS, slowed]]
    )
    factors, vectors = np.linalg.eig(step)
    return np.log(factors) / SUBSTEP, vectors


_RATES, _OUT_OF_MODES = _modes()
_INTO_MODES = np.linalg.inv(_OUT_OF_MODES)
_PROJECTIONS = _OUT_OF_MODES.T[:, :, None] * _INTO_MODES[:, None, :]
_STEP = np.tensordot(np.exp(_RATES * CONTROL_DT), _PROJECTIONS, 1)
_ANSWER = (np.eye(2) - _STEP)[:, 0]


def _covariances() -> np.ndarray:
    """(MOST_STEPS + 1, 2, 2) of position and velocity after whole steps with noise of 1 px."""
    of_step = np.outer(_ANSWER, _ANSWER) + np.diag([0.0, (LEAST_SHARE * _ANSWER[1]) ** 2])
    found = [np.zeros((2, 2))]
    for _ in range(MOST_STEPS):
        found.append(_STEP @ found[-1] @ _STEP.T + of_step)
    return np.array(found)


_COVARIANCES = _covariances()


def propagator(time: Float[Array, "*times"]) -> Float[Array, "*times 2 2"]:
    """What some time (s) makes of position (px) and velocity (px/s) relative to a held target."""
    # Exactly one where no time passes.
    decays = jnp.expm1(time[..., None] * jnp.asarray(_RATES, jnp.float32))
    return jnp.eye(2) + jnp.tensordot(decays, jnp.asarray(_PROJECTIONS, jnp.float32), 1)


def desired_path(
    condition: Float[Array, " condition"], times: Float[Array, " points"], config: DMPConfig
) -> Float[Array, "points 2"]:
    """px: where the DMP wants the agent to be at some times."""
    params = dmp.DMPParams.from_vector(condition)
    path = dmp.integrate(params, config, jnp, jax.lax.scan)
    return dmp.evaluate(path, times, config, jnp)


def nominal_path(
    position: Float[Array, "2"],
    velocity: Float[Array, "2"],
    times: Float[Array, " knots"],
    condition: Float[Array, " condition"],
    config: DMPConfig,
) -> tuple[Float[Array, "knots 2"], Float[Array, "knots 2"]]:
    """Where the agent goes without noise: each control step's target is the DMP's at its end.

    The simulator's own at whole control steps, if knots are no further apart than these; beyond,
    one target stands for all that are held from knot to knot.

    Args:
        position: px, of the agent at the first time.
        velocity: px/s, of the agent at the first time.
        times: (knots) s, never decreasing.
        condition: the DMP vector.
        config: what all DMPs share.

    Returns:
        Positions in px and velocities in px/s at the times.
    """
    start, end = times[:-1], times[1:]
    # The control step that a knot lies in ends at `last`; what leads to the knot may begin before.
    last = CONTROL_DT * jnp.ceil(end / CONTROL_DT - TOLERANCE)
    change = jnp.clip(last - CONTROL_DT, start, end)
    before = jnp.minimum(change, (start + change + CONTROL_DT) / 2)
    targets = desired_path(condition, jnp.stack([before, last], axis=1).ravel(), config)
    # In the control's modes, from the first position on. A mode loses nothing, exactly, in no time,
    # and goes to what the target pulls at by as much as it loses.
    rates, into = jnp.asarray(_RATES, jnp.float32), jnp.asarray(_INTO_MODES, jnp.float32)
    lost, lost_then = (-jnp.expm1(time[:, None] * rates) for time in (end - start, end - change))

    def advance(modes: Array, step: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        (first, second), lost, lost_then = step
        pulled = (lost - lost_then)[:, None] * (first - position)
        pulled += lost_then[:, None] * (second - position)
        modes = modes - lost[:, None] * modes + into[:, :1] * pulled
        return modes, modes

    # (modes, x or y)
    initial = into[:, 1:] * velocity
    _, modes = jax.lax.scan(advance, initial, (targets.reshape(-1, 2, 2), lost, lost_then))
    moved = jnp.concatenate([initial[None], modes]) - initial
    of_position, of_velocity = jnp.asarray(_OUT_OF_MODES, jnp.float32)
    positions = position + moved[:, 0] * of_position[0] + moved[:, 1] * of_position[1]
    velocities = velocity + moved[:, 0] * of_velocity[0] + moved[:, 1] * of_velocity[1]
    return positions, velocities


def at_least_a_step(t_init: Float[Array, ""], t_final: Float[Array, ""]) -> Float[Array, ""]:
    """t_final (s), or a control step after t_init where that is later."""
    is_part = t_final - t_init < CONTROL_DT * (1.0 - TOLERANCE)
    return jnp.where(is_part, t_init + CONTROL_DT, t_final)


def noise_share(t_init: Float[Array, ""], t_final: Float[Array, ""]) -> Float[Array, ""]:
    """How much of a target's noise comes in between; 0, exactly, in no time, 1 from a step on.

    A target is held, so its noise is there from the start of its control step on. No state tells
    it, though, so no law that knows the state alone can have it so. Here it comes little by little,
    such that what a target's noise does to the velocity's variance, from its control step's start
    on, is what it does in the simulator.
    """
    first, then, _, _ = _noise_parts(t_init, t_final)
    return jnp.where(t_final < at_least_a_step(t_init, t_final), first + then, 1.0)


def noise_factor(t_init: Float[Array, ""], t_final: Float[Array, ""]) -> Float[Array, "2 2"]:
    """L of the covariance L L^T of position and velocity, of noise of 1 px on each target held.

    A row of px and one of px/s. Between control steps noise comes as `noise_share` says, so that
    covariances add up: one step's is that of several. From t_init to t_final some time must pass.
    """
    first, then, start, stop = _noise_parts(t_init, t_final)
    steps = jnp.minimum(stop - start, MOST_STEPS).astype(int)
    whole = jnp.asarray(_COVARIANCES, jnp.float32)
    # At the end of the last control step: of the first, of those between, and of the last.
    covariance = first * (whole[steps] - whole[steps - 1])
    covariance += whole[jnp.maximum(steps - 1, 1)] - whole[1] + then * whole[1]
    position = jnp.sqrt(covariance[0, 0])
    shared = covariance[1, 0] / position
    own = jnp.sqrt(jnp.maximum(covariance[1, 1] - shared**2, 1e-6 * covariance[1, 1]))
    # And back from there.
    return propagator(t_final - CONTROL_DT * stop) @ jnp.array([[position, 0.0], [shared, own]])


def _noise_parts(t_init: Float[Array, ""], t_final: Float[Array, ""]) -> tuple[Array, ...]:
    """Shares of the first target's noise and of the last's, if it is another; and which these are.

    The first is held from the control step `start` on, the last until the control step `stop`.
    """
    start = _settled(jnp.floor(t_init / CONTROL_DT + TOLERANCE))
    stop = _settled(jnp.maximum(jnp.ceil(t_final / CONTROL_DT - TOLERANCE), start + 1.0))
    is_one = stop - start < 1.5
    begin = jnp.maximum(t_init - CONTROL_DT * start, 0.0)
    first = _came(begin, jnp.where(is_one, t_final - t_init, CONTROL_DT - begin))
    into = jnp.clip(t_final - CONTROL_DT * (stop - 1.0), 0.0, CONTROL_DT)
    then = jnp.where(is_one, 0.0, _came(jnp.zeros_like(into), into))
    return first, then, start, stop


def _settled(step: Float[Array, ""]) -> Float[Array, ""]:
    """One number for all: a compiler may compute it twice, and round in two ways."""
    return jax.lax.optimization_barrier(jax.lax.stop_gradient(step))


def _came(begin: Float[Array, ""], time: Float[Array, ""]) -> Float[Array, ""]:
    """Share of a target's noise that comes in a time (s), from `begin` (s) of its control step on.

    After the time x, 1 px has moved the velocity by v(x) in the simulator. What moves it so at the
    control step's end must have moved it by e(x) = a exp(r x) + b exp(q x), so a share (v / e)^2
    has come. With u = exp((q - r) x), v / e = c (u - 1) / (a + b u), of which differences have a
    form without cancellation.
    """
    rate = float(_RATES[1] - _RATES[0])
    a, b = ((_PROJECTIONS @ _ANSWER)[:, 1] * np.exp(-_RATES * CONTROL_DT)).tolist()
    c = -float(_PROJECTIONS[1, 1, 0])
    u, later = jnp.exp(rate * begin), jnp.exp(rate * (begin + time))
    before = c * jnp.expm1(rate * begin) / (a + b * u)
    change = c * (a + b) * u * jnp.expm1(rate * time) / ((a + b * u) * (a + b * later))
    return change * (change + 2.0 * before)
