"""What voxelize_sparse and voxel_downsample must give, by np.unique, one cloud after another."""

import numpy as np
from space_oracle import computed, extreme, indices, moved, summed


def dropped(points, lengths=None, mask=None):
    """bool [B, N]: points that do not count, wherever they are."""
    B, N, _ = points.shape
    out = np.zeros((B, N), bool)
    if lengths is not None:
        out |= np.arange(N) >= np.asarray(lengths)[:, None]
    if mask is not None:
        out |= ~np.asarray(mask).astype(bool)
    return out


def rows_of(found, kept, by_first=False, capacity=None, min_points=1):
    """The rows of voxel indices `found` [B, N, 3], of the points that are kept: lists, for each
    row, of its cloud, its voxel and its points; the rows' beginnings, the voxels of each cloud, and
    the row of each point. A row of padding has no points."""
    B, N, _ = found.shape
    rows, offsets, numbers = [], [0], []
    inverse = np.full((B, N), -1, np.int32)
    for b in range(B):
        places = np.flatnonzero(kept[b])
        voxels, of = np.unique(found[b, places], axis=0, return_inverse=True)
        of = of.reshape(-1)
        here = [(b, v, places[of == i]) for i, v in enumerate(voxels)]
        here = [x for x in here if len(x[2]) >= min_points]
        if by_first:
            here.sort(key=lambda x: x[2][0])
        numbers.append(len(here))
        if capacity is not None:
            here = here[:capacity]
        for i, (_, _, points) in enumerate(here):
            inverse[b, points] = len(rows) + i
        if capacity is not None:
            here += [(b, None, np.array([], int))] * (capacity - len(here))
        rows += here
        offsets.append(len(rows))
    return rows, np.array(offsets, np.int32), np.array(numbers, np.int32), inverse


def reduced(rows, features, name, fill=0):
    """[M, C], in the dtype that the dense op gives."""
    dtype = features.dtype
    if name in ("mean", "sum"):
        dtype = np.dtype(np.float64 if dtype == np.float64 else np.float32)
    out = np.full((len(rows), features.shape[-1]), fill).astype(dtype)
    for r, (b, _, points) in enumerate(rows):
        for c in range(features.shape[-1] if len(points) else 0):
            values = features[b, points, c]
            if name == "first":
                out[r, c] = values[0]
            elif name in ("max", "min"):
                out[r, c] = extreme(values, name == "min")
            else:
                out[r, c] = summed(values, name == "mean", dtype)
    return out


def sparse(
    points, grid, voxel_size, origin=0.0, *, features=None, reduce=None, lengths=None, mask=None,
    transform=None, max_voxels=None, max_points_per_voxel=None, order="sorted", coord_order="xyz",
):  # fmt: skip
    """The fields of SparseVoxels, of points [B, N, 3]."""
    found = indices(
        points, grid, voxel_size, origin, lengths=lengths, mask=mask, transform=transform
    )
    rows, offsets, numbers, inverse = rows_of(
        found, found[..., 0] >= 0, order == "first_seen", max_voxels
    )
    coords = np.full((len(rows), 4), -1, np.int32)
    for r, (b, voxel, _) in enumerate(rows):
        if voxel is not None:
            coords[r] = [b, *(voxel if coord_order == "xyz" else voxel[::-1])]
    counts = np.array([len(p) for *_, p in rows], np.int32)
    first = np.array([p[0] if len(p) else -1 for *_, p in rows], np.int32)
    out = {"coords": coords, "counts": counts, "inverse": inverse, "first": first,
           "batch_offsets": offsets, "num_voxels": numbers}  # fmt: skip
    if features is None:
        features = points if transform is None else moved(points, transform)
    if reduce is not None:
        out["features"] = reduced(rows, features, reduce)
    if max_points_per_voxel is not None:
        P = max_points_per_voxel
        out["voxels"] = np.zeros((len(rows), P, features.shape[-1]), features.dtype)
        for r, (b, _, of) in enumerate(rows):
            out["voxels"][r, : len(of[:P])] = features[b, of[:P]]
        out["num_points"] = np.minimum(counts, P).astype(np.int32)
    return out


def downsample(
    points, voxel_size, origin=0.0, *, features=None, reduce="mean", lengths=None, mask=None,
    min_points=1, capacity=None,
):  # fmt: skip
    """The fields of Downsampled, of points [B, N, 3]."""
    p = computed(points)
    corner = np.asarray(origin, np.float64)
    corner = np.broadcast_to(corner[:, None] if corner.ndim == 2 else corner, p.shape)
    corner, size = corner.astype(p.dtype), np.broadcast_to(voxel_size, 3).astype(p.dtype)
    with np.errstate(all="ignore"):
        voxel = np.floor((p - corner) / size)
        kept = (np.abs(voxel) < 2**20).all(-1) & ~dropped(points, lengths, mask)
    found = np.where(kept[..., None], voxel, 0).astype(np.int64)
    rows, offsets, numbers, inverse = rows_of(found, kept, False, capacity, min_points)
    out = {}
    if reduce == "center":
        out["points"] = np.full((len(rows), 3), np.nan).astype(points.dtype)
        for r, (b, v, of) in enumerate(rows):
            if len(of):
                at = corner[b, 0].astype(float) + (v + 0.5) * size.astype(float)
                out["points"][r] = at.astype(points.dtype)
    elif reduce == "first":
        out["points"] = reduced(rows, points, "first", np.nan)
    else:
        out["points"] = np.full((len(rows), 3), np.nan).astype(points.dtype)
        for r, (b, _, of) in enumerate(rows):
            for c in range(3 if len(of) else 0):
                out["points"][r, c] = summed(points[b, of, c], True, points.dtype)
    if features is not None:
        out["features"] = reduced(rows, features, "first" if reduce == "first" else "mean")
    return out | {
        "counts": np.array([len(x) for *_, x in rows], np.int32),
        "inverse": inverse,
        "batch_offsets": offsets,
        "num_voxels": numbers,
    }
