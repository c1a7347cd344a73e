"""Methods of resample_trajectories beyond sampling, lists of them, rotations, normalisation."""

import itertools
import math

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import Akima1DInterpolator, CubicHermiteSpline, PchipInterpolator
from scipy.spatial.transform import Rotation, Slerp
from test_resample import (
    CLOCKS,
    EPOCH,
    FLOATS,
    INTEGERS,
    KINDS,
    arrays,
    assert_same_bits,
    calls,
    dtype_of,
    skip_unless_it_has,
    to_clock,
    values,
)

import robocache_cupy as rc
from robocache_cupy._core.plan import Op

CURVES = ("catmull_rom", "pchip", "akima", "makima")
REDUCTIONS = ("mean", "sum", "max", "min", "any")
SAMPLING = ("linear", "nearest", "previous", "next")
EPS = {"float16": 2.0**-11, "bfloat16": 2.0**-8, "float32": 2.0**-24, "float64": 2.0**-53}
rng = np.random.default_rng


def resample(lib, *args, **options):
    """The named tuple of the result, as NumPy arrays."""
    given = [x if x is None else lib.array(x) for x in args]
    options.setdefault("return_valid", True)
    result = rc.resample_trajectories(*given, **arrays(lib, options))
    return type(result)(*map(lib.numpy, result))


def column(*numbers, dtype="f8"):
    return np.array(numbers, dtype)[:, None]


# -------------------------------------------------------------------------- against the definition


def assert_made(got, expected, dtype):
    """Exact where the definition is, and elsewhere near the curve."""
    for name in {"valid", "index", "weight"} & set(got._fields):
        assert_same_bits(getattr(got, name), getattr(expected, name))
    exact = expected.exact
    assert_same_bits(got.values[exact], expected.values[exact])
    curve, values = expected.curve[~exact], got.values[~exact].astype(np.float64)
    # Far beyond the ends a curve is large, and so is its error.
    beyond = (1 + abs(expected.weight[~exact].astype("f8"))) ** 3
    eps = EPS[expected.weight.dtype.name]
    error = (2e3 * eps * beyond).reshape(-1, *[1] * (curve.ndim - 1))
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        off = abs(values - np.clip(curve, info.min, info.max))
        assert (off <= 0.5 + error).all()
        return
    rounded = oracle.rounded(curve, dtype).astype("f8")
    off = np.where(values == rounded, 0, abs(values - curve))
    assert (off <= error + 2 * EPS[dtype.name] * abs(curve)).all()


@settings(max_examples=150)
@given(st.data())
def test_curves_are_what_the_definition_says(lib, data):
    kinds = [kind for kind in KINDS if lib.dtypes_missing.isdisjoint(kind)]
    x, src, tgt, options = data.draw(calls(kinds))
    options["dtype"] = dtype_of(options["dtype"])
    options["method"] = data.draw(st.sampled_from(CURVES))
    expected = oracle.make(x, src, tgt, **options)
    got = resample(lib, x, src, tgt, return_index=True, **options)
    assert_made(got, expected, options["dtype"])


@settings(max_examples=150)
@given(st.data())
def test_reductions_are_what_the_definition_says(lib, data):
    kinds = [kind for kind in KINDS if lib.dtypes_missing.isdisjoint(kind)]
    x, src, tgt, options = data.draw(calls(kinds))
    options["dtype"] = dtype_of(options["dtype"])
    options["method"] = data.draw(st.sampled_from(REDUCTIONS))
    if "tgt_lengths" in options:  # one target alone has no neighbours to share with
        options["tgt_lengths"] = np.where(options["tgt_lengths"] == 1, 0, options["tgt_lengths"])
    if tgt is not None:
        random = rng(data.draw(st.integers(0, 2**32)))
        ascending = [np.sort(random.choice(np.arange(-6, 21), 12, replace=False)) for _ in x]
        tgt = to_clock(ascending, tgt.dtype.name)
    expected = oracle.make(x, src, tgt, **options)
    assert_made(resample(lib, x, src, tgt, **options), expected, options["dtype"])


@pytest.mark.parametrize("method", CURVES)
@pytest.mark.parametrize("S", [2, 3, 4, 5, 50])
def test_curves_are_scipys(lib, method, S):
    src = np.cumsum(rng(S).uniform(0.2, 2.0, S))
    y = rng(1).standard_normal((S, 3))
    y[S // 2 : S // 2 + 2, 0] = y[S // 2, 0]
    tgt = np.concatenate([np.linspace(src[0], src[-1], 200), src])
    if S == 2:
        expected = np.stack([np.interp(tgt, src, c) for c in y.T], axis=1)
    elif method == "catmull_rom":
        tangents = np.concatenate([
            (y[1:2] - y[:1]) / (src[1] - src[0]),
            (y[2:] - y[:-2]) / (src[2:] - src[:-2])[:, None],
            (y[-1:] - y[-2:-1]) / (src[-1] - src[-2]),
        ])  # fmt: skip
        expected = CubicHermiteSpline(src, y, tangents)(tgt)
    elif method == "pchip":
        expected = PchipInterpolator(src, y)(tgt)
    else:
        expected = Akima1DInterpolator(src, y, method=method)(tgt)
    got = values(lib, y, src, tgt, method=method)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-13)
    single = values(lib, y.astype("f4"), src, tgt, method=method)
    # Akima's slope is a quotient of differences of slopes, which float32 has few digits of.
    np.testing.assert_allclose(single, expected, rtol=0, atol=2e-3 if "akima" in method else 1e-5)


@pytest.mark.parametrize("method", CURVES)
def test_the_oracles_slopes_are_scipys(method):
    """Else both could be wrong in the same way."""
    for S in (3, 4, 7):
        t, y = np.cumsum(rng(S).uniform(0.2, 2.0, S)), rng(S).standard_normal((S, 2))
        at_knots = oracle.slopes(t, y, method)
        if method == "catmull_rom":
            chords = (y[2:] - y[:-2]) / (t[2:] - t[:-2])[:, None]
            np.testing.assert_allclose(at_knots[1:-1], chords)
            continue
        if method == "pchip":
            spline = PchipInterpolator(t, y)
        else:
            spline = Akima1DInterpolator(t, y, method=method)
        np.testing.assert_allclose(at_knots, spline.derivative()(t), atol=1e-12)


# ------------------------------------------------------------------------------------------ curves


def test_cardinal_is_catmull_rom(lib):
    y, t = rng(0).standard_normal((6, 2)), np.arange(6.0)
    tgt = np.linspace(0, 5, 23)
    assert_same_bits(values(lib, y, t, tgt, method="cardinal"),
                     values(lib, y, t, tgt, method="catmull_rom"))  # fmt: skip


@pytest.mark.parametrize("method", CURVES)
def test_a_repeated_stamp_is_a_jump(lib, method):
    left_t, left_y = np.array([0.0, 1.0, 2.5, 4.0]), column(0, 2, 1, 5)
    right_t, right_y = np.array([4.0, 5.0, 7.0]), column(-3, 0, 4)
    src, y = np.concatenate([left_t, right_t]), np.concatenate([left_y, right_y])
    before, after = np.array([0.5, 1.5, 3.0, 3.9]), np.array([4.0, 4.25, 5.0, 6.0])
    got = values(lib, y, src, np.concatenate([before, after]), method=method)
    expected = [values(lib, left_y, left_t, before, method=method),
                values(lib, right_y, right_t, after, method=method)]  # fmt: skip
    assert_same_bits(got, np.concatenate(expected))
    assert got[4] == -3  # the last of the samples there


@pytest.mark.parametrize("method", CURVES)
def test_curves_beyond_the_ends(lib, method):
    """The cubic of the last interval goes on."""
    y, t = column(0, 1, 4, 2), np.array([0.0, 1.0, 2.5, 3.0])
    tgt = np.array([-2.0, -0.5, 3.5, 6.0])
    held = resample(lib, y, t, tgt, method=method)
    np.testing.assert_array_equal(held.values[:, 0], [0, 0, 2, 2])
    assert not held.valid.any()
    gone_on = resample(lib, y, t, tgt, method=method, extrapolate="extrapolate", tolerance=0.5)
    assert gone_on.valid.tolist() == [False, True, True, False]
    if method == "catmull_rom":
        slopes = np.array([1, 4 / 2.5, 1 / 2, -4])[:, None]
        spline = CubicHermiteSpline(t, y, slopes)
    elif method == "pchip":
        spline = PchipInterpolator(t, y)
    else:
        spline = Akima1DInterpolator(t, y, method=method, extrapolate=True)
    np.testing.assert_allclose(gone_on.values, spline(tgt), rtol=1e-12)


