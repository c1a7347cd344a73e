import itertools
import math
from fractions import Fraction

import ml_dtypes
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robocache_cupy.backward import resample_backward
from robocache_cupy.resample import resample_trajectories

METHODS = ("linear", "nearest", "previous", "next", "mean")
SAMPLING = METHODS[:4]
FLOATS = ("float16", "bfloat16", "float32", "float64")
EPOCH = 1_760_000_000_123_456_789  # float64 has steps of 256 ns there


def dtype_of(name):
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def backward(lib, grad, src, tgt, **options):
    options = {n: lib.array(x) if isinstance(x, np.ndarray) else x for n, x in options.items()}
    return lib.numpy(resample_backward(*map(lib.array, (grad, src, tgt)), **options))


def assert_same_bits(got, expected):
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    nan = np.isnan(expected.astype(np.float64))
    np.testing.assert_array_equal(np.isnan(got.astype(np.float64)), nan)
    unsigned = f"u{got.itemsize}"
    np.testing.assert_array_equal(got.view(unsigned)[~nan], expected.view(unsigned)[~nan])


# ---------------------------------------------------------------------------------------- matrices


def sampling_matrix(src, tgt, compute, **options):
    """The weights [T, S] of one trajectory, by resampling the unit vectors."""
    S = len(src)
    if S == 0:
        return np.zeros((len(tgt), 0), compute)
    units = np.stack([np.eye(S), np.zeros((S, S))]).astype(compute)
    made = resample_trajectories(units, src[None], tgt[None], **options)
    weights = made[0] - made[1]  # less the constants
    return np.where(np.isnan(weights), 0, weights)


def mean_matrix(
    src, tgt, compute, *, extrapolate="hold", tolerance=None, max_gap=None, fill_value=None,
    latency=0.0, time_unit=None,
):  # fmt: skip
    """The same of the mean, one sample after the other, in exact numbers."""
    ticks = {"f": 1, "i": 10**9}[src.dtype.kind] if time_unit is None else oracle.UNITS[time_unit]
    late = Fraction(latency) * ticks
    stamps = [Fraction(t.item()) - late for t in src if t == t]
    targets = [None if q != q else Fraction(q.item()) for q in tgt]
    weights = np.zeros((len(tgt), len(src)), compute)
    for k, q in enumerate(targets):
        if q is None or not stamps:
            continue
        before = targets[k - 1] if k > 0 else None
        after = targets[k + 1] if k + 1 < len(targets) else None
        if before is None and after is None:
            own = [s for s, t in enumerate(stamps) if t == q]
        else:
            before = q - (after - q) if before is None else before
            after = q + (q - before) if after is None else after
            own = [s for s, t in enumerate(stamps) if (before + q) / 2 < t <= (q + after) / 2]
        if own:
            weights[k, own] = compute(1) / compute(len(own))
            continue
        if fill_value is not None:
            continue
        edges = extrapolate if isinstance(extrapolate, tuple) else (extrapolate, extrapolate)
        right = q > stamps[-1]
        if right or q < stamps[0]:
            far = abs(q - stamps[-1 if right else 0])
            constant = edges[right] not in ("hold", "extrapolate")
            if constant and far > 0:  # `tolerance` does not apply
                continue
        nearest = min(range(len(stamps)), key=lambda s: abs(q - stamps[s]))
        if stamps[nearest] <= q:  # of equal stamps the last
            nearest = max(s for s, t in enumerate(stamps) if t == stamps[nearest])
        weights[k, nearest] = 1
    return weights


def transposed(weights, grad, dtype):
    """The sum over the targets in their order, rounded once."""
    compute = weights.dtype
    total = np.zeros((weights.shape[1], *grad.shape[1:]), compute)
    for k in range(weights.shape[0]):
        for s in np.flatnonzero(weights[k]):
            total[s] = total[s] + weights[k, s] * grad[k].astype(compute)
    return oracle.rounded(total, dtype)


