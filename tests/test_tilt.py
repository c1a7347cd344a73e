"""A laser on a tilting mount: where its points lie depends on how its tilt is put on its clock.

The mount reports its tilt 20 times a second, and a beam leaves every 17.36 us.
"""

from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

import robocache_cupy as rc


class Laser(NamedTuple):
    """The log: S scans of N beams and T tilts."""

    scans: NDArray[np.int64]  # [S] stamps of the first beams, ns
    beams: NDArray[np.int64]  # [S, N] stamps of all beams, ns
    points: NDArray[np.float64]  # [S, N, 3] in the frame of the mount, m
    echo: NDArray[np.bool_]  # [S, N] beams that came back while the tilt was known
    times: NDArray[np.int64]  # [T] stamps of the tilts, ns
    tilts: NDArray[np.float64]  # [T, 4] quaternions, w last

    def cloud(self, tilts: Any) -> NDArray[np.float64]:
        """The echoes [P, 3] in the frame of the robot, with the tilt of each beam [S, N, 4]."""
        return rotate(np.asarray(tilts, np.float64)[self.echo], self.points[self.echo])


def rotate(quaternions, points):
    from scipy.spatial.transform import Rotation

    return Rotation.from_quat(quaternions).apply(points)


def ns(stamp) -> int:
    return stamp.sec * 10**9 + stamp.nanosec


@pytest.fixture(scope="module")
def laser(logs_dir) -> Laser:
    from rosbags.highlevel import AnyReader

    scans, tilts, mount = [], {}, None
    with AnyReader([logs_dir / "ros1_tilt_laser" / "tilt_laser.bag"]) as bag:
        wanted = [x for x in bag.connections if x.topic in ("/scan", "/tf")]
        for connection, _, raw in bag.messages(connections=wanted):
            message = bag.deserialize(raw, connection.msgtype)
            if connection.topic == "/scan":
                scans.append(message)
                continue
            for t in message.transforms:
                q = t.transform.rotation
                if t.child_frame_id == "/tilt_axis":
                    tilts[ns(t.header.stamp)] = (q.x, q.y, q.z, q.w)
                elif t.child_frame_id == "/laser":
                    p = t.transform.translation
                    mount = (q.x, q.y, q.z, q.w), (p.x, p.y, p.z)
    times, tilts = np.array(list(tilts)), np.array(list(tilts.values()))
    first, number = scans[0], np.arange(len(scans[0].ranges))
    angle = first.angle_min + number * first.angle_increment
    ranges = np.array([scan.ranges for scan in scans], np.float64)
    flat = ranges[..., None] * np.stack([np.cos(angle), np.sin(angle), np.zeros_like(angle)], 1)
    points = rotate(mount[0], flat.reshape(-1, 3)).reshape(flat.shape) + mount[1]
    stamps = np.array([ns(scan.header.stamp) for scan in scans])
    beams = stamps[:, None] + np.rint(number * first.time_increment * 1e9).astype(np.int64)
    echo = (ranges > 0.1) & (ranges < 30) & (beams >= times[0]) & (beams <= times[-1])
    return Laser(stamps, beams, points, echo, times, tilts)


@pytest.fixture(scope="module")
def exact(laser) -> NDArray[np.float64]:
    """The points as SciPy finds them, beam for beam."""
    from scipy.spatial.transform import Rotation, Slerp

    seconds = (laser.times - laser.times[0]) / 1e9
    at = Slerp(seconds, Rotation.from_quat(laser.tilts))
    return at((laser.beams - laser.times[0])[laser.echo] / 1e9).apply(laser.points[laser.echo])


def aligned(lib, laser, targets, dtype="float64", **options):
    """The tilts at the targets, on `lib`."""
    result = rc.interpolate_quaternions(
        lib.array(laser.tilts.astype(dtype)),
        lib.array(laser.times),
        lib.array(targets.ravel()),
        **options,
    )
    if not options.get("return_valid"):
        return lib.numpy(result).reshape(*targets.shape, 4)
    return lib.numpy(result.values).reshape(*targets.shape, 4), lib.numpy(result.valid)


def test_the_log_is_the_one_described(laser):
    assert laser.beams.shape == (178, 1078)
    assert laser.echo.sum() == 110_868
    assert np.median(np.diff(laser.beams)) == pytest.approx(17_360, abs=5)  # ns
    assert 1e9 / np.median(np.diff(laser.times)) == pytest.approx(20, abs=1)


@pytest.mark.parametrize(("dtype", "within"), [("float64", 1e-9), ("float32", 1e-5)])
def test_a_tilt_for_each_beam_gives_the_points_of_scipy(lib, laser, exact, dtype, within):
    tilts, valid = aligned(lib, laser, laser.beams, dtype, return_valid=True)
    assert tilts.dtype == dtype
    np.testing.assert_array_equal(
        valid, ((laser.beams >= laser.times[0]) & (laser.beams <= laser.times[-1])).ravel()
    )
    assert np.linalg.norm(laser.cloud(tilts) - exact, axis=1).max() < within  # m


def test_holding_the_last_tilt_is_off_by_15_cm(lib, laser, exact):
    held = aligned(lib, laser, laser.beams, method="previous")
    errors = 100 * np.linalg.norm(laser.cloud(held) - exact, axis=1)
    assert np.percentile(errors, [50, 95, 100]) == pytest.approx([0.5, 4.1, 15.3], abs=0.05)


def test_one_tilt_for_a_scan_is_off_by_10_cm(lib, laser, exact):
    nearest = aligned(lib, laser, laser.scans, method="nearest")
    tilts = np.broadcast_to(nearest[:, None], (*laser.beams.shape, 4))
    errors = 100 * np.linalg.norm(laser.cloud(tilts) - exact, axis=1)
    assert np.percentile(errors, [50, 95, 100]) == pytest.approx([0.4, 3.0, 10.3], abs=0.05)
