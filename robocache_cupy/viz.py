"""Pictures of streams and of voxels, by matplotlib: ``pip install 'robocache-cupy[viz]'``.

    from robocache_cupy import viz

What is drawn may be an array of any framework, on any device.
"""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ._core.array import as_numpy
from .timing import missing, stamps_of

__all__ = ["add_voxels", "plot_alignment", "plot_voxels", "set_room"]

LONG_GAP = 4.0  # median steps
RAW, INVALID, GAP = "0.35", "#d62728", "#ffb000"
SAMPLE: dict[str, Any] = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 3.5,
    "fillstyle": "none",
    "markeredgewidth": 0.7,
}
_MOST_CURVES = 10  # as many as there are colors
_MOST_CUBES = 60_000
_ROOM = ((0.03, 0.04), (0.88, 0.9))  # of the page, for the axes and their labels
_LIGHT = (0.86, 0.70, 1.0)  # on the faces towards x, y and z


def _matplotlib(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError("matplotlib is missing: pip install 'robocache-cupy[viz]'") from error


# ------------------------------------------------------------------------------------------ streams


def plot_alignment(
    times: Any,
    samples: Any,
    tgt_times: Any,
    values: Any,
    valid: Any = None,
    ax: Any = None,
    *,
    labels: Sequence[str] | None = None,
    steps: bool = False,
    time_unit: str | None = None,
) -> Any:
    """Draw the samples of a stream against what they were aligned to.

    Rings are samples, lines with dots are rows. A line ends where the rows are not valid, on a red
    ground; gaps of over four median steps between samples are on a yellow one.

    Parameters
    ----------
    times : array [S]
        Stamps of the samples, in any order, in what the ops take: float seconds, int64 ns,
        datetime64, or as `time_unit` says. Those that are NaN or NaT are left out.
    samples : array [S] or [S, *F]
        What was measured. Of more than ten columns the first ten are drawn.
    tgt_times : array [T]
        The points in time that it was aligned to, ascending.
    values : array [T] or [T, *F]
        What became of it.
    valid : bool array [T], optional
        Which of the values are real; by default all.
    ax : matplotlib axes, optional
        Where to draw; by default in a new figure.
    labels : sequence of str, optional
        A name for each column.
    steps : bool
        Draw the values as steps, which are those of the sample nearest, previous or next.
    time_unit : {"ns", "us", "ms", "s"}, optional
        The unit of both clocks, as in `resample_trajectories`.

    Returns
    -------
    matplotlib axes
        With seconds from the first target as x.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import numpy as np
    >>> import robocache_cupy as rc
    >>> from robocache_cupy import viz
    >>> times = np.linspace(0, 2, 21)
    >>> samples = np.sin(np.stack([times, 2 * times], axis=1))
    >>> targets = np.arange(0.05, 2.3, 0.1)
    >>> made = rc.resample_trajectories(samples, times, targets, return_valid=True)
    >>> axis = viz.plot_alignment(times, samples, targets, made.values, made.valid)
    >>> len(axis.lines), axis.get_xlabel()
    (4, 'seconds from the first target')
    """
    (stamps, targets), clock = stamps_of(time_unit, times=times, tgt_times=tgt_times)
    for name, x in (("times", stamps), ("tgt_times", targets)):
        if x.ndim != 1:
            raise ValueError(f"{name} has shape {x.shape}, expected one axis: draw one trajectory")
    raw, aligned = _columns("samples", samples, stamps), _columns("values", values, targets)
    if raw.shape[1] != aligned.shape[1]:
        raise ValueError(
            f"samples have {raw.shape[1]} columns and values {aligned.shape[1]}, expected as many"
        )
    real = np.ones(len(targets), bool) if valid is None else as_numpy("valid", valid).astype(bool)
    if real.shape != targets.shape:
        raise ValueError(f"valid has shape {real.shape}, expected ({len(targets)},)")
    shown = min(raw.shape[1], _MOST_CURVES)
    if labels is not None and len(labels) < shown:
        raise ValueError(f"labels are {len(labels)}, expected one for each of {shown} columns")

    kept, at = ~missing(stamps, clock), ~missing(targets, clock)
    origin = next(iter([*targets[at][:1], *stamps[kept][:1]]), 0)
    x_raw, x = ((t - origin) / clock.ticks for t in (stamps[kept], targets[at]))
    raw, aligned, real = raw[kept], aligned[at], real[at]
    aligned = np.where(real[:, None], aligned, np.nan)

    axis = ax
    if axis is None:
        pyplot = _matplotlib("matplotlib.pyplot")
        _, axis = pyplot.subplots(figsize=(9, 3.2), layout="constrained")
    size = 3.5 if max(len(x), len(x_raw)) < 200 else 1.5
    for i in range(shown):
        line = add_curve(
            axis, x_raw, raw[:, i], x, aligned[:, i], color=f"C{i}", size=size, steps=steps
        )
        line.set(marker=".", markersize=size, label=None if labels is None else labels[i])
    bad = shade_invalid(axis, x, real)
    late = shade_gaps(axis, np.sort(x_raw), (x.min(initial=np.inf), x.max(initial=-np.inf)))
    axis.set_xlabel("seconds from the first target")
    axis.margins(x=0.01)
    axis.spines[["top", "right"]].set_visible(False)
    handles = legend_handles(invalid=bad > 0, gaps=late > 0)
    if labels is not None:
        handles += [line for line in axis.lines if not line.get_label().startswith("_")]
    axis.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False
    )
    return axis


