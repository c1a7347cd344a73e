"""What a user of PyTorch writes in place of the ops on space, without a read back to the host
where there is a way. torch.compile makes its kernels of the same functions."""

from __future__ import annotations

from typing import Any

from ..case import Call, Case
from ..on_space import BOX, camera
from . import syncs

DUMP = 1024  # slots behind the grid for points outside, so that they do not contend for one


def voxels(points: Any, G: int) -> tuple[Any, Any]:
    """The voxel of each point, 0 outside, and whether it is inside."""
    import torch

    q = (points + 1.0) / (2 / G)
    inside = ((q >= 0) & (q < G)).all(-1)
    return torch.where(inside[..., None], q, 0.0).to(torch.int64), inside


def numbers(points: Any, G: int) -> Any:
    """The number of each point's voxel among those of all clouds, or a slot behind, [B * N]."""
    import torch

    B, N, _ = points.shape
    i, inside = voxels(points, G)
    cloud = torch.arange(B, device=points.device)[:, None]
    number = ((cloud * G + i[..., 0]) * G + i[..., 1]) * G + i[..., 2]
    dump = B * G**3 + torch.arange(N, device=points.device) % DUMP
    return torch.where(inside, number, dump).reshape(-1)


def binary(points: Any, G: int) -> Any:
    import torch

    cells = len(points) * G**3
    grid = torch.zeros(cells + DUMP, dtype=torch.uint8, device=points.device)
    grid.index_fill_(0, numbers(points, G), 1)
    return grid[:cells].view(len(points), G, G, G)


def packed(grid: Any) -> Any:
    """Bits of a grid of 0 and 1, [B, X * Y * Z / 32]."""
    import torch

    shifts = torch.arange(32, dtype=torch.int32, device=grid.device)
    words = grid.reshape(len(grid), -1, 32).to(torch.int32) << shifts
    return words.sum(-1, dtype=torch.int32).view(torch.uint32)


def voxelize(case: Case) -> Call | None:
    import torch

    B, _, G = case.sizes
    cells = B * G**3

    def count(points: Any) -> Any:
        at = numbers(points, G)
        grid = torch.zeros(cells + DUMP, dtype=torch.int32, device=points.device)
        grid.scatter_add_(0, at, torch.ones_like(at, dtype=torch.int32))
        return grid[:cells].view(B, G, G, G)

    def mean(points: Any) -> Any:
        at = numbers(points, G)
        sums = torch.zeros((cells + DUMP, 3), device=points.device)
        sums.index_add_(0, at, points.reshape(-1, 3))
        number = torch.zeros(cells + DUMP, device=points.device)
        number.index_add_(0, at, torch.ones_like(at, dtype=torch.float32))
        return (sums / number.clamp_(min=1)[:, None])[:cells].view(B, G, G, G, 3)

    if case.variant == "bits":
        return (lambda points: packed(binary(points, G))) if G**3 % 32 == 0 else None
    return {"uint8": lambda points: binary(points, G), "count": count, "mean": mean}[case.variant]


def voxel_indices(case: Case) -> Call:
    import torch

    G = case.sizes[2]

    def call(points: Any) -> Any:
        i, inside = voxels(points, G)
        return torch.where(inside[..., None], i, -1).to(torch.int32)

    return call


def unprojected(case: Case, depth: Any, poses: Any) -> Any:
    """World points [B, V, H, W, 3]; NaN without depth."""
    import torch

    fx, fy, cx, cy = camera(case)
    H, W = depth.shape[-2:]
    z = depth.to(torch.float32) * 0.001
    z = torch.where(z > 0, z, torch.nan)
    x = z * ((torch.arange(W, device=z.device) - cx) / fx)
    y = z * ((torch.arange(H, device=z.device)[:, None] - cy) / fy)
    at = poses[:, :, None, None]
    rows = [at[..., i, 0] * x + at[..., i, 1] * y + at[..., i, 2] * z for i in range(3)]
    return torch.stack([row + at[..., i, 3] for i, row in enumerate(rows)], -1)


