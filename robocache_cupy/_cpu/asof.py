"""The definition of cuda_src/asof.cu."""

from . import load, njit, row
from .time import INT32, elapsed, first_at, is_nan, row_of, stamp, upper_bound, within

# The codes of directions; robocache_cupy/asof.py and cuda_src/asof.cu have them too.
BACKWARD, FORWARD, NEAREST = range(3)


@njit(known={"PLAIN": 0})
def asof_index(
    src, lengths, offsets, tgt, index,
    S, src_row, src_step, src_width, lengths_width, offsets_width,
    items, T, tgt_row, tgt_step, tgt_width, direction, exact, tolerance,
    lo, hi, W, PLAIN, TILED,
):  # fmt: skip
    if PLAIN > 0:  # as in asof.cu
        lengths = offsets = 0
        src_step = tgt_step = exact = 1
        src_width = tgt_width = PLAIN
        direction = BACKWARD
    found = row(index, 0, hi, INT32)
    hint = 0
    for item in range(lo, hi):
        b, t = item // T, item % T
        if t == 0:
            hint = 0
        _, n, keys = row_of(
            b, S, src, lengths, offsets, 0, src_row, src_step, src_width,
            lengths_width, offsets_width, 8, 0, 0, 0.0, 1.0, 0, W,
        )  # fmt: skip
        q = load(tgt, tgt_width, b * tgt_row + t * tgt_step, W)
        found[item] = -1
        if n == 0 or is_nan(q, W):
            continue
        hint = upper_bound(keys, n, q, hint, W)
        before, after = hint - 1, hint
        if hint > 0 and stamp(keys, before, W) == q:
            first = first_at(keys, hint, q, W)
            if exact != 0:
                found[item] = first if direction == FORWARD else before
                continue
            before = first - 1
        behind = direction != FORWARD and before >= 0
        if behind:
            since = elapsed(q, stamp(keys, before, W), W)
        ahead = direction != BACKWARD and after < n
        if ahead:
            key = stamp(keys, after, W)
            ahead = not is_nan(key, W)
            until = elapsed(key, q, W)
        if behind and ahead:
            ahead = until < since  # a tie goes backward
        if ahead:
            if within(until, tolerance, W):
                found[item] = after
        elif behind and within(since, tolerance, W):
            found[item] = before
