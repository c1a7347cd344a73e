"""PyTorch beyond plain tensors: gradients, and everything that traces or transforms a function.

A call whose tensors are plain never comes here. Where torch records, traces or batches (compile,
export, make_fx, fake tensors, subclasses, dispatch modes, vmap), the call becomes one operator of
`torch.library` for each op, whose fake kernel is the plan's outputs. Gradients are those that an
op names, in an `autograd.Function` around it: an old-style one, which costs half of the others,
and one that torch.func can transform.
"""

from __future__ import annotations

import ast
import base64
import functools
import importlib
import io
import math
import pickle
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from .array import Framework, Meta, dtype_name
from .kernel import Value
from .plan import PER_ROW, Constant, Op, Plan, Read, _count_per_row, _join, _result_type

_NAMESPACE = "robocache_cupy"
_library = torch.library.Library(_NAMESPACE, "DEF")
_PLAIN = (torch.Tensor, torch.nn.Parameter)


class _Call(NamedTuple):
    """A call of an op without its tensors and numbers."""

    op: Op
    options: Any
    kinds: Any
    present: tuple[bool, ...]  # which of the arrays are given, and all numbers that are arrays
    formats: str  # of each number: d (float) or q (int)
    result: list[Any]  # the named tuple of several outputs, once it is known

    @property
    def text(self) -> str:
        """What the operator is told, in the words of Python literals."""
        return repr(_spell((self.options, self.kinds, self.present, self.formats)))

    def operands(self, tensors: Sequence[Any]) -> tuple[tuple[Any, ...], Any]:
        """The arrays and the numbers that are arrays, of the tensors of a call."""
        rest = iter(tensors)
        every = tuple(next(rest) if given else None for given in self.present)
        count = len(every) - _count_per_row(self.kinds)
        return every[:count], every[count:]

    def run(self, values: Sequence[Any], tensors: Sequence[Any]) -> tuple[Any, ...]:
        """The outputs, by the operator or at once."""
        if _is_plain(tensors):
            arrays, per_row = self.operands(tensors)
            with torch.no_grad():
                result = self.op(arrays, self.options, _join(self.kinds, values, per_row))
            self.result[:] = [type(result)] if isinstance(result, tuple) else []
            return tuple(result) if isinstance(result, tuple) else (result,)
        operator = getattr(getattr(torch.ops, _NAMESPACE), define(self.op))
        ints = [x for x, code in zip(values, self.formats, strict=True) if code == "q"]
        floats = [x for x, code in zip(values, self.formats, strict=True) if code == "d"]
        return tuple(operator(list(tensors), ints, floats, self.text))

    def gradients(
        self, grads: Sequence[Any], values: Sequence[Any], tensors: Sequence[Any]
    ) -> list[Any]:
        """By each of the tensors; None where there is none."""
        if all(g is None for g in grads):
            return [None] * len(tensors)
        op = self.op
        if op.gradient is None:
            raise RuntimeError(f"{op.name} has no gradient: pass its tensors detached")
        arrays, per_row = self.operands(tensors)
        arguments = op.arguments(arrays, self.options, _join(self.kinds, values, per_row))
        found = op.gradient(grads, arguments)
        names = op.names(self.options, self.kinds)
        return [
            found.get(i if op.variadic else name)
            for i, (name, given) in enumerate(zip(names, self.present, strict=True))
            if given
        ]


def call(
    op: Op, found: Framework, arrays: tuple[Any, ...], options: Any, scalars: tuple[Any, ...] | None
) -> Any:
    """Run an op on tensors that are recorded, traced, batched or of a class of their own."""
    options = _fixed(options)
    kinds, values, per_row = (None, (), ()) if scalars is None else op.split(scalars)
    values = [_number(x) for x in values]
    operands = arrays + per_row
    formats = "".join("q" if isinstance(x, (int, torch.SymInt)) else "d" for x in values)
    made = _Call(op, options, kinds, tuple(x is not None for x in operands), formats, [])
    given = zip(op.names(options, kinds), operands, strict=True)
    names, tensors = [], []
    for name, x in given:
        if x is not None:
            names.append(name)
            tensors.append(_usable(op, name, x))
    if len({x.device for x in tensors}) > 1:
        raise op._mixed(names, tensors)
    plan = _plan_of(made, tensors)
    if isinstance(plan, Plan):
        if len(plan.outputs) > 1:
            made.result.append(_result_type(plan.result, tuple(plan.outputs)))
    elif not _is_plain(tensors):
        raise _unreadable(op, plan)
    at = op.out(arrays, options)
    asked = [
        name
        for name, x in zip(names, tensors, strict=True)
        if torch.is_grad_enabled() and _tracks(x)
    ]
    results: tuple[Any, ...]
    transformed = any(map(_is_wrapped, tensors)) and not any(map(_is_functional, tensors))
    floats = isinstance(plan, Read) or any(_is_float(x.dtype) for x in plan.outputs.values())
    if floats and (asked or transformed):
        if at is not None:
            raise RuntimeError(f"{op.name}: a result in out cannot be differentiated: leave it out")
        for name in asked:
            if not op.differentiable(name):
                raise RuntimeError(
                    f"{op.name}: {name} requires grad, and there is no gradient by it: call it "
                    f"under torch.no_grad() or pass {name}.detach()"
                )
        function: Any = _Transformed if transformed else _Recorded
        results = function.apply(made, values, *tensors)
    elif at is None:
        results = made.run(values, tensors)
    else:
        values_of_out, *rest = made.run(values, tensors)
        results = (arrays[at].copy_(values_of_out), *rest)
    return made.result[0](*results) if made.result else results[0]


