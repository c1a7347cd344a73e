"""`robocache align` against plain NumPy, and what it says when it cannot."""

import subprocess
import sys
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("h5py")
pytest.importorskip("rich")

from log_files import write_hdf5

from robocache_cupy import align as aligning
from robocache_cupy import cli, logs, resample_trajectories
from robocache_cupy._streams import CURVES, REDUCTIONS
from robocache_cupy.align import chunks
from robocache_cupy.align.clock import clock_at

BACKENDS = ["numba", "cuda"]


@pytest.fixture(params=BACKENDS)
def backend(request, require):
    if request.param == "cuda" and not pytest.importorskip("cupy").cuda.is_available():
        require.skip("cupy_cuda", "CuPy finds no GPU")
    return request.param


def align(tmp_path, *arguments):
    """The arrays that the command writes."""
    output = tmp_path / "aligned.npz"
    assert cli.main(["align", *map(str, arguments), "-o", str(output)]) == 0
    with np.load(output) as file:
        return dict(file)


def in_order(stream):
    """Stamps and samples as the design wants them: ascending, the last of duplicates."""
    last = {int(stamp): i for i, stamp in enumerate(stream.times)}
    late = round(stream.latency * 1e9)
    order = [last[stamp] for stamp in sorted(last)]
    return np.array([stamp - late for stamp in sorted(last)], np.int64), stream.values[order]


def expected_clock(streams, hz):
    stamps = [in_order(stream)[0].tolist() for stream in streams.values() if len(stream) > 1]
    start, end = max(times[0] for times in stamps), min(times[-1] for times in stamps)
    points = []
    while start + (step := len(points) * Fraction(10**9) / Fraction(hz)) <= end:
        points.append(start + round(step))
    return np.array(points, np.int64)


def expected_linear(times, values, clock):
    # In ns since the first stamp, which float64 holds exactly.
    seen, wanted = (times - times[0]).astype(float), (clock - times[0]).astype(float)
    return np.stack([np.interp(wanted, seen, column) for column in values.T], axis=1)


def expected_nearest(times, values, clock):
    return values[[np.abs(times - point).argmin() for point in clock]]


ORDERS = {"quat_xyzw": [0, 1, 2, 3], "quat_wxyz": [1, 2, 3, 0]}


def rotations(stream):
    """The columns of each rotation of a stream, and what they are."""
    if stream.rotation is None:
        return []
    if not isinstance(stream.rotation, str):
        return [
            (list(range(*map(int, where.split(":")))), kind)
            for where, kind in stream.rotation.items()
        ]
    total = int(np.prod(stream.shape[1:]))
    if stream.rotation == "matrix":
        return [(list(range(9)), "matrix")]
    before, kind = (3, stream.rotation[4:]) if "pos" in stream.rotation else (0, stream.rotation)
    starts = range(before, total, before + 4)
    return [(list(range(start, start + 4)), kind) for start in starts]


def assert_rotated(aligned, times, samples, clock, kind="quat_xyzw"):
    """Between samples SciPy's slerp, at them their bits, and no sign is lost."""
    from scipy.spatial.transform import Rotation, Slerp

    samples = samples.astype(float)
    if kind == "matrix":
        turns = Rotation.from_matrix(samples.reshape(-1, 3, 3))
    else:
        turns = Rotation.from_quat(samples[:, ORDERS[kind]])
    at = clock.clip(times[0], times[-1])
    if len(times) > 1:
        between = Slerp((times - times[0]).astype(float), turns)
        found = between((at - times[0]).astype(float))
    else:
        found = Rotation.concatenate([turns] * len(clock))
    tolerance = 1e-6 if aligned.dtype == np.float64 else 1e-5
    if kind == "matrix":
        np.testing.assert_allclose(aligned, found.as_matrix().reshape(-1, 9), atol=10 * tolerance)
        return
    quaternions = aligned[:, ORDERS[kind]].astype(float)
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    dots = np.sum(quaternions * found.as_quat(), axis=1)
    np.testing.assert_allclose(np.abs(dots), 1, rtol=0, atol=tolerance)
    before = np.searchsorted(times, at, "right") - 1
    assert np.all(np.sum(aligned.astype(float) * samples[before], axis=1) > 0)
    hit = times[before] == at
    np.testing.assert_array_equal(aligned[hit], samples[before[hit]].astype(aligned.dtype))


