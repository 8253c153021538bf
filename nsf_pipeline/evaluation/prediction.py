"""Videos of predictions: the simulator on the left, the model's sample on the right.

Both start in the same state and follow the same policy; the model sees nothing after the start.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nsf_pipeline.data import store
from nsf_pipeline.data.merge import TEST
from nsf_pipeline.data.recording import in_file, replayed
from nsf_pipeline.data.scenes import in_row
from nsf_pipeline.data.transitions import rows_of
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.model import PushTModel
from nsf_pipeline.model.states import in_layout
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.pusht.simulator import Simulator
from nsf_pipeline.pusht.state import STATE, layout_of
from nsf_pipeline.pusht.video import annotated, with_outlines
from nsf_pipeline.timing import CONTROL_DT

NUM_DRAWS = 12
"""One-pass draws behind the sampled path."""
NOWHERE = STATE.join([-1e3, -1e3], [0.0, 0.0], [-1e3, -1e3, 0.0])
"""A state with agent and block outside the picture."""


def held_out_trajectory(dataset: Path, file: Any, place: int) -> dict[str, np.ndarray]:
    """A trajectory of the test split, with the arrays that `replayed` takes.

    Args:
        dataset: names the file.
        file: the data set, open, as `store.reading` gives it.
        place: in the test split, from 0.

    Raises:
        StoreError: the test split has no such place.
    """
    rows = rows_of(dataset, file, TEST)
    if place >= len(rows):
        raise store.StoreError(
            f"{dataset}: expected a test trajectory {place}, but its test split holds "
            f"{len(rows)}, counted from 0; lower videos.predicted or raise num_trajectories"
        )
    return in_file(file, int(rows[place]))


def side_by_side(
    trajectory: dict[str, np.ndarray], path: np.ndarray, draws: np.ndarray
) -> Iterator[np.ndarray]:
    """Frames of the trajectory's replay beside its prediction; the arguments are `predicted`'s."""
    left = replayed(trajectory, f"simulator: trajectory {trajectory['trajectory'][0]}")
    return map(np.hstack, zip(left, predicted(trajectory, path, draws), strict=True))


@with_defaults
def predict(
    model: PushTModel, trajectory: dict[str, np.ndarray], *, key: PRNGKeyArray
) -> tuple[np.ndarray, np.ndarray]:
    """Predict a trajectory from its first state, policy and length alone.

    Args:
        model: any model.
        trajectory: as for `replayed`.
        key: for the draws.

    Returns:
        (length + 1, dim) a path from the first state, each state drawn from the one before it;
        (length + 1, NUM_DRAWS, dim) draws in one pass from the first state. px, px/s, rad.
    """
    first = in_layout(trajectory["initial_state"][0], layout_of(len(model.state_names)))
    start = jnp.asarray(first, jnp.float32)
    condition = jnp.asarray(trajectory["condition"][0], jnp.float32)
    path, draws = _predict(model, start, condition, int(trajectory["length"][0]), key)
    return np.asarray(path, np.float64), np.asarray(draws, np.float64)


@eqx.filter_jit
def _predict(
    model: PushTModel,
    start: Float[Array, " dim"],
    condition: Float[Array, " condition"],
    steps: int,
    key: PRNGKeyArray,
) -> tuple[Float[Array, "time dim"], Float[Array, "time draws dim"]]:
    path_key, draw_key = jax.random.split(key)
    times = CONTROL_DT * jnp.arange(steps + 1, dtype=jnp.float32)
    # One key for all times: each outline keeps its noise over time and does not flicker.
    draws = jax.vmap(lambda t: model.sample(draw_key, start, 0.0, t, condition, NUM_DRAWS))(times)
    return model.rollout(path_key, start, times, condition), draws


def predicted(
    trajectory: dict[str, np.ndarray], path: np.ndarray, draws: np.ndarray
) -> Iterator[np.ndarray]:
    """Frames of a sampled path, with other draws faintly behind it.

    Args:
        trajectory: as for `replayed`.
        path: (length + 1, dim) px, rad.
        draws: (length + 1, n, dim) px, rad.

    Yields:
        length + 1 frames (512, 512, 3) uint8.
    """
    params = DMPParams.from_vector(trajectory["condition"][0])
    desired = np.concatenate([params.start[None], trajectory["targets"][0, : len(path) - 1]])
    simulator, layout = Simulator(in_row(trajectory, 0)), layout_of(path.shape[-1])
    simulator.enter(NOWHERE)
    backdrop = simulator.render()
    for step, (state, others) in enumerate(zip(path, draws, strict=True)):
        simulator.enter(STATE.join(state[layout.agent], np.zeros(2), state[layout.block]))
        frame = with_outlines(simulator.render(), backdrop, others)
        caption = (
            f"model: a sampled path   {CONTROL_DT * step:.1f} s   "
            f"faint: {len(others)} draws in one pass each"
        )
        yield annotated(frame, desired, params.goal, path[: step + 1, layout.agent], caption)
