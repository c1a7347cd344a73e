"""Every way to write a cloud is read, and what is no cloud is refused in one line."""

import io
import itertools
import json
import random
import tracemalloc

import h5py
import numpy as np
import pytest
from cloud_files import lzf_compress, pcd, ply
from hypothesis import given
from hypothesis import strategies as st
from log_files import write_hdf5

from robocache_cupy import logs
from robocache_cupy.logs import LogError
from robocache_cupy.logs.cloud import read_cloud
from robocache_cupy.logs.depth import depth_streams
from robocache_cupy.logs.pcd import lzf_decompress

LIDAR = "pcd_lidar_and_kinect/lidar.pcd"
KINECT = "pcd_lidar_and_kinect/table_scene_mug_stereo_textured.pcd"
KITTI = "nc_kitti_nuscenes/kitti/velodyne/000008.bin"
NUSCENES = (
    "nc_kitti_nuscenes/nuscenes/samples/LIDAR_TOP/"
    "n015-2018-07-24-11-22-45+0800__LIDAR_TOP__1532402927647951.pcd.bin"
)
ROBOMIMIC = "hdf5_robosuite_lift/lift_depth84_demo3_robomimic.hdf5"

XYZ = np.array([[1, 2, 3], [-4.5, np.nan, 0], [np.inf, 1e-30, -1e30], [0.1, 0.2, 0.3]], np.float32)
INTENSITY = np.array([0.25, 1, 0, 7], np.float32)
RING = np.array([3, 0, 65535, 1], np.uint16)
TICKS = np.array([-1, 2**31 - 1, 0, 5], np.int32)
SHAPE = np.arange(12, dtype=np.float32).reshape(4, 3)


def axes(points):
    return [("x", points[:, 0]), ("y", points[:, 1]), ("z", points[:, 2])]


def read(tmp_path, name, content, **options):
    path = tmp_path / name
    path.write_bytes(content)
    return read_cloud(path, **options)


def assert_cloud(cloud, points, source, organized=None, **columns):
    np.testing.assert_array_equal(cloud.points, points, strict=True)
    assert (cloud.source, cloud.organized) == (source, organized)
    assert list(cloud.columns) == list(columns)
    for name, values in columns.items():
        np.testing.assert_array_equal(cloud.columns[name], values, strict=True)


# --- PCD

PCD_KINDS = ["ascii", "binary", "binary_compressed"]


@pytest.mark.parametrize("data", PCD_KINDS)
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4, 5, 6], [6, 3, 2, 5, 0, 4, 1]])
def test_pcd_of_fields_in_any_order(tmp_path, data, order):
    more = [("intensity", INTENSITY), ("ring", RING), ("tick", TICKS), ("shape", SHAPE)]
    fields = [(axes(XYZ) + more)[i] for i in order]
    columns = {name: values for name, values in fields if name not in "xyz"}
    cloud = read(tmp_path, "a.pcd", pcd(fields, data))
    assert_cloud(cloud, XYZ, f"PCD ({data})", **columns)


@pytest.mark.parametrize("data", PCD_KINDS)
def test_pcd_that_is_organized(tmp_path, data):
    cloud = read(tmp_path, "a.pcd", pcd(axes(XYZ), data, height=2))
    assert_cloud(cloud, XYZ, f"PCD ({data})", organized=(2, 2))


@pytest.mark.parametrize("data", PCD_KINDS)
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_pcd_of_every_type(tmp_path, data, dtype):
    low, high = (np.iinfo if dtype[0] != "f" else np.finfo)(dtype).min, 100
    values = np.array([low, high, 0, 1], dtype)
    cloud = read(tmp_path, "a.pcd", pcd([("a", values), *axes(XYZ)], data))
    assert_cloud(cloud, XYZ, f"PCD ({data})", a=values)


@pytest.mark.parametrize("data", PCD_KINDS)
def test_pcd_has_doubles_where_they_are_needed(tmp_path, data):
    wide = XYZ.astype(np.float64)
    assert_cloud(read(tmp_path, "a.pcd", pcd(axes(wide), data)), XYZ, f"PCD ({data})")
    wide[3, 0] = 500_000.0123
    assert_cloud(read(tmp_path, "a.pcd", pcd(axes(wide), data)), wide, f"PCD ({data})")
    wide[3, 0] = 1e300
    assert_cloud(read(tmp_path, "a.pcd", pcd(axes(wide), data)), wide, f"PCD ({data})")


@pytest.mark.parametrize("data", PCD_KINDS)
@pytest.mark.parametrize("name", ["rgb", "rgba"])
@pytest.mark.parametrize("dtype", [np.uint32, np.float32])
def test_pcd_has_colours_in_one_field(tmp_path, data, name, dtype):
    packed = np.array([0x3F102030, 0x00FF00FF, 0, 0x40FFFFFF], np.uint32)
    cloud = read(tmp_path, "a.pcd", pcd([*axes(XYZ), (name, packed.view(dtype))], data))
    colours = {"red": [16, 255, 0, 255], "green": [32, 0, 0, 255], "blue": [48, 255, 0, 255]}
    if name == "rgba":
        colours["alpha"] = [63, 0, 0, 64]
    assert list(cloud.columns) == list(colours)
    for colour, values in colours.items():
        np.testing.assert_array_equal(
            cloud.columns[colour], np.array(values, np.uint8), strict=True
        )


def test_pcd_with_padding_and_without_what_may_be_missing(tmp_path):
    padding = np.zeros((4, 5), np.uint8)
    fields = [("_", padding), *axes(XYZ), ("_", padding)]
    assert_cloud(read(tmp_path, "a.pcd", pcd(fields, "binary")), XYZ, "PCD (binary)")
    short = pcd(axes(XYZ), "ascii", drop=("VERSION", "COUNT", "HEIGHT", "VIEWPOINT", "POINTS"))
    assert_cloud(read(tmp_path, "a.pcd", short), XYZ, "PCD (ascii)")
    short = pcd(axes(XYZ), "binary", newline=b"\r\n", drop=("WIDTH",))
    assert_cloud(read(tmp_path, "b.bin", short), XYZ, "PCD (binary)")  # known by its content


