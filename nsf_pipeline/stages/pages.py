"""Pages of the report: tables, videos and settings as HTML.

Snakemake's report shows only pictures and HTML, and offers other files for download. Each page
contains everything that it shows and fetches nothing.
"""

import base64
import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import markdown
import yaml
from pydantic import BaseModel

from nsf_pipeline import label
from nsf_pipeline.config import Config
from nsf_pipeline.files import FileError, again, read_file, replacing
from nsf_pipeline.provenance import Record, require_current, require_reports
from nsf_pipeline.stages import STAGES, TITLE
from nsf_pipeline.system.printing import say

MAX_TEXT, MAX_VIDEO = 1 << 20, 1 << 28
"""Bytes of a file of tables, and of a video, at most."""
BESIDE_TEXT = (
    *("html", "link", "reference", "short_reference", "autolink", "automail"),
    *("image_link", "image_reference", "short_image_ref"),
)
"""Parts of Markdown that no table of ours has."""
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; margin: 1.5rem; }
table { border-collapse: collapse; margin: 1rem 0; }
th, td { padding: 0.2rem 0.7rem; border-bottom: 1px solid #ddd; text-align: left; }
th { border-bottom: 2px solid #888; }
tr:hover td { background: #f2f5fa; }
.changed td { font-weight: 600; }
h1 { font-size: 1.4rem; }
p, ul { max-width: 60rem; }
figure { display: inline-block; margin: 0 1rem 1.5rem 0; vertical-align: top; }
video { display: block; max-width: 100%; border: 1px solid #ddd; }
figcaption { color: #666; max-width: 32rem; }
pre { background: #f6f6f6; padding: 1rem; overflow-x: auto; }
"""


def tables(
    config: Config | None, sources: Sequence[Path], provenance: Sequence[Path], output: Path
) -> None:
    """A page of tables.

    Args:
        config: settings that must have made the tables; None accepts any.
        sources: Markdown files, in the order of the page.
        provenance: JSON that says what made each table; empty to accept any.
        output: the page.

    Raises:
        FileError: a file cannot be read, was altered or is stale, or the page cannot be written.
    """
    texts = [_text(table) for table in sources]
    beside = list(zip(provenance, sources, strict=bool(provenance)))
    made = [require_reports(path, [table], config) for path, table in beside]
    reader = markdown.Markdown(extensions=["tables"])
    # Links and HTML are shown as they stand there, so that a page fetches and obeys nothing.
    reader.preprocessors.deregister("html_block")
    for name in BESIDE_TEXT:
        reader.inlinePatterns.deregister(name)
    try:
        body = reader.convert("\n\n".join(texts))
    except RecursionError:
        names = ", ".join(map(str, sources))
        raise FileError(f"{names}: not tables: nested too deeply; name others") from None
    _write(output, "Tables", body, Record.new(STAGES["table_page"], None, *made))


def videos(config: Config | None, sources: Sequence[Path], output: Path) -> None:
    """A page of videos, each above its title; one without a title, above its file's name.

    Args:
        config: settings that must have made the videos; None accepts any.
        sources: the videos.
        output: the page.

    Raises:
        FileError: a video cannot be read, was not made by this package or is stale, or the page
            cannot be written.
    """
    figures, made = [], []
    for path in sources:
        content = _read(path, MAX_VIDEO)
        try:
            fields = label.find(content)
            made.append(Record.read(fields))
        except label.LabelError as error:
            raise FileError(
                f"{path}: {error}; expected a video that this package made; {again(path)}"
            ) from None
        require_current(path, made[-1], config)
        source = f"data:video/mp4;base64,{base64.b64encode(content).decode()}"
        figures.append(
            f'<figure><video controls loop muted preload="metadata" src="{source}"></video>'
            f"<figcaption>{escape(str(fields.get(TITLE, _shown_name(path))))}</figcaption></figure>"
        )
    _write(output, "Videos", "\n".join(figures), Record.new(STAGES["video_page"], None, *made))


def settings(config: Config, output: Path) -> None:
    """A page of all settings; those that differ from their defaults are in bold.

    Raises:
        FileError: it cannot be written.
    """
    lines = ["<table><thead><tr><th>setting</th><th>value</th><th>default</th><th>meaning</th>"]
    lines.append("</tr></thead><tbody>")
    for name, value, default, meaning in _leaves(config, Config()):
        kind = ' class="changed"' if value != default else ""
        cells = (name, json.dumps(value), json.dumps(default), meaning)
        lines.append(f"<tr{kind}>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>")
    text = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False)
    lines.append("</tbody></table><h2>As a file for <code>--configfile</code></h2>")
    lines.append(f"<pre>{escape(text)}</pre>")
    _write(output, "Settings", "\n".join(lines), Record.new(STAGES["settings_page"], config))


def _leaves(section: BaseModel, default: BaseModel) -> Iterator[tuple[str, Any, Any, str]]:
    """Name, value, default and meaning of each setting, as plain JSON values."""
    values, defaults = (given.model_dump(mode="json") for given in (section, default))
    for name, field in type(section).model_fields.items():
        inner, usual = getattr(section, name), getattr(default, name)
        if isinstance(inner, BaseModel):
            for path, *rest in _leaves(inner, usual):
                yield (f"{name}.{path}", *rest)
        else:
            yield name, values[name], defaults[name], " ".join((field.description or "").split())


def _shown_name(path: Path) -> str:
    """A video's path below `videos/`."""
    _, found, below = path.as_posix().rpartition("/videos/")
    return below if found else path.name


def _text(path: Path) -> str:
    try:
        text = _read(path, MAX_TEXT).decode("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise FileError(f"{path}: not a text file; expected Markdown")
    return text


def _read(path: Path, most: int) -> bytes:
    try:
        return read_file(path, most)
    except OSError as error:
        raise FileError(f"{path}: cannot read it: {error.strerror}") from None


def _write(output: Path, title: str, body: str, made: Record) -> None:
    # At the end, so that a truncated page lacks it. Escaped, so that no setting ends the comment.
    made_by = label.embed(made.fields()).replace(">", "\\u003e")
    text = (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>\n'
        f"<style>{STYLE}</style></head>\n<body>\n{body}\n</body>\n</html>\n<!-- {made_by} -->\n"
    )
    with replacing(output) as beside:
        beside.write_text(text, encoding="utf-8")
    say(f"{output}: {len(text) / 1e6:.2f} MB")
