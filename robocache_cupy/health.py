"""Is the package installed well, does it run here, and what to do where it does not."""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import platform
import re
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ._core import kernel
from ._core.array import import_cupy
from ._table import html_table, print_table, text_table

__all__ = [
    "Call",
    "Check",
    "Health",
    "Installation",
    "SelfTest",
    "check_installation",
    "health_check",
    "print_health_check",
    "self_test",
]

_HEADINGS = ("check", "status", "found", "what to do")
_TOLERANCE = 1e-6  # of the sine in a rotation; anything else in the self-test is exact in float32
_OLDEST = {"cupy": "14.2", "jax": "0.6.1"}
_CUPYS = ("cupy-cuda12x", "cupy-cuda13x", "cupy-cuda11x", "cupy")
_SMALL = ("asof_index", "resample_trajectories", "voxelize_occupancy")  # quick to compile


class Check(NamedTuple):
    """One thing that was looked at."""

    name: str  #: what was looked at
    status: str  #: "ok", "warn" or "fail"
    found: str  #: what is there, such as a version
    advice: str = ""  #: what to do about it; nothing where the status is "ok"


class Installation(NamedTuple):
    """What the package runs on. It prints as a table."""

    checks: tuple[Check, ...]  #: in the order of the table

    @property
    def status(self) -> str:
        """The worst status of a check: "ok", "warn" or "fail"."""
        return max((x.status for x in self.checks), key=("ok", "warn", "fail").index)

    def __repr__(self) -> str:
        return text_table(_HEADINGS, self.checks, left=4)

    def _repr_html_(self) -> str:
        return html_table(_HEADINGS, self.checks, left=4)


class Health(NamedTuple):
    """Whether the package works here. It prints as a table."""

    status: str  #: "healthy", "degraded" or "critical"
    checks: tuple[Check, ...]  #: in the order of the table

    def __repr__(self) -> str:
        return f"{self.status}\n{text_table(_HEADINGS, self.checks, left=4)}"

    def _repr_html_(self) -> str:
        return f"<p>{self.status}</p>{html_table(_HEADINGS, self.checks, left=4)}"


class Call(NamedTuple):
    """A small call of one op."""

    op: str  #: its name
    backend: str  #: "cuda" or "numba"
    ok: bool  #: was the result what it must be?
    seconds: float  #: most of which is compilation, if it is the first ever
    error: str  #: what went wrong


class SelfTest(NamedTuple):
    """A small call of every op on every backend. It prints as a table."""

    calls: tuple[Call, ...]  #: of each op on each backend

    @property
    def ok(self) -> bool:
        """Did every call give the result that it must have?"""
        return all(x.ok for x in self.calls)

    def __repr__(self) -> str:
        return text_table(Call._fields, self._rows(), left=3)

    def _repr_html_(self) -> str:
        return html_table(Call._fields, self._rows(), left=3)

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (x.op, x.backend, "yes" if x.ok else "no", f"{x.seconds:.3f}", x.error)
            for x in self.calls
        ]


# ----------------------------------------------------------------------------------- installation


def check_installation() -> Installation:
    """Look at all that the package needs, without running an op.

    Returns
    -------
    Installation
        Versions of Python, NumPy, Numba, CuPy, PyTorch and JAX; the GPUs, their driver, CUDA's
        runtime, compiler and headers; and the folders where compiled kernels are kept. Each with
        "ok", "warn" (something that is here cannot be used) or "fail" (nothing works), and with
        what to do about it. PyTorch and JAX are not imported.

    Examples
    --------
    >>> import robocache_cupy as rc
    >>> report = rc.check_installation()
    >>> report.checks[0].name, report.checks[0].status
    ('robocache_cupy', 'ok')
    """
    from . import __version__

    where = f"{__version__} on Python {platform.python_version()}, {platform.platform()}"
    checks = [Check("robocache_cupy", "ok", where), _needed("numpy"), _needed("numba")]
    checks += [_numba_cache(), _sources(), _optional("torch"), _optional("jax")]
    gpu = _gpu()
    checks.append(gpu)
    checks += _cupy(gpu.status == "ok" and gpu.found != "none")
    return Installation(tuple(checks))


