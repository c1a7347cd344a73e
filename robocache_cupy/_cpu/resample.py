"""The definition of cuda_src/resample.cu."""

import numpy as np
from numba import types
from numba.extending import overload

from . import DType, computed, inline, load, narrow, njit, of_bits, operand, row
from .locate import EMPTY, FILL, HOLD, LEFT, LINEAR, NAN, RIGHT, copy, locate
from .time import (
    DOUBLE,
    FLOAT,
    INT32,
    INT64,
    elapsed,
    grid_point,
    is_nan,
    nat,
    position,
    real_samples,
    row_of,
    stamp,
    store_time,
    upper_bound,
    zero,
)

BOOL = DType("bool")


def store_weight(weight, i, w):
    raise NotImplementedError


@overload(store_weight)
def _store_weight(weight, i, w):
    dtype = DOUBLE if w == types.float64 else FLOAT

    def implementation(weight, i, w):
        row(weight, i, 1, dtype)[0] = w

    return implementation


@njit(known={"PLAIN": 1})
def resample(
    data, src_times, order, lengths, offsets, latencies, tgt_times, tgt_lengths,
    out, valid, index, weight, times,
    S, src_row, src_step, src_width, lengths_width, offsets_width, latencies_width,
    items, T, D, data_row, data_step, tgt_row, tgt_step, out_row, out_step,
    tgt_width, tgt_lengths_width,
    method, left, right, left_bits, right_bits, nan_bits, fill, fill_bits, from_first, tile,
    latency, src_start, src_hz, ticks, tolerance, nearness, max_gap, t_start, hz,
    lo, hi, X, Y, W, V, PLAIN, FEW,
):  # fmt: skip
    if PLAIN > 1:  # as in resample.cu
        order = lengths = offsets = latencies = tgt_lengths = valid = index = times = 0
        src_step = tgt_step = 1
        src_width = tgt_width = PLAIN
        method, left, right, fill = LINEAR, HOLD, HOLD, 0
        latency, max_gap = zero(W), zero(W) - 1
    hint = 0
    b, t = lo // T, lo % T - 1
    for item in range(lo, hi):
        t += 1
        if t == T:
            b, t = b + 1, 0
        if t == 0:
            hint = 0
        first, n, clock = row_of(
            b, S, src_times, lengths, offsets, latencies, src_row, src_step, src_width,
            lengths_width, offsets_width, latencies_width, latency, src_start, src_hz, ticks, order,
            W,
        )  # fmt: skip
        if tgt_times != 0:
            q = load(tgt_times, tgt_width, b * tgt_row + t * tgt_step, W)
        else:
            start = t_start
            if from_first != 0:
                start = stamp(clock, 0, W) if n > 0 else nat(W)
            q = grid_point(start, t, hz, ticks, tgt_width, W)
        if times != 0:
            store_time(times, tgt_width, item, q, W)

        if tgt_lengths != 0 and t >= load(tgt_lengths, tgt_lengths_width, b, INT64):
            i0, i1, w, ok = -1 - EMPTY, 0, computed(0, X, Y), False
        else:
            hint = upper_bound(clock, n, q, hint, W)
            i0, i1, w, ok = locate(
                clock, n, q, hint, method, left, right, tolerance, nearness, max_gap, X, Y, W
            )
        if fill != 0 and not ok:
            i0, w = -1 - FILL, computed(0, X, Y)
        if i0 >= 0:
            i0, i1 = position(clock, i0), position(clock, i1)

        y = row(out, b * out_row + t * out_step, D, Y)
        if i0 < 0:
            bits = 0
            if i0 == -1 - NAN:
                bits = nan_bits
            elif i0 == -1 - LEFT:
                bits = left_bits
            elif i0 == -1 - RIGHT:
                bits = right_bits
            elif i0 == -1 - FILL:
                bits = fill_bits
            constant = of_bits(bits, Y)
            for d in range(D):
                y[d] = constant
        else:
            start_of_row = b * data_row + first * data_step
            x0 = row(data, start_of_row + i0 * data_step, D, X)
            if w == 0:
                copy(x0, y, D, X, Y)
            else:
                x1 = row(data, start_of_row + i1 * data_step, D, X)
                for d in range(D):
                    u, v = operand(x0[d], X, Y), operand(x1[d], X, Y)
                    y[d] = narrow(u + w * (v - u), Y)

        if valid != 0:
            row(valid, item, 1, BOOL)[0] = ok
        if index != 0:
            row(index, item, 1, INT32)[0] = max(i0, -1)
            store_weight(weight, item, w)


