"""`robocache voxelize` against plain NumPy, and what it says when it cannot."""

import struct
import subprocess
import sys

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("rich")

import cloud_files
from log_files import write_hdf5

from robocache_cupy import cli, depth_to_points, logs, voxel_indices
from robocache_cupy import voxelize as voxelizing
from robocache_cupy.logs.cloud import read_cloud
from robocache_cupy.logs.depth import depth_streams
from robocache_cupy.voxelize.grid import MOST_BYTES, grid_around

BACKENDS = ["numba", "cuda"]
KEYS = ["counts", "coords", "centroids", "voxel_size", "origin", "source"]


@pytest.fixture(params=BACKENDS)
def backend(request, require):
    if request.param == "cuda" and not pytest.importorskip("cupy").cuda.is_available():
        require.skip("cupy_cuda", "CuPy finds no GPU")
    return request.param


def voxelize(tmp_path, *arguments):
    """The arrays that the command writes."""
    output = tmp_path / "voxels.npz"
    assert cli.main(["voxelize", *map(str, arguments), "-o", str(output)]) == 0
    with np.load(output) as file:
        return dict(file)


def cells_of(points, voxel_size, origin):
    """Which voxel a point is in, in the dtype of the points."""
    of = points.dtype.type
    with np.errstate(invalid="ignore", over="ignore"):
        return np.floor((points - np.array(origin, of)) / np.array(voxel_size, of))


def assert_voxels(arrays, points):
    """Everything that the command wrote is what NumPy computes of these points."""
    assert list(arrays) == KEYS
    counts = arrays["counts"]
    cells = cells_of(points, arrays["voxel_size"], arrays["origin"])
    inside = ((cells >= 0) & (cells < counts.shape)).all(axis=1)
    cells, kept = cells[inside].astype(int), points[inside]
    expected, sums = np.zeros(counts.shape, np.int32), np.zeros((*counts.shape, 3))
    np.add.at(expected, tuple(cells.T), 1)
    np.add.at(sums, tuple(cells.T), kept)
    np.testing.assert_array_equal(counts, expected, strict=True)
    coords = np.argwhere(expected)
    np.testing.assert_array_equal(arrays["coords"], coords)
    assert arrays["coords"].dtype == np.int32
    means = sums[tuple(coords.T)] / expected[tuple(coords.T)][:, None]
    assert arrays["centroids"].dtype == points.dtype
    tolerance = 4 * np.finfo(points.dtype).eps * np.abs(kept).max()
    np.testing.assert_allclose(arrays["centroids"], means, rtol=0, atol=tolerance)
    return len(points), len(kept), int((~np.isfinite(points).all(axis=1)).sum())


def frames(log, chosen, **options):
    """The points of frames of its cameras."""
    clouds = []
    for camera in depth_streams(log):
        if camera.name not in chosen:
            continue
        which = chosen[camera.name]
        poses = camera.cam_to_world
        if poses is not None and poses.ndim == 3:
            poses = poses[which]
        points = depth_to_points(
            camera.depth[which], camera.intrinsics, poses, pixel_offset=camera.pixel_offset,
            depth_to_meters=camera.depth_to_meters, convention=camera.convention, **options,
        )  # fmt: skip
        clouds.append(points.reshape(-1, 3))
    return np.concatenate(clouds)


def one(index):
    return slice(index, index + 1)


def nearest(camera, seconds, start):
    """The frame of a camera taken nearest to a moment."""
    taken = (camera.times - start) / 1e9 - camera.latency
    return int(np.abs(taken - seconds).argmin())


def the_middle():
    """The frames of the bundled log that are taken by default."""
    cameras = depth_streams(logs.DEMO)
    start = min(int(camera.times[0]) for camera in cameras)
    ends = [((c.times[[0, -1]] - start) / 1e9 - c.latency) for c in cameras]
    middle = (max(e[0] for e in ends) + min(e[1] for e in ends)) / 2
    return {c.name: one(nearest(c, middle, start)) for c in cameras}


# --- Depth cameras


