"""The definition of cuda_src/depth.cu."""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

from . import DType, inline, load, njit, of_bits, row, widen
from .cloud import DOUBLE, TILE, cells_of, cloud_of, coordinate, lattice_of, room

UINT32, FLOAT = DType("uint32"), DType("float32")
RAY = 4  # rows of the table of rays, for columns and for rows


def computed_dtype(D):
    """The dtype of coordinates made of depth of dtype D."""
    raise NotImplementedError


@overload(computed_dtype)
def _computed_dtype(D):
    C = DOUBLE if D.dtype == "float64" else FLOAT
    return lambda D: C


@inline
def camera_of(table, image):
    """Focal lengths, centre, and three rows of four that move points of the camera."""
    at = np.empty(16, np.float64)
    if table.intrinsics == 0:
        for i in range(4):
            at[i] = table.pinhole[i]
    else:
        columns = table.intrinsics_columns
        first = image % table.intrinsics_cycle * table.intrinsics_row
        places = (0, 1, 2, 3) if columns == 0 else (0, columns + 1, 2, columns + 2)
        for i in range(4):
            at[i] = load(table.intrinsics, table.intrinsics_width, first + places[i], DOUBLE)
    for i in range(12):
        if not table.moving:
            at[4 + i] = 1.0 if i % 5 == 0 else 0.0
        elif table.transforms == 0:
            at[4 + i] = table.transform[i]
        else:
            first = image % table.transforms_cycle * table.transforms_row
            at[4 + i] = load(table.transforms, table.transforms_width, first + i, DOUBLE)
    return at


@inline
def rays_of(table, image, C):
    """The parts of columns and of rows."""
    width, height = table.width, table.height
    first = image * RAY * (width + height)
    columns = row(table.rays, first, RAY * width, C).reshape((RAY, width))
    rows = row(table.rays, first + RAY * width, RAY * height, C).reshape((RAY, height))
    return columns, rows


@njit
def camera_rays(table, lo, hi, C):
    cloud = cloud_of(table)
    if lo == 0 and cloud.words:
        row(cloud.sorted, 0, cloud.words, UINT32)[:] = 0
    sign = -1.0 if cloud.upward else 1.0
    for image in range(lo, min(hi, cloud.images)):
        at = camera_of(cloud, image)
        columns, rows = rays_of(cloud, image, C)
        for u in range(cloud.width):
            a = ((np.float64(u * cloud.stride) + cloud.pixel_offset) - at[2]) / at[0]
            for k in range(3):
                columns[k, u] = coordinate(at[4 + 4 * k] * a, C)
            columns[3, u] = coordinate(a * a + 1.0, C)
        for v in range(cloud.height):
            b = ((np.float64(v * cloud.stride) + cloud.pixel_offset) - at[3]) / at[1]
            for k in range(3):
                rows[k, v] = coordinate(at[5 + 4 * k] * (sign * b) + at[6 + 4 * k] * sign, C)
            rows[3, v] = coordinate(b * b, C)


@inline
def position_of(table, image, C):
    """What a camera adds to its rays."""
    at = camera_of(table, image)
    if not table.moving:
        return coordinate(0.0, C), coordinate(0.0, C), coordinate(0.0, C)
    return coordinate(at[7], C), coordinate(at[11], C), coordinate(at[15], C)


@inline
def points_of(table, image, v, first, columns, rows, at, depth, points, D):
    """The depths of pixels of a row from `first` on, NaN for none, and the points they show."""
    n, step = depth.size, table.image_step
    scale = coordinate(table.scale, D)
    near, far = coordinate(table.near, D), coordinate(table.far, D)
    pixels = row(
        table.points, image * table.image + v * table.image_row + first * step,
        max((n - 1) * step + 1, 0), D,
    )  # fmt: skip
    if step == 1:
        for i in range(n):
            depth[i] = widen(pixels[i], D, D) * scale
    else:
        for i in range(n):
            depth[i] = widen(pixels[i * step], D, D) * scale
    if table.along_ray:
        length, own = columns[3, first : first + n], rows[3, v]
        for i in range(n):
            depth[i] = depth[i] / np.sqrt(length[i] + own)
    for i in range(n):
        depth[i] = depth[i] if (depth[i] > near) & (depth[i] <= far) else coordinate(np.nan, D)
    for axis in range(3):
        along(depth, columns[axis, first : first + n], rows[axis, v], at[axis], points[axis, :n])


