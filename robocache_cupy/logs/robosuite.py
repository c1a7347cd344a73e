"""HDF5 of robosuite and robomimic, ``data/demo_<n>``, that of RoboTurk included.

Every numeric dataset of one demo is a stream, named by its path: ``demo_1/obs/robot0_eef_pos``.

- RoboTurk recorded when the messages of each user arrived. Those stamps are the clock of
  ``user_info/<user>``. A tick of the controller has the newest of them, and whatever counts in
  ticks (``..counters``) goes by it, the actions and states of the demo included. Ticks come at 42
  to 51 Hz and messages at 20, so most of these stamps repeat.
- Anything else has no stamps: sample k is at k / control_freq of ``env_args``, or, without that,
  at the simulation time that robosuite keeps as the first column of ``states``.
- ``next_obs`` is ``obs`` one step later, and left out. So are the stamps and counters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset, not_numeric, text
from .rotation import of_kind
from .stream import Log, LogError, Stream

_DEFAULT_HZ = 20.0  # of robosuite
_CLOCKS = ("/counters", "_counters", "/timestamp", "/user_timestamps")
_SHOWN = 5  # names of other episodes


def demos(file: Any) -> dict[str, Any]:
    """The groups of the demos by name, or nothing if the file has another layout."""
    data = file.get("data")
    if not hasattr(data, "items"):
        return {}
    groups = {name: group for name, group in data.items() if hasattr(group.get("actions"), "dtype")}
    return {name: groups[name] for name in sorted(groups, key=_natural)}


def _natural(name: str) -> list[tuple[int, str]]:
    """So that demo_2 comes before demo_10."""
    return [(int(digits or 0), other) for digits, other in re.findall(r"(\d+)|(\D+)", name)]


def read(path: Path, demos: Mapping[str, Any], episode: str | None) -> Log:
    """One demo of an opened file, the first by default: stamps are read, samples are not."""
    name = next(iter(demos)) if episode is None else episode
    if name not in demos:
        raise LogError(f"{path} has no episode {name}, only {_some(list(demos))}")
    others = [other for other in demos if other != name]
    notes = [f"{name} is one of {len(demos)} episodes: --episode NAME chooses {_some(others)}"]
    demo = demos[name]
    ticks = _ticks(demo)
    steps = _steps(demo, ticks)
    if isinstance(steps, str):
        raise LogError(f"{path}: {name} {steps}")
    notes.append(steps.origin)

    streams: dict[str, Stream] = {}
    skipped: dict[str, str] = {}
    for dataset in _datasets(demo):
        if dataset.name.endswith(_CLOCKS):
            continue
        inside = dataset.name.removeprefix(f"{demo.name}/")
        label = f"{name}/{inside}"
        stamps = _stamps(dataset, inside, ticks, steps.times)
        if isinstance(stamps, str):
            skipped[label] = stamps
        elif reason := not_numeric(dataset):
            skipped[label] = reason
        else:
            streams[label] = _stream(path, label, dataset, stamps, demo)
    if "next_obs" in demo:
        skipped[f"{name}/next_obs"] = "it is obs one step later"
    if not streams:
        raise LogError(f"{path} has no numbers in {name}: nothing to read")
    return Log(path, "robosuite HDF5", streams, skipped, tuple(notes if others else notes[1:]))


def _some(names: list[str]) -> str:
    if len(names) <= _SHOWN + 1:
        return ", ".join(names)
    return f"{', '.join(names[:_SHOWN])}, ... {names[-1]}"


def _datasets(group: Any) -> Iterator[Any]:
    for name, entry in group.items():
        if name == "next_obs":
            continue
        if hasattr(entry, "items"):
            yield from _datasets(entry)
        else:
            yield entry


class _Steps(NamedTuple):
    """The clock of the actions."""

    times: NDArray[np.int64]
    origin: str


class _Ticks(NamedTuple):
    """When each tick of the controller of RoboTurk was, by its number."""

    counters: NDArray[np.int64]  # ascending
    times: NDArray[np.int64]

    def at(self, counters: NDArray[Any]) -> NDArray[np.int64] | str:
        found = np.searchsorted(self.counters, counters).clip(max=len(self.counters) - 1)
        if not len(counters) or (self.counters[found] != counters).any():
            return "its counters are none of those of the controller"
        return self.times[found]


def _ticks(demo: Any) -> _Ticks | None:
    info = demo.get("controller_info", {})
    if "counters" not in info or "user_timestamps" not in info:
        return None
    counters, stamps = info["counters"][:], _nanoseconds(info["user_timestamps"][:])
    if stamps is None or counters.shape != stamps.shape[:1] or (np.diff(counters) <= 0).any():
        return None
    return _Ticks(counters, stamps.max(axis=1)) if stamps.ndim == 2 and stamps.size else None


def _steps(demo: Any, ticks: _Ticks | None) -> _Steps | str:
    """The clock of the actions, and where it comes from; or what is wrong."""
    count = len(demo["actions"])
    counters = demo.get("controller_info/robot_controls/counters")
    if ticks and counters is not None and counters.shape == (count,):
        stamps = ticks.at(counters[:])
        if not isinstance(stamps, str):
            return _Steps(stamps, "stamps are those of the users' messages")
    hz = _control_freq(demo)
    if hz is not None:
        return _Steps(_grid(count, hz), f"no stamps in it: by control_freq, {hz:g} Hz from 0 s on")
    states = demo.get("states")
    if states is not None and states.ndim == 2 and states.shape[0] == count and states.shape[1]:
        times = _nanoseconds(states[:, 0])
        if times is not None and (np.diff(times) > 0).all() and (times >= 0).all():
            return _Steps(times, "no stamps in it: by the simulation time in states")
    return _Steps(
        _grid(count, _DEFAULT_HZ),
        f"no stamps, control_freq or simulation time in it: by robosuite's {_DEFAULT_HZ:g} Hz",
    )


def _grid(count: int, hz: float) -> NDArray[np.int64]:
    return np.rint(np.arange(count) * 1e9 / hz).astype(np.int64)


def _control_freq(demo: Any) -> float | None:
    attributes = demo.parent.attrs
    for name in ("env_args", "env_info"):
        try:
            described = json.loads(text(attributes[name]))
            hz = float(described.get("env_kwargs", described)["control_freq"])
        except (KeyError, TypeError, ValueError, AttributeError):
            continue
        if 0 < hz < 1e6:
            return hz
    return None


def _nanoseconds(seconds: NDArray[Any]) -> NDArray[np.int64] | None:
    """The integer part is exact apart from the fraction: in ns, float64 would step by 256."""
    if seconds.dtype.kind != "f" or not (np.abs(seconds) < 9e9).all():  # NaN is not, either
        return None
    whole = np.floor(seconds)
    fraction = np.rint((seconds - whole) * 1e9).astype(np.int64)
    return whole.astype(np.int64) * 1_000_000_000 + fraction


def _stamps(
    dataset: Any, inside: str, ticks: _Ticks | None, steps: NDArray[np.int64]
) -> NDArray[np.int64] | str:
    """The stamps of a dataset, or why it is no stream."""
    groups = inside.split("/")[:-1]
    if not dataset.shape:
        return "a single value"
    count = dataset.shape[0]
    if len(groups) == 2 and groups[0] == "user_info" and "timestamp" in dataset.parent:
        stamps = _nanoseconds(dataset.parent["timestamp"][:])
        if stamps is None:
            return "its timestamps are no seconds"
        return stamps if len(stamps) == count else _mismatch(count, len(stamps))
    if ticks and groups[:1] == ["controller_info"]:
        if len(groups) == 1:
            return ticks.times if len(ticks.times) == count else _mismatch(count, len(ticks.times))
        counters = _counters(dataset)
        if counters is not None:
            found = ticks.at(counters[:])
            if isinstance(found, str) or len(found) == count:
                return found
            return _mismatch(count, len(found))
    return steps if len(steps) == count else _mismatch(count, len(steps))


def _counters(dataset: Any) -> Any:
    """Beside the dataset, or beside its group: arm0_counters is for what is in arm0."""
    group = dataset.parent
    arm = group.name.rpartition("/")[2]
    return group.get("counters", group.parent.get(f"{arm}_counters"))


def _mismatch(count: int, stamps: int) -> str:
    return f"{count} samples, but {stamps} stamps"


def _stream(path: Path, label: str, dataset: Any, stamps: NDArray[np.int64], demo: Any) -> Stream:
    name, features = label.rpartition("/")[2], dataset.shape[1:]
    kind, attrs = "vector", {}
    if name.endswith("_quat") and features == (4,):
        kind = "quat_xyzw"
    elif name.endswith(("_depth", "_image")) and len(features) >= 2:
        camera, _, kind = name.rpartition("_")
        attrs = _camera(demo, camera)
    return Stream(
        name=label,
        times=stamps,
        rows=Dataset(path, dataset.name, dataset.shape, dataset.dtype),
        kind=kind,
        rotation=of_kind(kind, features, dataset.dtype),
        attrs=attrs,
    )


def _camera(demo: Any, camera: str) -> dict[str, Any]:
    """Intrinsics K and pose, where robomimic kept them."""
    try:
        known = json.loads(text(demo.attrs["camera_info"]))[camera]
        return {
            "K": np.array(known["intrinsics"], np.float64),
            "cam_to_world": np.array(known["extrinsics"], np.float64),
        }
    except (KeyError, TypeError, ValueError):
        return {}