@inline
def comes_before(clock, i, k, W):
    """Whether sample i sorts before sample k: by time, NaN last, then by position."""
    s, t = stamp(clock, i, W), stamp(clock, k, W)
    s_nan, t_nan = is_nan(s, W), is_nan(t, W)
    if s_nan or t_nan:
        return (t_nan and not s_nan) or (s_nan == t_nan and i < k)
    return s < t or (s == t and i < k)


@njit
def argsort(
    src_times, order, lengths, offsets, latencies,
    S, src_row, src_step, src_width, lengths_width, offsets_width, latencies_width,
    B,
    latency, src_start, src_hz, ticks,
    lo, hi, W,
):  # fmt: skip
    """The positions of each row's samples in the order of their stamps."""
    for b in range(lo, hi):
        first, n, clock = row_of(
            b, S, src_times, lengths, offsets, latencies, src_row, src_step, src_width,
            lengths_width, offsets_width, latencies_width, latency, src_start, src_hz, ticks, 0, W,
        )  # fmt: skip
        positions = row(order, first if offsets != 0 else b * S, n, INT64)
        for i in range(n):
            positions[i] = i
        spare = np.empty(n, np.int64)
        run = 1
        while run < n:  # merge neighbouring runs
            for start in range(0, n, 2 * run):
                i, middle, end = start, min(start + run, n), min(start + 2 * run, n)
                k = middle
                for target in range(start, end):
                    if k == end or (i < middle and not comes_before(
                        clock, positions[k], positions[i], W
                    )):  # fmt: skip
                        spare[target] = positions[i]
                        i += 1
                    else:
                        spare[target] = positions[k]
                        k += 1
            positions[:] = spare
            run *= 2


@njit
def survey(
    src_times, order, lengths, offsets, latencies, found,
    S, src_row, src_step, src_width, lengths_width, offsets_width, latencies_width,
    B, check, from_first,
    latency, src_start, src_hz, ticks, t_start, hz,
    lo, hi, W,
):  # fmt: skip
    """found[0]: the first sample out of order, as b * S + i, or -1. found[1]: how many points a
    grid needs to reach the last sample of every row."""
    disorder, points = -1, 0
    for b in range(B):
        _, n, clock = row_of(
            b, S, src_times, lengths, offsets, latencies, src_row, src_step, src_width,
            lengths_width, offsets_width, latencies_width, latency, src_start, src_hz, ticks, order,
            W,
        )  # fmt: skip
        if check != 0:
            for i in range(1, n):
                t, before = stamp(clock, i, W), stamp(clock, i - 1, W)
                backward = is_nan(before, W) if not is_nan(t, W) else False
                if (backward or t < before) and not is_nan(t, W):
                    if disorder < 0:
                        disorder = b * S + i
                    break
        last = n
        if n > 0 and is_nan(stamp(clock, n - 1, W), W):
            last = real_samples(clock, n, W)
        if hz > 0 and last > 0:
            start = stamp(clock, 0, W) if from_first != 0 else t_start
            end = stamp(clock, last - 1, W)
            if not end < start:
                span = np.float64(elapsed(end, start, W)) * hz / ticks
                points = max(points, np.int64(np.floor(span + 1e-6)) + 1)
    numbers = row(found, 0, 2, INT64)
    numbers[0], numbers[1] = disorder, points
