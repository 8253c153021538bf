"""Training: a known law is recovered, repeats are exact, and failures are named."""

import contextlib
import functools
import io
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nsf_pipeline import label
from nsf_pipeline.config import TrainingConfig
from nsf_pipeline.data.transitions import TransitionBatch
from nsf_pipeline.errors import UserError
from nsf_pipeline.flow import ConditionalAuxiliaryFlow, ConditionalNeuralStochasticFlow
from nsf_pipeline.training import (
    METRICS,
    Callback,
    Stopped,
    TrainingError,
    clipping,
    each_row,
    fit,
    losses,
)
from nsf_pipeline.training.checkpoints import Checkpoints
from nsf_pipeline.training.devices import Devices
from nsf_pipeline.training.losses import batch_consistency
from nsf_pipeline.training.state import SUMMED, Row, TrainingLog, TrainingState
from nsf_pipeline.training.step import Step, make_optimiser

DRIFT, STD = np.array([1.0, -0.5], np.float32), np.array([0.5, 0.8], np.float32)
KEY = jax.random.key(0)
SETTINGS: dict[str, Any] = {
    "steps": 400,
    "batch_size": 128,
    "warmup_steps": 20,
    "learning_rate": 1e-2,
    "validate_every": 100,
    "validation_size": 512,
}
# Without the losses that take long to compile, for tests that are not about them.
BRIEF: dict[str, Any] = {**SETTINGS, "one_to_two_weight": 0.0, "two_to_one_weight": 0.0}


class BrownianTransitions(eqx.Module):
    """Brownian motion with drift, seen over gaps up to 1."""

    spoiled: float = eqx.field(static=True, default=0.0)

    def sample(self, key, batch_size):
        keys = jax.random.split(key, 3)
        start = jax.random.normal(keys[0], (batch_size, 2))
        gap = jax.random.uniform(keys[1], (batch_size,), minval=0.1, maxval=1.0)
        noise = STD * jnp.sqrt(gap)[:, None] * jax.random.normal(keys[2], (batch_size, 2))
        end = start + gap[:, None] * DRIFT + noise + self.spoiled
        return TransitionBatch(start, end, jnp.zeros(batch_size), gap, None)


def laws() -> tuple[ConditionalNeuralStochasticFlow, ConditionalAuxiliaryFlow]:
    settings: dict[str, Any] = {"hidden_size": 8, "depth": 1, "num_flow_layers": 1}
    return (
        ConditionalNeuralStochasticFlow(2, **settings, key=KEY),
        ConditionalAuxiliaryFlow(2, **settings, key=KEY),
    )


@functools.cache
def trained(validated=True, **changes):
    config = TrainingConfig(**{**SETTINGS, **changes})
    source = BrownianTransitions()
    return fit(*laws(), source, config, key=KEY, validation=source if validated else None)


@pytest.mark.parametrize("time_step", [None, 0.1])
def test_consistency_losses_use_times_at_which_states_are_markov(monkeypatch, time_step):
    def times(flow, bridge, x_init, t_init, t_mid, t_final, condition, *, encoding, key):
        return t_mid - t_init, t_final - t_init

    monkeypatch.setattr(losses, "consistency_losses", times)
    flow, bridge = laws()

    @jax.jit
    def drawn(batch, keys):
        one = lambda key: batch_consistency(flow, bridge, batch, None, time_step, key=key)  # noqa: E731
        return jax.vmap(one)(keys)

    for steps in (1, 3, 4, 5, 30):
        end = jnp.full(1, 0.4 + 0.1 * steps)
        batch = TransitionBatch(jnp.zeros((1, 2)), jnp.zeros((1, 2)), jnp.full(1, 0.4), end, None)
        mid, gap = 10.0 * np.array(drawn(batch, jax.vmap(jax.random.key)(jnp.arange(40))))
        if time_step and steps < 4:
            assert not mid.any()
            assert not gap.any()
            continue
        np.testing.assert_allclose(gap, steps, rtol=1e-4)
        assert ((mid > 0) & (mid < steps)).all()
        is_whole = np.abs(mid - np.round(mid)) < 1e-3
        assert is_whole.all() == bool(time_step)
        assert len(np.unique(np.round(mid, 1))) >= (min(steps - 3, 8) if time_step else 8)


def divergence(flow, count=4000):
    """E log(p / q) of the truth p and a flow q, in nats, with its standard error."""
    start, end, _, gap, _ = BrownianTransitions().sample(jax.random.key(9), count)
    found = jax.jit(jax.vmap(lambda x, y, t: flow(x, 0.0, t).log_prob(y)))(start, end, gap)
    std = STD * np.sqrt(gap)[:, None]
    error = (end - start - gap[:, None] * DRIFT) / std
    truth = -0.5 * (error**2 + np.log(2 * np.pi * std**2)).sum(axis=1)
    return float((truth - found).mean()), float((truth - found).std() / np.sqrt(count))


