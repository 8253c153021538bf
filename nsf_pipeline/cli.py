"""The verbs of `python -m nsf_pipeline`: one per job of the workflow, and some for hands.

Each imports what it needs when it runs, so that jobs start fast and simulate without JAX.
"""

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import active_children
from pathlib import Path
from typing import Any, get_args

from nsf_pipeline.config import (
    MAX_SHARD_SIZE,
    MAX_SHARDS,
    UNTRAINED,
    Config,
    Rank,
    json_schema,
    load_config,
)
from nsf_pipeline.errors import UserError
from nsf_pipeline.timing import CONTROL_DT

STANDARD_ERROR = 2
FAILED, INTERRUPTED = 1, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; a user's mistakes become a line each on standard error and exit code 1."""
    options = _parser().parse_args(arguments)
    try:
        if "config" in options:
            options.config = load_config(options.config)
        options.run(options)
    except KeyboardInterrupt:
        print("nsf_pipeline: interrupted", file=sys.stderr)
        return INTERRUPTED
    except UserError as error:
        for line in str(error).splitlines():
            print(f"nsf_pipeline: {line}", file=sys.stderr)
        return FAILED
    except _Exit as exit:
        return exit.leave()
    return 0


class _Exit(Exception):  # noqa: N818
    """A way out with a code of its own and a line, though nobody may be left to read it."""

    def __init__(self, code: int, line: str):
        super().__init__(line)
        self.code = code

    def leave(self) -> int:
        try:
            print(f"nsf_pipeline: {self}", file=sys.stderr, flush=True)
            sys.stdout.flush()
        except OSError:  # Python would flush again, and change the code
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return self.code


def _policies(options: argparse.Namespace) -> None:
    if not 0 < options.stop - options.first <= MAX_SHARD_SIZE:
        raise UserError(
            f"--stop {options.stop} must be more than --first {options.first}, by at most "
            f"{MAX_SHARD_SIZE}"
        )
    if options.stop > MAX_SHARDS * MAX_SHARD_SIZE:
        raise UserError(f"--stop {options.stop} is more than {MAX_SHARDS * MAX_SHARD_SIZE}")
    _write_policies(options.config, options.first, options.stop, options.output)


def _write_policies(config: Config, first: int, stop: int, output: Path) -> None:
    from nsf_pipeline.data import store
    from nsf_pipeline.data.policies import sample_policies
    from nsf_pipeline.provenance import record

    started = time.monotonic()
    policies = sample_policies(config, first, stop)
    store.write(output, "policies", policies, record("policies", config))
    _say(output, f"policies {first} to {stop - 1}", started)


def _rollouts(options: argparse.Namespace) -> None:
    if options.output.resolve() == options.policies.resolve():
        raise UserError(f"--output {options.output} is the policy shard itself; name another file")
    _write_rollouts(options.config, options.policies, options.output)


def _write_rollouts(config: Config, policies: Path, output: Path) -> None:
    from nsf_pipeline.data import store
    from nsf_pipeline.data.rollouts import simulate
    from nsf_pipeline.provenance import record, stage_fingerprint

    started = time.monotonic()
    with store.reading(policies, "policies") as file:
        store.require_fingerprint(policies, file, stage_fingerprint("policies", config))
        arrays = {name: file[name][...] for name in store.POLICIES}
    rollouts = simulate(config, arrays)
    attributes = record("rollouts", config) | {"dt": CONTROL_DT}
    store.write(output, "rollouts", rollouts, attributes)
    count, steps = len(rollouts["length"]), int(rollouts["length"].sum())
    seconds = time.monotonic() - started
    _say(
        output,
        f"{count} trajectories, {steps} steps, {rollouts['success'].mean():.1%} successes, "
        f"{count / seconds:.0f} trajectories/s",
        started,
    )


def _dataset(options: argparse.Namespace) -> None:
    config: Config = options.config
    _write_dataset(config, options.rollouts, options.output, options.metadata)


