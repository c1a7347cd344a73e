"""The gradients of the ops on time, against differences of the ops themselves."""

import contextlib
import itertools

import numpy as np
import pytest

import robocache_cupy as rc
from robocache_cupy._core.plan import Op

EPOCH = 1_760_000_000_123_456_789
LINEAR = ("linear", "nearest", "previous", "next", "catmull_rom", "mean", "sum")
CURVES = ("pchip", "akima", "makima")


@contextlib.contextmanager
def recorded():
    """The first call of an op inside, which others may be made of."""
    calls = []
    run = Op.__call__

    def call(op, arrays, options, scalars):
        calls.append((op, arrays, options, scalars))
        return run(op, arrays, options, scalars)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Op, "__call__", call)
        yield calls


def arguments_of(function):
    """The op that a function calls first, and its arguments as a gradient gets them."""
    with recorded() as calls:
        function()
    op, arrays, options, scalars = calls[0]
    names = op.names(options)
    arrays = [np.asarray(x) if op.of_host(name) and isinstance(x, (list, tuple)) else x
              for name, x in zip(names, arrays, strict=False)]  # fmt: skip
    return op, op.arguments(arrays, options, scalars)


def outputs(result):
    return list(result) if isinstance(result, tuple) else [result]


def by_differences(function, x, grads, step):
    """The gradient of the sum of grads * function(x), one element after the other; exact for any
    step where the function is linear."""
    found = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[i] += sign * step
            ends.append([np.array(y, float) for y in function(moved)])
        for g, up, down in zip(grads, *ends, strict=True):
            if g is not None:
                change = np.where(np.isnan(up - down), 0, up - down)
                found[i] += np.vdot(g, change) / (2 * step)
    return found


def check(function, x, key=None, *, step=1.0, tolerance=1e-12, seed=0):
    """Compare the gradient by x of an op, which `function` calls."""
    op, arguments = arguments_of(lambda: function(x))
    random = np.random.default_rng(seed)

    def values(x):
        return outputs(call(op, function, x))

    grads = [
        random.standard_normal(y.shape).astype(y.dtype) if y.dtype.kind == "f" else None
        for y in map(np.asarray, values(x))
    ]
    grads = [g if g is None or i in _differentiable(op, len(grads), arguments) else None
             for i, g in enumerate(grads)]  # fmt: skip
    found = op.gradient(grads, arguments)[op.by[0] if key is None else key]
    assert (found.shape, found.dtype) == (x.shape, x.dtype)

    def only_values(x):
        return [0 if g is None else y for y, g in zip(values(x), grads, strict=True)]

    expected = by_differences(only_values, x, grads, step)
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance * 10)
    assert found.any()
    return found


def _differentiable(op, count, arguments):
    """The outputs that are values, and not times or weights."""
    if op.name == "fuse_multimodal":
        return range(1 if arguments["concat"] else len(arguments["streams"]))
    return range(1) if op.name == "resample_trajectories" else range(count)


def call(op, function, x):
    """What the op itself returned, before its public function named and sorted it."""
    results = []
    run = Op.__call__

    def kept(self, *of_call):
        result = run(self, *of_call)
        if self is op:
            results.append(result)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Op, "__call__", kept)
        function(x)
    return results[0]


def clocks(kind, B, S, T, seed=0, repeat=False):
    random = np.random.default_rng(seed)
    src = np.cumsum(random.integers(0 if repeat else 1, 9, (B, S)), axis=1)
    tgt = np.sort(random.integers(-8, 5 * S + 8, (B, T)), axis=1)
    if kind == "float64":
        return src / 8, tgt / 8
    return EPOCH + src * 10**9, EPOCH + tgt * 10**9


# ---------------------------------------------------------------------------------------- resample


