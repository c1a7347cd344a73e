"""The command ``robocache``."""

from __future__ import annotations

import argparse
import math
import os
import sys
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import logs
from .logs import Log, LogError, Stream
from .logs.stream import one_line, require
from .resample import resample_trajectories

_MOST_ROWS = 100_000_000  # a month at 30 Hz; more means that a stamp is wrong


class CommandError(Exception):
    """What a user asked for and cannot have, in one line."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; the result is the exit code.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the name of the program; those of the process by default.

    Returns
    -------
    int
        0, or 2 after an error (which is one line on stderr), or 130 after Ctrl-C.
    """
    arguments = _parser().parse_args(argv)
    try:
        align(
            arguments.log,
            hz=arguments.hz,
            output=arguments.output,
            log_time=arguments.log_time,
            backend=arguments.backend,
            skip=arguments.skip,
        )
    except (CommandError, LogError) as error:
        print(f"robocache: {error}", file=sys.stderr)
        return 2
    except MemoryError:
        print("robocache: not enough memory: lower --hz, or --skip a stream", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("robocache: interrupted", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="robocache", description="Robot logs onto one clock.")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    command = commands.add_parser(
        "align",
        help="put all the streams of a log on one clock",
        description="Put all the numeric streams of a log on one clock, from the latest first "
        "stamp to the earliest last one: linear for floats, nearest for integers, orientations "
        "and images. The result has the array 'times' (int64 ns) and, for each stream, NAME and "
        "NAME/valid.",
    )
    command.add_argument(
        "log",
        nargs="?",
        type=Path,
        default=logs.DEMO,
        help="HDF5, ROS 1 bag, ROS 2 bag (file or directory); default: the log of a robot arm "
        "that comes with the package",
    )
    command.add_argument("--hz", type=float, default=30.0, help="rate of the clock; default: 30")
    command.add_argument(
        "-o",
        "--output",
        type=Path,
        default=Path("aligned.npz"),
        metavar="FILE",
        help="default: aligned.npz; an older one is replaced",
    )
    command.add_argument(
        "--log-time",
        action="store_true",
        help="go by the time at which a ROS message was recorded, not by that in its header",
    )
    command.add_argument(
        "--skip", action="append", default=[], metavar="NAME", help="leave this stream out"
    )
    command.add_argument(
        "--backend",
        choices=["auto", "cuda", "numba"],
        default="auto",
        help="what computes; default: the GPU where there are one and CuPy",
    )
    return parser


def align(
    path: Path,
    *,
    hz: float = 30.0,
    output: Path,
    log_time: bool = False,
    backend: str = "auto",
    skip: Sequence[str] = (),
) -> None:
    """Put all the numeric streams of a log on one clock, write them, and print a table of them.

    Parameters
    ----------
    path : Path
        The log; see `robocache_cupy.logs.open`.
    hz : float
        Rate of the clock.
    output : Path
        The .npz to write: ``times`` in int64 ns and, for each stream, its samples under its name
        and whether they are real under ``name/valid``. It appears when it is complete.
    log_time : bool
        Take the time of recording for ROS messages.
    backend : str
        "auto", "cuda" or "numba".
    skip : sequence of str
        Names of streams to leave out.

    Raises
    ------
    LogError, CommandError
        With the one line to show.
    """
    if not (math.isfinite(hz) and hz > 0):
        raise CommandError(f"--hz must be positive and finite, got {hz:g}")
    console = require("rich.console").Console(markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = 160  # a file has room
    device = _device(backend)

    reading, aligning = _Stopwatch(), _Stopwatch()
    shares: dict[str, str] = {}
    with _replacing(output) as file:  # first of all, lest the work be in vain
        with reading:
            log = logs.open(path, log_time=log_time)
        streams = _without(log, skip)
        try:
            clock = _common_clock(streams, hz)
        except CommandError:
            console.print(_table(log, streams, shares))
            raise
        with zipfile.ZipFile(file, "w") as archive:
            _write(archive, "times", clock.times)
            for name, stream in streams.items():
                if not len(stream):
                    continue
                with reading:
                    times, values = _in_order(stream)
                with aligning:
                    aligned, valid = _resample(stream, times, values, clock, device)
                _write(archive, name, aligned)
                _write(archive, f"{name}/valid", valid)
                shares[name] = f"{valid.mean():.1%}"
    console.print(_table(log, streams, shares))
    for name, reason in log.skipped.items():
        console.print(f"left out {name}: {reason}")
    unstamped = [name for name, stream in streams.items() if stream.attrs.get("clock") == "log"]
    if unstamped and not log_time:
        console.print(f"no header stamps, so by time of recording: {', '.join(unstamped)}")
    console.print(
        f"{clock.num} rows at {hz:g} Hz from {clock.start / 1e9:.3f} s on\n"
        f"read in {reading.seconds:.2f} s, aligned in {aligning.seconds:.2f} s by {device.name}\n"
        f"wrote {output} ({output.stat().st_size / 1e6:.1f} MB)"
    )


class _Stopwatch:
    seconds = 0.0

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self.seconds += time.perf_counter() - self._started


@contextmanager
def _replacing(output: Path) -> Iterator[BinaryIO]:
    """A file that takes the place of `output` when the block has ended without an error."""
    target = Path(os.path.realpath(output))
    if target.exists() and not target.is_file():
        raise CommandError(f"{output} is not a regular file: name another with -o")
    part = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        if target.exists() and not _is_npz(target):
            raise CommandError(f"{output} is there and no .npz: name another file with -o")
        with part.open("wb") as file:
            yield file
        part.replace(target)
    except OSError as error:
        raise CommandError(
            f"{output} cannot be written ({error.strerror or error}): name another file with -o"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _is_npz(path: Path) -> bool:
    """Whether a file may be replaced: a slip of the hand must not cost a log."""
    with path.open("rb") as file:
        return file.read(2) in (b"PK", b"")


def _without(log: Log, skip: Sequence[str]) -> dict[str, Stream]:
    if unknown := [name for name in skip if name not in log.streams]:
        raise CommandError(
            f"{log.path} has no stream {', '.join(unknown)} to skip, only {', '.join(log.streams)}"
        )
    streams = {name: stream for name, stream in log.streams.items() if name not in skip}
    keys = ["times", *streams, *(f"{name}/valid" for name in streams)]
    if twice := [key for key in streams if keys.count(key) > 1]:
        raise CommandError(
            f"{log.path}: the name of stream {twice[0]} is taken in the output: "
            f"leave it out with --skip {twice[0]}"
        )
    return streams


class _Clock(NamedTuple):
    start: int  # ns
    hz: float
    num: int

    @property
    def times(self) -> NDArray[np.int64]:
        return self.start + np.rint(np.arange(self.num) * 1e9 / self.hz).astype(np.int64)


def _common_clock(streams: Mapping[str, Stream], hz: float) -> _Clock:
    """The clock over the time that all streams have in common."""
    spans: dict[str, tuple[int, int]] = {}
    for name, stream in streams.items():
        if len(stream):
            late = round(stream.latency * 1e9)
            spans[name] = int(stream.times.min()) - late, int(stream.times.max()) - late
    # A stream of one stamp, such as a transform that never changes, must not end the clock.
    spans = {name: span for name, span in spans.items() if span[0] < span[1]} or spans
    if not spans:
        raise CommandError("no stream has samples: there is nothing to align")
    latest = max(spans, key=lambda name: spans[name][0])
    earliest = min(spans, key=lambda name: spans[name][1])
    start, end = spans[latest][0], spans[earliest][1]
    if end < start:
        raise CommandError(
            f"no moment is common to all streams: {latest} begins {(start - end) / 1e9:.3f} s "
            f"after {earliest} has ended; leave one out with --skip, or try --log-time if its "
            "headers have another epoch"
        )
    steps = (end - start) * hz / 1e9
    if steps >= _MOST_ROWS:
        raise CommandError(
            f"{(end - start) / 1e9:.6g} s at {hz:g} Hz are more than {_MOST_ROWS:,} rows: lower "
            "--hz, or leave out a stream with wrong stamps with --skip"
        )
    return _Clock(start, hz, math.floor(steps) + 1)


def _in_order(stream: Stream) -> tuple[NDArray[np.int64], NDArray[Any]]:
    keep = logs.clean(stream.times)
    return stream.times[keep], stream.read()[keep]


class _Device(NamedTuple):
    name: str
    backend: str
    put: Callable[[Any], Any]
    get: Callable[[Any], Any]


def _device(backend: str) -> _Device:
    if backend != "numba":
        try:
            cupy = import_module("cupy")
        except ImportError as error:
            if backend == "cuda":
                raise CommandError(
                    f"--backend cuda needs CuPy ({one_line(error)}): "
                    "pip install 'robocache-cupy[cuda12]'"
                ) from error
        else:
            if cupy.cuda.is_available():
                name = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)["name"]
                return _Device(f"cuda on {name.decode()}", "cuda", cupy.asarray, cupy.asnumpy)
            if backend == "cuda":
                raise CommandError("--backend cuda needs a GPU, and CuPy finds none")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return _Device(f"numba on {cores} cores", "numba", np.asarray, np.asarray)


def _methods(stream: Stream) -> dict[str, Any]:
    """Which columns to align by which method."""
    if stream.kind == "vector" and stream.dtype.kind == "f":
        if not stream.discrete:
            return {"linear": slice(None)}
        smooth = np.setdiff1d(np.arange(stream.shape[-1]), stream.discrete)
        if smooth.size:
            return {"linear": smooth, "nearest": np.array(stream.discrete)}
    return {"nearest": slice(None)}


def _resample(
    stream: Stream, times: NDArray[np.int64], values: NDArray[Any], clock: _Clock, device: _Device
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    # Flat, because samples of two or more axes could be taken for a batch of trajectories.
    flat = values.reshape(len(values), math.prod(values.shape[1:]))
    aligned = np.empty((clock.num, flat.shape[1]), values.dtype)
    valid = np.ones(clock.num, np.bool_)
    for method, columns in _methods(stream).items():
        part, part_valid = resample_trajectories(
            device.put(flat[:, columns]),
            device.put(times),
            hz=clock.hz,
            t_start=clock.start,
            num=clock.num,
            method=method,
            latency=stream.latency,
            return_valid=True,
            backend=device.backend,
        )
        aligned[:, columns] = device.get(part)
        valid &= device.get(part_valid)
    return aligned.reshape(clock.num, *values.shape[1:]), valid


def _write(archive: zipfile.ZipFile, name: str, array: NDArray[Any]) -> None:
    """Add an array as `numpy.savez` does, but without holding the others in memory."""
    with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as file:
        np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)


def _table(log: Log, streams: Mapping[str, Stream], shares: Mapping[str, str]) -> Any:
    table = require("rich.table").Table(
        title=f"{log.path} ({log.format})",
        caption="jitter (median and 99th percentile) and longest gap in ms",
        box=require("rich.box").SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
    )
    table.add_column("stream", overflow="fold")
    for heading in ("shape", "samples", "Hz", "jitter", "p99", "gap", "dup", "back", "method"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    table.add_column("valid", justify="right")
    for name, stream in streams.items():
        clock = logs.timing(stream.times)
        table.add_row(
            name,
            "x".join(map(str, stream.shape[1:])),
            str(clock.samples),
            _number(clock.rate, 1),
            _number(clock.jitter_p50, 2),
            _number(clock.jitter_p99, 2),
            _number(clock.longest_gap, 1),
            str(clock.duplicates),
            str(clock.backward_steps),
            ", ".join(_methods(stream)),
            shares.get(name, "-"),
        )
    return table


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
