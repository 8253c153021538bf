"""Matplotlib, under our own settings: the only module that imports it.

A user's settings (`MPLBACKEND`, files named `matplotlibrc`, `rcParams` of the session) may break
figures or change their bytes. They apply to no figure of this package, and are left as they were.
"""

import importlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nsf_pipeline.errors import UserError

BACKEND = "MPLBACKEND"
VARIABLES = BACKEND, "FREETYPE_PROPERTIES"
"""What matplotlib, and the library that draws its letters, read when they are imported."""
READ_SETTINGS = "matplotlib", "matplotlib.figure"
"""Modules that read a user's settings and look for fonts when they are imported."""


def _load() -> None:
    """Import matplotlib, whatever a user's settings for it are.

    Raises:
        ModuleNotFoundError: it is not installed.
        UserError: it cannot be imported.
    """
    if "matplotlib.figure" in sys.modules:
        return
    before = {name: os.environ.pop(name) for name in VARIABLES if name in os.environ}
    try:
        try:
            _require_files()
            _import_all()
        except ModuleNotFoundError:
            raise
        except Exception:
            for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
                del sys.modules[name]  # half of it, which would be missing parts
            with _without_settings():
                _import_all()
    except ModuleNotFoundError:  # it is not installed
        raise
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(f"matplotlib cannot be imported ({reason}); install it again") from None
    finally:
        os.environ.update(before)
    if backend := before.get(BACKEND):  # for figures that the user draws in this process
        with suppress(Exception):  # fails on one that matplotlib does not know
            sys.modules["matplotlib"].rcParams["backend"] = backend


def _require_files() -> None:
    """Refuse settings that are no ordinary files: reading them might never end."""
    given = os.environ.get("MATPLOTLIBRC", "")
    general = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    own = os.environ.get("MPLCONFIGDIR") or os.path.expanduser("~/.matplotlib")
    folders = (".", given, own, f"{general}/matplotlib")
    for path in (given, *(f"{folder}/matplotlibrc" for folder in folders)):
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            raise OSError(f"{path}: expected an ordinary file")


def _import_all() -> None:
    for name in READ_SETTINGS:
        importlib.import_module(name)


@contextmanager
def _without_settings() -> Iterator[None]:
    """Run in the folder of matplotlib's default settings: a file there comes before all others."""
    found = find_spec("matplotlib")
    if found is None or not found.submodule_search_locations:
        raise ImportError("No module named 'matplotlib'")
    before = os.open(".", os.O_RDONLY)
    try:
        os.chdir(Path(found.submodule_search_locations[0], "mpl-data"))
        yield
    finally:
        os.fchdir(before)
        os.close(before)


_load()

# After `_load`, which makes these imports safe.
import matplotlib  # noqa: E402
from matplotlib.axes import Axes  # noqa: E402
from matplotlib.collections import LineCollection  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.lines import Line2D  # noqa: E402
from matplotlib.patches import Circle, Patch, Polygon  # noqa: E402

__all__ = [
    "Axes",
    "Circle",
    "Figure",
    "Line2D",
    "LineCollection",
    "Patch",
    "Polygon",
    "as_png",
]


def as_png(draw: Callable[[], Figure], *, dpi: int = 110, comment: str | None = None) -> bytes:
    """Draw a figure as PNG: the same figure gives the same bytes.

    Args:
        draw: makes the figure.
        dpi: dots per inch.
        comment: text to store in the file.
    """
    # The backend does not matter: PNG are drawn by `agg`, named below.
    ours: dict[Any, Any] = {
        name: value for name, value in matplotlib.rcParamsDefault.items() if name != "backend"
    }
    content = io.BytesIO()
    with matplotlib.rc_context(ours):
        draw().savefig(
            content,
            format="png",
            backend="agg",
            dpi=dpi,
            metadata={"Software": None, "Comment": comment},
        )
    return content.getvalue()
