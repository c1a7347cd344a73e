"""How late one sensor is against another, found from what both have recorded."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ._core.array import HostArray, as_numpy
from ._core.check import one_of
from ._core.time import Clock, clock_of, duration
from .timing import missing, stamps_of

__all__ = ["estimate_latency", "random_latency"]

Floats: TypeAlias = NDArray[np.float64]

_UNIT = 1e-3  # how far the norms of unit quaternions may be off
_GAP = 4.0  # median steps without a sample that are a gap
_STILL = 1e-5  # rad/s: slower is no motion
_ROUNDING = 1e-12  # of the largest value: what changes less does not change
_SAMPLES = 16  # steps of the slower sensor that must overlap at the least
_BLOCK = 1 << 16  # points of the coarse grid that are correlated at a time
_PHASES = 4  # points for each step of the faster sensor
_SMOOTH = 64  # points for each window, within which a speed hardly changes
_POINTS = 1 << 17  # that the lag is refined with, at most
_AGREE = 0.8  # directions that correlate less than this share of the speeds do are not comparable
_GOLDEN = (math.sqrt(5) - 1) / 2


BODY, REFERENCE = 1.0, -1.0  # frames of an angular velocity


class _Motion(NamedTuple):
    """A recording in order, without what is missing."""

    name: str
    times: Floats  # seconds, strictly ascending
    values: Floats  # [S, D]; of quaternions neighbours are in one hemisphere
    angles: Floats | None  # between neighbouring quaternions, as vectors of four
    step: float  # the median one
    window: float  # over which speeds are taken; 0 compares the values themselves
    floor: float  # deviations of the scalar below this are no motion


def estimate_latency(
    x: HostArray,
    tx: HostArray,
    y: HostArray,
    ty: HostArray,
    max_lag: float,
    *,
    window: float = 0.1,
    time_unit: str | None = None,
    kind: str | None = None,
    return_score: bool = False,
) -> Any:
    """Estimate how late the stamps of `y` are against those of `x`.

    Both are recordings of one motion by two sensors, each with its own rate, jitter, gaps and
    lost samples. The latency is the lag at which they correlate best, between the samples too.
    Runs on the host; arrays that lie on a GPU are copied.

    Parameters
    ----------
    x, y : arrays
        Samples ``[S]`` or ``[S, D]``; their S and D may differ. Samples with NaN count as lost.
    tx, ty : arrays [S]
        Stamps of the samples, of the same kind of clock: float32, float64, int32, int64 or
        datetime64. They may repeat or run backward.
    max_lag : seconds
        The latency is sought in [-max_lag, max_lag].
    window : seconds
        Speeds are taken over this span around each instant. Longer ones quiet noise, shorter
        ones keep quick motions apart.
    time_unit : {"ns", "us", "ms", "s"}, optional
        The unit of the stamps. Float clocks are seconds and integer clocks ns by default;
        datetime64 brings its own.
    kind : {"signal", "pose"}, optional
        What is compared. ``pose``: the angular speed, which does not depend on how the sensors
        are mounted or in which frames they report. Samples of 7 numbers are position and
        quaternion (x, y, z, w), of 4 a quaternion. ``signal``: the values themselves of signals of
        one number, of others the speed ``|v(t + window/2) - v(t - window/2)| / window``. The
        correlation is indifferent to offset and positive scale of either. By default ``pose``
        where both have 4 or 7 columns, of which the last four have norm 1 within 1e-3 throughout.
    return_score : bool
        Also return the correlation at the lag found: near 1 where the latency can be trusted.

    Returns
    -------
    float, or (float, float)
        The latency L in seconds: ``y(t + L)`` is like ``x(t)``. It is positive where `y` is the
        later one. With ``latency=L`` for `y` both are aligned: its samples count at ``ty - L``.

    Raises
    ------
    ValueError
        If the recordings overlap too little, one of them does not move, or the correlation is
        highest at the end of the lags: then the latency is likely beyond `max_lag`. Otherwise
        naming the argument, what came and what was expected.
    TypeError
        Naming the argument, what came and what was expected.

    Notes
    -----
    The angular speed at t is that of the rotation between the orientations at ``t - window/2`` and
    ``t + window/2``, each by slerp between its neighbours. Instants in a gap (four median steps
    without a sample) are left out. The normalised correlation is searched on a grid of half the
    shorter median step, over the lags that keep at least half of the longest overlap, and its
    peak refined on the interpolated signals at instants of all phases, so that the sampling does
    not draw it to itself. Poses are refined with the angular velocities, under the rotation
    between the sensors that fits best (Kabsch), because noise blurs their lengths more than it
    blurs them; the score is that of these. Speeds alone are used where the directions do not
    agree, as with quaternions of another order.

    Examples
    --------
    A camera at 30 Hz that sees the position of a joint, with stamps 42 ms late:

    >>> import numpy as np
    >>> def motion(t):
    ...     return np.sin(t) + 0.3 * np.sin(4 * t)
    >>> joint, seen = np.arange(0, 20, 0.002), np.arange(0, 20, 1 / 30)
    >>> latency = estimate_latency(motion(joint), joint, motion(seen), seen + 0.042, max_lag=0.5)
    >>> round(latency, 4)
    0.042
    """
    limit, window = _seconds("max_lag", max_lag), _seconds("window", window)
    if kind is not None:
        one_of("kind", kind, ("signal", "pose"))
    (stamps_x, stamps_y), clock = stamps_of(time_unit, tx=tx, ty=ty)
    given = {"x": (_rows("x", x), stamps_x), "y": (_rows("y", y), stamps_y)}
    whole = {name: _whole(name, *pair, clock) for name, pair in given.items()}
    if kind is None:
        kind = "pose" if all(_is_pose(values) for values, _ in whole.values()) else "signal"
    origin = min(times[0] for _, times in whole.values())
    a, b = (
        _motion(name, values, _since(times, origin, clock), kind, window)
        for name, (values, times) in whole.items()
    )
    lag, score = _refine(a, b, _search(a, b, limit), limit)
    return (lag, score) if return_score else lag


def random_latency(rng: int | np.random.Generator, mean: float, jitter: float, size: int) -> Floats:
    """Draw latencies, so that a policy learns to live with sensors that are not always on time.

    Parameters
    ----------
    rng : int or numpy.random.Generator
        The seed: the same one gives the same latencies. A generator goes on from where it is.
    mean, jitter : seconds
        The latencies are uniform in ``[mean - jitter, mean + jitter]``. Negative ones, of stamps
        that are early, are not cut off: keep `jitter` within `mean` to have none.
    size : int
        How many: one for each row of a batch.

    Returns
    -------
    float64 array [size]
        Seconds, to hand over as ``latency=`` of `resample_trajectories`.

    Raises
    ------
    ValueError, TypeError
        If `mean` is no finite number, or `jitter` none of 0 or more.

    Examples
    --------
    >>> random_latency(0, mean=0.05, jitter=0.01, size=3).round(4)
    array([0.0527, 0.0454, 0.0408])
    """
    for name, x in (("mean", mean), ("jitter", jitter)):
        if not isinstance(x, (int, float, np.number)):
            raise TypeError(f"{name} is {x!r}, expected a number of seconds")
    if not math.isfinite(mean):
        raise ValueError(f"mean is {mean}, expected a finite number of seconds")
    if not 0 <= jitter < math.inf:
        raise ValueError(f"jitter is {jitter}, expected a finite number of seconds, 0 or more")
    return np.random.default_rng(rng).uniform(mean - jitter, mean + jitter, size)


def _seconds(name: str, value: Any) -> float:
    seconds = duration(name, value, clock_of(None))
    if not seconds > 0:
        raise ValueError(f"{name} is {value}, expected a finite number of seconds above 0")
    return float(seconds)


def _rows(name: str, x: Any) -> Floats:
    values = as_numpy(name, x)
    if values.ndim not in (1, 2) or (values.ndim == 2 and values.shape[1] == 0):
        raise ValueError(f"{name} has shape {values.shape}, expected [S] or [S, D]")
    if values.dtype.kind in "cmM":
        raise TypeError(f"{name} has dtype {values.dtype}, expected real numbers")
    return values.reshape(len(values), -1).astype(np.float64)


def _whole(
    name: str, values: Floats, stamps: NDArray[Any], clock: Clock
) -> tuple[Floats, NDArray[Any]]:
    """The samples in order; what is NaN is left out, and of repeated stamps the last stays."""
    if stamps.shape != (len(values),):
        raise ValueError(
            f"t{name} has shape {stamps.shape}, expected ({len(values)},), a stamp for each "
            f"sample of {name}"
        )
    kept = np.flatnonzero(np.isfinite(values).all(axis=1) & ~missing(stamps, clock))
    order = kept[np.argsort(stamps[kept], kind="stable")]
    ascending = stamps[order]
    order = order[np.append(ascending[1:] != ascending[:-1], True)] if order.size else order
    if order.size < 3:
        raise ValueError(
            f"{name} has {order.size} samples with stamps of their own, expected 3 or more"
        )
    return values[order], stamps[order]


def _is_pose(values: Floats) -> bool:
    norms = np.linalg.norm(values[:, -4:], axis=1)
    return values.shape[1] in (4, 7) and bool(np.all(np.abs(norms - 1) <= _UNIT))


def _since(times: NDArray[Any], origin: Any, clock: Clock) -> Floats:
    """Seconds since an origin that is not later. int64 stamps may lie 2^64 - 1 ticks apart."""
    ticks = times - np.array([origin])
    return (ticks.view(np.uint64) if clock.integer else ticks).astype(np.float64) / clock.ticks


def _motion(name: str, values: Floats, times: Floats, kind: str, window: float) -> _Motion:
    step = float(np.median(np.diff(times)))
    if kind == "signal":
        if values.shape[1] == 1:
            values, window = values - values.mean(), 0.0
        floor = _ROUNDING * float(np.abs(values).max()) / (window or 1.0)
        return _Motion(name, times, values, None, step, window, floor)
    if values.shape[1] not in (4, 7):
        raise ValueError(
            f"{name} has {values.shape[1]} columns, expected poses of 7 (position and quaternion) "
            "or 4 (quaternion)"
        )
    quats = values[:, -4:]
    norms = np.linalg.norm(quats, axis=1, keepdims=True)
    if not norms.all():
        raise ValueError(f"{name} holds a quaternion of zeros, expected rotations")
    quats = quats / norms
    flips = np.sum(quats[1:] * quats[:-1], axis=1) < 0
    quats[1:] *= np.where(np.cumsum(flips) % 2, -1.0, 1.0)[:, None]
    return _Motion(name, times, quats, _angle(quats[:-1], quats[1:]), step, window, _STILL)


def _angle(p: Floats, q: Floats) -> Floats:
    """Between unit vectors, exact for small angles too."""
    return 2 * np.arctan2(np.linalg.norm(p - q, axis=1), np.linalg.norm(p + q, axis=1))


def _at(m: _Motion, t: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """The values at times t, and where these are within the recording and not in a gap."""
    right = np.clip(np.searchsorted(m.times, t, side="right"), 1, len(m.times) - 1)
    left = right - 1
    start = m.times[left]
    step = m.times[right] - start
    valid = (t >= start) & (t <= m.times[right]) & (step <= _GAP * m.step)
    w = np.clip((t - start) / step, 0.0, 1.0)
    from_left, from_right = 1 - w, w
    if m.angles is not None:
        angle = m.angles[left]
        curved = angle > 1e-6  # below, the chord is as good as the arc
        sine = np.where(curved, np.sin(angle), 1.0)
        from_left = np.where(curved, np.sin(from_left * angle) / sine, from_left)
        from_right = np.where(curved, np.sin(w * angle) / sine, w)
    values = from_left[:, None] * m.values[left] + from_right[:, None] * m.values[right]
    return values, valid


def _scalar(m: _Motion, t: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """What is searched with, at times t: the value, speed or angular speed."""
    if not m.window:
        values, valid = _at(m, t)
        return values[:, 0], valid
    velocity, valid = _velocity(m, t)
    return np.linalg.norm(velocity, axis=1), valid


def _velocity(m: _Motion, t: Floats, frame: float = BODY) -> tuple[Floats, NDArray[np.bool_]]:
    """The velocity or angular velocity over the window around times t."""
    before, ok_before = _at(m, t - m.window / 2)
    after, ok_after = _at(m, t + m.window / 2)
    valid = ok_before & ok_after
    if m.angles is None:
        return (after - before) / m.window, valid
    # The logarithm of conj(before) * after, or in the frame of reference after * conj(before).
    v, w = before[:, :3], before[:, 3:]
    axis = w * after[:, :3] - after[:, 3:] * v - frame * np.cross(v, after[:, :3])
    cosine = np.sum(before * after, axis=1, keepdims=True)
    axis *= np.where(cosine < 0, -1.0, 1.0)  # q and -q are one rotation
    sine = np.linalg.norm(axis, axis=1, keepdims=True)
    angle = 2 * np.arctan2(sine, np.abs(cosine))
    return axis * (angle / np.where(sine > 0, sine, 1.0) / m.window), valid


def _search(x: _Motion, y: _Motion, limit: float) -> float:
    """The lag of a grid with the highest correlation."""
    h = min(x.step / 2, y.step / 2, limit / 4)
    reach = math.ceil(limit / h)
    start = max(x.times[0], y.times[0] - limit)
    points = math.floor((min(x.times[-1], y.times[-1] + limit) - start) / h) + 1
    need = _SAMPLES * max(x.step, y.step)
    if points * h < need:
        raise ValueError(_too_short(max(points * h, 0.0), need))
    centre = [_level(m, start, points * h) for m in (x, y)]

    sums = np.zeros((6, 2 * reach + 1))
    block = min(max(_BLOCK, 4 * reach), points)
    for begin in range(0, points, block):
        n = min(block, points - begin)
        size = 1 << (n + 2 * reach - 1).bit_length()
        seen = []
        for m, (middle, spread), i in (
            (x, centre[0], np.arange(begin, begin + n)),
            (y, centre[1], np.arange(begin - reach, begin + n + reach)),
        ):
            values, valid = _scalar(m, start + i * h)
            values = np.where(valid, (values - middle) / spread, 0.0)
            seen.append([np.fft.rfft(v, size) for v in (valid, values, values * values)])
        (mx, vx, sx), (my, vy, sy) = seen
        pairs = ((mx, my), (vx, my), (mx, vy), (sx, my), (mx, sy), (vx, vy))
        for total, (p, q) in zip(sums, pairs, strict=True):
            total += np.fft.irfft(p.conj() * q, size)[: 2 * reach + 1]

    common = np.rint(sums[0])
    enough = (common * h >= need) & (2 * common >= common.max())
    if not enough.any():
        raise ValueError(_too_short(common.max() * h, need))
    n, total_x, total_y, square_x, square_y, product = np.where(enough, sums, 1.0)
    left = square_x / n - (total_x / n) ** 2
    right = square_y / n - (total_y / n) ** 2
    moving = enough & (left > 1e-9) & (right > 1e-9)  # of the variance of the whole, which is 1
    if not moving.any():
        raise ValueError("x and y do not move at the same time, as far as max_lag goes")
    covariance = product / n - total_x * total_y / n**2
    r = np.where(moving, covariance / np.sqrt(np.where(moving, left * right, 1.0)), -np.inf)
    best = int(r.argmax())
    ends = np.flatnonzero(moving)[[0, -1]]
    if best in ends:
        raise ValueError(
            f"the correlation of x and y is highest at a lag of {(best - reach) * h:+.3f} s, the "
            "end of what was searched: give a larger max_lag, or longer recordings"
        )
    return (best - reach) * h


def _too_short(overlap: float, need: float) -> str:
    return (
        f"x and y overlap for {overlap:.3g} s without gaps, expected at least {need:.3g} s: are "
        "both on the same clock?"
    )


def _level(m: _Motion, start: float, span: float) -> tuple[float, float]:
    """Mean and standard deviation of what is compared, which must not be still."""
    values, valid = _scalar(m, _instants(start, span, m.step))
    if not valid.any():
        raise ValueError(
            f"{m.name} has no {m.window:g} s without a gap where x and y overlap: its median step "
            f"is {m.step:.3g} s"
        )
    known = values[valid]
    spread = float(known.std())
    if not spread > m.floor:
        steady = "" if m.angles is None and not m.window else ", or always at the same speed"
        raise ValueError(f"{m.name} does not move where x and y overlap{steady}")
    return float(known.mean()), spread


def _instants(start: float, span: float, step: float) -> Floats:
    """Instants a step apart on average, in all phases of any sampling."""
    n = max(1, min(math.ceil(span / step), _POINTS))
    i = np.arange(n)
    return start + (i + (i * _GOLDEN) % 1.0) * (span / n)


def _refine(x: _Motion, y: _Motion, lag: float, limit: float) -> tuple[float, float]:
    """The highest correlation near a lag, at the same instants for all lags."""
    start = max(x.times[0], y.times[0] - lag)
    span = min(x.times[-1], y.times[-1] - lag) - start
    t = _instants(start, span, max(min(x.step, y.step) / _PHASES, x.window / _SMOOTH))

    def speed(m: _Motion, t: Floats) -> tuple[Floats, NDArray[np.bool_]]:
        values, valid = _scalar(m, t)
        return values[:, None], valid

    ways = [(speed, speed)]
    if x.angles is not None:
        # The directions tell more than the speeds. Where y reports the inverse of its pose, its
        # frame of reference is what moves along with x.
        ways += [
            (_velocity, functools.partial(_velocity, frame=frame)) for frame in (BODY, REFERENCE)
        ]
    scores = [_correlation(*of_x(x, t), *of_y(y, t + lag)) for of_x, of_y in ways]
    way = int(np.argmax(scores[1:])) + 1 if len(ways) > 1 else 0
    if scores[way] < _AGREE * scores[0]:
        way = 0
    of_x, of_y = ways[way]
    seen, valid = of_x(x, t)
    if way:
        # Noise may have drawn the speeds aside, but hardly by more than they are smoothed over.
        near = np.clip(lag + np.linspace(-0.5, 0.5, 21) * x.window, -limit, limit)
        lag = float(near[np.argmax([_correlation(seen, valid, *of_y(y, t + at)) for at in near])])
    width = max(x.step / 2, y.step / 2, x.window / 4, y.window / 4)
    valid &= of_y(y, t + lag)[1]
    stays = valid & of_y(y, t + lag - width)[1] & of_y(y, t + lag + width)[1]
    if 2 * np.count_nonzero(stays) > np.count_nonzero(valid):
        valid = stays  # or the recordings are in such pieces that their gaps must be bridged
    t, seen = t[valid], seen[valid]

    def at(lag: float) -> float:
        return _correlation(seen, True, of_y(y, t + lag)[0], True)

    lag = float(min(max(_peak(at, lag, width), -limit), limit))
    return lag, at(lag)


def _correlation(p: Floats, p_valid: Any, q: Floats, q_valid: Any) -> float:
    """Of vectors without their means, under the rotation that makes it highest (Kabsch)."""
    both = p_valid & q_valid
    if both is not True:
        p, q = p[both], q[both]
    if len(p) == 0:
        return -1.0
    p, q = p - p.mean(axis=0), q - q.mean(axis=0)
    norm = math.sqrt(float(np.sum(p * p)) * float(np.sum(q * q)))
    if norm == 0:
        return -1.0
    product = p.T @ q
    if product.size == 1:
        return float(product[0, 0]) / norm
    stretch = np.linalg.svd(product, compute_uv=False)
    return float(stretch[0] + stretch[1] + stretch[2] * np.sign(np.linalg.det(product))) / norm


def _peak(f: Callable[[float], float], lag: float, width: float) -> float:
    """Where f peaks near a lag: the vertex of the parabola fitted to it around there.

    A correlation falls off alike on both sides of its peak, so the width does no harm, and what
    noise ripples on it cancels better than at the highest point.
    """
    for _ in range(16):
        around = np.linspace(-1, 1, 9)
        curve, slope, _ = np.polyfit(around, [f(lag + width * u) for u in around], 2)
        move = min(max(-slope / (2 * curve), -1.0), 1.0) if curve < 0 else math.copysign(1, slope)
        lag += width * move
        if abs(width * move) < 1e-7:
            break
    return lag
