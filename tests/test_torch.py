"""PyTorch: compile, export, make_fx, vmap, gradients, subclasses, workers, graphs and streams."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from op_cases import CASES

import robocache_cupy as rc

torch = pytest.importorskip("torch")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own compilers


@pytest.fixture(scope="module", params=["cpu", "cuda"])
def device(request, require):
    if request.param == "cuda" and not torch.cuda.is_available():
        require.skip("torch_cuda", "torch finds no GPU")
    return request.param


def case(name, device):
    """The function, and its arrays as tensors."""
    function, arrays, options = CASES[name]()
    tensors = [torch.from_numpy(x.copy()).to(device) for x in arrays]
    if "stats" in options:  # statistics are numbers of the host, and not read while torch traces
        options = dict(options)
        given = {k: options.pop(k) for k in ("mode", "convention", "clip") if k in options}
        options["stats"] = rc.normalization(options["stats"], **given)
    return lambda *x: function(*x, **options), tensors


def parts(result):
    """The tensors of a result, in their order."""
    if isinstance(result, torch.Tensor):
        return [result]
    if isinstance(result, dict):
        result = result.values()
    return [x for part in result if part is not None for x in parts(part)]


def assert_same(got, expected):
    got, expected = parts(got), parts(expected)
    assert len(got) == len(expected)
    for x, y in zip(got, expected, strict=True):
        assert (x.dtype, x.shape, x.device) == (y.dtype, y.shape, y.device)
        assert torch.equal(x.contiguous().view(torch.uint8), y.contiguous().view(torch.uint8))


@pytest.fixture(autouse=True)
def fresh_dynamo():
    yield
    torch._dynamo.reset()


every_op = pytest.mark.parametrize("name", CASES)


# ---------------------------------------------------------------------------- tracing


@every_op
@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_has_no_graph_breaks(name, dynamic, device):
    call, tensors = case(name, device)
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    expected = call(*tensors)
    assert_same(compiled(*tensors), expected)
    assert_same(compiled(*tensors), expected)


def test_inductor_puts_the_ops_between_its_own_kernels(device, tmp_path):
    """In a process and a cache of its own: it compiles, loads and keeps what it compiled."""
    script = f"""
        import torch
        from test_torch import assert_same, case, parts

        for name in ("resample_trajectories", "fuse_multimodal", "depth_to_voxels"):
            call, tensors = case(name, "{device}")

            def around(*x):
                results = parts(call(x[0] * 1, *x[1:]))
                return [y * 2 if y.is_floating_point() else y for y in results]

            assert_same(torch.compile(around, fullgraph=True)(*tensors), around(*tensors))
    """
    paths = [str(Path(__file__).parent), *sys.path]
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "TORCHINDUCTOR_CACHE_DIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]


def test_sizes_stay_symbols(device):
    """Another batch, other lengths: one graph for all."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def call(data, src, tgt):
        return rc.resample_trajectories(data, src, tgt, return_valid=True)

    compiled = torch.compile(call, fullgraph=True, dynamic=True, backend=backend)
    for B, S, T, D in ((2, 9, 5, 3), (3, 400, 700, 5), (40, 17, 1000, 64), (5, 8, 6, 7)):
        data, src, tgt = (torch.rand(shape, device=device) for shape in ((B, S, D), (B, S), (B, T)))
        src = src.sort().values
        assert_same(compiled(data, src, tgt), call(data, src, tgt))
    assert len(graphs) == 1


@every_op
def test_make_fx_sees_one_operator(name, device):
    from torch.fx.experimental.proxy_tensor import make_fx

    call, tensors = case(name, device)
    for mode in ("real", "fake", "symbolic"):
        graph = make_fx(lambda *x: parts(call(*x)), tracing_mode=mode)(*tensors)
        assert "torch.ops.robocache_cupy" in graph.code
        assert_same(graph(*tensors), call(*tensors))


@every_op
def test_export(name, device):
    call, tensors = case(name, device)

    class Model(torch.nn.Module):
        def forward(self, *x):
            return parts(call(*x))

    program = torch.export.export(Model(), tuple(tensors), strict=False)
    assert_same(program.module()(*tensors), call(*tensors))


