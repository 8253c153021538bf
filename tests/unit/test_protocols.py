"""Protocols: episodes that anyone can replay, their rows, and what the tables say of them."""

import math
import re
from typing import Any

import gymnasium
import jax
import numpy as np
import pytest

from nsf_pipeline import why
from nsf_pipeline.cli import main
from nsf_pipeline.config import (
    CEMConfig,
    Config,
    ConfigError,
    PolicyConfig,
    ProtocolConfig,
    SearchConfig,
    parse_config,
)
from nsf_pipeline.data import store
from nsf_pipeline.data.policies import sample_policy
from nsf_pipeline.data.randomness import reset_seed
from nsf_pipeline.data.schema import EPISODES, HELD, NEVER, PUSHES, THRESHOLDS
from nsf_pipeline.dmp import condition_dim
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import FileError
from nsf_pipeline.planning import Goal, Nominal
from nsf_pipeline.planning.models import Simulated
from nsf_pipeline.protocols import rows
from nsf_pipeline.protocols.episodes import SHIFT, TURN, Decision, Rules, disturbed, play
from nsf_pipeline.protocols.goal_tables import Tried
from nsf_pipeline.protocols.goal_tables import goals as goal_table
from nsf_pipeline.protocols.goals import GoalTasks, at_goal, attempt
from nsf_pipeline.protocols.models import world_model
from nsf_pipeline.protocols.one_push import Trial, judge, within
from nsf_pipeline.protocols.planners import at_random, rules_of
from nsf_pipeline.protocols.push_tables import Judged, one_push, one_push_text
from nsf_pipeline.protocols.rows import GoalRow, Row, checked_row, parsed
from nsf_pipeline.protocols.tables import Played, harder, paired, standard, standard_text, wilson
from nsf_pipeline.protocols.tasks import Tasks
from nsf_pipeline.pusht.episode import Episode
from nsf_pipeline.pusht.geometry import GOAL_POSE
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.stages import episodes as stage
from nsf_pipeline.stages import planning, pushes

SEED = 100_000


def wander(situations):
    """A planner that pushes the block about."""
    found = []
    for each in situations:
        random = np.random.default_rng([each.episode, each.decision])
        aim = each.state[STATE.block_position] + random.normal(0.0, 20.0, 2)
        targets = np.linspace(each.state[STATE.agent], aim, 12)[1:]
        found.append(Decision(targets, each.state[STATE.block], 7))
    return found


RULES = {
    "standard": Rules(),
    "noise": Rules(action_noise_std=8.0),
    "disturbed": Rules(action_noise_std=8.0, disturbed=True),
    "held": Rules(held=True),
}


@pytest.mark.parametrize("case", RULES)
def test_episodes_replay_in_a_fresh_environment(case):
    """By gymnasium and the file's arrays alone, as docs/protocols.md says."""
    arrays, _ = play(wander, RULES[case], 0, SEED, 3, 5)
    for row in range(2):
        env = gymnasium.make("gym_pusht/PushT-v0")
        env.reset(seed=int(arrays["seed"][row]))
        inner: Any = env.unwrapped
        block = inner.block
        moved = dict(zip(arrays["disturbed_step"][row], arrays["disturbed_pose"][row], strict=True))
        for step in range(arrays["length"][row]):
            if step in moved:
                block.angle = moved[step][2]
                block.position = tuple(moved[step][:2])
                block.velocity, block.angular_velocity = (0.0, 0.0), 0.0
                inner.space.reindex_shapes_for_body(block)
            *_, info = env.step(arrays["actions"][row, step])
            assert info["coverage"] == pytest.approx(arrays["coverage"][row, step], abs=1e-9)
            np.testing.assert_array_equal(info["block_pose"], arrays["block_pose"][row, step])
        assert (NEVER in moved) == (case != "disturbed")


def test_the_same_episodes_give_the_same_arrays_however_they_are_divided():
    together, _ = play(wander, RULES["disturbed"], 0, SEED, 0, 3)
    alone, _ = play(wander, RULES["disturbed"], 0, SEED, 1, 2)
    for name, values in alone.items():
        np.testing.assert_array_equal(values, together[name][1:2], err_msg=name)


