"""An op is a pure function from array metadata to a plan; `op` turns it into a library function.

The plan names the outputs, the scratch and the kernel launches. It depends on the shapes, dtypes,
strides and alignment of the arrays and on the static options, so it is made once for each
combination and kept. A warm call reads addresses, allocates with the caller's framework, packs
and launches on the caller's current stream.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import inspect
import itertools
import math
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, ParamSpec, TypeVar, overload

import numpy as np

from . import kernel
from .array import (
    CPU,
    FRAMEWORKS,
    Detour,
    Framework,
    Meta,
    framework,
    from_dlpack,
    import_cupy,
    itemsize,
    where,
)
from .check import NotDense, one_of
from .kernel import Const, Launch, Launcher, Out, Value
from .log import logger, planning

P = ParamSpec("P")
R = TypeVar("R")

BACKENDS = ("auto", "cuda", "numba")
_CACHE_SIZE = 1024  # plans per op: a ragged log has a new shape at every call


class Plan(NamedTuple):
    """What one call does. An output that is a Meta is the caller's own array, filled in place."""

    outputs: Mapping[str, Out | Meta]
    launches: Sequence[Launch]
    scratch: Sequence[Out] = ()
    result: str = "Result"  # the name of the named tuple, when there are several outputs


class Read(NamedTuple):
    """A plan that ends in the reading of its only output, int64 numbers that `then` turns into
    the plan of the call (or into an error). `reason` says which argument makes it unnecessary.

    Where the scratch that is `kept` can be handed on, `go_on` gives the plan in the place of
    `then`: one that uses it, also as outputs. In JAX it cannot."""

    plan: Plan
    then: Callable[[list[int]], Plan]
    reason: str
    kept: Sequence[Out] = ()
    go_on: Callable[[list[int]], Plan] | None = None


@functools.cache
def _result_type(name: str, fields: tuple[str, ...]) -> Any:
    make: Any = collections.namedtuple  # whose fields mypy wants to see written out
    cls = make(name, fields)
    # A result must survive the way from a DataLoader worker to its parent.
    cls.__reduce__ = lambda self: (_unpickle, (name, fields, tuple(self)))
    return cls


