"""The definition of cuda_src/sparse.cu.

Where the CUDA kernels share a row among threads, these take the rows one by one.
"""

import numba
import numpy as np
from numba.extending import overload

from .._core.table import SPARSE
from . import (
    DType,
    _bits_of_double,
    _double_of_bits,
    inline,
    load,
    narrow,
    njit,
    of_bits,
    row,
    widen,
)
from .cloud import (
    TILE,
    cloud_of,
    coordinate,
    count_of,
    drop_points,
    keep,
    lattice_of,
    load_points,
    locate_points,
    masked,
    room,
    transform_of,
)
from .fixed import NOT_FINITE, ZEROS, exponent_of, scale_of, scaled
from .ordered import before, is_nan, nan_of
from .table import void

INT32, INT64, UINT64 = DType("int32"), DType("int64"), DType("uint64")
FLOAT, DOUBLE = DType("float32"), DType("float64")
HALF_SPAN = 1 << 20  # voxels of an unbounded lattice, to each side of its origin
_record = SPARSE.dtype()


@inline
def sparse_of(table):
    return numba.carray(void(table), 1, _record)[0]


@inline
def of_cloud(address, sparse, b, T):
    """The part of an array that belongs to a cloud."""
    return row(address, b * sparse.most, sparse.most, T)


def unsigned(x, K):
    """A number as a key."""
    raise NotImplementedError


@overload(unsigned)
def _unsigned(x, K):
    of = getattr(np, K.dtype)
    return lambda x, K: of(x)


# -------------------------------------------------------------------------------------------- sort


@njit
def point_keys(table, lo, hi, P, K, BOUNDED):
    cloud = cloud_of(table)
    digits, most = 1 << cloud.bits, cloud.most
    size_y, size_z = cloud.grid[1], cloud.grid[2]
    coordinates, found = room((3, TILE), P), np.empty((3, TILE), np.int32)
    counts = np.empty(digits, np.int64)
    none = unsigned(-1, K)
    for block in range(lo, hi):
        b, c = block // cloud.chunks, block % cloud.chunks
        begin = c * cloud.chunk
        end, count = min(begin + cloud.chunk, most), count_of(cloud, b)
        at, lattice = transform_of(cloud, b, P), lattice_of(cloud, b, P)
        if cloud.out != 0:
            row(cloud.out, b * most + begin, end - begin, INT32)[:] = -1
        counts[:] = 0
        for start in range(begin, end, TILE):
            n = min(TILE, end - start)
            x, y, z = coordinates[0, :n], coordinates[1, :n], coordinates[2, :n]
            load_points(cloud, at, b, start, x, y, z, P)
            if cloud.moved != 0:
                for i in range(min(n, count - start)):
                    if not masked(cloud, b, start + i):
                        keep(cloud.moved, b * most + start + i, x[i], y[i], z[i], P)
            if BOUNDED:
                locate_points(cloud, lattice, b, start, coordinates, n, found)
            else:
                for axis in range(3):
                    of_axis = found[axis, :n]
                    anywhere(coordinates[axis, :n], lattice[axis], lattice[3 + axis], of_axis)
                drop_points(cloud, b, start, found[0, :n])
            keys = row(cloud.sorted, b * most + start, n, K)
            for i in range(n):
                i0, i1, i2 = np.int64(found[0, i]), np.int64(found[1, i]), np.int64(found[2, i])
                if BOUNDED:
                    key = (i0 * size_y + i1) * size_z + i2
                else:
                    key = (i0 << 21 | i1) << 21 | i2
                keys[i] = none if (i0 | i1 | i2) < 0 else unsigned(key, K)
            for i in range(n):
                if keys[i] != none:
                    counts[np.int64(keys[i]) & (digits - 1)] += 1
        bins = row(cloud.bins, b * digits * cloud.chunks, digits * cloud.chunks, INT32)
        for d in range(digits):
            bins[d * cloud.chunks + c] = counts[d]


@inline
def anywhere(x, origin, size, found):
    """The voxel of each coordinate along one axis of an unbounded lattice, from its lower end; -1
    for none."""
    low, high = x.dtype.type(1 - HALF_SPAN), x.dtype.type(HALF_SPAN)
    for i in range(x.size):
        q = (x[i] - origin) / size
        inside = (q >= low) & (q < high)
        found[i] = np.int32(np.floor(q)) + HALF_SPAN if inside else -1