@pytest.mark.parametrize("data", PCD_KINDS)
def test_pcd_may_end_in_a_page_of_zeros(tmp_path, data):
    content = pcd(axes(XYZ), data)
    end = b"\n\n" if data == "ascii" else bytes(4000)
    assert_cloud(read(tmp_path, "a.pcd", content + end), XYZ, f"PCD ({data})")
    end = b"1 2 3\n" if data == "ascii" else bytes(4000) + b"\1"
    with pytest.raises(LogError, match="goes on after the 4 points"):
        read(tmp_path, "a.pcd", content + end)


def naive_lzf(data):
    """liblzf's lzf_d.c, byte by byte."""
    out, at = [], 0
    while at < len(data):
        control, at = data[at], at + 1
        if control < 32:
            out += data[at : at + control + 1]
            at += control + 1
        else:
            length = control >> 5
            if length == 7:
                length, at = length + data[at], at + 1
            start, at = len(out) - ((control & 31) << 8) - data[at] - 1, at + 1
            for i in range(length + 2):
                out.append(out[start + i])
    return bytes(out)


repetitive = st.lists(
    st.tuples(st.binary(min_size=1, max_size=40), st.integers(1, 300)), max_size=12
).map(lambda parts: b"".join(part * times for part, times in parts))


@given(st.one_of(st.binary(max_size=300), repetitive))
def test_lzf_round_trip(data):
    packed = lzf_compress(data)
    assert lzf_decompress(packed, len(data)) == naive_lzf(packed) == data
    for size in {0, len(data) - 1, len(data) + 1} - {len(data), -1}:
        with pytest.raises(ValueError, match="LZF"):
            lzf_decompress(packed, size)


@given(st.binary(max_size=60), st.integers(0, 200))
def test_lzf_of_anything(data, size):
    try:
        plain = lzf_decompress(data, size)
    except ValueError:
        return
    assert plain == naive_lzf(data)
    assert len(plain) == size


def test_lzf_of_copies_at_every_distance_and_length():
    head = bytes(range(256)) * 33
    for distance, length in itertools.product([1, 2, 3, 255, 256, 257, 8191, 8192], [3, 8, 9, 264]):
        more = [length - 9] if length >= 9 else []
        copy = bytes([min(length - 2, 7) << 5 | distance - 1 >> 8, *more, distance - 1 & 255])
        data = lzf_compress(head) + copy
        plain = lzf_decompress(data, len(head) + length)
        assert plain[len(head) :] == (head[-distance:] * length)[:length]
        assert plain == naive_lzf(data)


# --- PLY

PLY_SYNONYMS = {
    "char": "int8", "short": "int16", "int": "int32", "float": "float32",
    "uchar": "uint8", "ushort": "uint16", "uint": "uint32", "double": "float64",
}  # fmt: skip
PLY_FORMS = ["ascii", "binary_little_endian", "binary_big_endian"]
TRIANGLES = [np.array([0, 1, 2], np.int32), np.array([], np.int32), np.array([3, 1], np.int32)]
FACES = ("face", [("flag", np.array([1, 2, 3], np.uint8)), ("vertex_indices", TRIANGLES),
                  ("area", np.ones(3))])  # fmt: skip
CAMERA = ("camera", [("view", np.array([0.5, 1.5])), ("id", np.array([7, 8], np.int16))])


@pytest.mark.parametrize("form", PLY_FORMS)
@pytest.mark.parametrize(
    ("before", "after"), [([], []), ([CAMERA], [FACES]), ([FACES, CAMERA], []), ([FACES], [CAMERA])]
)
def test_ply_with_vertices_anywhere(tmp_path, form, before, after):
    columns = [("red", RING.astype(np.uint8)), *axes(XYZ)[::-1], ("tick", TICKS)]
    content = ply([*before, ("vertex", columns), *after], form)
    cloud = read(tmp_path, "a.ply", content)
    assert_cloud(cloud, XYZ, f"PLY ({form})", red=RING.astype(np.uint8), tick=TICKS)


@pytest.mark.parametrize("form", PLY_FORMS)
@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "f8"])
def test_ply_of_every_type(tmp_path, form, dtype):
    values = np.array([100, 3, 0, 1], dtype)
    vertex = ("vertex", [*axes(XYZ), ("a", values)])
    content = ply([vertex], form)
    assert_cloud(read(tmp_path, "a.ply", content), XYZ, f"PLY ({form})", a=values)
    lists = ("more", [("values", [values, values[:1]])])
    content = ply([lists, vertex], form)
    for old, new in PLY_SYNONYMS.items():
        content = content.replace(f" {old} ".encode(), f" {new} ".encode())
    assert_cloud(read(tmp_path, "a.ply", content), XYZ, f"PLY ({form})", a=values)


@pytest.mark.parametrize("form", PLY_FORMS)
def test_ply_has_doubles_where_they_are_needed(tmp_path, form):
    wide = XYZ.astype(np.float64)
    content = ply([("vertex", axes(wide))], form)
    assert_cloud(read(tmp_path, "a.ply", content), XYZ, f"PLY ({form})")
    wide[0, 1] += 1e-12
    content = ply([("vertex", axes(wide))], form)
    assert_cloud(read(tmp_path, "a.ply", content), wide, f"PLY ({form})")


# --- .bin

KITTI_POINTS = np.array([[1, 2, -3, 0.5], [-4, np.nan, 6, 0], [7, 8, 9, 1]], np.float32)
NUSCENES_POINTS = np.c_[KITTI_POINTS * [1, 1, 1, 255], [0, 31, 2]].astype(np.float32)


