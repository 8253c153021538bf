"""Planning: goals, the way round the block, world models, both planners, and a plan's file."""

import functools
import inspect
import json
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_model import model_of

from nsf_pipeline.cli import main
from nsf_pipeline.config import (
    CEMConfig,
    Config,
    ContactConfig,
    DMPConfig,
    PolicyConfig,
    SearchConfig,
)
from nsf_pipeline.data.policies import sample_policy
from nsf_pipeline.data.rollouts import desired_positions
from nsf_pipeline.data.starts import sample_start
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import FileError
from nsf_pipeline.model import save_model
from nsf_pipeline.planning import (
    Goal,
    InSteps,
    Noiseless,
    Nominal,
    OnePass,
    Push,
    Simulated,
    Tolerance,
    models,
    plan,
    plan_batch,
    search,
)
from nsf_pipeline.planning import goal as goals
from nsf_pipeline.planning.file import PlanFile, load_plan, save_plan
from nsf_pipeline.planning.pushes import Candidates, policy_steps, taken
from nsf_pipeline.planning.transit import arrivals, is_free, to_block, transits
from nsf_pipeline.pusht import geometry
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.timing import CONTROL_DT, num_steps

DMP = DMPConfig()
KEY = jax.random.key(0)
NOMINAL = Nominal(DMP)
SMALL = {
    "cem": SearchConfig(planner="cem", cem=CEMConfig(candidates=60, rounds=3)),
    "contact": SearchConfig(
        planner="contact",
        contact=ContactConfig(
            candidates=60, varied=30, beam=4, per_face=2, second_candidates=10, second_varied=5
        ),
    ),
}
CLEAR = np.array([100.0, 100.0, 0.0, 0.0, 256.0, 200.0, 0.3])
OTHER = Goal(np.array([180.0, 300.0, -2.0]))


def policies_from(state, count, noise=0.0):
    prior = PolicyConfig(duration=(1.0, 1.5))
    return sample_policy(np.random.default_rng(0), state, prior, DMP, noise, (count,))


# Goals.


@pytest.mark.parametrize("goal", [Goal(), OTHER])
def test_what_is_covered_depends_on_the_pose_relative_to_the_goal(goal):
    random = np.random.default_rng(0)
    (x, y, angle), turn = goal.pose, goal.pose[2] - geometry.GOAL_POSE[2]
    offset, turns = random.normal(0.0, 20.0, (50, 2)), random.normal(0.0, 0.3, 50)
    environment = geometry.GOAL_POSE + np.column_stack([offset, turns])
    cos, sin = np.cos(turn), np.sin(turn)
    moved = offset @ np.array([[cos, sin], [-sin, cos]])
    poses = np.column_stack([x + moved[:, 0], y + moved[:, 1], angle + turns + 2 * np.pi])
    np.testing.assert_allclose(goal.covered(poses), geometry.coverage(environment), atol=1e-9)
    np.testing.assert_allclose(goal.distance(poses), Goal().distance(environment), atol=1e-9)
    assert goal.covered(goal.pose) == pytest.approx(1.0)
    assert goal.distance(goal.pose) == 0.0


@pytest.mark.parametrize("share", [0.3, 0.8, 0.95, 0.99])
def test_far_from_the_goal_too_little_is_covered(share):
    random = np.random.default_rng(0)
    spread = (1.0 - share) * np.array([60.0, 60.0, 1.0])
    poses = geometry.GOAL_POSE + random.normal(0.0, 1.0, (20_000, 3)) * spread
    covered = Goal().covered(poses) > share
    assert covered.mean() > 0.02
    assert Goal().distance(poses)[covered].max() < 0.9 * goals.REACH * (1.0 - share)


def test_a_cost_is_the_time_and_what_is_still_needed():
    goal = Goal()
    poses = geometry.GOAL_POSE + np.array([[0.0, 0.0, 2 * np.pi], [30.0, 40.0, 0.0]])
    needed = goals.ANOTHER_PUSH + 50.0 / 20.0 + 2.0 * np.log1p(50.0 / 3.0)
    states = np.pad(poses, ((0, 0), (STATE.dim - 3, 0)))
    np.testing.assert_allclose(goal.cost(states, np.array([1.5, 2.0])), [1.5, 2.0 + needed])


