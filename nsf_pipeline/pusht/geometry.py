"""PushT's plane geometry: the T, its goal, and how much of the goal the T covers."""

import numpy as np
import numpy.typing as npt

from nsf_pipeline import checks
from nsf_pipeline.pusht.state import rotated

T_RECTANGLES = np.array([(-60.0, 0.0, 60.0, 30.0), (-15.0, 30.0, 15.0, 120.0)])
"""Bar and stem of the T in the block's frame: x_min, y_min, x_max, y_max in px."""

T_CENTRE = T_RECTANGLES.reshape(2, 2, 2).mean(axis=(0, 1))
"""Centre of mass of the T in its frame, px: gym-pusht gives both rectangles the same mass."""

T_INERTIA = 3000.0
"""Moment of inertia of the T over its mass, px^2, as gym-pusht sets it."""

WALLS = (7.0, 504.0)
"""Least and greatest coordinate within the walls, px."""

OVERLAP_DECAY = 0.001797
"""Share of an overlap that Chipmunk leaves after one second: its default collision bias."""

GOAL_POSE = np.array([256.0, 256.0, np.pi / 4])
"""Goal of the block: x, y in px, angle in rad."""

AGENT_RADIUS = 15.0
"""Radius of the agent's circle in px."""

WORKSPACE = (0.0, 512.0)
"""Least and greatest coordinate of the square workspace in px."""

SUCCESS_THRESHOLD = 0.95
"""Coverage that an episode must exceed to succeed."""

_CORNERS = T_RECTANGLES[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]  # (2, 4, 2), counterclockwise
_AREA = float(np.prod(T_RECTANGLES[:, 2:] - T_RECTANGLES[:, :2], axis=1).sum())
_EXTENT = np.concatenate([T_RECTANGLES[:, :2].min(axis=0), T_RECTANGLES[:, 2:].max(axis=0)])
_CENTRE = (_EXTENT[:2] + _EXTENT[2:]) / 2
_RADIUS = float(np.linalg.norm(_CORNERS - _CENTRE, axis=-1).max())
_BATCH = 256  # poses computed at once: they fit into a processor's cache


def _in_goal_frame(
    poses: np.ndarray, points: np.ndarray, goal: np.ndarray, scale: float
) -> np.ndarray:
    """Transform points from the block's frame to the goal's frame, both in units of the block.

    Args:
        poses: (n, 3) block x and y in px, angle in rad.
        points: (..., 2) of the block of gym-pusht's size, px.
        goal: (3,) px, px, rad.
        scale: size of the block and of its goal, in multiples of gym-pusht's.

    Returns:
        (2, ..., n) px over the scale: coordinate first, pose last.
    """
    dx, dy, turn = (poses - goal).T
    x, y = rotated(points[..., :1], points[..., 1:], np.cos(turn), np.sin(turn))
    dx, dy = rotated(dx / scale, dy / scale, np.cos(goal[2]), -np.sin(goal[2]))
    return np.stack([x + dx, y + dy])


def _areas_inside(starts: np.ndarray, ends: np.ndarray, rectangles: np.ndarray) -> np.ndarray:
    """Areas that polygons share with axis-parallel rectangles.

    Clamping points to the rectangle keeps those inside and moves the others to its border, so the
    shoelace area of a clamped outline is the shared area. A clamped edge is straight between its
    crossings of the rectangle's four lines. No two points are compared with each other, so edges
    that touch or coincide need no special case.

    Args:
        starts: (2, edges, n) where each edge begins, counterclockwise round each polygon.
        ends: (2, edges, n) where it ends.
        rectangles: (r, 4) x_min, y_min, x_max, y_max.

    Returns:
        (r, n) areas, summed over the edges.
    """
    starts, edges = starts[:, None], (ends - starts)[:, None]  # (2, 1, edges, n)
    low, high = bounds = rectangles.T.reshape(2, 2, -1, 1, 1)  # each (2, r, 1, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        crossings = (bounds - starts) / edges
    # An edge parallel to a line may be cut anywhere; here NaN becomes 0.
    crossings = np.fmin(np.fmax(crossings, 0.0), 1.0)
    near, far = np.minimum(*crossings), np.maximum(*crossings)  # each (2, r, edges, n)
    latest, earliest = np.maximum(*near), np.minimum(*far)
    cuts = np.empty((6, *latest.shape))
    cuts[0], cuts[1], cuts[2] = 0.0, np.minimum(*near), np.minimum(latest, earliest)
    cuts[3], cuts[4], cuts[5] = np.maximum(latest, earliest), np.maximum(*far), 1.0
    points = starts + cuts[:, None] * edges
    x, y = np.moveaxis(np.minimum(np.maximum(points, low), high) - low, 1, 0)
    pieces = x[:-1] * y[1:] - x[1:] * y[:-1]  # (pieces, r, edges, n)
    pieces = pieces.swapaxes(1, 2).reshape(-1, len(rectangles), starts.shape[-1])
    # One after the other: the order of `sum`, and so its rounding, depends on the batch's size.
    return np.add.accumulate(pieces)[-1] / 2


