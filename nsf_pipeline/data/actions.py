"""The actions of rollouts: a policy's targets, with noise."""

import numpy as np

from nsf_pipeline.pusht.geometry import WORKSPACE


def executed(
    targets: np.ndarray, std: float, count: int, random: np.random.Generator
) -> np.ndarray:
    """(count, T, 2) px: the actions of some rollouts, each with its own noise on its targets.

    They are as the environment takes them, float32 in the workspace, so that they replay.

    Args:
        targets: (T, 2) px.
        std: px; standard deviation of the noise.
        count: how many rollouts.
        random: draws the noise.
    """
    noise = random.normal(0.0, std, (count, *targets.shape))
    return np.clip(targets + noise, *WORKSPACE).astype(np.float32).astype(np.float64)
