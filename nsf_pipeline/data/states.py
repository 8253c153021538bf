"""States assembled from the arrays of rollout shards and data sets."""

from collections.abc import Mapping

import numpy as np

from nsf_pipeline.pusht.state import STATE_WITHOUT_VELOCITY, StateLayout


def state_parts(layout: StateLayout) -> tuple[str, ...]:
    """Names of the arrays that states of a layout are assembled from."""
    velocity = () if layout.velocity is None else ("agent_velocity",)
    block_velocity = () if layout.block_velocity is None else ("block_velocity",)
    return ("observations", *velocity, "block_angle", *block_velocity)


def join_state(values: Mapping[str, np.ndarray], layout: StateLayout) -> np.ndarray:
    """States (..., dim) float32 from the arrays that `state_parts` names, in physical units.

    Positions come from `observations`; the angle is the continuous `block_angle`, not wrapped.
    """
    observations, observed = values["observations"], STATE_WITHOUT_VELOCITY
    states = np.empty((*observations.shape[:-1], layout.dim), np.float32)
    states[..., layout.agent] = observations[..., observed.agent]
    if layout.velocity is not None:
        states[..., layout.velocity] = values["agent_velocity"]
    states[..., layout.block_position] = observations[..., observed.block_position]
    states[..., layout.angle] = values["block_angle"]
    if layout.block_velocity is not None:
        states[..., layout.block_velocity] = values["block_velocity"][..., :2]
        states[..., layout.block_angular_velocity] = values["block_velocity"][..., 2:]
    return states
