"""Models that users bring: found, checked, trained, saved, scored, timed and planned with."""

import importlib
import sys
from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
import user_classes
from conftest import simulated
from test_model_file import at

from nsf_pipeline import user_code
from nsf_pipeline.config import Config, DMPConfig, parse_config
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.transitions import load_trajectories
from nsf_pipeline.errors import UserError
from nsf_pipeline.evaluation.predictors import in_one_pass
from nsf_pipeline.evaluation.speed import Starts, one_pass
from nsf_pipeline.evaluation.states import States
from nsf_pipeline.files import FileError
from nsf_pipeline.model import ModelFileError, load_model
from nsf_pipeline.planning.models import learned
from nsf_pipeline.protocols.models import world_model
from nsf_pipeline.provenance import Record
from nsf_pipeline.pusht.state import STATE
from nsf_pipeline.stages import STAGES, user_train
from nsf_pipeline.stages.models import read_model
from nsf_pipeline.stages.planners import load_trained
from nsf_pipeline.user_models import UserModel, is_user_model, load_user_model

KIND = "user_classes:Brownian"
KEY = jax.random.key(0)


def with_kind(kind, settings, **others):
    own = {"model": {"kind": kind, "settings": settings}}
    return parse_config(
        {
            "num_trajectories": 40,
            "shard_size": 40,
            "policies": {"duration": [0.5, 1.0]},
            "training": {"batch_size": 64, "max_gap": 0.5},
            "ensembles": {"horizons": [0.1]},
            "videos": {"predicted": []},
            "variants": {"mine": own},
            **others,
        }
    )


CONFIG = with_kind(KIND, {"floor": 0.5})


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder with a data set and the model of a small class, trained on it."""
    folder = tmp_path_factory.mktemp("trained")
    simulated(folder, sample_policies(CONFIG, 0, 40), CONFIG)
    files = [folder / name for name in ("model.eqx", "metrics.csv", "curves.png")]
    user_train.run(CONFIG.variant("mine"), folder / "dataset.h5", *files, variant="mine")
    return folder


@pytest.fixture(scope="module")
def model(trained):
    return read_model(trained / "model.eqx", CONFIG)[0]


@pytest.fixture(scope="module")
def states(trained):
    test = load_trajectories(trained / "dataset.h5", 0, STATE.dim)
    given = test.states[:, 0], test.states[:, 3], test.condition
    times = np.zeros(len(given[0]), np.float32)
    return States(*given[:2], times, times + np.float32(0.3), given[2])


# Settings.

REFUSED_SETTINGS: dict[str, tuple[dict[str, Any], str]] = {
    "no class": (
        {"kind": "mine"},
        "variants.mine.model.kind: expected flow, neural_sde or a class",
    ),
    "a path": ({"kind": "../mine.py:Model"}, "variants.mine.model.kind: expected flow, neural_sde"),
    "settings of the flow": ({"settings": {"a": 1}}, "model.settings are for a class of your own"),
    "five numbers": ({"kind": KIND, "state_dim": 5}, "your own is given all 7 numbers"),
}


@pytest.mark.parametrize("case", REFUSED_SETTINGS)
def test_settings_are_refused(case):
    given, said = REFUSED_SETTINGS[case]
    with pytest.raises(UserError, match=r"^config: ") as refused:
        parse_config({"variants": {"mine": {"model": given}}})
    assert said in str(refused.value)


def test_only_a_variant_is_of_a_users_class():
    with pytest.raises(UserError, match="a class of your own can only be a variant"):
        parse_config({"model": {"kind": KIND}})


def test_other_settings_of_the_section_make_no_users_model_stale():
    other = with_kind(KIND, {"floor": 0.5}, model={"flow": {"depth": 5}})
    assert other.variant("mine").model == CONFIG.variant("mine").model


# The class.

WHOLE = """
class Mine:
    def __init__(self, settings, dmp): ...
    def fit(self, data, key, report): ...
    def sample(self, keys, state, t_init, t_final, condition, num_samples): ...
    def arrays(self): ...
    def load(self, arrays): ...
