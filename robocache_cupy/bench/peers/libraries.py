"""What NumPy, SciPy, pandas and fpsample have for one row, in a loop over rows (and channels)."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..case import Call, Case


def _floats(case: Case) -> bool:
    return case.dtype in ("float32", "float64")


def _stamps(*clocks: np.ndarray) -> list[np.ndarray]:
    """float64 seconds; of ns from the first stamp of each row on."""
    first = clocks[0][:, :1]
    if first.dtype.kind == "f":
        return [x.astype(np.float64) for x in clocks]
    return [(x - first) * 1e-9 for x in clocks]


class NumpyLoop:
    """np.interp, for each row and channel."""

    @staticmethod
    def _linear(data: Any, src: Any, tgt: Any) -> Any:
        B, _, D = data.shape
        out = np.empty((B, tgt.shape[1], D), data.dtype)
        src, tgt = _stamps(src, tgt)
        for b in range(B):
            for d in range(D):
                out[b, :, d] = np.interp(tgt[b], src[b], data[b, :, d])
        return out

    @staticmethod
    def resample(case: Case) -> Call | None:
        return NumpyLoop._linear if _floats(case) else None

    @staticmethod
    def fuse(case: Case) -> Call | None:
        def call(*args: Any) -> Any:
            *streams, tgt = args
            pairs = zip(streams[::2], streams[1::2], strict=True)
            return np.concatenate([NumpyLoop._linear(d, s, tgt) for d, s in pairs], -1)

        return call if _floats(case) else None

    @staticmethod
    def interp(case: Case) -> Call | None:
        if case.sizes[0] == 1:
            return None  # one call: see arrays.py
        return lambda x, xp, fp: np.stack(
            [np.interp(*row) for row in zip(x, xp, fp, strict=True)]
        ).astype(fp.dtype)  # fmt: skip

    @staticmethod
    def asof(case: Case) -> Call | None:
        return None if case.sizes[0] == 1 else lambda src, tgt: np.stack(
            [np.searchsorted(s, t, side="right") - 1 for s, t in zip(src, tgt, strict=True)]
        ).astype(np.int32)  # fmt: skip


class Scipy:
    """scipy.interpolate and scipy.spatial, for each row."""

    @staticmethod
    def resample(case: Case) -> Call | None:
        from scipy.interpolate import make_interp_spline

        def call(data: Any, src: Any, tgt: Any) -> Any:
            src, tgt = _stamps(src, tgt)
            at = np.clip(tgt, src[:, :1], src[:, -1:])
            rows = zip(src, data, at, strict=True)
            return np.stack([make_interp_spline(s, y, 1)(t) for s, y, t in rows]).astype(data.dtype)

        return call if _floats(case) and case.sizes[1] > 1 else None

    @staticmethod
    def curves(case: Case) -> Call | None:
        from scipy.interpolate import Akima1DInterpolator, PchipInterpolator

        known: dict[str, Any] = {"pchip": PchipInterpolator, "akima": Akima1DInterpolator}
        curve: Any = known.get(case.variant)

        def call(data: Any, src: Any, tgt: Any) -> Any:
            src, tgt = _stamps(src, tgt)
            at = np.clip(tgt, src[:, :1], src[:, -1:])
            rows = zip(src, data, at, strict=True)
            return np.stack([curve(s, y)(t) for s, y, t in rows]).astype(data.dtype)

        return None if curve is None else call

    @staticmethod
    def poses(case: Case) -> Call | None:
        from scipy.spatial.transform import Rotation, Slerp

        def call(data: Any, src: Any, tgt: Any) -> Any:
            src, tgt = _stamps(src, tgt)
            at = np.clip(tgt, src[:, :1], src[:, -1:])
            out = np.empty((*at.shape, data.shape[2]), data.dtype)
            for b in range(len(data)):
                out[b, :, -4:] = Slerp(src[b], Rotation.from_quat(data[b, :, -4:]))(at[b]).as_quat()
                for d in range(data.shape[2] - 4):
                    out[b, :, d] = np.interp(at[b], src[b], data[b, :, d])
            return out

        return None if case.variant == "slerp" else call


class Pandas:
    """pandas.merge_asof, for each row."""

    @staticmethod
    def asof(case: Case) -> Call:
        import pandas as pd

        def one(src: Any, tgt: Any) -> Any:
            # Both sides must ascend: sorted before, and put back after.
            order = np.argsort(tgt, kind="stable")
            left = pd.DataFrame({"t": tgt[order]})
            right = pd.DataFrame({"t": src, "at": np.arange(len(src), dtype=np.int32)})
            found = pd.merge_asof(left, right, on="t")["at"].fillna(-1).to_numpy(np.int32)
            out = np.empty_like(found)
            out[order] = found
            return out

        return lambda src, tgt: np.stack([one(s, t) for s, t in zip(src, tgt, strict=True)])


class Fpsample:
    """fpsample: exact, with a k-d tree."""

    @staticmethod
    def farthest_point_sample(case: Case) -> Call | None:
        import fpsample

        N, K = case.sizes[1:]

        def call(points: Any) -> Any:
            return np.stack(
                [fpsample.bucket_fps_kdline_sampling(x, K, h=7, start_idx=0) for x in points]
            ).astype(np.int64)  # fmt: skip

        return call if K <= N else None