def test_an_episode_says_when_each_threshold_was_first_exceeded():
    arrays, _ = play(wander, RULES["standard"], 0, SEED, 0, 4)
    for row in range(4):
        coverage = arrays["coverage"][row, : arrays["length"][row]]
        for place, threshold in enumerate(THRESHOLDS):
            above = np.flatnonzero(coverage > threshold)
            expected = above[0] + 1 if len(above) else NEVER
            assert arrays["first_step"][row, place] == expected
            run = np.convolve(coverage > threshold, np.ones(HELD), "valid") == HELD
            expected = run.argmax() + HELD if run.any() else NEVER
            assert arrays["first_held"][row, place] == expected


def test_a_long_row_says_how_far_it_has_come(monkeypatch):
    lines: list[str] = []
    monkeypatch.setattr("nsf_pipeline.protocols.episodes.progress", lambda: lines.append)
    arrays, _ = play(wander, RULES["standard"]._replace(steps=40), 0, SEED, 0, 2)
    assert len(lines) == arrays["pushes"].max()
    assert lines[-1] == "2 of 2 episodes ended, 80 steps taken"


def test_the_episode_has_the_states_of_the_simulator():
    episode, simulator = Episode(SEED), Simulator()
    np.testing.assert_array_equal(episode.state, simulator.reset(SEED))
    action = np.array([200.0, 300.0], np.float32)
    episode.step(action)
    simulator.step(action.astype(float))
    np.testing.assert_array_equal(episode.state, simulator.state())


def test_what_follows_an_entered_state_does_not_depend_on_the_reset():
    """Agent and block overlap in that of the second seed."""
    state = STATE.join([250.0, 100.0], [0.0, 0.0], [250.0, 160.0, 0.1])
    paths = []
    for seed in (0, 100_006):
        episode = Episode(seed)
        episode.enter(state)
        paths.append(
            [(episode.step(np.array([250.0, y], np.float32)), *episode.state) for y in (140, 180)]
        )
    assert paths[0] == paths[1]


def test_disturbances_stay_near_and_overlap_nothing():
    state = STATE.join([256.0, 200.0], [0.0, 0.0], [250.0, 280.0, 0.3])
    poses = np.array([disturbed(np.random.default_rng(i), state) for i in range(200)])
    dx, dy, turn = Goal(state[STATE.block]).error(poses).T
    assert np.hypot(dx, dy).max() <= SHIFT + 1e-9
    assert np.abs(turn).max() <= TURN + 1e-9
    assert np.hypot(dx, dy).max() > 0.9 * SHIFT
    walled = STATE.join([256.0, 200.0], [0.0, 0.0], [-900.0, 280.0, 0.3])
    assert disturbed(np.random.default_rng(0), walled) is None


# Newcombe 1998 (doi:10.1002/(SICI)1097-0258(19980430)17:8<857::AID-SIM777>3.0.CO;2-E), table I.
WILSON = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0.0, 0.1611)}
WILSON |= {(1, 29): (0.0061, 0.1718)}


@pytest.mark.parametrize("counts", WILSON)
def test_wilsons_interval_is_the_published_one(counts):
    assert wilson(*counts) == pytest.approx(WILSON[counts], abs=5e-5)
    successes, trials = counts
    lower, upper = wilson(trials - successes, trials)
    assert (1 - upper, 1 - lower) == pytest.approx(WILSON[counts], abs=5e-5)


def test_the_interval_of_paired_shares_is_the_published_one():
    """Fagerland et al. 2014 (doi:10.1002/sim.6148), airway hyper-responsiveness."""
    counts = [1, 7, 1, 12]  # both, the first alone, the second alone, neither
    first, second = (
        np.repeat(which, counts) for which in ([True, True, False, False], [1, 0, 1, 0])
    )
    found = paired(first, second.astype(bool))
    assert found == pytest.approx((-6 / 21, -0.507, -0.026), abs=5e-4)
    turned = paired(second.astype(bool), first)
    assert turned == pytest.approx((found[0] * -1, found[2] * -1, found[1] * -1))
    alike = np.ones(100, bool)
    assert paired(alike, alike) == pytest.approx((0.0, -0.0370, 0.0370), abs=5e-5)


@pytest.fixture(scope="module")
def nominal(tmp_path_factory):
    """Two episodes of the standard protocol by the nominal push, as the stage writes them."""
    path = tmp_path_factory.mktemp("episodes") / "00000.h5"
    row = Row("contact", "nominal")
    stage.run(Config(), row, SEED, 0, 2, None, path, None)
    return path