@pytest.mark.parametrize("name", ["a.bin", "a.pcd.bin", "A.PCD.BIN"])
@pytest.mark.parametrize("repeats", [1, 20])  # with 20, both sizes fit
def test_bin_of_kitti_and_nuscenes(tmp_path, name, repeats):
    points = np.tile(KITTI_POINTS, (repeats, 1))
    cloud = read(tmp_path, name, points.astype("<f4").tobytes())
    assert_cloud(cloud, points[:, :3], "KITTI .bin", intensity=points[:, 3])
    points = np.tile(NUSCENES_POINTS, (repeats, 1))
    cloud = read(tmp_path, name, points.astype("<f4").tobytes())
    assert_cloud(
        cloud, points[:, :3], "nuScenes .pcd.bin", intensity=points[:, 3], ring=points[:, 4]
    )


def test_bin_that_could_be_either_goes_by_its_name(tmp_path):
    content = np.ones(40, "<f4").tobytes()
    assert read(tmp_path, "a.bin", content).source == "KITTI .bin"
    assert read(tmp_path, "a.pcd.bin", content).source == "nuScenes .pcd.bin"
    content = np.full(40, 1.5, "<f4").tobytes()  # rings are whole
    assert read(tmp_path, "a.pcd.bin", content).source == "KITTI .bin"


def test_bin_with_columns(tmp_path):
    table = np.arange(24, dtype="<f4").reshape(4, 6) * -1e9
    names = ["_", "z", "time", "y", "x", "ring"]
    cloud = read(tmp_path, "a.bin", table.tobytes(), columns=names)
    expected = table[:, [4, 3, 1]]
    assert_cloud(cloud, expected, ".bin of 6 columns", time=table[:, 2], ring=table[:, 5])
    with pytest.raises(LogError, match="96 bytes, which are no points of 5 float32"):
        read(tmp_path, "a.bin", table.tobytes(), columns=[*"xyz", "intensity", "ring"])


# --- NumPy


def saved(array, **others):
    file = io.BytesIO()
    if others:
        np.savez_compressed(file, **({} if array is None else {"points": array}), **others)
    else:
        np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("dtype", "out"),
    [("f2", "f4"), ("f4", "f4"), (">f4", "f4"), ("f8", "f4"), ("u1", "f4"), ("i2", "f4"),
     (">i8", "f4")],
)  # fmt: skip
@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("archive", [False, True])
def test_numpy_rows(tmp_path, dtype, out, order, archive):
    table = np.arange(20, dtype=dtype).reshape(4, 5, order=order)
    content = saved(None, anything=table) if archive else saved(table)
    native = table.astype(table.dtype.newbyteorder("="))
    cloud = read(tmp_path, "a.npz" if archive else "a.npy", content)
    source = ".npz" if archive else ".npy"
    more = {"column_4": native[:, 3], "column_5": native[:, 4]}
    assert_cloud(cloud, table[:, :3].astype(out), source, **more)
    cloud = read(tmp_path, "renamed", content, columns=["a", "z", "y", "x", "_"])
    assert_cloud(cloud, table[:, [3, 2, 1]].astype(out), source, a=native[:, 0])


def test_numpy_doubles_where_they_are_needed(tmp_path):
    wide = np.array([[2**24 + 1, 0, 0]], np.int64)
    assert_cloud(read(tmp_path, "a.npy", saved(wide)), wide.astype(np.float64), ".npy")


def test_numpy_structured(tmp_path):
    rows = np.zeros(
        (2, 2), [("ring", ">u2"), ("y", "f8"), ("x", "f4"), ("z", "f4"), ("n", "f4", 3)]
    )
    for i, name in enumerate("xyz"):
        rows[name] = XYZ[:, i].reshape(2, 2)
    rows["ring"], rows["n"] = RING.reshape(2, 2), SHAPE.reshape(2, 2, 3)
    cloud = read(tmp_path, "a.npy", saved(rows))
    assert_cloud(cloud, XYZ, ".npy", organized=(2, 2), ring=RING, n=SHAPE)
    cloud = read(tmp_path, "a.npz", saved(rows.reshape(-1), extra=TICKS))
    assert_cloud(cloud, XYZ, ".npz", ring=RING, n=SHAPE, extra=TICKS)


def test_npz_with_an_array_for_each_field(tmp_path):
    fields = dict(axes(XYZ))
    content = saved(None, **fields, ring=RING, other=np.ones(3), text=np.array(["a", None] * 2))
    assert_cloud(read(tmp_path, "a.npz", content), XYZ, ".npz", ring=RING)
    content = saved(XYZ, shape=SHAPE, camera=np.eye(3))
    assert_cloud(read(tmp_path, "a.npz", content), XYZ, ".npz", shape=SHAPE)


# --- Text

NUMBERS = "1,2,3,0.5\n4,5,6,nan\n-7e1,0.1,9,1\n"
TEXT_POINTS = np.array([[1, 2, 3], [4, 5, 6], [-70, 0.1, 9]], np.float32)
FOURTH = np.array([0.5, np.nan, 1])


@pytest.mark.parametrize("suffix", [".csv", ".txt", ".xyz", ".XYZ"])
@pytest.mark.parametrize(
    ("text", "name"),
    [
        (NUMBERS, "column_4"),
        (NUMBERS.replace(",", ", "), "column_4"),
        (NUMBERS.replace(",", ";"), "column_4"),
        (NUMBERS.replace(",", " "), "column_4"),
        (NUMBERS.replace(",", "\t").replace("\n", "\r\n"), "column_4"),
        (NUMBERS.replace("\n4", "\n\n# 4 points\n4").rstrip(), "column_4"),
        ("# a tool of mine\n" + NUMBERS, "column_4"),
        ("x,y,z,intensity\n" + NUMBERS, "intensity"),
        ('\ufeffX [m],Y [m],Z [m],"I"\n' + NUMBERS, "I"),
        ("//X Y Z Scalar\n" + NUMBERS.replace(",", " "), "Scalar"),
        ("# made by hand\n# x, y, z, i\n" + NUMBERS, "i"),
    ],
)
def test_text(tmp_path, suffix, text, name):
    cloud = read(tmp_path, "a" + suffix, text.encode())
    assert_cloud(cloud, TEXT_POINTS, "text", **{name: FOURTH})