def depth_to_points(case: Case) -> Call:
    B, V, H, W = case.sizes
    return lambda depth, poses: unprojected(case, depth, poses).view(B, V, H * W, 3)


def depth_to_voxels(case: Case) -> Call | None:
    B, G = case.sizes[0], case.sizes[4]

    def call(depth: Any, poses: Any) -> Any:
        grid = binary(unprojected(case, depth, poses).view(B, -1, 3), G)
        return packed(grid) if case.variant == "bits" else grid

    return call if case.variant == "uint8" or G**3 % 32 == 0 else None


def step(x: Any, y: Any, z: Any, distance: Any, at: Any) -> tuple[Any, Any]:
    """One round: distances [B, N] to the nearest chosen point, and the farthest one."""
    import torch

    one = at[:, None]
    dx, dy, dz = x - x.gather(1, one), y - y.gather(1, one), z - z.gather(1, one)
    distance = torch.minimum(distance, dx * dx + dy * dy + dz * dz).scatter(1, one, -1.0)
    return distance, distance.argmax(1)


def sampled(points: Any, distance: Any, at: Any, K: int, step: Call) -> Any:
    import torch

    x, y, z = points.permute(2, 0, 1).contiguous()
    chosen = []
    for _ in range(K):
        chosen.append(at)
        distance, at = step(x, y, z, distance, at)
    return torch.stack(chosen, 1)


def farthest_point_sample(case: Case, step: Call = step) -> Call | None:
    import torch

    B, N, K = case.sizes

    def call(points: Any) -> Any:
        distance = torch.full((B, N), torch.inf, device=points.device)
        at = torch.zeros(B, dtype=torch.int64, device=points.device)
        return sampled(points, distance, at, K, step)

    return call if K <= N else None


def crop_and_sample(case: Case, step: Call = step) -> Call:
    import torch

    K = case.sizes[2]

    def call(points: Any) -> Any:
        inside = torch.ones(points.shape[:2], dtype=torch.bool, device=points.device)
        for axis in range(3):
            c = points[..., axis]
            inside &= (c >= BOX[axis]) & (c <= BOX[axis + 3])
        distance = torch.where(inside, torch.inf, -1.0)
        chosen = sampled(points, distance, inside.to(torch.uint8).argmax(1), K, step)
        left = torch.arange(K, device=points.device) < inside.sum(1, keepdim=True)
        taken = points.gather(1, chosen[..., None].expand(-1, -1, 3))
        return torch.where(left, chosen, -1), torch.where(left[..., None], taken, 0.0)

    return call


def voxelize_sparse(case: Case) -> Call:
    import torch

    B, _, G = case.sizes

    @syncs
    def call(points: Any) -> Any:
        i, inside = voxels(points, G)
        cloud = torch.arange(B, device=points.device)[:, None]
        number = ((cloud * G + i[..., 0]) * G + i[..., 1]) * G + i[..., 2]
        found, row, counts = torch.unique(
            torch.where(inside, number, B * G**3), return_inverse=True, return_counts=True
        )
        kept = len(found) - int(found[-1] == B * G**3)
        found, row = found[:kept], torch.where(row == kept, -1, row)
        at = [found // G**3, found // G**2 % G, found // G % G, found % G]
        return torch.stack(at, -1).int(), counts[:kept].int(), row.int()

    return call


def voxel_downsample(case: Case) -> Call:
    import torch

    B, _, G = case.sizes

    @syncs
    def call(points: Any) -> Any:
        i = torch.floor((points + 1.0) / (2 / G)).long() + (1 << 18)
        cloud = torch.arange(B, device=points.device)[:, None]
        key = (((cloud << 19) + i[..., 0] << 19) + i[..., 1] << 19) + i[..., 2]
        found, row, counts = torch.unique(key, return_inverse=True, return_counts=True)
        sums = torch.zeros((len(found), 3), device=points.device)
        sums.index_add_(0, row.reshape(-1), points.reshape(-1, 3))
        return sums / counts[:, None], counts.int(), row.int()

    return call
