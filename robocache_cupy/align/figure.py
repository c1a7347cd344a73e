"""The picture of an alignment: the samples of each stream, and what became of them."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..logs import Stream
from ..logs.stream import LogError
from ..viz import LONG_GAP, RAW, add_curve, legend_handles, shade_gaps, shade_invalid
from .chunks import Aligned, Piece, Sorted
from .clock import Clock
from .methods import Method

MOST_STREAMS = 12
_MOST_CURVES = 3
_MOST_COLUMNS = 32  # to choose the curves from
_WIDE = 128  # columns of which neighbours look the same, such as those of a scan
_MOST_POINTS = 20_000  # of a curve; a page has fewer
_FLAT = 12.0  # a curve with less than one part in this of its axis
_ZOOM_TARGETS = 16


def require_matplotlib() -> None:
    """Fail early where the extra is missing."""
    try:
        importlib.import_module("matplotlib.figure")
    except ImportError as error:
        raise LogError("matplotlib is missing: pip install 'robocache-cupy[viz]'") from error


class Zoom(NamedTuple):
    """The time that is drawn large, in ns."""

    start: int
    end: int


def zoom_of(sources: Sequence[Sorted], clock: Clock) -> Zoom:
    """A few targets around the longest gap, in steps of its stream; else in the middle."""
    first, last = int(clock.times[0]), int(clock.times[-1])
    middle, longest = (first + last) // 2, LONG_GAP
    slowest = 0.0
    for source in sources:
        steps = np.diff(source.effective)
        if not len(steps):
            continue
        median = float(np.median(steps))
        slowest = max(slowest, median)
        inside = (source.effective[:-1] >= first) & (source.effective[1:] <= last)
        if inside.any():
            gap = int(np.where(inside, steps, 0).argmax())
            if steps[gap] > longest * median:
                longest = steps[gap] / median
                middle = int(source.effective[gap] + steps[gap] // 2)
    step = float(np.median(np.diff(clock.times))) if len(clock.times) > 1 else 1e9
    width = min(max(_ZOOM_TARGETS * step, min(3 * slowest, 4 * _ZOOM_TARGETS * step)), last - first)
    start = min(max(middle - width / 2, first), last - width)
    return Zoom(int(start), int(start + width))


class Sketch:
    """What is drawn of a stream, collected while it is aligned."""

    def __init__(self, stream: Stream, source: Sorted, method: Method, clock: Clock, zoom: Zoom):
        self.stream, self.source, self.method = stream, source, method
        self.frames = _is_frames(stream)
        total = 0 if self.frames else math.prod(stream.shape[1:])
        self.columns = np.arange(min(total, _MOST_COLUMNS))
        if total > _WIDE:
            self.columns = np.linspace(0, total - 1, _MOST_COLUMNS).astype(int)
        self._sample_kept = _kept(source.effective, zoom)
        self._target_kept = _kept(clock.times, zoom)
        self._next_sample = 0
        self.raw_times: list[NDArray[np.int64]] = []
        self.raw: list[NDArray[Any]] = []
        self.times: list[NDArray[np.int64]] = []
        self.values: list[NDArray[Any]] = []
        self.valid: list[NDArray[np.bool_]] = []

    def add(self, piece: Piece, targets: NDArray[np.int64], aligned: Aligned) -> None:
        """Keep what is drawn of a piece."""
        start = max(piece.samples.start, self._next_sample)
        self._next_sample = piece.samples.stop
        kept = start + np.flatnonzero(self._sample_kept[start : piece.samples.stop])
        self.raw_times.append(self.source.effective[kept])
        self.raw.append(self._flat(piece.values)[kept - piece.samples.start])
        chosen = self._target_kept[piece.targets]
        self.times.append(targets[chosen])
        self.valid.append(aligned.valid[chosen])
        if aligned.taken is not None:
            self.values.append((targets - aligned.taken)[chosen, None] / 1e6)
        else:
            self.values.append(self._flat(aligned.values)[chosen])

    def _flat(self, values: NDArray[Any]) -> NDArray[Any]:
        return values.reshape(len(values), -1)[:, self.columns].astype(np.float64)


def _is_frames(stream: Stream) -> bool:
    return stream.kind in ("depth", "image") or math.prod(stream.shape[1:3]) > 64 < len(
        stream.shape
    )


def _kept(times: NDArray[np.int64], zoom: Zoom) -> NDArray[np.bool_]:
    kept = (times >= zoom.start) & (times <= zoom.end)
    kept[:: -(-len(times) // _MOST_POINTS) or 1] = True
    return kept


def draw(
    file: BinaryIO,
    form: str,
    title: str,
    shown: Sequence[Sketch],
    count: int,
    clock: Clock,
    zoom: Zoom,
) -> None:
    """Write the figure: a row for each stream shown of `count`, with a part of it enlarged."""
    figures = importlib.import_module("matplotlib.figure")
    agg = importlib.import_module("matplotlib.backends.backend_agg")
    height = 0.9 + len(shown) * (1.5 if len(shown) <= 8 else 1.2)
    figure = figures.Figure(figsize=(13, height), dpi=110, layout="constrained")
    agg.FigureCanvasAgg(figure)
    axes = figure.subplots(
        len(shown), 2, sharex="col", squeeze=False, gridspec_kw={"width_ratios": [2.6, 1]}
    )
    origin = int(clock.times[0])
    length = max((int(clock.times[-1]) - origin) / 1e9, 1e-9)
    for sketch, (whole, part) in zip(shown, axes, strict=True):
        _row(sketch, whole, part, clock, zoom)
    axes[0, 0].set_xlim(-0.005 * length, 1.005 * length)
    near = (zoom.start - origin) / 1e9, max((zoom.end - origin) / 1e9, 1e-9)
    axes[0, 1].set_xlim(*near)
    for whole, _ in axes:
        for edge in near:
            whole.axvline(edge, color="0.6", linewidth=0.7, linestyle=":")
    axes[-1, 0].set_xlabel("seconds from the first row")
    axes[-1, 1].set_xlabel(f"seconds: {near[0]:.4g} to {near[1]:.4g}, enlarged")
    _heading(figure, title, len(shown), count, clock)
    figure.savefig(file, format=form)


def _heading(figure: Any, title: str, shown: int, count: int, clock: Clock) -> None:
    start = datetime.fromtimestamp(int(clock.times[0]) // 10**9, timezone.utc)
    seconds = (int(clock.times[-1]) - int(clock.times[0])) / 1e9
    when = f" from {start:%Y-%m-%d %H:%M:%S} UTC" if start.year > 1980 else ""
    of = f", {shown} of {count} streams (--streams chooses)" if shown < count else ""
    figure.suptitle(
        f"{title}: {len(clock.times):,} rows at {clock.name}, {seconds:.4g} s{when}{of}",
        fontsize=11,
    )
    figure.legend(
        handles=legend_handles(),
        loc="outside lower center",
        ncols=4,
        fontsize=8,
        frameon=False,
    )


_NAMES = {
    "quat_xyzw": ("qx", "qy", "qz", "qw"),
    "quat_wxyz": ("qw", "qx", "qy", "qz"),
    "pos_quat_xyzw": ("x", "y", "z", "qx", "qy", "qz", "qw"),
    "pos_quat_wxyz": ("x", "y", "z", "qw", "qx", "qy", "qz"),
}


class _Curve(NamedTuple):
    label: str
    samples: NDArray[np.float64] | None  #: what is in the log
    aligned: NDArray[np.float64]


def _row(sketch: Sketch, whole: Any, part: Any, clock: Clock, zoom: Zoom) -> None:
    """Draw a stream on both of its axes."""
    origin = clock.times[0]
    raw_times, times = np.concatenate(sketch.raw_times), np.concatenate(sketch.times)
    valid = np.concatenate(sketch.valid)
    aligned = np.where(valid[:, None], np.concatenate(sketch.values), np.nan)
    curves, what = _curves_of(sketch, aligned)
    for axis, span in ((whole, None), (part, zoom)):
        seen, at = _within(raw_times, span), _within(times, span)
        x_raw, x = (raw_times[seen] - origin) / 1e9, (times[at] - origin) / 1e9
        inside = [
            _Curve(c.label, None if c.samples is None else c.samples[seen], c.aligned[at])
            for c in curves
        ]
        if sketch.frames:
            axis.plot(
                x_raw, np.full(len(x_raw), 0.03), transform=axis.get_xaxis_transform(),
                color=RAW, linestyle="none", marker="|", markersize=5,
            )  # fmt: skip
        elif _differ([c.samples for c in inside if c.samples is not None]):
            inside = [_scaled(curve) for curve in inside]
            axis.set_yticks([])
            axis.set_ylabel("each scaled", fontsize=7)
        elif axis is part and whole.get_yticks().size and not any(map(_moves, inside)):
            axis.set_ylim(whole.get_ylim())
        if axis is whole and not axis.get_ylabel():
            axis.set_ylabel("age (ms)" if sketch.frames else sketch.stream.unit, fontsize=7)
        size = 1.5 if axis is whole else 3.5 if len(x_raw) < 80 else 2
        for number, curve in enumerate(inside):
            line = add_curve(
                axis, x_raw, curve.samples, x, curve.aligned, color=f"C{number}", size=size,
                steps=sketch.method.steps,
            )  # fmt: skip
            if axis is part:
                line.set(marker=".", markersize=3.5, label=curve.label)
        _shade(sketch, axis, clock)
        axis.tick_params(labelsize=7)
        axis.yaxis.get_offset_text().set_fontsize(7)
        axis.margins(x=0)
        axis.spines[["top", "right"]].set_visible(False)
    whole.set_title(sketch.stream.name, loc="left", fontsize=9, fontweight="bold")
    late = f"latency {1e3 * sketch.stream.latency:.6g} ms" if sketch.stream.latency else ""
    said = ", ".join(filter(None, (_rate(sketch), late, sketch.method.name, what)))
    whole.set_title(said, loc="right", fontsize=8, color="0.3")
    if curves:
        part.legend(
            loc="center left",
            bbox_to_anchor=(1.0, 0.5),
            fontsize=6.5,
            frameon=False,
            handlelength=1,
        )


def _curves_of(sketch: Sketch, aligned: NDArray[np.float64]) -> tuple[list[_Curve], str]:
    """What to draw, and what that is."""
    stream = sketch.stream
    if sketch.frames:
        return [_Curve("age of the frame\n| frame in the log", None, aligned[:, 0])], "age of frame"
    raw, total = np.concatenate(sketch.raw), math.prod(stream.shape[1:])
    curves = []
    for place in _places(sketch, raw):
        low, high = _range(raw[:, place])
        label = f"{_field(stream, int(sketch.columns[place]))}\n{low:.6g} to {high:.6g}"
        curves.append(_Curve(label, raw[:, place], aligned[:, place]))
    return curves, f"{len(curves)} of {total} columns" if len(curves) < total else ""


def _within(times: NDArray[np.int64], span: Zoom | None) -> slice:
    """What is in a span, and one more on either side so that lines reach its edge."""
    if span is None:
        return slice(None)
    first = int(np.searchsorted(times, span.start)) - 1
    return slice(max(first, 0), int(np.searchsorted(times, span.end, "right")) + 1)


def _moves(curve: _Curve) -> bool:
    low, high = _range(curve.aligned)
    return low < high


def _scaled(curve: _Curve) -> _Curve:
    low, high = _range(curve.aligned if curve.samples is None else curve.samples)
    span = (high - low) or 1.0
    samples = None if curve.samples is None else (curve.samples - low) / span
    return _Curve(curve.label, samples, (curve.aligned - low) / span)


def _rate(sketch: Sketch) -> str:
    steps = np.diff(sketch.source.effective)
    return f"{1e9 / float(np.median(steps)):.4g} Hz" if len(steps) else "one sample"


def _places(sketch: Sketch, raw: NDArray[np.float64]) -> list[int]:
    """Which columns to draw: those that change, and of them rather measurements than codes."""
    changes = [low < high for low, high in map(_range, raw.T)]
    codes = set(sketch.stream.discrete) if sketch.stream.kind == "vector" else set()
    order = sorted(
        range(len(changes)), key=lambda i: (not changes[i], int(sketch.columns[i]) in codes, i)
    )
    if math.prod(sketch.stream.shape[1:]) > _WIDE:
        order = order[: sum(changes) or 1]
        order = [order[0], order[len(order) // 2], order[-1]]
    return sorted(set(order[:_MOST_CURVES]))


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    return (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)


def _differ(columns: Sequence[NDArray[np.float64]]) -> bool:
    """Whether one axis would flatten some of the columns."""
    ranges = [_range(column) for column in columns]
    spans = [high - low for low, high in ranges if high > low]
    if not spans:
        return False
    together = max(high for _, high in ranges) - min(low for low, _ in ranges)
    return together > _FLAT * min(spans)


def _field(stream: Stream, column: int) -> str:
    if stream.fields:
        return stream.fields[column]
    if isinstance(stream.rotation, str) and (names := _NAMES.get(stream.rotation)):
        return names[column % len(names)]
    if len(stream.shape) == 1:
        return "value"
    return str([int(i) for i in np.unravel_index(column, stream.shape[1:])])


def _shade(sketch: Sketch, axis: Any, clock: Clock) -> None:
    def seconds(times: Any) -> Any:
        return (times - clock.times[0]) / 1e9

    shade_invalid(axis, seconds(np.concatenate(sketch.times)), np.concatenate(sketch.valid))
    shade_gaps(axis, seconds(sketch.source.effective), (0.0, seconds(clock.times[-1])))