def test_text_with_columns(tmp_path):
    for head in ("", "x,y,z,intensity\n", "a,b,b,c\n"):
        cloud = read(tmp_path, "a.txt", (head + NUMBERS).encode(), columns=[*"zyx", "_"])
        assert_cloud(cloud, TEXT_POINTS[:, ::-1], "text")


def test_text_has_doubles_where_they_are_needed(tmp_path):
    cloud = read(tmp_path, "a.xyz", b"0.1 80.123456789 1000.001\n")
    assert_cloud(cloud, np.array([[0.1, 80.123456789, 1000.001]], np.float32), "text")
    cloud = read(tmp_path, "a.xyz", b"0.1 80.123456789 500000.012\n")
    assert_cloud(cloud, np.array([[0.1, 80.123456789, 500000.012]]), "text")


# --- What is no cloud

ONE = np.ones((1, 3), np.float32)
XY = [("x", INTENSITY), ("y", INTENSITY)]
HUGE = 10**17


def npy_header(shape, descr="<f4"):
    head = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\1\0" + len(head).to_bytes(2, "little") + head


def zipped(name, content):
    import zipfile

    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file.getvalue()


def pcd_lying_of_its_size(points):
    head, data = pcd(axes(XYZ), "binary_compressed", WIDTH=points, POINTS=points).split(b"ssed\n")
    return head + b"ssed\n" + data[:4] + (points * 12).to_bytes(4, "little") + data[8:]


def vertex(text, form="ascii"):
    return f"ply\nformat {form} 1.0\n{text}end_header\n".encode()


VERTEX = "element vertex {}\nproperty float x\nproperty float y\nproperty float z\n"
LIST = "element face {}\nproperty list char int vertex_indices\n"

