"""The ops on space: arguments, calls, bytes that must move, and oracles.

Grids have G voxels to a side over [-1, 1].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import (
    crop_and_sample,
    depth_to_points,
    depth_to_voxels,
    farthest_point_sample,
    voxel_downsample,
    voxel_indices,
    voxelize_point_cloud,
    voxelize_sparse,
)
from .case import Arguments, Call, Case, Kind, Wrong
from .draw import Draw
from .judge import close, equal, numpy, shaped, some, tolerance

SCENES = ("uniform", "surface")
BOX = (-0.6, -0.6, -0.65, 0.6, 0.6, 0.65)  # of crop_and_sample: most of what is on surfaces
OPTIONS: dict[str, dict[str, Any]] = {
    "uint8": {}, "bits": {"dtype": "bits"}, "count": {"reduce": "count"}, "mean": {"reduce": "mean"}
}  # fmt: skip
BYTES = {"uint8": 1, "bits": 1 / 8, "count": 4, "mean": 12}  # of a voxel


def camera(case: Case) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy of images [H, W]."""
    H, W = case.sizes[2:4]
    return 0.94 * W, 0.94 * W, W / 2, H / 2


def draw_cloud(case: Case, draw: Draw) -> Arguments:
    B, N, _ = case.sizes
    return (draw.cloud(B, N, case.tag),)


def voxelize(case: Case) -> Call:
    G, options = case.sizes[2], OPTIONS[case.variant]
    return lambda points: voxelize_point_cloud(points, G, 2 / G, -1.0, **options)


def floor_voxelize(case: Case, args: Arguments) -> int:
    B, N, G = case.sizes
    return B * (12 * N + int(G**3 * BYTES[case.variant]))


def voxels_of(points: np.ndarray, G: int) -> np.ndarray:
    """The voxel of each point [N, 3], as int64 [N, 3], -1 outside; float32 as IEEE has it."""
    q = (points - np.float32(-1.0)) / np.float32(2 / G)
    inside = ((q >= 0) & (q < G)).all(-1, keepdims=True)
    return np.where(inside, q.astype(np.int64), -1)


def numbers_of(found: np.ndarray, G: int) -> np.ndarray:
    """The number in the grid of each point that is in it."""
    found = found[found[:, 0] >= 0]
    return (found[:, 0] * G + found[:, 1]) * G + found[:, 2]


