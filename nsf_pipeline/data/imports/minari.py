"""Demonstrations in a Minari data set with gym-pusht's `state` observations."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nsf_pipeline.data.imports.demonstration import Demonstration, fault_in
from nsf_pipeline.errors import on_one_line
from nsf_pipeline.files import FileError

NEEDS = ("minari", "minari")
METADATA = "metadata.json"


def fits(path: Path) -> bool:
    """Whether a folder looks like one: that of the data set, or its folder `data`."""
    return any((folder / METADATA).is_file() for folder in (path, path / "data"))


def read(path: Path) -> Iterator[Demonstration]:
    """The episodes, in order.

    Raises:
        FileError: it is no such data set, or its numbers mean nothing.
    """
    from minari import MinariDataset

    number = 0
    try:
        held = MinariDataset(path if (path / METADATA).is_file() else path / "data")
        for number, episode in enumerate(held):
            seen = episode.observations
            seen = seen["state"] if isinstance(seen, dict) else seen
            states, actions = (np.array(each, float) for each in (seen, episode.actions))
            if fault := fault_in(states, actions):
                raise FileError(f"{path}: episode {number}: {fault}")
            states[:, -1] = np.unwrap(states[:, -1])
            yield Demonstration(number, states, actions)
    except FileError:
        raise
    except Exception as error:  # Minari may fail in any way on what it did not write
        raise FileError(
            f"{path}: not a Minari data set of PushT: episode {number}: {on_one_line(error)}"
        ) from None
