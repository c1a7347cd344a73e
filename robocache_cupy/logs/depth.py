"""Depth cameras of a log: frames, when they were taken, and what turns them into points."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import open as open_log
from .dataset import reading, text
from .stream import Log, LogError, Rows, Stream

_CONVENTIONS = ("opencv", "opengl")
_ROBOSUITE_OFFSET = 0.5  # its principal point is half the width, so pixel (u, v) is at + 0.5


class DepthStream(NamedTuple):
    """A depth camera with S frames.

    Parameters
    ----------
    name : str
        That of the stream.
    depth : array-like of shape (S, H, W)
        Along the optical axis. The frames stay in the file: only a slice ``depth[lo:hi]`` reads.
    times : int64 array of shape (S,)
        Stamps in ns, as the log has them: they may repeat or run backwards.
    intrinsics : float64 array of shape (3, 3)
        K, in pixels.
    cam_to_world : float64 array of shape (4, 4) or (S, 4, 4), or None
        Pose of the camera, fixed or for each frame. None where the log has none: the points are
        in the frame of the camera.
    depth_to_meters : float
        Meters of one unit of depth.
    pixel_offset : float
        Where in a pixel its ray is: 0.0, or 0.5 where K counts from the corner of the image.
    convention : str
        Axes of the camera: "opencv" (z ahead, y down) or "opengl" (z behind, y up).
    latency : float
        Seconds by which the stamps are late: a frame was taken at ``times - latency``.
    """

    name: str
    depth: Rows
    times: NDArray[np.int64]
    intrinsics: NDArray[np.float64]
    cam_to_world: NDArray[np.float64] | None
    depth_to_meters: float
    pixel_offset: float
    convention: str
    latency: float = 0.0


def depth_streams(
    path: str | os.PathLike[str],
    *,
    streams: Sequence[str] | None = None,
    episode: str | None = None,
) -> list[DepthStream]:
    """The depth cameras of an HDF5 log.

    A group ``streams/<name>`` of kind "depth" has the attribute `K` and may have `cam_to_world`,
    as an attribute or as a dataset with one pose per frame, `depth_to_meters` (0.001 for integers
    and 1 for floats by default), `pixel_offset` (0), `convention` ("opencv") and `latency_s` (0).
    In files of robomimic K and the pose are those of ``camera_info``, and depth is in meters.

    Parameters
    ----------
    path : path
        An HDF5 log of one of these layouts.
    streams : sequence of str, optional
        Names of some of them; all by default.
    episode : str, optional
        Which demo of a robomimic file; the first by default.

    Returns
    -------
    list of DepthStream
        In the order of the log, and not empty.

    Raises
    ------
    LogError
        If the log cannot be read or has no depth, or if a camera of it has no K.

    Examples
    --------
    >>> from robocache_cupy.logs import DEMO
    >>> fixed, moving = depth_streams(DEMO)
    >>> fixed.name, fixed.depth.shape, fixed.cam_to_world.shape, moving.cam_to_world.shape
    ('agent_depth', (169, 120, 160), (4, 4), (90, 4, 4))
    """
    log = open_log(path, episode=episode)
    found = {name: stream for name, stream in log.streams.items() if stream.kind == "depth"}
    if not found:
        raise LogError(
            f"{log.path} has no stream of kind depth, only {', '.join(log.streams)}: "
            "name a log with one"
        )
    for name in found if streams is None else streams:
        if name not in found:
            raise LogError(f"{log.path} has no depth stream {name}, only {', '.join(found)}")
    return [_depth(log, found[name]) for name in found if streams is None or name in streams]


@dataclass(frozen=True)
class _Frames:
    """Rows of shape (H, W), of a log that may have them as (H, W, 1), in native byte order."""

    rows: Rows
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        return self.rows[rows].reshape(-1, *self.shape[1:]).astype(self.dtype, copy=False)


def _depth(log: Log, stream: Stream) -> DepthStream:
    where, attrs = f"{log.path}: {stream.name}", stream.attrs
    shape = stream.shape[:-1] if len(stream.shape) == 4 and stream.shape[3] == 1 else stream.shape
    if len(shape) != 3 or stream.dtype.kind not in "iuf":
        raise LogError(
            f"{where} is {stream.dtype} of shape {stream.shape}, expected depth of shape "
            "(frames, height, width)"
        )
    robomimic = log.format == "robosuite HDF5"
    if "K" not in attrs:
        how = (
            "extract it again with robomimic 0.5, which keeps camera_info"
            if robomimic
            else "add them to its group as the attribute K of shape (3, 3)"
        )
        raise LogError(f"{where} has no intrinsics: {how}")
    intrinsics = _floats(where, "K", attrs["K"])
    if intrinsics.shape != (3, 3) or not (
        np.isfinite(intrinsics).all() and intrinsics[0, 0] and intrinsics[1, 1]
    ):
        raise LogError(
            f"{where}: K is not finite with focal lengths, of shape (3, 3), but has shape "
            f"{intrinsics.shape}: write that"
        )
    convention = text(attrs.get("convention", "opencv"))
    if convention not in _CONVENTIONS:
        raise LogError(f"{where}: convention is {convention}, expected opencv or opengl")
    unit = _number(where, attrs, "depth_to_meters", 1.0 if stream.dtype.kind == "f" else 1e-3)
    if unit <= 0:
        raise LogError(f"{where}: depth_to_meters is {unit:g}, expected more than 0")
    return DepthStream(
        name=stream.name,
        depth=_Frames(stream.rows, (shape[0], shape[1], shape[2]), stream.dtype),
        times=stream.times,
        intrinsics=intrinsics,
        cam_to_world=_pose(log.path, stream, where, fixed_only=robomimic),
        depth_to_meters=unit,
        pixel_offset=_number(where, attrs, "pixel_offset", _ROBOSUITE_OFFSET if robomimic else 0.0),
        convention=convention,
        latency=stream.latency,
    )


def _pose(
    path: Path, stream: Stream, where: str, *, fixed_only: bool
) -> NDArray[np.float64] | None:
    each = None
    if not fixed_only:
        with reading(path) as file:
            dataset = file.get(f"streams/{stream.name}/cam_to_world")
            if hasattr(dataset, "dtype"):
                if dataset.shape not in ((4, 4), (len(stream), 4, 4)):
                    raise _misshapen(where, dataset.shape, len(stream))
                each = dataset[()]
    if each is None:
        each = stream.attrs.get("cam_to_world")
    if each is None:
        return None
    pose = _floats(where, "cam_to_world", each)
    if pose.shape not in ((4, 4), (len(stream), 4, 4)):
        raise _misshapen(where, pose.shape, len(stream))
    return pose


def _misshapen(where: str, shape: tuple[int, ...], frames: int) -> LogError:
    return LogError(f"{where}: cam_to_world has shape {shape}, expected (4, 4) or ({frames}, 4, 4)")


def _floats(where: str, name: str, value: Any) -> NDArray[np.float64]:
    try:
        return np.array(value, np.float64)
    except (TypeError, ValueError) as error:
        raise LogError(f"{where}: {name} is not made of numbers: write it again") from error


def _number(where: str, attrs: Any, name: str, default: float) -> float:
    value = _floats(where, name, attrs.get(name, default))
    if value.size != 1 or not np.isfinite(value).all():
        raise LogError(f"{where}: {name} is {attrs[name]!r}, expected a number")
    return float(value.item())
