"""The definition of cuda_src/pose.cu."""

import numpy as np

from . import DType, computed, inline, load, narrow, njit, row, widen
from .rotation import (
    BLOCK,
    NUMBERS,
    as_stored,
    between_pairs,
    dot,
    get_result,
    in_order,
    set_pair,
)

INT64 = DType("int64")


@inline
def read_four(x, offset, X):
    q = row(x, offset, 4, X)
    return widen(q[0], X, X), widen(q[1], X, X), widen(q[2], X, X), widen(q[3], X, X)


@njit
def slerp(
    q0, q1, t, out,
    items, axes, size1, size2, size3,
    q0_step0, q0_step1, q0_step2, q0_step3, q1_step0, q1_step1, q1_step2, q1_step3,
    t_step0, t_step1, t_step2, t_step3, out_step0, out_step1, out_step2, out_step3,
    kind, flags, t_all,
    lo, hi, X, T, V,
):  # fmt: skip
    w = computed(t_all, X, X)
    numbers = np.full(NUMBERS * BLOCK, w)
    places = np.empty(BLOCK, np.int64)
    for first in range(lo, hi, BLOCK):
        n = min(BLOCK, hi - first)
        for k in range(n):
            item = first + k
            i0, i1, i2, i3 = 0, 0, 0, item
            if axes > 1:
                lines = item // size3
                planes = lines // size2
                i0 = planes // size1
                i1, i2, i3 = planes - i0 * size1, lines - planes * size2, item - lines * size3
            at0 = i0 * q0_step0 + i1 * q0_step1 + i2 * q0_step2 + i3 * q0_step3
            at1 = i0 * q1_step0 + i1 * q1_step1 + i2 * q1_step2 + i3 * q1_step3
            places[k] = i0 * out_step0 + i1 * out_step1 + i2 * out_step2 + i3 * out_step3
            if t != 0:
                at_t = i0 * t_step0 + i1 * t_step1 + i2 * t_step2 + i3 * t_step3
                w = computed(widen(row(t, at_t, 1, T)[0], T, T), X, X)
            a, b = in_order(kind, read_four(q0, at0, X)), in_order(kind, read_four(q1, at1, X))
            set_pair(numbers, k, a, b, w)
        between_pairs(numbers, n, flags)
        for k in range(n):
            q = as_stored(kind, get_result(numbers, k)[0])
            y = row(out, places[k], 4, X)
            y[0], y[1] = narrow(q[0], X), narrow(q[1], X)
            y[2], y[3] = narrow(q[2], X), narrow(q[3], X)


@njit
def unwrap(
    quat, lengths, out, B, S, row_step, step, out_row, out_step, lengths_width, lo, hi, X, V
):
    for b in range(lo, hi):
        n = S
        if lengths != 0:
            n = min(max(load(lengths, lengths_width, b, INT64), 0), S)
        flipped = False
        before = read_four(quat, b * row_step, X)
        for s in range(S):
            x = row(quat, b * row_step + s * step, 4, X)
            y = row(out, b * out_row + s * out_step, 4, X)
            q = (widen(x[0], X, X), widen(x[1], X, X), widen(x[2], X, X), widen(x[3], X, X))
            if s > 0 and s < n and dot(q, before) < 0:  # NaN flips nothing
                flipped = not flipped
            before = q
            if flipped and s < n:
                y[0], y[1] = narrow(-q[0], X), narrow(-q[1], X)
                y[2], y[3] = narrow(-q[2], X), narrow(-q[3], X)
            else:
                y[0], y[1], y[2], y[3] = x[0], x[1], x[2], x[3]
