import itertools
import math

import numpy as np
import pytest
import space_oracle as oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from robocache_cupy import voxelize_point_cloud
from robocache_cupy._core.plan import Op
from robocache_cupy._voxel_gradient import chosen_points, voxelize_backward

FLOATS = ("float16", "bfloat16", "float32", "float64")
OF_FEATURES = ("sum", "mean", "max", "min", "first")
HALF_TURN = ((0.0, -1.0, 0.0, 0.5), (1.0, 0.0, 0.0, -0.25), (0.0, 0.0, 1.0, 2.0))
GRID = (4, 3, 5)


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def gradient(grads, points, grid, size, **options):
    """What the framework calls for a call with these arguments: the gradient by the features."""
    arguments = {
        "points": points, "grid_size": grid, "voxel_size": size, "origin": 0.0,
        "reduce": "binary", "features": None, "lengths": None, "mask": None, "transform": None,
        "out_of_bounds": "drop", "fill_value": 0, "dtype": None, "channels_first": False,
        "return_counts": False, "deterministic": True, "out": None, "backend": "auto",
    }  # fmt: skip
    assert arguments.keys() >= options.keys()
    op = Op.all["voxelize_point_cloud"]
    assert op.by == ("features",)
    return op.gradient(grads, arguments | options)["features"]


def of_grad(grad, by_points, points, grid, size, **options):
    """The gradient of the gradient, by the gradients of the voxels."""
    arguments = {
        "grad": grad, "points": points, "grid_size": grid, "voxel_size": size, "origin": 0.0,
        "reduce": "sum", "chosen": None, "lengths": None, "mask": None, "transform": None,
        "out_of_bounds": "drop", "dtype": None, "channels_first": False, "backend": "auto",
    }  # fmt: skip
    assert arguments.keys() >= options.keys()
    op = Op.all["voxelize_backward"]
    assert op.by == ("grad",)
    return op.gradient((by_points,), arguments | options)["grad"]


def winner(values, reduce):
    """The place in a voxel's list of the point whose feature is the result."""
    if reduce == "first":
        return 0
    wide = values.astype(np.float64)
    if np.isnan(wide).any():
        return int(np.flatnonzero(np.isnan(wide))[0])
    keys = [(float(x), not np.signbit(x)) for x in wide]
    return keys.index((max if reduce == "max" else min)(keys))


def expected(grad, found, grid, reduce, features, dtype):
    """Point by point; `grad` is [B, X, Y, Z, C]."""
    C = grad.shape[-1]
    wide = np.float64 if "float64" in (grad.dtype, dtype) else np.float32
    of_voxels = grad.reshape(len(found), -1, C).astype(wide)
    out = np.zeros((*found.shape[:2], C), wide)
    for (b, v), points in oracle.members(found, grid).items():
        if reduce == "sum":
            out[b, points] = of_voxels[b, v]
        elif reduce == "mean":
            out[b, points] = of_voxels[b, v] / wide(len(points))
        else:
            for c in range(C):
                won = points[winner(features[b, points, c], reduce)]
                out[b, won, c] = of_voxels[b, v, c]
    return out.astype(oracle.dtype_of(dtype))


def assert_same(got, wanted):
    assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
    np.testing.assert_array_equal(got.astype(np.float64), wanted.astype(np.float64))


def grads_like(rng, points, C, dtype, channels_first=False):
    lead = points.shape[:-2]
    shape = (*lead, C, *GRID) if channels_first else (*lead, *GRID, C)
    return rng.normal(size=shape).astype(oracle.dtype_of(dtype))


def arrays(lib, options):
    return {name: lib.array(x) if isinstance(x, np.ndarray) else x for name, x in options.items()}


# ------------------------------------------------------------------------------- the definition


def cloud(rng, B=3, N=40, dtype="float32"):
    """Points of which some are outside, not finite, or on an edge."""
    points = rng.uniform(-0.3, 2.7, (B, N, 3))
    points[:, ::9] = np.nan
    points[:, 5::11, 1] = np.inf
    points[:, 3] = 0.5, 1.0, 0.0
    return points.astype(oracle.dtype_of(dtype))


