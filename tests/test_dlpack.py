"""Any DLPack producer: its memory is read where it lies, and gives what the framework itself gives.

The fast routes, of NumPy, torch, JAX and CuPy, are held against the protocol: the same arrays
behind a class that speaks DLPack and nothing else.
"""

import ctypes
import gc
import sys
import warnings

import numpy as np
import pytest
from numpy.lib.stride_tricks import as_strided
from op_cases import CASES

import robocache_cupy as rc
from robocache_cupy._core import array, dlpack
from robocache_cupy._core.kernel import Kernel
from robocache_cupy._core.plan import _Ready


class Producer:
    """Of DLPack 1: it is told which version it may export, and may say that memory is read-only."""

    def __init__(self, x) -> None:
        self._x = x
        self.asked = []

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        self.asked.append(max_version)
        return self._x.__dlpack__(stream=stream, max_version=max_version)

    def __dlpack_device__(self):
        return self._x.__dlpack_device__()


class Legacy(Producer):
    """Of before version 1."""

    def __dlpack__(self, stream=None):
        self.asked.append(None)
        return self._x.__dlpack__(stream=stream)


class Typed(Producer):
    """With the shape and the dtype that array libraries have."""

    def __init__(self, x) -> None:
        super().__init__(x)
        self.shape, self.dtype = x.shape, x.dtype


GENERATIONS = pytest.mark.parametrize("produce", [Producer, Legacy])


def example(dtype="float32", clock="float32"):
    rng = np.random.default_rng(0)
    data = rng.integers(0, 100, (2, 9, 4)).astype(dtype)
    times = np.cumsum(rng.integers(1, 5, (2, 9)), 1).astype(clock)
    return data, times, np.sort(rng.integers(0, 25, (2, 7)), 1).astype(clock)


def bits(x) -> tuple:
    if isinstance(x, dict):
        return tuple((key, bits(part)) for key, part in x.items())
    if isinstance(x, tuple):
        return tuple(map(bits, x))
    if type(x).__module__.partition(".")[0] == "cupy":
        x = x.get()
    if type(x).__module__ == "torch":
        import torch

        x = x.cpu()
        if x.dtype is torch.bfloat16:
            return "bfloat16", tuple(x.shape), x.view(torch.int16).numpy().tobytes()
    x = np.ascontiguousarray(x)
    return x.dtype.name, x.shape, x.tobytes()


@pytest.fixture
def read(monkeypatch):
    """The addresses of the arrays that come before the launches of each plan that runs."""
    calls = []
    run = _Ready.run

    def recording(self, addresses, values):
        calls.append(list(addresses))
        return run(self, addresses, values)

    monkeypatch.setattr(_Ready, "run", recording)
    return calls


@pytest.fixture
def launched(monkeypatch):
    """The numbers that each kernel on the host gets: what it can read from is among them."""
    calls = []
    on_host = Kernel.on_host

    def recording(self, launch, args):
        calls.append(list(args))
        on_host(self, launch, args)

    monkeypatch.setattr(Kernel, "on_host", recording)
    return calls


def from_torch(x):
    torch = pytest.importorskip("torch")
    if x.dtype.name == "bfloat16":
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(x)


def from_jax(x):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    return jax.device_put(x, jax.devices("cpu")[0])


LIBRARIES = {"numpy": np.asarray, "torch": from_torch, "jax": from_jax}


def strict(x):
    return pytest.importorskip("array_api_strict").asarray(x)


# ------------------------------------------------------------------------- both routes are the same


@GENERATIONS
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_the_protocol_gives_the_bits_and_reads_the_memory_of_the_fast_route(
    library, dtype, produce, launched
):
    of_dtype = array.numpy_dtype(dtype)
    given = [LIBRARIES[library](x) for x in example(of_dtype)]
    options = {"return_valid": True, "return_index": True, "latency": 0.25}
    fast = rc.resample_trajectories(*given, **options)
    seen = launched[-1][:3]
    if library == "numpy" and dtype == "bfloat16":
        with pytest.raises(BufferError, match=r"data cannot be exported by DLPack: DLPack only"):
            rc.resample_trajectories(*map(produce, given))
        return
    behind = list(map(produce, given))
    slow = rc.resample_trajectories(*behind, **options)
    assert launched[-1][:3] == seen
    assert type(slow.values) is np.ndarray
    assert bits(slow) == bits(fast)


INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool"]


@pytest.mark.parametrize("clock", ["int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_and_clocks_of_producers(dtype, clock, read):
    given = example(dtype, clock)
    options = {"method": "nearest", "time_unit": "ns" if "int" in clock else None}
    expected = rc.resample_trajectories(*given, **options)
    result = rc.resample_trajectories(*map(Producer, given), **options)
    assert read[0][:3] == read[1][:3] == [x.ctypes.data for x in given]
    assert bits(result) == bits(expected)


def test_datetimes_are_not_in_dlpack():
    data, times, targets = example(clock="datetime64[ns]")
    with pytest.raises(TypeError, match=r"src_times \(dtype datetime64\[ns\]\) cannot be exported"):
        rc.resample_trajectories(Typed(data), Typed(times), Typed(targets))


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("produce", [strict, Producer])
def test_every_op_takes_producers(name, produce, read):
    call, arrays, options = CASES[name]()
    expected = call(*arrays, **options)
    known, plans = {x.ctypes.data for x in arrays}, len(read)
    inputs = known & {address for call in read for address in call}
    result = call(*map(produce, arrays), **options)
    assert bits(result) == bits(expected)
    assert {address for call in read[plans:] for address in call} & known == inputs


def test_the_layout_of_fused_producers():
    data, times, targets = example()
    given = (data[0], times[0], data[1, :, :2], times[1], targets[0])
    expected = rc.fuse_multimodal(*given, return_layout=True)
    result = rc.fuse_multimodal(*map(Producer, given), return_layout=True)
    assert result.layout == expected.layout == {"stream0": slice(0, 4), "stream1": slice(4, 6)}
    assert bits(result.values) == bits(expected.values)


@pytest.mark.parametrize("library", ["torch", "jax"])
def test_producers_of_several_libraries_may_meet(library):
    """All of them are taken in by NumPy, so it does not matter who made which."""
    given = example()
    mixed = Producer(given[0]), strict(given[1]), Producer(LIBRARIES[library](given[2]))
    assert bits(rc.resample_trajectories(*mixed)) == bits(rc.resample_trajectories(*given))


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_producer_beside_a_framework_is_refused(library):
    data, times, targets = example()
    with pytest.raises(TypeError, match=rf"data \(Producer\), src_times \({library} on cpu\)"):
        rc.resample_trajectories(
            Producer(data), LIBRARIES[library](times), LIBRARIES[library](targets)
        )


# ------------------------------------------------------------------------------------------ layouts


VIEWS = {
    "reversed rows": lambda d, s, t: (d[::-1], s[::-1], t[::-1]),
    "reversed samples": lambda d, s, t: (d[:, ::-1], s[:, ::-1], t),
    "reversed features": lambda d, s, t: (d[:, :, ::-1], s, t),
    "every other feature": lambda d, s, t: (d[:, :, ::2], s, t),
    "transposed": lambda d, s, t: (d.swapaxes(0, 1).copy().swapaxes(0, 1), s.T.copy().T, t),
    "from the middle": lambda d, s, t: (d[1:, 2:], s[1:, 2:], t[1:, 3:]),
    "zero strides": lambda d, s, t: (as_strided(d, d.shape, (0, *d.strides[1:])),
                                     as_strided(s, s.shape, (0, *s.strides[1:])), t),
    "no rows": lambda d, s, t: (d[:0], s[:0], t[:0]),
    "no targets": lambda d, s, t: (d, s, t[:, :0]),
    "no features": lambda d, s, t: (d[:, :, :0], s, t),
    "one feature": lambda d, s, t: (d[:, :, :1], s, t),
}  # fmt: skip
NOT_IN_TORCH = {"reversed rows", "reversed samples", "reversed features"}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("view", VIEWS)
def test_views_of_producers(view, dtype, read):
    """bfloat16 takes the way of this package through a capsule, and only torch can export it."""
    given = VIEWS[view](*example(array.numpy_dtype(dtype)))
    if dtype == "bfloat16" and view in NOT_IN_TORCH:
        pytest.skip("torch has no negative strides")
    options = {"assume_sorted": False, "extrapolate": "hold"}
    expected = rc.resample_trajectories(*given, **options)
    lead = from_torch(given[0]) if dtype == "bfloat16" else given[0]
    result = rc.resample_trajectories(Producer(lead), *map(Producer, given[1:]), **options)
    assert bits(result) == bits(expected)
    if expected.size and "feature" not in view:  # others are made dense first
        assert read[0][:3] == read[-1][:3] == [x.ctypes.data for x in given]


@GENERATIONS
def test_elements_off_their_multiples(produce):
    """Bytes of a message: an address that is no multiple of the size of an element."""
    data, times, targets = example()
    message = np.zeros(data.nbytes + 1, np.uint8)
    odd = np.frombuffer(memoryview(message)[1:], "float32").reshape(data.shape)
    odd[...] = data
    assert not odd.flags.aligned
    result = rc.resample_trajectories(*map(produce, (odd, times, targets)))
    assert bits(result) == bits(rc.resample_trajectories(data, times, targets))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_address_may_be_told_in_two_parts(dtype, read):
    """A producer may put part of it into `byte_offset`; the usual ones do not."""
    data, times, targets = map(from_torch, example(array.numpy_dtype(dtype)))

    class Offset(Producer):
        def __dlpack__(self, **asked):
            capsule = super().__dlpack__(**asked)
            address = dlpack._pointer(capsule, b"dltensor_versioned")
            tensor = dlpack._Versioned.from_address(address).tensor
            tensor.data, tensor.byte_offset = tensor.data - 64, 64
            return capsule

    result = rc.resample_trajectories(*map(Offset, (data, times, targets)))
    assert read[-1][:3] == [x.data_ptr() for x in (data, times, targets)]
    assert bits(result) == bits(rc.resample_trajectories(data, times, targets))


def test_an_array_without_axes_says_the_same_on_both_routes():
    _, times, targets = example()
    scalar, said = np.array(3.0, "float32"), []
    for route in (np.asarray, Producer):
        with pytest.raises(ValueError, match=r"data has shape \(\)") as caught:
            rc.resample_trajectories(route(scalar), route(times), route(targets))
        said.append(str(caught.value))
    assert said[0] == said[1]


# ------------------------------------------------------------------------ read-only, and writing to


def frozen(x):
    x = x.copy()
    x.flags.writeable = False
    return x


def test_read_only_memory_is_read():
    given = list(map(frozen, example()))
    result = rc.resample_trajectories(*map(Producer, given))
    assert bits(result) == bits(rc.resample_trajectories(*given))


def test_read_only_memory_of_a_legacy_producer_names_the_argument():
    data, times, targets = example()
    words = r"resample_trajectories: src_times cannot be exported by DLPack: .*readonly"
    with pytest.raises(BufferError, match=words):
        rc.resample_trajectories(Legacy(data), Legacy(frozen(times)), Legacy(targets))
    with pytest.raises(BufferError, match=r"tgt_times \(dtype float32\) cannot .*readonly"):
        rc.resample_trajectories(Typed(data), Typed(times), TypedLegacy(frozen(targets)))


class TypedLegacy(Legacy, Typed):
    pass


def test_out_is_written_through_the_protocol():
    given = example()
    out = np.full((2, 7, 4), -1, "float32")
    result = rc.resample_trajectories(*map(Producer, given), out=Producer(out))
    assert result.ctypes.data == out.ctypes.data
    assert bits(out) == bits(rc.resample_trajectories(*given))


@pytest.mark.parametrize("produce", [lambda x: Producer(frozen(x)), Legacy])
def test_out_that_may_be_read_only_is_refused(produce):
    """A legacy capsule does not say whether its memory may be written to."""
    given = example()
    with pytest.raises(ValueError, match="out is read-only"):
        rc.resample_trajectories(
            *map(Producer, given), out=produce(np.zeros((2, 7, 4), "float32"))
        )  # fmt: skip


# ----------------------------------------------------------------------------- what is not accepted


FLOAT8 = ["float8_e4m3fn", "float8_e5m2"]


@pytest.mark.parametrize("dtype", [*FLOAT8, "complex64", "int4"])
@pytest.mark.parametrize("library", LIBRARIES)
def test_dtypes_that_no_op_takes_are_named(library, dtype):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    data, times, targets = map(LIBRARIES[library], example())
    if library == "torch":
        if dtype == "int4":
            pytest.skip("torch has no int4")
        data = data.to(getattr(sys.modules["torch"], dtype))
    else:
        data = data.astype(getattr(ml_dtypes, dtype, dtype))
    with pytest.raises(TypeError, match=rf"data has dtype {dtype}"):
        rc.resample_trajectories(data, times, targets)
    named = rf"data (has dtype {dtype}|\(dtype {dtype}\) cannot be exported)"
    with pytest.raises(TypeError, match=named):
        rc.resample_trajectories(*map(Typed, (data, times, targets)))


@pytest.mark.parametrize("dtype", FLOAT8)
def test_a_capsule_says_its_dtype_though_the_producer_does_not(dtype):
    torch = pytest.importorskip("torch")
    data, times, targets = map(from_torch, example())
    data = data.to(getattr(torch, dtype))
    with pytest.raises(TypeError, match=f"resample_trajectories: data has dtype {dtype}, which"):
        rc.resample_trajectories(Producer(data), Producer(times), Producer(targets))
    with pytest.raises(TypeError, match=f"resample_trajectories: data has dtype {dtype}, which"):
        rc.resample_trajectories(Legacy(data), Legacy(times), Legacy(targets))


@pytest.mark.parametrize(
    ("dtype", "name"),
    [("U3", "str96"), ("S5", "bytes40"), ("O", "object"), ([("x", "f4"), ("y", "f4")], "void64"),
     ("longdouble", np.dtype("longdouble").name), ("m8[s]", r"timedelta64\[s\]")],
)  # fmt: skip
def test_dtypes_beyond_numbers_are_named(dtype, name):
    data, times, targets = example()
    data = np.zeros(data.shape, dtype)
    with pytest.raises(TypeError, match=f"data has dtype {name}"):
        rc.resample_trajectories(data, times, targets)
    with pytest.raises(TypeError, match=rf"data \(dtype {name}\) cannot be exported by DLPack"):
        rc.resample_trajectories(Typed(data), Typed(times), Typed(targets))


def test_foreign_byte_order_names_the_argument():
    data, times, targets = example()
    with pytest.raises(TypeError, match=r"trajectories: src_times: .*'>f4'.*native byte order"):
        rc.resample_trajectories(data, times.astype(">f4"), targets)
    with pytest.raises(BufferError, match=r"src_times \(dtype float32\) .* native byte order"):
        rc.resample_trajectories(Typed(data), Typed(times.astype(">f4")), Typed(targets))


@pytest.mark.parametrize("kind", [4, 7, 8, 10, 14, 15, 16])
def test_producers_on_other_devices_are_refused(kind):
    class Elsewhere(Producer):
        def __dlpack_device__(self):
            return kind, 0

    data, times, targets = example()
    words = rf"resample_trajectories: src_times: .*Elsewhere is on DLPack device type {kind}"
    with pytest.raises(TypeError, match=words):
        rc.resample_trajectories(Producer(data), Elsewhere(times), Producer(targets))


@pytest.mark.parametrize(
    ("kind", "library"), [(1, "numpy"), (3, "numpy"), (2, "cupy"), (13, "cupy")]
)
def test_what_kind_of_memory_is_whose(kind, library, monkeypatch):
    """Of the host, of the host and pinned, of a device, of a device and managed."""

    class OfKind(Producer):
        def __dlpack_device__(self):
            return kind, 0

    class CuPy:
        @staticmethod
        def from_dlpack(x):
            return "cupy"

    monkeypatch.setattr(array, "import_cupy", lambda: CuPy)
    made = array.from_dlpack("x", OfKind(np.arange(3.0)))
    assert made == "cupy" if library == "cupy" else type(made) is np.ndarray


def test_a_producer_without_a_device_is_refused():
    torch = pytest.importorskip("torch")
    data, times, targets = map(from_torch, example())
    with pytest.raises(TypeError, match=r"data is of no device that DLPack knows: .*meta"):
        rc.resample_trajectories(
            Producer(torch.empty_like(data, device="meta")), Producer(times), Producer(targets)
        )


def test_a_tensor_that_requires_grad_is_not_exported():
    data, times, targets = map(from_torch, example())
    with pytest.raises(BufferError, match=r"data cannot be exported by DLPack: .*detach"):
        rc.resample_trajectories(*map(Producer, (data.requires_grad_(), times, targets)))


def test_a_capsule_of_a_later_version_is_refused():
    data, times, targets = map(from_torch, example(array.bfloat16()))

    class Later(Producer):
        def __dlpack__(self, **asked):
            capsule = super().__dlpack__(**asked)
            address = dlpack._pointer(capsule, b"dltensor_versioned")
            ctypes.c_uint32.from_address(address).value = 2
            return capsule

    with pytest.raises(BufferError, match="data cannot be exported by DLPack"):
        rc.resample_trajectories(Later(data), Producer(times), Producer(targets))


# ------------------------------------------------------------------------------ who owns the memory


@GENERATIONS
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_exports_are_given_back(dtype, produce):
    data, times, targets = map(from_torch, example(array.numpy_dtype(dtype)))
    producers = [produce(x) for x in (data, times, targets)]
    freed = []

    class Base:
        """torch keeps this alive for as long as an export does."""

        def __init__(self, x) -> None:
            self.__array_interface__ = x.__array_interface__
            self.x = x

        def __del__(self) -> None:
            freed.append(1)

    owned = np.asarray(Base(data.view(sys.modules["torch"].int16).numpy()))
    lead = from_torch(owned.view(array.numpy_dtype(dtype)).reshape(data.shape))
    del owned
    first = produce(lead)
    del lead
    for _ in range(3):
        rc.resample_trajectories(first, *producers[1:])
        gc.collect()
        assert not freed
    del first
    gc.collect()
    assert freed == [1]


def test_an_array_is_asked_for_once():
    producers = [Producer(x) for x in example()]
    for count in (1, 2):
        rc.resample_trajectories(*producers)
        assert [len(x.asked) for x in producers] == [count] * 3
        assert all(version[0] >= 1 for x in producers for version in x.asked if version)


# --------------------------------------------------------------------------- the array API standard


def test_array_api_strict_gets_numpy_back():
    """On the same memory it is taken in again without a copy."""
    xp = pytest.importorskip("array_api_strict")
    given = example()
    result = rc.resample_trajectories(*map(xp.asarray, given), return_valid=True)
    assert all(type(x) is np.ndarray for x in result)
    again = xp.from_dlpack(result.values)
    assert np.from_dlpack(again).ctypes.data == result.values.ctypes.data
    assert bits(result) == bits(rc.resample_trajectories(*given, return_valid=True))


def test_array_api_strict_on_the_host_side_of_a_call():
    """Lengths and the like may come as any producer where the data does."""
    xp = pytest.importorskip("array_api_strict")
    given = example()
    lengths, latency = np.array([4, 9]), np.array([0.0, 0.5])
    expected = rc.resample_trajectories(*given, lengths=lengths, latency=latency)
    result = rc.resample_trajectories(
        *map(xp.asarray, given), lengths=xp.asarray(lengths), latency=xp.asarray(latency)
    )
    assert bits(result) == bits(expected)


def test_functions_of_the_host_take_producers():
    stamps = np.array([0, 10, 20, 40]) * 10**6
    for produce in (Producer, strict):
        assert rc.timing_report(produce(stamps)).longest_gap.tolist() == [20.0]
        assert rc.compute_stats(produce(np.arange(6.0).reshape(3, 2)))["mean"].tolist() == [2, 3]


# --------------------------------------------------------------------------------------- on a GPU


def on_cupy(x):
    return sys.modules["cupy"].asarray(x)


def on_torch(x):
    return from_torch(x).cuda()


def on_jax(x):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    return jax.device_put(x, jax.devices("cuda")[0])


GPUS = {"cupy_cuda": on_cupy, "torch_cuda": on_torch, "jax_cuda": on_jax}


@pytest.fixture
def gpu(require):
    """CuPy on a device; a function that puts a NumPy array there by the library of a lane."""

    def put(lane):
        try:
            import cupy

            cupy.zeros(1)
            GPUS[lane](np.zeros(1, "float32"))
        except Exception as e:
            require.skip(lane, f"{type(e).__name__}: {e}")
        return GPUS[lane]

    return put


def pointer(x) -> int:
    if hasattr(x, "data_ptr"):
        return x.data_ptr()
    return x.unsafe_buffer_pointer() if hasattr(x, "unsafe_buffer_pointer") else x.data.ptr


@GENERATIONS
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("lane", GPUS)
def test_device_memory_is_read_where_it_lies(lane, dtype, produce, gpu, read):
    put = gpu(lane)
    if (lane, dtype) == ("cupy_cuda", "bfloat16"):
        pytest.skip("CuPy does not export bfloat16")
    arrays = example(array.numpy_dtype(dtype))
    given = [put(x) for x in arrays]
    result = rc.resample_trajectories(*map(produce, given))
    assert type(result).__module__.partition(".")[0] == "cupy"
    assert read[-1][:3] == [pointer(x) for x in given]
    assert bits(result) == bits(rc.resample_trajectories(*arrays))


@pytest.mark.parametrize("dtype", FLOAT8)
def test_dtypes_of_device_memory_are_named(dtype, gpu):
    import torch

    data, times, targets = map(gpu("torch_cuda"), example())
    data = data.to(getattr(torch, dtype))
    with pytest.raises(TypeError, match=f"data has dtype {dtype}, which"):
        rc.resample_trajectories(Producer(data), Producer(times), Producer(targets))


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_producer_on_another_stream_is_waited_for(dtype, gpu):
    """torch makes the consumer's stream wait for its own current one, when it is told which."""
    put = gpu("torch_cuda")
    import cupy
    import torch
    from test_core import spin

    arrays = example(array.numpy_dtype(dtype))
    given = [put(x) for x in arrays]
    fresh = given[0] + 1
    spin(torch.cuda.current_stream().cuda_stream)  # compiles
    rc.resample_trajectories(*map(Producer, given))
    cupy.cuda.runtime.deviceSynchronize()
    producing, consuming = torch.cuda.Stream(), cupy.cuda.Stream(non_blocking=True)
    with torch.cuda.stream(producing), consuming:
        spin(producing.cuda_stream)
        given[0].copy_(fresh)
        result = rc.resample_trajectories(*map(Producer, given))
        assert not consuming.done  # the call itself did not wait
    consuming.synchronize()
    one = np.ones((), arrays[0].dtype)
    assert bits(result) == bits(rc.resample_trajectories(arrays[0] + one, *arrays[1:]))


def test_the_producer_is_told_the_stream_of_the_launch(gpu):
    put = gpu("cupy_cuda")
    import cupy

    asked = []

    class Telling(Producer):
        def __dlpack__(self, *, stream=None, **more):
            asked.append(stream)
            return super().__dlpack__(stream=stream, **more)

    given = [Telling(put(x)) for x in example()]
    rc.resample_trajectories(*given)
    assert set(asked) <= {1, 2}  # the legacy default stream, or that of the thread
    asked.clear()
    with cupy.cuda.Stream(non_blocking=True) as stream:
        rc.resample_trajectories(*given)
    assert asked == [stream.ptr] * 3


def test_a_producer_on_the_device_beside_one_on_the_host_is_refused(gpu):
    put = gpu("cupy_cuda")
    data, times, targets = example()
    with pytest.raises(TypeError, match=r"data \(cupy on cuda:0\), src_times \(numpy on cpu\)"):
        rc.resample_trajectories(Producer(put(data)), Producer(times), Producer(targets))


def test_pinned_memory_of_the_host(gpu):
    gpu("torch_cuda")
    arrays = example()
    given = [from_torch(x).pin_memory() for x in arrays]
    result = rc.resample_trajectories(*map(Producer, given))
    assert type(result) is np.ndarray
    assert bits(result) == bits(rc.resample_trajectories(*arrays))


def test_arrays_of_numba_on_the_device(gpu):
    gpu("cupy_cuda")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of where numba.cuda now lives
        cuda = pytest.importorskip("numba.cuda")
    if not (cuda.is_available() and hasattr(cuda.to_device(np.zeros(1)), "__dlpack__")):
        pytest.skip("this Numba has no device arrays with __dlpack__")
    arrays = example()
    result = rc.resample_trajectories(*map(cuda.to_device, arrays))
    assert bits(result) == bits(rc.resample_trajectories(*arrays))
