"""The models in `examples/`, where their libraries are installed: trained, and read back."""

import importlib.util

import jax
import numpy as np
import pytest
from conftest import simulated

from nsf_pipeline.config import Config, PolicyConfig
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.transitions import Transitions, load_trajectories
from nsf_pipeline.errors import UserError
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.user_models import Data, UserModel

CONFIG = Config(num_trajectories=40, shard_size=40, policies=PolicyConfig(duration=(0.5, 1.0)))
KEY = jax.random.key(0)
# By class: its library, the settings of a short training, and the longest gap that it is given, s.
EXAMPLES = {
    "gaussian_ensemble:GaussianEnsemble": (
        "torch",
        {"members": 2, "hidden": 8, "layers": 1, "transitions": 500, "steps": 20, "batch": 16},
        0.1,
    ),
    "flow_matching:FlowMatching": (
        "sklearn",
        {"hidden": 8, "layers": 1, "rounds": 3, "transitions": 500, "solver_steps": 2},
        0.5,
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_trains_and_comes_back(name, tmp_path, monkeypatch):
    library, settings, gap = EXAMPLES[name]
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"needs {library}")
    dataset = simulated(tmp_path, sample_policies(CONFIG, 0, 40), CONFIG) / "dataset.h5"
    splits = [load_trajectories(dataset, split, STATE.dim) for split in (0, 1)]
    data, rows = Data(*(Transitions.build(each, gap) for each in splits)), []
    model, other = (UserModel(f"examples.{name}", settings, CONFIG.dmp) for _ in range(2))
    model.fit(data, KEY, lambda step, **numbers: rows.append((step, numbers["validation_loss"])))
    assert np.isfinite(rows).all()
    assert rows[-1][1] < rows[0][1]
    other.load(model.arrays())
    batch = [np.asarray(each) for each in data.validation.sample(KEY, 6)]
    start, end, s, t, condition = batch
    given = jax.random.split(KEY, 6), start, s, t, condition, 5
    draws = model.sample(*given)
    np.testing.assert_array_equal(draws, other.sample(*given))
    assert np.isfinite(draws).all()
    assert np.abs(draws.mean(axis=1) - start)[:, STATE.block_position].max() < 100.0
    density = model.log_prob(end, start, s, t, condition)
    assert (density is None) == (library == "sklearn")
    assert density is None or np.isfinite(density).all()
    with pytest.raises(UserError, match="unknown widht; expected some of"):
        UserModel(f"examples.{name}", {"widht": 3}, CONFIG.dmp)
    if library == "torch":  # one draw each of many rows: every member has its share
        monkeypatch.setattr(
            "examples.gaussian_ensemble.normal", lambda keys, shape: np.zeros((len(keys), *shape))
        )
        a, b, c, d = (np.repeat(each[:1], 40, axis=0) for each in (start, s, t, condition))
        means = model.sample(jax.random.split(KEY, 40), a, b, c, d, 1)[:, 0]
        assert len(np.unique(means.round(2), axis=0)) == settings["members"]
