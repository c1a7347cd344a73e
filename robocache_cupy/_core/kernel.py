"""Kernels in pairs: a CUDA template in cuda_src and the Numba function that defines its result.

Both take the same parameters in the same order: addresses first, then int64, then whatever the
op passes as Python floats (double). The Numba function then takes the range [lo, hi) of items it
is to do, and one tag per template parameter.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import inspect
import itertools
import operator
import os
import re
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np

from . import driver, fast
from .array import Meta, import_cupy
from .log import compiling

# No fused multiply-add unless the source says so, and no fast-math: + - * / and sqrt then give
# the same bits on every backend.
OPTIONS = ("--std=c++17", "--fmad=false")

PROCESSORS = 132  # of an H200: what grids that run at once are sized for

_C_TYPE = {
    "bool": "bool",
    "int8": "signed char",
    "int16": "short",
    "int32": "int",
    "int64": "long long",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned int",
    "uint64": "unsigned long long",
    "float16": "__half",
    "bfloat16": "__nv_bfloat16",
    "float32": "float",
    "float64": "double",
}

Types = tuple[Any, ...]  # template arguments: dtype names and integers


class Out:
    """An array that a plan asks for: an output, or scratch."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: str) -> None:
        self.shape, self.dtype = shape, dtype


class Const:
    """Numbers that a plan brings along; they are on the device before its first launch."""

    __slots__ = ("_on", "values")

    def __init__(self, values: Any) -> None:
        self.values = np.ascontiguousarray(values)
        self._on: dict[int, Any] = {}  # by device, for all plans that share this object

    def address(self, device: int) -> int:
        if device < 0:
            host: int = self.values.ctypes.data
            return host
        if device not in self._on:
            cupy = import_cupy()
            with cupy.cuda.Device(device):
                self._on[device] = cupy.asarray(self.values)
                cupy.cuda.get_current_stream().synchronize()  # the launch may be on any other
        there: int = self._on[device].data.ptr
        return there


class Value(NamedTuple):
    """A number of the call that is not part of the plan: `convert` gives what is packed."""

    position: int  # among the numbers of the call
    convert: Callable[[Any], Any] | None = None
    format: str = "d"  # of the packed number: d (double) or q (int64)

    def of(self, values: Sequence[Any]) -> Any:
        """The number to pack, of the numbers of a call."""
        value = values[self.position]
        return self.convert(value) if self.convert else value


class Values(NamedTuple):
    """Numbers of a kernel that are made together, of several numbers of the call."""

    positions: tuple[int, ...]
    convert: Callable[..., tuple[Any, ...]]
    format: str  # of what is packed: 9d

    def of(self, values: Sequence[Any]) -> tuple[Any, ...]:
        return self.convert(*[values[i] for i in self.positions])


LATE = (Value, Values)  # what is known only when the call comes


def _slots(x: Any) -> int:
    """How many numbers of a kernel one entry of a launch stands for."""
    return int(x.format[:-1]) if type(x) is Values else 1


def _flat(numbers: Sequence[Any]) -> list[Any]:
    return [y for x in numbers for y in (x if type(x) is tuple else (x,))]


class Launch(NamedTuple):
    """One kernel launch of a plan."""

    kernel: Kernel
    types: Types
    arrays: tuple[Meta | Out | Const | None, ...]  # the parameters that are addresses
    numbers: tuple[Any, ...]  # the rest: int, float, Value and Values
    items: int  # what the Numba function's range counts
    weight: int  # elements per item: how much work a range is
    blocks: int
    threads: int