def _unpickle(name: str, fields: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    return _result_type(name, fields)(*values)


Gradient = Callable[[Sequence[Any], dict[str, Any]], Mapping[Any, Any]]


@overload
def op(fn: Callable[P, Any], /) -> Callable[P, Any]: ...
@overload
def op(
    *, gradient: Gradient, by: str | tuple[str, ...] = "data"
) -> Callable[[Callable[P, Any]], Callable[P, Any]]: ...
def op(
    fn: Any = None,
    /,
    *,
    gradient: Gradient | None = None,
    by: str | tuple[str, ...] = "data",
) -> Any:
    """Make a public function of an op.

    The annotations of `fn` tell its parameters apart: `Array` and `HostArray` are arrays (or
    None), `Scalar` are numbers that do not change the plan, everything else is a static option.
    `fn` gets a Meta for an array and, for a number that is not the parameter's default, a Value.
    A number may also come as an array with one entry per row. A `Vector` or a `Matrix` is a few
    numbers of the host, as a tuple, a list or a NumPy array; `fn` gets tuples of Values, and a
    Meta for any other array.

    An op on any number of arrays has one parameter `Arrays`, a tuple of arrays and None, and may
    have one `Scalars`, a tuple of numbers, None and tuples of them. A static option that is a
    tuple `names` says what each array is called; those that end in a name of `HOST` are host
    arrays.

    An op that can be differentiated by its array called `by` (or several; one of `Arrays`:
    ``by[key]``, or whose name ends in ``.by``) names its `gradient`: a function of the gradients
    by the outputs, in their order and None for those that are not floats or took no part, and of
    the arguments of the call by name. It returns a mapping from the name of an array (of `Arrays`:
    its position) to the gradient by it, made by other ops and by what NumPy, torch and jax.numpy
    have in common.
    """
    if fn is None:
        return lambda fn: Op(fn, gradient, by).public
    return Op(fn).public


HOST = (
    "lengths",
    "offsets",
    "latency",
    "anchors",
    "anchor_times",
    "anchor_episode",
)  # last words of the names of host arrays among `Arrays`
WHOLE = ("start",)  # names of numbers that are integers, in a list too


class Op:
    """One op with its cached plans."""

    all: ClassVar[dict[str, Op]] = {}

    def __init__(
        self,
        fn: Callable[..., Any],
        gradient: Gradient | None = None,
        by: str | tuple[str, ...] = (),
    ) -> None:
        self.fn, self.name = fn, fn.__name__.lstrip("_")
        self.gradient, self.by = gradient, (by,) if isinstance(by, str) else by
        parameters = inspect.signature(fn).parameters
        kind = {name: str(p.annotation).partition(" ")[0] for name, p in parameters.items()}
        self.vectors = {n: _VECTORS[kind[n]] for n in parameters if kind[n] in _VECTORS}
        self.scalars = tuple(
            n for n in parameters if kind[n] in ("Scalar", "Scalars") or n in self.vectors
        )
        self.arrays = tuple(n for n in parameters if kind[n] in ("Array", "Arrays", "HostArray"))
        self.variadic = "Arrays" in kind.values()
        self.options = tuple(n for n in parameters if n not in self.scalars + self.arrays)
        if self.variadic and (len(self.arrays) > 1 or len(self.scalars) > 1):
            raise TypeError(f"{self.name}: Arrays and Scalars stand alone")
        self.host = {n for n in parameters if kind[n] == "HostArray"} | set(self.scalars)
        self.defaults = tuple(parameters[n].default for n in self.scalars)
        self.cache: dict[Any, _Ready | _Reader | _Densify | _Cross] = {}
        self._lock = threading.Lock()
        self.public = self._wrapper(parameters)
        Op.all[self.name] = self

    def _wrapper(self, parameters: Mapping[str, inspect.Parameter]) -> Callable[..., Any]:
        """A function with the op's own signature: binding by Python costs a tenth of inspect."""
        namespace: dict[str, Any] = {"call": self, "numbers": numbers, "traced": _traced}
        namespace["compiling"] = _compiling
        self.namespace = namespace
        names = []
        for name, p in parameters.items():
            if p.kind is p.KEYWORD_ONLY and "*" not in names:
                names.append("*")
            names.append(name)
            namespace[f"default_{name}"] = p.default
            if p.default is not p.empty:
                names[-1] += f"=default_{name}"
        changed = " or ".join(f"{n} is not default_{n}" for n in self.scalars) or "False"
        given = [
            f"numbers({n}, {self.vectors[n]})" if n in self.vectors else n for n in self.scalars
        ]
        arrays, scalars = _tuple(self.arrays), f"{_tuple(given)} if {changed} else None"
        if self.variadic:
            arrays, scalars = self.arrays[0], self.scalars[0] if self.scalars else "None"
        plain = f"    return call({arrays}, {_tuple(self.options)}, {scalars})\n"
        every = self.arrays + self.options + self.scalars
        text = (
            f"def {self.name}({', '.join(names)}):\n"
            f"    if compiling():\n        return traced(call, {_tuple(every)})\n{plain}"
            f"def plain({', '.join(every)}):\n{plain}"
        )
        by_name = ", ".join(f"{n}={n}" for n in every)
        text += f"def by_position({', '.join(every)}):\n    return call.fn({by_name})\n"
        exec(compile(text, f"<op {self.name}>", "exec"), namespace)
        self._call: Callable[..., Plan | Read] = planning(self.name, namespace["by_position"])
        self._plain: Callable[..., Any] = namespace["plain"]
        return functools.update_wrapper(namespace[self.name], self.fn)

    def __call__(
        self, arrays: tuple[Any, ...], options: tuple[Any, ...], scalars: tuple[Any, ...] | None
    ) -> Any:
        lead = arrays[0]
        if lead is None and self.variadic:
            lead = _first(arrays)
        found = FRAMEWORKS.get(type(lead))
        if found is None or found.signature is None:
            return self._general(arrays, options, scalars)
        if scalars is None:
            kinds, values, per_row = None, (), ()
        else:
            kinds, values, per_row = self.split(scalars)
        signature = found.signature
        addresses, key = [], [found.name, options, kinds]
        try:
            for x in arrays + per_row:
                if x is None:
                    key.append(None)
                elif FRAMEWORKS.get(type(x)) is found:
                    address, part = signature(x)
                    addresses.append(address)
                    key.append(part)
                else:
                    return self._general(arrays, options, scalars)
        except Detour:
            key.clear()
        if not key:
            return self._general(arrays, options, scalars, detour=True)
        lookup = tuple(key)
        try:
            ready = self.cache.get(lookup)
        except TypeError:  # an option that is a list or an array
            return self(arrays, _hashable(options), scalars)
        if ready is None:
            ready = self._remember(lookup, found, arrays + per_row, options, kinds)
        else:
            ready.used = True  # a plan used once is the first to go
        return ready(self, found, arrays, per_row, options, scalars, addresses, values)

    # ------------------------------------------------------------------------------ a first call

    def plan(self, metas: Sequence[Meta | None], options: Any, kinds: Any) -> Plan | Read:
        """Ask the op itself."""
        if self.variadic:
            count = len(metas) - _count_per_row(kinds)
            rest = iter(metas[count:])
            scalars = () if kinds is None else (_with_per_row(kinds, rest),)
            return self._call(tuple(metas[:count]), *options, *scalars)
        count = len(self.arrays)
        scalars = self.defaults if kinds is None else kinds
        if len(metas) > count:
            scalars = _with_per_row(scalars, iter(metas[count:]))
        return self._call(*metas[:count], *options, *scalars)

    def split(self, scalars: tuple[Any, ...]) -> Any:
        return _split(scalars, None if self.variadic else self.defaults)

    def names(self, options: Any, kinds: Any = None) -> tuple[str, ...]:
        """What the arrays of a call are called, and after them the numbers that are arrays."""
        arrays: tuple[str, ...] = self.arrays
        if self.variadic:
            arrays = options[self.options.index("names")]
        return (*arrays, *[name for name, kind in self.leaves(kinds) if kind is PER_ROW])

    def differentiable(self, name: str) -> bool:
        """Is there a gradient by an array of this name?"""
        own = name.partition("[")[0] if name.endswith("]") else name.rpartition(".")[2]
        return self.gradient is not None and own in self.by

    def leaves(self, kinds: Any) -> Iterator[tuple[str, Any]]:
        """The numbers of a call, by name."""

        def below(name: str, kind: Any) -> Iterator[tuple[str, Any]]:
            if type(kind) is tuple:
                for i, part in enumerate(kind):
                    yield from below(f"{name}[{i}]", part)
            else:
                yield name, kind

        if kinds is None:
            return
        if self.variadic:
            yield from below(self.scalars[0], kinds)
            return
        for name, kind in zip(self.scalars, kinds, strict=True):
            yield from below(name, kind)

    def of_host(self, name: str) -> bool:
        return name in self.host or (self.variadic and name.endswith(HOST))

    def arguments(self, arrays: Sequence[Any], options: Any, scalars: Any) -> dict[str, Any]:
        """A call's arguments by the names of the parameters."""
        if self.variadic:
            given = dict(zip(self.scalars, [() if scalars is None else scalars], strict=False))
            given[self.arrays[0]] = tuple(arrays)
        else:
            given = dict(zip(self.arrays, arrays, strict=True))
            given |= zip(self.scalars, self.defaults if scalars is None else scalars, strict=True)
        return given | dict(zip(self.options, options, strict=True))

    def out(self, arrays: Sequence[Any], options: Any) -> int | None:
        """The position of the array to write to, where the caller gave one."""
        names = self.names(options)
        at = names.index("out") if "out" in names else None
        return at if at is not None and arrays[at] is not None else None

    def _remember(
        self, key: Any, found: Framework, arrays: tuple[Any, ...], options: Any, kinds: Any
    ) -> Any:
        device, metas = self._metas(found, arrays, self.names(options, kinds))
        backend = self.backend(options)
        made: _Ready | _Reader | _Densify | _Cross
        self._check_writeable(arrays, options)
        if backend != "auto" and (backend == "cuda") != (device >= 0):
            made = _Cross()
        else:
            made = self.prepare(found, device, metas, options, kinds)
        with self._lock:
            if len(self.cache) >= _CACHE_SIZE:
                self._forget_one()
            self.cache[key] = made
        return made

    def _check_writeable(self, arrays: Sequence[Any], options: Any) -> None:
        out = self.out(arrays, options)
        if out is not None:
            flags = getattr(arrays[out], "flags", None)
            if getattr(flags, "writeable", True) is False:
                raise ValueError(f"{self.name}: out is read-only")

    def backend(self, options: Sequence[Any]) -> str:
        backend: str = options[self.options.index("backend")]
        if backend == "pytorch":
            raise ValueError(
                "backend is 'pytorch', which is now called 'numba': it runs on the CPU"
            )
        one_of("backend", backend, BACKENDS)
        return backend

    def prepare(
        self, found: Framework, device: int, metas: Sequence[Meta | None], options: Any, kinds: Any
    ) -> Any:
        try:
            for meta in metas:
                if meta is not None and not meta.whole:
                    raise NotDense(meta)
            made = self.plan(metas, options, kinds)
        except NotDense as e:
            if self.names(options, kinds)[e.position] == "out":
                raise ValueError(
                    f"{self.name}: out has elements that are not at multiples of their size"
                ) from None
            return _Densify(e.position)
        if isinstance(made, Read):
            return _Reader(made, found, device, metas)
        return _Ready(made, found, device, metas)

    def _metas(
        self, found: Framework, arrays: Sequence[Any], names: Sequence[str]
    ) -> tuple[int, list[Meta | None]]:
        device: int | None = None
        metas: list[Meta | None] = []
        for index, x in enumerate(arrays):
            if x is None:
                metas.append(None)
                continue
            try:
                metas.append(found.meta(x, index))
            except TypeError as e:
                raise TypeError(f"{self.name}: {names[index]}: {e}") from None
            on = found.device(x)
            if device is None:
                device = on
            elif on != device:
                raise self._mixed(names, arrays)
        assert device is not None
        return device, metas

    def _mixed(self, names: Sequence[str], arrays: Sequence[Any]) -> TypeError:
        got = []
        for name, x in zip(names, arrays, strict=False):
            with contextlib.suppress(TypeError):  # of lists, which go anywhere
                if x is not None:
                    got.append(where(name, x))
        return TypeError(
            f"{self.name} takes arrays of one framework on one device, got {', '.join(got)}"
        )

    def _forget_one(self) -> None:
        """Drop the plan that has been unused for longest, to within one round of the clock."""
        for _ in range(len(self.cache) + 1):
            key = next(iter(self.cache))
            oldest = self.cache.pop(key)
            if not oldest.used:
                return
            oldest.used = False
            self.cache[key] = oldest

    # ------------------------------------------------------- everything the fast path cannot take

    def _general(
        self,
        arrays: tuple[Any, ...],
        options: Any,
        scalars: tuple[Any, ...] | None,
        detour: bool = False,
    ) -> Any:
        """Convert lists, take in other DLPack producers, hand over to JAX or torch, or say what is
        wrong."""
        lead = _first(arrays) if self.variadic else arrays[0]
        names = self.names(options)
        if self.arrays[0] in self.host and isinstance(lead, (list, tuple, *_NUMBER)):
            return self._of_numbers(arrays, options, scalars)
        try:
            found = framework(type(lead))
        except TypeError as e:
            first = names[[x is lead for x in arrays].index(True)]
            raise TypeError(f"{self.name}: {first} must be an array, {e}") from None
        device = CPU if found is None else found.device(lead)

        def conform(name: str, x: Any) -> Any:
            if x is None:
                return None
            scalar = name.partition("[")[0] in self.scalars
            if isinstance(x, (list, tuple)) and x is not lead:
                try:
                    of_floats = scalar and name not in WHOLE
                    x = np.asarray(x, float if of_floats else None if len(x) else int)
                except (TypeError, ValueError):
                    raise TypeError(
                        f"{self.name}: {name} is {x!r}, expected a number or one for each row"
                        + " (a pair is a tuple)" * scalar
                    ) from None
            if type(x) is np.ndarray and (scalar or self.of_host(name)):
                try:
                    return x if found is None else found.from_numpy(x, device)
                except ValueError as e:
                    raise ValueError(f"{self.name}: {name}: {e}") from None
            try:
                other = framework(type(x))
            except TypeError as e:
                raise TypeError(f"{self.name}: {name} must be an array, {e}") from None
            if other is not found:
                nonlocal detour
                detour = True  # a class of its own, of the same framework?
                if found is None or other is None or other.name != found.name:
                    raise self._mixed(names, arrays)
            return x

        arrays = tuple(conform(n, x) for n, x in zip(names, arrays, strict=False))
        if scalars is not None:
            named = self.scalars
            if self.variadic:
                named = tuple(f"{named[0]}[{i}]" for i in range(len(scalars)))
            scalars = tuple(_conformed(conform, *x) for x in zip(named, scalars, strict=True))
        if found is None:
            arrays = tuple(self._taken_in(n, x) for n, x in zip(names, arrays, strict=False))
            if scalars is not None:
                scalars = tuple(
                    _conformed(self._taken_in, *x) for x in zip(named, scalars, strict=True)
                )
            return self(arrays, options, scalars)
        if found.call is not None and (detour or found.signature is None):
            return found.call(self, found, arrays, _hashable(options), scalars)
        return self(arrays, options, scalars)

    # ---------------------------------------------------------------------------- torch.compile

    def prepare_trace(self) -> None:
        """What Dynamo runs, and does not trace, before it comes to `in_graph`."""
        from . import torch

        self.in_graph: Callable[..., Any] = torch.in_graph(self)

    prepare_trace._dynamo_marked_constant = True  # type: ignore[attr-defined]

    def native(self, values: tuple[Any, ...]) -> list[Any]:
        """The call inside a graph: all its arguments in, all its outputs out."""
        arrays = values[0] if self.variadic else values
        lead = next(x for x in arrays if hasattr(x, "device"))
        result = self._plain(*_unspelled(values, lead))
        self._traced = ""
        if not isinstance(result, tuple):
            return [result]
        fields: Any = getattr(result, "_fields", None)
        self._traced = f"{type(result).__name__}{fields}"
        RESULTS[self._traced] = type(result)
        return list(result)

    def traced_result(self) -> str:
        """The key in RESULTS of what `native` has just given."""
        return self._traced

    traced_result._dynamo_marked_constant = True  # type: ignore[attr-defined]

    def _of_numbers(self, arrays: tuple[Any, ...], options: Any, scalars: Any) -> Any:
        """A call whose first argument is a number or a list: it goes to where the others lie."""
        lead, *others = arrays
        try:
            first: Any = np.asarray(lead)
        except ValueError:
            raise TypeError(
                f"{self.name}: {self.arrays[0]} has rows of different lengths, expected a rectangle"
            ) from None
        for x in others:
            if hasattr(x, "__dlpack__") and (found := framework(type(x))) is not None:
                first = found.from_numpy(first, found.device(x))
                break
        result = self((first, *others), options, scalars)
        number = isinstance(lead, _NUMBER) and type(result) is np.ndarray
        return result[()] if number else result

    def _taken_in(self, name: str, x: Any) -> Any:
        if x is None or type(x) is np.ndarray:
            return x
        return from_dlpack(f"{self.name}: {name}", x)


RESULTS: dict[str, Any] = {}  # the named tuples of traced calls
_NUMPY = "<numpy>"  # before what was an array of the host


class Constant:
    """An option of a class of its own. It never changes, can be pickled, and has a name by which
    it travels where nothing but tensors and numbers do."""

    all: ClassVar[weakref.WeakValueDictionary[str, Constant]] = weakref.WeakValueDictionary()
    _made = itertools.count()

    def __new__(cls, *_: Any) -> Constant:
        made = super().__new__(cls)
        object.__setattr__(made, "token", f"<{cls.__name__} {next(cls._made)}>")
        Constant.all[made.token] = made
        return made

    token: str


def _torch_is_loaded() -> bool:
    return "torch" in sys.modules


# Dynamo runs it and takes the answer; of sys.modules itself it would watch every entry.
_torch_is_loaded._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _compiling() -> bool:
    """Is torch.compile tracing this? Once there was a tensor, torch's own function stands here."""
    if not _torch_is_loaded():
        return False
    import torch

    return bool(torch.compiler.is_dynamo_compiling())


def torch_arrived(is_dynamo_compiling: Callable[[], bool]) -> None:
    for each in Op.all.values():
        each.namespace["compiling"] = is_dynamo_compiling


def cached(function: Callable[P, R]) -> Callable[P, R]:
    """`functools.lru_cache`, of which Dynamo would warn."""
    found: Any = functools.lru_cache(256)(function)

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        result: R = (function if _compiling() else found)(*args, **kwargs)
        return result

    return functools.update_wrapper(call, function)


def _traced(op: Op, values: tuple[Any, ...]) -> Any:
    """A call that Dynamo traces. It sees one function, and that in its own words."""
    op.prepare_trace()
    results = op.in_graph(*[_spelled(x) for x in values])
    key = op.traced_result()
    return results[0] if key == "" else RESULTS[key](*results)


def _spelled(x: Any) -> Any:
    """An argument in the words that a graph may hold."""
    if isinstance(x, Constant):
        return x.token
    if isinstance(x, np.ndarray):
        import torch

        return (_NUMPY, torch.from_numpy(x))
    if isinstance(x, dict):
        return tuple([(_spelled(key), _spelled(part)) for key, part in x.items()])
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        make: Any = type(x)
        return make(*[_spelled(part) for part in x])
    if isinstance(x, tuple):
        return tuple([_spelled(part) for part in x])
    return [_spelled(part) for part in x] if isinstance(x, list) else x


def _unspelled(x: Any, lead: Any) -> Any:
    if isinstance(x, str):
        return Constant.all.get(x, x)
    if not isinstance(x, (tuple, list)):
        return x
    if len(x) == 2 and isinstance(x[0], str) and x[0] == _NUMPY:
        return x[1].to(lead.device)
    make: Any = type(x)
    parts = [_unspelled(part, lead) for part in x]
    return make(*parts) if hasattr(x, "_fields") else make(parts)


def warmup(function: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Compile and load what a call needs, ahead of a CUDA graph or of the first batch.

    Parameters
    ----------
    function : callable
        A function of this package, or one around some of them.
    *args, **kwargs
        Arguments such as it will be called with: of their shapes, dtypes and options.

    Notes
    -----
    It runs the call once and drops the result. A CUDA graph cannot be captured while kernels are
    compiled and loaded, and a first call takes from milliseconds (loaded from the disk) to
    seconds (compiled).

    Examples
    --------
    >>> import numpy as np
    >>> import robocache_cupy as rc
    >>> data, times = np.zeros((8, 100, 7), np.float32), np.zeros((8, 100))
    >>> rc.warmup(rc.resample_trajectories, data, times, times[:, :50])
    """
    function(*args, **kwargs)


def _first(arrays: Sequence[Any]) -> Any:
    """The array that says where a call runs."""
    return next((x for x in arrays if x is not None), None)


_NUMBER = (int, float, np.generic)
_PLAIN_NUMBERS = {int, float}
_VECTORS = {"Vector": 1, "Matrix": 2, "Intrinsics": 3}  # how host arrays travel as numbers
_MOST_NUMBERS = 16


def numbers(x: Any, axes: int) -> Any:
    """A small list or NumPy array as a tuple of numbers, or of tuples of them; else as it is."""
    if isinstance(x, (float, int)) or x is None:
        return x
    if isinstance(x, (list, tuple)) and {*map(type, x)} <= _PLAIN_NUMBERS:
        return tuple(x) if len(x) <= _MOST_NUMBERS else list(x)
    if axes == 3:  # a row, or three of three: any other rows are of several cameras
        try:
            shape = np.shape(x) if isinstance(x, (list, tuple, np.ndarray)) else ()
        except ValueError:
            return x
        return numbers(x, 2) if len(shape) == 1 or shape == (3, 3) else x
    if isinstance(x, np.ndarray):
        if x.ndim > axes or x.size > _MOST_NUMBERS:
            return x
        return tuple(x.tolist()) if x.ndim == 1 else tuple(map(tuple, x.tolist())) if x.ndim else x
    if isinstance(x, (list, tuple)):
        plain = not any(isinstance(part, (list, tuple, np.ndarray)) for part in x)
        if axes == 1 or plain:
            return tuple(x) if plain and len(x) <= _MOST_NUMBERS else list(x)
        rows = tuple(numbers(part, axes - 1) for part in x)
        fits = (
            all(isinstance(part, tuple) for part in rows) and sum(map(len, rows)) <= _MOST_NUMBERS
        )
        return rows if fits else list(x)
    return x


def _tuple(names: Sequence[str]) -> str:
    return f"({''.join(f'{n}, ' for n in names)})"


def _is_array(x: Any) -> bool:
    return isinstance(x, list) or (hasattr(x, "__dlpack__") and getattr(x, "ndim", 1) > 0)


class _PerRow:
    """Stands for a number that came as an array with one entry per row."""


PER_ROW = _PerRow()


def _map_arrays(function: Callable[[Any], Any], x: Any) -> Any:
    """`function` of the arrays among the scalars of a call."""
    if isinstance(x, tuple):
        return tuple(_map_arrays(function, part) for part in x)
    return function(x) if _is_array(x) else x


def _conformed(conform: Callable[[str, Any], Any], name: str, x: Any) -> Any:
    """The arrays among the scalars of a call, called by their places."""
    if isinstance(x, tuple) and name.endswith("]") and name.count("[") == 1:
        return tuple(_conformed(conform, f"{name}[{i}]", part) for i, part in enumerate(x))
    return _map_arrays(functools.partial(conform, name), x)


def _count_per_row(kinds: Any) -> int:
    if isinstance(kinds, tuple):
        return sum(map(_count_per_row, kinds))
    return int(kinds is PER_ROW)


def _join(kinds: Any, values: Sequence[Any], per_row: Sequence[Any]) -> tuple[Any, ...] | None:
    """The scalars of a call again, from the three parts that `_split` made of them."""
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


def _with_per_row(kinds: Any, rest: Iterator[Any]) -> Any:
    """The scalars of a call with the Metas of arrays in their places."""
    if type(kinds) is tuple:
        return tuple(_with_per_row(x, rest) for x in kinds)
    return next(rest) if kinds is PER_ROW else kinds


def _split(
    scalars: Sequence[Any], defaults: Sequence[Any] | None
) -> tuple[tuple[Any, ...], tuple[Any, ...], tuple[Any, ...]]:
    """The part of the scalars a plan depends on, the numbers it does not, and arrays among them."""
    values: list[Any] = []
    per_row: list[Any] = []

    def kind(x: Any) -> Any:
        if x is None or type(x) is str:
            return x
        if isinstance(x, tuple):
            if {*map(type, x)} <= _PLAIN_NUMBERS:
                values.extend(x)
                return _run_of_values(len(values) - len(x), len(x))
            return tuple([kind(part) for part in x])
        if type(x) not in _PLAIN_NUMBERS and _is_array(x):
            per_row.append(x)
            return PER_ROW
        values.append(x)
        return _run_of_values(len(values) - 1, 1)[0]

    if defaults is None:
        kinds = tuple([kind(x) for x in scalars])
    else:
        kinds = tuple(
            [x if x is default else kind(x) for x, default in zip(scalars, defaults, strict=True)]
        )
    return kinds, tuple(values), tuple(per_row)


@functools.lru_cache(1024)
def _run_of_values(first: int, count: int) -> tuple[Value, ...]:
    return tuple([Value(first + i) for i in range(count)])


def _hashable(option: Any) -> Any:
    if isinstance(option, slice):
        option = (option.start, option.stop, option.step)
        return ":".join("" if x is None else str(x) for x in option)
    if isinstance(option, dict):
        return tuple((_hashable(key), _hashable(x)) for key, x in option.items())
    if isinstance(option, (list, tuple)):
        parts = tuple(map(_hashable, option))
        return type(option)(*parts) if hasattr(option, "_fields") else parts
    if isinstance(option, np.ndarray):
        return _hashable(option.tolist())
    return option


# ------------------------------------------------------------------------------ what is remembered


class _Ready:
    """A plan bound to a framework and a device."""

    __slots__ = ("_allocate", "_current", "_device", "_launch", "_outputs", "_pointer", "_result",
                 "_stream", "_tail", "_written", "used")  # fmt: skip

    def __init__(
        self,
        plan: Plan,
        found: Framework,
        device: int,
        metas: Sequence[Meta | None],
        kept: Sequence[Out] = (),
        count: int = 0,
    ) -> None:
        """`kept` comes in calls as further arrays, after `count` others."""
        fresh = [x for x in plan.outputs.values() if isinstance(x, Out) and x not in kept]
        fresh += plan.scratch
        size = sum(math.prod(x.shape) * itemsize(x.dtype) for x in fresh)
        if size > kernel.memory_of(device):
            where = "the host" if device < 0 else f"cuda:{device}"
            raise MemoryError(
                f"the result and what it takes to make it are {size} bytes "
                f"({size / 2**30:.1f} GiB): {where} has {kernel.memory_of(device) / 2**30:.1f} GiB"
            )
        self._allocate = [found.allocator(x.shape, x.dtype, device) for x in fresh]
        self._launch, self._tail = bind(plan, fresh, [*metas, *kept], device)
        # An output is a new array, by position, or ~position of one of the call.
        self._outputs = [
            ~x.position
            if isinstance(x, Meta)
            else ~(count + kept.index(x))
            if x in kept
            else fresh.index(x)
            for x in plan.outputs.values()
        ]
        own = [x.position for x in plan.outputs.values() if isinstance(x, Meta)]
        self._written = own and found.written  # of the caller's own arrays
        several = len(plan.outputs) > 1
        self._result = _result_type(plan.result, tuple(plan.outputs)) if several else None
        self._pointer, self._stream, self._device = found.pointer, found.stream, device
        self._current = kernel.current_device(device)
        self.used = False

    def __call__(
        self,
        op: Op,
        found: Framework,
        arrays: tuple[Any, ...],
        per_row: tuple[Any, ...],
        options: Any,
        scalars: Any,
        addresses: list[int],
        values: tuple[Any, ...],
    ) -> Any:
        fresh = self.run(addresses, values)
        if self._written:
            for i in self._outputs:
                if i < 0:
                    self._written(arrays[~i])
        if self._result is None:
            (i,) = self._outputs
            return fresh[i] if i >= 0 else arrays[~i]
        return self._result(*[fresh[i] if i >= 0 else arrays[~i] for i in self._outputs])

    def run(self, addresses: list[int], values: tuple[Any, ...]) -> list[Any]:
        """Allocate the outputs and the scratch, in this order, and launch."""
        pointer, device = self._pointer, self._device
        if device >= 0 and self._current() != device:
            with import_cupy().cuda.Device(device):
                return self.run(addresses, values)
        fresh = [allocate() for allocate in self._allocate]
        for x in fresh:
            addresses.append(pointer(x))
        addresses += self._tail
        self._launch(addresses, values, self._stream(device) if device >= 0 else 0)
        return fresh


def bind(
    plan: Plan, fresh: Sequence[Out], metas: Sequence[Meta | Out | None], device: int
) -> tuple[Launcher, list[int]]:
    """The launcher of a plan. It takes the addresses of the call's arrays, those of `fresh`, and
    then those returned here."""
    order: list[Any] = [meta for meta in metas if meta is not None]
    constants = [x for launch in plan.launches for x in launch.arrays if type(x) is Const]
    order += [*fresh, None, *constants]
    launch = kernel.launcher(plan.launches, {id(x): i for i, x in enumerate(order)}, device)
    return launch, [0, *[x.address(device) for x in constants]]


class _Reader:
    """A plan whose result decides what comes next."""

    def __init__(
        self, read: Read, found: Framework, device: int, metas: Sequence[Meta | None]
    ) -> None:
        self._read, self._metas, self._device = read, metas, device
        self._first = _Ready(read.plan, found, device, metas)
        self._kept = [1 + list(read.plan.scratch).index(x) for x in read.kept]
        self._then: dict[tuple[int, ...], _Ready] = {}
        self.used = False

    def __call__(
        self,
        op: Op,
        found: Framework,
        arrays: tuple[Any, ...],
        per_row: tuple[Any, ...],
        options: Any,
        scalars: Any,
        addresses: list[int],
        values: tuple[Any, ...],
    ) -> Any:
        if found.capturing():
            raise RuntimeError(f"{op.name} reads a number back here, which a CUDA graph cannot: "
                               f"{self._read.reason}")  # fmt: skip
        fresh = self._first.run(list(addresses), values)
        sizes = tuple(found.to_numpy(fresh[0]).tolist())
        ready = self._then.get(sizes)
        if ready is None:
            read = self._read
            made = (read.go_on or read.then)(list(sizes))
            ready = _Ready(made, found, self._device, self._metas, read.kept, len(arrays))
            if len(self._then) >= _CACHE_SIZE:
                self._then.clear()
            self._then[sizes] = ready
        kept = [fresh[i] for i in self._kept]
        addresses += map(found.pointer, kept)
        arrays = (*arrays, *kept)
        return ready(op, found, arrays, per_row, options, scalars, addresses, values)


class _Densify:
    """An array has strides the kernels do not take: go on with a dense copy of it."""

    def __init__(self, position: int) -> None:
        self._position = position
        self.used = False

    def __call__(
        self,
        op: Op,
        found: Framework,
        arrays: tuple[Any, ...],
        per_row: tuple[Any, ...],
        options: Any,
        scalars: Any,
        *_: Any,
    ) -> Any:
        i, count = self._position, len(arrays)
        if i < count:
            arrays = (*arrays[:i], found.dense(arrays[i]), *arrays[i + 1 :])
        else:
            dense = iter([*per_row[: i - count], found.dense(per_row[i - count]),
                          *per_row[i - count + 1 :]])  # fmt: skip
            scalars = _map_arrays(lambda _: next(dense), scalars)
        return op(arrays, options, scalars)


class _Cross:
    """The caller asks for the backend that is not where the arrays lie: there and back again."""

    used = False

    def __call__(
        self,
        op: Op,
        found: Framework,
        arrays: tuple[Any, ...],
        per_row: tuple[Any, ...],
        options: Any,
        scalars: Any,
        *_: Any,
    ) -> Any:
        cuda = op.backend(options) == "cuda"
        logger.debug("%s crosses over to %s", op.name, op.backend(options))
        device = found.device(_first(arrays))
        there: Callable[[Any], Any] = _identity
        back: Callable[[Any], Any] = _identity
        if cuda:
            kernel.check_cuda(0)
            cupy = import_cupy()
            there, back = cupy.asarray, cupy.asnumpy

        def move(x: Any) -> Any:
            if x is None:
                return None
            x = found.to_numpy(x)
            if cuda and x.dtype.kind in "mM":
                raise TypeError(
                    f"{op.name}: CuPy has no {x.dtype}: pass .view('int64') and time_unit= to run "
                    "with backend='cuda'"
                )
            return there(x)

        if scalars is not None:
            scalars = _map_arrays(move, scalars)
        result: Any = op(tuple(map(move, arrays)), options, scalars)
        at = op.out(arrays, options)
        if at is not None:
            out = arrays[at]
            several = isinstance(result, tuple)
            found.assign(out, back(result[0] if several else result))
            rest = [found.from_numpy(back(x), device) for x in result[1:]] if several else []
            return type(result)(out, *rest) if several else out
        if isinstance(result, tuple):
            return type(result)(*[found.from_numpy(back(x), device) for x in result])
        return found.from_numpy(back(result), device)


def _identity(x: Any) -> Any:
    return x


def _forget_all() -> None:
    for each in Op.all.values():
        each.cache.clear()


kernel.after_fork.append(_forget_all)  # in a child, a plan for CUDA must not be warm
