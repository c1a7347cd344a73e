"""depth_to_points against a naive oracle in double, and depth_to_voxels against its two steps."""

import ml_dtypes
import numpy as np
import pytest
from host_cuda import on_host
from hypothesis import given, settings
from hypothesis import strategies as st

from robocache_cupy import depth_to_points, depth_to_voxels, logs, voxelize_point_cloud
from robocache_cupy._core.kernel import Kernel
from robocache_cupy._core.plan import Op
from robocache_cupy.logs.depth import depth_streams

REFERENCE = Kernel.on_host  # before any lane takes its place
K = np.array([[60.0, 0, 32.25], [0, 61.0, 24.5], [0, 0, 1]])
GRID = ((32, 30, 29), 0.1, (-1.5, -1.5, -1.4))


def rng(seed=0):
    return np.random.default_rng(seed)


def poses(*shape, seed=0, dtype=np.float64):
    """Random rotations and small translations."""
    random = rng(seed)
    result = np.zeros((*shape, 4, 4), dtype)
    for at in np.ndindex(*shape):
        q, _ = np.linalg.qr(random.normal(size=(3, 3)))
        result[at][:3, :3], result[at][:3, 3], result[at][3, 3] = q, random.normal(size=3) / 4, 1
    return result


def images(*shape, dtype="float32", seed=0):
    depth = rng(seed).uniform(0.2, 2.5, shape)
    if dtype == "uint16":
        depth = np.rint(depth * 1000)
    depth = depth.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    depth[..., 0, 0] = 0
    return depth


def oracle(depth, intrinsics, cam_to_world=None, *, scale=1.0, near=0.0, far=np.inf, ray=False,
           offset=0.0, opengl=False, stride=1):  # fmt: skip
    """The points of one image, in double."""
    depth = np.asarray(depth, np.float64)[::stride, ::stride]
    v, u = np.mgrid[: depth.shape[0], : depth.shape[1]] * stride
    a = (u + offset - intrinsics[0, 2]) / intrinsics[0, 0]
    b = (v + offset - intrinsics[1, 2]) / intrinsics[1, 1]
    z = depth * scale
    if ray:
        z = z / np.sqrt(a * a + b * b + 1)
    z = np.where((z > max(near, 0)) & (z <= far) & np.isfinite(z), z, np.nan)
    sign = -1 if opengl else 1
    points = np.stack([a * z, sign * b * z, sign * z], -1).reshape(-1, 3)
    if cam_to_world is not None:
        points = points @ cam_to_world[:3, :3].T + cam_to_world[:3, 3]
    return points


def same_bits(a, b):
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    assert (np.ascontiguousarray(a).view("u1") == np.ascontiguousarray(b).view("u1")).all()


