import importlib
import itertools
from datetime import timedelta

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robocache_cupy.asof import asof_index
from robocache_cupy.resample import resample_trajectories

DIRECTIONS = ("backward", "forward", "nearest")
KEYS = ("int32", "int64", "float32", "float64", "datetime64[ns]", "datetime64[us]")
EPOCH = 1_760_000_000_123_456_789  # float64 has steps of 256 ns there


def match(lib, src, tgt, **options):
    options = {n: lib.array(x) if isinstance(x, np.ndarray) else x for n, x in options.items()}
    return lib.numpy(asof_index(lib.array(src), lib.array(tgt), **options))


def merged(src, tgt, direction, tolerance, exact):
    """What pandas makes of sorted keys."""
    left = pandas.DataFrame({"key": tgt})
    right = pandas.DataFrame({"key": src, "index": np.arange(len(src))})
    if tolerance is not None and tgt.dtype.kind == "M":
        tolerance = pandas.Timedelta(np.timedelta64(tolerance, np.datetime_data(tgt.dtype)[0]))
    joined = pandas.merge_asof(left, right, on="key", direction=direction, tolerance=tolerance,
                               allow_exact_matches=exact)  # fmt: skip
    return joined["index"].fillna(-1).to_numpy().astype(np.int32)


def naive(src, tgt, direction, tolerance, exact):
    """By trying all pairs."""
    found = []
    for q in tgt:
        best, least = -1, np.inf
        for k, t in enumerate(src):
            if t != t or q != q or (t == q and not exact):
                continue
            if (direction == "backward" and t > q) or (direction == "forward" and t < q):
                continue
            far = abs(int(q) - int(t)) if src.dtype.kind == "i" else abs(q - t)
            if tolerance is not None and far > tolerance:
                continue
            tie_goes_to_it = t <= q and direction != "forward"
            if far < least or (far == least and tie_goes_to_it):
                best, least = k, far
        found.append(best)
    return np.array(found, np.int32)


@settings(max_examples=200)
@given(st.data())
def test_it_is_merge_asof(lib, data):
    dtype = data.draw(st.sampled_from([k for k in KEYS if k not in lib.dtypes_missing]))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    S, T = data.draw(st.sampled_from([1, 2, 9, 30])), data.draw(st.sampled_from([1, 12]))
    src = np.sort(random.integers(-9, 20, S)).astype("i8").astype(dtype)
    tgt = np.sort(random.integers(-14, 26, T)).astype("i8").astype(dtype)
    direction = data.draw(st.sampled_from(DIRECTIONS))
    exact = data.draw(st.booleans())
    tolerance = data.draw(st.sampled_from([None, 1, 3]))
    # pandas takes no tolerance of 0 without exact matches
    expected = merged(src, tgt, direction, tolerance, exact)
    got = match(lib, src, tgt, direction=direction, tolerance=tolerance, allow_exact_matches=exact)
    np.testing.assert_array_equal(got, expected, strict=True)


@settings(max_examples=100)
@given(st.data())
def test_batches_and_padding(lib, data):
    dtype = data.draw(st.sampled_from(["int32", "int64", "float32", "float64"]))
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    B, S, T = data.draw(st.sampled_from([1, 3])), data.draw(st.sampled_from([0, 1, 7])), 9
    src = np.sort(random.integers(0, 12, (B, S)), axis=1).astype(dtype)
    tgt = random.integers(-3, 16, (B, T)).astype(dtype)  # in any order
    options = {
        "direction": data.draw(st.sampled_from(DIRECTIONS)),
        "tolerance": data.draw(st.sampled_from([None, 0, 2])),
        "allow_exact_matches": data.draw(st.booleans()),
    }
    lengths = random.integers(0, S, B, endpoint=True)
    if dtype.startswith("float"):
        tgt[:, 3] = np.nan
        if data.draw(st.booleans()):
            src[np.arange(S) >= lengths[:, None]] = np.nan
            lengths[:] = S
    expected = np.stack([
        naive(src[b, : lengths[b]], tgt[b], *options.values()) for b in range(B)
    ])  # fmt: skip
    np.testing.assert_array_equal(
        match(lib, src, tgt, lengths=lengths, **options), expected, strict=True
    )
    packed = np.concatenate([src[b, : lengths[b]] for b in range(B)])
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype("i4")
    np.testing.assert_array_equal(
        match(lib, packed, tgt, offsets=offsets, **options), expected, strict=True
    )


def test_keys_and_targets_that_rows_share(lib):
    src, tgt = np.array([[0, 10, 20], [5, 6, 7]]), np.array([6, 20])
    expected = np.array([[0, 2], [1, 2]], "i4")
    np.testing.assert_array_equal(match(lib, src, tgt), expected, strict=True)
    np.testing.assert_array_equal(match(lib, src, tgt[None]), expected, strict=True)
    got = match(lib, src[1], np.array([[4], [6]]))
    np.testing.assert_array_equal(got, np.array([[-1], [1]], "i4"), strict=True)
    np.testing.assert_array_equal(match(lib, src[::-1, ::2], tgt[::-1]), [[1, 0], [1, 0]])


