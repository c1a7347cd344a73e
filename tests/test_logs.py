"""Readers of logs and the timing of clocks: what is in a file comes out, or one clear line."""

import random
import shutil
import sys

import numpy as np
import pytest

pytest.importorskip("h5py")
pytest.importorskip("rosbags")

from log_files import COUNT, LATE, START, STEP, write_hdf5, write_ros1, write_ros2

from robocache_cupy import logs

HEADERS = START + STEP * np.arange(COUNT)


@pytest.fixture(scope="module")
def bags(tmp_path_factory):
    """The same messages in every kind of bag."""
    directory = tmp_path_factory.mktemp("bags")
    mcap, db3 = write_ros2(directory / "mcap", "mcap"), write_ros2(directory / "db3", "db3")
    return {
        "ROS 1 bag": write_ros1(directory / "ros1.bag"),
        "ROS 2 bag (MCAP)": next(mcap.glob("*.mcap")),
        "ROS 2 bag (SQLite)": next(db3.glob("*.db3")),
        "directory with MCAP": mcap,
        "directory with SQLite": db3,
    }


KINDS_OF_BAG = [
    "ROS 1 bag",
    "ROS 2 bag (MCAP)",
    "ROS 2 bag (SQLite)",
    "directory with MCAP",
    "directory with SQLite",
]


@pytest.fixture(params=KINDS_OF_BAG)
def bag(request, bags):
    return bags[request.param]


def assert_same_streams(one, other):
    assert list(one.streams) == list(other.streams)
    for name, stream in one.streams.items():
        twin = other.streams[name]
        for known in "fields", "kind", "discrete", "rotation":
            assert getattr(stream, known) == getattr(twin, known)
        np.testing.assert_array_equal(stream.times, twin.times, strict=True)
        np.testing.assert_array_equal(stream.values, twin.values, strict=True)


# --- Bags


def test_numeric_fields_become_columns_with_dotted_names(bag):
    streams = logs.open(bag).streams
    force = streams["/force"]
    assert force.fields == ("vector.x", "vector.y", "vector.z")
    assert force.times.dtype == np.int64
    np.testing.assert_array_equal(force.times, HEADERS)
    expected = np.array([[i, 0.5, -1.0] for i in range(COUNT)])
    np.testing.assert_array_equal(force.values, expected, strict=True)
    np.testing.assert_array_equal(force.read(1, 3), expected[1:3])
    fix = streams["/fix"]
    assert fix.fields[:5] == (
        "status.status",
        "status.service",
        "latitude",
        "longitude",
        "altitude",
    )
    assert fix.fields[5:14] == tuple(f"position_covariance.{i}" for i in range(9))


def test_integers_stay_integers_where_all_columns_are(bag):
    streams = logs.open(bag).streams
    dtypes = {name: streams[name].dtype.name for name in ("/count", "/closed", "/camera", "/fix")}
    assert dtypes == {"/count": "uint16", "/closed": "bool", "/camera": "uint32", "/fix": "float64"}
    assert streams["/fix"].discrete == (0, 1, 14)  # the codes among the floats


def test_times_in_a_message_are_nanoseconds(bag):
    reference = logs.open(bag).streams["/clock_check"]
    assert (reference.fields, reference.dtype) == (("time_ref",), np.int64)
    np.testing.assert_array_equal(reference.values[:, 0], 12_000_000_005 + np.arange(COUNT))


def test_each_child_frame_is_a_stream(bag):
    streams = logs.open(bag).streams
    assert streams["/tf/laser"].kind == "pose_xyz_quat_xyzw"
    assert streams["/tf/laser"].rotation == "pos_quat_xyzw"
    np.testing.assert_array_equal(streams["/tf/laser"].times, HEADERS)
    np.testing.assert_array_equal(streams["/tf/laser"].values[:, 0], np.arange(COUNT))
    np.testing.assert_array_equal(streams["/tf/camera"].times, [HEADERS[3] - 1])
    np.testing.assert_array_equal(streams["/tf/camera"].values, [[2, 0, 0, 0, 0, 0, 1]])


