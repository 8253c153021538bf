"""Error messages for settings, in plain words."""

import json
import re
from typing import Any, get_origin

from pydantic import ValidationError

from nsf_pipeline.config.reading import path_of
from nsf_pipeline.config.root import Config
from nsf_pipeline.config.variants import Variant
from nsf_pipeline.errors import shown

PLAIN_WORDS = {
    "a valid array": "a list",
    "an object": "settings by name",
    "Field required": "one more number",
}
"""Replacements for words of pydantic's."""
MOVED: dict[tuple[str | int, ...], str] = {
    ("simulation",): "action_noise_std is now the range policies.action_noise_std, [8.0, 8.0] say",
}
"""Settings of earlier versions, and what took their place."""


MAX_ERRORS = 5
"""Wrong settings that one message names, at most."""
MAX_TEXT = 300
"""Characters of what a message says about one setting, at most."""


def describe_all(error: ValidationError) -> str:
    """An error of pydantic's: what is wrong with each setting, on one line."""
    found = error.errors()
    # A list with a wrong item also counts as too short.
    above = {each["loc"][:level] for each in found for level in range(1, len(each["loc"]))}
    found = [each for each in found if each["loc"] not in above]
    told = "; ".join(shown(_describe(each), MAX_TEXT) for each in found[:MAX_ERRORS])
    return told + f"; and {len(found) - MAX_ERRORS} more" * (len(found) > MAX_ERRORS)


def _describe(error: Any) -> str:
    """The setting's path, what was expected and what was given."""
    where = path_of(tuple(part for part in error["loc"] if part != "[key]"))
    if error["type"] == "value_error":
        message = str(error["ctx"]["error"])
        return f"{where}: {message}" if where else message
    if error["type"] == "extra_forbidden" and error["loc"] in MOVED:
        return f"{where}: unknown setting; {MOVED[error['loc']]}"
    if error["type"] == "extra_forbidden":
        return f"{where}: unknown setting{_nearest(error['loc'])}"
    given = shown(json.dumps(error["input"], ensure_ascii=False))
    hint = ""
    if isinstance(error["input"], str):
        try:
            float(error["input"])
            hint = (
                " (a number given as text: write it as 1.0e-3 or 1.0e+3, and set nested "
                "settings in a file, not with --config)"
            )
        except ValueError:
            pass
    expected = re.sub("^[A-Z][a-z]* should (be|have) ", "", error["msg"])
    expected = re.sub(
        " after validation, not (more|[0-9]+)$", "", PLAIN_WORDS.get(expected, expected)
    )
    return f"{where}: expected {expected}, got {given}{hint}"


def _nearest(location: tuple[str | int, ...]) -> str:
    """A known setting with a similar name, or all settings of the section."""
    import difflib

    section: Any = Config
    for part in location[:-1]:
        by_name = get_origin(section) is dict
        section = Variant if by_name else section.model_fields[str(part)].annotation
    names = difflib.get_close_matches(str(location[-1]), section.model_fields, n=1)
    if names:
        return f"; did you mean {names[0]}?"
    return "; expected one of " + ", ".join(section.model_fields)