@pytest.mark.parametrize("method", CURVES)
def test_a_nan_sample_spoils_only_the_curve_around_it(lib, method):
    reach = 3 if "akima" in method else 2
    t = np.arange(12.0)
    y = np.sin(t)[:, None]
    clean, y_nan = y.copy(), y.copy()
    y_nan[6] = np.nan
    tgt = np.arange(0, 11.01, 0.25)
    whole = values(lib, clean, t, tgt, method=method)
    got = values(lib, y_nan, t, tgt, method=method)
    touched = (tgt > 6 - reach) & (tgt < 6 + reach) & ((tgt % 1 != 0) | (tgt == 6))
    assert np.isnan(got[touched]).all()
    assert_same_bits(got[~touched], whole[~touched])


@pytest.mark.parametrize("method", CURVES)
def test_nan_stamps_are_no_neighbours(lib, method):
    t, y = np.array([0.0, 1.0, 2.5, 3.0]), column(0, 2, 1, 5)
    padded_t = np.append(t, [np.nan, np.nan, np.nan])
    padded_y = np.concatenate([y, np.full((3, 1), 1e30)])
    tgt = np.array([0.5, 1.5, 2.75, 3.0, 4.0])
    expected = resample(lib, y, t, tgt, method=method)
    got = resample(lib, padded_y, padded_t, tgt, method=method)
    assert_same_bits(got.values, expected.values)
    assert_same_bits(got.valid, expected.valid)
    by_length = resample(lib, padded_y[None], np.nan_to_num(padded_t, nan=9.0)[None], tgt,
                         method=method, lengths=np.array([4]))  # fmt: skip
    assert_same_bits(by_length.values[0], expected.values)


@pytest.mark.parametrize("method", ["pchip", "akima"])
@pytest.mark.parametrize("clock", ["int64", "datetime64[ns]"])
def test_curves_at_the_epoch_are_exact(lib, method, clock):
    skip_unless_it_has(lib, clock)
    t = np.array([0, 7, 10, 31, 40, 41])
    y, tgt = rng(0).standard_normal((6, 2)).astype("f4"), np.arange(42)
    near = values(lib, y, t, tgt, method=method)
    far = values(lib, y, (EPOCH + t).astype(clock), (EPOCH + tgt).astype(clock), method=method)
    assert_same_bits(far, near)


def test_pchip_keeps_within_its_samples(lib):
    """Limits of joints and grippers hold between samples, too."""
    random = rng(3)
    t, y = np.cumsum(random.uniform(0.01, 1, 60)), random.choice([0.0, 0.3, 1.0], (60, 4))
    tgt = random.uniform(t[0], t[-1], 900)
    for dtype in ("f4", "f8"):
        got = values(lib, y.astype(dtype), t, tgt, method="pchip")
        k = np.searchsorted(t, tgt, side="right") - 1
        ends = np.stack([y.astype(dtype)[k], y.astype(dtype)[k + 1]])
        slack = 4 * np.finfo(dtype).eps
        assert (got >= ends.min(axis=0) - slack).all()
        assert (got <= ends.max(axis=0) + slack).all()


@pytest.mark.parametrize("method", ["akima", "makima"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
def test_equal_slopes_on_an_uneven_clock(lib, method, dtype):
    """Two straight lines: at the kink both differences of slopes are rounding."""
    t = np.array([0, 1, 3, 4, 7, 8, 10]) / 10
    y = np.abs(t - 0.4)[:, None].astype(dtype)
    tgt = np.array([0.35, 0.45, 0.5, 0.55, 0.65])
    expected = Akima1DInterpolator(t, np.abs(t - 0.4)[:, None], method=method)(tgt)
    got = values(lib, y, t, tgt, method=method)
    if dtype == "float16":  # whose own rounding makes the slopes differ
        expected = Akima1DInterpolator(t, y.astype("f8"), method=method)(tgt)
    np.testing.assert_allclose(got, expected, atol=2e-3 if dtype == "float16" else 1e-6)


def test_integers_on_a_curve(lib):
    y, t = np.array([[0], [200], [0], [255]], np.uint8), np.arange(4.0)
    tgt = np.linspace(0, 3, 31)
    exact = values(lib, y.astype("f8"), t, tgt, method="catmull_rom")
    for dtype in ("float32", "float16", "uint8"):
        got = values(lib, y, t, tgt, method="catmull_rom", dtype=dtype)
        assert got.dtype == dtype
        if dtype == "uint8":
            assert (abs(got - np.clip(exact, 0, 255)) <= 0.5 + 1e-4).all()
        else:
            np.testing.assert_allclose(got, exact, rtol=1e-3, atol=1e-4)
    with pytest.raises(TypeError, match=r"data has dtype uint8.*'catmull_rom'.*dtype="):
        values(lib, y, t, tgt, method="catmull_rom")


def test_max_gap_and_tolerance_of_curves(lib):
    y, t = column(0, 1, 4, 2), np.array([0.0, 1.0, 4.0, 5.0])
    tgt = np.array([-1.0, -0.5, 0.5, 2.0, 4.0, 5.25])
    got = resample(lib, y, t, tgt, method="pchip", max_gap=2.0, tolerance=0.5, fill_value=9)
    np.testing.assert_array_equal(got.valid, [False, True, True, False, True, True])
    np.testing.assert_array_equal(got.values[[0, 1, 3, 4, 5], 0], [9, 0, 9, 4, 2])


# -------------------------------------------------------------------------------------- reductions


def test_each_sample_belongs_to_the_nearest_target(lib):
    """One midway belongs to the earlier target, and the outermost reach as far out as in."""
    t = np.array([-1.0, 0.0, 1.0, 2.0, 3.0, 5.0, 7.0, 9.0, 11.0, 11.5])
    y = 2.0 ** np.arange(10)[:, None]
    tgt = np.array([1.0, 5.0, 9.0])
    #        1: (-1, 3]                       5: (3, 7]         9: (7, 11]
    share = [[1, 2, 3, 4], [5, 6], [7, 8]]
    got = resample(lib, y, t, tgt, method="sum")
    np.testing.assert_array_equal(got.values[:, 0], [sum(2.0**k for k in s) for s in share])
    assert got.valid.all()
    got = values(lib, y, t, tgt, method="mean")
    np.testing.assert_array_equal(got[:, 0], [np.mean(2.0 ** np.array(s)) for s in share])
    np.testing.assert_array_equal(values(lib, y, t, tgt, method="max")[:, 0], [16, 64, 256])
    np.testing.assert_array_equal(values(lib, y, t, tgt, method="min")[:, 0], [2, 32, 128])


def test_targets_at_uneven_distances(lib):
    t, y = np.arange(20.0), np.ones((20, 1))
    tgt = np.array([0.0, 2.0, 8.0, 8.5, 17.0])
    # Borders midway: -1, 1, 5, 8.25, 12.75, and 21.25 beyond the last.
    np.testing.assert_array_equal(values(lib, y, t, tgt, method="sum")[:, 0], [2, 4, 3, 4, 7])


def test_a_target_without_samples(lib):
    t, y = np.array([0.0, 1.0, 9.0, 10.0]), column(3, 4, 5, 6)
    tgt = np.array([0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0])
    for method, expected in {"mean": [3, 4, 4, 5, 5, 6, 6], "max": [3, 4, 4, 5, 5, 6, 6]}.items():
        got = resample(lib, y, t, tgt, method=method)
        assert got.valid.tolist()[2:4] == [False, False]
        assert got.values[2:4, 0].tolist() == expected[2:4]
        assert not got.valid[6]
        assert got.values[6, 0] == 6
    for method in ("sum", "any"):
        got = resample(lib, y, t, tgt, method=method, extrapolate="nan")
        assert got.values[[2, 3, 6], 0].tolist() == [0, 0, 0]
        filled = resample(lib, y, t, tgt, method=method, fill_value=-7)
        assert filled.values[[2, 3, 6], 0].tolist() == [-7, -7, -7]


@pytest.mark.parametrize("method", ["mean", "max", "min"])
def test_beyond_the_ends_stands_what_extrapolate_says(lib, method):
    t, y = np.array([0.0, 1.0]), column(3, 4)
    tgt = np.array([-9.0, -7.0, 0.5, 9.0, 11.0])
    for options in ({}, {"tolerance": 100.0}, {"max_gap": 0.0}):  # which do not apply
        got = resample(lib, y, t, tgt, method=method, extrapolate=("nan", -1.0), **options)
        np.testing.assert_array_equal(got.values[[0, 1, 3, 4], 0], [np.nan, np.nan, -1, -1])
        np.testing.assert_array_equal(got.valid, [False, False, True, False, False])


def test_sums_go_in_the_order_of_time(lib):
    """So that they repeat: in float32, one after another, and rounded once at the end."""
    t = rng(0).permutation(1000).astype("f8")
    y = rng(1).standard_normal((1000, 3)).astype("f4")
    tgt = np.array([-500.0, 499.5, 1500.0])
    got = values(lib, y, t, tgt, method="sum", assume_sorted=False)
    total = np.zeros(3, "f4")
    for x in y[np.argsort(t)]:
        total = total + x
    assert_same_bits(got[1], total)
    half = values(lib, y.astype("f2"), t, tgt, method="mean", assume_sorted=False)
    total = np.zeros(3, "f4")
    for x in y.astype("f2").astype("f4")[np.argsort(t)]:
        total = total + x
    assert_same_bits(half[1], (total / np.float32(1000)).astype("f2"))


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_extremes_of_64_bit_integers_are_exact(lib, dtype):
    info = np.iinfo(dtype)
    numbers = [info.max - 1, info.max - 2, info.min + 2, info.min + 1, 2**60 + 1, 2**60]
    y, t = np.array(numbers, dtype)[:, None], np.arange(6.0)
    tgt = np.array([0.0, 2.9, 6.0])
    assert values(lib, y, t, tgt, method="max")[:, 0].tolist() == [numbers[0], numbers[4], 2**60]
    lows = [numbers[1], numbers[3], 2**60]
    assert values(lib, y, t, tgt, method="min")[:, 0].tolist() == lows


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, "bool"])
def test_reductions_of_every_dtype(lib, dtype):
    y = np.array([[1, 0], [0, 0], [1, 0], [1, 1], [0, 0]]).astype(dtype_of(dtype))
    t, tgt = np.arange(5.0), np.array([0.5, 3.0])  # [0, 1], [2, 3, 4]
    results = {"max": [[1, 0], [1, 1]], "min": [[0, 0], [0, 0]], "any": [[1, 0], [1, 1]],
               "sum": [[1, 0], [2, 1]], "mean": [[0.5, 0], [2 / 3, 1 / 3]]}  # fmt: skip
    for method, expected in results.items():
        if method in ("sum", "mean") and dtype not in FLOATS:
            with pytest.raises(TypeError, match=f"data has dtype {dtype}.*'{method}'.*dtype="):
                values(lib, y, t, tgt, method=method)
            got = values(lib, y, t, tgt, method=method, dtype="float32")
            np.testing.assert_allclose(got, np.array(expected, "f4"), rtol=1e-7, strict=True)
            continue
        got = values(lib, y, t, tgt, method=method)
        compute = "f8" if dtype == "float64" else "f4"
        assert_same_bits(got, np.array(expected, compute).astype(y.dtype))


