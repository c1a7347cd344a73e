"""The mechanism that every op shares, with `resample_trajectories` as the op."""

import ctypes
import inspect
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

import robocache_cupy as rc
from robocache_cupy._core import array, driver, fast, kernel, plan
from robocache_cupy._core.kernel import Kernel
from robocache_cupy._core.plan import Op

ROOT = Path(__file__).parent.parent
OP = Op.all["resample_trajectories"]


def example(rows=2, samples=9, targets=7, features=4, dtype="float32", clock="float64", seed=0):
    """Data, stamps and targets, some of them hits and some beyond the ends."""
    rng = np.random.default_rng(seed)
    data = rng.standard_normal((rows, samples, features)).astype(dtype)
    unit = 10**7 if clock.startswith("int") else 0.01
    stamps = (np.cumsum(rng.integers(1, 5, (rows, samples)), 1) * unit).astype(clock)
    times = (rng.integers(0, 2 * stamps.max() / unit + 2, (rows, targets)) * unit / 2).astype(clock)
    return data, stamps, np.sort(times, 1)


def bits(x) -> tuple:
    x = np.ascontiguousarray(x)
    return x.dtype, x.shape, x.tobytes()


def placed(x: np.ndarray, shift: int) -> np.ndarray:
    """A copy at an address that is `shift` modulo 16."""
    memory = np.zeros(x.nbytes + 32, np.uint8)
    start = (shift - memory.ctypes.data) % 16
    copy = memory[start : start + x.nbytes].view(x.dtype).reshape(x.shape)
    copy[...] = x
    return copy


FORKS = ("-W", "ignore::DeprecationWarning")  # Python 3.12 warns of a fork beside threads


def script(code: str, *, python=(), timeout=120, **env) -> str:
    """What a fresh Python prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *python, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", **env},
        timeout=timeout, text=True, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def at_once(work, count: int) -> None:
    """Run work(i) in `count` threads that start together."""
    failures = []
    start = threading.Barrier(count)

    def one(i: int) -> None:
        try:
            start.wait()
            work(i)
        except BaseException as e:
            failures.append(e)

    threads = [threading.Thread(target=one, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


@pytest.fixture
def op(monkeypatch):
    """The op without plans."""
    monkeypatch.setattr(OP, "cache", {})
    return OP


@pytest.fixture
def planned(op, monkeypatch):
    """A list that grows by one at every call of the op's own function."""
    calls = []
    fn = op.fn

    def counting(**arguments):
        calls.append(arguments)
        return fn(**arguments)

    monkeypatch.setattr(op, "fn", counting)
    return calls


@pytest.fixture
def seen(monkeypatch):
    """The parameters of each kernel launched on the host, by name."""
    launches = []
    on_host = Kernel.on_host

    def recording(self, launch, args):
        names = inspect.signature(self.reference.py_func).parameters
        launches.append({"kernel": self.name, **dict(zip(names, args, strict=False))})
        on_host(self, launch, args)

    monkeypatch.setattr(Kernel, "on_host", recording)
    return launches


def optional(name: str):
    return pytest.importorskip(name)


# -------------------------------------------------------------- frameworks: what comes is what goes


class Producer:
    """The least that DLPack and an op ask for."""

    def __init__(self, x: np.ndarray) -> None:
        self._x = x
        self.shape, self.dtype = x.shape, x.dtype

    def __dlpack__(self, **kwargs):
        return self._x.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self._x.__dlpack_device__()


class BareProducer:
    """DLPack and nothing else."""

    def __init__(self, x: np.ndarray) -> None:
        self._x = x

    def __dlpack__(self, **kwargs):
        return self._x.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self._x.__dlpack_device__()


def strict(x: np.ndarray):
    return optional("array_api_strict").asarray(x)


PRODUCERS = pytest.mark.parametrize("produce", [Producer, BareProducer, strict])


@pytest.mark.parametrize("clock", ["float32", "float64", "int64"])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_result_has_the_framework_and_the_bits_of_numpy(lib, dtype, clock):
    if dtype == "bfloat16":
        optional("ml_dtypes")
        dtype = array.bfloat16()
    arrays = example(dtype=dtype, clock=clock)
    given = [lib.array(x) for x in arrays]
    options = {"return_valid": True, "return_index": True, "latency": 0.013}
    result = rc.resample_trajectories(*given, **options)
    expected = rc.resample_trajectories(*arrays, **options)
    assert result._fields == expected._fields
    for field, x, y in zip(result._fields, result, expected, strict=True):
        assert type(x) is type(given[0]), field
        assert array.framework(type(x)).device(x) == array.framework(type(x)).device(given[0])
        assert bits(lib.numpy(x)) == bits(y), field


@PRODUCERS
def test_other_dlpack_producers_give_numpy_without_a_copy(produce, seen):
    arrays = example()
    result = rc.resample_trajectories(*map(produce, arrays))
    assert type(result) is np.ndarray
    for name, x in zip(("data", "src_times", "tgt_times"), arrays, strict=True):
        assert seen[-1][name] == x.ctypes.data
    assert bits(result) == bits(rc.resample_trajectories(*arrays))


@PRODUCERS
@pytest.mark.parametrize("lengths", [[3, 9], np.array([3, 9])], ids=["list", "numpy"])
def test_other_dlpack_producers_take_host_arrays(produce, lengths):
    arrays = example()
    result = rc.resample_trajectories(*map(produce, arrays), lengths=lengths, latency=[0.0, 0.01])
    expected = rc.resample_trajectories(
        *arrays, lengths=np.array([3, 9]), latency=np.array([0.0, 0.01])
    )
    assert bits(result) == bits(expected)


def test_a_producer_elsewhere_is_refused():
    class OnRocm(Producer):
        def __dlpack_device__(self):
            return 10, 0

    with pytest.raises(TypeError, match="OnRocm is on DLPack device type 10"):
        rc.resample_trajectories(*map(OnRocm, example()))


@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
def test_the_kernel_sees_the_callers_memory(framework, seen, op):
    if framework != "numpy":
        optional(framework)
    arrays = example(dtype="float32", clock="float32")
    if framework == "numpy":
        given, addresses = arrays, [x.ctypes.data for x in arrays]
    elif framework == "torch":
        import torch

        given = [torch.from_numpy(x) for x in arrays]
        addresses = [x.data_ptr() for x in given]
    else:
        import jax

        given = [jax.device_put(x, jax.devices("cpu")[0]) for x in arrays]
        addresses = [x.unsafe_buffer_pointer() for x in given]
    for _ in range(2):  # cold and warm
        result = np.asarray(rc.resample_trajectories(*given))
        assert [seen[-1][n] for n in ("data", "src_times", "tgt_times")] == addresses
    assert bits(result) == bits(rc.resample_trajectories(*arrays))


def test_out_is_filled_in_place(seen):
    arrays = example()
    out = np.full((2, 9, 4), 7, "float32")[:, 1:8]
    assert rc.resample_trajectories(*arrays, out=out) is out
    assert seen[-1]["out"] == out.ctypes.data
    np.testing.assert_array_equal(out, rc.resample_trajectories(*arrays))


def test_a_read_only_out_is_refused():
    arrays = example()
    out = np.zeros((2, 7, 4), "float32")
    rc.resample_trajectories(*arrays, out=out)
    out.flags.writeable = False
    before = out.copy()
    with pytest.raises((TypeError, ValueError), match="out"):
        rc.resample_trajectories(arrays[0] + 1, *arrays[1:], out=out)
    np.testing.assert_array_equal(out, before)


# ----------------------------------------------------------------------------------- what is copied


def torch_like(x: np.ndarray):
    """A tensor with the strides of a NumPy array."""
    return optional("torch").from_numpy(x)


