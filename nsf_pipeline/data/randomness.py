"""Random numbers of trajectory i, from (seed, i) alone.

What a trajectory draws depends neither on its shard, nor on order or core count; each use has a
stream of its own, so that drawing more for one leaves the others as they were.
"""

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What random numbers are for."""

    RESET = 0
    POLICY = 1
    ACTION_NOISE = 2
    SPLIT = 3
    START = 4
    ENSEMBLE = 5
    SELECTION = 6


def generator(seed: int, trajectory: int, stream: Stream, *within: int) -> np.random.Generator:
    """The generator of one trajectory and use, and of a place within it where there are several."""
    return np.random.default_rng(_sequence(seed, trajectory, stream, *within))


def reset_seed(seed: int, trajectory: int) -> int:
    """Seed of `env.reset` for one trajectory, below 2^31."""
    return int(_sequence(seed, trajectory, Stream.RESET).generate_state(1)[0] >> 1)


def _sequence(seed: int, trajectory: int, stream: Stream, *within: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(trajectory, stream, *within))
