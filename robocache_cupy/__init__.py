"""Robot time and robot space, as arrays: GPU-accelerated, for any framework that speaks DLPack.

Arrays of NumPy, CuPy, PyTorch and JAX give arrays of the same library on the same device. Those of
any other library with ``__dlpack__``, such as array-api-strict, are read where they lie
and give NumPy arrays, or CuPy arrays on a CUDA device; ``xp.from_dlpack(result)`` takes them back
without a copy. The arrays of a call come from one library and lie on one device. What is small
(lengths, offsets, origins, intrinsics, statistics, ...) may also be a list or a NumPy array.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

from ._core.plan import warmup
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

if TYPE_CHECKING:
    from . import config as config
    from . import health as health
    from . import logs as logs
    from . import metrics as metrics
    from . import viz as viz
    from .config import get_config
    from .health import check_installation, health_check, print_health_check, self_test
    from .metrics import (
        disable_metrics,
        enable_metrics,
        get_metrics,
        print_metrics,
        reset_metrics,
    )

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
    "check_installation",
    "compute_stats",
    "crop_and_sample",
    "depth_to_points",
    "depth_to_voxels",
    "disable_metrics",
    "enable_metrics",
    "estimate_latency",
    "farthest_point_sample",
    "fuse_multimodal",
    "fused_multimodal_alignment",
    "get_config",
    "get_metrics",
    "grid_from_bounds",
    "health_check",
    "interp",
    "interpolate_poses",
    "interpolate_quaternions",
    "normalization",
    "normalize",
    "print_health_check",
    "print_metrics",
    "random_latency",
    "relabel_goals",
    "resample_backward",
    "resample_trajectories",
    "reset_metrics",
    "sample_windows",
    "self_test",
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
    "warmup",
    "window_index",
]

_LATER = {  # what a call of an op does without is imported when it is asked for
    "check_installation": "health",
    "config": "",
    "disable_metrics": "metrics",
    "enable_metrics": "metrics",
    "get_config": "config",
    "get_metrics": "metrics",
    "health": "",
    "health_check": "health",
    "logs": "",
    "metrics": "",
    "print_health_check": "health",
    "print_metrics": "metrics",
    "reset_metrics": "metrics",
    "self_test": "health",
    "viz": "",
}


if not TYPE_CHECKING:  # to a type checker it would say that any name is here

    def __getattr__(name: str) -> Any:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        module = importlib.import_module(f".{_LATER[name] or name}", __name__)
        value = globals()[name] = getattr(module, name) if _LATER[name] else module
        return value


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name, module in _LATER.items() if not module)})


if any(name.startswith("ROBOCACHE_") for name in os.environ):
    importlib.import_module(".config", __name__).from_environment()

if "torch" in sys.modules:  # an exported program may be loaded before any call
    from ._core import torch as _torch

    _torch.define_all()
