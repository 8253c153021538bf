"""The planners and models of the tables, as episodes ask them."""

from collections.abc import Sequence

import jax
import numpy as np

from nsf_pipeline.config import DMPConfig, PolicyConfig, SearchConfig
from nsf_pipeline.data.policies import sample_policy
from nsf_pipeline.data.randomness import Stream, generator
from nsf_pipeline.dmp import targets
from nsf_pipeline.planning.goal import Goal
from nsf_pipeline.planning.models import WorldModel
from nsf_pipeline.planning.planner import plan_batch
from nsf_pipeline.protocols.episodes import Decide, Decision, Rules, Situation
from nsf_pipeline.protocols.rows import DISTURBED, HELD, HIDDEN, SHORT, Row
from nsf_pipeline.pusht.geometry import GOAL_POSE, SUCCESS_THRESHOLD
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.timing import num_steps

WARM_UP = Situation(0, 0, np.array([100.0, 400.0, 0.0, 0.0, 300.0, 200.0, 1.0]), SUCCESS_THRESHOLD)
"""Planned for once before the clock starts, so that JAX compiles what the planner needs."""

SHORT_CANDIDATES, SHORT_ROUNDS = 300, 4
"""The most that the rows of the short table may take of the search with `cem`."""


def rules_of(row: Row) -> Rules:
    """What makes a row's episodes harder than the standard ones."""
    rules = Rules(
        action_noise_std=row.action_noise_std,
        disturbed=row.variation == DISTURBED,
        held=row.variation == HELD,
        hides_velocity=row.variation == HIDDEN,
    )
    return rules._replace(thresholds=(SUCCESS_THRESHOLD,)) if row.variation == SHORT else rules


def decider(model: WorldModel, row: Row, search: SearchConfig, seed: int) -> Decide:
    """A row's planner with its model, for `episodes.play`.

    A push depends on the seed, the episode, the number of the push and the situation alone.

    Args:
        model: the world model.
        row: of the tables; it says which planner, and the noise that the planner expects.
        search: the planners' budgets.
        seed: of all random numbers.
    """
    config = search.model_copy(update={"planner": row.planner})
    if row.variation == SHORT:
        config = _shortened(config)
    key = jax.random.key(seed)

    def decide(situations: Sequence[Situation]) -> list[Decision]:
        plans = plan_batch(
            model,
            np.array([each.state for each in situations]),
            goals=[Goal(GOAL_POSE, each.aim) for each in situations],
            keys=[
                jax.random.fold_in(jax.random.fold_in(key, each.episode), each.decision)
                for each in situations
            ],
            config=config,
            action_noise_std=row.action_noise_std,
        )
        return [
            Decision(
                plan.push.targets(model.dmp),
                plan.considered.ends[0, :, STATE.block].mean(axis=0),
                plan.queries,
            )
            for plan in plans
        ]

    return decide


def at_random(dmp: DMPConfig, row: Row, search: SearchConfig, seed: int) -> Decide:
    """A planner that asks no model: each push is one of those that `cem` starts from.

    Args:
        dmp: what all DMPs have in common.
        row: of the tables; it says which noise the actions have.
        search: the budget of `cem`, of which the range of durations counts.
        seed: of all random numbers; a push depends on the episode and its number besides.
    """
    prior = PolicyConfig(duration=search.cem.duration)

    def one(each: Situation) -> Decision:
        random = generator(seed, each.episode, Stream.EPISODE, each.decision)
        policy = sample_policy(random, each.state, prior, dmp, row.action_noise_std)
        wanted = targets(policy, dmp, num_steps(float(policy.duration)))
        return Decision(wanted, each.state[STATE.block], 0)

    return lambda situations: [one(each) for each in situations]


def _shortened(search: SearchConfig) -> SearchConfig:
    """A search that is a quarter as long: the default run has not the time for more."""
    most = {"candidates": SHORT_CANDIDATES, "rounds": SHORT_ROUNDS}
    least = {name: min(getattr(search.cem, name), value) for name, value in most.items()}
    elites = min(search.cem.elites, least["candidates"])
    return search.model_copy(
        update={"cem": search.cem.model_copy(update={**least, "elites": elites})}
    )
