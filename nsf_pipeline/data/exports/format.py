"""What a format of the exports is."""

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from nsf_pipeline.data.exports.source import Source
from nsf_pipeline.errors import UserError

EXTRA = "exports"
"""The extra of this package with all libraries that formats need."""


class Format(NamedTuple):
    """A way to write trajectories that some other tool reads.

    Attributes:
        name: of the format.
        reader: what opens it.
        write: writes trajectories into an empty folder; returns what is worth knowing of them, as
            plain JSON values.
        needs: for each library that it needs, the name under which it is imported, and that of the
            package.
        replays: it needs each trajectory simulated again even where no frames are asked for.
    """

    name: str
    reader: str
    write: Callable[[Source, Path], dict[str, Any]]
    needs: tuple[tuple[str, str], ...] = ()
    replays: bool = False

    def require_libraries(self) -> None:
        """Check that what the format needs is installed.

        Raises:
            UserError: it is not.
        """
        lacking = [package for module, package in self.needs if find_spec(module) is None]
        if lacking:
            raise UserError(
                f"the format {self.name} needs {' and '.join(lacking)}, not installed here; "
                f"`make setup EXTRA={EXTRA}` in the checkout installs what all formats need"
            )

    def versions(self) -> dict[str, str]:
        """Versions of the libraries that it needs."""
        found = {}
        for _, package in self.needs:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                found[package] = "unknown"
        return found