"""
# By case: the module's text, and what is said of it without running it.
REFUSED_CLASSES = {
    "another class": ("class Other: ...", "has no class Mine"),
    "a method missing": (WHOLE.replace("arrays(self)", "weights(self)"), "a method arrays(self)"),
    "too few arguments": (
        WHOLE.replace("(self, data, key, report)", "(self)"),
        "method fit(self, d",
    ),
    "too many": (
        WHOLE.replace("(self, arrays)", "(self, arrays, more)"),
        "method load(self, arrays)",
    ),
    "a density of another kind": (WHOLE + "    def log_prob(self, x): ...", "method log_prob(self"),
    "no Python": ("class Mine(", "mine_to_find.py, line 1: no Python: "),
}


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A run's folder with a module in it; gives a function that writes the module anew."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="mine_to_find.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
        importlib.invalidate_caches()
        user_code.digests.cache_clear()

    yield write
    user_code.digests.cache_clear()
    for name in [name for name in sys.modules if name.startswith("mine_to_find")]:
        del sys.modules[name]
    if str(tmp_path) in sys.path:
        sys.path.remove(str(tmp_path))


@pytest.mark.parametrize("case", REFUSED_CLASSES)
def test_a_class_is_refused_before_it_runs(case, package):
    text, said = REFUSED_CLASSES[case]
    package("raise SystemExit('it ran')\n" * (case != "no Python") + text)
    with pytest.raises(UserError) as refused:
        user_code.require("mine_to_find:Mine")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_class_is_found_and_imported_from_the_runs_folder(package, tmp_path):
    with pytest.raises(
        UserError, match=r"mine_to_find:Mine: there is no module mine_to_find where"
    ):
        user_code.require("mine_to_find:Mine")
    package(WHOLE)
    assert user_code.imported("mine_to_find:Mine").__name__ == "Mine"
    assert UserModel("mine_to_find:Mine", {}, DMPConfig()).log_prob is not None


def test_what_fails_at_import_is_said_in_a_line(package):
    package("import a_library_that_nobody_has\n" + WHOLE)
    with pytest.raises(UserError, match="cannot import it: ModuleNotFoundError: No module named"):
        user_code.imported("mine_to_find:Mine")


def test_the_users_code_counts_with_what_it_imports(package, tmp_path):
    package("", "mine_to_find/__init__.py")
    package("X = 1", "mine_to_find/other.py")
    package(
        "import json, numpy\nfrom nsf_pipeline import dmp\nfrom .other import X\n" + WHOLE,
        "mine_to_find/model.py",
    )
    kind = "mine_to_find.model:Mine"
    config = with_kind(kind, {})
    made = Record.new(STAGES["user_train"], config.variant("mine"), variant="mine")
    found = {name for name in made.modules if not name.startswith("nsf_pipeline.")}
    assert found == {f"mine_to_find{part}" for part in ("", ".other", ".model")} | {"numpy"}
    assert user_code.digests(kind)["numpy"] == np.__version__
    assert made.changes(config.variant("mine")) == []
    compared = Record.new(STAGES["compare"], config)
    before = STAGES["speed"].digest(config)
    package("X = 1  # the same", "mine_to_find/other.py")
    assert made.changes(config.variant("mine")) == []
    package("X = 2", "mine_to_find/other.py")
    assert made.changes(config.variant("mine")) == ["mine_to_find.other changed"]
    assert compared.changes(config) == ["mine_to_find.other changed"]
    assert compared.changes(config.only("seed", "dmp")) == []
    assert STAGES["speed"].digest(config) != before
    assert STAGES["evaluate"].digest(config) == STAGES["evaluate"].digest(Config(**vars(config)))


def test_a_record_in_a_file_names_no_code_to_look_for(package):
    """Which of a user's modules are hashed, today's settings say."""
    package("X = 1")
    made = Record.new(STAGES["dataset"], CONFIG)
    altered = Record(made.stage, made.settings, {**made.modules, "mine_to_find": "0"}, "0")
    assert altered.changes(CONFIG) == ["mine_to_find is gone"]


# Training and the file.


def test_a_model_comes_back_as_it_was_trained(trained, model, states):
    rows = pd.read_csv(trained / "metrics.csv")
    assert list(rows) == ["step", "seconds", "loss"]
    assert list(rows["step"]) == [1, 2]
    assert (trained / "curves.png").read_bytes()[1:4] == b"PNG"
    loaded = load_user_model(trained / "model.eqx", KIND)
    assert loaded.settings == {"floor": 0.5}
    found = loaded.arrays()
    for name, values in model.arrays().items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype
        assert found[name].shape == values.shape
    again = trained / "again.eqx"
    user_train.run(
        CONFIG.variant("mine"),
        trained / "dataset.h5",
        again,
        trained / "m.csv",
        trained / "c.png",
        variant="mine",
    )
    assert again.read_bytes() == (trained / "model.eqx").read_bytes()


def test_what_the_class_says_of_its_settings_is_told():
    with pytest.raises(UserError, match=f"^{KIND}: model.settings: floor: expected a number above"):
        UserModel(KIND, {"floor": -1.0}, DMPConfig())
    with pytest.raises(UserError, match=f"^{KIND}: model.settings: no 'floor'$"):
        UserModel(KIND, {}, DMPConfig())


def test_a_file_never_says_which_class_it_is(trained, model):
    path = trained / "model.eqx"
    with pytest.raises(ModelFileError, match="a model of a user's class, and a file never says"):
        load_model(path)
    with pytest.raises(FileError, match="the variant mine; the settings given name no class for"):
        read_model(path, Config())
    other = with_kind("user_classes:Without", {"floor": 0.5})
    with pytest.raises(ModelFileError, match="of another class than user_classes:Without"):
        read_model(path, other)
    stamp = CONFIG.variant("mine").only("model", "seed")
    assert isinstance(read_model(path, stamp)[0], UserModel)


DAMAGED = {
    "a bit": lambda content: content[:-3] + bytes([content[-3] ^ 1]) + content[-2:],
    "cut off": lambda content: content[:-8],
    "a type": at("arrays.std.dtype", "|O8"),
    "a shape": at("arrays.std.shape", [8]),
    "a vast shape": at("arrays.std.shape", [2**39]),
    "a name": at("arrays", {}),
    "settings": at("settings.model", [1]),
    "a version": at("format_version", 2),
}


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_refused_in_a_line(case, trained, tmp_path):
    path = tmp_path / "model.eqx"
    path.write_bytes(DAMAGED[case]((trained / "model.eqx").read_bytes()))
    assert is_user_model(path)
    with pytest.raises(ModelFileError) as refused:
        load_user_model(path, KIND)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


# Beside the others.


def test_it_is_scored_in_chunks_each_row_by_its_own_key(model, states):
    found = in_one_pass("mine", model)(states, 8, key=KEY)
    assert found.draws.shape == (len(states), 8, STATE.dim)
    some = States(*(values[:5] for values in states))
    keys = jax.random.split(KEY, len(states))[:5]
    given = some.x_init, some.t_init, some.t_final, some.condition
    np.testing.assert_array_equal(model.sample(keys, *given, 8), found.draws[:5])
    density = model.log_prob(some.x_final, *given)
    assert found.log_density is not None
    np.testing.assert_array_equal(density, found.log_density[:5])
    none = UserModel("user_classes:Without", {"floor": 0.5}, CONFIG.dmp)
    none.load(model.arrays())
    assert in_one_pass("none", none)(some, 2, key=KEY).log_density is None


def test_another_shape_is_refused(model, states, monkeypatch):
    monkeypatch.setattr(user_classes, "normal", lambda keys, shape: np.zeros((1, *shape)))
    some = States(*(values[:5] for values in states))
    monkeypatch.setattr(
        user_classes.Brownian, "_mean", lambda self, state, *rest: np.asarray(state)[:1]
    )
    with pytest.raises(ValueError, match=r"what user_classes:Brownian.sample returns"):
        in_one_pass("mine", model)(some, 2, key=KEY)


def test_it_is_timed(model, states):
    actions = np.zeros((len(states), 3, 2))
    starts = Starts(states.x_init, states.t_init, states.condition, actions)
    draws: Any = one_pass(model, 0.3)(starts)()
    assert draws.shape == (len(states), 1, STATE.dim)


def test_it_is_planned_with(trained, model):
    row = sample_policies(CONFIG, 0, 3)
    policies = user_classes.DMPParams.from_vector(row["condition"])
    start = row["initial_state"]
    one = world_model("mine_4", model, CONFIG.dmp)
    ends = one.predict(start, policies, key=KEY)
    assert (one.name, ends.shape) == ("mine_4", (3, 4, STATE.dim))
    keys = jax.random.split(KEY, 3)
    alone = user_classes.DMPParams(*(values[1:2] for values in policies))
    np.testing.assert_array_equal(one.predict(start[1:2], alone, key=keys[1:2])[0], ends[1])
    steps = world_model("mine_steps_2", model, CONFIG.dmp)
    far = steps.predict(start, policies, key=KEY)
    assert (steps.name, far.shape) == ("mine_steps_2", (3, 2, STATE.dim))
    # The block's noise adds up over the steps, and the agent's does not.
    assert np.abs(far - ends[:, :2])[..., STATE.agent].max() < 12.0 * float(
        model.arrays()["std"][0]
    )
    with pytest.raises(
        UserError, match="mine: a model of a user's class has no draw without noise"
    ):
        learned(model, 0, "mine")
    loaded, made = load_trained(trained / "model.eqx", "mine_4", CONFIG.variant("mine"))
    assert isinstance(loaded, UserModel)
    assert (loaded.kind, made.variant) == (KIND, "mine")
    with pytest.raises(FileError, match="it is the model mine; expected flow"):
        load_trained(trained / "model.eqx", "flow_4", CONFIG)
