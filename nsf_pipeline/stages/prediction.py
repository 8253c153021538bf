"""Videos of predictions: a test trajectory beside the model's prediction of it."""

import time
import warnings
from pathlib import Path

import jax
import numpy as np

from nsf_pipeline import label
from nsf_pipeline.config import Config
from nsf_pipeline.data import store
from nsf_pipeline.evaluation.prediction import held_out_trajectory, predict, side_by_side
from nsf_pipeline.files import FileError
from nsf_pipeline.model import load_model
from nsf_pipeline.model.file import model_header, require_trained_on
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.provenance import Record, require_current
from nsf_pipeline.pusht.video import write_mp4
from nsf_pipeline.stages import STAGES, say
from nsf_pipeline.timing import CONTROL_DT

STAGE = STAGES["prediction"]


@with_defaults
def run(config: Config | None, model_path: Path, dataset: Path, place: int, output: Path) -> int:
    """Write a trajectory of the test split and the model's prediction of it, side by side, as MP4.

    The draws depend on the model's seed and the trajectory alone.

    Args:
        config: settings that must have made the model; None accepts any model.
        model_path: the model.
        dataset: the data set that it was trained on.
        place: in the test split, from 0.
        output: the video.

    Returns:
        The trajectory's index in the whole data set.

    Raises:
        UserError: a file cannot be read, the model is stale or was trained on other data, the test
            split has no such place, the draws are not finite, or the video cannot be written.
    """
    started = time.monotonic()
    model, header = load_model(model_path), model_header(model_path)
    made = Record.read(header)
    with store.reading(dataset, "dataset") as file:
        require_trained_on(dataset, file.attrs.get("fingerprint"), model_path, header)
        require_current(model_path, made, config)
        trajectory = held_out_trajectory(dataset, file, place)
    index = int(trajectory["trajectory"][0])
    key = jax.random.fold_in(jax.random.key(made.settings.get("seed", 0)), index)
    path, draws = predict(model, trajectory, key=key)
    if not (np.isfinite(path).all() and np.isfinite(draws).all()):
        raise FileError(f"{model_path}: draws are not finite; train again")
    comment = label.embed(Record.new(STAGE, None, made).fields())
    with warnings.catch_warnings():
        # Python warns of forks once JAX runs; the new process only runs ffmpeg.
        warnings.filterwarnings("ignore", "os.fork", RuntimeWarning)
        frames = side_by_side(trajectory, path, draws)
        write_mp4(output, frames, fps=round(1 / CONTROL_DT), comment=comment)
    say(output, f"prediction of trajectory {index}", started)
    return index