@pytest.mark.parametrize("kind", ["float64", "int64"])
@pytest.mark.parametrize("method", LINEAR)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"extrapolate": "extrapolate"},
        {"extrapolate": ("nan", 3.0)},
        {"tolerance": 0.5, "extrapolate": "nan"},
        {"max_gap": 0.5, "fill_value": -1.0},
        {"latency": 0.25},
        {"latency": np.array([0.25, -0.5])},
        {"lengths": np.array([5, 0])},
        {"tgt_lengths": np.array([3, 6])},
        {"return_valid": True, "return_times": True},
    ],
    ids=lambda x: "-".join(x) or "plain",
)
def test_resample(kind, method, options):
    src, tgt = clocks(kind, 2, 7, 9, repeat=True)
    if kind == "float64" and "lengths" not in options:
        src[1, 5:] = np.nan
        tgt[0, 8:] = np.nan
    data = np.random.default_rng(1).standard_normal((2, 7, 2))
    check(lambda x: rc.resample_trajectories(x, src, tgt, method=method, **options), data)


@pytest.mark.parametrize("method", CURVES)
@pytest.mark.parametrize(
    "options",
    [{}, {"extrapolate": "extrapolate"}, {"lengths": np.array([2, 12])},
     {"lengths": np.array([3, 5])}, {"max_gap": 0.5, "fill_value": 0}],
    ids=lambda x: "-".join(x) or "plain",
)  # fmt: skip
@pytest.mark.parametrize("seed", range(4))
def test_resample_curves(method, options, seed):
    src, tgt = clocks("float64", 2, 12, 30, seed=seed, repeat=seed % 2 == 1)
    data = np.random.default_rng(seed).standard_normal((2, 12, 3))
    options = {"method": method, **options}
    check(lambda x: rc.resample_trajectories(x, src, tgt, **options), data, step=1e-6,
          tolerance=1e-6)  # fmt: skip


@pytest.mark.parametrize("method", CURVES)
def test_curves_of_lines(method):
    """The slopes of lines and of what is constant: pchip and Akima have kinks elsewhere."""
    src, tgt = np.arange(9.0), np.linspace(0.1, 7.9, 17)
    line = 2 * src + 1
    g = np.random.default_rng(0).standard_normal(17)
    found = rc.resample_backward(g, src, tgt, samples=9, method=method, data=line)
    assert np.isfinite(found).all()
    assert found.sum() == pytest.approx(g.sum())  # a shift of the data is one of the curve
    if method == "akima":  # where slopes are equal it is their mean
        ahead = g @ (tgt * 0 + tgt)  # so data that grows with time makes values that do
        assert found @ src == pytest.approx(ahead)


@pytest.mark.parametrize("method", [*LINEAR, "pchip"])
def test_shared_rows(method):
    src, tgt = clocks("float64", 3, 6, 8)
    data = np.random.default_rng(2).standard_normal((6, 2))
    step = {"step": 1e-6, "tolerance": 1e-6} if method == "pchip" else {}

    def call(x, src=src[0], **options):
        return rc.resample_trajectories(x, src, tgt, method=method, **options)

    check(call, data, **step)
    check(call, data[None], **step)
    check(lambda x: call(x, src), data[None], **step)
    check(lambda x: call(x, lengths=np.array([4])), data, **step)
    check(lambda x: call(x, latency=np.array([0.25])), data, **step)
    check(lambda x: call(x, offsets=np.array([1, 5])), data, **step)
    half = data.astype("f2")
    g = np.random.default_rng(3).standard_normal((3, 8, 2)).astype("f2")
    op, arguments = arguments_of(lambda: call(half))
    found = op.gradient([g], arguments)["data"]
    wide = op.gradient([g.astype("f4")], arguments_of(lambda: call(half.astype("f4")))[1])["data"]
    assert found.dtype == "f2"
    np.testing.assert_array_equal(found, wide.astype("f2"))  # rounded once


