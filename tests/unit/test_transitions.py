"""Transitions: pairs of states of one trajectory, and how they are drawn."""

import os
import shutil
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import simulated
from hdf5_files import changed, put

from nsf_pipeline.config import Config, DatasetConfig, PolicyConfig
from nsf_pipeline.data import store
from nsf_pipeline.data.policies import sample_policies
from nsf_pipeline.data.streaming import StreamedTransitions
from nsf_pipeline.data.transitions import (
    Picker,
    Trajectories,
    Transitions,
    load_trajectories,
    rows_of,
    trajectories_of,
)
from nsf_pipeline.errors import UserError
from nsf_pipeline.pusht.state import STATE, STATE_WITHOUT_VELOCITY, layout_of

DT = 0.1
LENGTHS = np.array([1, 2, 7, 20, 20, 13], np.int32)
BATCH = 20_000


def ladder(dim=7, lengths=LENGTHS):
    """Trajectories whose states tell trajectory and step; beyond the length they are NaN."""
    count, steps = len(lengths), max(lengths)
    states = np.full((count, steps + 1, dim), np.nan, np.float32)
    for row, length in enumerate(lengths):
        states[row, : length + 1] = 100 * row + np.arange(length + 1)[:, None]
    condition = np.tile(np.arange(count, dtype=np.float32)[:, None], (1, 3))
    return Trajectories(states, np.asarray(lengths, np.int32), condition)


def drawn(max_gap=2.0, seed=0, dim=7, **options):
    """A large batch with its trajectories, steps and gaps, all integers."""
    transitions = Transitions.build(ladder(dim), max_gap, DT, **options)
    batch = transitions.sample(jax.random.key(seed), BATCH)
    assert batch.condition is not None
    row = np.asarray(batch.condition[:, 0]).astype(int)
    first = np.round(np.asarray(batch.t_init) / DT).astype(int)
    last = np.round(np.asarray(batch.t_final) / DT).astype(int)
    return batch, row, first, last


@pytest.mark.parametrize("dim", [5, 7])
@pytest.mark.parametrize("max_gap", [0.1, 0.5, 2.0, 9.0])
def test_pairs_are_states_of_one_trajectory_at_their_times(dim, max_gap):
    batch, row, first, last = drawn(max_gap, dim=dim)
    assert batch.x_init.shape == batch.x_final.shape == (BATCH, dim)
    assert batch.t_init.shape == batch.t_final.shape == (BATCH,)
    assert batch.condition.shape == (BATCH, 3)
    np.testing.assert_array_equal(batch.x_init, np.tile((100 * row + first)[:, None], (1, dim)))
    np.testing.assert_array_equal(batch.x_final, np.tile((100 * row + last)[:, None], (1, dim)))
    assert (first >= 0).all()
    assert (last <= LENGTHS[row]).all()
    assert (last - first).min() == 1
    assert (last - first).max() == min(round(max_gap / DT), LENGTHS.max())
    np.testing.assert_allclose(batch.t_init, DT * first, atol=1e-6)
    np.testing.assert_allclose(batch.t_final, DT * last, atol=1e-6)


@pytest.mark.parametrize(("max_gap", "longest"), [(0.1, 1), (0.16, 1), (0.3, 3), (0.36, 3)])
def test_no_gap_exceeds_the_longest(max_gap, longest):
    _, _, first, last = drawn(max_gap)
    assert (last - first).max() == longest


def test_starts_are_uniform_over_all_that_have_a_successor():
    _, row, first, _ = drawn()
    counts = np.zeros((len(LENGTHS), LENGTHS.max()))
    np.add.at(counts, (row, first), 1)
    possible = np.arange(LENGTHS.max()) < LENGTHS[:, None]
    assert not counts[~possible].any()
    expected = BATCH / LENGTHS.sum()
    assert len(Transitions.build(ladder(), 1.0)) == LENGTHS.sum()
    assert (np.abs(counts[possible] - expected) < 5 * np.sqrt(expected)).all()


def test_gaps_are_uniform_up_to_the_longest_that_fits():
    longest = 20
    lengths = np.full(64, longest, np.int32)
    transitions = Transitions.build(ladder(lengths=lengths), 9.0, DT)
    batch = transitions.sample(jax.random.key(1), BATCH)
    first, last = (np.round(np.asarray(t) / DT).astype(int) for t in (batch.t_init, batch.t_final))
    for start in (0, 10, 18):
        gaps = (last - first)[first == start]
        fits = longest - start
        shares = np.bincount(gaps, minlength=fits + 1)[1:] / len(gaps)
        assert (np.abs(shares - 1 / fits) < 5 * np.sqrt(1 / fits / len(gaps))).all()


