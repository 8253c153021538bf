"""The agent's motion without noise, in closed form.

The agent is a kinematic body: nothing pushes back, so its motion follows from the targets alone.
A PD controller holds one target for each control step; in each substep of h = 0.01 s,

    v <- v + h (k_p (target - p) - k_v v),    p <- p + h v    (k_p = 100 / s^2, k_v = 20 / s).

This is linear in p and v, with real eigenvalues: in its modes (the eigenvectors), each component
decays at a rate of its own, and position and velocity after any time follow in closed form. At
whole control steps they are the simulator's; within a control step they interpolate between its
substeps.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from nsf_pipeline import dmp
from nsf_pipeline.config import DMPConfig
from nsf_pipeline.pusht.environment import CONTROL
from nsf_pipeline.timing import CONTROL_DT

TOLERANCE = 1e-4
"""Control steps; a time this near to the start of a control step counts as its start."""


def _modes() -> tuple[np.ndarray, np.ndarray]:
    """The control's modes, with position (px) and velocity (px/s) measured from the target.

    Returns:
        (2) rates per s, negative; (2, 2) the modes' positions and velocities, one mode a column.
    """
    h, stiffness, slowed = (
        CONTROL.substep,
        CONTROL.stiffness,
        1.0 - CONTROL.substep * CONTROL.damping,
    )
    step = np.array([[1.0 - h**2 * stiffness, h * slowed], [-h * stiffness, slowed]])
    # Newer versions of NumPy give real eigenvalues as complex numbers too.
    factors, vectors = (found.real for found in np.linalg.eig(step))
    return np.log(factors) / h, vectors


RATES, _FROM_MODES = _modes()
_TO_MODES = np.linalg.inv(_FROM_MODES)
PROJECTIONS = _FROM_MODES.T[:, :, None] * _TO_MODES[:, None, :]
"""(2, 2, 2): on to each mode; exp(RATES t) times them, summed, is the propagator."""


def propagator(time: Float[Array, "*times"]) -> Float[Array, "*times 2 2"]:
    """The matrix that takes (position, velocity), measured from a held target, a time (s) ahead."""
    # Exactly the identity where no time passes.
    decays = jnp.expm1(time[..., None] * jnp.asarray(RATES, jnp.float32))
    return jnp.eye(2) + jnp.tensordot(decays, jnp.asarray(PROJECTIONS, jnp.float32), 1)


def desired_path(
    condition: Float[Array, " condition"], times: Float[Array, " points"], config: DMPConfig
) -> Float[Array, "points 2"]:
    """px: where the DMP wants the agent to be at some times.

    The model's methods guard their own results.
    """
    params = dmp.DMPParams.from_vector(condition)
    path = dmp.integrate(params, config, jnp, jax.lax.scan, guard=False)
    return dmp.evaluate(path, times, config, jnp, guard=False)


def nominal_path(
    position: Float[Array, "2"],
    velocity: Float[Array, "2"],
    times: Float[Array, " knots"],
    condition: Float[Array, " condition"],
    config: DMPConfig,
) -> tuple[Float[Array, "knots 2"], Float[Array, "knots 2"]]:
    """Where the agent goes without noise: each control step's target is the DMP's at its end.

    At whole control steps this is the simulator's path, as long as knots are at most a control step
    apart. Between knots that are further apart, one target stands for all that are held there.

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
    # Between two knots the agent has up to two targets: the one held until `change`, and that of
    # the control step that the later knot lies in, which ends at `last`. Where more control steps
    # lie between, the target in the middle stands for all but the last.
    last = CONTROL_DT * jnp.ceil(end / CONTROL_DT - TOLERANCE)
    change = jnp.clip(last - CONTROL_DT, start, end)
    before = jnp.minimum(change, (start + change + CONTROL_DT) / 2)
    targets = desired_path(condition, jnp.stack([before, last], axis=1).ravel(), config)
    # In the control's modes, measured from the first position. In a step a mode loses a share of
    # its value (exactly 0 in no time) and gains the same share of the target's.
    rates, into_modes = jnp.asarray(RATES, jnp.float32), jnp.asarray(_TO_MODES, jnp.float32)
    lost, lost_after = (-jnp.expm1(time[:, None] * rates) for time in (end - start, end - change))

    def advance(modes: Array, step: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        (first, second), lost, lost_after = step
        pulled = (lost - lost_after)[:, None] * (first - position)
        pulled += lost_after[:, None] * (second - position)
        modes = modes - lost[:, None] * modes + into_modes[:, :1] * pulled
        return modes, modes

    # (modes, x or y)
    initial = into_modes[:, 1:] * velocity
    _, modes = jax.lax.scan(advance, initial, (targets.reshape(-1, 2, 2), lost, lost_after))
    moved = jnp.concatenate([initial[None], modes]) - initial
    of_position, of_velocity = jnp.asarray(_FROM_MODES, jnp.float32)
    positions = position + moved[:, 0] * of_position[0] + moved[:, 1] * of_position[1]
    velocities = velocity + moved[:, 0] * of_velocity[0] + moved[:, 1] * of_velocity[1]
    return positions, velocities


def end_of_at_least_a_step(t_init: Float[Array, ""], t_final: Float[Array, ""]) -> Float[Array, ""]:
    """t_final (s), or a control step after t_init where that is later."""
    is_part = t_final - t_init < CONTROL_DT * (1.0 - TOLERANCE)
    return jnp.where(is_part, t_init + CONTROL_DT, t_final)
