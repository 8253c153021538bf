"""Variables of the environment that change what JAX and NumPy compute.

A run with the same settings gives the same bytes whatever the environment: `settle` takes away
what would change them, before JAX and NumPy are imported, and `require_usual_compiler` refuses
flags of the compiler. `docs/running.md` says which are which.
"""

import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from nsf_pipeline.errors import MOST, UserError, on_one_line, shown
from nsf_pipeline.system.printing import say

CACHE = "JAX_COMPILATION_CACHE_DIR"
# All variables with these starts are taken away, so that new ones of later versions are too.
CHANGING = (
    # JAX and Equinox; the last three are options of JAX's with names of their own.
    *("JAX_", "JAX2TF_", "EQX_", "CHECK_VMA", "EAGER_CONSTANT_FOLDING", "MOCK_NUM_GPU_PROCESSES"),
    # NumPy's choice of processor features, and that of the libraries for matrices.
    *("NPY_", "NUMPY_", "OPENBLAS_CORETYPE", "BLIS_ARCH", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS"),
    # Kernels and precision of XLA's libraries.
    *("TENSORFLOW_USE_CUSTOM_CONTRACTION_KERNEL", "TF_CUDNN_", "TF_XLA_FLAGS", "DNNL_", "ONEDNN_"),
    *("NVIDIA_TF32_OVERRIDE", "CUBLAS_", "CUBLASLT_", "CUDNN_", "MIOPEN_"),
    *("NPROC", "PJRT_NPROC"),  # threads, for which there are --threads and training.threads
    "PYTHONWARNINGS",
)
HARMLESS = (
    "JAX_PLATFORMS",
    "JAX_PLATFORM_NAME",
    "JAX_CUDA_VISIBLE_DEVICES",
    "JAX_ROCM_VISIBLE_DEVICES",
    CACHE,
    "JAX_COMPILATION_CACHE_MAX_SIZE",
    "JAX_ENABLE_COMPILATION_CACHE",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES",
    "JAX_DEBUG_LOG_MODULES",
    "JAX_EXPLAIN_CACHE_MISSES",
    "JAX_LOG_COMPILES",
    "JAX_LOGGING_LEVEL",
    "JAX_TRACEBACK_FILTERING",
)
"""Variables that `CHANGING` names and that change no number: devices, compiled code kept, logs."""
CHOOSING = "jax_platforms", "jax_platform_name"
"""Options of JAX's that choose the kind of device."""
COMPILER_FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS")
HARMLESS_FLAGS = (
    "--xla_dump_",
    "--xla_gpu_cuda_data_dir=",
    # Training refuses several CPU devices itself.
    "--xla_force_host_platform_device_count=",
)
"""Starts of the compiler's flags that change no number."""

UNSEEN = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
"""Warnings that Python does not show unless asked to."""


def settle() -> None:
    """Take away the variables that would change numbers, or turn warnings into failures.

    Call it before NumPy and JAX are imported. The processes that this one starts inherit it.
    """
    for name in [*os.environ]:
        if name.startswith(CHANGING) and name not in HARMLESS:
            del os.environ[name]
    if sys.warnoptions:  # PYTHONWARNINGS, or `python -W`
        sys.warnoptions.clear()
        warnings.resetwarnings()
        for unseen in UNSEEN:
            warnings.simplefilter("ignore", unseen)


def require_usual_compiler() -> None:
    """Require that no flag of the compiler's is set that could change numbers.

    Raises:
        UserError: one is; the line names it.
    """
    for variable in COMPILER_FLAGS:
        for flag in os.environ.get(variable, "").split():
            if not flag.startswith(HARMLESS_FLAGS):
                raise UserError(
                    f"{variable} has {shown(flag, MOST)}, which can change numbers; run "
                    f"`unset {variable}` and start again"
                )


def leave_broken_cache() -> None:
    """Do without the folder for compiled code, and say so, if it cannot be written."""
    folder = os.environ.get(CACHE)
    if not folder or "://" in folder:  # in a cloud
        return
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return
    except OSError as error:
        del os.environ[CACHE]
        named = f"{CACHE}={shown(folder, MOST)}"
        say(f"{named}: cannot write there: {error.strerror}; compiled code is not kept")


def import_jax() -> None:
    """Import JAX, which reads its variables.

    Raises:
        UserError: the value of one is none that JAX knows.
    """
    try:
        import jax  # noqa: F401
    except ValueError as error:
        given = ", ".join(name for name in os.environ if name.startswith("JAX_"))
        reason = shown(str(error), MOST)
        raise UserError(f"JAX does not start: {reason}; correct or unset {given}") from None


@cache
def require_device() -> None:
    """Start JAX, and require that it finds a device to compute on.

    Raises:
        UserError: it does not start, or finds none; the line names the variable and the devices
            that there are.
    """
    import_jax()
    import jax

    try:
        jax.devices()
        return
    except (AssertionError, RuntimeError) as error:  # bare, for some kinds of devices
        reason = on_one_line(error, MOST) or "no such device"
    values = jax.config.values
    if chosen := [option for option in CHOOSING if values[option]]:
        given = " and ".join(f"{option.upper()}={shown(values[option])}" for option in chosen)
        raise UserError(
            f"JAX does not start with {given}: {reason}; here it finds: "
            f"{_devices_without(chosen)}; unset {' and '.join(map(str.upper, chosen))}, or name "
            "one of these"
        )
    raise UserError(f"JAX does not start: {reason}")


def _devices_without(options: Sequence[str]) -> str:
    """The kinds of devices that JAX finds without options; then it is as if none was sought."""
    import jax
    from jax.extend import backend

    chosen = {option: jax.config.values[option] for option in options}
    for option in options:
        jax.config.update(option, "")
    try:
        return ", ".join(sorted({device.platform for device in jax.devices()}))
    except (AssertionError, RuntimeError):
        return "nothing"
    finally:
        backend.clear_backends()
        for option, choice in chosen.items():
            jax.config.update(option, choice)
