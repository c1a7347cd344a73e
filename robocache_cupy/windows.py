"""Windows of packed episodes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ._core.array import Arrays, Meta, Scalars
from ._core.check import dtype_of, inner, one_of
from ._core.kernel import Const, Kernel, Launch, Out
from ._core.plan import Plan, cached, op
from ._core.table import REFLECT, WINDOWS, Table
from ._core.time import clock_of, duration, rate, width
from ._gradients import windows_gradient
from ._streams import (
    ARITHMETIC,
    DATA,
    DEFAULTS,
    EVERYTHING,
    FLOATS,
    REDUCTIONS,
    SAMPLED,
    Place,
    Shape,
    Source,
    add_stream,
    as_normalization,
    blocks_at_once,
    check_columns,
    check_numbers,
    columns_of,
    is_default,
    level_of,
    name_numbers,
    result_dtype,
    share_blocks,
    specialisation,
    too_many_columns,
    types,
)

__all__ = ["Windows", "sample_windows"]

PADS = ("edge", "zero", "nan", "reflect")

_BY_INDEX = [(level_of(SAMPLED, code), SAMPLED, code, 2) for code in range(len(FLOATS))]
_BY_TIME = [x for x in DEFAULTS if x[1] == SAMPLED]
_windows = Kernel(
    "windows",
    "windows",
    [
        *types(),
        *[("float64", 0, *rest) for rest in _BY_INDEX],  # where there is no clock
        *[(wide, 0, *rest) for wide in ("int64", "float64") for rest in _BY_TIME],
    ],
    lambda t: WINDOWS.format(t[0], t[1]),
)


class Windows(NamedTuple):
    """What `sample_windows` returns for a single array.

    Attributes
    ----------
    values : array [B, K, *F]
        For each anchor a window of K steps.
    is_pad : bool array [B, K]
        True where there is no real data: beyond an end of the episode.

    Examples
    --------
    >>> import numpy as np
    >>> import robocache_cupy as rc
    >>> windows = rc.sample_windows(np.arange(4.0)[:, None], [0, 4], [3], delta_indices=[-1, 0, 1])
    >>> windows.values[0, :, 0], windows.is_pad[0]
    (array([2., 3., 3.]), array([False, False,  True]))
    """

    values: Any
    is_pad: Any


class _Key(NamedTuple):
    """The part of a key that a plan depends on."""

    deltas: tuple[Any, ...] | None
    method: Any = None
    rotation: Any = None
    normalize: Any = None
    pad: str = "edge"


@op(gradient=windows_gradient)
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
    if anchors is not None and anchor_times is not None:
        raise ValueError("anchors and anchor_times both say what the windows are around: give one "
                         "of them")  # fmt: skip
    if anchor_times is not None and not timed:
        raise ValueError("anchor_times needs the clock of the samples: pass times=")
    if timed and anchor_times is None and clocks > 1:
        raise ValueError("anchors are samples of one clock, and times has several: pass "
                         "anchor_times and anchor_episode")  # fmt: skip
    if episodes > 1 and anchor_times is None:
        raise ValueError(
            "anchors are samples of one set of episodes, and episode_offsets has one for each key: "
            "pass anchor_times and anchor_episode, or one set of offsets"
        )
    rate("fps", fps)
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
            steps = _deltas(key.deltas, timed, fps, clock)
            made = _source(
                name, x, key, numbers[i] if i < len(numbers) else None, A, dtype,
                times[min(i, clocks - 1)] if timed else None, offsets[min(i, episodes - 1)], steps,
            )  # fmt: skip
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

    most = max(x.shape[0] - 1 for x in offsets)
    if most > 2**30:
        raise ValueError(f"episode_offsets has {most} episodes: 2^30 is the limit")
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
            raise too_many_columns(names[first], sources[first].columns)
        part = sources[first:end]
        items = [A * n for n in targets[first:end]]
        plain = _plain(part, max(items))
        template = specialisation(part, table, plain, (*_BY_INDEX, *_BY_TIME))
        at_once = max(1, blocks_at_once(*template[2:]) - (template[-1] != 2))  # see windows.cu
        tile = 128 if template[2] == EVERYTHING else 256  # see windows.cu
        # In small blocks, which wait for one another less: 13.9 us where it took 14.9, and 23.7
        # where it took 25.3; by index also with more of them, as there is less to look for.
        at_once *= 4 if plain == 2 else 2
        header["blocks"] = share_blocks(table, part, items, at_once, tile)
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
                threads=128,
            )
        )
        first = end
    return Plan(outputs, launches, [], "Windows")


def _plain(sources: Sequence[Source], items: int) -> int:
    """PLAIN of windows.cu."""
    if any(isinstance(x.latency, Meta) for x in sources):
        return 0
    widths = {2 if x.times is None else width(x.times.dtype) for x in sources}
    default = widths == {2} or (len(widths) == 1 and all(map(is_default, sources)))
    return widths.pop() if default and items < 2**31 else 1


def _source(
    name: str,
    x: Meta,
    key: _Key,
    numbers: Any,
    anchors: int,
    dtype: Any,
    times: Meta | None,
    offsets: Meta,
    deltas: Sequence[Any],
) -> Source:
    """One key as a stream."""
    latency, tolerance, max_gap = (None, None, None) if numbers is None else numbers
    if times is None:
        for option, given in (("latency", latency), ("tolerance", tolerance),
                              ("max_gap", max_gap), ("method", key.method)):  # fmt: skip
            if given is not None:
                raise ValueError(
                    f"{option} has no effect without times: samples are taken as they are"
                )
    latency = 0.0 if latency is None else latency
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
    check_columns("data", columns, x.dtype, len(deltas), "delta_timestamps")
    if any(c.method in REDUCTIONS for c in columns) and [*deltas] != sorted(deltas):
        raise ValueError(
            "delta_timestamps descends, but a reduction takes the samples between targets: "
            "expected ascending ones"
        )
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
    shape = Shape(True, 1, 1, 1, x.shape[0], 0, step, 0, src_step, 0, 0)
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
    label = "delta_timestamps" if timed or fps is not None else "delta_indices"
    for d in deltas:
        if isinstance(d, (bool, np.bool_)) or not isinstance(d, (int, float, np.number)):
            kind = "whole numbers of samples" if label == "delta_indices" else "numbers of seconds"
            raise TypeError(f"{label} has {d!r}, expected {kind}")
    if timed:
        return [duration(label, float(d), clock, signed=True) for d in deltas]
    if fps is None:
        for d in deltas:
            if not abs(d) < _FURTHEST or d != int(d):
                raise ValueError(f"{label} has {d!r}, expected whole numbers of samples below 2^62")
        return [int(d) for d in deltas]
    for d in deltas:
        if not abs(d) < _FURTHEST / max(fps, 1):
            raise ValueError(f"{label} has {d!r}, expected numbers of seconds")
    steps = [round(d * fps) for d in deltas]
    for d, step in zip(deltas, steps, strict=True):
        if abs(d * fps - step) / fps > TOLERANCE:
            raise ValueError(
                f"delta_timestamps has {d} s, which is no multiple of 1 / fps = {1 / fps} s to "
                f"within {TOLERANCE} s: pass times= to interpolate"
            )
    return steps


TOLERANCE = 1e-4  # s, LeRobot's
_FURTHEST = 2**62  # samples that an index may go, so that none overflows


@cached
def _names(keys: tuple[str, ...], clocks: int, episodes: int) -> tuple[str, ...]:
    return (
        *(f"data[{key!r}]" if key else "data" for key in keys),
        *([f"times[{key!r}]" for key in keys] if clocks > 1 else ["times"] * clocks),
        *([f"{key}.episode_offsets" for key in keys] if episodes > 1 else ["episode_offsets"]),
        "anchors",
        "anchor_times",
        "anchor_episode",
    )


@cached
def _pads(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple([f"{name}_is_pad" for name in names])


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
        in their number of samples, which takes `anchor_times`.
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
        In place of `anchors`: points in time of episodes, with `times`. With `anchors`,
        `anchor_episode` alone spares the search for their episodes.
    method, latency, tolerance, max_gap, rotation, normalize : one for all, or a mapping by key
        As in `fuse_multimodal`; all but the last two take `times`. `latency` may be an array [A],
        one for each window: jitter for augmentation (`random_latency`). Reductions take two or
        more deltas, ascending. Statistics are those of a sample: with statistics [W, D] for each
        step of a window, call `normalize` on the result.
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
    label = "delta_timestamps" if delta_indices is None else "delta_indices"
    by_key = isinstance(given, Mapping)
    if single and by_key:
        raise TypeError(f"{label} is {given!r}, expected a list, for data is a single array")
    if by_key and not set(given) <= set(names):
        raise ValueError(f"{', '.join(set(given) - set(names))} has deltas, but is not in data")

    keys: list[_Key] = []
    numbers: list[Any] = []
    plain = (
        method is None and rotation is None and normalize is None
        and not isinstance(pad, Mapping)
    )  # fmt: skip
    default = tolerance is None and max_gap is None and type(latency) is float and latency == 0
    called_pads = _pads(names)
    for name, padding in zip(names, called_pads, strict=True):
        if by_key or not keys:
            deltas = given.get(name) if by_key else given
            if deltas is not None:
                deltas = _listed(label, name, deltas)
        if deltas is not None and padding in streams:
            raise ValueError(f"data has {padding}, which is what the padding of {name!r} is called")
        if plain:
            keys.append(_Key(deltas, pad=pad) if by_key or not keys else keys[0])
        else:
            keys.append(
                _Key(
                    deltas,
                    _of("method", method, name, names),
                    _of("rotation", rotation, name, names),
                    _of("normalize", normalize, name, names),
                    _of("pad", pad, name, names) or "edge",
                )
            )
        if default:
            numbers.append(None)
        else:
            late = _of("latency", latency, name, names)
            if isinstance(late, (int, float)) and late == 0:
                late = None
            numbers.append(
                (late, _of("tolerance", tolerance, name, names),
                 _of("max_gap", max_gap, name, names))
            )  # fmt: skip
    clocks = _each("times", times, names)
    episodes = _each("episode_offsets", episode_offsets, names)
    called = _names(names, len(clocks), len(episodes))
    try:
        result = _sample_windows(
            (*streams.values(), *clocks, *episodes, anchors, anchor_times, anchor_episode),
            tuple(numbers),
            names=called,
            keys=tuple(keys),
            clocks=len(clocks),
            episodes=len(episodes),
            fps=fps,
            dtype=dtype,
            time_unit=time_unit,
            backend=backend,
        )
    except TypeError as e:
        raise name_numbers(
            e, lambda i, field: f"{('latency', 'tolerance', 'max_gap')[field]} of {called[i]}"
        ) from None
    if single:
        return Windows(*result)
    parts = iter(result if isinstance(result, tuple) else (result,))
    batch = {}
    for name, padding, key in zip(names, called_pads, keys, strict=True):
        batch[name] = next(parts)
        if key.deltas is not None:
            batch[padding] = next(parts)
    return batch


def _listed(label: str, name: str, deltas: Any) -> tuple[Any, ...]:
    try:  # numbers, and not arrays of one, so that the same deltas find their plan again
        return tuple(deltas.tolist() if hasattr(deltas, "tolist") else deltas)
    except TypeError:
        raise TypeError(
            f"{label} of {name!r} is {deltas!r}, expected a list" if name else
            f"{label} is {deltas!r}, expected a list"
        ) from None  # fmt: skip


def _of(option: str, given: Any, name: str, names: Sequence[str]) -> Any:
    """An option for one key: a mapping is by key, but one of rotations may be by columns."""
    if not isinstance(given, Mapping):
        return given
    unknown = [key for key in given if key not in names]
    if not unknown:
        given = given.get(name)
        return tuple(given.items()) if isinstance(given, Mapping) else given
    if option == "rotation" and all(map(_are_columns, given)):
        return tuple(given.items())
    got = ", ".join(map(repr, unknown))
    if names == ("",):
        raise TypeError(f"{option} has {got}, but data is a single array, without keys")
    columns = ", or columns" if option == "rotation" else ""
    raise ValueError(f"{option} has {got}, expected keys of data ({', '.join(names)}){columns}")


def _are_columns(x: Any) -> bool:
    return not isinstance(x, str) or re.fullmatch(r"[-\d:]+", x) is not None


def _each(name: str, given: Any, names: Sequence[str]) -> tuple[Any, ...]:
    if given is None:
        return ()
    if not isinstance(given, Mapping):
        return (given,)
    missing = [key for key in names if key not in given]
    if missing:
        raise ValueError(f"{name} has no {', '.join(missing)}, expected one for each key of data")
    return tuple(given[key] for key in names)