def test_nanoseconds_are_exact(lib):
    src = EPOCH + np.array([0, 8, 16])
    tgt = EPOCH + np.array([7, 9, 12, 20])
    assert len(set(src.astype(np.float64))) == 1
    for direction, expected in (
        ("backward", [0, 1, 1, 2]), ("forward", [1, 2, 2, -1]), ("nearest", [1, 1, 1, 2])
    ):  # fmt: skip
        np.testing.assert_array_equal(match(lib, src, tgt, direction=direction), expected)
    np.testing.assert_array_equal(match(lib, src, tgt, tolerance=4), [-1, 1, 1, 2])
    np.testing.assert_array_equal(match(lib, src, tgt, tolerance=3.5), [-1, 1, -1, -1])
    far = np.array([-(2**63) + 1, 2**62]), np.array([2**62 - 1])
    limit = 2**63 + 2**62 - 2
    np.testing.assert_array_equal(match(lib, *far, tolerance=2**63 - 1), [-1])
    np.testing.assert_array_equal(match(lib, *far, tolerance=float(limit)), [0])
    exact = np.array([0]), np.array([2**60 + 1])
    np.testing.assert_array_equal(match(lib, *exact, tolerance=2**60), [-1])
    np.testing.assert_array_equal(match(lib, *exact, tolerance=2**60 + 1), [0])


def test_the_tolerance_of_datetimes(lib):
    if lib.dtypes_missing:
        pytest.skip(f"{lib.name} has no datetime64")
    src = np.array(["2026-03-01T12:00:00", "2026-03-01T12:00:01"], "datetime64[ms]")
    tgt = src[1:] + np.timedelta64(40, "ms")
    tgt = np.append(tgt, np.datetime64("NaT", "ms"))
    for tolerance in (40, timedelta(milliseconds=40), np.timedelta64(40_999, "us")):
        np.testing.assert_array_equal(match(lib, src, tgt, tolerance=tolerance), [1, -1])
    for tolerance in (39, timedelta(microseconds=39_999), np.timedelta64(39, "ms")):
        np.testing.assert_array_equal(match(lib, src, tgt, tolerance=tolerance), [-1, -1])


def test_infinite_keys(lib):
    src = np.array([-np.inf, 0.0, np.inf, np.inf])
    tgt = np.array([-np.inf, 3.0, np.inf])
    np.testing.assert_array_equal(match(lib, src, tgt, tolerance=5), [0, 1, 3])
    np.testing.assert_array_equal(match(lib, src, tgt, direction="forward"), [0, 2, 2])


def test_it_gathers_what_previous_takes(lib):
    random = np.random.default_rng(0)
    src, tgt = np.sort(random.random((3, 400))), random.random((3, 900))
    data = random.standard_normal((3, 400, 2))
    index = match(lib, src, tgt)
    taken = np.take_along_axis(data, np.maximum(index, 0)[:, :, None].astype("i8"), axis=1)
    expected = lib.numpy(resample_trajectories(*map(lib.array, (data, src, tgt)), method="zoh"))
    np.testing.assert_array_equal(taken, expected)


def test_sizes_of_zero(lib):
    for B, S, T in itertools.product((0, 2), (0, 1), (0, 3)):
        got = match(lib, np.zeros((B, S)), np.zeros((B, T)))
        np.testing.assert_array_equal(got, np.full((B, T), S - 1, "i4"), strict=True)


@pytest.mark.parametrize("keys", [3000, 30_000], ids=["near", "too_many_between"])
@pytest.mark.parametrize("order", ["ascending", "any"])
@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64"])
def test_many_targets(lib, monkeypatch, dtype, order, keys):
    """Of which a block shares a search, and the keys that this finds."""
    monkeypatch.setattr(importlib.import_module("robocache_cupy.asof"), "PROCESSORS", 1)
    random = np.random.default_rng(keys)
    src = np.sort(random.integers(0, keys, (2, keys)), axis=1).astype(dtype)
    tgt = random.integers(-40, keys + 40, (2, 2500)).astype(dtype)
    if order == "ascending":
        tgt.sort(axis=1)
    lost = np.zeros(tgt.shape, bool)
    if dtype.startswith("float"):
        src[1, -50:] = np.nan
        lost[0, ::97] = True
        tgt[lost] = np.nan
    expected = np.stack([np.searchsorted(s, t, "right") - 1 for s, t in zip(src, tgt, strict=True)])
    expected[1] = np.minimum(expected[1], np.count_nonzero(src[1] == src[1]) - 1)
    expected[lost] = -1
    np.testing.assert_array_equal(match(lib, src, tgt), expected.astype("i4"), strict=True)
    behind = tgt - np.take_along_axis(src, np.maximum(expected, 0), 1)
    expected[behind > 1] = -1
    got = match(lib, src, tgt, tolerance=1)
    np.testing.assert_array_equal(got, expected.astype("i4"), strict=True)


