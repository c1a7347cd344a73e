"""Any number of streams on one clock."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ._core.array import Arrays, Meta, Scalars, as_numpy, framework, from_dlpack
from ._core.check import dtype_of, inner
from ._core.kernel import Out
from ._core.plan import Plan, Read, cached, op
from ._core.time import clock_of
from ._gradients import fuse_gradient
from ._streams import (
    ARITHMETIC,
    DATA,
    FLOATS,
    SIZE,
    Place,
    Results,
    Source,
    Targets,
    as_normalization,
    check_columns,
    check_numbers,
    check_rows,
    columns_of,
    fuse_launches,
    has_batch_axis,
    name_numbers,
    out_steps,
    overlap_launches,
    result_dtype,
    shape_of,
    whole_number,
)

__all__ = ["Fused", "Stream", "fuse_multimodal", "fused_multimodal_alignment", "time_grid"]


class Stream(NamedTuple):
    """A sensor's samples on its own clock, and how they are put on another.

    Attributes
    ----------
    data, times : array
        Samples ``[B, S, *F]`` or ``[S, *F]`` (packed: ``[N, *F]`` with `offsets`) and their
        stamps, as in `resample_trajectories`. `times` is None with `src_hz`: data of three or more
        axes is then always a batch ``[B, S, *F]``, so that one video takes a leading axis of 1.
    method : str or list of (columns, str), optional
        By default ``linear`` for floats and ``nearest`` for integers and bool, as images are.
        ``previous`` is the causal choice for what runs on a robot: linear looks at a sample that
        is still to come.
    latency, tolerance, max_gap, extrapolate, fill_value, lengths, offsets, src_hz, src_start, \
