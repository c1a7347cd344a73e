"""The picture of a grid: its occupied voxels as cubes, and the cameras that saw them."""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Sequence
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..voxel import Grid
from .grid import edges
from .source import Frames

_MOST_CUBES = 60_000
_MOST_POSES, _FEW_POSES = 1000, 3  # of a camera
_LIGHT = (0.86, 0.70, 1.0)  # on the faces towards x, y and z
_ELEVATION = 32.0
_ROOM = ((0.03, 0.04), (0.88, 0.9))  # of the page, for the axes and their labels
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
    shown, size = _merged(coords, np.array(grid.voxel_size))
    low, high = _limits(shown, size, grid.origin, cameras)
    _room(axis, low, high, _azimuth(shown, size, grid.origin, cameras))
    _fit(figure, axis, low, high)
    faces = add_voxels(axis, shown, size, grid.origin)
    for camera in cameras:
        _add_camera(axis, camera, 0.09 * float((high - low).max()), float(low[2]))
    bar = figure.colorbar(
        faces, cax=figure.add_axes((0.91, 0.22, 0.016, 0.5)), extend=_beyond(faces)
    )
    bar.set_label("z (m)", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)
    if cameras:
        figure.legend(loc="upper right", bbox_to_anchor=(0.99, 0.98), fontsize=8.5, frameon=False)
    figure.suptitle(title, x=0.03, y=0.97, ha="left", fontsize=12, fontweight="bold")
    figure.text(0.03, 0.925, _said(coords, shown, size, grid, frames), fontsize=9.5, color="0.3")
    figure.savefig(file, format=form)


def add_voxels(
    axis: Any,
    coords: ArrayLike,
    voxel_size: ArrayLike,
    origin: ArrayLike = 0.0,
    *,
    colors: NDArray[np.floating] | None = None,
) -> Any:
    """Draw voxels as cubes on 3D axes that already have their limits and their view.

    Only the faces are drawn that can be seen from there, in parallel projection.

    Parameters
    ----------
    axis : mpl_toolkits.mplot3d.Axes3D
        With ``proj_type="ortho"``, z upwards, and no axis inverted.
    coords : integers [M, 3]
        The voxels: ``np.argwhere(grid)``.
    voxel_size : number or three of them
    origin : number or three of them
        The corner of voxel (0, 0, 0).
    colors : array [M, 3], optional
        Red, green and blue from 0 to 1; by default a color for the height of the centre.

    Returns
    -------
    ScalarMappable
        For a color bar of the heights.
    """
    art3d = importlib.import_module("mpl_toolkits.mplot3d.art3d")
    cm = importlib.import_module("matplotlib.cm")
    cells = np.asarray(coords, np.int64).reshape(-1, 3)
    size, corner = np.broadcast_to(voxel_size, 3), np.broadcast_to(origin, 3)
    heights = corner[2] + (cells[:, 2] + 0.5) * size[2]
    mapped = cm.ScalarMappable(cmap=_heights())
    mapped.set_array(heights)
    mapped.set_clim(*_range(heights))
    if colors is None:
        colors = mapped.to_rgba(heights)[:, :3]
    quads, tints = [], []
    for along, sign, seen in _seen(cells, _viewer(axis)):
        b, c = (1, 0, 0)[along], (2, 2, 1)[along]
        square = np.zeros((4, 3))
        square[:, along] = sign > 0
        square[1:3, b] = square[2:, c] = 1
        quads.append(corner + (cells[seen, None] + square) * size)
        tints.append(colors[seen] * _LIGHT[along])
    faces = np.concatenate(quads)
    tint = np.clip(np.concatenate(tints), 0, 1)
    few = len(faces) < 20_000
    collection = art3d.Poly3DCollection(
        faces, facecolors=tint, edgecolors=tint * 0.8 if few else tint, linewidths=0.25, zorder=2
    )
    axis.add_collection3d(collection, autolim=False)
    return mapped


def _heights() -> Any:
    """Viridis without its darkest colors, on which no shade can be seen."""
    viridis = importlib.import_module("matplotlib").colormaps["viridis"]
    colors = importlib.import_module("matplotlib.colors")
    return colors.ListedColormap(viridis(np.linspace(0.18, 1, 256)))


