"""The definition of cuda_src/resample.cu.

Clocks are computed in a wide type W: int64 for integer clocks, whose differences are exact, and
double for float clocks. A stamp that is NaN or NaT counts as later than everything, so that a
padded tail needs no length.
"""

import numpy as np
from numba import types
from numba.extending import overload

from . import DType, computed, inline, load, narrow, njit, of_bits, row, widen

# The codes of methods and edges; robocache_cupy/resample.py and cuda_src/resample.cu have them too.
LINEAR, NEAREST, PREVIOUS, NEXT = range(4)
HOLD, CONSTANT, EXTRAPOLATE = range(3)

# What a target without a sample gets.
EMPTY, NAN, LEFT, RIGHT, FILL = range(5)

NAT = np.int64(-(2**63))
BOOL, INT32, INT64 = DType("bool"), DType("int32"), DType("int64")
FLOAT, DOUBLE = DType("float32"), DType("float64")


def is_nan(t, W):
    raise NotImplementedError


@overload(is_nan)
def _is_nan(t, W):
    if W.dtype == "int64":
        return lambda t, W: t == NAT
    return lambda t, W: t != t


def nat(W):
    """No time."""
    raise NotImplementedError


@overload(nat)
def _nat(W):
    if W.dtype == "int64":
        return lambda W: NAT
    return lambda W: np.nan


def minus(t, duration, W):
    """A time earlier by a duration."""
    raise NotImplementedError


@overload(minus)
def _minus(t, duration, W):
    if W.dtype == "int64":
        return lambda t, duration, W: t if t == NAT else t - duration
    return lambda t, duration, W: t - duration


def elapsed(later, earlier, W):
    """The duration between two times in order; unsigned integers, which cannot overflow."""
    raise NotImplementedError


@overload(elapsed)
def _elapsed(later, earlier, W):
    if W.dtype == "int64":
        return lambda later, earlier, W: np.uint64(later) - np.uint64(earlier)
    return lambda later, earlier, W: later - earlier


def within(duration, limit, W):
    """Whether a duration keeps a limit, where a negative limit is none."""
    raise NotImplementedError


@overload(within)
def _within(duration, limit, W):
    if W.dtype == "int64":
        return lambda duration, limit, W: limit < 0 or duration <= np.uint64(limit)
    return lambda duration, limit, W: limit < 0 or duration <= limit


def grid_point(start, k, hz, ticks, width, W):
    """Point k of a uniform clock: never accumulated, rounded once to a tick."""
    raise NotImplementedError


@overload(grid_point)
def _grid_point(start, k, hz, ticks, width, W):
    if W.dtype == "int64":

        def integer_point(start, k, hz, ticks, width, W):
            if start == NAT:
                return start
            return start + np.int64(np.rint(np.float64(k) * ticks / hz))

        return integer_point

    def float_point(start, k, hz, ticks, width, W):
        point = start + np.float64(k) * ticks / hz
        return np.float64(np.float32(point)) if width == 4 else point

    return float_point


def seconds(duration, ticks, W):
    """A duration in seconds as one in ticks."""
    raise NotImplementedError


@overload(seconds)
def _seconds(duration, ticks, W):
    if W.dtype == "int64":
        return lambda duration, ticks, W: np.int64(np.rint(duration * ticks))
    return lambda duration, ticks, W: duration * ticks


@inline
def position(clock, i):
    """Where the i-th sample in time stands."""
    order = clock[8]
    return i if order == 0 else load(order, 8, i, INT64)


@inline
def stamp(clock, i, W):
    """The effective time of the i-th sample: its stamp less the latency."""
    stamps, first, step, width, start, hz, ticks, latency, _ = clock
    i = position(clock, i)
    if stamps == 0:
        return minus(grid_point(start, i, hz, ticks, width, W), latency, W)
    return minus(load(stamps, width, first + i * step, W), latency, W)


