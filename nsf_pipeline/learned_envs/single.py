"""PushT as a trained model has learnt it, as one Gymnasium environment."""

from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode

from nsf_pipeline.envs import outcome
from nsf_pipeline.learned_envs.vector import LearnedPushTVectorEnv
from nsf_pipeline.model import PushTModel
from nsf_pipeline.pusht.factors import USUAL


class LearnedPushTEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """One environment in which a trained model draws what comes next.

    It is `LearnedPushTVectorEnv` with one environment: see there.
    """

    metadata = outcome.METADATA
    action_space: spaces.Box

    def __init__(
        self,
        model: PushTModel | Path | str | None = None,
        *,
        mode: str = "step",
        render_mode: str | None = "rgb_array",
        visualization_width: int = outcome.VISUALISED,
        visualization_height: int = outcome.VISUALISED,
        goal_pose: Any = USUAL.goal_pose,
        action_noise_std: float = 0.0,
        **others: Any,
    ) -> None:
        """Create it; the arguments are those of `LearnedPushTVectorEnv`.

        Raises:
            UserError: as there.
        """
        self._one = LearnedPushTVectorEnv(
            1,
            model=model,
            mode=mode,
            render_mode=render_mode,
            max_episode_steps=None,
            autoreset_mode=AutoresetMode.DISABLED,
            visualization_width=visualization_width,
            visualization_height=visualization_height,
            goal_pose=goal_pose,
            action_noise_std=action_noise_std,
            **others,
        )
        self.render_mode = self._one.render_mode
        self.observation_space = self._one.single_observation_space
        self.action_space = self._one.single_action_space

    def reset(
        self, *, seed: int | None = None, options: Any = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode; the arguments and errors are those of `PushTEnv.reset`."""
        outcome.options_of(options, ("state",))
        super().reset(seed=seed)
        self._one.generators[0] = self.np_random
        observations, info = self._one.reset(options=options)
        return observations[0], _first(info)

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Draw what an action leads to.

        Args:
            action: (a,) in the space.

        Returns:
            As `PushTEnv.step`; with mode `policy`, `info` has `control_steps` too.

        Raises:
            UserError: another shape, or the action is not in the space.
        """
        given = outcome.actions_in(self.action_space, action, self.action_space.shape or ())
        self._one.has_ended[:] = False  # steps after the end are allowed, as in `PushTEnv`
        observations, rewards, ended, _, info = self._one.step(given[None])
        return observations[0], float(rewards[0]), bool(ended[0]), False, _first(info)

    def render(self) -> np.ndarray | None:
        """(height, width, 3) uint8, as gym-pusht would draw it; None if `render_mode` is None."""
        frames = self._one.render()
        return None if frames is None else frames[0]


def _first(info: dict[str, Any]) -> dict[str, Any]:
    """`info` of the one environment, with plain numbers."""
    found = {name: values[0] for name, values in info.items() if not name.startswith("_")}
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in found.items()
    }
