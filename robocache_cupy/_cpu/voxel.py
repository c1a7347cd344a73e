"""The definition of cuda_src/voxel.cu."""

import numpy as np
from numba import types
from numba.extending import intrinsic, overload

from . import DType, computed, inline, narrow, njit, of_bits, row, widen
from .cloud import (
    TILE,
    UINT8,
    cloud_of,
    count_of,
    keep_points,
    lattice_of,
    load_points,
    locate_points,
    room,
    transform_of,
)
from .fixed import NOT_FINITE, ZEROS, exponent_of, scale_of, scaled
from .ordered import before, is_nan, nan_of

UINT16, UINT32, INT32 = DType("uint16"), DType("uint32"), DType("int32")
FLOAT, DOUBLE = DType("float32"), DType("float64")


@njit
def voxel_indices(table, lo, hi, P, PLAIN):
    cloud = cloud_of(table)
    most = cloud.most
    points, found = room((3, TILE), P), np.empty((3, TILE), np.int32)
    begin = lo
    while begin < hi:
        b = begin // most
        at, lattice = transform_of(cloud, b, P), lattice_of(cloud, b, P)
        end = min(hi, (b + 1) * most)
        for start in range(begin, end, TILE):
            n, first = min(TILE, end - start), start - b * most
            x, y, z = points[0, :n], points[1, :n], points[2, :n]
            load_points(cloud, at, b, first, x, y, z, P)
            locate_points(cloud, lattice, b, first, points, n, found)
            out = row(cloud.out, 3 * start, 3 * n, INT32).reshape((n, 3))
            for i in range(n):
                i0, i1, i2 = found[0, i], found[1, i], found[2, i]
                none = (i0 | i1 | i2) >> np.int32(31)  # all ones where any is negative
                out[i, 0], out[i, 1], out[i, 2] = i0 | none, i1 | none, i2 | none
        begin = end


@inline
def number_voxels(cloud, found, first, most, numbers):
    """The numbers of voxels [3, n] from voxel `first` on, -1 for those not among the `most`."""
    size_y, size_z = cloud.grid[1], cloud.grid[2]
    for i in range(numbers.size):
        i0, i1, i2 = found[0, i], found[1, i], found[2, i]
        inside = (np.int64(i0) * size_y + i1) * size_z + i2 - first
        bad = (i0 < 0) | (i1 < 0) | (i2 < 0) | (inside < 0) | (inside >= most)
        numbers[i] = -1 if bad else inside


# ---------------------------------------------------------------------------------- small results


@njit
def clear_voxels(table, lo, hi, U):
    cloud = cloud_of(table)
    row(cloud.out, lo, hi - lo, U)[:] = of_bits(0, U)


@intrinsic
def increase(typingctx, p, i):
    """Add 1 to an element, which other threads may add to."""

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.args[0])(context, builder, args[0])
        at = builder.gep(array.data, [args[1]])
        one = context.get_constant(signature.args[0].dtype, 1)
        builder.atomic_rmw("add", at, one, "monotonic")
        return context.get_dummy_value()

    return types.void(p, types.int64), codegen


@njit
def scatter_points(table, lo, hi, P, U, COUNT, PLAIN):
    cloud = cloud_of(table)
    most, one = cloud.most, of_bits(cloud.one, U)
    points, found = room((3, TILE), P), np.empty((3, TILE), np.int32)
    numbers = np.empty(TILE, np.int64)
    begin = lo
    while begin < hi:
        b = begin // most
        at, lattice = transform_of(cloud, b, P), lattice_of(cloud, b, P)
        end = min(hi, (b + 1) * most)
        out = row(cloud.out, b * cloud.out_batch, cloud.voxels, U)
        for start in range(begin, end, TILE):
            n, first = min(TILE, end - start), start - b * most
            x, y, z = points[0, :n], points[1, :n], points[2, :n]
            load_points(cloud, at, b, first, x, y, z, P)
            locate_points(cloud, lattice, b, first, points, n, found)
            number_voxels(cloud, found, 0, cloud.voxels, numbers[:n])
            if COUNT:
                for i in range(n):
                    if numbers[i] >= 0:
                        increase(out, numbers[i])
            else:
                for i in range(n):
                    if numbers[i] >= 0:
                        out[numbers[i]] = one  # as other threads may do
        begin = end


# ------------------------------------------------------------------------ points, sorted by slabs


