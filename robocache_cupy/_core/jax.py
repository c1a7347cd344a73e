"""JAX: the same plan as a `buffer_callback`, eager and inside `jax.jit`.

XLA owns the outputs and the stream, and calls back with the buffers. A callback is part of what
JAX compiles, so there is one for each combination of static options and shapes, and eager calls
go through a cached `jax.jit` of it. The numbers of an eager call, which may change from call to
call, are operands; those of a call inside `jax.jit`, which has them as constants, are known to its
callback. Gradients are those that an op names, in a `jax.custom_vjp`.
"""

from __future__ import annotations

import contextlib
import ctypes
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
from jax.custom_derivatives import SymbolicZero
from jax.experimental.buffer_callback import buffer_callback

from . import fast, kernel, observe
from .array import CPU, Framework, Meta, framework, import_cupy, numpy_dtype
from .kernel import LATE, Launcher, Out, Value, Values
from .plan import (
    PER_ROW,
    Op,
    Plan,
    Read,
    _count_per_row,
    _first,
    _join,
    _map_arrays,
    _result_type,
    bind,
)

_LAUNCHERS = 64  # of a callback: one for each way in which addresses are misaligned


class _Static(NamedTuple):
    """All of a call that JAX compiles in; one callback for each."""

    op: Op
    options: Any
    kinds: Any
    metas: tuple[Meta | None, ...]
    formats: tuple[str | None, ...]  # of each Value, or None where it is traced
    sizes: tuple[int, ...] | None  # what a Read found; None before it


def call(
    op: Op, found: Framework, arrays: tuple[Any, ...], options: Any, scalars: tuple[Any, ...] | None
) -> Any:
    """Run an op on JAX arrays, concrete or traced."""
    if op.out(arrays, options) is not None:
        raise TypeError(f"{op.name}: out must be left out, JAX arrays cannot be written to")
    kinds, values, per_row = (None, (), ()) if scalars is None else op.split(scalars)
    operands = arrays + per_row
    metas = tuple(
        [None if x is None else _meta(x.shape, x.dtype, i) for i, x in enumerate(operands)]
    )
    present = [x for x in operands if x is not None]
    numbers = [_number(x) for x in values]
    static = _Static(op, options, kinds, metas, tuple(map(_format, numbers)), None)
    backend = op.backend(options)
    if backend == "cuda":
        kernel.check_cuda(0)  # here, where the error is not wrapped in a callback's
    made = _plan(static)
    _convert_known(made.plan if isinstance(made, Read) else made, static.formats, numbers)
    if isinstance(made, Read):
        if backend != "auto" and not any(map(_is_traced, (*present, *numbers))):
            return _through_numpy(op, found, arrays, options, scalars)
        (read,) = _execute(static, *_cut((numbers, present)))
        if _is_traced(read):
            raise ValueError(
                f"{op.name} reads a number back here, which a traced call cannot: {made.reason}"
            )
        sizes = np.asarray(read).view(np.int64).reshape(-1).tolist()
        static = static._replace(sizes=tuple(sizes))
        made = _plan(static)
        assert isinstance(made, Plan)
    if not any(map(_is_traced, (*present, *numbers))):
        try:
            results = _execute(static, numbers, present)
        except ValueError as e:
            if "incompatible devices" not in str(e):
                raise
            raise op._mixed(op.names(options), arrays) from None
    elif any("float" in x.dtype for x in made.outputs.values()):
        results = _differentiable(static, numbers, present)
    else:
        results = _execute(static, *_cut((numbers, present)))
    if len(made.outputs) == 1:
        return results[0]
    return _result_type(made.result, tuple(made.outputs))(*results)


@functools.lru_cache(4096)
def _meta(shape: tuple[int, ...], dtype: Any, position: int) -> Meta:
    like = jax.ShapeDtypeStruct(shape, dtype)
    found = framework(jax.Array)
    assert found is not None
    return found.meta(like, position)


def _is_traced(x: Any) -> bool:
    return isinstance(x, jax.core.Tracer)


def _is_staged() -> bool:
    """Does what is called now become part of a program? Under an eager vmap or grad it does not,
    though arrays are traced there too."""
    return _is_traced(jax.lax.iota("int32", 1))


def _cut(x: Any) -> Any:
    """The same without derivatives."""
    return jax.tree.map(lambda y: jax.lax.stop_gradient(y) if _is_traced(y) else y, x)


def _number(x: Any) -> Any:
    """A number of a call as it is packed; one that is traced as it is."""
    if isinstance(x, jax.Array) and not _is_traced(x):
        return x.item()
    if isinstance(x, timedelta):
        return x.total_seconds()
    if isinstance(x, np.timedelta64):
        return float(x / np.timedelta64(1, "s"))
    return x


