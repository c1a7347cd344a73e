"""Reference implementations in Numba: they define what each CUDA kernel must compute.

They run serially on a range of items and release the GIL; `_core.kernel` spreads ranges over
threads (Numba's own threads do not survive a fork, and abort when two callers meet).

A function takes addresses and the tags of its template parameters. `row(address, offset, n, T)`
is the memory there as an array; float16 and bfloat16 are stored as uint16, and `widen` and
`narrow` convert between what is stored and what is computed with.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.imputils import lower_constant
from numba.extending import (
    NativeValue,
    intrinsic,
    models,
    overload,
    register_model,
    typeof_impl,
    unbox,
)

_jit = functools.partial(numba.njit, nogil=True, error_model="numpy", no_cfunc_wrapper=True)
inline = functools.partial(_jit, no_cpython_wrapper=True)  # part of its callers
forced = functools.partial(inline, forceinline=True)  # so that the loop around it is vectorised


def njit(function: Any = None, *, known: Mapping[str, int] = MappingProxyType({})) -> Any:
    """A function that is kept on disk, where there is a place to keep it.

    `known` are template parameters whose values tell what a call needs of it, each with the
    greatest value that tells nothing. For a greater one the function is compiled by itself; and it
    is optimised twice, which takes half as long again to compile. The first time leaves much
    standing, for the sake of references that turn out to count nothing: 18 ns for a target of one
    number, where once took 28, and 51 without known values.
    """
    if function is None:
        return functools.partial(njit, known=known)
    if known:
        function = _in_shell(function)
    try:
        made = _jit(function, cache=True)
    except RuntimeError:
        made = _jit(function)
    made.known = known
    return made


def _in_shell(function: Any) -> Any:
    """A function of the same parameters whose code is that of `function`."""
    code = function.__code__
    parameters = ", ".join(code.co_varnames[: code.co_argcount])
    shell = f"def {function.__name__}({parameters}):\n    of({parameters})"
    above = "\n" * (code.co_firstlineno - 1)  # the cache knows functions by their lines
    namespace = {"of": forced(function), "__name__": function.__module__}
    exec(compile(above + shell, code.co_filename, "exec"), namespace)
    return namespace[function.__name__]


class DType:
    """A template argument: the dtype behind an address."""

    def __init__(self, name: str) -> None:
        self.name = name


class DTypeType(types.Type):
    """Its type in Numba; one for each dtype."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        super().__init__(f"DType({dtype})")

    @property
    def stored(self) -> Any:
        """The Numba type of an element in memory."""
        if self.dtype in ("float16", "bfloat16"):
            return types.uint16
        return types.boolean if self.dtype == "bool" else getattr(types, self.dtype)


register_model(DTypeType)(models.OpaqueModel)


@typeof_impl.register(DType)
def _typeof(tag: DType, context: Any) -> DTypeType:
    return DTypeType(tag.name)


@unbox(DTypeType)
def _unbox(typ: Any, tag: Any, context: Any) -> NativeValue:
    return NativeValue(context.context.get_dummy_value())


@lower_constant(DTypeType)
def _constant(context: Any, builder: Any, typ: Any, value: Any) -> Any:
    return context.get_dummy_value()


@intrinsic
def _pointer(typingctx: Any, address: Any, T: Any) -> Any:
    """The typed pointer to an address."""
    pointer = types.CPointer(T.stored)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(pointer))

    return pointer(types.intp, T), codegen