@inline
def points_of(sparse, b):
    """How many points of a cloud a pass has before it."""
    return sparse.most if sparse.all_points else np.int64(row(sparse.kept, b, 1, INT32)[0])


@inline
def part(address, sparse, b, begin, end, T):
    """Places of the part of an array that belongs to a cloud. Counted from 0, LLVM sees that none
    is negative, and takes vectors."""
    return row(address, b * sparse.most + begin, end - begin, T)


@inline
def chunk_of(sparse, block):
    """The cloud of a block, its chunk, the first point, and one behind the last."""
    b, c = block // sparse.chunks, block % sparse.chunks
    begin = c * sparse.chunk
    return b, c, begin, min(begin + sparse.chunk, points_of(sparse, b))


@inline
def digit(key, sparse, K):
    return np.int64(key >> unsigned(sparse.shift, K)) & (sparse.digits - 1)


@inline
def differing(keys, sparse, K):
    """The bits in which the digits of keys differ from the first one's: 0 where all are one."""
    bits, first = unsigned(0, K), keys[0]
    for i in range(keys.size):
        bits |= keys[i] ^ first
    return digit(bits, sparse, K)


@njit
def count_digits(table, lo, hi, K):
    sparse = sparse_of(table)
    digits, chunks = sparse.digits, sparse.chunks
    counts = np.empty(digits, np.int64)
    for block in range(lo, hi):
        b, c, begin, end = chunk_of(sparse, block)
        counts[:] = 0
        if end > begin:
            keys = part(sparse.keys, sparse, b, begin, end, K)
            if differing(keys, sparse, K) == 0:
                counts[digit(keys[0], sparse, K)] = end - begin
            else:
                shift, last = unsigned(sparse.shift, K), digits - 1
                for i in range(end - begin):
                    counts[np.int64(keys[i] >> shift) & last] += 1
        bins = row(sparse.bins, b * digits * chunks, digits * chunks, INT32)
        for d in range(digits):
            bins[d * chunks + c] = counts[d]


@njit
def scan_bins(table, lo, hi):
    sparse = sparse_of(table)
    totals = row(sparse.totals, lo, hi - lo, INT32)
    for block in range(lo, hi):
        bins = row(sparse.bins, block * sparse.chunks, sparse.chunks, INT32)
        total = 0
        for c in range(sparse.chunks):
            here = bins[c]
            bins[c] = total
            total += here
        totals[block - lo] = total


@njit
def scatter_points(table, lo, hi, K):
    sparse = sparse_of(table)
    digits, chunks = sparse.digits, sparse.chunks
    cursor = np.empty(digits, np.int64)
    none = unsigned(-1, K)
    for block in range(lo, hi):
        b, c, begin, end = chunk_of(sparse, block)
        totals = row(sparse.totals, b * digits, digits, INT32)
        bins = row(sparse.bins, b * digits * chunks, digits * chunks, INT32)
        total = 0
        for d in range(digits):
            cursor[d] = total + bins[d * chunks + c]
            total += totals[d]
        if sparse.all_points and c == 0:
            row(sparse.kept, b, 1, INT32)[0] = total
        if end <= begin:
            continue
        n = end - begin
        keys = part(sparse.keys, sparse, b, begin, end, K)
        ids = part(sparse.ids, sparse, b, begin, end, INT32)
        next_keys = of_cloud(sparse.next_keys, sparse, b, K)
        next_ids = of_cloud(sparse.next_ids, sparse, b, INT32)
        shift, last = unsigned(sparse.shift, K), digits - 1
        if sparse.all_points:
            for i in range(n):
                if keys[i] != none:
                    d = np.int64(keys[i] >> shift) & last
                    next_keys[cursor[d]], next_ids[cursor[d]] = keys[i], begin + i
                    cursor[d] += 1
        elif differing(keys, sparse, K) == 0:
            to = cursor[digit(keys[0], sparse, K)]
            next_keys = part(sparse.next_keys, sparse, b, to, to + n, K)
            next_ids = part(sparse.next_ids, sparse, b, to, to + n, INT32)
            for i in range(n):
                next_keys[i] = keys[i]
                next_ids[i] = ids[i]
        else:
            for i in range(n):
                d = np.int64(keys[i] >> shift) & last
                next_keys[cursor[d]], next_ids[cursor[d]] = keys[i], ids[i]
                cursor[d] += 1