def _format(x: Any) -> str | None:
    """How a number is packed; None for one that is traced."""
    if isinstance(x, float):
        return "d"
    if isinstance(x, (int, np.integer, np.bool_)):
        return "q" if x < 2**63 else "Q"
    if isinstance(x, np.floating):
        return "d"
    if _is_traced(x):
        return None
    raise TypeError(f"got {x!r}, expected a number")


def _convert_known(plan: Plan, formats: Sequence[str | None], numbers: Sequence[Any]) -> None:
    """Raise here what a number is wrong with: out of a callback it would come wrapped."""
    made = None
    for launch in plan.launches:
        for x in launch.numbers:
            if type(x) in LATE and x is not made:  # launches mostly share them
                positions = x.positions if type(x) is Values else (x.position,)
                if all(formats[i] is not None for i in positions):
                    made = x
                    x.of(numbers)


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


# ------------------------------------------------------------------------------------- gradients


def _differentiable(
    static: _Static, numbers: Sequence[Any], present: Sequence[Any]
) -> tuple[Any, ...]:
    """The results of a traced call, with the gradient that the op names or a sentence in its
    place."""
    known = [None if code is None else x for code, x in zip(static.formats, numbers, strict=True)]

    def given(traced: Sequence[Any]) -> list[Any]:
        rest = iter(traced)
        return [next(rest) if code is None else x
                for code, x in zip(static.formats, known, strict=True)]  # fmt: skip

    def plain(traced: list[Any], present: list[Any]) -> tuple[Any, ...]:
        return _execute(static, given(traced), present)

    run = jax.custom_vjp(plain)

    def forward(traced: list[Any], present: list[Any]) -> Any:
        values = [x.value for x in traced], [x.value for x in present]
        # Which arguments take part is static: the structure of a pytree can tell.
        perturbed = tuple(() if x.perturbed else None for x in (*traced, *present))
        return run(*values), (*values, perturbed)

    def backward(residuals: Any, cotangents: Any) -> Any:
        traced, present, perturbed = residuals
        grads = [
            None if type(x) is SymbolicZero or not jnp.issubdtype(x.dtype, jnp.floating) else x
            for x in cotangents
        ]
        if all(x is None for x in grads):
            return None, None
        taking_part = [x is not None for x in perturbed]
        return None, _gradients(static, given(traced), present, taking_part, grads)

    run.defvjp(forward, backward, symbolic_zeros=True)
    results: tuple[Any, ...] = run(
        [x for code, x in zip(static.formats, numbers, strict=True) if code is None], present
    )
    return results


def _gradients(
    static: _Static,
    numbers: Sequence[Any],
    present: Sequence[Any],
    taking_part: Sequence[bool],
    grads: Sequence[Any],
) -> list[Any]:
    """By each of the arrays; None where there is none."""
    op, kinds, metas = static.op, static.kinds, static.metas
    rest = iter(present)
    operands = [None if m is None else next(rest) for m in metas]
    count = len(operands) - _count_per_row(kinds)
    leaves = list(op.leaves(kinds))
    names = [
        *[name for name, kind in leaves if isinstance(kind, Value)
          and static.formats[kind.position] is None],
        *[name for name, m in zip(op.names(static.options), metas[:count], strict=False) if m],
        *[name for name, kind in leaves if kind is PER_ROW],
    ]  # fmt: skip
    for name, takes_part in zip(names, taking_part, strict=True):
        if takes_part and op.gradient is None:
            raise NotImplementedError(
                f"{op.name} has no gradient: use jax.lax.stop_gradient on its arguments"
            )
        if takes_part and not op.differentiable(name):
            raise NotImplementedError(
                f"{op.name} has no gradient by {name}: use jax.lax.stop_gradient on it"
            )
    assert op.gradient is not None
    scalars = _join(kinds, numbers, operands[count:])
    found = op.gradient(grads, op.arguments(operands[:count], static.options, scalars))
    every = [
        found.get(i if op.variadic else name)
        for i, (name, m) in enumerate(zip(op.names(static.options), metas[:count], strict=False))
        if m is not None
    ]
    return every + [None] * (len(present) - len(every))


# ------------------------------------------------------------------------------------- programs


def _execute(static: _Static, numbers: Sequence[Any], present: Sequence[Any]) -> tuple[Any, ...]:
    known, traced = [], []
    for code, x in zip(static.formats, numbers, strict=True):
        if code is None:
            traced.append(x)
        else:
            known.append(struct.pack(f"<{code}", x))
    packed = b"".join(known)
    results: tuple[Any, ...]
    if not packed or (any(map(_is_traced, (*traced, *present))) and _is_staged()):
        results = _compiled(static, packed)(*traced, *present)
    else:  # as words of 32 bits, which no setting of x64 rounds
        results = _compiled(static, None)(np.frombuffer(packed, np.uint32), *traced, *present)
    return results


