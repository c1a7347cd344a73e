"""The picture of a grid: its occupied voxels as cubes, and the cameras that saw them."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..viz import add_voxels, beyond, fit_to_page, merged, set_room
from ..voxel import Grid
from .grid import edges
from .source import Frames

_MOST_POSES, _FEW_POSES = 1000, 3  # of a camera
_COLORS = ("#d62728", "#ff7f0e", "#9467bd", "#8c564b")


def draw(
    file: BinaryIO,
    form: str,
    title: str,
    coords: NDArray[np.int32],
    grid: Grid,
    frames: Sequence[Frames] = (),
) -> None:
    """Write the figure."""
    figures = importlib.import_module("matplotlib.figure")
    agg = importlib.import_module("matplotlib.backends.backend_agg")
    importlib.import_module("mpl_toolkits.mplot3d")
    figure = figures.Figure(figsize=(10, 7.6), dpi=130)
    agg.FigureCanvasAgg(figure)
    axis = figure.add_axes((0.0, 0.0, 1.0, 1.0), projection="3d", computed_zorder=False)
    cameras = [_Camera(f, c) for f, c in zip(frames, itertools.cycle(_COLORS)) if len(_poses(f))]
    shown, size, _ = merged(coords, np.array(grid.voxel_size), np.zeros(len(coords)))
    low, high = _limits(shown, size, grid.origin, cameras)
    set_room(axis, low, high, azim=_azimuth(shown, size, grid.origin, cameras))
    fit_to_page(figure, axis, low, high)
    faces = add_voxels(axis, shown, size, grid.origin)
    for camera in cameras:
        _add_camera(axis, camera, 0.09 * float((high - low).max()), float(low[2]))
    bar = figure.colorbar(
        faces, cax=figure.add_axes((0.91, 0.22, 0.016, 0.5)), extend=beyond(faces)
    )
    bar.set_label("z (m)", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    if cameras:
        figure.legend(loc="upper right", bbox_to_anchor=(0.99, 0.98), fontsize=8.5, frameon=False)
    figure.suptitle(title, x=0.03, y=0.97, ha="left", fontsize=12, fontweight="bold")
    figure.text(0.03, 0.925, _said(coords, shown, size, grid, frames), fontsize=9.5, color="0.3")
    figure.savefig(file, format=form)


class _Camera(NamedTuple):
    frames: Frames
    color: str

    @property
    def positions(self) -> NDArray[np.float64]:
        return _poses(self.frames)[:, :3, 3]


def _poses(frames: Frames) -> NDArray[np.float64]:
    """Those that can be drawn, and no more than fit a picture."""
    if frames.poses is None:
        return np.empty((0, 4, 4))
    poses = frames.poses.reshape(-1, 4, 4)
    poses = poses[np.isfinite(poses).all(axis=(1, 2))]
    return poses[:: -(-len(poses) // _MOST_POSES) or 1]


def _limits(
    cells: NDArray[np.int64],
    size: NDArray[np.float64],
    origin: ArrayLike,
    cameras: Sequence[_Camera],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    ends = np.stack([origin + cells.min(axis=0) * size, origin + (cells.max(axis=0) + 1) * size])
    held = np.concatenate([ends, *(camera.positions for camera in cameras)])
    return held.min(axis=0), held.max(axis=0)


def _azimuth(
    cells: NDArray[np.int64],
    size: NDArray[np.float64],
    origin: ArrayLike,
    cameras: Sequence[_Camera],
) -> float:
    """From the side of the cameras, a little beside them: they saw the faces on that side."""
    if not cameras:
        return -60.0
    middle = origin + (cells.mean(axis=0) + 0.5) * size
    x, y, _ = np.mean([camera.positions.mean(axis=0) for camera in cameras], axis=0) - middle
    return float(np.degrees(np.arctan2(y, x))) - 35.0


def _add_camera(axis: Any, camera: _Camera, length: float, floor: float) -> None:
    """Its way, and where there are few poses the pyramid that the image looks out of."""
    depth, k = camera.frames.depth, camera.frames.camera.intrinsics
    # The image goes from half a pixel before its first one to half a pixel behind its last one.
    ends = np.array(depth.shape[:0:-1]) * [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
    ends = ends - 0.5 + camera.frames.camera.pixel_offset
    rays = np.ones((5, 3))
    rays[:, :2] = (ends - k[:2, 2]) / [k[0, 0], k[1, 1]]
    if camera.frames.camera.convention == "opengl":
        rays *= (1, -1, -1)
    rays *= length / np.linalg.norm(rays, axis=1).max()
    poses, name = _poses(camera.frames), camera.frames.camera.name
    few = len(poses) <= _FEW_POSES
    style = {"color": camera.color, "linewidth": 1.3, "zorder": 3}
    axis.plot(*poses[:, :3, 3].T, **style, marker="o", markersize=4 if few else 2, label=name)
    if not few:
        return
    for pose in poses:
        position, rim = pose[:3, 3], rays @ pose[:3, :3].T + pose[:3, 3]
        axis.plot(*rim.T, **style)
        for corner in rim[:4]:
            axis.plot(*np.stack([position, corner]).T, **style)
        below = np.stack([position, [*position[:2], floor]])
        axis.plot(*below.T, **(style | {"linewidth": 0.8, "linestyle": ":"}))


def _said(
    coords: NDArray[np.int32],
    shown: NDArray[np.int64],
    size: NDArray[np.float64],
    grid: Grid,
    frames: Sequence[Frames],
) -> str:
    x, y, z = grid.grid_size
    said = f"{len(coords):,} occupied voxels of {edges(grid.voxel_size)} m in {x} x {y} x {z}"
    if len(shown) < len(coords):
        said += f", drawn as {len(shown):,} blocks of {edges(tuple(size.tolist()))} m"
    if frames and frames[0].asked is not None:
        said += f", {frames[0].asked:.2f} s after the first frame"
    elif frames:
        said += f", {sum(len(each.depth) for each in frames):,} frames"
    return said