# ------------------------------------------------------------------------------------------- heads


@inline
def mark_heads(sparse, b, begin, end, heads, K):
    """Which places of a chunk are the first of a voxel with enough points."""
    n = end - begin
    if sparse.by_point:
        inverse = part(sparse.inverse, sparse, b, begin, end, INT32)
        for i in range(n):
            heads[i] = inverse[i] >= 0
        return
    more = sparse.min_points - 1
    own = part(sparse.keys, sparse, b, begin, end, K)
    previous = part(sparse.keys, sparse, b, begin - 1, end - 1, K)
    final = part(sparse.keys, sparse, b, begin + more, end + more, K)
    enough = max(0, min(n, points_of(sparse, b) - more - begin))  # no voxel behind has enough
    if begin > 0:
        for i in range(enough):
            heads[i] = (previous[i] != own[i]) & (final[i] == own[i])
    elif enough > 0:
        heads[0] = final[0] == own[0]
        for i in range(1, enough):
            heads[i] = (previous[i] != own[i]) & (final[i] == own[i])
    for i in range(enough, n):
        heads[i] = 0


@njit
def count_heads(table, lo, hi, K):
    sparse = sparse_of(table)
    counts = row(sparse.bins, lo, hi - lo, INT32)
    heads = np.empty(sparse.chunk, np.uint8)
    for block in range(lo, hi):
        b, _, begin, end = chunk_of(sparse, block)
        total = 0
        if begin < end:
            mark_heads(sparse, b, begin, end, heads, K)
            for i in range(end - begin):
                total += heads[i]
        counts[block - lo] = total


@njit
def rank_heads(table, lo, hi, K):
    sparse = sparse_of(table)
    before_chunk = row(sparse.bins, lo, hi - lo, INT32)
    heads, places = np.empty(sparse.chunk, np.uint8), np.empty(sparse.chunk, np.int32)
    for block in range(lo, hi):
        b, _, begin, end = chunk_of(sparse, block)
        if begin >= end:
            continue
        inverse = of_cloud(sparse.inverse, sparse, b, INT32)
        ranks = part(sparse.ranks, sparse, b, begin, end, INT32)
        starts = of_cloud(sparse.starts, sparse, b, INT32)
        segments = part(sparse.segments, sparse, b, begin, end, INT32)
        ids = of_cloud(sparse.ids, sparse, b, INT32)
        mark_heads(sparse, b, begin, end, heads, K)
        rank, found = before_chunk[block - lo], 0
        if sparse.by_point:
            for i in range(end - begin):
                if heads[i]:
                    ranks[i] = rank
                    rank += 1
            continue
        for i in range(end - begin):
            places[found] = begin + i  # kept where it is a head
            found += heads[i]
            segments[i] = rank + found - 1
        for i in range(found):
            starts[rank + i] = places[i]
        if sparse.ranks != 0:
            for i in range(found):
                inverse[ids[places[i]]] = 0


@njit
def lay_out(table, lo, hi):
    sparse = sparse_of(table)
    voxels = row(sparse.totals, 0, sparse.clouds, INT32)
    offsets = row(sparse.offsets, 0, sparse.clouds + 1, INT32)
    total = 0
    for b in range(sparse.clouds):
        offsets[b] = total
        total += sparse.capacity if sparse.capacity else voxels[b]
    offsets[sparse.clouds] = total
    if sparse.found != 0:
        row(sparse.found, 0, 1, INT64)[0] = total


