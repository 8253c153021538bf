"""The scaling curves: which models there are, what each is trained on, and their table."""

from typing import Any

import jax
import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, simulated

from nsf_pipeline.config import (
    AXES,
    Config,
    ConfigError,
    PolicyConfig,
    RuntimeConfig,
    ScalingConfig,
    TrainingConfig,
    load_config,
    parse_config,
    require_points,
)
from nsf_pipeline.data import store
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.sources import sources
from nsf_pipeline.data.streaming import StreamedTransitions
from nsf_pipeline.data.transitions import load_trajectories
from nsf_pipeline.errors import UserError
from nsf_pipeline.evaluation import scaling
from nsf_pipeline.evaluation.scaling_curves import scaling_curves
from nsf_pipeline.plotting import as_png

CONFIG = Config(num_trajectories=40, shard_size=40, policies=PolicyConfig(duration=(0.5, 1.0)))


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "examples").glob("*.yaml")))
def test_settings_among_the_examples_are_valid(name):
    config = load_config(ROOT / "examples" / name)
    require_points(config)
    if name == "plain_large.yaml":
        assert config.variant("plain_large").model.physics == "none"
        assert {"plain", "path", "plain_large"} == set(config.variant_names)


def leaves(settings, path=""):
    """Every setting by its path."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        found |= (
            leaves(value, f"{path}{name}.") if isinstance(value, dict) else {path + name: value}
        )
    return found


def test_a_point_changes_one_setting_of_the_run():
    config = Config()
    assert list(config.points) == [
        *(f"scaling_trajectories_{count}" for count in (5000, 20_000, 80_000)),
        *("scaling_width_32", "scaling_width_64", "scaling_width_256"),
        *("scaling_depth_1", "scaling_depth_3"),
        *("scaling_steps_1000", "scaling_steps_4000", "scaling_steps_64000"),
    ]
    more = parse_config({"num_trajectories": 1_000_000, "shard_size": 5000})
    assert "scaling_trajectories_320000" in more.points
    for name, (axis, value, _) in config.points.items():
        own = config.variant(name)
        found, usual = (leaves(each.model_dump()) for each in (own, config))
        assert [(path, found[path]) for path in found if found[path] != usual[path]] == [
            (".".join(AXES[axis]), value)
        ]
    require_points(config)


def test_a_stage_sees_the_points_or_the_variants_that_it_reads():
    shared = ("seed", "num_trajectories", "dataset", "model", "training")
    assert set(Config().only(*shared, "scaling").changed) == set(Config().points)
    assert set(Config().only(*shared, "variants").changed) == set(Config().variant_names)
    assert set(Config().changed) == set(Config().points) | set(Config().variant_names)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": (400,)}, "scaling.steps: 400: warmup_steps = 500 must be less than steps = 400"),
        ({"trajectories": (20,)}, "scaling.trajectories: 20: training.batch_size = 512 is larger"),
        (dict.fromkeys(("trajectories", "width", "depth", "steps"), ()), "it names no model"),
    ],
)
def test_what_cannot_be_trained_is_refused_when_it_is_asked_for(changes, message):
    config = Config(scaling=ScalingConfig(**changes))
    assert parse_config(config.model_dump(mode="json"))
    with pytest.raises(ConfigError, match=message):
        require_points(config)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    policies = sample_policies(CONFIG, 0, 40)
    return simulated(tmp_path_factory.mktemp("scaling"), policies, CONFIG) / "dataset.h5"


def drawn(dataset, count, memory=1000):
    config = CONFIG.model_copy(
        update={
            "training": TrainingConfig(trajectories=count, max_gap=0.5),
            "runtime": RuntimeConfig(data_memory=memory),
        }
    )
    with store.reading(dataset, "dataset") as file:
        found = sources(config, dataset, file)
    assert isinstance(found[0], StreamedTransitions) == (not memory)
    return [source.sample(jax.random.key(0), 500) for source in found]


def test_training_takes_the_first_trajectories_and_leaves_validation(dataset):
    conditions = load_trajectories(dataset, 0, 7).condition
    _, all_held_out = drawn(dataset, 0)
    for count in (3, 8):
        training, held_out = drawn(dataset, count)
        seen = np.unique(np.asarray(training.condition), axis=0)
        np.testing.assert_array_equal(seen, np.unique(conditions[:count], axis=0))
        np.testing.assert_array_equal(held_out.x_final, all_held_out.x_final)
        for one, other in zip(training, drawn(dataset, count, memory=0)[0], strict=True):
            np.testing.assert_array_equal(one, other)


def test_more_trajectories_than_there_are_is_one_line(dataset):
    with pytest.raises(UserError, match=r"expected a train split of at least training\.traj"):
        drawn(dataset, 41)


def of_model(**changes):
    usual = scaling.Trained(40_000, 128, 2, 16_000, 150_000, 600.0, 0, 13.5)
    return usual._replace(**changes)


TRAINED = {
    "flow": of_model(),
    "scaling_width_256": of_model(width=256, validation_nll=13.4),
    "scaling_width_32": of_model(width=32, parameters=20_000, seconds=240.0),
}


@pytest.fixture(scope="module")
def table():
    scores = [
        (model, horizon, group, contact, metric, value, value - 0.1, value + 0.1, 2000)
        for model, value in zip(TRAINED, (1.3, 1.2, 1.5), strict=True)
        for horizon in (0.1, 2.0)
        for group in ("agent", "block_position")
        for contact in ("all", "free")
        for metric in ("crps_ratio", "skill")
    ]
    head = ["model", "horizon_s", "group", "contact", "metric", "value", "lower", "upper"]
    names = ["scaling_width_256", "scaling_width_32"]
    return scaling.table(
        {"width": names, "steps": []}, TRAINED, pd.DataFrame(scores, columns=[*head, "n_states"])
    )


def test_the_table_has_each_axis_in_order_with_the_run_in_it(table):
    assert tuple(table) == scaling.COLUMNS
    assert table["model"].tolist() == [
        *("scaling_width_32", "scaling_width_32", "flow", "flow"),
        *("scaling_width_256", "scaling_width_256", "flow", "flow"),
    ]
    assert table["width"].tolist() == [32, 32, 128, 128, 256, 256, 128, 128]
    assert table["axis"].tolist() == ["width"] * 6 + ["steps"] * 2
    assert table["crps_ratio"].tolist() == [1.5, 1.5, 1.3, 1.3, 1.2, 1.2, 1.3, 1.3]


def test_the_page_and_the_picture_show_all_of_it(table):
    text = scaling.as_markdown(table, scaling.notes(TRAINED["flow"], 2000, 128))
    assert "| 32 | 20,000 | 4.0 | 13.50 | 1.500 (1.40 to 1.60) | 1.500 (1.40 to 1.60) |" in text
    assert text.count("(the run)") == 2
    assert "The run's own model has 40,000 training trajectories, width 128, depth 2" in text
    assert as_png(lambda: scaling_curves(table))[1:4] == b"PNG"
