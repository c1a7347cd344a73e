"""``python -m robocache_cupy.bench.streams``: GPU time of fusion, windows, rotations and curves.

Calls are replayed in CUDA graphs over rotating inputs, beside the copy bandwidth of the same run.
The floor is the bytes that must move over that bandwidth. Plain linear resampling of the same shape
stands before rotations and curves, and torch.add before the host time of a call.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .. import (
    Stream,
    fuse_multimodal,
    interpolate_poses,
    interpolate_quaternions,
    normalization,
    resample_trajectories,
    sample_windows,
)
from .groups import Case, timed
from .measure import Device, Effort, warm_call


def _inputs(device: Device) -> tuple[Callable[..., Any], Callable[..., Any]]:
    import torch

    generator = torch.Generator(device=device.name).manual_seed(0)

    def data(*shape: int, dtype: Any = torch.float32) -> Any:
        return torch.randn(*shape, device=device.name, generator=generator).to(dtype)

    def clock(*shape: int, dtype: str) -> Any:
        """Jittery stamps over 10 s: float32 seconds or int64 ns."""
        steps = torch.rand(*shape, device=device.name, generator=generator, dtype=torch.float64)
        t = torch.cumsum(steps + 0.5, -1)
        t = t / t[..., -1:] * 10
        return t.float() if dtype == "float32" else (t * 1e9).long()

    return data, clock


def fusion(device: Device, scale: int) -> Iterator[Case]:
    """Vision, proprioception and force on one clock of 256 targets."""
    import torch

    data, clock = _inputs(device)
    rows = max(1, 32 // scale)
    for dtype in ("float32", "int64"):
        sets = []
        for _ in range(12):
            args: list[Any] = []
            for samples, features in ((30, 512), (100, 32), (50, 16)):
                args += [data(rows, samples, features, dtype=torch.bfloat16)]
                args += [clock(rows, samples, dtype=dtype)]
            sets.append((*args, clock(rows, 256, dtype=dtype)))
        moved = 2 * rows * (30 * 512 + 100 * 32 + 50 * 16 + 256 * 560)
        yield Case(f"fuse 3 streams, T = 256, bf16, {dtype}", _fused, sets, moved)


def _fused(v: Any, vt: Any, p: Any, pt: Any, f: Any, ft: Any, targets: Any) -> Any:
    return fuse_multimodal({"vision": (v, vt), "proprio": (p, pt), "force": (f, ft)}, targets)


def windows(device: Device, scale: int) -> Iterator[Case]:
    """4096 anchors, 3 keys, 16 steps out of 10^7 samples."""
    import torch

    data, _ = _inputs(device)
    N, A, steps = 10**7 // scale**2, 4096 // scale, range(16)
    keys = {f"{D} columns": data(N, D) for D in (14, 7, 32)}
    offsets = torch.arange(0, N + 1, 1000, device=device.name)
    stamps = torch.cumsum(torch.randint(9_000_000, 11_000_000, (N,), device=device.name), 0)
    sets = [(torch.randint(0, N, (A,), device=device.name),) for _ in range(8)]
    moved = A * len(steps) * sum(x.shape[1] for x in keys.values()) * 4

    def by_index(anchors: Any) -> Any:
        return sample_windows(keys, offsets, anchors, delta_indices=steps)["32 columns"]

    seconds = [0.0331 * k for k in steps]

    def by_time(anchors: Any) -> Any:
        batch = sample_windows(keys, offsets, anchors, delta_timestamps=seconds, times=stamps)
        return batch["32 columns"]

    yield Case("windows by index, 3 keys x 16 steps", by_index, sets, 2 * moved)
    yield Case("windows by time, linear, int64", by_time, sets, 3 * moved)


def rotations(device: Device, scale: int) -> Iterator[Case]:
    data, clock = _inputs(device)
    for dtype, stamp in (("float32", 4), ("int64", 8)):
        for D, name, fn in (
            (4, "slerp", interpolate_quaternions),
            (7, "poses", interpolate_poses),
        ):
            B = 2048 // scale
            sets = [
                (data(B, 1000, D), clock(B, 1000, dtype=dtype), clock(B, 1000, dtype=dtype))
                for _ in range(3)
            ]
            moved = 2 * B * 1000 * (4 * D + stamp)
            shape = f"{B}x1000x1000x{D}, f32, {dtype}"
            yield Case(f"linear {shape}", resample_trajectories, sets, moved)
            yield Case(f"{name} {shape}", fn, sets, moved)


def curves(device: Device, scale: int) -> Iterator[Case]:
    data, clock = _inputs(device)
    B, D = 512 // scale, 64
    sets = [
        (data(B, 2000, D), clock(B, 2000, dtype="int64"), clock(B, 1000, dtype="int64"))
        for _ in range(2)
    ]
    scaled = normalization({"mean": [0.0] * D, "std": [1.0] * D})
    for name in ("linear", "catmull_rom", "pchip", "akima", "makima", "mean", "max", "normalize"):
        options: dict[str, Any] = {"method": name}
        if name == "normalize":
            options = {"normalize": scaled}

        def call(x: Any, s: Any, t: Any, options: dict[str, Any] = options) -> Any:
            return resample_trajectories(x, s, t, **options)

        yield Case(f"{name} {B}x2000x1000x{D}, f32, int64", call, sets, B * 3000 * D * 4)


GROUPS = {"fusion": fusion, "windows": windows, "rotations": rotations, "curves": curves}


def _host(device: Device, effort: Effort) -> Iterator[tuple[str, float]]:
    import torch

    (case, *_) = fusion(device, 8)
    (args, *_) = case.sets
    x = torch.ones(1000, device=device.name)
    yield "torch.add", warm_call(lambda: x + x, device, effort)
    v, vt, p, pt, f, ft, targets = args
    streams = {"vision": (v, vt), "proprio": (p, pt), "force": (f, ft)}
    yield "fuse_multimodal", warm_call(lambda: fuse_multimodal(streams, targets), device, effort)
    late = {**streams, "vision": Stream(v, vt, latency=0.035)}
    yield "with a Stream", warm_call(lambda: fuse_multimodal(late, targets), device, effort)


def main(argv: Sequence[str], effort: Effort | None = None, scale: int = 1) -> int:
    """Time the named groups, or all of them."""
    return timed(GROUPS, _host, argv, effort, scale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
