"""Plan a push: the public functions, which check what they are given."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple, get_args

import jax
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from nsf_pipeline import checks
from nsf_pipeline.config import Planner, SearchConfig
from nsf_pipeline.config.policy_file import MOST_NOISE
from nsf_pipeline.errors import UserError
from nsf_pipeline.flow.guard import require_key
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.planning import cem, contact
from nsf_pipeline.planning.goal import Goal
from nsf_pipeline.planning.models import WorldModel
from nsf_pipeline.planning.pushes import Push
from nsf_pipeline.planning.search import KEPT, Found, Search, merged
from nsf_pipeline.pusht import geometry
from nsf_pipeline.pusht.simulator import FARTHEST
from nsf_pipeline.pusht.state import STATE, STATE_WITHOUT_VELOCITY

TOLERATED = 2.0
"""px; by so much agent, block and walls may overlap: an agent that pushes does."""


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
        UserError: an argument means nothing, agent, block and walls overlap by more than
            `TOLERATED`, or the goal is outside the table.
    """
    known = known_state(state)
    require_clear(known)
    require_key(key)
    (found,) = plan_batch(
        model,
        known[None],
        goals=None if goal is None else [goal],
        keys=[key],
        config=config,
        action_noise_std=[action_noise_std],
    )
    return found


@with_defaults
def plan_batch(
    model: WorldModel,
    states: Any,
    *,
    goals: Goal | Sequence[Goal] | None = None,
    keys: Sequence[PRNGKeyArray] | Array,
    config: SearchConfig | None = None,
    action_noise_std: float | Sequence[float] = 0.0,
) -> list[Plan]:
    """Plan one push of each of several episodes; the model is called for all of them together.

    A plan depends on its own episode alone, not on what is planned beside it. Agent, block and
    walls may overlap in a state, for the environment's reset lets them.

    Args:
        model: predicts where pushes end.
        states: (n, 7) px, px/s, rad; or (n, 5), as for `plan`; n at least 1.
        goals: one for all, or one for each; the environment's goal if None.
        keys: (n) one for each.
        config: which planner, and its budget.
        action_noise_std: px; the noise that the executed actions will have: one for all, or one
            for each.

    Raises:
        UserError: a state has another shape, or a number that is not finite or farther from 0
            than 1e6; a goal is outside the table; there is not one key and goal for each state; a
            key is of another generator; or there is no such planner.
    """
    config = SearchConfig() if config is None else config
    _require_kind("model", model, WorldModel, "a world model, such as OnePass(model, draws=4)")
    _require_kind("config", config, SearchConfig, "a SearchConfig, as in planning.search")
    if config.planner not in get_args(Planner):
        raise UserError(f"expected planner to be {' or '.join(get_args(Planner))}, got another")
    given_states = checks.numbers("states", states, (None, None))
    checks.whole("the number of states", len(given_states), 1)
    known = np.stack([known_state(state) for state in given_states])
    each: list[Any] = _one_each("goals", Goal() if goals is None else goals, len(known))
    levels: list[Any] = _one_each("action_noise_std", action_noise_std, len(known))
    keys = _several("keys", keys, len(known))
    for goal in each:
        _require_kind("the goal", goal, Goal, "a Goal, as in Goal(np.array([300.0, 300.0, 0.0]))")
    each = [goal.meant() for goal in each]
    noise = np.array(
        [checks.number("action_noise_std", std, least=0.0, most=MOST_NOISE) for std in levels]
    )
    randoms = [_generator(key) for key in keys]
    search = Search(model, known, each, randoms, noise)
    found = []
    if config.planner in ("contact", "both"):
        found.append(contact.find(search, config.contact))
    if config.planner in ("cem", "both"):
        found.append(cem.find(search, config.cem))
    # Costs of the two are times, and so compare.
    bests = [functools.reduce(merged, each) for each in zip(*found, strict=True)]
    return [
        Plan(best.candidates.push(0), float(best.costs[0]), int(queries), best.best(KEPT))
        for best, queries in zip(bests, search.queries, strict=True)
    ]


def _require_kind(name: str, given: Any, kind: type, words: str) -> None:
    """Raise a UserError for what is of another kind."""
    if not isinstance(given, kind):
        raise UserError(f"expected {name} to be {words}, got {checks.shown(given)}")


def _one_each(name: str, given: Any, count: int) -> list[Any]:
    """What is given for each of some states; or the same for all, if it is one."""
    is_several = isinstance(given, Sequence | np.ndarray) and not isinstance(given, Goal | str)
    return _several(name, given, count) if is_several else [given] * count


def _several(name: str, given: Any, count: int) -> list[Any]:
    """What is given for each of some states.

    Raises:
        UserError: it is no sequence, or another number.
    """
    try:
        found = list(given)
    except TypeError:
        raise UserError(f"expected {name} for {count} states, got {checks.shown(given)}") from None
    if len(found) != count:
        raise UserError(f"expected {name} for {count} states, got {len(found)}")
    return found


@with_defaults  # which refuses keys of another generator
def _generator(key: PRNGKeyArray) -> np.random.Generator:
    require_key(key)
    return np.random.default_rng(np.asarray(jax.random.key_data(key)))


def require_clear(state: np.ndarray) -> None:
    """Check that nothing overlaps in a state (7,): the agent, the block and the walls.

    The environment's own reset can give such a state, but a state that was made up should not.

    Raises:
        UserError: something overlaps, by more than `TOLERATED`.
    """
    agent, pose = state[STATE.agent], state[STATE.block]
    (low, high), outline = geometry.WALLS, geometry.t_outline(pose)
    for name, least, most in (
        ("agent", agent.min() - geometry.AGENT_RADIUS, agent.max() + geometry.AGENT_RADIUS),
        ("block", outline.min(), outline.max()),
    ):
        if least < low - TOLERATED or most > high + TOLERATED:
            raise UserError(
                f"state: the {name} reaches from {least:.1f} to {most:.1f} px, beyond the walls at "
                f"{low:g} and {high:g} px; move it inwards"
            )
    distance = np.linalg.norm(agent - geometry.nearest_on_block(pose, agent))
    if distance < geometry.AGENT_RADIUS - TOLERATED:
        raise UserError(
            f"state: agent and block overlap: {distance:.1f} px from the agent's centre to the "
            f"block, but its radius is {geometry.AGENT_RADIUS:g} px; move one of them"
        )


def known_state(state: Any) -> np.ndarray:
    """(7,) a state of which the agent's velocity may not be given; it is then taken to be 0.

    Raises:
        UserError: it has neither 7 nor 5 numbers, or one is not finite or farther from 0 than half
            of what a simulator can be in, so that what comes of it is not beyond that.
    """
    array = checks.numbers("state", state, (None,))
    layout = STATE_WITHOUT_VELOCITY
    if len(array) == layout.dim:
        array = STATE.join(array[layout.agent], np.zeros(2), array[layout.block])
    if len(array) != STATE.dim:
        raise UserError(
            f"expected state to have {STATE.dim} numbers ({STATE.meaning}) or {layout.dim} "
            f"({layout.meaning}), got {len(array)}"
        )
    return checks.numbers("state", array, least=-FARTHEST / 2, most=FARTHEST / 2)