def _needed(name: str) -> Check:
    try:
        module = importlib.import_module(name)
    except Exception as e:  # a broken installation fails in any way
        return Check(name, "fail", _reason(e), f"pip install --force-reinstall {name}")
    return Check(name, "ok", str(module.__version__))


def _optional(name: str) -> Check:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Check(name, "ok", "not installed")
    return _not_older(name, version)


def _not_older(name: str, version: str, advice: str = "") -> Check:
    oldest = _OLDEST.get(name, "0")
    if _numbers(version) < _numbers(oldest):
        advice = advice or f"pip install -U '{name}>={oldest}'"
        return Check(name, "warn", f"{version}, expected {oldest} or newer", advice)
    return Check(name, "ok", version)


def _numbers(version: str) -> list[int]:
    """The release of a version: those of "14.2.0rc1" are 14, 2, 0."""
    release = re.match(r"[\d.]*", version)
    return [int(x) for x in (release[0] if release else "").split(".") if x]


def _reason(e: BaseException) -> str:
    """What an exception says, on one line."""
    lines = str(e).strip().splitlines()
    return f"{type(e).__name__}: {lines[0]}" if lines else type(e).__name__


def _sources() -> Check:
    try:
        return Check("CUDA sources", "ok", str(kernel.cuda_src()))
    except FileNotFoundError as e:
        return Check("CUDA sources", "warn", str(e), "pip install --force-reinstall robocache-cupy")


def _numba_cache() -> Check:
    """Numba keeps its code beside the source, or in the user's folder, or where it is told."""
    name = "kernel cache of Numba"
    told = os.environ.get("NUMBA_CACHE_DIR")
    beside = Path(__file__).parent / "_cpu" / "__pycache__"
    try:
        from numba.core.caching import _UserWideCacheLocator

        users: Path | None = Path(_UserWideCacheLocator(None, __file__).get_cache_path())
    except Exception:  # it is private
        users = None
    folders = [Path(told)] if told else [beside, *([users] if users else [])]
    for folder in folders:
        if _writable(folder):
            return Check(name, "ok", str(folder))
    return Check(
        name,
        "warn",
        f"{' and '.join(map(str, folders))}: cannot be written to",
        "every process compiles anew: set NUMBA_CACHE_DIR to a folder that can be written to",
    )


def _writable(folder: Path) -> bool:
    """Can files be made in a folder, or the folder itself?"""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)


def _gpu() -> Check:
    """Ask the driver itself, which takes no CuPy."""
    from .cuda_extra import cuda_extra

    extra, problem = cuda_extra()
    if problem:
        return Check("GPU", "warn", problem, "nvidia-smi says more; the CPU works without")
    return Check("GPU", "ok", f"a driver of CUDA {extra[4:]}" if extra else "none")


def _cupy(gpu: bool) -> list[Check]:
    """CuPy and what it needs. Without a GPU nothing of it is missed."""
    from .cuda_extra import cuda_extra

    extra = cuda_extra()[0] or "cuda12"
    install = f"pip install 'robocache-cupy[{extra}]'"
    bad = "warn" if gpu else "ok"
    several = [name for name in _CUPYS if _installed(name)]
    if len(several) > 1:
        return [Check("cupy", "warn", f"{' and '.join(several)}, which overwrite each other",
                      f"pip uninstall -y {' '.join(several)}; {install}")]  # fmt: skip
    try:
        cupy = import_cupy()
    except Exception as e:
        if isinstance(e.__cause__, ModuleNotFoundError) and e.__cause__.name == "cupy":
            return [Check("cupy", bad, "not installed", install if gpu else "")]
        return [Check("cupy", "warn", _reason(e), install)]
    checks = [_not_older("cupy", cupy.__version__, install), _cupy_cache()]
    runtime = cupy.cuda.runtime
    version = runtime.runtimeGetVersion()
    checks.append(Check("CUDA runtime", "ok", _cuda(version)))
    try:
        nvrtc = ".".join(map(str, cupy.cuda.nvrtc.getVersion()))
        checks.append(Check("NVRTC", "ok", nvrtc))
    except Exception as e:
        checks.append(Check("NVRTC", bad, _reason(e), install if gpu else ""))
    if not gpu:
        return checks
    driver = runtime.driverGetVersion()
    if driver // 1000 < version // 1000:
        checks.append(Check("driver", "warn", f"CUDA {_cuda(driver)}, older than CuPy's runtime",
                            f"update the driver, or pip uninstall -y {several[0]}; {install}"
                            if several else "update the driver"))  # fmt: skip
        return checks
    checks.append(Check("driver", "ok", f"CUDA {_cuda(driver)}"))
    try:
        for device in range(runtime.getDeviceCount()):
            checks.append(_device(cupy, device))
    except Exception as e:
        return [*checks, Check("devices", "warn", _reason(e), "nvidia-smi says more")]
    return [*checks, _headers(cupy, install)]


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _cuda(version: int) -> str:
    return f"{version // 1000}.{version % 1000 // 10}"