def test_the_nominal_push_solves_the_standard_protocol(nominal):
    arrays = store.read(nominal, "episodes")
    assert {name: (values.shape[1:], values.dtype) for name, values in arrays.items()} == {
        name: (tuple(300 if axis == "S" else axis for axis in field.axes), np.dtype(field.dtype))
        for name, field in EPISODES.items()
    }
    assert (arrays["first_step"][:, 0] > 0).all()
    assert arrays["seed"].tolist() == [SEED, SEED + 1]
    table = standard([Played(Row("contact", "nominal"), arrays, 3.0)])
    assert table["threshold"].tolist() == list(THRESHOLDS)
    first = table.iloc[0]
    assert (first["episodes"], first["success"], first["success_upper"]) == (2, 1.0, 1.0)
    assert first["seconds_per_episode"] == 1.5
    assert first["steps_to_success"] == np.median(arrays["first_step"][:, 0])
    assert "| contact | nominal | 0 px | 100.0% (34.2% to 100.0%)" in standard_text(table)


def test_notes_name_no_world_model_that_the_table_lacks(nominal):
    arrays = store.read(nominal, "episodes")
    played = [Played(row, arrays, 3.0) for row in rows.standard(ProtocolConfig())]
    shown, notes = standard_text(standard(played)).split("- Success", 1)
    of_notes = set(re.findall(r"`([a-z_]+_(?:[0-9]+|mean))`", notes))
    assert of_notes <= {row.model for row in rows.standard(ProtocolConfig())}
    assert "simulator_4" in shown


def test_the_stage_gives_the_same_bytes_again(nominal, tmp_path):
    row = Row("contact", "nominal")
    stage.run(Config(), row, SEED, 0, 2, None, tmp_path / "again.h5", tmp_path / "seconds.json")
    assert (tmp_path / "again.h5").read_bytes() == nominal.read_bytes()


def test_random_pushes_are_the_floor(tmp_path):
    """They ask no model, are the same again, and each episode's are its own."""
    row = Row("random", "random", 4.0)
    few = SearchConfig(cem=CEMConfig(duration=(1.0, 1.2)))
    decide = at_random(Config().dmp, row, few, 0)
    rules = rules_of(row)._replace(steps=30)
    both, one = (play(decide, rules, 0, SEED, *span)[0] for span in ((0, 2), (1, 2)))
    for name, values in one.items():
        np.testing.assert_array_equal(values[0], both[name][1], err_msg=name)
    assert not both["queries"].any()
    assert (both["pushes"] == 3).all()
    assert np.abs(both["targets"][0] - both["targets"][1]).max() > 20.0
    output = tmp_path / "random.h5"
    stage.run(Config(), row, SEED, 0, 1, None, output, None)
    assert why.fields_of(output)["stage"] == "untrained_episodes"


def test_a_model_that_knows_nothing_chooses_at_random():
    state = STATE.join([250.0, 130.0], [0.0, 0.0], [250.0, 170.0, 0.1])
    policies = sample_policy(
        np.random.default_rng(0), state, PolicyConfig(), Config().dmp, 0.0, (40,)
    )
    model = world_model("random", None, Config().dmp)
    states = np.tile(state, (40, 1))
    keys = jax.random.split(jax.random.key(0), 3)
    goal = Goal(np.array([250.0, 200.0, 0.1]))
    costs = [goal.cost(model.predict(states, policies, key=key), np.zeros((40, 1))) for key in keys]
    assert len({int(each.argmin()) for each in costs}) > 1
    np.testing.assert_array_equal(
        model.predict(states, policies, key=keys[0]), model.predict(states, policies, key=keys[0])
    )


FEW = {"episodes": 2, "shard_size": 2, "harder_episodes": 2}
# By folder, number of the shard and other settings: why the file of two episodes is none there.
ELSEWHERE = {
    "its own place": ("contact-nominal-noise0", "00000", {}, "up to date: 1 file"),
    "another noise": (
        "contact-nominal-noise8",
        "00000",
        {},
        "it holds other episodes than",
    ),
    "another shard": ("contact-nominal-noise0", "00001", {}, "shard 1 is left out: the settings m"),
    "no row": ("contact-nominal-noise3", "00000", {}, "row contact-nominal-noise3 is left out"),
    "more episodes": (
        "contact-nominal-noise0",
        "00000",
        {"episodes": 3, "shard_size": 3},
        "holds other episodes than 0 to 2",
    ),
}


