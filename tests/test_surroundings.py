"""Variables of the environment: jobs give the same bytes, or name the one that they refuse."""

import os
import re

import pytest
import yaml
from conftest import ROOT, merged, mostly_thorough, run_verb
from test_survival import BRIEF, SETTINGS

from nsf_pipeline.system import surroundings

# Taken away before anything is imported. Each alone would change the model, or end the job.
IGNORED = {
    "JAX_ENABLE_X64": "1",
    "JAX_DEFAULT_DTYPE_BITS": "64",
    "JAX_DEFAULT_MATMUL_PRECISION": "bfloat16",
    "JAX_DEFAULT_PRNG_IMPL": "rbg",
    "JAX_ENABLE_CUSTOM_PRNG": "1",
    "JAX_THREEFRY_PARTITIONABLE": "0",
    "JAX_RANDOM_SEED_OFFSET": "5",
    "JAX_NUMPY_DTYPE_PROMOTION": "strict",
    "JAX_NUMPY_RANK_PROMOTION": "raise",
    "JAX_DEBUG_NANS": "1",
    "JAX_DEBUG_KEY_REUSE": "1",
    "JAX_DISABLE_JIT": "1",
    "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    "JAX_OPTIMIZATION_LEVEL": "O0",
    "JAX_CHECK_TRACER_LEAKS": "1",
    "JAX_TRANSFER_GUARD": "disallow",
    "JAX_DEFAULT_DEVICE": "nowhere",
    "JAX_NUM_CPU_DEVICES": "3",
    "JAX_BACKEND_TARGET": "nowhere",
    "JAX_RAISE_PERSISTENT_CACHE_ERRORS": "1",
    "JAX_NO_SUCH_OPTION": "1",
    "EAGER_CONSTANT_FOLDING": "maybe",
    "EQX_ON_ERROR": "breakpoint",
    "NPY_DISABLE_CPU_FEATURES": "X86_V2",
    "NPY_PROMOTION_STATE": "weak_and_warn",
    "OPENBLAS_CORETYPE": "Nehalem",
    "TENSORFLOW_USE_CUSTOM_CONTRACTION_KERNEL": "0",
    "NVIDIA_TF32_OVERRIDE": "0",
    "NPROC": "1",
    "PYTHONWARNINGS": "error",
    # These are left as they are, and change nothing.
    "XLA_FLAGS": "--xla_dump_disable_metadata=true",
    "JAX_LOG_COMPILES": "1",
    "JAX_TRACEBACK_FILTERING": "off",
    "PYTHONOPTIMIZE": "1",
    "PYTHONHASHSEED": "7",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
# What is refused: the variable, its value, and what the line says.
REFUSED = {
    "fast mathematics": ("XLA_FLAGS", "--xla_cpu_enable_fast_math=true", "has --xla_cpu_enable_f"),
    "no optimisation": ("XLA_FLAGS", "--xla_backend_optimization_level=0", "unset XLA_FLAGS"),
    "a harmless flag first": ("XLA_FLAGS", "--xla_dump_to=d --xla_no=1", "XLA_FLAGS has --xla_no"),
    "a file of flags": ("XLA_FLAGS", "flags.txt", "XLA_FLAGS has flags.txt"),
    "flags of the TPU": ("LIBTPU_INIT_ARGS", "--xla_tpu_x=1", "unset LIBTPU_INIT_ARGS"),
    "several devices": (
        "XLA_FLAGS",
        "--xla_force_host_platform_device_count=4",
        "on 4 CPU devices the model would differ in the last bits: unset XLA_FLAGS",
    ),
    "no such device": ("JAX_PLATFORMS", "cuda", r"JAX_PLATFORMS=cuda: .*; here it finds: cpu;"),
    "no such kind": ("JAX_PLATFORMS", "nonsense", r"JAX_PLATFORMS=nonsense: .* finds: cpu;"),
    "the older name": ("JAX_PLATFORM_NAME", "gpu", r"JAX_PLATFORM_NAME=gpu: .* finds: cpu;"),
    "a kind of two lines": ("JAX_PLATFORMS", "a\nb\x1b[1m", r"JAX_PLATFORMS=a\\nb\\x1b\[1m: "),
    "a flag that no terminal shows": ("XLA_FLAGS", "--\x1b[1m", r"XLA_FLAGS has --\\x1b\[1m, "),
    "no number": (
        "JAX_COMPILATION_CACHE_MAX_SIZE",
        "much",
        "JAX does not start: .*much.*; correct or unset .*JAX_COMPILATION_CACHE_MAX_SIZE",
    ),
    "no truth value": ("JAX_LOG_COMPILES", "maybe", "correct or unset .*JAX_LOG_COMPILES"),
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Settings of a brief training, beside its data set in `results`."""
    file = tmp_path_factory.mktemp("surroundings") / "settings.yaml"
    changes = merged(SETTINGS, {"training": BRIEF})
    defaults = yaml.safe_load((ROOT / "config.yaml").read_text())
    file.write_text(yaml.safe_dump(merged(defaults, changes)))
    made(file, file.parent / "results")
    return file


def made(settings, folder, **environment):
    done = run_verb(
        "generate-data", "--config", settings, "--output", folder, "--jobs", "1", **environment
    )
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_bytes() for path in folder.rglob("*.h5")}


def train(settings, folder, **environment):
    """The verb `train`; returns how it ended."""
    return run_verb(
        *("train", "--config", settings, "--dataset", settings.parent / "results/dataset.h5"),
        *("--output", folder / "model.eqx", "--metrics", folder / "metrics.csv"),
        *("--curves", folder / "curves.png"),
        **environment,
    )


def test_neither_the_environment_nor_the_number_of_cores_changes_a_byte(settings, tmp_path):
    usual, other = tmp_path / "usual", tmp_path / "other"
    cores = os.sched_getaffinity(0)
    for folder, environment, given in ((usual, {}, cores), (other, IGNORED, {min(cores)})):
        os.sched_setaffinity(0, given)  # the process that trains inherits it
        try:
            done = train(settings, folder, **environment)
        finally:
            os.sched_setaffinity(0, cores)
        assert done.returncode == 0, done.stderr
    for name in ("model.eqx", "curves.png"):
        assert (usual / name).read_bytes() == (other / name).read_bytes(), name


@pytest.mark.thorough
def test_the_environment_changes_no_byte_of_the_data(settings, tmp_path):
    usual = made(settings, tmp_path / "usual")
    assert made(settings, tmp_path / "other", **IGNORED | {"XLA_FLAGS": "--refused"}) == usual


def test_of_two_choices_of_a_device_both_are_named(settings, tmp_path):
    done = train(settings, tmp_path, JAX_PLATFORMS="cpu", JAX_PLATFORM_NAME="gpu")
    (line,) = done.stderr.splitlines()
    assert "with JAX_PLATFORMS=cpu and JAX_PLATFORM_NAME=gpu: " in line
    assert "finds: cpu; unset JAX_PLATFORMS and JAX_PLATFORM_NAME, or name" in line


@pytest.mark.parametrize(
    "case", mostly_thorough(REFUSED, "no optimisation", "no such device", "no truth value")
)
def test_what_a_job_cannot_work_with_is_one_line(case, settings, tmp_path):
    name, value, message = REFUSED[case]
    done = train(settings, tmp_path, **{name: value})
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("nsf_pipeline: ")
    assert re.search(message, line), line
    assert not done.stdout
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "place", mostly_thorough(["file", "file/folder", "/proc/nothing"], "file/folder")
)
def test_a_cache_that_cannot_be_written_is_one_line(place, settings, tmp_path):
    (tmp_path / "file").touch()
    done = train(
        settings,
        tmp_path / "results",
        JAX_COMPILATION_CACHE_DIR=str(tmp_path / place),
        XLA_FLAGS="--xla_force_host_platform_device_count=4",  # ends the job before it compiles
    )
    (line,) = done.stdout.splitlines()
    assert re.match(r"JAX_COMPILATION_CACHE_DIR=.*: .*; compiled code is not kept", line)


def test_variables_of_jax_that_nobody_has_judged_are_taken_away(monkeypatch):
    for name in [*IGNORED, "JAX_PLATFORMS", "JAX_OF_A_LATER_VERSION"]:
        monkeypatch.setenv(name, "1")
    surroundings.settle()
    left = {name for name in os.environ if name.startswith(("JAX_", "EQX_", "NPY_"))}
    assert left <= set(surroundings.HARMLESS)
    assert "JAX_PLATFORMS" in left
    assert "OMP_NUM_THREADS" in os.environ