@pytest.mark.parametrize("dtype", ["uint16", "float16", "bfloat16", "float32", "float64"])
def test_points_are_those_of_the_formula(lib, dtype):
    depth, pose = images(2, 3, 37, 45, dtype=dtype), poses(2, 3)
    got = lib.numpy(depth_to_points(lib.array(depth), K, lib.array(pose)))
    assert got.shape == (2, 3, 37 * 45, 3)
    assert got.dtype == ("float64" if dtype == "float64" else "float32")
    scale = np.float64(np.float32(0.001)) if dtype == "uint16" else 1.0
    for at in np.ndindex(2, 3):
        expected = oracle(depth[at], K, pose[at], scale=scale)
        tolerance = 1e-14 if dtype == "float64" else 2e-6
        np.testing.assert_allclose(got[at], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize(
    ("options", "of_oracle"),
    [
        ({"depth_kind": "ray"}, {"ray": True}),
        ({"convention": "opengl"}, {"opengl": True}),
        ({"pixel_offset": 0.5}, {"offset": 0.5}),
        ({"stride": 4}, {"stride": 4}),
        ({"depth_min": 0.5, "depth_max": 1.5}, {"near": 0.5, "far": 1.5}),
        ({"depth_min": -3}, {}),
        ({"depth_to_meters": 0.25}, {"scale": 0.25}),
        ({"depth_kind": "ray", "convention": "opengl", "stride": 3, "pixel_offset": 0.5},
         {"ray": True, "opengl": True, "stride": 3, "offset": 0.5}),
    ],
)  # fmt: skip
def test_options_of_points(lib, options, of_oracle):
    depth, pose = images(37, 45), poses()
    got = lib.numpy(depth_to_points(lib.array(depth), K, pose, **options))
    np.testing.assert_allclose(got, oracle(depth, K, pose, **of_oracle), rtol=0, atol=2e-6)


def test_exact_cameras_give_exact_points(lib):
    """Powers of two and small integers: nothing is rounded."""
    depth = (rng().integers(0, 5, (40, 33)) / 4).astype(np.float32)
    k = np.array([[2.0, 0, 3], [0, 4.0, 1], [0, 0, 1]])
    pose = np.array([[0, 0, 1.0, 1], [-1, 0, 0, 0.5], [0, -1, 0, 2], [0, 0, 0, 1]])
    got = lib.numpy(depth_to_points(lib.array(depth), k, pose))
    np.testing.assert_array_equal(got, oracle(depth, k, pose).astype(np.float32))


def test_what_is_no_depth_is_nan(lib):
    depth = np.array([[0, np.nan, np.inf, -1, 0.5, 0.75, 2, 2.25]], np.float32)
    got = lib.numpy(depth_to_points(lib.array(depth), K, depth_min=0.5, depth_max=2.0))
    valid = ~np.isnan(got).any(-1)
    assert valid.tolist() == [False, False, False, False, False, True, True, False]
    assert np.isnan(got[~valid]).all()
    unlimited = lib.numpy(depth_to_points(lib.array(depth), K))
    assert (~np.isnan(unlimited[:, 2])).sum() == 4


def test_every_way_to_give_a_camera_is_the_same(lib):
    depth, pose = images(2, 3, 20, 30), poses()
    expected = depth_to_points(depth, K, pose)
    single = np.array([60, 61, 32.25, 24.5])
    for intrinsics in (K.tolist(), tuple(single.tolist()), single.tolist(),
                       np.tile(K, (3, 1, 1)), np.tile(K, (2, 3, 1, 1)), np.tile(single, (2, 3, 1)),
                       np.tile(single, (3, 1)),
                       lib.array(np.tile(K, (2, 3, 1, 1))), lib.array(K)):  # fmt: skip
        same_bits(lib.numpy(depth_to_points(lib.array(depth), intrinsics, pose)), expected)
    for moved in (pose.tolist(), pose[:3], np.tile(pose, (3, 1, 1)), np.tile(pose, (2, 3, 1, 1)),
                  lib.array(np.tile(pose[:3], (2, 3, 1, 1))), lib.array(pose)):  # fmt: skip
        same_bits(lib.numpy(depth_to_points(lib.array(depth), K, moved)), expected)
    many = poses(2, 3, dtype=np.float32)
    got = lib.numpy(depth_to_points(lib.array(depth), K, lib.array(many)))
    for at in np.ndindex(2, 3):
        same_bits(got[at], depth_to_points(depth[at], K, many[at].astype(np.float64)))
    np.testing.assert_array_equal(
        depth_to_points(depth, K), depth_to_points(depth, K, np.eye(4))
    )  # 0 and -0 aside


def test_strided_images(lib):
    wide = images(2, 50, 70)
    for view in (lambda x: x[:, 3:40, 5:61], lambda x: x[:, ::2, ::3], lambda x: x[:, :, 1:]):
        expected = depth_to_points(np.ascontiguousarray(view(wide)), K)
        same_bits(lib.numpy(depth_to_points(view(lib.array(wide)), K)), expected)
    for view in (wide[:, ::-1], wide.transpose(0, 2, 1), wide[:, :, ::-1], wide[::-1]):
        same_bits(depth_to_points(view, K), depth_to_points(np.ascontiguousarray(view), K))
    more = wide.reshape(1, 2, 1, 50, 70)
    assert depth_to_points(more, K).shape == (1, 2, 1, 3500, 3)


@pytest.mark.parametrize("reduce", ["binary", "count", "mean", "max", "first", ("count", "mean")])
@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
def test_voxels_are_those_of_the_points(lib, reduce, dtype):
    depth, pose = images(2, 3, 37, 45, dtype=dtype), poses(2, 3)
    got = depth_to_voxels(lib.array(depth), K, lib.array(pose), *GRID, reduce=reduce)
    points = depth_to_points(depth, K, pose).reshape(2, -1, 3)
    expected = voxelize_point_cloud(points, *GRID, reduce=reduce)
    if not isinstance(reduce, tuple):
        got, expected = (got,), (expected,)
    for a, b in zip(got, expected, strict=True):
        same_bits(lib.numpy(a), b)
    assert expected[0].any()


@pytest.mark.parametrize("dtype", ["bool", "uint8", "float16", "bfloat16", "float32", "bits"])
def test_binary_voxels_of_every_dtype(lib, dtype):
    depth, pose = images(2, 2, 37, 45), poses(2, 2)
    for grid in (GRID, ((7, 5, 3), 0.4, -1.0)):  # 105 voxels: no multiple of 32 or 16
        got = lib.numpy(depth_to_voxels(lib.array(depth), K, lib.array(pose), *grid, dtype=dtype))
        points = depth_to_points(depth, K, pose).reshape(2, -1, 3)
        same_bits(got, voxelize_point_cloud(points, *grid, dtype=dtype))


@pytest.mark.parametrize(
    "options",
    [
        {"out_of_bounds": "clamp"},
        {"depth_kind": "ray", "stride": 2},
        {"convention": "opengl", "pixel_offset": 0.5, "depth_min": 0.4, "depth_max": 2},
    ],
)
def test_options_of_voxels(lib, options):
    depth, pose = images(1, 2, 37, 45), poses(1, 2)
    got = lib.numpy(depth_to_voxels(lib.array(depth), K, lib.array(pose), *GRID, **options))
    of_points = {k: v for k, v in options.items() if k != "out_of_bounds"}
    of_voxels = {k: v for k, v in options.items() if k == "out_of_bounds"}
    points = depth_to_points(depth, K, pose, **of_points).reshape(1, -1, 3)
    same_bits(got, voxelize_point_cloud(points, *GRID, **of_voxels))


def test_colours_origins_counts_and_out(lib):
    depth, pose = images(2, 2, 20, 30), poses(2, 2)
    colours = rng().integers(0, 255, (2, 2, 20, 30, 3)).astype(np.uint8)
    origins = np.array([[-1.5, -1, -1], [-1, -1.5, -1.25]], np.float32)
    got = depth_to_voxels(
        lib.array(depth), K, lib.array(pose), (20, 20, 20), 0.125, lib.array(origins),
        reduce="mean", features=lib.array(colours), return_counts=True, channels_first=True,
    )  # fmt: skip
    points = depth_to_points(depth, K, pose).reshape(2, -1, 3)
    expected = voxelize_point_cloud(
        points, (20, 20, 20), 0.125, origins, reduce="mean", features=colours.reshape(2, -1, 3),
        return_counts=True, channels_first=True,
    )  # fmt: skip
    for a, b in zip(got, expected, strict=True):
        same_bits(lib.numpy(a), b)
    if lib.name != "jax":
        out = lib.array(np.full((2, 20, 20, 20), 7, np.uint8))
        given = depth_to_voxels(lib.array(depth), K, lib.array(pose), 20, 0.125, -1.0, out=out)
        assert given is out
        same_bits(lib.numpy(out), voxelize_point_cloud(points, 20, 0.125, -1.0))


def test_one_image_and_views_of_one_scene():
    depth, pose = images(3, 20, 30), poses(3)
    together = depth_to_voxels(depth, K, pose, *GRID)
    alone = [depth_to_voxels(depth[i], K, pose[i], *GRID) for i in range(3)]
    assert together.shape == (32, 30, 29)
    np.testing.assert_array_equal(together, np.maximum.reduce(alone))


def test_nothing_to_see(lib):
    for shape in ((0, 2, 4, 5), (2, 0, 4, 5), (2, 2, 0, 5), (2, 2, 4, 0)):
        depth = np.zeros(shape, np.float32)
        points = lib.numpy(depth_to_points(lib.array(depth), K))
        assert points.shape == (*shape[:2], shape[2] * shape[3], 3)
        got = lib.numpy(depth_to_voxels(lib.array(depth), K, None, *GRID))
        assert got.shape == (shape[0], 32, 30, 29)
        assert not got.any()


@settings(max_examples=25)
@given(
    dtype=st.sampled_from(["uint16", "float16", "float32", "float64"]),
    height=st.integers(1, 70),
    width=st.integers(1, 300),
    views=st.integers(1, 3),
    stride=st.integers(1, 3),
    kind=st.sampled_from(["z", "ray"]),
    clamp=st.sampled_from(["drop", "clamp"]),
    packed=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_cuda_text_and_reference_agree(
    dtype, height, width, views, stride, kind, clamp, packed, seed
):
    depth, pose = images(2, views, height, width, dtype=dtype, seed=seed), poses(2, views)
    options = {"stride": stride, "depth_kind": kind}
    binary = options | {"out_of_bounds": clamp, "dtype": "bits" if packed else None}
    results = []
    with pytest.MonkeyPatch.context() as patch:
        for run in (REFERENCE, on_host):
            patch.setattr(Kernel, "on_host", run)
            results.append(
                (depth_to_points(depth, K, pose, **options),
                 depth_to_voxels(depth, K, pose, *GRID, **binary))
            )  # fmt: skip
    for a, b in zip(*results, strict=True):
        same_bits(a, b)


def test_numbers_that_change_make_no_new_plan():
    depth = images(20, 30)
    op = Op.all["depth_to_voxels"]
    options = {"depth_min": 0.1, "depth_max": 2.0, "depth_to_meters": 1.0, "pixel_offset": 0.5}
    depth_to_voxels(depth, K, poses(), *GRID, **options)
    before = len(op.cache)
    other = {name: value * 1.5 for name, value in options.items()}
    depth_to_voxels(depth, K * 2, poses(seed=3), GRID[0], 0.2, (-1, -2, -3), **other)
    assert len(op.cache) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depth": np.zeros((4, 5), np.int32)}, "depth has dtype int32"),
        ({"depth": np.zeros(5, np.float32)}, "depth has shape"),
        ({"intrinsics": np.eye(2)}, "intrinsics"),
        ({"intrinsics": (1, 2, 3)}, "intrinsics has 3 numbers"),
        ({"intrinsics": (0, 1, 2, 3)}, "focal lengths"),
        ({"intrinsics": np.zeros((7, 3, 3))}, "intrinsics has shape"),
        ({"cam_to_world": np.eye(3)}, "cam_to_world"),
        ({"cam_to_world": np.eye(4)[::-1]}, "cam_to_world ends in the row"),
        ({"cam_to_world": np.zeros((5, 4, 4))}, "cam_to_world has shape"),
        ({"depth_kind": "x"}, "depth_kind is 'x'"),
        ({"convention": "ros"}, "convention is 'ros'"),
        ({"stride": 0}, "stride is 0"),
        ({"depth_to_meters": -1}, "depth_to_meters is -1"),
        ({"depth_max": float("nan")}, "depth_max is NaN"),
    ],
)
def test_errors_name_the_argument(arguments, words):
    call = {"depth": np.zeros((4, 5), np.float32), "intrinsics": K} | arguments
    with pytest.raises((ValueError, TypeError), match=words):
        depth_to_points(**call)


