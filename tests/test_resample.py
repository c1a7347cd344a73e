import importlib
import itertools
import math
import pickle
from datetime import timedelta
from fractions import Fraction
from typing import NamedTuple

import ml_dtypes
import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import robocache_cupy as rc
from robocache_cupy._core.plan import Op

EVERYTHING = {"return_valid": True, "return_index": True, "return_times": True}
METHODS = ("linear", "nearest", "previous", "next")
FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
CLOCKS = ("float32", "float64", "int32", "int64", "datetime64[ns]", "datetime64[us]")
TIME_UNIT = {"float32": "s", "float64": "s", "int32": "s", "int64": "s"}
TICKS = {"datetime64[ns]": 10**9, "datetime64[us]": 10**6}
EPOCH = 1_760_000_000_123_456_789  # float64 has steps of 256 ns there
rng, zeros = np.random.default_rng, np.zeros


def dtype_of(name):
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def arrays(lib, options):
    """The options with NumPy arrays made arrays of the library."""
    return {name: lib.array(x) if isinstance(x, np.ndarray) else x for name, x in options.items()}


def resample(lib, *args, **options):
    """All parts of the result, as NumPy arrays."""
    given = [x if x is None else lib.array(x) for x in args]
    result = rc.resample_trajectories(*given, **EVERYTHING, **arrays(lib, options))
    return oracle.Resampled(*map(lib.numpy, result))


def values(lib, *args, **options):
    given = [x if x is None else lib.array(x) for x in args]
    return lib.numpy(rc.resample_trajectories(*given, **arrays(lib, options)))


def bits(x):
    return x.view(f"u{x.itemsize}")


def assert_same_bits(got, expected):
    """Equal in every bit, but for which NaN it is that arithmetic made."""
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    if expected.dtype.kind in "biumM":
        np.testing.assert_array_equal(got, expected, strict=True)
        return
    nan = np.isnan(expected.astype(np.float64))
    np.testing.assert_array_equal(np.isnan(got.astype(np.float64)), nan, strict=True)
    np.testing.assert_array_equal(bits(got)[~nan], bits(expected)[~nan], strict=True)


def assert_same(got, expected):
    for name, x, y in zip(oracle.Resampled._fields, got, expected, strict=True):
        try:
            assert_same_bits(x, y)
        except AssertionError as e:
            raise AssertionError(f"{name}: {e}") from e


def to_clock(ticks, dtype):
    """Whole numbers on a clock, NaN as its NaN or NaT."""
    ticks = np.asarray(ticks, np.float64)
    if dtype.startswith("datetime64"):
        whole = np.where(np.isnan(ticks), 0, ticks).astype(np.int64).astype(dtype)
        return np.where(np.isnan(ticks), np.array("NaT", dtype), whole)
    return ticks.astype(dtype)


def skip_unless_it_has(lib, *dtypes):
    if missing := lib.dtypes_missing.intersection(dtypes):
        pytest.skip(f"{lib.name} has no {', '.join(missing)}")


# ------------------------------------------------------------------------------- the specification


class Kind(NamedTuple):
    """The dtypes of a call."""

    data: str
    result: str
    src: str
    tgt: str


KINDS = (
    Kind("float32", "float32", "int64", "int64"),
    Kind("float32", "float32", "float32", "float64"),
    Kind("float64", "float64", "float64", "float64"),
    Kind("float64", "float16", "int32", "int64"),
    Kind("float16", "float16", "int64", "int32"),
    Kind("bfloat16", "bfloat16", "float64", "float32"),
    Kind("uint8", "float32", "int32", "int32"),
    Kind("int32", "int32", "float32", "float32"),
    Kind("float32", "float32", "datetime64[ns]", "datetime64[ns]"),
    Kind("float32", "bfloat16", "datetime64[us]", "datetime64[us]"),
)


@st.composite
def calls(draw, kinds):
    """Arguments [B, S, *F], [B, S], [B, T] and options, in small whole numbers of ticks."""
    kind = draw(st.sampled_from(kinds))
    B, S, T = draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 8, 8, 5, 2, 0])), 12
    features = draw(st.sampled_from([(), (3,), (2, 1)]))
    ticks = TICKS.get(kind.src, 1)
    can_be_nan = not kind.src.startswith("int")

    # Hypothesis draws the options. Lists that it draws are mostly equal numbers, which tell little.
    random = rng(draw(st.integers(0, 2**32)))

    def integers(low, high, *shape):
        return random.integers(low, high, shape, endpoint=True)

    def seconds(low, high):
        return draw(st.integers(low, high)) / ticks

    low = 0 if kind.data.startswith("u") else -9
    data = integers(low, 9, B, S, *features).astype(dtype_of(kind.data))
    options = {
        "method": draw(st.sampled_from((*METHODS, *oracle.ALIASES, *["linear"] * 4))),
        "dtype": kind.result,
        "time_unit": TIME_UNIT.get(kind.src),
    }
    kept = st.sampled_from(["hold", "extrapolate", 3])
    policy = kept if kind.result == "int32" else kept | st.just("nan") | st.just(-0.375)

    def one_in(count):
        return draw(st.sampled_from(range(count))) == count - 1

    def optionally(name, make, count=2):
        if one_in(count):
            options[name] = make()

    optionally("extrapolate", lambda: draw(policy | st.tuples(policy, policy)))
    optionally("tolerance", lambda: seconds(0, 4))
    optionally("max_gap", lambda: seconds(0, 6))
    optionally("fill_value", lambda: draw(st.integers(0, 100)), 4)
    late = st.sampled_from([lambda: seconds(-3, 3), lambda: integers(-3, 3, B) / ticks])
    optionally("latency", lambda: draw(late)())
    if S == 0 or one_in(3):
        options["lengths"] = integers(0, S, B)
    optionally("tgt_lengths", lambda: integers(0, T, B).astype(np.int32), 4)
    optionally("assume_sorted", lambda: False, 3)

    src = tgt = None
    if not one_in(4):
        stamps = integers(0, 12, B, S).astype(np.float64)
        if "assume_sorted" not in options:
            stamps.sort(axis=1)
        if can_be_nan and one_in(3):
            tail = integers(0, S, B)
            stamps[np.arange(S) >= S - tail[:, None]] = np.nan
        src = to_clock(stamps, kind.src)
    else:
        data = data.reshape(B, S, *(features or [1]))  # [B, S] would be one trajectory
        options["src_hz"] = draw(st.sampled_from([ticks, ticks / 2, 0.75 * ticks, 4 * ticks]))
        optionally("src_start", lambda: draw(st.integers(-3, 9)))
    # Two clocks that no array tells the unit of are float64.
    if src is None or not one_in(4):
        times = integers(-6, 20, B, T).astype(np.float64)
        if can_be_nan and one_in(3):
            times[:, :1] = np.nan
        tgt = to_clock(times, kind.tgt)
    else:
        options["hz"] = draw(st.sampled_from([ticks, ticks / 3, 0.75 * ticks, 4 * ticks]))
        options["num"] = T
        options["t_start"] = draw(st.integers(-4, 9))
    return data, src, tgt, options


@settings(max_examples=300)
@given(st.data())
def test_every_option_means_what_the_definition_says(lib, data):
    kinds = [kind for kind in KINDS if lib.dtypes_missing.isdisjoint(kind)]
    x, src, tgt, options = data.draw(calls(kinds))
    options["dtype"] = dtype_of(options["dtype"])
    expected = oracle.resample(x, src, tgt, **options)
    assert_same(resample(lib, x, src, tgt, **options), expected)


@pytest.mark.parametrize("times", ["steady", "jitter", "gap", "padded"])
@pytest.mark.parametrize("clock", ["int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("few", [True, False], ids=["few", "many"])
def test_calls_that_leave_all_at_its_default(lib, monkeypatch, few, clock, times):
    """They have kernels of their own, one for few targets and one for many."""
    module = importlib.import_module("robocache_cupy.resample")
    monkeypatch.setattr(module, "_WAVE_OF_FEW", 1000 if few else 0)
    Op.all["resample_trajectories"].cache.clear()
    random = rng(0)
    B, S, T = 3, 60, 43
    src = np.arange(S) * 10.0 + np.zeros((B, 1))
    if times != "steady":
        src += random.integers(-6, 6, (B, S))
    if times == "gap":
        src[:, 20:] += 5000
        src[:, 40:45] = src[:, 40:41]
    src.sort(axis=1)
    tgt = random.uniform(src[0, 0] - 9, src[0, -1] + 9, (B, T)).astype(clock)
    src = src.astype(clock)
    tgt[:, ::4] = src[:, :: S // 11][:, : tgt[:, ::4].shape[1]]
    if times == "padded" and clock.startswith("float"):
        src[1, 30:], src[2], tgt[0, 5] = np.nan, np.nan, np.nan
    for dtype, D in zip(FLOATS, (16, 7, 40, 2), strict=True):
        data = random.normal(size=(B, S, D)).astype(dtype_of(dtype))
        unit = {} if clock.startswith("float") else {"time_unit": "s"}  # which JAX asks for
        got = values(lib, data, src, tgt, **unit)
        assert_same_bits(got, oracle.resample(data, src, tgt, **unit).values)
    Op.all["resample_trajectories"].cache.clear()


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, "bool"])
def test_copies_keep_every_bit(lib, dtype):
    size = dtype_of(dtype).itemsize
    raw = rng(0).integers(0, 2 if dtype == "bool" else 256, (4, 7 * size), np.uint8)
    if dtype in FLOATS:
        raw[:, -4:] = 0xFF  # NaN, with a payload
        raw[:, -4::-size] &= 0xFD
    data = raw.view(dtype_of(dtype))
    src, tgt = np.arange(4) * 10, np.array([-9, 0, 10, 14, 16, 30, 35])
    taken = {
        "nearest": [0, 0, 1, 1, 2, 3, 3],
        "previous": [0, 0, 1, 1, 1, 3, 3],
        "next": [0, 0, 1, 2, 2, 3, 3],
    }
    for method, rows in taken.items():
        got = values(lib, data, src, tgt, method=method, time_unit="ns")
        np.testing.assert_array_equal(bits(got), bits(data[rows]), strict=True)
    options = {} if dtype in FLOATS else {"dtype": dtype}
    if dtype != "bool":
        hits = values(lib, data, src, src[::-1].copy(), **options, time_unit="ns")
        np.testing.assert_array_equal(bits(hits), bits(data[::-1]), strict=True)


@pytest.mark.parametrize("name", [*METHODS, *oracle.ALIASES])
def test_every_method_name(lib, name):
    data, src = np.array([0.0, 10.0, 40.0], "f4"), np.array([0.0, 1.0, 2.0])
    expected = {"linear": 17.5, "nearest": 10.0, "previous": 10.0, "next": 40.0}
    got = values(lib, data, src, np.array([1.25]), method=name)
    assert got == expected[oracle.ALIASES.get(name, name)]


def test_an_exact_hit_ignores_its_neighbours(lib):
    data = np.array([np.nan, 1.0, np.inf, -0.0, np.nan], "f4")
    src = np.arange(5.0)
    got = values(lib, data, src, np.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(bits(got), bits(data[1:4]))
    assert np.isnan(values(lib, data, src, np.array([0.5, 3.5]))).all()


def test_duplicated_stamps(lib):
    data, src = np.arange(6.0), np.array([0, 1, 1, 1, 2, 2])
    tgt = np.array([1, 2])
    for method in METHODS:
        index = [1, 4] if method == "next" else [3, 5]
        got = resample(lib, data, src, tgt, method=method, time_unit="s", tolerance=0, max_gap=0)
        np.testing.assert_array_equal(got.index, np.array(index, np.int32), strict=True)
        np.testing.assert_array_equal(got.values, data[index])
        assert got.valid.all()
        assert not got.weight.any()


def test_extrapolation_over_duplicated_ends_holds(lib):
    data, src = np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 0.0, 1.0, 1.0])
    got = values(lib, data, src, np.array([-1.0, 2.0]), extrapolate="extrapolate")
    np.testing.assert_array_equal(got, [1.0, 4.0])


