import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robocache_cupy._core.plan import Op
from robocache_cupy.points import farthest_point_sample

DTYPES = ("float16", "bfloat16", "float32", "float64")


def np_dtype(name):
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def sample(lib, points, num_samples, **options):
    options = {n: lib.array(x) if isinstance(x, np.ndarray) else x for n, x in options.items()}
    found = farthest_point_sample(lib.array(points), num_samples, **options)
    if isinstance(found, tuple):
        return tuple(map(lib.numpy, found))
    return lib.numpy(found)


def mean(usable):
    """In the documented order: 1024 partial sums, which are added in pairs."""
    sums = np.zeros((1024, 3))
    for i, point in enumerate(usable):
        if point is not None:
            sums[i % 1024] += point
    while len(sums) > 1:
        half = len(sums) // 2
        sums = sums[:half] + sums[half:]
    return sums[0] / sum(point is not None for point in usable)


def naive(points, K, length=None, mask=None, start="first", radius=0.0):
    """One cloud, by comparing every point with every chosen one."""
    C = np.float64 if points.dtype == np.float64 else np.float32
    p = points.astype(C)
    n = len(p) if length is None else min(max(length, 0), len(p))
    left = [i for i in range(n) if np.isfinite(p[i]).all() and (mask is None or mask[i])]
    chosen = []

    def squared(among, q):
        with np.errstate(over="ignore"):
            d = p[among] - q
            return (d[:, 0] * d[:, 0] + d[:, 1] * d[:, 1]) + d[:, 2] * d[:, 2]

    if left and K:
        if start == "centroid":
            there = set(left)
            centre = mean([p[i] if i in there else None for i in range(n)]).astype(C)
            chosen = [left[int(np.argmax(squared(left, centre)))]]
        else:
            chosen = [start if start in left else left[0]]
        left.remove(chosen[0])
    left = np.array(left, int)
    far = np.full(len(left), np.inf, C)
    while len(left) and len(chosen) < K:
        far = np.minimum(far, squared(left, p[chosen[-1]]))
        at = int(np.argmax(far))  # the first of several
        with np.errstate(over="ignore"):
            if far[at] < C(radius) * C(radius):
                break
        chosen.append(int(left[at]))
        left, far = np.delete(left, at), np.delete(far, at)
    return np.array(chosen + [-1] * (K - len(chosen)), np.int64)


@settings(max_examples=150)
@given(st.data())
def test_it_is_the_farthest_point_every_time(lib, data):
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    dtype = data.draw(st.sampled_from(DTYPES))
    B = data.draw(st.sampled_from([1, 2, 5]))
    N = data.draw(st.sampled_from([1, 2, 7, 33, 200]))
    K = data.draw(st.sampled_from([1, 3, 12, 40]))
    width = data.draw(st.sampled_from([1, 2, 30]))  # small: many equally far, and duplicates
    points = random.integers(-width, width + 1, (B, N, 3)) * 2.0 ** random.integers(-3, 3)
    points[random.random((B, N, 3)) < 0.04] = random.choice([np.nan, -np.inf, 1.0])
    points = points.astype(np_dtype(dtype))
    options = {}
    if data.draw(st.booleans()):
        options["lengths"] = random.integers(-1, N + 2, B).astype(random.choice(["i4", "i8"]))
    if data.draw(st.booleans()):
        options["mask"] = random.random((B, N)) < random.choice([0.0, 0.7])
    start = data.draw(st.sampled_from(["default", "first", "centroid", "index", "indices"]))
    starts = [start] * B
    if start == "index":
        options["start"] = int(random.integers(N))
        starts = [options["start"]] * B
    elif start == "indices":
        options["start"] = random.integers(-1, N + 1, B).astype(random.choice(["i4", "i8"]))
        starts = options["start"].tolist()
    elif start != "default":
        options["start"] = start
    radius = data.draw(st.sampled_from([None, 0, 1.0, 2.5, math.inf]))
    if radius is not None:
        options["radius"] = radius
    expected = np.stack([
        naive(
            points[b], K, options["lengths"][b] if "lengths" in options else None,
            options["mask"][b] if "mask" in options else None, starts[b], radius or 0.0,
        )
        for b in range(B)
    ])  # fmt: skip
    np.testing.assert_array_equal(sample(lib, points, K, **options), expected, strict=True)
    if B == 1:
        options = {n: x[0] if n == "mask" else x for n, x in options.items()}
        got = sample(lib, points[0], K, **options)
        np.testing.assert_array_equal(got, expected[0], strict=True)


