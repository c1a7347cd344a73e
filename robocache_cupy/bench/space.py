"""``python -m robocache_cupy.bench.space``: GPU time of voxels, depth images and samples.

Calls are replayed in CUDA graphs over rotating inputs, beside the copy bandwidth of the same run.
The floor is the bytes that must move, points read and grid written once, over that bandwidth.
Farthest point sampling is bound by its rounds, not by bytes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .. import depth_to_points, depth_to_voxels, farthest_point_sample, voxelize_point_cloud
from .groups import Case, timed
from .measure import Device, Effort, warm_call


def cloud(device: Device, kind: str, B: int, N: int, seed: int) -> Any:
    """Points in [-1, 1]: anywhere, or half on a sphere and half on a table, 2 mm thick."""
    import torch

    generator = torch.Generator(device=device.name).manual_seed(seed)

    def random(draw: Callable[..., Any], *shape: int) -> Any:
        return draw(*shape, device=device.name, generator=generator)

    points = random(torch.rand, B, N, 3) * 2.02 - 1.01
    if kind == "surface":
        half = N // 2
        sphere = random(torch.randn, B, half, 3)
        sphere = 0.5 * sphere / sphere.norm(dim=-1, keepdim=True)
        points[:, :half] = sphere + 0.002 * random(torch.randn, B, half, 3)
        points[:, half:, 2] = 0.002 * random(torch.randn, B, N - half) - 0.6
    return points


CLOUDS = ((4, 100_000, 128), (1, 1_000_000, 256), (64, 20_000, 100))  # clouds, points, voxels


def _dense(device: Device, scale: int, name: str, options: Any, bytes_a_voxel: float) -> Any:
    for B, N, G in CLOUDS:
        G //= scale
        for kind in ("uniform", "surface"):
            sets = [(cloud(device, kind, B, N // scale**3, seed),) for seed in range(4)]

            def call(points: Any, G: int = G) -> Any:
                return voxelize_point_cloud(points, G, 2 / G, -1.0, **options)

            moved = B * (12 * N // scale**3 + int(G**3 * bytes_a_voxel))
            yield Case(f"{name} {B} x {N // scale**3} {kind} -> {G}^3", call, sets, moved)


def binary(device: Device, scale: int) -> Iterator[Case]:
    yield from _dense(device, scale, "uint8", {}, 1)
    yield from _dense(device, scale, "bits", {"dtype": "bits"}, 1 / 8)


def count(device: Device, scale: int) -> Iterator[Case]:
    yield from _dense(device, scale, "count", {"reduce": "count"}, 4)


def mean(device: Device, scale: int) -> Iterator[Case]:
    yield from _dense(device, scale, "mean", {"reduce": "mean"}, 12)


def depth(device: Device, scale: int) -> Iterator[Case]:
    """16 scenes seen by four cameras each, millimetres of noise on curved walls."""
    import torch

    B, V, H, W, G = 16 // scale, 4, 480 // scale, 640 // scale, 128 // scale
    focal = 600.0 / scale
    camera = (focal, focal, W / 2, H / 2)
    poses = torch.eye(4, device=device.name).repeat(B, V, 1, 1)
    for view in range(V):
        angle = view * math.pi / 2
        poses[:, view, 0, 0] = poses[:, view, 2, 2] = math.cos(angle)
        poses[:, view, 0, 2], poses[:, view, 2, 0] = math.sin(angle), -math.sin(angle)
        poses[:, view, :3, 3] = -poses[:, view, :3, 2]
    generator = torch.Generator(device=device.name).manual_seed(0)
    u = torch.arange(W, device=device.name) * scale
    v = torch.arange(H, device=device.name)[:, None] * scale
    sets = []
    for shift in range(3):
        walls = 900 + 300 * torch.sin(u / 90 + shift) + 200 * torch.cos(v / 70)
        noise = torch.randn(B, V, H, W, device=device.name, generator=generator) * 2
        sets.append(((walls + noise).to(torch.uint16),))

    def voxels(images: Any, dtype: Any = "bits") -> Any:
        return depth_to_voxels(images, camera, poses, G, 2 / G, -1.0, dtype=dtype)

    def elements(images: Any) -> Any:
        return voxels(images, None)

    def points(images: Any) -> Any:
        return depth_to_points(images, camera, poses)

    pixels = B * V * H * W
    yield Case(f"depth {B}x{V}x{H}x{W} -> {G}^3 bits", voxels, sets, 2 * pixels + B * G**3 // 8)
    yield Case(f"depth {B}x{V}x{H}x{W} -> {G}^3 uint8", elements, sets, 2 * pixels + B * G**3)
    yield Case(f"depth {B}x{V}x{H}x{W} -> points", points, sets, 14 * pixels)


def farthest(device: Device, scale: int) -> Iterator[Case]:
    for B, N in ((1, 100_000), (64, 20_000)):
        K, n = 1024 // scale**2, N // scale**2
        sets = [(cloud(device, "surface", B, n, seed),) for seed in range(2)]

        def call(points: Any, K: int = K) -> Any:
            return farthest_point_sample(points, K)

        yield Case(f"farthest {K} of {B} x {n}", call, sets, B * 12 * n)


GROUPS = {"binary": binary, "count": count, "mean": mean, "depth": depth, "farthest": farthest}


def _host(device: Device, effort: Effort) -> Iterator[tuple[str, float]]:
    import torch

    x = torch.ones(1000, device=device.name)
    points = cloud(device, "uniform", 1, 2000, 0)
    yield "torch.add", warm_call(lambda: x + x, device, effort)
    for reduce in ("binary", "count"):

        def call(reduce: str = reduce) -> Any:
            return voxelize_point_cloud(points, (32, 32, 32), 0.1, -1.0, reduce=reduce)

        yield f"voxelize_point_cloud, {reduce}", warm_call(call, device, effort)


def main(argv: Sequence[str], effort: Effort | None = None, scale: int = 1) -> int:
    """Time the named groups, or all of them."""
    return timed(GROUPS, _host, argv, effort, scale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
