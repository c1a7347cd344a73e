"""From a camera's cloud to the few points that a policy takes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._core.array import Array, HostArray, Scalar, Vector
from ._core.check import NotDense, one_of
from ._core.kernel import Kernel, Launch, Out
from ._core.plan import Plan, op
from ._core.time import later
from ._lattice import FLOATS, SIZE, cloud_format, clouds_of, lattice, number, together
from .points import count_of_samples, farthest, gather
from .voxel import launch, sorting

__all__ = ["crop_and_sample"]

METHODS = ("fps", "random", "voxel")


_crop = Kernel("crop", "crop_points", [(p,) for p in FLOATS], table=cloud_format)
_draw = Kernel("crop", "draw_points", table=cloud_format)
_keep = Kernel("voxel", "keep_first", table=cloud_format)


def crop_and_sample(
    points: Array,
    bounds: Any,
    num_samples: int,
    *,
    method: str = "fps",
    voxel_size: Any = None,
    features: Array | None = None,
    seed: int | np.random.Generator | None = 0,
    start: Any = "first",
    lengths: HostArray | None = None,
    mask: Array | None = None,
    pad: str = "zero",
    backend: str = "auto",
) -> Any:
    """Crop clouds to a workspace and take a fixed number of points: what 3D Diffusion Policy does.

    Parameters
    ----------
    points : array [B, N, 3] or [N, 3]
        float16, bfloat16, float32 or float64. Rows may lie any distance apart: the view
        ``cloud[..., :3]`` is not copied. NaN and infinite points are in no box.
    bounds : six numbers, or two rows of three
        (x, y, z) of the lower corner, which belongs to the box, and of the upper one, which does
        not.
    num_samples : int
        How many points to take, K.
    method : {"fps", "random", "voxel"}
        ``fps`` takes one point after another, each the farthest from those before it, as 3D
        Diffusion Policy does. ``random`` draws points with equal chances, none of them twice.
        ``voxel`` draws them of the first point in each voxel of `voxel_size`, as iDP3 does.
    voxel_size : number or three of them
        Of ``method="voxel"``; voxels begin at the lower corner of the box.
    features : array [B, N, C] or [N, C], optional
        What belongs to the points, such as colours, to be taken along.
    seed : int or numpy.random.Generator, optional
        Of the random methods: the same integer draws the same points, on CPU and GPU. A generator
        goes on from where it is, and None draws other points at every call. Clouds of a batch are
        drawn independently.
    start : {"first", "centroid"}, int, or integer array [B]
        Where ``fps`` begins, as in `farthest_point_sample`.
    lengths : integers [B], optional
        The number of points in each cloud of a padded batch.
    mask : bool array [B, N] or [N], optional
        Points where it is False are not taken.
    pad : {"zero", "repeat"}
        What fills the rest where the box holds fewer than K points: zeros, or the points over
        again from the first.
    backend : {"auto", "cuda", "numba"}
        auto runs where the arrays lie. Any other choice copies them there and the result back.

    Returns
    -------
    Samples
        A named tuple: ``indices``, int64 [B, K] (int32 in JAX without x64), -1 where no point was
        left; ``points`` [B, K, 3]; and ``features`` [B, K, C] where they were given. Without B for
        one cloud.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Examples
    --------
    >>> import numpy as np
    >>> from robocache_cupy import crop_and_sample
    >>> cloud = np.array([[0, 0, 0], [5, 0, 0], [0.5, 0, 0], [0.9, 0, 0], [np.nan, 0, 0]], "f4")
    >>> samples = crop_and_sample(cloud, (-1, -1, -1, 1, 1, 1), 2)
    >>> samples.indices, samples.points[:, 0]
    (array([0, 3]), array([0. , 0.9], dtype=float32))
    """
    one_of("method", method, METHODS)
    box = _box(bounds)
    cells: tuple[int, int, int] | None = None
    if method == "voxel":
        if voxel_size is None:
            raise ValueError("method is 'voxel': give voxel_size")
        cells = _cells(box, voxel_size)
    elif voxel_size is not None:
        raise ValueError(f"voxel_size is given, which method={method!r} does not take")
    if method != "fps" and not (isinstance(start, str) and start == "first"):
        raise ValueError(f"start is given, which method={method!r} does not take")
    if seed is None or isinstance(seed, np.random.Generator):
        seed = int(np.random.default_rng(seed).integers(2**63))
    return _crop_and_sample(
        points, num_samples, box, features=features, lengths=lengths, mask=mask, method=method,
        cells=cells, voxel_size=0.0 if voxel_size is None else voxel_size, seed=seed, start=start,
        pad=pad, backend=backend,
    )  # fmt: skip


def _box(bounds: Any) -> tuple[float, ...]:
    """Checked in plain Python, which torch.compile runs while it traces."""
    rows = bounds.tolist() if isinstance(bounds, np.ndarray) else bounds
    try:
        corners = (rows,) if len(rows) == 6 else rows
        box = tuple([float(x) for corner in corners for x in corner])
    except TypeError:
        raise TypeError(f"bounds is {bounds!r}, expected six numbers of the host") from None
    if len(box) != 6 or len(corners) > 2:
        raise ValueError(f"bounds is {bounds!r}, expected six numbers, or two corners of three")
    if not all(box[axis] < box[3 + axis] for axis in range(3)):
        raise ValueError(f"bounds is {bounds!r}, expected a lower corner below an upper one")
    return box


def _cells(box: tuple[float, ...], voxel_size: Any) -> tuple[int, int, int]:
    """The number of voxels that cover the box."""
    sizes = voxel_size.tolist() if isinstance(voxel_size, np.ndarray) else voxel_size
    sizes = [sizes] * 3 if isinstance(sizes, (int, float)) else list(sizes)
    if len(sizes) != 3 or not all(math.isfinite(size) and size > 0 for size in sizes):
        raise ValueError(f"voxel_size is {voxel_size!r}, expected finite sizes above 0")
    extent = [box[3 + axis] - box[axis] for axis in range(3)]
    if not all(math.isfinite(x) for x in extent):
        raise ValueError(f"bounds is {box}, expected a finite box for method='voxel'")
    # One more than needed where the division comes out even: it costs nothing, and no point that
    # rounding carries over the last edge is lost.
    cells = [math.floor(x / float(size)) + 1 for x, size in zip(extent, sizes, strict=True)]
    if max(cells) > 2**23:
        raise ValueError(f"voxel_size is {voxel_size!r}: the box has {max(cells)} on an axis")
    if math.prod(cells) > 2**30:
        raise ValueError(
            f"voxel_size is {voxel_size!r}: the box has {math.prod(cells)} voxels, "
            "expected at most 2**30; voxel_downsample takes any"
        )
    return cells[0], cells[1], cells[2]


@op
def _crop_and_sample(
    points: Array,
    num_samples: int,
    box: Vector,
    *,
    features: Array | None = None,
    lengths: HostArray | None = None,
    mask: Array | None = None,
    method: str = "fps",
    cells: Any = None,
    voxel_size: Vector = 0.0,
    seed: Scalar = 0,
    start: Scalar = "first",
    pad: str = "zero",
    backend: str = "auto",
) -> Any:
    """Crop and sample; see `crop_and_sample`."""
    K = count_of_samples(num_samples)
    one_of("pad", pad, ("zero", "repeat"))
    clouds = clouds_of(points, lengths, mask)
    B, N = clouds.rows, clouds.most
    if features is not None:
        if features.shape[:-1] != points.shape[:-1] or len(features.shape) != len(points.shape):
            expected = ", ".join(map(str, (*points.shape[:-1], "C")))
            raise ValueError(f"features has shape {features.shape}, expected ({expected})")
        if features.dtype not in SIZE:
            raise TypeError(
                f"features has dtype {features.dtype}, expected one of {', '.join(SIZE)}"
            )
        if 0 not in features.shape and features.shape[-1] > 1 and features.strides[-1] != 1:
            raise NotDense(features)

    inside = Out((B, N), "uint8")
    fields = clouds.fields | {"out": inside, "lattice": together(box, _corners, 9)}
    scratch = [inside]
    kept = inside
    if method == "voxel":
        fields["moved"] = kept = Out((B, N), "uint8")
        scratch.append(kept)
    launches = [_all_points(launch(_crop, (points.dtype,), fields, B * N, 4, 256))]
    if method == "fps":
        indices, made, more = farthest(points, None, inside, clouds, K, start, None)
        launches += made
        scratch += more
    else:
        if method == "voxel":
            voxels = math.prod(cells)
            low: Any = box[:3]
            common = clouds.fields | {
                "grid": cells, "voxels": voxels, "clamped": 0, "out": kept,
                "lattice": lattice(voxel_size, low, clouds.dtype == "float64"),
                "mask": inside, "mask_row": N, "mask_step": 1, "lengths": None,
            }  # fmt: skip
            sort, sorted_points = sorting(clouds._replace(plain=False), voxels, common, 13)
            scratch.append(sorted_points)
            items = B * common["slabs"]
            for begin in range(0, voxels, common["slabs"] << common["bits"]):
                common["first"] = begin
                launches.append(sort(common))
                launches.append(launch(_keep, (), common, items, 1 << common["bits"], 256))
        indices = Out((B, K) if clouds.batched else (K,), "int64")
        listed = Out((B, N), "int32")
        scratch.append(listed)
        fields = {
            "clouds": B, "most": N, "mask": kept, "sorted": listed, "out": indices,
            "out_batch": K, "one": later(seed, _seed, "q"),
        }  # fmt: skip
        launches.append(launch(_draw, (), fields, B if K else 0, N, 512))

    outputs = {"indices": indices, "points": Out((*indices.shape, 3), points.dtype)}
    repeat = pad == "repeat"
    launches.append(gather(points, indices, outputs["points"], clouds, K, repeat))
    if features is not None:
        outputs["features"] = Out((*indices.shape, features.shape[-1]), features.dtype)
        launches.append(gather(features, indices, outputs["features"], clouds, K, repeat))
    return Plan(outputs, launches, scratch, "Samples")


def _all_points(made: Launch) -> Launch:
    return made._replace(blocks=max(1, min(-(-made.items // 256), 2**20)))


def _corners(*box: Any) -> tuple[float, ...]:
    return (*[number("bounds", x) for x in box], 0.0, 0.0, 0.0)


def _seed(x: Any) -> int:
    if not isinstance(x, (int, np.integer)) or isinstance(x, bool):
        raise TypeError(f"seed is {x!r}, expected an integer")
    bits = int(x) & (2**64 - 1)
    return bits - 2**64 if bits >= 2**63 else bits
