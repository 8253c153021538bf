"""PushT as a trained model has learnt it, as many Gymnasium environments in one."""

from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from nsf_pipeline.envs import MAX_STEPS, outcome
from nsf_pipeline.envs.vector import BatchEnv, Moved
from nsf_pipeline.learned_envs.dynamics import Draws, Dynamics, factors_of, new_key
from nsf_pipeline.model import PushTModel
from nsf_pipeline.pusht.factors import USUAL
from nsf_pipeline.pusht.simulator import Simulator


class LearnedPushTVectorEnv(BatchEnv):
    """Environments in which a trained model draws what comes next, all in one pass.

    Resets are gym-pusht's. Observations, rewards and coverage are those of the state that the model
    drew; a draw outside the window is brought back to its border. `info` has gym-pusht's entries
    but for `n_contacts`: a model draws states, not contacts. The same seed and actions give the
    same draws.

    With mode `step` an action is the agent's target for one control step of 0.1 s; the space ends
    where the policies' paths do (`dmp.workspace`), for the model has seen no targets beyond. With
    mode `policy` it is a whole DMP that starts where the agent is: its duration (s), its goal's x
    and y (px), and its weights row by row; stiffness and damping are those of the default data.
    The step then takes all control steps of the policy, and success is judged at its end.
    """

    def __init__(
        self,
        num_envs: int = 1,
        *,
        model: PushTModel | Path | str | None = None,
        mode: str = "step",
        render_mode: str | None = "rgb_array",
        max_episode_steps: int | None = MAX_STEPS,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        visualization_width: int = outcome.VISUALISED,
        visualization_height: int = outcome.VISUALISED,
        goal_pose: Any = USUAL.goal_pose,
        action_noise_std: float = 0.0,
        **others: Any,
    ) -> None:
        """Create it.

        Args:
            num_envs: how many.
            model: a trained model, or the path of its file.
            mode: what an action is, `step` or `policy`.
            render_mode: `rgb_array` or None.
            max_episode_steps: actions after which an episode is truncated; None or -1 for never.
            autoreset_mode: one of Gymnasium's.
            visualization_width: px, of rendered frames.
            visualization_height: px.
            goal_pose: (3) x, y (px) and angle (rad) of the goal.
            action_noise_std: px; standard deviation of the noise on the agent's targets, which the
                model takes into account.
            others: factors that only the simulator knows, which are refused.

        Raises:
            UserError: there is no such model, it is not one for this, or a setting is out of its
                range.
        """
        factors = factors_of(goal_pose, others)
        self.action_noise_std = outcome.noise_std(action_noise_std)
        self._dynamics = Dynamics(model, mode)
        super().__init__(
            num_envs,
            self._dynamics.space,
            factors,
            render_mode=render_mode,
            max_episode_steps=max_episode_steps,
            autoreset_mode=autoreset_mode,
        )
        size = outcome.frame_size(visualization_width, visualization_height)
        self._simulator = Simulator(factors, frame_size=size)  # resets, and draws frames
        self._keys = np.zeros((self.num_envs, 2), np.uint32)

    def _begin(self, rows: np.ndarray, states: np.ndarray | None) -> Moved:
        if states is None:
            states = np.array([self._simulator.reset(self.generators[row]) for row in rows])
        for row in rows:
            self._keys[row] = new_key(self.generators[row])
        return Moved(states, {})

    def _move(self, rows: np.ndarray, actions: np.ndarray) -> Moved:
        # All environments are drawn, also those whose draw is not used: one shape is compiled.
        policies = self._dynamics.policies(self.states, actions, self.action_noise_std)
        steps = self._dynamics.steps(policies)
        draws = Draws(self._keys, self.steps_taken.astype(np.uint32))
        found = self._dynamics.draw(self.states, policies, steps, draws)
        more = {"control_steps": steps[rows]} if self._dynamics.mode == "policy" else {}
        return Moved(found[rows], more)

    def _frame(self, row: int) -> np.ndarray:
        self._simulator.enter(self.states[row])
        return self._simulator.render()
