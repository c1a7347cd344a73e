"""The `lib` fixture: each array library an op must accept, on each device it can use."""

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent

# An index out of bounds raises IndexError. Numba's disk cache is blind to this setting, and to
# changes of the modules a function calls into, so the checked code gets a cache of its own for
# each state of the sources.
_sources = b"".join(
    p.read_bytes()
    for p in [
        *sorted(ROOT.glob("robocache_cupy/_cpu/*.py")),
        ROOT / "robocache_cupy/_core/table.py",
    ]
)
os.environ["NUMBA_BOUNDSCHECK"] = "1"
os.environ["NUMBA_CACHE_DIR"] = str(
    Path(tempfile.gettempdir()) / f"robocache-numba-{hashlib.sha256(_sources).hexdigest()[:16]}"
)
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # beside torch and CuPy

import hypothesis  # noqa: E402

hypothesis.settings.register_profile("jit", deadline=None)  # a first call compiles
hypothesis.settings.load_profile("jit")


class Lib(NamedTuple):
    """An array library on a device. Both functions keep dtype and values, bfloat16 included."""

    name: str
    array: Callable[[np.ndarray], Any]
    numpy: Callable[[Any], np.ndarray]
    dtypes_missing: frozenset[str] = frozenset()
    close: Callable[[], None] = lambda: None


DATETIMES = frozenset({"datetime64[ns]", "datetime64[us]", "timedelta64[ns]"})


def numpy_cpu():
    return Lib("numpy", np.asarray, np.asarray)


def cuda_on_host():
    """NumPy again, with the CUDA kernels in the place of their references."""
    import host_cuda

    from robocache_cupy._core.kernel import Kernel
    from robocache_cupy._core.plan import Op

    for op in Op.all.values():
        op.cache.clear()
    patch = pytest.MonkeyPatch()
    patch.setattr(Kernel, "on_host", host_cuda.on_host)
    return Lib("numpy", np.asarray, np.asarray, close=patch.undo)


def _torch(device):
    import torch

    torch.zeros(1, device=device)

    def array(x):
        # torch.from_numpy knows neither bfloat16, negative strides nor read-only memory.
        x = np.array(x)
        if x.dtype.name == "bfloat16":
            return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16).to(device)
        return torch.from_numpy(x).to(device)

    def numpy(x):
        import ml_dtypes

        if x.dtype is torch.bfloat16:
            return x.cpu().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return x.cpu().numpy()

    return Lib("torch", array, numpy, DATETIMES)


def torch_cpu():
    return _torch("cpu")


def torch_cuda():
    return _torch("cuda")


def cupy_cuda():
    import cupy

    cupy.zeros(1)
    return Lib("cupy", cupy.asarray, cupy.asnumpy, DATETIMES)


def _jax(platform):
    import jax

    jax.config.update("jax_enable_x64", True)
    device = jax.devices(platform)[0]
    return Lib("jax", lambda x: jax.device_put(np.asarray(x), device), np.asarray, DATETIMES)


def jax_cpu():
    return _jax("cpu")


def jax_cuda():
    return _jax("cuda")


LIBS = [numpy_cpu, cuda_on_host, torch_cpu, jax_cpu, cupy_cuda, torch_cuda, jax_cuda]


def pytest_addoption(parser):
    parser.addoption(
        "--require", default="", help="what must not be skipped: lanes of `lib`, nvrtc, logs: a,b"
    )
    parser.addoption("--logs", help="the folder of real robot logs: --logs=DIR")


class Requirements(NamedTuple):
    """What --require names must run; anything else may be skipped with a reason."""

    names: frozenset[str]

    def skip(self, name: str, reason: str) -> None:
        if name in self.names:
            pytest.fail(f"--require={name}: {reason}", pytrace=False)
        pytest.skip(f"{name}: {reason}")


@pytest.fixture(scope="session")
def require(request) -> Requirements:
    return Requirements(frozenset(request.config.getoption("--require").split(",")))


@pytest.fixture(scope="session", params=LIBS, ids=lambda make: make.__name__)
def lib(request, require):
    """What a maker raises is the reason to skip its lane, unless --require names it."""
    try:
        made = request.param()
    except Exception as e:
        require.skip(request.param.__name__, f"{type(e).__name__}: {e}")
    yield made
    made.close()


@pytest.fixture(scope="session")
def logs_dir(request, require) -> Path:
    """The folder of real robot logs."""
    folder = request.config.getoption("--logs")
    if folder is None or not Path(folder).is_dir():
        require.skip("logs", f"--logs is {folder}: expected a folder")
    return Path(folder)
