"""Clocks: what an array of stamps means, and durations and rates in its ticks.

Float clocks are seconds; int64, int32 and datetime64 clocks are nanoseconds, unless `time_unit`
or the datetime's own unit says otherwise. Durations are seconds and become ticks once, on the
host, by rounding half to even.
"""

from __future__ import annotations

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

    @property
    def integer(self) -> bool:
        return not self.dtype.startswith("float")

    @property
    def wide(self) -> str:
        """The type that times are computed in."""
        return "int64" if self.integer else "float64"

    @property
    def width(self) -> int:
        return width(self.dtype)

    @property
    def format(self) -> str:
        return "q" if self.integer else "d"


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
    if time_unit is not None:
        one_of("time_unit", time_unit, tuple(UNITS))
    given = {name: x for name, x in stamps.items() if x is not None}
    for name, x in given.items():
        if not _kind(x.dtype):
            raise TypeError(
                f"{name} has dtype {x.dtype}, expected float32, float64, int32, int64 or "
                "datetime64 stamps"
            )
        if x.wrapped and time_unit is None:
            raise TypeError(
                f"{name} is an int32 array of JAX, which may be an int64 one cut to 32 bits: "
                "enable x64 (jax.config.update('jax_enable_x64', True)), or subtract an origin in "
                "int64 before handing the stamps to JAX, and give time_unit="
            )
    kinds = {_kind(x.dtype) for x in given.values()}
    if len(kinds) > 1:
        got = " and ".join(f"{name} ({x.dtype})" for name, x in given.items())
        raise TypeError(f"{got} are different kinds of clock: convert one to the other's dtype")
    if not given:
        return Clock("float64", UNITS[time_unit or "s"])
    dtype = max((x.dtype for x in given.values()), key=width)
    if dtype.endswith("]"):
        unit = dtype[dtype.index("[") + 1 : -1]
        if time_unit not in (None, unit):
            raise TypeError(f"time_unit is {time_unit!r}, but the stamps are {dtype}")
        one_of("the unit of the stamps", unit, tuple(UNITS))
        return Clock(dtype, UNITS[unit])
    return Clock(dtype, UNITS[time_unit or ("s" if kinds == {"float"} else "ns")])


def later(value: Any, convert: Callable[[Any], Any], code: str) -> Any:
    """`convert` applied now to a number, at each call to a Value."""
    return value._replace(convert=convert, format=code) if type(value) is Value else convert(value)


def duration(name: str, value: Any, clock: Clock, *, signed: bool = False) -> Any:
    """A duration in seconds as ticks; None and infinity are UNLIMITED."""

    def convert(x: Any) -> int | float:
        if isinstance(x, timedelta):
            x = x.total_seconds()
        elif isinstance(x, np.timedelta64):
            x = x / np.timedelta64(1, "s")
        if not isinstance(x, (int, float, np.number)):
            raise TypeError(f"{name} is {x!r}, expected a duration in seconds")
        if signed and not math.isfinite(x):
            raise ValueError(f"{name} is {x}, expected a finite number of seconds")
        if not signed and not x >= 0:
            raise ValueError(f"{name} is {x}, expected 0 or more seconds")
        if math.isinf(x):
            return UNLIMITED if clock.integer else float(UNLIMITED)
        ticks = x * clock.ticks
        return round(ticks) if clock.integer else float(ticks)

    return convert(math.inf) if value is None else later(value, convert, clock.format)


def time_point(name: str, value: Any, clock: Clock) -> Any:
    """A point in time, in the clock's own unit."""

    def convert(x: Any) -> int | float:
        if isinstance(x, (np.datetime64, np.timedelta64)):
            x = x.astype(clock.dtype).astype(np.int64)
        if not isinstance(x, (int, float, np.number)):
            raise TypeError(f"{name} is {x!r}, expected a time in the unit of the clock")
        if not clock.integer:
            return float(x)
        if isinstance(x, (float, np.floating)) and x != math.floor(x):
            raise ValueError(f"{name} is {x}, expected a whole number of ticks: the clock is "
                             f"{clock.dtype}")  # fmt: skip
        return int(x)

    return later(value, convert, clock.format)


def rate(name: str, value: Any) -> Any:
    """A rate per second; None is 0."""

    def convert(x: Any) -> float:
        if not isinstance(x, (int, float, np.number)):
            raise TypeError(f"{name} is {x!r}, expected a rate per second")
        if not (x > 0 and math.isfinite(x)):
            raise ValueError(f"{name} is {x}, expected a finite rate above 0 per second")
        return float(x)

    return 0.0 if value is None else later(value, convert, "d")
