import itertools

import ml_dtypes
import numpy as np
import pytest
import sparse_oracle as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from robocache_cupy import voxel_downsample, voxelize_point_cloud, voxelize_sparse
from robocache_cupy._core.plan import Op

DTYPES = ("float16", "bfloat16", "float32", "float64")
FEATURES = ("uint8", "int32", "int64", *DTYPES)
OPS = {"sparse": voxelize_sparse, "downsample": voxel_downsample}


def np_dtype(name):
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def run(lib, function, *args, **options):
    """The fields of a result as NumPy arrays."""
    args = [lib.array(x) if i == 0 else x for i, x in enumerate(args)]
    options = {n: lib.array(x) if isinstance(x, np.ndarray) else x for n, x in options.items()}
    return {n: lib.numpy(x) for n, x in function(*args, **options)._asdict().items()}


def same(got, expected):
    """Equal names, shapes, dtypes and bits; NaN is NaN."""
    assert list(got) == list(expected)
    for name, x in expected.items():
        y = got[name]
        assert (y.shape, y.dtype) == (x.shape, x.dtype), name
        if x.dtype == np.dtype(ml_dtypes.bfloat16):
            x, y = x.astype("f4"), y.astype("f4")
        np.testing.assert_array_equal(y, x, err_msg=name, strict=True)
        if x.dtype.kind == "f":
            finite = ~np.isnan(x)
            np.testing.assert_array_equal(np.signbit(y)[finite], np.signbit(x)[finite], name)


def cloud_of(random, B, N, dtype, width=5.0):
    """Points around the grid, on a lattice of sixteenths, some of them nowhere."""
    points = random.integers(-16, int(16 * width) + 16, (B, N, 3)) / 16
    points[random.random((B, N, 3)) < 0.01] = random.choice([np.nan, np.inf, -np.inf, -0.0])
    return points.astype(np_dtype(dtype))


def features_of(random, shape, dtype):
    if dtype in ("uint8", "int32", "int64"):
        info = np.iinfo(dtype)
        return random.integers(info.min, info.max, shape, dtype, endpoint=True)
    x = random.standard_normal(shape) * 2.0 ** random.integers(-8, 8, shape)
    return np.where(random.random(shape) < 0.05, -0.0, x).astype(np_dtype(dtype))


def some_options(data, random, B, N):
    options = {}
    if data.draw(st.booleans(), label="lengths"):
        options["lengths"] = random.integers(-1, N + 2, B).astype(random.choice(["i4", "i8"]))
    if data.draw(st.booleans(), label="mask"):
        options["mask"] = random.random((B, N)) < random.choice([0.0, 0.7])
    return options


SIZES = st.sampled_from([(1, 0), (1, 1), (2, 7), (3, 40), (1, 300), (2, 601), (5, 33)])


@settings(max_examples=120)
@given(st.data())
def test_sparse_is_what_np_unique_gives(lib, data):
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    B, N = data.draw(SIZES)
    dtype = data.draw(st.sampled_from(("float16", "float32", "float64")))
    points = cloud_of(random, B, N, dtype)
    grid = data.draw(st.sampled_from([(5, 5, 5), (1, 2, 9), (10, 3, 300), (1, 1, 1)]))
    size = data.draw(st.sampled_from([1.0, (0.5, 1.0, 2.0)]))
    origin = data.draw(st.sampled_from([0.0, (0.25, 0.0, -1.0), "each"]))
    if origin == "each":
        origin = random.integers(-4, 4, (B, 3)) / 4.0
    options = some_options(data, random, B, N)
    if data.draw(st.booleans(), label="transform"):
        matrix = np.eye(4)
        matrix[:3] = np.round(random.standard_normal((3, 4)) * 4) / 4
        options["transform"] = matrix
    options["order"] = data.draw(st.sampled_from(["sorted", "first_seen"]))
    options["coord_order"] = data.draw(st.sampled_from(["xyz", "zyx"]))
    options["max_voxels"] = data.draw(st.sampled_from([None, 1, 6, 200]))
    options["reduce"] = data.draw(st.sampled_from([None, "mean", "sum", "max", "min", "first"]))
    options["max_points_per_voxel"] = data.draw(st.sampled_from([None, 1, 4]))
    takes = options["reduce"] or options["max_points_per_voxel"]
    if takes and data.draw(st.booleans(), label="features"):
        C = data.draw(st.sampled_from([1, 4]))
        options["features"] = features_of(random, (B, N, C), random.choice(["uint8", "float32"]))
    expected = oracle.sparse(points, grid, size, origin, **options)
    same(run(lib, voxelize_sparse, points, grid, size, origin=origin, **options), expected)
    if B == 1 and not isinstance(origin, np.ndarray):
        one = {n: x[0] if n in ("mask", "features") else x for n, x in options.items()}
        expected["inverse"] = expected["inverse"][0]
        same(run(lib, voxelize_sparse, points[0], grid, size, origin=origin, **one), expected)


