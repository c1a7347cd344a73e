"""The definition of cuda_src/cloud.cuh."""

import numba
import numpy as np
from numba.extending import overload

from .._core.table import CLOUD
from . import DType, inline, load, row, widen
from .table import void

UINT8, INT64 = DType("uint8"), DType("int64")
FLOAT, DOUBLE = DType("float32"), DType("float64")
_record = CLOUD.dtype()


@inline
def cloud_of(table):
    return numba.carray(void(table), 1, _record)[0]


def coordinate(x, P):
    """A number in the type in which coordinates of dtype P are computed."""
    raise NotImplementedError


@overload(coordinate)
def _coordinate(x, P):
    of = np.float64 if P.dtype == "float64" else np.float32
    return lambda x, P: of(x)


@inline
def count_of(table, b):
    if table.lengths == 0:
        return table.most
    n = load(table.lengths, table.lengths_width, b, INT64)
    return min(max(n, 0), table.most)


@inline
def masked(table, b, n):
    if table.mask == 0:
        return False
    return row(table.mask, b * table.mask_row + n * table.mask_step, 1, UINT8)[0] == 0


@inline
def load_point(table, b, n, P):
    p = row(table.points, b * table.batch + n * table.row, 3, P)
    return widen(p[0], P, P), widen(p[1], P, P), widen(p[2], P, P)


@inline
def transform_of(table, b, P):
    """Three rows of four; not to be used where nothing moves."""
    at = np.empty(12, _numpy(P))
    for i in range(12):
        if table.transforms == 0:
            at[i] = coordinate(table.transform[i], P)
        else:
            at[i] = coordinate(
                load(
                    table.transforms, table.transforms_width, b * table.transforms_row + i, DOUBLE
                ),
                P,
            )
    return at


def _numpy(P):
    raise NotImplementedError


@overload(_numpy)
def _numpy_of(P):
    dtype = np.float64 if P.dtype == "float64" else np.float32
    return lambda P: dtype


@inline
def apply(at, x, y, z):
    """Summed in this order."""
    return (
        ((at[0] * x + at[1] * y) + at[2] * z) + at[3],
        ((at[4] * x + at[5] * y) + at[6] * z) + at[7],
        ((at[8] * x + at[9] * y) + at[10] * z) + at[11],
    )


def keep(moved, i, x, y, z, P):
    """Store point i in the type that its coordinates are computed in."""
    raise NotImplementedError


@overload(keep)
def _keep_of(moved, i, x, y, z, P):
    C = DOUBLE if P.dtype == "float64" else FLOAT

    def implementation(moved, i, x, y, z, P):
        p = row(moved, 3 * i, 3, C)
        p[0], p[1], p[2] = x, y, z

    return implementation


# ------------------------------------------------------------------------------- points, by tiles
# One axis after another, in arrays that fit the cache, so that LLVM computes with vectors.

TILE = 512


def room(shape, P):
    """An array for coordinates of dtype P."""
    raise NotImplementedError


@overload(room)
def _room(shape, P):
    dtype = np.float64 if P.dtype == "float64" else np.float32
    return lambda shape, P: np.empty(shape, dtype)


@inline
def load_points(table, at, b, first, x, y, z, P):
    """Points of a cloud from `first` on, moved."""
    n = x.size
    if table.row == 3:
        p = row(table.points, b * table.batch + first * 3, 3 * n, P).reshape((n, 3))
        for i in range(n):
            x[i], y[i], z[i] = widen(p[i, 0], P, P), widen(p[i, 1], P, P), widen(p[i, 2], P, P)
    else:
        for i in range(n):
            x[i], y[i], z[i] = load_point(table, b, first + i, P)
    if table.moving:
        for i in range(n):
            x[i], y[i], z[i] = apply(at, x[i], y[i], z[i])


@inline
def cells_along(x, origin, size, cells, clamped, found):
    """The voxel of each coordinate along one axis, -1 for none."""
    if clamped:
        for i in range(x.size):
            found[i] = cell(x[i], origin, size, cells, True)
        return
    end = x.dtype.type(cells)  # exact
    for i in range(x.size):
        q = (x[i] - origin) / size
        found[i] = np.int32(q) if (q >= 0) & (q < end) else np.int32(-1)


@inline
def cells_of(table, lattice, points, n, found):
    """The voxels [3, n] of points [3, n], -1 for none along an axis."""
    grid, clamped = table.grid, table.clamped != 0
    for axis in range(3):
        of_axis = found[axis, :n]
        cells_along(
            points[axis, :n], lattice[axis], lattice[3 + axis], grid[axis], clamped, of_axis
        )


@inline
def locate_points(table, lattice, b, first, points, n, found):
    """The voxels [3, n] of points of a cloud from `first` on, -1 for none along any axis or for a
    point that is not there."""
    cells_of(table, lattice, points, n, found)
    drop_points(table, b, first, found[0, :n])


@inline
def drop_points(table, b, first, i):
    """Mark those behind the end of a cloud, and those masked, by -1."""
    n = i.size
    for m in range(max(count_of(table, b) - first, 0), n):
        i[m] = -1
    if table.mask != 0:
        for m in range(n):
            if masked(table, b, first + m):
                i[m] = -1


@inline
def lattice_of(table, b, P):
    """Origin and size of voxels."""
    at = np.empty(6, _numpy(P))
    for i in range(3):
        if table.origins == 0:
            at[i] = coordinate(table.lattice[i], P)
        else:
            at[i] = coordinate(
                load(table.origins, table.origins_width, b * table.origins_row + i, DOUBLE), P
            )
        at[3 + i] = coordinate(table.lattice[3 + i], P)
    return at


@inline
def cell(x, origin, size, cells, clamped):
    """The voxel along one axis, -1 for none."""
    q = (x - origin) / size
    if clamped:
        if not np.isfinite(x):
            return np.int64(-1)
        if q >= cells:
            return cells - 1
        return np.int64(q) if q > 0 else np.int64(0)
    return np.int64(q) if q >= 0 and q < cells else np.int64(-1)


@inline
def keep_points(moved, first, x, y, z, P):
    for i in range(x.size):
        keep(moved, first + i, x[i], y[i], z[i], P)


@inline
def locate(table, at, x, y, z):
    """The voxel of a point, negative for none."""
    grid, clamped = table.grid, table.clamped != 0
    return (
        cell(x, at[0], at[3], grid[0], clamped),
        cell(y, at[1], at[4], grid[1], clamped),
        cell(z, at[2], at[5], grid[2], clamped),
    )
