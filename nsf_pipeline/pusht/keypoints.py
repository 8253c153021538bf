"""Points fixed to the block by which other people's data describe its pose."""

from functools import cache

import numpy as np
import pygame
import pymunk
from gym_pusht.envs import PushTEnv
from gym_pusht.envs.pymunk_override import DrawOptions

from nsf_pipeline.pusht.simulator import FRAME_SIZE
from nsf_pipeline.pusht.state import rotated

SPREAD = 9
"""Points that the diffusion-policy data have."""
DRAWN_AT = (256.0, 300.0)
"""px; the position of the block in the picture that these points are chosen from."""


@cache
def corners() -> np.ndarray:
    """(8, 2) px: corners of the block's two rectangles in its own frame, in gym-pusht's order."""
    block, shapes = PushTEnv.add_tee(pymunk.Space(), (0.0, 0.0), 0.0)
    return np.array(PushTEnv.get_keypoints(shapes)) - np.array(block.position)


@cache
def spread() -> np.ndarray:
    """(9, 2) px: points spread over the block, in its own frame.

    The diffusion-policy data (arXiv 2303.04137) choose them so: a random pixel of the block, then
    again and again the pixel farthest from all chosen ones, and a random shift within the pixel;
    the generator's seed is 0.
    """
    random = np.random.default_rng(0)
    space, screen = pymunk.Space(), pygame.Surface((FRAME_SIZE, FRAME_SIZE))
    screen.fill((255, 255, 255))
    PushTEnv.add_tee(space, DRAWN_AT, 0.0)
    space.debug_draw(DrawOptions(screen))
    covered = (pygame.surfarray.array3d(screen) != 255).any(axis=-1)
    # Row by row, as pixels of a picture are numbered.
    y, x = np.nonzero(covered.T)
    pixels = np.stack([x, y], axis=-1) - np.array(DRAWN_AT)
    chosen = [pixels[random.choice(len(pixels))]]
    nearest = np.full(len(pixels), np.inf)
    for _ in range(SPREAD - 1):
        nearest = np.minimum(nearest, np.linalg.norm(pixels - chosen[-1], axis=-1))
        chosen.append(pixels[nearest.argmax()])
    return np.array(chosen) + random.uniform(0.0, 1.0, (SPREAD, 2))


def placed(points: np.ndarray, poses: np.ndarray) -> np.ndarray:
    """Points of the block where it lies.

    Args:
        points: (k, 2) px, in its frame.
        poses: (..., 3) px, px, rad.

    Returns:
        (..., k, 2) px.
    """
    cos, sin = (np.expand_dims(turn(poses[..., 2]), -1) for turn in (np.cos, np.sin))
    x, y = rotated(points[:, 0], points[:, 1], cos, sin)
    return np.stack([x, y], axis=-1) + np.expand_dims(poses[..., :2], -2)
