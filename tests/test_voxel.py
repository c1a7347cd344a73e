import contextlib
import itertools
import math
from fractions import Fraction

import host_cuda
import numpy as np
import pytest
import space_oracle as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

import robocache_cupy as rc
from robocache_cupy import (
    grid_from_bounds,
    voxel_centers,
    voxel_indices,
    voxelize_occupancy,
    voxelize_point_cloud,
)
from robocache_cupy import voxel as voxel_module
from robocache_cupy._core import kernel as kernels
from robocache_cupy._core.kernel import Kernel
from robocache_cupy._core.plan import Op
from robocache_cupy.logs.cloud import read_cloud

FLOATS = ("float16", "bfloat16", "float32", "float64")
SUMMED = ("uint8", *FLOATS)
ORDERED = ("uint8", "int32", "int64", *FLOATS)
ANY = (*ORDERED, "bool", "int8", "int16", "uint16", "uint32", "uint64")
OF_FEATURES = ("sum", "mean", "max", "min", "first")
REDUCTIONS = ("binary", "count", *OF_FEATURES)
HALF_TURN = ((0.0, -1.0, 0.0, 0.5), (1.0, 0.0, 0.0, -0.25), (0.0, 0.0, 1.0, 2.0))


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@contextlib.contextmanager
def up_to(most):
    """Ones and counts are scattered, up to so many bytes and points."""
    cache = Op.all["voxelize_point_cloud"].cache
    with pytest.MonkeyPatch.context() as patch:
        bounds = dict.fromkeys(("binary", "count"), (most, most))
        patch.setattr(voxel_module, "_SCATTERED", bounds)
        cache.clear()
        yield
    cache.clear()


@pytest.fixture(params=["chosen", "slabs"])
def way(request, lib):
    """Small results also by slabs."""
    if request.param == "chosen":
        yield
        return
    if lib.name == "jax":
        pytest.skip("plans of JAX are its own")
    with up_to(-1):
        yield


def arrays(lib, options):
    return {name: lib.array(x) if isinstance(x, np.ndarray) else x for name, x in options.items()}


def voxelize(lib, points, *args, **options):
    result = voxelize_point_cloud(lib.array(points), *args, **arrays(lib, options))
    if isinstance(result, tuple):
        return type(result)(*map(lib.numpy, result))
    return lib.numpy(result)


def located(lib, points, *args, **options):
    return lib.numpy(voxel_indices(lib.array(points), *args, **arrays(lib, options)))


def assert_same(got, expected):
    """Equal in every bit; NaN is NaN."""
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(got, expected)
        return
    nan = np.isnan(expected.astype(np.float64))
    np.testing.assert_array_equal(np.isnan(got.astype(np.float64)), nan)
    unsigned = f"u{expected.itemsize}"
    np.testing.assert_array_equal(
        np.ascontiguousarray(got).view(unsigned)[~nan], expected.view(unsigned)[~nan]
    )


def assert_identical(got, expected):
    """NaN too."""
    assert_same(got, expected)
    assert got.tobytes() == expected.tobytes()


def feature_array(random, shape, dtype):
    """Features whose sums, order and special values are hard."""
    if dtype == "bool":
        return random.random(shape) < 0.5
    dtype = oracle.dtype_of(dtype)
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        x = random.integers(info.min, info.max, shape, dtype, endpoint=True)
        ends = np.array([info.min, info.max], dtype)
        return np.where(random.random(shape) < 0.2, random.choice(ends, shape), x)
    with np.errstate(over="ignore"):
        x = random.standard_normal(shape) * 2.0 ** random.integers(-20, 12, shape)
        x = x.astype(dtype)
    x[random.random(shape) < 0.1] = 0.0
    x[random.random(shape) < 0.1] = -0.0
    x[random.random(shape) < 0.01] = np.nan
    x[random.random(shape) < 0.01] = -np.inf
    return x


def crowd(random, B, N, grid=(3, 4, 5), dtype="float32"):
    """Several points to a voxel of side 1, and some outside, on edges, and not finite."""
    p = random.uniform(-0.5, np.array(grid) + 0.5, (B, N, 3))
    p = np.where(random.random(p.shape) < 0.1, np.round(p), p).astype(oracle.dtype_of(dtype))
    p[random.random(p.shape) < 0.01] = random.choice([np.nan, np.inf, -np.inf])
    return p


# -------------------------------------------------------------------------- where points are


def test_half_open_boxes(lib):
    """A point on the lower side is inside, one on the upper side is not."""
    edge = np.array([0, np.nextafter(1, 0), 1, np.nextafter(2, 0), 2, -1e-30, -0.0, 3], "f8")
    expected = [0, 0, 1, 1, -1, -1, 0, -1]
    for axis in range(3):
        p = np.full((8, 3), 0.5)
        p[:, axis] = edge
        got = located(lib, p, 2, 1)
        want = np.zeros((8, 3), np.int32)
        want[:, axis] = expected
        want[np.array(expected) < 0] = -1
        np.testing.assert_array_equal(got, want, strict=True)


def test_the_rounded_quotient_decides(lib):
    """25.599998 is below 25.6, and (25.599998 + 25.6) / 0.16 is 320 as a float32."""
    p = np.array([[25.599998, 0, 0], [25.59998, 0, 0]], "f4")
    assert p[0, 0] < np.float32(25.6)
    got = located(lib, p, (320, 320, 1), 0.16, (-25.6, -25.6, 0))
    np.testing.assert_array_equal(got[:, 0], [-1, 319])
    counts = voxelize(lib, p, (320, 320, 320), 0.16, (-25.6, -25.6, -1), reduce="count")
    assert counts.sum() == 1


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_division_is_exact(lib, rng, dtype):
    """As IEEE rounds it, for any size, also next to the sides of voxels, where it matters."""
    C = np.dtype(dtype).type
    # All ones is the significand whose reciprocal is worst.
    worst = [np.nextafter(C(2.0**k), C(0)) for k in (-3, 0, 5)]
    sizes = [*worst, *rng.uniform(0.001, 4, 12).astype(C), *map(C, (0.1, 0.16, 0.3, 1 / 3, 1e-7))]
    for size in sizes:
        sides = (rng.integers(1, 1001, 3000) * size).astype(C)
        near = [sides, np.nextafter(sides, C(-np.inf)), np.nextafter(sides, C(np.inf))]
        p = np.zeros((9000 + 3000, 3), C)
        p[:, 0] = np.concatenate([*near, rng.uniform(-1, 1001, 3000).astype(C) * size])
        got = located(lib, p, (1000, 1, 1), size.item())
        np.testing.assert_array_equal(got, oracle.indices(p[None], (1000, 1, 1), size)[0])


@settings(max_examples=60)
@given(st.data())
def test_any_size_and_origin(lib, data):
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    dtype = data.draw(st.sampled_from(FLOATS))
    size = [data.draw(st.floats(1e-4, 1e4)) for _ in range(3)]
    origin = [data.draw(st.floats(-1e4, 1e4)) for _ in range(3)]
    grid = tuple(data.draw(st.integers(1, 2000)) for _ in range(3))
    clamp = data.draw(st.booleans())
    p = origin + random.uniform(-0.2, 1.2, (2, 300, 3)) * size * np.array(grid)
    with np.errstate(over="ignore"):
        p = p.astype(oracle.dtype_of(dtype))
    p[random.random(p.shape) < 0.02] = random.choice([np.nan, np.inf, -np.inf, 0.0])
    got = located(lib, p, grid, size, origin, out_of_bounds="clamp" if clamp else "drop")
    expected = oracle.indices(p, grid, size, origin, clamp=clamp)
    np.testing.assert_array_equal(got, expected.astype(np.int32), strict=True)


def test_not_finite_and_huge_points(lib):
    bad = np.array([np.nan, np.inf, -np.inf, 3e38, -3e38, 1e10, -1e10], "f4")
    p = np.full((21, 3), 0.5, "f4")
    for i, (axis, x) in enumerate(itertools.product(range(3), bad)):
        p[i, axis] = x
    for size in (0.1, 1, 1e-19, 1e19):
        got = located(lib, p, 1, size)
        np.testing.assert_array_equal(got, oracle.indices(p[None], (1, 1, 1), size)[0])
        assert voxelize(lib, p, 1, size, reduce="count").sum() == (got[:, 0] >= 0).sum()
    clamped = located(lib, p, 4, 0.1, out_of_bounds="clamp")
    for i, (axis, x) in enumerate(itertools.product(range(3), bad)):
        want = [3, 3, 3] if np.isfinite(x) else [-1, -1, -1]
        if np.isfinite(x) and x < 0:
            want[axis] = 0
        assert clamped[i].tolist() == want


def test_clamping(lib, rng):
    p = crowd(rng, 2, 200)
    found = oracle.indices(p, (3, 4, 5), 1, clamp=True)
    finite = np.isfinite(p).all(-1)
    assert not finite.all()
    assert (found[finite] >= 0).all()
    got = located(lib, p, (3, 4, 5), 1, out_of_bounds="clamp")
    np.testing.assert_array_equal(got, found.astype("i4"), strict=True)
    counts = voxelize(lib, p, (3, 4, 5), 1, out_of_bounds="clamp", reduce="count")
    assert_same(counts, oracle.voxels(found, (3, 4, 5), "count", dtype="i4"))
    assert counts.sum() == finite.sum()


