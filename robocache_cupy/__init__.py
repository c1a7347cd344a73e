"""Robot time and robot space, as arrays: GPU-accelerated, for any framework that speaks DLPack."""

from .resample import resample_trajectories

__version__ = "0.1.0"
__api_version__ = "1"

__all__ = ["__api_version__", "__version__", "resample_trajectories"]