@pytest.mark.parametrize("method", [*LINEAR, "makima"])
def test_packed_rows(method):
    src, tgt = clocks("int64", 2, 9, 7)
    src, offsets = np.sort(src.ravel())[:11], np.array([1, 6, 10])
    src[6:] -= src[6] - src[1]
    data = np.random.default_rng(3).standard_normal((11, 2))
    step = {"step": 1e-6, "tolerance": 1e-6} if method == "makima" else {}
    check(lambda x: rc.resample_trajectories(x, src, tgt, offsets=offsets, method=method), data,
          **step)  # fmt: skip


@pytest.mark.parametrize("method", [*LINEAR, "akima"])
def test_one_trajectory(method):
    src, tgt = clocks("float64", 1, 7, 9)
    step = {"step": 1e-6, "tolerance": 1e-6} if method == "akima" else {}
    for features in ((), (2,), (2, 3)):
        data = np.random.default_rng(4).standard_normal((7, *features))
        check(lambda x: rc.resample_trajectories(x, src[0], tgt[0], method=method), data, **step)
    check(lambda x: rc.resample_trajectories(x, src, tgt, method=method), data[None], **step)
    if method not in ("mean", "sum"):
        now = src[:, :1]  # sizes of 1, which could be any axis
        check(lambda x: rc.resample_trajectories(x, now, now, method=method), data[None, :1],
              **step)  # fmt: skip


@pytest.mark.parametrize("method", [*LINEAR, "pchip"])
def test_uniform_clocks(method):
    src, tgt = clocks("float64", 2, 7, 9)
    data = np.random.default_rng(5).standard_normal((2, 7, 2))
    step = {"step": 1e-6, "tolerance": 1e-6} if method == "pchip" else {}
    uniform = {"src_hz": 1.5, "src_start": 0.25, "method": method}
    check(lambda x: rc.resample_trajectories(x, None, tgt, **uniform), data, **step)
    ints = (tgt * 10**9).astype("i8")
    check(lambda x: rc.resample_trajectories(x, None, ints, **{**uniform, "src_start": 5}), data,
          **step)  # fmt: skip
    packed = {**uniform, "offsets": np.array([0, 3, 7])}
    check(lambda x: rc.resample_trajectories(x, None, tgt, **packed), data[0], **step)
    for grid in ({"hz": 3.0}, {"hz": 3.0, "num": 4}, {"hz": 3.0, "t_start": 0.5, "num": 5}):
        check(lambda x, grid=grid: rc.resample_trajectories(x, src, method=method, **grid), data,
              **step)  # fmt: skip
    check(lambda x: rc.resample_trajectories(x, hz=1.0, num=5, **uniform), data, **step)


@pytest.mark.parametrize("method", [*LINEAR, "makima"])
def test_unsorted_stamps(method):
    src, tgt = clocks("float64", 2, 8, 9)
    src = np.random.default_rng(6).permuted(src, axis=1)
    data = np.random.default_rng(7).standard_normal((2, 8, 2))
    step = {"step": 1e-6, "tolerance": 1e-6} if method == "makima" else {}
    options = {"method": method, "assume_sorted": False}
    check(lambda x: rc.resample_trajectories(x, src, tgt, **options), data, **step)
    lengths = {**options, "lengths": np.array([6, 3])}
    check(lambda x: rc.resample_trajectories(x, src, tgt, **lengths), data, **step)
    packed = {**options, "offsets": np.array([1, 4, 7])}
    check(lambda x: rc.resample_trajectories(x, src[0], tgt, **packed), data[0], **step)
    check(lambda x: rc.resample_trajectories(x, src[0], tgt, **options), data[0], **step)


def test_columns_in_different_ways():
    src, tgt = clocks("float64", 2, 8, 9)
    method = [("0", "previous"), ("1:3", "mean"), ("4", "pchip"), ("3", "previous")]
    for shape in ((2, 8, 6), (2, 8, 2, 6)):
        data = np.random.default_rng(8).standard_normal(shape)
        check(lambda x: rc.resample_trajectories(x, src, tgt, method=method), data, step=1e-6,
              tolerance=1e-6)  # fmt: skip