def _write_dataset(config: Config, folder: Path, output: Path, metadata: Path) -> None:
    from nsf_pipeline.data.merge import merge
    from nsf_pipeline.provenance import record, stage_fingerprint

    started = time.monotonic()
    shards = [folder / f"{shard:05d}.h5" for shard in range(config.num_shards)]
    found = merge(
        shards,
        config,
        rollouts_fingerprint=stage_fingerprint("rollouts", config),
        attributes=record("dataset", config),
        output=output,
        metadata_output=metadata,
    )
    splits = ", ".join(f"{count} {name}" for name, count in found["splits"].items())
    _say(
        output,
        f"{found['num_trajectories']} trajectories ({splits}), {found['num_steps']} steps, the "
        f"block moves in {found['contact_fraction']:.1%} of them, "
        f"{found['success_rate']:.2%} successes",
        started,
    )


def _train(options: argparse.Namespace) -> None:
    _before_jax(options.threads)
    from nsf_pipeline.training import Stopped, train_pusht

    given = {name: getattr(options, name) for name in ("checkpoint_seconds", "data_memory")}
    changes = {name: value for name, value in given.items() if value is not None}
    config: Config = options.config
    config = config.model_copy(update={"runtime": config.runtime.model_copy(update=changes)})
    try:
        train_pusht(
            config,
            options.dataset,
            options.output,
            options.metrics,
            options.curves,
            terminals=(options.bar, STANDARD_ERROR),
        )
    except Stopped as stopped:
        raise _Exit(stopped.code, str(stopped)) from None


def _evaluate(options: argparse.Namespace) -> None:
    _before_jax(options.threads)
    from nsf_pipeline.evaluation.comparison import evaluate_pusht

    variants = _variants(options)
    evaluate_pusht(
        options.config,
        options.model,
        options.dataset,
        options.ensembles,
        options.output,
        variants if variants or options.ablations else None,
    )


def _speed(options: argparse.Namespace) -> None:
    _before_jax(options.threads)
    from nsf_pipeline.evaluation.speed import measure_speed

    measure_speed(
        options.config,
        options.model,
        _variants(options),
        options.dataset,
        options.scores,
        options.output,
        options.threads,
    )


def _variants(options: argparse.Namespace) -> dict[str, Path]:
    variants = dict(options.variant)
    if len(variants) < len(options.variant):
        raise UserError("--variant: expected each name once; give every model its own")
    if taken := sorted(variants.keys() & set(UNTRAINED)):
        raise UserError(f"--variant {taken[0]}: that name is taken; give the model another")
    return variants


def _ensembles(options: argparse.Namespace) -> None:
    config, count = options.config, options.config.ensembles.num_shards
    if options.shard is not None and options.shard >= count:
        raise UserError(
            f"--shard {options.shard}: expected one below {count}, for that many hold the states "
            "of all ensembles.horizons; give a lower one"
        )
    shards = range(count) if options.shard is None else [options.shard]
    jobs = min(options.jobs, len(shards))
    _side_by_side(
        jobs, _write_ensembles, [(config, options.dataset, s, options.output) for s in shards]
    )


def _write_ensembles(config: Config, dataset: Path, shard: int, folder: Path) -> None:
    from nsf_pipeline.data import store
    from nsf_pipeline.evaluation.ensembles import simulate_ensembles
    from nsf_pipeline.provenance import record, stage_fingerprint

    started = time.monotonic()
    output = folder / f"{shard:05d}.h5"
    with store.reading(dataset, "dataset") as file:
        store.require_fingerprint(dataset, file, stage_fingerprint("dataset", config))
    first, stop = config.ensembles.shard_range(shard)
    arrays = simulate_ensembles(config, dataset, first, stop)
    attributes = record("ensembles", config) | {"first": first, "stop": stop}
    store.write(output, "ensembles", arrays, attributes)
    count, fewer = len(arrays["step"]), stop - first - len(arrays["step"])
    short = f" ({fewer} fewer: the test split has no more of a kind)" if fewer else ""
    _say(
        output,
        f"{count} states{short}, {config.ensembles.num_members} members each, "
        f"{arrays['contact'].sum()} with contact",
        started,
    )


