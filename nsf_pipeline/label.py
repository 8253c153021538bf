"""Labels: one line of JSON at the start of a file that says what it is and what made it.

It holds the size and the SHA-256 of what follows. Reading the label finds a truncated file, reading
the whole file an altered one. Both come before a library parses the content, because parsing
damaged content might never end.
"""

import hashlib
import io
import json
import math
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from io import BufferedIOBase, RawIOBase
from typing import Any

START = b'{"format": "nsf_pipeline '
HDF5 = b"\x89HDF\r\n"
"""First line of an HDF5 file that has no label."""
MARK = b"made by nsf_pipeline "
MAX_BYTES = 1 << 20
"""Bytes of a label, or of JSON in a file of its own, at most."""
MAX_DEPTH, MAX_DIGITS, MAX_NAME = 32, 20, 200
"""Levels of JSON, digits of an integer in it, and characters of a name, at most."""
MAX_PARTS, MAX_INDEX = 100_000, 1 << 24
"""Parts of a picture or video, and bytes of a video's index, at most."""
PNG = b"\x89PNG\r\n\x1a\n"
HTML = (b"<!-- ", b" -->")
"""Around the comment, in the last line of a page."""
Binary = BufferedIOBase | RawIOBase


class LabelError(ValueError):
    """A file has no label or does not match it; the message says so in a few words."""


def seal(fields: Mapping[str, Any], content: Binary) -> dict[str, Any]:
    """The fields of a label, with `size` and `sha256` of the content added.

    Args:
        fields: the other fields; `format` comes first: "nsf_pipeline " and the kind of file.
        content: read from its current position to its end.
    """
    first = content.tell()
    sized = {**fields, "size": content.seek(0, os.SEEK_END) - first}
    content.seek(first)
    return {**sized, "sha256": _digest(sized, content)}


def line(fields: Mapping[str, Any], width: int = 0) -> bytes:
    """A label as the first line of a file, padded with blanks to a width in bytes."""
    return json.dumps(fields).encode().ljust(width - 1) + b"\n"


def mapping(text: bytes, *, finite: bool = True) -> dict[str, Any]:
    """A JSON object from a file, held against what any JSON of this package's can be.

    Args:
        text: UTF-8.
        finite: refuse NaN and infinities.

    Raises:
        LabelError: it is not JSON, no object, too deep or too long for plain data, has a name twice
            or one that cannot be printed, or holds what is no number or no text.
    """

    def by_name(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise LabelError("a name stands in it twice")
        if not all(name.isprintable() and len(name) <= MAX_NAME for name in found):
            raise LabelError("a name in it is too long or cannot be printed")
        return found

    def integer(digits: str) -> int:
        if len(digits) > MAX_DIGITS:
            raise LabelError(f"an integer in it has {len(digits)} digits")
        return int(digits)

    def number(digits: str) -> float:
        if not math.isfinite(value := float(digits)):
            raise LabelError("a number in it is too large")
        return value

    def constant(name: str) -> float:
        if finite:
            raise LabelError(f"{name} is no number")
        return float(name)

    try:
        found = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=by_name,
            parse_int=integer,
            parse_float=number,
            parse_constant=constant,
        )
        level: list[Any] = [[found]]
        for _ in range(MAX_DEPTH):
            inner = (each.values() if isinstance(each, dict) else each for each in level)
            level = [each for values in inner for each in values if isinstance(each, dict | list)]
        if level:
            raise RecursionError
        json.dumps(found, ensure_ascii=False).encode()  # fails on half a surrogate pair
    except RecursionError:
        raise LabelError("it is nested too deeply") from None
    except LabelError:
        raise
    except ValueError:
        raise LabelError("it is not JSON") from None
    if not isinstance(found, dict):
        raise LabelError("it is not a JSON object")
    return found


def read(file: Binary) -> dict[str, Any] | None:
    """Read the label of an open file, up to where its content starts; None for HDF5 without one.

    Raises:
        LabelError: there is no label, it is damaged, or the content has another size.
    """
    text = file.readline(MAX_BYTES)
    if text.startswith(HDF5):
        return None
    if not text.startswith(START):
        raise LabelError("truncated or damaged: it starts neither with a label nor as HDF5 does")
    try:
        fields = mapping(text)
    except LabelError as error:
        raise LabelError(f"truncated or damaged: its first line cannot be read: {error}") from None
    size, written = os.fstat(file.fileno()).st_size - file.tell(), fields.get("size")
    if type(written) is not int or not isinstance(fields.get("sha256"), str):
        raise LabelError("truncated or damaged: its label lacks a size or a checksum")
    if not text.endswith(b"\n") or size != written:
        raise LabelError(f"truncated or damaged: {size} bytes where {written} were written")
    return fields