@pytest.mark.parametrize("convert", [np.asarray, torch_like], ids=["numpy", "torch"])
def test_arrays_with_contiguous_features_are_never_copied(convert, seen):
    data, stamps, times = example(rows=3, samples=12)
    wide = np.concatenate([data, data[:, :, ::-1]], 2)  # a row is part of a longer one
    both = np.stack([stamps, stamps + 1], 2)  # stamps with a stride of two
    views = {
        "row-sliced data": (data[:, ::2], stamps[:, ::2], times),
        "part of each row": (wide[:, :, :4], stamps, times),
        "every other trajectory": (data[::2], stamps[::2], times[::2]),
        "sliced stamps": (data, both[:, :, 0], times),
        "sliced targets": (data, stamps, np.repeat(times, 2, 1)[:, ::2]),
        "transposed stamps": (data, np.ascontiguousarray(stamps.T).T, times),
        "transposed batch": (np.ascontiguousarray(data.transpose(1, 0, 2)).transpose(1, 0, 2),
                             stamps, times),
    }  # fmt: skip
    for name, arrays in views.items():
        given = [convert(x) for x in arrays]
        result = rc.resample_trajectories(*given)
        addresses = [array.framework(type(x)).pointer(x) for x in given]
        assert [seen[-1][n] for n in ("data", "src_times", "tgt_times")] == addresses, name
        expected = rc.resample_trajectories(*map(np.ascontiguousarray, arrays))
        assert bits(np.asarray(result)) == bits(expected), name


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_expanded_arrays_are_never_copied(framework, seen):
    data, stamps, times = example(rows=1)
    if framework == "numpy":
        given = [np.broadcast_to(x, (5, *x.shape[1:])) for x in (data, stamps, times)]
    else:
        given = [optional("torch").from_numpy(x).expand(5, *x.shape[1:])
                 for x in (data, stamps, times)]  # fmt: skip
    result = np.asarray(rc.resample_trajectories(*given))
    addresses = [x.ctypes.data for x in (data, stamps, times)]
    assert [seen[-1][n] for n in ("data", "src_times", "tgt_times")] == addresses
    assert bits(result) == bits(rc.resample_trajectories(data, stamps, times).repeat(5, 0))


@pytest.mark.parametrize("framework", ["numpy", "torch"])
@pytest.mark.parametrize("view", ["every other feature", "transposed features", "reversed", "odd"])
def test_other_feature_axes_are_copied_once(framework, view, seen, monkeypatch):
    data, stamps, times = example(features=12)
    if view == "every other feature":
        data = data[:, :, ::2]
    elif view == "transposed features":
        data = data.reshape(2, 9, 3, 4).transpose(0, 1, 3, 2)
    elif framework == "torch":
        pytest.skip("torch has no such arrays")
    elif view == "reversed":
        data = data[:, :, ::-1]
    else:  # elements at odd multiples of their size
        record = np.dtype([("flag", "i1"), ("x", "f4")])
        packed = np.zeros(data.shape, record)
        packed["x"] = data
        data = packed["x"]
    lead = data if framework == "numpy" else optional("torch").from_numpy(data)
    found = array.framework(type(lead))
    copies = []

    def dense(x):
        copies.append(x)
        return found.dense(x)

    monkeypatch.setitem(array.FRAMEWORKS, type(lead), found._replace(dense=dense))
    monkeypatch.setattr(OP, "cache", {})
    convert = np.asarray if framework == "numpy" else optional("torch").from_numpy
    rest = [convert(x) for x in (stamps, times)]
    result = np.asarray(rc.resample_trajectories(lead, *rest))
    assert len(copies) == 1
    assert copies[0] is lead
    assert seen[-1]["data"] != found.pointer(lead)
    assert [seen[-1][n] for n in ("src_times", "tgt_times")] == [found.pointer(x) for x in rest]
    assert bits(result) == bits(rc.resample_trajectories(data.copy(), stamps, times))


def test_array_of_latencies_is_made_dense():
    arrays = example(rows=3)
    latency = np.array([0.0, 9.0, 0.01, 9.0, 0.02])
    result = rc.resample_trajectories(*arrays, latency=latency[::2])
    assert bits(result) == bits(rc.resample_trajectories(*arrays, latency=latency[::2].copy()))


def test_foreign_byte_order_is_refused():
    data, stamps, times = example()
    with pytest.raises(TypeError, match="native byte order"):
        rc.resample_trajectories(data.astype(">f4"), stamps, times)


# ----------------------------------------------------------------------------------- plans are kept


def test_a_second_call_plans_nothing(lib, planned):
    first = 0
    for seed in range(3):
        arrays = [placed(x, 0) for x in example(seed=seed)]
        given = arrays if lib.name == "numpy" else [lib.array(x) for x in arrays]
        result = rc.resample_trajectories(*given)
        first = first or len(planned)
        assert len(planned) == first
    assert bits(lib.numpy(result)) == bits(rc.resample_trajectories(*arrays))


CHANGING = {
    "latency": ({}, [0.01, 0.02, -0.5, 1]),
    "tolerance": ({}, [0.0, 0.02, 1, float("inf")]),
    "max_gap": ({}, [0.01, 0.02, 1]),
    "fill_value": ({}, [1.5, -2.0, 0, float("nan")]),
    "extrapolate": ({}, [1.5, -2.0, 0]),
    "src_start": ({"src_hz": 80.0, "src_times": None}, [0.01, -0.02, 1]),
    "src_hz": ({"src_times": None}, [70.0, 100, 33.3]),
    "hz": ({"tgt_times": None, "num": 5}, [70.0, 100, 33.3]),
    "t_start": ({"tgt_times": None, "num": 5, "hz": 50.0}, [0.01, 0.02, -1]),
}


@pytest.mark.parametrize("name", CHANGING)
def test_changing_numbers_plan_nothing(name, planned):
    data, stamps, times = (placed(x, 0) for x in example())
    fixed, values = CHANGING[name]
    call = {"data": data, "src_times": stamps, "tgt_times": times, "return_valid": True, **fixed}
    results = [rc.resample_trajectories(**call, **{name: value}) for value in values]
    assert len(planned) == 1
    for value, result in zip(values, results, strict=True):
        OP.cache.clear()
        again = rc.resample_trajectories(**call, **{name: value})
        assert list(map(bits, result)) == list(map(bits, again))
    assert len({bits(x.values) + bits(x.valid) for x in results}) > 1  # or it tests nothing


def test_a_changed_pair_of_constants_plans_nothing(planned):
    arrays = [placed(x, 0) for x in example()]
    for left, right in ((0.0, 1.0), (2.0, 3.0)):
        result = rc.resample_trajectories(*arrays, extrapolate=(left, right))
        beyond = arrays[2] > arrays[1][:, -1:]
        assert beyond.any()
        assert (result[beyond] == right).all()
    assert len(planned) == 1


def test_each_alignment_has_its_own_plan(planned):
    """A shifted view has the same metadata and must not meet a 16-byte load."""
    arrays = example(features=8)
    expected = rc.resample_trajectories(*[placed(x, 0) for x in arrays])
    for shift in (4, 8, 0, 4, 8):
        data, stamps, times = (placed(x, 0) for x in arrays)
        result = rc.resample_trajectories(placed(data, shift), stamps, times)
        assert bits(result) == bits(expected)
    assert [meta["data"].misaligned for meta in planned] == [0, 4, 8]


def test_options_that_are_lists_are_kept_too(planned):
    arrays = [placed(x, 0) for x in example()]
    with pytest.raises(TypeError, match="method"):
        rc.resample_trajectories(*arrays, method=["linear"])
    for _ in range(2):
        rc.resample_trajectories(*arrays, method=[(0, "linear"), (slice(1, 2), "nearest")])
    for _ in range(2):
        rc.resample_trajectories(*arrays, dtype=np.dtype("float64"))
    assert len(planned) == 3


def test_an_error_is_raised_at_every_call(planned):
    data, stamps, times = example()
    for _ in range(2):
        with pytest.raises(ValueError, match="src_times has shape"):
            rc.resample_trajectories(data, stamps[:, 1:], times)
    assert len(planned) == 2
    assert not OP.cache


@pytest.mark.parametrize("order", [(2, 2.0), (2.0, 2)])
def test_options_that_compare_equal_are_the_same_option(op, order):
    """2 == 2.0 find the same plan, so the first of them must not decide what the second does."""
    data, stamps, _ = example()
    shapes = {rc.resample_trajectories(data, stamps, hz=10.0, num=n).shape[-2] for n in order}
    assert shapes == {2}


def test_the_cache_is_bounded_and_keeps_what_is_used(planned):
    bound = plan._CACHE_SIZE
    assert bound == 1024
    data, stamps, _ = example(rows=1, samples=3)
    times = placed(np.linspace(0.0, 0.1, 2 * bound + 1)[None], 0)
    hot, cold = times[:, :1], times[:, :2]
    rc.resample_trajectories(data, stamps, hot)
    rc.resample_trajectories(data, stamps, cold)
    for targets in range(3, 2 * bound):
        rc.resample_trajectories(data, stamps, times[:, :targets])
        rc.resample_trajectories(data, stamps, hot)
        assert len(OP.cache) <= bound
    assert len(OP.cache) == bound
    count = len(planned)
    assert count == 2 * bound - 1
    rc.resample_trajectories(data, stamps, hot)
    assert len(planned) == count  # still there
    rc.resample_trajectories(data, stamps, cold)
    assert len(planned) == count + 1  # gone