def test_jit_and_vmap():
    jax = pytest.importorskip("jax")
    depth, pose = images(2, 2, 20, 30), poses(2, 2)
    expected = depth_to_voxels(depth, K, pose, *GRID)
    call = jax.jit(lambda d, p: depth_to_voxels(d, K, p, *GRID))
    same_bits(np.asarray(call(jax.numpy.asarray(depth), jax.numpy.asarray(pose))), expected)
    mapped = jax.vmap(lambda d: depth_to_points(d, K))(jax.numpy.asarray(depth))
    same_bits(np.asarray(mapped), depth_to_points(depth, K))


def test_both_cameras_of_the_bundled_log_see_the_table_where_it_is():
    """The median height of what each of them sees of its flat top agrees to 2 mm."""
    heights = []
    for camera in depth_streams(logs.DEMO):
        frame = len(camera.times) // 2
        pose = camera.cam_to_world if camera.cam_to_world.ndim == 2 else camera.cam_to_world[frame]
        points = depth_to_points(
            camera.depth[frame : frame + 1][0], camera.intrinsics, pose,
            depth_to_meters=camera.depth_to_meters, pixel_offset=camera.pixel_offset,
            convention=camera.convention,
        )  # fmt: skip
        flat = points[np.abs(points[:, 2] - 0.8) < 0.02]
        assert len(flat) > 1000
        heights.append(np.median(flat[:, 2]))
    assert abs(heights[0] - heights[1]) < 0.002
