"""Rotations of whole arrays."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ._core.array import Array, HostArray, Meta, Scalar
from ._core.check import NotDense, dtype_of, inner, one_of
from ._core.kernel import Kernel, Launch, Out
from ._core.plan import Plan, op
from ._core.time import later, width
from ._rotation_gradient import slerp_gradient, unwrap_gradient
from ._streams import FLOATS, LONG_WAY, POSES, SIZE, Rotation, row_major
from .resample import resample_trajectories

__all__ = ["interpolate_poses", "interpolate_quaternions", "slerp", "unwrap_quaternions"]

WEIGHTS = ("float32", "float64")  # of t, beside the dtype of the quaternions
ORDERS = {"xyzw": 1, "wxyz": 2}  # the codes of _cpu/rotation.py

_THREADS = 256
_AXES = 4  # that a kernel takes apart


def _vector(dtype: str) -> int:
    """The elements of one access to a quaternion: 16 bytes at most."""
    return min(4, 16 // SIZE[dtype])


_slerp = Kernel(
    "pose",
    "slerp",
    [(x, t, v) for x in FLOATS for t in sorted({x, *WEIGHTS}) for v in (1, _vector(x))],
)
_unwrap = Kernel("pose", "unwrap", [(x, v) for x in FLOATS for v in (1, _vector(x))])


@op(gradient=slerp_gradient, by=("q0", "q1", "t"))
def slerp(
    q0: Array,
    q1: Array,
    t: Scalar,
    *,
    order: str = "xyzw",
    shortest_path: bool = True,
    out: Array | None = None,
    backend: str = "auto",
) -> Any:
    """Rotations between pairs of unit quaternions, at constant angular velocity.

    Parameters
    ----------
    q0, q1 : array [..., 4]
        Quaternions of one dtype: float16, bfloat16, float32 or float64. They need not have length
        1. Their leading axes, and those of `t`, are broadcast against each other.
    t : number or array [...]
        Where between `q0` (0) and `q1` (1); below 0 and above 1 the rotation goes on. An array
        has the dtype of the quaternions, float32 or float64.
    order : {"xyzw", "wxyz"}
        Where the real part w stands. SciPy and ROS have it last, MuJoCo and Isaac Lab first.
    shortest_path : bool
        Turn by at most half a circle: q and -q are the same rotation, and of `q1` and ``-q1`` the
        one nearer to `q0` is taken. Pass False to take `q1` as it is.
    out : array, optional
        Write the result here.
    backend : {"auto", "cuda", "numba"}
        auto runs where the arrays lie. Any other choice copies them there and the result back.

    Returns
    -------
    array [..., 4]
        Quaternions of length 1 and of the dtype of `q0`, computed in float32 (float64 for
        float64). At 0 that is `q0`; at 1 it is `q1`, or ``-q1`` if that is nearer to `q0`. NaN
        where an input is NaN, infinite or of length 0. Where `q1` is ``-q0`` and `shortest_path`
        False, any axis would do, and the result is `q0`.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Notes
    -----
    Shoemake, Animating rotation with quaternion curves (SIGGRAPH 1985), with the angle from
    ``atan2(|q1 - (q0.q1) q0|, q0.q1)``, which is precise for close and for opposite rotations
    where the arc cosine is not. Within 1e-13 degrees of SciPy in float64.

    In PyTorch and JAX it has gradients by `q0`, `q1` and an array `t`, with all digits at any angle
    and 0 where the result is NaN; they are not differentiated a second time.

    Examples
    --------
    A third of the way to a quarter turn about z:

    >>> import numpy as np
    >>> from robocache_cupy.pose import slerp
    >>> rest, turned = np.array([0.0, 0, 0, 1]), np.array([0, 0, np.sqrt(0.5), np.sqrt(0.5)])
    >>> q = slerp(rest, turned, 1 / 3)
    >>> float(np.degrees(2 * np.arctan2(q[2], q[3])).round(9))
    30.0
    """
    one_of("order", order, tuple(ORDERS))
    dtype_of("q0", q0, FLOATS)
    dtype_of("q1", q1, (q0.dtype,))
    _quaternions(q0=q0, q1=q1)
    per_pair = t if isinstance(t, Meta) else None
    dtype_of("t", per_pair, tuple({q0.dtype: 0, "float32": 0, "float64": 0}))
    batches = {"q0": q0.shape[:-1], "q1": q1.shape[:-1]}
    if per_pair is not None:
        batches["t"] = per_pair.shape
    try:
        alike = len(set(batches.values())) == 1
        shape = batches["q0"] if alike else np.broadcast_shapes(*batches.values())
    except ValueError:
        got = ", ".join(f"{name} {batch}" for name, batch in batches.items())
        raise ValueError(f"the leading axes do not broadcast: {got}") from None
    result = Out((*shape, 4), q0.dtype) if out is None else _checked(out, (*shape, 4), q0.dtype)

    arrays = [q0, q1, *([] if per_pair is None else [per_pair]), *([] if out is None else [out])]
    steps = {name: _steps(x, batches[name], shape) for name, x in (("q0", q0), ("q1", q1))}
    steps["t"] = [0] * len(shape) if per_pair is None else _steps(per_pair, per_pair.shape, shape)
    steps["out"] = list((row_major((*shape, 4)) if out is None else out.strides)[:-1])
    size, *step = _collapse(shape, list(steps.values()))
    if len(size) > _AXES:
        for x in arrays:
            if x is not out:
                inner(x, 0)  # a dense copy may have fewer
        raise ValueError(
            f"the leading axes broadcast to {shape}, in {len(size)} groups of axes that do not "
            f"lie together in memory: expected at most {_AXES}"
        )
    axes = len(size)
    size, step = _padded(size, 1), [_padded(s, 0) for s in step]
    vector = _vector(q0.dtype)
    quaternions = [x for x in arrays if x is not per_pair]
    if any(n % vector for s in (step[0], step[1], step[3]) for n in s) or any(
        x.misaligned % (vector * SIZE[q0.dtype]) for x in quaternions
    ):
        vector = 1
    items = math.prod(shape)
    launch = Launch(
        _slerp,
        (q0.dtype, q0.dtype if per_pair is None else per_pair.dtype, vector),
        (q0, q1, per_pair, result),
        (
            items, axes, *size[1:], *step[0], *step[1], *step[2], *step[3],
            ORDERS[order], 0 if shortest_path else LONG_WAY,
            0.0 if per_pair is not None else _weight(t),
        ),
        items=items,
        weight=32,  # the time of so many elements copied
        blocks=min(-(-items // _THREADS), 2**30),
        threads=_THREADS,
    )  # fmt: skip
    return Plan({"out": result}, [launch])


@op(gradient=unwrap_gradient, by="quat")
def unwrap_quaternions(
    quat: Array,
    *,
    lengths: HostArray | None = None,
    out: Array | None = None,
    backend: str = "auto",
) -> Any:
    """Series of quaternions without jumps of sign.

    q and -q are the same rotation, and what estimates rotations may change from one to the other
    between two samples; a filter or a network sees a jump. Each sample is negated if the one before
    it is, unless that makes their dot product negative: then it is the other way round.

    Parameters
    ----------
    quat : array [B, S, 4] or [S, 4]
        Quaternions in the order of time, with the real part first or last. float16, bfloat16,
        float32 or float64.
    lengths : integers [B], optional
        The number of samples in each row of a padded batch; those behind are copied.
    out : array, optional
        Write the result here; it may be `quat`.
    backend : {"auto", "cuda", "numba"}
        auto runs where the arrays lie. Any other choice copies them there and the result back.

    Returns
    -------
    array
        `quat`, each sample as it is or negated, so that neighbours have a dot product of 0 or
        more. The first sample of a row is as it is. Where a dot product is NaN nothing changes: a
        lost sample, and the one behind it, is negated if the last one before it is.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Examples
    --------
    >>> import numpy as np
    >>> from robocache_cupy.pose import unwrap_quaternions
    >>> unwrap_quaternions(np.array([[0.5, 0.5, 0.5, 0.5], [-0.1, -0.5, -0.5, -0.7]]))
    array([[0.5, 0.5, 0.5, 0.5],
           [0.1, 0.5, 0.5, 0.7]])
    """
    dtype_of("quat", quat, FLOATS)
    if len(quat.shape) not in (2, 3):
        raise ValueError(f"quat has shape {quat.shape}, expected (B, S, 4) or (S, 4)")
    _quaternions(quat=quat)
    batch = len(quat.shape) == 3
    B, S = quat.shape[:2] if batch else (1, quat.shape[0])
    dtype_of("lengths", lengths, ("int32", "int64"))
    if lengths is not None:
        if lengths.shape != (B,):
            raise ValueError(f"lengths has shape {lengths.shape}, expected ({B},)")
        if B > 1 and lengths.strides != (1,):
            raise NotDense(lengths)
    result = Out(quat.shape, quat.dtype) if out is None else _checked(out, quat.shape, quat.dtype)
    into = row_major(quat.shape) if out is None else out.strides
    row, step = (quat.strides[0] if batch else 0), quat.strides[-2]
    out_row, out_step = (into[0] if batch else 0), into[-2]
    vector = _vector(quat.dtype)
    if (
        any(n % vector for n in (row, step, out_row, out_step))
        or quat.misaligned % (vector * SIZE[quat.dtype])
        or (out is not None and out.misaligned % (vector * SIZE[quat.dtype]))
    ):
        vector = 1
    launch = Launch(
        _unwrap,
        (quat.dtype, vector),
        (quat, lengths, result),
        (B, S, row, step, out_row, out_step, 8 if lengths is None else width(lengths.dtype)),
        items=B if S else 0,
        weight=4 * S,
        blocks=min(B, 2**30),
        threads=_THREADS,
    )
    return Plan({"out": result}, [launch])


def _quaternions(**arrays: Meta) -> None:
    for name, x in arrays.items():
        if not x.shape or x.shape[-1] != 4:
            raise ValueError(f"{name} has shape {x.shape}, expected (..., 4)")
        if 0 not in x.shape and x.strides[-1] != 1:
            raise NotDense(x)


def _checked(out: Meta, shape: tuple[int, ...], dtype: str) -> Meta:
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, expected {shape}")
    dtype_of("out", out, (dtype,))
    if 0 not in shape and out.strides[-1] != 1:
        raise ValueError("out has quaternions that do not lie together in memory")
    return out


def _weight(t: Any) -> Any:
    def convert(x: Any) -> float:
        try:
            if isinstance(x, str):
                raise TypeError
            return float(x)
        except (TypeError, ValueError):
            raise TypeError(f"t is {x!r}, expected a number or an array") from None

    if t is None or type(t) is tuple:  # which a Value is not
        kind = "None" if t is None else "a tuple"
        raise TypeError(f"t is {kind}, expected a number or an array")
    return later(t, convert, "d")


def _steps(x: Meta, batch: Sequence[int], shape: Sequence[int]) -> list[int]:
    """The strides of the leading axes of an array once these are broadcast to `shape`."""
    own = [0 if size == 1 else stride for size, stride in zip(batch, x.strides, strict=False)]
    return [0] * (len(shape) - len(batch)) + own


def _collapse(shape: Sequence[int], steps: Sequence[Sequence[int]]) -> list[list[int]]:
    """The sizes of the axes, and the steps of each array along them, once axes that lie together
    in all arrays are one.

    >>> _collapse((2, 3, 1, 5), [(15, 5, 5, 1), (0, 0, 0, 1), (3, 1, 0, 0)])
    [[6, 5], [5, 1], [0, 1], [1, 0]]
    """
    axes: list[tuple[int, ...]] = []  # the last first: its size, and the step of each array
    for axis in reversed(range(len(shape))):
        size, step = shape[axis], [s[axis] for s in steps]
        if size == 1:
            continue
        if axes and all(
            n == inner * axes[-1][0] for n, inner in zip(step, axes[-1][1:], strict=True)
        ):
            axes[-1] = (size * axes[-1][0], *axes[-1][1:])
        else:
            axes.append((size, *step))
    if not axes:
        axes.append((1, *[0] * len(steps)))
    return [list(column) for column in zip(*reversed(axes), strict=True)]


def _padded(axes: list[int], value: int) -> list[int]:
    return [value] * (_AXES - len(axes)) + axes


def interpolate_quaternions(
    quat: Any,
    src_times: Any = None,
    tgt_times: Any = None,
    *,
    order: str = "xyzw",
    method: str = "slerp",
    shortest_path: bool = True,
    canonical: bool = False,
    **options: Any,
) -> Any:
    """Orientations on another clock, by spherical linear interpolation.

    Parameters
    ----------
    quat : array [B, S, *F, 4] or [S, *F, 4]
        Unit quaternions; packed ``[N, *F, 4]`` with `offsets`. Floats of any size. They need not
        have length 1. With `src_hz` in place of `src_times` three axes or more are a batch.
    src_times, tgt_times : array
        Stamps and targets, as in `resample_trajectories`.
    order : {"xyzw", "wxyz"}
        Where the real part w stands. SciPy and ROS have it last, MuJoCo and Isaac Lab first.
    method : {"slerp", "nlerp", "nearest", "previous", "next"}
        ``nlerp`` normalises a linear interpolation: the same path, not at constant speed.
    shortest_path : bool
        Turn by at most half a circle, whatever the signs: q and -q are the same rotation.
    canonical : bool
        Give results the sign that makes w positive, as SciPy's ``as_quat(canonical=True)`` does.
        By default they are continuous with the sample before.
    **options
        All other options of `resample_trajectories`.

    Returns
    -------
    array or named tuple
        As `resample_trajectories`. A target between two samples has length 1, and is not valid
        where its rotation is undefined: where a sample has length 0, or the two are opposite. A
        sample that is hit, held or the nearest comes as it is and is not looked at: one of length 0
        is then valid.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Notes
    -----
    The angle comes from atan2, which has all digits at any angle. SciPy's `Slerp` raises beyond
    the ends, where this holds and says so in ``valid``.

    In PyTorch and JAX it has a gradient by `quat`, once. A target whose rotation is undefined gives
    none.

    Examples
    --------
    A quarter turn about z, a third of the way:

    >>> import numpy as np
    >>> import robocache_cupy as rc
    >>> turn = np.array([[0.0, 0.0, 0.0, 1.0], [0.0, 0.0, np.sqrt(0.5), np.sqrt(0.5)]])
    >>> q = rc.interpolate_quaternions(turn, np.array([0.0, 3.0]), np.array([1.0]))
    >>> float(np.degrees(2 * np.arctan2(q[0, 2], q[0, 3])).round(9))
    30.0
    """
    one_of("order", order, tuple(ORDERS))
    methods = {"slerp": "linear", "nlerp": "linear"}
    methods |= {name: name for name in ("nearest", "previous", "next")}
    one_of("method", method, tuple(methods))
    if "rotation" in options:
        raise TypeError("rotation is what order says here: interpolate_quaternions takes none")
    rotation = Rotation(f"quat_{order}", shortest_path, method == "nlerp", canonical)
    try:
        return resample_trajectories(
            quat, src_times, tgt_times, method=methods[method], rotation=rotation, **options
        )
    except (TypeError, ValueError) as e:
        raise _renamed(e, "interpolate_quaternions", "quat") from None


def interpolate_poses(
    poses: Any,
    src_times: Any = None,
    tgt_times: Any = None,
    *,
    format: str = "pos_quat_xyzw",
    method: str = "linear",
    **options: Any,
) -> Any:
    """Poses on another clock: positions linearly, orientations by slerp.

    Parameters
    ----------
    poses : array [B, S, *F, D] or [S, *F, D]
        Poses in this format; packed ``[N, *F, D]`` with `offsets`. Floats of any size. With
        `src_hz` in place of `src_times` three axes or more are a batch.
    src_times, tgt_times : array
        Stamps and targets, as in `resample_trajectories`.
    format : str
        ``pos_quat_xyzw``, ``pos_quat_wxyz`` (D = 7), ``pos_rotvec`` (6), ``pos_rot6d`` (9; the
        first two columns of the matrix), ``mat44`` (16, or ``[..., 4, 4]``) or ``mat34`` (12, or
        ``[..., 3, 4]``).
    method : str
        ``linear``, ``nearest``, ``previous`` or ``next``; a curve (``catmull_rom``, ...) is for
        positions, and orientations are then by slerp all the same.
    **options
        All other options of `resample_trajectories`.

    Returns
    -------
    array or named tuple
        As `resample_trajectories`; a pose is valid where both its position and its orientation are
        (see `interpolate_quaternions`).

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Notes
    -----
    Position and orientation are independent of each other, as in ROS's tf2. So `fill_value` stands
    in that of the two which is not valid: where an orientation alone is undefined, the position
    stays.

    Examples
    --------
    >>> import numpy as np
    >>> import robocache_cupy as rc
    >>> still, moved = np.eye(4), np.eye(4)
    >>> moved[:3, 3] = 1.0, 2.0, 3.0
    >>> times = np.array([0.0, 1.0])
    >>> poses = np.stack([still, moved])
    >>> pose = rc.interpolate_poses(poses, times, np.array([0.5]), format="mat44")
    >>> pose[0, :3, 3]
    array([0.5, 1. , 1.5])
    """
    one_of("format", format, tuple(POSES))
    if "rotation" in options:
        raise TypeError("rotation is what format says here: interpolate_poses takes none")
    try:
        return resample_trajectories(
            poses, src_times, tgt_times, method=method, rotation=format, **options
        )
    except (TypeError, ValueError) as e:
        raise _renamed(e, "interpolate_poses", "poses") from None


def _renamed(error: Exception, function: str, argument: str) -> Exception:
    """An error of `resample_trajectories` in the words of the function that called it."""
    if type(error) not in (TypeError, ValueError):  # JAX has some that take more than a text
        return error
    text = re.sub(r"(?<!int\d )(?<!int\d\d )\bdata\b", argument, str(error))
    return type(error)(text.replace("resample_trajectories", function))
