"""Checks of the numbers that a caller gives: a clear line in place of a result without meaning.

That line is a `UserError`, which is a `ValueError`. Only values that are known are checked. What a
compiler of JAX traces has no values yet: there, functions give NaN (`nsf_pipeline.flow.guard`).
This module needs no JAX.
"""

import itertools
import operator
import sys
from collections.abc import Iterator, Sequence
from types import EllipsisType
from typing import Any

import numpy as np
import numpy.typing as npt

from nsf_pipeline.errors import UserError

Shape = tuple[int | EllipsisType | None, ...]
"""Sizes of an array's axes: None stands for any size, `...` in front for any number of axes."""
INT32_MAX = 2**31 - 1
SHOWN = 60
"""Characters of a refused value that a message shows, at most."""


def is_traced(values: Any) -> bool:
    """Whether a compiler of JAX traces the value, or a number in a list of them."""
    jax = sys.modules.get("jax")
    if jax is None:
        return False
    return any(isinstance(value, jax.core.Tracer) for value in _leaves(values))


def numbers(
    name: str,
    values: Any,
    shape: Shape | None = None,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    dtype: npt.DTypeLike = np.float64,
    finite: bool = True,
) -> np.ndarray:
    """Real numbers as an array.

    Args:
        name: of the argument, for the message.
        values: whole or real numbers; no booleans, text, dates or complex numbers.
        shape: None stands for any size, and for any shape.
        least: the least that is allowed.
        above: what all must be greater than.
        most: the greatest that is allowed.
        dtype: of the result.
        finite: whether the numbers must be finite, also in the result's type.

    Raises:
        UserError: they are none of these, or have another shape.
    """
    array = real(name, values)
    require_shape(name, array.shape, shape)
    with np.errstate(over="ignore"):
        array = array.astype(dtype, copy=False)
    if finite and not np.isfinite(array).all():
        got = _at(array, ~np.isfinite(array))
        raise UserError(f"expected {name} to be finite{_as(dtype)}, got {got}")
    for limit, words, fails in (
        (least, "at least", np.less),
        (above, "above", np.less_equal),
        (most, "at most", np.greater),
    ):
        if limit is not None and (wrong := fails(array, limit)).any():
            raise UserError(f"expected {name} to be {words} {limit:g}, got {_at(array, wrong)}")
    return array


def number(name: str, value: Any, **limits: Any) -> float:
    """One real, finite number; the limits are those of `numbers`.

    Raises:
        UserError: it is none.
    """
    return float(numbers(name, value, (), **limits))


def whole(name: str, value: Any, least: int = 0, most: int = INT32_MAX) -> int:
    """A whole number.

    Raises:
        UserError: it is none, or out of range.
    """
    try:
        count = None if _is_boolean(value) else operator.index(value)
    except TypeError:
        count = None
    if count is None or (count < least and not least):
        raise UserError(f"expected {name} to be a whole number from {least} on, got {shown(value)}")
    if not least <= count <= most:
        limit = f"least {least}" if count < least else f"most {most}"
        raise UserError(f"expected {name} of at {limit}, got {shown(value)}")
    return count


def require_shape(name: str, got: tuple[int, ...], expected: Shape | None, hint: str = "") -> None:
    """Check a shape.

    Args:
        name: of the argument, for the message.
        got: its shape.
        expected: None stands for any size, and for any shape.
        hint: what to do, for the end of the message.

    Raises:
        UserError: it is another.
    """
    if expected is None:
        return
    sizes, own = expected, got
    if expected[:1] == (...,):
        sizes = expected[1:]
        own = got[len(got) - len(sizes) :] if len(got) >= len(sizes) else ()
    if len(own) == len(sizes) and all(
        want in (None, have) for want, have in zip(sizes, own, strict=True)
    ):
        return
    if not expected:
        raise UserError(f"expected {name} to be one number, got shape {got}{hint}")
    words: dict[Any, str] = {None: "any", ...: "..."}
    wanted = ", ".join(words.get(size, str(size)) for size in expected)
    comma = "," * (len(expected) == 1)
    raise UserError(f"expected {name} of shape ({wanted}{comma}), got {got}{hint}")


def shown(value: Any) -> str:
    """A value in a message: on one line, and short."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    try:
        text = " ".join(repr(value).split()).encode("ascii", "backslashreplace").decode()
    except Exception:  # a value may fail to describe itself
        text = f"a {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def real(name: str, values: Any) -> np.ndarray:
    """Whole or real numbers as an array, in their own type.

    Raises:
        UserError: they are booleans, text, dates, complex numbers or something else.
    """
    try:
        array = np.asarray(values)
    except (TypeError, ValueError, OverflowError):  # of no shape, or keys of JAX's
        array = np.asarray(None)
    kind = array.dtype.kind
    # JAX's own short floats are of kind V.
    fits = kind in "fiu" or (kind == "V" and np.can_cast(array.dtype, np.float64))
    if fits and isinstance(values, list | tuple):
        fits = not any(_is_boolean(value) for value in _leaves(values))
    if not fits or np.ma.is_masked(values):
        raise UserError(f"expected {name} to be numbers, got {shown(values)}")
    return array


def _is_boolean(value: Any) -> bool:
    return isinstance(value, bool) or getattr(value, "dtype", None) == np.bool_


def _leaves(values: Any) -> Iterator[Any]:
    """What a list holds, or the value itself."""
    if isinstance(values, list | tuple):
        for value in values:
            yield from _leaves(value)
    else:
        yield values


def _as(dtype: npt.DTypeLike) -> str:
    return " in single precision" if np.dtype(dtype) == np.float32 else ""


def _at(array: np.ndarray, wrong: np.ndarray | np.bool_) -> str:
    """The first wrong number, and where it is."""
    place = np.unravel_index(int(np.argmax(wrong)), array.shape)
    where = f" at {list(map(int, place))}" if place else ""
    return f"{array[place]:g}{where}"


def in_order(names: Sequence[str], times: Sequence[float]) -> None:
    """Check that numbers never decrease.

    Raises:
        UserError: they do.
    """
    for (first, before), (second, after) in itertools.pairwise(zip(names, times, strict=True)):
        if not before <= after:
            raise UserError(f"expected {first} <= {second}, got {before:g} and {after:g}")