@pytest.mark.parametrize("origins", [np.float32, np.float64, list])
def test_an_origin_for_each_cloud(lib, rng, origins):
    p = rng.uniform(-1, 3, (3, 150, 3)).astype("f4")
    corner = rng.uniform(-0.5, 0.5, (3, 3))
    given_ = corner.tolist() if origins is list else corner.astype(origins)
    want = oracle.indices(p, (4, 4, 4), (0.3, 0.5, 0.7), np.asarray(given_))
    got = located(lib, p, 4, (0.3, 0.5, 0.7), given_)
    if isinstance(given_, np.ndarray):
        there = lib.array(given_)
        np.testing.assert_array_equal(
            located(lib, p, 4, [0.3, 0.5, 0.7], there), want.astype("i4"), strict=True
        )
        strided = lib.array(np.repeat(given_, 2, 0))[::2]
        np.testing.assert_array_equal(located(lib, p, 4, (0.3, 0.5, 0.7), strided), got)
    np.testing.assert_array_equal(got, want.astype("i4"), strict=True)
    counts = voxelize(lib, p, 4, (0.3, 0.5, 0.7), given_, reduce="count")
    assert_same(counts, oracle.voxels(want, (4, 4, 4), "count", dtype="i4"))


def test_one_origin_on_the_device(lib, rng):
    p = rng.uniform(-1, 3, (2, 100, 3)).astype("f4")
    corner = np.array([-0.25, 0.1, 0.3])
    got = located(lib, p, 5, 0.5, lib.array(corner))
    np.testing.assert_array_equal(got, oracle.indices(p, (5, 5, 5), 0.5, corner))
    np.testing.assert_array_equal(got, located(lib, p, 5, 0.5, corner.tolist()))


def random_rigid(random, *lead):
    q, _ = np.linalg.qr(random.standard_normal((*lead, 3, 3)))
    at = np.zeros((*lead, 4, 4))
    at[..., :3, :3], at[..., :3, 3], at[..., 3, 3] = q, random.uniform(-1, 1, (*lead, 3)), 1
    return at


@pytest.mark.parametrize("dtype", FLOATS)
def test_transforms_of_every_kind(lib, rng, dtype):
    p = rng.uniform(-2, 2, (3, 120, 3)).astype(oracle.dtype_of(dtype))
    p[0, 5, 1] = np.nan
    one, each = random_rigid(rng), random_rigid(rng, 3)

    def check(transform, numbers):
        want = oracle.indices(p, (5, 6, 7), (0.6, 0.5, 0.4), (-1, -1.5, -1), transform=numbers)
        args = ((5, 6, 7), (0.6, 0.5, 0.4), (-1, -1.5, -1))
        got = located(lib, p, *args, transform=transform)
        np.testing.assert_array_equal(got, want.astype("i4"), strict=True)
        mean = voxelize(lib, p, *args, transform=transform, reduce="mean")
        moved = oracle.moved(p, numbers)
        assert_same(mean, oracle.voxels(want, (5, 6, 7), "mean", moved, moved.dtype))

    for rows in (3, 4):
        check(one[:rows], one)
        check(one[:rows].tolist(), one)
        check([list(r) for r in one[:rows]], one)
        single = one[:rows].astype("f4")
        check(lib.array(single), single)
        check(each[:, :rows], each)
        check(each[:, :rows].astype("f4"), each.astype("f4"))
        check(each[:, :rows].tolist(), each)
    check(np.broadcast_to(one, (3, 4, 4)), one)


def test_a_transform_of_a_cloud_without_batch(lib):
    p = np.array([[1.0, 2, 3]])
    got = voxelize(lib, p, 8, 1, transform=HALF_TURN, reduce="first")
    assert got.shape == (8, 8, 8, 3)
    assert located(lib, p, 8, 1, transform=HALF_TURN).tolist() == [[-1, -1, -1]]
    p = np.array([[1.0, -2, 3]])
    assert located(lib, p, 8, 1, transform=np.array(HALF_TURN)).tolist() == [[2, 0, 5]]
    got = voxelize(lib, p, 8, 1, transform=np.array([HALF_TURN]), reduce="first")
    assert got[2, 0, 5].tolist() == [2.5, 0.75, 5]


def test_which_points_count(lib, rng):
    p = rng.uniform(0, 4, (4, 90, 3)).astype("f4")
    for lengths in ([90, 0, 17, 1], np.array([-5, 1000, 3, 90]), np.array([1, 2, 3, 4], "i4")):
        want = oracle.indices(p, (4, 4, 4), 1, lengths=lengths)
        np.testing.assert_array_equal(located(lib, p, 4, 1, lengths=lengths), want)
        counts = voxelize(lib, p, 4, 1, lengths=lengths, reduce="count")
        assert counts.sum((1, 2, 3)).tolist() == np.clip(lengths, 0, 90).tolist()
    big = rng.random((90, 8, 2)) < 0.5
    for mask in (big[:, ::2, 1].T, big[::-1, 4:, 0].T, np.ascontiguousarray(big[:, 4:, 1].T)):
        for kind in (np.bool_, np.uint8):
            m = mask.view(kind) if kind is np.uint8 else mask
            want = oracle.indices(p, (4, 4, 4), 1, mask=m, lengths=[90, 80, 70, 0])
            got = located(lib, p, 4, 1, mask=m, lengths=[90, 80, 70, 0])
            np.testing.assert_array_equal(got, want)
            counts = voxelize(lib, p, 4, 1, mask=m, lengths=[90, 80, 70, 0], reduce="count")
            assert_same(counts, oracle.voxels(want, (4, 4, 4), "count", dtype="i4"))
    seven = np.where(mask, 7, 0).astype("u1")  # anything but 0 is True
    np.testing.assert_array_equal(
        located(lib, p, 4, 1, mask=seven), oracle.indices(p, (4, 4, 4), 1, mask=mask)
    )


# -------------------------------------------------------------------- what becomes of them


@pytest.mark.parametrize("points", FLOATS)
@pytest.mark.parametrize(
    ("reduce", "dtype"),
    [
        *[("binary", d) for d in (None, "uint8", "bool", "float16", "bfloat16", "float32")],
        ("binary", "bits"),
        *[("count", d) for d in (None, "int32", "uint8", "uint16")],
        *[(r, d) for r in ("sum", "mean") for d in (None, *FLOATS)],
        *[(r, None) for r in ("max", "min", "first")],
    ],
)
def test_every_reduction(lib, rng, points, reduce, dtype):
    grid = (3, 4, 5)
    p = crowd(rng, 3, 130, grid, points)
    found = oracle.indices(p, grid, 1)
    asked = dtype
    if dtype is None:
        asked = {"binary": "uint8", "count": "int32"}.get(reduce, points)
        if reduce in ("sum", "mean"):
            asked = "float64" if points == "float64" else "float32"
    got = voxelize(lib, p, grid, 1, reduce=reduce, dtype=dtype)
    if asked == "bits":
        assert_same(got, oracle.voxels(found, grid, "bits"))
    else:
        assert_same(got, oracle.voxels(found, grid, reduce, p, oracle.dtype_of(asked)))


ONES_AND_COUNTS = [
    *[("binary", d) for d in ("uint8", "bool", "float16", "bfloat16", "float32")],
    ("count", "int32"),
]


@pytest.mark.parametrize("points", FLOATS)
@pytest.mark.parametrize(("reduce", "dtype"), ONES_AND_COUNTS)
@pytest.mark.parametrize("batched", [True, False])
def test_scattering_gives_what_slabs_give(lib, rng, points, reduce, dtype, batched):
    """With every option, and of clouds that begin at multiples of 16 bytes and elsewhere."""
    if lib.name == "jax":
        pytest.skip("plans of JAX are its own")
    grid, B = (33, 7, 19), 3 if batched else 1
    at = random_rigid(rng, B) if batched else random_rigid(rng)
    center = np.array(grid) / 2
    at[..., :3, 3] = center - at[..., :3, :3] @ center  # turns the clouds in their place
    lengths, corner = [350, 0, 900][:B], rng.uniform(-1, 1, (B, 3))
    for N, clamp, options in (
        (700, False, {}),
        (701, False, {}),
        (700, False, {"lengths": lengths}),
        (700, False, {"mask": rng.random((B, 700)) < 0.6}),
        (700, False, {"transform": at}),
        (700, False, {"origin": corner}),
        (700, True, {}),
        (701, True, {"lengths": lengths, "mask": rng.random((B, 701)) < 0.6, "transform": at,
                     "origin": corner}),
        (0, False, {}),
    ):  # fmt: skip
        p = crowd(rng, B, N, grid, points)
        found = oracle.indices(p, grid, 1, clamp=clamp, **options)
        expected = oracle.voxels(found, grid, reduce, dtype=oracle.dtype_of(dtype))
        assert N == 0 or 0 < np.count_nonzero(expected) < expected.size
        if not batched:
            p, expected = p[0], expected[0]
            options = {name: x[0] if name == "mask" else x for name, x in options.items()}
        for most in (-1, 2**60):
            with up_to(most):
                got = voxelize(
                    lib, p, grid, 1, reduce=reduce, dtype=dtype,
                    out_of_bounds="clamp" if clamp else "drop", **options,
                )  # fmt: skip
            assert_identical(got, expected)


@pytest.mark.parametrize(
    ("N", "grid", "reduce", "dtype", "scattered"),
    [
        (20_000, 64, "binary", None, True),
        (20_000, 64, "binary", "bits", False),
        (20_000, 64, "count", None, True),
        (20_000, 64, "count", "uint8", False),
        (20_000, 64, "count", "uint16", False),
        (20_000, 64, ("binary", "count"), None, False),
        (20_000, 64, "max", None, False),
        (2**20, 256, "binary", None, True),
        (2**20, 256, "binary", "float16", False),
        (2**20, (256, 256, 257), "binary", None, False),
        (2**20 + 1, 256, "binary", None, False),
        (2**19, (256, 256, 128), "count", None, True),
        (2**19, (256, 256, 129), "count", None, False),
        (2**19 + 1, 64, "count", None, False),
    ],
)
def test_what_is_scattered(monkeypatch, N, grid, reduce, dtype, scattered):
    """What is small, and has one element to a voxel, whose value does not stop somewhere."""
    launched = []
    monkeypatch.setattr(Kernel, "on_host", lambda kernel, *_: launched.append(kernel.name))
    voxelize_point_cloud(np.empty((N, 3), "f4"), grid, 1, reduce=reduce, dtype=dtype)
    assert (launched == ["clear_voxels", "scatter_points"]) == scattered
    assert (launched[0] == "sort_points") == (not scattered)


