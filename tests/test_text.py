"""Text logs: stamps are exact, poses are known as such, and what is no log is said to be none."""

from fractions import Fraction

import numpy as np
import pytest

from robocache_cupy import cli, logs

POSES = "1.25,0,0,0,0,0,0.6,0.8\n1.5,1,0,0,0,0,0.6,0.8\n"


def write(tmp_path, text):
    path = tmp_path / "run.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def only(path):
    log = logs.open(path)
    assert log.format == "text"
    (stream,) = log.streams.values()
    assert stream.name == path.stem
    return stream


@pytest.mark.parametrize(
    ("stamp", "ns"),
    [
        ("1487321563.1803279", 1487321563180327900),
        ("1487321563.123456789", 1487321563123456789),
        ("1487321563.1234567885", 1487321563123456788),  # half to even
        ("1487321563.1234567895", 1487321563123456790),
        ("1.487321563123456789e9", 1487321563123456789),
        ("-0.000000001", -1),
        ("9223372036.854775807", 2**63 - 1),
    ],
)
def test_seconds_are_exact(tmp_path, stamp, ns):
    stream = only(write(tmp_path, f"{stamp} 1\n9223372036.5 2\n"))
    np.testing.assert_array_equal(stream.times, [ns, 9223372036500000000], strict=True)


@pytest.mark.parametrize(
    ("header", "stamps", "ns"),
    [
        ("", "1520531467575275014 1520531467583608014", [1520531467575275014, 1520531467583608014]),
        ("#timestamp [ns], x\n", "5 6", [5, 6]),
        ("time (us),x\n", "5 6.5", [5000, 6500]),
        ("t [ms],x\n", "5 6", [5_000_000, 6_000_000]),
        ("t[s],x\n", "5 6", [5_000_000_000, 6_000_000_000]),
        ("t,x\n", "5 6.0", [5_000_000_000, 6_000_000_000]),
    ],
)
def test_the_unit_of_the_stamps(tmp_path, header, stamps, ns):
    lines = "".join(f"{stamp},1\n" for stamp in stamps.split())
    np.testing.assert_array_equal(only(write(tmp_path, header + lines)).times, ns)


@pytest.mark.parametrize(
    "text",
    [
        POSES,
        POSES.replace(",", ", "),
        POSES.replace(",", ";"),
        POSES.replace(",", " "),
        POSES.replace(",", "\t"),
        POSES.replace("\n", "\r\n"),
        "\ufeff" + POSES,
        "# a comment, with a comma\n\n% another\n" + POSES,
        "t,x,y,z,qx,qy,qz,qw\n" + POSES,
    ],
)
def test_every_way_to_write_a_pose(tmp_path, text):
    stream = only(write(tmp_path, text))
    assert (stream.kind, stream.dtype) == ("pose_xyz_quat_xyzw", np.float64)
    np.testing.assert_array_equal(stream.times, [1_250_000_000, 1_500_000_000])
    assert stream.rotation == "pos_quat_xyzw"
    expected = [[0, 0, 0, 0, 0, 0.6, 0.8], [1, 0, 0, 0, 0, 0.6, 0.8]]
    np.testing.assert_array_equal(stream.values, expected)


@pytest.mark.parametrize(
    ("names", "rotation"),
    [
        ("x y qx qy qz qw v", {"2:6": "quat_xyzw"}),
        ("x y q_RS_w q_RS_x q_RS_y q_RS_z v", {"2:6": "quat_wxyz"}),
        ("x y qx qy qz qr v", None),
        ("x y ax by cz dw v", None),
    ],
)
def test_quaternions_are_known_by_the_names_of_their_columns(tmp_path, names, rotation):
    header = f"t {names}\n".replace(" ", ",")
    stream = only(write(tmp_path, header + "0.5,1,2,0,0,0.6,0.8,3\n1.5,1,2,0,0,-0.6,0.8,3\n"))
    assert (stream.kind, stream.rotation) == ("vector", rotation)
    wrong = only(write(tmp_path, header + "0.5,1,2,0,0,0.6,0.9,3\n"))
    assert wrong.rotation is None


