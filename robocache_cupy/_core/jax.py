"""JAX: the same plan as a `buffer_callback`, eager and inside `jax.jit`.

XLA owns the outputs and the stream, and calls back with the buffers. A callback is part of what
JAX compiles, so there is one for each combination of static options and shapes, and eager calls
go through a cached `jax.jit` of it. Numbers that change from call to call are operands.
"""

from __future__ import annotations

import functools
import math
import struct
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.buffer_callback import buffer_callback

from . import fast, kernel
from .array import CPU, Framework, Meta, import_cupy, numpy_dtype
from .kernel import LATE, Launcher, Out, Value, Values
from .plan import PER_ROW, Op, Plan, Read, _count_per_row, _first, _map_arrays, _result_type, bind


class _Static(NamedTuple):
    """All of a call that JAX compiles in; one callback for each."""

    op: Op
    options: Any
    kinds: Any
    metas: tuple[Meta | None, ...]
    numbers: tuple[str | None, ...]  # of each Value: its format, or None where it is an operand
    sizes: tuple[int, ...] | None  # what a Read found; None before it


def call(
    op: Op, found: Framework, arrays: tuple[Any, ...], options: Any, scalars: tuple[Any, ...] | None
) -> Any:
    """Run an op on JAX arrays, concrete or traced."""
    if op.out(arrays, options) is not None:
        raise TypeError(f"{op.name}: out must be left out, JAX arrays cannot be written to")
    if scalars is None:
        kinds, values, per_row = None, (), ()
    else:
        kinds, values, per_row = op.split(scalars)
    operands = arrays + per_row
    if any(isinstance(x, jax.core.Tracer) for x in operands):
        metas = [None if x is None else found.meta(x, i)
                 for i, x in enumerate(operands)]  # fmt: skip
    else:
        _, metas = op._metas(found, operands, options)
    numbers: list[str | None] = []
    late: list[Any] = []
    x: Any
    for x in values:
        if isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer):
            x = x.item()
        if isinstance(x, timedelta):
            x = x.total_seconds()
        elif isinstance(x, np.timedelta64):
            x = float(x / np.timedelta64(1, "s"))
        numbers.append(_format(x))
        late.append(x)
    backend = op.backend(options)
    if backend == "cuda":
        kernel.check_cuda(0)  # here, where the error is not wrapped in a callback's
    static = _Static(op, options, kinds, tuple(metas), tuple(numbers), None)
    present = [x for x in operands if x is not None]

    def run(static: _Static) -> tuple[Any, ...]:
        words, traced = _operands(static.numbers, late)
        results: tuple[Any, ...] = _compiled(static)(words, traced, present)
        return results

    made = _plan(static)
    _convert_known(made.plan if isinstance(made, Read) else made, static.numbers, late)
    if isinstance(made, Read):
        if backend != "auto" and not any(isinstance(x, jax.core.Tracer) for x in present):
            return _through_numpy(op, found, arrays, options, scalars)
        (read,) = run(static)
        if isinstance(read, jax.core.Tracer):
            raise ValueError(
                f"{op.name} reads a number back here, which a traced call cannot: {made.reason}"
            )
        sizes = np.asarray(read).view(np.int64).tolist()
        static = static._replace(sizes=tuple(sizes))
        made = _plan(static)
        assert isinstance(made, Plan)
    results = run(static)
    if len(made.outputs) == 1:
        return results[0]
    return _result_type(made.result, tuple(made.outputs))(*results)


def _format(x: Any) -> str | None:
    """How a number is packed; None for one that is traced."""
    if isinstance(x, jax.core.Tracer):
        return None
    if isinstance(x, (bool, int, np.integer, np.bool_)):
        return "q" if x < 2**63 else "Q"
    if isinstance(x, (float, np.floating)):
        return "d"
    raise TypeError(f"got {x!r}, expected a number")


def _convert_known(plan: Plan, numbers: Sequence[str | None], late: Sequence[Any]) -> None:
    """Raise here what a number is wrong with: out of a callback it would come wrapped."""
    for launch in plan.launches:
        for x in launch.numbers:
            if type(x) in LATE:
                positions = x.positions if type(x) is Values else (x.position,)
                if all(numbers[i] is not None for i in positions):
                    x.of(late)


def _through_numpy(
    op: Op, found: Framework, arrays: Sequence[Any], options: Any, scalars: Any
) -> Any:
    def there(x: Any) -> Any:
        return np.asarray(x) if isinstance(x, jax.Array) else x

    result = op(tuple(map(there, arrays)), options, _map_arrays(there, scalars))
    where = next(iter(_first(arrays).devices()))
    return jax.tree.map(lambda x: jax.device_put(x, where), result)


