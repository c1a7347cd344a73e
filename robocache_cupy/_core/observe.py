"""Calls as metrics, profiling, numerical checks and a chosen backend want to see them.

While none of these is on, none of this is in the way: `update` puts another function in the place
of `Op.__call__` when the first is switched on, and the plain one back when the last goes off.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import config, metrics
from . import kernel
from .array import CPU, Framework, as_numpy, framework
from .log import logger
from .plan import Op, _first, _map_arrays

_plain = Op.__call__
_local = threading.local()  # inside: is this thread inside of a call already?
_lock = threading.Lock()


def update() -> None:
    """See to it that calls are looked at if anything wants it, and else are not."""
    with _lock:
        on = metrics.enabled() or config.wants_calls()
        Op.__call__ = _observed if on else _plain  # type: ignore[assignment,method-assign]


def _in_child() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it


kernel.after_fork.append(_in_child)


@contextlib.contextmanager
def inside() -> Iterator[None]:
    """Calls made in this thread are part of one that is, or was, looked at already."""
    before = getattr(_local, "inside", False)
    _local.inside = True
    try:
        yield
    finally:
        _local.inside = before


def _observed(
    op: Op, arrays: tuple[Any, ...], options: tuple[Any, ...], scalars: tuple[Any, ...] | None
) -> Any:
    if getattr(_local, "inside", False):
        return _plain(op, arrays, options, scalars)
    lead = _lead(arrays)
    if type(lead) is not np.ndarray and _is_abstract(lead):
        return _plain(op, arrays, options, scalars)
    settings = config.get_config()
    at = op.options.index("backend")
    if options[at] == "auto" != settings.backend:
        options = (*options[:at], settings.backend, *options[at + 1 :])
    run: Any = _timed if metrics.enabled() else _plain
    if settings.numerical_checks:
        run = functools.partial(_checked, run)
    _local.inside = True
    try:
        if not settings.enable_profiling:
            return run(op, arrays, options, scalars)
        with config.import_nvtx().annotate(op.name, domain="robocache_cupy"):
            return run(op, arrays, options, scalars)
    finally:
        _local.inside = False


def _lead(arrays: tuple[Any, ...]) -> Any:
    """The array of a call that says where it runs; without one, its first argument."""
    return next((x for x in arrays if hasattr(x, "__dlpack__") or _is_jax(x)), _first(arrays))


def _is_jax(x: Any) -> bool:
    return "jax" in sys.modules and isinstance(x, sys.modules["jax"].Array)


def _is_abstract(x: Any) -> bool:
    """Does this array stand for others, in a trace, a transformation or a graph to be?"""
    if _is_jax(x):
        return isinstance(x, sys.modules["jax"].core.Tracer)
    if "torch" in sys.modules and isinstance(x, sys.modules["torch"].Tensor):
        from . import torch as special

        return not special._is_plain([x])
    return False


def _where(op: Op, lead: Any, options: tuple[Any, ...]) -> tuple[str, int, Framework | None]:
    """The backend of a call, its device, and the framework of its arrays."""
    found, device = None, CPU
    try:
        found = framework(type(lead))
        if found is not None:
            device = found.device(lead)
        elif int(lead.__dlpack_device__()[0]) in (2, 13):
            device = int(lead.__dlpack_device__()[1])
    except TypeError:  # a list, or no array at all, which the op itself will say
        pass
    backend = options[op.options.index("backend")]
    if backend == "auto":
        backend = "cuda" if device >= 0 else "numba"
    return backend, device, found


# ---------------------------------------------------------------------------------------- metrics


def _timed(op: Op, arrays: tuple[Any, ...], options: Any, scalars: Any) -> Any:
    backend, device, found = _where(op, _lead(arrays), options)
    timer = None
    # JAX runs the call on a stream of its own, and a graph would take the events in.
    if backend == "cuda" and not (found and (found.name == "jax" or found.capturing())):
        stream = None if device == CPU or found is None else found.stream
        timer = metrics.GpuTimer.start(max(device, 0), stream)
    start = time.perf_counter_ns()
    result = _plain(op, arrays, options, scalars)
    host = time.perf_counter_ns() - start
    if timer is not None:
        timer.stop()
    parts = result if isinstance(result, tuple) else (result,)
    metrics.add(op.name, str(backend), 1e-9 * host, _bytes((*arrays, *parts), scalars), timer)
    return result


def _bytes(arrays: tuple[Any, ...], scalars: Any) -> int:
    """The bytes of the arrays of a call, each counted once."""
    every = {id(x): x for x in arrays if x is not None}
    if scalars is not None:
        _map_arrays(lambda x: every.setdefault(id(x), x), scalars)
    return sum(int(getattr(x, "nbytes", 0)) for x in every.values())


# ---------------------------------------------------------------------------------------- checks


def _checked(run: Any, op: Op, arrays: tuple[Any, ...], options: Any, scalars: Any) -> Any:
    """Run a call on both backends, the other one first: `run` may write to its arguments."""
    backend, _, found = _where(op, _lead(arrays), options)
    given = op.arguments(arrays, options, scalars)
    if not given.get("deterministic", True) or (found is not None and found.capturing()):
        return run(op, arrays, options, scalars)
    other = "cuda" if backend == "numba" else "numba"
    there = tuple(map(_copied, arrays))
    numbers = None if scalars is None else _map_arrays(_copied, scalars)
    expected = None
    if other == "numba" or _cuda_can_take((*there, numbers)):
        expected = _other(op, there, options, numbers, other)
    result = run(op, arrays, options, scalars)
    if expected is not None:
        _compare(op, backend, other, result, expected, _slack(given))
    return result


def _copied(x: Any) -> Any:
    is_array = hasattr(x, "__dlpack__") or _is_jax(x)
    return np.array(as_numpy("an argument", x)) if is_array else x


@functools.cache
def _no_cuda() -> str:
    """Why there is no other backend than Numba's, said once."""
    try:
        kernel.check_cuda(0)
    except (ImportError, RuntimeError) as e:
        logger.warning("numerical_checks compares nothing, the CPU is all there is: %s", e)
        return str(e)
    return ""


