"""What the ops on time share: dtypes, methods and edges by name, and streams in tables."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._core.array import Meta, dtype_name
from ._core.bits import NAN, element_bits
from ._core.check import NotDense, dtype_of, inner, one_of
from ._core.kernel import PROCESSORS, Kernel, Launch, Out, Value
from ._core.table import (
    CAPACITIES,
    FUSE,
    NARROW_LATENCIES,
    NARROW_LENGTHS,
    NARROW_OFFSETS,
    NARROW_TIMES,
    ONE_ROW,
    TOLERANT,
    Table,
)
from ._core.time import Clock, duration, later, rate, time_point, width

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DATA = (*FLOATS, *INTEGERS, "bool")  # in the order of the kernels' codes
SIZE = {d: 1 if d == "bool" else int(d.lstrip("bufloatin")) // 8 for d in DATA}  # bytes

SAMPLING = ("linear", "nearest", "previous", "next")
CURVES = ("catmull_rom", "pchip", "akima", "makima")
REDUCTIONS = ("mean", "sum", "max", "min", "any")
METHODS = {name: code for code, name in enumerate((*SAMPLING, *CURVES, *REDUCTIONS))}
ALIASES = {
    **dict.fromkeys(("zero", "zoh", "ffill", "pad", "backward", "latest"), "previous"),
    **dict.fromkeys(("bfill", "forward"), "next"),
    "cardinal": "catmull_rom",
}
ARITHMETIC = ("linear", *CURVES, "mean", "sum")  # makes numbers that are not in the data
NAN_BITS = {dtype: element_bits("NaN", NAN, dtype) for dtype in FLOATS}
EDGES = {"hold": 0, "constant": 1, "extrapolate": 2}


def method_name(method: Any) -> str:
    """The name of a method, by whichever of its names."""
    if method == "cubic":
        raise ValueError(
            "method 'cubic' is a spline over the whole series, which is not local: expected "
            f"one of {', '.join(METHODS)}"
        )
    name = ALIASES.get(method, method) if isinstance(method, str) else method
    one_of("method", name, tuple(METHODS))
    return str(name)


def result_dtype(
    data: str, methods: Iterable[str], dtype: Any, out: Meta | None, name: str = "data"
) -> str:
    if dtype is None:
        wanted = data if out is None else out.dtype
    else:
        wanted = dtype_name(dtype)
        if out is not None and out.dtype != wanted:
            raise TypeError(f"out has dtype {out.dtype}, expected {wanted} as dtype says")
    if wanted not in FLOATS and wanted != data:
        raise TypeError(f"dtype is {wanted}, expected that of {name} ({data}) or a float")
    implicit = dtype is None and out is None
    for method in methods:
        if method in ARITHMETIC and data not in FLOATS and (implicit or wanted == "bool"):
            raise TypeError(
                f"{name} has dtype {data}, which method {method!r} does not interpolate unasked: "
                "pass dtype= (a float, or an integer's own dtype to round), or method='nearest'"
            )
    return wanted


def wide(x: str, y: str) -> bool:
    """Whether what is computed between dtypes x and y is double, and not float."""
    double = ("float64", "int64", "uint64", "int32", "uint32")
    return x in double or y in double


def weight_dtype(x: str, y: str) -> str:
    """The dtype that is computed with between dtypes x and y."""
    return "float64" if wide(x, y) else "float32"


# --------------------------------------------------------------------------------------- constants


def both_ends(extrapolate: Any, name: str = "extrapolate") -> tuple[Any, Any]:
    if type(extrapolate) is not tuple:
        return extrapolate, extrapolate
    if len(extrapolate) != 2:
        raise ValueError(f"{name} has {len(extrapolate)} parts, expected (left, right)")
    return extrapolate


def edge(policy: Any, dtype: str, name: str = "extrapolate") -> tuple[int, Any]:
    """The code of one end's policy, and the bits of its constant."""
    if isinstance(policy, str) and policy in ("hold", "extrapolate"):
        return EDGES[policy], 0
    if policy == "nan":
        if dtype not in FLOATS:
            raise TypeError(f"{name} is 'nan', which {dtype} data cannot hold")
        policy = NAN
    if policy is None or isinstance(policy, str):
        one_of(name, policy, ("hold", "nan", "extrapolate", "a number"))
    return EDGES["constant"], value_bits(name, policy, dtype)


def value_bits(name: str, value: Any, dtype: str) -> Any:
    if value is None:
        return 0
    return later(value, functools.partial(element_bits, name, dtype=dtype), "q")


def name_numbers(error: TypeError, name: Callable[[int, int], str]) -> TypeError:
    """An error of an op on any number of arrays, with its numbers called by their names."""
    text = re.sub(
        r"\bnumbers\[(\d+)\](?:\[(\d+)\])?", lambda m: name(int(m[1]), int(m[2] or 0)), str(error)
    )
    return error if text == str(error) else TypeError(text)


# ------------------------------------------------------------------------------------------ shapes


