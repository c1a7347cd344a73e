"""The gradient of resampling."""

from __future__ import annotations

from typing import Any

import numpy as np

from ._core.array import Array, HostArray, Meta, Scalar, dtype_name
from ._core.check import dtype_of, inner, one_of
from ._core.kernel import Kernel, Launch, Out
from ._core.plan import Plan, op
from ._core.time import clock_of, duration, width
from ._streams import (
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

__all__ = ["resample_backward"]

LINEAR_METHODS = ("linear", "nearest", "previous", "next", "mean")  # in the data

_TILE = 255  # targets of a block of the first kernel, which has it too
_WAVE = 132 * 8  # blocks that an H200 runs at once


def _vector(x: str, y: str) -> int:
    """The elements of one access: 16 bytes, but of few sums."""
    return min(8, 16 // max(SIZE[x], SIZE[y]))


_spans = Kernel(
    "backward", "spans", [(c, w) for c in ("float32", "float64") for w in ("int64", "float64")]
)
_collect = Kernel(
    "backward",
    "collect",
    [(x, y, v) for x in FLOATS for y in FLOATS for v in (1, _vector(x, y))],
)


@op
def resample_backward(
    grad: Array,
    src_times: Array,
    tgt_times: Array,
    *,
    samples: int,
    method: str = "linear",
    extrapolate: Scalar = "hold",
    tolerance: Scalar | None = None,
    max_gap: Scalar | None = None,
    fill_value: Scalar | None = None,
    latency: Scalar = 0.0,
    lengths: HostArray | None = None,
    offsets: HostArray | None = None,
    time_unit: str | None = None,
    dtype: Any = None,
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
    src_times : array
        Stamps of the samples, ascending: ``[B, S]``, or ``[S]`` for a clock that all share, or
        ``[N]`` with `offsets`. float32, float64, int32, int64 or datetime64.
    tgt_times : array
        The times that were resampled at: ``[B, T]`` or ``[T]``, of the same kind of clock. Any
        order is right (but see `method`); ascending ones are faster: a sample then finds its
        targets by a search.
    samples : int
        The number of samples S of a row; of all rows together with `offsets`.
    method : {"linear", "nearest", "previous", "next", "mean"}
        Or another of their names in `resample_trajectories`. ``mean``, which takes ascending
        targets, is the mean over the samples nearer to a target than to its neighbours.
    extrapolate, tolerance, max_gap, fill_value, latency
        As in `resample_trajectories`. Where a constant stood, no sample gets a gradient.
    lengths : integers [B], optional
        The number of samples in each row of a padded batch. Padding gets 0.
    offsets : integers [B + 1], optional
        Row b of packed data is ``data[offsets[b]:offsets[b + 1]]``.
    time_unit : {"ns", "us", "ms", "s"}, optional
        The unit of the stamps. Float clocks are seconds and integer clocks ns by default;
        datetime64 brings its own. Durations are seconds all the same.
    dtype : optional
        dtype of the result, that of the data; by default that of `grad`.
    backend : {"auto", "cuda", "numba"}
        auto runs where the arrays lie. Any other choice copies them there and the result back.

    Returns
    -------
    array
        ``[B, S, *F]``, ``[S, *F]`` for one trajectory, ``[N, *F]`` with `offsets`. Data that
        several rows shared has its gradient in the sum over these.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Notes
    -----
    The contributions to a sample are added up in the order of the targets, without atomics, so
    every run gives the same bits. float16, bfloat16 and float32 add up in float32 and are rounded
    once; where float64 is involved all is float64. A sample whose weight is 0 takes no part: its
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
    one_of("method", name, LINEAR_METHODS)
    dtype_of("grad", grad, FLOATS)
    result = grad.dtype if dtype is None else dtype_name(dtype)
    if result not in FLOATS:
        raise TypeError(f"dtype is {result}, expected one of {', '.join(FLOATS)}")
    if not (isinstance(samples, (int, np.integer)) and samples >= 0):
        raise ValueError(f"samples is {samples!r}, expected an integer of 0 or more")
    clock = clock_of(time_unit, src_times=src_times, tgt_times=tgt_times)
    if lengths is not None and offsets is not None:
        raise ValueError("lengths and offsets both say how long the rows are: give one of them")
    check_numbers(
        tolerance=tolerance, max_gap=max_gap, fill_value=fill_value, extrapolate=extrapolate
    )
    per_row = latency if isinstance(latency, Meta) else None
    batched, B = _rows(grad, src_times, tgt_times, lengths, offsets, per_row)
    check_rows(B, lengths=lengths, offsets=offsets, latency=latency)
    S, T, lead = int(samples), tgt_times.shape[-1], 1 + batched
    if src_times.shape[-1] != S:
        raise ValueError(f"src_times has shape {src_times.shape}, expected {S} stamps: samples")
    D = inner(grad, lead)
    grad_row, grad_step = steps(grad, lead)
    src_row, src_step = steps(src_times, len(src_times.shape))
    tgt_row, tgt_step = steps(tgt_times, len(tgt_times.shape))

    items = S if offsets is not None else B * S
    shape = (B, S) if batched and offsets is None else (S,)
    values = Out((*shape, *grad.shape[lead:]), result)
    compute = weight_dtype(grad.dtype, result)
    parts = -(-B * T // _TILE)
    begins, ends = Out((B * T,), "int32"), Out((B * T,), "int32")
    weights, disorder = Out((B * T,), compute), Out((parts,), "int32")
    left, right = both_ends(extrapolate)
    widths = [8 if x is None else width(x.dtype) for x in (lengths, offsets, per_row)]
    spans = Launch(
        _spans,
        (compute, clock.wide),
        (src_times, lengths, offsets, per_row, tgt_times, begins, ends, weights, disorder),
        (
            S, src_row, src_step, width(src_times.dtype), *widths,
            B * T, T, tgt_row, tgt_step, width(tgt_times.dtype),
            METHODS[name], edge(left, grad.dtype)[0], edge(right, grad.dtype)[0],
            int(fill_value is not None),
            duration("latency", 0.0 if per_row is not None else latency, clock, signed=True),
            float(clock.ticks),
            duration("tolerance", 0.0 if tolerance is None else tolerance, clock),
            duration("tolerance", tolerance, clock), duration("max_gap", max_gap, clock),
        ),
        items=parts,
        weight=16 * _TILE,  # the steps of their searches
        blocks=min(parts, 2**30),
        threads=256,
    )  # fmt: skip

    vector = _vector(grad.dtype, result)
    if (
        D % vector
        or grad_step % vector
        or (B > 1 and grad_row % vector)
        or grad.misaligned % (vector * SIZE[grad.dtype])
    ):
        vector = 1
    block = max(8, min(-(-items // _WAVE), 128))
    collect = Launch(
        _collect,
        (grad.dtype, result, vector),
        (grad, lengths, offsets, begins, ends, weights, disorder, values),
        (items, S, B, T, D, *widths[:2], grad_row, grad_step, METHODS[name], block),
        items=items,
        weight=D * max(1, T // max(S, 1)),
        blocks=min(-(-items // block), 2**30),
        threads=256,
    )  # fmt: skip
    return Plan({"values": values}, [spans, collect], [begins, ends, weights, disorder])


def _rows(
    grad: Meta,
    src_times: Meta,
    tgt_times: Meta,
    lengths: Meta | None,
    offsets: Meta | None,
    latency: Meta | None,
) -> tuple[bool, int]:
    """Whether grad is [B, T, *F] and not [T, *F], and the number of rows."""
    counts: dict[str, int] = {}  # rows, by the argument that says so
    for name, x in (("src_times", src_times), ("tgt_times", tgt_times)):
        packed = name == "src_times" and offsets is not None
        if len(x.shape) not in ((1,) if packed else (1, 2)):
            expected = "one axis, with offsets" if packed else "one or two axes"
            raise ValueError(f"{name} has shape {x.shape}, expected {expected}")
        if len(x.shape) == 2:
            counts[name] = x.shape[0]
    for name, per_row in (("lengths", lengths), ("offsets", offsets), ("latency", latency)):
        if per_row is not None:
            if len(per_row.shape) != 1 or (name == "offsets" and per_row.shape[0] < 1):
                expected = "(B + 1,)" if name == "offsets" else "(B,)"
                raise ValueError(f"{name} has shape {per_row.shape}, expected {expected}")
            counts[name] = per_row.shape[0] - (name == "offsets")
    T = tgt_times.shape[-1]
    axes = len(grad.shape)
    batched = bool(counts)
    if not batched and axes >= 3:
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
    for name, count in counts.items():
        fits = count == rows or (count == 1 and name in ("src_times", "tgt_times"))
        if not fits:
            raise ValueError(f"{name} has {count} rows, expected {rows} for grad of {grad.shape}")
    return batched, rows
