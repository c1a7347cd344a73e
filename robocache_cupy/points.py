"""Samples of point clouds."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from ._core.array import Array, HostArray, Meta, Scalar
from ._core.check import dtype_of, inner, one_of
from ._core.kernel import PROCESSORS, Kernel, Launch, Out, Value
from ._core.plan import Plan, op
from ._core.time import later
from ._lattice import FLOATS, SIZE, Clouds, clouds_of

__all__ = ["farthest_point_sample"]

RULES = {"first": 0, "centroid": 1}  # the codes of the kernel
GIVEN = 2

# How many points a thread may keep in registers: four of them a point, eight for double.
ROWS = {"float16": (4, 8, 20), "bfloat16": (4, 8, 20), "float32": (4, 8, 20), "float64": (4, 12)}
THREADS = 512
# Blocks that share a cloud tell each other their candidates in every round, which takes as long as
# the distances of some 20,000 points. So they share only what one block cannot keep in registers.
BLOCKS = PROCESSORS  # with fewer, fewer blocks share a cloud
SHARE = 4096  # points of a block that shares a cloud, where there are blocks enough
FEW = 32  # blocks whose candidates one warp reads at once

_first_point = Kernel("points", "first_point", [(x,) for x in FLOATS])
_farthest_points = Kernel(
    "points", "farthest_points", [(x, rows) for x in FLOATS for rows in ROWS[x]]
)
_gather_points = Kernel("points", "gather_points", [(f"uint{n}",) for n in (8, 16, 32, 64)])


@op
def farthest_point_sample(
    points: Array,
    num_samples: int,
    *,
    lengths: HostArray | None = None,
    mask: Array | None = None,
    start: Scalar = "first",
    radius: Scalar | None = None,
    return_points: bool = False,
    pad: str = "zero",
    backend: str = "auto",
) -> Any:
    """Choose points of a cloud that are far from each other.

    One point after another, each the farthest from those chosen before it: the usual way from a
    camera's cloud to the few hundred points that a policy takes.

    Parameters
    ----------
    points : array
        Clouds ``[B, N, 3]``, or one cloud ``[N, 3]``. float16, bfloat16 and float32 are computed
        in float32, float64 in float64. Rows may lie any distance apart: the view ``scan[:, :3]``
        is not copied. A point with a NaN or an infinity is never chosen.
    num_samples : int
        How many points to choose, K: 0 or more, and it may be more than there are.
    lengths : integers [B], optional
        The number of points in each cloud of a padded batch.
    mask : bool array, the shape of `points` without its last axis, optional
        Points where it is False are never chosen.
    start : {"first", "centroid"}, int, or integer array [B]
        The point to begin with: the first that may be chosen; the one farthest from the mean of
        all that may be chosen; or the point of an index, the same in every cloud or one for each.
        In a cloud where that may not be chosen, or is not there, it is the first that may be.
    radius : float, optional
        Choose no further points once all that are left are nearer than this to a chosen one.
    return_points : bool
        Also return the chosen points.
    pad : {"zero", "repeat"}
        What `points` holds where no point was left: zeros, or the chosen ones over again from the
        first. Zeros for a cloud without any.
    backend : {"auto", "cuda", "numba"}
        auto runs where the arrays lie. Any other choice copies them there and the result back.

    Returns
    -------
    int64 array [B, K], or [K] for one cloud (int32 in JAX without x64)
        Indices into the cloud. None comes twice, and when no point is left, or `radius` says so,
        the rest is -1.
    Samples
        With `return_points`: a named tuple ``(indices, points)``. `points` is [B, K, 3], or
        [K, 3], and of the dtype of the argument.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Notes
    -----
    Farthest means the greatest distance to the nearest chosen point. The distance is compared as
    ``(dx * dx + dy * dy) + dz * dz``, and of points equally far the one of the lowest index is
    chosen, so the result is the same on every backend. It is that of
    ``fpsample.fps_sampling(points, K, start_idx=0)`` on finite float32 points.

    The mean is made of 1024 partial sums in float64, of points 1024 apart, which are added in
    pairs, and rounded to the dtype that is computed in.

    A float32 distance takes the radius as a float32: a point at exactly that distance is kept.

    Examples
    --------
    >>> import numpy as np
    >>> from robocache_cupy.points import farthest_point_sample
    >>> cloud = np.array([[0, 0, 0], [1, 0, 0], [9, 0, 0], [5, 0, 0], [np.nan, 0, 0]], "f4")
    >>> farthest_point_sample(cloud, 3)
    array([0, 2, 3])
    >>> farthest_point_sample(cloud, 5, radius=2)
    array([ 0,  2,  3, -1, -1])
    >>> samples = farthest_point_sample(cloud, 4, radius=5, return_points=True, pad="repeat")
    >>> samples.points[:, 0]
    array([0., 9., 0., 9.], dtype=float32)
    """
    K = count_of_samples(num_samples)
    one_of("pad", pad, ("zero", "repeat"))
    if pad != "zero" and not return_points:
        raise ValueError(f"pad is {pad!r}, which fills points: give return_points=True")
    clouds = clouds_of(points, lengths, mask)
    indices, launches, scratch = farthest(points, lengths, mask, clouds, K, start, radius)
    outputs = {"indices": indices}
    if return_points:
        outputs["points"] = chosen = Out((*indices.shape, 3), points.dtype)
        launches.append(gather(points, indices, chosen, clouds, K, pad == "repeat"))
    return Plan(outputs, launches, scratch, result="Samples")


def farthest(
    points: Meta, lengths: Meta | None, mask: Meta | Out | None, clouds: Clouds, K: int, start: Any,
    radius: Any,
) -> tuple[Out, list[Launch], list[Out]]:  # fmt: skip
    """The indices of the farthest points, what makes them, and the scratch that it takes. A mask
    of the plan's own making is dense."""
    B, N = clouds.rows, clouds.most
    rule, index, starts = _start(start, B, N)
    double = points.dtype == "float64"
    blocks, threads, rows = _layout(B, N, ROWS[points.dtype])
    row, batch = points.strides[-2], points.strides[0] if clouds.batched else 0
    mask_row, mask_step = N, 1
    if isinstance(mask, Meta):
        mask_row, mask_step = mask.strides[0] if clouds.batched else 0, mask.strides[-1]
    indices = Out((B, K) if clouds.batched else (K,), "int64")
    distances = Out((B, N), "float64" if double else "float32")
    words = B * (4 + 2 * 5 * 32 * -(-blocks // 32)) if blocks > 1 else 0  # as the kernel has them
    exchange = Out((words,), "int64") if words else None
    cloud = (
        B, N, batch, row, 8 if lengths is None else 4 if lengths.dtype == "int32" else 8,
        mask_row, mask_step, K,
    )  # fmt: skip
    first = Launch(
        _first_point,
        (points.dtype,),
        (points, lengths, mask, starts, indices, exchange),
        (*cloud, rule, 4 if starts is not None and starts.dtype == "int32" else 8, index, words),
        items=B if K else 0,
        weight=4 * N,
        blocks=max(1, min(B, 2**20)),
        threads=1024,
    )
    others = Launch(
        _farthest_points,
        (points.dtype, rows),
        (points, lengths, mask, indices, distances, exchange),
        (*cloud, blocks, _radius(radius)),
        items=B if K else 0,
        weight=N * K,
        blocks=max(1, min(B * blocks, 2**20)),
        threads=threads,
    )
    scratch = [distances] if exchange is None else [distances, exchange]
    return indices, [first, others], scratch


def gather(x: Meta, indices: Out, out: Out, clouds: Clouds, K: int, repeat: bool) -> Launch:
    """What belongs to the points of some indices."""
    items = clouds.rows * K
    return Launch(
        _gather_points,
        (f"uint{8 * SIZE[x.dtype]}",),
        (x, indices, out),
        (items, x.strides[0] if clouds.batched else 0, x.strides[-2], K, int(repeat), x.shape[-1]),
        items=items,
        weight=x.shape[-1],
        blocks=max(1, min(-(-items // 256), 2**20)),
        threads=256,
    )


def count_of_samples(num_samples: Any) -> int:
    try:
        K = operator.index(num_samples)
    except TypeError:
        raise TypeError(f"num_samples is {num_samples!r}, expected an integer") from None
    if K < 0:
        raise ValueError(f"num_samples is {K}, expected 0 or more")
    return K


def _start(start: Any, B: int, N: int) -> tuple[int, Any, Meta | None]:
    """The rule, and the index or the array of indices that it takes."""
    if type(start) is Meta:
        dtype_of("start", start, ("int32", "int64"))
        if start.shape != (B,):
            raise ValueError(f"start has shape {start.shape}, expected ({B},)")
        inner(start, 0)
        return GIVEN, 0, start
    if type(start) is not Value:
        one_of("start", start, tuple(RULES))
        return RULES[start], 0, None

    def convert(x: Any) -> int:
        if not isinstance(x, (int, np.integer)) or isinstance(x, bool):
            raise TypeError(f"start is {x!r}, expected 'first', 'centroid' or integers")
        if not 0 <= x < max(N, 1):
            raise ValueError(f"start is {x}, expected an index of one of the {N} points")
        return int(x)

    return GIVEN, later(start, convert, "q"), None


def _radius(radius: Any) -> Any:
    if radius is None:
        return 0.0
    if type(radius) is Meta:
        raise TypeError(f"radius is an array of shape {radius.shape}, expected a number")

    def convert(x: Any) -> float:
        if not isinstance(x, (int, float, np.number)) or isinstance(x, bool):
            raise TypeError(f"radius is {x!r}, expected a number")
        if not x >= 0:
            raise ValueError(f"radius is {x}, expected 0 or more")
        return float(x)

    return later(radius, convert, "d")


def _layout(B: int, N: int, rows: tuple[int, ...]) -> tuple[int, int, int]:
    """Blocks that share a cloud, their threads, and the points a thread keeps in registers."""
    most = THREADS * rows[-1]
    blocks = 1
    # Candidates hold distances of 32 bits and as many bits of an index.
    if len(rows) == 3 and most < N < 2**32:
        wanted = max(min(FEW, -(-N // SHARE)), -(-N // most))
        blocks = max(1, min(BLOCKS // max(B, 1), wanted))
    threads = min(THREADS, max(32, -(-N // 128) * 32))
    of_thread = -(-N // (blocks * threads))
    if blocks > 1:
        rows = rows[1:]  # with the fewest no cloud is shared
    return blocks, threads, next((r for r in rows if r >= of_thread), rows[-1])
