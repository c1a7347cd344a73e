"""Calls as NumPy users write them: lists for what is small, seeds and generators, broadcasting."""

import numpy as np
import pytest

import robocache_cupy as rc

RNG = np.random.default_rng(0)
DATA = RNG.standard_normal((2, 9, 3)).astype("float32")
TIMES = np.cumsum(RNG.integers(1, 5, (2, 9)), 1).astype("float32")
TARGETS = np.sort(RNG.uniform(0, 20, (2, 6)), 1).astype("float32")
CLOUD = RNG.uniform(-1, 1, (2, 40, 3)).astype("float32")
DEPTH = RNG.uniform(0.5, 2, (2, 6, 8)).astype("float32")
QUATERNIONS = RNG.standard_normal((2, 9, 4)).astype("float32")
POSE = np.array([[0.0, -1, 0, 0.5], [1, 0, 0, 0], [0, 0, 1, 0.125], [0, 0, 0, 1]])
K = np.array([[5.0, 0, 3.5], [0, 5.5, 2.5], [0, 0, 1]])
SIZE, EDGES, CORNER = np.array([4, 5, 3]), np.array([0.5, 0.4, 0.5]), np.array([-1.0, -1, -0.75])
GRID = {"grid_size": (4, 5, 3), "voxel_size": 0.5, "origin": (-1.0, -1.25, -0.75)}

# A function of the op's arrays; its arrays; what is small, as NumPy arrays.
SMALL = {
    "resample_trajectories": (
        rc.resample_trajectories, (DATA, TIMES, TARGETS),
        {"lengths": np.array([4, 9]), "tgt_lengths": np.array([6, 3]),
         "latency": np.array([0.0, 0.5])},
    ),
    "resample_trajectories, packed": (
        lambda data, times, targets, **small: rc.resample_trajectories(data, times, targets,
                                                                       **small),
        (DATA[0], TIMES[0], TARGETS), {"offsets": np.array([0, 4, 9])},
    ),
    "resample_backward": (
        lambda grad, times, targets, **small: rc.resample_backward(grad, times, targets, samples=9,
                                                                   **small),
        (DATA[:, :6], TIMES, TARGETS), {"lengths": np.array([4, 9])},
    ),
    "fuse_multimodal": (
        lambda data, times, targets, lengths, latency, **small: rc.fuse_multimodal(
            [rc.Stream(data, times, lengths=lengths, latency=latency), (data, times)],
            tgt_times=targets, **small),
        (DATA, TIMES, TARGETS),
        {"lengths": np.array([4, 9]), "latency": np.array([0.5, 0.25]),
         "tgt_lengths": np.array([6, 3])},
    ),
    "asof_index": (rc.asof_index, (TIMES, TARGETS), {"lengths": np.array([4, 9])}),
    "asof_index, packed": (rc.asof_index, (TIMES[0], TARGETS), {"offsets": np.array([0, 4, 9])}),
    "sample_windows": (
        lambda data, **small: rc.sample_windows(data, **small), (DATA[0],),
        {"episode_offsets": np.array([0, 4, 9]), "anchors": np.array([1, 5, 8]),
         "delta_indices": np.array([-1, 0, 2])},
    ),
    "sample_windows, by time": (
        lambda data, times, **small: rc.sample_windows(data, times=times, **small),
        (DATA[0], TIMES[0]),
        {"episode_offsets": np.array([0, 4, 9]), "anchor_times": np.array([3.0, 15.0]),
         "anchor_episode": np.array([0, 1]), "delta_timestamps": np.array([-0.5, 0.25])},
    ),
    "normalize": (
        lambda x, mean, std, mask: rc.normalize(x, {"mean": mean, "std": std}, mask=mask), (DATA,),
        {"mean": np.array([0.5, 1.0, 0.0]), "std": np.array([2.0, 1.0, 0.5]),
         "mask": np.array([True, False, True])},
    ),
    "unnormalize": (
        lambda x, mean, std: rc.unnormalize(x, {"mean": mean, "std": std}), (DATA,),
        {"mean": np.array([0.5, 1.0, 0.0]), "std": np.array([2.0, 1.0, 0.5])},
    ),
    "unwrap_quaternions": (rc.unwrap_quaternions, (QUATERNIONS,), {"lengths": np.array([4, 9])}),
    "interpolate_quaternions": (
        rc.interpolate_quaternions, (QUATERNIONS, TIMES, TARGETS), {"lengths": np.array([4, 9])},
    ),
    "interpolate_poses": (
        rc.interpolate_poses, (np.concatenate([DATA, QUATERNIONS], 2), TIMES, TARGETS),
        {"lengths": np.array([4, 9]), "latency": np.array([0.0, 0.5])},
    ),
    "voxelize_point_cloud": (
        rc.voxelize_point_cloud, (CLOUD,),
        {"grid_size": SIZE, "voxel_size": EDGES, "origin": CORNER, "lengths": np.array([40, 11]),
         "transform": POSE},
    ),
    "voxelize_point_cloud, rows": (
        rc.voxelize_point_cloud, (CLOUD,),
        {"grid_size": SIZE, "voxel_size": EDGES, "origin": np.stack([CORNER, CORNER + 0.25])},
    ),
    "voxelize_occupancy": (
        rc.voxelize_occupancy, (CLOUD,),
        {"grid_size": SIZE, "voxel_size": EDGES, "origin": CORNER},
    ),
    "voxel_indices": (
        rc.voxel_indices, (CLOUD,),
        {"grid_size": SIZE, "voxel_size": EDGES, "origin": CORNER, "lengths": np.array([40, 11]),
         "transform": POSE[:3]},
    ),
    "voxelize_sparse": (
        lambda x, **small: rc.voxelize_sparse(x, max_voxels=60, **small), (CLOUD,),
        {"grid_size": SIZE, "voxel_size": EDGES, "origin": CORNER, "lengths": np.array([40, 11])},
    ),
    "voxel_downsample": (
        lambda x, **small: rc.voxel_downsample(x, capacity=40, **small), (CLOUD,),
        {"voxel_size": EDGES, "origin": CORNER, "lengths": np.array([40, 11])},
    ),
    "farthest_point_sample": (
        lambda x, **small: rc.farthest_point_sample(x, 6, **small), (CLOUD,),
        {"lengths": np.array([40, 11]), "start": np.array([7, 3])},
    ),
    "crop_and_sample": (
        lambda x, **small: rc.crop_and_sample(x, num_samples=6, method="voxel", **small), (CLOUD,),
        {"bounds": np.array([[-1.0, -1, -1], [1, 1, 1]]), "voxel_size": EDGES,
         "lengths": np.array([40, 11])},
    ),
    "depth_to_points": (
        rc.depth_to_points, (DEPTH,),
        {"intrinsics": np.array([5.0, 5.5, 3.5, 2.5]), "cam_to_world": POSE},
    ),
    "depth_to_points, matrices": (
        rc.depth_to_points, (DEPTH,), {"intrinsics": K, "cam_to_world": np.stack([POSE, POSE.T])},
    ),
    "depth_to_voxels": (
        rc.depth_to_voxels, (DEPTH,),
        {"intrinsics": K, "cam_to_world": POSE, "grid_size": SIZE, "voxel_size": EDGES,
         "origin": CORNER},
    ),
}  # fmt: skip


