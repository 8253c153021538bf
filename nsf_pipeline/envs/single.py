"""PushT in the simulator as one Gymnasium environment."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from nsf_pipeline.envs import outcome
from nsf_pipeline.pusht import geometry
from nsf_pipeline.pusht.factors import USUAL, Factors
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE

REACH = geometry.WORKSPACE


class PushTEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """gym-pusht's environment with the observation `state`, several times as fast.

    Spaces, resets, observations, rewards, ends and `info` are gym-pusht's. States and observations
    have the same bits. Coverage, and with it the reward, agrees to within 1e-9: gym-pusht's own has
    other last bits each time. An action outside the space is refused; gym-pusht takes it.

    `reset(options={"state": s})` starts in the seven numbers s: the agent's x and y (px), its
    velocity x and y (px/s), the block's x and y (px) and angle (rad), with the block at rest.
    """

    metadata = outcome.METADATA
    action_space: spaces.Box

    def __init__(
        self,
        *,
        render_mode: str | None = "rgb_array",
        visualization_width: int = outcome.VISUALISED,
        visualization_height: int = outcome.VISUALISED,
        block_scale: float = USUAL.block_scale,
        agent_radius: float = USUAL.agent_radius,
        goal_pose: Any = USUAL.goal_pose,
        walls: Any = USUAL.walls,
        action_noise_std: float = 0.0,
    ) -> None:
        """Create it.

        Args:
            render_mode: `rgb_array` or None.
            visualization_width: px, of rendered frames.
            visualization_height: px.
            block_scale: size of the T and of its goal, in multiples of gym-pusht's.
            agent_radius: px.
            goal_pose: (3) x, y (px) and angle (rad) of the goal.
            walls: (2) least and greatest coordinate within the walls, px.
            action_noise_std: px; standard deviation of Gaussian noise that is added to each action,
                which is then clipped to the space. It is drawn from `np_random`.

        Raises:
            UserError: a setting is out of its range.
        """
        self.render_mode = outcome.render_mode(render_mode)
        self.observation_space = outcome.observation_space()
        self.action_space = outcome.target_space(*REACH)
        factors = Factors(block_scale, agent_radius, goal_pose, walls)
        size = outcome.frame_size(visualization_width, visualization_height)
        self.simulator = Simulator(factors, notes_contacts=True, frame_size=size)
        self.action_noise_std = outcome.noise_std(action_noise_std)
        self._pose: list[float] = []
        self._coverage = 0.0

    @property
    def factors(self) -> Factors:
        """What differs from gym-pusht's scene."""
        return self.simulator.factors

    def reset(
        self, *, seed: int | None = None, options: Any = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: of gym-pusht's reset; None goes on with the random numbers of the last.
            options: `state`, the seven numbers to start in.

        Raises:
            UserError: an unknown option, or the state means nothing.
        """
        given = outcome.options_of(options, ("state",))
        entered = outcome.state_in(given, (STATE.dim,)) if "state" in given else None
        super().reset(seed=seed)
        if entered is None:
            self.simulator.reset(self.np_random)
        else:
            self.simulator.enter(entered)
        observation, info = self._seen(self.simulator.state())
        return observation, info | {"is_success": False}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Draw the agent towards a target for one control step of 0.1 s.

        Args:
            action: (2,) px, the target.

        Returns:
            Observation, reward, whether the block covers the goal, False, and `info`. With noise,
            `info` has `executed_action` (2,) float32 px too: the target with its noise.

        Raises:
            UserError: another shape, or the action is not in the space.
        """
        target, executed = outcome.actions_in(self.action_space, action, (2,)), {}
        if self.action_noise_std:
            noisy = target + self.np_random.normal(0.0, self.action_noise_std, 2)
            target = noisy.clip(*REACH).astype(np.float32)
            executed = {"executed_action": target}
        self.simulator.move(*target.tolist())
        state = self.simulator.state()
        observation, info = self._seen(state)
        pose = state[STATE.block]
        if (found := pose.tolist()) != self._pose:  # the block mostly rests
            factors = self.factors
            share = geometry.coverage(pose, factors.goal, factors.block_scale)
            self._pose, self._coverage = found, float(share)
        is_success = self._coverage > geometry.SUCCESS_THRESHOLD
        reward = min(self._coverage / geometry.SUCCESS_THRESHOLD, 1.0)
        info |= {"is_success": is_success, "coverage": self._coverage} | executed
        return observation, reward, is_success, False, info

    def render(self) -> np.ndarray | None:
        """(height, width, 3) uint8, as gym-pusht draws it; None if `render_mode` is None."""
        return None if self.render_mode is None else self.simulator.render()

    def _seen(self, state: np.ndarray) -> tuple[np.ndarray, dict[str, Any]]:
        x, y, _, _, block_x, block_y, angle = state.tolist()
        observation = np.array((x, y, block_x, block_y, angle % outcome.FULL_TURN))
        info = outcome.info_of(state, self.factors)
        return observation, info | {"n_contacts": int(self.simulator.touched)}
