"""Windows of packed episodes."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._core.array import Arrays, Meta, Scalars
from ._core.check import dtype_of, inner, one_of
from ._core.kernel import Const, Kernel, Launch, Out
from ._core.plan import Plan, op
from ._core.table import REFLECT, WINDOWS, Table
from ._core.time import clock_of, duration, width
from ._streams import (
    ARITHMETIC,
    DATA,
    FLOATS,
    Place,
    Shape,
    Source,
    add_stream,
    as_normalization,
    blocks_at_once,
    check_numbers,
    columns_of,
    result_dtype,
    share_blocks,
    specialisation,
    types,
)

__all__ = ["Windows", "sample_windows"]

PADS = ("edge", "zero", "nan", "reflect")

_windows = Kernel("windows", "windows", types(), lambda t: WINDOWS.format(t[0], t[1]))


class Windows(NamedTuple):
    """What `sample_windows` returns for a single array."""

    values: Any
    is_pad: Any


class _Key(NamedTuple):
    """The part of a key that a plan depends on."""

    deltas: tuple[Any, ...] | None
    method: Any = None
    rotation: Any = None
    normalize: Any = None
    pad: str = "edge"


@op
def _sample_windows(
    arrays: Arrays,
    numbers: Scalars = (),
    *,
    names: tuple[str, ...],
    keys: tuple[_Key, ...],
    clocks: int,
    episodes: int,
    fps: float | None,
    dtype: Any,
    time_unit: str | None,
    backend: str,
) -> Any:
    """`arrays` are the data of each key, their `clocks` (0, 1 or one for each), the offsets of
    `episodes` (1 or one for each), anchors, anchor_times, anchor_episode; `numbers` are latency,
    tolerance and max_gap of each key."""
    count = len(keys)
    data = arrays[:count]
    times = arrays[count : count + clocks]
    offsets = arrays[count + clocks : count + clocks + episodes]
    anchors, anchor_times, anchor_episode = arrays[count + clocks + episodes :]
    clock = clock_of(
        time_unit, **dict(zip(names[count:], times, strict=False)), anchor_times=anchor_times
    )
    timed = clocks > 0
    if anchors is None and (anchor_times is None or anchor_episode is None):
        raise ValueError("give anchors, or anchor_times and anchor_episode")
    if anchor_times is not None and not timed:
        raise ValueError("anchor_times needs the clock of the samples: pass times=")
    if timed and anchor_times is None and clocks > 1:
        raise ValueError("anchors are samples of one clock, and times has several: pass "
                         "anchor_times and anchor_episode")  # fmt: skip
    if episodes > 1 and anchor_episode is None:
        raise ValueError("episode_offsets differ from key to key: pass anchor_episode")
    sizes = {}
    for name, x, kinds in (
        ("anchors", anchors, ("int32", "int64")),
        ("anchor_times", anchor_times, None),
        ("anchor_episode", anchor_episode, ("int32", "int64")),
    ):
        if x is None:
            continue
        if len(x.shape) != 1:
            raise ValueError(f"{name} has shape {x.shape}, expected one axis")
        if kinds is not None:
            dtype_of(name, x, kinds)
        inner(x, 0)
        sizes[name] = x.shape[0]
    if len(set(sizes.values())) > 1:
        raise ValueError(f"{' and '.join(sizes)} differ in length: {[*sizes.values()]}")
    A = next(iter(sizes.values()))

    sources, places, paddings, deltas, targets = [], [], [], [], []
    outputs: dict[str, Out | Meta] = {}
    for i, (x, key) in enumerate(zip(data, keys, strict=True)):
        name = names[i]
        try:
            made = _source(
                name, x, key, numbers[i] if i < len(numbers) else None, A, dtype,
                times[min(i, clocks - 1)] if timed else None, offsets[min(i, episodes - 1)],
            )  # fmt: skip
            steps = _deltas(key.deltas, timed, fps, clock)
        except (TypeError, ValueError) as e:
            raise type(e)(str(e) if str(e).startswith(name) else f"{name}: {e}") from None
        window = () if key.deltas is None else (len(steps),)
        features = x.shape[1:]
        out = outputs[f"window{i}"] = Out((A, *window, *features), made.dtype)
        is_pad = None
        if key.deltas is not None:
            is_pad = outputs[f"is_pad{i}"] = Out((A, *window), "bool")
        sources.append(made)
        places.append(Place(out, inner(x, 1), 0, 16))
        paddings.append(is_pad)
        targets.append(len(steps))
        wide = np.dtype(clock.wide) if timed else np.dtype(np.int64)
        deltas.append(Const(np.asarray(steps, wide)))

    if episodes == 1 and len({x.shape[0] for x in data}) > 1:
        got = ", ".join(f"{names[i]} has {x.shape[0]}" for i, x in enumerate(data))
        raise ValueError(
            f"the keys differ in their number of samples: {got}. Pass episode_offsets for each"
        )

    launches = []
    first = 0
    while first < count:
        table = Table(WINDOWS)
        end = first
        for end in range(count, first, -1):
            table = Table(WINDOWS)
            for k in range(first, end):
                add_stream(table, sources[k], places[k], paddings[k], clock, targets[k], deltas[k])
                row = table.streams[-1]
                row["src_row_or_episodes"] = offsets[min(k, episodes - 1)].shape[0] - 1
                row["flags"] |= REFLECT * (keys[k].pad == "reflect")
            header = {
                "anchors_count": A,
                "streams": end - first,
                "ticks": float(clock.ticks),
                "anchors": table.at(anchors),
                "anchor_times": table.at(anchor_times),
                "episodes": table.at(anchor_episode),
                "narrow_anchors": int(anchors is not None and width(anchors.dtype) == 4),
                "narrow_anchor_times": int(
                    anchor_times is not None and width(anchor_times.dtype) == 4
                ),
                "narrow_episodes": int(
                    anchor_episode is not None and width(anchor_episode.dtype) == 4
                ),
            }
            if table.fits():
                break
        else:
            raise ValueError(f"{names[first]} has more kinds of columns than one launch can take")
        part = sources[first:end]
        items = [A * n for n in targets[first:end]]
        plain = not any(isinstance(x.latency, Meta) for x in part)
        template = specialisation(part, table, plain)
        at_once = max(1, blocks_at_once(*template[2:]) - 1)  # see windows.cu
        header["blocks"] = share_blocks(table, part, items, at_once)
        columns = sum(c.width * c.groups for x in part for c in x.columns)
        launches.append(
            Launch(
                _windows,
                (clock.wide, *template),
                table.arrays(),
                table.numbers(header),
                items=sum(items),
                weight=max(1, columns // len(part)),
                blocks=max(1, min(header["blocks"], 2**30)),
                threads=256,
            )
        )
        first = end
    return Plan(outputs, launches, [], "Windows")


def _source(
    name: str,
    x: Meta,
    key: _Key,
    numbers: Any,
    anchors: int,
    dtype: Any,
    times: Meta | None,
    offsets: Meta,
) -> Source:
    """One key as a stream."""
    latency, tolerance, max_gap = (0.0, None, None) if numbers is None else numbers
    dtype_of("data", x, DATA)
    if not x.shape:
        raise ValueError("data has shape (), expected [N, *F]")
    inner(x, 1)
    if len(offsets.shape) != 1 or offsets.shape[0] < 1:
        raise ValueError(f"episode_offsets has shape {offsets.shape}, expected (E + 1,)")
    dtype_of("episode_offsets", offsets, ("int32", "int64"))
    inner(offsets, 0)
    check_numbers(tolerance=tolerance, max_gap=max_gap)
    if isinstance(latency, Meta):
        if latency.shape != (anchors,):
            raise ValueError(f"latency has shape {latency.shape}, expected ({anchors},)")
        dtype_of("latency", latency, ("float32", "float64"))
        inner(latency, 0)
    if times is not None and times.shape != x.shape[:1]:
        raise ValueError(
            f"times has shape {times.shape}, expected {x.shape[:1]} for data of shape {x.shape}"
        )
    default = "linear" if x.dtype in FLOATS and times is not None else "nearest"
    columns = columns_of(name, x.shape[1:], key.method, key.rotation, default)
    if times is None:  # samples are taken as they are
        columns = [c._replace(method="nearest") for c in columns]
    normalize = as_normalization(key.normalize)
    interpolated = any(c.method in ARITHMETIC for c in columns)
    y = result_dtype(
        x.dtype,
        {c.method for c in columns},
        dtype if x.dtype in FLOATS or normalize is not None or interpolated else None,
        None,
        name,
    )
    if normalize is not None and y not in FLOATS:
        raise TypeError(f"{name} has dtype {x.dtype}, which cannot be normalised: pass dtype=")
    one_of("pad", key.pad, PADS)
    if key.pad == "reflect" and times is not None:
        raise ValueError("pad is 'reflect', which is for indices and not for times")
    fill = {"zero": 0, "nan": float("nan")}.get(key.pad)
    if key.pad == "nan" and y not in FLOATS:
        raise TypeError(f"pad is 'nan', which {y} data cannot hold")
    step, src_step = x.strides[0], 0 if times is None else times.strides[0]
    shape = Shape(True, 1, 1, x.shape[0], 0, step, 0, src_step, 0, 0)
    return Source(
        name, x, times, None, offsets, latency, tolerance, max_gap, "hold", fill, None, None,
        shape, columns, normalize, y,
    )  # fmt: skip


def _deltas(
    deltas: tuple[Any, ...] | None, timed: bool, fps: float | None, clock: Any
) -> list[Any]:
    """Steps in samples, or durations in ticks."""
    if deltas is None:
        return [0]
    if timed:
        return [duration("delta_timestamps", float(d), clock, signed=True) for d in deltas]
    if fps is None:
        steps = []
        for d in deltas:
            if isinstance(d, bool) or not math.isfinite(d) or d != int(d):
                raise ValueError(f"delta_indices has {d!r}, expected whole numbers of samples")
            steps.append(int(d))
        return steps
    for d in deltas:
        if not (isinstance(d, (int, float, np.number)) and math.isfinite(d)):
            raise ValueError(f"delta_timestamps has {d!r}, expected numbers of seconds")
    steps = [round(d * fps) for d in deltas]
    for d, step in zip(deltas, steps, strict=True):
        if abs(d * fps - step) / fps > TOLERANCE:
            raise ValueError(
                f"delta_timestamps has {d} s, which is no multiple of 1 / fps = {1 / fps} s to "
                f"within {TOLERANCE} s: pass times= to interpolate"
            )
    return steps


TOLERANCE = 1e-4  # s, LeRobot's


@functools.lru_cache(256)
def _names(keys: tuple[str, ...], clocks: int, episodes: int) -> tuple[str, ...]:
    return (
        *(f"data[{key!r}]" if key else "data" for key in keys),
        *([f"times[{key!r}]" for key in keys] if clocks > 1 else ["times"] * clocks),
        *([f"{key}.episode_offsets" for key in keys] if episodes > 1 else ["episode_offsets"]),
        "anchors",
        "anchor_times",
        "anchor_episode",
    )


def sample_windows(
    data: Any,
    episode_offsets: Any,
    anchors: Any = None,
    *,
    delta_indices: Any = None,
    delta_timestamps: Any = None,
    fps: float | None = None,
    times: Any = None,
    anchor_times: Any = None,
    anchor_episode: Any = None,
    method: Any = None,
    tolerance: Any = None,
    max_gap: Any = None,
    latency: Any = 0.0,
    pad: Any = "edge",
    rotation: Any = None,
    normalize: Any = None,
    dtype: Any = None,
    time_unit: str | None = None,
    backend: str = "auto",
) -> Any:
    """Windows of packed episodes around anchors: a training batch in one launch.

    Parameters
    ----------
    data : mapping from key to array [N, *F], or array
        Samples of all episodes, one episode after another.
    episode_offsets : integers [E + 1], or mapping
        Episode e is ``data[episode_offsets[e]:episode_offsets[e + 1]]``; by key where keys differ
        in their number of samples.
    anchors : integers [A], optional
        The sample in `data` that each window is around; from 0 to N - 1.
    delta_indices : list of integers, or mapping from key to list
        The samples of a window, as steps from its anchor (GR00T's name).
    delta_timestamps : list of seconds, or mapping from key to list
        The same in seconds (LeRobot's name), with `fps` or `times`. Keys that a mapping leaves out
        give their sample at the anchor, without an axis for the window.
    fps : per second, optional
        The rate of the samples. Deltas must be multiples of its period, to within LeRobot's
        tolerance of 1e-4 s.
    times : array [N], or mapping
        Stamps of the samples, ascending within an episode. Windows are then interpolated at the
        times of the anchors plus `delta_timestamps`, at any rate.
    anchor_times, anchor_episode : array [A], integers [A]
        In place of `anchors`: points in time of episodes, with `times`.
    method, latency, tolerance, max_gap, rotation, normalize : one for all, or a mapping by key
        As in `fuse_multimodal`; those but the last two are for `times`. `latency` may be an array
        [A], one for each window: jitter for augmentation (`random_latency`).
    pad : {"edge", "zero", "nan", "reflect"}, or a mapping
        What stands beyond the ends of an episode: its first or last sample (LeRobot, Diffusion
        Policy, Octo), zero (GR00T's relative actions), NaN, or the samples mirrored at the end.
    dtype : optional
        dtype of floats and of what is normalised; by default that of the data.
    time_unit : {"ns", "us", "ms", "s"}, optional
        The unit of the stamps.
    backend : {"auto", "cuda", "numba"}
        auto runs where the arrays lie.

    Returns
    -------
    dict, or Windows
        ``{key: [A, W, *F], f"{key}_is_pad": bool [A, W]}``, as LeRobot's ``__getitem__`` and
        collation give; of a single array the pair ``values, is_pad``. is_pad is True for padding:
        beyond the ends of the episode (of ``previous`` after its end, and ``next`` before its
        start, only with `tolerance` or `max_gap`), in a gap longer than `max_gap`, or further from
        the samples than `tolerance`.

    Raises
    ------
    ValueError, TypeError
        Naming the key and the argument, what came and what was expected.

    Notes
    -----
    With indices, sample ``clip(anchor + delta, from, to - 1)`` is taken and is padding where it
    was clipped: bit for bit what LeRobot does. A loss over such windows is
    ``loss[~is_pad].mean()``, and not ``(loss * ~is_pad).mean()``.

    Examples
    --------
    Two episodes of three and two samples; the next three actions from each anchor on:

    >>> import numpy as np
    >>> import robocache_cupy as rc
    >>> action = np.arange(5.0)[:, None]
    >>> ahead = {"action": [0, 0.1, 0.2]}
    >>> batch = rc.sample_windows(
    ...     {"action": action}, [0, 3, 5], [1, 3], delta_timestamps=ahead, fps=10)
    >>> batch["action"][..., 0], batch["action_is_pad"]
    (array([[1., 2., 2.], [3., 4., 4.]]),
     array([[False, False,  True], [False, False,  True]]))
    """
    single = not isinstance(data, Mapping)
    streams: Mapping[str, Any] = {"": data} if single else data
    if not streams:
        raise ValueError("data is empty, expected at least one key")
    names = tuple(streams)
    if (delta_indices is None) == (delta_timestamps is None):
        raise ValueError("give the windows as either delta_indices or delta_timestamps")
    given = delta_timestamps if delta_indices is None else delta_indices
    if delta_indices is not None and not (fps is None and times is None and anchor_times is None):
        raise ValueError("delta_indices are samples: fps, times and anchor_times are for "
                         "delta_timestamps")  # fmt: skip
    if delta_timestamps is not None and (fps is None) == (times is None):
        raise ValueError("delta_timestamps needs either fps or times")
    if fps is not None and not fps > 0:
        raise ValueError(f"fps is {fps}, expected a rate above 0 per second")
    label = "delta_timestamps" if delta_indices is None else "delta_indices"
    if single and isinstance(given, Mapping):
        raise TypeError(f"{label} is {given!r}, expected a list, for data is a single array")
    if isinstance(given, Mapping) and not set(given) <= set(names):
        raise ValueError(f"{', '.join(set(given) - set(names))} has deltas, but is not in data")

    keys, numbers = list[_Key](), list[Any]()
    plain = (
        method is None and rotation is None and normalize is None
        and not isinstance(pad, Mapping)
    )  # fmt: skip
    default = tolerance is None and max_gap is None and type(latency) is float and latency == 0
    for name in names:
        deltas = given.get(name) if isinstance(given, Mapping) else given
        if deltas is not None:
            deltas = _listed(label, name, deltas)
            if f"{name}_is_pad" in streams:
                raise ValueError(f"data has {name}_is_pad, which is what the padding of {name!r} "
                                 "is called")  # fmt: skip
        if plain:
            keys.append(_Key(deltas, pad=pad))
        else:
            keys.append(
                _Key(
                    deltas,
                    _of(method, name, names),
                    _of(rotation, name, names),
                    _of(normalize, name, names),
                    _of(pad, name, names) or "edge",
                )
            )
        if default:
            numbers.append(None)
        else:
            late = _of(latency, name, names)
            numbers.append(
                (0.0 if late is None else late, _of(tolerance, name, names),
                 _of(max_gap, name, names))
            )  # fmt: skip
    clocks = _each("times", times, names)
    episodes = _each("episode_offsets", episode_offsets, names)
    result = _sample_windows(
        (*streams.values(), *clocks, *episodes, anchors, anchor_times, anchor_episode),
        tuple(numbers),
        names=_names(names, len(clocks), len(episodes)),
        keys=tuple(keys),
        clocks=len(clocks),
        episodes=len(episodes),
        fps=fps,
        dtype=dtype,
        time_unit=time_unit,
        backend=backend,
    )
    if single:
        return Windows(*result)
    parts = iter(result if isinstance(result, tuple) else (result,))
    batch = {}
    for name, key in zip(names, keys, strict=True):
        batch[name] = next(parts)
        if key.deltas is not None:
            batch[f"{name}_is_pad"] = next(parts)
    return batch


def _listed(label: str, name: str, deltas: Any) -> tuple[Any, ...]:
    try:  # numbers, and not arrays of one, so that the same deltas find their plan again
        return tuple(deltas.tolist() if hasattr(deltas, "tolist") else deltas)
    except TypeError:
        raise TypeError(
            f"{label} of {name!r} is {deltas!r}, expected a list" if name else
            f"{label} is {deltas!r}, expected a list"
        ) from None  # fmt: skip


def _of(option: Any, name: str, names: Sequence[str]) -> Any:
    """An option for one key: a mapping whose keys are those of data is by key."""
    if isinstance(option, Mapping) and option and set(option) <= set(names):
        option = option.get(name)
    return tuple(option.items()) if isinstance(option, dict) else option


def _each(name: str, given: Any, names: Sequence[str]) -> tuple[Any, ...]:
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        return (given,)
    missing = [key for key in names if key not in given]
    if missing:
        raise ValueError(f"{name} has no {', '.join(missing)}, expected one for each key of data")
    return tuple(given[key] for key in names)