def test_the_cache_stays_bounded_when_all_of_it_is_in_use(op, monkeypatch):
    monkeypatch.setattr(plan, "_CACHE_SIZE", 4)
    data, stamps, times = example(rows=1, samples=3, targets=40)
    for targets in range(1, 40):
        rc.resample_trajectories(data, stamps, times[:, :targets])
        for used in range(1, targets):
            rc.resample_trajectories(data, stamps, times[:, :used])
        assert len(op.cache) <= 4


def test_sizes_that_were_read_are_bounded(op, monkeypatch):
    monkeypatch.setattr(plan, "_CACHE_SIZE", 4)
    data, stamps = np.zeros((1, 3, 1)), np.array([[0.0, 0.5, 1.0]])
    for hz in range(1, 12):
        assert rc.resample_trajectories(data, stamps, hz=hz).shape == (1, hz + 1, 1)
    (reader,) = op.cache.values()
    assert len(reader._then) <= 4


def test_frameworks_do_not_share_plans(op, monkeypatch):
    """CuPy describes an array on device 0 as NumPy does a read-only one: False == 0."""

    class OnDevice(np.ndarray):
        pass

    made = []

    def allocator(shape, dtype, device):
        def allocate():
            made.append(shape)
            return np.empty(shape, dtype).view(OnDevice)

        return allocate

    def signature(x):
        address = x.ctypes.data
        return address, (x.shape, x.strides, x.dtype, 0, address & 15)

    numpy = array.framework(np.ndarray)
    cupy = numpy._replace(name="cupy", signature=signature, allocator=allocator)
    monkeypatch.setitem(array.FRAMEWORKS, OnDevice, cupy)
    arrays = [placed(x, 0) for x in example()]
    for x in arrays:
        x.flags.writeable = False
    assert type(rc.resample_trajectories(*arrays)) is np.ndarray
    assert type(rc.resample_trajectories(*[x.view(OnDevice) for x in arrays])) is OnDevice
    assert len(made) == 1


# ----------------------------------------------------------------------------- what is not accepted


def test_a_mixture_of_frameworks_is_refused():
    torch = optional("torch")
    data, stamps, times = example()
    words = (
        r"resample_trajectories takes arrays of one framework on one device, got "
        r"data \(numpy on cpu\), src_times \(torch on cpu\), tgt_times \(numpy on cpu\)"
    )
    with pytest.raises(TypeError, match=words):
        rc.resample_trajectories(data, torch.tensor(stamps), times)
    with pytest.raises(TypeError, match=r"data \(torch on cpu\), src_times \(numpy on cpu\)"):
        rc.resample_trajectories(torch.tensor(data), stamps, times)


def test_a_mixture_with_jax_is_refused():
    jnp = optional("jax.numpy")
    data, stamps, times = example(clock="float32")
    with pytest.raises(TypeError, match=r"data \(jax on (cpu|cuda:0)\), src_times \(numpy"):
        rc.resample_trajectories(jnp.asarray(data), stamps, times)
    with pytest.raises(TypeError, match=r"data \(numpy on cpu\), src_times \(jax on c"):
        rc.resample_trajectories(data, jnp.asarray(stamps), times)


def test_a_mixture_with_another_producer_is_refused():
    data, stamps, times = example()
    with pytest.raises(TypeError, match=r"data \(Producer\), src_times \(numpy on cpu\)"):
        rc.resample_trajectories(Producer(data), stamps, times)


@pytest.mark.parametrize("data", [[[0.0], [1.0]], None, 3.0, "data", np.float64(3)])
def test_data_that_is_no_array_is_refused(data):
    with pytest.raises(TypeError, match=rf"data must be an array.*{type(data).__name__}"):
        rc.resample_trajectories(data, np.arange(2.0), np.arange(2.0))


@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
def test_small_parameters_may_be_lists_or_numpy_arrays(framework):
    if framework == "numpy":
        convert = np.asarray
    elif framework == "torch":
        convert = optional("torch").from_numpy
    else:
        convert = optional("jax.numpy").asarray
    arrays = example(clock="float32")
    expected = rc.resample_trajectories(
        *arrays, lengths=np.array([3, 9]), tgt_lengths=np.array([7, 2]),
        latency=np.array([0.0, 0.01]), fill_value=-1.0,
    )  # fmt: skip
    given = [convert(x) for x in arrays]
    for of in (list, tuple, np.array):
        result = rc.resample_trajectories(
            *given, lengths=of([3, 9]), tgt_lengths=of([7, 2]),
            latency=[0.0, 0.01] if of is tuple else of([0.0, 0.01]), fill_value=-1.0,
        )  # fmt: skip
        assert type(result) is type(given[0])
        assert bits(np.asarray(result)) == bits(expected)


def test_offsets_may_be_a_list():
    data, stamps = np.arange(5.0)[:, None], np.array([0.0, 1, 0, 1, 2])
    times = np.array([0.5])
    result = rc.resample_trajectories(data, stamps, times, offsets=[0, 2, 5])
    np.testing.assert_array_equal(result.ravel(), [0.5, 2.5])


def test_whole_seconds_of_latency_may_be_a_list(op):
    arrays = example()
    result = rc.resample_trajectories(*arrays, latency=[0, 1])
    assert bits(result) == bits(rc.resample_trajectories(*arrays, latency=[0.0, 1.0]))


@pytest.mark.parametrize("make", ["read-only", "reversed", "sliced"])
def test_any_numpy_array_may_stand_beside_torch_data(make):
    torch = optional("torch")
    arrays = example()
    lengths = np.array([3, 9])
    expected = rc.resample_trajectories(*arrays, lengths=lengths)
    if make == "read-only":
        lengths.flags.writeable = False
    elif make == "reversed":
        lengths = lengths[::-1].copy()[::-1]
    else:
        lengths = np.repeat(lengths, 2)[::2]
    result = rc.resample_trajectories(*map(torch.from_numpy, arrays), lengths=lengths)
    assert bits(result.numpy()) == bits(expected)


# -------------------------------------------------------------------------------------- the backend


def test_results_larger_than_memory_are_refused_before_allocating(monkeypatch):
    x, t, _ = example(clock="float32")
    monkeypatch.setattr(kernel, "memory_of", lambda device: 2**20)
    targets = np.zeros(2**20, np.float32)
    with pytest.raises(MemoryError, match=r"are \d+ bytes \([\d.]+ GiB\): the host has 0.0 GiB"):
        rc.resample_trajectories(x, t, targets)


@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
def test_auto_and_numba_are_the_same_on_the_cpu(framework):
    if framework == "numpy":
        convert = np.asarray
    elif framework == "torch":
        convert = optional("torch").from_numpy
    else:
        convert = optional("jax.numpy").asarray
    given = [convert(x) for x in example(clock="float32")]
    results = [
        rc.resample_trajectories(*given, backend=backend, return_valid=True, return_index=True)
        for backend in ("auto", "numba")
    ]
    assert list(map(bits, results[0])) == list(map(bits, results[1]))
    assert type(results[1].values) is type(given[0])


@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
def test_unknown_backends_are_named(framework):
    if framework == "numpy":
        convert = np.asarray
    elif framework == "torch":
        convert = optional("torch").from_numpy
    else:
        convert = optional("jax.numpy").asarray
    given = [convert(x) for x in example(clock="float32")]
    with pytest.raises(ValueError, match="backend is 'gpu', expected one of 'auto', 'cuda', 'nu"):
        rc.resample_trajectories(*given, backend="gpu")
    with pytest.raises(ValueError, match="'pytorch', which is now called 'numba'"):
        rc.resample_trajectories(*given, backend="pytorch")


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_cuda_without_cupy_names_the_extra(framework):
    if framework == "torch":
        optional("torch")
    said = script(
        f"""
        import sys
        sys.modules["cupy"] = None  # importing it raises
        import {framework} as xp
        import robocache_cupy as rc
        x, t = xp.zeros((2, 1)), xp.asarray([0.0, 1.0])
        for _ in range(2):
            try:
                rc.resample_trajectories(x, t, t, backend="cuda")
            except ImportError as e:
                print(e)
        print(rc.resample_trajectories(x, t, t).shape[0])
        """
    )
    first, second, rows = said.splitlines()
    assert first == second
    assert "pip install 'robocache-cupy[cuda12]'" in first
    assert "[cuda13]" in first
    assert rows == "2"


