"""The evaluation: models, baselines and the simulator itself, scored on the test split."""

import time
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

import jax

from nsf_pipeline.config import Config
from nsf_pipeline.evaluation import consistency, open_loop, tables
from nsf_pipeline.evaluation.comparison import compare, notes
from nsf_pipeline.evaluation.states import load_ensembles, typical_changes
from nsf_pipeline.evaluation.tables import FLOW
from nsf_pipeline.files import require_folder
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.paths import SCORES
from nsf_pipeline.provenance import Record, Stage
from nsf_pipeline.stages import STAGES
from nsf_pipeline.stages.reports import load_models, write_reports
from nsf_pipeline.system.printing import say


@with_defaults
def run(
    config: Config,
    stage: Stage,
    model_path: Path,
    variants: Mapping[str, Path],
    dataset: Path,
    ensembles: Path,
    folder: Path,
) -> None:
    """Score models on the test states; write tables, figures and what made them.

    Args:
        config: the settings.
        stage: `evaluate` for the default model alone, `compare` for it and other models.
        model_path: `model.eqx`, which tables call `flow`.
        variants: other models' files, by the names that tables give them.
        dataset: `dataset.h5`.
        ensembles: folder of the ensembles' shards.
        folder: where the reports go.

    Raises:
        FileError: a model, the data set or an ensemble cannot be read, does not belong to the
            others or is stale, or a report cannot be written.
        UserError: a horizon has too few states.
    """
    started = time.monotonic()
    models, sources = load_models({FLOW: model_path, **variants}, dataset, config)
    found = load_ensembles(ensembles, config)
    sources.append(Record.new(STAGES["ensembles"], config, *sources))
    view = stage.view(config)
    require_folder(folder)
    compared = compare(view, models, found, typical_changes(dataset, found))
    key = jax.random.key(config.seed)
    errors = open_loop.measure(view, models, dataset, key=key)
    seconds = time.monotonic() - started
    horizons, intervals = tables.horizons(compared.cells), tables.intervals(compared.cells)
    calibration = tables.calibration(compared.cells)
    steps = consistency.as_table(compared.steps)
    remarks = notes(view, found, seconds, of_steps=bool(compared.steps))
    by_noise = tables.noise(compared.by_noise)
    consistent = consistency.as_markdown(steps)
    more = [*consistent, *[""] * bool(consistent), *open_loop.as_markdown(errors)]
    text = tables.as_markdown(horizons, by_noise, remarks, more)
    reports = {
        "table": tables.as_csv(horizons),
        "intervals": tables.as_csv(intervals),
        "distances": tables.as_csv(tables.distances(compared.cells)),
        "noise": tables.as_csv(by_noise),
        "ranks": tables.as_csv(calibration),
        "consistency": tables.as_csv(steps),
        "open_loop": tables.as_csv(errors),
        "text": text,
    }
    pictures = {
        "skill": lambda: _figures().skill(intervals),
        "calibration": lambda: _figures().calibration(calibration),
        "figure": lambda: _figures().block_positions(compared.drawn, found),
    }
    write_reports(folder, SCORES, Record.new(stage, config, *sources), reports, pictures)
    say(text)


def _figures() -> ModuleType:
    """The module that draws. It is not needed for the scores, and its import may fail."""
    from nsf_pipeline.evaluation import figures

    return figures
