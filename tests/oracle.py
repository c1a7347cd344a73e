"""What the ops mean, from their specification alone: loops over Python numbers, one by one."""

import math
from fractions import Fraction
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}

ALIASES = {
    "zero": "previous",
    "zoh": "previous",
    "ffill": "previous",
    "pad": "previous",
    "backward": "previous",
    "latest": "previous",
    "bfill": "next",
    "forward": "next",
}


class Resampled(NamedTuple):
    values: np.ndarray
    valid: np.ndarray
    index: np.ndarray
    weight: np.ndarray
    times: np.ndarray


class Sample(NamedTuple):
    """The sample itself."""

    position: int


class Between(NamedTuple):
    """On the line through two samples, num / den of the way from one to the other."""

    first: int
    second: int
    num: Any
    den: Any


class Constant(NamedTuple):
    value: Any


class Clock(NamedTuple):
    dtype: np.dtype
    ticks: int  # per second

    @property
    def integer(self) -> bool:
        return self.dtype.kind != "f"

    def times(self, x):
        """Stamps as Python numbers, of which int is exact; None for NaN and NaT."""
        if x.dtype.kind in "mM":
            return [None if np.isnat(t) else int(t.astype(np.int64)) for t in x]
        return [None if t != t else t.item() for t in x]

    def duration(self, seconds):
        return round(seconds * self.ticks) if self.integer else float(seconds) * self.ticks

    def point(self, t):
        return (int if self.integer else float)(t)

    def grid(self, start, k, hz):
        if self.integer:
            return start + round(Fraction(k * self.ticks) / Fraction(hz))
        return float(self.dtype.type(start + k * self.ticks / hz))

    def array(self, times):
        nothing, wide = (-(2**63), "i8") if self.integer else (math.nan, "f8")
        stamps = np.array([nothing if t is None else t for t in times], wide)
        return stamps.astype(self.dtype)


def clock_of(src_times, tgt_times, time_unit):
    stamps = [x.dtype for x in (src_times, tgt_times) if x is not None]
    dtype = max(stamps, key=lambda dtype: dtype.itemsize) if stamps else np.dtype("f8")
    if dtype.kind in "mM":
        return Clock(dtype, UNITS[np.datetime_data(dtype)[0]])
    return Clock(dtype, UNITS[time_unit or ("s" if dtype.kind == "f" else "ns")])


def resample(
    data, src_times=None, tgt_times=None, *, method="linear", extrapolate="hold", tolerance=None,
    max_gap=None, fill_value=None, latency=0.0, lengths=None, tgt_lengths=None, src_hz=None,
    src_start=0, hz=None, t_start=None, num=None, time_unit=None, dtype=None, assume_sorted=True,
):  # fmt: skip
    """resample_trajectories for data [B, S, *F], with clocks [B, S] and [B, T]."""
    B, S, *F = data.shape
    method = ALIASES.get(method, method)
    dtype = data.dtype if dtype is None else np.dtype(dtype)
    clock = clock_of(src_times, tgt_times, time_unit)
    edges = extrapolate if isinstance(extrapolate, tuple) else (extrapolate, extrapolate)
    samples = rows_of(clock, B, S, src_times, latency, lengths, src_hz, src_start, assume_sorted)
    targets = targets_of(clock, samples, tgt_times, hz, t_start, num)
    T = (len(targets[0]) if B else num or 0) if hz is not None else tgt_times.shape[1]

    compute = computed(data.dtype, dtype)
    values = np.zeros((B, T, *F), dtype)
    valid = np.zeros((B, T), bool)
    index = np.full((B, T), -1, np.int32)
    weight = np.zeros((B, T), compute)
    times = np.empty((B, T), clock.dtype if hz is not None else tgt_times.dtype)
    limits = [math.inf if x is None else clock.duration(x) for x in (tolerance, max_gap)]
    outside = 0 if tolerance is None else limits[0]
    for b, row in enumerate(samples):
        stamps, positions = [t for t, _ in row], [k for _, k in row]
        times[b] = clock.array(targets[b])
        for i, t in enumerate(targets[b]):
            if tgt_lengths is not None and i >= tgt_lengths[b]:
                found, ok = Constant(0), False
            else:
                found, ok = locate(stamps, t, method, edges, outside, *limits)
            valid[b, i] = ok
            if not ok and fill_value is not None:
                found = Constant(fill_value)
            if isinstance(found, Between):
                found, w = weighed(found, compute)
                weight[b, i] = w
            if isinstance(found, Constant):
                values[b, i] = constant(found.value, dtype)
            elif isinstance(found, Sample):
                index[b, i] = positions[found.position]
                values[b, i] = converted(data[b, positions[found.position]], compute, dtype)
            else:
                index[b, i] = positions[found.first]
                values[b, i] = blended(
                    data[b, positions[found.first]], data[b, positions[found.second]], w, dtype
                )
    return Resampled(values, valid, index, weight, times)