@inline
def along(depth, column, own, position, out):
    for i in range(depth.size):
        out[i] = depth[i] * (column[i] + own) + position


@njit
def depth_points(table, lo, hi, D):
    cloud = cloud_of(table)
    width, height = cloud.width, cloud.height
    points = room((4, TILE), D)
    for line in range(lo, hi):
        image, v = line // height, line % height
        columns, rows = rays_of(cloud, image, computed_dtype(D))
        at = position_of(cloud, image, D)
        for first in range(0, width, TILE):
            n = min(TILE, width - first)
            depth = points[3, :n]
            points_of(cloud, image, v, first, columns, rows, at, depth, points, D)
            out = row(cloud.out, 3 * (line * width + first), 3 * n, computed_dtype(D))
            out = out.reshape((n, 3))
            nan = coordinate(np.nan, D)
            for i in range(n):
                valid = depth[i] == depth[i]
                out[i, 0] = points[0, i] if valid else nan
                out[i, 1] = points[1, i] if valid else nan
                out[i, 2] = points[2, i] if valid else nan


@njit
def mark_depth(table, lo, hi, D, PLAIN):
    """Threads share the bits: they are set one by one, and seldom, as neighbours fall together."""
    cloud = cloud_of(table)
    height, width, size_y, size_z = cloud.height, cloud.width, cloud.grid[1], cloud.grid[2]
    points, found = room((4, TILE), D), np.empty((3, TILE), np.int32)
    numbers = np.empty(TILE, np.int64)
    for line in range(lo, hi):
        image, v = line // height, line % height
        b = image // cloud.views
        lattice = lattice_of(cloud, b, D)
        bits = cloud.sorted + 4 * b * cloud.out_batch
        columns, rows = rays_of(cloud, image, computed_dtype(D))
        at = position_of(cloud, image, D)
        for first in range(0, width, TILE):
            n = min(TILE, width - first)
            depth = points[3, :n]
            points_of(cloud, image, v, first, columns, rows, at, depth, points, D)
            cells_of(cloud, lattice, points, n, found)
            for i in range(n):
                i0, i1, i2 = np.int64(found[0, i]), np.int64(found[1, i]), np.int64(found[2, i])
                here = (i0 * size_y + i1) * size_z + i2
                numbers[i] = -1 if (i0 | i1 | i2) < 0 else here
            last = np.int64(-1)
            for i in range(n):
                here = numbers[i]
                if here != last and here >= 0:
                    set_bits(bits + 4 * (here >> 5), np.uint32(1) << np.uint32(here & 31))
                last = here


@intrinsic
def set_bits(typingctx, address, bits):
    """Set bits of the 32-bit word at an address, which other threads may set bits of."""

    def codegen(context, builder, signature, args):
        word = builder.inttoptr(args[0], ir.IntType(32).as_pointer())
        known = builder.load_atomic(word, "monotonic", 4)
        missing = builder.icmp_unsigned("!=", builder.and_(known, args[1]), args[1])
        with builder.if_then(missing, likely=False):
            builder.atomic_rmw("or", word, args[1], "monotonic")
        return context.get_dummy_value()

    return types.void(types.int64, types.uint32), codegen


@njit
def expand_bits(table, lo, hi, U):
    cloud = cloud_of(table)
    words, voxels = cloud.out_batch, cloud.voxels
    one, zero = of_bits(cloud.one, U), of_bits(0, U)
    for word in range(lo, hi):
        bits = row(cloud.sorted, word, 1, UINT32)[0]
        b, first = word // words, word % words * 32
        out = row(cloud.out, b * voxels + first, min(voxels - first, 32), U)
        for v in range(out.size):
            out[v] = one if bits >> np.uint32(v) & np.uint32(1) else zero
