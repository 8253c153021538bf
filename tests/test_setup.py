"""The set-up: locks, environment files, Makefile and `.ci/run` agree with pyproject.toml."""

import os
import re
import shutil
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from flit_core.wheel import make_wheel_in
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DIRECT = PROJECT["project"]["dependencies"]
EXTRAS = PROJECT["project"]["optional-dependencies"]
IN_TEST = ("docs", "explore", "exports")  # what the extra `test` has of others
EXTRAS["test"] = [each for each in EXTRAS["test"] if not each.startswith("nsf_pipeline[")]
for extra in IN_TEST:
    EXTRAS["test"] += EXTRAS[extra]
LOCKS = ["base", *EXTRAS]
ENVS = ["exports", "pipeline", "simulation"]
MEND = "run `make lock` and commit what it changes"


def name_of(requirement: str) -> str:
    return re.sub("[-_.]+", "-", Requirement(requirement).name).lower()


def lock_text(lock: str) -> str:
    return (ROOT / "requirements" / f"{lock}.txt").read_text()


def entries(lock: str) -> list[str]:
    """The lock's requirements, each with its hashes, on one line."""
    lines = re.sub(r"\\\n\s*", "", lock_text(lock)).splitlines()
    return [line for line in lines if line and not line.lstrip().startswith("#")]


def pins(lock: str) -> dict[str, str]:
    """Version by package name."""
    requirements = [Requirement(entry.split("--hash")[0]) for entry in entries(lock)]
    return {name_of(r.name): str(r.specifier).removeprefix("==") for r in requirements}


def env_pins(env: str) -> dict[str, str]:
    dependencies = yaml.safe_load((ROOT / "envs" / f"{env}.yaml").read_text())["dependencies"]
    (pip,) = [entry["pip"] for entry in dependencies if isinstance(entry, dict)]
    return dict(requirement.split("==") for requirement in pip)


@pytest.mark.parametrize("lock", ["build", "pymunk7", *LOCKS])
def test_lock_has_an_exact_version_and_a_hash_for_everything(lock):
    for entry in entries(lock):
        assert re.match(r"[a-z0-9-]+==[^ ;]+ ?(;[^@]*?)?--hash=sha256:[0-9a-f]{64}", entry), entry


@pytest.mark.parametrize("lock", ["build", "pymunk7", *LOCKS])
def test_lock_names_no_address(lock):
    assert not re.search(r"://|--(extra-)?index-url|--find-links| @ ", lock_text(lock))


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_satisfies_pyproject(lock):
    locked = pins(lock)
    wanted = DIRECT + EXTRAS.get(lock, []) + PROJECT["build-system"]["requires"]
    for requirement in map(Requirement, wanted):
        version = locked.get(name_of(requirement.name))
        assert version is not None, f"{lock}.txt lacks {requirement}: {MEND}"
        assert requirement.specifier.contains(version), f"{lock}.txt has {version}: {MEND}"


@pytest.mark.parametrize("lock", ["build", *EXTRAS])
def test_locks_agree_so_that_extras_add_up(lock):
    base, other = pins("base"), pins(lock)
    if lock != "build":
        assert base.keys() <= other.keys(), f"{lock}.txt is not base and more: {MEND}"
    for third in LOCKS:
        shared = pins(third).items() ^ other.items()
        differing = {name for name, _ in shared} & pins(third).keys() & other.keys()
        assert not differing, f"{lock}.txt and {third}.txt differ in {differing}: {MEND}"


@pytest.mark.parametrize("lock", LOCKS)
def test_lock_needs_no_desktop(lock):
    """OpenCV's usual build loads libGL, which a bare machine lacks."""
    assert "opencv-python" not in pins(lock)
    assert "opencv-python-headless" in pins(lock)


@pytest.mark.parametrize("env", ENVS)
def test_environment_files_pin_what_the_lock_pins(env):
    locked = pins("exports" if env == "exports" else "base")
    for package, version in env_pins(env).items():
        assert locked.get(package) == version, (
            f"envs/{env}.yaml has {package} {version}, the lock {locked.get(package)}: {MEND}"
        )


def test_environment_files_hold_the_direct_dependencies():
    direct = {name_of(requirement) for requirement in DIRECT}
    assert env_pins("pipeline").keys() == direct, "list pyproject.toml's dependencies there"
    assert env_pins("simulation").keys() < direct
    exports = {name_of(requirement) for requirement in EXTRAS["exports"]}
    assert env_pins("exports").keys() - direct == exports - direct
    assert "jax" not in env_pins("simulation")


def test_ci_runs_the_test_command():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert re.search(r"^make test( |$)", script.read_text(), re.MULTILINE)


def test_citation_matches_pyproject():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    for key in ["version", "license"]:
        assert citation[key] == PROJECT["project"][key]
    assert citation["title"] == PROJECT["project"]["name"]


# What the stand-in for Python does with its arguments: fails, or makes a .venv whose pip fails.
BROKEN_PYTHONS = {
    "wrong version": ("exit 1", "is not Python 3.11, 3.12 or 3.13"),
    "no ensurepip": ('case "$*" in *ensurepip*) exit 1;; esac', "apt install python3-venv"),
    "no venv": ('case "$*" in *--clear*) mkdir .venv; exit 1;; esac', ""),
    "no download": (
        'case "$*" in *--clear*) mkdir -p .venv/bin; cp "$0" .venv/bin/python;; *pip*install*)'
        " echo no network; exit 1;; esac",
        "no network",
    ),
}


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize("case", BROKEN_PYTHONS)
def test_failed_setup_says_why_and_leaves_nothing_half_made(case, tmp_path):
    script, message = BROKEN_PYTHONS[case]
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(ROOT / "requirements", tmp_path / "requirements")
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    run = subprocess.run(
        ["make", "setup", f"PYTHON={python}"], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode != 0
    assert message in run.stdout + run.stderr
    if case == "no download":
        assert not list((tmp_path / ".venv").glob(".installed*"))
    else:
        assert not (tmp_path / ".venv").exists()


def test_the_wheel_is_typed_and_holds_the_package(tmp_path):
    info = make_wheel_in(ROOT / "pyproject.toml", tmp_path)
    names = set(zipfile.ZipFile(info.file).namelist())
    assert "nsf_pipeline/py.typed" in names
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "nsf_pipeline").rglob("*.py")}
    assert modules <= names
    assert "nsf_pipeline/explorer/style.css" in names


def test_commit_hooks_fetch_nothing_and_run_what_the_environment_has():
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repo["repo"] == "local"
    for hook in repo["hooks"]:
        assert hook["language"] == "system"
        assert shutil.which(hook["entry"].split()[0]), f"{hook['entry']}: no such command"


@pytest.mark.parametrize("form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("[!c]*.yml")))
def test_issue_forms_ask_what_forms_may_ask(form):
    """As GitHub reads them: a form that it cannot read is not offered."""
    content = yaml.safe_load(form.read_text())
    assert content["name"]
    assert content["description"]
    for field in content["body"]:
        assert field["type"] in {"markdown", "input", "textarea", "dropdown", "checkboxes"}
        assert field["attributes"]["label"]
