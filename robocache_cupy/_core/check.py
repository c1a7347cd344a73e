"""Checks of metadata and options. They read no data, so they cost the GPU nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from .array import Meta


class NotDense(Exception):
    """An array must be made row-major before the op can take it; the decorator does so."""

    def __init__(self, array: Meta) -> None:
        self.position = array.position


def sizes(spec: str, **arrays: Meta | None) -> dict[str, int]:
    """Match every array against its axes and return the size of each.

    A spec names the axes of each array; ``*`` stands for any number of further axes. An array
    that is None is passed over.

    >>> sizes("n, n d", times=Meta((5,), "float64", (1,)), values=Meta((5, 3), "float32", (3, 1)))
    {'n': 5, 'd': 3}
    >>> sizes("n, n d", times=Meta((5,), "float64", (1,)), values=Meta((4, 3), "float32", (3, 1)))
    Traceback (most recent call last):
    ValueError: values has shape (4, 3), expected (n, d) with n = 5
    """
    size: dict[str, int] = {}
    for (name, x), part in zip(arrays.items(), spec.split(","), strict=True):
        if x is None:
            continue
        axes = part.split()
        open_ended = axes[-1:] == ["*"]
        named = axes[:-1] if open_ended else axes
        known = [f"{axis} = {size[axis]}" for axis in named if axis in size]
        fits = (len(x.shape) >= len(named) if open_ended else len(x.shape) == len(named)) and all(
            size.setdefault(axis, n) == n for axis, n in zip(named, x.shape, strict=False)
        )
        if not fits:
            expected = " with ".join(filter(None, [f"({', '.join(axes)})", ", ".join(known)]))
            raise ValueError(f"{name} has shape {x.shape}, expected {expected}")
    return size


def one_of(name: str, value: Any, allowed: Sequence[Any]) -> None:
    """Raise unless an option has one of the values it may have."""
    if value not in allowed:
        raise ValueError(f"{name} is {value!r}, expected one of {', '.join(map(repr, allowed))}")


def dtype_of(name: str, x: Meta | None, allowed: Sequence[str]) -> None:
    """Raise unless an array has one of the dtypes it may have."""
    if x is not None and x.dtype not in allowed:
        raise TypeError(f"{name} has dtype {x.dtype}, expected one of {', '.join(allowed)}")


def inner(x: Meta, axes: int) -> int:
    """The number of elements in the axes after the first `axes`, which must lie together.

    Raises NotDense where they do not, and the decorator comes back with a copy.
    """
    if 0 in x.shape:
        return math.prod(x.shape[axes:])
    expected = 1
    for size, stride in zip(reversed(x.shape[axes:]), reversed(x.strides[axes:]), strict=True):
        if size != 1 and stride != expected:
            raise NotDense(x)
        expected *= size
    return expected
