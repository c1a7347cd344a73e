"""``robocache voxelize``: a point cloud, or the depth cameras of a log, as a grid of voxels."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..align.chunks import device_of
from ..align.error import CommandError
from ..align.figure import require_matplotlib
from ..align.output import FIGURES, check_npz, replacing
from ..align.progress import Bar, Stopwatch
from ..align.table import console
from ..sparse import voxelize_sparse
from ..voxel import Grid, voxelize_point_cloud
from . import figure
from .grid import Size, check_bounds, grid_around, grid_in, voxel_of
from .source import Choice, Part, Source, open_source
from .table import grid_table, parts_table

__all__ = ["Choice", "CommandError", "Options", "voxelize"]


@dataclass(frozen=True)
class Options:
    """What `voxelize` is asked for."""

    path: Path
    output: Path
    voxel: str = "0.05"  #: meters, one number or three
    bounds: Sequence[float] | None = None  #: two corners; by default those of the points
    choice: Choice = field(default_factory=Choice)
    plot: Path | None = None
    backend: str = "auto"


class Voxels(NamedTuple):
    """Points on a lattice."""

    grid: Grid
    counts: NDArray[np.int32]  #: (X, Y, Z)
    coords: NDArray[np.int32]  #: (M, 3)
    centroids: NDArray[np.floating]  #: (M, 3)
    inverse: NDArray[np.int32]  #: (N,)


def voxelize(options: Options) -> None:
    """Put the points on a lattice, write the voxels, and print tables of both.

    The .npz has ``counts`` int32 [X, Y, Z]; for the M voxels with any points, in the order of
    ``np.argwhere(counts)``, ``coords`` int32 [M, 3] and the means of their points ``centroids``
    [M, 3]; ``voxel_size`` and ``origin``, the corner of voxel (0, 0, 0), float64 [3]; and
    ``source``, the name of the file. It appears when it is complete.

    Raises
    ------
    LogError, CommandError
        With the one line to show.
    """
    size = _checked(options)
    out = console()
    device = device_of(options.backend)
    reading, starting, working = Stopwatch(), Stopwatch(), Stopwatch()
    name = options.path.name
    with replacing(options.output, "-o") as file, Bar() as bar:  # lest the work be in vain
        with reading, bar.meanwhile(f"reading {name}"):
            source = open_source(options.path, options.choice)
        with starting, bar.meanwhile("compiling, once on this machine"):
            _warm_up(source, size, device.backend)
        with working, bar.meanwhile("voxelizing"):
            parts = source.parts(device.backend)
            grid = _grid(parts, size, options)
            made = _voxels(parts, grid, device.backend)
        _check_any(made, parts, options)
        with bar.meanwhile(f"writing {options.output.name}"):
            _write(file, made, name)
    if options.plot is not None:
        with replacing(options.plot, "--plot") as file:
            figure.draw(file, options.plot.suffix[1:], name, made.coords, grid, source.frames)
    out.print(f"{source.path} ({source.form})", soft_wrap=True)
    out.print(parts_table(source, parts, made.inverse))
    out.print(grid_table(grid, made.counts, len(made.coords)))
    for line in _summary(source, options):
        out.print(line)
    out.print(
        f"read in {reading.seconds:.2f} s, voxelized in {working.seconds:.2f} s by {device.name}, "
        f"after {starting.seconds:.2f} s of loading and compiling"
    )
    for path in (options.output, options.plot):
        if path is not None:
            out.print(f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)")


def _checked(options: Options) -> Size:
    size = voxel_of(options.voxel)
    check_bounds(options.bounds)
    most = options.choice.depth_max
    if most is not None and not most > 0:
        raise CommandError(f"--depth-max must be positive, got {most:g}")
    at = options.choice.at
    if at is not None and not math.isfinite(at):
        raise CommandError(f"--at must be finite, got {at:g}")
    if at is not None and options.choice.every:
        raise CommandError("--at is one moment and --all is every frame: give one")
    check_npz(options.output)
    if options.plot is not None:
        if options.plot.suffix not in FIGURES:
            raise CommandError(f"--plot {options.plot}: expected a name in {', '.join(FIGURES)}")
        require_matplotlib()
    return size


def _warm_up(source: Source, size: Size, backend: str) -> None:
    """Load or compile what the others run, with a pixel of each camera and a point in a voxel."""
    little = _together(source.little().parts(backend))
    _voxels([Part("", np.zeros_like(little[:1]))], Grid((1, 1, 1), size, (0.0, 0.0, 0.0)), backend)


def _grid(parts: Sequence[Part], size: Size, options: Options) -> Grid:
    if options.bounds is not None:
        return grid_in(options.bounds, size)
    return grid_around(_together(parts), size, str(options.path))


def _together(parts: Sequence[Part]) -> NDArray[Any]:
    points = [part.points for part in parts]
    return points[0] if len(points) == 1 else np.concatenate(points)


def _voxels(parts: Sequence[Part], grid: Grid, backend: str) -> Voxels:
    points = _together(parts)
    counts = voxelize_point_cloud(points, *grid, reduce="count", backend=backend)
    rows = voxelize_sparse(points, *grid, reduce="mean", backend=backend)
    return Voxels(grid, counts, rows.coords[:, 1:], rows.features, rows.inverse)


def _check_any(made: Voxels, parts: Sequence[Part], options: Options) -> None:
    if len(made.coords):
        return
    points = _together(parts)
    finite = points[np.isfinite(points).all(axis=1)]
    where = ""
    if len(finite):
        low, high = finite.min(axis=0), finite.max(axis=0)
        where = ", which are " + ", ".join(
            f"{axis} {a:.3f} to {b:.3f}" for axis, a, b in zip("xyz", low, high, strict=True)
        )
    raise CommandError(f"--bounds hold none of the {len(finite):,} points of {options.path}{where}")


def _write(file: BinaryIO, made: Voxels, name: str) -> None:
    """As `numpy.savez_compressed`, but for the date: the same voxels are the same bytes."""
    arrays = {
        "counts": made.counts,
        "coords": made.coords,
        "centroids": made.centroids,
        "voxel_size": np.array(made.grid.voxel_size),
        "origin": np.array(made.grid.origin),
        "source": np.array(name),
    }
    with zipfile.ZipFile(file, "w") as archive:
        for key, array in arrays.items():
            entry = zipfile.ZipInfo(f"{key}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)


def _summary(source: Source, options: Options) -> Iterator[str]:
    if not source.frames:
        return
    if not options.choice.every and len(source.frames) > 1:
        taken = [float(frames.seconds[0]) for frames in source.frames]
        yield f"the frames were taken within {1e3 * (max(taken) - min(taken)):.1f} ms"
    if source.frames[0].camera.cam_to_world is None:
        yield f"no cam_to_world, so in the frame of {source.frames[0].camera.name}"
