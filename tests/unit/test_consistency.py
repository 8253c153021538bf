"""Flow consistency: a law that is consistent, and one that is not."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from nsf_pipeline.evaluation import consistency
from nsf_pipeline.evaluation.states import Ensembles, States
from nsf_pipeline.pusht.state import STATE, STATE_WITHOUT_VELOCITY

COUNT = 80


def rollout(model, key, state, times, condition, num_samples):
    """Paths of a model that can only sample."""

    def advance(states, step):
        number, s, t = step
        keys = jax.random.split(jax.random.fold_in(key, number), num_samples)
        draw = jax.vmap(lambda key, state: model.sample(key, state, s, t, condition, 1)[0])
        states = draw(keys, states)
        return states, states

    start = jnp.repeat(jnp.asarray(state)[None], num_samples, axis=0)
    steps = jnp.arange(len(times) - 1), times[:-1], times[1:]
    later = jax.lax.scan(advance, start, steps)[1]
    return jnp.moveaxis(jnp.concatenate([start[None], later]), 0, 1)


class Spreading:
    """Independent Gaussians whose spread grows with a power of time: a half is consistent."""

    def __init__(self, power, names=STATE.names):
        self.power, self.state_names = power, names

    def sample(self, key, state, t_init, t_final, condition, num_samples):
        noise = jax.random.normal(key, (num_samples, len(self.state_names)))
        return jnp.asarray(state) + (t_final - t_init) ** self.power * noise

    rollout = rollout


def ensemble(count=COUNT):
    random = np.random.default_rng(0)
    state = random.normal(0.0, 50.0, (count, STATE.dim)).astype(np.float32)
    zeros = np.zeros(count, np.float32)
    states = States(state, state, zeros, zeros + 1.0, np.zeros((count, 2), np.float32))
    members = np.repeat(state[:, None], 4, axis=1)
    contact = np.arange(count) < count // 2
    index = np.arange(count)
    some = members[:, :2]
    return Ensembles(states, members, contact, np.ones(count), index, index, some, some)


def rows_of(model, states=None):
    found = consistency.measure(
        "some", model, 1.0, states or ensemble(), np.ones(STATE.dim), 0, key=jax.random.key(0)
    )
    return consistency.as_table(found)


@pytest.fixture(scope="module")
def consistent():
    return rows_of(Spreading(0.5))


def test_a_consistent_law_differs_by_noise_alone(consistent):
    assert tuple(consistent.columns) == consistency.COLUMNS
    assert len(consistent) == 3 * 2 * 3  # steps, groups, strata
    width = consistent["energy_distance_upper"] - consistent["energy_distance_lower"]
    assert (consistent["energy_distance"].abs() < 1.5 * width).all()
    assert (width < 0.2).all()


def test_an_inconsistent_law_is_seen():
    table = rows_of(Spreading(1.0)).query("contact == 'all' and group == 'pose'")
    found = table.set_index("steps")
    # In five dimensions, E|X - Y| of Gaussians whose variances sum up to v is 2.1277 sqrt(v).
    for steps, variance in ((1, 1.0), (2, 0.5), (10, 0.1)):
        exact = 2.1277 * (2 * np.sqrt(1 + variance) - np.sqrt(2) - np.sqrt(2 * variance))
        row = found.loc[steps]
        width = row["energy_distance_upper"] - row["energy_distance_lower"]
        assert abs(row["energy_distance"] - exact) < width
        assert (row["energy_distance_lower"] > 0.0) == (steps > 1)


def test_a_model_of_five_numbers_has_poses_alone():
    model = Spreading(0.5, STATE_WITHOUT_VELOCITY.names)
    assert set(rows_of(model)["group"]) == {"pose"}


def test_strata_are_halves_and_keep_their_shares():
    """A hundred of 640 states have contact; weights say that they are a tenth of all."""
    contact = np.arange(640) < 100
    weight = np.where(contact, 0.1 / 100, 0.9 / 540)
    found = ensemble(640)._replace(contact=contact, weight=weight)
    table = rows_of(Spreading(1.0), found).query("group == 'pose' and steps == 10")
    rows = table.set_index("contact")
    assert rows["n_states"].to_dict() == {"contact": 100, "free": 128, "all": 228}
    touched, free, both = (rows.loc[name, "energy_distance"] for name in ("contact", "free", "all"))
    assert touched != pytest.approx(free, rel=1e-3)
    assert both == pytest.approx(0.1 * touched + 0.9 * free)


def test_of_no_flow_there_is_no_table():
    assert consistency.as_markdown(consistency.as_table([])) == []


def test_markdown_names_each_model_once(consistent):
    other = consistent.assign(model="other", energy_distance=1.0)
    longer = consistent.assign(horizon_s=0.5, energy_distance=9.0)
    table = pd.concat([longer, other, consistent])
    lines = consistency.as_markdown(table)
    assert lines[0].startswith("| energy distance 1 s ahead, one step against |")
    assert [line.split(" | ")[0] for line in lines[2:]] == ["| some", "| other"]
    assert lines[3] == "| other | 1 | 1 | 1 |"
    assert {line.count("|") for line in lines} == {5}