def _usable(op: Op, name: str, x: Any) -> Any:
    """The tensor, or a sentence for what no kernel can read."""
    if x.layout is not torch.strided or x.is_nested:
        kind = "a nested layout" if x.is_nested else f"layout {x.layout}"
        raise TypeError(f"{op.name}: {name} is of {kind}, expected a strided tensor")
    if _is_legacy_batched(x):
        raise RuntimeError(
            f"{op.name}: torch.autograd cannot batch gradients here (is_grads_batched, "
            "vectorize=True): use torch.func.jacrev or torch.func.vmap"
        )
    forward = torch.autograd.forward_ad
    if forward._current_level >= 0 and forward.unpack_dual(x).tangent is not None:
        raise RuntimeError(_NO_FORWARD.format(op.name))
    if x._is_zerotensor():
        return x.clone()
    if _is_plain([x]) and x.numel() and not x.is_meta:
        try:
            address = x.data_ptr()
        except RuntimeError as e:
            raise TypeError(f"{op.name}: {name}: {e}") from None
        if not address:
            raise TypeError(f"{op.name}: {name} has no storage: it was freed")
    return x


def _tracks(x: Any) -> bool:
    """Does autograd record this tensor, on any level of torch.func?"""
    while not x.requires_grad:
        if not _is_wrapped(x) or _is_functional(x):
            return False
        x = _functorch.get_unwrapped(x)
    return True


_NO_FORWARD = (
    "{} has no forward-mode derivative: use torch.func.grad, vjp or jacrev, or torch.autograd"
)


def _unreadable(op: Op, plan: Read) -> ValueError:
    return ValueError(
        f"{op.name} reads a number back here, which a traced call cannot: {plan.reason}"
    )


def _plan_of(made: _Call, tensors: Sequence[Any]) -> Plan | Read:
    """The plan of a call; its outputs have symbolic sizes where those of the tensors are."""
    metas = iter(
        [
            Meta(tuple(map(_size, x.shape)), dtype_name(x.dtype), (), position=position)
            for x, position in zip(tensors, _positions(made.present), strict=True)
        ]
    )
    every = [_dense(next(metas)) if given else None for given in made.present]
    return made.op.plan(every, made.options, made.kinds)


def _positions(present: Sequence[bool]) -> list[int]:
    return [i for i, given in enumerate(present) if given]


def _dense(meta: Meta) -> Meta:
    shape = meta.shape
    return meta._replace(strides=tuple(math.prod(shape[i + 1 :]) for i in range(len(shape))))


def _is_plain(tensors: Sequence[Any]) -> bool:
    return not _dispatch_modes() and all(
        type(x) in _PLAIN and not _is_wrapped(x) and not _is_functional(x) for x in tensors
    )


_functorch: Any = getattr(torch._C, "_functorch", None)
_is_wrapped: Callable[[Any], bool] = getattr(
    _functorch, "is_functorch_wrapped_tensor", lambda x: False
)
_is_legacy_batched: Callable[[Any], bool] = getattr(
    _functorch, "is_legacy_batchedtensor", lambda x: False
)
_is_functional: Callable[[Any], bool] = getattr(torch, "_is_functional_tensor", lambda x: False)
_dispatch_modes: Callable[[], int] = getattr(torch._C, "_len_torch_dispatch_stack", lambda: 0)


def _is_float(dtype: str) -> bool:
    return "float" in dtype


def _number(x: Any) -> Any:
    """A number of a call as torch takes it."""
    if isinstance(x, (bool, np.bool_, np.integer)):
        return int(x)
    if isinstance(x, np.floating):
        return float(x)
    if isinstance(x, np.timedelta64):
        return float(x / np.timedelta64(1, "s"))
    if hasattr(x, "total_seconds"):
        return x.total_seconds()
    if isinstance(x, torch.Tensor):
        raise TypeError(
            f"got a tensor of shape {tuple(x.shape)} for a number, expected a Python number, or a "
            "tensor with one for each row"
        )
    if not isinstance(x, (int, float, torch.SymInt, torch.SymFloat)):
        raise TypeError(f"got {x!r}, expected a number")
    return x


