"""The gradients of resampling and of windows."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._core.array import Array, HostArray, Meta, Scalar, dtype_name
from ._core.check import dtype_of, inner, one_of
from ._core.kernel import PROCESSORS, Const, Kernel, Launch, Out
from ._core.plan import Plan, op
from ._core.time import clock_of, duration, rate, time_point, width
from ._gradients import backward_gradient, windows_backward_gradient
from ._streams import (
    CURVES,
    FLOATS,
    METHODS,
    SIZE,
    both_ends,
    check_numbers,
    check_rows,
    edge,
    method_name,
    steps,
    weight_dtype,
)
from .resample import _argsort

__all__ = ["resample_backward"]

# What a target gives to its samples: the codes of the kernel.
LINE, EVEN, CURVE, RISE, FALL = range(5)
SHARES = {
    **dict.fromkeys(("linear", "nearest", "previous", "next"), (LINE,)),
    **dict.fromkeys(CURVES, (CURVE, RISE, FALL)),
    **dict.fromkeys(("mean", "sum"), (EVEN,)),
}
LINEAR_METHODS = tuple(m for m in SHARES if m not in ("pchip", "akima", "makima"))  # in the data

_TILE = 255  # targets of a block of the first kernel, which has it too
_WAVE = PROCESSORS * 8  # blocks that run at once


def _vector(x: str, y: str) -> int:
    """The elements of one access: 16 bytes, but of few sums."""
    return min(8, 16 // max(SIZE[x], SIZE[y]))


_COMPUTED = ("float32", "float64")
_CLOCKS = ("int64", "float64")
_spans = Kernel("backward", "spans", [(c, w) for c in _COMPUTED for w in _CLOCKS])
_window_spans = Kernel("backward", "window_spans", [(c, w) for c in _COMPUTED for w in _CLOCKS])
_arrange = Kernel("backward", "arrange", [("float32",), ("float64",)])
_collect = Kernel(
    "backward",
    "collect",
    [(x, y, v) for x in FLOATS for y in FLOATS for v in (1, _vector(x, y))],
)
_slopes = Kernel(
    "backward",
    "slopes",
    [(x, c, w) for x in FLOATS for c in _COMPUTED for w in _CLOCKS if SIZE[c] >= SIZE[x]],
)


@op(gradient=backward_gradient, by=("grad", "data"))
def resample_backward(
    grad: Array,
    src_times: Array | None = None,
    tgt_times: Array | None = None,
    *,
    samples: int,
    data: Array | None = None,
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
    time_unit: str | None = None,
    dtype: Any = None,
    assume_sorted: bool = True,
    backend: str = "auto",
) -> Any:
    """The gradient of a loss by the data that was resampled.

    The transpose of `resample_trajectories`: each sample gathers the gradients of the targets that
    were made of it, weighed as it was. The clocks and options are those of the call that
    resampled.

    Parameters
    ----------
    grad : array
        The gradient by the resampled values: ``[B, T, *F]``, or ``[T, *F]`` for one trajectory.
        float16, bfloat16, float32, float64.
    src_times : array, optional
        Stamps of the samples, ascending: ``[B, S]``, or ``[S]`` for a clock that all share, or
        ``[N]`` with `offsets`. float32, float64, int32, int64 or datetime64.
    tgt_times : array, optional
        The times that were resampled at: ``[B, T]`` or ``[T]``, of the same kind of clock. Any
        order is right (but see `method`); ascending ones are faster: a sample then finds its
        targets by a search.
    samples : int
        The number of samples S of a row; of all rows together with `offsets`.
    data : array, optional
        What was resampled, ``[B, S, *F]``, ``[S, *F]`` for one row that all share, ``[N, *F]``
        with `offsets`: only for ``pchip``, ``akima`` and ``makima``, whose slopes depend on it. Of
        the dtype of the result.
    method : str
        ``linear``, ``nearest``, ``previous``, ``next``, ``catmull_rom``, ``pchip``, ``akima``,
        ``makima``, ``mean``, ``sum``, or another of their names in `resample_trajectories`.
        ``mean`` and ``sum``, which take ascending targets, are over the samples nearer to a target
        than to its neighbours.
    extrapolate, tolerance, max_gap, fill_value, latency
        As in `resample_trajectories`. Where a constant stood, no sample gets a gradient.
    lengths : integers [B], optional
        The number of samples in each row of a padded batch. Padding gets 0.
    offsets : integers [B + 1], optional
        Row b of packed data is ``data[offsets[b]:offsets[b + 1]]``.
    tgt_lengths : integers [B], optional
        Targets from there on are padding, which no sample gets a gradient of.
    src_hz, src_start, hz : per second; time; per second
        In place of `src_times` and `tgt_times`, as in `resample_trajectories`. `grad` of three or
        more axes is then a batch where nothing else says so.
    t_start : time, or array [B]
        Where the grid of `hz` begins, by default at the first sample of each row.
    time_unit : {"ns", "us", "ms", "s"}, optional
        The unit of the stamps. Float clocks are seconds and integer clocks ns by default;
        datetime64 brings its own. Durations are seconds all the same.
    dtype : optional
        dtype of the result, that of the data; by default that of `grad`.
    assume_sorted : bool
        Pass False where the stamps were not sorted.
    backend : {"auto", "cuda", "numba"}
        auto runs where the arrays lie. Any other choice copies them there and the result back.

    Returns
    -------
    array
        ``[B, S, *F]``, ``[S, *F]`` for one trajectory, ``[N, *F]`` with `offsets`. Data that
        several rows shared has its gradient in the sum over these; ``[B, N, *F]`` where `offsets`
        has one row.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Notes
    -----
    The contributions to a sample are added up in the order of the targets, without atomics, so
    every run gives the same bits. float16, bfloat16 and float32 add up in float32 and are rounded
    once; where float64 is involved all is float64. A sample has its share of a curve through its
    value and through the slopes at it and at its neighbours, whose derivatives are those of the
    formulas in `resample_trajectories`; at a sign change of a slope, where pchip and akima have a
    kink, they are those of the branch that was taken. A sample whose weight is 0 takes no part: its
    gradient stays finite beside a target whose gradient is not.

    Examples
    --------
    The middle target was half of the second sample and half of the third:

    >>> import numpy as np
    >>> from robocache_cupy.backward import resample_backward
    >>> stamps, frames = np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.5, 2.0])
    >>> resample_backward(np.array([1.0, 10.0, 100.0]), stamps, frames, samples=3)
    array([  1.,   5., 105.])
    """
    name = method_name(method)
    one_of("method", name, tuple(SHARES))
    dtype_of("grad", grad, FLOATS)
    result = grad.dtype if dtype is None else dtype_name(dtype)
    if result not in FLOATS:
        raise TypeError(f"dtype is {result}, expected one of {', '.join(FLOATS)}")
    if not (isinstance(samples, (int, np.integer)) and samples >= 0):
        raise ValueError(f"samples is {samples!r}, expected an integer of 0 or more")
    clock = clock_of(time_unit, src_times=src_times, tgt_times=tgt_times)
    if (src_times is None) == (src_hz is None):
        raise ValueError("give the samples' clock as either src_times or src_hz")
    if (tgt_times is None) == (hz is None):
        raise ValueError("give the targets' clock as either tgt_times or hz")
    if lengths is not None and offsets is not None:
        raise ValueError("lengths and offsets both say how long the rows are: give one of them")
    check_numbers(
        tolerance=tolerance, max_gap=max_gap, fill_value=fill_value, extrapolate=extrapolate,
        src_hz=src_hz, src_start=src_start, hz=hz,
    )  # fmt: skip
    per_row = latency if isinstance(latency, Meta) else None
    starts = t_start if isinstance(t_start, Meta) else None
    shape = _rows(
        grad, src_times, tgt_times, {"lengths": lengths, "offsets": offsets, "latency": per_row},
        {"tgt_lengths": tgt_lengths, "t_start": starts},
    )  # fmt: skip
    batched, B, T, one_row = shape
    check_rows(1 if one_row else B, lengths=lengths, offsets=offsets, latency=latency)
    check_rows(B, tgt_lengths=tgt_lengths)
    S, lead = int(samples), 1 + batched
    if src_times is not None and src_times.shape[-1] != S:
        raise ValueError(f"src_times has shape {src_times.shape}, expected {S} stamps: samples")
    if starts is not None:
        clock_of(time_unit, tgt_times=tgt_times, src_times=src_times, t_start=starts)
        inner(starts, 0)
    D = inner(grad, lead)
    src_row, src_step = steps(src_times, 0 if src_times is None else len(src_times.shape))
    tgt_row, tgt_step = steps(tgt_times, 0 if tgt_times is None else len(tgt_times.shape))

    packed = offsets is not None and not one_row
    items = S if packed else B * S
    compute = weight_dtype(grad.dtype, result)
    launches, scratch = list[Launch](), list[Out]()
    src_rows = 1 if one_row else B
    rows_as = (
        S, src_row, src_step, clock.width if src_times is None else width(src_times.dtype),
        *[8 if x is None else width(x.dtype) for x in (lengths, offsets, per_row)],
    )  # fmt: skip
    rows_when = (
        duration("latency", 0.0 if per_row is not None else latency, clock, signed=True),
        time_point("src_start", 0 if src_start is None else src_start, clock),
        rate("src_hz", src_hz),
        float(clock.ticks),
    )
    order = None
    if not assume_sorted and src_times is not None:
        order = Out((S if packed else src_rows * S,), "int64")
        scratch.append(order)
        launches.append(
            Launch(_argsort, (clock.wide,), (src_times, order, lengths, offsets, per_row),
                   (*rows_as, src_rows, *rows_when),
                   items=src_rows, weight=S, blocks=src_rows, threads=1024)
        )  # fmt: skip
    parts = -(-B * T // _TILE)
    begins, ends = Out((B * T,), "int32"), Out((B * T,), "int32")
    weights, disorder = Out((B * T,), compute), Out((parts,), "int32")
    scratch += [begins, ends, weights, disorder]
    left, right = both_ends(extrapolate)
    stamps = starts if tgt_times is None else tgt_times
    launches.append(
        Launch(
            _spans,
            (compute, clock.wide),
            (
                src_times, order, lengths, offsets, per_row, tgt_times, starts, tgt_lengths,
                begins, ends, weights, disorder,
            ),
            (
                *rows_as, int(one_row),
                B * T, T, tgt_row, tgt_step, clock.width if stamps is None else width(stamps.dtype),
                8 if tgt_lengths is None else width(tgt_lengths.dtype),
                METHODS[name], edge(left, grad.dtype)[0], edge(right, grad.dtype)[0],
                int(fill_value is not None), int(t_start is None), *rows_when,
                duration("tolerance", 0.0 if tolerance is None else tolerance, clock),
                duration("tolerance", tolerance, clock), duration("max_gap", max_gap, clock),
                time_point("t_start", 0 if t_start is None or starts is not None else t_start,
                           clock),
                rate("hz", hz),
            ),
            items=parts,
            weight=16 * _TILE,  # the steps of their searches
            blocks=min(parts, 2**30),
            threads=256,
        )
    )  # fmt: skip
    values = Out((*((B, S) if batched and not packed else (S,)), *grad.shape[lead:]), result)
    spans = (None, order, lengths, offsets, begins, ends, weights, disorder)
    sized = (items, S, B, T, D, *rows_as[4:6], int(one_row))
    at = steps(grad, lead)
    if name not in CURVES:
        launches.append(_collecting(grad, at, spans, values, sized, SHARES[name][0]))
        return Plan({"values": values}, launches, scratch)
    made = [Out((items * D,), compute) for _ in SHARES[name]]
    spans = (None, None, *spans[2:])
    launches += [
        _collecting(grad, at, spans, out, sized, share)
        for out, share in zip(made, SHARES[name], strict=True)
    ]
    place = (
        (0, 0)
        if name == "catmull_rom"
        else _data_steps(data, name, values, grad.shape[lead:], S, packed, B)
    )
    launches.append(
        Launch(
            _slopes,
            (result, compute, clock.wide),
            (
                *made, None if name == "catmull_rom" else data, src_times, order, lengths, offsets,
                per_row, values,
            ),
            (items, S, B, D, *place, *rows_as[1:], int(one_row), METHODS[name], *rows_when),
            items=items,
            weight=32 * D,
            blocks=min(-(-items * D // 256), 2**30),
            threads=256,
        )
    )  # fmt: skip
    return Plan({"values": values}, launches, scratch + made)


def _collecting(
    grad: Meta,
    at: tuple[int, int],
    spans: tuple[Any, ...],
    out: Out,
    sized: tuple[int, ...],
    share: int,
) -> Launch:
    """Gather the shares of the targets in each sample. `at`: elements from row to row of grad, and
    from target to target."""
    items, S, B, T, D = sized[:5]
    grad_row, grad_step = at
    vector = _vector(grad.dtype, out.dtype)
    if (
        D % vector
        or grad_step % vector
        or (B > 1 and grad_row % vector)
        or grad.misaligned % (vector * SIZE[grad.dtype])
    ):
        vector = 1
    block = max(8, min(-(-items // _WAVE), 128))
    return Launch(
        _collect,
        (grad.dtype, out.dtype, vector),
        (grad, *spans, out),
        (*sized, grad_row, grad_step, share, block),
        items=items,
        weight=D * max(1, T // max(S, 1)),
        blocks=min(-(-items // block), 2**30),
        threads=256,
    )


def _data_steps(
    data: Meta | None,
    method: str,
    values: Out,
    features: tuple[int, ...],
    S: int,
    packed: bool,
    B: int,
) -> tuple[int, int]:
    """Elements from row to row and from sample to sample of the data of a curve."""
    if data is None:
        raise ValueError(f"data is None, which method {method!r} takes: its slopes depend on it")
    if data.dtype != values.dtype:
        raise TypeError(f"data has dtype {data.dtype}, expected {values.dtype}: that of the result")
    expected = [(S, *features)] if packed else [(rows, S, *features) for rows in (B, 1)]
    expected += [(S, *features)] * (not packed)
    if data.shape not in expected:
        got = " or ".join(map(str, dict.fromkeys(expected)))
        raise ValueError(f"data has shape {data.shape}, expected {got}")
    lead = len(data.shape) - len(features)
    inner(data, lead)
    return steps(data, lead)


def _rows(
    grad: Meta,
    src_times: Meta | None,
    tgt_times: Meta | None,
    of_samples: dict[str, Meta | None],
    of_targets: dict[str, Meta | None],
) -> tuple[bool, int, int, bool]:
    """Whether grad is [B, T, *F] and not [T, *F], the number of rows and of targets in one, and
    whether one row of samples serves all."""
    counts: dict[str, int] = {}  # rows, by the argument that says so
    packed = of_samples["offsets"] is not None
    for name, x in (("src_times", src_times), ("tgt_times", tgt_times)):
        if x is None:
            continue
        if len(x.shape) not in ((1,) if packed and name == "src_times" else (1, 2)):
            one = packed and name == "src_times"
            expected = "one axis, with offsets" if one else "one or two axes"
            raise ValueError(f"{name} has shape {x.shape}, expected {expected}")
        if len(x.shape) == 2:
            counts[name] = x.shape[0]
    for name, per_row in (of_samples | of_targets).items():
        if per_row is not None:
            if len(per_row.shape) != 1 or (name == "offsets" and per_row.shape[0] < 1):
                expected = "(B + 1,)" if name == "offsets" else "(B,)"
                raise ValueError(f"{name} has shape {per_row.shape}, expected {expected}")
            counts[name] = per_row.shape[0] - (name == "offsets")
    axes = len(grad.shape)
    batched = bool(counts)
    T = None if tgt_times is None else tgt_times.shape[-1]
    if T is None:
        batched = batched or axes >= 3
        T = grad.shape[int(batched)] if axes > batched else 0
    elif not batched and axes >= 3:
        batched = grad.shape[1] == T
        if batched and grad.shape[0] == T:
            raise ValueError(
                f"grad has shape {grad.shape}: either of its first two axes fits the {T} targets. "
                f"Pass tgt_times as (1, {T}) for a batch, or grad as (1, *grad.shape) for one "
                "trajectory"
            )
    if axes < 1 + batched or grad.shape[int(batched)] != T:
        expected = "[B, T, *F]" if batched else "[T, *F]"
        raise ValueError(f"grad has shape {grad.shape}, expected {expected} for {T} targets")
    rows = grad.shape[0] if batched else 1
    alone = {counts[name] for name in (*of_samples, "src_times") if name in counts} == {1}
    one_row = rows != 1 and alone and any(x is not None for x in of_samples.values())
    for name, count in counts.items():
        shared = name in ("src_times", "tgt_times") or (one_row and name in of_samples)
        if not (count == rows or (count == 1 and shared)):
            raise ValueError(f"{name} has {count} rows, expected {rows} for grad of {grad.shape}")
    return batched, rows, T, one_row


@op(gradient=windows_backward_gradient, by=("grad", "data"))
def _windows_backward(
    grad: Array,
    data: Array | None,
    times: Array | None,
    episode_offsets: HostArray,
    anchors: HostArray | None,
    anchor_times: HostArray | None,
    anchor_episode: HostArray | None,
    *,
    samples: int,
    deltas: tuple[Any, ...] | None,
    fps: float | None,
    method: str,
    pad: str,
    latency: Scalar | None,
    tolerance: Scalar | None,
    max_gap: Scalar | None,
    time_unit: str | None,
    dtype: Any,
    backend: str,
) -> Any:
    """The gradient of `sample_windows` by the data [N, D] of one key, of `grad` [A, W, D]; the data
    itself is for pchip, akima and makima.

    The elements of all windows are put in the order of the first sample that they use, stably, so
    that a sample finds its own by a search.
    """
    from .windows import _deltas

    clock = clock_of(time_unit, times=times, anchor_times=anchor_times)
    result = dtype_name(dtype)
    A, W, D = grad.shape
    N, T = int(samples), A * W
    if max(N, T) >= 2**31:
        raise ValueError(f"{max(N, T)} samples or elements of windows are too many: 2^31 - 1 is "
                         "the limit of their gradient")  # fmt: skip
    inner(grad, 0)
    wide = clock.wide if times is not None else "int64"
    found = Const(np.asarray(_deltas(deltas, times is not None, fps, clock), np.dtype(wide)))
    compute = weight_dtype(grad.dtype, result)
    per_row = latency if isinstance(latency, Meta) else None
    late = duration("latency", 0.0 if per_row is not None or latency is None else latency, clock,
                    signed=True)  # fmt: skip
    widths = [
        8 if x is None else width(x.dtype)
        for x in (episode_offsets, anchors, anchor_times, anchor_episode, per_row)
    ]
    src_step = 0 if times is None else times.strides[0]
    stamps = 8 if times is None else width(times.dtype)
    episodes = episode_offsets.shape[0] - 1
    raw = [Out((T,), "int32"), Out((T,), "int32"), Out((T,), compute)]
    sorted_ = [Out((T,), "int32"), Out((T,), "int32"), Out((T,), compute)]
    order, disorder = Out((T,), "int64"), Out((-(-T // _TILE),), "int32")
    scratch = [*raw, *sorted_, order, disorder]
    launches = [
        Launch(
            _window_spans,
            (compute, clock.wide),
            (
                times, episode_offsets, anchors, anchor_times, anchor_episode, per_row, found, *raw,
            ),
            (
                T, W, N, episodes, src_step, stamps, *widths, METHODS[method],
                int(pad in ("zero", "nan")), int(pad == "reflect"), late, float(clock.ticks),
                duration("tolerance", 0.0 if tolerance is None else tolerance, clock),
                duration("tolerance", tolerance, clock), duration("max_gap", max_gap, clock),
            ),
            items=T, weight=32, blocks=min(-(-T // 256), 2**30), threads=256,
        ),
        Launch(_argsort, ("int64",), (raw[0], order, None, None, None),
               (T, T, 1, 4, 8, 8, 8, 1, 0, 0, 0.0, 1.0),
               items=1, weight=T, blocks=1, threads=1024),
        Launch(_arrange, (compute,), (*raw, order, *sorted_, disorder), (T,),
               items=-(-T // _TILE), weight=4 * _TILE, blocks=min(-(-T // _TILE), 2**30),
               threads=256),
    ]  # fmt: skip
    values = Out((N, D), result)
    spans = (order, None, None, None, *sorted_, disorder)
    sized = (N, N, 1, T, D, 8, 8, 0)
    at = (T * D, D)
    if method not in CURVES:
        launches.append(_collecting(grad, at, spans, values, sized, SHARES[method][0]))
        return Plan({"values": values}, launches, scratch)
    made = [Out((N * D,), compute) for _ in SHARES[method]]
    launches += [
        _collecting(grad, at, spans, out, sized, share)
        for out, share in zip(made, SHARES[method], strict=True)
    ]
    place = (0, 0)
    if method == "catmull_rom":
        data = None
    else:
        place = _data_steps(data, method, values, (D,), N, True, 1)
    launches.append(
        Launch(
            _slopes,
            (result, compute, clock.wide),
            (*made, data, times, None, None, episode_offsets, None, values),
            (
                N, N, episodes, D, *place, 0, src_step, stamps, 8, widths[0], 8, 0, METHODS[method],
                0 if clock.integer else 0.0, 0 if clock.integer else 0.0, 0.0, float(clock.ticks),
            ),
            items=N, weight=32 * D, blocks=min(-(-N * D // 256), 2**30), threads=256,
        )
    )  # fmt: skip
    return Plan({"values": values}, launches, scratch + made)
