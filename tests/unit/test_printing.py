"""Printing never fails a job, and a job that fails still fails if it cannot say so."""

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from nsf_pipeline.system import printing

NAME = "×é—🙂.h5"
"""Printed by the verb; no encoding below has all of it but those of Unicode."""
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
STREAMS = {
    "as usual": ("", {}),
    "output closed": (">&-", {}),
    "error closed": ("2>&-", {}),
    "output and error closed": (">&- 2>&-", {}),
    "all closed": ("<&- >&- 2>&-", {}),
    "input and error closed": ("<&- 2>&-", {}),
    "output on a full disk": (">/dev/full", {}),
    "error on a full disk": ("2>/dev/full", {}),
    "both on a full disk": (">/dev/full 2>&1", {}),
    "output only for reading": ("1</dev/null", {}),
    "nobody reads the output": ("| true", {}),
    "nobody reads either": ("2>&1 | true", {}),
    "one line is read": ("2>&1 | head -1", {}),
    "output to a closed reader, error closed": ("2>&- | true", {}),
    "ascii": ("", {"PYTHONIOENCODING": "ascii"}),
    "strict ascii": ("", {"PYTHONIOENCODING": "ascii:strict"}),
    "latin-1": ("", {"PYTHONIOENCODING": "latin-1"}),
    "utf-16": ("", {"PYTHONIOENCODING": "utf-16"}),
    "an old code page": ("", {"PYTHONIOENCODING": "cp437:strict"}),
    "the C locale": ("", C_LOCALE),
    "the C locale, output closed": (">&-", C_LOCALE),
    "unbuffered": (">/dev/full", {"PYTHONUNBUFFERED": "1"}),
    "warnings are errors": ("", {"PYTHONWARNINGS": "error"}),
}
CODE = """
import sys
from pathlib import Path
from nsf_pipeline.config import Config
from nsf_pipeline.stages import policies
policies.run(Config(), 0, 2, Path(sys.argv[1]))
print("done")
"""
VERB = [sys.executable, "-m", "nsf_pipeline"]
PROGRAMS = {
    "verb": [*VERB, "policies", "--first", "0", "--stop", "2", "--config", "{}", "--output", NAME],
    "help": [*VERB, "train", "--help"],
    "schema": [*VERB, "schema"],
    "why": [*VERB, "why", NAME, "--config", "{}"],
}