@pytest.mark.parametrize("clip", [None, 0.8])
def test_normalised(clip):
    src, tgt = clocks("float64", 2, 8, 9)
    stats = {"mean": [0.1, -0.2, 0.0], "std": [2.0, 0.5, 1.0], "mask": np.array([1, 1, 0], bool)}
    normalize = rc.normalization(stats, "mean_std", clip=clip)
    data = np.random.default_rng(9).standard_normal((2, 8, 3))
    for method in ("linear", "sum", [("0", "next"), ("1:3", "catmull_rom")]):
        found = check(
            lambda x, method=method: rc.resample_trajectories(
                x, src, tgt, method=method, normalize=normalize, extrapolate=(0.5, "hold")
            ),
            data, step=1e-6, tolerance=1e-6,
        )  # fmt: skip
        assert (clip is None) or not np.array_equal(
            found, check(lambda x, method=method: rc.resample_trajectories(
                x, src, tgt, method=method, extrapolate=(0.5, "hold")), data)
        )  # fmt: skip


@pytest.mark.parametrize(("x", "y"), [("f2", "f4"), ("f4", "f8"), ("f8", "f4"), ("f4", "f2")])
def test_dtypes(x, y):
    src, tgt = clocks("int64", 2, 8, 9)
    data = np.random.default_rng(10).standard_normal((2, 8, 3))
    g = np.random.default_rng(11).standard_normal((2, 9, 3))
    for method in (*LINEAR, *CURVES):
        of = {}
        for dtypes in ((x, y), ("f8", "f8")):
            op, arguments = arguments_of(
                lambda dtypes=dtypes, method=method: rc.resample_trajectories(
                    data.astype(x).astype(dtypes[0]), src, tgt, method=method, dtype=dtypes[1]
                )
            )
            of[dtypes] = op.gradient([g.astype(y).astype(dtypes[1])], arguments)["data"]
        assert of[x, y].dtype == x
        np.testing.assert_allclose(of[x, y], of["f8", "f8"], rtol=4e-3, atol=4e-3)


@pytest.mark.parametrize("method", ["max", "min", "any"])
def test_what_has_no_gradient(method):
    src, tgt = clocks("float64", 1, 5, 4)
    data = np.ones((1, 5, 2))
    op, arguments = arguments_of(lambda: rc.resample_trajectories(data, src, tgt, method=method))
    with pytest.raises(RuntimeError, match=f"resample_trajectories of method {method!r} has no"):
        op.gradient([np.ones((1, 4, 2))], arguments)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_rotations_among_the_columns(clip):
    src, tgt = clocks("float64", 2, 6, 9)
    data = np.random.default_rng(23).standard_normal((2, 6, 7))
    options = {"rotation": {"3:7": "quat_xyzw"}, "method": [("0:2", "mean")]}
    options["normalize"] = rc.normalization(scale=2.0, clip=clip)  # which leaves rotations alone
    check(lambda x: rc.resample_trajectories(x, src, tgt, **options), data, step=1e-6,
          tolerance=1e-5)  # fmt: skip
    pose = {"rotation": "pos_rotvec"}
    check(lambda x: rc.resample_trajectories(x, src, tgt, **pose), data[..., :6], step=1e-6,
          tolerance=1e-5)  # fmt: skip
    stream = rc.Stream(data, src, **options)
    check(lambda x: rc.fuse_multimodal({"a": stream._replace(data=x)}, hz=2.0), data, 0, step=1e-6,
          tolerance=1e-5)  # fmt: skip
    offsets, anchors = np.array([0, 6]), np.array([0, 2, 5])
    turns = {"rotation": {"3:7": "quat_xyzw"}}
    check(lambda x: rc.sample_windows(x, offsets, anchors, delta_indices=[0, 1], **turns), data[0],
          0)  # fmt: skip
    op, arguments = arguments_of(
        lambda: rc.sample_windows(data[0], offsets, anchors, delta_timestamps=[0.0, 0.1],
                                  times=src[0], **turns)
    )  # fmt: skip
    with pytest.raises(RuntimeError, match="sample_windows of data has no gradient by columns"):
        op.gradient([np.ones((3, 2, 7)), None], arguments)


