"""Which files of a run are stale, and because of what.

Files say what made them: the fingerprint of their stage, and the settings and modules behind it.
Held against those of today, that tells what the workflow will make again, without its own records.
"""

import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from nsf_pipeline import label
from nsf_pipeline.config import Config
from nsf_pipeline.errors import UserError
from nsf_pipeline.provenance import (
    STAGES,
    fingerprint_after,
    stage_fingerprint,
    stage_modules,
    stage_settings,
)

ABLATIONS = ("compare", "speed", "ablation_page")
"""Stages that belong to the target `ablations`; all others to the default one."""


@dataclass(frozen=True, eq=False)
class Job:
    """What the workflow makes at once.

    Attributes:
        stage: of the chain.
        outputs: paths; the first carries the record of its making.
        sources: paths of what it is made from.
        span: first trajectory, or state of ensembles, and one past the last, where the record
            names them.
        fingerprint: of what it makes, where that is not its stage's.
        variant: whose settings it reads; empty for those of the default model.
    """

    stage: str
    outputs: tuple[str, ...]
    sources: tuple[str, ...] = ()
    span: tuple[int, int] | None = None
    fingerprint: str | None = None
    variant: str = ""

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the rules that ask for it."""
        if self.variant:
            return ()
        return (self.stage, "ablations" if self.stage in ABLATIONS else "all")

    def config(self, config: Config) -> Config:
        """The settings that it reads, of today's."""
        return config.variant(self.variant) if self.variant else config


EVALUATION = (
    "provenance.json",
    "horizons.csv",
    "horizons.md",
    "intervals.csv",
    "distances.csv",
    "calibration.csv",
    "consistency.csv",
    "skill.png",
    "calibration.png",
    "block_positions.png",
)
SPEED = ("speed.json", "speed.csv", "speed.md", "accuracy_against_cost.png")


class Fault(NamedTuple):
    """Why an output is not as it should be.

    Attributes:
        kind: "missing"; "damaged": not what was written; "stale": sound, but not of these settings
            and this code.
        what: in words.
    """

    kind: Literal["missing", "damaged", "stale"]
    path: str
    what: str


def jobs_of(config: Config, results: str = "results") -> list[Job]:
    """The jobs of the whole chain and of the ablations, each after those that make its sources."""
    jobs, rollouts = [], []
    for shard in range(config.num_shards):
        policies = f"{results}/policies/{shard:05d}.h5"
        rollouts.append(f"{results}/rollouts/{shard:05d}.h5")
        span = config.shard_range(shard)
        jobs.append(Job("policies", (policies,), (), span))
        jobs.append(Job("rollouts", (rollouts[-1],), (policies,), span))
    dataset = (f"{results}/dataset.h5", f"{results}/dataset.meta.json")
    model = _model_in(results)
    variants = {name: _model_in(f"{results}/variants/{name}") for name in config.variant_names}
    evaluation = tuple(f"{results}/evaluation/{name}" for name in EVALUATION)
    jobs.append(Job("dataset", dataset, tuple(rollouts), (0, config.num_trajectories)))
    jobs.append(Job("train", model, dataset))
    ensembles = []
    for shard in range(config.ensembles.num_shards):
        ensembles.append(f"{results}/ensembles/{shard:05d}.h5")
        span = config.ensembles.shard_range(shard)
        jobs.append(Job("ensembles", (ensembles[-1],), dataset[:1], span))
    jobs.append(Job("evaluate", evaluation, (model[0], dataset[0], *ensembles)))
    jobs.append(Job("picture", (f"{results}/dataset.png",), dataset[:1]))
    jobs += _videos(config, results, rollouts, dataset[0], model[0])
    jobs.append(Job("table_page", (f"{results}/report/tables.html",), (evaluation[2],)))
    jobs.append(Job("settings_page", (f"{results}/report/settings.html",)))
    for name, outputs in variants.items():
        jobs.append(Job("train", outputs, dataset, variant=name))
    models = (model[0], *(outputs[0] for outputs in variants.values()))
    compared = tuple(f"{results}/ablations/{name}" for name in EVALUATION)
    jobs.append(Job("compare", compared, (*models, dataset[0], *ensembles)))
    speed = tuple(f"{results}/ablations/{name}" for name in SPEED)
    solved = (variants[n][0] for n in variants if config.variant(n).model.kind != "flow")
    jobs.append(Job("speed", speed, (compared[1], model[0], *solved, dataset[0])))
    tables = compared[EVALUATION.index("horizons.md")], speed[SPEED.index("speed.md")]
    jobs.append(Job("ablation_page", (f"{results}/report/ablations.html",), tables))
    return jobs


