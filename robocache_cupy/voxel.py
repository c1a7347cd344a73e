"""Point clouds to voxels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._core.array import Array, HostArray, Matrix, Meta, Scalar, Vector, dtype_name
from ._core.bits import element_bits
from ._core.check import NotDense, dtype_of, inner, one_of
from ._core.kernel import PROCESSORS, Kernel, Launch, Out
from ._core.plan import Plan, op
from ._core.table import CLOUD
from ._core.time import later
from ._lattice import FLOATS, SIZE, Clouds, cloud_format, clouds_of, grid_of, lattice_fields, number
from ._voxel_gradient import by_features

__all__ = [
    "Grid",
    "grid_from_bounds",
    "voxel_centers",
    "voxel_indices",
    "voxelize_occupancy",
    "voxelize_point_cloud",
]

SUMMED = ("uint8", *FLOATS)
ORDERED = ("uint8", "int32", "int64", *FLOATS)

# What a reduction may give; the first is what it gives by default, none the features' own dtype.
REDUCTIONS: dict[str, tuple[str, ...]] = {
    "binary": ("uint8", "bool", "float16", "bfloat16", "float32", "bits"),
    "count": ("int32", "uint8", "uint16"),
    "sum": ("float32", "float16", "bfloat16", "float64"),
    "mean": ("float32", "float16", "bfloat16", "float64"),
    "max": (),
    "min": (),
    "first": (),
}

_MOST_POINTS, _MOST_SLABS = 3840, 2048  # of a chunk, of a lattice: those of the kernels
_FEATURE_BITS = 13
_BLOCKS = 2**20
_MOST_BYTES = 2**40  # of a result; the launches for more would take minutes to plan

# The most bytes of a result, and points in all, up to which it is quicker to clear the result,
# which then stays in the L2, and to scatter the points into it than to sort them first: measured
# on an H200, by what `robocache bench voxelize` prints with this bound and without. It is quicker
# on a CPU too. Points of several warps in one voxel wait for one another, so counts are for fewer.
_SCATTERED = {"binary": (2**24, 2**20), "count": (2**25, 2**19)}

_indices = Kernel(
    "voxel", "voxel_indices", [(p, 0) for p in FLOATS] + [("float32", 1)], table=cloud_format
)
_clear = Kernel("voxel", "clear_voxels", [("uint8",), ("uint16",), ("uint32",)], table=cloud_format)
_scatter = Kernel(
    "voxel", "scatter_points",
    [(p, u, int(u == "int32"), plain)
     for p in FLOATS for plain in (0, 1) if p == "float32" or not plain
     for u in ("uint8", "uint16", "uint32", "int32")],
    table=cloud_format,
)  # fmt: skip
_sort = Kernel(
    "voxel", "sort_points", [(p, 0) for p in FLOATS] + [("float32", 1)],
    table=cloud_format,
)  # fmt: skip
_occupancy = Kernel(
    "voxel", "occupancy", [("uint8", 0), ("uint16", 0), ("uint32", 0), ("uint32", 1)],
    table=cloud_format,
)  # fmt: skip
_count = Kernel("voxel", "count", [(o,) for o in REDUCTIONS["count"]], table=cloud_format)
_total = Kernel(
    "voxel", "total", [(x, o) for x in SUMMED for o in REDUCTIONS["mean"]],
    table=cloud_format,
)  # fmt: skip
_extreme = Kernel("voxel", "extreme", [(x,) for x in ORDERED], table=cloud_format)
_first = Kernel(
    "voxel", "first", [("uint8",), ("uint16",), ("uint32",), ("int64",)],
    table=cloud_format,
)  # fmt: skip


@op(gradient=by_features, by="features")
def voxelize_point_cloud(
    points: Array,
    grid_size: Any,
    voxel_size: Vector,
    origin: Vector = 0.0,
    *,
    reduce: str | Sequence[str] = "binary",
    features: Array | None = None,
    lengths: HostArray | None = None,
    mask: Array | None = None,
    transform: Matrix | None = None,
    out_of_bounds: str = "drop",
    fill_value: Scalar = 0,
    dtype: Any = None,
    channels_first: bool = False,
    return_counts: bool = False,
    deterministic: bool = True,
    out: Array | None = None,
    backend: str = "auto",
) -> Any:
    """Turn point clouds into dense grids of voxels.

    Voxel (i, j, k) is the half-open box from ``origin + (i, j, k) * voxel_size`` on, and a point
    is in it when ``(point - origin) / voxel_size``, rounded as IEEE division rounds, has the whole
    part (i, j, k). Points outside the grid, NaN and infinite ones are dropped. Every result is
    the same bits in every run, whatever the order of the points, and on CPU and GPU.

    Parameters
    ----------
    points : array [B, N, 3] or [N, 3]
        float16, bfloat16 and float32 compute in float32, float64 in float64. The coordinates of a
        point must lie together, the points need not: ``scan[:, :3]`` is not copied. float32
        numbers below 1.2e-38 may count as 0 on a GPU.
    grid_size : int or three of them
        The number of voxels (X, Y, Z).
    voxel_size : number or three of them
        The edge lengths of a voxel, in the unit of the points.
    origin : number, three of them, or array [B, 3]
        The corner of voxel (0, 0, 0) with the smallest coordinates; not the grid's centre. For a
        grid around 0 that is ``-grid_size * voxel_size / 2``: see the example.
    reduce : str or sequence of them
        What becomes of the points of a voxel. Several are made from one pass over the points:

        - ``binary``: 1 where there is any point. uint8; or bool, float16, bfloat16, float32, or
          ``dtype="bits"``: uint32 words ``[B, ceil(X * Y * Z / 32)]`` in which bit k of word w is
          voxel ``32 * w + k``.
        - ``count``: their number. int32; uint8 and uint16 stop at their greatest number.
        - ``sum``, ``mean``: of the features, by channel. float32 (of float64 features float64), or
          any other float, rounded once. Not a number where a feature is not finite.
        - ``max``, ``min``: of the features, by channel, in their dtype. NaN wins; -0 < 0.
        - ``first``: the features of the point that comes first in its cloud.
    features : array [B, N, C] or [N, C], optional
        What is reduced; by default the coordinates, after `transform`.
    lengths : integers [B], optional
        The number of points in each cloud of a padded batch.
    mask : bool array [B, N] or [N], optional
        False drops a point.
    transform : matrix [3, 4] or [4, 4], or array [B, 4, 4], optional
        Moves the points before anything else: ``R @ point + t``, summed from left to right. From
        the frame of the points to that of the grid: `cam_to_world` for points of a camera.
    out_of_bounds : {"drop", "clamp"}
        clamp puts finite points outside the grid into the nearest voxel, as labels need it.
    fill_value : number
        What sum, mean, max, min and first give for a voxel without a point.
    dtype : dtype or sequence of them, optional
        Of the result, where the reduction leaves a choice.
    channels_first : bool
        Features as ``[B, C, X, Y, Z]``, not ``[B, X, Y, Z, C]``.
    return_counts : bool
        Also return the number of points in each voxel, int32.
    deterministic : bool
        False lets sum and mean add in float32, in whatever order points come in.
    out : array, optional
        Where to write the result of a single reduction; row-major, of the right shape and dtype.
    backend : {"auto", "cuda", "numba"}
        auto runs where the arrays lie. Any other choice copies them there and the result back.

    Returns
    -------
    array [B, X, Y, Z], with features [B, X, Y, Z, C]
        Without B for points without it. Of several reductions, or with `return_counts`, a named
        tuple of them in the given order, and ``counts``.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.
    MemoryError
        Where the device has less memory than the result takes, naming the bytes.

    Notes
    -----
    Sums are kept in 64-bit integers, at a scale of each voxel and channel that the largest term and
    the number of terms allow, so adding is exact but for the rounding of a term to 2^-62 of the
    largest times their number (float64 features keep at least 40 bits of the largest one).

    In PyTorch and JAX sum, mean, max, min and first have a gradient by `features`. Of max and min
    it goes to the first of the points that attain them. There is none by the points: pass
    coordinates that should have one as `features`.

    Examples
    --------
    A cloud around 0 fills the corner of a grid that begins at 0, and all of one around 0:

    >>> import numpy as np
    >>> from robocache_cupy import voxelize_point_cloud
    >>> points = np.array([[-0.9, 0, 0], [-0.8, 0.1, 0.2], [0.5, 0.5, 0.5]], np.float32)
    >>> int(voxelize_point_cloud(points, (4, 4, 4), 0.5).sum())
    1
    >>> grid = voxelize_point_cloud(points, (4, 4, 4), 0.5, origin=(-1, -1, -1), reduce="count")
    >>> np.argwhere(grid), grid[grid > 0]
    (array([[0, 2, 2],
           [3, 3, 3]]), array([2, 1], dtype=int32))
    """
    grid = grid_of(grid_size)
    one_of("out_of_bounds", out_of_bounds, ("drop", "clamp"))
    clouds = clouds_of(points, lengths, mask, transform)
    fields = lattice_fields(grid, voxel_size, origin, clouds.rows, clouds.dtype)
    fields["clamped"] = int(out_of_bounds == "clamp")
    return dense(
        clouds, fields, grid, reduce, dtype, features, return_counts, channels_first, fill_value,
        deterministic, out, moving=transform is not None,
    )  # fmt: skip


def dense(
    clouds: Clouds,
    fields: dict[str, Any],
    grid: tuple[int, int, int],
    reduce: Any,
    dtype: Any,
    features: Meta | None,
    return_counts: bool,
    channels_first: bool,
    fill_value: Any,
    deterministic: bool,
    out: Meta | None,
    moving: bool = False,
    before: Sequence[Launch] = (),
    scratch: Sequence[Out] = (),
    features_in: Meta | None = None,
) -> Plan:
    """The plan that reduces clouds on a lattice. `before` is launched first, to make the clouds.
    `features_in` is the array of the call that `features` are in, where they are a view of it."""
    names, dtypes = _reductions(reduce, dtype)
    B, N = clouds.rows, clouds.most
    common = clouds.fields | fields
    if return_counts:
        names, dtypes = [*names, "counts"], [*dtypes, "int32"]

    moved: Out | None = None
    of_features = any(_takes_features(name) for name in names)
    if features is not None and not of_features:
        raise ValueError(f"features are given, which reduce={reduce!r} does not take")
    if of_features:
        if features is None and moving:
            moved = Out((B, N, 3), clouds.computed)
            common["moved"] = moved
        common |= feature_fields(clouds, features, moved)
        if features_in is not None:
            common["features"] = features_in
    x = clouds.dtype if features is None else features.dtype
    if moved is not None:
        x = moved.dtype
    C = common.get("channels", 0)

    lead = (B,) if clouds.batched else ()
    voxels = math.prod(grid)
    outputs: dict[str, Out | Meta] = {}
    for name, given in zip(names, dtypes, strict=True):
        outputs[name] = output(name, given, lead, grid, x, C, channels_first)
    if out is not None:
        if len(outputs) > 1:
            raise ValueError(f"out is given, and the results are several: {', '.join(outputs)}")
        ((name, made),) = outputs.items()
        assert isinstance(made, Out)
        outputs[name] = given_out(out, made)

    for made in outputs.values():
        size = math.prod(made.shape) * SIZE[made.dtype]
        if size > _MOST_BYTES:
            raise MemoryError(f"grid_size is {grid}: the result takes {size} bytes")
    launches = list(before)
    if len(names) == 1 and _is_small(clouds, names[0], outputs[names[0]]):
        launches += _scattered(clouds, voxels, common, names[0], outputs[names[0]])
        return Plan(outputs, launches, scratch, "Voxels")
    sort, reductions, sorted_points = _slabs(clouds, voxels, common, names)
    for begin in range(0, voxels, common["slabs"] << common["bits"]):
        common["first"] = begin
        launches.append(sort(common))
        for name, made in outputs.items():
            launches.append(
                reductions(common, name, made, x, C, channels_first, fill_value, deterministic)
            )
    made_too = [*scratch, sorted_points] + ([moved] if moved is not None else [])
    return Plan(outputs, launches, made_too, "Voxels")


def _is_small(clouds: Clouds, name: str, made: Out | Meta) -> bool:
    """Whether a result is quicker made by `_scattered` than by slabs."""
    if name not in _SCATTERED or _packed(clouds, made) or (
        name == "count" and made.dtype != "int32"  # others stop at their greatest number
    ):  # fmt: skip
        return False
    most_bytes, most_points = _SCATTERED[name]
    size = math.prod(made.shape) * SIZE[made.dtype]
    return size <= most_bytes and clouds.rows * clouds.most <= most_points


def _packed(clouds: Clouds, made: Out | Meta) -> bool:
    """Whether a binary result is words of bits."""
    return len(made.shape) < 3 + clouds.batched


def _scattered(
    clouds: Clouds, voxels: int, common: dict[str, Any], name: str, made: Out | Meta
) -> list[Launch]:
    """The launches that clear a small result and scatter the points into it."""
    counts = name == "count"
    one = 1 if counts else element_bits("one", 1, made.dtype)
    fields = common | {"out": made, "out_batch": voxels, "one": one}
    bits, points = 8 * SIZE[made.dtype], clouds.rows * clouds.most
    clear = launch(_clear, (f"uint{bits}",), fields, clouds.rows * voxels, 1, 256)
    types = (clouds.dtype, "int32" if counts else f"uint{bits}", int(counts),
             int(_plain(clouds, voxels, common)))  # fmt: skip
    scatter = launch(_scatter, types, fields, points, 1, 256)
    packs = -(-clouds.rows * voxels * bits // 128)
    return [
        clear._replace(blocks=max(1, min(-(-packs // 512), _BLOCKS))),
        scatter._replace(blocks=max(1, min(-(-points // 256), _BLOCKS))),
    ]


def given_out(out: Meta, made: Out) -> Meta:
    """Check an array to write to."""
    dtype_of("out", out, (made.dtype,))
    if out.shape != made.shape:
        raise ValueError(f"out has shape {out.shape}, expected {made.shape}")
    try:
        inner(out, 0)
    except NotDense:
        raise ValueError(
            f"out has strides {out.strides}, expected a row-major array without gaps"
        ) from None
    return out


def _takes_features(name: str) -> bool:
    return name in ("sum", "mean", "max", "min", "first")


def _reductions(reduce: Any, dtype: Any) -> tuple[list[str], list[Any]]:
    """The reductions of a call, and the dtype asked for each."""
    several = isinstance(reduce, (tuple, list))
    names = list(reduce) if several else [reduce]
    for name in names:
        one_of("reduce", name, tuple(REDUCTIONS))
    if not names or len(set(names)) < len(names):
        raise ValueError(f"reduce is {reduce!r}, expected different reductions")
    dtypes = list(dtype) if isinstance(dtype, (tuple, list)) else [dtype] * len(names)
    if several and dtype is not None and not isinstance(dtype, (tuple, list)):
        raise ValueError(f"dtype is {dtype!r}, expected one for each of reduce={reduce!r}")
    if len(dtypes) != len(names):
        raise ValueError(f"dtype has {len(dtypes)} entries, and reduce has {len(names)}")
    return names, dtypes


def output(
    name: str, dtype: Any, lead: tuple[int, ...], grid: tuple[int, int, int], x: str, C: int,
    channels_first: bool,
) -> Out:  # fmt: skip
    """The result of a reduction."""
    allowed = REDUCTIONS[name if name != "counts" else "count"]
    asked = None if dtype is None else "bits" if str(dtype) == "bits" else dtype_name(dtype)
    if not allowed:
        allowed, usable = (x,), tuple(SIZE) if name == "first" else ORDERED
        if x not in usable:
            raise TypeError(f"features has dtype {x}, expected one of {', '.join(usable)}")
    elif _takes_features(name):
        if x not in SUMMED:
            raise TypeError(f"features has dtype {x}, expected one of {', '.join(SUMMED)}")
        if x == "float64" and asked is None:
            asked = "float64"
    if asked is None:
        asked = allowed[0]
    if asked not in allowed:
        raise TypeError(f"dtype of {name} is {asked}, expected one of {', '.join(allowed)}")
    if asked == "bits":
        return Out((*lead, -(-math.prod(grid) // 32)), "uint32")
    shape = (*lead, *grid)
    if _takes_features(name):
        shape = (*lead, C, *grid) if channels_first else (*shape, C)
    return Out(shape, asked)


def feature_fields(clouds: Clouds, features: Meta | None, moved: Out | None) -> dict[str, Any]:
    if features is None:
        if moved is not None:
            return {"features": moved, "channels": 3, "feature_row": 3,
                    "feature_batch": 3 * clouds.most}  # fmt: skip
        return {"features": clouds.fields["points"], "channels": 3,
                "feature_row": clouds.fields["row"],
                "feature_batch": clouds.fields["batch"]}  # fmt: skip
    lead = (clouds.rows, clouds.most) if clouds.batched else (clouds.most,)
    if features.shape[:-1] != lead or len(features.shape) != len(lead) + 1:
        expected = ", ".join(map(str, (*lead, "C")))
        raise ValueError(f"features has shape {features.shape}, expected ({expected})")
    if 0 not in features.shape and features.shape[-1] > 1 and features.strides[-1] != 1:
        raise NotDense(features)
    return {
        "features": features,
        "channels": features.shape[-1],
        "feature_row": features.strides[-2],
        "feature_batch": features.strides[0] if clouds.batched else 0,
    }


def sorting(
    clouds: Clouds, voxels: int, common: dict[str, Any], bits: int
) -> tuple[Callable[[dict[str, Any]], Launch], Out]:
    """What sorts the points by slabs of 2 ** bits voxels: the maker of its launch, which `common`
    gets the fields of, and the scratch for the sorted points."""
    B, N = clouds.rows, clouds.most
    slabs = min(_MOST_SLABS, -(-voxels >> bits))
    chunk = 1024
    while chunk < _MOST_POINTS and B * -(-N // chunk) > 2 * PROCESSORS:  # 3 times gain nothing
        chunk = min(2 * chunk, _MOST_POINTS)
    chunks = -(-N // chunk)
    words = B * chunks * chunk + -(-B * chunks * (slabs + 1) // 2)
    sorted_points = Out((max(words, 1),), "uint32")
    lane_bits = 0  # 2 ** lane_bits threads share a chunk's points in a slab
    while lane_bits < 5 and (2 << lane_bits) * chunks <= 640:
        lane_bits += 1
    common |= {"chunks": chunks, "chunk": chunk, "lane_bits": lane_bits}
    common |= {"bits": bits, "slabs": slabs, "sorted": sorted_points}
    plain = int(_plain(clouds, voxels, common))

    def sort(fields: dict[str, Any]) -> Launch:
        # Three blocks a processor: byte grids of 64 x 20,000 points took 34.7 us by two larger
        # ones, and 31.4 so.
        return launch(_sort, (clouds.dtype, plain), fields, B * chunks, chunk, 384)

    return sort, sorted_points


def _plain(clouds: Clouds, voxels: int, common: dict[str, Any]) -> bool:
    """Whether kernels may take their short way: see `sort_points`."""
    return clouds.plain and voxels < 2**31 and not common["clamped"]


def _slabs(clouds: Clouds, voxels: int, common: dict[str, Any], names: Sequence[str]) -> Any:
    """How the points are reduced: the makers of the launches, and the scratch they need."""
    bits = _FEATURE_BITS
    if all(name == "binary" for name in names):
        # Bits are small: wide slabs, as long as there are enough of them for every processor.
        bits = 16
        while bits > 12 and clouds.rows * -(-voxels >> bits) < PROCESSORS:
            bits -= 1
    sort, sorted_points = sorting(clouds, voxels, common, bits)
    slabs = common["slabs"]

    def reduce(
        fields: dict[str, Any], name: str, out: Any, x: str, C: int, channels_first: bool,
        fill: Any, deterministic: bool,
    ) -> Launch:  # fmt: skip
        fields = fields | {"out": out, "out_batch": voxels, "kind": 0}
        if _takes_features(name):
            fields |= {"out_batch": voxels * C, "out_voxel": C, "out_channel": 1}
            if channels_first:
                fields |= {"out_voxel": 1, "out_channel": voxels}
        items, weight = clouds.rows * slabs, 1 << bits
        if name == "binary":
            packed = _packed(clouds, out)
            types: tuple[Any, ...] = (f"uint{8 * SIZE[out.dtype]}", int(packed))
            fields["one"] = 1 if packed else element_bits("one", 1, out.dtype)
            if packed:
                fields["out_batch"] = out.shape[-1]
            # Many slabs by small blocks: bits of 64 x 20,000 points 22 to 19 us.
            threads = 256 if items >= 4 * PROCESSORS else 512
            return launch(_occupancy, types, fields, items, weight, threads)
        if name in ("count", "counts"):
            return launch(_count, (out.dtype,), fields, items, weight, 512)
        if name in ("sum", "mean"):
            fields["kind"] = int(name == "mean") + 2 * (not deterministic)
            fields["fill"] = later(fill, lambda v: number("fill_value", v), "d")
            # Slabs of few points by three small blocks a processor, others by two large ones:
            # of 164 points a slab 283 us and 321, of 488 points 168 and 137.
            threads = 320 if clouds.most < 256 * slabs else 512
            if SIZE[x] in (1, 8):  # of which a thread needs more registers
                threads = 384
            return launch(_total, (x, out.dtype), fields, items, weight, threads)
        fields["one"] = later(fill, lambda v: element_bits("fill_value", v, out.dtype), "q")
        if name == "first":
            types = ("int64" if SIZE[x] == 8 else f"uint{8 * SIZE[x]}",)
            return launch(_first, types, fields, items, weight, 256)
        fields["kind"] = int(name == "min")
        return launch(_extreme, (x,), fields, items, weight, 256)

    return sort, reduce, sorted_points


def launch(
    kernel: Kernel, types: tuple[Any, ...], fields: dict[str, Any], items: int, weight: int,
    threads: int,
) -> Launch:  # fmt: skip
    return Launch(
        kernel, types, CLOUD.arrays(fields), CLOUD.numbers(fields), items=items, weight=weight,
        blocks=max(1, min(items, _BLOCKS)), threads=threads,
    )  # fmt: skip


def voxelize_occupancy(
    points: Array,
    grid_size: Any,
    voxel_size: Any,
    origin: Any = 0.0,
    *,
    backend: str = "auto",
) -> Any:
    """Mark the voxels that hold any point: `voxelize_point_cloud` with ``reduce="binary"``.

    Parameters
    ----------
    points : array [B, N, 3] or [N, 3]
    grid_size : int or three of them
    voxel_size : number or three of them
    origin : number, three of them, or array [B, 3]
        The corner of voxel (0, 0, 0) with the smallest coordinates.
    backend : {"auto", "cuda", "numba"}

    Returns
    -------
    uint8 array [B, X, Y, Z]
        Without B for points without it.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Examples
    --------
    >>> import numpy as np
    >>> from robocache_cupy import voxelize_occupancy
    >>> voxelize_occupancy(np.zeros((1, 3), np.float32), (1, 1, 2), 0.1)
    array([[[1, 0]]], dtype=uint8)
    """
    return voxelize_point_cloud(points, grid_size, voxel_size, origin, backend=backend)


@op
def voxel_indices(
    points: Array,
    grid_size: Any,
    voxel_size: Vector,
    origin: Vector = 0.0,
    *,
    lengths: HostArray | None = None,
    mask: Array | None = None,
    transform: Matrix | None = None,
    out_of_bounds: str = "drop",
    backend: str = "auto",
) -> Any:
    """The voxel that each point lies in.

    The parameters are those of `voxelize_point_cloud`.

    Parameters
    ----------
    points : array [B, N, 3] or [N, 3]
    grid_size : int or three of them
    voxel_size : number or three of them
    origin : number, three of them, or array [B, 3]
    lengths : integers [B], optional
    mask : bool array [B, N] or [N], optional
    transform : matrix [3, 4] or [4, 4], or array [B, 4, 4], optional
    out_of_bounds : {"drop", "clamp"}
    backend : {"auto", "cuda", "numba"}

    Returns
    -------
    int32 array [B, N, 3] or [N, 3]
        (-1, -1, -1) for a point that is dropped.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Examples
    --------
    The voxel of a gripper's position, as a label:

    >>> import numpy as np
    >>> from robocache_cupy import voxel_indices
    >>> voxel_indices(np.array([[0.31, -0.2, 0.05]]), (100, 100, 100), 0.01, (-0.5, -0.5, 0))
    array([[81, 30,  5]], dtype=int32)
    """
    grid = grid_of(grid_size)
    one_of("out_of_bounds", out_of_bounds, ("drop", "clamp"))
    clouds = clouds_of(points, lengths, mask, transform)
    fields = clouds.fields | lattice_fields(grid, voxel_size, origin, clouds.rows, clouds.dtype)
    fields["clamped"] = int(out_of_bounds == "clamp")
    fields["out"] = out = Out(points.shape, "int32")
    items = clouds.rows * clouds.most
    plain = int(_plain(clouds, fields["voxels"], fields))
    made = launch(_indices, (points.dtype, plain), fields, items, 4, 256)
    return Plan({"indices": out}, [made._replace(blocks=min(-(-items // 256), _BLOCKS))])


# ---------------------------------------------------------------------------- lattices of the host


class Grid(NamedTuple):
    """A lattice of voxels: the arguments of `voxelize_point_cloud`, made by `grid_from_bounds`.

    Attributes
    ----------
    grid_size : three of int
        The number of voxels along x, y and z.
    voxel_size : three of float
        Meters.
    origin : three of float
        The corner of voxel (0, 0, 0) with the smallest coordinates.

    Examples
    --------
    >>> import numpy as np
    >>> import robocache_cupy as rc
    >>> lattice = rc.Grid((4, 4, 2), (0.25, 0.25, 0.5), (-0.5, -0.5, 0.0))
    >>> rc.voxelize_occupancy(np.zeros((1, 3)), *lattice).shape
    (4, 4, 2)
    """

    grid_size: tuple[int, int, int]
    voxel_size: tuple[float, float, float]
    origin: tuple[float, float, float]


def grid_from_bounds(
    bounds: Any,
    voxel_size: Any = None,
    *,
    grid_size: Any = None,
    rounding: str = "exact",
) -> Grid:
    """The lattice that fills a box.

    Parameters
    ----------
    bounds : six numbers, or two rows of three
        (x, y, z) of the lower corner and of the upper one: what PerAct calls coord_bounds and
        mmdetection point_cloud_range.
    voxel_size : number or three of them
        Give this or `grid_size`.
    grid_size : int or three of them
    rounding : {"exact", "ceil"}
        exact demands that the box is a whole number of voxels long, to within a thousandth of a
        voxel; ceil takes as many as cover it.

    Returns
    -------
    Grid
        The named tuple (grid_size, voxel_size, origin).

    Raises
    ------
    ValueError
        If the box is no whole number of voxels long.

    Examples
    --------
    >>> from robocache_cupy import grid_from_bounds
    >>> grid_from_bounds((-0.3, -0.5, 0.6, 0.7, 0.5, 1.6), grid_size=100)
    Grid(grid_size=(100, 100, 100), voxel_size=(0.01, 0.01, 0.01), origin=(-0.3, -0.5, 0.6))
    >>> grid_from_bounds((0, 0, 0, 50, 50, 4), 0.16, rounding="ceil").grid_size
    (313, 313, 25)
    """
    one_of("rounding", rounding, ("exact", "ceil"))
    box = np.asarray(bounds, float)
    if box.shape not in ((6,), (2, 3)):
        raise ValueError(f"bounds has shape {box.shape}, expected (6,) or (2, 3)")
    low, high = box.reshape(2, 3)
    if not np.isfinite(box).all() or not (low < high).all():
        raise ValueError(f"bounds is {bounds!r}, expected a lower corner below an upper one")
    if (voxel_size is None) == (grid_size is None):
        raise ValueError("give voxel_size or grid_size, and only one of them")
    x, y, z = low.tolist()
    origin = (x, y, z)
    if grid_size is not None:
        cells = grid_of(grid_size)
        dx, dy, dz = (float(f"{v:.15g}") for v in (high - low) / cells)
        return Grid(cells, (dx, dy, dz), origin)
    size = _of_axes("voxel_size", voxel_size)
    exact = (high - low) / size
    nearest = np.rint(exact)
    off = np.abs(exact - nearest) >= 1e-3
    if rounding == "exact" and off.any():
        axis = "xyz"[int(np.argmax(off))]
        raise ValueError(
            f"bounds is {exact[int(np.argmax(off))]:g} voxels long along {axis}: change bounds or "
            "voxel_size, or pass rounding='ceil' for a larger box"
        )
    cells = grid_of(tuple(int(n) for n in np.where(off, np.ceil(exact), nearest)))
    dx, dy, dz = size.tolist()
    return Grid(cells, (dx, dy, dz), origin)


def _of_axes(name: str, x: Any) -> np.ndarray:
    """A number, or one for each axis, as three."""
    given = np.asarray(x, float)
    if given.shape not in ((), (1,), (3,)):
        raise ValueError(f"{name} is {x!r}, expected a number, or one for each of x, y, z")
    if not np.isfinite(given).all() or (name == "voxel_size" and (given <= 0).any()):
        above = " above 0" if name == "voxel_size" else ""
        raise ValueError(f"{name} is {x!r}, expected finite numbers{above}")
    return np.broadcast_to(given, 3)


def voxel_centers(grid_size: Any, voxel_size: Any, origin: Any = 0.0) -> np.ndarray:
    """The centres of all voxels of a lattice.

    Parameters
    ----------
    grid_size : int or three of them
    voxel_size : number or three of them
    origin : number or three of them

    Returns
    -------
    float64 array [X, Y, Z, 3]
        ``origin + ((i, j, k) + 0.5) * voxel_size``.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Examples
    --------
    >>> from robocache_cupy import voxel_centers
    >>> voxel_centers((2, 1, 1), 0.5)[:, 0, 0]
    array([[0.25, 0.25, 0.25],
           [0.75, 0.25, 0.25]])
    """
    grid = grid_of(grid_size)
    size, corner = _of_axes("voxel_size", voxel_size), _of_axes("origin", origin)
    axes = [c + (np.arange(n) + 0.5) * v for n, v, c in zip(grid, size, corner, strict=True)]
    return np.stack(np.meshgrid(*axes, indexing="ij"), -1)