def _cupy_cache() -> Check:
    folder = Path(os.environ.get("CUPY_CACHE_DIR", "~/.cupy/kernel_cache")).expanduser()
    name = "kernel cache of CuPy"
    if _writable(folder):
        return Check(name, "ok", str(folder))
    return Check(name, "warn", f"{folder}: cannot be written to",
                 "every process compiles anew: set CUPY_CACHE_DIR to a folder that can be written "
                 "to")  # fmt: skip


def _device(cupy: Any, device: int) -> Check:
    about = cupy.cuda.runtime.getDeviceProperties(device)
    with cupy.cuda.Device(device):
        free, total = cupy.cuda.runtime.memGetInfo()
    name = about["name"].decode() if isinstance(about["name"], bytes) else str(about["name"])
    found = (
        f"{name}, compute capability {about['major']}.{about['minor']}, "
        f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    )
    return Check(f"cuda:{device}", "ok", found)


def _headers(cupy: Any, install: str) -> Check:
    """The kernels include these two, which come with CUDA's runtime and not with CuPy."""
    text = '#include <cuda_fp16.h>\n#include <cuda_bf16.h>\nextern "C" __global__ void probe() {}'
    try:
        cupy.RawModule(code=text, options=kernel.OPTIONS).compile()
    except Exception as e:
        return Check("CUDA headers", "warn", _reason(e),
                     f"{install}, or set CUDA_PATH to a CUDA toolkit")  # fmt: skip
    return Check("CUDA headers", "ok", "found")


# ------------------------------------------------------------------------------------------ health


def health_check() -> Health:
    """Check the installation, and run a few small ops on every backend present.

    The first time ever, Numba compiles them, which takes about ten seconds.

    Returns
    -------
    Health
        ``status`` is "critical" where an op gives a wrong result or nothing runs; "degraded" where
        something that is here cannot be used, such as a GPU without CuPy; else "healthy". A
        machine without a GPU can be healthy. ``checks`` are those of `check_installation` and
        one for each backend.

    Examples
    --------
    >>> import robocache_cupy as rc
    >>> rc.health_check().status in ("healthy", "degraded")
    True
    """
    installation = check_installation()
    checks = [*installation.checks, *(_works(backend) for backend in _backends(installation))]
    statuses = {x.status for x in checks}
    status = (
        "critical" if "fail" in statuses else "degraded" if "warn" in statuses else "healthy"
    )  # fmt: skip
    return Health(status, tuple(checks))


def _backends(installation: Installation) -> list[str]:
    """Those that can be expected to run."""
    devices = any(x.name == "cuda:0" for x in installation.checks)
    return ["numba", *(["cuda"] if devices else [])]