def assert_aligned(arrays, streams, hz=None, clock=None):
    """Everything that the command wrote is what NumPy computes from the same streams."""
    clock = expected_clock(streams, hz) if clock is None else clock
    np.testing.assert_array_equal(arrays["times"], clock, strict=True)
    names = {key for key in arrays if f"{key}/valid" in arrays}
    assert len(arrays) == 1 + 2 * len(names)
    assert names == {name for name, stream in streams.items() if len(stream)}
    for name in names:
        stream = streams[name]
        times, values = in_order(stream)
        valid = (clock >= times[0]) & (clock <= times[-1])
        np.testing.assert_array_equal(arrays[f"{name}/valid"], valid, strict=True)
        aligned, nearest = arrays[name], expected_nearest(times, values, clock)
        assert aligned.dtype == values.dtype
        assert aligned.shape == nearest.shape
        turned = rotations(stream)
        if not turned and (stream.kind != "vector" or stream.dtype.kind != "f"):
            np.testing.assert_array_equal(aligned, nearest, err_msg=name)
            continue
        samples, aligned, nearest = (x.reshape(len(x), -1) for x in (values, aligned, nearest))
        smooth = np.ones(samples.shape[1], bool)
        smooth[list(stream.discrete)] = False
        np.testing.assert_array_equal(aligned[:, ~smooth], nearest[:, ~smooth], err_msg=name)
        for columns, kind in turned:
            assert_rotated(aligned[:, columns], times, samples[:, columns], clock, kind)
            smooth[columns] = False
        # The weight and the result are rounded to the dtype of the data (float16 computes in
        # float32), and a difference of two samples is at most twice the largest of them.
        largest = np.where(np.isfinite(samples), np.abs(samples), 0).max(axis=0)
        allowed = 4 * np.finfo(samples.dtype).eps * largest
        linear = expected_linear(times, samples.astype(float), clock)
        with np.errstate(invalid="ignore"):  # inf - inf
            close = np.abs(aligned.astype(float) - linear) <= allowed
        same = (aligned == linear) | (np.isnan(aligned) & np.isnan(linear))
        assert (close | same)[:, smooth].all(), name


@pytest.mark.parametrize("hz", [30, 7.5, 250])
def test_the_bundled_log(tmp_path, backend, hz):
    arrays = align(tmp_path, logs.DEMO, "--hz", hz, "--backend", backend)
    streams = logs.open(logs.DEMO).streams
    assert_aligned(arrays, streams, hz)
    assert all(arrays[f"{name}/valid"].all() for name in streams)


@pytest.mark.parametrize(
    "name",
    [
        "ros1_tilt_laser/tilt_laser.bag",
        "ros1_tilt_laser/tilt_laser_ros2_mcap",
        "ros1_husky_imu_odom_gps/husky_test1.bag",
        "ros2_db3_imu_pose_battery/rosbag2_test",
    ],
)
@pytest.mark.parametrize("clock", ["header", "log"])
def test_real_logs(tmp_path, logs_dir, name, clock):
    flag = ["--log-time"] if clock == "log" else []
    arrays = align(tmp_path, logs_dir / name, "--hz", 10, *flag)
    assert_aligned(arrays, logs.open(logs_dir / name, log_time=clock == "log").streams, 10)


MS = 1_000_000
T = 1_700_000_000_000_000_000 + 10 * MS * np.arange(20)
RAMP = np.linspace(-3, 3, 20)[:, None]


def test_unsorted_and_repeated_stamps(tmp_path, backend):
    times = T.copy()
    times[[4, 5]] = times[[5, 4]]
    times[8] = times[7]
    path = write_hdf5(tmp_path / "log", {"a": (times, RAMP), "b": (T, RAMP)})
    arrays = align(tmp_path, path, "--hz", 333, "--backend", backend)
    assert_aligned(arrays, logs.open(path).streams, 333)


def test_latency_moves_a_stream_back(tmp_path, backend):
    latency = {"late": {"latency_s": 0.0123456784}}
    path = write_hdf5(tmp_path / "log", {"late": (T, RAMP), "b": (T, RAMP)}, **latency)
    arrays = align(tmp_path, path, "--hz", 100, "--backend", backend)
    assert arrays["times"][0] == T[0]
    assert len(arrays["times"]) == 18  # the late stream ends 12.3 ms before the other
    assert_aligned(arrays, logs.open(path).streams, 100)


@pytest.mark.parametrize(
    "dtype",
    ["bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", ">f4", ">i2"],
)
def test_every_dtype(tmp_path, backend, dtype):
    values = (100 * RAMP).clip(0 if dtype[0] == "u" else -100, 100).astype(dtype)
    path = write_hdf5(tmp_path / "log", {"a": (T, values)})
    arrays = align(tmp_path, path, "--hz", 170, "--backend", backend)
    assert_aligned(arrays, logs.open(path).streams, 170)


@pytest.mark.parametrize("shape", [(), (1,), (20,), (20, 20), (20, 3), (3, 20, 2)])
def test_every_shape(tmp_path, backend, shape):
    """The first axis of the samples may be as long as the stream: that is no batch."""
    values = np.random.default_rng(0).normal(size=(20, *shape))
    path = write_hdf5(tmp_path / "log", {"a": (T, values)})
    arrays = align(tmp_path, path, "--hz", 170, "--backend", backend)
    assert arrays["a"].shape == (33, *shape)
    assert_aligned(arrays, logs.open(path).streams, 170)


def test_streams_of_one_sample_and_of_none(tmp_path, backend, capsys):
    streams = {"a": (T, RAMP), "once": (T[:1] - 5 * MS, RAMP[:1]), "never": (T[:0], RAMP[:0])}
    path = write_hdf5(tmp_path / "log", streams)
    arrays = align(tmp_path, path, "--hz", 100, "--backend", backend)
    assert_aligned(arrays, logs.open(path).streams, 100)
    assert len(arrays["times"]) == 20  # the single sample does not end the clock
    assert not arrays["once/valid"].any()
    np.testing.assert_array_equal(arrays["once"], np.broadcast_to(RAMP[:1], (20, 1)))
    assert "0.0%" in capsys.readouterr().out


def test_a_single_sample_alone(tmp_path, backend):
    path = write_hdf5(tmp_path / "log", {"once": (T[:1], RAMP[:1])})
    arrays = align(tmp_path, path, "--backend", backend)
    np.testing.assert_array_equal(arrays["times"], T[:1])
    np.testing.assert_array_equal(arrays["once"], RAMP[:1])
    assert arrays["once/valid"].all()


