"""The merge: what the data set holds, and which shards are refused."""

import json
import os
import tracemalloc

import numpy as np
import pytest

from nsf_pipeline.config import Config, DatasetConfig, PolicyConfig
from nsf_pipeline.data import store
from nsf_pipeline.data.merge import SCALED, SPLITS, TRAIN, merge, split_of
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.rollouts import simulate
from nsf_pipeline.data.store import StoreError
from nsf_pipeline.dmp import condition_dim
from nsf_pipeline.files import FileError
from nsf_pipeline.provenance import Record
from nsf_pipeline.pusht.state import STATE_WITHOUT_VELOCITY
from nsf_pipeline.stages import STAGES

CONFIG = Config(
    num_trajectories=50,
    shard_size=20,  # the last shard is shorter
    policies=PolicyConfig(duration=(0.4, 1.0)),
    dataset=DatasetConfig(validation_fraction=0.2, test_fraction=0.3),
)
ON_STATES = ("observations", "agent_velocity", "block_angle", "block_velocity")
ON_ACTIONS = ("targets", "actions")


def with_shards(folder, config=CONFIG):
    """Paths of all rollout shards of a configuration, simulated."""
    paths = []
    for shard in range(config.num_shards):
        rollouts = simulate(config, sample_policies(config, *config.shard_range(shard)))
        paths.append(folder / f"{shard:05d}.h5")
        store.write(paths[-1], "rollouts", rollouts, made(config) | {"dt": 0.1})
    return paths


def made(config=CONFIG):
    """The record of rollouts of a configuration, as attributes."""
    return Record.new(STAGES["rollouts"], config).fields()