def _works(backend: str) -> Check:
    """Wrong results are the end. A GPU that does not run leaves the CPU."""
    name = f"small ops on {backend}"
    for op in _SMALL:
        try:
            wrong = _wrong(op, backend)
        except Exception as e:
            status = "warn" if backend == "cuda" else "fail"
            return Check(name, status, f"{op}: {_reason(e)}", _advice(backend, e))
        if wrong:
            return Check(name, "fail", f"{op}: {wrong}",
                         "empty the kernel caches above; if it stays, please report it with this "
                         "table")  # fmt: skip
    return Check(name, "ok", f"{', '.join(_SMALL)} give the right results")


def _advice(backend: str, e: BaseException) -> str:
    if isinstance(e, MemoryError) or "OutOfMemory" in type(e).__name__:
        return "free some memory"
    if backend == "numba":
        return "pip install --force-reinstall numba llvmlite"
    return "see the checks above; set ROBOCACHE_LOG_LEVEL=DEBUG to see what is compiled"


def _wrong(op: str, backend: str) -> str:
    """What is wrong with the result of the small call of an op."""
    from ._core.array import as_numpy
    from ._self_test import CASES

    call, expected = CASES[op]
    given = call(backend)
    parts = given if isinstance(given, tuple) else (given,)
    for x, y in zip(parts, expected, strict=False):
        got, want = as_numpy("the result", x), np.asarray(y)
        if got.shape != want.shape:
            return f"got shape {got.shape}, expected {want.shape}"
        if not np.allclose(got, want, rtol=0, atol=_TOLERANCE):
            return f"got {got.tolist()}, expected {want.tolist()}"
    return ""


def print_health_check() -> None:
    """Print what `health_check` finds, as a table.

    Examples
    --------
    >>> import robocache_cupy as rc
    >>> rc.print_health_check()  # doctest: +ELLIPSIS
    robocache_cupy...
    """
    _print(health_check())


def _print(found: Health) -> None:
    print_table(f"robocache_cupy: {found.status}", _HEADINGS, found.checks)


# --------------------------------------------------------------------------------------- self-test


def self_test(*, progress: bool = True) -> SelfTest:
    """Run a small call of every op on every backend present, and compare with what it must give.

    Takes seconds; the first time ever, Numba compiles every op, which takes minutes.

    Parameters
    ----------
    progress : bool
        Tell on stderr which op is running.

    Returns
    -------
    SelfTest
        A line for each op and backend; ``ok`` tells whether all are right.

    Examples
    --------
    >>> import robocache_cupy as rc
    >>> report = rc.self_test(progress=False)  # doctest: +SKIP
    """
    from ._self_test import CASES

    todo = [(op, backend) for backend in _backends(check_installation()) for op in CASES]
    calls = []
    with _telling(len(todo)) if progress else contextlib.nullcontext(_no_word) as tell:
        for op, backend in todo:
            tell(f"{op} on {backend}")
            start = time.perf_counter()
            try:
                error = _wrong(op, backend)
            except Exception as e:
                error = _reason(e)
            calls.append(Call(op, backend, not error, time.perf_counter() - start, error))
    return SelfTest(tuple(calls))


def _no_word(what: str) -> None:
    pass


@contextlib.contextmanager
def _telling(count: int) -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is being done, one of `count` things."""
    print("self-test: the first run compiles every op, which takes minutes", file=sys.stderr)
    live, done = sys.stderr.isatty(), 0

    def tell(what: str) -> None:
        nonlocal done
        done += 1
        if live:
            print(f"\r\033[K{done}/{count} {what}", end="", file=sys.stderr, flush=True)

    yield tell
    if live:
        print("\r\033[K", end="", file=sys.stderr, flush=True)


# ------------------------------------------------------------------------------------------ doctor


def doctor(test: bool = False) -> int:
    """Print all there is to say: the command ``robocache doctor``.

    Parameters
    ----------
    test : bool
        Run `self_test` as well.

    Returns
    -------
    int
        0 for "healthy", 1 for "degraded", 2 for "critical" or a self-test that fails.
    """
    found = health_check()
    _print(found)
    code = ("healthy", "degraded", "critical").index(found.status)
    if test:
        tested = self_test()
        print_table(
            f"self-test: {'all right' if tested.ok else 'FAILED'}", Call._fields, tested._rows()
        )
        code = code if tested.ok else 2
    return code
