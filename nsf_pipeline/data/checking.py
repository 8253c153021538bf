"""Holding an open HDF5 file against its schema, before anything in it is used.

HDF5 can do much that this package's files never need, and that would read other files, take all
memory or mean other numbers: links, references, external storage, virtual arrays, filters, and
compressed bytes that unpack to a thousand times their size. What is not needed is refused. Nothing
is read before its size is known to be what the file can hold.

The index of a data set of several files has virtual arrays, for other programs. None is read here,
because HDF5 fills in numbers where a file is missing; see `parts`.
"""

import math
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5o, h5s, h5t, h5z

from nsf_pipeline import label
from nsf_pipeline.config import MAX_TRAJECTORIES
from nsf_pipeline.config.ensembles import entered_of
from nsf_pipeline.data.scaling import unscale
from nsf_pipeline.data.schema import (
    ATTRIBUTES,
    HELD,
    LARGEST,
    MASKS,
    MAX_SECONDS,
    NEVER,
    NUMBERS,
    POLICIES,
    SCHEMAS,
    THRESHOLDS,
    Field,
    fields_of,
)
from nsf_pipeline.dmp import DMPParams, condition_dim
from nsf_pipeline.errors import shown
from nsf_pipeline.pusht.factors import PACKED
from nsf_pipeline.timing import CONTROL_DT, num_steps

INDEX = "parts"
"""The attribute that the index of a data set of several files has."""
MAX_STEPS = num_steps(MAX_SECONDS)
MAX_BASIS = 64
AXES = {
    "n": MAX_TRAJECTORIES,
    "T": MAX_STEPS,
    "T+1": MAX_STEPS + 1,
    "B": MAX_BASIS,
    "C": condition_dim(MAX_BASIS),
    "M": 65_536,
    "E": 65_536,
    "S": MAX_STEPS,
    "F": PACKED,
}
"""The greatest length of each axis that settings allow."""
REACHED = ("first_step", "first_held", "disturbed_step", "both_step", "block_step")
"""Arrays of steps that are at most `length`."""
MAX_CHUNK = 1 << 27
"""Bytes of the largest chunk, before compression: 64 states with 65,536 members are less."""
MAX_RATIO = 1032
"""Bytes that one byte of a gzip stream gives, at most."""
MAX_OVERHEAD = 1 << 24
"""Bytes of a file beside its arrays (HDF5's own and the attributes) that are usual at any size."""
MAX_TEXT = 1 << 20
"""Characters of an attribute."""
MAX_NAME = 200
"""Characters of a name, a version and the like."""
PIECE = 1 << 22
"""Bytes that are read at once to compare them with their range."""
ROWS = 1 << 12
"""Trajectories whose masks and policies are compared at once."""


class UnsoundError(ValueError):
    """A file does not fit its schema; the message says in a few words what does not."""


def check_storage(file: Any, size: int) -> None:
    """Check that a file holds arrays alone, whose bytes all lie in it, whatever its kind.

    Args:
        file: open with h5py; nothing in it was looked at yet.
        size: of the file, in bytes.

    Raises:
        UnsoundError: it holds something else.
    """
    if len(file) > MAX_NAME:
        raise UnsoundError(f"holds {len(file)} arrays")
    check = _check_virtual if INDEX in file.attrs else _check_array
    stored = sum(check(file, name, size) for name in file)
    if size - stored > MAX_OVERHEAD + stored // 16:
        raise UnsoundError(f"holds {size - stored} bytes beside its arrays")


def _check_virtual(file: Any, name: str, _: int) -> int:
    """Check that an array of an index is virtual; it takes no bytes in the file."""
    array = _array_in(file, name).id
    if array.get_create_plist().get_layout() != h5d.VIRTUAL:
        raise UnsoundError(f"'{shown(name)}' is no virtual array, though the file is an index")
    return 0


def _array_in(file: Any, name: str) -> Any:
    """An array of a file under its only name."""
    what = f"'{shown(name)}'"
    if not isinstance(file.get(name, getlink=True), h5py.HardLink):
        raise UnsoundError(f"{what} is a link to elsewhere")
    if file.get(name, getclass=True) is not h5py.Dataset:
        raise UnsoundError(f"{what} is not an array")
    array = file[name]
    if h5o.get_info(array.id).rc != 1:
        raise UnsoundError(f"{what} has several names")
    return array


