"""The array frameworks: how each tells its metadata and pointer, allocates, and names its stream.

A framework is looked up by the type of the array and built when its first array arrives, so
nothing is imported that the caller has not imported already. A fast path here must give what
DLPack gives; a producer that is none of the frameworks goes through DLPack itself.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from . import dlpack, fast

CPU = -1  # the device number of host memory
_UNKNOWN = -2  # that of a traced JAX array: it is settled when JAX lowers the call


class ArrayLike(Protocol):
    """An array of NumPy, CuPy, PyTorch or JAX, or any object with ``__dlpack__``."""

    @property
    def shape(self) -> Any: ...
    @property
    def dtype(self) -> Any: ...


# How the parameters of an op are told apart; see `plan.op`.
Array = Any  # an array of the call's framework and device
Arrays = tuple[Any, ...]  # any number of them, and None
HostArray = Any  # the same, or a list or NumPy array, which is copied to the device
Scalar = Any  # a number that may change from call to call without a new plan
Vector = Any  # a few such numbers, or an array of them
Matrix = Any  # the same, in rows
Intrinsics = Any  # four such numbers, three rows of three, or an array
Scalars = tuple[Any, ...]  # any number of them, None, and tuples of them


class Meta(NamedTuple):
    """What an op sees of an array."""

    shape: tuple[int, ...]
    dtype: str
    strides: tuple[int, ...]  # in elements
    misaligned: int = 0  # the address modulo 16
    wrapped: bool = False  # JAX without x64 has cut a 64-bit array to this dtype, perhaps
    whole: bool = True  # every element at a multiple of its size; else only a copy is usable
    position: int = 0  # among the arrays of the call


class Framework(NamedTuple):
    """An array library, as functions. JAX has no pointers to give: see `jax.py`."""

    name: str
    signature: Callable[[Any], tuple[int, Any]] | None  # the address, and what a plan depends on
    meta: Callable[[Any, int], Meta]  # of an array and its position
    device: Callable[[Any], int]  # CUDA device number or CPU
    pointer: Callable[[Any], int]
    stream: Callable[[int], int]
    allocator: Callable[[tuple[int, ...], str, int], Callable[[], Any]]
    dense: Callable[[Any], Any]  # the same values, row-major, copied if need be
    to_numpy: Callable[[Any], np.ndarray]
    from_numpy: Callable[[np.ndarray, int], Any]
    assign: Callable[[Any, np.ndarray], None]  # write the values of a NumPy array into an array
    capturing: Callable[[], bool]  # is the current stream being captured into a graph?
    call: Callable[..., Any] | None = None  # of an op, where arrays have no addresses to give
    written: Callable[[Any], None] | None = None  # told of an array that was written to


class Detour(Exception):
    """A tensor that is recorded, traced or batched: `Framework.call` takes it."""


def dtype_name(dtype: Any) -> str:
    """The name of a dtype of any framework: ``float32``, ``bfloat16``, ``datetime64[ns]``.

    >>> dtype_name(np.float32), dtype_name("f8"), dtype_name("bfloat16")
    ('float32', 'float64', 'bfloat16')
    """
    if isinstance(dtype, str) and dtype == "bfloat16":
        return dtype
    try:
        return np.dtype(dtype).name
    except TypeError:
        return str(dtype).rpartition(".")[2]


def bfloat16() -> np.dtype:
    """The NumPy dtype of bfloat16, which is not NumPy's own."""
    try:
        import ml_dtypes
    except ImportError as e:
        raise ImportError(
            "bfloat16 outside PyTorch and JAX takes ml_dtypes: pip install ml_dtypes"
        ) from e
    return np.dtype(ml_dtypes.bfloat16)


def numpy_dtype(name: str) -> np.dtype:
    return bfloat16() if name == "bfloat16" else np.dtype(name)


def itemsize(name: str) -> int:
    return 2 if name == "bfloat16" else np.dtype(name).itemsize


def _no_stream(device: int) -> int:
    return 0


def _native(dtype: np.dtype) -> str:
    if not dtype.isnative:
        raise TypeError(f"got an array of dtype {dtype!r}: convert it to native byte order")
    return dtype.name


