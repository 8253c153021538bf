"""The file of a policy, what is refused, and data sets that begin with given policies."""

import json
from typing import Any

import numpy as np
import pytest
import yaml

from nsf_pipeline.cli import main
from nsf_pipeline.config import ConfigError, DMPConfig, load_config
from nsf_pipeline.config.policy_file import load_policy
from nsf_pipeline.data import store
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.policy_file import params_of, save_policy, start_of
from nsf_pipeline.errors import UserError
from nsf_pipeline.explorer import controls
from nsf_pipeline.files import FileError
from nsf_pipeline.provenance import Record
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.stages import STAGES

DMP = DMPConfig()
PUSH = controls.hook(DMP)
SMALL: dict[str, Any] = {"num_trajectories": 40, "shard_size": 40, "training": {"batch_size": 8}}


def test_a_file_gives_back_what_was_saved(tmp_path):
    save_policy(tmp_path / "push.json", PUSH)
    assert load_policy(tmp_path / "push.json") == PUSH
    assert controls.policy_of(controls.values_of(PUSH), DMP) == PUSH


@pytest.mark.parametrize("end", ["low", "high"])
def test_sliders_at_their_ends_give_back_what_was_saved(end):
    sliders = controls.POLICY | controls.weights(DMP) | controls.TABLE
    values = {name: getattr(slider, end) for name, slider in sliders.items()}
    assert controls.values_of(controls.policy_of(values, DMP)) == values


def spoilt(**changes):
    return json.dumps({**json.loads(PUSH.text()), **changes})


