"""Transitions: pairs of states of one trajectory, in physical units, drawn on the device."""

import json
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from nsf_pipeline.data import store
from nsf_pipeline.data.merge import SPLITS
from nsf_pipeline.timing import CONTROL_DT

BLUR_LEVER = 60.0
"""px; a typical distance of the T's outline from its centre."""


class TransitionBatch(NamedTuple):
    """Transitions along the first axis.

    Attributes:
        x_init: (batch, state_dim) state at t_init.
        x_final: (batch, state_dim) state at t_final.
        t_init: (batch) s.
        t_final: (batch) s.
        condition: (batch, condition_dim), or None where there is none.
    """

    x_init: Float[Array, "batch dim"]
    x_final: Float[Array, "batch dim"]
    t_init: Float[Array, " batch"]
    t_final: Float[Array, " batch"]
    condition: Float[Array, "batch condition"] | None


class Trajectories(NamedTuple):
    """One split of the data set in physical units, on the host.

    Attributes:
        states: (n, T+1, state_dim) px, px/s, rad (continuous).
        length: (n) steps.
        condition: (n, C).
    """

    states: Float[np.ndarray, "n time dim"]
    length: Int[np.ndarray, " n"]
    condition: Float[np.ndarray, "n condition"]


class Transitions(eqx.Module):
    """Draws pairs (s, t) of the same trajectory.

    A start is uniform over all states that have a successor; its gap is log-uniform up to the
    longest that fits, so that every order of magnitude is seen equally often.
    """

    states: Float[Array, "n time dim"]
    condition: Float[Array, "n condition"]
    trajectory: Int[Array, " starts"]
    step: Int[Array, " starts"]
    longest_gap: Int[Array, " starts"]
    blur: Float[Array, " dim"]
    dt: float = eqx.field(static=True)

    @classmethod
    def build(
        cls,
        trajectories: Trajectories,
        max_gap: float,
        dt: float = CONTROL_DT,
        block_blur: float = 0.0,
    ) -> "Transitions":
        """Index all starts of some trajectories.

        Args:
            trajectories: to draw from.
            max_gap: s, the longest gap.
            dt: s per control step.
            block_blur: px per root second; see `blur_of`.
        """
        rows, steps = np.nonzero(
            np.arange(trajectories.states.shape[1] - 1) < trajectories.length[:, None]
        )
        remaining = trajectories.length[rows] - steps
        return cls(
            states=jnp.asarray(trajectories.states, jnp.float32),
            condition=jnp.asarray(trajectories.condition, jnp.float32),
            trajectory=jnp.asarray(rows, jnp.int32),
            step=jnp.asarray(steps, jnp.int32),
            longest_gap=jnp.asarray(np.minimum(remaining, int(max_gap / dt + 1e-9)), jnp.int32),
            blur=blur_of(block_blur, trajectories.states.shape[-1]),
            dt=dt,
        )

    def __len__(self) -> int:
        return len(self.trajectory)

    def sample(self, key: PRNGKeyArray, batch_size: int) -> TransitionBatch:
        """Draw transitions, with replacement; jit-able for a static batch size."""
        start_key, gap_key, blur_key = jax.random.split(key, 3)
        start = jax.random.randint(start_key, (batch_size,), 0, len(self))
        row, step, longest = self.trajectory[start], self.step[start], self.longest_gap[start]
        # floor((longest + 1)^u) is log-uniform on 1 .. longest, up to rounding.
        u = jax.random.uniform(gap_key, (batch_size,))
        gap = jnp.floor((longest + 1.0) ** u).astype(jnp.int32)
        gap = jnp.clip(gap, 1, longest)
        later = step + gap
        std = jnp.sqrt(self.dt * gap)[:, None] * self.blur
        noise = jax.random.normal(blur_key, (batch_size, len(self.blur)))
        return TransitionBatch(
            x_init=self.states[row, step],
            x_final=self.states[row, later] + std * noise,
            t_init=self.dt * step.astype(jnp.float32),
            t_final=self.dt * later.astype(jnp.float32),
            condition=self.condition[row],
        )


def blur_of(block_blur: float, state_dim: int) -> Float[Array, " dim"]:
    """Standard deviations per root second of a Brownian motion added to the block alone.

    An untouched block does not move at all, so the true law has no density there, and likelihood
    would reward ever sharper spikes over honest tails. Blurred, the law has a density and is still
    one of a Markov process. The angle's share moves the T's outline about as far.
    """
    blur = np.zeros(state_dim, np.float32)
    blur[-3:] = block_blur, block_blur, block_blur / BLUR_LEVER
    return jnp.asarray(blur)


def load_trajectories(path: Path | str, split: int, state_dim: int) -> Trajectories:
    """One split of `dataset.h5`, back in physical units.

    Args:
        path: the data set.
        split: 0 train, 1 validation, 2 test.
        state_dim: 7, or 5 to leave out the agent's velocity.

    Raises:
        StoreError: unreadable, or the split is empty.
        ValueError: the state has neither 5 nor 7 numbers.
    """
    if state_dim not in (5, 7):
        raise ValueError(f"expected state_dim 5 or 7, got {state_dim}")
    with store.reading(path, "dataset") as file:
        rows = np.flatnonzero(file["split"][...] == split)
        if not len(rows):
            raise store.StoreError(
                f"{path}: no trajectory in the {SPLITS[split]} split; "
                "raise num_trajectories or the split's fraction"
            )

        metadata = json.loads(file.attrs["metadata"])

        def physical(name: str) -> np.ndarray:
            low, high = (np.asarray(metadata[bound][name]) for bound in ("min", "max"))
            return store.unscale(file[name][...][rows], low, high).astype(np.float32)

        observations = physical("observations")
        parts = [observations[..., :2]]
        if state_dim == 7:
            parts.append(physical("agent_velocity"))
        parts += [observations[..., 2:4], physical("block_angle")[..., None]]
        return Trajectories(
            states=np.concatenate(parts, axis=-1),
            length=file["length"][...][rows],
            condition=physical("condition"),
        )