OPTIONS = {
    "plain": {},
    "clamp": {"out_of_bounds": "clamp"},
    "lengths": {"lengths": np.array([40, 0, 17], np.int32)},
    "mask": {"mask": np.random.default_rng(0).random((3, 40)) < 0.7},
    "transform": {"transform": HALF_TURN},
    "origins": {"origin": np.array([[0.0, 0.1, 0.2], [-0.5, 0, 0], [1, 1, 1]])},
    "channels_first": {"channels_first": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("reduce", OF_FEATURES)
def test_each_point_gets_its_voxels_gradient(lib, rng, reduce, options):
    points = cloud(rng)
    features = rng.integers(-2, 3, (3, 40, 5)).astype(np.float32)  # many are equal
    channels_first = options.get("channels_first", False)
    grad = grads_like(rng, points, 5, "float32", channels_first)
    got = gradient(
        (lib.array(grad),), lib.array(points), GRID, 0.5, reduce=reduce,
        features=lib.array(features), **arrays(lib, options),
    )  # fmt: skip
    at = {n: x for n, x in options.items() if n not in ("out_of_bounds", "channels_first")}
    found = oracle.indices(points, GRID, 0.5, clamp="out_of_bounds" in options, **at)
    wanted = expected(
        np.moveaxis(grad, 1, -1) if channels_first else grad, found, GRID, reduce, features,
        "float32",
    )  # fmt: skip
    assert np.count_nonzero(wanted)
    assert_same(lib.numpy(got), wanted)


@pytest.mark.parametrize("of_points", ["float16", "float64"])
@pytest.mark.parametrize(("x", "y"), list(itertools.product(FLOATS, FLOATS)))
@pytest.mark.parametrize("reduce", ["sum", "mean"])
def test_sums_of_any_floats(rng, reduce, x, y, of_points):
    points = cloud(rng, 2, 30, of_points)
    features = rng.normal(size=(2, 30, 3)).astype(oracle.dtype_of(x))
    grad = grads_like(rng, points, 3, y)
    got = gradient((grad,), points, GRID, 0.5, reduce=reduce, features=features, dtype=y)
    found = oracle.indices(points, GRID, 0.5)
    assert_same(got, expected(grad, found, GRID, reduce, features, x))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reduce", ["max", "min", "first"])
def test_nan_wins_and_minus_zero_is_less(lib, rng, reduce, dtype):
    points = np.full((1, 64, 3), 0.1, np.float32)
    points[0, 20:] += 0.5  # a second voxel, without NaN
    points[0, 40:] += 0.5  # and a third, of zeros
    features = rng.integers(-3, 3, (1, 64, 6)).astype(oracle.dtype_of(dtype))
    features[0, [5, 9], 1] = np.nan
    features[0, 0, 2] = -np.inf
    features[0, 3, 3] = np.inf
    features[0, 40:] = np.where(rng.random((24, 6)) < 0.5, -0.0, 0.0)
    grad = grads_like(rng, points, 6, dtype)
    got = gradient((lib.array(grad),), lib.array(points), GRID, 0.5, reduce=reduce,
                   features=lib.array(features))  # fmt: skip
    wanted = expected(grad, oracle.indices(points, GRID, 0.5), GRID, reduce, features, dtype)
    assert np.count_nonzero(wanted) == 18
    assert_same(lib.numpy(got), wanted)


def test_one_cloud_is_a_batch_of_one(lib, rng):
    points, features = cloud(rng, 1), rng.normal(size=(1, 40, 2)).astype(np.float32)
    for reduce in OF_FEATURES:
        grad = grads_like(rng, points, 2, "float32")
        one, batch = (
            gradient((lib.array(g),), lib.array(p), GRID, 0.5, reduce=reduce,
                     features=lib.array(f))
            for g, p, f in ((grad[0], points[0], features[0]), (grad, points, features))
        )  # fmt: skip
        assert_same(lib.numpy(one), lib.numpy(batch)[0])


def test_several_reductions_add_up(lib, rng):
    points, features = cloud(rng), rng.normal(size=(3, 40, 2)).astype(np.float32)
    reduce = ("max", "binary", "sum", "count", "mean")
    grads = [grads_like(rng, points, 2, "float32") for _ in reduce]
    grads[1] = grads[3] = None
    found = oracle.indices(points, GRID, 0.5)
    given = [None if g is None else lib.array(g) for g in grads]
    got = gradient(
        (*given, None), lib.array(points), GRID, 0.5, reduce=reduce, features=lib.array(features),
        return_counts=True,
    )  # fmt: skip
    first, second, third = (
        expected(g, found, GRID, name, features, "float32")
        for g, name in zip(grads, reduce, strict=True)
        if g is not None
    )
    assert_same(lib.numpy(got), (first + second) + third)
    none = gradient(
        (None,) * 6, lib.array(points), GRID, 0.5, reduce=reduce, features=lib.array(features)
    )
    assert_same(lib.numpy(none), np.zeros_like(features))


def test_slabs_ranks_and_groups(lib, rng):
    """More voxels than a slab has, more occupied ones than there is room for, more points than a
    chunk, and channels that are no whole groups."""
    grid, N = (40, 30, 20), 9000
    points = rng.uniform(0, 1, (2, N, 3)).astype(np.float32) * np.float32([4, 3, 2])
    points[1] *= np.float32(0.3)  # hundreds of points to a voxel
    features = rng.integers(-9, 9, (2, N, 6)).astype(np.float32)
    grad = rng.normal(size=(2, *grid, 6)).astype(np.float32)
    found = oracle.indices(points, grid, 0.1)
    for reduce in ("mean", "max", "first"):
        got = gradient((lib.array(grad),), lib.array(points), grid, 0.1, reduce=reduce,
                       features=lib.array(features))  # fmt: skip
        assert_same(lib.numpy(got), expected(grad, found, grid, reduce, features, "float32"))


@pytest.mark.parametrize("shape", [(0, 7, 3), (2, 0, 3), (0, 3)])
@pytest.mark.parametrize("reduce", OF_FEATURES)
def test_nothing(lib, reduce, shape):
    points, features = np.zeros(shape, np.float32), np.zeros((*shape[:-1], 2), np.float32)
    grad = np.zeros((*shape[:-2], *GRID, 2), np.float32)
    got = gradient((lib.array(grad),), lib.array(points), GRID, 0.5, reduce=reduce,
                   features=lib.array(features))  # fmt: skip
    assert_same(lib.numpy(got), features)
    none = gradient((lib.array(grad[..., :0]),), lib.array(points), GRID, 0.5, reduce=reduce,
                    features=lib.array(features[..., :0]))  # fmt: skip
    assert_same(lib.numpy(none), features[..., :0])


def test_strided_arrays(rng):
    points, features = cloud(rng), rng.normal(size=(3, 40, 4)).astype(np.float32)
    grad = grads_like(rng, points, 2, "float32")
    for reduce in ("sum", "max"):
        dense = gradient((grad,), points, GRID, 0.5, reduce=reduce, features=features[..., 1:3])
        turned = np.moveaxis(np.ascontiguousarray(np.moveaxis(grad, -1, 0)), 0, -1)
        wide = np.concatenate([points, points], -1)[..., :3]
        again = gradient((turned,), wide, GRID, 0.5, reduce=reduce, features=features[..., 1:3])
        assert_same(again, dense)
        ones = gradient((np.broadcast_to(np.float32(1), grad.shape),), points, GRID, 0.5,
                        reduce=reduce, features=features[..., 1:3])  # fmt: skip
        assert set(np.unique(ones)) == {0, 1}


# --------------------------------------------------------------------------- by finite differences


@st.composite
def calls(draw):
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    B, N, C = draw(st.sampled_from([1, 2])), draw(st.integers(1, 12)), draw(st.integers(1, 5))
    points = random.uniform(-0.5, 2.5, (B, N, 3))
    features = random.permutation(B * N * C).reshape(B, N, C) / 8.0  # none are near each other
    options = {
        "reduce": draw(st.sampled_from(OF_FEATURES)),
        "channels_first": draw(st.booleans()),
        "out_of_bounds": draw(st.sampled_from(["drop", "clamp"])),
        "fill_value": 3.0,
    }
    if draw(st.booleans()):
        options["transform"] = np.concatenate([HALF_TURN, [[0, 0, 0, 1]]])
    if draw(st.booleans()):
        options["lengths"] = random.integers(0, N + 1, B)
    if draw(st.booleans()):
        options["mask"] = random.random((B, N)) < 0.7
    if draw(st.booleans()):
        options["origin"] = random.uniform(-0.3, 0.3, (B, 3))
    return points, features, options


@settings(max_examples=40)
@given(calls(), st.integers(0, 2**32))
def test_the_gradient_is_that_of_finite_differences(call, seed):
    points, features, options = call
    random = np.random.default_rng(seed)

    def voxels(x):
        return voxelize_point_cloud(points, 2, 1.0, features=x, **options)

    weights = random.normal(size=voxels(features).shape)
    got = gradient((weights,), points, 2, 1.0, features=features, **options)
    numeric = np.zeros_like(features)
    step = 1 / 64
    for place in np.ndindex(features.shape):
        moved = np.zeros_like(features)
        moved[place] = step
        difference = voxels(features + moved) - voxels(features - moved)
        numeric[place] = (weights * difference).sum() / (2 * step)
    np.testing.assert_allclose(got, numeric, rtol=1e-12, atol=1e-12)


# --------------------------------------------------------------------------------- a second time


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("reduce", OF_FEATURES)
def test_the_gradient_of_the_gradient_is_its_transpose(lib, rng, reduce, channels_first):
    """<backward(grad), x> = <grad, transpose(x)> for all of both, in whole numbers."""
    points = cloud(rng, dtype="float64")
    features = rng.integers(-2, 3, (3, 40, 3)).astype(np.float64)
    grad = np.rint(8 * grads_like(rng, points, 3, "float64", channels_first))
    by_points = rng.integers(-8, 9, features.shape).astype(np.float64)
    by_points[0, 0] = 0
    options = {"reduce": reduce, "channels_first": channels_first}
    if reduce not in ("sum", "mean"):
        chosen = chosen_points(
            lib.array(points), GRID, 0.5, features=lib.array(features), reduce=reduce
        )
        options |= {"reduce": "sum", "chosen": chosen}
    made = lib.numpy(voxelize_backward(lib.array(grad), lib.array(points), GRID, 0.5, **options))
    again = lib.numpy(
        of_grad(lib.array(grad), lib.array(by_points), lib.array(points), GRID, 0.5, **options)
    )
    assert (again.shape, again.dtype) == (grad.shape, grad.dtype)
    assert np.count_nonzero(again)
    assert math.isclose((made * by_points).sum(), (grad * again).sum(), rel_tol=1e-12)


def test_points_that_are_not_chosen_take_no_part_the_second_time():
    points, grad = np.zeros((2, 3), np.float32), np.ones((1, 1, 1, 1), np.float32)
    by_points, chosen = np.array([[np.nan], [5]], np.float32), np.array([[0], [1]], np.uint8)
    assert of_grad(grad, by_points, points, 1, 1.0, chosen=chosen).item() == 5


# ---------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"grad": np.zeros((2, 2, 2, 1))}, ValueError, r"grad has shape \(2, 2, 2, 1\), expected"),
        ({"grad": np.zeros((4, 2, 2, 2))}, ValueError, r"expected \(2, 2, 2, C\)"),
        ({"channels_first": True}, ValueError, r"expected \(C, 2, 2, 2\)"),
        ({"grad": np.zeros((2, 2, 2, 4), int)}, TypeError, "grad has dtype int64"),
        ({"reduce": "max"}, ValueError, "reduce is 'max', expected one of 'sum', 'mean'"),
        ({"chosen": np.zeros((5, 4))}, TypeError, "chosen has dtype float64, expected one of"),
        ({"chosen": np.zeros((5, 3), np.uint8)}, ValueError,
         r"chosen has shape \(5, 3\), expected \(5, 4\)"),
        ({"chosen": np.zeros((5, 4), np.uint8), "reduce": "mean"}, ValueError,
         "chosen points are for reduce='sum', got reduce='mean'"),
        ({"dtype": "int32"}, TypeError, "dtype is int32, expected one of float16"),
        ({"out_of_bounds": "wrap"}, ValueError, "out_of_bounds is 'wrap'"),
    ],
)  # fmt: skip
def test_errors(change, error, text):
    arguments = {"grad": np.zeros((2, 2, 2, 4)), "points": np.zeros((5, 3))} | change
    if isinstance(change.get("grad"), np.ndarray) and change["grad"].shape[-1] == 1:
        arguments["points"] = np.zeros((1, 5, 3))
    with pytest.raises(error, match=text):
        voxelize_backward(grid_size=2, voxel_size=1.0, **arguments)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"reduce": "sum"}, ValueError, "reduce is 'sum', expected one of 'max', 'min', 'first'"),
        ({"features": None}, ValueError, "features are not given, which reduce='max' takes"),
        ({"features": np.zeros((5, 4), int)}, TypeError, "features has dtype int64"),
        ({"features": np.zeros((6, 4))}, ValueError,
         r"features has shape \(6, 4\), expected \(5, C\)"),
        ({"out_of_bounds": "wrap"}, ValueError, "out_of_bounds is 'wrap'"),
    ],
)  # fmt: skip
def test_errors_of_chosen_points(change, error, text):
    arguments = {"features": np.zeros((5, 4)), "points": np.zeros((5, 3))} | change
    with pytest.raises(error, match=text):
        chosen_points(grid_size=2, voxel_size=1.0, **arguments)


@pytest.mark.parametrize("reduce", [*OF_FEATURES, ("max", "count", "mean")], ids=str)
def test_gradients_through_torch(rng, reduce):
    torch = pytest.importorskip("torch")
    points = torch.tensor(rng.uniform(0, 2.4, (2, 9, 3)))
    features = torch.tensor(rng.permutation(36).reshape(2, 9, 2) / 8.0, requires_grad=True)

    def voxels(x):
        made = voxelize_point_cloud(points, 2, 1.0, reduce=reduce, features=x)
        return (made[0], made[2]) if isinstance(made, tuple) else made

    assert torch.autograd.gradcheck(voxels, (features,))
    assert torch.autograd.gradgradcheck(voxels, (features,))
    with pytest.raises(RuntimeError, match="points requires grad, and there is no gradient by it"):
        voxelize_point_cloud(points.requires_grad_(), 2, 1.0, reduce="mean")
