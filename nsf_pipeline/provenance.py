"""What made a file: the settings and the code behind it.

Every file carries a record: the settings that shaped the file and its sources, and a digest of each
module that ran. Comparing the record with today's settings and modules shows whether the file is
current; no list of stages or jobs is needed. Settings are compared by value and code by its syntax
tree, so a new file time, a comment or a docstring changes nothing.
"""

import ast
import hashlib
import importlib.metadata
import json
import platform
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from nsf_pipeline import label
from nsf_pipeline.config import Config
from nsf_pipeline.files import FileError, again

PACKAGE = Path(__file__).parent
# These modules shape no result: they check settings (which are compared by value), hash, log, keep
# checkpoints or show progress. Changed curves are no reason to train a model again.
NOT_HASHED = frozenset(
    f"nsf_pipeline.{name}"
    for name in (
        "config",
        "errors",
        "paths",
        "provenance",
        "stages",
        "surroundings",
        "tracking",
        "training.callbacks",
        "training.checkpoints",
        "training.curves",
        "training.progress",
        "training.stopping",
    )
)
CONFIG = "nsf_pipeline.config."
"""Start of the names of modules inside `config`; none of them is hashed either."""
SHAPE_NOTHING = ("runtime", "wandb")
"""Settings that any stage may read, because they change no result."""
MAX_NAMED = 3
"""Changes that a message names, at most."""


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
        """Hash of its settings, its own code, and whatever `more` gives."""
        return _digest([self.name, self.settings(config), self.modules(), more])


@dataclass(frozen=True)
class Record:
    """What made a file.

    Attributes:
        stage: name of the stage.
        settings: those that shaped it and its sources, by name, as plain JSON values.
        modules: digest of each module that made it and its sources, by name.
        fingerprint: sixteen hexadecimal digits that change with settings or modules.
        variant: the model's variant that the settings are for; empty for the default model.
    """

    stage: str
    settings: dict[str, Any]
    modules: dict[str, str]
    fingerprint: str
    variant: str = ""

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
            settings |= stage.settings(config)
        modules |= stage.modules()
        return cls(stage.name, settings, modules, fingerprint_of(settings, modules), variant)

    @classmethod
    def read(cls, fields: Mapping[str, Any]) -> "Record":
        """Read a record from a file's attributes, header or comment; mappings may be JSON text.

        Raises:
            LabelError: the record cannot be read.
        """
        settings = fields.get("settings", fields.get("config", {}))
        try:
            return cls(
                stage=str(fields.get("stage", "")),
                settings=_plain(settings),
                modules=_plain(fields.get("modules", {})),
                fingerprint=str(fields.get("fingerprint")),
                variant=str(fields.get("variant", "")),
            )
        except (TypeError, ValueError):
            raise label.LabelError("the record of what made it cannot be read") from None

    def fields(self) -> dict[str, Any]:
        """The record as files hold it: `stage`, `fingerprint`, `config`, `modules`, `versions`."""
        found = {
            "stage": self.stage,
            "fingerprint": self.fingerprint,
            "config": self.settings,
            "modules": self.modules,
            "versions": versions(),
        }
        return found | ({"variant": self.variant} if self.variant else {})

    def changes(self, config: Config) -> list[str]:
        """What differs in today's settings and code, in words; empty if the file is current.

        Args:
            config: today's settings, with a variant's changes; what a view lacks is not compared.
        """
        shared = config.held & self.settings.keys()
        before = dict(_leaves({name: self.settings[name] for name in shared}))
        now = dict(_leaves(config.model_dump(mode="json", include=shared)))
        modules = {name: digest for name in self.modules if (digest := _module_digest(name))}
        found = [
            f"{name} was {before.get(name, 'not there')}, is {now.get(name, 'not there')}"
            for name in sorted(before.keys() | now.keys())
            if before.get(name) != now.get(name)
        ]
        for name in sorted(self.modules):
            if self.modules[name] != modules.get(name):
                found.append(f"{name} {'changed' if name in modules else 'is gone'}")
        own = fingerprint_of(self.settings, self.modules)
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
        fields = json.loads(provenance.read_bytes())
        made, digests = Record.read(fields), dict(fields["files"])
    except OSError as error:
        raise FileError(f"{provenance}: cannot read it: {error.strerror}") from None
    except (AttributeError, KeyError, TypeError, ValueError):
        raise FileError(
            f"{provenance}: expected JSON that says what made the reports; {again(provenance)}"
        ) from None
    require_current(provenance, made, config)
    for path in reports:
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise FileError(f"{path}: cannot read it: {error.strerror}") from None
        if digest != digests.get(path.name):
            raise FileError(f"{path}: not what {provenance} says was written; {again(path)}")
    return made


def fingerprint_of(settings: Mapping[str, Any], modules: Mapping[str, str]) -> str:
    """Sixteen hexadecimal digits that stand for settings and modules."""
    return _digest({"settings": settings, "modules": modules})


@cache
def modules_from(module: str) -> dict[str, str]:
    """Digests of a module and of all modules of this package that it imports, directly or not."""
    found: dict[str, str] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found or name in NOT_HASHED or name.startswith(CONFIG):
            continue
        digest = _module_digest(name)
        if digest is None:  # a name inside a module, or the package itself
            continue
        found[name] = digest
        waiting.append(name.rpartition(".")[0])  # importing it runs its package first
        waiting.extend(_imports(name))
    return dict(sorted(found.items()))


def versions() -> dict[str, str]:
    """Versions of the packages that can change the numbers."""
    names = (
        *("nsf_pipeline", "gym-pusht", "gymnasium", "h5py", "numpy", "pymunk"),
        *("jax", "equinox", "diffrax", "scoringrules"),
    )
    found = {"python": platform.python_version()}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _digest(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> dict[str, Any]:
    """A mapping; HDF5 attributes hold it as JSON text."""
    return dict(json.loads(value) if isinstance(value, str) else value)


def _leaves(settings: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Each setting's path and its value as JSON."""
    for name, value in settings.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", json.dumps(value)


@cache
def _tree(name: str) -> ast.Module | None:
    """The syntax tree of a module of this package; None if there is none of that name."""
    package, *parts = name.split(".")
    if package != PACKAGE.name or not parts:
        return None
    base = PACKAGE.joinpath(*parts)
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return ast.parse(path.read_bytes(), str(path))
    return None


@cache
def _module_digest(name: str) -> str | None:
    """Hash of what a module of this package does; None if there is none of that name."""
    tree = _tree(name)
    if tree is None:
        return None
    return hashlib.sha256("\0".join(_syntax(tree)).encode()).hexdigest()[:16]


@cache
def _imports(name: str) -> frozenset[str]:
    """Names that a module imports from this package; not all of them are modules."""
    found: set[str] = set()
    for node in ast.walk(_tree(name) or ast.Module([], [])):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(name for name in found if name.startswith(f"{PACKAGE.name}."))


def _syntax(node: ast.AST) -> Iterator[str]:
    """A tree as text, without positions, docstrings and empty fields (new Pythons add more)."""
    yield type(node).__name__
    for name, value in ast.iter_fields(node):
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, ast.AST):
                if not _is_docstring(each):
                    yield name
                    yield from _syntax(each)
            elif each is not None:
                yield f"{name}={each!r}"
    yield ")"


def _is_docstring(node: ast.AST) -> bool:
    """Whether a node is a string on its own: a docstring, also one below an attribute."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