@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
def test_cuda_without_a_device_is_a_sentence(framework):
    optional("cupy")
    if framework != "numpy":
        optional(framework)
    said = script(
        f"""
        import {framework if framework != "jax" else "jax.numpy"} as xp
        import robocache_cupy as rc
        x, t = xp.zeros((2, 1)), xp.asarray([0.0, 1.0])
        for _ in range(2):
            try:
                rc.resample_trajectories(x, t, t, backend="cuda")
            except RuntimeError as e:
                print(type(e).__name__ + ":", e)
        """,
        CUDA_VISIBLE_DEVICES="",
    )
    for line in said.splitlines():
        assert line.startswith("RuntimeError: CuPy finds no usable CUDA device (cudaError")
        assert line.endswith("use backend='numba'")
    assert len(said.splitlines()) == 2


# -------------------------------------------------------------------------------- forks and threads


def test_a_child_of_a_process_that_used_cuda_says_so():
    optional("cupy")
    said = script(
        """
        import os
        import numpy as np
        import robocache_cupy as rc
        from robocache_cupy._core import kernel
        x, t = np.zeros((2, 1)), np.array([0.0, 1.0])
        kernel._cuda_used = True
        child = os.fork()
        if child == 0:
            try:
                rc.resample_trajectories(x, t, t, backend="cuda")
            except RuntimeError as e:
                print(e, flush=True)
            print(rc.resample_trajectories(x, t, t).ravel(), flush=True)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        print(kernel._cuda_lost)
        """,
        python=FORKS,
    )
    sentence, values, parent = said.splitlines()
    assert "forked after CUDA had been used" in sentence
    assert "get_context('spawn')" in sentence
    assert (values, parent) == ("[0. 0.]", "False")


def test_a_plan_for_a_device_is_not_warm_in_a_child():
    said = script(
        """
        import os
        import numpy as np
        import robocache_cupy as rc
        from robocache_cupy._core.plan import Op
        t = np.arange(2.0)
        rc.resample_trajectories(t[:, None], t, t)
        cache = Op.all["resample_trajectories"].cache
        print(len(cache), flush=True)
        child = os.fork()
        if child == 0:
            print(len(cache), flush=True)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        print(len(cache))
        """,
        python=FORKS,
    )
    assert said.split() == ["1", "0", "1"]


LARGE = """
    import numpy as np
    import robocache_cupy as rc
    from robocache_cupy._core import kernel
    kernel._POOL_SIZE = 4  # whatever this machine has

    def work():
        data = np.arange(64 * 512 * 16, dtype="float32").reshape(64, 512, 16)
        stamps = np.arange(512.0)
        result = rc.resample_trajectories(data, stamps, stamps[:-1] + 0.5)
        np.testing.assert_array_equal(result, data[:, :-1] + 8)
        assert kernel._executor is not None  # the pool was used
        return True
"""


def test_a_forked_child_has_a_pool_of_its_own():
    said = script(
        LARGE
        + """
    import multiprocessing
    import threading
    assert work()
    pool = kernel._executor

    def child(queue):
        assert kernel._executor is None
        queue.put(work() and kernel._executor is not pool)

    context = multiprocessing.get_context("fork")
    for _ in range(3):
        queue = context.SimpleQueue()
        process = context.Process(target=child, args=(queue,))
        process.start()
        print(queue.get())
        process.join()
        assert process.exitcode == 0
    assert work() and kernel._executor is pool
    """,
        python=FORKS,
    )
    assert said.split() == ["True"] * 3


def test_a_child_compiles_though_a_thread_was_compiling_at_the_fork(tmp_path):
    """As a DataLoader's workers are, started while another thread makes its first call. Numba has
    a lock of its own, which is held as well."""
    said = script(
        """
        import os
        import signal
        import threading
        import numpy as np
        import robocache_cupy as rc
        from robocache_cupy._core import kernel
        t = np.arange(3.0)
        rc.resample_trajectories(t[:, None], t, t)
        compiling = threading.Event()
        specialise = kernel.Kernel._specialise

        def announced(self, *args):
            with kernel._compile_lock:
                compiling.set()
                return specialise(self, *args)

        kernel.Kernel._specialise = announced
        other = t.astype("float32")[:, None]
        thread = threading.Thread(target=rc.resample_trajectories, args=(other, t, t))
        thread.start()
        compiling.wait()
        child = os.fork()
        if child == 0:
            signal.alarm(60)  # ends this process, where it hangs
            rc.resample_trajectories(t.astype("float16")[:, None], t, t)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        thread.join()
        print("hangs" if status == -signal.SIGALRM else status)
        """,
        python=FORKS,
        NUMBA_CACHE_DIR=str(tmp_path),  # empty, so that both compile
    )
    assert said == "0"


@pytest.mark.parametrize("framework", ["numpy", "torch", "jax"])
def test_threads_with_different_shapes(framework, op):
    if framework == "numpy":
        convert = np.asarray
    elif framework == "torch":
        convert = optional("torch").from_numpy
    else:
        convert = optional("jax.numpy").asarray
    cases = [example(rows=1 + i, samples=20 + i, targets=30 + i, clock="float32") for i in range(8)]
    expected = [bits(rc.resample_trajectories(*arrays)) for arrays in cases]
    op.cache.clear()

    def work(i: int) -> None:
        given = [convert(x) for x in cases[i]]
        for _ in range(20):
            assert bits(np.asarray(rc.resample_trajectories(*given))) == expected[i]

    at_once(work, 8)


def test_threads_that_share_the_pool(monkeypatch):
    monkeypatch.setattr(kernel, "_POOL_SIZE", 4)
    cases = [example(rows=16 + i, samples=64, targets=128, features=64) for i in range(8)]
    expected = [bits(rc.resample_trajectories(*arrays)) for arrays in cases]

    def work(i: int) -> None:
        for _ in range(10):
            assert bits(rc.resample_trajectories(*cases[i])) == expected[i]

    at_once(work, 8)


def test_threads_that_fill_the_cache(op, monkeypatch):
    """Plans are forgotten by several threads at once."""
    monkeypatch.setattr(plan, "_CACHE_SIZE", 4)
    data, stamps, times = example(rows=1, samples=8, targets=60)
    rc.resample_trajectories(data, stamps, times)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def work(i: int) -> None:
        for targets in np.random.default_rng(i).integers(1, 60, 500).tolist():
            shape = rc.resample_trajectories(data, stamps, times[:, :targets]).shape
            assert shape == (1, targets, 4)

    try:
        at_once(work, 8)
    finally:
        sys.setswitchinterval(interval)


# ------------------------------------------------------------------------------------------ imports


def test_importing_imports_no_framework():
    said = script(
        """
        import sys
        import numpy
        import robocache_cupy
        heavy = {"cupy", "numba", "torch", "jax", "jaxlib", "llvmlite", "pandas", "h5py"}
        print(sorted(heavy & set(sys.modules)))
        """
    )
    assert said == "[]"


def test_numpy_calls_import_no_other_framework():
    said = script(
        """
        import sys
        import numpy as np
        import robocache_cupy as rc
        rc.resample_trajectories(np.zeros((2, 1)), np.arange(2.0), np.arange(2.0))
        print(sorted({"cupy", "torch", "jax", "jaxlib"} & set(sys.modules)))
        """
    )
    assert said == "[]"


IMPORT_CUPY = """
    import os
    from robocache_cupy._core.array import import_cupy
    import_cupy()
    print(os.environ.get("CUPY_CACHE_DIR"))
"""


def test_cupy_can_be_imported_without_a_writable_home(tmp_path, monkeypatch):
    optional("cupy")
    monkeypatch.delenv("CUPY_CACHE_DIR", raising=False)
    file = tmp_path / "file"
    file.touch()
    for home in ("/proc/nonexistent", str(file / "home")):
        folder = Path(script(IMPORT_CUPY, HOME=home))
        assert folder.is_dir()
        assert os.access(folder, os.W_OK)


