"""What made a file: the settings, the code and the packages behind it.

Every file carries a record: the settings that shaped the file and its sources, a digest of each
module that ran, and the versions of the packages that these modules compute with. Comparing the
record with today's settings, modules and versions shows whether the file is current; no list of
stages or jobs is needed. Settings are compared by value and code by its syntax tree, so a new file
time, a comment or a docstring changes nothing.

`DECIDING` lists the packages whose versions count. They count for each file that was made, from the
start of the chain on, by a module that imports them:

- NumPy: every file, except the page of settings;
- gym-pusht and gymnasium: policies, rollouts, ensembles, models, and what is made from these;
- pymunk: policies, rollouts, ensembles, scores, and what is made from these;
- JAX, jaxlib, equinox: models, scores, predictions;
- optax: models, and what is made from these;
- diffrax: only models of the kind `neural_sde`, and comparisons that include one;
- scoringrules, pandas: scores.

What draws, encodes or stores does not count (matplotlib, OpenCV, ffmpeg, h5py), nor does Python.

Where the settings name a class of the user's as the kind of a model, the code behind it counts as
the modules do (`user_code`): it stands among a record's `modules`.
"""

import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from nsf_pipeline import label, user_code
from nsf_pipeline.config import KINDS, Config
from nsf_pipeline.errors import shown
from nsf_pipeline.files import FileError, again, open_file, read_file
from nsf_pipeline.syntax import code_of

PACKAGE = Path(__file__).parent
# These modules shape no result: they check settings (which are compared by value), arguments or
# files, hash, log, keep checkpoints or show progress. Changed curves are no reason to train a model
# again.
NOT_HASHED = frozenset(
    f"nsf_pipeline.{name}"
    for name in (
        "checks",
        "config",
        "data.checking",
        "data.faults",
        "drawing",
        "errors",
        "paths",
        "provenance",
        "stages",
        "syntax",
        "system",
        "tracking",
        "training.callbacks",
        "training.checkpoints",
        "training.curves",
        "training.progress",
        "training.stopping",
        "user_code",
    )
)
ROOMS_NOT_HASHED = ("nsf_pipeline.config.", "nsf_pipeline.system.")
"""Starts of the names of modules in rooms of which none is hashed either."""
SHAPE_NOTHING = ("runtime", "wandb")
"""Settings that any stage may read, because they change no result."""
DECIDING = {
    "numpy": ("numpy",),
    # Its resets draw from gymnasium's random numbers.
    "gym_pusht": ("gym-pusht", "gymnasium"),
    "gymnasium": ("gymnasium",),
    "pymunk": ("pymunk",),
    "jax": ("jax", "jaxlib"),
    "equinox": ("equinox",),
    "optax": ("optax",),
    "diffrax": ("diffrax",),
    "scoringrules": ("scoringrules",),
    "pandas": ("pandas",),
}
"""The packages that decide numbers, by the name under which modules import them."""
ONLY_FOR_KIND = {"diffrax": "neural_sde"}
"""Packages that count only for one kind of model; modules of all kinds import each other."""
NAMING = {"model", "variants"}
"""Sections that may name classes of the user's."""
OWN = f"{PACKAGE.name}."
"""Start of the names of this package's modules."""
MAX_NAMED = 3
"""Changes that a message names, at most."""
MAX_VALUE = 200
"""Characters of a setting's value that a message shows, at most."""
MAX_FILES = 1000
"""Files that a provenance file covers, at most."""


class Stage(NamedTuple):
    """One kind of job.

    Attributes:
        name: its name.
        module: the module of this package where its code starts.
        reads: the sections, or single settings, of the config that shape its files.
    """

    name: str
    module: str
    reads: tuple[str, ...]

    def settings(self, config: Config) -> dict[str, Any]:
        """The settings that it reads, by name, as plain JSON values."""
        return config.model_dump(mode="json", include=set(self.reads))

    def view(self, config: Config) -> Config:
        """Only the settings that the stage declares; reading any other is an error."""
        return config.only(*self.reads, *SHAPE_NOTHING)

    def modules(self) -> dict[str, str]:
        """Digest of every module that its code imports from this package."""
        return modules_from(self.module)

    def digest(self, config: Config, **more: Any) -> str:
        """Hash of its settings, its own code with the packages' versions, and what `more` gives."""
        settings = self.settings(config)
        modules = self.modules() | _users(settings)
        return _digest([self.name, settings, modules, versions_for(modules, settings), more])