@pytest.mark.parametrize("clock", CLOCKS)
@pytest.mark.parametrize("method", METHODS)
def test_every_clock(lib, clock, method):
    skip_unless_it_has(lib, clock)
    data = rng(1).standard_normal((3, 20, 5)).astype("f4")
    src = to_clock(np.sort(rng(2).integers(0, 60, (3, 20)), axis=1), clock)
    tgt = to_clock(rng(3).integers(-9, 70, (3, 40)), clock)
    options = {"method": method, "time_unit": TIME_UNIT.get(clock)}
    expected = oracle.resample(data, src, tgt, **options)
    assert_same(resample(lib, data, src, tgt, **options), expected)


@pytest.mark.parametrize(("narrow", "wide"), [("float32", "float64"), ("int32", "int64")])
@pytest.mark.parametrize("swap", [False, True])
def test_clocks_of_two_widths(lib, narrow, wide, swap):
    src, tgt = np.arange(6).astype(narrow), (np.arange(9) - 1).astype(wide)
    if swap:
        src, tgt = src.astype(wide), tgt.astype(narrow)
    data = rng(0).standard_normal((6, 2)).astype("f4")
    got = resample(lib, data, src, tgt, time_unit="s")
    expected = oracle.resample(data[None], src[None], tgt[None], time_unit="s")
    assert_same(got, [x[0] for x in expected])
    assert got.times.dtype == tgt.dtype


def test_a_float32_clock_is_subtracted_in_float64(lib):
    src = np.array([1e-3, 16777216.0], "f4")
    tgt = np.array([1.5, 2.5], "f4")
    got = resample(lib, np.array([0.0, 1.0]), src, tgt)
    exact = [(Fraction(t.item()) - Fraction(src[0].item()))
             / (Fraction(src[1].item()) - Fraction(src[0].item())) for t in tgt]  # fmt: skip
    np.testing.assert_allclose(got.weight, np.array(exact, float), rtol=4e-16)


def test_epoch_nanoseconds_are_exact(lib):
    """Stamps a few ns apart are one and the same in float64."""
    src = EPOCH + np.array([0, 8, 24, 40], np.int64)
    assert len(set(src.astype(np.float64))) == 1
    tgt = EPOCH + np.array([0, 2, 8, 12, 23, 24, 36, 40, 41], np.int64)
    data = np.array([[0.0], [8.0], [24.0], [40.0]])
    got = resample(lib, data, src, tgt)
    np.testing.assert_array_equal(got.values[:, 0], [0, 2, 8, 12, 23, 24, 36, 40, 40])
    np.testing.assert_array_equal(got.valid, [True] * 8 + [False])
    np.testing.assert_array_equal(got.times, tgt, strict=True)
    grid = resample(lib, data, src, hz=2.5e8, num=11)
    np.testing.assert_array_equal(grid.times, EPOCH + 4 * np.arange(11), strict=True)
    np.testing.assert_array_equal(grid.values[:, 0], 4.0 * np.arange(11))
    latest = resample(lib, data, src, tgt, latency=1e-9, tolerance=2e-9)
    np.testing.assert_array_equal(latest.values[:, 0], [1, 3, 9, 13, 24, 25, 37, 40, 40])
    assert latest.valid.all()


def test_datetimes_give_datetimes(lib):
    skip_unless_it_has(lib, "datetime64[ns]")
    start = np.datetime64("2026-03-01T12:00:00", "us")
    src = start + np.arange(5) * np.timedelta64(10, "ms")
    got = resample(lib, np.arange(5.0), src, hz=200.0, t_start=src[1])
    assert got.times.dtype == src.dtype
    np.testing.assert_array_equal(got.times, src[1] + np.arange(7) * np.timedelta64(5, "ms"))
    np.testing.assert_array_equal(got.values, 1 + np.arange(7) / 2)


def test_the_earliest_and_latest_integer_stamps(lib):
    """Differences of more than 2^63 ticks."""
    big = 2**63 - 1
    src, tgt = np.array([-big, big]), np.array([-big, 0, big])
    got = resample(lib, np.array([0.0, 1.0]), src, tgt, max_gap=1.0)
    np.testing.assert_array_equal(got.values, [0.0, 0.5, 1.0])
    np.testing.assert_array_equal(got.valid, [True, False, True])


def test_the_weight_never_reaches_one(lib):
    """One tick before the next sample, where float32 has no weight left."""
    src = np.array([0, 10**9])
    data = np.array([[np.inf], [5.0]], "f4")
    got = resample(lib, data, src, src[1:] - 1)
    assert 0 <= got.weight[0] < 1
    assert_same(got, [x[0] for x in oracle.resample(data[None], src[None], src[None, 1:] - 1)])


# ---------------------------------------------------------------------------------- dtypes


@pytest.mark.parametrize(
    ("source", "result"),
    [
        ("float16", "float64"),
        ("bfloat16", "float32"),
        ("float32", "float16"),
        ("float64", "bfloat16"),
        ("float64", "float16"),
        ("int64", "float32"),
        ("uint8", "bfloat16"),
        ("bool", "float32"),
        ("int16", "int16"),
        ("uint64", "uint64"),
    ],
)
def test_results_are_rounded_once(lib, source, result):
    raw = rng(4).standard_normal((1, 30, 3)) * 100
    if source.startswith("u"):
        raw = np.abs(raw)
    data = raw > 0 if source == "bool" else raw.astype(dtype_of(source))
    src = np.cumsum(rng(5).integers(1, 9, (1, 30)), axis=1)
    tgt = rng(6).integers(-5, 170, (1, 90))
    for method in METHODS:
        options = {"method": method, "dtype": dtype_of(result), "extrapolate": ("extrapolate", 7)}
        expected = oracle.resample(data, src, tgt, **options)
        assert_same(resample(lib, data, src, tgt, **options), expected)


@pytest.mark.parametrize("dtype", [dtype_of("bfloat16"), "bfloat16"], ids=["numpy", "name"])
def test_no_double_rounding_from_float64_to_bfloat16(lib, dtype):
    tie = 1 + 2.0**-8
    data = np.array([tie, math.nextafter(tie, 2), math.nextafter(tie, 0)])
    expected = [1.0, 1 + 2.0**-7, 1.0]
    if lib.name != "torch":
        got = values(lib, data, np.arange(3.0), np.arange(3.0), dtype=dtype)
        np.testing.assert_array_equal(got.astype("f8"), expected)


def test_integers_round_half_to_even_and_saturate(lib):
    data, src = np.array([0, 1, 2, 100, -128], "i1"), np.arange(5.0)
    tgt = np.array([0.5, 1.5, 2.5, 5.0, -600.0])
    got = values(lib, data, src, tgt, dtype="int8", extrapolate="extrapolate")
    np.testing.assert_array_equal(got, np.array([0, 2, 51, -128, -128], "i1"), strict=True)
    top = np.array([2**64 - 2, 2**64 - 1], "u8")
    got = values(lib, top, np.arange(2.0), np.array([0.0, 0.5, 1.0, 9.0]), dtype="uint64",
                 extrapolate="extrapolate")  # fmt: skip
    np.testing.assert_array_equal(got, np.array([2**64 - 2] + [2**64 - 1] * 3, "u8"), strict=True)


def test_float_overflow_becomes_infinity(lib):
    data, src = np.array([6e4, 6.5e4], "f2"), np.arange(2.0)
    got = values(lib, data, src, np.array([2.0]), extrapolate="extrapolate")
    np.testing.assert_array_equal(got, np.array([np.inf], "f2"), strict=True)


def test_integer_limits_as_fill_value(lib):
    for dtype in ("int64", "uint64"):
        top = np.iinfo(dtype).max
        got = values(lib, np.zeros(2, dtype), np.arange(2.0), np.array([9.0]), method="nearest",
                     fill_value=int(top))  # fmt: skip
        np.testing.assert_array_equal(got, np.array([top], dtype), strict=True)