def _structure(x: Out) -> Any:
    """What JAX is told of an output. Without x64 it has no 64-bit dtypes: they come as words."""
    if x.dtype in _WIDE and not jax.config.jax_enable_x64:
        return jax.ShapeDtypeStruct((*x.shape, 2), jnp.uint32)
    return jax.ShapeDtypeStruct(x.shape, numpy_dtype(x.dtype))


_WIDE = ("int64", "uint64", "float64")


def _narrow(name: str, dtype: str, x: Any, static: _Static) -> Any:
    """An output for a caller without x64."""
    if name == "indices" and dtype == "int64":
        sizes = [math.prod(m.shape) for m in static.metas if m is not None]
        if max(sizes) < 2**31:  # every index fits
            return jax.lax.bitcast_convert_type(x[..., 0], jnp.int32)
    hint = ", or pass dtype=" if "dtype" in static.op.options else ""
    raise TypeError(
        f"the result has dtype {dtype}, which JAX has only with x64: "
        f"jax.config.update('jax_enable_x64', True){hint}"
    )


@functools.lru_cache(1024)
def _compiled(static: _Static, known: bytes | None) -> Callable[..., Any]:
    """The jitted call. Its identity is that of its static part, so a second call finds it."""
    made = _plan.__wrapped__(static)  # its Metas are those of this very static
    plan = made.plan if isinstance(made, Read) else made
    callback = _Callback(static, plan, known)
    # Nothing but launches, which a CUDA graph can repeat.
    repeatable = callback.fixed and static.op.backend(static.options) != "numba"
    if repeatable:
        callback.load()

    def run(*operands: Any) -> tuple[Any, ...]:
        results = buffer_callback(
            callback,
            tuple(map(_structure, callback.fresh)),
            vmap_method="broadcast_all",
            command_buffer_compatible=repeatable,
        )(*operands)
        if isinstance(made, Read):
            return tuple(results[:1])
        public = [(name, x) for name, x in plan.outputs.items() if isinstance(x, Out)]
        narrow = not jax.config.jax_enable_x64
        return tuple(
            _narrow(name, out.dtype, x, static) if narrow and out.dtype in _WIDE else x
            for (name, out), x in zip(public, results, strict=False)
        )

    run.__name__ = run.__qualname__ = static.op.name
    return jax.jit(run)