def test_orientations_are_known_as_such(bag):
    streams = logs.open(bag).streams
    orientation, imu = streams["/orientation"], streams["/imu"]
    assert (orientation.kind, orientation.discrete) == ("quat_xyzw", ())
    assert (orientation.rotation, imu.rotation) == ("quat_xyzw", {"0:4": "quat_xyzw"})
    assert imu.fields[:4] == tuple(f"orientation.{x}" for x in "xyzw")
    assert streams["/force"].rotation is None


def test_orientations_that_were_never_set_are_no_rotations(bag):
    unset = logs.open(bag).streams["/unset"]
    assert (unset.rotation, unset.discrete) == (None, (0, 1, 2, 3))


def test_what_is_left_out_is_listed_with_its_reason(bag):
    assert logs.open(bag).skipped == {
        "/camera.data": "bytes of no declared length are left out",
        "/chatter": "nothing numeric in std_msgs/msg/String",
        "/joints.effort": "its length changes",
        "/nothing": "nothing numeric in std_msgs/msg/Empty",
        "/tf_empty": "its messages are empty",
    }


def test_log_time_is_the_time_of_recording(bag):
    streams = logs.open(bag, log_time=True).streams
    np.testing.assert_array_equal(streams["/force"].times, HEADERS + LATE)
    assert {stream.attrs["clock"] for stream in streams.values()} == {"log"}


def test_messages_without_a_stamp_have_the_time_of_recording(bag):
    streams = logs.open(bag).streams
    for name in "/count", "/never_stamped":
        np.testing.assert_array_equal(streams[name].times, HEADERS + LATE)
        assert streams[name].attrs["clock"] == "log"
    assert streams["/force"].attrs["clock"] == "header"


def test_every_kind_of_bag_gives_the_same(bags):
    reference = logs.open(bags["ROS 1 bag"])
    for kind in KINDS_OF_BAG[1:]:
        assert_same_streams(reference, logs.open(bags[kind]))


def test_the_content_decides_not_the_name(bags, tmp_path):
    for kind, path in bags.items():
        renamed = tmp_path / f"{len(list(tmp_path.iterdir()))}.bag"
        (shutil.copytree if path.is_dir() else shutil.copy)(path, renamed)
        log = logs.open(renamed)
        assert log.format == ("ROS 2 bag" if path.is_dir() else kind)
        assert "/force" in log.streams
    renamed = shutil.copy(bags["ROS 1 bag"], tmp_path / "ros1.mcap")
    assert logs.open(renamed).format == "ROS 1 bag"


# --- HDF5


def test_hdf5_samples_stay_in_the_file_until_they_are_read(tmp_path):
    values = np.arange(12, dtype=">f4").reshape(4, 3)
    attrs = {"a": {"kind": "vector", "unit": "N", "latency_s": 0.25, "frame": "tool"}}
    path = write_hdf5(tmp_path / "log", {"a": (np.arange(4), values)}, **attrs)
    stream = logs.open(path).streams["a"]
    assert (stream.kind, stream.unit, stream.latency) == ("vector", "N", 0.25)
    assert (stream.attrs, stream.fields, len(stream)) == ({"frame": "tool"}, None, 4)
    assert (stream.shape, stream.dtype) == ((4, 3), np.dtype("f4"))
    np.testing.assert_array_equal(stream.read(1, 3), values[1:3].astype("f4"), strict=True)
    path.unlink()
    with pytest.raises(logs.LogError, match=str(path)):
        stream.read()


QUATERNIONS = np.array([[0, 0, 0.6, 0.8], [0.8, 0, -0.6, 0]])
POSES = np.hstack([np.arange(6.0).reshape(2, 3), QUATERNIONS])
TURNS = np.stack([np.eye(3), [[0, -1, 0], [1, 0, 0], [0, 0, 1]]])


