"""Signals that arrive at any moment: what comes out is what the signal raised."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nsf_pipeline
from nsf_pipeline import cli
from nsf_pipeline.data import store
from nsf_pipeline.dmp import condition_dim
from nsf_pipeline.files import open_file, read_table, replacing
from nsf_pipeline.system.signals import Ended, behind

OWN = (str(Path(nsf_pipeline.__file__).parent), os.fdopen.__code__.co_filename)
"""Code that signals are sent to: no callbacks, where Python drops exceptions."""
POINTS = 150
"""Calls, spread evenly over all that an action makes, after which a signal arrives."""


def interrupted(action, at, raised):
    """Do it and raise an exception after a call; returns how many calls there were.

    Python handles signals when functions have returned, among others, also those written in C.
    """
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        if event in ("call", "c_return") and frame.f_code.co_filename.startswith(OWN):
            count += 1
            if count == at:
                sys.setprofile(None)
                raise raised

    sys.setprofile(profile)
    try:
        action()
    finally:
        sys.setprofile(None)
    return count


def shard():
    sizes: dict[Any, Any] = {"B": 6, "C": condition_dim(6)}
    arrays = {
        name: np.ones((3, *(sizes.get(axis, axis) for axis in field.axes)), field.dtype)
        for name, field in store.POLICIES.items()
    }
    return arrays | {"trajectory": np.arange(3)}


def read_shard(folder):
    with store.reading(folder / "whole.h5", "policies", unlabelled=True) as file:
        file["trajectory"][...]


def read_text(folder):
    with open_file(folder / "table.csv") as file:
        file.read()


def write_text(folder):
    with replacing(folder / "new.csv") as path:
        path.write_text("a\n")


ACTIONS = {
    "reading a shard": read_shard,
    "reading a file": read_text,
    "reading a table": lambda folder: read_table(folder / "table.csv"),
    "writing a file": write_text,
}


# A file that no name holds yet is closed by Python, with a warning.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ACTIONS)
def test_a_signal_at_any_moment_is_what_comes_out(name, tmp_path):
    store.write(tmp_path / "whole.h5", "policies", shard(), {"fingerprint": "0" * 16})
    (tmp_path / "table.csv").write_text("a,b\n1,2\n")

    def action():
        ACTIONS[name](tmp_path)

    whole = interrupted(action, -1, None)
    assert whole > 5
    for at in sorted({*np.linspace(1, whole, POINTS, dtype=int).tolist()}):
        with pytest.raises(Ended):
            interrupted(action, at, Ended(signal.SIGTERM))


def failing_while_it_tidies(raised):
    try:
        raise raised
    finally:
        Path("/no/such/folder/at all").read_bytes()


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (Ended(signal.SIGHUP), 129, "nsf_pipeline: stopped by SIGHUP\n"),
        (KeyboardInterrupt(), 130, "nsf_pipeline: interrupted\n"),
    ],
)
def test_an_error_while_tidying_does_not_hide_the_signal(raised, code, line, monkeypatch, capsys):
    monkeypatch.setattr(cli.data, "load_config", lambda _: failing_while_it_tidies(raised))
    assert (cli.main(["generate-data"]), capsys.readouterr().err) == (code, line)


def test_behind_other_errors_is_no_signal():
    with pytest.raises(OSError, match="No such file") as raised:
        failing_while_it_tidies(ValueError())
    assert behind(raised.value) is None
