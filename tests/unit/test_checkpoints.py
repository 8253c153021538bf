"""Checkpoints: a file that is not what training left is passed over in a line, never believed."""

import io
import json
import math
import os
import resource

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nsf_pipeline import label
from nsf_pipeline.config import TrainingConfig
from nsf_pipeline.training import Checkpoints
from nsf_pipeline.training.devices import Devices
from nsf_pipeline.training.state import SUMMED, TrainingLog, TrainingState
from nsf_pipeline.training.step import Step

CONFIG = TrainingConfig(steps=25, warmup_steps=1, validate_every=10)
PARAMETERS = {"a": jnp.ones((3, 4)), "b": jnp.zeros(5)}


def row(step, **changes):
    return {
        "step": step,
        "seconds": step / 10,
        **dict.fromkeys(SUMMED, 0.5),
        "validation_nll": 30.0 - step,
    } | changes


LOG = TrainingLog((row(10), row(20)), 2.5, 10.0)


def state_at(step, log=LOG, parameters=PARAMETERS):
    devices = Devices.all(CONFIG.batch_size)
    start = Step(parameters, CONFIG, devices, jax.random.key(0)).init(parameters)
    return TrainingState(start._replace(step=jnp.asarray(step)), parameters, log)


def start():
    return state_at(0, TrainingLog())


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    """A sound checkpoint of step 23."""
    folder = tmp_path_factory.mktemp("checkpoints")
    checkpoints = Checkpoints(folder, 1e9, print, CONFIG)
    checkpoints.save(state_at(23))
    assert checkpoints.newest is not None
    return checkpoints.newest.read_bytes()


def relabelled(fields, rest):
    kept = {name: value for name, value in fields.items() if name not in ("size", "sha256")}
    return label.line(label.seal(kept, io.BytesIO(rest))) + rest


def labelled(**changes):
    def change(content):
        line, rest = content.split(b"\n", 1)
        return relabelled(json.loads(line) | changes, rest)

    return change


def logged(before, after):
    """A part of the log's text replaced."""

    def change(content):
        line, log, arrays = content.split(b"\n", 2)
        assert before in log
        changed = log.replace(before, after, 1)
        return relabelled(json.loads(line), changed + b"\n" + arrays)

    return change


def log_of(text):
    def change(content):
        line, _, arrays = content.split(b"\n", 2)
        return relabelled(json.loads(line), text + b"\n" + arrays)

    return change


def history_of(*rows, best=10.0):
    return log_of(json.dumps({"history": rows, "seconds": 2.5, "best_nll": best}).encode())


def held(state):
    """The arrays of another state under this log and label."""

    def change(content):
        line, log, _ = content.split(b"\n", 2)
        arrays = io.BytesIO()
        eqx.tree_serialise_leaves(arrays, (state.current, state.best))
        return relabelled(json.loads(line), log + b"\n" + arrays.getvalue())

    return change


def with_current(**changes):
    state = state_at(23)
    return held(state._replace(current=state.current._replace(**changes)))


def arrays(change):
    def changed(content):
        line, log, rest = content.split(b"\n", 2)
        return relabelled(json.loads(line), log + b"\n" + change(rest))

    return changed


