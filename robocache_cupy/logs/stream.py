"""What every log comes down to, whatever its format: named streams of stamped samples."""

from __future__ import annotations

import html
import importlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .._table import html_table, text_table
from .timing import timing


class LogError(Exception):
    """A log that cannot be read; its one line of text names the file and says what to do.

    Examples
    --------
    >>> from robocache_cupy import logs
    >>> logs.open("run.bag")
    Traceback (most recent call last):
    robocache_cupy.logs.stream.LogError: run.bag cannot be opened: No such file or directory
    """


class Rows(Protocol):
    """Samples along the first axis. They may still lie in the file: only a slice reads them."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, rows: slice, /) -> NDArray[Any]: ...


@dataclass(frozen=True, eq=False)
class Stream:
    """One sensor of a log: samples, and the stamp of each.

    Parameters
    ----------
    name : str
        Unique within the log. ROS topics keep their slashes.
    times : int64 array of shape (n,)
        Stamps in ns, in the order of the file: they may repeat or run backwards.
    rows : array-like of shape (n, *F)
        The samples, in memory or still in the file; see `read`.
    kind : str
        What a sample is: "vector", "quat_xyzw", "quat_wxyz", "pose_xyz_quat_xyzw",
        "pose_xyz_quat_wxyz", "depth" or "image".
    unit : str
        Unit of the samples, for people.
    latency : float
        Seconds by which the stamps are late: a sample was taken at ``times - latency``.
    fields : tuple of str, optional
        A name for each column of a stream with samples of shape (C,).
    discrete : tuple of int
        Columns that have no value between two samples though their dtype could hold one:
        integer codes among floats, and quaternions that were never set.
    rotation : str or dict, optional
        Which columns are rotations, in the words of `robocache_cupy.resample_trajectories`:
        ``"pos_quat_xyzw"``, ``{"0:4": "quat_xyzw"}``.
    attrs : mapping
        What else the log says about the stream, such as the intrinsics of a camera.

    Examples
    --------
    >>> from robocache_cupy import logs
    >>> stream = logs.open(logs.DEMO).streams["gripper"]
    >>> len(stream), stream.shape, stream.read(0, 3).ravel()
    (59, (59, 1), array([0, 0, 1], dtype=int8))
    """

    name: str
    times: NDArray[np.int64]
    rows: Rows
    kind: str = "vector"
    unit: str = ""
    latency: float = 0.0
    fields: tuple[str, ...] | None = None
    discrete: tuple[int, ...] = ()
    rotation: str | Mapping[str, str] | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.times)

    def __repr__(self) -> str:
        return _text([self])

    def _repr_html_(self) -> str:
        return _html([self])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (n, *F) of all the samples."""
        return self.rows.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Dtype of the samples, in native byte order."""
        return self.rows.dtype.newbyteorder("=")

    def read(self, lo: int = 0, hi: int | None = None) -> NDArray[Any]:
        """Samples lo to hi, all by default; no more than these are brought into memory.

        Raises
        ------
        LogError
            If the file is damaged there.
        """
        return self.rows[lo:hi].astype(self.dtype, copy=False)

    @property
    def values(self) -> NDArray[Any]:
        """All the samples: `read` with no bounds."""
        return self.read()


@dataclass(frozen=True, eq=False)
class Log:
    """An opened log.

    Parameters
    ----------
    path : Path
        The file, or the directory of a ROS 2 bag.
    format : str
        "HDF5", "robosuite HDF5", "ROS 1 bag", "ROS 2 bag (SQLite)", "ROS 2 bag (MCAP)" or "text".
    streams : dict of str to Stream
        Everything numeric in it.
    skipped : dict of str to str
        What is in the file and not in `streams`, with the reason: topics, and fields of topics
        as ``topic.field``.
    notes : tuple of str
        What a reader had to decide, a line each: where stamps come from that the file does not
        have, or which of several episodes this is.

    Examples
    --------
    >>> from robocache_cupy import logs
    >>> log = logs.open(logs.DEMO)
    >>> print(log)  # doctest: +ELLIPSIS
    /...franka_multirate.hdf5 (HDF5)
    stream       kind     dtype      shape  samples  seconds      Hz  longest gap ms  ...
    agent_depth  depth    uint16   120x160      169    5.985   29.42           305.6  ...
    ...
    """

    path: Path
    format: str
    streams: Mapping[str, Stream]
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return "\n".join([self._title(), _text(self.streams.values())])

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(self._title())}</p>{_html(self.streams.values())}"

    def _title(self) -> str:
        out = f", {len(self.skipped)} left out: see .skipped" if self.skipped else ""
        return f"{self.path} ({self.format}{out})"


_HEADINGS = ("stream", "kind", "dtype", "shape", "samples", "seconds", "Hz", "longest gap ms",
             "latency ms", "unit")  # fmt: skip
_LEFT = 3  # columns of words


def _text(streams: Iterable[Stream]) -> str:
    return text_table(_HEADINGS, map(_cells, streams), left=_LEFT)


def _html(streams: Iterable[Stream]) -> str:
    return html_table(_HEADINGS, map(_cells, streams), left=_LEFT)


def _cells(stream: Stream) -> tuple[str, ...]:
    clock = timing(stream.times)
    known = stream.times[stream.times != np.iinfo(np.int64).min]  # NaT
    seconds = (int(known.max()) - int(known.min())) / 1e9 if len(known) else math.nan
    figures = (
        f"{x:{form}}" if math.isfinite(x) else "-"
        for x, form in ((seconds, ".3f"), (clock.rate, ".2f"), (clock.longest_gap, ".1f"))
    )
    return (
        stream.name, stream.kind, stream.dtype.name, "x".join(map(str, stream.shape[1:])) or "-",
        str(len(stream)), *figures, f"{1e3 * stream.latency:.6g}", stream.unit or "-",
    )  # fmt: skip


class Progress(Protocol):
    """Called now and then by a reader that takes its time: how much of how much is done."""

    def __call__(self, done: int, total: int, /) -> None: ...


def require(module: str) -> Any:
    """Import a module that only the extra "logs" installs."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise LogError(f"{package} is missing: pip install 'robocache-cupy[logs]'") from error


def one_line(error: BaseException, limit: int = 160) -> str:
    """The text of an error, or its type where it has none, short and on one line."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= limit else f"{text[:limit]}..."
