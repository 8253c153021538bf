"""HDF5 files: written, closed, reopened and compared; refused if not whole."""

import fcntl
import json
import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from conftest import ROOT
from hdf5_files import ATTRIBUTES, SIZES, some_arrays, some_attributes
from hypothesis import given, settings
from hypothesis import strategies as st

from nsf_pipeline.data import store
from nsf_pipeline.data.store import SCHEMAS, StoreError
from nsf_pipeline.files import FileError


@pytest.fixture(params=SCHEMAS)
def kind(request):
    return request.param


@pytest.fixture
def path(tmp_path):
    return tmp_path / "new folder" / "00000.h5"


def test_what_is_written_is_read(kind, path):
    arrays = some_arrays(kind)
    store.write(path, kind, arrays, some_attributes(kind))
    found = store.read(path, kind)
    assert found.keys() == arrays.keys() == SCHEMAS[kind].keys()
    for name, values in arrays.items():
        assert found[name].dtype == SCHEMAS[kind][name].dtype
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    first = next(iter(arrays))
    assert store.read(path, kind, (first,)).keys() == {first}


def test_files_are_plain_hdf5_and_say_what_they_hold(kind, path):
    arrays = some_arrays(kind)
    store.write(path, kind, arrays, some_attributes(kind))
    with h5py.File(path) as file:
        assert file.attrs["schema"] == kind
        assert file.attrs["schema_version"] == store.SCHEMA_VERSION
        assert file.attrs["fingerprint"] == ATTRIBUTES["fingerprint"]
        assert file.attrs["dt"] == 0.1
        assert json.loads(file.attrs["config"]) == ATTRIBUTES["config"]
        for name, field in SCHEMAS[kind].items():
            np.testing.assert_array_equal(file[name][...], arrays[name])
            assert file[name].attrs["unit"] == field.unit
            assert file[name].attrs["meaning"] == field.meaning


def test_identical_content_gives_identical_bytes(kind, tmp_path):
    first, second, third = (tmp_path / name for name in ("first.h5", "second.h5", "third.h5"))
    store.write(first, kind, some_arrays(kind), ATTRIBUTES)
    backwards = dict(reversed(some_arrays(kind).items()))
    store.write(second, kind, backwards, dict(reversed(ATTRIBUTES.items())))
    store.write(third, kind, some_arrays(kind, seed=1), ATTRIBUTES)
    assert first.read_bytes() == second.read_bytes()
    assert first.read_bytes() != third.read_bytes()


