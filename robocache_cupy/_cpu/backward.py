"""The definition of cuda_src/backward.cu."""

import numpy as np
from numba.extending import overload

from . import computed, computes_double, inline, load, narrow, njit, row, widen
from .locate import (
    CATMULL_ROM,
    EXTRAPOLATE,
    HOLD,
    LINEAR,
    MAKIMA,
    MEAN,
    NEAREST,
    PCHIP,
    SUM,
    locate,
)
from .part import _equal
from .time import (
    DOUBLE,
    FLOAT,
    INT32,
    INT64,
    elapsed,
    grid_point,
    interval,
    is_nan,
    minus,
    nat,
    position,
    row_of,
    seconds,
    stamp,
    upper_bound,
)
from .windows import episode_of, mirrored_index, plus

TILE = 255  # targets of a block of `spans`, also in robocache_cupy/backward.py and the .cu

# What a target gives to the samples [a, b) that it uses, as shares of its gradient by its weight w:
# to the first and the one behind it, or the same to each; of a curve to the two values, to the
# slope at the first and to that at the one behind it, in the length of the interval.
LINE, EVEN, CURVE, RISE, FALL = range(5)


@inline
def target_time(times, width, at, starts, b, t, from_first, first, t_start, hz, ticks, W):
    """Target t of row b: given, or on a grid."""
    if times != 0:
        return load(times, width, at, W)
    start = t_start
    if starts != 0:
        start = load(starts, width, b, W)
    elif from_first != 0:
        start = first
    return grid_point(start, t, hz, ticks, width, W)


@inline
def span_of(
    clock, n, before, q, after, method, left, right, fill, tolerance, nearness, max_gap, C, W,
):  # fmt: skip
    """The samples [a, b) that a target at q uses, and the weight w.

    The mean and the sum weigh each by w. Other methods weigh sample a by 1 - w and the one behind
    it by w, or as a curve does. Spans of ascending targets ascend, at both ends.
    """
    zero, one = computed(0, C, C), computed(1, C, C)
    if n == 0 or is_nan(q, W):
        return n, n, zero
    if method >= MEAN:
        a, b = interval(clock, n, before, q, after, 0, W)
        if a < b:
            return a, b, one / computed(b - a, C, C) if method == MEAN else one
        if method == SUM:
            return b, b, zero
    j = upper_bound(clock, n, q, 0, W)
    by = method
    if method >= CATMULL_ROM:
        by = NEAREST if method == MEAN else LINEAR
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
    if by == LINEAR and left == EXTRAPOLATE and i0 == 0 and n > 1:
        return 0, 2, zero
    last = i0 + 1 == n or is_nan(stamp(clock, i0 + 1, W), W)
    if by == LINEAR and right == EXTRAPOLATE and i0 > 0 and last:
        return i0 - 1, i0 + 1, one
    return i0, i0 + 1, zero