def _cuda_can_take(arrays: Any) -> bool:
    """CuPy has neither datetime64 nor any other dtype of NumPy's own."""
    return not _no_cuda() and all(
        x.dtype.kind not in "mM" for x in arrays if isinstance(x, np.ndarray)
    )


def _other(op: Op, arrays: Any, options: Any, scalars: Any, backend: str) -> Any:
    """The call once more, of NumPy arrays on the other backend."""
    at = op.options.index("backend")
    options = (*options[:at], backend, *options[at + 1 :])
    return _plain(op, arrays, options, scalars)


def _slack(given: dict[str, Any]) -> int:
    """How many units in the last place results may differ by."""

    def rotates(x: Any) -> bool:
        if isinstance(x, dict):
            return any(map(rotates, x.values()))
        if isinstance(x, tuple):
            return getattr(x, "rotation", None) is not None or any(map(rotates, x))
        return x == "slerp"

    trigonometric = (
        given.get("rotation") is not None
        or "shortest_path" in given
        or any(rotates(given.get(name)) for name in ("method", "streams", "keys"))
    )
    return 8 if trigonometric else 0


def _compare(op: Op, backend: str, other: str, result: Any, expected: Any, slack: int) -> None:
    names = getattr(result, "_fields", ("the result",))
    results = result if isinstance(result, tuple) else (result,)
    others = expected if isinstance(expected, tuple) else (expected,)
    for name, x, y in zip(names, results, others, strict=True):
        a, b = as_numpy(name, x), as_numpy(name, y)
        if a.shape != b.shape or a.dtype != b.dtype:
            raise config.MismatchError(
                f"{op.name}: {name} is {a.dtype} {a.shape} by {backend} and {b.dtype} {b.shape} by "
                f"{other}"
            )
        wrong = np.argwhere(_differ(a, b, slack))
        if len(wrong):
            at = tuple(wrong[0].tolist())
            raise config.MismatchError(
                f"{op.name}: {name} differs in {len(wrong)} of {a.size} elements, first at index "
                f"{at}: {a[at]!r} by {backend}, {b[at]!r} by {other}"
            )


def _differ(a: np.ndarray, b: np.ndarray, slack: int) -> Any:
    if a.dtype.kind in "biumM":
        return a.view(np.int64) != b.view(np.int64) if a.dtype.kind in "mM" else a != b
    wide_a, wide_b = (x.astype(np.float64) for x in (a, b))
    differ = (wide_a != wide_b) & ~(np.isnan(wide_a) & np.isnan(wide_b))
    if a.dtype == np.float32:  # CuPy compiles with -ftz=true
        tiny = np.finfo(np.float32).tiny
        differ &= (abs(wide_a) >= tiny) | (abs(wide_b) >= tiny)
    if slack and differ.any():
        largest = np.max(abs(wide_b), initial=0.0, where=np.isfinite(wide_b))
        ulp = np.finfo(a.dtype).eps if a.dtype.kind == "f" else 2.0**-7  # bfloat16
        with np.errstate(invalid="ignore"):
            differ &= ~(abs(wide_a - wide_b) <= slack * float(ulp) * largest)
    return differ
