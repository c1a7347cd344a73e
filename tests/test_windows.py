import itertools

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import robocache_cupy as rc
from robocache_cupy._core.kernel import Kernel
from robocache_cupy._core.plan import Op

EPOCH = 1_760_000_000_123_456_789  # float64 has steps of 256 ns there
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
OFFSETS = np.array([0, 3, 3, 4, 12, 12, 20])  # episodes of 3, 0, 1, 8, 0 and 8 samples
N = 20
rng = np.random.default_rng


def on(lib, x):
    """The NumPy arrays in an argument as arrays of the library."""
    if isinstance(x, dict):
        return {key: on(lib, value) for key, value in x.items()}
    return lib.array(x) if isinstance(x, np.ndarray) else x


def windows(lib, data, offsets, anchors=None, **options):
    """The batch as a dict of NumPy arrays."""
    options = {name: on(lib, x) if name not in STATIC else x for name, x in options.items()}
    batch = rc.sample_windows(on(lib, data), on(lib, offsets), on(lib, anchors), **options)
    if not isinstance(data, dict):
        assert isinstance(batch, rc.Windows)
        return lib.numpy(batch.values), lib.numpy(batch.is_pad)
    return {key: lib.numpy(x) for key, x in batch.items()}


STATIC = ("delta_indices", "delta_timestamps", "normalize", "method", "rotation", "pad")


def assert_same_bits(got, expected, what=""):
    """Equal in every bit, but for which NaN it is that arithmetic made."""
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape), what
    if expected.dtype.kind in "biu":
        np.testing.assert_array_equal(got, expected, what, strict=True)
        return
    nan = np.isnan(expected.astype(np.float64))
    np.testing.assert_array_equal(np.isnan(got.astype(np.float64)), nan, what, strict=True)
    x, y = (a.view(f"u{a.itemsize}")[~nan] for a in (got, expected))
    np.testing.assert_array_equal(x, y, what, strict=True)


def assert_same_batch(got, expected):
    assert list(got) == list(expected)
    for key, y in expected.items():
        assert_same_bits(got[key], y, key)


def offsets_of(lengths):
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)


def episode_of(offsets):
    """The episode of each sample."""
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


# ------------------------------------------------------------------------ LeRobot, by its own words


def lerobot_delta_indices(delta_timestamps, fps):
    """datasets/feature_utils.py: check_delta_timestamps and get_delta_indices."""
    for deltas in delta_timestamps.values():
        if not all(abs(ts * fps - round(ts * fps)) / fps <= 1e-4 for ts in deltas):
            raise ValueError("not a multiple of 1 / fps")
    return {key: [round(d * fps) for d in deltas] for key, deltas in delta_timestamps.items()}


def lerobot_item(data, offsets, idx, delta_indices):
    """datasets/lerobot_dataset.py: _get_query_indices, _query_hf_dataset and __getitem__."""
    ep_idx = next(e for e in range(len(offsets) - 1) if offsets[e] <= idx < offsets[e + 1])
    ep_start, ep_end = offsets[ep_idx], offsets[ep_idx + 1]
    query_indices = {
        key: [max(ep_start, min(ep_end - 1, idx + delta)) for delta in delta_idx]
        for key, delta_idx in delta_indices.items()
    }
    padding = {
        f"{key}_is_pad": np.array(
            [(idx + delta < ep_start) | (idx + delta >= ep_end) for delta in delta_idx], bool
        )
        for key, delta_idx in delta_indices.items()
    }
    item = {key: x[idx] for key, x in data.items()}
    item.update({key: data[key][q_idx] for key, q_idx in query_indices.items()})
    return item | padding


def lerobot_batch(data, offsets, anchors, delta_indices):
    items = [lerobot_item(data, offsets, int(a), delta_indices) for a in anchors]
    batch = {}
    for key in data:
        batch[key] = np.stack([item[key] for item in items])
        if key in delta_indices:
            batch[f"{key}_is_pad"] = np.stack([item[f"{key}_is_pad"] for item in items])
    return batch


def log(random, samples):
    """What a robot's log has in it."""
    half = random.standard_normal((samples, 3)).astype(BFLOAT16)
    state = random.standard_normal((samples, 7)).astype("f4")
    if samples:
        half[0, 0], state[0, 0] = np.nan, -0.0
    return {
        "image": random.integers(0, 256, (samples, 2, 5, 3), dtype="u1"),
        "state": state,
        "half": half,
        "done": random.random(samples) < 0.5,
        "task": random.integers(-(2**62), 2**62, samples),
    }


@settings(max_examples=60)
@given(st.data())
def test_it_is_lerobot(lib, data):
    random = rng(data.draw(st.integers(0, 2**32)))
    E = data.draw(st.sampled_from([1, 2, 5]))
    lengths = random.choice([0, 1, 2, 9], E)
    lengths[-1] = max(lengths[-1], 1)
    offsets = offsets_of(lengths)
    samples = log(random, offsets[-1])
    A, W = data.draw(st.sampled_from([1, 6])), data.draw(st.sampled_from([1, 2, 11]))
    anchors = random.integers(0, offsets[-1], A)
    delta_indices = {
        key: random.integers(-12, 13, W if key == "state" else 3).tolist()
        for key in samples
        if data.draw(st.booleans())
    }
    expected = lerobot_batch(samples, offsets, anchors, delta_indices)
    how = {
        "anchors": anchors.astype(data.draw(st.sampled_from(["i4", "i8"]))),
        "episode_offsets": offsets.astype(data.draw(st.sampled_from(["i4", "i8"]))),
    }
    if data.draw(st.booleans()):
        how = {name: x.tolist() for name, x in how.items()}
    call = lambda **deltas: windows(  # noqa: E731
        lib, samples, how["episode_offsets"], how["anchors"], **deltas
    )
    assert_same_batch(call(delta_indices=delta_indices), expected)

    fps = data.draw(st.sampled_from([10, 29.97, 30, 50.0]))
    noise = data.draw(st.sampled_from([0, 9e-5, -9e-5]))
    seconds = {key: [d / fps + noise for d in steps] for key, steps in delta_indices.items()}
    assert lerobot_delta_indices(seconds, fps) == delta_indices
    assert_same_batch(call(delta_timestamps=seconds, fps=fps), expected)


def test_every_delta_of_every_anchor(lib):
    x = np.arange(N * 3, dtype="f4").reshape(N, 3)
    deltas = list(range(-25, 26))
    anchors = np.arange(N)
    expected = lerobot_batch({"x": x}, OFFSETS, anchors, {"x": deltas})
    assert_same_batch(windows(lib, {"x": x}, OFFSETS, anchors, delta_indices=deltas), expected)
    values, is_pad = windows(lib, x, OFFSETS, anchors, delta_indices=deltas)
    assert_same_bits(values, expected["x"])
    assert_same_bits(is_pad, expected["x_is_pad"])


@pytest.mark.parametrize("delta", [0.05, 0.1 + 1.01e-4, -0.0501, 1 / 30, 1e9 + 0.05])
def test_deltas_off_the_grid(delta):
    deltas = {"x": [0.0, delta]}
    with pytest.raises(ValueError, match="not a multiple"):
        lerobot_delta_indices(deltas, 10)
    with pytest.raises(ValueError, match=r"data\['x'\].*delta_timestamps has .*1 / fps.*times="):
        rc.sample_windows({"x": np.zeros((20, 1))}, [0, 20], [3], delta_timestamps=deltas, fps=10)