@functools.lru_cache(1024)
def _plan(static: _Static) -> Plan | Read:
    made = static.op.plan(static.metas, static.options, static.kinds)
    if static.sizes is not None:
        assert isinstance(made, Read)
        return made.then(list(static.sizes))
    return made


def _operands(numbers: Sequence[str | None], late: Sequence[Any]) -> tuple[Any, list[Any]]:
    """The known numbers as uint32 words, which no setting of x64 rounds, and the traced ones."""
    packed = b"".join(
        struct.pack(f"<{code}", x) for code, x in zip(numbers, late, strict=True) if code
    )
    traced = [x for code, x in zip(numbers, late, strict=True) if code is None]
    return np.frombuffer(packed, np.uint32), traced


def _structure(x: Out, public: bool, hint: bool = False) -> Any:
    """What JAX is told of an output. Without x64 it has no 64-bit dtypes: ours come as words."""
    if x.dtype in ("int64", "uint64", "float64") and not jax.config.jax_enable_x64:
        if public:
            raise TypeError(
                f"the result has dtype {x.dtype}, which JAX has only with x64: "
                "jax.config.update('jax_enable_x64', True)" + (", or pass dtype=" if hint else "")
            )
        return jax.ShapeDtypeStruct((*x.shape[:-1], 2 * x.shape[-1]), jnp.uint32)
    return jax.ShapeDtypeStruct(x.shape, numpy_dtype(x.dtype))


@functools.lru_cache(1024)
def _compiled(static: _Static) -> Callable[..., Any]:
    """The jitted call. Its identity is that of its static part, so a second call finds it."""
    made = _plan.__wrapped__(static)  # its Metas are those of this very static
    plan = made.plan if isinstance(made, Read) else made
    public = [x for x in plan.outputs.values() if isinstance(x, Out)]
    hint = "dtype" in static.op.options
    structure = [_structure(x, not isinstance(made, Read), hint) for x in public]
    structure += [_structure(x, False) for x in plan.scratch]
    callback = _Callback(static, plan)

    def run(words: Any, traced: list[Any], arrays: list[Any]) -> tuple[Any, ...]:
        results = buffer_callback(callback, tuple(structure), vmap_method="broadcast_all")(
            words, *traced, *arrays
        )
        return tuple(results[: len(public)])

    return jax.jit(run)


