"""The definition of cuda_src/interp.cu."""

import numpy as np

from . import DType, computed, inline, itemsize, narrow, njit, of_bits, row, widen
from .time import DOUBLE, INT64, position, stamp, upper_bound

# The types a number can be read from, in the order of their codes: robocache_cupy/interp.py and
# cuda_src/interp.cu have them too.
FLOAT, HALF, BFLOAT, BOOL = DType("float32"), DType("float16"), DType("bfloat16"), DType("bool")
INT8, INT16, INT32 = DType("int8"), DType("int16"), DType("int32")
UINT8, UINT16 = DType("uint8"), DType("uint16")
UINT32, UINT64 = DType("uint32"), DType("uint64")
BLOCK = 64  # targets that are searched for together


@inline
def element(p, i, T):
    return np.float64(widen(row(p, i, 1, T)[0], T, DOUBLE))


@inline
def number(p, code, i):
    """Element i of an array of any type."""
    if code == 0:
        return element(p, i, DOUBLE)
    if code == 1:
        return element(p, i, FLOAT)
    if code == 2:
        return element(p, i, HALF)
    if code == 3:
        return element(p, i, BFLOAT)
    if code == 4:
        return element(p, i, BOOL)
    if code == 5:
        return element(p, i, INT8)
    if code == 6:
        return element(p, i, INT16)
    if code == 7:
        return element(p, i, INT32)
    if code == 8:
        return element(p, i, INT64)
    if code == 9:
        return element(p, i, UINT8)
    if code == 10:
        return element(p, i, UINT16)
    if code == 11:
        return element(p, i, UINT32)
    return element(p, i, UINT64)


@inline
def wrapped(x, period):
    """The remainder of a division by a positive number, rounded down as in Python."""
    rest = np.fmod(x, period)
    if rest == 0:
        return 0.0
    return rest + period if rest < 0 else rest


