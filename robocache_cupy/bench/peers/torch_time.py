"""What a user of PyTorch writes in place of the ops on time, in its fastest eager form.

A peer takes the arguments of the case. torch.compile makes its kernels of the same functions.
"""

from __future__ import annotations

import math
from typing import Any

from ..case import Call, Case
from ..on_time import REDUCTIONS, STEP, statistics
from .curves import hermite, slopes


def bracket(src: Any, tgt: Any, compute: Any) -> tuple[Any, Any, Any]:
    """The samples before and after each target, and the weight of the latter."""
    import torch

    S = src.shape[-1]
    i1 = torch.searchsorted(src, tgt, right=True).clamp_(min(1, S - 1), S - 1)
    i0 = (i1 - 1).clamp_(min=0)
    t0, t1 = src.gather(-1, i0), src.gather(-1, i1)
    if src.is_floating_point():
        tgt, t0, t1 = tgt.to(compute), t0.to(compute), t1.to(compute)
    numerator, denominator = (tgt - t0).to(compute), (t1 - t0).to(compute)
    w = torch.where(denominator > 0, numerator / denominator, (numerator >= 0).to(compute))
    return i0, i1, w.clamp(0, 1)


def rows_at(data: Any, *positions: Any) -> Any:
    """data [B, S, D] at positions [B, T], as rows [B * T, D]: faster than a gather."""
    import torch

    B, S, D = data.shape
    base = torch.arange(B, device=data.device).unsqueeze(1) * S
    flat = data.reshape(B * S, D)
    return [flat.index_select(0, (i + base).reshape(-1)) for i in positions]


def _compute(*arrays: Any) -> Any:
    import torch

    return torch.float64 if any(x.dtype is torch.float64 for x in arrays) else torch.float32


def linear(data: Any, src: Any, tgt: Any) -> Any:
    import torch

    i0, i1, w = bracket(src, tgt, _compute(src, data))
    y0, y1 = rows_at(data, i0, i1)
    return torch.lerp(y0, y1, w.reshape(-1, 1).to(data.dtype)).view(*tgt.shape, data.shape[2])


def resample(case: Case) -> Call:
    # A function of its own for each case, so that torch.compile makes each from scratch.
    return lambda data, src, tgt: linear(data, src, tgt)


def fuse(case: Case) -> Call:
    import torch

    def call(v: Any, vt: Any, p: Any, pt: Any, f: Any, ft: Any, tgt: Any) -> Any:
        return torch.cat([linear(v, vt, tgt), linear(p, pt, tgt), linear(f, ft, tgt)], -1)

    return call


def windows(case: Case) -> Call:
    import torch

    A, W = case.sizes[1:]

    def episodes(offsets: Any, anchors: Any) -> tuple[Any, Any]:
        episode = torch.searchsorted(offsets, anchors, right=True)
        return offsets[episode - 1][:, None], offsets[episode][:, None]

    def by_index(a: Any, b: Any, c: Any, offsets: Any, anchors: Any) -> Any:
        start, stop = episodes(offsets, anchors)
        at = anchors[:, None] + torch.arange(W, device=anchors.device)
        pad = (at < start) | (at >= stop)
        flat = torch.minimum(torch.maximum(at, start), stop - 1).reshape(-1)
        return *(x.index_select(0, flat).view(A, W, -1) for x in (a, b, c)), pad

    def by_time(a: Any, b: Any, c: Any, offsets: Any, stamps: Any, anchors: Any) -> Any:
        start, stop = episodes(offsets, anchors)
        steps = torch.arange(W, device=anchors.device) * (STEP * 1e9)
        at = stamps[anchors][:, None] + steps.round().long()
        pad = (at < stamps[start]) | (at > stamps[stop - 1])
        i0 = torch.searchsorted(stamps, at, right=True) - 1
        i0 = torch.minimum(torch.maximum(i0, start), stop - 1)
        i1 = torch.minimum(i0 + 1, stop - 1)
        t0, t1 = stamps[i0], stamps[i1]
        w = ((at - t0).float() / (t1 - t0).clamp(min=1).float()).clamp(0, 1).reshape(-1, 1)
        low, high = i0.reshape(-1), i1.reshape(-1)
        values = [torch.lerp(x.index_select(0, low), x.index_select(0, high), w) for x in (a, b, c)]
        return *(x.view(A, W, -1) for x in values), pad

    return by_time if case.variant == "time" else by_index


