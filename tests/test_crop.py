"""crop_and_sample: against farthest point sampling of the cropped cloud, and properties of the
random methods."""

import numpy as np
import pytest

from robocache_cupy import crop_and_sample, farthest_point_sample
from robocache_cupy._core.plan import Op

BOX = (-0.5, -0.25, 0.0, 0.5, 0.75, 1.0)


def clouds(rows=2, n=700, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    points = np.round(rng.uniform(-1, 1, (rows, n, 3)) * 256) / 256
    points[:, ::97] = np.nan
    return points.astype(dtype)


def in_box(points, box=BOX):
    low, high = np.reshape(box, (2, 3)).astype(points.dtype)
    with np.errstate(invalid="ignore"):
        return ((points >= low) & (points < high)).all(-1)


def taken(x, indices):
    rows = [np.where(i[:, None] >= 0, a[i], 0) for a, i in zip(x, indices, strict=True)]
    return np.stack(rows).astype(x.dtype)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_fps_is_that_of_the_cropped_cloud(lib, dtype):
    points = clouds(dtype=dtype)
    got = crop_and_sample(lib.array(points), BOX, 32)
    expected = farthest_point_sample(points, 32, mask=in_box(points))
    np.testing.assert_array_equal(lib.numpy(got.indices), expected)
    np.testing.assert_array_equal(lib.numpy(got.points), taken(points, expected))
    assert lib.numpy(got.points).dtype == dtype


@pytest.mark.parametrize("method", ["random", "voxel"])
def test_random_methods_draw_each_point_of_the_box_once(lib, method):
    points = clouds(n=5000)
    size = {"voxel_size": 0.125} if method == "voxel" else {}
    got = lib.numpy(crop_and_sample(lib.array(points), BOX, 600, method=method, seed=3, **size)[0])
    for cloud, indices in zip(points, got, strict=True):
        allowed = np.flatnonzero(in_box(cloud))
        if method == "voxel":
            cells = np.floor((cloud[allowed] - np.float32(BOX[:3])) / np.float32(0.125))
            _, first = np.unique(cells, axis=0, return_index=True)
            allowed = allowed[np.sort(first)]
        chosen = indices[indices >= 0]
        assert len(set(chosen)) == len(chosen) == min(600, len(allowed))
        assert set(chosen) <= set(allowed)
        if len(allowed) <= 600:
            assert set(chosen) == set(allowed)
            assert (indices[len(allowed) :] == -1).all()
    assert got[0].tolist() != got[1].tolist()
    again = crop_and_sample(points, BOX, 600, method=method, seed=3, **size).indices
    np.testing.assert_array_equal(got, again)  # on every backend
    other = crop_and_sample(points, BOX, 600, method=method, seed=4, **size).indices
    assert (got != other).any()


def test_chances_are_equal():
    """Each of 40 points is the first of 8 about as often, and each is drawn about as often."""
    points = np.zeros((4000, 40, 3), np.float32)
    drawn = crop_and_sample(points, (-1, -1, -1, 1, 1, 1), 8, method="random", seed=7).indices
    for counts, expected in (
        (np.bincount(drawn[:, 0], minlength=40), 100),
        (np.bincount(drawn.ravel(), minlength=40), 800),
    ):
        chi_square = ((counts - expected) ** 2 / expected).sum()
        assert chi_square < 80  # 39 degrees of freedom: one in ten thousand is above


@pytest.mark.parametrize("n", [3, 5, 8])
def test_every_order_has_the_same_chance(n):
    points = np.zeros((40_000, n, 3), np.float32)
    first, second = crop_and_sample(
        points, (-1, -1, -1, 1, 1, 1), 2, method="random", seed=1
    ).indices.T
    counts = np.bincount(first * n + second, minlength=n * n).reshape(n, n)
    assert (np.diag(counts) == 0).all()
    expected = len(points) / (n * (n - 1))
    others = counts[~np.eye(n, dtype=bool)]
    assert ((others - expected) ** 2 / expected).sum() < 2.2 * n * (n - 1)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 17, 64, 100])
def test_all_points_are_drawn_in_some_order(n):
    points = np.zeros((n, 3), np.float32)
    drawn = crop_and_sample(points, (-1, -1, -1, 1, 1, 1), n + 2, method="random").indices
    assert sorted(drawn.tolist()) == [-1, -1, *range(n)]