@settings(max_examples=120)
@given(st.data())
def test_downsample_is_what_np_unique_gives(lib, data):
    random = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    B, N = data.draw(SIZES)
    dtype = data.draw(st.sampled_from(("float16", "float32", "float64")))
    points = cloud_of(random, B, N, dtype, width=random.choice([1.0, 9.0]))
    size = data.draw(st.sampled_from([1.0, 2.0, (0.5, 1.0, 2.0)]))
    origin = data.draw(st.sampled_from([0.0, (0.25, 0.0, -1.0), "each"]))
    if origin == "each":
        origin = random.integers(-4, 4, (B, 3)) / 4.0
    options = some_options(data, random, B, N)
    options["reduce"] = data.draw(st.sampled_from(["mean", "first", "center"]))
    options["min_points"] = data.draw(st.sampled_from([1, 2, 3]))
    options["capacity"] = data.draw(st.sampled_from([None, 1, 7, 400]))
    if data.draw(st.booleans(), label="features"):
        options["features"] = features_of(random, (B, N, 4), random.choice(["uint8", "float32"]))
    expected = oracle.downsample(points, size, origin, **options)
    same(run(lib, voxel_downsample, points, size, origin=origin, **options), expected)
    if B == 1 and not isinstance(origin, np.ndarray):
        one = {n: x[0] if n in ("mask", "features") else x for n, x in options.items()}
        expected["inverse"] = expected["inverse"][0]
        same(run(lib, voxel_downsample, points[0], size, origin=origin, **one), expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_points_of_every_dtype(lib, dtype):
    random = np.random.default_rng(1)
    points = cloud_of(random, 2, 90, dtype)
    for grid in ((5, 5, 5), (2048, 2048, 2048)):  # keys of 32 bits, and of 64
        expected = oracle.sparse(points, grid, 0.5, reduce="first", max_points_per_voxel=2)
        got = run(lib, voxelize_sparse, points, grid, 0.5, reduce="first", max_points_per_voxel=2)
        same(got, expected)
    for reduce in ("mean", "first", "center"):
        got = run(lib, voxel_downsample, points, 0.75, reduce=reduce, capacity=150)
        same(got, oracle.downsample(points, 0.75, reduce=reduce, capacity=150))


@pytest.mark.parametrize("dtype", FEATURES)
def test_features_of_every_dtype(lib, dtype):
    random = np.random.default_rng(2)
    points = cloud_of(random, 2, 90, "float32", 2.0)
    features = features_of(random, (2, 90, 5), dtype)
    if dtype in DTYPES:
        features[random.random((2, 90, 5)) < 0.02] = np.nan
        features[0, :9, 0] = np.inf
    for reduce in ("mean", "sum", "max", "min", "first"):
        if reduce in ("mean", "sum") and dtype in ("int32", "int64"):
            with pytest.raises(TypeError, match=f"features has dtype {dtype}, expected one of"):
                voxelize_sparse(points, 2, 1.0, features=features, reduce=reduce)
            continue
        options = {"features": features, "reduce": reduce, "max_points_per_voxel": 3}
        got = run(lib, voxelize_sparse, points, 2, 1.0, **options)
        same(got, oracle.sparse(points, (2, 2, 2), 1.0, **options))


# ---------------------------------------------------------------------------------- the dense op


@pytest.mark.parametrize("reduce", ["count", "mean", "sum", "max", "min", "first"])
def test_it_is_the_dense_result_where_it_is_not_empty(lib, reduce):
    random = np.random.default_rng(3)
    points = (random.standard_normal((2, 3000, 3)) * 3).astype("f4")
    features = random.standard_normal((2, 3000, 3)).astype("f4") * 1e3
    features[0, ::97] = np.nan
    grid, size, origin = (11, 7, 5), (0.7, 1.1, 0.9), (-4, -4, -2)
    lattice = lib.array(points), grid, size, origin
    given = {} if reduce == "count" else {"features": lib.array(features)}
    whole = lib.numpy(voxelize_point_cloud(*lattice, reduce=reduce, **given))
    if given:
        given["reduce"] = reduce
    found = voxelize_sparse(*lattice, **given)
    rows = lib.numpy(found.counts if reduce == "count" else found.features)
    again = np.zeros_like(whole)
    again[tuple(lib.numpy(found.coords).T)] = rows
    np.testing.assert_array_equal(again.view("i4"), whole.view("i4"))


def test_the_points_of_a_downsample_are_means_of_the_dense_op(lib):
    random = np.random.default_rng(4)
    points = (random.random((700, 3)) * 4).astype("f4")
    dense = lib.numpy(voxelize_point_cloud(lib.array(points), 4, 1.0, reduce="mean"))
    got = run(lib, voxel_downsample, points, 1.0)
    np.testing.assert_array_equal(got["points"].view("i4"), dense.reshape(-1, 3).view("i4"))


# ------------------------------------------------------------------------------ edges and extremes


@pytest.mark.parametrize("fixed", [False, True])
def test_nothing_to_find(lib, fixed):
    for B, N in ((0, 0), (0, 5), (2, 0), (2, 5)):
        points = np.full((B, N, 3), 99.0, "f4")
        for order in ("sorted", "first_seen"):
            options = {"order": order, "reduce": "mean", "max_points_per_voxel": 2}
            options["max_voxels"] = 3 if fixed else None
            got = run(lib, voxelize_sparse, points, 4, 1.0, **options)
            same(got, oracle.sparse(points, (4, 4, 4), 1.0, **options))
        points[:] = np.nan
        options = {"features": np.ones((B, N, 2), "f4"), "capacity": 3 if fixed else None}
        for reduce in ("mean", "first", "center"):
            got = run(lib, voxel_downsample, points, 1.0, reduce=reduce, **options)
            same(got, oracle.downsample(points, 1.0, reduce=reduce, **options))
    got = run(lib, voxel_downsample, np.ones((3, 3)), 1.0, min_points=4)
    assert got["points"].shape == (0, 3)
    assert got["inverse"].tolist() == [-1, -1, -1]


def test_features_without_channels(lib):
    features = np.ones((2, 5, 0), "f4")
    points = np.ones((2, 5, 3), "f4")
    got = run(lib, voxelize_sparse, points, 4, 1.0, features=features, reduce="mean")
    assert got["features"].shape == (2, 0)
    got = run(lib, voxel_downsample, points, 1.0, features=features)
    assert got["features"].shape == (2, 0)


def test_a_voxel_with_all_the_points(lib):
    random = np.random.default_rng(5)
    points = random.random((100_000, 3)).astype("f4")
    points[17] = 1.5
    for order, max_voxels in itertools.product(("sorted", "first_seen"), (None, 2)):
        options = {"reduce": "mean", "order": order, "max_voxels": max_voxels}
        options["max_points_per_voxel"] = 4
        got = run(lib, voxelize_sparse, points, 2, 1.0, **options)
        expected = oracle.sparse(points[None], (2, 2, 2), 1.0, **options)
        expected["inverse"] = expected["inverse"][0]
        same(got, expected)
    got = run(lib, voxel_downsample, points, 1.0)
    expected = np.delete(points, 17, 0).astype("f8").mean(0)
    np.testing.assert_array_equal(got["counts"], [99_999, 1])
    np.testing.assert_array_equal(got["points"][0], expected.astype("f4"))


@pytest.mark.parametrize(
    ("B", "N", "grid"),
    [
        (1, 70_000, (128, 128, 128)),
        (3, 9000, (3, 400, 500)),
        (1, 20_000, (2**16, 2**15, 2**10)),  # keys of 41 bits
        (700, 40, (8, 8, 8)),
    ],
)
@pytest.mark.parametrize("order", ["sorted", "first_seen"])
def test_many_blocks(lib, B, N, grid, order):
    random = np.random.default_rng(N)
    points = (random.standard_normal((B, N, 3)) / 4 + 0.5) * np.minimum(grid, 60)
    points = points.astype("f4")
    got = run(lib, voxelize_sparse, points, grid, 1.0, order=order)
    found = np.floor(points).astype(int)
    kept = ((points >= 0) & (points < np.array(grid))).all(-1)
    b, n = np.nonzero(kept)
    voxels = np.concatenate([b[:, None], found[kept]], 1)
    coords, first, inverse, counts = np.unique(
        voxels, axis=0, return_index=True, return_inverse=True, return_counts=True
    )
    turn = np.arange(len(coords)) if order == "sorted" else np.argsort(first)
    back = np.argsort(turn)
    np.testing.assert_array_equal(got["coords"], coords[turn])
    np.testing.assert_array_equal(got["counts"], counts[turn])
    np.testing.assert_array_equal(got["first"], n[first][turn])
    np.testing.assert_array_equal(got["inverse"][kept], back[inverse.reshape(-1)])
    np.testing.assert_array_equal(got["inverse"][~kept], -1)
    np.testing.assert_array_equal(
        got["num_voxels"], np.bincount(coords[:, 0].astype(int), minlength=B)
    )


@pytest.mark.parametrize("grid", [(65536, 65536, 1), (2048, 2048, 1024), (65536, 65535, 1)])
def test_the_last_voxel_of_a_grid_that_32_bits_number(lib, grid):
    corners = np.array([np.zeros(3), np.array(grid) - 1])
    voxels = voxelize_sparse(lib.array(corners + 0.5), grid, 1.0)
    np.testing.assert_array_equal(lib.numpy(voxels.coords)[:, 1:], corners)


def test_coordinates_of_a_map(lib):
    """206,494 m, where autoware lost the centroids: exact but for the rounding at the end."""
    random = np.random.default_rng(6)
    near = np.round(random.random((4000, 3)) * 8 * 1024) / 1024  # exact in float64
    offset = np.array([206_494.0, 5_320_000.0, -12.0])
    for dtype in ("f4", "f8"):
        points = (near + offset).astype(dtype)
        got = run(lib, voxel_downsample, points, 2.0, origin=tuple(offset))
        voxel = np.floor((points - offset.astype(dtype)) / np.dtype(dtype).type(2)).astype(int)
        _, of = np.unique(voxel, axis=0, return_inverse=True)
        exact = points.astype("f8") - offset  # of which sums are exact
        means = np.stack([exact[of.reshape(-1) == i].mean(0) for i in range(of.max() + 1)])
        np.testing.assert_array_equal(got["points"].shape, means.shape)
        error = np.abs(got["points"].astype("f8") - (means + offset))
        unit = np.spacing(np.abs(got["points"])).astype("f8")
        reference = np.spacing(np.abs(means + offset))  # `means` and the sum are rounded too
        assert (error <= unit / 2 + 2 * reference).all()
        same(got, oracle_of_one(points, 2.0, tuple(offset)))
    plain = run(lib, voxel_downsample, (near + offset).astype("f4"), 8.0)  # of an origin far away
    same(plain, oracle_of_one((near + offset).astype("f4"), 8.0, 0.0))


def oracle_of_one(points, *args, **options):
    expected = oracle.downsample(points[None], *args, **options)
    return expected | {"inverse": expected["inverse"][0]}


def test_the_end_of_the_unbounded_lattice(lib):
    edge = 2.0**20
    x = [edge - 1, edge - 0.5, edge, 1 - edge, 0.5 - edge, -edge, 1e30, -1e30]
    points = np.zeros((len(x), 3))
    points[:, 1] = x
    got = run(lib, voxel_downsample, points, 1.0, reduce="center")
    np.testing.assert_array_equal(got["inverse"], [1, 1, -1, 0, -1, -1, -1, -1])
    np.testing.assert_array_equal(got["points"][:, 1], [1.5 - edge, edge - 0.5])


def test_voxels_below_the_origin(lib):
    points = np.array([[-0.25, 0, 0], [0.25, 0, 0], [-1.0, 0, 0], [-0.0, 0, 0], [-1.25, 0, 0]])
    got = run(lib, voxel_downsample, points, 1.0, reduce="center")
    np.testing.assert_array_equal(got["points"][:, 0], [-1.5, -0.5, 0.5])
    np.testing.assert_array_equal(got["inverse"], [1, 2, 1, 2, 0])


def test_overflow_drops_the_last_voxels(lib):
    points = np.array([[[3.5, 0, 0], [0.5, 0, 0], [3.6, 0, 0], [1.5, 0, 0], [2.5, 0, 0]]], "f4")
    got = run(lib, voxelize_sparse, points, 4, 1.0, max_voxels=2)
    np.testing.assert_array_equal(got["coords"][:, 1], [0, 1])
    np.testing.assert_array_equal(got["inverse"], [[-1, 0, -1, 1, -1]])
    got = run(lib, voxelize_sparse, points, 4, 1.0, max_voxels=2, order="first_seen")
    np.testing.assert_array_equal(got["coords"][:, 1], [3, 0])
    np.testing.assert_array_equal(got["inverse"], [[0, 1, 0, -1, -1]])
    np.testing.assert_array_equal(got["counts"], [2, 1])
    np.testing.assert_array_equal(got["num_voxels"], [4])
    got = run(lib, voxel_downsample, points, 1.0, capacity=3)
    np.testing.assert_array_equal(got["points"][:, 0], [0.5, 1.5, 2.5])
    np.testing.assert_array_equal(got["num_voxels"], [4])


def test_capacity_gives_what_the_read_gives(lib):
    random = np.random.default_rng(7)
    points = cloud_of(random, 3, 500, "float32")
    for order in ("sorted", "first_seen"):
        options = {"reduce": "mean", "max_points_per_voxel": 2, "order": order}
        free = run(lib, voxelize_sparse, points, 5, 1.0, **options)
        fixed = run(lib, voxelize_sparse, points, 5, 1.0, max_voxels=130, **options)
        at = np.concatenate([130 * b + np.arange(n) for b, n in enumerate(free["num_voxels"])])
        for name in ("coords", "counts", "first", "features", "voxels", "num_points"):
            np.testing.assert_array_equal(fixed[name][at], free[name])
            rest = np.delete(fixed[name], at, 0)
            assert (rest == (-1 if name in ("coords", "first") else 0)).all()
        np.testing.assert_array_equal(fixed["batch_offsets"], [0, 130, 260, 390])
        np.testing.assert_array_equal(fixed["num_voxels"], free["num_voxels"])


def test_the_order_of_points_does_not_matter(lib):
    random = np.random.default_rng(8)
    points = (random.random((1, 5000, 3)) * 6).astype("f4")
    turn = random.permutation(5000)
    for reduce in ("mean", "sum", "max", "min"):
        a = run(lib, voxelize_sparse, points, 6, 1.0, reduce=reduce)
        b = run(lib, voxelize_sparse, points[:, turn], 6, 1.0, reduce=reduce)
        for name in ("coords", "counts", "features"):
            assert a[name].tobytes() == b[name].tobytes(), (reduce, name)
        np.testing.assert_array_equal(a["inverse"][:, turn], b["inverse"])
    a = run(lib, voxel_downsample, points, 1.0)
    b = run(lib, voxel_downsample, points[:, turn], 1.0)
    assert a["points"].tobytes() == b["points"].tobytes()


def test_cancelling_and_outlying_terms(lib):
    points = np.array([[0.5, 0, 0]] * 3 + [[1.5, 0, 0]] * 2, "f4")
    features = np.array([[1e9], [1.0], [-1e9], [1e-6], [3e-6]], "f4")
    got = run(lib, voxelize_sparse, points, 2, 1.0, features=features, reduce="sum")
    small = np.float32(np.float64(features[3, 0]) + np.float64(features[4, 0]))
    np.testing.assert_array_equal(got["features"], [[1.0], [small]])


# -------------------------------------------------------------------------------- calls and plans


def test_views_are_not_copied(lib):
    random = np.random.default_rng(9)
    scans = (random.random((3, 90, 6)) * 5).astype("f4")
    view, features = lib.array(scans)[:, ::2, 1:4], lib.array(scans)[:, ::2, 4:]
    for name, op in OPS.items():
        Op.all[op.__name__].cache.clear()
        if name == "sparse":
            got = op(view, 5, 1.0, features=features, reduce="max", max_voxels=99)
            expected = oracle.sparse(
                scans[:, ::2, 1:4], (5, 5, 5), 1.0, features=scans[:, ::2, 4:], reduce="max",
                max_voxels=99,
            )  # fmt: skip
        else:
            got = op(view, 1.0, features=features, capacity=99)
            expected = oracle.downsample(
                scans[:, ::2, 1:4], 1.0, features=scans[:, ::2, 4:], capacity=99
            )
        same({n: lib.numpy(x) for n, x in got._asdict().items()}, expected)
        if lib.name != "jax":
            assert len(Op.all[op.__name__].cache) == 1  # a copy would need a plan of its own


def test_views_of_any_kind():
    random = np.random.default_rng(10)
    points = (random.random((4, 60, 6)) * 5).astype("f4")
    mask = random.random((60, 8)) < 0.6
    for view in (
        points[::-1, ::-3, 2:5],
        points[:, :, ::2],  # columns that lie apart
        points.transpose(1, 0, 2)[:, :, :3],
        np.broadcast_to(points[:1, :, :3], (3, 60, 3)),
    ):
        same(voxelize_sparse(view, 5, 1.0)._asdict(), oracle.sparse(view, (5, 5, 5), 1.0))
        same(voxel_downsample(view, 1.0)._asdict(), oracle.downsample(view, 1.0))
    view, some = points[:, :, :3], mask.T[::2]
    got = voxelize_sparse(view, 5, 1.0, mask=some)._asdict()
    same(got, oracle.sparse(view, (5, 5, 5), 1.0, mask=some))


def test_a_new_lattice_makes_no_new_plan():
    points = np.arange(12.0).reshape(4, 3)
    for name, op in OPS.items():
        grid = [(8, 8, 8)] if name == "sparse" else []
        fixed = {"max_voxels": 4} if name == "sparse" else {"capacity": 4}
        op(points, *grid, 1.0, (0.5, 0.0, 0.0), **fixed)
        plans = len(Op.all[op.__name__].cache)
        op(points, *grid, 2.0, (0.0, 0.25, 0.0), **fixed)
        assert len(Op.all[op.__name__].cache) == plans


def test_the_results_have_names():
    points = np.zeros((2, 3), "f4")
    found = voxelize_sparse(points, 2, 1.0)
    assert type(found).__name__ == "SparseVoxels"
    assert found._fields == (
        "coords", "counts", "inverse", "first", "batch_offsets", "num_voxels",
    )  # fmt: skip
    thin = voxel_downsample(points, 1.0, features=points)
    assert type(thin).__name__ == "Downsampled"
    assert thin._fields == (
        "points", "features", "counts", "inverse", "batch_offsets", "num_voxels",
    )  # fmt: skip


def test_inside_jit():
    jax = pytest.importorskip("jax")
    random = np.random.default_rng(11)
    points = cloud_of(random, 2, 200, "float32")
    options = {"reduce": "mean", "order": "first_seen", "max_points_per_voxel": 2}
    got = jax.jit(lambda p: voxelize_sparse(p, 5, 1.0, max_voxels=60, **options))(points)
    expected = oracle.sparse(points, (5, 5, 5), 1.0, max_voxels=60, **options)
    same({n: np.asarray(x) for n, x in got._asdict().items()}, expected)
    got = jax.jit(lambda p, v: voxel_downsample(p, v, capacity=60))(points, 1.0)
    expected = oracle.downsample(points, 1.0, capacity=60)
    same({n: np.asarray(x) for n, x in got._asdict().items()}, expected)
    with pytest.raises(ValueError, match="pass max_voxels="):
        jax.jit(lambda p: voxelize_sparse(p, 5, 1.0))(points)
    with pytest.raises(ValueError, match="pass capacity="):
        jax.jit(lambda p: voxel_downsample(p, 1.0))(points)


ONES = np.ones((2, 4, 3), "f4")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"points": np.ones((2, 4, 3), int)}, "points has dtype int64"),
        ({"points": np.ones((4, 2), "f4")}, r"points has shape \(4, 2\), expected"),
        ({"grid_size": (4, 4)}, r"grid_size is \(4, 4\)"),
        ({"grid_size": (2**22, 2**22, 2**22)}, "grid_size is .*, expected at most 2.62 voxels"),
        ({"voxel_size": 0.0}, "voxel_size is 0.0"),
        ({"order": "zyx"}, "order is 'zyx', expected one of 'sorted', 'first_seen'"),
        ({"coord_order": "yxz"}, "coord_order is 'yxz', expected one of 'xyz', 'zyx'"),
        ({"reduce": "median"}, "reduce is 'median', expected one of"),
        ({"features": ONES}, "features are given, which nothing takes: give reduce="),
        ({"features": np.ones((2, 3, 3)), "reduce": "max"}, r"features has shape \(2, 3, 3\)"),
        ({"features": np.ones((2, 4, 1), bool), "reduce": "mean"}, "features has dtype bool"),
        ({"features": np.ones((2, 4, 1), "c8"), "reduce": "first"}, "features has dtype complex64"),
        ({"max_voxels": 0}, "max_voxels is 0, expected 1 to"),
        ({"max_voxels": 2.5}, "max_voxels is 2.5, expected an integer"),
        ({"max_voxels": 2**30}, "max_voxels is 1073741824, for 2 clouds: expected at most"),
        ({"max_points_per_voxel": 0}, "max_points_per_voxel is 0, expected 1 to"),
        ({"lengths": [1, 2, 3]}, r"lengths has shape \(3,\)"),
        ({"mask": np.ones(4, bool)}, r"mask has shape \(4,\)"),
    ],
)
def test_sparse_says_what_is_wrong(options, error):
    options = {"points": ONES, "grid_size": 4, "voxel_size": 1.0} | options
    with pytest.raises((ValueError, TypeError), match=error):
        voxelize_sparse(**options)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"points": np.ones((4, 2), "f4")}, r"points has shape \(4, 2\), expected"),
        ({"voxel_size": -1.0}, "voxel_size is -1.0"),
        ({"reduce": "max"}, "reduce is 'max', expected one of 'mean', 'first', 'center'"),
        ({"min_points": 0}, "min_points is 0, expected 1 to"),
        ({"min_points": None}, "min_points is None, expected an integer"),
        ({"capacity": 0}, "capacity is 0, expected 1 to"),
        ({"features": np.ones((2, 4), "f4")}, r"features has shape \(2, 4\)"),
        ({"features": np.ones((2, 4, 1), bool)}, "features has dtype bool"),
    ],
)
def test_downsample_says_what_is_wrong(options, error):
    options = {"points": ONES, "voxel_size": 1.0} | options
    with pytest.raises((ValueError, TypeError), match=error):
        voxel_downsample(**options)


def test_points_without_number():
    many = np.broadcast_to(np.zeros((1, 1, 3), "f4"), (2**20, 2**12, 3))
    with pytest.raises(ValueError, match="points has 1048576 x 4096 points, expected less than"):
        voxelize_sparse(many, 4, 1.0)