# -------------------------------------------------------------------------------------------- fuse


@pytest.mark.parametrize("layout", ["concat", "dict"])
@pytest.mark.parametrize(
    "grid",
    [{}, {"hz": 2.0}, {"hz": 2.0, "union": True, "num": 7}, {"hz": 2.0, "t_start": 1.0, "num": 7}],
    ids=lambda x: "-".join(x) or "times",
)
def test_fuse(layout, grid):
    src, tgt = clocks("float64", 2, 7, 9)
    other, _ = clocks("float64", 1, 5, 1, seed=4)
    random = np.random.default_rng(12)
    normalize = rc.normalization(scale=3.0, bias=1.0)
    if not grid:
        grid = {"tgt_times": tgt, "tgt_lengths": np.array([9, 4])}
    data = [random.standard_normal(s) for s in ((2, 7, 3), (5, 2), (2, 6, 1, 2))]
    image = np.zeros((5, 2), np.uint8)
    for k in range(3):

        def call(x, k=k):
            each = [*data[:k], x, *data[k + 1 :]]
            streams = {
                "joint": rc.Stream(each[0], src, latency=0.5, method=[("1", "mean")]),
                "one": rc.Stream(each[1], other[0], method="catmull_rom", normalize=normalize),
                "even": rc.Stream(each[2], src_hz=1.5, src_start=0.25, extrapolate="nan"),
            }
            if layout == "dict":
                streams["image"] = (image, other[0])
            return rc.fuse_multimodal(streams, layout=layout, return_valid=True, **grid)

        check(call, data[k], 4 * k)


def test_fuse_of_one_row():
    src, tgt = clocks("int64", 1, 7, 9)
    data = np.random.default_rng(13).standard_normal((7, 2))
    check(lambda x: rc.fuse_multimodal({"a": (x, src[0])}, tgt[0]), data, 0)
    check(lambda x: rc.fuse_multimodal({"a": (x, src[0])}, tgt[0], layout="dict"), data, 0)


# ----------------------------------------------------------------------------------------- windows


@pytest.mark.parametrize("pad", ["edge", "zero", "nan", "reflect"])
def test_windows_of_samples(pad):
    random = np.random.default_rng(14)
    data = random.standard_normal((13, 2, 3))
    offsets = np.array([0, 5, 5, 11])
    anchors = random.integers(0, 11, 20)
    for deltas in ([0], [3, -2, 0, 9], [-1, 0, 1]):
        check(
            lambda x, deltas=deltas: rc.sample_windows(
                x, offsets, anchors, delta_indices=deltas, pad=pad
            ),
            data, 0,
        )  # fmt: skip
    given = {"x": [0, 1], "y": [2]}
    other = random.standard_normal(13)
    for k, name in enumerate(("a", "x", "y")):
        check(
            lambda x, name=name: rc.sample_windows(
                {"a": data, "x": data, "y": other, name: x}, offsets, anchors,
                delta_indices=given, pad=pad, normalize=rc.normalization(scale=2.0),
            ),
            other if name == "y" else data, k,
        )  # fmt: skip


