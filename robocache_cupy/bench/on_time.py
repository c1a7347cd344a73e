"""The ops on time: arguments, calls, bytes that must move, and oracles."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import (
    asof_index,
    fuse_multimodal,
    interp,
    interpolate_poses,
    interpolate_quaternions,
    normalization,
    normalize,
    resample_trajectories,
    sample_windows,
    slerp,
)
from .case import Arguments, Call, Case, Kind, Wrong
from .draw import Draw
from .judge import close, equal, finite, interpolated, numpy, shaped, some, tolerance

FLOATS = ("float32", "bfloat16", "float16", "float64")
STREAMS = ((30, 512), (100, 32), (50, 16))  # samples and features: vision, proprioception, force
KEYS = (14, 7, 32)  # features of the keys of windows
EPISODE = 1000  # samples
REDUCTIONS = ("mean", "max")  # among the methods that are timed
STEP = 0.0331  # seconds between the steps of a window


def touched(src: Any, tgt: Any, reach: int = 0) -> int:
    """How many of the samples the targets need: one for a target on a sample or beyond the ends,
    else two, and with a reach so many more on either side."""
    import torch

    B, S = src.shape
    last = torch.searchsorted(src, tgt, right=True) - 1  # the last sample not after the target
    lower = last.clamp(0, S - 1)
    between = (last >= 0) & (last < S - 1) & (src.gather(1, lower) != tgt)
    upper = torch.where(between, lower + 1, lower)
    rows = torch.zeros((B, S), dtype=torch.bool, device=src.device)
    rows.scatter_(1, lower, True)
    rows.scatter_(1, upper, True)
    for _ in range(reach):
        wider = rows.clone()
        wider[:, 1:] |= rows[:, :-1]
        wider[:, :-1] |= rows[:, 1:]
        rows = wider
    return int(rows.sum())


def size(*arrays: Any) -> int:
    return sum(x.numel() * x.element_size() for x in arrays)


def draw_resample(case: Case, draw: Draw) -> Arguments:
    B, S, T, D = case.sizes
    clocks = draw.clocks(B, S, T, case.tag, ascending=case.variant in REDUCTIONS)
    return draw.normal(B, S, D, dtype=case.dtype), *clocks


def resample(case: Case) -> Call:
    return resample_trajectories


def floor_resample(case: Case, args: Arguments, reach: int = 0) -> int:
    data, src, tgt = args
    row = data[0, 0].numel() * data.element_size()
    return (touched(src, tgt, reach) + tgt.numel()) * row + size(src, tgt)


def check_resample(case: Case, args: Arguments, results: list[Any], exact: bool) -> float:
    B, _, T, D = case.sizes
    shaped(results[0], (B, T, D), case.dtype)
    data, src, tgt = args
    return interpolated(data, src, tgt, results[0], case.dtype)


def draw_fuse(case: Case, draw: Draw) -> Arguments:
    B, T = case.sizes
    args: list[Any] = []
    for samples, features in STREAMS:
        args.append(draw.normal(B, samples, features, dtype=case.dtype))
        args.append(draw.clock(draw.steps(B, samples, 10.0), case.tag))
    zero = draw.torch.zeros(B, 1, dtype=draw.torch.float64, device=draw.device)
    return *args, draw.clock(draw.targets(B, T, zero, zero + 10), case.tag)


def fuse(case: Case) -> Call:
    def call(v: Any, vt: Any, p: Any, pt: Any, f: Any, ft: Any, targets: Any) -> Any:
        return fuse_multimodal({"vision": (v, vt), "proprio": (p, pt), "force": (f, ft)}, targets)

    return call


def floor_fuse(case: Case, args: Arguments) -> int:
    *streams, tgt = args
    moved = size(tgt)
    for data, src in zip(streams[::2], streams[1::2], strict=True):
        row = data.shape[2] * data.element_size()
        moved += (touched(src, tgt) + tgt.numel()) * row + size(src)
    return moved


def check_fuse(case: Case, args: Arguments, results: list[Any], exact: bool) -> float:
    *streams, tgt = args
    B, T = case.sizes
    shaped(results[0], (B, T, sum(features for _, features in STREAMS)), case.dtype)
    error, column = 0.0, 0
    for data, src in zip(streams[::2], streams[1::2], strict=True):
        part = results[0][..., column : column + data.shape[2]]
        error = max(error, interpolated(data, src, tgt, part, case.dtype))
        column += data.shape[2]
    return error


def draw_windows(case: Case, draw: Draw) -> Arguments:
    """The keys of all episodes are the same for all sets of a case: batches come out of them."""
    torch, (N, A, _) = draw.torch, case.sizes

    def shared() -> Arguments:
        keys = [draw.normal(N, features) for features in KEYS]
        ends = torch.arange(0, N, EPISODE, device=draw.device)
        offsets = torch.cat([ends, ends.new_tensor([N])])
        stamps = (draw.integers(2_000_000, N) + 9_000_000).cumsum(0)
        return *keys, offsets, stamps

    *keys, offsets, stamps = draw.once("windows", shared)
    anchors = draw.integers(N, A)
    return (*keys, offsets, *([stamps] if case.variant == "time" else []), anchors)


def windows(case: Case) -> Call:
    W, names = case.sizes[2], [f"key {features}" for features in KEYS]
    seconds = [STEP * k for k in range(W)]

    def flat(batch: Any) -> Any:
        return *(batch[name] for name in names), *(batch[f"{name}_is_pad"] for name in names)

    def by_index(a: Any, b: Any, c: Any, offsets: Any, anchors: Any) -> Any:
        keys = dict(zip(names, (a, b, c), strict=True))
        return flat(sample_windows(keys, offsets, anchors, delta_indices=range(W)))

    def by_time(a: Any, b: Any, c: Any, offsets: Any, stamps: Any, anchors: Any) -> Any:
        keys = dict(zip(names, (a, b, c), strict=True))
        return flat(sample_windows(keys, offsets, anchors, delta_timestamps=seconds, times=stamps))

    return by_time if case.variant == "time" else by_index


def _window(case: Case, args: Arguments) -> tuple[Any, Any, Any]:
    """The first sample of each step, the one behind it where it is needed, and the last
    sample of the episode."""
    import torch

    W, offsets, anchors = case.sizes[2], args[3], args[-1]
    last = offsets[torch.searchsorted(offsets, anchors, right=True).clamp(max=len(offsets) - 1)] - 1
    if case.variant == "index":
        lower = anchors[:, None] + torch.arange(W, device=anchors.device)
        lower = torch.minimum(lower, last[:, None])
        return lower, lower, last
    stamps = args[4]
    steps = torch.tensor([round(STEP * k * 1e9) for k in range(W)], device=anchors.device)
    targets = stamps[anchors][:, None] + steps
    lower = torch.minimum(torch.searchsorted(stamps, targets, right=True) - 1, last[:, None])
    between = (stamps[lower] != targets) & (lower < last[:, None])
    return lower, torch.where(between, lower + 1, lower), last


def floor_windows(case: Case, args: Arguments) -> int:
    import torch

    _, A, W = case.sizes
    lower, upper, _ = _window(case, args)
    rows = len(torch.unique(torch.cat([lower.flatten(), upper.flatten()])))
    stamp = 0 if case.variant == "index" else 8
    anchors = A * 8 + len(KEYS) * A * W  # and is_pad
    return (rows + A * W) * 4 * sum(KEYS) + rows * stamp + anchors


def check_windows(case: Case, args: Arguments, results: list[Any], exact: bool) -> float:
    _, A, W = case.sizes
    lower, upper, last = (numpy(x) for x in _window(case, args))
    anchors, error = numpy(args[-1]), 0.0
    chosen = some(A, 64)
    for key, features, result in zip(args, KEYS, results, strict=False):
        shaped(result, (A, W, features), "float32")
        got = numpy(result[chosen])
        if case.variant == "index":
            equal(got, numpy(key[lower[chosen]]), True)
            continue
        stamps = args[4]
        for i, a in enumerate(chosen):
            rows = np.arange(anchors[a], upper[a].max() + 1)
            t = numpy(stamps[rows]) - int(stamps[rows[0]])
            at = [round(STEP * k * 1e9) for k in range(W)]
            values = numpy(key[rows])
            expected = np.stack([np.interp(at, t, column) for column in values.T], 1)
            error = max(error, close(got[i], expected, tolerance("float32", 8.0)))
        finite(result)
    if case.variant == "index":
        beyond = anchors[:, None] + np.arange(W) > last[:, None]
    else:
        stamps = numpy(args[4])
        at = stamps[anchors][:, None] + [round(STEP * k * 1e9) for k in range(W)]
        beyond = at > stamps[last][:, None]
    equal(numpy(results[len(KEYS)]), beyond, True, "flags of padding")
    return error


def draw_poses(case: Case, draw: Draw) -> Arguments:
    if case.variant == "slerp":
        (N,) = case.sizes
        return draw.quaternions(N), draw.quaternions(N), draw.uniform(N)
    B, S, T = case.sizes
    data = draw.quaternions(B, S)
    if case.variant == "pos_quat":
        data = draw.torch.cat([draw.normal(B, S, 3), data], -1)
    return data, *draw.clocks(B, S, T, case.tag)


def poses(case: Case) -> Call:
    calls: dict[str, Call] = {
        "slerp": slerp,
        "quat": interpolate_quaternions,
        "pos_quat": interpolate_poses,
    }
    return calls[case.variant]


def floor_poses(case: Case, args: Arguments) -> int:
    if case.variant == "slerp":
        return size(*args) + size(args[0])
    return floor_resample(case, args)


def slerped(q0: np.ndarray, q1: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Along the shorter arc, in float64."""
    dot = (q0 * q1).sum(-1, keepdims=True)
    q1, dot = np.where(dot < 0, -q1, q1), np.abs(dot)
    angle = np.arctan2(np.linalg.norm(q1 - dot * q0, axis=-1, keepdims=True), dot)
    sine = np.where(angle > 0, np.sin(angle), 1)
    a = np.where(angle > 0, np.sin((1 - w) * angle) / sine, 1 - w)
    b = np.where(angle > 0, np.sin(w * angle) / sine, w)
    return a * q0 + b * q1


