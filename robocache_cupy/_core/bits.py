"""A Python number as the bits of an element, in an int64: how constants travel to a kernel."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

NAN = float("nan")


def element_bits(name: str, value: Any, dtype: str) -> int:
    """The bits of `value` in `dtype`, rounded to nearest even.

    >>> hex(element_bits("fill_value", 1.0, "bfloat16")), element_bits("fill_value", -1, "int8")
    ('0x3f80', -1)
    >>> element_bits("fill_value", 300, "uint8")
    Traceback (most recent call last):
    ValueError: fill_value is 300, which uint8 data cannot hold
    """
    if not isinstance(value, (bool, int, float, np.number, np.bool_)):
        raise TypeError(f"{name} is {value!r}, expected a number")
    if dtype.startswith(("float", "bfloat")):
        return _float_bits(float(value), dtype)
    low, high = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    if not low <= value <= high or value != int(value):
        raise ValueError(f"{name} is {value}, which {dtype} data cannot hold")
    bits = int(value)
    return bits - 2**64 if bits >= 2**63 else bits


def _float_bits(value: float, dtype: str) -> int:
    if dtype == "float64":
        (bits,) = struct.unpack("<q", struct.pack("<d", value))
        return int(bits)
    with np.errstate(over="ignore"):  # too large is infinity
        if dtype == "float16":
            return int(np.float16(value).view(np.uint16))
        single = np.float32(value)
    word = int(single.view(np.uint32))
    if dtype == "float32":
        return word
    if single != single:
        return 0x7FFF
    if float(single) != value and np.isfinite(single):
        # Round to odd first: the second rounding then gives what a single one would.
        if abs(float(single)) > abs(value):
            word -= 1
        word |= 1
    return (word + 0x7FFF + ((word >> 16) & 1)) >> 16
