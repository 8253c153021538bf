"""Labels: one line of JSON at the start of a file that says what it is and what made it.

It holds the size and the SHA-256 of what follows. Reading the label finds a truncated file, reading
the whole file an altered one. Both come before a library parses the content, because parsing
damaged content might never end.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from io import BufferedIOBase, RawIOBase
from typing import Any

START = b'{"format": "nsf_pipeline '
HDF5 = b"\x89HDF\r\n"
"""First line of an HDF5 file that has no label."""
MARK = b"made by nsf_pipeline "
MAX_BYTES = 1 << 20
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
        fields: dict[str, Any] = json.loads(text)
    except ValueError:
        raise LabelError("truncated or damaged: its first line cannot be read") from None
    size = os.fstat(file.fileno()).st_size - file.tell()
    if size != fields.get("size", size):
        raise LabelError(f"truncated or damaged: {size} bytes where {fields['size']} were written")
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


def find(content: bytes) -> dict[str, Any]:
    """The fields of a comment made by `embed`, anywhere in a file's content.

    Raises:
        LabelError: there is none.
    """
    _, mark, rest = content.partition(MARK)
    fields = None
    if mark:
        with suppress(ValueError):
            fields = json.JSONDecoder().raw_decode(rest.decode("utf-8", "replace"))[0]
    if not isinstance(fields, dict):
        raise LabelError("truncated or damaged: it has no label")
    return fields


def _digest(fields: Mapping[str, Any], content: Binary) -> str:
    """The SHA-256 of everything in the file except the digest itself."""
    rest = {name: value for name, value in fields.items() if name != "sha256"}
    found = hashlib.sha256(json.dumps(rest, sort_keys=True).encode())
    buffer = memoryview(bytearray(1 << 18))
    while count := content.readinto(buffer):
        found.update(buffer[:count])
    return found.hexdigest()
