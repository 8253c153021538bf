"""Stretches of demonstrations: cut, fitted by a DMP, and replayed in the simulator."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from nsf_pipeline.config import Config
from nsf_pipeline.data.imports.demonstration import Demonstration
from nsf_pipeline.data.imports.fit import fitted
from nsf_pipeline.data.policies import enterable
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.errors import UserError
from nsf_pipeline.pusht.geometry import WORKSPACE
from nsf_pipeline.pusht.keypoints import corners, placed
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE, STATE_WITHOUT_VELOCITY
from nsf_pipeline.timing import num_steps

SHORTEST = 5
"""Steps of a stretch, at least."""


class Stretch(NamedTuple):
    """A piece of a demonstration.

    Attributes:
        episode: number of the demonstration.
        first: its first step there.
        state: (7,) where it starts, as `STATE`; the agent's velocity follows from its first step.
        actions: (T, 2) float32 px, as recorded.
        policy: the DMP nearest to them; its noise is the root mean square of the difference, px.
        path: (T, 2) px, the DMP's targets.
        error: px; how far, at most, agent or a corner of the block is from where it was recorded,
            when the recorded actions are replayed; infinite if the state cannot be entered.
    """

    episode: int
    first: int
    state: np.ndarray
    actions: np.ndarray
    policy: DMPParams
    path: np.ndarray
    error: float

    @property
    def residual(self) -> float:
        """px; root mean square of the difference between the DMP's targets and the actions."""
        return float(self.policy.action_noise_std)


class Cutter:
    """Cuts demonstrations into stretches."""

    def __init__(self, config: Config, most_residual: float) -> None:
        """Prepare.

        Args:
            config: the settings; a stretch has at most the steps of the longest policy.
            most_residual: px; a stretch whose DMP is farther off is halved, while both halves have
                `SHORTEST` steps.
        """
        self._dmp, policies = config.dmp, config.policies
        self._longest = num_steps(policies.duration[1])
        self._most = most_residual
        self._stiffness = sum(policies.stiffness) / 2
        ratio = sum(policies.damping_ratio) / 2
        self._damping = 2.0 * ratio * self._stiffness**0.5
        self._simulator = Simulator()

    def cut(self, demonstration: Demonstration) -> Iterator[Stretch]:
        """The stretches of a demonstration; what is shorter than `SHORTEST` at its end is left."""
        steps = len(demonstration.actions)
        for first in range(0, steps, self._longest):
            yield from self._cut(demonstration, first, min(first + self._longest, steps))

    def _cut(self, demonstration: Demonstration, first: int, stop: int) -> Iterator[Stretch]:
        count = stop - first
        if count < SHORTEST:
            return
        actions = demonstration.actions[first:stop].clip(*WORKSPACE).astype(np.float32)
        agent = demonstration.states[first, STATE_WITHOUT_VELOCITY.agent]
        policy, path = fitted(
            agent, actions.astype(np.float64), self._dmp, self._stiffness, self._damping
        )
        if policy.action_noise_std > self._most and count >= 2 * SHORTEST:
            middle = first + count // 2
            yield from self._cut(demonstration, first, middle)
            yield from self._cut(demonstration, middle, stop)
            return
        recorded = demonstration.states[first : stop + 1]
        state, error = self._replayed(recorded, actions.astype(np.float64))
        start = state[STATE.agent]
        yield Stretch(
            episode=demonstration.number,
            first=first,
            state=state,
            actions=actions,
            policy=policy._replace(start=start),
            path=path,
            error=error,
        )

    def _replayed(self, recorded: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, float]:
        """The first state (7,), and how far a replay strays from what is recorded, (S, 5)."""
        layout = STATE_WITHOUT_VELOCITY
        agents, blocks = recorded[:, layout.agent], recorded[:, layout.block]
        state = STATE.join(agents[0], np.zeros(2), blocks[0])
        try:
            # The agent's path is linear in its velocity, so two steps tell what the velocity was.
            resting, moving = (self._after(state, speed, actions[:1]) for speed in (0.0, 1.0))
            state[STATE.velocity] = (agents[1] - resting) / (moving - resting)
            state = enterable(state)
        except UserError:
            return state, np.inf
        self._simulator.enter(state)
        states = self._simulator.rollout(actions)[: len(recorded)]
        off = np.linalg.norm(states[:, STATE.agent] - agents, axis=-1).max()
        points = placed(corners(), states[:, STATE.block]) - placed(corners(), blocks)
        return state, float(max(off, np.linalg.norm(points, axis=-1).max()))

    def _after(self, state: np.ndarray, speed: float, actions: np.ndarray) -> np.ndarray:
        """(2,) px; where the agent is after an action if it moves at this speed along both axes."""
        started = state.copy()
        started[STATE.velocity] = speed
        self._simulator.enter(started)
        return np.asarray(self._simulator.rollout(actions)[1, STATE.agent])