@pytest.mark.thorough
def test_a_known_law_is_recovered():
    before, _ = divergence(laws()[0])
    after, error = divergence(trained()[0])
    assert before > 0.2
    assert after < 0.03
    assert after > -5 * error


def without_seconds(history):
    return [{**row, "seconds": None} for row in history]


def test_history_is_a_row_per_validation_and_falls():
    _, _, history = trained()
    assert [row["step"] for row in history] == [100, 200, 300, 400]
    assert all(tuple(row) == METRICS for row in history)
    assert history[-1]["validation_nll"] < history[0]["validation_nll"]
    weights = TrainingConfig()
    for row in history:
        total = row["nll"] + weights.one_to_two_weight * row["one_to_two"]
        total += weights.two_to_one_weight * row["two_to_one"]
        assert row["loss"] == pytest.approx(total, rel=1e-3, abs=1e-4)
        assert 0 <= row["clipped"] <= 1 < 1 + row["gradient_norm"]


def test_consistency_losses_fall_and_train_the_bridge():
    _, bridge, history = trained()
    for name in ("one_to_two", "two_to_one"):
        assert abs(history[-1][name]) < 0.2 * abs(history[0][name])
    assert not eqx.tree_equal(bridge, laws()[1])


def test_one_step_is_taught_by_two_without_a_bridge():
    config = TrainingConfig(**{**BRIEF, "steps": 200, "distillation_weight": 0.5})
    _, _, history = fit(laws()[0], None, BrownianTransitions(), config, key=KEY)
    for row in history:
        assert row["loss"] == pytest.approx(row["nll"] + 0.5 * row["distillation"], rel=1e-3)
        assert np.isfinite(row["distillation"])
    assert history[-1]["distillation"] != 0.0


def test_the_best_on_validation_is_returned():
    """Trained on one law and validated on another: the first parameters are the best."""
    source, other = BrownianTransitions(), BrownianTransitions(spoiled=-1.0)
    reported: list[Row] = []
    config = TrainingConfig(**{**BRIEF, "steps": 100, "validate_every": 10})
    flow, _, history = fit(
        *laws(),
        source,
        config,
        key=KEY,
        validation=other,
        callbacks=[each_row(reported.append)],
    )
    assert reported == history
    scores = [row["validation_nll"] for row in history]
    best = int(np.argmin(scores))
    assert best < len(scores) - 1
    _, validation_key = jax.random.split(KEY)
    batch = other.sample(validation_key, config.validation_size)
    density = jax.vmap(lambda x, y, s, t: flow(x, s, t).log_prob(y))(*batch[:4])
    assert -float(density.mean()) == pytest.approx(scores[best], abs=1e-4)


def test_without_validation_the_last_is_returned_and_weights_may_be_zero():
    flow, bridge, history = trained(
        validated=False, one_to_two_weight=0.0, two_to_one_weight=0.0, steps=150
    )
    assert [row["step"] for row in history] == [100, 150]
    assert all(row["one_to_two"] == row["two_to_one"] == 0.0 for row in history)
    assert all(row["loss"] == row["nll"] for row in history)
    assert eqx.tree_equal(bridge, laws()[1])
    assert not eqx.tree_equal(flow, laws()[0])


class Spoiled(BrownianTransitions):
    """In a few batches, one later state is NaN."""

    share: float = eqx.field(static=True, default=0.1)

    def spoils(self, key):
        return jax.random.uniform(jax.random.fold_in(key, 1)) > 1.0 - self.share

    def sample(self, key, batch_size):
        batch = super().sample(key, batch_size)
        bad = jnp.where(self.spoils(key), jnp.nan, 0.0)
        return batch._replace(x_final=batch.x_final.at[0, 0].add(bad))


def test_a_loss_that_is_not_finite_stops_and_its_step_is_named():
    config = TrainingConfig(**{**BRIEF, "steps": 150})
    reported: list[Row] = []
    source = Spoiled()
    batch_key, _ = jax.random.split(KEY)
    keys = (jax.random.split(jax.random.fold_in(batch_key, step))[0] for step in range(100))
    first = next(step for step, key in enumerate(keys, 1) if source.spoils(key))
    assert first > 1
    with pytest.raises(TrainingError, match=rf"^step {first}: nll stopped being finite; lower "):
        fit(*laws(), source, config, key=KEY, callbacks=[each_row(reported.append)])
    assert reported == []


class Leaving(BrownianTransitions):
    """A law that moves away from step to step, faster than training can follow."""

    def batches(self, keys, batch_size):
        batch = jax.vmap(lambda key: self.sample(key, batch_size))(keys)
        self.away.append(10.0 * len(self.away))
        return batch._replace(x_final=batch.x_final + self.away[-1] ** 2)

    away: list = eqx.field(static=True, default_factory=lambda: [0.0])