def check_poses(case: Case, args: Arguments, results: list[Any], exact: bool) -> float:
    if case.variant == "slerp":
        shaped(results[0], (*case.sizes, 4), "float32")
        rows = some(case.sizes[0], 1000)
        q0, q1, w, got = (numpy(x[rows].double()) for x in (*args, results[0]))
        finite(results[0])
        return _same_rotation(got, slerped(q0, q1, w[:, None]))
    data, src, tgt = args
    B, S, T = case.sizes
    shaped(results[0], (B, T, data.shape[2]), "float32")
    error = 0.0
    for b in some(B, 4):
        known, at = numpy(src[b]), numpy(tgt[b])
        origin = known[0] if known.dtype.kind == "i" else 0.0
        known, at = ((x - origin).astype(np.float64) for x in (known, at))
        i = np.clip(np.searchsorted(known, at, side="right") - 1, 0, max(S - 2, 0))
        j = np.minimum(i + 1, S - 1)
        w = np.clip((at - known[i]) / np.where(j > i, known[j] - known[i], 1), 0, 1)[:, None]
        values, got = numpy(data[b].double()), numpy(results[0][b].double())
        p, q = values[:, :-4], values[:, -4:]
        error = max(error, _same_rotation(got[:, -4:], slerped(q[i], q[j], w)))
        if p.shape[1]:
            at_most = tolerance("float32", float(np.abs(p).max()))
            error = max(error, close(got[:, :3], p[i] + w * (p[j] - p[i]), at_most))
    finite(results[0])
    return error


