"""What a module does, as a hash of its syntax tree: comments and docstrings change nothing."""

import ast
import hashlib
from functools import cache
from typing import NamedTuple


class Code(NamedTuple):
    """What a module does.

    Attributes:
        digest: a hash of it.
        imports: the names that it imports, not all of which are modules; relative ones start with
            dots, as they stand in the text.
    """

    digest: str
    imports: frozenset[str]


@cache
def code_of(source: bytes) -> Code:
    """What a module's text does.

    Raises:
        SyntaxError: it is no Python.
    """
    tree, said, imports = ast.parse(source), list[str](), set[str]()
    _syntax(tree, said)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            within = base if base.endswith(".") else f"{base}."
            imports |= {base} if node.module else set()
            imports |= {within + alias.name for alias in node.names}
    digest = hashlib.sha256("\0".join(said).encode()).hexdigest()[:16]
    return Code(digest, frozenset(imports))


def _syntax(node: ast.AST, said: list[str]) -> None:
    """Append a tree as text, without positions, docstrings and empty fields (new Pythons add more).

    Each start of the workflow and of a job waits for this; generators would take twice as long.
    """
    said.append(type(node).__name__)
    for name in node._fields:
        value = getattr(node, name, None)
        for each in value if isinstance(value, list) else (value,):
            if isinstance(each, ast.AST):
                if not _is_docstring(each):
                    said.append(name)
                    _syntax(each, said)
            elif each is not None:
                said.append(f"{name}={each!r}")
    said.append(")")


def _is_docstring(node: ast.AST) -> bool:
    """Whether a node is a string on its own: a docstring, also one below an attribute."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
