"""How time grows with one size while the others stay, up to sizes that fill the memory."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .case import Case
from .measure import Device, Effort
from .published import KINDS
from .run import measured, write

# Those that take no time to compile.
PEERS = ("torch", "triton", "numpy")
LARGE = 2**31  # elements: an index of 32 bits no longer does


class Line(NamedTuple):
    """A case, one of whose sizes takes these values."""

    base: Case
    axis: str
    sizes: Sequence[int]

    def cases(self) -> Iterator[Case]:
        at = KINDS[self.base.kind].axes.index(self.axis)
        for size in self.sizes:
            sizes = (*self.base.sizes[:at], size, *self.base.sizes[at + 1 :])
            yield self.base._replace(sizes=sizes, quick=False)


def _powers(first: int, last: int, factor: int = 4) -> tuple[int, ...]:
    """
    >>> _powers(1, 64)
    (1, 4, 16, 64)
    """
    sizes = [first]
    while sizes[-1] * factor <= last:
        sizes.append(sizes[-1] * factor)
    return tuple(sizes)


def lines(device: str) -> list[Line]:
    """On a GPU until the memory is full: the last sizes of several have arrays of more than 2^31
    elements. On a CPU that would take too long."""
    wide = device == "cuda"
    resample = Case("resample", (64, 1000, 500, 64), "bfloat16" if wide else "float32", "int64")
    cloud = Case("voxelize-uint8", (4, 100_000, 128), "float32", "uniform")
    return [
        Line(resample, "B", _powers(4, 2**16 if wide else 256)),
        Line(resample, "S", _powers(100, 400_000 if wide else 6400)),
        Line(resample, "T", _powers(100, 400_000 if wide else 6400)),
        Line(resample, "D", _powers(1, 4096 if wide else 256)),
        Line(cloud, "N", _powers(1000, 16_000_000 if wide else 256_000)),
        Line(cloud, "B", _powers(1, 4096 if wide else 16)),
        Line(cloud, "G", _powers(16, 1024 if wide else 128, 2)),
    ]


def bytes_of(case: Case) -> int:
    """About what one set of arguments takes with its output."""
    size = 2 if case.dtype == "bfloat16" else 4
    if case.op == "resample":
        B, S, T, D = case.sizes
        return B * ((S + T) * (D * size + 8))
    B, N, G = case.sizes
    return B * (12 * N + G**3)


def elements_of(case: Case) -> int:
    """Of the largest array."""
    if case.op == "resample":
        B, S, T, D = case.sizes
        return B * max(S, T) * D
    B, N, G = case.sizes
    return B * max(3 * N, G**3)


def fitting(line: Line, free: int) -> list[Case]:
    """Two sets, two outputs, and what a check takes, must find room."""
    return [case for case in line.cases() if 5 * bytes_of(case) < free]


def grown(
    device: Device, effort: Effort, seed: int, report: dict[str, Any], save: Path | None,
    names: Sequence[str], chosen: Collection[str],
) -> None:  # fmt: skip
    """Add all lines whose op is chosen to a report."""
    some = effort._replace(seeds=1, seconds=effort.seconds / effort.seeds)
    for line in lines(device.name):
        if line.base.op not in chosen:
            continue
        part = report | {"cases": []}
        entry = {"op": line.base.op, "axis": line.axis, "cases": part["cases"]}
        report.setdefault("scaling", []).append(entry)
        peers = [name for name in PEERS if name in names]
        cases = fitting(line, device.free_bytes())
        measured(cases, peers, device, some, seed, part, None, None)
        write(report, save)