def test_the_clock_is_that_of_the_op():
    stream = logs.Stream("a", T, RAMP)
    clock = clock_at({"a": stream}, 2997.1, union=False)
    _, times = resample_trajectories(
        RAMP, T, hz=2997.1, t_start=int(T[0]), num=len(clock.times), return_times=True
    )
    np.testing.assert_array_equal(clock.times, times, strict=True)


def test_what_is_printed(tmp_path, capsys):
    align(tmp_path, logs.DEMO, "--backend", "numba")
    out = capsys.readouterr().out
    wrench = next(line for line in out.splitlines() if line.split()[:1] == ["wrench"])
    assert " ".join(wrench.split()) == "wrench 6 1478 250.1 0.08 4.01 8.3 7 0 0 linear 100.0%"
    words = {line.split()[0]: line.split() for line in out.splitlines() if line.split()}
    assert words["stream"][-3:] == ["latency", "method", "valid"]
    assert words["ee_pose"][-3:] == ["0", "linear+slerp", "100.0%"]
    assert words["agent_depth"][-3:] == words["wrist_depth"][-3:] == ["35", "nearest", "100.0%"]
    assert "178 rows at 30 Hz" in out
    assert "by numba on" in out
    assert "aligned.npz" in out


def test_skip_leaves_a_stream_out(tmp_path):
    arrays = align(tmp_path, logs.DEMO, "--skip", "agent_depth", "--skip", "wrist_depth")
    streams = dict(logs.open(logs.DEMO).streams)
    del streams["agent_depth"], streams["wrist_depth"]
    assert_aligned(arrays, streams, 30)


def test_without_a_log_the_bundled_one_is_aligned(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["align"]) == 0
    with np.load("aligned.npz") as file:
        assert len(file["times"]) == 178


def test_an_older_result_is_replaced_and_the_same_is_written_again(tmp_path):
    align(tmp_path, logs.DEMO, "--hz", 5)
    align(tmp_path, logs.DEMO, "--hz", 4)
    first = (tmp_path / "aligned.npz").read_bytes()
    align(tmp_path, logs.DEMO, "--hz", 4)
    assert (tmp_path / "aligned.npz").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["aligned.npz"]


# --- Clocks, methods, gaps


def test_the_clock_of_a_stream(tmp_path, backend):
    """Its stamps, in order, moved by its latency, in the time that all have in common."""
    streams = logs.open(logs.DEMO).streams
    arrays = align(tmp_path, logs.DEMO, "--clock", "wrist_depth", "--backend", backend)
    times = in_order(streams["wrist_depth"])[0]
    ends = [in_order(stream)[0][[0, -1]] for stream in streams.values()]
    start, end = max(first for first, _ in ends), min(last for _, last in ends)
    np.testing.assert_array_equal(arrays["times"], times[(times >= start) & (times <= end)])
    assert_aligned(arrays, streams, clock=arrays["times"])


def test_the_union_is_from_the_first_stamp_to_the_last(tmp_path, backend):
    streams = {"a": (T, RAMP), "b": (T + 55 * MS, RAMP)}
    path = write_hdf5(tmp_path / "log", streams)
    arrays = align(tmp_path, path, "--union", "--hz", 100, "--backend", backend)
    times = T[0] + 10 * MS * np.arange(25)
    np.testing.assert_array_equal(arrays["times"], times)
    assert arrays["a/valid"].tolist() == [True] * 20 + [False] * 5
    assert arrays["b/valid"].tolist() == [False] * 6 + [True] * 19
    assert_aligned(arrays, logs.open(path).streams, clock=times)
    both = align(tmp_path, path, "--union", "--clock", "b")
    np.testing.assert_array_equal(both["times"], T + 55 * MS)


@pytest.mark.parametrize("method", ["nearest", "previous", "next", "ffill"])
def test_a_method_for_a_stream(tmp_path, backend, method):
    path = write_hdf5(tmp_path / "log", {"a": (T, RAMP), "b": (T, RAMP)})
    arrays = align(
        tmp_path, path, "--hz", 333, "--method", f"a={method}", "--backend", backend
    )  # fmt: skip
    behind = np.searchsorted(T, arrays["times"], "right") - 1
    index = {
        "nearest": np.abs(T - arrays["times"][:, None]).argmin(axis=1),
        "next": np.searchsorted(T, arrays["times"]),
    }.get(method, behind)
    np.testing.assert_array_equal(arrays["a"], RAMP[index])
    assert not np.array_equal(arrays["b"], arrays["a"])


# --- Rotations


@pytest.mark.parametrize("kind", ["quat_xyzw", "quat_wxyz"])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_rotations_are_interpolated_as_such(tmp_path, backend, kind, dtype):
    """Of large steps, through changes of sign, beside what is linear."""
    chance = np.random.default_rng(0)
    quaternions = chance.normal(size=(20, 4))
    quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
    poses = np.hstack([RAMP, RAMP, RAMP, quaternions])
    streams = {
        "a": (T, poses.astype(dtype)),
        "b": (T, quaternions.astype(dtype)),
        "c": (T, np.stack([poses, poses[::-1]], 1).astype(dtype)),
        "tool_quat": (T, quaternions),
    }
    kinds = {
        "a": {"kind": f"pose_xyz_{kind}"},
        "b": {"kind": kind},
        "c": {"kind": f"pose_xyz_{kind}"},
    }
    path = write_hdf5(tmp_path / "log", streams, **kinds)
    arrays = align(tmp_path, path, "--hz", 333, "--backend", backend)
    found = logs.open(path).streams
    names = [rotations(found[name])[0][1] for name in streams]
    assert names == [kind, kind, kind, "quat_xyzw"]
    assert_aligned(arrays, found, 333)