@pytest.mark.parametrize("case", ELSEWHERE)
def test_why_compares_episodes_with_their_folder(case, nominal, tmp_path):
    folder, shard, changes, expected = ELSEWHERE[case]
    config = parse_config({"protocols": FEW | changes})
    path = tmp_path / "results/planning/episodes" / folder / f"{shard}.h5"
    path.parent.mkdir(parents=True)
    path.write_bytes(nominal.read_bytes())
    assert expected in next(why.describe(config, [path]))


@pytest.mark.parametrize(
    ("verb", "stage_of", "expected"),
    [
        ("episodes", stage, [7, 0, 2]),
        ("pushes", pushes, [Trial(8.0, 60, 9), 0, 2]),
    ],
)
def test_a_verb_takes_from_the_settings_what_is_not_given(verb, stage_of, expected, monkeypatch):
    given: list[Any] = []
    monkeypatch.setattr(stage_of, "run", lambda *arguments: given.extend(arguments))
    settings = '{"protocols": {"first_seed": 7, "push_candidates": 60, "push_runs": 9}}'
    usual = [verb, "--config", settings, "--world-model", "nominal", "--stop", "2"]
    assert main([*usual, "--output", "x.h5"]) == 0
    assert given[2:5] == expected


def test_tables_refuse_episodes_of_other_seeds(nominal, tmp_path):
    protocols = {"episodes": 2, "shard_size": 2, "first_seed": SEED + 1, "models": ["nominal"]}
    for row in rows.standard(parse_config({"protocols": protocols}).protocols):
        path = tmp_path / "episodes" / row.name / "00000.h5"
        path.parent.mkdir(parents=True)
        path.write_bytes(nominal.read_bytes())
    with pytest.raises(FileError, match=f"not reset with the seeds from .* {SEED + 1} on"):
        planning.run(
            parse_config({"protocols": protocols}), tmp_path / "episodes", tmp_path, tmp_path
        )


def test_fewer_steps_count_fewer_successes():
    arrays, _ = play(wander, RULES["standard"], 0, SEED, 0, 2)
    arrays["first_step"][:] = [[99, 100, 101, NEVER], [120, 130, NEVER, NEVER]]
    table = harder([Played(Row("contact", "nominal"), arrays, 1.0)])
    assert set(table["variation"]) == {"100_steps"}
    assert table["success"].tolist() == [0.5, 0.5, 0.0, 0.0]
    assert math.isnan(table["steps_to_success"].iloc[-1])


def test_only_what_comes_after_the_disturbances_counts():
    """A threshold that was exceeded before them is still the planner's aim, and no success."""
    aims: list[float] = []

    def wait(situations):
        aims.extend(each.aim for each in situations)
        return [
            Decision(each.state[None, STATE.agent], each.state[STATE.block], 1)
            for each in situations
        ]

    episode_of, covered = Episode.step, iter([0.96] * 90 + [0.5] * 30 + [0.96, 0.5] + [1.0] * 300)

    def step(episode, action):
        episode_of(episode, action)
        return next(covered)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Episode, "step", step)
        arrays, _ = play(wait, RULES["disturbed"]._replace(action_noise_std=0.0), 0, SEED, 0, 1)
    assert arrays["first_step"][0].tolist() == [1, 123, 123, 123]
    assert arrays["disturbed_step"].min() > 0
    assert arrays["length"][0] == 123
    assert {*aims} == {0.95, 0.97}
    table = harder([Played(Row("contact", "nominal", 0.0, "disturbed"), arrays, 1.0)])
    assert table["steps_to_success"].tolist() == [121.0, 123.0, 123.0, 123.0]


def test_rows_have_names_of_their_own():
    config = ProtocolConfig(variants=("gaussian",))
    found = [*rows.standard(config), *rows.harder(config), *rows.short(config)]
    assert len({row.name for row in found}) == len(found)
    assert {row.trained for row in found} == {"", "flow", "gaussian"}
    only = ProtocolConfig(models=("nominal",))
    floored = ({row.model for row in of(only)} for of in (rows.standard, rows.harder, rows.short))
    assert all(models == {"nominal", "random"} for models in floored)
    assert rows.worlds(only) == ["nominal", "random"]
    assert rows.short(ProtocolConfig(short_episodes=0)) == []


NAMES = {
    "nominal": ("nominal", "", 0),
    "random": ("random", "", 0),
    "simulator_0": ("simulator", "", 0),
    "flow_16": ("flow", "", 16),
    "flow_mean": ("flow", "mean", 0),
    "flow_steps_4": ("flow", "steps", 4),
    "neural_sde_4": ("neural_sde", "", 4),
}


