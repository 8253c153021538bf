"""One push under noise: the measure that tells world models apart.

From a state of a test trajectory, one open-loop DMP has to bring the block to where it lies
`STEPS` later. Every model chooses from the same candidates by its own expected cost; the push is
then run in the simulator many times, each with its own action noise. The score is the share of runs
that end within a tolerance. Beside it stands what the model itself promises for the push.

The candidates are all pushes that the planner `cem` tries when it plans with the simulator without
noise: pushes of every kind, and many that nearly or fully reach the goal where there is no noise.
"""

import time
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from nsf_pipeline.config import DMPConfig, PolicyConfig, SearchConfig
from nsf_pipeline.data.policies import sample_policy
from nsf_pipeline.data.randomness import Stream, generator
from nsf_pipeline.data.schema import TOLERANCES
from nsf_pipeline.dmp import DMPParams, targets
from nsf_pipeline.planning.goal import Goal
from nsf_pipeline.planning.models import WorldModel
from nsf_pipeline.planning.planner import plan_batch
from nsf_pipeline.planning.pushes import taken
from nsf_pipeline.protocols.tasks import Tasks
from nsf_pipeline.pusht.episode import as_actions
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.system.printing import progress
from nsf_pipeline.timing import num_steps

STEPS = 25
"""Control steps from the state to the goal's pose, in the test trajectory."""
DURATION = (1.0, 2.6)
"""s; of the candidates, which may take as long as the trajectory took."""
LEAST_ERROR = 10.0
"""px; the block is at least this far from the goal at the start (`Goal.distance`)."""
FRESH = 256
"""Draws of the chosen push, at least, by which a model's promise is judged."""
SECOND_LOOK = 100
"""Candidates that a model with many draws looks at, after a first look at all with a few."""


class Recorder:
    """A world model that remembers the candidates that it was asked about."""

    def __init__(self, model: WorldModel) -> None:
        self.name, self.dmp, self._model = model.name, model.dmp, model
        self.asked: list[DMPParams] = []

    def predict(self, states: np.ndarray, policies: DMPParams, *, key: Array) -> np.ndarray:
        """See `WorldModel.predict`."""
        self.asked.append(policies)
        return self._model.predict(states, policies, key=key)


def candidates(
    exact: WorldModel, state: np.ndarray, goal: Goal, search: SearchConfig, key: PRNGKeyArray
) -> DMPParams:
    """The candidates of a task, with one leading axis.

    Args:
        exact: the simulator without noise.
        state: (7,) px, px/s, rad.
        goal: of the task.
        search: budget of the planner.
        key: for the proposals.
    """
    recorder = Recorder(exact)
    plan_batch(
        recorder,
        state[None],
        goals=[goal],
        keys=[key],
        config=search,
    )
    return DMPParams(*(np.concatenate(values) for values in zip(*recorder.asked, strict=True)))


class Trial(NamedTuple):
    """What one push is tried under.

    Attributes:
        action_noise_std: px.
        candidates: pushes that the models choose from, about.
        runs: noisy runs of each chosen push.
    """

    action_noise_std: float
    candidates: int
    runs: int


class Choice(NamedTuple):
    """A model's choice among candidates.

    Attributes:
        row: of the candidates.
        cost: s; expected.
        ends: (draws, 7) px, px/s, rad: the draws by which it was chosen.
    """

    row: int
    cost: float
    ends: np.ndarray


def choose(
    model: WorldModel, state: np.ndarray, goal: Goal, policies: DMPParams, key: PRNGKeyArray
) -> Choice:
    """The candidate of the least expected cost; only one push is judged, so time costs nothing."""
    ends, costs = _expected(model, state, goal, policies, key)
    row = int(costs.argmin())
    return Choice(row, float(costs[row]), ends[row])


def _expected(
    model: WorldModel, state: np.ndarray, goal: Goal, policies: DMPParams, key: PRNGKeyArray
) -> tuple[np.ndarray, np.ndarray]:
    """(n, draws, 7) draws of the pushes' ends, and (n) s: their mean costs."""
    states = np.tile(state, (len(policies.duration), 1))
    ends = model.predict(states, policies, key=key)
    return ends, goal.cost(ends, np.zeros(ends.shape[:2])).mean(axis=1)


def within(goal: Goal, poses: np.ndarray) -> np.ndarray:
    """(tolerances) share of poses (n, 3) that lie within each of `TOLERANCES`."""
    dx, dy, turn = goal.error(poses).T
    distance, degrees = np.hypot(dx, dy), np.degrees(np.abs(turn))
    return np.array([np.mean((distance <= px) & (degrees <= deg)) for px, deg in TOLERANCES])


