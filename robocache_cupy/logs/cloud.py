"""Readers of point clouds: PCD, PLY, KITTI and nuScenes .bin, NumPy's .npy and .npz, and text.

    cloud = read_cloud("scan.pcd")
    cloud.points, cloud.columns["intensity"]

PCD, PLY and NumPy files are known by their first bytes; .bin and text by the end of their name.
To support another format, write its reader beside `pcd` and `ply` and a line into `_read`.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .fields import (
    AXES,
    LONGEST,
    PADDING,
    Fields,
    check_unnamed,
    fitting,
    numbered,
    of_table,
    some,
    text_rows,
)
from .stream import LogError

_HEAD = 1 << 16  # bytes to know a format by
_SUFFIXES = {
    ".pcd": "PCD", ".ply": "PLY", ".npy": "NumPy file", ".npz": "NumPy archive",
    ".bin": ".bin", ".csv": "text", ".txt": "text", ".xyz": "text",
}  # fmt: skip
_LOGS = (b"\x89HDF\r\n\x1a\n", b"#ROSBAG V2.0\n", b"SQLite format 3\0", b"\x89MCAP0\r\n")
_KITTI = (*AXES, "intensity")
_NUSCENES = (*_KITTI, "ring")
_FARTHEST = 1e5  # meters: no lidar sees that far
_BRIGHTEST = 65535.0
_MOST_RINGS = 255
_TEXT = bytes({*range(32, 127), *b"\t\r\n"})
_COMMENTS = ("#", "%", "//")
_BOM = b"\xef\xbb\xbf"
_UNIT = re.compile(r"[\[(].*")
_NEAR = 1e-4  # meters


class Cloud(NamedTuple):
    """A point cloud.

    Parameters
    ----------
    points : float array of shape (N, 3)
        x, y and z in the unit and frame of the file, with the NaN and Inf that it has. float32,
        or float64 where that would change a number of the file, or one in text by over 1e-4.
    columns : dict of str to array of shape (N, *F)
        What else the file has of each point, in the file's dtypes: intensity, ring, red, ...
    organized : (height, width) or None
        Where the points are the pixels of an image, row by row.
    source : str
        What was read: "PCD (binary)", "KITTI .bin", ...
    """

    points: NDArray[Any]
    columns: Mapping[str, NDArray[Any]]
    organized: tuple[int, int] | None
    source: str


def read_cloud(path: str | os.PathLike[str], *, columns: Sequence[str] | None = None) -> Cloud:
    """Read a point cloud.

    Parameters
    ----------
    path : path
        A PCD, a PLY, a .npy or .npz of rows ``[N, >=3]`` or with fields x, y and z, a .bin of
        KITTI (x y z intensity) or nuScenes (x y z intensity ring), or a .csv, .txt or .xyz. A .bin
        is that of nuScenes if it is called .pcd.bin and its size and numbers agree, or if only
        five columns fit them. In text, a line of names above the numbers says what the columns
        are; without one the first three are x, y and z. An .npz has one array, or ``points`` and
        others as long, or x, y and z.
    columns : sequence of str, optional
        Names of the columns of a file that does not name them, or of text: ``("x", "y", "z",
        "intensity", "ring", "time")``. A column called "_" is left out.

    Returns
    -------
    Cloud
        All of the file is in memory.

    Raises
    ------
    LogError
        If there is nothing to read, the file is damaged or truncated, it has no x, y or z, or it
        is none of these formats.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "scan.xyz")
    >>> _ = path.write_text("x y z intensity\\n0 1 2 0.5\\n3 4 5 0.25\\n")
    >>> cloud = read_cloud(path)
    >>> cloud.points.shape, cloud.source, cloud.columns["intensity"]
    ((2, 3), 'text', array([0.5 , 0.25]))
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise LogError(f"{path} is a directory: name the file of one cloud")
        if path.exists() and not path.is_file():
            raise LogError(f"{path} is not a regular file: copy the cloud to one")
        with path.open("rb") as file:
            head = file.read(_HEAD)
            file.seek(0)
            fields = _read(path, file, head, _checked(path, columns))
    except OSError as error:
        raise LogError(f"{path} cannot be opened: {error.strerror or error}") from error
    return _cloud(path, fields)


