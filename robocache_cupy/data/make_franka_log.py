"""Record the bundled log: a Franka Panda (robosuite Lift on MuJoCo), each sensor on its own clock.

    pip install robosuite==1.5.2 h5py
    MUJOCO_GL=egl python make_franka_log.py franka_multirate.hdf5

The motion, forces and depth images are physics. The stamps get what real recorders add, from a
fixed seed: jitter, lost samples, one camera outage, repeated stamps, and cameras that are late by
a constant. Layout: streams/<name>/t (int64 ns) and streams/<name>/values, with the attributes
`kind` (vector, pose_xyz_quat_xyzw, depth) and `unit`, and for cameras `latency_s`, `K`,
`depth_to_meters` and `pixel_offset`. The pose of a camera, `cam_to_world`, is an attribute where
the camera is fixed and a dataset with one pose per frame where it moves.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

SECONDS, HEIGHT, WIDTH = 6.0, 120, 160
EPOCH = 1_762_430_400_000_000_000  # 2025-11-06 12:00 UTC
CAMERAS = {"agent_depth": ("agentview", 17), "wrist_depth": ("robot0_eye_in_hand", 33)}
CAMERA_LATENCY = 35_000_000
KINDS = {
    "joint_pos": ("vector", "rad"),
    "joint_vel": ("vector", "rad/s"),
    "ee_pose": ("pose_xyz_quat_xyzw", "m, 1"),
    "wrench": ("vector", "N, N m"),
    "gripper": ("vector", "closed = 0, open = 1"),
}


class Recorder:
    """Takes samples after each 2 ms step of the simulation."""

    def __init__(self, env: Any) -> None:
        self.sim, self.robot = env.sim, env.robots[0]
        self.samples: dict[str, list[Any]] = {name: [] for name in (*KINDS, *CAMERAS)}
        self.stamps: dict[str, list[int]] = {name: [] for name in self.samples}
        self.wrist_poses: list[Any] = []
        self.steps = 0

    def after(self, step: Any) -> Any:
        """`step`, with a record of what it led to."""

        def recorded(*args: Any, **kwargs: Any) -> Any:
            result = step(*args, **kwargs)
            self.record()
            return result

        return recorded

    def put(self, name: str, value: Any) -> None:
        self.stamps[name].append(round(self.sim.data.time * 1e9))
        self.samples[name].append(value)

    def record(self) -> None:
        from robosuite.utils.camera_utils import get_camera_extrinsic_matrix, get_real_depth_map
        from robosuite.utils.transform_utils import mat2quat

        data, model, robot = self.sim.data, self.sim.model, self.robot
        self.put("joint_pos", data.qpos[robot._ref_joint_pos_indexes].astype("f4"))
        self.put("joint_vel", data.qvel[robot._ref_joint_vel_indexes].astype("f4"))
        if self.steps % 2 == 0:
            wrench = np.r_[robot.ee_force["right"], robot.ee_torque["right"]]
            self.put("wrench", wrench.astype("f4"))
        if self.steps % 8 == 0:
            site = model.site_name2id(robot.gripper["right"].important_sites["grip_site"])
            rotation = mat2quat(data.site_xmat[site].reshape(3, 3))
            self.put("ee_pose", np.r_[data.site_xpos[site], rotation].astype("f4"))
        if self.steps % 50 == 0:
            finger = data.qpos[robot._ref_gripper_joint_pos_indexes["right"]][0]
            self.put("gripper", np.array([finger > 0.03], "i1"))
        for name, (camera, every) in CAMERAS.items():
            if self.steps % every == 0:
                _, depth = self.sim.render(
                    camera_name=camera, width=WIDTH, height=HEIGHT, depth=True
                )
                meters = get_real_depth_map(self.sim, depth)[::-1, :, ...].squeeze()
                self.put(name, np.round(meters * 1000).astype("u2"))
                if name == "wrist_depth":
                    self.wrist_poses.append(get_camera_extrinsic_matrix(self.sim, camera))
        self.steps += 1


def simulate() -> Recorder:
    import robosuite
    from robosuite.controllers import load_composite_controller_config

    env = robosuite.make(
        "Lift",
        robots="Panda",
        controller_configs=load_composite_controller_config(controller="BASIC", robot="Panda"),
        has_renderer=False,
        has_offscreen_renderer=True,
        use_camera_obs=False,
        control_freq=20,
        horizon=10**6,
        seed=0,
    )
    env.reset()
    recorder = Recorder(env)
    for hook in ("step", "step2"):
        if hasattr(env.sim, hook):
            setattr(env.sim, hook, recorder.after(getattr(env.sim, hook)))

    low, _ = env.action_spec
    for i in range(int(SECONDS * 20)):
        action = np.zeros_like(low)
        action[:3] = 0.35 * np.sin(2 * np.pi * i / 40 + np.arange(3))
        action[3:6] = 0.25 * np.cos(2 * np.pi * i / 60 + np.arange(3))
        action[-1] = 1.0 if (i // 30) % 2 else -1.0
        env.step(action)
    return recorder


def perturb(name: str, t: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    """The stamps as a real recorder gives them, and which samples it keeps."""
    keep = np.ones(len(t), bool)
    period = int(np.median(np.diff(t)))
    late = np.minimum(np.abs(rng.normal(0, 0.04 * period, len(t))), 0.45 * period)
    t = t + late.astype("i8")  # never so late that the order changes
    keep[rng.random(len(t)) < 0.015] = False
    keep[[0, -1]] = True
    if name in CAMERAS:
        t += CAMERA_LATENCY
    if name == "agent_depth":  # an outage
        keep[(t - EPOCH > 3_000_000_000) & (t - EPOCH < 3_300_000_000)] = False
    if name == "wrench":  # a driver that repeats a stamp
        repeated = t[101:2000:200]
        repeated[:] = t[100:1999:200][: len(repeated)]
    return t, keep


def write(path: str, recorder: Recorder) -> None:
    import h5py
    from robosuite.utils.camera_utils import (
        get_camera_extrinsic_matrix,
        get_camera_intrinsic_matrix,
    )

    rng = np.random.default_rng(7)
    with h5py.File(path, "w") as file:
        file.attrs["description"] = (
            "Franka Panda, robosuite Lift on MuJoCo; stamps perturbed from a fixed seed "
            "(see make_franka_log.py)"
        )
        # The order decides which random numbers a stream gets.
        for name in ("joint_pos", "joint_vel", "ee_pose", "wrench", "gripper", *CAMERAS):
            values = np.stack(recorder.samples[name])
            t, keep = perturb(name, np.array(recorder.stamps[name]) + EPOCH, rng)
            group = file.create_group(f"streams/{name}")
            group["t"] = t[keep]
            group.create_dataset(
                "values",
                data=values[keep],
                compression="gzip",
                compression_opts=9,
                shuffle=True,
                chunks=(min(len(t), 16), *values.shape[1:]) if name in CAMERAS else True,
            )
            if name not in CAMERAS:
                kind, unit = KINDS[name]
                group.attrs.update(kind=kind, unit=unit)
                continue
            camera = CAMERAS[name][0]
            group.attrs.update(
                kind="depth",
                unit="mm",
                depth_to_meters=0.001,
                pixel_offset=0.5,
                convention="opencv",
                K=get_camera_intrinsic_matrix(recorder.sim, camera, HEIGHT, WIDTH),
                latency_s=CAMERA_LATENCY / 1e9,
            )
            if name == "wrist_depth":
                group["cam_to_world"] = np.stack(recorder.wrist_poses)[keep].astype("f4")
            else:
                group.attrs["cam_to_world"] = get_camera_extrinsic_matrix(recorder.sim, camera)


if __name__ == "__main__":
    write(sys.argv[1] if len(sys.argv) > 1 else "franka_multirate.hdf5", simulate())