def merged(shards, folder, config=CONFIG):
    return merge(
        shards,
        config,
        STAGES["dataset"],
        output=folder / "dataset.h5",
        metadata_output=folder / "dataset.meta.json",
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with shards and their data set; not to be changed."""
    folder = tmp_path_factory.mktemp("merge")
    merged(with_shards(folder), folder)
    return folder


@pytest.fixture(scope="module")
def shards(folder):
    return [folder / f"{shard:05d}.h5" for shard in range(CONFIG.num_shards)]


@pytest.fixture(scope="module")
def rollouts(shards):
    """All shards one after another."""
    arrays = [store.read(path, "rollouts") for path in shards]
    return {name: np.concatenate([shard[name] for shard in arrays]) for name in arrays[0]}


@pytest.fixture(scope="module")
def dataset(folder):
    return store.read(folder / "dataset.h5", "dataset")


@pytest.fixture(scope="module")
def metadata(folder):
    return json.loads((folder / "dataset.meta.json").read_text())


def valid(name, rollouts):
    if name in ON_STATES:
        return rollouts["observation_mask"]
    if name in ON_ACTIONS:
        return rollouts["action_mask"]
    return np.ones(len(rollouts["length"]), bool)


def test_trajectories_are_in_order(dataset, rollouts):
    np.testing.assert_array_equal(dataset["trajectory"], np.arange(CONFIG.num_trajectories))
    for name in store.ROLLOUTS.keys() - set(SCALED):
        np.testing.assert_array_equal(dataset[name], rollouts[name], err_msg=name)


def test_the_contract_names_what_is_scaled():
    assert {*SCALED} == {*ON_STATES, *ON_ACTIONS, "initial_state", "condition"}


@pytest.mark.parametrize("name", SCALED)
def test_the_train_split_fills_minus_one_to_one(name, dataset, rollouts, metadata):
    train = dataset["split"] == TRAIN
    inside = valid(name, rollouts)
    physical, scaled = rollouts[name][train][inside[train]], dataset[name][train][inside[train]]
    low, high = physical.min(axis=0).astype(float), physical.max(axis=0).astype(float)
    np.testing.assert_array_equal(metadata["min"][name], low)
    np.testing.assert_array_equal(metadata["max"][name], high)
    np.testing.assert_array_equal(scaled.min(axis=0), np.full_like(low, -1.0))
    np.testing.assert_array_equal(scaled.max(axis=0), np.where(high > low, 1.0, -1.0))


def test_bounds_come_from_the_train_split_alone(dataset, rollouts):
    held_out = dataset["split"] != TRAIN
    beyond = np.abs(dataset["actions"][held_out][rollouts["action_mask"][held_out]]) > 1.0
    assert beyond.any()


@pytest.mark.parametrize("name", SCALED)
def test_physical_values_come_back_exactly(name, dataset, rollouts, metadata):
    low, high = (np.array(metadata[bound][name]) for bound in ("min", "max"))
    inside = valid(name, rollouts)
    back = store.unscale(dataset[name], low, high)[inside]
    expected = rollouts[name][inside]
    if expected.dtype == np.float32:
        differs = back.astype(np.float32) != expected
        assert (np.abs(expected[differs]) < 2e-5).all()
        assert name == "block_velocity" or not differs.any()
        np.testing.assert_allclose(back[differs], expected[differs], rtol=0, atol=1e-12)
    else:
        np.testing.assert_allclose(back, expected, rtol=0, atol=1e-11)
    assert not dataset[name][~inside].any()


def test_statistics_are_those_of_the_data(dataset, rollouts, metadata):
    length, taken = rollouts["length"], rollouts["action_mask"]
    final = rollouts["coverage"][np.arange(len(length)), length - 1].astype(float)
    position = rollouts["observations"][..., STATE_WITHOUT_VELOCITY.block_position]
    moved = sum(
        (position[row, t] != position[row, t + 1]).any()
        or rollouts["block_angle"][row, t] != rollouts["block_angle"][row, t + 1]
        for row, t in zip(*np.nonzero(taken), strict=True)
    )
    expected = {
        "num_trajectories": 50,
        "dt": 0.1,
        "observation_dim": 5,
        "action_dim": 2,
        "condition_dim": condition_dim(CONFIG.dmp.n_basis),
        "num_steps": int(length.sum()),
        "success_rate": rollouts["success"].mean(),
        "coverage_mean": final.mean(),
        "coverage_std": final.std(),
        "contact_fraction": moved / length.sum(),
        "splits": {name: int((dataset["split"] == i).sum()) for i, name in enumerate(SPLITS)},
        **Record.new(STAGES["dataset"], CONFIG, Record.read(made())).fields(),
    }
    expected = json.loads(json.dumps(expected))
    assert 0 < moved < length.sum()
    assert metadata.keys() == expected.keys() | {"min", "max"}
    for name, value in expected.items():
        assert metadata[name] == (pytest.approx(value) if isinstance(value, float) else value), name


def test_the_metadata_are_in_the_file_too(folder, metadata):
    with store.reading(folder / "dataset.h5", "dataset") as file:
        assert json.loads(file.attrs["metadata"]) == metadata
        assert file.attrs["fingerprint"] == metadata["fingerprint"]


def test_a_second_merge_writes_the_same_bytes_and_returns_the_metadata(
    folder, shards, metadata, tmp_path
):
    assert json.loads(json.dumps(merged(shards, tmp_path))) == metadata
    for name in ("dataset.h5", "dataset.meta.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


def test_the_size_of_shards_changes_no_number(dataset, metadata, tmp_path):
    config = CONFIG.model_copy(update={"shard_size": 7})
    found = merged(with_shards(tmp_path, config), tmp_path, config)
    found = json.loads(json.dumps(found))
    changed = {name for name in metadata if found[name] != metadata[name]}
    assert changed == {"config", "fingerprint"}
    assert found["config"] == metadata["config"] | {"shard_size": 7}
    for name, values in store.read(tmp_path / "dataset.h5", "dataset").items():
        np.testing.assert_array_equal(values, dataset[name], err_msg=name)


def test_the_split_depends_on_seed_and_trajectory_alone(dataset):
    np.testing.assert_array_equal(dataset["split"], split_of(0, range(50), CONFIG.dataset))
    alone = [split_of(0, [i], CONFIG.dataset)[0] for i in range(50)]
    np.testing.assert_array_equal(dataset["split"], alone)
    assert (dataset["split"] != split_of(1, range(50), CONFIG.dataset)).any()


@pytest.mark.parametrize(("validation", "test"), [(0.1, 0.1), (0.2, 0.3), (0.05, 0.4), (0.4, 0.05)])
def test_split_sizes_follow_the_fractions(validation, test):
    config = DatasetConfig(validation_fraction=validation, test_fraction=test)
    counts = np.bincount(split_of(0, range(2000), config), minlength=3) / 2000
    # Four standard errors.
    expected = np.array([1 - validation - test, validation, test])
    slack = 4 * np.sqrt(expected * (1 - expected) / 2000)
    assert (np.abs(counts - expected) <= slack + 1e-12).all()


def test_a_larger_share_of_validation_takes_none_away():
    small, large = (
        split_of(0, range(500), DatasetConfig(validation_fraction=share)) for share in (0.1, 0.3)
    )
    assert set(np.flatnonzero(small == 1)) < set(np.flatnonzero(large == 1))


def rewritten(path, rows=slice(None), **attributes):
    """A shard with some of its trajectories only, or other attributes."""
    arrays = {name: values[rows] for name, values in store.read(path, "rollouts").items()}
    store.write(path, "rollouts", arrays, made() | attributes)


def other_code():
    fields = made()
    modules = fields["modules"] | {"nsf_pipeline.data.rollouts": "0", "nsf_pipeline.gone": "1"}
    return fields | {"modules": modules}


def without_record(path):
    store.write(path, "rollouts", store.read(path, "rollouts"), {})


AGAIN = "if the workflow made it, snakemake --cores 1 --force "
# What happens to the second shard, and the line that names it.
REFUSED = {
    "other settings": (
        lambda path: rewritten(path, **made(CONFIG.model_copy(update={"seed": 1}))),
        f"seed was 1, is 0; {AGAIN}",
    ),
    "other code": (
        lambda path: rewritten(path, **other_code()),
        f"nsf_pipeline.data.rollouts changed; nsf_pipeline.gone is gone; {AGAIN}",
    ),
    "another fingerprint": (
        lambda path: rewritten(path, fingerprint="0" * 16),
        "made by other settings or code (fingerprint 0000000000000000, now ",
    ),
    "no record": (without_record, "it does not say what made it; "),
    "too few": (
        lambda path: rewritten(path, slice(0, 19)),
        f"expected trajectories 20 to 39, got 19 from 20; {AGAIN}",
    ),
    "others": (
        lambda path: path.write_bytes(path.with_name("00000.h5").read_bytes()),
        f"expected trajectories 20 to 39, got 20 from 0; {AGAIN}",
    ),
    "disordered": (
        lambda path: rewritten(path, slice(None, None, -1)),
        f"expected consecutive trajectories, found others; {AGAIN}",
    ),
    "missing": (lambda path: path.unlink(), "no such file"),
    "truncated": (lambda path: os.truncate(path, path.stat().st_size - 100), AGAIN),
    "a text": (lambda path: path.write_text("shard"), AGAIN),
    "a policy shard": (
        lambda path: store.write(path, "policies", sample_policies(CONFIG, 20, 40), {}),
        f"expected rollouts, got policies; name another file; {AGAIN}",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_shard_that_does_not_belong_is_named_and_nothing_is_touched(case, shards, tmp_path):
    spoil, message = REFUSED[case]
    copies = [tmp_path / "rollouts" / path.name for path in shards]
    copies[0].parent.mkdir()
    for path, copy in zip(shards, copies, strict=True):
        copy.write_bytes(path.read_bytes())
    outputs = [tmp_path / name for name in ("dataset.h5", "dataset.meta.json")]
    for output in outputs:
        output.write_bytes(b"what stood there before")
    spoil(copies[1])
    with pytest.raises(FileError) as caught:
        merged(copies, tmp_path)
    assert str(caught.value).startswith(f"{copies[1]}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "dataset.h5",
        "dataset.meta.json",
        "rollouts",
    ]
    for output in outputs:
        assert output.read_bytes() == b"what stood there before"


def test_the_number_of_shards_is_checked(shards, tmp_path):
    with pytest.raises(StoreError, match="expected 3 rollout shards, got 2"):
        merged(shards[:2], tmp_path)


def test_an_empty_train_split_is_reported(tmp_path):
    config = CONFIG.model_copy(
        update={
            "num_trajectories": 1,
            "dataset": DatasetConfig(validation_fraction=1e-9, test_fraction=0.99),
        }
    )
    with pytest.raises(StoreError, match="no trajectory fell into the train split; raise"):
        merged(with_shards(tmp_path, config), tmp_path, config)


@pytest.mark.thorough
def test_memory_does_not_grow_with_the_number_of_shards(shards, tmp_path):
    def peak(num_shards):
        # Large shards, compared with the memory that h5py leaves to the garbage collector.
        config = CONFIG.model_copy(update={"num_trajectories": 200 * num_shards, "shard_size": 200})
        folder = tmp_path / str(num_shards)
        paths = [folder / f"{shard:05d}.h5" for shard in range(num_shards)]
        arrays = store.read(shards[0], "rollouts")
        arrays = {name: np.concatenate([values] * 10) for name, values in arrays.items()}
        for shard, path in enumerate(paths):
            arrays["trajectory"] = np.arange(*config.shard_range(shard))
            store.write(path, "rollouts", arrays, made(config))
        merged(paths, folder, config)  # a first time, for what stays in memory in any case
        tracemalloc.start()
        merged(paths, folder, config)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most, sum(values.nbytes for values in arrays.values())

    (few, size), (many, _) = peak(2), peak(12)
    # Ten more shards in memory would be ten times `size`, and twice that as float64.
    assert many < few + size
