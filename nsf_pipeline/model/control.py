"""The agent under the environment's control: where it goes without noise, and what noise adds.

The agent is a kinematic body: nothing pushes back, so its motion follows from the targets alone.
Each control step holds one target for ten substeps of h = 0.01 s,

    v <- v + h (100 (target - p) - 20 v),    p <- p + h v,

which is linear, with real eigenvalues. So position and velocity are known after any time in closed
form, and noise on the targets makes them jointly Gaussian, with a covariance that is known too. At
whole control steps both are the simulator's; between substeps they are interpolated.
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
TOLERANCE = 1e-3
"""Control steps; times that are nearer than this to the start of one are there."""
LEAST_SHARE = 0.01
"""Of the velocity's noise that its position leaves unknown: after one control step, none."""
MOST_STEPS = 32
"""Control steps after which the noise of the first is forgotten."""


def _modes() -> tuple[np.ndarray, np.ndarray]:
    """Rates (2) per s and projections (2, 2, 2): exp(rate t) times projection, summed, is a time's.

    Of position (px) and velocity (px/s), both relative to the target.
    """
    slowed = 1.0 - SUBSTEP * DAMPING
    step = np.array(
        [[1.0 - SUBSTEP**2 * STIFFNESS, SUBSTEP * slowed], [-SUBSTEP * STIFFNESS, slowed]]
    )
    factors, vectors = np.linalg.eig(step)
    projections = vectors.T[:, :, None] * np.linalg.inv(vectors)[:, None, :]
    return np.log(factors) / SUBSTEP, projections


_RATES, _PROJECTIONS = _modes()


_STEP = np.tensordot(np.exp(_RATES * CONTROL_DT), _PROJECTIONS, 1)
_ANSWER = (np.eye(2) - _STEP)[:, 0]


def _covariances() -> np.ndarray:
    """(MOST_STEPS + 1, 2, 2) of position and velocity after whole steps with noise of 1 px."""
    found = [np.zeros((2, 2))]
    for _ in range(MOST_STEPS):
        found.append(_STEP @ found[-1] @ _STEP.T + np.outer(_ANSWER, _ANSWER))
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
    first, second = jnp.split(desired_path(condition, jnp.concatenate([before, last]), config), 2)
    kept = propagator(end - change)
    # (steps, position or velocity, x or y)
    added = kept @ _held(first, propagator(change - start)) + _held(second, kept)

    def advance(state: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        kept, added = step
        state = kept @ state + added
        return state, state

    initial = jnp.stack([position, velocity])
    _, states = jax.lax.scan(advance, initial, (propagator(end - start), added))
    states = jnp.concatenate([initial[None], states])
    return states[:, 0], states[:, 1]


def _held(
    target: Float[Array, "steps 2"], kept: Float[Array, "steps 2 2"]
) -> Float[Array, "steps 2 2"]:
    """What a held target adds to position and velocity."""
    return _answer(kept)[..., None] * target[..., None, :]


def _answer(kept: Float[Array, "*steps 2 2"]) -> Float[Array, "*steps 2"]:
    """What each px of a held target adds to position (px) and velocity (px/s)."""
    return jnp.array([1.0, 0.0]) - kept[..., 0]


def at_least_a_step(t_init: Float[Array, ""], t_final: Float[Array, ""]) -> Float[Array, ""]:
    """t_final (s), or a control step after t_init where that is later."""
    is_part = t_final - t_init < CONTROL_DT * (1.0 - TOLERANCE)
    return jnp.where(is_part, t_init + CONTROL_DT, t_final)


def noise_share(t_init: Float[Array, ""], t_final: Float[Array, ""]) -> Float[Array, ""]:
    """How much of a target's noise comes in between; 1 from a control step on.

    A target is held, so its noise is there from the start of its control step on. No state tells
    it, though, so no law that knows the state alone can have it so. Here it comes little by little,
    such that the velocity's variance since the control step's start is the simulator's own.
    """
    start = jnp.floor(t_init / CONTROL_DT)
    begin, end = t_init / CONTROL_DT - start, t_final / CONTROL_DT - start
    share = (
        _arrived(jnp.minimum(end, 1.0)) - _arrived(begin) + _arrived(jnp.maximum(end - 1.0, 0.0))
    )
    return jnp.where(t_final < at_least_a_step(t_init, t_final), share, 1.0)


def _arrived(phase: Float[Array, ""]) -> Float[Array, ""]:
    """Share of a target's noise that has come when this share of its control step is over."""
    time = CONTROL_DT * phase
    now = propagator(time - CONTROL_DT) @ jnp.asarray(_ANSWER, jnp.float32)
    return (_answer(propagator(time))[1] / now[1]) ** 2


def noise_factor(t_init: Float[Array, ""], t_final: Float[Array, ""]) -> Float[Array, "2 2"]:
    """L of the covariance L L^T of position and velocity, of noise of 1 px on each target held.

    A row of px and one of px/s. One target moves both alike: so that there is a density, what the
    position leaves unknown of the velocity is held to a hundredth of its noise, or more. Between
    control steps noise comes as `noise_share` says, so that the law stays consistent: that of one
    step is that of several.
    """
    last = jnp.ceil(t_final / CONTROL_DT - TOLERANCE)
    covariance = _since(last - t_init / CONTROL_DT) - _since(last - t_final / CONTROL_DT)
    position = jnp.sqrt(covariance[0, 0])
    shared = covariance[1, 0] / position
    least = LEAST_SHARE**2 * covariance[1, 1]
    own = jnp.sqrt(jnp.maximum(covariance[1, 1] - shared**2, least))
    # At the end of the control step, and back from there to t_final.
    return propagator(t_final - CONTROL_DT * last) @ jnp.array([[position, 0.0], [shared, own]])


def _since(steps: Float[Array, ""]) -> Float[Array, "2 2"]:
    """Covariance at a control step's end, of what noise came since so many steps before it."""
    whole = jnp.floor(jnp.clip(steps, 0.0, MOST_STEPS - 1.0))
    covariances = jnp.asarray(_COVARIANCES, jnp.float32)
    before, after = (covariances[(whole + i).astype(int)] for i in (0, 1))
    part = jnp.clip(steps - whole, 0.0, 1.0)
    return before + (1.0 - _arrived(1.0 - part)) * (after - before)
