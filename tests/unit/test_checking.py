"""Files that HDF5 can read, but whose content no file of this package has: all are refused."""

import json
import math
import os
import socket
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hdf5_files import (
    SIZES,
    changed,
    put,
    seal,
    set_to,
    some_arrays,
    some_attributes,
    with_attribute,
    with_json,
)

from nsf_pipeline import label
from nsf_pipeline.cli import main
from nsf_pipeline.config import Config, DMPConfig, EnsembleConfig
from nsf_pipeline.data import checking, schema, store
from nsf_pipeline.data.schema import SCHEMAS
from nsf_pipeline.data.store import StoreError

N, T = SIZES["n"], SIZES["T"]


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A sound file of each kind; not to be changed."""
    folder = tmp_path_factory.mktemp("sound")
    for kind in SCHEMAS:
        store.write(folder / f"{kind}.h5", kind, some_arrays(kind), some_attributes(kind))
    return folder


def as_type(dtype):
    """`duration` of another type."""

    def change(file):
        values = file["duration"][...]
        put("duration", values.astype(dtype))(file)

    return change


def as_reference(file):
    put("seed", np.array([file["goal"].ref] * N, dtype=h5py.ref_dtype), dtype=h5py.ref_dtype)(file)


def as_named_type(file):
    file["seed of its own"] = np.dtype("int64")


def of_named_type(file):
    values = file["seed"][...]
    file["type"] = np.dtype("int64")
    put("seed", values, dtype=file["type"])(file)
    del file["type"]


def as_enum(file):
    kind = h5py.enum_dtype({"a": 0, "b": 1}, basetype="int8")
    put("from_reset", np.zeros(N, np.int8), dtype=kind)(file)


def empty(file):
    del file["duration"]
    file["duration"] = h5py.Empty("float64")


def scalar(file):
    del file["duration"]
    file["duration"] = 1.0


def group(file):
    del file["duration"]
    file.create_group("duration")


def soft_link(file):
    file["elsewhere"] = file["duration"][...]
    del file["duration"]
    file["duration"] = h5py.SoftLink("/elsewhere")


def external_link(file):
    del file["duration"]
    file["duration"] = h5py.ExternalLink("/etc/hostname", "/duration")


def second_name(file):
    del file["stiffness"]
    file["stiffness"] = file["duration"]


def external(file):
    """An array whose bytes are the first of another file."""
    del file["duration"]
    file.create_dataset("duration", (N,), "float64", external=[(__file__, 0, 8 * N)])


def virtual(file):
    layout = h5py.VirtualLayout((N,), "float64")
    layout[:] = h5py.VirtualSource(file.filename, "damping", (N,))
    del file["duration"]
    file.create_virtual_dataset("duration", layout)


def unallocated(file):
    del file["duration"]
    file.create_dataset("duration", (N,), "float64")


def chunk_missing(file):
    del file["weights"]
    array = file.create_dataset("weights", (N, 2, 3), "float64", chunks=(64, 2, 3), fillvalue=0.5)
    array[:64] = 0.0


def compact(file):
    del file["duration"]
    made = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    made.set_layout(h5py.h5d.COMPACT)
    space, kind = h5py.h5s.create_simple((N,)), h5py.h5t.NATIVE_DOUBLE
    array = h5py.h5d.create(file.id, b"duration", kind, space, made)
    array.write(h5py.h5s.ALL, h5py.h5s.ALL, np.ones(N))


def filtered(**options):
    def change(file):
        put("weights", file["weights"][...], chunks=(N, 2, 3), **options)(file)

    return change


def terabytes(file):
    for name, array in list(file.items()):
        shape, kind, chunks = array.shape, array.dtype, (64, *array.shape[1:])
        del file[name]
        file.create_dataset(name, (10**9, *shape[1:]), kind, chunks=chunks, compression="gzip")


def terabytes_in_one(file):
    del file["duration"]
    file.create_dataset("duration", (1 << 40,), "float64")


def gigabytes_in_a_chunk(file):
    """About 1 MB in the file."""
    del file["weights"]
    array = file.create_dataset(
        "weights", (N, 2, 3), "float64", chunks=(N, 2, 3), compression="gzip"
    )
    packing = zlib.compressobj(9)
    content = b"".join(packing.compress(bytes(1 << 20)) for _ in range(1 << 10)) + packing.flush()
    array.id.write_direct_chunk((0, 0, 0), content)


def large_chunks(file):
    shape = (10**8, 2, 3)
    del file["weights"]
    file.create_dataset("weights", shape, "float64", chunks=shape, compression="gzip")


def short_chunk(file):
    del file["weights"]
    array = file.create_dataset(
        "weights", (N, 2, 3), "float64", chunks=(N, 2, 3), compression="gzip"
    )
    array.id.write_direct_chunk((0, 0, 0), zlib.compress(bytes(8)))


def padded(file):
    file.attrs["config"] = json.dumps({"x": " " * (1 << 26)})


def deep(depth):
    return '{"a": ' + "[" * depth + "]" * depth + "}"


def many_arrays(file):
    for number in range(300):
        file[f"array {number}"] = np.zeros(1)


def many_attributes(file):
    for number in range(40):
        file.attrs[f"attribute {number}"] = 0


def without(name):
    def change(file):
        del file[name]

    return change


def each_in(names, change):
    """The same change of several arrays."""

    def change_all(file):
        for name in names:
            put(name, change(file[name][...]))(file)

    return change_all


def bounds(end, name, value):
    """Bounds of a data set that are others."""

    def change(file):
        found = json.loads(file.attrs["metadata"])
        found[end][name] = value
        file.attrs["metadata"] = json.dumps(found)

    return change


def two_as_truth(name):
    """A byte of 2 where only 0 and 1 are truths."""

    def change(file):
        held = file[name]
        del file[name]
        array = file.create_dataset(name, held.shape, "bool")
        array.id.write(
            h5py.h5s.ALL, h5py.h5s.ALL, np.full(held.shape, 2, np.int8), array.id.get_type()
        )

    return change


def another(name, values, **options):
    """One array more."""
    return lambda file: file.create_dataset(name, data=values, **options)


def no_rows(file):
    for name, array in list(file.items()):
        put(name, array[:0])(file)


def lists(file):
    del file["duration"]
    file.create_dataset("duration", (N,), h5py.vlen_dtype("float64"))


def pairs_in_one_place(file):
    del file["duration"]
    file.create_dataset("duration", (N,), np.dtype("(2,)f8"))


# By name: the kind of file, what is changed in a sound one, and words of the message.
TYPES = {
    "a missing array": ("policies", without("goal"), "expected an array 'goal'"),
    "an unknown array": ("policies", another("extra", [1.0]), "no array 'extra'"),
    "a name of two lines": ("policies", another("a\nb", [1.0]), r"no array 'a\\nb'"),
    "many arrays": ("policies", many_arrays, "holds 312 arrays"),
    "float32": ("policies", as_type("float32"), "'duration' of type float64"),
    "float16": ("policies", as_type("float16"), "'duration' of type float64"),
    "big-endian": ("policies", as_type(">f8"), "'duration' of type float64"),
    "integers": ("policies", as_type("int64"), "'duration' of type float64"),
    "complex numbers": ("policies", as_type("complex128"), "'duration' of type float64"),
    "long doubles": ("policies", as_type("longdouble"), "'duration' of type float64"),
    "bytes": ("policies", put("duration", np.full(N, b"1.5")), "'duration' of type float64"),
    "opaque": ("policies", put("duration", np.zeros(N, "V8")), "'duration' of type float64"),
    "text": (
        "policies",
        put("duration", ["1.5"] * N, dtype=h5py.string_dtype()),
        "'duration' of type float64",
    ),
    "lists": ("policies", lists, "'duration'"),
    "compounds": (
        "policies",
        put("duration", np.zeros(N, [("a", "f4"), ("b", "f4")])),
        "'duration' of type float64",
    ),
    "pairs in one place": ("policies", pairs_in_one_place, "'duration'"),
    "an enum": ("policies", as_enum, "'from_reset' of type bool"),
    "numbers as truths": (
        "policies",
        put("from_reset", np.zeros(N, np.uint8)),
        "'from_reset' of type bool",
    ),
    "references": ("policies", as_reference, "'seed' of type int64"),
    "a type with a name": ("policies", as_named_type, "is not an array"),
    "of a type with a name": ("policies", of_named_type, "a type of its own"),
    "no elements at all": ("policies", empty, "'duration' is not an array"),
    "one number": ("policies", scalar, "'duration' is not an array"),
    "a group": ("policies", group, "'duration' is not an array"),
    "another rank": ("policies", put("duration", np.ones((N, 1))), "'duration' of policies with"),
    "one row fewer": ("policies", put("duration", np.ones(N - 1)), "'duration' of policies with"),
    "no rows": ("policies", no_rows, "expected n from 1 to"),
    "another basis": ("policies", put("weights", np.zeros((N, 2, 5))), "C = 18 for 5 basis"),
    "an odd condition": ("rollouts", put("condition", np.ones((N, 13))), "C = 8 \\+ 2 B"),
    "a short condition": ("rollouts", put("condition", np.ones((N, 8))), "C = 8 \\+ 2 B"),
    "other sizes than its settings": (
        "policies",
        with_json("config", dmp={"n_basis": 6}),
        "expected B = 6 by its own settings, got 3",
    ),
    "another length than its settings": (
        "rollouts",
        with_json("config", policies={"duration": [0.1, 3.6]}),
        "expected T = 36 by its own settings, got 4",
    ),
    "fewer rows than its settings": (
        "dataset",
        with_json("config", num_trajectories=71),
        "expected n = 71 by its own settings, got 70",
    ),
    "other members than its settings": (
        "ensembles",
        with_json("config", ensembles={"num_members": 64}),
        "expected M = 64 by its own settings, got 6",
    ),
}

STORAGE = {
    "a soft link": ("policies", soft_link, "'duration' is a link"),
    "a link that leads nowhere": (
        "policies",
        lambda file: file.__setitem__("extra", h5py.SoftLink("/nowhere")),
        "'extra' is a link",
    ),
    "a link to another file": ("policies", external_link, "'duration' is a link"),
    "two names of one array": ("policies", second_name, "has several names"),
    "bytes of another file": ("policies", external, "'duration' lies in another file"),
    "a virtual array": ("policies", virtual, "'duration' lies in another file"),
    "nothing stored": ("policies", unallocated, "'duration' has 560 bytes, more than the file"),
    "a chunk not stored": ("policies", chunk_missing, "'weights'|chunk"),
    "stored in its header": ("policies", compact, "'duration' is stored in another way"),
    "shuffled": ("policies", filtered(compression="gzip", shuffle=True), "stored in another way"),
    "lzf": ("policies", filtered(compression="lzf"), "stored in another way"),
    "checksums": ("policies", filtered(fletcher32=True), "stored in another way"),
    "terabytes": ("rollouts", terabytes, "more than the file holds"),
    "terabytes in one array": ("policies", terabytes_in_one, "more than the file holds"),
    "a chunk that unpacks to a gigabyte": (
        "policies",
        gigabytes_in_a_chunk,
        "a chunk of 'weights' does not unpack to 3360 bytes",
    ),
    "chunks of gigabytes": ("policies", large_chunks, "'weights' has chunks of 4800000000 bytes"),
    "a chunk that is too short": ("policies", short_chunk, "a chunk of 'weights' does not unpack"),
    "much beside the arrays": ("policies", padded, "bytes beside its arrays"),
}

ATTRIBUTES = {
    "unknown": ("rollouts", with_attribute("note", "hello"), "unknown attribute 'note'"),
    "many": ("rollouts", many_attributes, "attributes, more than there are"),
    "an array of text": ("rollouts", with_attribute("stage", ["a", "b"]), "'stage': expected text"),
    "an array of numbers": (
        "rollouts",
        with_attribute("config", [1, 2]),
        "'config': expected JSON",
    ),
    "a number": ("rollouts", with_attribute("fingerprint", 3), "'fingerprint': expected text"),
    "nothing": ("rollouts", with_attribute("stage", h5py.Empty("S1")), "'stage': expected text"),
    "bytes": ("rollouts", with_attribute("stage", np.bytes_(b"abc")), "'stage': expected text"),
    "not UTF-8": (
        "rollouts",
        with_attribute("stage", b"\xff\xfe", dtype=h5py.string_dtype()),
        "'stage': expected a name",
    ),
    "two lines": ("rollouts", with_attribute("stage", "a\nb"), "'stage': expected a name"),
    "a control character": ("rollouts", with_attribute("stage", "\x1b[2J"), "expected a name"),
    "a long name": ("rollouts", with_attribute("stage", "a" * 9999), "'stage': expected a name"),
    "two megabytes": (
        "rollouts",
        with_json("config", x="x" * (1 << 21)),
        "'config': expected at most 1048576 characters",
    ),
    "broken JSON": ("rollouts", with_attribute("config", '{"a": '), "'config': .* it is not JSON"),
    "a list in JSON": ("rollouts", with_attribute("config", "[1]"), "'config': expected a mapping"),
    "null in JSON": ("rollouts", with_attribute("modules", "null"), "'modules': expected a mapp"),
    "deep JSON": ("rollouts", with_attribute("config", deep(100_000)), "nested too deeply"),
    "rather deep JSON": ("rollouts", with_attribute("config", deep(500)), "expected a mapping in"),
    "an integer of 5000 digits": (
        "rollouts",
        with_attribute("config", '{"a": 1' + "0" * 5000 + "}"),
        "'config': .* an integer in it has 5001 digits",
    ),
    "an integer of 400 digits": (
        "rollouts",
        with_attribute("config", '{"a": 1' + "0" * 399 + "}"),
        "'config': .* an integer in it has 400 digits",
    ),
    "a setting of NaN": (
        "rollouts",
        with_attribute("config", '{"seed": NaN}'),
        "'config': .* NaN is no number",
    ),
    "a setting given twice": (
        "rollouts",
        with_attribute("config", '{"seed": 1, "seed": 2}'),
        "'config': .* a name stands in it twice",
    ),
    "a setting's name of two lines": (
        "rollouts",
        with_json("config", dmp={"a\nb": 1}),
        "'config': expected a mapping",
    ),
    "digests that are lists": ("rollouts", with_attribute("modules", '{"a": []}'), "and their te"),
    "versions that are numbers": ("rollouts", with_attribute("versions", '{"a": 1}'), "their text"),
    "a time step in words": ("rollouts", with_attribute("dt", "0.1"), "'dt': expected a number"),
    "a time step of NaN": ("rollouts", with_attribute("dt", math.nan), "'dt': expected 0.1"),
    "another time step": ("rollouts", with_attribute("dt", 0.2), "'dt': expected 0.1"),
    "a place in words": ("ensembles", with_attribute("first", "0"), "'first': expected an integer"),
    "a version in words": ("rollouts", with_attribute("schema_version", "1"), "'schema_version'"),
    "a reference": (
        "rollouts",
        lambda file: file.attrs.__setitem__("stage", file["seed"].ref),
        "'stage': expected text",
    ),
    "a compound": (
        "rollouts",
        with_attribute("dt", np.zeros((), [("a", "f8")])),
        "'dt': expected a number",
    ),
    "no bounds": ("dataset", lambda file: file.attrs.__delitem__("metadata"), "expected 'min' and"),
    "bounds of fewer arrays": (
        "dataset",
        with_json("metadata", min={"actions": [0, 0]}),
        "expected 'min' and 'max' of each",
    ),
    "bounds that are a list": (
        "dataset",
        with_json("metadata", min=[]),
        "expected 'min' and 'max'",
    ),
    "bounds of NaN": ("dataset", bounds("min", "actions", [math.nan, 0]), "NaN is no number"),
    "infinite bounds": (
        "dataset",
        bounds("max", "actions", [math.inf, 0]),
        "Infinity is no number",
    ),
    "huge bounds": (
        "dataset",
        bounds("max", "actions", [10**400, 0]),
        "an integer in it has 401 digits",
    ),
    "bounds in words": ("dataset", bounds("max", "actions", ["7", 7]), "bounds of 'actions'"),
    "bounds of null": ("dataset", bounds("max", "actions", None), "bounds of 'actions'"),
    "bounds of true": ("dataset", bounds("max", "block_angle", True), "bounds of 'block_angle'"),
    "reversed bounds": ("dataset", bounds("max", "actions", [-3, 7]), "bounds of 'actions'"),
    "bounds of another length": ("dataset", bounds("max", "actions", [7]), "bounds of 'actions'"),
    "bounds for each time": (
        "dataset",
        bounds("max", "block_angle", [7, 7, 7, 7, 7]),
        "bounds of 'block_angle'",
    ),
    "a mapping of bounds": ("dataset", bounds("max", "actions", {"0": 7}), "bounds of 'actions'"),
}


def put_span(first, stop):
    def change(file):
        file.attrs["first"], file.attrs["stop"] = first, stop

    return change


VALUES = {
    "a duration of zero": ("policies", set_to("duration", 0, 0.0), "'duration' of above 0"),
    "a negative duration": ("policies", set_to("duration", 0, -1.0), "'duration' of above 0"),
    "an endless duration": ("policies", set_to("duration", 0, 1e9), "'duration' of above 0"),
    "no stiffness": ("policies", set_to("stiffness", 5, 0.0), "'stiffness' of above 0"),
    "negative damping": ("policies", set_to("damping", 5, -1.0), "'damping' of 0 or more"),
    "negative noise": (
        "rollouts",
        set_to("action_noise_std", 5, -1.0),
        "'action_noise_std' of 0 or more",
    ),
    "a negative seed": ("policies", set_to("seed", 5, -1), "'seed' of 0 or more"),
    "a negative trajectory": ("policies", set_to("trajectory", 0, -1), "'trajectory' of 0 or more"),
    "trajectories twice": ("policies", set_to("trajectory", 5, 4), "consecutive trajectories"),
    "trajectories with a gap": ("policies", set_to("trajectory", -1, 99), "consecutive traject"),
    "reversed trajectories": (
        "rollouts",
        set_to("trajectory", slice(None), np.arange(N)[::-1]),
        "consecutive trajectories",
    ),
    "another span": ("rollouts", put_span(3, 3 + N), "'first' and 'stop' are not those"),
    "no length": ("rollouts", set_to("length", 0, 0), "'length' of 1 to T"),
    "a negative length": ("rollouts", set_to("length", 0, -3), "'length' of 1 to T"),
    "a length beyond the arrays": ("rollouts", set_to("length", 0, T + 1), "'length' of 1 to T"),
    "another length": ("rollouts", set_to("length", slice(None), 2), "does not agree with 'len"),
    "a mask that denies all": (
        "rollouts",
        set_to("action_mask", slice(None), False),
        "'action_mask' does not agree with 'length'",
    ),
    "a mask that allows all": (
        "rollouts",
        set_to("observation_mask", slice(None), True),
        "'observation_mask' does not agree with 'length'",
    ),
    "a truth of two": ("rollouts", two_as_truth("success"), "'success' of 0 to 1, found 2"),
    "coverage above one": ("rollouts", set_to("coverage", (3, 0), 1.5), "'coverage' of 0 to 1"),
    "a negative reward": ("rollouts", set_to("rewards", (3, 0), -1.0), "'rewards' of 0 to 1"),
    "a negative time": ("rollouts", set_to("state_times", (3, 0), -1.0), "'state_times' of 0 to"),
    "a policy of no duration": ("rollouts", set_to("condition", (9, 0), 0.0), "duration in 'cond"),
    "a policy without stiffness": ("rollouts", set_to("condition", (9, -3), 0.0), "stiffness in"),
    "a scaled policy of no duration": (
        "dataset",
        set_to("condition", (9, 0), -2.0),
        "duration in 'condition'",
    ),
    "a split of 3": ("dataset", set_to("split", 0, 3), "'split' of 0 to 2, found 3"),
    "a negative weight": ("ensembles", set_to("weight", 0, -1.0), "'weight' of 0 or more"),
    "a weight of NaN": ("ensembles", set_to("weight", 0, math.nan), "'weight' of 0 or more"),
    "no horizon": ("ensembles", set_to("horizon_s", 0, 0.0), "'horizon_s' of above 0"),
    "a horizon between steps": ("ensembles", set_to("horizon_s", 0, 0.15), "in steps of 0.1 s"),
    "half a step": ("ensembles", set_to("horizon_s", 0, 0.04), "in steps of 0.1 s"),
    "a negative step": ("ensembles", set_to("step", 0, -1), "'step' of 0 or more"),
    "a step beyond all trajectories": ("ensembles", set_to("step", 0, 600), "to end by step 600"),
    "a step beyond its own trajectories": (
        "ensembles",
        with_json("config", policies={"duration": [0.1, 0.4]}),
        "to end by step 4",
    ),
    "a negative trajectory of an ensemble": (
        "ensembles",
        set_to("trajectory", 0, -1),
        "'trajectory' of 0 or more",
    ),
    "an episode twice": ("episodes", set_to("episode", 1, 0), "expected consecutive episodes"),
    "a task twice": ("goals", set_to("task", 1, 0), "expected consecutive tasks, found others"),
    "an episode without a step": ("episodes", set_to("length", 0, 0), "'length' of 1 to S"),
    "a success without coverage": (
        "episodes",
        set_to("first_step", 0, 1),
        "'first_step' does not agree with 'coverage'",
    ),
    "a lasting success without coverage": (
        "episodes",
        set_to("first_held", 0, 1),
        "'first_held' does not agree with 'coverage'",
    ),
    "coverage after the end": ("episodes", set_to("length", 0, 1), "'coverage' is above 0 past"),
    "a disturbance after the end": (
        "episodes",
        set_to("disturbed_step", np.argmin(some_arrays("episodes")["length"]), SIZES["S"]),
        "'disturbed_step' is past 'length'",
    ),
    "a goal after the end": (
        "goals",
        set_to("block_step", np.argmin(some_arrays("goals")["length"]), SIZES["S"]),
        "'block_step' is past 'length'",
    ),
    "a share above 1": ("pushes", set_to("reached", 0, 1.1), "'reached' of 0 to 1, found 1.1"),
}
for kind, fields in SCHEMAS.items():
    for name, field in fields.items():
        if "float" in field.dtype:
            for value in (math.nan, math.inf, -math.inf, 1e30):
                place = (N // 2,) + (0,) * len(field.axes)
                VALUES[f"{value:g} in {name} of {kind}"] = (
                    kind,
                    set_to(name, place, value),
                    f"expected '{name}' of ",
                )

CASES = {
    f"{what}: {name}": case
    for what, table in (
        ("types", TYPES),
        ("storage", STORAGE),
        ("attributes", ATTRIBUTES),
        ("values", VALUES),
    )
    for name, case in table.items()
}


@pytest.mark.parametrize("labelled", [True, False], ids=["labelled", "without a label"])
@pytest.mark.parametrize("name", CASES)
def test_what_no_file_of_ours_holds_is_refused_in_one_line(name, labelled, sound, tmp_path):
    kind, change, message = CASES[name]
    path = tmp_path / f"{kind}.h5"
    changed(sound / f"{kind}.h5", path, change, labelled=labelled)
    with (
        pytest.raises(StoreError, match=message) as caught,
        store.reading(path, kind, unlabelled=not labelled),
    ):
        pass
    assert str(caught.value).startswith(f"{path}: ")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("labelled", [True, False], ids=["labelled", "without a label"])
@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_sound_copy_is_read(kind, labelled, sound, tmp_path):
    """So that the cases above are refused for what was changed in them."""
    path = tmp_path / f"{kind}.h5"
    changed(sound / f"{kind}.h5", path, lambda file: None, labelled=labelled)
    with store.reading(path, kind, unlabelled=not labelled) as file:
        for name, values in some_arrays(kind).items():
            np.testing.assert_array_equal(file[name], values)


@pytest.mark.parametrize("kind", SCHEMAS)
def test_a_file_whose_label_was_cut_off_is_read_only_where_that_is_asked_for(kind, sound, tmp_path):
    path = tmp_path / f"{kind}.h5"
    path.write_bytes((sound / f"{kind}.h5").read_bytes()[store.USER_BLOCK :])
    with pytest.raises(StoreError, match="has no label"), store.reading(path, kind):
        pass
    with pytest.raises(label.LabelError, match="has no label"):
        store.attributes_of(path)
    with store.reading(path, kind, unlabelled=True) as file:
        for name, values in some_arrays(kind).items():
            np.testing.assert_array_equal(file[name], values)


LABELS: dict[str, tuple[dict[str, Any], str]] = {
    "another kind": ({"format": "nsf_pipeline policies"}, "its label says format nsf_pipeline pol"),
    "another start": ({"first": 3}, "its label says first 3, it holds 0"),
    "another end": ({"stop": 3}, "its label says stop 3, it holds 70"),
    "no span": ({"first": None, "stop": None}, "its label says first None, it holds 0"),
    "a list": ({"first": [0]}, r"its label says first \[0\], it holds 0"),
    "another fingerprint": ({"fingerprint": "f" * 16}, "its label says fingerprint ffffffffffffff"),
    "no fingerprint": ({"fingerprint": None}, "its label says fingerprint None, it holds 01234567"),
    "two lines": ({"fingerprint": "a\nb"}, r"its label says fingerprint a\\nb, it holds 01234567"),
}


@pytest.mark.parametrize("name", LABELS)
def test_a_label_that_says_something_else_than_the_file_is_refused(name, sound, tmp_path):
    fields, message = LABELS[name]
    path = tmp_path / "rollouts.h5"
    path.write_bytes((sound / "rollouts.h5").read_bytes())
    with path.open("rb") as file:
        sealed = label.read(file)
    assert sealed
    seal(path, sealed | fields)
    with (
        pytest.raises(StoreError, match=message) as caught,
        store.reading(path, "rollouts"),
    ):
        pass
    assert str(caught.value).isprintable()
    with pytest.raises(label.LabelError, match=message):
        store.attributes_of(path)


BEGINNINGS = {
    "a deep label": b'{"format": "nsf_pipeline rollouts", "first": ' + b"[" * 100_000 + b"\n",
    "a longer label": b'{"format": "nsf_pipeline rollouts"}'.ljust(1023) + b"\n",
    "a size in words": b'{"format": "nsf_pipeline rollouts", "size": "70"}'.ljust(511) + b"\n",
    "a program": b"#!/bin/sh\n".ljust(512),
    "blanks": b" " * 512,
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_other_things_before_the_content_are_refused(name, sound, tmp_path):
    path = tmp_path / "rollouts.h5"
    content = (sound / "rollouts.h5").read_bytes()[store.USER_BLOCK :]
    path.write_bytes(BEGINNINGS[name] + content)
    with (
        pytest.raises(StoreError, match="not a readable HDF5 file") as caught,
        store.reading(path, "rollouts", unlabelled=True),
    ):
        pass
    assert str(caught.value).isprintable()
    with pytest.raises(label.LabelError):
        store.attributes_of(path)


FAILURES: dict[str, Any] = {
    "OSError": (OSError, "bad sector"),
    "RuntimeError": (RuntimeError, "no chunk\nthere"),
    "ValueError": (ValueError, "no such"),
    "TypeError": (TypeError, "no type"),
    "KeyError": (KeyError, "no array"),
    "OverflowError": (OverflowError, "too large"),
    "MemoryError": (MemoryError,),
    "UnicodeDecodeError": (UnicodeDecodeError, "utf-8", b"\xff", 0, 1, "invalid"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_hdf5_raises_while_a_file_is_read_is_one_line(name, sound, monkeypatch):
    """As on a failing disk."""
    kind, *what = FAILURES[name]

    def fail(_):
        raise kind(*what)

    def read(file):
        array = file["seed"]
        monkeypatch.setattr(h5py.Dataset, "shape", property(fail))
        len(array)

    with (
        pytest.raises(StoreError, match=r"rollouts\.h5: damaged: ") as caught,
        store.reading(sound / "rollouts.h5", "rollouts") as file,
    ):
        read(file)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", sorted(FAILURES.keys() - {"OSError"}))
def test_what_other_code_raises_while_a_file_is_open_is_no_fault_of_the_file(name, sound):
    kind, *what = FAILURES[name]
    with pytest.raises(kind) as caught, store.reading(sound / "rollouts.h5", "rollouts"):
        raise kind(*what)
    assert not isinstance(caught.value, StoreError)


def fifo(path):
    os.mkfifo(path)


def listening(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


SPECIAL = {
    "a FIFO": fifo,
    "a socket": listening,
    "a link to an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a link to a device without an end": lambda path: path.symlink_to("/dev/urandom"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to("nothing"),
    "a folder": os.mkdir,
}


@pytest.mark.parametrize("name", SPECIAL)
def test_what_is_no_ordinary_file_is_refused_at_once(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the names of sockets must be short
    path = Path("it.h5")
    SPECIAL[name](path)
    with (
        pytest.raises(StoreError, match=r"^it\.h5: ") as caught,
        store.reading(path, "rollouts", unlabelled=True),
    ):
        pass
    assert str(caught.value).isprintable()
    with pytest.raises((label.LabelError, FileNotFoundError)):
        store.attributes_of(path)


def test_a_file_put_in_its_place_while_it_is_opened_is_not_read(sound, tmp_path, monkeypatch):
    path, checked = tmp_path / "rollouts.h5", label.check
    path.write_bytes((sound / "rollouts.h5").read_bytes())

    def exchanged(*arguments):
        checked(*arguments)
        other = tmp_path / "other.h5"
        changed(sound / "rollouts.h5", other, set_to("length", 0, -3), labelled=False)
        other.replace(path)

    monkeypatch.setattr(label, "check", exchanged)
    with (
        pytest.raises(StoreError, match="another file was put in its place"),
        store.reading(path, "rollouts"),
    ):
        pass


BOMBS = {
    "terabytes": terabytes,
    "terabytes in one array": terabytes_in_one,
    "a chunk of a gigabyte": gigabytes_in_a_chunk,
    "chunks of gigabytes": large_chunks,
    "a long text": with_json("config", x="x" * (1 << 25)),
}
LIMITED = """
import resource, sys
from nsf_pipeline.cli import main
from nsf_pipeline.data import replay
with open("/proc/self/statm") as file:
    held = int(file.read().split()[0]) * resource.getpagesize()