SPOILT = {"a": jnp.full((3, 4), jnp.nan), "b": jnp.zeros(5)}
UNSOUND = {
    "empty": lambda content: b"",
    "binary": lambda content: np.random.default_rng(0).bytes(5000),
    "cut off": lambda content: content[:-1],
    "a label only": lambda content: content.split(b"\n", 1)[0] + b"\n",
    "a byte altered": lambda content: content[:-1] + bytes([content[-1] ^ 1]),
    "HDF5": lambda content: label.HDF5 + content,
    "a model's label": labelled(format="nsf_pipeline model"),
    "a list for the format": labelled(format=["nsf_pipeline checkpoint 3"]),
    "an integer for the versions": labelled(versions=5),
    "a list for the versions": labelled(versions=["jax"]),
    "numbers for the versions": labelled(versions={"jax": 1}),
    "another step in the label": labelled(step=22),
    "a negative step": labelled(step=-23),
    "a step that is true": labelled(step=True),
    "a step that is text": labelled(step="23"),
    "no log": log_of(b""),
    "a log of a list": log_of(b"[]"),
    "a log of nothing": log_of(b"{}"),
    "a deep log": log_of(b"[" * 100_000),
    "a log with more in it": logged(b'"seconds": 2.5', b'"seconds": 2.5, "more": 1'),
    "a log twice": logged(b'"seconds": 2.5', b'"seconds": 2.5, "seconds": 2.5'),
    "a best that is a list": logged(b'"best_nll": 10.0', b'"best_nll": [10.0]'),
    "NaN seconds": logged(b'"seconds": 2.5', b'"seconds": NaN'),
    "infinite seconds": logged(b'"seconds": 2.5', b'"seconds": Infinity'),
    "negative seconds": logged(b'"seconds": 2.5', b'"seconds": -2.5'),
    "seconds of text": logged(b'"seconds": 2.5', b'"seconds": "2.5"'),
    "seconds of 400 digits": logged(b'"seconds": 2.5', b'"seconds": ' + b"9" * 400),
    "a best that is NaN": logged(b'"best_nll": 10.0', b'"best_nll": NaN'),
    "a best that was never reached": logged(b'"best_nll": 10.0', b'"best_nll": -1e9'),
    "a best that is none": logged(b'"best_nll": 10.0', b'"best_nll": Infinity'),
    "a history by name": logged(b'"history": [', b'"history": {}, "was": ['),
    "rows that are lists": history_of([1.0], [2.0]),
    "rows of text": history_of(row(10, nll="low"), row(20)),
    "rows of lists": history_of(row(10, nll=[1.0]), row(20)),
    "rows of true": history_of(row(10, clipped=True), row(20)),
    "rows of nothing": history_of(row(10, nll=None), row(20)),
    "a row too few": history_of(row(20)),
    "a row too many": history_of(row(10), row(20), row(23, validation_nll=50.0)),
    "no rows": history_of(best=math.inf),
    "rows in another order": history_of(row(20), row(10)),
    "rows of other steps": history_of(row(11), row(20)),
    "a row twice": history_of(row(10), row(10), row(20)),
    "a row without its step": history_of({k: v for k, v in row(10).items() if k != "step"}),
    "rows without validation": history_of(
        *({"step": n, "seconds": 1.0, "nll": 1} for n in (10, 20))
    ),
    "rows with another column": history_of(row(10, more=1.0), row(20, more=1.0)),
    "one row with another column": history_of(row(10), row(20, more=1.0)),
    "parameters that are NaN": with_current(parameters=SPOILT),
    "an optimiser that is NaN": with_current(
        optimiser=jax.tree.map(
            lambda leaf: leaf * jnp.nan if eqx.is_inexact_array(leaf) else leaf,
            state_at(23).current.optimiser,
        )
    ),
    "a running norm that is NaN": with_current(running_norm=jnp.asarray(jnp.nan)),
    "a best model that is NaN": held(state_at(23)._replace(best=SPOILT)),
    "a first loss that is NaN": with_current(first_nll=jnp.asarray(jnp.nan)),
    "a fault": with_current(fault=jnp.asarray(4)),
    "the state of another step": held(state_at(21)),
    "a negative step in the state": held(state_at(-23)),
    "wider parameters": held(state_at(23, parameters={"a": jnp.ones((3, 5)), "b": jnp.zeros(5)})),
    "parameters the other way round": held(
        state_at(23, parameters={"a": jnp.ones((4, 3)), "b": jnp.zeros(5)})
    ),
    "parameters of another type": held(
        state_at(23, parameters={"a": jnp.ones((3, 4), jnp.float16), "b": jnp.zeros(5)})
    ),
    "parameters and the best exchanged with others": held(
        state_at(23)._replace(best={"a": jnp.zeros(5), "b": jnp.ones((3, 4))})
    ),
    "no arrays": arrays(lambda rest: b""),
    "bytes left over": arrays(lambda rest: rest + b"\0"),
    "a megabyte left over": arrays(lambda rest: rest + b"\0" * (1 << 20)),
    "terabytes": arrays(lambda rest: rest.replace(b"(3, 4), }      ", b"(9999999, 4), }", 1)),
    "an array with pickle": arrays(lambda rest: rest.replace(b"'<f4'", b"'|O' ", 1)),
}


