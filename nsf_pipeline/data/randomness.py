"""Random numbers of trajectory i, which depend on (seed, i) alone.

They do not depend on shards, order or number of cores. Each use has its own stream, so that drawing
more numbers for one use does not change those of another.
"""

from enum import IntEnum

import numpy as np

from nsf_pipeline import checks


class Stream(IntEnum):
    """Uses of random numbers."""

    RESET = 0
    POLICY = 1
    ACTION_NOISE = 2
    SPLIT = 3
    START = 4
    ENSEMBLE = 5
    SELECTION = 6
    NOISE_LEVEL = 7
    EPISODE = 8
    DISTURBANCE = 9
    TASK = 10
    PUSH = 11
    SECOND_ROUND = 12
    SCENE = 13


def generator(seed: int, trajectory: int, stream: Stream, *within: int) -> np.random.Generator:
    """The generator of one trajectory and use; `within` tells several of that use apart."""
    return np.random.default_rng(_sequence(seed, trajectory, stream, *within))


def reset_seed(seed: int, trajectory: int) -> int:
    """Seed of `env.reset` for one trajectory, below 2^31."""
    return int(_sequence(seed, trajectory, Stream.RESET).generate_state(1)[0] >> 1)


def _sequence(seed: int, trajectory: int, stream: Stream, *within: int) -> np.random.SeedSequence:
    entropy = checks.whole("seed", seed, most=2**64 - 1)
    key = [checks.whole("trajectory", number, most=2**63 - 1) for number in (trajectory, *within)]
    return np.random.SeedSequence(entropy, spawn_key=(key[0], stream, *key[1:]))
