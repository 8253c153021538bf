"""A simulator that also takes pictures and counts contacts, which other people's data hold."""

import math
from typing import Any, NamedTuple

import numpy as np

from nsf_pipeline.pusht.environment import CONTROL
from nsf_pipeline.pusht.simulator import FRAME_SIZE, Simulator


class Recording(NamedTuple):
    """What actions did.

    Attributes:
        states: (T + 1, 7) float64, as `STATE`.
        contacts: (T) contact points per substep, rounded up, as the diffusion-policy environment
            counts them.
        frames: (T + 1, size, size, 3) uint8; none if there is no size.
    """

    states: np.ndarray
    contacts: np.ndarray
    frames: np.ndarray | None


class Recorder(Simulator):
    """The same physics, bit for bit."""

    def __init__(self, size: int = 0) -> None:
        """Set up the simulator.

        Args:
            size: px; width and height of the pictures; 0: none are taken.
        """
        super().__init__()
        self._size, self._points = size, 0
        self._space: Any = None
        for env in (self._env, self._canvas):
            env.visualization_width = env.visualization_height = size or FRAME_SIZE

    def record(self, actions: np.ndarray) -> Recording:
        """Carry out actions from the current state.

        Args:
            actions: (T, 2) px.
        """
        if self._space is not self._env.space:
            self._space = self._env.space
            self._space.add_collision_handler(0, 0).post_solve = self._count
        states, contacts = [self.state()], []
        frames = [self._picture()] if self._size else []
        for action in actions:
            self._points = 0
            states.append(self.rollout(action[None])[-1])
            contacts.append(math.ceil(self._points / CONTROL.substeps))
            if self._size:
                frames.append(self._picture())
        return Recording(
            np.array(states), np.array(contacts, int), np.array(frames) if self._size else None
        )

    def _picture(self) -> np.ndarray:
        """The scene as gym-pusht's observation of pixels shows it: without the last action."""
        self._env._last_action = None
        return self.render()

    def _count(self, arbiter: Any, space: Any, data: Any) -> None:
        self._points += len(arbiter.contact_point_set.points)