def test_matrices_are_interpolated_as_rotations(tmp_path, backend):
    from scipy.spatial.transform import Rotation

    turns = Rotation.random(20, rng=0).as_matrix()
    path = write_hdf5(tmp_path / "log", {"rotation": (T, turns)})
    arrays = align(tmp_path, path, "--hz", 333, "--backend", backend)
    assert_aligned(arrays, logs.open(path).streams, 333)
    products = arrays["rotation"] @ arrays["rotation"].swapaxes(1, 2)
    np.testing.assert_allclose(products, np.broadcast_to(np.eye(3), products.shape), atol=1e-12)


def test_columns_of_every_sort_in_one_stream(tmp_path):
    """Codes and rotations lie among the floats, in any order."""
    chance = np.random.default_rng(0)
    values = chance.normal(size=(20, 12))
    values[:, [0, 6]] = chance.integers(0, 5, (20, 2))
    for at in 2, 7:
        values[:, at : at + 4] /= np.linalg.norm(values[:, at : at + 4], axis=1, keepdims=True)
    stream = logs.Stream(
        "a", T, values, discrete=(0, 6), rotation={"2:6": "quat_xyzw", "7:11": "quat_wxyz"}
    )
    from robocache_cupy.align.methods import method_of

    method = method_of(stream, None)
    assert method.name == "linear+slerp, nearest"
    clock = clock_at({"a": stream}, 333, union=False).times
    (piece,) = chunks.Sorted(stream).pieces(clock, method)
    part = chunks.Part(stream, method, piece, which=False)
    (aligned,) = chunks.align_pieces([part], clock, chunks.device_of("numba"))
    arrays = {"times": clock, "a": aligned.values, "a/valid": aligned.valid}
    assert_aligned(arrays, {"a": stream}, clock=clock)


@pytest.mark.parametrize(
    ("method", "name"),
    [("linear", "linear+slerp"), ("makima", "makima+slerp"), ("mean", "mean+slerp")],
)
def test_rotations_stay_rotations_whatever_interpolates(tmp_path, capsys, method, name):
    usual = align(tmp_path, logs.DEMO, "--hz", 20)["ee_pose"]
    capsys.readouterr()
    pose = align(tmp_path, logs.DEMO, "--hz", 20, "--method", f"ee_pose={method}")["ee_pose"]
    np.testing.assert_array_equal(pose[:, 3:], usual[:, 3:])
    assert np.array_equal(pose[:, :3], usual[:, :3]) == (method == "linear")
    assert f" {name} " in capsys.readouterr().out
    held = align(tmp_path, logs.DEMO, "--hz", 20, "--method", "ee_pose=nearest")["ee_pose"]
    streams = logs.open(logs.DEMO).streams
    times, values = in_order(streams["ee_pose"])
    np.testing.assert_array_equal(
        held, expected_nearest(times, values, expected_clock(streams, 20))
    )


def test_rotations_have_no_mean(tmp_path, capsys):
    path = write_hdf5(tmp_path / "log", {"a_quat": (T, np.tile([0, 0, 0.6, 0.8], (20, 1)))})
    error = refusal(capsys, path, "--method", "a_quat=mean", "-o", tmp_path / "out.npz")
    assert "--method a_quat=mean: it has nothing but rotations, which have no mean" in error


# --- Latency


def test_the_latency_that_the_log_states_is_the_default(tmp_path):
    """A camera's frame is that of the moment, not the one that has just arrived."""
    arrays = align(tmp_path, logs.DEMO, "--hz", 30)
    camera = logs.open(logs.DEMO).streams["agent_depth"]
    taken = camera.times - 35 * MS
    index = [np.abs(taken - point).argmin() for point in arrays["times"]]
    np.testing.assert_array_equal(arrays["agent_depth"], camera.values[index])
    arrived = [np.abs(camera.times - point).argmin() for point in arrays["times"]]
    assert np.mean(np.array(index) != arrived) > 0.9


@pytest.mark.parametrize("seconds", ["0.05", "0", "-0.0123456784"])
def test_a_latency_for_a_stream(tmp_path, backend, capsys, seconds):
    streams = {"a": (T, RAMP), "b=c": (T, RAMP)}
    path = write_hdf5(tmp_path / "log", streams, **{"b=c": {"latency_s": 0.02}})
    arrays = align(
        tmp_path, path, "--hz", 333, "--latency", f"b=c={seconds}", "--backend", backend
    )  # fmt: skip
    out = " ".join(capsys.readouterr().out.split())
    assert ("back latency method" in out) == (seconds != "0")
    found = dict(logs.open(path).streams)
    found["b=c"] = replace(found["b=c"], latency=float(seconds))
    assert_aligned(arrays, found, 333)
    if seconds == "0.05":
        assert " 50 linear" in out


# --- Curves and reductions


