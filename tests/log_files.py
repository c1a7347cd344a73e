"""Small logs for the tests of the readers: HDF5, and one set of messages in each kind of bag."""

import h5py
import numpy as np

START = 1_700_000_000_000_000_000
STEP = 100_000_000  # between headers; messages are recorded 7 ms after their stamp
LATE = 7_000_000
COUNT = 5


def write_hdf5(path, streams, **attrs):
    """`streams` has a pair (t, values) by name; `attrs` has the attributes of a stream by name."""
    with h5py.File(path, "w") as file:
        for name, (t, values) in streams.items():
            group = file.create_group(f"streams/{name}")
            group["t"], group["values"] = t, values
            group.attrs.update(attrs.get(name, {}))
    return path


def messages(store, ros1):
    """Topic, message and time of recording: what is ordinary, and what a reader may trip over."""
    Time = store.types["builtin_interfaces/msg/Time"]

    def make(name, /, **fields):
        return store.types[name](**fields)

    def header(stamp, frame="base"):
        sequence = {"seq": 0} if ros1 else {}
        stamp = Time(*divmod(stamp, 1_000_000_000))
        return make("std_msgs/msg/Header", **sequence, stamp=stamp, frame_id=frame)

    def vector(x, y, z):
        return make("geometry_msgs/msg/Vector3", x=x, y=y, z=z)

    def quaternion(*xyzw):
        return make("geometry_msgs/msg/Quaternion", **dict(zip("xyzw", xyzw, strict=True)))

    def transform(stamp, child, x):
        return make(
            "geometry_msgs/msg/TransformStamped",
            header=header(stamp),
            child_frame_id=child,
            transform=make(
                "geometry_msgs/msg/Transform",
                translation=vector(x, 0.0, 0.0),
                rotation=quaternion(0.0, 0.0, 0.0, 1.0),
            ),
        )

    for i in range(COUNT):
        stamp = START + i * STEP
        yield from (
            (topic, message, stamp + LATE)
            for topic, message in {
                "/force": make(
                    "geometry_msgs/msg/Vector3Stamped",
                    header=header(stamp),
                    vector=vector(float(i), 0.5, -1.0),
                ),
                "/never_stamped": make(
                    "geometry_msgs/msg/Vector3Stamped",
                    header=header(0),
                    vector=vector(float(i), 0.0, 0.0),
                ),
                "/orientation": make(
                    "geometry_msgs/msg/QuaternionStamped",
                    header=header(stamp),
                    quaternion=quaternion(0.0, 0.0, 0.6, 0.8),
                ),
                "/unset": make(
                    "geometry_msgs/msg/QuaternionStamped",
                    header=header(stamp),
                    quaternion=quaternion(0.0, 0.0, 0.0, 0.0),
                ),
                "/imu": make(
                    "sensor_msgs/msg/Imu",
                    header=header(stamp),
                    orientation=quaternion(0.6, 0.0, 0.0, 0.8),
                    orientation_covariance=np.arange(9.0),
                    angular_velocity=vector(0.0, 0.0, float(i)),
                    angular_velocity_covariance=np.arange(9.0),
                    linear_acceleration=vector(0.0, 0.0, 9.8),
                    linear_acceleration_covariance=np.arange(9.0),
                ),
                "/fix": make(
                    "sensor_msgs/msg/NavSatFix",
                    header=header(stamp),
                    status=make("sensor_msgs/msg/NavSatStatus", status=i, service=1),
                    latitude=52.0,
                    longitude=13.0,
                    altitude=float(i),
                    position_covariance=np.arange(9.0),
                    position_covariance_type=2,
                ),
                "/joints": make(
                    "sensor_msgs/msg/JointState",
                    header=header(stamp),
                    name=["a", "b"],
                    position=np.array([i, -i], "f8"),
                    velocity=np.array([]),
                    effort=np.zeros(1 + i // 3),
                ),
                "/camera": make(
                    "sensor_msgs/msg/Image",
                    header=header(stamp),
                    height=2,
                    width=3,
                    encoding="mono8",
                    is_bigendian=0,
                    step=3,
                    data=np.full(6, i, "u1"),
                ),
                "/clock_check": make(
                    "sensor_msgs/msg/TimeReference",
                    header=header(stamp),
                    time_ref=Time(12, 5 + i),
                    source="gps",
                ),
                "/count": make("std_msgs/msg/UInt16", data=i),
                "/closed": make("std_msgs/msg/Bool", data=i % 2 == 0),
                "/chatter": make("std_msgs/msg/String", data="hello"),
                "/nothing": make("std_msgs/msg/Empty"),
                "/tf": make(
                    "tf2_msgs/msg/TFMessage",
                    transforms=[transform(stamp, "/laser", float(i))]
                    + ([transform(stamp - 1, "camera", 2.0)] if i == 3 else []),
                ),
                "/tf_empty": make("tf2_msgs/msg/TFMessage", transforms=[]),
            }.items()
        )


def write_ros1(path):
    from rosbags import rosbag1
    from rosbags.typesys import Stores, get_types_from_msg, get_typestore

    store = get_typestore(Stores.ROS1_NOETIC)
    transforms = "geometry_msgs/TransformStamped[] transforms"
    store.register(get_types_from_msg(transforms, "tf2_msgs/msg/TFMessage"))
    connections = {}
    with rosbag1.Writer(path) as writer:
        for topic, message, time in messages(store, ros1=True):
            if topic not in connections:
                connections[topic] = writer.add_connection(
                    topic, message.__msgtype__, typestore=store
                )
            raw = store.serialize_ros1(message, message.__msgtype__)
            writer.write(connections[topic], time, raw)
    return path


def write_ros2(path, storage):
    """A directory, with metadata.yaml and one file beside it."""
    from rosbags import rosbag2
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    plugin = {"mcap": rosbag2.StoragePlugin.MCAP, "db3": rosbag2.StoragePlugin.SQLITE3}[storage]
    connections = {}
    with rosbag2.Writer(path, version=9, storage_plugin=plugin) as writer:
        for topic, message, time in messages(store, ros1=False):
            if topic not in connections:
                connections[topic] = writer.add_connection(
                    topic, message.__msgtype__, typestore=store
                )
            raw = store.serialize_cdr(message, message.__msgtype__)
            writer.write(connections[topic], time, raw)
    return path