class _Callback:
    """What XLA calls with the buffers of an execution."""

    def __init__(self, static: _Static, plan: Plan) -> None:
        self._static, self._plan = static, plan
        self._fresh = [x for x in plan.outputs.values() if isinstance(x, Out)] + list(plan.scratch)
        self._launchers: dict[Any, tuple[Launcher, list[int]]] = {}
        self._lock = threading.Lock()

    def __call__(self, ctx: Any, outputs: Any, words: Any, *rest: Any) -> None:
        kind, device = words.__dlpack_device__()
        device = CPU if int(kind) == 1 else int(device)
        if device == CPU:  # XLA's threads take subnormal numbers for 0
            with fast.default_arithmetic():
                self._run(ctx, outputs, device, words, *rest)
        else:
            self._run(ctx, outputs, device, words, *rest)

    def _run(self, ctx: Any, outputs: Any, device: int, words: Any, *rest: Any) -> None:
        stream = 0 if device == CPU else ctx.stream
        traced = self._static.numbers.count(None)
        numbers, arrays = rest[:traced], rest[traced:]
        given = [meta for meta in self._static.metas if meta is not None]
        # Under vmap every buffer has the mapped axes in front: one launch for each entry.
        axes = len(arrays[0].shape) - len(given[0].shape)
        entries = math.prod(arrays[0].shape[:axes])
        if entries == 0:
            return
        buffers = [*arrays, *outputs]
        addresses = [_address(x, device) for x in buffers]
        strides = [_bytes(x) // entries for x in buffers]
        values = self._values(words, numbers, entries, device, stream)
        backend = self._static.op.backend(self._static.options)
        crossed = backend != "auto" and (backend == "cuda") != (device >= 0)
        for entry in range(entries):
            at = [a + entry * s for a, s in zip(addresses, strides, strict=True)]
            if crossed:
                self._cross(buffers, entry, entries, values[entry], device, stream)
            else:
                run, tail = self._launcher(at[: len(arrays)], device)
                run([*at, *tail], values[entry], stream)

    def _launcher(self, addresses: Sequence[int], device: int) -> tuple[Launcher, list[int]]:
        misaligned = tuple(a & 15 for a in addresses)
        key = device, misaligned
        run = self._launchers.get(key)
        if run is None:
            with self._lock:
                plan, fresh = self._plan, self._fresh
                metas = self._static.metas
                if any(misaligned):
                    offsets = iter(misaligned)
                    metas = tuple(
                        None if m is None else m._replace(misaligned=next(offsets)) for m in metas
                    )
                    made = _plan.__wrapped__(self._static._replace(metas=metas))
                    plan = made.plan if isinstance(made, Read) else made
                    fresh = [x for x in plan.outputs.values() if isinstance(x, Out)]
                    fresh += plan.scratch
                run = self._launchers[key] = bind(plan, fresh, metas, device)
        return run

    def _values(
        self, words: Any, traced: Sequence[Any], entries: int, device: int, stream: int
    ) -> list[list[Any]]:
        """The numbers of each mapped entry, in the order of their Values."""
        packed = _host(words, device, stream).reshape(entries, -1)
        late = [_host(x, device, stream).reshape(entries) for x in traced]
        codes = self._static.numbers
        known = struct.Struct("<" + "".join(code for code in codes if code))
        every = []
        for entry in range(entries):
            fixed = iter(known.unpack(packed[entry].tobytes()))
            operands = iter(x[entry].item() for x in late)
            every.append([next(fixed if code else operands) for code in codes])
        return every

    def _cross(
        self,
        buffers: Sequence[Any],
        entry: int,
        entries: int,
        values: Sequence[Any],
        device: int,
        stream: int,
    ) -> None:
        """Run one entry on the other backend, through NumPy arrays."""
        op = self._static.op
        metas = [m for m in self._static.metas if m is not None]

        def of_entry(x: Any, shape: tuple[int, ...], dtype: str) -> np.ndarray:
            whole = _host(x, device, stream).reshape(entries, -1)[entry]
            return whole.view(numpy_dtype(dtype)).reshape(shape)

        inputs = iter(of_entry(x, m.shape, m.dtype) for x, m in zip(buffers, metas, strict=False))
        operands = [None if m is None else next(inputs) for m in self._static.metas]
        count = len(operands) - _count_per_row(self._static.kinds)
        scalars = _join(self._static.kinds, values, operands[count:])
        options = tuple(
            "auto" if name == "backend" and device >= 0 else value
            for name, value in zip(op.options, self._static.options, strict=True)
        )
        result = op(tuple(operands[:count]), options, scalars)
        parts = result if isinstance(result, tuple) else (result,)
        for x, part in zip(buffers[len(metas) :], parts, strict=False):
            _write(x, entry, np.ascontiguousarray(part), device, stream)


def _join(kinds: Any, values: Sequence[Any], per_row: Sequence[Any]) -> tuple[Any, ...] | None:
    """The scalars of a call again, from what `_split` made of them."""
    if kinds is None:
        return None
    rows = iter(per_row)

    def join(kind: Any) -> Any:
        if isinstance(kind, Value):
            return values[kind.position]
        if kind is PER_ROW:
            return next(rows)
        return tuple(map(join, kind)) if isinstance(kind, tuple) else kind

    return tuple(map(join, kinds))


def _address(x: Any, device: int) -> int:
    if device == CPU:
        address: int = np.asarray(x).ctypes.data
        return address
    return int(x.__cuda_array_interface__["data"][0] or 0)


def _bytes(x: Any) -> int:
    return math.prod(x.shape) * np.dtype(x.dtype).itemsize


def _view(x: Any, device: int) -> Any:
    """The bytes of a buffer on a CUDA device, as a CuPy array."""
    cuda = import_cupy().cuda
    memory = cuda.UnownedMemory(_address(x, device), _bytes(x), x, device)
    return import_cupy().ndarray(_bytes(x), np.uint8, cuda.MemoryPointer(memory, 0))


def _host(x: Any, device: int, stream: int) -> np.ndarray:
    if device == CPU:
        return np.asarray(x)
    if _bytes(x) == 0:
        return np.empty(x.shape, np.dtype(x.dtype))
    cupy = import_cupy()
    with cupy.cuda.Device(device), _external(stream):
        return cupy.asnumpy(_view(x, device)).view(np.dtype(x.dtype)).reshape(x.shape)


def _write(x: Any, entry: int, values: np.ndarray, device: int, stream: int) -> None:
    data = values.view(np.uint8).reshape(-1) if values.size else np.empty(0, np.uint8)
    lo = entry * data.size
    if device == CPU:
        np.asarray(x).view(np.uint8).reshape(-1)[lo : lo + data.size] = data
        return
    cupy = import_cupy()
    with cupy.cuda.Device(device), _external(stream):
        _view(x, device)[lo : lo + data.size].set(data)


def _external(stream: int) -> Any:
    return import_cupy().cuda.Stream.from_external(fast.ExternalStream(stream))