POLICY = json.loads(PUSH.text())["policy"]
BAD = {
    "nothing": ("", "not JSON"),
    "no mapping": ("[]", "not a JSON object"),
    "another file": ('{"format": "nsf_pipeline plan"}', "format: expected 'nsf_pipeline policy'"),
    "another version": (spoilt(format_version=2), "format_version: expected 1"),
    "a state of five": (spoilt(state=[1.0] * 5), "state"),
    "no number": (spoilt(state=[float("nan")] * 7), "NaN is no number"),
    "an unknown field": (spoilt(more=1), "more: Extra inputs are not permitted"),
    "a DMP elsewhere": (spoilt(state=[9.0] * 7), "starts at 51, 68 px, but the agent is at 9, 9"),
    "a name twice": (PUSH.text().replace("{", '{"format_version": 1,', 1), "twice"),
    "a lost field": (spoilt(dmp={"n_basis": 6}), "expected integration_steps, found none"),
    "no duration": (spoilt(policy={**POLICY, "duration": 0.0}), "policy.duration: expected"),
    "a duration that no slider shows": (
        spoilt(policy={**POLICY, "duration": 1e-4}),
        "policy.duration: expected",
    ),
    "weights": (spoilt(policy={**POLICY, "weights": [[1.0], [1.0]]}), "expected 6 weights"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_one_line(case, tmp_path, capsys):
    content, expected = BAD[case]
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(FileError) as caught:
        load_policy(path)
    assert str(caught.value).startswith(f"{path}: not a policy of nsf_pipeline: ")
    assert expected in str(caught.value)
    settings = tmp_path / "my.yaml"
    settings.write_text(yaml.safe_dump({"policies": {"given": [str(path)]}}))
    output = tmp_path / "policies.h5"
    command = ["policies", "--config", str(settings), "--first", "0", "--stop", "1"]
    assert main([*command, "--output", str(output)]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "policies.given[0]" in lines[0]
    assert not output.exists()


def given(folder, *policies, **changes):
    """Settings whose first trajectories have these policies."""
    for number, policy in enumerate(policies):
        save_policy(folder / f"{number}.json", policy)
    names = [str(folder / f"{number}.json") for number in range(len(policies))]
    file = folder / "my.yaml"
    file.write_text(yaml.safe_dump({**SMALL, **changes, "policies": {"given": names}}))
    return load_config(file)


def test_given_policies_are_those_of_the_first_trajectories(tmp_path):
    other = controls.curved(DMP)
    config, plain = given(tmp_path, PUSH, other), load_config(json.dumps(SMALL))
    found, sampled = sample_policies(config, 0, 3), sample_policies(plain, 0, 3)
    for row, policy in enumerate((PUSH, other)):
        np.testing.assert_allclose(found["initial_state"][row], policy.state, atol=1e-7)
        np.testing.assert_allclose(found["condition"][row], params_of(policy.policy).as_vector())
        assert not found["from_reset"][row]
        simulator = Simulator()
        simulator.enter(found["initial_state"][row])
        assert simulator.state().tolist() == found["initial_state"][row].tolist()
    for name in found:
        assert np.array_equal(found[name][2], sampled[name][2]), name
    later = sample_policies(config, 3, 6), sample_policies(plain, 3, 6)
    assert all(np.array_equal(later[0][name], later[1][name]) for name in found)


def test_every_state_of_a_slider_can_be_entered(tmp_path):
    random = np.random.default_rng(0)
    starts = []
    for _ in range(20):
        values = controls.values_of(PUSH) | {
            "block_x": float(random.integers(100, 400)),
            "block_y": float(random.integers(100, 400)),
            "block_angle": float(random.integers(-180, 180)),
        }
        starts.append(controls.policy_of(values, DMP))
    config = given(tmp_path, *starts)
    found = sample_policies(config, 0, 20)["initial_state"]
    expected = np.array([start.state for start in starts])
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-8)


def test_files_count_by_their_content(tmp_path):
    config = given(tmp_path, PUSH)
    made = Record.new(STAGES["policies"], config)
    text = (tmp_path / "0.json").read_text()
    (tmp_path / "0.json").write_text(json.dumps(json.loads(text), indent=7))
    assert made.changes(load_config(tmp_path / "my.yaml")) == []
    (tmp_path / "0.json").write_text(controls.curved(DMP).text())
    (change,) = made.changes(load_config(tmp_path / "my.yaml"))
    assert change.startswith("policies.given was ")


LONG = controls.policy_of(controls.values_of(PUSH) | {"duration": 3.8}, DMP)
OTHER = controls.hook(DMPConfig(phase_decay=3.0))
CONTRADICTIONS = {
    "another DMP": ([OTHER], "its `dmp` is not that of the settings"),
    "too many": ([PUSH] * 41, "names 41 policies, more than num_trajectories = 40"),
    "too long": ([PUSH, LONG], r"given\[1\]: it lasts 3\.8 s"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions_with_given_policies(case, tmp_path):
    policies, expected = CONTRADICTIONS[case]
    with pytest.raises(ConfigError, match=expected):
        given(tmp_path, *policies)


def test_more_than_records_hold_is_refused_before_it_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("nsf_pipeline.config.loading.MOST_GIVEN", 500)
    with pytest.raises(ConfigError, match="2 policies of 1 kB together, more than"):
        given(tmp_path, PUSH, PUSH)
    monkeypatch.undo()
    given(tmp_path, PUSH, PUSH)


def test_a_trajectory_of_a_data_set(tmp_path):
    from conftest import simulated

    config = given(tmp_path, PUSH)
    folder = simulated(tmp_path, sample_policies(config, 0, 40), config)
    assert controls.values_of(controls.of_trajectory(folder / "dataset.h5", 0)) == (
        controls.values_of(PUSH)
    )
    with pytest.raises(store.StoreError, match="expected trajectory 99"):
        controls.of_trajectory(folder / "dataset.h5", 99)
    with pytest.raises(UserError, match="expected its number"):
        controls.of_trajectory(folder / "dataset.h5", None)
    random = controls.at_random(3, DMP, config.policies)
    assert start_of(random)[STATE.agent].tolist() == list(random.policy.start)
