"""Readers of robot logs: HDF5, robosuite, ROS 1 and ROS 2 bags, MCAP, CSV and TUM text.

A log is a few named streams, and a stream is int64 nanosecond stamps with one sample each::

    log = logs.open("run.bag")
    imu = log.streams["/imu/data"]
    imu.times, imu.fields, imu.read(0, 100)

To support another format, write its reader beside the others and add a row to `_FORMATS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from .rotation import recognised
from .stream import Log, LogError, Progress, Stream
from .text import is_text
from .timing import Timing, clean, timing

__all__ = ["DEMO", "Log", "LogError", "Stream", "Timing", "clean", "open", "timing"]

#: The log that comes with the package: six seconds of a robot arm, its gripper and two cameras.
DEMO = Path(__file__).parent.parent / "data" / "franka_multirate.hdf5"


class _Format(NamedTuple):
    magic: bytes
    reader: str
    name: str


_FORMATS = (
    _Format(b"\x89HDF\r\n\x1a\n", "hdf5", "HDF5"),
    _Format(b"#ROSBAG V2.0\n", "ros", "ROS 1 bag"),
    _Format(b"SQLite format 3\0", "ros", "ROS 2 bag (SQLite)"),
    _Format(b"\x89MCAP0\r\n", "ros", "ROS 2 bag (MCAP)"),
)
_TEXT = _Format(b"", "text", "text")  # known by its first line of numbers
_HEAD = 1 << 16  # bytes to know a format by


def open(
    path: str | os.PathLike[str],
    *,
    log_time: bool = False,
    episode: str | None = None,
    progress: Progress | None = None,
) -> Log:
    """Open a robot log, whatever it is called: the format is seen from the content.

    Parameters
    ----------
    path : path
        A file, or the directory of a ROS 2 bag.
    log_time : bool
        Stamp ROS messages with the time of their recording, not with that in their header.
        Formats with one clock per stream have only that.
    episode : str, optional
        Which demo of a robosuite or robomimic file; the first by default.
    progress : callable, optional
        Called with (done, total) while a long log is read.

    Returns
    -------
    Log
        Its streams. The samples of HDF5 logs stay in the file until `Stream.read`, and those of
        bags, beyond a block for each topic, wait in a file without a name in TMPDIR. The stamps
        are in memory, and so is all of a text file. Where the format does not say which columns
        are rotations, but the names of a stream do, its samples are read to see whether they are.

    Raises
    ------
    LogError
        If there is nothing to read, the file is damaged or truncated, or the format is none of
        those above.

    Examples
    --------
    >>> log = open(DEMO)
    >>> log.format, sorted(log.streams)[:3]
    ('HDF5', ['agent_depth', 'ee_pose', 'gripper'])
    >>> log.streams["ee_pose"].shape
    (374, 7)
    """
    path = Path(path)
    form = _recognise(path)
    read: Callable[..., Log] = import_module(f"{__name__}.{form.reader}").read
    log = read(path, form.name, log_time=log_time, episode=episode, progress=progress)
    return replace(log, streams={name: recognised(s) for name, s in log.streams.items()})


def _recognise(path: Path) -> _Format:
    try:
        if path.is_dir():
            if not (path / "metadata.yaml").is_file():
                raise LogError(
                    f"{path} is a directory without metadata.yaml, so not a ROS 2 bag: "
                    "name the log file itself"
                )
            return _Format(b"", "ros", "ROS 2 bag")
        if path.exists() and not path.is_file():
            raise LogError(f"{path} is not a regular file: copy the log to one")
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise LogError(f"{path} cannot be opened: {error.strerror or error}") from error
    if not head:
        raise LogError(f"{path} is empty: record or copy it again")
    for form in _FORMATS:
        if head.startswith(form.magic):
            return form
    if is_text(head):
        return _TEXT
    raise LogError(
        f"{path} is none of {', '.join(form.name for form in _FORMATS)}, nor text with a stamp and "
        "numbers in each line: convert it to one of these"
    )