@pytest.mark.parametrize("dtype", FLOATS)
def test_constants_are_rounded_to_the_dtype(lib, dtype):
    expected = np.array([0.1, -1 / 3, 2.7], np.float64).astype(dtype_of(dtype))
    data, src = np.zeros((2, 1), dtype_of(dtype)), np.array([0, 1])
    got = values(lib, data, src, np.array([-5, 5]), extrapolate=(0.1, -1 / 3))
    assert_same_bits(got[:, 0], expected[:2])
    got = values(lib, data, src, np.array([5]), fill_value=2.7)
    assert_same_bits(got[:, 0], expected[2:])


# ------------------------------------------------------------------------------- validity and ends


def outcome(lib, tgt, **options):
    """Of 0, 10, 40 at 0 s, 1 s, 4 s."""
    data, src = np.array([0.0, 10.0, 40.0], "f4"), np.array([0.0, 1.0, 4.0])
    got = resample(lib, data, src, np.array(tgt, float), **options)
    return [(v.item(), bool(ok)) for v, ok in zip(got.values, got.valid, strict=True)]


@pytest.mark.parametrize(
    ("method", "options", "tgt", "expected"),
    [
        ("linear", {}, [-0.5, 2, 4.5], [(0, False), (20, True), (40, False)]),
        (
            "linear",
            {"tolerance": 0.5},
            [-0.5, -0.75, 4.5, 5],
            [(0, True), (0, False), (40, True), (40, False)],
        ),
        (
            "linear",
            {"tolerance": 0.5, "extrapolate": 7},
            [-0.5, -0.75, 4.5, 5],
            [(0, True), (7, False), (40, True), (7, False)],
        ),
        (
            "linear",
            {"tolerance": 0.5, "extrapolate": "extrapolate"},
            [-0.5, 5],
            [(-5, True), (50, False)],
        ),
        ("linear", {"tolerance": 0}, [2], [(20, True)]),
        ("linear", {"max_gap": 3}, [2], [(20, True)]),
        (
            "linear",
            {"max_gap": 2.5},
            [0.5, 1, 2, 4],
            [(5, True), (10, True), (20, False), (40, True)],
        ),
        (
            "linear",
            {"max_gap": 2.5, "fill_value": -1},
            [0.5, 2, 9],
            [(5, True), (-1, False), (-1, False)],
        ),
        ("nearest", {}, [-1, 2.5, 2.75, 5], [(0, False), (10, True), (40, True), (40, False)]),
        (
            "nearest",
            {"tolerance": 1},
            [-1, 2, 2.25, 5],
            [(0, True), (10, True), (10, False), (40, True)],
        ),
        (
            "nearest",
            {"extrapolate": (7, 8), "tolerance": 1},
            [-2, 2.25, 6],
            [(7, False), (10, False), (8, False)],
        ),
        ("nearest", {"max_gap": 1}, [0.25, 1, 1.25], [(0, True), (10, True), (10, False)]),
        ("previous", {}, [-1, 3, 4, 1e6], [(0, False), (10, True), (40, True), (40, True)]),
        ("previous", {"extrapolate": 7}, [-1, 9], [(7, False), (40, True)]),
        (
            "previous",
            {"tolerance": 2},
            [-1, 3, 3.5, 6, 6.5],
            [(0, True), (10, True), (10, False), (40, True), (40, False)],
        ),
        (
            "previous",
            {"max_gap": 2},
            [0.5, 3, 6, 6.5],
            [(0, True), (10, False), (40, True), (40, False)],
        ),
        ("previous", {"extrapolate": 7, "max_gap": 2}, [6.5], [(40, False)]),
        ("next", {}, [-1e6, 3, 4, 5], [(0, True), (40, True), (40, True), (40, False)]),
        ("next", {"extrapolate": "nan", "tolerance": 1}, [5], [(40, True)]),
        ("next", {"extrapolate": 7}, [-9, 9], [(0, True), (7, False)]),
        (
            "next",
            {"tolerance": 2},
            [-2, -2.5, 1.5, 2],
            [(0, True), (0, False), (40, False), (40, True)],
        ),
        (
            "next",
            {"max_gap": 2},
            [-2, -2.5, 0.5, 2],
            [(0, True), (0, False), (10, True), (40, False)],
        ),
        (
            "linear",
            {"tolerance": math.inf, "max_gap": math.inf},
            [-1e9, 2],
            [(0, True), (20, True)],
        ),
        ("linear", {"tolerance": timedelta(seconds=0.5)}, [4.5], [(40, True)]),
    ],
)
def test_what_is_valid(lib, method, options, tgt, expected):
    assert outcome(lib, tgt, method=method, **options) == expected


def test_nan_beyond_the_ends(lib):
    got = resample(lib, np.zeros((2, 3)), np.arange(2.0), np.array([-1.0, 0.5, 3.0]),
                   extrapolate="nan")  # fmt: skip
    np.testing.assert_array_equal(np.isnan(got.values), [[True] * 3, [False] * 3, [True] * 3])
    np.testing.assert_array_equal(got.index, np.array([-1, 0, -1], np.int32), strict=True)


@pytest.mark.parametrize("method", METHODS)
def test_no_time_gives_no_value(lib, method):
    src, tgt = np.arange(3.0), np.array([np.nan, 1.0])
    got = resample(lib, np.ones((3, 2), "f4"), src, tgt, method=method)
    assert np.isnan(got.values[0]).all()
    np.testing.assert_array_equal(got.valid, [False, True])
    np.testing.assert_array_equal(got.index, np.array([-1, 1], np.int32), strict=True)
    whole = values(lib, np.ones(3, "i2"), src, tgt, method=method, dtype="int16", fill_value=None)
    np.testing.assert_array_equal(whole, np.array([0, 1], "i2"), strict=True)
    filled = values(lib, np.ones(3, "i2"), src, tgt, method=method, dtype="int16", fill_value=9)
    np.testing.assert_array_equal(filled, np.array([9, 1], "i2"), strict=True)


def test_infinite_targets_are_outside(lib):
    tgt = np.array([-np.inf, np.inf])
    assert outcome(lib, tgt) == [(0.0, False), (40.0, False)]
    assert outcome(lib, tgt, extrapolate=(1, 2)) == [(1.0, False), (2.0, False)]


@pytest.mark.parametrize("options", [{}, {"fill_value": 5}], ids=["zero", "fill_value"])
@pytest.mark.parametrize("clock", ["tgt_times", "hz", "hz from t_start"])
@pytest.mark.parametrize("cause", ["lengths", "NaN", "offsets"])
def test_a_row_without_samples(lib, options, clock, cause):
    """A padded batch must not be poisoned, not even by a grid without a first sample."""
    filled = np.float32(options.get("fill_value", 0))
    data, src = np.ones((2, 3, 2), "f4"), np.tile(np.arange(3.0), (2, 1))
    if cause == "lengths":
        options = {**options, "lengths": np.array([3, 0])}
    elif cause == "NaN":
        src[1] = np.nan
    else:
        data, src = data[0], src[0]
        options = {**options, "offsets": np.array([0, 3, 3])}
    targets = {
        "tgt_times": {"tgt_times": np.tile(np.arange(3.0), (2, 1))},
        "hz": {"hz": 1.0, "num": 3},
        "hz from t_start": {"hz": 1.0, "num": 3, "t_start": 0.0},
    }
    got = resample(lib, data, src, **targets[clock], **options)
    np.testing.assert_array_equal(got.values[0], np.ones((3, 2), "f4"), strict=True)
    np.testing.assert_array_equal(got.values[1], np.full((3, 2), filled), strict=True)
    np.testing.assert_array_equal(got.valid, [[True] * 3, [False] * 3])
    np.testing.assert_array_equal(got.index[1], np.full(3, -1, np.int32), strict=True)


def test_one_sample(lib):
    for method, edge in itertools.product(METHODS, ["hold", "extrapolate"]):
        got = resample(lib, np.array([[7.0]]), np.array([1.0]), np.array([0.0, 1.0, 2.0]),
                       method=method, extrapolate=edge)  # fmt: skip
        np.testing.assert_array_equal(got.values, [[7.0]] * 3)
        np.testing.assert_array_equal(
            got.valid, [method == "next", True, method == "previous"], strict=True
        )


@pytest.mark.parametrize("lengths", [False, True])
def test_sizes_of_zero(lib, lengths):
    for B, S, T, D in itertools.product((0, 2), (0, 1, 2), (0, 3), (0, 3)):
        data, tgt = np.ones((B, S, D), "f4"), zeros((B, T))
        src = np.tile(np.arange(float(S)), (B, 1))
        options = {"lengths": np.full(B, S)} if lengths else {}
        if B and T and S == 0 and not lengths:
            with pytest.raises(ValueError, match=r"data has shape .*lengths="):
                values(lib, data, src, tgt)
        else:
            expected = oracle.resample(data, src, tgt, **options)
            assert_same(resample(lib, data, src, tgt, **options), expected)


def test_an_empty_batch_makes_an_empty_grid(lib):
    got = resample(lib, np.ones((0, 3, 2)), np.ones((0, 3)), hz=10.0)
    assert got.values.shape == (0, 0, 2)
    assert got.times.shape == (0, 0)


# ------------------------------------------------------------------------------- uniform clocks


def test_the_grid_is_never_accumulated(lib):
    """30 Hz over eight hours, in ns: each point as exact arithmetic rounds it."""
    num = 8 * 3600 * 30
    src = EPOCH + np.array([0, 10**14])
    got = resample(lib, np.zeros(2), src, hz=30.0, num=num)
    expected = [EPOCH + round(Fraction(k * 10**9, 30)) for k in range(num)]
    np.testing.assert_array_equal(got.times, np.array(expected), strict=True)