def rows_of(clock, B, S, src_times, latency, lengths, src_hz, src_start, assume_sorted):
    """Of each row: the effective stamps in order, and where their samples are."""
    latency = np.broadcast_to(latency, B)
    rows = []
    for b in range(B):
        if src_times is None:
            stamps = [clock.grid(clock.point(src_start), k, src_hz) for k in range(S)]
        else:
            stamps = clock.times(src_times[b])
        stamps = stamps if lengths is None else stamps[: lengths[b]]
        late = clock.duration(latency[b].item())
        row = [(t - late, k) for k, t in enumerate(stamps) if t is not None]
        rows.append(row if assume_sorted else sorted(row))
    return rows


def targets_of(clock, rows, tgt_times, hz, t_start, num):
    """The targets of each row."""
    if hz is None:
        return [clock.times(row) for row in tgt_times]
    starts = [row[0][0] if row else None for row in rows]
    if t_start is not None:
        starts = [clock.point(t_start)] * len(rows)
    if num is None:
        spans = [row[-1][0] - t for row, t in zip(rows, starts, strict=True) if row]
        num = max((math.floor(x * hz / clock.ticks + 1e-6) + 1 for x in spans), default=0)
        num = max(num, 0)
    return [[None if t is None else clock.grid(t, k, hz) for k in range(num)] for t in starts]


def locate(stamps, t, method, edges, outside, tolerance, max_gap):
    """What a target is made of, and whether that is valid."""
    if not stamps:
        return Constant(0), False
    if t is None:
        return Constant(math.nan), False
    count = len(stamps)
    if t in stamps:
        hits = [k for k in range(count) if stamps[k] == t]
        return Sample(hits[0] if method == "next" else hits[-1]), True
    before = max((k for k in range(count) if stamps[k] < t), default=None)
    after = min((k for k in range(count) if stamps[k] > t), default=None)

    if before is not None and after is not None:
        since, until, gap = t - stamps[before], stamps[after] - t, stamps[after] - stamps[before]
        bridged = gap <= max_gap
        if method == "linear":
            return Between(before, after, since, gap), bridged
        early = method == "previous" or (method == "nearest" and since <= until)
        chosen, distance = (before, since) if early else (after, until)
        return Sample(chosen), bridged and distance <= tolerance

    right = after is None
    end = before if right else after
    distance = abs(t - stamps[end])
    if method == ("previous" if right else "next"):
        return Sample(end), distance <= tolerance and distance <= max_gap
    ok, policy = distance <= outside, edges[right]
    if policy == "extrapolate" and method == "linear" and count > 1:
        first = count - 2 if right else 0
        if stamps[first] != stamps[first + 1]:
            den = stamps[first + 1] - stamps[first]
            return Between(first, first + 1, t - stamps[first], den), ok
    elif not ok and policy not in ("hold", "extrapolate"):
        return Constant(math.nan if policy == "nan" else policy), ok
    return Sample(end), ok


def weighed(found, compute):
    """The weight, and the sample itself where the weight rounds to that sample."""
    num, den = found.num, found.den
    if isinstance(num, int):
        sign, num, den = (-1 if num < 0 else 1), np.uint64(abs(num)), np.uint64(den)
        w = sign * (num.astype(compute) / den.astype(compute))
    else:
        w = compute.type(num) / compute.type(den)
    if w == 0:
        return Sample(found.first), compute.type(0)
    if w == 1:
        return Sample(found.second), compute.type(0)
    return found, w


def computed(*dtypes):
    """The dtype that is computed with: float64 for what float32 cannot hold."""
    double = {"float64", "int32", "int64", "uint32", "uint64"}
    wide = not double.isdisjoint(dtype.name for dtype in dtypes)
    return np.dtype(np.float64 if wide else np.float32)


@np.errstate(all="ignore")
def blended(a, b, w, dtype):
    a, b = a.astype(w.dtype), b.astype(w.dtype)
    return rounded(np.asarray(a + w * (b - a)), dtype)