def test_the_bundled_log(tmp_path, backend):
    arrays = voxelize(tmp_path, logs.DEMO, "--backend", backend)
    points = frames(logs.DEMO, the_middle())
    assert assert_voxels(arrays, points) == (38400, 38400, 0)
    assert arrays["voxel_size"].tolist() == [0.05] * 3
    assert arrays["source"] == "franka_multirate.hdf5"
    # The top of robosuite's table is at 0.8 m, and most of what the cameras see.
    layers = arrays["counts"].sum(axis=(0, 1))
    assert arrays["origin"][2] == 0
    assert layers[15:17].sum() > 15_000


def test_without_arguments_the_bundled_log_is_voxelized(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["voxelize"]) == 0
    with np.load("voxels.npz") as file:
        assert file["counts"].sum() == 38400


@pytest.mark.parametrize("at", [0, 1.234, 3.1, 5.95])
def test_the_frames_nearest_to_a_moment(tmp_path, capsys, at):
    """A camera's latency is taken off: the frame is that of the moment."""
    arrays = voxelize(tmp_path, "--at", at)
    cameras = depth_streams(logs.DEMO)
    start = min(int(c.times[0]) - 35_000_000 for c in cameras)
    chosen = {c.name: one(nearest(c, at, start)) for c in cameras}
    assert_voxels(arrays, frames(logs.DEMO, chosen))
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "_depth" in line]
    for camera, row in zip(cameras, rows, strict=True):
        index = chosen[camera.name].start
        taken = (int(camera.times[index]) - 35_000_000 - start) / 1e9
        assert row[:4] == [camera.name, str(index), "of", str(len(camera.times))]
        assert row[4:6] == [f"{taken:.3f}", f"{1e3 * (taken - at):+.1f}"]


def test_the_latency_decides_which_frame_it_is(tmp_path):
    """Frame i of the late camera is stamped as that of the other, but was taken before it."""
    path = write_depth(tmp_path / "log", late=0.1)
    for at, of_the_late, of_the_other in ((0.4, 4, 3), (0.1, 1, 0), (0.6, 5, 5)):
        arrays = voxelize(tmp_path, path, "--at", at, "--voxel", "0.5")
        seen = sorted({frame for frame in (of_the_late, of_the_other) if frame})
        assert sorted(set(arrays["centroids"][:, 2])) == seen
        assert arrays["counts"].sum() == 12 * ((of_the_late > 0) + (of_the_other > 0))


def test_all_frames(tmp_path, backend, capsys):
    arrays = voxelize(tmp_path, "--all", "--voxel", "0.1", "--backend", backend)
    every = {camera.name: slice(None) for camera in depth_streams(logs.DEMO)}
    points = frames(logs.DEMO, every)
    assert assert_voxels(arrays, points) == (259 * 19200, 259 * 19200, 0)
    assert "all 169" in capsys.readouterr().out