def _videos(
    config: Config, results: str, rollouts: list[str], dataset: str, model: str
) -> list[Job]:
    """The jobs of all videos, then that of their page."""
    of_shard, predicted = (stage_fingerprint(name, config) for name in ("videos", "predictions"))
    of_dataset = fingerprint_after("videos", stage_fingerprint("dataset", config))
    jobs = []
    for place in config.videos.predicted:
        path = f"{results}/videos/predicted/test_{place:07d}.mp4"
        jobs.append(Job("predictions", (path,), (model, dataset), fingerprint=predicted))
    for trajectory in config.videos.trajectories:
        path, shard = f"{results}/videos/{trajectory:07d}.mp4", trajectory // config.shard_size
        jobs.append(Job("videos", (path,), (rollouts[shard],), fingerprint=of_shard))
    for rank in config.videos.ranked:
        path = f"{results}/videos/{rank}.mp4"
        jobs.append(Job("videos", (path,), (dataset,), fingerprint=of_dataset))
    if jobs:
        shown = tuple(job.outputs[0] for job in jobs)
        made = fingerprint_after("video_page", " ".join(str(job.fingerprint) for job in jobs))
        page = f"{results}/report/videos.html"
        jobs.append(Job("video_page", (page,), shown, fingerprint=made))
    return jobs


def _model_in(folder: str) -> tuple[str, ...]:
    """What training leaves in a folder."""
    names = ("model.eqx", "training/metrics.csv", "training/curves.png")
    return tuple(f"{folder}/{name}" for name in names)


def needed(jobs: list[Job], targets: Iterable[str]) -> list[Job]:
    """The jobs behind some targets, files or rules' names, in order; those of `all` without one.

    Raises:
        UserError: nothing makes a target.
    """
    makers = {path: job for job in jobs for path in job.outputs}
    waiting: list[Job] = []
    for target in list(targets) or ["all"]:
        found = [job for job in jobs if target in job.targets]
        if not found and (name := _as_known(target)) in makers:
            found = [makers[name]]
        if not found:
            raise UserError(
                f"{target}: nothing makes it; expected a file such as {jobs[-1].outputs[0]}, or "
                f"all, ablations or one of {', '.join(STAGES)}"
            )
        waiting += found
    wanted: set[Job] = set()
    while waiting:
        job = waiting.pop()
        if job not in wanted:
            wanted.add(job)
            waiting += [makers[path] for path in job.sources]
    return [job for job in jobs if job in wanted]


def _as_known(target: str) -> str:
    """A path as the chain has it: seen from here."""
    return os.path.relpath(target) if os.path.isabs(target) else os.path.normpath(target)


def faults(config: Config, jobs: Collection[Job], *, whole: bool = False) -> dict[Job, Fault]:
    """Those of some jobs whose own outputs are missing, damaged or stale.

    Args:
        config: today's settings.
        jobs: some of `jobs_of`.
        whole: hold files against their checksums from end to end; otherwise labels alone are read,
            which tell a truncated file but not an altered one.
    """
    expected = {
        (stage, variant): stage_fingerprint(stage, Job(stage, (), variant=variant).config(config))
        for stage, variant in {(job.stage, job.variant) for job in jobs if not job.fingerprint}
    }

    def check(job: Job) -> Fault | None:
        return _fault(job, job.fingerprint or expected[job.stage, job.variant], whole)

    if not whole:
        return {job: fault for job in jobs if (fault := check(job))}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing lets other threads run
        return {job: fault for job, fault in zip(jobs, pool.map(check, jobs), strict=True) if fault}