def _columns(name: str, x: Any, stamps: NDArray[Any]) -> NDArray[np.float64]:
    values = as_numpy(name, x)
    if values.ndim == 0 or len(values) != len(stamps):
        raise ValueError(
            f"{name} has shape {values.shape}, expected {len(stamps)} rows, one for each stamp"
        )
    return values.reshape(len(values), math.prod(values.shape[1:])).astype(np.float64)


def add_curve(
    axis: Any,
    x_raw: NDArray[np.float64],
    samples: NDArray[np.float64] | None,
    x: NDArray[np.float64],
    aligned: NDArray[np.float64],
    *,
    color: str,
    size: float,
    steps: bool,
) -> Any:
    """Draw the samples, if any, and the line of what became of them, which is returned."""
    if samples is not None:
        style = {**SAMPLE, "markersize": size, "alpha": 0.35 if size < 3 else 0.8}
        axis.plot(x_raw, samples, color=color, **style)
    drawn = "steps-mid" if steps else "default"
    (line,) = axis.plot(x, aligned, color=color, linewidth=1, drawstyle=drawn)
    return line


def shade_invalid(axis: Any, x: NDArray[np.float64], valid: NDArray[np.bool_]) -> int:
    """Mark rows that are not valid, each as far as half of the way to the next; how many parts."""
    if len(x) < 2:
        return 0
    half = np.diff(x) / 2
    starts, ends = np.append(x[:1], x[1:] - half), np.append(x[:-1] + half, x[-1:])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], ~valid, [False]])))
    for first, after in zip(edges[::2], edges[1::2], strict=True):
        axis.axvspan(starts[first], ends[after - 1], color=INVALID, alpha=0.18, linewidth=0)
    return len(edges) // 2


def shade_gaps(axis: Any, x: NDArray[np.float64], within: tuple[float, float]) -> int:
    """Mark long gaps between ascending samples that reach into a span; how many."""
    steps = np.diff(x)
    if not len(steps):
        return 0
    gaps = [
        i
        for i in np.flatnonzero(steps > LONG_GAP * np.median(steps))
        if x[i + 1] > within[0] and x[i] < within[1]
    ]
    for i in gaps:
        axis.axvspan(x[i], x[i + 1], color=GAP, alpha=0.3, linewidth=0)
    return len(gaps)


def legend_handles(*, invalid: bool = True, gaps: bool = True) -> list[Any]:
    """What the signs of an alignment mean."""
    lines, patches = _matplotlib("matplotlib.lines"), _matplotlib("matplotlib.patches")
    handles = [
        lines.Line2D([], [], **SAMPLE, color=RAW, label="sample"),
        lines.Line2D([], [], color=RAW, linewidth=1.1, marker=".", label="aligned"),
    ]
    if invalid:
        handles.append(patches.Patch(color=INVALID, alpha=0.18, linewidth=0, label="not valid"))
    if gaps:
        label = f"gap of over {LONG_GAP:g} median steps"
        handles.append(patches.Patch(color=GAP, alpha=0.3, linewidth=0, label=label))
    return handles


# ------------------------------------------------------------------------------------------- voxels