def test_threads_that_count_in_the_same_voxel(monkeypatch):
    monkeypatch.setattr(kernels, "_POOL_SIZE", 8)
    p = np.full((400_000, 3), 0.5, "f4")
    for _ in range(5):
        assert voxelize_point_cloud(p, 2, 1, reduce="count").ravel().tolist() == [400_000] + 7 * [0]


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize(
    ("reduce", "x"),
    [
        *itertools.product(("sum", "mean"), SUMMED),
        *itertools.product(("max", "min"), ORDERED),
        *itertools.product(["first"], ANY),
    ],
)
def test_features_of_every_dtype(lib, rng, reduce, x, channels_first):
    grid = (4, 2, 3)
    p = crowd(rng, 2, 150, grid)
    found = oracle.indices(p, grid, 1)
    for C in (1, 3, 4, 7):
        f = feature_array(rng, (2, 150, C), x)
        asked = None if reduce not in ("sum", "mean") else "float64" if x == "float64" else "f4"
        fill = 1 if x == "bool" else 100
        expected = oracle.voxels(found, grid, reduce, f, asked and np.dtype(asked), fill)
        got = voxelize(
            lib, p, grid, 1, reduce=reduce, features=f, channels_first=channels_first,
            fill_value=fill,
        )  # fmt: skip
        assert_same(got, np.moveaxis(expected, -1, 1) if channels_first else expected)
    one = voxelize(
        lib, p[1], grid, 1, reduce=reduce, features=f[1], channels_first=channels_first,
        fill_value=fill,
    )  # fmt: skip
    assert_same(one, got[1])


def test_several_reductions_at_once(lib, rng):
    grid = (5, 4, 3)
    p = crowd(rng, 2, 200, grid)
    f = feature_array(rng, (2, 200, 5), "float32")
    names = ("mean", "count", "first", "binary", "max", "sum", "min")
    dtypes = (None, "uint16", None, "bits", None, "bfloat16", None)
    both = voxelize(
        lib, p, grid, 1, reduce=list(names), dtype=list(dtypes), features=f, return_counts=True
    )
    assert type(both).__name__ == "Voxels"
    assert both._fields == (*names, "counts")
    for name, dtype in zip(names, dtypes, strict=True):
        options = {"features": f} if name in OF_FEATURES else {}
        alone = voxelize(lib, p, grid, 1, reduce=name, dtype=dtype, **options)
        assert_same(getattr(both, name), alone)
    assert_same(both.counts, voxelize(lib, p, grid, 1, reduce="count"))
    single = voxelize(lib, p, grid, 1, reduce="max", return_counts=True)
    assert single._fields == ("max", "counts")
    assert voxelize(lib, p, grid, 1, reduce=("binary",)).shape == (2, 5, 4, 3)


def test_the_points_themselves_are_the_default_features(lib, rng):
    p = crowd(rng, 2, 100)
    for reduce in OF_FEATURES:
        default = voxelize(lib, p, (3, 4, 5), 1, reduce=reduce)
        assert_same(default, voxelize(lib, p, (3, 4, 5), 1, reduce=reduce, features=p))
        moved = oracle.moved(p, HALF_TURN)
        found = oracle.indices(p, (3, 4, 5), 1, transform=HALF_TURN)
        assert_same(
            voxelize(lib, p, (3, 4, 5), 1, reduce=reduce, transform=HALF_TURN, lengths=[100, 40]),
            oracle.voxels(
                oracle.indices(p, (3, 4, 5), 1, transform=HALF_TURN, lengths=[100, 40]),
                (3, 4, 5), reduce, moved, np.dtype("f4"),
            ),
        )  # fmt: skip
        mask = rng.random((2, 100)) < 0.5
        got = voxelize(lib, p, (3, 4, 5), 1, reduce=reduce, transform=HALF_TURN, mask=mask)
        found = np.where(mask[..., None], found, -1)
        assert_same(got, oracle.voxels(found, (3, 4, 5), reduce, moved, np.dtype("f4")))


@pytest.mark.parametrize("fill", [0, -2.5, float("nan"), float("inf"), 1e-3])
@pytest.mark.parametrize("reduce", OF_FEATURES)
def test_the_fill_value(lib, rng, reduce, fill):
    p = crowd(rng, 2, 20)
    found = oracle.indices(p, (3, 4, 5), 1)
    for x in ("float16", "float32", "float64"):
        f = rng.standard_normal((2, 20, 2)).astype(x)
        got = voxelize(lib, p, (3, 4, 5), 1, reduce=reduce, features=f, fill_value=fill)
        asked = np.dtype("f4") if reduce in ("sum", "mean") and x == "float16" else f.dtype
        assert_same(got, oracle.voxels(found, (3, 4, 5), reduce, f, asked, fill))


def test_counts_stop_at_the_greatest_number(lib):
    p = np.full((1, 70_000, 3), 0.5, "f4")
    p[0, :300] = 1.5
    p[0, 300:554] = 2.5
    diagonal = np.arange(3)
    for dtype, want in (("uint8", (255, 255, 254)), ("uint16", (65535, 300, 254)),
                        ("int32", (69446, 300, 254))):  # fmt: skip
        got = voxelize(lib, p, 3, 1, reduce="count", dtype=dtype)[0]
        assert got.dtype == dtype
        assert got[diagonal, diagonal, diagonal].tolist() == list(want)
        assert np.count_nonzero(got) == 3