def _video(options: argparse.Namespace) -> None:
    from nsf_pipeline.data.recording import record_trajectory

    started = time.monotonic()
    trajectory = record_trajectory(options.source, options.trajectory, options.output)
    _say(options.output, f"trajectory {trajectory}", started)


def _predicted_video(options: argparse.Namespace) -> None:
    _before_jax(options.threads)
    from nsf_pipeline.prediction import record_prediction

    started = time.monotonic()
    trajectory = record_prediction(options.model, options.dataset, options.place, options.output)
    _say(options.output, f"prediction of trajectory {trajectory}", started)


def _table_page(options: argparse.Namespace) -> None:
    from nsf_pipeline import pages

    pages.write_tables(
        options.config, options.tables, options.output, of_ablations=options.ablations
    )


def _video_page(options: argparse.Namespace) -> None:
    from nsf_pipeline import pages

    pages.write_videos(options.videos, options.output)


def _settings_page(options: argparse.Namespace) -> None:
    from nsf_pipeline import pages

    pages.write_settings(options.config, options.output)


def _picture(options: argparse.Namespace) -> None:
    from nsf_pipeline.data.picture import draw

    started = time.monotonic()
    draw(options.dataset, options.output)
    _say(options.output, f"picture of {options.dataset}", started)


def _replay(options: argparse.Namespace) -> None:
    from nsf_pipeline.data.replay import replay

    started = time.monotonic()
    report = replay(options.paths)
    seconds = time.monotonic() - started
    print(f"largest differences from the replay:\n{report}")
    print(
        f"{report.trajectories} trajectories, {report.steps} steps, {report.differing} "
        f"trajectories differ, {seconds:.1f} s, {report.trajectories / seconds:.0f} trajectories/s",
        flush=True,
    )
    if options.verify:
        report.require_no_difference()


def _generate_data(options: argparse.Namespace) -> None:
    config, folder = options.config, options.output
    shards = [(config, shard, folder) for shard in range(config.num_shards)]
    _side_by_side(options.jobs, _generate_shard, shards)
    dataset = folder / "dataset.h5"
    _write_dataset(config, folder / "rollouts", dataset, folder / "dataset.meta.json")


def _side_by_side(
    count: int, function: Callable[..., None], calls: Sequence[tuple[Any, ...]]
) -> None:
    """Call a function with each of some arguments, in some number of processes."""
    if count == 1:
        for arguments in calls:
            function(*arguments)
        return
    # Ctrl-C reaches all of them, and is this one's to obey.
    with ProcessPoolExecutor(
        count, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN)
    ) as pool:
        try:
            for job in [pool.submit(function, *arguments) for arguments in calls]:
                job.result()
        except BrokenProcessPool:
            raise UserError(
                "a process was killed, for want of memory perhaps: lower --jobs or shard_size, "
                "and run the same command again"
            ) from None
        except BaseException:
            # Calls that wait already cannot be taken back, and files come whole or not at all.
            for process in active_children():
                process.terminate()
            raise


def _generate_shard(config: Config, shard: int, folder: Path) -> None:
    policies = folder / "policies" / f"{shard:05d}.h5"
    _write_policies(config, *config.shard_range(shard), policies)
    _write_rollouts(config, policies, folder / "rollouts" / f"{shard:05d}.h5")


def _why(options: argparse.Namespace) -> None:
    from nsf_pipeline import staleness

    config = options.config
    jobs = staleness.needed(staleness.jobs_of(config, str(options.results)), options.targets)
    found = staleness.reasons(config, jobs, whole=options.full)
    for line in staleness.describe(found):
        print(line)
    if not found:
        print("up to date")


def _schema(options: argparse.Namespace) -> None:
    print(json_schema(), end="")


def _say(output: Path, what: str, started: float) -> None:
    print(f"{output}: {what}, {time.monotonic() - started:.1f} s", flush=True)


