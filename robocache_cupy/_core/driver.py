"""The CUDA driver's launch of a kernel: CuPy's takes no attributes.

Kernels may be launched when the blocks of the one before them in the stream end (programmatic
dependent launch). Each begins by waiting for its memory (wait_for_stream in common.cuh). What is
saved is most of the time that a launch takes: 0.4 to 0.7 us of each kernel.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable
from typing import Any

from .array import import_cupy

_PROGRAMMATIC_STREAM_SERIALIZATION = 6


class _Attribute(ctypes.Structure):  # CUlaunchAttribute
    _fields_ = (("id", ctypes.c_int), ("value", ctypes.c_uint64 * 8))


class Config(ctypes.Structure):  # CUlaunchConfig
    _fields_ = (
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared_bytes", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(_Attribute)),
        ("attributes_count", ctypes.c_uint),
    )


_EARLY = _Attribute(_PROGRAMMATIC_STREAM_SERIALIZATION, (1,))


def config(blocks: int, threads: int, device: int) -> Config:
    """How a kernel is launched, but for the stream."""
    early = _launches_early(device)
    return Config(
        (blocks, 1, 1), (threads, 1, 1), 0, None, ctypes.pointer(_EARLY) if early else None, early
    )


@functools.cache
def _launches_early(device: int) -> bool:
    cuda = import_cupy().cuda
    # From 12.3 on a CUDA graph can hold such launches.
    return int(cuda.Device(device).compute_capability) >= 90 and (
        cuda.runtime.driverGetVersion() >= 12030
    )


@functools.cache
def launch() -> Callable[[Config, Any, Any, Any], int] | None:
    """cuLaunchKernelEx (config, function, parameters, extra), which returns a status."""
    try:
        library = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        found = library.cuLaunchKernelEx
    except (OSError, AttributeError):  # no driver, or one before CUDA 11.8
        return None
    found.argtypes = (ctypes.POINTER(Config), *[ctypes.c_void_p] * 3)
    return found