@njit
def emit(table, lo, hi, K):
    sparse = sparse_of(table)
    most, capacity, slots = sparse.most, sparse.capacity, sparse.slots
    by_rank, firsts, limits, places = (
        sparse.ranks != 0, sparse.first != 0, sparse.limited != 0, sparse.coords != 0,
    )  # fmt: skip
    size_y, size_z, x, z = sparse.grid[1], sparse.grid[2], 1, 3
    if sparse.reversed:
        x, z = 3, 1
    coords = row(sparse.coords, 0, 4 * sparse.rows, INT32)
    row_starts = row(sparse.row_starts, 0, sparse.rows, INT32)
    first = row(sparse.first, 0, sparse.rows, INT32)
    counts = row(sparse.counts, 0, sparse.rows, INT32)
    limited = row(sparse.limited, 0, sparse.rows, INT32)
    for b in range(lo // most, (hi + most - 1) // most):
        kept = np.int64(row(sparse.kept, b, 1, INT32)[0])
        offset = row(sparse.offsets, b, 1, INT32)[0]
        keys = of_cloud(sparse.keys, sparse, b, K)
        ids = of_cloud(sparse.ids, sparse, b, INT32)
        starts = of_cloud(sparse.starts, sparse, b, INT32)
        ranks = of_cloud(sparse.ranks, sparse, b, INT32)
        segments = of_cloud(sparse.segments, sparse, b, INT32)
        inverse = of_cloud(sparse.inverse, sparse, b, INT32)
        for j in range(max(lo - b * most, 0), min(hi - b * most, kept)):
            key, segment, n = keys[j], segments[j], ids[j]
            r, head = np.int64(-1), np.int64(0)
            if segment >= 0:
                head = np.int64(starts[segment])
                if keys[head] == key:  # not one of a voxel with too few points
                    r = np.int64(ranks[ids[head]]) if by_rank else np.int64(segment)
            if capacity and r >= capacity:
                r = np.int64(-1)
            if r >= 0:
                r += offset
            inverse[n] = r
            if r < 0:
                continue
            if j == head:
                row_starts[r] = b * most + j
                if firsts:
                    first[r] = n
                if places:
                    number = np.int64(key)
                    xy = number // size_z
                    coords[4 * r] = b
                    coords[4 * r + x] = xy // size_y
                    coords[4 * r + 2] = xy % size_y
                    coords[4 * r + z] = number % size_z
            if j == kept - 1 or keys[j + 1] != key:
                count = j + 1 - head
                counts[r] = count
                if limits:
                    limited[r] = min(count, slots)


@njit
def pad_rows(table, lo, hi):
    sparse = sparse_of(table)
    voxels = row(sparse.totals, 0, sparse.clouds, INT32)
    for r in range(lo, hi):
        b = r // sparse.capacity
        if r - b * sparse.capacity < voxels[b]:
            continue
        row(sparse.row_starts, r, 1, INT32)[0] = -1
        row(sparse.counts, r, 1, INT32)[0] = 0
        if sparse.limited != 0:
            row(sparse.limited, r, 1, INT32)[0] = 0
        if sparse.first != 0:
            row(sparse.first, r, 1, INT32)[0] = -1
        if sparse.coords != 0:
            row(sparse.coords, 4 * r, 4, INT32)[:] = -1


# ---------------------------------------------------------------------------------- rows of points


@inline
def points_in(sparse, r):
    """The points of a row: their cloud, where the first stands in the sorted order, how many."""
    start = np.int64(row(sparse.row_starts, r, 1, INT32)[0])
    b = start // sparse.most if start >= 0 else np.int64(0)
    return b, start, np.int64(row(sparse.counts, r, 1, INT32)[0])


@inline
def feature(sparse, b, place, channel, X):
    """A channel of the point at a place of the sorted order."""
    n = np.int64(row(sparse.ids, place, 1, INT32)[0])
    at = b * sparse.feature_batch + n * sparse.feature_row + channel
    return row(sparse.features, at, 1, X)[0]


@njit
def gather_rows(table, lo, hi, U):
    sparse = sparse_of(table)
    C = sparse.channels
    fill = of_bits(sparse.one, U)
    for r in range(lo, hi):
        b, start, count = points_in(sparse, r)
        out = row(sparse.out, r * sparse.slots * C, sparse.slots * C, U)
        for slot in range(sparse.slots):
            for channel in range(C):
                x = fill
                if slot < count:
                    x = feature(sparse, b, start + slot, channel, U)
                out[slot * C + channel] = x


@njit
def row_centers(table, lo, hi, P):
    sparse = sparse_of(table)
    for r in range(lo, hi):
        out = row(sparse.out, 3 * r, 3, P)
        b, start, count = points_in(sparse, r)
        if count == 0:
            out[:] = nan_of(P)
            continue
        key = np.int64(row(sparse.keys, start, 1, UINT64)[0])
        for k in range(3):
            voxel = ((key >> 21 * (2 - k)) & 0x1FFFFF) - HALF_SPAN
            corner = sparse.lattice[k]
            if sparse.origins != 0:
                at = b * sparse.origins_row + k
                given = load(sparse.origins, sparse.origins_width, at, DOUBLE)
                corner = np.float64(coordinate(given, P))
            out[k] = narrow(corner + (voxel + 0.5) * sparse.lattice[3 + k], P)


# ------------------------------------------------------------------------------ reductions by row


@njit
def clear_sums(table, lo, hi):
    sparse = sparse_of(table)
    row(sparse.sums, lo, hi - lo, INT64)[:] = 0
    if sparse.exponents != 0:
        row(sparse.exponents, lo, hi - lo, INT32)[:] = ZEROS


@njit
def largest_terms(table, lo, hi, X):
    sparse = sparse_of(table)
    C, step = sparse.channels, sparse.feature_row
    for r in range(lo, hi):
        b, start, count = points_in(sparse, r)
        if count == 0:
            continue
        exponents = row(sparse.exponents, r * C, C, INT32)
        ids = row(sparse.ids, start, count, INT32)
        for channel in range(C):
            largest = np.uint64(0)
            for i in range(count):
                at = b * sparse.feature_batch + ids[i] * step + channel
                x = widen(row(sparse.features, at, 1, X)[0], X, DOUBLE)
                largest = max(largest, _bits_of_double(abs(x)))  # their order is that of numbers
            x = _double_of_bits(largest)
            exponents[channel] = max(exponents[channel], exponent_of(x))


@njit
def add_terms(table, lo, hi, X):
    sparse = sparse_of(table)
    C, step = sparse.channels, sparse.feature_row
    for r in range(lo, hi):
        b, start, count = points_in(sparse, r)
        if count == 0:
            continue
        exponents = row(sparse.exponents, r * C, C, INT32)
        sums = row(sparse.sums, r * C, C, INT64)
        ids = row(sparse.ids, start, count, INT32)
        for channel in range(C):
            exponent = np.int64(exponents[channel])
            if exponent in (ZEROS, NOT_FINITE):
                continue
            scale, total = scale_of(count, exponent), np.int64(0)
            for i in range(count):
                at = b * sparse.feature_batch + ids[i] * step + channel
                x = widen(row(sparse.features, at, 1, X)[0], X, DOUBLE)
                total += np.int64(np.rint(scaled(x, scale)))
            sums[channel] += total


@njit
def write_sums(table, lo, hi, O):
    sparse = sparse_of(table)
    C = sparse.channels
    empty = of_bits(sparse.one, O)
    for r in range(lo, hi):
        _, _, count = points_in(sparse, r)
        exponents = row(sparse.exponents, r * C, C, INT32)
        sums = row(sparse.sums, r * C, C, INT64)
        out = row(sparse.out, r * C, C, O)
        for channel in range(C):
            exponent = np.int64(exponents[channel])
            if exponent == NOT_FINITE:
                out[channel] = narrow(np.nan, O)
            elif count == 0:
                out[channel] = empty
            else:
                y = 0.0
                if exponent != ZEROS:
                    y = np.float64(sums[channel])
                    if sparse.kind:
                        y /= count  # before it is scaled: a sum may be beyond the range
                    y = scaled(y, -scale_of(count, exponent))
                out[channel] = narrow(y, O)


@njit
def find_extremes(table, lo, hi, X):
    """Leaves the place of the greatest, or smallest, in the sorted order, plus 1."""
    sparse = sparse_of(table)
    C, minimum = sparse.channels, sparse.kind != 0
    for r in range(lo, hi):
        b, start, count = points_in(sparse, r)
        sums = row(sparse.sums, r * C, C, INT64)
        for channel in range(C):
            if count == 0:
                continue
            best, at = feature(sparse, b, start, channel, X), start
            for i in range(start + 1, start + count):
                x = feature(sparse, b, i, channel, X)
                if is_nan(best, X):
                    break
                if is_nan(x, X) or (before(x, best, X) if minimum else before(best, x, X)):
                    best, at = x, i
            sums[channel] = at + 1


@njit
def write_extremes(table, lo, hi, X):
    sparse = sparse_of(table)
    C = sparse.channels
    empty = of_bits(sparse.one, X)
    for r in range(lo, hi):
        b, _, count = points_in(sparse, r)
        sums = row(sparse.sums, r * C, C, INT64)
        out = row(sparse.out, r * C, C, X)
        for channel in range(C):
            if count == 0:
                out[channel] = empty
                continue
            x = feature(sparse, b, sums[channel] - 1, channel, X)
            out[channel] = nan_of(X) if is_nan(x, X) else x
