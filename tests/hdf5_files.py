"""Small HDF5 files of every kind: sound ones, and copies of them that someone changed."""

import json
from typing import Any

import h5py
import numpy as np

from nsf_pipeline import label
from nsf_pipeline.data import checking, store
from nsf_pipeline.data.schema import NUMBERS, SCHEMAS
from nsf_pipeline.dmp import DMPParams

SIZES = {"n": 70, "T": 4, "T+1": 5, "B": 3, "C": 13, "M": 6, "E": 2, "S": 7}
"""By axis; more than one chunk of trajectories."""
ATTRIBUTES = {"fingerprint": "0123456789abcdef", "dt": 0.1, "config": {"b": [1, 2], "a": None}}


def some_arrays(kind, seed=0, first=0):
    """Arrays of a kind, random within their ranges."""
    rng = np.random.default_rng(seed)
    count, arrays = SIZES["n"], {}
    for name, field in SCHEMAS[kind].items():
        shape = (count, *(SIZES[axis] if isinstance(axis, str) else axis for axis in field.axes))
        low, high = max(field.low, -99.0), field.high
        high = SIZES[high] if isinstance(high, str) else min(high, 99.0)
        if "float" in field.dtype:
            arrays[name] = rng.uniform(low, high, shape).astype(field.dtype)
        elif field.dtype == "bool":
            arrays[name] = rng.integers(0, 2, shape).astype(bool)
        else:
            arrays[name] = rng.integers(int(low), int(high) + 1, shape).astype(field.dtype)
    if kind != "ensembles":
        arrays[NUMBERS.get(kind, "trajectory")] = np.arange(first, first + count)
    else:
        arrays["horizon_s"] = 0.1 * rng.integers(1, 5, count)
        arrays["step"] = rng.integers(0, 5, count).astype(np.int32)
    if "action_mask" in arrays:
        length = arrays["length"][:, None]
        arrays["action_mask"] = np.arange(SIZES["T"]) < length
        arrays["observation_mask"] = np.arange(SIZES["T+1"]) <= length
    if kind == "episodes":
        arrays["coverage"][np.arange(SIZES["S"]) >= arrays["length"][:, None]] = 0.0
        found = checking.first_steps(arrays["coverage"])
        arrays |= dict(zip(("first_step", "first_held"), found, strict=True))
    for name in {"disturbed_step", "both_step", "block_step"} & arrays.keys():
        length = arrays["length"].reshape(-1, *[1] * (arrays[name].ndim - 1))
        arrays[name] = np.minimum(arrays[name], length)
    condition = DMPParams(
        duration=rng.uniform(0.1, 0.4, count),
        start=rng.uniform(0, 512, (count, 2)),
        goal=rng.uniform(0, 512, (count, 2)),
        weights=rng.uniform(-1, 1, (count, 2, SIZES["B"])),
        stiffness=rng.uniform(1, 50, count),
        damping=rng.uniform(0, 50, count),
        action_noise_std=rng.uniform(0, 16, count),
    ).as_vector()
    if "condition" not in SCHEMAS[kind]:
        return arrays
    low, high = condition.min(axis=0), condition.max(axis=0)
    arrays["condition"] = store.scale(condition, low, high) if kind == "dataset" else condition
    return arrays


def some_attributes(kind):
    """Attributes that go with `some_arrays` of seed 0."""
    if kind != "dataset":
        return dict(ATTRIBUTES)
    bounds: dict[str, Any] = {}
    for end, bound in (("min", -2.0), ("max", 7.0)):
        bounds[end] = {
            name: [bound] * field.axes[-1] if isinstance(field.axes[-1], int) else bound
            for name, field in SCHEMAS["rollouts"].items()
            if field.scaled
        }
    bounds["min"]["condition"] = [0.1, *[0.0] * 4, *[-1.0] * 6, 1.0, 0.0, 0.0]
    bounds["max"]["condition"] = [0.4, *[512.0] * 4, *[1.0] * 6, 50.0, 50.0, 16.0]
    return ATTRIBUTES | {"metadata": bounds}


def changed(source, target, change, *, labelled):
    """A copy of a file, changed while it is open with h5py, whose label says what it then holds.

    Args:
        source: a sound file.
        target: the copy.
        change: a function of the open file.
        labelled: whether the copy has a label.
    """
    with source.open("rb") as file:
        fields = label.read(file)
    with (
        h5py.File(source, "r", locking=False) as file,
        h5py.File(target, "w", userblock_size=store.USER_BLOCK if labelled else 0) as copy,
    ):
        for name in file:
            file.copy(name, copy)
        copy.attrs.update(dict(file.attrs))
        change(copy)
        fingerprint = copy.attrs.get("fingerprint")
    assert fields
    if isinstance(fingerprint, str):
        fields["fingerprint"] = fingerprint
    if labelled:
        seal(target, fields)


def seal(path, fields):
    """Write a label to a file's user block, with the right size and checksum."""
    fields = {name: fields[name] for name in fields if name not in ("size", "sha256")}
    with path.open("r+b") as file:
        file.seek(store.USER_BLOCK)
        sealed = label.seal(fields, file)
        file.seek(0)
        file.write(label.line(sealed, store.USER_BLOCK))


def put(name, values, **options):
    """A change: another array in the place of one."""

    def change(file):
        del file[name]
        file.create_dataset(name, data=values, **options)

    return change


def set_to(name, place, value):
    """A change: some numbers of an array are set."""

    def change(file):
        values = file[name][...]
        values[place] = value
        put(name, values)(file)

    return change


def with_attribute(name, value, **options):
    """A change: another attribute."""

    def change(file):
        file.attrs.create(name, value, **options)

    return change


def with_json(name, **more):
    """A change: more in an attribute that is a mapping."""

    def change(file):
        file.attrs[name] = json.dumps(json.loads(file.attrs[name]) | more)

    return change