@pytest.mark.parametrize(
    ("name", "values", "rotation"),
    [
        ("tool_quat", QUATERNIONS, "quat_xyzw"),
        ("tool_quat_wxyz", QUATERNIONS.astype("f4"), "quat_wxyz"),
        ("Orientation", QUATERNIONS * 1.0009, "quat_xyzw"),
        ("ee_pose", POSES, {"3:7": "quat_xyzw"}),
        ("ee_pose", POSES[:, ::-1], {"0:4": "quat_xyzw"}),
        ("rotation", TURNS, "matrix"),
        ("Orientation", QUATERNIONS * 1.002, None),
        ("tool_quat", QUATERNIONS[:0], None),
        ("tool_quat", QUATERNIONS[:, :3], None),
        ("tool_quat", np.eye(4, dtype=int)[:2], None),
        ("tool_quat", QUATERNIONS * [[1], [np.nan]], None),
        ("action", QUATERNIONS, None),
        ("pose", POSES[:, :6], None),
        ("rotation", -TURNS, None),
        ("rotation", TURNS * [[[1]], [[2]]], None),
        ("inertia", TURNS, None),
    ],
)
def test_rotations_are_known_by_their_names_and_values(tmp_path, name, values, rotation):
    path = write_hdf5(tmp_path / "log", {name: (np.arange(len(values)), values)})
    stream = logs.open(path).streams[name]
    assert (stream.rotation, stream.kind) == (rotation, "vector")


def test_all_samples_are_looked_at(tmp_path, monkeypatch):
    from robocache_cupy.logs import rotation

    values = np.broadcast_to(QUATERNIONS[0], (99, 4)).copy()
    values[70] = 0
    streams = {"quat": (np.arange(99), values), "whole_quat": (np.arange(70), values[:70])}
    path = write_hdf5(tmp_path / "log", streams)
    monkeypatch.setattr(rotation, "_BLOCK", 320)
    found = logs.open(path).streams
    assert (found["quat"].rotation, found["whole_quat"].rotation) == (None, "quat_xyzw")


@pytest.mark.parametrize(
    ("kind", "values", "rotation"),
    [
        ("pose_xyz_quat_xyzw", POSES, "pos_quat_xyzw"),
        ("pose_xyz_quat_wxyz", POSES, "pos_quat_wxyz"),
        ("quat_wxyz", QUATERNIONS, "quat_wxyz"),
        ("quat_xyzw", np.stack([QUATERNIONS] * 3, 1), "quat_xyzw"),
        ("quat_xyzw", POSES, None),
        ("quat_xyzw", np.eye(4, dtype=int)[:2], None),
    ],
)
def test_hdf5_that_says_what_is_a_rotation(tmp_path, kind, values, rotation):
    path = write_hdf5(tmp_path / "log", {"a": (np.arange(2), values)}, a={"kind": kind})
    stream = logs.open(path).streams["a"]
    assert (stream.kind, stream.rotation) == (kind, rotation)


def test_hdf5_groups_that_are_no_streams_are_listed(tmp_path):
    t = np.arange(2)
    path = write_hdf5(
        tmp_path / "log",
        {
            "good": (t, np.zeros(2)),
            "text": (t, np.array([b"a", b"b"])),
            "uneven": (t, np.zeros((3, 1))),
            "float_stamps": (t / 2, np.zeros(2)),
            "scalar": (t, np.float64(1)),
        },
    )
    log = logs.open(path)
    assert list(log.streams) == ["good"]
    assert log.skipped == {
        "text": "values are |S1, expected bool, integers or floats of up to 64 bits",
        "uneven": "t has shape (2,), but values have shape (3, 1)",
        "float_stamps": "t is float64 of shape (2,), expected int64 ns of shape (n,)",
        "scalar": "t has shape (2,), but values have shape ()",
    }


