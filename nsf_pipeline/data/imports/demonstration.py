"""What an import reads: demonstrations of PushT, one at a time."""

from typing import NamedTuple

import numpy as np


class Demonstration(NamedTuple):
    """One episode.

    Attributes:
        number: of the episode, from 0.
        states: (S, 5) float64: agent x, y, block x, y (px) and angle (rad, continuous).
        actions: (T, 2) float64 px, absolute targets of the agent, of which action i follows state
            i; S is T, or T + 1 where the last state is known.
    """

    number: int
    states: np.ndarray
    actions: np.ndarray


def fault_in(states: np.ndarray, actions: np.ndarray, farthest: float = 1e4) -> str:
    """What is wrong with the numbers of an episode, in a few words; empty if nothing is."""
    if states.ndim != 2 or states.shape[1:] != (5,) or actions.ndim != 2:
        return f"expected states (n, 5) and actions (n, 2), got {states.shape} and {actions.shape}"
    if actions.shape[1:] != (2,) or not 0 <= len(states) - len(actions) <= 1:
        return f"expected actions (n, 2) for {len(states)} states, got {actions.shape}"
    for name, values in (("state", states), ("action", actions)):
        if not np.isfinite(values).all() or np.abs(values).max(initial=0.0) > farthest:
            return f"a number in its {name}s is not finite or beyond {farthest:g}"
    return ""