def _numpy() -> Framework:
    def signature(x: np.ndarray) -> tuple[int, Any]:
        address = x.ctypes.data
        return address, (x.shape, x.strides, x.dtype, address & 15, x.flags.writeable)

    def meta(x: np.ndarray, position: int) -> Meta:
        size = x.itemsize or 1
        strides = tuple(stride // size for stride in x.strides)
        whole = x.flags.aligned and not any(stride % size for stride in x.strides)
        return Meta(x.shape, _native(x.dtype), strides, x.ctypes.data & 15, False, whole, position)

    def assign(x: np.ndarray, values: np.ndarray) -> None:
        x[...] = values

    return Framework(
        name="numpy",
        signature=signature,
        meta=meta,
        device=lambda x: CPU,
        pointer=lambda x: x.ctypes.data,
        stream=_no_stream,
        allocator=lambda shape, dtype, device: functools.partial(
            np.empty, shape, numpy_dtype(dtype)
        ),
        dense=lambda x: np.require(x, requirements=("C", "A")),
        to_numpy=lambda x: x,
        from_numpy=lambda x, device: x,
        assign=assign,
        capturing=lambda: False,
    )


def import_cupy() -> Any:
    """CuPy, or a sentence that says how to get it."""
    fast.make_cupy_importable()
    try:
        import cupy
    except ImportError as e:
        raise ImportError(
            "running on a CUDA device takes CuPy: pip install 'robocache-cupy[cuda12]' "
            f"for a driver of CUDA 12, or [cuda13] ({e})"
        ) from e
    return cupy


def _cupy() -> Framework:
    cupy = import_cupy()

    def signature(x: Any) -> tuple[int, Any]:
        data = x.data
        address = data.ptr
        return address, (x.shape, x.strides, x.dtype, data.device_id, address & 15)

    def meta(x: Any, position: int) -> Meta:
        strides = tuple(stride // (x.itemsize or 1) for stride in x.strides)
        return Meta(x.shape, _native(x.dtype), strides, x.data.ptr & 15, position=position)

    def from_numpy(x: np.ndarray, device: int) -> Any:
        with cupy.cuda.Device(device):
            return cupy.asarray(x)

    def allocator(shape: tuple[int, ...], dtype: str, device: int) -> Callable[[], Any]:
        of_dtype = numpy_dtype(dtype)

        def allocate() -> Any:
            return cupy.empty(shape, of_dtype)

        return allocate

    def assign(x: Any, values: np.ndarray) -> None:
        with x.device:
            x[...] = cupy.asarray(values)

    def dense(x: Any) -> Any:
        with x.device:
            return cupy.ascontiguousarray(x)

    return Framework(
        name="cupy",
        signature=signature,
        meta=meta,
        device=lambda x: x.data.device_id,
        pointer=lambda x: x.data.ptr,
        stream=fast.cupy_stream(),
        allocator=allocator,
        dense=dense,
        to_numpy=cupy.asnumpy,
        from_numpy=from_numpy,
        assign=assign,
        capturing=lambda: cupy.cuda.get_current_stream().is_capturing(),
    )


def _torch() -> Framework:
    import torch

    from . import plan

    forward = torch.autograd.forward_ad

    def has_tangent(x: Any) -> bool:
        return forward.unpack_dual(x).tangent is not None

    def written(x: Any) -> None:
        """What autograd has saved of it is no more."""
        if not x.is_inference():
            torch.autograd.graph.increment_version(x)

    plan.torch_arrived(torch.compiler.is_dynamo_compiling)
    grad_enabled = torch.is_grad_enabled
    # Of compile, export, make_fx, fake tensors: they want to see what is called.
    modes = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)
    names = {x: dtype_name(x) for x in vars(torch).values() if isinstance(x, torch.dtype)}

    def signature(x: Any) -> tuple[int, Any]:
        if (x.requires_grad and grad_enabled()) or modes():
            raise Detour
        if forward._current_level >= 0 and has_tangent(x):
            raise Detour
        try:
            address = x.data_ptr()
        except RuntimeError:  # of vmap, grad, functionalize, or a sparse tensor
            raise Detour from None
        if address:
            where = x.get_device()
        elif x.numel() and not x.is_meta:
            raise Detour  # of functionalize, or without a storage
        else:
            where = x.device  # the -1 of a meta tensor is not the CPU's
        return address, (x.shape, x.stride(), x.dtype, where, address & 15, x.is_neg())

    def meta(x: Any, position: int) -> Meta:
        if not (x.is_cuda or x.is_cpu):
            raise TypeError(f"got a torch tensor on {x.device}: expected a cpu or cuda tensor")
        return Meta(
            tuple(x.shape),
            names[x.dtype],
            x.stride(),
            x.data_ptr() & 15,
            False,
            not x.is_neg(),
            position,
        )

    def call(*of_op: Any) -> Any:
        from . import torch as special

        return special.call(*of_op)

    def to_numpy(x: Any) -> np.ndarray:
        x = x.detach().cpu()
        if x.dtype is torch.bfloat16:
            return x.view(torch.uint16).numpy().view(bfloat16())
        return x.numpy()

    def from_numpy(x: np.ndarray, device: int) -> Any:
        if x.dtype.name == "bfloat16":
            tensor = torch.from_numpy(x.view(np.uint16)).view(torch.bfloat16)
        else:
            tensor = torch.from_numpy(np.require(x, requirements=("C", "W")))
        return tensor if device == CPU else tensor.to(torch.device("cuda", device))

    def assign(x: Any, values: np.ndarray) -> None:
        x.copy_(from_numpy(values, CPU))

    return Framework(
        name="torch",
        signature=signature,
        meta=meta,
        device=lambda x: x.get_device() if x.is_cuda else CPU,
        pointer=torch.Tensor.data_ptr,
        stream=fast.torch_stream(torch),
        allocator=functools.partial(fast.torch_allocator, torch),
        dense=lambda x: x.resolve_neg().contiguous(),
        to_numpy=to_numpy,
        from_numpy=from_numpy,
        assign=assign,
        capturing=lambda: torch.cuda.is_available() and torch.cuda.is_current_stream_capturing(),
        call=call,
        written=written,
    )


def _torch_subclass() -> Framework:
    """Tensors of another class than torch's own, such as fake ones."""
    return _build(_torch)._replace(signature=None)


def _jax() -> Framework:
    import jax
    import jax.numpy as jnp

    def meta(x: Any, position: int) -> Meta:
        shape, dtype = tuple(x.shape), dtype_name(x.dtype)
        dense = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
        return Meta(shape, dtype, dense, wrapped=dtype == "int32", position=position)

    def device(x: Any) -> int:
        if isinstance(x, jax.core.Tracer):
            return _UNKNOWN
        (where,) = x.devices() if len(x.devices()) == 1 else (next(iter(x.devices())),)
        return CPU if where.platform == "cpu" else where.id

    def from_numpy(x: np.ndarray, device: int) -> Any:
        if x.dtype.name in ("int64", "uint64") and not jax.config.jax_enable_x64 and x.size:
            narrow = np.iinfo("int32" if x.dtype.kind == "i" else "uint32")
            for extreme in (x.min(), x.max()):
                if not narrow.min <= extreme <= narrow.max:
                    raise ValueError(
                        f"an {x.dtype} array holds {extreme}, which JAX would cut to 32 bits: "
                        "enable x64 (jax.config.update('jax_enable_x64', True))"
                    )
        if device == _UNKNOWN:
            return jnp.asarray(x)
        platform = "cpu" if device == CPU else "cuda"
        devices = [d for d in jax.local_devices(backend=platform) if device in (CPU, d.id)]
        return jax.device_put(x, devices[0])

    def call(*of_op: Any) -> Any:
        from . import jax as traced

        return traced.call(*of_op)

    def no_pointer(*_: Any) -> Any:
        raise AssertionError("JAX arrays are reached through buffer_callback")

    return Framework(
        name="jax",
        signature=None,
        meta=meta,
        device=device,
        pointer=no_pointer,
        stream=no_pointer,
        allocator=no_pointer,
        dense=lambda x: x,
        to_numpy=np.asarray,
        from_numpy=from_numpy,
        assign=no_pointer,
        capturing=lambda: False,
        call=call,
    )


# By the package that defines the array type. A Framework is built when its first array arrives.
_PACKAGES = {"numpy": _numpy, "cupy": _cupy, "torch": _torch, "jax": _jax, "jaxlib": _jax}


@functools.cache
def _build(make: Callable[[], Framework]) -> Framework:
    return make()


FRAMEWORKS: dict[type, Framework | None] = {}  # None: any other type with __dlpack__


def framework(cls: type) -> Framework | None:
    """The framework of an array type; None for one that only speaks DLPack."""
    if cls not in FRAMEWORKS:
        FRAMEWORKS[cls] = _find(cls)
    return FRAMEWORKS[cls]


def _find(cls: type) -> Framework | None:
    for base in cls.__mro__:  # a subclass of torch.Tensor may live anywhere
        if make := _PACKAGES.get(base.__module__.partition(".")[0]):
            if not (hasattr(cls, "__dlpack__") or make is _jax):
                break  # numpy.float64, torch.Size, ...
            if make is _torch and cls.__qualname__ not in ("Tensor", "Parameter"):
                make = _torch_subclass
            return _build(make)
    if not hasattr(cls, "__dlpack__"):
        raise TypeError(f"got {cls.__qualname__}")
    return None


def namespace(x: Any) -> Any:
    """The module of functions such as `concatenate` and `where` for arrays of this framework."""
    found = framework(type(x))
    if found is None:
        raise TypeError(f"got {type(x).__qualname__}, expected an array")
    name = "jax.numpy" if found.name == "jax" else found.name
    return importlib.import_module(name)


_CUDA_DEVICES = (2, 13)  # kDLCUDA, kDLCUDAManaged
_HOST_DEVICES = (1, 3)  # kDLCPU, kDLCUDAHost
_IN_DLPACK = frozenset(
    f"{kind}{bits}" for kind in ("int", "uint", "float") for bits in (8, 16, 32, 64)
) - {"float8"} | {"bool", "bfloat16"}


def from_dlpack(name: str, x: Any) -> Any:
    """A NumPy or CuPy array on the memory of any DLPack producer: an argument called `name`."""
    try:
        kind, device = map(int, x.__dlpack_device__())
    except Exception as e:  # the producer's own, such as "Unknown device type"
        raise TypeError(f"{name} is of no device that DLPack knows: {e}") from e
    if kind not in (*_CUDA_DEVICES, *_HOST_DEVICES):
        raise TypeError(
            f"{name}: {type(x).__qualname__} is on DLPack device type {kind}: expected CPU or CUDA"
        )
    library = import_cupy() if kind in _CUDA_DEVICES else np
    try:
        return library.from_dlpack(x)
    except Exception as e:  # of the producer or of the library, which differ in what they raise
        return _from_capsule(name, x, None if library is np else device, e)


def _from_capsule(name: str, x: Any, device: int | None, refusal: Exception) -> Any:
    """A bfloat16 array from a producer that NumPy or CuPy refuses, or what is wrong with it."""
    known = getattr(x, "dtype", None)
    try:
        if device is None:
            made = dlpack.Capsule(dlpack.export(x, None))
        else:
            with import_cupy().cuda.Device(device):
                made = dlpack.Capsule(dlpack.export(x, fast.cupy_stream()(device) or 1))
    except Exception:  # it is the producer that refuses, and has said why
        dtype = "" if known is None else f" (dtype {dtype_name(known)})"
        foreign = known is not None and dtype_name(known) not in _IN_DLPACK
        raise (TypeError if foreign else BufferError)(
            f"{name}{dtype} cannot be exported by DLPack: {refusal}"
        ) from refusal
    if made.dtype != "bfloat16":
        raise TypeError(
            f"{name} has dtype {made.dtype}, which cannot be imported by DLPack: {refusal}"
        ) from refusal
    if device is None:
        return np.asarray(made).view(bfloat16())
    with import_cupy().cuda.Device(device):
        return import_cupy().asarray(made).view(bfloat16())


def as_numpy(name: str, x: Any) -> np.ndarray:
    """An array of any framework and device, or nested lists of numbers, as a NumPy array."""
    if isinstance(x, np.ndarray):
        return x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("="))
    if hasattr(x, "__dlpack__") and not isinstance(x, np.generic):
        found = framework(type(x))
        if found is None:
            x = from_dlpack(name, x)
            found = framework(type(x))
            assert found is not None
        return found.to_numpy(x)
    if not (isinstance(x, (list, tuple, int, float)) or hasattr(x, "__array__")):
        raise TypeError(f"{name} is a {type(x).__qualname__}, expected an array or a list")
    try:
        array = np.asarray(x)
    except ValueError as e:
        raise TypeError(f"{name} has rows of different lengths, expected a rectangle") from e
    if array.dtype.kind not in "biufmM":
        raise TypeError(f"{name} holds {array.dtype} values, expected numbers")
    return array


def where(name: str, x: Any) -> str:
    """An argument in the words of an error message: ``times (torch on cuda:1)``."""
    found = framework(type(x))
    if found is None:
        return f"{name} ({type(x).__qualname__})"
    device = found.device(x)
    return f"{name} ({found.name} on {'cpu' if device == CPU else f'cuda:{device}'})"