def test_halves_round_as_lerobot_rounds(lib):
    """Periods of 1e-4 s and less take any delta."""
    x = np.arange(40.0)
    deltas = {"x": [0.5e-5, 1.5e-5, 2.5e-5, -0.5e-5, -1.5e-5]}
    steps = lerobot_delta_indices(deltas, 100_000)
    assert steps == {"x": [0, 2, 2, 0, -2]}
    got = windows(lib, {"x": x}, [0, 40], [20], delta_timestamps=deltas, fps=100_000)
    np.testing.assert_array_equal(got["x"], [[20.0, 22.0, 22.0, 20.0, 18.0]])


@pytest.mark.parametrize("E", [1, 2, 7, 8, 9, 63, 64, 65, 700])
def test_the_episode_of_an_anchor(lib, E):
    random = rng(E)
    lengths = random.choice([0, 0, 1, 3], E)
    lengths[E // 2] = 2
    for several in (lengths, np.append([0, 0], lengths), np.append(lengths, [0, 0])):
        offsets = offsets_of(several)
        n = offsets[-1]
        e = episode_of(offsets)
        x = np.arange(n)
        anchors = random.permutation(n)
        values, is_pad = windows(lib, x, offsets, anchors, delta_indices=[-9, 0, 9])
        first, last = offsets[e[anchors]], offsets[e[anchors] + 1] - 1
        np.testing.assert_array_equal(values, np.stack([first, anchors, last], 1))
        np.testing.assert_array_equal(is_pad, np.broadcast_to([True, False, True], (n, 3)))


def test_many_windows(lib):
    """More than a block and a thread take on at once, in an order without order."""
    random = rng(0)
    lengths = random.integers(0, 60, 80)
    offsets = offsets_of(lengths)
    n, e = offsets[-1], episode_of(offsets)
    anchors = random.integers(0, n, 3000)
    deltas = {"wide": list(range(-30, 30, 2)), "narrow": [0, -1, 1]}
    data = {
        "wide": random.standard_normal((n, 33)).astype("f4"),
        "narrow": random.integers(0, 9, n, dtype="u1"),
        "plain": random.standard_normal((n, 2)),
    }
    got = windows(lib, data, offsets, anchors, delta_indices=deltas)
    for key, steps in deltas.items():
        j = anchors[:, None] + np.array(steps)
        low, high = offsets[e[anchors]][:, None], offsets[e[anchors] + 1][:, None] - 1
        assert_same_bits(got[key], data[key][np.clip(j, low, high)])
        assert_same_bits(got[f"{key}_is_pad"], (j < low) | (j > high))
    assert_same_bits(got["plain"], data["plain"][anchors])


# ------------------------------------------------------------------------------------------ padding


def padded(x, offsets, anchors, steps, pad):
    """Windows of episodes that np.pad has made long enough."""
    e = episode_of(offsets)
    room = 60
    rows = []
    for a in anchors:
        first = offsets[e[a]]
        episode = x[first : offsets[e[a] + 1]]
        widths = [(room, room)] + [(0, 0)] * (x.ndim - 1)
        if pad in ("edge", "reflect"):
            long = np.pad(episode, widths, mode=pad)
        else:
            long = np.pad(episode, widths, constant_values=np.nan if pad == "nan" else 0)
        rows.append(long[[room + a - first + s for s in steps]])
    return np.stack(rows)


@pytest.mark.parametrize("pad", ["edge", "zero", "nan", "reflect"])
def test_pads(lib, pad):
    random = rng(1)
    data = {
        "f4": random.standard_normal((N, 4)).astype("f4") + 9,
        "f8": random.standard_normal((N, 1)) + 9,
        "f2": random.standard_normal((N, 3)).astype("f2") + np.float16(9),
        "bf": (random.standard_normal((N, 2)) + 9).astype(BFLOAT16),
    }
    if pad != "nan":
        data |= {
            "u1": random.integers(1, 256, (N, 2, 2), dtype="u1"),
            "i8": random.integers(2**62, 2**63 - 1, N),
            "b": np.ones(N, bool),
        }
    steps = [-50, -9, -3, -2, -1, 0, 1, 2, 7, 8, 31, 50]
    anchors = np.arange(N)
    got = windows(lib, data, OFFSETS, anchors, delta_indices=steps, pad=pad)
    edge = windows(lib, data, OFFSETS, anchors, delta_indices=steps)
    for key, x in data.items():
        expected = padded(x.astype("f4") if key == "bf" else x, OFFSETS, anchors, steps, pad)
        assert_same_bits(got[key], expected.astype(x.dtype), key)
        assert_same_bits(got[f"{key}_is_pad"], edge[f"{key}_is_pad"], key)


def test_a_pad_for_each_key(lib):
    x = np.arange(1.0, 4.0)
    data = {"a": x, "b": x, "c": x, "d": x}
    pad = {"a": "zero", "b": "nan", "c": "reflect"}
    got = windows(lib, data, [0, 3], [2], delta_indices=[-1, 0, 1, 2], pad=pad)
    np.testing.assert_array_equal(got["a"], [[2, 3, 0, 0]])
    np.testing.assert_array_equal(got["b"], [[2, 3, np.nan, np.nan]])
    np.testing.assert_array_equal(got["c"], [[2, 3, 2, 1]])
    np.testing.assert_array_equal(got["d"], [[2, 3, 3, 3]])
    for key in data:
        np.testing.assert_array_equal(got[f"{key}_is_pad"], [[False, False, True, True]])


@pytest.mark.parametrize("pad", ["edge", "zero", "nan", "reflect"])
@pytest.mark.parametrize("timed", [False, True])
def test_episodes_without_a_sample(lib, pad, timed):
    """All of such a window is padding, and nothing else is read for it."""
    if timed and pad == "reflect":
        pytest.skip("reflect is for indices")
    x = np.arange(1.0, 5.0)[:, None]
    how = {"delta_indices": [-1, 0, 1]}
    if timed:
        how = {"delta_timestamps": [-1, 0, 1], "times": np.arange(4.0)}
    offsets = np.array([0, 0, 2, 2, 4])
    episodes = np.array([0, 2, 4, 5, -1, 2**40, -(2**63), 2**63 - 1])  # two empty, six unknown
    values, is_pad = windows(
        lib, x, offsets, np.zeros(8, int), anchor_episode=episodes, pad=pad, **how
    )
    assert is_pad.all()
    expected = np.full((8, 3, 1), np.nan if pad == "nan" else 0.0)
    np.testing.assert_array_equal(values, expected, strict=True)


def test_anchors_out_of_range(lib):
    """They read nothing out of bounds, and give padding only."""
    x = np.arange(1.0, 6.0)
    anchors = np.array([-1, -7, 5, 9, 2**62, -(2**62)])
    steps = {"x": [0], "y": [3, 40]}
    data = {"x": x, "y": x}
    for offsets in ([0, 3, 5], [2, 3, 3, 5]):
        got = windows(lib, data, offsets, anchors, delta_indices=steps)
        assert got["x_is_pad"].all()
        assert set(got["x"].ravel()) <= {0.0, 5.0}
        timed = windows(lib, data, offsets, anchors, delta_timestamps=steps, times=np.arange(5.0))
        assert timed["x_is_pad"].all()
        assert timed["y_is_pad"].all()
    furthest = np.array([2**63 - 1, 2**63 - 2])
    values, is_pad = windows(lib, x, [0, 5], furthest, delta_indices=[-2, -1, 0])
    assert is_pad.all()
    assert set(values.ravel()) == {5.0}
    got = windows(lib, data, [2, 3, 5], [0, 1], delta_indices=steps)  # before the first episode
    assert got["x_is_pad"].all()
    assert got["y_is_pad"].all()


@pytest.mark.parametrize("n", [0, 3])
def test_anchors_out_of_range_of_many_episodes(lib, n):
    """Far from where any episode could be guessed to be."""
    lengths = np.zeros(40, int)
    lengths[17] = n
    anchors = np.array([-1, 5, 2**31, 2**62, -(2**62)])
    for dtype in ("i4", "i8"):
        offsets = offsets_of(lengths).astype(dtype)
        values, is_pad = windows(lib, np.ones((n, 2)), offsets, anchors, delta_indices=[0, 1])
        assert is_pad.all()
        assert set(values.ravel()) <= {0.0, 1.0}


def test_offsets_out_of_bounds(lib):
    x = np.arange(1.0, 6.0)
    for offsets in ([0, 3, 99], [-7, 3, 5], [3, 0, 5], [0, 99, 5]):
        values, _ = windows(lib, x, offsets, np.arange(5), delta_indices=[-9, 0, 9])
        assert set(values.ravel()) <= {0.0, *x}


# ---------------------------------------------------------------------------- windows at any time

CLOCKS = ("float64", "int64", "float32", "int32", "datetime64[ns]", "datetime64[us]")
TICKS = {"int64": 10**9, "int32": 10**3, "datetime64[ns]": 10**9, "datetime64[us]": 10**6}


def clock(name, seconds):
    """Stamps in seconds on a clock; NaN is its NaN or NaT."""
    if name.startswith("float"):
        return np.asarray(seconds).astype(name)
    nan = np.isnan(seconds)
    ticks = np.rint(np.where(nan, 0, seconds) * TICKS[name]).astype(np.int64)
    if name == "int64":
        ticks = ticks + EPOCH
    if name.startswith("datetime"):
        return np.where(nan, np.array("NaT", name), (ticks + 10**15).astype(name))
    return ticks.astype(name)


def later(stamps, delta, ticks):
    """Stamps and a duration in seconds, in the wide type of the clock."""
    if stamps.dtype.kind == "f":
        return stamps.astype("f8") + delta
    if stamps.dtype.kind == "i":
        return stamps.astype("i8") + round(delta * ticks)
    return stamps + np.array(round(delta * ticks), stamps.dtype.str.replace("M", "m"))


def resampled(lib, x, stamps, offsets, episodes, starts, deltas, pad="edge", **options):
    """`resample_trajectories` of each anchor's episode, as a packed row of its own."""
    spans = [np.arange(offsets[e], offsets[e + 1]) for e in episodes]
    taken = np.concatenate([*spans, np.zeros(0)]).astype(int)
    ticks = TICKS.get(stamps.dtype.name)
    targets = np.stack([later(starts, d, ticks) for d in deltas], axis=1)
    if pad != "edge":
        options["fill_value"] = 0.0 if pad == "zero" else float("nan")
    options = {name: on(lib, v) if name not in STATIC else v for name, v in options.items()}
    result = rc.resample_trajectories(
        *map(lib.array, (x[taken], stamps[taken], targets)),
        offsets=on(lib, offsets_of([len(s) for s in spans])), return_valid=True, **options,
    )  # fmt: skip
    return lib.numpy(result.values), ~lib.numpy(result.valid)


def drive(random, dtype):
    """Stamps of OFFSETS' episodes: uneven, with jumps, back in time between episodes."""
    step = random.choice([0.02, 0.025, 0.05, 0.2, 0.0], N, p=[0.4, 0.2, 0.2, 0.1, 0.1])
    seconds = np.cumsum(step)
    for first in OFFSETS[:-1][np.diff(OFFSETS) > 0]:
        seconds[first:] += random.choice([-0.5, 3.0]) - seconds[first]
    if not dtype.startswith("int"):
        seconds[10:12] = np.nan  # the end of an episode is padding
    return clock(dtype, seconds)


STATS = {"mean": [0.5, -1, 2, 0, 1, 0.25, 3], "std": [1, 2, 0.5, 1, 3, 0.1, 7]}
QUAT = {"3:7": "quat_xyzw"}

# A key by its dtype and options; windows of reductions ascend.
KEYS = {
    "linear": ("f4", {}),
    "nearest": ("f8", {"method": "nearest", "tolerance": 0.01}),
    "image": ("u1", {}),
    "zoh": ("i8", {"method": "zoh", "max_gap": 0.05}),
    "next": ("bool", {"method": "next", "tolerance": 0.06, "latency": 0.013}),
    "curve": ("f4", {"method": "pchip", "max_gap": 0.1, "pad": "zero"}),
    "smooth": ("f8", {"method": "akima", "tolerance": 0.04, "pad": "nan", "latency": -0.02}),
    "makima": ("f2", {"method": "makima"}),
    "cardinal": (BFLOAT16, {"method": "cardinal"}),
    "mean": ("f4", {"method": "mean", "pad": "nan"}),
    "max": ("i8", {"method": "max"}),
    "any": ("bool", {"method": "any", "pad": "zero"}),
    "sum": ("f8", {"method": "sum", "latency": 0.021}),
    "quat": ("f4", {"rotation": QUAT, "pad": "nan"}),
    "turning": ("f8", {"rotation": QUAT, "method": "nearest", "tolerance": 0.05}),
    "scaled": ("f4", {"normalize": rc.normalization(STATS, "mean_std"), "pad": "zero"}),
    "mixed": ("f4", {"method": (("0:2", "previous"), (2, "max")), "max_gap": 0.1}),
    "jitter": ("f4", {"latency": None, "tolerance": 0.1}),  # one latency for each anchor
}  # fmt: skip


def keyed(keys):
    """Options by key, as sample_windows has them."""
    options = {}
    for key in keys:
        for name, value in KEYS[key][1].items():
            options.setdefault(name, {})[key] = value
    return options


def signal(random, dtype):
    if dtype == "bool":
        return random.random((N, 7)) < 0.5
    if np.dtype(dtype).kind in "iu":
        return random.integers(0, 256, (N, 7)).astype(dtype)
    return random.standard_normal((N, 7)).astype(dtype)


def check_times(lib, random, dtype, keys, *, continuous):
    data = {key: signal(random, KEYS[key][0]) for key in keys}
    stamps = drive(random, dtype)
    A = 9
    anchors = random.integers(0, N, A)
    anchors[:2] = 0, N - 1
    episodes = episode_of(OFFSETS)[anchors]
    starts = stamps[anchors]
    given = {"anchors": anchors}
    if continuous:
        starts = later(starts, 0.007, TICKS.get(dtype))
        episodes[2], episodes[3] = 1, 2  # one without samples, and one of one
        given = {"anchor_times": starts, "anchor_episode": episodes}
    deltas = {
        key: [-0.3, -0.0312, -0.02, 0, 0.0041, 0.0123, 0.05, 0.25]
        if KEYS[key][1].get("method") in ("mean", "max", "any", "sum", KEYS["mixed"][1]["method"])
        else random.choice([-0.4, -0.05, -0.0313, 0, 0, 0.01, 0.02, 0.5], 6).tolist()
        for key in keys
    }
    jitter = random.normal(0, 0.03, A).astype(random.choice(["f4", "f8"]))
    options = keyed(keys)
    if "jitter" in keys:
        options["latency"]["jitter"] = jitter
    unit = "ms" if dtype == "int32" else None
    got = windows(
        lib, data, OFFSETS, delta_timestamps=deltas, times=stamps, time_unit=unit, **given,
        **options,
    )  # fmt: skip
    for key in keys:
        own = KEYS[key][1] | ({"latency": jitter} if key == "jitter" else {})
        own.setdefault("method", "linear" if np.dtype(KEYS[key][0]) in
                       map(np.dtype, ("f2", "f4", "f8", BFLOAT16)) else "nearest")  # fmt: skip
        values, is_pad = resampled(
            lib, data[key], stamps, OFFSETS, episodes, starts, deltas[key], time_unit=unit, **own
        )
        assert_same_bits(got[key], values, key)
        assert_same_bits(got[f"{key}_is_pad"], is_pad, key)


@pytest.mark.parametrize("dtype", CLOCKS)
@pytest.mark.parametrize("continuous", [False, True])
def test_it_is_resampling_of_the_anchors_episode(lib, dtype, continuous):
    if dtype in lib.dtypes_missing:
        pytest.skip(f"{lib.name} has no {dtype}")
    random = rng(2)
    for _ in range(2):
        check_times(lib, random, dtype, list(KEYS), continuous=continuous)


@pytest.mark.parametrize("key", ["linear", "curve", "mean", "quat", "scaled", "nearest", "jitter"])
def test_a_key_alone(lib, key):
    """Which has a kernel of its own."""
    check_times(lib, rng(3), "int64", [key], continuous=False)
    check_times(lib, rng(4), "int64", [key], continuous=True)


@pytest.mark.parametrize("key", ["linear", "quat"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
def test_long_episodes(lib, key, dtype):
    """Where a search may start from a guess, of times finer than float32 and wider than int32."""
    random = rng(5)
    offsets, n = np.array([0, 70, 150]), 150
    stamps = clock(dtype, np.cumsum(random.choice([0.04, 0.05, 0.06], n)))
    if dtype == "int32":
        stamps += np.iinfo("i4").max - stamps[-1]
    data = random.standard_normal((n, 7)).astype("f4")
    anchors = np.append(random.integers(0, n, 20), [0, n - 1])
    episodes = episode_of(offsets)[anchors]
    own = {} if key == "linear" else {"rotation": QUAT}
    unit = "ms" if dtype == "int32" else None
    deltas = [-1.3, -0.05, 0, 0.0123, 0.1, 0.5, 9.0]
    for starts, by in (
        (stamps[anchors], {"anchors": anchors}),
        (later(stamps[anchors], 0.0071, TICKS.get(dtype)), {"anchor_episode": episodes}),
    ):
        if "anchors" not in by:
            by["anchor_times"] = starts
        options = {name: {key: value} for name, value in own.items()}
        got = windows(lib, {key: data}, offsets, delta_timestamps={key: deltas}, times=stamps,
                      time_unit=unit, **by, **options)  # fmt: skip
        values, is_pad = resampled(
            lib, data, stamps, offsets, episodes, starts, deltas, time_unit=unit, **own
        )
        assert_same_bits(got[key], values)
        assert_same_bits(got[f"{key}_is_pad"], is_pad)


def test_nanoseconds_are_exact(lib):
    x, stamps = np.arange(4.0), EPOCH + np.array([0, 8, 16, 24])
    values, is_pad = windows(
        lib, x, [0, 4], [1], delta_timestamps=[-9e-9, -6e-9, 0, 6e-9, 16e-9, 17e-9], times=stamps
    )
    np.testing.assert_array_equal(values, [[0, 0.25, 1, 1.75, 3, 3]])
    np.testing.assert_array_equal(is_pad, [[True, False, False, False, False, True]])


@pytest.mark.parametrize("dtype", ["int64", "int32", "float64"])
def test_stamps_on_a_grid_give_the_windows_of_indices(lib, dtype):
    """Where stamps are exact, both modes are the same."""
    random = rng(5)
    data = {"a": signal(random, "f4"), "b": signal(random, "u1")}
    per_second = 64 if dtype == "float64" else 50
    stamps = np.arange(N) - OFFSETS[episode_of(OFFSETS)]  # each episode begins at 0
    stamps = stamps / 64 if dtype == "float64" else (stamps * 20).astype(dtype)
    deltas = {"a": [k / per_second for k in (-4, -1, 0, 1, 9)], "b": [0.0, 2 / per_second]}
    anchors = np.arange(N)
    unit = None if dtype == "float64" else "ms"
    for pad in ("edge", "zero"):
        same = {"delta_timestamps": deltas, "pad": pad}
        timed = windows(lib, data, OFFSETS, anchors, times=stamps, time_unit=unit, **same)
        assert_same_batch(timed, windows(lib, data, OFFSETS, anchors, fps=per_second, **same))


def test_tolerance_beyond_the_ends(lib):
    """tq < t_first - tol or tq > t_last + tol is padding."""
    x, stamps = np.arange(3.0), np.array([0, 10, 20])
    deltas = [-0.004, -0.003, 0, 0.02, 0.023, 0.024]
    common = {"delta_timestamps": deltas, "times": stamps, "time_unit": "ms"}
    for tolerance, expected in ((0.003, [1, 0, 0, 0, 0, 1]), (None, [1, 1, 0, 0, 1, 1])):
        values, is_pad = windows(lib, x, [0, 3], [0], tolerance=tolerance, **common)
        np.testing.assert_array_equal(is_pad, [np.array(expected, bool)])
        np.testing.assert_array_equal(values, [[0, 0, 0, 2, 2, 2]])
    values, is_pad = windows(lib, x, [0, 3], [0], tolerance=0.003, pad="nan", **common)
    np.testing.assert_array_equal(values, [[np.nan, 0, 0, 2, 2, np.nan]])


def test_a_gap_is_padding(lib):
    x, stamps = np.arange(4.0), np.array([0.0, 1.0, 5.0, 6.0])
    values, is_pad = windows(
        lib, x, [0, 4], [1], delta_timestamps=[-0.5, 0, 2, 4, 4.5], times=stamps, max_gap=2,
        pad="zero",
    )  # fmt: skip
    np.testing.assert_array_equal(values, [[0.5, 1, 0, 2, 2.5]])
    np.testing.assert_array_equal(is_pad, [[False, False, True, False, False]])


def test_latency_of_a_key_and_of_a_window(lib):
    """A sample counts at its stamp less the latency."""
    x, stamps = np.arange(10.0), np.arange(10) * 10
    late = np.array([0.0, 0.01, -0.005])
    data = {"a": x, "b": x, "c": x}
    got = windows(
        lib, data, [0, 10], [4, 4, 4], delta_timestamps=[-0.01, 0.0], times=stamps,
        time_unit="ms", latency={"a": late, "b": 0.005},
    )  # fmt: skip
    np.testing.assert_array_equal(got["a"], [[3, 4], [4, 5], [2.5, 3.5]])
    np.testing.assert_array_equal(got["b"], [[3.5, 4.5]] * 3)
    np.testing.assert_array_equal(got["c"], [[3, 4]] * 3)
    again = windows(
        lib, data, [0, 10], [4, 4, 4], delta_timestamps=[-0.01, 0.0], times=stamps,
        time_unit="ms", latency=late,
    )  # fmt: skip
    for key in data:
        np.testing.assert_array_equal(again[key], got["a"])


def test_anchors_between_stamps(lib):
    """A motion library: a clip and a time in it for each environment, without windows."""
    x = np.array([0.0, 1, 2, 10, 20])
    got = windows(
        lib, {"x": x}, [0, 3, 5], anchor_times=np.array([0.5, 0.5, 7.0, np.nan]),
        anchor_episode=[0, 1, 0, 1], delta_timestamps={}, times=np.array([0.0, 1, 2, 0, 1]),
    )  # fmt: skip
    assert list(got) == ["x"]
    np.testing.assert_array_equal(got["x"], [0.5, 15, 2, np.nan])


@pytest.mark.parametrize("dtype", ["int64", "float64"])
def test_keys_with_their_own_clocks(lib, dtype):
    random = rng(6)
    lengths = {"camera": [4, 0, 1, 6], "joint": [30, 2, 0, 41], "force": [5, 5, 5, 5]}
    offsets = {key: offsets_of(n) for key, n in lengths.items()}
    offsets["force"] = offsets["force"].astype("i4")
    data, times = {}, {}
    for key, o in offsets.items():
        data[key] = random.standard_normal((o[-1], 3)).astype("f4")
        seconds = np.concatenate([np.sort(random.random(n)) for n in lengths[key]])
        times[key] = clock(dtype, seconds)
    episodes = np.array([0, 3, 1, 2, 0, 3, 3], "i4")
    starts = clock(dtype, random.random(7))
    deltas = {"camera": [0.0], "joint": [-0.2, 0.013, 0.5], "force": [0.1, 0.0, -0.1]}
    method = {"camera": "previous", "force": "catmull_rom"}
    got = windows(
        lib, data, offsets, anchor_times=starts, anchor_episode=episodes, times=times,
        delta_timestamps=deltas, method=method,
    )  # fmt: skip
    for key, x in data.items():
        values, is_pad = resampled(
            lib, x, times[key], offsets[key], episodes, starts, deltas[key],
            method=method.get(key, "linear"),
        )  # fmt: skip
        assert_same_bits(got[key], values, key)
        assert_same_bits(got[f"{key}_is_pad"], is_pad, key)


# ------------------------------------------------------------- dtypes, rotations, normalisation


def test_another_dtype(lib):
    """dtype is for floats; what a sample converts to is rounded once."""
    random = rng(7)
    data = {
        "f8": random.standard_normal((N, 3)) * 1e3,
        "f4": random.standard_normal((N, 8)).astype("f4"),
        "u1": random.integers(0, 256, (N, 4), dtype="u1"),
    }
    for dtype in ("float16", "bfloat16", "float32", "float64"):
        to = BFLOAT16 if dtype == "bfloat16" else np.dtype(dtype)
        got = windows(lib, data, OFFSETS, np.arange(N), delta_indices=[0, 2], dtype=dtype)
        exact = windows(lib, data, OFFSETS, np.arange(N), delta_indices=[0, 2])
        for key in ("f8", "f4"):
            assert_same_bits(got[key], exact[key].astype(to), key)
        assert_same_bits(got["u1"], exact["u1"])


@pytest.mark.parametrize("pad", ["edge", "zero", "nan", "reflect"])
def test_normalised_windows(lib, pad):
    """As normalize of the windows; what stands for padding is not normalised."""
    random = rng(8)
    data = {
        "state": signal(random, "f4"),
        "image": signal(random, "u1"),
        "f8": signal(random, "f8"),
    }
    spec = rc.normalization(STATS, "mean_std")
    scale = rc.normalization({"min": 0.0, "max": 255.0}, "min_max")
    common = {"delta_indices": [-3, 0, 1, 4], "pad": pad, "dtype": "float32"}
    got = windows(
        lib, data, OFFSETS, np.arange(N), **common, normalize={"state": spec, "image": scale}
    )
    for key, how in (("state", spec), ("image", scale)):
        x = windows(
            lib, {key: data[key].astype("f4")}, OFFSETS, np.arange(N),
            **(common | {"pad": "edge" if pad in ("zero", "nan") else pad}),
        )  # fmt: skip
        expected = lib.numpy(rc.normalize(lib.array(x[key]), how))
        if pad in ("zero", "nan"):
            expected = expected.copy()
            expected[x[f"{key}_is_pad"]] = 0 if pad == "zero" else np.nan
        assert_same_bits(got[key], expected, key)
    plain = windows(lib, {"f8": data["f8"]}, OFFSETS, np.arange(N), **common)
    assert_same_bits(got["f8"], plain["f8"])


def test_statistics_and_mode_in_place_of_a_normalization(lib):
    x = signal(rng(9), "f4")
    ways = [{"a": (STATS, "mean_std")}, {"a": rc.normalization(STATS, "mean_std")},
            rc.normalization(STATS, "mean_std")]  # fmt: skip
    first, *rest = (
        windows(lib, {"a": x}, OFFSETS, [0, 9], delta_indices=[0, 1], normalize=way) for way in ways
    )
    for other in rest:
        assert_same_batch(other, first)
    assert first["a"][0, 0, 0] == np.float32((x[0, 0] - np.float32(0.5)) / 1)


@pytest.mark.parametrize("rotation", ["quat_xyzw", "rotvec", "rot6d", "matrix", "pos_quat_wxyz"])
def test_rotations_of_indices_are_samples(lib, rotation):
    width = {"quat_xyzw": 4, "rotvec": 3, "rot6d": 6, "matrix": 9, "pos_quat_wxyz": 7}[rotation]
    x = rng(10).standard_normal((N, 2, width)).astype("f4")
    plain = windows(lib, {"x": x}, OFFSETS, np.arange(N), delta_indices=[-2, 0, 1], pad="zero")
    got = windows(
        lib, {"x": x}, OFFSETS, np.arange(N), delta_indices=[-2, 0, 1], pad="zero",
        rotation={"x": rotation},
    )  # fmt: skip
    assert_same_batch(got, plain)


# --------------------------------------------------------------------------------------- memory


def test_views(lib):
    """Strided and misaligned samples and stamps."""
    random = rng(11)
    wide = random.standard_normal((2 * N + 1, 9)).astype("f4")
    frames = random.integers(0, 256, (N + 1, 3, 4, 4), dtype="u1")
    pairs = {  # a view, and how a library makes it of the whole
        "rows": (wide, lambda x: x[1::2]),
        "columns": (wide, lambda x: x[:N, 2:7]),
        "every other": (wide, lambda x: x[:N, ::2]),
        "column": (wide, lambda x: x[:N, 3]),
        "shifted": (frames.reshape(-1), lambda x: x[3 : 3 + N * 8].reshape(N, 8)),
        "channels last": (frames, lambda x: x[1:].transpose(0, 2, 3, 1) if lib.name != "torch"
                          else x[1:].permute(0, 2, 3, 1)),
    }  # fmt: skip
    if lib.name == "numpy":
        pairs["backward"] = (wide, lambda x: x[N - 1 :: -1])
    views = {key: view(lib.array(x)) for key, (x, view) in pairs.items()}
    dense = {key: np.ascontiguousarray(lib.numpy(x)) for key, x in views.items()}
    stamps = np.stack([np.arange(N) / 64, np.full(N, 7.0)], 1)
    anchors = lib.array(np.arange(N))[::2]
    for timed in (False, True):
        how = {"delta_timestamps": [-0.01, 0, 0.02]} if timed else {"delta_indices": [-1, 0, 2]}
        times = {"times": lib.array(stamps)[:, 0]} if timed else {}
        got = rc.sample_windows(views, lib.array(OFFSETS), anchors, **how, **times)
        got = {key: lib.numpy(x) for key, x in got.items()}
        times = {"times": stamps[:, 0].copy()} if timed else {}
        expected = windows(lib, dense, OFFSETS, np.arange(0, N, 2), **how, **times)
        assert_same_batch(got, expected)


@pytest.mark.parametrize("dtype", ["f2", BFLOAT16, "f4", "f8"])
def test_rows_of_any_width(lib, dtype):
    """A key alone, moved in packs of whichever size fits the rows and their memory."""
    random = rng(16)
    stamps = np.arange(N) / 64
    deltas = [k / 64 for k in range(-9, 10)]
    places = ((0, 0), (8, 0), (1, 1))  # elements behind and before a row
    for width, (more, shift) in itertools.product((1, 2, 4, 6, 8, 33), places):
        whole = random.standard_normal((N, width + more + shift)).astype(dtype)
        x = whole[:, shift : shift + width]
        view = lib.array(whole)[:, shift : shift + width]
        expected = lerobot_batch({"x": x}, OFFSETS, np.arange(N), {"x": list(range(-9, 10))})
        for how in ({"fps": 64}, {"times": lib.array(stamps)}):
            got = rc.sample_windows(
                view, lib.array(OFFSETS), lib.array(np.arange(N)), delta_timestamps=deltas, **how
            )
            assert_same_bits(lib.numpy(got.values), expected["x"], f"{width} {more} {shift}")
            assert_same_bits(lib.numpy(got.is_pad), expected["x_is_pad"])


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_samples_at_odd_addresses(dtype):
    """As in a file with a header of any length."""
    memory = rng(12).integers(0, 60, 1 + 5 * 16, dtype="u1")
    x = memory[1:].view(dtype).reshape(5, -1)
    assert not x.flags.aligned
    values, _ = rc.sample_windows({"x": x}, [0, 5], [1], delta_indices=[0, 1]).values()
    assert_same_bits(values[0], x[1:3].copy())


def test_alignment_is_part_of_the_plan():
    """A shifted view has the metadata of what it is a view of."""
    memory = rng(12).integers(0, 256, 4 * 16 + 16, dtype="u1")
    first = -memory.ctypes.data % 16
    for shift in (0, 1, 4, 8):
        x = memory[first + shift : first + shift + 64].reshape(4, 16)
        values, _ = rc.sample_windows(x, [0, 4], [1], delta_indices=[0, 1])
        np.testing.assert_array_equal(values[0], x[1:3])


@pytest.mark.parametrize("how", ["indices", "fps", "times", "anchor_times"])
def test_sizes_of_zero(lib, how):
    for A, W, n, features in itertools.product((0, 2), (0, 1), (0, 3), ((), (0,), (2, 0), (3,))):
        x, state = np.ones((n, *features), "f4"), np.ones((n, 2), "u1")
        offsets = np.array([0, n])
        options = {
            "indices": {"delta_indices": {"x": [1] * W}},
            "fps": {"delta_timestamps": {"x": [0.1] * W}, "fps": 10},
            "times": {"delta_timestamps": {"x": [0.5] * W}, "times": np.arange(float(n))},
            "anchor_times": {"delta_timestamps": {"x": [0.5] * W}, "times": np.arange(float(n))},
        }[how]
        given = {"anchors": np.zeros(A, int)}
        if how == "anchor_times":
            given = {"anchor_times": np.zeros(A), "anchor_episode": np.zeros(A, int)}
        got = windows(lib, {"x": x, "state": state}, offsets, **given, **options)
        shapes = {key: y.shape for key, y in got.items()}
        assert shapes == {"x": (A, W, *features), "x_is_pad": (A, W), "state": (A, 2)}
        assert np.all(got["x_is_pad"] == (n == 0))
        assert np.all(got["x"] == (n > 0))
        assert np.all(got["state"] == (n > 0))


def test_no_episodes(lib):
    for how in ({"delta_indices": [0, 1]}, {"delta_timestamps": [0.0, 1], "times": np.zeros(3)}):
        values, is_pad = windows(lib, np.ones(3), np.array([0]), [0, 1], **how)
        assert is_pad.all()
        assert not np.nan_to_num(values).any()
    values, is_pad = windows(lib, np.ones((3, 2)), [0, 3], [], delta_indices=[0, 1])
    assert (values.shape, is_pad.shape) == ((0, 2, 2), (0, 2))


# --------------------------------------------------------------------------------- calls and plans


@pytest.fixture
def launches(monkeypatch):
    """The kernels launched on the host."""
    seen = []
    on_host = Kernel.on_host

    def recording(self, launch, args):
        seen.append(self.name)
        on_host(self, launch, args)

    monkeypatch.setattr(Kernel, "on_host", recording)
    Op.all["sample_windows"].cache.clear()
    yield seen
    Op.all["sample_windows"].cache.clear()


def test_one_launch_for_all_keys(launches):
    random = rng(13)
    data = log(random, N)
    for how in (
        {"delta_indices": [-1, 0, 1]},
        {"delta_timestamps": [-0.1, 0, 1], "times": np.arange(20.0)},
        {"delta_timestamps": {"state": [0.5]}, "times": dict.fromkeys(data, np.arange(20.0))},
    ):
        launches.clear()
        given = {"anchors": [3, 4]}
        if isinstance(how.get("times"), dict):
            given = {"anchor_times": [3.0, 4.0], "anchor_episode": [3, 3]}
        rc.sample_windows(data, OFFSETS, **given, **how)
        assert launches == ["windows"]


@pytest.mark.parametrize("keys", [24, 30, 75])
def test_any_number_of_keys(lib, keys):
    random = rng(14)
    data = {
        f"k{i}": random.standard_normal((N, i % 3 + 1)).astype("f4" if i % 2 else "f8")
        for i in range(keys)
    }
    deltas = {key: [-i % 5, 0, i % 7] for i, key in enumerate(data) if i % 4}
    anchors = np.array([0, 5, 19, 3])
    expected = lerobot_batch(data, OFFSETS, anchors, deltas)
    assert_same_batch(windows(lib, data, OFFSETS, anchors, delta_indices=deltas), expected)
    stamps = np.arange(float(N))
    got = windows(lib, data, OFFSETS, anchors, delta_timestamps=deltas, times=stamps)
    assert_same_batch(got, expected)


@pytest.mark.parametrize(("keys", "count"), [(24, 1), (30, 2)])
def test_as_few_launches_as_can_be(launches, keys, count):
    data = {f"k{i}": np.ones((N, 2), "f4") for i in range(keys)}
    rc.sample_windows(data, OFFSETS, [3, 4], delta_indices=[-1, 0, 1])
    assert launches == ["windows"] * count


def test_new_numbers_make_no_new_plan():
    op = Op.all["sample_windows"]
    x, stamps = np.arange(5.0), np.arange(5.0)

    def call(**numbers):
        return rc.sample_windows(
            {"x": x}, [0, 5], [4], delta_timestamps=[0.25], times=stamps, **numbers
        )

    first = call(tolerance=0.1, latency=0.05, max_gap=9.0)
    plans = len(op.cache)
    second = call(tolerance=0.5, latency=0.05, max_gap=8.0)
    third = call(tolerance=0.1, latency=1.0, max_gap=0.5)
    assert [y["x_is_pad"].item() for y in (first, second, third)] == [True, False, True]
    assert (first["x"].item(), third["x"].item()) == (4, 4)
    assert len(op.cache) == plans


def test_new_deltas_are_a_new_plan():
    x = np.arange(9.0)
    for steps in ([0, 1], [0, 2], [1, 0], [-1, 1]):
        values, _ = rc.sample_windows(x, [0, 9], [4], delta_indices=steps)
        np.testing.assert_array_equal(values, [[4.0 + s for s in steps]])
        values, _ = rc.sample_windows(
            x, [0, 9], [4], delta_timestamps=[float(s) for s in steps], times=x
        )
        np.testing.assert_array_equal(values, [[4.0 + s for s in steps]])


def test_lists_of_any_kind(lib):
    x = np.arange(9.0)
    expected = windows(lib, x, np.array([0, 9]), np.array([4, 8]), delta_indices=[0, 1])
    for steps in ((0, 1), np.array([0, 1]), np.array([0.0, 1.0]), range(2), [0.0, 1.0]):
        for anchors in ([4, 8], (4, 8)):
            got = windows(lib, x, (0, 9), anchors, delta_indices=steps)
            assert_same_bits(got[0], expected[0])
            assert_same_bits(got[1], expected[1])
    got = windows(
        lib, x, [0, 9], anchor_times=[4.0, 8.0], anchor_episode=[0, 0], times=x,
        delta_timestamps=np.array([0.0, 1.0]), latency=[0.0, 0.0],
    )  # fmt: skip
    assert_same_bits(got[0], expected[0])
    assert_same_bits(got[1], expected[1])


def test_deltas_of_an_array_find_their_plan_again(lib):
    op = Op.all["sample_windows"]
    x, steps = lib.array(np.arange(9.0)), np.array([0, 1])
    plans = set()
    for _ in range(3):
        values, _ = rc.sample_windows(x, [0, 9], [4], delta_indices=lib.array(steps))
        np.testing.assert_array_equal(lib.numpy(values), [[4.0, 5.0]])
        plans.add(len(op.cache))
    assert len(plans) == 1


def test_inside_jit(lib):
    if lib.name != "jax":
        pytest.skip("jax.jit is for JAX")
    import jax

    random = rng(15)
    data = {"a": signal(random, "f4"), "b": signal(random, "u1")}
    deltas = {"a": [-0.02, 0.0, 0.013]}
    stamps = np.arange(float(N)) / 64

    @jax.jit
    def batch(data, anchors, late):
        return rc.sample_windows(
            data, OFFSETS, anchors, delta_timestamps=deltas, times=lib.array(stamps),
            latency={"a": late},
        )  # fmt: skip

    for anchors, late in (([3, 7], [0.0, 0.01]), ([0, 19], [0.1, -0.1])):
        anchors, late = np.array(anchors), np.array(late)
        got = batch(on(lib, data), lib.array(anchors), lib.array(late))
        expected = windows(
            lib, data, OFFSETS, anchors, delta_timestamps=deltas, times=stamps,
            latency={"a": late},
        )  # fmt: skip
        assert_same_batch({key: lib.numpy(got[key]) for key in expected}, expected)


# ------------------------------------------------------------------------------------------- errors

X, T = np.zeros((5, 2)), np.arange(5.0)
INDEX = {"anchors": [0], "delta_indices": [0]}
TIMED = {"anchors": [0], "delta_timestamps": [0.0], "times": T}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (INDEX | {"data": {}}, "data is empty"),
        ({"anchors": [0]}, "either delta_indices or delta_timestamps"),
        (INDEX | {"delta_timestamps": [0.0]}, "either delta_indices or delta_timestamps"),
        (INDEX | {"fps": 10}, "delta_indices are samples: fps, times and anchor_times"),
        (INDEX | {"times": T}, "delta_indices are samples"),
        ({"anchors": [0], "delta_timestamps": [0.0]}, "needs either fps or times"),
        (TIMED | {"fps": 10}, "needs either fps or times"),
        ({"anchors": [0], "delta_timestamps": [0.0], "fps": 0}, "fps is 0, expected a finite rate"),
        ({"anchors": [0], "delta_timestamps": [0.0], "fps": np.inf}, "fps is inf, expected"),
        ({"anchors": [0], "delta_timestamps": [0.0], "fps": "30"}, "fps is '30', expected a rate"),
        (INDEX | {"delta_indices": {"a": ["1"]}}, r"data\['a'\].*delta_indices has '1', expected"),
        (INDEX | {"delta_indices": {"a": [2**70]}}, r"delta_indices has 11.*, expected whole"),
        (INDEX | {"delta_indices": {"a": [-(2**63)]}}, "delta_indices has -9.*, expected whole"),
        (TIMED | {"delta_timestamps": ["a"]}, "delta_timestamps has 'a', expected numbers of sec"),
        ({"anchors": [0], "delta_timestamps": [1e300], "fps": 10}, "delta_timestamps has 1e"),
        (TIMED | {"anchor_times": [0.0], "anchor_episode": [0]}, "anchors and anchor_times both"),
        (INDEX | {"latency": 0.1}, r"data\['a'\]: latency has no effect without times"),
        (INDEX | {"latency": {"a": 0.1}}, r"data\['a'\]: latency has no effect without times"),
        (INDEX | {"tolerance": 0.0}, "tolerance has no effect without times"),
        (INDEX | {"max_gap": 1.0}, "max_gap has no effect without times"),
        (INDEX | {"method": "pchip"}, "method has no effect without times"),
        ({"anchors": [0], "delta_timestamps": [0.0], "fps": 10, "tolerance": 0.0},
         "tolerance has no effect without times"),
        (TIMED | {"method": "mean"}, r"data\['a'\].*'mean'.*delta_timestamps has one target"),
        (TIMED | {"method": "sum", "delta_timestamps": [0.2, 0.1, 0.0]}, "timestamps descends"),
        (TIMED | {"method": "max", "delta_timestamps": [0.0, 0.2, 0.1]}, "timestamps descends"),
        (TIMED | {"latency": ["x"]}, r"^sample_windows: latency of data\['a'\] is \['x'\]"),
        (TIMED | {"latency": {"c": 0.1}}, r"^latency has 'c', expected keys of data \(a\)$"),
        (TIMED | {"method": {"c": "mean"}}, r"^method has 'c', expected keys of data \(a\)$"),
        (TIMED | {"tolerance": {"a": 1, "c": 1}}, r"^tolerance has 'c', expected keys of data"),
        (INDEX | {"pad": {"c": "zero"}}, r"^pad has 'c', expected keys of data"),
        (INDEX | {"normalize": {"c": None}}, r"^normalize has 'c', expected keys of data"),
        (INDEX | {"rotation": {"c": "angle"}}, r"^rotation has 'c', expected .* \(a\), or columns"),
        (INDEX | {"rotation": {"0:1": "angle"}, "data": {"a": X.astype(int)}},
         "dtype int64, expected a float for rotations"),
        ({"anchors": [0], "delta_timestamps": [0.0], "fps": float("nan")}, "fps is nan"),
        (INDEX | {"delta_indices": {"b": [0]}}, "b has deltas, but is not in data"),
        (INDEX | {"delta_indices": {"a": [0.5]}}, r"data\['a'\].*delta_indices has 0.5, expected"),
        (INDEX | {"delta_indices": {"a": [np.nan]}}, r"data\['a'\].*delta_indices has nan, exp"),
        (INDEX | {"delta_indices": {"a": [True]}}, r"data\['a'\].*delta_indices has True, exp"),
        (INDEX | {"delta_indices": {"a": 3}}, "delta_indices of 'a' is 3, expected a list"),
        (TIMED | {"delta_timestamps": {"a": [np.inf]}}, r"data\['a'\].*delta_timestamps is inf"),
        ({"anchors": [0], "delta_timestamps": {"a": [np.nan]}, "fps": 10},
         r"data\['a'\].*delta_timestamps has nan, expected"),
        ({"anchors": [0], "delta_timestamps": {"a": [np.inf]}, "fps": 10},
         r"data\['a'\].*delta_timestamps has inf, expected"),
        (INDEX | {"anchors": None}, "give anchors, or anchor_times and anchor_episode"),
        (TIMED | {"anchors": None, "anchor_times": [0.0]}, "anchor_times and anchor_episode"),
        (INDEX | {"anchors": np.zeros((1, 1), int)}, r"anchors has shape \(1, 1\), expected one"),
        (INDEX | {"anchors": [0.5]}, "anchors has dtype float64, expected one of int32, int64"),
        (INDEX | {"anchor_episode": [0.0]}, "anchor_episode has dtype float64"),
        (INDEX | {"anchor_episode": [0, 0]}, r"anchors and anchor_episode differ in length: \[1"),
        (TIMED | {"anchor_times": [0]}, r"times \(float64\) and anchor_times \(int64\) are diff"),
        (TIMED | {"times": T[:3]}, r"data\['a'\].*times has shape \(3,\), expected \(5,\)"),
        (TIMED | {"times": T.astype("u4")}, "times has dtype uint32, expected"),
        (TIMED | {"times": {"b": T}}, "times has no a"),
        (TIMED | {"latency": [0.1, 0.2]}, r"data\['a'\].*latency has shape \(2,\), expected \(1,"),
        (TIMED | {"latency": float("inf")}, "latency of .* is inf, expected a finite number"),
        (TIMED | {"tolerance": -1.0}, "tolerance of .* is -1.0, expected 0 or more"),
        (TIMED | {"tolerance": [1.0]}, r"data\['a'\].*tolerance is an array of shape \(1,\)"),
        (TIMED | {"max_gap": float("nan")}, "max_gap of .* is nan"),
        (TIMED | {"time_unit": "h"}, "time_unit is 'h', expected one of"),
        (TIMED | {"method": {"a": "spline"}}, r"data\['a'\].*method is 'spline', expected one of"),
        (TIMED | {"rotation": {"a": "quat_xyzw"}}, r"data\['a'\].*expected them to end in \(4,\)"),
        (TIMED | {"pad": {"a": "reflect"}}, r"data\['a'\].*pad is 'reflect', which is for indices"),
        (INDEX | {"pad": "wrap"}, r"data\['a'\].*pad is 'wrap', expected one of 'edge', 'zero'"),
        (INDEX | {"pad": "nan", "data": {"a": X.astype("u1")}}, "pad is 'nan', which uint8 data"),
        (INDEX | {"dtype": "int32"}, r"dtype is int32, expected that of data\['a'\]"),
        (INDEX | {"data": {"a": X.astype("c8")}}, r"data\['a'\].*dtype complex64, expected one"),
        (INDEX | {"data": {"a": np.array(1.0)}}, r"data\['a'\].*shape \(\), expected \[N, \*F\]"),
        (INDEX | {"episode_offsets": []}, r"episode_offsets has shape \(0,\), expected \(E \+ 1"),
        (INDEX | {"episode_offsets": [[0, 5]]}, r"episode_offsets has shape \(1, 2\)"),
        (INDEX | {"episode_offsets": [0.0, 5.0]}, "episode_offsets has dtype float64"),
        (INDEX | {"episode_offsets": {"b": [0, 5]}}, "episode_offsets has no a"),
        (INDEX | {"normalize": rc.normalization({"mean": [0, 0, 0], "std": [1, 1, 1]}, "mean_std")},
         r"data\['a'\].*statistics of shape \(3,\), expected \(2,\)"),
        (INDEX | {"normalize": {"a": "mean_std"}}, "normalize is 'mean_std', expected"),
        (INDEX | {"backend": "gpu"}, "backend is 'gpu', expected one of"),
    ],
)  # fmt: skip
def test_errors_name_the_key_and_the_argument(change, error):
    call = {"data": {"a": X}, "episode_offsets": [0, 5], "anchors": None} | change
    args = [call.pop(name) for name in ("data", "episode_offsets", "anchors")]
    with pytest.raises((TypeError, ValueError), match=error):
        rc.sample_windows(*args, **call)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"data": {"a": X, "b": X[:4]}}, r"data\['a'\] has 5, data\['b'\] has 4. Pass episode_off"),
        ({"times": {"a": T, "b": T}}, "times has several: pass anchor_times and anchor_episode"),
        ({"episode_offsets": {"a": [0, 5], "b": [0, 5]}}, "pass anchor_times and anchor_episode"),
        (
            {"episode_offsets": {"a": [0, 5], "b": [0, 5]}, "anchor_episode": [0]},
            "episode_offsets has one for each key: pass anchor_times and anchor_episode, or one",
        ),
    ],
)
def test_errors_between_keys(change, error):
    call = {"data": {"a": X, "b": X}, "episode_offsets": [0, 5]} | change
    args = [call.pop(name) for name in ("data", "episode_offsets")]
    how = TIMED if "times" in call else INDEX
    with pytest.raises((TypeError, ValueError), match=error):
        rc.sample_windows(*args, **(how | call))


