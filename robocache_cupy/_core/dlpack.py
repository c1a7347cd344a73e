"""What a DLPack capsule holds, where NumPy and CuPy do not take it in: bfloat16, or whose dtype an
error must name. https://dmlc.github.io/dlpack/latest/c_api.html
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

_CODES = (
    "int", "uint", "float", "opaque", "bfloat", "complex", "bool", "float8_e3m4", "float8_e4m3",
    "float8_e4m3b11fnuz", "float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz",
    "float8_e8m0fnu", "float6_e2m3fn", "float6_e3m2fn", "float4_e2m1fn",
)  # fmt: skip
_READ_ONLY = 1


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _Tensor),
    )


_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype, _pointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.restype, _is_valid.argtypes = ctypes.c_int, (ctypes.py_object, ctypes.c_char_p)


def export(x: Any, stream: int | None) -> Any:
    """A capsule from a producer of either generation of the protocol."""
    try:
        return x.__dlpack__(stream=stream, max_version=(1, 0))
    except TypeError:  # of before version 1
        return x.__dlpack__(stream=stream)


class Capsule:
    """The memory of a capsule that is left unused, so that it frees the memory when it goes.

    NumPy and CuPy take it in as 16-bit integers, through the protocol that each has for pointers.
    """

    def __init__(self, capsule: Any) -> None:
        self._capsule = capsule
        if _is_valid(capsule, b"dltensor_versioned"):
            whole = _Versioned.from_address(_pointer(capsule, b"dltensor_versioned"))
            if whole.major > 1:
                raise BufferError(f"it is of DLPack {whole.major}.{whole.minor}, expected 1")
            self._tensor, self._read_only = whole.tensor, bool(whole.flags & _READ_ONLY)
        else:
            self._tensor = _Tensor.from_address(_pointer(capsule, b"dltensor"))
            self._read_only = True  # it may be: NumPy does the same

    @property
    def dtype(self) -> str:
        x = self._tensor
        name = _CODES[x.code] if x.code < len(_CODES) else f"DLPack type {x.code}"
        name += "" if "_" in name or name == "bool" else str(x.bits)
        return name if x.lanes == 1 else f"{name} x {x.lanes}"

    def _interface(self, version: int) -> dict[str, Any]:
        x = self._tensor
        shape = tuple(x.shape[: x.ndim])
        # An array of no elements may have no address, and NumPy wants one that is not 0.
        address = (x.data or 0) + x.byte_offset if math.prod(shape) else ctypes.addressof(x)
        strides = tuple(2 * n for n in x.strides[: x.ndim]) if x.strides else None
        return {
            "version": version,
            "typestr": "<u2",
            "shape": shape,
            "strides": strides,
            "data": (address, self._read_only),
        }

    @property
    def __array_interface__(self) -> dict[str, Any]:
        return self._interface(3)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        # CuPy needs a pointer of the device, or none.
        made = self._interface(2)
        return made if math.prod(made["shape"]) else {**made, "data": (0, False)}