@njit
def knots(
    xp, out,
    items, S, xp_row, xp_step, xp_type, periodic, period,
    lo, hi,
):  # fmt: skip
    """xp as float64, within one period."""
    y = row(out, 0, hi, DOUBLE)
    for item in range(lo, hi):
        x = number(xp, xp_type, item // S * xp_row + item % S * xp_step)
        y[item] = wrapped(x, period) if periodic != 0 else x


@inline
def sample(k, n, periodic):
    """The sample at knot k: a period has one more knot at either end."""
    if periodic == 0:
        return k
    if k == 0:
        return n - 1
    return 0 if k == n + 1 else k - 1


@inline
def knot(clock, k, n, periodic, period):
    t = stamp(clock, sample(k, n, periodic), DOUBLE)
    if periodic != 0:
        if k == 0:
            return t - period
        if k == n + 1:
            return t + period
    return t


@inline
def value(fp, fp_type, at, step, clock, k, n, periodic, C):
    i = position(clock, sample(k, n, periodic))
    return computed(number(fp, fp_type, at + i * step), C, C)


@inline
def end(given, bits, fp, fp_type, at, step, clock, k, n, periodic, Y, C):
    """What stands beyond the knots: a constant, or the value of the last."""
    if given != 0:
        return of_bits(bits, Y)
    return narrow(value(fp, fp_type, at, step, clock, k, n, periodic, C), Y)


# Targets go in blocks, a step of the search for all of a block at a time: the loops are vectorised,
# and 10^7 targets in no order take 9 ns each where one after another they took 62.


@inline
def further(xp, S, count, x):
    """How many points are not after x, which `count` points are not."""
    step = 1
    while count + step <= S and xp[count + step - 1] <= x:
        count += step
        step *= 2
    end = min(count + step - 1, S)
    while count < end:
        middle = (count + end) >> 1
        if xp[middle] <= x:
            count = middle + 1
        else:
            end = middle
    return count


@inline
def count_not_after(xp, S, x, n, counts, hint):
    """`upper_bound` of n targets, and a hint for those that follow."""
    ascending = True
    for i in range(n - 1):
        ascending &= x[i] <= x[i + 1]
    first, end = 0, S
    if ascending:
        first = further(xp, S, hint if hint > 0 and xp[hint - 1] <= x[0] else 0, x[0])
        end = further(xp, S, first, x[n - 1])
    for i in range(n):
        counts[i] = first
    one, size = np.uint64(1), np.uint64(end - first)  # unsigned: an index that needs no check
    while size > 0:
        half = np.uint64(size + one) >> one
        for i in range(n):
            k = np.uint64(counts[i] + half)
            counts[i] = k if xp[np.uint64(k - one)] <= x[i] else counts[i]
        size = np.uint64(size - half)
    return end if ascending else 0


@inline
def on_lines(xp, fp, S, x, n, counts, y, left, right):
    """The results of n targets, by choices and without a branch."""
    one, last = np.uint64(1), np.uint64(S - 1)
    for i in range(n):
        u, count = x[i], counts[i]
        k = np.uint64(count - one) if count > 0 else count
        following = np.uint64(k + one) if k < last else k
        u0, u1, f0, f1 = xp[k], xp[following], fp[k], fp[following]
        slope = (f1 - f0) / (u1 - u0)
        f = slope * (u - u0) + f0
        from_above = slope * (u - u1) + f1
        from_above = f0 if (from_above != from_above) & (f0 == f1) else from_above
        f = f if f == f else from_above
        f = f0 if (k == last) | (u0 == u) else f
        f = left if count == 0 else f
        f = right if u > xp[last] else f
        y[i] = f if u == u else u


@inline
def interp_alike(x, xp, fp, out, T, S, x_row, x_step, xp_row, fp_row, left, left_bits, right,
                 right_bits, lo, hi, C):  # fmt: skip
    """`interp` of arrays of type C, with points side by side and without a period."""
    room = np.empty(2 * BLOCK, np.uint64)
    counts, q = room[:BLOCK], row(room.ctypes.data + 8 * BLOCK, 0, BLOCK, C)
    item, hint = lo, 0
    while item < hi:
        b, t = item // T, item % T
        n = min(min(BLOCK, T - t), hi - item)
        for i in range(n):
            q[i] = row(x, b * x_row + (t + i) * x_step, 1, C)[0]
        points, values = row(xp, b * xp_row, S, C), row(fp, b * fp_row, S, C)
        hint = count_not_after(points, S, q, n, counts, hint if t > 0 else 0)
        before = of_bits(left_bits, C) if left != 0 else values[0]
        beyond = of_bits(right_bits, C) if right != 0 else values[S - 1]
        on_lines(points, values, S, q, n, counts, row(out, item, n, C), before, beyond)
        item += n


@njit
def interp(
    x, xp, order, fp, rows, out,
    items, T, S, x_row, x_step, x_type, xp_row, xp_step, xp_width, fp_row, fp_step, fp_type,
    left, left_bits, right, right_bits, periodic, tile, period,
    lo, hi, Y, C, PLAIN,
):  # fmt: skip
    alike = x_type == fp_type == (0 if itemsize(C) == 8 else 1)  # and with fp the result
    if alike and xp_width == itemsize(C) and xp_step == fp_step == 1 and S > 1 and (
        rows == order == periodic == 0
    ):  # fmt: skip
        interp_alike(x, xp, fp, out, T, S, x_row, x_step, xp_row, fp_row, left, left_bits, right,
                     right_bits, lo, hi, C)  # fmt: skip
        return
    y = row(out, 0, hi, Y)
    hint, former, descents = 0, 0.0, 0
    b, t = lo // T, lo % T - 1
    for item in range(lo, hi):
        t += 1
        if t == T:
            b, t = b + 1, 0
        if t == 0:
            hint, descents = 0, 0
        x_at, xp_at, fp_at = b * x_row, b * xp_row, b * fp_row
        if rows != 0:
            at = row(rows, 3 * b, 3, INT64)
            x_at, xp_at, fp_at = at[0], at[1], at[2]
        ordered = order + 8 * xp_at if order != 0 else 0
        clock = (xp, xp_at, xp_step, xp_width, 0.0, 0.0, 1.0, 0.0, ordered)
        q = number(x, x_type, x_at + t * x_step)
        if periodic != 0:
            q = wrapped(q, period)
        last = S + 1 if periodic != 0 else S - 1
        if q != q and last > 0:
            y[item] = narrow(computed(q, C, C), Y)
            continue

        end_knot = knot(clock, last, S, periodic, period)
        # Targets in no order gain nothing from the one before, which costs a branch.
        descents += np.int64(q < former)
        former = q
        hint = upper_bound(clock, S, q, hint if descents < 8 else 0, DOUBLE)
        k = hint - 1
        if periodic != 0:
            k = hint + 1 if end_knot <= q else hint
        if q > end_knot:
            y[item] = end(right, right_bits, fp, fp_type, fp_at, fp_step, clock, last, S, periodic,
                          Y, C)  # fmt: skip
            continue
        if last == 0:  # numpy.interp asks the other way round here: NaN gives the value
            if q < end_knot:
                y[item] = end(left, left_bits, fp, fp_type, fp_at, fp_step, clock, 0, S, periodic,
                              Y, C)  # fmt: skip
            else:
                y[item] = narrow(value(fp, fp_type, fp_at, fp_step, clock, 0, S, periodic, C), Y)
            continue
        if k < 0:
            y[item] = end(left, left_bits, fp, fp_type, fp_at, fp_step, clock, 0, S, periodic,
                          Y, C)  # fmt: skip
            continue
        before = knot(clock, k, S, periodic, period)
        f0 = value(fp, fp_type, fp_at, fp_step, clock, k, S, periodic, C)
        if k == last or before == q:
            y[item] = narrow(f0, Y)
            continue
        after = knot(clock, k + 1, S, periodic, period)
        f1 = value(fp, fp_type, fp_at, fp_step, clock, k + 1, S, periodic, C)
        u, u0, u1 = computed(q, C, C), computed(before, C, C), computed(after, C, C)
        slope = (f1 - f0) / (u1 - u0)
        f = slope * (u - u0) + f0
        if f != f:  # from the other end it may be a number
            f = slope * (u - u1) + f1
            if f != f and f0 == f1:
                f = f0
        y[item] = narrow(f, Y)
