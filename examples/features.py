"""What the networks of the examples see, and the numbers that they predict.

All of it is seen from the block: vectors are turned into the frame of the T.
"""

import numpy as np

from nsf_pipeline import dmp
from nsf_pipeline.config import DMPConfig
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.pusht.state import STATE

LENGTH, SPEED, LEVEL = 100.0, 200.0, 8.0
"""px, px/s and px: the sizes that lengths, speeds and levels of noise are divided by."""


def desired(condition: np.ndarray, times: np.ndarray, config: DMPConfig) -> np.ndarray:
    """(n, P, 2) px: where policies (n, C) want the agent at times (n, P) s."""
    path = dmp.integrate(DMPParams.from_vector(np.asarray(condition, np.float64)), config)
    return dmp.evaluate(path, np.asarray(times, np.float64), config).astype(np.float32)


def features(
    state: np.ndarray, path: np.ndarray, gap: np.ndarray, condition: np.ndarray
) -> np.ndarray:
    """(n, F) numbers of order one: the agent and its path from the block, and the surroundings.

    Args:
        state: (n, 7) px, px/s, rad.
        path: (n, P, 2) px, where the policy wants the agent at times up to the end.
        gap: (n) s, from start to end.
        condition: (n, C) the packed DMP vector.
    """
    angle, block = state[:, STATE.angle], state[:, STATE.block_position]
    noise = DMPParams.from_vector(condition).action_noise_std
    points = np.concatenate([state[:, None, STATE.agent], path], axis=1) - block[:, None]
    parts = [
        _turned(points, -angle).reshape(len(state), -1) / LENGTH,
        _turned(state[:, None, STATE.velocity], -angle)[:, 0] / SPEED,
        (block - 256.0) / 256.0,
        np.stack([np.sin(angle), np.cos(angle), gap, noise / LEVEL], axis=1),
    ]
    return np.concatenate(parts, axis=1).astype(np.float32)


def changes(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(n, 7): how states (n, 7) differ, seen from the block at the start; px, px/s, rad."""
    moved = (end - start)[:, : STATE.angle].reshape(len(start), -1, 2)
    turned = _turned(moved, -start[:, STATE.angle]).reshape(len(start), -1)
    return np.concatenate([turned, (end - start)[:, STATE.angle :]], axis=1)


def changed(start: np.ndarray, change: np.ndarray) -> np.ndarray:
    """(n, 7): the states whose `changes` these are."""
    moved = _turned(change[:, : STATE.angle].reshape(len(start), -1, 2), start[:, STATE.angle])
    moved = np.concatenate([moved.reshape(len(start), -1), change[:, STATE.angle :]], axis=1)
    return start + moved


def _turned(vectors: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Vectors (n, k, 2) turned by angles (n) rad."""
    c, s = np.cos(angle)[:, None], np.sin(angle)[:, None]
    x, y = vectors[..., 0], vectors[..., 1]
    return np.stack([c * x - s * y, s * x + c * y], axis=-1)
