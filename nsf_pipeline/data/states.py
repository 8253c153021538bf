"""States put together from the arrays in which rollout shards and data sets hold them."""

from collections.abc import Mapping

import numpy as np

from nsf_pipeline.pusht.state import STATE_WITHOUT_VELOCITY, StateLayout


def state_parts(layout: StateLayout) -> tuple[str, ...]:
    """The arrays that states of a layout are made of."""
    velocity = () if layout.velocity is None else ("agent_velocity",)
    return ("observations", *velocity, "block_angle")


def join_state(values: Mapping[str, np.ndarray], layout: StateLayout) -> np.ndarray:
    """States (..., dim) float32 of the arrays that `state_parts` names, in physical units.

    Positions are the observations'; the angle is the continuous one, which observations wrap.
    """
    seen, observed = values["observations"], STATE_WITHOUT_VELOCITY
    states = np.empty((*seen.shape[:-1], layout.dim), np.float32)
    states[..., layout.agent] = seen[..., observed.agent]
    if layout.velocity is not None:
        states[..., layout.velocity] = values["agent_velocity"]
    states[..., layout.block_position] = seen[..., observed.block_position]
    states[..., layout.angle] = values["block_angle"]
    return states