def reasons(config: Config, jobs: Collection[Job], *, whole: bool = False) -> dict[Job, list[str]]:
    """Why jobs are to be done again, for those that are.

    Args:
        config: today's settings.
        jobs: some of `jobs_of`, in order, with all those behind them.
        whole: as for `faults`.
    """
    own = faults(config, jobs, whole=whole)
    explain = _Explainer(config)
    found: dict[Job, list[str]] = {}
    again: dict[str, str] = {}  # paths to be made again, and what they are now
    for job in jobs:
        fault = own.get(job)
        why = explain(job, fault) if fault else []
        sources = [path for path in job.sources if path in again]
        if sources and not why:
            more = f" and {len(sources) - 1} more" if len(sources) > 1 else ""
            which = "which are" if more else "which is"
            why = [f"comes from {sources[0]}{more}, {which} {again[sources[0]]}"]
        if fault and not why:
            why = [fault.what]
        if why:
            found[job] = why
            again |= dict.fromkeys(job.outputs, "stale")
            if fault:
                again[fault.path] = fault.kind
    return found


def describe(found: Mapping[Job, list[str]]) -> Iterator[str]:
    """Lines that say what is stale and why; shards of one stage and reason share a line."""
    groups: dict[tuple[str, str], list[tuple[Job, str]]] = {}
    for job, why in found.items():
        text = common = "; ".join(why)
        for path in job.sources[:1]:
            common = common.replace(path, f"{os.path.dirname(path)}/")
        groups.setdefault((job.stage, common), []).append((job, text))
    for (_, common), members in groups.items():
        if len(members) == 1:
            ((job, text),) = members
            folder = os.path.dirname(job.outputs[0])
            others = [os.path.relpath(path, folder) for path in job.outputs[1:]]
            yield f"{', '.join([job.outputs[0], *others])}: {text}"
        else:
            first, last = members[0][0].outputs[0], members[-1][0].outputs[0]
            if len({text for _, text in members}) == 1:
                common = members[0][1]
            yield f"{first} to {os.path.basename(last)} ({len(members)} files): {common}"


class Recovery(NamedTuple):
    """What the workflow must be told, since its own records do not show it.

    Attributes:
        forced: outputs whose jobs must run.
        mended: lines for files that are missing, or of unknown and other making, and made again.
        refused: lines for files that the workflow made and that are now damaged or another's: what
            comes from them must run, to be refused before it starts.
    """

    forced: set[str]
    mended: list[str]
    refused: list[str]


def recovery(
    config: Config, targets: Iterable[str], is_known: Callable[[Job], bool | None]
) -> Recovery:
    """What the workflow must be told before it makes some targets.

    Args:
        config: today's settings.
        targets: files or rules asked for; none, all.
        is_known: whether the workflow's record of a job shows today's settings and code; None
            where it has none.
    """
    try:
        jobs = needed(jobs_of(config), targets)
    except UserError:  # the workflow says it better
        jobs = []
    found = faults(config, jobs)
    faulty = {path for job in found for path in job.outputs}
    users: dict[str, set[Job]] = {}
    for job in jobs:
        for path in job.sources:
            users.setdefault(path, set()).add(job)
    forced: set[str] = set()
    mended: dict[Job, list[str]] = {}
    refused: dict[Job, list[str]] = {}
    for job, fault in found.items():
        after = {user for path in job.outputs for user in users.get(path, ())}
        told = refused
        if fault.kind == "missing":
            # What is stale or missing itself is made anyway.
            after, told = after - found.keys(), mended
            if any(os.path.exists(path) for path in job.outputs):
                after.add(job)
        elif fault.kind == "stale":
            known = is_known(job)
            if known is None:
                after, told = {job}, mended
            elif not known or not faulty.isdisjoint(job.sources):
                continue
        if after:
            forced |= {user.outputs[0] for user in after}
            told[job] = [in_words(job, fault)]
    return Recovery(forced, list(describe(mended)), list(describe(refused)))


def refusals(config: Config, sources: Collection[str]) -> list[str]:
    """A line for each file, of those that jobs are about to read, that is not as it should be."""
    jobs = [job for job in jobs_of(config) if not set(job.outputs).isdisjoint(sources)]
    explain = _Explainer(config)
    lines = []
    for job, fault in faults(config, jobs, whole=True).items():
        if fault.kind == "missing":  # made at once with what is read, but not read
            continue
        what = "; ".join(explain(job, fault)) or fault.what
        hint = "" if fault.kind == "damaged" else f"; {AGAIN.format(job.outputs[0])}"
        lines.append(f"{job.outputs[0]}: {what}{hint}")
    return lines


