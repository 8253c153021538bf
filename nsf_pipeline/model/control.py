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


def _covariances() -> np.ndarray:
    """(MOST_STEPS + 1, 2, 2) of position and velocity after whole steps with noise of 1 px."""
    step = np.tensordot(np.exp(_RATES * CONTROL_DT), _PROJECTIONS, 1)
    answer = (np.eye(2) - step)[:, 0]
    found = [np.zeros((2, 2))]
    for _ in range(MOST_STEPS):
        found.append(step @ found[-1] @ step.T + np.outer(answer, answer))
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


def noise_factor(gap: Float[Array, ""]) -> Float[Array, "2 2"]:
    """The Cholesky factor of position and velocity, of noise of 1 px on each target held.

    Lower triangular; a row of px and one of px/s. The gap (s) is one from a control step's start.
    One target moves both alike: so that there is a density, the second column is not less than a
    hundredth of the velocity's noise.
    """
    steps = jnp.floor(gap / CONTROL_DT + TOLERANCE)
    kept = propagator(jnp.maximum(gap - CONTROL_DT * steps, 0.0))
    whole = jnp.asarray(_COVARIANCES, jnp.float32)[jnp.minimum(steps, MOST_STEPS).astype(int)]
    answer = _answer(kept)
    covariance = kept @ whole @ kept.T + jnp.outer(answer, answer)
    position = jnp.sqrt(covariance[0, 0])
    shared = covariance[1, 0] / position
    least = LEAST_SHARE**2 * covariance[1, 1]
    own = jnp.sqrt(jnp.maximum(covariance[1, 1] - shared**2, least))
    return jnp.array([[position, 0.0], [shared, own]])
