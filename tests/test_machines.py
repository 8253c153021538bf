"""What a user's machine may lack: a writable home, a name, semaphores, files, memory, packages.

The verbs and the workflow do their work, or say in one line what is wrong.
"""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT, SMOKE, mostly_thorough, run, run_snakemake

from nsf_pipeline import cli, errors
from nsf_pipeline.errors import UserError, line_for

# Another user, whom the machine does not know: reads all files, writes only what everybody may.
READS = "+dac_read_search"
STRANGER = ["setpriv", "--reuid=23456", "--regid=23456", "--clear-groups"]
STRANGER += [f"--{kind}=-all,{READS}" for kind in ("inh-caps", "ambient-caps", "bounding-set")]
VERB = [sys.executable, "-m", "nsf_pipeline"]
POLICIES = [*VERB, "policies", "--config", "{}", "--first", "0", "--stop", "2"]
POLICIES += ["--output", "policies.h5"]


@pytest.fixture
def folder(tmp_path):
    """A folder that everybody may write to, with settings."""
    tmp_path.chmod(0o777)
    shutil.copy(SMOKE, tmp_path / "config.yaml")
    return tmp_path


def stranger(folder, *command, **environment):
    """Run a command as another user."""
    if subprocess.run([*STRANGER, "true"], capture_output=True).returncode:
        pytest.skip("needs root, to be another user")
    return run("env", "-C", folder, *STRANGER, *command, **environment)


# Variables of a user without a home, or with one that is none.
HOMES = {
    "none": {"HOME": "", "LOGNAME": "", "USER": ""},
    "not there": {"HOME": "/nonexistent"},
    "not writable": {"HOME": "/proc", "XDG_CACHE_HOME": "/proc", "XDG_CONFIG_HOME": "/proc"},
    "no place for temporary files": {"HOME": "/nonexistent", "TMPDIR": "/nonexistent"},
}


@pytest.mark.parametrize("case", mostly_thorough(HOMES, "not writable"))
def test_an_unknown_user_can_make_data(case, folder):
    done = stranger(
        folder,
        *VERB,
        "generate-data",
        "--config",
        EIGHT,
        "--output",
        "made",
        "--jobs",
        "2",
        **HOMES[case],
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "made/dataset.h5").exists()


EIGHT = '{"num_trajectories": 30, "shard_size": 15, "training": {"batch_size": 64}}'


@pytest.mark.parametrize("case", mostly_thorough(HOMES, "no place for temporary files"))
def test_an_unknown_user_can_run_the_workflow(case, folder):
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "--cores", "1"]
    named = {"LNAME": "", "USERNAME": "", **HOMES[case]}
    named["HOME"] = named["HOME"] or "/none"  # Snakemake needs a name
    done = stranger(folder, *command, "results/policies/00000.h5", **named)
    assert done.returncode == 0, done.stdout + done.stderr


# By case: a shell command that changes the circumstances, and the end of the line; {0} is the
# folder.
CIRCUMSTANCES = {
    "files may not grow": ("ulimit -f 0", "policies.h5: cannot write it: File too large; nothing"),
    "folder gone": (
        "mkdir gone && cd gone && rmdir ../gone",
        "the current folder: No such file or directory",
    ),
    "a file in place of the folder": (
        'cd {0} && touch results && set -- "$@" --output results/policies.h5',
        "results/policies.h5: cannot write it: ",
    ),
    "a folder in place of the file": (
        "mkdir policies.h5",
        "policies.h5: cannot write it: it is a folder; name a file",
    ),
}


@pytest.mark.parametrize("case", mostly_thorough(CIRCUMSTANCES, "files may not grow"))
def test_circumstances_are_one_line(case, folder):
    change, message = CIRCUMSTANCES[case]
    script = f'cd {folder} && {change.format(folder)} && exec "$@"'
    done = run("bash", "-c", script, "bash", *POLICIES)
    assert done.returncode == 1, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("nsf_pipeline: ")
    assert message in line
    assert not (folder / "policies.h5").is_file()


