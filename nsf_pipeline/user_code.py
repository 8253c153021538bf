"""Code of the user's own, which the settings name: found and hashed without running it; imported.

`model.kind` of a variant may be `package.module:Class`. The module is looked for where Python
looks, and then in the run's folder. Only settings name code: no file that this package reads does.

What counts for whether a file is current: the module, by its syntax tree; the modules that it
imports, likewise, if they lie in no folder of installed packages; and of installed packages the
version.
"""

import ast
import importlib
import inspect
import os
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import packages_distributions, version
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from nsf_pipeline.errors import UserError, on_one_line
from nsf_pipeline.syntax import code_of

INSTALLED = {"site-packages", "dist-packages"}
"""Folders of installed packages have one of these names."""
METHODS = {
    "__init__": ("settings", "dmp"),
    "fit": ("data", "key", "report"),
    "sample": ("keys", "state", "t_init", "t_final", "condition", "num_samples"),
    "arrays": (),
    "load": ("arrays",),
}
"""What a user's class must have, and the arguments that each is called with, in this order."""
OPTIONAL = {"log_prob": ("next_state", "state", "t_init", "t_final", "condition")}
"""What it may have."""


def require(kind: str) -> None:
    """Check, without running it, that a user's class is there and has the methods that it needs.

    Args:
        kind: `package.module:Class`.

    Raises:
        UserError: one line: it is missing, or a method has other arguments.
    """
    module, _, name = kind.partition(":")
    source = _source(module)
    if source is None:
        raise UserError(
            f"{kind}: there is no module {module} where Python looks, nor in {os.getcwd()}"
        )
    path, text = source
    tree = _parsed(path, text)
    if name not in set(_names(tree.body)):
        raise UserError(f"{kind}: {path} has no class {name}")
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            _require_methods(kind, {each.name: each.args for each in _functions(node)}, node.bases)


def imported(kind: str) -> Any:
    """Import a user's class: this runs the user's code.

    Args:
        kind: `package.module:Class`.

    Raises:
        UserError: one line: it cannot be imported, or lacks what it needs.
    """
    require(kind)
    module, _, name = kind.partition(":")
    if (folder := os.getcwd()) not in sys.path:
        sys.path.append(folder)
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:
        reason = on_one_line(f"{type(error).__name__}: {error}")
        raise UserError(f"{kind}: cannot import it: {reason}") from error
    if not inspect.isclass(found):
        raise UserError(f"{kind}: expected a class")
    for method, arguments in (METHODS | OPTIONAL).items():
        function = getattr(found, method, None)
        if function is None and method in OPTIONAL:
            continue
        try:
            inspect.signature(function).bind("self", *arguments)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            raise UserError(_expected(kind, method)) from None
    return found


@cache
def digests(kind: str) -> dict[str, str]:
    """What counts of a user's class: digests of modules and versions of packages, by name.

    Modules of this package that it imports are there by name, with an empty digest. If the class
    is not there, nothing is.

    Args:
        kind: `package.module:Class`.

    Raises:
        UserError: one line: a module of the user's is no Python.
    """
    found: dict[str, str] = {}
    waiting, seen = [kind.partition(":")[0]], set[str]()
    while waiting:
        name = waiting.pop()
        top = name.partition(".")[0]
        if name in seen or top in sys.stdlib_module_names:
            continue
        seen.add(name)
        if top == __package__:
            found[name] = ""
            continue
        if name != top:
            waiting.append(name.rpartition(".")[0])  # importing it runs its package first
        spec = _spec(name)
        if spec is None:  # a name inside a module
            continue
        if _is_installed(spec):
            found |= {each: version(each) for each in _distributions().get(top, [])}
        elif source := _text(spec):
            path, text = source
            _parsed(path, text)
            code = code_of(text)
            found[name] = code.digest
            package = name if spec.submodule_search_locations else name.rpartition(".")[0]
            waiting += _absolute(code.imports, package)
    return dict(sorted(found.items()))


_distributions = cache(packages_distributions)


def _absolute(names: Iterable[str], package: str) -> Iterator[str]:
    """Names of imports, those that start with dots in full; without those that lead nowhere."""
    for name in names:
        try:
            yield resolve_name(name, package)
        except ImportError:
            continue


def _spec(name: str) -> ModuleSpec | None:
    """Where a module lies; None if there is none. It is not imported, nor is its package."""
    spec, path = None, None
    parts = name.split(".")
    for stop in range(1, len(parts) + 1):
        spec = _found(".".join(parts[:stop]), path)
        if spec is None:
            return None
        path = spec.submodule_search_locations or []
    return spec


def _found(name: str, path: Any) -> ModuleSpec | None:
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        spec = find(name, path) if find else None
        if isinstance(spec, ModuleSpec):
            return spec
    return PathFinder.find_spec(name, [os.getcwd()]) if path is None else None


def _is_installed(spec: ModuleSpec) -> bool:
    places = [spec.origin or "", *(spec.submodule_search_locations or [])]
    return any(INSTALLED & set(Path(place).parts) for place in places)


def _source(module: str) -> tuple[Path, bytes] | None:
    spec = _spec(module)
    return None if spec is None else _text(spec)


def _text(spec: ModuleSpec) -> tuple[Path, bytes] | None:
    """The path and text of a module of Python; None of another."""
    if not spec.has_location or not str(spec.origin).endswith(".py"):
        return None
    path = Path(str(spec.origin))
    try:
        return path, path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot read it: {error.strerror}") from None


def _parsed(path: Path, text: bytes) -> ast.Module:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError) as error:
        where = getattr(error, "lineno", None)
        line = f", line {where}" if where else ""
        reason = on_one_line(getattr(error, "msg", error))
        raise UserError(f"{path}{line}: no Python: {reason}") from None


def _names(body: Iterable[ast.stmt]) -> Iterator[str]:
    """The names that statements define, import or assign, also within `if` and `try`."""
    for node in body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            yield from (each.id for each in node.targets if isinstance(each, ast.Name))
        elif isinstance(node, ast.If | ast.Try):
            yield from _names(node.body)


def _functions(node: ast.ClassDef) -> Iterator[ast.FunctionDef]:
    return (each for each in node.body if isinstance(each, ast.FunctionDef))


def _require_methods(kind: str, found: dict[str, ast.arguments], bases: list[ast.expr]) -> None:
    for method, arguments in (METHODS | OPTIONAL).items():
        if method not in found:
            if method in METHODS and not bases:  # else it may be inherited
                raise UserError(_expected(kind, method))
        elif not _takes(found[method], 1 + len(arguments)):
            raise UserError(_expected(kind, method))


def _takes(given: ast.arguments, count: int) -> bool:
    """Whether a function can be called with so many arguments by position."""
    named = len(given.posonlyargs) + len(given.args)
    needed = named - len(given.defaults)
    only_by_name = any(default is None for default in given.kw_defaults)
    return needed <= count and (count <= named or given.vararg is not None) and not only_by_name


def _expected(kind: str, method: str) -> str:
    arguments = ", ".join(("self", *(METHODS | OPTIONAL)[method]))
    return f"{kind}: expected a method {method}({arguments}); see docs/bring_your_model.md"
