"""Replay: stored trajectories simulated again from seed, initial state and actions."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nsf_pipeline.data import store
from nsf_pipeline.data.merge import SCALED, scaled
from nsf_pipeline.data.rollouts import outcome_of, states_of
from nsf_pipeline.data.scenes import FACTORS
from nsf_pipeline.errors import UserError
from nsf_pipeline.provenance import versions
from nsf_pipeline.system.printing import say

COMPARED = (
    "observations",
    "agent_velocity",
    "block_angle",
    "block_velocity",
    "rewards",
    "coverage",
    "length",
    "success",
)


class Difference(NamedTuple):
    """The largest difference between an array and its replay.

    Attributes:
        size: absolute difference, in the array's unit; infinite if one of the values is NaN.
        trajectory: index of the trajectory.
        step: index of the step or state; None for arrays with one number per trajectory.
        path: the file that holds the trajectory.
    """

    size: float
    trajectory: int
    step: int | None
    path: Path

    def __str__(self) -> str:
        step = "" if self.step is None else f", step {self.step}"
        return f"{self.size:.3g} in trajectory {self.trajectory}{step} of {self.path}"


@dataclass
class Report:
    """The result of a replay.

    Attributes:
        trajectories: how many were replayed.
        steps: how many they took.
        differing: trajectories in which anything differs.
        largest: by array, its largest difference; arrays with the same bits are left out.
        made_with: package versions recorded in files that differ, if not the versions here.
    """

    trajectories: int = 0
    steps: int = 0
    differing: int = 0
    largest: dict[str, Difference] = field(default_factory=dict)
    made_with: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        width = max(map(len, COMPARED))
        return "\n".join(f"{name:{width}}  {self.largest.get(name, 0)}" for name in COMPARED)

    def require_no_difference(self) -> None:
        """Refuse any difference.

        Raises:
            UserError: names the first array that differs, and where it differs most.
        """
        if not self.largest:
            return
        name, difference = next(iter(self.largest.items()))
        cause = "altered since, or made where arithmetic differs"
        if self.made_with:
            here = versions()
            cause = "made with " + ", ".join(
                f"{package} {version} (here {here.get(package, 'none')})"
                for package, version in self.made_with.items()
            )
        raise UserError(
            f"{self.differing} of {self.trajectories} trajectories do not replay: {name} differs "
            f"by {difference}; {cause}; replay with the versions that made it, or make it again"
        )


def replay(paths: Iterable[Path]) -> Report:
    """Simulate all trajectories of rollout shards and data sets again, a block at a time.

    A line for each file says what made it; a file without a label is read too.

    Raises:
        StoreError: a file is missing, damaged, of another kind, or holds impossible values.
    """
    report = Report()
    for path in paths:
        with store.reading(path, "rollouts", "dataset", unlabelled=True) as file:
            say(store.origin(path, file))
            for rows in store.blocks(len(file["trajectory"])):
                _add(report, path, file, rows)
    return report


def _add(report: Report, path: Path, file: Any, rows: slice) -> None:
    names = ["trajectory", "seed", "initial_state", "from_reset", "actions", "length"]
    names += [FACTORS] if FACTORS in file else []
    stored = {name: store.physical(file, name, rows) for name in names}
    length = stored["length"]
    states = states_of(stored, stored["actions"], length)
    outcome = outcome_of(states, length, stored.get(FACTORS))
    outcome = {name: values.astype(store.ROLLOUTS[name].dtype) for name, values in outcome.items()}
    differs = np.zeros(len(length), bool)
    for name in COMPARED:
        sizes = _differences(file, name, rows, outcome)
        differs |= sizes.reshape(len(length), -1).any(axis=1)
        at = np.unravel_index(sizes.argmax(), sizes.shape)
        before = report.largest.get(name)
        if sizes[at] > (before.size if before else 0.0):
            step = int(at[1]) if len(at) > 1 else None
            trajectory = int(stored["trajectory"][at[0]])
            report.largest[name] = Difference(float(sizes[at]), trajectory, step, path)
    report.trajectories += len(length)
    report.steps += int(length.sum())
    report.differing += int(differs.sum())
    if differs.any():
        report.made_with |= _other_versions(file)


def _differences(file: Any, name: str, rows: slice, outcome: dict[str, np.ndarray]) -> np.ndarray:
    """Absolute differences in physical units: 0 if the replay gives the stored bits."""
    stored, replayed = file[name][rows].astype(np.float64), outcome[name].astype(np.float64)
    if file.attrs["schema"] == "dataset" and name in SCALED:
        low, high = store.bounds_of(file, name)
        replayed = scaled(name, outcome, low, high)
        stored, replayed = (store.bounds_range(low, high) / 2 * side for side in (stored, replayed))
    return np.nan_to_num(np.abs(stored - replayed), copy=False, nan=np.inf)


def _other_versions(file: Any) -> dict[str, str]:
    here = versions()
    made_with = json.loads(file.attrs.get("versions", "{}"))
    return {name: v for name, v in made_with.items() if here.get(name) != v}