def test_draws_follow_from_the_key_and_compile():
    transitions = Transitions.build(ladder(), 1.0, DT, block_blur=1.0)
    sample = jax.jit(lambda source, key: source.sample(key, BATCH))
    first, again, other = (sample(transitions, jax.random.key(seed)) for seed in (0, 0, 1))
    plain = transitions.sample(jax.random.key(0), BATCH)
    batches = map(jax.tree.leaves, (first, again, plain))
    for one, two, three in zip(*batches, strict=True):
        np.testing.assert_array_equal(one, two)
        np.testing.assert_allclose(one, three, rtol=1e-6)
    assert (first.x_init != other.x_init).any()


def test_blur_is_brownian_and_of_the_blocks_pose_alone():
    blur = 2.0
    batch, row, first, last = drawn(block_blur=blur)
    sharp = (100 * row + last)[:, None]
    moved = np.asarray(batch.x_final) - sharp
    np.testing.assert_array_equal(batch.x_init, np.tile((100 * row + first)[:, None], (1, 7)))
    assert not moved[:, STATE.agent].any()
    assert not moved[:, STATE.velocity].any()
    for gap in (1, 4, 16):
        rows = moved[last - first == gap, STATE.block]
        std = blur * np.sqrt(DT * gap) * np.array([1, 1, 1 / 60])
        slack = 5 / np.sqrt(len(rows))
        assert (np.abs(rows.mean(axis=0)) < slack * std + 1e-4).all()
        np.testing.assert_allclose(rows.std(axis=0), std, rtol=slack)
        correlations = np.corrcoef(rows.T)[np.triu_indices(3, 1)]
        assert (np.abs(correlations) < slack).all()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A data set, and the rollouts that it was made of."""
    config = Config(
        num_trajectories=24,
        shard_size=24,
        policies=PolicyConfig(duration=(0.4, 1.0)),
        dataset=DatasetConfig(validation_fraction=0.3, test_fraction=1e-9),
    )
    folder = tmp_path_factory.mktemp("transitions")
    simulated(folder, sample_policies(config, 0, 24), config)
    return folder / "dataset.h5", store.read(folder / "00000.h5", "rollouts")


@pytest.mark.parametrize("state_dim", [7, 5, 10], ids=["with velocity", "without", "of the block"])
def test_a_split_comes_back_as_it_was_simulated(made, state_dim):
    path, rollouts = made
    layout, observed = layout_of(state_dim), STATE_WITHOUT_VELOCITY
    split = store.read(path, "dataset", ("split",))["split"]
    for number in (0, 1):
        rows = split == number
        found = load_trajectories(path, number, state_dim)
        assert found.states.shape == (rows.sum(), 11, state_dim)
        np.testing.assert_array_equal(found.length, rollouts["length"][rows])
        np.testing.assert_array_equal(
            found.condition, rollouts["condition"][rows].astype(np.float32)
        )
        inside = rollouts["observation_mask"][rows]
        states, seen = found.states[inside], rollouts["observations"][rows][inside]
        np.testing.assert_array_equal(states[:, layout.agent], seen[:, observed.agent])
        if layout.velocity is not None:
            np.testing.assert_array_equal(
                states[:, layout.velocity], rollouts["agent_velocity"][rows][inside]
            )
        np.testing.assert_array_equal(
            states[:, layout.block_position], seen[:, observed.block_position]
        )
        np.testing.assert_array_equal(
            states[:, layout.angle], rollouts["block_angle"][rows][inside]
        )
        if layout.block_velocity is not None:
            np.testing.assert_array_equal(
                states[:, :7], load_trajectories(path, number, 7).states[inside]
            )
            velocity = rollouts["block_velocity"][rows][inside]
            np.testing.assert_allclose(states[:, 7:], velocity, rtol=0, atol=1e-12)
            assert velocity.any(axis=0).all()


def test_an_empty_split_is_reported(made):
    with pytest.raises(store.StoreError, match=r"no trajectory in the test split; raise"):
        load_trajectories(made[0], 2, 7)


def test_transitions_of_a_data_set_are_finite_and_in_its_splits(made):
    path, _ = made
    train = load_trajectories(path, 0, 7)
    batch = Transitions.build(train, 1.0).sample(jax.random.key(0), BATCH)
    known = {state.tobytes() for states in train.states for state in states}
    assert all(state.tobytes() in known for state in np.asarray(batch.x_final))
    assert all(jnp.isfinite(values).all() for values in jax.tree.leaves(batch))


def test_a_block_that_rests_is_not_blurred():
    trajectories = ladder()
    states = np.array(trajectories.states)
    states[:, 5:, STATE.block] = states[:, 5:6, STATE.block]  # no push from step 5 on
    source = Transitions.build(
        trajectories._replace(states=states), 1.0, DT, block_blur=1.0, keeps_rest=True
    )
    batch = source.sample(jax.random.key(0), BATCH)
    rested = np.asarray(batch.t_init) > 4.5 * DT
    same = np.asarray(batch.x_init == batch.x_final)[:, STATE.block]
    assert 0.1 < rested.mean() < 0.9
    assert same[rested].all()
    assert not same[~rested].any()


def opened(path, split, *, streamed, state_dim=7):
    """Transitions of a split, in memory or streamed."""
    options: dict[str, Any] = {"block_blur": 1.5, "keeps_rest": True}
    with store.reading(path, "dataset") as file:
        rows = rows_of(path, file, split)
        if streamed:
            return StreamedTransitions(path, file, rows, state_dim, 1.0, **options)
        return Transitions.build(trajectories_of(file, rows, state_dim), 1.0, **options)


def bits(batch):
    return [np.asarray(values).tobytes() for values in batch]


@pytest.mark.parametrize("state_dim", [5, 7, 10])
def test_streamed_batches_are_those_in_memory_bit_for_bit(made, state_dim):
    keys = jax.random.split(jax.random.key(3), 5)
    for split in (0, 1):
        held, streamed = (
            opened(made[0], split, streamed=streamed, state_dim=state_dim)
            for streamed in (False, True)
        )
        assert len(held) == len(streamed)
        assert bits(held.sample(keys[0], 500)) == bits(streamed.sample(keys[0], 500))
        ours, theirs = held.batches(keys, 200), streamed.batches(keys, 200)
        assert ours.x_init.shape == (5, 200, state_dim)
        assert bits(ours) == bits(theirs)
        assert len(set(bits(ours))) == 5


def test_batches_are_one_sample_a_key(made):
    transitions = opened(made[0], 0, streamed=False)
    keys = jax.random.split(jax.random.key(3), 3)
    found = transitions.batches(keys, 100)
    for index, key in enumerate(keys):
        for one, many in zip(transitions.sample(key, 100), found, strict=True):
            np.testing.assert_allclose(one, many[index], rtol=1e-6)


def test_a_file_in_chunks_is_not_streamed(made, tmp_path):
    path = tmp_path / "chunked.h5"

    def in_chunks(file):
        for name, values in list(file.items()):
            put(name, values[...], chunks=True)(file)

    changed(made[0], path, in_chunks, labelled=True)
    with pytest.raises(store.StoreError, match=r"chunked.h5: its arrays lie in chunks and cannot"):
        opened(path, 0, streamed=True)
    assert len(opened(path, 0, streamed=False)) == len(opened(made[0], 0, streamed=True))


def test_the_file_that_was_checked_is_streamed_whatever_its_path_names_by_then(made, tmp_path):
    path, other = tmp_path / "dataset.h5", tmp_path / "other.h5"
    shutil.copy(made[0], path)
    changed(made[0], other, put("block_angle", np.zeros((24, 11))), labelled=True)
    with store.reading(path, "dataset") as file:
        rows = rows_of(path, file, 0)
        os.replace(other, path)
        streamed = StreamedTransitions(path, file, rows, 7, 1.0, block_blur=1.5, keeps_rest=True)
    key = jax.random.key(0)
    expected = opened(made[0], 0, streamed=True).sample(key, 500)
    assert bits(streamed.sample(key, 500)) == bits(expected)


def test_a_file_cut_short_while_it_is_streamed_is_reported(made, tmp_path):
    path = tmp_path / "short.h5"
    shutil.copy(made[0], path)
    streamed = opened(path, 0, streamed=True)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(store.StoreError, match=r"short.h5: ends within `\w+`: it was cut short"):
        streamed.sample(jax.random.key(0), 500)


def test_more_starts_than_32_bits_count_are_refused():
    with pytest.raises(UserError, match=r"at most 2147483647 states .* got 2200000000"):
        Picker.build(np.full(22, 10**8), 7, 1.0, DT, 0.0, keeps_rest=False)