@pytest.mark.parametrize("clock", ["float32", "float64", "int64"])
def test_a_grid_is_the_times_it_returns(lib, clock):
    unit = {"time_unit": "ms"}
    data = rng(0).standard_normal((2, 50, 3)).astype("f4")
    src = np.cumsum(rng(1).integers(1, 30, (2, 50)), axis=1).astype(clock)
    for grid in ({"hz": 60}, {"hz": 29.97, "num": 9}, {"hz": 100.0, "t_start": 4, "num": 20}):
        made = resample(lib, data, src, **grid, **unit, latency=0.004)
        assert_same(resample(lib, data, src, made.times, **unit, latency=0.004), made)
        assert_same(made, oracle.resample(data, src, **grid, **unit, latency=0.004))


def test_num_reaches_the_last_sample_of_the_longest_row(lib):
    src = np.array([[0.0, 0.5, 1.0], [5.0, 5.5, 7.5]])
    for hz, expected in ((10.0, 26), (3.0, 8), (1e-3, 1)):
        assert values(lib, np.zeros((2, 3)), src, hz=hz).shape == (2, expected)
    assert values(lib, np.zeros((2, 3)), src, hz=10.0, lengths=[3, 2]).shape == (2, 11)
    assert values(lib, np.zeros((2, 3)), src, hz=10.0, lengths=[0, 0]).shape == (2, 0)
    assert values(lib, np.zeros((2, 3)), src, hz=10.0, t_start=7.5).shape == (2, 1)
    assert values(lib, np.zeros((2, 3)), src, hz=10.0, t_start=8.0).shape == (2, 0)
    assert values(lib, np.zeros((2, 3)), src, hz=10.0, latency=np.array([1.0, 2.0])).shape[1] == 26
    # 0.1 is more than a tenth: the last point must not be lost to rounding.
    assert values(lib, np.zeros((2, 3)), src * 0.1, hz=100.0).shape == (2, 26)
    shuffled = src[:, [2, 0, 1]]
    got = values(lib, np.zeros((2, 3)), shuffled, hz=10.0, assume_sorted=False)
    assert got.shape == (2, 26)
    padded = np.array([[0.0, 1.0, np.nan], [0.0, np.nan, np.nan]])
    assert values(lib, np.zeros((2, 3)), padded, hz=10.0).shape == (2, 11)
    packed = values(lib, np.zeros(6), src.ravel(), hz=10.0, offsets=[0, 3, 6])
    assert packed.shape == (2, 26)


def test_a_numpy_integer_is_a_num(lib):
    assert values(lib, np.zeros(2), np.arange(2.0), hz=1.0, num=np.int64(5)).shape == (5,)


@pytest.mark.parametrize("clock", ["float32", "float64", "int64", "datetime64[us]"])
@pytest.mark.parametrize("src_hz", [50.0, 30.0, 1000 / 7])
def test_a_uniform_clock_is_its_stamps(lib, clock, src_hz):
    """Also where guess and stamp disagree by a rounding: at the samples and right beside them."""
    skip_unless_it_has(lib, clock)
    scale = 10**6
    unit = {} if clock.startswith("datetime") else {"time_unit": "us"}
    start, S = 1_000_000, 40
    points = np.array([start + k * scale / src_hz for k in range(S)])
    if not clock.startswith("float"):
        points = np.array([start + round(Fraction(k * scale) / Fraction(src_hz)) for k in range(S)])
    src = points.astype("i8" if clock.startswith("datetime") else clock).astype(clock)
    beside = np.spacing(src) if clock.startswith("float") else np.ones(S, "i8")
    if clock.startswith("datetime"):
        beside = beside.view("timedelta64[us]")
    tgt = np.stack([np.concatenate([src - beside, src, src + beside]).astype(src.dtype)])
    data = rng(7).standard_normal((1, S, 2)).astype("f4")
    for method in METHODS:
        options = {"method": method, "latency": 0.02, "max_gap": 1 / 40, **unit}
        expected = resample(lib, data, src[None], tgt, **options)
        got = resample(lib, data, None, tgt, src_hz=src_hz, src_start=start, **options)
        assert_same(got, expected)
        assert_same(got, oracle.resample(data, src[None], tgt, **options))


def test_both_clocks_uniform(lib):
    got = resample(lib, np.arange(10.0), src_hz=10, hz=20)
    np.testing.assert_array_equal(got.times, np.arange(19) / 20, strict=True)
    np.testing.assert_allclose(got.values, np.arange(19) / 2, rtol=1e-14)
    late = resample(lib, np.arange(4.0), src_hz=1, src_start=100, hz=1, t_start=101, num=2)
    np.testing.assert_array_equal(late.values, [1.0, 2.0])
    rows = resample(lib, np.ones((2, 4, 3)), src_hz=1, hz=1, lengths=[4, 2], num=3)
    np.testing.assert_array_equal(rows.valid, [[True] * 3, [True, True, False]])


# ------------------------------------------------------------------------------- units


@pytest.mark.parametrize(("unit", "ticks"), oracle.UNITS.items())
@pytest.mark.parametrize("clock", ["int32", "int64", "float64"])
def test_durations_are_seconds_whatever_the_unit(lib, unit, ticks, clock):
    src, tgt = np.array([0, ticks], clock), np.array([2 * ticks], clock)
    for tolerance, ok in ((1.0, True), (1 - 1 / ticks if ticks > 1 else 0.0, False)):
        got = resample(lib, np.zeros(2), src, tgt, tolerance=tolerance, time_unit=unit)
        assert got.valid[0] == ok
    late = resample(lib, np.array([0.0, 1.0]), src, src, latency=-1.0, time_unit=unit)
    np.testing.assert_array_equal(late.values, [0.0, 0.0])
    grid = resample(lib, np.zeros(2), src, hz=1.0, time_unit=unit)
    np.testing.assert_array_equal(grid.times, src, strict=True)


def test_integer_clocks_are_nanoseconds(lib):
    src, tgt = np.array([0, 100]), np.array([110])
    for tolerance, ok in ((10e-9, True), (9e-9, False)):
        assert resample(lib, np.zeros(2), src, tgt, tolerance=tolerance).valid[0] == ok


def test_durations_round_half_to_even(lib):
    src = np.array([0, 100])
    for tolerance, ticks in ((0.5, 0), (1.5, 2), (2.5, 2), (2.51, 3)):
        got = resample(lib, np.zeros(2), src, 100 + np.arange(1, 5), tolerance=tolerance,
                       time_unit="s")  # fmt: skip
        assert got.valid.sum() == ticks
    for latency in (0.5, 1.5, 2.5, -0.5, -1.5, -2.5):
        for late in (latency, np.array([latency]), np.array([latency], "f4")):
            got = resample(
                lib, np.zeros((1, 2)), src[None], hz=1, num=1, latency=late, time_unit="s"
            )
            assert got.times[0, 0] == -round(latency)


@pytest.mark.parametrize("seconds", [np.int32(3), np.int64(3), np.float16(3), np.float32(3)])
def test_durations_may_be_numpy_numbers(lib, seconds):
    """Ticks are counted in Python numbers: 3 s are more ns than int32 and float16 hold."""
    src, tgt = np.array([0, 10**9]), 10**9 * np.array([4, 5])
    got = resample(lib, np.zeros(2), src, tgt, tolerance=seconds)
    np.testing.assert_array_equal(got.valid, [True, False])
    got = resample(lib, np.zeros(2), src, hz=1, num=1, latency=seconds)
    assert got.times[0] == -3 * 10**9


def test_a_duration_longer_than_the_clock_is_unlimited(lib):
    src, tgt = np.array([0, 10**9]), np.array([2 * 10**9])
    got = resample(lib, np.zeros(2), src, tgt, tolerance=1e12, max_gap=1e300)
    assert got.valid.all()


def test_latency_per_row(lib):
    src = np.tile(np.arange(4.0), (3, 1))
    data = np.tile(np.arange(4.0), (3, 1))
    for latency in (np.array([0.0, 0.5, -0.25]), np.array([0.0, 0.5, -0.25], "f4")):
        got = values(lib, data, src, np.array([1.0]), latency=latency)
        np.testing.assert_array_equal(got, [[1.0], [1.5], [0.75]])
    got = values(lib, data, src, np.array([1.0]), latency=[0.0, 0.5, -0.25])
    np.testing.assert_array_equal(got, [[1.0], [1.5], [0.75]])


# ------------------------------------------------------------------------------- layouts


@pytest.mark.parametrize(
    "features", [(), (1,), (3,), (7,), (16,), (33,), (4, 5, 3), (8, 8, 2)], ids=str
)
def test_every_layout_is_the_batch_of_its_rows(lib, features):
    B, S, T = 3, 6, 9
    data = rng(0).standard_normal((B, S, *features)).astype("f4")
    src, tgt = np.sort(rng(1).random((B, S)), axis=1), rng(2).random((B, T)) * 1.2 - 0.1
    whole = resample(lib, data, src, tgt)
    assert_same(whole, oracle.resample(data, src, tgt))
    if features:
        shared = resample(lib, data, src[0], tgt[0])
        rows = np.broadcast_to(src[0], src.shape), np.broadcast_to(tgt[0], tgt.shape)
        assert_same(shared, oracle.resample(data, *rows))
    for b in range(B):
        row = [x[b] for x in whole]
        assert_same(resample(lib, data[b], src[b], tgt[b]), row)
        one = resample(lib, data[b : b + 1], src[b : b + 1], tgt[b : b + 1])
        assert_same([x[0] for x in one], row)


def test_a_batch_of_one_is_broadcast(lib):
    data = rng(0).standard_normal((3, 6, 2))
    src, tgt = np.sort(rng(1).random((3, 6)), axis=1), rng(2).random((3, 4))
    for one in itertools.product((False, True), repeat=3):
        x = [v[:1] if single else v for v, single in zip((data, src, tgt), one, strict=True)]
        B = 1 if all(one) else 3
        full = [np.broadcast_to(v, (B, *v.shape[1:])) for v in x]
        assert_same(resample(lib, *x), oracle.resample(*full))
    assert values(lib, data[:1], src[0], tgt[:, :2]).shape == (3, 2, 2)
    assert values(lib, data[0], src[0], tgt).shape == (3, 4, 2)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "uint8"])
