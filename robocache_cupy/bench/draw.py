"""Random inputs as torch tensors, drawn on the device."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

EPOCH = 1_790_000_000_000_000_000  # ns: int64 clocks are of the present, which float64 cannot hold


class Draw:
    """A generator of inputs for one case. What `once` makes is the same for all its sets."""

    def __init__(self, device: str, seed: int) -> None:
        import torch

        self.torch, self.device = torch, device
        self.generator = torch.Generator(device).manual_seed(seed)
        self._once: dict[str, Any] = {}

    def once(self, name: str, make: Callable[[], Any]) -> Any:
        if name not in self._once:
            self._once[name] = make()
        return self._once[name]

    def normal(self, *shape: int, dtype: str = "float32") -> Any:
        drawn = self.torch.randn(
            shape, dtype=self.torch.float32, device=self.device, generator=self.generator
        )
        return drawn.to(getattr(self.torch, dtype))

    def uniform(self, *shape: int, dtype: str = "float32") -> Any:
        return self.torch.rand(
            shape, dtype=getattr(self.torch, dtype), device=self.device, generator=self.generator
        )

    def integers(self, stop: int, *shape: int, dtype: str = "int64") -> Any:
        return self.torch.randint(
            0, stop, shape, dtype=getattr(self.torch, dtype), device=self.device,
            generator=self.generator,
        )  # fmt: skip

    def steps(self, B: int, S: int, span: float | None = None) -> Any:
        """Seconds [B, S] in steps of 2 to 18 ms, or spread over a span."""
        t = (0.002 + 0.016 * self.uniform(B, S, dtype="float64")).cumsum(1)
        return t if span is None else t * (span / t[:, -1:])

    def targets(self, B: int, T: int, first: Any, last: Any) -> Any:
        """Seconds [B, T] at a steady rate with jitter, reaching 1 % beyond either end."""
        steps = self.torch.arange(T, device=self.device) + self.uniform(B, T, dtype="float64")
        return first + (last - first) * (1.02 * steps / T - 0.01)

    def clock(self, seconds: Any, dtype: str) -> Any:
        """Stamps of a clock: float seconds, or int64 ns since 1970."""
        if dtype == "int64":
            return (seconds * 1e9).round().to(self.torch.int64) + EPOCH
        return seconds.to(getattr(self.torch, dtype))

    def clocks(
        self, B: int, S: int, T: int, dtype: str, ascending: bool = False
    ) -> tuple[Any, Any]:
        """The clock of samples and targets on it, one of them on a sample unless they ascend."""
        s = self.steps(B, S)
        t = self.targets(B, T, s[:, :1], s[:, -1:])
        src, tgt = self.clock(s, dtype), self.clock(t, dtype)
        if not ascending:
            tgt[:, T // 2] = src[:, S // 2]
        return src, tgt

    def quaternions(self, *shape: int) -> Any:
        q = self.normal(*shape, 4)
        return q / q.norm(dim=-1, keepdim=True)

    def cloud(self, B: int, N: int, scene: str) -> Any:
        """Points in [-1, 1]: anywhere, or half on a sphere and half on a table, 2 mm thick."""
        points = self.uniform(B, N, 3) * 2.02 - 1.01
        if scene == "surface":
            half = N // 2
            sphere = self.normal(B, half, 3)
            sphere = 0.5 * sphere / sphere.norm(dim=-1, keepdim=True)
            points[:, :half] = sphere + 0.002 * self.normal(B, half, 3)
            points[:, half:, 2] = 0.002 * self.normal(B, N - half) - 0.6
        return points

    def depth(self, B: int, V: int, H: int, W: int) -> Any:
        """Millimetres, uint16: curved walls about a metre away, with noise; 1 % without depth."""
        torch = self.torch
        u = torch.arange(W, device=self.device) * (640 / W)
        v = torch.arange(H, device=self.device)[:, None] * (480 / H)
        phase = self.uniform(B, V, 1, 1) * 6
        depth = 900 + 300 * torch.sin(u / 90 + phase) + 200 * torch.cos(v / 70 - phase)
        depth = depth + 2 * self.normal(B, V, H, W)
        depth[self.uniform(B, V, H, W) < 0.01] = 0
        return depth.to(torch.int32).to(torch.uint16)

    def rig(self, B: int, V: int) -> Any:
        """Poses [B, V, 4, 4] of cameras that look inward from all sides."""
        poses = self.torch.eye(4).repeat(B, V, 1, 1)
        for view in range(V):
            angle = 2 * math.pi * view / V
            poses[:, view, 0, 0] = poses[:, view, 2, 2] = math.cos(angle)
            poses[:, view, 0, 2], poses[:, view, 2, 0] = math.sin(angle), -math.sin(angle)
            poses[:, view, :3, 3] = -poses[:, view, :3, 2]
        return poses.to(self.device)
