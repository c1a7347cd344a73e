"""The clock that all the streams of a log are put on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import logs
from ..logs import Stream
from .error import CommandError

_MOST_ROWS = 100_000_000  # a month at 30 Hz; more means that a stamp is wrong


class Clock(NamedTuple):
    """Where to align at."""

    times: NDArray[np.int64]  #: ns, ascending
    name: str  #: for people


def late(stream: Stream) -> int:
    """The latency in ns."""
    return round(stream.latency * 1e9)


def clock_at(streams: Mapping[str, Stream], hz: float, *, union: bool) -> Clock:
    """The clock of `hz` over the time that all streams have in common, or any of them has."""
    start, end = _span(streams, union)
    steps = (end - start) * hz / 1e9
    if steps >= _MOST_ROWS:
        raise CommandError(
            f"{(end - start) / 1e9:.6g} s at {hz:g} Hz are more than {_MOST_ROWS:,} rows: lower "
            "--hz, or leave out a stream with wrong stamps with --skip"
        )
    # Rounded point by point, as the op makes it: a step that is added up would drift.
    points = np.rint(np.arange(math.floor(steps) + 1) * 1e9 / hz).astype(np.int64)
    return Clock(start + points, f"{hz:g} Hz")


def clock_of(streams: Mapping[str, Stream], name: str, *, union: bool) -> Clock:
    """The stamps of one stream, in the time that all streams have in common, or any has."""
    if name not in streams:
        raise CommandError(f"--clock {name} is none of the streams {', '.join(streams)}")
    stream = streams[name]
    start, end = _span(streams, union)
    stamps = stream.times[logs.clean(stream.times)] - late(stream)
    times = stamps[np.searchsorted(stamps, start) : np.searchsorted(stamps, end, "right")]
    if not len(times):
        raise CommandError(
            f"--clock {name} has no stamp in the time that all streams have in common: "
            "leave one out with --skip, or take --union"
        )
    return Clock(times, f"the stamps of {name}")


def _span(streams: Mapping[str, Stream], union: bool) -> tuple[int, int]:
    spans = {
        name: (int(stream.times.min()) - late(stream), int(stream.times.max()) - late(stream))
        for name, stream in streams.items()
        if len(stream)
    }
    # A stream of one stamp, such as a transform that never changes, must not end the clock.
    spans = {name: span for name, span in spans.items() if span[0] < span[1]} or spans
    if not spans:
        raise CommandError("no stream has samples: there is nothing to align")
    if union:
        return min(start for start, _ in spans.values()), max(end for _, end in spans.values())
    latest = max(spans, key=lambda name: spans[name][0])
    earliest = min(spans, key=lambda name: spans[name][1])
    start, end = spans[latest][0], spans[earliest][1]
    if end < start:
        raise CommandError(
            f"no moment is common to all streams: {latest} begins {(start - end) / 1e9:.3f} s "
            f"after {earliest} has ended; leave one out with --skip, take --union, or try "
            "--log-time if its headers have another epoch"
        )
    return start, end
