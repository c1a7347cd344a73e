"""Slopes and cubics for smooth curves, in the functions that torch and jax.numpy share."""

from __future__ import annotations

from typing import Any


def hermite(y0: Any, y1: Any, d0: Any, d1: Any, h: Any, w: Any) -> Any:
    """The cubic with these values and slopes, at w of the way; beyond the ends it holds."""
    u = 1 - w
    return (
        (1 + 2 * w) * u * u * y0
        + w * u * u * h * d0
        + w * w * (3 - 2 * w) * y1
        - (w * w * u * h * d1)
    )


def slopes(xp: Any, y: Any, h: Any, method: str) -> Any:
    """At each of the samples y [B, S, D], that are h [B, S - 1, 1] apart."""
    m = (y[:, 1:] - y[:, :-1]) / h
    if method == "catmull_rom":
        inner = (y[:, 2:] - y[:, :-2]) / (h[:, 1:] + h[:, :-1])
        return xp.concatenate([m[:, :1], inner, m[:, -1:]], 1)
    if method == "pchip":
        return _pchip(xp, h, m)
    return _akima(xp, m)


def _pchip(xp: Any, h: Any, m: Any) -> Any:
    """Fritsch and Butland's weighted harmonic mean, as SciPy has it."""
    a, b, h0, h1 = m[:, :-1], m[:, 1:], h[:, :-1], h[:, 1:]
    w0, w1 = 2 * h1 + h0, h1 + 2 * h0
    same = a * b > 0
    mean = (w0 + w1) / (w0 / xp.where(same, a, 1.0) + w1 / xp.where(same, b, 1.0))
    first = _end(xp, h[:, :1], h[:, 1:2], m[:, :1], m[:, 1:2])
    last = _end(xp, h[:, -1:], h[:, -2:-1], m[:, -1:], m[:, -2:-1])
    return xp.concatenate([first, xp.where(same, mean, 0.0), last], 1)


def _end(xp: Any, h0: Any, h1: Any, m0: Any, m1: Any) -> Any:
    d = ((2 * h0 + h1) * m0 - h0 * m1) / (h0 + h1)
    d = xp.where(xp.sign(d) != xp.sign(m0), 0.0, d)
    steep = (xp.sign(m0) != xp.sign(m1)) & (xp.abs(d) > 3 * xp.abs(m0))
    return xp.where(steep, 3 * m0, d)


def _akima(xp: Any, m: Any) -> Any:
    before, after = 2 * m[:, :1] - m[:, 1:2], 2 * m[:, -1:] - m[:, -2:-1]
    m = xp.concatenate(
        [2 * before - m[:, :1], before, m, after, 2 * after - m[:, -1:]], 1
    )  # fmt: skip
    change = xp.abs(m[:, 1:] - m[:, :-1])
    a, b = change[:, 2:], change[:, :-2]
    total = a + b
    flat = total <= 1e-9 * (xp.abs(m[:, 1:-2]) + xp.abs(m[:, 2:-1]))
    d = (a * m[:, 1:-2] + b * m[:, 2:-1]) / xp.where(flat, 1.0, total)
    return xp.where(flat, 0.5 * (m[:, 1:-2] + m[:, 2:-1]), d)
