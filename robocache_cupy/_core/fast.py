"""Undocumented calls of CuPy and PyTorch, each with its documented twin.

They save microseconds on every call (measured: a raw stream pointer 0.05 against 2.95 us, a packed
launch 3.0 against 4.6 us). Whether a library still has them is asked once; nothing else in the
package touches a private name.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def make_cupy_importable() -> None:
    """Give CuPy a kernel cache it can write: importing it fails when ~/.cupy cannot be made."""
    if "cupy" in sys.modules or "CUPY_CACHE_DIR" in os.environ:
        return
    default = Path.home() / ".cupy" / "kernel_cache"
    try:
        default.mkdir(parents=True, exist_ok=True)
        writable = os.access(default, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        private = Path(tempfile.gettempdir()) / f"cupy-kernel-cache-{os.getuid()}"
        os.environ["CUPY_CACHE_DIR"] = str(private)


def cupy_stream() -> Callable[[int], int]:
    """The pointer of CuPy's current stream on a device."""
    from cupy import cuda

    current = cuda.get_current_stream

    def stream(device: int) -> int:
        pointer: int = current(device).ptr
        return pointer

    return stream


def torch_stream(torch: Any) -> Callable[[int], int]:
    """The pointer of torch's current stream on a device."""
    raw: Callable[[int], int] | None = getattr(torch._C, "_cuda_getCurrentRawStream", None)
    return raw or (lambda device: torch.cuda.current_stream(device).cuda_stream)


def torch_allocator(
    torch: Any, shape: tuple[int, ...], dtype: str, device: int
) -> Callable[[], Any]:
    """`torch.empty` with its arguments bound."""
    of_dtype = getattr(torch, dtype)
    if device >= 0:
        with contextlib.suppress(ImportError, AttributeError):
            from torch._C._dynamo.guards import _empty_strided_cuda

            strides, step = [], 1
            for size in reversed(shape):
                strides.append(step)
                step *= max(size, 1)
            dense = tuple(reversed(strides))
            where = torch.device("cuda", device)

            def allocate() -> Any:
                return _empty_strided_cuda(shape, dense, of_dtype)

            def allocate_elsewhere() -> Any:
                with torch.cuda.device(where):
                    return _empty_strided_cuda(shape, dense, of_dtype)

            current = torch.cuda.current_device
            return lambda: allocate() if current() == device else allocate_elsewhere()
    where = torch.device("cuda", device) if device >= 0 else torch.device("cpu")
    empty = torch.empty
    return lambda: empty(shape, dtype=of_dtype, device=where)


def cupy_launch() -> Callable[..., None] | None:
    """The driver's launch with packed parameters, where CuPy exposes it."""
    from cupy.cuda import driver

    launch: Callable[..., None] | None = getattr(driver, "launchKernel", None)
    return launch


class ExternalStream:
    """A stream pointer in the form that `cupy.cuda.Stream.from_external` takes."""

    def __init__(self, pointer: int) -> None:
        self._pointer = pointer

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self._pointer
