"""`robocache align` against plain NumPy, and what it says when it cannot."""

import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("h5py")
pytest.importorskip("rich")

from log_files import write_hdf5

from robocache_cupy import cli, logs

BACKENDS = ["numba", "cuda"]


@pytest.fixture(params=BACKENDS)
def backend(request, require):
    if request.param == "cuda" and not pytest.importorskip("cupy").cuda.is_available():
        require.skip("cupy_cuda", "CuPy finds no GPU")
    return request.param


def align(tmp_path, log, *arguments):
    """The arrays that the command writes."""
    output = tmp_path / "aligned.npz"
    assert cli.main(["align", str(log), "-o", str(output), *map(str, arguments)]) == 0
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


def assert_aligned(arrays, streams, hz):
    """Everything that the command wrote is what NumPy computes from the same streams."""
    clock = expected_clock(streams, hz)
    np.testing.assert_array_equal(arrays["times"], clock, strict=True)
    names = {key for key in arrays if key != "times" and not key.endswith("/valid")}
    assert names == {name for name, stream in streams.items() if len(stream)}
    for name in names:
        stream = streams[name]
        times, values = in_order(stream)
        valid = (clock >= times[0]) & (clock <= times[-1])
        np.testing.assert_array_equal(arrays[f"{name}/valid"], valid, strict=True)
        aligned, nearest = arrays[name], expected_nearest(times, values, clock)
        assert aligned.dtype == values.dtype
        assert aligned.shape == nearest.shape
        if stream.kind != "vector" or stream.dtype.kind != "f":
            np.testing.assert_array_equal(aligned, nearest, err_msg=name)
            continue
        samples, aligned, nearest = (x.reshape(len(x), -1) for x in (values, aligned, nearest))
        smooth = np.ones(samples.shape[1], bool)
        smooth[list(stream.discrete)] = False
        np.testing.assert_array_equal(aligned[:, ~smooth], nearest[:, ~smooth], err_msg=name)
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
    from robocache_cupy import resample_trajectories

    clock = cli._Clock(int(T[0]), 29.97, 1000)
    _, times = resample_trajectories(
        RAMP, T, hz=clock.hz, t_start=clock.start, num=clock.num, return_times=True
    )
    np.testing.assert_array_equal(clock.times, times, strict=True)


def test_what_is_printed(tmp_path, capsys):
    align(tmp_path, logs.DEMO, "--backend", "numba")
    out = capsys.readouterr().out
    wrench = next(line for line in out.splitlines() if line.split()[:1] == ["wrench"])
    assert " ".join(wrench.split()) == "wrench 6 1478 250.1 0.08 4.01 8.3 7 0 linear 100.0%"
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
    error = refusal(capsys, "--skip", "arm", "-o", tmp_path / "out.npz")
    assert "has no stream arm to skip, only agent_depth, " in error


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

    def stop(*_):
        raise raised

    monkeypatch.setattr(cli, "_resample", stop)
    assert cli.main(["align", "-o", str(tmp_path / "aligned.npz")]) == code
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["aligned.npz"]
    assert (tmp_path / "aligned.npz").read_bytes() == before


def test_the_module_runs_as_a_program(tmp_path):
    command = [sys.executable, "-m", "robocache_cupy", "align", "--hz", "0"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "robocache: --hz must be positive and finite, got 0\n"