def nearest_on_block(pose: np.ndarray, point: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """The block's point that is nearest to a point: that point itself if it is inside.

    Args:
        pose: (3,) block x and y in px, angle in rad.
        point: (2,) px.
        scale: size of the block, in multiples of gym-pusht's.

    Returns:
        (2,) px.

    Raises:
        ValueError: a wrong shape, or a number that is not finite.
    """
    pose, point = checks.numbers("pose", pose, (3,)), checks.numbers("point", point, (2,))
    rotation = _rotation(pose[2])
    local = (point - pose[:2]) @ rotation
    rectangles = scale * T_RECTANGLES
    nearest = np.clip(local, rectangles[:, :2], rectangles[:, 2:])  # of each rectangle
    closest = np.square(nearest - local).sum(axis=1).argmin()
    return rotation @ nearest[closest] + pose[:2]


def _rotation(angle: float | np.floating) -> np.ndarray:
    """(2, 2): its columns are the rotated unit vectors."""
    x, y = np.eye(2)
    return np.array(rotated(x, y, np.cos(angle), np.sin(angle)))


def coverage(poses: np.ndarray, goal: np.ndarray = GOAL_POSE, scale: float = 1.0) -> np.ndarray:
    """Share of the goal's T that the block's T covers, exactly.

    Args:
        poses: (..., 3) block x and y in px and angle in rad (any real number). Poses that repeat
            the one before, or are too far from the goal to touch it, take no time.
        goal: (3,) px, px, rad.
        scale: size of the block and of its goal, in multiples of gym-pusht's; above 0.

    Returns:
        (...) float64 in [0, 1].

    Raises:
        ValueError: a wrong shape, or a number that is not finite.
    """
    poses, goal = checks.numbers("poses", poses, (..., 3)), checks.numbers("goal", goal, (3,))
    scale = checks.number("scale", scale, above=0.0)
    flat = poses.reshape(-1, 3)
    moved = np.ones(len(flat), dtype=bool)
    moved[1:] = (flat[1:] != flat[:-1]).any(axis=1)
    distinct = flat[moved]
    shares = np.zeros(len(distinct))

    x, y = _in_goal_frame(distinct, _CENTRE, goal, scale) - _CENTRE[:, None]
    near = np.flatnonzero(np.hypot(x, y) < 2 * _RADIUS)
    for first in range(0, len(near), _BATCH):
        batch = near[first : first + _BATCH]
        starts = _in_goal_frame(distinct[batch], _CORNERS, goal, scale)
        ends = np.roll(starts, -1, axis=2)
        starts, ends = starts.reshape(2, -1, len(batch)), ends.reshape(2, -1, len(batch))
        bar, stem = _areas_inside(starts, ends, T_RECTANGLES) / _AREA
        shares[batch] = bar + stem
    shares.clip(0.0, 1.0, out=shares)  # against rounding errors
    return shares[np.cumsum(moved) - 1].reshape(poses.shape[:-1])


def t_outline(pose: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """(8, 2) px: the outline of the block at a pose (x, y, angle), of a size.

    Raises:
        ValueError: a wrong shape, or a number that is not finite.
    """
    pose = checks.numbers("pose", pose, (3,))
    (left, top, right, middle), (stem_left, _, stem_right, bottom) = T_RECTANGLES
    corners = np.array(
        [
            (left, top),
            (right, top),
            (right, middle),
            (stem_right, middle),
            (stem_right, bottom),
            (stem_left, bottom),
            (stem_left, middle),
            (left, middle),
        ]
    )
    return pose[:2] + scale * corners @ _rotation(pose[2]).T


def reward(coverage: npt.ArrayLike) -> np.ndarray:
    """PushT's reward for a coverage: coverage / success threshold, at most 1.

    Args:
        coverage: (...) share of the goal covered.

    Returns:
        (...) float64 in [0, 1].

    Raises:
        ValueError: a number that is no share.
    """
    share = checks.numbers("coverage", coverage, least=0.0, most=1.0)
    return np.asarray(np.clip(share / SUCCESS_THRESHOLD, 0.0, 1.0))
