"""Every op in every framework, each way of calling it, on each device: ``-n 0 -s`` prints it.

The CPU's results of NumPy are the reference. What a GPU makes of the same arrays must be equal but
for trigonometry.
"""

import importlib

import numpy as np
import pytest
from op_cases import CASES

import robocache_cupy as rc

pytestmark = pytest.mark.filterwarnings(  # of torch's own
    "ignore::DeprecationWarning:torch", "ignore:.*LeafSpec.*", "ignore:.*in_optimizer.*"
)

WAYS = ("numpy", "cupy", "torch", "torch.compile", "jax", "jax.jit")
DEVICES = ("cpu", "cuda")
COLUMNS = [(way, device) for way in WAYS for device in DEVICES if (way, device) != ("cupy", "cpu")]
TRIGONOMETRY = {"slerp"}
CELLS: dict[tuple[str, str, str], str] = {}


def parts(result):
    if isinstance(result, dict):
        result = tuple(result.values())
    if not isinstance(result, tuple):
        return [result]
    return [x for part in result if part is not None for x in parts(part)]


def numpy_of(x):
    return x.get() if hasattr(x, "get") else np.asarray(x.cpu() if hasattr(x, "cpu") else x)


def call_by(way, device, function, arrays):
    """The outputs, by one way of calling."""
    if way == "numpy":
        if device == "cpu":
            return function(*arrays)
        return function.forced("cuda")(*arrays)
    if way == "cupy":
        import cupy

        return function(*map(cupy.asarray, arrays))
    if way.startswith("torch"):
        import torch

        tensors = [torch.from_numpy(x.copy()).to(device) for x in arrays]
        if way == "torch":
            return function(*tensors)
        torch._dynamo.reset()
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        compiled(*tensors)
        return compiled(*tensors)
    import jax

    on = jax.devices(device)[0]
    given = [jax.device_put(x, on) for x in arrays]
    return jax.jit(function)(*given) if way == "jax.jit" else function(*given)


class Call:
    """A case as a function of its arrays; statistics are made ahead, as compiled functions need."""

    def __init__(self, name, backend="auto"):
        self.name, self.backend = name, backend
        self.function, self.arrays, options = CASES[name]()
        self.options = dict(options)
        if "stats" in options:
            given = {k: self.options.pop(k) for k in ("mode", "clip") if k in options}
            self.options["stats"] = rc.normalization(options["stats"], **given)

    def forced(self, backend):
        return Call(self.name, backend)

    def __call__(self, *arrays):
        if self.backend == "auto":
            return self.function(*arrays, **self.options)
        with rc.config.override(backend=self.backend):
            return self.function(*arrays, **self.options)


@pytest.fixture(scope="module", autouse=True)
def print_the_matrix():
    yield
    header = "".join(f"{way}{'' if device == 'cpu' else '*'}".rjust(16) for way, device in COLUMNS)
    print(f"\n{'(* on cuda)':<24}{header}")
    for name in CASES:
        cells = (CELLS.get((name, way, device), "-") for way, device in COLUMNS)
        print(f"{name:<24}{''.join(x.rjust(16) for x in cells)}")


@pytest.mark.parametrize(("way", "device"), COLUMNS)
@pytest.mark.parametrize("name", CASES)
def test_cell(name, way, device, require):
    package = way.partition(".")[0]
    lane = f"{package}_{device}"
    try:
        module = importlib.import_module(package)
        if package == "jax":
            module.devices(device)
        elif device == "cuda":
            import cupy

            cupy.zeros(1)
            if package == "torch":
                module.zeros(1, device="cuda")
    except Exception as e:
        CELLS[name, way, device] = "not here"
        require.skip(lane, f"{type(e).__name__}: {e}")
    call = Call(name)
    expected = [numpy_of(x) for x in parts(call(*call.arrays))]
    CELLS[name, way, device] = "FAILED"
    got = [numpy_of(x) for x in parts(call_by(way, device, call, call.arrays))]
    assert len(got) == len(expected)
    for x, y in zip(got, expected, strict=True):
        assert x.shape == y.shape
        if package != "jax":  # which without x64 has indices of 32 bits
            assert x.dtype == y.dtype
        if device == "cuda" and name in TRIGONOMETRY:
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
        else:
            np.testing.assert_array_equal(x, y)
    CELLS[name, way, device] = "equal" if name not in TRIGONOMETRY or device == "cpu" else "8 ulp"