def from_torch(x):
    return pytest.importorskip("torch").from_numpy(x)


def from_jax(x):
    return pytest.importorskip("jax.numpy").asarray(x)


FRAMEWORKS = pytest.mark.parametrize("convert", [np.asarray, from_torch, from_jax])


def tupled(x):
    return tuple(map(tupled, x)) if isinstance(x, list) else x


def bits(x) -> tuple:
    if isinstance(x, tuple):
        return tuple(map(bits, x))
    x = np.ascontiguousarray(x)
    return x.dtype.name, x.shape, x.tobytes()


@FRAMEWORKS
@pytest.mark.parametrize("name", SMALL)
def test_what_is_small_may_be_a_list(name, convert):
    call, arrays, small = SMALL[name]
    given = [convert(x) for x in arrays]
    expected = bits(call(*given, **small))
    assert bits(call(*given, **{key: x.tolist() for key, x in small.items()})) == expected
    # A tuple of numbers that may change is a pair, such as two ends: it is a list that is per row.
    kept = {"latency", "start"}
    tuples = {key: x if key in kept else tupled(x.tolist()) for key, x in small.items()}
    assert bits(call(*given, **tuples)) == expected


@FRAMEWORKS
@pytest.mark.parametrize("name", SMALL)
def test_each_of_the_small_ones_matters(name, convert):
    """Or a list that is overlooked would pass above."""
    if convert is not np.asarray:
        pytest.skip("once is enough")
    call, arrays, small = SMALL[name]
    expected = bits(call(*arrays, **small))
    for key, x in small.items():
        if key in ("mask", "mean", "std", "intrinsics", "voxel_size", "origin"):
            other = ~x if x.dtype == bool else x * 0.75
        elif key in ("grid_size", "bounds", "transform", "cam_to_world"):
            other = x + (np.arange(x.size).reshape(x.shape) == x.shape[-1] - 1)
        else:
            other = x.copy()
            other.flat[1] += 1 - x.flat[1] if key.endswith("lengths") else 1
        assert bits(call(*arrays, **{**small, key: other})) != expected, key


