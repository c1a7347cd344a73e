"""Clocks for the GPU, the CPU and the host side of a call. All figures are microseconds."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from .case import Call
from .peers import Framework, frameworks

Look = Callable[[int, Any], None]  # at the output of a set of arguments


class Effort(NamedTuple):
    """How often things are repeated."""

    seeds: int = 5
    repeats: int = 50  # for each seed
    seconds: float = 0.3  # at most, for one figure of one contender: slow ones are repeated less
    copies: int = 9
    copy_bytes: int = 2 << 30
    warm_up: float = 0.01  # seconds, for the clocks of the device to rise
    host_calls: int = 300  # fewer than a stream queues, so that no call waits for the device
    shapes: int = 300


QUICK = Effort(2, 20, 0.1, 5, 1 << 30, 0.005, 100, 100)
_ENOUGH, _MOST = 300, 10_000  # microseconds in one replay
_DISPATCH = 60.0  # microseconds: less a call, and JAX's own time on the host is what is seen


class Device(Protocol):
    """Where the calls run."""

    name: str  # as torch has it
    cache: int  # bytes of the last-level cache, 0 if unknown
    most_sets: int

    def synchronize(self) -> None: ...
    def free_bytes(self) -> int: ...
    def release(self) -> None: ...
    def copy_bandwidth(self, effort: Effort) -> float:
        """Bytes read and written per second by a large copy."""
        ...

    def nothing(self, effort: Effort) -> float:
        """An empty kernel, timed as calls are."""
        ...

    def timed(
        self, fn: Call, sets: Sequence[Any], effort: Effort, framework: Framework,
        look: Look | None = None,
    ) -> tuple[list[float], str]:  # fmt: skip
        """Back-to-back calls over the sets of arguments in turn, and how they were timed."""
        ...


class Cuda:
    """Calls are captured into a CUDA graph and its replays are timed between events, so the host
    takes no part. A call's output stays alive until its set of arguments comes round again, so
    outputs rotate as well."""

    name = "cuda"
    most_sets = 256

    def __init__(self) -> None:
        import torch

        self.torch = torch
        self.cache = int(torch.cuda.get_device_properties(0).L2_cache_size)

    def synchronize(self) -> None:
        self.torch.cuda.synchronize()

    def free_bytes(self) -> int:
        self.release()
        return int(self.torch.cuda.mem_get_info()[0])

    def release(self) -> None:
        self.torch.cuda.empty_cache()

    def copy_bandwidth(self, effort: Effort) -> float:
        size = min(effort.copy_bytes, self.free_bytes() // 4)
        source = self.torch.rand(size // 4, device=self.name)
        copy = self.torch.empty_like(source)
        for _ in range(3):
            copy.copy_(source)
        taken = self._events(lambda: copy.copy_(source), effort.copies)
        return 2 * source.nbytes / (statistics.median(taken) * 1e-6)

    def nothing(self, effort: Effort) -> float:
        from .._core.array import import_cupy

        cupy = import_cupy()
        kernel = cupy.RawKernel('extern "C" __global__ void nothing() {}', "nothing")

        def launch() -> None:
            with cupy.cuda.ExternalStream(self.torch.cuda.current_stream().cuda_stream):
                kernel((1,), (1,), ())

        samples, _ = self.timed(launch, [()] * 100, effort, frameworks()["torch"])
        return statistics.median(samples)

    def timed(
        self, fn: Call, sets: Sequence[Any], effort: Effort, framework: Framework,
        look: Look | None = None,
    ) -> tuple[list[float], str]:  # fmt: skip
        estimate = self._estimate(fn, sets, framework)
        if not framework.graphs:
            return self._programs(fn, sets, effort, framework, estimate)
        if getattr(fn, "syncs", False):
            calls = max(1, min(len(sets), int(_MOST / estimate)))
            run = self._one_after_another(fn, sets[:calls])
            samples = self._events(run, self._repeats(effort, estimate * calls))
            return [us / calls for us in samples], "events around calls that read back to the host"
        # Enough calls that the ends of a replay do not count, and each set as often as the others.
        calls = len(sets)
        while calls < 10 and calls * estimate < _ENOUGH:
            calls += len(sets)
        graph, outputs = self._capture(fn, sets, calls, framework)
        if look is not None:
            self._poison(outputs, framework)
            graph.replay()
            self.synchronize()
            for i in {0, len(sets) - 1}:
                look(i, outputs[i])
        end = time.perf_counter() + effort.warm_up
        while time.perf_counter() < end:
            graph.replay()
            self.synchronize()
        samples = self._events(graph.replay, self._repeats(effort, estimate * calls))
        return [us / calls for us in samples], "graph"

    def _repeats(self, effort: Effort, us: float) -> int:
        most = int(effort.seconds * 1e6 / effort.seeds / max(us, 1e-3))
        return max(3, min(effort.repeats, most))

    def _estimate(self, fn: Call, sets: Sequence[Any], framework: Framework) -> float:
        wait = framework.wait or (lambda result: self.synchronize())
        wait(fn(*sets[0]))
        best = float("inf")
        for args in (sets[0], sets[-1]):
            self.synchronize()
            start = time.perf_counter()
            wait(fn(*args))
            best = min(best, time.perf_counter() - start)
        return best * 1e6

    def _programs(
        self, fn: Call, sets: Sequence[Any], effort: Effort, framework: Framework, estimate: float
    ) -> tuple[list[float], str]:
        """By the wall clock, back to back; several calls in a program where one alone would tell
        how long the host takes."""
        wait = framework.wait or (lambda result: None)
        calls, how = 1, "wall clock, back to back"
        run: Callable[[Any], Any] = lambda i: fn(*sets[i % len(sets)])  # noqa: E731
        few = list(sets[:8])
        if estimate < 4 * _DISPATCH and len(few) > 1:
            several = framework.jit(lambda groups: [fn(*args) for args in groups])
            calls, how = len(few), f"wall clock, programs of {len(few)} calls"
            run = lambda i: several(few)  # noqa: E731
        wait(run(0))
        loops = max(1, min(20, int(_MOST / (estimate * calls))))
        samples = []
        for _ in range(self._repeats(effort, estimate * calls * loops)):
            result: Any = None
            start = time.perf_counter()
            for i in range(loops):
                result = run(i)
            wait(result)
            samples.append((time.perf_counter() - start) * 1e6 / (calls * loops))
        return samples, how

    @staticmethod
    def _one_after_another(fn: Call, sets: Sequence[Any]) -> Callable[[], None]:
        def run() -> None:
            for args in sets:
                fn(*args)

        return run

    def _events(self, fn: Callable[[], Any], count: int) -> list[float]:
        pairs = [
            [self.torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(count)
        ]
        self.synchronize()
        for start, stop in pairs:
            start.record()
            fn()
            stop.record()
        self.synchronize()
        return [start.elapsed_time(stop) * 1e3 for start, stop in pairs]

    def _capture(
        self, fn: Call, sets: Sequence[Any], calls: int, framework: Framework
    ) -> tuple[Any, list[Any]]:
        cuda = self.torch.cuda
        side = cuda.Stream()
        side.wait_stream(cuda.current_stream())
        with cuda.stream(side), framework.on_stream():
            for args in sets[:3]:
                fn(*args)
        cuda.current_stream().wait_stream(side)
        self.synchronize()
        outputs: list[Any] = [None] * len(sets)
        graph = cuda.CUDAGraph()
        # Not "global": a thread of a compiler may allocate meanwhile.
        with cuda.graph(graph, capture_error_mode="thread_local"), framework.on_stream():
            for i in range(calls):
                outputs[i % len(sets)] = fn(*sets[i % len(sets)])
        self.synchronize()
        return graph, outputs

    def _poison(self, outputs: Sequence[Any], framework: Framework) -> None:
        from .peers import tensors

        for x in tensors(framework, list(outputs)):
            if x.dtype is self.torch.uint32:
                x = x.view(self.torch.int32)
            x.fill_(float("nan") if x.is_floating_point() else 1 if x.itemsize == 1 else -7)


class Cpu:
    """Calls are timed one after another by the wall clock."""

    name = "cpu"
    most_sets = 16

    def __init__(self) -> None:
        self.cache = _last_level_cache()

    def synchronize(self) -> None:
        pass

    def release(self) -> None:
        pass

    def free_bytes(self) -> int:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def copy_bandwidth(self, effort: Effort) -> float:
        import numpy as np

        size = min(effort.copy_bytes, 1 << 28, self.free_bytes() // 4)
        source, copy = np.ones(size, np.uint8), np.zeros(size, np.uint8)
        taken = [_wall(np.copyto, copy, source) for _ in range(effort.copies + 1)][1:]
        return 2 * size / (statistics.median(taken) * 1e-6)

    def nothing(self, effort: Effort) -> float:
        return 0.0

    def timed(
        self, fn: Call, sets: Sequence[Any], effort: Effort, framework: Framework,
        look: Look | None = None,
    ) -> tuple[list[float], str]:  # fmt: skip
        def call(*args: Any) -> Any:
            result = fn(*args)
            if framework.wait is not None:
                framework.wait(result)
            return result

        first = call(*sets[0])
        if look is not None:
            look(0, first)
        del first
        samples: list[float] = []
        spent, most = 0.0, effort.seconds * 1e6 / effort.seeds
        while len(samples) < effort.repeats and (len(samples) < 2 or spent < most):
            samples.append(_wall(call, *sets[len(samples) % len(sets)]))
            spent += samples[-1]
        return samples, "wall clock"


def _last_level_cache() -> int:
    found = 0
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        unit = {"K": 10, "M": 20, "G": 30}.get(text[-1:], 0)
        found = max(found, int(text.rstrip("KMG")) << unit)
    return found


def _wall(fn: Call, *args: Any) -> float:
    start = time.perf_counter()
    result = fn(*args)
    taken = time.perf_counter() - start
    del result  # freeing it is not part of the call
    return taken * 1e6


def wall(
    fn: Call, sets: Sequence[Any], device: Device, effort: Effort, framework: Framework
) -> list[float]:
    """From the call to the moment that its result is there."""

    def call(*args: Any) -> None:
        result = fn(*args)
        if framework.wait is not None:
            framework.wait(result)
        else:
            device.synchronize()

    for args in sets[:3]:
        call(*args)
    samples: list[float] = []
    spent, most = 0.0, effort.seconds * 1e6 / effort.seeds
    while len(samples) < effort.repeats and (len(samples) < 3 or spent < most):
        samples.append(_wall(call, *sets[len(samples) % len(sets)]))
        spent += samples[-1]
    return samples


def warm_call(
    fn: Callable[[], Any], device: Device, effort: Effort, us: float = 0.0, chunks: int = 5
) -> float:
    """Host time of a call that takes `us` on the device: calls back to back without a
    synchronisation, the best of the chunks."""
    calls = max(3, min(effort.host_calls, int(20_000 / us) if us else effort.host_calls))
    for _ in range(min(50, calls)):
        fn()
    best = float("inf")
    for _ in range(chunks):
        device.synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            fn()
        best = min(best, time.perf_counter() - start)
    device.synchronize()
    return best / calls * 1e6


def each_call(fn: Call, arguments: Sequence[Any], device: Device) -> list[float]:
    """Host time of calls whose arguments differ."""
    device.synchronize()
    samples = [_wall(fn, *args) for args in arguments]
    device.synchronize()
    return samples