@pytest.mark.parametrize("kind", ["float64", "int64"])
@pytest.mark.parametrize("method", [*LINEAR, *CURVES])
@pytest.mark.parametrize(
    "options",
    [{}, {"pad": "zero"}, {"tolerance": 0.2, "pad": "nan"}, {"latency": "each"},
     {"max_gap": 0.5, "pad": "zero"}],
    ids=lambda x: "-".join(x) or "plain",
)  # fmt: skip
def test_windows_in_time(kind, method, options):
    random = np.random.default_rng(15)
    times = np.concatenate([np.cumsum(random.integers(1, 6, n)) for n in (6, 9, 1, 5)])
    times = times / 8 if kind == "float64" else EPOCH + times * 125_000_000
    offsets = np.array([0, 6, 15, 16, 21])
    data = random.standard_normal((21, 2))
    if options.get("latency") == "each":
        options = {"latency": random.uniform(-0.5, 0.5, 15)}
    step = {"step": 1e-6, "tolerance": 1e-6} if method in CURVES else {}
    anchors = random.integers(0, 21, 15)
    windows = {"delta_timestamps": [-0.3, 0.0, 0.25, 0.6], "times": times, "method": method}
    check(lambda x: rc.sample_windows(x, offsets, anchors, **windows, **options), data, 0, **step)
    around = {"anchor_times": times[anchors], "anchor_episode": random.integers(0, 4, 15)}
    check(lambda x: rc.sample_windows(x, offsets, **around, **windows, **options), data, 0, **step)


def test_windows_of_no_anchor():
    data = np.ones((4, 2))
    op, arguments = arguments_of(
        lambda: rc.sample_windows(data, np.array([0, 4]), np.zeros(0, int), delta_indices=[0])
    )
    found = op.gradient([np.ones((0, 1, 2)), None], arguments)[0]
    np.testing.assert_array_equal(found, np.zeros((4, 2)), strict=True)


# ------------------------------------------------------------------------------- normalise, interp


@pytest.mark.parametrize("clip", [None, False, 0.5])
@pytest.mark.parametrize("op", ["normalize", "unnormalize"])
@pytest.mark.parametrize("convention", ["lerobot", "gr00t", "octo"])
@pytest.mark.parametrize("mode", ["mean_std", "min_max"])
def test_normalize(op, mode, convention, clip):
    stats = {"mean": [0.1, -0.2, 0.0, 3.0], "std": [2.0, 0.5, 0.0, 1.0],
             "min": [-1.0, -0.5, -1.0, 2.0], "max": [0.5, 0.7, -1.0, 2.5],
             "mask": np.array([1, 1, 1, 0], bool)}  # fmt: skip
    x = np.random.default_rng(16).standard_normal((9, 4))
    options = {"convention": convention, "clip": clip}
    if mode == "min_max" and convention == "lerobot":
        stats["max"][2] = -0.9  # a range of 0 is 1e-8, of which differences know nothing
    if mode == "mean_std":
        stats["std"][2] = 0.1
    check(lambda x: getattr(rc, op)(x, stats, mode, **options), x, step=1e-7, tolerance=1e-5)


def test_normalize_at_and_beyond_the_bounds():
    given = rc.normalization(scale=2.0, bias=0.0, clip=1)
    x = np.array([-0.6, -0.5, 0.0, 0.5, 0.6, np.nan])
    op, arguments = arguments_of(lambda: rc.normalize(x, given))
    found = op.gradient([np.ones(6)], arguments)["x"]
    np.testing.assert_array_equal(found, [0, 2, 2, 2, 0, 0])
    half = x.astype("f2")  # as 0.50049, a unit more than the bound, is out of it
    half[4] = np.nextafter(half[3], np.float16(1))
    op, arguments = arguments_of(lambda: rc.normalize(half, given))
    found = op.gradient([np.ones(6, "f2")], arguments)["x"]
    np.testing.assert_array_equal(found, np.array([0, 2, 2, 2, 0, 0], "f2"), strict=True)


@pytest.mark.parametrize("ends", [{}, {"left": 3.0}, {"left": 0, "right": np.nan}])
def test_interp(ends):
    random = np.random.default_rng(17)
    xp = np.cumsum(random.integers(0, 4, 6))
    for xs, ps, fs in itertools.product(
        ((9,), (2, 9), ()), ((6,), (2, 6)), ((6,), (2, 6), (3, 1, 6))
    ):
        x = random.integers(-4, 20, xs) / 2
        points = np.broadcast_to(xp, ps).copy()
        fp = random.standard_normal(fs)
        if xs == ():
            x = np.array(2.5)
        check(lambda f, x=x, points=points: rc.interp(x, points, f, **ends), fp)
    op, arguments = arguments_of(lambda: rc.interp(x, xp, np.arange(6.0), period=20.0))
    with pytest.raises(RuntimeError, match="interp has no gradient by fp with a period"):
        op.gradient([np.ones(())], arguments)


