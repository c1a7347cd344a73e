"""What the ops on space must give, point by point in plain Python and NumPy.

Written from the specification, not from the kernels: coordinates in float32 (float64 for float64
points) with one rounding to an operation, sums in whole numbers of unbounded size.
"""

import math
from fractions import Fraction

import ml_dtypes
import numpy as np

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


def dtype_of(name):
    return BFLOAT16 if name == "bfloat16" else np.dtype(name)


def computed(points):
    """Coordinates in the type that is computed with."""
    return points.astype(np.float64 if points.dtype == np.float64 else np.float32)


def moved(points, transform):
    """The points [B, N, 3] after a transform [3 or 4, 4], one for each cloud or one for all."""
    p = computed(points)
    if transform is None:
        return p
    at = np.broadcast_to(np.asarray(transform, np.float64)[..., :3, :], (len(p), 3, 4))
    at = at.astype(p.dtype)[:, None]
    with np.errstate(all="ignore"):
        x, y, z = p[..., 0, None], p[..., 1, None], p[..., 2, None]
        return ((at[..., 0] * x + at[..., 1] * y) + at[..., 2] * z) + at[..., 3]


def indices(
    points, grid, voxel_size, origin=0.0, *, lengths=None, mask=None, transform=None, clamp=False
):
    """int64 [B, N, 3], -1 for a point that is in no voxel."""
    p = moved(points, transform)
    N = p.shape[1]
    corner = np.asarray(origin, np.float64)
    corner = corner[:, None] if corner.ndim == 2 else corner
    with np.errstate(all="ignore"):
        d = p - np.broadcast_to(corner.astype(p.dtype), p.shape)
        q = d / np.broadcast_to(np.asarray(voxel_size, np.float64).astype(p.dtype), p.shape)
    inside = (q >= 0) & (q < np.asarray(grid))
    if clamp:
        q = np.clip(q, 0, np.asarray(grid) - 1)
        inside = np.isfinite(p)
    kept = inside.all(-1)
    if lengths is not None:
        kept &= np.arange(N) < np.asarray(lengths)[:, None]
    if mask is not None:
        kept &= np.asarray(mask).astype(bool)
    return np.where(kept[..., None], np.where(kept[..., None], q, -1).astype(np.int64), -1)


def members(found, grid):
    """The points of each occupied voxel: {(cloud, voxel): [point, ...]}, in ascending order."""
    by_voxel = {}
    for b, cloud in enumerate(found):
        for n, (i, j, k) in enumerate(cloud.tolist()):
            if i >= 0:
                by_voxel.setdefault((b, (i * grid[1] + j) * grid[2] + k), []).append(n)
    return by_voxel


def rounded(x, dtype):
    """A double to the nearest number of a dtype, ties to even, in a single step."""
    if dtype != BFLOAT16 or not math.isfinite(x):
        with np.errstate(over="ignore"):
            return np.float64(x).astype(dtype)
    unit = Fraction(2) ** (max(math.frexp(x)[1] - 1, -126) - 7)
    return np.float64(math.copysign(float(round(Fraction(x) / unit) * unit), x)).astype(dtype)


def summed(values, mean, dtype):
    """The sum or mean of a voxel's features, by fixed point at the scale that the specification
    sets: 2^(62 - ceil(log2(count + 1)) - e), the largest of them being less than 2^e."""
    values = [float(x) for x in values]
    if not all(map(math.isfinite, values)):
        return rounded(math.nan, dtype)
    largest = max(map(abs, values))
    if largest == 0:
        return rounded(0.0, dtype)
    e = max(math.frexp(largest)[1], -1022)
    scale = 62 - len(values).bit_length() - e
    total = float(sum(round(Fraction(x) * Fraction(2) ** scale) for x in values))
    if mean:
        total /= len(values)
    try:
        total = math.ldexp(total, -scale)
    except OverflowError:
        total = math.copysign(math.inf, total)
    return rounded(total, dtype)


def extreme(values, minimum):
    """NaN if there is one; -0 is less than 0."""
    if values.dtype.kind not in "iu":
        wide = values.astype(np.float64)
        if np.isnan(wide).any():
            return values.dtype.type(np.nan)
        order = [(float(x), not np.signbit(x)) for x in wide]
    else:
        order = values.tolist()
    at = (min if minimum else max)(range(len(order)), key=order.__getitem__)
    return values[at]


def voxels(found, grid, name, features=None, dtype=None, fill=0):
    """One reduction of points whose voxels were found: [B, X, Y, Z] or [B, X, Y, Z, C]."""
    B, cells = len(found), math.prod(grid)
    by_voxel = members(found, grid)
    if name == "bits":
        out = np.zeros((B, -(-cells // 32)), np.uint32)
        for b, v in by_voxel:
            out[b, v // 32] |= np.uint32(1 << v % 32)
        return out
    if name in ("binary", "count"):
        out = np.zeros((B, cells), dtype)
        for (b, v), points in by_voxel.items():
            most = np.iinfo(dtype).max if name == "count" else 1
            out[b, v] = min(len(points), most)
        return out.reshape(B, *grid)
    C = features.shape[-1]
    dtype = features.dtype if dtype is None else dtype
    with np.errstate(over="ignore"):
        out = np.full((B, cells, C), fill, np.float64 if dtype == BFLOAT16 else dtype).astype(dtype)
    for (b, v), points in by_voxel.items():
        for c in range(C):
            values = features[b, points, c]
            if name == "first":
                out[b, v, c] = values[0]
            elif name in ("max", "min"):
                out[b, v, c] = extreme(values, name == "min")
            else:
                out[b, v, c] = summed(values, name == "mean", dtype)
    return out.reshape(B, *grid, C)
