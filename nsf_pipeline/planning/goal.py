"""Goals: where the block should be, and what a predicted state costs.

The cost is a time in s, so that costs of pushes of different length compare: the time that passes
until the push ends and, unless the block is then in the goal, an estimate of the time that is still
needed, which grows with the error that remains. Where the agent has a goal too, the time of its way
there is added. The block is in the goal where it covers enough of the goal's T or, if the goal has
a tolerance, where it is within that.
"""

from typing import Any, NamedTuple

import numpy as np

from nsf_pipeline import checks
from nsf_pipeline.errors import UserError
from nsf_pipeline.pusht import geometry
from nsf_pipeline.pusht.simulator import FARTHEST
from nsf_pipeline.pusht.state import STATE, rotated

PX_PER_RAD = 55.0
"""px; how far a rotation of 1 rad moves the block's outline, on average about."""
MARGIN = 0.12
"""Share of what the aim leaves uncovered by which a prediction must exceed the aim."""
ANOTHER_PUSH = 0.3
"""s; the least that is still needed where the block is not in the goal."""
FAR, NEAR, PER_NEAR = 20.0, 3.0, 2.0
"""px per s; px; s: V = e / FAR + PER_NEAR ln(1 + e / NEAR) for the error e."""
SPEED = 250.0
"""px/s; how fast the agent goes to its own goal."""
LEFT_THERE, PREDICTED_THERE = 0.7, 0.85
"""Shares of a tolerance within which the block counts as there, so that only the agent has still to
go, and within which a prediction of block and agent counts as success."""
SETTING_OUT = 0.2
"""s; the least that the agent's way to its own goal takes."""
REACH = 400.0
"""px; the error is less than this times the share of the goal that is not covered."""


class Tolerance(NamedTuple):
    """How far from a goal is near enough.

    Attributes:
        distance: px; more than the norm of what the coordinates of the block's position miss,
            together with those of the agent's where it has a goal.
        turn: rad; more than the block's angle misses.
    """

    distance: float
    turn: float


