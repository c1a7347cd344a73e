"""The gradient of dense voxelisation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from . import voxel  # which imports this module first: its contents are there when an op is called
from ._core.array import Array, HostArray, Matrix, Meta, Vector, dtype_name, namespace
from ._core.check import dtype_of, inner, one_of
from ._core.kernel import Kernel, Launch, Out
from ._core.plan import Plan, op
from ._lattice import FLOATS, Clouds, cloud_format, clouds_of, grid_of, lattice_fields

SUMS = ("sum", "mean")
CHOICES = {"max": 0, "min": 1, "first": 2}  # which one of the points, by the kernel's code

_BLOCKS = 2**20

_chosen = Kernel("voxel", "choose_points", [(x,) for x in FLOATS], table=cloud_format)
_gather = Kernel("voxel", "gather_voxels", [(x, y) for x in FLOATS for y in FLOATS])


def by_features(grads: Sequence[Any], arguments: dict[str, Any]) -> Mapping[str, Any]:
    """The gradient of `voxelize_point_cloud` by its features."""
    reduce, features = arguments["reduce"], arguments["features"]
    names = list(reduce) if isinstance(reduce, (tuple, list)) else [reduce]
    points, where = arguments["points"], _where(arguments)
    total = None
    for name, grad in zip(names, grads, strict=False):  # counts come last
        if grad is None or name not in (*SUMS, *CHOICES):
            continue
        chosen = None
        if name in CHOICES:
            chosen, name = chosen_points(points, features=features, reduce=name, **where), "sum"
        part = voxelize_backward(
            grad, points, reduce=name, chosen=chosen, dtype=dtype_name(features.dtype),
            channels_first=arguments["channels_first"], **where,
        )  # fmt: skip
        total = part if total is None else total + part
    return {"features": namespace(features).zeros_like(features) if total is None else total}


def _where(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that say which voxel a point is in."""
    names = ("grid_size", "voxel_size", "origin", "lengths", "mask", "transform", "out_of_bounds",
             "backend")  # fmt: skip
    return {name: arguments[name] for name in names}


def _by_grad(grads: Sequence[Any], arguments: dict[str, Any]) -> Mapping[str, Any]:
    """The gradient of the gradient: what came of the points goes to the voxels again."""
    (of_points,) = grads
    if arguments["chosen"] is not None:
        xp = namespace(of_points)
        of_points = xp.where(arguments["chosen"] != 0, of_points, xp.zeros_like(of_points))
    made = voxel.voxelize_point_cloud(
        arguments["points"], features=of_points, reduce=arguments["reduce"],
        dtype=dtype_name(arguments["grad"].dtype), channels_first=arguments["channels_first"],
        **_where(arguments),
    )  # fmt: skip
    return {"grad": made}