def _bitcast(result: Any, operand: Any) -> Any:
    """An intrinsic that takes the bits of one type as those of another of its size."""

    @intrinsic
    def bitcast(typingctx: Any, x: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.bitcast(args[0], context.get_value_type(result))

        return result(operand), codegen

    return bitcast


_float_of_bits = _bitcast(types.float32, types.uint32)
_bits_of_float = _bitcast(types.uint32, types.float32)
_double_of_bits = _bitcast(types.float64, types.uint64)
_bits_of_double = _bitcast(types.uint64, types.float64)


@intrinsic
def itemsize(typingctx: Any, T: Any) -> Any:
    """The bytes of an element."""
    size = 1 if T.dtype == "bool" else T.stored.bitwidth // 8

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_constant(types.int64, size)

    return types.int64(T), codegen


@inline
def row(address, offset, n, T):
    """The n elements from an offset on, which may be negative, of the array at an address."""
    return numba.carray(_pointer(address + offset * itemsize(T), T), n)


# ------------------------------------------------------------------------- float16 and bfloat16


@inline
def float_of_bfloat16(bits):
    return _float_of_bits(np.uint32(bits) << np.uint32(16))


@inline
def bfloat16_of_float(x):
    bits = _bits_of_float(x)
    odd = np.uint32(bits >> np.uint32(16)) & np.uint32(1)
    rounded = np.uint32(bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    # NaN as CUDA's conversion gives it. A choice and no branch, so that loops are vectorised.
    return np.uint16(rounded) if x == x else np.uint16(0x7FFF)


@inline
def float_of_float16(bits):
    """Exact. By integers: LLVM's conversion crashes on processors without F16C."""
    sign = (np.uint32(bits) & np.uint32(0x8000)) << np.uint32(16)
    rest = np.uint32(bits) & np.uint32(0x7FFF)
    wide = np.uint32(rest << np.uint32(13))
    # The exponent is biased by 15, a float's by 127. The multiplication is exact and gives
    # subnormals their value.
    scaled = _bits_of_float(_float_of_bits(wide) * np.float32(2.0**112))
    largest = np.uint32(0x7F800000) | wide  # of infinity or NaN
    return _float_of_bits(sign | (scaled if rest < np.uint32(0x7C00) else largest))


@inline
def _rounded_to_float16(x):
    bits = _bits_of_float(x)
    sign = np.uint16(np.uint32(bits >> np.uint32(16)) & np.uint32(0x8000))
    rest = bits & np.uint32(0x7FFFFFFF)
    odd = np.uint32(rest >> np.uint32(13)) & np.uint32(1)
    # (15 - 127) << 23, and just under half a unit
    rounded = np.uint16(np.uint32(rest + np.uint32(0xC8000FFF) + odd) >> np.uint32(13))
    # A subnormal: the addition rounds at the right place.
    half = _bits_of_float(_float_of_bits(rest) + np.float32(0.5))
    small = np.uint16(np.uint32(half - np.uint32(0x3F000000)))
    number = small if rest < np.uint32(0x38800000) else rounded
    number = np.uint16(0x7C00) if rest >= np.uint32(0x47800000) else number  # 65536 and more
    return np.uint16(sign | number)


def _by_f16c(result, operand, convert, otherwise):
    """An intrinsic by the instruction of processors with F16C, or by integers.

    Twice as fast, or more: 512 float16 between two samples take 68 ns, and 195 by integers.
    """

    @intrinsic
    def conversion(typingctx: Any, x: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            if "+f16c" in context.codegen().magic_tuple()[2]:
                return convert(builder, args[0])
            return context.compile_internal(builder, otherwise.py_func, signature, args)

        return result(operand), codegen

    return conversion


_nearest_float16 = _by_f16c(
    types.uint16,
    types.float32,
    lambda builder, x: builder.bitcast(builder.fptrunc(x, ir.HalfType()), ir.IntType(16)),
    _rounded_to_float16,
)
# But for a signalling NaN, which it makes a quiet one.
_operand_of_float16 = _by_f16c(
    types.float32,
    types.uint16,
    lambda builder, bits: builder.fpext(builder.bitcast(bits, ir.HalfType()), ir.FloatType()),
    float_of_float16,
)


@inline
def float16_of_float(x):
    number = _nearest_float16(x)
    return number if x == x else np.uint16(0x7FFF)  # NaN, as CUDA's conversion gives it


@inline
def odd_float_of_double(x):
    """Rounded to odd, so that a second rounding, to 16 bits, gives what a single one would."""
    f = np.float32(x)
    if np.float64(f) == x or f != f:
        return f
    bits = _bits_of_float(f)
    if np.isinf(f):
        return _float_of_bits(bits - np.uint32(1))  # the largest float: odd
    if abs(np.float64(f)) > abs(x):
        bits -= np.uint32(1)  # toward zero
    return _float_of_bits(bits | np.uint32(1))


# ------------------------------------------------------------- what is stored, what is computed


def computes_double(*dtypes: str) -> bool:
    """Whether the arithmetic between these dtypes is done in double, else in float."""
    return any(d in ("float64", "int64", "uint64", "int32", "uint32") for d in dtypes)


def computed(x, T, O):
    """A number in the type that is computed with between dtypes T (read) and O (written)."""
    raise NotImplementedError


@overload(computed)
def _computed(x, T, O):
    of = np.float64 if computes_double(T.dtype, O.dtype) else np.float32
    return lambda x, T, O: of(x)


def widen(x, T, O):
    """A stored element of dtype T as a number to compute with."""
    raise NotImplementedError


@overload(widen)
def _widen(x, T, O):
    if T.dtype == "bfloat16":
        return lambda x, T, O: computed(float_of_bfloat16(x), T, O)
    if T.dtype == "float16":
        return lambda x, T, O: computed(float_of_float16(x), T, O)
    return lambda x, T, O: computed(x, T, O)


def operand(x, T, O):
    """As `widen`, of a number that goes into an addition or multiplication."""
    raise NotImplementedError


@overload(operand)
def _operand(x, T, O):
    if T.dtype == "float16":
        return lambda x, T, O: computed(_operand_of_float16(x), T, O)
    return lambda x, T, O: widen(x, T, O)


def narrow(x, O):
    """A computed number as an element of dtype O: rounded once to nearest even, and for integers
    kept within their range."""
    raise NotImplementedError


@overload(narrow)
def _narrow(x, O):
    double = x == types.float64
    if O.dtype == "bfloat16":
        if double:
            return lambda x, O: bfloat16_of_float(odd_float_of_double(x))
        return lambda x, O: bfloat16_of_float(x)
    if O.dtype == "float16":
        if double:
            return lambda x, O: float16_of_float(odd_float_of_double(x))
        return lambda x, O: float16_of_float(x)
    if O.dtype == "float64":
        return lambda x, O: np.float64(x)
    if O.dtype == "float32":
        return lambda x, O: np.float32(x)
    if O.dtype == "bool":
        return lambda x, O: x != 0
    info = np.iinfo(O.dtype)
    stored, high, low = getattr(np, O.dtype), info.max, info.min
    above, below = float(high + 1), float(low)  # exact, unlike the largest integer itself

    def saturate(x, O):
        r = np.float64(np.rint(x))
        if r >= above:
            return stored(high)
        return stored(r) if r > below else stored(low if r == r else 0)

    return saturate


def of_bits(bits, O):
    """The element of dtype O in the low bits of an int64."""
    raise NotImplementedError


@overload(of_bits)
def _of_bits(bits, O):
    if O.dtype == "float64":
        return lambda bits, O: _double_of_bits(np.uint64(bits))
    if O.dtype == "float32":
        return lambda bits, O: _float_of_bits(np.uint32(bits))
    if O.dtype == "bool":
        return lambda bits, O: bits != 0
    stored = np.uint16 if O.stored == types.uint16 else getattr(np, O.dtype)
    return lambda bits, O: stored(bits)


_INT32, _INT64 = DType("int32"), DType("int64")
_FLOAT32, _FLOAT64 = DType("float32"), DType("float64")


def load(address, width, i, W):
    """Element i of an array of int32 or int64 (W int64), or float32 or float64 (W float64),
    of 4 or 8 bytes `width`, as W."""
    raise NotImplementedError


@overload(load)
def _load(address, width, i, W):
    half, full = (_INT32, _INT64) if W.dtype == "int64" else (_FLOAT32, _FLOAT64)
    wide = getattr(np, W.dtype)

    def implementation(address, width, i, W):
        if width == 8:
            return wide(_pointer(address, full)[i])
        return wide(_pointer(address, half)[i])

    return implementation