def _check_array(file: Any, name: str, size: int) -> int:
    """Check how and where an array is stored; return the bytes that it takes in the file."""
    what, array = f"'{shown(name)}'", _array_in(file, name).id
    made = array.get_create_plist()
    layout, filters = made.get_layout(), [made.get_filter(i)[0] for i in range(made.get_nfilters())]
    if layout == h5d.VIRTUAL or made.get_external_count():
        raise UnsoundError(f"{what} lies in another file")
    if layout not in (h5d.CONTIGUOUS, h5d.CHUNKED) or filters not in ([], [h5z.FILTER_DEFLATE]):
        raise UnsoundError(
            f"{what} is stored in another way than one piece, or chunks with or without gzip"
        )
    if array.get_type().committed():
        raise UnsoundError(f"{what} has a type of its own in the file")
    if array.get_space().get_simple_extent_type() != h5s.SIMPLE:
        raise UnsoundError(f"{what} is not an array")
    whole = math.prod(array.shape) * array.get_type().get_size()
    stored, width = array.get_storage_size(), MAX_RATIO if filters else 1
    first = array.get_offset() if layout == h5d.CONTIGUOUS and whole else 0
    fits = first is not None and first + stored <= size and whole <= stored * width
    if layout == h5d.CHUNKED:
        chunk = math.prod(made.get_chunk()) * array.get_type().get_size()
        if chunk > MAX_CHUNK:
            raise UnsoundError(f"{what} has chunks of {chunk} bytes")
    if not fits:
        raise UnsoundError(f"{what} has {whole} bytes, more than the file holds")
    return int(stored)


def attributes_of(file: Any) -> dict[str, Any]:
    """The attributes of a file; what is stored as JSON is read.

    Raises:
        UnsoundError: there is an unknown one, one of another type than the schema's, or one that
            only the index of a data set has.
    """
    if len(file.attrs) > len(ATTRIBUTES):
        raise UnsoundError(f"has {len(file.attrs)} attributes, more than there are")
    found = {name: _attribute(file, name) for name in file.attrs}
    if INDEX in found and (found.get("schema") != "dataset" or not {"first", "stop"} <= {*found}):
        raise UnsoundError(f"attribute '{INDEX}' belongs to the index of a data set alone")
    return found


def is_part(attributes: Mapping[str, Any]) -> bool:
    """Whether a file is one of those that the index of a data set names."""
    return (
        attributes.get("schema") == "dataset" and "first" in attributes and INDEX not in attributes
    )


_STORED: dict[type, Any] = {int: h5t.NATIVE_INT64, float: h5t.NATIVE_DOUBLE}
_NAMES = {str: "text", dict: "JSON text", int: "an integer", float: "a number"}


def _attribute(file: Any, name: str) -> Any:
    what, kind = f"attribute '{shown(name)}'", ATTRIBUTES.get(name)
    if kind is None:
        raise UnsoundError(f"has an unknown {what}")
    stored = file.attrs.get_id(name)
    type_ = stored.get_type()
    if kind in _STORED:
        fits = type_ == _STORED[kind]
    else:
        fits = isinstance(type_, h5t.TypeStringID) and type_.is_variable_str()
    if not fits or stored.get_space().get_simple_extent_type() != h5s.SCALAR:
        raise UnsoundError(f"{what}: expected {_NAMES[kind]}, found something else")
    value = file.attrs[name]
    if kind is not dict and kind is not str:
        return kind(value)
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise UnsoundError(f"{what}: expected at most {MAX_TEXT} characters of text")
    if kind is str:
        if not _is_name(value):
            raise UnsoundError(f"{what}: expected a name, found '{shown(value)}'")
        return value
    try:
        read = label.mapping(value.encode(errors="surrogateescape"))
    except label.LabelError as error:
        raise UnsoundError(f"{what}: expected a mapping in JSON: {error}") from None
    if name in ("modules", "versions") and not all(map(_is_name, read.values())):
        raise UnsoundError(f"{what}: expected names and their text, found something else")
    return read


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_NAME and value.isprintable()


