"""Which files are current, damaged or stale, and because of which setting or module.

Files hold a record of what made them, so this reads only the files, neither the workflow nor
Snakemake's records. `snakemake -n` lists missing files.
"""

import json
import operator
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from nsf_pipeline import label, paths
from nsf_pipeline.config import Config
from nsf_pipeline.drawing import NOT_DRAWN, not_drawn
from nsf_pipeline.errors import shown
from nsf_pipeline.files import FileError, again, open_file, read_file
from nsf_pipeline.protocols.rows import rows_by_folder
from nsf_pipeline.provenance import Record, digest_of, digests_in


def made_in(results: Path) -> list[Path]:
    """The files in a folder that have a record of what made them, sources first.

    Raises:
        FileError: there is none, or the folder cannot be read.
    """
    try:
        any(results.iterdir())
    except FileNotFoundError:
        pass
    except OSError as error:
        raise FileError(f"{results}: cannot read it: {error.strerror}") from None
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
    if made.variant and made.variant not in config.changed:
        return [f"variants.{made.variant} is left out"]
    own = config.variant(made.variant) if made.variant else config
    return made.changes(own) or [
        *_unlike_its_path(config, path, made, fields),
        *_not_drawn(path, fields),
    ]


def _not_drawn(path: Path, fields: Mapping[str, Any]) -> Iterator[str]:
    """Figures that could not be drawn: the file itself, or those that a provenance file names."""
    found = fields.get(NOT_DRAWN, {})
    for name, reason in (found if isinstance(found, Mapping) else {path.name: found}).items():
        figure = path.with_name(str(name))
        its = "" if figure == path else f"{figure.name}: "
        yield f"{its}{not_drawn(str(reason))}; {again(figure)}"


def fields_of(path: Path, *, whole: bool = False) -> dict[str, Any]:
    """The record in a file: its label and attributes, its comment, or its JSON.

    Args:
        path: an HDF5 file, a model, JSON, a page, a picture or a video; no more of it is read
            than its record takes.
        whole: also compare the content with its checksum.

    Raises:
        FileNotFoundError: there is no such file.
        LabelError: it is damaged, unreadable or none of these.
    """
    try:
        if path.suffix == ".json":
            fields = label.mapping(read_file(path, label.MAX_BYTES))
            _check_files(path.parent, digests_in(fields), whole=whole)
            return fields
        with open_file(path) as file:
            if path.suffix in (".html", ".mp4", ".png"):
                return label.find(file)
            found = label.read(file)
            if found is None:
                raise label.LabelError("truncated or damaged: it has no label")
            if whole:
                label.check(found, file)
        return found | _attributes(path) if path.suffix == ".h5" else found
    except (FileNotFoundError, label.LabelError):
        raise
    except (OSError, TypeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise label.LabelError(f"cannot be read: {reason}") from None


def _attributes(path: Path) -> dict[str, Any]:
    from nsf_pipeline.data import store

    return store.attributes_of(path)


def _check_files(folder: Path, digests: Mapping[str, str], *, whole: bool) -> None:
    """Check that the files in a provenance file exist and, if `whole`, match their checksums."""
    for name, digest in digests.items():
        path = folder / name
        try:
            if os.path.dirname(os.path.realpath(path)) != os.path.realpath(folder):
                raise label.LabelError(f"{path} is a link to another folder")
            open_file(path).close()
            if whole and digest_of(path) != digest:
                raise label.LabelError(f"{path} is damaged: it does not match its checksum")
        except FileNotFoundError:
            raise label.LabelError(f"{path} is missing") from None
        except OSError as error:
            raise label.LabelError(f"{path} cannot be read: {error.strerror}") from None


PLANNING, EXPORTS = Path(paths.PLANNING).name, Path(paths.EXPORT).parent.name
PARTS = ("statistics", "dataset")
"""Stages with a file for each file of the data set, where it has several."""
SHARDED = ("policies", "rollouts", "ensembles", *PARTS)
"""Stages with numbered files, in a folder that is named after the stage."""


def _unlike_its_row(config: Config, path: Path, fields: Mapping[str, Any]) -> Iterator[str]:
    """How a file of episodes or tasks differs from what its folder says that it holds."""
    kind, row = path.parent.parent.name, path.parent.name
    found = rows_by_folder(config.protocols).get(kind, {}).get(row)
    if found is None or not path.stem.isdecimal():
        yield f"row {row} is left out"
        return
    described, spans = found
    if int(path.stem) >= len(spans):
        yield f"shard {int(path.stem)} is left out: the settings make {len(spans)}"
        return
    held = label.mapping(str(fields.get("row", "{}")).encode())
    if fields.get("schema") != kind or held != described:
        yield f"it holds other {kind} than {row}"
        return
    span = spans[int(path.stem)]
    if (fields.get("first"), fields.get("stop")) != span:
        yield f"holds other {kind} than {span[0]} to {span[1] - 1}"


def _unlike_its_settings(config: Config, path: Path, fields: Mapping[str, Any]) -> Iterator[str]:
    """How an export differs from what the settings, and its folder, say that it holds."""
    if path.parent.name not in config.exports.formats:
        yield f"exports.formats leaves {path.parent.name} out"
        return
    held = fields.get("export")
    held = held if isinstance(held, Mapping) else {}
    if held.get("format") != path.parent.name:
        yield f"it holds another format than {path.parent.name}"
    asked = config.exports.model_dump(mode="json", exclude={"formats"})
    for name, value in asked.items():
        before = held.get("chosen_splits" if name == "splits" else name)
        if before != value:
            was, now = (shown(json.dumps(each)) for each in (before, value))
            yield f"exports.{name} was {was}, is {now}"
    files = (each for each in path.parent.rglob("*") if each.name != paths.RECEIPT)
    size, written = sum(each.stat().st_size for each in files if each.is_file()), held.get("bytes")
    if not isinstance(written, int) or size < written:
        yield f"it has {size} bytes of the {written} that were written; {again(path.parent)}"


def _unlike_its_path(
    config: Config, path: Path, made: Record, fields: Mapping[str, Any]
) -> Iterator[str]:
    """How a file differs from what its path says that it holds."""
    stage, folder = made.stage.removeprefix("second_"), path.parent.name
    if path.parent.parent.parent.name == PLANNING and path.suffix == ".h5":
        yield from _unlike_its_row(config, path, fields)
        return
    if path.name == paths.RECEIPT and path.parent.parent.name == EXPORTS:
        yield from _unlike_its_settings(config, path, fields)
        return
    if made.variant and made.variant not in path.parts:
        yield f"it is of the variant {made.variant}"
    if folder in SHARDED and folder != stage:
        yield f"it holds {stage}"
        return
    if stage not in SHARDED or not path.stem.isdecimal() or (stage in PARTS and folder != stage):
        return
    sharded = (
        config.ensembles if stage == "ensembles" else config.parts if stage in PARTS else config
    )
    number, what = int(path.stem), "states" if stage == "ensembles" else "trajectories"
    is_second = Path(paths.SECOND_ROUND).name in path.parts
    numbers = config.second_shards if is_second else range(sharded.num_shards)
    if number not in numbers:
        kind = "part" if stage in PARTS else "shard"
        yield f"{kind} {number} is left out: the settings make {len(numbers)}"
        return
    try:
        held = operator.index(fields["first"]), operator.index(fields["stop"])
    except (KeyError, TypeError):
        yield f"does not say which {what} it holds"
        return
    own = config.second_shard_range(number) if is_second else sharded.shard_range(number)
    if held != own:
        yield f"holds {what} {held[0]} to {held[1] - 1}, expected {own[0]} to {own[1] - 1}"
