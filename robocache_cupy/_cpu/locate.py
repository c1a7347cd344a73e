"""What a target is made of, and the copying of samples."""

from numba.extending import overload

from . import computed, inline, narrow, widen
from .time import elapsed, first_at, is_nan, stamp, within

# The codes of methods and edges; robocache_cupy/resample.py and cuda_src/resample.cu have them too.
(
    LINEAR, NEAREST, PREVIOUS, NEXT, CATMULL_ROM, PCHIP, AKIMA, MAKIMA, MEAN, SUM, MAX, MIN, ANY
) = range(13)  # fmt: skip
HOLD, CONSTANT, EXTRAPOLATE = range(3)

# What a target without a sample gets.
EMPTY, NAN, LEFT, RIGHT, FILL = range(5)


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