# --------------------------------------------------------------------------------------- twice


@pytest.mark.parametrize("method", LINEAR)
@pytest.mark.parametrize(
    "options",
    [{}, {"extrapolate": ("nan", 3.0)}, {"fill_value": 1, "max_gap": 0.5},
     {"latency": np.array([0.25, -0.5]), "lengths": np.array([5, 0])},
     {"tgt_lengths": np.array([3, 6])}, {"assume_sorted": False}],
    ids=lambda x: "-".join(x) or "plain",
)  # fmt: skip
def test_the_gradient_of_a_gradient(method, options):
    src, tgt = clocks("float64", 2, 7, 9)
    tgt[0, 8:] = np.nan
    g = np.random.default_rng(18).standard_normal((2, 9, 2))
    check(lambda g: rc.resample_backward(g, src, tgt, samples=7, method=method, **options), g)
    one = {name: x for name, x in options.items() if np.ndim(x) == 0 or isinstance(x, tuple)}
    check(lambda g: rc.resample_backward(g, src[1], tgt[1], samples=7, method=method, **one), g[1])
    check(lambda g: rc.resample_backward(g, src[1], tgt, samples=7, method=method, **one), g)


def test_the_gradient_of_a_gradient_of_packed_rows_and_of_grids():
    src, tgt = clocks("float64", 2, 7, 9)
    g = np.random.default_rng(19).standard_normal((2, 9, 2))
    packed = {"samples": 7, "offsets": np.array([0, 4, 7])}
    check(lambda g: rc.resample_backward(g, src[0], tgt, **packed), g)
    for grid in ({"hz": 3.0}, {"hz": 3.0, "t_start": 0.5}):
        check(lambda g, grid=grid: rc.resample_backward(g, src, samples=7, **grid), g)
    uniform = {"samples": 7, "src_hz": 1.5, "src_start": 0.25}
    check(lambda g: rc.resample_backward(g, None, tgt, **uniform), g)


@pytest.mark.parametrize("method", CURVES)
def test_curves_have_no_second_derivative(method):
    src, tgt = np.arange(6.0), np.linspace(0.5, 4.5, 4)
    op, arguments = arguments_of(
        lambda: rc.resample_backward(np.ones(4), src, tgt, samples=6, method=method, data=src)
    )
    with pytest.raises(RuntimeError, match="resample_backward has no second derivative here"):
        op.gradient([np.ones(6)], arguments)


