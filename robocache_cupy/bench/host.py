"""What a call costs on the host, beside `x + x` of the same framework. Arrays are small, so that
on the CPU, too, hardly anything but the call is timed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .. import Stream, fuse_multimodal, resample_trajectories, voxelize_point_cloud
from .draw import Draw
from .machine import one_line
from .measure import Device, Effort, each_call, warm_call
from .peers import Framework, converted, frameworks

Calls = Iterator[tuple[str, Callable[[], Any]]]


def host(device: Device, effort: Effort, seed: int) -> list[dict[str, Any]]:
    """Microseconds of each call, by framework; what fails is a line, too."""
    found = []
    for name in ("torch", "cupy", "jax") if device.name == "cuda" else ("torch", "numpy", "jax"):
        framework = frameworks()[name]
        try:
            with framework.session():
                for call, fn in _calls(name, framework, Draw(device.name, seed)):
                    us = warm_call(fn, device, effort)
                    found.append({"framework": name, "call": call, "us": float(f"{us:.4g}")})
        except Exception as error:  # a framework may be missing, or fail in any way
            problem = f"{type(error).__name__}: {one_line(str(error))}"
            found.append({"framework": name, "problem": problem})
    us = _new_shapes(device, effort, Draw(device.name, seed))
    found.append({"framework": "torch", "call": "resample, new shapes", "us": us})
    return found


def _calls(name: str, framework: Framework, draw: Draw) -> Calls:
    def arrays(*args: Any) -> Any:
        return converted(framework, args)

    data, x = arrays(draw.normal(8, 50, 7), draw.normal(1000))
    src, tgt = arrays(*draw.clocks(8, 50, 32, "int64"))
    plus = framework.jit(lambda x: x + x)
    yield "x + x", lambda: plus(x)
    resample = framework.jit(lambda *args: resample_trajectories(*args))
    yield "resample", lambda: resample(data, src, tgt)
    if name == "jax":
        return
    other, times = arrays(draw.normal(8, 50, 3), draw.clocks(8, 50, 32, "int64")[0])
    streams = {"a": (data, src), "b": (other, times)}
    yield "fuse", lambda: fuse_multimodal(streams, tgt)
    late = {"a": Stream(data, src, latency=0.035), "b": (other, times)}
    yield "fuse, with a Stream", lambda: fuse_multimodal(late, tgt)
    (points,) = arrays(draw.cloud(1, 500, "uniform"))
    for reduce in ("binary", "count"):

        def voxelize(reduce: str = reduce) -> Any:
            return voxelize_point_cloud(points, 16, 2 / 16, -1.0, reduce=reduce)

        yield f"voxelize, {reduce}", voxelize


def _new_shapes(device: Device, effort: Effort, draw: Draw) -> float:
    """Targets in every number from 33 up, most first: the memory of the first output serves all."""
    data, (src, _) = draw.normal(8, 50, 7), draw.clocks(8, 50, 32, "int64")
    most = 33 + effort.shapes
    targets = draw.clocks(1, 50, 8 * most, "int64")[1].flatten()
    calls: Sequence[Any] = [
        (data, src, targets[: 8 * count].view(8, count)) for count in range(most, 32, -1)
    ]
    resample_trajectories(*calls[0])
    samples = each_call(resample_trajectories, calls[1:], device)
    return float(f"{sum(samples) / len(samples):.4g}")
