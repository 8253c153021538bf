"""Bounds and statistics of a data set, which can be gathered shard by shard in any order.

Sums are exact, so the numbers are the same to the last bit however the data are divided.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from nsf_pipeline import label
from nsf_pipeline.data import checking, store
from nsf_pipeline.data.states import join_state
from nsf_pipeline.files import again, open_file, replacing
from nsf_pipeline.provenance import Record
from nsf_pipeline.pusht.state import STATE_WITHOUT_VELOCITY
from nsf_pipeline.timing import CONTROL_DT

TRAIN, VALIDATION, TEST = range(3)
SPLITS = ("train", "validation", "test")
SCALED = tuple(name for name, field in store.DATASET.items() if field.scaled)
SINGLE = 149
"""Each number in single precision is a whole multiple of 2^-SINGLE."""


@dataclass(frozen=True)
class Statistics:
    """What some trajectories add to the bounds and statistics of a data set.

    Attributes:
        low: by scaled array, the least value of each dimension in the train split; empty if no
            trajectory is in it.
        high: the greatest values.
        num_trajectories: how many there are.
        coverage: sum of their last coverages, in units of 2^-149.
        coverage_squared: sum of the squares, in units of 2^-298.
        splits: number of trajectories in each split.
        successes: number of trajectories that succeed.
        moved_steps: number of control steps that move the block.
        steps: number of control steps.
        condition_dim: C.
    """

    low: Mapping[str, store.Bound] = field(default_factory=dict)
    high: Mapping[str, store.Bound] = field(default_factory=dict)
    num_trajectories: int = 0
    coverage: int = 0
    coverage_squared: int = 0
    splits: tuple[int, ...] = (0,) * len(SPLITS)
    successes: int = 0
    moved_steps: int = 0
    steps: int = 0
    condition_dim: int = 0

    @classmethod
    def of(cls, rollouts: Mapping[str, np.ndarray], split: np.ndarray) -> "Statistics":
        """Those of some trajectories, given their splits."""
        train, low, high = split == TRAIN, {}, {}
        if train.any():
            for name in SCALED:
                values = rollouts[name][train][valid(name, rollouts)[train]].astype(np.float64)
                # Adding 0 turns -0 into 0: which of them is the least depends on their order.
                low[name], high[name] = values.min(axis=0) + 0.0, values.max(axis=0) + 0.0
        length = rollouts["length"]
        coverage = rollouts["coverage"][np.arange(len(length)), length - 1].astype(np.float64)
        return cls(
            low=low,
            high=high,
            num_trajectories=len(length),
            coverage=_exact_sum(coverage, SINGLE),
            # 48 bits, so exact in double precision.
            coverage_squared=_exact_sum(np.square(coverage), 2 * SINGLE),
            splits=tuple(np.bincount(split, minlength=len(SPLITS)).tolist()),
            successes=int(rollouts["success"].sum()),
            moved_steps=int(block_moved(rollouts).sum()),
            steps=int(rollouts["action_mask"].sum()),
            condition_dim=rollouts["condition"].shape[1],
        )

    def __add__(self, other: "Statistics") -> "Statistics":
        """Those of both."""
        sums = {name: getattr(self, name) + getattr(other, name) for name in COUNTS}
        names = self.low.keys() | other.low.keys()
        return Statistics(
            **sums,
            low={name: _both(np.minimum, self.low, other.low, name) for name in names},
            high={name: _both(np.maximum, self.high, other.high, name) for name in names},
            splits=tuple(map(sum, zip(self.splits, other.splits, strict=True))),
            condition_dim=max(self.condition_dim, other.condition_dim),
        )

    def metadata(self) -> dict[str, Any]:
        """The part of `dataset.meta.json` that describes the data.

        Raises:
            StoreError: the train split is empty.
        """
        if not self.low:
            raise store.StoreError(
                "no trajectory fell into the train split; raise num_trajectories or lower "
                "dataset.validation_fraction and dataset.test_fraction"
            )
        count = self.num_trajectories
        mean = Fraction(self.coverage, count << SINGLE)
        variance = Fraction(self.coverage_squared, count << 2 * SINGLE) - mean**2
        return {
            "num_trajectories": count,
            "dt": CONTROL_DT,
            "observation_dim": STATE_WITHOUT_VELOCITY.dim,
            "action_dim": 2,
            "condition_dim": self.condition_dim,
            "min": {name: self.low[name].tolist() for name in SCALED},
            "max": {name: self.high[name].tolist() for name in SCALED},
            "success_rate": self.successes / count,
            "coverage_mean": float(mean),
            "coverage_std": math.sqrt(variance),
            "contact_fraction": self.moved_steps / self.steps,
            "num_steps": self.steps,
            "splits": dict(zip(SPLITS, self.splits, strict=True)),
        }


COUNTS = (
    "num_trajectories",
    "coverage",
    "coverage_squared",
    "successes",
    "moved_steps",
    "steps",
)
"""The attributes of `Statistics` that are sums."""


def _both(choose: np.ufunc, one: Mapping[str, Any], other: Mapping[str, Any], name: str) -> Any:
    found = [held[name] for held in (one, other) if name in held]
    return choose(*found) if len(found) > 1 else found[0]


def _exact_sum(values: np.ndarray, bits: int) -> int:
    """The sum of multiples of 2^-bits, in units of that."""
    return sum(map(int, np.ldexp(values, bits).tolist()))


def block_moved(rollouts: Mapping[str, np.ndarray]) -> np.ndarray:
    """(n, T) bool: the block's pose changed in this step."""
    pose = join_state(rollouts, STATE_WITHOUT_VELOCITY)[..., STATE_WITHOUT_VELOCITY.block]
    return (np.diff(pose, axis=1) != 0).any(axis=-1) & rollouts["action_mask"]


