"""Which columns of a stream are aligned by which method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..logs import Stream
from ..resample import ALIASES, METHODS
from .error import CommandError


class Part(NamedTuple):
    """Some columns of the samples, flat."""

    method: str
    columns: slice | NDArray[np.intp]


class Method(NamedTuple):
    """How to align a stream."""

    parts: tuple[Part, ...]
    dtype: np.dtype[Any]  #: of the result
    name: str  #: for people


def method_of(stream: Stream, asked: str | None) -> Method:
    """The method asked for, or linear for what has values between its samples, else nearest."""
    dtype = stream.dtype
    if asked is not None:
        if asked == "linear" and dtype.kind != "f":
            return Method((Part(asked, slice(None)),), np.dtype(np.float64), "linear, as float64")
        return Method((Part(asked, slice(None)),), dtype, asked)
    parts: tuple[Part, ...] = (Part("nearest", slice(None)),)
    if stream.kind == "vector" and dtype.kind == "f":
        smooth = np.arange(0)
        if stream.discrete:
            smooth = np.setdiff1d(np.arange(stream.shape[-1]), stream.discrete)
        if not stream.discrete:
            parts = (Part("linear", slice(None)),)
        elif smooth.size:
            parts = (Part("linear", smooth), Part("nearest", np.array(stream.discrete)))
    return Method(parts, dtype, ", ".join(part.method for part in parts))


def asked_methods(options: Sequence[str], streams: Mapping[str, Stream]) -> dict[str, str]:
    """The options NAME=METHOD by the name of the stream."""
    methods = {}
    for option in options:
        name, equals, method = option.rpartition("=")
        if not equals:
            raise CommandError(f"--method {option} is no NAME=METHOD")
        if name not in streams:
            raise CommandError(
                f"--method {option}: {name} is none of the streams {', '.join(streams)}"
            )
        if (method := ALIASES.get(method, method)) not in METHODS:
            raise CommandError(f"--method {option}: expected one of {', '.join(METHODS)}")
        methods[name] = method
    return methods
