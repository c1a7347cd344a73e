"""Normalisation as the robot learning projects do it, and back."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

import numpy as np

from ._core.array import Array, ArrayLike, HostArray, as_numpy, dtype_name
from ._core.check import NotDense, dtype_of, inner, one_of
from ._core.kernel import PROCESSORS, Const, Kernel, Launch, Out
from ._core.plan import Constant, Plan, op
from ._gradients import normalize_gradient
from ._streams import DATA, FLOATS, SIZE, wide

__all__ = ["Normalization", "compute_stats", "normalization", "normalize", "unnormalize"]

CONVENTIONS = ("lerobot", "openpi", "octo", "gr00t", "diffusion_policy")
MODES = ("mean_std", "min_max", "quantiles", "quantile10", "identity")

# What each mode takes from the statistics, under any of these names.
_KEYS = {
    "mean_std": (("mean",), ("std",)),
    "min_max": (("min",), ("max",)),
    "quantiles": (("q01", "p01"), ("q99", "p99")),
    "quantile10": (("q10", "p10"), ("q90", "p90")),
}
_EPS = {"lerobot": 1e-8, "openpi": 1e-6, "octo": 1e-8, "gr00t": 0.0, "diffusion_policy": 1e-4}
_UNTOUCHED = (0.0, 1.0, -0.0)  # shift, scale, offset; adding -0.0 keeps the sign of a zero


class _Affine(NamedTuple):
    """clip((x - shift) * scale + offset, low, high)"""

    shift: np.ndarray
    scale: np.ndarray
    offset: np.ndarray
    low: np.ndarray
    high: np.ndarray


class Normalization(Constant):
    """What `normalize` does to each column: ``clip((x - shift) * scale + offset, low, high)``.

    Made by `normalization`. It never changes, and two are equal only if they are the same object,
    so plans remember it by what it is. It can be pickled.

    Attributes
    ----------
    shift, scale, offset, low, high : numpy.ndarray
        float64, read-only, all of one shape: [1] (the same for all columns), [D], [T, D] for
        statistics per step, or [C, 1, 1] for those of channels that come first.
    mask : numpy.ndarray or None
        bool, of the same shape: False where a column stays as it is.

    Examples
    --------
    >>> import robocache_cupy as rc
    >>> made = rc.normalization({"min": [0.0, -1.0], "max": [2.0, 1.0]}, "min_max")
    >>> made.shift, made.scale, made.offset
    (array([ 0., -1.]), array([1., 1.]), array([-1., -1.]))
    """

    shift: np.ndarray
    scale: np.ndarray
    offset: np.ndarray
    low: np.ndarray
    high: np.ndarray
    mask: np.ndarray | None
    _label: str
    _constant: np.ndarray  # where the statistics say that a column has but one value
    _other: Normalization
    _tables: dict[tuple[bool, tuple[int, ...]], Const]

    def __init__(self) -> None:
        raise TypeError("a Normalization is made by normalization(stats, mode)")

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a Normalization cannot be changed: {name} is read-only")

    def __repr__(self) -> str:
        return f"<Normalization: {self._label}, statistics of shape {self.shift.shape}>"

    def __getstate__(self) -> dict[str, Any]:
        state = {**self.__dict__, "_tables": {}}
        del state["token"]  # which is of this process
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        for x in state.values():
            if isinstance(x, np.ndarray):
                x.flags.writeable = False

    def inverse(self) -> Normalization:
        """The Normalization of `unnormalize`: the project's own way back, which is not always the
        exact inverse. Its own inverse is this object again."""
        return self._other

    def over(self, axes: tuple[int, ...]) -> tuple[int, ...] | None:
        """The last of these axes, of an array, that the statistics repeat with; None where they do
        not broadcast to them."""
        shape = self.shift.shape
        if shape == (1,):
            return shape
        last = axes[-len(shape) :]
        # A single axis is that of the columns, and not one to be left out.
        fits = len(last) == len(shape) and all(
            n == m or (n == 1 and len(shape) > 1) for n, m in zip(shape, last, strict=True)
        )
        return last if fits else None

    def table(self, double: bool, over: tuple[int, ...] | None = None) -> Const:
        """The rows shift, scale, offset, low and high as float64 or float32 ``[5, n]``, the
        statistics repeated over these axes. First axes of one may be left out."""
        over = self.shift.shape if over is None else over
        if (double, over) not in self._tables:
            rows = self._rounded(double).reshape(5, *self.shift.shape[-len(over) :])
            rows = np.broadcast_to(rows, (5, *over)).reshape(5, -1)
            self._tables.setdefault((double, over), Const(np.ascontiguousarray(rows)))
        return self._tables[double, over]

    def _rounded(self, double: bool) -> np.ndarray:
        dtype = np.float64 if double else np.float32
        limit = np.finfo(dtype).max
        with np.errstate(over="ignore", invalid="ignore"):
            shift = self.shift.astype(dtype)
            scale = np.clip(self.scale, -limit, limit)
            # x - shift is exact where they are close, so what the shift loses here would be all of
            # the error where the mean is much larger than the deviation. A constant column must
            # give a constant, and data of this dtype have lost as much as the shift.
            lost = (shift.astype(np.float64) - self.shift) * scale
            lost[self._constant | ~np.isfinite(lost)] = 0.0
            offset = np.where(lost == 0, self.offset, self.offset + lost)
            rows = (shift, scale, offset, self.low, self.high)
            return np.stack([x.astype(dtype) for x in rows])


def normalization(
    stats: Mapping[str, Any] | None = None,
    mode: str = "mean_std",
    *,
    convention: str = "lerobot",
    eps: float | None = None,
    clip: Any = None,
    mask: Any = None,
    min_range: float = 0.0,
    scale: Any = None,
    bias: Any = None,
) -> Normalization:
    """Prepare a normalisation, for `normalize`, `unnormalize` and the ops that take ``normalize=``.

    Parameters
    ----------
    stats : mapping
        The statistics of one feature under the names of LeRobot's ``meta/stats.json``: ``mean``,
        ``std``, ``min``, ``max``, ``q01``, ``q10``, ``q90``, ``q99`` (or Octo's ``p01``, ``p99``),
        as lists or arrays: [D], or [1] for all columns, or [T, D] for each step of a chunk, or
        [C, 1, 1] for images whose channels come first, as LeRobot has them. Two and more axes
        broadcast to the last axes of the data. Also its ``mask``, if it has one.
    mode : {"mean_std", "min_max", "quantiles", "quantile10", "identity"}
        Zero mean and unit deviation, or [-1, 1] between min and max, between q01 and q99, or
        between q10 and q90. LeRobot's NormalizationMode will do.
    convention : {"lerobot", "openpi", "octo", "gr00t", "diffusion_policy"}
        Whose formula: see Notes.
    eps : float, optional
        In place of the convention's own: 1e-8 for lerobot and octo, 1e-6 for openpi, 1e-4 for
        diffusion_policy (a range below it is constant). gr00t has none.
    clip : bool, number or (low, high), optional
        Bounds of the normalised values; True is (-1, 1), a number c is (-c, c). The way back then
        clips what comes in to the same bounds. By default as the convention does; False never.
    mask : bool [D], optional
        Columns where it is False stay as they are, and are not clipped.
    min_range : float
        A column whose range, or deviation, is below this is taken as constant: its minimum or mean
        maps to 0, and the scale is 1. With 0 a joint that hardly moves may blow up: q01 and q99
        1e-6 apart made 0 into -3200 (openpi #814). 1e-4 is a good choice.
    scale, bias : number or [D], optional
        ``y = x * scale + bias`` in place of statistics; 1/255 for images.

    Returns
    -------
    Normalization
        The same object for the same arguments, while it is one of the last 256.

    Raises
    ------
    ValueError, TypeError
        Naming the argument or the statistic, what came and what was expected.

    Notes
    -----
    With lo and hi the bounds that `mode` names, and range = hi - lo:

    ================  ============================  ===================================  ==========
    convention        mean_std                      other modes                          clip
    ================  ============================  ===================================  ==========
    lerobot           (x - mean) / (std + eps)      2 (x - lo) / range - 1, where a      no
                                                    range of 0 is eps
    openpi            (x - mean) / (std + eps)      2 (x - lo) / (range + eps) - 1       no
    octo              (x - mean) / (std + eps)      2 (x - lo) / (range + eps) - 1       to [-1, 1]
    gr00t             (x - mean) / std, where std   2 (x - lo) / range - 1, where lo is  way back
                      is 0 just x                   close to hi (`numpy.isclose`) 0
    diffusion_policy  (x - mean) / std, where       2 (x - lo) / range - 1, where        no
                      std < eps just x - mean       range < eps just x - lo
    ================  ============================  ===================================  ==========

    The way back is the same formula solved for x, except that lerobot, octo and gr00t go from
    mean_std with ``y * std + mean`` (a gr00t column with std = 0 stays as it is), and that gr00t
    clips y to [-1, 1] in the other modes. Octo's clip applies to these modes, too.

    Sources: `processor/normalize_processor.py` of LeRobot, `transforms.py` of openpi,
    `data/utils/data_utils.py` and `utils/gym_wrappers.py` of Octo, `data/utils.py` of Isaac-GR00T,
    `model/common/normalizer.py` of diffusion_policy.

    Examples
    --------
    >>> import numpy as np
    >>> from robocache_cupy.normalize import normalization, normalize, unnormalize
    >>> n = normalization({"q01": [0.0, 5.0], "q99": [1.0, 9.0]}, "quantiles", clip=True)
    >>> n
    <Normalization: quantiles, lerobot, clip (-1.0, 1.0), statistics of shape (2,)>
    >>> y = normalize(np.array([[0.5, 7.0], [3.0, 8.0]]), n)
    >>> y
    array([[0. , 0. ],
           [1. , 0.5]])
    >>> unnormalize(y, n)
    array([[0.5, 7. ],
           [1. , 8. ]])
    """
    if isinstance(mode, str):
        mode = mode.lower()
    one_of("mode", mode, MODES)
    one_of("convention", convention, CONVENTIONS)
    if eps is not None and convention == "gr00t":
        raise ValueError(f"eps is {eps!r}, but convention 'gr00t' has none")
    if eps is None:
        eps = _EPS[convention]
    for name, x in (("eps", eps), ("min_range", min_range)):
        if not isinstance(x, (int, float, np.number)) or not 0 <= x < math.inf:
            raise ValueError(f"{name} is {x!r}, expected a number of 0 or more")

    bounds = _bounds(clip)
    first = second = None
    given = "mean_std", "lerobot", _EPS["lerobot"], 0.0
    if scale is not None or bias is not None:
        if stats is not None or (mode, convention, eps, min_range) != given:
            raise ValueError("scale and bias stand in place of stats, mode, convention, eps and "
                             "min_range: give either")  # fmt: skip
        mode = "scale"
        first = _numbers("scale", 1.0 if scale is None else scale)
        second = _numbers("bias", 0.0 if bias is None else bias)
    elif mode != "identity":
        first, second, in_stats = _select(stats, mode)
        mask = in_stats if mask is None else mask
    masked = None
    if mask is not None:
        masked = as_numpy("mask", mask)
        if masked.dtype != bool:
            raise TypeError(f"mask has dtype {masked.dtype}, expected bool")
        masked = np.atleast_1d(masked)
    return _make(mode, convention, float(eps), float(min_range), bounds,
                 *map(_frozen, (first, second, masked)))  # fmt: skip


def _select(stats: Any, mode: str) -> tuple[np.ndarray, np.ndarray, Any]:
    """The two statistics that a mode takes, and the mask."""
    if not isinstance(stats, Mapping):
        raise TypeError(
            f"stats is {'None' if stats is None else f'a {type(stats).__name__}'}, expected a "
            "mapping of names such as 'mean' and 'std' to numbers"
        )
    found = []
    for names in _KEYS[mode]:
        name = next((n for n in names if n in stats), None)
        if name is None:
            has = ", ".join(map(repr, stats))
            nested = any(isinstance(x, Mapping) for x in stats.values())
            raise ValueError(
                f"stats has no {names[0]!r}, which mode {mode!r} takes: it has {has or 'nothing'}"
                + (", so pass the statistics of one feature" if nested else "")
            )
        found.append(_numbers(f"stats[{name!r}]", stats[name]))
    return found[0], found[1], stats.get("mask")


def _numbers(name: str, x: Any) -> np.ndarray:
    numbers = np.atleast_1d(as_numpy(name, x).astype(np.float64))
    if numbers.size == 0:
        raise ValueError(
            f"{name} has shape {numbers.shape}, expected [D], [1], [T, D] or [C, 1, 1]"
        )
    return numbers


def _bounds(clip: Any) -> tuple[float, float] | Literal[False] | None:
    if clip is None or clip is False:
        return clip
    if clip is True:
        return -1.0, 1.0
    try:
        low, high = (-clip, clip) if np.ndim(clip) == 0 else clip
        low, high = float(low), float(high)
    except (TypeError, ValueError):
        low, high = math.nan, math.nan
    if not low <= high:
        raise ValueError(f"clip is {clip!r}, expected True, False, a number or (low, high)")
    return low, high


_Frozen = tuple[tuple[int, ...], str, bytes] | None


def _frozen(x: np.ndarray | None) -> _Frozen:
    return None if x is None else (x.shape, x.dtype.name, x.tobytes())


def _thawed(x: _Frozen) -> np.ndarray | None:
    return None if x is None else np.frombuffer(x[2], x[1]).reshape(x[0])


# Equal statistics that come as a dict with every call then meet a plan that is made already.
@functools.lru_cache(256)
def _make(
    mode: str,
    convention: str,
    eps: float,
    min_range: float,
    bounds: tuple[float, float] | Literal[False] | None,
    *frozen: _Frozen,
) -> Normalization:
    first, second, mask = map(_thawed, frozen)
    shapes = [x.shape for x in (first, second, mask) if x is not None]
    try:
        shape = np.broadcast_shapes((1,), *shapes)
    except ValueError:
        got = ", ".join(map(str, shapes))
        raise ValueError(f"the statistics and mask have shapes {got}, expected one shape") from None
    touched = np.ones(shape, bool) if mask is None else np.broadcast_to(mask, shape)
    constant = np.zeros(shape, bool)
    if first is None or second is None:  # identity
        forward = backward = _UNTOUCHED
    else:
        names = ("scale", "bias") if mode == "scale" else [x[0] for x in _KEYS[mode]]
        first, second = (np.broadcast_to(x, shape) for x in (first, second))
        for name, x in zip(names, (first, second), strict=True):
            _check(name, x, ~np.isfinite(x) & touched, "finite numbers")
        with np.errstate(all="ignore"):  # of columns that stay as they are
            if mode == "scale":
                forward, backward = _scaled(first, second, touched)
            elif mode == "mean_std":
                _check("std", second, (second < 0) & touched, "0 or more")
                forward, backward, constant = _standard(first, second, convention, eps, min_range)
            else:
                _check(names[1], second, (second < first) & touched, f"at least {names[0]}")
                forward, backward, constant = _ranged(first, second, convention, eps, min_range)

    ranged = mode in ("min_max", "quantiles", "quantile10")
    there = back = bounds or None
    if bounds is None and ranged:
        there = (-1.0, 1.0) if convention == "octo" else None
        back = (-1.0, 1.0) if convention == "gr00t" else None
    label = [mode]
    if ranged or mode == "mean_std":
        label += [convention]
        label += [f"eps {eps:g}"] if eps != _EPS[convention] else []
        label += [f"min_range {min_range:g}"] if min_range else []
    label += [f"clip {bounds}"] if bounds is not None else []
    label += ["masked"] if mask is not None else []
    mask = None if mask is None else touched
    ends = [
        _new(_complete(affine, limits, touched), constant, mask, text)
        for affine, limits, text in (
            (forward, there and (np.full(shape, there[0]), np.full(shape, there[1])), ""),
            (backward, back and _image(back, backward), "inverse of "),
        )
        for text in (text + ", ".join(label),)
    ]
    for one, other in (ends, reversed(ends)):
        one.__dict__["_other"] = other
    return ends[0]


def _check(name: str, x: np.ndarray, wrong: np.ndarray, expected: str) -> None:
    if wrong.any():
        place = tuple(map(int, np.argwhere(wrong)[0]))
        at = f"in column {place[-1]}" if len(place) < 3 else f"at {place}"
        raise ValueError(f"{name} is {x[wrong][0]} {at}, expected {expected}")


def _new(affine: _Affine, constant: Any, mask: Any, label: str) -> Normalization:
    made: Any = Normalization.__new__(Normalization)
    made.__setstate__(
        {**affine._asdict(), "mask": mask, "_constant": constant, "_label": label, "_tables": {}}
    )
    return made


def _complete(affine: Any, limits: Any, touched: np.ndarray) -> _Affine:
    """With bounds, and columns that stay as they are."""
    low, high = limits if limits else (-math.inf, math.inf)
    untouched = (*_UNTOUCHED, -math.inf, math.inf)
    return _Affine(
        *(np.where(touched, x, y) for x, y in zip((*affine, low, high), untouched, strict=True))
    )


def _image(bounds: tuple[float, float], affine: Any) -> tuple[np.ndarray, np.ndarray]:
    """Where the way back takes the bounds of what comes in."""
    shift, scale, offset = affine
    with np.errstate(invalid="ignore"):
        ends = np.stack([np.broadcast_to((x - shift) * scale + offset, np.shape(scale))
                         for x in bounds])  # fmt: skip
    low, high = ends.min(axis=0), ends.max(axis=0)
    return np.where(np.isnan(low), -math.inf, low), np.where(np.isnan(high), math.inf, high)


# Each gives (shift, scale, offset) there and back, and which columns are constant.


def _scaled(scale: np.ndarray, bias: np.ndarray, touched: np.ndarray) -> Any:
    _check("scale", scale, (scale == 0) & touched, "another number")
    return (0.0, scale, bias), (bias, 1 / scale, -0.0)


def _standard(mean: Any, std: Any, convention: str, eps: float, min_range: float) -> Any:
    if convention == "diffusion_policy":
        eps, min_range = 0.0, max(eps, min_range)
    still = std < min_range
    divisor = np.where(still, 1.0, std + eps)
    factor = divisor if convention == "openpi" else np.where(still, 1.0, std)
    there: Any = (mean, 1 / divisor, 0.0)
    back: Any = (0.0, factor, mean)
    if convention == "gr00t":
        kept = (std == 0) & ~still
        there = tuple(np.where(kept, y, x) for x, y in zip(there, _UNTOUCHED, strict=True))
        back = tuple(np.where(kept, y, x) for x, y in zip(back, _UNTOUCHED, strict=True))
    return there, back, still | (std == 0)


def _ranged(lo: Any, hi: Any, convention: str, eps: float, min_range: float) -> Any:
    if convention == "diffusion_policy":
        eps, min_range = 0.0, max(eps, min_range)
    span = hi - lo
    still = span < min_range
    if convention in ("openpi", "octo"):
        span = span + eps
    elif convention == "lerobot":
        span = np.where(span == 0, eps, span)
    there = (lo, np.where(still, 1.0, 2 / span), np.where(still, 0.0, -1.0))
    back = (np.where(still, 0.0, -1.0), np.where(still, 1.0, span / 2), lo)
    if convention == "gr00t":
        one = np.isclose(hi, lo) & ~still
        there = (lo, np.where(one, 0.0, there[1]), np.where(one, 0.0, there[2]))
    return there, back, still | (hi == lo)


def compute_stats(x: HostArray, *, axis: int | tuple[int, ...] | None = None) -> dict[str, Any]:
    """The statistics of data, under the names of LeRobot's ``meta/stats.json``.

    Computed in float64 by NumPy on the host.

    Parameters
    ----------
    x : array [..., D]
        Floats, integers or bool, of any framework.
    axis : int or tuple of int, optional
        The axes to go over; all but the last by default. 0 gives the statistics [T, D] of each step
        of chunks [B, T, D].

    Returns
    -------
    dict
        ``mean``, ``std`` (of the population), ``min``, ``max``, ``q01``, ``q10``, ``q50``, ``q90``,
        ``q99`` (with linear interpolation): numpy.ndarray; ``count``: [1], how many numbers each
        is made of.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Examples
    --------
    >>> from robocache_cupy.normalize import compute_stats
    >>> stats = compute_stats([[0.0, 2.0], [4.0, 2.0]])
    >>> stats["mean"], stats["std"], stats["q90"]
    (array([2., 2.]), array([2., 0.]), array([3.6, 2. ]))
    """
    values = as_numpy("x", x).astype(np.float64)
    if axis is None:
        axis = tuple(range(values.ndim - 1))
    if values.ndim == 0 or values.size == 0:
        raise ValueError(f"x has shape {values.shape}, expected [..., D] and at least one row")
    stats = {name: getattr(values, name)(axis=axis) for name in ("mean", "std", "min", "max")}
    quantiles = np.quantile(values, [0.01, 0.1, 0.5, 0.9, 0.99], axis=axis)
    stats |= dict(zip(("q01", "q10", "q50", "q90", "q99"), quantiles, strict=True))
    return {**stats, "count": np.array([values.size // stats["mean"].size])}


# ----------------------------------------------------------------------------------------- the ops


def normalize(
    x: ArrayLike,
    stats: Mapping[str, Any] | Normalization,
    mode: str = "mean_std",
    *,
    convention: str = "lerobot",
    eps: float | None = None,
    clip: Any = None,
    mask: Any = None,
    min_range: float = 0.0,
    dtype: Any = None,
    out: ArrayLike | None = None,
    backend: str = "auto",
) -> Any:
    """Normalise the columns of an array.

    Parameters
    ----------
    x : array [..., D]
        float16, bfloat16, float32, float64, any integer, bool. Statistics [T, D] take [..., T, D],
        those of channels [C, 1, 1] take [..., C, H, W].
    stats : Normalization, or mapping
        What `normalization` gives, or what it takes: then the options up to `min_range` are its.
        Statistics that lie on a GPU are copied to the host at every call, so prepare those.
        Inside ``torch.compile`` pass a Normalization made outside: torch traces dicts of arrays.
    mode, convention, eps, clip, mask, min_range
        See `normalization`.
    dtype : optional
        dtype of the result, a float; by default that of `x`, if it is a float.
    out : array, optional
        Write the result here; may be `x` itself. Must be dense.
    backend : {"auto", "cuda", "numba"}
        auto runs where the arrays lie. Any other choice copies them there and the result back.

    Returns
    -------
    array
        Of the shape of `x`.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Notes
    -----
    ``clip((x - shift) * scale + offset, low, high)``, computed in float64 where float64 or integers
    of 32 or 64 bits are involved, else in float32, and rounded once. NaN stays NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from robocache_cupy.normalize import normalization, normalize
    >>> stats = {"mean": [0.5, 0.0], "std": [0.25, 1.0]}
    >>> normalize(np.array([[0.0, 3.0]], np.float32), stats, convention="gr00t")
    array([[-2.,  3.]], dtype=float32)

    Pixels to [-1, 1]:

    >>> image = np.array([[0, 255]], np.uint8)
    >>> normalize(image, normalization(scale=2 / 255, bias=-1), dtype=np.float32)
    array([[-1.,  1.]], dtype=float32)
    """
    made = _given(stats, mode, convention, eps, clip, mask, min_range)
    return _normalize(x, normalization=made, dtype=dtype, out=out, backend=backend)


def unnormalize(
    x: ArrayLike,
    stats: Mapping[str, Any] | Normalization,
    mode: str = "mean_std",
    *,
    convention: str = "lerobot",
    eps: float | None = None,
    clip: Any = None,
    mask: Any = None,
    min_range: float = 0.0,
    dtype: Any = None,
    out: ArrayLike | None = None,
    backend: str = "auto",
) -> Any:
    """The way back from `normalize`, with the same statistics and options.

    Parameters
    ----------
    x : array [..., D]
        Normalised values, such as a policy's actions.
    stats : Normalization, or mapping
        What the values were normalised with.
    mode, convention, eps, clip, mask, min_range
        See `normalization`. Given a `clip`, `x` is clipped before it goes back.
    dtype, out, backend
        See `normalize`.

    Returns
    -------
    array
        Of the shape of `x`.

    Raises
    ------
    ValueError, TypeError
        Naming the argument, what came and what was expected.

    Examples
    --------
    >>> import numpy as np
    >>> from robocache_cupy.normalize import unnormalize
    >>> unnormalize(np.array([-1.0, 0.0, 1.0]), {"min": [2.0], "max": [6.0]}, "min_max")
    array([2., 4., 6.])
    """
    made = _given(stats, mode, convention, eps, clip, mask, min_range).inverse()
    return _normalize(x, normalization=made, dtype=dtype, out=out, backend=backend)


def _given(stats: Any, mode: str, convention: str, eps: Any, clip: Any, mask: Any,
           min_range: float) -> Normalization:  # fmt: skip
    if not isinstance(stats, Normalization):
        return normalization(stats, mode, convention=convention, eps=eps, clip=clip, mask=mask,
                             min_range=min_range)  # fmt: skip
    if mask is not None or (mode, convention, eps, clip, min_range) != (
        "mean_std", "lerobot", None, None, 0.0
    ):  # fmt: skip
        raise ValueError(f"stats is {stats!r}, which has its options: pass them to normalization()")
    return stats


# Blocks that end after the few packs of each thread, and are small enough to be followed by another
# soon: 64 columns of float32 took 136 us by blocks that go on and 127 so, of bfloat16 75 and 72,
# images 81 and 76.
_THREADS = 128
_AT_ONCE = 4  # as in cuda_src/normalize.cu

_kernel = Kernel("normalize", "affine", [(x, y) for x in DATA for y in FLOATS])


@op(gradient=normalize_gradient, by="x")
def _normalize(
    x: Array,
    *,
    normalization: Normalization,
    dtype: Any,
    out: Array | None,
    backend: str,
) -> Any:
    dtype_of("x", x, DATA)
    implied = x.dtype if out is None else out.dtype
    wanted = implied if dtype is None else dtype_name(dtype)
    if wanted not in FLOATS:
        raise TypeError(f"dtype is {wanted}, expected one of {', '.join(FLOATS)}")
    if out is not None and out.dtype != wanted:
        raise TypeError(f"out has dtype {out.dtype}, expected {wanted}")
    if out is not None and out.shape != x.shape:
        raise ValueError(f"out has shape {out.shape}, expected that of x, {x.shape}")
    shape, over = normalization.shift.shape, normalization.over(x.shape)
    if over is None:
        free = len(shape) > 1
        expected = ", ".join("*" if n == 1 and free else str(n) for n in shape)
        raise ValueError(
            f"x has shape {x.shape}, expected [..., {expected}] for statistics of shape {shape}"
        )
    items = inner(x, 0)
    if out is not None:
        try:
            inner(out, 0)
        except NotDense:
            raise ValueError(f"out has strides {out.strides}, expected a dense array") from None
    y = Out(x.shape, wanted) if out is None else out
    while shape[0] == 1 and len(shape) > 1:  # the same for all that come before
        shape, over = shape[1:], over[1:]
    # Axes at the end that share their statistics: the pixels of a channel.
    alike = next((k for k, n in enumerate(reversed(shape)) if n > 1), len(shape))
    run = math.prod(over[len(over) - alike :])
    if run < _THREADS * _AT_ONCE:
        run, alike = 1, 0
    over = over[: len(over) - alike] + (1,) * alike
    columns = max(1, math.prod(over))

    vector = 2 if 8 in (SIZE[x.dtype], SIZE[wanted]) else 4  # as in cuda_src/normalize.cu
    aligned = (run == 1 or run % vector == 0) and all(
        array is None or array.misaligned % (vector * SIZE[array.dtype]) == 0 for array in (x, out)
    )
    vector = vector if aligned else 1
    packs = items // vector
    # 16 bytes three times suffice: 127 us for 131; images took 84 for 76.
    most = _AT_ONCE - (vector * SIZE[x.dtype] == 16)
    depth = min(most, max(1, packs // (_THREADS * PROCESSORS * 8)))  # all the device first
    if alike:
        line = run // vector
        across = -(-line // (_THREADS * depth))
        own = -(-line // (across * depth))
        tiles = items // run * across
    else:
        line = min(columns // math.gcd(columns, vector), max(1, packs))
        across = -(-line // _THREADS)
        own = -(-line // across)
        if across == 1:  # lines side by side
            line = own = _THREADS // line * line
        tiles = max(1, -(-packs // (line * depth)) * across)
    launch = Launch(
        _kernel,
        (x.dtype, wanted),
        (x, normalization.table(wide(x.dtype, wanted), over), y),
        (items, columns, run, int(aligned), tiles, own, across, line, depth),
        items=items,
        weight=1,
        blocks=tiles,
        threads=-(-own // 32) * 32,
    )
    return Plan({"values": y}, [launch])
