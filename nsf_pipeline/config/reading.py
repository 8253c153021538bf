"""The text of settings, YAML or JSON, read into plain values: the only place where either is read.

Both languages allow more than settings need: names that stand twice, of which all but the last
would be dropped without a word, dates, numbers to the base 60, objects of Python's, values that
contain themselves. All of that is refused, and so is text that is too long or too deeply nested.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from nsf_pipeline import files
from nsf_pipeline.config.section import ConfigError
from nsf_pipeline.errors import shown

MAX_BYTES = 1 << 20
"""Size of a file of settings, at most; one with every setting has some 10 kB."""
MAX_DEPTH = 20
"""Levels of names and lists, at most; the deepest setting has 6."""
MAX_VALUES = 200_000
"""Values of all settings together, at most, counted again wherever YAML repeats them (`*name`)."""
MAX_BITS = 128
"""Bits of a whole number, at most: no setting takes one of more."""
MAX_DIGITS = 400
"""Digits of a whole number in JSON, at most; a longer one counts as infinite."""
MAX_PATH = 500
"""Characters of a file's name that a message shows, at most."""
Place = tuple[Any, ...]
"""Where a setting stands: the names of its sections and its own, and numbers in lists."""
PLAIN_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str")}
LIST, NAMES, MERGE = (f"tag:yaml.org,2002:{name}" for name in ("seq", "map", "merge"))
# YAML 1.1 also reads 010 as 8 and 12:30:45 as 45045, which hardly anyone means.
PLAIN_INTEGER = re.compile("[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0b[01_]+)")


@dataclass(frozen=True)
class Other:
    """A value in YAML that no setting takes, such as a date.

    Attributes:
        text: as it was written, or its tag.
    """

    text: str


class Repeated(Exception):  # noqa: N818
    """A name that stands twice, or a value that contains itself; the message says where."""


class _Pairs(list[tuple[str, Any]]):
    """Names and values of an object in JSON, in which a name may still stand twice."""


def read_file(path: str | Path) -> dict[Any, Any]:
    """The settings in a file, by name; empty if the file has none.

    A file whose name ends with .json holds JSON. In any other, JSON is read as JSON, as Snakemake
    does it, and everything else as YAML.

    Raises:
        ConfigError: the file cannot be read or is not what was expected; one line that names it.
    """
    name = shown(str(path), MAX_PATH)
    try:
        text = files.read_file(path, MAX_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{name}: cannot read the settings: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{name}: cannot read the settings: not a text file") from None
    if str(path).endswith(".json"):
        return read_json(text, name)
    try:
        json.loads(text, parse_int=_whole_number)
    except (ValueError, RecursionError):
        return read_yaml(text, name)
    return read_json(text, name)


def read_json(text: str, name: str) -> dict[Any, Any]:
    """The settings in JSON, by name.

    Args:
        text: the JSON.
        name: where it comes from, for messages.

    Raises:
        ConfigError: one line that begins with `name`.
    """
    try:
        settings = _of_json(json.loads(text, object_pairs_hook=_Pairs, parse_int=_whole_number))
    except Repeated as error:
        raise ConfigError(f"{name}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{name}: not valid JSON: nested too deeply") from None
    except ValueError as error:
        raise ConfigError(f"{name}: not valid JSON: {error}") from None
    return _by_name(settings, name)


def read_yaml(text: str, name: str) -> dict[Any, Any]:
    """The settings in YAML, by name.

    Args:
        text: the YAML, one document.
        name: where it comes from, for messages.

    Raises:
        ConfigError: one line that begins with `name`.
    """
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        settings = None if node is None else _Values(loader).of(node)
    except Repeated as error:
        raise ConfigError(f"{name}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{name}: not valid YAML: nested too deeply") from None
    # PyYAML itself stumbles over some escapes and directives.
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"{name}: not valid YAML: {reason}") from None
    return _by_name(settings, name)


def check_plain(settings: Mapping[Any, Any]) -> None:
    """Refuse settings that are more than names, lists, text, numbers, truth values and null.

    Args:
        settings: as read from YAML or JSON, here or by Snakemake.

    Raises:
        ConfigError: one line that begins with the setting's path.
    """
    left = MAX_VALUES

    def check(value: Any, place: Place) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise _wrong(place, f"more than {MAX_VALUES} values, counting repeated ones")
        if len(place) > MAX_DEPTH:
            raise _wrong(place, f"more than {MAX_DEPTH} levels deep")
        match value:
            case None | bool() | float():
                pass
            case int() if abs(value).bit_length() > MAX_BITS:
                digits = round(value.bit_length() * 0.30103) + 1
                raise _wrong(place, f"expected a smaller number, got one of about {digits} digits")
            case int():
                pass
            case str() if not value.isprintable():
                raise _wrong(place, f'expected text that can be printed, got "{shown(value)}"')
            case str():
                pass
            case Mapping():
                for name, each in value.items():
                    below = (*place, name)
                    if not isinstance(name, str):
                        raise _wrong(below, "expected a name as text; put it in quotes")
                    if not name.isprintable():
                        raise _wrong(below, "expected a name that can be printed")
                    check(each, below)
            case list() | tuple():
                for number, each in enumerate(value):
                    check(each, (*place, number))
            case _:
                text = value.text if isinstance(value, Other) else str(value)
                raise _wrong(
                    place,
                    "not plain settings: expected a number, text, true or false, got "
                    f"{shown(text)}",
                )

    check(settings, ())


