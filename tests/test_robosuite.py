"""HDF5 of robosuite, robomimic and RoboTurk: one demo is one log, and its stamps are real."""

import json

import h5py
import numpy as np
import pytest
from test_align import align, assert_aligned
from test_logs import assert_damage_is_an_error

from robocache_cupy import cli, logs

LIFT, LOW_DIM, DEPTH = (
    f"hdf5_robosuite_lift/{name}.hdf5"
    for name in ("lift_demo_robosuite", "lift_low_dim_robomimic", "lift_depth84_demo3_robomimic")
)
HANDOVER = "hdf5_roboturk_handover/handover_demo_4_5_6.hdf5"


def write(path, demos=("demo_1",), env_args=None, **datasets):
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        if env_args is not None:
            data.attrs["env_args"] = env_args
        for demo in demos:
            for name, values in {"actions": np.zeros((4, 2)), **datasets}.items():
                data[f"{demo}/{name}"] = values
    return path


STATES = np.array([[0.0, 9], [0.04, 9], [0.08, 9], [0.12, 9]])


@pytest.mark.parametrize(
    ("env_args", "states", "step_ms", "note"),
    [
        ({"env_kwargs": {"control_freq": 50}}, STATES, 20, "by control_freq, 50 Hz"),
        ({"control_freq": 10}, STATES, 100, "by control_freq, 10 Hz"),
        ({"env_kwargs": {}}, STATES, 40, "by the simulation time in states"),
        (None, STATES, 40, "by the simulation time in states"),
        (None, STATES[::-1], 50, "by robosuite's 20 Hz"),
        ({"control_freq": "fast"}, STATES[:, :0], 50, "by robosuite's 20 Hz"),
        ("{", STATES * np.nan, 50, "by robosuite's 20 Hz"),
    ],
)
def test_where_the_clock_comes_from(tmp_path, env_args, states, step_ms, note):
    text = env_args if env_args is None or isinstance(env_args, str) else json.dumps(env_args)
    log = logs.open(write(tmp_path / "log", env_args=text, states=states))
    times = 1_000_000 * step_ms * np.arange(4)
    np.testing.assert_array_equal(log.streams["demo_1/actions"].times, times, strict=True)
    assert note in log.notes[0]


def test_the_first_episode_is_the_default(tmp_path, capsys):
    path = write(tmp_path / "log", demos=["demo_10", "demo_2", "demo_1"])
    log = logs.open(path)
    assert list(log.streams) == ["demo_1/actions"]
    assert log.notes[0] == "demo_1 is one of 3 episodes: --episode NAME chooses demo_2, demo_10"
    assert list(logs.open(path, episode="demo_10").streams) == ["demo_10/actions"]
    with pytest.raises(logs.LogError, match="no episode demo_3, only demo_1, demo_2, demo_10"):
        logs.open(path, episode="demo_3")
    assert cli.main(["align", str(path), "-o", str(tmp_path / "out.npz")]) == 0
    assert "is one of 3 episodes" in capsys.readouterr().out


def test_what_is_no_stream_is_listed(tmp_path):
    datasets = {"odd": np.zeros(3), "name": np.array([b"a"] * 4), "one": 1.0, "next_obs/a": STATES}
    log = logs.open(write(tmp_path / "log", **datasets))
    assert list(log.streams) == ["demo_1/actions"]
    assert log.skipped == {
        "demo_1/name": "values are |S1, expected bool, integers or floats of up to 64 bits",
        "demo_1/odd": "3 samples, but 4 stamps",
        "demo_1/one": "a single value",
        "demo_1/next_obs": "it is obs one step later",
    }


# --- Real logs


