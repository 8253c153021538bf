"""Time in PushT: control steps of a fixed length."""

import math

CONTROL_DT = 0.1
"""Seconds per control step: fixed by the environment."""


def num_steps(duration: float) -> int:
    """Control steps that cover a duration in seconds."""
    return max(1, math.ceil(duration / CONTROL_DT - 1e-9))
