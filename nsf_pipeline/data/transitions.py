"""Transitions: pairs of states of one trajectory, in physical units, drawn on the device."""

from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, PRNGKeyArray

from nsf_pipeline import checks
from nsf_pipeline.data import store
from nsf_pipeline.data.merge import SPLITS
from nsf_pipeline.data.scenes import require_known_to_models
from nsf_pipeline.data.states import join_state, state_parts
from nsf_pipeline.errors import UserError
from nsf_pipeline.flow.guard import require_key
from nsf_pipeline.pusht.state import layout_of
from nsf_pipeline.timing import CONTROL_DT

BLUR_LEVER = 60.0
"""px; a typical distance of the T's outline from its centre."""
LONGEST_GAP = 1e4
"""s; the longest gap that may be asked for."""


class TransitionBatch(NamedTuple):
    """Transitions along the first axis.

    Attributes:
        x_init: (batch, state_dim) state at t_init.
        x_final: (batch, state_dim) state at t_final.
        t_init: (batch) s.
        t_final: (batch) s.
        condition: (batch, condition_dim), or None if there is none.
    """

    x_init: Float[Array, "batch dim"]
    x_final: Float[Array, "batch dim"]
    t_init: Float[Array, " batch"]
    t_final: Float[Array, " batch"]
    condition: Float[Array, "batch condition"] | None


class Trajectories(NamedTuple):
    """One split of the data set in physical units, on the host.

    Attributes:
        states: (n, T+1, state_dim) px, px/s, rad (continuous), rad/s.
        length: (n) steps.
        condition: (n, C).
    """

    states: Float[np.ndarray, "n time dim"]
    length: Int[np.ndarray, " n"]
    condition: Float[np.ndarray, "n condition"]


class Picks(NamedTuple):
    """The transitions that make up a batch.

    Attributes:
        row: (..., batch) index of the trajectory in its split.
        step: (..., batch) control step of the start.
        later: (..., batch) control step of the end.
        noise: (..., batch, state_dim) standard normal, for the blur of the later state.
    """

    row: Int[Array, "*batch"]
    step: Int[Array, "*batch"]
    later: Int[Array, "*batch"]
    noise: Float[Array, "*batch dim"]


class Picker(eqx.Module):
    """Picks pairs (s, t) of the same trajectory; it needs only the trajectories' lengths.

    The start is uniform over all states that have a successor; the gap is uniform from one step to
    the longest that fits.

    Attributes:
        stop: (n) number of starts in this trajectory and all before it.
        length: (n) steps.
        blur: (state_dim) see `blur_of`.
        longest_gap: steps.
        dt: s per control step.
        keeps_rest: whether a block that rested from start to end is left as it is, not blurred.
    """

    stop: Int[Array, " n"]
    length: Int[Array, " n"]
    blur: Float[Array, " dim"]
    longest_gap: int = eqx.field(static=True)
    dt: float = eqx.field(static=True)
    keeps_rest: bool = eqx.field(static=True)

    @classmethod
    def build(
        cls,
        length: np.ndarray,
        state_dim: int,
        max_gap: float,
        dt: float,
        block_blur: float,
        keeps_rest: bool,
    ) -> "Picker":
        """A picker for trajectories of these lengths; other arguments as in `Transitions.build`."""
        length = require_lengths(length)
        checks.number("dt", dt, above=0.0)
        checks.number("max_gap", max_gap, least=dt * (1.0 - 1e-9), most=LONGEST_GAP)
        checks.number("block_blur", block_blur, least=0.0)
        stop = np.cumsum(length, dtype=np.int64)
        if stop[-1] > np.iinfo(np.int32).max:
            raise UserError(
                f"expected at most 2147483647 states to start from in a split, got {stop[-1]}; "
                "lower num_trajectories"
            )
        return cls(
            stop=jnp.asarray(stop, jnp.int32),
            length=jnp.asarray(length, jnp.int32),
            blur=blur_of(block_blur, state_dim),
            longest_gap=int(max_gap / dt + 1e-9),
            dt=dt,
            keeps_rest=keeps_rest,
        )

    def __len__(self) -> int:
        return int(self.stop[-1])

    def pick(self, key: PRNGKeyArray, batch_size: int) -> Picks:
        """Pick transitions, with replacement; jit-able for a static batch size.

        Raises:
            ValueError: the key is no single key, or the batch size no whole number from 1 on.
        """
        require_key(key)
        batch_size = checks.whole("batch_size", batch_size, 1)
        start_key, gap_key, blur_key = jax.random.split(key, 3)
        start = jax.random.randint(start_key, (batch_size,), 0, self.stop[-1])
        row = jnp.searchsorted(self.stop, start, side="right").astype(jnp.int32)
        step = start - (self.stop[row] - self.length[row])
        longest = jnp.minimum(self.stop[row] - start, self.longest_gap)
        gap = jax.random.randint(gap_key, (batch_size,), 1, longest + 1)
        noise = jax.random.normal(blur_key, (batch_size, len(self.blur)))
        return Picks(row, step, step + gap, noise)

    def batch(
        self, picks: Picks, x_init: Array, x_final: Array, condition: Array
    ) -> TransitionBatch:
        """The batch of the picked transitions, given their states and conditions."""
        std = jnp.sqrt(self.dt * (picks.later - picks.step))[..., None] * self.blur
        if self.keeps_rest:
            first = layout_of(len(self.blur)).block.start
            moved = (x_init[..., first:] != x_final[..., first:]).any(axis=-1, keepdims=True)
            std = jnp.where(moved, std, 0.0)
        return TransitionBatch(
            x_init=x_init,
            x_final=x_final + std * picks.noise,
            t_init=self.dt * picks.step.astype(jnp.float32),
            t_final=self.dt * picks.later.astype(jnp.float32),
            condition=condition,
        )


