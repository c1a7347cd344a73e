"""What a user of CuPy writes, and the same lines in NumPy for the CPU."""

from __future__ import annotations

from typing import Any

from ..case import Call, Case
from ..on_space import camera
from ..on_time import statistics


def module(x: Any) -> Any:
    """NumPy or CuPy, whichever the array is of."""
    import sys

    import numpy

    return sys.modules["cupy"] if type(x).__module__.startswith("cupy") else numpy


def search(src: Any, tgt: Any) -> Any:
    """How many stamps of its row are not after each target. searchsorted knows only one row: so
    all rows go behind one another in a single one."""
    xp = module(src)
    if len(src) == 1:
        return xp.searchsorted(src[0], tgt[0], side="right")[None]
    if src.dtype.kind == "f":
        src, tgt = src.astype(xp.float64), tgt.astype(xp.float64)
    first, last = src[:, :1], src[:, -1:]
    span = (last - first).max() + 2
    base = xp.arange(len(src))[:, None] * span
    one = (src - first + base).reshape(-1)
    at = xp.searchsorted(one, (xp.clip(tgt - first, -1, span - 1) + base).reshape(-1), side="right")
    return at.reshape(tgt.shape) - xp.arange(len(src))[:, None] * src.shape[1]


def linear(data: Any, src: Any, tgt: Any) -> Any:
    xp = module(src)
    B, S, D = data.shape
    i1 = xp.clip(search(src, tgt), min(1, S - 1), S - 1)
    i0 = xp.maximum(i1 - 1, 0)
    t0, t1 = (xp.take_along_axis(src, i, 1) for i in (i0, i1))
    numerator, denominator = (tgt - t0).astype(xp.float32), (t1 - t0).astype(xp.float32)
    w = xp.where(
        denominator > 0, numerator / xp.maximum(denominator, 1e-30), numerator >= 0
    ).astype(data.dtype)  # fmt: skip
    w, base = xp.clip(w, 0, 1)[..., None], xp.arange(B)[:, None] * S
    flat = data.reshape(B * S, D)
    y0, y1 = flat[i0 + base], flat[i1 + base]
    return y0 + w * (y1 - y0)


def resample(case: Case) -> Call | None:
    return linear if case.dtype in ("float32", "float64") else None


def fuse(case: Case) -> Call | None:
    def call(*args: Any) -> Any:
        *streams, tgt = args
        parts = [linear(streams[i], streams[i + 1], tgt) for i in range(0, len(streams), 2)]
        return module(tgt).concatenate(parts, -1)

    return call if case.dtype in ("float32", "float64") else None


def windows(case: Case) -> Call | None:
    W = case.sizes[2]

    def call(a: Any, b: Any, c: Any, offsets: Any, anchors: Any) -> Any:
        xp = module(anchors)
        episode = xp.searchsorted(offsets, anchors, side="right")
        start, stop = offsets[episode - 1][:, None], offsets[episode][:, None]
        at = anchors[:, None] + xp.arange(W)
        pad = (at < start) | (at >= stop)
        at = xp.minimum(xp.maximum(at, start), stop - 1)
        return a[at], b[at], c[at], pad

    return call if case.variant == "index" else None


def normalize(case: Case) -> Call | None:
    import numpy as np

    if case.variant == "image":
        return lambda x: x.astype(np.float32) * np.float32(2 / 255) - np.float32(1)
    made: dict[Any, Any] = {}

    def call(x: Any) -> Any:
        xp = module(x)
        if xp not in made:
            mean, std = statistics(case)
            made[xp] = xp.asarray(mean.astype(x.dtype)), xp.asarray((std + 1e-8).astype(x.dtype))
        mean, std = made[xp]
        return (x - mean) / std

    return call if case.dtype in ("float32", "float64") else None


def asof(case: Case) -> Call:
    import numpy as np

    return lambda src, tgt: (search(src, tgt) - 1).astype(np.int32)