def test_cupys_own_cache_is_left_alone(tmp_path, monkeypatch):
    optional("cupy")
    monkeypatch.delenv("CUPY_CACHE_DIR", raising=False)
    assert script(IMPORT_CUPY, HOME=str(tmp_path)) == "None"
    assert (tmp_path / ".cupy" / "kernel_cache").is_dir()
    own = str(tmp_path / "own")
    assert script(IMPORT_CUPY, HOME="/proc/nonexistent", CUPY_CACHE_DIR=own) == own


def test_numba_runs_where_nothing_is_writable():
    """A container whose user has neither a home nor write access to the installed package."""
    said = script(
        """
        import os
        del os.environ["NUMBA_CACHE_DIR"]
        from numba.core import caching

        def denied(self):
            raise PermissionError("read-only")

        for name, cls in vars(caching).items():
            if "InTree" in name:
                cls.ensure_cache_path = denied
        import numpy as np
        import robocache_cupy as rc
        print(rc.resample_trajectories(np.zeros((2, 1)), np.arange(2.0), np.arange(2.0)).shape)
        """,
        HOME="/proc/nonexistent",
    )
    assert said == "(2, 1)"


# --------------------------------------------------------------------- private calls, and fallbacks


def test_private_names_exist_in_the_installed_torch():
    torch = optional("torch")
    if not torch.backends.cuda.is_built():
        pytest.skip("this torch is built without CUDA")
    from torch._C._dynamo import guards

    assert callable(torch._C._cuda_getCurrentRawStream)
    assert callable(guards._empty_strided_cuda)


class FakeTorch:
    """As much of torch as the stream of a device takes."""

    class _C:
        pass

    class cuda:
        @staticmethod
        def current_stream(device):
            class Stream:
                cuda_stream = 1000 + device

            return Stream()


def test_stream_without_the_private_call(monkeypatch):
    assert fast.torch_stream(FakeTorch)(3) == 1003
    monkeypatch.setattr(FakeTorch._C, "_cuda_getCurrentRawStream", lambda d: 7 + d, raising=False)
    assert fast.torch_stream(FakeTorch)(3) == 10


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int64", "bool"])
def test_allocation_on_the_cpu(dtype):
    torch = optional("torch")
    made = fast.torch_allocator(torch, (2, 0, 3), dtype, array.CPU)()
    assert (tuple(made.shape), made.dtype, made.device.type) == (
        (2, 0, 3), getattr(torch, dtype), "cpu",
    )  # fmt: skip


def test_the_structs_of_a_launch_are_laid_out_as_in_cuda_h():
    attribute, config = driver._Attribute, driver.Config
    assert (ctypes.sizeof(attribute), attribute.value.offset) == (72, 8)
    assert (ctypes.sizeof(config), config.stream.offset, config.attributes.offset) == (56, 32, 40)
    assert config.attributes_count.offset == 48


@pytest.mark.parametrize("library", [OSError(), SimpleNamespace()])  # no driver, or an old one
def test_without_the_drivers_launch(monkeypatch, library):
    def load(name):
        if isinstance(library, OSError):
            raise library
        return library

    monkeypatch.setattr(driver.ctypes, "CDLL", load)
    assert driver.launch.__wrapped__() is None


@pytest.mark.parametrize(
    ("capability", "version", "early"),
    [("90", 13000, True), ("120", 12030, True), ("90", 12020, False), ("86", 13000, False)],
)
def test_where_kernels_are_launched_early(monkeypatch, capability, version, early):
    runtime = SimpleNamespace(driverGetVersion=lambda: version)
    device = lambda number: SimpleNamespace(compute_capability=capability)  # noqa: E731
    cupy = SimpleNamespace(cuda=SimpleNamespace(Device=device, runtime=runtime))
    monkeypatch.setattr(driver, "import_cupy", lambda: cupy)
    assert driver._launches_early.__wrapped__(0) == early
    monkeypatch.setattr(driver, "_launches_early", driver._launches_early.__wrapped__)
    config = driver.config(7, 128, 0)
    assert ([*config.grid], [*config.block]) == ([7, 1, 1], [128, 1, 1])
    assert (bool(config.attributes), config.attributes_count) == (early, early)


# -------------------------------------------------------------------------------------------- torch


@pytest.fixture
def torch():
    return optional("torch")


def tensors(torch, **options):
    return [torch.from_numpy(x) for x in example(**options)]


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize("which", [1, 2])  # stamps; there is a gradient by data
def test_gradients_are_not_lost_silently(torch, op, which, warm):
    given = tensors(torch)
    expected = rc.resample_trajectories(*given) if warm else None
    given[which] = given[which].clone().requires_grad_()
    with pytest.raises(RuntimeError, match=r"requires grad.*torch\.no_grad\(\)"):
        rc.resample_trajectories(*given)
    with torch.no_grad():
        result = rc.resample_trajectories(*given)
    assert not result.requires_grad
    assert expected is None or torch.equal(result, expected)
    with torch.inference_mode():
        assert torch.equal(rc.resample_trajectories(*given), result)


def test_parameters_are_tensors(torch):
    data, stamps, times = tensors(torch)
    expected = rc.resample_trajectories(data, stamps, times)
    frozen = torch.nn.Parameter(data, requires_grad=False)
    result = rc.resample_trajectories(frozen, stamps, times)
    assert type(result) is torch.Tensor
    assert torch.equal(result, expected)
    with torch.no_grad():
        trained = rc.resample_trajectories(torch.nn.Parameter(data), stamps, times)
    assert torch.equal(trained, expected)
    assert rc.resample_trajectories(torch.nn.Parameter(data), stamps, times).requires_grad


def test_dtypes_that_are_not_taken_are_named(torch):
    data, stamps, times = tensors(torch)
    for dtype in (torch.complex64, torch.float8_e4m3fn):
        name = str(dtype).partition(".")[2]
        with pytest.raises(TypeError, match=f"data has dtype {name}, expected one of"):
            rc.resample_trajectories(data.to(dtype), stamps, times)
    with pytest.raises(TypeError, match="src_times has dtype float16"):
        rc.resample_trajectories(data, stamps.half(), times)


def test_dtype_may_be_torchs_own(torch):
    given = tensors(torch)
    assert rc.resample_trajectories(*given, dtype=torch.float64).dtype is torch.float64
    assert rc.resample_trajectories(*given, dtype=torch.bfloat16).dtype is torch.bfloat16


def test_the_default_device_and_dtype_do_not_matter(torch, op):
    given = tensors(torch)
    expected = rc.resample_trajectories(*given)
    op.cache.clear()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            result = rc.resample_trajectories(*given)
    finally:
        torch.set_default_dtype(torch.float32)
    assert result.device.type == "cpu"
    assert torch.equal(result, expected)


def test_tensors_without_memory_are_refused_even_when_warm():
    """A meta tensor has no address, and get_device() is -1 as on the CPU."""
    optional("torch")
    said = script(
        """
        import torch
        import robocache_cupy as rc
        x, t = torch.zeros(2, 5, 3), torch.arange(5.0).expand(2, 5)
        for _ in range(2):
            for meta in (True, False):
                try:
                    print(tuple(rc.resample_trajectories(x.to("meta") if meta else x, t, t).shape))
                except TypeError as e:
                    print(e)
        """
    )
    refused = (
        "resample_trajectories: data: got a torch tensor on meta: expected a cpu or cuda tensor"
    )
    assert said.splitlines() == [refused, "(2, 5, 3)"] * 2


def test_lazy_negation_is_seen(torch):
    """conj().imag is a view whose memory holds the negated values."""
    data, stamps, times = tensors(torch)
    negative = torch.complex(torch.zeros_like(stamps), -stamps).conj().imag
    assert negative.is_neg()
    assert torch.equal(negative, stamps)
    expected = rc.resample_trajectories(data, stamps, times)
    assert torch.equal(rc.resample_trajectories(data, negative, times), expected)


@pytest.mark.parametrize("framework", ["numpy", "torch"])
def test_named_results_survive_pickling(framework):
    """The way from a DataLoader's worker to its parent."""
    convert = np.asarray if framework == "numpy" else optional("torch").from_numpy
    given = [convert(x) for x in example()]
    result = rc.resample_trajectories(*given, return_valid=True)
    again = pickle.loads(pickle.dumps(result))
    assert type(again) is type(result)
    assert again._fields == ("values", "valid")
    assert list(map(bits, again)) == list(map(bits, result))


# ---------------------------------------------------------------------------------------------- JAX


@pytest.fixture
def jax():
    jax = optional("jax")
    jax.config.update("jax_enable_x64", True)  # as the lanes of `lib` do
    return jax