def test_the_way_of_the_agent_to_its_own_goal_costs_time():
    goal = Goal(agent=np.array([100.0, 100.0]))
    states = np.array([[130.0, 140.0, 9.0, 9.0, *geometry.GOAL_POSE], [100.0, 100.0, *CLEAR[2:]]])
    costs, without = (each.cost(states, np.ones(2)) for each in (goal, Goal()))
    np.testing.assert_allclose(costs - without, [50.0 / goals.SPEED, 0.0])
    assert costs[0] == 1.0 + 50.0 / goals.SPEED


def test_with_a_tolerance_what_is_near_enough_costs_its_time_alone():
    """At 10 px, and with the agent too far, and with the block too far."""
    goal = Goal(agent=np.array([100.0, 100.0]), tolerance=Tolerance(20.0, 0.4))
    there = np.array([100.0, 110.0, 9.0, 9.0, *geometry.GOAL_POSE])
    states = there + np.outer([0, 1, 0], np.eye(7)[0] * 40) + np.outer([0, 0, 1], np.eye(7)[4] * 15)
    assert goal.is_met(states).tolist() == [True, False, True]
    assert goal.has_block(states).tolist() == [True, True, False]
    costs = goal.cost(states, np.ones(3))
    way = np.hypot(40.0, 10.0) / goals.SPEED
    np.testing.assert_allclose(costs[:2], [1.0, 1.0 + goals.SETTING_OUT + way])
    assert costs[2] > 1.0 + goals.ANOTHER_PUSH
    turned = there + 0.41 * np.eye(7)[6]
    assert not goal.is_met(turned)
    with pytest.raises(UserError, match="expected a goal with a tolerance"):
        Goal().is_met(states)


# Pushes, and the way round the block.


def test_targets_are_those_of_rollouts_after_the_transit():
    policies = policies_from(CLEAR, 5, noise=3.0)
    expected = desired_positions(policies.as_vector(), Config())
    assert policy_steps(policies).tolist() == [num_steps(each) for each in policies.duration]
    for row, steps in enumerate(policy_steps(policies)):
        push = Push(np.full((3, 2), 50.0), taken(policies, row))
        assert push.seconds == pytest.approx((3 + steps) * CONTROL_DT)
        np.testing.assert_array_equal(push.targets(DMP)[:3], 50.0)
        np.testing.assert_allclose(push.targets(DMP)[3:], expected[row, :steps])


def test_the_agent_goes_round_the_block_without_touching_it():
    """In the simulator, from beside the block and away from it, at rest."""
    random, simulator, count = np.random.default_rng(0), Simulator(), 40
    states = np.stack([sample_start(random) for _ in range(count)])
    states[:, STATE.velocity] = 0.0
    ends = random.uniform(40.0, 470.0, (count, 60, 2))
    own = to_block(states[:, STATE.block], ends)
    # One end for each state, clear of the block.
    ends = ends[np.arange(count), is_free(own).argmax(axis=1)][:, None]
    ways = transits(states[:, STATE.agent], states[:, STATE.block], ends)
    there = ways.exists[:, 0]
    assert there.mean() > 0.8
    arrived = arrivals(states, ways.targets[:, 0], ways.steps[:, 0])
    for row in np.flatnonzero(there):
        simulator.enter(states[row])
        path = simulator.rollout(ways.targets[row, 0, : ways.steps[row, 0]])
        np.testing.assert_allclose(path[-1], arrived[row], atol=0.2)
        np.testing.assert_allclose(path[-1, STATE.agent], ends[row, 0], atol=12.0)


# World models.


@functools.cache
def asked(count=5):
    return np.tile(CLEAR, (count, 1)), policies_from(CLEAR, count, noise=4.0)