class Shape(NamedTuple):
    """How many rows, and where the samples and stamps of each are, in elements."""

    batched: bool
    lead: int  # axes of data before the features
    rows: int
    src_rows: int  # those of the samples: one may serve all
    samples: int  # in a row; of all rows together where they are packed
    row: int
    step: int
    src_row: int
    src_step: int
    tgt_row: int
    tgt_step: int


def shape_of(
    data: Meta,
    src_times: Meta | None,
    tgt_times: Meta | None,
    lengths: Meta | None,
    offsets: Meta | None,
    tgt_lengths: Meta | None,
    latency: Any,
) -> Shape:
    for name, x in (("src_times", src_times), ("tgt_times", tgt_times)):
        if x is not None and len(x.shape) not in (1, 2):
            raise ValueError(f"{name} has shape {x.shape}, expected one or two axes")
    if not data.shape:
        raise ValueError("data has shape (), expected [B, S, *F] or [S, *F]")

    counts: dict[str, int] = {}  # rows, by the argument that says so
    of_targets: dict[str, int] = {}
    if tgt_times is not None and len(tgt_times.shape) == 2:
        of_targets["tgt_times"] = tgt_times.shape[0]
    if offsets is None and tgt_lengths is not None and len(tgt_lengths.shape) == 1:
        of_targets["tgt_lengths"] = tgt_lengths.shape[0]
    if offsets is not None:
        _packed(data, src_times, offsets)
        lead, samples = 1, data.shape[0]
        counts["offsets"] = offsets.shape[0] - 1
    else:
        for name, per_row in (("lengths", lengths), ("latency", latency)):
            if isinstance(per_row, Meta) and len(per_row.shape) == 1:
                counts[name] = per_row.shape[0]
        lead = 2 if has_batch_axis(data, src_times, bool(counts or of_targets)) else 1
        samples = data.shape[lead - 1]
        if lead == 2:
            counts["data"] = data.shape[0]
        if src_times is not None:
            if src_times.shape[-1] != samples:
                raise ValueError(
                    f"src_times has shape {src_times.shape}, expected {samples} stamps for data "
                    f"of shape {data.shape}"
                )
            if len(src_times.shape) == 2:
                counts["src_times"] = src_times.shape[0]
    src_rows = {count for count in counts.values() if count != 1}
    several = src_rows | {count for count in of_targets.values() if count != 1}
    counts |= of_targets
    if len(several) > 1:
        got = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise ValueError(f"the arguments differ in their number of rows: {got}")
    rows = several.pop() if several else 1

    row, step = steps(data, lead)
    src_row, src_step = steps(src_times, 0 if src_times is None else len(src_times.shape))
    tgt_row, tgt_step = steps(tgt_times, 0 if tgt_times is None else len(tgt_times.shape))
    return Shape(bool(counts), lead, rows, rows if src_rows else 1, samples, row, step, src_row,
                 src_step, tgt_row, tgt_step)  # fmt: skip


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of a dense array."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


def steps(x: Meta | None, axes: int) -> tuple[int, int]:
    """Elements from row to row, and from entry to entry, of an array with `axes` such axes."""
    if x is None:
        return 0, 0
    return (0 if axes == 1 or x.shape[0] == 1 else x.strides[0]), x.strides[axes - 1]


def _packed(data: Meta, src_times: Meta | None, offsets: Meta) -> None:
    if len(offsets.shape) != 1 or offsets.shape[0] < 1:
        raise ValueError(f"offsets has shape {offsets.shape}, expected (B + 1,)")
    if src_times is not None and src_times.shape != data.shape[:1]:
        raise ValueError(
            f"src_times has shape {src_times.shape}, expected {data.shape[:1]} for packed data "
            f"of shape {data.shape}"
        )


def has_batch_axis(data: Any, src_times: Any, several_rows: bool) -> bool:
    """Whether data is [B, S, *F] and not [S, *F]; without stamps any of three axes or more is."""
    axes = len(data.shape)
    if src_times is None or axes < 3:
        return axes > 2 or (axes == 2 and src_times is not None and len(src_times.shape) == 2)
    if len(src_times.shape) == 2:
        return True
    (stamps,) = src_times.shape
    first, second = data.shape[0] == stamps, data.shape[1] == stamps
    if first and second and not several_rows:
        raise ValueError(
            f"data has shape {data.shape}: either of its first two axes fits the {stamps} stamps. "
            f"Pass src_times as (1, {stamps}) for a batch, or data as (1, *data.shape) for one "
            "trajectory"
        )
    return bool(second)


def out_steps(out: Meta, expected: tuple[int, ...], lead: int) -> tuple[int, int]:
    if out.shape != expected:
        raise ValueError(f"out has shape {out.shape}, expected {expected}")
    try:
        inner(out, lead)
    except NotDense:
        raise ValueError(
            "out has feature axes that do not lie together in memory: pass a contiguous array"
        ) from None
    return (out.strides[0] if lead == 2 else 0), out.strides[lead - 1]


