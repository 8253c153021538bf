"""Training the model on the data set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from nsf_pipeline import paths
from nsf_pipeline.config import Config
from nsf_pipeline.data import store
from nsf_pipeline.data.sources import sources, training_key
from nsf_pipeline.drawing import write_figure_or_placeholder
from nsf_pipeline.errors import UserError
from nsf_pipeline.model import PushTModel, build_model, fit_normaliser, save_model
from nsf_pipeline.numerics import with_defaults
from nsf_pipeline.provenance import Record, require_current
from nsf_pipeline.stages import STAGES
from nsf_pipeline.timing import CONTROL_DT
from nsf_pipeline.tracking import WandbRun
from nsf_pipeline.training import Callback, each_row, fit
from nsf_pipeline.training.checkpoints import Checkpoints
from nsf_pipeline.training.progress import Display
from nsf_pipeline.training.pusht import NORMALISER_SIZE, summary
from nsf_pipeline.training.state import Row, TrainingState
from nsf_pipeline.training.stopping import StopSignals
from nsf_pipeline.training.table import best_of, growing_table, write_table

STAGE = STAGES["train"]


@with_defaults
def run(
    config: Config,
    dataset: Path,
    output: Path,
    metrics: Path,
    curves: Path,
    *,
    variant: str = "",
    terminals: tuple[int, ...] = (2,),
) -> None:
    """Train the PushT model on a data set, and write it with its metrics.

    Checkpoints and the metrics so far are kept in `checkpoints/{fingerprint}/` beside the metrics.
    After an interruption the same call continues from there, to the same model, bit for bit.

    Args:
        config: the settings, with a variant's changes.
        dataset: `dataset.h5`.
        output: where the model goes.
        metrics: where the history goes as CSV, when training is done.
        curves: where the history goes as a picture (PNG); a placeholder if it cannot be drawn.
        variant: the variant's name; empty for the default model.
        terminals: file descriptors; the first that is a terminal gets a progress bar.

    Raises:
        FileError: the data set cannot be read or is stale, or a file cannot be written.
        TrainingError: a loss is not finite, or training diverged.
        Stopped: SIGTERM or SIGINT came; a checkpoint was left.
        UserError: the processor is divided into several devices.
    """
    _require_one_processor()
    display = Display(config.training.steps, terminals)
    with StopSignals() as signals:
        with store.reading(dataset, "dataset") as file:
            source = require_current(dataset, store.record_of(file), config)
            made = Record.new(STAGE, config, source, variant=variant)
            config = STAGE.view(config)
            training, held_out = sources(config, dataset, file)
        build_key, scale_key, fit_key = jax.random.split(training_key(config), 3)
        batch = training.sample(scale_key, NORMALISER_SIZE)
        normaliser = fit_normaliser(config.model, config.dmp, batch)
        model = build_model(config.model, config.dmp, normaliser, key=build_key)
        display.say(summary(training, model))
        folder = metrics.parent / paths.CHECKPOINTS / made.fingerprint
        checkpoints = Checkpoints(
            folder, config.runtime.checkpoint_seconds, display.say, config.training
        )
        growing = folder / "metrics.csv"
        with WandbRun(config.wandb, metrics.parent, folder, made.settings) as run:
            transition, bridge, history = fit(
                model.transition,
                model.bridge,
                training,
                config.training,
                key=fit_key,
                time_step=CONTROL_DT,
                validation=held_out,
                callbacks=(
                    checkpoints.callback(),
                    growing_table(growing),
                    _logged_from(growing, run),
                    each_row(run.log),
                    each_row(display.row),
                    Callback(on_block=lambda state: display.bar(state.step)),
                    Callback(stop=lambda: signals.code),
                ),
            )
            best = best_of(history)
            save_model(output, PushTModel(transition, bridge), _header(made, source, best))
            write_table(history, metrics)
            write_figure_or_placeholder(lambda: _picture(history), curves, made.fields())
            display.say(
                f"best at step {best['step']:.0f}: validation nll {best['validation_nll']:.3f}"
            )
            run.finish({"best_step": best["step"], "best_validation_nll": best["validation_nll"]})


def _require_one_processor() -> None:
    """Refuse a processor that is divided into several devices: this changes sums over a batch."""
    count = len(jax.devices())
    if count > 1 and jax.default_backend() == "cpu":
        raise UserError(
            f"on {count} CPU devices the model would differ in the last bits: unset XLA_FLAGS, "
            "JAX_NUM_CPU_DEVICES and jax_num_cpu_devices"
        )


def _picture(history: Sequence[Row]) -> Any:
    """The curves. The module that draws them is not needed to train, and its import may fail."""
    from nsf_pipeline.training.curves import picture

    return picture(history)


def _logged_from(table: Path, run: WandbRun) -> Callback:
    """Log the rows of an interrupted run, which have just been written to a table."""

    def begin(state: TrainingState) -> TrainingState:
        run.log_history(table)
        return state

    return Callback(on_start=begin)


def _header(made: Record, source: Record, best: Mapping[str, float]) -> dict[str, Any]:
    """The record in the model's header, in which `config` means what the model is built from."""
    fields = made.fields()
    settings = fields.pop("config")
    return {
        **fields,
        "settings": settings,
        "dataset_fingerprint": source.fingerprint,
        "step": best["step"],
        "validation_nll": best["validation_nll"],
    }
