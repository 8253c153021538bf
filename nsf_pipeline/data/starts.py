"""Mid-task starts: states that a controller meets between a reset and the goal.

The block lies anywhere within the walls, close to a wall, close to the goal, or in it. The agent is
anywhere, beside the block, or touching it, and is at rest or moving. Nothing overlaps.
"""

import math

import numpy as np

from nsf_pipeline.pusht.factors import USUAL, Factors
from nsf_pipeline.pusht.geometry import nearest_on_block, t_outline
from nsf_pipeline.pusht.state import STATE

NEAR_WALL = NEAR_GOAL = 0.25
"""Shares of starts with the block close to a wall, and close to the goal or in it."""
WALL_GAP = 20.0
"""px; the block close to a wall is at most this far from it."""
GOAL_SPREAD = 60.0, math.pi / 4
"""px and rad; the block close to the goal is at most this far off."""
IN_GOAL = 0.1
"""Share of the starts close to the goal that are in it."""
BESIDE = TOUCHING = 0.35
"""Shares of starts with the agent beside the block, and touching it."""
BESIDE_GAP = 40.0
"""px; the agent beside the block is at most this far from it."""
TOUCHING_GAP = 1e-6
"""px; an agent that touches the block is this far from it, so that rounding makes no overlap."""
DECIMALS = 9
"""Starts are rounded to so many, so that the data set's scaling gives them back exactly."""
MOVING = 0.7
"""Share of starts with the agent moving."""
MEAN_SPEED = 120.0
"""px/s; mean of the moving agent's speed, which is exponentially distributed."""


def sample_start(random: np.random.Generator, factors: Factors = USUAL) -> np.ndarray:
    """One state (7,) in mid-task, in a scene: px, px/s, rad."""
    while True:
        pose = _block_pose(random, factors)
        # A block in a corner may leave no room for the agent: then both are drawn again.
        agent = _agent_position(random, pose, factors)
        if agent is not None:
            break
    velocity = np.zeros(2)
    if random.random() < MOVING:
        velocity = random.exponential(MEAN_SPEED) * _direction(random)
    return STATE.join(agent, velocity, pose).round(DECIMALS)


def _block_pose(random: np.random.Generator, factors: Factors) -> np.ndarray:
    """(3,) px, px, rad within the walls."""
    walls, scale = factors.walls, factors.block_scale
    kind = random.random()
    while True:
        angle = random.uniform(-np.pi, np.pi)
        if kind < NEAR_GOAL:
            spread = 0.0 if random.random() < IN_GOAL else random.random()
            shift = GOAL_SPREAD[0] * spread * _direction(random)
            turn = GOAL_SPREAD[1] * spread * random.uniform(-1.0, 1.0)
            pose = factors.goal + np.array([*shift, turn])
        else:
            # Positions in which the outline's bounding box lies between the walls.
            corners = t_outline(np.array([0.0, 0.0, angle]), scale)
            low, high = walls[0] - corners.min(axis=0), walls[1] - corners.max(axis=0)
            position = random.uniform(low, high)
            if kind < NEAR_GOAL + NEAR_WALL:
                axis, side = random.integers(2), random.integers(2)
                gap = random.uniform(0.0, WALL_GAP)
                position[axis] = (low[axis] + gap, high[axis] - gap)[side]
            pose = np.array([*position, angle])
        if _within_walls(pose, factors):
            return pose


def _within_walls(pose: np.ndarray, factors: Factors) -> bool:
    (low, high), corners = factors.walls, t_outline(pose, factors.block_scale)
    return bool(corners.min() > low and corners.max() < high)


def is_clear(pose: np.ndarray, agent: np.ndarray) -> bool:
    """Whether a block at a pose lies within the walls and does not touch the agent.

    Args:
        pose: (3,) px, px, rad.
        agent: (2,) px.
    """
    distance = math.dist(agent, nearest_on_block(pose, agent))
    return _within_walls(pose, USUAL) and distance > USUAL.agent_radius


def _agent_position(
    random: np.random.Generator, pose: np.ndarray, factors: Factors
) -> np.ndarray | None:
    """(2,) px, clear of the walls and of the block; None if many tries find no such position."""
    radius, scale = factors.agent_radius, factors.block_scale
    low, high = factors.walls[0] + radius, factors.walls[1] - radius
    kind = random.random()
    for _ in range(100):
        position = random.uniform(low, high, 2)
        nearest = nearest_on_block(pose, position, scale)
        distance = math.dist(position, nearest)
        if kind < BESIDE + TOUCHING and distance > 0.0:
            # Moved along the line from the block's nearest point, which is on any side or corner.
            gap = TOUCHING_GAP if kind < TOUCHING else random.uniform(0.0, BESIDE_GAP)
            position = nearest + (position - nearest) / distance * (radius + gap)
            distance = math.dist(position, nearest_on_block(pose, position, scale))
        clear_of_walls = low < position.min() and position.max() < high
        if clear_of_walls and distance > radius:
            return position
    return None


def _direction(random: np.random.Generator) -> np.ndarray:
    """(2,) a unit vector."""
    angle = random.uniform(0.0, 2.0 * np.pi)
    return np.array([math.cos(angle), math.sin(angle)])