def _before_jax(threads: int | None) -> None:
    # Read when JAX starts, so this comes before its import.
    if threads is not None:
        os.environ["NPROC"] = str(threads)
    # Others may use the GPU too; whoever wants all of its memory at once says so.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m nsf_pipeline",
        description="A conditional Neural Stochastic Flow on PushT: data, training, evaluation.",
    )
    verbs = parser.add_subparsers(metavar="VERB", required=True)

    def verb(name: str, run: object, what: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=what, description=what)
        added.set_defaults(run=run)
        return added

    def with_config(added: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added.add_argument(
            "--config",
            type=str,
            default="config.yaml",
            metavar="YAML",
            help="settings: a YAML file, or JSON text as the workflow gives it (config.yaml)",
        )
        return added

    def with_paths(added: argparse.ArgumentParser, **paths: str) -> argparse.ArgumentParser:
        for name, what in paths.items():
            added.add_argument(f"--{name}", type=Path, required=True, metavar="PATH", help=what)
        return added

    def with_threads(added: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added.add_argument("--threads", type=_positive, metavar="N", help="CPU threads (all)")
        return added

    def with_variants(added: argparse.ArgumentParser) -> argparse.ArgumentParser:
        added.add_argument(
            "--variant",
            type=_named_path,
            action="append",
            default=[],
            metavar="NAME=PATH",
            help="another model, and its name in the tables; may be given again and again",
        )
        return added

    added = with_config(
        verb("generate-data", _generate_data, "Make a data set, without Snakemake.")
    )
    added.add_argument("--output", type=Path, default=Path("results"), help="folder (results)")
    added.add_argument("--jobs", type=_positive, default=os.cpu_count(), help="processes (all)")

    added = with_config(verb("train", _train, "Train the model on a data set."))
    added.add_argument("--dataset", type=Path, default=Path("results/dataset.h5"))
    added.add_argument("--output", type=Path, default=Path("results/model.eqx"))
    added.add_argument("--metrics", type=Path, default=Path("results/training/metrics.csv"))
    added.add_argument("--curves", type=Path, default=Path("results/training/curves.png"))
    added.add_argument(
        "--checkpoint-seconds",
        type=_natural,
        metavar="S",
        help="between checkpoints (runtime.checkpoint_seconds)",
    )
    added.add_argument(
        "--data-memory",
        type=_natural,
        metavar="MIB",
        help="larger data are streamed from the file (runtime.data_memory)",
    )
    added.add_argument(
        "--bar",
        type=_natural,
        default=STANDARD_ERROR,
        metavar="FD",
        help="file descriptor that gets a bar if it is a terminal (standard error)",
    )
    with_threads(added)

    added = with_config(verb("evaluate", _evaluate, "Score a model on the test split."))
    added.add_argument("--model", type=Path, default=Path("results/model.eqx"))
    added.add_argument("--dataset", type=Path, default=Path("results/dataset.h5"))
    added.add_argument(
        "--ensembles",
        type=Path,
        default=Path("results/ensembles"),
        help="folder of the ensembles' shards (results/ensembles)",
    )
    with_variants(added)
    added.add_argument("--ablations", action="store_true", help="of the ablations, with no variant")
    added.add_argument("--output", type=Path, default=Path("results/evaluation"), help="folder")
    with_threads(added)

    added = with_config(verb("speed", _speed, "Time predictions, beside the simulators."))
    added.add_argument("--model", type=Path, default=Path("results/model.eqx"))
    with_variants(added)
    added.add_argument("--dataset", type=Path, default=Path("results/dataset.h5"))
    added.add_argument(
        "--scores",
        type=Path,
        default=Path("results/ablations/horizons.csv"),
        help="table of the scores that costs are drawn against",
    )
    added.add_argument("--output", type=Path, default=Path("results/ablations"), help="folder")
    with_threads(added)

    added = with_config(verb("policies", _policies, "Sample a shard of policies."))
    added.add_argument("--first", type=_natural, required=True, help="first trajectory")
    added.add_argument("--stop", type=_positive, required=True, help="one past the last")
    with_paths(added, output="policy shard to write")

    added = with_config(verb("rollouts", _rollouts, "Run a shard of policies in the simulator."))
    with_paths(added, policies="policy shard", output="rollout shard to write")

    added = with_config(verb("dataset", _dataset, "Merge rollout shards into one data set."))
    with_paths(
        added,
        rollouts="folder of the rollout shards",
        output="data set to write",
        metadata="metadata to write",
    )

    added = with_config(verb("ensembles", _ensembles, "Simulate ensembles from the test states."))
    added.add_argument("--dataset", type=Path, default=Path("results/dataset.h5"))
    added.add_argument(
        "--output", type=Path, default=Path("results/ensembles"), help="folder (results/ensembles)"
    )
    added.add_argument("--shard", type=_natural, metavar="N", help="one of them, from 0 (all)")
    added.add_argument("--jobs", type=_positive, default=os.cpu_count(), help="processes (all)")

    added = verb("video", _video, "Record a trajectory by replaying it.")
    with_paths(added, source="rollout shard or data set", output="MP4 to write")
    added.add_argument(
        "--trajectory",
        type=_trajectory,
        required=True,
        metavar="WHICH",
        help="its index; or best, median or worst by last coverage",
    )

    added = verb(
        "predicted-video",
        _predicted_video,
        "Record a trajectory of the test split beside the model's prediction of it.",
    )
    added.add_argument("--model", type=Path, default=Path("results/model.eqx"))
    added.add_argument("--dataset", type=Path, default=Path("results/dataset.h5"))
    added.add_argument(
        "--place", type=_natural, required=True, metavar="N", help="in the test split, from 0"
    )
    with_paths(added, output="MP4 to write")
    with_threads(added)

    added = verb("picture", _picture, "Draw a data set: its paths, coverage and contact.")
    added.add_argument("--dataset", type=Path, default=Path("results/dataset.h5"))
    added.add_argument("--output", type=Path, default=Path("results/dataset.png"))

    added = verb("replay", _replay, "Simulate stored trajectories again and compare.")
    added.add_argument(
        "paths", type=Path, nargs="+", metavar="PATH", help="rollout shards and data sets"
    )
    added.add_argument("--verify", action="store_true", help="fail on any difference")

    added = with_config(
        verb("why", _why, "Say which files are stale, and because of what; exit code 0 either way.")
    )
    added.add_argument("--results", type=Path, default=Path("results"), help="folder (results)")
    added.add_argument("--full", action="store_true", help="hold files against their checksums too")
    added.add_argument("targets", nargs="*", metavar="TARGET", help="file or rule (all)")

    added = with_config(
        verb("table-page", _table_page, "Show Markdown tables of the evaluation as HTML.")
    )
    added.add_argument("tables", type=Path, nargs="+", metavar="MARKDOWN", help="files to show")
    added.add_argument("--ablations", action="store_true", help="they are of the ablations")
    with_paths(added, output="HTML to write")

    added = verb("video-page", _video_page, "Show videos on one HTML page that holds them.")
    added.add_argument("videos", type=Path, nargs="+", metavar="MP4", help="files to show")
    with_paths(added, output="HTML to write")

    added = with_config(
        verb("settings-page", _settings_page, "Show all settings and their defaults as HTML.")
    )
    with_paths(added, output="HTML to write")

    verb("schema", _schema, "Print the JSON schema of config.yaml.")
    return parser


def _natural(text: str) -> int:
    return _at_least(0, text)


def _trajectory(text: str) -> int | str:
    return text if text in get_args(Rank) else _natural(text)


def _named_path(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not (name.isidentifier() and equals and path):
        raise argparse.ArgumentTypeError(f"expected NAME=PATH, got {text!r}")
    return name, Path(path)


def _positive(text: str) -> int:
    return _at_least(1, text)


def _at_least(least: int, text: str) -> int:
    if not text.isdecimal() or int(text) < least:
        raise argparse.ArgumentTypeError(f"expected a whole number from {least}, got {text!r}")
    return int(text)
