"""Runs of the workflow, each made once for all tests that read what it makes."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
SMOKE = ROOT / "tests" / "smoke.yaml"
EIGHT = {"num_trajectories": 30, "shard_size": 4, "training": {"batch_size": 64}}


class SmokeRun:
    """A folder that the smoke workflow ran in."""

    def __init__(self, folder, settings, printed):
        self.folder, self.settings, self.printed = folder, settings, printed
        self.results = folder / "results"

    def snakemake(self, *arguments, configfiles=(SMOKE,), **options):
        return run_snakemake(self.folder, "--configfile", *configfiles, *arguments, **options)


def run_snakemake(folder, *arguments, snakefile=ROOT / "Snakefile", cores=("--cores", "2")):
    """`snakemake` in a folder, with nothing of this environment that would change what it does."""
    command = [sys.executable, "-m", "snakemake", "-s", snakefile, "--directory", folder]
    return run(*command, *cores, *arguments)


def run_verb(*arguments, **environment):
    """`python -m nsf_pipeline`."""
    return run(sys.executable, "-m", "nsf_pipeline", *arguments, **environment)


def run(*command, **environment):
    inherited = {name: value for name, value in os.environ.items() if name != "WANDB_MODE"}
    return subprocess.run(
        [str(part) for part in command],
        env={**inherited, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )


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
    """A folder for what JAX compiles in the tests' processes, kept until `--cache-clear`.

    Workers share it. JAX writes files in their place, but compresses them: one that is read before
    it is whole does not decompress, and JAX compiles itself, with a warning.
    """
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(config.cache.mkdir("jax"))
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


@pytest.fixture(scope="session", autouse=True)
def compiled(tmp_path_factory):
    """A folder for what JAX compiles in processes that tests start: it takes them longest."""
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path_factory.mktemp("compiled"))
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"


@pytest.fixture(scope="session")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    done = run_snakemake(folder, "--configfile", SMOKE)
    assert done.returncode == 0, done.stdout + done.stderr
    defaults, changes = (yaml.safe_load(path.read_text()) for path in (ROOT / "config.yaml", SMOKE))
    settings = folder / "settings.yaml"
    settings.write_text(yaml.safe_dump(merged(defaults, changes)))
    return SmokeRun(folder, settings, done.stdout)


def run_eight(folder, *arguments, **changes):
    """A run of eight shards, in a folder, up to the data set."""
    file = folder / "eight.yaml"
    file.write_text(yaml.safe_dump(EIGHT | changes))
    return run_snakemake(folder, *arguments, "results/dataset.h5", "--configfile", file)


def contents(folder):
    """Bytes of all files that a run made; logs and times aside."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted((folder / "results").rglob("*"))
        if path.is_file() and not {"logs", "benchmarks"} & {*path.parts}
    }


@pytest.fixture(scope="session")
def eight(tmp_path_factory):
    """A folder with an undisturbed run of eight shards; not to be changed."""
    folder = tmp_path_factory.mktemp("eight")
    done = run_eight(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def simulated(folder, policies, config):
    """The folder, with a rollout shard of some policies and the data set of it."""
    # Here, for what is imported before the tests' type checks are in place goes unchecked.
    from nsf_pipeline.data import store
    from nsf_pipeline.data.merge import merge
    from nsf_pipeline.data.rollouts import simulate

    attributes = {"fingerprint": "0" * 16}
    store.write(folder / "00000.h5", "rollouts", simulate(config, policies), attributes)
    merge(
        [folder / "00000.h5"],
        config,
        rollouts_fingerprint="0" * 16,
        attributes=attributes,
        output=folder / "dataset.h5",
        metadata_output=folder / "dataset.meta.json",
    )
    return folder