@pytest.mark.parametrize("pad", ["edge", "zero", "nan", "reflect"])
def test_the_gradient_of_the_gradient_of_windows(pad):
    data, offsets, anchors = np.ones((9, 2)), np.array([0, 5, 9]), np.array([2, 8, 0])
    for options in (
        {"delta_indices": [-1, 0, 3]},
        {"delta_timestamps": [-0.25, 1.0], "times": np.arange(9) / 2, "latency": 0.125},
    ):
        if "times" in options and pad == "reflect":
            continue
        op, arguments = arguments_of(
            lambda options=options: rc.sample_windows(data, offsets, anchors, pad=pad, **options)
        )
        g = np.random.default_rng(20).standard_normal((3, 3 - len(options) // 3, 2))
        check(lambda g, op=op, a=arguments: op.gradient([g, None], a)[0], g)


# ----------------------------------------------------------------------------------------- lanes


def of_lib(lib, function, x, key, g):
    """The gradient by x where everything, the gradient it is made of included, is of this library,
    and the sum of g * function(x) for it to be compared with."""

    def call(x):
        return function(lib.array(x), lib.array)

    op, arguments = arguments_of(lambda: call(x))
    with recorded() as calls:
        call(x)
    arguments = op.arguments(*calls[0][1:])  # arrays of the host may be NumPy's
    found = op.gradient([lib.array(g), *[None] * 3], arguments)[op.by[0] if key is None else key]
    assert type(found) is type(lib.array(x))
    return lib.numpy(found)


SRC, TGT = clocks("float64", 2, 12, 20, seed=3)
LANES = {
    **{
        f"resample-{method}": lambda x, array, method=method: rc.resample_trajectories(
            x, array(SRC), array(TGT), method=method, extrapolate="extrapolate"
        )
        for method in (*LINEAR, *CURVES)
    },
    "lengths": lambda x, array: rc.resample_trajectories(
        x, array(SRC), array(TGT), method="makima", lengths=array(np.array([12, 4])), latency=0.25,
        tgt_lengths=array(np.array([20, 12])), assume_sorted=False,
    ),
    "packed": lambda x, array: rc.resample_trajectories(
        x[0], array(SRC[0]), array(TGT), method="catmull_rom", offsets=array(np.array([0, 5, 12])),
    ),
    "shared": lambda x, array: rc.resample_trajectories(
        x[0], array(SRC[0]), array(TGT), method="akima", offsets=array(np.array([1, 12])),
    ),
    "uniform": lambda x, array: rc.resample_trajectories(
        x, src_hz=2.0, src_start=0.1, hz=1.5, num=9, method="mean"
    ),
    "columns": lambda x, array: rc.resample_trajectories(
        x, array(SRC), hz=3.0, num=11, method=[("0", "pchip"), ("2:4", "next")],
        normalize=rc.normalization(scale=[1.0, 2.0, 3.0, 4.0], clip=2.0),
    ),
    "fuse": lambda x, array: rc.fuse_multimodal(
        {"a": rc.Stream(x, array(SRC), "sum", latency=0.5), "b": (array(SRC), array(SRC))},
        hz=3.0, num=9,
    ),
    "normalize": lambda x, array: rc.normalize(
        x, rc.normalization(scale=[1.0, 2.0, 3.0, 4.0], clip=2.0)
    ),
    "interp": lambda x, array: rc.interp(
        array(TGT), array(SRC), x[:, :, 0], left=0.0
    ),
    "twice": lambda x, array: rc.resample_backward(
        x, array(SRC), array(SRC), samples=12, method="catmull_rom", fill_value=0
    ),
    **{
        f"windows-{method}": lambda x, array, method=method: rc.sample_windows(
            x[0], array(np.array([0, 5, 12])), array(np.array([3, 9, 11, 0, 4])),
            delta_timestamps=[-0.5, 0.25, 0.75], times=array(SRC[0]), method=method, pad="zero",
            latency=array(np.array([0.0, 0.1, 0.0, -0.2, 0.3])),
        ).values
        for method in ("linear", "next", "mean", "makima")
    },
    "indices": lambda x, array: rc.sample_windows(
        x[0], array(np.array([0, 5, 12])), array(np.array([3, 9, 11, 0, 4])),
        delta_indices=[-1, 0, 7], pad="reflect",
    ).values,
}  # fmt: skip


@pytest.mark.parametrize("case", LANES)
def test_lanes(lib, case):
    """On every lane the same as by differences of NumPy's."""
    x = np.random.default_rng(21).standard_normal((2, 12, 4))
    y = LANES[case](lib.array(x), lib.array)
    g = np.random.default_rng(22).standard_normal(tuple(y.shape))
    key = 0 if case == "fuse" or case.startswith(("windows", "indices")) else None
    found = of_lib(lib, LANES[case], x, key, g)
    expected = by_differences(lambda x: [LANES[case](x, np.asarray)], x, [g], 1e-6)
    if found.shape != x.shape:  # of a part of x, the rest of which is not in it
        expected = expected[0] if found.ndim == 2 and case != "interp" else expected[..., 0]
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