@pytest.mark.parametrize("method", [*CURVES, *REDUCTIONS])
@pytest.mark.parametrize("clock", [["--hz", "333"], ["--hz", "45"], ["--clock", "b"]])
def test_curves_and_reductions_are_those_of_the_op(tmp_path, monkeypatch, method, clock):
    """Also piece by piece, where curves look further and reductions at their neighbours."""
    chance = np.random.default_rng(0)
    times = T[0] + np.cumsum(chance.integers(1, 20, 400)) * MS
    values, counts = chance.normal(size=(400, 3)), chance.integers(-9, 9, (400, 2))
    streams = {"a": (times, values), "n": (times, counts), "b": (times[::7] + MS, values[::7])}
    path = write_hdf5(tmp_path / "log", streams, a={"latency_s": 0.0035})
    asked = ["--method", f"a={method}", "--method", f"n={method}"]
    arrays = align(tmp_path, path, *clock, *asked)
    for name, data, latency in ("a", values, 0.0035), ("n", counts, 0.0):
        exact = method in ("max", "min", "any")
        expected = resample_trajectories(
            data if exact else data.astype(float), times, arrays["times"], method=method,
            latency=latency, return_valid=True,
        )  # fmt: skip
        np.testing.assert_array_equal(arrays[name], expected.values, strict=True)
        np.testing.assert_array_equal(arrays[f"{name}/valid"], expected.valid)
    monkeypatch.setattr(chunks, "BYTES", 700)
    pieces = align(tmp_path, path, *clock, *asked)
    for name in arrays:
        np.testing.assert_array_equal(pieces[name], arrays[name], strict=True, err_msg=name)


def test_a_reduction_needs_two_rows(tmp_path, capsys):
    path = write_hdf5(tmp_path / "log", {"a": (T, RAMP)})
    arguments = [path, "--hz", "1", "--method", "a=mean", "-o", tmp_path / "out.npz"]
    assert "--method a=mean: it takes the samples between rows" in refusal(capsys, *arguments)


def test_integers_become_floats_where_they_are_interpolated(tmp_path, capsys):
    path = write_hdf5(tmp_path / "log", {"ticks": (T, np.arange(20)), "b": (T, RAMP)})
    arrays = align(tmp_path, path, "--hz", 200, "--method", "ticks=linear")
    np.testing.assert_array_equal(arrays["ticks"], np.arange(39) / 2, strict=True)
    assert "linear, as float64" in capsys.readouterr().out


def test_rows_in_a_longer_gap_are_not_valid(tmp_path, backend):
    times = np.delete(T, [5, 6, 7])
    path = write_hdf5(tmp_path / "log", {"a": (times, np.delete(RAMP, [5, 6, 7], 0))})
    arrays = align(tmp_path, path, "--hz", 100, "--max-gap", 0.035, "--backend", backend)
    assert np.flatnonzero(~arrays["a/valid"]).tolist() == [5, 6, 7]
    arrays = align(tmp_path, path, "--hz", 100, "--max-gap", 0.04, "--backend", backend)
    assert arrays["a/valid"].all()


@pytest.mark.parametrize("option", [["joint_pos,wrench"], ["joint_pos", "--streams", "wr?nch"]])
def test_only_some_streams(tmp_path, option):
    arrays = align(tmp_path, logs.DEMO, "--streams", *option)
    assert set(arrays) == {
        "times", "joint_pos", "joint_pos/valid", "wrench", "wrench/valid",
    }  # fmt: skip


def test_several_logs(tmp_path, backend):
    streams = {"a": (T, RAMP), "b": (T, RAMP)}
    one = write_hdf5(tmp_path / "one.hdf5", streams)
    two = write_hdf5(tmp_path / "two.hdf5", {"b": (T + MS, RAMP), "c": (T, RAMP)})
    arrays = align(tmp_path, one, two, "--backend", backend)
    names = {key for key in arrays if not key.endswith("/valid")}
    assert names == {"times", "a", "one/b", "two/b", "c"}
    assert arrays["times"][0] == T[0] + MS


def test_several_logs_of_the_same_file_name(tmp_path):
    paths = []
    for name in "left", "right":
        (tmp_path / name).mkdir()
        paths.append(tmp_path / name / "data.csv")
        paths[-1].write_text("0.0,1\n0.5,2\n1.0,3\n")
    arrays = align(tmp_path, *paths, "--hz", 2)
    assert {key for key in arrays if not key.endswith("/valid")} == {
        "times", "left/data", "right/data",
    }  # fmt: skip
    np.testing.assert_array_equal(arrays["left/data"], [[1], [2], [3]])


# --- Memory


