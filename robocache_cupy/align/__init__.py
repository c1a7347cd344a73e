"""``robocache align``: the streams of a log, or of several, on one clock."""

from __future__ import annotations

import fnmatch
import math
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import logs
from ..logs import Log, Stream
from . import figure
from .chunks import Aligned, Device, Sorted, align_piece, device_of
from .clock import Clock, clock_at, clock_of
from .error import CommandError
from .methods import Method, asked_methods, method_of
from .output import FIGURES, check_npz, replacing, write_array
from .progress import Bar, Stopwatch
from .table import console, table

__all__ = ["CommandError", "Options", "align"]


@dataclass(frozen=True)
class Options:
    """What `align` is asked for."""

    paths: Sequence[Path]
    output: Path
    hz: float | None = None  #: 30 by default
    clock: str | None = None  #: or the stream whose stamps are the clock
    union: bool = False  #: from the first stamp of all to the last, not what all have in common
    streams: Sequence[str] = ()  #: all by default; names, or patterns such as "arm*"
    skip: Sequence[str] = ()
    methods: Sequence[str] = ()  #: NAME=METHOD
    max_gap: float | None = None  #: seconds
    plot: Path | None = None
    log_time: bool = False
    episode: str | None = None
    backend: str = "auto"


def align(options: Options) -> None:
    """Put the streams on one clock, write them, and print a table of them.

    The .npz has ``times`` in int64 ns and, for each stream, its samples under its name and whether
    they are real under ``name/valid``. It appears when it is complete. No more of a stream is in
    memory than a piece of `chunks.BYTES`, its stamps and its mask.

    Raises
    ------
    LogError, CommandError
        With the one line to show.
    """
    _check(options)
    out = console()
    work = _Work(options, device_of(options.backend))
    with replacing(options.output, "-o") as file, Bar() as bar:  # lest the work be in vain
        work.bar = bar
        with work.reading:
            log = _opened(options, bar)
        streams = _chosen(log, options)
        methods = _methods(streams, options)
        try:
            clock = _clock(streams, options)
        except CommandError:
            out.print(table(_title(log), streams, methods, {}))
            raise
        with zipfile.ZipFile(file, "w") as archive:
            work.write(archive, streams, methods, clock)
    if options.plot is not None:
        form = options.plot.suffix[1:]
        with replacing(options.plot, "--plot") as file:
            count = sum(len(stream) > 0 for stream in streams.values())
            figure.draw(file, form, log.path.name, work.sketches, count, clock, work.zoom)
    out.print(table(_title(log), streams, methods, work.shares))
    for line in (*_remarks(log, streams, options), *work.summary(clock)):
        out.print(line)


def _check(options: Options) -> None:
    if options.hz is not None and not (math.isfinite(options.hz) and options.hz > 0):
        raise CommandError(f"--hz must be positive and finite, got {options.hz:g}")
    if options.hz is not None and options.clock is not None:
        raise CommandError("--hz and --clock are two clocks: give one")
    if options.max_gap is not None and not (math.isfinite(options.max_gap) and options.max_gap > 0):
        raise CommandError(f"--max-gap must be positive and finite, got {options.max_gap:g}")
    check_npz(options.output)
    if options.plot is not None:
        if options.plot.suffix not in FIGURES:
            raise CommandError(f"--plot {options.plot}: expected a name in {', '.join(FIGURES)}")
        figure.require_matplotlib()


# --- The log


def _opened(options: Options, bar: Bar) -> Log:
    opened = []
    for path in options.paths:

        def progress(done: int, total: int, what: str = f"reading {path.name}") -> None:
            bar.show(what, done, total)

        opened.append(
            logs.open(path, log_time=options.log_time, episode=options.episode, progress=progress)
        )
    return opened[0] if len(opened) == 1 else _joined(opened)


def _joined(opened: Sequence[Log]) -> Log:
    """Several logs as one. Where two have a stream of the same name, it gets that of its file."""
    names = [name for log in opened for name in log.streams]
    streams: dict[str, Stream] = {}
    skipped: dict[str, str] = {}
    for log, label in zip(opened, _labels([log.path for log in opened]), strict=True):
        for name, stream in log.streams.items():
            new = name
            if names.count(name) > 1:
                new = label if name == log.path.stem else f"{label}/{name.lstrip('/')}"
            streams[new] = replace(stream, name=new)
        skipped.update({f"{label}: {name}": reason for name, reason in log.skipped.items()})
    if len(streams) < len(names):
        raise CommandError("two of the logs have streams of the same name: rename the files")
    path = Path(" + ".join(dict.fromkeys(log.path.name for log in opened)))
    forms = ", ".join(dict.fromkeys(log.format for log in opened))
    return Log(path, forms, streams, skipped, tuple(note for log in opened for note in log.notes))


def _labels(paths: Sequence[Path]) -> list[str]:
    """The stems of the files, with as many directories before them as tell them apart."""
    labels = [path.stem for path in paths]
    for depth in range(2, max(len(path.parts) for path in paths) + 1):
        if len(set(labels)) == len(labels):
            break
        labels = ["/".join(path.with_suffix("").parts[-depth:]) for path in paths]
    return labels