@pytest.mark.parametrize("start", ["first", "centroid"])
@pytest.mark.parametrize(
    ("B", "N", "K", "dtype"),
    [
        (2, 300, 300, "float32"),
        (3, 2049, 50, "float16"),
        (2, 5000, 30, "float32"),
        (2, 7001, 20, "float64"),  # more than a block holds
        (1, 10_241, 40, "float32"),  # and from here on blocks share a cloud,
        (3, 20_000, 20, "bfloat16"),
        (1, 50_000, 33, "float32"),
        (1, 450_001, 4, "float32"),
        (70, 10_500, 4, "float32"),  # unless there are too many clouds
    ],
)
def test_clouds_of_all_sizes(lib, B, N, K, dtype, start):
    random = np.random.default_rng(N)
    points = random.standard_normal((B, N, 3)).astype(np_dtype(dtype))
    points[random.random((B, N)) < 0.01] = np.nan
    got = sample(lib, points, K, start=start)
    for b in range(min(B, 3)):
        np.testing.assert_array_equal(got[b], naive(points[b], K, start=start), strict=True)
    if dtype == "float32":
        again = sample(lib, points, K, start=start)  # however the blocks came together
        np.testing.assert_array_equal(got, again, strict=True)


def test_ties_go_to_the_lowest_index(lib):
    for N in (40, 3000, 20_000):
        points = np.zeros((N, 3), "f4")
        np.testing.assert_array_equal(sample(lib, points, 20), np.arange(20))
        points[[7, N // 2, N - 1]] = 1
        np.testing.assert_array_equal(sample(lib, points, 4), [0, 7, 1, 2])
        points[[5, 11, N - 3]] = [3, 0, 0], [0, 3, 0], [0, 0, -3]  # all 3 from 0
        np.testing.assert_array_equal(sample(lib, points, 4), [0, 5, 11, N - 3])


def test_no_point_comes_twice_and_none_that_may_not(lib):
    random = np.random.default_rng(1)
    points = random.integers(0, 3, (4, 60, 3)).astype("f4")  # 27 places
    points[:, 5] = np.nan
    points[:, 6, 1] = -np.inf
    lengths = np.array([60, 41, 0, 1])
    mask = random.random((4, 60)) < 0.8
    mask[3, 0] = True
    got = sample(lib, points, 70, lengths=lengths, mask=mask)
    for b in range(4):
        usable = mask[b] & np.isfinite(points[b]).all(-1) & (np.arange(60) < lengths[b])
        chosen = got[b][got[b] >= 0]
        np.testing.assert_array_equal(np.sort(chosen), np.flatnonzero(usable))
        np.testing.assert_array_equal(got[b, len(chosen) :], -1)


def test_where_it_starts(lib):
    points = np.array([[[np.nan, 0, 0], [1, 0, 0], [2, 0, 0], [-9, 0, 0], [2, 0, 0]]] * 2, "f8")
    assert sample(lib, points, 1).tolist() == [[1], [1]]
    assert sample(lib, points, 1, start="centroid").tolist() == [[3], [3]]
    assert sample(lib, points, 1, start=4).tolist() == [[4], [4]]
    assert sample(lib, points, 1, start=0).tolist() == [[1], [1]]  # is not a number
    assert sample(lib, points, 2, start=np.array([2, 3])).tolist() == [[2, 3], [3, 2]]
    assert sample(lib, points, 1, start=np.array([7, -2], "i4")).tolist() == [[1], [1]]


def test_a_mean_that_is_no_float32(lib):
    """The sum of a million ones and more is exact in float64."""
    points = np.full((5000, 3), 1 + 2.0**-20, "f4")
    points[17] = 1 - 2.0**-20
    np.testing.assert_array_equal(sample(lib, points, 1, start="centroid"), [17])


def test_the_radius(lib):
    points = np.zeros((5, 3), "f4")
    points[:, 0] = np.array([0, 0.7, 1.4, 5, 5.3], "f4")
    for dtype in ("f4", "f8"):
        p = points.astype(dtype)
        np.testing.assert_array_equal(sample(lib, p, 5, radius=0.35), [0, 4, 2, 1, -1])
        np.testing.assert_array_equal(sample(lib, p, 5, radius=1), [0, 4, 2, -1, -1])
        np.testing.assert_array_equal(sample(lib, p, 2, radius=math.inf), [0, -1])
    at = np.array([[0, 0, 0], [0.7, 0, 0]], "f4")
    assert float(at[1, 0]) < 0.7
    np.testing.assert_array_equal(sample(lib, at, 2, radius=0.7), [0, 1])  # as a float32
    above = np.nextafter(at[1, 0], np.float32(1)).item()
    np.testing.assert_array_equal(sample(lib, at, 2, radius=above), [0, -1])


def test_distances_that_overflow(lib):
    points = np.array([[0, 0, 0], [1e30, 0, 0], [-3e38, 0, 0], [3e38, 0, 0]], "f4")
    np.testing.assert_array_equal(sample(lib, points, 5), [0, 1, 2, 3, -1])


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_chosen_points_are_their_bits(lib, dtype):
    random = np.random.default_rng(2)
    points = random.standard_normal((3, 50, 3)).astype(np_dtype(dtype))
    points[:, 3] = -0.0
    lengths = np.array([50, 7, 0])
    for pad in ("zero", "repeat"):
        found = sample(lib, points, 20, lengths=lengths, return_points=True, pad=pad)
        indices, chosen = found
        np.testing.assert_array_equal(indices, sample(lib, points, 20, lengths=lengths))
        expected = np.zeros((3, 20, 3), points.dtype)
        for b, n in enumerate((20, 7, 0)):
            assert (indices[b] >= 0).sum() == n
            for k in range(20 if pad == "repeat" and n else n):
                expected[b, k] = points[b, indices[b, k % n]]
        assert chosen.dtype == points.dtype
        assert chosen.tobytes() == expected.tobytes()
    indices, chosen = sample(lib, points[0], 4, return_points=True)
    np.testing.assert_array_equal(chosen.astype("f8"), points[0][indices].astype("f8"))


def test_the_result_has_names():
    points = np.zeros((2, 3), "f4")
    assert farthest_point_sample(points, 1, return_points=True)._fields == ("indices", "points")


def test_views_are_not_copied(lib):
    random = np.random.default_rng(3)
    scans = random.standard_normal((3, 90, 5)).astype("f4")
    expected = np.stack([naive(scans[b, ::2, 1:4], 12) for b in range(3)])
    view = lib.array(scans)[:, ::2, 1:4]
    cache = Op.all["farthest_point_sample"].cache
    cache.clear()
    got = lib.numpy(farthest_point_sample(view, 12))
    np.testing.assert_array_equal(got, expected, strict=True)
    assert len(cache) == (lib.name != "jax")  # a copy would need a plan of its own


def test_views_of_any_kind():
    random = np.random.default_rng(4)
    points = random.standard_normal((4, 60, 6)).astype("f4")
    for view in (
        points[::-1, ::-3, 2:5],
        points[:, :, ::2],  # columns that lie apart
        points[:, :, 2::-1],
        points.transpose(1, 0, 2)[:, :, :3],
        np.broadcast_to(points[:1, :, :3], (3, 60, 3)),
        np.broadcast_to(points[:, :1, :3], (4, 5, 3)),
    ):
        expected = np.stack([naive(p, 9) for p in view])
        np.testing.assert_array_equal(farthest_point_sample(view, 9), expected)
    odd = np.empty(60 * 12 + 1, np.uint8)[1:].view("f4").reshape(60, 3)  # between the floats
    odd[:] = points[0, :, :3]
    np.testing.assert_array_equal(farthest_point_sample(odd, 9), naive(odd, 9))
    mask = random.random((60, 8)) < 0.6
    np.testing.assert_array_equal(
        farthest_point_sample(points[:, :, :3], 9, mask=mask.T[::2]),
        np.stack([naive(points[b, :, :3], 9, mask=mask[:, 2 * b]) for b in range(4)]),
    )
    starts = np.array([3, 0, 5, 0, 7, 0, 9, 0])[::2]
    got = farthest_point_sample(points[:, :, :3], 1, start=starts)
    np.testing.assert_array_equal(got[:, 0], starts)


@pytest.mark.parametrize("return_points", [False, True])
def test_sizes_of_zero(lib, return_points):
    for B, N, K in ((0, 5, 3), (2, 0, 3), (2, 5, 0), (0, 0, 0), (2, 0, 0)):
        points = np.ones((B, N, 3), "f4")
        for options in ({}, {"start": "centroid"}, {"start": 0}, {"lengths": np.zeros(B, int)}):
            got = sample(lib, points, K, return_points=return_points, **options)
            indices = got[0] if return_points else got
            expected = np.full((B, K), -1)
            if N and "lengths" not in options:
                expected[:] = np.arange(K)
            np.testing.assert_array_equal(indices, expected, strict=True)
            if return_points:
                values = np.broadcast_to(expected[..., None] >= 0, (B, K, 3)).astype("f4")
                np.testing.assert_array_equal(got[1], values, strict=True)


def test_lists_of_lengths():
    points = np.random.default_rng(5).standard_normal((2, 9, 3))
    got = farthest_point_sample(points, 4, lengths=[2, 9])
    expected = np.stack([naive(points[0], 4, length=2), naive(points[1], 4)])
    np.testing.assert_array_equal(got, expected)


def test_new_numbers_make_no_new_plan():
    op = Op.all["farthest_point_sample"]
    points = np.arange(12.0).reshape(4, 3)
    first = farthest_point_sample(points, 2, start=1, radius=1.0)
    plans = len(op.cache)
    again = farthest_point_sample(points, 2, start=2, radius=30.0)
    assert (first.tolist(), again.tolist()) == ([1, 3], [2, -1])
    assert len(op.cache) == plans


ONES = np.ones((2, 4, 3), "f4")


@pytest.mark.parametrize(
    ("points", "num_samples", "options", "error"),
    [
        (np.ones((2, 4, 3), int), 1, {}, "points has dtype int64, expected one of float16"),
        (np.ones((4, 3), bool), 1, {}, "points has dtype bool"),
        (np.ones((4, 2), "f4"), 1, {}, r"points has shape \(4, 2\), expected"),
        (np.ones(3, "f4"), 1, {}, r"points has shape \(3,\), expected"),
        (np.ones((1, 2, 4, 3)), 1, {}, r"points has shape \(1, 2, 4, 3\), expected"),
        (ONES, 1.5, {}, "num_samples is 1.5, expected an integer"),
        (ONES, -1, {}, "num_samples is -1, expected 0 or more"),
        (ONES, 1, {"lengths": [1, 2, 3]}, r"lengths has shape \(3,\)"),
        (ONES, 1, {"lengths": np.ones(2)}, "lengths has dtype float64"),
        (ONES, 1, {"mask": np.ones((4,), bool)}, r"mask has shape \(4,\)"),
        (ONES, 1, {"mask": np.ones((2, 4), "f4")}, "mask has dtype float32"),
        (ONES, 1, {"start": "last"}, "start is 'last', expected one of 'first', 'centroid'"),
        (ONES, 1, {"start": None}, "start is None, expected one of"),
        (ONES, 1, {"start": 4}, "start is 4, expected an index of one of the 4 points"),
        (ONES, 1, {"start": -1}, "start is -1, expected an index"),
        (ONES, 1, {"start": 1.0}, "start is 1.0, expected 'first', 'centroid' or integers"),
        (ONES, 1, {"start": np.zeros(3, int)}, r"start has shape \(3,\), expected \(2,\)"),
        (ONES, 1, {"start": np.zeros(2)}, "start has dtype float64, expected one of int32"),
        (ONES, 1, {"radius": -0.5}, "radius is -0.5, expected 0 or more"),
        (ONES, 1, {"radius": float("nan")}, "radius is nan, expected 0 or more"),
        (ONES, 1, {"radius": np.ones(2)}, r"radius is an array of shape \(2,\)"),
        (ONES, 1, {"pad": "edge", "return_points": True}, "pad is 'edge', expected one of 'zero'"),
        (ONES, 1, {"pad": "repeat"}, "pad is 'repeat', which fills points: give return_points"),
    ],
)
def test_errors_name_the_argument(points, num_samples, options, error):
    with pytest.raises((TypeError, ValueError), match=error):
        farthest_point_sample(points, num_samples, **options)


def test_it_is_fpsample():
    fpsample = pytest.importorskip("fpsample")
    points = np.random.default_rng(6).standard_normal((3000, 3)).astype("f4")
    expected = np.asarray(fpsample.fps_sampling(points, 500, start_idx=0), np.int64)
    np.testing.assert_array_equal(farthest_point_sample(points, 500), expected)