def slerped(q0: Any, q1: Any, w: Any) -> Any:
    """With atan2, which stays exact where the two are close."""
    import torch

    dot = (q0 * q1).sum(-1, keepdim=True)
    q1, dot = torch.where(dot < 0, -q1, q1), dot.abs()
    sine = (q1 - dot * q0).norm(dim=-1, keepdim=True)
    small = sine < math.sqrt(torch.finfo(q0.dtype).eps)
    angle, safe = torch.atan2(sine, dot), torch.where(small, 1.0, sine)
    a = torch.where(small, 1 - w, torch.sin((1 - w) * angle) / safe)
    b = torch.where(small, w, torch.sin(w * angle) / safe)
    q = a * q0 + b * q1
    return q / q.norm(dim=-1, keepdim=True)


def poses(case: Case) -> Call:
    import torch

    def on_clock(data: Any, src: Any, tgt: Any) -> Any:
        i0, i1, w = bracket(src, tgt, torch.float32)
        w = w.reshape(-1, 1)
        y0, y1 = rows_at(data, i0, i1)
        q = slerped(y0[:, -4:], y1[:, -4:], w)
        if case.variant == "pos_quat":
            q = torch.cat([torch.lerp(y0[:, :3], y1[:, :3], w), q], -1)
        return q.view(*tgt.shape, -1)

    if case.variant == "slerp":
        return lambda q0, q1, t: slerped(q0, q1, t[:, None])
    return on_clock


def normalize(case: Case) -> Call:
    import torch

    if case.variant == "image":
        return lambda x: x.to(torch.float32).mul_(2 / 255).sub_(1)
    mean, std = (torch.from_numpy(x) for x in statistics(case))
    scale, made = 1 / (std + 1e-8), {}

    def call(x: Any) -> Any:
        if x.device not in made:
            made[x.device] = [y.to(x) for y in (-mean * scale, scale)]
        bias, factor = made[x.device]
        return torch.addcmul(bias, x, factor)

    return call


def asof(case: Case) -> Call:
    import torch

    return lambda src, tgt: torch.searchsorted(src, tgt, right=True, out_int32=True) - 1


def interp(case: Case) -> Call:
    import torch

    def call(x: Any, xp: Any, fp: Any) -> Any:
        i0, i1, w = bracket(xp, x, torch.float32)
        return torch.lerp(fp.gather(-1, i0), fp.gather(-1, i1), w)

    return call


def curves(case: Case) -> Call:
    import torch

    def on_curve(data: Any, src: Any, tgt: Any) -> Any:
        i0, i1, w = bracket(src, tgt, torch.float32)
        step = (src[:, 1:] - src[:, :-1]).to(data.dtype)
        d = slopes(torch, data, step[..., None] * scale(src), case.variant)
        h = step.gather(1, i0).reshape(-1, 1) * scale(src)
        (y0, y1), (d0, d1) = rows_at(data, i0, i1), rows_at(d, i0, i1)
        return hermite(y0, y1, d0, d1, h, w.reshape(-1, 1)).view(*tgt.shape, -1)

    def scale(src: Any) -> float:
        return 1.0 if src.is_floating_point() else 1e-9

    def reduced(data: Any, src: Any, tgt: Any) -> Any:
        (B, S, D), T = data.shape, tgt.shape[1]
        edges = tgt[:, :-1] + tgt[:, 1:]  # twice the middle
        of = torch.searchsorted(edges, 2 * src)  # that of a target nearest to each sample
        outside = (2 * src < 4 * tgt[:, :1] - edges[:, :1]) | (
            2 * src > 4 * tgt[:, -1:] - edges[:, -1:]
        )
        base = torch.arange(B, device=data.device)[:, None] * (T + 1)
        row = (torch.where(outside, T, of) + base).reshape(-1)
        flat = data.reshape(B * S, D)
        count = torch.zeros(B * (T + 1), device=data.device)
        count.index_add_(0, row, torch.ones_like(row, dtype=count.dtype))
        out = torch.zeros(B * (T + 1), D, dtype=data.dtype, device=data.device)
        if case.variant == "max":
            out.scatter_reduce_(0, row[:, None].expand(-1, D), flat, "amax", include_self=False)
        else:
            out.index_add_(0, row, flat)
            out /= count.clamp(min=1)[:, None]
        i0, i1, _ = bracket(src, tgt, torch.float32)
        t0, t1 = src.gather(1, i0), src.gather(1, i1)
        (nearest,) = rows_at(data, torch.where(t1 - tgt < tgt - t0, i1, i0))
        empty = (count.view(B, T + 1)[:, :T] == 0)[..., None]
        return torch.where(empty, nearest.view(B, T, D), out.view(B, T + 1, D)[:, :T])

    return reduced if case.variant in REDUCTIONS else on_curve