def converted(x, compute, dtype):
    return x if x.dtype == dtype else rounded(np.asarray(x).astype(compute), dtype)


def constant(value, dtype):
    if dtype.kind in "iub":
        return 0 if value != value else value
    return rounded(np.array(float(value)), dtype)


@np.errstate(all="ignore")
def rounded(x, dtype):
    """Rounded once to nearest even; integers saturate."""
    if dtype.kind in "iu":
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
        whole = [min(max(round(v), low), high) for v in x.ravel().tolist()]
        return np.array(whole, dtype).reshape(x.shape)
    if dtype == ml_dtypes.bfloat16:  # whose own cast from float64 goes by way of float32
        x = x.astype(np.float64)
        exponent = np.maximum(np.frexp(x)[1], -125)
        return np.ldexp(np.rint(np.ldexp(x, 8 - exponent)), exponent - 8).astype("f4").astype(dtype)
    return x.astype(dtype)


# ------------------------------------------------------------------------- curves and reductions


class Made(NamedTuple):
    """What a curve or a reduction gives; on a curve, between samples, but for rounding."""

    values: np.ndarray
    exact: np.ndarray  # [B, T]
    curve: np.ndarray  # float64, where the values are not exact
    valid: np.ndarray
    index: np.ndarray
    weight: np.ndarray


def make(
    data, src_times=None, tgt_times=None, *, method, extrapolate="hold", tolerance=None,
    max_gap=None, fill_value=None, latency=0.0, lengths=None, tgt_lengths=None, src_hz=None,
    src_start=0, hz=None, t_start=None, num=None, time_unit=None, dtype=None, assume_sorted=True,
):  # fmt: skip
    """resample_trajectories by a curve or a reduction, for data [B, S, *F] and clocks [B, *]."""
    B, S, *F = data.shape
    dtype = data.dtype if dtype is None else np.dtype(dtype)
    clock = clock_of(src_times, tgt_times, time_unit)
    edges = extrapolate if isinstance(extrapolate, tuple) else (extrapolate, extrapolate)
    rows = rows_of(clock, B, S, src_times, latency, lengths, src_hz, src_start, assume_sorted)
    targets = targets_of(clock, rows, tgt_times, hz, t_start, num)
    T = len(targets[0])

    compute = computed(data.dtype, dtype)
    made = Made(
        np.zeros((B, T, *F), dtype), np.ones((B, T), bool), np.zeros((B, T, *F)),
        np.zeros((B, T), bool), np.full((B, T), -1, np.int32), np.zeros((B, T), compute),
    )  # fmt: skip
    limits = [math.inf if x is None else clock.duration(x) for x in (tolerance, max_gap)]
    outside = 0 if tolerance is None else limits[0]
    for b, row in enumerate(rows):
        stamps, y = [t for t, _ in row], data[b, [k for _, k in row]]
        count = T if tgt_lengths is None else int(tgt_lengths[b])
        for i, t in enumerate(targets[b]):
            if i >= count:
                found, ok = Constant(0), False
            elif method in CURVES:
                found, ok = locate(stamps, t, "linear", edges, outside, *limits)
            elif t is None:
                found, ok = locate(stamps, t, "nearest", edges, 0, math.inf, math.inf)
            else:
                if hz is None:
                    before = targets[b][i - 1] if i > 0 else None
                    after = targets[b][i + 1] if i + 1 < count else None
                    before = 2 * t - after if before is None else before
                    after = 2 * t - before if after is None else after
                else:
                    start = targets[b][0]
                    before, after = clock.grid(start, i - 1, hz), clock.grid(start, i + 1, hz)
                share = [k for k, s in enumerate(stamps) if is_of(s, before, t, after)]
                found, ok = share, bool(share)
                if not share and method in ("sum", "any"):
                    found = Constant(0)
                elif not share:
                    found, _ = locate(stamps, t, "nearest", edges, 0, math.inf, math.inf)
            made.valid[b, i] = ok
            if not ok and fill_value is not None:
                found = Constant(fill_value)
            if isinstance(found, Between):
                found, made.weight[b, i] = weighed(found, compute)
            if isinstance(found, list):
                made.values[b, i] = reduced(y[found], method, compute, dtype)
            elif isinstance(found, Constant):
                made.values[b, i] = constant(found.value, dtype)
            elif isinstance(found, Sample):
                made.index[b, i] = row[found.position][1]
                made.values[b, i] = converted(y[found.position], compute, dtype)
            else:
                made.index[b, i] = row[found.first][1]
                made.exact[b, i] = False
                made.curve[b, i] = on_curve(stamps, y.astype(np.float64), found, method)
    return made


