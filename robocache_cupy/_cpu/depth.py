"""The definition of cuda_src/depth.cu."""

import numpy as np
from numba.extending import overload

from . import DType, inline, load, njit, of_bits, row, widen
from .cloud import DOUBLE, cloud_of, coordinate, lattice_of, locate

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
def point_of(table, d, u, v, columns, rows, x0, y0, z0, D):
    """Whether a pixel has a depth, and the point it shows."""
    z = widen(d, D, D) * coordinate(table.scale, D)
    if table.along_ray:
        z = z / np.sqrt(columns[3, u] + rows[3, v])
    if not (z > coordinate(table.near, D) and z <= coordinate(table.far, D)):
        return False, z, z, z
    return (
        True,
        z * (columns[0, u] + rows[0, v]) + x0,
        z * (columns[1, u] + rows[1, v]) + y0,
        z * (columns[2, u] + rows[2, v]) + z0,
    )


@inline
def pixels_of(table, image, v, D):
    return row(
        table.points, image * table.image + v * table.image_row,
        max((table.width - 1) * table.image_step + 1, 0), D,
    )  # fmt: skip


@njit
def depth_points(table, lo, hi, D):
    cloud = cloud_of(table)
    width, height = cloud.width, cloud.height
    for line in range(lo, hi):
        image, v = line // height, line % height
        columns, rows = rays_of(cloud, image, computed_dtype(D))
        x0, y0, z0 = position_of(cloud, image, D)
        pixels = pixels_of(cloud, image, v, D)
        out = row(cloud.out, 3 * line * width, 3 * width, computed_dtype(D))
        for u in range(width):
            d = pixels[u * cloud.image_step]
            valid, x, y, z = point_of(cloud, d, u, v, columns, rows, x0, y0, z0, D)
            if valid:
                out[3 * u], out[3 * u + 1], out[3 * u + 2] = x, y, z
            else:
                out[3 * u : 3 * u + 3] = np.nan


@njit
def mark_depth(table, lo, hi, D, PLAIN):
    cloud = cloud_of(table)
    grid = cloud.grid
    for b in range(lo, hi):
        lattice = lattice_of(cloud, b, D)
        bits = row(cloud.sorted, b * cloud.out_batch, cloud.out_batch, UINT32)
        for image in range(b * cloud.views, (b + 1) * cloud.views):
            columns, rows = rays_of(cloud, image, computed_dtype(D))
            x0, y0, z0 = position_of(cloud, image, D)
            for v in range(cloud.height):
                pixels = pixels_of(cloud, image, v, D)
                for u in range(cloud.width):
                    d = pixels[u * cloud.image_step]
                    valid, x, y, z = point_of(cloud, d, u, v, columns, rows, x0, y0, z0, D)
                    if not valid:
                        continue
                    i, j, k = locate(cloud, lattice, x, y, z)
                    if i >= 0 and j >= 0 and k >= 0:
                        here = (i * grid[1] + j) * grid[2] + k
                        bits[here >> 5] |= np.uint32(1) << np.uint32(here & 31)


@njit
def expand_bits(table, lo, hi, U):
    cloud = cloud_of(table)
    one, zero = of_bits(cloud.one, U), of_bits(0, U)
    for b in range(lo, hi):
        bits = row(cloud.sorted, b * cloud.out_batch, cloud.out_batch, UINT32)
        out = row(cloud.out, b * cloud.voxels, cloud.voxels, U)
        for v in range(cloud.voxels):
            out[v] = one if bits[v >> 5] >> np.uint32(v & 31) & np.uint32(1) else zero
