"""Settings read from YAML or JSON, and checked."""

import json
import os
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nsf_pipeline import files
from nsf_pipeline.config.policies import MOST_GIVEN
from nsf_pipeline.config.policy_file import load_policy
from nsf_pipeline.config.reading import MAX_PATH, check_plain, read_file, read_json
from nsf_pipeline.config.root import Config
from nsf_pipeline.config.section import ConfigError
from nsf_pipeline.config.variants import DEFAULTS, merged
from nsf_pipeline.config.wording import describe_all
from nsf_pipeline.errors import shown

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
    text = str(source)
    if text.lstrip().startswith("{"):
        return parse_settings(read_json(text, "--config"), "--config")
    settings, name = read_file(source), shown(text, MAX_PATH)
    if not text.endswith(STAMP):
        return parse_config(settings, name)
    # A stamp never holds these two, which shape no stage; any stage may read them.
    return parse_settings(settings, name).only(*settings, "runtime", "wandb")


def files_given(arguments: Sequence[str]) -> list[Path]:
    """The existing files that a command line of Snakemake's names with `--configfile`.

    Snakemake does not tell a workflow which files its settings come from. Files that only a
    profile names, or a program that calls Snakemake as a library, are not found.

    Args:
        arguments: those of the command line.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--configfile", "--configfiles", nargs="*", action="extend", default=[])
    names: list[str] = parser.parse_known_args(list(arguments))[0].configfile
    # The option --directory has changed the folder meanwhile, but not what the shell says.
    folders = [Path(os.environ.get("PWD", "")), Path()]
    places = ([folder / name for folder in folders] for name in names)
    return [found for each in places for found in list(filter(os.path.exists, each))[:1]]


def check_file(path: str | Path, *, plain: bool = True) -> None:
    """Refuse a file of settings that Snakemake would read without a word, dropping some of it.

    Args:
        path: the file.
        plain: whether it holds nothing but settings, so that dates, for instance, are refused too.

    Raises:
        ConfigError: one line that names the file, and the setting where one is at fault.
    """
    settings = read_file(path)
    if plain:
        _check_plain(settings, shown(str(path), MAX_PATH))


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
    _check_plain(settings, source)
    if isinstance(settings.get("variants"), Mapping):  # others keep their defaults
        defaults = {name: default.changes for name, default in DEFAULTS.items()}
        settings = {**settings, "variants": merged(defaults, settings["variants"])}
    if isinstance(policies := settings.get("policies"), Mapping) and "given" in policies:
        given = _contents(policies["given"], source)
        settings = {**settings, "policies": {**policies, "given": given}}
    try:
        return Config.model_validate_json(json.dumps(settings))
    except ValidationError as error:
        raise ConfigError(f"{source}: {describe_all(error)}") from None


def _contents(given: Any, source: str) -> Any:
    """What the files that `policies.given` names hold; what is no list of names stays as it is."""
    if not isinstance(given, list):
        return given
    found = []
    for number, entry in enumerate(given):
        if isinstance(entry, str):
            try:
                entry = load_policy(entry).model_dump(mode="json")
            except files.FileError as error:
                raise ConfigError(f"{source}: policies.given[{number}]: {error}") from None
        found.append(entry)
    if (size := len(json.dumps(found))) > MOST_GIVEN:
        raise ConfigError(
            f"{source}: policies.given: {len(found)} policies of {size / 1e3:.0f} kB together, "
            f"more than the {MOST_GIVEN / 1e3:.0f} kB that records have room for; name fewer"
        )
    return found


def _check_plain(settings: Mapping[Any, Any], source: str) -> None:
    try:
        check_plain(settings)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _contradictions(config: Config) -> Iterator[str]:
    """Contradictions in the settings, those that only a variant has, and what cannot plan."""
    own = list(config.contradictions())
    yield from own
    if config.model.user_class:
        yield (
            f"model.kind = {config.model.kind}: a class of your own can only be a variant; name it "
            "under variants"
        )
    if config.second_round.trajectories and config.training.trajectories:
        yield (
            f"training.trajectories = {config.training.trajectories} takes the first ones, so "
            f"those of second_round.trajectories = {config.second_round.trajectories} would not be "
            "trained on; set one of the two to 0"
        )
    for name in config.variant_names:
        yield from (f"variants.{name}: {each}" for each in _only_changed(config, name, own))
    yield from config.unable_to_plan()


def require_points(config: Config) -> None:
    """Check the settings of the scaling points, which only `snakemake scaling` needs.

    Raises:
        ConfigError: one line that names a point, and what contradicts what; or there is no point.
    """
    if not config.points:
        raise ConfigError("scaling: it names no model to train; give an axis another value")
    for name, (axis, value, _) in config.points.items():
        for each in _only_changed(config, name, []):
            raise ConfigError(f"scaling.{axis}: {value}: {each}")


def _only_changed(config: Config, name: str, own: Sequence[str]) -> Iterator[str]:
    """Contradictions that a model has and the default one, with its `own` ones, has not."""
    try:
        found = list(config.variant(name).contradictions())
    except ValidationError as error:
        found = [describe_all(error)]
    yield from (each for each in found if each not in own)