@pytest.mark.parametrize("width", [4, 8, 16, 33])
def test_misaligned_views(lib, dtype, width):
    """At 16 bytes a load, a view that starts elsewhere would fault or be wrong."""
    B, S, T = 2, 5, 6
    flat = rng(0).integers(0, 9, B * S * width + 17).astype(dtype_of(dtype))
    src, tgt = np.tile(np.arange(S), (B, 1)), rng(1).integers(-1, 6, (B, T))
    moved = lib.array(flat)
    for shift in (0, 1, 2, 5):
        x = moved[shift : shift + B * S * width].reshape(B, S, width)
        expected = flat[shift : shift + B * S * width].reshape(B, S, width)
        got = rc.resample_trajectories(x, lib.array(src), lib.array(tgt), method="nearest",
                                       time_unit="s")  # fmt: skip
        want = oracle.resample(expected, src, tgt, method="nearest", time_unit="s")
        assert_same_bits(lib.numpy(got), want.values)


def test_strided_arguments(lib):
    data = rng(0).standard_normal((4, 12, 6)).astype("f4")
    src, tgt = np.sort(rng(1).random((4, 12)), axis=1), rng(2).random((4, 10))
    x, s, t = map(lib.array, (data, src, tgt))
    views = [
        lambda x, s, t: (x[::2], s[::2], t[::2]),
        lambda x, s, t: (x[:, 1::2], s[:, 1::2], t[:, ::3]),
        lambda x, s, t: (x[..., 1:4], s, t),
        lambda x, s, t: (x[..., ::2], s, t),
        lambda x, s, t: (x[1], s[1], t[1]),
        lambda x, s, t: (x[:, :, 2], s, t),
    ]
    if lib.name != "torch":
        views.append(lambda x, s, t: (x[::-1], s[::-1], t[::-1, ::-1]))
        views.append(lambda x, s, t: (x[:, ::-1], -s[:, ::-1], -t))
        views.append(lambda x, s, t: (x[..., ::-1], s, t))
    for view in views:
        got = rc.resample_trajectories(*view(x, s, t), **EVERYTHING)
        plain = resample(lib, *[np.ascontiguousarray(v) for v in view(data, src, tgt)])
        assert_same([lib.numpy(v) for v in got], plain)


def test_columns_in_the_other_order(lib):
    """A transposed time axis is a stride like any other."""
    data = rng(0).standard_normal((6, 4, 3)).astype("f4")
    src, tgt = np.sort(rng(1).random((6, 4)), axis=0), rng(2).random((5, 4))
    flip = {"torch": lambda x: x.transpose(0, 1)}.get(lib.name, lambda x: x.swapaxes(0, 1))
    x, s, t = (flip(lib.array(v)) for v in (data, src, tgt))
    got = rc.resample_trajectories(x, s, t, **EVERYTHING)
    expected = oracle.resample(*[v.swapaxes(0, 1) for v in (data, src, tgt)])
    assert_same([lib.numpy(v) for v in got], expected)


def test_expanded_arguments(lib):
    def expand(x, *shape):
        if lib.name == "torch":
            return lib.array(x).expand(*shape)
        if lib.name == "jax":
            return lib.array(np.broadcast_to(x, shape))
        import cupy

        module = cupy if lib.name == "cupy" else np
        return module.broadcast_to(lib.array(x), shape)

    data = rng(0).standard_normal((1, 6, 1)).astype("f4")
    src, tgt = np.sort(rng(1).random((1, 6)), axis=1), rng(2).random((1, 5))
    got = rc.resample_trajectories(
        expand(data, 4, 6, 3), expand(src, 4, 6), expand(tgt, 4, 5), **EVERYTHING
    )
    full = np.broadcast_to(data, (4, 6, 3)), np.tile(src, (4, 1)), np.tile(tgt, (4, 1))
    assert_same([lib.numpy(v) for v in got], oracle.resample(*full))
    still = rc.resample_trajectories(
        expand(data[:, :1], 1, 6, 1), expand(src[:, :1], 1, 6), expand(tgt[:, :1], 1, 7)
    )
    np.testing.assert_array_equal(lib.numpy(still), np.full((1, 7, 1), data[0, 0, 0]))


def test_unaligned_memory_is_read_and_written():
    """NumPy alone allows an address that is no multiple of the element's size."""
    record = np.zeros(6, [("pad", "u1"), ("x", "f4"), ("t", "f8")])
    record["x"], record["t"] = np.arange(6), np.arange(6)
    expected = rc.resample_trajectories(
        record["x"].copy(), record["t"].copy(), np.array([0.5, 4.25])
    )
    got = rc.resample_trajectories(record["x"], record["t"], np.array([0.5, 4.25]))
    np.testing.assert_array_equal(got, expected, strict=True)
    out = np.zeros(2, [("pad", "u1"), ("y", "f4")])["y"]
    assert not out.flags.aligned
    try:
        rc.resample_trajectories(record["x"], record["t"], np.array([0.5, 4.25]), out=out)
    except (ValueError, TypeError) as e:
        assert "out" in str(e)  # noqa: PT017
    else:
        np.testing.assert_array_equal(out, expected)


@settings(max_examples=25)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=4), st.sampled_from(METHODS), st.booleans())
def test_packed_is_padded_is_a_loop(lib, lengths, method, in_order):
    B, S, N = len(lengths), 6, sum(lengths)
    random = rng(N)
    data, tgt = random.standard_normal((N, 3)).astype("f4"), random.integers(-3, 40, (B, 5))
    offsets = np.cumsum([0, *lengths])
    stamps = [random.integers(0, 30, n) for n in lengths]
    if in_order:
        stamps = [np.sort(row) for row in stamps]
    padded, src = np.full((B, S, 3), np.nan, "f4"), np.full((B, S), -99)
    for b, n in enumerate(lengths):
        padded[b, :n] = data[offsets[b] : offsets[b + 1]]
        src[b, :n] = stamps[b]
    options = {"method": method, "assume_sorted": in_order, "tolerance": 2, "max_gap": 9}
    options["time_unit"] = "s"
    for dtype in ("int32", "int64"):
        packed = resample(
            lib, data, np.concatenate(stamps), tgt, offsets=offsets.astype(dtype), **options
        )
        batch = resample(lib, padded, src, tgt, lengths=np.array(lengths, dtype), **options)
        assert_same(packed, batch)
    for b, n in enumerate(lengths):
        if n == 0:
            assert not packed.valid[b].any()
            continue
        row = resample(lib, padded[b, :n], src[b, :n], tgt[b], **options)
        assert_same(row, [x[b] for x in packed])


def test_packed_grid_and_latency(lib):
    data, src = np.arange(5.0), np.array([10.0, 11.0, 12.0, 20.0, 21.0])
    got = resample(
        lib, data, src, hz=1.0, offsets=[0, 3, 5], latency=[0.0, 0.5], tgt_lengths=[3, 2]
    )
    np.testing.assert_array_equal(got.values, [[0, 1, 2], [3, 4, 0]])
    np.testing.assert_array_equal(got.times[:, :2], [[10, 11], [19.5, 20.5]])
    np.testing.assert_array_equal(got.index, np.array([[0, 1, 2], [0, 1, -1]], np.int32))
    uniform = resample(lib, data, hz=1.0, src_hz=1.0, offsets=[0, 3, 5], num=3)
    np.testing.assert_array_equal(uniform.values, [[0, 1, 2], [3, 4, 4]])


def test_two_axes_and_a_shared_clock_are_one_trajectory(lib):
    data = rng(0).standard_normal((4, 3))
    assert values(lib, data, np.arange(4.0), np.zeros(2)).shape == (2, 3)
    assert values(lib, data, np.zeros((4, 3)), np.zeros(2)).shape == (4, 2)
    images = rng(0).standard_normal((4, 3, 2))
    assert values(lib, images, np.arange(4.0), np.zeros(5)).shape == (5, 3, 2)
    assert values(lib, images, np.arange(3.0), np.zeros(5)).shape == (4, 5, 2)


# ------------------------------------------------------------------------------- out, order, check


def test_out_is_written_and_returned(lib):
    data = rng(0).standard_normal((2, 6, 4)).astype("f4")
    src, tgt = np.sort(rng(1).random((2, 6)), axis=1), rng(2).random((2, 5))
    if lib.name == "jax":
        with pytest.raises(TypeError, match="out must be left out"):
            values(lib, data, src, tgt, out=np.zeros((2, 5, 4), "f4"))
        return
    expected = oracle.resample(data, src, tgt)
    for view in (
        lambda x: x[:, :5, :4],
        lambda x: x[1:3, 1:11:2, 1:5],
        lambda x: x[::2, 3:8, 3:7],
        lambda x: x[2:, 2:7, -4:],
    ):
        whole = lib.array(np.full((4, 12, 9), 77, "f4"))
        out = view(whole)[:2]
        args = [lib.array(v) for v in (data, src, tgt)]
        got = rc.resample_trajectories(*args, out=out, return_valid=True)
        assert got.values is out
        assert_same_bits(lib.numpy(out), expected.values)
        np.testing.assert_array_equal(lib.numpy(got.valid), expected.valid, strict=True)
        untouched = np.full((4, 12, 9), 77, "f4")
        view(untouched)[:2] = expected.values
        np.testing.assert_array_equal(lib.numpy(whole), untouched)


def test_out_names_the_dtype(lib):
    if lib.name == "jax":
        pytest.skip("JAX arrays cannot be written to")
    out = lib.array(np.zeros(2, "f2"))
    args = [lib.array(x) for x in (np.array([1, 2], "u1"), np.arange(2.0), np.array([0.5, 1.0]))]
    assert rc.resample_trajectories(*args, out=out) is out
    np.testing.assert_array_equal(lib.numpy(out), np.array([1.5, 2.0], "f2"), strict=True)


def test_out_runs_backward():
    out = np.zeros(6, "f4")
    rc.resample_trajectories(
        np.arange(3, dtype="f4"), np.arange(3.0), np.arange(3.0), out=out[::-2]
    )
    np.testing.assert_array_equal(out, [0, 2, 0, 1, 0, 0])


