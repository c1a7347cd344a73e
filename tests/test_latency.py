"""The latency between two recordings of one motion is found, whatever sensors recorded it."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from robocache_cupy import logs
from robocache_cupy.latency import estimate_latency, random_latency

EPOCH = 1_700_000_000
MS = 1e-3
HALF_MS = 0.5 * MS


def clock(rng, hz, seconds=30.0, jitter=0.2, lost=0.05):
    """Stamps with jitter (in steps), lost samples, and an outage of a second."""
    t = (np.arange(0, seconds, 1 / hz) * hz + rng.uniform(-jitter, jitter, int(seconds * hz))) / hz
    return t[(rng.random(len(t)) >= lost) & ((t < 9) | (t > 10))]


def waves(rng, columns, fastest=2.0):
    """A smooth random motion of some columns."""
    hz, phase = rng.uniform(0.1, fastest, (2, 10, columns))
    size = rng.normal(size=(10, columns)) / (1 + hz)
    return lambda t: np.sum(size * np.sin(2 * np.pi * hz * t[:, None, None] + 9 * phase), axis=1)


def noisy(rng, x, size):
    return x + size * rng.normal(size=x.shape)


RATES = [(500, 30), (30, 500), (30, 30), (50, 50), (100, 60), (200, 333)]


@pytest.mark.parametrize("rates", RATES, ids=str)
@pytest.mark.parametrize("seed", range(2))
def test_signals(rates, seed):
    rng = np.random.default_rng(seed)
    motion, (tx, ty) = waves(rng, 1), (clock(rng, hz) for hz in rates)
    latency = rng.uniform(-0.3, 0.3)
    x, y = noisy(rng, motion(tx), 0.003)[:, 0], noisy(rng, 40 + 3 * motion(ty), 0.01)
    found, score = estimate_latency(x, tx, y, ty + latency, 0.5, return_score=True)
    assert abs(found - latency) < HALF_MS
    assert 0.99 < score <= 1


@pytest.mark.parametrize("rates", RATES, ids=str)
def test_positions_in_different_frames_and_units(rates):
    rng = np.random.default_rng(1)
    motion, (tx, ty) = waves(rng, 3), (clock(rng, hz) for hz in rates)
    turn = Rotation.random(random_state=2).as_matrix()
    x, y = noisy(rng, motion(tx), 0.001), noisy(rng, 5 + 1000 * motion(ty) @ turn.T, 1.0)
    assert abs(estimate_latency(x, tx, y, ty - 0.123, 0.3) + 0.123) < HALF_MS


def mounted(quats):
    return Rotation.random(random_state=3) * quats * Rotation.random(random_state=4)


@pytest.mark.parametrize("rates", RATES[::2], ids=str)
@pytest.mark.parametrize("seen", ["body", "inverse", "wxyz", "mirrored"])
def test_poses_of_sensors_mounted_anyhow(rates, seen):
    rng = np.random.default_rng(1)
    motion, (tx, ty) = waves(rng, 3), (clock(rng, hz) for hz in rates)

    def rotation(t):
        return Rotation.from_rotvec(noisy(rng, 0.6 * motion(t), 0.001))

    x = rotation(tx).as_quat()
    y = mounted(rotation(ty)).as_quat()
    if seen == "inverse":
        y[:, :3] *= -1
    elif seen == "mirrored":
        y[:, [0, 3]] *= -1
    elif seen == "wxyz":
        y = y[:, [3, 0, 1, 2]]
    y *= rng.choice([-1, 1], (len(y), 1))
    poses = np.hstack([rng.normal(size=(len(y), 3)), y])  # the position is not looked at
    for kind in (None, "pose"):
        found = estimate_latency(x, tx, poses, ty + 0.0871, 0.3, kind=kind)
        assert abs(found - 0.0871) < HALF_MS


def test_a_pose_from_the_norms_or_by_name():
    rng = np.random.default_rng(0)
    t = np.arange(0, 20, 0.01)
    joints = waves(rng, 7)(t)  # seven columns, but no quaternion
    assert abs(estimate_latency(joints, t, joints, t + 0.02, 0.1) - 0.02) < HALF_MS
    quats = Rotation.from_rotvec(waves(rng, 3)(t)).as_quat()
    long = quats * (1 + t[:, None])
    assert abs(estimate_latency(quats, t, long, t + 0.02, 0.1, kind="pose") - 0.02) < HALF_MS


def test_what_is_aligned_with_it_agrees():
    rng = np.random.default_rng(0)
    motion, tx, ty = waves(rng, 1), clock(rng, 200), clock(rng, 100)
    x, y = motion(tx)[:, 0], motion(ty)[:, 0]
    stamps = ty + 0.05
    latency = estimate_latency(x, tx, y, stamps, 0.2)
    inside = (tx > 1) & (tx < 8)
    aligned = np.interp(tx[inside], stamps - latency, y)
    assert np.abs(aligned - x[inside]).max() < 0.02 < np.abs(np.interp(tx, stamps, y) - x).max()


@pytest.mark.parametrize(
    ("dtype", "unit"),
    [("int64", "ns"), ("int64", "us"), ("datetime64[us]", None), ("float64", "ms")],
)
def test_clocks_of_an_epoch(dtype, unit):
    rng = np.random.default_rng(0)
    motion, tx, ty = waves(rng, 1), clock(rng, 200), clock(rng, 100)
    per_second = {"ns": 10**9, "us": 10**6, "ms": 10**3}[unit or "us"]
    stamps = [
        (np.rint(t * per_second).astype(np.int64) + EPOCH * per_second).astype(dtype)
        for t in (tx, ty + 0.1)
    ]
    options = {} if unit == "ns" else {"time_unit": unit}
    found = estimate_latency(motion(tx), stamps[0], motion(ty), stamps[1], 0.2, **options)
    assert abs(found - 0.1) < HALF_MS


def test_arrays_of_any_library(lib):
    rng = np.random.default_rng(0)
    t = np.arange(0, 10, 0.02)
    x = waves(rng, 1)(t)
    arrays = [lib.array(a) for a in (x, t, x, t + 0.03)]
    assert estimate_latency(*arrays, 0.1) == estimate_latency(x, t, x, t + 0.03, 0.1)


def test_lists_and_narrow_floats():
    t = np.arange(0, 10, 0.02)
    x = waves(np.random.default_rng(0), 1)(t)[:, 0]
    found = estimate_latency(x.tolist(), t.tolist(), x.astype("f4"), (t + 0.03).astype("f4"), 0.1)
    assert abs(found - 0.03) < HALF_MS


def test_disorder_and_missing_samples():
    rng = np.random.default_rng(0)
    t = np.arange(0, 20, 0.02)
    x = waves(rng, 1)(t)
    order = np.append(rng.permutation(len(t)), [5, 5])  # two stamps are repeated, as they were
    y, ty = x[order].copy(), t[order] + 0.03
    y[rng.random(len(y)) < 0.1] = np.nan
    ty[rng.random(len(ty)) < 0.1] = np.nan
    assert abs(estimate_latency(x, t, y, ty, 0.1) - 0.03) < HALF_MS


def test_recordings_that_overlap_in_part():
    rng = np.random.default_rng(0)
    motion, t = waves(rng, 3), clock(rng, 100)
    x, y = t < 20, t > 12
    found = estimate_latency(motion(t[x]), t[x], motion(t[y]), t[y] + 0.4, 1.0)
    assert abs(found - 0.4) < HALF_MS


def test_a_long_recording_is_searched_in_blocks(monkeypatch):
    rng = np.random.default_rng(0)
    motion, tx, ty = waves(rng, 3), clock(rng, 100), clock(rng, 60)
    once = estimate_latency(motion(tx), tx, motion(ty), ty + 0.2, 0.5)
    monkeypatch.setattr("robocache_cupy.latency._BLOCK", 7)
    assert estimate_latency(motion(tx), tx, motion(ty), ty + 0.2, 0.5) == once


def test_opposite_signals_do_not_correlate():
    x, t = np.random.default_rng(0).normal(size=2000), np.arange(0, 20, 0.01)
    assert estimate_latency(x, t, x, t, 0.5, return_score=True)[1] > 0.99
    assert estimate_latency(x, t, -x, t, 0.5, return_score=True)[1] < 0.3


def test_noise_is_not_trusted():
    rng = np.random.default_rng(0)
    t = np.arange(0, 20, 0.01)
    x, y = rng.normal(size=(2, len(t)))
    _, score = estimate_latency(x, t, y, t, 0.5, return_score=True)
    assert score < 0.3


# The figures of SOURCE.txt, "arm -> camera +18 ms" and "vicon -> camera -16 ms", have the sign of
# the latency of the second file against the first: the stamps of the camera are 18 ms later than
# those of the arm for the same motion, and 16 ms earlier than those of the Vicon.
@pytest.mark.parametrize(
    ("first", "second", "seconds"),
    [
        ("arm_base_link_sr300_hinge", "arm_target_ir", 0.018),
        ("vicon_prime_sense_2", "camera_prime_sense_2", -0.016),
    ],
)
def test_real_cameras(logs_dir, first, second, seconds):
    folder = logs_dir / "csv_arm_camera_clock_offset"
    streams = [logs.open(folder / f"{name}.csv").streams[name] for name in (first, second)]
    x, y = ((stream.values, stream.times) for stream in streams)
    assert abs(estimate_latency(*x, *y, 0.5) - seconds) < 6 * MS
    assert abs(estimate_latency(*y, *x, 0.5) + seconds) < 6 * MS


T = np.arange(0, 10, 0.01)
WAVE = np.sin(T) + np.sin(3.1 * T)
TURN = Rotation.from_rotvec(np.outer(T, [0, 0, 0.5])).as_quat()  # at a constant speed
NODS = Rotation.from_rotvec(np.outer(WAVE, [0, 1, 0])).as_quat()


@pytest.mark.parametrize(
    ("x", "tx", "y", "ty", "said"),
    [
        (WAVE, T, WAVE, T + 100, "x and y overlap for 0 s without gaps, expected at least 0.16 s"),
        (WAVE, T, WAVE[:9], T[:9], "x and y overlap for .* s"),
        (WAVE, T, WAVE[::2], T[::2] + 11, "x and y overlap for 0 s"),
        (0 * WAVE, T, WAVE, T, "x does not move where x and y overlap$"),
        (WAVE, T, 0 * WAVE + 0.3, T, "y does not move where x and y overlap$"),
        (WAVE, T, np.outer(T, [1, 2]), T, "y does not move .*, or always at the same speed"),
        (TURN, T, NODS, T, "x does not move .*, or always at the same speed"),
        (NODS, T, 0 * NODS + 0.5, T, "y does not move"),
        (WAVE, T, WAVE, T + 0.4, "highest at a lag of .*0.3.* s, the end of what was searched"),
        (WAVE[:2], T[:2], WAVE, T, "x has 2 samples with stamps of their own, expected 3 or more"),
        (WAVE, T, WAVE, T * 0, "y has 1 samples with stamps of their own"),
        (WAVE, T, WAVE, T[:-1], r"ty has shape \(999,\), expected \(1000,\)"),
        (WAVE, T[None], WAVE, T, r"tx has shape \(1, 1000\), expected \(1000,\)"),
        (WAVE[:, None, None], T, WAVE, T, r"x has shape \(1000, 1, 1\), expected \[S\] or"),
        (np.zeros((1000, 0)), T, WAVE, T, r"x has shape \(1000, 0\)"),
    ],
)
def test_recordings_that_tell_nothing(x, tx, y, ty, said):
    with pytest.raises(ValueError, match=said):
        estimate_latency(x, tx, y, ty, 0.3)


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"max_lag": 0}, ValueError, "max_lag is 0, expected a finite number of seconds above 0"),
        ({"max_lag": -1}, ValueError, "max_lag is -1"),
        ({"max_lag": np.inf}, ValueError, "max_lag is inf"),
        ({"max_lag": "1"}, TypeError, "max_lag is '1', expected a duration in seconds"),
        ({"window": 0}, ValueError, "window is 0"),
        ({"kind": "imu"}, ValueError, "kind is 'imu', expected one of 'signal', 'pose'"),
        ({"kind": "pose"}, ValueError, "x has 1 columns, expected poses of 7"),
        ({"ty": T.astype("M8[s]")}, TypeError, "different kinds of clock"),
        ({"time_unit": "h"}, ValueError, "time_unit is 'h'"),
        ({"x": WAVE * 1j}, TypeError, "x has dtype complex128"),
        ({"x": None}, TypeError, "x is a NoneType"),
        ({"x": 0 * TURN, "kind": "pose"}, ValueError, "x holds a quaternion of zeros"),
    ],
)
def test_arguments(change, error, said):
    arguments = {"x": WAVE, "tx": T, "y": WAVE, "ty": T, "max_lag": 0.3} | change
    with pytest.raises(error, match=said):
        estimate_latency(**arguments)


def test_random_latency_is_uniform():
    latency = random_latency(7, 0.05, 0.02, 100_000)
    assert latency.dtype == np.float64
    assert 0.03 <= latency.min() < 0.0301 < 0.0699 < latency.max() <= 0.07
    counts, _ = np.histogram(latency, 10, (0.03, 0.07))
    assert np.all(abs(counts - 10_000) < 500)


def test_random_latency_is_that_of_its_seed():
    np.testing.assert_array_equal(random_latency(7, 0.1, 0.01, 5), random_latency(7, 0.1, 0.01, 5))
    rng = np.random.default_rng(7)
    np.testing.assert_array_equal(
        random_latency(7, 0.1, 0.01, 5), random_latency(rng, 0.1, 0.01, 5)
    )
    assert np.any(random_latency(rng, 0.1, 0.01, 5) != random_latency(7, 0.1, 0.01, 5))


def test_random_latency_without_jitter_and_below_zero():
    np.testing.assert_array_equal(random_latency(0, -0.016, 0.0, 3), [-0.016] * 3)
    assert np.any(random_latency(0, 0.0, 0.01, 100) < 0)


@pytest.mark.parametrize(
    ("mean", "jitter", "said"),
    [(np.nan, 0.1, "mean is nan"), (0.1, -0.1, "jitter is -0.1"), (0.1, np.inf, "jitter is inf")],
)
def test_random_latency_errors(mean, jitter, said):
    with pytest.raises(ValueError, match=said):
        random_latency(0, mean, jitter, 3)


@pytest.mark.parametrize(
    ("mean", "jitter", "said"),
    [(".05", 0.1, "mean is '.05'"), (0.1, None, "jitter is None"), (0.1, [0.1], "jitter is")],
)
def test_random_latency_takes_numbers(mean, jitter, said):
    with pytest.raises(TypeError, match=said):
        random_latency(0, mean, jitter, 3)