def test_functions_of_the_host_take_lists():
    stamps = [0.0, 0.1, 0.2, 0.4]
    assert repr(rc.timing_report(stamps)) == repr(rc.timing_report(np.array(stamps)))
    assert rc.window_index([3, 2], 2).tolist() == rc.window_index(np.array([3, 2]), 2).tolist()
    assert rc.relabel_goals([0, 3], 0).tolist() == rc.relabel_goals(np.array([0, 3]), 0).tolist()
    assert rc.grid_from_bounds([0, 0, 0, 1, 1, 1], [0.5, 0.5, 0.25]) == rc.grid_from_bounds(
        np.array([0, 0, 0, 1, 1, 1]), np.array([0.5, 0.5, 0.25])
    )
    assert bits(rc.voxel_centers([1, 2, 1], [0.5, 0.5, 1])) == bits(
        rc.voxel_centers((1, 2, 1), np.array([0.5, 0.5, 1]))
    )
    x, y = np.sin(np.arange(200) / 7), np.sin((np.arange(200) - 3) / 7)
    t = np.arange(200) / 100
    lists = rc.estimate_latency(x.tolist(), t.tolist(), y.tolist(), t.tolist(), 0.1)
    assert lists == rc.estimate_latency(x, t, y, t, 0.1)
    rows = [[0.0, 1.0], [2.0, 3.0]]
    stats, same = rc.compute_stats(rows), rc.compute_stats(np.array(rows))
    assert {key: x.tolist() for key, x in stats.items()} == {k: x.tolist() for k, x in same.items()}


@FRAMEWORKS
def test_interp_and_time_grid_take_lists_beside_arrays(convert):
    xp = convert(TIMES[0])
    fp = convert(DATA[0, :, 0].copy())
    expected = bits(rc.interp(convert(TARGETS[0]), xp, fp))
    assert bits(rc.interp(TARGETS[0].tolist(), xp, fp))[1] == expected[1]
    assert rc.interp([1.5], [1, 2], [10.0, 20.0]).tolist() == [15.0]
    grid = rc.time_grid(convert(TIMES[0]), convert(TIMES[1]), hz=1.0, num=5)
    assert np.asarray(grid).shape == (5,)
    assert bits(rc.time_grid([0.0, 1.0], [0.5, 2.0], hz=4.0)) == bits(
        rc.time_grid(np.array([0.0, 1.0]), np.array([0.5, 2.0]), hz=4.0)
    )


def test_rows_of_different_lengths_are_named():
    with pytest.raises((TypeError, ValueError), match="lengths"):
        rc.resample_trajectories(DATA, TIMES, TARGETS, lengths=[[4], [9, 9]])


# -------------------------------------------------------------------------------------------- seeds

CROP = {"bounds": (-1, -1, -1, 1, 1, 1), "num_samples": 6}


def draw(seed, method="random"):
    size = {"voxel_size": 0.25} if method == "voxel" else {}
    made = rc.crop_and_sample(CLOUD, **CROP, method=method, seed=seed, **size)
    return made.indices.tolist()


SEEDED = {
    "crop_and_sample": draw,
    "crop_and_sample, voxel": lambda seed: draw(seed, "voxel"),
    "random_latency": lambda seed: rc.random_latency(seed, 0.1, 0.05, 6).tolist(),
    "relabel_goals": lambda seed: rc.relabel_goals([0, 40, 90], seed).tolist(),
}


@pytest.mark.parametrize("name", SEEDED)
def test_seeds_are_integers_or_generators(name):
    draw = SEEDED[name]
    assert draw(3) == draw(3) == draw(np.int64(3))
    assert draw(3) != draw(4)
    one, other = np.random.default_rng(3), np.random.default_rng(3)
    first = draw(one)
    assert first == draw(other)
    assert first != draw(one)  # it goes on from where it is
    assert draw(None) != draw(None)


@pytest.mark.parametrize("seed", ["three", 1.5])
@pytest.mark.parametrize("name", SEEDED)
def test_what_is_no_seed_is_refused(name, seed):
    with pytest.raises((TypeError, ValueError)):
        SEEDED[name](seed)


@FRAMEWORKS
def test_generators_draw_the_same_in_every_framework(convert):
    made = rc.crop_and_sample(
        convert(CLOUD), **CROP, method="random", seed=np.random.default_rng(7)
    )
    assert np.asarray(made.indices).tolist() == draw(np.random.default_rng(7))


# ------------------------------------------------------------------------------------- broadcasting


@FRAMEWORKS
def test_one_row_of_stamps_or_targets_serves_all(convert):
    """What the documentation promises of resampling."""
    data, times, targets = DATA, TIMES[:1], TARGETS[:1]
    every = rc.resample_trajectories(
        *map(convert, (data, times.repeat(2, 0), targets.repeat(2, 0)))
    )
    one = rc.resample_trajectories(*map(convert, (data, times.repeat(2, 0), targets[0])))
    assert bits(one) == bits(every)


def test_slerp_broadcasts():
    q, t = QUATERNIONS / np.linalg.norm(QUATERNIONS, axis=-1, keepdims=True), np.float32(0.25)
    whole = rc.slerp(q[:, :-1], q[:, 1:], np.full((2, 8), t))
    assert bits(rc.slerp(q[:, :-1], q[:, 1:], 0.25)) == bits(whole)
