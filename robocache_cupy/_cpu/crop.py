"""The definition of cuda_src/crop.cu."""

import numpy as np

from . import DType, inline, njit, row
from .cloud import (
    INT64,
    TILE,
    UINT8,
    cloud_of,
    coordinate,
    count_of,
    load_points,
    masked,
    room,
    transform_of,
)

INT32 = DType("int32")


@njit
def crop_points(table, lo, hi, P):
    cloud = cloud_of(table)
    most, box = cloud.most, cloud.lattice
    points, at = room((3, TILE), P), transform_of(cloud, 0, P)
    if cloud.moved != 0:
        row(cloud.moved, lo, hi - lo, UINT8)[:] = 0
    x0, y0, z0 = coordinate(box[0], P), coordinate(box[1], P), coordinate(box[2], P)
    x1, y1, z1 = coordinate(box[3], P), coordinate(box[4], P), coordinate(box[5], P)
    begin = lo
    while begin < hi:
        b = begin // most
        end = min(hi, (b + 1) * most)
        for start in range(begin, end, TILE):
            n, first = min(TILE, end - start), start - b * most
            x, y, z = points[0, :n], points[1, :n], points[2, :n]
            load_points(cloud, at, b, first, x, y, z, P)
            inside = row(cloud.out, start, n, UINT8)
            for i in range(n):
                inside[i] = (
                    (x[i] >= x0) & (x[i] < x1) & (y[i] >= y0) & (y[i] < y1)
                    & (z[i] >= z0) & (z[i] < z1)
                )  # fmt: skip
            for i in range(max(count_of(cloud, b) - first, 0), n):
                inside[i] = 0
            if cloud.mask != 0:
                for i in range(n):
                    if masked(cloud, b, first + i):
                        inside[i] = 0
        begin = end


@inline
def mixed(x):
    x = np.uint32(x)
    x ^= x >> np.uint32(16)
    x = np.uint32(x * np.uint32(0x7FEB352D))
    x ^= x >> np.uint32(15)
    x = np.uint32(x * np.uint32(0x846CA68B))
    return np.uint32(x ^ (x >> np.uint32(16)))


@inline
def low_word(x):
    return np.uint32(x & 0xFFFFFFFF)


@inline
def shuffled(i, n, seed, cloud):
    """Number i of a random order of 0 .. n - 1: a Feistel network permutes the numbers of an even
    count of bits, and is applied until its result is less than n."""
    half = 4
    while 1 << 2 * half < n:
        half += 1
    mask = low_word((1 << half) - 1)
    high = low_word(low_word(seed >> 32) + np.int64(0x9E3779B9))
    key = mixed(low_word(seed) ^ mixed(high) ^ mixed(low_word(cloud + 0x85EBCA6B)))
    while True:
        left, right = low_word(i >> half), low_word(i) & mask
        for step in range(4):
            round_key = mixed(low_word(np.int64(key) + step))
            left, right = (
                right,
                left ^ (mixed(low_word(np.int64(right) + np.int64(round_key))) & mask),
            )
        i = (np.int64(left) << half) | np.int64(right)
        if i < n:
            return i


@njit
def draw_points(table, lo, hi):
    cloud = cloud_of(table)
    most, samples = cloud.most, cloud.out_batch
    for b in range(lo, hi):
        marked = row(cloud.mask, b * most, most, UINT8)
        points = row(cloud.sorted, b * most, most, INT32)
        out = row(cloud.out, b * samples, samples, INT64)
        n = 0
        for i in range(most):
            points[n] = i  # kept where it is marked
            n += marked[i] != 0
        for k in range(samples):
            out[k] = points[shuffled(k, n, cloud.one, b)] if k < n else -1
