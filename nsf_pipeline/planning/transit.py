"""Transit: the agent goes round the block, without touching it, to where it will push.

In the block's frame the way is the shortest one over nodes that lie off the T's corners. Its legs
keep clear of the T: they do not cross its two rectangles, made larger by `CLEARANCE` on each side.
"""

from typing import NamedTuple

import numpy as np

from nsf_pipeline.model.agent_motion import PROJECTIONS, RATES
from nsf_pipeline.pusht.geometry import AGENT_RADIUS, T_RECTANGLES, WALLS, t_outline
from nsf_pipeline.pusht.state import STATE, rotated, rotated_back
from nsf_pipeline.timing import CONTROL_DT

CLEARANCE = 20.0
"""px between the T and the agent's centre, on the way; the agent's radius is 15 px."""
STEP = 25.0
"""px; how far one target is from the next."""
REST = 3
"""Control steps for which the last target is held."""
BEYOND = 1.0
"""px; how far outside the enlarged rectangles the agent goes where it leaves them."""
NODE_DISTANCE = 33.0
"""px; how far off a corner's two sides its node is. The agent lags 0.2 s behind its targets, and so
passes about 14 px inside of a node."""
LONGEST = 60
"""Control steps; a longer way is not taken."""

_CORNERS = t_outline(np.zeros(3))
_OUTWARD = np.where(_CORNERS < (0.0, 15.0), -1.0, 1.0)
NODES = _CORNERS + NODE_DISTANCE * _OUTWARD
"""(8, 2) px, in the block's frame: off the six corners that stick out, and in the two that do not.
"""
_LOW, _HIGH = T_RECTANGLES[:, :2] - CLEARANCE, T_RECTANGLES[:, 2:] + CLEARANCE
_ROOM = WALLS[0] + AGENT_RADIUS, WALLS[1] - AGENT_RADIUS


class Transit(NamedTuple):
    """Ways of the agent from n states to k places each.

    Attributes:
        targets: (n, k, S, 2) px, one a control step, padded with the last one.
        steps: (n, k) how many of the targets are meant.
        exists: (n, k) whether there is a way; if not, the targets mean nothing.
    """

    targets: np.ndarray
    steps: np.ndarray
    exists: np.ndarray


def is_free(points: np.ndarray) -> np.ndarray:
    """(...) whether points (..., 2), in the block's frame, are outside the enlarged rectangles."""
    inside = (points[..., None, :] > _LOW) & (points[..., None, :] < _HIGH)
    return np.logical_not(inside.all(axis=-1).any(axis=-1))


def in_room(points: np.ndarray) -> np.ndarray:
    """(...) whether the agent fits between the walls at points (..., 2) px of the room."""
    return np.all((points > _ROOM[0]) & (points < _ROOM[1]), axis=-1)


