"""The definition of cuda_src/points.cu."""

import numpy as np
from numba import types
from numba.extending import overload

from . import DType, _bits_of_double, _bits_of_float, inline, load, njit, row, widen

_UINT8, _INT64 = DType("uint8"), DType("int64")

# How the first point is found; robocache_cupy/points.py and cuda_src/points.cu have them too.
FIRST, CENTROID, GIVEN = range(3)


def empty(shape, X):
    """Room for what is computed with from points of dtype X."""
    raise NotImplementedError


@overload(empty)
def _empty(shape, X):
    C = np.float64 if X.dtype == "float64" else np.float32
    return lambda shape, X: np.empty(shape, C)


def integers(shape, X):
    """Room for the bits of such numbers."""
    raise NotImplementedError


@overload(integers)
def _integers(shape, X):
    I = np.int64 if X.dtype == "float64" else np.int32
    return lambda shape, X: np.empty(shape, I)


def bits_of(x):
    """A number's bits, as a signed integer: of numbers that are not negative the order is kept,
    and LLVM finds the greatest of integers with vectors."""
    raise NotImplementedError


@overload(bits_of)
def _bits_of(x):
    if x == types.float64:
        return lambda x: np.int64(_bits_of_double(x))
    return lambda x: np.int32(_bits_of_float(x))


@inline
def count_of(b, N, lengths, lengths_width):
    if lengths == 0:
        return N
    return min(max(load(lengths, lengths_width, b, _INT64), 0), N)


@inline
def cloud_of(b, n, points, mask, points_batch, points_row, mask_row, mask_step, X):
    """The coordinates [3, n] of a cloud, 0 for points not to be chosen, and which may be."""
    at = empty((3, n), X)
    usable = np.empty(n, np.bool_)
    for i in range(n):
        p = row(points, b * points_batch + i * points_row, 3, X)
        x, y, z = widen(p[0], X, X), widen(p[1], X, X), widen(p[2], X, X)
        good = np.isfinite(x) and np.isfinite(y) and np.isfinite(z)
        if mask != 0 and row(mask, b * mask_row + i * mask_step, 1, _UINT8)[0] == 0:
            good = False
        usable[i] = good
        at[0, i] = x if good else 0
        at[1, i] = y if good else 0
        at[2, i] = z if good else 0
    return at, usable


@inline
def squared(dx, dy, dz):
    return (dx * dx + dy * dy) + dz * dz


_LANES = 1024  # partial sums of a centroid


@inline
def mean_of(x, usable):
    """By partial sums, which are added in pairs: a fixed order that threads can keep to."""
    sums = np.zeros(_LANES)
    count = 0
    for i in range(x.size):
        if usable[i]:
            sums[i % _LANES] += np.float64(x[i])
            count += 1
    half = _LANES // 2
    while half > 0:
        for lane in range(half):
            sums[lane] += sums[lane + half]
        half //= 2
    return sums[0] / np.float64(count)


@inline
def farthest_from_centroid(at, usable, X):
    centre = empty(3, X)
    for a in range(3):
        centre[a] = mean_of(at[a], usable)
    found, best = -1, centre.dtype.type(-1)
    for i in range(usable.size):
        if usable[i]:
            d = squared(at[0, i] - centre[0], at[1, i] - centre[1], at[2, i] - centre[2])
            if d > best:
                found, best = i, d
    return found


@njit
def first_point(
    points, lengths, mask, starts, indices, exchange,
    clouds, N, points_batch, points_row, lengths_width, mask_row, mask_step,
    samples, rule, starts_width, start, words,
    lo, hi, X,
):  # fmt: skip
    out = row(indices, 0, hi * samples, _INT64)
    for b in range(lo, hi):
        n = count_of(b, N, lengths, lengths_width)
        at, usable = cloud_of(
            b, n, points, mask, points_batch, points_row, mask_row, mask_step, X
        )  # fmt: skip
        chosen = -1
        if rule == GIVEN:
            i = start
            if starts != 0:
                i = load(starts, starts_width, b, _INT64)
            if i >= 0 and i < n and usable[i]:
                chosen = i
        elif rule == CENTROID:
            chosen = farthest_from_centroid(at, usable, X)
        i = 0
        while chosen < 0 and i < n:
            if usable[i]:
                chosen = i
            i += 1
        out[b * samples] = chosen


_TILE = 1024  # points whose greatest distance is remembered, so that few are searched for it


@inline
def come_nearer(x, y, z, near, px, py, pz, most):
    """Take one more point into account; returns the greatest of the distances."""
    for i in range(x.size):
        d = bits_of(squared(x[i] - px, y[i] - py, z[i] - pz))
        d = d if d < near[i] else near[i]
        near[i] = d
        most = d if d > most else most
    return most


@njit
def farthest_points(
    points, lengths, mask, indices, distances, exchange,
    clouds, N, points_batch, points_row, lengths_width, mask_row, mask_step,
    samples, blocks, radius,
    lo, hi, X, ROWS,
):  # fmt: skip
    limit = empty(1, X)
    limit[0] = radius
    stop = bits_of(limit[0] * limit[0])
    limit[0] = -1
    taken = bits_of(limit[0])  # less than any distance
    limit[0] = np.inf
    unknown = bits_of(limit[0])
    for b in range(lo, hi):
        out = row(indices, b * samples, samples, _INT64)
        n = count_of(b, N, lengths, lengths_width)
        at, usable = cloud_of(
            b, n, points, mask, points_batch, points_row, mask_row, mask_step, X
        )  # fmt: skip
        near = integers(n, X)
        for i in range(n):
            near[i] = unknown if usable[i] else taken
        tiles = (n + _TILE - 1) // _TILE
        tops = integers(tiles, X)
        chosen = out[0]
        k = 1
        while k < samples and chosen >= 0:
            near[chosen] = taken
            px, py, pz = at[0, chosen], at[1, chosen], at[2, chosen]
            best, best_tile = taken, 0
            for tile in range(tiles):
                here = slice(tile * _TILE, min(n, (tile + 1) * _TILE))
                tops[tile] = come_nearer(
                    at[0, here], at[1, here], at[2, here], near[here], px, py, pz, taken
                )  # fmt: skip
                if tops[tile] > best:
                    best, best_tile = tops[tile], tile
            if best < 0 or best < stop:
                break
            chosen = best_tile * _TILE
            while near[chosen] != best:
                chosen += 1
            out[k] = chosen
            k += 1
        for rest in range(k, samples):
            out[rest] = -1


@njit
def gather_points(
    points, indices, out, items, points_batch, points_row, samples, repeat, width,
    lo, hi, X
):  # fmt: skip
    to = row(out, 0, width * hi, X)
    for item in range(lo, hi):
        b, k = item // samples, item % samples
        of_cloud = row(indices, b * samples, samples, _INT64)
        i = of_cloud[k]
        if i < 0 and repeat != 0:
            chosen = 0
            high = k
            while chosen < high:  # the chosen ones are in front
                middle = (chosen + high) // 2
                if of_cloud[middle] >= 0:
                    chosen = middle + 1
                else:
                    high = middle
            if chosen > 0:
                i = of_cloud[k % chosen]
        for a in range(width):
            to[width * item + a] = 0
        if i >= 0:
            p = row(points, b * points_batch + i * points_row, width, X)
            for a in range(width):
                to[width * item + a] = p[a]
