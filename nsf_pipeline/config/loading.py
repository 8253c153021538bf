"""Settings read from YAML or JSON, and checked."""

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from nsf_pipeline.config.root import Config
from nsf_pipeline.config.section import ConfigError
from nsf_pipeline.config.variants import DEFAULTS, merged
from nsf_pipeline.config.wording import describe

STAMP = ".stamp.json"
"""End of the name of a file with the settings of one stage, as the workflow gives them."""


def load_config(source: str | Path) -> Config:
    """Settings from a file in YAML or JSON, from a stamp, or from JSON text.

    The workflow writes a stamp with the settings that shape one stage; reading any other is an
    error. Settings from a stamp or from JSON text are checked one by one, those from a file are
    also checked for contradictions.

    Raises:
        ConfigError: one line that names the file or setting, what was expected and what was given.
    """
    text = name = str(source)
    is_text, is_stamp = text.lstrip().startswith("{"), text.endswith(STAMP)
    if is_text:
        name = "--config"
    else:
        try:
            text = Path(source).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a text file"
            raise ConfigError(f"{name}: cannot read the settings: {reason}") from None
    # YAML would read JSON's 1e-05 as text.
    is_json = is_text or name.endswith(".json")
    read: Callable[[str], Any] = json.loads if is_json else yaml.safe_load
    parse = parse_settings if is_text or is_stamp else parse_config
    try:
        settings = read(text)
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        language = "YAML" if isinstance(error, yaml.YAMLError) else "JSON"
        reason = " ".join(str(error).split())
        raise ConfigError(f"{name}: not valid {language}: {reason}") from None
    if settings is None:
        settings = {}
    if not isinstance(settings, Mapping):
        raise ConfigError(f"{name}: expected settings by name, got {type(settings).__name__}")
    config = parse(settings, name)
    # A stamp never holds these two, which shape no stage; any stage may read them.
    return config.only(*settings, "runtime", "wandb") if is_stamp else config


def parse_config(settings: Mapping[Any, Any], source: str = "config") -> Config:
    """All settings of a run as read from YAML or JSON, checked one by one and together.

    Raises:
        ConfigError: one line that names the setting, what was expected and what was given.
    """
    config = parse_settings(settings, source)
    for contradiction in _contradictions(config):
        raise ConfigError(f"{source}: {contradiction}")
    return config


def parse_settings(settings: Mapping[Any, Any], source: str = "config") -> Config:
    """Settings as read from YAML or JSON, checked one by one.

    Raises:
        ConfigError: one line that names the setting, what was expected and what was given.
    """
    for path in _unnamed(settings):  # JSON would turn them into text
        raise ConfigError(f"{source}: {path}: expected a name as text; put it in quotes")
    if isinstance(settings.get("variants"), Mapping):  # others keep their defaults
        defaults = {name: default.changes for name, default in DEFAULTS.items()}
        settings = {**settings, "variants": merged(defaults, settings["variants"])}
    try:
        return Config.model_validate_json(json.dumps(settings))
    except ValidationError as error:
        raise ConfigError(f"{source}: " + "; ".join(map(describe, error.errors()))) from None
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{source}: not plain settings: {error}") from None


def _unnamed(settings: Any) -> Iterator[str]:
    """Paths of keys that are not text, such as `on` and `~` in YAML."""
    pairs = settings.items() if isinstance(settings, Mapping) else ()
    for name, value in pairs:
        if not isinstance(name, str):
            yield json.dumps(name, default=str)
        yield from (f"{name}.{path}" for path in _unnamed(value))


def _contradictions(config: Config) -> Iterator[str]:
    """Contradictions in the settings, then those that only a variant has."""
    own = list(config.contradictions())
    yield from own
    for name in config.variant_names:
        try:
            found = list(config.variant(name).contradictions())
        except ValidationError as error:
            found = [describe(each) for each in error.errors()]
        yield from (f"variants.{name}: {each}" for each in found if each not in own)
