"""CSV and Markdown that verbs are given: tables, or one line."""

import json
import os

import numpy as np
import pandas as pd
import pytest

from nsf_pipeline import tracking
from nsf_pipeline.cli import main
from nsf_pipeline.config import Config
from nsf_pipeline.evaluation.metrics import Estimate
from nsf_pipeline.evaluation.speed import read_crps
from nsf_pipeline.files import FileError, read_table
from nsf_pipeline.stages import STAGES
from nsf_pipeline.stamps import Stamps
from nsf_pipeline.tracking import history_in
from nsf_pipeline.training.table import growing_table

HEAD = "model,horizon_s,group,contact,crps,crps_lower,crps_upper,n_states\n"
ROW = "flow,2,block_position,all,3,2,4,64\n"


def text(content):
    return lambda path: path.write_text(content)


def plain(content):
    return lambda path: path.write_bytes(content)


def sparse(path):
    with path.open("wb") as file:
        file.truncate(1 << 36)


NO_TABLES = {
    "nothing there": lambda path: None,
    "a FIFO": os.mkfifo,
    "a folder": os.mkdir,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to itself": lambda path: path.symlink_to(path),
    "gigabytes": sparse,
    "empty": plain(b""),
    "a line break": plain(b"\n"),
    "binary": plain(np.random.default_rng(0).bytes(4096)),
    "NUL": plain(b"\0" * 100),
    "UTF-16": plain((HEAD + ROW).encode("utf-16")),
    "not UTF-8": plain((HEAD + ROW).encode().replace(b"flow", b"\xff")),
    "a row too short": text(HEAD + ROW + "flow,1\n"),
    "a row too long": text(HEAD + ROW.replace("64", "64,65")),
    "a quote that does not end": text(HEAD + '"flow\n' + ROW),
    "a cell of megabytes": text(HEAD + ROW.replace("64", "6" * (1 << 20))),
    "a column twice": text(HEAD.replace("n_states", "crps") + ROW),
    "a column without a name": text(HEAD.replace("n_states", "") + ROW),
    "a column that cannot be printed": text(HEAD.replace("n_states", "\x1b[2J") + ROW),
    "a hundred thousand columns": text(",".join(f"c{n}" for n in range(100_000)) + "\n"),
}
NO_SCORES = NO_TABLES | {
    "no rows": text(HEAD),
    "a history": text("step,nll\n1,2\n"),
    "no model": text(HEAD.replace("model", "modell") + ROW),
    "no lower bound": text(HEAD.replace("crps_lower", "lower") + ROW),
    "scores of text": text(HEAD + ROW.replace("3", "low")),
    "scores that are infinite": text(HEAD + ROW.replace("3", "inf")),
    "scores of 1e308": text(HEAD + ROW.replace("3", "1e308")),
    "scores below zero": text(HEAD + ROW.replace("3", "-3")),
    "bounds that are NaN": text(HEAD + ROW.replace(",2,4,", ",,4,")),
    "horizons of text": text(HEAD + ROW.replace("flow,2", "flow,two")),
    "another horizon": text(HEAD + ROW.replace("flow,2", "flow,1")),
    "no scores of all states": text(HEAD + ROW.replace("all", "free")),
    "undefined scores only": text(HEAD + ROW.replace("3", "")),
    "the same scores twice": text(HEAD + ROW + ROW),
    "a model that cannot be printed": text(HEAD + ROW.replace("flow", "fl\x07ow")),
    "HTML": text("<html>\n<body>\n</body>\n"),
    "Markdown": text("| model | crps |\n| --- | --- |\n| flow | 3 |\n"),
}


def refused(capsys, *arguments):
    """The one line by which a verb refuses its arguments."""
    assert main([str(argument) for argument in arguments]) == 1
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert printed.out == ""
    assert len(line) < 600
    return line


@pytest.mark.parametrize("name", NO_SCORES)
def test_scores_that_are_none_are_a_line(name, tmp_path, capsys):
    path = tmp_path / "horizons.csv"
    NO_SCORES[name](path)
    settings = '{"ensembles": {"horizons": [2.0]}}'
    line = refused(capsys, "speed", "--config", settings, "--scores", path, "--output", tmp_path)
    assert line.startswith(f"nsf_pipeline: {path}: ")


def test_scores_are_read_by_model(tmp_path):
    """A name that pandas would read as missing, and a score that is undefined."""
    rows = [ROW, ROW.replace("flow", "nan"), ROW.replace("flow", "null").replace("3", "")]
    rows.append(ROW.replace(",2,", ",1,", 1))
    (tmp_path / "it.csv").write_text(HEAD + "".join(rows))
    scores = Estimate(3.0, 2.0, 4.0)
    assert read_crps(tmp_path / "it.csv", 2.0) == {"flow": scores, "nan": scores}


@pytest.mark.parametrize("name", NO_TABLES)
def test_a_table_is_read_whole_or_refused(name, tmp_path):
    NO_TABLES[name](tmp_path / "it")
    with pytest.raises(FileError) as caught:
        read_table(tmp_path / "it")
    assert str(caught.value).startswith(f"{tmp_path / 'it'}: not a table: ")