def sizes_of(kind: str, arrays: Any) -> dict[str, int]:
    """The length of each named axis.

    Args:
        kind: of file.
        arrays: by name; those of an open file, or NumPy's.

    Raises:
        UnsoundError: the arrays do not fit the schema.
    """
    fields = fields_of(kind, arrays)
    unknown = sorted(set(arrays) - set(fields))
    if unknown:
        raise UnsoundError(f"{kind} has no array '{shown(unknown[0])}'")
    sizes: dict[str, int] = {}
    for name, field in fields.items():
        if name not in arrays:
            raise UnsoundError(f"expected an array '{name}' in {kind}, found none")
        shape = getattr(arrays[name], "shape", ())
        axes = ("n", *field.axes)
        expected = tuple(sizes.get(axis, axis) if isinstance(axis, str) else axis for axis in axes)
        fits = len(shape) == len(axes) and all(
            isinstance(want, str) or want == got for want, got in zip(expected, shape, strict=True)
        )
        if not fits:
            raise UnsoundError(f"expected '{name}' of {kind} with shape {expected}, got {shape}")
        sizes |= {axis: got for axis, got in zip(axes, shape, strict=True) if isinstance(axis, str)}
    if "T" in sizes and sizes["T+1"] != sizes["T"] + 1:
        raise UnsoundError(f"expected T + 1 states for {sizes['T']} actions, got {sizes['T+1']}")
    if "B" in sizes and sizes["C"] != condition_dim(sizes["B"]):
        raise UnsoundError(
            f"expected C = {condition_dim(sizes['B'])} for {sizes['B']} basis functions, "
            f"got {sizes['C']}"
        )
    if "C" in sizes and sizes["C"] not in range(condition_dim(1), sizes["C"] + 1, 2):
        raise UnsoundError(f"expected C = {condition_dim(0)} + 2 B, got {sizes['C']}")
    if sizes.get("F", PACKED) != PACKED:
        raise UnsoundError(f"expected F = {PACKED} factors, got {sizes['F']}")
    return sizes


def check_arrays(file: Any, kind: str, attributes: Mapping[str, Any]) -> None:
    """Check names, types, shapes and all numbers of a file's arrays; of an index, no numbers.

    Args:
        file: open with h5py; its storage is checked.
        kind: of file.
        attributes: of the file.

    Raises:
        UnsoundError: something does not fit the schema.
    """
    arrays = {name: file[name] for name in file}
    fields = fields_of(kind, arrays)
    sizes = sizes_of(kind, arrays)
    for name, field in fields.items():
        if arrays[name].id.get_type() != h5t.py_create(np.dtype(field.dtype), logical=True):
            raise UnsoundError(f"expected '{name}' of type {field.dtype}, found another type")
    for axis, size in sizes.items():
        if size > AXES[axis] or (not size and (axis, kind) != ("n", "ensembles")):
            raise UnsoundError(f"expected {axis} from 1 to {AXES[axis]}, got {size}")
    recorded = _recorded_sizes(kind, attributes.get("config", {}))
    if is_part(attributes):
        recorded.pop("n", None)
    for axis, size in recorded.items():
        if sizes.get(axis, size) != size:
            raise UnsoundError(f"expected {axis} = {size} by its own settings, got {sizes[axis]}")
    if attributes.get("dt", CONTROL_DT) != CONTROL_DT:
        raise UnsoundError(f"attribute 'dt': expected {CONTROL_DT}, found {attributes['dt']}")
    bounds = bounds_in(attributes.get("metadata", {})) if kind == "dataset" else {}
    if INDEX in attributes:
        return
    for name in sorted(fields, key=lambda name: arrays[name].nbytes):  # the cheapest first
        _check_range(arrays[name], name, fields[name], sizes)
    if kind != "ensembles":
        _check_order(arrays, kind, attributes)
    for first in range(0, sizes["n"], ROWS):
        rows = slice(first, first + ROWS)
        _check_masks(arrays, rows)
        if "condition" in arrays:
            _check_policies(arrays["condition"][rows], bounds.get("condition"))
        if kind == "episodes":
            _check_coverage(arrays, rows)
        for name in REACHED:
            if name in arrays:
                length = arrays["length"][rows].reshape(-1, *[1] * (arrays[name].ndim - 1))
                if (arrays[name][rows] > length).any():
                    raise UnsoundError(f"'{name}' is past 'length'")
        if kind == "ensembles":
            _check_horizons(arrays, rows, recorded.get("T", MAX_STEPS))


