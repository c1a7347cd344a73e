"""The peers: what a user would write instead, each as fast as it gets.

A module here has a function for each op that it has a way for. It takes the case and
gives a call that takes the arguments of the case as arrays of its framework, or several calls from
which the fastest is timed, or None where there is no such way.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import logging
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NamedTuple

from ..case import Arguments, Call, Case

BOTH = ("cuda", "cpu")


def syncs(call: Call) -> Call:
    """Mark a call that reads something back to the host, which no CUDA graph can hold."""
    call.syncs = True  # type: ignore[attr-defined]
    return call


class Framework(NamedTuple):
    """How arguments and results pass between torch and a framework, without a copy."""

    convert: Callable[[Any], Any] = lambda x: x
    revert: Callable[[Any], Any] = lambda x: x
    wait: Callable[[Any], None] | None = None  # for a result; by default for the device
    session: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext
    on_stream: Callable[[], AbstractContextManager[Any]] = contextlib.nullcontext  # torch's
    jit: Callable[[Call], Call] = lambda call: call
    graphs: bool = True  # its launches can be captured


class Peer(NamedTuple):
    title: str
    package: str
    modules: Sequence[str]  # of this package
    framework: str = "torch"
    on: Sequence[str] = BOTH


_TORCH = ("torch_time", "torch_space")
PEERS = {
    "torch": Peer("torch eager", "torch", _TORCH),
    "compile": Peer("torch.compile", "torch", _TORCH, "compiled"),
    "triton": Peer("Triton", "triton", ("triton_kernels",), on=("cuda",)),
    "jax": Peer("JAX jit", "jax", ("jax_time", "jax_space"), "jax"),
    "cupy": Peer("CuPy", "cupy", ("arrays",), "cupy", ("cuda",)),
    "numpy": Peer("NumPy", "numpy", ("arrays",), "numpy", ("cpu",)),
    "loop": Peer("NumPy loop", "numpy", ("numpy_loop",), "numpy", ("cpu",)),
    "scipy": Peer("SciPy", "scipy", ("scipy_loop",), "numpy", ("cpu",)),
    "pandas": Peer("pandas", "pandas", ("pandas_loop",), "numpy", ("cpu",)),
    "fpsample": Peer("fpsample", "fpsample", ("fpsample_loop",), "numpy", ("cpu",)),
    "peract": Peer("PerAct grid", "torch", ("peract",)),
    "peract-compile": Peer("PerAct grid, compiled", "torch", ("peract",), "compiled"),
}


def missing(name: str) -> str | None:
    """Why a peer cannot be asked, if so."""
    package = PEERS[name].package
    return None if find_spec(package) else f"{package} is not installed"


def calls(name: str, case: Case) -> dict[str, Call]:
    """The calls of a peer for a case, by form; none where it has no way for that op."""
    peer = PEERS[name]
    for module in _modules(name):
        make = getattr(module, case.op, None)
        if make is not None:
            made = _compiled_loop(make, case) if peer.framework == "compiled" else make(case)
            if made is None:
                return {}
            jit = frameworks()[peer.framework].jit
            forms = made if isinstance(made, Mapping) else {"": made}
            return {form: _jitted(jit, call) for form, call in forms.items()}
    return {}


def offers(name: str, case: Case) -> bool:
    """Whether a peer has functions for the op at all, without asking for its package."""
    return any(hasattr(module, case.op) for module in _modules(name))


def _modules(name: str) -> list[ModuleType]:
    return [importlib.import_module(f".{module}", __name__) for module in PEERS[name].modules]


def _jitted(jit: Callable[[Call], Call], call: Call) -> Call:
    made = call if getattr(call, "whole", False) else jit(call)
    return syncs(made) if getattr(call, "syncs", False) and made is not call else made


def _compiled_loop(make: Callable[..., Any], case: Case) -> Any:
    """Of a loop of rounds only the round is compiled: unrolled, a thousand of them take minutes."""
    if case.op not in ("farthest_point_sample", "crop_and_sample"):
        return make(case)
    from .torch_space import step

    call = make(case, _compile(step))
    if call is not None:
        call.whole = True
    return call


def _compile(call: Call) -> Call:
    import torch

    # A graph that reads back a size cannot be whole, which torch would tell at length.
    whole = not getattr(call, "syncs", False)
    if not whole:
        logging.getLogger("torch._dynamo").setLevel(logging.ERROR)
    compiled: Call = torch.compile(call, fullgraph=whole, dynamic=False)
    return compiled


def forget() -> None:
    """Drop what torch.compile has made: it compiles a function at most eight times, then raises."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is not None:
        dynamo.reset()


@functools.cache
def frameworks() -> dict[str, Framework]:
    def to_numpy(x: Any) -> Any:
        return x.numpy()

    def from_numpy(x: Any) -> Any:
        import torch

        return torch.from_numpy(x)

    return {
        "torch": Framework(),
        "compiled": Framework(jit=_compile),
        "numpy": Framework(to_numpy, from_numpy),
        "cupy": Framework(
            _to_cupy, _from_dlpack, session=_cupy_session, on_stream=_cupy_stream
        ),
        "jax": Framework(
            _to_jax, _from_dlpack, _wait_jax, _jax_session, jit=_jax_jit, graphs=False
        ),
    }  # fmt: skip


def converted(framework: Framework, args: Arguments) -> Arguments:
    return tuple(framework.convert(x) for x in args)


def tensors(framework: Framework, result: Any) -> list[Any]:
    """The arrays of a result as torch tensors that share their memory."""
    if isinstance(result, tuple | list):
        return [x for part in result for x in tensors(framework, part)]
    return [framework.revert(result)]


def _from_dlpack(x: Any) -> Any:
    import torch

    return torch.from_dlpack(x)


def _to_cupy(x: Any) -> Any:
    from ..._core.array import import_cupy

    return import_cupy().from_dlpack(x)


@contextlib.contextmanager
def _cupy_session() -> Any:
    """CuPy with torch's memory: its own cannot be allocated while a graph is captured."""
    import torch

    from ..._core.array import import_cupy

    cupy = import_cupy()

    def allocate(size: int) -> Any:
        block = torch.empty(max(size, 1), dtype=torch.uint8, device="cuda")
        memory = cupy.cuda.UnownedMemory(block.data_ptr(), block.numel(), block)
        return cupy.cuda.MemoryPointer(memory, 0)

    with cupy.cuda.using_allocator(allocate):
        yield


def _cupy_stream() -> Any:
    import torch

    from ..._core.array import import_cupy

    return import_cupy().cuda.ExternalStream(torch.cuda.current_stream().cuda_stream)


def _to_jax(x: Any) -> Any:
    import jax

    return jax.dlpack.from_dlpack(x)


def _wait_jax(result: Any) -> None:
    import jax

    jax.block_until_ready(result)


def _jax_session() -> AbstractContextManager[Any]:
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # beside torch and CuPy
    import jax

    return jax.enable_x64(True)  # or int64 clocks become int32


def _jax_jit(call: Call) -> Call:
    import jax

    jitted: Call = jax.jit(call)
    return jitted