def matrix(method, src, tgt, compute, **options):
    weights = sampling_matrix(src, tgt, compute, method=method, **options)
    if method == "mean":
        np.testing.assert_array_equal(
            mean_matrix(src, tgt, np.dtype(compute).type, **options), weights
        )
    return weights


# -------------------------------------------------------------------------------- the definition


@st.composite
def calls(draw):
    method = draw(st.sampled_from(METHODS))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    B, S, T = draw(st.sampled_from([1, 3])), draw(st.sampled_from([1, 2, 9])), 14
    features = draw(st.sampled_from([(), (3,), (2, 4), (8,)]))
    clock = draw(st.sampled_from(["float32", "float64", "int32", "int64"]))

    def integers(low, high, *shape):
        return random.integers(low, high, shape, endpoint=True)

    src = np.sort(integers(0, 12, B, S), axis=1).astype(clock)
    tgt = integers(-6, 20, B, T)
    if method == "mean" or draw(st.booleans()):
        tgt = np.sort(tgt, axis=1)
    tgt = tgt.astype(clock)
    if clock.startswith("float") and draw(st.booleans()):
        tail = integers(0, 3, B)
        tgt[np.arange(T) >= T - tail[:, None]] = np.nan
        tail = integers(0, S, B)
        src[np.arange(S) >= S - tail[:, None]] = np.nan
    options = {"method": method, "time_unit": "s"}
    policy = st.sampled_from(["hold", "extrapolate", "nan", 3])
    for name, values in (
        ("extrapolate", policy | st.tuples(policy, policy)),
        ("tolerance", st.integers(0, 4)),
        ("max_gap", st.integers(0, 6)),
        ("fill_value", st.just(5)),
        ("latency", st.sampled_from([2, "rows"])),
    ):
        if draw(st.booleans()):
            options[name] = draw(values)
    if options.get("latency") == "rows":
        options["latency"] = integers(-3, 3, B) * 1.0
    lengths = integers(0, S, B) if draw(st.booleans()) else None
    dtypes = draw(st.sampled_from([(x, x) for x in FLOATS] + [("bfloat16", "float32")] * 2
                                  + [("float32", "float64"), ("float64", "float16")]))  # fmt: skip
    grad = random.standard_normal((B, T, *features)).astype(dtype_of(dtypes[0]))
    return grad, src, tgt, lengths, dtype_of(dtypes[1]), options


@settings(max_examples=300)
@given(calls())
def test_it_is_the_transpose(lib, call):
    grad, src, tgt, lengths, dtype, options = call
    B, S = src.shape
    compute = np.float64 if "float64" in (grad.dtype.name, dtype.name) else np.float32
    counts = [S] * B if lengths is None else lengths
    expected = np.zeros((B, S, *grad.shape[2:]), dtype)
    for b, n in enumerate(counts):
        own = dict(options)
        if isinstance(own.get("latency"), np.ndarray):
            own["latency"] = own["latency"][b]
        weights = matrix(own.pop("method"), src[b, :n], tgt[b], compute, **own)
        expected[b, :n] = transposed(weights, grad[b], dtype)
    given = {**options, "dtype": dtype}
    got = backward(lib, grad, src, tgt, samples=S, lengths=lengths, **given)
    assert_same_bits(got, expected)

    packed = np.concatenate([src[b, :n] for b, n in enumerate(counts)])
    rows = np.concatenate([expected[b, :n] for b, n in enumerate(counts)])
    offsets = np.concatenate([[0], np.cumsum(counts)])
    got = backward(lib, grad, packed, tgt, samples=len(packed), offsets=offsets, **given)
    assert_same_bits(got, rows)


