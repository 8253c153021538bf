"""Goals some steps ahead on the same trajectory: the protocol by which world models are compared.

A task starts in a state of a test trajectory, and its goal is the state some steps later. Where the
trajectory ends before that, it goes on with further policies, drawn as those of the data. Twice as
many steps may be taken. Two rules say what counts as success:

- stable-worldmodel's: after any step, agent and block are both at the goal, within `TOLERANCE`: the
  four coordinates of their positions as one norm, and the angle;
- a stricter one, of the block alone: it stays within the same tolerances for `GOAL_HELD` steps. No
  task starts with the block there.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np

from nsf_pipeline.config import Config, SearchConfig
from nsf_pipeline.data.policies import sample_policy
from nsf_pipeline.data.randomness import Stream, generator
from nsf_pipeline.data.schema import GOAL_HELD, NEVER
from nsf_pipeline.dmp import targets
from nsf_pipeline.errors import UserError
from nsf_pipeline.evaluation.continued import continued
from nsf_pipeline.evaluation.ensembles import load_test_split
from nsf_pipeline.planning.goal import Goal, Tolerance
from nsf_pipeline.planning.models import WorldModel
from nsf_pipeline.planning.planner import plan_batch
from nsf_pipeline.planning.transit import LONGEST, is_free, to_block, transits
from nsf_pipeline.protocols.tasks import is_possible
from nsf_pipeline.pusht.episode import Episode, as_actions
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.system.printing import progress
from nsf_pipeline.timing import num_steps

TOLERANCE = Tolerance(20.0, np.pi / 9)
"""px and rad; stable-worldmodel's for PushT."""
WAIT = 3
"""Steps for which the agent stays at its own goal, once it is there."""
OFFSETS, DIRECTIONS = (0.0, 10.0, 20.0, 30.0), 16
"""px, from the agent's own goal, and in how many directions: where the way round the block may end,
at the first offset for which there is one. From there the agent goes straight."""


class GoalTasks(NamedTuple):
    """Some tasks.

    Attributes:
        trajectory: (n) index in the whole data set.
        step: (n) control step of the state.
        state: (n, 7) px, px/s, rad, where the task starts.
        goal: (n, 7) the state to reach.
    """

    trajectory: np.ndarray
    step: np.ndarray
    state: np.ndarray
    goal: np.ndarray

    def between(self, first: int, stop: int) -> "GoalTasks":
        """The tasks from `first` up to, and without, `stop`."""
        return GoalTasks(*(values[first:stop] for values in self))


def ahead(dataset: Path, config: Config, count: int, steps: int) -> GoalTasks:
    """Tasks from different test trajectories, drawn at random.

    Args:
        dataset: the data set.
        config: the settings that made it.
        count: how many.
        steps: from the state to the goal.

    Raises:
        StoreError: the data set cannot be read.
        UserError: the test split gives fewer.
    """
    test, simulator = load_test_split(dataset), Simulator()
    order = np.random.default_rng([config.seed, Stream.TASK, steps]).permutation(
        len(test["trajectory"])
    )
    found: list[tuple[int, int, np.ndarray, np.ndarray]] = []
    for row in order:
        trajectory = int(test["trajectory"][row])
        random = generator(config.seed, trajectory, Stream.TASK, steps)
        step = int(random.integers(test["length"][row]))
        states = continued(simulator, test, int(row), step + steps, random, config).states
        state, goal = states[[step, step + steps], : STATE.dim]
        if not at_goal(state, goal).block and is_possible(goal[STATE.block]):
            found.append((trajectory, step, state, goal))
        if len(found) == count:
            return GoalTasks(*(np.array(values) for values in zip(*found, strict=True)))
    raise UserError(
        f"{dataset}: expected {count} tasks with goals {steps} steps ahead, but its test split "
        f"gives {len(found)}; lower protocols.goal_tasks or raise num_trajectories"
    )


class AtGoal(NamedTuple):
    """Whether agent and block are at the goal, and whether the block is."""

    both: bool
    block: bool


def goal_of(state: np.ndarray) -> Goal:
    """The goal that a state (7,) is, for block and agent."""
    return Goal(state[STATE.block], agent=state[STATE.agent], tolerance=TOLERANCE)


def at_goal(state: np.ndarray, goal: np.ndarray) -> AtGoal:
    """What a state (7,) is with respect to a goal (7,)."""
    wanted = goal_of(goal)
    both, block = wanted.is_met(state), wanted._replace(agent=None).is_met(state)
    return AtGoal(bool(both), bool(block))