@dataclass(frozen=True)
class Record:
    """What made a file.

    Attributes:
        stage: name of the stage.
        settings: those that shaped it and its sources, by name, as plain JSON values.
        modules: digest of each module that made it and its sources, by name.
        fingerprint: sixteen hexadecimal digits that change with settings, modules or versions.
        variant: the model's variant that the settings are for; empty for the default model.
        versions: of the packages that decided the numbers of the file and its sources, by name.
    """

    stage: str
    settings: dict[str, Any]
    modules: dict[str, str]
    fingerprint: str
    variant: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    @classmethod
    def new(
        cls, stage: Stage, config: Config | None, *sources: "Record", variant: str = ""
    ) -> "Record":
        """The record of a file that a stage is about to make.

        Args:
            stage: the stage.
            config: today's settings, with a variant's changes; None to take those of the sources.
            sources: records of the files that it is made from.
            variant: name of the model's variant.
        """
        settings: dict[str, Any] = {}
        modules: dict[str, str] = {}
        for source in sources:
            settings |= source.settings
            modules |= source.modules
        if config:
            own = stage.settings(config)
            settings |= own
            modules |= _users(own)
        modules |= stage.modules()
        used = versions_for(modules, settings)
        for source in sources:  # what came from another version stays so, whatever runs now
            used |= {name: old for name, old in source.versions.items() if used.get(name) != old}
        fingerprint = fingerprint_of(settings, modules, used)
        return cls(stage.name, settings, modules, fingerprint, variant, used)

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> "Record":
        """Read a record from a file's attributes, header or comment; mappings may be JSON text.

        Raises:
            LabelError: the record cannot be read.
        """
        try:
            settings = _plain(fields.get("settings", fields.get("config", {})))
            modules = _plain(fields.get("modules", {}))
            stated = _plain(fields.get("versions", {}))
            counting = packages_of(modules, settings)
            fingerprint = fields.get("fingerprint")
            return cls(
                stage=_word(fields.get("stage", "")),
                settings=settings,
                modules={name: _word(digest) for name, digest in modules.items()},
                fingerprint=_word(str(None) if fingerprint is None else fingerprint),
                variant=_word(fields.get("variant", "")),
                versions={name: _word(stated[name]) for name in counting if name in stated},
            )
        except (AttributeError, TypeError, ValueError):
            raise label.LabelError("the record of what made it cannot be read") from None

    def fields(self) -> dict[str, Any]:
        """The record as files hold it: `stage`, `fingerprint`, `config`, `modules`, `versions`."""
        found = {
            "stage": self.stage,
            "fingerprint": self.fingerprint,
            "config": self.settings,
            "modules": self.modules,
            "versions": versions() | self.versions,
        }
        return found | ({"variant": self.variant} if self.variant else {})

    def changes(self, config: Config) -> list[str]:
        """What differs today, in words; empty if the file is current.

        Args:
            config: today's settings, with a variant's changes; what a view lacks is not compared,
                nor is the version of a package that is not installed here.
        """
        shared = config.held & self.settings.keys()
        before = dict(_leaves({name: self.settings[name] for name in shared}))
        now = dict(_leaves(config.model_dump(mode="json", include=shared)))
        modules = {name: digest for name in self.modules if (digest := _module_digest(name))}
        # What is the user's follows from today's settings, never from names in a file.
        modules |= _users(config.model_dump(mode="json", include=shared))
        if not NAMING & self.settings.keys() <= shared:  # a view that does not say what is
            modules |= {n: self.modules[n] for n in self.modules if not n.startswith(OWN)}
        found = [
            f"{name} was {_shown(before.get(name))}, is {_shown(now.get(name))}"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name)
        ]
        for name, version in sorted(self.versions.items()):
            if version_of(name) not in (version, None):
                found.append(f"{name} was {version}, is {version_of(name)}")
        for name in sorted(self.modules):
            if self.modules[name] != modules.get(name):
                found.append(f"{name} {'changed' if name in modules else 'is gone'}")
        own = fingerprint_of(self.settings, self.modules, self.versions)
        if not self.modules:
            return ["it does not say what made it"]
        if not found and self.fingerprint != own:
            found = [f"made by other settings or code (fingerprint {self.fingerprint}, now {own})"]
        return found


def require_current(path: Path | str, made: Record, config: Config | None) -> Record:
    """Check that today's settings and code would make a file; return its record.

    Args:
        path: the file, which is about to be read.
        made: its record.
        config: today's settings; None accepts any file.

    Raises:
        FileError: the file is stale; the message says what changed and how to make it again.
    """
    changes = made.changes(config) if config else []
    if changes:
        more = f"; and {len(changes) - MAX_NAMED} more" if len(changes) > MAX_NAMED else ""
        raise FileError(f"{path}: {'; '.join(changes[:MAX_NAMED])}{more}; {again(path)}")
    return made


def require_reports(provenance: Path, reports: Iterable[Path], config: Config | None) -> Record:
    """Check that reports are whole and current; return their record.

    Args:
        provenance: JSON beside them that says what made them, with the checksum of each.
        reports: those that are about to be read.
        config: today's settings; None accepts any.

    Raises:
        FileError: a file cannot be read, was altered, or is stale.
    """
    try:
        fields = label.mapping(read_file(provenance, label.MAX_BYTES))
        made, digests = Record.read(fields), digests_in(fields)
    except OSError as error:
        raise FileError(f"{provenance}: cannot read it: {error.strerror}") from None
    except label.LabelError as error:
        raise FileError(
            f"{provenance}: expected JSON that says what made the reports; {again(provenance)} "
            f"({error})"
        ) from None
    require_current(provenance, made, config)
    for path in reports:
        try:
            digest = digest_of(path)
        except OSError as error:
            raise FileError(f"{path}: cannot read it: {error.strerror}") from None
        if digest != digests.get(path.name):
            raise FileError(f"{path}: not what {provenance} says was written; {again(path)}")
    return made


