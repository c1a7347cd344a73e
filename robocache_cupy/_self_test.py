"""A small call of every op with the result that it must have, worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .asof import asof_index
from .backward import resample_backward
from .crop import crop_and_sample
from .depth import depth_to_points, depth_to_voxels
from .fuse import fuse_multimodal, fused_multimodal_alignment, time_grid
from .interp import interp
from .normalize import normalize, unnormalize
from .points import farthest_point_sample
from .pose import interpolate_poses, interpolate_quaternions, slerp, unwrap_quaternions
from .resample import resample_trajectories
from .sparse import voxel_downsample, voxelize_sparse
from .voxel import voxel_indices, voxelize_occupancy, voxelize_point_cloud
from .windows import sample_windows

HALF = 0.5**0.5  # the sine of 45 degrees, of a turn by 90 degrees

_TIMES = np.arange(3) * 1_000_000_000  # ns
_BETWEEN = np.array([500, 1250]) * 1_000_000
_DATA = np.array([[0.0], [2.0], [6.0]], np.float32)
_STATS = {"mean": [1.0], "std": [2.0]}
_QUATERNIONS = np.array([[0, 0, 0, 1.0], [0, 0, 1, 0], [0, 0, -1, 0]], np.float32)
_POSES = np.concatenate([_DATA, _DATA, _DATA, _QUATERNIONS], axis=1)
_POINTS = np.array([[[0.5, 0.5, 0.5], [1.5, 0.5, 0.5], [1.25, 0.5, 0.25]]], np.float32)
_GRID: dict[str, Any] = {"grid_size": (2, 1, 1), "voxel_size": 1.0}
_DEPTH = np.full((1, 2), 2.0, np.float32)
_CAMERA = (2.0, 2.0, 0.5, 0.0)

Case = tuple[Callable[[str], Any], tuple[Any, ...]]  # of a backend, and the parts of the result

CASES: dict[str, Case] = {
    "asof_index": (
        lambda backend: asof_index(_TIMES, _BETWEEN, direction="nearest", backend=backend),
        ([0, 1],),
    ),
    "crop_and_sample": (
        lambda backend: crop_and_sample(_POINTS, (1, 0, 0, 2, 1, 1), 1, backend=backend),
        ([[1]], [[[1.5, 0.5, 0.5]]]),
    ),
    "depth_to_points": (
        lambda backend: depth_to_points(_DEPTH, _CAMERA, backend=backend),
        ([[-0.5, 0, 2], [0.5, 0, 2]],),
    ),
    "depth_to_voxels": (
        lambda backend: depth_to_voxels(
            _DEPTH, _CAMERA, None, **_GRID, origin=(-1, 0, 2), reduce="count", backend=backend
        ),
        ([[[1]], [[1]]],),
    ),
    "farthest_point_sample": (
        lambda backend: farthest_point_sample(_POINTS, 2, backend=backend),
        ([[0, 1]],),
    ),
    "fuse_multimodal": (
        lambda backend: fuse_multimodal(
            {"a": (_DATA, _TIMES), "b": (-_DATA, _TIMES)}, tgt_times=_BETWEEN, backend=backend
        ),
        ([[1, -1], [3, -3]],),
    ),
    "fused_multimodal_alignment": (
        lambda backend: fused_multimodal_alignment(
            _DATA[None], _TIMES[None], -_DATA[None], _TIMES[None], target_times=_BETWEEN[None],
            backend=backend,
        ),
        ([[[1, -1], [3, -3]]],),
    ),
    "interp": (
        lambda backend: interp([0.5, 1.25], [0.0, 1, 2], [0.0, 2, 6], backend=backend),
        ([1, 3],),
    ),
    "interpolate_poses": (
        lambda backend: interpolate_poses(_POSES, _TIMES, _BETWEEN, backend=backend),
        ([[1, 1, 1, 0, 0, HALF, HALF], [3, 3, 3, 0, 0, 1, 0]],),
    ),
    "interpolate_quaternions": (
        lambda backend: interpolate_quaternions(_QUATERNIONS, _TIMES, _BETWEEN, backend=backend),
        ([[0, 0, HALF, HALF], [0, 0, 1, 0]],),
    ),
    "normalize": (
        lambda backend: normalize(_DATA, _STATS, eps=0.0, backend=backend),
        ([[-0.5], [0.5], [2.5]],),
    ),
    "resample_backward": (
        lambda backend: resample_backward(
            np.ones((2, 1), np.float32), _TIMES, _BETWEEN, samples=3, backend=backend
        ),
        ([[0.5], [1.25], [0.25]],),
    ),
    "resample_trajectories": (
        lambda backend: resample_trajectories(_DATA, _TIMES, _BETWEEN, backend=backend),
        ([[1], [3]],),
    ),
    "sample_windows": (
        lambda backend: sample_windows(
            {"x": _DATA}, [0, 3], np.array([0, 2]), delta_indices={"x": [-1, 0]}, backend=backend
        )["x"],
        ([[[0], [0]], [[2], [6]]],),
    ),
    "slerp": (
        lambda backend: slerp(_QUATERNIONS[0], _QUATERNIONS[1], 0.5, backend=backend),
        ([0, 0, HALF, HALF],),
    ),
    "time_grid": (
        lambda backend: time_grid(_TIMES, hz=2.0, num=3, backend=backend),
        ([0, 500_000_000, 1_000_000_000],),
    ),
    "unnormalize": (
        lambda backend: unnormalize(_DATA, _STATS, eps=0.0, backend=backend),
        ([[1], [5], [13]],),
    ),
    "unwrap_quaternions": (
        lambda backend: unwrap_quaternions(_QUATERNIONS, backend=backend),
        ([[0, 0, 0, 1], [0, 0, 1, 0], [0, 0, 1, 0]],),
    ),
    "voxel_downsample": (
        lambda backend: voxel_downsample(_POINTS, 1.0, capacity=2, backend=backend)[0],
        ([[0.5, 0.5, 0.5], [1.375, 0.5, 0.375]],),
    ),
    "voxel_indices": (
        lambda backend: voxel_indices(_POINTS, **_GRID, backend=backend),
        ([[[0, 0, 0], [1, 0, 0], [1, 0, 0]]],),
    ),
    "voxelize_occupancy": (
        lambda backend: voxelize_occupancy(_POINTS, **_GRID, backend=backend),
        ([[[[1]], [[1]]]],),
    ),
    "voxelize_point_cloud": (
        lambda backend: voxelize_point_cloud(_POINTS, **_GRID, reduce="count", backend=backend),
        ([[[[1]], [[2]]]],),
    ),
    "voxelize_sparse": (
        lambda backend: voxelize_sparse(_POINTS, **_GRID, max_voxels=2, backend=backend)[0],
        ([[0, 0, 0, 0], [0, 1, 0, 0]],),
    ),
}  # fmt: skip
