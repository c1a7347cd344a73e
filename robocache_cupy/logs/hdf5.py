"""HDF5 with ``streams/<name>/t`` (int64 ns) and ``streams/<name>/values`` of shape (n, *F).

Attributes of ``streams/<name>``: `kind`, `unit`, `latency_s`, and whatever else is known of it.
A further dataset beside the two, such as the pose of a moving camera for each sample, is left in
the file: open it with h5py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .stream import Log, LogError, Stream, one_line, require


@contextmanager
def _reading(path: Path) -> Iterator[Any]:
    """The opened file; whatever the library makes of a damaged one becomes a LogError."""
    h5py = require("h5py")
    try:
        with h5py.File(path, "r") as file:
            yield file
    except LogError:
        raise
    except Exception as error:  # damage shows as anything, from OSError to UnicodeDecodeError
        raise LogError(
            f"{path} cannot be read as HDF5, so it is truncated, damaged or still being written: "
            f"copy it again ({one_line(error)})"
        ) from error


@dataclass(frozen=True)
class _Dataset:
    """Rows that are read when they are sliced. The file is open only for that long."""

    path: Path
    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    def __getitem__(self, rows: slice, /) -> NDArray[Any]:
        with _reading(self.path) as file:
            return file[self.name][rows]


def read(path: Path, form: str, *, log_time: bool = False) -> Log:
    """Open an HDF5 log: stamps and attributes are read, samples are not."""
    streams, skipped = {}, {}
    with _reading(path) as file:
        groups = file.get("streams")
        if not hasattr(groups, "items"):
            raise LogError(
                f"{path} is HDF5 without the group 'streams': expected streams/<name>/t (int64 ns) "
                "and streams/<name>/values"
            )
        for name, group in groups.items():
            if reason := _unusable(group):
                skipped[name] = reason
            else:
                streams[name] = _stream(path, name, group)
    if not streams:
        found = "".join(f" ({name}: {reason})" for name, reason in skipped.items())
        raise LogError(f"{path} has no stream of numbers in it{found}: nothing to read")
    return Log(path, form, streams, skipped)


def _unusable(group: Any) -> str:
    """Why a group is not a stream, or nothing."""
    if not hasattr(group, "items"):
        return "not a group with t and values"
    t, values = group.get("t"), group.get("values")
    if not (hasattr(t, "dtype") and hasattr(values, "dtype")):
        return "no datasets t and values"
    if t.ndim != 1 or t.dtype.kind not in "iu":
        return f"t is {t.dtype} of shape {t.shape}, expected int64 ns of shape (n,)"
    if values.dtype.kind not in "biuf" or values.dtype.itemsize > 8:
        return f"values are {values.dtype}, expected bool, integers or floats of up to 64 bits"
    if (values.shape or ())[:1] != t.shape:
        return f"t has shape {t.shape}, but values have shape {values.shape}"
    return ""


def _stream(path: Path, name: str, group: Any) -> Stream:
    attrs = dict(group.attrs)
    latency = float(attrs.pop("latency_s", 0.0))
    if not math.isfinite(latency):
        raise LogError(f"{path}: latency_s of {name} is {latency}, expected seconds")
    values = group["values"]
    return Stream(
        name=name,
        times=group["t"][:].astype(np.int64),
        rows=_Dataset(path, values.name, values.shape, values.dtype),
        kind=_text(attrs.pop("kind", "vector")),
        unit=_text(attrs.pop("unit", "")),
        latency=latency,
        attrs=attrs,
    )


def _text(attribute: Any) -> str:
    """Strings of fixed length come as bytes, those of variable length as str."""
    return attribute.decode() if isinstance(attribute, bytes) else str(attribute)
