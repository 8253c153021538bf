"""States of seven numbers as a model's own states, and back."""

import numpy as np
from jaxtyping import Float

from nsf_pipeline.pusht.state import STATE, StateLayout, layout_of


def in_layout(
    states: Float[np.ndarray, "*batch 7"], layout: StateLayout
) -> Float[np.ndarray, "*batch dim"]:
    """States of `STATE` in a model's layout; the block's velocity, if it holds one, is 0."""
    agent, velocity, block = (
        states[..., part] for part in (STATE.agent, STATE.velocity, STATE.block)
    )
    return np.asarray(layout.join(agent, velocity, block, block_velocity=np.zeros_like(block)))


def of_seven(states: Float[np.ndarray, "*batch dim"]) -> Float[np.ndarray, "*batch 7"]:
    """A model's states as those of `STATE`; an agent's velocity that they do not hold is 0."""
    layout = layout_of(states.shape[-1])
    agent, block = states[..., layout.agent], states[..., layout.block]
    velocity = np.zeros_like(agent) if layout.velocity is None else states[..., layout.velocity]
    return np.asarray(STATE.join(agent, velocity, block))
