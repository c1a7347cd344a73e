"""What the stamps of sensors are like: rates, jitter, gaps and disorder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._core.array import HostArray, Meta, as_numpy, framework
from ._core.time import Clock, clock_of
from ._table import html_table, text_table
from .episodes import integers, row_bounds

__all__ = ["TimingReport", "timing_report"]


class Row(NamedTuple):
    """What `describe` finds of one clock; see `TimingReport`."""

    samples: int
    duration: float
    rate: float
    jitter_p50: float
    jitter_p99: float
    longest_gap: float
    longest_gap_at: int
    duplicates: int
    backward_steps: int
    first_backward_at: int
    nans: int


class TimingReport(NamedTuple):
    """The clocks of R rows of stamps, a column to a field. It prints as a table.

    Figures that need two different stamps are NaN without them. Positions count from the start of
    the row and are -1 where there is nothing to point at. ``pandas.DataFrame(report._asdict())``
    makes a data frame.

    Examples
    --------
    >>> timing_report([0.0, 0.1, 0.2, 0.4]).longest_gap
    array([200.])
    """

    names: tuple[str, ...]  #: of the rows
    samples: NDArray[np.int64]  #: padding left out, stamps that are NaN included
    duration: NDArray[np.float64]  #: s from the earliest stamp to the latest
    rate: NDArray[np.float64]  #: Hz, of the median step
    jitter_p50: NDArray[np.float64]  #: ms, median distance of a step from the median step
    jitter_p99: NDArray[np.float64]  #: ms, its 99th percentile
    longest_gap: NDArray[np.float64]  #: ms, the longest step
    longest_gap_at: NDArray[np.int64]  #: the sample that ends it
    duplicates: NDArray[np.int64]  #: stamps equal to another before them
    backward_steps: NDArray[np.int64]  #: stamps earlier than the one before them
    first_backward_at: NDArray[np.int64]  #: the first of them
    nans: NDArray[np.int64]  #: stamps that are NaN, NaT (the smallest int64) or infinite

    def __repr__(self) -> str:
        return text_table(("", *_HEADINGS), self._cells())

    def _repr_html_(self) -> str:
        return html_table(("", *_HEADINGS), self._cells())

    def _cells(self) -> list[list[str]]:
        columns = zip(self[1:], _DIGITS, strict=True)
        texts = [[_text(value, digits) for value in column] for column, digits in columns]
        return [list(row) for row in zip(self.names, *texts, strict=True)]


_HEADINGS = (
    "samples", "duration s", "rate Hz", "jitter p50 ms", "p99 ms", "longest gap ms", "at",
    "duplicates", "backward", "first at", "NaN",
)  # fmt: skip
_DIGITS = (0, 3, 2, 3, 3, 3, 0, 0, 0, 0, 0)


def _text(value: float, digits: int) -> str:
    return "-" if math.isnan(value) or (not digits and value < 0) else f"{value:.{digits}f}"


def timing_report(
    times: Any,
    *,
    lengths: HostArray | None = None,
    offsets: HostArray | None = None,
    time_unit: str | None = None,
) -> TimingReport:
    """Describe the clocks of sensors: rate, jitter, gaps, duplicates, backward steps.

    Steps are the differences of neighbouring stamps once these are sorted, repeated stamps left
    out. The rate is that of the median step: the rate the sensor was set to, which lost samples
    and outages do not lower as they do the mean (that of ``rostopic hz``). The jitter is the
    absolute deviation of the steps from the median step.

    Runs on the host; stamps that lie on a GPU are copied.

    Parameters
    ----------
    times : array or list, or dict of them
        Stamps in the order of recording: ``[S]`` of one row, ``[B, S]``, or ``[N]`` of rows packed
        one after another (see `offsets`). float32, float64, int32, int64 or datetime64. NaN or
        NaT (of integers the smallest int64) at the end of a row is padding. A dict gives each row
        its key as name; rows of ``[B, S]`` in it are ``key[0]``, ``key[1]``, ...
    lengths : integers [B], optional
        The number of samples in each row of a padded batch.
    offsets : integers [B + 1], optional
        Row b of packed stamps is ``times[offsets[b]:offsets[b + 1]]``.
    time_unit : {"ns", "us", "ms", "s"}, optional
        The unit of the stamps. Float clocks are seconds and integer clocks ns by default;
        datetime64 brings its own.

    Returns
    -------
    TimingReport
        A named tuple of columns, each with one entry for each row.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Examples
    --------
    >>> import numpy as np
    >>> camera = np.array([0, 33, 66, 66, 99, 165, 132]) * 1_000_000
    >>> report = timing_report({"camera": camera, "joints": np.arange(0, 0.2, 0.01)})
    >>> report.rate.round(2), report.duplicates, report.first_backward_at
    (array([ 30.3, 100. ]), array([1, 0]), array([ 6, -1]))
    >>> print(report)  # doctest: +ELLIPSIS
            samples  duration s  rate Hz  jitter p50 ms  p99 ms  longest gap ms  at  duplicates ...
    camera        7       0.165    30.30          0.000   0.000          33.000   1           1 ...
    joints       20       0.190   100.00          0.000   0.000          10.000  ...
    """
    if isinstance(times, Mapping):
        if lengths is not None or offsets is not None:
            raise ValueError("lengths and offsets belong to one array of times, not to a dict")
        named = dict(times)
    else:
        named = {"": times}
    names, rows = [], []
    for key, given in named.items():
        name = f"times[{key!r}]" if isinstance(times, Mapping) else "times"
        stamps, clock = stamps_of(time_unit, **{name: given})
        parts = _rows(name, stamps[0], lengths, offsets)
        one = isinstance(times, Mapping) and stamps[0].ndim == 1
        pattern = "{key}[{b}]" if isinstance(times, Mapping) else "{b}"
        names += [str(key) if one else pattern.format(key=key, b=b) for b in range(len(parts))]
        rows += [describe(part, clock) for part in parts]
    kinds = [np.float64 if digits else np.int64 for digits in _DIGITS]
    columns: Any = zip(*rows, strict=True) if rows else ((),) * len(kinds)
    arrays: Any = (np.array(c, kind) for c, kind in zip(columns, kinds, strict=True))
    return TimingReport(tuple(names), *arrays)


def stamps_of(time_unit: str | None, **given: Any) -> tuple[list[NDArray[Any]], Clock]:
    """Arrays of stamps as int64 ticks or float64, NaT and NaN as they are, and their clock."""
    arrays, metas = [], {}
    for name, x in given.items():
        array = as_numpy(name, x)
        found = framework(type(x)) if hasattr(x, "__dlpack__") else None
        wrapped = found is not None and found.name == "jax" and array.dtype == np.int32
        metas[name] = Meta(array.shape, array.dtype.name, (), wrapped=wrapped)
        arrays.append(array)
    clock = clock_of(time_unit, **metas)
    return [
        x.view(np.int64) if x.dtype.kind in "mM" else x.astype(clock.wide) for x in arrays
    ], clock


def missing(times: NDArray[Any], clock: Clock) -> NDArray[np.bool_]:
    """Which stamps tell no time."""
    if not clock.integer:
        return ~np.isfinite(times)
    return times == np.iinfo(np.int64).min  # NaT


def _rows(name: str, times: NDArray[Any], lengths: Any, offsets: Any) -> list[NDArray[Any]]:
    if lengths is not None and offsets is not None:
        raise ValueError("lengths and offsets both say how long the rows are: give one of them")
    if times.ndim not in ((1,) if offsets is not None else (1, 2)):
        expected = "[N]" if offsets is not None else "[S] or [B, S]"
        raise ValueError(f"{name} has shape {times.shape}, expected {expected}")
    if offsets is not None:
        bounds = row_bounds("offsets", offsets)
        if bounds.size and bounds[-1] > len(times):
            raise ValueError(f"offsets ends with {bounds[-1]}, but times has {len(times)} stamps")
        return [times[lo:hi] for lo, hi in pairwise(bounds)]
    batch = np.atleast_2d(times)
    if lengths is None:
        return list(batch)
    B, S = batch.shape
    counts = integers("lengths", lengths)
    if counts.shape != (B,):
        raise ValueError(f"lengths has shape {counts.shape}, expected ({B},)")
    if counts.size and not (counts.min() >= 0 and counts.max() <= S):
        raise ValueError(
            f"lengths reaches from {counts.min()} to {counts.max()}, expected 0 to {S}"
        )
    return [row[:n] for row, n in zip(batch, counts, strict=True)]


def describe(times: NDArray[Any], clock: Clock) -> Row:
    """The row of the report for stamps as `stamps_of` gives them."""
    where = np.flatnonzero(~missing(times, clock))
    known = times[where]
    samples = int(where[-1]) + 1 if where.size else 0  # behind the last stamp is padding
    behind = np.flatnonzero(known[1:] < known[:-1])
    backward_at = int(where[behind[0] + 1]) if behind.size else -1
    ascending = known
    if behind.size:
        order = np.argsort(known, kind="stable")
        ascending, where = known[order], where[order]
    if clock.integer:
        # Two int64 can lie more than 2^63 - 1 apart; ascending ones lie apart by an uint64.
        ascending = ascending.view(np.uint64)
    steps = np.diff(ascending)
    moves = np.flatnonzero(steps)
    reach = ascending[-1:] - ascending[:1]  # arrays, because a scalar warns where it wraps
    duration = float(reach[0]) / clock.ticks if known.size else math.nan
    common = (int(steps.size - moves.size), int(behind.size), backward_at, samples - known.size)
    if not moves.size:
        return Row(samples, duration, math.nan, math.nan, math.nan, math.nan, -1, *common)
    ms = _milliseconds(steps[moves].astype(np.float64), clock)
    median = float(np.median(ms))
    p50, p99 = np.percentile(np.abs(ms - median), [50, 99])
    longest = int(ms.argmax())
    return Row(
        samples,
        duration,
        1e3 / median,
        float(p50),
        float(p99),
        float(ms[longest]),
        int(where[moves[longest] + 1]),
        *common,
    )


def _milliseconds(ticks: NDArray[np.float64], clock: Clock) -> NDArray[np.float64]:
    return ticks * (1000 / clock.ticks) if clock.ticks <= 1000 else ticks / (clock.ticks / 1000)