def shuffled(times, chance):
    """Duplicates, and pairs that run backward."""
    times = times.copy()
    for i in chance.integers(1, len(times), len(times) // 50):
        times[i] = times[i - 1]
    for i in chance.integers(1, len(times), len(times) // 50):
        times[[i - 1, i]] = times[[i, i - 1]]
    return times


@pytest.mark.parametrize("plot", [False, True])
def test_streams_that_fit_go_together(tmp_path, monkeypatch, plot):
    """One call of the op for all that fit, one for each piece of what does not; log's order."""
    calls = []

    def fuse(streams, *, fuse=chunks.fuse_multimodal, **options):
        calls.append([name for name in streams if isinstance(name, str)])
        return fuse(streams, **options)

    monkeypatch.setattr(chunks, "fuse_multimodal", fuse)
    figure = ["--plot", tmp_path / "a.png"] if plot else []
    whole = align(tmp_path, logs.DEMO, *figure)
    names = list(logs.open(logs.DEMO).streams)
    assert calls == [names] * 2  # the first loads or compiles
    calls.clear()
    monkeypatch.setattr(chunks, "BYTES", 1 << 18)
    pieces = align(tmp_path, logs.DEMO, *figure)
    assert list(pieces) == list(whole)
    assert [call for call in calls if len(call) > 1] == [names[1:6]] * 2
    assert sum(call == ["agent_depth"] for call in calls) > 20
    for name in whole:
        np.testing.assert_array_equal(pieces[name], whole[name], strict=True, err_msg=name)


@pytest.mark.parametrize("clock", [["--hz", "1000"], ["--hz", "7"], ["--clock", "slow"]])
def test_a_log_is_read_piece_by_piece(tmp_path, monkeypatch, clock):
    """No read and no call of the op is larger than a piece, and the result is the same."""
    chance = np.random.default_rng(0)
    fast = T[0] + MS * np.arange(20_000)
    slow = T[0] + 77 * MS * np.arange(260) + chance.integers(0, 70, 260) * MS
    streams = {
        "fast": (fast, chance.normal(size=(20_000, 3))),
        "messy": (shuffled(fast, chance), chance.integers(0, 99, (20_000, 2))),
        "slow": (slow, chance.normal(size=(260, 5)).astype("f4")),
        "images": (slow, chance.integers(0, 255, (260, 8, 8)).astype("u1")),
    }
    path = write_hdf5(tmp_path / "log", streams)
    whole = align(tmp_path, path, *clock)
    monkeypatch.setattr(chunks, "BYTES", 4096)
    reads, calls = [], []

    def read(self, lo=0, hi=None, read=logs.Stream.read):
        values = read(self, lo, hi)
        reads.append(values.nbytes)
        return values

    def piece(*arguments, align_pieces=aligning.align_pieces, **options):
        aligned = align_pieces(*arguments, **options)
        calls.append(sum(each.values.nbytes for each in aligned))
        return aligned

    monkeypatch.setattr(logs.Stream, "read", read)
    monkeypatch.setattr(aligning, "align_pieces", piece)
    pieces = align(tmp_path, path, *clock)
    assert max(reads) <= 4096
    assert max(calls) <= 4096
    assert len(reads) > 100
    for name in whole:
        np.testing.assert_array_equal(pieces[name], whole[name], strict=True, err_msg=name)


def test_stamps_all_over_the_file_are_read_piece_by_piece(tmp_path, monkeypatch):
    chance = np.random.default_rng(0)
    times = chance.permutation(T[0] + MS * np.arange(500))
    path = write_hdf5(tmp_path / "log", {"a": (times, chance.normal(size=(500, 4)))})
    monkeypatch.setattr(chunks, "BYTES", 4096)
    arrays = align(tmp_path, path, "--hz", 250)
    assert_aligned(arrays, logs.open(path).streams, 250)


LIMITED = """
import resource, sys
from robocache_cupy import cli
import numpy, numba, h5py, rich.console
from robocache_cupy.align import chunks
chunks.BYTES = 1 << 20
assert cli.main(["align", "-o", "warm.npz", "--backend", "numba"]) == 0
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert cli.main(["align", sys.argv[1], "-o", "out.npz", "--hz", "1000", "--backend", "numba"]) == 0
print("KiB", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
"""


def test_memory_does_not_grow_with_the_log(tmp_path):
    n = 20_000  # 2 KiB each: 40 MB in, 40 MB out
    values = np.broadcast_to(np.arange(256.0), (n, 256))
    path = write_hdf5(tmp_path / "log", {"a": (T[0] + MS * np.arange(n), values)})
    command = [sys.executable, "-c", LIMITED, path]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout.split("KiB")[-1]) < 15_000


# --- The figure


def figure_of(monkeypatch, tmp_path, *arguments):
    """The file and the figure that the command draws."""
    from matplotlib.figure import Figure

    made = []

    def savefig(self, *arguments, save=Figure.savefig, **options):
        made.append(self)
        save(self, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", savefig)
    path = tmp_path / "aligned.png"
    align(tmp_path, *arguments, "--plot", path)
    return path, *made


def test_the_figure_of_the_bundled_log(monkeypatch, tmp_path):
    path, figure = figure_of(monkeypatch, tmp_path, logs.DEMO)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert len(figure.axes) == 2 * 7
    titles = [axis.get_title("left") for axis in figure.axes[::2]]
    assert titles == list(logs.open(logs.DEMO).streams)
    assert "nearest, age of frame" in figure.axes[0].get_title("right")
    assert "linear+slerp, 3 of 7 columns" in figure.axes[2].get_title("right")
    assert "linear, 3 of 7 columns" in figure.axes[6].get_title("right")
    assert ["latency 35 ms" in axis.get_title("right") for axis in figure.axes[::2]] == [
        name.endswith("depth") for name in titles
    ]
    assert len(figure.axes[0].patches) == 1  # the outage
    # What is enlarged is the outage.
    low, high = figure.axes[1].get_xlim()
    assert low < 3 < high < low + 1


def test_the_figure_shades_what_is_not_valid(monkeypatch, tmp_path):
    log = write_hdf5(tmp_path / "log", {"a": (T, RAMP), "b": (T + 100 * MS, RAMP)})
    _, figure = figure_of(monkeypatch, tmp_path, log, "--union")
    assert [len(axis.patches) for axis in figure.axes[::2]] == [1, 1]


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (12, 12), (14, 12)])
def test_the_figure_has_a_row_for_each_stream_up_to_twelve(monkeypatch, tmp_path, count, shown):
    log = write_hdf5(tmp_path / "log", {f"s{i:02}": (T, RAMP) for i in range(count)})
    _, figure = figure_of(monkeypatch, tmp_path, log)
    assert len(figure.axes) == 2 * shown
    assert ("12 of 14 streams" in figure.get_suptitle()) == (count > shown)


