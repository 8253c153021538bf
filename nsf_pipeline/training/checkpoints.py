"""Checkpoints: the state of training in files, from which training continues bit for bit."""

import io
import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar, final

import equinox as eqx
from pydantic import ConfigDict, Field, ValidationError

from nsf_pipeline import arrays, label
from nsf_pipeline.config import TrainingConfig
from nsf_pipeline.config.section import Section
from nsf_pipeline.files import FileError, open_file, replacing
from nsf_pipeline.provenance import versions
from nsf_pipeline.system.temporary import remove_leftovers
from nsf_pipeline.training.callbacks import Callback
from nsf_pipeline.training.state import TrainingLog, TrainingState
from nsf_pipeline.training.table import METRICS

FORMAT = "nsf_pipeline checkpoint 3"
SUFFIX = ".checkpoint"
MAX_LOG = 1 << 26
"""Bytes of a state's log, at most: those of some 200,000 rows."""


class _Label(Section):
    """What a checkpoint's label must say."""

    format: str
    step: int = Field(ge=0)
    versions: dict[str, str]
    size: int = Field(ge=0)
    sha256: str


class _Log(Section):
    """A state's log. A row's losses, and the best so far, may be infinite or NaN."""

    model_config = ConfigDict(allow_inf_nan=True)

    history: list[dict[str, int | float]]
    seconds: Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
    best_nll: float


