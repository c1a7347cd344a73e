"""Robot time and robot space, as arrays: GPU-accelerated, for any framework that speaks DLPack."""

from .asof import asof_index
from .backward import resample_backward
from .crop import crop_and_sample
from .depth import depth_to_points, depth_to_voxels
from .episodes import relabel_goals, window_index
from .fuse import Fused, Stream, fuse_multimodal, fused_multimodal_alignment, time_grid
from .interp import interp
from .latency import estimate_latency, random_latency
from .normalize import Normalization, compute_stats, normalization, normalize, unnormalize
from .points import farthest_point_sample
from .pose import interpolate_poses, interpolate_quaternions, slerp, unwrap_quaternions
from .resample import resample_trajectories
from .sparse import voxel_downsample, voxelize_sparse
from .timing import TimingReport, timing_report
from .voxel import (
    Grid,
    grid_from_bounds,
    voxel_centers,
    voxel_indices,
    voxelize_occupancy,
    voxelize_point_cloud,
)
from .windows import Windows, sample_windows

__version__ = "0.1.0"
__api_version__ = "1"

__all__ = [
    "Fused",
    "Grid",
    "Normalization",
    "Stream",
    "TimingReport",
    "Windows",
    "__api_version__",
    "__version__",
    "asof_index",
    "compute_stats",
    "crop_and_sample",
    "depth_to_points",
    "depth_to_voxels",
    "estimate_latency",
    "farthest_point_sample",
    "fuse_multimodal",
    "fused_multimodal_alignment",
    "grid_from_bounds",
    "interp",
    "interpolate_poses",
    "interpolate_quaternions",
    "normalization",
    "normalize",
    "random_latency",
    "relabel_goals",
    "resample_backward",
    "resample_trajectories",
    "sample_windows",
    "slerp",
    "time_grid",
    "timing_report",
    "unnormalize",
    "unwrap_quaternions",
    "voxel_centers",
    "voxel_downsample",
    "voxel_indices",
    "voxelize_occupancy",
    "voxelize_point_cloud",
    "voxelize_sparse",
    "window_index",
]