def _same_rotation(got: np.ndarray, expected: np.ndarray) -> float:
    sign = np.sign((got * expected).sum(-1, keepdims=True))
    return close(got * sign, expected, 1e-5)


def draw_normalize(case: Case, draw: Draw) -> Arguments:
    if case.variant == "image":
        return (draw.integers(256, *case.sizes, dtype="uint8"),)
    return (draw.normal(*case.sizes, dtype=case.dtype),)


def statistics(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of the columns."""
    D = case.sizes[-1]
    return np.linspace(-1, 1, D), np.linspace(0.5, 2, D)


def normalizes(case: Case) -> Call:
    if case.variant == "image":
        pixels = normalization(scale=2 / 255, bias=-1)
        return lambda x: normalize(x, pixels, dtype=np.float32)
    mean, std = statistics(case)
    prepared = normalization({"mean": mean, "std": std})
    return lambda x: normalize(x, prepared)


def floor_normalize(case: Case, args: Arguments) -> int:
    x = args[0]
    return size(x) + x.numel() * (4 if case.variant == "image" else x.element_size())


def check_normalize(case: Case, args: Arguments, results: list[Any], exact: bool) -> float:
    dtype = "float32" if case.variant == "image" else case.dtype
    shaped(results[0], case.sizes, dtype)
    rows = some(case.sizes[0], 8)
    x, got = (numpy(y[rows].double()) for y in (args[0], results[0]))
    finite(results[0])
    if case.variant == "image":
        return close(got, x * 2 / 255 - 1, tolerance(dtype, 1.0))
    mean, std = statistics(case)
    largest = float(np.abs(x).max() + np.abs(mean).max()) / float(std.min())
    return close(got, (x - mean) / (std + 1e-8), tolerance(dtype, largest))


def draw_asof(case: Case, draw: Draw) -> Arguments:
    B, S, T = case.sizes
    return draw.clocks(B, S, T, case.tag)


def check_asof(case: Case, args: Arguments, results: list[Any], exact: bool) -> float:
    B, _, T = case.sizes
    if tuple(results[0].shape) != (B, T):
        raise Wrong(f"got shape {tuple(results[0].shape)}, expected {(B, T)}")
    for b in some(B, 6):
        expected = np.searchsorted(numpy(args[0][b]), numpy(args[1][b]), side="right") - 1
        equal(numpy(results[0][b]), expected, True, "positions")
    return 0.0


def draw_interp(case: Case, draw: Draw) -> Arguments:
    """x [B, T], xp [B, S] and fp [B, S], all float32."""
    B, S, T = case.sizes
    xp = draw.uniform(B, S).cumsum(1)
    x = draw.uniform(B, T) * (1.02 * xp[:, -1:]) - 0.01 * xp[:, -1:]
    args = x, xp, draw.normal(B, S, dtype=case.dtype)
    return args if B > 1 else tuple(y[0] for y in args)


def check_interp(case: Case, args: Arguments, results: list[Any], exact: bool) -> float:
    B, _, T = case.sizes
    x, xp, fp, got = (y.reshape(B, -1) for y in (*args, results[0]))
    shaped(got, (B, T), case.dtype)
    error, at_most = 0.0, tolerance(case.dtype, 4 * float(fp.abs().max()))
    for b in some(B, 6):
        at, known, values = (numpy(y[b].double()) for y in (x, xp, fp))
        expected = np.interp(at, known, values)
        error = max(error, close(numpy(got[b].double()), expected, at_most))
    finite(got)
    return error


def curves(case: Case) -> Call:
    def call(data: Any, src: Any, tgt: Any) -> Any:
        return resample_trajectories(data, src, tgt, method=case.variant)

    return call


def floor_curves(case: Case, args: Arguments) -> int:
    if case.variant in REDUCTIONS:  # of all samples
        data, _, tgt = args
        return size(*args) + tgt.numel() * data.shape[2] * data.element_size()
    return floor_resample(case, args, reach=2 if case.variant == "akima" else 1)


def check_curves(case: Case, args: Arguments, results: list[Any], exact: bool) -> float:
    """By the Numba kernels, which define the result."""
    B, _, T, D = case.sizes
    shaped(results[0], (B, T, D), case.dtype)
    rows = some(B, 2)
    expected = resample_trajectories(
        *(numpy(x[rows]) for x in args), method=case.variant, backend="numba"
    )
    got = numpy(results[0][rows])
    if case.variant == "akima" and not exact:
        # Where slopes are as good as equal the curve depends on the last bit.
        error = close(got, expected, 1e-2 * float(np.abs(expected).max()))
    else:
        error = close(got, expected, 8 * tolerance(case.dtype, float(np.abs(expected).max())))
    finite(results[0])
    return error


KINDS = {
    "resample": Kind("BSTD", draw_resample, resample, floor_resample, check_resample, FLOATS),
    "fuse": Kind("BT", draw_fuse, fuse, floor_fuse, check_fuse, FLOATS),
    "windows-index": Kind("NAW", draw_windows, windows, floor_windows, check_windows),
    "windows-time": Kind("NAW", draw_windows, windows, floor_windows, check_windows),
    "poses-pos_quat": Kind("BST", draw_poses, poses, floor_poses, check_poses),
    "poses-quat": Kind("BST", draw_poses, poses, floor_poses, check_poses),
    "poses-slerp": Kind("N", draw_poses, poses, floor_poses, check_poses),
    "normalize": Kind("BTD", draw_normalize, normalizes, floor_normalize, check_normalize, FLOATS),
    "normalize-image": Kind(
        "BCHW", draw_normalize, normalizes, floor_normalize, check_normalize, ("uint8",)
    ),
    "asof": Kind(
        "BST", draw_asof, lambda case: asof_index,
        lambda case, args: size(*args) + 4 * args[1].numel(), check_asof, ("int32",),
    ),
    "interp": Kind(
        "BST", draw_interp, lambda case: interp,
        lambda case, args: size(*args) + size(args[0]), check_interp,
    ),
} | {
    f"curves-{name}": Kind("BSTD", draw_resample, curves, floor_curves, check_curves)
    for name in ("catmull_rom", "pchip", "akima", "mean", "max")
}  # fmt: skip
