"""Counts and times of the calls of ops, by op and backend.

Off until `enable_metrics`, and then about 6 us a call (measured on a CPU), on a GPU two CUDA events
more. They belong to this process: a forked worker starts with none.
"""

from __future__ import annotations

import collections
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ._table import html_table, text_table

__all__ = [
    "Metrics",
    "OpMetrics",
    "Times",
    "collector",
    "disable_metrics",
    "enable_metrics",
    "get_metrics",
    "print_metrics",
    "prometheus_text",
    "reset_metrics",
]

_SAMPLES = 4096  # the last ones, of which the percentiles are
_PENDING = 1024  # calls whose GPU time is not known yet; of any beyond, it is not taken
_POLLED = 4  # at each call


class Times(NamedTuple):
    """How long calls took, in seconds.

    The percentiles are those of the last 4096 calls, the others of all.
    """

    calls: int  #: how many were timed
    total: float  #: of all calls together
    mean: float  #: `total` over `calls`
    min: float  #: the shortest
    p50: float  #: the median
    p99: float  #: the 99th percentile
    max: float  #: the longest


class OpMetrics(NamedTuple):
    """The calls of one op on one backend."""

    op: str  #: its name
    backend: str  #: "cuda" or "numba"
    calls: int  #: those that returned
    host: Times  #: from call to return; on a GPU the kernels then still run
    gpu: Times | None  #: between events on the caller's stream, None where there are none
    bytes: int  #: of the arrays that go in and come out, each counted once a call
    gb_per_s: float | None  #: bytes over the GPU's time, or over the host's for Numba


class Metrics(dict[tuple[str, str], OpMetrics]):
    """Of each op and backend, ``metrics["interp", "numba"]``, an `OpMetrics`. Prints as a table."""

    def __repr__(self) -> str:
        if not self:
            return "no calls" if enabled() else "no calls: metrics are off, see enable_metrics()"
        return text_table(_HEADINGS, self._rows(), left=2)

    __str__ = __repr__

    def _repr_html_(self) -> str:
        return html_table(_HEADINGS, self._rows(), left=2)

    def _rows(self) -> list[list[str]]:
        return [
            [x.op, x.backend, str(x.calls), *_micros(x.host), *_micros(x.gpu),
             f"{1e-6 * x.bytes:.3f}", "-" if x.gb_per_s is None else f"{x.gb_per_s:.2f}"]
            for x in self.values()
        ]  # fmt: skip


_FIGURES = ("mean", "min", "p50", "p99", "max")
_HEADINGS = ("op", "backend", "calls", *[f"host {x} us" if x == "mean" else x for x in _FIGURES],
             *[f"GPU {x} us" if x == "mean" else x for x in _FIGURES], "MB", "GB/s")  # fmt: skip


def _micros(times: Times | None) -> list[str]:
    if times is None:
        return ["-"] * len(_FIGURES)
    return [f"{1e6 * getattr(times, name):.1f}" for name in _FIGURES]


class _Series:
    """Durations of calls."""

    def __init__(self) -> None:
        self.calls, self.total = 0, 0.0
        self.min, self.max = float("inf"), 0.0
        self.last: collections.deque[float] = collections.deque(maxlen=_SAMPLES)

    def add(self, seconds: float) -> None:
        self.calls += 1
        self.total += seconds
        self.min, self.max = min(self.min, seconds), max(self.max, seconds)
        self.last.append(seconds)

    def times(self) -> Times:
        p50, p99 = np.percentile(self.last, (50, 99)).tolist()
        return Times(
            self.calls, self.total, self.total / self.calls, self.min, p50, p99, self.max
        )  # fmt: skip


class _Record:
    """What is known of an op on a backend."""

    def __init__(self) -> None:
        self.host, self.gpu = _Series(), _Series()
        self.bytes = self.gpu_bytes = 0


