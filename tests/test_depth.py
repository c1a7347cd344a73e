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
DEPTHS = ("uint16", "float16", "bfloat16", "float32", "float64")
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
    """The points of one image in double, and the sizes of the terms that they are sums of."""
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
    if cam_to_world is None:
        return points, abs(points)
    rotation, position = cam_to_world[:3, :3], cam_to_world[:3, 3]
    return points @ rotation.T + position, abs(points) @ abs(rotation).T + abs(position)


def assert_near(got, expected, ulps=3):
    """Off by some units in the last place of the terms; without a depth in the same pixels."""
    points, terms = expected
    nan = np.isnan(points)
    np.testing.assert_array_equal(np.isnan(got), nan)
    assert not nan.all()
    bound = ulps * np.finfo(got.dtype).eps * terms
    assert (abs(got - points) <= bound)[~nan].all()


def same_bits(a, b):
    assert type(a) is type(b)
    if isinstance(a, tuple):
        assert a._fields == b._fields
        for x, y in zip(a, b, strict=True):
            same_bits(x, y)
        return
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    assert (np.ascontiguousarray(a).view("u1") == np.ascontiguousarray(b).view("u1")).all()


@pytest.mark.parametrize("kind", ["z", "ray"])
@pytest.mark.parametrize("dtype", DEPTHS)
def test_points_are_those_of_the_formula(lib, dtype, kind):
    depth, pose = images(2, 3, 37, 45, dtype=dtype), poses(2, 3)
    got = lib.numpy(depth_to_points(lib.array(depth), K, lib.array(pose), depth_kind=kind))
    assert got.shape == (2, 3, 37 * 45, 3)
    assert got.dtype == ("float64" if dtype == "float64" else "float32")
    scale = 0.001 if dtype == "uint16" else 1.0
    for at in np.ndindex(2, 3):
        assert_near(got[at], oracle(depth[at], K, pose[at], scale=scale, ray=kind == "ray"))


@pytest.mark.parametrize("size", [(1, 2), (2, 1), (7, 128), (8, 129), (33, 127), (64, 257)])
def test_images_of_any_size(lib, size):
    """Around the sizes that kernels work in: 8 and 32 rows, 128 columns."""
    depth = images(2, *size)
    got = lib.numpy(depth_to_points(lib.array(depth), K))
    for image, points in zip(depth, got, strict=True):
        assert_near(points, oracle(image, K))


@pytest.mark.parametrize("lead", [(), (2,), (2, 3), (2, 1, 3), (1, 2, 1, 2)])
def test_axes_before_the_image(lib, lead):
    """Each image is what it is alone, with its own camera or with that of its view."""
    depth, pose = images(*lead, 9, 13), poses(*lead)
    cameras = np.tile(K, (*lead, 1, 1))
    cameras[..., :2, 2] += rng().uniform(-3, 3, (*lead, 2))
    for k, p in ((1, 0), (0, 1), (len(lead), 0)):  # for each image, for each view, or for all
        at_k, at_p = (0,) * min(k, len(lead)), (0,) * min(p, len(lead))
        got = depth_to_points(lib.array(depth), lib.array(cameras[at_k]), lib.array(pose[at_p]))
        got = lib.numpy(got)
        assert got.shape == (*lead, 9 * 13, 3)
        for at in np.ndindex(*lead):
            expected = oracle(depth[at], cameras[at_k][at[k:]], pose[at_p][at[p:]])
            assert_near(got[at], expected)


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
    assert_near(got, oracle(depth, K, pose, **of_oracle))


@pytest.mark.parametrize("convention", ["opencv", "opengl"])
@pytest.mark.parametrize("dtype", DEPTHS)
def test_exact_cameras_give_exact_points(lib, dtype, convention):
    """Powers of two and small integers: nothing is rounded."""
    depth = rng().integers(0, 9, (40, 33)).astype(images(1, 1, dtype=dtype).dtype)
    k = np.array([[2.0, 0, 3], [0, 4.0, 1], [0, 0, 1]])
    turned = np.array([[0, 0, 1.0, 1], [-1, 0, 0, 0.5], [0, -1, 0, 2], [0, 0, 0, 1]])
    for pose in (turned, None):
        got = lib.numpy(
            depth_to_points(
                lib.array(depth), k, pose, depth_to_meters=0.25, pixel_offset=0.5, stride=2,
                depth_min=0.5, depth_max=1.75, convention=convention,
            )
        )  # fmt: skip
        points, _ = oracle(
            depth, k, pose, scale=0.25, offset=0.5, stride=2, near=0.5, far=1.75,
            opengl=convention == "opengl",
        )  # fmt: skip
        np.testing.assert_array_equal(got, points.astype(got.dtype))