@pytest.mark.parametrize("dtype", ["int64", "float32", "float64"])
def test_many_targets_at_the_ends_of_time(lib, monkeypatch, dtype):
    monkeypatch.setattr(importlib.import_module("robocache_cupy.asof"), "PROCESSORS", 1)
    src, tgt = np.arange(2000).astype(dtype), np.sort(np.arange(1100) * 2).astype(dtype)
    limits = np.iinfo("i8")
    low, high = (limits.min + 1, limits.max) if dtype == "int64" else (-np.inf, np.inf)
    src[0], src[-1], tgt[0], tgt[-3:] = low, high, low, high
    expected = np.searchsorted(src, tgt, "right") - 1
    lost = expected[:0]
    if dtype == "int64":
        lost = np.array([5, 1098])
        tgt[lost] = limits.min  # NaT
    expected[lost] = -1
    np.testing.assert_array_equal(match(lib, src, tgt), expected.astype("i4"), strict=True)
    got = match(lib, src, tgt, tolerance=0)
    expected[src[expected] != tgt] = -1
    np.testing.assert_array_equal(got, expected.astype("i4"), strict=True)


@pytest.mark.parametrize("times", ["steady", "jitter", "gap", "infinite"])
@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64"])
def test_a_guess_of_the_place_changes_nothing(lib, dtype, times):
    random = np.random.default_rng(7)
    steps = np.full((4, 500), 10.0)
    if times != "steady":
        steps += random.integers(-9, 9, steps.shape)
    if times == "gap":
        steps[:, 200] = 1e6
        steps[:, 300:400] = 0
    src = np.cumsum(steps, axis=1).astype(dtype)
    tgt = random.uniform(src[0, 0] - 20, src[0, -1] + 20, (4, 400)).astype(dtype)
    tgt[:, ::3] = src[:, random.integers(0, 500, 134)]
    if times == "infinite" and dtype.startswith("float"):
        src[:2, 0], src[1:3, -1] = -np.inf, np.inf
        tgt[:, 1], tgt[:, 2] = -np.inf, np.inf
    expected = [np.searchsorted(s, t, "right") - 1 for s, t in zip(src, tgt, strict=True)]
    np.testing.assert_array_equal(match(lib, src, tgt), np.array(expected, "i4"), strict=True)


@pytest.mark.parametrize(
    ("src", "tgt", "options", "error"),
    [
        (np.zeros(3), np.zeros(2, "i8"), {}, r"src \(float64\) and tgt \(int64\) are different"),
        (np.zeros(3, "f2"), np.zeros(2, "f2"), {}, "src has dtype float16, expected"),
        (np.zeros((1, 2, 3)), np.zeros(2), {}, r"src has shape \(1, 2, 3\), expected one or two"),
        (np.zeros((2, 3)), np.zeros((3, 2)), {}, "src has 2, tgt has 3"),
        (np.zeros((2, 3)), np.zeros(2), {"lengths": [1]}, r"lengths has shape \(1,\)"),
        (np.zeros((2, 3)), np.zeros(2), {"offsets": [0, 1]}, "expected one axis, with offsets"),
        (np.zeros(3), np.zeros(2), {"offsets": [0], "lengths": [0]}, "give one of them"),
        (np.zeros(3), np.zeros(2), {"lengths": np.zeros(1)}, "lengths has dtype float64"),
        (np.zeros(3), np.zeros(2), {"direction": "left"}, "direction is 'left', expected one of"),
        (np.zeros(3), np.zeros(2), {"tolerance": -1}, "tolerance is -1, expected 0 or more"),
        (np.zeros(3), np.zeros(2), {"tolerance": float("nan")}, "tolerance is nan"),
        (np.zeros(3), np.zeros(2), {"tolerance": [1, 2]}, r"tolerance is an array of shape \(2,\)"),
        (np.zeros(3), np.zeros(2), {"tolerance": "1s"}, "tolerance is '1s'"),
    ],
)
def test_errors_name_the_argument(src, tgt, options, error):
    with pytest.raises((TypeError, ValueError), match=error):
        asof_index(src, tgt, **options)


def test_a_duration_is_no_number_of_keys():
    with pytest.raises(TypeError, match="expected a number in the keys' unit"):
        asof_index(np.arange(3), np.arange(3), tolerance=timedelta(seconds=1))


def test_a_new_tolerance_makes_no_new_plan():
    from robocache_cupy._core.plan import Op

    op = Op.all["asof_index"]
    src, tgt = np.arange(5.0), np.array([0.75])
    first = asof_index(src, tgt, tolerance=0.5)
    plans = len(op.cache)
    assert (first[0], asof_index(src, tgt, tolerance=0.75)[0]) == (-1, 0)
    assert len(op.cache) == plans