@op(gradient=_by_grad, by="grad")
def voxelize_backward(
    grad: Array,
    points: Array,
    grid_size: Any,
    voxel_size: Vector,
    origin: Vector = 0.0,
    *,
    reduce: str = "sum",
    chosen: Array | None = None,
    lengths: HostArray | None = None,
    mask: Array | None = None,
    transform: Matrix | None = None,
    out_of_bounds: str = "drop",
    dtype: Any = None,
    channels_first: bool = False,
    backend: str = "auto",
) -> Any:
    """The gradient of a loss by the features that were voxelised.

    Each point gathers from its voxel: the gradient of a sum, its part of that of a mean, or
    nothing where it is not `chosen`. Nothing is added up, and nothing rounded but the part of a
    mean. The arguments are those of the call of `voxelize_point_cloud`.

    Parameters
    ----------
    grad : array [B, X, Y, Z, C], or [B, C, X, Y, Z] with `channels_first`
        The gradient by the reduced features. Without B for points without it.
    points : array [B, N, 3] or [N, 3]
    grid_size : int or three of them
    voxel_size : number or three of them
    origin : number, three of them, or array [B, 3]
    reduce : {"sum", "mean"}
    chosen : uint8 array [B, N, C] or [N, C], optional
        For max, min and first: what `chosen_points` gives, with reduce="sum".
    lengths : integers [B], optional
    mask : bool array [B, N] or [N], optional
    transform : matrix [3, 4] or [4, 4], or array [B, 4, 4], optional
    out_of_bounds : {"drop", "clamp"}
    dtype : optional
        dtype of the result, that of the features; by default that of `grad`.
    channels_first : bool
    backend : {"auto", "cuda", "numba"}

    Returns
    -------
    array [B, N, C] or [N, C]
        0 for points that are in no voxel.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Examples
    --------
    Two points share the first voxel, so each gets half of the gradient of their mean; the last
    point is outside:

    >>> import numpy as np
    >>> from robocache_cupy._voxel_gradient import voxelize_backward
    >>> points = np.array([[0.1, 0, 0], [0.4, 0, 0], [0.7, 0, 0], [1.2, 0, 0]])
    >>> grad = np.array([10.0, 1.0]).reshape(2, 1, 1, 1)
    >>> voxelize_backward(grad, points, (2, 1, 1), 0.5, reduce="mean").ravel()
    array([5., 5., 1., 0.])
    """
    one_of("reduce", reduce, SUMS)
    dtype_of("grad", grad, FLOATS)
    result = grad.dtype if dtype is None else dtype_name(dtype)
    if result not in FLOATS:
        raise TypeError(f"dtype is {result}, expected one of {', '.join(FLOATS)}")
    grid, clouds, common = _clouds(
        points, grid_size, voxel_size, origin, lengths, mask, transform, out_of_bounds
    )
    B, N, voxels = clouds.rows, clouds.most, math.prod(grid)
    lead = points.shape[:-2]
    C = _channels(grad, lead, grid, channels_first)
    inner(grad, 0)
    if chosen is not None:
        dtype_of("chosen", chosen, ("uint8",))
        if chosen.shape != (*points.shape[:-1], C):
            expected = (*points.shape[:-1], C)
            raise ValueError(f"chosen has shape {chosen.shape}, expected {expected}")
        if reduce != "sum":
            raise ValueError(f"chosen points are for reduce='sum', got reduce={reduce!r}")
        inner(chosen, 0)

    indices, out = Out((B, N, 3), "int32"), Out((*points.shape[:-1], C), result)
    locate = voxel.launch(
        voxel._indices, (points.dtype, 0), common | {"out": indices}, B * N, 4, 256
    )._replace(blocks=_blocks(B * N))
    launches, scratch = [locate], [indices]
    counts = None
    if reduce == "mean":
        counts = Out((B, voxels), "int32")
        more, sorted_points = _slabs(
            clouds, common, voxels, voxel._count, ("int32",),
            {"out": counts, "out_batch": voxels}, 512,
        )  # fmt: skip
        launches += more
        scratch += [counts, sorted_points]
    items = B * N * C
    launches.append(
        Launch(
            _gather,
            (grad.dtype, result),
            (grad, indices, counts, chosen, out),
            (items, N, C, *grid[1:], voxels, *((1, voxels) if channels_first else (C, 1))),
            items=items,
            weight=4,
            blocks=_blocks(items),
            threads=256,
        )
    )
    return Plan({"features": out}, launches, scratch)


