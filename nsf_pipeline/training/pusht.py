"""Training the PushT model on its data set."""

import csv
import io
from contextlib import suppress
from pathlib import Path

import equinox as eqx
import jax

from nsf_pipeline.config import Config
from nsf_pipeline.data.merge import TRAIN, VALIDATION
from nsf_pipeline.data.store import reading, require_fingerprint
from nsf_pipeline.data.streaming import StreamedTransitions
from nsf_pipeline.data.transitions import Transitions, rows_of, trajectories_of
from nsf_pipeline.files import FileError, replacing
from nsf_pipeline.model import PushTModel, build_model, fit_normaliser, save_model
from nsf_pipeline.provenance import record, stage_fingerprint
from nsf_pipeline.timing import CONTROL_DT
from nsf_pipeline.tracking import WandbRun
from nsf_pipeline.training.checkpoints import Checkpoints
from nsf_pipeline.training.curves import draw
from nsf_pipeline.training.fitting import Row, fit
from nsf_pipeline.training.progress import Display
from nsf_pipeline.training.stopping import StopSignals

NORMALISER_SIZE = 65_536
"""Transitions that the residuals' sizes are measured on."""
METRICS = (
    "step",
    "seconds",
    "loss",
    "nll",
    "one_to_two",
    "two_to_one",
    "gradient_norm",
    "clipped",
    "validation_nll",
)
"""Columns of metrics.csv: means since the row before; nats; clipped is a share of steps."""
MIB = 1 << 20
Source = Transitions | StreamedTransitions


def train_pusht(
    config: Config,
    dataset: Path,
    output: Path,
    metrics: Path,
    curves: Path,
    terminals: tuple[int, ...] = (2,),
) -> None:
    """Train the PushT model on a data set, and write it with its metrics.

    Checkpoints, and the metrics while they grow, are kept in `checkpoints/{fingerprint}/` beside
    the metrics: the same call goes on from there, and ends in the same model, bit for bit.

    Args:
        config: what the stage `train` reads, and how it runs.
        dataset: `dataset.h5`.
        output: where the model goes.
        metrics: where the history goes as CSV, when training is done.
        curves: where the history goes as a picture (PNG).
        terminals: file descriptors; the first that is a terminal gets a bar.

    Raises:
        FileError: the data set cannot be read or is not that of the settings, or a file cannot be
            written.
        TrainingError: a loss is not finite, or training diverged.
        Stopped: SIGTERM or SIGINT came; a checkpoint was left.
    """
    display = Display(config.training.steps, terminals)
    made = record("train", config)
    folder = metrics.parent / "checkpoints" / made["fingerprint"]
    checkpoints = Checkpoints(folder, config.runtime.checkpoint_seconds, display.say)
    with StopSignals() as signals:
        training, held_out = sources(config, dataset)
        build_key, scale_key, fit_key = jax.random.split(jax.random.key(config.seed), 3)
        batch = training.sample(scale_key, NORMALISER_SIZE)
        normaliser = fit_normaliser(config.model, config.dmp, batch)
        model = build_model(config.model, config.dmp, normaliser, key=build_key)
        display.say(_summary(training, model))
        settings = made.pop("config")  # in the header, `config` is what the model is built from
        growing = folder / "metrics.csv"
        with WandbRun(config.wandb, metrics.parent, folder, settings) as run:
            run.log_history(growing)
            rows: list[Row] = []

            def report(row: Row) -> None:
                seconds = checkpoints.notes.setdefault("seconds", [])
                is_restored = len(rows) < len(seconds)
                if not is_restored:
                    seconds.append(round(checkpoints.seconds(), 2))
                rows.append({"seconds": seconds[len(rows)], **row})
                if is_restored:
                    return
                with suppress(FileError), replacing(growing) as beside:
                    beside.write_text(as_csv(rows), encoding="utf-8")
                run.log(rows[-1])
                display.row(row, seconds[-1])

            transition, bridge, history = fit(
                model.transition,
                model.bridge,
                training,
                config.training,
                key=fit_key,
                time_step=CONTROL_DT,
                validation=held_out,
                report=report,
                checkpoints=checkpoints,
                watch=display.bar,
                stop=lambda: signals.code,
            )
            best = min(history, key=lambda row: row["validation_nll"])
            with replacing(metrics) as beside:
                beside.write_text(as_csv(rows), encoding="utf-8")
            draw(rows, curves, made)
            attributes = {
                **made,
                "settings": settings,
                "dataset_fingerprint": stage_fingerprint("dataset", config),
                "step": best["step"],
                "validation_nll": best["validation_nll"],
            }
            save_model(output, type(model)(transition, bridge), attributes)
            display.say(
                f"best at step {best['step']:.0f}: validation nll {best['validation_nll']:.3f}"
            )
            run.finish({"best_step": best["step"], "best_validation_nll": best["validation_nll"]})


def sources(config: Config, dataset: Path) -> tuple[Source, Source]:
    """Transitions of the train and the validation split: on the device if they fit, else streamed.

    Raises:
        FileError: the data set cannot be read or is not that of the settings.
    """
    training, state_dim = config.training, config.model.state_dim
    with reading(dataset, "dataset") as file:
        require_fingerprint(dataset, file, stage_fingerprint("dataset", config))
        splits = [rows_of(dataset, file, split) for split in (TRAIN, VALIDATION)]
        times, size = file["observations"].shape[1], file["condition"].shape[1]
        needed = 4 * (times * state_dim + size) * sum(map(len, splits))
        room = data_room(config.runtime.data_memory)
        if needed <= room:
            found: list[Source] = [
                Transitions.build(
                    trajectories_of(file, rows, state_dim),
                    training.max_gap,
                    block_blur=training.block_blur,
                )
                for rows in splits
            ]
        else:
            found = [
                StreamedTransitions(
                    dataset,
                    file,
                    rows,
                    state_dim,
                    training.max_gap,
                    block_blur=training.block_blur,
                )
                for rows in splits
            ]
    return found[0], found[1]


def data_room(mib: int) -> int:
    """Bytes that data may take on the device: a setting in MiB, at most half of what it has."""
    limit = (jax.devices()[0].memory_stats() or {}).get("bytes_limit")
    return min(mib * MIB, limit // 2) if limit else mib * MIB


def as_csv(rows: list[Row]) -> str:
    """The text of metrics.csv."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, METRICS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _summary(training: Source, model: PushTModel) -> str:
    count = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))
    devices = jax.devices()
    where = f"{len(devices)} x " * (len(devices) > 1) + devices[0].device_kind
    data = "streamed from the file" if isinstance(training, StreamedTransitions) else "in memory"
    return f"{len(training)} starts, {data}; {count} parameters, on {where}"
