"""Policies that a planner chooses: what the second round of data is made of.

A run is some pushes in a row from one start, in the simulator and with action noise. Starts and
levels of the noise are drawn as those of all trajectories, goals as the block's poses in mid-task
starts. The planner goes for the least coverage in `THRESHOLDS` that was not exceeded yet, and for a
new goal when all were. Each DMP that it chooses, with the state in which the DMP starts, is a
trajectory.
"""

from typing import Any

import jax
import numpy as np

from nsf_pipeline import checks, dmp
from nsf_pipeline.config import Config
from nsf_pipeline.config.second_round import IN_A_ROW
from nsf_pipeline.data.policies import initial_states, sample_noise_std
from nsf_pipeline.data.randomness import Stream, generator, reset_seed
from nsf_pipeline.data.schema import THRESHOLDS
from nsf_pipeline.data.starts import DECIMALS, sample_start
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.planning.goal import Goal
from nsf_pipeline.planning.models import WorldModel
from nsf_pipeline.planning.planner import plan_batch
from nsf_pipeline.planning.pushes import Push
from nsf_pipeline.pusht import geometry
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.system.printing import progress
from nsf_pipeline.timing import num_steps

NUDGE = 1e-6
"""px; a state that the simulator cannot enter exactly is moved by at most this much."""


class _Run:
    """A run: where it is, and where it is to go.

    Attributes:
        state: (7,) px, px/s, rad.
        action_noise_std: px.
        random: its generator.
        key: of its plans.
        goal: what the planner goes for.
    """

    def __init__(self, config: Config, number: int, state: np.ndarray) -> None:
        self.state = state
        level = generator(config.seed, number, Stream.NOISE_LEVEL)
        self.action_noise_std = sample_noise_std(level, config.policies)
        self.random = generator(config.seed, number, Stream.SECOND_ROUND)
        self.key = jax.random.key(int(self.random.integers(2**31)))
        self.goal = self._new_goal()

    def _new_goal(self) -> Goal:
        return Goal(sample_start(self.random)[STATE.block], THRESHOLDS[0])

    def carry_out(
        self, simulator: Simulator, push: Push, config: Config
    ) -> tuple[np.ndarray, DMPParams]:
        """Carry out a push; return the state (7,) in which its DMP started, and this DMP."""
        simulator.enter(self.state)
        arrived = self._followed(simulator, push.transit)
        start = enterable(arrived, simulator, self.random)
        # As in all trajectories, the DMP starts where the agent is and lasts no longer than any.
        policy = push.policy._replace(
            start=start[STATE.agent],
            duration=np.clip(push.policy.duration, *config.policies.duration),
        )
        steps = num_steps(float(policy.duration))
        self.state = self._followed(simulator, dmp.targets(policy, config.dmp, steps))
        while (covered := float(self.goal.covered(self.state[STATE.block]))) > self.goal.coverage:
            left = [threshold for threshold in THRESHOLDS if threshold >= covered]
            self.goal = self.goal._replace(coverage=left[0]) if left else self._new_goal()
        return start, policy

    def _followed(self, simulator: Simulator, targets: np.ndarray) -> np.ndarray:
        """Follow targets (T, 2), px, with noise; return the state (7,) then."""
        noise = self.random.normal(0.0, self.action_noise_std, targets.shape)
        actions = np.clip(targets + noise, *geometry.WORKSPACE).astype(np.float32)
        return simulator.rollout(actions.astype(np.float64))[-1]


@with_defaults
def planned_policies(
    config: Config, model: WorldModel, first: int, stop: int
) -> dict[str, np.ndarray]:
    """The arrays of a policy shard of the second round.

    Its trajectories follow those of the first round, and each `IN_A_ROW` of them are a run. What a
    trajectory holds depends on the seed and its number alone, and not on the shard: one that has a
    part of a run plays the run up to there.

    Args:
        config: the settings; `planning.search` says how pushes are searched for.
        model: the planner's.
        first: the first trajectory; at least `num_trajectories`.
        stop: one past the last.

    Raises:
        ValueError: they are no whole numbers in order.
    """
    checks.whole("first", first, config.num_trajectories)
    checks.whole("stop", stop, first + 1)
    begin = first - (first - config.num_trajectories) % IN_A_ROW
    numbers = range(begin, stop, IN_A_ROW)
    starts, _ = initial_states(config, numbers, [reset_seed(config.seed, i) for i in numbers])
    runs = [_Run(config, i, state) for i, state in zip(numbers, starts, strict=True)]
    simulator, report = Simulator(), progress()
    chosen: dict[int, tuple[np.ndarray, DMPParams]] = {}
    for place in range(IN_A_ROW):
        playing = [(number, run) for number, run in zip(numbers, runs, strict=True)]
        playing = [(number, run) for number, run in playing if number + place < stop]
        if not playing:
            break
        plans = plan_batch(
            model,
            np.array([run.state for _, run in playing]),
            goals=[run.goal for _, run in playing],
            keys=[jax.random.fold_in(run.key, place) for _, run in playing],
            config=config.planning.search,
            action_noise_std=[run.action_noise_std for _, run in playing],
        )
        for (number, run), plan in zip(playing, plans, strict=True):
            chosen[number + place] = run.carry_out(simulator, plan.push, config)
        report(f"{len(chosen)} of {stop - begin} pushes")
    kept = [chosen[trajectory] for trajectory in range(first, stop)]
    fields: Any = zip(*(policy for _, policy in kept), strict=True)
    params = DMPParams(*(np.stack(values) for values in fields))
    return {
        "trajectory": np.arange(first, stop),
        "seed": np.array([reset_seed(config.seed, i) for i in range(first, stop)]),
        "initial_state": np.array([state for state, _ in kept]),
        "from_reset": np.zeros(stop - first, bool),
        **params._asdict(),
        "condition": params.as_vector(),
    }


def enterable(state: np.ndarray, simulator: Simulator, random: np.random.Generator) -> np.ndarray:
    """The state (7,) nearest to one that the simulator enters exactly, and which it then is in.

    It is rounded as all mid-task starts are, so that the data set's scaling gives it back exactly.
    Chipmunk cannot represent every position of the block, so this one is moved by up to `NUDGE`
    until the state is entered exactly.

    Args:
        state: (7,) px, px/s, rad.
        simulator: the simulator, which is changed.
        random: the generator of the moves.
    """
    entered = state.round(DECIMALS)
    simulator.enter(entered)
    while (simulator.state() != entered).any():
        moved = state.copy()
        moved[STATE.block_position] += random.uniform(-NUDGE, NUDGE, 2)
        entered = moved.round(DECIMALS)
        simulator.enter(entered)
    return entered
