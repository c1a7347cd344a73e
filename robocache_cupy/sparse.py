"""Point clouds to the voxels that hold any points, and clouds thinned by voxels."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

from ._core.array import Array, HostArray, Matrix, Meta, Vector
from ._core.bits import NAN, element_bits
from ._core.check import dtype_of, one_of
from ._core.kernel import Kernel, Launch, Out
from ._core.plan import Plan, Read, op
from ._core.table import CLOUD, SPARSE
from ._lattice import FLOATS, SIZE, Clouds, cloud_format, clouds_of, grid_of, lattice_fields
from .voxel import ORDERED, SUMMED, feature_fields

__all__ = ["voxel_downsample", "voxelize_sparse"]

_MOST_ROWS = 2**31 - 1  # rows are int32
_UNBOUNDED_BITS = 63  # of a key on an unbounded lattice: 21 for each axis
_DIGIT_BITS = 8  # at most: what the kernels count in shared memory
_THREADS, _BLOCKS = 256, 2**20
_RUN = 8  # points that a thread of the reductions takes, as the kernels have it

_WORDS = ("uint32", "uint64")


_FORMAT = SPARSE.format()


def _kernel(name: str, types: list[tuple[Any, ...]] | None = None) -> Kernel:
    return Kernel("sparse", name, types or ((),), table=lambda _: _FORMAT)


_point_keys = Kernel(
    "sparse", "point_keys", [(p, k, b) for p in FLOATS for k, b in
                             (("uint32", 1), ("uint64", 1), ("uint64", 0))],
    table=cloud_format,
)  # fmt: skip
_count_digits = _kernel("count_digits", [(k,) for k in _WORDS])
_scan_bins = _kernel("scan_bins")
_scatter_points = _kernel("scatter_points", [(k,) for k in _WORDS])
_count_heads = _kernel("count_heads", [(k,) for k in _WORDS])
_rank_heads = _kernel("rank_heads", [(k,) for k in _WORDS])
_lay_out = _kernel("lay_out")
_emit = _kernel("emit", [(k,) for k in _WORDS])
_pad_rows = _kernel("pad_rows")
_gather_rows = _kernel("gather_rows", [(f"uint{8 * n}",) for n in (1, 2, 4, 8)])
_row_centers = _kernel("row_centers", [(p,) for p in FLOATS])
_clear_sums = _kernel("clear_sums")
_largest_terms = _kernel("largest_terms", [(x,) for x in SUMMED])
_add_terms = _kernel("add_terms", [(x,) for x in SUMMED])
_write_sums = _kernel("write_sums", [(o,) for o in FLOATS])
_find_extremes = _kernel("find_extremes", [(x,) for x in ORDERED])
_write_extremes = _kernel("write_extremes", [(x,) for x in ORDERED])


@op
def voxelize_sparse(
    points: Array,
    grid_size: Any,
    voxel_size: Vector,
    origin: Vector = 0.0,
    *,
    features: Array | None = None,
    reduce: str | None = None,
    lengths: HostArray | None = None,
    mask: Array | None = None,
    transform: Matrix | None = None,
    max_voxels: int | None = None,
    max_points_per_voxel: int | None = None,
    order: str = "sorted",
    coord_order: str = "xyz",
    backend: str = "auto",
) -> Any:
    """List the voxels that hold any points, and which points those are.

    A point is in the voxel that `voxelize_point_cloud` puts it in. Every result is the same bits
    in every run, on CPU and GPU.

    Parameters
    ----------
    points : array [B, N, 3] or [N, 3]
        float16, bfloat16 and float32 compute in float32, float64 in float64. ``scan[:, :3]`` is
        not copied. B * N is less than 2^31.
    grid_size : int or three of them
        The number of voxels (X, Y, Z), of which there may be up to 2^62.
    voxel_size : number or three of them
    origin : number, three of them, or array [B, 3]
        The corner of voxel (0, 0, 0) with the smallest coordinates.
    features : array [B, N, C] or [N, C], optional
        What `reduce` and `max_points_per_voxel` take; by default the coordinates, after
        `transform`.
    reduce : {"mean", "sum", "max", "min", "first"}, optional
        Also return the features of each voxel, the same bits as `voxelize_point_cloud` gives: mean
        and sum are float32 (float64 of float64 features), the others keep the dtype.
    lengths : integers [B], optional
        The number of points in each cloud of a padded batch.
    mask : bool array [B, N] or [N], optional
        False drops a point.
    transform : matrix [3, 4] or [4, 4], or array [B, 4, 4], optional
        Moves the points before anything else.
    max_voxels : int, optional
        The rows for each cloud: cloud b has those from ``b * max_voxels`` on, and what it does not
        need has coordinates of -1, counts of 0 and features of 0. Voxels beyond, the last in the
        chosen order, are left out with their points. By default there are as many rows as voxels;
        finding that out reads one number back, which ``jax.jit`` and CUDA graphs cannot.
    max_points_per_voxel : int, optional
        Also return the features of the first P points of each voxel (hard voxelization), as they
        come in the cloud: what mmcv gives with ``deterministic=True`` and spconv on a CPU.
    order : {"sorted", "first_seen"}
        Rows of a cloud ascend by (x, y, z), or by the first point that each has.
    coord_order : {"xyz", "zyx"}
        zyx gives coordinates as (b, z, y, x), as spconv and mmdetection have them.
    backend : {"auto", "cuda", "numba"}
        auto runs where the arrays lie. Any other choice copies them there and the result back.

    Returns
    -------
    SparseVoxels
        A named tuple, of M rows:

        - ``coords`` int32 [M, 4]: cloud and voxel, (b, x, y, z).
        - ``counts`` int32 [M]: the points in it.
        - ``inverse`` int32 [B, N] or [N]: the row of each point, -1 for one that is dropped.
        - ``first`` int32 [M]: the first point in it, as an index into its cloud.
        - ``batch_offsets`` int32 [B + 1]: the rows of cloud b are those from ``batch_offsets[b]``
          to ``batch_offsets[b + 1]``.
        - ``num_voxels`` int32 [B]: the voxels of each cloud, those without a row included.
        - ``features`` [M, C] with `reduce`.
        - ``voxels`` [M, P, C] and ``num_points`` int32 [M] with `max_points_per_voxel`: the
          features of the first P points, 0 where there are none, and how many there are.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Examples
    --------
    >>> import numpy as np
    >>> from robocache_cupy import voxelize_sparse
    >>> cloud = np.array([[0.9, 0, 0], [0.1, 0, 0], [0.8, 0, 0], [9, 9, 9]], np.float32)
    >>> voxels = voxelize_sparse(cloud, (2, 2, 2), 0.5, reduce="mean")
    >>> voxels.coords, voxels.counts, voxels.inverse
    (array([[0, 0, 0, 0], [0, 1, 0, 0]], dtype=int32),
     array([1, 2], dtype=int32),
     array([ 1,  0,  1, -1], dtype=int32))
    >>> voxels.features[:, 0]
    array([0.1 , 0.85], dtype=float32)
    """
    grid = grid_of(grid_size)
    voxels = math.prod(grid)
    if voxels > 2**62:
        raise ValueError(f"grid_size is {grid}, expected at most 2^62 voxels")
    one_of("order", order, ("sorted", "first_seen"))
    one_of("coord_order", coord_order, ("xyz", "zyx"))
    one_of("reduce", reduce, (None, "mean", "sum", "max", "min", "first"))
    most = _whole("max_voxels", max_voxels)
    slots = _whole("max_points_per_voxel", max_points_per_voxel)
    if features is not None and reduce is None and slots is None:
        raise ValueError(
            "features are given, which nothing takes: give reduce= or max_points_per_voxel="
        )
    clouds = clouds_of(points, lengths, mask, transform)
    common = lattice_fields(grid, voxel_size, origin, clouds.rows, clouds.dtype)
    moved = None
    x = points.dtype if features is None else features.dtype
    taken: dict[str, Any] = {}
    if reduce is not None or slots is not None:
        if features is None and transform is not None:
            moved = Out((clouds.rows, clouds.most, 3), clouds.computed)
            x = moved.dtype
        taken = feature_fields(clouds, features, moved)
        dtype_of("features", features, tuple(SIZE))
    bits = max(1, (voxels - 1).bit_length())
    ordering = _Ordering(clouds, clouds.fields | common | {"moved": moved}, bits, True)
    ordering.fields |= {"grid": grid, "reversed": int(coord_order == "zyx")}

    y = None if reduce is None else _reduced_dtype(reduce, x)
    ranked = ordering.ranked(points.shape[:-1], order == "first_seen", most)
    if moved is not None:
        ranked.scratch.append(moved)

    def reduced(rows: int) -> Plan:
        outputs: dict[str, Out | Meta] = {
            "coords": Out((rows, 4), "int32"),
            "counts": Out((rows,), "int32"),
            "inverse": ranked.inverse,
            "first": Out((rows,), "int32"),
            "batch_offsets": ranked.offsets,
            "num_voxels": ranked.voxels,
        }
        limited = None if slots is None else Out((rows,), "int32")
        launches, scratch, fields = ordering.rows(ranked, outputs, rows, limited, slots)
        fields |= taken
        if y is not None:
            outputs["features"] = made = Out((rows, taken["channels"]), y)
            launches += _reductions(str(reduce), fields, x, made, scratch)
        if limited is not None:
            outputs["voxels"] = made = Out((rows, slots, taken["channels"]), x)
            outputs["num_points"] = limited
            launches.append(_gather(fields, made, slots, 0))
        return Plan(outputs, launches, scratch, "SparseVoxels")

    rows = None if most is None else _capacity("max_voxels", most, clouds)
    return _whole_plan(ranked, reduced, rows, "pass max_voxels=")


@op
def voxel_downsample(
    points: Array,
    voxel_size: Vector,
    origin: Vector = 0.0,
    *,
    features: Array | None = None,
    reduce: str = "mean",
    lengths: HostArray | None = None,
    mask: Array | None = None,
    min_points: int = 1,
    capacity: int | None = None,
    backend: str = "auto",
) -> Any:
    """Thin point clouds to one point for each voxel.

    The lattice has no bounds and stays where `origin` is, so voxels do not jump from scan to scan.

    Parameters
    ----------
    points : array [B, N, 3] or [N, 3]
        float16, bfloat16 and float32 compute in float32, float64 in float64. ``scan[:, :3]`` is
        not copied. B * N is less than 2^31. Points that are not finite are dropped.
    voxel_size : number or three of them
    origin : number, three of them, or array [B, 3]
        A corner of voxels. Points 2^20 voxels away from it, along any axis, are dropped: give one
        nearby for coordinates of a map (UTM) and small voxels.
    features : array [B, N, C] or [N, C], optional
        Colours, intensities: reduced with the points.
    reduce : {"mean", "first", "center"}
        What stands for the points of a voxel: their mean, the first of them in the cloud, or the
        centre of the voxel, with the mean of the features.
    lengths : integers [B], optional
        The number of points in each cloud of a padded batch.
    mask : bool array [B, N] or [N], optional
        False drops a point.
    min_points : int
        Voxels with fewer points are dropped.
    capacity : int, optional
        The rows for each cloud: cloud b has those from ``b * capacity`` on, and what it does not
        need has points of NaN, counts of 0 and features of 0. The last voxels of more are left
        out with their points. By default there are as many rows as voxels; finding that out reads
        one number back, which ``jax.jit`` and CUDA graphs cannot.
    backend : {"auto", "cuda", "numba"}
        auto runs where the arrays lie. Any other choice copies them there and the result back.

    Returns
    -------
    Downsampled
        A named tuple, of M rows that ascend by cloud and voxel (x, y, z):

        - ``points`` [M, 3], of the dtype of the argument.
        - ``features`` [M, C], if given. A mean is float32 (float64 of float64 features).
        - ``counts`` int32 [M]: the points in the voxel.
        - ``inverse`` int32 [B, N] or [N]: the row of each point, -1 for one that is dropped.
        - ``batch_offsets`` int32 [B + 1]: the rows of cloud b are those from ``batch_offsets[b]``
          to ``batch_offsets[b + 1]``.
        - ``num_voxels`` int32 [B]: the voxels of each cloud, those without a row included.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Notes
    -----
    Means are made of sums in 64-bit integers, at a scale that the largest coordinate in the voxel
    allows: that of float32 coordinates is exact and rounded at the end, however far the cloud is
    from 0 (but for terms of less than 2^-62 of the largest times their number; float64
    coordinates keep at least 40 bits of the largest, and all while a voxel has less than 512
    points of like size).

    Examples
    --------
    >>> import numpy as np
    >>> from robocache_cupy import voxel_downsample
    >>> cloud = np.array([[0.1, 0, 0], [-0.1, 0, 0], [0.3, 0, 0]])
    >>> thin = voxel_downsample(cloud, 1.0)
    >>> thin.points[:, 0], thin.counts, thin.inverse
    (array([-0.1,  0.2]), array([1, 2], dtype=int32), array([1, 0, 1], dtype=int32))
    >>> voxel_downsample(cloud, 1.0, reduce="center").points[:, 0]
    array([-0.5,  0.5])
    """
    one_of("reduce", reduce, ("mean", "first", "center"))
    rows_each = _whole("capacity", capacity)
    fewest = _whole("min_points", min_points)
    clouds = clouds_of(points, lengths, mask)
    common = lattice_fields((1, 1, 1), voxel_size, origin, clouds.rows, clouds.dtype)
    own = feature_fields(clouds, None, None)
    taken = feature_fields(clouds, features, None)
    of_features = "first" if reduce == "first" else "mean"
    dtype_of("features", features, tuple(SIZE))
    ordering = _Ordering(clouds, clouds.fields | common, _UNBOUNDED_BITS, False)
    ordering.fields["min_points"] = fewest
    for name in ("lattice", "origins", "origins_row", "origins_width"):
        if name in common:
            ordering.fields[name] = common[name]

    y = "" if features is None else _reduced_dtype(of_features, features.dtype)
    nan = element_bits("points", NAN, points.dtype)
    ranked = ordering.ranked(points.shape[:-1], False, rows_each)

    def reduced(rows: int) -> Plan:
        thinned = Out((rows, 3), points.dtype)
        outputs: dict[str, Out | Meta] = {"points": thinned}
        if features is not None:
            outputs["features"] = made = Out((rows, taken["channels"]), y)
        outputs |= {
            "counts": Out((rows,), "int32"),
            "inverse": ranked.inverse,
            "batch_offsets": ranked.offsets,
            "num_voxels": ranked.voxels,
        }
        launches, scratch, fields = ordering.rows(ranked, outputs, rows, None, None)
        if reduce == "center":
            centers = fields | {"out": thinned}
            launches.append(_launch(_row_centers, (points.dtype,), centers, rows, 3, rows))
        else:
            of_points = fields | own
            launches += _reductions(reduce, of_points, points.dtype, thinned, scratch, nan)
        if features is not None:
            of_them = fields | taken
            launches += _reductions(of_features, of_them, features.dtype, made, scratch)
        return Plan(outputs, launches, scratch, "Downsampled")

    rows = None if rows_each is None else _capacity("capacity", rows_each, clouds)
    return _whole_plan(ranked, reduced, rows, "pass capacity=")


def _whole(name: str, x: Any) -> Any:
    """An integer from 1 on, or None."""
    if x is None and name != "min_points":
        return None
    try:
        n = operator.index(x)
    except TypeError:
        raise TypeError(f"{name} is {x!r}, expected an integer") from None
    if not 1 <= n <= _MOST_ROWS:
        raise ValueError(f"{name} is {n}, expected 1 to {_MOST_ROWS}")
    return n


def _capacity(name: str, each: int, clouds: Clouds) -> int:
    if clouds.rows * each > _MOST_ROWS:
        raise ValueError(
            f"{name} is {each}, for {clouds.rows} clouds: expected at most {_MOST_ROWS} rows"
        )
    return clouds.rows * each


def _launch(
    kernel: Kernel, types: tuple[Any, ...], fields: dict[str, Any], items: int, weight: int,
    threads: int, of_block: int = _THREADS,
) -> Launch:  # fmt: skip
    """A launch of so many threads; the reference takes `items`, of `weight` elements each."""
    return Launch(
        kernel, types, SPARSE.arrays(fields), SPARSE.numbers(fields), items=items, weight=weight,
        blocks=max(1, min(-(-threads // of_block), _BLOCKS)), threads=of_block,
    )  # fmt: skip


# ----------------------------------------------------------------------------- points by voxels


class _Ranked(NamedTuple):
    """The launches that sort the points and rank the voxels, and the fields of what follows.
    Nothing here depends on how many voxels there are."""

    launches: list[Launch]
    scratch: list[Out]
    fields: dict[str, Any]
    inverse: Out
    offsets: Out
    voxels: Out
    found: Out


def _whole_plan(
    ranked: _Ranked, reduced: Callable[[int], Plan], rows: int | None, reason: str
) -> Plan | Read:
    """The plan of a call, or without a given number of rows the reading of it."""
    own = [*ranked.scratch, ranked.found]

    def whole(rows: int) -> Plan:
        rest = reduced(rows)
        launches, scratch = [*ranked.launches, *rest.launches], [*own, *rest.scratch]
        return rest._replace(launches=launches, scratch=scratch)

    if rows is not None:
        return whole(rows)
    scratch = [*ranked.scratch, ranked.inverse, ranked.offsets, ranked.voxels]
    counted = Plan({"found": ranked.found}, ranked.launches, scratch)
    return Read(
        counted,
        lambda numbers: whole(numbers[0]),
        reason,
        scratch,
        lambda numbers: reduced(numbers[0]),
    )


class _Ordering:
    """How the points of a batch come in the order of their voxels."""

    def __init__(self, clouds: Clouds, located: dict[str, Any], bits: int, bounded: bool) -> None:
        B, N = clouds.rows, clouds.most
        if B * N > _MOST_ROWS:
            raise ValueError(f"points has {B} x {N} points, expected less than 2^31")
        self.clouds, self.located, self.bounded = clouds, located, bounded
        self.key = "uint32" if bits < 32 and bounded else "uint64"  # all bits: in no voxel
        # Small clouds have small digits: what is counted of each digit should not outgrow them.
        self.passes = -(-bits // min(_DIGIT_BITS, max(4, N.bit_length())))
        self.digit_bits = -(-bits // self.passes)
        chunk = 256
        while chunk < 2048 and B * -(-N // chunk) > 528:  # two waves of blocks
            chunk *= 2
        self.chunk, self.chunks = chunk, -(-N // chunk)
        self.fields: dict[str, Any] = {
            "clouds": B, "most": N, "chunks": self.chunks, "chunk": chunk,
            "min_points": 1,
        }  # fmt: skip

    def ranked(self, shape: tuple[int, ...], by_first: bool, capacity: int | None) -> _Ranked:
        """Sort the points, and rank the voxels: by their keys, or by their first points."""
        B, N = self.clouds.rows, self.clouds.most
        inverse, found = Out(shape, "int32"), Out((1,), "int64")
        voxels, offsets = Out((B,), "int32"), Out((B + 1,), "int32")
        segments, starts = Out((max(B * N, 1),), "int32"), Out((max(B * N, 1),), "int32")
        ranks = Out((max(B * N, 1),), "int32") if by_first else None
        digits, chunks, blocks = 1 << self.digit_bits, self.chunks, B * self.chunks
        keys = [Out((max(B * N, 1),), self.key) for _ in range(2)]
        ids = [Out((max(B * N, 1),), "int32") for _ in range(2)]
        bins = Out((max(blocks * digits, 1),), "int32")
        totals = Out((max(B * digits, 1),), "int32")
        kept = Out((max(B, 1),), "int32")
        of_points = self.located | {
            "sorted": keys[0], "out": inverse, "bins": bins, "bits": self.digit_bits,
            "chunks": chunks, "chunk": self.chunk,
        }  # fmt: skip
        types = (self.clouds.dtype, self.key, int(self.bounded))
        launches = [
            Launch(_point_keys, types, CLOUD.arrays(of_points), CLOUD.numbers(of_points),
                   items=blocks, weight=4 * self.chunk, blocks=max(1, min(blocks, _BLOCKS)),
                   threads=_THREADS)
        ]  # fmt: skip
        fields = self.fields | {"bins": bins, "totals": totals, "kept": kept, "digits": digits}
        for step in range(self.passes):
            here, there = step % 2, (step + 1) % 2
            fields |= {
                "keys": keys[here], "ids": ids[here] if step else None, "next_keys": keys[there],
                "next_ids": ids[there], "shift": step * self.digit_bits,
                "all_points": int(step == 0),
            }  # fmt: skip
            if step:
                launches.append(self.of_chunks(_count_digits, fields))
            launches.append(self.scan(fields))
            launches.append(self.of_chunks(_scatter_points, fields))
        last = self.passes % 2
        fields = self.fields | {
            "keys": keys[last], "ids": ids[last], "bins": bins, "totals": voxels, "kept": kept,
            "digits": 1, "inverse": inverse, "segments": segments, "starts": starts,
            "ranks": ranks, "offsets": offsets, "capacity": capacity or 0,
        }  # fmt: skip
        orders = [fields]
        if by_first:
            orders.append(fields | {"all_points": 1, "by_point": 1})
        for of in orders:
            launches += [
                self.of_chunks(_count_heads, of),
                self.scan(of),
                self.of_chunks(_rank_heads, of),
            ]
        launches.append(_launch(_lay_out, (), fields | {"found": found}, 1, B, 1))
        scratch = [*keys, *ids, bins, totals, kept, segments, starts]
        scratch += [ranks] if ranks is not None else []
        return _Ranked(launches, scratch, fields, inverse, offsets, voxels, found)

    def of_chunks(self, kernel: Kernel, fields: dict[str, Any]) -> Launch:
        """A launch of a block for each chunk of points."""
        blocks = self.clouds.rows * self.chunks
        return _launch(kernel, (self.key,), fields, blocks, self.chunk, blocks * _THREADS)

    def scan(self, fields: dict[str, Any]) -> Launch:
        """A launch of a block for each digit of each cloud, with a thread for four chunks: 7 us
        in place of 21 for 64 clouds of 10 chunks."""
        blocks = self.clouds.rows * fields["digits"]
        threads = min(_THREADS, 32 * max(1, self.chunks // 128))
        return _launch(_scan_bins, (), fields, blocks, self.chunks, blocks * threads, threads)

    def rows(
        self, ranked: _Ranked, outputs: dict[str, Any], rows: int, limited: Out | None,
        slots: int | None,
    ) -> tuple[list[Launch], list[Out], dict[str, Any]]:  # fmt: skip
        """The launches that fill the rows of the result, and the fields of what reduces them."""
        points = self.clouds.rows * self.clouds.most
        row_starts = Out((max(rows, 1),), "int32")
        fields = ranked.fields | {
            "row_starts": row_starts, "coords": outputs.get("coords"), "counts": outputs["counts"],
            "first": outputs.get("first"), "limited": limited, "rows": rows, "slots": slots or 0,
        }  # fmt: skip
        launches = [_launch(_emit, (self.key,), fields, points, 8, points)]
        if fields["capacity"]:
            launches.append(_launch(_pad_rows, (), fields, rows, 4, rows))
        return launches, [row_starts], fields


# ------------------------------------------------------------------------------------- reductions


def _reduced_dtype(name: str, x: str) -> str:
    if name in ("mean", "sum"):
        if x not in SUMMED:
            raise TypeError(f"features has dtype {x}, expected one of {', '.join(SUMMED)}")
        return "float64" if x == "float64" else "float32"
    if name in ("max", "min") and x not in ORDERED:
        raise TypeError(f"features has dtype {x}, expected one of {', '.join(ORDERED)}")
    return x


def _gather(fields: dict[str, Any], out: Out, slots: int, fill: int) -> Launch:
    fields = fields | {"out": out, "slots": slots, "one": fill}
    elements = math.prod(out.shape)
    width = elements // max(out.shape[0], 1)
    types = (f"uint{8 * SIZE[out.dtype]}",)
    return _launch(_gather_rows, types, fields, out.shape[0], width, elements)


def _reductions(
    name: str, fields: dict[str, Any], x: str, out: Out, scratch: list[Out], fill: int = 0
) -> list[Launch]:
    """The launches that reduce features of dtype `x`; what they need is added to the scratch."""
    if name == "first":
        return [_gather(fields, out, 1, fill)]
    rows, C = out.shape
    sums = Out((max(rows * C, 1),), "int64")
    scratch.append(sums)
    of_mean = name in ("mean", "sum")
    fields = fields | {"sums": sums, "out": out, "one": fill, "kind": int(name in ("mean", "min"))}
    if of_mean:
        fields["exponents"] = Out((max(rows * C, 1),), "int32")
        scratch.append(fields["exponents"])
    runs = fields["clouds"] * -(-fields["most"] // _RUN) * C
    weight = C * max(1, fields["clouds"] * fields["most"] // max(rows, 1))
    find = (_largest_terms, _add_terms) if of_mean else (_find_extremes,)
    write = _write_sums if of_mean else _write_extremes
    return [
        _launch(_clear_sums, (), fields, rows * C, 1, rows * C),
        *[_launch(kernel, (x,), fields, rows, weight, runs) for kernel in find],
        _launch(write, (out.dtype,), fields, rows, C, rows * C),
    ]