@pytest.mark.parametrize("name", NAMES)
def test_names_of_world_models(name):
    assert parsed(name) == NAMES[name]


REFUSED = {
    "a planner": (("walk", "nominal", 0.0, "standard"), "--planner walk: expected one of cem, con"),
    "a plan by nothing": (
        ("cem", "random", 0.0, "standard"),
        "--planner random goes with --world-m",
    ),
    "draws of nothing": (
        ("cem", "random_4", 0.0, "standard"),
        "expected random, which has one draw",
    ),
    "a variation": (("cem", "nominal", 0.0, "wet"), "--variation wet: expected one of standard, "),
    "draws of physics": (
        ("cem", "nominal_4", 0.0, "standard"),
        "world model nominal_4: expected nominal, which has one draw",
    ),
    "steps in one pass": (
        ("cem", "flow_4", 0.0, "step_by_step"),
        "--variation step_by_step: expected a world model that goes in steps, such as .* flow_4",
    ),
    "a model": (("cem", "flow", 0.0, "standard"), "world model flow: expected nominal, simulator_"),
    "no draws": (
        ("cem", "flow_0", 0.0, "standard"),
        "flow_0: expected at least one draw, or flow_m",
    ),
    "draws with a zero before": (("cem", "flow_04", 0.0, "standard"), "world model flow_04: expec"),
    "a simulator": (
        ("cem", "simulator_mean", 0.0, "standard"),
        "expected simulator_N with N",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unknown_rows_are_refused(case):
    given, message = REFUSED[case]
    with pytest.raises(UserError, match="(?s)" + message):
        checked_row(*given)


def test_a_variants_name_is_no_other_world_model_s():
    for name in (*rows.UNTRAINED, rows.FLOW, rows.SECOND_ROUND, rows.RANDOM, "a_steps"):
        with pytest.raises(ConfigError, match="choose another name"):
            parse_config({"variants": {name: {}}})
    assert parsed("steps_a_16") == ("steps_a", "", 16)


def test_more_trajectories_than_seeds_can_be_compared_are_refused():
    config = Config().model_copy(update={"num_trajectories": 10**9})
    with pytest.raises(UserError, match="too many to compare with; give one from 2147483648 on"):
        stage.require_unseen(config, range(5, 6))
    stage.require_unseen(config, range(2**31, 2**31 + 1))


def test_a_seed_of_the_data_is_refused():
    config = Config().model_copy(update={"num_trajectories": 5})
    seed = reset_seed(config.seed, 3)
    stage.require_unseen(config, range(seed + 1, seed + 9))
    with pytest.raises(UserError, match=f"trajectory 3 was with {seed}; set protocols.first_seed"):
        stage.require_unseen(config, range(seed - 3, seed + 1))


@pytest.mark.parametrize("verb", [("episodes",), ("goals", "--steps", "25")])
def test_too_many_searches_side_by_side_are_refused_before_the_first(verb, tmp_path, capsys):
    """2,000 first rounds would find room, but not their second pushes."""
    given = ["--world-model", "nominal", "--stop", "2000", "--output", str(tmp_path / "shard.h5")]
    assert main([*verb, "--config", "{}", *given]) == 1
    printed = capsys.readouterr().err
    assert "2000 searches side by side ask for 1920000 pushes at once, more than 1000000" in printed
    assert printed.count("\n") == 1


def test_a_row_without_its_model_is_refused(tmp_path):
    with pytest.raises(UserError, match="--model: expected the trained model of flow_4, got none"):
        stage.run(Config(), Row("cem", "flow_4"), SEED, 0, 1, None, tmp_path / "x.h5", None)
    assert not list(tmp_path.iterdir())


def test_the_velocity_is_hidden_from_the_planner():
    seen: list[np.ndarray] = []

    def look(situations):
        seen.extend(each.state for each in situations)
        return wander(situations)

    play(
        look,
        rules_of(Row("cem", "nominal", 0.0, "velocity_hidden"))._replace(steps=40),
        0,
        SEED,
        0,
        1,
    )
    assert len(seen) > 2
    assert not np.array(seen)[:, STATE.velocity].any()


def test_shares_within_the_tolerances():
    poses = np.array([GOAL_POSE + d for d in ([0, 0, 0], [3, 0, 0], [6, 0, 0], [0, 0, 0.1])])
    # The last turns about the body's origin, so its centre of mass moves too: by 4.5 px.
    np.testing.assert_allclose(within(Goal(), poses), [1.0, 0.5, 0.25])


def test_both_rules_of_goals_ahead():
    goal = STATE.join([100.0, 100.0], [0.0, 0.0], [300.0, 300.0, 3.1])
    turned = goal.copy()
    turned[STATE.angle] -= 2 * np.pi
    assert at_goal(turned, goal) == (True, True)
    away = goal.copy()
    away[STATE.agent] += [0.0, 21.0]
    assert at_goal(away, goal) == (False, True)
    shared = goal + STATE.join([15.0, 0.0], [0.0, 0.0], [15.0, 0.0, 0.0])
    assert at_goal(shared, goal) == (False, True)
    turned[STATE.angle] += 0.36
    assert at_goal(turned, goal) == (False, False)


def test_the_nominal_push_reaches_goals_ahead():
    """Two tasks, one of them with the goal straight ahead of the agent."""
    config, steps = Config(), 40
    state = np.stack([STATE.join([250.0, 100.0], [0.0, 0.0], [250.0, y, 0.1]) for y in (160, 200)])
    goal = state + STATE.join([0.0, 60.0], [0.0, 0.0], [0.0, 60.0, 0.0])
    tasks = GoalTasks(np.arange(2), np.zeros(2, int), state, goal)
    search = config.planning.search
    arrays, seconds = attempt(Nominal(config.dmp), tasks, 3, steps, search, config)
    assert (arrays["block_step"] > 0).all()
    assert (arrays["both_step"] > 0).any()
    assert arrays["task"].tolist() == [3, 4]
    assert arrays["actions"].shape == (2, 2 * steps, 2)
    assert seconds > 0
    # Its actions replay as docs/protocols.md says.
    env = gymnasium.make("gym_pusht/PushT-v0")
    env.reset(seed=0)
    inner: Any = env.unwrapped
    agent, block = inner.agent, inner.block
    agent.position, agent.velocity = (state[0, at].tolist() for at in (STATE.agent, STATE.velocity))
    block.angle, block.position = state[0, STATE.angle], state[0, STATE.block_position].tolist()
    for body in (agent, block):
        inner.space.reindex_shapes_for_body(body)
    reached = []
    for action in arrays["actions"][0, : arrays["length"][0]]:
        env.step(action)
        now = STATE.join(agent.position, agent.velocity, [*block.position, block.angle])
        reached.append(at_goal(now, goal[0]).block)
    first = arrays["block_step"][0]
    assert first == next(i for i in range(5, 99) if all(reached[i - 5 : i]))
    table = goal_table([Tried(GoalRow("contact", "nominal", steps), arrays, seconds)])
    assert table["rule"].tolist() == ["agent_and_block", "block_held"]
    assert table["success"].iloc[1] == 1.0


def test_one_push_is_chosen_from_the_same_candidates_and_run_with_the_same_noise():
    """Of two models without noise, the exact one chooses a push that gets nearer."""
    config = Config()
    trial = Trial(action_noise_std=2.0, candidates=60, runs=8)
    state = STATE.join([250.0, 130.0], [0.0, 0.0], [250.0, 170.0, 0.1])[None]
    goal = state[:, STATE.block] + [0.0, 40.0, 0.0]
    tasks = Tasks(np.zeros(1, int), np.zeros(1, int), state, goal)
    exact = Simulated(config.dmp, 0)
    found = [
        judge(model, None, exact, tasks, 5, trial, config.planning.search, 0)[0]
        for model in (exact, exact, Nominal(config.dmp))
    ]
    for name, values in found[0].items():
        np.testing.assert_array_equal(values, found[1][name], err_msg=name)
    assert {name: values.shape[1:] for name, values in found[2].items()} == {
        name: tuple(condition_dim(6) if axis == "C" else axis for axis in field.axes)
        for name, field in PUSHES.items()
    }
    assert found[0]["cost"][0] <= Goal(goal[0]).cost(state[0, None], np.zeros(1))[0]
    table = one_push(
        [Judged(rows.PAIRED_WITH, found[0], 1.0), Judged("nominal", found[2], 2.0)], trial
    )
    assert table["seconds_per_task"].tolist() == [1.0] * 3 + [2.0] * 3
    assert (table["against_flow"][:3] == 0.0).all()
    # A single task gives no interval.
    assert "nan" not in one_push_text(table, trial)