def test_nan_samples_and_reductions(lib):
    y, t = column(1, np.nan, 3, -4, 0, 0), np.arange(6.0)
    tgt = np.array([0.5, 2.5, 4.5])
    for method in ("mean", "sum", "max", "min"):
        got = values(lib, y, t, tgt, method=method)[:, 0]
        assert np.isnan(got[0])
        assert not np.isnan(got[1:]).any()
    # NaN is not zero, as for numpy.any.
    np.testing.assert_array_equal(values(lib, y, t, tgt, method="any")[:, 0], [1, 1, 0])


@pytest.mark.parametrize("method", REDUCTIONS)
def test_a_target_that_is_nan_gives_nan(lib, method):
    y, t = column(1, 2, 3, 4), np.arange(4.0)
    got = resample(lib, y, t, np.array([np.nan, 1.0, 3.0]), method=method)
    assert np.isnan(got.values[0, 0])
    assert not got.valid[0]
    whole = resample(lib, y.astype("i4"), t, np.array([np.nan, 1.0, 3.0]), method=method,
                     dtype="int32")  # fmt: skip
    assert whole.values[0, 0] == 0


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("method", ["mean", "pchip"])
def test_every_clock(lib, clock, method):
    skip_unless_it_has(lib, clock)
    t, tgt = np.arange(0, 40, 2), np.arange(1, 37, 5)
    y = rng(0).standard_normal((20, 2))
    unit = {} if clock.startswith("datetime") else {"time_unit": "ns"}
    got = values(lib, y, t.astype(clock), tgt.astype(clock), method=method, **unit)
    assert_same_bits(got, values(lib, y, t.astype("f8"), tgt.astype("f8"), method=method))


def test_a_lower_rate_without_aliases(lib):
    """A wave above the rate of the targets is gone from the mean, and not from a sample."""
    t = np.arange(1000) / 1000
    y = np.sin(2 * np.pi * 50 * t)[:, None]
    got = resample(lib, y, t, hz=10, num=9, t_start=0.0503, method="mean", return_times=True)
    assert abs(got.values).max() < 0.05
    np.testing.assert_allclose(got.times, 0.0503 + np.arange(9) / 10)
    expected = values(lib, y, t, got.times, method="mean")
    assert_same_bits(got.values, expected)


@pytest.mark.parametrize("options", [{"t_start": 3, "num": 5}, {"num": 7}, {}, {"t_start": 2}])
@pytest.mark.parametrize("method", ["mean", "akima", [("0:1", "max"), (1, "linear")]])
def test_a_grid_is_its_times(lib, method, options):
    src = np.array([[1, 3, 4, 8, 13], [4, 5, 8, 10, 10]])
    y = rng(0).standard_normal((2, 5, 2))
    got = resample(lib, y, src, hz=0.5, time_unit="s", method=method, return_times=True, **options)
    assert got.times[:, 0].tolist() == [options.get("t_start", 1), options.get("t_start", 4)]
    assert got.times.shape == (2, options.get("num") or (7 if "t_start" not in options else 6))
    expected = resample(lib, y, src, got.times, time_unit="s", method=method)
    assert_same_bits(got.values, expected.values)
    assert_same_bits(got.valid, expected.valid)


# ---------------------------------------------------------------------------- how rows come


@pytest.mark.parametrize("method", ["akima", "mean", "any", [("0:2", "previous"), (2, "sum")]])
def test_packed_is_padded_is_a_loop(lib, method):
    counts = [3, 0, 7, 1, 5]
    offsets = np.cumsum([0, *counts])
    y = rng(0).standard_normal((16, 3)).astype("f4")
    src = np.concatenate([np.sort(rng(k).uniform(0, 10, n)) for k, n in enumerate(counts)])
    tgt = np.sort(rng(9).uniform(-1, 11, (5, 12)), axis=1)
    late = np.linspace(-1, 1, 5)
    packed = resample(lib, y, src, tgt, method=method, offsets=offsets, latency=late)
    padded_y, padded_src = np.full((5, 7, 3), 1e9, "f4"), np.full((5, 7), np.nan)
    for b, n in enumerate(counts):
        padded_y[b, :n] = y[offsets[b] : offsets[b + 1]]
        padded_src[b, :n] = src[offsets[b] : offsets[b + 1]]
    padded = resample(lib, padded_y, padded_src, tgt, method=method, latency=late)
    by_length = resample(lib, padded_y, padded_src, tgt, method=method, latency=late,
                         lengths=np.array(counts, "i4"))  # fmt: skip
    for b, n in enumerate(counts):
        if n == 0:
            assert not packed.values[b].any()
            assert not packed.valid[b].any()
            continue
        rows = slice(offsets[b], offsets[b + 1])
        alone = resample(lib, y[rows], src[rows], tgt[b], method=method, latency=late[b])
        for batch in (packed, padded, by_length):
            assert_same_bits(batch.values[b], alone.values)
            assert_same_bits(batch.valid[b], alone.valid)


@pytest.mark.parametrize("method", ["pchip", "sum", [(0, "catmull_rom"), (1, "nearest")]])
def test_a_uniform_clock_is_its_stamps(lib, method):
    y = rng(0).standard_normal((2, 9, 2))
    tgt = np.sort(rng(1).uniform(1.5, 5.5, (2, 15)), axis=1)
    stamps = np.tile(2 + np.arange(9) / 3, (2, 1))
    got = resample(lib, y, None, tgt, src_hz=3, src_start=2.0, method=method)
    expected = resample(lib, y, stamps, tgt, method=method)
    assert_same_bits(got.values, expected.values)
    assert_same_bits(got.valid, expected.valid)


@pytest.mark.parametrize("method", ["makima", "max", [(0, "mean"), (1, "next")]])
def test_sorting_first(lib, method):
    src = rng(0).permuted(np.tile(np.arange(12.0), (2, 1)), axis=1)
    y = rng(1).standard_normal((2, 12, 2))
    tgt = np.tile(np.arange(-1.0, 13, 0.8), (2, 1))
    order = np.argsort(src, axis=1, kind="stable")
    expected = values(lib, np.take_along_axis(y, order[:, :, None], 1),
                      np.take_along_axis(src, order, 1), tgt, method=method)  # fmt: skip
    assert_same_bits(values(lib, y, src, tgt, method=method, assume_sorted=False), expected)


