"""The scene of each trajectory, where it differs from gym-pusht's."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from nsf_pipeline.config import Config
from nsf_pipeline.data.randomness import Stream, generator
from nsf_pipeline.errors import UserError
from nsf_pipeline.pusht.factors import USUAL, Factors

FACTORS = "factors"
"""The array that holds the factors of each trajectory; absent where all are gym-pusht's."""


def factors_of(config: Config, trajectory: int) -> Factors:
    """The factors of one trajectory, which depend on (seed, trajectory) and the ranges alone."""
    scene = config.policies.scene
    if scene.is_usual:
        return USUAL
    random = generator(config.seed, trajectory, Stream.SCENE)
    ranges = scene.block_scale, scene.agent_radius, scene.goal_x, scene.goal_y, scene.goal_degrees
    scale, radius, x, y, degrees = (random.uniform(*each) for each in ranges)
    return Factors(scale, radius, (x, y, math.radians(degrees)), scene.walls)


def in_row(arrays: Mapping[str, np.ndarray], row: int) -> Factors:
    """The factors of a row of some arrays."""
    return Factors.from_vector(arrays[FACTORS][row]) if FACTORS in arrays else USUAL


def require_known_to_models(arrays: Any, what: str) -> None:
    """Refuse trajectories whose scene models know nothing of; another goal is none of these.

    Args:
        arrays: of a file, open or read.
        what: the file's name, for the message.

    Raises:
        UserError: a block, an agent or the walls are not gym-pusht's.
    """
    if FACTORS not in arrays:
        return
    found = arrays[FACTORS][...]
    usual = USUAL.as_vector()
    for name, columns in (("block_scale", [0]), ("agent_radius", [1]), ("walls", [5, 6])):
        if (found[:, columns] != usual[columns]).any():
            raise UserError(
                f"{what}: expected gym-pusht's {name} in all trajectories, which is all that "
                f"models know; leave policies.scene.{name} as it is, and make the data again"
            )