def plot_voxels(
    grid: Any,
    voxel_size: Any = 1.0,
    origin: Any = 0.0,
    ax: Any = None,
    *,
    color_by: str = "height",
    elev: float = 32.0,
    azim: float = -60.0,
) -> Any:
    """Draw the voxels of a grid that are not zero as cubes.

    Only the faces are drawn that can be seen from where the view is, so choose it by `elev` and
    `azim` and not with the mouse. More than 60,000 voxels are drawn as blocks of 2 x 2 x 2 of them
    (or of 4 x 4 x 4, and so on), which the title says.

    Parameters
    ----------
    grid : array [X, Y, Z]
        Of bool or numbers, as `voxelize_occupancy` and `voxelize_point_cloud` make it.
    voxel_size, origin : number or three of them
        Meters; the origin is the corner of voxel (0, 0, 0). ``plot_voxels(grid, *lattice[1:])``
        takes them from a `Grid`.
    ax : mpl_toolkits.mplot3d.Axes3D, optional
        Where to draw; by default in a new figure, with a color bar.
    color_by : {"height", "value"}
        What the colors mean: z of the centre of a voxel, or its value in the grid.
    elev, azim : degrees
        From where the grid is seen: above the xy-plane, and around z from x.

    Returns
    -------
    mpl_toolkits.mplot3d.Axes3D
        In meters, with one scale for all three, and the limits of the grid.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> import numpy as np
    >>> import robocache_cupy as rc
    >>> from robocache_cupy import viz
    >>> points = np.random.default_rng(0).normal(0.5, 0.1, (500, 3)).clip(0, 0.99)
    >>> lattice = rc.grid_from_bounds((0, 0, 0, 1, 1, 1), 0.1)
    >>> counts = rc.voxelize_point_cloud(points, *lattice, reduce="count")
    >>> axis = viz.plot_voxels(counts, *lattice[1:], color_by="value")
    >>> [round(float(x), 6) for x in axis.get_zlim()], axis.get_zlabel()
    ([0.0, 1.0], 'z (m)')
    """
    voxels = as_numpy("grid", grid)
    if voxels.ndim != 3:
        raise ValueError(
            f"grid has shape {voxels.shape}, expected [X, Y, Z]: choose one of a batch or a channel"
        )
    if color_by not in ("height", "value"):
        raise ValueError(f"color_by is {color_by!r}, expected 'height' or 'value'")
    size = np.broadcast_to(as_numpy("voxel_size", voxel_size).astype(float), 3)
    corner = np.broadcast_to(as_numpy("origin", origin).astype(float), 3)
    if ax is not None and not hasattr(ax, "zaxis"):
        raise TypeError("ax is flat, expected axes with projection='3d'")
    coords = np.argwhere(voxels)
    values = voxels[tuple(coords.T)].astype(float)
    shown, blocks, values = merged(coords, size, values)

    axis = ax
    if axis is None:
        figure = _matplotlib("matplotlib.pyplot").figure(figsize=(7.5, 5.6))
        axis = figure.add_axes((0.0, 0.0, 1.0, 1.0), projection="3d", computed_zorder=False)
    high = corner + size * voxels.shape
    set_room(axis, corner, high, elev=elev, azim=azim)
    if ax is None and hasattr(figure.canvas, "get_renderer"):
        fit_to_page(figure, axis, corner, high)
    if not len(shown):
        return axis
    mapped = add_voxels(axis, shown, blocks, corner, values=values if color_by == "value" else None)
    if ax is None:
        bar = figure.colorbar(
            mapped, cax=figure.add_axes((0.9, 0.22, 0.018, 0.5)), extend=beyond(mapped)
        )
        bar.set_label("z (m)" if color_by == "height" else "value", fontsize=9)
        bar.ax.tick_params(labelsize=8)
        bar.outline.set_visible(False)
    if len(shown) < len(coords):
        of = " x ".join(f"{edge:g}" for edge in blocks)
        said = f"{len(coords):,} voxels as blocks of {of} m"
        if ax is None:
            figure.suptitle(said, fontsize=9)
        else:
            axis.set_title(said, fontsize=9)
    return axis


def set_room(
    axis: Any, low: ArrayLike, high: ArrayLike, *, elev: float = 32.0, azim: float = -60.0
) -> None:
    """Make 3D axes a room in meters: parallel projection, and one scale for x, y and z.

    Parameters
    ----------
    axis : mpl_toolkits.mplot3d.Axes3D
    low, high : three numbers
        The corners.
    elev, azim : degrees
        From where it is seen: above the xy-plane, and around z from x.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> axis = plt.figure().add_subplot(projection="3d")
    >>> set_room(axis, (0, 0, 0), (2, 1, 1))
    >>> axis.get_xlabel(), axis.elev, axis.azim
    ('x (m)', 32.0, -60.0)
    """
    start, end = np.asarray(low, float), np.asarray(high, float)
    axis.set_proj_type("ortho")
    axis.view_init(elev=elev, azim=azim)
    axis.set(xlim=(start[0], end[0]), ylim=(start[1], end[1]), zlim=(start[2], end[2]))
    axis.set_box_aspect(end - start)
    axis.set(xlabel="x (m)", ylabel="y (m)", zlabel="z (m)")
    for each, length in zip((axis.xaxis, axis.yaxis, axis.zaxis), end - start, strict=True):
        each.set_pane_color((0.965, 0.965, 0.975, 1.0))
        each._axinfo["grid"].update(color="0.88", linewidth=0.6)
        each.label.set_fontsize(9)
        each.get_major_locator().set_params(nbins=max(2, round(9 * length / (end - start).max())))
    axis.tick_params(labelsize=8)


