import itertools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robocache_cupy.interp import interp

INTEGERS = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
HALVES = {"float16": np.dtype("f2"), "bfloat16": np.dtype(ml_dtypes.bfloat16)}


def ours(lib, x, xp, fp, *args, **options):
    return lib.numpy(interp(*map(lib.array, (x, xp, fp)), *args, **options))


@np.errstate(all="ignore")
def numpys(x, xp, fp, *args, **options):
    """numpy.interp for each row."""
    batch = np.broadcast_shapes(x.shape[:-1], xp.shape[:-1], fp.shape[:-1])
    rows = [np.broadcast_to(a, (*batch, a.shape[-1])) for a in (x, xp, fp)]
    y = np.empty((*batch, x.shape[-1]))
    for at in np.ndindex(batch):
        y[at] = np.interp(*(a[at].astype(np.float64) for a in rows), *args, **options)
    return y


def assert_same_bits(got, expected):
    """Which NaN it is that arithmetic made is not told."""
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    nan = np.isnan(expected.astype(np.float64))
    np.testing.assert_array_equal(np.isnan(got.astype(np.float64)), nan)
    unsigned = f"u{got.itemsize}"
    np.testing.assert_array_equal(got.view(unsigned)[~nan], expected.view(unsigned)[~nan])


@settings(max_examples=300)
@given(st.data())
def test_it_is_numpys_in_every_bit(lib, data):
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    S, T = data.draw(st.sampled_from([1, 2, 3, 4, 5, 40])), data.draw(st.sampled_from([1, 30]))
    shapes = st.sampled_from([(), (1,), (3,), (2, 1), (2, 3)])
    batches = [data.draw(shapes) for _ in range(3)]
    whole = data.draw(st.booleans())  # with hits and duplicates
    tail = data.draw(st.sampled_from([0, 0, 1]))

    def numbers(*shape):
        x = random.uniform(-9, 9, shape)
        return np.rint(x) if whole else x

    x, xp = numbers(*batches[0], T), np.sort(numbers(*batches[1], S))
    fp = random.standard_normal((*batches[2], S))
    if data.draw(st.booleans()):
        # XLA's threads take subnormal numbers for 0.
        tiny = 1e-280 if lib.name == "jax" else 5e-324
        special = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e308, -1e308, tiny])
        for a in (x, fp):
            where = random.random(a.shape) < 0.3
            a[where] = random.choice(special, where.sum())
    if tail and S > 1:
        xp[..., -tail:] = data.draw(st.sampled_from([np.nan, np.inf]))
    end = st.sampled_from([None, 0, -1.5, float("nan")])
    args = data.draw(end), data.draw(end)
    assert_same_bits(ours(lib, x, xp, fp, *args), numpys(x, xp, fp, *args))


@settings(max_examples=150)
@given(st.data())
def test_periods_are_numpys(lib, data):
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    S, B = data.draw(st.sampled_from([1, 2, 3, 30])), data.draw(st.sampled_from([(), (2,)]))
    x, xp = random.uniform(-50, 50, (*B, 25)), random.uniform(-50, 50, (*B, S))
    fp = random.standard_normal((2, S))
    period = data.draw(st.sampled_from([360, 7.25, -2 * np.pi, 0.1]))
    x[..., 0], x[..., 1], x[..., 2:4] = np.nan, np.inf, (0.0, period)
    x[..., 4 : 4 + min(S, 9)] = xp[..., :9]
    got = ours(lib, x, xp, fp, period=period)
    assert_same_bits(got, numpys(x, xp, fp, period=period))
    assert_same_bits(ours(lib, x, xp, fp, 7, 8, period), got)


def test_points_that_a_period_lets_fall_together(lib):
    got = ours(lib, np.array([1.0, 2.0]), np.array([1.0, 11.0, 3.0]), np.arange(3.0), period=10)
    np.testing.assert_array_equal(got, [1.0, 1.5])


