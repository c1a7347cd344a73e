"""The gradients of the ops on time, which `op` takes.

Each is a function of the gradients by the outputs and of the arguments of the call, and is made of
other ops and of what NumPy, torch and jax.numpy have in common.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ._core.array import dtype_name, namespace
from ._streams import (
    FLOATS,
    METHODS,
    ROTATIONS,
    Columns,
    Rotation,
    as_normalization,
    both_ends,
    columns_of,
    has_batch_axis,
    weight_dtype,
)

__all__: list[str] = []

NONLINEAR = ("pchip", "akima", "makima")  # in the data
_WITHOUT = ("max", "min", "any")


def _name(x: Any) -> str:
    return dtype_name(x.dtype)


def _as(x: Any, dtype: Any) -> Any:
    return x if x.dtype == dtype else namespace(x).asarray(x, dtype=dtype)


def _size(shape: Sequence[int]) -> int:
    return math.prod(shape)


# ----------------------------------------------------------------------------------- normalisation


@functools.lru_cache(256)
def _parts(normalization: Any) -> tuple[Any, Any, bool]:
    """The slope of a normalisation, all of it but its bounds, and whether it has bounds."""
    from .normalize import _UNTOUCHED, _Affine, _new

    def made(shift: Any, scale: Any, offset: Any, label: str) -> Any:
        shape = normalization.scale.shape
        rows = (shift, scale, offset, -math.inf, math.inf)
        affine = _Affine(*(np.array(np.broadcast_to(x, shape), np.float64) for x in rows))
        made = _new(affine, normalization._constant, normalization.mask, label)
        made.__dict__["_other"] = made
        return made

    shift, _, offset = _UNTOUCHED
    bounded = np.isfinite(normalization.low).any() or np.isfinite(normalization.high).any()
    return (
        made(shift, normalization.scale, offset, "slope"),
        made(normalization.shift, normalization.scale, normalization.offset, "without bounds"),
        bool(bounded),
    )


def _through(
    normalization: Any, g: Any, x: Callable[[], Any], compute: str, backend: str, dtype: Any = None
) -> Any:
    """The gradient by what was normalised: times the scale, and 0 where it was clipped."""
    from .normalize import _normalize

    slope, free, bounded = _parts(normalization)
    options: dict[str, Any] = {"out": None, "backend": backend}
    scaled = _normalize(g, normalization=slope, dtype=dtype, **options)
    if not bounded:
        return scaled
    values = x()
    inside = _normalize(
        values, normalization=normalization, dtype=compute, **options
    ) == _normalize(values, normalization=free, dtype=compute, **options)
    xp = namespace(g)
    return xp.where(inside, scaled, xp.zeros_like(scaled))


def normalize_gradient(grads: Sequence[Any], arguments: dict[str, Any]) -> dict[str, Any]:
    g, x = grads[0], arguments["x"]
    compute = weight_dtype(_name(x), _name(g))
    return {
        "x": _through(
            arguments["normalization"], g, lambda: x, compute, arguments["backend"], _name(x)
        )
    }


# ----------------------------------------------------------------------------------------- streams


def _check_methods(what: str, columns: Sequence[Columns]) -> None:
    for c in columns:
        if c.method in _WITHOUT:
            raise RuntimeError(
                f"{what} of method {c.method!r} has no gradient by its data: detach the data, or "
                f"use one of {', '.join(m for m in METHODS if m not in _WITHOUT)}"
            )


def _by_columns(
    g: Any,
    raw: Any,
    columns: Sequence[Columns],
    masked: bool,
    plain: Callable[[Any, str, Any], Any],
    turned: Callable[[Any, Columns, Any], Any],
) -> Any:
    """The gradient of columns [..., D] that are made in different ways, each kind by its function
    of the gradient, the method and the columns. `raw` is the gradient before normalisation, which
    leaves rotations alone unless it is `masked`."""
    if len(columns) == 1 and not columns[0].rotation:
        return plain(g, columns[0].method, None)
    xp = namespace(g)
    parts, places = [], []
    ways: dict[str, list[int]] = {}
    for c in columns:
        for group in range(c.groups):
            own = sorted(x + group * c.stride for x in c.every())
            if c.rotation:
                at = np.array(own)
                parts.append(turned((g if masked else raw)[..., at], c, at))
                places += own
            else:
                ways.setdefault(c.method, []).extend(own)
    for method, own in ways.items():
        at = np.array(own)
        parts.append(plain(g[..., at], method, at))
        places += own
    return xp.concatenate(parts, -1)[..., np.argsort(places)]


def _rotation_of(c: Columns) -> Rotation:
    from ._streams import CANONICAL, LONG_WAY, NLERP

    kind = next(name for name, (code, _) in ROTATIONS.items() if code == c.rotation)
    return Rotation(kind, not c.flags & LONG_WAY, bool(c.flags & NLERP), bool(c.flags & CANONICAL))


def _stream(
    what: str,
    g: Any,
    data: Any,
    features: tuple[int, ...],
    src_times: Any,
    tgt_times: Any,
    *,
    rows: int,
    T: int,
    method: Any,
    rotation: Any,
    normalize: Any,
    unnormalised: Callable[[str], Any],
    offsets: Any,
    dtype_of_values: str,
    grid: Any = None,
    **options: Any,
) -> Any:
    """The gradient by the data of a stream, of that by its values [rows, T, *features].

    `unnormalised` makes the values of a dtype without normalising them. `grid` are the times of
    a grid that begins in each row at a time of its own.
    """
    from ._rotation_gradient import rotation_gradient
    from .backward import resample_backward

    xp = namespace(g)
    D = _size(features)
    lead = len(data.shape) - len(features)
    samples = data.shape[lead - 1]
    default = "linear"
    columns = columns_of("data", features, method, rotation, default)
    _check_methods(what, columns)
    normalization = as_normalization(normalize)
    raw = xp.reshape(g, (rows, T, D))
    g = raw
    if normalization is not None:
        compute = weight_dtype(_name(data), dtype_of_values)
        shaped = (rows, T, *(features or (1,)))
        g = _through(
            normalization, xp.reshape(raw, shaped),
            lambda: xp.reshape(unnormalised(compute), shaped), compute, options["backend"],
        )  # fmt: skip
        g = xp.reshape(g, (rows, T, D))
    if tgt_times is not None and len(tgt_times.shape) == 1:
        tgt_times = xp.reshape(tgt_times, (1, T))
    # Rows that share their data have its gradient in their sum.
    shared = (lead == 1 or data.shape[0] == 1) and rows != 1
    one_row = offsets is not None and len(offsets) == 2
    shared = shared and (offsets is None or one_row)
    compute = weight_dtype(dtype_of_values, _name(data))
    flat = xp.reshape(data, (*data.shape[:lead], D))
    of_result = compute if shared else _name(data)
    common = {"samples": samples, "offsets": offsets, "dtype": of_result, **options}

    def plain(g: Any, way: str, at: Any) -> Any:
        own = None
        if way in NONLINEAR:
            own = _as(flat if at is None else flat[..., at], getattr(xp, of_result, None)
                      or data.dtype)  # fmt: skip
        return resample_backward(g, src_times, tgt_times, data=own, method=way, **common)

    def turned(g: Any, c: Columns, at: Any) -> Any:
        on = common if grid is None else {**common, "hz": None, "t_start": None}
        times = tgt_times if grid is None else xp.reshape(grid, (-1, T))
        return rotation_gradient(
            g, flat[..., at], src_times, times, rotation=_rotation_of(c), method=c.method, **on
        )

    masked = normalization is not None and normalization.mask is not None
    by_data = _by_columns(g, raw, columns, masked, plain, turned)
    if shared:
        by_data = _as(by_data.sum(0), data.dtype)
    return xp.reshape(by_data, data.shape)


_TIMING = ("extrapolate", "tolerance", "max_gap", "fill_value", "latency", "lengths", "offsets",
           "src_hz", "src_start")  # fmt: skip


def resample_gradient(grads: Sequence[Any], arguments: dict[str, Any]) -> dict[str, Any]:
    from .resample import resample_trajectories

    g, a = grads[0], arguments
    if g is None:
        return {}
    data, src_times, tgt_times = a["data"], a["src_times"], a["tgt_times"]
    several = _several_rows(a["lengths"], a["latency"], a["tgt_lengths"], tgt_times)
    lead = 1 + (a["offsets"] is None and has_batch_axis(data, src_times, several))
    features = tuple(data.shape[lead:])
    batched = len(g.shape) - len(features) - 1
    rows, T = (g.shape[0] if batched else 1), g.shape[batched]

    def unnormalised(dtype: str) -> Any:
        again = {"normalize": None, "dtype": dtype, "num": None if a["hz"] is None else T}
        return resample_trajectories(
            **{**a, **again, "out": None, "return_valid": False, "return_index": False,
               "return_times": False, "check": False}
        )  # fmt: skip

    return {
        "data": _stream(
            "resample_trajectories", g, data, features, src_times, tgt_times, rows=rows, T=T,
            unnormalised=unnormalised, dtype_of_values=_name(g),
            **{name: a[name] for name in ("method", "rotation", "normalize", "tgt_lengths", "hz",
                                          "t_start", "time_unit", "assume_sorted", "backend",
                                          *_TIMING)},
        )
    }  # fmt: skip


def _several_rows(lengths: Any, latency: Any, tgt_lengths: Any, tgt_times: Any) -> bool:
    """Whether something else than the data says how many rows there are."""
    axes = 0 if tgt_times is None else len(tgt_times.shape)
    return not (lengths is None and tgt_lengths is None) or axes == 2 or _is_array(latency)


def _is_array(x: Any) -> bool:
    return isinstance(x, list) or len(getattr(x, "shape", ())) == 1


def fuse_gradient(grads: Sequence[Any], arguments: dict[str, Any]) -> dict[int, Any]:
    from .fuse import _DEFAULTS, _PER_STREAM, _PLAIN, _fuse_multimodal, _Numbers, _stream_name

    a = arguments
    streams, arrays, numbers = a["streams"], a["arrays"], a["numbers"]
    count = len(streams)
    tgt_times, tgt_lengths, _ = arrays[_PER_STREAM * count :]
    hz, t_start = numbers[count:]
    own = [arrays[_PER_STREAM * i : _PER_STREAM * (i + 1)] for i in range(count)]
    given = [_DEFAULTS if x is None else _Numbers(*x) for x in numbers[:count]]
    features = []
    for (data, times, lengths, offsets), x in zip(own, given, strict=True):
        several = _several_rows(lengths, x.latency, tgt_lengths, tgt_times)
        lead = 1 + (offsets is None and has_batch_axis(data, times, several))
        features.append(tuple(data.shape[lead:]))
    starts = np.cumsum([0, *map(_size, features)]).tolist()
    of_streams = [grads[0]] * count if a["concat"] else grads[:count]
    lead_g = next(
        g.shape[: len(g.shape) - (1 if a["concat"] else len(f))]
        for g, f in zip(of_streams, features, strict=True)
        if g is not None
    )
    rows, T = (lead_g[0] if len(lead_g) == 2 else 1), lead_g[-1]

    def again(**changes: Any) -> Any:
        fixed = {"num": None if hz is None else T, "return_valid": False, "return_times": False}
        return _fuse_multimodal(**{**a, **fixed, **changes})

    reduced = False
    for options, f in zip(streams, features, strict=True):
        columns = columns_of("data", f, options.method, options.rotation, "linear")
        reduced = reduced or any(METHODS[c.method] >= METHODS["mean"] for c in columns)
    grid = None
    if tgt_times is None and t_start is None:
        empty = [  # of data without a feature, and without a gradient
            namespace(x).zeros_like(x[..., :0] if features[i // _PER_STREAM] else x)
            if i % _PER_STREAM == 0
            else x
            for i, x in enumerate(arrays[: _PER_STREAM * count])
        ]
        grid = again(
            arrays=(*empty, None, tgt_lengths, None), streams=(_PLAIN,) * count, concat=False,
            dtype=None, return_times=True,
        ).times  # fmt: skip
        if reduced:  # the outermost intervals are those of a grid that goes on
            t_start = namespace(grid).reshape(grid, (rows, T))[:, 0]
        else:
            tgt_times, hz, grid = grid, None, None

    found = {}
    for i, ((data, times, lengths, offsets), x) in enumerate(zip(own, given, strict=True)):
        g = of_streams[i]
        if g is None or _name(data) not in FLOATS:
            continue
        if a["concat"]:
            g = g[..., starts[i] : starts[i + 1]]
        options = streams[i]

        def unnormalised(dtype: str, i: int = i) -> Any:
            alone = {"concat": False, "dtype": dtype}
            plain = tuple(s._replace(normalize=None) for s in streams)
            result = again(arrays=(*arrays[:-1], None), streams=plain, **alone)
            return result[i] if isinstance(result, tuple) else result

        # A stream of one row serves all.
        found[_PER_STREAM * i] = _stream(
            f"fuse_multimodal of {_stream_name(a['names'], i)}", g, data, features[i], times,
            tgt_times, rows=rows, T=T, method=options.method, rotation=options.rotation,
            normalize=options.normalize, unnormalised=unnormalised, dtype_of_values=_name(g),
            lengths=lengths, offsets=offsets, tgt_lengths=tgt_lengths, hz=hz, t_start=t_start,
            grid=grid, time_unit=a["time_unit"], assume_sorted=True, backend=a["backend"],
            **{name: getattr(x, name) for name in _TIMING if name not in ("lengths", "offsets")},
        )  # fmt: skip
    return found


# ----------------------------------------------------------------------------------------- windows


def windows_gradient(grads: Sequence[Any], arguments: dict[str, Any]) -> dict[int, Any]:
    found: dict[int, Any] = {}
    output = 0
    for i, (key, data) in enumerate(zip(arguments["keys"], arguments["arrays"], strict=False)):
        g = grads[output]
        if g is not None and _name(data) in FLOATS:
            found[i] = _window(arguments, i, output, g)
        output += 1 + (key.deltas is not None)
    return found


def _window(a: dict[str, Any], i: int, output: int, g: Any) -> Any:
    """The gradient by the data of a key."""
    from .backward import _windows_backward
    from .windows import _sample_windows

    keys, arrays, numbers = a["keys"], a["arrays"], a["numbers"]
    count, clocks, episodes = len(keys), a["clocks"], a["episodes"]
    key, data, what = keys[i], arrays[i], f"sample_windows of {a['names'][i]}"
    of_windows = (
        arrays[count + min(i, clocks - 1)] if clocks else None,
        arrays[count + clocks + min(i, episodes - 1)],
        *arrays[count + clocks + episodes :],
    )
    latency, tolerance, max_gap = (numbers[i] if i < len(numbers) else None) or (None,) * 3
    xp = namespace(g)
    features = tuple(data.shape[1:])
    N, D, A = data.shape[0], _size(features), g.shape[0]
    W = 1 if key.deltas is None else len(key.deltas)
    columns = columns_of("data", features, key.method, key.rotation, "linear")
    if not clocks:
        columns = [c._replace(method="nearest") for c in columns]
    _check_methods(what, columns)
    normalization = as_normalization(key.normalize)
    compute = weight_dtype(_name(data), _name(g))
    shaped = (A, W, *(features or (1,)))

    def unnormalised() -> Any:
        plain = tuple(k._replace(normalize=None) for k in keys)
        result = _sample_windows(**{**a, "keys": plain, "dtype": compute})
        return xp.reshape(result[output] if isinstance(result, tuple) else result, shaped)

    g = raw = xp.reshape(g, (A, W, D))
    if normalization is not None:
        g = _through(normalization, xp.reshape(raw, shaped), unnormalised, compute, a["backend"])
        g = xp.reshape(g, (A, W, D))

    def plain(g: Any, way: str, at: Any) -> Any:
        own = None
        if way in NONLINEAR:
            own = xp.reshape(data, (N, D))
            own = own if at is None else own[..., at]
        return _windows_backward(
            g, own, *of_windows, samples=N, deltas=key.deltas, fps=a["fps"], method=way,
            pad=key.pad, latency=latency, tolerance=tolerance, max_gap=max_gap,
            time_unit=a["time_unit"], dtype=_name(data), backend=a["backend"],
        )  # fmt: skip

    def turned(g: Any, c: Columns, at: Any) -> Any:
        if clocks or _rotation_of(c).canonical:
            raise RuntimeError(
                f"{what} has no gradient by columns that are rotations: detach its data"
            )
        return plain(g, c.method, at)

    masked = normalization is not None and normalization.mask is not None
    return xp.reshape(_by_columns(g, raw, columns, masked, plain, turned), data.shape)


# --------------------------------------------------------------------- of the gradients themselves


def _second(what: str, method: str, arguments: dict[str, Any]) -> None:
    if method in NONLINEAR:
        raise RuntimeError(
            f"{what} has no second derivative here: method {method!r} is not linear in its data. "
            "Use method='catmull_rom' or 'linear', or differentiate once"
        )


def _zero_ends(extrapolate: Any) -> Any:
    """The same policies with 0 where a constant stands."""
    return tuple(
        x if isinstance(x, str) and x in ("hold", "extrapolate") else 0
        for x in both_ends(extrapolate)
    )


def backward_gradient(grads: Sequence[Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """`resample_backward` is linear in the gradient it takes: its own is resampling."""
    from ._streams import method_name
    from .resample import resample_trajectories

    a, g = arguments, grads[0]
    if g is None:
        return {}
    grad, tgt_times = a["grad"], a["tgt_times"]
    way = method_name(a["method"])
    _second("resample_backward", way, a)
    xp = namespace(g)
    if a["data"] is not None:  # which has no part in methods that are linear
        a = {**a, "data": None}
    T_axis = _axis_of_targets(a)
    T = grad.shape[T_axis]
    features = tuple(grad.shape[T_axis + 1 :])
    lead = len(g.shape) - len(features)
    rows = grad.shape[0] if T_axis else 1
    samples = g.shape[lead - 1]
    names = ("tolerance", "max_gap", "latency", "lengths", "offsets", "tgt_lengths", "src_hz",
             "src_start", "hz", "t_start", "time_unit", "assume_sorted", "backend")  # fmt: skip
    options = {name: a[name] for name in names}
    if _is_array(a["t_start"]):
        raise RuntimeError("resample_backward has no second derivative here: t_start is an array")
    one_row = a["offsets"] is not None and lead == 2
    if one_row:
        raise RuntimeError(
            "resample_backward has no second derivative here: offsets has one row, which several "
            "rows of targets share"
        )
    made = resample_trajectories(
        xp.reshape(g, (*((rows, samples) if lead == 2 else (samples,)), _size(features))),
        a["src_times"] if lead == 1 or a["src_times"] is None
        else xp.reshape(a["src_times"], (-1, samples)),
        tgt_times, method=way, extrapolate=_zero_ends(a["extrapolate"]), dtype=_name(grad),
        fill_value=None if a["fill_value"] is None else 0, num=None if a["hz"] is None else T,
        return_times=True, **options,
    )  # fmt: skip
    missing = _no_time(xp, made.times)
    values = xp.reshape(made.values, (*made.times.shape, _size(features)))
    values = xp.where(missing[..., None], xp.zeros_like(values), values)
    return {"grad": xp.reshape(values, grad.shape)}


def _no_time(xp: Any, times: Any) -> Any:
    """Where a target has no time, and its value is NaN whatever the data."""
    return (times != times) | (times == -(2**63)) if _name(times) == "int64" else times != times


def _axis_of_targets(a: dict[str, Any]) -> int:
    from ._core.array import Meta
    from .backward import _rows

    def meta(x: Any) -> Any:
        return None if x is None or not _shape(x) else Meta(tuple(_shape(x)), "", ())

    per_row = {name: meta(a[name]) for name in ("lengths", "offsets", "latency")}
    of_targets = {name: meta(a[name]) for name in ("tgt_lengths", "t_start")}
    return int(_rows(meta(a["grad"]), meta(a["src_times"]), meta(a["tgt_times"]), per_row,
                     of_targets)[0])  # fmt: skip


def _shape(x: Any) -> Sequence[int]:
    return getattr(x, "shape", (len(x),) if isinstance(x, (list, tuple)) else ())


def windows_backward_gradient(grads: Sequence[Any], arguments: dict[str, Any]) -> dict[str, Any]:
    """The same of windows."""
    from .windows import _Key, _names, _sample_windows

    a, g = arguments, grads[0]
    if g is None:
        return {}
    _second("the gradient of sample_windows", a["method"], a)
    timed = a["times"] is not None
    pad = "zero" if a["pad"] == "nan" else a["pad"]
    late = (a["latency"], a["tolerance"], a["max_gap"])
    key = _Key(a["deltas"], a["method"] if timed else None, pad=pad)
    result = _sample_windows(
        (g, *([a["times"]] if timed else []), a["episode_offsets"], a["anchors"],
         a["anchor_times"], a["anchor_episode"]),
        (late if timed else None,),
        names=_names(("",), int(timed), 1), keys=(key,), clocks=int(timed), episodes=1,
        fps=a["fps"], dtype=_name(a["grad"]), time_unit=a["time_unit"], backend=a["backend"],
    )  # fmt: skip
    values = result[0] if isinstance(result, tuple) else result
    return {"grad": namespace(g).reshape(values, a["grad"].shape)}


# ------------------------------------------------------------------------------------------ interp


def interp_gradient(grads: Sequence[Any], arguments: dict[str, Any]) -> dict[str, Any]:
    from .backward import resample_backward

    g, a = grads[0], arguments
    x, points, values = a["x"], a["xp"], a["fp"]
    if a["period"] is not None:
        raise RuntimeError("interp has no gradient by fp with a period: detach fp, or extend xp "
                           "and fp by a period at either end")  # fmt: skip
    xp = namespace(g)
    T, S = (x.shape[-1] if x.shape else 1), points.shape[-1]
    batch = tuple(g.shape[: len(g.shape) - len(x.shape[-1:])])
    rows = _size(batch)
    clock = xp.float64 if _name(x) != "float32" or _name(points) != "float32" else xp.float32
    ends = tuple("hold" if a[end] is None else 0 for end in ("left", "right"))

    def spread(y: Any, n: int) -> Any:
        y = _as(y, clock)
        if len(y.shape) > 1:
            y = xp.broadcast_to(y, (*batch, n))
            return xp.reshape(y, (rows, n))
        return xp.reshape(y, (1, n))

    compute = weight_dtype(_name(g), _name(values))
    by_rows = resample_backward(
        xp.reshape(g, (rows, T)), spread(points, S), spread(x, T), samples=S, extrapolate=ends,
        dtype=compute, backend=a["backend"],
    )  # fmt: skip
    by_rows = xp.reshape(by_rows, (*batch, S))
    extra = len(by_rows.shape) - len(values.shape)
    over = [i for i, n in enumerate(by_rows.shape)
            if i < extra or (values.shape[i - extra] == 1 and n != 1)]  # fmt: skip
    if over:
        by_rows = by_rows.sum(tuple(over))
    return {"fp": _as(xp.reshape(by_rows, values.shape), values.dtype)}
