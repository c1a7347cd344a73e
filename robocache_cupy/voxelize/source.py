"""What the command reads: a point cloud, or frames of the depth cameras of a log."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import logs
from ..align.error import CommandError
from ..depth import DEPTHS, depth_to_points
from ..logs.cloud import read_cloud
from ..logs.depth import DepthStream, depth_streams

_HDF5 = b"\x89HDF\r\n\x1a\n"
_MOST_POINTS = 100_000_000  # of frames: the work on them takes some 40 bytes each


class Choice(NamedTuple):
    """Which part of the input is meant."""

    at: float | None = None  #: seconds from the first frame; by default the middle
    every: bool = False  #: all frames of all cameras
    streams: Sequence[str] = ()
    episode: str | None = None
    depth_max: float | None = None  #: meters
    columns: Sequence[str] = ()


class Frames(NamedTuple):
    """Frames of a depth camera."""

    camera: DepthStream
    first: int  #: the number of the first of them
    depth: NDArray[np.generic]  #: (F, H, W)
    poses: NDArray[np.float64] | None  #: (4, 4) or (F, 4, 4)
    seconds: NDArray[np.float64]  #: from the first frame of all cameras, when each was taken
    asked: float | None  #: the moment they are nearest to


class Part(NamedTuple):
    """Points of one sensor."""

    name: str
    points: NDArray[np.floating]  #: (N, 3)
    frames: Frames | None = None


@dataclass(frozen=True)
class Source:
    """A cloud, or frames."""

    path: Path
    form: str
    cloud: Part | None = None
    frames: Sequence[Frames] = ()
    depth_max: float | None = None

    def parts(self, backend: str) -> list[Part]:
        """The points of each sensor."""
        if self.cloud is not None:
            return [self.cloud]
        return [_part(frames, self.depth_max, backend) for frames in self.frames]

    def little(self) -> Source:
        """The same with one point or pixel of each sensor."""
        if self.cloud is not None:
            return Source(
                self.path, self.form, self.cloud._replace(points=self.cloud.points[:1].copy())
            )
        few = [
            f._replace(depth=f.depth[:1, :1, :1], poses=_first(f.poses), seconds=f.seconds[:1])
            for f in self.frames
        ]
        return Source(self.path, self.form, frames=few, depth_max=self.depth_max)


def _first(poses: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    return poses if poses is None or poses.ndim == 2 else poses[:1]


def open_source(path: Path, choice: Choice) -> Source:
    """Read a cloud, or the frames of a log that are asked for.

    Raises
    ------
    LogError, CommandError
        With the one line to show.
    """
    if _is_hdf5(path):
        if choice.columns:
            raise CommandError(f"{path} is a log: --columns names those of a point cloud")
        return _log(path, choice)
    options = {
        "--at": choice.at is not None,
        "--all": choice.every,
        "--streams": bool(choice.streams),
        "--episode": choice.episode is not None,
        "--depth-max": choice.depth_max is not None,
    }
    cloud = read_cloud(path, columns=choice.columns or None)
    for option, given in options.items():
        if given:
            raise CommandError(f"{path} is a point cloud: {option} is for the cameras of a log")
    form = cloud.source
    if cloud.organized is not None:
        form += ", {1} x {0} pixels".format(*cloud.organized)
    return Source(path, form, Part("points", cloud.points))


def _is_hdf5(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(len(_HDF5)) == _HDF5
    except OSError:
        return False  # the reader of clouds says it


def _log(path: Path, choice: Choice) -> Source:
    cameras = depth_streams(path, streams=choice.streams or None, episode=choice.episode)
    cameras = [camera for camera in cameras if len(camera.times)]
    if not cameras:
        raise CommandError(f"{path}: its depth cameras have no frames")
    alone = [camera.name for camera in cameras if camera.cam_to_world is None]
    if alone and len(cameras) > 1:
        raise CommandError(
            f"{path}: {alone[0]} has no cam_to_world, so its points cannot be put beside those of "
            f"other cameras: choose one with --streams {alone[0]}"
        )
    taken = [camera.times - round(1e9 * camera.latency) for camera in cameras]
    first = min(int(times.min()) for times in taken)
    if choice.every:
        pixels = sum(int(np.prod(camera.depth.shape)) for camera in cameras)
        if pixels > _MOST_POINTS:
            raise CommandError(
                f"--all frames are {pixels:,} points, more than {_MOST_POINTS:,}: choose a camera "
                "with --streams, or a moment with --at"
            )
        chosen: list[tuple[slice, float | None]] = [(slice(0, len(t)), None) for t in taken]
    else:
        moment = _moment(path, cameras, taken, first, choice.at)
        chosen = [(_nearest(times, moment), (moment - first) / 1e9) for times in taken]
    frames = [
        _read(camera, index, (times[index] - first) / 1e9, asked)
        for camera, times, (index, asked) in zip(cameras, taken, chosen, strict=True)
    ]
    count = f"{len(cameras)} depth camera{'s' * (len(cameras) > 1)}"
    return Source(path, f"HDF5, {count}", frames=frames, depth_max=choice.depth_max)


def _moment(
    path: Path,
    cameras: Sequence[DepthStream],
    taken: Sequence[NDArray[np.int64]],
    first: int,
    at: float | None,
) -> int:
    """The time asked for, or the middle of what all cameras have in common, in ns."""
    if at is not None:
        length = (max(int(times.max()) for times in taken) - first) / 1e9
        if not 0 <= at <= length:
            raise CommandError(f"--at {at:g}: the frames are from 0 to {length:.3f} s")
        return first + round(1e9 * at)
    begin, end = max(int(t.min()) for t in taken), min(int(t.max()) for t in taken)
    if end < begin:
        late = cameras[int(np.argmax([t.min() for t in taken]))].name
        early = cameras[int(np.argmin([t.max() for t in taken]))].name
        raise CommandError(
            f"{path}: {late} begins {(begin - end) / 1e9:.3f} s after {early} has ended: choose "
            "cameras with --streams, a moment with --at, or --all"
        )
    return (begin + end) // 2


def _nearest(times: NDArray[np.int64], moment: int) -> slice:
    """The frame taken nearest to a moment; the last of frames with the same stamp."""
    order = np.arange(len(times))[logs.clean(times)]
    best = int(order[np.abs(times[order] - moment).argmin()])
    return slice(best, best + 1)


def _read(
    camera: DepthStream, index: slice, seconds: NDArray[np.float64], asked: float | None
) -> Frames:
    depth = camera.depth[index]
    if depth.dtype.name not in DEPTHS:
        depth = depth.astype(np.float64)
    poses = camera.cam_to_world
    if poses is not None and poses.ndim == 3:
        poses = poses[index]
    return Frames(camera, int(index.start), depth, poses, seconds, asked)


def _part(frames: Frames, depth_max: float | None, backend: str) -> Part:
    camera = frames.camera
    points = depth_to_points(
        frames.depth,
        camera.intrinsics,
        frames.poses,
        depth_to_meters=camera.depth_to_meters,
        depth_max=np.inf if depth_max is None else depth_max,
        pixel_offset=camera.pixel_offset,
        convention=camera.convention,
        backend=backend,
    )
    return Part(camera.name, points.reshape(-1, 3), frames)