def test_check_reads_the_stamps_first(lib):
    y, src = np.zeros((1, 3, 2)), np.array([[0.0, 2.0, 1.0]])
    for method in ("mean", "pchip", [("0:1", "nearest")]):
        with pytest.raises(ValueError, match=r"src_times runs backward.* sample 2 of row 0"):
            values(lib, y, src, src, method=method, check=True)
        values(lib, y, np.sort(src), np.sort(src), method=method, check=True)


def test_padding_targets(lib):
    y, t = np.ones((2, 5, 1)), np.tile(np.arange(5.0), (2, 1))
    tgt = np.tile([0.0, 2.0, 4.0, 6.0], (2, 1))
    for method in ("sum", "pchip"):
        got = resample(lib, y, t, tgt, method=method, tgt_lengths=np.array([4, 2]), fill_value=-1)
        assert got.values[1, 2:, 0].tolist() == [-1, -1]
        assert got.valid.tolist() == [[True, True, True, False], [True, True, False, False]]
    # What follows the last target does not bound its share.
    got = values(lib, y, t, tgt, method="sum", tgt_lengths=np.array([4, 2]))
    assert got[1, :, 0].tolist() == [2, 2, 0, 0]


@pytest.mark.parametrize("method", [*CURVES, *REDUCTIONS])
@pytest.mark.parametrize("S", [0, 1, 2, 3])
def test_few_samples(lib, method, S):
    t, y = np.arange(S, dtype="f8")[None], np.arange(1.0, S + 1)[None, :, None]
    tgt = np.array([[-3.0, -1.5, 0.0, 0.75, 1.5, 4.0]])
    got = resample(lib, y, t, tgt, method=method, lengths=np.array([S]))
    expected = oracle.make(y, t, tgt, method=method, lengths=np.array([S]))
    assert_same_bits(got.valid, expected.valid)
    np.testing.assert_allclose(got.values, np.where(expected.exact[..., None], expected.values,
                                                    expected.curve), atol=1e-14)  # fmt: skip
    nothing = resample(lib, y, t, tgt[:, :0], method=method, lengths=np.array([S]))
    assert nothing.values.shape == (1, 0, 1)
    no_columns = resample(lib, y[..., :0], t, tgt, method=method, lengths=np.array([S]))
    assert no_columns.values.shape == (1, 6, 0)
    assert_same_bits(no_columns.valid, got.valid)
    no_rows = resample(lib, y[:0], t[:0], tgt[:0], method=method)
    assert no_rows.values.shape == (0, 6, 1)


# --------------------------------------------------------------------------------- lists of methods


@pytest.mark.parametrize("dtype", FLOATS)
def test_each_column_by_its_own_method(lib, dtype):
    names = (*SAMPLING, *CURVES, *REDUCTIONS)
    C = len(names)
    y = rng(0).standard_normal((2, 9, 2 * C)).astype(dtype_of(dtype))
    src = np.sort(rng(1).uniform(0, 8, (2, 9)), axis=1)
    tgt = np.sort(rng(2).uniform(-1, 9, (2, 14)), axis=1)
    method = [(f"{2 * k}:{2 * k + 2}", name) for k, name in enumerate(names)]
    got = resample(lib, y, src, tgt, method=method, max_gap=1.5)
    valid = np.ones((2, 14), bool)
    for k, name in enumerate(names):
        alone = resample(lib, y[..., 2 * k : 2 * k + 2], src, tgt, method=name, max_gap=1.5)
        assert_same_bits(got.values[..., 2 * k : 2 * k + 2], alone.values)
        valid &= alone.valid
    assert_same_bits(got.valid, valid)


@pytest.mark.parametrize(
    ("method", "by_column"),
    [
        ([("0:2", "nearest"), (3, "next")], ["nearest", "nearest", "linear", "next", "linear"]),
        ([(slice(1, None), "mean")], ["linear", "mean", "mean", "mean", "mean"]),
        ([(-1, "max"), (":2", "pchip")], ["pchip", "pchip", "linear", "linear", "max"]),
        ([(":", "previous"), ("2:3", "next")],
         ["previous", "previous", "next", "previous", "previous"]),
        ([("-3:-1", "zoh"), ("0", "bfill")], ["next", "linear", "previous", "previous", "linear"]),
        ([], ["linear"] * 5),
        ([("2:2", "next")], ["linear"] * 5),
    ],
)  # fmt: skip
def test_columns_by_name(lib, method, by_column):
    y, src = rng(0).standard_normal((9, 5)).astype("f4"), np.sort(rng(1).uniform(0, 8, 9))
    tgt = np.linspace(-1, 9, 21)
    got = values(lib, y, src, tgt, method=method)
    for k, name in enumerate(by_column):
        assert_same_bits(got[:, k], values(lib, y[:, k : k + 1], src, tgt, method=name)[:, 0])


def test_columns_of_several_axes(lib):
    """Columns are those of the last axis, in every group of the axes before."""
    y, src = rng(0).standard_normal((2, 9, 3, 2, 4)), np.sort(rng(1).uniform(0, 8, (2, 9)), axis=1)
    tgt = np.linspace(-1, 9, 21)
    got = values(lib, y, src, tgt, method=[("1:3", "max"), (3, "catmull_rom")])
    assert got.shape == (2, 21, 3, 2, 4)
    for k, name in enumerate(["linear", "max", "max", "catmull_rom"]):
        alone = values(lib, np.ascontiguousarray(y[..., k]), src, tgt, method=name)
        assert_same_bits(got[..., k], alone)


def test_columns_that_a_list_leaves_out(lib):
    """Integers and bool are not interpolated unasked."""
    y, t = np.array([[0, 10], [9, 20], [4, 40]], "i4"), np.arange(3.0)
    tgt = np.array([0.4, 1.5])
    got = values(lib, y, t, tgt, method=[(0, "next")])
    np.testing.assert_array_equal(got, np.array([[9, 10], [4, 20]], "i4"), strict=True)


# -------------------------------------------------------------------------------- memory and dtypes

MIXED = [("0:4", "linear"), ("4:8", "previous"), ("8:12", "mean")]


@pytest.mark.parametrize("width", [1, 4, 8, 12, 33])
@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "uint8"])
def test_misaligned_views(lib, dtype, width):
    size = dtype_of(dtype).itemsize
    raw = rng(0).integers(0, 100, (2, 7, width)).astype(dtype_of(dtype))
    src = np.sort(rng(1).uniform(0, 6, (2, 7)), axis=1)
    tgt = np.sort(rng(2).uniform(0, 6, (2, 10)), axis=1)
    space = np.zeros(raw.nbytes + 2 * size, np.uint8)
    view = space[size : size + raw.nbytes].view(raw.dtype).reshape(raw.shape)
    view[:] = raw
    options = {"dtype": "float32"} if dtype == "uint8" else {}
    methods = [MIXED, "mean", "pchip"] if width == 12 else ["sum", "akima"]
    for method in methods:
        got = values(lib, view, src, tgt, method=method, **options)
        assert_same_bits(got, values(lib, raw, src, tgt, method=method, **options))
        expected = values(lib, np.tile(raw, (1, 1, 2)) if method is not MIXED else raw, src, tgt,
                          method=method, **options)  # fmt: skip
        assert_same_bits(got, expected[..., :width])


def test_arguments_with_strides(lib):
    y = rng(0).standard_normal((7, 12, 2)).astype("f4")
    src, tgt = np.sort(rng(1).uniform(0, 6, (7, 2)), axis=0), np.linspace(0, 6, 20)
    data = y.transpose(2, 0, 1)  # [2, 7, 12], features not together
    for method in (MIXED, "mean", "pchip"):
        expected = values(lib, data.copy(), src.T.copy(), tgt[::2].copy(), method=method)
        x, s, t = lib.array(y), lib.array(src), lib.array(tgt)
        if lib.name == "torch":
            got = rc.resample_trajectories(x.permute(2, 0, 1), s.T, t[::2], method=method)
        else:
            got = rc.resample_trajectories(x.transpose(2, 0, 1), s.T, t[::2], method=method)
        assert_same_bits(lib.numpy(got), expected)