def test_a_divergence_that_stays_finite_stops_too():
    config = TrainingConfig(**{**BRIEF, "steps": 2000, "learning_rate": 1e-6})
    reported: list[Row] = []
    with pytest.raises(TrainingError, match=r"^step \d+: nll diverged: a mean of ") as caught:
        fit(*laws(), Leaving(), config, key=KEY, callbacks=[each_row(reported.append)])
    assert f"step {reported[-1]['step']}: " in str(caught.value)
    assert len(reported) < 20


def interrupted(folder, blocks, **options):
    """Trained with a stop after so many blocks, again and again to the end."""
    config = TrainingConfig(**{**SETTINGS, **options})
    source, runs = BrownianTransitions(), 0
    while True:
        runs += 1
        left = iter([0] * blocks)
        with contextlib.suppress(Stopped):
            return runs, fit(
                *laws(),
                source,
                config,
                key=KEY,
                validation=source,
                callbacks=[
                    Checkpoints(folder, 1e9, print).callback(),
                    Callback(stop=lambda: next(left, 143)),  # noqa: B023
                ],
            )


def test_interruptions_change_no_bit(tmp_path):
    """Neither they nor that it is done again: the same key gives the same bits."""
    runs, found = interrupted(tmp_path, blocks=7)
    assert runs > 1
    whole = trained()
    assert eqx.tree_equal(found[:2], whole[:2])
    assert without_seconds(found[2]) == without_seconds(whole[2])
    seconds = [row["seconds"] for row in found[2]]
    assert seconds == sorted(seconds)
    assert len(list(tmp_path.iterdir())) == 2


def test_a_checkpoint_of_another_format_is_passed_over_in_one_line(tmp_path):
    content = io.BytesIO(b'{"best_nll": 1.0, "history": [], "seconds": 2.0, "owner": {}}\n')
    fields = {"format": "nsf_pipeline checkpoint", "step": 100, "versions": {}}
    path = tmp_path / "run/0000000100.checkpoint"
    path.parent.mkdir()
    path.write_bytes(label.line(label.seal(fields, content)) + content.getvalue())
    said: list[str] = []
    start = first_state(TrainingConfig())
    assert Checkpoints(path.parent, 1e9, said.append).restore(start) is start
    assert said == [
        f"{path}: not a sound checkpoint: expected the format 'nsf_pipeline checkpoint 3', found "
        "'nsf_pipeline checkpoint'; trying the one before"
    ]


def test_unsound_checkpoints_of_later_steps_do_not_push_out_sound_ones(tmp_path):
    start = first_state(TrainingConfig())
    for step in (30, 40):
        (tmp_path / f"{step:010d}.checkpoint").write_bytes(b"damaged")
    checkpoints = Checkpoints(tmp_path, 1e9, print)
    assert checkpoints.restore(start) is start
    for step in (10, 20):
        checkpoints.save(start._replace(current=start.current._replace(step=jnp.asarray(step))))
        assert checkpoints.newest is not None
        assert checkpoints.newest.is_file()
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        f"{step:010d}.checkpoint" for step in (10, 20)
    ]


def test_checkpoints_of_a_process_that_is_ahead_stay(tmp_path):
    """Two processes train the same model; the one behind removes what is older than its own."""
    start = first_state(TrainingConfig())
    ahead, behind = (Checkpoints(tmp_path, 1e9, print) for _ in range(2))
    for process, steps in ((ahead, (70, 80)), (behind, (10, 20, 30)), (ahead, (90,))):
        for step in steps:
            process.save(start._replace(current=start.current._replace(step=jnp.asarray(step))))
        if process is behind:
            found = [int(path.stem) for path in sorted(tmp_path.iterdir())]
            assert found == [20, 30, 70, 80]
    assert [int(path.stem) for path in sorted(tmp_path.iterdir())] == [80, 90]


def test_a_missing_bridge_is_named():
    with pytest.raises(
        UserError, match=r"expected a bridge for training\.one_to_two_weight = 0\.03"
    ):
        fit(laws()[0], None, BrownianTransitions(), TrainingConfig(), key=KEY)


def test_a_checkpoint_holds_the_state(tmp_path):
    start = first_state(TrainingConfig())
    row: Row = {"step": 3, "seconds": 0.5, "nll": math.inf}
    saved = start._replace(
        current=start.current._replace(step=jnp.asarray(3)), log=TrainingLog((row,), 0.54, 2.25)
    )
    Checkpoints(tmp_path, 1e9, print).save(saved)
    found = Checkpoints(tmp_path, 1e9, print).restore(start)
    assert eqx.tree_equal(found[:2], saved[:2])
    assert found.log == saved.log