def on_jax(jax, **options):
    return [jax.numpy.asarray(x) for x in example(**options)]


@pytest.fixture
def compiled(jax):
    """A list that grows with everything JAX traces or compiles."""
    events = []

    def listen(event: str, duration: float, **rest) -> None:
        if event.startswith("/jax/core/compile"):
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    forget = getattr(jax.monitoring, "unregister_event_duration_listener", None)
    if forget is not None:  # JAX for Python 3.10 has none
        forget(listen)


def test_jax_compiles_once(jax, compiled):
    given = on_jax(jax, rows=3, targets=11)
    other = on_jax(jax, rows=3, targets=11, seed=1)
    compiled.clear()
    jax.block_until_ready(rc.resample_trajectories(*given, latency=0.01))
    assert compiled  # or the listener is deaf
    compiled.clear()
    for latency in (0.01, 0.02, 0.5):
        result = rc.resample_trajectories(*other, latency=latency)
        arrays = [np.asarray(x) for x in other]
        assert bits(result) == bits(rc.resample_trajectories(*arrays, latency=latency))
    assert not compiled


def test_jax_compiles_a_self_sizing_call_once_for_each_size(jax, compiled):
    data, stamps, _ = on_jax(jax, rows=3, samples=13)
    jax.block_until_ready(rc.resample_trajectories(data, stamps, hz=50.0))
    compiled.clear()
    result = rc.resample_trajectories(data, stamps, hz=50.0)
    assert bits(result) == bits(
        rc.resample_trajectories(np.asarray(data), np.asarray(stamps), hz=50.0)
    )
    assert not compiled


def test_jax_finds_its_plan_again_when_only_part_is_forgotten(jax):
    """As where two threads make the same first call."""
    from robocache_cupy._core import jax as route

    given = on_jax(jax, rows=2, targets=12)
    expected = bits(rc.resample_trajectories(*given))
    route._compiled.cache_clear()
    assert bits(rc.resample_trajectories(*given)) == expected


@pytest.mark.parametrize("backend", ["auto", "numba"])
def test_jax_inside_jit(jax, backend):
    given = on_jax(jax)
    options = {"return_valid": True, "return_index": True, "backend": backend}

    @jax.jit
    def step(data, stamps, times):
        result = rc.resample_trajectories(2 * data, stamps, times, **options)
        return result._replace(values=result.values + 1)

    result = step(*given)
    data, stamps, times = (np.asarray(x) for x in given)
    expected = rc.resample_trajectories(2 * data, stamps, times, **options)
    assert result._fields == expected._fields
    expected = expected._replace(values=expected.values + 1)
    assert list(map(bits, result)) == list(map(bits, expected))


def test_jax_takes_traced_numbers(jax):
    given = on_jax(jax)
    arrays = [np.asarray(x) for x in given]
    step = jax.jit(
        lambda late, limit: rc.resample_trajectories(
            *given, latency=late, tolerance=limit, return_valid=True
        )
    )
    for latency, tolerance in ((0.0, 0.1), (0.013, 0.0), (-0.2, 0.5)):
        result = step(latency, tolerance)
        expected = rc.resample_trajectories(
            *arrays, latency=latency, tolerance=tolerance, return_valid=True
        )
        assert list(map(bits, result)) == list(map(bits, expected))


def test_jax_vmap_is_the_batch(jax):
    given = on_jax(jax, rows=5)
    batched = rc.resample_trajectories(*given, return_valid=True)
    mapped = jax.vmap(lambda *one: rc.resample_trajectories(*one, return_valid=True))(*given)
    assert type(mapped)._fields == type(batched)._fields
    assert list(map(bits, mapped)) == list(map(bits, batched))


def test_jax_vmap_over_some_arguments_and_a_latency(jax):
    data, stamps, times = on_jax(jax, rows=5)
    late = jax.numpy.asarray(np.array([0.0, 0.01, 0.02, 0.5, -0.1]))
    mapped = jax.jit(
        jax.vmap(
            lambda x, latency: rc.resample_trajectories(x, stamps[0], times[0], latency=latency)
        )
    )(data, late)
    for i in range(5):
        one = rc.resample_trajectories(
            np.asarray(data[i]), np.asarray(stamps[0]), np.asarray(times[0]), latency=float(late[i])
        )
        assert bits(mapped[i]) == bits(one)


def test_jax_under_two_vmaps(jax):
    given = [x.reshape(2, 3, *x.shape[1:]) for x in on_jax(jax, rows=6)]
    mapped = jax.vmap(jax.vmap(rc.resample_trajectories))(*given)
    flat = rc.resample_trajectories(*[x.reshape(6, *x.shape[2:]) for x in given])
    assert bits(mapped) == bits(np.asarray(flat).reshape(2, 3, 7, 4))


def test_jax_traced_calls_that_size_themselves_are_refused(jax):
    data, stamps, times = on_jax(jax)
    with pytest.raises(ValueError, match="a traced call cannot: pass num="):
        jax.jit(lambda x, s: rc.resample_trajectories(x, s, hz=10.0))(data, stamps)
    with pytest.raises(ValueError, match="a traced call cannot: leave out check=True"):
        jax.jit(lambda *a: rc.resample_trajectories(*a, check=True))(data, stamps, times)


def test_jax_has_no_out(jax):
    given = on_jax(jax)
    with pytest.raises(TypeError, match="out must be left out"):
        rc.resample_trajectories(*given, out=given[0])


def test_jax_clock_in_ns(jax):
    given = on_jax(jax, clock="int64")
    assert given[1].dtype == "int64"
    expected = rc.resample_trajectories(*[np.asarray(x) for x in given])
    assert bits(rc.resample_trajectories(*given)) == bits(expected)


X64_OFF = """
    import jax
    import jax.numpy as jnp
    import numpy as np
    import robocache_cupy as rc
    from test_core import example, bits
    jax.config.update("jax_enable_x64", False)
    arrays = example(clock="float32")
    given = [jnp.asarray(x) for x in arrays]
"""


def test_jax_without_x64():
    optional("jax")
    script(
        X64_OFF
        + """
    every = dict(return_valid=True, return_index=True, return_times=True)
    result, expected = (rc.resample_trajectories(*a, **every) for a in (given, arrays))
    assert [x.dtype for x in result] == ["float32", "bool", "int32", "float32", "float32"]
    assert list(map(bits, result)) == list(map(bits, expected))
    # Inside, these are numbers and arrays of int64.
    for options in (
        dict(check=True), dict(assume_sorted=False), dict(latency=0.013), dict(lengths=[3, 9]),
    ):
        result = rc.resample_trajectories(*given, **options)
        assert bits(result) == bits(rc.resample_trajectories(*arrays, **options)), options
    grid = rc.resample_trajectories(*given[:2], hz=33.0, return_times=True)
    expected = rc.resample_trajectories(*arrays[:2], hz=33.0, return_times=True)
    assert list(map(bits, grid)) == list(map(bits, expected))
    # An int64 clock would have been cut to 32 bits before it came here.
    ticks = [given[0], *[(1000 * x).astype("int32") for x in given[1:]]]
    try:
        rc.resample_trajectories(*ticks)
    except TypeError as e:
        assert "enable x64" in str(e) and "time_unit=" in str(e) and "subtract an origin" in str(e)
    else:
        raise AssertionError
    result = rc.resample_trajectories(*ticks, time_unit="ms")
    assert bits(result) == bits(
        rc.resample_trajectories(*[np.asarray(x) for x in ticks], time_unit="ms")
    )
    try:
        rc.resample_trajectories(*given, dtype="float64")
    except TypeError as e:
        assert "float64" in str(e) and "jax_enable_x64" in str(e)
    else:
        raise AssertionError
    """
    )


def test_jax_without_x64_checks():
    optional("jax")
    said = script(
        X64_OFF
        + """
    backward = given[1].at[1, 3].set(-1.0)
    try:
        rc.resample_trajectories(given[0], backward, given[2], check=True)
    except ValueError as e:
        print(e)
    """
    )
    assert "at sample 3 of row 1" in said


# ----------------------------------------------------------------------------------- GPUs: fixtures


class Gpu(NamedTuple):
    """A framework on a CUDA device."""

    name: str
    array: object  # NumPy array (and device) to array
    numpy: object


