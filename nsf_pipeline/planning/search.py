"""What the planners share: candidates of several episodes, asked of the model together."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nsf_pipeline.numerics import GENERATOR
from nsf_pipeline.planning.goal import Goal, apart
from nsf_pipeline.planning.models import WorldModel
from nsf_pipeline.planning.pushes import Candidates, joined
from nsf_pipeline.pusht.state import STATE

MOVED, IN_VAIN = 1.0, 5.0
"""px, s; a push that moves the block by less, and not to the goal, costs so much more. After it the
planner stands where it stood before; without the extra cost, waiting would look cheaper than any
risk, for ever."""
KEPT = 100
"""Candidates of an episode that are kept, the best ones."""


class Found(NamedTuple):
    """Candidates of one episode with what the model says of them, best first.

    Attributes:
        candidates: n pushes.
        ends: (n, draws, 7) px, px/s, rad; the predicted states at their ends.
        costs: (n) s, means over the draws.
    """

    candidates: Candidates
    ends: np.ndarray
    costs: np.ndarray

    def take(self, rows: np.ndarray) -> "Found":
        """Those in some rows."""
        return Found(self.candidates.take(rows), self.ends[rows], self.costs[rows])

    def best(self, count: int) -> "Found":
        """The cheapest ones, cheapest first."""
        return self.take(np.argsort(self.costs, kind="stable")[:count])


class Search:
    """The episodes that are planned for side by side.

    Attributes:
        model: predicts where pushes end.
        states: (n, 7) px, px/s, rad; where the episodes are.
        goals: (n) theirs.
        randoms: (n) their generators of random numbers.
        noise: (n) px; the standard deviations of the noise on executed actions.
        queries: (n) candidates that the model was asked about.
    """

    def __init__(
        self,
        model: WorldModel,
        states: np.ndarray,
        goals: Sequence[Goal],
        randoms: Sequence[np.random.Generator],
        noise: np.ndarray,
    ) -> None:
        self.model, self.states, self.goals = model, states, goals
        self.randoms, self.noise = randoms, noise
        self.queries = np.zeros(len(states), int)

    def evaluate(
        self, proposals: Sequence[Candidates], started: Sequence[np.ndarray | float] | None = None
    ) -> list[Found]:
        """Ask the model about some candidates of each episode, in one call.

        Args:
            proposals: of each episode, at least one candidate.
            started: s; when each candidate starts. At once if not given.
        """
        merged, counts = joined(proposals), [len(part.transit_steps) for part in proposals]
        keys = [
            random.integers(0, 2**32, (count, 2), np.uint32)
            for random, count in zip(self.randoms, counts, strict=True)
        ]
        self.queries += counts
        ends = self.model.predict(
            merged.states,
            merged.policies,
            key=jax.random.wrap_key_data(jnp.asarray(np.concatenate(keys)), impl=GENERATOR),
        )
        found, stop = [], 0
        for episode, (goal, part) in enumerate(zip(self.goals, proposals, strict=True)):
            first, stop = stop, stop + counts[episode]
            own, seconds = ends[first:stop], part.seconds
            if started is not None:
                seconds = seconds + started[episode]
            costs = goal.cost(own, seconds[:, None])
            if not goal.has_block(self.states[episode]):
                moved = apart(part.states[:, None, STATE.block], own[..., STATE.block])
                is_in_vain = (moved < MOVED) & (costs > seconds[:, None])
                costs = np.where(is_in_vain, costs + IN_VAIN, costs)
            costs = costs.mean(axis=1)
            found.append(Found(part, own, costs))
        return found


def merged(one: Found, other: Found, count: int = KEPT) -> Found:
    """The best of two."""
    both = Found(
        joined([one.candidates, other.candidates]),
        np.concatenate([one.ends, other.ends]),
        np.concatenate([one.costs, other.costs]),
    )
    return both.best(count)