def _chosen(log: Log, options: Options) -> dict[str, Stream]:
    wanted = _matching(log, options.streams, "--streams") if options.streams else set(log.streams)
    unwanted = _matching(log, options.skip, "--skip")
    streams = {name: s for name, s in log.streams.items() if name in wanted - unwanted}
    if not streams:
        raise CommandError(f"no stream of {log.path} is left")
    keys = ["times", *streams, *(f"{name}/valid" for name in streams)]
    if twice := [key for key in streams if keys.count(key) > 1]:
        raise CommandError(
            f"{log.path}: the name of stream {twice[0]} is taken in the output: "
            f"leave it out with --skip {twice[0]}"
        )
    return streams


def _matching(log: Log, patterns: Sequence[str], option: str) -> set[str]:
    """The streams that the names or patterns mean."""
    found: set[str] = set()
    for pattern in patterns:
        names = {pattern} & set(log.streams) or set(fnmatch.filter(log.streams, pattern))
        if not names:
            raise CommandError(
                f"{option} {pattern}: {log.path} has no such stream, only {', '.join(log.streams)}"
            )
        found |= names
    return found


def _methods(streams: Mapping[str, Stream], options: Options) -> dict[str, Method]:
    asked = asked_methods(options.methods, streams)
    return {name: method_of(stream, asked.get(name)) for name, stream in streams.items()}


def _clock(streams: Mapping[str, Stream], options: Options) -> Clock:
    if options.clock is not None:
        return clock_of(streams, options.clock, union=options.union)
    return clock_at(streams, 30.0 if options.hz is None else options.hz, union=options.union)


# --- The work


@dataclass
class _Work:
    options: Options
    device: Device
    reading: Stopwatch = field(default_factory=Stopwatch)
    starting: Stopwatch = field(default_factory=Stopwatch)
    aligning: Stopwatch = field(default_factory=Stopwatch)
    shares: dict[str, str] = field(default_factory=dict)
    sketches: list[figure.Sketch] = field(default_factory=list)
    bar: Bar = field(init=False)
    zoom: figure.Zoom = field(init=False)

    def write(
        self,
        archive: zipfile.ZipFile,
        streams: Mapping[str, Stream],
        methods: Mapping[str, Method],
        clock: Clock,
    ) -> None:
        write_array(archive, "times", clock.times.shape, clock.times.dtype, [clock.times])
        streams = {name: stream for name, stream in streams.items() if len(stream)}
        if self.options.plot is not None:
            self.zoom = figure.zoom_of([Sorted(stream) for stream in streams.values()], clock)
        for number, (name, stream) in enumerate(streams.items()):
            valid = np.empty(len(clock.times), np.bool_)
            shape = (len(clock.times), *stream.shape[1:])
            parts = self._parts(stream, methods[name], clock, valid, number, len(streams))
            write_array(archive, name, shape, methods[name].dtype, parts)
            write_array(archive, f"{name}/valid", valid.shape, valid.dtype, [valid])
            self.shares[name] = f"{valid.mean():.1%}"

    def _parts(
        self,
        stream: Stream,
        method: Method,
        clock: Clock,
        valid: NDArray[np.bool_],
        number: int,
        count: int,
    ) -> Iterator[NDArray[Any]]:
        """The aligned samples, piece by piece; the masks are put into `valid`."""
        source = Sorted(stream)
        sketch = None
        if self.options.plot is not None and number < figure.MOST_STREAMS:
            sketch = figure.Sketch(stream, source, method, clock, self.zoom)
            self.sketches.append(sketch)
        row_bytes = math.prod(stream.shape[1:]) * method.dtype.itemsize
        pieces = source.pieces(clock.times, row_bytes)
        which = sketch is not None and sketch.frames

        def aligned_at(times: NDArray[np.int64], values: NDArray[Any], at: slice) -> Aligned:
            return align_piece(
                stream, method, times, values, clock.times[at], self.device,
                max_gap=self.options.max_gap, which=which,
            )  # fmt: skip

        while True:
            with self.reading:
                piece = next(pieces, None)
            if piece is None:
                break
            if piece.targets.start == 0:
                with self.starting:  # a first call loads or compiles what the others run
                    aligned_at(source.times[:1], piece.values[:1], slice(1))
            with self.aligning:
                aligned = aligned_at(source.times[piece.samples], piece.values, piece.targets)
            valid[piece.targets] = aligned.valid
            if sketch is not None:
                sketch.add(piece, clock.times[piece.targets], aligned)
            done = number + piece.targets.stop / len(clock.times)
            self.bar.show("aligning", done, count)
            yield aligned.values

    def summary(self, clock: Clock) -> Iterator[str]:
        yield (
            f"{len(clock.times)} rows at {clock.name} from {clock.times[0] / 1e9:.3f} s on, "
            f"over {(clock.times[-1] - clock.times[0]) / 1e9:.3f} s"
        )
        yield (
            f"read in {self.reading.seconds:.2f} s, aligned in {self.aligning.seconds:.2f} s by "
            f"{self.device.name}, after {self.starting.seconds:.2f} s of loading and compiling"
        )
        for path in (self.options.output, self.options.plot):
            if path is not None:
                yield f"wrote {path} ({path.stat().st_size / 1e6:.1f} MB)"


# --- What is said


def _title(log: Log) -> str:
    return f"{log.path} ({log.format})"


def _remarks(log: Log, streams: Mapping[str, Stream], options: Options) -> Iterator[str]:
    yield from log.notes
    for name, reason in log.skipped.items():
        yield f"left out {name}: {reason}"
    unstamped = [name for name, stream in streams.items() if stream.attrs.get("clock") == "log"]
    if unstamped and not options.log_time:
        yield f"no header stamps, so by time of recording: {', '.join(unstamped)}"