def _torch_gpu() -> Gpu:
    import cupy
    import torch

    cupy.zeros(1)
    torch.zeros(1, device="cuda")
    return Gpu(
        "torch",
        lambda x, device=0: torch.from_numpy(np.array(x)).to(f"cuda:{device}"),
        lambda x: x.cpu().numpy(),
    )


def _cupy_gpu() -> Gpu:
    import cupy

    cupy.zeros(1)

    def make(x, device=0):
        with cupy.cuda.Device(device):
            return cupy.asarray(x)

    return Gpu("cupy", make, cupy.asnumpy)


GPUS = {"torch_cuda": _torch_gpu, "cupy_cuda": _cupy_gpu}


def _gpu(lane: str, require) -> Gpu:
    try:
        return GPUS[lane]()
    except Exception as e:
        require.skip(lane, f"{type(e).__name__}: {e}")


@pytest.fixture(params=list(GPUS))
def gpu(request, require):
    return _gpu(request.param, require)


@pytest.fixture
def torch_gpu(require):
    return _gpu("torch_cuda", require)


@pytest.fixture
def cupy_gpu(require):
    return _gpu("cupy_cuda", require)


@pytest.fixture
def two_devices(gpu):
    import cupy

    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("there is one CUDA device")
    return gpu


SPIN = """
extern "C" __global__ void spin(long long cycles) {
    const long long end = clock64() + cycles;
    while (clock64() < end) {}
}
"""


def spin(stream: int) -> None:
    """Keep a stream busy for about 0.1 s."""
    import cupy

    with cupy.cuda.Stream.from_external(fast.ExternalStream(stream)):
        cupy.RawKernel(SPIN, "spin")((1,), (1,), (np.int64(150_000_000),))


# ------------------------------------------------------------------------------- GPUs: the backends


