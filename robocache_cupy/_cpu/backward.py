"""The definition of cuda_src/backward.cu."""

import numpy as np
from numba.extending import overload

from . import computed, computes_double, inline, load, narrow, njit, row, widen
from .locate import EXTRAPOLATE, LINEAR, MEAN, NEAREST, locate
from .time import (
    DOUBLE,
    FLOAT,
    INT32,
    INT64,
    interval,
    is_nan,
    minus,
    nat,
    row_of,
    stamp,
    upper_bound,
)

TILE = 255  # targets of a block of `spans`, also in robocache_cupy/backward.py and the .cu


@inline
def span_of(
    clock, n, tgt_times, tgt_width, at, step, t, T, method, left, right, fill,
    tolerance, nearness, max_gap, C, W,
):  # fmt: skip
    """The samples [a, b) that target t uses, and the weight w.

    The mean weighs each by w. Other methods weigh sample a by 1 - w and the one behind it by w.
    Spans of ascending targets ascend, at both ends.
    """
    zero, one = computed(0, C, C), computed(1, C, C)
    q = load(tgt_times, tgt_width, at + t * step, W)
    if n == 0 or is_nan(q, W):
        return n, n, zero
    if method == MEAN:
        before, after = nat(W), nat(W)
        if t > 0:
            before = load(tgt_times, tgt_width, at + (t - 1) * step, W)
        if t + 1 < T:
            after = load(tgt_times, tgt_width, at + (t + 1) * step, W)
        a, b = interval(clock, n, before, q, after, W)
        if a < b:
            return a, b, one / computed(b - a, C, C)
    j = upper_bound(clock, n, q, 0, W)
    by = NEAREST if method == MEAN else method
    beyond = minus(tolerance, tolerance, W) if method == MEAN else tolerance
    i0, i1, w, ok = locate(
        clock, n, q, j, by, left, right, beyond, nearness, max_gap, C, C, W,
    )  # fmt: skip
    if method == MEAN:
        ok = False  # an interval without a sample
    if i0 < 0 or (fill != 0 and not ok):
        return j, j, zero
    if w != 0:
        return i0, i1 + 1, w
    if method == MEAN:
        return i0, i0 + 1, one
    # Beside extrapolated targets, which use two samples, the end must not use one and so break the
    # order: the other gets the weight 0.
    if method == LINEAR and left == EXTRAPOLATE and i0 == 0 and n > 1:
        return 0, 2, zero
    last = i0 + 1 == n or is_nan(stamp(clock, i0 + 1, W), W)
    if method == LINEAR and right == EXTRAPOLATE and i0 > 0 and last:
        return i0 - 1, i0 + 1, one
    return i0, i0 + 1, zero


@njit
def spans(
    src_times, lengths, offsets, latencies, tgt_times, begins, ends, weights, disorder,
    S, src_row, src_step, src_width, lengths_width, offsets_width, latencies_width,
    targets, T, tgt_row, tgt_step, tgt_width, method, left, right, fill,
    latency, ticks, tolerance, nearness, max_gap,
    lo, hi, C, W,
):  # fmt: skip
    """The span of each target; disorder: whether spans do not ascend, for each tile of targets."""
    for part in range(lo, hi):
        begin = part * TILE
        last_a, last_b = -1, -1
        descends = 0
        for item in range(max(begin - 1, 0), min(begin + TILE, targets)):
            b, t = item // T, item % T
            _, n, clock = row_of(
                b, S, src_times, lengths, offsets, latencies, src_row, src_step, src_width,
                lengths_width, offsets_width, latencies_width, latency, 0, 0.0, ticks, 0, W,
            )  # fmt: skip
            first, end, w = span_of(
                clock, n, tgt_times, tgt_width, b * tgt_row, tgt_step, t, T, method, left, right,
                fill, tolerance, nearness, max_gap, C, W,
            )  # fmt: skip
            if item >= begin:
                row(begins, item, 1, INT32)[0] = first
                row(ends, item, 1, INT32)[0] = end
                row(weights, item, 1, C)[0] = w
                if t > 0 and (first < last_a or end < last_b):
                    descends = 1
            last_a, last_b = first, end
        row(disorder, part, 1, INT32)[0] = descends


@inline
def first_above(values, T, s):
    """The first of ascending numbers that is greater than s."""
    lo, hi = 0, T
    while lo < hi:
        mid = lo + (hi - lo) // 2
        if values[mid] > s:
            hi = mid
        else:
            lo = mid + 1
    return lo


@inline
def row_of_sample(offsets, offsets_width, B, i):
    """The row that sample i of a packed batch is in; -1 or B outside them."""
    lo, hi = 0, B + 1
    while lo < hi:
        mid = lo + (hi - lo) // 2
        if load(offsets, offsets_width, mid, INT64) > i:
            hi = mid
        else:
            lo = mid + 1
    return lo - 1


def zeros(n, X, Y):
    """Zeros of the type that is computed with."""
    raise NotImplementedError


@overload(zeros)
def _zeros(n, X, Y):
    of = np.float64 if computes_double(X.dtype, Y.dtype) else np.float32
    return lambda n, X, Y: np.zeros(n, of)


def number(address, i, X, Y):
    """Element i of an array of the type that is computed with."""
    raise NotImplementedError


@overload(number)
def _number(address, i, X, Y):
    if computes_double(X.dtype, Y.dtype):
        return lambda address, i, X, Y: row(address, i, 1, DOUBLE)[0]
    return lambda address, i, X, Y: row(address, i, 1, FLOAT)[0]


@njit
def collect(
    grad, lengths, offsets, begins, ends, weights, disorder, out,
    items, S, B, T, D, lengths_width, offsets_width, grad_row, grad_step, method, block,
    lo, hi, X, Y, V,
):  # fmt: skip
    """The gradient of each sample: the sum over its targets, in their order."""
    total = zeros(D, X, Y)
    ordered, order_of = False, -1
    for item in range(lo, hi):
        b, s, n = item // max(S, 1), item % max(S, 1), S
        if offsets != 0:
            b = row_of_sample(offsets, offsets_width, B, item)
            if 0 <= b < B:
                first = min(max(load(offsets, offsets_width, b, INT64), 0), S)
                n = min(max(load(offsets, offsets_width, b + 1, INT64) - first, 0), S - first)
                s = item - first
        elif lengths != 0:
            n = min(max(load(lengths, lengths_width, b, INT64), 0), S)
        total[:] = 0
        if 0 <= b < B and s < n and T > 0:
            first_of, end_of = row(begins, b * T, T, INT32), row(ends, b * T, T, INT32)
            if order_of != b:
                order_of, ordered = b, True
                parts = row(disorder, 0, (b * T + T - 1) // TILE + 1, INT32)
                for part in range(b * T // TILE, len(parts)):
                    ordered = ordered and parts[part] == 0
            begin, end = 0, T
            if ordered:
                begin, end = first_above(end_of, T, s), first_above(first_of, T, s)
            for t in range(begin, end):
                if first_of[t] > s or end_of[t] <= s:
                    continue
                w = number(weights, b * T + t, X, Y)
                if method != MEAN and first_of[t] == s:
                    w = computed(1, X, Y) - w
                if w == 0:
                    continue
                g = row(grad, b * grad_row + t * grad_step, D, X)
                for d in range(D):
                    total[d] += w * widen(g[d], X, Y)
        y = row(out, item * D, D, Y)
        for d in range(D):
            y[d] = narrow(total[d], Y)