def test_a_file_that_may_not_be_read_is_one_line(folder):
    for name in ("config.yaml", "shard.h5"):
        (folder / name).touch()
        (folder / name).chmod(0)
    for arguments in (["train"], ["replay", "shard.h5"], ["why", "shard.h5", "--config", "{}"]):
        done = stranger_without_reading(folder, *arguments)
        assert "Permission denied" in done.stdout + done.stderr
        assert len((done.stdout + done.stderr).splitlines()) <= 2
        assert "Usage" not in done.stderr


def stranger_without_reading(folder, *arguments):
    """A verb of a process that has given up root's rights to files as it starts."""
    code = "import os, sys; from nsf_pipeline.cli import *; os.setgroups([]); os.setgid(23456); "
    code += "import h5py; from nsf_pipeline import why; from nsf_pipeline.data import replay; "
    code += "os.setuid(23456); sys.exit(main(sys.argv[1:]))"
    if os.getuid():
        code = "import sys; from nsf_pipeline.cli import *; sys.exit(main(sys.argv[1:]))"
    return run("env", "-C", folder, sys.executable, "-c", code, *arguments)


# In the workflow. By case: a change of the run's folder, and the line.
FOLDERS = {
    "results are a file": (lambda run: (run / "results").touch(), "results: expected a folder, "),
    "a kind of results is a file": (
        lambda run: ((run / "results").mkdir(), (run / "results/rollouts").touch()),
        "results/rollouts: expected a folder, ",
    ),
    "a link that leads nowhere": (
        lambda run: (run / "results").symlink_to("/nonexistent/results"),
        "cannot write it: ",
    ),
}


@pytest.mark.parametrize("case", mostly_thorough(FOLDERS, "results are a file"))
def test_a_folder_that_is_none_is_one_line_of_the_workflow(case, tmp_path):
    change, message = FOLDERS[case]
    change(tmp_path)
    done = run_snakemake(tmp_path, "results/policies/00000.h5", "--configfile", SMOKE)
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("locked", ["results", ""])
def test_a_folder_that_cannot_be_written_is_one_line_of_the_workflow(locked, folder):
    (folder / "results").mkdir()
    (folder / "home").mkdir()
    (folder / "home").chmod(0o777)
    (folder / locked).chmod(0o555)
    command = [sys.executable, "-m", "snakemake", "-s", ROOT / "Snakefile", "--cores", "1"]
    done = stranger(folder, *command, "results/policies/00000.h5", HOME=str(folder / "home"))
    (folder / locked).chmod(0o777)
    assert done.returncode == 1
    assert ("cannot write it: " if locked else "cannot write to the run's folder") in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


# Packages and Pythons.


def without(folder, package, text='raise ModuleNotFoundError("No module named {0!r}")'):
    """A search path on which a package cannot be imported."""
    (folder / "lacking" / package).mkdir(parents=True)
    (folder / "lacking" / package / "__init__.py").write_text(text.format(package))
    return {"PYTHONPATH": f"{folder / 'lacking'}{os.pathsep}{ROOT}"}


LACKING = {
    "jax": ["train", "--config", "{}"],
    "optax": ["train", "--config", "{}"],
    "pymunk": ["policies", "--config", "{}", "--first", "0", "--stop", "1", "--output", "x.h5"],
    "h5py": ["replay", "x.h5"],
    "matplotlib": ["picture"],
    "pandas": ["speed", "--config", "{}"],
    "pydantic": ["schema"],
    "typer": ["--help"],
    "yaml": ["why"],
}


@pytest.mark.parametrize("package", mostly_thorough(LACKING, "jax", "h5py", "yaml"))
def test_a_missing_package_is_one_line(package, folder):
    (folder / "x.h5").touch()
    lacking = without(folder, package)
    done = run("env", "-C", folder, *VERB, *LACKING[package], **lacking)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert f"No module named '{package}'; `make setup` in the checkout installs it" in line