@inline
def sorted_points(cloud, block):
    """The points of a chunk, voxel in the slab << 16 | place in the chunk, and where each slab
    begins among them."""
    chunks = cloud.clouds * cloud.chunks
    points = row(cloud.sorted, block * cloud.chunk, cloud.chunk, UINT32)
    begins = row(
        cloud.sorted, chunks * cloud.chunk * 2 + block * (cloud.slabs + 1), cloud.slabs + 1, UINT16
    )
    return points, begins


@njit
def sort_points(table, lo, hi, P, PLAIN):
    cloud = cloud_of(table)
    slabs, bits, most = cloud.slabs, cloud.bits, cloud.most
    coordinates, found = room((3, TILE), P), np.empty((3, TILE), np.int32)
    cursor = np.empty(slabs, np.int64)
    place = np.empty(cloud.chunk, np.int64)
    for block in range(lo, hi):
        b, first = block // cloud.chunks, block % cloud.chunks * cloud.chunk
        n = min(max(count_of(cloud, b) - first, 0), cloud.chunk)
        at, lattice = transform_of(cloud, b, P), lattice_of(cloud, b, P)
        points, begins = sorted_points(cloud, block)
        cursor[:] = 0
        for start in range(0, n, TILE):
            m = min(TILE, n - start)
            x, y, z = coordinates[0, :m], coordinates[1, :m], coordinates[2, :m]
            load_points(cloud, at, b, first + start, x, y, z, P)
            if cloud.moved != 0:
                keep_points(cloud.moved, b * most + first + start, x, y, z, P)
            locate_points(cloud, lattice, b, first + start, coordinates, m, found)
            here = place[start : start + m]
            number_voxels(cloud, found, cloud.first, slabs << bits, here)
            for i in range(m):
                if here[i] >= 0:
                    cursor[here[i] >> bits] += 1
        total = 0
        for s in range(slabs):
            begins[s] = total
            here = cursor[s]
            cursor[s] = total
            total += here
        begins[slabs] = total
        for i in range(n):
            if place[i] >= 0:
                s = place[i] >> bits
                points[cursor[s]] = (place[i] - (s << bits)) << 16 | i
                cursor[s] += 1


@inline
def slab_of(cloud, block):
    """The cloud of a block, its slab, the slab's first voxel, and how many it has."""
    b, s = block // cloud.slabs, block % cloud.slabs
    begin = cloud.first + (s << cloud.bits)
    return b, s, begin, min(cloud.voxels - begin, 1 << cloud.bits)


@inline
def points_of_slab(cloud, b, s):
    """For the points of a slab, in order: the voxel in the slab, and the number in the cloud. They
    are seldom as many as the slab's voxels: it pays to begin from them."""
    total = 0
    for c in range(cloud.chunks):
        _, begins = sorted_points(cloud, b * cloud.chunks + c)
        total += np.int64(begins[s + 1]) - np.int64(begins[s])
    voxel, point = np.empty(total, np.int32), np.empty(total, np.int32)
    total = 0
    for c in range(cloud.chunks):
        points, begins = sorted_points(cloud, b * cloud.chunks + c)
        first = c * cloud.chunk
        for i in range(begins[s], begins[s + 1]):
            voxel[total] = points[i] >> 16
            point[total] = first + (points[i] & 0xFFFF)
            total += 1
    return voxel, point


@inline
def fill_slab(out, cloud, b, begin, n, value):
    """Set all channels of a slab's voxels."""
    if cloud.out_voxel == cloud.channels:  # a single voxel has a stride of 1 by channel, too
        at = place_of(cloud, b, begin, 0)
        for i in range(at, at + n * cloud.out_voxel):
            out[i] = value
    else:
        for channel in range(cloud.channels):
            at = place_of(cloud, b, begin, channel)
            for i in range(at, at + n):
                out[i] = value


# -------------------------------------------------------------------------------------- occupancy


