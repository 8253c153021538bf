"""What the page has to show: models, a data set and settings, found in the folder of a run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from nsf_pipeline import paths
from nsf_pipeline.config import Config, DMPConfig, load_config
from nsf_pipeline.files import FileError
from nsf_pipeline.model.file import model_header

LONGEST = 24
"""Characters of a name that is a path."""


class Sources(NamedTuple):
    """What the page was started with.

    Attributes:
        models: files of models, by the names that the page gives them.
        dataset: the data set; None if there is none.
        config: settings.
        dmp: what all DMPs have in common, until a policy with others is loaded.
    """

    models: dict[str, Path]
    dataset: Path | None
    config: Config
    dmp: DMPConfig


def find(
    results: Path, models: Sequence[Path] = (), dataset: Path | None = None, config: str = ""
) -> Sources:
    """What there is to show. Files are only looked for; the page says what is wrong with one.

    Args:
        results: the folder of a run's results, in which models and the data set are looked for.
        models: further models.
        dataset: the data set, if it is not the one in `results`.
        config: settings: a YAML file. If empty, the DMPs are those of the first model that can be
            read, and the defaults if there is none.

    Raises:
        ConfigError: the settings cannot be read.
    """
    default, named = paths.below(results, paths.MODEL), {}
    variants = sorted(results.glob("variants/*/model.eqx"))
    for path in (default, *variants):
        if path.is_file():
            named["model" if path == default else path.parent.name] = path
    for path in models:
        named[path.stem if path.stem not in named else _short(path)] = path
    found = paths.below(results, paths.DATASET) if dataset is None else dataset
    settings = load_config(config) if config else Config()
    return Sources(
        named,
        found if dataset or found.is_file() else None,
        settings,
        settings.dmp if config else _dmp_of(list(named.values())),
    )


def from_arguments(arguments: Mapping[str, Any]) -> Sources:
    """What the page's own command line names: --results, --model, --dataset, --config.

    Raises:
        ConfigError: the settings cannot be read.
    """
    given = arguments.get("model", [])
    models = [Path(str(path)) for path in (given if isinstance(given, list) else [given])]
    dataset = arguments.get("dataset")
    return find(
        Path(str(arguments.get("results", paths.RESULTS))),
        models,
        None if dataset is None else Path(str(dataset)),
        str(arguments.get("config", "")),
    )


def _short(path: Path) -> str:
    """The end of a path, as a name."""
    name = str(path)
    return name if len(name) <= LONGEST else f"…{name[1 - LONGEST :]}"


def _dmp_of(models: Sequence[Path]) -> DMPConfig:
    for path in models:
        try:
            fields = model_header(path)
        except FileError:
            continue
        return DMPConfig.model_validate(fields["config"]["dmp"], strict=False)
    return DMPConfig()