@inline
def not_after(clock, i, q, W):
    t = stamp(clock, i, W)
    return not is_nan(t, W) and t <= q


@inline
def upper_bound(clock, n, q, hint, W):
    """The number of samples not after q. `hint` is an answer for a target close by."""
    lo, hi = 0, n
    if clock[0] == 0:  # a uniform clock needs no search, only a correction of the guess
        guess = (np.float64(q) - np.float64(stamp(clock, 0, W))) * clock[5] / clock[6]
        j = np.int64(min(max(guess, 0.0), np.float64(n))) if guess == guess else 0
        while j < n and not_after(clock, j, q, W):
            j += 1
        while j > 0 and not not_after(clock, j - 1, q, W):
            j -= 1
        return j
    if 0 < hint <= n and not_after(clock, hint - 1, q, W):
        lo, stride = hint, 1
        while lo + stride <= n:  # sorted targets advance by little
            if not not_after(clock, lo + stride - 1, q, W):
                hi = lo + stride - 1
                break
            lo += stride
            stride *= 2
    while lo < hi:
        mid = lo + (hi - lo) // 2
        if not_after(clock, mid, q, W):
            lo = mid + 1
        else:
            hi = mid
    return lo


@inline
def first_at(clock, j, q, W):
    """The first of the samples stamped q, of which j - 1 is the last."""
    lo, hi = 0, j - 1
    while lo < hi:
        mid = lo + (hi - lo) // 2
        if stamp(clock, mid, W) < q:
            lo = mid + 1
        else:
            hi = mid
    return lo


@inline
def real_samples(clock, n, W):
    """The number of samples before the NaN tail."""
    lo, hi = 0, n
    while lo < hi:
        mid = lo + (hi - lo) // 2
        if is_nan(stamp(clock, mid, W), W):
            hi = mid
        else:
            lo = mid + 1
    return lo


@inline
def ratio(part, whole, X, Y):
    return computed(part, X, Y) / computed(whole, X, Y)


@inline
def locate(clock, n, q, j, method, left, right, tolerance, nearness, max_gap, X, Y, W):
    """What target q is made of, where j samples are not after it.

    Returns (i0, i1, w, valid): y[i0] + w * (y[i1] - y[i0]), the sample y[i0] itself where w is 0,
    or the constant with the code -1 - i0.
    """
    zero = computed(0, X, Y)
    has_before = j > 0
    has_after = j < n and not is_nan(stamp(clock, j, W), W)
    if not (has_before or has_after):
        return -1 - EMPTY, 0, zero, False
    if is_nan(q, W):
        return -1 - NAN, 0, zero, False

    if has_before:
        before = stamp(clock, j - 1, W)
        if before == q:
            return (first_at(clock, j, q, W) if method == NEXT else j - 1), 0, zero, True
    if has_after:
        after = stamp(clock, j, W)

    if has_before and has_after:
        gap = elapsed(after, before, W)
        bridged = within(gap, max_gap, W)
        if method == LINEAR:
            w = ratio(elapsed(q, before, W), gap, X, Y)
            if w == 1:
                return j, 0, zero, bridged
            return j - 1, j, w, bridged
        since, until = elapsed(q, before, W), elapsed(after, q, W)
        if method == PREVIOUS or (method == NEAREST and since <= until):  # a tie: the earlier
            return j - 1, 0, zero, bridged and within(since, nearness, W)
        return j, 0, zero, bridged and within(until, nearness, W)

    if has_after:  # before the first sample
        distance = elapsed(after, q, W)
        if method == NEXT:  # looks ahead, which is no extrapolation
            near = within(distance, nearness, W) and within(distance, max_gap, W)
            return j, 0, zero, near
        valid = within(distance, tolerance, W)
        if left == CONSTANT and not valid:
            return -1 - LEFT, 0, zero, False
        if left == EXTRAPOLATE and method == LINEAR and n > 1:
            second = stamp(clock, 1, W)
            if not is_nan(second, W) and second > after:
                return 0, 1, -ratio(distance, elapsed(second, after, W), X, Y), valid
        return 0, 0, zero, valid

    distance = elapsed(q, before, W)  # after the last sample
    if method == PREVIOUS:
        near = within(distance, nearness, W) and within(distance, max_gap, W)
        return j - 1, 0, zero, near
    valid = within(distance, tolerance, W)
    if right == CONSTANT and not valid:
        return -1 - RIGHT, 0, zero, False
    if right == EXTRAPOLATE and method == LINEAR and j > 1:
        second = stamp(clock, j - 2, W)
        if second < before:
            w = ratio(elapsed(q, second, W), elapsed(before, second, W), X, Y)
            return (j - 1, 0, zero, valid) if w == 1 else (j - 2, j - 1, w, valid)
    return j - 1, 0, zero, valid


