"""Which sample of one clock belongs to a time of another."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import numpy as np

from ._core.array import Array, HostArray, Meta, Scalar
from ._core.check import dtype_of, inner, one_of
from ._core.kernel import PROCESSORS, Kernel, Launch, Out
from ._core.plan import Plan, op
from ._core.time import UNLIMITED, Clock, clock_of, later, width

__all__ = ["asof_index"]

DIRECTIONS = {"backward": 0, "forward": 1, "nearest": 2}  # the codes of the kernel

_asof_index = Kernel(
    "asof", "asof_index",
    [(wide, plain, tiled) for wide in ("int64", "float64") for plain in (0, 4, 8)
     for tiled in range(1 + (plain > 0))],
)  # fmt: skip
_TILE = 1024  # targets of a block, where they are many: that of the kernel


@op
def asof_index(
    src: Array,
    tgt: Array,
    *,
    direction: str = "backward",
    tolerance: Scalar | None = None,
    allow_exact_matches: bool = True,
    lengths: HostArray | None = None,
    offsets: HostArray | None = None,
    backend: str = "auto",
) -> Any:
    """Find for each target key the source key that it matches.

    What `pandas.merge_asof` finds, as positions: gather any number of columns with them.

    Parameters
    ----------
    src : array
        Keys to match with, ascending: ``[S]``, ``[B, S]`` for a batch of B rows, or ``[N]`` for
        rows packed one after another (see `offsets`). int32, int64, float32, float64 or
        datetime64. NaN or NaT at the end of a row is padding.
    tgt : array
        Keys to find a match for, in any order: ``[T]`` or ``[B, T]``, of the same kind.
    direction : {"backward", "forward", "nearest"}
        ``backward`` matches the last source key not after the target, ``forward`` the first one
        not before it, ``nearest`` the nearer of both, and of two equally near the one before.
        Of equal keys it is the last that a backward or nearest search matches.
    tolerance : number, or timedelta for datetime64 keys, optional
        The greatest distance of a match, inclusive, in the unit of the keys (unlike durations
        elsewhere, which are seconds). Exact for integers of any size.
    allow_exact_matches : bool
        Pass False to match only keys before, or after, the target.
    lengths : integers [B], optional
        The number of keys in each row of a padded batch.
    offsets : integers [B + 1], optional
        Row b of packed keys is ``src[offsets[b]:offsets[b + 1]]``.
    backend : {"auto", "cuda", "numba"}
        auto runs where the arrays lie. Any other choice copies them there and the result back.

    Returns
    -------
    int32 array [B, T], or [T] for one row
        Positions within the row (add ``offsets[b]`` for those in a packed row), -1 where nothing
        matches. NaN and NaT (of integers the smallest int64) match nothing.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Examples
    --------
    The last force reading before each frame, none of them older than 15 ms:

    >>> import numpy as np
    >>> from robocache_cupy.asof import asof_index
    >>> force = np.array([0, 10, 20, 50]) * 1_000_000
    >>> frames = np.array([0, 33, 66]) * 1_000_000
    >>> asof_index(force, frames, tolerance=15_000_000)
    array([ 0,  2, -1], dtype=int32)
    """
    one_of("direction", direction, tuple(DIRECTIONS))
    # Durations are in key units, so what a JAX array of int32 counts need not be known.
    clock = clock_of(None, src=src._replace(wrapped=False), tgt=tgt._replace(wrapped=False))
    if lengths is not None and offsets is not None:
        raise ValueError("lengths and offsets both say how long the rows are: give one of them")
    for name, x in (("src", src), ("tgt", tgt)):
        axes = (1,) if name == "src" and offsets is not None else (1, 2)
        if len(x.shape) not in axes:
            expected = "one axis, with offsets" if axes == (1,) else "one or two axes"
            raise ValueError(f"{name} has shape {x.shape}, expected {expected}")
    if type(tolerance) is Meta:
        raise TypeError(f"tolerance is an array of shape {tolerance.shape}, expected a number")

    counts = {name: x.shape[0] for name, x in (("src", src), ("tgt", tgt)) if len(x.shape) == 2}
    for name, per_row in (("lengths", lengths), ("offsets", offsets)):
        if per_row is None:
            continue
        dtype_of(name, per_row, ("int32", "int64"))
        if len(per_row.shape) != 1 or (name == "offsets" and per_row.shape[0] < 1):
            expected = "(B + 1,)" if name == "offsets" else "(B,)"
            raise ValueError(f"{name} has shape {per_row.shape}, expected {expected}")
        inner(per_row, 0)
        counts[name] = per_row.shape[0] - (name == "offsets")
    several = {count for count in counts.values() if count != 1}
    if len(several) > 1:
        got = ", ".join(f"{name} has {count}" for name, count in counts.items())
        raise ValueError(f"the arguments differ in their number of rows: {got}")
    B = several.pop() if several else 1
    for name in ("lengths", "offsets"):  # one entry cannot stand for several rows
        if counts.get(name, B) != B:
            x_shape = (counts[name] + (name == "offsets"),)
            expected = f"({B + (name == 'offsets')},)"
            raise ValueError(f"{name} has shape {x_shape}, expected {expected}")

    S, T = src.shape[-1], tgt.shape[-1]
    index = Out((B, T) if counts else (T,), "int32")
    widths, steps = {width(src.dtype), width(tgt.dtype)}, {src.strides[-1], tgt.strides[-1]}
    small = 0 < S < 2**30 and B * T < 2**31
    default = (
        direction == "backward" and allow_exact_matches and lengths is None and offsets is None
    )
    plain = widths.pop() if default and small and len(widths) == 1 and steps == {1} else 0
    tiles = B * -(-T // _TILE)
    tiled = int(plain > 0 and T >= _TILE and tiles >= PROCESSORS)
    launch = Launch(
        _asof_index,
        (clock.wide, plain, tiled),
        (src, lengths, offsets, tgt, index),
        (
            S, _row(src), src.strides[-1], width(src.dtype),
            8 if lengths is None else width(lengths.dtype),
            8 if offsets is None else width(offsets.dtype),
            B * T, T, _row(tgt), tgt.strides[-1], width(tgt.dtype),
            DIRECTIONS[direction], int(allow_exact_matches), _tolerance(tolerance, clock),
        ),
        items=B * T,
        weight=16,  # the steps of a search
        blocks=min(tiles if tiled else -(-B * T // 256), 2**20),
        threads=256,
    )  # fmt: skip
    return Plan({"index": index}, [launch])


def _row(x: Meta) -> int:
    """Elements from row to row, of a row that all share none."""
    return x.strides[0] if len(x.shape) == 2 and x.shape[0] != 1 else 0


def _tolerance(value: Any, clock: Clock) -> Any:
    """A distance in ticks, rounded down: distances of integers are whole."""
    unlimited = UNLIMITED if clock.integer else float(UNLIMITED)
    if value is None:
        return unlimited
    dates = clock.dtype.endswith("]")

    def convert(x: Any) -> int | float:
        given = x
        if dates and isinstance(x, timedelta):
            x = x // timedelta(microseconds=1) * clock.ticks // 10**6
        elif dates and isinstance(x, np.timedelta64):
            unit: Any = clock.dtype[clock.dtype.index("[") + 1 : -1]
            x = math.nan if np.isnat(x) else int(x // np.timedelta64(1, unit))
        if isinstance(x, (timedelta, np.timedelta64)) or not isinstance(x, (int, float, np.number)):
            kind = "a number of ticks or a timedelta" if dates else "a number in the keys' unit"
            raise TypeError(f"tolerance is {given!r}, expected {kind}")
        if not x >= 0:
            raise ValueError(f"tolerance is {given}, expected 0 or more")
        if not clock.integer:
            return float(x) if math.isfinite(x) else unlimited
        return math.floor(x) if x < 2**63 else unlimited

    return later(value, convert, clock.format)