@pytest.mark.parametrize("kind", [Kind("float32", "float32", "float64", "float64"),
                                  Kind("float32", "float32", "int64", "int64")])  # fmt: skip
@settings(max_examples=25)
@given(st.data())
def test_sorting_is_stable_and_index_is_the_original_place(lib, kind, data):
    S = data.draw(st.sampled_from([1, 7, 40]))
    stamps = np.array(data.draw(st.lists(st.integers(0, 9), min_size=S, max_size=S)), float)
    if kind.src == "float64":
        stamps[sorted(data.draw(st.sets(st.integers(0, S - 1))))] = np.nan
    src, tgt = to_clock(stamps, kind.src), np.arange(-1, 11).astype(kind.tgt)
    x = rng(S).standard_normal((S, 2)).astype("f4")
    order = np.argsort(np.where(np.isnan(stamps), np.inf, stamps), kind="stable")
    for method in METHODS:
        options = {"method": method, "time_unit": "s"}
        sorted_first = resample(lib, x[order], src[order], tgt, **options)
        got = resample(lib, x, src, tgt, assume_sorted=False, **options)
        used = sorted_first.index >= 0
        index = sorted_first.index.copy()
        index[used] = order[index[used]]
        assert_same(got, sorted_first._replace(index=index))


def test_unsorted_stamps_give_some_sample_of_the_row(lib):
    S, B = 50, 4
    data = np.arange(B * S, dtype="f4").reshape(B, S)
    for seed in range(5):
        src, tgt = rng(seed).random((B, S)), rng(seed + 9).random((B, 80)) * 1.4 - 0.2
        src[rng(seed).random((B, S)) < 0.1 * seed] = np.nan
        for method in METHODS:
            got = resample(lib, data, src, tgt, method=method)
            rows = np.arange(B)[:, None] * S
            if method == "nearest":
                held = got.index >= 0
                picked = np.broadcast_to(rows, got.index.shape)[held] + got.index[held]
                np.testing.assert_array_equal(got.values[held], picked.astype("f4"))
            assert ((got.index >= -1) & (got.index < S)).all()
        for extrapolate in ("hold", "extrapolate", "nan"):
            values(lib, data, src, hz=40.0, num=60, extrapolate=extrapolate)


@pytest.mark.parametrize(
    ("src", "message"),
    [
        ([[0, 1, 2, 3], [0, 2, 2, 1]], "sample 3 of row 1"),
        ([[0, 5, 2, 3], [0, 2, 3, 1]], "sample 2 of row 0"),
        ([[0, 1, 2, 3], [0, np.nan, 2, 3]], "sample [12] of row 1"),
        ([[np.nan, 1, 2, 3], [0, 1, 2, 3]], "sample [01] of row 0"),
    ],
)
def test_check_names_row_and_sample(lib, src, message):
    src = np.array(src, float)
    with pytest.raises(ValueError, match=f"src_times.*{message}"):
        values(lib, np.zeros((2, 4)), src, np.zeros(2), check=True)
    values(lib, np.zeros((2, 4)), src, np.zeros(2), check=True, assume_sorted=False)
    values(lib, np.zeros((2, 4)), src, np.zeros(2))


def test_check_passes_what_is_in_order(lib):
    src = np.array([[0, 1, 1, np.nan], [5, np.nan, np.nan, np.nan], [np.nan] * 4])
    data, tgt = rng(0).standard_normal((3, 4)), rng(1).random((3, 5)) * 6
    assert_same(resample(lib, data, src, tgt, check=True), resample(lib, data, src, tgt))
    shorter = np.array([[0, 1, 0, 0]], float)
    values(lib, data[:1], shorter, tgt, check=True, lengths=[2, 2, 2])
    packed = values(lib, np.zeros(4), np.array([5.0, 6.0, 1.0, 2.0]), tgt[:2], check=True,
                    offsets=[0, 2, 4])  # fmt: skip
    assert packed.shape == (2, 5)
    with pytest.raises(ValueError, match=r"src_times.*sample 1 of row 1"):
        values(lib, np.zeros(4), np.array([5.0, 6.0, 2.0, 1.0]), tgt[:2], check=True,
               offsets=[0, 2, 4])  # fmt: skip


# ------------------------------------------------------------------------------- other libraries


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_agrees_with_numpy_interp(lib, dtype):
    """Which divides by the gap first. Both err by a few roundings of the largest sample."""
    src, tgt = np.sort(rng(0).random(200)), rng(1).random(1000) * 1.2 - 0.1
    data = rng(2).standard_normal(200).astype(dtype)
    expected = np.interp(tgt, src, data.astype("f8"))
    atol = 4 * np.finfo(dtype).eps * np.abs(data).max()
    np.testing.assert_allclose(values(lib, data, src, tgt), expected, rtol=0, atol=atol)