class _Callback:
    """What XLA calls with the buffers of an execution: numbers that are not known, arrays, and
    outputs."""

    def __init__(self, static: _Static, plan: Plan, known: bytes | None) -> None:
        self._static, self._plan = static, plan
        self.fresh = _fresh(plan)
        self._axes = next(len(meta.shape) for meta in static.metas if meta is not None)
        self._backend = static.op.backend(static.options)
        codes = [code for code in static.formats if code]
        self._known = struct.Struct("<" + "".join(codes))
        self._numbers = len(static.formats) - len(codes) + (known is None)  # operands
        self._values: Any = None if known is None else self._known.unpack(known)
        self._launchers: dict[Any, tuple[Launcher, list[int], Plan]] = {}
        self._lock = threading.Lock()

    @property
    def fixed(self) -> bool:
        return self._numbers == 0

    def load(self) -> None:
        """Load the kernels where they will most likely run: the first run may be captured in a
        CUDA graph, where nothing can be loaded."""
        device = jax.config.jax_default_device or jax.local_devices()[0]
        if getattr(device, "platform", "") != "gpu":
            return
        where = device.local_hardware_id
        # What is missing is for the run to say, if it is on this device at all.
        with contextlib.suppress(ImportError, RuntimeError):
            self._bind(where, where)
            for launch in self._plan.launches:
                launch.kernel.on_device(launch.types, where)

    def __call__(self, ctx: Any, outputs: Any, *operands: Any) -> None:
        kind, device = operands[-1].__dlpack_device__()
        if int(kind) == 1:
            owners = fast.default_arithmetic()  # XLA's threads take subnormal numbers for 0
            try:
                self._run(CPU, 0, outputs, operands)
            finally:
                fast.restore_arithmetic(owners)
        else:
            self._run(int(device), ctx.stream, outputs, operands)

    def _run(self, device: int, stream: int, outputs: Any, operands: Any) -> None:
        arrays = operands[self._numbers :]
        if arrays[0].ndim > self._axes or (
            self._backend != "auto" and (self._backend == "cuda") != (device >= 0)
        ):
            self._run_each(device, stream, outputs, operands)
            return
        address = _host_address if device == CPU else _device_address
        at = [address(x) for x in arrays]
        values = self._values
        if self._numbers:
            (values,) = self._late(operands, 1, device, stream)
        run, tail, _ = self._launcher(at, device)
        at += [address(x) for x in outputs]
        run(at + tail, values, stream)

    def _run_each(self, device: int, stream: int, outputs: Any, operands: Any) -> None:
        """Under vmap every buffer has the mapped axes in front: one launch for each entry."""
        arrays = operands[self._numbers :]
        entries = math.prod(arrays[0].shape[: len(arrays[0].shape) - self._axes])
        if entries == 0:
            return
        buffers = [*arrays, *outputs]
        address = _host_address if device == CPU else _device_address
        addresses = [address(x) for x in buffers]
        strides = [_bytes(x) // entries for x in buffers]
        values = self._late(operands, entries, device, stream)
        crossed = self._backend != "auto" and (self._backend == "cuda") != (device >= 0)
        for entry in range(entries):
            if crossed:
                self._cross(buffers, entry, entries, values[entry], device, stream)
                continue
            at = [a + entry * s for a, s in zip(addresses, strides, strict=True)]
            run, tail, _ = self._launcher(at[: len(arrays)], device)
            run(at + tail, values[entry], stream)

    def _launcher(self, addresses: Sequence[int], device: int) -> tuple[Launcher, list[int], Plan]:
        key: Any = device
        for a in addresses:
            if a & 15:
                key = device, *[a & 15 for a in addresses]
                break
        return self._launchers.get(key) or self._bind(key, device)

    def _bind(self, key: Any, device: int) -> tuple[Launcher, list[int], Plan]:
        with self._lock:
            plan, fresh, metas = self._plan, self.fresh, self._static.metas
            if type(key) is tuple:
                offsets = iter(key[1:])
                metas = tuple(
                    None if m is None else m._replace(misaligned=next(offsets)) for m in metas
                )
                made = _plan.__wrapped__(self._static._replace(metas=metas))
                plan = made.plan if isinstance(made, Read) else made
                fresh = _fresh(plan)
            if len(self._launchers) >= _LAUNCHERS:
                self._launchers.clear()
            if self.fixed:
                plan = _settled(plan, self._values)
            # The plan keeps its constants alive.
            self._launchers[key] = made_of = (*bind(plan, fresh, metas, device), plan)
            return made_of

    def _late(
        self, operands: Sequence[Any], entries: int, device: int, stream: int
    ) -> list[Sequence[Any]]:
        """The numbers of each mapped entry, in the order of their Values."""
        formats = self._static.formats
        host = [_host(x, device, stream) for x in operands[: self._numbers]]
        fixed: Sequence[Any] = self._values or ()
        packed = None
        if self._values is None:
            packed = host.pop(0).reshape(entries, -1)
        late = [x.reshape(entries) for x in host]
        every: list[Sequence[Any]] = []
        for entry in range(entries):
            if packed is not None:
                fixed = self._known.unpack(packed[entry].tobytes())
            known, traced = iter(fixed), iter([x[entry].item() for x in late])
            every.append([next(traced if code is None else known) for code in formats])
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
        with observe.inside():
            result = op(tuple(operands[:count]), options, scalars)
        parts = result if isinstance(result, tuple) else (result,)
        for x, part in zip(buffers[len(metas) :], parts, strict=False):
            _write(x, entry, np.ascontiguousarray(part), device, stream)


def _settled(plan: Plan, values: Sequence[Any]) -> Plan:
    """A plan with the numbers of a call in the places of its Values."""

    def settle(x: Any) -> Sequence[Any]:
        if type(x) not in LATE:
            return (x,)
        made = x.of(values)
        convert = float if x.format[-1] == "d" else int  # the type says how it is packed
        return [convert(y) for y in (made if type(made) is tuple else (made,))]

    return plan._replace(
        launches=[
            launch._replace(numbers=tuple(y for x in launch.numbers for y in settle(x)))
            for launch in plan.launches
        ]
    )


def _fresh(plan: Plan) -> list[Out]:
    """What XLA allocates for a plan: the outputs, and after them the scratch."""
    return [*[x for x in plan.outputs.values() if isinstance(x, Out)], *plan.scratch]


_byte = ctypes.c_ubyte


def _host_address(x: Any) -> int:
    array = x.__array__()
    try:
        return ctypes.addressof(_byte.from_buffer(array))  # a third of what array.ctypes takes
    except ValueError:  # bfloat16, or no elements
        address: int = array.ctypes.data
        return address


def _device_address(x: Any) -> int:
    return int(x.__cuda_array_interface__["data"][0] or 0)


def _bytes(x: Any) -> int:
    return math.prod(x.shape) * np.dtype(x.dtype).itemsize


def _view(x: Any, device: int) -> Any:
    """The bytes of a buffer on a CUDA device, as a CuPy array."""
    cuda = import_cupy().cuda
    memory = cuda.UnownedMemory(_device_address(x), _bytes(x), x, device)
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