def path_of(place: Place) -> str:
    """Where a setting stands, in words: names as YAML has them, and numbers in lists."""
    return ".".join(map(_name, place))


def _name(name: Any) -> str:
    match name:
        case str():
            return shown(name)
        case None | bool():
            return json.dumps(name)
        case Other():
            return shown(name.text)
        case int() if name.bit_length() > MAX_BITS:
            return "a large number"
    return shown(str(name))


def _wrong(place: Place, message: str) -> ConfigError:
    return ConfigError(f"{path_of(place)}: {message}")


def _by_name(settings: Any, name: str) -> dict[Any, Any]:
    if settings is None:
        return {}
    if not isinstance(settings, dict):
        raise ConfigError(f"{name}: expected settings by name, got {type(settings).__name__}")
    return settings


def _whole_number(digits: str) -> int | float:
    return int(digits) if len(digits) <= MAX_DIGITS else float(digits)


def _of_json(value: Any, place: Place = ()) -> Any:
    """A value with its objects as dictionaries.

    Raises:
        Repeated: a name stands twice.
    """
    if isinstance(value, _Pairs):
        found: dict[str, Any] = {}
        for name, each in value:
            below = (*place, name)
            if name in found:
                raise Repeated(f"{path_of(below)}: given twice; keep one")
            found[name] = _of_json(each, below)
        return found
    if isinstance(value, list):
        return [_of_json(each, (*place, number)) for number, each in enumerate(value)]
    return value


def _other(node: Any) -> Other:
    """A node as it was written, or its tag."""
    tag = node.tag.replace("tag:yaml.org,2002:", "!!")
    if not isinstance(node, yaml.ScalarNode):
        return Other(tag)
    return Other(node.value if tag == "!!timestamp" else f"{tag} {node.value}")


class _Values:
    """The values of YAML's nodes. What is repeated by `*name` is made once."""

    def __init__(self, loader: yaml.SafeLoader):
        self._loader = loader
        self._made: dict[int, Any] = {}
        self._open: set[int] = set()

    def of(self, node: Any, place: Place = ()) -> Any:
        """The value of a node: plain, or `Other`.

        Raises:
            Repeated: a name stands twice, or the value contains itself.
        """
        key = id(node)
        if key in self._open:
            raise Repeated(f"{path_of(place)}: contains itself")
        if key not in self._made:
            self._open.add(key)
            match node:
                case yaml.MappingNode(tag=tag) if tag == NAMES:
                    self._made[key] = self._names(node.value, place)
                case yaml.SequenceNode(tag=tag) if tag == LIST:
                    self._made[key] = [
                        self.of(each, (*place, number)) for number, each in enumerate(node.value)
                    ]
                case yaml.ScalarNode(tag=tag) if tag in PLAIN_TAGS:
                    self._made[key] = self._scalar(node)
                case _:
                    self._made[key] = _other(node)
            self._open.remove(key)
        return self._made[key]

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        _, _, kind = node.tag.rpartition(":")
        unclear = kind == "int" and not PLAIN_INTEGER.fullmatch(node.value)
        if unclear or (kind == "float" and ":" in node.value):
            return Other(node.value)
        try:
            return self._loader.construct_object(node)
        except (ValueError, KeyError):  # 0x_, or not what its tag says
            return Other(node.value)

    def _names(self, pairs: Sequence[tuple[Any, Any]], place: Place) -> dict[Any, Any]:
        own: dict[Any, Any] = {}
        merged: dict[Any, Any] = {}
        lines: dict[Any, int] = {}
        for key, node in pairs:
            name = self.of(key)
            if not isinstance(name, str | int | float | Other | None):
                name = Other(f"a name that is a {type(name).__name__}")
            if key.tag == MERGE:
                name = "<<"
            below, line = (*place, name), key.start_mark.line + 1
            if name in lines:
                raise Repeated(
                    f"{path_of(below)}: given twice, in lines {lines[name]} and {line}; keep one"
                )
            lines[name] = line
            value = self.of(node, below)
            several = value if isinstance(value, list) else [value]
            if key.tag == MERGE and all(isinstance(each, dict) for each in several):
                for each in reversed(several):
                    merged |= each
            else:
                own[name] = value
        return merged | own
