"""``robocache align``: the streams of a log, or of several, on one clock."""

from __future__ import annotations

import fnmatch
import itertools
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
from .chunks import Aligned, Device, Part, Sorted, align_pieces, device_of, together
from .clock import Clock, clock_at, clock_of
from .error import CommandError
from .methods import Method, asked_methods, assignments, method_of
from .output import FIGURES, check_npz, replacing, write_array
from .progress import Bar, Stopwatch
from .table import console, table

__all__ = ["CommandError", "Options", "align"]


_MOST_LATENCY = 1e6  # seconds


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
    latencies: Sequence[str] = ()  #: NAME=SECONDS
    max_gap: float | None = None  #: seconds
    plot: Path | None = None
    log_time: bool = False
    episode: str | None = None
    backend: str = "auto"


def align(options: Options) -> None:
    """Put the streams on one clock, write them, and print a table of them.

    The .npz has ``times`` in int64 ns and, for each stream, its samples under its name and whether
    they are real under ``name/valid``. It appears when it is complete. No more of all streams is in
    memory than `chunks.BYTES` of samples and of results, their stamps and their masks.

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
        streams = _late(_chosen(log, options), options)
        methods = _methods(streams, options)
        try:
            clock = _clock(streams, options)
        except CommandError:
            out.print(table(_title(log), streams, methods, {}))
            raise
        _check_rows(clock, methods)
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


def _late(streams: Mapping[str, Stream], options: Options) -> dict[str, Stream]:
    """The streams with the latencies that are asked for."""
    found = dict(streams)
    for option, name, text in assignments("--latency", options.latencies, "SECONDS", streams):
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if not abs(seconds) < _MOST_LATENCY:  # NaN is not, either
            raise CommandError(f"{option}: expected seconds, fewer than {_MOST_LATENCY:g}")
        found[name] = replace(found[name], latency=seconds)
    return found


def _methods(streams: Mapping[str, Stream], options: Options) -> dict[str, Method]:
    asked = asked_methods(options.methods, streams)
    return {name: method_of(stream, asked.get(name)) for name, stream in streams.items()}


def _clock(streams: Mapping[str, Stream], options: Options) -> Clock:
    if options.clock is not None:
        return clock_of(streams, options.clock, union=options.union)
    return clock_at(streams, 30.0 if options.hz is None else options.hz, union=options.union)


def _check_rows(clock: Clock, methods: Mapping[str, Method]) -> None:
    for name, method in methods.items():
        if method.reduces and len(clock.times) < 2:
            raise CommandError(
                f"--method {name}={method.name}: it takes the samples between rows, and there is "
                "one row: raise --hz"
            )


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
    count: int = 0
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
        done, self.count = 0, len(streams)
        for names in together(streams, methods, len(clock.times)):
            rounds = self._rounds([streams[name] for name in names], methods, clock, done)
            first = next(rounds)
            more: Iterator[list[Aligned]] = rounds if len(names) == 1 else iter(())
            for number, name in enumerate(names):
                shape = (len(clock.times), *streams[name].shape[1:])
                valid: list[NDArray[np.bool_]] = []
                parts = (_noted(r[number], valid) for r in itertools.chain([first], more))
                write_array(archive, name, shape, methods[name].dtype, parts)
                write_array(archive, f"{name}/valid", shape[:1], np.dtype(np.bool_), valid)
                self.shares[name] = f"{np.concatenate(valid).mean():.1%}"
            done += len(names)
            self.bar.show("aligning", done, self.count)

    def _rounds(
        self, streams: Sequence[Stream], methods: Mapping[str, Method], clock: Clock, number: int
    ) -> Iterator[list[Aligned]]:
        """A piece of each stream after another; of several streams all is one piece."""
        sources = [Sorted(stream) for stream in streams]
        sketches: list[figure.Sketch | None] = [None] * len(streams)
        if self.options.plot is not None:
            for i in range(min(len(streams), figure.MOST_STREAMS - len(self.sketches))):
                method = methods[streams[i].name]
                sketch = figure.Sketch(streams[i], sources[i], method, clock, self.zoom)
                sketches[i] = sketch
                self.sketches.append(sketch)
        pieces = zip(
            *(source.pieces(clock.times, methods[source.stream.name]) for source in sources),
            strict=True,
        )
        while True:
            with self.reading:
                round_ = next(pieces, None)
            if round_ is None:
                break
            parts = [
                Part(s, methods[s.name], piece, drawn is not None and drawn.frames)
                for s, piece, drawn in zip(streams, round_, sketches, strict=True)
            ]
            if parts[0].piece.targets.start == 0:
                # A first call loads or compiles what the others run.
                with self.starting, self.bar.meanwhile("compiling, once on this machine"):
                    self._align([_little(part) for part in parts], clock)
            with self.aligning:
                made = self._align(parts, clock)
            targets = parts[0].piece.targets
            for part, drawn, aligned in zip(parts, sketches, made, strict=True):
                if drawn is not None:
                    drawn.add(part.piece, clock.times[targets], aligned)
            if len(streams) == 1:
                self.bar.show("aligning", number + targets.stop / len(clock.times), self.count)
            yield made

    def _align(self, parts: Sequence[Part], clock: Clock) -> list[Aligned]:
        return align_pieces(parts, clock.times, self.device, max_gap=self.options.max_gap)

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


def _noted(aligned: Aligned, valid: list[NDArray[np.bool_]]) -> NDArray[Any]:
    """The values; the mask is noted."""
    valid.append(aligned.valid)
    return aligned.values


def _little(part: Part) -> Part:
    """Two targets and the first sample."""
    piece = part.piece
    few = piece._replace(
        targets=slice(0, min(2, piece.targets.stop)), values=piece.values[:1], times=piece.times[:1]
    )
    return part._replace(piece=few)


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