@njit
def spans(
    src_times, order, lengths, offsets, latencies, tgt_times, starts, tgt_lengths,
    begins, ends, weights, disorder,
    S, src_row, src_step, src_width, lengths_width, offsets_width, latencies_width, one_row,
    targets, T, tgt_row, tgt_step, tgt_width, tgt_lengths_width,
    method, left, right, fill, from_first,
    latency, src_start, src_hz, ticks, tolerance, nearness, max_gap, t_start, hz,
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
                0 if one_row != 0 else b, S, src_times, lengths, offsets, latencies, src_row,
                src_step, src_width, lengths_width, offsets_width, latencies_width, latency,
                src_start, src_hz, ticks, order, W,
            )  # fmt: skip
            end_of_row = T
            if tgt_lengths != 0:
                end_of_row = load(tgt_lengths, tgt_lengths_width, b, INT64)
            start, before, after = nat(W), nat(W), nat(W)
            if from_first != 0 and n > 0:
                start = stamp(clock, 0, W)
            at = b * tgt_row + t * tgt_step
            q = target_time(tgt_times, tgt_width, at, starts, b, t, from_first, start, t_start, hz,
                            ticks, W)  # fmt: skip
            if method >= MEAN:  # a grid goes on beyond its ends
                if t > 0 or tgt_times == 0:
                    before = target_time(tgt_times, tgt_width, at - tgt_step, starts, b, t - 1,
                                         from_first, start, t_start, hz, ticks, W)  # fmt: skip
                if t + 1 < end_of_row or tgt_times == 0:
                    after = target_time(tgt_times, tgt_width, at + tgt_step, starts, b, t + 1,
                                        from_first, start, t_start, hz, ticks, W)  # fmt: skip
            first, end, w = n, n, computed(0, C, C)
            if t < end_of_row:
                first, end, w = span_of(
                    clock, n, before, q, after, method, left, right, fill, tolerance, nearness,
                    max_gap, C, W,
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


@inline
def place_of(item, S, B, lengths, offsets, lengths_width, offsets_width, one_row):
    """The row of a sample, its number there, and how many there are; none outside the rows."""
    b, i = item // max(S, 1), item % max(S, 1)
    n = S
    if offsets != 0:
        if one_row == 0:
            b, i = row_of_sample(offsets, offsets_width, B, item), item
        n = 0
        if 0 <= b < B:
            r = 0 if one_row != 0 else b
            first = min(max(load(offsets, offsets_width, r, INT64), 0), S)
            n = min(max(load(offsets, offsets_width, r + 1, INT64) - first, 0), S - first)
            i -= first
    elif lengths != 0:
        r = 0 if one_row != 0 else b
        n = min(max(load(lengths, lengths_width, r, INT64), 0), S)
    return b, i, n if i >= 0 else 0


def zeros(n, X, Y):
    """Zeros of the type that is computed with."""
    raise NotImplementedError


@overload(zeros)
def _zeros(n, X, Y):
    of = np.float64 if computes_double(X.dtype, Y.dtype) else np.float32
    return lambda n, X, Y: np.zeros(n, of)


def numbers(address, i, n, X, Y):
    """n elements of an array of the type that is computed with."""
    raise NotImplementedError


@overload(numbers)
def _numbers(address, i, n, X, Y):
    if computes_double(X.dtype, Y.dtype):
        return lambda address, i, n, X, Y: row(address, i, n, DOUBLE)
    return lambda address, i, n, X, Y: row(address, i, n, FLOAT)


@inline
def share_of(share, leads, w, X, Y):
    """What a target of weight w gives to a sample that leads its span, or does not."""
    zero, one = computed(0, X, Y), computed(1, X, Y)
    if share == EVEN:
        return w
    if share == LINE:
        return one - w if leads else w
    v, ww = one - w, w * w
    if share == RISE:
        return w * (v * v) if leads else zero
    if share == FALL:
        return zero if leads else -(ww * v)
    c = ww * (computed(3, X, Y) - computed(2, X, Y) * w)
    return one - c if leads else c


@njit
def collect(
    grad, tgt_order, order, lengths, offsets, begins, ends, weights, disorder, out,
    items, S, B, T, D, lengths_width, offsets_width, one_row, grad_row, grad_step, share, block,
    lo, hi, X, Y, V,
):  # fmt: skip
    """The gradient of each sample: the sum over its targets, in their order."""
    total = zeros(D, X, Y)
    ordered, order_of = False, -1
    for item in range(lo, hi):
        b, s, n = place_of(item, S, B, lengths, offsets, lengths_width, offsets_width, one_row)
        total[:] = 0
        at = item
        if 0 <= b < B and s < n:
            if order != 0:
                of = item % S if one_row != 0 else item
                at = item - s + row(order, of, 1, INT64)[0]
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
                w = numbers(weights, b * T + t, 1, X, Y)[0]
                w = share_of(share, first_of[t] == s, w, X, Y)
                if w == 0:
                    continue
                k = row(tgt_order, t, 1, INT64)[0] if tgt_order != 0 else t
                g = row(grad, b * grad_row + k * grad_step, D, X)
                for d in range(D):
                    total[d] += w * widen(g[d], X, Y)
        y = row(out, at * D, D, Y)
        for d in range(D):
            y[d] = narrow(total[d], Y)


# ------------------------------------------------------------------------------------------ curves


@inline
def sign(x, C):
    return computed((x > 0) - (x < 0), C, C)


@inline
def at_the_end_by(a, b, wa, wb, C):
    """The partial derivatives of `at_the_end` in part.py by a and b."""
    zero, three = computed(0, C, C), computed(3, C, C)
    slope = wa * a - wb * b
    along = (slope > 0 and a > 0) or (slope < 0 and a < 0)
    opposed = not ((a > 0 and b > 0) or (a < 0 and b < 0) or (a == 0 and b == 0))
    if not along:
        return zero, zero
    if opposed and abs(slope) > three * abs(a):
        return three, zero
    return wa, -wb


@inline
def akima_by(m1, m2, m3, m4, modified, C):
    """The partial derivatives of `akima` in part.py."""
    zero, half = computed(0, C, C), computed(0.5, C, C)
    a, b = abs(m4 - m3), abs(m2 - m1)
    rise, fall = sign(m4 - m3, C), sign(m2 - m1, C)
    a4, a3, b2, b1 = rise, -rise, fall, -fall
    if modified:
        a, b = a + half * abs(m4 + m3), b + half * abs(m2 + m1)
        up, down = half * sign(m4 + m3, C), half * sign(m2 + m1, C)
        a4, a3, b2, b1 = a4 + up, a3 + up, b2 + down, b1 + down
    total = a + b
    largest = max(max(abs(m1), abs(m2)), max(abs(m3), abs(m4)))
    if total <= _equal(C) * largest:
        end = zero if modified else half
        return end, zero, zero, end
    slope = (a * m2 + b * m3) / total
    by_a, by_b = (m2 - slope) / total, (m3 - slope) / total
    return by_b * b1, a / total + by_b * b2, b / total + by_a * a3, by_a * a4


@inline
def slope_by(method, h1, h2, h3, h4, m1, m2, m3, m4, C):
    """The partial derivatives of the slope at a sample by those of the two intervals before and
    the two after it, of lengths h; 0 where there is none."""
    zero, one = computed(0, C, C), computed(1, C, C)
    two, three = computed(2, C, C), computed(3, C, C)
    before, after = h2 > 0, h3 > 0
    far_before, far_after = before and h1 > 0, after and h4 > 0
    if not (before or after):
        return zero, zero, zero, zero
    if not before and (method == CATMULL_ROM or not far_after):
        return zero, zero, one, zero
    if not after and (method == CATMULL_ROM or not far_before):
        return zero, one, zero, zero
    if method == CATMULL_ROM:
        return zero, h2 / (h2 + h3), h3 / (h2 + h3), zero
    if method == PCHIP:
        if not before:
            p3, p4 = at_the_end_by(m3, m4, (two * h3 + h4) / (h3 + h4), h3 / (h3 + h4), C)
            return zero, zero, p3, p4
        if not after:
            p2, p1 = at_the_end_by(m2, m1, (two * h2 + h1) / (h2 + h1), h2 / (h2 + h1), C)
            return p1, p2, zero, zero
        if m2 != m2 or m3 != m3:
            return zero, one, one, zero
        if not ((m2 > 0 and m3 > 0) or (m2 < 0 and m3 < 0)):
            return zero, zero, zero, zero
        whole = three * (h2 + h3)
        w2, w3 = (two * h3 + h2) / whole, (h3 + two * h2) / whole
        over2, over3 = one / (w3 * (m2 / m3) + w2), one / (w2 * (m3 / m2) + w3)  # slope / m
        return zero, w2 * over2 * over2, w3 * over3 * over3, zero
    # Beyond the ends the slopes go on as they changed last.
    if not before:
        m2 = two * m3 - m4
    if not after:
        m3 = two * m2 - m1
    if not far_before:
        m1 = two * m2 - m3
    if not far_after:
        m4 = two * m3 - m2
    p1, p2, p3, p4 = akima_by(m1, m2, m3, m4, method == MAKIMA, C)
    if not far_after:
        p3, p2, p4 = p3 + two * p4, p2 - p4, zero
    if not far_before:
        p2, p3, p1 = p2 + two * p1, p3 - p1, zero
    if not after:
        p2, p1, p3 = p2 + two * p3, p1 - p3, zero
    if not before:
        p3, p4, p2 = p3 + two * p2, p4 - p2, zero
    return p1, p2, p3, p4


@njit
def slopes(
    values, rises, falls, data, src_times, order, lengths, offsets, latencies, out,
    items, S, B, D, data_row, data_step, src_row, src_step, src_width, lengths_width,
    offsets_width, latencies_width, one_row, method, latency, src_start, src_hz, ticks,
    lo, hi, X, C, W,
):  # fmt: skip
    """The gradient of each sample of curves: that by its value, and those by the slopes at it and
    at the two samples on each side, through the intervals beside it."""
    zero = computed(0, C, C)
    h, m, y, at = zeros(8, C, C), zeros(8, C, C), zeros(9, C, C), np.zeros(9, np.int64)
    for item in range(lo, hi):
        b, s, n = place_of(item, S, B, lengths, offsets, lengths_width, offsets_width, one_row)
        if not (0 <= b < B and s < n):
            z = row(out, item * D, D, X)
            for d in range(D):
                z[d] = narrow(zero, X)
            continue
        first, _, clock = row_of(
            0 if one_row != 0 else b, S, src_times, lengths, offsets, latencies, src_row, src_step,
            src_width, lengths_width, offsets_width, latencies_width, latency, src_start, src_hz,
            ticks, order, W,
        )  # fmt: skip
        for i in range(9):  # the samples s - 4 to s + 4, and the intervals between them
            k = min(max(s - 4 + i, 0), n - 1)
            at[i] = b * data_row + (first + position(clock, k)) * data_step
        for i in range(8):
            k = s - 4 + i
            h[i] = zero
            if k >= 0 and k + 1 < n:
                t, u = stamp(clock, k, W), stamp(clock, k + 1, W)
                if not is_nan(u, W) and t < u:
                    h[i] = computed(elapsed(u, t, W), C, C)
        z = row(out, (item - s + position(clock, s)) * D, D, X)
        for d in range(D):
            if method >= PCHIP:
                for i in range(9):
                    y[i] = widen(row(data, at[i] + d, 1, X)[0], X, C)
                for i in range(8):
                    m[i] = (y[i + 1] - y[i]) / h[i] if h[i] > 0 else zero
            before, after = zero, zero  # by the slopes of the intervals beside the sample
            for k in range(2, 7):
                if not 0 <= s - 4 + k < n:
                    continue
                near = (item - 4 + k) * D + d
                rise = numbers(rises, near, 1, C, C)[0]
                fall = numbers(falls, near, 1, C, C)[0]
                by = zero
                if rise != 0:
                    by = by + rise * h[k]
                if fall != 0:
                    by = by + fall * h[k - 1]
                if by == 0:
                    continue
                p = slope_by(method, h[k - 2], h[k - 1], h[k], h[k + 1], m[k - 2], m[k - 1], m[k],
                             m[k + 1], C)  # fmt: skip
                if k < 6:
                    before = before + by * p[5 - k]
                if k > 2:
                    after = after + by * p[6 - k]
            total = numbers(values, item * D + d, 1, C, C)[0]
            if h[3] > 0:
                total = total + before / h[3]
            if h[4] > 0:
                total = total - after / h[4]
            z[d] = narrow(total, X)


# ----------------------------------------------------------------------------------------- windows


@njit
def window_spans(
    src_times, offsets, anchors, anchor_times, anchor_episode, latencies, deltas,
    begins, ends, weights,
    items, T, N, episodes, src_step, src_width, offsets_width, anchors_width, anchor_times_width,
    episodes_width, latencies_width, method, fill, reflect,
    latency, ticks, tolerance, nearness, max_gap,
    lo, hi, C, W,
):  # fmt: skip
    """The span of each element of each window, among the samples of all episodes; those of none
    are last. Spans that begin with the same sample end with the same, but for means and sums."""
    for item in range(lo, hi):
        a, k = item // T, item % T
        anchor = 0
        if anchors != 0:
            anchor = load(anchors, anchors_width, a, INT64)
        if anchor_episode != 0:
            episode = load(anchor_episode, episodes_width, a, INT64)
        else:
            episode = episode_of(anchor, offsets, offsets_width, episodes)
        first, n = 0, 0
        if 0 <= episode < episodes:
            first = min(max(load(offsets, offsets_width, episode, INT64), 0), N)
            n = min(max(load(offsets, offsets_width, episode + 1, INT64) - first, 0), N - first)
        begin, end, w = n, n, computed(0, C, C)
        if src_times == 0:
            sample = anchor + row(deltas, 0, T, INT64)[k] - first
            real = 0 <= sample < n
            if n > 0 and (real or fill == 0):
                if reflect != 0:
                    sample = mirrored_index(sample, n)
                begin = min(max(sample, 0), n - 1)
                end = begin + 1
        else:
            late = latency
            if latencies != 0:
                late = seconds(load(latencies, latencies_width, a, DOUBLE), ticks, W)
            clock = (src_times, first * src_step, src_step, src_width,
                     minus(tolerance, tolerance, W), 0.0, ticks, late, 0)  # fmt: skip
            start = nat(W)
            if anchor_times != 0:
                start = load(anchor_times, anchor_times_width, a, W)
            elif 0 <= anchor < N:
                start = load(src_times, src_width, anchor * src_step, W)
            steps = row(deltas, 0, T, W)
            before, after = nat(W), nat(W)
            if k > 0:
                before = plus(start, steps[k - 1], W)
            if k + 1 < T:
                after = plus(start, steps[k + 1], W)
            begin, end, w = span_of(
                clock, n, before, plus(start, steps[k], W), after, method, HOLD, HOLD, fill,
                tolerance, nearness, max_gap, C, W,
            )  # fmt: skip
            if begin < end and (method == LINEAR or CATMULL_ROM <= method < MEAN):
                end = min(begin + 2, n)
        if begin < end:
            begin, end = first + begin, first + end
        else:
            begin, end = N, N
        row(begins, item, 1, INT32)[0] = begin
        row(ends, item, 1, INT32)[0] = end
        row(weights, item, 1, C)[0] = w


@njit
def arrange(
    begins, ends, weights, order, sorted_begins, sorted_ends, sorted_weights, disorder,
    items,
    lo, hi, C,
):  # fmt: skip
    """The spans in this order; disorder: whether they do not ascend, for each tile of them."""
    a, b, c = row(begins, 0, items, INT32), row(ends, 0, items, INT32), row(weights, 0, items, C)
    of = row(order, 0, items, INT64)
    a1, b1 = row(sorted_begins, 0, items, INT32), row(sorted_ends, 0, items, INT32)
    c1, parts = row(sorted_weights, 0, items, C), row(disorder, 0, hi, INT32)
    for part in range(lo, hi):
        parts[part] = 0
        for item in range(part * TILE, min((part + 1) * TILE, items)):
            i = of[item]
            a1[item], b1[item], c1[item] = a[i], b[i], c[i]
            if item > 0 and (a[i] < a[of[item - 1]] or b[i] < b[of[item - 1]]):
                parts[part] = 1
