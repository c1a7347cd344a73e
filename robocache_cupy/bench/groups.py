"""Groups of cases that are timed beside the copy bandwidth of the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from .measure import QUICK, Cpu, Cuda, Device, Effort


class Case(NamedTuple):
    """A call, arguments for it in turn, and the bytes that one must move."""

    name: str
    fn: Callable[..., Any]
    sets: Sequence[tuple[Any, ...]]
    bytes: int


Group = Callable[[Device, int], Iterator[Case]]  # the number divides the sizes, for tests
Host = Callable[[Device, Effort], Iterator[tuple[str, float]]]


def timed(
    groups: Mapping[str, Group], host: Host, argv: Sequence[str], effort: Effort | None, scale: int
) -> int:
    """Print the times of the named groups, or of all; the result is the exit code."""
    import torch

    unknown = set(argv) - set(groups)
    if unknown:
        print(f"no group {', '.join(sorted(unknown))}: expected some of {', '.join(groups)}")
        return 2
    device: Device = Cuda() if torch.cuda.is_available() else Cpu()
    effort = effort or (Effort(copies=3) if torch.cuda.is_available() else QUICK)
    bandwidth, _ = device.copy_bandwidth(effort)
    print(f"copy {bandwidth / 1e12:.2f} TB/s on {device.name}")
    for group in argv or groups:
        for case in groups[group](device, scale):
            us = device.rotating(case.fn, case.sets, effort).median
            floor = case.bytes / bandwidth * 1e6
            print(f"{case.name:44s} {us:9.2f} us   floor {floor:8.2f}   x {us / floor:.2f}")
    for name, us in host(device, effort):
        print(f"{name:44s} {us:9.2f} us on the host")
    return 0
