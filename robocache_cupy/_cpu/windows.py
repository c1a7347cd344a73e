"""The definition of cuda_src/windows.cu."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from .._core.table import WINDOWS
from . import DType, inline, load, njit, row
from .locate import EMPTY, FILL, MEAN
from .part import (
    REFLECT,
    copy_bits,
    finish,
    is_wide,
    locate_part,
    of_precision,
    place_in,
    room_for,
    sample_part,
    size_of,
    write_part,
)
from .table import reader
from .time import DOUBLE, FLOAT, INT64, NAT, nat, seconds, upper_bound, zero

BOOL = DType("bool")
PREFETCHED = 2048  # bytes of a window: half or twice as many gain less
windows_table = reader(WINDOWS)


@inline
def episode_of(sample, offsets, width, episodes):
    """The episode of a sample: the last that begins at or before it."""
    lo, hi = 0, episodes
    while lo < hi:
        mid = lo + (hi - lo) // 2
        if load(offsets, width, mid, INT64) <= sample:
            lo = mid + 1
        else:
            hi = mid
    return lo - 1


def plus(t, duration, W):
    raise NotImplementedError


@overload(plus)
def _plus(t, duration, W):
    if W.dtype == "int64":
        return lambda t, duration, W: t if t == NAT else t + duration
    return lambda t, duration, W: t + duration


@inline
def mirrored_index(i, n):
    """Sample i of n, mirrored at the first and last of them as often as it takes."""
    period = 2 * (n - 1)
    if period == 0:
        return 0
    k = i % period
    return k if k < n else period - k


@intrinsic
def _prefetch(typingctx, address):
    """Of any address: it never faults."""

    def codegen(context, builder, signature, args):
        pointer, number = context.get_value_type(types.voidptr), ir.IntType(32)
        function = builder.module.declare_intrinsic(
            "llvm.prefetch",
            [pointer],
            ir.FunctionType(ir.VoidType(), [pointer, number, number, number]),
        )
        read, keep, data = number(0), number(3), number(1)
        builder.call(function, [builder.inttoptr(args[0], pointer), read, keep, data])
        return context.get_dummy_value()

    return types.void(types.intp), codegen


@inline
def prefetch(at, header, stream, parts, first_part, a, T):
    """Have the processor fetch the samples of a window while it makes the one before: anchors lie
    anywhere in gigabytes. A batch takes 8.0 ms by index, and 10.5 without this; 21.4 by time, and
    24.6 without."""
    anchor = load(at[header.anchors], 4 if header.narrow_anchors else 8, a, INT64)
    if stream.times:
        stamp_bytes = stream.src_step * (4 if stream.flags & 1 else 8)
        _prefetch(at[stream.times] + anchor * stamp_bytes)
    for p in range(first_part, first_part + stream.parts):
        step = parts[p].data_step * size_of(parts[p].x)
        first = at[parts[p].data] + anchor * step
        for line in range(first, first + min(T * step, PREFETCHED), 64):
            _prefetch(line)


@inline
def in_a_row(at, stream, part):
    """Whether, by index, the samples of a window lie side by side and are copied as they are."""
    if at[stream.times] != 0 or part.x != part.y or part.groups != 1 or part.column != 0:
        return False
    if part.rotation or at[part.affine] != 0:
        return False
    deltas = row(at[stream.deltas], 0, stream.targets, INT64)
    for k in range(1, stream.targets):
        if deltas[k] != deltas[0] + k:
            return False
    return part.width == part.data_step and part.width == part.out_step


@njit(known={"PLAIN": 2})
def windows(table, lo, hi, W, SIZE, LEVEL, CLASS, CODE, PLAIN):
    at, headers, constants, streams, parts = windows_table(table, W, SIZE)
    header = headers[0]
    anchors_count, ticks = header.anchors_count, header.ticks
    kept = room_for()
    room = kept.ctypes.data
    memory = place_in(table, 0, INT64), place_in(constants.ctypes.data, 0, INT64)
    s, first_part, before_stream, hint = 0, 0, 0, 0
    searched, anchor, episode, first, n = -1, 0, 0, 0, 0  # of the window before
    a, k, T, together = 0, -1, 0, False
    i, count = lo - 1, 1
    while i + count < hi:
        i, k, count = i + count, k + count, 1
        while i >= before_stream + anchors_count * streams[s].targets:
            finish(parts, memory, True, room, LEVEL)
            before_stream += anchors_count * streams[s].targets
            first_part += streams[s].parts
            s, hint = s + 1, 0
        stream = streams[s]
        item = i - before_stream
        if k >= T or item == 0:
            T = np.int64(stream.targets)
            a, k = item // T, item % T
            if item == 0 or i == lo:  # another stream
                together = stream.parts == 1 and in_a_row(at, stream, parts[first_part])
        flags, size = stream.flags, stream.samples
        offsets, stamps = at[stream.offsets], at[stream.times]
        offsets_width, stamp_width = 4 if flags & 4 else 8, 4 if flags & 1 else 8
        if searched != before_stream + a * T:  # another window
            searched = before_stream + a * T
            anchor = 0
            if header.anchors:
                anchor = load(at[header.anchors], 4 if header.narrow_anchors else 8, a, INT64)
            if header.episodes:
                episode = load(at[header.episodes], 4 if header.narrow_episodes else 8, a, INT64)
            else:
                episode = episode_of(anchor, offsets, offsets_width, stream.src_row_or_episodes)
            known = 0 <= episode < stream.src_row_or_episodes
            first, n = 0, 0
            if known:
                first = min(max(load(offsets, offsets_width, episode, INT64), 0), size)
                n = load(offsets, offsets_width, episode + 1, INT64) - first
                n = min(max(n, 0), size - first)
            hint = 0
            if header.anchors and 0 <= anchor - first < n:
                hint = anchor - first + 1
            if header.anchors and a + 1 < anchors_count:
                prefetch(at, header, stream, parts, first_part, a + 1, T)
        if together:  # what is left of the window, if it all exists: a third less to execute
            sample = anchor + row(at[stream.deltas], 0, T, INT64)[k] - first
            rest = min(T - k, hi - i)
            if 0 <= sample <= n - rest:  # a sum of sample and rest might overflow
                part = parts[first_part]
                copy_bits(
                    part.x, at[part.data], (first + sample) * part.data_step,
                    at[part.out], item * part.out_step, rest * part.width,
                )  # fmt: skip
                if stream.valid:
                    row(at[stream.valid], item, rest, BOOL)[:] = False
                count = rest
                continue
        q, start, late, ok, j = nat(W), nat(W), stream.latency, False, 0
        if stamps != 0:
            if stream.latencies:
                per_anchor = load(at[stream.latencies], 4 if flags & 8 else 8, a, DOUBLE)
                late = seconds(per_anchor, ticks, W)
            if header.anchor_times:
                width = 4 if header.narrow_anchor_times else 8
                start = load(at[header.anchor_times], width, a, W)
            elif 0 <= anchor < size:
                start = load(stamps, stamp_width, anchor * stream.src_step, W)
            deltas = row(at[stream.deltas], 0, T, W)
            q = plus(start, deltas[k], W)
        clock = (stamps, first * stream.src_step, np.int64(stream.src_step), stamp_width, zero(W),
                 0.0, ticks, late, 0)  # fmt: skip
        if PLAIN > 2:  # as in windows.cu
            clock = (stamps, np.int64(first), np.int64(1), np.int64(PLAIN), zero(W), 0.0, ticks,
                     zero(W), 0)  # fmt: skip
        if stamps != 0:
            hint = j = upper_bound(clock, n, q, hint, W)
        for p in range(first_part, first_part + stream.parts):
            part = parts[p]
            y = item * part.out_step
            wide = is_wide(part.x) or is_wide(part.y)
            if stamps == 0:
                sample = anchor + row(at[stream.deltas], 0, T, INT64)[k] - first
                ok = 0 <= sample < n
                code, x0 = -1, 0
                if part.fill and not ok:
                    code = FILL
                elif n == 0:
                    code = EMPTY
                else:
                    if flags & REFLECT:
                        sample = mirrored_index(sample, n)
                    sample = min(max(sample, 0), n - 1)
                    x0 = (first + sample) * part.data_step
                if code < 0 and part.x == part.y and part.groups == 1 and not (
                    part.rotation or at[part.affine] != 0
                ):  # fmt: skip
                    d = np.int64(part.column)
                    copy_bits(part.x, at[part.data], x0 + d, at[part.out], y + d, part.width)
                else:
                    sample_precisely(part, memory, x0, code, y, room, wide, LEVEL)
            else:
                before, after = nat(W), nat(W)
                if part.method >= MEAN:
                    deltas = row(at[stream.deltas], 0, T, W)
                    if k > 0:
                        before = plus(start, deltas[k - 1], W)
                    if k + 1 < T:
                        after = plus(start, deltas[k + 1], W)
                origin = first * part.data_step
                target = (clock, n, before, q, after, j, True)
                flag = at[stream.valid] + item if stream.valid else np.int64(0)
                place = (clock, n, origin, y, flag)
                ok = make_precisely(
                    stream, parts, p, memory, target, place, room, wide, W, LEVEL
                )  # fmt: skip
            if stream.valid:
                padding = row(at[stream.valid], item, 1, BOOL)
                padding[0] = not ok or (p > first_part and padding[0])
    finish(parts, memory, True, room, LEVEL)
    kept[0] = 0  # an array lives until its last use


# In double precision or in single, as far as the level leaves both.


def sample_precisely(part, memory, x0, code, y, room, wide, LEVEL):
    raise NotImplementedError


@overload(sample_precisely)
def _sample_precisely(part, memory, x0, code, y, room, wide, LEVEL):
    def both(part, memory, x0, code, y, room, wide, LEVEL):
        if wide:
            sample_part(part, memory, x0, code, y, room, DOUBLE, LEVEL)
        else:
            sample_part(part, memory, x0, code, y, room, FLOAT, LEVEL)

    def single(part, memory, x0, code, y, room, wide, LEVEL):
        sample_part(part, memory, x0, code, y, room, FLOAT, LEVEL)

    def double(part, memory, x0, code, y, room, wide, LEVEL):
        sample_part(part, memory, x0, code, y, room, DOUBLE, LEVEL)

    return of_precision(LEVEL, both, single, double)


def make_precisely(stream, parts, p, memory, target, place, room, wide, W, LEVEL):
    raise NotImplementedError


@overload(make_precisely)
def _make_precisely(stream, parts, p, memory, target, place, room, wide, W, LEVEL):
    def both(stream, parts, p, memory, target, place, room, wide, W, LEVEL):
        if wide:
            return made(stream, parts, p, memory, target, place, room, DOUBLE, W, LEVEL)
        return made(stream, parts, p, memory, target, place, room, FLOAT, W, LEVEL)

    def single(stream, parts, p, memory, target, place, room, wide, W, LEVEL):
        return made(stream, parts, p, memory, target, place, room, FLOAT, W, LEVEL)

    def double(stream, parts, p, memory, target, place, room, wide, W, LEVEL):
        return made(stream, parts, p, memory, target, place, room, DOUBLE, W, LEVEL)

    return of_precision(LEVEL, both, single, double)


@inline
def made(stream, parts, p, memory, target, place, room, C, W, LEVEL):
    found = locate_part(stream, parts[p], target, C, W, LEVEL)
    return write_part(parts, p, memory, found, place, True, room, C, W, LEVEL) and found[3]
