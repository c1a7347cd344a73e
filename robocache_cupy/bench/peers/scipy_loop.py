"""scipy.interpolate and scipy.spatial, for each row."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..case import Call, Case
from .numpy_loop import floats, stamps


def resample(case: Case) -> Call | None:
    from scipy.interpolate import make_interp_spline

    def call(data: Any, src: Any, tgt: Any) -> Any:
        src, tgt = stamps(src, tgt)
        at = np.clip(tgt, src[:, :1], src[:, -1:])
        rows = zip(src, data, at, strict=True)
        return np.stack([make_interp_spline(s, y, 1)(t) for s, y, t in rows]).astype(data.dtype)

    return call if floats(case) and case.sizes[1] > 1 else None


def curves(case: Case) -> Call | None:
    from scipy.interpolate import Akima1DInterpolator, PchipInterpolator

    known: dict[str, Any] = {"pchip": PchipInterpolator, "akima": Akima1DInterpolator}
    curve: Any = known.get(case.variant)

    def call(data: Any, src: Any, tgt: Any) -> Any:
        src, tgt = stamps(src, tgt)
        at = np.clip(tgt, src[:, :1], src[:, -1:])
        rows = zip(src, data, at, strict=True)
        return np.stack([curve(s, y)(t) for s, y, t in rows]).astype(data.dtype)

    return None if curve is None else call


def poses(case: Case) -> Call | None:
    from scipy.spatial.transform import Rotation, Slerp

    def call(data: Any, src: Any, tgt: Any) -> Any:
        src, tgt = stamps(src, tgt)
        at = np.clip(tgt, src[:, :1], src[:, -1:])
        out = np.empty((*at.shape, data.shape[2]), data.dtype)
        for b in range(len(data)):
            out[b, :, -4:] = Slerp(src[b], Rotation.from_quat(data[b, :, -4:]))(at[b]).as_quat()
            for d in range(data.shape[2] - 4):
                out[b, :, d] = np.interp(at[b], src[b], data[b, :, d])
        return out

    return None if case.variant == "slerp" else call