def test_names_and_missing_cells(tmp_path):
    stream = only(write(tmp_path, "stamp,force [N],torque\n0.0,1,2\n0.1,,3\n"))
    assert (stream.kind, stream.fields) == ("vector", ("force", "torque"))
    np.testing.assert_array_equal(stream.values, [[1, 2], [np.nan, 3]])


def test_a_last_line_without_its_end_is_left_out(tmp_path):
    log = logs.open(write(tmp_path, "0.0,1\n0.5,2\n1.0,3"))
    assert len(log.streams["run"]) == 2
    assert "ends in the middle of a line" in log.notes[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("# only a comment\n", "is none of HDF5.*nor text with a stamp and numbers"),
        ("some prose\nof two lines\n", "is none of HDF5"),
        ("0.0,1\n0.5,2,3\n", "line 2 has 3 columns, expected 2 numbers"),
        ("0.0,1\n0.5,x\n", "line 2 has what is no number"),
        ("0.0,1\n0.5,1_0\n", "line 2 has what is no number"),
        ("0.0,1,2\n0.5,1", "line 2 has 2 columns, expected 3 numbers, and there it ends"),
        ("0.0,1\nnan,2\n", "stamp 2 is 'nan', expected a time"),
        ("0.0,1\n1e99,2\n", "stamp 2 is '1e99', expected a time"),
        ("0.0,1\n9223372036.854775808,2\n", "expected a time"),
        (b"0.0,1\n0.5,\xff\n", "line 2 has bytes that are no text"),
        ("0.5,1", "no samples"),
        ("1 2 3 0 0 0 1\n1 2 3 0 0 0 1\n", "poses without stamps"),
    ],
)
def test_what_is_no_log_is_said_to_be_none(tmp_path, capsys, text, said):
    path = write(tmp_path, text)
    with pytest.raises(logs.LogError, match=said) as error:
        logs.open(path)
    assert str(path) in str(error.value)
    assert cli.main(["align", str(path), "-o", str(tmp_path / "out.npz")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


# --- Real logs

ARM_CAMERA = "csv_arm_camera_clock_offset"
REAL = [
    f"{ARM_CAMERA}/arm_base_link_sr300_hinge.csv",
    f"{ARM_CAMERA}/arm_target_ir.csv",
    f"{ARM_CAMERA}/vicon_prime_sense_2.csv",
    f"{ARM_CAMERA}/camera_prime_sense_2.csv",
    "euroc_csv_tumvi_room5/mav0/mocap0/data.csv",
    "tum_rgbd_fr1_xyz/groundtruth.txt",
]


def lines_of(path):
    """Cells of the lines with data, independently of the reader."""
    lines = [line for line in path.read_text().splitlines() if line and line[0] != "#"]
    return [line.replace(",", " ").split() for line in lines]


@pytest.mark.parametrize("name", REAL)
def test_a_real_log(logs_dir, name):
    cells = lines_of(logs_dir / name)
    stream = only(logs_dir / name)
    assert (stream.kind, stream.rotation) == ("pose_xyz_quat_xyzw", "pos_quat_xyzw")
    scale = 1 if "euroc" in name else 10**9
    expected = [round(Fraction(row[0]) * scale) for row in cells]
    np.testing.assert_array_equal(stream.times, expected)
    values = np.array([[float(x) for x in row[1:]] for row in cells])
    if "euroc" in name:
        values = values[:, [0, 1, 2, 4, 5, 6, 3]]
        assert stream.fields[3:] == ("q_RS_x", "q_RS_y", "q_RS_z", "q_RS_w")
    np.testing.assert_array_equal(stream.values, values, strict=True)


def test_real_logs_have_the_timing_they_are_known_for(logs_dir):
    rates = {name: logs.timing(only(logs_dir / name).times) for name in REAL}
    assert [round(clock.rate) for clock in rates.values()] == [50, 30, 100, 30, 120, 100]
    camera = only(logs_dir / REAL[3]).times
    frames = (camera[-1] - camera[0]) / 1e9 * 29.84 + 1
    assert round(len(camera) / frames, 2) == 0.86  # the others are missing


@pytest.mark.parametrize("name", ["Plaza2_DR.txt", "Plaza2_TD.txt"])
def test_stamps_in_scientific_notation(logs_dir, name):
    stream = only(logs_dir / "uwb_plaza2" / name)
    expected = [round(Fraction(row[0]) * 10**9) for row in lines_of(logs_dir / "uwb_plaza2" / name)]
    np.testing.assert_array_equal(stream.times, expected)
    assert stream.kind == "vector"


@pytest.mark.parametrize(
    "name", ["tum_rgbd_fr1_xyz/associations.txt", "tartanair_pose/pose_left.txt"]
)
def test_files_that_are_no_logs(logs_dir, name):
    with pytest.raises(logs.LogError, match=r"none of HDF5|without stamps"):
        logs.open(logs_dir / name)


@pytest.mark.parametrize("name", REAL)
def test_damage_of_a_real_log(logs_dir, tmp_path, name):
    """Text has no checksum: what is cut in a line is an error, or that line is left out."""
    path, whole = logs_dir / name, only(logs_dir / name)
    cut = tmp_path / path.name
    content = path.read_bytes()
    chance = np.random.default_rng(0)
    for length in chance.integers(0, len(content), 6):
        cut.write_bytes(content[:length])
        try:
            stream = only(cut)
        except logs.LogError:
            continue
        np.testing.assert_array_equal(stream.times, whole.times[: len(stream)])
        np.testing.assert_array_equal(stream.values, whole.values[: len(stream)])
    for place in chance.integers(0, len(content), 6):
        cut.write_bytes(content[:place] + bytes([content[place] ^ 0x80]) + content[place + 1 :])
        if content[:place].rpartition(b"\n")[2][:1] == b"#" or content[place : place + 1] == b"#":
            continue
        with pytest.raises(logs.LogError):
            only(cut)
    cut.write_bytes(b"")
    with pytest.raises(logs.LogError, match="is empty"):
        only(cut)


def test_an_arm_and_a_camera_on_one_clock(logs_dir, tmp_path):
    """Two files are two streams, and the camera's losses show in its mask."""
    from test_align import assert_rotated, expected_linear

    names = REAL[2:4]
    output = tmp_path / "aligned.npz"
    arguments = [*(str(logs_dir / name) for name in names), "--max-gap", "0.06", "-o", str(output)]
    assert cli.main(["align", *arguments, "--hz", "50"]) == 0
    streams = [only(logs_dir / name) for name in names]
    with np.load(output) as arrays:
        assert set(arrays) >= {stream.name for stream in streams}
        for stream in streams:
            times = stream.times
            keep = np.append(times[1:] != times[:-1], True)
            times, values = times[keep], stream.values[keep]
            wanted = arrays["times"]
            assert_rotated(arrays[stream.name][:, 3:], times, values[:, 3:], wanted)
            linear = expected_linear(times, values[:, :3], wanted)
            np.testing.assert_allclose(arrays[stream.name][:, :3], linear, rtol=0, atol=1e-12)
            behind = np.searchsorted(times, wanted, "right")
            gap = times[np.minimum(behind, len(times) - 1)] - times[behind - 1]
            valid = (times[behind - 1] == wanted) | (gap <= 60_000_000)
            np.testing.assert_array_equal(arrays[f"{stream.name}/valid"], valid)
        assert 0.5 < arrays[f"{streams[1].name}/valid"].mean() < 0.95
