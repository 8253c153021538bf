"""Plan a push: the public functions, which check what they are given."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import PRNGKeyArray

from nsf_pipeline import checks
from nsf_pipeline.config import SearchConfig
from nsf_pipeline.errors import UserError
from nsf_pipeline.flow.guard import require_key
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.planning import cem, contact
from nsf_pipeline.planning.goal import Goal
from nsf_pipeline.planning.models import WorldModel
from nsf_pipeline.planning.pushes import Push
from nsf_pipeline.planning.search import KEPT, Found, Search
from nsf_pipeline.pusht.state import STATE, STATE_WITHOUT_VELOCITY

MOST_NOISE = 1000.0
"""px; no noise on actions is greater."""


class Plan(NamedTuple):
    """A push that a planner has chosen.

    Attributes:
        push: what to execute, whole.
        cost: s; its expected cost, as the model has it.
        queries: how many candidates the model was asked about.
        considered: the best candidates with their predicted ends and costs, best first.
    """

    push: Push
    cost: float
    queries: int
    considered: Found


def plan(
    model: WorldModel,
    state: Any,
    *,
    goal: Goal | None = None,
    key: PRNGKeyArray,
    config: SearchConfig | None = None,
    action_noise_std: float = 0.0,
) -> Plan:
    """Plan one push.

    Args:
        model: predicts where pushes end.
        state: (7,) px, px/s, rad; or (5,), without the agent's velocity, which is taken to be 0.
        goal: where the block should be; the environment's goal if None.
        key: for all random numbers: the same key gives the same plan.
        config: which planner, and its budget.
        action_noise_std: px; the noise that the executed actions will have.

    Raises:
        UserError: an argument means nothing, agent or block are not within the walls or overlap, or
            the goal is outside the table.
    """
    checks.require_shape("state", np.shape(state), (None,))
    require_key(key)
    (found,) = plan_batch(
        model,
        np.asarray(state)[None],
        goals=goal,
        keys=[key],
        config=config,
        action_noise_std=action_noise_std,
    )
    return found


@with_defaults
def plan_batch(
    model: WorldModel,
    states: Any,
    *,
    goals: Goal | Sequence[Goal] | None = None,
    keys: Sequence[PRNGKeyArray] | PRNGKeyArray,
    config: SearchConfig | None = None,
    action_noise_std: float = 0.0,
) -> list[Plan]:
    """Plan one push of each of several episodes; the model is called for all of them together.

    A plan depends on its own episode alone, not on what is planned beside it.

    Args:
        model: predicts where pushes end.
        states: (n, 7) px, px/s, rad; or (n, 5), as for `plan`.
        goals: one for all, or one for each; the environment's goal if None.
        keys: (n) one for each.
        config: which planner, and its budget.
        action_noise_std: px; the noise that the executed actions will have.

    Raises:
        UserError: as for `plan`, or there is not one key and goal for each state.
    """
    config = SearchConfig() if config is None else config
    known = _known_states(states)
    each = [goals or Goal()] * len(known) if isinstance(goals, Goal | None) else list(goals)
    for name, given in (("goals", each), ("keys", keys)):
        if len(given) != len(known):
            raise UserError(f"expected {name} for {len(known)} states, got {len(given)}")
    for goal in each:
        goal.require_meaning()
    noise = checks.number("action_noise_std", action_noise_std, least=0.0, most=MOST_NOISE)
    randoms = [_generator(key) for key in keys]
    search = Search(model, known, each, randoms, noise)
    if config.planner == "cem":
        found = cem.find(search, config.cem)
    else:
        found = contact.find(search, config.contact)
    return [
        Plan(best.candidates.push(0), float(best.costs[0]), int(queries), best.best(KEPT))
        for best, queries in zip(found, search.queries, strict=True)
    ]


def _generator(key: PRNGKeyArray) -> np.random.Generator:
    require_key(key)
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def _known_states(states: Any) -> np.ndarray:
    """(n, 7) states of which the agent's velocity may not be given."""
    array = checks.numbers("states", states, (None, None))
    layout = STATE_WITHOUT_VELOCITY
    if array.shape[1] == layout.dim:
        agent, block = array[:, layout.agent], array[:, layout.block]
        array = STATE.join(agent, np.zeros_like(agent), block)
    checks.require_shape("states", array.shape, (None, STATE.dim))
    return array
