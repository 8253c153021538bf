"""Writing figures, so that one that cannot be drawn costs nothing but itself."""

import struct
import textwrap
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from nsf_pipeline import label
from nsf_pipeline.files import FileError, again, replacing
from nsf_pipeline.system.printing import say

NOT_DRAWN = "not_drawn"
"""Field of a record: why there is a placeholder in a figure's place."""
SIZE = 640, 160
"""px, of a placeholder."""
MOST_CHARACTERS = 300
"""Characters of a reason, at most."""
Draw = Callable[[], Any]
"""Makes a matplotlib figure. It imports the module that draws, because that may fail, too."""


def write_figure(
    draw: Draw, path: Path, fields: Mapping[str, Any] | None = None, *, dpi: int | None = None
) -> None:
    """Write a figure as PNG.

    Args:
        draw: makes the figure.
        path: the file to write.
        fields: the record to store in the file.
        dpi: dots per inch; None for the usual.

    Raises:
        FileError: it cannot be drawn or written.
    """
    try:
        content = _drawn(draw, fields, dpi)
    except Exception as error:
        raise FileError(f"{path}: cannot draw it: {_reason(error)}") from error
    _write(path, content)


def write_figure_or_placeholder(
    draw: Draw, path: Path, fields: Mapping[str, Any] | None = None
) -> str:
    """Write a figure, or if it cannot be drawn a picture that says so; the job goes on.

    Args:
        draw: makes the figure.
        path: the file to write.
        fields: the record to store in the file. That of a placeholder also says `not_drawn`.

    Returns:
        Why the figure was not drawn; empty if it was.

    Raises:
        FileError: it cannot be written.
    """
    reason = ""
    try:
        content = _drawn(draw, fields, None)
    except Exception as error:
        reason = _reason(error)
        content = _placeholder(reason, fields)
    _write(path, content)
    if reason:
        say(f"{path}: {not_drawn(reason)}; {again(path)}")
    return reason


def not_drawn(reason: str) -> str:
    """What to say of a placeholder, given why the figure was not drawn."""
    return f"a placeholder, because drawing failed: {reason}"


def _drawn(draw: Draw, fields: Mapping[str, Any] | None, dpi: int | None) -> bytes:
    from nsf_pipeline.plotting import as_png

    comment = None if fields is None else label.embed(fields)
    return as_png(draw, comment=comment, **({} if dpi is None else {"dpi": dpi}))


def _reason(error: Exception) -> str:
    text = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
    return textwrap.shorten(text, MOST_CHARACTERS, placeholder=" …")


def _write(path: Path, content: bytes) -> None:
    with replacing(path) as beside:
        beside.write_bytes(content)


def _placeholder(reason: str, fields: Mapping[str, Any] | None) -> bytes:
    """A PNG that says why a figure was not drawn, made without matplotlib."""
    width, height = SIZE
    pixels = _written(f"This figure could not be drawn: {reason}")
    rows = b"".join(b"\0" + pixels[row * width :][:width] for row in range(height))
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))]
    if fields is not None:
        comment = label.embed({**fields, NOT_DRAWN: reason})
        chunks.append((b"tEXt", b"Comment\0" + comment.encode("latin-1")))
    chunks += [(b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


def _written(text: str) -> bytes:
    """Text as grey values; an empty picture if Pillow fails."""
    width, height = SIZE
    try:
        from PIL import Image, ImageDraw

        image = Image.new("L", SIZE, 255)
        lines = textwrap.wrap(text.encode("ascii", "replace").decode(), 90)
        ImageDraw.Draw(image).multiline_text((20, 20), "\n".join(lines), fill=0)
        return image.tobytes()
    except Exception:
        return b"\xf0" * (width * height)