def test_robomimic_has_its_observations(logs_dir):
    log = logs.open(logs_dir / DEPTH)
    kinds = {name.removeprefix("demo_3/obs/"): s.kind for name, s in log.streams.items()}
    assert kinds["agentview_depth"] == "depth"
    assert kinds["agentview_image"] == "image"
    assert kinds["robot0_eef_quat"] == "quat_xyzw"
    assert kinds["robot0_joint_pos"] == "vector"
    turned = {name for name, stream in log.streams.items() if stream.rotation is not None}
    assert turned == {"demo_3/obs/robot0_eef_quat"}
    camera = log.streams["demo_3/obs/agentview_depth"]
    assert camera.attrs["K"][0, 2] == 42
    assert camera.attrs["cam_to_world"].shape == (4, 4)
    assert {round(logs.timing(s.times).rate, 6) for s in log.streams.values()} == {20.0}
    np.testing.assert_array_equal(camera.times, 50_000_000 * np.arange(392))


def test_roboturk_has_the_timing_it_is_known_for(logs_dir):
    log = logs.open(logs_dir / HANDOVER, episode="demo_6")
    length = {name.removeprefix("demo_6/"): len(s) for name, s in log.streams.items()}
    assert length["user_info/0/dpos"] == length["user_info/1/dpos"] == 1070
    assert length["actions"] == 429
    assert length["controller_info/teleop_commands/arm0/position"] == 429
    assert length["controller_info/teleop_commands/arm1/position"] == 173
    users = [log.streams[f"demo_6/user_info/{user}/dpos"].times for user in "01"]
    steps = np.concatenate([np.diff(times[logs.clean(times)]) for times in users]) / 1e6
    figures = np.percentile(steps, [0, 1, 50, 99, 100])
    np.testing.assert_allclose(figures, [10, 27, 52, 71, 152], rtol=0.05)
    for demo in "demo_4", "demo_5", "demo_6":
        streams = logs.open(logs_dir / HANDOVER, episode=demo).streams
        users = [streams[f"{demo}/user_info/{user}/dpos"].times for user in "01"]
        for times in users:
            assert 0.56 <= logs.timing(times).duplicates / len(times) <= 0.60
            assert 42 < (len(times) - 1) / (times[-1] - times[0]) * 1e9 < 51
        skew = np.abs(users[0] - users[1]) / 1e6
        assert 9 <= round(np.median(skew)) <= 16
        assert skew.max() < 86


def test_roboturk_counts_in_ticks(logs_dir):
    """What has counters is stamped with the newest message that the tick had."""
    path = logs_dir / HANDOVER
    log = logs.open(path)
    with h5py.File(path) as file:
        info = file["data/demo_4/controller_info"]
        stamps = info["user_timestamps"][:].max(axis=1)
        at = dict(zip(info["counters"][:], stamps, strict=True))
        counters = info["teleop_commands/arm1_counters"][:]
    times = log.streams["demo_4/controller_info/teleop_commands/arm1/position"].times
    expected = np.array([at[counter] for counter in counters])
    np.testing.assert_allclose(times / 1e9, expected, rtol=0, atol=5e-7)
    assert "the users' messages" in log.notes[-1]
    turned = {name: s.rotation for name, s in log.streams.items() if s.rotation is not None}
    assert turned == {
        f"demo_4/{name}/rotation": "matrix"
        for name in (
            "controller_info/teleop_commands/arm0",
            "controller_info/teleop_commands/arm1",
            "user_info/0",
            "user_info/1",
        )
    }


@pytest.mark.parametrize("name", [LIFT, LOW_DIM, DEPTH, HANDOVER])
def test_aligning_a_real_log(logs_dir, tmp_path, name):
    arrays = align(tmp_path, logs_dir / name, "--hz", 15)
    assert_aligned(arrays, logs.open(logs_dir / name).streams, 15)


@pytest.mark.parametrize("name", [LIFT, LOW_DIM, DEPTH, HANDOVER])
def test_damage_of_a_real_log_is_an_error(logs_dir, tmp_path, name):
    assert_damage_is_an_error(logs_dir / name, tmp_path, copies=4)