def first_state(config):
    parameters, fixed = eqx.partition(laws(), eqx.is_inexact_array)
    step = Step(fixed, config, Devices.all(config.batch_size), jax.random.split(KEY)[0])
    return TrainingState(step.init(parameters), parameters, TrainingLog())


def test_fit_takes_steps_that_are_pure_functions_of_state_and_batch():
    config = TrainingConfig(**{**BRIEF, "steps": 5, "warmup_steps": 1})
    parameters, fixed = eqx.partition(laws(), eqx.is_inexact_array)
    key, _ = jax.random.split(KEY)
    step = Step(fixed, config, Devices.all(config.batch_size), key)
    take, source, state = jax.jit(step), BrownianTransitions(), step.init(parameters)
    for index in range(config.steps):
        batch_key, _ = jax.random.split(jax.random.fold_in(key, index))
        batch = source.sample(batch_key, config.batch_size)
        before, state = state, take(state, batch)
        assert eqx.tree_equal(take(before, batch), state)
    flow, bridge, (row,) = fit(*laws(), source, config, key=KEY)
    found = eqx.filter((flow, bridge), eqx.is_inexact_array)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(state.parameters), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose([row[name] for name in SUMMED], state.sums / 5, rtol=1e-3)


def test_callbacks_are_called_at_the_start_rows_blocks_and_the_end():
    told: list[tuple[str, int]] = []

    def tell(name):
        def hook(state):
            told.append((name, state.step))
            return state

        return hook

    names = ("on_start", "on_row", "on_block", "on_end")
    callback = Callback(**{name: tell(name) for name in names})
    config = TrainingConfig(**{**BRIEF, "steps": 25, "validate_every": 10})
    fit(*laws(), BrownianTransitions(), config, key=KEY, callbacks=[callback])
    assert (told[0], told[-1]) == (("on_start", 0), ("on_end", 25))
    blocks = [step for name, step in told if name == "on_block"]
    assert blocks == sorted(set(blocks))
    rows = [place for place, (name, _) in enumerate(told) if name == "on_row"]
    assert [told[place][1] for place in rows] == [10, 20, 25]
    assert all(told[place + 1] == ("on_block", told[place][1]) for place in rows)


@pytest.mark.parametrize("warmup", [0, 50])
def test_rate_warms_up_and_decays(warmup):
    config = TrainingConfig(
        steps=500, warmup_steps=warmup, learning_rate=0.01, final_learning_rate=0.1
    )
    optimiser = make_optimiser(config)

    @jax.jit
    def step(state, _):
        # Adam's update for a constant gradient is the rate itself.
        updates, state = optimiser.update(jnp.ones(1), state)
        return state, -updates[0]

    _, rates = jax.lax.scan(step, optimiser.init(jnp.zeros(1)), jnp.arange(500))
    assert rates.argmax() == warmup
    assert float(rates.max()) == pytest.approx(0.01, rel=1e-2)
    if warmup:
        assert rates[0] == 0.0
        np.testing.assert_allclose(
            rates[: warmup + 1], np.linspace(0.0, 0.01, warmup + 1), rtol=0.02
        )
    assert (np.diff(rates[warmup:]) <= 1e-6).all()
    assert float(rates[-1]) == pytest.approx(0.001, rel=0.02)


@pytest.mark.parametrize(("norm", "expected"), [(0.0, 0.0), (0.4, 0.4), (5e4, 0.5), (np.inf, 0.0)])
def test_gradients_are_shortened_to_the_limit(norm, expected):
    gradients = {"a": jnp.array([0.6 * norm]), "b": jnp.array([[0.8 * norm]])}
    clipped = clipping.shortened(gradients, jnp.asarray(norm), 0.5)
    assert float(clipped["a"][0]) == pytest.approx(0.6 * expected)
    assert float(clipped["b"][0, 0]) == pytest.approx(0.8 * expected)


def test_the_running_norm_follows_the_gradients_and_not_their_outliers():
    def after(norms, running):
        for norm in norms:
            usual = clipping.reference(running, jnp.asarray(norm))
            running = clipping.updated(usual, jnp.asarray(norm), 3.0)
        return float(running)

    none = jnp.zeros(())
    assert after([7.0], none) == pytest.approx(7.0)
    assert after([7.0] + [2.0] * 1000, none) == pytest.approx(2.0, rel=1e-3)
    # An outlier counts as the three times that it is shortened to, and what is not finite as none.
    assert after([1e30], jnp.asarray(2.0)) == pytest.approx(2.04)
    assert after([np.inf, np.nan], jnp.asarray(2.0)) == 2.0
    assert after([np.inf, 4.0], none) == pytest.approx(4.0)


def test_steps_are_clipped_by_exception():
    _, _, history = trained()
    assert max(row["clipped"] for row in history) < 0.2