AGAIN = "to make it again, run snakemake --cores 1 --force {} with your other options"
OTHERS = "made by other settings or code"


def in_words(job: Job, fault: Fault) -> str:
    """What is wrong, and how to mend it where the workflow will not do so by itself."""
    if fault.kind == "damaged":
        return f"{fault.what}; {AGAIN.format(job.outputs[0])}"
    return fault.what if fault.path == job.outputs[0] else f"{fault.path} is {fault.what}"


def _fault(job: Job, fingerprint: str, whole: bool) -> Fault | None:
    path, *others = job.outputs
    try:
        made = record_of(path, whole=whole)
    except FileNotFoundError:
        return Fault("missing", path, "missing")
    except label.LabelError as error:
        return Fault("damaged", path, str(error))
    for other in others:
        if not os.path.exists(other):
            return Fault("missing", other, "missing")
    if job.span and "stop" in made and (made["first"], made["stop"]) != job.span:
        holds, expected = (
            f"{first} to {stop - 1}" for first, stop in ((made["first"], made["stop"]), job.span)
        )
        what = "states" if job.stage == "ensembles" else "trajectories"
        return Fault("stale", path, f"holds {what} {holds}, expected {expected}")
    if made.get("fingerprint") != fingerprint:
        return Fault("stale", path, OTHERS)
    return None


def record_of(path: str, *, whole: bool = False) -> dict[str, Any]:
    """What a file says of its making, in short: its label, its comment or its page of JSON.

    Args:
        path: an HDF5 file, a model, JSON, a page, a picture or a video.
        whole: hold the content against the checksum too.

    Raises:
        FileNotFoundError: there is no such file.
        LabelError: it is damaged, unreadable or none of these.
    """
    try:
        with open(path, "rb") as file:
            if path.endswith(".json"):
                return dict(json.load(file))
            if path.endswith((".html", ".mp4", ".png")):
                return label.find(file.read())
            fields = label.read(file)
            if fields and whole:
                label.check(fields, file)
        return fields or _attributes(path)
    except (FileNotFoundError, label.LabelError):
        raise
    except (OSError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise label.LabelError(f"cannot be read: {reason}") from None


def _attributes(path: str) -> dict[str, Any]:
    # Labels are read without the HDF5 library, which takes longer to import than to read them.
    from nsf_pipeline.data import store

    try:
        if path.endswith(".h5"):
            return store.attributes_of(path)
    except store.StoreError:
        pass
    raise label.LabelError("truncated or damaged: it has no label")


class _Explainer:
    """Names the settings and modules that a stale file's record shows to have changed."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.known: dict[tuple[str, str, Any], list[str]] = {}

    def __call__(self, job: Job, fault: Fault) -> list[str]:
        """Reasons; none where only what the file was made from has changed."""
        if fault.kind != "stale":
            return [in_words(job, fault)]
        # A thousand shards are stale for few reasons.
        key = (job.stage, job.variant, record_of(fault.path).get("fingerprint"))
        if key not in self.known:
            self.known[key] = list(self._changes(job, fault.path))
        return self.known[key] or [fault.what] * (fault.what != OTHERS)

    def _changes(self, job: Job, path: str) -> Iterator[str]:
        made = _attributes(path) if path.endswith(".h5") else record_of(path)
        today = stage_settings(job.stage, job.config(self.config))
        settings = made.get("settings", made.get("config", {}))  # as the model's header has it
        before, now = (dict(_leaves(_plain(values))) for values in (settings, today))
        if not before:  # pictures and videos name no settings
            now = before
        for name in sorted(before.keys() | now.keys()):
            old, new = before.get(name), now.get(name)
            if old != new:
                yield f"{name} was {json.dumps(old)}, is {json.dumps(new)}"
        modules, modules_now = _plain(made.get("modules", {})), stage_modules(job.stage)
        for name in sorted(modules.keys() | modules_now.keys()):
            old, new = modules.get(name), modules_now.get(name)
            if old != new:
                how = "is new" if old is None else "is gone" if new is None else "changed"
                yield f"{name} {how}"


def _plain(value: Any) -> dict[str, Any]:
    """A mapping, which HDF5's attributes hold as JSON."""
    return dict(json.loads(value) if isinstance(value, str) else value)


def _leaves(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value