class GpuTimer:
    """Two CUDA events on a stream, around a call."""

    def __init__(self, device: int, stream: int, events: tuple[Any, Any]) -> None:
        self._device, self._stream, self._events = device, stream, events

    @classmethod
    def start(cls, device: int, stream: Callable[[int], int] | None) -> GpuTimer:
        """Begin on the current stream of a framework, or of CuPy."""
        from ._core.array import import_cupy
        from ._core.kernel import check_cuda

        check_cuda(device)
        cuda = import_cupy().cuda
        with cuda.Device(device):
            pointer = cuda.get_current_stream().ptr if stream is None else stream(device)
            timer = cls(device, pointer, (cuda.Event(), cuda.Event()))
            cuda.runtime.eventRecord(timer._events[0].ptr, pointer)
        return timer

    def stop(self) -> None:
        from ._core.array import import_cupy

        cuda = import_cupy().cuda
        with cuda.Device(self._device):
            cuda.runtime.eventRecord(self._events[1].ptr, self._stream)

    @property
    def done(self) -> bool:
        return bool(self._events[1].done)

    def seconds(self) -> float:
        """Waits for the end of the call."""
        from ._core.array import import_cupy

        self._events[1].synchronize()
        return 1e-3 * float(import_cupy().cuda.get_elapsed_time(*self._events))


_lock = threading.Lock()
_on = False
_records: dict[tuple[str, str], _Record] = {}
_pending: collections.deque[tuple[_Record, GpuTimer, int]] = collections.deque()


def enabled() -> bool:
    """Are calls counted?"""
    return _on


def enable_metrics() -> None:
    """Count and time the calls of ops from now on.

    Counted is each call of an op by the user, not the calls it makes itself, and each one made by
    a function of several ops. GPU times are taken by events on the caller's current stream,
    which are read at later calls, without waiting. Of JAX only calls outside of ``jit`` are
    counted: their host time is that of the dispatch, and their GPU time is not known. In
    ``torch.compile`` a call is counted when it runs; in a CUDA graph, when it is captured. The
    first call of a kind compiles: `reset_metrics` after a warm-up leaves it out.

    Examples
    --------
    >>> import numpy as np
    >>> import robocache_cupy as rc
    >>> rc.enable_metrics()
    >>> rc.asof_index(np.array([0, 10, 20]), np.array([12]))
    array([1], dtype=int32)
    >>> of_asof = rc.get_metrics()["asof_index", "numba"]
    >>> of_asof.calls, of_asof.bytes
    (1, 36)
    >>> rc.disable_metrics()
    >>> rc.reset_metrics()
    """
    _switch(True)


def disable_metrics() -> None:
    """Count calls no more. What has been counted stays, see `reset_metrics`.

    Examples
    --------
    >>> import robocache_cupy as rc
    >>> rc.disable_metrics()
    >>> rc.metrics.enabled()
    False
    """
    _switch(False)


def _switch(on: bool) -> None:
    global _on
    from ._core import observe

    _on = on
    observe.update()


def reset_metrics() -> None:
    """Forget all calls so far.

    Examples
    --------
    >>> import robocache_cupy as rc
    >>> rc.reset_metrics()
    >>> len(rc.get_metrics())
    0
    """
    with _lock:
        _records.clear()
        _pending.clear()


def add(op: str, backend: str, host: float, moved: int, timer: GpuTimer | None) -> None:
    """Count a call, and read the timers of earlier ones that are done."""
    with _lock:
        record = _records.get((op, backend))
        if record is None:
            record = _records[op, backend] = _Record()
        record.host.add(host)
        record.bytes += moved
        if timer is not None:
            _read(_POLLED, wait=False)
            if len(_pending) < _PENDING:
                _pending.append((record, timer, moved))


def _read(most: int, wait: bool) -> None:
    for _ in range(min(most, len(_pending))):
        record, timer, moved = _pending[0]
        if not (wait or timer.done):
            return
        _pending.popleft()
        record.gpu.add(timer.seconds())
        record.gpu_bytes += moved