def store_time(times, width, i, t, W):
    raise NotImplementedError


@overload(store_time)
def _store_time(times, width, i, t, W):
    half = INT32 if W.dtype == "int64" else FLOAT
    stored = np.int32 if W.dtype == "int64" else np.float32

    def implementation(times, width, i, t, W):
        if width == 8:
            row(times, i, 1, W)[0] = t
        else:
            row(times, i, 1, half)[0] = stored(t)

    return implementation


def store_weight(weight, i, w):
    raise NotImplementedError


@overload(store_weight)
def _store_weight(weight, i, w):
    dtype = DOUBLE if w == types.float64 else FLOAT

    def implementation(weight, i, w):
        row(weight, i, 1, dtype)[0] = w

    return implementation


def copy(x, y, n, X, Y):
    """The bits of a sample, or its values in another dtype."""
    raise NotImplementedError


@overload(copy)
def _copy(x, y, n, X, Y):
    def bits(x, y, n, X, Y):
        for d in range(n):
            y[d] = x[d]

    def values(x, y, n, X, Y):
        for d in range(n):
            y[d] = narrow(widen(x[d], X, Y), Y)

    return bits if X.dtype == Y.dtype else values


@inline
def row_of(b, S, src_times, lengths, offsets, latencies, src_row, src_step, src_width,
           lengths_width, offsets_width, latencies_width, latency, src_start, src_hz, ticks, order,
           W):  # fmt: skip
    """Row b: where its samples start among those of the batch row, how many they are, its clock."""
    first, n = 0, S
    if offsets != 0:
        first = min(max(load(offsets, offsets_width, b, INT64), 0), S)
        n = min(max(load(offsets, offsets_width, b + 1, INT64) - first, 0), S - first)
    elif lengths != 0:
        n = min(max(load(lengths, lengths_width, b, INT64), 0), S)
    late = latency
    if latencies != 0:
        late = seconds(load(latencies, latencies_width, b, DOUBLE), ticks, W)
    ordered = 0
    if order != 0:
        ordered = order + 8 * (first if offsets != 0 else b * S)
    clock = (src_times, b * src_row + first * src_step, src_step, src_width, src_start, src_hz,
             ticks, late, ordered)  # fmt: skip
    return first, n, clock


@njit
def resample(
    data, src_times, order, lengths, offsets, latencies, tgt_times, tgt_lengths,
    out, valid, index, weight, times,
    S, src_row, src_step, src_width, lengths_width, offsets_width, latencies_width,
    items, T, D, data_row, data_step, tgt_row, tgt_step, out_row, out_step,
    tgt_width, tgt_lengths_width,
    method, left, right, left_bits, right_bits, nan_bits, fill, fill_bits, from_first, tile,
    latency, src_start, src_hz, ticks, tolerance, nearness, max_gap, t_start, hz,
    lo, hi, X, Y, W, V, PLAIN,
):  # fmt: skip
    hint = 0
    for item in range(lo, hi):
        b, t = item // T, item % T
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
                    u, v = widen(x0[d], X, Y), widen(x1[d], X, Y)
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