def _fixed(option: Any) -> Any:
    """Static options with numbers for symbols: another number is another trace."""
    if isinstance(option, torch.SymInt):
        return int(option)
    if isinstance(option, torch.SymFloat):
        return float(option)
    if isinstance(option, tuple):
        make: Any = type(option)
        parts = map(_fixed, option)
        return make(*parts) if hasattr(option, "_fields") else make(parts)
    return option


# ------------------------------------------------------------------------------------- gradients


class _Recorded(torch.autograd.Function):  # type: ignore[misc]
    """A call that autograd records."""

    @staticmethod
    def forward(ctx: Any, made: _Call, values: Any, *tensors: Any) -> Any:
        results = made.run(values, tensors)
        _remember(ctx, made, values, tensors, results)
        return results

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return None, None, *ctx.made.gradients(grads, ctx.values, ctx.saved_tensors)


class _Transformed(torch.autograd.Function):  # type: ignore[misc]
    """The same for torch.func."""

    generate_vmap_rule = True

    @staticmethod
    def forward(made: _Call, values: Any, *tensors: Any) -> Any:
        return made.run(values, tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        made, values, *tensors = inputs
        _remember(ctx, made, values, tensors, output)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        raise RuntimeError(_NO_FORWARD.format(ctx.made.op.name))

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return None, None, *ctx.made.gradients(grads, ctx.values, ctx.saved_tensors)


def _remember(
    ctx: Any, made: _Call, values: Any, tensors: Sequence[Any], results: Sequence[Any]
) -> None:
    ctx.made, ctx.values = made, values
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*[x for x in results if not x.is_floating_point()])


# ---------------------------------------------------------------------------------- the operators


@functools.cache
def define(op: Op) -> str:
    """Make the operator of an op, and return its name."""
    name = op.name
    _library.define(f"{name}(Tensor[] arrays, SymInt[] ints, float[] floats, str call) -> Tensor[]")
    qualified = f"{_NAMESPACE}::{name}"

    def run(arrays: Any, ints: Any, floats: Any, text: str) -> list[Any]:
        made = _read(op, text)
        operands, per_row = made.operands(
            [x if type(x) in _PLAIN else x.as_subclass(torch.Tensor) for x in arrays]
        )
        at = op.out(operands, made.options)
        if at is not None:  # an operator has no say over its arguments
            out = torch.empty_strided(
                operands[at].shape, operands[at].stride(), dtype=operands[at].dtype,
                device=operands[at].device,
            )  # fmt: skip
            operands = (*operands[:at], out, *operands[at + 1 :])
        scalars = _join(made.kinds, _numbers(made.formats, ints, floats), per_row)
        with torch.no_grad():
            result = op(operands, made.options, scalars)
        return list(result) if isinstance(result, tuple) else [result]

    def fake(arrays: Any, ints: Any, floats: Any, text: str) -> list[Any]:
        plan = _plan_of(_read(op, text), arrays)
        if isinstance(plan, Read):
            raise _unreadable(op, plan)
        outputs, device = plan.outputs.values(), arrays[0].device
        return [
            torch.empty(tuple(map(_symbol, x.shape)), dtype=getattr(torch, x.dtype), device=device)
            for x in outputs
        ]

    def batched(
        info: Any, in_dims: Any, arrays: Any, ints: Any, floats: Any, text: str
    ) -> tuple[Any, Any]:
        """One entry after another: the batch axis of vmap is none that the op knows."""
        operator = getattr(getattr(torch.ops, _NAMESPACE), name)

        def entry(i: int) -> Any:
            pairs = zip(arrays, in_dims[0], strict=True)
            of_entry = [x if d is None else x.select(d, i) for x, d in pairs]
            return operator(of_entry, ints, floats, text)

        if info.batch_size == 0:  # one of zeros has the shapes and dtypes
            arrays = [
                x if d is None else x.new_zeros(x.movedim(d, 0).shape[1:]).unsqueeze(d)
                for x, d in zip(arrays, in_dims[0], strict=True)
            ]
            results = [y.new_empty((0, *y.shape)) for y in entry(0)]
        else:
            entries = [entry(i) for i in range(info.batch_size)]
            results = [torch.stack(parts) for parts in zip(*entries, strict=True)]
        return results, [0] * len(results)

    _library.impl(name, run, "CompositeExplicitAutograd")
    torch.library.register_fake(qualified, fake, lib=_library)
    torch.library.register_vmap(qualified, batched, lib=_library)
    return name