@eqx.filter_jit
@functools.partial(jax.vmap, in_axes=(None, 0, 0, 0))
def of_the_law(transition, end, condition, key):
    """Three draws; the one without noise, and what the couplings have made it of."""
    law = transition(jnp.asarray(CLEAR, jnp.float32), jnp.zeros(()), end, condition)
    whole = law.law.residual.whole
    base = whole.noiseless()
    for coupling in reversed(whole.couplings):
        base, _ = coupling.inverse(base, whole.delta, whole.context, whole.base)
    draws = jax.vmap(law.sample)(jax.random.split(key, 3))
    return draws, law.noiseless(), base - whole.base.loc


@functools.cache
def expected():
    _, policies = asked()
    ends = jnp.asarray(CONTROL_DT * policy_steps(policies), jnp.float32)
    conditions = jnp.asarray(policies.as_vector(), jnp.float32)
    keys = jax.random.split(KEY, len(ends))
    return of_the_law(model_of().transition, ends, conditions, keys)


def test_one_pass_gives_draws_of_the_law_at_the_end():
    found = OnePass(model_of(), 3).predict(*asked(), key=KEY)
    assert found.shape == (5, 3, 7)
    np.testing.assert_allclose(found, expected()[0], atol=0.02)


def test_the_draw_without_noise_is_that_of_the_base_s_mean():
    np.testing.assert_allclose(expected()[2], 0.0, atol=1e-3)


@pytest.mark.thorough
def test_without_noise_there_is_one_draw():
    found = Noiseless(model_of()).predict(*asked(), key=KEY)
    np.testing.assert_allclose(found[:, 0], expected()[1], atol=0.02)
    assert found.shape == (5, 1, 7)


@pytest.mark.thorough
def test_a_model_without_velocity_goes_control_step_by_control_step():
    found = InSteps(model_of(5, False), 2).predict(*asked(), key=KEY)
    assert found.shape == (5, 2, 7)
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found[..., STATE.velocity], 0.0)
    assert (found[:, 0] != found[:, 1]).any(axis=1).all()


def test_the_nominal_push_is_near_the_simulator_without_noise():
    states, policies = asked(60)
    exact = Simulated(DMP, 0).predict(states, policies, key=KEY)
    found = NOMINAL.predict(states, policies, key=KEY)
    assert exact.shape == found.shape == (60, 1, 7)
    np.testing.assert_allclose(found[..., STATE.agent], exact[..., STATE.agent], atol=0.1)
    moved, missed = (
        np.linalg.norm(far[:, STATE.block_position], axis=1)
        for far in (exact[:, 0] - states, (found - exact)[:, 0])
    )
    assert (moved > 5.0).sum() > 10
    assert np.median(missed[moved > 5.0]) < 2.0


def test_members_of_the_simulator_have_the_policy_s_noise():
    states, policies = asked(2)
    policies = policies._replace(action_noise_std=np.array([0.0, 8.0]))
    found = Simulated(DMP, 4).predict(states, policies, key=KEY)
    spread = found[..., STATE.agent].std(axis=1)
    assert (spread[0] == 0.0).all()
    assert (spread[1] > 0.5).all()


# Planners.


@pytest.mark.parametrize("planner", SMALL)
def test_a_plan_depends_on_its_own_episode_and_key_alone(planner):
    states = np.stack([CLEAR, CLEAR + np.array([300.0, 250.0, 0.0, 0.0, 20.0, 40.0, 1.0])])
    keys = jax.random.split(KEY, 2)
    both = plan_batch(NOMINAL, states, keys=keys, goals=[OTHER, Goal()], config=SMALL[planner])
    for state, goal, key, beside in zip(states, [OTHER, Goal()], keys, both, strict=True):
        alone = plan(NOMINAL, state, goal=goal, key=key, config=SMALL[planner])
        targets = alone.push.targets(DMP)
        np.testing.assert_allclose(beside.push.targets(DMP), targets, atol=1e-3)
        assert alone.cost == pytest.approx(beside.cost, abs=1e-3)
        assert alone.queries == beside.queries
    assert not np.array_equal(both[0].push.policy.goal, both[1].push.policy.goal)