def test_a_latency_of_zero_is_none():
    for latency in (0, 0.0, {"a": 0}):
        got = rc.sample_windows({"a": X}, [0, 5], [0], delta_indices=[0, 1], latency=latency)
        np.testing.assert_array_equal(got["a"], X[None, :2])


@pytest.mark.parametrize("columns", ["0:1", 0, -2])
def test_rotations_by_columns_are_for_all_keys(columns):
    data = {"a": np.array([[3.0, 0.0], [-3.0, 1.0]]), "b": np.array([[3.0, 5.0], [-3.0, 6.0]])}
    how = {"delta_timestamps": [0.0, 0.5], "times": np.arange(2.0)}
    got = rc.sample_windows(data, [0, 2], [0], rotation={columns: "angle"}, **how)
    for key in data:
        assert abs(got[key][0, 1, 0]) == pytest.approx(np.pi)
        assert got[key][0, 1, 1] == data[key][:, 1].mean()


def test_a_mapping_is_not_for_a_single_array():
    with pytest.raises(TypeError, match="pad has 'a', but data is a single array"):
        rc.sample_windows(X, [0, 5], [0], delta_indices=[0], pad={"a": "zero"})


@pytest.mark.parametrize("deltas", [{}, {"a": [0]}, 3, np.array(3)])
def test_one_array_has_one_list(deltas):
    with pytest.raises((TypeError, ValueError), match=r"delta_indices is .*, expected a list"):
        rc.sample_windows(X, [0, 5], [0], delta_indices=deltas)


def test_integers_are_interpolated_to_a_dtype():
    x = np.array([0, 10, 20], "u1")
    common = {"delta_timestamps": {"x": [0.25]}, "times": np.arange(3.0), "method": "linear"}
    with pytest.raises(TypeError, match=r"data\['x'\].*uint8.*pass dtype="):
        rc.sample_windows({"x": x}, [0, 3], [0], **common)
    got = rc.sample_windows({"x": x}, [0, 3], [0], dtype="float32", **common)
    np.testing.assert_array_equal(got["x"], np.array([[2.5]], "f4"), strict=True)


def test_names_of_results_do_not_clash():
    data = {"a": X, "a_is_pad": X}
    with pytest.raises(ValueError, match="a_is_pad"):
        rc.sample_windows(data, [0, 5], [0], delta_indices={"a": [0]})