class Goal(NamedTuple):
    """A pose that the block should take.

    Attributes:
        pose: (3,) px, px, rad; the environment's goal if not given.
        coverage: the aim; more than this share of the goal's T is to be covered.
        agent: (2,) px, where the agent should be in the end; anywhere if None.
        tolerance: counts in place of coverage, if not None.
    """

    pose: np.ndarray = geometry.GOAL_POSE
    coverage: float = geometry.SUCCESS_THRESHOLD
    agent: np.ndarray | None = None
    tolerance: Tolerance | None = None

    def meant(self) -> "Goal":
        """The same goal with its numbers as NumPy's, once it is known that the block can be there.

        Raises:
            UserError: the pose is no three finite numbers up to 1e6, the T at it is not within the
                walls, the aim is not between 0 and 1, the agent's place is no two numbers in the
                window, or a tolerance is not above 0.
        """
        least, most = geometry.WORKSPACE
        agent = self.agent
        if agent is not None:
            agent = checks.numbers("the agent's goal", agent, (2,), least=least, most=most)
        pose = checks.numbers("goal", self.pose, (3,), least=-FARTHEST, most=FARTHEST)
        if not 0.0 < checks.number("coverage", self.coverage) < 1.0:
            raise UserError(f"expected coverage between 0 and 1, got {self.coverage:g}")
        tolerance = None if self.tolerance is None else _tolerance(self.tolerance)
        low, high = geometry.WALLS
        outline = geometry.t_outline(pose)
        if outline.min() < low or outline.max() > high:
            raise UserError(
                f"the goal {shown(pose)} (px, px, rad) is outside the table: its T reaches from "
                f"{shown(outline.min(axis=0))} to {shown(outline.max(axis=0))} px, the walls are "
                f"at {low:g} and {high:g} px; move it inwards"
            )
        return Goal(pose, float(self.coverage), agent, tolerance)

    def has_block(self, states: np.ndarray) -> np.ndarray:
        """(...) whether the block need not be pushed any more in states (..., 7).

        Raises:
            UserError: a number is not finite, or there are not seven of each state; or the
                tolerance is none.
        """
        states = _states(states)
        if self.tolerance is None:
            return np.asarray(self.covered(states[..., STATE.block]) > self.coverage)
        return self._is_near(states, LEFT_THERE, None)

    def is_met(self, states: np.ndarray) -> np.ndarray:
        """(...) whether block and agent are within the tolerance in states (..., 7).

        Raises:
            UserError: as for `has_block`, or the goal has no tolerance.
        """
        if self.tolerance is None:
            raise UserError("expected a goal with a tolerance, got one without")
        return self._is_near(_states(states), 1.0, self.agent)

    def _is_near(self, states: np.ndarray, share: float, agent: np.ndarray | None) -> np.ndarray:
        """(...) whether the block, and the agent if it has a goal, are within a share of it."""
        tolerance = _tolerance(self.tolerance)
        missed = states[..., STATE.block] - _poses("goal", self.pose)
        turn = (missed[..., 2] + np.pi) % (2 * np.pi) - np.pi
        squares = (missed[..., :2] ** 2).sum(axis=-1)
        if agent is not None:
            far = states[..., STATE.agent] - checks.numbers("the agent's goal", agent, (2,))
            squares = squares + (far**2).sum(axis=-1)
        near = np.sqrt(squares) < share * tolerance.distance
        return np.asarray(near & (np.abs(turn) < share * tolerance.turn))

    def covered(self, poses: np.ndarray) -> np.ndarray:
        """(...) the share of this goal's T that the block's T covers at poses (..., 3).

        Raises:
            UserError: a number is not finite, or there are not three of each pose.
        """
        poses = _poses("poses", poses)
        (x, y, angle), (goal_x, goal_y, goal_angle) = (
            _poses("goal", self.pose),
            geometry.GOAL_POSE,
        )
        turn = goal_angle - angle
        moved_x, moved_y = rotated(poses[..., 0] - x, poses[..., 1] - y, np.cos(turn), np.sin(turn))
        angles = poses[..., 2] - angle
        moved = np.stack([goal_x + moved_x, goal_y + moved_y, goal_angle + angles], axis=-1)
        return geometry.coverage(moved)

    def distance(self, poses: np.ndarray) -> np.ndarray:
        """(...) px: the error e of poses (..., 3), by centre of mass and angle.

        e = |difference of the centres of mass| + PX_PER_RAD |difference of the angles|.

        Raises:
            UserError: as for `covered`.
        """
        return apart(_poses("goal", self.pose), _poses("poses", poses))

    def error(self, poses: np.ndarray) -> np.ndarray:
        """(..., 3) px, px, rad; how far the centre of mass must go, and the block turn.

        The turn is the shorter way round, in [-π, π).

        Raises:
            UserError: as for `covered`.
        """
        return motion(_poses("poses", poses), _poses("goal", self.pose))

    def cost(self, states: np.ndarray, seconds: np.ndarray) -> np.ndarray:
        """(...) s: the cost of ending in states (..., 7) after so many seconds (...).

        Where the goal is covered it is the time; elsewhere, with the error e,
        time + 0.3 + e / 20 + 2 ln(1 + e / 3). If the agent has a goal, its distance from it
        over `SPEED` is added. With a tolerance, it is the time where agent and block are within
        0.85 of it; where the block alone is within 0.7, the time, 0.2 and the agent's way.

        Raises:
            UserError: a number is not finite, there are not seven of each state, or a time is
                below 0.
        """
        states = _states(states)
        poses = states[..., STATE.block]
        error, seconds = self.distance(poses), checks.numbers("seconds", seconds, least=0.0)
        needed = np.asarray(ANOTHER_PUSH + error / FAR + PER_NEAR * np.log1p(error / NEAR))
        if self.tolerance is None:
            # Coverage is slow to compute: only where the error leaves it possible.
            near = error < REACH * (1.0 - self.coverage)
            if near.any():
                aim = self.coverage + MARGIN * (1.0 - self.coverage)
                needed[near] = np.where(self.covered(poses[near]) > aim, 0.0, needed[near])
        else:
            needed[self._is_near(states, LEFT_THERE, None)] = SETTING_OUT
        if self.agent is not None:
            needed += np.linalg.norm(states[..., STATE.agent] - self.agent, axis=-1) / SPEED
        if self.tolerance is not None:
            is_met = self._is_near(states, PREDICTED_THERE, self.agent)
            needed[is_met] = 0.0
        return np.asarray(seconds + needed)


def _tolerance(given: Any) -> Tolerance:
    """A tolerance, also one that was given as two numbers; a UserError if it is none."""
    found = Tolerance(*checks.numbers("tolerance", given, (2,)).tolist())
    if min(found) <= 0.0:
        raise UserError(f"expected a tolerance above 0, got {shown(np.array(found))}")
    return found


def _states(states: np.ndarray) -> np.ndarray:
    return checks.numbers("states", states, (..., STATE.dim))


def _poses(name: str, values: np.ndarray) -> np.ndarray:
    return checks.numbers(name, values, (..., 3))


def motion(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(..., 3) px, px, rad; how far the centre of mass goes and the block turns, between poses.

    The turn is the shorter way round, in [-π, π).
    """
    turn = (end[..., 2:] - start[..., 2:] + np.pi) % (2 * np.pi) - np.pi
    return np.concatenate([mass_centre(end) - mass_centre(start), turn], axis=-1)


def apart(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """(...) px; the length of a motion between poses (..., 3): |shift| + PX_PER_RAD |turn|."""
    dx, dy, turn = np.moveaxis(motion(start, end), -1, 0)
    return np.asarray(np.hypot(dx, dy) + PX_PER_RAD * np.abs(turn))


def mass_centre(poses: np.ndarray) -> np.ndarray:
    """(..., 2) px: the block's centre of mass at poses (..., 3)."""
    (x, y), angle = geometry.T_CENTRE, poses[..., 2]
    offset = np.stack(rotated(x, y, np.cos(angle), np.sin(angle)), axis=-1)
    return poses[..., :2] + offset


def shown(values: np.ndarray) -> str:
    """Numbers in a message, short."""
    return "(" + ", ".join(f"{value:g}" for value in np.round(values, 2)) + ")"
