"""JAX's transformations of every op: jit, vmap, scan, grad, shard_map, with x64 and without."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from op_cases import CASES
from test_core import bits, script

import robocache_cupy as rc
from robocache_cupy._core.array import Array, HostArray, Scalar
from robocache_cupy._core.plan import Op, op

jax = pytest.importorskip("jax")
jnp = pytest.importorskip("jax.numpy")

EVERY = pytest.mark.parametrize("name", CASES)


@pytest.fixture(autouse=True, scope="module", params=["cpu", "cuda"], ids=["jax_cpu", "jax_cuda"])
def platform(request, require):
    try:
        device = jax.devices(request.param)[0]
    except RuntimeError as e:
        require.skip(f"jax_{request.param}", str(e))
    with jax.default_device(device):
        yield request.param


@pytest.fixture(autouse=True)
def state():
    before = jax.config.jax_enable_x64
    yield
    jax.config.update("jax_enable_x64", before)


@pytest.fixture(params=[True, False], ids=["x64", "x32"])
def x64(request, state, platform):
    jax.config.update("jax_enable_x64", request.param)
    return request.param


@pytest.fixture
def compiled():
    """A list that grows with everything JAX traces or compiles."""
    events = []

    def listen(event: str, duration: float, **rest) -> None:
        if event.startswith("/jax/core/compile"):
            events.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield events
    forget = getattr(jax.monitoring, "unregister_event_duration_listener", None)
    if forget is not None:  # JAX for Python 3.10 has none
        forget(listen)


def parts(result) -> list:
    """The arrays of a result."""
    if isinstance(result, dict):
        return [y for x in result.values() for y in parts(x)]
    if isinstance(result, tuple):
        return [y for x in result for y in parts(x)]
    return [] if result is None else [result]


def call(name):
    """A case as a function of its arrays alone, and these arrays."""
    function, arrays, options = CASES[name]()
    return lambda *given: tuple(parts(function(*given, **options))), arrays


def halved(arrays) -> tuple:
    """Other arrays that the same call takes."""
    return tuple(x / 2 if x.dtype == "float32" else x for x in arrays)


TRIGONOMETRY = ("slerp",)  # of which CUDA and the C library differ in the last bits


def assert_same(got, expected, x64=True, name="") -> None:
    assert len(got) == len(expected)
    for i, (x, y) in enumerate(zip(got, expected, strict=True)):
        if not x64 and y.dtype == "int64":
            y = y.astype("int32")
        if name in TRIGONOMETRY and next(iter(x.devices())).platform != "cpu":
            assert x.dtype == y.dtype
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)
        else:
            assert bits(x) == bits(y), i


# --------------------------------------------------------------------- what every op can be part of


@EVERY
def test_eager(name, x64):
    function, arrays = call(name)
    result = function(*map(jnp.asarray, arrays))
    assert all(isinstance(x, jax.Array) for x in result)
    assert_same(result, function(*arrays), x64, name)


@EVERY
def test_jit(name, x64):
    function, arrays = call(name)
    jitted = jax.jit(function)
    for given in (arrays, halved(arrays)):
        assert_same(jitted(*map(jnp.asarray, given)), function(*given), x64, name)
    assert jitted._cache_size() == 1


@EVERY
def test_a_second_call_compiles_nothing(name, x64, compiled):
    function, arrays = call(name)
    given = [jnp.asarray(x) for x in arrays]
    others = [jnp.asarray(x) for x in halved(arrays)]
    jax.block_until_ready(function(*given))
    compiled.clear()
    result = function(*others)
    assert not compiled
    assert_same(result, function(*halved(arrays)), x64, name)


@EVERY
@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_vmap(name, x64, jit):
    function, arrays = call(name)
    every = [arrays, halved(arrays), arrays]
    given = [jnp.stack(column) for column in zip(*every, strict=True)]
    mapped = jax.vmap(function)
    result = (jax.jit(mapped) if jit else mapped)(*given)
    expected = [np.stack(column) for column in zip(*[function(*x) for x in every], strict=True)]
    assert_same(result, expected, x64, name)


@EVERY
def test_scan(name, x64):
    function, arrays = call(name)
    every = [arrays, halved(arrays)]
    given = [jnp.stack(column) for column in zip(*every, strict=True)]
    _, result = jax.lax.scan(lambda carry, x: (carry, function(*x)), (), given)
    expected = [np.stack(column) for column in zip(*[function(*x) for x in every], strict=True)]
    assert_same(result, expected, x64, name)


@EVERY
def test_a_gradient_or_a_sentence(name, x64):
    """Every op can stand where a derivative is taken; what it says is where none exists."""
    function, arrays = call(name)
    lead = arrays[0]
    weight = jnp.ones((), lead.dtype)

    def loss(scale):
        first = jnp.nan_to_num(jnp.asarray(lead)) * scale
        result = function(first, *map(jnp.asarray, arrays[1:]))
        floats = [x for x in result if jnp.issubdtype(x.dtype, jnp.floating)]
        return sum((jnp.nan_to_num(x).sum() for x in floats), start=0 * scale)

    value, differentiable = jax.jit(loss)(weight), True
    try:
        gradient = jax.jit(jax.grad(loss))(weight)
    except NotImplementedError as e:
        differentiable = False
        sentence = str(e)
    if differentiable:
        assert jnp.isfinite(gradient)
        assert gradient.dtype == lead.dtype
    else:
        assert "has no gradient" in sentence
        assert "jax.lax.stop_gradient" in sentence
    held = jax.grad(lambda scale: loss(jax.lax.stop_gradient(scale)) * scale)(weight)
    np.testing.assert_array_equal(held, value)


def test_a_program_of_many_calls_can_be_repeated(x64):
    """On a GPU XLA makes a CUDA graph of it, and records the calls no more than once."""
    cases = [call(name) for name in CASES if name not in TRIGONOMETRY]
    counts = [len(arrays) for _, arrays in cases]

    @jax.jit
    def program(every):
        rest = iter(every)
        return [f(*[next(rest) for _ in range(n)]) for (f, _), n in zip(cases, counts, strict=True)]

    for change in (lambda x: x, halved, lambda x: halved(halved(x)), lambda x: x):
        given = [change(arrays) for _, arrays in cases]
        results = program([jnp.asarray(x) for arrays in given for x in arrays])
        for (function, _), arrays, result in zip(cases, given, results, strict=True):
            assert_same(result, function(*arrays), x64)


@EVERY
def test_a_program_knows_the_numbers(name):
    """A callback that reads none from a device can go into a CUDA graph."""
    function, arrays = call(name)
    program = str(jax.make_jaxpr(function)(*arrays))
    assert "command_buffer_compatible=True" in program
    assert "command_buffer_compatible=False" not in program


def test_a_traced_number_is_read():
    data, times, targets = CASES["resample_trajectories"]()[1]
    program = jax.make_jaxpr(
        lambda x, late: rc.resample_trajectories(x, times, targets, latency=late)
    )
    times, targets = jnp.asarray(times), jnp.asarray(targets)
    assert "command_buffer_compatible=False" in str(program(data, 0.5))


def test_shard_map(platform, require):
    """Each device runs the op on its part; of the host there are forced to be two."""
    if platform == "cuda" and len(jax.devices("cuda")) != 2:
        require.skip("two_gpus", "JAX finds one GPU")
    script(
        """
        import jax
        import jax.numpy as jnp
        import numpy as np
        from jax.sharding import Mesh, NamedSharding, PartitionSpec
        from test_jax import CASES, assert_same, call, halved

        jax.config.update("jax_enable_x64", True)
        mesh, rows = Mesh(jax.devices(), ("rows",)), PartitionSpec("rows")
        wrong = []
        for name in CASES:
            function, arrays = call(name)
            every = [arrays, halved(arrays)]

            def of_part(*parts):
                return tuple(x[None] for x in function(*[x[0] for x in parts]))

            given = [np.stack(column) for column in zip(*every)]
            given = [jax.device_put(x, NamedSharding(mesh, rows)) for x in given]
            sharded = jax.shard_map(
                of_part, mesh=mesh, in_specs=rows, out_specs=rows, check_vma=False
            )
            result = jax.jit(sharded)(*given)
            expected = [np.stack(column) for column in zip(*[function(*x) for x in every])]
            try:
                assert all(len(x.devices()) == 2 for x in result)
                assert_same(result, expected)
            except AssertionError as e:
                wrong.append((name, e))
        assert not wrong, wrong

        first, second = (jax.device_put(np.ones((3, 4), "f4"), d) for d in jax.devices())
        import robocache_cupy as rc
        import pytest
        for _ in range(2):
            with pytest.raises(TypeError, match="slerp takes arrays of one framework on one dev"):
                rc.slerp(first, second, 0.5)
            rc.slerp(first, first, 0.5)
        """,
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
        JAX_PLATFORMS=platform,
        timeout=600,
    )


@pytest.mark.parametrize(
    ("argument", "function"),
    [
        ("num=", lambda x, t, p: rc.resample_trajectories(x, t, hz=4.0)),
        ("num=", lambda x, t, p: rc.time_grid(t, hz=4.0)),
        ("num=", lambda x, t, p: rc.fuse_multimodal([(x, t)], hz=4.0)),
        ("check=True", lambda x, t, p: rc.resample_trajectories(x, t, t, check=True)),
        ("max_voxels=", lambda x, t, p: rc.voxelize_sparse(p, 4, 0.5)),
        ("capacity=", lambda x, t, p: rc.voxel_downsample(p, 0.5)),
    ],
)
def test_sizes_that_depend_on_data_are_asked_for(argument, function, x64):
    (data, times, _), cloud = CASES["resample_trajectories"]()[1], CASES["voxel_indices"]()[1][0]
    given = [jnp.asarray(x) for x in (data, times, cloud)]
    for transformed in (jax.jit(function), jax.vmap(function)):
        with pytest.raises(ValueError, match=f"which a traced call cannot: .*{argument}"):
            transformed(*given)
    # A derivative alone is no trace: the sizes can be read.
    expected = parts(function(data, times, cloud))

    def run(x, t, p):
        result = parts(function(x, t, p))
        return p.sum(), result

    _, result = jax.grad(run, argnums=2, has_aux=True)(*given)
    assert_same(result, expected, x64)


# ------------------------------------------------------------------------- numbers of a call


CHANGING = [
    ("resample_trajectories", {"latency": 0.25, "tolerance": 0.125}),
    ("resample_trajectories", {"fill_value": -3.0}),
    ("interp", {"left": 5.0}),
    ("voxelize_point_cloud", {"voxel_size": 0.25, "fill_value": 2.0}),
    ("voxel_downsample", {"voxel_size": 0.75}),
    ("depth_to_points", {"depth_max": 1.0, "intrinsics": (4.0, 4.0, 3.0, 3.0)}),
    ("fuse_multimodal", {}),
]


@pytest.mark.parametrize(("name", "changed"), CHANGING)
def test_changing_numbers_compile_nothing_in_eager_calls(name, changed, x64, compiled):
    function, arrays, options = CASES[name]()
    given = [jnp.asarray(x) for x in arrays]
    for factor in (1.0, 0.5):  # the first makes them numbers that are not the default
        options = options | {k: np.multiply(v, factor).tolist() for k, v in changed.items()}
        compiled.clear()
        result = jax.block_until_ready(parts(function(*given, **options)))
        assert_same(result, parts(function(*arrays, **options)), x64)
    assert not compiled


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
def test_numbers_that_are_traced(jit, x64):
    data, times, targets = CASES["resample_trajectories"]()[1]

    def run(data, latency, tolerance):
        return rc.resample_trajectories(
            data, times, targets, latency=latency, tolerance=tolerance, fill_value=-1.0,
            return_valid=True,
        )  # fmt: skip

    run_all = jax.vmap(lambda *x: run(jnp.asarray(data), *x)) if not jit else None
    lags, limits = np.array([0.0, 0.25, -0.5], "float32"), np.array([0.5, 0.125, 0.0], "float32")
    times, targets = jnp.asarray(times), jnp.asarray(targets)
    if jit:
        jitted = jax.jit(run)
        every = [jitted(data, *x) for x in zip(lags, limits, strict=True)]
        assert jitted._cache_size() == 1
        got = [np.stack(column) for column in zip(*every, strict=True)]
    else:
        got = run_all(lags, limits)
    times, targets = np.asarray(times), np.asarray(targets)
    every = [run(data, float(a), float(b)) for a, b in zip(lags, limits, strict=True)]
    assert_same(got, [np.stack(column) for column in zip(*every, strict=True)])


def test_known_numbers_keep_their_bits():
    """-0.0 equals 0.0, and is another number."""
    cloud = jnp.full((1, 3), jnp.nan)
    options = {"grid_size": 1, "voxel_size": 1.0, "reduce": "sum"}
    for fill in (0.0, -0.0, 0.0):
        grid = jax.jit(lambda p, f=fill: rc.voxelize_point_cloud(p, fill_value=f, **options))(cloud)
        assert np.signbit(grid).all() == np.signbit(fill)


def test_a_wrong_number_raises_its_own_error_when_traced():
    data, times, targets = map(jnp.asarray, CASES["resample_trajectories"]()[1])
    with pytest.raises(ValueError, match="tolerance is -1"):
        jax.jit(lambda x: rc.resample_trajectories(x, times, targets, tolerance=-1.0))(data)


# ------------------------------------------------------------------------------------- without x64


def test_indices_are_int32_without_x64():
    jax.config.update("jax_enable_x64", False)
    cloud = np.zeros((3, 3), "float32")
    cloud[1] = np.nan
    cloud[2] = 0.5
    for function in (
        lambda p: rc.farthest_point_sample(p, 3),
        jax.jit(lambda p: rc.crop_and_sample(p, (-1, -1, -1, 1, 1, 1), 3).indices),
    ):
        indices = function(jnp.asarray(cloud))
        assert indices.dtype == "int32"
        np.testing.assert_array_equal(indices, [0, 2, -1])


@pytest.mark.parametrize("jit", [False, True], ids=["eager", "jit"])
@pytest.mark.parametrize("name", ["resample_trajectories", "fuse_multimodal", "time_grid"])
def test_int32_clocks_say_their_unit(name, jit):
    """Nanoseconds that JAX has cut to 32 bits look like any other int32."""
    jax.config.update("jax_enable_x64", False)
    function, arrays, options = CASES[name]()
    options = {k: v for k, v in options.items() if k not in ("latency", "tolerance")}
    is_clock = [x.ndim == 2 for x in arrays]
    ticks = [
        np.round(x * 1000).astype("int64") if c else x
        for x, c in zip(arrays, is_clock, strict=True)
    ]
    given = [jnp.asarray(x) for x in ticks]
    assert {x.dtype.name for x, c in zip(given, is_clock, strict=True) if c} == {"int32"}

    def run(*arrays, **more):
        return tuple(parts(function(*arrays, **options, **more)))

    jitted = jax.jit(run, static_argnames="time_unit") if jit else run
    with pytest.raises(TypeError, match="is an int32 array of JAX, which may be an int64 one"):
        jitted(*given)
    ticks = [x.astype("int32") if c else x for x, c in zip(ticks, is_clock, strict=True)]
    assert_same(jitted(*given, time_unit="ms"), run(*ticks, time_unit="ms"))


def test_numbers_that_do_not_fit_are_not_cut():
    jax.config.update("jax_enable_x64", False)
    points, values = jnp.array([0.0, 4e9]), jnp.array([0.0, 1.0])
    with pytest.raises(ValueError, match="holds 2147483653, which JAX would cut to 32 bits"):
        rc.interp([3, 2**31 + 5], points, values)
    with pytest.raises(ValueError, match="interp: fp: an int64 array holds -2147483649"):
        rc.interp(points, points, np.array([0, -(2**31) - 1]))
    assert rc.interp([0, 2**31 - 1], points, values).shape == (2,)


# ---------------------------------------------------------------------------------- arithmetic


def test_xla_keeps_its_arithmetic_and_the_op_has_its_own():
    """On a CPU XLA takes subnormal numbers for 0; what comes after an op is no exception."""
    data = jnp.full((1, 2, 1), 1e-37, "float32")
    times, targets = jnp.array([0.0, 1.0]), jnp.array([0.5])

    def shrunk(x):
        return x * jnp.float32(1e-3)

    def program(x):
        return shrunk(rc.resample_trajectories(x, times, targets))

    assert bits(jax.jit(program)(data)) == bits(jax.jit(shrunk)(data[:, :1]))
    tiny = np.full((1, 2, 1), 1e-40, "float32")
    result = rc.resample_trajectories(jnp.asarray(tiny), times, targets)
    if next(iter(result.devices())).platform == "cpu":
        np.testing.assert_array_equal(result, tiny[:, :1])


# ------------------------------------------------------------------------------------- gradients


@pytest.fixture
def seen():
    """What the gradient of `turned` is called with."""
    return []


@pytest.fixture
def turned(seen):
    """`unwrap_quaternions` with a number that it ignores, and with a gradient."""

    def by_quat(grads, arguments):
        seen.append((grads, arguments))
        quat = arguments["quat"]
        # XLA's division on a GPU is not exact.
        signs = jnp.sign(rc.unwrap_quaternions(quat, lengths=arguments["lengths"]) * quat)
        return {"quat": grads[0] * signs}

    @op(gradient=by_quat, by="quat")
    def turned(
        quat: Array,
        weight: Scalar = 0.0,
        *,
        lengths: HostArray | None = None,
        out: Array | None = None,
        backend: str = "auto",
    ):
        return inspect.unwrap(rc.unwrap_quaternions)(
            quat, lengths=lengths, out=out, backend=backend
        )

    yield turned
    del Op.all["turned"]


def example():
    quat = CASES["unwrap_quaternions"]()[1][0]
    return quat, np.sign(rc.unwrap_quaternions(quat) * quat)


def transformations(loss):
    yield "eager", jax.grad(loss)
    yield "jit", jax.jit(jax.grad(loss))
    yield "grad of jit", jax.grad(jax.jit(loss))
    yield "checkpoint", jax.jit(jax.grad(jax.checkpoint(loss)))


def test_the_gradient_is_the_ops_own(turned, x64):
    quat, signs = example()
    w = np.random.default_rng(3).standard_normal(quat.shape).astype("float32")

    def loss(quat):
        return (turned(2 * quat) * w).sum()

    for name, grad in transformations(loss):
        assert bits(grad(jnp.asarray(quat))) == bits(2 * signs * w), name


def test_the_gradient_gets_every_argument_by_name(turned, seen):
    quat = jnp.asarray(example()[0])

    def loss(x, weight):
        return turned(x, weight, lengths=[3, 9]).sum()

    jax.grad(loss)(quat, 0.5)
    jax.jit(jax.grad(loss))(quat, 0.5)
    for grads, arguments in seen:
        assert [x.shape for x in grads] == [quat.shape]
        assert arguments.keys() == {"quat", "weight", "lengths", "out", "backend"}
        assert arguments["out"] is None
        assert arguments["backend"] == "auto"
        assert arguments["lengths"].shape == (2,)
    assert seen[0][1]["weight"] == 0.5
    assert seen[1][1]["weight"].shape == ()


def test_gradients_under_vmap_and_scan(turned, x64):
    quat, signs = example()
    every = jnp.stack([quat, 2 * quat])

    def loss(x):
        return (turned(x) ** 2).sum()

    expected = 2 * np.stack([quat, 2 * quat])
    for grad in (jax.vmap(jax.grad(loss)), jax.jit(jax.vmap(jax.grad(loss)))):
        assert bits(grad(every)) == bits(expected)
    assert bits(jax.grad(lambda x: jax.vmap(loss)(x).sum())(every)) == bits(expected)

    def scanned(x):
        return jax.lax.scan(lambda total, y: (total + loss(y), None), jnp.float32(0), x)[0]

    assert bits(jax.jit(jax.grad(scanned))(every)) == bits(expected)
    assert signs.min() == -1


def test_gradients_compile_once(turned, compiled):
    quat = jnp.asarray(example()[0])
    grad, jitted = jax.grad(lambda x: turned(x, 0.5).sum()), []
    jitted = jax.jit(grad)
    jax.block_until_ready((grad(quat), jitted(quat)))
    other = quat / 2
    compiled.clear()
    jax.block_until_ready(jitted(other))
    assert not compiled
    assert jitted._cache_size() == 1
    jax.block_until_ready(grad(other))
    assert "/jax/core/compile/backend_compile_duration" not in compiled


def test_arguments_without_a_gradient_are_refused_only_when_they_take_part(turned):
    quat = jnp.asarray(example()[0])
    with pytest.raises(NotImplementedError, match="turned has no gradient by weight: use"):
        jax.grad(lambda w: turned(quat, w).sum())(0.5)
    with pytest.raises(NotImplementedError, match="turned has no gradient by weight"):
        jax.jit(jax.grad(lambda w: turned(w * quat, w).sum()))(0.5)
    gradient = jax.grad(lambda w: turned(w * quat, jax.lax.stop_gradient(w)).sum())(0.5)
    np.testing.assert_allclose(gradient, turned(quat).sum(), rtol=1e-5)
    # What does not depend on the result needs no gradient.
    gradient = jax.grad(lambda w: w + 0 * jax.lax.stop_gradient(turned(quat, w)).sum())(0.5)
    assert gradient == 1


def test_an_op_without_a_gradient_says_so(turned, monkeypatch):
    quat = jnp.asarray(example()[0])
    monkeypatch.setattr(Op.all["turned"], "gradient", None)
    for grad in (jax.grad, lambda loss: jax.jit(jax.grad(loss))):
        with pytest.raises(NotImplementedError, match=r"^turned has no gradient: use jax\.lax"):
            grad(lambda x: turned(x).sum())(quat)
        assert (grad(lambda x: (turned(jax.lax.stop_gradient(x)) * x).sum())(quat) != 0).all()


def test_integers_have_no_derivative():
    cloud = jnp.asarray(CASES["voxel_indices"]()[1][0])

    def count(points):
        return rc.voxel_indices(points, 4, 0.5, -1.0).astype("float32").sum() + points[0, 0, 0]

    expected = np.zeros(cloud.shape, "float32")
    expected[0, 0, 0] = 1
    for grad in (jax.grad(count), jax.jit(jax.grad(count))):
        assert bits(grad(cloud)) == bits(expected)
    _, tangent = jax.jvp(count, [cloud], [jnp.ones_like(cloud)])
    assert tangent == 1


def test_integer_arguments_beside_differentiable_ones(turned):
    quat = jnp.asarray(example()[0])
    gradient = jax.grad(lambda x, n: turned(x, lengths=n).sum(), allow_int=True, argnums=(0, 1))
    by_quat, by_lengths = gradient(quat, jnp.array([9, 9]))
    assert by_quat.shape == quat.shape
    assert by_lengths.dtype == jax.dtypes.float0


def dense(function, x) -> np.ndarray:
    """The Jacobian [*outputs, *inputs] of a linear function, column by column."""
    columns = [function(e.reshape(x.shape)) for e in np.eye(x.size, dtype=x.dtype)]
    return np.moveaxis(np.array(columns), 0, -1).reshape(*columns[0].shape, *x.shape)


@pytest.mark.parametrize("method", ["linear", "previous", "mean"])
def test_the_jacobian_of_a_resample(method, x64):
    data, times, targets = CASES["resample_trajectories"]()[1]
    there = jnp.asarray(times), jnp.asarray(targets)

    def run(x, t, q):
        return rc.resample_trajectories(x, t, q, method=method, latency=0.125)

    expected = dense(lambda x: run(x, times, targets), data)
    for jacobian in (jax.jacrev(run), jax.jit(jax.jacrev(run))):
        np.testing.assert_allclose(jacobian(jnp.asarray(data), *there), expected, atol=1e-6)

    def energy(x):
        return (run(x, *there) ** 2).sum() / 2

    flat = expected.reshape(-1, data.size).astype("float64")
    hessian = jax.jacrev(jax.grad(energy))(jnp.asarray(data))
    np.testing.assert_allclose(hessian.reshape(data.size, data.size), flat.T @ flat, atol=1e-5)


def test_stamps_have_no_gradient():
    data, times, targets = map(jnp.asarray, CASES["resample_trajectories"]()[1])
    for argnums, name in ((1, "src_times"), (2, "tgt_times")):
        for transform in (lambda f: f, jax.jit):
            loss = transform(lambda *a: rc.resample_trajectories(*a).sum())
            with pytest.raises(
                NotImplementedError, match=f"resample_trajectories has no gradient by {name}"
            ):
                jax.grad(loss, argnums)(data, times, targets)
    with pytest.raises(NotImplementedError, match="has no gradient by latency"):
        jax.grad(lambda late: rc.resample_trajectories(data, times, targets, latency=late).sum())(
            0.125
        )
