"""The timing of the streams, as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from .. import logs
from ..logs import Stream
from ..logs.stream import require
from .methods import Method


def console() -> Any:
    """Where to print."""
    made = require("rich.console").Console(markup=False, emoji=False, highlight=False)
    if not made.is_terminal:
        made.width = 160  # a file has room
    return made


def table(
    title: str,
    streams: Mapping[str, Stream],
    methods: Mapping[str, Method],
    shares: Mapping[str, str],
) -> Any:
    """Each stream's shape, clock, method and share of valid rows."""
    late = any(stream.latency for stream in streams.values())
    made = require("rich.table").Table(
        title=title,
        caption="jitter (median and 99th percentile), longest gap and latency in ms"
        if late
        else "jitter (median and 99th percentile) and longest gap in ms",
        box=require("rich.box").SIMPLE_HEAD,
        padding=0,
        pad_edge=False,
    )
    made.add_column("stream", overflow="fold")
    for heading in ("shape", "samples", "Hz", "jitter", "p99", "gap", "dup", "back"):
        made.add_column(heading, justify="right")
    if late:
        made.add_column("latency", justify="right")
    made.add_column("method")
    made.add_column("valid", justify="right")
    for name, stream in streams.items():
        clock = logs.timing(stream.times)
        made.add_row(
            name,
            "x".join(map(str, stream.shape[1:])),
            str(clock.samples),
            _number(clock.rate, 1),
            _number(clock.jitter_p50, 2),
            _number(clock.jitter_p99, 2),
            _number(clock.longest_gap, 1),
            str(clock.duplicates),
            str(clock.backward_steps),
            *([f"{1e3 * stream.latency:.6g}"] if late else []),
            methods[name].name if name in methods else "-",
            shares.get(name, "-"),
        )
    return made


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"