def executed(
    simulator: Simulator,
    state: np.ndarray,
    policy: DMPParams,
    dmp: DMPConfig,
    noise: np.ndarray,
) -> np.ndarray:
    """(runs, 3) px, px, rad: the block's poses after noisy runs of a push.

    Args:
        simulator: is changed.
        state: (7,) px, px/s, rad, where the push starts.
        policy: the push.
        dmp: settings of its DMP.
        noise: (runs, T, 2) px, T at least as long as the push.
    """
    steps = num_steps(float(policy.duration))
    wanted = targets(policy, dmp, steps)
    actions = as_actions(wanted, noise[:, :steps]).astype(np.float64)
    return simulator.ensemble(state, actions)[:, -1, STATE.block]


def judge(
    model: WorldModel,
    look: WorldModel | None,
    exact: WorldModel,
    tasks: Tasks,
    first: int,
    trial: Trial,
    search: SearchConfig,
    seed: int,
) -> tuple[dict[str, np.ndarray], float]:
    """What comes of a model's choices in some tasks.

    Candidates and noise depend on the seed and the task's number alone, so they are the same for
    all models.

    Args:
        model: chooses.
        look: finds the `SECOND_LOOK` candidates that the model may choose from; None: all.
        exact: the simulator without noise, which finds the candidates.
        tasks: those of the shard.
        first: number of the first one.
        trial: noise, candidates and runs.
        search: how the candidates are searched for; not how many.
        seed: of all random numbers.

    Returns:
        The arrays of a file of pushes; the processor's seconds that the choices took.
    """
    action_noise_std, count, runs = trial
    simulator, key, seconds = Simulator(), jax.random.key(seed), 0.0
    each = max(1, count // search.cem.rounds)
    changes = {"candidates": each, "elites": min(each, search.cem.elites), "duration": DURATION}
    cem = search.cem.model_copy(update=changes)
    search = search.model_copy(update={"planner": "cem", "cem": cem})
    longest, found = num_steps(search.cem.duration[1]), []
    report = progress()
    # So that JAX compiles what the model needs before the clock starts.
    candidate = sample_policy(
        np.random.default_rng(0), tasks.state[0], PolicyConfig(), model.dmp, 0.0, (1,)
    )
    for each_model in (model, *([look] if look else [])):
        each_model.predict(tasks.state[:1], candidate, key=key)
    for place, (state, pose) in enumerate(zip(tasks.state, tasks.goal, strict=True)):
        number, goal = first + place, Goal(pose)
        keys = jax.random.split(jax.random.fold_in(key, number), 4)
        policies = candidates(exact, state, goal, search, keys[0])
        policies = policies._replace(
            action_noise_std=np.full_like(policies.duration, action_noise_std)
        )
        started = time.process_time()
        if look:
            _, costs = _expected(look, state, goal, policies, keys[1])
            policies = taken(policies, np.argsort(costs, kind="stable")[:SECOND_LOOK])
        choice = choose(model, state, goal, policies, keys[2])
        seconds += time.process_time() - started
        policy = taken(policies, choice.row)
        random = generator(seed, number, Stream.PUSH)
        noise = random.normal(0.0, action_noise_std, (runs, longest, 2))
        poses = executed(simulator, state, policy, model.dmp, noise)
        fresh = _fresh(model, state, policy, len(choice.ends), keys[3])
        found.append(
            {
                "task": number,
                "cost": choice.cost,
                "condition": policy.as_vector(),
                "reached": within(goal, poses),
                "promised": within(goal, fresh),
                "promised_at_choice": within(goal, choice.ends[:, STATE.block]),
            }
        )
        report(f"{place + 1} of {len(tasks.state)} tasks")
    arrays = {name: np.array([each[name] for each in found]) for name in found[0]}
    return {**tasks._asdict(), **arrays}, seconds


def _fresh(
    model: WorldModel, state: np.ndarray, policy: DMPParams, draws: int, key: PRNGKeyArray
) -> np.ndarray:
    """(n, 3) px, px, rad: new draws of a push, at least `FRESH`; one if the model has no noise."""
    times = -(-FRESH // draws) if draws > 1 else 1
    policies = DMPParams(*(np.repeat(np.asarray(value)[None], times, axis=0) for value in policy))
    ends = model.predict(np.tile(state, (times, 1)), policies, key=key)
    return ends.reshape(-1, STATE.dim)[:, STATE.block]