@njit
def occupancy(table, lo, hi, U, PACKED):
    cloud = cloud_of(table)
    one, zero = of_bits(cloud.one, U), of_bits(0, U)
    for block in range(lo, hi):
        b, s, begin, n = slab_of(cloud, block)
        if n <= 0:
            continue
        if PACKED:
            out = row(cloud.out, b * cloud.out_batch + begin // 32, (n + 31) // 32, U)
        else:
            out = row(cloud.out, b * cloud.out_batch + begin, n, U)
        out[:] = zero
        for c in range(cloud.chunks):
            points, begins = sorted_points(cloud, b * cloud.chunks + c)
            for i in range(begins[s], begins[s + 1]):
                voxel = points[i] >> 16
                if PACKED:
                    out[voxel >> 5] |= of_bits(np.int64(1) << (voxel & 31), U)
                else:
                    out[voxel] = one


# ----------------------------------------------------------------------------------------- counts


@njit
def count(table, lo, hi, O):
    cloud = cloud_of(table)
    counts = np.empty(1 << cloud.bits, np.int64)
    for block in range(lo, hi):
        b, s, begin, n = slab_of(cloud, block)
        if n <= 0:
            continue
        counts[:n] = 0
        for c in range(cloud.chunks):
            points, begins = sorted_points(cloud, b * cloud.chunks + c)
            for i in range(begins[s], begins[s + 1]):
                counts[points[i] >> 16] += 1
        out = row(cloud.out, b * cloud.out_batch + begin, n, O)
        most = greatest(O)
        for v in range(n):
            out[v] = min(counts[v], most)


def greatest(O):
    raise NotImplementedError


@overload(greatest)
def _greatest(O):
    most = np.iinfo(O.dtype).max
    return lambda O: most


# -------------------------------------------------------------- reductions of features, by channel


@inline
def place_of(cloud, b, v, c):
    return b * cloud.out_batch + v * cloud.out_voxel + c * cloud.out_channel


@njit
def total(table, lo, hi, X, O):
    cloud = cloud_of(table)
    C, most = cloud.channels, 1 << cloud.bits
    mean, quick = cloud.kind & 1, cloud.kind & 2
    number, scales = np.zeros(most, np.int64), np.empty(most, np.int64)
    exponents, sums = np.full(most, ZEROS), np.zeros(most, np.int64)
    quick_sums = np.zeros(most, np.float32)
    fill = narrow(cloud.fill, O)
    for block in range(lo, hi):
        b, s, begin, n = slab_of(cloud, block)
        if n <= 0:
            continue
        out = row(cloud.out, 0, place_of(cloud, b, begin + n - 1, C - 1) + 1, O)
        fill_slab(out, cloud, b, begin, n, fill)
        voxel, point = points_of_slab(cloud, b, s)
        occupied = np.empty(voxel.size, np.int32)
        voxels = 0
        for i in range(voxel.size):
            if number[voxel[i]] == 0:
                occupied[voxels] = voxel[i]
                voxels += 1
            number[voxel[i]] += 1
        for channel in range(C):
            for i in range(voxel.size):
                v, x = voxel[i], feature(cloud, b, point[i], channel, X)
                if quick:
                    quick_sums[v] += np.float32(widen(x, X, FLOAT))
                else:
                    exponents[v] = max(exponents[v], exponent_of(widen(x, X, DOUBLE)))
            if not quick:
                for i in range(voxels):
                    v = occupied[i]
                    scales[v] = scale_of(number[v], exponents[v])
                for i in range(voxel.size):
                    v = voxel[i]
                    if exponents[v] != ZEROS and exponents[v] != NOT_FINITE:
                        x = widen(feature(cloud, b, point[i], channel, X), X, DOUBLE)
                        sums[v] += np.int64(np.rint(scaled(x, scales[v])))
            for i in range(voxels):
                v = occupied[i]
                at = place_of(cloud, b, begin + v, channel)
                if exponents[v] == NOT_FINITE:
                    out[at] = narrow(np.nan, O)
                else:
                    y = np.float64(quick_sums[v]) if quick else np.float64(sums[v])
                    if mean:
                        y /= number[v]  # before it is scaled: a sum may be beyond the range
                    if not quick and exponents[v] != ZEROS:
                        y = scaled(y, -scales[v])
                    out[at] = narrow(y, O)
                exponents[v], sums[v], quick_sums[v] = ZEROS, 0, 0
        for i in range(voxels):
            number[occupied[i]] = 0


@inline
def feature(cloud, b, p, channel, X):
    return row(cloud.features, b * cloud.feature_batch + p * cloud.feature_row + channel, 1, X)[0]


# --------------------------------------------------------------------------------- max, min, first


@njit
def extreme(table, lo, hi, X):
    cloud = cloud_of(table)
    C, minimum = cloud.channels, cloud.kind != 0
    fill = of_bits(cloud.one, X)
    seen = np.zeros(1 << cloud.bits, np.bool_)
    for block in range(lo, hi):
        b, s, begin, n = slab_of(cloud, block)
        if n <= 0:
            continue
        out = row(cloud.out, 0, place_of(cloud, b, begin + n - 1, C - 1) + 1, X)
        fill_slab(out, cloud, b, begin, n, fill)
        voxel, point = points_of_slab(cloud, b, s)
        for channel in range(C):
            for i in range(voxel.size):
                v, x = voxel[i], feature(cloud, b, point[i], channel, X)
                at = place_of(cloud, b, begin + v, channel)
                if is_nan(x, X):
                    x = nan_of(X)
                elif seen[v] and (
                    is_nan(out[at], X)
                    or not (before(x, out[at], X) if minimum else before(out[at], x, X))
                ):
                    continue
                out[at] = x
                seen[v] = True
            for i in range(voxel.size):
                seen[voxel[i]] = False


@njit
def first(table, lo, hi, U):
    cloud = cloud_of(table)
    C = cloud.channels
    fill = of_bits(cloud.one, U)
    seen = np.zeros(1 << cloud.bits, np.bool_)
    for block in range(lo, hi):
        b, s, begin, n = slab_of(cloud, block)
        if n <= 0:
            continue
        out = row(cloud.out, 0, place_of(cloud, b, begin + n - 1, C - 1) + 1, U)
        fill_slab(out, cloud, b, begin, n, fill)
        voxel, point = points_of_slab(cloud, b, s)
        for i in range(voxel.size):
            v = voxel[i]
            if not seen[v]:  # the points ascend
                seen[v] = True
                for channel in range(C):
                    at = place_of(cloud, b, begin + v, channel)
                    out[at] = feature(cloud, b, point[i], channel, U)
        for i in range(voxel.size):
            seen[voxel[i]] = False


@njit
def keep_first(table, lo, hi):
    cloud = cloud_of(table)
    seen = np.zeros(1 << cloud.bits, np.bool_)
    kept = row(cloud.out, 0, cloud.clouds * cloud.most, UINT8)
    for block in range(lo, hi):
        b, s, _, n = slab_of(cloud, block)
        if n <= 0:
            continue
        voxel, point = points_of_slab(cloud, b, s)
        for i in range(voxel.size):
            if not seen[voxel[i]]:  # the points ascend
                seen[voxel[i]] = True
                kept[b * cloud.most + point[i]] = 1
        for i in range(voxel.size):
            seen[voxel[i]] = False


# ------------------------------------------------------------------------------------ the gradient


@inline
def beats(x, y, kind, X):
    """Whether feature x is the result and not y: the greater, the less, or neither."""
    if kind == 2 or is_nan(y, X):
        return False
    if is_nan(x, X):
        return True
    return before(x, y, X) if kind == 1 else before(y, x, X)


@njit
def choose_points(table, lo, hi, X):
    cloud = cloud_of(table)
    C = cloud.channels
    winner = np.full(1 << cloud.bits, -1)
    chosen = row(cloud.out, 0, cloud.clouds * cloud.most * C, UINT8)
    for block in range(lo, hi):
        b, s, _, n = slab_of(cloud, block)
        if n <= 0:
            continue
        voxel, point = points_of_slab(cloud, b, s)
        for channel in range(C):
            for i in range(voxel.size):
                v, p = voxel[i], np.int64(point[i])
                chosen[(b * cloud.most + p) * C + channel] = 0
                if winner[v] >= 0:
                    x = feature(cloud, b, p, channel, X)
                    y = feature(cloud, b, winner[v], channel, X)
                    if not beats(x, y, cloud.kind, X) and (
                        beats(y, x, cloud.kind, X) or winner[v] < p
                    ):
                        continue
                winner[v] = p
            for i in range(voxel.size):
                v = voxel[i]
                if winner[v] >= 0:
                    chosen[(b * cloud.most + winner[v]) * C + channel] = 1
                    winner[v] = -1


@njit
def gather_voxels(
    grad, indices, counts, chosen, out, items, most, channels, size_y, size_z, voxels, voxel_step,
    channel_step, lo, hi, X, Y,
):  # fmt: skip
    for item in range(lo, hi):
        point, channel = item // channels, item % channels
        at = row(indices, 3 * point, 3, INT32)
        x = computed(0, X, Y)
        if at[0] >= 0 and (chosen == 0 or row(chosen, item, 1, UINT8)[0] != 0):
            b = point // most
            voxel = (np.int64(at[0]) * size_y + at[1]) * size_z + at[2]
            place = b * voxels * channels + voxel * voxel_step + channel * channel_step
            x = widen(row(grad, place, 1, X)[0], X, Y)
            if counts != 0:
                x /= computed(row(counts, b * voxels + voxel, 1, INT32)[0], X, Y)
        row(out, item, 1, Y)[0] = narrow(x, Y)
