"""Hand-written Triton: one fused kernel for an op, in the forms from which the fastest is taken."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from ..case import Call, Case

# Elements that a program writes, and its warps: wide tiles for large outputs, narrow for small.
FORMS = ((1024, 4), (2048, 4), (4096, 8))


def _power_of_two(n: int) -> int:
    """The least that is not below n.

    >>> [_power_of_two(n) for n in (1, 2, 14, 128)]
    [1, 2, 16, 128]
    """
    return 1 << (n - 1).bit_length()


def resample(case: Case) -> dict[str, Call]:
    import torch

    def form(elements: int, warps: int) -> Call:
        def call(data: Any, src: Any, tgt: Any) -> Any:
            out = torch.empty((*tgt.shape, data.shape[2]), dtype=data.dtype, device=data.device)
            _launch(data, src, tgt, out, elements, warps)
            return out

        return call

    return {
        f"{elements} elements, {warps} warps": form(elements, warps) for elements, warps in FORMS
    }


def fuse(case: Case) -> dict[str, Call]:
    """A launch for each stream, into its columns of the result."""
    import torch

    def form(elements: int, warps: int) -> Call:
        def call(*args: Any) -> Any:
            *streams, tgt = args
            widths = [data.shape[2] for data in streams[::2]]
            out = torch.empty(
                (*tgt.shape, sum(widths)), dtype=streams[0].dtype, device=tgt.device
            )  # fmt: skip
            parts: Sequence[Any] = out.split(widths, -1)
            for data, src, part in zip(streams[::2], streams[1::2], parts, strict=True):
                _launch(data, src, tgt, part, elements, warps)
            return out

        return call

    return {
        f"{elements} elements, {warps} warps": form(elements, warps) for elements, warps in FORMS
    }


def voxelize(case: Case) -> dict[str, Call] | None:
    import torch

    if case.variant not in ("uint8", "count"):
        return None
    B, N, G = case.sizes
    binary = case.variant == "uint8"

    def form(block: int) -> Call:
        def call(points: Any) -> Any:
            dtype = torch.uint8 if binary else torch.int32
            out = torch.zeros((B, G, G, G), dtype=dtype, device=points.device)
            _voxel_kernel()[(-(-B * N // block),)](
                points, out, B * N, N, G, 2 / G, -1.0, BLOCK=block, BINARY=binary
            )
            return out

        return call

    return {f"{block} points": form(block) for block in (128, 256, 512)}


def _launch(data: Any, src: Any, tgt: Any, out: Any, elements: int, warps: int) -> None:
    """Interpolate linearly into `out`, whose rows may be parts of wider ones."""
    (B, S, D), T = data.shape, tgt.shape[1]
    block_d = min(_power_of_two(D), 128)
    block_t = max(1, min(_power_of_two(T), elements // block_d))
    blocks = -(-T // block_t)
    names = {str(data.dtype), str(src.dtype)}
    _resample_kernel()[(B * blocks,)](
        data, src, tgt, out, S, T, D, out.stride(1), blocks,
        STEPS=S.bit_length(),  # of a binary search among S + 1 results
        BLOCKS_D=-(-D // block_d), BLOCK_T=block_t, BLOCK_D=block_d,
        FINE="torch.float64" in names, WIDE=str(data.dtype) == "torch.float64", num_warps=warps,
    )  # fmt: skip


@functools.cache
def _resample_kernel() -> Any:
    """One fused kernel: search, then gather and interpolate rows."""
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator]
    def resample(  # type: ignore[no-untyped-def]
        data, src, tgt, out, S, T, D, stride, blocks,
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
        row = out + (b * T + ts) * stride
        for block in range(BLOCKS_D):
            ds = block * BLOCK_D + tl.arange(0, BLOCK_D)
            mask = here[:, None] & (ds < D)[None, :]
            y0 = tl.load(row0[:, None] + ds[None, :], mask=mask, other=0).to(compute)
            y1 = tl.load(row1[:, None] + ds[None, :], mask=mask, other=0).to(compute)
            y = y0 + w[:, None] * (y1 - y0)
            tl.store(row[:, None] + ds[None, :], y.to(out.dtype.element_ty), mask=mask)

    return resample


@functools.cache
def _voxel_kernel() -> Any:
    import triton
    import triton.language as tl

    @triton.jit  # type: ignore[untyped-decorator]
    def voxelize(  # type: ignore[no-untyped-def]
        points, out, total, N, G, size, origin, BLOCK: tl.constexpr, BINARY: tl.constexpr
    ):
        t = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        here = t < total
        x = (tl.load(points + 3 * t, mask=here, other=float("nan")) - origin) / size
        y = (tl.load(points + 3 * t + 1, mask=here, other=float("nan")) - origin) / size
        z = (tl.load(points + 3 * t + 2, mask=here, other=float("nan")) - origin) / size
        inside = (x >= 0) & (x < G) & (y >= 0) & (y < G) & (z >= 0) & (z < G)
        i = tl.where(inside, x, 0.0).to(tl.int32)
        j = tl.where(inside, y, 0.0).to(tl.int32)
        k = tl.where(inside, z, 0.0).to(tl.int32)
        at = out + (((t // N).to(tl.int64) * G + i) * G + j) * G + k
        if BINARY:
            tl.store(at, 1, mask=inside)
        else:
            tl.atomic_add(at, 1, mask=inside, sem="relaxed")

    return voxelize