def test_features_and_padding_go_with_the_points(lib):
    points = clouds(n=50)
    colours = np.arange(2 * 50 * 4, dtype=np.uint8).reshape(2, 50, 4)
    got = crop_and_sample(lib.array(points), BOX, 20, features=lib.array(colours), pad="repeat")
    indices = lib.numpy(got.indices)
    for b in range(2):
        n = (indices[b] >= 0).sum()
        assert 0 < n < 20
        of_all = indices[b][np.arange(20) % n]
        np.testing.assert_array_equal(lib.numpy(got.features)[b], colours[b][of_all])
        np.testing.assert_array_equal(lib.numpy(got.points)[b], points[b][of_all])
    zeros = crop_and_sample(lib.array(points), BOX, 20, features=lib.array(colours))
    assert (lib.numpy(zeros.features)[lib.numpy(zeros.indices) < 0] == 0).all()


def test_edges_of_the_box_are_half_open():
    points = np.array([[0, 0, 0], [1, 0, 0], [0.5, 0, 0], [-0.001, 0, 0]], np.float32)
    for method in ("fps", "random"):
        got = crop_and_sample(points, (0, 0, 0, 1, 1, 1), 4, method=method).indices
        assert sorted(got.tolist()) == [-1, -1, 0, 2]
    assert crop_and_sample(points, ((0, 0, 0), (1, 1, 1)), 1).indices.tolist() == [0]


def test_lengths_mask_strided_rows_and_one_cloud():
    points = clouds(n=90)
    wide = np.zeros((2, 90, 7), np.float32)
    wide[..., :3] = points
    mask = np.arange(180).reshape(2, 90) % 3 > 0
    allowed = in_box(points) & mask
    allowed[0, 30:] = False
    got = crop_and_sample(wide[..., :3], BOX, 90, lengths=[30, 90], mask=mask, method="random")
    for b in range(2):
        assert set(got.indices[b].tolist()) - {-1} == set(np.flatnonzero(allowed[b]))
    alone = crop_and_sample(points[1], BOX, 12, start="centroid")
    both = crop_and_sample(points, BOX, 12, start="centroid")
    np.testing.assert_array_equal(alone.indices, both.indices[1])
    assert alone.points.shape == (12, 3)


@pytest.mark.parametrize("method", ["fps", "random", "voxel"])
def test_nothing_in_the_box(method):
    size = {"voxel_size": 0.1} if method == "voxel" else {}
    for points in (clouds() + 9, clouds(n=0), clouds(rows=0)):
        got = crop_and_sample(points, BOX, 5, method=method, **size)
        assert (got.indices == -1).all()
        assert (got.points == 0).all()
        assert got.points.shape == (len(points), 5, 3)


def test_numbers_that_change_make_no_new_plan():
    points = clouds()
    crop_and_sample(points, BOX, 8, method="random", seed=0)
    op = Op.all["crop_and_sample"]
    before = len(op.cache)
    for seed in (1, -5, 2**63):
        crop_and_sample(points, np.multiply(BOX, 0.9), 8, method="random", seed=seed)
    assert len(op.cache) == before + 1  # seed 0 is the default, which is no number to be packed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "grid"}, "method is 'grid'"),
        ({"method": "voxel"}, "voxel_size"),
        ({"voxel_size": 0.1}, "voxel_size"),
        ({"method": "voxel", "voxel_size": -1}, "voxel_size"),
        ({"bounds": (1, 0, 0, 0, 1, 1)}, "bounds"),
        ({"bounds": (1, 0, 0)}, "bounds"),
        ({"num_samples": -1}, "num_samples"),
        ({"seed": "x", "method": "random"}, "seed"),
        ({"pad": "mean"}, "pad"),
        ({"features": np.zeros((2, 3))}, "features"),
        ({"start": 0, "method": "random"}, "start"),
    ],
)
def test_errors_name_the_argument(options, words):
    arguments = {"points": clouds(), "bounds": BOX, "num_samples": 4} | options
    with pytest.raises((ValueError, TypeError), match=words):
        crop_and_sample(**arguments)