class Kernel:
    """``Kernel("resample", "resample", types)`` is the pair of

    - the template ``resample`` in ``cuda_src/resample.cu``,
    - ``resample`` in ``robocache_cupy/_cpu/resample.py``, which defines the result.

    `types` lists every specialisation that may be asked for. A kernel with a `table` takes all of
    its parameters as one struct, by value on the GPU and by its address in Numba.
    """

    all: ClassVar[list[Kernel]] = []  # for the tests, which compile every one

    def __init__(
        self,
        module: str,
        name: str,
        types: Iterable[Types] = ((),),
        table: Callable[[Types], str] | None = None,
    ) -> None:
        self.module, self.name, self.types = module, name, tuple(types)
        self.table = table  # the struct format of a specialisation's numbers
        self.layouts: dict[Types, struct.Struct] = {}  # of the packed parameters
        self._handles: dict[tuple[Types, int], tuple[int, Any]] = {}
        self._entries: dict[Types, Callable[..., None]] = {}
        Kernel.all.append(self)

    def __repr__(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def reference(self) -> Any:
        package = __package__.rpartition(".")[0]
        return getattr(importlib.import_module(f"{package}._cpu.{self.module}"), self.name)

    def expression(self, types: Types) -> str:
        if not types:
            return self.name
        return f"{self.name}<{', '.join(_C_TYPE.get(t, str(t)) for t in types)}>"

    def on_device(self, types: Types, device: int) -> tuple[int, Any]:
        """The driver's handle of one specialisation on one device, and CuPy's object for it."""
        key = types, device
        if key not in self._handles:
            cupy = import_cupy()
            with _compile_lock, cupy.cuda.Device(device):
                expression = self.expression(types)
                with compiling(f"{self.module}.{expression}", f"cuda:{device}"):
                    module = cupy.RawModule(
                        code=source(self.module), options=OPTIONS, name_expressions=(expression,)
                    )
                    function = module.get_function(expression)
                self._handles[key] = function.kernel.ptr, function
        return self._handles[key]

    def on_host(self, launch: Launch, args: Sequence[Any]) -> None:
        """Run the Numba function over all items, on the pool when they are many."""
        tags = _tags(launch.types)
        items = launch.items
        if self.table is not None:
            packed = struct.pack(f"<{len(launch.arrays)}Q{self.table(launch.types)}", *args)
            buffer = ctypes.create_string_buffer(packed, len(packed))  # alive until the end
            args = [ctypes.addressof(buffer)]
        entry = self._entries.get(launch.types)
        if entry is None:
            entry = self._entries[launch.types] = self._specialise(launch.types, args)
        parts = min(_POOL_SIZE, items, items * launch.weight // _SERIAL_ELEMENTS)
        if parts <= 1:
            entry(*args, 0, items, *tags)
            return
        bounds = [items * i // parts for i in range(parts + 1)]
        runs = [
            _pool().submit(entry, *args, lo, hi, *tags)
            for lo, hi in itertools.pairwise(bounds[:-1])
        ]
        entry(*args, bounds[-2], bounds[-1], *tags)  # the caller's thread does its share
        for run in runs:
            run.result()

    def _specialise(self, types: Types, args: Sequence[Any]) -> Callable[..., None]:
        """The compiled entry point: the template arguments settle the types of all parameters, so
        that a call resolves none."""
        import numba

        numbers = [numba.float64 if type(a) is float else numba.int64 for a in args]
        tags = [numba.typeof(tag) for tag in _tags(types)]
        with _compile_lock:
            reference = self.reference
            parameters = inspect.signature(reference.py_func).parameters
            for place, name in enumerate([*parameters][-len(tags) :]):
                if (nothing := reference.known.get(name)) is not None:
                    value = types[place]
                    tags[place] = numba.types.literal(value if value > nothing else 0)
            signature = (*numbers, numba.int64, numba.int64, *tags)
            with compiling(f"{self.module}.{self.expression(types)}", "numba"):
                reference.compile(signature)
            entry: Callable[..., None] = reference.overloads[signature].entry_point
        return entry


_compile_lock = threading.RLock()


@functools.cache
def _tags(types: Types) -> tuple[Any, ...]:
    from .._cpu import DType

    return tuple(DType(t) if isinstance(t, str) else t for t in types)


# ------------------------------------------------------------------------------- the host's pool

_SERIAL_ELEMENTS = 1 << 15  # handing a part to the pool costs about 20 us
_POOL_SIZE = (
    len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
)
_executor: ThreadPoolExecutor | None = None


def _pool() -> ThreadPoolExecutor:
    global _executor
    if _executor is None:
        _executor = ThreadPoolExecutor(_POOL_SIZE, "robocache")
    return _executor


# ---------------------------------------------------------------------------------- fork and CUDA

_ask_device: dict[int, Callable[[], int]] = {}  # by the devices that have been used
_cuda_used = False
_cuda_lost = False  # this process was forked from one that had used CUDA
after_fork: list[Callable[[], None]] = []  # what else must be forgotten in the child


def _in_child() -> None:
    global _executor, _cuda_lost
    _executor = None  # its threads were not copied
    _compile_lock.release()
    _cuda_lost = _cuda_used
    _ask_device.clear()
    for forget in after_fork:
        forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_compile_lock.acquire,  # and with it Numba's own lock is free in the child
        after_in_parent=_compile_lock.release,
        after_in_child=_in_child,
    )


def current_device(device: int) -> Callable[[], int]:
    """What tells the current CUDA device, before a first use of `device` (or of CPU)."""
    ask = _ask_device.get(device)
    if ask is None:
        if device < 0:
            return lambda: device
        check_cuda(device)
        ask = _ask_device[device] = import_cupy().cuda.runtime.getDevice
    return ask


@functools.cache
def memory_of(device: int) -> int:
    """The bytes of memory that a device, or the host, has in all."""
    if device >= 0:
        cuda = import_cupy().cuda
        with cuda.Device(device):
            total: int = cuda.runtime.memGetInfo()[1]
            return total
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # no POSIX
        return 2**63


def check_cuda(device: int) -> None:
    """Raise what a first use of CUDA in this process would otherwise fail with obscurely."""
    global _cuda_used
    if _cuda_lost:
        raise RuntimeError(
            "this process was forked after CUDA had been used, and CUDA does not survive a fork: "
            "start workers with multiprocessing.get_context('spawn'), or keep their arrays on "
            "the CPU"
        )
    cupy = import_cupy()
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as e:
        raise RuntimeError(f"CuPy finds no usable CUDA device ({e}): use backend='numba'") from e
    if device >= count:
        raise RuntimeError(f"CuPy sees {count} CUDA devices, the arrays are on cuda:{device}")
    _cuda_used = True


# --------------------------------------------------------------------------------------- launching

Launcher = Callable[[Sequence[int], Sequence[Any], int], None]
Slots = dict[int, int]  # by the id of a Meta, Out or None: where its address stands


def launcher(launches: Sequence[Launch], slots: Slots, device: int) -> Launcher:
    """A function of (addresses, values, stream) that runs the launches.

    It expects `device` to be the current one.
    """
    launches = [launch for launch in launches if launch.items]
    if device >= 0:
        return _device_launcher(launches, slots, device)
    return _host_launcher(launches, slots)


def _host_launcher(launches: Sequence[Launch], slots: Slots) -> Launcher:
    prepared = []
    for launch in launches:
        at = [slots[id(x)] for x in launch.arrays]
        late = [(i, x) for i, x in enumerate(launch.numbers) if type(x) in LATE]
        prepared.append((launch, at, launch.numbers if late else _flat(launch.numbers), late))

    def run(addresses: Sequence[int], values: Sequence[Any], stream: int = 0) -> None:
        for launch, at, numbers, late in prepared:
            if late:
                numbers = list(numbers)
                for i, value in late:
                    numbers[i] = value.of(values)
                numbers = _flat(numbers)
            launch.kernel.on_host(launch, [*[addresses[i] for i in at], *numbers])

    return run


class _Packed(NamedTuple):
    """A launch ready to go: all but addresses and late values stands in its buffer."""

    config: driver.Config
    told: tuple[Any, ...]  # what the driver's launch takes, the config first
    pack: Callable[..., None]
    order: Callable[[Sequence[int]], tuple[int, ...]]
    late: list[tuple[int, Callable[..., None], Value]]
    buffer: Any
    function: Any  # kept alive


def _pack(launch: Launch, slots: Slots, device: int) -> _Packed:
    handle, function = launch.kernel.on_device(launch.types, device)
    arrays, numbers = launch.arrays, launch.numbers
    leading = len(arrays)
    layout = launch.kernel.layouts.get(launch.types)
    if layout is None:  # the template arguments settle the types of all parameters
        codes = "".join(x.format if type(x) in LATE else "qd"[type(x) is float] for x in numbers)
        if launch.kernel.table is not None:
            codes = launch.kernel.table(launch.types)
        layout = struct.Struct(f"<{8 * leading}x{codes}6Q")
        launch.kernel.layouts[launch.types] = layout
    late, fixed = [], []
    offsets: list[int] = []
    for x in numbers:
        if type(x) not in LATE:
            fixed.append(x)
            continue
        offsets = offsets or _offsets(
            launch.kernel, launch.types, leading, sum(map(_slots, numbers))
        )
        late.append((offsets[len(fixed)], _late_packer(x.format), x))
        fixed += [0] * _slots(x)
    given = max((i + 1 for i, x in enumerate(arrays) if x is not None), default=0)
    given = min(max(given, 2), leading)  # a getter of one would give no tuple
    # The parameters, their size, and the driver's way to be told of both.
    buffer = ctypes.create_string_buffer(layout.size)
    base = ctypes.addressof(buffer)
    count = layout.size - 48
    size = base + count
    layout.pack_into(buffer, 0, *fixed, count, _BUFFER_POINTER, base, _BUFFER_SIZE, size, 0)
    config = driver.config(launch.blocks, launch.threads, device)
    return _Packed(
        config,
        (config, handle, None, size + 8),
        _packer(given),
        operator.itemgetter(*[slots[id(x)] for x in arrays[:given]]),
        late,
        buffer,
        function,
    )


@functools.lru_cache(64)
def _offsets(kernel: Kernel, types: Types, leading: int, count: int) -> list[int]:
    """Where each number of the parameters stands."""
    if kernel.table is None:
        return [8 * (leading + i) for i in range(count)]
    offsets, at = [], 8 * leading
    for times, code in re.findall(r"(\d*)(\w)", kernel.table(types)):
        for _ in range(int(times or 1)):
            if code != "x":  # padding is no number
                offsets.append(at)
            at += struct.calcsize(f"<{code}")
    return offsets


_BUFFER_POINTER, _BUFFER_SIZE = 1, 2  # CU_LAUNCH_PARAM_BUFFER_POINTER and _SIZE


@functools.cache
def _late_packer(code: str) -> Callable[..., None]:
    pack = struct.Struct(f"<{code}").pack_into
    return (
        pack if len(code) == 1 else lambda buffer, offset, numbers: pack(buffer, offset, *numbers)
    )


@functools.cache
def _packer(count: int) -> Callable[..., None]:
    return struct.Struct(f"<{count}Q").pack_into


def _device_launcher(launches: Sequence[Launch], slots: Slots, device: int) -> Launcher:
    driver_launch = driver.launch()
    if driver_launch is None:
        return _public_launcher(launches, slots, device)
    local = threading.local()  # the driver's launch releases the GIL: each thread packs its own

    def bind() -> list[_Packed]:
        import_cupy().cuda.runtime.setDevice(device)  # a new thread has no CUDA context yet
        local.packed = [_pack(launch, slots, device) for launch in launches]
        return local.packed

    def run(addresses: Sequence[int], values: Sequence[Any], stream: int) -> None:
        try:
            packed = local.packed
        except AttributeError:
            packed = bind()
        made_of = made = None  # launches mostly share what they make of the call's numbers
        for config, told, pack, order, late, buffer, _ in packed:
            pack(buffer, 0, *order(addresses))
            for offset, pack_value, value in late:
                if value is not made_of:
                    made_of, made = value, value.of(values)
                pack_value(buffer, offset, made)
            config.stream = stream
            if status := driver_launch(*told):
                raise import_cupy().cuda.driver.CUDADriverError(status)

    return run


def _public_launcher(launches: Sequence[Launch], slots: Slots, device: int) -> Launcher:
    """The same through `RawKernel.__call__`, where the driver's launch is not found."""
    cuda = import_cupy().cuda

    def run(addresses: Sequence[int], values: Sequence[Any], stream: int) -> None:
        with cuda.Stream.from_external(fast.ExternalStream(stream)):
            for launch in launches:
                kernel = launch.kernel
                _, function = kernel.on_device(launch.types, device)
                args: list[Any] = [addresses[slots[id(x)]] for x in launch.arrays]
                args += _flat([x.of(values) if type(x) in LATE else x for x in launch.numbers])
                if kernel.table is not None:
                    layout = f"<{len(launch.arrays)}Q{kernel.table(launch.types)}"
                    args = [np.frombuffer(struct.pack(layout, *args), np.uint8)]
                    args = [args[0].view([("words", np.uint8, args[0].size)])[0]]
                function((launch.blocks,), (launch.threads,), args)

    return run


# ------------------------------------------------------------------------------------- the sources

GENERATED: dict[str, str] = {}  # the text of headers that are written from Python, by name


def cuda_src() -> Path:
    """The folder of the CUDA sources: inside an installed package, beside it in a checkout."""
    package = Path(__file__).parents[1]
    for folder in package / "cuda_src", package.parent / "cuda_src":
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"cuda_src is neither in nor beside {package}: reinstall robocache-cupy"
    )


@functools.cache
def source(module: str) -> str:
    """The text of cuda_src/<module>.cu with its own headers put in place.

    CuPy's disk cache is keyed by the source text and does not see the files it includes, so a
    header left to the compiler could change without a recompilation. The #line directives keep
    the compiler's messages pointing at the real files.
    """
    seen = set()

    def expand(path: Path) -> Iterator[str]:
        seen.add(path)
        yield f'#line 1 "{path.name}"'
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            include = re.fullmatch(r'#include "(.+)"', line)
            if include and include[1] in GENERATED:
                yield from [f'#line 1 "{include[1]}"', GENERATED[include[1]]]
                yield f'#line {number + 1} "{path.name}"'
            elif include and (header := path.parent / include[1]) not in seen:
                yield from expand(header)
                yield f'#line {number + 1} "{path.name}"'
            else:
                yield "" if include or line == "#pragma once" else line

    return "\n".join(expand(cuda_src() / f"{module}.cu"))