def test_one_camera_and_not_further_than(tmp_path, capsys):
    arrays = voxelize(tmp_path, "--streams", "wrist_depth", "--depth-max", "0.5")
    cameras = depth_streams(logs.DEMO, streams=["wrist_depth"])
    taken = cameras[0].times
    middle = int(np.abs(taken - (taken[0] + taken[-1]) // 2).argmin())
    points = frames(logs.DEMO, {"wrist_depth": one(middle)}, depth_max=0.5)
    total, kept, invalid = assert_voxels(arrays, points)
    assert 0 < kept < total == kept + invalid
    (row,) = [line.split() for line in capsys.readouterr().out.splitlines() if "wrist" in line]
    assert row[-4:] == [f"{total:,}", f"{kept:,}", f"{invalid:,}", "0"]


K = np.array([[2.0, 0, 1.5], [0, 2, 1], [0, 0, 1]])
T = 1_700_000_000_000_000_000 + 100_000_000 * np.arange(6)


def write_depth(path, poses="world", dtype="f4", times=T, **latencies):
    """Two cameras; frame i of both is a wall i meters ahead."""
    depth = np.broadcast_to(np.arange(6).reshape(6, 1, 1), (6, 3, 4)).astype(dtype)
    attrs = {}
    for name in "camera", "late":
        attrs[name] = {"kind": "depth", "K": K, "depth_to_meters": 1.0}
        attrs[name]["latency_s"] = latencies.get(name, 0.0)
        if poses == "world":
            attrs[name]["cam_to_world"] = np.eye(4)
    return write_hdf5(path, {"camera": (times, depth), "late": (T, depth)}, **attrs)


@pytest.mark.parametrize("dtype", ["u1", "u2", "i4", "f2", "f4", "f8", ">u2"])
def test_every_dtype_of_depth(tmp_path, dtype):
    path = write_depth(tmp_path / "log", dtype=dtype)
    arrays = voxelize(tmp_path, path, "--at", "0.3", "--streams", "late", "--voxel", "1")
    assert arrays["counts"].sum() == 12
    np.testing.assert_array_equal(arrays["centroids"][:, 2], 3)


def test_the_last_of_frames_with_the_same_stamp_is_taken(tmp_path):
    path = write_depth(tmp_path / "log", times=np.array([*T[:2], T[3], T[3], *T[4:]]))
    arrays = voxelize(tmp_path, path, "--at", "0.3", "--streams", "camera")
    np.testing.assert_array_equal(arrays["centroids"][:, 2], 3)


def test_a_camera_without_a_pose(tmp_path, capsys):
    path = write_depth(tmp_path / "log", poses=None)
    assert "camera has no cam_to_world" in refusal(capsys, path, "-o", tmp_path / "out.npz")
    voxelize(tmp_path, path, "--streams", "late")
    assert "no cam_to_world, so in the frame of late" in capsys.readouterr().out


def test_cameras_without_a_common_moment(tmp_path, capsys):
    path = write_depth(tmp_path / "log", times=T + 10**9)
    error = refusal(capsys, path, "-o", tmp_path / "out.npz")
    assert "camera begins 0.500 s after late has ended" in error
    voxelize(tmp_path, path, "--at", "0.7")
    row = next(line for line in capsys.readouterr().out.splitlines() if "late" in line)
    assert "-200.0" in row


def test_cameras_without_frames(tmp_path, capsys):
    path = write_hdf5(
        tmp_path / "log",
        {"camera": (T[:0], np.zeros((0, 3, 4), "u2"))},
        camera={"kind": "depth", "K": K},
    )
    assert "its depth cameras have no frames" in refusal(capsys, path)


def test_robomimic(tmp_path, logs_dir):
    path = logs_dir / "hdf5_robosuite_lift" / "lift_depth84_demo3_robomimic.hdf5"
    (camera,) = depth_streams(path)
    arrays = voxelize(tmp_path, path, "--at", "0")
    assert assert_voxels(arrays, frames(path, {camera.name: one(0)}))[1]


# --- Point clouds


CHANCE = np.random.default_rng(0)
POINTS = CHANCE.normal(0, 0.3, (500, 3)).astype("f4")
POINTS[[3, 77]] = np.nan
POINTS[5, 1] = np.inf
FINITE = POINTS[np.isfinite(POINTS).all(axis=1)]
AXES = [("x", POINTS[:, 0]), ("y", POINTS[:, 1]), ("z", POINTS[:, 2])]
KITTI = np.column_stack([FINITE, np.full(len(FINITE), 0.5, "f4")])
CLOUDS = {
    "cloud.pcd": cloud_files.pcd(AXES, "binary"),
    "packed.pcd": cloud_files.pcd(AXES, "binary_compressed", height=20),
    "cloud.ply": cloud_files.ply([("vertex", AXES)], "binary_little_endian"),
    "cloud.bin": KITTI.tobytes(),
    "cloud.xyz": "\n".join(f"{x} {y} {z}" for x, y, z in FINITE.tolist()).encode(),
}


UNIT = ["-1", "-1", "-1", "1", "1", "1"]


@pytest.fixture
def cloud(tmp_path):
    path = tmp_path / "cloud.npy"
    np.save(path, POINTS)
    return path


@pytest.mark.parametrize("name", CLOUDS)
def test_every_format(tmp_path, name, capsys):
    path = tmp_path / name
    path.write_bytes(CLOUDS[name])
    cloud = read_cloud(path)
    total, kept, invalid = assert_voxels(voxelize(tmp_path, path), cloud.points)
    assert kept == len(FINITE) == total - invalid
    out = capsys.readouterr().out
    assert f"{path} ({cloud.source}" in out
    assert ("25 x 20 pixels" in out) == (name == "packed.pcd")
    (row,) = [line.split() for line in out.splitlines() if line.strip().startswith("points ")]
    assert row == ["points", str(total), str(kept), str(invalid), "0"]


def test_arrays(tmp_path, cloud, backend):
    expected = voxelize(tmp_path, cloud, "--backend", backend)
    assert_voxels(expected, POINTS)
    np.savez(tmp_path / "cloud.npz", points=POINTS)
    arrays = voxelize(tmp_path, tmp_path / "cloud.npz")
    np.testing.assert_array_equal(arrays["counts"], expected["counts"])


def test_names_of_columns(tmp_path):
    path = tmp_path / "cloud.bin"
    path.write_bytes(b"".join(struct.pack("<4f", 9, *point) for point in FINITE))
    arrays = voxelize(tmp_path, path, "--columns", "_,x,y,z")
    assert_voxels(arrays, FINITE)


def test_doubles_far_from_the_origin_keep_their_place(tmp_path):
    points = FINITE.astype(float) + np.array([4.5e5, 5.1e6, 30])  # as UTM has them
    np.save(tmp_path / "cloud.npy", points)
    arrays = voxelize(tmp_path, tmp_path / "cloud.npy")
    assert arrays["centroids"].dtype == np.float64
    assert assert_voxels(arrays, points)[1] == len(points)


def test_three_edges(tmp_path, cloud):
    arrays = voxelize(tmp_path, cloud, "--voxel", "0.1,0.2,0.4")
    assert arrays["voxel_size"].tolist() == [0.1, 0.2, 0.4]
    assert_voxels(arrays, POINTS)


def test_bounds(tmp_path, cloud):
    """Also such as argparse takes for options."""
    box = ["-0.5", "-1e-1", "-.25", "+0.5", "2.5E-1", "0.3"]
    arrays = voxelize(tmp_path, cloud, "--bounds", *box, "--voxel", "0.05")
    assert arrays["origin"].tolist() == [-0.5, -0.1, -0.25]
    assert arrays["counts"].shape == (20, 7, 11)
    total, kept, invalid = assert_voxels(arrays, POINTS)
    assert 0 < kept < len(FINITE)
    assert (total, invalid) == (500, 3)


def test_bounds_that_are_no_whole_number_of_voxels_end_further_out(tmp_path, cloud, capsys):
    arrays = voxelize(tmp_path, cloud, "--bounds", *UNIT, "--voxel", "0.3")
    assert arrays["counts"].shape == (7, 7, 7)
    assert "(-1, -1, -1) m, to (1.1, 1.1, 1.1)" in capsys.readouterr().out


def test_kept_and_dropped_are_all(tmp_path, cloud, capsys):
    voxelize(tmp_path, cloud, "--bounds", *["-0.2", "-0.2", "-0.2", "0.2", "0.2", "0.2"])
    row = next(
        line.split()
        for line in capsys.readouterr().out.splitlines()
        if line.split()[:2] == ["points", "500"]
    )
    inside = ((FINITE >= -0.2) & (FINITE < 0.2)).all(axis=1).sum()
    assert [int(number) for number in row[1:]] == [500, inside, 3, 497 - inside]


FLOATS = {"f4": 32, "f8": 64}


@pytest.mark.parametrize("dtype", FLOATS)
@given(data=st.data())
def test_the_grid_around_holds_all_points_and_no_more(dtype, data):
    width, edge = FLOATS[dtype], data.draw(st.sampled_from([0.05, 0.1, 0.3, 1.0, 7.0]))
    numbers = st.floats(-200, 200, width=width) | st.integers(-300, 300).map(lambda i: i * edge)
    rows = st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=4)
    points = np.array(data.draw(rows), dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("robocache_cupy.voxelize.grid.MOST_BYTES", 2**60)
        grid = grid_around(points, (edge,) * 3, "it")
    cells = voxel_indices(points, *grid)
    assert (cells >= 0).all()
    assert (cells.max(axis=0) + 1 == grid.grid_size).all()
    assert (cells.min(axis=0) <= 1).all()  # rounding may open a voxel below
    assert np.allclose(np.rint(np.divide(grid.origin, edge)), np.divide(grid.origin, edge))


@pytest.mark.parametrize(
    ("name", "voxel", "points"),
    [
        ("pcd_lidar_and_kinect/lidar.pcd", "0.2", 115_385),
        ("pcd_lidar_and_kinect/table_scene_mug_stereo_textured.pcd", "0.01", 307_200),
        ("nc_kitti_nuscenes/kitti/velodyne/000008.bin", "0.1", 17_238),
    ],
)
def test_real_clouds(tmp_path, logs_dir, name, voxel, points, backend):
    arrays = voxelize(tmp_path, logs_dir / name, "--voxel", voxel, "--backend", backend)
    total, kept, invalid = assert_voxels(arrays, read_cloud(logs_dir / name).points)
    assert total == points == kept + invalid


# --- The file


def test_the_same_is_written_again_and_an_older_one_replaced(tmp_path, cloud):
    voxelize(tmp_path, cloud, "--voxel", "0.2")
    voxelize(tmp_path, cloud)
    first = (tmp_path / "voxels.npz").read_bytes()
    voxelize(tmp_path, cloud)
    assert (tmp_path / "voxels.npz").read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cloud.npy", "voxels.npz"]


# --- The figure


def figure_of(monkeypatch, tmp_path, *arguments, name="voxels.png"):
    """The file and the figure that the command draws."""
    from matplotlib.figure import Figure

    made = []

    def savefig(self, *arguments, save=Figure.savefig, **options):
        made.append(self)
        save(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    path = tmp_path / name
    voxelize(tmp_path, *arguments, "--plot", path)
    return path, *made


def faces_of(axis):
    (collection,) = axis.collections
    return np.asarray(collection._faces)


def test_the_figure_of_the_bundled_log(monkeypatch, tmp_path):
    path, figure = figure_of(monkeypatch, tmp_path, logs.DEMO)
    assert path.read_bytes().startswith(b"\x89PNG")
    axis, bar = figure.axes
    assert [axis.get_xlabel(), axis.get_ylabel(), axis.get_zlabel()] == ["x (m)", "y (m)", "z (m)"]
    assert bar.get_ylabel() == "z (m)"
    spans = np.diff([axis.get_xlim(), axis.get_ylim(), axis.get_zlim()]).ravel()
    np.testing.assert_allclose(axis._box_aspect / spans, (axis._box_aspect / spans)[0])
    # The cameras are where the log has them.
    shown = {line.get_label(): np.ravel(line.get_data_3d()) for line in axis.lines}
    fixed, moving = depth_streams(logs.DEMO)
    index = the_middle()["wrist_depth"].start
    np.testing.assert_allclose(shown["agent_depth"], fixed.cam_to_world[:3, 3])
    np.testing.assert_allclose(shown["wrist_depth"], moving.cam_to_world[index, :3, 3])


@pytest.mark.parametrize("box", ["-0.6 -0.6 0.7 0.6 0.6 1.4", "-2 -2 0 2 2 1", "0 0 0 0.1 0.1 2"])
def test_what_is_drawn_fits_the_page(monkeypatch, tmp_path, box):
    from matplotlib.image import imread

    path, _ = figure_of(monkeypatch, tmp_path, logs.DEMO, "--bounds", *box.split())
    page = imread(path)[..., :3]
    for edge in (page[:3], page[-3:], page[:, :3], page[:, -3:]):
        assert (edge == 1).all()
    left, right = np.flatnonzero((page < 1).any(axis=(0, 2)))[[0, -1]] / page.shape[1]
    assert left < 0.04
    assert right > 0.9


def test_all_frames_draw_the_way_of_a_camera(monkeypatch, tmp_path):
    _, figure = figure_of(monkeypatch, tmp_path, logs.DEMO, "--all", "--voxel", "0.1")
    ways = {line.get_label(): np.array(line.get_data_3d()) for line in figure.axes[0].lines}
    assert ways["agent_depth"].shape == (3, 1)
    assert ways["wrist_depth"].shape == (3, 90)


@pytest.mark.parametrize("form", ["pdf", "svg"])
def test_other_forms_of_the_figure(monkeypatch, tmp_path, cloud, form):
    path, _ = figure_of(monkeypatch, tmp_path, cloud, name=f"voxels.{form}")
    assert path.stat().st_size


def test_faces_that_cannot_be_seen_are_not_drawn():
    """Of two cubes side by side, five squares can be seen, where the viewer stands."""
    from matplotlib.figure import Figure

    from robocache_cupy.viz import add_voxels

    axis = Figure().add_subplot(projection="3d")
    axis.view_init(elev=30, azim=30)  # from above, x and y
    add_voxels(axis, [[0, 0, 0], [1, 0, 0]], 0.5, (1, 2, 3))
    faces = faces_of(axis)
    centres = sorted(map(tuple, faces.mean(axis=1).round(6).tolist()))
    assert centres == [
        (1.25, 2.25, 3.5), (1.25, 2.5, 3.25), (1.75, 2.25, 3.5), (1.75, 2.5, 3.25),
        (2.0, 2.25, 3.25),
    ]  # fmt: skip
    axis.collections[0].remove()
    axis.view_init(elev=-30, azim=210)  # from the other side
    add_voxels(axis, [[0, 0, 0], [1, 0, 0]], 0.5, (1, 2, 3))
    assert faces_of(axis).mean(axis=1)[:, 0].min() == 1.0
    assert faces_of(axis)[..., 2].mean(axis=1).min() == 3.0


def test_many_voxels_are_drawn_as_blocks_and_it_says_so(monkeypatch, tmp_path, cloud):
    from robocache_cupy import viz

    monkeypatch.setattr(viz, "_MOST_CUBES", 100)
    _, figure = figure_of(monkeypatch, tmp_path, cloud, "--voxel", "0.05")
    (said,) = [text.get_text() for text in figure.texts if "occupied" in text.get_text()]
    assert "drawn as " in said
    assert "blocks of 0.4 m" in said
    axis = figure.axes[0]
    low, high = FINITE.min(axis=0), FINITE.max(axis=0)
    for (a, b), x, y in zip(
        (axis.get_xlim(), axis.get_ylim(), axis.get_zlim()), low, high, strict=True
    ):
        assert a <= x
        assert y <= b


def test_a_flat_cloud_and_one_point_are_drawn(monkeypatch, tmp_path):
    for points in (np.zeros((1, 3)), np.column_stack([FINITE[:, :2], np.ones(len(FINITE))])):
        np.save(tmp_path / "cloud.npy", points)
        path, _ = figure_of(monkeypatch, tmp_path, tmp_path / "cloud.npy")
        assert path.stat().st_size
        monkeypatch.undo()


# --- Errors


def refusal(capsys, *arguments):
    """The one line that the command prints before it ends with 2."""
    assert cli.main(["voxelize", *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("robocache: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize(
    "size", ["0", "-0.1", "nan", "inf", "a", "", "0.1,0.2", "0.1,0.2,0", "1e-30"]
)
def test_a_voxel_must_have_edges(tmp_path, capsys, size):
    error = refusal(capsys, f"--voxel={size}", "-o", tmp_path / "out.npz")
    assert f"--voxel {size}: expected meters above 0, one number or three" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ("0 0 0 1 1 0", "z is from 0 to 0"),
        ("0 1 0 1 -1 1", "y is from 1 to -1"),
        ("nan 0 0 1 1 1", "x is from nan to 1"),
        ("-inf 0 0 1 1 1", "x is from -inf to 1"),
        ("0 0 0 1 1 1e308", "z is from 0 to 1e+308"),
    ],
)
def test_bounds_must_be_a_box(tmp_path, capsys, box, said):
    error = refusal(capsys, "--bounds", *box.split(), "-o", tmp_path / "out.npz")
    assert f"--bounds: {said}, expected XMIN YMIN ZMIN XMAX YMAX ZMAX of -1e+09 " in error
    assert not list(tmp_path.iterdir())


def test_bounds_are_six_numbers(tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main(["voxelize", "--bounds", "0", "0", "0", "1", "1"])
    assert ended.value.code == 2
    assert "--bounds: expected 6 arguments" in capsys.readouterr().err


def test_a_far_outlier_is_refused_before_it_takes_all_memory(tmp_path, capsys):
    points = FINITE.copy()
    points[7] = 4e6
    np.save(tmp_path / "cloud.npy", points)
    error = refusal(capsys, tmp_path / "cloud.npy", "-o", tmp_path / "out.npz")
    assert "to (4e+06, 4e+06, 4e+06) m, and " in error
    assert "GB, more than 1.07: pass --bounds or a larger --voxel" in error
    voxelize(tmp_path, tmp_path / "cloud.npy", "--bounds", *UNIT)
    points[7] = 3e38
    np.save(tmp_path / "cloud.npy", points)
    assert "pass --bounds" in refusal(capsys, tmp_path / "cloud.npy", "-o", tmp_path / "out.npz")
    np.save(tmp_path / "cloud.npy", np.array([[-1.7e308] * 3, [1.7e308] * 3]))
    assert "pass --bounds" in refusal(capsys, tmp_path / "cloud.npy", "-o", tmp_path / "out.npz")
    # As many voxels, but more along an axis than an op takes.
    points[7] = (1e6, 0, 0)
    np.save(tmp_path / "cloud.npy", points[6:8] * np.array([1, 0, 0], "f4"))
    assert "pass --bounds" in refusal(capsys, tmp_path / "cloud.npy", "-o", tmp_path / "out.npz")


def test_the_largest_grid_there_is(tmp_path, cloud, capsys, monkeypatch):
    bounds = ["--bounds", *["0", "0", "0", "1", "1", "1"]]
    monkeypatch.setattr("robocache_cupy.voxelize.grid.MOST_BYTES", 4000)
    assert voxelize(tmp_path, cloud, *bounds, "--voxel", "0.1")["counts"].nbytes == 4000
    error = refusal(capsys, cloud, *bounds, "--voxel", "0.099", "-o", tmp_path / "out.npz")
    assert "11 x 11 x 11 voxels of 0.099 m take " in error
    assert MOST_BYTES == 2**30


def test_no_point_to_voxelize(tmp_path, cloud, capsys):
    error = refusal(capsys, cloud, "--bounds", *["50", "50", "50", "51", "51", "51"])
    assert f"--bounds hold none of the 497 points of {cloud}, which are x -" in error
    np.save(tmp_path / "nan.npy", np.full((5, 3), np.nan))
    assert "has no valid point" in refusal(capsys, tmp_path / "nan.npy")
    error = refusal(capsys, tmp_path / "nan.npy", "--bounds", *["0", "0", "0", "1", "1", "1"])
    assert "hold none of the 0 points" in error
    assert "has no valid point" in refusal(capsys, "--depth-max", "0.001")


def test_files_that_cannot_be_read(tmp_path, capsys):
    output = ["-o", tmp_path / "out.npz"]
    assert "cannot be opened" in refusal(capsys, tmp_path / "missing.pcd", *output)
    assert "is a directory" in refusal(capsys, tmp_path, *output)
    (tmp_path / "empty.pcd").touch()
    assert "is empty" in refusal(capsys, tmp_path / "empty.pcd", *output)
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    assert "is no PCD, PLY or NumPy file" in refusal(capsys, tmp_path / "photo.jpg", *output)
    (tmp_path / "run.bag").write_bytes(b"#ROSBAG V2.0\n")
    assert "is a log and no cloud" in refusal(capsys, tmp_path / "run.bag", *output)
    (tmp_path / "cut.hdf5").write_bytes(logs.DEMO.read_bytes()[:5000])
    assert "cannot be read as HDF5" in refusal(capsys, tmp_path / "cut.hdf5", *output)
    assert not (tmp_path / "out.npz").exists()


def test_logs_without_usable_depth(tmp_path, capsys):
    path = write_hdf5(tmp_path / "log", {"a": (T, np.zeros((6, 3)))})
    assert "has no stream of kind depth, only a" in refusal(capsys, path)
    with h5py.File(path, "a") as file:
        file["streams/a"].attrs["kind"] = "depth"
    assert "expected depth of shape (frames, height, width)" in refusal(capsys, path)
    assert "has no depth stream arm, only " in refusal(capsys, "--streams", "arm")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--at", "-1"], "--at -1: the frames are from 0 to 5.9"),
        (["--at", "6.1"], "--at 6.1: the frames are from 0 to 5.9"),
        (["--at", "nan"], "--at must be finite, got nan"),
        (["--at", "1", "--all"], "give one"),
        (["--depth-max", "0"], "--depth-max must be positive, got 0"),
        (["--depth-max", "nan"], "--depth-max must be positive, got nan"),
        (["--columns", "x,y,z"], "is a log: --columns"),
        (["--episode", "demo_1"], "no episodes to choose from"),
        (["--plot", "run.bag"], "expected a name in .pdf, .png, .svg"),
    ],
)
def test_options_that_cannot_be(tmp_path, capsys, arguments, said):
    assert said in refusal(capsys, *arguments, "-o", tmp_path / "out.npz")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "option",
    [["--at", "1"], ["--all"], ["--streams", "a"], ["--episode", "a"], ["--depth-max", "2"]],
)
def test_options_of_logs_for_a_cloud(tmp_path, cloud, capsys, option):
    error = refusal(capsys, cloud, *option, "-o", tmp_path / "out.npz")
    assert f"is a point cloud: {option[0]} is for the cameras of a log" in error


def test_all_of_a_long_log_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("robocache_cupy.voxelize.source._MOST_POINTS", 4_972_799)
    error = refusal(capsys, "--all", "-o", tmp_path / "out.npz")
    assert "--all frames are 4,972,800 points, more than 4,972,799" in error


def test_an_output_that_cannot_be_written(tmp_path, capsys, monkeypatch, cloud):
    assert "is there and no .npz" in refusal(capsys, cloud, "-o", cloud)
    np.testing.assert_array_equal(np.load(cloud), POINTS)
    monkeypatch.setattr(
        voxelizing, "open_source", lambda *_, **__: pytest.fail("the log was read in vain")
    )
    assert "No such file or directory" in refusal(capsys, "-o", tmp_path / "missing" / "out.npz")
    assert "is not a regular file" in refusal(capsys, "-o", tmp_path)


def test_missing_extras(tmp_path, capsys, monkeypatch):
    for module, extra in (("matplotlib.figure", "viz"), ("rich.console", "logs")):
        monkeypatch.setitem(sys.modules, module, None)
        error = refusal(capsys, "--plot", tmp_path / "a.png", "-o", tmp_path / "out.npz")
        assert f"pip install 'robocache-cupy[{extra}]'" in error
        monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "cupy", None)
    assert "robocache-cupy[cuda12]" in refusal(capsys, "--backend", "cuda")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("raised", "code"), [(KeyboardInterrupt, 130), (MemoryError, 2), (OSError("full"), 2)]
)
def test_an_end_half_way_leaves_nothing_behind(tmp_path, capsys, monkeypatch, raised, code):
    def stop(*_, **__):
        raise raised

    monkeypatch.setattr(voxelizing, "voxelize_sparse", stop)
    assert cli.main(["voxelize", "-o", str(tmp_path / "voxels.npz")]) == code
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert ("larger --voxel" in error) == (raised is MemoryError)
    assert not list(tmp_path.iterdir())


def test_the_module_runs_as_a_program(tmp_path):
    command = [sys.executable, "-m", "robocache_cupy", "voxelize", "--voxel", "0"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith("robocache: --voxel 0: expected meters")
