"""What became of the points, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..logs.stream import require
from ..voxel import Grid
from .grid import edges
from .source import Frames, Part, Source


def parts_table(source: Source, parts: Sequence[Part], inverse: NDArray[np.int32]) -> Any:
    """How many points each sensor has, and how many of them are in a voxel."""
    cameras = bool(source.frames)
    made = _table()
    rows = [_counts(part, inverse[at : at + len(part.points)]) for part, at in _placed(parts)]
    made.add_column("camera" if cameras else "cloud", overflow="fold")
    if cameras:
        for heading in ("frame", "taken at (s)", "off (ms)"):
            made.add_column(heading, justify="right")
    for heading in ("points", "kept", "no depth" if cameras else "not finite", "outside"):
        made.add_column(heading, justify="right")
    for part, row in zip(parts, rows, strict=True):
        when = _when(part.frames) if part.frames is not None else ()
        made.add_row(part.name, *when, *(f"{number:,}" for number in row))
    if len(rows) > 1:
        totals = (f"{sum(column):,}" for column in zip(*rows, strict=True))
        made.add_row("all", "", "", "", *totals)
    return made


def _placed(parts: Sequence[Part]) -> Sequence[tuple[Part, int]]:
    """Each part and where its points begin among those of all."""
    ends = np.cumsum([len(part.points) for part in parts]).tolist()
    return [(part, end - len(part.points)) for part, end in zip(parts, ends, strict=True)]


def _counts(part: Part, inverse: NDArray[np.int32]) -> tuple[int, int, int, int]:
    kept = int(np.count_nonzero(inverse >= 0))
    invalid = len(inverse) - int(np.count_nonzero(np.isfinite(part.points).all(axis=1)))
    return len(inverse), kept, invalid, len(inverse) - kept - invalid


def _when(frames: Frames) -> tuple[str, str, str]:
    total, seconds = len(frames.camera.times), frames.seconds
    if frames.asked is None:
        return f"all {total}", f"{seconds.min():.3f} to {seconds.max():.3f}", "-"
    at = float(seconds[0])
    return f"{frames.first} of {total}", f"{at:.3f}", f"{1e3 * (at - frames.asked):+.1f}"


def grid_table(grid: Grid, counts: NDArray[np.int32], occupied: int) -> Any:
    """The lattice and how full it is."""
    made = _table(show_header=False)
    made.add_column()
    made.add_column(justify="right")
    made.add_column()
    corner = [
        round(start + n * edge, 9)
        for start, n, edge in zip(grid.origin, grid.grid_size, grid.voxel_size, strict=True)
    ]
    X, Y, Z = grid.grid_size
    made.add_row(
        "grid", f"{X} x {Y} x {Z}", f"{counts.size:,} voxels of {edges(grid.voxel_size)} m"
    )
    made.add_row("origin", _corner(grid.origin), f"m, to {_corner(corner)}")
    made.add_row("occupied", f"{occupied:,}", f"voxels, {occupied / counts.size:.2%} of the grid")
    made.add_row("in a voxel", f"{counts.max():,}", "points at most")
    made.add_row("counts", f"{counts.nbytes:,}", "bytes, int32")
    return made


def _corner(corner: Sequence[float]) -> str:
    return f"({', '.join(f'{x:g}' for x in corner)})"


def _table(**options: Any) -> Any:
    return require("rich.table").Table(
        box=require("rich.box").SIMPLE_HEAD, padding=0, pad_edge=False, **options
    )
