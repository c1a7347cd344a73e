"""fuse_multimodal is resample_trajectories of every stream, in one launch."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_resample import (
    CLOCKS,
    EPOCH,
    arrays,
    assert_same_bits,
    dtype_of,
    skip_unless_it_has,
    to_clock,
)

import robocache_cupy as rc
from robocache_cupy import Stream
from robocache_cupy._core.kernel import Kernel
from robocache_cupy._core.plan import Op

rng = np.random.default_rng


def on(lib, stream):
    """The stream with NumPy arrays made arrays of the library."""
    if isinstance(stream, tuple) and type(stream) is tuple:
        return tuple(map(lib.array, stream))
    return Stream(*(lib.array(x) if isinstance(x, np.ndarray) else x for x in stream))


def fuse(lib, streams, *args, **options):
    """The result with NumPy arrays."""
    if isinstance(streams, dict):
        given = {name: on(lib, x) for name, x in streams.items()}
    else:
        given = [on(lib, x) for x in streams]
    result = rc.fuse_multimodal(given, *map(lib.array, args), **arrays(lib, options))
    return to_numpy(lib, result)


def to_numpy(lib, x):
    if isinstance(x, dict):
        return {k: v if isinstance(v, slice) else lib.numpy(v) for k, v in x.items()}
    if isinstance(x, rc.Fused):
        return rc.Fused(*(v if v is None else to_numpy(lib, v) for v in x))
    return lib.numpy(x)


def alone(lib, stream, tgt_times=None, rows=None, **options):
    """A stream by itself, as [rows, T, *F] where that is asked for."""
    stream = Stream(*stream) if type(stream) is tuple else stream
    own = {k: v for k, v in stream._asdict().items() if k not in ("data", "times", "name")}
    if own["method"] is None:
        own["method"] = "linear" if stream.data.dtype.kind not in "iub" else "nearest"
    data, times = stream.data, stream.times
    given = [x if x is None else lib.array(x) for x in (data, times, tgt_times)]
    result = rc.resample_trajectories(*given, **arrays(lib, own | options), return_valid=True)
    values, valid = map(lib.numpy, result)
    if rows is not None:
        if valid.ndim == 1:
            values, valid = values[None], valid[None]
        values = np.broadcast_to(values, (rows, *values.shape[1:]))
        valid = np.broadcast_to(valid, (rows, *valid.shape[1:]))
    return values, valid


def assert_each_is_alone(lib, streams, tgt, rows, dtype=None, **options):
    """Both layouts of a fusion against every stream by itself."""
    lead = 1 if rows is None else 2
    expected = {k: alone(lib, x, tgt, rows, dtype=dtype, **options) for k, x in streams.items()}
    flat = [v.reshape(*v.shape[:lead], -1) for v, _ in expected.values()]
    got = fuse(lib, streams, tgt, return_valid=True, return_layout=True, dtype=dtype, **options)
    assert_same_bits(got.values, np.concatenate(flat, axis=-1))
    assert_same_bits(got.valid, np.stack([valid for _, valid in expected.values()], axis=-1))
    assert list(got.layout) == list(streams)
    for (name, columns), part in zip(got.layout.items(), flat, strict=True):
        assert_same_bits(got.values[..., columns], part)
        assert columns.step is None, name
    parts = fuse(lib, streams, tgt, layout="dict", return_valid=True, dtype=dtype, **options)
    assert list(parts.values) == list(parts.valid) == list(streams)
    for name, (value, valid) in expected.items():
        own = streams[name][0].dtype
        if own.kind in "iub" and parts.values[name].dtype == own:  # copied, and left as it is
            np.testing.assert_array_equal(parts.values[name], value)
        else:
            assert_same_bits(parts.values[name], value)
        assert_same_bits(parts.valid[name], valid)


# ----------------------------------------------------------------------- each stream is as alone


@st.composite
def fusions(draw, dtypes):
    """Streams by name, targets and dtype."""
    random = rng(draw(st.integers(0, 2**32)))
    clock = draw(st.sampled_from(["float64", "int64"]))
    B = draw(st.sampled_from([1, 2, 3]))
    unit = 1.0 if clock == "float64" else 1e-9
    streams = {}
    for k in range(draw(st.integers(1, 5))):
        S, dtype = int(random.integers(1, 9)), dtype_of(draw(st.sampled_from(dtypes)))
        features = draw(st.sampled_from([(), (1,), (3,), (8,), (2, 4)]))
        rows = draw(st.sampled_from([B, B, 1]))
        data = random.integers(0, 90, (rows, S, *features)).astype(dtype)
        times = np.sort(random.integers(0, 12, (rows, S)), axis=1)
        if clock == "float64" and draw(st.booleans()):
            times = np.where(np.arange(S) >= random.integers(1, S + 1), np.nan, times)
        options = {}
        if draw(st.booleans()):
            options["method"] = draw(st.sampled_from(
                ["nearest", "previous", "next", "max", "any", "linear", "pchip", "akima", "mean"]
            ))  # fmt: skip
        for name, most in (("tolerance", 4), ("max_gap", 6)):
            if draw(st.booleans()):
                options[name] = unit * int(random.integers(0, most))
        if draw(st.booleans()):
            options["latency"] = unit * int(random.integers(-2, 3))
        elif rows == B and draw(st.booleans()):
            options["latency"] = unit * random.integers(-2, 3, B)
        if rows == B and draw(st.booleans()):
            options["lengths"] = random.integers(0, S + 1, B)
        if draw(st.booleans()):
            options["fill_value"] = int(random.integers(0, 100))
        if draw(st.booleans()):
            options["extrapolate"] = draw(st.sampled_from([7, (3, "hold"), "extrapolate"]))
        if features == (8,) and options.get("method", "linear") != "any" and draw(st.booleans()):
            options["method"] = [("0:4", options.get("method", "previous")), (7, "next")]
        streams[f"s{k}"] = Stream(data, times.astype(clock), **options)
    tgt = np.array([np.sort(random.choice(np.arange(-4, 16), 11, replace=False))] * B)
    return streams, tgt.astype(clock), B


@settings(max_examples=80)
@given(st.data())
def test_fused_is_each_alone(lib, data):
    dtypes = ["float32", "float64", "float16", "bfloat16", "uint8", "int32"]
    streams, tgt, rows = data.draw(fusions(dtypes))
    assert_each_is_alone(lib, streams, tgt, rows, dtype="float32")


def robot(B=2, seed=0):
    """A camera, joints, an end effector and a force sensor, on clocks of their own."""
    random = rng(seed)

    def times(S, hz):
        return np.tile(np.arange(S) / hz, (B, 1)) + random.uniform(0, 0.2 / hz, (B, S))

    quat = random.standard_normal((B, 40, 4))
    pose = np.concatenate([random.standard_normal((B, 40, 3)), quat], axis=2)
    stats = {"mean": [0.1] * 6, "std": [2.0] * 6}
    f4 = np.float32
    return {
        "camera": Stream(random.standard_normal((B, 12, 16)).astype(f4), times(12, 10),
                         method="previous", tolerance=0.2, fill_value=0),
        "joints": Stream(random.standard_normal((B, 60, 7)).astype(f4), times(60, 50),
                         method="catmull_rom", latency=0.01, max_gap=0.05),
        "effector": Stream(pose.astype(f4), times(40, 30), rotation={"3:7": "quat_xyzw"},
                           latency=np.array([0.01, -0.02])[:B]),
        "force": Stream(random.standard_normal((B, 300, 6)).astype(f4), times(300, 250),
                        method="mean", normalize=(stats, "mean_std")),
        "gripper": Stream(random.standard_normal((B, 40, 1)).astype(f4), times(40, 30),
                          method=[(0, "pchip")], extrapolate="nan"),
    }  # fmt: skip


def test_a_robot(lib):
    tgt = np.tile(np.linspace(-0.1, 1.3, 29), (2, 1))
    assert_each_is_alone(lib, robot(), tgt, 2)


@pytest.mark.parametrize("dtype", ["float64", "float16"])
def test_a_robot_in_another_dtype(lib, dtype):
    tgt = np.tile(np.linspace(-0.1, 1.3, 29), (2, 1))
    streams = {k: x._replace(data=x.data.astype(dtype)) for k, x in robot().items()}
    assert_each_is_alone(lib, streams, tgt, 2)


@pytest.mark.parametrize("N", [1, 2, 3, 24, 30])
def test_any_number_of_streams(lib, N):
    random = rng(N)
    methods = ["linear", "nearest", "previous", "next"]
    streams = {}
    for k in range(N):
        S = k % 5 + 1
        streams[f"sensor {k}"] = Stream(
            random.standard_normal((3, S, k % 4 + 1)).astype("f4"),
            np.sort(random.uniform(0, 4, (3, S)), axis=1),
            method=methods[k % 4],
            latency=k / 100,
        )
    tgt = np.sort(random.uniform(-1, 5, (3, 9)), axis=1)
    assert_each_is_alone(lib, streams, tgt, 3)


KINDS = {
    "sampled": {"method": "linear"},
    "held": {"method": "previous"},
    "curve": {"method": "pchip"},
    "rotation": {"rotation": {"0:4": "quat_xyzw"}},
    "reduction": {"method": "mean"},
    "scaled": {"normalize": rc.normalization({"mean": [0.5], "std": [2.0]})},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("clock", ["float64", "int64"])
def test_every_kernel_gives_the_same(lib, clock, dtype, kind):
    """Kernels for one dtype and one kind of parts, with or without lengths, and for everything."""
    if lib.name == "jax" and (dtype, clock) != ("float32", "int64"):
        pytest.skip("the kernels are NumPy's")
    random = rng(0)
    data = random.standard_normal((2, 9, 8)).astype(dtype_of(dtype))
    times = np.sort(random.integers(0, 40, (2, 9)), axis=1).astype(clock)
    stream = Stream(data, times, **KINDS[kind])
    tgt = np.arange(-3, 45, 2).astype(clock)
    expected, valid = alone(lib, stream, tgt)
    every_kind = {
        "all": Stream(np.zeros((2, 3, 1), np.int16), stream.times[:, :3], method="max"),
        "x": stream,
    }
    for streams in (
        {"x": stream},
        {"x": stream._replace(lengths=np.array([9, 9]))},
        {"x": stream._replace(latency=np.zeros(2))},
        {"x": stream, "y": stream},
        {str(k): stream for k in range(9)} | {"x": stream},
        every_kind,
    ):
        got = fuse(lib, streams, tgt, layout="dict", return_valid=True)
        assert_same_bits(got.values["x"], expected)
        assert_same_bits(got.valid["x"], valid)


def test_many_streams_with_constants_of_their_own(lib):
    """More numbers than a table holds."""
    random = rng(0)
    streams = {
        str(k): Stream(random.standard_normal((5, 2)), np.arange(5.0), fill_value=k + 0.5,
                       extrapolate=(k + 1, -k - 1), tolerance=k / 20, max_gap=2.0)
        for k in range(12)
    }  # fmt: skip
    assert_each_is_alone(lib, streams, np.linspace(-2, 6, 17), None)
    uniform = {
        str(k): Stream(random.standard_normal((5, 2)), src_hz=k + 1.0, src_start=k / 4)
        for k in range(12)
    }
    assert_each_is_alone(lib, uniform, np.linspace(-2, 6, 17), None)


def test_many_streams_of_several_parts(lib):
    random = rng(0)
    ways = [("0:2", "pchip"), (2, "nearest"), (3, "mean")]
    streams = {
        str(k): Stream(random.standard_normal((2, 6, 5)).astype("f4"), np.tile(np.arange(6.0),
                       (2, 1)), method=ways)
        for k in range(10)
    }  # fmt: skip
    assert_each_is_alone(lib, streams, np.tile(np.linspace(0, 5, 7), (2, 1)), 2)


# --------------------------------------------------------------------------------------- launches


def count_launches(monkeypatch, call):
    """The kernels that a call runs, by name."""
    launched, run = [], Kernel.on_host

    def counted(kernel, launch, args):
        launched.append(kernel.name)
        return run(kernel, launch, args)

    monkeypatch.setattr(Op.all["fuse_multimodal"], "cache", {})
    monkeypatch.setattr(Kernel, "on_host", counted)
    call()
    return launched


@pytest.mark.parametrize(("N", "launches"), [(1, 1), (2, 1), (4, 1), (5, 1), (24, 1), (30, 2),
                                             (60, 3)])  # fmt: skip
def test_one_launch_for_24_streams(monkeypatch, N, launches):
    streams = [(np.zeros((2, 4, 1)), np.tile(np.arange(4.0), (2, 1))) for _ in range(N)]
    tgt = np.zeros((2, 3))
    launched = count_launches(
        monkeypatch, lambda: rc.fuse_multimodal(streams, tgt, return_valid=True)
    )
    assert launched == ["fuse"] * launches


def test_one_launch_for_every_method(monkeypatch):
    tgt = np.tile(np.linspace(0, 1, 9), (2, 1))
    assert count_launches(monkeypatch, lambda: rc.fuse_multimodal(robot(), tgt)) == ["fuse"]


# ------------------------------------------------------------------------------------- how it comes


def test_streams_come_in_several_forms(lib):
    y, z = np.arange(8.0).reshape(4, 2), np.arange(6.0).reshape(3, 2, 1) ** 2
    s, t, tgt = np.arange(4.0), np.arange(3.0) * 1.5, np.array([0.5, 1.75, 3.0])
    a, b, c, d, q = map(lib.array, (y, s, z, t, tgt))
    forms = [
        rc.fuse_multimodal({"y": (a, b), "z": (c, d)}, q),
        rc.fuse_multimodal({"y": [a, b], "z": Stream(c, d)}, tgt_times=q),
        rc.fuse_multimodal([(a, b), (c, d)], q),
        rc.fuse_multimodal(((a, b), Stream(c, d, name="z")), q),
        rc.fuse_multimodal(a, b, c, d, q),
        rc.fuse_multimodal(a, b, c, d, tgt_times=q),
    ]
    expected = np.concatenate([alone(lib, (y, s), tgt)[0],
                               alone(lib, (z, t), tgt)[0].reshape(3, 2)], axis=1)  # fmt: skip
    for form in forms:
        assert type(form) is type(a)
        assert_same_bits(lib.numpy(form), expected)
    named = rc.fuse_multimodal([(a, b), Stream(c, d, name="z")], q, layout="dict")
    assert type(named) is dict
    assert list(named) == ["stream0", "z"]
    assert_same_bits(lib.numpy(named["z"]), expected[:, 2:].reshape(3, 2, 1))
    single = rc.fuse_multimodal({"y": (a, b)}, q, layout="dict")
    assert_same_bits(lib.numpy(single["y"]), expected[:, :2])


@pytest.mark.parametrize("options", list(itertools.product([False, True], repeat=3)))
@pytest.mark.parametrize("layout", ["concat", "dict"])
@pytest.mark.parametrize("N", [1, 2])
def test_what_is_returned(N, layout, options):
    streams = {f"s{k}": (np.full((2, 4, k + 1), k), np.arange(4.0)) for k in range(N)}
    names = ("return_valid", "return_layout", "return_times")
    asked = dict(zip(names, options, strict=True))
    tgt = np.array([[0.5, 1.0, 9.0]] * 2)
    got = rc.fuse_multimodal(streams, tgt, layout=layout, **asked)
    values = got.values if any(options) else got
    assert isinstance(got, rc.Fused) == any(options)
    if layout == "concat":
        assert values.shape == (2, 3, 3 if N == 2 else 1)
    else:
        assert [v.shape for v in values.values()] == [(2, 3, k + 1) for k in range(N)]
    if not any(options):
        return
    assert (got.valid is not None, got.layout is not None, got.times is not None) == options
    if got.valid is not None:
        valid = np.stack(list(got.valid.values()), -1) if layout == "dict" else got.valid
        assert valid.tolist() == [[[True] * N, [True] * N, [False] * N]] * 2
    if got.layout is not None:
        assert list(got.layout.values()) == [slice(0, 1), slice(1, 3)][:N]
    if got.times is not None:
        assert_same_bits(got.times, tgt)


def test_the_alignment_of_three_sensors(lib):
    random = rng(0)
    names = ("vision", "proprio", "force")
    streams = {}
    for name, S, D in zip(names, (5, 20, 50), (8, 7, 3), strict=True):
        times = np.sort(random.uniform(0, 2, (2, S)), axis=1)
        streams[name] = (random.standard_normal((2, S, D)).astype("f4"), times)
    tgt = np.sort(random.uniform(-0.2, 2.2, (2, 12)), axis=1)
    v, p, f = ([lib.array(x) for x in streams[name]] for name in names)
    q = lib.array(tgt)
    three = lib.numpy(rc.fused_multimodal_alignment(*v, *p, *f, q))
    assert_same_bits(three, fuse(lib, streams, tgt))
    expected = [alone(lib, streams[name], tgt)[0] for name in names]
    assert_same_bits(three, np.concatenate(expected, axis=-1))
    two = rc.fused_multimodal_alignment(*v, *p, target_times=q, backend="numba" if
                                        lib.name in ("numpy", "torch") else "auto")  # fmt: skip
    assert_same_bits(lib.numpy(two), np.ascontiguousarray(three[..., :15]))


def test_its_errors_name_the_argument():
    y, t = np.zeros((1, 2, 3)), np.zeros((1, 2))
    with pytest.raises(TypeError, match="target_times"):
        rc.fused_multimodal_alignment(y, t, y, t)
    with pytest.raises(TypeError, match="force and force_times"):
        rc.fused_multimodal_alignment(y, t, y, t, y, target_times=t)
    with pytest.raises(ValueError, match=r"proprio.*\(1, 3\)"):
        rc.fused_multimodal_alignment(y, t, y, np.zeros((1, 3)), target_times=t)
    with pytest.raises(ValueError, match=r"backend is 'pytorch'.*'numba'"):
        rc.fused_multimodal_alignment(y, t, y, t, target_times=t, backend="pytorch")


# --------------------------------------------------------------------------------------------- rows


def test_one_row_serves_all(lib):
    """As a calibration that was taken once."""
    random = rng(0)
    many = Stream(random.standard_normal((3, 6, 2)), np.sort(random.uniform(0, 5, (3, 6)), axis=1))
    once = random.standard_normal((6, 4)), np.sort(random.uniform(0, 5, 6))
    tgt = np.linspace(-1, 6, 13)
    streams = {
        "many": many,
        "flat": Stream(*once),
        "one": Stream(once[0][None], once[1][None], method="pchip"),
        "short": Stream(once[0][None], once[1][None], lengths=np.array([4])),
        "packed": Stream(*once, offsets=np.array([1, 5]), method="mean"),
        "late": Stream(once[0][None], once[1][None], latency=np.array([0.25])),
        "uniform": Stream(once[0], src_hz=2.0, src_start=-0.5),
    }
    assert_each_is_alone(lib, streams, tgt, 3)


def test_a_single_trajectory_has_no_batch_axis(lib):
    streams = {"a": (np.arange(8.0).reshape(4, 2), np.arange(4.0)),
               "b": (np.arange(3.0), np.arange(3.0))}  # fmt: skip
    got = fuse(lib, streams, np.array([0.5, 1.5]), return_valid=True)
    assert got.values.tolist() == [[1, 2, 0.5], [3, 4, 1.5]]
    assert got.valid.shape == (2, 2)
    batch = fuse(lib, streams, np.array([[0.5, 1.5]] * 3), return_valid=True, return_layout=True)
    assert batch.values.tolist() == [[[1, 2, 0.5], [3, 4, 1.5]]] * 3
    assert batch.layout == {"a": slice(0, 2), "b": slice(2, 3)}


def test_rows_that_targets_alone_tell(lib):
    """Data whose first two axes are equal is a batch where something else says so."""
    y = np.arange(32.0).reshape(4, 4, 2)
    streams = {"a": (y, np.arange(4.0))}
    got = fuse(lib, streams, np.full((4, 1), 1.5), return_layout=True)
    np.testing.assert_array_equal(got.values[:, 0], (y[:, 1] + y[:, 2]) / 2)
    assert got.layout == {"a": slice(0, 2)}


def test_packed_streams(lib):
    random = rng(0)
    streams = {}
    for k, counts in enumerate(([3, 0, 5, 1], [2, 6, 0, 4])):
        times = np.concatenate([np.sort(random.uniform(0, 5, n)) for n in counts])
        streams[str(k)] = Stream(random.standard_normal((len(times), 3)), times,
                                 offsets=np.cumsum([0, *counts]).astype(("i4", "i8")[k]),
                                 method=("linear", "max")[k])  # fmt: skip
    tgt = np.sort(random.uniform(-1, 6, (4, 9)), axis=1)
    assert_each_is_alone(lib, streams, tgt, 4)
    assert_each_is_alone(lib, streams, tgt, 4, tgt_lengths=np.array([9, 3, 0, 5]))


def test_an_empty_row_is_not_valid(lib):
    y = np.ones((2, 3, 2))
    streams = {"a": Stream(y, np.tile(np.arange(3.0), (2, 1)), lengths=np.array([3, 0])),
               "b": Stream(y, np.tile(np.arange(3.0), (2, 1)), lengths=np.array([0, 2]),
                           fill_value=7)}  # fmt: skip
    got = fuse(lib, streams, np.array([0.0, 1.0]), return_valid=True)
    assert got.values[:, 0].tolist() == [[1, 1, 7, 7], [0, 0, 1, 1]]
    assert got.valid[:, 0].tolist() == [[True, False], [False, True]]


@pytest.mark.parametrize("shape", [(0, 4, 2), (2, 4, 0), (2, 1, 2)])
@pytest.mark.parametrize("T", [0, 3])
def test_sizes_of_zero_and_one(lib, shape, T):
    streams = {"a": Stream(np.ones(shape), np.tile(np.arange(shape[1] * 1.0), (shape[0], 1))),
               "b": Stream(np.ones((1, 2, 1)), np.array([[0.0, 1.0]]), method="mean")}  # fmt: skip
    got = fuse(lib, streams, np.arange(T * 1.0), return_valid=True)
    assert got.values.shape == (shape[0], T, shape[2] + 1)
    assert got.valid.shape == (shape[0], T, 2)
    assert (got.values == 1).all()
    parts = fuse(lib, streams, np.arange(T * 1.0), layout="dict")
    assert parts["a"].shape == (shape[0], T, shape[2])


def test_a_stream_without_samples(lib):
    nothing = Stream(np.zeros((2, 0, 3)), np.zeros((2, 0)))
    some = (np.ones((2, 3, 1)), np.tile(np.arange(3.0), (2, 1)))
    with pytest.raises(ValueError, match=r"streams\['empty'\] is empty.*lengths="):
        fuse(lib, {"some": some, "empty": nothing}, np.arange(2.0))
    known = nothing._replace(lengths=np.zeros(2, np.int64), fill_value=5)
    got = fuse(lib, {"some": some, "empty": known}, np.arange(2.0), return_valid=True)
    assert got.values.tolist() == [[[1, 5, 5, 5]] * 2] * 2
    assert not got.valid[..., 1].any()


# ------------------------------------------------------------------------------------------- clocks


@pytest.mark.parametrize("clock", CLOCKS)
def test_every_clock(lib, clock):
    skip_unless_it_has(lib, clock)
    y = rng(0).standard_normal((6, 2))
    s, t, tgt = np.arange(6) * 4, np.arange(6) * 5 + 2, np.arange(-2, 28, 3)
    unit = {} if clock.startswith("datetime") else {"time_unit": "s"}
    seconds = {"datetime64[ns]": 1e-9, "datetime64[us]": 1e-6}.get(clock, 1)
    streams = {"a": Stream(y, to_clock(s, clock), latency=2 * seconds, max_gap=4 * seconds),
               "b": Stream(y[::-1].copy(), to_clock(t, clock), method="previous",
                           tolerance=2 * seconds)}  # fmt: skip
    assert_each_is_alone(lib, streams, to_clock(tgt, clock), None, **unit)


def test_clocks_of_two_widths(lib):
    y = rng(0).standard_normal((6, 2))
    s, t, tgt = np.arange(6) * 4, np.arange(6) * 5 + 2, np.arange(-2, 28, 3)
    for narrow, wide in (("i4", "i8"), ("f4", "f8")):
        streams = {"a": (y, s.astype(narrow)), "b": (y, t.astype(wide))}
        assert_each_is_alone(lib, streams, tgt.astype(narrow), None, time_unit="ns")


def test_nanoseconds_of_the_epoch_are_exact(lib):
    y = rng(0).standard_normal((6, 2))
    s, t, tgt = np.arange(6) * 4, np.arange(6) * 5 + 2, np.arange(-2, 28, 3)
    near = fuse(lib, [(y, s), Stream(y, t, method="mean")], tgt)
    far = fuse(lib, [(y, EPOCH + s), Stream(y, EPOCH + t, method="mean")], EPOCH + tgt)
    assert_same_bits(far, near)


@pytest.mark.parametrize("union", [False, True])
@pytest.mark.parametrize("clock", ["float64", "int64", "int32"])
def test_the_grid_is_the_overlap_or_the_union(lib, clock, union):
    a = np.array([[0, 10, 35], [7, 20, 50]])
    b = np.array([[5, 25, 30, 60], [3, 9, 40, 45]])
    c = np.array([-2, 55])  # the same for all rows
    streams = {"a": (np.zeros((2, 3, 1)), a.astype(clock)),
               "b": (np.zeros((2, 4, 2)), b.astype(clock)),
               "c": (np.zeros((2, 1)), c.astype(clock))}  # fmt: skip
    lows, highs = ([-2, -2], [60, 55]) if union else ([5, 7], [35, 45])
    hz = 0.25
    T = max((high - low) // 4 + 1 for low, high in zip(lows, highs, strict=True))
    expected = np.array([[low + 4 * k for k in range(T)] for low in lows]).astype(clock)
    got = fuse(lib, streams, hz=hz, union=union, time_unit="s", return_times=True,
               return_valid=True)  # fmt: skip
    assert_same_bits(got.times, expected)
    by_targets = fuse(lib, streams, expected, time_unit="s", return_valid=True)
    assert_same_bits(got.values, by_targets.values)
    assert_same_bits(got.valid, by_targets.valid)
    times = [lib.array(x[1]) for x in streams.values()]
    grid = rc.time_grid(*times, hz=hz, union=union, time_unit="s")
    assert_same_bits(lib.numpy(grid), expected)
    for num in (0, 1, 20):
        some = rc.time_grid(*times, hz=hz, union=union, time_unit="s", num=num)
        made = fuse(lib, streams, hz=hz, union=union, time_unit="s", num=num, return_times=True)
        assert_same_bits(lib.numpy(some), made.times)
        assert made.values.shape == (2, num, 4)
        assert_same_bits(made.times[:, :T], expected[:, :num])


def test_a_grid_begins_where_t_start_says(lib):
    a, b = np.array([0.0, 1.0, 9.0]), np.array([2.0, 8.0])
    grid = lib.numpy(rc.time_grid(lib.array(a), lib.array(b), hz=0.5, t_start=3.0))
    assert_same_bits(grid, np.array([3.0, 5.0, 7.0]))
    union = rc.time_grid(lib.array(a), lib.array(b), hz=0.5, t_start=3.0, union=True)
    assert_same_bits(lib.numpy(union), np.array([3.0, 5.0, 7.0, 9.0]))
    given = rc.time_grid(lib.array(a), lib.array(b), hz=0.5, t_start=3.0, num=2)
    assert_same_bits(lib.numpy(given), np.array([3.0, 5.0]))
    late = rc.time_grid(lib.array(a), lib.array(b), hz=0.5, t_start=30.0)
    assert lib.numpy(late).shape == (0,)


def test_a_grid_counts_with_latency_lengths_and_padding(lib):
    a = np.array([[0.0, 1.0, 9.0, 99.0], [0.0, 5.0, 7.0, 20.0]])
    b = np.array([[2.0, 3.0, 8.0, np.nan], [1.0, 6.0, np.nan, np.nan]])
    streams = {"a": Stream(np.zeros((2, 4, 1)), a, lengths=np.array([3, 4]),
                           latency=np.array([1.0, -2.0])),
               "b": Stream(np.zeros((2, 4, 1)), b, latency=0.5),
               "c": Stream(np.zeros((2, 9, 1)), src_hz=1.0, src_start=1.0)}  # fmt: skip
    got = fuse(lib, streams, hz=1, return_times=True)
    # Row 0: a [-1, 8], b [1.5, 7.5], c [1, 9]. Row 1: a [2, 22], b [0.5, 5.5], c [1, 9].
    assert got.times[:, 0].tolist() == [1.5, 2.0]
    assert got.times.shape == (2, 7)
    hull = fuse(lib, streams, hz=1, return_times=True, union=True)
    assert hull.times[:, 0].tolist() == [-1.0, 0.5]
    assert hull.times.shape == (2, 22)


def test_streams_that_do_not_overlap_have_no_grid(lib):
    streams = {"a": (np.ones((3, 1)), np.array([0.0, 1.0, 2.0])),
               "b": (np.ones((3, 1)), np.array([5.0, 6.0, 7.0]))}  # fmt: skip
    assert fuse(lib, streams, hz=1).shape == (0, 2)
    assert fuse(lib, streams, hz=1, union=True).shape == (8, 2)


def test_a_grid_of_many_streams(lib):
    """Whose clocks take several tables."""
    random = rng(0)
    stamps = [np.sort(random.integers(0, 90, (2, 5)), axis=1) for _ in range(45)]
    stamps = [np.concatenate([x[:, :4], x[:, 4:] + 100 + k], axis=1) for k, x in enumerate(stamps)]
    first, last = (np.stack([x[:, i] for x in stamps]) for i in (0, -1))
    streams = {str(k): (np.zeros((2, 5, 1)), x) for k, x in enumerate(stamps)}
    for union, lows, highs in ((False, first.max(0), last.min(0)),
                               (True, first.min(0), last.max(0))):  # fmt: skip
        T = int(((highs - lows) // 3).max()) + 1
        expected = lows[:, None] + 3 * np.arange(T)
        times = map(lib.array, stamps)
        grid = rc.time_grid(*times, hz=1 / 3, union=union, time_unit="s")
        assert_same_bits(lib.numpy(grid), expected)
        got = fuse(lib, streams, hz=1 / 3, union=union, time_unit="s", return_times=True)
        assert_same_bits(got.times, expected)


def test_the_grid_is_never_accumulated(lib):
    t = np.array([EPOCH, EPOCH + 10**9])
    grid = lib.numpy(rc.time_grid(lib.array(t), hz=30))
    assert grid.tolist() == [EPOCH + round(k * 10**9 / 30) for k in range(31)]


@pytest.mark.parametrize("unit", ["ns", "us", "ms"])
def test_a_grid_of_datetimes(lib, unit):
    skip_unless_it_has(lib, "datetime64[ns]")
    t = np.array([0, 100]).astype(f"datetime64[{unit}]")
    hz = 0.05 * {"ns": 1e9, "us": 1e6, "ms": 1e3}[unit]
    grid = rc.time_grid(t, hz=hz)
    np.testing.assert_array_equal(grid, np.arange(0, 101, 20).astype(t.dtype), strict=True)


# ------------------------------------------------------------------------------------------- dtypes


@pytest.mark.parametrize(
    ("dtypes", "result"),
    [
        (("float32", "float64"), "float64"),
        (("float16", "float32"), "float32"),
        (("float16", "bfloat16"), "float32"),
        (("bfloat16", "bfloat16"), "bfloat16"),
        (("uint8", "uint8"), "uint8"),
    ],
)
def test_the_dtype_of_a_concat(lib, dtypes, result):
    streams = {d + str(k): (np.array([[1], [2]]).astype(dtype_of(d)), np.arange(2.0))
               for k, d in enumerate(dtypes)}  # fmt: skip
    got = fuse(lib, streams, np.array([0.0, 1.0]))
    assert got.dtype == dtype_of(result)
    assert got.astype("f4").tolist() == [[1, 1], [2, 2]]


def test_a_dict_keeps_the_dtype_of_each(lib):
    streams = {"image": (np.array([[1], [200]], np.uint8), np.arange(2.0)),
               "joint": (np.array([[1.0], [2.0]]), np.arange(2.0)),
               "button": (np.array([[False], [True]]), np.arange(2.0))}  # fmt: skip
    tgt = np.array([0.4, 0.6])
    got = fuse(lib, streams, tgt, layout="dict")
    assert {k: v.dtype.name for k, v in got.items()} == {
        "image": "uint8", "joint": "float64", "button": "bool"
    }  # fmt: skip
    assert got["image"].ravel().tolist() == [1, 200]  # nearest
    half = fuse(lib, streams, tgt, layout="dict", dtype="float16")
    assert {k: v.dtype.name for k, v in half.items()} == {
        "image": "uint8", "joint": "float16", "button": "bool"
    }  # fmt: skip
    scaled = streams | {"image": Stream(*streams["image"], normalize=rc.normalization(scale=0.5))}
    got = fuse(lib, scaled, tgt, layout="dict", dtype="float32")
    assert got["image"].dtype == np.float32
    assert got["image"].ravel().tolist() == [0.5, 100]
    moved = {"image": Stream(*streams["image"], method="linear")}
    got = fuse(lib, moved, np.array([0.5, 1.0]), layout="dict", dtype="float32")
    assert got["image"].ravel().tolist() == [100.5, 200]
    with pytest.raises(TypeError, match=r"image.*uint8.*joint.*float64.*dtype=.*layout='dict'"):
        fuse(lib, streams, tgt)
    assert fuse(lib, streams, tgt, dtype="float32").tolist() == [
        [1, np.float32(1.4), 0], [200, np.float32(1.6), 1]
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------- memory


def test_out(lib):
    if lib.name == "jax":
        pytest.skip("JAX arrays cannot be written to")
    tgt = np.tile(np.linspace(0, 1, 9), (2, 1))
    streams = robot()
    expected = fuse(lib, streams, tgt)
    D = expected.shape[-1]
    given = {name: on(lib, x) for name, x in streams.items()}
    for first in (0, 1, 4):
        wide = lib.array(np.full((2, 12, D + 5), 7, "f4"))
        out = wide[:, 2:11, first : first + D]
        got = rc.fuse_multimodal(given, lib.array(tgt), out=out)
        assert got is out
        assert_same_bits(lib.numpy(out), expected)
        whole = lib.numpy(wide)
        assert (whole[:, :2] == 7).all()
        assert (whole[:, 11:] == 7).all()
        assert (whole[..., :first] == 7).all()
        assert (whole[..., first + D :] == 7).all()
        all_of_it = rc.fuse_multimodal(given, lib.array(tgt), out=out, return_valid=True)
        assert all_of_it.values is out
    double = lib.array(np.zeros(expected.shape))
    rc.fuse_multimodal(given, lib.array(tgt), out=double)
    assert_same_bits(lib.numpy(double), fuse(lib, streams, tgt, dtype="float64"))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_columns_at_any_place(lib, dtype):
    """Widths whose columns begin off the 16 bytes, and views that do."""
    if lib.name == "jax":
        pytest.skip("JAX arrays have no views")
    random = rng(0)
    src, tgt = np.sort(random.uniform(0, 5, (2, 6)), axis=1), np.linspace(0, 5, 11)
    streams, given = {}, {}
    for k, width in enumerate((8, 1, 8, 3, 16, 4)):
        data = random.standard_normal((2, 6, width)).astype(dtype)
        streams[str(k)] = Stream(data, src, method=["linear", "previous"][k % 2])
        space = lib.array(np.zeros(data.size + 1, dtype))
        view = space[1:].reshape(data.shape)
        view[:] = lib.array(data)
        given[str(k)] = on(lib, streams[str(k)]._replace(data=None))._replace(data=view)
    got = lib.numpy(rc.fuse_multimodal(given, lib.array(tgt)))
    expected = np.concatenate([alone(lib, x, tgt)[0] for x in streams.values()], axis=-1)
    assert_same_bits(got, expected)
    assert_same_bits(fuse(lib, streams, tgt), expected)


def test_arguments_with_strides():
    random = rng(0)
    data, src = random.standard_normal((6, 8, 3)), np.sort(random.uniform(0, 5, (6, 3)), axis=0)
    tgt = np.linspace(0, 5, 22)
    x, t = data.transpose(2, 0, 1), src.T
    streams = {"a": (x, t), "b": Stream(x[:, ::-1, 1::2], t, method="mean"),
               "c": (data[:, 0], src[:, 0])}  # fmt: skip
    got = rc.fuse_multimodal(streams, tgt[::2])
    dense = {k: Stream(*v) if type(v) is tuple else v for k, v in streams.items()}
    dense = {k: v._replace(data=v.data.copy(), times=v.times.copy()) for k, v in dense.items()}
    assert_same_bits(got, rc.fuse_multimodal(dense, tgt[::2].copy()))


def test_streams_may_share_their_arrays(lib):
    y, t = lib.array(np.arange(12.0).reshape(2, 3, 2)), lib.array(np.tile(np.arange(3.0), (2, 1)))
    got = rc.fuse_multimodal(
        {"a": (y, t), "b": Stream(y, t, method="next"), "targets": (y, t)}, t, return_valid=True
    )
    assert_same_bits(lib.numpy(got.values), np.tile(np.arange(12.0).reshape(2, 3, 2), 3))
    assert lib.numpy(got.valid).all()


# -------------------------------------------------------------------------------------------- calls


def test_changing_numbers_do_not_replan(lib):
    if lib.name == "jax":
        pytest.skip("JAX keeps its own plans")
    cache = Op.all["fuse_multimodal"].cache
    y, s, tgt = np.array([[0.0], [10.0], [40.0]]), np.array([0.0, 1.0, 4.0]), np.arange(-1.0, 6)
    sizes, results = [], []
    for k in range(4):
        streams = {
            "a": Stream(y, s, latency=k / 8, tolerance=k / 2, max_gap=k + 0.5, fill_value=k,
                        extrapolate=(k + 0.25, -k)),
            "b": Stream(y, src_hz=k + 1.0, src_start=k / 2, method="pchip"),
        }  # fmt: skip
        got = fuse(lib, streams, tgt, return_valid=True)
        grid = fuse(lib, streams, hz=k + 1, t_start=k, num=3)
        sizes.append(len(cache))
        expected = [alone(lib, x, tgt) for x in streams.values()]
        assert_same_bits(got.values, np.concatenate([v for v, _ in expected], axis=-1))
        assert_same_bits(got.valid, np.stack([v for _, v in expected], axis=-1))
        by_targets = fuse(lib, streams, k + np.arange(3) / (k + 1))
        assert_same_bits(grid, by_targets)
        results.append(got.values.tobytes() + grid.tobytes())
    assert sizes[1:] == [sizes[1]] * 3  # `by_targets` of the first round has a plan of its own
    assert len(set(results)) == 4


def test_the_arguments_stay_as_they_are(lib):
    streams = robot()
    before = {k: (x.data.copy(), x.times.copy()) for k, x in streams.items()}
    tgt = np.tile(np.linspace(0, 1, 9), (2, 1))
    first, second = fuse(lib, streams, tgt), fuse(lib, streams, tgt)
    assert_same_bits(first, second)
    for name, (data, times) in before.items():
        assert_same_bits(streams[name].data, data)
        assert_same_bits(streams[name].times, times)


def test_inside_jit():
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    streams = robot()
    tgt = np.tile(np.linspace(0, 1, 9), (2, 1))

    def fused(data, times, tgt):
        given = {k: x._replace(data=data[k], times=times[k], latency=0.0)
                 for k, x in streams.items()}  # fmt: skip
        return rc.fuse_multimodal(given, tgt, return_valid=True)[:2]

    args = ({k: x.data for k, x in streams.items()}, {k: x.times for k, x in streams.items()}, tgt)
    for got, expected in zip(jax.jit(fused)(*args), fused(*args), strict=True):
        assert_same_bits(np.asarray(got), expected)
    with pytest.raises(Exception, match="num="):
        jax.jit(lambda t: rc.time_grid(t, hz=10))(tgt)
    grid = jax.jit(lambda t: rc.time_grid(t, hz=10, num=4))(tgt)
    assert_same_bits(np.asarray(grid), rc.time_grid(tgt, hz=10, num=4))


# ------------------------------------------------------------------------------------------- errors

Y, S, Q = np.zeros((4, 8)), np.arange(4.0), np.arange(3.0)
B243, B24 = np.zeros((2, 4, 3)), np.zeros((2, 4))


@pytest.mark.parametrize(
    ("stream", "error", "message"),
    [
        (5, TypeError, "int, expected a Stream"),
        ((Y,), TypeError, "tuple, expected a Stream"),
        ((None, S), TypeError, "data"),
        ((Y, None), ValueError, "either times or src_hz"),
        ((Y, S[:3]), ValueError, r"times has shape \(3,\), expected 4 stamps"),
        ((Y, S.astype("f2")), TypeError, "times has dtype float16"),
        ((Y, S.astype("i8")), TypeError, "times.*int64.*kinds of clock"),
        ((Y.astype("c8"), S), TypeError, "data has dtype complex64"),
        ((np.zeros(()), S), ValueError, r"data has shape \(\)"),
        (Stream(Y, S, src_hz=3), ValueError, "either times or src_hz"),
        (Stream(Y, S, src_start=3), ValueError, "src_start"),
        (Stream(Y, src_hz=0), ValueError, "src_hz.* is 0"),
        (Stream(Y, S, lengths=[4], offsets=[0, 4]), ValueError, "lengths and offsets"),
        (Stream(B243, B24, lengths=[4, 4, 4]), ValueError, "rows|lengths has shape"),
        (Stream(B243, B24, lengths=np.zeros(2)), TypeError, "lengths has dtype float64"),
        (Stream(Y, S, method="cubic"), ValueError, "'cubic'.*catmull_rom"),
        (Stream(Y, S, method="spline"), ValueError, "method is 'spline'"),
        (Stream(Y, S, method=7), TypeError, "method is 7"),
        (Stream(Y, S, method=[(8, "next")]), ValueError, "8 is no column"),
        (Stream(Y, S, rotation={"0:4": "euler"}), ValueError, "rotation.*'euler'"),
        (Stream(Y, S, rotation={"0:3": "quat_xyzw"}), ValueError, "takes 4 columns"),
        (Stream(Y, S, rotation=5), TypeError, "rotation is 5"),
        (Stream(Y, S, normalize=5), TypeError, "normalize is 5"),
        (
            Stream(Y, S, normalize=({"mean": [0.0] * 3, "std": [1.0] * 3}, "mean_std")),
            ValueError,
            r"normalize.*\(3,\), expected \(8,\)",
        ),
        (Stream(Y.astype("i4"), S, method="linear"), TypeError, "int32.*'linear'.*dtype="),
        (Stream(Y.astype("i4"), S, method="mean"), TypeError, "int32.*'mean'.*dtype="),
        (Stream(Y.astype("i4"), S, rotation="angle"), TypeError, "int32"),
        (
            Stream(Y.astype("u1"), S, normalize=({"mean": [0.0], "std": [1.0]}, "mean_std")),
            TypeError,
            "dtype",
        ),
        (Stream(Y, S, extrapolate="mirror"), ValueError, "extrapolate.* is 'mirror'"),
        (Stream(Y, S, extrapolate=(1, 2, 3)), ValueError, "extrapolate.* has 3 parts"),
        (Stream(Y.astype("u1"), S, extrapolate="nan"), TypeError, "extrapolate.* is 'nan'"),
        (Stream(Y.astype("u1"), S, fill_value=300), ValueError, "fill_value.* is 300"),
        (Stream(Y, S, fill_value="0"), TypeError, "fill_value.* is '0'"),
        (Stream(Y, S, fill_value=np.zeros(2)), TypeError, "fill_value is an array"),
        (Stream(Y, S, tolerance=-1), ValueError, "tolerance.* is -1"),
        (Stream(Y, S, tolerance=np.zeros(2)), TypeError, "tolerance is an array"),
        (Stream(Y, S, max_gap=math.nan), ValueError, "max_gap.* is nan"),
        (Stream(Y, S, latency="1"), TypeError, "latency.* is '1'"),
        (Stream(np.zeros((0, 8)), S[:0]), ValueError, "empty"),
    ],
)  # fmt: skip
def test_errors_name_the_stream_and_the_argument(stream, error, message):
    streams = {"arm": (np.zeros((4, 1), Y.dtype), S), "cam": stream}
    with pytest.raises(error, match=f"(?s).*{message}") as raised:
        rc.fuse_multimodal(streams, Q, layout="dict")
    assert "cam" in str(raised.value)
    assert "_fuse" not in str(raised.value)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rc.fuse_multimodal({}, Q), ValueError, "streams is empty"),
        (lambda: rc.fuse_multimodal([], Q), ValueError, "streams is empty"),
        (lambda: rc.fuse_multimodal({"a": (Y, S)}), ValueError, "either tgt_times or hz"),
        (lambda: rc.fuse_multimodal({"a": (Y, S)}, Q, hz=3), ValueError, "tgt_times or hz"),
        (lambda: rc.fuse_multimodal({"a": (Y, S)}, Q, num=3), ValueError, "num.*belong to hz"),
        (lambda: rc.fuse_multimodal({"a": (Y, S)}, Q, union=True), ValueError, "belong to hz"),
        (lambda: rc.fuse_multimodal({"a": (Y, S)}, hz=0), ValueError, "hz is 0"),
        (lambda: rc.fuse_multimodal({"a": (Y, S)}, hz=np.ones(2)), TypeError, "hz is an array"),
        (lambda: rc.fuse_multimodal({"a": (Y, S)}, hz=3, num=-1), ValueError, "num is -1"),
        (lambda: rc.fuse_multimodal({"a": (Y, S)}, hz=3, num=2.5), ValueError, "num is 2.5"),
        (lambda: rc.fuse_multimodal({"a": (Y, S)}, Q, Q), TypeError, "streams and tgt_times"),
        (lambda: rc.fuse_multimodal({"a": (Y, S)}, Q, tgt_times=Q), TypeError, "tgt_times"),
        (lambda: rc.fuse_multimodal(Y, S, Y, S), TypeError, "4 arrays"),
        (lambda: rc.fuse_multimodal(None, Q), TypeError, "streams is NoneType, expected"),
        (lambda: rc.fuse_multimodal(5, tgt_times=Q), TypeError, "streams is int, expected"),
        (lambda: rc.fuse_multimodal(Y, tgt_times=Q), TypeError, "streams is one ndarray"),
        (lambda: rc.fuse_multimodal(Stream(Y, S), Q), TypeError, "streams is one Stream, expect"),
        (lambda: rc.fuse_multimodal(Stream(Y, S), tgt_times=Q), TypeError, "streams is one Str"),
        (lambda: rc.fuse_multimodal({"a": (Y, S[:2])}, Q), ValueError,
         r"^streams\['a'\]: times has shape \(2,\), expected 4 stamps"),
        (lambda: rc.fuse_multimodal({"a": Stream(Y[:, :4].astype(int), S, rotation="angle")}, Q),
         TypeError, "dtype int64, expected a float for rotations"),
        (lambda: rc.fuse_multimodal({"a": Stream(Y, S, extrapolate=["hold", 0.0])}, Q), TypeError,
         r"^fuse_multimodal: extrapolate of streams\['a'\] is \['hold', 0.0\]"),
        (lambda: rc.fuse_multimodal({"b": (Y, S), "a": Stream(Y, S, latency=["x"])}, Q), TypeError,
         r"latency of streams\['a'\] is \['x'\]"),
        (lambda: rc.fuse_multimodal({"a": Stream(Y, S, fill_value=[1.0, 2.0])}, Q), TypeError,
         r"streams\['a'\]: fill_value is an array of shape \(2,\)"),
        (lambda: rc.fuse_multimodal({"a": (Y, S)}, hz=["x"]), TypeError, r"hz is \['x'\]"),
        (lambda: rc.fuse_multimodal({"a": (Y, S)}, Q, layout="list"), ValueError,
         "layout is 'list'.*'concat' or 'dict'"),
        (lambda: rc.fuse_multimodal({"a": (Y, S)}, Q, layout="dict", out=np.zeros((3, 8))),
         ValueError, "out is for layout='concat'"),
        (lambda: rc.fuse_multimodal({"a": (Y, S)}, Q, out=np.zeros((3, 7))), ValueError,
         r"out has shape \(3, 7\), expected \(3, 8\)"),
        (lambda: rc.fuse_multimodal({"a": (Y, S)}, Q, out=np.zeros((3, 8)), dtype="float32"),
         TypeError, "out has dtype float64, expected float32"),
        (lambda: rc.fuse_multimodal({"a": (B243, B24), "b": (np.zeros((3, 4, 3)),
                                                             np.zeros((3, 4)))}, Q),
         ValueError, r"rows: streams\['a'\] has 2, streams\['b'\] has 3"),
        (lambda: rc.fuse_multimodal({"a": (B243, B24)}, np.zeros((3, 2))), ValueError,
         "rows.*tgt_times has 3"),
        (lambda: rc.fuse_multimodal({"a": (B243, B24)}, Q, tgt_lengths=[1]), ValueError,
         r"tgt_lengths has shape \(1,\)"),
        (lambda: rc.fuse_multimodal([Stream(Y, S, name="a"), Stream(Y, S, name="a")], Q),
         ValueError, "a, a.*different names"),
        (lambda: rc.fuse_multimodal({"a": Stream(Y, S, method="mean")}, Q[:1]), ValueError,
         "'mean'.*one target"),
        (lambda: rc.fuse_multimodal({"a": (Y, S)}, Q, backend="gpu"), ValueError,
         "backend is 'gpu'"),
        (lambda: rc.fuse_multimodal({"a": (Y, S)}, Q, time_unit="h"), ValueError, "time_unit"),
        (lambda: rc.fuse_multimodal({"a": ([1.0], S)}, Q), TypeError, r"\['a'\].data.*got list"),
        (lambda: rc.time_grid(hz=3), TypeError, "time_grid needs"),
        (lambda: rc.time_grid(S, hz=-3), ValueError, "hz is -3"),
        (lambda: rc.time_grid(None, hz=3), TypeError, "times0|times"),
        (lambda: rc.time_grid("ab", hz=3), TypeError, r"^time_grid: times\[0\] must be an array"),
        (lambda: rc.time_grid(S, None, hz=3), TypeError, r"times\[1\] is None"),
        (lambda: rc.time_grid(S, hz=["x"]), TypeError, r"^time_grid: hz is \['x'\]"),
        (lambda: rc.time_grid(np.zeros((2, 3, 4)), hz=3), ValueError, r"\(2, 3, 4\)"),
        (lambda: rc.time_grid(S, S.astype("i8"), hz=3), TypeError, "kinds of clock"),
    ],
)  # fmt: skip
def test_errors_of_a_call(call, error, message):
    with pytest.raises(error, match=message) as raised:
        call()
    assert "_fuse" not in str(raised.value)


def test_a_time_grid_of_lists(lib):
    np.testing.assert_array_equal(rc.time_grid([0.0, 1.0], hz=4), np.arange(5) / 4, strict=True)
    mixed = lib.numpy(rc.time_grid([5, 105, 205], lib.array(np.array([0, 60, 200])), hz=20,
                                   time_unit="ms"))  # fmt: skip
    np.testing.assert_array_equal(mixed, [5, 55, 105, 155], strict=True)


def test_streams_of_any_iterable():
    expected = rc.fuse_multimodal([(Y, S), (Y, S)], Q)
    for make in (lambda: ((Y, S) for _ in range(2)), lambda: {"a": (Y, S), "b": (Y, S)}.values()):
        np.testing.assert_array_equal(rc.fuse_multimodal(make(), Q), expected, strict=True)
        result = rc.fuse_multimodal(make(), tgt_times=Q, return_layout=True)
        assert list(result.layout) == ["stream0", "stream1"]
        np.testing.assert_array_equal(result.values, expected, strict=True)


@pytest.mark.parametrize(
    "one",
    [
        Stream(Y[None], S[None], lengths=np.array([3])),
        Stream(Y, S, offsets=np.array([0, 3])),
        Stream(Y[None], S[None], latency=np.array([0.25]), method="pchip"),
    ],
)
def test_one_row_with_numbers_of_its_own_serves_all(lib, one):
    tgt = np.array([[0.5, 1.0], [2.5, 9.0]])
    batch = Stream(B243, B24)
    assert_each_is_alone(lib, {"a": batch, "one": one}, tgt, 2)
    assert_each_is_alone(lib, {"one": one}, tgt, 2)


def test_lists_in_a_mixture_of_frameworks():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"\['a'\].data \(numpy on cpu\), tgt_times \(torch"):
        rc.fuse_multimodal({"a": (Y, S.tolist())}, torch.tensor(Q))
    with pytest.raises(TypeError, match=r"asof_index .* src \(numpy on cpu\), tgt \(torch on cpu"):
        rc.asof_index(S, torch.tensor(Q), lengths=[4])


def test_a_mixture_of_frameworks_is_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"streams\['b'\].data.*numpy|numpy.*streams\['b'\].data"):
        rc.fuse_multimodal({"a": (torch.zeros(4, 1), torch.arange(4.0)), "b": (Y, S)}, Q)


def test_numbers_are_checked_at_every_call():
    good = {"cam": Stream(Y, S, tolerance=1.0, fill_value=1)}
    rc.fuse_multimodal(good, Q)
    for change, message in (({"tolerance": -1.0}, "tolerance.* is -1"),
                            ({"tolerance": math.nan}, "tolerance.* is nan")):  # fmt: skip
        with pytest.raises(ValueError, match=message) as raised:
            rc.fuse_multimodal({"cam": good["cam"]._replace(**change)}, Q)
        assert "cam" in str(raised.value)