def valid(name: str, rollouts: Mapping[str, np.ndarray]) -> np.ndarray:
    """(n) or (n, time) bool: the entries of an array that are not past a trajectory's length."""
    mask = store.MASKS.get(store.ROLLOUTS[name].axes[0])
    return rollouts[mask] if mask else np.ones(len(rollouts["length"]), bool)


def write_statistics(
    path: Path, statistics: Statistics, made: Record, first: int, stop: int
) -> None:
    """Write the statistics of some trajectories: a label with the record, then a line of JSON.

    Raises:
        FileError: the file cannot be written.
    """
    held = asdict(statistics)
    for end in ("low", "high"):
        held[end] = {name: value.tolist() for name, value in held[end].items()}
    for name in ("coverage", "coverage_squared"):
        held[name] = hex(held[name])  # has more digits than JSON of this package may have
    with replacing(path) as beside, beside.open("w+b") as file:
        head = {"format": "nsf_pipeline statistics", "first": first, "stop": stop}
        content = json.dumps(held, sort_keys=True).encode() + b"\n"
        file.write(content)
        file.seek(0)
        sealed = label.line(label.seal(head | made.fields(), file))
        file.seek(0)
        file.write(sealed + content)


def read_statistics(path: Path, first: int, stop: int) -> tuple[Statistics, Record]:
    """Read what `write_statistics` wrote, and the record of what made it.

    Args:
        path: the file.
        first: the first trajectory that it must be about.
        stop: one past the last.

    Raises:
        StoreError: it is missing, damaged, or about other trajectories.
    """
    try:
        with open_file(path) as file:
            head = label.read(file)
            if not head or head.get("format") != "nsf_pipeline statistics":
                raise label.LabelError("expected statistics of a part of the data set")
            content = file.tell()
            label.check(head, file)
            file.seek(content)
            held = label.mapping(file.read(label.MAX_BYTES))
        if (head.get("first"), head.get("stop")) != (first, stop):
            raise label.LabelError(
                f"expected statistics of the trajectories {first} to {stop - 1}, got others"
            )
        return _statistics_in(held), Record.read(head)
    except (OSError, label.LabelError, checking.UnsoundError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise store.StoreError(f"{path}: cannot be read: {reason}; {again(path)}") from None


def _statistics_in(held: dict[str, Any]) -> Statistics:
    """Statistics from JSON.

    Raises:
        UnsoundError: they are none.
    """
    try:
        ends = {"min": held["low"], "max": held["high"]}
        found = checking.bounds_in(ends, "its bounds") if held["low"] or held["high"] else {}
        exact = {name: int(held[name], 16) for name in ("coverage", "coverage_squared")}
        splits = tuple(held["splits"])
        counts = {name: held[name] for name in (*COUNTS, "condition_dim")} | exact
        sound = (
            held.keys() == {each.name for each in fields(Statistics)}
            and len(splits) == len(SPLITS)
            and sum(splits) == held["num_trajectories"]
            and all(type(each) is int and each >= 0 for each in (*counts.values(), *splits))
        )
    except (KeyError, TypeError, ValueError) as error:
        raise checking.UnsoundError(f"its numbers cannot be read ({error})") from None
    if not sound:
        raise checking.UnsoundError("its numbers cannot be those of trajectories")
    low, high = ({name: bound[end] for name, bound in found.items()} for end in range(2))
    return Statistics(**counts, low=low, high=high, splits=splits)
