"""Pushes: what a planner searches over, and what is executed.

A push brings the agent to where it starts pushing, by targets one control step apart, and then
follows a DMP. A push without such a transit starts where the agent is.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nsf_pipeline import checks, dmp
from nsf_pipeline.config import DMPConfig
from nsf_pipeline.config.section import MAX_DURATION
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.timing import CONTROL_DT, ROUNDING, num_steps


class Push(NamedTuple):
    """One push.

    Attributes:
        transit: (steps, 2) px, the targets that bring the agent to where the DMP starts; (0, 2)
            if it is there.
        policy: the DMP that follows.
    """

    transit: np.ndarray
    policy: DMPParams

    @property
    def steps(self) -> int:
        """Control steps, of transit and DMP.

        Raises:
            UserError: the DMP's duration is none.
        """
        return len(self.transit) + self._policy_steps

    @property
    def seconds(self) -> float:
        """How long it takes, s."""
        return self.steps * CONTROL_DT

    def targets(self, config: DMPConfig) -> np.ndarray:
        """(steps, 2) px: the agent's targets, one for each control step.

        Those of the DMP are where it wants to be when the step ends, as in all rollouts.

        Raises:
            UserError: a target of the transit, or a parameter of the DMP, means nothing.
        """
        transit = checks.numbers("transit", self.transit, (None, 2))
        return np.concatenate([transit, dmp.targets(self.policy, config, self._policy_steps)])

    @property
    def _policy_steps(self) -> int:
        duration = checks.number("duration", self.policy.duration, above=0.0, most=MAX_DURATION)
        return num_steps(duration)


class Candidates(NamedTuple):
    """Many pushes, as a planner handles them.

    Attributes:
        transit: (n, steps, 2) px, padded with the last target.
        transit_steps: (n) how many of the targets are meant.
        states: (n, 7) px, px/s, rad; where each DMP starts.
        policies: the DMPs, with one leading axis n.
    """

    transit: np.ndarray
    transit_steps: np.ndarray
    states: np.ndarray
    policies: DMPParams

    @classmethod
    def without_transit(cls, state: np.ndarray, policies: DMPParams) -> "Candidates":
        """Policies that start in one state (7,)."""
        count = len(policies.duration)
        return cls(
            np.zeros((count, 0, 2)), np.zeros(count, int), np.tile(state, (count, 1)), policies
        )

    @property
    def seconds(self) -> np.ndarray:
        """(n) s, how long each takes."""
        return (self.transit_steps + policy_steps(self.policies)) * CONTROL_DT

    def take(self, rows: np.ndarray) -> "Candidates":
        """Those in some rows."""
        transit, steps, states = (values[rows] for values in self[:3])
        return Candidates(transit, steps, states, taken(self.policies, rows))

    def push(self, row: int) -> Push:
        """One of them, without its padding."""
        return Push(self.transit[row, : self.transit_steps[row]].copy(), taken(self.policies, row))


def joined(parts: Sequence[Candidates]) -> Candidates:
    """Candidates one after the other."""
    longest = max(part.transit.shape[1] for part in parts)
    transits = [_padded(part.transit, longest) for part in parts]
    steps, states = (np.concatenate([part[column] for part in parts]) for column in (1, 2))
    policies = [part.policies for part in parts]
    merged = DMPParams(*(np.concatenate(values) for values in zip(*policies, strict=True)))
    return Candidates(np.concatenate(transits), steps, states, merged)


def taken(policies: DMPParams, rows: np.ndarray | int) -> DMPParams:
    """The policies in some rows of the first axis."""
    return DMPParams(*(values[rows] for values in policies))


def policy_steps(policies: DMPParams) -> np.ndarray:
    """(n) control steps of policies with one leading axis; each is `num_steps` of the duration."""
    return np.maximum(1, np.ceil(policies.duration / CONTROL_DT - ROUNDING)).astype(int)


def _padded(transit: np.ndarray, steps: int) -> np.ndarray:
    missing = steps - transit.shape[1]
    return np.pad(transit, ((0, 0), (0, missing), (0, 0)), "edge" if transit.size else "constant")
