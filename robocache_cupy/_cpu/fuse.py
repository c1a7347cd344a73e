"""The definition of cuda_src/fuse.cu."""

import numpy as np

from .._core.table import FUSE
from . import DType, inline, load, njit, row
from .locate import MEAN
from .part import is_wide, make_part, room_for
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
    at, headers, constants, streams, parts = fuse_table(table, W, SIZE)
    header = headers[0]
    items, ticks = header.items, header.ticks
    room = room_for()
    s, first_part, j, b, t, T = 0, 0, 0, 0, -1, 0
    for k in range(lo, hi):
        while k >= (s + 1) * items:
            first_part += streams[s].parts
            s, j = s + 1, 0
        stream = streams[s]
        item = k - s * items
        t += 1
        if t >= T or item == 0:
            T = np.int64(stream.targets)
            b, t = item // T, item % T
        if t == 0:
            j = 0
        first, n, clock = stream_row(at, constants, stream, b, ticks, W)
        q = target_time(at, header, b, t, W)
        end = T
        if header.tgt_lengths:
            end = load(at[header.tgt_lengths], 4 if header.narrow_tgt_lengths else 8, b, INT64)
        if t < end:
            j = upper_bound(clock, n, q, j, W)
        for p in range(first_part, first_part + stream.parts):
            part = parts[p]
            before, after = nat(W), nat(W)
            if part.method >= MEAN:  # a grid goes on beyond its ends
                if t > 0 or not header.tgt_times:
                    before = target_time(at, header, b, t - 1, W)
                if t + 1 < end or not header.tgt_times:
                    after = target_time(at, header, b, t + 1, W)
            start = b * part.data_row + first * part.data_step
            y = item * part.out_step
            if header.out_row != 0:
                y = b * header.out_row + t * part.out_step
            y += part.out_column
            memory = (at[part.data], at[part.out], at[part.affine], constants)
            target = (clock, n, before, q, after, j, t < end, start, y)
            if is_wide(part.x) or is_wide(part.y):
                index, w, ok = make_part(stream, part, memory, target, room, DOUBLE, W, LEVEL)
            else:
                index, w, ok = make_part(stream, part, memory, target, room, FLOAT, W, LEVEL)
            if stream.valid:
                place = item
                if header.valid_step:
                    place = item * header.valid_step + header.first_stream + s
                valid = row(at[stream.valid], place, 1, BOOL)
                valid[0] = ok and (p == first_part or valid[0])
            if p == first_part:
                if header.index:
                    row(at[header.index], item, 1, INT32)[0] = index
                    if is_wide(part.x) or is_wide(part.y):
                        row(at[header.weight], item, 1, DOUBLE)[0] = w
                    else:
                        row(at[header.weight], item, 1, FLOAT)[0] = w
                if header.times:
                    store_time(at[header.times], 4 if header.narrow_targets else 8, item, q, W)


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