@pytest.mark.parametrize("dtype", [*INTEGERS, *HALVES, "float32", "float64"])
@pytest.mark.parametrize("which", ["x", "xp", "fp"])
def test_every_dtype(lib, dtype, which):
    dtype = HALVES.get(dtype) or np.dtype(dtype)
    high = 2 if dtype == np.bool_ else 120
    given = {
        "x": np.random.default_rng(0).integers(0, high, (2, 50)).astype("f8"),
        "xp": np.sort(np.random.default_rng(1).choice(high, min(high, 20), replace=False)) * 1.0,
    }
    given["fp"] = np.random.default_rng(2).integers(0, high, given["xp"].shape).astype("f8")
    given[which] = given[which].astype(dtype)
    got = ours(lib, **given)
    expected = numpys(**given)
    if which == "fp" and dtype.name not in INTEGERS:
        expected = expected.astype("f4").astype(dtype) if dtype in HALVES.values() else (
            expected.astype(dtype))  # fmt: skip
    assert_same_bits(got, expected)
    periodic = ours(lib, **given, period=130)
    assert periodic.dtype == expected.dtype
    exact = numpys(**given, period=130)
    np.testing.assert_allclose(periodic.astype("f8"), exact, rtol=1e-2)
    if which != "fp":
        assert_same_bits(periodic, exact)


def test_integers_beyond_2_to_53_are_those_of_numpy(lib):
    xp = 1_760_000_000_123_456_789 + np.array([0, 300, 900, 1000])
    x, fp = xp[:1] + np.arange(0, 1200, 7), np.arange(4.0)
    assert_same_bits(ours(lib, x, xp, fp), numpys(x, xp, fp))
    top = np.array([0, 2**64 - 1], "u8")
    assert_same_bits(ours(lib, top, np.arange(2.0), top), np.array([0.0, 2.0**64]))


@pytest.mark.parametrize("dtype", [*HALVES, "float32"])
def test_single_precision_is_computed_in_float32(lib, dtype):
    dtype = HALVES.get(dtype) or np.dtype(dtype)
    random = np.random.default_rng(3)
    xp = np.sort(random.standard_normal(40)).astype("f4")
    fp, x = random.standard_normal(40).astype(dtype), random.uniform(-3, 3, 500).astype("f4")
    j = np.clip(np.searchsorted(xp, x, "right") - 1, 0, 38)
    y = fp.astype("f4")
    slope = (y[j + 1] - y[j]) / (xp[j + 1] - xp[j])
    expected = slope * (x - xp[j]) + y[j]
    assert expected.dtype == np.float32
    expected[x < xp[0]], expected[x >= xp[-1]] = y[0], y[-1]
    assert_same_bits(ours(lib, x, xp, fp), expected.astype(dtype))
    double = numpys(x, xp, fp)
    wide = ours(lib, x.astype("f8"), xp, fp)
    if dtype == np.float32:
        assert_same_bits(wide, double.astype("f4"))
        assert (wide != expected).any()
    assert_same_bits(ours(lib, x, xp, fp, period=100.0)[x >= 0],
                     _rounded(numpys(x, xp, fp, period=100.0)[x >= 0], dtype))  # fmt: skip


@np.errstate(all="ignore")
def in_float32(x, xp, fp, left=None, right=None):
    """The rules of numpy.interp for one row, computed in float32."""
    k = (xp[None] <= x[:, None]).sum(1) - 1
    last = len(xp) - 1
    f0, f1 = fp[k.clip(0)], fp[(k + 1).clip(0, last)]
    u0, u1 = xp[k.clip(0)], xp[(k + 1).clip(0, last)]
    slope = (f1 - f0) / (u1 - u0)
    y = slope * (x - u0) + f0
    from_above = slope * (x - u1) + f1
    y = np.where(np.isnan(y), np.where(np.isnan(from_above) & (f0 == f1), f0, from_above), y)
    y = np.where((k == last) | (u0 == x), f0, y)
    y = np.where(k < 0, np.float32(fp[0] if left is None else left), y)
    y = np.where(x > xp[-1], np.float32(fp[-1] if right is None else right), y)
    return np.where(np.isnan(x), x, y)


