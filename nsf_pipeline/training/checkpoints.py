"""Checkpoints: all that training needs to go on as if nothing had happened."""

import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
from jaxtyping import PyTree

from nsf_pipeline import label
from nsf_pipeline.files import FileError, replacing
from nsf_pipeline.provenance import versions

FORMAT = "nsf_pipeline checkpoint"
SUFFIX = ".checkpoint"
KEPT = 2
"""Checkpoints kept: the newest, and one to fall back on."""


class Restored(NamedTuple):
    """What a checkpoint held: arrays, and notes as plain JSON values."""

    arrays: PyTree
    notes: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, in a folder of its own.

    A file is a label, a line of JSON with the notes, and the arrays, without pickle.

    Attributes:
        folder: named by the fingerprint of the run's settings and code.
        every: s between checkpoints.
        newest: the last checkpoint written or read; None while there is none.
        notes: of the owner, as plain JSON values; they come and go with the checkpoints.
    """

    def __init__(self, folder: Path, every: int | float, say: Callable[[str], None]):
        self.folder, self.every, self._say = folder, every, say
        self.newest: Path | None = None
        self.notes: dict[str, Any] = {}
        self._started = self._saved = time.monotonic()
        self._seconds_before = 0.0

    def seconds(self) -> float:
        """Time trained for, interruptions left out; s."""
        return self._seconds_before + time.monotonic() - self._started

    def due(self) -> bool:
        """Whether the last checkpoint is `every` seconds old."""
        return time.monotonic() - self._saved >= self.every

    def save(self, step: int, arrays: PyTree, notes: dict[str, Any]) -> None:
        """Write a checkpoint; where that is impossible, say so and go on."""
        content = io.BytesIO()
        owned = {"seconds": self.seconds(), "owner": self.notes}
        content.write(json.dumps({**notes, **owned}).encode() + b"\n")
        eqx.tree_serialise_leaves(content, arrays)
        content.seek(0)
        fields = {"format": FORMAT, "step": step, "versions": versions()}
        sealed = label.seal(fields, content)
        path = self.folder / f"{step:010d}{SUFFIX}"
        try:
            with replacing(path) as beside:
                beside.write_bytes(label.line(sealed) + content.getvalue())
            self.newest = path
            for old in self._files()[KEPT:]:
                old.unlink(missing_ok=True)
        except (FileError, OSError) as error:
            self._say(f"{error}; training goes on without this checkpoint")
        self._saved = time.monotonic()

    def restore(self, like: PyTree) -> Restored | None:
        """The newest checkpoint that is sound, or None; what is found is said.

        Args:
            like: arrays of the shapes and types expected.
        """
        for left in self.folder.glob(f".*{SUFFIX}.*.tmp"):  # by a process killed while writing
            left.unlink(missing_ok=True)
        for path in self._files():
            try:
                fields, restored = self._read(path, like)
            except (OSError, ValueError, EOFError, RuntimeError) as error:
                reason = " ".join(str(error).split())
                self._say(f"{path}: not a sound checkpoint: {reason}; trying the one before")
                continue
            self.newest = path
            self.notes = restored.notes.pop("owner")
            self._seconds_before = restored.notes.pop("seconds")
            self._started = time.monotonic()
            self._say(f"going on from step {fields['step']}: {path}")
            for line in _differences(fields["versions"]):
                self._say(line)
            return restored
        others = self.folder.parent.glob(f"*/*{SUFFIX}")
        if any(other.parent != self.folder for other in others):
            self._say("settings, data or code changed since the last checkpoint: starting afresh")
        return None

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob(f"*{SUFFIX}"), reverse=True)

    def _read(self, path: Path, like: PyTree) -> tuple[dict[str, Any], Restored]:
        with path.open("rb") as file:
            fields = label.read(file)
            if not fields or fields.get("format") != FORMAT:
                raise label.LabelError("its first line is not a checkpoint's")
            content = file.read()
        label.check(fields, io.BytesIO(content))
        stream = io.BytesIO(content)
        notes = json.loads(stream.readline())
        return fields, Restored(eqx.tree_deserialise_leaves(stream, like), notes)


def _differences(before: dict[str, str]) -> Iterator[str]:
    now = versions()
    for name in sorted(before.keys() | now.keys()):
        if before.get(name) != now.get(name):
            yield (
                f"the checkpoint was made with {name} {before.get(name)}, this is "
                f"{now.get(name)}: the model may differ from one made in one go"
            )