def check_rows(rows: int, **arrays: Any) -> None:
    for name, x in arrays.items():
        if not isinstance(x, Meta):
            continue
        expected = rows + (name == "offsets")
        if x.shape != (expected,):
            raise ValueError(f"{name} has shape {x.shape}, expected ({expected},)")
        dtype_of(name, x, ("float32", "float64") if name == "latency" else ("int32", "int64"))
        inner(x, 0)


def whole_number(name: str, x: Any) -> int:
    """An integer of 0 or more, of whatever type."""
    if not (isinstance(x, (int, float, np.number)) and x >= 0 and x == int(x)):
        raise ValueError(f"{name} is {x!r}, expected an integer of 0 or more")
    return int(x)


def check_numbers(**numbers: Any) -> None:
    for name, x in numbers.items():
        if type(x) is Meta:
            raise TypeError(f"{name} is an array of shape {x.shape}, expected a number")


# ----------------------------------------------------------------------------------------- columns

# Rotations by name: the code of the kernels, and how many columns one takes.
ROTATIONS = {"quat_xyzw": (1, 4), "quat_wxyz": (2, 4), "rotvec": (3, 3), "rot6d": (4, 6),
             "matrix": (5, 9), "angle": (6, 1)}  # fmt: skip
LONG_WAY, NLERP, CANONICAL = 1, 2, 4

# Poses by name: the columns in all, and the rotation and where it is. The rest is interpolated as
# any other column.
POSES = {
    **{f"pos_{name}": (3 + ROTATIONS[name][1], 3, name)
       for name in ("quat_xyzw", "quat_wxyz", "rotvec", "rot6d")},
    "mat44": (16, 0, "matrix"),
    "mat34": (12, 0, "matrix"),
}  # fmt: skip


class Rotation(NamedTuple):
    """A rotation among the columns of a stream, with what is out of the ordinary."""

    kind: str
    shortest_path: bool = True
    normalized_lerp: bool = False
    canonical: bool = False

    @property
    def flags(self) -> int:
        return (
            LONG_WAY * (not self.shortest_path)
            + NLERP * self.normalized_lerp
            + CANONICAL * self.canonical
        )


class Columns(NamedTuple):
    """Columns of a sample that are made in one way: `width` of them in each of `groups`, which are
    `stride` apart."""

    method: str
    column: int
    width: int
    groups: int
    stride: int
    rotation: int = 0  # code
    rotation_row: int = 3  # elements from one row of a matrix to the next
    flags: int = 0

    def every(self) -> set[int]:
        """The columns of a group."""
        if self.rotation == ROTATIONS["matrix"][0]:
            return {self.column + i * self.rotation_row + k for i in range(3) for k in range(3)}
        return set(range(self.column, self.column + self.width))


