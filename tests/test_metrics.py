"""Metrics: what is counted, and that it is counted once."""

import multiprocessing
import re
import sys
import threading
import types

import numpy as np
import pytest

import robocache_cupy as rc
from robocache_cupy import config, metrics
from robocache_cupy._core.array import framework
from robocache_cupy._core.plan import Op

SRC, TGT = np.array([0, 10, 20]), np.array([12, 3])
PLAIN = Op.__call__


@pytest.fixture(autouse=True)
def _only_here():
    assert Op.__call__ is PLAIN
    rc.reset_metrics()
    yield
    rc.disable_metrics()
    rc.reset_metrics()
    assert Op.__call__ is PLAIN


@pytest.fixture
def on():
    rc.enable_metrics()


def calls():
    return {key: x.calls for key, x in rc.get_metrics().items()}


class Timer:
    """A call on a GPU that takes as long as it is told to, and ends when it is told to."""

    def __init__(self, took=0.0, done=True):
        self.took, self.done, self.waited = took, done, False

    def seconds(self):
        self.waited = not self.done
        return self.took


# -------------------------------------------------------------------------------- on and off


def test_off_is_the_plain_call_itself():
    rc.asof_index(SRC, TGT)
    assert rc.get_metrics() == {}
    rc.enable_metrics()
    assert Op.__call__ is not PLAIN
    with config.override(backend="numba"):
        rc.disable_metrics()
        assert Op.__call__ is not PLAIN  # the other one still wants it
    assert Op.__call__ is PLAIN


def test_what_is_counted_stays_until_reset(on):
    rc.asof_index(SRC, TGT)
    rc.disable_metrics()
    rc.asof_index(SRC, TGT)
    assert calls() == {("asof_index", "numba"): 1}
    rc.reset_metrics()
    assert calls() == {}


# --------------------------------------------------------------------------- what is counted


class Producer:
    """Speaks DLPack, and nothing else."""

    def __init__(self, x):
        self._x = x

    def __dlpack__(self, **options):
        return self._x.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._x.__dlpack_device__()


def test_a_call_that_calls_itself_counts_once(on):
    rc.interp([0.5], [0.0, 1.0], [0.0, 4.0])  # lists
    rc.interp(0.5, [0.0, 1.0], [0.0, 4.0])  # a number
    rc.slerp(np.eye(4)[:, ::-1], np.eye(4), 0.5)  # made dense
    rc.asof_index(Producer(SRC), Producer(TGT))
    points = np.zeros((1, 2, 3), np.float32)
    rc.voxelize_sparse(points, (1, 1, 1), 1.0)  # reads a size, and goes on
    rc.voxelize_occupancy(points, (1, 1, 1), 1.0)
    assert calls() == {
        ("asof_index", "numba"): 1,
        ("interp", "numba"): 2,
        ("slerp", "numba"): 1,
        ("voxelize_point_cloud", "numba"): 1,
        ("voxelize_sparse", "numba"): 1,
    }


def test_a_call_that_fails_is_not_counted(on):
    with pytest.raises(ValueError, match="direction"):
        rc.asof_index(SRC, TGT, direction="sideways")
    with pytest.raises(TypeError, match="src"):
        rc.asof_index(None, TGT)
    assert calls() == {}
    rc.asof_index(SRC, TGT)
    assert calls() == {("asof_index", "numba"): 1}


def test_every_lane_counts_its_calls(lib, on):
    src, tgt = lib.array(SRC.astype("float32")), lib.array(TGT.astype("float32"))
    for _ in range(3):
        rc.asof_index(src, tgt)
    found = framework(type(src))
    gpu = found.device(src) >= 0
    ((key, x),) = rc.get_metrics().items()
    assert key == ("asof_index", "cuda" if gpu else "numba")
    assert (x.calls, x.bytes) == (3, 3 * (12 + 8 + 8))
    assert 0 < x.host.min <= x.host.p50 <= x.host.p99 <= x.host.max
    assert x.host.mean * 3 == pytest.approx(x.host.total)
    if gpu and lib.name != "jax":
        assert x.gpu.calls == 3
        assert 0 < x.gpu.min <= x.gpu.p50 <= x.gpu.max < 60
        assert x.gb_per_s == pytest.approx(1e-9 * x.bytes / x.gpu.total)
    else:
        assert x.gpu is None
        assert (x.gb_per_s is None) == gpu