@pytest.mark.parametrize("method", [MIXED, "mean", "akima", [("0:3", "max"), ("3:12", "nearest")]])
def test_out(lib, method):
    if lib.name == "jax":
        pytest.skip("JAX arrays cannot be written to")
    y, src = rng(0).standard_normal((3, 7, 12)).astype("f4"), np.sort(rng(1).random((3, 7)), axis=1)
    tgt = np.sort(rng(2).random((3, 6)), axis=1)
    expected = values(lib, y, src, tgt, method=method)
    wide = lib.array(np.full((3, 9, 20), 7, "f4"))
    for columns in (slice(4, 16), slice(5, 17)):
        out = wide[:, 1:7, columns]
        got = rc.resample_trajectories(*map(lib.array, (y, src, tgt)), method=method, out=out)
        assert got is out
        assert_same_bits(lib.numpy(out), expected)
        whole = lib.numpy(wide)
        assert (whole[:, 0] == 7).all()
        assert (whole[:, 7:] == 7).all()
        outside = np.ones(20, bool)
        outside[columns] = False
        assert (whole[..., outside] == 7).all()
        wide[:] = 7
    half = lib.array(np.zeros((3, 6, 12), "f2"))
    rc.resample_trajectories(*map(lib.array, (y, src, tgt)), method=method, out=half)
    assert_same_bits(lib.numpy(half), values(lib, y, src, tgt, method=method, dtype="float16"))


@pytest.mark.parametrize("result", [*FLOATS, "uint8"])
@pytest.mark.parametrize("source", ["uint8", "int64", "float64", "bfloat16"])
def test_results_are_rounded_once(lib, source, result):
    if result == "uint8" and source != "uint8":
        pytest.skip("integers only to themselves")
    y = rng(0).integers(0, 200, (1, 40, 3)).astype(dtype_of(source))
    src = np.arange(40.0)[None]
    tgt = np.arange(3.0, 38, 7)[None]
    dtype = dtype_of(result)
    for method in ("mean", "sum", "max"):
        got = resample(lib, y, src, tgt, method=method, dtype=dtype)
        assert_made(got, oracle.make(y, src, tgt, method=method, dtype=dtype), dtype)
    if result != "uint8":
        got = resample(lib, y, src, tgt + 0.25, method="pchip", dtype=dtype)
        assert_made(got, oracle.make(y, src, tgt + 0.25, method="pchip", dtype=dtype), dtype)


# --------------------------------------------------------------------------------------- rotations


def of_rotation(r, kind):
    """SciPy's rotations [...] in the columns of a kind."""
    if kind == "quat_xyzw":
        return r.as_quat()
    if kind == "quat_wxyz":
        return np.roll(r.as_quat(), 1, axis=-1)
    if kind == "rotvec":
        return r.as_rotvec()
    m = r.as_matrix()
    if kind == "rot6d":
        return np.concatenate([m[..., 0], m[..., 1]], axis=-1)
    return m.reshape(*m.shape[:-2], 9)


def to_rotation(x, kind):
    x = np.array(x, np.float64)  # SciPy takes no read-only memory
    x = x.reshape(-1, x.shape[-1])
    if kind == "quat_xyzw":
        return Rotation.from_quat(x)
    if kind == "quat_wxyz":
        return Rotation.from_quat(np.roll(x, -1, axis=-1))
    if kind == "rotvec":
        return Rotation.from_rotvec(x)
    if kind == "rot6d":
        a, b = x[:, :3], x[:, 3:]
        return Rotation.from_matrix(np.stack([a, b, np.cross(a, b)], axis=-1))
    return Rotation.from_matrix(x.reshape(-1, 3, 3))


KINDS_OF_ROTATION = ("quat_xyzw", "quat_wxyz", "rotvec", "rot6d", "matrix")
SIZES = {"quat_xyzw": 4, "quat_wxyz": 4, "rotvec": 3, "rot6d": 6, "matrix": 9}
TURN_ERROR = {"float64": 1e-13, "float32": 2e-6, "float16": 5e-3, "bfloat16": 4e-2}


def turns(seed, S=7):
    """Rotations with steps below half a circle, whatever their signs."""
    steps = Rotation.from_rotvec(rng(seed).uniform(-1.2, 1.2, (S, 3)))
    made = [Rotation.random(random_state=seed)]
    for step in steps[1:]:
        made.append(made[-1] * step)
    return Rotation.concatenate(made)


def assert_turned(got, src, tgt, r, kind, dtype="float64"):
    """As SciPy's Slerp, held at the ends."""
    expected = Slerp(src, r)(np.clip(tgt, src[0], src[-1]))
    error = (to_rotation(got, kind) * expected.inv()).magnitude()
    assert error.max() < TURN_ERROR[dtype]


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", KINDS_OF_ROTATION)
def test_rotations_are_scipys_slerp(lib, kind, dtype):
    src, tgt = np.cumsum(rng(0).uniform(0.2, 1, 7)), np.linspace(0, 4, 40)
    r = turns(1)
    y = of_rotation(r, kind)
    if kind.startswith("quat"):
        y = y * rng(2).choice([-1, 1], (7, 1))  # the same rotations
    y = y.astype(dtype_of(dtype))
    got = resample(lib, y, src, tgt, rotation=kind)
    assert got.values.dtype == y.dtype
    assert_turned(got.values, src, tgt, to_rotation(y, kind), kind, dtype)
    assert_same_bits(got.valid, (tgt >= src[0]) & (tgt <= src[-1]))
    at_samples = values(lib, y, src, src, rotation=kind)
    assert_same_bits(at_samples, y)
    by_columns = values(lib, y, src, tgt, rotation={f"0:{SIZES[kind]}": kind})
    assert_same_bits(by_columns, got.values)


@pytest.mark.parametrize("method", CURVES)
def test_rotations_beside_a_curve(lib, method):
    """Positions are on the curve, rotations are interpolated by slerp all the same."""
    src, tgt = np.arange(7.0), np.linspace(-1, 7, 50)
    y = np.concatenate([rng(0).standard_normal((7, 3)), turns(1).as_quat()], axis=1)
    got = values(lib, y, src, tgt, method=method, rotation="pos_quat_xyzw")
    assert_same_bits(got[:, :3], values(lib, y[:, :3].copy(), src, tgt, method=method))
    assert_same_bits(got[:, 3:], values(lib, y[:, 3:].copy(), src, tgt, rotation="quat_xyzw"))


def pose(kind, position, r):
    """Poses [..., D] in a format."""
    if kind.startswith("mat"):
        m = np.zeros((*r.as_matrix().shape[:-2], 4, 4))
        m[..., :3, :3], m[..., :3, 3], m[..., 3, 3] = r.as_matrix(), position, 1
        return m if kind == "mat44" else m[..., :3, :]
    return np.concatenate([position, of_rotation(r, kind.removeprefix("pos_"))], axis=-1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "kind", ["pos_quat_xyzw", "pos_quat_wxyz", "pos_rotvec", "pos_rot6d", "mat44", "mat34"]
)
def test_poses(lib, kind, dtype):
    src, tgt = np.arange(6.0), np.linspace(-1, 6, 30)
    position, r = rng(0).standard_normal((6, 3)), turns(3, 6)
    y = pose(kind, position, r).astype(dtype)
    got = values(lib, y, src, tgt, rotation=kind)
    assert got.shape == (30, *y.shape[1:])
    if kind.startswith("mat"):
        moved, turned = got[:, :3, 3], got[:, :3, :3].reshape(-1, 9)
        name = "matrix"
        expected = values(lib, np.ascontiguousarray(y[:, :3, 3]), src, tgt)
        if kind == "mat44":
            np.testing.assert_array_equal(got[:, 3], np.tile([0, 0, 0, 1], (30, 1)))
    else:
        moved, turned, name = got[:, :3], got[:, 3:], kind.removeprefix("pos_")
        expected = values(lib, y[:, :3].copy(), src, tgt)
    assert_same_bits(np.ascontiguousarray(moved), expected)
    assert_turned(turned, src, tgt, r, name, dtype)
    # Flat, and several of them in each sample.
    if kind.startswith("mat"):
        flat = values(lib, y.reshape(6, -1), src, tgt, rotation=kind)
        assert_same_bits(flat, got.reshape(30, -1))
    several = np.stack([y, y[::-1]], axis=1)
    both = values(lib, several, src, tgt, rotation=kind)
    assert_same_bits(np.ascontiguousarray(both[:, 0]), got)
    assert_same_bits(np.ascontiguousarray(both[:, 1]), values(lib, y[::-1].copy(), src, tgt,
                                                              rotation=kind))  # fmt: skip
    nearest = values(lib, y, src, tgt, rotation=kind, method="nearest")
    assert_same_bits(nearest, y[[int(np.clip(math.ceil(t - 0.5), 0, 5)) for t in tgt]])


