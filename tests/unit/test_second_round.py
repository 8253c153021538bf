"""The second round: policies that a planner chooses, merged with the first, and their table."""

import numpy as np
import pytest

from nsf_pipeline.config import ConfigError, SecondRoundConfig, parse_config
from nsf_pipeline.data import store
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.rollouts import simulate
from nsf_pipeline.data.schema import TOLERANCES
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.errors import UserError
from nsf_pipeline.planning import Nominal
from nsf_pipeline.planning.second_round import IN_A_ROW, planned_policies
from nsf_pipeline.protocols import rows
from nsf_pipeline.protocols.push_tables import Judged
from nsf_pipeline.protocols.second_tables import second_round, second_round_text
from nsf_pipeline.protocols.tables import Played
from nsf_pipeline.provenance import Record
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.stages import STAGES, dataset
from nsf_pipeline.stages import second_round as stage

FIRST, COUNT = 8, 12
SETTINGS: dict[str, object] = {
    "num_trajectories": FIRST,
    "shard_size": 4,
    "second_round": {"trajectories": COUNT},
    "dataset": {"trajectories_per_file": 4},
    "planning": {
        "search": {
            "contact": {"candidates": 20, "varied": 5, "beam": 2, "second_candidates": 5},
        }
    },
    "videos": {"trajectories": [], "ranked": [], "predicted": []},
    "training": {"batch_size": 16},
}


@pytest.fixture(scope="module")
def config():
    return parse_config(SETTINGS, "settings")


@pytest.fixture(scope="module")
def chosen(config):
    """All trajectories of the second round in one shard: a run, and a part of the next."""
    return planned_policies(config, Nominal(config.dmp), FIRST, FIRST + COUNT)


def test_a_trajectory_depends_on_the_seed_and_its_number_alone(config, chosen):
    first, stop = FIRST + 3, FIRST + 8
    again = planned_policies(config, Nominal(config.dmp), first, stop)
    for name, values in again.items():
        np.testing.assert_array_equal(values, chosen[name][3:8], err_msg=name)


def test_policies_are_a_shard_like_those_of_the_first_round(config, chosen, tmp_path):
    """They start where the agent is, in states that the simulator enters exactly."""
    assert chosen.keys() == sample_policies(config, 0, 1).keys()
    np.testing.assert_array_equal(chosen["start"], chosen["initial_state"][:, STATE.agent])
    low, high = config.policies.duration
    assert ((low <= chosen["duration"]) & (chosen["duration"] <= high)).all()
    np.testing.assert_array_equal(
        DMPParams.from_vector(chosen["condition"]).action_noise_std, chosen["action_noise_std"]
    )
    assert len(set(chosen["action_noise_std"][:IN_A_ROW])) == 1
    assert len(set(chosen["action_noise_std"])) == 2
    assert len({tuple(state) for state in chosen["initial_state"]}) == COUNT
    simulator = Simulator()
    for state in chosen["initial_state"]:
        simulator.enter(state)
        np.testing.assert_array_equal(simulator.state(), state)
    store.write(tmp_path / "x.h5", "policies", chosen, {})
    with store.reading(tmp_path / "x.h5", "policies") as file:
        np.testing.assert_array_equal(file["goal"][...], chosen["goal"])


def test_the_planner_pushes_the_block(config, chosen):
    states = chosen["initial_state"][:IN_A_ROW, STATE.block]
    assert (np.abs(np.diff(states, axis=0)).max(axis=1) > 1.0).sum() > IN_A_ROW // 2


def test_both_rounds_become_one_file(config, chosen, tmp_path):
    """Also where the first round's data set has several."""
    record = Record.new(STAGES["rollouts"], config).fields() | {"dt": 0.1}
    for shard in range(config.num_shards):
        policies = sample_policies(config, *config.shard_range(shard))
        store.write(tmp_path / f"{shard:05d}.h5", "rollouts", simulate(config, policies), record)
    (tmp_path / "second").mkdir()
    for shard in config.second_shards:
        first, stop = (number - FIRST for number in config.second_shard_range(shard))
        part = {name: values[first:stop] for name, values in chosen.items()}
        path = tmp_path / "second" / f"{shard:05d}.h5"
        store.write(path, "rollouts", simulate(config, part), record)
    outputs = tmp_path / "dataset.h5", tmp_path / "dataset.meta.json"
    dataset.both_rounds(config, tmp_path, tmp_path / "second", *outputs)
    with store.reading(outputs[0], "dataset") as file:
        assert file["trajectory"][...].tolist() == list(range(FIRST + COUNT))
    off = config.model_copy(update={"second_round": SecondRoundConfig()})
    with pytest.raises(UserError, match="there is no second round; set it"):
        dataset.both_rounds(off, tmp_path, tmp_path / "second", *outputs)