@pytest.mark.parametrize("planner", SMALL)
def test_a_plan_says_what_it_considered(planner):
    config = SMALL[planner]
    found = plan(NOMINAL, CLEAR, key=KEY, config=config, action_noise_std=5.0)
    queries = {"cem": 3 * 60, "contact": 90 + 4 * 15}[planner]
    assert found.queries == queries
    candidates, ends, costs = found.considered
    assert (np.diff(costs) >= 0.0).all()
    assert costs[0] == found.cost
    np.testing.assert_array_equal(candidates.push(0).targets(DMP), found.push.targets(DMP))
    assert (candidates.policies.action_noise_std == 5.0).all()
    own = Goal().cost(ends[:, 0], candidates.seconds) + in_vain(ends)
    # A second push can only make a first one better.
    assert (costs <= own + 1e-9).all()
    if planner == "cem":
        np.testing.assert_allclose(costs, own)


def in_vain(ends):
    """What ends (n, 1, 7) after `CLEAR` cost more, where the block was hardly moved."""
    moved = goals.apart(CLEAR[STATE.block], ends[:, 0, STATE.block])
    return np.where(moved < search.MOVED, search.IN_VAIN, 0.0)


def test_a_push_in_vain_costs_more():
    candidates = Candidates.without_transit(CLEAR, policies_from(CLEAR, 40))
    asked = search.Search(NOMINAL, CLEAR[None], [OTHER], [np.random.default_rng(0)], np.zeros(1))
    (found,) = asked.evaluate([candidates])
    more = found.costs - OTHER.cost(found.ends[:, 0], candidates.seconds)
    np.testing.assert_allclose(more, in_vain(found.ends), atol=1e-9)
    assert {*np.round(more)} == {0.0, search.IN_VAIN}


def test_a_push_that_reaches_the_goal_is_not_in_vain():
    """However little is missing: here less than 1 px."""
    goal = Goal(CLEAR[STATE.block] + [0.5, 0.0, 0.0], coverage=0.99)
    state = CLEAR.copy()
    state[STATE.block] = goal.pose - [0.5, 0.0, 0.0]

    class Exact:
        name, dmp = "exact", DMP

        def predict(self, states, policies, *, key):
            ends = states[:, None].copy()
            ends[..., STATE.block] = goal.pose
            return ends

    candidates = Candidates.without_transit(state, policies_from(state, 3))
    asked = search.Search(Exact(), state[None], [goal], [np.random.default_rng(0)], np.zeros(1))
    assert not goal.has_block(state)
    np.testing.assert_allclose(asked.evaluate([candidates])[0].costs, candidates.seconds)


def test_the_cheaper_push_of_both_planners_is_taken():
    one, other, both = (
        plan(NOMINAL, CLEAR, key=KEY, config=SMALL["cem"].model_copy(update={"planner": planner}))
        for planner in ("contact", "cem", "both")
    )
    assert both.queries == one.queries + other.queries
    assert both.cost <= one.cost
    # Both kinds are considered: with a way round the block, and without.
    assert len(set(both.considered.candidates.transit_steps == 0)) == 2


@pytest.mark.parametrize(("planner", "seed"), [("cem", 100_000), ("contact", 100_004)])
def test_the_nominal_push_suffices_to_solve_an_episode(planner, seed):
    simulator, taken_steps, best = Simulator(), 0, 0.0
    state = simulator.reset(seed)
    config = SearchConfig(planner=planner)
    for number in range(30):
        (found,) = plan_batch(
            NOMINAL, state[None], keys=[jax.random.fold_in(KEY, number)], config=config
        )
        path = simulator.rollout(found.push.targets(DMP))
        best = max(best, geometry.coverage(path[:, STATE.block]).max())
        state, taken_steps = path[-1], taken_steps + len(path) - 1
        if best > geometry.SUCCESS_THRESHOLD or taken_steps >= 300:
            break
    assert best > geometry.SUCCESS_THRESHOLD
    assert taken_steps <= 300


