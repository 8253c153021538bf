"""JAX with its defaults, whatever the session has set.

Options of JAX's change numbers: precision, the random generator, rules of promotion. Sessions set
them by variables of the environment, by `jax.config.update` and by contexts. The functions of this
package that others call, and that compute by JAX, are decorated by `with_defaults`.

One value is no default of JAX's: matrix products are computed in full single precision. By default
GPUs may round their factors to 10 bits. On a CPU it changes no bit.
"""

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any, ParamSpec, TypeVar

import jax

from nsf_pipeline.errors import UserError
from nsf_pipeline.system.surroundings import require_device, require_usual_compiler

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

GENERATOR = "threefry2x32"
# Contexts of JAX's, and the values that they get: its defaults, and full precision.
DEFAULTS: tuple[tuple[Callable[[Any], AbstractContextManager[None]], Any], ...] = (
    (jax.enable_x64, False),
    (jax.default_matmul_precision, "highest"),
    (jax.numpy_dtype_promotion, "standard"),
    (jax.numpy_rank_promotion, "allow"),
    (jax.softmax_custom_jvp, False),
    (jax.default_prng_impl, GENERATOR),
    (jax.threefry_partitionable, True),
    (jax.enable_custom_prng, False),
    (jax.legacy_prng_key, "allow"),
    (jax.disable_jit, False),
    (jax.debug_nans, False),
    (jax.debug_infs, False),
    (jax.debug_key_reuse, False),
    (jax.enable_checks, False),
    (jax.check_tracer_leaks, False),
    (jax.no_tracing, False),
    (jax.no_execution, False),
    (jax.transfer_guard, "allow"),
)
# Options without such a context, and their defaults. They are refused if set otherwise.
FIXED: dict[str, Any] = {
    "jax_random_seed_offset": 0,
    "jax_disable_most_optimizations": False,
    "jax_optimization_level": "UNKNOWN",
    "jax_exec_time_optimization_effort": 0.0,
    "jax_memory_fitting_effort": 0.0,
    "jax_enable_pgle": False,
    "jax_error_checking_behavior_nan": "ignore",
    "jax_error_checking_behavior_divide": "ignore",
    "jax_error_checking_behavior_oob": "ignore",
}


def with_defaults(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Decorates a function so that it runs with JAX's defaults.

    Raises:
        UserError: when it is called: an option or a flag of the compiler's is set that changes
            numbers and has no context, a random key is of another generator, or JAX has no device.
    """

    @functools.wraps(function)
    def run(*arguments: Arguments.args, **named: Arguments.kwargs) -> Result:
        require_usual_compiler()
        require_device()
        options = jax.config.values
        for name, usual in FIXED.items():
            if (found := options.get(name, usual)) != usual:
                raise UserError(
                    f"{name} is {found}, which changes numbers; set it to {usual!r}, and unset "
                    f"{name.upper()}"
                )
        for value in (*arguments, *named.values()):
            _require_generator(value)
        with ExitStack() as stack:
            for context, value in DEFAULTS:
                stack.enter_context(context(value))
            return function(*arguments, **named)

    return run


def _require_generator(value: Any) -> None:
    """Refuse a random key of another generator: other sessions would draw other numbers."""
    if isinstance(value, jax.Array) and jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        found = str(jax.random.key_impl(value))
        if found != GENERATOR:
            raise UserError(
                f"expected a random key of {GENERATOR}, got one of {found}: make it by "
                f"jax.random.key(seed, impl={GENERATOR!r}), or set jax_default_prng_impl to that"
            )