def interp(case: Case) -> Call | None:
    return (lambda x, xp, fp: module(x).interp(x, xp, fp).astype(fp.dtype)) if (
        case.sizes[0] == 1
    ) else None  # fmt: skip


def voxels(points: Any, G: int) -> tuple[Any, Any]:
    xp = module(points)
    q = (points + xp.float32(1)) / xp.float32(2 / G)
    inside = ((q >= 0) & (q < G)).all(-1)
    return xp.where(inside[..., None], q, xp.float32(0)).astype(xp.int64), inside


def numbers(points: Any, G: int) -> Any:
    """The number of each point's voxel, or that of a slot behind the grid, [B * N]."""
    xp = module(points)
    B = len(points)
    i, inside = voxels(points, G)
    number = ((xp.arange(B)[:, None] * G + i[..., 0]) * G + i[..., 1]) * G + i[..., 2]
    return xp.where(inside, number, B * G**3).reshape(-1)


def voxelize(case: Case) -> Call | None:
    B, _, G = case.sizes
    cells = B * G**3

    def binary(points: Any) -> Any:
        xp = module(points)
        grid = xp.zeros(cells + 1, xp.uint8)
        grid[numbers(points, G)] = 1
        return grid[:cells].reshape(B, G, G, G)

    def count(points: Any) -> Any:
        xp = module(points)
        number = xp.bincount(numbers(points, G), minlength=cells + 1)[:cells]
        return number.astype(xp.int32).reshape(B, G, G, G)

    def mean(points: Any) -> Any:
        xp = module(points)
        at = numbers(points, G)
        number = xp.maximum(xp.bincount(at, minlength=cells + 1)[:cells], 1)
        flat = points.reshape(-1, 3)
        sums = [xp.bincount(at, flat[:, c], cells + 1)[:cells] for c in range(3)]
        return (xp.stack(sums, -1) / number[:, None]).astype(xp.float32).reshape(B, G, G, G, 3)

    from . import syncs

    return {"uint8": binary, "count": syncs(count), "mean": syncs(mean)}.get(case.variant)


def voxel_indices(case: Case) -> Call:
    def call(points: Any) -> Any:
        xp = module(points)
        i, inside = voxels(points, case.sizes[2])
        return xp.where(inside[..., None], i, -1).astype(xp.int32)

    return call


def depth_to_points(case: Case) -> Call:
    B, V, H, W = case.sizes
    fx, fy, cx, cy = camera(case)

    def call(depth: Any, poses: Any) -> Any:
        xp = module(depth)
        z = depth.astype(xp.float32) * xp.float32(0.001)
        z = xp.where(z > 0, z, xp.float32(xp.nan))
        x = z * ((xp.arange(W, dtype=xp.float32) - xp.float32(cx)) / xp.float32(fx))
        y = z * ((xp.arange(H, dtype=xp.float32)[:, None] - xp.float32(cy)) / xp.float32(fy))
        at = poses[:, :, None, None]
        parts = [
            at[..., i, 0] * x + at[..., i, 1] * y + at[..., i, 2] * z + at[..., i, 3]
            for i in range(3)
        ]
        return xp.stack(parts, -1).reshape(B, V, H * W, 3)

    return call


def voxelize_sparse(case: Case) -> Call:
    from . import syncs

    B, N, G = case.sizes

    @syncs
    def call(points: Any) -> Any:
        xp = module(points)
        found, row, counts = xp.unique(
            numbers(points, G), return_inverse=True, return_counts=True
        )  # fmt: skip
        kept = len(found) - int(found[-1] == B * G**3)
        found, row = found[:kept], xp.where(row == kept, -1, row).reshape(B, N)
        at = xp.stack([found // G**3, found // G**2 % G, found // G % G, found % G], -1)
        return at.astype(xp.int32), counts[:kept].astype(xp.int32), row.astype(xp.int32)

    return call