def test_exact_lengths_of_rays(lib):
    """(2, 2, 1) is 3 long and (4, 8, 1) is 9: a third and a ninth part of the depth."""
    depth = np.full((9, 5), 4.5, np.float32)
    got = lib.numpy(depth_to_points(lib.array(depth), (1, 1, 0, 0), depth_kind="ray"))
    got = got.reshape(9, 5, 3)
    assert got[0, 0].tolist() == [0, 0, 4.5]
    assert got[2, 2].tolist() == [3, 3, 1.5]
    assert got[8, 4].tolist() == [2, 4, 0.5]
    near = depth_to_points(lib.array(depth), (1, 1, 0, 0), depth_kind="ray", depth_max=0.5)
    kept = ~np.isnan(lib.numpy(near).reshape(9, 5, 3)[..., 2])  # limits are those of the axis
    assert kept[8, 4]
    assert not kept[2, 2]


def test_what_is_no_depth_is_nan(lib):
    depth = np.array([[0, np.nan, np.inf, -1, 0.5, 0.75, 2, 2.25]], np.float32)
    got = lib.numpy(depth_to_points(lib.array(depth), K, depth_min=0.5, depth_max=2.0))
    valid = ~np.isnan(got).any(-1)
    assert valid.tolist() == [False, False, False, False, False, True, True, False]
    assert np.isnan(got[~valid]).all()
    unlimited = lib.numpy(depth_to_points(lib.array(depth), K))
    assert (~np.isnan(unlimited[:, 2])).sum() == 4


@pytest.mark.parametrize("dtype", DEPTHS)
def test_the_ends_of_the_limits(lib, dtype):
    """depth_min is outside, depth_max inside, and without them every number but 0 is a depth."""
    dtype = images(1, 1, dtype=dtype).dtype
    most = np.iinfo(dtype).max if dtype.kind == "u" else ml_dtypes.finfo(dtype).max
    depth = np.array([[0, 512, 513, 2048, 2050, most]]).astype(dtype)

    def kept(**options):
        points = depth_to_points(
            lib.array(depth), (1, 1, 0, 0), depth_to_meters=2.0**-10, **options
        )
        return (~np.isnan(lib.numpy(points)[:, 2])).tolist()

    above = float(depth[0, 2]) > 512, float(depth[0, 4]) > 2048  # bfloat16 rounds
    assert kept(depth_min=0.5, depth_max=2) == [
        False, False, above[0], True, not above[1], False,
    ]  # fmt: skip
    for none in ({}, {"depth_min": -1.0}, {"depth_min": -np.inf, "depth_max": 1e306}):
        assert kept(**none) == [False, True, True, True, True, True]
    assert not any(kept(depth_max=0) + kept(depth_min=np.inf) + kept(depth_max=-np.inf))


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
    intrinsics = np.tile(K, (2, 3, 1, 1)) * rng().uniform(0.9, 1.1, (2, 3, 3, 3))
    for narrow in (np.float32, np.float64):
        several = intrinsics.astype(narrow)
        got = lib.numpy(depth_to_points(lib.array(depth), lib.array(several), pose))
        for at in np.ndindex(2, 3):
            same_bits(got[at], depth_to_points(depth[at], several[at].tolist(), pose))


@pytest.mark.parametrize("convention", ["opencv", "opengl"])
def test_no_pose_is_the_identity(lib, convention):
    depth = lib.array(images(20, 30))
    expected = lib.numpy(depth_to_points(depth, K, convention=convention))
    for pose in (np.eye(4), np.eye(4)[:3], lib.array(np.eye(4, dtype=np.float32))):
        got = lib.numpy(depth_to_points(depth, K, pose, convention=convention))
        same_bits(got + 0.0, expected + 0.0)  # -0 + 0 is 0


