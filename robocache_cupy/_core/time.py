"""Clocks: what an array of stamps means, and durations and rates in its ticks.

Float clocks are seconds; int64, int32 and datetime64 clocks are nanoseconds, unless `time_unit`
or the datetime's own unit says otherwise. Durations are seconds and become ticks once, on the
host, by rounding half to even.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np

from .array import Meta
from .check import one_of
from .kernel import Value

UNITS = {"ns": 10**9, "us": 10**6, "ms": 10**3, "s": 1}  # ticks per second

UNLIMITED = -1  # a duration that every distance keeps


class Clock(NamedTuple):
    """The time base of a call."""

    dtype: str  # of the stamps: float32, float64, int32, int64, datetime64[...] or timedelta64[...]
    ticks: int  # per second
    integer: bool
    wide: str  # the type that times are computed in: int64 or float64
    format: str  # how a time is packed: q or d
    width: int  # the bytes of a stamp


def _clock(dtype: str, ticks: int) -> Clock:
    if dtype.startswith("float"):
        return Clock(dtype, ticks, False, "float64", "d", width(dtype))
    return Clock(dtype, ticks, True, "int64", "q", width(dtype))


def width(dtype: str) -> int:
    """The bytes of a stamp."""
    return 4 if dtype in ("float32", "int32") else 8


def _kind(dtype: str) -> str:
    if dtype in ("float32", "float64"):
        return "float"
    if dtype in ("int32", "int64"):
        return "int"
    return dtype if dtype.startswith(("datetime64[", "timedelta64[")) else ""


def clock_of(time_unit: str | None, **stamps: Meta | None) -> Clock:
    """The clock that all the given arrays of stamps share."""
    given = [(name, x.dtype, x.wrapped) for name, x in stamps.items() if x is not None]
    return _shared_clock(time_unit, tuple(given))


@functools.lru_cache(256)
def _shared_clock(time_unit: str | None, given: tuple[tuple[str, str, bool], ...]) -> Clock:
    if time_unit is not None:
        one_of("time_unit", time_unit, tuple(UNITS))
    for name, dtype, wrapped in given:
        if not _kind(dtype):
            raise TypeError(
                f"{name} has dtype {dtype}, expected float32, float64, int32, int64 or "
                "datetime64 stamps"
            )
        if wrapped and time_unit is None:
            raise TypeError(
                f"{name} is an int32 array of JAX, which may be an int64 one cut to 32 bits: "
                "enable x64 (jax.config.update('jax_enable_x64', True)), or subtract an origin in "
                "int64 before handing the stamps to JAX, and give time_unit="
            )
    kinds = {_kind(dtype) for _, dtype, _ in given}
    if len(kinds) > 1:
        got = " and ".join(f"{name} ({dtype})" for name, dtype, _ in given)
        raise TypeError(f"{got} are different kinds of clock: convert one to the other's dtype")
    if not given:
        return _clock("float64", UNITS[time_unit or "s"])
    dtype = max((dtype for _, dtype, _ in given), key=width)
    if dtype.endswith("]"):
        unit = dtype[dtype.index("[") + 1 : -1]
        if time_unit not in (None, unit):
            raise TypeError(f"time_unit is {time_unit!r}, but the stamps are {dtype}")
        one_of("the unit of the stamps", unit, tuple(UNITS))
        return _clock(dtype, UNITS[unit])
    return _clock(dtype, UNITS[time_unit or ("s" if kinds == {"float"} else "ns")])


def later(value: Any, convert: Callable[[Any], Any], code: str) -> Any:
    """`convert` applied now to a number, at each call to a Value."""
    return value._replace(convert=convert, format=code) if type(value) is Value else convert(value)


def duration(name: str, value: Any, clock: Clock, *, signed: bool = False) -> Any:
    """A duration in seconds as ticks; None and infinity are UNLIMITED."""
    unlimited = UNLIMITED if clock.integer else float(UNLIMITED)
    if type(value) is not Value:  # the defaults, which most new shapes come with
        if value is None and not signed:
            return unlimited
        if value == 0.0:
            return 0 if clock.integer else 0.0

    def convert(x: Any) -> int | float:
        if isinstance(x, timedelta):
            x = x.total_seconds()
        elif isinstance(x, np.timedelta64):
            x = x / np.timedelta64(1, "s")
        if not isinstance(x, (int, float, np.number)):
            raise TypeError(f"{name} is {x!r}, expected a duration in seconds")
        x = float(x)
        if signed and not math.isfinite(x):
            raise ValueError(f"{name} is {x}, expected a finite number of seconds")
        if not signed and not x >= 0:
            raise ValueError(f"{name} is {x}, expected 0 or more seconds")
        ticks = x * clock.ticks
        if not clock.integer:
            return ticks if math.isfinite(ticks) else unlimited
        if abs(ticks) < 2.0**63:
            return round(ticks)
        if signed:
            raise ValueError(f"{name} is {x}, which is longer than the clock can tell")
        return unlimited

    return later(value, convert, clock.format)


def time_point(name: str, value: Any, clock: Clock) -> Any:
    """A point in time, in the clock's own unit."""
    if type(value) is not Value and value == 0:
        return 0 if clock.integer else 0.0

    def convert(x: Any) -> int | float:
        if isinstance(x, (np.datetime64, np.timedelta64)):
            x = x.astype(clock.dtype).astype(np.int64)
        if not isinstance(x, (int, float, np.number)):
            raise TypeError(f"{name} is {x!r}, expected a time in the unit of the clock")
        if not clock.integer:
            return float(x)
        if not (math.isfinite(x) and x == int(x) and -(2**63) <= x < 2**63):
            raise ValueError(
                f"{name} is {x}, expected a whole number of ticks: the clock is {clock.dtype}"
            )
        return int(x)

    return later(value, convert, clock.format)


def rate(name: str, value: Any) -> Any:
    """A rate per second; None is 0."""
    if value is None:
        return 0.0

    def convert(x: Any) -> float:
        if not isinstance(x, (int, float, np.number)):
            raise TypeError(f"{name} is {x!r}, expected a rate per second")
        if not (x > 0 and math.isfinite(x)):
            raise ValueError(f"{name} is {x}, expected a finite rate above 0 per second")
        return float(x)

    return later(value, convert, "d")
