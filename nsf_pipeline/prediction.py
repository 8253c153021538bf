"""Videos of predictions: the simulator on the left, the model's sample on the right.

Both start in the same state and follow the same policy; the model sees nothing after the start.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from nsf_pipeline import label
from nsf_pipeline.data import store
from nsf_pipeline.data.merge import TEST
from nsf_pipeline.data.recording import NEEDED, replayed
from nsf_pipeline.data.transitions import rows_of
from nsf_pipeline.dmp import DMPParams
from nsf_pipeline.files import FileError, replacing
from nsf_pipeline.model import PushTModel, load_model
from nsf_pipeline.model.file import model_header
from nsf_pipeline.provenance import record_after
from nsf_pipeline.pusht.simulator import STATE_NAMES, Simulator
from nsf_pipeline.pusht.video import annotated, with_outlines, write_mp4
from nsf_pipeline.timing import CONTROL_DT

NUM_DRAWS = 12
"""One-pass draws behind the sampled path."""
NOWHERE = np.array([-1e3, -1e3, 0.0, 0.0, -1e3, -1e3, 0.0])
"""A state with agent and block outside the picture."""


def record_prediction(model_path: Path, dataset: Path, place: int, output: Path) -> int:
    """Write a trajectory of the test split and the model's prediction of it, side by side, as MP4.

    The draws follow from the model's seed and the trajectory.

    Args:
        model_path: the model.
        dataset: the data set that it was trained on.
        place: in the test split, from 0.
        output: the video.

    Returns:
        The trajectory's index in the whole data set.

    Raises:
        UserError: a file cannot be read or is not the other's, the test split has no such place,
            the model's draws are not finite, or the video cannot be written.
    """
    model, header = load_model(model_path), model_header(model_path)
    with store.reading(dataset, "dataset") as file:
        if file.attrs.get("fingerprint") != header.get("dataset_fingerprint"):
            raise FileError(
                f"{dataset}: not the data set that {model_path} was trained on: its test split may "
                "hold trajectories that the model has seen; train again or give the other data set"
            )
        rows = rows_of(dataset, file, TEST)
        if place >= len(rows):
            raise store.StoreError(
                f"{dataset}: expected a test trajectory {place}, but its test split holds "
                f"{len(rows)}, counted from 0; lower videos.predicted or raise num_trajectories"
            )
        row = slice(rows[place], rows[place] + 1)
        trajectory = {name: store.physical(file, name, row) for name in NEEDED}
    index = int(trajectory["trajectory"][0])
    seed = header.get("settings", {}).get("seed", 0)
    path, draws = predict(model, trajectory, key=jax.random.fold_in(jax.random.key(seed), index))
    if not (np.isfinite(path).all() and np.isfinite(draws).all()):
        raise FileError(f"{model_path}: draws are not finite; train again")
    made = record_after("predictions", header.get("fingerprint", ""))
    with replacing(output) as beside, warnings.catch_warnings():
        # ffmpeg's process runs nothing of JAX.
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        left = replayed(trajectory, f"simulator: trajectory {index}")
        frames = map(np.hstack, zip(left, predicted(trajectory, path, draws), strict=True))
        write_mp4(beside, frames, fps=round(1 / CONTROL_DT), comment=label.embed(made))
    return index


def predict(
    model: PushTModel, trajectory: dict[str, np.ndarray], *, key: PRNGKeyArray
) -> tuple[np.ndarray, np.ndarray]:
    """What the model makes of a trajectory's first state, policy and length, and nothing else.

    Args:
        model: any.
        trajectory: as for `replayed`.
        key: for the draws.

    Returns:
        (length + 1, dim) a path from the first state, each state drawn from the one before it;
        (length + 1, NUM_DRAWS, dim) draws in one pass from the first state. px, px/s, rad.
    """
    columns = [STATE_NAMES.index(name) for name in model.state_names]
    start = jnp.asarray(trajectory["initial_state"][0, columns], jnp.float32)
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

    def step(state: Array, now: tuple[Array, Array, Array]) -> tuple[Array, Array]:
        step_key, s, t = now
        state = model.sample(step_key, state, s, t, condition, 1)[0]
        return state, state

    # One key for all times, so that the outlines do not flicker: each moves with its own noise.
    draws = jax.vmap(lambda t: model.sample(draw_key, start, 0.0, t, condition, NUM_DRAWS))(times)
    _, path = jax.lax.scan(step, start, (jax.random.split(path_key, steps), times[:-1], times[1:]))
    return jnp.concatenate([start[None], path]), draws


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
    simulator = Simulator()
    simulator.enter(NOWHERE)
    backdrop = simulator.render()
    for step, (state, others) in enumerate(zip(path, draws, strict=True)):
        shown = np.zeros(len(STATE_NAMES))
        shown[:2], shown[-3:] = state[:2], state[-3:]
        simulator.enter(shown)
        frame = with_outlines(simulator.render(), backdrop, others)
        caption = (
            f"model: a sampled path   {CONTROL_DT * step:.1f} s   "
            f"faint: {len(others)} draws in one pass each"
        )
        yield annotated(frame, desired, params.goal, path[: step + 1, :2], caption)