def test_an_agent_that_is_shut_in_still_gets_a_push():
    """Between the block and a corner of the room there is no way out."""
    state = np.array([24.0, 24.0, 0.0, 0.0, 68.0, 68.0, -np.pi / 4])
    found = plan_batch(NOMINAL, [state], keys=[KEY], config=SMALL["contact"])[0]
    assert np.isfinite(found.push.targets(DMP)).all()


@pytest.mark.parametrize(
    "state", [[100.0, 100.0, 256.0, 200.0, 0.3], [100.0, 100.0, 0.0, 0.0, 256.0, 200.0, 0.3]]
)
def test_a_state_may_lack_the_velocity(state):
    found = plan(NOMINAL, state, key=KEY, config=SMALL["cem"])
    expected = plan(NOMINAL, CLEAR, key=KEY, config=SMALL["cem"])
    np.testing.assert_array_equal(found.push.targets(DMP), expected.push.targets(DMP))


# What means nothing is refused in a line.

INSIDE, BEYOND = CLEAR.copy(), CLEAR.copy()
INSIDE[STATE.agent] = 256.0, 230.0
BEYOND[STATE.block_position] = 30.0, 30.0
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a goal outside the table": (
        {"goal": Goal(np.array([20.0, 256.0, 0.0]))},
        "outside the table: its T reaches from .* move it inwards",
    ),
    "a goal of two numbers": ({"goal": Goal(np.zeros(2))}, "goal of shape"),
    "a goal that is not finite": ({"goal": Goal(np.array([np.nan, 1, 1]))}, "goal to be finite"),
    "an aim of all": ({"goal": Goal(coverage=1.0)}, "coverage between 0 and 1, got 1"),
    "a tolerance of nothing": (
        {"goal": Goal(tolerance=Tolerance(20.0, 0.0))},
        r"expected a tolerance above 0, got \(20, 0\)",
    ),
    "a tolerance of one number": (
        {"goal": Goal(tolerance=20.0)},  # type: ignore[arg-type]
        r"expected tolerance of shape \(2,\), got \(\)",
    ),
    "an agent in the block": ({"state": INSIDE}, "agent and block overlap: 0.0 px"),
    "a block in the wall": ({"state": BEYOND}, "the block reaches from .* beyond the walls"),
    "a state of six numbers": ({"state": CLEAR[:6]}, "state to have 7 numbers .* or 5 .* got 6"),
    "a state that is not finite": ({"state": np.full(7, np.inf)}, "state to be finite"),
    "noise below 0": ({"action_noise_std": -1.0}, "action_noise_std to be at least 0, got -1"),
    "a goal turned too often": (
        {"goal": Goal(np.array([256.0, 256.0, 1e17]))},
        "goal to be at most 1e.06, got 1e.17",
    ),
    "a key of another generator": (
        {"key": jax.random.key(0, impl="rbg")},
        "a random key of threefry2x32, got one of rbg",
    ),
    "an unknown planner": (
        {"config": SMALL["cem"].model_copy(update={"planner": "rrt"})},
        "planner to be cem or contact",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_arguments_that_mean_nothing_are_refused(case):
    changes, message = REFUSED[case]
    arguments: dict[str, Any] = {"state": CLEAR, "key": KEY, "config": SMALL["cem"], **changes}
    with pytest.raises(UserError, match=message):
        plan(NOMINAL, arguments.pop("state"), **arguments)


OF_OTHER_KINDS: dict[str, tuple[dict[str, Any], str]] = {
    "a trained model": ({"model": "model.eqx"}, "expected model to be a world model, such as OneP"),
    "a goal that is a pose": ({"goals": OTHER.pose[None]}, "the goal to be a Goal, as in Goal"),
    "a goal in words": ({"goals": "home"}, "expected the goal to be a Goal, .* got 'home'"),
    "all settings": ({"config": Config()}, "expected config to be a SearchConfig, as in plann"),
}


@pytest.mark.parametrize("case", OF_OTHER_KINDS)
def test_arguments_of_other_kinds_are_refused(case):
    changes, message = OF_OTHER_KINDS[case]
    arguments: dict[str, Any] = {"model": NOMINAL, "states": CLEAR[None], "keys": [KEY], **changes}
    with pytest.raises(UserError, match=message):
        # Without the wrapper by which tests check the types of arguments.
        inspect.unwrap(plan_batch)(**arguments)


def test_a_tolerance_may_be_a_tuple():
    goal = Goal(tolerance=(20.0, 0.4))  # type: ignore[arg-type]
    assert goal.meant().tolerance == Tolerance(20.0, 0.4)
    assert goal.is_met(np.array([0, 0, 0, 0, *geometry.GOAL_POSE]))


def test_a_file_has_no_place_for_a_tolerance():
    goal = OTHER._replace(tolerance=Tolerance(20.0, 0.4))
    with pytest.raises(UserError, match="expected a goal of pose and coverage"):
        PlanFile.of(planned()[0], CLEAR, goal, "contact", NOMINAL.name, DMP)


def test_a_goal_may_be_a_list():
    found = plan(NOMINAL, CLEAR, goal=Goal([*OTHER.pose]), key=KEY, config=SMALL["cem"])  # type: ignore[arg-type]
    assert found.cost == plan(NOMINAL, CLEAR, goal=OTHER, key=KEY, config=SMALL["cem"]).cost


MEANINGLESS: dict[str, tuple[Any, str]] = {
    "a distance of NaN": (lambda: OTHER.distance(np.full(3, np.nan)), "poses to be finite"),
    "a cost of NaN": (lambda: OTHER.cost(np.full((1, 7), np.nan), np.zeros(1)), "states to be fi"),
    "a cost before now": (lambda: OTHER.cost(CLEAR[None], -np.ones(1)), "seconds to be at lea"),
    "a tolerance of NaN": (
        lambda: OTHER._replace(tolerance=Tolerance(np.nan, 1.0)).is_met(CLEAR),
        "tolerance to be finite",
    ),
    "a distance to NaN": (
        lambda: Goal(np.full(3, np.nan)).distance(CLEAR[4:]),
        "goal to be finite",
    ),
    "a transit of NaN": (lambda: pushed(np.full((2, 2), np.nan)).targets(DMP), "transit to be fin"),
    "a push of no end": (lambda: pushed(duration=np.nan).steps, "duration to be finite"),
    "a push of years": (lambda: pushed(duration=1e9).targets(DMP), "duration to be at most 60"),
}


def pushed(transit=CLEAR[None, :2], **changes):
    return Push(transit, taken(policies_from(CLEAR, 1), 0)._replace(**changes))


@pytest.mark.parametrize("case", MEANINGLESS)
def test_goals_and_pushes_of_no_meaning_are_refused(case):
    make, message = MEANINGLESS[case]
    with pytest.raises(UserError, match=message):
        make()


def asking(model=NOMINAL, states=None, key=KEY, **changes):
    """A model's answer to a question of which something is changed."""
    usual, policies = asked(3)
    return model.predict(usual if states is None else states, policies._replace(**changes), key=key)


ASKED: dict[str, tuple[dict[str, Any], str]] = {
    "no states": ({"states": np.zeros((0, 7))}, "the number of states of at least 1"),
    "states far away": ({"states": np.full((3, 7), 1e30)}, "states to be at most 1e.06"),
    "durations of years": ({"duration": np.full(3, 1e9)}, "duration to be at most 60"),
    "noise beyond the table": ({"action_noise_std": np.full(3, 1e9)}, "to be at most 256"),
    "too few keys": ({"key": jax.random.split(KEY, 2)}, "key to be one key"),
    "a key of another generator": ({"key": jax.random.key(0, impl="rbg")}, "got one of rbg"),
}


@pytest.mark.parametrize("case", ASKED)
@pytest.mark.parametrize("model", [NOMINAL, Simulated(DMP, 1)], ids=["nominal", "simulator"])
def test_questions_of_no_meaning_are_refused(case, model):
    changes, message = ASKED[case]
    with pytest.raises(UserError, match=message):
        asking(model, **changes)


def test_the_simulator_draws_the_same_whatever_the_session():
    model = Simulated(DMP, 2)
    expected = asking(model)
    with jax.threefry_partitionable(False):
        np.testing.assert_array_equal(asking(model), expected)


def test_more_draws_than_a_machine_holds_are_refused(monkeypatch):
    monkeypatch.setattr(models, "MOST_ENDS", 5)
    with pytest.raises(UserError, match="3 pushes with 2 draws each are more than 5 predictions"):
        asking(Simulated(DMP, 2))


@pytest.mark.parametrize(
    ("states", "keys", "message"),
    [
        (np.zeros((0, 7)), [], "the number of states of at least 1, got 0"),
        (CLEAR, [KEY], "states of shape"),
        (CLEAR[None], [], "keys for 1 states, got 0"),
    ],
)
def test_batches_that_mean_nothing_are_refused(states, keys, message):
    with pytest.raises(UserError, match=message):
        plan_batch(NOMINAL, states, keys=keys)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: OnePass(model_of(), 0), "draws of at least 1, got 0"),
        (lambda: Simulated(DMP, -1), "members to be a whole number from 0 on"),
        (lambda: OnePass(model_of(conditional=False), 4), "knows nothing of the policy"),
    ],
)
def test_models_that_cannot_plan_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