class Transitions(eqx.Module):
    """Draws transitions from trajectories that are held on the device; see `Picker`."""

    picker: Picker
    states: Float[Array, "n time dim"]
    conditions: Float[Array, "n condition"]

    @classmethod
    def build(
        cls,
        trajectories: Trajectories,
        max_gap: float,
        dt: float = CONTROL_DT,
        block_blur: float = 0.0,
        keeps_rest: bool = False,
    ) -> "Transitions":
        """Put some trajectories on the device.

        Args:
            trajectories: to draw from.
            max_gap: s, the longest gap.
            dt: s per control step.
            block_blur: px per root second; see `blur_of`.
            keeps_rest: whether a block that rested from start to end is not blurred.

        Raises:
            ValueError: there is no trajectory, arrays do not belong together, a number is not
                finite, or a time or the blur is out of range.
            UserError: more states to start from than 32 bits can count.
        """
        states, length, condition = trajectories
        checks.require_shape("states", np.shape(states), (None, None, None))
        count, times, state_dim = np.shape(states)
        layout_of(state_dim)
        checks.numbers("condition", condition, (count, None), dtype=np.float32)
        checks.numbers("length", length, (count,), most=float(times - 1))
        reached = np.arange(times) <= np.asarray(length)[:, None]
        known = np.where(reached[..., None], checks.real("states", states), 0)
        checks.numbers("states", known, dtype=np.float32)
        return cls(
            picker=Picker.build(
                trajectories.length, state_dim, max_gap, dt, block_blur, keeps_rest
            ),
            states=jnp.asarray(trajectories.states, jnp.float32),
            conditions=jnp.asarray(trajectories.condition, jnp.float32),
        )

    def __len__(self) -> int:
        return len(self.picker)

    def sample(self, key: PRNGKeyArray, batch_size: int) -> TransitionBatch:
        """Draw transitions, with replacement; jit-able for a static batch size."""
        picks = self.picker.pick(key, batch_size)
        return self.picker.batch(picks, *_gather(self, picks))

    def batches(self, keys: Key[Array, " n"], batch_size: int) -> TransitionBatch:
        """A batch for each key, along a new first axis."""
        picks = pick_batches(self.picker, keys, batch_size)
        # Compiled apart from the rest, so that data streamed from a file give the same bits.
        return finish_batches(self.picker, picks, *_gather_jit(self, picks))