@pytest.mark.parametrize("cells", [(1, 1, 1), (31, 1, 1), (1, 3, 11), (8, 8, 8), (5, 7, 29)])
def test_bits(lib, rng, cells):
    """Also of a number of voxels that is no multiple of 32."""
    p = rng.uniform(-1, np.array(cells) + 1, (3, 3 * math.prod(cells), 3)).astype("f4")
    got = voxelize(lib, p, cells, 1, dtype="bits")
    assert got.shape == (3, -(-math.prod(cells) // 32))
    binary = voxelize(lib, p, cells, 1).reshape(3, -1)
    bits = np.unpackbits(got.view(np.uint8), axis=1, bitorder="little")
    np.testing.assert_array_equal(bits[:, : binary.shape[1]], binary)
    assert not bits[:, binary.shape[1] :].any()
    assert_same(got, oracle.voxels(oracle.indices(p, cells, 1), cells, "bits"))
    assert_same(voxelize(lib, p[0], cells, 1, dtype="bits"), got[0])


@pytest.mark.parametrize("dtype", ["uint8", "bool", "float16", "bfloat16", "float32"])
def test_binary_of_sparse_and_dense_lattices(lib, rng, dtype):
    """A point shows in its own voxel alone, wherever the 16 bytes begin that hold it."""
    cells = (1, 1, 207)
    for share in (0.02, 0.3, 0.97):
        taken = rng.random((4, 207)) < share
        p = np.full((4, 207, 3), -1, "f4")
        p[taken] = 0.5
        p[..., 2] = np.arange(207) + 0.5
        got = voxelize(lib, p, cells, 1, dtype=dtype)
        assert_same(got, taken.reshape(4, *cells).astype(oracle.dtype_of(dtype)))


# ------------------------------------------------------------------------- sums and means


@pytest.mark.parametrize("dtype", FLOATS)
def test_sums_of_exact_numbers_are_exact(lib, rng, dtype):
    """Whole numbers of a few bits: every sum is that of fractions, rounded once."""
    N = 900
    p = rng.uniform(0, 3, (1, N, 3)).astype("f4")
    f = (rng.integers(-100, 100, (1, N, 2)) * 2.0 ** rng.integers(-4, 5, (1, N, 2))).astype(
        oracle.dtype_of(dtype)
    )
    by_voxel = oracle.members(oracle.indices(p, (3, 3, 3), 1), (3, 3, 3))
    sums, means = (
        voxelize(lib, p, 3, 1, features=f, reduce=r, dtype="float64").reshape(27, 2)
        for r in ("sum", "mean")
    )
    for (_, v), points in by_voxel.items():
        for c in range(2):
            exact = sum(Fraction(float(x)) for x in f[0, points, c])
            assert Fraction(sums[v, c].item()) == exact
            assert means[v, c] == float(exact) / len(points)


def test_float32_sums_are_rounded_once(lib, rng):
    """Any float32: to within half a unit of the true sum, of numbers of one magnitude."""
    N = 2000
    p = rng.uniform(0, 2, (1, N, 3)).astype("f4")
    f = (rng.standard_normal((1, N, 1)) * 1e3).astype("f4")
    f[np.abs(f) < 1e-3] = 1
    got = voxelize(lib, p, 2, 1, features=f, reduce="sum").reshape(8)
    mean = voxelize(lib, p, 2, 1, features=f, reduce="mean").reshape(8)
    for (_, v), points in oracle.members(oracle.indices(p, (2, 2, 2), 1), (2, 2, 2)).items():
        exact = sum(Fraction(float(x)) for x in f[0, points, 0])
        assert got[v] == np.float32(float(exact))
        assert mean[v] == np.float32(float(exact / len(points)))


@pytest.mark.parametrize("magnitude", [0, -1000, 1000, 300])
def test_float64_sums_keep_40_bits_of_the_largest(lib, rng, magnitude):
    N = 3000
    p = rng.uniform(0, 2, (1, N, 3))
    f = rng.standard_normal((1, N, 1)) * 2.0 ** rng.integers(-30, 1, (1, N, 1))
    f *= 2.0**magnitude
    got = voxelize(lib, p, 2, 1, features=f, reduce="sum").reshape(8)
    for (_, v), points in oracle.members(oracle.indices(p, (2, 2, 2), 1), (2, 2, 2)).items():
        values = [Fraction(float(x)) for x in f[0, points, 0]]
        largest = max(map(abs, values))
        error = abs(Fraction(got[v].item()) - sum(values))
        assert error <= largest * Fraction(1, 2**40)


def test_the_last_bit_that_is_kept(lib):
    """2^-(62 - ceil(log2(count + 1)) - e) of a largest term below 2^e, rounded half to even."""
    p = np.full((3, 3), 0.5, "f4")
    for e in (0, -60, 40):
        unit = 2.0 ** (e - 60)
        for last, want in ((1, 1), (0.5, 0), (1.5, 2), (0.75, 1), (2.5, 2)):
            for dtype in ("f4", "f8"):
                f = (np.array([1, -1, 2 * last * unit * 2.0**-e])[:, None] * 2.0**e).astype(dtype)
                got = voxelize(lib, p, 1, 1, features=f, reduce="sum").item()
                assert got == 2 * want * unit


def test_uint8_sums_are_exact(lib, rng):
    N = 100_000
    p = np.full((1, N, 3), 0.5, "f4")
    f = rng.integers(0, 256, (1, N, 3)).astype("u1")
    f[..., 2] = 255
    exact = f[0].astype(np.int64).sum(0)
    got = voxelize(lib, p, 1, 1, features=f, reduce="sum", dtype="float64").reshape(3)
    assert got.tolist() == exact.tolist()
    assert exact[2] > 2**24  # a running sum in float32 would stand still
    got = voxelize(lib, p, 1, 1, features=f, reduce="sum").reshape(3)
    assert got.tolist() == exact.astype("f4").tolist()
    mean = voxelize(lib, p, 1, 1, features=f, reduce="mean").reshape(3)
    assert mean.tolist() == (exact / N).astype("f4").tolist()


def test_an_outlier_elsewhere_changes_nothing(lib, rng):
    p = rng.uniform(0, 3, (2, 400, 3)).astype("f4")
    p[0, 0], p[1, 0] = 0.5, 2.5
    f = (rng.standard_normal((2, 400, 3)) * 1e-6).astype("f4")
    before = voxelize(lib, p, 3, 1, features=f, reduce=("sum", "mean"))
    f[0, 0, 1] = 1e30
    f[1, 0, 2] = np.nan
    after = voxelize(lib, p, 3, 1, features=f, reduce=("sum", "mean"))
    for x, y in zip(before, after, strict=True):
        changed = x.view("u4") != y.view("u4")
        assert np.argwhere(changed).tolist() == [[0, 0, 0, 0, 1], [1, 2, 2, 2, 2]]
        assert (np.abs(x) > 1e-8).any()


def test_features_that_are_not_finite(lib):
    """In their own voxel and channel, and nowhere else."""
    p = np.repeat([[0.5, 0.5, 0.5], [1.5, 0.5, 0.5], [1.5, 1.5, 0.5]], 2, 0).astype("f4")
    f = np.array([[1, np.nan], [2, 3], [np.inf, 1], [1, 1], [np.inf, -0.0], [-np.inf, -0.0]], "f4")
    for reduce, scale in (("sum", 1), ("mean", 2)):
        got = voxelize(lib, p, (2, 2, 1), 1, features=f, reduce=reduce)[..., 0, :]
        expected = np.array([[[3, np.nan], [0, 0]], [[np.nan, 2], [np.nan, 0]]], "f4") / scale
        assert_same(got, expected.astype("f4"))


def test_sums_beyond_the_range(lib):
    p = np.full((4, 3), 0.5, "f4")
    f = np.array([3e38, 3e38, 3e38, -1], "f4")[:, None]
    assert voxelize(lib, p, 1, 1, features=f, reduce="sum").item() == np.inf
    got = voxelize(lib, p, 1, 1, features=f, reduce="mean").item()
    assert got == np.float32(0.75 * float(f[0, 0]))
    f = np.array([1.5e308, 1.5e308, 1.5e308, 0])[:, None]
    assert voxelize(lib, p, 1, 1, features=f, reduce="sum").item() == np.inf
    assert voxelize(lib, p, 1, 1, features=f, reduce="mean").item() == 0.75 * 1.5e308
    f = np.full((4, 1), 5e-324)
    assert voxelize(lib, p, 1, 1, features=f, reduce="sum").item() == 4 * 5e-324
    assert voxelize(lib, p, 1, 1, features=f, reduce="mean").item() == 5e-324
    f = np.full((4, 1), 60000, "f2")
    got = voxelize(lib, p, 1, 1, features=f, reduce=("sum", "mean"), dtype=("float16", "float16"))
    assert (got[0].item(), got[1].item()) == (np.inf, 60000)


def test_without_determinism(lib, rng):
    p = rng.uniform(0, 3, (2, 500, 3)).astype("f4")
    f = rng.standard_normal((2, 500, 5)).astype("f4")
    for reduce in ("sum", "mean"):
        exact = voxelize(lib, p, 3, 1, features=f, reduce=reduce, fill_value=-1)
        quick = voxelize(
            lib, p, 3, 1, features=f, reduce=reduce, deterministic=False, fill_value=-1
        )
        np.testing.assert_allclose(quick, exact, rtol=0, atol=1e-4, strict=True)
    f[0, 3] = np.inf
    p[0, 3] = 0.5
    assert voxelize(lib, p, 3, 1, features=f, reduce="sum", deterministic=False)[0, 0, 0, 0].max(
    ) in (np.inf,)  # fmt: skip


# ------------------------------------------------------------------------- max, min, first


@pytest.mark.parametrize("dtype", FLOATS)
def test_the_order_of_numbers(lib, dtype):
    """-0 is less than 0, and NaN of either sign wins."""
    rows = [
        ([0.0, -0.0], 0.0, -0.0), ([-0.0, 0.0], 0.0, -0.0), ([-0.0, -0.0], -0.0, -0.0),
        ([1, np.nan], np.nan, np.nan), ([-np.nan, np.inf], np.nan, np.nan),
        ([-np.inf, np.inf], np.inf, -np.inf), ([-1, -2], -1, -2), ([-1e-7, -0.0], -0.0, -1e-7),
        ([6e-8, 0.0], 6e-8, 0.0),
    ]  # fmt: skip
    kind = oracle.dtype_of(dtype)
    f = np.array([x for row, _, _ in rows for x in row]).astype(kind)[:, None]
    p = np.full((2 * len(rows), 3), 0.5)
    p[:, 0] += np.repeat(np.arange(len(rows)), 2)
    for reduce, column in (("max", 1), ("min", 2)):
        got = voxelize(lib, p, (len(rows), 1, 1), 1, features=f, reduce=reduce)[:, 0, 0, 0]
        assert_same(got, np.array([row[column] for row in rows]).astype(kind))


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
def test_extremes_of_integers(lib, dtype):
    info = np.iinfo(dtype)
    f = np.array([[info.min, info.max, 5, info.max], [info.max, info.max, 3, info.min]], dtype)
    p = np.full((2, 3), 0.5)
    got = voxelize(lib, p, 2, 1, features=f, reduce=("max", "min"), fill_value=9)
    assert got.max[0, 0, 0].tolist() == [info.max, info.max, 5, info.max]
    assert got.min[0, 0, 0].tolist() == [info.min, info.max, 3, info.min]
    assert (got.max[1] == 9).all()


def test_first_moves_bits(lib):
    """A NaN keeps its payload, and the first is the first in memory order, chunks and all."""
    p = np.full((9000, 3), 0.5, "f4")
    p[:4500, 0] = -1
    f = np.arange(9000, dtype=np.uint32)[:, None] | np.uint32(0x7FC00000)
    got = voxelize(lib, p, 1, 1, features=f.view("f4"), reduce="first")
    assert got.view("u4").item() == 4500 | 0x7FC00000
    mask = np.ones(9000, bool)
    mask[:7777] = False
    got = voxelize(lib, p, 1, 1, features=f.view("f4"), reduce="first", mask=mask)
    assert got.view("u4").item() == 7777 | 0x7FC00000


# ----------------------------------------------------------------------- sizes, small and large


@pytest.mark.parametrize("shape", [(0, 3), (0, 5, 3), (3, 0, 3), (0, 0, 3)])
def test_no_points(lib, shape):
    p = np.zeros(shape, "f4")
    lead = shape[:-2]
    assert located(lib, p, 4, 1).shape == shape
    for reduce in REDUCTIONS:
        got = voxelize(lib, p, (2, 3, 4), 1, reduce=reduce, fill_value=7)
        tail = (3,) if reduce in OF_FEATURES else ()
        assert got.shape == (*lead, 2, 3, 4, *tail)
        assert (got == (7 if reduce in OF_FEATURES else 0)).all()
    assert voxelize(lib, p, 4, 1, dtype="bits").shape == (*lead, 2)
    assert not voxelize(lib, p, 4, 1, dtype="bits").any()
    got = voxelize(lib, p, 2, 1, reduce="mean", transform=HALF_TURN, fill_value=1)
    assert got.shape == (*lead, 2, 2, 2, 3)
    assert (got == 1).all()
    mask = np.zeros(shape[:-1], bool)
    assert not voxelize(lib, p, 2, 1, mask=mask, lengths=np.zeros(lead or 1, "i4")).any()


def test_no_channels(lib, rng):
    p = rng.random((2, 5, 3))
    for reduce in OF_FEATURES:
        got = voxelize(lib, p, 2, 1, features=np.zeros((2, 5, 0), "f4"), reduce=reduce)
        assert got.shape == (2, 2, 2, 2, 0)


def test_all_points_invalid(lib):
    p = np.full((2, 50, 3), np.nan, "f4")
    p[1] = 100
    for reduce in REDUCTIONS:
        got = voxelize(lib, p, 2, 1, reduce=reduce, fill_value=3, return_counts=True)
        assert (got[0] == (3 if reduce in OF_FEATURES else 0)).all()
        assert not got.counts.any()


def test_one_voxel(lib, rng):
    p = crowd(rng, 2, 40)
    found = oracle.indices(p, (1, 1, 1), (3, 4, 5))
    for reduce in OF_FEATURES:
        for channels_first in (False, True):
            got = voxelize(lib, p, 1, (3, 4, 5), reduce=reduce, channels_first=channels_first)
            want = oracle.voxels(found, (1, 1, 1), reduce, p)
            assert_same(got, np.moveaxis(want, -1, 1) if channels_first else want)
    assert voxelize(lib, p, 1, (3, 4, 5)).tolist() == [[[[1]]], [[[1]]]]


def vectorized(found, grid, f):
    """Counts, sums, max, min and first of finite float64 features of a few bits, at once."""
    B, _, C = f.shape
    cells = math.prod(grid)
    linear = np.ravel_multi_index(np.maximum(found, 0).transpose(2, 0, 1), grid)
    linear += cells * np.arange(B)[:, None]
    kept = found[..., 0] >= 0
    at, values = linear[kept], f[kept]
    counts = np.bincount(at, minlength=B * cells)
    sums = np.stack([np.bincount(at, values[:, c], B * cells) for c in range(C)], -1)
    high, low = np.full((B * cells, C), -np.inf), np.full((B * cells, C), np.inf)
    np.maximum.at(high, at, values)
    np.minimum.at(low, at, values)
    first = np.zeros((B * cells, C))
    where, order = np.unique(at, return_index=True)
    first[where] = values[order]
    empty = counts == 0
    high[empty] = low[empty] = 0
    return counts.reshape(B, *grid), *(x.reshape(B, *grid, C) for x in (sums, high, low, first))


@pytest.mark.parametrize(
    ("B", "N", "grid"),
    [
        (1, 10_000, (20, 20, 20)),  # more than one chunk and, in a slab, more voxels than room
        (2, 9000, (64, 64, 8)),
        (1, 30_000, (8, 8, 8)),  # more points in a slab than are listed
        (1, 800, (1, 1, 800)),  # as many as are listed, in more voxels than there is room
        (70, 4100, (9, 9, 9)),  # few blocks: chunks of 2048 and 4032 points
        (300, 4500, (5, 5, 5)),
        (1, 40_000, (150, 140, 130)),  # 334 slabs
        (3, 3000, (97, 33, 31)),  # clouds whose voxels begin at odd places
    ],
)
def test_many_points_and_voxels(lib, rng, way, B, N, grid):
    p = rng.uniform(-0.02, 1.02, (B, N, 3)) * grid
    p = p.astype("f4")
    if grid == (1, 1, 800):
        p[0, :, 2] = np.arange(800) + 0.5
    f = rng.integers(-1000, 1000, (B, N, 2)) / 8
    found = oracle.indices(p, grid, 1)
    counts, sums, high, low, first = vectorized(found, grid, f)
    names = ("binary", "count", "sum", "max", "min", "first")
    got = voxelize(lib, p, grid, 1, features=f.astype("f4"), reduce=names)
    assert_same(got.binary, (counts > 0).astype("u1"))
    assert_same(got.count, counts.astype("i4"))
    for name, want in (("sum", sums), ("max", high), ("min", low), ("first", first)):
        np.testing.assert_array_equal(got._asdict()[name], want.astype("f4"), err_msg=name)
    alone = voxelize(lib, p, grid, 1, dtype="float16")  # slabs, if any, of another size
    np.testing.assert_array_equal(alone, counts > 0)
    assert_same(voxelize(lib, p, grid, 1, reduce="count"), counts.astype("i4"))
    mean = voxelize(lib, p, grid, 1, features=f.astype("f4"), reduce="mean", channels_first=True)
    np.testing.assert_array_equal(
        np.moveaxis(mean, 1, -1), (sums / np.maximum(counts, 1)[..., None]).astype("f4")
    )


def test_more_slabs_than_a_launch_has(lib, rng):
    """40 million voxels are more than the 2048 slabs of 8192 that are counted at once."""
    grid = (300, 350, 390)
    cells = math.prod(grid)
    assert cells > 2 * 2048 * 8192
    p = (rng.random((6000, 3)) * grid).astype("f4")
    p[0], p[1] = 0.5, np.array(grid) - 0.5  # the first and the last voxel
    p[2:40] = p[40:78]
    linear = np.ravel_multi_index(oracle.indices(p[None], grid, 1)[0].T, grid)
    assert len(np.unique(linear // (2048 * 8192))) == 3
    got = voxelize(lib, p, grid, 1, reduce="count", dtype="uint8").reshape(-1)
    where, counts = np.unique(linear, return_counts=True)
    np.testing.assert_array_equal(np.flatnonzero(got), where)
    np.testing.assert_array_equal(got[where], counts)
    del got
    ids = np.arange(6000, dtype=np.int16)[:, None]
    got = voxelize(lib, p, grid, 1, reduce="first", features=ids, fill_value=-1).reshape(-1)
    np.testing.assert_array_equal(np.flatnonzero(got >= 0), where)
    _, first = np.unique(linear, return_index=True)
    np.testing.assert_array_equal(got[where], first)
    del got
    bits = voxelize(lib, p, grid, 1, dtype="bits")
    np.testing.assert_array_equal(np.flatnonzero(bits), np.unique(where // 32))
    np.testing.assert_array_equal(bits[where // 32] >> (where % 32).astype("u4") & 1, 1)


def test_more_bits_than_a_launch_has(lib, rng):
    """2048 slabs of 65536 voxels: 134 million."""
    grid = (513, 512, 520)
    assert math.prod(grid) > 2048 * 65536
    p = (rng.random((3000, 3)) * grid).astype("f4")
    p[0] = np.array(grid) - 0.5
    bits = voxelize(lib, p, grid, 1, dtype="bits")
    linear = np.unique(np.ravel_multi_index(oracle.indices(p[None], grid, 1)[0].T, grid))
    assert linear[-1] == math.prod(grid) - 1
    words, at = np.unique(linear // 32, return_index=True)
    np.testing.assert_array_equal(np.flatnonzero(bits), words)
    expected = np.bitwise_or.reduceat(np.uint32(1) << (linear % 32).astype("u4"), at)
    np.testing.assert_array_equal(bits[words], expected)


def test_indices_of_lattices_too_large_to_hold(lib):
    most = 2**23
    grid = (most,) * 3
    p = np.array([[most - 1.0, 5.5, 0], [most, 0, 0], [1e9, 0, 0]])
    got = located(lib, p, grid, 1)
    assert got.tolist() == [[most - 1, 5, 0], [-1] * 3, [-1] * 3]
    with pytest.raises(MemoryError, match=r"grid_size is .*bytes"):
        voxelize(lib, p, grid, 1)


def test_all_points_in_one_voxel(lib, rng):
    N = 100_000
    p = (rng.random((N, 3)) * 0.99).astype("f4")
    f = rng.integers(-(2**20), 2**20, (N, 1)).astype("f4")
    got = voxelize(
        lib, p, 4, 1, features=f, reduce=("count", "sum", "max", "min", "first", "binary")
    )
    here = [x[0, 0, 0].item() for x in got]
    exact = int(f.astype(np.int64).sum())
    assert here == [N, np.float32(exact), f.max(), f.min(), f[0, 0], 1]
    for x in got:
        assert np.count_nonzero(x) == 1


def test_the_order_of_points_does_not_matter(lib, rng):
    p = crowd(rng, 1, 9000)
    f = feature_array(rng, (1, 9000, 4), "float32")
    order = rng.permutation(9000)
    names = ("binary", "count", "sum", "mean", "max", "min")
    one = voxelize(lib, p, (3, 4, 5), 1, features=f, reduce=names)
    other = voxelize(lib, p[:, order], (3, 4, 5), 1, features=f[:, order], reduce=names)
    for x, y in zip(one, other, strict=True):
        assert_same(x, y)
    ids = np.arange(9000, dtype="i4")[None, :, None]
    back = voxelize(
        lib, p[:, order], (3, 4, 5), 1, features=order.astype("i4")[None, :, None], reduce="min"
    )
    first = voxelize(lib, p, (3, 4, 5), 1, features=ids, reduce="first")
    np.testing.assert_array_equal(back, first)  # of the mapped indices the lowest


def test_the_sum_of_counts_is_the_number_of_kept_points(lib, rng):
    p = crowd(rng, 3, 5000, (10, 10, 10))
    kept = (located(lib, p, 10, 1)[..., 0] >= 0).sum(1)
    counts = voxelize(lib, p, 10, 1, reduce="count")
    np.testing.assert_array_equal(counts.sum((1, 2, 3)), kept)
    assert (kept > 0).all()
    assert (kept < 5000).all()


# ------------------------------------------------------------------ arrays of all kinds, and out


def test_strided_points_are_not_copied(lib, rng):
    """A scan's first columns, one row in two, from the end on."""
    scans = np.concatenate([crowd(rng, 2, 160), crowd(rng, 2, 160)], -1)
    cache = Op.all["voxelize_point_cloud"].cache
    for take in (np.s_[:, :, :3], np.s_[:, ::2, :3], np.s_[:, :, 1:4], np.s_[1:, 3:, 2:5]):
        view = scans[take]
        for reduce in ("count", "mean"):
            cache.clear()
            got = lib.numpy(voxelize_point_cloud(lib.array(scans)[take], 5, 1, reduce=reduce))
            if lib.name != "jax":
                assert len(cache) == 1  # a copy would need a plan of its own
            found = oracle.indices(view, (5, 5, 5), 1)
            dtype = np.dtype("i4" if reduce == "count" else "f4")
            assert_same(got, oracle.voxels(found, (5, 5, 5), reduce, view, dtype))


def test_views_of_any_kind(lib, rng):
    """NumPy's: reversed, transposed, broadcast, at odd addresses."""
    if lib.name != "numpy":
        pytest.skip("views of NumPy")
    whole = crowd(rng, 4, 120)
    odd = np.empty(4 * 120 * 12 + 16, np.uint8)
    odds = []
    for shift in (1, 2, 4, 8, 12):
        view = odd[shift : shift + 4 * 120 * 12].view("f4").reshape(4, 120, 3)
        odds.append((shift, view))
    views = [
        whole[::-1, ::-1], whole[:, ::3], whole.transpose(1, 0, 2), whole[:, :, ::-1],
        np.asfortranarray(whole), np.broadcast_to(whole[:1], (3, 120, 3)),
        np.broadcast_to(whole[:, :1], (4, 9, 3)), whole[:, 1:], whole[1::2, 5:-3],
    ]  # fmt: skip
    for shift, view in odds:
        view[:] = whole
        odd_found = oracle.indices(view, (5, 5, 5), 1)
        for reduce in ("count", "mean"):
            dtype = np.dtype("i4" if reduce == "count" else "f4")
            got = voxelize_point_cloud(view, 5, 1, reduce=reduce)
            want = oracle.voxels(odd_found, (5, 5, 5), reduce, view, dtype)
            assert_same(got, want)
        assert shift
    for view in views:
        found = oracle.indices(view, (5, 5, 5), 1)
        np.testing.assert_array_equal(voxel_indices(view, 5, 1), found)
        for reduce in ("binary", "mean", "first"):
            dtype = np.dtype("u1" if reduce == "binary" else "f4")
            got = voxelize_point_cloud(view, 5, 1, reduce=reduce)
            assert_same(got, oracle.voxels(found, (5, 5, 5), reduce, view, dtype))
        f = feature_array(rng, (*view.shape[1::-1], 6), "float32").transpose(1, 0, 2)[..., ::2]
        got = voxelize_point_cloud(view, 5, 1, reduce="mean", features=f)
        assert_same(got, oracle.voxels(found, (5, 5, 5), "mean", f))


def test_strided_features(lib, rng):
    p = crowd(rng, 2, 70)
    wide = feature_array(rng, (2, 140, 9), "float32")
    found = oracle.indices(p, (3, 4, 5), 1)
    for take in (np.s_[:, ::2, 1:8], np.s_[:, 70:, 4:5], np.s_[:, :70, ::4]):
        for reduce in OF_FEATURES:
            got = voxelize_point_cloud(
                lib.array(p), (3, 4, 5), 1, features=lib.array(wide)[take], reduce=reduce
            )
            assert_same(
                lib.numpy(got), oracle.voxels(found, (3, 4, 5), reduce, wide[take], np.dtype("f4"))
            )


def test_torch_views():
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(1)
    p = crowd(random, 3, 60)
    expected = voxelize_point_cloud(p, 5, 1, reduce="mean")
    for view in (
        torch.from_numpy(p).permute(2, 0, 1).contiguous().permute(1, 2, 0),
        torch.from_numpy(p).transpose(0, 1).contiguous().transpose(0, 1),
        torch.neg(torch.from_numpy(-p)),
        torch.complex(torch.zeros(p.shape), torch.from_numpy(-p)).conj().imag,  # a lazy minus
    ):
        got = voxelize_point_cloud(view, 5, 1, reduce="mean")
        assert isinstance(got, torch.Tensor)
        assert_same(got.numpy(), expected)
    got = voxelize_point_cloud(
        torch.from_numpy(p), 5, 1,
        mask=torch.from_numpy(p[..., 0] > 1), lengths=torch.tensor([9, 5, 2]),
    )  # fmt: skip
    assert_same(got.numpy(), voxelize_point_cloud(p, 5, 1, mask=p[..., 0] > 1, lengths=[9, 5, 2]))


OUT = [("binary", None, "u1"), ("binary", "bits", "u4"), ("binary", "float16", "f2"),
       ("binary", "bool", "?"), ("binary", "float32", "f4"),
       ("count", None, "i4"), ("count", "uint8", "u1"), ("mean", None, "f4"),
       ("sum", "float64", "f8"), ("max", None, "f4"), ("first", None, "f4")]  # fmt: skip


@pytest.mark.parametrize(("reduce", "dtype", "kind"), OUT)
def test_out(lib, rng, way, reduce, dtype, kind):
    if lib.name == "jax":
        with pytest.raises(TypeError, match="out must be left out"):
            voxelize(lib, np.zeros((1, 3)), 1, 1, out=np.zeros((1, 1, 1), "u1"))
        return
    p = crowd(rng, 2, 100)
    for channels_first in (False, True) if reduce in OF_FEATURES else (False,):
        options = {"reduce": reduce, "dtype": dtype, "channels_first": channels_first}
        expected = voxelize(lib, p, (3, 4, 5), 1, **options)
        assert expected.dtype == kind
        around = np.dtype(kind).type(77).item()
        room = lib.array(np.full(expected.size + 40, around, kind))
        for shift in range(17):  # at any address that is a multiple of the element's size
            room[:] = around
            out = room[shift : shift + expected.size].reshape(expected.shape)
            got = voxelize_point_cloud(lib.array(p), (3, 4, 5), 1, **options, out=out)
            assert got is out
            assert_same(lib.numpy(out), expected)
            rest = lib.numpy(room)
            assert (rest[:shift] == around).all()
            assert (rest[shift + expected.size :] == around).all()


def test_an_out_that_does_not_fit():
    p = np.zeros((2, 5, 3), "f4")
    good = np.zeros((2, 4, 4, 4), "u1")
    for out, error, words in (
        (np.zeros((2, 4, 4), "u1"), ValueError, r"out has shape \(2, 4, 4\), expected"),
        (np.zeros((2, 4, 4, 4), "i4"), TypeError, "out has dtype int32, expected one of uint8"),
        (np.zeros((2, 4, 4, 8), "u1")[..., ::2], ValueError, "out .*row-major"),
        (good.transpose(0, 2, 1, 3), ValueError, "out .*row-major"),
        (np.asfortranarray(good), ValueError, "out .*row-major"),
    ):  # fmt: skip
        with pytest.raises(error, match=words):
            voxelize_point_cloud(p, 4, 1, out=out)
    odd = np.zeros(2 * 64 * 4 + 1, np.uint8)[1:].view("i4").reshape(2, 4, 4, 4)
    with pytest.raises(ValueError, match="out "):
        voxelize_point_cloud(p, 4, 1, reduce="count", out=odd)
    for options in ({"reduce": ("binary", "count")}, {"return_counts": True}):
        with pytest.raises(ValueError, match="out is given, and the results are several"):
            voxelize_point_cloud(p, 4, 1, out=good, **options)
    read_only = good.copy()
    read_only.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        voxelize_point_cloud(p, 4, 1, out=read_only)


def test_clouds_without_batch(lib, rng):
    p = crowd(rng, 1, 80)
    for reduce in REDUCTIONS:
        got = voxelize(lib, p[0], (3, 4, 5), 1, reduce=reduce, mask=p[0, :, 0] > 0.7, lengths=[60])
        batch = voxelize(lib, p, (3, 4, 5), 1, reduce=reduce, mask=p[:, :, 0] > 0.7, lengths=[60])
        assert_same(got, batch[0])
    np.testing.assert_array_equal(located(lib, p[0], 5, 1), located(lib, p, 5, 1)[0])


def test_occupancy(lib, rng):
    p = crowd(rng, 2, 50)
    got = lib.numpy(voxelize_occupancy(lib.array(p), (3, 4, 5), (1, 0.5, 2), -0.25))
    assert_same(got, voxelize(lib, p, (3, 4, 5), (1, 0.5, 2), -0.25))
    assert rc.voxelize_occupancy is voxelize_occupancy


def test_any_dlpack_producer(rng):
    class Producer:
        def __init__(self, x):
            self.x = x

        def __dlpack__(self, **options):
            return self.x.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.x.__dlpack_device__()

    p = crowd(rng, 2, 50)
    got = voxelize_point_cloud(Producer(p), 5, 1, reduce="mean", features=Producer(p))
    assert_same(got, voxelize_point_cloud(p, 5, 1, reduce="mean"))


# ----------------------------------------------------------------------------------------- JAX


def test_jax_jit_and_vmap(rng):
    jax = pytest.importorskip("jax")
    p = crowd(rng, 4, 37)  # rows that begin at odd addresses
    f = feature_array(rng, (4, 37, 3), "float32")
    names = ("binary", "count", "mean", "max", "first")
    expected = voxelize_point_cloud(p, (3, 4, 5), 1, features=f, reduce=names)

    def op(p, f):
        return voxelize_point_cloud(p, (3, 4, 5), 1, features=f, reduce=names)

    for function in (jax.jit(op), jax.vmap(op), jax.jit(jax.vmap(op))):
        for x, y in zip(function(p, f), expected, strict=True):
            assert_same(np.asarray(x), y)
    one = jax.jit(op)(p[0], f[0])
    for x, y in zip(one, expected, strict=True):
        assert_same(np.asarray(x), y[0])
    lengths = np.array([37, 5, 0, 12], "i4")
    transforms = random_rigid(rng, 4).astype("f4")

    def moved(p, n, at, corner, fill):
        return voxelize_point_cloud(
            p, (3, 4, 5), (0.5, 1, 2), corner, lengths=n, transform=at, reduce="mean",
            fill_value=fill,
        )  # fmt: skip

    corner = rng.uniform(-1, 0, (4, 3)).astype("f4")
    got = jax.jit(moved)(p, lengths, transforms, corner, -3.0)
    want = moved(p, lengths, transforms, corner, -3.0)
    assert_same(np.asarray(got), want)
    each = jax.vmap(lambda p, n, at, o: moved(p, n[None], at, o, -3.0))
    assert_same(np.asarray(each(p, lengths, transforms, corner)), want)


def test_jax_traced_numbers(rng):
    jax = pytest.importorskip("jax")
    p = crowd(rng, 2, 40)

    @jax.jit
    def op(p, size, origin):
        return voxel_indices(p, 5, size, origin)

    for size, origin in ((1.0, 0.0), (0.5, -1.0)):
        got = np.asarray(op(p, size, origin))
        np.testing.assert_array_equal(got, oracle.indices(p, (5, 5, 5), size, origin))


# ------------------------------------------------------------------------------ plans and errors


def test_changing_numbers_do_not_replan(lib, rng):
    if lib.name == "jax":
        pytest.skip("plans of JAX are its own")
    p, at = lib.array(crowd(rng, 2, 30)), random_rigid(rng)
    cache = Op.all["voxelize_point_cloud"].cache
    cache.clear()
    results = []
    for size, origin, fill in ((1, 0.5, 2.0), (0.5, -0.25, float("nan")), (2.5, 0.125, 3)):
        at[:3, 3] += 0.125
        got = voxelize_point_cloud(
            p, 4, [size, size, 1.5], (origin, -0.5, origin), transform=at, reduce="mean",
            fill_value=fill,
        )  # fmt: skip
        found = oracle.indices(
            lib.numpy(p), (4, 4, 4), [size, size, 1.5], (origin, -0.5, origin), transform=at
        )
        moved = oracle.moved(lib.numpy(p), at)
        assert_same(lib.numpy(got), oracle.voxels(found, (4, 4, 4), "mean", moved, fill=fill))
        results.append(lib.numpy(got))
    assert len(cache) == 1
    assert not np.array_equal(results[0], results[2])


ONES = np.ones((2, 4, 3), "f4")
MANY = np.ones((2, 4, 5), "f4")


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"points": np.ones((4, 3), int)}, TypeError, "points has dtype int64, expected one of"),
        ({"points": np.ones((4, 3), "u1")}, TypeError, "points has dtype uint8"),
        ({"points": np.ones((4, 2))}, ValueError, r"points has shape \(4, 2\), expected"),
        ({"points": np.ones(3)}, ValueError, r"points has shape \(3,\)"),
        ({"points": np.ones((1, 2, 4, 3))}, ValueError, r"points has shape \(1, 2, 4, 3\)"),
        ({"points": [[0, 0, 0]]}, TypeError, "points must be an array, got list"),
        ({"grid_size": (1, 2)}, ValueError, r"grid_size is \(1, 2\), expected three"),
        ({"grid_size": 2.5}, ValueError, "grid_size is 2.5"),
        ({"grid_size": (1, 2, 2.5)}, ValueError, "grid_size is"),
        ({"grid_size": (4, 0, 4)}, ValueError, r"grid_size is \(4, 0, 4\), expected 1 to"),
        ({"grid_size": -1}, ValueError, "grid_size is -1"),
        ({"grid_size": 2**25}, ValueError, "grid_size is 33554432"),
        ({"grid_size": True}, ValueError, "grid_size is True"),
        ({"grid_size": "4"}, ValueError, "grid_size is '4'"),
        ({"voxel_size": 0}, ValueError, "voxel_size is 0, expected a size above 0"),
        ({"voxel_size": -0.1}, ValueError, "voxel_size is -0.1"),
        ({"voxel_size": (1, 1, np.nan)}, ValueError, "voxel_size is nan"),
        ({"voxel_size": np.inf}, ValueError, "voxel_size is inf"),
        ({"voxel_size": (1, 2)}, ValueError, "voxel_size has 2 numbers"),
        ({"voxel_size": "1"}, TypeError, "voxel_size is '1', expected a number"),
        ({"voxel_size": None}, TypeError, "voxel_size is None, expected a number"),
        ({"voxel_size": True}, TypeError, "voxel_size is True, expected a number"),
        ({"voxel_size": np.ones((2, 3))}, TypeError, "voxel_size is an array"),
        ({"origin": np.nan}, ValueError, "origin is nan, expected a finite"),
        ({"origin": (0, 0, np.inf)}, ValueError, "origin is inf"),
        ({"origin": (0, 1)}, ValueError, "origin has 2 numbers"),
        ({"origin": np.ones((3, 3))}, ValueError, r"origin has shape \(3, 3\), expected"),
        ({"origin": np.ones((2, 3), int)}, TypeError, "origin has dtype int64"),
        ({"origin": "corner"}, TypeError, "origin is 'corner'"),
        ({"reduce": "median"}, ValueError, "reduce is 'median', expected one of 'binary'"),
        ({"reduce": ()}, ValueError, r"reduce is \(\)"),
        ({"reduce": ("max", "max")}, ValueError, "reduce is .*different"),
        ({"reduce": "counts"}, ValueError, "reduce is 'counts'"),
        ({"reduce": 3}, ValueError, "reduce is 3"),
        ({"features": MANY}, ValueError, "features are given, which reduce='binary'"),
        ({"features": MANY[:1], "reduce": "max"}, ValueError, r"features has shape \(1, 4, 5\)"),
        ({"features": MANY[0], "reduce": "max"}, ValueError, r"features has shape \(4, 5\)"),
        ({"features": MANY[..., 0], "reduce": "max"}, ValueError, r"features has shape \(2, 4\)"),
        ({"features": MANY.astype(int), "reduce": "mean"}, TypeError, "features has dtype int64"),
        ({"features": MANY > 0, "reduce": "max"}, TypeError, "features has dtype bool"),
        ({"features": MANY + 0j, "reduce": "first"}, TypeError, "features has dtype complex64"),
        ({"features": MANY.astype("M8[ns]"), "reduce": "first"}, TypeError, "features has dtype"),
        ({"lengths": [1, 2, 3]}, ValueError, r"lengths has shape \(3,\), expected \(2,\)"),
        ({"lengths": np.ones(2)}, TypeError, "lengths has dtype float64"),
        ({"mask": np.ones((4, 2), bool)}, ValueError, r"mask has shape \(4, 2\), expected"),
        ({"mask": np.ones((2, 4))}, TypeError, "mask has dtype float64"),
        ({"transform": np.eye(3)}, ValueError, r"transform has 3 rows|transform has shape"),
        ({"transform": np.ones((4, 4))}, ValueError, "transform ends in the row"),
        ({"transform": np.eye(4) * np.nan}, ValueError, "transform has a number that is not"),
        ({"transform": np.ones((3, 4, 4))}, ValueError, r"transform has shape \(3, 4, 4\)"),
        ({"transform": np.ones((2, 4, 4), int)}, TypeError, "transform has dtype int64"),
        ({"transform": 5.0}, TypeError, "transform is a number, expected a matrix"),
        ({"transform": "camera"}, TypeError, "transform is 'camera', expected a matrix"),
        ({"voxel_size": 1e-30}, ValueError, "voxel_size is 1e-30"),
        ({"out_of_bounds": "wrap"}, ValueError, "out_of_bounds is 'wrap', expected one of 'drop'"),
        ({"fill_value": "0", "reduce": "mean"}, TypeError, "fill_value is '0'"),
        ({"fill_value": "0", "reduce": "max"}, TypeError, "fill_value is '0'"),
        ({"fill_value": np.nan, "reduce": "max", "features": MANY.astype("u1")}, ValueError,
         "fill_value is nan, which uint8"),
        ({"dtype": "int32"}, TypeError, "dtype of binary is int32, expected one of uint8"),
        ({"dtype": "float32", "reduce": "count"}, TypeError, "dtype of count is float32"),
        ({"dtype": "bits", "reduce": "count"}, TypeError, "dtype of count is bits"),
        ({"dtype": "int32", "reduce": "sum"}, TypeError, "dtype of sum is int32"),
        ({"dtype": "float64", "reduce": "max"}, TypeError, "dtype of max is float64"),
        ({"dtype": "nonsense"}, TypeError, "dtype of binary is nonsense"),
        ({"dtype": "f4", "reduce": ("sum", "mean")}, ValueError, "dtype is 'f4', expected one for"),
        ({"dtype": ["f4"], "reduce": ("sum", "mean")}, ValueError, "dtype has 1 entries"),
        ({"backend": "gpu"}, ValueError, "backend is 'gpu'"),
    ],
)  # fmt: skip
def test_errors_name_the_argument(change, error, words):
    arguments = {"points": ONES, "grid_size": 4, "voxel_size": 1.0} | change
    with pytest.raises(error, match=words):
        voxelize_point_cloud(**arguments)
    if set(change) <= {"points", "grid_size", "voxel_size", "origin", "lengths", "mask",
                       "transform", "out_of_bounds", "backend"}:  # fmt: skip
        with pytest.raises(error, match=words):
            voxel_indices(**arguments)


def test_mixed_frameworks():
    torch = pytest.importorskip("torch")
    with pytest.raises(TypeError, match=r"one framework .* points \(torch .*features \(numpy"):
        voxelize_point_cloud(torch.ones(2, 4, 3), 4, 1.0, reduce="max", features=MANY)


def test_a_single_voxel_of_several_channels(lib):
    """Whose stride by channel is 1, whatever comes first."""
    points = np.array([[5.0, 5, 5]], "f4")
    for reduce in ("sum", "max", "first"):
        for channels_first in (False, True):
            grid = voxelize(
                lib, points, 1, 1.0, reduce=reduce, features=np.ones((1, 3), "f4"), fill_value=7,
                channels_first=channels_first,
            )  # fmt: skip
            np.testing.assert_array_equal(grid.ravel(), [7, 7, 7])


# --------------------------------------------------------- the CUDA text and its definition


REFERENCE = Kernel.on_host  # before any lane of `lib` replaces it


def on_both(run):
    """What the CUDA text gives on the host, and what its definition gives."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kernel, "on_host", host_cuda.on_host)
        got = run()
        patch.setattr(Kernel, "on_host", REFERENCE)
        return got, run()


@settings(max_examples=150)
@given(st.data())
def test_cuda_is_its_reference(data):
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    draw = data.draw
    B, N = draw(st.sampled_from([(1, 0), (1, 1), (2, 63), (3, 700), (1, 5000), (40, 90)]))
    grid = tuple(draw(st.sampled_from([1, 2, 5, 16, 33])) for _ in range(3))
    dtype = draw(st.sampled_from(FLOATS))
    p = crowd(random, B, N, grid, dtype)
    if draw(st.booleans()):
        p = np.concatenate([p, p[..., :1]], -1)[..., :3]
    options = {}
    if draw(st.booleans()):
        options["lengths"] = random.integers(-1, N + 2, B)
    if draw(st.booleans()):
        options["mask"] = random.random((B, N)) < 0.7
    if draw(st.booleans()):
        each = draw(st.booleans())
        options["transform"] = random_rigid(random, B) if each else random_rigid(random)
    options["out_of_bounds"] = draw(st.sampled_from(["drop", "clamp"]))
    size = draw(st.sampled_from([1.0, (0.9, 1.1, 0.3)]))
    origin = draw(st.sampled_from([0.0, (0.5, -0.25, 0.1), random.uniform(-1, 1, (B, 3))]))
    x = draw(st.sampled_from([None, *ORDERED]))
    names = list(REDUCTIONS)
    more = {}
    if x is not None:
        more["features"] = feature_array(random, (B, N, draw(st.sampled_from([1, 3, 6]))), x)
        if x not in SUMMED:
            names = [n for n in names if n not in ("sum", "mean")]
    names = draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    if not set(names) & set(OF_FEATURES):
        more = {}
    more |= {"channels_first": draw(st.booleans()), "fill_value": draw(st.sampled_from([0, 5]))}
    most = draw(st.sampled_from([-1, 2**60]))

    def run():
        grids = voxelize_point_cloud(p, grid, size, origin, reduce=tuple(names), **options, **more)
        grids = grids if isinstance(grids, tuple) else (grids,)
        return [*grids, voxel_indices(p, grid, size, origin, **options)]

    with up_to(most):
        both = on_both(run)
    for got, expected in zip(*both, strict=True):
        assert_identical(got, expected)


# ------------------------------------------------------------------------------- real clouds

CLOUDS = {
    "nc_kitti_nuscenes/kitti/velodyne/000008.bin": 17_238,
    "nc_kitti_nuscenes/nuscenes": 34_688,
    "pcd_lidar_and_kinect/lidar.pcd": 115_385,
    "pcd_lidar_and_kinect/table_scene_mug_stereo_textured.pcd": 307_200,
}


@pytest.mark.parametrize("name", CLOUDS)
def test_real_clouds(lib, logs_dir, name):
    path = logs_dir / name
    if path.is_dir():
        (path,) = path.rglob("*.bin")
    p = read_cloud(path).points
    N = CLOUDS[name]
    assert p.shape == (N, 3)
    finite = np.isfinite(p).all(-1)
    if "table" in name:
        assert 0.31 < 1 - finite.mean() < 0.33
    low, high = np.quantile(p[finite], (0.05, 0.9), axis=0)
    grid = (60, 50, 20)
    size, origin = ((high - low) / grid).tolist(), low.tolist()
    found = oracle.indices(p[None], grid, size, origin)
    counts = voxelize(lib, p, grid, size, origin, reduce="count")
    assert counts.sum() + (found[0, :, 0] < 0).sum() == N
    assert N / 2 * finite.mean() < counts.sum() < finite.sum()
    linear = np.ravel_multi_index(found[found[..., 0] >= 0].T, grid)
    np.testing.assert_array_equal(counts.reshape(-1), np.bincount(linear, minlength=counts.size))
    got = voxelize(lib, p, grid, size, origin, reduce=("binary", "mean", "max", "first"))
    np.testing.assert_array_equal(got.binary, counts > 0)
    where = np.argwhere(counts)
    corner = np.float32(origin) + where * np.float32(size)
    inside = got.mean[counts > 0] - corner
    assert (inside > -1e-3 * np.array(size)).all()
    assert (inside < 1.001 * np.array(size)).all()
    for i, j, k in where[:: max(1, len(where) // 50)]:
        of = p[(found[0] == (i, j, k)).all(-1)]
        assert_same(got.first[i, j, k], of[0])
        assert_same(got.max[i, j, k], of.max(0))
        want = [oracle.summed(of[:, c], True, np.dtype("f4")) for c in range(3)]
        assert_same(got.mean[i, j, k], np.array(want, p.dtype))


@pytest.mark.parametrize("name", CLOUDS)
def test_real_clouds_on_both(logs_dir, name):
    path = logs_dir / name
    if path.is_dir():
        (path,) = path.rglob("*.bin")
    p = read_cloud(path).points
    finite = p[np.isfinite(p).all(-1)].astype(np.float64)
    center, size = np.median(finite, 0), finite.std(0) / 20
    at = random_rigid(np.random.default_rng(3))
    at[:3, 3] = center - at[:3, :3] @ center  # turns the cloud in its place
    args = (p, (80, 80, 40), size, center - size * (40, 40, 20))
    options = {"reduce": REDUCTIONS}
    for more in ({}, {"transform": at}):
        got, expected = on_both(lambda: voxelize_point_cloud(*args, **options, **more))  # noqa: B023
        assert expected.count.sum() > len(finite) / 20
        for x, y in zip(got, expected, strict=True):
            assert_identical(x, y)


# --------------------------------------------------------------------------- lattices of the host


def test_a_grid_from_bounds():
    grid = grid_from_bounds((-1, -2, -0.5, 1, 2, 0.5), 0.25)
    assert grid == ((8, 16, 4), (0.25, 0.25, 0.25), (-1, -2, -0.5))
    assert grid._fields == ("grid_size", "voxel_size", "origin")
    assert grid_from_bounds([[-1, -2, -0.5], [1, 2, 0.5]], (0.25, 0.5, 1)).grid_size == (8, 8, 1)
    assert grid_from_bounds(np.array([0, 0, 0, 70.4, 80, 4]), (0.05, 0.05, 0.1)).grid_size == (
        1408, 1600, 40)  # fmt: skip
    of_sizes = grid_from_bounds((-0.3, -0.5, 0.6, 0.7, 0.5, 1.6), grid_size=(100, 50, 10))
    assert of_sizes == ((100, 50, 10), (0.01, 0.02, 0.1), (-0.3, -0.5, 0.6))
    p = np.random.default_rng(0).uniform(-1, 1, (100, 3)).astype("f4")
    assert voxelize_point_cloud(p, *grid_from_bounds((-1, -1, -1, 1, 1, 1), 0.5)).shape == (4,) * 3
    assert voxelize_point_cloud(
        p, *grid_from_bounds((-1, -1, -1, 1, 1, 1), 0.5), reduce="count"
    ).sum() == 100  # fmt: skip


def test_bounds_that_are_no_multiple():
    for bounds, axis in (((0, 0, 0, 50, 48, 4), "x"), ((0, 0, 0, 48, 50, 4), "y")):
        with pytest.raises(ValueError, match=f"bounds is 312.5 voxels long along {axis}"):
            grid_from_bounds(bounds, 0.16)
        ceil = grid_from_bounds(bounds, 0.16, rounding="ceil")
        assert sorted(ceil.grid_size) == [25, 300, 313]
        assert (ceil.voxel_size, ceil.origin) == ((0.16,) * 3, (0, 0, 0))
    assert grid_from_bounds((0, 0, 0, 1.0005, 1, 1), 0.5).grid_size == (2, 2, 2)
    assert grid_from_bounds((0, 0, 0, 1.0004, 1, 1), 0.5, rounding="ceil").grid_size == (2, 2, 2)
    with pytest.raises(ValueError, match="voxels long"):
        grid_from_bounds((0, 0, 0, 1.0006, 1, 1), 0.5)


@pytest.mark.parametrize(
    ("bounds", "options", "words"),
    [
        ((0, 0, 0, 1, 1), {"voxel_size": 1}, r"bounds has shape \(5,\)"),
        ((0, 0, 0, 1, 1, 0), {"voxel_size": 1}, "bounds is .*lower corner below"),
        ((0, 0, 0, 1, 1, np.nan), {"voxel_size": 1}, "bounds is"),
        ((0, 0, 0, 1, 1, np.inf), {"voxel_size": 1}, "bounds is"),
        ((0, 0, 0, 1, 1, 1), {}, "give voxel_size or grid_size"),
        ((0, 0, 0, 1, 1, 1), {"voxel_size": 1, "grid_size": 1}, "give voxel_size or grid_size"),
        ((0, 0, 0, 1, 1, 1), {"voxel_size": 0}, "voxel_size is 0"),
        ((0, 0, 0, 1, 1, 1), {"voxel_size": np.nan}, "voxel_size is nan"),
        ((0, 0, 0, 1, 1, 1), {"voxel_size": (1, 1)}, r"voxel_size .*expected"),
        ((0, 0, 0, 1, 1, 1), {"grid_size": 0}, "grid_size is 0"),
        ((0, 0, 0, 1, 1, 1), {"voxel_size": 1, "rounding": "up"}, "rounding is 'up'"),
        ((0, 0, 0, 1e9, 1, 1), {"voxel_size": 1}, "grid_size is"),
    ],
)
def test_bounds_that_make_no_grid(bounds, options, words):
    with pytest.raises(ValueError, match=words):
        grid_from_bounds(bounds, **options)


def test_voxel_centers(lib):
    """Each lies in its own voxel."""
    grid, size, origin = (4, 3, 5), (0.5, 0.25, 2), (-1, 0.5, 3)
    centers = voxel_centers(grid, size, origin)
    assert (centers.shape, centers.dtype) == ((4, 3, 5, 3), np.float64)
    assert centers[1, 2, 3].tolist() == [-1 + 1.5 * 0.5, 0.5 + 2.5 * 0.25, 3 + 3.5 * 2]
    ijk = np.stack(np.meshgrid(*map(np.arange, grid), indexing="ij"), -1).reshape(-1, 3)
    for dtype in ("f4", "f8"):
        p = centers.reshape(-1, 3).astype(dtype)
        np.testing.assert_array_equal(located(lib, p, grid, size, origin), ijk)
    assert voxel_centers(2, 1).shape == (2, 2, 2, 3)
    with pytest.raises(ValueError, match="voxel_size"):
        voxel_centers(2, (1, 2))
    with pytest.raises(ValueError, match="origin"):
        voxel_centers(2, 1, (1, 2))
    with pytest.raises(ValueError, match="voxel_size is -1"):
        voxel_centers(2, -1)