# The file, and the verb.


@functools.cache
def planned():
    found = plan(NOMINAL, CLEAR, goal=OTHER, key=KEY, config=SMALL["contact"])
    return found, PlanFile.of(found, CLEAR, OTHER, "contact", NOMINAL.name, DMP)


def test_a_plan_comes_back_from_its_file(tmp_path):
    found, file = planned()
    save_plan(tmp_path / "push.json", file)
    read = load_plan(tmp_path / "push.json")
    assert read == file
    np.testing.assert_array_equal(read.targets, found.push.targets(DMP))
    assert read.cost == found.cost
    np.testing.assert_array_equal(read.predicted, found.considered.ends[0])


SPOILT = {
    "another file": (lambda fields: {"format": "x"}, "format: expected 'nsf_pipeline plan'"),
    "a newer version": (lambda fields: fields | {"format_version": 2}, "format_version: expected"),
    "a lost field": (
        lambda fields: {name: fields[name] for name in fields if name != "policy"},
        "policy: Field required",
    ),
    "a target outside": (lambda fields: fields | {"transit": [[1.0, 600.0]]}, "transit.0.1"),
    "no duration": (
        lambda fields: fields | {"policy": fields["policy"] | {"duration": 0.0}},
        "policy.duration: expected greater than",
    ),
    "weights of other DMPs": (
        lambda fields: fields | {"policy": fields["policy"] | {"weights": [[0.0], [0.0]]}},
        "expected 6 weights for x and for y",
    ),
    "another length": (lambda fields: fields | {"seconds": 99.0}, "expected seconds of "),
    "a goal outside": (lambda fields: fields | {"goal": [0.0, 0.0, 0.0]}, "is outside the table"),
    "a name that cannot be shown": (
        lambda fields: fields | {"\x1b[31m\n": 1},
        "a name in it is too",
    ),
    "a model that cannot be shown": (lambda fields: fields | {"model": "\x1b[31m"}, "model: "),
    "DMPs of the defaults": (lambda fields: fields | {"dmp": {}}, "expected integration_steps, fo"),
    "a cost beyond all": (lambda fields: fields | {"cost": 1e300}, "cost: expected less than"),
}