# --- Errors


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing", None, "cannot be opened: No such file"),
        ("empty.bag", b"", "is empty"),
        ("text.bag", b"hello", "is none of HDF5, ROS 1 bag, .*: convert it"),
        ("cut.hdf5", b"\x89HDF\r\n\x1a\n", "cannot be read as HDF5.*: copy it again"),
        ("cut.bag", b"#ROSBAG V2.0\n", "cannot be read as ROS 1 bag.*: copy it again"),
        ("cut.db3", b"SQLite format 3\0", "cannot be read as ROS 2 bag .SQLite.*: copy it again"),
        ("cut.mcap", b"\x89MCAP0\r\n", "cannot be read as ROS 2 bag .MCAP.*: copy it again"),
    ],
)
def test_an_error_is_one_line_that_names_the_file(tmp_path, name, content, message):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(logs.LogError, match=message) as error:
        logs.open(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_directory_must_be_a_bag(tmp_path):
    with pytest.raises(logs.LogError, match=r"without metadata\.yaml"):
        logs.open(tmp_path)
    (tmp_path / "metadata.yaml").write_text("rosbag2_bagfile_information:")
    with pytest.raises(logs.LogError, match="cannot be read as ROS 2 bag"):
        logs.open(tmp_path)


def test_hdf5_of_another_layout_is_refused(tmp_path):
    import h5py

    with h5py.File(tmp_path / "other", "w") as file:
        file["data"] = [1.0]
    with pytest.raises(logs.LogError, match="without the group 'streams'"):
        logs.open(tmp_path / "other")


def test_a_log_without_numbers_is_refused(tmp_path):
    path = write_hdf5(tmp_path / "log", {"text": (np.arange(1), np.array([b"a"]))})
    with pytest.raises(logs.LogError, match="no stream of numbers in it"):
        logs.open(path)


@pytest.mark.parametrize(("module", "kind"), [("h5py", "HDF5"), ("rosbags.highlevel", "ROS 1 bag")])
def test_a_missing_extra_is_named(bags, monkeypatch, module, kind):
    monkeypatch.setitem(sys.modules, module, None)
    package = module.partition(".")[0]
    message = rf"{package} is missing: pip install 'robocache-cupy\[logs\]'"
    with pytest.raises(logs.LogError, match=message):
        logs.open(logs.DEMO if kind == "HDF5" else bags[kind])


def read_everything(path):
    for stream in logs.open(path).streams.values():
        assert stream.read().shape == stream.shape
        logs.timing(stream.times)


def assert_damage_is_an_error(path, scratch, copies):
    """Cut short, a log is refused; with a wrong byte it is refused or, unnoticed, read."""
    content = path.read_bytes()
    damaged = scratch / path.name
    chance = random.Random(0)
    for length in (*(chance.randrange(len(content)) for _ in range(copies)), len(content) - 1):
        damaged.write_bytes(content[:length])
        with pytest.raises(logs.LogError):
            read_everything(damaged)
    refused = 0
    for _ in range(copies):
        wrong = bytearray(content)
        wrong[chance.randrange(len(content))] ^= chance.randrange(1, 256)
        damaged.write_bytes(wrong)
        try:
            read_everything(damaged)
        except logs.LogError:
            refused += 1
    return refused


@pytest.mark.parametrize("kind", KINDS_OF_BAG[:3])
def test_damage_of_a_bag_is_an_error(bags, tmp_path, kind):
    assert assert_damage_is_an_error(bags[kind], tmp_path, copies=60)


def test_damage_of_hdf5_is_an_error(tmp_path):
    assert assert_damage_is_an_error(logs.DEMO, tmp_path, copies=60)


# --- Timing


def test_timing_of_a_simple_clock():
    ms = 1_000_000
    clock = logs.timing(START + np.array([0, 10, 20, 20, 60, 50, 70, 80]) * ms)
    assert clock == (8, 100.0, 0.0, pytest.approx(19.0), 30.0, 1, 1)


@pytest.mark.parametrize("times", [[], [5], [5, 5]])
def test_timing_needs_two_stamps(times):
    clock = logs.timing(np.array(times, np.int64))
    assert (clock.samples, clock.duplicates) == (len(times), max(len(times) - 1, 0))
    assert np.isnan([clock.rate, clock.jitter_p50, clock.jitter_p99, clock.longest_gap]).all()


def test_timing_of_stamps_at_the_ends_of_int64():
    ends = np.iinfo(np.int64)  # the smallest is NaT
    assert logs.timing(np.array([ends.max, ends.min + 1])).longest_gap == (2**64 - 2) / 1e6


@pytest.mark.parametrize(
    ("times", "kept"),
    [([], []), ([3], [0]), ([1, 2, 3], [0, 1, 2]), ([3, 1, 2], [1, 2, 0]), ([1, 1, 1], [2]),
     ([2, 1, 2, 1, 3], [3, 2, 4])],
)  # fmt: skip
def test_clean_sorts_and_keeps_the_last_of_duplicates(times, kept):
    keep = logs.clean(np.array(times, np.int64))
    np.testing.assert_array_equal(np.arange(len(times))[keep], kept)


def test_clean_of_many_stamps():
    times = np.random.default_rng(0).integers(0, 100, 1000)
    last = {stamp: i for i, stamp in enumerate(times.tolist())}
    np.testing.assert_array_equal(logs.clean(times), [last[stamp] for stamp in sorted(last)])


def test_timing_of_the_bundled_log():
    streams = logs.open(logs.DEMO).streams
    clocks = {name: logs.timing(stream.times) for name, stream in streams.items()}
    rates = {name: round(clock.rate) for name, clock in clocks.items()}
    assert rates == {
        "joint_pos": 500,
        "joint_vel": 500,
        "wrench": 250,
        "ee_pose": 62,
        "gripper": 10,
        "agent_depth": 29,
        "wrist_depth": 15,
    }
    assert {name: clock.duplicates for name, clock in clocks.items() if clock.duplicates} == {
        "wrench": 7
    }
    assert not any(clock.backward_steps for clock in clocks.values())
    assert 305 < clocks["agent_depth"].longest_gap < 306  # the outage
    assert {stream.latency for stream in streams.values() if stream.kind == "depth"} == {0.035}
    assert streams["ee_pose"].rotation == "pos_quat_xyzw"
    assert streams["agent_depth"].attrs["K"].shape == (3, 3)


# --- Real logs


@pytest.fixture(scope="session")
def tilt(logs_dir):
    return logs.open(logs_dir / "ros1_tilt_laser" / "tilt_laser.bag")


def milliseconds(stream):
    return np.diff(stream.times) / 1e6


def test_tilt_laser_has_the_timing_it_is_known_for(tilt, logs_dir):
    imu = tilt.streams["/imu_data"]
    steps = milliseconds(imu)
    assert [round(f(steps), 1) for f in (np.min, np.median, np.max)] == [39.8, 49.9, 60.0]
    twice = {name for name, s in tilt.streams.items() if logs.timing(s.times).duplicates}
    assert twice == {"/temperature", "/velocity"}
    assert {logs.timing(tilt.streams[name].times).duplicates for name in twice} == {356}

    received = logs.open(tilt.path, log_time=True).streams["/imu_data"]
    figures = np.percentile(milliseconds(received), [0, 1, 50, 99, 100])
    np.testing.assert_allclose(figures, [0.2, 0.23, 0.74, 128, 683], rtol=0.02)
    assert round(logs.timing(received.times).longest_gap) == 683


def test_tilt_laser_has_a_stream_for_each_frame_and_topic(tilt):
    assert {"/tf/camera", "/tf/laser", "/tf/tilt_axis"} <= set(tilt.streams)
    assert tilt.streams["/scan"].shape == (178, 7 + 1078)
    assert not tilt.skipped


def test_tilt_laser_and_its_mcap_twin_are_the_same(tilt, logs_dir):
    twin = logs.open(logs_dir / "ros1_tilt_laser" / "tilt_laser_ros2_mcap")
    without_gps = {name: s for name, s in tilt.streams.items() if name != "/info_gps"}
    assert_same_streams(logs.Log(tilt.path, tilt.format, without_gps), twin)


def test_husky_has_the_timing_it_is_known_for(logs_dir):
    streams = logs.open(logs_dir / "ros1_husky_imu_odom_gps" / "husky_test1.bag").streams
    steps = milliseconds(streams["/husky_velocity_controller/odom"])
    median = np.median(steps)
    assert round(median, 2) == 99.08
    assert np.count_nonzero(np.abs(steps / median - 1.1) < 0.05) == 360
    assert np.count_nonzero(np.abs(steps / median - 2.0) < 0.2) == 2
    imu = logs.timing(streams["/imu/data"].times)
    assert round(1e3 / imu.rate, 3) == 33.320
    assert imu.jitter_p99 < 0.001


def test_db3_has_the_timing_it_is_known_for(logs_dir):
    log = logs.open(logs_dir / "ros2_db3_imu_pose_battery" / "rosbag2_test")
    assert {name: stream.shape for name, stream in log.streams.items()} == {
        "/imu": (1565, 37),
        "/pose": (1565, 7),
        "/battery": (1565, 14),
    }
    assert log.skipped == {"/parameter_events": "no messages", "/rosout": "no messages"}
    for stream in log.streams.values():
        clock = logs.timing(stream.times)
        assert round(clock.rate, 1) == 25.0
        assert 0 < clock.jitter_p50 < clock.jitter_p99 < 1
    assert round((stream.times[-1] - stream.times[0]) / 1e9, 1) == 62.6


@pytest.mark.parametrize(
    "name",
    [
        "ros1_tilt_laser/tilt_laser.bag",
        "ros1_tilt_laser/tilt_laser_ros2_mcap/tilt_laser_ros2_mcap.mcap",
        "ros1_husky_imu_odom_gps/husky_test1.bag",
        "ros2_db3_imu_pose_battery/rosbag2_test/rosbag2_test_0.db3",
    ],
)
def test_damage_of_a_real_log_is_an_error(logs_dir, tmp_path, name):
    assert_damage_is_an_error(logs_dir / name, tmp_path, copies=8)


# --- Memory


@pytest.mark.parametrize("kind", KINDS_OF_BAG[:3])
@pytest.mark.parametrize("block", [1, 60, 200])
def test_a_bag_waits_in_a_file(bags, monkeypatch, kind, block):
    """No more of a topic than a block is in memory, and the samples are the same."""
    from robocache_cupy.logs import ros, spool

    whole = logs.open(bags[kind])
    added = []

    def add(self, rows, add=spool.Spool.add):
        added.append(memoryview(rows).nbytes)
        return add(self, rows)

    monkeypatch.setattr(spool.Spool, "add", add)
    monkeypatch.setattr(ros, "_BLOCK", block)
    pieces = logs.open(bags[kind])
    assert added
    assert max(added) <= max(block, 9 * 8)  # a row of a field is never cut
    assert_same_streams(whole, pieces)
    for name, stream in whole.streams.items():
        np.testing.assert_array_equal(pieces.streams[name].read(2, 4), stream.read(2, 4))


def test_a_full_disk_is_one_line(bags, monkeypatch):
    from robocache_cupy.logs import ros, spool

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ros, "_BLOCK", 1)
    monkeypatch.setattr(spool.os, "pwrite", full)
    with pytest.raises(logs.LogError, match=r"No space left on device\): set TMPDIR"):
        logs.open(bags["ROS 1 bag"])


def test_progress_of_a_long_bag(bags, monkeypatch):
    from robocache_cupy.logs import ros

    monkeypatch.setattr(ros, "_MESSAGES", 1)
    seen = []
    logs.open(bags["ROS 1 bag"], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, len(seen)) for i in range(len(seen))]
    assert seen
