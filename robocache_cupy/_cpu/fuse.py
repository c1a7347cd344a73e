"""The definition of cuda_src/fuse.cu."""

import numpy as np
from numba.extending import overload

from .._core.table import FUSE
from . import DType, inline, load, njit, row
from .locate import MEAN
from .part import (
    finish,
    is_wide,
    locate_part,
    of_precision,
    place_in,
    room_for,
    write_part,
)
from .table import reader, stream_row
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
    stamp,
    store_time,
    upper_bound,
)

BOOL = DType("bool")
fuse_table = reader(FUSE)


@inline
def target_time(at, header, b, t, W):
    width = 4 if header.narrow_targets else 8
    if header.tgt_times:
        return load(at[header.tgt_times], width, b * header.tgt_row + t * header.tgt_step, W)
    start = header.t_start
    if header.starts:
        start = row(at[header.starts], b, 1, W)[0]
    return grid_point(start, t, header.hz, header.ticks, width, W)


@njit
def fuse(table, lo, hi, W, SIZE, LEVEL, CLASS, CODE, PLAIN):
    _, headers, _, streams, parts = fuse_table(table, W, SIZE)
    items, first_part = headers[0].items, np.int64(0)
    room = room_for()
    for s in range(headers[0].streams):
        begin, end = max(lo - s * items, 0), min(hi - s * items, items)
        if begin < end and streams[s].parts > 0:
            part, place = parts[first_part], room.ctypes.data
            wide = is_wide(part.x) or is_wide(part.y)
            fuse_precisely(table, s, first_part, begin, end, place, wide, W, SIZE, LEVEL)
        first_part += streams[s].parts
    room[0] = 0  # an array lives until its last use


def fuse_precisely(table, s, first_part, begin, end, room, wide, W, SIZE, LEVEL):
    """In double precision or in single, as far as the level leaves both."""
    raise NotImplementedError


@overload(fuse_precisely)
def _fuse_precisely(table, s, first_part, begin, end, room, wide, W, SIZE, LEVEL):
    def both(table, s, first_part, begin, end, room, wide, W, SIZE, LEVEL):
        if wide:
            fuse_stream(table, s, first_part, begin, end, room, DOUBLE, W, SIZE, LEVEL)
        else:
            fuse_stream(table, s, first_part, begin, end, room, FLOAT, W, SIZE, LEVEL)

    def single(table, s, first_part, begin, end, room, wide, W, SIZE, LEVEL):
        fuse_stream(table, s, first_part, begin, end, room, FLOAT, W, SIZE, LEVEL)

    def double(table, s, first_part, begin, end, room, wide, W, SIZE, LEVEL):
        fuse_stream(table, s, first_part, begin, end, room, DOUBLE, W, SIZE, LEVEL)

    return of_precision(LEVEL, both, single, double)


@inline
def fuse_stream(table, s, first_part, begin, end, room, C, W, SIZE, LEVEL):
    at, headers, constants, streams, parts = fuse_table(table, W, SIZE)
    header, stream = headers[0], streams[s]
    memory = place_in(table, 0, INT64), place_in(constants.ctypes.data, 0, INT64)
    T, j = np.int64(stream.targets), np.int64(0)
    b, t = begin // T, begin % T - 1
    first, n, clock = stream_row(at, constants, stream, b, header.ticks, W)
    for item in range(begin, end):
        t += 1
        if t == T:
            b, t, j = b + 1, np.int64(0), np.int64(0)
            first, n, clock = stream_row(at, constants, stream, b, header.ticks, W)
        q = target_time(at, header, b, t, W)
        real = T  # targets
        if header.tgt_lengths:
            real = load(at[header.tgt_lengths], 4 if header.narrow_tgt_lengths else 8, b, INT64)
        if t < real:
            j = upper_bound(clock, n, q, j, W)
        flag = np.int64(0)
        if stream.valid:
            flag = at[stream.valid] + item
            if header.valid_step:
                flag = at[stream.valid] + item * header.valid_step + header.first_stream + s
        for p in range(first_part, first_part + stream.parts):
            part = parts[p]
            if p == first_part or part.method != parts[p - 1].method:
                before, after = nat(W), nat(W)
                if part.method >= MEAN:  # a grid goes on beyond its ends
                    if t > 0 or not header.tgt_times:
                        before = target_time(at, header, b, t - 1, W)
                    if t + 1 < real or not header.tgt_times:
                        after = target_time(at, header, b, t + 1, W)
                target = (clock, n, before, q, after, j, t < real)
                found = locate_part(stream, part, target, C, W, LEVEL)
            start = b * part.data_row + first * part.data_step
            y = item * part.out_step
            if header.out_row != 0:
                y = b * header.out_row + t * part.out_step
            y += part.out_column
            ok = found[3]
            if flag:  # before anything waits that may change it
                valid = row(flag, 0, 1, BOOL)
                valid[0] = ok and (p == first_part or valid[0])
            place = (clock, n, start, y, flag)
            if not write_part(parts, p, memory, found, place, False, room, C, W, LEVEL) and flag:
                row(flag, 0, 1, BOOL)[0] = False
            if p == first_part:
                if header.index:
                    i0 = found[0]
                    index = position(clock, i0) if i0 >= 0 else np.int64(-1)
                    row(at[header.index], item, 1, INT32)[0] = index
                    row(at[header.weight], item, 1, C)[0] = found[2]
                if header.times:
                    store_time(at[header.times], 4 if header.narrow_targets else 8, item, q, W)
    finish(parts, memory, False, room, LEVEL)


@njit
def overlap(table, lo, hi, W, SIZE):
    """Where the grid of each row begins: at the latest of the streams' first stamps, or at the
    earliest for a hull. found[0]: how many points the longest row has."""
    at, headers, constants, streams, _ = fuse_table(table, W, SIZE)
    header = headers[0]
    points = 0
    for b in range(header.items):
        start, end = nat(W), nat(W)
        if header.chained:  # more streams than a table holds
            start = row(at[header.starts], b, 1, W)[0]
            end = row(at[header.ends], b, 1, W)[0]
        for s in range(header.streams):
            _, n, clock = stream_row(at, constants, streams[s], b, header.ticks, W)
            last = n
            if n > 0 and is_nan(stamp(clock, n - 1, W), W):
                last = real_samples(clock, n, W)
            if last == 0:
                continue
            first_stamp, last_stamp = stamp(clock, 0, W), stamp(clock, last - 1, W)
            if is_nan(start, W) or (first_stamp < start if header.hull else first_stamp > start):
                start = first_stamp
            if is_nan(end, W) or (last_stamp > end if header.hull else last_stamp < end):
                end = last_stamp
        if header.starts:
            row(at[header.starts], b, 1, W)[0] = start
        if header.ends:
            row(at[header.ends], b, 1, W)[0] = end
        if header.given_start:
            start = header.t_start
        if not is_nan(start, W) and end >= start:
            span = np.float64(elapsed(end, start, W)) * header.hz / header.ticks
            points = max(points, np.int64(np.floor(span + 1e-6)) + 1)
    if header.found:
        row(at[header.found], 0, 1, INT64)[0] = points
