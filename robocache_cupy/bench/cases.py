"""The published cases: their shapes, random inputs, the bytes they must move, and the oracle."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np

SHORT = {"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64"}
LONG = {short: name for name, short in SHORT.items()}
CLOCKS = ("int64", "float32")  # ns, the flagship, and seconds; int64 leads in every table

# Rounding of a result: the unit roundoff, and how many of them of the largest operand a result may
# be off. PyTorch rounds the weight to the dtype of the data, hence more than one even for bfloat16.
_ROUNDOFF = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
_ROUNDINGS = {"float16": 4, "bfloat16": 4, "float32": 16, "float64": 16}

_SPEC = re.compile(r"(\d+)x(\d+)x(\d+)x(\d+)-(f16|bf16|f32|f64)(?:-(int64|float32|float64))?")


class Case(NamedTuple):
    """data [B, S, D] with the clock [B, S], resampled at the targets [B, T]."""

    B: int
    S: int
    T: int
    D: int
    dtype: str
    clock: str

    @property
    def shape(self) -> str:
        """
        >>> Case(8, 250, 250, 128, "bfloat16", "int64").shape
        '8x250x250x128-bf16'
        """
        return f"{self.B}x{self.S}x{self.T}x{self.D}-{SHORT[self.dtype]}"

    @property
    def name(self) -> str:
        return f"{self.shape}-{self.clock}"


class Inputs(NamedTuple):
    """The arguments of one call, as torch tensors."""

    data: Any
    src: Any
    tgt: Any


RESAMPLE = tuple(
    Case(B, S, T, D, dtype, clock)
    for B, S, T, D, dtype in (
        (32, 50, 256, 128, "bfloat16"),
        (8, 250, 250, 128, "bfloat16"),
        (32, 500, 256, 256, "bfloat16"),
        (64, 1000, 512, 512, "bfloat16"),
        (64, 4096, 1024, 32, "float32"),
        (4096, 100, 32, 16, "float32"),
        (256, 1000, 1000, 512, "float32"),
        (256, 1000, 1000, 512, "bfloat16"),
        (64, 500, 250, 14, "float32"),
        (1024, 2000, 1000, 64, "float32"),
    )
    for clock in CLOCKS
)


def select(text: str) -> list[Case]:
    """The cases that a comma-separated list names: any BxSxTxD-dtype[-clock], or the beginning of
    the name of published ones.

    >>> [case.name for case in select("8x250,2x9x5x3-f32-float64")]
    ['8x250x250x128-bf16-int64', '8x250x250x128-bf16-float32', '2x9x5x3-f32-float64']
    """
    chosen: list[Case] = []
    for token in filter(None, text.split(",")):
        spec = _SPEC.fullmatch(token)
        if spec is not None:
            *sizes, dtype, clock = spec.groups()
            B, S, T, D = map(int, sizes)
            found = [Case(B, S, T, D, LONG[dtype], c) for c in ([clock] if clock else CLOCKS)]
        else:
            found = [case for case in RESAMPLE if case.name.startswith(token)]
        if not found or 0 in found[0][:4]:
            raise ValueError(
                f"no case {token!r}: expected BxSxTxD-dtype[-clock] with sizes of 1 or more, as in "
                f"{RESAMPLE[0].name}, or the beginning of one of "
                + ", ".join(dict.fromkeys(case.shape for case in RESAMPLE))
            )
        chosen += [case for case in found if case not in chosen]
    return chosen


def draw(case: Case, device: str, generator: Any) -> Inputs:
    """Random inputs: samples 2 to 18 ms apart, targets at a steady rate with jitter that reach 1 %
    beyond either end, one of them on a sample. int64 clocks count ns since 1970."""
    import torch

    B, S, T, D, dtype, clock = case

    def uniform(*shape: int) -> Any:
        return torch.rand(shape, dtype=torch.float64, device=device, generator=generator)

    data = torch.randn(
        (B, S, D), dtype=torch.float32, device=device, generator=generator
    ).to(getattr(torch, dtype))  # fmt: skip
    src = (0.002 + 0.016 * uniform(B, S)).cumsum(1)
    first, span = src[:, :1], src[:, -1:] - src[:, :1]
    steps = (torch.arange(T, device=device) + uniform(B, T)) / T
    tgt = first + span * (1.02 * steps - 0.01)
    if clock == "int64":
        epoch = 1_790_000_000_000_000_000
        src, tgt = ((x * 1e9).round().to(torch.int64) + epoch for x in (src, tgt))
    else:
        src, tgt = src.to(getattr(torch, clock)), tgt.to(getattr(torch, clock))
    tgt[:, T // 2] = src[:, S // 2]
    return Inputs(data, src, tgt)


class Floor(NamedTuple):
    """What a call must move, each byte once."""

    rows: int  # of data that some target needs, of B * S
    bytes: int


def floor(case: Case, inputs: Inputs) -> Floor:
    """Count the rows of data that the targets touch, and the bytes of these, of both clocks and of
    the output. A target on a sample or beyond the ends touches one row, any other two."""
    import torch

    B, S, T, D, *_ = case
    _, src, tgt = inputs
    last = torch.searchsorted(src, tgt, right=True) - 1  # the last sample not after the target
    lower = last.clamp(0, S - 1)
    between = (last >= 0) & (last < S - 1) & (src.gather(1, lower) != tgt)
    upper = torch.where(between, lower + 1, lower)
    touched = torch.zeros((B, S), dtype=torch.bool, device=src.device)
    touched.scatter_(1, lower, True)
    touched.scatter_(1, upper, True)
    rows = int(touched.sum())
    element, stamp = inputs.data.element_size(), src.element_size()
    return Floor(rows, (rows + B * T) * D * element + B * (S + T) * stamp)


class Check(NamedTuple):
    """How far a result is from the oracle. The tolerance is that of the dtype."""

    error: float  # largest absolute one
    tolerance: float
    ok: bool
    problem: str = ""


def check(case: Case, inputs: Inputs, result: Any, seed: int) -> Check:
    """Compare a result with `numpy.interp`: all targets, of a few rows and channels. Beyond those
    every element must be finite, so poison the memory before the call."""
    import torch

    B, _, T, D, dtype, clock = case
    if tuple(result.shape) != (B, T, D) or result.dtype is not inputs.data.dtype:
        came = f"{tuple(result.shape)} {result.dtype}"
        return Check(float("nan"), 0.0, False, f"got {came}, expected {(B, T, D)} {dtype}")
    random = np.random.default_rng(seed)
    rows = sorted({0, B - 1, *random.integers(0, B, 4).tolist()})
    channels = sorted({0, D - 1, *random.integers(0, D, 6).tolist()})

    def part(x: Any) -> np.ndarray:
        return x[rows][..., channels].to(torch.float64).cpu().numpy()

    data, got = part(inputs.data), part(result)
    expected = np.empty_like(got)
    for i, (known, at) in enumerate(zip(inputs.src[rows], inputs.tgt[rows], strict=True)):
        origin = known[0] if clock == "int64" else 0.0  # float64 holds no ns since 1970
        xp, x = ((stamps - origin).to(torch.float64).cpu().numpy() for stamps in (known, at))
        for j in range(len(channels)):
            expected[i, :, j] = np.interp(x, xp, data[i, :, j])
    error = float(np.abs(got - expected).max())
    tolerance = _ROUNDINGS[dtype] * _ROUNDOFF[dtype] * float(np.abs(data).max())
    if not error <= tolerance:
        return Check(error, tolerance, False, f"off by {error:.3g}, tolerance {tolerance:.3g}")
    if not bool(torch.isfinite(result).all()):
        return Check(error, tolerance, False, "elements are not finite, or were not written")
    return Check(error, tolerance, True)
