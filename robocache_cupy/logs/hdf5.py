"""HDF5 with ``streams/<name>/t`` (int64 ns) and ``streams/<name>/values`` of shape (n, *F).

Attributes of ``streams/<name>``: `kind` (see `Stream`), `unit`, `latency_s`, and whatever else is
known of it.
A further dataset beside the two, such as the pose of a moving camera for each sample, is left in
the file: open it with h5py.

HDF5 with ``data/<demo>`` is that of robosuite and robomimic; see `robosuite`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from . import robosuite
from .dataset import Dataset, not_numeric, reading, text
from .rotation import of_kind
from .stream import Log, LogError, Progress, Stream


def read(
    path: Path,
    form: str,
    *,
    log_time: bool = False,
    episode: str | None = None,
    progress: Progress | None = None,
) -> Log:
    """Open an HDF5 log: stamps and attributes are read, samples are not."""
    streams, skipped = {}, {}
    with reading(path) as file:
        groups = file.get("streams")
        if not hasattr(groups, "items"):
            if demos := robosuite.demos(file):
                return robosuite.read(path, demos, episode)
            raise LogError(
                f"{path} is HDF5 without the group 'streams': expected streams/<name>/t (int64 ns) "
                "and streams/<name>/values, or data/demo_<n> of robosuite and robomimic"
            )
        if episode is not None:
            raise LogError(f"{path} has streams/<name>, which have no episodes to choose from")
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
    if reason := not_numeric(values):
        return reason
    if (values.shape or ())[:1] != t.shape:
        return f"t has shape {t.shape}, but values have shape {values.shape}"
    return ""


def _stream(path: Path, name: str, group: Any) -> Stream:
    attrs = dict(group.attrs)
    latency = float(attrs.pop("latency_s", 0.0))
    if not math.isfinite(latency):
        raise LogError(f"{path}: latency_s of {name} is {latency}, expected seconds")
    values, kind = group["values"], text(attrs.pop("kind", "vector"))
    return Stream(
        name=name,
        times=group["t"][:].astype(np.int64),
        rows=Dataset(path, values.name, values.shape, values.dtype),
        kind=kind,
        unit=text(attrs.pop("unit", "")),
        latency=latency,
        rotation=of_kind(kind, values.shape[1:], values.dtype),
        attrs=attrs,
    )