def to_block(poses: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (n, k, 2) of the room in the frames of blocks at poses (n, 3)."""
    offset, angle = points - poses[:, None, :2], poses[:, 2:]
    return np.stack(
        rotated_back(offset[..., 0], offset[..., 1], np.cos(angle), np.sin(angle)), axis=-1
    )


def to_room(poses: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (n, ..., 2) in the frames of blocks at poses (n, 3), in the room."""
    shape = (len(poses), *(1,) * (points.ndim - 2))
    x, y, angle = (column.reshape(shape) for column in poses.T)
    turned = rotated(points[..., 0], points[..., 1], np.cos(angle), np.sin(angle))
    return np.stack([turned[0] + x, turned[1] + y], axis=-1)


def transits(starts: np.ndarray, poses: np.ndarray, ends: np.ndarray) -> Transit:
    """Shortest ways.

    An agent that is too close to the block first leaves it by the nearest way out.

    Args:
        starts: (n, 2) px, where the agent is.
        poses: (n, 3) px, px, rad, of the block.
        ends: (n, k, 2) px, where it should go, clear of the block.
    """
    own = to_block(poses, starts[:, None])
    exits, gone = _exits(own[:, 0], poses)
    targets = to_block(poses, ends)
    nodes = _nodes(poses)
    # From each exit to each node, by the nodes between: Bellman and Ford's recursion.
    hop = _lengths(nodes[:, :, None], nodes[:, None])
    length = _lengths(exits[:, None], nodes)
    order = np.tile(np.arange(len(NODES))[:, None], (len(poses), 1, 1))  # the nodes on each way
    for _ in range(len(NODES) - 1):
        through = length[:, :, None] + hop
        best = through.argmin(axis=1)
        shorter = np.take_along_axis(through, best[:, None], axis=1)[:, 0]
        better = shorter < length
        if not better.any():
            break
        last = np.broadcast_to(np.arange(len(NODES)), best.shape)
        extended = np.concatenate(
            [np.take_along_axis(order, best[..., None], axis=1), last[..., None]], axis=2
        )
        kept = np.concatenate([order, order[..., -1:]], axis=2)
        order = np.where(better[..., None], extended, kept)
        length = np.where(better, shorter, length)
    # To each place: straight, or by the node for which the way is shortest.
    last_legs = _lengths(nodes[:, None], targets[:, :, None])
    by_node = length[:, None] + last_legs
    node = by_node.argmin(axis=2)
    around = np.take_along_axis(by_node, node[..., None], axis=2)[..., 0]
    straight = _lengths(exits[:, None], targets)
    is_straight = straight <= around
    row = np.arange(len(poses))[:, None, None]
    way = np.take_along_axis(nodes[row, order], node[..., None, None], axis=1)
    way = np.where(is_straight[..., None, None], exits[:, None, None], way)
    begin = np.broadcast_to(np.stack([own[:, 0], exits], axis=1)[:, None], (*node.shape, 2, 2))
    points = np.concatenate([begin, way, targets[:, :, None]], axis=2)
    exists = np.isfinite(np.minimum(straight, around)) & gone[:, None] & in_room(ends)
    return _paced(points, exists, poses)


def _nodes(poses: np.ndarray) -> np.ndarray:
    """(n, 8, 2) px, in the blocks' frames: the nodes, moved to where the agent fits in the room."""
    nodes = np.broadcast_to(NODES, (len(poses), *NODES.shape))
    return to_block(poses, to_room(poses, nodes).clip(_ROOM[0] + 1e-6, _ROOM[1] - 1e-6))


def arrivals(states: np.ndarray, targets: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """(n, 7) the states after a transit that touches nothing, without noise.

    Args:
        states: (n, 7) px, px/s, rad, before it.
        targets: (n, S, 2) px.
        steps: (n) how many of them are meant.
    """
    moved = states.copy()
    for step in range(targets.shape[1]):
        going = step < steps
        target = targets[:, step]
        position, velocity = moved[:, STATE.agent] - target, moved[:, STATE.velocity]
        (pp, pv), (vp, vv) = _ONE_STEP
        position, velocity = pp * position + pv * velocity, vp * position + vv * velocity
        moved[:, STATE.agent] = np.where(going[:, None], position + target, moved[:, STATE.agent])
        moved[:, STATE.velocity] = np.where(going[:, None], velocity, moved[:, STATE.velocity])
    return moved


def _exits(points: np.ndarray, poses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The nearest free places (n, 2) to points in the blocks' frames, and whether there are any."""
    low, high = _LOW - BEYOND, _HIGH + BEYOND
    sides = []
    for axis in range(2):
        for places in (low[:, axis], high[:, axis]):
            out = np.repeat(points[:, None], len(places), axis=1)
            out[..., axis] = places
            sides.append(out)
    out = np.concatenate([points[:, None], *sides, _nodes(poses)], axis=1)
    allowed = is_free(out) & in_room(to_room(poses, out))
    # A point that is free needs no way out, even where the walls are too near for a target.
    allowed[:, 0] = is_free(points)
    far = np.where(allowed, np.linalg.norm(out - points[:, None], axis=-1), np.inf)
    nearest = far.argmin(axis=1)
    return out[np.arange(len(points)), nearest], allowed.any(axis=1)


def _lengths(starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """(...) px; infinite where the leg from start to end crosses an enlarged rectangle."""
    starts, ends = np.broadcast_arrays(starts, ends)
    legs = (ends - starts)[..., None, :]
    with np.errstate(divide="ignore", invalid="ignore"):
        one, other = ((bound - starts[..., None, :]) / legs for bound in (_LOW, _HIGH))
    # Where a leg is parallel to a side, on the side itself, it does not cross.
    near, far = np.fmin(one, other).max(axis=-1), np.fmax(one, other).min(axis=-1)
    crosses = np.maximum(near, 0.0) < np.minimum(far, 1.0)
    return np.where(crosses.any(axis=-1), np.inf, np.linalg.norm(ends - starts, axis=-1))


def _paced(points: np.ndarray, exists: np.ndarray, poses: np.ndarray) -> Transit:
    """Targets along lines (n, k, points, 2) in the blocks' frames."""
    legs = np.linalg.norm(np.diff(points, axis=2), axis=-1)
    reached = np.cumsum(legs, axis=-1)
    whole = reached[..., -1]
    going = np.ceil(whole / STEP).astype(int)
    exists = exists & (going + REST <= LONGEST)
    steps = np.where(exists, going, 0) + REST
    along = np.minimum(STEP * np.arange(1, steps.max() + 1), whole[..., None])
    leg = (reached[..., None, :] < along[..., None]).sum(axis=-1)
    leg = np.minimum(leg, legs.shape[-1] - 1)
    before = np.take_along_axis(reached - legs, leg, axis=-1)
    length = np.take_along_axis(legs, leg, axis=-1)
    share = np.divide(along - before, length, out=np.zeros_like(along), where=length > 0)
    start = np.take_along_axis(points, leg[..., None], axis=2)
    end = np.take_along_axis(points, leg[..., None] + 1, axis=2)
    return Transit(to_room(poses, start + share[..., None] * (end - start)), steps, exists)


# What a control step makes of position and velocity, measured from the target.
_ONE_STEP = np.eye(2) + np.tensordot(np.expm1(CONTROL_DT * RATES), PROJECTIONS, 1)