def test_an_exported_program_runs_in_another_process(tmp_path):
    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.stats = rc.normalization({"mean": [0.5, -1.0], "std": [2.0, 0.5]})

        def forward(self, data, src, tgt):
            values = rc.resample_trajectories(data, src, tgt, latency=0.25, method="catmull_rom")
            return rc.normalize(values, self.stats)

    tensors = (torch.rand(2, 5, 2), torch.arange(5.0).expand(2, 5), torch.rand(2, 7) * 4)
    batch = torch.export.Dim("batch", min=2, max=100)
    program = torch.export.export(Model(), tensors, dynamic_shapes=[{0: batch}] * 3)
    torch.export.save(program, tmp_path / "model.pt2")
    more = [torch.cat([x, x, x]) for x in tensors]
    torch.save([*more, Model()(*more)], tmp_path / "data.pt")
    script = f"""
        import torch, robocache_cupy
        *arrays, expected = torch.load({str(tmp_path / "data.pt")!r})
        model = torch.export.load({str(tmp_path / "model.pt2")!r}).module()
        assert torch.equal(model(*arrays), expected)
        """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True)


def test_an_exported_program_makes_no_other_objects():
    import base64
    import pickle

    from robocache_cupy._core.torch import _unspell

    class Evil:
        def __reduce__(self):
            return print, ("made",)

    for text in (pickle.dumps(Evil()), pickle.dumps(np.load)):
        with pytest.raises(pickle.UnpicklingError, match="no option of robocache_cupy"):
            _unspell(("object", base64.b64encode(text).decode()))
    with pytest.raises(pickle.UnpicklingError, match="no option of robocache_cupy"):
        _unspell(("named", "os", "system", ["true"]))