def check(fields: Mapping[str, Any], content: Binary) -> None:
    """Compare a label with the content, which is read to its end.

    Raises:
        LabelError: they do not match.
    """
    if _digest(fields, content) != fields.get("sha256"):
        raise LabelError("truncated or damaged: its content does not match its checksum")


def embed(fields: Mapping[str, Any]) -> str:
    """Fields as a comment, for formats that can hold one, such as pictures and videos."""
    return MARK.decode() + json.dumps(fields)


def find(content: bytes | Binary) -> dict[str, Any]:
    """The fields of a comment made by `embed`, from where this package puts it in a file.

    Only that place counts, whatever pixels, frames or tables look like: the one comment of a
    picture (PNG) or a video (MP4), or the last line of a page (HTML). Little else is read.

    Args:
        content: the file's bytes, or the open file.

    Raises:
        LabelError: there is none, or the file is damaged.
    """
    file = io.BytesIO(content) if isinstance(content, bytes) else content
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    start = file.read(8)
    if start == PNG:
        comments = list(_in_png(file, size))
    elif start[4:] == b"ftyp":
        comments = list(_in_mp4(file, size))
    else:
        comments = list(_in_html(file, size))
    found = [text.removeprefix(MARK) for text in comments if text.startswith(MARK)]
    if len(found) != 1:
        raise LabelError(f"truncated or damaged: it has {'two labels' if found else 'no label'}")
    try:
        return mapping(found[0])
    except LabelError as error:
        raise LabelError(f"truncated or damaged: its label cannot be read: {error}") from None


def explained(error: Any) -> str:
    """The first fault that pydantic found in data from a file, without the data."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected", 1)
    return f"{where}: {message}" if where else message


CUT = "truncated or damaged: it is cut off or has bytes left over"


def _in_png(file: Binary, size: int) -> Iterator[bytes]:
    """Comments in a picture, whose chunks must fill it from its first byte to its last."""
    place, kind = len(PNG), b""
    for _ in range(MAX_PARTS):
        file.seek(place)
        head = file.read(8)
        if kind == b"IEND" or len(head) < 8:
            break
        length, kind = struct.unpack(">I4s", head)
        place += length + 12
        if kind == b"tEXt" and length <= MAX_BYTES:
            name, _, text = (chunk := file.read(length)).partition(b"\0")
            if file.read(4) != zlib.crc32(kind + chunk).to_bytes(4, "big"):
                raise LabelError("truncated or damaged: a chunk does not match its checksum")
            if name == b"Comment":
                yield text
    if kind != b"IEND" or place != size:
        raise LabelError(CUT)


def _in_mp4(file: Binary, size: int) -> Iterator[bytes]:
    """Comments in a video, whose boxes must fill it from its first byte to its last."""
    place, index = 0, False
    for _ in range(MAX_PARTS):
        file.seek(place)
        head = file.read(16).ljust(16, b"\0")
        length, kind, long = struct.unpack(">I4sQ", head)
        length = long if length == 1 else length
        if place == size or length < 8 or place + length > size:
            break
        if kind == b"moov":
            if index or length > MAX_INDEX:
                raise LabelError("truncated or damaged: it has two indices or a very long one")
            index = True
            file.seek(place + 8)
            yield from _in_boxes(file.read(length - 8), *MP4_COMMENT)
        place += length
    if place != size:
        raise LabelError(CUT)


MP4_COMMENT = ((b"udta", 0), (b"meta", 4), (b"ilst", 0), (b"\xa9cmt", 0), (b"data", 8))
"""Boxes one in the other around a video's comment, and how many bytes follow each one's head."""


def _in_boxes(content: bytes, *path: tuple[bytes, int]) -> Iterator[bytes]:
    """What the boxes at a path hold."""
    if not path:
        yield content
        return
    (wanted, skipped), *rest = path
    place = 0
    while place + 8 <= len(content):
        length, kind = struct.unpack_from(">I4s", content, place)
        if length < 8:
            return
        if kind == wanted:
            yield from _in_boxes(content[place + 8 + skipped : place + length], *rest)
        place += length


def _in_html(file: Binary, size: int) -> Iterator[bytes]:
    """The comment in the last line of a page."""
    file.seek(max(0, size - MAX_BYTES))
    last = file.read(MAX_BYTES).rstrip(b"\n").rpartition(b"\n")[2]
    if last.startswith(HTML[0]) and last.endswith(HTML[1]):
        yield last[len(HTML[0]) : -len(HTML[1])]


def _digest(fields: Mapping[str, Any], content: Binary) -> str:
    """The SHA-256 of everything in the file except the digest itself."""
    rest = {name: value for name, value in fields.items() if name != "sha256"}
    found = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    buffer = memoryview(bytearray(1 << 18))
    while count := content.readinto(buffer):
        found.update(buffer[:count])
    return found.hexdigest()
