"""NumPy's .npy and .npz: rows of numbers, structured arrays, or an array for each field."""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from .fields import AXES, Fields, check_unnamed, fitting, numbered, of_table, some
from .stream import LogError, one_line

_WIDE = 16  # columns: with more of them than rows, it is the other way round


def read(path: Path, file: BinaryIO, columns: tuple[str, ...] | None) -> Fields:
    """Read a .npy file from its first byte on."""
    size = os.fstat(file.fileno()).st_size
    return _table(path, _array(path, file, size), ".npy", columns)


def _header(
    path: Path, file: IO[bytes], what: str = ""
) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether by columns, and dtype of a .npy."""
    try:
        if np.lib.format.read_magic(file) == (1, 0):
            return np.lib.format.read_array_header_1_0(file)
        return np.lib.format.read_array_header_2_0(file)
    except Exception as error:  # damage shows as anything, from ValueError to TokenError
        raise LogError(
            f"{path}{what} has a damaged header: copy or save it again ({one_line(error)})"
        ) from error


def _array(path: Path, file: IO[bytes], most: float = math.inf, what: str = "") -> NDArray[Any]:
    """The array of a .npy of so many bytes: its header may speak of more."""
    shape, fortran, dtype = _header(path, file, what)
    if dtype.hasobject:
        raise LogError(f"{path}{what} holds Python objects: save numbers")
    expected = math.prod(shape) * dtype.itemsize
    data = file.read(expected) if 0 <= expected <= most else b""
    try:
        return np.ndarray(shape, dtype, data, order="F" if fortran else "C")
    except (TypeError, ValueError, OverflowError) as error:
        raise LogError(
            f"{path}{what} is truncated, or its header wrong: {dtype} of shape {shape} does not "
            "lie in it: copy or save it again"
        ) from error


def read_archive(path: Path, file: BinaryIO, columns: tuple[str, ...] | None) -> Fields:
    """Read a .npz file."""
    try:
        with zipfile.ZipFile(file) as archive:
            return _members(path, archive, columns)
    except LogError:
        raise
    except Exception as error:  # as above
        raise LogError(
            f"{path} cannot be read as .npz, so it is truncated or damaged: copy it again "
            f"({one_line(error)})"
        ) from error


def _members(path: Path, archive: zipfile.ZipFile, columns: tuple[str, ...] | None) -> Fields:
    infos = {
        info.filename.removesuffix(".npy"): info
        for info in archive.infolist()
        if info.filename.endswith(".npy")
    }

    def array(name: str) -> NDArray[Any]:
        with archive.open(infos.pop(name)) as member:  # which takes memory as it unpacks
            return _array(path, member, what=f": {name!a}")

    if set(AXES) <= infos.keys():
        check_unnamed(path, columns)
        found = {axis: array(axis) for axis in AXES}
        if len({value.shape for value in found.values()}) > 1 or found["x"].ndim != 1:
            raise LogError(f"{path}: x, y and z differ in shape: save as many of each")
        organized = None
    else:
        name = next(iter(infos), "") if len(infos) == 1 else "points"
        if name not in infos:
            raise LogError(
                f"{path} has the arrays {some(list(infos))}: expected one, or points, or x, y and z"
            )
        values, organized, _ = _table(path, array(name), ".npz", columns)
        found = dict(values)
    length = len(next(iter(found.values()), ()))
    for name in list(infos):
        with archive.open(infos[name]) as member:
            shape, _, dtype = _header(path, member, f": {name!a}")
        if shape[:1] == (length,) and not dtype.hasobject and name not in found:
            found[name] = array(name)
    return Fields(found, organized, ".npz")


def _table(path: Path, array: NDArray[Any], source: str, columns: tuple[str, ...] | None) -> Fields:
    """The columns of an array with rows of points, or the fields of a structured one."""
    if array.dtype.names:
        check_unnamed(path, columns)
        organized = (array.shape[0], array.shape[1]) if array.ndim == 2 else None
        flat = array.reshape(-1) if organized else array
        if flat.ndim != 1:
            raise LogError(f"{path} has shape {array.shape}, expected (N,) or (H, W): save that")
        return Fields({name: flat[name] for name in array.dtype.names}, organized, source)
    shape = array.shape
    if array.dtype.kind not in "iuf" or array.dtype.itemsize > 8:
        raise LogError(f"{path} holds {array.dtype}, expected integers or floats up to 64 bits")
    if len(shape) == 3:
        raise LogError(
            f"{path} holds {shape[0]} clouds in an array of shape {shape}: save one, of shape "
            "(N, 3), or flatten it"
        )
    if len(shape) != 2 or shape[1] < 3:
        raise LogError(f"{path} has shape {shape}, expected (N, 3) or more columns")
    if columns is None and shape[1] > max(shape[0], _WIDE):
        raise LogError(f"{path} has shape {shape}, expected (N, 3): transpose it")
    return of_table(array, fitting(path, columns, shape[1]) or numbered(shape[1]), source)
