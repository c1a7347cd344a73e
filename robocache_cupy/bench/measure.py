"""Clocks for the GPU, the CPU and the host side of a call. All figures are microseconds."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

Call = Callable[..., Any]


class Effort(NamedTuple):
    """How often things are repeated."""

    copies: int = 9
    copy_bytes: int = 2 << 30
    replays: int = 20
    warm_up: float = 0.03  # seconds, for the clocks of the device to rise
    host_calls: int = 300  # fewer than a stream queues, so that no call waits for the device
    shapes: int = 300


QUICK = Effort(3, 64 << 20, 3, 0.001, 20, 10)


class Timing(NamedTuple):
    """Of one call, from several repetitions."""

    samples: list[float]
    calls: int = 1  # in each repetition

    @property
    def median(self) -> float:
        return statistics.median(self.samples)


class WrongReplay(Exception):
    """A captured call did not compute what the call computes."""


class Device(Protocol):
    """Where the calls run."""

    name: str  # as torch has it
    cache: int  # bytes of the last-level cache, 0 if unknown

    def synchronize(self) -> None: ...
    def free_bytes(self) -> int: ...
    def copy_bandwidth(self, effort: Effort) -> tuple[float, list[float]]:
        """Bytes read and written per second by a large copy: the median, and all of them."""
        ...

    def nothing(self, effort: Effort) -> tuple[float, float]:
        """An empty kernel, timed as `rotating` and as `cold` do."""
        ...

    def rotating(self, fn: Call, sets: Sequence[Any], effort: Effort) -> Timing:
        """Back-to-back calls over the sets of arguments in turn."""
        ...

    def cold(self, fn: Call, args: Any, effort: Effort) -> Timing:
        """Single calls after other data has passed through the cache."""
        ...


class Cuda:
    """Calls are captured into a CUDA graph and its replays are timed between events, so the host
    takes no part. A call's output stays alive until its set of arguments comes round again, so
    outputs rotate as well."""

    name = "cuda"

    def __init__(self) -> None:
        import torch

        self.torch = torch
        self.cache = int(torch.cuda.get_device_properties(0).L2_cache_size)
        self._flush: Any = None

    def synchronize(self) -> None:
        self.torch.cuda.synchronize()

    def free_bytes(self) -> int:
        self.torch.cuda.empty_cache()
        return int(self.torch.cuda.mem_get_info()[0])

    def copy_bandwidth(self, effort: Effort) -> tuple[float, list[float]]:
        size = min(effort.copy_bytes, self.free_bytes() // 4)
        source = self.torch.rand(size // 4, device=self.name)
        copy = self.torch.empty_like(source)
        for _ in range(3):
            copy.copy_(source)
        samples = [
            2 * source.nbytes / (us * 1e-6)
            for us in self._events(lambda: copy.copy_(source), effort.copies)
        ]
        return statistics.median(samples), samples

    def nothing(self, effort: Effort) -> tuple[float, float]:
        from .._core.array import import_cupy

        cupy = import_cupy()
        kernel = cupy.RawKernel('extern "C" __global__ void nothing() {}', "nothing")

        def launch() -> None:
            with cupy.cuda.ExternalStream(self.torch.cuda.current_stream().cuda_stream):
                kernel((1,), (1,), ())

        return (
            self.rotating(launch, [()] * 100, effort).median,
            self.cold(launch, (), effort).median,
        )

    def rotating(self, fn: Call, sets: Sequence[Any], effort: Effort) -> Timing:
        calls = len(sets) * -(-10 // len(sets))
        graph, outputs = self._capture(fn, sets, calls)
        self._verify(fn, sets, graph, outputs)
        end = time.perf_counter() + effort.warm_up
        while time.perf_counter() < end:
            graph.replay()
            self.synchronize()
        samples = self._events(graph.replay, effort.replays)
        return Timing([us / calls for us in samples], calls)

    def cold(self, fn: Call, args: Any, effort: Effort) -> Timing:
        graph, _ = self._capture(fn, [args], 1)
        if self._flush is None:
            count = max(4 * self.cache, 1 << 28) // 4
            self._flush = self.torch.ones(count, device=self.name)
        for _ in range(3):
            graph.replay()
        # Read and not written: written lines would go back to memory during the call.
        return Timing(self._events(graph.replay, effort.replays, before=self._flush.sum))

    def _events(
        self, fn: Call, count: int, before: Callable[[], Any] = lambda: None
    ) -> list[float]:
        pairs = [
            [self.torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(count)
        ]
        self.synchronize()
        for start, stop in pairs:
            before()
            start.record()
            fn()
            stop.record()
        self.synchronize()
        return [start.elapsed_time(stop) * 1e3 for start, stop in pairs]

    def _capture(self, fn: Call, sets: Sequence[Any], calls: int) -> tuple[Any, list[Any]]:
        cuda = self.torch.cuda
        side = cuda.Stream()
        side.wait_stream(cuda.current_stream())
        with cuda.stream(side):
            for args in sets[:3]:
                fn(*args)
        cuda.current_stream().wait_stream(side)
        self.synchronize()
        outputs: list[Any] = [None] * len(sets)
        graph = cuda.CUDAGraph()
        # Not "global": a thread of a compiler may allocate meanwhile.
        with cuda.graph(graph, capture_error_mode="thread_local"):
            for i in range(calls):
                outputs[i % len(sets)] = fn(*sets[i % len(sets)])
        self.synchronize()
        return graph, outputs

    def _verify(self, fn: Call, sets: Sequence[Any], graph: Any, outputs: list[Any]) -> None:
        if outputs[0] is None:
            return

        def in_bytes(x: Any) -> Any:  # NaN is equal to NaN there
            return x.view(self.torch.uint8)

        for output in outputs:
            in_bytes(output).fill_(0xFF)
        graph.replay()
        for i in {0, len(sets) - 1}:
            if not self.torch.equal(in_bytes(outputs[i]), in_bytes(fn(*sets[i]))):
                raise WrongReplay(f"the replay of call {i} differs from the call")


class Cpu:
    """Calls are timed one after another by the wall clock."""

    name = "cpu"
    cache = 0

    def synchronize(self) -> None:
        pass

    def free_bytes(self) -> int:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def copy_bandwidth(self, effort: Effort) -> tuple[float, list[float]]:
        import torch

        size = min(effort.copy_bytes, 1 << 28, self.free_bytes() // 4)
        source = torch.ones(size, dtype=torch.uint8)
        copy = torch.zeros_like(source)
        samples = [
            2 * size / (_wall(copy.copy_, source) * 1e-6) for _ in range(effort.copies + 1)
        ][1:]  # fmt: skip
        return statistics.median(samples), samples

    def nothing(self, effort: Effort) -> tuple[float, float]:
        return 0.0, 0.0

    def rotating(self, fn: Call, sets: Sequence[Any], effort: Effort) -> Timing:
        for args in sets:
            fn(*args)
        return Timing([_wall(fn, *sets[i % len(sets)]) for i in range(effort.replays)])

    def cold(self, fn: Call, args: Any, effort: Effort) -> Timing:
        import torch

        flush = torch.ones(min(effort.copy_bytes, 1 << 28) // 4)
        samples = []
        for _ in range(effort.replays):
            flush.sum()
            samples.append(_wall(fn, *args))
        return Timing(samples)


def _wall(fn: Call, *args: Any) -> float:
    start = time.perf_counter()
    result = fn(*args)
    taken = time.perf_counter() - start
    del result  # freeing it is not part of the call
    return taken * 1e6


def warm_call(fn: Callable[[], Any], device: Device, effort: Effort, chunks: int = 5) -> float:
    """Host time of a call: calls back to back without a synchronisation, the best of the chunks."""
    for _ in range(min(50, effort.host_calls)):
        fn()
    best = float("inf")
    for _ in range(chunks):
        device.synchronize()
        start = time.perf_counter()
        for _ in range(effort.host_calls):
            fn()
        best = min(best, time.perf_counter() - start)
    device.synchronize()
    return best / effort.host_calls * 1e6


def each_call(fn: Call, arguments: Sequence[Any], device: Device) -> Timing:
    """Host time of calls whose arguments differ."""
    device.synchronize()
    samples = [_wall(fn, *args) for args in arguments]
    device.synchronize()
    return Timing(samples)