VIEWS = {
    "cropped": lambda x: x[:, 3:40, 5:61],
    "sparse": lambda x: x[:, ::2, ::3],
    "shifted": lambda x: x[:, :, 1:],
    "transposed": lambda x: x.swapaxes(1, 2),
    "column": lambda x: x[:, :, 7:8],
    "row": lambda x: x[:, 7:8],
    "first": lambda x: x[:1, :, 2:],
}


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS)
def test_strided_images(lib, view, stride):
    wide = images(2, 50, 70)
    got = lib.numpy(depth_to_points(view(lib.array(wide)), K, stride=stride))
    dense = np.ascontiguousarray(view(wide))
    same_bits(got, depth_to_points(dense, K, stride=stride))
    assert_near(got[0], oracle(dense[0], K, stride=stride))


def test_strides_of_numpy():
    """Backward, repeated and misaligned images; along an axis of one, any stride is right."""
    wide = images(2, 5, 70)
    shifted = np.zeros(wide.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(wide.shape)
    shifted[:] = wide
    pixels = np.zeros(wide.shape, [("confidence", "u1"), ("depth", "f4")])
    pixels["depth"] = wide
    for view in (wide[:, ::-1], wide[:, :, ::-1], wide[::-1], wide[:1][::-1], wide[:, :1][:, ::-1],
                 wide[:, :, :1][:, :, ::-1], np.broadcast_to(wide[0], wide.shape),
                 np.broadcast_to(wide[:, :1], wide.shape),
                 np.broadcast_to(wide[:, 2:3, 3:4], wide.shape),
                 np.broadcast_to(np.float32(2), (1, 1, 1)), shifted, pixels["depth"]):  # fmt: skip
        same_bits(depth_to_points(view, K), depth_to_points(view.copy(), K))
        voxels = depth_to_voxels(view, K, None, *GRID)
        np.testing.assert_array_equal(voxels, depth_to_voxels(view.copy(), K, None, *GRID))


@pytest.mark.parametrize(
    "reduce", ["binary", "count", "sum", "mean", "max", "min", "first", ("binary", "count", "mean")]
)
@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64"])
def test_voxels_are_those_of_the_points(lib, reduce, dtype):
    depth, pose = images(2, 3, 37, 45, dtype=dtype), poses(2, 3)
    got = depth_to_voxels(lib.array(depth), K, lib.array(pose), *GRID, reduce=reduce)
    points = depth_to_points(depth, K, pose).reshape(2, -1, 3)
    expected = voxelize_point_cloud(points, *GRID, reduce=reduce)
    if isinstance(reduce, tuple):
        got = type(expected)(*map(lib.numpy, got))
        assert expected.binary.any()
    else:
        got = lib.numpy(got)
        assert expected.any()
    same_bits(got, expected)


@pytest.mark.parametrize("away", [0.0, 3.0, 40.0, 900.0, 3e4, 1e7])
@pytest.mark.parametrize("cells", [(1, 2, 3), (128, 120, 127), (1030, 9, 8), (7, 17000, 5)])
@pytest.mark.parametrize("size", [0.125, 0.02, 2e-19])
def test_pixels_a_few_roundings_from_an_edge(lib, cells, size, away):
    """Where an approximate cell would most often be wrong; `away` from the world's origin."""
    random = rng(cells[1])
    pose = poses(2, seed=3)
    pose[:, :3, 3] *= size
    pose[:, :3, 3] += away * size
    origin = np.float32(away * size) - np.array(cells) / 2 * size
    rays = [np.full((60, 80), x) for x in (0.0, 0.0, 1.0)]
    rays[0], rays[1] = (np.mgrid[:80, :60].transpose(0, 2, 1) - [[[32.25]], [[24.5]]]) / 60
    rays = np.einsum("bij,jvu->bivu", pose[:, :3, :3], np.stack(rays))
    axis = random.integers(0, 3, (2, 1, 60, 80))
    edge = random.integers(0, np.array(cells)[axis] + 1) * size + origin[axis]
    along = np.take_along_axis(rays, axis, 1)
    depth = ((edge - pose[:, :3, 3][np.arange(2)[:, None, None, None], axis]) / along)[:, 0]
    depth = depth.astype(np.float32)
    nudged = np.abs(depth).view(np.int32) + random.integers(-3, 4, depth.shape).astype(np.int32)
    depth = np.maximum(nudged, 0).view(np.float32)
    arrays = [lib.array(x[:, None]) for x in (depth, pose)]
    camera = (60.0, 60.0, 32.25, 24.5)
    points = depth_to_points(arrays[0], camera, arrays[1])
    for dtype in ("bits", "uint8"):
        got = depth_to_voxels(arrays[0], camera, arrays[1], cells, size, origin, dtype=dtype)
        flat = points.reshape(2, -1, 3)
        expected = voxelize_point_cloud(flat, cells, size, origin, dtype=dtype)
        same_bits(lib.numpy(got), lib.numpy(expected))
    assert lib.numpy(got).any() or away > 1000


@pytest.mark.parametrize("dtype", ["bool", "uint8", "float16", "bfloat16", "float32", "bits"])
def test_binary_voxels_of_every_dtype(lib, dtype):
    depth, pose = images(2, 2, 37, 45), poses(2, 2)
    # Of 105 and 255 voxels, other grids than the first start and end inside of a word.
    for grid in (GRID, ((7, 5, 3), 0.4, -1.0), ((3, 5, 17), (1.2, 0.7, 0.2), -1.7)):
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
    same_bits(type(expected)(*map(lib.numpy, got)), expected)


def test_features_of_any_strides(lib):
    """With a stride, they are those of the pixels that are left."""
    depth, pose = images(2, 2, 20, 30), poses(2, 2)
    wide = rng().uniform(-1, 1, (2, 2, 20, 30, 5)).astype(np.float32)
    points = depth_to_points(depth, K, pose, stride=2).reshape(2, -1, 3)
    for view in (lambda x: x[:, :, ::2, ::2], lambda x: x[:, :, ::2, ::2, 1:3],
                 lambda x: x[:, :, :10, :15, :1], lambda x: x[:, :, 10:, 15:],
                 lambda x: x.reshape(2, 2, -1, 15, 5)[:, :, :10],
                 lambda x: x.reshape(2, 8, 10, 15, 5)[:, 3:5]):  # fmt: skip
        got = depth_to_voxels(
            lib.array(depth), K, lib.array(pose), *GRID, stride=2, reduce="max",
            features=view(lib.array(wide)), fill_value=-9,
        )  # fmt: skip
        colours = np.ascontiguousarray(view(wide))
        colours = colours.reshape(2, -1, colours.shape[-1])
        expected = voxelize_point_cloud(
            points, *GRID, reduce="max", features=colours, fill_value=-9
        )
        same_bits(lib.numpy(got), expected)


@pytest.mark.parametrize("shape", [(20, 30), (2, 20, 30), (3, 2, 20, 30)])
@pytest.mark.parametrize(
    "options",
    [{}, {"dtype": "bits"}, {"dtype": "float16"}, {"reduce": "count"}, {"reduce": "mean"}],
)
def test_out(lib, shape, options):
    if lib.name == "jax":
        pytest.skip("arrays of JAX are not written to")
    depth, pose = images(*shape), poses(*shape[:-2])
    grid = ((7, 5, 3), 0.4, -1.0)
    expected = depth_to_voxels(depth, K, pose, *grid, **options)
    assert expected.any()
    out = lib.array(np.full_like(expected, 7))
    given = depth_to_voxels(lib.array(depth), K, lib.array(pose), *grid, out=out, **options)
    assert given is out
    same_bits(lib.numpy(out), expected)


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


@settings(max_examples=60)
@given(st.data())
def test_cuda_text_and_reference_and_two_steps_agree(data):
    """Every bit, whatever the options."""

    def pick(*choices):
        return data.draw(st.sampled_from(choices))

    random = rng(data.draw(st.integers(0, 2**32)))
    lead = pick((), (1,), (3,), (1, 2), (2, 3))
    shape = (*lead, data.draw(st.integers(1, 70)), data.draw(st.integers(1, 300)))
    depth = images(*shape, dtype=pick(*DEPTHS), seed=random)
    odd = [0] if depth.dtype == np.uint16 else [0, -1, np.nan, np.inf, -np.inf]
    depth = np.where(random.random(shape) < 0.1, np.asarray(odd, depth.dtype)[-1], depth)
    depth = pick(lambda x: x, lambda x: x[..., ::-1], lambda x: x[..., ::2, 3:])(depth)
    intrinsics, pose = np.tile(K, (*lead, 1, 1)), poses(*lead, seed=random)
    intrinsics[..., :2, 2] += random.uniform(-5, 5, (*lead, 2))
    first, axes = (0,) * len(lead), pick(0, 1, 2)
    if axes < 2 or not lead:  # one for all, or one for each view
        intrinsics, pose = intrinsics[first[axes:]], pose[first[axes:]]
    pose = pick(None, pose, pose.astype(np.float32), pose[..., :3, :])
    options = {
        "stride": pick(1, 2, 3, 50), "depth_kind": pick("z", "ray"), "pixel_offset": pick(0, 0.5),
        "convention": pick("opencv", "opengl"), "depth_min": pick(0.0, 0.5, -np.inf),
        "depth_max": pick(np.inf, 2.0), "depth_to_meters": pick(None, 0.5, 1e-3),
    }  # fmt: skip
    batches = lead[:1] if len(lead) == 2 else ()
    origin = pick(-1.0, (-1.5, -1.0, -0.5), random.uniform(-1.5, -0.5, (*batches, 3)))
    grid = (pick(1, 7, 32), pick(3, 30), pick(5, 16)), pick(0.1, (0.25, 0.3, 0.125)), origin
    voxels = {"out_of_bounds": pick("drop", "clamp")}
    reduce = pick("binary", "binary", "count", "mean", "first", ("binary", "sum"))
    if reduce == "binary":
        voxels["dtype"] = pick("uint8", "bool", "float16", "float32", "bits")
    results = []
    with pytest.MonkeyPatch.context() as patch:
        for run in (REFERENCE, on_host):
            patch.setattr(Kernel, "on_host", run)
            made = depth_to_voxels(
                depth, intrinsics, pose, *grid, reduce=reduce, **voxels, **options
            )
            results.append((depth_to_points(depth, intrinsics, pose, **options), made))
    (points, made), (on_cuda, made_on_cuda) = results
    same_bits(on_cuda, points)
    same_bits(made_on_cuda, made)
    cloud = points.reshape(*batches, -1, 3)
    same_bits(made, voxelize_point_cloud(cloud, *grid, reduce=reduce, **voxels))


def test_numbers_that_change_make_no_new_plan():
    depth = images(20, 30)
    of_points, of_voxels = Op.all["depth_to_points"].cache, Op.all["depth_to_voxels"].cache
    options = {"depth_min": 0.1, "depth_max": 2.0, "depth_to_meters": 1.0, "pixel_offset": 0.5}
    depth_to_points(depth, K, poses(), **options)
    depth_to_voxels(depth, K, poses(), *GRID, **options)
    before = len(of_points), len(of_voxels)
    other = {name: value * 1.5 for name, value in options.items()}
    points = depth_to_points(depth, K * 2, poses(seed=3), **other)
    voxels = depth_to_voxels(depth, K * 2, poses(seed=3), GRID[0], 0.2, (-1, -2, -3), **other)
    assert (len(of_points), len(of_voxels)) == before
    expected = oracle(depth, K * 2, poses(seed=3), scale=1.5, near=0.15, far=3, offset=0.75)
    assert_near(points, expected)
    np.testing.assert_array_equal(voxels, voxelize_point_cloud(points, GRID[0], 0.2, (-1, -2, -3)))
    with pytest.raises(ValueError, match="depth_max is NaN"):  # of a plan made before, too
        depth_to_points(depth, K, poses(), **options | {"depth_max": np.nan})


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
        ({"stride": 2.5}, "stride is 2.5"),
        ({"depth_to_meters": 0}, "depth_to_meters is 0"),
        ({"depth_to_meters": "mm"}, "depth_to_meters is 'mm'"),
        ({"depth_min": "0"}, "depth_min is '0'"),
        ({"depth_max": float("nan")}, "depth_max is NaN"),
        ({"pixel_offset": float("inf")}, "pixel_offset is inf"),
        ({"intrinsics": np.eye(3, 4)}, r"intrinsics has shape \(3, 4\)"),
        ({"intrinsics": np.zeros((2, 3, 3), np.float16)}, "intrinsics has dtype float16"),
        ({"cam_to_world": np.full((4, 4), np.nan)}, "cam_to_world has a number"),
        ({"depth": [[1.0]]}, "depth must be an array"),
        ({"backend": "gpu"}, "backend is 'gpu'"),
    ],
)
def test_errors_name_the_argument(arguments, words):
    call = {"depth": np.zeros((4, 5), np.float32), "intrinsics": K, "cam_to_world": None}
    with pytest.raises((ValueError, TypeError), match=words):
        depth_to_points(**call | arguments)
    with pytest.raises((ValueError, TypeError), match=words):
        depth_to_voxels(**call | arguments, grid_size=4, voxel_size=1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"depth": np.zeros((1, 2, 3, 4, 5), np.float32)}, "depth has shape"),
        ({"grid_size": (1, 2)}, "grid_size"),
        ({"voxel_size": 0}, "voxel_size is 0"),
        ({"origin": np.zeros((2, 3))}, "origin has shape"),
        ({"reduce": "median"}, "reduce is 'median'"),
        ({"out_of_bounds": "wrap"}, "out_of_bounds is 'wrap'"),
        ({"dtype": "int64"}, "dtype of binary is int64"),
        ({"features": np.zeros((4, 5, 3))}, "features are given"),
        ({"features": np.zeros((5, 4, 3)), "reduce": "mean"}, r"features .* expected \(4, 5, C\)"),
        ({"features": np.zeros((4, 5)), "reduce": "mean"}, "features has shape"),
        ({"features": np.zeros((4, 5, 3)), "reduce": "mean", "stride": 2}, "features has shape"),
        ({"out": np.zeros((4, 4, 4), np.float32)}, "out has dtype float32"),
        ({"out": np.zeros((4, 4, 3), np.uint8)}, "out has shape"),
        ({"out": np.zeros((4, 4, 8), np.uint8)[..., ::2]}, "out has strides"),
        ({"out": np.zeros((4, 4, 4), np.uint8), "return_counts": True}, "out is given"),
    ],
)
def test_errors_of_voxels_name_the_argument(arguments, words):
    call = {"depth": np.zeros((4, 5), np.float32), "intrinsics": K, "cam_to_world": None,
            "grid_size": 4, "voxel_size": 1}  # fmt: skip
    with pytest.raises((ValueError, TypeError), match=words):
        depth_to_voxels(**call | arguments)


