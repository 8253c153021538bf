"""Which files are current, damaged or stale, and because of which setting or module.

Files hold a record of what made them, so this reads only the files, neither the workflow nor
Snakemake's records. `snakemake -n` lists missing files.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from nsf_pipeline import label, paths
from nsf_pipeline.config import Config
from nsf_pipeline.files import FileError, again
from nsf_pipeline.provenance import Record


def made_in(results: Path) -> list[Path]:
    """The files in a folder that have a record of what made them, sources first.

    Raises:
        FileError: there is none.
    """
    found: list[Path] = []
    for template in paths.RECORDED:
        pattern = re.sub(r"\{\w+\}", "*", str(paths.below(Path(), template)))
        found += sorted(results.glob(pattern))
    if not found:
        raise FileError(
            f"{results}: no file with a record of what made it; expected a run's results"
        )
    return list(dict.fromkeys(found))


def describe(config: Config, files: Sequence[Path], *, whole: bool = False) -> Iterator[str]:
    """A line for each file that is not current, or for several with the same reason; then a count.

    Args:
        config: today's settings.
        files: those to check.
        whole: compare the content with its checksum; otherwise only labels are read, which show
            that a file was truncated but not that it was altered.

    Raises:
        FileError: there is no such file.
    """
    reasons = _reasons(config, files, whole=whole)
    yield from _lines(reasons)
    current = sum(not found for found in reasons.values())
    if current == len(reasons):
        yield f"up to date: {current} file{'s' * (current != 1)}"
    else:
        yield f"current: {current} of {len(reasons)} files"


def out_of_date(config: Config, files: Sequence[Path]) -> list[str]:
    """A line for each file that is missing or not current, or for several with the same reason.

    Models and reports are compared with their checksums; of other files only labels are read, so
    that a large run takes no longer.

    Args:
        config: today's settings.
        files: those that a run should have; files without a record are only looked for.
    """
    found = {path: [] if path.exists() else ["it is missing"] for path in files}
    recorded = [path for path in files if not found[path] and _is_recorded(path)]
    large = [path for path in recorded if path.suffix == ".h5"]
    small = [path for path in recorded if path.suffix != ".h5"]
    found |= _reasons(config, large, whole=False) | _reasons(config, small, whole=True)
    return list(_lines(found))


def _is_recorded(path: Path) -> bool:
    """Whether the workflow's file of this path has a record of what made it."""
    return any(
        re.fullmatch(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(template)), path.as_posix())
        for template in paths.RECORDED
    )


def _reasons(config: Config, files: Sequence[Path], *, whole: bool) -> dict[Path, list[str]]:
    """Why each file is not current; nothing for those that are."""
    with ThreadPoolExecutor() as pool:  # hashing lets other threads run
        contents = list(pool.map(partial(_fields_or_fault, whole=whole), files))
    return {path: judge(config, path, fields) for path, fields in zip(files, contents, strict=True)}


def _lines(reasons: Mapping[Path, list[str]]) -> Iterator[str]:
    """A line for each file that is not current, or for several with the same reason."""
    groups: dict[tuple[Path, str], list[Path]] = {}
    for path, found in reasons.items():
        if found:
            common = "; ".join(found).replace(str(path), f"{path.parent}/")
            groups.setdefault((path.parent, common), []).append(path)
    for (_, common), members in groups.items():
        if len(members) == 1:
            yield f"{members[0]}: {'; '.join(reasons[members[0]])}"
        elif all(path.stem.isdecimal() for path in members):
            yield f"{members[0]} to {members[-1].name} ({len(members)} files): {common}"
        else:
            yield f"{members[0]}, {', '.join(path.name for path in members[1:])}: {common}"


def _fields_or_fault(path: Path, *, whole: bool) -> dict[str, Any] | label.LabelError:
    try:
        return fields_of(path, whole=whole)
    except FileNotFoundError:
        raise FileError(f"{path}: no such file; `snakemake -n` says what would be made") from None
    except label.LabelError as error:
        return error