def test_torch_that_records_counts_once(on):
    torch = pytest.importorskip("torch")
    data = torch.arange(6.0).reshape(3, 2).requires_grad_()
    times = torch.arange(3.0)
    result = rc.resample_trajectories(data, times, times + 0.5)
    assert calls() == {("resample_trajectories", "numba"): 1}
    result.sum().backward()
    found = calls()
    assert found.pop(("resample_trajectories", "numba")) == 1
    assert sum(found.values()) == 1  # the gradient is an op of its own


def test_calls_inside_of_jit_are_not_counted(on):
    jax = pytest.importorskip("jax")
    x = jax.numpy.arange(3, dtype="float32")
    jax.jit(rc.asof_index)(x, x).block_until_ready()
    assert calls() == {}
    rc.asof_index(x, x)
    assert list(calls().values()) == [1]


def test_torch_compile_counts_what_runs(on):
    torch = pytest.importorskip("torch")
    src, tgt = torch.tensor([0.0, 10.0]), torch.tensor([3.0])
    compiled = torch.compile(rc.asof_index, fullgraph=True, backend="eager")
    for _ in range(3):
        assert compiled(src, tgt).tolist() == [0]
    assert calls() == {("asof_index", "numba"): 3}


def test_bytes_of_each_array_count_once(on):
    data = np.zeros((4, 2), np.float32)
    out = np.empty((3, 2), np.float32)
    times = np.arange(4.0)
    result = rc.resample_trajectories(data, times, times[:3], out=out, return_valid=True)
    ((_, x),) = rc.get_metrics().items()
    assert x.bytes == data.nbytes + times.nbytes + times[:3].nbytes + out.nbytes + result[1].nbytes
    rc.reset_metrics()
    rc.asof_index(SRC, SRC)
    ((_, x),) = rc.get_metrics().items()
    assert x.bytes == SRC.nbytes + 12


def test_arrays_in_the_place_of_numbers_count_as_bytes(on):
    data, times = np.zeros((2, 3, 1), np.float32), np.tile(np.arange(3.0), (2, 1))
    late = np.zeros(2)
    result = rc.resample_trajectories(data, times, times, latency=late)
    ((_, x),) = rc.get_metrics().items()
    assert x.bytes == data.nbytes + times.nbytes + late.nbytes + result.nbytes


# --------------------------------------------------------------------------------- the figures


def test_figures(on):
    for i in range(1, 5001):
        metrics.add("op", "numba", float(i), 10**9, None)
    x = rc.get_metrics()["op", "numba"]
    assert (x.calls, x.host.calls, x.host.total) == (5000, 5000, 12502500.0)
    assert (x.host.mean, x.host.min, x.host.max) == (2500.5, 1.0, 5000.0)  # of all
    last = np.arange(5001 - 4096, 5001.0)
    assert x.host.p50 == np.percentile(last, 50)
    assert x.host.p99 == pytest.approx(np.percentile(last, 99))
    assert x.gb_per_s == pytest.approx(5000 / 12502500)
    assert x.gpu is None


def test_gpu_times_are_read_late_and_in_order(on):
    first, second = Timer(0.5, done=False), Timer(1.5)
    metrics.add("op", "cuda", 1.0, 10**9, first)
    metrics.add("op", "cuda", 1.0, 10**9, second)
    assert len(metrics._pending) == 2  # no later one is asked before the first is done
    first.done = True
    metrics.add("op", "cuda", 1.0, 10**9, third := Timer(4.0, done=False))
    assert len(metrics._pending) == 1
    assert not any(timer.waited for timer in (first, second, third))
    x = rc.get_metrics()["op", "cuda"]
    assert third.waited
    assert (x.gpu.calls, x.gpu.total, x.gpu.min, x.gpu.p50, x.gpu.max) == (3, 6.0, 0.5, 1.5, 4.0)
    assert x.gb_per_s == pytest.approx(0.5)


