"""Trajectories on another clock."""

from __future__ import annotations

from typing import Any

from ._core.array import Array, HostArray, Meta, Scalar
from ._core.check import dtype_of, inner
from ._core.kernel import PROCESSORS, Kernel, Launch, Out
from ._core.plan import Plan, Read, op
from ._core.time import clock_of, duration, rate, time_point, width
from ._gradients import resample_gradient
from ._streams import (
    DATA,
    FLOATS,
    METHODS,
    NAN_BITS,
    REDUCTIONS,
    SAMPLING,
    SIZE,
    Columns,
    Place,
    Results,
    Source,
    Targets,
    as_normalization,
    both_ends,
    check_columns,
    check_numbers,
    check_rows,
    columns_of,
    edge,
    fuse_launches,
    method_name,
    out_steps,
    overlap_launches,
    result_dtype,
    shape_of,
    value_bits,
    weight_dtype,
    whole_number,
)

__all__ = ["resample_trajectories"]

_THREADS = 256
_WAVE = PROCESSORS * 8  # blocks that run at once
_WAVE_OF_FEW = PROCESSORS * 12  # of half the threads


def _vector(x: str, y: str) -> int:
    """The elements of one access: 16 bytes, but not so many that their registers spill."""
    return min(8, 16 // max(SIZE[x], SIZE[y]))


_PAIRS = [(x, y) for x in DATA for y in DATA if x == y or y in FLOATS]
_resample = Kernel(
    "resample",
    "resample",
    [
        (x, y, w, v, plain, few)
        for x, y in _PAIRS
        for w in ("int64", "float64")
        for v in {1, _vector(x, y)}
        for plain in (0, 1, *((4, 8) if x == y and x in FLOATS else ()))
        for few in range(1 + (plain > 1))
    ],
)
_argsort = Kernel("resample", "argsort", [("int64",), ("float64",)])
_survey = Kernel("resample", "survey", [("int64",), ("float64",)])


@op(gradient=resample_gradient)
def resample_trajectories(
    data: Array,
    src_times: Array | None = None,
    tgt_times: Array | None = None,
    *,
    method: Any = "linear",
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
    rotation: Any = None,
    normalize: Any = None,
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
        Samples: ``[B, S, *F]`` for a batch of B trajectories, ``[S, *F]`` for one (see `src_hz`),
        ``[N, *F]`` for trajectories packed one after another (see `offsets`). float16, bfloat16,
        float32, float64, any integer, bool.
    src_times : array, optional
        Stamps of the samples, ascending: ``[B, S]``, or ``[S]`` for a clock that all share, or
        ``[N]`` with `offsets`. float32, float64, int32, int64 or datetime64. NaN or NaT at the end
        of a row is padding. Data of three or more axes with a shared clock ``[S]`` is a batch if
        its second axis has the length S. An exact hit on a duplicated
        stamp takes its last sample (``next``: its first).
    tgt_times : array, optional
        Times to resample at, in any order: ``[B, T]`` or ``[T]``, of the same kind of clock.
    method : str, or list of (columns, str)
        How a target is made of samples; for some columns of the last axis each, as in
        ``[("0:7", "linear"), (7, "previous")]``, a list may say (columns left out: linear for
        floats, nearest for the rest).

        - ``linear``. Integers and bool are interpolated only to the dtype that `dtype` names.
        - ``nearest`` takes the earlier of two equally near samples; ``previous`` (also zero, zoh,
          ffill, pad, backward, latest) never looks ahead: use it for what runs on a robot;
          ``next`` is also called bfill or forward.
        - ``catmull_rom`` (also cardinal), ``pchip``, ``akima``, ``makima`` are smooth curves of
          the samples nearby. A repeated stamp is a jump, where one curve ends and another begins.
        - ``mean``, ``sum``, ``max``, ``min``, ``any`` are over the samples nearer to this target
          than to any other, which must ascend: what an anti-aliased lower rate is made of. A
          sample midway belongs to the earlier; the first and last target's share is as wide
          outward as inward. Where there is none the target is not valid, and the nearest sample
          stands (0 for ``sum`` and ``any``). `tolerance` and `max_gap` do not apply.
    extrapolate : {"hold", "nan", "extrapolate"}, number, or (left, right), default "hold"
        What stands beyond the ends of a trajectory: the end sample, NaN, the line through the last
        two samples (a curve goes on as its last piece, and the other methods hold), or a constant;
        one for both ends or one for each. NaN and constants stand only where the result is not
        valid.
    tolerance : seconds, optional
        How far outside the range (``linear``), or from the chosen sample (the other methods),
        still counts as valid, inclusive. By default nothing outside the range does, and inside
        it any distance. ``previous`` after the last sample and ``next`` before the first are no
        extrapolation: they are valid at any distance unless this or `max_gap` limits it.
    max_gap : seconds, optional
        Targets between two samples further apart than this are not valid.
    fill_value : number, optional
        Written wherever the result is not valid; where columns differ in method, in those that are
        not. By default the held or interpolated value stays.
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
        Data of three or more axes is then always a batch ``[B, S, *F]``, for there are no stamps
        to tell S by: give one trajectory ``[S, *F]`` of so many axes, such as a video, a leading
        axis of 1, or its times.
    hz, t_start, num : per second; time; int
        In place of `tgt_times`: target k is at ``t_start + k / hz``, rounded once to a tick, for
        k < num. By default a row starts at its own first sample, and `num` reaches the last sample
        of the longest row; finding that out reads one number back, which ``jax.jit`` and CUDA
        graphs cannot.
    time_unit : {"ns", "us", "ms", "s"}, optional
        The unit of the stamps. Float clocks are seconds and integer clocks ns by default;
        datetime64 brings its own. Durations are seconds all the same.
    rotation : str or {columns: str}, optional
        Rotations among the columns of the last axis, interpolated as such the shortest way
        wherever the method interpolates: ``quat_xyzw``, ``quat_wxyz``, ``rotvec``, ``rot6d`` (the
        first two columns of the matrix), ``matrix`` (row by row), ``angle`` (radians), as in
        ``{"3:7": "quat_xyzw"}``. A single name says that all features are such rotations, or
        poses: ``pos_quat_xyzw``, ``pos_quat_wxyz``, ``pos_rotvec``, ``pos_rot6d``, ``mat44``,
        ``mat34``. Columns are counted as in Python, and must exist. Between two samples a target
        is not valid where one of them is a rotation of no length, or the two are opposite; a
        sample that is hit, held or the nearest comes as it is, and is as valid as other data.
    normalize : Normalization, or (stats, mode), optional
        Normalise the values as `normalize` does, in the same pass. Constants and `fill_value`
        stand as they are, and rotations unless the normalisation's mask includes them.
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
    dtype_of("data", data, DATA)
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
        num = whole_number("num", num)

    shape = shape_of(data, src_times, tgt_times, lengths, offsets, tgt_lengths, latency)
    B, S, D = shape.rows, shape.samples, inner(data, shape.lead)
    check_rows(shape.src_rows, lengths=lengths, offsets=offsets, latency=latency)
    check_rows(B, tgt_lengths=tgt_lengths)
    check_numbers(
        tolerance=tolerance, max_gap=max_gap, fill_value=fill_value, extrapolate=extrapolate,
        src_hz=src_hz, src_start=src_start, hz=hz, t_start=t_start,
    )  # fmt: skip

    # How to find the samples of a row: the parameters that all kernels of this module share.
    per_row = latency if isinstance(latency, Meta) else None
    one_row = shape.src_rows < B and not (lengths is None and offsets is None and per_row is None)
    src_rows = 1 if one_row else B
    order = None if assume_sorted or src_times is None else Out((src_rows * S,), "int64")
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
    name, columns = "", list[Columns]()
    if not isinstance(method, (list, tuple)):
        name = method_name(method)
    if rotation is not None:
        name = ""
    normalization = as_normalization(normalize)
    if name not in SAMPLING or normalization is not None or one_row:
        features, default = data.shape[shape.lead :], _default(data.dtype, method)
        columns = columns_of("data", features, method, rotation, default)
        check_columns("data", columns, data.dtype, tgt_times and tgt_times.shape[-1])
        if return_index and any(c.method in REDUCTIONS for c in columns):
            raise ValueError(
                "return_index is for methods that take a sample or two, not for reductions"
            )
        if return_index and len({c.method for c in columns}) > 1:
            raise ValueError("return_index is for one method, got several")
    y_dtype = result_dtype(data.dtype, [c.method for c in columns] or [name], dtype, out)
    sort = []
    if order is not None:
        sort.append(
            Launch(_argsort, (clock.wide,), rows_at, (*rows_as, src_rows, *rows_when),
                   items=src_rows, weight=S, blocks=src_rows, threads=1024)
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
        y_row, y_step = (T * D, D) if out is None else out_steps(out, y_shape, len(lead))
        values = Out(y_shape, y_dtype) if out is None else out
        outputs: dict[str, Out | Meta] = {"values": values}
        if return_valid:
            outputs["valid"] = Out(lead, "bool")
        if return_index:
            outputs["index"] = Out(lead, "int32")
            outputs["weight"] = Out(lead, weight_dtype(data.dtype, y_dtype))
        if return_times:
            outputs["times"] = Out(lead, clock.dtype if tgt_times is None else tgt_times.dtype)

        if columns:
            return Plan(outputs, [*sort, *general(T, outputs, y_row, y_step)], scratch, "Resampled")

        vector = _vector(data.dtype, y_dtype)
        if (
            D % vector
            or shape.step % vector
            or y_step % vector
            or (B > 1 and (shape.row % vector or y_row % vector))
            or data.misaligned % (vector * SIZE[data.dtype])
            or (out is not None and out.misaligned % (vector * SIZE[y_dtype]))
        ):
            vector = 1
        row_bytes = D * SIZE[y_dtype]
        # Known at compile time, most of the search for samples is simple: see resample.cu.
        plain = int(
            not (src_times is None or tgt_times is None or order or lengths or offsets or per_row)
            and not (tgt_lengths or return_index or return_times)
            and type(latency) is float
        )
        left, right = both_ends(extrapolate)
        widths = {_width(src_times), _width(tgt_times)}
        if (
            plain and data.dtype == y_dtype and y_dtype in FLOATS and name == "linear"
            and left == right == "hold" and fill_value is None and not return_valid
            and len(widths) == shape.src_step == shape.tgt_step == 1
            and 0 < S < 2**30 and B * T < 2**31
        ):  # fmt: skip
            plain = widths.pop()
        tile = 8 if row_bytes >= 512 else 16
        few = int(plain > 1 and tile * _WAVE_OF_FEW >= B * T)
        if not few:
            tile = _tile(B * T, row_bytes)
        left_code, left_bits = edge(left, y_dtype)
        right_code, right_bits = edge(right, y_dtype)
        launch = Launch(
            _resample,
            (data.dtype, y_dtype, clock.wide, vector, plain, few),
            (
                data, *rows_at, tgt_times, tgt_lengths,
                values, *map(outputs.get, ("valid", "index", "weight", "times")),
            ),
            (
                *rows_as,
                B * T, T, D, shape.row, shape.step, shape.tgt_row, shape.tgt_step, y_row, y_step,
                _width(tgt_times, clock.width), _width(tgt_lengths),
                METHODS[name], left_code, right_code, left_bits, right_bits,
                NAN_BITS.get(y_dtype, 0),
                int(fill_value is not None), value_bits("fill_value", fill_value, y_dtype),
                from_first, tile,
                *rows_when,
                duration("tolerance", 0.0 if tolerance is None else tolerance, clock),
                duration("tolerance", tolerance, clock), duration("max_gap", max_gap, clock),
                *grid,
            ),
            items=B * T,
            weight=D,
            blocks=min(-(-B * T // tile), 2**30),
            threads=_THREADS // 2 if few else _THREADS,
        )  # fmt: skip
        return Plan(outputs, [*sort, launch], scratch, "Resampled")

    def general(T: int, outputs: Any, y_row: int, y_step: int) -> list[Launch]:
        """All but plain sampling, by the kernel of any number of streams."""
        source = Source(
            "data", data, src_times, lengths, offsets, latency, tolerance, max_gap, extrapolate,
            fill_value, src_hz, src_start, shape._replace(rows=B), columns, normalization, y_dtype,
            order, one_row,
        )  # fmt: skip
        first = list[Launch]()
        starts = None
        if tgt_times is None and t_start is None:  # each row begins with its own first sample
            starts = Out((B,), clock.wide)
            scratch.append(starts)
            grid = Targets(None, 0, 0, None, hz, None, starts)
            first = overlap_launches([source], grid, clock, B, hull=False, ends=None, found=None)
        aligned = 16 if out is None else (out.misaligned & -out.misaligned) or 16
        place = Place(outputs["values"], y_step, 0, aligned, 0 if out is None else y_row)
        results = Results(
            [outputs.get("valid")], 0, outputs.get("times"), outputs.get("index"),
            outputs.get("weight"),
        )  # fmt: skip
        when = Targets(tgt_times, shape.tgt_row, shape.tgt_step, tgt_lengths, hz, t_start, starts)
        return [*first, *fuse_launches([source], [place], when, results, clock, B, T)]

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
        (*rows_as, src_rows, int(check and assume_sorted), from_first, *rows_when, *grid),
        items=max(src_rows, 1), weight=S, blocks=1, threads=1024,
    )  # fmt: skip
    reason = "leave out check=True" if targets is not None else "pass num="
    return Read(Plan({"found": found}, [*sort, survey], scratch), then, reason)


def _tile(targets: int, row_bytes: int) -> int:
    """Targets a block takes on: one wave of blocks (measured: a wrong tile costs up to 6 x).

    Of rows of 2 kB and more, 64 keep the memory busier than 128: 268 against 271 us for 256 x 1000
    targets.
    """
    return max(8, min(-(-targets // _WAVE), 64 if row_bytes >= 2048 else 128))


def _default(dtype: str, method: Any) -> str:
    """The method of columns that a list leaves out."""
    return "linear" if dtype in FLOATS or isinstance(method, str) else "nearest"


def _width(x: Meta | None, default: int = 8) -> int:
    """The bytes of an entry."""
    return default if x is None else width(x.dtype)