@every_op
def test_opcheck(name, device):
    """torch's own checks of an operator: schema, fake kernel, tracing, dynamic sizes."""
    call, tensors = case(name, device)
    seen = []

    class Record(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            if function.namespace == "robocache_cupy":
                seen.append((function, args))
            return function(*args, **kwargs or {})

    with Record():
        call(*tensors)
    ((function, args),) = seen
    checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
    if not any(x.is_floating_point() and x.isnan().any() for x in parts(call(*tensors))):
        checks.append("test_aot_dispatch_dynamic")  # which takes NaN for a difference
    torch.library.opcheck(function, args, test_utils=checks)


@every_op
def test_vmap_is_a_loop(name, device):
    call, tensors = case(name, device)
    batch = [torch.stack([x, x.flip(0)]) for x in tensors]
    got = torch.vmap(lambda *x: tuple(parts(call(*x))))(*batch)
    for i in range(2):
        assert_same([x[i] for x in got], call(*[x[i] for x in batch]))


def test_vmap_over_another_axis_and_a_shared_array(device):
    data, src = torch.rand(2, 6, 4, 3, device=device), torch.arange(6.0, device=device)
    tgt = torch.rand(7, device=device) * 5
    got = torch.vmap(rc.resample_trajectories, in_dims=(2, None, None), out_dims=1)(data, src, tgt)
    for i in range(4):
        assert torch.equal(got[:, i], rc.resample_trajectories(data[:, :, i], src, tgt))


def test_a_size_that_depends_on_data_names_its_argument(device):
    points = torch.rand(2, 20, 3, device=device)

    def call(points):
        return rc.voxelize_sparse(points, 4, 0.25).counts

    with pytest.raises(Exception, match="max_voxels"):
        torch.compile(call, fullgraph=True, backend="aot_eager")(points)


def test_other_numbers_and_latencies_of_each_row(device):
    """A Python number is a constant of the graph (torch's rule for floats); an array is not."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    data, src = torch.rand(2, 6, 3, device=device), torch.arange(6.0, device=device).expand(2, 6)
    tgt = torch.rand(2, 7, device=device) * 5

    def call(data, src, tgt, latency):
        return rc.resample_trajectories(data, src, tgt, latency=latency)

    compiled = torch.compile(call, fullgraph=True, backend=backend)
    for latency in (0.125, 0.25):
        assert_same(compiled(data, src, tgt, latency), call(data, src, tgt, latency))
    before = len(graphs)
    for latency in (0.125, 0.25, 0.5):
        each = torch.full((2,), latency, device=device)
        assert_same(compiled(data, src, tgt, each), call(data, src, tgt, each))
    assert len(graphs) == before + 1


def test_out_is_written_in_a_graph(device):
    data, src = torch.rand(2, 6, 3, device=device), torch.arange(6.0, device=device).expand(2, 6)
    tgt = torch.rand(2, 7, device=device) * 5

    def call(data, out):
        return rc.resample_trajectories(data, src, tgt, out=out) + 1

    expected = rc.resample_trajectories(data, src, tgt)
    out = torch.empty_like(expected)
    got = torch.compile(call, fullgraph=True, backend="aot_eager")(data, out)
    assert torch.equal(out, expected)
    assert torch.equal(got, expected + 1)


def test_numpy_arrays_of_the_host_in_a_graph(device):
    pose = np.array([[0.0, -1, 0, 0.5], [1, 0, 0, -0.25], [0, 0, 1, 0.125], [0, 0, 0, 1]])
    points = torch.rand(2, 30, 3, device=device)

    def call(points):
        return rc.voxelize_point_cloud(points, 8, 0.25, np.array([-1.0, -1, -1]), transform=pose)

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    assert_same(compiled(points), call(points))


# ---------------------------------------------------------------------------- kinds of tensors


def test_fake_tensors_and_meta(device):
    from torch._subclasses.fake_tensor import FakeTensorMode

    with FakeTensorMode():
        data, times = torch.empty(2, 6, 3, device=device), torch.empty(2, 6, device=device)
        values, valid = rc.resample_trajectories(data, times, times[:, :4], return_valid=True)
        with pytest.raises(ValueError, match="tgt_times has shape"):
            rc.resample_trajectories(data, times, times[:1, None])
    assert values.shape == (2, 4, 3)
    assert valid.dtype is torch.bool
    assert valid.device.type == device


def test_a_subclass_comes_back_as_such(device):
    class Logged(torch.Tensor):
        pass

    data = torch.rand(2, 6, 3, device=device)
    times = torch.arange(6.0, device=device).expand(2, 6)
    result = rc.resample_trajectories(data.as_subclass(Logged), times, times + 0.5)
    assert type(result) is Logged
    assert torch.equal(
        result.as_subclass(torch.Tensor), rc.resample_trajectories(data, times, times + 0.5)
    )


def test_a_parameter_is_a_plain_tensor(device):
    data = torch.nn.Parameter(torch.rand(2, 6, 3, device=device), requires_grad=False)
    times = torch.arange(6.0, device=device).expand(2, 6)
    assert torch.equal(rc.resample_trajectories(data, times, times), data)


def test_sparse_tensors_are_refused():
    times = torch.arange(3.0)
    with pytest.raises(TypeError, match=r"data is of layout torch.sparse_coo, expected a strided"):
        rc.resample_trajectories(torch.eye(3).to_sparse(), times, times)


def test_autocast_changes_nothing(device):
    data = torch.rand(2, 6, 3, device=device)
    times = torch.arange(6.0, device=device).expand(2, 6)
    with torch.autocast(device, dtype=torch.bfloat16):
        result = rc.resample_trajectories(data, times, times + 0.25)
    assert torch.equal(result, rc.resample_trajectories(data, times, times + 0.25))


def test_a_dispatch_mode_sees_the_operator(device):
    names = []

    class Log(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            names.append(str(function))
            return function(*args, **kwargs or {})

    call, tensors = case("resample_trajectories", device)
    with Log():
        result = call(*tensors)
    assert names == ["robocache_cupy.resample_trajectories.default"]
    assert_same(result, call(*tensors))


# ---------------------------------------------------------------------------- gradients


def test_an_argument_without_a_gradient_is_named(device):
    points = torch.rand(2, 30, 3, device=device, requires_grad=True)
    features = torch.rand(2, 30, 2, device=device, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"points requires grad, .* pass points.detach\(\)"):
        rc.voxelize_point_cloud(points, 4, 0.25, reduce="mean", features=features)
    with pytest.raises(RuntimeError, match="points requires grad"):
        rc.voxelize_point_cloud(points, 4, 0.25, dtype=torch.float32)
    assert not rc.voxel_indices(points, 4, 0.25).requires_grad  # integers have no gradient
    with torch.no_grad():
        rc.voxelize_point_cloud(points, 4, 0.25, reduce="mean", features=features)


def test_out_and_gradients_do_not_go_together(device):
    points = torch.rand(2, 30, 3, device=device)
    features = torch.rand(2, 30, 2, device=device, requires_grad=True)
    with pytest.raises(RuntimeError, match="out cannot be differentiated"):
        rc.voxelize_point_cloud(
            points, 4, 0.25, reduce="sum", features=features,
            out=torch.empty(2, 4, 4, 4, 2, device=device),
        )  # fmt: skip


def ascending(*shape, device="cpu"):
    return (torch.rand(shape, dtype=torch.float64, device=device) + 0.25).cumsum(-1)


def _fused(x, more=0):
    src, other = ascending(2, 7, device=x.device), ascending(2, 5, device=x.device)
    still = torch.rand(2, 5, 2, dtype=torch.float64, device=x.device)
    streams = {"a": rc.Stream(x, src, method="previous"), "b": (still + more, other)}
    return rc.fuse_multimodal(streams, ascending(2, 6, device=x.device))


def _windows(x):
    anchors = torch.tensor([0, 3, 6], device=x.device)
    return rc.sample_windows(
        x.reshape(14, 3), [0, 7, 14], anchors, delta_indices=[-1, 0, 2]
    ).values  # fmt: skip


def _voxels(reduce):
    def call(x):
        points = torch.rand(2, 7, 3, dtype=torch.float64, device=x.device)
        return rc.voxelize_point_cloud(points, 3, 0.34, reduce=reduce, features=x)

    return call


def _resampled(**options):
    def call(x):
        src, tgt = ascending(2, 7, device=x.device), ascending(2, 6, device=x.device) * 1.2
        return rc.resample_trajectories(x, src, tgt, **options)

    return call


DIFFERENTIABLE = {
    "linear": _resampled(),
    "linear with gaps": _resampled(max_gap=0.6, fill_value=0.0, latency=0.1),
    "extrapolate": _resampled(extrapolate="extrapolate"),
    "nearest": _resampled(method="nearest"),
    "mean": _resampled(method="mean"),
    "catmull_rom": _resampled(method="catmull_rom"),
    "normalised": _resampled(
        normalize=rc.normalization({"mean": [0.0, 0.5, 1.0], "std": [1.0, 0.5, 2.0]})
    ),
    "fuse": _fused,
    "windows": _windows,
    "normalize": lambda x: rc.normalize(x, {"mean": [0.0] * 3, "std": [0.5] * 3}),
    "voxel sum": _voxels("sum"),
    "voxel mean": _voxels("mean"),
    "voxel max": _voxels("max"),
}


def _grid(x):
    src = torch.arange(7.0, dtype=torch.float64, device=x.device).expand(2, 7)
    return rc.fuse_multimodal({"a": (x, src)}, hz=2.5, return_valid=True).values


DIFFERENTIABLE |= {
    "pchip": _resampled(method="pchip"),
    "makima": _resampled(method="makima"),
    "sum": _resampled(method="sum"),
    "a grid of its own length": _grid,
}
REFUSED_TWICE = {"pchip", "akima", "makima", "quaternions", "poses"}
differentiable = pytest.mark.parametrize("name", DIFFERENTIABLE)


def _repeatable(name):
    """The function with the same random arrays at every call."""

    def call(x):
        with torch.random.fork_rng(devices=[0] if x.is_cuda else []):
            torch.manual_seed(0)
            return DIFFERENTIABLE[name](x)

    return call


@pytest.fixture
def data(device):
    torch.manual_seed(1)
    return torch.rand(2, 7, 3, dtype=torch.float64, device=device, requires_grad=True)


@differentiable
def test_gradcheck(name, data):
    assert torch.autograd.gradcheck(_repeatable(name), (data,))


@differentiable
def test_gradients_of_gradients_are_right_or_refused(name, data):
    def check():
        return torch.autograd.gradgradcheck(_repeatable(name), (data,))

    if name in REFUSED_TWICE:
        with pytest.raises(RuntimeError, match="no second derivative"):
            check()
    else:
        assert check()


@differentiable
def test_gradients_are_the_same_by_every_way(name, data):
    """backward, torch.func.grad, a compiled backward, and a single precision that is close."""
    call = _repeatable(name)

    def loss(x):
        return call(x).square().sum()

    (expected,) = torch.autograd.grad(loss(data), data)
    if name == "a grid of its own length":
        with pytest.raises(ValueError, match="pass num="):
            torch.func.grad(loss)(data.detach())
    else:
        assert torch.equal(torch.func.grad(loss)(data.detach()), expected)
    again = data.detach().requires_grad_()
    (single,) = torch.autograd.grad(loss(again.float()), again)
    torch.testing.assert_close(single, expected, rtol=1e-4, atol=1e-5)


def test_a_compiled_backward(device):
    src, tgt = ascending(2, 7, device=device).float(), ascending(2, 6, device=device).float()
    data = torch.rand(2, 7, 3, device=device, requires_grad=True)

    def loss(data):
        return rc.resample_trajectories(data.sin(), src, tgt).square().sum()

    (expected,) = torch.autograd.grad(loss(data), data)
    for dynamic in (False, True):
        compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=dynamic)
        (got,) = torch.autograd.grad(compiled(data), data)
        assert torch.equal(got, expected)


def test_gradients_of_each_sample(device):
    src, tgt = ascending(4, 7, device=device), ascending(4, 6, device=device)
    data = torch.rand(4, 7, 3, dtype=torch.float64, device=device)

    def loss(data, src, tgt):
        return rc.resample_trajectories(data, src, tgt).square().sum()

    got = torch.vmap(torch.func.grad(loss))(data, src, tgt)
    expected = torch.func.grad(loss)(data, src, tgt)
    assert torch.equal(got, expected)


def clocks(device):
    return (torch.arange(5.0, dtype=torch.float64, device=device).repeat(2, 1),
            torch.rand(2, 3, dtype=torch.float64, device=device) * 4)  # fmt: skip


def test_gradients_reach_through_vmap(device):
    """A batched tensor does not say that the one inside of it is recorded."""
    times, tgt = clocks(device)
    data = torch.rand(2, 5, 2, dtype=torch.float64, device=device)

    def whole(x):
        return rc.resample_trajectories(x, times, tgt).square().sum()

    def batched(x):
        return torch.vmap(rc.resample_trajectories)(x, times, tgt).square().sum()

    expected = torch.func.grad(whole)(data)
    assert torch.equal(torch.func.grad(batched)(data), expected)
    tracked = data.clone().requires_grad_()
    batched(tracked).backward()
    assert torch.equal(tracked.grad, expected)
    hessian = torch.func.jacrev(torch.func.jacrev(whole))(data)
    assert torch.allclose(torch.einsum("abcdef,def->abc", hessian, data), expected)


def test_forward_mode_is_refused(device):
    times, tgt = clocks(device)
    data = torch.rand(2, 5, 2, dtype=torch.float64, device=device)

    def call(x):
        return rc.resample_trajectories(x, times, tgt)

    with pytest.raises(RuntimeError, match=r"no forward-mode derivative: use torch\.func\.grad"):
        torch.func.jvp(call, (data,), (data,))
    with torch.autograd.forward_ad.dual_level():
        assert torch.equal(call(data), call(data))  # without a tangent there is nothing to refuse
        dual = torch.autograd.forward_ad.make_dual(data, data)
        with pytest.raises(RuntimeError, match="no forward-mode derivative"):
            call(dual)


def test_autograd_knows_what_out_has_overwritten(device):
    weight = torch.ones(3, 2, device=device, requires_grad=True)
    x = torch.ones(3, 2, device=device)
    loss = (weight * x).sum()
    rc.normalize(x, rc.normalization({"mean": [5.0, 1.0], "std": [1.0, 2.0]}), out=x)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_tensors_without_an_address(device):
    times, tgt = clocks(device)
    data = torch.rand(2, 5, 2, dtype=torch.float64, device=device)

    def call(x):
        return rc.resample_trajectories(x, times, tgt)

    assert torch.equal(torch.func.functionalize(call)(data), call(data))
    zeros = torch._efficientzerotensor((2, 5, 2), dtype=torch.float64, device=device)
    assert torch.equal(call(zeros), torch.zeros_like(call(data)))
    data.untyped_storage().resize_(0)
    with pytest.raises(TypeError, match="data has no storage: it was freed"):
        call(data)


def test_what_cannot_be_batched_or_be_a_number_is_said(device):
    times, tgt = clocks(device)
    data = torch.rand(2, 5, 2, dtype=torch.float64, device=device)

    def call(x, latency=0.0):
        return rc.resample_trajectories(x, times, tgt, latency=latency)

    with pytest.raises(RuntimeError, match=r"use torch.func.jacrev or torch.func.vmap"):
        torch.autograd.functional.jacobian(call, data, vectorize=True)
    with pytest.raises(RuntimeError, match="latency requires grad"):
        call(data, torch.zeros(2, device=device, requires_grad=True))
    for x in (data, data.clone().requires_grad_()):
        with pytest.raises(TypeError, match=r"number|duration"):
            call(x, torch.tensor(0.1, device=device))


# ---------------------------------------------------------------------------- workers


_WORKERS = """
    import sys
    import numpy as np
    import torch
    import robocache_cupy as rc

    class Batches(torch.utils.data.Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, i):
            data = torch.arange(4000.0).reshape(2, 500, 4) + i
            times = torch.arange(500.0).expand(2, 500)
            batch = rc.fuse_multimodal({"a": (data, times)}, times + 0.5, return_valid=True)
            return batch.values, batch.valid

    if __name__ == "__main__":
        here = [Batches()[i] for i in range(8)]  # the pool of threads and Numba are in use
        for start in ("fork", "spawn"):
            loader = torch.utils.data.DataLoader(
                Batches(), batch_size=None, num_workers=2, multiprocessing_context=start
            )
            for (values, valid), (x, y) in zip(loader, here, strict=True):
                assert torch.equal(values, x) and torch.equal(valid, y)
        print("the same")
"""


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_workers_of_a_dataloader(tmp_path):
    script = tmp_path / "workers.py"
    script.write_text(textwrap.dedent(_WORKERS))
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=300, check=True
    )
    assert done.stdout.split() == ["the", "same"]


# ---------------------------------------------------------------------------- on a GPU


@pytest.fixture
def cuda(require):
    if not torch.cuda.is_available():
        require.skip("torch_cuda", "torch finds no GPU")


@every_op
def test_a_cuda_graph_replays_with_new_data(name, cuda):
    call, tensors = case(name, "cuda")
    if name == "sample_windows":  # whose list of offsets would be copied at every call
        offsets = torch.tensor([0, 9, 18], device="cuda")

        def call(data, times, anchors):
            return rc.sample_windows(data, offsets, anchors, times=times, delta_timestamps=[0, 1.5])

    rc.warmup(call, *tensors)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = call(*tensors)
    torch.empty(2**26, device="cuda")  # the caching allocator has moved on
    for x in tensors:
        if x.is_floating_point() and x.ndim == 3:
            x.mul_(0.5)
    graph.replay()
    torch.cuda.synchronize()
    assert_same(result, call(*tensors))


def test_a_slow_producer_on_a_side_stream(cuda):
    """What the caller's stream has still to do comes first, and nothing waits on the host."""
    data = torch.zeros(64, 256, 32, device="cuda")
    src = torch.arange(256.0, device="cuda").expand(64, 256)
    tgt = src + 0.5
    rc.warmup(rc.resample_trajectories, data, src, tgt)
    side = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        for i in range(20):
            torch.cuda._sleep(2_000_000)
            data.fill_(i)
            result = rc.resample_trajectories(data, src, tgt)
            assert not side.query()  # the host is ahead
            taken = result.sum()
    side.synchronize()
    assert taken.item() == 19 * data.numel()


def test_pinned_and_empty_tensors(cuda):
    data = torch.rand(2, 6, 3).pin_memory()
    times = torch.arange(6.0).expand(2, 6)
    result = rc.resample_trajectories(data, times, times + 0.5)
    assert result.device.type == "cpu"
    assert torch.equal(result, rc.resample_trajectories(data.clone(), times, times + 0.5))
    empty = torch.empty(2, 0, device="cuda")
    assert rc.resample_trajectories(data.cuda(), times.cuda(), empty).shape == (2, 0, 3)


def test_a_forked_worker_says_what_cuda_cannot(cuda):
    script = """
        import multiprocessing
        import torch
        import robocache_cupy as rc

        data = torch.rand(2, 6, 3, device="cuda")
        times = torch.arange(6.0, device="cuda").expand(2, 6)
        rc.resample_trajectories(data, times, times)

        def work(queue):
            try:
                rc.resample_trajectories(data, times, times)
            except RuntimeError as e:
                queue.put(str(e))

        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        context.Process(target=work, args=(queue,)).start()
        print(queue.get(timeout=60))
        """
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(script)],
        capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert "CUDA does not survive a fork" in done.stdout