@final
class Checkpoints:
    """The checkpoints of one run, in a folder.

    A file is a label, a line of JSON with the state's log, and the state's arrays. Nothing in it is
    pickled.

    Attributes:
        folder: named by the fingerprint of the run's settings, code and versions.
        every: s between checkpoints.
        newest: the last checkpoint written or read; None while there is none.
    """

    def __init__(
        self,
        folder: Path,
        every: int | float,
        say: Callable[[str], None],
        config: TrainingConfig | None = None,
    ):
        """Write nothing yet.

        Args:
            folder: where; made with the first checkpoint.
            every: s between checkpoints.
            say: prints a line.
            config: the run's, which says at which steps a history has rows; None accepts any.
        """
        self.folder, self.every, self._say, self._config = folder, every, say, config
        self.newest: Path | None = None
        self._saved_at, self._saved_step = time.monotonic(), 0
        self._unsound: set[Path] = set()

    def callback(self) -> Callback:
        """Continue from the newest checkpoint; write one every `every` seconds and at the end."""
        return Callback(
            on_start=self.restore,
            on_block=self.save_if_due,
            on_end=self.save,
            on_failure=lambda: f"last good checkpoint: {self.newest or 'none'}",
        )

    def save_if_due(self, state: TrainingState) -> None:
        """Write a checkpoint if the last one is `every` seconds old."""
        if time.monotonic() - self._saved_at >= self.every:
            self.save(state)

    def save(self, state: TrainingState) -> None:
        """Write a checkpoint unless this step has one; print a line if it cannot be written."""
        step = state.step
        if step == self._saved_step:
            return
        content = io.BytesIO()
        content.write(json.dumps(state.log._asdict()).encode() + b"\n")
        eqx.tree_serialise_leaves(content, (state.current, state.best))
        content.seek(0)
        fields = {"format": FORMAT, "step": step, "versions": versions()}
        sealed = label.seal(fields, content)
        path, before = self.folder / f"{step:010d}{SUFFIX}", self.newest
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(label.line(sealed) + content.getvalue())
            self.newest = path
            # One to fall back on is kept, besides the new one. Sound ones of later steps are those
            # of another process that trains the same model.
            for other in self._files():
                is_older = before and other.name < before.name
                if other != path and (is_older or other in self._unsound):
                    other.unlink(missing_ok=True)
            self._unsound.clear()
        except (FileError, OSError) as error:
            self._say(f"{error}; training goes on without this checkpoint")
        self._saved_at, self._saved_step = time.monotonic(), step

    def restore(self, start: TrainingState) -> TrainingState:
        """The state in the newest sound checkpoint, or `start` if there is none.

        A line says which checkpoint it is, and why others were passed over.

        Args:
            start: its arrays have the shapes and types expected.
        """
        remove_leftovers(self.folder)
        passed: set[Path] = set()
        # Listed again each time: another process that trains the same model may have removed some.
        while path := next((path for path in self._files() if path not in passed), None):
            passed.add(path)
            try:
                made_with, state = self._read(path, start)
            except FileNotFoundError:
                continue
            except (OSError, ValueError) as error:
                reason = " ".join(str(error).split())
                self._unsound.add(path)
                self._say(f"{path}: not a sound checkpoint: {reason}; trying the one before")
                continue
            self.newest, self._saved_step = path, state.step
            self._say(f"going on from step {state.step}: {path}")
            for line in _differences(made_with):
                self._say(line)
            return state
        others = self.folder.parent.glob(f"*/*{SUFFIX}")
        if any(other.parent != self.folder for other in others):
            self._say(
                "settings, data, code or versions changed since the last checkpoint: "
                "starting afresh"
            )
        return start

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{SUFFIX}"), reverse=True)

    def _read(self, path: Path, like: TrainingState) -> tuple[dict[str, str], TrainingState]:
        """The versions that a checkpoint was made with, and its state."""
        trees = like.current, like.best
        with open_file(path) as file:
            fields = label.read(file)
            found = fields and fields.get("format")
            if not fields or found != FORMAT:
                raise label.LabelError(f"expected the format {FORMAT!r}, found {found!r}")
            about = _held_against(_Label, fields)
            text = file.readline(MAX_LOG)
            arrays.require_size(trees, about.size - len(text))
            content = file.read()
        label.check(fields, io.BytesIO(text + content))
        log = _held_against(_Log, label.mapping(text, finite=False))
        current, best = arrays.read(io.BytesIO(content), trees)
        state = TrainingState(
            current, best, TrainingLog(tuple(log.history), log.seconds, log.best_nll)
        )
        for fault in self._faults(state):
            raise label.LabelError(fault)
        if not path.stem.isdecimal() or not int(path.stem) == about.step == state.step:
            raise label.LabelError(f"its label says step {about.step}, its state {state.step}")
        return about.versions, state

    def _faults(self, state: TrainingState) -> Iterator[str]:
        """What cannot be so in a state that training left."""
        current, rows = state.current, state.history
        trained = *current[:3], state.best, current.first_nll
        if not arrays.are_finite(trained) or current.fault:
            yield "its numbers are not finite"
        steps = [row.get("step", 0) for row in rows]
        if self._config:
            every, last = self._config.validate_every, min(state.step, self._config.steps)
            expected = [*range(every, last + 1, every)]
            if last == self._config.steps and last % every:
                expected.append(last)
            if steps != expected or state.step != last:
                yield f"its history has {len(rows)} rows where step {state.step} has others"
        elif steps != sorted({*steps}) or not all(0 < step <= state.step for step in steps):
            yield "the steps of its history are in disorder"
        names = set(METRICS) if self._config else {name for row in rows[:1] for name in row}
        if not names <= {*METRICS} or any(row.keys() != names for row in rows):
            yield "the rows of its history have other columns"
        scores = [row["validation_nll"] for row in rows if "validation_nll" in row]
        best = min((score for score in scores if not math.isnan(score)), default=math.inf)
        if (scores or not rows) and best != state.log.best_nll:
            yield f"its best validation is {state.log.best_nll}, that of its history {best}"


Schema = TypeVar("Schema", bound=Section)


def _held_against(schema: type[Schema], fields: object) -> Schema:
    try:
        return schema.model_validate(fields)
    except ValidationError as error:
        raise label.LabelError(label.explained(error)) from None


def _differences(before: dict[str, str]) -> Iterator[str]:
    now = versions()
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield (
                f"the checkpoint was made with {name} {before.get(name)}, this is "
                f"{now.get(name)}: the model may differ from one made in one go"
            )
