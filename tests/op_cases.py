"""A small call of every op, for the tests that run all of them through a framework.

``CASES[name]()`` gives a function, its arrays and its keyword arguments. Stamps and data are
float32, and no array has 64-bit elements, so that the same call runs in JAX without x64. Sizes that
depend on data are fixed by their capacity arguments.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

import robocache_cupy as rc

Case = tuple[Callable[..., Any], tuple[np.ndarray, ...], dict[str, Any]]


def _stream(
    samples: int, features: int, seed: int, start: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """Data [2, samples, features] and their stamps, with steps of 1/8 to 1/2."""
    rng = np.random.default_rng(seed)
    data = rng.standard_normal((2, samples, features)).astype("float32")
    times = start + np.cumsum(rng.integers(1, 5, (2, samples)), 1) / 8
    return data, times.astype("float32")


def _targets(count: int = 6, end: float = 3.5) -> np.ndarray:
    """Ascending points in time [2, count], those at both ends beyond the streams."""
    return np.add.outer([0.0, 0.0625], np.linspace(-0.25, end, count)).astype("float32")


def _quaternions(count: int, seed: int) -> np.ndarray:
    q = np.random.default_rng(seed).standard_normal((2, count, 4))
    return (q / np.linalg.norm(q, axis=-1, keepdims=True)).astype("float32")


def _cloud(points: int = 40, seed: int = 0) -> np.ndarray:
    """Two clouds in [-1.25, 1.25]^3, with one NaN, and with points that come twice."""
    cloud = np.random.default_rng(seed).uniform(-1.25, 1.25, (2, points, 3)).astype("float32")
    cloud[0, 3, 1] = np.nan
    cloud[:, 5] = cloud[:, 4]
    return cloud


def _features(points: int = 40, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(9).standard_normal((2, points, channels)).astype("float32")


def _depth() -> np.ndarray:
    depth = np.random.default_rng(2).uniform(0.3, 2.0, (2, 6, 8)).astype("float32")
    depth[0, 1, 2], depth[1, 0, 0] = 0.0, np.nan
    return depth


_CAMERA = (5.0, 5.5, 3.5, 2.5)
_POSE = np.array([[0.0, -1, 0, 0.5], [1, 0, 0, -0.25], [0, 0, 1, 0.125], [0, 0, 0, 1]])
_GRID: dict[str, Any] = {"grid_size": (4, 5, 3), "voxel_size": 0.5, "origin": (-1.0, -1.25, -0.75)}


def resample_trajectories() -> Case:
    data, times = _stream(9, 3, 0)
    options = {"latency": 0.125, "tolerance": 0.5, "return_valid": True, "return_index": True}
    return rc.resample_trajectories, (data, times, _targets()), options


def resample_backward() -> Case:
    _, times = _stream(9, 3, 0)
    grad = np.random.default_rng(1).standard_normal((2, 6, 3)).astype("float32")
    return rc.resample_backward, (grad, times, _targets()), {"samples": 9, "latency": 0.125}


def fuse_multimodal() -> Case:
    arrays = (*_stream(9, 3, 0), *_stream(7, 2, 1), *_stream(12, 4, 2, start=0.5), _targets())
    return rc.fuse_multimodal, arrays, {"return_valid": True}


def time_grid() -> Case:
    return rc.time_grid, (_stream(9, 1, 0)[1], _stream(7, 1, 1)[1]), {"hz": 3.0, "num": 5}


def asof_index() -> Case:
    return rc.asof_index, (_stream(9, 1, 0)[1], _targets()), {"tolerance": 0.25}


def interp() -> Case:
    data, times = _stream(9, 1, 0)
    return rc.interp, (_targets(), times, data[..., 0]), {"left": -7.0}


def sample_windows() -> Case:
    data, times = _stream(9, 3, 0)
    times[1] += times[0, -1]
    arrays = (data.reshape(18, 3), times.reshape(18), np.array([0, 1, 8, 9, 17], "int32"))

    def windows(data: Any, times: Any, anchors: Any, **options: Any) -> Any:
        return rc.sample_windows(data, [0, 9, 18], anchors, times=times, **options)

    return windows, arrays, {"delta_timestamps": [-0.5, 0.0, 0.25], "method": "linear"}


def normalize() -> Case:
    stats = {"mean": np.array([0.5, -1.0, 0.0]), "std": np.array([2.0, 0.25, 1.0])}
    return rc.normalize, (_stream(9, 3, 0)[0],), {"stats": stats, "clip": 1.5}


def unnormalize() -> Case:
    _, arrays, options = normalize()
    return rc.unnormalize, arrays, {"stats": options["stats"]}


def slerp() -> Case:
    weights = np.linspace(0, 1, 10, dtype="float32").reshape(2, 5)
    return rc.slerp, (_quaternions(5, 0), _quaternions(5, 1), weights), {}


def unwrap_quaternions() -> Case:
    return rc.unwrap_quaternions, (_quaternions(9, 0),), {}


def voxelize_point_cloud() -> Case:
    options = {"reduce": ("mean", "count", "binary"), "fill_value": 0.5}
    return (
        lambda points, features, **options: rc.voxelize_point_cloud(
            points, features=features, **options
        ),
        (_cloud(), _features()),
        {**_GRID, **options},
    )


def voxel_indices() -> Case:
    return rc.voxel_indices, (_cloud(),), {**_GRID, "transform": _POSE}


def voxelize_sparse() -> Case:
    options = {"reduce": "mean", "max_voxels": 24, "max_points_per_voxel": 2}
    return rc.voxelize_sparse, (_cloud(),), {**_GRID, **options}


def voxel_downsample() -> Case:
    return rc.voxel_downsample, (_cloud(),), {"voxel_size": 1.0, "capacity": 24}


def crop_and_sample() -> Case:
    options = {"bounds": (-1, -1, -1, 1, 1, 1), "num_samples": 6}
    return rc.crop_and_sample, (_cloud(),), options


def farthest_point_sample() -> Case:
    return rc.farthest_point_sample, (_cloud(),), {"num_samples": 6, "return_points": True}


def depth_to_points() -> Case:
    options = {"intrinsics": _CAMERA, "cam_to_world": _POSE, "depth_max": 1.75}
    return rc.depth_to_points, (_depth(),), options


def depth_to_voxels() -> Case:
    options = {"intrinsics": _CAMERA, "cam_to_world": _POSE, "reduce": "count"}
    return rc.depth_to_voxels, (_depth(),), {**_GRID, **options}


CASES: dict[str, Callable[[], Case]] = {
    make.__name__: make
    for make in (
        resample_trajectories,
        resample_backward,
        fuse_multimodal,
        time_grid,
        asof_index,
        interp,
        sample_windows,
        normalize,
        unnormalize,
        slerp,
        unwrap_quaternions,
        voxelize_point_cloud,
        voxel_indices,
        voxelize_sparse,
        voxel_downsample,
        crop_and_sample,
        farthest_point_sample,
        depth_to_points,
        depth_to_voxels,
    )
}