@pytest.mark.parametrize(
    ("method", "order"),
    [*itertools.product(METHODS, ["ascending"]), *itertools.product(SAMPLING, ["descending"])],
)
def test_the_inner_product_is_kept(lib, method, order):
    """<grad, R x> == <R^T grad, x>, on arrays that the host's threads share."""
    random = np.random.default_rng(0)
    B, S, T, D = 2, 700, 1500, 16
    src = EPOCH + np.cumsum(random.integers(0, 20, (B, S)), axis=1)
    tgt = EPOCH + np.sort(random.integers(-100, 20 * S // 2, (B, T)), axis=1)
    if order == "descending":
        tgt = tgt[:, ::-1].copy()
    x, grad = random.standard_normal((B, S, D)), random.standard_normal((B, T, D))
    options = {"method": method, "extrapolate": "extrapolate", "latency": 1e-8}
    y = lib.numpy(resample_trajectories(*map(lib.array, (x, src, tgt)), **options))
    back = backward(lib, grad, src, tgt, samples=S, **options)
    assert np.vdot(grad, y) == pytest.approx(np.vdot(back, x), rel=1e-12)
    np.testing.assert_array_equal(backward(lib, grad, src, tgt, samples=S, **options), back)


def test_rows_of_ascending_and_other_targets_meet_in_a_block(lib):
    random = np.random.default_rng(1)
    B, S, T = 12, 40, 90
    src = np.sort(random.random((B, S)), axis=1)
    tgt = np.sort(random.uniform(-0.1, 1.1, (B, T)), axis=1)
    grad = random.standard_normal((B, T, 2))
    expected = backward(lib, grad, src, tgt, samples=S).copy()
    for b in range(1, B, 4):
        order = random.permutation(T)
        tgt[b], grad[b] = tgt[b, order], grad[b, order]
        weights = sampling_matrix(src[b], tgt[b], np.float64)
        expected[b] = transposed(weights, grad[b], np.dtype("f8"))
    np.testing.assert_array_equal(backward(lib, grad, src, tgt, samples=S), expected)


@pytest.mark.parametrize("extrapolate", ["hold", "extrapolate", "nan"])
@pytest.mark.parametrize("fill_value", [None, 0])
@pytest.mark.parametrize("method", METHODS)
def test_spans_of_ascending_targets_ascend(method, extrapolate, fill_value):
    """So that no sample has to try all targets."""
    from robocache_cupy._core.kernel import Kernel
    from robocache_cupy._core.plan import Op

    seen = []
    random = np.random.default_rng(2)
    src = np.sort(random.integers(0, 60, 40)) / 4
    src = np.append(src, [np.nan] * 3)
    tgt = np.append(np.sort(np.r_[random.integers(-20, 90, 100) / 4, src[:40]]), [np.nan] * 2)
    options = {"method": method, "extrapolate": extrapolate, "tolerance": 0.25, "max_gap": 0.5,
               "fill_value": fill_value}  # fmt: skip

    def watch(kernel, launch, args):
        run(kernel, launch, args)
        if kernel.name == "spans":
            import ctypes

            count = launch.items
            seen.append(list((ctypes.c_int32 * count).from_address(args[11])))

    run = Kernel.on_host
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kernel, "on_host", watch)
        Op.all["resample_backward"].cache.clear()
        resample_backward(np.ones(len(tgt)), src, tgt, samples=len(src), **options)
        assert seen == [[0]]
        resample_backward(np.ones(len(tgt)), src, tgt[::-1].copy(), samples=len(src), **options)
        assert seen == [[0], [1]]


def test_a_weight_of_zero_keeps_infinity_out(lib):
    src, tgt = np.arange(3.0), np.array([-1.0, 0.0, 1.0, 1.5, 2.0, 3.0])
    grad = np.array([1.0, np.inf, 1.0, 1.0, np.nan, 1.0])
    got = backward(lib, grad, src, tgt, samples=3, extrapolate="extrapolate")
    # -1.0: 2 x0 - x1; 3.0: 2 x2 - x1
    np.testing.assert_array_equal(got, [np.inf, -1 + 1 + 0.5 - 1, np.nan])


# ------------------------------------------------------------------------------------------- mean


def mean_of(lib, tgt, src, **options):
    """The samples each target is the mean of."""
    T, S = len(tgt), len(src)
    src, tgt = np.array(src, float), np.array(tgt, float)
    got = backward(lib, np.eye(T), src, tgt, samples=S, method="mean", **options)
    for row in got.T:
        if row.any():
            assert set(row[row > 0]) == {1 / np.count_nonzero(row)}
    return [np.flatnonzero(row).tolist() for row in got.T]


def test_a_sample_at_the_middle_belongs_to_the_earlier(lib):
    src = [-1.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 6.5]
    assert mean_of(lib, [1, 3, 5], src) == [[2, 3], [4, 5], [6, 7]]
    assert mean_of(lib, [1, 3, 3, 5], src) == [[2, 3], [4], [5], [6, 7]]


def test_an_interval_without_a_sample_takes_the_nearest(lib):
    src = [0.0, 0.0, 10.0]
    tgt = [-8, -7, 3, 4, 5, 6, 7, 30]
    assert mean_of(lib, tgt, src) == [[0], [0], [0, 1], [1], [1], [2], [2], [2]]
    edges = mean_of(lib, tgt, src, extrapolate="nan")
    assert edges == [[], [], [0, 1], [1], [1], [2], [2], []]
    assert mean_of(lib, tgt, src, extrapolate="nan", tolerance=7) == edges
    assert mean_of(lib, tgt, src, fill_value=0) == [[], [], [0, 1], [], [], [], [2], []]


def test_a_lone_target(lib):
    assert mean_of(lib, [2], [0, 2, 2, 3]) == [[1, 2]]
    assert mean_of(lib, [2.25], [0, 2, 2, 3]) == [[2]]
    assert mean_of(lib, [math.nan], [0, 2, 2, 3]) == [[]]
    assert mean_of(lib, [1, 3, math.nan], [0, 2, 3, 4]) == [[1], [2, 3], []]


def test_the_mean_on_epoch_nanoseconds(lib):
    src = EPOCH + np.arange(0, 40, 4)
    tgt = EPOCH + np.array([8, 24])
    grad = np.array([1.0, 100.0])
    got = backward(lib, grad, src, tgt, samples=10, method="mean")
    np.testing.assert_array_equal(got, [0, 0.25, 0.25, 0.25, 0.25, 25, 25, 25, 25, 0])


# ------------------------------------------------------------------------------------------ shapes


def test_clocks_that_rows_share(lib):
    random = np.random.default_rng(3)
    src, tgt = np.sort(random.random(6)), np.sort(random.random(9))
    grad = random.standard_normal((4, 9, 5)).astype("f4")
    expected = np.stack([backward(lib, g, src, tgt, samples=6) for g in grad])
    for s, t in itertools.product((src, src[None], np.tile(src, (4, 1))),
                                  (tgt, tgt[None], np.tile(tgt, (4, 1)))):  # fmt: skip
        np.testing.assert_array_equal(backward(lib, grad, s, t, samples=6), expected)
    flat = backward(lib, grad[:, :, 0].copy(), src, np.tile(tgt, (4, 1)), samples=6)
    np.testing.assert_array_equal(flat, expected[:, :, 0])


def test_views(lib):
    random = np.random.default_rng(4)
    src, tgt = np.sort(random.random((2, 6))), np.sort(random.random((2, 9)))
    grad = random.standard_normal((2, 9, 8)).astype("f4")
    expected = backward(lib, grad, src, tgt, samples=6)
    strided = random.standard_normal((4, 18, 16)).astype("f4")
    strided[::2, ::2, 1:9] = grad
    whole = lib.array(strided)
    for view in (whole[::2, ::2, 1:9], lib.array(np.moveaxis(grad, 0, 2).copy())):
        if view.shape != grad.shape:
            view = view.transpose(2, 0, 1) if lib.name != "torch" else view.permute(2, 0, 1)
        got = resample_backward(view, lib.array(src), lib.array(tgt), samples=6)
        np.testing.assert_array_equal(lib.numpy(got), expected)


def test_a_sample_in_no_row(lib):
    grad = np.ones((2, 3, 2))
    src, tgt = np.array([9.0, 0.0, 1.0, 0.0, 2.0, 7.0]), np.zeros((2, 3))
    got = backward(lib, grad, src, tgt, samples=6, offsets=[1, 3, 5])
    np.testing.assert_array_equal(got[:, 0], [0, 3, 0, 3, 0, 0])
    got = backward(lib, grad, src, tgt, samples=6, offsets=[3, 3, 6])
    np.testing.assert_array_equal(got[:, 0], [0, 0, 0, 3, 0, 0])


def test_sizes_of_zero(lib):
    for B, S, T, D in itertools.product((0, 2), (0, 2), (0, 3), (0, 3)):
        grad, src, tgt = np.ones((B, T, D)), np.zeros((B, S)), np.zeros((B, T))
        got = backward(lib, grad, src, tgt, samples=S)
        expected = np.zeros((B, S, D))
        expected[:, 1:] = T
        np.testing.assert_array_equal(got, expected, strict=True)
    got = backward(lib, np.ones((0, 3)), np.zeros(2), np.zeros(3), samples=2, offsets=[0])
    np.testing.assert_array_equal(got, [0.0, 0.0])


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"method": "max"}, "method is 'max', expected one of 'linear'"),
        ({"method": "pchip"}, "data is None, which method 'pchip' takes"),
        ({"method": "akima", "data": np.ones(3, "f4")}, "data has dtype float32, expected float64"),
        ({"method": "akima", "data": np.ones(2)}, r"data has shape \(2,\), expected \(1, 3\) or"),
        ({"src_hz": 1.0}, "either src_times or src_hz"),
        ({"tgt_times": None}, "either tgt_times or hz"),
        ({"hz": np.ones(2), "tgt_times": None}, "hz is an array"),
        ({"tgt_lengths": [1, 2]}, r"grad has shape \(2,\), expected \[B, T"),
        ({"method": "mode"}, "method is 'mode'"),
        ({"samples": 4}, r"src_times has shape \(3,\), expected 4 stamps"),
        ({"samples": -1}, "samples is -1"),
        ({"samples": 3.5}, "samples is 3.5"),
        ({"dtype": "int32"}, "dtype is int32"),
        ({"grad": np.ones(2, int)}, "grad has dtype int64"),
        ({"grad": np.ones(5)}, r"grad has shape \(5,\), expected \[T, \*F\] for 2 targets"),
        ({"grad": np.ones((2, 2, 2))}, "either of its first two axes fits the 2 targets"),
        ({"tgt_times": np.ones((2, 2))}, r"grad has shape \(2,\), expected \[B, T, \*F\]"),
        ({"lengths": [1, 2]}, r"grad has shape \(2,\), expected \[B, T"),
        ({"lengths": [1, 2, 2], "grad": np.ones((2, 2))}, "lengths has 3 rows, expected 2"),
        ({"lengths": [1], "offsets": [0, 1]}, "give one of them"),
        ({"offsets": [0, 1], "src_times": np.ones((1, 3))}, "expected one axis, with offsets"),
        ({"tgt_times": np.array([1, 2])}, "different kinds of clock"),
        ({"extrapolate": "mirror"}, "extrapolate is 'mirror'"),
        ({"tolerance": -1}, "tolerance is -1"),
        ({"latency": math.inf}, "latency is inf"),
        ({"max_gap": [1.0]}, "max_gap is an array"),
    ],
)
def test_errors_name_the_argument(options, error):
    given = {"grad": np.ones(2), "src_times": np.arange(3.0), "tgt_times": np.arange(2.0),
             "samples": 3, **options}  # fmt: skip
    with pytest.raises((TypeError, ValueError), match=error):
        resample_backward(**given)


def test_new_durations_make_no_new_plan():
    from robocache_cupy._core.plan import Op

    op = Op.all["resample_backward"]
    src, tgt, grad = np.arange(3.0), np.array([2.5]), np.ones(1)
    options = {"samples": 3, "extrapolate": 0}
    first = resample_backward(grad, src, tgt, tolerance=0.25, **options)
    plans = len(op.cache)
    second = resample_backward(grad, src, tgt, tolerance=0.5, **options)
    assert (first[2], second[2]) == (0, 1)
    assert len(op.cache) == plans