def columns_of(
    name: str, features: tuple[int, ...], method: Any, rotation: Any, default: str
) -> list[Columns]:
    """The columns of a stream with features of this shape, by the way they are made."""
    total = math.prod(features)
    last = features[-1] if features else 1
    rotation = rotation or None
    if isinstance(rotation, (Rotation, str)):
        return _whole_rotation(name, features, total, method, rotation, default)
    turns = _pairs(name, "rotation", rotation, "a name, or names by columns")
    stride = total if total == last else last
    groups = 1 if total == last else (total // last if last else 0)
    methods = _method_of_columns(name, last, method, default)
    if last == 0 or (rotation is None and len(set(methods)) <= 1):
        only = methods[0] if methods else _one_method(method, default)
        return [Columns(only, 0, total, 1, total)]

    parts: list[Columns] = []
    free = [True] * last
    for where, kind in turns:
        lo, hi = _bounds(name, where, last)
        turned = kind if isinstance(kind, Rotation) else Rotation(kind)
        one_of(f"rotation of {name}", turned.kind, tuple(ROTATIONS))
        code, size = ROTATIONS[turned.kind]
        if hi == lo or (hi - lo) % size:
            raise ValueError(
                f"{name}: rotation {turned.kind!r} takes {size} columns or a multiple, "
                f"{where} of {last} are {hi - lo}"
            )
        for start in range(lo, hi, size):
            if not all(free[start : start + size]):
                raise ValueError(f"{name}: rotation gives column {start} twice")
            free[start : start + size] = [False] * size
        ways = set(methods[lo:hi])
        if len(ways) > 1:
            raise ValueError(f"{name}: method differs within the rotation in columns {where}")
        (way,) = ways
        _rotates(name, way)
        count = (hi - lo) // size
        if groups == 1:
            parts.append(Columns(way, lo, size, count, size, code, 3, turned.flags))
        else:
            parts += [Columns(way, lo + i * size, size, groups, stride, code, 3, turned.flags)
                      for i in range(count)]  # fmt: skip
    start = 0
    while start < last:
        if not free[start]:
            start += 1
            continue
        end = start
        while end < last and free[end] and methods[end] == methods[start]:
            end += 1
        parts.append(Columns(methods[start], start, end - start, groups, stride))
        start = end
    return parts if len(parts) <= MOST_PARTS else _merged(parts)


MOST_PARTS = CAPACITIES[-1].parts  # kinds of columns that a launch takes


def _merged(parts: Sequence[Columns]) -> list[Columns]:
    """Parts that are made alike and lie at equal distances, as groups of one part.

    >>> ways = ["linear", "next", "linear", "next", "linear"]
    >>> parts = _merged([Columns(way, i, 1, 1, 5) for i, way in enumerate(ways)])
    >>> [(part.method, part.column, part.groups, part.stride) for part in parts]
    [('linear', 0, 3, 2), ('next', 1, 2, 2)]
    """
    alike: dict[Columns, list[Columns]] = {}
    for part in parts:
        alike.setdefault(part._replace(column=0), []).append(part)
    merged = []
    for members in alike.values():
        run = members[0]
        for part in members[1:]:
            step = part.column - run.column - (run.groups - 1) * run.stride
            if part.groups == 1 and (run.groups == 1 or step == run.stride):
                run = run._replace(groups=run.groups + 1, stride=step)
            else:
                merged.append(run)
                run = part
        merged.append(run)
    return merged


def check_columns(
    name: str,
    columns: Sequence[Columns],
    data: str,
    targets: int | None,
    given: str = "tgt_times",
) -> None:
    """Raise where columns cannot be made of this dtype, or for so many targets (None: a grid)."""
    for c in columns:
        if c.rotation and data not in FLOATS:
            raise TypeError(f"{name} has dtype {data}, expected a float for rotations")
        if c.method in REDUCTIONS and targets == 1:
            raise ValueError(
                f"method {c.method!r} takes the samples between targets, but {given} has one "
                "target: expected two or more" + ", or hz=" * (given == "tgt_times")
            )


def too_many_columns(name: str, columns: Sequence[Columns]) -> ValueError:
    return ValueError(
        f"{name} has {len(columns)} groups of neighbouring columns that are made in different "
        f"ways, more than the {MOST_PARTS} that a launch takes: order its columns by method and "
        "rotation, or give them in several streams or calls"
    )


def _rotates(name: str, method: str) -> None:
    if method in REDUCTIONS:
        raise ValueError(
            f"{name}: method {method!r} does not apply to rotations: give their columns another "
            "one, as in method=[('0:3', 'mean'), ('3:7', 'linear')]"
        )


def _one_method(method: Any, default: str) -> str:
    return default if method is None or not isinstance(method, str) else method_name(method)


def _whole_rotation(
    name: str, features: tuple[int, ...], total: int, method: Any, rotation: Any, default: str
) -> list[Columns]:
    """Features that are one rotation or pose after another."""
    turned = rotation if isinstance(rotation, Rotation) else Rotation(rotation)
    one_of(f"rotation of {name}", turned.kind, (*ROTATIONS, *POSES))
    if not (method is None or isinstance(method, str)):
        raise ValueError(f"{name}: method is {method!r}, expected one for the whole {turned.kind}")
    way = "linear" if method is None else method_name(method)
    _rotates(name, way)
    if turned.kind in ROTATIONS:
        code, size = ROTATIONS[turned.kind]
        if size > 1:  # any number of angles
            _fits(name, features, turned.kind, size)
        return [Columns(way, 0, size, total // size, size, code, 3, turned.flags)]
    size, at, kind = POSES[turned.kind]
    _fits(name, features, turned.kind, size)
    code, columns = ROTATIONS[kind]
    count, row = total // size, 4 if kind == "matrix" else 3
    part = Columns(way, at, columns, count, size, code, row, turned.flags)
    rest = sorted(set(range(size)) - part.every())
    runs: list[list[int]] = []
    for column in rest:
        if runs and runs[-1][-1] == column - 1:
            runs[-1].append(column)
        else:
            runs.append([column])
    return [part, *[Columns(way, run[0], len(run), count, size) for run in runs]]


def _fits(name: str, features: tuple[int, ...], kind: str, size: int) -> None:
    shapes = {9: (3, 3), 12: (3, 4), 16: (4, 4)}
    if features[-1:] != (size,) and features[-2:] != shapes.get(size, (size,)):
        also = f" or {shapes[size]}" if size in shapes else ""
        raise ValueError(
            f"{name} has features of shape {features}, expected them to end in ({size},){also} "
            f"for rotation {kind!r}"
        )


def _pairs(name: str, option: str, given: Any, expected: str) -> list[tuple[Any, Any]]:
    """What an option says by columns."""
    if given is None:
        return []
    try:
        pairs = given.items() if isinstance(given, dict) else given
        return [(where, way) for where, way in pairs]
    except (TypeError, ValueError):
        raise TypeError(f"{name}: {option} is {given!r}, expected {expected}") from None


def _bounds(name: str, where: Any, last: int) -> tuple[int, int]:
    """Columns given as 7, "3:7" or slice(3, 7)."""
    try:
        if isinstance(where, str):
            parts = [int(x) if x else None for x in where.split(":")]
            where = parts[0] if len(parts) == 1 else slice(*parts)
        if isinstance(where, slice):
            lo, hi, step = where.indices(last)
    except (ValueError, TypeError):
        raise ValueError(f"{name}: {where!r} are no columns, expected '3:7' or 7") from None
    if isinstance(where, slice):
        if step != 1:
            raise ValueError(f"{name}: columns {where} have a step, expected neighbours")
        given = ":".join("" if x is None else str(x) for x in (where.start, where.stop))
        if any(x is not None and not -last <= x <= last for x in (where.start, where.stop)):
            raise ValueError(f"{name}: columns {given} reach beyond the {last} that there are")
        if hi < lo:
            raise ValueError(f"{name}: columns {given} of {last} end before they begin")
        return lo, hi
    if not isinstance(where, (int, np.integer)) or not -last <= where < last:
        raise ValueError(f"{name}: {where!r} is no column, expected one of {last}, or '3:7'")
    column = int(where) % last
    return column, column + 1


def _method_of_columns(name: str, last: int, method: Any, default: str) -> list[str]:
    if method is None or isinstance(method, str):
        return [_one_method(method, default)] * last
    methods = [default] * last
    for where, way in _pairs(name, "method", method, "a name or pairs of columns and name"):
        lo, hi = _bounds(name, where, last)
        methods[lo:hi] = [method_name(way)] * (hi - lo)
    return methods


# ------------------------------------------------------------------------------------------ tables


class Source(NamedTuple):
    """One stream of a call: its samples in time, and how it is made."""

    name: str
    data: Meta | None
    times: Meta | None
    lengths: Meta | None
    offsets: Meta | None
    latency: Any
    tolerance: Any
    max_gap: Any
    extrapolate: Any
    fill_value: Any
    src_hz: Any
    src_start: Any
    shape: Shape
    columns: list[Columns]
    normalize: Any  # Normalization
    dtype: str  # of the result
    order: Any = None
    one_row: bool = False  # among several


class Place(NamedTuple):
    """Where the results of a stream go, in elements."""

    out: Any
    step: int
    column: int
    aligned: int  # bytes that the address of `out` is a multiple of
    row: int = 0  # of an array that is not dense, else 0


def add_stream(
    table: Table, source: Source, place: Place, valid: Any, clock: Clock, targets: int, deltas: Any
) -> None:
    """Add the rows of a stream to a table."""
    x, shape, late = source, source.shape, source.latency
    if not -(2**31) <= shape.src_step < 2**31:
        assert x.times is not None
        raise NotDense(x.times)
    per_row = late if isinstance(late, Meta) else None
    flags = TOLERANT if x.tolerance is not None else 0
    flags |= ONE_ROW * x.one_row
    for bit, array in ((NARROW_TIMES, x.times), (NARROW_LENGTHS, x.lengths),
                       (NARROW_OFFSETS, x.offsets), (NARROW_LATENCIES, per_row)):  # fmt: skip
        flags |= bit * (array is not None and width(array.dtype) == 4)
    if x.times is None and clock.width == 4:
        flags |= NARROW_TIMES

    def of(option: str) -> str:
        return option if x.name == "data" else f"{option} of {x.name}"

    uniform = 0
    if x.src_hz is not None:
        start = time_point(of("src_start"), 0 if x.src_start is None else x.src_start, clock)
        uniform = table.constant(as_bits(start), as_bits(rate(of("src_hz"), x.src_hz)))
    values = {
        "latency": duration(
            of("latency"), 0.0 if per_row is not None else late, clock, signed=True
        ),
        "tolerance": duration(of("tolerance"), 0.0 if x.tolerance is None else x.tolerance, clock),
        "max_gap": duration(of("max_gap"), x.max_gap, clock),
        "samples": shape.samples,
        "src_row_or_episodes": shape.src_row,
        "src_step": shape.src_step,
        "targets": targets,
        "parts": len(x.columns),
        "uniform": uniform,
        "valid": table.at(valid),
        "deltas": table.at(deltas),
        "order": table.at(x.order),
        "times": table.at(x.times),
        "lengths": table.at(x.lengths),
        "offsets": table.at(x.offsets),
        "latencies": table.at(per_row),
        "flags": flags,
    }
    left, right = both_ends(x.extrapolate, of("extrapolate"))
    left_code, left_bits = edge(left, x.dtype, of("extrapolate"))
    right_code, right_bits = edge(right, x.dtype, of("extrapolate"))
    edges = {
        "left": left_code,
        "right": right_code,
        "left_value": table.constant(left_bits),
        "right_value": table.constant(right_bits),
        "fill": int(x.fill_value is not None),
        "fill_value": table.constant(value_bits(of("fill_value"), x.fill_value, x.dtype)),
    }
    table.streams.append(values)
    for columns in x.columns:
        table.parts.append(_part(table, source, columns, place, edges))


def as_bits(value: Any) -> Any:
    """A double in an int64."""

    def bits(x: Any) -> Any:
        return element_bits("number", x, "float64") if isinstance(x, float) else x

    if type(value) is not Value:
        return bits(value)
    convert = value.convert
    return value._replace(convert=lambda x: bits(convert(x) if convert else x), format="q")


def _part(
    table: Table, source: Source, columns: Columns, place: Place, edges: dict[str, Any]
) -> dict[str, Any]:
    data, y = source.data, source.dtype
    x = y if data is None else data.dtype
    affine, size = None, 0
    if source.normalize is not None and data is not None:
        if y not in FLOATS:
            raise TypeError(f"{source.name} has dtype {x}, which normalize makes floats of: pass "
                            "dtype=")  # fmt: skip
        affine, size = _affine(source, columns, wide(x, y))
    for name, n in (("width", columns.width), ("groups", columns.groups), ("step", place.step),
                    ("column", place.column)):  # fmt: skip
        if n >= 2**31:
            raise ValueError(f"{source.name}: a sample of {n} elements ({name}) is too large")
    return {
        "data": table.at(data),
        "data_row": source.shape.row,
        "data_step": source.shape.step,
        "out": table.at(place.out),
        "out_step": place.step,
        "out_column": place.column,
        "width": columns.width,
        "groups": columns.groups,
        "stride": columns.stride,
        "column": columns.column,
        "x": DATA.index(x),
        "y": DATA.index(y),
        "method": METHODS[columns.method],
        "rotation": columns.rotation,
        "rotation_row": columns.rotation_row,
        "flags": columns.flags,
        "affine": table.at(affine),
        "affine_size": size,
        "vector": _vector(source, columns, place, x, y, affine is not None),
        **edges,
    }


def as_normalization(given: Any) -> Any:
    """A Normalization, also of (stats, mode)."""
    if given is None or hasattr(given, "shift"):
        return given
    from .normalize import normalization

    pair = isinstance(given, tuple) and len(given) == 2 and isinstance(given[1], str)
    if pair and hasattr(given[0], "shift"):
        raise TypeError(f"normalize is {given!r}, but a Normalization has its mode: pass it alone")
    try:
        stats = dict(given[0] if pair else given)
    except (TypeError, ValueError):
        stats = None
    if stats is None or not pair:
        got = repr(given) if stats is None else "statistics without a mode"
        raise TypeError(f"normalize is {got}, expected a Normalization or (stats, mode)")
    return normalization(stats, given[1])


def _affine(source: Source, columns: Columns, double: bool) -> tuple[Any, int]:
    """The statistics of a part; none for rotations, which a normalisation would spoil."""
    normalization, data = source.normalize, source.data
    assert data is not None
    if columns.rotation and normalization.mask is None:
        return None, 0
    features = data.shape[source.shape.lead :] or (1,)
    over = normalization.over(features)
    if over is None:
        raise ValueError(
            f"{source.name}: normalize has statistics of shape {normalization.shift.shape}, "
            f"expected ({features[-1]},), or axes that broadcast to the last ones of a sample of "
            f"shape {features}. With statistics for each step, normalize the result"
        )
    return normalization.table(double, over), math.prod(over)


def _pack(columns: Columns, x: str, y: str, level: bool, affine: bool) -> int:
    """The elements that the kernels move at once between these dtypes; see part.cuh."""
    if columns.rotation:
        return 4 if x == y == "float32" and columns.width == 4 else 0
    if columns.method in ("nearest", "previous", "next") and x == y and not affine:
        return 16 // SIZE[x]
    if x == y and x in FLOATS:
        return min(16 // SIZE[x], 4 if level else 8)
    return 4 if x == "uint8" and y in ("bfloat16", "float32") else 0


def _vector(source: Source, columns: Columns, place: Place, x: str, y: str, affine: bool) -> int:
    """2 where the columns can be moved in whole packs, 1 in half ones, else 0."""
    n = _pack(columns, x, y, class_of([source]) != SAMPLED, affine)
    data, shape = source.data, source.shape
    if n == 0 or data is None:
        return 0
    steps = [columns.column, shape.step, place.step, place.column, place.row]
    if not columns.rotation:
        steps.append(columns.width)
    if columns.groups > 1:
        steps.append(columns.stride)
    if shape.rows > 1:
        steps.append(shape.row)
    for of, size in ((2, n), (1, n // 2)):
        if (
            size > 1
            and not any(step % size for step in steps)
            and data.misaligned % (size * SIZE[x]) == 0
            and place.aligned % (size * SIZE[y]) == 0
        ):
            return of
    return 0


# What the parts of a launch take, in the codes of part.cuh.
SAMPLED, CURVED, TURNING, REDUCING, SCALED, EVERYTHING = range(6)


def class_of(sources: Sequence[Source]) -> int:
    """The class of kernels that has code for all of these."""
    columns = [c for source in sources for c in source.columns]
    kinds = set()
    if any(c.method in CURVES for c in columns):
        kinds.add(CURVED)
    if any(x.normalize is not None for x in sources):
        kinds.add(SCALED)
    if any(c.rotation for c in columns):
        kinds.add(TURNING)
    if any(c.method in REDUCTIONS for c in columns):
        kinds.add(REDUCING)
    return EVERYTHING if len(kinds) > 1 else kinds.pop() if kinds else SAMPLED


def specialisation(
    sources: Sequence[Source], table: Table, plain: int, defaults: Sequence[Any]
) -> tuple[int, str, int, int, int]:
    """The template arguments for these streams: size, level, class, code of the dtype, plain.

    `defaults` are those, from the level on, with plain > 1 that there are kernels for. Numba knows
    the level only.
    """
    kind, size = class_of(sources), table.size()
    pairs = {(x.dtype if x.data is None else x.data.dtype, x.dtype) for x in sources if x.columns}
    x, y = pairs.pop() if len(pairs) == 1 else ("", " ")
    code = DATA.index(x) if x == y and x in FLOATS and size == 0 and kind != EVERYTHING else -1
    if code < 0 and kind != SAMPLED:
        kind = EVERYTHING
    level = level_of(kind, code)
    if (level, kind, code, plain) not in defaults:
        plain = min(plain, int(code >= 0))
    return size, level, kind, code, plain


def level_of(kind: int, code: int) -> str:
    """What the reference is compiled for: 1 for everything in the place of sampling, and 2 for
    columns in single precision, 4 for those in double, in the place of both. With one precision a
    first call of windows compiles for 13 s where it took 26, and one of pchip for 35 of 60."""
    precision = 0 if code < 0 else 4 if FLOATS[code] == "float64" else 2
    return str(int(kind != SAMPLED) + precision)


def is_plain(x: Source) -> bool:
    """Whether a stream has stamps in order, and as many and as late ones in every row."""
    return (
        x.times is not None
        and x.order is None
        and x.lengths is None
        and x.offsets is None
        and not isinstance(x.latency, Meta)
    )


def is_default(x: Source) -> bool:
    """Whether a plain stream leaves everything at its default."""
    return (
        all(c.method == "linear" for c in x.columns)
        and type(x.latency) is float
        and x.tolerance is None
        and x.max_gap is None
        and both_ends(x.extrapolate) == ("hold", "hold")
        and x.fill_value is None
        and x.shape.src_step == 1
        and 0 < x.shape.samples < 2**30
    )


# Kernels for streams that leave all at their default: level, class, code, bytes of a stamp.
DEFAULTS = [
    (level_of(kind, code), kind, code, stamp)
    for kind, codes in (
        (SAMPLED, range(len(FLOATS))),
        (TURNING, map(FLOATS.index, ("float32", "float64"))),
    )
    for code in codes
    for stamp in (4, 8)
]
SPECIALISATIONS = [
    (0, level_of(kind, code), kind, code, plain)
    for kind in (SAMPLED, CURVED, TURNING, REDUCING, SCALED)
    for code in range(len(FLOATS))
    for plain in (0, 1)
] + [(size, level_of(kind, -1), kind, -1, 0) for size in (0, 1) for kind in (SAMPLED, EVERYTHING)]


def types(clocks: Sequence[str] = ("int64", "float64")) -> list[tuple[Any, ...]]:
    return [(wide, *rest) for wide in clocks for rest in SPECIALISATIONS]


def blocks_at_once(kind: int, code: int, plain: int) -> int:
    """Blocks of a kernel on a processor: `blocks_at_once` of part.cuh."""
    double = code == FLOATS.index("float64")
    if kind == EVERYTHING:
        return 1
    if code < 0:
        return 2
    if kind == SAMPLED:
        return 4 if plain else 2 if double else 3
    if double or not plain:
        return 2
    return 3 if kind in (CURVED, SCALED) else 4


def share_blocks(
    table: Table, sources: Sequence[Source], items: Sequence[int], at_once: int, most: int = 256
) -> int:
    """Give the streams blocks in proportion to the bytes they move; returns how many in all.

    A block takes at most so many targets.
    """
    wave = PROCESSORS * at_once
    costs = [count * _cost(source) for source, count in zip(sources, items, strict=True)]
    total, first = sum(costs) or 1, 0
    for values, source, cost, count in zip(table.streams, sources, costs, items, strict=True):
        blocks = max(1, round(wave * cost / total))
        eights = min(-(-count // (8 * blocks)), min(_most_targets(source), most) // 8)
        values["tiles_of_8"], values["first_block"] = max(1, eights), first
        first += -(-count // (8 * max(1, eights)))
    return first


def _most_targets(source: Source) -> int:
    """Targets for a block: rows of 2 kB keep the memory busier in small tiles, small rows need many
    for all threads to have some."""
    row = sum(c.width * c.groups for c in source.columns) * SIZE[source.dtype]
    return 64 if row >= 2048 else 128 if row >= 512 else 256


def _cost(source: Source) -> float:
    """Bytes a target moves, with its search as so many."""
    reads = 1 if all(c.method in ("nearest", "previous", "next") for c in source.columns) else 2
    columns = sum(c.width * c.groups for c in source.columns)
    x = SIZE[source.data.dtype] if source.data is not None else 0
    return 64.0 * len(source.columns) + columns * (reads * x + SIZE[source.dtype])


# ------------------------------------------------------------------------------------- the kernels

_fuse = Kernel(
    "fuse",
    "fuse",
    [*types(), *[(wide, 0, *rest) for wide in ("int64", "float64") for rest in DEFAULTS]],
    lambda t: FUSE.format(t[0], t[1]),
)
_overlap = Kernel(
    "fuse",
    "overlap",
    [(wide, size) for wide in ("int64", "float64") for size in (0, 1)],
    lambda t: FUSE.format(t[0], t[1]),
)


class Targets(NamedTuple):
    """The times of a call's targets, in elements, or the grid they are on."""

    times: Meta | None
    row: int
    step: int
    lengths: Meta | None
    hz: Any
    t_start: Any
    starts: Out | None = None  # of each row's grid

    def header(self, table: Table, clock: Clock) -> dict[str, Any]:
        stamps = clock.width if self.times is None else width(self.times.dtype)
        return {
            "tgt_times": table.at(self.times),
            "tgt_row": self.row,
            "tgt_step": self.step,
            "tgt_lengths": table.at(self.lengths),
            "narrow_targets": int(stamps == 4),
            "narrow_tgt_lengths": int(self.lengths is not None and width(self.lengths.dtype) == 4),
            "starts": table.at(self.starts),
            "t_start": time_point("t_start", 0 if self.t_start is None else self.t_start, clock),
            "hz": rate("hz", self.hz),
            "ticks": float(clock.ticks),
        }


class Results(NamedTuple):
    """What a call makes of its targets besides values."""

    valid: Sequence[Out | None]  # of each stream
    valid_step: int = 0  # of an array that the streams share
    times: Out | None = None
    samples: Out | None = None  # the index
    weight: Out | None = None


def fuse_launches(
    sources: Sequence[Source],
    places: Sequence[Place],
    targets: Targets,
    results: Results,
    clock: Clock,
    rows: int,
    count: int,
) -> list[Launch]:
    """One launch for as many streams as a table holds."""
    if count >= 2**31:
        raise ValueError(f"{count} targets in a row are too many: 2^31 - 1 is the limit")
    items = rows * count
    launches = []
    first = 0
    while first < len(sources):
        table, end = Table(FUSE), first
        header: dict[str, Any] = {}
        for end in range(len(sources), first, -1):
            table = Table(FUSE)
            for k in range(first, end):
                add_stream(table, sources[k], places[k], results.valid[k], clock, count, None)
            header = targets.header(table, clock) | {
                "items": items,
                "out_row": places[first].row,
                "streams": end - first,
                "first_stream": first,
                "valid_step": results.valid_step,
                "times": table.at(results.times if first == 0 else None),
                "index": table.at(results.samples),
                "weight": table.at(results.weight),
            }
            if table.fits():
                break
        else:
            raise too_many_columns(sources[first].name, sources[first].columns)
        part = sources[first:end]
        dense = not (places[first].row or results.times or results.samples)
        plain = _plain(part, targets, results.valid[first:end], items) if dense else 0
        template = specialisation(part, table, plain, DEFAULTS)
        # Rotations wait for one another less in small blocks: 102 us where they took 114.
        threads = 128 if template[2] == TURNING else 256
        at_once = blocks_at_once(*template[2:]) * (256 // threads)
        header["blocks"] = share_blocks(table, part, [items] * len(part), at_once)
        columns = sum(c.width * c.groups for x in part for c in x.columns)
        launches.append(
            Launch(
                _fuse,
                (clock.wide, *template),
                table.arrays(),
                table.numbers(header),
                items=items * len(part),
                weight=max(1, columns // len(part)),
                blocks=max(1, min(header["blocks"], 2**30)),
                threads=threads,
            )
        )
        first = end
    return launches


def _plain(sources: Sequence[Source], targets: Targets, valid: Sequence[Any], items: int) -> int:
    """PLAIN of part.cuh."""
    if targets.times is None or targets.lengths is not None or not all(map(is_plain, sources)):
        return 0
    widths = {width(x.times.dtype) for x in sources if x.times is not None}
    widths.add(width(targets.times.dtype))
    default = targets.step == 1 and all(map(is_default, sources)) and not any(valid)
    return widths.pop() if default and len(widths) == 1 and items < 2**31 else 1


def overlap_launches(
    sources: Sequence[Source],
    targets: Targets,
    clock: Clock,
    rows: int,
    *,
    hull: bool,
    ends: Out | None,
    found: Out | None,
) -> list[Launch]:
    """Where the grids of all streams begin, and how long they are; `ends` is scratch."""
    launches = []
    most = CAPACITIES[-1].streams // 2  # of which each may bring five addresses
    for first in range(0, len(sources), most):
        part = sources[first : first + most]
        table = Table(FUSE)
        for x in part:
            add_stream(table, x._replace(columns=[]), Place(None, 0, 0, 16), None, clock, 0, None)
        last = first + most >= len(sources)
        header = targets.header(table, clock) | {
            "items": rows,
            "streams": len(part),
            "hull": int(hull),
            "given_start": int(targets.t_start is not None),
            "ends": table.at(ends),
            "chained": int(first > 0),
            "found": table.at(found if last else None),
        }
        launches.append(
            Launch(
                _overlap,
                (clock.wide, table.size()),
                table.arrays(),
                table.numbers(header),
                items=max(rows, 1),
                weight=0,
                blocks=1,
                threads=1024,
            )
        )
    return launches