limit = held + (400 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
sys.exit(main(["replay", *sys.argv[1:]]))
"""


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_takes_little_memory(name, sound, tmp_path):
    path = tmp_path / "rollouts.h5"
    kind = "rollouts" if name in ("terabytes", "a long text") else "policies"
    changed(sound / f"{kind}.h5", path, BOMBS[name], labelled=False)
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, path], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"nsf_pipeline: {path}: ")
    assert "Memory" not in line


def test_a_file_with_a_hole_of_a_terabyte_is_refused_at_once(sound, tmp_path):
    path = tmp_path / "rollouts.h5"
    path.write_bytes((sound / "rollouts.h5").read_bytes()[store.USER_BLOCK :])
    os.truncate(path, 1 << 40)
    with (
        pytest.raises(StoreError, match=r"holds 10995115\d+ bytes beside its arrays"),
        store.reading(path, "rollouts", unlabelled=True),
    ):
        pass


def test_the_limits_are_those_of_the_settings():
    def most(section, name):
        limits = section.model_fields[name].metadata
        (found,) = (limit.le for limit in limits if hasattr(limit, "le"))
        return found

    assert most(DMPConfig, "n_basis") == checking.MAX_BASIS
    assert most(EnsembleConfig, "num_members") == checking.AXES["M"]
    with pytest.raises(ValueError, match="60"):
        Config.model_validate({"policies": {"duration": [0.1, schema.MAX_SECONDS + 0.1]}})
    Config.model_validate({"policies": {"duration": (0.1, schema.MAX_SECONDS)}})


VERBS = {
    "policies": [["rollouts", "--output", "out", "--config", "{}", "--policies"]],
    "rollouts": [
        ["replay"],
        ["video", "--trajectory", "best", "--output", "out", "--source"],
        ["video", "--config", "{}", "--trajectory", "0", "--output", "out", "--source"],
    ],
    "dataset": [
        ["replay"],
        ["picture", "--output", "out", "--dataset"],
        ["video", "--trajectory", "0", "--output", "out", "--source"],
    ],
    "ensembles": [],
    "episodes": [],
    "pushes": [],
    "goals": [],
}


@pytest.mark.parametrize("labelled", [True, False], ids=["labelled", "without a label"])
@pytest.mark.parametrize(
    "name",
    [
        "types: compounds",
        "types: references",
        "storage: bytes of another file",
        "storage: a virtual array",
        "storage: terabytes",
        "attributes: an array of text",
        "attributes: deep JSON",
        "attributes: bounds of NaN",
        "values: a negative length",
        "values: a mask that denies all",
        "values: nan in actions of dataset",
    ],
)
def test_the_verbs_end_with_one_line_and_write_nothing(
    name, labelled, sound, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    kind, change, _ = CASES[name]
    path = tmp_path / f"{kind}.h5"
    changed(sound / f"{kind}.h5", path, change, labelled=labelled)
    for verb in VERBS[kind]:
        assert main([*verb, str(path)]) == 1
        printed = capsys.readouterr()
        (line,) = printed.err.splitlines()
        assert line.startswith(f"nsf_pipeline: {path}: ")
        assert [file.name for file in tmp_path.iterdir()] == [path.name]
    assert main(["why", "--config", "{}", str(path)]) == 0
    assert "up to date" not in capsys.readouterr().out


@pytest.mark.parametrize("labelled", [True, False], ids=["labelled", "without a label"])
def test_verbs_that_read_any_file_say_what_made_it(labelled, sound, tmp_path, capsys):
    path = tmp_path / "rollouts.h5"
    change = with_attribute("versions", '{"nsf_pipeline": "0.0.7"}')
    changed(sound / "rollouts.h5", path, change, labelled=labelled)
    main(["replay", str(path)])
    expected = (
        f"{path}: made by an unknown stage, fingerprint 0123456789abcdef, "
        "nsf_pipeline version 0.0.7"
        if labelled
        else f"{path}: no label: nothing says what made it"
    )
    assert expected in capsys.readouterr().out.splitlines()