def judge(config: Config, path: Path, fields: Mapping[str, Any] | label.LabelError) -> list[str]:
    """Why a file is not what today's settings and code would make; nothing if it is current.

    Args:
        config: today's settings.
        path: the file.
        fields: its record, as `fields_of` gives it, or what is wrong with the file.
    """
    try:
        if isinstance(fields, label.LabelError):
            raise fields
        made = Record.read(fields)
    except label.LabelError as error:
        return [f"{error}; {again(path)}"]
    if made.variant and made.variant not in config.variant_names:
        return [f"variants.{made.variant} is left out"]
    own = config.variant(made.variant) if made.variant else config
    return made.changes(own) or list(_unlike_its_path(config, path, made, fields))


def fields_of(path: Path, *, whole: bool = False) -> dict[str, Any]:
    """The record in a file: its label and attributes, its comment, or its JSON.

    Args:
        path: an HDF5 file, a model, JSON, a page, a picture or a video.
        whole: also compare the content with its checksum.

    Raises:
        FileNotFoundError: there is no such file.
        LabelError: it is damaged, unreadable or none of these.
    """
    try:
        with path.open("rb") as file:
            if path.suffix == ".json":
                fields = dict(json.load(file))
                _check_files(path.parent, fields.get("files", {}), whole=whole)
                return fields
            if path.suffix in (".html", ".mp4", ".png"):
                content = file.read()
                _check_end(path, content)
                return label.find(content)
            fields = label.read(file) or {}
            if fields and whole:
                label.check(fields, file)
        return fields | _attributes(path) if path.suffix == ".h5" else fields
    except (FileNotFoundError, label.LabelError):
        raise
    except (OSError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise label.LabelError(f"cannot be read: {reason}") from None


PNG_END = b"IEND\xaeB`\x82"
"""The last bytes of every PNG."""


def _check_end(path: Path, content: bytes) -> None:
    """Check that a picture or a video has its end: its label is at its start."""
    place = 0
    while path.suffix == ".mp4" and place < len(content):  # an MP4 consists of boxes
        size = int.from_bytes(content[place : place + 4], "big")
        if size == 1:  # the size follows, in eight bytes
            size = int.from_bytes(content[place + 8 : place + 16], "big")
        if size < 8:
            break
        place += size
    if (path.suffix == ".mp4" and place != len(content)) or (
        path.suffix == ".png" and not content.endswith(PNG_END)
    ):
        raise label.LabelError(f"truncated or damaged: {len(content)} bytes without its end")


def _attributes(path: Path) -> dict[str, Any]:
    from nsf_pipeline.data import store

    return store.attributes_of(path)


def _check_files(folder: Path, digests: Mapping[str, str], *, whole: bool) -> None:
    """Check that the files in a provenance file exist and, if `whole`, match their checksums."""
    if not isinstance(digests, Mapping):
        raise label.LabelError("its list of files cannot be read")
    for name, digest in digests.items():
        path = folder / name
        if not path.exists():
            raise label.LabelError(f"{path} is missing")
        if whole and hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            raise label.LabelError(f"{path} is damaged: it does not match its checksum")


SHARDED = ("policies", "rollouts", "ensembles")
"""Stages with numbered files, in a folder that is named after the stage."""


def _unlike_its_path(
    config: Config, path: Path, made: Record, fields: Mapping[str, Any]
) -> Iterator[str]:
    """How a file differs from what its path says that it holds."""
    stage, folder = made.stage, path.parent.name
    if made.variant and made.variant not in path.parts:
        yield f"it is of the variant {made.variant}"
    if folder in SHARDED and folder != stage:
        yield f"it holds {stage}"
        return
    if stage not in SHARDED or not path.stem.isdecimal():
        return
    sharded = config.ensembles if stage == "ensembles" else config
    number, what = int(path.stem), "states" if stage == "ensembles" else "trajectories"
    if number >= sharded.num_shards:
        yield f"shard {number} is left out: the settings make {sharded.num_shards}"
        return
    held, own = (int(fields["first"]), int(fields["stop"])), sharded.shard_range(number)
    if held != own:
        yield f"holds {what} {held[0]} to {held[1] - 1}, expected {own[0]} to {own[1] - 1}"
