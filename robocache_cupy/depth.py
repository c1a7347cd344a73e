"""Depth images to points and to voxels."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ._core.array import Array, Intrinsics, Matrix, Meta, Scalar, Vector
from ._core.bits import element_bits
from ._core.check import NotDense, dtype_of, inner, one_of
from ._core.kernel import Kernel, Launch, Out
from ._core.plan import Plan, op
from ._core.time import later, width
from ._lattice import (
    SIZE,
    cloud_format,
    clouds_in,
    grid_of,
    lattice_fields,
    number,
    rows_of,
    together,
    transform_fields,
)
from .voxel import dense, given_out, launch, output

__all__ = ["depth_to_points", "depth_to_voxels"]

DEPTHS = ("uint16", "float16", "bfloat16", "float32", "float64")
CONVENTIONS = ("opencv", "opengl")
_MOST = {"float32": 3.4028234663852886e38, "float64": sys.float_info.max}
_RAY, _VIEW = 4, 34  # rows of the table of rays, and elements for what else an image's pixels share
_TILE, _STRIP, _THREADS = 128, 32, 128  # columns and rows of a tile: those of the kernel


_rays = Kernel("depth", "camera_rays", [("float32",), ("float64",)], table=cloud_format)
_points = Kernel("depth", "depth_points", [(d,) for d in DEPTHS], table=cloud_format)
_mark = Kernel(
    "depth", "mark_depth", [(d, plain) for d in DEPTHS for plain in (0, 1)], table=cloud_format
)
_expand = Kernel("depth", "expand_bits", [("uint8",), ("uint16",), ("uint32",)], table=cloud_format)


@op
def depth_to_points(
    depth: Array,
    intrinsics: Intrinsics,
    cam_to_world: Matrix | None = None,
    *,
    depth_to_meters: Scalar | None = None,
    depth_min: Scalar = 0.0,
    depth_max: Scalar = math.inf,
    depth_kind: str = "z",
    pixel_offset: Scalar = 0.0,
    convention: str = "opencv",
    stride: int = 1,
    backend: str = "auto",
) -> Any:
    """Turn depth images into the points they show.

    Pixel (u, v), column and row, of depth z shows the point ``z * ((u + pixel_offset - cx) / fx,
    (v + pixel_offset - cy) / fy, 1)`` of the camera, moved by `cam_to_world`.

    Parameters
    ----------
    depth : array [..., H, W]
        uint16, float16, bfloat16, float32 or float64. Pixels of 0, NaN and infinity have no depth.
    intrinsics : matrix [3, 3], (fx, fy, cx, cy), or array [..., 3, 3] or [..., 4]
        One for all images, one for each, or one for each but along the first axis: the views.
        Of a projection matrix [3, 4] pass ``P[:, :3]``.
    cam_to_world : matrix [4, 4] or [3, 4], or array [..., 4, 4], optional
        Where the camera is: moves points of its frame into the world's. In the same way one for
        all, or for each. Some call its inverse the extrinsics.
    depth_to_meters : number, optional
        Depth times this is in metres: 0.001 for uint16 (millimetres) and 1 for floats, unless
        given.
    depth_min, depth_max : number
        Only depths in ``(depth_min, depth_max]``, in metres along the optical axis, are valid.
    depth_kind : {"z", "ray"}
        Whether depth is measured along the optical axis, as depth cameras give it, or along the
        ray of the pixel.
    pixel_offset : number
        0 where the centre of the first pixel is (0, 0), as calibrations of OpenCV and ROS have it;
        0.5 where it is (0.5, 0.5), as in MuJoCo and robosuite, whose ``cx`` is ``W / 2``.
    convention : {"opencv", "opengl"}
        What the frame of the camera is that `cam_to_world` moves: x right, y down and z forward,
        or x right, y up and z backward.
    stride : int
        Take every so many-th row and column.
    backend : {"auto", "cuda", "numba"}
        auto runs where the arrays lie. Any other choice copies them there and the result back.

    Returns
    -------
    array [..., H * W, 3]
        Row by row; float32, of float64 depth float64. NaN for a pixel without a valid depth, so
        that the shape says nothing of the scene: ops on points drop those.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Notes
    -----
    A ray is computed in double and rounded; the point is ``z * (ray of the column + ray of the
    row) + position``, one operation after another in the type of the result, on CPU and GPU.

    Examples
    --------
    >>> import numpy as np
    >>> from robocache_cupy import depth_to_points
    >>> depth = np.array([[0, 2000]], np.uint16)  # millimetres
    >>> depth_to_points(depth, [[100, 0, 0.5], [0, 100, 0], [0, 0, 1]])
    array([[ nan,  nan,  nan],
           [0.01, 0.  , 2.  ]], dtype=float32)
    """
    cameras = _cameras(
        depth, intrinsics, cam_to_world, depth_to_meters, depth_min, depth_max, depth_kind,
        pixel_offset, convention, stride,
    )  # fmt: skip
    fields, pixels = cameras.fields, cameras.height * cameras.width
    points = Out((*cameras.lead, pixels, 3), cameras.computed)
    fields["out"] = points
    launches = [_make_rays(cameras), _make_points(cameras, fields, depth.dtype)]
    return Plan({"points": points}, launches, [cameras.rays])


@op
def depth_to_voxels(
    depth: Array,
    intrinsics: Intrinsics,
    cam_to_world: Matrix | None,
    grid_size: Any,
    voxel_size: Vector,
    origin: Vector = 0.0,
    *,
    reduce: str | Sequence[str] = "binary",
    features: Array | None = None,
    depth_to_meters: Scalar | None = None,
    depth_min: Scalar = 0.0,
    depth_max: Scalar = math.inf,
    depth_kind: str = "z",
    pixel_offset: Scalar = 0.0,
    convention: str = "opencv",
    stride: int = 1,
    out_of_bounds: str = "drop",
    fill_value: Scalar = 0,
    dtype: Any = None,
    channels_first: bool = False,
    return_counts: bool = False,
    deterministic: bool = True,
    out: Array | None = None,
    backend: str = "auto",
) -> Any:
    """Turn depth images of any number of cameras into dense grids of voxels.

    What `voxelize_point_cloud` makes of the points of `depth_to_points`, bit for bit. A binary
    grid is made without a point cloud in memory.

    Parameters
    ----------
    depth : array [B, V, H, W], [V, H, W] or [H, W]
        V views of one scene fall into one grid. As in `depth_to_points`.
    intrinsics, cam_to_world : matrix or array
        As in `depth_to_points`: one for all, one for each view, or one for each image.
    grid_size : int or three of them
        The number of voxels (X, Y, Z).
    voxel_size : number or three of them
    origin : number, three of them, or array [B, 3]
        The corner of voxel (0, 0, 0) with the smallest coordinates, in the world.
    reduce : str or sequence of them
        As in `voxelize_point_cloud`.
    features : array [B, V, H, W, C], [V, H, W, C] or [H, W, C], optional
        What is reduced, such as colours; by default the coordinates. With a stride, of the pixels
        that it leaves.
    depth_to_meters, depth_min, depth_max, depth_kind, pixel_offset, convention, stride
        As in `depth_to_points`.
    out_of_bounds, fill_value, dtype, channels_first, return_counts, deterministic, out
        As in `voxelize_point_cloud`.
    backend : {"auto", "cuda", "numba"}
        auto runs where the arrays lie. Any other choice copies them there and the result back.

    Returns
    -------
    array [B, X, Y, Z], with features [B, X, Y, Z, C]
        Without B for depth without it. Of several reductions, or with `return_counts`, a named
        tuple of them in the given order, and ``counts``.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Examples
    --------
    A wall one metre in front of the camera, in a grid of half metres around the optical axis:

    >>> import numpy as np
    >>> from robocache_cupy import depth_to_voxels
    >>> depth = np.full((2, 2), 1.0, np.float32)
    >>> grid = depth_to_voxels(depth, (1, 1, 0.5, 0.5), None, (2, 2, 3), 0.5, (-0.5, -0.5, 0))
    >>> np.argwhere(grid)
    array([[0, 0, 2]])
    """
    grid = grid_of(grid_size)
    one_of("out_of_bounds", out_of_bounds, ("drop", "clamp"))
    if len(depth.shape) not in (2, 3, 4):
        raise ValueError(
            f"depth has shape {depth.shape}, expected (H, W), (V, H, W) or (B, V, H, W)"
        )
    cameras = _cameras(
        depth, intrinsics, cam_to_world, depth_to_meters, depth_min, depth_max, depth_kind,
        pixel_offset, convention, stride,
    )  # fmt: skip
    batched = len(depth.shape) == 4
    B = depth.shape[0] if batched else 1
    V = depth.shape[-3] if len(depth.shape) > 2 else 1
    space = lattice_fields(grid, voxel_size, origin, B, cameras.computed)
    space["clamped"] = int(out_of_bounds == "clamp")
    N = V * cameras.height * cameras.width
    if reduce == "binary" and not return_counts and features is None:
        return _marked(cameras, space, grid, B, V, batched, dtype, out)

    points = Out((B, N, 3), cameras.computed)
    fields = cameras.fields | {"out": points}
    made = _make_points(cameras, fields, depth.dtype)
    clouds = clouds_in(points)._replace(batched=batched)
    flat = None if features is None else _flat(features, depth, cameras, B, N, batched)
    return dense(
        clouds, space, grid, reduce, dtype, flat, return_counts, channels_first, fill_value,
        deterministic, out, before=[_make_rays(cameras), made], scratch=[cameras.rays, points],
        features_in=features,
    )  # fmt: skip


def _flat(features: Meta, depth: Meta, cameras: Cameras, B: int, N: int, batched: bool) -> Meta:
    """The features of images as those of points."""
    expected = (*depth.shape[:-2], cameras.height, cameras.width)
    if features.shape[:-1] != expected or len(features.shape) != len(expected) + 1:
        wanted = ", ".join(map(str, (*expected, "C")))
        raise ValueError(f"features has shape {features.shape}, expected ({wanted})")
    axes = len(features.shape)
    C = inner(features, axes - 1)
    inner(features, 1 if batched else 0)
    shape = (B, N, C) if batched else (N, C)
    steps = (N * C, C, 1) if batched else (C, 1)
    if batched and B > 1:
        steps = (features.strides[0], C, 1)
    return features._replace(shape=shape, strides=steps)


def _marked(
    cameras: Cameras, space: dict[str, Any], grid: tuple[int, int, int], B: int, V: int,
    batched: bool, dtype: Any, out: Meta | None,
) -> Plan:  # fmt: skip
    """The plan of a binary grid: bits that pixels set, and that then become elements."""
    made = output("binary", dtype, (B,) if batched else (), grid, "float32", 0, False)
    packed = len(made.shape) < 3
    words = -(-math.prod(grid) // 32)
    result: Out | Meta = made
    if out is not None:
        result = given_out(out, made)
    bits: Any = result if packed else Out((B, words), "uint32")
    fields = cameras.fields | space
    fields |= {"sorted": bits, "out_batch": words, "words": B * words, "views": V, "clouds": B}
    depth = cameras.depth
    plain = not (fields["along_ray"] or space["clamped"]) and math.prod(grid) < 2**31
    lines = cameras.images * cameras.height
    mark = launch(_mark, (depth.dtype, int(plain)), fields, lines, cameras.width, _THREADS)
    launches = [_make_rays(cameras, fields), mark._replace(blocks=_tiles(cameras))]
    scratch = [cameras.rays]
    if not packed:
        parts = -(-math.prod(grid) * SIZE[made.dtype] // 4096)  # a block each: 256 x 16 bytes
        fields = fields | {"out": result, "one": element_bits("one", 1, made.dtype)}
        fields["chunks"] = parts
        expand = launch(_expand, (f"uint{8 * SIZE[made.dtype]}",), fields, B * words, 32, 256)
        launches.append(expand._replace(blocks=max(1, min(B * parts, 2**20))))
        scratch.append(bits)
    return Plan({"binary": result}, launches, scratch, "Voxels")


class Cameras(NamedTuple):
    """Images and how they were taken."""

    depth: Meta
    lead: tuple[int, ...]
    images: int
    height: int
    width: int
    computed: str
    rays: Out
    fields: dict[str, Any]


def _tiles(cameras: Cameras) -> int:
    tiles = cameras.images * -(-cameras.width // _TILE) * -(-cameras.height // _STRIP)
    return max(1, min(tiles, 2**20))


def _make_points(cameras: Cameras, fields: dict[str, Any], dtype: str) -> Launch:
    lines = cameras.images * cameras.height
    made = launch(_points, (dtype,), fields, lines, cameras.width, _THREADS)
    return made._replace(blocks=_tiles(cameras))


def _make_rays(cameras: Cameras, fields: dict[str, Any] | None = None) -> Launch:
    fields = cameras.fields if fields is None else fields
    each = cameras.width + cameras.height
    # It clears the bits, even those of no images.
    made = launch(_rays, (cameras.computed,), fields, max(cameras.images, 1), each, 256)
    items = max(cameras.images * each, fields.get("words", 0) // 4)
    return made._replace(blocks=max(1, min(-(-items // 256), 2**12)))


def _cameras(
    depth: Meta, intrinsics: Any, cam_to_world: Any, depth_to_meters: Any, depth_min: Any,
    depth_max: Any, depth_kind: str, pixel_offset: Any, convention: str, stride: Any,
) -> Cameras:  # fmt: skip
    dtype_of("depth", depth, DEPTHS)
    one_of("depth_kind", depth_kind, ("z", "ray"))
    one_of("convention", convention, CONVENTIONS)
    if len(depth.shape) < 2:
        raise ValueError(f"depth has shape {depth.shape}, expected (..., H, W)")
    if not isinstance(stride, (int, np.integer)) or isinstance(stride, bool) or stride < 1:
        raise ValueError(f"stride is {stride!r}, expected an integer of 1 or more")
    stride = int(stride)
    lead, (H, W) = depth.shape[:-2], depth.shape[-2:]
    images = math.prod(lead)
    image = 0
    if 0 not in depth.shape:
        image = _collapsed(depth, len(lead))
        # Along an axis of one, a stride means nothing, and a copy would keep it.
        if (W > 1 and depth.strides[-1] < 1) or (H > 1 and depth.strides[-2] < 0):
            raise NotDense(depth)
    height, across = -(-H // stride), -(-W // stride)
    computed = "float64" if depth.dtype == "float64" else "float32"
    rays = Out((max(images * (_RAY * (height + across) + _VIEW), 1),), computed)
    default = 0.001 if depth.dtype == "uint16" else 1.0
    fields: dict[str, Any] = {
        "points": depth,
        "rays": rays,
        "images": images,
        "height": height,
        "width": across,
        "stride": stride,
        "image": image,
        "image_row": depth.strides[-2] * stride,
        "image_step": depth.strides[-1] * stride,
        "scale": default if depth_to_meters is None else _metres(depth_to_meters),
        # 0 is no depth, and infinity none.
        "near": later(depth_min, lambda x: max(_limit("depth_min", x), 0.0), "d"),
        "far": later(depth_max, lambda x: min(_limit("depth_max", x), _MOST[computed]), "d"),
        "pixel_offset": later(pixel_offset, _offset, "d"),
        "along_ray": int(depth_kind == "ray"),
        "upward": int(convention == "opengl"),
    }  # fmt: skip
    fields |= _pinhole(intrinsics, lead)
    fields |= _poses(cam_to_world, lead)
    return Cameras(depth, lead, images, height, across, computed, rays, fields)


def _collapsed(x: Meta, axes: int) -> int:
    """The elements from image to image."""
    step, size = 0, 1
    for n, stride in zip(reversed(x.shape[:axes]), reversed(x.strides[:axes]), strict=True):
        if n == 1:
            continue
        if size == 1:
            step = stride
        elif stride != step * size:
            raise NotDense(x)
        size *= n
    return step


def _metres(value: Any) -> Any:
    def convert(x: Any) -> float:
        if not (number("depth_to_meters", x) > 0 and math.isfinite(x)):
            raise ValueError(f"depth_to_meters is {x}, expected a finite number above 0")
        return float(x)

    return later(value, convert, "d")


def _limit(name: str, x: Any) -> float:
    if math.isnan(number(name, x)):
        raise ValueError(f"{name} is NaN, expected a depth in metres")
    return float(x)


def _offset(x: Any) -> float:
    if not math.isfinite(number("pixel_offset", x)):
        raise ValueError(f"pixel_offset is {x}, expected a finite number of pixels")
    return float(x)


def _per_image(name: str, x: Meta, lead: tuple[int, ...], axes: int) -> tuple[int, int]:
    """How many entries an array with one for each image, each view, or all images has, and the
    elements from one to the next."""
    given = x.shape[: len(x.shape) - axes]
    if given not in ((), lead, lead[1:]):
        expected = " or ".join(str((*g, *x.shape[-axes:])) for g in ((), lead[1:], lead))
        raise ValueError(f"{name} has shape {x.shape}, expected {expected}")
    inner(x, 0)
    return max(math.prod(given), 1), math.prod(x.shape[-axes:])


def _pinhole(intrinsics: Any, lead: tuple[int, ...]) -> dict[str, Any]:
    if type(intrinsics) is Meta:
        x = intrinsics
        dtype_of("intrinsics", x, ("float32", "float64"))
        axes = 2 if x.shape[-2:] == (3, 3) else 1
        if axes == 1 and x.shape[-1:] != (4,):
            raise ValueError(f"intrinsics has shape {x.shape}, expected (..., 3, 3) or (..., 4)")
        cycle, step = _per_image("intrinsics", x, lead, axes)
        return {
            "intrinsics": x,
            "intrinsics_row": step,
            "intrinsics_width": width(x.dtype),
            "intrinsics_columns": 3 if axes == 2 else 0,
            "intrinsics_cycle": cycle,
        }
    if not isinstance(intrinsics, tuple):
        raise TypeError(f"intrinsics is {intrinsics!r}, expected a matrix (3, 3)")
    if any(type(r) is tuple for r in intrinsics):  # a Value is a named tuple
        k = rows_of("intrinsics", intrinsics, (3,), 3)
        parts = (k[0], k[4], k[2], k[5])
    elif len(intrinsics) == 4:
        parts = intrinsics
    else:
        raise ValueError(
            f"intrinsics has {len(intrinsics)} numbers, expected four (fx, fy, cx, cy) or (3, 3)"
        )

    def make(*given: Any) -> tuple[float, ...]:
        values = tuple(number("intrinsics", x) for x in given)
        if not all(map(math.isfinite, values)) or values[0] == 0 or values[1] == 0:
            raise ValueError(f"intrinsics give fx, fy, cx, cy = {values}, expected focal lengths")
        return values

    return {"pinhole": together(tuple(parts), make, 4)}


def _poses(cam_to_world: Any, lead: tuple[int, ...]) -> dict[str, Any]:
    if type(cam_to_world) is not Meta:
        return transform_fields("cam_to_world", cam_to_world, 1)
    x = cam_to_world
    dtype_of("cam_to_world", x, ("float32", "float64"))
    if x.shape[-2:] not in ((3, 4), (4, 4)):
        raise ValueError(f"cam_to_world has shape {x.shape}, expected (..., 4, 4) or (..., 3, 4)")
    cycle, step = _per_image("cam_to_world", x, lead, 2)
    return {
        "moving": 1,
        "transforms": x,
        "transforms_row": step,
        "transforms_width": width(x.dtype),
        "transforms_cycle": cycle,
    }
