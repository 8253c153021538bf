"""Runs of the workflow, each made once and shared by all tests that read its files."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest
import snakemake_forks
import yaml

ROOT = Path(__file__).parent.parent
SMOKE = ROOT / "tests" / "smoke.yaml"
EIGHT: dict = {"num_trajectories": 30, "shard_size": 4, "training": {"batch_size": 64}}
# What the default target asks for, up to the data set.
EIGHT_TARGETS = [
    f"results/{kind}/{n:05d}.h5" for kind in ("policies", "rollouts") for n in range(8)
]
EIGHT_TARGETS.append("results/dataset.h5")

# A busy machine is no failure of a test.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

BROWSER_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1500,1000",
)


def mostly_thorough(cases, *kept):
    """A table's cases: those named run in `make test`, the others in `make test-thorough` alone."""
    assert all(case in cases for case in kept), kept
    marks = [() if case in kept else (pytest.mark.thorough,) for case in cases]
    values = [case if isinstance(case, tuple) else (case,) for case in cases]
    return [pytest.param(*each, marks=mark) for each, mark in zip(values, marks, strict=True)]


class SmokeRun:
    """A folder that the smoke workflow ran in."""

    def __init__(self, folder, settings, printed):
        self.folder, self.settings, self.printed = folder, settings, printed
        self.results = folder / "results"

    def snakemake(self, *arguments, configfiles=(SMOKE,), **options):
        return run_snakemake(self.folder, "--configfile", *configfiles, *arguments, **options)


def run_snakemake(
    folder, *arguments, snakefile=ROOT / "Snakefile", cores=("--cores", "2"), **environment
):
    """`snakemake` in a folder, without the variables of this environment that would change it."""
    options = ["-s", snakefile, "--directory", folder]
    return snakemake_forks.snakemake([*options, *cores, *arguments], surroundings(environment))


def run_verb(*arguments, **environment):
    """`python -m nsf_pipeline`."""
    return run(sys.executable, "-m", "nsf_pipeline", *arguments, **environment)


def run(*command, **environment):
    return subprocess.run(
        [str(part) for part in command],
        env=surroundings(environment),
        capture_output=True,
        text=True,
    )


def surroundings(changes):
    """This environment for a process: without what would change it, and with some changes."""
    inherited = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
    return {**inherited, "PYTHONPATH": str(ROOT), **changes}


def remade(done):
    """The files that a run made, or a dry run would make."""
    assert done.returncode == 0, done.stdout + done.stderr
    text = done.stdout + done.stderr
    lines = re.findall(r"^    output: (.*)$", text, re.MULTILINE)
    assert lines or "Nothing to be done" in text
    return {path for line in lines for path in line.split(", ")}


def merged(settings, changes):
    """Settings with some replaced, section by section."""
    both = settings | changes
    for name in settings.keys() & changes.keys():
        if isinstance(changes[name], dict):
            both[name] = merged(settings[name], changes[name])
    return both


def pytest_configure(config):
    """Set JAX's compilation cache for the tests' processes, kept until `--cache-clear`.

    Workers share it. JAX cannot decompress a file that another worker has not finished writing; it
    warns and compiles by itself.
    """
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(config.cache.mkdir("jax"))
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    # So that the hundreds of processes do not each compile the package's Python code.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


# While the first worker makes the finished run, which uses one core for the most part, the second
# begins with what compiles by itself; and long files come early, so that both end at once.
LONG = ["unit/test_model.py", "test_survival.py", "unit/test_flow.py", "test_shards.py"]
LONG_FILES = [ROOT / "tests" / name for name in LONG]


def pytest_collection_modifyitems(items):
    """Put the tests of the long files right behind those of the first file."""

    def place(item):
        if item.path == items[0].path:
            return -1
        return LONG_FILES.index(item.path) if item.path in LONG_FILES else len(LONG_FILES)

    items[:] = sorted(items, key=place)


@contextmanager
def shared(tmp_path_factory, name):
    """A folder shared by all workers, and whether this is the first; the others wait for it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder, not folder.exists()


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    """A finished run of the whole chain; tests must not change it."""
    with shared(tmp_path_factory, "smoke") as (folder, is_first):
        settings, printed = folder / "settings.yaml", folder / "printed"
        if is_first:
            done = run_snakemake(folder, "--configfile", SMOKE)
            assert done.returncode == 0, done.stdout + done.stderr
            texts = ((ROOT / "config.yaml").read_text(), SMOKE.read_text())
            settings.write_text(yaml.safe_dump(merged(*map(yaml.safe_load, texts))))
            printed.write_text(done.stdout)
    return SmokeRun(folder, settings, printed.read_text())


def run_eight(folder, *arguments, targets=EIGHT_TARGETS, **changes):
    """A run of eight shards, in a folder, up to the data set."""
    file = folder / "eight.yaml"
    file.write_text(yaml.safe_dump(EIGHT | changes))
    return run_snakemake(folder, *arguments, *targets, "--configfile", file)


def flip(path):
    """Alter one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def contents(folder):
    """Bytes of all files that a run made, except logs, times and stamps."""
    aside = {"logs", "benchmarks", "stamps"}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / "results").rglob("*"))
        if path.is_file() and not aside & {*path.parts}
    }


@pytest.fixture(scope="session")
def eight(tmp_path_factory):
    """A folder with an undisturbed run of eight shards; tests must not change it."""
    with shared(tmp_path_factory, "eight") as (folder, is_first):
        if is_first:
            folder.mkdir()
            done = run_eight(folder)
            assert done.returncode == 0, done.stdout + done.stderr
    return folder


def simulated(folder, policies, config):
    """Write a rollout shard of some policies and its data set to a folder; returns the folder."""
    # Not at the top: modules imported before the tests' type checks are set up go unchecked.
    from nsf_pipeline.data import store
    from nsf_pipeline.data.merge import merge
    from nsf_pipeline.data.rollouts import simulate
    from nsf_pipeline.provenance import Record
    from nsf_pipeline.stages import STAGES

    attributes = Record.new(STAGES["rollouts"], config).fields()
    store.write(folder / "00000.h5", "rollouts", simulate(config, policies), attributes)
    merge(
        [folder / "00000.h5"],
        config,
        STAGES["dataset"],
        output=folder / "dataset.h5",
        metadata_output=folder / "dataset.meta.json",
    )
    return folder


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Chromium, without a window."""
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService

    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if not (found and driver):
        needs = "needs Chromium and its driver: apt install chromium chromium-driver"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(needs)
    options = ChromeOptions()
    options.binary_location = found
    for flag in (*BROWSER_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    chrome = Chrome(options, ChromeService(driver))
    yield chrome
    chrome.quit()