@pytest.mark.parametrize("name", UNSOUND)
def test_an_unsound_checkpoint_is_passed_over_in_a_line(name, content, tmp_path):
    path = tmp_path / "run/0000000023.checkpoint"
    path.parent.mkdir()
    changed = UNSOUND[name](content)
    assert changed != content
    path.write_bytes(changed)
    said: list[str] = []
    first = start()
    assert Checkpoints(path.parent, 1e9, said.append, CONFIG).restore(first) is first
    (line,) = said
    assert line.startswith(f"{path}: not a sound checkpoint: ")
    assert line.endswith("; trying the one before")
    assert line.isprintable()
    assert len(line) < 600


def fifo(path, content):
    os.mkfifo(path)


def gigabytes(path, content):
    with path.open("wb") as file:
        file.write(content.split(b"\n", 1)[0] + b"\n")
        file.truncate(1 << 36)


def long_log(path, content):
    """A label that is right about gigabytes, in which no line ends."""
    line = json.loads(content.split(b"\n", 1)[0])
    size = 1 << 33
    head = json.dumps(line | {"size": size}).encode() + b"\n"
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + size)


PLACED = {
    "a FIFO": ("0000000023", fifo),
    "a device": ("0000000023", lambda path, content: path.symlink_to("/dev/zero")),
    "a link to itself": ("0000000023", lambda path, content: path.symlink_to(path)),
    "a folder": ("0000000023", lambda path, content: path.mkdir()),
    "gigabytes of nothing": ("0000000023", gigabytes),
    "gigabytes that are labelled": ("0000000023", long_log),
    "under another step": ("0000000024", lambda path, content: path.write_bytes(content)),
    "under no step": ("newest", lambda path, content: path.write_bytes(content)),
    "under a step of other digits": ("²³", lambda path, content: path.write_bytes(content)),
}


@pytest.mark.parametrize("name", PLACED)
def test_the_checkpoint_before_is_taken(name, content, tmp_path):
    sound = tmp_path / "0000000023.checkpoint"
    checkpoints = Checkpoints(tmp_path, 1e9, print, CONFIG)
    checkpoints.save(state_at(21))
    stem, place = PLACED[name]
    path = sound.with_name(f"{stem}.checkpoint")
    place(path, content)
    said: list[str] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = Checkpoints(tmp_path, 1e9, said.append, CONFIG).restore(start())
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB
    assert found.step == 21
    assert said[0].startswith(f"{path}: not a sound checkpoint: ")
    assert said[1].startswith("going on from step 21: ")


def test_a_sound_checkpoint_comes_back(content, tmp_path):
    """With a validation that was NaN, and one that was infinite."""
    rows = (row(10, validation_nll=math.nan), row(20, validation_nll=math.inf))
    for number, log in enumerate((LOG, TrainingLog(rows, 2.5, math.inf))):
        folder = tmp_path / str(number)
        saved = state_at(23, log)
        Checkpoints(folder, 1e9, print, CONFIG).save(saved)
        found = Checkpoints(folder, 1e9, print, CONFIG).restore(start())
        assert eqx.tree_equal(found[:2], saved[:2])
        assert repr(found.log) == repr(saved.log)