def code_of(command, stream, folder):
    """The exit code of a command whose streams are as a case of `STREAMS` says."""
    redirected, environment = stream
    words = " ".join(f"'{word}'" for word in command)
    (folder / "code").unlink(missing_ok=True)
    subprocess.run(
        ["bash", "-c", f"{{ {words}; echo $? > '{folder}/code'; }} {redirected}"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    return int((folder / "code").read_text())


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    assert code_of(PROGRAMS["verb"], STREAMS["as usual"], folder) == 0
    return (folder / NAME).read_bytes()


@pytest.mark.parametrize("stream", STREAMS)
def test_no_stream_fails_a_verb_or_gets_into_its_file(stream, undisturbed, tmp_path):
    assert code_of(PROGRAMS["verb"], STREAMS[stream], tmp_path) == 0
    assert (tmp_path / NAME).read_bytes() == undisturbed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["code", NAME]


@pytest.mark.parametrize("stream", ["all closed", "both on a full disk", "nobody reads either"])
@pytest.mark.parametrize("program", ["help", "schema", "why"])
def test_no_stream_fails_what_only_prints(program, stream, undisturbed, tmp_path):
    (tmp_path / NAME).write_bytes(undisturbed)
    assert code_of(PROGRAMS[program], STREAMS[stream], tmp_path) == 0


FAILING = [
    *("as usual", "output closed", "error closed", "output and error closed", "all closed"),
    *("error on a full disk", "both on a full disk", "nobody reads either", "strict ascii"),
    *("utf-16", "the C locale, output closed"),
]


@pytest.mark.parametrize("stream", FAILING)
def test_a_failure_that_cannot_be_printed_is_one(stream, tmp_path):
    command = [*VERB, "policies", "--first", "0", "--stop", "2", "--config", "×", "--output", NAME]
    assert code_of(command, STREAMS[stream], tmp_path) == 1
    assert not (tmp_path / NAME).exists()


LIBRARY = ["error closed", "strict ascii", "the C locale"]


@pytest.mark.parametrize("stream", LIBRARY)
def test_no_stream_fails_a_stage_in_a_script(stream, undisturbed, tmp_path):
    code = code_of([sys.executable, "-c", CODE, NAME], STREAMS[stream], tmp_path)
    assert code == 0
    assert (tmp_path / NAME).exists()


@pytest.mark.parametrize(
    "stream", ["output closed", "output on a full disk", "nobody reads either"]
)
def test_a_stage_in_a_script_leaves_nothing_to_fail_at_its_end(stream, tmp_path):
    """Python writes what is left in a buffer again, and changes the exit code if it cannot."""
    code = CODE.replace('print("done")', "")
    assert code_of([sys.executable, "-c", code, NAME], STREAMS[stream], tmp_path) == 0


def test_what_an_encoding_lacks_is_escaped(tmp_path):
    done = subprocess.run(
        PROGRAMS["verb"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=True,
    )
    assert done.stdout.startswith(rb"\xd7\xe9\u2014\U0001f642.h5: policies")


def test_lost_output_is_said_on_the_other_stream(tmp_path):
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*VERB, "schema"], stdout=full, stderr=subprocess.PIPE, check=True)
    assert done.stderr.decode() == (
        "nsf_pipeline: standard output: No space left on device; the text there is incomplete\n"
    )


def test_a_stream_that_is_set_not_to_wait_loses_nothing():
    read, write = os.pipe()
    os.set_blocking(write, False)  # as other programs at the same terminal may
    process = subprocess.Popen([*VERB, "schema"], stdout=write)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read().endswith(b"}\n")
    assert process.wait() == 0


class Wrong:
    """A stream that a program has put in place of Python's."""

    def write(self, text):
        raise RuntimeError("no")


def test_a_foreign_stream_that_fails_is_no_error(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Wrong())
    monkeypatch.setattr(sys, "stderr", None)
    printing.say("text")
    printing.complain("text")


def test_progress_is_said_now_and_then(monkeypatch, capsys):
    now = [0.0]
    monkeypatch.setattr(printing.time, "monotonic", lambda: now[0])
    report = printing.progress(60.0)
    for now[0] in (0.0, 59.0, 60.0, 100.0, 119.0, 120.0):
        report(f"at {now[0]:g} s")
    assert capsys.readouterr().out.splitlines() == ["at 60 s", "at 120 s"]


DESCRIPTORS = {"closed": 12345, "huge": 10**30, "negative": -1}


@pytest.mark.parametrize("name", DESCRIPTORS)
def test_no_descriptor_fails_the_bar(name):
    assert not printing.is_terminal(DESCRIPTORS[name])


def test_a_terminal_that_stalls_does_not_stop_a_job():
    ours, theirs = pty.openpty()
    assert printing.is_terminal(theirs)
    for _ in range(1000):  # more than a terminal holds that nobody reads
        printing.draw(theirs, "x" * 79)
    os.close(ours)
    printing.draw(theirs, "gone")
    os.close(theirs)


def rule(folder, command, log="log"):
    """A script of a rule that runs a command, as Snakemake runs it."""
    (folder / "command.sh").write_text(command)
    logged = ROOT / "workflow/logged.sh"
    (folder / "rule.sh").write_text(f"set -euo pipefail; bash {logged} {log} bash command.sh")
    return ["bash", "rule.sh"]


CLOSED_OR_GONE = [name for name in STREAMS if not STREAMS[name][1]]
LINES = "for i in $(seq 300); do echo line $i; done; echo to error >&2; exit"


@pytest.mark.parametrize("code", [0, 5])
@pytest.mark.parametrize("stream", CLOSED_OR_GONE)
def test_the_log_of_a_rule_is_whole_and_its_exit_code_kept(stream, code, tmp_path):
    assert code_of(rule(tmp_path, f"{LINES} {code}"), STREAMS[stream], tmp_path) == code
    lines = [f"line {number}" for number in range(1, 301)]
    printed = (tmp_path / "log").read_text().splitlines()
    assert printed == ["+ bash command.sh", *lines, "to error"]


@pytest.mark.parametrize("log", ["/dev/full", "no folder/log"])
@pytest.mark.parametrize("stream", CLOSED_OR_GONE)
def test_a_log_that_cannot_be_written_fails_no_rule(stream, log, tmp_path):
    script = rule(tmp_path, "seq 100000", f"'{log}'")  # more than a pipe holds
    assert code_of(script, STREAMS[stream], tmp_path) == 0


def test_a_log_is_whole_after_an_interrupt(tmp_path):
    """Ctrl-C reaches all processes, also the one that writes the log."""
    command = "trap 'sleep 0.5; echo last; exit 130' INT; echo ready; while :; do sleep 0.1; done"
    process = subprocess.Popen(
        rule(tmp_path, command), cwd=tmp_path, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout
    while b"ready" not in process.stdout.readline():
        pass
    os.killpg(process.pid, signal.SIGINT)
    process.stdout.close()
    assert process.wait() != 0
    assert (tmp_path / "log").read_text().endswith("last\n")


def test_the_bar_of_a_rule_goes_past_its_log(tmp_path):
    script = rule(tmp_path, "echo bar >&3; echo line")
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == "bar\n"
    assert (tmp_path / "log").read_text() == "+ bash command.sh\nline\n"