class _Attempt:
    """A task that is being tried."""

    def __init__(self, number: int, state: np.ndarray, goal: np.ndarray, budget: int) -> None:
        self.number, self.goal, self.budget = number, goal, budget
        self.env = Episode(0)  # of the seed nothing is left once the state is entered
        self.env.enter(state)
        self.actions = np.zeros((budget, 2), np.float32)
        self.length = self.decisions = self.queries = self.in_a_row = 0
        self.both_step = self.block_step = NEVER

    @property
    def is_over(self) -> bool:
        """Whether both rules are met, or all steps taken."""
        return self.length >= self.budget or NEVER not in (self.both_step, self.block_step)

    def carry_out(self, wanted: np.ndarray) -> None:
        """Take the steps of a push or a way, until the task is over."""
        self.decisions += 1
        for target in wanted:
            if self.is_over:
                return
            action = as_actions(target, np.zeros(2))
            self.actions[self.length] = action
            self.env.step(action)
            self.length += 1
            found = at_goal(self.env.state, self.goal)
            self.in_a_row = self.in_a_row + 1 if found.block else 0
            if found.both and self.both_step == NEVER:
                self.both_step = self.length
            if self.in_a_row >= GOAL_HELD and self.block_step == NEVER:
                self.block_step = self.length


def attempt(
    model: WorldModel | None,
    tasks: GoalTasks,
    first: int,
    steps: int,
    search: SearchConfig,
    config: Config,
) -> tuple[dict[str, np.ndarray], float]:
    """Try some tasks, side by side, in gym-pusht's environment.

    Args:
        model: what to plan with; None for random policies, drawn as those of the data.
        tasks: those of the shard.
        first: number of the first one.
        steps: from the state to the goal; twice as many may be taken.
        search: planner and budget.
        config: the seed, and what random policies are drawn from.

    Returns:
        The arrays of a file of goals; the processor's seconds that it took.
    """
    started = time.process_time()
    tried = [
        _Attempt(first + place, state, goal, 2 * steps)
        for place, (state, goal) in enumerate(zip(tasks.state, tasks.goal, strict=True))
    ]
    waiting, report = tried, progress()
    while waiting:
        pushing = []
        for each in waiting:
            state = each.env.state
            if model is None:
                random = generator(config.seed, each.number, Stream.TASK, steps, each.decisions)
                policy = sample_policy(random, state, config.policies, config.dmp, 0.0)
                each.carry_out(targets(policy, config.dmp, num_steps(float(policy.duration))))
                continue
            way = None
            if goal_of(each.goal).has_block(state):
                way = _way(state, each.goal[STATE.agent])
            if way is None:
                pushing.append(each)
            else:
                each.carry_out(way)
        if pushing and model is not None:
            _push(model, pushing, search, config.seed)
        waiting = [each for each in waiting if not each.is_over]
        report(f"{len(tried) - len(waiting)} of {len(tried)} tasks ended")
    names = ("length", "actions", "both_step", "block_step", "queries")
    arrays = {name: np.array([getattr(each, name) for each in tried]) for name in names}
    numbers = np.arange(first, first + len(tried))
    return {"task": numbers, **tasks._asdict(), **arrays}, time.process_time() - started


def _push(model: WorldModel, tried: Sequence[_Attempt], search: SearchConfig, seed: int) -> None:
    key = jax.random.key(seed)
    plans = plan_batch(
        model,
        np.array([each.env.state for each in tried]),
        goals=[goal_of(each.goal) for each in tried],
        keys=[
            jax.random.fold_in(jax.random.fold_in(key, each.number), each.decisions)
            for each in tried
        ],
        config=search,
    )
    for each, plan in zip(tried, plans, strict=True):
        each.queries += plan.queries
        each.carry_out(plan.push.targets(model.dmp))


def _way(state: np.ndarray, end: np.ndarray) -> np.ndarray | None:
    """(steps, 2) px: the agent's way to its own goal, which may end close to the block.

    None if there is none round the block.
    """
    pose = state[None, STATE.block]
    turns = np.linspace(0.0, 2 * np.pi, DIRECTIONS, endpoint=False)
    ring = np.stack([np.cos(turns), np.sin(turns)], axis=-1)
    for offset in OFFSETS:
        places = (end + offset * ring)[None]
        is_clear = is_free(to_block(pose, places))
        way = transits(state[None, STATE.agent], pose, places)
        possible = (is_clear & way.exists)[0]
        if possible.any():
            row = int(np.where(possible, way.steps[0], LONGEST + 1).argmin())
            gone = way.targets[0, row, : way.steps[0, row]]
            return np.concatenate([gone, np.repeat(end[None], WAIT, axis=0)])
    return None