@pytest.mark.parametrize("method", METHODS)
def test_agrees_with_scipy(lib, method):
    interpolate = pytest.importorskip("scipy.interpolate")
    src = np.sort(rng(0).random(200))
    tgt = np.concatenate([src, src[0] + rng(1).random(1000) * (src[-1] - src[0])])
    data = rng(2).standard_normal((200, 3))
    expected = interpolate.interp1d(src, data, method, axis=0)(tgt)
    got = values(lib, data, src, tgt, method=method)
    atol = 4 * np.finfo("f8").eps * np.abs(data).max() if method == "linear" else 0
    np.testing.assert_allclose(got, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("data_dtype", ["float32", "float64"])
def test_random_floats_equal_the_definition(lib, data_dtype):
    src, tgt = np.sort(rng(0).random((3, 50)), axis=1), rng(1).random((3, 70)) * 1.2 - 0.1
    data = rng(2).standard_normal((3, 50, 4)).astype(data_dtype)
    for method, edge in itertools.product(METHODS, ["hold", "extrapolate", "nan"]):
        options = {"method": method, "extrapolate": edge, "tolerance": 0.04, "max_gap": 0.05}
        expected = oracle.resample(data, src, tgt, **options)
        assert_same(resample(lib, data, src, tgt, **options), expected)


# ------------------------------------------------------------------------------- calls


def test_changing_numbers_do_not_replan(lib):
    if lib.name == "jax":
        pytest.skip("JAX keeps its own plans")
    cache = Op.all["resample_trajectories"].cache
    data, src = np.array([[0.0], [10.0], [40.0]], "f4"), np.array([0.0, 1.0, 4.0])
    tgt = np.array([-1.0, 0.5, 2.0, 9.0])
    x, s, t = map(lib.array, (data, src, tgt))
    sizes, results = [], []
    for k in range(1, 5):
        options = {"latency": k / 8, "tolerance": k / 2, "max_gap": k - 0.5, "fill_value": k,
                   "extrapolate": (k + 0.25, -k)}  # fmt: skip
        got = rc.resample_trajectories(x, s, t, **options, **EVERYTHING)
        grid = rc.resample_trajectories(x, None, None, src_hz=k, src_start=k, hz=k + 1, t_start=k,
                                        num=3, **EVERYTHING)  # fmt: skip
        sizes.append(len(cache))
        expected = oracle.resample(data[None], src[None], tgt[None], **options)
        assert_same(map(lib.numpy, got), [v[0] for v in expected])
        expected = oracle.resample(data[None], src_hz=k, src_start=k, hz=k + 1, t_start=k, num=3)
        assert_same(map(lib.numpy, grid), [v[0] for v in expected])
        results.append(lib.numpy(got.values).tobytes() + lib.numpy(grid.values).tobytes())
    assert len(set(sizes)) == 1
    assert len(set(results)) == 4


def test_an_int_and_a_float_are_the_same_number(lib):
    """A plan for one must not read the bits of the other."""
    data, src, tgt = np.array([1.0, 2.0]), np.array([0, 10]), np.array([12, 14])
    for pair in ((2, 2.0), (2.0, 2), (np.float32(2), np.int64(2))):
        for number in pair:
            options = {"tolerance": number, "latency": number, "fill_value": number,
                       "time_unit": "s"}  # fmt: skip
            got = resample(lib, data, src, tgt, **options)
            expected = oracle.resample(data[None], src[None], tgt[None], **{
                k: v if k == "time_unit" else float(v) for k, v in options.items()
            })  # fmt: skip
            assert_same(got, [v[0] for v in expected])


def test_the_type_of_the_result(lib):
    x = lib.array(np.zeros((2, 3), "f4"))
    t = lib.array(np.arange(2.0))
    plain = rc.resample_trajectories(x, t, t)
    assert type(plain) is type(x)
    fields = {
        ("values", "valid"): {"return_valid": True},
        ("values", "index", "weight"): {"return_index": True},
        ("values", "times"): {"return_times": True},
        ("values", "valid", "index", "weight", "times"): EVERYTHING,
    }
    for names, options in fields.items():
        result = rc.resample_trajectories(x, t, t, **options)
        assert result._fields == names
        assert all(type(part) is type(x) for part in result)
        np.testing.assert_array_equal(lib.numpy(result.values), lib.numpy(plain), strict=True)
        again = pickle.loads(pickle.dumps(result))
        assert type(again) is type(result)
        assert again._fields == names
        for a, b in zip(again, result, strict=True):
            np.testing.assert_array_equal(lib.numpy(a), lib.numpy(b), strict=True)


def test_calls_repeat_to_the_bit_and_leave_their_arguments_alone(lib):
    data = rng(0).standard_normal((3, 30, 4)).astype("f4")
    src, tgt = rng(1).random((3, 30)), rng(2).random((3, 40))
    args = [lib.array(v) for v in (data, src, tgt)]
    results = [
        [lib.numpy(v).tobytes() for v in
         rc.resample_trajectories(*args, assume_sorted=False, **EVERYTHING)]
        for _ in range(3)
    ]  # fmt: skip
    assert results[0] == results[1] == results[2]
    for x, original in zip(args, (data, src, tgt), strict=True):
        np.testing.assert_array_equal(lib.numpy(x), original, strict=True)


def test_the_backend_where_the_arrays_lie(lib):
    data, t = np.array([0.0, 1.0], "f4"), np.arange(2.0)
    for backend in ("auto", "numba"):
        np.testing.assert_array_equal(values(lib, data, t, t[::-1].copy(), backend=backend), [1, 0])
    for backend, message in (("pytorch", "backend is 'pytorch'.*'numba'"),
                             ("gpu", "backend is 'gpu'.*'auto', 'cuda', 'numba'")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            values(lib, data, t, t, backend=backend)


def test_any_producer_of_dlpack():
    class Producer:
        def __init__(self, x):
            self.x, self.shape, self.dtype = x, x.shape, x.dtype

        def __dlpack__(self, **options):
            return self.x.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.x.__dlpack_device__()

    data, src, tgt = np.array([0.0, 1.0], "f4"), np.arange(2.0), np.array([0.5])
    got = rc.resample_trajectories(*map(Producer, (data, src, tgt)), latency=Producer(np.zeros(1)))
    np.testing.assert_array_equal(got, np.array([[0.5]], "f4"))


# ------------------------------------------------------------------------------- errors

x234, s24, t25 = zeros((2, 4, 3), "f4"), zeros((2, 4)), zeros((2, 5))
i24 = zeros((2, 4), "i8")
bytes243 = zeros((2, 4, 3), "u1")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"data": [0.0]}, TypeError, "data must be an array, got list"),
        ({"data": None}, TypeError, "data must be an array, got NoneType"),
        ({"data": zeros(())}, ValueError, r"data has shape \(\)"),
        ({"data": zeros((2, 4), "c8")}, TypeError, "data has dtype complex64"),
        ({"data": zeros((2, 4), ">f4")}, TypeError, "byte order"),
        ({"src_times": s24.astype("f2")}, TypeError, "src_times has dtype float16"),
        ({"tgt_times": t25.astype("i2")}, TypeError, "tgt_times has dtype int16"),
        ({"tgt_times": t25.astype(bool)}, TypeError, "tgt_times has dtype bool"),
        ({"tgt_times": t25.astype("i8")}, TypeError, r"src_times.*tgt_times.*kinds of clock"),
        (
            {"src_times": s24.astype("M8[ns]"), "tgt_times": t25.astype("M8[us]")},
            TypeError,
            "src_times.*tgt_times.*kinds of clock",
        ),
        (
            {"src_times": s24.astype("M8[ns]"), "tgt_times": t25.astype("i8")},
            TypeError,
            "src_times.*tgt_times.*kinds of clock",
        ),
        (
            {"src_times": s24.astype("M8[D]"), "tgt_times": t25.astype("M8[D]")},
            ValueError,
            "unit of the stamps is 'D'",
        ),
        ({"src_times": zeros((2, 4, 1))}, ValueError, r"src_times has shape \(2, 4, 1\)"),
        ({"src_times": zeros(())}, ValueError, r"src_times has shape \(\)"),
        ({"tgt_times": zeros((1, 2, 5))}, ValueError, r"tgt_times has shape \(1, 2, 5\)"),
        (
            {"src_times": zeros((2, 3))},
            ValueError,
            r"src_times has shape \(2, 3\), expected 4 .*\(2, 4, 3\)",
        ),
        (
            {"src_times": zeros((3, 4))},
            ValueError,
            "rows: .*data has 2.*src_times has 3|rows: .*src_times has 3.*data has 2",
        ),
        ({"tgt_times": zeros((3, 5))}, ValueError, "rows: .*tgt_times has 3"),
        (
            {"data": zeros((4, 4, 3)), "src_times": zeros(4), "tgt_times": zeros(5)},
            ValueError,
            r"data has shape \(4, 4, 3\): either",
        ),
        (
            {"method": "spline"},
            ValueError,
            "method is 'spline', expected one of 'linear', 'nearest'",
        ),
        ({"method": "cubic"}, ValueError, "method 'cubic'"),
        ({"method": None}, ValueError, "method is None"),
        ({"data": bytes243}, TypeError, "data has dtype uint8.*'linear'.*dtype="),
        ({"data": bytes243.astype(bool), "dtype": "bool"}, TypeError, "data has dtype bool"),
        ({"dtype": "int16"}, TypeError, "dtype is int16"),
        ({"data": bytes243, "dtype": "int8", "method": "nearest"}, TypeError, "dtype is int8"),
        (
            {"extrapolate": "reflect"},
            ValueError,
            "extrapolate is 'reflect', expected one of 'hold'",
        ),
        ({"extrapolate": None}, ValueError, "extrapolate is None"),
        ({"extrapolate": ("hold", "mirror")}, ValueError, "extrapolate is 'mirror'"),
        ({"extrapolate": (1, 2, 3)}, ValueError, "extrapolate"),
        ({"extrapolate": ()}, ValueError, "extrapolate"),
        ({"extrapolate": zeros(2)}, TypeError, "extrapolate is an array"),
        (
            {"data": bytes243, "method": "nearest", "extrapolate": "nan"},
            TypeError,
            "extrapolate is 'nan'.*uint8",
        ),
        (
            {"data": bytes243, "method": "nearest", "extrapolate": 300},
            ValueError,
            "extrapolate is 300.*uint8",
        ),
        ({"tolerance": -1}, ValueError, "tolerance is -1"),
        ({"tolerance": math.nan}, ValueError, "tolerance is nan"),
        ({"tolerance": "1"}, TypeError, "tolerance is '1'"),
        ({"tolerance": zeros(2)}, TypeError, "tolerance is an array"),
        ({"max_gap": -0.5}, ValueError, "max_gap is -0.5"),
        ({"max_gap": "1"}, TypeError, "max_gap is '1'"),
        ({"latency": math.inf}, ValueError, "latency is inf"),
        ({"latency": math.nan}, ValueError, "latency is nan"),
        ({"latency": "1"}, TypeError, "latency is '1'"),
        ({"latency": None}, TypeError, "latency is None"),
        ({"latency": zeros(3)}, ValueError, "latency has 3|latency has shape"),
        ({"latency": zeros((2, 1))}, ValueError, r"latency has shape \(2, 1\)"),
        ({"latency": zeros(2, "i8")}, TypeError, "latency has dtype int64"),
        ({"fill_value": "x"}, TypeError, "fill_value is 'x'"),
        ({"fill_value": zeros(2)}, TypeError, "fill_value is an array"),
        (
            {"data": bytes243, "method": "nearest", "fill_value": -1},
            ValueError,
            "fill_value is -1.*uint8",
        ),
        (
            {"data": bytes243, "method": "nearest", "fill_value": 0.5},
            ValueError,
            "fill_value is 0.5.*uint8",
        ),
        (
            {"data": bytes243, "method": "nearest", "fill_value": math.nan},
            ValueError,
            "fill_value is nan.*uint8",
        ),
        ({"lengths": zeros(3, "i8")}, ValueError, "lengths has 3|lengths has shape"),
        (
            {"lengths": zeros((2, 1), "i8")},
            ValueError,
            r"lengths has shape \(2, 1\), expected \(2,\)",
        ),
        ({"lengths": zeros(2)}, TypeError, "lengths has dtype float64"),
        ({"tgt_lengths": zeros(5, "i8")}, ValueError, "tgt_lengths has 5|tgt_lengths has shape"),
        ({"tgt_lengths": zeros(2)}, TypeError, "tgt_lengths has dtype float64"),
        (
            {"offsets": zeros(3, "i8")},
            ValueError,
            r"src_times has shape \(2, 4\), expected \(2,\) for packed",
        ),
        (
            {"data": zeros((4, 3)), "src_times": zeros(4), "offsets": zeros(3)},
            TypeError,
            "offsets has dtype float64",
        ),
        (
            {"data": zeros((4, 3)), "src_times": zeros(4), "offsets": zeros((3, 1), "i8")},
            ValueError,
            r"offsets has shape \(3, 1\)",
        ),
        (
            {"data": zeros((4, 3)), "src_times": zeros(4), "offsets": zeros(0, "i8")},
            ValueError,
            r"offsets has shape \(0,\)",
        ),
        (
            {"data": zeros((4, 3)), "src_times": zeros(4), "offsets": zeros(4, "i8")},
            ValueError,
            "rows: .*offsets has 3|rows: .*tgt_times has 2",
        ),
        (
            {
                "data": zeros((4, 3)),
                "src_times": zeros(4),
                "offsets": zeros(3, "i8"),
                "lengths": zeros(2, "i8"),
            },
            ValueError,
            "lengths.*offsets|offsets.*lengths",
        ),
        ({"src_times": None}, ValueError, "src_times or src_hz"),
        ({"src_hz": 10.0}, ValueError, "src_times or src_hz"),
        ({"src_start": 1.0}, ValueError, "src_start.*src_hz"),
        ({"tgt_times": None}, ValueError, "tgt_times or hz"),
        ({"hz": 10.0}, ValueError, "tgt_times or hz"),
        ({"num": 4}, ValueError, "num and t_start belong to hz"),
        ({"t_start": 0.0}, ValueError, "num and t_start belong to hz"),
        ({"tgt_times": None, "hz": 0, "num": 2}, ValueError, "hz is 0"),
        ({"tgt_times": None, "hz": -3.0}, ValueError, "hz is -3"),
        ({"tgt_times": None, "hz": math.inf, "num": 2}, ValueError, "hz is inf"),
        ({"tgt_times": None, "hz": math.nan, "num": 2}, ValueError, "hz is nan"),
        ({"tgt_times": None, "hz": "30", "num": 2}, TypeError, "hz is '30'"),
        ({"tgt_times": None, "hz": 1, "num": -1}, ValueError, "num is -1"),
        ({"tgt_times": None, "hz": 1, "num": 2.5}, (TypeError, ValueError), "num is 2.5"),
        ({"tgt_times": None, "hz": 1, "num": 2, "t_start": "0"}, TypeError, "t_start is '0'"),
        ({"tgt_times": None, "hz": 1, "num": 2, "t_start": t25}, TypeError, "t_start is an array"),
        (
            {"src_times": i24, "tgt_times": None, "hz": 1, "num": 2, "t_start": 0.5},
            ValueError,
            "t_start is 0.5, expected a whole number of ticks",
        ),
        (
            {"src_times": i24, "tgt_times": None, "hz": 1, "num": 2, "t_start": math.nan},
            ValueError,
            "t_start is nan",
        ),
        ({"src_times": None, "src_hz": 0}, ValueError, "src_hz is 0"),
        ({"src_times": None, "src_hz": 1, "src_start": "0"}, TypeError, "src_start is '0'"),
        ({"time_unit": "h"}, ValueError, "time_unit is 'h', expected one of 'ns'"),
        (
            {
                "src_times": s24.astype("M8[ns]"),
                "tgt_times": t25.astype("M8[ns]"),
                "time_unit": "us",
            },
            TypeError,
            "time_unit is 'us'",
        ),
        ({"out": zeros((2, 5), "f4")}, ValueError, r"out has shape \(2, 5\), expected \(2, 5, 3\)"),
        ({"out": zeros((2, 5, 3), "i4")}, TypeError, "int32"),
        (
            {"out": zeros((2, 5, 3)), "dtype": "float32"},
            TypeError,
            "out has dtype float64, expected float32",
        ),
        ({"out": zeros((2, 5, 6), "f4")[..., ::2]}, ValueError, "out has feature axes"),
        ({"out": "y"}, TypeError, "out must be an array"),
        ({"backend": "pytorch"}, ValueError, "backend is 'pytorch'.*'numba'"),
        ({"backend": None}, ValueError, "backend is None"),
    ],
)
def test_errors_name_the_argument(change, error, message):
    arguments = {"data": x234, "src_times": s24, "tgt_times": t25, **change}
    with pytest.raises(error, match=message):
        rc.resample_trajectories(**arguments)
    with pytest.raises(error, match=message):  # the failure must not have been remembered
        rc.resample_trajectories(**arguments)


