"""Files that are dated in the future are dated now."""

import os
import time

import pytest

from nsf_pipeline.cli import main
from nsf_pipeline.errors import UserError
from nsf_pipeline.system import clocks

AHEAD = 7200


@pytest.fixture
def results(tmp_path):
    """A folder with files of the past and the future."""
    folder, now = tmp_path / "results", time.time()
    (folder / "rollouts").mkdir(parents=True)
    for name, ahead in {
        "old.h5": -AHEAD,
        "rollouts/0.h5": AHEAD,
        "rollouts/1.h5": AHEAD + 1,
        "episodes/row/0.json": AHEAD,
        "dataset.h5": AHEAD + 2,
        "model.eqx": AHEAD + 3,
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
        os.utime(folder / name, (now + ahead, now + ahead))
    return folder


def times(folder):
    return {path.name: path.stat().st_mtime for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("read", ["dataset.h5", "rollouts/1.h5", "rollouts", "episodes"])
def test_all_files_of_the_future_are_dated_now_and_none_of_the_past(read, results):
    before = times(results)
    clocks.date_now([results / read], results)
    after = times(results)
    assert after.pop("old.h5") == before.pop("old.h5")
    (same,) = set(after.values())
    assert abs(same - time.time()) < 60


@pytest.mark.parametrize("read", ["old.h5", "missing.h5", "a loop", "nul\0", "n" * 300])
def test_if_no_input_is_of_the_future_nothing_changes(read, results):
    before = times(results)
    (results / "a loop").symlink_to(results / "a loop")
    clocks.date_now([results / read], results)
    assert times(results) == before


def of_another_user(path, *, ns=None, **follow):
    """Who may write a file can only date it now."""
    if ns:
        raise PermissionError
    REAL(path, **follow)


def read_only(path, **given):
    raise OSError(30, "Read-only file system")


def ignored(path, **given):
    pass


REAL = os.utime


def test_a_file_of_another_user_is_dated_now(results, monkeypatch):
    monkeypatch.setattr(os, "utime", of_another_user)
    clocks.date_now([results / "dataset.h5"], results)
    assert max(times(results).values()) < time.time() + 60


@pytest.mark.parametrize("utime", [read_only, ignored])
def test_a_time_that_cannot_be_changed_is_refused(utime, results, monkeypatch):
    monkeypatch.setattr(os, "utime", utime)
    with pytest.raises(UserError, match=r"dataset\.h5: its modification time lies in the future"):
        clocks.date_now([results / "dataset.h5"], results)


FILE = "results/dataset.h5"
# By case: a verb, and an input of it that is dated in the future.
INPUTS = {
    "training": ["train", "--dataset", FILE],
    "scores": ["evaluate", "--model", FILE],
    "a variant": ["evaluate", f"--variant=a={FILE}"],
    "a variant, = in its path": ["evaluate", "--variant=a=results/a=b.eqx"],
    "settings, = in their path": ["settings-page", "--config", "results/a=b.eqx"],
    "the history": ["upload", "--metrics", FILE],
    "uploaded scores": ["upload", "--table", FILE],
    "their record": ["upload", "--provenance", FILE],
    "a video": ["upload", "--video", FILE],
    "a table": ["table-page", FILE],
}


@pytest.mark.parametrize("case", INPUTS)
def test_a_job_is_refused_before_it_starts(case, results, monkeypatch, capsys):
    monkeypatch.chdir(results.parent)
    (results / "model.eqx").rename(results / "a=b.eqx")
    monkeypatch.setattr(os, "utime", read_only)
    (results / "wrong.yaml").write_text("seed: no number")  # an error if the job started
    settings = [] if "--config" in INPUTS[case] else ["--config", "results/wrong.yaml"]
    assert main([*INPUTS[case], *settings, "--output", "results/other"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    late = "results/a=b.eqx" if any("a=b" in word for word in INPUTS[case]) else FILE
    assert line.startswith(f"nsf_pipeline: {late}: its modification time lies in the")


def test_outside_a_run_times_stay_as_they_are(results, monkeypatch, capsys):
    monkeypatch.chdir(results.parent)
    before = times(results)
    assert main(["picture", "--dataset", "results/dataset.h5", "--output", "elsewhere.png"]) == 1
    assert times(results) == before
