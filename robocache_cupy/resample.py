"""Trajectories on another clock."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np

from ._core.array import Array, HostArray, Meta, Scalar, dtype_name
from ._core.bits import NAN, element_bits
from ._core.check import NotDense, dtype_of, inner, one_of
from ._core.kernel import Kernel, Launch, Out
from ._core.plan import Plan, Read, op
from ._core.time import clock_of, duration, later, rate, time_point, width

__all__ = ["resample_trajectories"]

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DATA = (*FLOATS, *INTEGERS, "bool")

METHODS = {"linear": 0, "nearest": 1, "previous": 2, "next": 3}  # the codes of the kernel
ALIASES = {
    **dict.fromkeys(("zero", "zoh", "ffill", "pad", "backward", "latest"), "previous"),
    **dict.fromkeys(("bfill", "forward"), "next"),
}
_NAN_BITS = {dtype: element_bits("NaN", NAN, dtype) for dtype in FLOATS}
EDGES = {"hold": 0, "constant": 1, "extrapolate": 2}  # likewise

_SIZE = {d: 1 if d == "bool" else int(d.lstrip("bufloatin")) // 8 for d in DATA}  # bytes
_THREADS = 256
_WAVE = 132 * 8  # blocks that an H200 runs at once


def _vector(x: str, y: str) -> int:
    """The elements of one access: 16 bytes, but not so many that their registers spill."""
    return min(8, 16 // max(_SIZE[x], _SIZE[y]))


_PAIRS = [(x, y) for x in DATA for y in DATA if x == y or y in FLOATS]
_resample = Kernel(
    "resample",
    "resample",
    [
        (x, y, w, v, plain)
        for x, y in _PAIRS
        for w in ("int64", "float64")
        for v in {1, _vector(x, y)}
        for plain in (0, 1)
    ],
)
_argsort = Kernel("resample", "argsort", [("int64",), ("float64",)])
_survey = Kernel("resample", "survey", [("int64",), ("float64",)])


@op
def resample_trajectories(
    data: Array,
    src_times: Array | None = None,
    tgt_times: Array | None = None,
    *,
    method: str = "linear",
    extrapolate: Scalar = "hold",
    tolerance: Scalar | None = None,
    max_gap: Scalar | None = None,
    fill_value: Scalar | None = None,
    latency: Scalar = 0.0,
    lengths: HostArray | None = None,
    offsets: HostArray | None = None,
    tgt_lengths: HostArray | None = None,
    src_hz: Scalar | None = None,
    src_start: Scalar | None = None,
    hz: Scalar | None = None,
    t_start: Scalar | None = None,
    num: int | None = None,
    time_unit: str | None = None,
    dtype: Any = None,
    out: Array | None = None,
    return_valid: bool = False,
    return_index: bool = False,
    return_times: bool = False,
    assume_sorted: bool = True,
    check: bool = False,
    backend: str = "auto",
) -> Any:
    """Resample trajectories onto another clock.

    Parameters
    ----------
    data : array
        Samples: ``[B, S, *F]`` for a batch of B trajectories, ``[S, *F]`` for one, ``[N, *F]``
        for trajectories packed one after another (see `offsets`). float16, bfloat16, float32,
        float64, any integer, bool.
    src_times : array, optional
        Stamps of the samples, ascending: ``[B, S]``, or ``[S]`` for a clock that all share, or
        ``[N]`` with `offsets`. float32, float64, int32, int64 or datetime64. NaN or NaT at the end
        of a row is padding. Data of three or more axes with a shared clock ``[S]`` is a batch if
        its second axis has the length S. An exact hit on a duplicated
        stamp takes its last sample (``next``: its first).
    tgt_times : array, optional
        Times to resample at, in any order: ``[B, T]`` or ``[T]``, of the same kind of clock.
    method : {"linear", "nearest", "previous", "next"}
        ``nearest`` takes the earlier of two equally near samples. ``previous`` (also zero, zoh,
        ffill, pad, backward, latest) never looks ahead: use it for what runs on a robot. ``next``
        is also called bfill or forward. Integers and bool are interpolated only to the dtype that
        `dtype` names.
    extrapolate : {"hold", "nan", "extrapolate"}, number, or (left, right), default "hold"
        What stands beyond the ends of a trajectory: the end sample, NaN, the line through the last
        two samples (``linear``; other methods hold), or a constant; one for both ends or one for
        each. NaN and constants stand only where the result is not valid.
    tolerance : seconds, optional
        How far outside the range (``linear``), or from the chosen sample (the other methods),
        still counts as valid, inclusive. By default nothing outside the range does, and inside
        it any distance. ``previous`` after the last sample and ``next`` before the first are no
        extrapolation: they are valid at any distance unless this or `max_gap` limits it.
    max_gap : seconds, optional
        Targets between two samples further apart than this are not valid.
    fill_value : number, optional
        Written wherever the result is not valid. By default the held or interpolated value stays.
    latency : seconds, or array [B]
        How late the stamps are: a sample counts at ``src_times - latency``.
    lengths : integers [B], optional
        The number of samples in each row of a padded batch.
    offsets : integers [B + 1], optional
        Row b of packed data is ``data[offsets[b]:offsets[b + 1]]``.
    tgt_lengths : integers [B], optional
        Targets from there on are filled with `fill_value` or 0, and not valid.
    src_hz, src_start : per second; time
        In place of `src_times`: sample k is at ``src_start + k / src_hz``. Nothing is searched.
    hz, t_start, num : per second; time; int
        In place of `tgt_times`: target k is at ``t_start + k / hz``, rounded once to a tick, for
        k < num. By default a row starts at its own first sample, and `num` reaches the last sample
        of the longest row; finding that out reads one number back, which ``jax.jit`` and CUDA
        graphs cannot.
    time_unit : {"ns", "us", "ms", "s"}, optional
        The unit of the stamps. Float clocks are seconds and integer clocks ns by default;
        datetime64 brings its own. Durations are seconds all the same.
    dtype : optional
        dtype of the result; that of `data` by default. Rounded once, from float64 where float64 or
        integers of 32 or 64 bits are involved, else from float32. To integers (those of `data`):
        half to even, saturating.
    out : array, optional
        Write the result here. Its feature axes must be contiguous.
    return_valid : bool
        Also return which targets are real data and not held, bridged or padding.
    return_index : bool
        Also return ``index`` and ``weight``: the value is that of the sample ``index`` of the row,
        or ``weight`` of the way from it to the next. index is -1 where no sample is involved.
    return_times : bool
        Also return the targets' times: the grid that `hz` makes.
    assume_sorted : bool
        Pass False to have unsorted stamps sorted first (stably).
    check : bool
        Read the stamps first and raise where one runs backward or is NaN before the end. Costs a
        synchronisation. Unsorted stamps otherwise give unspecified samples of the row.
    backend : {"auto", "cuda", "numba"}
        auto runs where the arrays lie. Any other choice copies them there and the result back.

    Returns
    -------
    array or named tuple
        The values ``[B, T, *F]`` (``[T, *F]`` for one trajectory), or with any of the `return_`
        options a named tuple of ``values``, ``valid`` (bool ``[B, T]``), ``index`` (int32),
        ``weight`` (float32 or float64) and ``times``, those asked for.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Notes
    -----
    Follows `numpy.interp`: the bracket of t is the last sample not after t and the one behind it,
    the weight ``(t - t0) / (t1 - t0)`` with differences taken in the clock's own type (exact for
    int64 ns), and the ends are held. An exact hit returns the sample's bits whatever its
    neighbours are, and a target that is NaN gives NaN (0 for integers).

    Examples
    --------
    A 100 Hz joint at the times of a camera; the last frame came after the recording stopped:

    >>> import numpy as np
    >>> import robocache_cupy as rc
    >>> joint, stamps = np.array([[0.0], [1.0], [2.0]]), np.array([0.00, 0.01, 0.02])
    >>> frames = np.array([0.005, 0.010, 0.025])
    >>> values, valid = rc.resample_trajectories(joint, stamps, frames, return_valid=True)
    >>> values.ravel(), valid
    (array([0.5, 1. , 2. ]), array([ True,  True, False]))
    """
    name = ALIASES.get(method, method)
    if name == "cubic":
        raise ValueError("method 'cubic' is a spline over the whole series, which is not local: "
                         f"expected one of {', '.join(METHODS)}")  # fmt: skip
    if name not in METHODS:
        one_of("method", method, tuple(METHODS))
    dtype_of("data", data, DATA)
    y_dtype = _result_dtype(data.dtype, name, dtype, out)
    clock = clock_of(time_unit, src_times=src_times, tgt_times=tgt_times)
    if (src_times is None) == (src_hz is None):
        raise ValueError("give the samples' clock as either src_times or src_hz")
    if (tgt_times is None) == (hz is None):
        raise ValueError("give the targets' clock as either tgt_times or hz")
    if tgt_times is not None and not (num is None and t_start is None):
        raise ValueError("num and t_start belong to hz, not to tgt_times")
    if src_hz is None and src_start is not None:
        raise ValueError("src_start belongs to src_hz, not to src_times")
    if lengths is not None and offsets is not None:
        raise ValueError("lengths and offsets both say how long the rows are: give one of them")
    if num is not None:
        if not (isinstance(num, (int, float, np.number)) and num >= 0 and num == int(num)):
            raise ValueError(f"num is {num!r}, expected an integer of 0 or more")
        num = int(num)

    shape = _shape(data, src_times, tgt_times, lengths, offsets, tgt_lengths, latency)
    B, S, D = shape.rows, shape.samples, inner(data, shape.lead)
    _check_rows(B, lengths=lengths, offsets=offsets, tgt_lengths=tgt_lengths, latency=latency)
    _check_numbers(
        tolerance=tolerance, max_gap=max_gap, fill_value=fill_value, extrapolate=extrapolate,
        src_hz=src_hz, src_start=src_start, hz=hz, t_start=t_start,
    )  # fmt: skip

    # How to find the samples of a row: the parameters that all kernels of this module share.
    per_row = latency if isinstance(latency, Meta) else None
    order = None if assume_sorted or src_times is None else Out((B * S,), "int64")
    rows_at = (src_times, order, lengths, offsets, per_row)
    rows_as = (
        S, shape.src_row, shape.src_step, _width(src_times, clock.width),
        _width(lengths), _width(offsets), _width(per_row),
    )  # fmt: skip
    rows_when = (
        duration("latency", 0.0 if per_row is not None else latency, clock, signed=True),
        time_point("src_start", 0 if src_start is None else src_start, clock),
        rate("src_hz", src_hz),
        float(clock.ticks),
    )
    grid = (time_point("t_start", 0 if t_start is None else t_start, clock), rate("hz", hz))
    from_first = int(t_start is None)
    sort = []
    if order is not None:
        sort.append(
            Launch(_argsort, (clock.wide,), rows_at, (*rows_as, B, *rows_when), items=B,
                   weight=S, blocks=B, threads=1024)
        )  # fmt: skip
    scratch = [order] if order is not None else []

    def plan(T: int) -> Plan:
        if S == 0 and B * T > 0 and lengths is None and offsets is None:
            raise ValueError(
                f"data has shape {data.shape}, without a sample to take: pass lengths= where rows "
                "may be empty"
            )
        lead = (B, T) if shape.batched else (T,)
        y_shape = (*lead, *data.shape[shape.lead :])
        y_row, y_step = (T * D, D) if out is None else _out_steps(out, y_shape, len(lead))
        values = Out(y_shape, y_dtype) if out is None else out
        outputs: dict[str, Out | Meta] = {"values": values}
        if return_valid:
            outputs["valid"] = Out(lead, "bool")
        if return_index:
            outputs["index"] = Out(lead, "int32")
            outputs["weight"] = Out(lead, _weight_dtype(data.dtype, y_dtype))
        if return_times:
            outputs["times"] = Out(lead, clock.dtype if tgt_times is None else tgt_times.dtype)

        vector = _vector(data.dtype, y_dtype)
        if (
            D % vector
            or shape.step % vector
            or y_step % vector
            or (B > 1 and (shape.row % vector or y_row % vector))
            or data.misaligned % (vector * _SIZE[data.dtype])
            or (out is not None and out.misaligned % (vector * _SIZE[y_dtype]))
        ):
            vector = 1
        tile = _tile(B * T, D * _SIZE[y_dtype])
        # Known at compile time, most of the search for samples is simple: see resample.cu.
        plain = int(
            not (src_times is None or tgt_times is None or order or lengths or offsets or per_row)
            and not (tgt_lengths or return_index or return_times)
            and type(latency) is float
        )
        left, right = _both_ends(extrapolate)
        left_code, left_bits = _edge(left, y_dtype)
        right_code, right_bits = _edge(right, y_dtype)
        launch = Launch(
            _resample,
            (data.dtype, y_dtype, clock.wide, vector, plain),
            (
                data, *rows_at, tgt_times, tgt_lengths,
                values, *map(outputs.get, ("valid", "index", "weight", "times")),
            ),
            (
                *rows_as,
                B * T, T, D, shape.row, shape.step, shape.tgt_row, shape.tgt_step, y_row, y_step,
                _width(tgt_times, clock.width), _width(tgt_lengths),
                METHODS[name], left_code, right_code, left_bits, right_bits,
                _NAN_BITS.get(y_dtype, 0),
                int(fill_value is not None), _bits("fill_value", fill_value, y_dtype),
                from_first, tile,
                *rows_when,
                duration("tolerance", 0.0 if tolerance is None else tolerance, clock),
                duration("tolerance", tolerance, clock), duration("max_gap", max_gap, clock),
                *grid,
            ),
            items=B * T,
            weight=D,
            blocks=min(-(-B * T // tile), 2**30),
            threads=_THREADS,
        )  # fmt: skip
        return Plan(outputs, [*sort, launch], scratch, "Resampled")

    targets = num if tgt_times is None else tgt_times.shape[-1]
    if targets is not None and not check:
        return plan(targets)

    found = Out((2,), "int64")

    def then(numbers: list[int]) -> Plan:
        disorder, points = numbers
        if check and disorder >= 0:
            raise ValueError(
                f"src_times runs backward, or is NaN before its end, at sample {disorder % S} of "
                f"row {disorder // S}: sort the stamps or pass assume_sorted=False"
            )
        return plan(points if targets is None else targets)

    survey = Launch(
        _survey, (clock.wide,),
        (*rows_at, found),
        (*rows_as, B, int(check and assume_sorted), from_first, *rows_when, *grid),
        items=max(B, 1), weight=S, blocks=1, threads=1024,
    )  # fmt: skip
    reason = "leave out check=True" if targets is not None else "pass num="
    return Read(Plan({"found": found}, [*sort, survey], scratch), then, reason)


def _tile(targets: int, row_bytes: int) -> int:
    """Targets a block takes on: one wave of blocks (measured: a wrong tile costs up to 6 x).

    Of rows of 2 kB and more, 64 keep the memory busier than 128: 268 against 271 us for 256 x 1000
    targets.
    """
    return max(8, min(-(-targets // _WAVE), 64 if row_bytes >= 2048 else 128))


class _Shape(NamedTuple):
    """How many rows, and where the samples and stamps of each are, in elements."""

    batched: bool
    lead: int  # axes of data before the features
    rows: int
    samples: int  # in a row; of all rows together where they are packed
    row: int
    step: int
    src_row: int
    src_step: int
    tgt_row: int
    tgt_step: int


def _shape(
    data: Meta,
    src_times: Meta | None,
    tgt_times: Meta | None,
    lengths: Meta | None,
    offsets: Meta | None,
    tgt_lengths: Meta | None,
    latency: Any,
) -> _Shape:
    for name, x in (("src_times", src_times), ("tgt_times", tgt_times)):
        if x is not None and len(x.shape) not in (1, 2):
            raise ValueError(f"{name} has shape {x.shape}, expected one or two axes")
    if not data.shape:
        raise ValueError("data has shape (), expected [B, S, *F] or [S, *F]")

    counts: dict[str, int] = {}  # rows, by the argument that says so
    if tgt_times is not None and len(tgt_times.shape) == 2:
        counts["tgt_times"] = tgt_times.shape[0]
    if offsets is not None:
        _packed(data, src_times, offsets)
        lead, samples = 1, data.shape[0]
        counts["offsets"] = offsets.shape[0] - 1
    else:
        for name, per_row in (("lengths", lengths), ("tgt_lengths", tgt_lengths),
                              ("latency", latency)):  # fmt: skip
            if isinstance(per_row, Meta) and len(per_row.shape) == 1:
                counts[name] = per_row.shape[0]
        lead = 2 if _has_batch_axis(data, src_times, bool(counts)) else 1
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
    several = {count for count in counts.values() if count != 1}
    if len(several) > 1:
        got = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise ValueError(f"the arguments differ in their number of rows: {got}")
    rows = several.pop() if several else 1

    def steps(x: Meta | None, axes: int) -> tuple[int, int]:
        """Elements from row to row, and from entry to entry, of an array with `axes` such axes."""
        if x is None:
            return 0, 0
        return (0 if axes == 1 or x.shape[0] == 1 else x.strides[0]), x.strides[axes - 1]

    row, step = steps(data, lead)
    src_row, src_step = steps(src_times, 0 if src_times is None else len(src_times.shape))
    tgt_row, tgt_step = steps(tgt_times, 0 if tgt_times is None else len(tgt_times.shape))
    return _Shape(
        bool(counts), lead, rows, samples, row, step, src_row, src_step, tgt_row, tgt_step
    )


def _packed(data: Meta, src_times: Meta | None, offsets: Meta) -> None:
    if len(offsets.shape) != 1 or offsets.shape[0] < 1:
        raise ValueError(f"offsets has shape {offsets.shape}, expected (B + 1,)")
    if src_times is not None and src_times.shape != data.shape[:1]:
        raise ValueError(
            f"src_times has shape {src_times.shape}, expected {data.shape[:1]} for packed data "
            f"of shape {data.shape}"
        )


def _has_batch_axis(data: Meta, src_times: Meta | None, several_rows: bool) -> bool:
    """Whether data is [B, S, *F] and not [S, *F]."""
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
    return second


def _check_rows(rows: int, **arrays: Any) -> None:
    for name, x in arrays.items():
        if not isinstance(x, Meta):
            continue
        expected = rows + (name == "offsets")
        if x.shape != (expected,):
            raise ValueError(f"{name} has shape {x.shape}, expected ({expected},)")
        dtype_of(name, x, ("float32", "float64") if name == "latency" else ("int32", "int64"))
        inner(x, 0)


def _check_numbers(**numbers: Any) -> None:
    for name, x in numbers.items():
        if type(x) is Meta:
            raise TypeError(f"{name} is an array of shape {x.shape}, expected a number")


def _result_dtype(data: str, method: str, dtype: Any, out: Meta | None) -> str:
    if dtype is None:
        wanted = data if out is None else out.dtype
    else:
        wanted = dtype_name(dtype)
        if out is not None and out.dtype != wanted:
            raise TypeError(f"out has dtype {out.dtype}, expected {wanted} as dtype says")
    if wanted not in FLOATS and wanted != data:
        raise TypeError(f"dtype is {wanted}, expected that of data ({data}) or a float")
    implicit = dtype is None and out is None
    if method == "linear" and data not in FLOATS and (implicit or wanted == "bool"):
        raise TypeError(
            f"data has dtype {data}, which method 'linear' does not interpolate unasked: pass "
            "dtype= (a float, or an integer's own dtype to round), or method='nearest'"
        )
    return wanted


def _weight_dtype(x: str, y: str) -> str:
    """The dtype that is computed with between dtypes x and y."""
    double = ("float64", "int64", "uint64", "int32", "uint32")
    return "float64" if x in double or y in double else "float32"


def _out_steps(out: Meta, expected: tuple[int, ...], lead: int) -> tuple[int, int]:
    if out.shape != expected:
        raise ValueError(f"out has shape {out.shape}, expected {expected}")
    try:
        inner(out, lead)
    except NotDense:
        raise ValueError(
            "out has feature axes that do not lie together in memory: pass a contiguous array"
        ) from None
    return (out.strides[0] if lead == 2 else 0), out.strides[lead - 1]


def _both_ends(extrapolate: Any) -> tuple[Any, Any]:
    if type(extrapolate) is not tuple:
        return extrapolate, extrapolate
    if len(extrapolate) != 2:
        raise ValueError(f"extrapolate has {len(extrapolate)} parts, expected (left, right)")
    return extrapolate


def _edge(policy: Any, dtype: str) -> tuple[int, Any]:
    """The code of one end's policy, and the bits of its constant."""
    if isinstance(policy, str) and policy in ("hold", "extrapolate"):
        return EDGES[policy], 0
    if policy == "nan":
        if dtype not in FLOATS:
            raise TypeError(f"extrapolate is 'nan', which {dtype} data cannot hold")
        policy = NAN
    if policy is None or isinstance(policy, str):
        one_of("extrapolate", policy, ("hold", "nan", "extrapolate", "a number"))
    return EDGES["constant"], _bits("extrapolate", policy, dtype)


def _bits(name: str, value: Any, dtype: str) -> Any:
    if value is None:
        return 0
    return later(value, functools.partial(element_bits, name, dtype=dtype), "q")


def _width(x: Meta | None, default: int = 8) -> int:
    """The bytes of an entry."""
    return default if x is None else width(x.dtype)