def test_an_array_for_a_number_is_named():
    words = r"depth_to_meters is an array of shape \(3,\), expected a number"
    with pytest.raises(TypeError, match=words):
        depth_to_points(np.zeros((4, 5), np.float32), K, depth_to_meters=np.ones(3))


def test_a_length_of_one_cloud_may_have_any_stride():
    points = np.zeros((1, 5, 3), np.float32)
    counts = voxelize_point_cloud(points, 1, 1.0, lengths=np.array([3])[::-1], reduce="count")
    assert counts.item() == 3


def test_jit_and_vmap():
    jax = pytest.importorskip("jax")
    depth, pose = images(2, 3, 20, 30), poses(2, 3)
    cameras = np.tile(K, (2, 3, 1, 1)) * rng().uniform(0.9, 1.1, (2, 3, 1, 1))
    there = [jax.numpy.asarray(x) for x in (depth, cameras, pose)]

    def voxels(*cameras):
        return depth_to_voxels(*cameras, *GRID)

    expected = voxels(depth, cameras, pose)
    assert expected.any()
    same_bits(np.asarray(jax.jit(voxels)(*there)), expected)
    same_bits(np.asarray(jax.jit(jax.vmap(voxels))(*there)), expected)
    points = depth_to_points(depth, cameras, pose)
    for mapped in (jax.vmap(depth_to_points), jax.vmap(jax.vmap(depth_to_points))):
        same_bits(np.asarray(mapped(*there)), points)
    moved = jax.vmap(depth_to_points, (None, None, 0))(there[0][0, 0], K, there[2][0])
    same_bits(np.asarray(moved), depth_to_points(np.tile(depth[0, 0], (3, 1, 1)), K, pose[0]))
    limited = jax.jit(lambda depth, most: depth_to_points(depth, K, depth_max=most))(there[0], 1.5)
    same_bits(np.asarray(limited), depth_to_points(depth, K, depth_max=1.5))


def test_both_cameras_of_the_bundled_log_see_the_table_where_it_is():
    """Its top is 0.8 m high, to 2 mm in every frame of each of them."""
    heights = []
    for camera in depth_streams(logs.DEMO):
        frames = camera.depth[0 : len(camera.times)]
        clouds = depth_to_points(
            frames, camera.intrinsics, camera.cam_to_world,
            depth_to_meters=camera.depth_to_meters, pixel_offset=camera.pixel_offset,
            convention=camera.convention,
        )  # fmt: skip
        for points in clouds:
            flat = points[np.abs(points[:, 2] - 0.8) < 0.02, 2]
            assert len(flat) > 4000
            heights.append(np.median(flat))
    assert len(heights) == 169 + 90
    np.testing.assert_allclose(heights, 0.8, rtol=0, atol=0.002)
    assert max(heights) - min(heights) < 0.002