def test_a_figure_of_odd_streams(monkeypatch, tmp_path):
    odd = {
        "nan": (T, np.full((20, 2), np.nan)),
        "constant": (T, np.ones(20)),
        "once": (T[5:6], RAMP[:1]),
        "never": (T[:0], RAMP[:0]),
        "no_columns": (T, np.zeros((20, 0))),
        "wide": (T, np.random.default_rng(0).normal(size=(20, 500))),
        "far": (T, RAMP * [1e-9, 1, 1e9]),
        "flag": (T, RAMP[:, 0] > 0),
        "rotation": (T, np.zeros((20, 3, 3))),
    }
    log = write_hdf5(tmp_path / "log", odd)
    path, figure = figure_of(monkeypatch, tmp_path, log)
    assert len(figure.axes) == 2 * 8
    assert path.stat().st_size


@pytest.mark.parametrize(
    "name", ["ros1_tilt_laser/tilt_laser.bag", "ros1_husky_imu_odom_gps/husky_test1.bag"]
)
def test_the_figure_of_a_real_log(monkeypatch, tmp_path, logs_dir, name):
    _, figure = figure_of(monkeypatch, tmp_path, logs_dir / name)
    assert len(figure.axes) == 2 * len(logs.open(logs_dir / name).streams)


# --- Progress


@pytest.mark.parametrize("terminal", [True, False])
def test_a_bar_comes_after_a_second_and_only_on_a_terminal(monkeypatch, capsys, terminal):
    from rich.console import Console

    from robocache_cupy.align import progress

    monkeypatch.setattr(Console, "is_terminal", terminal)
    with progress.Bar() as bar:
        bar.show("reading", 1, 2)
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(progress, "_PATIENCE", 0.0)
        bar.show("reading", 1, 2)
    out, error = capsys.readouterr()
    assert out == ""
    assert ("reading" in error) == terminal


@pytest.mark.parametrize("long", [True, False])
def test_compiling_is_said_while_it_lasts(monkeypatch, capsys, long):
    """It begins with no word of what is done, so the bar comes by itself."""
    import threading

    from rich.console import Console

    from robocache_cupy.align import progress

    monkeypatch.setattr(Console, "is_terminal", True)
    monkeypatch.setattr(progress, "_PATIENCE", 0.0 if long else 100.0)
    shown = threading.Event()

    def show(self, *arguments, show=progress.Bar.show):
        show(self, *arguments)
        shown.set()

    monkeypatch.setattr(progress.Bar, "show", show)
    with progress.Bar() as bar, bar.meanwhile("compiling"):
        if long:
            assert shown.wait(30)
    assert ("compiling" in capsys.readouterr().err) == long


# --- Errors