def add_voxels(
    axis: Any,
    coords: ArrayLike,
    voxel_size: ArrayLike,
    origin: ArrayLike = 0.0,
    *,
    colors: NDArray[np.floating] | None = None,
    values: NDArray[np.floating] | None = None,
) -> Any:
    """Draw voxels as cubes on 3D axes that already have their limits and their view (`set_room`).

    Only the faces are drawn that can be seen from there, in parallel projection.

    Parameters
    ----------
    axis : mpl_toolkits.mplot3d.Axes3D
        With ``proj_type="ortho"``, z upwards, and no axis inverted.
    coords : integers [M, 3]
        The voxels, one or more: ``np.argwhere(grid)``.
    voxel_size : number or three of them
    origin : number or three of them
        The corner of voxel (0, 0, 0).
    colors : array [M, 3], optional
        Red, green and blue from 0 to 1; by default a color for each of `values`.
    values : array [M], optional
        By default the height of the centre.

    Returns
    -------
    ScalarMappable
        For a color bar of the values.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> axis = plt.figure().add_subplot(projection="3d")
    >>> set_room(axis, (0, 0, 0), (1, 1, 1))
    >>> mapped = add_voxels(axis, [[0, 0, 0], [1, 1, 0]], 0.5)
    >>> mapped.get_array().tolist()
    [0.25, 0.25]
    """
    art3d = _matplotlib("mpl_toolkits.mplot3d.art3d")
    cm = _matplotlib("matplotlib.cm")
    cells = np.asarray(coords, np.int64).reshape(-1, 3)
    size, corner = np.broadcast_to(voxel_size, 3), np.broadcast_to(origin, 3)
    if values is None:
        values = corner[2] + (cells[:, 2] + 0.5) * size[2]
    mapped = cm.ScalarMappable(cmap=_colormap())
    mapped.set_array(values)
    mapped.set_clim(*_range(values))
    if colors is None:
        colors = mapped.to_rgba(values)[:, :3]
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


def _colormap() -> Any:
    """Viridis without its darkest colors, on which no shade can be seen."""
    viridis = _matplotlib("matplotlib").colormaps["viridis"]
    colors = _matplotlib("matplotlib.colors")
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


def fit_to_page(
    figure: Any, axis: Any, low: NDArray[np.float64], high: NDArray[np.float64]
) -> None:
    """Enlarge and move the axes until they fill their part of the page, with their labels."""
    proj3d = _matplotlib("mpl_toolkits.mplot3d.proj3d")
    box = np.array(list(itertools.product(*zip(low, high, strict=True))))
    room, page = np.array(_ROOM), np.array([figure.bbox.width, figure.bbox.height])
    renderer = figure.canvas.get_renderer()
    for each in (axis.xaxis, axis.yaxis, axis.zaxis):
        each.labelpad = 10
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


def beyond(mapped: Any) -> str:
    """At which ends of the colors there are others beyond."""
    low, high = mapped.get_clim()
    below, above = mapped.get_array().min() < low, mapped.get_array().max() > high
    return {(1, 1): "both", (1, 0): "min", (0, 1): "max"}.get((below, above), "neither")


def _range(values: NDArray[np.floating]) -> tuple[float, float]:
    """Without the few values that would take all the colors."""
    low, high = np.nanpercentile(values, [1, 99])
    return (float(low), float(high)) if low < high else (float(low) - 0.5, float(low) + 0.5)


def merged(
    coords: NDArray[np.integer], size: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """The voxels, or blocks of 2 x 2 x 2 of them, and so on, until they are few enough to draw.

    Of the values of a block it is the mean.
    """
    cells = coords.astype(np.int64)
    count: NDArray[Any] = np.ones(len(cells))
    while len(cells) > _MOST_CUBES:
        cells, of = np.unique(cells // 2, axis=0, return_inverse=True)
        of = of.reshape(-1)
        total = np.bincount(of, values * count)
        count = np.bincount(of, count)
        values, size = total / count, 2 * size
    return cells, size, values