def test_a_table_is_what_pandas_reads(tmp_path):
    frame = pd.DataFrame({"a": ['"', "b,c", ""], "d": ["é\n", "f", "g"]})
    frame.to_csv(tmp_path / "it", index=False)
    names, rows = read_table(tmp_path / "it")
    assert names == list(frame)
    assert rows == frame.to_numpy().tolist()


HISTORIES = NO_TABLES | {
    "no step": text("nll\n1\n"),
    "text": text("step,nll\n1,low\n"),
    "nothing": text("step,nll\n1,\n"),
    "a step of NaN": text("step,nll\nnan,1\n"),
    "a step of infinity": text("step,nll\ninf,1\n"),
    "a negative step": text("step,nll\n-5,1\n"),
}


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_that_is_none_is_refused(name, tmp_path):
    HISTORIES[name](tmp_path / "it")
    with pytest.raises(FileError):
        history_in(tmp_path / "it")


@pytest.mark.parametrize("name", HISTORIES)
def test_a_damaged_growing_table_is_written_anew(name, tmp_path):
    from test_checkpoints import LOG, start

    path = tmp_path / "run/metrics.csv"
    path.parent.mkdir()
    HISTORIES[name](path)
    table = growing_table(path)
    state = start()._replace(log=LOG)
    assert table.on_start(state) is state
    if name == "a folder":
        return
    assert [row["step"] for row in history_in(path)] == [10, 20]


NO_MARKDOWN = {
    name: NO_TABLES[name]
    for name in (
        *("nothing there", "a FIFO", "a folder", "a device", "a link to itself", "gigabytes"),
        *("binary", "NUL", "UTF-16", "not UTF-8"),
    )
} | {"megabytes": plain(b"a " * (1 << 20))}


@pytest.mark.parametrize("name", NO_MARKDOWN)
def test_markdown_that_is_none_is_a_line(name, tmp_path, capsys):
    path = tmp_path / "horizons.md"
    NO_MARKDOWN[name](path)
    line = refused(capsys, "table-page", path, "--output", tmp_path / "page.html")
    assert line.startswith(f"nsf_pipeline: {path}: ")
    assert not (tmp_path / "page.html").exists()


def test_markdown_adds_no_link_script_or_picture_to_a_page(tmp_path):
    (tmp_path / "it.md").write_text(
        "<script>alert(1)</script>\n\n![a](http://b/c.png) [d](http://e) <http://f> <b>g</b>\n"
    )
    assert main(["table-page", str(tmp_path / "it.md"), "--output", str(tmp_path / "p.html")]) == 0
    page = (tmp_path / "p.html").read_text()
    assert not any(tag in page for tag in ("<script", "<img", "<a ", "<b>", "href=", "src="))
    assert "alert(1)" in page


@pytest.mark.parametrize(
    "name", ["a FIFO", "a device", "a link to itself", "a folder", "gigabytes"]
)
@pytest.mark.parametrize("verb", ["video-page", "upload", "predicted-video", "require"])
def test_special_files_are_a_line(name, verb, tmp_path, capsys):
    path = tmp_path / "it"
    NO_TABLES[name](path)
    (tmp_path / "sound.md").write_text("# sound\n")
    line = refused(
        capsys,
        *{
            "video-page": ["video-page", path],
            "upload": ["upload", "--config", "{}", "--model", path],
            "predicted-video": ["predicted-video", "--place", "0", "--model", path],
            "require": ["table-page", tmp_path / "sound.md", "--provenance", path],
        }[verb],
        *("--output", tmp_path / "out"),
    )
    assert line.startswith(f"nsf_pipeline: {path}: ")


NO_STAMPS = {
    name: NO_TABLES[name]
    for name in ("a FIFO", "a device", "a link to itself", "gigabytes", "binary", "empty")
}


@pytest.mark.parametrize("name", NO_STAMPS)
def test_whatever_stands_at_a_stamps_path_is_replaced(name, tmp_path):
    path = tmp_path / Stamps(Config(), tmp_path).of(STAGES["train"])
    sound = path.read_bytes()
    path.unlink()
    NO_STAMPS[name](path)
    assert Stamps(Config(), tmp_path).of(STAGES["train"]) == str(path)
    assert path.read_bytes() == sound
    assert json.loads(sound)


NO_IDS = NO_STAMPS | {
    "a path": text("../../elsewhere"),
    "two lines": text("abcd1234\nabcd1234"),
    "long": text("a" * 1000),
    "blanks": text("  \n"),
    "not ASCII": text("ä"),
}


@pytest.mark.parametrize("name", NO_IDS)
def test_an_id_of_a_run_that_is_none_is_replaced(name, tmp_path):
    path = tmp_path / tracking.RUN_ID
    NO_IDS[name](path)
    found = tracking._run_id(tmp_path)
    assert len(found) == 8
    assert found.isalnum()
    assert path.read_text() == found == tracking._run_id(tmp_path)