def _recorded_sizes(kind: str, config: Mapping[str, Any]) -> dict[str, int]:
    """The lengths of axes that follow from the settings in a file's record, if they are there."""

    def setting(section: str, name: str) -> Any:
        found = config.get(section)
        return found.get(name) if isinstance(found, dict) else None

    found = {}
    count, basis = config.get("num_trajectories"), setting("dmp", "n_basis")
    if kind == "dataset" and isinstance(count, int):
        more = setting("second_round", "trajectories")  # only a data set of both rounds has these
        found["n"] = count + (more if isinstance(more, int) else 0)
    if isinstance(basis, int) and 0 < basis <= MAX_BASIS:
        found |= {"B": basis, "C": condition_dim(basis)}
    match setting("policies", "duration"):
        case [_, int() | float() as longest] if 0 < longest <= MAX_SECONDS:
            found |= {"T": num_steps(longest), "T+1": num_steps(longest) + 1}
    if isinstance(members := setting("ensembles", "num_members"), int):
        found |= {"M": members, "E": entered_of(members)}
    return found


def bounds_in(
    metadata: Mapping[str, Any], where: str = "attribute 'metadata'"
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By scaled array, the bounds in metadata.

    Args:
        metadata: with `min` and `max`.
        where: they come from, for the message.

    Raises:
        UnsoundError: they are not there, or not sound.
    """
    fields = {name: field for name, field in SCHEMAS["rollouts"].items() if field.scaled}
    ends: list[Any] = [metadata.get(end) for end in ("min", "max")]
    if not all(isinstance(end, dict) and end.keys() == fields.keys() for end in ends):
        raise UnsoundError(f"{where}: expected 'min' and 'max' of each scaled array, found others")
    found = {}
    for name, field in fields.items():
        low, high = (_numbers(end[name]) for end in ends)
        width = field.axes[1:] if field.axes[0] in MASKS else field.axes
        fits = low.shape == high.shape and _is_shape(low.shape, width)
        if not fits or not (low <= high).all():  # as NaN is not
            raise UnsoundError(f"{where}: expected finite bounds of '{name}', min up to max")
        found[name] = low, high
    return found


def _is_shape(shape: tuple[int, ...], axes: tuple[int | str, ...]) -> bool:
    return len(shape) == len(axes) and all(
        isinstance(axis, str) or axis == size for axis, size in zip(axes, shape, strict=True)
    )


def _numbers(value: Any) -> np.ndarray:
    """A number, or a list of numbers, read from JSON; NaN for anything else."""
    listed = value if isinstance(value, list) else [value]
    fits = all(type(each) in (int, float) and abs(each) <= LARGEST for each in listed)
    return np.array(value if fits else [np.nan] * len(listed), np.float64)


def _check_range(array: Any, name: str, field: Field, sizes: Mapping[str, int]) -> None:
    high = sizes[field.high] if isinstance(field.high, str) else field.high
    low, high = (0, 1) if field.dtype == "bool" else (field.low, high)
    for piece in _pieces(array, np.dtype(field.dtype)):
        values = piece.view(np.uint8) if field.dtype == "bool" else piece
        for value in (values.min(), values.max()):  # both are NaN if any number is
            if not low <= value <= high:
                expected = field.range or f"{low:g} to {high:g}"
                raise UnsoundError(f"expected '{name}' of {expected}, found {value:g}")


def _pieces(array: Any, dtype: np.dtype) -> Iterator[np.ndarray]:
    """All numbers of an array, in pieces, in no particular shape.

    Chunks are unpacked here, up to the size that they should have: HDF5 would unpack whatever they
    hold.
    """
    if not array.size:
        return
    chunks = array.chunks
    if chunks is None:
        step = max(1, PIECE // max(1, array.nbytes // len(array)))
        for first in range(0, len(array), step):
            yield array[first : first + step]
        return
    size = math.prod(chunks) * dtype.itemsize
    packed = array.compression == "gzip"
    for where in array.iter_chunks():
        skipped, content = array.id.read_direct_chunk(tuple(part.start for part in where))
        if packed and not skipped:
            unpacking = zlib.decompressobj()
            content = unpacking.decompress(content, size + 1)
        if len(content) != size:
            raise UnsoundError(f"a chunk of '{array.name[1:]}' does not unpack to {size} bytes")
        chunk = np.frombuffer(content, dtype).reshape(chunks)
        held = chunk[tuple(slice(0, part.stop - part.start) for part in where)]
        yield np.ascontiguousarray(held)


def _check_order(arrays: Mapping[str, Any], kind: str, attributes: Mapping[str, Any]) -> None:
    array = arrays[NUMBERS.get(kind, "trajectory")]
    start = int(array[0])
    for first in range(0, len(array), PIECE):
        piece = array[first : first + PIECE]
        if not np.array_equal(piece, np.arange(start + first, start + first + len(piece))):
            raise UnsoundError(f"expected consecutive {_items(kind)}, found others")
    if span_of(arrays, attributes) != (start, start + len(array)):
        raise UnsoundError(f"attributes 'first' and 'stop' are not those of its {_items(kind)}")


def _items(kind: str) -> str:
    """What the rows of a kind of file are."""
    return f"{NUMBERS[kind]}s" if kind in NUMBERS else "trajectories"


def span_of(arrays: Mapping[str, Any], attributes: Mapping[str, Any]) -> tuple[int, int]:
    """The first trajectory (in ensembles, place of a state) or episode, and one past the last."""
    held = arrays[next((own for own in NUMBERS.values() if own in arrays), "trajectory")]
    first = attributes["first"] if "first" in attributes else held[0]
    stop = attributes["stop"] if "stop" in attributes else held[-1] + 1
    return int(first), int(stop)


def check_label(fields: Mapping[str, Any], file: Any, attributes: Mapping[str, Any]) -> None:
    """Check that a file's label says of it what its attributes and arrays do.

    Raises:
        UnsoundError: it does not.
    """
    first, stop = span_of(file, attributes)
    expected = {
        "format": f"nsf_pipeline {attributes.get('schema')}",
        "first": first,
        "stop": stop,
        "fingerprint": attributes.get("fingerprint"),
    }
    for name, value in expected.items():
        if fields.get(name) != value:
            raise UnsoundError(
                f"its label says {name} {shown(str(fields.get(name)))}, it holds {value}"
            )


def _check_masks(arrays: Mapping[str, Any], rows: slice) -> None:
    for axis, mask in MASKS.items():
        if mask in arrays:
            held = arrays[mask][rows]
            reached = arrays["length"][rows][:, None] + (axis == "T+1")
            if not np.array_equal(held, np.arange(held.shape[1]) < reached):
                raise UnsoundError(f"'{mask}' does not agree with 'length'")


def _check_coverage(arrays: Mapping[str, Any], rows: slice) -> None:
    """Check that an episode's successes are those of its coverage, which is 0 past its end."""
    coverage, length = arrays["coverage"][rows], arrays["length"][rows]
    if coverage[np.arange(coverage.shape[1]) >= length[:, None]].any():
        raise UnsoundError("'coverage' is above 0 past 'length'")
    for name, found in zip(("first_step", "first_held"), first_steps(coverage), strict=True):
        if not np.array_equal(arrays[name][rows], found):
            raise UnsoundError(f"'{name}' does not agree with 'coverage'")


def first_steps(coverage: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The steps after which each of `THRESHOLDS` was first exceeded, at all and for `HELD` steps.

    Args:
        coverage: (n, S) after each step; 0 past an episode's end.

    Returns:
        (n, thresholds) twice, from 1; `NEVER` where it was not.
    """
    above: np.ndarray = coverage[..., None] > np.array(THRESHOLDS)
    counts = np.cumsum(np.pad(above, ((0, 0), (HELD, 0), (0, 0))), axis=1)
    held: np.ndarray = counts[:, HELD:] - counts[:, :-HELD] == HELD
    return _first_true(above), _first_true(held)


def _first_true(reached: np.ndarray) -> np.ndarray:
    return np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, NEVER)


def _check_policies(condition: np.ndarray, bounds: tuple[np.ndarray, np.ndarray] | None) -> None:
    """Check the policies' parameters in `condition`, which is scaled if there are bounds."""
    if bounds:
        if len(bounds[0]) != condition.shape[1]:
            raise UnsoundError("attribute 'metadata': expected bounds of 'condition' of its length")
        condition = unscale(condition, *bounds)
    for name, values in DMPParams.from_vector(condition)._asdict().items():
        low, high = POLICIES[name].low, POLICIES[name].high
        for value in (values.min(), values.max()):
            if not low <= value <= high:
                expected = POLICIES[name].range or f"{low:g} to {high:g}"
                raise UnsoundError(f"expected {name} in 'condition' of {expected}, found {value:g}")


def _check_horizons(arrays: Mapping[str, Any], rows: slice, steps: int) -> None:
    horizon, step = arrays["horizon_s"][rows], arrays["step"][rows]
    gap = np.round(horizon / CONTROL_DT)
    if not (np.isclose(horizon, gap * CONTROL_DT, rtol=1e-9, atol=0) & (gap >= 1)).all():
        raise UnsoundError(f"expected 'horizon_s' in steps of {CONTROL_DT} s, found others")
    if not (step + gap <= steps).all():
        raise UnsoundError(f"expected 'step' and horizon to end by step {steps}, found others")
