"""Lattices of voxels, and the points that fall on them: what the ops on space share."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ._core.array import Meta
from ._core.check import NotDense, dtype_of
from ._core.kernel import Out, Value, Values
from ._core.table import CLOUD
from ._core.time import width

SIZE = {"bool": 1, "uint8": 1, "int8": 1, "float16": 2, "bfloat16": 2, "uint16": 2, "int16": 2,
        "float32": 4, "int32": 4, "uint32": 4, "float64": 8, "int64": 8, "uint64": 8}  # fmt: skip
FLOATS = ("float16", "bfloat16", "float32", "float64")
MOST_CELLS = 2**23  # along an axis: what the kernels' floats tell apart


_FORMAT = CLOUD.format()


def cloud_format(_: Any) -> str:
    """The struct format of the kernels that take a CLOUD, for all of their types."""
    return _FORMAT


def grid_of(grid_size: Any) -> tuple[int, int, int]:
    """Check the number of voxels along each axis."""
    given = grid_size
    if isinstance(grid_size, (int, np.integer)) and not isinstance(grid_size, bool):
        grid_size = (grid_size,) * 3
    try:
        grid = tuple(int(n) for n in grid_size)
        whole = all(a == b for a, b in zip(grid, grid_size, strict=True))
    except (TypeError, ValueError):
        grid, whole = (), False
    if len(grid) != 3 or not whole:
        raise ValueError(f"grid_size is {given!r}, expected three integers, (X, Y, Z)")
    for n in grid:
        if not 1 <= n <= MOST_CELLS:
            raise ValueError(f"grid_size is {given!r}, expected 1 to {MOST_CELLS} voxels an axis")
    return grid[0], grid[1], grid[2]


def three(name: str, x: Any) -> tuple[Any, Any, Any]:
    """A number, or one for each axis, as three."""
    if not isinstance(x, tuple) or type(x) is Value:
        return x, x, x
    if len(x) != 3:
        raise ValueError(f"{name} has {len(x)} numbers, expected one, or one for each of x, y, z")
    return x[0], x[1], x[2]


def together(parts: tuple[Any, ...], make: Callable[..., tuple[float, ...]], count: int) -> Any:
    """What `make` makes of numbers of which some are Values: Values, or a tuple.

    A robot's lattice is the same from call to call, so what was made of it is kept.
    """
    late = [x for x in parts if type(x) is Value]
    if not late:
        return make(*parts)

    @functools.lru_cache(16)
    def convert(*given: Any) -> tuple[float, ...]:
        values = iter(given)
        return make(*[next(values) if type(x) is Value else x for x in parts])

    return Values(tuple(x.position for x in late), convert, f"{count}d")


def number(name: str, x: Any) -> float:
    if type(x) is Meta:
        raise TypeError(f"{name} is an array of shape {x.shape}, expected a number")
    if not isinstance(x, (int, float, np.number)) or isinstance(x, bool):
        raise TypeError(f"{name} is {x!r}, expected a number")
    return float(x)


def lattice(voxel_size: Any, origin: Any, double: bool) -> Any:
    """Origin, size and reciprocal size of the voxels, in the type that coordinates have."""
    of = float if double else np.float32

    def make(*given: Any) -> tuple[float, ...]:
        with np.errstate(over="ignore"):
            corner = [float(of(number("origin", x))) for x in given[:3]]
            size = [float(of(number("voxel_size", x))) for x in given[3:]]
        for x, y in zip(given[:3], corner, strict=True):
            if not math.isfinite(y):
                raise ValueError(f"origin is {x}, expected a finite number")
        for x, y in zip(given[3:], size, strict=True):
            if not 2.0**-64 < y < 2.0**64:
                raise ValueError(f"voxel_size is {x}, expected a size above 0, of 2^-64 to 2^64")
        return (*corner, *size, *[float(of(1.0 / y)) for y in size])

    return together((*three("origin", origin), *three("voxel_size", voxel_size)), make, 9)


def rows_of(name: str, x: Any, rows: tuple[int, ...], columns: int) -> tuple[Any, ...]:
    """A matrix of numbers, flat: so many `rows`, of which the last of four is (0, 0, 0, 1)."""
    if len(x) not in rows or any(type(r) is not tuple or len(r) != columns for r in x):
        shape = " or ".join(f"({n}, {columns})" for n in rows)
        raise ValueError(f"{name} has {len(x)} rows, expected a matrix of shape {shape}")
    return tuple(v for r in x for v in r)


def rigid(name: str, x: Any) -> Any:
    """The twelve numbers of a transform of the host."""
    if type(x) is not tuple:
        given = "a number" if type(x) is Value else repr(x)
        raise TypeError(f"{name} is {given}, expected a matrix (4, 4) or (3, 4)")
    flat = rows_of(name, x, (3, 4), 4)

    def make(*given: Any) -> tuple[float, ...]:
        values = [number(name, v) for v in given]
        if not all(map(math.isfinite, values)):
            raise ValueError(f"{name} has a number that is not finite")
        if values[12:] not in ([], [0.0, 0.0, 0.0, 1.0]):
            raise ValueError(f"{name} ends in the row {tuple(values[12:])}, expected (0, 0, 0, 1)")
        return tuple(values[:12])

    return together(flat, make, 12)


class Clouds(NamedTuple):
    """A batch of point clouds: the fields of the kernels' struct, and what the op needs to know."""

    batched: bool
    rows: int
    most: int  # points in a cloud
    dtype: str
    plain: bool  # floats that lie together, from a multiple of 16 bytes on
    fields: dict[str, Any]

    @property
    def computed(self) -> str:
        return "float64" if self.dtype == "float64" else "float32"


