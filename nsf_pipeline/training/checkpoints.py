"""Checkpoints: the state of training in files, from which training continues bit for bit."""

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, final

import equinox as eqx

from nsf_pipeline import label
from nsf_pipeline.files import FileError, replacing
from nsf_pipeline.provenance import versions
from nsf_pipeline.temporary import remove_leftovers
from nsf_pipeline.training.callbacks import Callback
from nsf_pipeline.training.state import TrainingLog, TrainingState

FORMAT = "nsf_pipeline checkpoint 2"
SUFFIX = ".checkpoint"


@final
class Checkpoints:
    """The checkpoints of one run, in a folder.

    A file is a label, a line of JSON with the state's log, and the state's arrays. Nothing in it is
    pickled.

    Attributes:
        folder: named by the fingerprint of the run's settings and code.
        every: s between checkpoints.
        newest: the last checkpoint written or read; None while there is none.
    """

    def __init__(self, folder: Path, every: int | float, say: Callable[[str], None]):
        self.folder, self.every, self._say = folder, every, say
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
                fields, state = self._read(path, start)
            except FileNotFoundError:
                continue
            except (OSError, ValueError, TypeError, EOFError, RuntimeError) as error:
                reason = " ".join(str(error).split())
                self._unsound.add(path)
                self._say(f"{path}: not a sound checkpoint: {reason}; trying the one before")
                continue
            self.newest, self._saved_step = path, state.step
            self._say(f"going on from step {state.step}: {path}")
            for line in _differences(fields["versions"]):
                self._say(line)
            return state
        others = self.folder.parent.glob(f"*/*{SUFFIX}")
        if any(other.parent != self.folder for other in others):
            self._say("settings, data or code changed since the last checkpoint: starting afresh")
        return start

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{SUFFIX}"), reverse=True)

    def _read(self, path: Path, like: TrainingState) -> tuple[dict[str, Any], TrainingState]:
        with path.open("rb") as file:
            fields = label.read(file)
            found = fields and fields.get("format")
            if not fields or found != FORMAT:
                raise label.LabelError(f"expected the format {FORMAT!r}, found {found!r}")
            content = file.read()
        label.check(fields, io.BytesIO(content))
        stream = io.BytesIO(content)
        log = json.loads(stream.readline())
        log["history"] = tuple(log["history"])
        current, best = eqx.tree_deserialise_leaves(stream, (like.current, like.best))
        return fields, TrainingState(current, best, TrainingLog(**log))


def _differences(before: dict[str, str]) -> Iterator[str]:
    now = versions()
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield (
                f"the checkpoint was made with {name} {before.get(name)}, this is "
                f"{now.get(name)}: the model may differ from one made in one go"
            )