# Arrays that do not make a file of rollouts, from those that do.
MISFITS = {
    "missing": (lambda arrays: arrays.pop("rewards"), "expected an array 'rewards'"),
    "unknown": (lambda arrays: arrays.update(extra=np.zeros(70)), "has no array 'extra'"),
    "too short": (lambda arrays: arrays.update(seed=np.zeros(69, int)), r"'seed'.*\(70,\), got"),
    "too flat": (
        lambda arrays: arrays.update(targets=np.zeros((70, 4))),
        r"'targets'.*, 2\), got \(70, 4\)",
    ),
    "T states": (
        lambda arrays: arrays.update(
            {
                name: values[:, :-1]
                for name, values in arrays.items()
                if "T+1" in SCHEMAS["rollouts"][name].axes
            }
        ),
        r"expected T \+ 1 states for 4 actions, got 4",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_misfits_are_not_written(case, path):
    spoil, message = MISFITS[case]
    arrays = some_arrays("rollouts")
    spoil(arrays)
    with pytest.raises(ValueError, match=message):
        store.write(path, "rollouts", arrays, ATTRIBUTES)
    assert not path.exists()


@pytest.mark.parametrize("case", MISFITS)
def test_misfits_written_elsewhere_are_refused(case, path):
    spoil, message = MISFITS[case]
    arrays = some_arrays("rollouts")
    spoil(arrays)
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file.attrs.update(schema="rollouts", schema_version=store.SCHEMA_VERSION)
        for name, values in arrays.items():
            file[name] = values
    assert_refused(path, "rollouts", message, unlabelled=True)


def assert_refused(path, kind, message, **options):
    with (
        pytest.raises(StoreError, match=message) as caught,
        store.reading(path, kind, **options),
    ):
        pass
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_file_without_a_label_is_read_only_where_that_is_asked_for(path):
    arrays = some_arrays("policies")
    path.parent.mkdir()
    with h5py.File(path, "w") as file:
        file.attrs.update(schema="policies", schema_version=store.SCHEMA_VERSION)
        for name, values in arrays.items():
            file[name] = values
    assert_refused(path, "policies", "has no label, so nothing says what made it")
    with store.reading(path, "policies", unlabelled=True) as file:
        np.testing.assert_array_equal(file["goal"], arrays["goal"])
        assert store.origin(path, file) == f"{path}: no label: nothing says what made it"


REFUSED = {
    "missing": (lambda path: path.unlink(), "no such file; expected the HDF5 file of rollouts"),
    "empty": (lambda path: path.write_bytes(b""), "not a readable HDF5 file"),
    "a text": (lambda path: path.write_text("hello\n" * 999), "not a readable HDF5 file"),
    "truncated": (lambda path: os.truncate(path, path.stat().st_size // 2), "truncated or damaged"),
    "a byte short": (lambda path: os.truncate(path, path.stat().st_size - 1), "truncated or dam"),
    "only its seal": (lambda path: os.truncate(path, 200), "truncated or damaged"),
    "another kind": (
        lambda path: store.write(path, "policies", some_arrays("policies"), {}),
        "expected rollouts, got policies",
    ),
    "another version": (
        lambda path: with_attribute(path, schema_version=1),
        "expected rollouts of schema version 3, got rollouts of version 1",
    ),
    "foreign": (lambda path: foreign(path), "got None of version None"),
}


def with_attribute(path, **attributes):
    with h5py.File(path, "w") as file:
        file.attrs.update(schema="rollouts", **attributes)


def foreign(path):
    with h5py.File(path, "w") as file:
        file["observations"] = np.zeros(3)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_a_whole_file_of_its_kind_is_refused(case, path):
    spoil, message = REFUSED[case]
    store.write(path, "rollouts", some_arrays("rollouts"), ATTRIBUTES)
    spoil(path)
    assert_refused(path, "rollouts", message, unlabelled=True)


def test_damage_anywhere_is_found(path):
    """HDF5 itself misses changed numbers, and never returns from some holes in its heaps."""
    store.write(path, "rollouts", some_arrays("rollouts"), ATTRIBUTES)
    whole = path.read_bytes()
    for place in range(store.USER_BLOCK, len(whole), len(whole) // 97):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        assert_refused(path, "rollouts", "truncated or damaged")


def test_damage_met_while_reading_is_reported(path):
    """As on a failing disk: the file opens, and then a read fails."""
    store.write(path, "rollouts", some_arrays("rollouts"), ATTRIBUTES)
    with pytest.raises(StoreError, match="damaged: bad sector"), store.reading(path, "rollouts"):
        raise OSError("bad\nsector")


def test_an_interrupted_write_changes_nothing(path):
    store.write(path, "rollouts", some_arrays("rollouts"), ATTRIBUTES)
    before = path.read_bytes()
    arrays = some_arrays("rollouts", seed=1)
    arrays["success"] = np.array(["not a truth"] * SIZES["n"])  # the last array of the schema
    with pytest.raises((TypeError, ValueError)):
        store.write(path, "rollouts", arrays, ATTRIBUTES)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_full_disk_is_reported_and_changes_nothing(path, monkeypatch):
    store.write(path, "rollouts", some_arrays("rollouts"), ATTRIBUTES)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(FileError, match="cannot write it: No space left on device; nothing was"):
        store.write(path, "rollouts", some_arrays("rollouts", seed=1), ATTRIBUTES)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_a_folder_that_cannot_be_made_is_reported(tmp_path):
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "00000.h5"
    with pytest.raises(FileError, match=f"^{path}: cannot write it: [^\n]*$"):
        store.write(path, "policies", some_arrays("policies"), {})


def test_a_copy_is_accepted(path, tmp_path):
    store.write(path, "policies", some_arrays("policies"), ATTRIBUTES)
    copy = tmp_path / "copy.h5"
    shutil.copyfile(path, copy)
    np.testing.assert_array_equal(
        store.read(copy, "policies")["seed"], some_arrays("policies")["seed"]
    )


# Magnitudes as in this data set: nothing, or from 3e-5 up.
magnitudes = st.floats(2**-15, 2000.0, width=32)
stored = st.one_of(st.just(0.0), magnitudes, magnitudes.map(lambda value: -value))


@settings(max_examples=300)
@given(st.lists(stored, min_size=1, max_size=20))
def test_scaling_loses_no_float32(values):
    values = np.array(values, np.float32)
    low, high = (np.float64(bound) for bound in (values.min(), values.max()))
    scaled = store.scale(values, low, high)
    assert scaled.dtype == np.float64
    assert np.abs(scaled).max() <= 1.0
    np.testing.assert_array_equal(store.unscale(scaled, low, high).astype(np.float32), values)


@settings(max_examples=200)
@given(stored, stored, stored)
def test_scaling_by_the_bounds_of_others_loses_none_either(value, one, other):
    """As with trajectories outside the train split."""
    low, high = np.float64(min(one, other)), np.float64(max(one, other))
    if high - low < 0.1:  # narrower than any array's range, unless it is constant
        high = low
    back = store.unscale(store.scale(np.array([value]), low, high), low, high)
    assert back.astype(np.float32) == value


def test_scale_puts_bounds_at_one_and_constants_at_minus_one():
    low, high = np.array([-3.0, 5.0]), np.array([7.0, 5.0])
    values = np.array([[-3.0, 5.0], [7.0, 5.0], [2.0, 5.0]])
    expected = [[-1.0, -1.0], [1.0, -1.0], [0.0, -1.0]]
    np.testing.assert_array_equal(store.scale(values, low, high), expected)
    np.testing.assert_array_equal(store.unscale(np.array(expected), low, high), values)


def test_the_label_says_what_a_file_holds_without_the_hdf5_library(path):
    arrays = some_arrays("rollouts")
    arrays["trajectory"] = np.arange(140, 210)
    store.write(path, "rollouts", arrays, ATTRIBUTES)
    with path.open("rb") as file:
        block = file.read(store.USER_BLOCK)
    fields = json.loads(block)
    assert fields.pop("sha256") != fields.pop("fingerprint") == ATTRIBUTES["fingerprint"]
    size = path.stat().st_size - store.USER_BLOCK
    assert fields == {"format": "nsf_pipeline rollouts", "first": 140, "stop": 210, "size": size}


def test_a_changed_label_is_found(path):
    """Every byte of it, the blanks that fill it up too."""
    store.write(path, "policies", some_arrays("policies"), ATTRIBUTES)
    whole = path.read_bytes()
    for place in range(store.USER_BLOCK):
        flipped = bytearray(whole)
        flipped[place] ^= 1
        path.write_bytes(flipped)
        with pytest.raises(StoreError):
            store.read(path, "policies")


# Name: (the variable's value, whether files are locked then)
LOCKINGS = {
    "unset": (None, False),
    "false": ("FALSE", False),
    "true": ("TRUE", True),
    "best effort": ("BEST_EFFORT", True),
    "unknown": ("perhaps", False),
}
USE = """
import sys
from types import SimpleNamespace
from pathlib import Path
from hdf5_files import ATTRIBUTES, some_arrays
from nsf_pipeline.data import store
first, second = map(Path, sys.argv[1:])
store.write(second, "policies", some_arrays("policies"), ATTRIBUTES)
store.read(first, "policies")
"""


@pytest.mark.parametrize(("value", "locks"), LOCKINGS.values(), ids=LOCKINGS)
def test_the_environment_may_ask_for_locks_and_changes_no_byte(value, locks, tmp_path):
    first, second = tmp_path / "first.h5", tmp_path / "second.h5"
    store.write(first, "policies", some_arrays("policies"), ATTRIBUTES)
    environment = {name: text for name, text in os.environ.items() if name != store.LOCKING}
    environment |= {store.LOCKING: value} if value else {}
    environment["PYTHONPATH"] = os.pathsep.join(map(str, [ROOT, ROOT / "tests"]))

    def use():
        command = [sys.executable, "-c", USE, str(first), str(second)]
        return subprocess.run(command, env=environment, text=True, capture_output=True, check=False)

    done = use()
    assert done.returncode == 0, done.stderr
    assert second.read_bytes() == first.read_bytes()
    with first.open("rb+") as file:  # locking fails, as where a file system has no locks
        fcntl.flock(file, fcntl.LOCK_EX)
        done = use()
    assert bool(done.returncode) == ("first.h5: cannot be locked" in done.stderr) == locks
    assert (f"run `unset {store.LOCKING}`" in done.stderr) == locks
    assert second.read_bytes() == first.read_bytes()


def test_small_values_are_compared_as_a_data_set_holds_them():
    """Their last bits are lost, so that no replay gives them back."""
    values = np.array([1.2345678e-7, 1.5], np.float32)
    bounds = {"min": {"block_angle": -2.9}, "max": {"block_angle": 9.3}}
    file = SimpleNamespace(attrs={"metadata": json.dumps(bounds)})
    back = store.as_read(file, "block_angle", values)
    assert back.dtype == np.float32
    assert back[1] == values[1]
    assert 0 < abs(back[0] - values[0]) < 1e-11
    np.testing.assert_array_equal(store.as_read(file, "block_angle", back), back)
