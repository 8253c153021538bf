"""The scaling curves: models that differ in one setting, scored in one pass."""

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax

from nsf_pipeline import paths
from nsf_pipeline.config import AXES, Config
from nsf_pipeline.data import store
from nsf_pipeline.data.merge import TRAIN
from nsf_pipeline.data.transitions import rows_of
from nsf_pipeline.errors import UserError
from nsf_pipeline.evaluation import scaling
from nsf_pipeline.evaluation.comparison import in_one_pass_only
from nsf_pipeline.evaluation.states import load_ensembles, typical_changes
from nsf_pipeline.evaluation.tables import FLOW, as_csv, intervals
from nsf_pipeline.files import FileError, again, read_table, require_folder
from nsf_pipeline.model import PushTModel
from nsf_pipeline.model.file import model_header
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.paths import SCALED
from nsf_pipeline.provenance import Record
from nsf_pipeline.stages import STAGES
from nsf_pipeline.stages.models import Model
from nsf_pipeline.stages.reports import load_models, write_reports
from nsf_pipeline.system.printing import say

STAGE = STAGES["scaling"]


@with_defaults
def run(
    config: Config,
    model_path: Path,
    points: Mapping[str, Path],
    dataset: Path,
    ensembles: Path,
    folder: Path,
) -> None:
    """Score the run's own model and those of the scaling points; write a table and a figure.

    The history of each model's training lies beside it, as the workflow puts it.

    Args:
        config: the settings.
        model_path: the run's own model.
        points: the models of the settings' points, by name.
        dataset: `dataset.h5`.
        ensembles: folder of the ensembles' shards.
        folder: where the reports go.

    Raises:
        FileError: a model, its history, the data set or an ensemble cannot be read, does not belong
            to the others or is stale, or a report cannot be written.
        UserError: the points are not those of the settings.
    """
    started = time.monotonic()
    if points.keys() != config.points.keys():
        raise UserError(
            f"--variant: expected the points of the section scaling, {', '.join(config.points)}; "
            "give each as NAME=PATH, or none for those in their usual place"
        )
    files = {FLOW: model_path, **points}
    models, sources = load_models(files, dataset, config)
    found = load_ensembles(ensembles, config)
    sources.append(Record.new(STAGES["ensembles"], config, *sources))
    view = STAGE.view(config)
    require_folder(folder)
    with store.reading(dataset, "dataset") as file:
        every = len(rows_of(dataset, file, TRAIN))
    trained = {
        name: _trained(model, files[name], view if name == FLOW else view.variant(name), every)
        for name, model in models.items()
    }
    axes: dict[str, list[str]] = {axis: [] for axis in AXES}
    for name, (axis, *_) in view.points.items():
        axes[axis].append(name)
    axes = {axis: names for axis, names in axes.items() if names}
    cells = in_one_pass_only(view, models, found, typical_changes(dataset, found))
    table = scaling.table(axes, trained, intervals(cells))
    remarks = scaling.notes(trained[FLOW], view.ensembles.num_states, view.evaluation.num_samples)
    text = scaling.as_markdown(table, [*remarks, f"Scored in {time.monotonic() - started:.0f} s."])

    def draw() -> Any:
        # Imported here, because it is not needed for the table and may fail.
        from nsf_pipeline.evaluation.scaling_curves import scaling_curves

        return scaling_curves(table)

    made = Record.new(STAGE, config, *sources)
    write_reports(folder, SCALED, made, {"table": as_csv(table), "text": text}, {"figure": draw})
    say(text)


def _trained(model: Model, path: Path, config: Config, every: int) -> scaling.Trained:
    """What the curves say of a model besides its scores; the train split has `every` trajectory."""
    assert isinstance(model, PushTModel)  # no point changes the kind of model
    law = jax.tree.leaves(eqx.filter(model.transition, eqx.is_inexact_array))
    return scaling.Trained(
        trajectories=config.training.trajectories or every,
        width=config.model.flow.hidden_size,
        depth=config.model.flow.depth,
        steps=config.training.steps,
        parameters=sum(leaf.size for leaf in law),
        seconds=_seconds(paths.below(path.parent, paths.METRICS)),
        seed=config.seed,
        validation_nll=float(model_header(path).get("validation_nll", math.nan)),
    )


def _seconds(path: Path) -> float:
    """The time that a training took, from the last row of its history; s."""
    names, rows = read_table(path, "the history of a training")
    try:
        found = float(rows[-1][names.index("seconds")])
    except (IndexError, ValueError):
        found = math.nan
    if not math.isfinite(found):
        raise FileError(f"{path}: expected rows with finite seconds; {again(path)}")
    return found