def _checked(path: Path, columns: Sequence[str] | None) -> tuple[str, ...] | None:
    if columns is None:
        return None
    names = [name for name in columns if name != PADDING]
    if not set(AXES) <= set(names) or len(set(names)) < len(names):
        raise LogError(
            f"{path}: columns are {', '.join(columns)}, expected names with x, y and z among them, "
            "each once"
        )
    return tuple(columns)


def _read(path: Path, file: BinaryIO, head: bytes, columns: tuple[str, ...] | None) -> Fields:
    from . import npy, pcd, ply

    if not head:
        raise LogError(f"{path} is empty: record or copy it again")
    if head.startswith(_LOGS):
        raise LogError(f"{path} is a log and no cloud: name the file of one cloud")
    if head.startswith(np.lib.format.MAGIC_PREFIX):
        return npy.read(path, file, columns)
    if head.startswith(b"PK"):
        return npy.read_archive(path, file, columns)
    for is_one, read in ((ply.is_ply, ply.read), (pcd.is_pcd, pcd.read)):
        if is_one(head):
            check_unnamed(path, columns)
            return read(path, file)
    form = _SUFFIXES.get(path.suffix.lower())
    if form == ".bin":
        return _bin(path, file, head, columns)
    if form == "text":
        return _text(path, file, head, columns)
    if form is not None:
        raise LogError(f"{path} does not begin as a {form} does: it is damaged or has another name")
    raise LogError(
        f"{path} is no PCD, PLY or NumPy file, and its name does not end in .bin, .csv, .txt or "
        ".xyz: convert or rename it"
    )


# --- What every format comes down to


def _cloud(path: Path, fields: Fields) -> Cloud:
    exact = {name: name for name in fields.values}
    names = {name.lower(): name for name in fields.values} | exact
    missing = [axis for axis in AXES if axis not in names]
    if missing:
        raise LogError(
            f"{path} has no {', '.join(missing)}, only {some(list(exact))}: "
            "write a cloud with x, y and z"
        )
    axes = [fields.values[names[axis]] for axis in AXES]
    for name, axis in zip(AXES, axes, strict=True):
        if axis.ndim != 1 or axis.dtype.kind not in "iuf" or axis.dtype.itemsize > 8:
            raise LogError(
                f"{path}: {name} is {axis.dtype} of shape {axis.shape}, expected one number of up "
                "to 64 bits for each point"
            )
    if not len(axes[0]):
        raise LogError(f"{path} has no points: record or copy it again")
    points = np.empty((len(axes[0]), 3), np.result_type(np.float32, *axes))
    for i, axis in enumerate(axes):
        points[:, i] = axis
    return Cloud(
        _narrow(points, _NEAR if fields.source == "text" else 0.0),
        {
            name: np.array(value, value.dtype.newbyteorder("="))
            for name, value in fields.values.items()
            if name not in [names[axis] for axis in AXES]
        },
        fields.organized,
        fields.source,
    )


def _narrow(points: NDArray[Any], near: float) -> NDArray[Any]:
    """As float32, if that changes no number by more than so much."""
    if points.dtype == np.float32:
        return points
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = points.astype(np.float32)
        same = (narrow == points) | np.isnan(points) | (np.abs(narrow - points) <= near)
    return narrow if same.all() else points


# --- .bin


