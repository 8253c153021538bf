"""Episodes in gym-pusht's own environment, one control step at a time.

`simulator` gives the same states faster. Results that are compared with other people's are made
here, by `env.reset(seed=...)` and `env.step(action)` alone.
"""

from typing import Any

import gym_pusht  # noqa: F401  (it registers the environment)
import gymnasium
import numpy as np
import pymunk

from nsf_pipeline import checks
from nsf_pipeline.pusht.compat import ensure_add_collision_handler
from nsf_pipeline.pusht.geometry import WORKSPACE
from nsf_pipeline.pusht.state import STATE

ENVIRONMENT = "gym_pusht/PushT-v0"
MAX_STEPS = 300
"""Steps after which gym-pusht's registered environment ends an episode."""
DECIMALS = 12
"""Coverage is rounded to so many: the environment's polygons give other last bits each time."""


def as_actions(targets: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Targets with noise as the environment takes them: float32 within the workspace.

    Args:
        targets: (..., 2) px.
        noise: (..., 2) px.
    """
    return np.clip(targets + noise, *WORKSPACE).astype(np.float32)


class Episode:
    """One episode of gym-pusht's environment."""

    def __init__(self, seed: int) -> None:
        """Make the environment and reset it.

        Args:
            seed: of `env.reset`, a whole number below 2^63.
        """
        ensure_add_collision_handler()
        # The checker only warns of what gym-pusht's own spaces are like.
        self._env = gymnasium.make(ENVIRONMENT, disable_env_checker=True)
        self._env.reset(seed=checks.whole("seed", seed, most=2**63 - 1))

    @property
    def _inner(self) -> Any:
        return self._env.unwrapped

    @property
    def state(self) -> np.ndarray:
        """(7,) float64 as `STATE`; px, px/s, rad."""
        agent, block = self._inner.agent, self._inner.block
        return STATE.join(agent.position, agent.velocity, (*block.position, block.angle))

    def step(self, action: np.ndarray) -> float:
        """Take one control step.

        Args:
            action: (2,) float32 px, as `as_actions` gives it.

        Returns:
            The share of the goal that the block then covers, as the environment says it.
        """
        *_, info = self._env.step(action)
        return min(round(float(info["coverage"]), DECIMALS), 1.0)

    def enter(self, state: np.ndarray) -> None:
        """Put agent and block into a state, with the block at rest.

        What follows does not depend on the seed of the reset.

        Args:
            state: (7,) px, px/s, rad; nothing may overlap there.
        """
        inner = self._inner
        for body in (inner.agent, inner.block):
            # A reset with an overlap leaves a correction, which the next step would carry out.
            pymunk.Body.update_position(body, 0.0)
        inner.agent.position = state[STATE.agent].tolist()
        inner.agent.velocity = state[STATE.velocity].tolist()
        inner.space.reindex_shapes_for_body(inner.agent)
        self.place_block(state[STATE.block])

    def place_block(self, pose: np.ndarray) -> None:
        """Move the block to a pose, where it rests.

        Args:
            pose: (3,) px, px, rad; nothing may overlap there.
        """
        inner = self._inner
        # The angle comes first: setting it turns the block about its centre of mass, so moves it.
        inner.block.angle = float(pose[2])
        inner.block.position = pose[:2].tolist()
        inner.block.velocity, inner.block.angular_velocity = (0.0, 0.0), 0.0
        inner.space.reindex_shapes_for_body(inner.block)
