"""numpy.interp and searchsorted, for each row (and channel)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..case import Call, Case


def floats(case: Case) -> bool:
    return case.dtype in ("float32", "float64")


def stamps(*clocks: np.ndarray) -> list[np.ndarray]:
    """float64 seconds; of ns from the first stamp of each row on."""
    first = clocks[0][:, :1]
    if first.dtype.kind == "f":
        return [x.astype(np.float64) for x in clocks]
    return [(x - first) * 1e-9 for x in clocks]


def linear(data: Any, src: Any, tgt: Any) -> Any:
    B, _, D = data.shape
    out = np.empty((B, tgt.shape[1], D), data.dtype)
    src, tgt = stamps(src, tgt)
    for b in range(B):
        for d in range(D):
            out[b, :, d] = np.interp(tgt[b], src[b], data[b, :, d])
    return out


def resample(case: Case) -> Call | None:
    return linear if floats(case) else None


def fuse(case: Case) -> Call | None:
    def call(*args: Any) -> Any:
        *streams, tgt = args
        pairs = zip(streams[::2], streams[1::2], strict=True)
        return np.concatenate([linear(d, s, tgt) for d, s in pairs], -1)

    return call if floats(case) else None


def interp(case: Case) -> Call | None:
    if case.sizes[0] == 1:
        return None  # one call: see arrays.py
    return lambda x, xp, fp: np.stack(
        [np.interp(*row) for row in zip(x, xp, fp, strict=True)]
    ).astype(fp.dtype)  # fmt: skip


def asof(case: Case) -> Call | None:
    return None if case.sizes[0] == 1 else lambda src, tgt: np.stack(
        [np.searchsorted(s, t, side="right") - 1 for s, t in zip(src, tgt, strict=True)]
    ).astype(np.int32)  # fmt: skip