def is_of(s, before, t, after):
    """Whether a sample is nearer to t than to its neighbours; one midway is the earlier's."""
    return s - before > t - s and s - t <= after - s


def reduced(y, method, compute, dtype):
    """Samples [K, *F] as one, added in their order."""
    if method == "any":
        return constant(0, dtype) + (y != 0).any(axis=0).astype(dtype)
    if method in ("max", "min"):
        as_compared = y if y.dtype.kind in "iub" else y.astype(compute)
        best = getattr(as_compared, method)(axis=0)
        return converted(np.asarray(best).astype(y.dtype), compute, dtype)
    total = np.zeros(y.shape[1:], compute)
    for x in y.astype(compute):
        total = total + x
    return rounded(np.asarray(total / compute.type(len(y)) if method == "mean" else total), dtype)


CURVES = ("catmull_rom", "pchip", "akima", "makima")


def on_curve(stamps, y, at, method):
    """The curve through the samples around, as far as they have stamps of their own."""
    first, last = at.first, at.second
    while first > 0 and stamps[first - 1] < stamps[first]:
        first -= 1
    while last + 1 < len(stamps) and stamps[last] < stamps[last + 1]:
        last += 1
    t = np.array([float(s - stamps[at.first]) for s in stamps[first : last + 1]])
    y = y[first : last + 1]
    return hermite(t, y, slopes(t, y, method), at.first - first, float(at.num) / float(at.den))


def hermite(t, y, d, k, w):
    """At w of the way from sample k to the next, with slopes d."""
    h = t[k + 1] - t[k]
    return (
        (1 + 2 * w) * (1 - w) ** 2 * y[k] + w * (1 - w) ** 2 * h * d[k]
        + w * w * (3 - 2 * w) * y[k + 1] + w * w * (w - 1) * h * d[k + 1]
    )  # fmt: skip


def slopes(t, y, method):
    """The slope at each of the samples [S, *F], with stamps that ascend."""
    axes = (slice(None),) + (None,) * (y.ndim - 1)
    h = np.diff(t)[axes]
    m = np.diff(y, axis=0) / h
    if len(t) == 2:
        return np.stack([m[0], m[0]])
    if method == "catmull_rom":
        inside = (y[2:] - y[:-2]) / (t[2:] - t[:-2])[axes]
        return np.concatenate([m[:1], inside, m[-1:]])
    if method == "pchip":
        w1, w2 = 2 * h[1:] + h[:-1], h[1:] + 2 * h[:-1]
        with np.errstate(divide="ignore", invalid="ignore"):
            harmonic = (w1 + w2) / (w1 / m[:-1] + w2 / m[1:])
        inside = np.where(m[:-1] * m[1:] > 0, harmonic, 0.0)
        ends = [_pchip_end(*x) for x in ((h[0], h[1], m[0], m[1]), (h[-1], h[-2], m[-1], m[-2]))]
        return np.concatenate([ends[0][None], inside, ends[1][None]])
    left, right = 2 * m[0] - m[1], 2 * m[-1] - m[-2]
    m = np.stack([2 * left - m[0], left, *m, right, 2 * right - m[-1]])
    m1, m2, m3, m4 = m[:-3], m[1:-2], m[2:-1], m[3:]
    a, b = abs(m4 - m3), abs(m2 - m1)
    if method == "makima":
        a, b = a + abs(m4 + m3) / 2, b + abs(m2 + m1) / 2
    # Of equal slopes SciPy says the same beside the largest of the whole series.
    equal = a + b <= 1e-9 * abs(np.stack([m1, m2, m3, m4])).max(axis=0)
    at_equal = (m1 + m4) / 2 if method == "akima" else 0.0
    return np.where(equal, at_equal, (a * m2 + b * m3) / np.where(equal, 1, a + b))


def _pchip_end(h0, h1, m0, m1):
    slope = ((2 * h0 + h1) * m0 - h0 * m1) / (h0 + h1)
    slope = np.where(np.sign(slope) != np.sign(m0), 0.0, slope)
    steep = (np.sign(m0) != np.sign(m1)) & (abs(slope) > 3 * abs(m0))
    return np.where(steep, 3 * m0, slope)
