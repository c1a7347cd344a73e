"""Clocks, and the samples of a row in the order of time.

Clocks are computed in a wide type W: int64 for integer clocks, whose differences are exact, and
double for float clocks. A stamp that is NaN or NaT counts as later than everything, so that a
padded tail needs no length.
"""

import numpy as np
from numba.extending import overload

from . import DType, inline, load, row

NAT = np.int64(-(2**63))
INT32, INT64 = DType("int32"), DType("int64")
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


def zero(W):
    """No duration."""
    raise NotImplementedError


@overload(zero)
def _zero(W):
    of = getattr(np, W.dtype)
    return lambda W: of(0)


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


def reflected(t, other, W):
    """The time as far from t as another on the other side."""
    raise NotImplementedError


@overload(reflected)
def _reflected(t, other, W):
    if W.dtype == "int64":
        return lambda t, other, W: np.int64(np.uint64(t) + np.uint64(t) - np.uint64(other))
    return lambda t, other, W: t - (other - t)


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
    return (not is_nan(t, W)) & (t <= q)


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
    if 0 < hint <= n:
        if not not_after(clock, hint - 1, q, W):
            hi = hint - 1
        else:
            lo = hint
    stride = 1
    if lo > 0:
        while lo + stride <= n:  # sorted targets advance by little
            if not not_after(clock, lo + stride - 1, q, W):
                hi = lo + stride - 1
                break
            lo += stride
            stride *= 2
    while lo < hi:  # without a branch on the outcome, which no processor could foresee
        half = (hi - lo) >> 1
        more = np.int64(not_after(clock, lo + half, q, W))
        hi = lo + half + (hi - lo - half) * more
        lo += (half + 1) * more
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
def nearer(clock, i, a, b, W):
    """Whether a sample is nearer to a than to b > a; one at the middle is."""
    t = stamp(clock, i, W)
    near = t <= a or (t < b and elapsed(t, a, W) <= elapsed(b, t, W))
    return near and not is_nan(t, W)


@inline
def until_middle(clock, n, a, b, hint, W):
    """The number of samples that are nearer to a than to b. `hint` is a number close by."""
    lo, hi, stride = 0, n, 1
    if hint > 0 and not nearer(clock, hint - 1, a, b, W):
        hi = hint - 1
        while hi - stride >= 0:
            if nearer(clock, hi - stride, a, b, W):
                lo = hi - stride + 1
                break
            hi -= stride
            stride *= 2
    else:
        lo = hint
        while lo + stride <= n:
            if not nearer(clock, lo + stride - 1, a, b, W):
                hi = lo + stride - 1
                break
            lo += stride
            stride *= 2
    while lo < hi:
        mid = lo + (hi - lo) // 2
        if nearer(clock, mid, a, b, W):
            lo = mid + 1
        else:
            hi = mid
    return lo


@inline
def interval(clock, n, before, q, after, hint, W):
    """The samples [a, b) nearer to target q than to its neighbours, which are NaN where there are
    none: the interval of an outermost target is as wide outward as inward. A lone target has what
    is stamped with it. `hint`: a number of samples close by."""
    if is_nan(before, W) and is_nan(after, W):
        b = upper_bound(clock, n, q, hint, W)
        if b > 0 and stamp(clock, b - 1, W) == q:
            return first_at(clock, b, q, W), b
        return b, b
    left = reflected(q, after, W) if is_nan(before, W) else before
    right = reflected(q, before, W) if is_nan(after, W) else after
    return until_middle(clock, n, left, q, hint, W), until_middle(clock, n, q, right, hint, W)


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
