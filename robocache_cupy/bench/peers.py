"""Peers of `resample_trajectories`: what a user would write instead, each as fast as it gets.

All take data [B, S, D], src [B, S] (ascending) and tgt [B, T] as contiguous torch tensors, and give
linear interpolation with held ends, [B, T, D].
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from .cases import Case

Resample = Callable[[Any, Any, Any], Any]


class Peer(NamedTuple):
    """A way to resample. `variants` makes the forms it comes in, by name; the fastest is timed."""

    title: str
    variants: Callable[[Case], dict[str, Resample]]


def ours(case: Case) -> dict[str, Resample]:
    from ..resample import resample_trajectories

    return {"": resample_trajectories}


def eager(case: Case) -> dict[str, Resample]:
    return {"": rows()}


def compiled(case: Case, mode: str = "default") -> dict[str, Resample]:
    import torch

    return {"": torch.compile(rows(), fullgraph=True, dynamic=False, mode=mode)}


def triton(case: Case) -> dict[str, Resample]:
    """Elements a program writes, and its warps: wide tiles for large outputs, narrow for small."""
    return {
        f"{elements} elements, {warps} warps": _triton_resample(case, elements, warps)
        for elements, warps in ((1024, 4), (2048, 4), (4096, 8))
    }


PEERS = {
    "eager": Peer("torch eager", eager),
    "compile": Peer("torch.compile", compiled),
    "autotune": Peer(
        "max-autotune", functools.partial(compiled, mode="max-autotune-no-cudagraphs")
    ),
    "triton": Peer("Triton", triton),
}
DEFAULT = ("eager", "compile", "triton")


def forget() -> None:
    """Drop what torch.compile has made: it compiles a function at most eight times, then raises."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()


def rows() -> Resample:
    """PyTorch in its fastest eager form: index_select on data as [B * S, D] rows."""
    import torch

    def resample(data: Any, src: Any, tgt: Any) -> Any:
        B, S, D = data.shape
        T = tgt.shape[1]
        i1 = torch.searchsorted(src, tgt, right=True).clamp_(min(1, S - 1), S - 1)
        i0 = (i1 - 1).clamp_(min=0)
        t0, t1 = src.gather(1, i0), src.gather(1, i1)
        wide = torch.float64 in (src.dtype, data.dtype)
        compute = torch.float64 if wide else torch.float32
        if src.is_floating_point():
            tgt, t0, t1 = tgt.to(compute), t0.to(compute), t1.to(compute)
        numerator, denominator = (tgt - t0).to(compute), (t1 - t0).to(compute)
        w = torch.where(
            denominator > 0, numerator / denominator, (numerator >= 0).to(compute)
        ).clamp(0, 1)  # fmt: skip
        base = torch.arange(B, device=data.device).unsqueeze(1) * S
        flat = data.reshape(B * S, D)
        y0 = flat.index_select(0, (i0 + base).reshape(-1))
        y1 = flat.index_select(0, (i1 + base).reshape(-1))
        return torch.lerp(y0, y1, w.reshape(-1, 1).to(data.dtype)).view(B, T, D)

    return resample


def _power_of_two(n: int) -> int:
    """The least that is not below n.

    >>> [_power_of_two(n) for n in (1, 2, 14, 128)]
    [1, 2, 16, 128]
    """
    return 1 << (n - 1).bit_length()


def _triton_resample(case: Case, elements: int, warps: int) -> Resample:
    import torch

    B, S, T, D, dtype, clock = case
    kernel = _triton_kernel()
    block_d = min(_power_of_two(D), 128)
    block_t = max(1, min(_power_of_two(T), elements // block_d))
    blocks = -(-T // block_t)
    steps = S.bit_length()  # of a binary search among S + 1 results
    fine, wide = "float64" in (dtype, clock), dtype == "float64"

    def resample(data: Any, src: Any, tgt: Any) -> Any:
        out = torch.empty((B, T, D), dtype=data.dtype, device=data.device)
        kernel[(B * blocks,)](
            data, src, tgt, out, S, T, D, blocks,
            STEPS=steps, BLOCKS_D=-(-D // block_d), BLOCK_T=block_t, BLOCK_D=block_d,
            FINE=fine, WIDE=wide, num_warps=warps,
        )  # fmt: skip
        return out

    return resample


@functools.cache
def _triton_kernel() -> Any:
    """One fused kernel: search, then gather and interpolate rows."""
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator]
    def resample(  # type: ignore[no-untyped-def]
        data, src, tgt, out, S, T, D, blocks,
        STEPS: tl.constexpr, BLOCKS_D: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_D: tl.constexpr,
        FINE: tl.constexpr, WIDE: tl.constexpr,
    ):  # fmt: skip
        program = tl.program_id(0)
        b = (program // blocks).to(tl.int64)
        ts = (program % blocks) * BLOCK_T + tl.arange(0, BLOCK_T)
        here = ts < T
        q = tl.load(tgt + b * T + ts, mask=here, other=0)
        stamps = src + b * S

        # The first sample after q, in a fixed number of steps.
        lo = tl.zeros([BLOCK_T], dtype=tl.int32)
        hi = lo + S
        for _ in range(STEPS):
            active = lo < hi
            mid = (lo + hi) // 2
            after = tl.load(stamps + mid, mask=active & here, other=0) > q
            hi = tl.where(active & after, mid, hi)
            lo = tl.where(active & (after == 0), mid + 1, lo)
        i0 = tl.minimum(tl.maximum(lo - 1, 0), tl.maximum(S - 2, 0))
        i1 = tl.minimum(i0 + 1, S - 1)
        t0 = tl.load(stamps + i0, mask=here, other=0)
        t1 = tl.load(stamps + i1, mask=here, other=1)
        fine = tl.float64 if FINE else tl.float32  # for weights
        if q.dtype.is_floating():
            q, t0, t1 = q.to(fine), t0.to(fine), t1.to(fine)
        numerator = (q - t0).to(fine)
        denominator = (t1 - t0).to(fine)
        inside = denominator > 0
        w = tl.where(
            inside,
            numerator / tl.where(inside, denominator, 1.0),
            tl.where(numerator >= 0, 1.0, 0.0),
        )
        compute = tl.float64 if WIDE else tl.float32  # for values
        w = tl.minimum(tl.maximum(w, 0.0), 1.0).to(compute)

        row0 = data + (b * S + i0) * D
        row1 = data + (b * S + i1) * D
        row = out + (b * T + ts) * D
        for block in range(BLOCKS_D):
            ds = block * BLOCK_D + tl.arange(0, BLOCK_D)
            mask = here[:, None] & (ds < D)[None, :]
            y0 = tl.load(row0[:, None] + ds[None, :], mask=mask, other=0).to(compute)
            y1 = tl.load(row1[:, None] + ds[None, :], mask=mask, other=0).to(compute)
            y = y0 + w[:, None] * (y1 - y0)
            tl.store(row[:, None] + ds[None, :], y.to(out.dtype.element_ty), mask=mask)

    return resample