def digests_in(fields: Mapping[str, Any]) -> dict[str, str]:
    """The checksums that a provenance file gives of the files beside it, by their names.

    Raises:
        LabelError: they are none, too many, or of files elsewhere.
    """
    found = fields.get("files", {})
    if not isinstance(found, dict) or len(found) > MAX_FILES:
        raise label.LabelError("its list of files cannot be read")
    for name, digest in found.items():
        if Path(name).name != name or name in ("", "..") or not isinstance(digest, str):
            raise label.LabelError(f"its list of files cannot be read at {name!r}")
    return found


def digest_of(path: Path) -> str:
    """The SHA-256 of a file.

    Raises:
        OSError: it cannot be read, or is no ordinary file.
    """
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint_of(
    settings: Mapping[str, Any], modules: Mapping[str, str], versions: Mapping[str, str]
) -> str:
    """Sixteen hexadecimal digits that stand for settings, modules and versions."""
    return _digest({"settings": settings, "modules": modules, "versions": versions})


@cache
def modules_from(module: str) -> dict[str, str]:
    """Digests of a module and of all modules of this package that it imports, directly or not."""
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found or name in NOT_HASHED or name.startswith(ROOMS_NOT_HASHED):
            continue
        digest = _module_digest(name)
        if digest is None:  # a name inside a module, or the package itself
            continue
        found[name] = digest
        waiting.append(name.rpartition(".")[0])  # importing it runs its package first
        waiting.extend(_imports(name))
    return dict(sorted(found.items()))


def packages_of(modules: Iterable[str], settings: Mapping[str, Any]) -> list[str]:
    """The packages whose versions count for what modules of this package make, in order.

    Args:
        modules: names of the modules that ran.
        settings: those that shaped the result, by name, as plain JSON values.
    """
    imported = frozenset[str]().union(*map(_tops, modules))
    kinds = _kinds(settings)
    return sorted(
        name
        for top in imported & DECIDING.keys()
        for name in DECIDING[top]
        if ONLY_FOR_KIND.get(top) in (None, *kinds)
    )


def _kinds(settings: Mapping[str, Any]) -> set[Any]:
    """The kinds of the models that settings describe; None where one is not changed."""
    models = [settings, *(settings.get("variants") or {}).values()]
    return {((model or {}).get("model") or {}).get("kind") for model in models}


def _users(settings: Mapping[str, Any]) -> dict[str, str]:
    """Digests of the user's code that settings name, and of this package's that it imports."""
    found: dict[str, str] = {}
    for kind in sorted(kind for kind in _kinds(settings) if kind and kind not in KINDS):
        for name, digest in user_code.digests(kind).items():
            found |= modules_from(name) if name.startswith(OWN) else {name: digest}
    return {name: digest for name, digest in found.items() if digest}


def versions_for(modules: Iterable[str], settings: Mapping[str, Any]) -> dict[str, str]:
    """Versions of the packages that count for what modules make; those not installed are absent."""
    found = {name: version_of(name) for name in packages_of(modules, settings)}
    return {name: version for name, version in found.items() if version}


@cache
def version_of(package: str) -> str | None:
    """The version of an installed package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def versions() -> dict[str, str]:
    """Versions of Python, of this package, and of those that can change numbers or how they lie."""
    found = {"python": platform.python_version()}
    for name in ("nsf_pipeline", "h5py", *sum(DECIDING.values(), ())):
        if version := version_of(name):
            found[name] = version
    return found


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> dict[str, Any]:
    """A mapping; HDF5 attributes hold it as JSON text."""
    found = label.mapping(value.encode()) if isinstance(value, str) else value
    if not isinstance(found, Mapping):
        raise label.LabelError("expected a mapping")
    return dict(found)


def _word(value: Any) -> str:
    """A short text that a message can hold."""
    if not isinstance(value, str) or not value.isprintable() or len(value) > label.MAX_NAME:
        raise label.LabelError("expected a word")
    return value


def _leaves(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Each setting's path and its value as JSON."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", json.dumps(value, sort_keys=True)


def _shown(value: str | None) -> str:
    return "not there" if value is None else shown(value, MAX_VALUE)


@cache
def _source(name: str) -> bytes | None:
    """The text of a module of this package; None if there is none of that name."""
    package, *parts = name.split(".")
    if package != PACKAGE.name or not parts or not all(part.isidentifier() for part in parts):
        return None  # names come from files, too, and must not lead elsewhere
    base = PACKAGE.joinpath(*parts)
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path.read_bytes()
    return None


def _module_digest(name: str) -> str | None:
    """Hash of what a module of this package does; None if there is none of that name."""
    source = _source(name)
    return None if source is None else code_of(source).digest


def _imports(name: str) -> frozenset[str]:
    source = _source(name)
    return frozenset() if source is None else code_of(source).imports


def _tops(name: str) -> frozenset[str]:
    """First parts of the names that a module imports."""
    return frozenset(imported.partition(".")[0] for imported in _imports(name))