def _numbers(formats: str, ints: Sequence[Any], floats: Sequence[Any]) -> list[Any]:
    of = {"q": iter(ints), "d": iter(floats)}
    return [next(of[code]) for code in formats]


# ---------------------------------------------------------------------------------- symbolic sizes


class _Dim(int):
    """A size with its symbol. Arithmetic keeps the symbol, an equality becomes a guard, and an
    order does not: no shape of an output depends on one, launches do."""

    symbol: Any

    @staticmethod
    def of(symbol: Any) -> Any:
        dim = _Dim(_hint(symbol))
        dim.symbol = symbol
        return dim

    def __eq__(self, other: object) -> bool:
        return bool(self.symbol == _symbol(other))

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = int.__hash__

    def __neg__(self) -> Any:
        return _Dim.of(-self.symbol)


def _arithmetic(name: str) -> Callable[[Any, Any], Any]:
    plain = getattr(int, name)

    def of(self: Any, other: Any) -> Any:
        number = plain(self, other)
        if number is NotImplemented or not isinstance(other, int):
            return number
        result = getattr(self.symbol, name)(int(other) if type(other) is bool else _symbol(other))
        return _Dim.of(result) if isinstance(result, torch.SymInt) else result

    return of


for _name in ("add", "radd", "sub", "rsub", "mul", "rmul", "floordiv", "rfloordiv"):
    setattr(_Dim, f"__{_name}__", _arithmetic(f"__{_name}__"))


def _size(n: Any) -> Any:
    return _Dim.of(n) if isinstance(n, torch.SymInt) else n


def _symbol(n: Any) -> Any:
    return n.symbol if isinstance(n, _Dim) else n


def _hint(symbol: Any) -> int:
    return int(symbol.node.hint) if symbol.node.hint is not None else int(symbol)


# ------------------------------------------------------------- what the operator is told, as text


def _spell(x: Any) -> Any:
    """A static option as a literal: a list for a tuple, a tuple for all that takes a word."""
    if x is None or isinstance(x, (bool, str)):
        return x
    if isinstance(x, (int, np.integer, torch.SymInt)):
        return int(x)
    if isinstance(x, (float, np.floating)):
        return float(x) if math.isfinite(x) else ("float", str(float(x)))
    if x is PER_ROW:
        return ("per_row",)
    if type(x) is Value:
        return ("value", x.position)
    if isinstance(x, (torch.dtype, np.dtype, type)):
        return dtype_name(x)
    if type(x) is tuple:
        return [_spell(part) for part in x]
    if isinstance(x, tuple):
        return ("named", type(x).__module__, type(x).__qualname__, [_spell(part) for part in x])
    return ("object", base64.b64encode(pickle.dumps(x)).decode())


def _unspell(x: Any) -> Any:
    if isinstance(x, list):
        return tuple(map(_unspell, x))
    if not isinstance(x, tuple):
        return x
    word, *rest = x
    if word == "per_row":
        return PER_ROW
    if word == "value":
        return Value(*rest)
    if word == "float":
        return float(*rest)
    if word == "named":
        module, name, parts = rest
        cls = _class(module, name)
        return cls(*map(_unspell, parts))
    return _Unpickler(io.BytesIO(base64.b64decode(*rest))).load()


def _class(module: str, name: str) -> Any:
    """A class of options. An exported program may come from anywhere: nothing else is made."""
    if module.partition(".")[0] == _NAMESPACE:
        found = getattr(importlib.import_module(module), name, None)
        if isinstance(found, type) and (issubclass(found, Constant) or hasattr(found, "_fields")):
            return found
    raise pickle.UnpicklingError(f"{module}.{name} is no option of robocache_cupy")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        package = module.partition(".")[0]
        if package == "numpy" and name in ("_reconstruct", "ndarray", "dtype", "_frombuffer"):
            return super().find_class(module, name)
        return _class(module, name)


@functools.lru_cache(1024)  # an object among the options is then the same in every call
def _read(op: Op, text: str) -> _Call:
    options, kinds, present, formats = _unspell(ast.literal_eval(text))
    return _Call(op, options, kinds, present, formats, [])


# ---------------------------------------------------------------------------------- torch.compile


@functools.cache
def in_graph(op: Op) -> Callable[..., Any]:
    """`op.native` as a function that Dynamo puts into its graph without looking into it."""
    define(op)

    def native(*values: Any) -> Any:
        return op.native(values)

    native.__name__ = native.__qualname__ = op.name
    allowed: Callable[..., Any] = torch.compiler.allow_in_graph(native)
    return allowed


def define_all() -> None:
    """So that a program exported elsewhere finds them."""
    for op in Op.all.values():
        define(op)