def refusal(capsys, *arguments):
    """The one line that the command prints before it ends with 2."""
    assert cli.main(["align", *map(str, arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("robocache: ")
    assert error.count("\n") == 1
    return error


@pytest.mark.parametrize("hz", ["0", "-1", "nan", "inf"])
def test_a_rate_must_be_positive_and_finite(tmp_path, capsys, hz):
    error = refusal(capsys, "--hz", hz, "-o", tmp_path / "out.npz")
    assert f"--hz must be positive and finite, got {hz}" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("hz", ["1e9", "1e308"])
def test_a_clock_beyond_all_memory_is_refused(tmp_path, capsys, hz):
    assert "more than 100,000,000 rows" in refusal(capsys, "--hz", hz, "-o", tmp_path / "out.npz")
    assert not list(tmp_path.iterdir())


def test_a_log_that_cannot_be_read(tmp_path, capsys):
    output = tmp_path / "out.npz"
    assert "cannot be opened" in refusal(capsys, tmp_path / "missing.bag", "-o", output)
    assert "is a directory without metadata.yaml" in refusal(capsys, tmp_path, "-o", output)
    cut = tmp_path / "cut.hdf5"
    cut.write_bytes(logs.DEMO.read_bytes()[:5000])
    assert "cannot be read as HDF5" in refusal(capsys, cut, "-o", output)
    assert list(tmp_path.iterdir()) == [cut]


def test_an_output_that_cannot_be_written(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(logs, "open", lambda *_, **__: pytest.fail("the log was read in vain"))
    assert "No such file or directory" in refusal(capsys, "-o", tmp_path / "missing" / "out.npz")
    assert "is not a regular file" in refusal(capsys, "-o", tmp_path)
    assert "is not a regular file" in refusal(capsys, "-o", "/dev/null")


def test_a_log_is_not_replaced_by_its_result(tmp_path, capsys):
    path = write_hdf5(tmp_path / "log", {"a": (T, RAMP)})
    before = path.read_bytes()
    assert "is there and no .npz" in refusal(capsys, path, "-o", path)
    assert path.read_bytes() == before


def test_streams_without_a_common_moment(tmp_path, capsys):
    streams = {"a": (T, RAMP), "early": (T - 500 * MS, RAMP), "late": (T + 500 * MS, RAMP)}
    path = write_hdf5(tmp_path / "log", streams)
    assert cli.main(["align", str(path), "-o", str(tmp_path / "out.npz")]) == 2
    out, error = capsys.readouterr()
    assert "late begins 0.810 s after early has ended; leave one out with --skip" in error
    assert error.count("\n") == 1
    assert all(name in out for name in streams)  # the table shows which is at fault
    assert len(align(tmp_path, path, "--skip", "early", "--skip", "late")["times"])


def test_a_stream_that_takes_the_place_of_another(tmp_path, capsys):
    path = write_hdf5(tmp_path / "log", {"times": (T, RAMP), "b": (T, RAMP)})
    error = refusal(capsys, path, "-o", tmp_path / "out.npz")
    assert "the name of stream times is taken" in error
    assert "b" in align(tmp_path, path, "--skip", "times")


def test_an_unknown_stream_to_skip(tmp_path, capsys):
    for option in "--skip", "--streams":
        error = refusal(capsys, option, "arm", "-o", tmp_path / "out.npz")
        assert f"{option} arm: " in error
        assert "has no such stream, only agent_depth, " in error


def test_a_log_without_samples(tmp_path, capsys):
    path = write_hdf5(tmp_path / "log", {"a": (T[:0], RAMP[:0])})
    assert cli.main(["align", str(path), "-o", str(tmp_path / "out.npz")]) == 2
    assert "no stream has samples" in capsys.readouterr().err


def test_a_missing_extra(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich.console", None)
    error = refusal(capsys, "-o", tmp_path / "out.npz")
    assert "rich is missing: pip install 'robocache-cupy[logs]'" in error


def test_cuda_without_cupy(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    error = refusal(capsys, "--backend", "cuda", "-o", tmp_path / "out.npz")
    assert "pip install 'robocache-cupy[cuda12]'" in error
    align(tmp_path, logs.DEMO, "--backend", "auto")


@pytest.mark.parametrize(
    ("raised", "code"), [(KeyboardInterrupt, 130), (MemoryError, 2), (OSError("full"), 2)]
)
def test_an_end_half_way_leaves_nothing_behind(tmp_path, capsys, monkeypatch, raised, code):
    align(tmp_path, logs.DEMO, "--hz", 5)
    before = (tmp_path / "aligned.npz").read_bytes()

    def stop(*_, **__):
        raise raised

    monkeypatch.setattr(aligning, "align_pieces", stop)
    assert cli.main(["align", "-o", str(tmp_path / "aligned.npz")]) == code
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["aligned.npz"]
    assert (tmp_path / "aligned.npz").read_bytes() == before


def test_the_module_runs_as_a_program(tmp_path):
    command = [sys.executable, "-m", "robocache_cupy", "align", "--hz", "0"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "robocache: --hz must be positive and finite, got 0\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--hz", "30", "--clock", "wrench"], "two clocks"),
        (["--clock", "arm"], "--clock arm is none of the streams agent_depth, "),
        (["--method", "wrench"], "is no NAME=METHOD"),
        (["--method", "arm=linear"], "arm is none of the streams agent_depth, "),
        (["--method", "wrench=cubic"], "expected one of linear, nearest, previous, next"),
        (["--method", "ee_quat=mean"], "ee_quat is none of the streams"),
        (["--latency", "wrench"], "--latency wrench is no NAME=SECONDS"),
        (["--latency", "arm=0.1"], "--latency arm=0.1: arm is none of the streams agent_depth, "),
        (["--latency", "wrench=late"], "--latency wrench=late: expected seconds"),
        (["--latency", "wrench=nan"], "expected seconds, fewer than 1e+06"),
        (["--latency", "wrench=-1e6"], "expected seconds, fewer than 1e+06"),
        (["--max-gap", "0"], "--max-gap must be positive and finite, got 0"),
        (["--max-gap", "nan"], "--max-gap must be positive and finite, got nan"),
        (["--plot", "run.bag"], "expected a name in .pdf, .png, .svg"),
        (["--episode", "demo_1"], "no episodes to choose from"),
        (["--streams", "wrench", "--skip", "wrench"], "no stream of "),
    ],
)
def test_options_that_cannot_be(tmp_path, capsys, arguments, said):
    assert said in refusal(capsys, *arguments, "-o", tmp_path / "out.npz")
    assert not list(tmp_path.iterdir())


def test_a_clock_without_stamps(tmp_path, capsys):
    streams = {"a": (T, RAMP), "once": (T[:1] - MS, RAMP[:1])}
    path = write_hdf5(tmp_path / "log", streams)
    error = refusal(capsys, path, "--clock", "once", "-o", tmp_path / "out.npz")
    assert "--clock once has no stamp in the time that all streams have in common" in error


def test_a_figure_that_cannot_be_written(tmp_path, capsys, monkeypatch):
    error = refusal(capsys, "--plot", tmp_path / "missing" / "a.png", "-o", tmp_path / "out.npz")
    assert "a.png cannot be written (No such file" in error
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    error = refusal(capsys, "--plot", tmp_path / "a.png", "-o", tmp_path / "out.npz")
    assert "matplotlib is missing: pip install 'robocache-cupy[viz]'" in error
