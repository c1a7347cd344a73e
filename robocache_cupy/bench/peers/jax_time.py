"""What a user of JAX writes in place of the ops on time, for `jax.jit`."""

from __future__ import annotations

from typing import Any

from ..case import Call, Case
from ..on_time import STEP, statistics
from .curves import hermite, slopes


def bracket(src: Any, tgt: Any, compute: Any) -> tuple[Any, Any, Any]:
    import jax
    import jax.numpy as jnp

    S = src.shape[-1]
    search = jax.vmap(lambda s, t: jnp.searchsorted(s, t, side="right", method="scan_unrolled"))
    i1 = jnp.clip(search(src, tgt), min(1, S - 1), S - 1)
    i0 = jnp.maximum(i1 - 1, 0)
    t0, t1 = (jnp.take_along_axis(src, i, 1) for i in (i0, i1))
    numerator, denominator = (tgt - t0).astype(compute), (t1 - t0).astype(compute)
    w = numerator / jnp.where(denominator > 0, denominator, 1)
    w = jnp.where(denominator > 0, w, (numerator >= 0).astype(compute))
    return i0, i1, jnp.clip(w, 0, 1)


def rows_at(data: Any, *positions: Any) -> Any:
    import jax

    return [jax.vmap(lambda x, i: x[i])(data, i) for i in positions]


def linear(data: Any, src: Any, tgt: Any) -> Any:
    import jax.numpy as jnp

    wide = any(x.dtype == jnp.float64 for x in (data, src))
    i0, i1, w = bracket(src, tgt, jnp.float64 if wide else jnp.float32)
    y0, y1 = (y.astype(w.dtype) for y in rows_at(data, i0, i1))
    return (y0 + w[..., None] * (y1 - y0)).astype(data.dtype)


def resample(case: Case) -> Call:
    return linear


def fuse(case: Case) -> Call:
    import jax.numpy as jnp

    def call(v: Any, vt: Any, p: Any, pt: Any, f: Any, ft: Any, tgt: Any) -> Any:
        return jnp.concatenate([linear(v, vt, tgt), linear(p, pt, tgt), linear(f, ft, tgt)], -1)

    return call


def windows(case: Case) -> Call:
    import jax.numpy as jnp

    W = case.sizes[2]

    def episodes(offsets: Any, anchors: Any) -> tuple[Any, Any]:
        episode = jnp.searchsorted(offsets, anchors, side="right")
        return offsets[episode - 1][:, None], offsets[episode][:, None]

    def by_index(a: Any, b: Any, c: Any, offsets: Any, anchors: Any) -> Any:
        start, stop = episodes(offsets, anchors)
        at = anchors[:, None] + jnp.arange(W)
        inside = jnp.clip(at, start, stop - 1)
        return a[inside], b[inside], c[inside], (at < start) | (at >= stop)

    def by_time(a: Any, b: Any, c: Any, offsets: Any, stamps: Any, anchors: Any) -> Any:
        start, stop = episodes(offsets, anchors)
        at = stamps[anchors][:, None] + jnp.round(jnp.arange(W) * (STEP * 1e9)).astype(stamps.dtype)
        i0 = jnp.searchsorted(stamps, at.reshape(-1), side="right").reshape(at.shape) - 1
        i0 = jnp.clip(i0, start, stop - 1)
        i1 = jnp.minimum(i0 + 1, stop - 1)
        t0, t1 = stamps[i0], stamps[i1]
        step = jnp.maximum(t1 - t0, 1).astype(jnp.float32)
        w = jnp.clip((at - t0).astype(jnp.float32) / step, 0, 1)[..., None]
        pad = (at < stamps[start]) | (at > stamps[stop - 1])
        return *(x[i0] + w * (x[i1] - x[i0]) for x in (a, b, c)), pad

    return by_time if case.variant == "time" else by_index


def slerped(q0: Any, q1: Any, w: Any) -> Any:
    import jax.numpy as jnp

    dot = (q0 * q1).sum(-1, keepdims=True)
    q1, dot = jnp.where(dot < 0, -q1, q1), jnp.abs(dot)
    sine = jnp.linalg.norm(q1 - dot * q0, axis=-1, keepdims=True)
    small = sine < 3e-4
    angle, safe = jnp.arctan2(sine, dot), jnp.where(small, 1.0, sine)
    a = jnp.where(small, 1 - w, jnp.sin((1 - w) * angle) / safe)
    b = jnp.where(small, w, jnp.sin(w * angle) / safe)
    q = a * q0 + b * q1
    return q / jnp.linalg.norm(q, axis=-1, keepdims=True)


def poses(case: Case) -> Call:
    import jax.numpy as jnp

    def on_clock(data: Any, src: Any, tgt: Any) -> Any:
        i0, i1, w = bracket(src, tgt, jnp.float32)
        (y0, y1), w = rows_at(data, i0, i1), w[..., None]
        q = slerped(y0[..., -4:], y1[..., -4:], w)
        if case.variant == "pos_quat":
            q = jnp.concatenate([y0[..., :3] + w * (y1 - y0)[..., :3], q], -1)
        return q

    if case.variant == "slerp":
        return lambda q0, q1, t: slerped(q0, q1, t[:, None])
    return on_clock


def normalize(case: Case) -> Call:
    import jax.numpy as jnp

    if case.variant == "image":
        return lambda x: x.astype(jnp.float32) * (2 / 255) - 1
    mean, std = statistics(case)
    return lambda x: (x - mean.astype(x.dtype)) / (std + 1e-8).astype(x.dtype)


def asof(case: Case) -> Call:
    import jax
    import jax.numpy as jnp

    # sort is the fast method for targets in great number, one row at a time.
    method = "sort" if case.sizes[0] == 1 else "scan_unrolled"
    search = jax.vmap(lambda s, t: jnp.searchsorted(s, t, side="right", method=method))
    return lambda src, tgt: search(src, tgt).astype(jnp.int32) - 1


def interp(case: Case) -> Call:
    import jax
    import jax.numpy as jnp

    return jax.vmap(jnp.interp) if case.sizes[0] > 1 else jnp.interp


def curves(case: Case) -> Call | None:
    import jax.numpy as jnp

    def on_curve(data: Any, src: Any, tgt: Any) -> Any:
        second = 1.0 if jnp.issubdtype(src.dtype, jnp.floating) else 1e-9
        i0, i1, w = bracket(src, tgt, jnp.float32)
        step = (src[:, 1:] - src[:, :-1]).astype(data.dtype) * second
        d = slopes(jnp, data, step[..., None], case.variant)
        h = jnp.take_along_axis(step, i0, 1)[..., None]
        (y0, y1), (d0, d1) = rows_at(data, i0, i1), rows_at(d, i0, i1)
        return hermite(y0, y1, d0, d1, h, w[..., None])

    return on_curve if case.variant in ("catmull_rom", "pchip", "akima") else None