@pytest.mark.parametrize("clock", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_numpy_arrays_on_the_device_give_the_same_bits(cupy_gpu, dtype, clock):
    unit = {"time_unit": "us"} if clock == "int32" else {}
    data, stamps, times = example(rows=5, features=33, dtype=dtype, clock=clock)
    if clock == "int32":
        stamps, times = ((x // 10_000).astype("int32") for x in example(clock="int64", rows=5)[1:])
    arrays = data, stamps.astype(clock), times.astype(clock)
    options = {"return_valid": True, "return_index": True, "return_times": True, **unit}
    there, here = (
        rc.resample_trajectories(*arrays, **options, backend=b) for b in ("cuda", "numba")
    )
    assert there._fields == here._fields
    for x, y in zip(there, here, strict=True):
        assert type(x) is np.ndarray
        assert bits(x) == bits(y)


def test_datetimes_do_not_cross(cupy_gpu):
    data, stamps, times = example(clock="int64")
    stamps, times = stamps.astype("datetime64[ns]"), times.astype("datetime64[ns]")
    with pytest.raises(TypeError, match=r"CuPy has no datetime64\[ns\]: pass .view"):
        rc.resample_trajectories(data, stamps, times, backend="cuda")


def test_out_is_filled_on_the_other_backend(cupy_gpu):
    arrays = example()
    out = np.zeros((2, 7, 4), "float32")
    assert rc.resample_trajectories(*arrays, out=out, backend="cuda") is out
    assert bits(out) == bits(rc.resample_trajectories(*arrays))


def test_numba_on_device_arrays_gives_the_same(gpu):
    arrays = example(clock="int64")
    given = [gpu.array(x) for x in arrays]
    options = {"return_valid": True, "latency": [0.0, 0.01], "lengths": [3, 9]}
    forced = rc.resample_trajectories(*given, **options, backend="numba")
    free = rc.resample_trajectories(*given, **options)
    expected = rc.resample_trajectories(*arrays, **options)
    for x, y, z in zip(forced, free, expected, strict=True):
        assert type(x) is type(y) is type(given[0])
        assert x.device == y.device == given[0].device
        assert bits(gpu.numpy(x)) == bits(gpu.numpy(y)) == bits(z)


def test_self_sizing_calls_on_the_device(gpu):
    arrays = example()[:2]
    given = [gpu.array(x) for x in arrays]
    options = {"hz": 33.0, "check": True, "return_times": True, "assume_sorted": True}
    result = rc.resample_trajectories(*given, **options)
    expected = rc.resample_trajectories(*arrays, **options)
    assert [bits(gpu.numpy(x)) for x in result] == list(map(bits, expected))


def test_the_public_launcher_gives_the_same(gpu, op, monkeypatch):
    arrays = example(clock="int64")
    given = [gpu.array(x) for x in arrays]
    options = {"latency": 0.013, "fill_value": -1, "assume_sorted": False, "return_valid": True}
    quick = [bits(gpu.numpy(x)) for x in rc.resample_trajectories(*given, **options)]
    op.cache.clear()
    monkeypatch.setattr(driver, "launch", lambda: None)
    public = rc.resample_trajectories(*given, **options)
    warm = rc.resample_trajectories(*given, **{**options, "latency": 0.013})
    assert [bits(gpu.numpy(x)) for x in public] == quick
    assert [bits(gpu.numpy(x)) for x in warm] == quick
    expected = rc.resample_trajectories(*arrays, **options)
    assert quick == list(map(bits, expected))


def test_the_public_launcher_uses_the_callers_stream(torch_gpu, op, monkeypatch):
    monkeypatch.setattr(driver, "launch", lambda: None)
    check_side_stream(torch_gpu, waits=True)  # CuPy's way of taking in a stream may


def test_torch_without_its_private_calls(torch_gpu, op, monkeypatch):
    import torch

    given = [torch_gpu.array(x) for x in example()]
    quick = rc.resample_trajectories(*given)
    monkeypatch.delattr(torch._C, "_cuda_getCurrentRawStream")
    monkeypatch.delattr(torch._C._dynamo.guards, "_empty_strided_cuda")
    side = torch.cuda.Stream()
    stream = fast.torch_stream(torch)
    with torch.cuda.stream(side):
        assert stream(0) == side.cuda_stream
    made = fast.torch_allocator(torch, (2, 3), "bfloat16", 0)()
    assert (tuple(made.shape), made.dtype, str(made.device)) == ((2, 3), torch.bfloat16, "cuda:0")
    monkeypatch.setattr(array, "_build", lambda make: make())
    monkeypatch.setattr(array, "FRAMEWORKS", {})
    monkeypatch.setattr(plan, "FRAMEWORKS", array.FRAMEWORKS)
    op.cache.clear()
    assert torch.equal(rc.resample_trajectories(*given), quick)


# ------------------------------------------------------------------------ GPUs: streams and devices


def check_side_stream(gpu: Gpu, *, waits: bool = False) -> None:
    """A slow producer on a side stream must have ended before the op reads."""
    import torch

    arrays = example()
    given = [gpu.array(x) for x in arrays]
    fresh = gpu.array(arrays[0] + 1)
    spin(torch.cuda.current_stream().cuda_stream)  # compiles
    expected = rc.resample_trajectories(arrays[0] + 1, *arrays[1:])
    rc.resample_trajectories(*given) * 2  # loads the kernels of both, for which CUDA may wait
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        rc.resample_trajectories(*given)  # the allocator has memory for this stream from here on
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        spin(side.cuda_stream)
        given[0].copy_(fresh)
        result = rc.resample_trajectories(*given)
        doubled = result * 2
    assert waits or not side.query()  # or it tests nothing; and the call did not wait
    side.synchronize()
    assert bits(gpu.numpy(result)) == bits(expected)
    assert bits(gpu.numpy(doubled)) == bits(2 * expected)


def test_torch_side_stream(torch_gpu):
    check_side_stream(torch_gpu)


SLOW = r"""
extern "C" __global__ void slow(float* x, long long n, long long cycles) {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;");
#endif
    const long long start = clock64();
    while (clock64() - start < cycles) {}
    for (long long i = threadIdx.x; i < n; i += blockDim.x) x[i] += 1;
}
"""


@pytest.mark.parametrize("captured", [False, True])
def test_kernels_wait_for_the_one_before_them(cupy_gpu, captured):
    """It lets them start before it has written what they read."""
    import cupy

    arrays = example()
    x, s, t = map(cupy_gpu.array, arrays)
    slow = cupy.RawKernel(SLOW, "slow")
    rc.warmup(rc.resample_trajectories, x, s, t)
    stream, results = cupy.cuda.Stream(non_blocking=True), []

    def run():
        for _ in range(5):
            slow((1,), (64,), (x, np.int64(x.size), np.int64(1_000_000)))
            results.append(rc.resample_trajectories(x, s, t))

    with stream:
        if captured:
            results += [rc.resample_trajectories(x, s, t) for _ in range(5)]  # fills CuPy's pool
            results.clear()
            stream.begin_capture()
            run()
            stream.end_capture().launch(stream)
        else:
            run()
    stream.synchronize()
    for i, result in enumerate(results, start=1):
        expected = rc.resample_trajectories(arrays[0] + np.float32(i), *arrays[1:])
        np.testing.assert_allclose(cupy_gpu.numpy(result), expected, rtol=1e-5, atol=1e-5)


def test_a_kernel_that_cannot_be_launched(torch_gpu, op, monkeypatch):
    import cupy

    given = [torch_gpu.array(x) for x in example()]
    config = driver.config
    monkeypatch.setattr(driver, "config", lambda blocks, threads, device: config(1, 4096, device))
    with pytest.raises(cupy.cuda.driver.CUDADriverError, match="INVALID_VALUE"):
        rc.resample_trajectories(*given)


def test_cupy_side_stream(cupy_gpu):
    import cupy

    arrays = example()
    given = [cupy.asarray(x) for x in arrays]
    fresh = cupy.asarray(arrays[0] + 1)
    spin(cupy.cuda.get_current_stream().ptr)
    side = cupy.cuda.Stream(non_blocking=True)
    with side:
        rc.resample_trajectories(*given)
    cupy.cuda.runtime.deviceSynchronize()
    with side:
        spin(side.ptr)
        given[0].data.copy_from_device_async(fresh.data, fresh.nbytes)
        result = rc.resample_trajectories(*given)
        assert not side.done
    side.synchronize()
    expected = rc.resample_trajectories(arrays[0] + 1, *arrays[1:])
    assert bits(cupy.asnumpy(result)) == bits(expected)


def test_each_thread_launches_on_its_own_stream(torch_gpu, op):
    import torch

    cases = [example(rows=1 + i, samples=20 + i, targets=30 + i) for i in range(8)]
    expected = [bits(rc.resample_trajectories(*arrays)) for arrays in cases]

    def work(i: int) -> None:
        with torch.cuda.stream(torch.cuda.Stream()):
            given = [torch_gpu.array(x) for x in cases[i]]
            for latency in (0.0, 0.0, 0.01, 0.0):
                result = rc.resample_trajectories(*given, latency=latency)
            assert bits(torch_gpu.numpy(result)) == expected[i]

    at_once(work, 8)


def test_threads_share_a_plan_but_not_its_parameters(gpu, op):
    """The same plan with other arrays and numbers: each thread packs its own."""
    cases = [example(samples=64, targets=256, seed=i) for i in range(8)]
    late = [0.01 * i for i in range(8)]
    expected = [
        bits(rc.resample_trajectories(*a, latency=x)) for a, x in zip(cases, late, strict=True)
    ]

    def work(i: int) -> None:
        given = [gpu.array(x) for x in cases[i]]
        for _ in range(100):
            result = rc.resample_trajectories(*given, latency=late[i])
        assert bits(gpu.numpy(result)) == expected[i]

    at_once(work, 8)


def test_arrays_on_another_device_than_the_current(two_devices, op):
    import cupy

    gpu = two_devices
    arrays = example()
    given = [gpu.array(x, 1) for x in arrays]
    expected = bits(rc.resample_trajectories(*arrays))
    before = cupy.cuda.runtime.getDevice()
    assert before == 0
    for _ in range(2):
        result = rc.resample_trajectories(*given)
        assert cupy.cuda.runtime.getDevice() == before
        assert result.device == given[0].device
        assert bits(gpu.numpy(result)) == expected
    options = {"hz": 33.0, "return_times": True}
    sized = rc.resample_trajectories(*given[:2], **options)
    assert all(x.device == given[0].device for x in sized)
    assert [bits(gpu.numpy(x)) for x in sized] == list(
        map(bits, rc.resample_trajectories(*arrays[:2], **options))
    )
    forced = rc.resample_trajectories(*given, lengths=[3, 9], backend="numba")
    assert forced.device == given[0].device
    strided = rc.resample_trajectories(gpu.array(arrays[0].repeat(2, 2), 1)[:, :, ::2], *given[1:])
    assert strided.device == given[0].device
    assert bits(gpu.numpy(strided)) == expected
    assert cupy.cuda.runtime.getDevice() == before
    if gpu.name == "torch":
        import torch

        assert torch.cuda.current_device() == before


def test_arrays_on_two_devices_are_refused(two_devices):
    gpu = two_devices
    data, stamps, times = example()
    with pytest.raises(TypeError, match=rf"data \({gpu.name} on cuda:0\), src_times.*cuda:1"):
        rc.resample_trajectories(gpu.array(data), gpu.array(stamps, 1), gpu.array(times))


def test_arrays_on_the_host_and_a_device_are_refused(torch_gpu):
    import torch

    data, stamps, times = example()
    with pytest.raises(TypeError, match=r"data \(torch on cuda:0\), src_times \(torch on cpu\)"):
        rc.resample_trajectories(
            torch_gpu.array(data), torch.from_numpy(stamps), torch_gpu.array(times)
        )


def test_dlpack_producers_on_a_device_give_cupy(cupy_gpu):
    import cupy

    class OnDevice:
        def __init__(self, x):
            self._x = cupy.asarray(x)
            self.shape, self.dtype = x.shape, x.dtype

        def __dlpack__(self, **kwargs):
            return self._x.__dlpack__(**kwargs)

        def __dlpack_device__(self):
            return self._x.__dlpack_device__()

    arrays = example()
    result = rc.resample_trajectories(*map(OnDevice, arrays))
    assert type(result) is cupy.ndarray
    assert bits(cupy.asnumpy(result)) == bits(rc.resample_trajectories(*arrays))


# -------------------------------------------------------------------------------- GPUs: CUDA graphs


def test_a_call_can_be_captured_and_replayed(torch_gpu):
    import torch

    arrays = example()
    given = [torch_gpu.array(x) for x in arrays]
    options = {"latency": 0.013, "return_valid": True, "assume_sorted": False}
    warm_up = torch.cuda.Stream()
    warm_up.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm_up):
        rc.resample_trajectories(*given, **options)
    torch.cuda.current_stream().wait_stream(warm_up)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = rc.resample_trajectories(*given, **options)
    for seed in (1, 2):
        arrays = example(seed=seed)
        for x, y in zip(given, arrays, strict=True):
            x.copy_(torch.from_numpy(y))
        graph.replay()
        torch.cuda.synchronize()
        expected = rc.resample_trajectories(*arrays, **options)
        assert [bits(torch_gpu.numpy(x)) for x in result] == list(map(bits, expected))


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(
    ("options", "reason"),
    [({"hz": 50.0}, "pass num="), ({"check": True}, "leave out check=True")],
)
def test_a_self_sizing_call_cannot_be_captured(torch_gpu, op, options, reason, warm):
    import torch

    arrays = example()[: 2 if "hz" in options else 3]
    given = [torch_gpu.array(x) for x in arrays]
    if warm:
        rc.resample_trajectories(*given, **options)
    torch.cuda.synchronize()
    graph, other = torch.cuda.CUDAGraph(), torch.zeros(1, device="cuda")
    with torch.cuda.graph(graph):
        other.add_(1)  # an empty graph is a warning
        with pytest.raises(RuntimeError, match=f"which a CUDA graph cannot: {reason}"):
            rc.resample_trajectories(*given, **options)
    expected = rc.resample_trajectories(*arrays, **options)
    assert bits(torch_gpu.numpy(rc.resample_trajectories(*given, **options))) == bits(expected)


# ---------------------------------------------------------------------------------- GPUs: processes


def test_a_real_fork_after_cuda_says_so(cupy_gpu):
    said = script(
        """
        import os
        import cupy
        import robocache_cupy as rc
        x, t = cupy.zeros((2, 1)), cupy.arange(2.0)
        rc.resample_trajectories(x, t, t)
        child = os.fork()
        if child == 0:
            try:
                rc.resample_trajectories(x, t, t)
            except RuntimeError as e:
                print(e, flush=True)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        print(rc.resample_trajectories(x, t, t).ravel())
        """,
        python=FORKS,
    )
    sentence, values = said.splitlines()
    assert "forked after CUDA had been used" in sentence
    assert values == "[0. 0.]"