def clouds_of(points: Meta, lengths: Any, mask: Any, transform: Any = None) -> Clouds:
    """Check point clouds ``[B, N, 3]`` or ``[N, 3]``."""
    dtype_of("points", points, FLOATS)
    if len(points.shape) not in (2, 3) or points.shape[-1] != 3:
        raise ValueError(f"points has shape {points.shape}, expected (N, 3) or (B, N, 3)")
    batched = len(points.shape) == 3
    B, N = (points.shape[0], points.shape[1]) if batched else (1, points.shape[0])
    if N >= 2**31:
        raise ValueError(f"points has shape {points.shape}, expected fewer than 2**31 in a cloud")
    if 0 not in points.shape and points.strides[-1] != 1:
        raise NotDense(points)
    fields: dict[str, Any] = {
        "points": points,
        "clouds": B,
        "most": N,
        "row": points.strides[-2],
        "batch": points.strides[0] if batched else 0,
    }
    if lengths is not None:
        dtype_of("lengths", lengths, ("int32", "int64"))
        if lengths.shape != (B,):
            raise ValueError(f"lengths has shape {lengths.shape}, expected ({B},)")
        if B > 1 and lengths.strides != (1,):
            raise NotDense(lengths)
        fields |= {"lengths": lengths, "lengths_width": width(lengths.dtype)}
    if mask is not None:
        dtype_of("mask", mask, ("bool", "uint8"))
        if mask.shape != points.shape[:-1]:
            raise ValueError(f"mask has shape {mask.shape}, expected {points.shape[:-1]}")
        fields |= {
            "mask": mask,
            "mask_row": mask.strides[0] if batched else 0,
            "mask_step": mask.strides[-1],
        }
    fields |= transform_fields("transform", transform, B)
    plain = (
        points.dtype == "float32"
        and points.strides[-1:] == (1,)
        and fields["row"] == 3
        and points.misaligned == 0
        and fields["batch"] % 4 == 0
        and mask is None
        and transform is None
    )
    return Clouds(batched, B, N, points.dtype, plain, fields)


def clouds_in(points: Out) -> Clouds:
    """Point clouds that a plan makes itself: ``[B, N, 3]``."""
    B, N, _ = points.shape
    fields = {"points": points, "clouds": B, "most": N, "row": 3, "batch": 3 * N}
    return Clouds(True, B, N, points.dtype, points.dtype == "float32" and N % 4 == 0, fields)


def transform_fields(name: str, transform: Any, B: int) -> dict[str, Any]:
    if transform is None:
        return {}
    if type(transform) is not Meta:
        return {"moving": 1, "transform": rigid(name, transform)}
    dtype_of(name, transform, ("float32", "float64"))
    shape = transform.shape
    if shape[-2:] not in ((3, 4), (4, 4)) or shape[:-2] not in ((), (B,)):
        raise ValueError(f"{name} has shape {shape}, expected (3, 4), (4, 4) or ({B}, 4, 4)")
    if 0 not in shape and transform.strides[-2:] != (4, 1):
        raise NotDense(transform)
    return {
        "moving": 1,
        "transforms": transform,
        "transforms_row": transform.strides[0] if len(shape) == 3 else 0,
        "transforms_width": width(transform.dtype),
    }


def lattice_fields(
    grid: tuple[int, int, int], voxel_size: Any, origin: Any, B: int, dtype: str
) -> dict[str, Any]:
    """The fields that describe the voxels."""
    if type(voxel_size) is Meta:
        raise TypeError("voxel_size is an array, expected numbers of the host: it shapes no plan")
    # A lattice of more voxels is only for `voxel_indices`, which does not number them.
    fields: dict[str, Any] = {"grid": grid, "voxels": min(math.prod(grid), 2**63 - 1)}
    if type(origin) is Meta:
        dtype_of("origin", origin, ("float32", "float64"))
        if origin.shape not in ((3,), (B, 3)):
            raise ValueError(f"origin has shape {origin.shape}, expected (3,) or ({B}, 3)")
        if 0 not in origin.shape and origin.strides[-1] != 1:
            raise NotDense(origin)
        fields |= {
            "origins": origin,
            "origins_row": origin.strides[0] if len(origin.shape) == 2 else 0,
            "origins_width": width(origin.dtype),
        }
        origin = 0.0
    return fields | {"lattice": lattice(voxel_size, origin, dtype == "float64")}