def test_matrices_of_two_axes(lib):
    src, tgt = np.arange(7.0), np.linspace(0, 6, 25)
    m = turns(4).as_matrix()
    got = values(lib, m, src, tgt, rotation="matrix")
    assert got.shape == (25, 3, 3)
    assert_turned(got.reshape(25, 9), src, tgt, turns(4), "matrix")
    batch = np.stack([np.stack([m, m[::-1]], axis=1)] * 2)  # [2, 7, 2, 3, 3]
    both = values(lib, batch, np.tile(src, (2, 1)), tgt, rotation="matrix")
    for b in range(2):
        assert_same_bits(np.ascontiguousarray(both[b, :, 0]), got)


def test_several_rotations_among_columns(lib):
    """Two arms: [gripper, position, quaternion, quaternion, angle, angle, rotvec]."""
    src, tgt = np.cumsum(rng(0).uniform(0.2, 1, 7)), np.linspace(0, 4, 30)
    a, b, c = turns(1), turns(2), turns(3)
    angle = rng(4).uniform(-3, 3, (7, 2))
    plain = rng(5).standard_normal((7, 4))
    y = np.concatenate([plain, a.as_quat(), b.as_quat(), angle, c.as_rotvec()], axis=1)
    rotation = {"4:12": "quat_xyzw", "12:14": "angle", "-3:": "rotvec"}
    method = [(0, "previous"), ("1:4", "pchip")]
    got = resample(lib, y, src, tgt, rotation=rotation, method=method)
    for columns, options in (
        (slice(0, 1), {"method": "previous"}), (slice(1, 4), {"method": "pchip"}),
        (slice(4, 8), {"rotation": "quat_xyzw"}), (slice(8, 12), {"rotation": "quat_xyzw"}),
        (slice(12, 13), {"rotation": "angle"}), (slice(13, 14), {"rotation": "angle"}),
        (slice(14, 17), {"rotation": "rotvec"}),
    ):  # fmt: skip
        alone = values(lib, y[:, columns].copy(), src, tgt, **options)
        assert_same_bits(np.ascontiguousarray(got.values[:, columns]), alone)
    for seed, columns, kind in ((1, slice(4, 8), "quat_xyzw"), (2, slice(8, 12), "quat_xyzw"),
                                (3, slice(14, 17), "rotvec")):  # fmt: skip
        assert_turned(got.values[:, columns], src, tgt, turns(seed), kind)
    # The same in each of two groups.
    groups = np.stack([y, y + 0, y[::-1]], axis=1)
    many = values(lib, groups, src, tgt, rotation=rotation, method=method)
    assert_same_bits(np.ascontiguousarray(many[:, 1]), got.values)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("shape", [(1, 4), (3, 4), (2, 3, 8)])
def test_quaternions_in_groups(lib, shape, dtype):
    src, tgt = np.arange(5.0), np.linspace(-1, 5, 25)
    y = rng(0).standard_normal((2, 5, *shape)).astype(dtype)
    options = {"rotation": {f"0:{shape[-1]}": "quat_xyzw"}}
    got = values(lib, y, np.tile(src, (2, 1)), tgt, **options)
    flat, out = y.reshape(2, 5, -1, 4), got.reshape(2, 25, -1, 4)
    for b, g in itertools.product(range(2), range(flat.shape[2])):
        alone = values(lib, flat[b, :, g].copy(), src, tgt, rotation="quat_xyzw")
        assert_same_bits(np.ascontiguousarray(out[b, :, g]), alone)
    # Memory that does not allow four at a time.
    if lib.name != "jax":
        space = lib.array(np.zeros(y.size + 1, dtype))
        view = space[1:].reshape(y.shape)
        view[:] = lib.array(y)
        shifted = rc.resample_trajectories(view, lib.array(np.tile(src, (2, 1))), lib.array(tgt),
                                           **options)  # fmt: skip
        assert_same_bits(lib.numpy(shifted), got)


def test_angles(lib):
    src, tgt = np.arange(4.0), np.array([0.25, 0.5, 0.75, 1.5, 2.5])
    y = np.radians([[170.0], [-170.0], [10.0], [-10.0]])
    got = np.degrees(values(lib, y, src, tgt, rotation={0: "angle"})[:, 0])
    np.testing.assert_allclose(got, [175, 180, -175, -80, 0], atol=1e-12)
    np.testing.assert_array_equal(values(lib, y, src, src, rotation={0: "angle"}), y)
    joints = np.tile(y, (1, 7))  # all features are angles
    named = values(lib, joints, src, tgt, rotation="angle")
    assert_same_bits(named, values(lib, joints, src, tgt, rotation={"0:7": "angle"}))
    alone = values(lib, y[:, 0].copy(), src, tgt, rotation="angle")
    assert_same_bits(alone, np.ascontiguousarray(named[:, 0]))


@pytest.mark.parametrize("kind", ["quat_xyzw", "matrix", "rot6d"])
def test_what_is_no_rotation_is_not_valid(lib, kind):
    src, tgt = np.arange(4.0), np.array([0.5, 1.5, 2.5])
    y = of_rotation(turns(0, 4), kind)
    y[1] = 0
    got = resample(lib, y, src, tgt, rotation=kind)
    assert got.valid.tolist() == [False, False, True]
    assert np.isnan(got.values[:2]).all()
    assert not np.isnan(got.values[2]).any()


def test_fill_value_stands_where_columns_are_not_valid(lib):
    """Each kind of columns by itself, while a target is valid only if all of it is."""
    src, tgt = np.arange(3.0), np.array([0.5, 1.5, 2.0, 4.0])
    y = np.tile(column(0, 1, 2), (1, 5))
    y[:, 1:] = [[0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]]
    got = resample(lib, y, src, tgt, rotation={"1:5": "quat_xyzw"}, fill_value=9)
    assert got.valid.tolist() == [False, True, True, False]
    np.testing.assert_array_equal(got.values[:, 0], [0.5, 1.5, 2, 9])
    np.testing.assert_array_equal(got.values[[0, 3], 1:], np.full((2, 4), 9.0))
    np.testing.assert_allclose(got.values[1, 1:], [0, 0, np.sqrt(0.5), np.sqrt(0.5)])
    got = resample(lib, y[:, :2].copy(), src, tgt, method=[(0, "linear"), (1, "nearest")],
                   tolerance=0.25, fill_value=9)  # fmt: skip
    assert got.valid.tolist() == [False, False, True, False]
    np.testing.assert_array_equal(got.values, [[0.5, 9], [1.5, 9], [2, 0], [9, 9]])
    two = np.concatenate([y[:, 1:], np.tile([[0.0, 0, 0, 1]], (3, 1))], axis=1)
    got = resample(lib, two, src, tgt[:1], rotation={"0:8": "quat_xyzw"}, fill_value=9)
    np.testing.assert_array_equal(got.values[0, :4], [9, 9, 9, 9])


def test_rotations_beyond_the_ends(lib):
    src, tgt = np.arange(3.0), np.array([-1.0, 3.0])
    r = Rotation.from_rotvec([[0, 0, 0.1], [0, 0, 0.3], [0, 0, 0.4]])
    y = r.as_quat()
    got = resample(lib, y, src, tgt, rotation="quat_xyzw")
    assert_same_bits(got.values, y[[0, 2]])
    assert not got.valid.any()
    went_on = values(lib, y, src, tgt, rotation="quat_xyzw", extrapolate="extrapolate")
    np.testing.assert_allclose(Rotation.from_quat(went_on).as_rotvec()[:, 2], [-0.1, 0.5],
                               atol=1e-14)  # fmt: skip
    for policy, expected in (("nan", np.nan), (7, 7)):
        got = values(lib, y, src, tgt, rotation="quat_xyzw", extrapolate=policy)
        np.testing.assert_array_equal(got, np.full((2, 4), expected))
    m = np.tile(np.eye(4), (3, 1, 1))
    got = values(lib, m, src, tgt, rotation="mat44", extrapolate=7)
    np.testing.assert_array_equal(got, np.full((2, 4, 4), 7.0))


# ----------------------------------------------------------------------------------- normalisation