def _bin(path: Path, file: BinaryIO, head: bytes, columns: tuple[str, ...] | None) -> Fields:
    if not head.translate(None, _TEXT):
        raise LogError(f"{path} is text, expected float32 in binary: call it .txt or .csv")
    size = os.fstat(file.fileno()).st_size
    if columns is not None:
        if size % (4 * len(columns)):
            raise LogError(
                f"{path} has {size} bytes, which are no points of {len(columns)} float32: it is "
                "truncated, or has other columns"
            )
        found = np.fromfile(file, "<f4").reshape(-1, len(columns))
        return of_table(found, columns, f".bin of {len(columns)} columns")
    nuscenes_first = path.name.lower().endswith(".pcd.bin")
    layouts = [("nuScenes .pcd.bin", _NUSCENES), ("KITTI .bin", _KITTI)]
    possible = [known for known in layouts if size % (4 * len(known[1])) == 0]
    if not possible:
        raise LogError(
            f"{path} has {size} bytes, which are neither points of 4 float32 (KITTI) nor of 5 "
            "(nuScenes): it is truncated, or name its columns with columns="
        )
    flat = np.fromfile(file, "<f4")
    for source, names in possible if nuscenes_first else possible[::-1]:
        if _is_lidar(flat.reshape(-1, len(names))):
            return of_table(flat.reshape(-1, len(names)), names, source)
    raise LogError(
        f"{path} does not have the numbers of a lidar, neither as x y z intensity (KITTI) nor with "
        "ring behind (nuScenes): name its columns with columns="
    )


def _is_lidar(table: NDArray[Any]) -> bool:
    """Whether columns have the values of x, y, z, intensity and, with a fifth, ring."""
    xyz, intensity, ring = table[:, :3], table[:, 3], table[:, 4:]
    with np.errstate(invalid="ignore"):
        return bool(
            not (np.abs(xyz) > _FARTHEST).any()
            and not ((intensity < 0) | (intensity > _BRIGHTEST)).any()
            and ((ring >= 0) & (ring <= _MOST_RINGS) & (ring == np.floor(ring))).all()
        )


# --- Text


def _text(path: Path, file: BinaryIO, head: bytes, columns: tuple[str, ...] | None) -> Fields:
    if b"\0" in head:
        raise LogError(f"{path} is binary, expected x y z in text: convert or rename it")
    if head.startswith(_BOM):
        file.seek(len(_BOM))
    names, remark, cells = list[str](), list[str](), list[str]()
    for above in itertools.count():
        at = file.tell()
        raw = file.readline(LONGEST)
        if not raw:
            raise LogError(f"{path} has no points: record or copy it again")
        line = raw.decode("latin-1").strip()
        if line.startswith(_COMMENTS):
            line = line.lstrip("#%/ ")
            remark = line.split(_separator(line))
        elif line:
            separator = _separator(line)
            cells = line.split(separator)
            if _are_numbers(cells):
                break
            if names:
                raise LogError(f"{path}: line {above + 1} is {line[:60]!a}, expected numbers")
            names = cells
    if names and len(names) != len(cells):
        raise LogError(
            f"{path} names {len(names)} columns, but line {above + 1} has {len(cells)}: write it "
            "again"
        )
    if columns is None and len(cells) < len(AXES):
        raise LogError(f"{path} has {len(cells)} columns, expected x, y and z")
    chosen = (
        fitting(path, columns, len(cells))
        or _plain(names)
        or _axes_of(_plain(remark), len(cells))
        or numbered(len(cells))
    )
    if twice := [name for name in chosen if name != PADDING and chosen.count(name) > 1]:
        raise LogError(f"{path} has two columns {twice[0]!a}: rename one or give columns=")
    file.seek(at)
    table = text_rows(
        path,
        file,
        np.dtype([(str(i), np.float64) for i in range(len(cells))]),
        above=above,
        separator=separator,
        comments=tuple(mark.encode() for mark in _COMMENTS),
    )
    named = {name: table[str(i)] for i, name in enumerate(chosen) if name != PADDING}
    return Fields(named, None, "text")


def _plain(names: Sequence[str]) -> tuple[str, ...]:
    """Names without their units and quotes."""
    return tuple(_UNIT.sub("", name).strip(" \"'") for name in names)


def _axes_of(remark: tuple[str, ...], count: int) -> tuple[str, ...]:
    """The words of a comment, if they name the columns."""
    named = len(remark) == count and {*AXES} <= {name.lower() for name in remark}
    return remark if named else ()


def _separator(line: str) -> str | None:
    return next((mark for mark in ",;" if mark in line), None)


def _are_numbers(cells: Sequence[str]) -> bool:
    try:
        return bool([float(cell) for cell in cells])
    except ValueError:
        return False