rotation, normalize
        As in `resample_trajectories`.
    name : str, optional
        The key of its result, where streams come as a sequence.

    Examples
    --------
    >>> import numpy as np
    >>> import robocache_cupy as rc
    >>> grip = rc.Stream(np.array([[0.0], [1.0]]), np.array([0.0, 0.1]), method="previous")
    >>> rc.fuse_multimodal([grip], tgt_times=np.array([0.05, 0.1])).T
    array([[0., 1.]])
    """

    data: Any
    times: Any = None
    method: Any = None
    latency: Any = 0.0
    tolerance: Any = None
    max_gap: Any = None
    extrapolate: Any = "hold"
    lengths: Any = None
    offsets: Any = None
    rotation: Any = None
    normalize: Any = None
    fill_value: Any = None
    src_hz: Any = None
    src_start: Any = None
    name: str | None = None


class Fused(NamedTuple):
    """What `fuse_multimodal` returns when more than values is asked for; the rest is None.

    Attributes
    ----------
    values : array [B, T, D], or dict of arrays [B, T, *F]
        The streams side by side, or each under its key with ``layout="dict"``; without B for
        streams without it.
    valid : bool array [B, T, number of streams], or dict of arrays [B, T], or None
        True means real.
    layout : dict of slice, or None
        The columns of each stream in `values`.
    times : array [T] or [B, T], or None
        The points in time that ``hz=`` stands for.

    Examples
    --------
    >>> import numpy as np
    >>> import robocache_cupy as rc
    >>> times = np.arange(3.0)
    >>> fused = rc.fuse_multimodal(
    ...     {"pose": (np.ones((3, 7)), times), "force": (np.ones((3, 2)), times)},
    ...     tgt_times=times, return_layout=True,
    ... )
    >>> fused.values.shape, fused.layout, fused.valid
    ((3, 9), {'pose': slice(0, 7, None), 'force': slice(7, 9, None)}, None)
    """

    values: Any
    valid: Any = None
    layout: dict[str, slice] | None = None
    times: Any = None


class _Options(NamedTuple):
    """The part of a stream that a plan depends on."""

    method: Any = None
    rotation: Any = None
    normalize: Any = None


class _Numbers(NamedTuple):
    """The part of a stream that may change from call to call."""

    latency: Any = 0.0
    tolerance: Any = None
    max_gap: Any = None
    extrapolate: Any = "hold"
    fill_value: Any = None
    src_hz: Any = None
    src_start: Any = None


_PLAIN, _DEFAULTS = _Options(), _Numbers()
_PER_STREAM = 4  # arrays: data, times, lengths, offsets


def _are_default(numbers: _Numbers) -> bool:
    """Then they are no numbers of the call, and its kernel can be one that knows them."""
    pairs = zip(numbers, _DEFAULTS, strict=True)
    return all(type(x) is type(default) and x == default for x, default in pairs)


@op(gradient=fuse_gradient)
def _fuse_multimodal(
    arrays: Arrays,
    numbers: Scalars = (),
    *,
    names: tuple[str, ...],
    streams: tuple[_Options, ...],
    concat: bool,
    dtype: Any,
    num: int | None,
    union: bool,
    time_unit: str | None,
    return_valid: bool,
    return_times: bool,
    backend: str,
) -> Any:
    """`arrays` are data, times, lengths and offsets of each stream, tgt_times, tgt_lengths, out;
    `numbers` are those of each stream, hz, t_start."""
    count = len(streams)
    tgt_times, tgt_lengths, out = arrays[_PER_STREAM * count :]
    hz, t_start = numbers[count:]
    if (tgt_times is None) == (hz is None):
        raise ValueError("give the targets' clock as either tgt_times or hz")
    if tgt_times is not None and not (num is None and t_start is None and not union):
        raise ValueError("num, t_start and union belong to hz, not to tgt_times")
    check_numbers(hz=hz, t_start=t_start)
    stamps = {names[_PER_STREAM * i + 1]: arrays[_PER_STREAM * i + 1] for i in range(count)}
    clock = clock_of(time_unit, **stamps, tgt_times=tgt_times)

    shapes, givens = [], []
    for i in range(count):
        data, times, lengths, offsets = arrays[_PER_STREAM * i : _PER_STREAM * (i + 1)]
        name = _stream_name(names, i)
        given = _DEFAULTS if numbers[i] is None else _Numbers(*numbers[i])
        try:
            if data is None:
                shape = shape_of(times, times, tgt_times, lengths, offsets, tgt_lengths, None)
            else:
                dtype_of("data", data, DATA)
                if (times is None) == (given.src_hz is None):
                    raise ValueError("give the samples' clock as either times or src_hz")
                if given.src_hz is None and given.src_start is not None:
                    raise ValueError("src_start belongs to src_hz, not to times")
                if lengths is not None and offsets is not None:
                    raise ValueError(
                        "lengths and offsets both say how long the rows are: give one of them"
                    )
                shape = shape_of(
                    data, times, tgt_times, lengths, offsets, tgt_lengths, given.latency
                )
            check_numbers(
                tolerance=given.tolerance, max_gap=given.max_gap, extrapolate=given.extrapolate,
                fill_value=given.fill_value, src_hz=given.src_hz, src_start=given.src_start,
            )  # fmt: skip
        except (TypeError, ValueError) as e:
            raise type(e)(f"{name}: {e}".replace("src_times", "times")) from None
        shapes.append(shape)
        givens.append(given)
    several = {shape.rows for shape in shapes} - {1}
    if len(several) > 1:
        got = ", ".join(f"{_stream_name(names, i)} has {x.rows}" for i, x in enumerate(shapes))
        raise ValueError(f"the streams differ in their number of rows: {got}")
    rows = several.pop() if several else 1
    batched = any(shape.batched for shape in shapes)

    sources = []
    for i, (options, given, shape) in enumerate(zip(streams, givens, shapes, strict=True)):
        data, times, lengths, offsets = arrays[_PER_STREAM * i : _PER_STREAM * (i + 1)]
        name = _stream_name(names, i)
        try:
            check_rows(shape.src_rows, lengths=lengths, offsets=offsets, latency=given.latency)
            columns, x_dtype, normalize = [], "uint8", None
            if data is None:
                columns = columns_of(name, (0,), "nearest", None, "nearest")
            else:
                inner(data, shape.lead)
                default = "linear" if data.dtype in FLOATS else "nearest"
                columns = columns_of(
                    name, data.shape[shape.lead :], options.method, options.rotation, default
                )
                x_dtype = data.dtype
                normalize = as_normalization(options.normalize)
                targets = None if tgt_times is None else tgt_times.shape[-1]
                check_columns("data", columns, x_dtype, targets)
        except (TypeError, ValueError) as e:
            raise type(e)(str(e) if str(e).startswith(name) else f"{name}: {e}") from None
        one_row, shape = shape.src_rows < rows, shape._replace(rows=rows)
        sources.append(
            Source(
                name, data, times, lengths, offsets, given.latency, given.tolerance, given.max_gap,
                given.extrapolate, given.fill_value, given.src_hz, given.src_start, shape, columns,
                normalize, x_dtype, None, one_row,
            )
        )  # fmt: skip
    check_rows(rows, tgt_lengths=tgt_lengths)
    wanted = _result_dtypes(sources, concat, dtype, out)
    sources = [x._replace(dtype=y) for x, y in zip(sources, wanted, strict=True)]
    tgt_row, tgt_step = shapes[0].tgt_row, shapes[0].tgt_step

    def plan(T: int, starts: Out | None, first: list[Any]) -> Plan:
        for x in sources:
            if x.shape.samples == 0 and rows * T > 0 and x.lengths is None and x.offsets is None:
                raise ValueError(
                    f"{x.name} is empty, without a sample to take: pass lengths= where rows may be"
                )
        lead = (rows, T) if batched else (T,)
        outputs: dict[str, Out | Meta] = {}
        places = []
        widths = [_width(x) for x in sources]
        if concat:
            total = sum(widths)
            y_shape = (*lead, total)
            row, step = (0, total) if out is None else out_steps(out, y_shape, len(lead))
            target: Any = Out(y_shape, wanted[0]) if out is None else out
            aligned = 16 if out is None else (out.misaligned & -out.misaligned) or 16
            outputs["values"] = target
            column = 0
            for w in widths:
                places.append(Place(target, step, column, aligned, row))
                column += w
        else:
            for i, (x, w) in enumerate(zip(sources, widths, strict=True)):
                if x.data is None:
                    places.append(Place(None, 0, 0, 16))
                    continue
                features = x.data.shape[x.shape.lead :]
                target = outputs[f"values{i}"] = Out((*lead, *features), x.dtype)
                places.append(Place(target, w, 0, 16))
        valid: list[Out | None] = [None] * count
        valid_step = 0
        if return_valid and concat:
            shared = outputs["valid"] = Out((*lead, count), "bool")
            valid, valid_step = [shared] * count, count
        elif return_valid:
            for i in range(count):
                valid[i] = Out(lead, "bool")
                outputs[f"valid{i}"] = valid[i]  # type: ignore[assignment]
        times = None
        if return_times:
            times = Out(lead, clock.dtype if tgt_times is None else tgt_times.dtype)
            outputs["times"] = times
        targets = Targets(tgt_times, tgt_row, tgt_step, tgt_lengths, hz, t_start, starts)
        launches = fuse_launches(
            sources, places, targets, Results(valid, valid_step, times), clock, rows, T
        )
        return Plan(outputs, [*first, *launches], [] if starts is None else [starts])

    if tgt_times is not None:
        return plan(tgt_times.shape[-1], None, [])
    if num is not None:
        num = whole_number("num", num)

    def search(found: Out | None) -> tuple[list[Any], Out, list[Out]]:
        starts, ends = Out((rows,), clock.wide), Out((rows,), clock.wide)
        grid = Targets(None, 0, 0, None, hz, t_start, starts)
        launches = overlap_launches(sources, grid, clock, rows, hull=union, ends=ends, found=found)
        return launches, starts, [starts, ends]

    def whole(T: int) -> Plan:
        if t_start is not None:
            return plan(T, None, [])
        launches, starts, scratch = search(None)
        made = plan(T, starts, launches)
        return made._replace(scratch=scratch)

    if num is not None:
        return whole(num)
    found = Out((1,), "int64")
    launches, _, scratch = search(found)
    return Read(Plan({"found": found}, launches, scratch), lambda n: whole(n[0]), "pass num=")


def _stream_name(names: tuple[str, ...], i: int) -> str:
    return names[_PER_STREAM * i].removesuffix(".data")


def _width(x: Source) -> int:
    return 0 if x.data is None else math.prod(x.data.shape[x.shape.lead :])


def _result_dtypes(
    sources: Sequence[Source], concat: bool, dtype: Any, out: Meta | None
) -> list[str]:
    """The dtypes of the results, one for all where they are put side by side."""
    if concat and dtype is None and out is None:
        given = {x.dtype for x in sources}
        if len(given) > 1:
            if not given <= set(FLOATS):
                got = ", ".join(f"{x.name} ({x.dtype})" for x in sources)
                raise TypeError(
                    f"the streams differ in dtype: {got}. Pass dtype=, or layout='dict'"
                )
            dtype = max(given, key=SIZE.__getitem__)
            if {"float16", "bfloat16"} <= given and SIZE[dtype] == 2:
                dtype = "float32"
    if dtype is not None and not concat:  # for what is interpolated; the rest keeps its own
        return [
            result_dtype(x.dtype, _methods(x), dtype if _made(x) else None, None, x.name)
            for x in sources
        ]
    return [result_dtype(x.dtype, _methods(x), dtype, out, x.name) for x in sources]


def _methods(x: Source) -> set[str]:
    return {c.method for c in x.columns}


def _made(x: Source) -> bool:
    interpolated = not _methods(x).isdisjoint(ARITHMETIC)
    return x.dtype in FLOATS or x.normalize is not None or interpolated


@op
def _time_grid(
    arrays: Arrays,
    numbers: Scalars = (),
    *,
    names: tuple[str, ...],
    num: int | None,
    union: bool,
    time_unit: str | None,
    backend: str,
) -> Any:
    """The same of clocks without data."""
    return inspect.unwrap(_fuse_multimodal)(
        arrays,
        numbers,
        names=names,
        streams=(_PLAIN,) * (len(numbers) - 2),
        concat=False,
        dtype=None,
        num=num,
        union=union,
        time_unit=time_unit,
        return_valid=False,
        return_times=True,
        backend=backend,
    )


@cached
def _names(keys: tuple[str, ...]) -> tuple[str, ...]:
    parts = ("data", "times", "lengths", "offsets")
    return (
        *(f"streams[{key!r}].{part}" for key in keys for part in parts),
        "tgt_times",
        "tgt_lengths",
        "out",
    )


def fuse_multimodal(
    streams: Any,
    *more: Any,
    tgt_times: Any = None,
    hz: Any = None,
    t_start: Any = None,
    num: int | None = None,
    union: bool = False,
    tgt_lengths: Any = None,
    time_unit: str | None = None,
    layout: str = "concat",
    dtype: Any = None,
    out: Any = None,
    return_valid: bool = False,
    return_layout: bool = False,
    return_times: bool = False,
    backend: str = "auto",
) -> Any:
    """Put any number of streams, each on its own clock, on one clock, in one launch.

    Parameters
    ----------
    streams : mapping or sequence
        Sensors by name, or one after another: `Stream`, or ``(data, times)``. Rows of the batch
        must agree in number or be one, which then serves all. Also taken is
        ``fuse_multimodal(d1, t1, d2, t2, ..., target_times)``.
    *more : arrays
        The target times, or with arrays instead of `streams` the rest of them, as above.
    tgt_times : array, optional
        Times to resample at, ``[B, T]`` or ``[T]``; also the second positional argument.
    hz, t_start, num, union : per second; time; int; bool
        In place of `tgt_times`: target k is at ``t_start + k / hz``, rounded once to a tick. By
        default the grid of each row runs over the overlap of its streams, from the latest first
        stamp to the earliest last, or over all that any of them has with ``union=True``. Without
        `num` the call reads the number of points back, which ``jax.jit`` and CUDA graphs cannot.
    tgt_lengths : integers [B], optional
        Targets from there on are padding: `fill_value` or 0, and not valid.
    time_unit : {"ns", "us", "ms", "s"}, optional
        The unit of all stamps. Float clocks are seconds and integer clocks ns by default.
    layout : {"concat", "dict"}
        ``concat`` puts the features of all streams side by side, in their order, flattened.
        ``dict`` gives a mapping from name to ``[B, T, *F]``.
    dtype : optional
        dtype of the result. By default that of the streams (``concat`` of different floats: the
        widest); in a ``dict`` it is for what is interpolated, and integers keep theirs.
    out : array [B, T, D], optional
        Write a ``concat`` here.
    return_valid, return_layout, return_times : bool
        Also return which targets are real data, per stream; the slice of each name in the last
        axis; the times of the targets.
    backend : {"auto", "cuda", "numba"}
        auto runs where the arrays lie.

    Returns
    -------
    array, dict, or Fused
        The values, or with any of the `return_` options a `Fused` of ``values``, ``valid`` (bool
        ``[B, T, N]`` for N streams, or a dict of ``[B, T]``), ``layout`` and ``times``.

    Raises
    ------
    ValueError, TypeError
        Naming the stream and the argument, what came and what was expected.

    Notes
    -----
    What a stream's target is made of is defined by `resample_trajectories`. Normalised columns are
    ``clip((x - shift) * scale + offset)`` of `normalization`, after interpolation; rotations are
    left out of it.

    Examples
    --------
    A camera's features at 10 Hz and a joint at 100 Hz on a policy's clock:

    >>> import numpy as np
    >>> import robocache_cupy as rc
    >>> camera = rc.Stream(np.array([[1.0], [2.0]]), np.array([0.0, 0.1]), method="previous")
    >>> joint = rc.Stream(np.arange(11.0)[:, None], np.arange(11) / 100, latency=0.01)
    >>> fused = rc.fuse_multimodal({"camera": camera, "joint": joint}, hz=50, return_valid=True)
    >>> fused.values.T
    array([[1., 1., 1., 1., 1.], [1., 3., 5., 7., 9.]])
    """
    mapping = isinstance(streams, Mapping)
    if more:
        if not mapping and hasattr(streams, "__dlpack__"):
            streams, tgt_times = _positional((streams, *more), tgt_times)
        elif len(more) > 1 or tgt_times is not None:
            raise TypeError(
                f"fuse_multimodal takes streams and tgt_times, got {len(more)} more arguments"
            )
        else:
            (tgt_times,) = more
    if mapping:
        keys, values = tuple(streams), streams.values()
    else:
        streams = values = _sequence(streams)
        keys = tuple(
            x.name if type(x) is Stream and x.name is not None else f"stream{i}"
            for i, x in enumerate(streams)
        )
        if len(set(keys)) < len(keys):
            raise ValueError(f"streams are called {', '.join(keys)}, expected different names")
    if not keys:
        raise ValueError("streams is empty, expected at least one")
    arrays: list[Any] = []
    options: list[_Options] = []
    numbers: list[Any] = []
    for key, x in zip(keys, values, strict=True):
        if type(x) is Stream:
            arrays += (x.data, x.times, x.lengths, x.offsets)
            options.append(_Options(x.method, x.rotation, x.normalize))
            given = _Numbers(
                x.latency, x.tolerance, x.max_gap, x.extrapolate, x.fill_value, x.src_hz,
                x.src_start,
            )  # fmt: skip
            numbers.append(None if _are_default(given) else (*given,))
        elif isinstance(x, (tuple, list)) and len(x) == 2:
            arrays += (x[0], x[1], None, None)
            options.append(_PLAIN)
            numbers.append(None)
        else:
            raise TypeError(
                f"streams[{key!r}] is {type(x).__name__}, expected a Stream or (data, times)"
            )
        if arrays[-_PER_STREAM] is None:
            raise TypeError(f"streams[{key!r}].data is None, expected an array")
    if layout not in ("concat", "dict"):
        raise ValueError(f"layout is {layout!r}, expected 'concat' or 'dict'")
    concat = layout == "concat"
    if out is not None and not concat:
        raise ValueError("out is for layout='concat', got layout='dict'")
    try:
        result = _fuse_multimodal(
            (*arrays, tgt_times, tgt_lengths, out),
            (*numbers, hz, t_start),
            names=_names(keys),
            streams=tuple(options),
            concat=concat,
            dtype=dtype,
            num=num,
            union=union,
            time_unit=time_unit,
            return_valid=return_valid,
            return_times=return_times,
            backend=backend,
        )
    except TypeError as e:
        raise _with_names(e, keys) from None
    if concat and not (return_valid or return_layout or return_times):
        return result
    several = concat or len(keys) > 1 or return_valid or return_times
    parts = result._asdict() if several and hasattr(result, "_asdict") else {"values0": result}
    if concat:
        kept: Any = parts.get("values", result)
        valid = parts.get("valid")
    else:
        kept = {key: parts[f"values{i}"] for i, key in enumerate(keys)}
        valid = {key: parts[f"valid{i}"] for i, key in enumerate(keys)} if return_valid else None
        if not (return_valid or return_layout or return_times):
            return kept
    columns = None
    if return_layout:
        several = tgt_lengths is not None or len(getattr(tgt_times, "shape", ())) == 2
        columns = _layout(keys, arrays, numbers, several)
    return Fused(kept, valid, columns, parts.get("times"))


def _sequence(streams: Any) -> Sequence[Any]:
    if isinstance(streams, (list, tuple)) and type(streams) is not Stream:
        return streams
    single = type(streams) is Stream or hasattr(streams, "shape")
    if single or not isinstance(streams, Iterable):
        raise TypeError(
            f"streams is {'one ' * single}{type(streams).__name__}, expected a mapping or a "
            "sequence of Stream or (data, times)"
        )
    return tuple(streams)


def _with_names(error: TypeError, keys: Sequence[Any]) -> TypeError:
    """The error with the numbers of streams, and of the grid after them, called by their names."""

    def name(i: int, field: int) -> str:
        if i < len(keys):
            return f"{_Numbers._fields[field]} of streams[{keys[i]!r}]"
        return ("hz", "t_start")[i - len(keys)]

    return name_numbers(error, name)


def _positional(arrays: tuple[Any, ...], tgt_times: Any) -> tuple[Any, Any]:
    if tgt_times is None:
        *arrays_, tgt_times = arrays
    else:
        arrays_ = list(arrays)
    if len(arrays_) % 2 or not arrays_:
        raise TypeError(
            f"fuse_multimodal got {len(arrays)} arrays, expected data and times of each stream and "
            "then the target times"
        )
    return list(zip(arrays_[::2], arrays_[1::2], strict=True)), tgt_times


def _layout(
    keys: Sequence[str], arrays: Sequence[Any], numbers: Sequence[Any], rows: bool
) -> dict[str, slice]:
    found, start = {}, 0
    for i, key in enumerate(keys):
        data, times, lengths, offsets = arrays[_PER_STREAM * i : _PER_STREAM * (i + 1)]
        if not hasattr(data, "shape"):  # a producer with DLPack and nothing else
            data = from_dlpack(f"streams[{key!r}].data", data)
        if times is not None and not hasattr(times, "shape"):
            times = from_dlpack(f"streams[{key!r}].times", times)
        latency = None if numbers[i] is None else numbers[i][0]
        several = rows or lengths is not None or getattr(latency, "ndim", 0) == 1
        lead = 1 if offsets is not None else 1 + has_batch_axis(data, times, several)
        end = start + math.prod(data.shape[lead:])
        found[key] = slice(start, end)
        start = end
    return found


def fused_multimodal_alignment(
    vision: Any,
    vision_times: Any,
    proprio: Any,
    proprio_times: Any,
    force: Any = None,
    force_times: Any = None,
    target_times: Any = None,
    *,
    backend: str = "auto",
) -> Any:
    """Vision, proprioception and optionally force at the same target times, side by side.

    Parameters
    ----------
    vision, proprio, force : array [B, S, D]
        Samples, of as many steps and features as each has.
    vision_times, proprio_times, force_times : array [B, S]
        Their stamps.
    target_times : array [B, T]
        The times wanted.
    backend : {"auto", "cuda", "numba"}
        auto runs where the arrays lie.

    Returns
    -------
    array [B, T, Dv + Dp + Df]
        Interpolated linearly, and held beyond the ends: `fuse_multimodal` says more.

    Raises
    ------
    ValueError, TypeError
        Naming the stream and the argument.

    Examples
    --------
    >>> import numpy as np
    >>> import robocache_cupy as rc
    >>> camera, joint = np.zeros((1, 2, 3)), np.arange(4.0).reshape(1, 4, 1)
    >>> fused = rc.fused_multimodal_alignment(
    ...     camera, np.array([[0.0, 1.0]]), joint, np.array([[0.0, 0.3, 0.6, 0.9]]),
    ...     target_times=np.array([[0.15, 0.75]]))
    >>> fused[0, :, 3]
    array([0.5, 2.5])
    """
    if target_times is None:
        raise TypeError("fused_multimodal_alignment needs target_times")
    if (force is None) != (force_times is None):
        raise TypeError("force and force_times belong together: got one of them")
    streams = {"vision": (vision, vision_times), "proprio": (proprio, proprio_times)}
    if force is not None:
        streams["force"] = (force, force_times)
    return fuse_multimodal(streams, tgt_times=target_times, backend=backend)


def time_grid(
    *times: Any,
    hz: Any,
    t_start: Any = None,
    num: int | None = None,
    union: bool = False,
    time_unit: str | None = None,
    backend: str = "auto",
) -> Any:
    """The uniform grid that `fuse_multimodal` makes of its streams' clocks with `hz`.

    Parameters
    ----------
    *times : array or list [S], or [B, S]
        Stamps of each stream, ascending. Lists go to where the first array is.
    hz, t_start, num, union, time_unit, backend
        As in `fuse_multimodal`.

    Returns
    -------
    array [T] or [B, T]
        Point k is ``t_start + k / hz``, rounded once to a tick and never accumulated.

    Raises
    ------
    ValueError, TypeError
        Naming the argument.

    Examples
    --------
    >>> import numpy as np
    >>> import robocache_cupy as rc
    >>> rc.time_grid(np.array([5, 105, 205]), np.array([0, 60, 200]), hz=20, time_unit="ms")
    array([  5,  55, 105, 155])
    """
    if not times:
        raise TypeError("time_grid needs the times of at least one stream")
    arrays: list[Any] = []
    lead = next((x for x in times if hasattr(x, "__dlpack__")), None)
    found = None if lead is None else framework(type(lead))
    for i, stamps in enumerate(times):
        if stamps is None:
            raise TypeError(f"times[{i}] is None, expected an array or a list")
        if isinstance(stamps, (list, tuple)):
            stamps = as_numpy(f"times[{i}]", stamps)
            stamps = stamps if found is None else found.from_numpy(stamps, found.device(lead))
        arrays += (None, stamps, None, None)
    names = tuple(f"times[{i}]" for i in range(len(times)) for _ in range(_PER_STREAM))
    try:
        return _time_grid(
            (*arrays, None, None, None),
            (*[None] * len(times), hz, t_start),
            names=(*names, "tgt_times", "tgt_lengths", "out"),
            num=num,
            union=union,
            time_unit=time_unit,
            backend=backend,
        )
    except TypeError as e:
        raise _with_names(e, times) from None