@op
def chosen_points(
    points: Array,
    grid_size: Any,
    voxel_size: Vector,
    origin: Vector = 0.0,
    *,
    features: Array | None = None,
    reduce: str = "max",
    lengths: HostArray | None = None,
    mask: Array | None = None,
    transform: Matrix | None = None,
    out_of_bounds: str = "drop",
    backend: str = "auto",
) -> Any:
    """Which points' features are the max, the min or the first of their voxels.

    The parameters are those of `voxelize_point_cloud`.

    Parameters
    ----------
    points : array [B, N, 3] or [N, 3]
    grid_size : int or three of them
    voxel_size : number or three of them
    origin : number, three of them, or array [B, 3]
    features : array [B, N, C] or [N, C]
        float16, bfloat16, float32 or float64.
    reduce : {"max", "min", "first"}
    lengths : integers [B], optional
    mask : bool array [B, N] or [N], optional
    transform : matrix [3, 4] or [4, 4], or array [B, 4, 4], optional
    out_of_bounds : {"drop", "clamp"}
    backend : {"auto", "cuda", "numba"}

    Returns
    -------
    uint8 array [B, N, C] or [N, C]
        1 for one point of each voxel, by channel: of equal features that of the point that comes
        first in its cloud. Anything for points that are in no voxel.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Examples
    --------
    >>> import numpy as np
    >>> from robocache_cupy._voxel_gradient import chosen_points
    >>> colours = np.array([[1.0, 5.0], [3.0, 5.0]])
    >>> chosen_points(np.zeros((2, 3)), 1, 1.0, features=colours, reduce="max")
    array([[0, 1],
           [1, 0]], dtype=uint8)
    """
    one_of("reduce", reduce, tuple(CHOICES))
    if features is None:
        raise ValueError(f"features are not given, which reduce={reduce!r} takes")
    dtype_of("features", features, FLOATS)
    grid, clouds, common = _clouds(
        points, grid_size, voxel_size, origin, lengths, mask, transform, out_of_bounds
    )
    out = Out(features.shape, "uint8")
    common |= voxel.feature_fields(clouds, features, None)
    launches, sorted_points = _slabs(
        clouds, common, math.prod(grid), _chosen, (features.dtype,),
        {"out": out, "kind": CHOICES[reduce]}, 256,
    )  # fmt: skip
    return Plan({"chosen": out}, launches, [sorted_points])


def _clouds(
    points: Meta, grid_size: Any, voxel_size: Any, origin: Any, lengths: Any, mask: Any,
    transform: Any, out_of_bounds: str,
) -> tuple[tuple[int, int, int], Clouds, dict[str, Any]]:  # fmt: skip
    """The lattice, the clouds, and the fields of both."""
    grid = grid_of(grid_size)
    one_of("out_of_bounds", out_of_bounds, ("drop", "clamp"))
    clouds = clouds_of(points, lengths, mask, transform)
    fields = clouds.fields | lattice_fields(grid, voxel_size, origin, clouds.rows, clouds.dtype)
    fields["clamped"] = int(out_of_bounds == "clamp")
    return grid, clouds, fields


def _channels(
    grad: Meta, lead: tuple[int, ...], grid: tuple[int, ...], channels_first: bool
) -> int:
    at = len(lead) if channels_first else -1
    if len(grad.shape) == len(lead) + 4:
        C = grad.shape[at]
        if grad.shape == ((*lead, C, *grid) if channels_first else (*lead, *grid, C)):
            return C
    axes = [*map(str, lead), *map(str, grid)]
    axes.insert(len(lead) if channels_first else len(axes), "C")
    raise ValueError(f"grad has shape {grad.shape}, expected ({', '.join(axes)})")


def _blocks(items: int) -> int:
    return max(1, min(-(-items // 256), _BLOCKS))


def _slabs(
    clouds: Clouds, fields: dict[str, Any], voxels: int, kernel: Kernel, types: tuple[str, ...],
    more: dict[str, Any], threads: int,
) -> tuple[list[Launch], Out]:  # fmt: skip
    """The launches that sort the points by slabs of voxels and go through these, and the scratch
    for the sorted points."""
    bits = voxel._FEATURE_BITS
    fields = dict(fields)
    sort, sorted_points = voxel.sorting(clouds, voxels, fields, bits)
    launches = []
    for begin in range(0, voxels, fields["slabs"] << bits):
        here = fields | {"first": begin}
        items = clouds.rows * fields["slabs"]
        launches.append(sort(here))
        launches.append(voxel.launch(kernel, types, here | more, items, 1 << bits, threads))
    return launches, sorted_points
