"""Comparisons of results with an oracle. Each gives the largest error, or raises Wrong."""

from __future__ import annotations

from typing import Any

import numpy as np

from .case import Wrong

# Rounding of a result: the unit roundoff, and how many of them of the largest operand a result may
# be off. PyTorch rounds the weight to the dtype of the data, hence more than one even for bfloat16.
_ROUNDOFF = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
_ROUNDINGS = {"float16": 4, "bfloat16": 4, "float32": 16, "float64": 16}
_MISPLACED = 1e-4  # of the points, by a fused multiply-add or a reciprocal in a peer


def numpy(x: Any) -> np.ndarray:
    """A torch tensor in NumPy; bfloat16 as float32."""
    import torch

    return (x.float() if x.dtype is torch.bfloat16 else x).cpu().numpy()


def tolerance(dtype: str, largest: float) -> float:
    return _ROUNDINGS[dtype] * _ROUNDOFF[dtype] * largest


def some(count: int, number: int) -> list[int]:
    """The first, the last and some between.

    >>> some(10, 4), some(2, 5)
    ([0, 3, 6, 9], [0, 1])
    """
    return sorted({round(i * (count - 1) / max(number - 1, 1)) for i in range(number)})


def shaped(result: Any, shape: tuple[int, ...], dtype: str) -> None:
    came = tuple(result.shape), str(result.dtype).rpartition(".")[2]
    if came != (tuple(shape), dtype):
        raise Wrong(f"got {came[0]} {came[1]}, expected {tuple(shape)} {dtype}")


def close(got: Any, expected: Any, at_most: float) -> float:
    error = np.abs(np.asarray(got, np.float64) - expected)
    largest = float(error.max()) if error.size else 0.0
    if not largest <= at_most:
        raise Wrong(f"off by {largest:.3g}, tolerance {at_most:.3g}")
    return largest


def finite(result: Any) -> None:
    """Every element, wherever it is: memory that was not written holds NaN."""
    import torch

    if not bool(torch.isfinite(result).all()):
        raise Wrong("elements are not finite, or were not written")


def equal(got: Any, expected: Any, exact: bool, of: str = "elements") -> float:
    """All elements, or all but a few of those that are not 0 or -1."""
    got, expected = np.asarray(got), np.asarray(expected)
    if got.shape != expected.shape:
        raise Wrong(f"{of}: got shape {got.shape}, expected {expected.shape}")
    off = int(np.count_nonzero(got != expected))
    allowed = 0.0 if exact else 3 + _MISPLACED * np.count_nonzero(expected > 0)
    if off > allowed:
        raise Wrong(f"{off} of {expected.size} {of} differ")
    return float(off)


def interpolated(data: Any, src: Any, tgt: Any, result: Any, dtype: str) -> float:
    """`numpy.interp` in float64: all targets, of a few rows and channels."""
    B, _, D = data.shape
    rows, channels = some(B, 6), some(D, 8)
    values, got = (numpy(x[rows][..., channels].double()) for x in (data, result))
    expected = np.empty_like(got)
    for i, b in enumerate(rows):
        known, at = numpy(src[b]), numpy(tgt[b])
        # From the first stamp on: float64 holds no ns since 1970.
        origin = known[0] if known.dtype.kind == "i" else 0.0
        xp, x = ((t - origin).astype(np.float64) for t in (known, at))
        for j in range(len(channels)):
            expected[i, :, j] = np.interp(x, xp, values[i, :, j])
    error = close(got, expected, tolerance(dtype, float(np.abs(values).max())))
    finite(result)
    return error