STATS = {"mean": [0.5, -2.0, 3.0], "std": [2.0, 0.5, 1.5]}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("method", [*SAMPLING, "makima", "mean", "max"])
def test_normalisation_in_the_same_pass(lib, method, dtype):
    y = rng(0).standard_normal((2, 9, 3)).astype(dtype)
    src = np.sort(rng(1).uniform(0, 8, (2, 9)), axis=1)
    tgt = np.sort(rng(2).uniform(-1, 9, (2, 14)), axis=1)
    plain = values(lib, y, src, tgt, method=method)
    for normalize in (rc.normalization(STATS, clip=1.5), (STATS, "mean_std")):
        got = values(lib, y, src, tgt, method=method, normalize=normalize)
        n = rc.normalization(*normalize) if isinstance(normalize, tuple) else normalize
        assert_same_bits(got, lib.numpy(rc.normalize(lib.array(plain), n)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_normalisation_is_rounded_once(lib, dtype):
    y = rng(0).standard_normal((9, 3)).astype(dtype_of(dtype))
    src, tgt = np.arange(9.0), np.linspace(0, 8, 30)
    got = values(lib, y, src, tgt, normalize=(STATS, "mean_std"))
    single = values(lib, y.astype("f4"), src, tgt, normalize=(STATS, "mean_std"))
    assert_same_bits(got, single.astype(got.dtype))


def test_images_to_floats(lib):
    y = rng(0).integers(0, 256, (4, 3, 5, 3)).astype(np.uint8)
    n = rc.normalization(scale=1 / 255)
    src, tgt = np.arange(4.0), np.array([0.4, 1.6, 2.0])
    for dtype in ("float32", "float16"):
        got = values(lib, y, src, tgt, method="nearest", normalize=n, dtype=dtype)
        expected = (y[[0, 2, 2]].astype("f4") * np.float32(1 / 255)).astype(dtype)
        assert_same_bits(got, expected)
    with pytest.raises(TypeError, match="dtype"):  # 0 and 1 are all that would be left
        values(lib, y, src, tgt, method="nearest", normalize=n)


def test_what_a_normalisation_leaves_alone(lib):
    y, src = np.full((3, 3), 5.0), np.arange(3.0)
    tgt = np.array([-1.0, 0.5, 3.0, np.nan])
    got = values(lib, y, src, tgt, normalize=(STATS, "mean_std"), extrapolate=(7, -8))
    np.testing.assert_array_equal(got[0], [7, 7, 7])
    np.testing.assert_array_equal(got[2], [-8, -8, -8])
    assert np.isnan(got[3]).all()
    np.testing.assert_allclose(got[1], (5 - np.array(STATS["mean"])) / STATS["std"])
    filled = values(lib, y, src, tgt, normalize=(STATS, "mean_std"), fill_value=11)
    np.testing.assert_array_equal(filled[[0, 2, 3]], np.full((3, 3), 11.0))
    empty = values(lib, y[None], src[None], tgt, normalize=(STATS, "mean_std"),
                   lengths=np.array([0]))  # fmt: skip
    assert not empty.any()


def test_normalisation_and_rotations(lib):
    src, tgt = np.arange(5.0), np.linspace(0, 4, 13)
    y = np.concatenate([rng(0).standard_normal((5, 3)), turns(1, 5).as_quat()], axis=1)
    stats = {"mean": np.arange(7.0), "std": np.full(7, 2.0)}
    plain = values(lib, y, src, tgt, rotation={"3:7": "quat_xyzw"})
    whole = lib.numpy(rc.normalize(lib.array(plain), stats))
    got = values(lib, y, src, tgt, rotation={"3:7": "quat_xyzw"}, normalize=(stats, "mean_std"))
    assert_same_bits(got[:, :3], whole[:, :3])
    assert_same_bits(got[:, 3:], plain[:, 3:])
    mask = np.array([True] * 4 + [False, True, True])
    masked = values(lib, y, src, tgt, rotation={"3:7": "quat_xyzw"},
                    normalize=rc.normalization(stats, mask=mask))  # fmt: skip
    assert_same_bits(masked, lib.numpy(rc.normalize(lib.array(plain), stats, mask=mask)))


@pytest.mark.parametrize("width", [1, 3, 8])
def test_statistics_of_every_width(lib, width):
    y = rng(0).standard_normal((4, 5, width)).astype("f4")
    src, tgt = np.arange(4.0), np.linspace(0, 3, 11)
    plain = values(lib, y, src, tgt)
    for stats in ({"mean": [2.0], "std": [3.0]},
                  {"mean": np.arange(width), "std": np.arange(1, width + 1)}):  # fmt: skip
        got = values(lib, y, src, tgt, normalize=(stats, "mean_std"))
        assert_same_bits(got, lib.numpy(rc.normalize(lib.array(plain), stats)))


# ------------------------------------------------------------------------------------------- calls


def test_changing_numbers_do_not_replan(lib):
    if lib.name == "jax":
        pytest.skip("JAX keeps its own plans")
    cache = Op.all["resample_trajectories"].cache
    y, src, tgt = np.tile(column(0, 10, 40), (1, 5)), np.array([0.0, 1.0, 4.0]), np.arange(-1.0, 6)
    y[:, 1:] = turns(0, 3).as_quat()
    x, s, t = map(lib.array, (y, src, tgt))
    normal = rc.normalization({"mean": [1.0], "std": [2.0]})
    sizes, results = [], []
    for k in range(4):
        options = {"latency": k / 8, "tolerance": k / 2, "max_gap": k + 2.5, "fill_value": k,
                   "extrapolate": (k + 0.25, -k), "method": [(0, "pchip")], "normalize": normal,
                   "rotation": {"1:5": "quat_xyzw"}}  # fmt: skip
        got = rc.resample_trajectories(x, s, t, return_valid=True, **options)
        grid = rc.resample_trajectories(x, None, None, src_hz=k + 1, src_start=k, hz=k + 1,
                                        t_start=k, num=3, method="mean")  # fmt: skip
        sizes.append(len(cache))
        results.append(lib.numpy(got.values).tobytes() + lib.numpy(grid).tobytes())
        fresh = dict(cache)
        cache.clear()
        again = rc.resample_trajectories(x, s, t, return_valid=True, **options)
        cache.clear()
        cache.update(fresh)
        assert lib.numpy(again.values).tobytes() == lib.numpy(got.values).tobytes()
        assert lib.numpy(again.valid).tobytes() == lib.numpy(got.valid).tobytes()
    assert len(set(sizes)) == 1
    assert len(set(results)) == 4


def test_return_index_with_a_curve(lib):
    y, src, tgt = column(0, 1, 4, 2), np.arange(4.0), np.array([-1.0, 0.25, 2.0, 5.0])
    got = resample(lib, y, src, tgt, method="pchip", return_index=True)
    assert got.index.tolist() == [0, 0, 2, 3]
    assert got.weight.tolist() == [0, 0.25, 0, 0]
    with pytest.raises(ValueError, match=r"return_index.*reductions"):
        resample(lib, y, src, tgt, method="mean", return_index=True)


def test_a_single_target_has_no_neighbours(lib):
    y, src = np.ones((2, 5, 1)), np.tile(np.arange(5.0), (2, 1))
    with pytest.raises(ValueError, match=r"tgt_times has one target.*hz="):
        values(lib, y, src, np.array([2.0]), method="mean")
    # A grid of one point has them all the same.
    got = values(lib, y, src, hz=0.5, t_start=2.0, num=1, method="sum")
    np.testing.assert_array_equal(got[:, :, 0], [[2], [2]])


def test_inside_jit():
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    y, src = rng(0).standard_normal((2, 6, 5)), np.tile(np.arange(6.0), (2, 1))
    tgt = np.linspace(0, 5, 9)
    options = {"method": [(0, "mean")], "rotation": {"1:5": "quat_xyzw"},
               "normalize": rc.normalization({"mean": [1.0], "std": [2.0]})}  # fmt: skip
    traced = jax.jit(lambda *x: rc.resample_trajectories(*x, **options))(y, src, tgt)
    assert_same_bits(np.asarray(traced), rc.resample_trajectories(y, src, tgt, **options))


Y, S, T = np.zeros((4, 8)), np.arange(4.0), np.arange(3.0)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"method": "cubic"}, ValueError, "'cubic'.*catmull_rom"),
        ({"method": "spline"}, ValueError, "method is 'spline'.*'linear'.*'akima'.*'any'"),
        ({"method": None}, ValueError, "method is None"),
        ({"method": 5}, ValueError, "method is 5"),
        ({"method": ["linear"]}, TypeError, "method is .*pairs of columns and name"),
        ({"method": [("0:3", "lin")]}, ValueError, "method is 'lin'"),
        ({"method": [(8, "linear")]}, ValueError, "8 is no column, expected one of 8"),
        ({"method": [(-9, "linear")]}, ValueError, "-9 is no column"),
        ({"method": [("a:b", "linear")]}, ValueError, "'a:b' are no columns"),
        ({"method": [("0:8:2", "linear")]}, ValueError, "step"),
        ({"method": [(0.5, "linear")]}, ValueError, "0.5 is no column"),
        ({"rotation": "quat"}, ValueError, "rotation.* is 'quat', expected one of 'quat_xyzw'"),
        ({"rotation": "rotvec"}, ValueError, r"features of shape \(8,\).*\(3,\).*'rotvec'"),
        ({"rotation": 5}, TypeError, "rotation is 5"),
        ({"rotation": {"0:3": "quat_xyzw"}}, ValueError, "'quat_xyzw' takes 4 columns.*are 3"),
        ({"rotation": {"3:3": "rotvec"}}, ValueError, "'rotvec' takes 3 columns.*are 0"),
        ({"rotation": ["quat_xyzw"]}, TypeError, r"rotation is \('quat_xyzw',\), expected a name"),
        ({"rotation": {"3:20": "quat_xyzw"}}, ValueError, "columns 3:20 reach beyond the 8"),
        ({"method": [("8:9", "previous")]}, ValueError, "columns 8:9 reach beyond the 8"),
        ({"method": [("-9:2", "previous")]}, ValueError, "columns -9:2 reach beyond the 8"),
        ({"method": [("5:2", "previous")]}, ValueError, "columns 5:2 of 8 end before they begin"),
        ({"method": [(slice(0.5, 2), "previous")]}, ValueError, "are no columns"),
        ({"rotation": {"0:4": "euler"}}, ValueError, "rotation.* is 'euler'"),
        ({"rotation": {"0:4": "quat_xyzw", "2:6": "quat_wxyz"}}, ValueError, "column 2 twice"),
        ({"rotation": {"0:7": "pos_quat_xyzw"}}, ValueError, "rotation.* is 'pos_quat_xyzw'"),
        (
            {"rotation": {"0:4": "quat_xyzw"}, "method": [("2:5", "nearest")]},
            ValueError,
            "method differs within the rotation in columns 0:4",
        ),
        (
            {"rotation": {"0:4": "quat_xyzw"}, "method": "mean"},
            ValueError,
            "'mean' does not apply to rotations",
        ),
        ({"rotation": "quat_xyzw", "method": [(0, "next")]}, ValueError, r"\(4,\)|method is"),
        ({"normalize": 5}, TypeError, "normalize is 5"),
        ({"normalize": "mean_std"}, TypeError, "normalize is 'mean_std'"),
        ({"normalize": (STATS, "mean_std")}, ValueError, r"statistics of shape \(3,\).*\(8,\)"),
        (
            {"normalize": ({"mean": np.zeros((3, 8)), "std": np.ones((3, 8))}, "mean_std")},
            ValueError,
            r"statistics of shape \(3, 8\)",
        ),
        ({"normalize": (STATS, "zscore")}, ValueError, "mode is 'zscore'"),
        ({"normalize": (5, "mean_std")}, TypeError, r"normalize is \(5, 'mean_std'\), expected"),
        ({"normalize": STATS}, TypeError, "normalize is statistics without a mode"),
        (
            {"normalize": (rc.normalization(scale=2), "mean_std")},
            TypeError,
            "normalize is .*Normalization has its mode",
        ),
        ({"extrapolate": ["hold", 0.0]}, TypeError, r"extrapolate is \['hold', 0.0\].*tuple"),
        ({"method": "mean", "dtype": "int8"}, TypeError, "dtype is int8"),
        ({"method": "mean", "out": np.zeros((3, 7))}, ValueError, r"out has shape \(3, 7\)"),
        (
            {"method": "mean", "out": np.zeros((3, 16))[:, ::2]},
            ValueError,
            "out has feature axes",
        ),
    ],
)
def test_errors_name_the_argument(options, error, message):
    with pytest.raises(error, match=message):
        rc.resample_trajectories(Y, S, T, **options)