def test_another_python_is_one_line():
    code = "import sys; sys.version_info = (3, 10, 1); import nsf_pipeline.__main__ as m; m.entry()"
    done = run(sys.executable, "-c", code)
    (line,) = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith("nsf_pipeline: expected Python 3.11 to 3.13, got ")


# By case: what Python is given to run, and whether it is the command line.
STARTED = {
    "the folder": ("nsf_pipeline", True),
    "the file": ("nsf_pipeline/__main__.py", True),
    "a part": ("nsf_pipeline/cli/__init__.py", False),
}


@pytest.mark.parametrize("case", mostly_thorough(STARTED, "a part"))
def test_started_by_a_path(case, tmp_path):
    path, is_command = STARTED[case]
    done = run("env", "-C", tmp_path, sys.executable, ROOT / path, "schema", PYTHONPATH="")
    assert done.returncode == (not is_command)
    assert done.stdout.startswith("{") == is_command
    assert ("run `python -m nsf_pipeline`" in done.stderr) != is_command


def test_the_pythons_are_those_that_can_be_installed():
    from nsf_pipeline.__main__ import PYTHONS

    (wanted,) = (
        line for line in (ROOT / "pyproject.toml").read_text().splitlines() if "requires-py" in line
    )
    (first, last) = PYTHONS
    assert f">={first[0]}.{first[1]},<{last[0]}.{last[1] + 1}" in wanted


# By case: an error, and a part of the line.
ERRORS = {
    "the user's": (UserError("name another"), "name another"),
    "no memory": (MemoryError(), "out of memory; lower --jobs, shard_size, training.batch_size, "),
    "no memory for an array": (
        MemoryError("Unable to allocate 7 TiB"),
        "out of memory: Unable to allocate 7 TiB; lower --jobs, ",
    ),
    "no memory on a device": (
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nallocating 9 bytes"),
        "out of memory: RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes; lower ",
    ),
    "no memory for a library": (
        ImportError("libx.so: failed to map segment from shared object"),
        "out of memory: libx.so: failed to map ",
    ),
    "a file": (FileNotFoundError(2, "No such file or directory", "a b"), "a b: No such file or"),
    "no file": (OSError(28, "No space left on device"), "No space left on device"),
    "a library": (ImportError("IMPORTANT\n" + "please read " * 99), "needs: IMPORTANT please read"),
    "threads": (RuntimeError("can't start new thread"), "cannot start a thread: "),
}


@pytest.mark.parametrize("case", ERRORS)
def test_failures_of_the_machine_have_a_line(case, monkeypatch, capsys):
    error, message = ERRORS[case]

    def fail():
        raise error

    monkeypatch.setattr(cli.tools, "json_schema", fail)
    assert cli.main(["schema"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("nsf_pipeline: ")
    assert message in line
    assert len(line) < errors.MOST + 300


@pytest.mark.parametrize("error", [KeyError("x"), TypeError("x"), RuntimeError("x")])
def test_errors_of_the_code_are_not_hidden(error, monkeypatch):
    def fail():
        raise error

    monkeypatch.setattr(cli.tools, "json_schema", fail)
    assert line_for(error) is None
    with pytest.raises(type(error)):
        cli.main(["schema"])


# Where tests run in the background, interrupts are ignored.
INTERRUPT = "import os, signal as s; s.signal(2, s.default_int_handler); os.kill(os.getpid(), 2)"


def test_an_interrupt_is_one_line_while_packages_are_imported(tmp_path):
    lacking = without(tmp_path, "typer", INTERRUPT)
    done = run(*VERB, "schema", **lacking)
    assert (done.returncode, done.stderr) == (130, "nsf_pipeline: interrupted\n")


def test_an_interrupt_is_one_line_while_a_stage_is_imported(folder):
    lacking = without(folder, "jax", INTERRUPT)
    done = run("env", "-C", folder, *VERB, "train", "--config", "{}", **lacking)
    assert (done.returncode, done.stderr) == (130, "nsf_pipeline: interrupted\n")