BAD = {
    "empty": ("a.pcd", b"", "is empty"),
    "unknown": ("a.las", b"LASF", "its name does not end in"),
    "a log": ("a.bin", b"\x89HDF\r\n\x1a\n", "is a log and no cloud"),
    "pcd of another kind": ("a.pcd", b"hello", "does not begin as a PCD does"),
    "ply of another kind": ("a.ply", b"plymouth", "does not begin as a PLY does"),
    "npy of another kind": ("a.npy", b"1 2 3", "does not begin as a NumPy file"),
    "npz of another kind": ("a.npz", b"1 2 3", "does not begin as a NumPy archive"),
    "pcd without z": ("a.pcd", pcd(XY, "binary"), "has no z, only x, y"),
    "pcd without points": (
        "a.pcd", pcd(axes(ONE[:0]), "binary"), "has no points"),
    "pcd without DATA": ("a.pcd", pcd(axes(XYZ), "ascii").split(b"DATA")[0], "has no DATA"),
    "pcd without end": ("a.pcd", b"# .PCD" + b"\n# and" * 5000, "header has no end"),
    "pcd without FIELDS": ("a.pcd", pcd(axes(XYZ), "ascii", drop=["FIELDS"]), "has 0 FIELDS"),
    "pcd without SIZE": (
        "a.pcd", pcd(axes(XYZ), "ascii", drop=["SIZE"]), "SIZE has 0 values for the 3"),
    "pcd without WIDTH": (
        "a.pcd", pcd(axes(XYZ), "ascii", drop=["WIDTH", "POINTS"]), "no WIDTH and no POINTS"),
    "pcd of negative WIDTH": ("a.pcd", pcd(axes(XYZ), "ascii", WIDTH=-4), "WIDTH is '-4'"),
    "pcd of two WIDTHs": ("a.pcd", pcd(axes(XYZ), "ascii", WIDTH="2 2"), "WIDTH has 2 values"),
    "pcd of endless WIDTH": ("a.pcd", pcd(axes(XYZ), "ascii", WIDTH="9" * 5000), "WIDTH is '99"),
    "pcd of other POINTS": (
        "a.pcd", pcd(axes(XYZ), "binary", POINTS=3), "POINTS is 3, but WIDTH x HEIGHT is 4 x 1"),
    "pcd of negative COUNT": ("a.pcd", pcd(axes(XYZ), "binary", COUNT="1 -1 1"), "COUNT is '-1'"),
    "pcd of COUNT 0": ("a.pcd", pcd(axes(XYZ), "binary", COUNT="1 1 0"), "'z' has COUNT 0"),
    "pcd of huge COUNT": (
        "a.pcd", pcd(axes(XYZ), "binary", COUNT=f"1 1 {HUGE}"), "a point of it has"),
    "pcd of three x": ("a.pcd", pcd(axes(XYZ), "binary", COUNT="3 1 1"), "truncated"),
    "pcd of odd SIZE": ("a.pcd", pcd(axes(XYZ), "binary", SIZE="4 4 3"), "SIZE 3, expected"),
    "pcd of odd TYPE": ("a.pcd", pcd(axes(XYZ), "binary", TYPE="F Q F"), "TYPE 'Q'"),
    "pcd of odd DATA": ("a.pcd", pcd(axes(XYZ), "binary", DATA="zip"), "DATA is 'zip'"),
    "pcd of odd word": ("a.pcd", b"VERSION 0.7\nFILEDS x\n", "line 2 of its PCD header"),
    "pcd with x twice": (
        "a.pcd", pcd([*axes(XYZ), ("x", TICKS)], "binary"), "two fields called 'x'"),
    "pcd of too many points": (
        "a.pcd", pcd(axes(XYZ), "binary", WIDTH=HUGE, POINTS=HUGE), "header wrong"),
    "ascii pcd of too many points": (
        "a.pcd", pcd(axes(XYZ), "ascii", WIDTH=HUGE, POINTS=HUGE), "and has 4: copy it again"),
    "compressed pcd of too many points": (
        "a.pcd", pcd(axes(XYZ), "binary_compressed", WIDTH=HUGE, POINTS=HUGE), "48 bytes, but"),
    "compressed pcd that unpacks to less": (
        "a.pcd", pcd_lying_of_its_size(10**8), "do not give the 1200000000 bytes"),
    "compressed pcd that unpacks to more": (
        "a.pcd", pcd_lying_of_its_size(1), "do not give the 12 bytes"),
    "compressed pcd that goes back too far": (
        "a.pcd", pcd(axes(ONE), "binary_compressed", b"\x20\x20"), "point before their beginning"),
    "compressed pcd that unpacks to far more": (
        "a.pcd", pcd(axes(ONE), "binary_compressed", b"\0a" + b"\xe0\xff\0" * 200_000),
        "do not give the 12 bytes"),
    "compressed pcd that ends in a copy": (
        "a.pcd", pcd(axes(ONE), "binary_compressed", b"\0a\x20"), "LZF data end too early"),
    "pcd that is text": (
        "a.pcd", pcd(axes(XYZ), "ascii").replace(b"DATA ascii", b"DATA binary"), "goes on after"),
    "pcd that is binary": (
        "a.pcd", pcd(axes(XYZ), "binary").replace(b"DATA binary", b"DATA ascii"), "line 12 is"),
    "pcd with words": (
        "a.pcd", pcd(axes(XYZ), "ascii").replace(b"0.2", b"x"), "line 15 is .*expected 3 numbers"),
    "pcd with a number less": (
        "a.pcd", pcd(axes(XYZ), "ascii").replace(b" nan", b""), "line 13 is '-4.5 0.0'"),
    "pcd with a number too large": (
        "a.pcd", pcd([*axes(XYZ), ("r", RING)], "ascii").replace(b"65535", b"65536"), "line 14"),
    "pcd with columns asked": ("a.pcd", pcd(axes(XYZ), "ascii"), "names its columns itself",
                               [*"xyz"]),
    "ply without vertices": ("a.ply", vertex("element face 0\n"), "no element vertex, only face"),
    "ply without elements": ("a.ply", vertex(""), "no element vertex, only nothing"),
    "ply without properties": ("a.ply", vertex("element vertex 3\n"), "have no properties"),
    "ply without points": ("a.ply", vertex(VERTEX.format(0)), "has no points"),
    "ply without z": (
        "a.ply", vertex(VERTEX.format(1).replace(" z", " w")) + b"1 2 3\n", "has no z, only x, y"),
    "ply without end": ("a.ply", b"ply\nformat ascii 1.0\n", "has no end_header"),
    "ply without any end": ("a.ply", b"ply\n" + b"comment\n" * 20000, "header has no end"),
    "ply without format": (
        "a.ply", vertex(VERTEX.format(1)).replace(b"format ascii 1.0\n", b""), "has no format"),
    "ply of odd format": ("a.ply", vertex(VERTEX.format(1), "zip"), "line 2 of its PLY header"),
    "ply of odd type": (
        "a.ply", vertex(VERTEX.format(1).replace("float y", "half y")), "line 5 of its PLY"),
    "ply of lists of odd lengths": (
        "a.ply", vertex("element a 1\nproperty list float int b\n"), "line 4 of its PLY header"),
    "ply with a property first": ("a.ply", vertex("property float x\n"), "line 3 of its PLY"),
    "ply of negative count": ("a.ply", vertex(VERTEX.format(-1)), "number of 'vertex' is '-1'"),
    "ply with x twice": (
        "a.ply", vertex(VERTEX.format(1) + "property int x\n"), "two properties 'x'"),
    "ply with vertices twice": (
        "a.ply", vertex(VERTEX.format(1) * 2), "two elements 'vertex'"),
    "ply of vertices with lists": (
        "a.ply", vertex(VERTEX.format(1) + "property list uchar int n\n"), "have the list n"),
    "ply of too many points": (
        "a.ply", vertex(VERTEX.format(HUGE), "binary_little_endian") + bytes(60), "header wrong"),
    "ascii ply of too many points": (
        "a.ply", vertex(VERTEX.format(HUGE)) + b"1 2 3\n" * 4, "and has 4: copy it again"),
    "ply of too many others": (
        "a.ply", vertex(VERTEX.format(HUGE).replace("vertex", "other") + VERTEX.format(1),
                        "binary_big_endian") + bytes(60), "header wrong"),
    "ascii ply of too many others": (
        "a.ply", vertex(VERTEX.format(HUGE).replace("vertex", "other") + VERTEX.format(1)) +
        b"1 2 3\n", "and has 0: copy it again"),
    "ply of too many lists": (
        "a.ply", vertex(LIST.format(HUGE) + VERTEX.format(1), "binary_little_endian") + bytes(60),
        "truncated in its 'face'"),
    "ply of a list that is too long": (
        "a.ply", vertex(LIST.format(1) + VERTEX.format(1), "binary_little_endian") + b"\x7f" * 60,
        "truncated"),
    "ply of a list of negative length": (
        "a.ply", vertex(LIST.format(1) + VERTEX.format(1), "binary_little_endian") + b"\xff" * 60,
        "a list of -1 values"),
    "ply with words behind other elements": (
        "a.ply", ply([FACES, ("vertex", axes(XYZ))], "ascii").replace(b"0.2", b"x"),
        "line 20 is '0.10000000149011612 x"),
    "ply that is binary": ("a.ply", vertex(VERTEX.format(1)) + b"\1\2\3\n", "line 8 is"),
    "bin of another size": ("a.bin", bytes(33), "33 bytes, which are neither"),
    "bin that is text": ("a.bin", b"1 2 3 0.5\n1 2 3 0.25\n", "is text, expected float32"),
    "bin that is no lidar": (
        "a.bin", np.full(20, -5, "<f4").tobytes(), "does not have the numbers of a lidar"),
    "bin of anything": ("a.bin", b"\xff\x80\x81\x7e" * 5 * 4, "does not have the numbers"),
    "bin with odd columns": ("a.bin", bytes(32), "columns are x, y, expected", ["x", "y"]),
    "bin with x twice": ("a.bin", bytes(32), "each once", ["x", "y", "z", "x"]),
    "npy of many clouds": ("a.npy", saved(np.zeros((2, 5, 3))), "holds 2 clouds"),
    "npy of four axes": ("a.npy", saved(np.zeros((2, 5, 3, 1))), r"shape \(2, 5, 3, 1\)"),
    "npy of one axis": ("a.npy", saved(np.zeros(3)), r"shape \(3,\), expected \(N, 3\)"),
    "npy of a number": ("a.npy", saved(np.float32(3)), r"shape \(\), expected"),
    "npy of two columns": ("a.npy", saved(np.zeros((5, 2))), r"shape \(5, 2\), expected"),
    "npy of rows": ("a.npy", saved(np.zeros((3, 50))), "transpose it"),
    "npy of text": ("a.npy", saved(np.full((5, 3), "a")), "holds <U1"),
    "npy of complex": ("a.npy", saved(np.zeros((5, 3), "c8")), "holds complex64"),
    "npy of objects": ("a.npy", saved(np.full((5, 3), None)), "holds Python objects"),
    "npy without points": ("a.npy", saved(np.zeros((0, 3))), "has no points"),
    "npy without z": (
        "a.npy", saved(np.zeros(5, [("x", "f4"), ("y", "f4")])), "has no z, only x, y"),
    "npy of odd x": (
        "a.npy", saved(np.zeros(5, [("x", "f4", 2), ("y", "f4"), ("z", "f4")])), "x is float32 of"),
    "npy of three axes with fields": (
        "a.npy", saved(np.zeros((1, 2, 3), [(c, "f4") for c in "xyz"])), "expected .N,. or .H, W"),
    "npy with its own names": (
        "a.npy", saved(np.zeros(5, [(c, "f4") for c in "xyz"])), "names its columns", [*"xyz"]),
    "npy with other columns": (
        "a.npy", saved(np.zeros((5, 4))), "has 4 columns, but columns= names 3", [*"xyz"]),
    "npy of too many points": ("a.npy", npy_header((HUGE, 3)) + bytes(60), "header wrong"),
    "npy of many nothings": ("a.npy", npy_header((0, 10**30)), "header wrong"),
    "npy of negative counts": ("a.npy", npy_header((-1, -15)) + bytes(60), "header wrong"),
    "npy of an odd type": ("a.npy", npy_header((5, 3), "zip") + bytes(60), "damaged header"),
    "npy without header": ("a.npy", b"\x93NUMPY\1\0", "damaged header"),
    "npy of a later version": ("a.npy", b"\x93NUMPY\7\0" + bytes(99), "damaged header"),
    "npz of several": ("a.npz", saved(None, a=ONE, b=ONE), "has the arrays a, b: expected one"),
    "npz of nothing": ("a.npz", zipped("a.txt", b"1 2 3"), "has the arrays nothing"),
    "npz of too many points": (
        "a.npz", zipped("a.npy", npy_header((HUGE, 3)) + bytes(60)), "'a' is truncated"),
    "npz of axes that differ": (
        "a.npz", saved(None, x=np.ones(3), y=np.ones(3), z=np.ones(2)), "differ in shape"),
    "npz cut": ("a.npz", saved(XYZ, ring=RING)[:-30], "cannot be read as .npz"),
    "text without numbers": ("a.txt", b"hello\nyou\n", "line 2 is 'you', expected numbers"),
    "text without points": ("a.csv", b"# x y z\n\nx y z\n", "has no points"),
    "text of two columns": ("a.txt", b"1 2\n3 4\n", "has 2 columns, expected x, y and z"),
    "text with names for less": ("a.csv", b"x,y,z\n1,2,3,4\n", "names 3 columns, but line 2 has 4"),
    "text without z": ("a.csv", b"x,y,w\n1,2,3\n", "has no z, only x, y, w"),
    "text with a name twice": ("a.csv", b"x,y,z,a,a\n1,2,3,4,5\n", "two columns 'a'"),
    "text with a column less": ("a.csv", b"1,2,3\n4,5\n", "line 2 is '4,5', expected 3 numbers"),
    "text with an empty cell": ("a.csv", b"\n1,2,3\n4,,5\n", "line 3 is '4,,5'"),
    "text with words": ("a.txt", b"# a\n1 2 3\n\n1 2 z\n", "line 4 is '1 2 z'"),
    "text with other columns": ("a.txt", b"1 2 3 4\n", "has 4 columns, but", [*"xyz"]),
    "text that is binary": ("a.txt", bytes(32), "is binary, expected x y z in text"),
    "text that is no ASCII": ("a.txt", b"\xff\xfe\xfd\n", "has no points"),
    "text with an escape": ("a.txt", b"1 2 3\n\x1b[2J 5 6\n", r"line 2 is '\\x1b\[2J"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_cloud(tmp_path, case):
    name, content, words, *columns = BAD[case]
    path = tmp_path / name
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(LogError, match=words) as refused:
            read_cloud(path, columns=columns[0] if columns else None)
        assert tracemalloc.get_traced_memory()[1] < 20e6  # whatever a header says
    finally:
        tracemalloc.stop()
    message = str(refused.value)
    assert message.startswith(str(path))
    assert message.isprintable()
    assert len(message) < len(str(path)) + 300


def test_where_there_is_no_file(tmp_path):
    with pytest.raises(LogError, match=r"none\.pcd cannot be opened: No such file"):
        read_cloud(tmp_path / "none.pcd")
    with pytest.raises(LogError, match="is a directory: name the file"):
        read_cloud(tmp_path)
    with pytest.raises(LogError, match="/dev/null is not a regular file"):
        read_cloud("/dev/null")


FILES = {
    "a.pcd": pcd([*axes(XYZ), ("ring", RING)], "binary"),
    "b.pcd": pcd([*axes(XYZ), ("ring", RING)], "binary_compressed"),
    "c.pcd": pcd([*axes(XYZ), ("ring", RING)], "ascii"),
    "a.ply": ply([FACES, ("vertex", axes(XYZ))], "binary_little_endian"),
    "b.ply": ply([FACES, ("vertex", axes(XYZ))], "binary_big_endian"),
    "c.ply": ply([FACES, ("vertex", axes(XYZ))], "ascii"),
    "a.npy": saved(XYZ),
    "a.npz": saved(XYZ, ring=RING),
    "a.bin": KITTI_POINTS.tobytes(),
    "a.txt": b"# x y z\n1 2 3\n4 5 6\n",
}


def attempt(tmp_path, name, content):
    """The cloud, or None where it is refused in one line."""
    try:
        return read(tmp_path, name, content)
    except LogError as error:
        line = str(error)
    assert line.isprintable()
    return None


@pytest.mark.parametrize("name", FILES)
def test_a_file_cut_anywhere(tmp_path, name):
    """It is refused, unless all points are there or the format does not say how many there are."""
    content = FILES[name]
    whole = read(tmp_path, name, content)
    for length in range(len(content)):
        cloud = attempt(tmp_path, name, content[:length])
        if cloud is None:
            continue
        if name in ("a.bin", "a.txt"):
            assert len(cloud.points) <= len(whole.points)
            continue
        # The end of the last line, of the last number, or what is behind the points.
        assert name in ("c.pcd", "c.ply")
        assert content[length:].strip(b"0123456789.\n") == b""
        assert len(cloud.points) == len(whole.points)


@pytest.mark.parametrize("name", FILES)
def test_a_file_with_wrong_bytes(tmp_path, name):
    content, chance = FILES[name], random.Random(0)
    refused = 0
    for _ in range(400):
        wrong = bytearray(content)
        for _ in range(chance.randrange(1, 4)):
            wrong[chance.randrange(len(content))] = chance.randrange(256)
        refused += attempt(tmp_path, name, bytes(wrong)) is None
    assert refused


# --- Real clouds


@pytest.mark.parametrize(
    ("name", "source", "points", "columns", "organized", "missing"),
    [
        (LIDAR, "PCD (binary)", 115_385, ["intensity"], None, 0.0),
        (KINECT, "PCD (binary_compressed)", 307_200, ["red", "green", "blue", "alpha"],
         (480, 640), 0.31875),
        (KITTI, "KITTI .bin", 17_238, ["intensity"], None, 0.0),
        (NUSCENES, "nuScenes .pcd.bin", 34_688, ["intensity", "ring"], None, 0.0),
    ],
)  # fmt: skip
def test_real_clouds(logs_dir, name, source, points, columns, organized, missing):
    cloud = read_cloud(logs_dir / name)
    assert (cloud.source, cloud.organized) == (source, organized)
    assert (cloud.points.shape, cloud.points.dtype) == ((points, 3), np.float32)
    assert {key: len(values) for key, values in cloud.columns.items()} == dict.fromkeys(
        columns, points
    )
    lost = np.isnan(cloud.points)
    assert lost.any(axis=1).mean() == missing
    assert (np.abs(cloud.points[~lost]) < 110).all()  # meters


def test_the_rings_of_a_real_lidar(logs_dir):
    np.testing.assert_array_equal(
        np.unique(read_cloud(logs_dir / NUSCENES).columns["ring"]), np.arange(32)
    )


def test_a_real_image_of_points(logs_dir):
    """Neighbours in the image are neighbours in space, so its rows were unpacked in order."""
    cloud = read_cloud(logs_dir / KINECT)
    image = cloud.points.reshape(*cloud.organized, 3)
    steps = np.linalg.norm(np.diff(image, axis=1), axis=2)
    assert np.nanmedian(steps) < 0.005
    assert (np.diff(image[..., 0], axis=1)[~np.isnan(steps)] > 0).mean() > 0.95


def test_real_pcd_written_again(logs_dir, tmp_path):
    cloud = read_cloud(logs_dir / LIDAR)
    fields = [*axes(cloud.points[:5000]), ("intensity", cloud.columns["intensity"][:5000])]
    for data in PCD_KINDS:
        again = read(tmp_path, "a.pcd", pcd(fields, data))
        assert_cloud(again, cloud.points[:5000], f"PCD ({data})", intensity=fields[3][1])


# --- Depth

T = np.arange(2) * 100
K = np.array([[100.0, 0, 2], [0, 110, 1.5], [0, 0, 1]])
FRAMES = np.arange(24, dtype=np.uint16).reshape(2, 3, 4)


def write_depth(path, values=FRAMES, poses=None, **attrs):
    attrs = {name: value for name, value in ({"kind": "depth", "K": K} | attrs).items()
             if value is not None}  # fmt: skip
    write_hdf5(path, {"cam": (T, values), "joints": (T, np.ones((2, 7)))}, cam=attrs)
    if poses is not None:
        with h5py.File(path, "a") as file:
            file["streams/cam/cam_to_world"] = poses
    return path


def test_depth_of_the_demo():
    fixed, moving = depth_streams(logs.DEMO)
    log = logs.open(logs.DEMO)
    with h5py.File(logs.DEMO) as file:
        for camera, poses in (
            (fixed, file["streams/agent_depth"].attrs["cam_to_world"]),
            (moving, file["streams/wrist_depth/cam_to_world"][:]),
        ):
            stream = log.streams[camera.name]
            np.testing.assert_array_equal(camera.times, stream.times)
            np.testing.assert_array_equal(camera.depth[3:5], stream.read(3, 5), strict=True)
            assert camera.depth.shape == stream.shape
            np.testing.assert_array_equal(camera.intrinsics, stream.attrs["K"])
            np.testing.assert_array_equal(camera.cam_to_world, poses)
            assert camera.cam_to_world.dtype == np.float64
            assert camera[-4:] == (0.001, 0.5, "opencv", 0.035)
    assert [c.name for c in depth_streams(logs.DEMO, streams=["wrist_depth"])] == ["wrist_depth"]


def table_height(camera, frame):
    """z of the pixels that are within 2 cm of the top of robosuite's table, at 0.8 m."""
    depth = camera.depth[frame : frame + 1][0] * camera.depth_to_meters
    v, u = np.indices(depth.shape) + camera.pixel_offset
    rays = np.stack([u, v, np.ones_like(u)], -1) @ np.linalg.inv(camera.intrinsics).T
    pose = camera.cam_to_world if camera.cam_to_world.ndim == 2 else camera.cam_to_world[frame]
    z = ((rays * depth[..., None]) @ pose[:3, :3].T + pose[:3, 3])[..., 2]
    return z[np.abs(z - 0.8) < 0.02]


def test_depth_of_the_demo_is_a_table():
    for camera in depth_streams(logs.DEMO):
        for frame in (0, len(camera.times) // 2, len(camera.times) - 1):
            z = table_height(camera, frame)
            assert len(z) > 8000
            assert np.median(z) == pytest.approx(0.8, abs=0.002)
            assert np.std(z) < 0.003


def test_depth_of_robomimic(logs_dir):
    (camera,) = depth_streams(logs_dir / ROBOMIMIC)
    assert camera.name == "demo_3/obs/agentview_depth"
    assert (camera.depth.shape, camera.depth.dtype) == ((392, 84, 84), np.float32)
    assert camera.depth[5:7].shape == (2, 84, 84)
    np.testing.assert_array_equal(camera.times[:2], [0, 50_000_000])
    assert camera.cam_to_world.shape == (4, 4)
    assert camera[-4:] == (1.0, 0.5, "opencv", 0.0)
    z = table_height(camera, 0)
    assert len(z) > 5000
    assert np.median(z) == pytest.approx(0.8, abs=0.002)
    assert np.std(z) < 0.003
    with pytest.raises(LogError, match="no episode demo_1"):
        depth_streams(logs_dir / ROBOMIMIC, episode="demo_1")
    with pytest.raises(LogError, match=r"lift_low_dim_robomimic\.hdf5 has no stream of kind depth"):
        depth_streams(logs_dir / "hdf5_robosuite_lift/lift_low_dim_robomimic.hdf5")


@pytest.mark.parametrize(
    ("values", "unit"), [(FRAMES, 0.001), (FRAMES.astype(">f4"), 1.0), (FRAMES[..., None], 0.001)]
)
def test_depth_of_little_said(tmp_path, values, unit):
    (camera,) = depth_streams(write_depth(tmp_path / "log", values))
    assert camera.cam_to_world is None
    assert camera[-4:] == (unit, 0.0, "opencv", 0.0)
    native = values.dtype.newbyteorder("=")
    np.testing.assert_array_equal(camera.depth[:], FRAMES.astype(native), strict=True)


def test_depth_of_all_said(tmp_path):
    said = {"convention": "opengl", "depth_to_meters": 0.01, "pixel_offset": 0.5, "latency_s": 0.2}
    path = write_depth(tmp_path / "log", cam_to_world=np.eye(4), **said)
    (camera,) = depth_streams(path)
    assert camera[-4:] == (0.01, 0.5, "opengl", 0.2)
    np.testing.assert_array_equal(camera.cam_to_world, np.eye(4), strict=True)
    poses = np.arange(32, dtype=np.float32).reshape(2, 4, 4)
    (camera,) = depth_streams(write_depth(tmp_path / "b", poses=poses, cam_to_world=np.eye(4)))
    np.testing.assert_array_equal(camera.cam_to_world, poses.astype(np.float64), strict=True)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"K": None}, "has no intrinsics: add them to its group as the attribute K"),
        ({"K": np.eye(4)}, r"K is not finite .* but has shape \(4, 4\)"),
        ({"K": K * np.nan}, "K is not finite"),
        ({"K": np.zeros((3, 3))}, "K is not finite with focal lengths"),
        ({"K": "pinhole"}, "K is not made of numbers"),
        ({"kind": "vector"}, "has no stream of kind depth, only cam, joints"),
        ({"values": np.ones((2, 3, 4, 5))}, r"of shape \(2, 3, 4, 5\), expected depth"),
        ({"values": np.ones((2, 3))}, r"of shape \(2, 3\), expected depth"),
        ({"values": FRAMES > 3}, "is bool of shape"),
        ({"convention": "ros"}, "convention is ros"),
        ({"depth_to_meters": 0.0}, "depth_to_meters is 0"),
        ({"depth_to_meters": np.nan}, "depth_to_meters is .*nan"),
        ({"pixel_offset": [0.5, 0.5]}, "pixel_offset is .*expected a number"),
        ({"cam_to_world": np.eye(3)}, r"has shape \(3, 3\), expected \(4, 4\) or \(2, 4, 4\)"),
        ({"poses": np.zeros((3, 4, 4))}, r"cam_to_world has shape \(3, 4, 4\)"),
    ],
)  # fmt: skip
def test_depth_that_cannot_be_used(tmp_path, options, words):
    with pytest.raises(LogError, match=words) as refused:
        depth_streams(write_depth(tmp_path / "log", **options))
    assert str(refused.value).isprintable()


def test_depth_of_no_such_stream(tmp_path):
    path = write_depth(tmp_path / "log")
    with pytest.raises(LogError, match="no depth stream joints, only cam"):
        depth_streams(path, streams=["joints"])
    with pytest.raises(LogError, match="cannot be opened"):
        depth_streams(tmp_path / "none")


def test_depth_of_robomimic_without_camera_info(tmp_path):
    path = tmp_path / "log"
    with h5py.File(path, "w") as file:
        demo = file.create_group("data/demo_1")
        demo["actions"] = np.zeros((2, 7))
        demo["obs/agentview_depth"] = np.ones((2, 3, 4, 1), np.float32)
    with pytest.raises(LogError, match=r"no intrinsics: extract it again with robomimic 0\.5"):
        depth_streams(path)
    with h5py.File(path, "a") as file:
        info = {"agentview": {"intrinsics": K.tolist(), "extrinsics": np.eye(4).tolist()}}
        file["data/demo_1"].attrs["camera_info"] = json.dumps(info)
    (camera,) = depth_streams(path)
    np.testing.assert_array_equal(camera.intrinsics, K)
