"""Which columns of a stream are aligned by which method."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._streams import ALIASES, CURVES, METHODS, REDUCTIONS, ROTATIONS, columns_of
from ..logs import Stream
from .error import CommandError

_MAKES_NUMBERS = ("linear", *CURVES, "mean", "sum")  # that are not in the log
_ROTATIONS = {code: name for name, (code, _) in ROTATIONS.items()}


class Part(NamedTuple):
    """Some columns of the samples, flat."""

    method: str
    columns: NDArray[np.intp]
    rotation: str = ""  #: what they are, one after another


class Method(NamedTuple):
    """How to align a stream."""

    parts: tuple[Part, ...]
    dtype: np.dtype[Any]  #: of the result
    name: str  #: for people

    @property
    def order(self) -> NDArray[np.intp] | None:
        """The columns as the parts have them, if that is not their own order."""
        columns = np.concatenate([part.columns for part in self.parts])
        return None if np.array_equal(columns, np.arange(len(columns))) else columns

    @property
    def spec(self) -> dict[str, Any]:
        """`method` and `rotation` of a `robocache_cupy.Stream` with the columns in that order."""
        if len(self.parts) == 1 and not self.parts[0].rotation:
            return {"method": self.parts[0].method}
        methods, rotations = [], {}
        end = 0
        for part in self.parts:
            start, end = end, end + len(part.columns)
            methods.append((f"{start}:{end}", part.method))
            if part.rotation:
                rotations[f"{start}:{end}"] = part.rotation
        return {"method": methods, "rotation": rotations or None}

    @property
    def reduces(self) -> bool:
        """Whether a row is made of all the samples that are nearest to it."""
        return any(part.method in REDUCTIONS for part in self.parts)

    @property
    def steps(self) -> bool:
        """Whether a row is a sample."""
        return all(part.method in ("nearest", "previous", "next") for part in self.parts)

    @property
    def reach(self) -> int:
        """How many samples on either side of a moment it looks at."""
        return 3 if any(part.method in CURVES for part in self.parts) else 1


def method_of(stream: Stream, asked: str | None) -> Method:
    """The method asked for, or linear for what has values between its samples, else nearest.

    Between two rotations, that is slerp, whichever of the methods that interpolate is asked for.
    """
    columns = np.arange(math.prod(stream.shape[1:]))
    turned = _rotations(stream)
    smooth = stream.dtype.kind == "f" and (stream.kind == "vector" or bool(turned))
    if asked in ("nearest", "previous", "next") or (asked is None and not smooth):
        method = asked or "nearest"
        return Method((Part(method, columns),), stream.dtype, method)
    held = np.array([] if asked else stream.discrete, np.intp)
    others = np.concatenate([held, *turned.values()])
    way = asked or "linear"
    if way in REDUCTIONS and turned and len(others) == len(columns):
        raise CommandError(
            f"--method {stream.name}={way}: it has nothing but rotations, which have no {way}"
        )
    parts = [
        Part(way, np.setdiff1d(columns, others)),
        *(Part("linear", where, kind) for kind, where in turned.items()),
        Part("nearest", held),
    ]
    parts = [part for part in parts if len(part.columns)] or [Part(way, columns)]
    dtype, note = stream.dtype, ""
    if way in _MAKES_NUMBERS and dtype.kind != "f":
        dtype, note = np.dtype(np.float64), ", as float64"
    names = dict.fromkeys("slerp" if part.rotation else part.method for part in parts)
    name = ", ".join(names).replace(", slerp", "+slerp")
    parts.sort(key=lambda part: int(part.columns[0]) if len(part.columns) else 0)
    return Method(tuple(parts), dtype, name + note)


def _rotations(stream: Stream) -> dict[str, NDArray[np.intp]]:
    """The columns of the rotations of each kind."""
    found: dict[str, list[NDArray[np.intp]]] = {}
    if stream.rotation is None:
        return {}
    for part in columns_of(stream.name, stream.shape[1:], None, stream.rotation, "linear"):
        if part.rotation:
            once = np.array(sorted(part.every()), np.intp)
            found.setdefault(_ROTATIONS[part.rotation], []).extend(
                once + group * part.stride for group in range(part.groups)
            )
    return {kind: np.concatenate(columns) for kind, columns in found.items()}


def asked_methods(options: Sequence[str], streams: Mapping[str, Stream]) -> dict[str, str]:
    """The options NAME=METHOD by the name of the stream."""
    methods = {}
    for option, name, method in assignments("--method", options, "METHOD", streams):
        if (method := ALIASES.get(method, method)) not in METHODS:
            raise CommandError(f"{option}: expected one of {', '.join(METHODS)}")
        methods[name] = method
    return methods


def assignments(
    option: str, given: Sequence[str], value: str, streams: Mapping[str, Stream]
) -> list[tuple[str, str, str]]:
    """What options NAME=VALUE say: the option as it was written, name and value."""
    found = []
    for text in given:
        name, equals, right = text.rpartition("=")
        if not equals:
            raise CommandError(f"{option} {text} is no NAME={value}")
        if name not in streams:
            raise CommandError(
                f"{option} {text}: {name} is none of the streams {', '.join(streams)}"
            )
        found.append((f"{option} {text}", name, right))
    return found