@pytest.mark.parametrize("S", [2, 3, 100, 1024, 1025, 3072, 3073])
@pytest.mark.parametrize("clock", ["jitter", "gap", "same", "whole", "nan", "inf", "both inf"])
def test_long_tables_of_float32(lib, S, clock):
    random = np.random.default_rng(S)
    xp = np.sort(random.standard_normal((3, S)).astype("f4").cumsum(-1))
    if clock == "gap":
        xp[:, S // 2 :] += np.float32(1e6)
    elif clock == "same":
        xp[1] = 7
    elif clock == "whole":
        xp = np.rint(xp)
    elif clock == "nan":
        xp[:, S // 2 + 1 :] = np.nan
    elif clock != "jitter":
        xp[:, -1] = np.inf
        xp[:, 0] = -np.inf if clock == "both inf" else xp[:, 0]
    fp = random.standard_normal((3, S)).astype("f4")
    fp[random.random(fp.shape) < 0.02] = random.choice([np.nan, np.inf, -np.inf])
    finite = np.append(xp[np.isfinite(xp)], 0)
    x = random.uniform(finite.min() - 1, finite.max() + 1, (3, max(S // 4, 1100))).astype("f4")
    x[:, ::7] = random.choice(xp.ravel(), x[:, ::7].shape)
    x[0, :3] = np.nan, np.inf, -np.inf
    for ends in ({}, {"left": -7, "right": float("nan")}):
        for knots, values in ((xp, fp), (xp, fp[1]), (xp[1], fp)):
            got = ours(lib, x, knots, values, **ends)
            rows = zip(x, np.broadcast_to(knots, xp.shape), np.broadcast_to(values, fp.shape),
                       strict=True)  # fmt: skip
            for y, row in zip(got, rows, strict=True):
                assert_same_bits(y, in_float32(*row, **ends))


def _rounded(x, dtype):
    import oracle

    return oracle.rounded(x, dtype)


@pytest.mark.parametrize("dtype", [*HALVES, "float32", "float64"])
def test_constants_are_rounded_to_the_dtype(lib, dtype):
    dtype = HALVES.get(dtype) or np.dtype(dtype)
    got = ours(lib, np.array([-1.0, 5.0]), np.zeros(1), np.zeros(1, dtype), 0.1, -1 / 3)
    assert_same_bits(got, np.array([0.1, -1 / 3]).astype(dtype))


def test_batches_that_broadcast(lib):
    random = np.random.default_rng(4)
    sizes = [(), (1,), (4,), (3, 1), (3, 4), (2, 1, 4), (2, 3, 4), (1, 3, 1)]
    for a, b, c in itertools.product(sizes, repeat=3):
        if len({(), a, b, c}) < 3:
            continue
        x, xp = random.uniform(-1, 9, (*a, 5)), np.sort(random.uniform(0, 8, (*b, 6)))
        fp = random.standard_normal((*c, 6))
        assert_same_bits(ours(lib, x, xp, fp), numpys(x, xp, fp))


def test_views(lib):
    random = np.random.default_rng(5)
    x, xp = random.uniform(-1, 9, (7, 4)).T, np.sort(random.uniform(0, 8, (6, 4)), axis=0).T
    fp = random.standard_normal((8, 12))[::2, ::2]
    assert_same_bits(ours(lib, x, xp, fp), numpys(x, xp, fp))
    assert_same_bits(ours(lib, x, xp, fp, period=3.3), numpys(x, xp, fp, period=3.3))
    whole = (xp * 10).astype("i4")
    assert_same_bits(ours(lib, x, whole, fp), numpys(x, whole, fp))


def test_one_number(lib):
    got = ours(lib, np.array(1.5), np.arange(3.0), np.array([0.0, 10.0, 30.0]))
    np.testing.assert_array_equal(got, np.array(20.0), strict=True)


def test_tables_may_be_lists(lib):
    got = lib.numpy(interp(lib.array(np.array([0.5, 9.0])), [0, 1, 2], [0.0, 40.0, 60.0]))
    np.testing.assert_array_equal(got, [20.0, 60.0], strict=True)


def test_sizes_of_zero(lib):
    for shape in ((0,), (0, 3), (2, 0)):
        got = ours(lib, np.zeros(shape), np.zeros(2), np.zeros(2), period=2)
        np.testing.assert_array_equal(got, np.zeros(shape), strict=True)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"fp": np.zeros(3, complex)}, "fp has dtype complex128, expected"),
        ({"x": np.zeros(3, complex)}, "x has dtype complex128, expected"),
        ({"x": np.zeros(3, "M8[s]")}, r"x has dtype datetime64\[s\], expected"),
        ({"xp": np.zeros(0), "fp": np.zeros(0)}, r"xp has shape \(0,\), expected at least one"),
        ({"fp": np.zeros(2)}, r"fp has shape \(2,\), expected 3 values"),
        ({"xp": np.array(1.0)}, r"xp has shape \(\), expected"),
        ({"x": np.zeros((2, 3)), "xp": np.zeros((3, 3))}, "do not broadcast: x has shape"),
        ({"period": 0}, "period is 0"),
        ({"period": "2"}, "period is '2'"),
        ({"left": [1.0, 2.0]}, r"left is an array of shape \(2,\), expected a number"),
        ({"right": "hold"}, "right is 'hold', expected a number"),
        ({"x": "1"}, "x must be an array, got str"),
        ({"x": None}, "x must be an array, got NoneType"),
        ({"x": [[1], [1, 2]]}, "x has rows of different lengths"),
        ({"x": 1j}, "x must be an array, got complex"),
    ],
)
def test_errors_name_the_argument(given, error):
    given = {"x": np.zeros(3), "xp": np.arange(3.0), "fp": np.zeros(3), **given}
    with pytest.raises((TypeError, ValueError), match=error):
        interp(**given)


@pytest.mark.parametrize("x", [2.5, 2, True, np.float32(0.5), [0.5, 2.5], [[1], [2]], []])
def test_numbers_and_lists(x):
    xp, fp = [1, 2, 3], [3.0, 2.0, 0.0]
    got, expected = interp(x, xp, fp, left=-1), np.interp(x, xp, fp, left=-1)
    assert type(got) is type(expected)
    np.testing.assert_array_equal(got, expected)


def test_numbers_and_lists_go_to_the_arrays(lib):
    xp, fp = np.arange(3.0), np.array([0.0, 10.0, 40.0])
    for x, expected in ((1.5, 25.0), ([0.5, 9.0], [5.0, 40.0])):
        for points, values in ((lib.array(xp), lib.array(fp)), (xp.tolist(), lib.array(fp))):
            got = interp(x, points, values)
            assert type(got) is type(lib.array(fp)) or lib.name == "numpy"
            np.testing.assert_array_equal(lib.numpy(got), expected)


def test_new_numbers_make_no_new_plan():
    from robocache_cupy._core.plan import Op

    op = Op.all["interp"]
    x, xp, fp = np.array([-1.0, 4.5]), np.arange(4.0), np.arange(4.0)
    np.testing.assert_array_equal(interp(x, xp, fp, -7, 8.0), [-7, 8])
    interp(x, xp, fp, period=5)
    plans = len(op.cache)
    np.testing.assert_array_equal(interp(x, xp, fp, 1.5, -2), [1.5, -2])
    np.testing.assert_array_equal(interp(x, xp, fp, period=4.0), [3.0, 0.5])
    assert len(op.cache) == plans