def test_a_plan_that_says_something_twice_is_refused(tmp_path):
    text = planned()[1].text().replace("{", '{"cost": 1.0,', 1)
    (tmp_path / "push.json").write_text(text)
    with pytest.raises(FileError, match="a name stands in it twice"):
        load_plan(tmp_path / "push.json")


@pytest.mark.parametrize("case", SPOILT)
def test_a_file_that_is_no_plan_is_refused(case, tmp_path):
    spoil, message = SPOILT[case]
    (tmp_path / "push.json").write_text(json.dumps(spoil(json.loads(planned()[1].text()))))
    with pytest.raises(FileError, match=message) as caught:
        load_plan(tmp_path / "push.json")
    assert str(caught.value).isprintable()


FEW = json.dumps(
    {"planning": {"search": {"cem": {"candidates": 20, "rounds": 2}, "planner": "cem"}}}
)
VERB = ("plan", "--config", FEW, "--model", "nominal", "--output", "push.json")
MISTAKES = {
    "no start": ((), "expected either --state or --seed"),
    "two starts": (("--seed", "1", "--state", "1,2"), "expected either --state or --seed"),
    "a state in words": (("--state", "here"), "--state here: expected numbers separated by"),
    "an angle that a push may leave the simulator's range from": (
        ("--state", "100,100,256,200,999999"),
        "expected state to be at most 500000",
    ),
    "an overlap": (("--state", "256,256,256,256,0"), "agent and block overlap"),
    "a goal outside": (("--seed", "1", "--goal", "1,1,0"), "outside the table"),
    "an unknown planner": (
        ("--seed", "1", "--planner", "rrt"),
        "expected one of cem, contact, both",
    ),
    "no such model": (("--seed", "1", "--model", "none.eqx"), "none.eqx: cannot read it"),
    "no model": (("--seed", "1", "--model", "settings.yaml"), "not a model of nsf_pipeline"),
    "a goal turned too often": (("--seed", "1", "--goal", "256,256,1e300"), "at most 1e+06"),
    "noise in words": (("--seed", "1", "--action-noise-std", "nan"), "action_noise_std"),
    "more draws than a later round has room for": (
        ("--seed", "1", "--planner", "contact", "--model", "simulator", "--draws", "40000"),
        "960 pushes at once with 40000 draws each are more than 33554432 predictions; ask for f",
    ),
    "physics in steps": (
        ("--seed", "1", "--in-steps"),
        "--in-steps needs draws of a trained model",
    ),
    "no draws in steps": (
        ("--seed", "1", "--model", "model.eqx", "--draws", "0", "--in-steps"),
        "--in-steps needs draws of a trained model",
    ),
    "no candidates": (
        ("--seed", "1", "--config", '{"planning": {"search": {"cem": {"candidates": 0}}}}'),
        "planning.search.cem.candidates",
    ),
    "no rounds": (
        ("--seed", "1", "--config", '{"planning": {"search": {"cem": {"rounds": 0}}}}'),
        "planning.search.cem.rounds",
    ),
    "more elites than candidates": (
        ("--seed", "1", "--config", '{"planning": {"search": {"cem": {"candidates": 5}}}}'),
        "elites = 20 is more than candidates = 5",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_at_the_command_line_is_one_line(case, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "settings.yaml").write_text("{}")
    arguments, message = MISTAKES[case]
    assert main([*VERB, *arguments]) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "push.json").exists()


def test_the_verb_prints_a_plan_or_writes_the_same_to_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # A reset may overlap; that of this seed does.
    arguments = ["--seed", "100006", "--goal", "200,220,1"]
    assert main([*VERB[:-2], *arguments]) == 0
    printed = capsys.readouterr().out
    assert main([*VERB, *arguments]) == 0
    assert (tmp_path / "push.json").read_text() == printed
    assert load_plan(tmp_path / "push.json").goal == (200.0, 220.0, 1.0)


def test_the_verb_asks_a_model_in_steps_or_one_pass_and_names_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_model("model.eqx", model_of(), {})
    save_model("other.eqx", model_of(), {"variant": "other"})
    few = '{"planning": {"search": {"planner": "cem", "cem": {"candidates": 20, "rounds": 1}}}}'
    asked = ["--model", "model.eqx", "--draws", "2", "--in-steps", "--config", few, "--seed", "7"]
    assert main(["plan", *asked, "--output", "push.json"]) == 0
    assert load_plan("push.json").model == "flow_steps_2"
    asked = ["--model", "other.eqx", "--draws", "2", "--config", few, "--seed", "7"]
    assert main(["plan", *asked, "--output", "push.json"]) == 0
    assert load_plan("push.json").model == "other_2"
