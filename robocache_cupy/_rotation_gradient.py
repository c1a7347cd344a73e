"""The gradients of interpolated rotations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ._core.array import Array, HostArray, Meta, Scalar, dtype_name, namespace
from ._core.check import dtype_of, inner, one_of
from ._core.kernel import Kernel, Launch, Out
from ._core.plan import Plan, op
from ._core.time import width
from ._streams import (
    FLOATS,
    LONG_WAY,
    SAMPLING,
    Columns,
    columns_of,
    method_name,
    steps,
    weight_dtype,
)

_BLOCKS = 2**20
_THREADS = 256
WEIGHTS = ("float32", "float64")

_order = Kernel("rotation_gradient", "order")
_turn_back = Kernel("rotation_gradient", "turn_back", [(x, y) for x in FLOATS for y in FLOATS])
_collect = Kernel("rotation_gradient", "collect_pairs", [(c, z) for c in WEIGHTS for z in FLOATS])
_slerp_back = Kernel(
    "rotation_gradient", "slerp_back", [(x, t) for x in FLOATS for t in sorted({x, *WEIGHTS})]
)


def _blocks(items: int) -> int:
    return max(1, min(-(-items // _THREADS), _BLOCKS))


# --------------------------------------------------------------------------------------- resampling


def rotation_gradient(
    grad: Any,
    data: Any,
    src_times: Any,
    tgt_times: Any,
    *,
    rotation: Any,
    method: str = "linear",
    samples: int | None = None,
    dtype: Any = None,
    fill_value: Any = None,
    assume_sorted: bool = True,
    **options: Any,
) -> Any:
    """The gradient by data that was resampled with rotations in it.

    The sample and the weight of each target come from resampling itself. Of those follow what a
    target gives to each of its two samples, and the sums of that over the targets of a sample.

    Parameters
    ----------
    grad : array [B, T, *F]
        The gradient by the resampled values.
    data : array [B, S, *F], or [S, *F] or [1, S, *F] for rows that share it, or packed [N, *F]
        The samples.
    src_times, tgt_times : array, or None
    rotation : str, Rotation or mapping
        As in `resample_trajectories`, for features of the shape F.
    method : str
        A curve turns rotations as ``linear`` does, and takes no other columns here.
    samples : int, optional
        Not used: for a call like that of `resample_backward`.
    dtype : optional
        dtype of the result; that of `data` by default.
    fill_value, assume_sorted, **options
        The other options of the call of `resample_trajectories`.

    Returns
    -------
    array [B, S, *F], or packed [N, *F]
        [B, N, *F] where `offsets` has a single row, and several rows of targets share it. A target
        whose rotation is not defined gives nothing.
    """
    from .resample import resample_trajectories

    if not assume_sorted:
        raise RuntimeError(
            "there is no gradient by rotations at unsorted stamps: sort data and src_times first, "
            "or detach the data"
        )
    way = method_name(method)
    located = way if way in SAMPLING else "linear"
    T = grad.shape[1]
    if options.get("hz") is not None:
        options["num"] = T
    found = resample_trajectories(
        data[..., :1], src_times, tgt_times, method=located, dtype=dtype_name(grad.dtype),
        return_index=True, return_valid=fill_value is not None, **options,
    )  # fmt: skip
    xp = namespace(grad)

    def per_target(x: Any) -> Any:
        return xp.broadcast_to(x, tuple(grad.shape[:2]))

    return rotation_backward(
        grad, data, per_target(found.index), per_target(found.weight), rotation=rotation,
        valid=None if fill_value is None else per_target(found.valid),
        offsets=options.get("offsets"),
        dtype=dtype_name(data.dtype if dtype is None else dtype),
        backend=options.get("backend", "auto"),
    )  # fmt: skip


def _once(grads: Sequence[Any], arguments: dict[str, Any]) -> Mapping[str, Any]:
    raise RuntimeError(
        "interpolated rotations have no second derivative here: differentiate once, or interpolate "
        "with operations of the framework"
    )


@op(gradient=_once, by=("grad", "data", "weight"))
def rotation_backward(
    grad: Array,
    data: Array,
    index: Array,
    weight: Array,
    *,
    rotation: Any,
    valid: Array | None = None,
    offsets: HostArray | None = None,
    dtype: Any = None,
    backend: str = "auto",
) -> Any:
    """The gradient by samples of which targets were made, with rotations in them.

    Parameters
    ----------
    grad : array [B, T, *F]
        The gradient by the resampled values: float16, bfloat16, float32 or float64.
    data : array [B, S, *F], or [S, *F] or [1, S, *F] for rows that share it, or packed [N, *F]
        The samples, of any of these dtypes.
    index : int32 array [B, T]
        Each target is made of this sample of its row and the one behind it; of none below 0.
    weight : array [B, T]
        How far it is on its way from one to the other; float64 where one of the dtypes is, else
        float32. Of a weight of 0 it is the sample itself.
    rotation : str, Rotation or mapping
        As in `resample_trajectories`.
    valid : bool array [B, T], optional
        Where targets have their value of samples. Where it is given, a rotation that is not
        defined has its value of none either.
    offsets : integers [B + 1] or [2], optional
        Row b of packed data is ``data[offsets[b]:offsets[b + 1]]``.
    dtype : optional
        dtype of the result; that of `data` by default.
    backend : {"auto", "cuda", "numba"}

    Returns
    -------
    array [B, S, *F], or packed [N, *F]
        [B, N, *F] where `offsets` has a single row, and several rows of targets share it.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Notes
    -----
    A change of an end of an arc moves what lies between as the Jacobi fields of the sphere do:
    along the arc in proportion to the weight, and across it as sin(w a) / sin(a). Numbers that are
    stored are normalised first, so their gradient has no part along them.

    Examples
    --------
    An angle a quarter of the way between two:

    >>> import numpy as np
    >>> from robocache_cupy._rotation_gradient import rotation_backward
    >>> grad, data = np.ones((1, 1, 1)), np.array([[[0.0], [1.0]]])
    >>> index, weight = np.array([[0]], np.int32), np.array([[0.25]])
    >>> rotation_backward(grad, data, index, weight, rotation="angle").ravel()
    array([0.75, 0.25])
    """
    dtype_of("grad", grad, FLOATS)
    dtype_of("data", data, FLOATS)
    dtype_of("index", index, ("int32",))
    compute = weight_dtype(data.dtype, grad.dtype)
    dtype_of("weight", weight, (compute,))
    dtype_of("valid", valid, ("bool", "uint8"))
    dtype_of("offsets", offsets, ("int32", "int64"))
    result = data.dtype if dtype is None else dtype_name(dtype)
    if result not in FLOATS:
        raise TypeError(f"dtype is {result}, expected one of {', '.join(FLOATS)}")
    if len(index.shape) != 2:
        raise ValueError(f"index has shape {index.shape}, expected (B, T)")
    B, T = index.shape
    if grad.shape[:2] != (B, T):
        raise ValueError(f"grad has shape {grad.shape}, expected ({B}, {T}, *F)")
    for name, x in (("weight", weight), ("valid", valid)):
        if x is not None and x.shape != (B, T):
            raise ValueError(f"{name} has shape {x.shape}, expected ({B}, {T})")
    features = grad.shape[2:]
    lead = len(data.shape) - len(features)
    packed = offsets is not None
    if data.shape[lead:] != features or lead not in ((1,) if packed else (1, 2)):
        expected = ", ".join(map(str, ("N" if packed else "B, S", *features)))
        raise ValueError(f"data has shape {data.shape}, expected ({expected})")
    if lead == 2 and data.shape[0] not in (1, B):
        raise ValueError(f"data has {data.shape[0]} rows, expected {B}: those of grad")
    one_row = False
    if offsets is not None:
        if offsets.shape not in ((B + 1,), (2,)):
            raise ValueError(f"offsets has shape {offsets.shape}, expected ({B + 1},)")
        one_row = offsets.shape == (2,) and B != 1
        inner(offsets, 0)
    for x in (grad, index, weight, valid):
        if x is not None:
            inner(x, 0)
    D = inner(data, lead)
    S = data.shape[lead - 1]
    data_row, data_step = steps(data, lead)
    if packed:
        data_row = 0
    shape = (S,) if packed and not one_row else (B, S)
    out = Out((*shape, *features), result)
    pairs = Out((B, T, 2, D), compute)
    first, disorder = Out((B, T), "int32"), Out((B,), "int32")
    offsets_width = 8 if offsets is None else width(offsets.dtype)
    launches = [
        Launch(_order, (), (index, first, disorder), (T, B), items=B, weight=T,
               blocks=max(1, min(B, _BLOCKS)), threads=_THREADS)
    ]  # fmt: skip
    for part in columns_of("data", features, "linear", rotation, "linear") if D else []:
        column, wide, groups, stride = _spread(part)
        items = B * T * groups
        launches.append(
            Launch(
                _turn_back,
                (data.dtype, grad.dtype),
                (grad, data, index, weight, valid, offsets, pairs),
                (
                    items, T, D, data_row, data_step, offsets_width, int(one_row),
                    part.rotation, part.rotation_row, part.flags, column, wide, groups, stride,
                ),
                items=items,
                weight=128 if part.rotation else wide,
                blocks=_blocks(items),
                threads=_THREADS,
            )
        )  # fmt: skip
    items = out.shape[0] * (S if len(shape) == 2 else 1) * D
    launches.append(
        Launch(
            _collect,
            (compute, result),
            (pairs, index, first, weight, disorder, offsets, out),
            (items, S, B, T, D, offsets_width, int(one_row)),
            items=items,
            weight=8 + 2 * (T // max(S, 1)),
            blocks=_blocks(items),
            threads=_THREADS,
        )
    )
    return Plan({"data": out}, launches, [pairs, first, disorder])


def _spread(part: Columns) -> tuple[int, int, int, int]:
    """Column, width, groups and stride of a part: neighbours that turn nothing one by one."""
    if part.rotation or part.groups > 1:
        return part.column, part.width, part.groups, part.stride
    return part.column, 1, part.width, 1


# -------------------------------------------------------------------------------------------- slerp


def slerp_gradient(grads: Sequence[Any], arguments: dict[str, Any]) -> Mapping[str, Any]:
    """The gradient of `slerp` by both quaternions, and by an array of weights."""
    (grad,) = grads
    q0, q1, t = (arguments[name] for name in ("q0", "q1", "t"))
    xp, batch = namespace(grad), tuple(grad.shape[:-1])
    several = len(getattr(t, "shape", ())) > 0
    made = slerp_backward(
        grad,
        xp.broadcast_to(q0, (*batch, 4)),
        xp.broadcast_to(q1, (*batch, 4)),
        xp.broadcast_to(t, batch) if several else t,
        order=arguments["order"],
        shortest_path=arguments["shortest_path"],
        backend=arguments["backend"],
    )
    found = {"q0": _summed(made.q0, q0), "q1": _summed(made.q1, q1)}
    if several:
        found["t"] = _summed(made.t, t)
    return found


def _summed(x: Any, like: Any) -> Any:
    """The sum over the axes along which an array was broadcast."""
    if tuple(x.shape) == tuple(like.shape):
        return x
    extra = len(x.shape) - len(like.shape)
    axes = [
        i for i, n in enumerate(x.shape) if i < extra or (like.shape[i - extra] == 1 and n != 1)
    ]
    return namespace(x).reshape(x.sum(tuple(axes)), tuple(like.shape))


@op(gradient=_once, by=("grad", "q0", "q1", "t"))
def slerp_backward(
    grad: Array,
    q0: Array,
    q1: Array,
    t: Scalar,
    *,
    order: str = "xyzw",
    shortest_path: bool = True,
    backend: str = "auto",
) -> Any:
    """The gradient of a loss by what rotations were made of by `slerp`.

    Parameters
    ----------
    grad : array [..., 4]
        The gradient by the result of `slerp`.
    q0, q1 : array [..., 4]
        Quaternions of the same shape and dtype.
    t : number or array [...]
    order : {"xyzw", "wxyz"}
    shortest_path : bool
    backend : {"auto", "cuda", "numba"}

    Returns
    -------
    named tuple of q0, q1, and t
        0 where the result of `slerp` is NaN. Without t where it is a number.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Examples
    --------
    Turning the second of two equal rotations turns what lies midway half as much:

    >>> import numpy as np
    >>> from robocache_cupy._rotation_gradient import slerp_backward
    >>> rest, grad = np.array([0.0, 0, 0, 1]), np.array([0.0, 0, 1, 0])
    >>> slerp_backward(grad, rest, rest, 0.5).q1
    array([0. , 0. , 0.5, 0. ])
    """
    from .pose import ORDERS, _weight

    one_of("order", order, tuple(ORDERS))
    dtype_of("grad", grad, FLOATS)
    batch = grad.shape[:-1]
    for name, x in (("q0", q0), ("q1", q1)):
        dtype_of(name, x, (grad.dtype,))
        if x.shape != (*batch, 4):
            raise ValueError(f"{name} has shape {x.shape}, expected {(*batch, 4)}")
    per_pair = t if isinstance(t, Meta) else None
    dtype_of("t", per_pair, tuple({grad.dtype: 0, "float32": 0, "float64": 0}))
    if per_pair is not None and per_pair.shape != batch:
        raise ValueError(f"t has shape {per_pair.shape}, expected {batch}")
    for x in (grad, q0, q1, per_pair):
        if x is not None:
            inner(x, 0)
    outputs = {"q0": Out(q0.shape, q0.dtype), "q1": Out(q1.shape, q1.dtype)}
    if per_pair is not None:
        outputs["t"] = Out(batch, per_pair.dtype)
    items = math.prod(batch)
    launch = Launch(
        _slerp_back,
        (q0.dtype, q0.dtype if per_pair is None else per_pair.dtype),
        (grad, q0, q1, per_pair, outputs["q0"], outputs["q1"], outputs.get("t")),
        (
            items, ORDERS[order], 0 if shortest_path else LONG_WAY,
            0.0 if per_pair is not None else _weight(t),
        ),
        items=items,
        weight=128,
        blocks=_blocks(items),
        threads=_THREADS,
    )  # fmt: skip
    return Plan(outputs, [launch], result="Gradients")


def unwrap_gradient(grads: Sequence[Any], arguments: dict[str, Any]) -> Mapping[str, Any]:
    """The gradient of `unwrap_quaternions`: negated where the quaternion was."""
    from .pose import unwrap_quaternions

    (grad,), quat = grads, arguments["quat"]
    xp = namespace(grad)
    made = unwrap_quaternions(quat, lengths=arguments["lengths"], backend=arguments["backend"])
    negated = (xp.signbit(made) != xp.signbit(quat)) & (quat == quat)
    return {"quat": xp.where(negated.any(-1)[..., None], -grad, grad)}
