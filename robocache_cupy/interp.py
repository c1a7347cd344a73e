"""numpy.interp, in batches and for any framework."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ._core.array import HostArray, Meta, Scalar
from ._core.check import dtype_of, inner
from ._core.kernel import PROCESSORS, Const, Kernel, Launch, Out
from ._core.plan import Plan, op
from ._core.time import later
from ._gradients import interp_gradient
from ._streams import FLOATS, row_major, value_bits
from .resample import _argsort

__all__ = ["interp"]

_WAVE = PROCESSORS * 4  # blocks of 512 threads that run at once

# In the order of the kernel's codes.
NUMBERS = ("float64", "float32", "float16", "bfloat16", "bool", "int8", "int16", "int32", "int64",
           "uint8", "uint16", "uint32", "uint64")  # fmt: skip

_GUIDED = (1024, 3072)  # knots that fit into a block's shared memory, with a guide to them

_knots = Kernel("interp", "knots")
_interp = Kernel(
    "interp",
    "interp",
    [(y, c, 0) for y in FLOATS for c in ("float32", "float64") if (y, c) != ("float64", "float32")]
    + [("float32", "float32", plain) for plain in (1, *_GUIDED)],
)


@op(gradient=interp_gradient, by="fp")
def interp(
    x: HostArray,
    xp: HostArray,
    fp: HostArray,
    left: Scalar | None = None,
    right: Scalar | None = None,
    period: Scalar | None = None,
    *,
    backend: str = "auto",
) -> Any:
    """Interpolate linearly between points, as `numpy.interp` does, in batches.

    Parameters
    ----------
    x : array [..., T], number or list
        Where to evaluate, in any order. Floats, integers or bool. A number or a list goes to where
        `xp` or `fp` is an array, else all is NumPy, and the result of a number a NumPy number.
    xp : array or list [S], or array [..., S]
        The points, ascending (see `period`).
    fp : array or list [S], or array [..., S]
        The values there. Batch axes of `x`, `xp` and `fp` broadcast.
    left, right : number, optional
        The value before the first and after the last point; by default those of these points.
    period : number, optional
        The period of x: `x` and `xp` are taken modulo its absolute value, the points sorted, and
        `left` and `right` ignored. Of points that fall together the last counts.
    backend : {"auto", "cuda", "numba"}
        auto runs where the arrays lie. Any other choice copies them there and the result back.

    Returns
    -------
    array [..., T]
        Of the dtype of `fp`; float64 for integers and bool.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected: there is no interpolation of complex
        values, and none without a point.

    Notes
    -----
    Every rule is NumPy's, its ways round NaN and infinity included. In float64, which integers
    count as, results are equal to NumPy's in every bit. float16, bfloat16 and float32 values are
    interpolated in float32 and rounded once; in float64 where `x` or `xp` is float64 or integer, or
    a `period` is given.

    Examples
    --------
    A gripper's width from its motor angle, through a table measured once:

    >>> import numpy as np
    >>> from robocache_cupy.interp import interp
    >>> angle = np.array([[0.0, 0.5], [1.5, 9.0]])
    >>> interp(angle, [0, 1, 2], [0.0, 40.0, 60.0])
    array([[ 0., 20.],
           [50., 60.]])
    """
    for name, array in (("x", x), ("xp", xp), ("fp", fp)):
        dtype_of(name, array, NUMBERS)
    for name, given in (("left", left), ("right", right), ("period", period)):
        if type(given) is Meta:
            raise TypeError(f"{name} is an array of shape {given.shape}, expected a number")
    for name, array in (("xp", xp), ("fp", fp)):
        if not array.shape:
            raise ValueError(f"{name} has shape (), expected [S] or [..., S]")
    if xp.shape[-1] == 0:
        raise ValueError(f"xp has shape {xp.shape}, expected at least one point")
    if fp.shape[-1] != xp.shape[-1]:
        raise ValueError(
            f"fp has shape {fp.shape}, expected {xp.shape[-1]} values for xp of shape {xp.shape}"
        )
    try:
        batch = np.broadcast_shapes(x.shape[:-1], xp.shape[:-1], fp.shape[:-1])
    except ValueError:
        got = ", ".join(f"{n} has shape {a.shape}" for n, a in (("x", x), ("xp", xp), ("fp", fp)))
        raise ValueError(f"the axes before the last do not broadcast: {got}") from None

    dtype = fp.dtype if fp.dtype in FLOATS else "float64"
    periodic = period is not None
    single = ("float16", "bfloat16", "float32")
    double = periodic or any(a.dtype not in single for a in (x, xp, fp))
    y = Out((*batch, *x.shape[-1:]), dtype)
    rows, S, T = math.prod(batch), xp.shape[-1], x.shape[-1] if x.shape else 1
    wrap = _period(period)

    launches, scratch = [], []
    points: Meta | Out = xp
    where, order = xp, None
    if periodic or xp.dtype not in ("float32", "float64"):
        inner(xp, 0)
        points = Out((math.prod(xp.shape),), "float64")
        scratch.append(points)
        where = xp._replace(strides=row_major(xp.shape), dtype="float64")
        count = math.prod(xp.shape)
        launches.append(
            Launch(_knots, (), (xp, points),
                   (count, S, S, 1, NUMBERS.index(xp.dtype), int(periodic), wrap),
                   items=count, weight=1, blocks=min(-(-count // 256), 2**20), threads=256)
        )  # fmt: skip
    if periodic:
        order = Out((math.prod(xp.shape),), "int64")
        scratch.append(order)
        count = math.prod(xp.shape[:-1])
        launches.append(
            Launch(_argsort, ("float64",), (points, order, None, None, None),
                   (S, S, 1, 8, 8, 8, 8, count, 0.0, 0.0, 0.0, 1.0),
                   items=count, weight=S, blocks=count, threads=1024)
        )  # fmt: skip
    steps, table = _rows(batch, (x, where, fp))
    plain = x.dtype == xp.dtype == fp.dtype == "float32" and table is None and not periodic
    size = int(plain)
    blocks, threads, tile = -(-rows * T // 256), 256, 256
    contiguous = x.strides[-1:] == (1,)
    if plain and contiguous and S > 1 and max(64, S // 4) <= T:  # worth what a block brings along
        size = next((n for n in _GUIDED if n >= S), size)
    if size > 1:
        parts = max(1, min(_WAVE // max(rows, 1), T // 1024))
        blocks, threads, tile = rows * parts, 512, -(-T // parts)
    launches.append(
        Launch(
            _interp,
            (dtype, "float64" if double else "float32", size),
            (x, points, order, fp, table, y),
            (
                rows * T, T, S, steps[0], x.strides[-1] if x.shape else 0, NUMBERS.index(x.dtype),
                steps[1], where.strides[-1], 4 if where.dtype == "float32" else 8,
                steps[2], fp.strides[-1], NUMBERS.index(fp.dtype),
                int(left is not None and not periodic), value_bits("left", left, dtype),
                int(right is not None and not periodic), value_bits("right", right, dtype),
                int(periodic), tile, wrap,
            ),
            items=rows * T,
            weight=16,  # the steps of a search
            blocks=min(blocks, 2**20),
            threads=threads,
        )
    )  # fmt: skip
    return Plan({"values": y}, launches, scratch)


def _rows(batch: tuple[int, ...], arrays: tuple[Meta, ...]) -> tuple[list[int], Const | None]:
    """The elements from row to row of each array or, where no one step leads from row to row, a
    table of where each row starts."""
    if 0 in batch:
        return [0] * len(arrays), None
    strides = []
    for x in arrays:
        missing = len(batch) - len(x.shape[:-1])
        own = zip(x.shape[:-1], x.strides[:-1], strict=True)
        strides.append([0] * missing + [0 if size == 1 else step for size, step in own])
    steps = [0] * len(arrays)
    count = 1  # rows of the axes so far, from the last one on
    for axis in reversed(range(len(batch))):
        if batch[axis] == 1:
            continue
        at_axis = [s[axis] for s in strides]
        if count == 1:
            steps = at_axis
        elif at_axis != [step * count for step in steps]:
            starts = [
                sum(
                    (
                        np.arange(n).reshape(-1, *[1] * (len(batch) - i - 1)) * s[i]
                        for i, n in enumerate(batch)
                    ),
                    np.zeros(batch, np.int64),
                ).ravel()
                for s in strides
            ]
            return [0] * len(arrays), Const(np.stack(starts, axis=1))
        count *= batch[axis]
    return steps, None


def _period(value: Any) -> Any:
    def convert(x: Any) -> float:
        if not isinstance(x, (int, float, np.integer, np.floating)):
            raise TypeError(f"period is {x!r}, expected a number")
        if x == 0:
            raise ValueError("period is 0, expected another number")
        return abs(float(x))

    return 1.0 if value is None else later(value, convert, "d")
