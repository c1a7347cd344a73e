"""Which columns of a stream are rotations."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .stream import Stream

#: What `kind` says of rotations, in the terms of `robocache_cupy.resample_trajectories`.
KINDS = {
    "quat_xyzw": "quat_xyzw",
    "quat_wxyz": "quat_wxyz",
    "pose_xyz_quat_xyzw": "pos_quat_xyzw",
    "pose_xyz_quat_wxyz": "pos_quat_wxyz",
}
_WIDTHS = {"quat": 4, "pos": 7}  # of the last axis

_QUATERNION = re.compile(r"quat|pose|orient", re.IGNORECASE)
_MATRIX = re.compile(r"rot|orient", re.IGNORECASE)
_CLOSE = 1e-3
_BLOCK = 1 << 20  # bytes to look at in one go


def of_kind(kind: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> str | None:
    """The rotation of a stream with samples of this kind, if they can be that."""
    rotation = KINDS.get(kind)
    if rotation is None or dtype.kind != "f":
        return None
    return rotation if shape[-1:] == (_WIDTHS[rotation.partition("_")[0]],) else None


def recognised(stream: Stream) -> Stream:
    """The stream, with its rotation where its names and all of its samples say that it has one.

    These are quaternions of unit length and rotation matrices: columns called ``qx, qy, qz, qw`` or
    the like; without names, the only four columns, or the last or first four of seven, of a stream
    with ``quat``, ``pose`` or ``orient`` in its name; 3 x 3 matrices with ``rot`` or ``orient`` in
    their name.
    """
    if stream.rotation is not None or stream.kind != "vector" or stream.dtype.kind != "f":
        return stream
    shape = stream.shape[1:]
    if shape == (3, 3) and _MATRIX.search(stream.name) and _all(stream, _are_matrices):
        return replace(stream, rotation="matrix")
    found: dict[str, str] = {}
    for lo, kind in _candidates(stream):
        if _all(stream, functools.partial(_are_unit_from, lo)):
            found[f"{lo}:{lo + 4}"] = kind
            if not stream.fields:
                break
    if not found:
        return stream
    (kind, *_) = found.values()
    return replace(stream, rotation=kind if shape == (4,) else found)


def _candidates(stream: Stream) -> Iterator[tuple[int, str]]:
    """Where a quaternion may begin, and which."""
    shape, fields = stream.shape[1:], stream.fields or ()
    if len(shape) != 1:
        return
    for lo in range(len(fields) - 3):
        if named := _named(fields[lo : lo + 4]):
            yield lo, named
    if shape[0] in (4, 7) and not fields and _QUATERNION.search(stream.name):
        # The way between two rotations is the same in either order of the components.
        kind = "quat_wxyz" if "wxyz" in stream.name.lower() else "quat_xyzw"
        for lo in dict.fromkeys((shape[0] - 4, 0)):
            yield lo, kind


def _are_unit_from(lo: int, values: NDArray[Any]) -> bool:
    return are_unit(values[:, lo : lo + 4])


def _named(fields: tuple[str, ...]) -> str | None:
    """The order of a quaternion whose columns have these names."""
    names = [field.lower() for field in fields]
    stems, order = {name[:-1] for name in names}, "".join(name[-1:] for name in names)
    if len(stems) > 1 or order not in ("xyzw", "wxyz"):
        return None
    return f"quat_{order}"


def _all(stream: Stream, holds: Callable[[NDArray[Any]], bool]) -> bool:
    """Whether something holds for all samples, of which there must be some."""
    rows = max(1, _BLOCK // max(1, math.prod(stream.shape[1:]) * stream.dtype.itemsize))
    starts = range(0, len(stream), rows)
    return bool(starts) and all(holds(stream.read(i, i + rows)) for i in starts)


def are_unit(quaternions: NDArray[Any], close: float = _CLOSE) -> bool:
    """Whether each row has length 1."""
    lengths = np.linalg.norm(quaternions.astype(np.float64), axis=1)
    return bool(np.all(np.abs(lengths - 1) <= close))


def _are_matrices(matrices: NDArray[Any]) -> bool:
    """Whether each is orthonormal and no reflection."""
    matrices = matrices.astype(np.float64)
    squares = matrices @ matrices.swapaxes(1, 2)
    return bool(
        np.all(np.abs(squares - np.eye(3)) <= _CLOSE) and np.all(np.linalg.det(matrices) > 0)
    )
