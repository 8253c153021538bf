"""Open-loop errors: the simulator finds its own way again, and floors are far away."""

import jax
import numpy as np
import pytest
from conftest import simulated

from nsf_pipeline.config import Config, PolicyConfig
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.errors import UserError
from nsf_pipeline.evaluation import open_loop
from nsf_pipeline.user_models import UserModel

CONFIG = Config(
    num_trajectories=60,
    shard_size=60,
    policies=PolicyConfig(duration=(0.5, 1.5), action_noise_std=(0.0, 0.0)),
)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return simulated(folder, sample_policies(CONFIG, 0, 60), CONFIG) / "dataset.h5"


@pytest.fixture
def follower():
    """A class of which the agent goes where its policy wants it; the block stays."""
    model = UserModel("user_classes:Brownian", {"floor": 0.1}, CONFIG.dmp)
    model.load({"std": np.full(7, 0.1, np.float32)})
    return model


def test_trajectories_go_on_with_further_policies(dataset):
    starts = open_loop.choose(CONFIG, dataset)
    for step, course in zip(starts.step, starts.courses, strict=True):
        stops = [part.first + part.steps for part in course.parts]
        assert [part.first for part in course.parts] == [0, *stops[:-1]]
        assert step < stops[0] <= 15
        assert stops[-2] < step + open_loop.AHEAD[-1] <= stops[-1]
        assert course.states.shape == (step + open_loop.AHEAD[-1] + 1, 10)
        assert all(part.targets.shape == (part.steps, 2) for part in course.parts)


def test_errors_are_those_of_known_predictions(dataset, follower):
    table = open_loop.measure(CONFIG, {"follower": follower}, dataset, key=KEY)
    names = ("simulator", "follower", "persistence", "random")
    assert set(zip(table["model"], table["steps"], table["group"], strict=True)) == {
        (name, steps, group)
        for name in names
        for steps in open_loop.AHEAD
        for group in open_loop.GROUPS
    }
    in_px = table[table["group"] != "block_angle"]
    assert (in_px["error_of_mean"] <= in_px["error_of_a_draw"] + 1e-9).all()
    guessed = table[(table["model"] == "random") & (table["group"] == "block_angle")]
    assert guessed["error_of_mean"].between(40.0, 140.0).all()  # no hint at the truth
    assert (table["error_of_a_draw_lower"] <= table["error_of_a_draw"]).all()
    of = table.set_index(["model", "group", "steps"])["error_of_a_draw"].sort_index()
    # Without noise the simulator has one way to go, but for what Chipmunk remembers of contacts.
    assert of["simulator", "agent"].max() < 0.01
    assert of["simulator", "block_position", 5] < 1.0
    # It lags behind its policy, and starts anew from where it was with every policy.
    assert of["follower", "agent"].max() < 40.0 < of["persistence", "agent"][[25, 50]].min()
    still, followed = (of[name, "block_position"].values for name in ("persistence", "follower"))
    np.testing.assert_allclose(still, followed, atol=2.0)
    assert of["random", "agent"].min() > of["persistence", "agent"][5]
    assert 60.0 < of["random", "block_angle"].min() < 120.0
    lines = open_loop.as_markdown(table)
    assert [line.split(" | ")[0] for line in lines[4:8]] == [f"| {name}" for name in names]


def test_draws_that_are_not_finite_are_refused(dataset, follower):
    follower.load({"std": np.full(7, np.nan, np.float32)})
    with pytest.raises(UserError, match="follower: draws of several policies are not finite"):
        open_loop.measure(CONFIG, {"follower": follower}, dataset, key=KEY)