def _viewer(axis: Any) -> NDArray[np.float64]:
    """On which side of the voxels the viewer is, along each axis."""
    elevation, azimuth = np.radians([axis.elev, axis.azim])
    away = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth)]
    return np.sign([*away, np.sin(elevation)])


def _seen(
    cells: NDArray[np.int64], viewer: NDArray[np.float64]
) -> list[tuple[int, float, NDArray[np.intp]]]:
    """For each axis, the voxels with a free face to the viewer."""
    shifted = cells - cells.min(axis=0) + 1
    shape = tuple(int(n) for n in shifted.max(axis=0) + 2)
    keys = np.ravel_multi_index(tuple(shifted.T), shape)
    found = []
    for along in range(3):
        step = np.zeros(3, np.int64)
        step[along] = 1 if viewer[along] > 0 else -1
        beside = np.ravel_multi_index(tuple((shifted + step).T), shape)
        free = np.flatnonzero(~np.isin(beside, keys))
        found.append((along, float(step[along]), free))
    return found


def _beyond(mapped: Any) -> str:
    """At which ends of the colors there are others beyond."""
    low, high = mapped.get_clim()
    below, above = mapped.get_array().min() < low, mapped.get_array().max() > high
    return {(1, 1): "both", (1, 0): "min", (0, 1): "max"}.get((below, above), "neither")


def _range(values: NDArray[np.floating]) -> tuple[float, float]:
    """Without the few values that would take all the colors."""
    low, high = np.percentile(values, [1, 99])
    return (float(low), float(high)) if low < high else (float(low) - 0.5, float(low) + 0.5)


def _merged(
    coords: NDArray[np.int32], size: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The voxels, or blocks of 2 x 2 x 2 of them, and so on, until they are few enough to draw."""
    cells = coords.astype(np.int64)
    while len(cells) > _MOST_CUBES:
        cells, size = np.unique(cells // 2, axis=0), 2 * size
    return cells, size


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


def _room(axis: Any, low: NDArray[np.float64], high: NDArray[np.float64], azimuth: float) -> None:
    """Axes in meters, with one scale for all three."""
    axis.set_proj_type("ortho")
    axis.view_init(elev=_ELEVATION, azim=azimuth)
    axis.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), zlim=(low[2], high[2]))
    axis.set_box_aspect(high - low)
    axis.set(xlabel="x (m)", ylabel="y (m)", zlabel="z (m)")
    for each, length in zip((axis.xaxis, axis.yaxis, axis.zaxis), high - low, strict=True):
        each.set_pane_color((0.965, 0.965, 0.975, 1.0))
        each._axinfo["grid"].update(color="0.88", linewidth=0.6)
        each.label.set_fontsize(9)
        each.labelpad = 10
        each.get_major_locator().set_params(nbins=max(2, round(9 * length / (high - low).max())))
    axis.tick_params(labelsize=8)


def _fit(figure: Any, axis: Any, low: NDArray[np.float64], high: NDArray[np.float64]) -> None:
    """Enlarge and move the axes until they fill their part of the page, with their labels."""
    proj3d = importlib.import_module("mpl_toolkits.mplot3d.proj3d")
    box = np.array(list(itertools.product(*zip(low, high, strict=True))))
    room, page = np.array(_ROOM), np.array([figure.bbox.width, figure.bbox.height])
    renderer = figure.canvas.get_renderer()
    zoom = 1.0
    for _ in range(4):  # the labels do not grow with the box
        axis.set_box_aspect(high - low, zoom=zoom)
        axis.apply_aspect()
        axis.M = axis.get_proj()
        x, y, _ = proj3d.proj_transform(*box.T, axis.M)
        drawn = [axis.transData.transform(np.column_stack([x, y]))]
        for each in (axis.xaxis, axis.yaxis, axis.zaxis):
            drawn.append(each.get_tightbbox(renderer).get_points())
        corners = np.concatenate(drawn) / page
        ends = np.stack([corners.min(axis=0), corners.max(axis=0)])
        zoom *= float((np.ptp(room, axis=0) / np.ptp(ends, axis=0)).min())
        x, y = axis.get_position(original=True).p0 + room.mean(axis=0) - ends.mean(axis=0)
        axis.set_position((x, y, 1.0, 1.0))


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
