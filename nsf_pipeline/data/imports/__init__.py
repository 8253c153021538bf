"""Demonstrations of other people: one module a format, and the table of all formats here."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from nsf_pipeline.data.imports import diffusion_policy, minari
from nsf_pipeline.data.imports.demonstration import Demonstration as Demonstration
from nsf_pipeline.data.imports.stretches import SHORTEST as SHORTEST
from nsf_pipeline.data.imports.stretches import Cutter as Cutter
from nsf_pipeline.data.imports.stretches import Stretch as Stretch
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import FileError

READERS = {"a Minari data set": minari, "a replay buffer of diffusion-policy": diffusion_policy}
"""Every format, by what it is."""


def demonstrations(path: Path) -> Iterator[Demonstration]:
    """The demonstrations in a folder, whatever its format.

    Raises:
        FileError: it is of no known format, or cannot be read.
        UserError: the library that reads it is not installed.
    """
    for reader in READERS.values():
        if reader.fits(path):
            module, package = reader.NEEDS
            if find_spec(module) is None:
                raise UserError(
                    f"{path}: reading it needs {package}, not installed here; `make setup "
                    "EXTRA=exports` in the checkout installs it"
                )
            return reader.read(path)
    raise FileError(f"{path}: expected {' or '.join(READERS)}, found neither")