def check_voxelize(case: Case, args: Arguments, results: list[Any], exact: bool) -> float:
    B, _, G = case.sizes
    cells, dtype = G**3, {"uint8": "uint8", "bits": "uint32", "count": "int32", "mean": "float32"}
    shape = {"bits": (B, -(-cells // 32)), "mean": (B, G, G, G, 3)}.get(case.variant, (B, G, G, G))
    shaped(results[0], shape, dtype[case.variant])
    error = 0.0
    for b in some(B, 2):
        points, got = numpy(args[0][b]), numpy(results[0][b])
        found = voxels_of(points, G)
        at = numbers_of(found, G)
        count = np.bincount(at, minlength=cells)
        if case.variant == "bits":
            got = np.unpackbits(got.view(np.uint8), bitorder="little")[:cells]
        if case.variant == "mean":
            inside, got = points[found[:, 0] >= 0], got.reshape(cells, 3)
            sums = [np.bincount(at, inside[:, c].astype(float), cells) for c in range(3)]
            expected = np.stack(sums, -1) / np.maximum(count, 1)[:, None]
            off = np.abs(got - expected).max(-1) > tolerance("float32", 4.0)
            equal(off, np.zeros_like(off), exact, "means")
        else:
            count = count if case.variant == "count" else np.minimum(count, 1)
            error = max(error, equal(got.reshape(-1), count, exact, "voxels"))
    return error


def indices(case: Case) -> Call:
    G = case.sizes[2]
    return lambda points: voxel_indices(points, G, 2 / G, -1.0)


def check_indices(case: Case, args: Arguments, results: list[Any], exact: bool) -> float:
    B, N, G = case.sizes
    shaped(results[0], (B, N, 3), "int32")
    return max(
        equal(numpy(results[0][b]), voxels_of(numpy(args[0][b]), G), exact, "indices")
        for b in some(B, 2)
    )


def draw_depth(case: Case, draw: Draw) -> Arguments:
    B, V, H, W = case.sizes[:4]
    return draw.depth(B, V, H, W), draw.once("rig", lambda: draw.rig(B, V))


def depth_points(case: Case) -> Call:
    return lambda depth, poses: depth_to_points(depth, camera(case), poses)


def check_depth_points(case: Case, args: Arguments, results: list[Any], exact: bool) -> float:
    B, V, H, W = case.sizes
    shaped(results[0], (B, V, H * W, 3), "float32")
    fx, fy, cx, cy = camera(case)
    u, v = np.arange(W), np.arange(H)[:, None]
    error = 0.0
    for b in some(B, 2):
        z = numpy(args[0][b, -1]) * 0.001
        at = numpy(args[1][b, -1].double())
        x = np.stack([z * (u - cx) / fx, z * (v - cy) / fy, z], -1) @ at[:3, :3].T + at[:3, 3]
        x[z == 0] = np.nan
        got = numpy(results[0][b, -1].double())
        if not np.array_equal(np.isnan(got), np.isnan(x.reshape(-1, 3))):
            raise Wrong("other pixels than those without depth are not a number")
        error = max(error, close(np.nan_to_num(got), np.nan_to_num(x.reshape(-1, 3)), 1e-5))
    return error


def depth_voxels(case: Case) -> Call:
    G, options = case.sizes[4], OPTIONS[case.variant]
    return lambda depth, poses: depth_to_voxels(
        depth, camera(case), poses, G, 2 / G, -1.0, **options
    )


def floor_depth_voxels(case: Case, args: Arguments) -> int:
    B, V, H, W, G = case.sizes
    return 2 * B * V * H * W + int(B * G**3 * BYTES[case.variant])


def check_depth_voxels(case: Case, args: Arguments, results: list[Any], exact: bool) -> float:
    """By the Numba kernels, which define what rounds to which voxel."""
    error = 0.0
    for b in some(case.sizes[0], 2):
        G = case.sizes[4]
        expected = depth_to_voxels(
            *(numpy(args[0][b : b + 1]), camera(case), numpy(args[1][b : b + 1])), G, 2 / G, -1.0,
            backend="numba", **OPTIONS[case.variant],
        )  # fmt: skip
        got = numpy(results[0][b : b + 1])
        if case.variant == "bits":
            expected, got = (np.unpackbits(x.view(np.uint8), axis=-1) for x in (expected, got))
        error = max(error, equal(got, expected, exact, "voxels"))
    return error


def farthest(case: Case) -> Call:
    K = case.sizes[2]
    return lambda points: farthest_point_sample(points, K)


def farthest_from(points: np.ndarray, K: int) -> np.ndarray:
    """Positions [K] in one cloud: each time the point farthest from all that were chosen."""
    x, y, z = (np.ascontiguousarray(points[:, i]) for i in range(3))
    chosen = np.full(K, -1)
    distance = np.full(len(points), np.inf, np.float32)
    at = 0
    for k in range(min(K, len(points))):
        chosen[k] = at
        dx, dy, dz = x - x[at], y - y[at], z - z[at]
        np.minimum(distance, (dx * dx + dy * dy) + dz * dz, out=distance)
        distance[at] = -1
        at = int(distance.argmax())
    return chosen


def reach(points: np.ndarray, chosen: np.ndarray) -> float:
    """How far a point is from the nearest chosen one, at most."""
    distance = np.full(len(points), np.inf, np.float32)
    for at in chosen[chosen >= 0]:
        np.minimum(distance, ((points - points[at]) ** 2).sum(-1), out=distance)
    return float(np.sqrt(distance.max(initial=0)))


def check_farthest(case: Case, args: Arguments, results: list[Any], exact: bool) -> float:
    """Of the first cloud the very points; of a peer, which may round otherwise and then goes
    another way, points as well spread."""
    B, _, K = case.sizes
    if tuple(results[0].shape) != (B, K):
        raise Wrong(f"got shape {tuple(results[0].shape)}, expected {(B, K)}")
    cloud, got = numpy(args[0][0]), numpy(results[0][0])
    original = np.arange(len(cloud))
    if case.op == "crop_and_sample":
        low, high = np.array(BOX, np.float32).reshape(2, 3)
        original = np.flatnonzero(((cloud >= low) & (cloud <= high)).all(-1))
        if exact and len(results) > 1:
            equal(numpy(results[1][0]), np.where(got[:, None] >= 0, cloud[got], 0), True, "points")
        got = np.where(np.isin(got, original), np.searchsorted(original, got), -1)
        cloud = cloud[original]
    expected = farthest_from(cloud, K)
    if exact:
        return equal(got, expected, True, "chosen points")
    taken = got[got >= 0]
    if len(np.unique(taken)) != np.count_nonzero(expected >= 0) or taken.max(initial=0) >= len(
        cloud
    ):
        raise Wrong("points come twice, or from outside")
    here, best = reach(cloud, got), reach(cloud, expected)
    if here > 1.05 * best + 1e-6:
        raise Wrong(f"points are up to {here:.3g} from the chosen ones, not {best:.3g}")
    return here - best


def floor_farthest(case: Case, args: Arguments) -> int:
    B, N, K = case.sizes
    return B * (12 * N + 8 * K) + (12 * B * K if case.op == "crop_and_sample" else 0)


def crop(case: Case) -> Call:
    K = case.sizes[2]

    def call(points: Any) -> Any:
        samples = crop_and_sample(points, BOX, K)
        return samples.indices, samples.points

    return call


def sparse(case: Case) -> Call:
    _, N, G = case.sizes

    def call(points: Any) -> Any:
        found = voxelize_sparse(points, G, 2 / G, -1.0, max_voxels=N)
        return found.coords, found.counts, found.inverse

    return call


def occupied(args: Arguments, G: int) -> int:
    """The voxels that hold points, of all clouds."""
    import torch

    q = (args[0] + 1) / (2 / G)
    inside = ((q >= 0) & (q < G)).all(-1)
    i = torch.where(inside[..., None], q, 0).to(torch.int64)
    number = (i[..., 0] * G + i[..., 1]) * G + i[..., 2]
    number = number + G**3 * torch.arange(len(number), device=number.device)[:, None]
    return len(torch.unique(number[inside]))


def floor_sparse(case: Case, args: Arguments) -> int:
    """Points in; the row of each out, and for each row coordinates and count, or mean and count."""
    B, N, G = case.sizes
    return 16 * B * N + occupied(args, G) * (20 if case.op == "voxelize_sparse" else 16)


def _cells(case: Case, cloud: np.ndarray) -> np.ndarray:
    """As the op has it: inside the grid, or of the whole lattice."""
    G = case.sizes[2]
    if case.op == "voxelize_sparse":
        return voxels_of(cloud, G)
    return np.floor((cloud - np.float32(-1)) / np.float32(2 / G)).astype(np.int64)


def check_sparse(case: Case, args: Arguments, results: list[Any], exact: bool) -> float:
    """Of the first cloud. Rows of padding are left out."""
    first, counts, inverse = (numpy(x) for x in results)
    cloud = numpy(args[0][0])
    found = _cells(case, cloud)
    kept = np.ones(len(cloud), bool)
    if case.op == "voxelize_sparse":
        kept = found[:, 0] >= 0
    voxels, of, number = np.unique(found[kept], axis=0, return_inverse=True, return_counts=True)
    rows = np.full(len(cloud), -1)
    rows[kept] = of.reshape(-1)
    if not exact and len(counts) < len(voxels):
        raise Wrong(f"got {len(counts)} rows, expected at least {len(voxels)}")
    if exact:
        equal(inverse[0], rows, True, "rows of points")
    M = len(voxels)
    differing = equal(counts[:M], number, exact, "counts")
    if case.op == "voxelize_sparse":
        equal(first[:M, 1:], voxels, exact, "coordinates")
    else:
        sums = [np.bincount(rows[kept], cloud[kept, c].astype(float), M) for c in range(3)]
        expected = np.stack(sums, -1) / number[:, None]
        off = np.abs(first[:M] - expected).max(-1) > tolerance("float32", 4.0)
        equal(off, np.zeros_like(off), exact, "means")
    return differing


def downsample(case: Case) -> Call:
    _, N, G = case.sizes

    def call(points: Any) -> Any:
        found = voxel_downsample(points, 2 / G, -1.0, capacity=N)
        return found.points, found.counts, found.inverse

    return call


KINDS = {
    f"voxelize-{name}": Kind("BNG", draw_cloud, voxelize, floor_voxelize, check_voxelize)
    for name in OPTIONS
} | {
    "voxel_indices": Kind(
        "BNG", draw_cloud, indices, lambda case, args: 2 * 12 * case.sizes[0] * case.sizes[1],
        check_indices,
    ),
    "depth_to_points": Kind(
        "BVHW", draw_depth, depth_points, lambda case, args: 14 * args[0].numel(),
        check_depth_points, ("uint16",),
    ),
    "depth_to_voxels-uint8": Kind(
        "BVHWG", draw_depth, depth_voxels, floor_depth_voxels, check_depth_voxels, ("uint16",)
    ),
    "depth_to_voxels-bits": Kind(
        "BVHWG", draw_depth, depth_voxels, floor_depth_voxels, check_depth_voxels, ("uint16",)
    ),
    "farthest_point_sample": Kind(
        "BNK", draw_cloud, farthest, floor_farthest, check_farthest, bound="rounds"
    ),
    "crop_and_sample": Kind(
        "BNK", draw_cloud, crop, floor_farthest, check_farthest, bound="rounds"
    ),
    "voxelize_sparse": Kind("BNG", draw_cloud, sparse, floor_sparse, check_sparse),
    "voxel_downsample": Kind("BNG", draw_cloud, downsample, floor_sparse, check_sparse),
}  # fmt: skip
