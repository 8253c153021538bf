"""`config.yaml`: every setting with its default, and its description as a comment."""

import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from inspect import getdoc
from typing import Any, NamedTuple

import yaml

from nsf_pipeline.config.root import Config
from nsf_pipeline.config.section import Section
from nsf_pipeline.config.variants import DEFAULTS

WIDTH = 100
WIDEST = 60
"""Columns of a setting with its value that leave room for a comment beside them."""
"""Characters per line, at most."""
HARD_SPACE = "\u00a0"
"""A space inside a range, where lines must not break."""
ABOUT = """\
Every setting, with its default, unit and range. To change some, write only those into a file of
your own and give it with --configfile, or give single ones with --config.
"""
GENERATED = """\
This file and workflow/schemas/config.schema.json are generated from nsf_pipeline/config/. After a
change there, run `python -m nsf_pipeline.config`.
"""


class Row(NamedTuple):
    """A line of YAML, and the comment beside it; empty for none."""

    yaml: str
    comment: str = ""


def config_yaml() -> str:
    """All of `config.yaml`, as text."""
    single, blocks = [], []
    for name, value, setting in _settings(Config()):
        if isinstance(value, Section):
            about, rows = getdoc(type(value)) or "", list(_rows(value, "  "))
        elif name == "variants":
            about, rows = setting["description"], list(_variants())
        else:
            single.append(_row(name, value, setting))
            continue
        blocks.append(f"{_comment(about)}{name}:\n{_aligned(rows)}")
    heading = _comment(ABOUT) + "#\n" + _comment(GENERATED)
    return "\n".join([heading, _aligned(single), *blocks])


def range_of(setting: Mapping[str, Any]) -> str:
    """What the JSON schema of a setting allows, in words; empty where it names no range."""
    match setting:
        case {"const": only}:
            return f"always {only}"
        case {"enum": [*others, last]}:
            return f"{', '.join(map(str, others))} or {last}"
        case {"prefixItems": [first, *_]}:
            return range_of(first)
        case {"items": {"enum": _} as each}:
            return range_of(each)
        case {"items": each, "maxItems": most}:
            return ", ".join(filter(None, (range_of(each), f"at most {most} of them")))
        case {"items": each}:
            return range_of(each)
        case {"minimum": low, "maximum": high}:
            return f"{_number(low)} to {_number(high)}"
        case {"minimum": low, "exclusiveMaximum": high}:
            return f"{_number(low)} or more, below {_number(high)}"
        case {"exclusiveMinimum": low, "maximum": high}:
            return f"above {_number(low)}, to {_number(high)}"
        case {"exclusiveMinimum": low, "exclusiveMaximum": high}:
            return f"above {_number(low)}, below {_number(high)}"
        case {"minimum": low}:
            return f"{_number(low)} or more"
        case {"exclusiveMinimum": low}:
            return f"above {_number(low)}"
        case {"minLength": 1, "maxLength": most}:
            return f"1 to {most} characters"
        case {"minLength": 1}:
            return "not empty"
    return ""


def _number(value: int | float) -> str:
    """A number without zero decimals; a very large or small power of 2 or 10 as 2^n or 10^n."""
    if not 1e-4 < abs(value) < 1e7 and value > 0:
        ten, two = round(math.log10(value)), math.log2(value)
        if value == float(f"1e{ten}"):
            return f"10^{ten}"
        if two.is_integer():
            return f"2^{two:.0f}"
    return str(int(value) if float(value).is_integer() else value)


def _settings(section: Section) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Name, value and JSON schema of each setting."""
    properties = type(section).model_json_schema()["properties"]
    for name, value in section:
        yield name, value, properties[name]


def _rows(section: Section, indent: str) -> Iterator[Row]:
    """A section's settings, nested ones below their section."""
    for name, value, setting in _settings(section):
        if isinstance(value, Section):
            yield Row(f"{indent}{name}:", setting["description"].removesuffix("."))
            yield from _rows(value, indent + "  ")
        else:
            yield _row(f"{indent}{name}", value, setting)


def _row(name: str, value: Any, setting: Mapping[str, Any]) -> Row:
    meaning, allowed = setting["description"].removesuffix("."), range_of(setting)
    if not allowed or _names_all(meaning, setting.get("enum", [])):
        return Row(f"{name}: {_on_one_line(value)}", meaning)
    return Row(f"{name}: {_on_one_line(value)}", f"{meaning} ({allowed.replace(' ', HARD_SPACE)})")


def _variants() -> Iterator[Row]:
    for name, default in DEFAULTS.items():
        yield Row(f"  {name}:", default.meaning.removesuffix("."))
        for section, changes in default.changes.items():
            yield Row(f"    {section}: {_on_one_line(changes)}")


def _names_all(meaning: str, choices: Sequence[Any]) -> bool:
    """Whether the description of a setting names all its choices."""
    return bool(choices) and set(map(str, choices)) <= set(re.findall(r"\w+", meaning))


def _on_one_line(value: Any) -> str:
    """A value as YAML on one line."""
    plain = list(value) if isinstance(value, tuple) else value
    text = yaml.safe_dump([plain], default_flow_style=True, sort_keys=False, width=math.inf)
    return text.strip()[1:-1]


def _comment(text: str) -> str:
    return "".join(f"{line}\n" for line in _wrapped(text, WIDTH))


def _aligned(rows: Sequence[Row]) -> str:
    """Lines of YAML whose comments start in one column; long comments continue below.

    The comment of a long line stands above it.
    """
    column = 2 + max(
        (len(row.yaml) for row in rows if row.comment and len(row.yaml) <= WIDEST), default=0
    )
    lines = []
    for row in rows:
        left = row.yaml
        if row.comment and len(left) > WIDEST:
            indent = left[: -len(left.lstrip())]
            above = _wrapped(row.comment, WIDTH - len(indent))
            lines += [*(f"{indent}{part}" for part in above), left]
            continue
        for part in _wrapped(row.comment, WIDTH - column) or [""]:
            lines.append(f"{left:<{column}}{part}".rstrip())
            left = ""
    return "".join(f"{line}\n" for line in lines)


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of a comment."""
    lines = textwrap.wrap(text, width - 2, break_on_hyphens=False)
    return [f"# {line}".replace(HARD_SPACE, " ") for line in lines]