BAD: dict[str, tuple[dict[str, object], str]] = {
    "a shard that is not full": ({"num_trajectories": 10}, "is no multiple of shard_size = 4"),
    "too many": ({"second_round": {"trajectories": 500_000}}, "make more than 100000 shards"),
    "negative": ({"second_round": {"trajectories": -1}}, "second_round.trajectories"),
    "a variant of that name": ({"variants": {"second_round": {}}}, "choose another name"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_settings_are_named_in_one_line(case):
    changes, message = BAD[case]
    with pytest.raises(ConfigError, match=message) as refused:
        parse_config({**SETTINGS, **changes}, "settings")
    assert "\n" not in str(refused.value)


def test_a_trajectory_of_the_first_round_is_refused(config, tmp_path):
    with pytest.raises(UserError, match="of the first round; those of the second start at"):
        stage.run(config, tmp_path / "model.eqx", FIRST - 1, FIRST + 1, tmp_path / "x.h5")
    assert not list(tmp_path.iterdir())


def test_shards_are_numbered_on():
    config = parse_config({**SETTINGS, "second_round": {"trajectories": 6}}, "settings")
    assert [*config.second_shards] == [2, 3]
    assert [config.second_shard_range(shard) for shard in (2, 3)] == [(8, 12), (12, 14)]
    assert not parse_config({**SETTINGS, "second_round": {}}, "settings").second_shards


def test_the_table_pairs_tasks_and_episodes(config):
    scores = np.linspace(0.2, 0.4, 5)
    reached = np.tile(scores[:, None], len(TOLERANCES))
    first, second = rows.SECOND_WORLDS
    judged = (
        Judged(first, {"reached": reached}, 1.0),
        Judged(second, {"reached": reached + 0.25}, 1.0),
    )
    row = rows.second_round(config.protocols)[0]
    steps = np.array([[50, 60, 200, -1], [120, 130, 140, 150]])
    later = np.array([[50, 60, 70, -1], [120, 130, 140, 150]])
    pair = Played(row, {"first_step": steps}, 1.0), Played(row, {"first_step": later}, 1.0)
    table = second_round(judged, 8.0, [pair])
    pushes = table[table["protocol"] == "one_push"]
    assert len(pushes) == len(TOLERANCES)
    np.testing.assert_allclose(pushes["difference"], 0.25)
    np.testing.assert_allclose(pushes["difference_lower"], pushes["difference_upper"])
    is_it = (table["protocol"] == "100_steps") & (table["aim"] == "above 0.98")
    (line,) = table[is_it].to_dict("records")
    assert (line["flow"], line["second_round"]) == (0.0, 0.5)
    assert line["difference_lower"] < 0.5
    text = second_round_text(table, COUNT, FIRST + COUNT)
    assert "a second round of 12 trajectories" in text.splitlines()[0]
    assert len([line for line in text.splitlines() if line.startswith("| 100_steps")]) == 4
    (draws,) = {name.split("_")[-1] for name in rows.SECOND_WORLDS}
    assert f"with {draws} draws of the model" in text


def test_episodes_with_more_noise_than_the_standard_are_not_counted_as_standard(config):
    found = [
        row
        for row in rows.second_round(config.protocols)
        if row.trained == "flow" and row.variation == "standard"
    ]
    judged = Judged(rows.SECOND_WORLDS[0], {"reached": np.ones((2, len(TOLERANCES)))}, 1.0)
    steps = {"first_step": np.full((2, 4), 50)}
    played = [(Played(row, steps, 1.0), Played(row, steps, 1.0)) for row in found]
    table = second_round((judged, judged), 8.0, played)
    levels = table.groupby("protocol")["action_noise_std"].agg(set)
    assert levels["standard"] == {0.0, 8.0}
    assert levels["noise"] == {16.0}


def test_rows_of_both_models_are_the_same(config):
    found = rows.second_round(config.protocols)
    assert {row.trained for row in found} == {"flow", "second_round"}
    of_second = [row._replace(model="flow_4") for row in found if row.trained != "flow"]
    assert of_second == [row for row in found if row.trained == "flow"]
    # Those of the flow are in the planning tables too, with as many episodes.
    known = {*rows.standard(config.protocols), *rows.harder(config.protocols)}
    assert {*of_second} <= known