def test_integers_are_no_rotations():
    y = np.zeros((4, 4), np.int32)
    for options in ({}, {"method": "nearest"}, {"dtype": np.float32}):
        with pytest.raises(TypeError, match=r"dtype int32, expected a float for rotations"):
            rc.resample_trajectories(y, S, T, rotation="quat_xyzw", **options)


@pytest.mark.parametrize("columns", [25, 60, 200])
def test_columns_in_turns(lib, columns):
    ways = ("linear", "previous", "pchip")
    y, src = rng(columns).standard_normal((2, 6, columns)), np.tile(np.arange(6.0), (2, 1))
    tgt = np.array([-1.0, 0.0, 0.5, 3.25, 5.0, 7.0])
    method = [(k, ways[k % 3]) for k in range(columns)]
    options = {"fill_value": -9.0, "normalize": rc.normalization(scale=np.arange(1.0, columns + 1))}
    got = resample(lib, y, src, tgt, method=method, **options)
    for k, way in enumerate(ways):
        expected = resample(lib, y, src, tgt, method=way, **options)
        real = expected.valid[..., None] | (way == "previous")  # fill_value goes by column
        assert_same_bits(
            np.where(real, got.values[..., k::3], 0), np.where(real, expected.values[..., k::3], 0)
        )


def test_rotations_in_turns(lib):
    y, src = rng(3).standard_normal((2, 6, 65)), np.tile(np.arange(6.0), (2, 1))
    tgt = np.array([0.5, 3.25])
    rotation = {f"{5 * k}:{5 * k + 4}": "quat_xyzw" for k in range(13)}
    got = resample(lib, y, src, tgt, rotation=rotation)
    for k in range(13):
        own = resample(lib, y[..., 5 * k : 5 * k + 5], src, tgt, rotation={"0:4": "quat_xyzw"})
        assert_same_bits(got.values[..., 5 * k : 5 * k + 5], own.values)


def test_more_kinds_of_columns_than_a_launch_takes():
    y = np.zeros((4, 200))
    ways = rng(0).choice(["linear", "previous", "next"], 200)
    method = [(k, str(way)) for k, way in enumerate(ways)]
    with pytest.raises(ValueError, match=r"data has \d+ groups.*more than the 24.*order its col"):
        rc.resample_trajectories(y, S, T, method=method)
    with pytest.raises(ValueError, match=r"data has \d+ groups.*more than the 24.*order its col"):
        rc.sample_windows(y, [0, 4], [1], delta_timestamps=[0.5], times=S, method=method)


@pytest.mark.parametrize("method", ["linear", "nearest", "previous"])
def test_a_rotation_of_no_length_that_is_not_turned(lib, method):
    quat = np.tile([0.0, 0.0, 0.0, 1.0], (5, 1))
    quat[2] = quat[4] = 0
    tgt = np.array([2.0, 6.0, 2.0 + 1e-9, 1.5])
    got = lib_quaternions(lib, quat, np.arange(5.0), tgt, method=method, tolerance=2.0)
    assert not got.values[:2].any()  # hit, held
    assert got.valid[:2].all()
    assert got.valid[2:].tolist() == [method != "linear"] * 2


def test_fill_value_stands_in_the_part_that_is_not_valid(lib):
    poses = np.ones((2, 7))
    poses[:, 3:] = [[0, 0, 0, 1], [0, 0, 0, 0]]
    given = map(lib.array, (poses, np.arange(2.0), np.array([0.5])))
    got = rc.interpolate_poses(*given, fill_value=-9.0, return_valid=True)
    assert lib.numpy(got.values).tolist() == [[1, 1, 1, -9, -9, -9, -9]]
    assert lib.numpy(got.valid).tolist() == [False]


def lib_quaternions(lib, quat, src, tgt, method, **options):
    method = {"linear": "slerp"}.get(method, method)
    given = map(lib.array, (quat, src, tgt))
    got = rc.interpolate_quaternions(*given, method=method, return_valid=True, **options)
    return type(got)(*map(lib.numpy, got))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rc.interpolate_poses(np.zeros((4, 6)), S, T), ValueError,
         r"^poses has features of shape \(6,\)"),
        (lambda: rc.interpolate_quaternions(np.zeros((4, 6)), S, T), ValueError,
         r"^quat has features of shape \(6,\)"),
        (lambda: rc.interpolate_quaternions(np.zeros((4, 4)), S[:3], T), ValueError,
         r"for quat of shape \(4, 4\)"),
        (lambda: rc.interpolate_quaternions([1.0], S, T), TypeError,
         "^interpolate_quaternions: quat must be an array"),
        (lambda: rc.interpolate_poses(np.zeros((4, 7), int), S, T), TypeError,
         "^poses has dtype int64, expected a float"),
        (lambda: rc.interpolate_poses(np.zeros((4, 7)), S, T, rotation="angle"), TypeError,
         "rotation is what format says"),
        (lambda: rc.interpolate_quaternions(np.zeros((4, 4)), S, T, rotation="angle"), TypeError,
         "rotation is what order says"),
    ],
)  # fmt: skip
def test_errors_in_the_words_of_the_function(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_no_columns_at_all():
    got = rc.resample_trajectories(np.zeros((4, 0)), S, T, method=[], rotation={},
                                   return_valid=True)  # fmt: skip
    assert got.values.shape == (3, 0)
    assert got.valid.all()
