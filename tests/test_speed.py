"""The measurement of speed: what is timed, and its tables and figure."""

import itertools
import re
from functools import partial

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection

from nsf_pipeline.config import Config, SpeedConfig, load_config
from nsf_pipeline.data.transitions import load_trajectories
from nsf_pipeline.drawing import write_figure
from nsf_pipeline.errors import UserError
from nsf_pipeline.evaluation import speed
from nsf_pipeline.evaluation.cost import accuracy_against_cost
from nsf_pipeline.evaluation.figures import STYLES
from nsf_pipeline.evaluation.metrics import Estimate
from nsf_pipeline.files import FileError
from nsf_pipeline.model import load_model
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.stages import speed as stage
from nsf_pipeline.system.processes import processes


@pytest.fixture(scope="module")
def starts(smoke):
    config = load_config(smoke.settings)
    return speed.choose_starts(config, smoke.results / "dataset.h5", 1.0, 12)


def test_starts_are_states_of_the_test_split(smoke, starts):
    test = load_trajectories(smoke.results / "dataset.h5", 2, STATE.dim)
    assert starts.actions.shape == (12, 10, 2)
    assert len(np.unique(starts.state, axis=0)) == 12
    for state, time, condition in zip(*starts[:3], strict=True):
        row = (test.condition == condition).all(axis=1).argmax()
        step = round(float(time) / 0.1)
        np.testing.assert_array_equal(test.states[row, step], state)
        assert step + 10 <= test.length[row]


def test_starts_are_repeated_if_there_are_too_few(smoke):
    config = load_config(smoke.settings)
    found = speed.choose_starts(config, smoke.results / "dataset.h5", 3.5, 500)
    assert len(found.state) == 500
    assert len(np.unique(found.state, axis=0)) < 500
    with pytest.raises(UserError, match=r"no test trajectory lasts 9 s; make more"):
        speed.choose_starts(config, smoke.results / "dataset.h5", 9.0, 5)


def test_simulations_are_the_simulators_on_one_core_and_on_all(starts):
    found = speed.simulated(starts)
    simulator = Simulator()
    for row, state in enumerate(starts.state):
        simulator.enter(state.astype(np.float64))
        np.testing.assert_array_equal(simulator.rollout(starts.actions[row])[-1], found[row])
    with processes(2, "spawn") as pool:
        np.testing.assert_array_equal(speed.simulated_by(pool, 2, starts), found)


def test_models_are_drawn_from_at_each_start(smoke, starts):
    model = load_model(smoke.results / "model.eqx")
    some = starts.first(5)
    for side in (speed.one_pass(model, 1.0), speed.step_by_step(model, 1.0)):
        draws = np.asarray(side(some)())
        assert draws.shape == (5, 7)
        assert np.isfinite(draws).all()
        assert len(np.unique(draws, axis=0)) == 5


def test_medians_are_per_trajectory_and_what_is_capped_is_timed_once(starts, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(speed.time, "perf_counter", lambda: float(next(clock)))
    work: dict[str, list[int]] = {"flow": [], "gym_pusht": []}
    monkeypatch.setitem(speed.SIMULATED, "gym_pusht", 2)

    def side(name):
        return lambda starts: lambda: work[name].append(len(starts.state))

    config = Config(speed=SpeedConfig(sizes=(8, 1, 4), rounds=3))
    table = speed.time_all({name: side(name) for name in work}, starts, config)
    assert tuple(table.columns) == speed.COLUMNS
    assert table["at_once"].tolist() == [1, 1, 4, 4, 8, 8]
    # Each reading of the clock is a second later: one second a call.
    assert table["seconds"].tolist() == [1.0, 1.0, 1 / 4, 1 / 2, 1 / 8, 1 / 2]
    assert table["times_flow"].tolist() == [1.0, 1.0, 1.0, 2.0, 1.0, 4.0]
    assert table["measured_at_once"].tolist() == [1, 1, 4, 2, 8, 2]
    assert work == {"flow": [1] * 4 + [4] * 4 + [8] * 4, "gym_pusht": [1] * 4 + [2] * 4}


def table():
    rows = [
        (name, size, seconds / size, seconds / size, seconds / size, times, size)
        for name, seconds, times in [("flow", 1e-4, 1.0), ("simulator", 3e-2, 300.0)]
        for size in (1, 4096)
    ]
    return pd.DataFrame(rows, columns=list(speed.COLUMNS))


def test_markdown_tells_times_and_ratios():
    text = speed.as_markdown(table(), 2.0, Config(), cores=3, seconds=61.4)
    lines = text.splitlines()
    assert lines[0] == "# Cost of predicting 2 s ahead"
    assert lines[2].endswith("| 1 at once | 4,096 at once |")
    assert lines[4] == "| flow | 100 µs | 0.0244 µs |"
    assert lines[5] == "| simulator | 30 ms (×300) | 7.32 µs (×300) |"
    assert ", with 3 cores; " in text
    assert "- Measured in 61 s; " in text
    assert not re.search(r"\d\.\d{6}", text)


def test_the_figure_has_a_row_per_model_and_the_same_bytes(tmp_path):
    for name in ("a.png", "b.png"):
        crps = {"flow": Estimate(3.0, 2.5, 3.5), "simulator": Estimate(1.0, 0.9, 1.1)}
        write_figure(partial(accuracy_against_cost, table(), crps, 2.0), tmp_path / name)
    (axes,) = accuracy_against_cost(table(), crps, 2.0).axes
    assert [float(np.asarray(line.get_ydata())[0]) for line in axes.lines] == [3.0, 1.0]
    assert [line.get_color() for line in axes.lines] == [STYLES[name][0] for name in crps]
    intervals = [c for c in axes.collections if isinstance(c, LineCollection)]
    assert [lines.get_segments()[0][:, 1].tolist() for lines in intervals] == [
        [2.5, 3.5],
        [0.9, 1.1],
    ]
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_scores_are_those_of_all_states_at_the_horizon():
    scores = pd.DataFrame(
        [
            ("flow", 2.0, "block_position", "all", 3.0, 2.0, 4.0),
            ("flow", 2.0, "block_position", "free", 1.0, 0.0, 2.0),
            ("flow", 1.0, "block_position", "all", 2.0, 1.0, 3.0),
            ("flow", 2.0, "agent", "all", 5.0, 4.0, 6.0),
        ],
        columns=["model", "horizon_s", "group", "contact", "crps", "crps_lower", "crps_upper"],
    )
    assert speed.crps_of(scores, 2.0) == {"flow": Estimate(3.0, 2.0, 4.0)}


def test_scores_are_read_before_anything_is_timed(tmp_path):
    none = tmp_path / "none"
    with pytest.raises(FileError, match="none: not a table of scores"):
        stage.run(Config(), none, {}, none, none, None, tmp_path)
