"""Time in PushT: control steps of a fixed length."""

import math

CONTROL_DT = 0.1
"""Seconds per control step: fixed by the environment."""

ROUNDING = 1e-9
"""Control steps by which a duration may exceed a whole number of them."""


def num_steps(duration: float) -> int:
    """Control steps that cover a duration in seconds."""
    return max(1, math.ceil(duration / CONTROL_DT - ROUNDING))
