"""The lattice of voxels that is asked for, or that holds all points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .._lattice import MOST_CELLS
from ..align.error import CommandError
from ..voxel import Grid, grid_from_bounds

MOST_BYTES = 1 << 30  # of the counts
_LEAST, _MOST = 1e-9, 1e9  # meters

Size = tuple[float, float, float]


def voxel_of(text: str) -> Size:
    """The edges of a voxel, from ``"0.05"`` or ``"0.05,0.05,0.1"``."""
    try:
        size = [float(number) for number in text.split(",")]
    except ValueError:
        size = []
    if len(size) not in (1, 3) or not all(_LEAST <= edge <= _MOST for edge in size):
        raise CommandError(
            f"--voxel {text}: expected meters above 0, one number or three: 0.05 or 0.05,0.05,0.1"
        )
    x, y, z = size if len(size) == 3 else size * 3
    return x, y, z


def check_bounds(bounds: Sequence[float] | None) -> None:
    """Raise unless they are two corners, the lower one first."""
    if bounds is None:
        return
    for axis, low, high in zip("xyz", bounds[:3], bounds[3:], strict=True):
        if not -_MOST <= low < high <= _MOST:  # NaN is not, either
            raise CommandError(
                f"--bounds: {axis} is from {low:g} to {high:g}, expected XMIN YMIN ZMIN XMAX YMAX "
                f"ZMAX of -{_MOST:g} to {_MOST:g} m"
            )


def grid_in(bounds: Sequence[float], voxel: Size) -> Grid:
    """The voxels that cover a box."""
    low, high = np.array(bounds[:3]), np.array(bounds[3:])
    _check_bytes(np.ceil((high - low) / voxel - 1e-3), voxel, "")
    return grid_from_bounds(bounds, voxel, rounding="ceil")


def grid_around(points: NDArray[np.floating], voxel: Size, name: str) -> Grid:
    """The voxels that hold all finite points, with corners at multiples of their edges."""
    finite = points[np.isfinite(points).all(axis=1)]
    if not len(finite):
        raise CommandError(f"{name} has no valid point: there is nothing to voxelize")
    lows, highs = finite.min(axis=0), finite.max(axis=0)
    size = np.array(voxel)
    with np.errstate(over="ignore", invalid="ignore"):  # of coordinates that are refused
        first = np.floor(lows.astype(float) / size)
        cells = np.floor(highs.astype(float) / size) - first + 1
    _check_bytes(cells, voxel, f"the points are from {_corner(lows)} to {_corner(highs)} m, and ")
    axes = [_axis(*each) for each in zip(lows, highs, voxel, first.tolist(), strict=True)]
    (x, nx), (y, ny), (z, nz) = axes
    return Grid((nx, ny, nz), voxel, (x, y, z))


def _axis(low: np.floating, high: np.floating, edge: float, first: float) -> tuple[float, int]:
    """Origin and number of voxels along an axis.

    In the arithmetic of the ops, which grows with the coordinate: the other points lie between.
    """
    of = low.dtype.type
    while True:
        origin = float(f"{first * edge:.15g}")
        if low >= of(origin):
            return origin, int(np.floor((high - of(origin)) / of(edge))) + 1
        first -= 1


def _corner(corner: NDArray[np.floating]) -> str:
    return f"({', '.join(f'{x:.4g}' for x in corner)})"


def _check_bytes(cells: NDArray[np.float64], voxel: Size, where: str) -> None:
    count = float(np.prod(cells))
    if not (4 * count <= MOST_BYTES and (cells < MOST_CELLS).all()):
        shape = " x ".join(f"{n:,.0f}" if n < 1e9 else f"{n:.3g}" for n in cells)
        raise CommandError(
            f"{where}{shape} voxels of {edges(voxel)} m take {4 * count / 1e9:,.4g} GB, more than "
            f"{MOST_BYTES / 1e9:.3g}: pass --bounds or a larger --voxel"
        )


def edges(voxel: Size) -> str:
    """The edges of a voxel, for people."""
    return " x ".join(f"{edge:g}" for edge in (voxel[:1] if len(set(voxel)) == 1 else voxel))