@partial(jax.jit, static_argnames="batch_size")
def pick_batches(picker: Picker, keys: Key[Array, " n"], batch_size: int) -> Picks:
    """The result of `Picker.pick` for each key, along a new first axis."""
    return jax.vmap(lambda key: picker.pick(key, batch_size))(keys)


finish_batches = jax.jit(Picker.batch)


def _gather(source: Transitions, picks: Picks) -> tuple[Array, Array, Array]:
    states = source.states
    x_init, x_final = states[picks.row, picks.step], states[picks.row, picks.later]
    return x_init, x_final, source.conditions[picks.row]


_gather_jit = jax.jit(_gather)


def require_lengths(length: Any) -> Int[np.ndarray, " n"]:
    """The lengths of trajectories in steps: at least one trajectory, each of at least one step.

    Raises:
        ValueError: they are none.
    """
    found = checks.numbers("length", length, (None,), least=1.0, most=float(checks.INT32_MAX))
    if not len(found):
        raise UserError("expected at least one trajectory, got none")
    if (found % 1.0).any():
        raise UserError("expected length to be whole numbers of steps, got fractions")
    return found.astype(np.int64)


def blur_of(block_blur: float, state_dim: int) -> Float[Array, " dim"]:
    """Standard deviations per root second of a Brownian motion added to the block alone.

    Neither a block at rest nor a pushed one always has a law with a density: pushed twice alike, it
    lies where it lay. Likelihood would reward ever sharper spikes over honest tails; with the blur
    there is a density. The angle's blur moves the T's outline about as far as the position's.
    """
    layout, blur = layout_of(state_dim), np.zeros(state_dim, np.float32)
    blur[layout.block_position], blur[layout.angle] = block_blur, block_blur / BLUR_LEVER
    return jnp.asarray(blur)


def load_trajectories(path: Path | str, split: int, state_dim: int) -> Trajectories:
    """One split of `dataset.h5`, in physical units.

    Args:
        path: the data set.
        split: 0 train, 1 validation, 2 test.
        state_dim: 7; 5 to leave out the agent's velocity; or 10 to have the block's velocity, too.

    Raises:
        StoreError: the file cannot be read, or the split is empty.
        ValueError: there is no such split, or the state has neither 5, 7 nor 10 numbers.
    """
    with store.reading(path, "dataset") as file:
        return trajectories_of(file, rows_of(path, file, split), state_dim)


def rows_of(path: Path | str, file: Any, split: int) -> Int[np.ndarray, " n"]:
    """Row indices of a split's trajectories in an open data set.

    Raises:
        StoreError: the split is empty.
        UserError: there is no such split, or models do not know the trajectories' scenes.
    """
    checks.whole("split", split, most=len(SPLITS) - 1)
    require_known_to_models(file, str(path))
    rows = np.flatnonzero(file["split"][...] == split)
    if not len(rows):
        raise store.StoreError(
            f"{path}: no trajectory in the {SPLITS[split]} split; "
            "raise num_trajectories or the split's fraction"
        )
    return rows


def trajectories_of(file: Any, rows: np.ndarray, state_dim: int) -> Trajectories:
    """Trajectories of an open data set, in physical units, read block by block.

    Args:
        file: the open data set, from `store.reading`.
        rows: indices of the trajectories' rows, ascending.
        state_dim: 5, 7 or 10.

    Raises:
        ValueError: the state has neither 5, 7 nor 10 numbers.
    """
    layout = layout_of(state_dim)
    times, size = file["observations"].shape[1], file["condition"].shape[1]
    states = np.empty((len(rows), times, state_dim), np.float32)
    condition = np.empty((len(rows), size), np.float32)
    bounds = {name: store.bounds_of(file, name) for name in (*state_parts(layout), "condition")}
    for block in store.blocks(len(file["split"])):
        first, stop = np.searchsorted(rows, [block.start, block.stop])
        if first < stop:
            chosen = rows[first:stop] - block.start
            values = {
                name: store.unscale(file[name][block][chosen], *bounds[name]) for name in bounds
            }
            condition[first:stop] = values.pop("condition")
            states[first:stop] = join_state(values, layout)
    return Trajectories(states, file["length"][...][rows], condition)