def get_metrics() -> Metrics:
    """The calls since `enable_metrics` or `reset_metrics`. Waits for those that still run on a GPU.

    Returns
    -------
    Metrics
        A dict from (op, backend) to `OpMetrics`, which prints as a table.

    Examples
    --------
    >>> import robocache_cupy as rc
    >>> rc.get_metrics()
    no calls: metrics are off, see enable_metrics()
    """
    with _lock:
        _read(len(_pending), wait=True)
        found = Metrics()
        for (op, backend), x in sorted(_records.items()):
            gpu = x.gpu.times() if x.gpu.calls else None
            host = x.host.times()
            moved, seconds = (x.gpu_bytes, x.gpu.total) if gpu else (x.bytes, host.total)
            rate = 1e-9 * moved / seconds if (gpu or backend == "numba") and seconds else None
            found[op, backend] = OpMetrics(op, backend, host.calls, host, gpu, x.bytes, rate)
        return found


def print_metrics() -> None:
    """Print `get_metrics`, as a table.

    Examples
    --------
    >>> import robocache_cupy as rc
    >>> rc.print_metrics()
    no calls: metrics are off, see enable_metrics()
    """
    print(get_metrics())


# ------------------------------------------------------------------------------------- Prometheus


def prometheus_text() -> str:
    """The metrics in Prometheus's text format, for the response of a ``/metrics`` page.

    Takes the package ``prometheus_client``: ``pip install 'robocache-cupy[metrics]'``. The series
    are ``robocache_op_host_seconds`` and ``robocache_op_gpu_seconds``, summaries with the
    quantiles 0.5 and 0.99, and ``robocache_op_bytes_total``, with the labels ``op`` and
    ``backend``.

    Returns
    -------
    str

    Raises
    ------
    ImportError
        Without prometheus_client.

    Examples
    --------
    >>> import robocache_cupy as rc
    >>> text = rc.metrics.prometheus_text()  # doctest: +SKIP
    """
    client = _client()
    registry = client.CollectorRegistry(auto_describe=False)
    registry.register(collector())
    text: bytes = client.generate_latest(registry)
    return text.decode()


def collector() -> Any:
    """A collector of the metrics, to register with prometheus_client's registry.

    Returns
    -------
    object with ``collect()``
        For ``prometheus_client.REGISTRY.register(robocache_cupy.metrics.collector())``, after
        which every scrape shows the metrics as they are then. See `prometheus_text`.

    Raises
    ------
    ImportError
        Without prometheus_client.

    Examples
    --------
    >>> import robocache_cupy as rc
    >>> collector = rc.metrics.collector()  # doctest: +SKIP
    """
    _client()
    return _Collector()


def _client() -> Any:
    try:
        import prometheus_client
        import prometheus_client.core
    except ImportError as e:
        raise ImportError(
            f"this takes prometheus_client: pip install 'robocache-cupy[metrics]' ({e})"
        ) from e
    return prometheus_client


class _Collector:
    def collect(self) -> Iterator[Any]:
        core = _client().core
        labels = ("op", "backend")
        found = get_metrics()
        for part in ("host", "gpu"):
            name = f"robocache_op_{part}_seconds"
            family = core.SummaryMetricFamily(
                name, f"Time of the calls of an op, {part} side.", labels=labels
            )
            for key, x in found.items():
                times: Times | None = getattr(x, part)
                if times is None:
                    continue
                family.add_metric(key, count_value=times.calls, sum_value=times.total)
                for quantile, value in (("0.5", times.p50), ("0.99", times.p99)):
                    of = {**dict(zip(labels, key, strict=True)), "quantile": quantile}
                    family.add_sample(name, of, value)
            yield family
        moved = core.CounterMetricFamily(
            "robocache_op_bytes", "Bytes of the arrays of the calls of an op.", labels=labels
        )
        for key, x in found.items():
            moved.add_metric(key, x.bytes)
        yield moved


_lost: list[Any] = []  # events of the parent, which a child must not even destroy


def _in_child() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it
    _lost.extend(_pending)
    reset_metrics()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