def test_a_busy_gpu_does_not_fill_the_memory(on):
    for _ in range(2000):
        metrics.add("op", "cuda", 1.0, 1000, Timer(1.0, done=False))
    assert len(metrics._pending) == 1024
    x = rc.get_metrics()["op", "cuda"]
    assert (x.calls, x.gpu.calls) == (2000, 1024)
    assert x.gb_per_s == pytest.approx(1e-6)  # bytes of the timed calls alone


def test_without_gpu_times_there_is_no_rate(on):
    metrics.add("op", "cuda", 1.0, 1000, None)
    x = rc.get_metrics()["op", "cuda"]
    assert x.gpu is None
    assert x.gb_per_s is None


def test_threads_count_every_call(on):
    rc.asof_index(SRC, TGT)
    start = threading.Barrier(8)

    def work():
        start.wait()
        for _ in range(200):
            rc.asof_index(SRC, TGT)

    threads = [threading.Thread(target=work) for _ in range(8)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    x = rc.get_metrics()["asof_index", "numba"]
    assert x.calls == x.host.calls == 1601
    assert x.bytes == 1601 * (SRC.nbytes + TGT.nbytes + 8)


def _worker(connection):
    before = calls()
    rc.asof_index(SRC, TGT)
    connection.send((before, calls()))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:.*fork.*:RuntimeWarning")
def test_a_forked_worker_starts_with_none(on):
    if "fork" not in multiprocessing.get_all_start_methods():
        pytest.skip("no fork here")
    rc.asof_index(SRC, TGT)
    metrics.add("op", "cuda", 1.0, 1, Timer(done=False))
    here, there = multiprocessing.Pipe()
    with metrics._lock:  # as if another thread held it
        worker = multiprocessing.get_context("fork").Process(target=_worker, args=(there,))
        worker.start()
    assert here.poll(60)
    assert here.recv() == ({}, {("asof_index", "numba"): 1})
    worker.join(60)
    assert calls() == {("asof_index", "numba"): 1, ("op", "cuda"): 1}


# --------------------------------------------------------------------------------- how it shows


def test_tables(on, capsys):
    metrics.add("op", "cuda", 2e-6, 3 * 10**6, Timer(1e-3))
    metrics.add("<b>", "numba", 1e-6, 0, None)
    found = rc.get_metrics()
    head, other, of_op = str(found).splitlines()
    assert re.split(r"\s{2,}", head)[:5] == ["op", "backend", "calls", "host mean us", "min"]
    assert other.split() == ["<b>", "numba", "1", *["1.0"] * 5, *["-"] * 5, "0.000", "0.00"]
    assert of_op.split() == ["op", "cuda", "1", *["2.0"] * 5, *["1000.0"] * 5, "3.000", "3.00"]
    assert "&lt;b&gt;" in found._repr_html_()
    assert "<b>" not in found._repr_html_()
    rc.print_metrics()
    assert capsys.readouterr().out == f"{found}\n"
    rc.reset_metrics()
    assert str(rc.get_metrics()) == "no calls"


# ----------------------------------------------------------------------------------- Prometheus


def test_prometheus_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    for function in (metrics.prometheus_text, metrics.collector):
        with pytest.raises(ImportError, match=re.escape("pip install 'robocache-cupy[metrics]'")):
            function()


def _fill():
    for seconds in (1.0, 3.0):
        metrics.add("op", "cuda", seconds, 500, Timer(seconds / 2))
    metrics.add("op", "numba", 5.0, 7, None)


EXPECTED = {
    ("robocache_op_host_seconds_count", "cuda", None): 2,
    ("robocache_op_host_seconds_sum", "cuda", None): 4,
    ("robocache_op_host_seconds", "cuda", "0.5"): 2,
    ("robocache_op_host_seconds", "cuda", "0.99"): 2.98,
    ("robocache_op_host_seconds_count", "numba", None): 1,
    ("robocache_op_host_seconds_sum", "numba", None): 5,
    ("robocache_op_host_seconds", "numba", "0.5"): 5,
    ("robocache_op_host_seconds", "numba", "0.99"): 5,
    ("robocache_op_gpu_seconds_count", "cuda", None): 2,
    ("robocache_op_gpu_seconds_sum", "cuda", None): 2,
    ("robocache_op_gpu_seconds", "cuda", "0.5"): 1,
    ("robocache_op_gpu_seconds", "cuda", "0.99"): 1.49,
    ("robocache_op_bytes_total", "cuda", None): 1000,
    ("robocache_op_bytes_total", "numba", None): 7,
}


def test_prometheus_text(on, require):
    try:
        from prometheus_client import CollectorRegistry, generate_latest, parser
    except ImportError as e:
        require.skip("prometheus", str(e))
    _fill()
    text = metrics.prometheus_text()
    found = {
        (s.name, s.labels["backend"], s.labels.get("quantile")): s.value
        for family in parser.text_string_to_metric_families(text)
        for s in family.samples
    }
    assert found == pytest.approx(EXPECTED)
    registry = CollectorRegistry()
    registry.register(metrics.collector())
    assert generate_latest(registry).decode() == text
    rc.reset_metrics()
    assert 'op="op"' not in generate_latest(registry).decode()


def test_prometheus_stand_in(on, monkeypatch):
    """The calls that are made of the library, where it is not installed."""

    class Family:
        def __init__(self, name, text, labels):
            assert text
            assert tuple(labels) == ("op", "backend")
            self.name, self.samples = name, {}

        def add_metric(self, key, *value, **values):
            assert key[0] == "op"
            for name, x in {"total": value[0]}.items() if value else values.items():
                self.samples[f"{self.name}_{name.removesuffix('_value')}", key[1], None] = x

        def add_sample(self, name, labels, value):
            self.samples[name, labels["backend"], labels["quantile"]] = value

    core = types.ModuleType("prometheus_client.core")
    core.SummaryMetricFamily = core.CounterMetricFamily = Family
    client = types.ModuleType("prometheus_client")
    client.core = core
    monkeypatch.setitem(sys.modules, "prometheus_client", client)
    monkeypatch.setitem(sys.modules, "prometheus_client.core", core)
    _fill()
    found = {}
    for family in metrics.collector().collect():
        found |= family.samples
    assert found == pytest.approx(EXPECTED)


# --------------------------------------------------------------------------------------- on a GPU


@pytest.fixture
def torch_cuda(require):
    try:
        import torch

        torch.zeros(1, device="cuda")
    except Exception as e:
        require.skip("torch_cuda", f"{type(e).__name__}: {e}")
    return torch


def test_the_hot_path_does_not_wait(torch_cuda, on):
    """A slow kernel is under way on the caller's stream: the call returns, its time comes later."""
    torch = torch_cuda
    src, tgt = torch.arange(8.0, device="cuda"), torch.arange(8.0, device="cuda")
    rc.asof_index(src, tgt)
    torch.cuda.synchronize()
    rc.reset_metrics()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(2_000_000_000)  # about a second
        for _ in range(8):
            rc.asof_index(src, tgt)
        assert not stream.query()
        assert len(metrics._pending) == 8
    x = rc.get_metrics()["asof_index", "cuda"]
    assert stream.query()
    assert x.gpu.calls == 8
    assert x.gpu.max < 0.1  # the slow kernel came before the first event


def test_a_graph_takes_no_events_in(torch_cuda, on):
    torch = torch_cuda
    src, tgt = torch.arange(8.0, device="cuda"), torch.arange(8.0, device="cuda")
    rc.asof_index(src, tgt)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        index = rc.asof_index(src, tgt)
    tgt.fill_(3)
    graph.replay()
    assert index.tolist() == [3] * 8
    x = rc.get_metrics()["asof_index", "cuda"]
    assert (x.calls, x.gpu.calls) == (2, 1)


def test_crossing_over_counts_for_the_backend_that_runs(torch_cuda, on):
    src, tgt = torch_cuda.arange(8.0, device="cuda"), torch_cuda.arange(8.0, device="cuda")
    rc.asof_index(src, tgt, backend="numba")
    rc.asof_index(SRC, TGT, backend="cuda")
    found = rc.get_metrics()
    assert {key: x.calls for key, x in found.items()} == {
        ("asof_index", "cuda"): 1,
        ("asof_index", "numba"): 1,
    }
    assert found["asof_index", "numba"].gpu is None
    assert found["asof_index", "cuda"].gpu.calls == 1