@pytest.mark.parametrize("method", ["linear", "previous", "pchip", "mean"])
@pytest.mark.parametrize(
    "options",
    [
        {"lengths": [5]},
        {"latency": np.array([0.25])},
        {"offsets": [2, 7]},
        {"lengths": [5], "assume_sorted": False, "check": True},
        {"lengths": [4], "latency": np.array([1.0], "f4"), "fill_value": -1.0},
    ],
)
def test_one_row_with_numbers_of_its_own_serves_all_targets(lib, method, options):
    data, src = rng(1).standard_normal((8, 3)), np.arange(8.0)
    if "assume_sorted" in options:
        data[:5], src[:5] = data[4::-1].copy(), src[4::-1].copy()
    if "offsets" not in options:
        data, src = data[None], src[None]
    tgt = np.array([[0.0, 1.5, 3.0], [2.0, 4.25, 9.0], [-1.0, 0.5, 6.0]])
    got = [
        lib.numpy(x)
        for x in rc.resample_trajectories(
            lib.array(data), lib.array(src), lib.array(tgt), method=method, return_valid=True,
            **arrays(lib, options),
        )
    ]  # fmt: skip
    for b in range(3):
        alone = rc.resample_trajectories(
            lib.array(data), lib.array(src), lib.array(tgt[b]), method=method, return_valid=True,
            **arrays(lib, options),
        )  # fmt: skip
        for x, y in zip(got, alone, strict=True):
            assert_same_bits(x[b], lib.numpy(y)[0])


def test_one_row_of_lengths_does_not_serve_a_batch(lib):
    data, src = np.zeros((3, 8, 1)), np.zeros((3, 8))
    with pytest.raises(ValueError, match=r"lengths has shape \(1,\), expected \(3,\)"):
        values(lib, data, src, np.zeros((3, 2)), lengths=[5])


def test_without_stamps_three_axes_are_a_batch():
    video, tgt = np.arange(60.0).reshape(10, 2, 3), np.array([0.05, 0.1])
    assert rc.resample_trajectories(video, None, tgt, src_hz=10).shape == (10, 2, 3)
    one = rc.resample_trajectories(video[None], None, tgt, src_hz=10)[0]
    np.testing.assert_array_equal(
        one, rc.resample_trajectories(video, np.arange(10) / 10, tgt), strict=True
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance": -1}, "tolerance is -1"),
        ({"max_gap": -1.0}, "max_gap is -1"),
        ({"latency": math.nan}, "latency is nan"),
        ({"method": "nearest", "fill_value": 300}, "fill_value is 300.*uint8"),
        ({"method": "nearest", "extrapolate": ("hold", 300)}, "extrapolate is 300.*uint8"),
    ],
)
def test_numbers_are_checked_at_every_call(lib, options, message):
    data, t = np.arange(3, dtype="u1"), np.arange(3.0)
    good = {name: x if type(x) is str else 1 for name, x in options.items()}
    good = {**good, "extrapolate": ("hold", 1)} if "extrapolate" in options else good
    for _ in range(2):
        values(lib, data, t, t, **{"dtype": "uint8", **good})
        with pytest.raises(ValueError, match=message):
            values(lib, data, t, t, **{"dtype": "uint8", **options})


def test_a_read_only_out_is_refused():
    out = zeros((2, 5, 3), "f4")
    out.flags.writeable = False
    with pytest.raises(ValueError, match="out"):
        rc.resample_trajectories(x234 + 1, s24, t25, out=out)
    assert not out.any()


def test_a_mixture_of_frameworks_is_refused():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"one framework.*data.*numpy.*src_times.*torch"):
        rc.resample_trajectories(x234, torch.zeros((2, 4)), t25)


def test_stamps_that_require_grad_are_refused():
    torch = pytest.importorskip("torch")
    data, t = torch.zeros((2, 1)), torch.arange(2.0, requires_grad=True)
    with pytest.raises(RuntimeError, match="src_times requires grad"):
        rc.resample_trajectories(data, t, t)
    with torch.no_grad():
        rc.resample_trajectories(data, t, t)


# ------------------------------------------------------------------------------- JAX


@pytest.fixture
def jax():
    module = pytest.importorskip("jax")
    before = module.config.jax_enable_x64
    yield module
    module.config.update("jax_enable_x64", before)


def test_inside_jit(jax):
    jax.config.update("jax_enable_x64", True)
    data = rng(0).standard_normal((3, 12, 2)).astype("f4")
    src, tgt = np.sort(rng(1).random((3, 12)), axis=1), rng(2).random((3, 7)) * 1.2 - 0.1
    for method in METHODS:
        run = jax.jit(lambda x, s, t, m=method: rc.resample_trajectories(
            x, s, t, method=m, tolerance=0.03, **EVERYTHING))  # fmt: skip
        expected = oracle.resample(data, src, tgt, method=method, tolerance=0.03)
        assert_same(map(np.asarray, run(data, src, tgt)), expected)


def test_traced_numbers(jax):
    jax.config.update("jax_enable_x64", True)
    data, src, tgt = np.array([0.0, 10.0], "f4"), np.array([0.0, 1.0]), np.array([0.5, 1.5])

    @jax.jit
    def run(x, s, t, latency, fill):
        return rc.resample_trajectories(x, s, t, latency=latency, fill_value=fill)

    np.testing.assert_array_equal(run(data, src, tgt, 0.25, 7.0), np.array([7.5, 7.0], "f4"))
    np.testing.assert_array_equal(run(data, src, tgt, 0.125, -1.0), np.array([6.25, -1.0], "f4"))


def test_a_grid_inside_jit_needs_num(jax):
    jax.config.update("jax_enable_x64", True)
    data, src = np.arange(5.0), np.arange(5.0)
    run = jax.jit(lambda x, s: rc.resample_trajectories(x, s, hz=2.0, num=9, return_times=True))
    got = run(data, src)
    np.testing.assert_array_equal(got.values, np.arange(9) / 2, strict=True)
    np.testing.assert_array_equal(got.times, np.arange(9) / 2, strict=True)
    with pytest.raises(ValueError, match="num"):
        jax.jit(lambda x, s: rc.resample_trajectories(x, s, hz=2.0))(data, src)
    with pytest.raises(ValueError, match="check=True"):
        jax.jit(lambda x, s: rc.resample_trajectories(x, s, s, check=True))(data, src)


def test_vmap_is_a_loop(jax):
    jax.config.update("jax_enable_x64", True)
    data = rng(0).standard_normal((3, 12, 2)).astype("f4")
    src, tgt = np.sort(rng(1).random((3, 12)), axis=1), rng(2).random((3, 7))
    got = jax.vmap(rc.resample_trajectories)(data, src, tgt)
    assert_same_bits(np.asarray(got), oracle.resample(data, src, tgt).values)


def test_an_integer_clock_that_jax_may_have_cut(jax):
    jax.config.update("jax_enable_x64", False)
    data, t = jax.numpy.arange(3, dtype="float32"), jax.numpy.arange(3)
    with pytest.raises(TypeError, match=r"src_times.*x64"):
        rc.resample_trajectories(data, t, t)
    got = rc.resample_trajectories(data, t, t, time_unit="ms", tolerance=1e-3)
    np.testing.assert_array_equal(got, [0, 1, 2])


def test_float32_without_x64(jax):
    """Options keep their 64 bits: the operands of the callback do not pass through float32."""
    jax.config.update("jax_enable_x64", False)
    data = jax.numpy.arange(3, dtype="float32")
    t = jax.numpy.arange(3, dtype="int32")
    got = rc.resample_trajectories(data, t, t, time_unit="ns", latency=16777217e-9, **EVERYTHING)
    expected = oracle.resample(
        np.arange(3, dtype="f4")[None], np.arange(3, dtype="i4")[None],
        np.arange(3, dtype="i4")[None], latency=16777217e-9,
    )  # fmt: skip
    assert_same(map(np.asarray, got), [x[0] for x in expected])
