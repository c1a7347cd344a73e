import itertools

import conftest
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robocache_cupy._core.plan import Op
from robocache_cupy._rotation_gradient import (
    rotation_backward,
    rotation_gradient,
    slerp_backward,
)
from robocache_cupy._streams import POSES, ROTATIONS, Rotation
from robocache_cupy.pose import (
    interpolate_poses,
    interpolate_quaternions,
    slerp,
    unwrap_quaternions,
)
from robocache_cupy.resample import resample_trajectories

FLOATS = ("float16", "bfloat16", "float32", "float64")
FLAGS = [
    Rotation(kind, shortest_path, nlerp, canonical)
    for kind in ("quat_xyzw", "quat_wxyz", "rotvec", "matrix")
    for shortest_path, nlerp, canonical in itertools.product((True, False), repeat=3)
]


def dtype_of(name):
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


@pytest.fixture
def numpy_lib():
    return conftest.numpy_cpu()


@pytest.fixture
def rng():
    return np.random.default_rng(17)


def arrays(lib, options):
    return {name: lib.array(x) if isinstance(x, np.ndarray) else x for name, x in options.items()}


def width_of(kind):
    return POSES[kind][0] if kind in POSES else ROTATIONS[kind][1]


def matrices(q):
    """Rotation matrices [..., 3, 3] of quaternions (x, y, z, w)."""
    x, y, z, w = np.moveaxis(q / np.linalg.norm(q, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def rotations(rng, kind, shape):
    """Numbers of one kind, not quite normalised: what is stored need not be."""
    at = np.zeros((*shape, 4, 4))
    if kind in ("mat44", "mat34"):
        at[..., :3, :3] = rotations(rng, "matrix", shape).reshape(*shape, 3, 3)
        at[..., :3, 3] = rng.normal(size=(*shape, 3))
        at[..., 3, 3] = 1
        return at[..., : 4 if kind == "mat44" else 3, :].reshape(*shape, -1)
    if kind in POSES:
        turned = rotations(rng, kind.removeprefix("pos_"), shape)
        return np.concatenate([rng.normal(size=(*shape, 3)), turned], -1)
    q = rng.normal(size=(*shape, 4))
    if kind.startswith("quat"):
        return q
    if kind == "rotvec":
        return rng.uniform(-1.5, 1.5, (*shape, 3))
    if kind == "angle":
        return rng.uniform(-9, 9, (*shape, 1))
    m = matrices(q) + rng.normal(size=(*shape, 3, 3)) * 0.05
    if kind == "matrix":
        return m.reshape(*shape, 9)
    return np.moveaxis(m[..., :2], -1, -2).reshape(*shape, 6) * rng.uniform(0.5, 2, (*shape, 1))


def by_differences(function, x, weights, step=1e-6):
    """The gradient of sum(weights * function(x)) in float64."""
    out = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        moved = np.zeros_like(x)
        moved[place] = step
        difference = function(x + moved) - function(x - moved)
        out[place] = np.nansum(weights * difference) / (2 * step)
    return out


def assert_close(got, wanted, tolerance=1e-6):
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    scale = max(np.abs(wanted).max(initial=0), 1)
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * scale)


def check(lib, rng, data, src_times, tgt_times, *, rotation, tolerance=1e-6, **options):
    """The gradient is that of finite differences."""

    def values(x):
        return resample_trajectories(x, src_times, tgt_times, rotation=rotation, **options)

    shape = values(data).shape
    weights = rng.normal(size=shape)
    rows = weights if len(shape) > len(data.shape) - 1 and len(shape) >= 3 else weights[None]
    given = arrays(lib, options)
    got = lib.numpy(
        rotation_gradient(
            lib.array(rows), lib.array(data), *[None if t is None else lib.array(t)
                                                for t in (src_times, tgt_times)],
            rotation=rotation, **given,
        )
    )  # fmt: skip
    if got.shape != data.shape:
        got = got.sum(0).reshape(data.shape)
    wanted = by_differences(values, data, weights)
    assert np.count_nonzero(wanted)
    assert_close(got, wanted, tolerance)


# ------------------------------------------------------------------------------------- resampling


CLOCK = np.array([0.0, 1.0, 2.0, 4.0, 4.5])
TARGETS = np.array([[-0.5, 0.0, 0.25, 0.75, 1.0, 3.9], [0.5, 0.5, 2.0, 4.25, 4.5, 6.0]])


@pytest.mark.parametrize("kind", [*ROTATIONS, *POSES])
def test_the_gradient_is_that_of_finite_differences(lib, rng, kind):
    """Between samples, at them, and held beyond the ends."""
    data = rotations(rng, kind, (2, 5))
    check(lib, rng, data, CLOCK, TARGETS, rotation=kind)


@pytest.mark.parametrize("rotation", FLAGS, ids=lambda x: "-".join(map(str, x)))
def test_ways_to_turn(rng, numpy_lib, rotation):
    data = rotations(rng, rotation.kind, (2, 5))
    check(numpy_lib, rng, data, CLOCK, TARGETS, rotation=rotation)


OPTIONS = {
    "extrapolated": {"extrapolate": "extrapolate"},
    "constants": {"extrapolate": (0.5, -0.5)},
    "constants and tolerance": {"extrapolate": 0.0, "tolerance": 0.75},
    "filled": {"fill_value": 0.0, "max_gap": 1.0},
    "gap": {"max_gap": 1.0},
    "lengths": {"lengths": np.array([3, 5])},
    "late": {"latency": np.array([0.125, -0.25])},
    "ends of targets": {"tgt_lengths": np.array([4, 2])},
    "previous": {"method": "previous"},
    "next": {"method": "bfill"},
    "nearest": {"method": "nearest"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(lib, rng, name):
    data = rotations(rng, "pos_quat_wxyz", (2, 5))
    check(lib, rng, data, CLOCK, TARGETS, rotation="pos_quat_wxyz", **OPTIONS[name])


def test_clocks_of_every_kind(lib, rng):
    data, kind = rotations(rng, "quat_xyzw", (2, 5)), "quat_xyzw"
    ns = 1_760_000_000_123_456_789
    check(lib, rng, data, ns + (CLOCK * 1e9).astype(np.int64), ns + (TARGETS * 1e9).astype(int),
          rotation=kind)  # fmt: skip
    check(lib, rng, data, None, TARGETS, rotation=kind, src_hz=1.25, src_start=0.5)
    check(lib, rng, data, CLOCK, None, rotation=kind, hz=2.5, num=7)
    check(lib, rng, data, CLOCK.astype(np.float32), TARGETS[:1].astype(np.float32), rotation=kind)


def test_shared_and_packed_data(lib, rng):
    kind = "quat_wxyz"
    one = rotations(rng, kind, (5,))
    check(lib, rng, one, CLOCK, TARGETS, rotation=kind)
    check(lib, rng, one[None], CLOCK[None], TARGETS, rotation=kind)
    check(lib, rng, one, CLOCK, TARGETS[0], rotation=kind)
    packed = np.concatenate([rotations(rng, kind, (3,)), one, rotations(rng, kind, (2,))])
    clock = np.concatenate([[0.0, 1.0, 3.0], CLOCK, [9.0, 9.5]])
    check(lib, rng, packed, clock, TARGETS, rotation=kind, offsets=np.array([0, 3, 8]))
    check(lib, rng, packed, clock, TARGETS, rotation=kind, offsets=np.array([3, 8]))
    check(lib, rng, packed, clock, TARGETS, rotation=kind, offsets=np.array([3, 3, 8]))


def test_targets_in_any_order(lib, rng):
    data = rotations(rng, "pos_rotvec", (2, 5))
    for targets in (TARGETS[:, ::-1], rng.permuted(TARGETS, axis=1), TARGETS[:, [0, 5, 3, 3, 2]]):
        check(lib, rng, data, CLOCK, np.ascontiguousarray(targets), rotation="pos_rotvec")
    missing = TARGETS.copy()
    missing[:, 2] = np.nan
    check(lib, rng, data, CLOCK, missing, rotation="pos_rotvec")


def test_several_rotations_and_other_columns(lib, rng):
    data = np.concatenate(
        [rng.normal(size=(2, 5, 2)), rotations(rng, "quat_xyzw", (2, 5)),
         rotations(rng, "angle", (2, 5)), rng.normal(size=(2, 5, 1))], -1,
    )  # fmt: skip
    columns = {"2:6": "quat_xyzw", 6: "angle"}
    check(lib, rng, data, CLOCK, TARGETS, rotation=columns)
    hands = np.concatenate([rotations(rng, "pos_quat_xyzw", (2, 5)) for _ in range(2)], -1)
    check(lib, rng, hands.reshape(2, 5, 2, 7), CLOCK, TARGETS, rotation="pos_quat_xyzw")
    check(lib, rng, rotations(rng, "mat34", (2, 5)).reshape(2, 5, 3, 4), CLOCK, TARGETS,
          rotation="mat34")  # fmt: skip


def test_long_rows(lib, rng):
    """More targets than a block has threads, against the same in pieces."""
    data = rotations(rng, "pos_quat_xyzw", (2, 300)).astype(np.float32)
    clock = np.cumsum(rng.uniform(0.5, 1.5, 300))
    targets = np.sort(rng.uniform(-1, clock[-1] + 1, (2, 1000)))
    grad = rng.normal(size=(2, 1000, 7))
    options = {"rotation": "pos_quat_xyzw", "dtype": "float64"}
    got = lib.numpy(rotation_gradient(*map(lib.array, (grad, data, clock, targets)), **options))
    pieces = [
        rotation_gradient(grad[:, i : i + 100], data, clock, targets[:, i : i + 100], **options)
        for i in range(0, 1000, 100)
    ]
    assert_close(got, sum(pieces), 1e-12)


@pytest.mark.parametrize("kind", ["quat_xyzw", "rotvec", "rot6d", "matrix", "angle"])
@pytest.mark.parametrize(("x", "y"), [(x, y) for x in FLOATS for y in FLOATS])
def test_dtypes(rng, kind, x, y):
    data = rotations(rng, kind, (2, 5)).astype(dtype_of(x))
    grad = rng.normal(size=(2, 6, data.shape[-1])).astype(dtype_of(y))
    got = rotation_gradient(grad, data, CLOCK, TARGETS, rotation=kind)
    assert got.dtype == data.dtype
    exact = rotation_gradient(grad.astype(float), data.astype(float), CLOCK, TARGETS, rotation=kind)
    size = np.abs(exact).max()
    epsilon = {"float16": 1e-3, "bfloat16": 8e-3}.get(x, 2e-5)
    if "float64" in (x, y) and x in ("float32", "float64"):
        epsilon = 1e-7 if x == "float32" else 1e-12
    np.testing.assert_allclose(got.astype(float), exact, rtol=epsilon, atol=epsilon * size)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("angle", [0.0, 1e-30, 1e-12, 1e-7, 1e-4, 1e-2])
def test_small_angles_lose_no_digits(lib, rng, dtype, angle):
    """Between rotations that are all but equal the weights are those of a line."""
    data = np.zeros((1, 2, 4), dtype)
    data[..., 3], data[0, 1, 0] = 1, angle / 2
    grad = np.array([[[0.5, -2.0, 1.0, 0.25]]], dtype)
    got = lib.numpy(
        rotation_gradient(
            *map(lib.array, (grad, data, np.array([0.0, 4.0]), np.array([[1.0]]))),
            rotation="quat_xyzw",
        )
    )
    wanted = np.array([0.75, 0.25])[:, None] * np.array([0.5, -2.0, 1.0, 0])
    np.testing.assert_allclose(got[0], wanted, atol=2 * angle + 4 * np.finfo(dtype).eps)


def test_small_rotation_vectors(rng, numpy_lib):
    for size in (0.0, 1e-20, 1e-9, 1e-4):
        data = rng.normal(size=(1, 2, 3)) * size
        grad = rng.normal(size=(1, 1, 3))
        got = rotation_gradient(grad, data, np.array([0.0, 4.0]), np.array([[1.0]]),
                                rotation="rotvec")  # fmt: skip
        wanted = np.array([0.75, 0.25])[:, None] * grad[0]
        np.testing.assert_allclose(got[0], wanted, atol=10 * size + 1e-14)


def test_what_is_not_defined_gives_nothing(lib, rng):
    """A rotation of no length, and opposite ones on the long way; their neighbours are right."""
    data = rotations(rng, "pos_quat_xyzw", (1, 4))
    data[0, 1, 3:] = 0
    clock, targets = np.arange(4.0), np.array([[0.5, 1.5, 2.5]])
    grad = rng.normal(size=(1, 3, 7))
    for fill in (None, 0.0):
        got = lib.numpy(
            rotation_gradient(*map(lib.array, (grad, data, clock, targets)),
                              rotation="pos_quat_xyzw", fill_value=fill)
        )  # fmt: skip
        assert np.isfinite(got).all()
        assert not got[0, :2, 3:].any()
        alone = lib.numpy(
            rotation_gradient(*map(lib.array, (grad[:, 2:], data, clock, targets[:, 2:])),
                              rotation="pos_quat_xyzw", fill_value=fill)
        )  # fmt: skip
        np.testing.assert_array_equal(got[0, 2:, 3:], alone[0, 2:, 3:])
        np.testing.assert_array_equal(got[0, 0, :3], grad[0, 0, :3] / 2)  # positions all the same

    data = np.array([[[0.0, 0, 0, 1], [0, 0, 0, -1]]])
    rotation = Rotation("quat_xyzw", shortest_path=False)
    for fill, wanted in ((None, [1.0, 2, 3, 0]), (0.0, [0.0] * 4)):
        got = lib.numpy(
            rotation_gradient(
                *map(lib.array, (np.array([[[1.0, 2, 3, 4]]]), data, np.array([0.0, 1]),
                                 np.array([[0.25]]))),
                rotation=rotation, fill_value=fill,
            )
        )  # fmt: skip
        np.testing.assert_array_equal(got[0], [wanted, [0] * 4])


def test_a_copied_sample_gives_its_bits(lib, rng):
    """An exact hit asks nothing of its neighbours, nor of its own length."""
    data = np.full((1, 3, 4), np.nan)
    data[0, 1] = 0
    grad = rng.normal(size=(1, 2, 4))
    got = lib.numpy(
        rotation_gradient(*map(lib.array, (grad, data, np.arange(3.0), np.array([[1.0, 2.0]]))),
                          rotation="quat_xyzw")
    )  # fmt: skip
    np.testing.assert_array_equal(got[0], [[0] * 4, grad[0, 0], grad[0, 1]])


@pytest.mark.parametrize("shape", [(0, 5), (2, 0), (2, 5)])
def test_nothing(lib, shape):
    B, T = shape
    grad, data = np.zeros((B, T, 4)), np.ones((B, 5, 4))
    got = rotation_gradient(
        *map(lib.array, (grad, data, np.tile(CLOCK, (B, 1)), np.zeros((B, T)))),
        rotation="quat_xyzw",
    )
    np.testing.assert_array_equal(lib.numpy(got), np.zeros((B, 5, 4)))


# ------------------------------------------------------------------------------------------ slerp


def gradients(lib, grad, **arguments):
    op = Op.all["slerp"]
    arguments = {"order": "xyzw", "shortest_path": True, "out": None, "backend": "auto"} | arguments
    made = op.gradient((lib.array(grad),), arrays(lib, arguments))
    assert set(made) <= set(op.by)
    return {name: lib.numpy(x) for name, x in made.items()}


@pytest.mark.parametrize("shortest_path", [True, False])
@pytest.mark.parametrize("order", ["xyzw", "wxyz"])
def test_slerp_by_finite_differences(lib, rng, order, shortest_path):
    q0, q1 = rng.normal(size=(2, 20, 4))
    t = rng.uniform(-0.5, 1.5, 20)
    t[:2] = 0, 1
    options = {"order": order, "shortest_path": shortest_path}
    weights = rng.normal(size=(20, 4))
    got = gradients(lib, weights, q0=q0, q1=q1, t=t, **options)
    step = 1e-6
    by_t = slerp(q0, q1, t + step, **options) - slerp(q0, q1, t - step, **options)
    made = {
        "q0": by_differences(lambda x: slerp(x, q1, t, **options), q0, weights),
        "q1": by_differences(lambda x: slerp(q0, x, t, **options), q1, weights),
        "t": (weights * by_t).sum(-1) / (2 * step),
    }
    assert set(got) == set(made)
    for name, wanted in made.items():
        assert_close(got[name], wanted, 1e-5)


def test_slerp_broadcasts(lib, rng):
    q0, q1, t = rng.normal(size=(3, 1, 4)), rng.normal(size=4), rng.uniform(size=(5,))
    weights = rng.normal(size=(3, 5, 4))
    got = gradients(lib, weights, q0=q0, q1=q1, t=t)
    assert_close(got["q0"], by_differences(lambda x: slerp(x, q1, t), q0, weights))
    assert_close(got["q1"], by_differences(lambda x: slerp(q0, x, t), q1, weights))
    numeric = (slerp(q0, q1, t + 1e-6) - slerp(q0, q1, t - 1e-6)) * weights / 2e-6
    assert_close(got["t"], numeric.sum((0, 2)))
    number = gradients(lib, weights[:, 0], q0=q0[:, 0], q1=q1, t=0.25)
    assert set(number) == {"q0", "q1"}
    assert_close(number["q1"], by_differences(lambda x: slerp(q0[:, 0], x, 0.25), q1,
                                              weights[:, 0]))  # fmt: skip


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.floats(0, 1), st.sampled_from([1e-9, 1e-3, 0.5, 1.5, 3.1]))
def test_slerp_turns_its_gradient_with_the_rotations(seed, t, angle):
    """slerp commutes with rotations of the sphere, and so does its gradient; by both ends at once
    it is the gradient itself, turned back."""
    random = np.random.default_rng(seed)
    a, n = np.linalg.qr(random.normal(size=(4, 2)))[0].T
    b = np.cos(angle / 2) * a + np.sin(angle / 2) * n
    turn = np.linalg.qr(random.normal(size=(4, 4)))[0]
    grad = random.normal(size=4)
    plain = slerp_backward(grad, a, b, t)
    turned = slerp_backward(turn @ grad, turn @ a, turn @ b, t)
    for x, y in zip(plain, turned, strict=True):
        np.testing.assert_allclose(turn @ x, y, atol=1e-12 / min(angle, 1e-1))
    for x, q in ((plain.q0, a), (plain.q1, b)):  # no part along what is normalised
        assert abs(x @ q) < 1e-14 * max(np.linalg.norm(grad), 1)


@pytest.mark.parametrize("dtype", FLOATS)
def test_slerp_of_any_float(lib, rng, dtype):
    q0, q1 = rng.normal(size=(2, 30, 4)).astype(dtype_of(dtype))
    weights = rng.normal(size=(30, 4)).astype(dtype_of(dtype))
    got = gradients(lib, weights, q0=q0, q1=q1, t=0.375)
    exact = slerp_backward(*(x.astype(float) for x in (weights, q0, q1)), 0.375)
    epsilon = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 2e-6, "float64": 1e-14}[dtype]
    for name in ("q0", "q1"):
        wanted = getattr(exact, name)
        assert got[name].dtype == dtype_of(dtype)
        size = np.abs(wanted).max(-1, keepdims=True)
        assert (np.abs(got[name].astype(float) - wanted) <= epsilon * size + epsilon**2).all()


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_lengths_beyond_the_range_of_squares(rng, scale):
    q0, q1, grad = rng.normal(size=(3, 4))
    plain, scaled = slerp_backward(grad, q0, q1, 0.3), slerp_backward(grad, q0 * scale, q1, 0.3)
    np.testing.assert_allclose(scaled.q0 * scale, plain.q0, atol=1e-14)
    np.testing.assert_allclose(scaled.q1, plain.q1, atol=1e-14)


def test_slerp_without_a_result_gives_nothing(lib):
    q0 = np.array([[0.0, 0, 0, 0], [np.nan, 0, 0, 1], [0, 0, 0, 1]])
    q1 = np.array([[0.0, 0, 0, 1], [0, 0, 0, 1], [np.inf, 0, 0, 1]])
    got = gradients(lib, np.ones((3, 4)), q0=q0, q1=q1, t=np.full(3, 0.5))
    assert not any(x.any() for x in got.values())


# ----------------------------------------------------------------------------------------- unwrap


def unwrapped(lib, grad, quat, **options):
    op = Op.all["unwrap_quaternions"]
    arguments = {"quat": quat, "lengths": None, "out": None, "backend": "auto"} | options
    assert op.by == ("quat",)
    return lib.numpy(op.gradient((lib.array(grad),), arrays(lib, arguments))["quat"])


@pytest.mark.parametrize("dtype", FLOATS)
def test_unwrapping_negates_its_gradient(lib, rng, dtype):
    if lib.name == "cupy" and dtype == "bfloat16":
        pytest.skip("cupy.where makes float32 of bfloat16")
    quat = rng.normal(size=(3, 50, 4)).astype(dtype_of(dtype))
    quat[0, 4:7] = 0  # as are their neighbours: with or without a sign
    quat[1, 3, 1] = np.nan
    grad = rng.normal(size=quat.shape).astype(dtype_of(dtype))
    for options in ({}, {"lengths": np.array([50, 20, 0])}):
        made = unwrap_quaternions(quat, **options)
        sign = np.ones((3, 50, 1))
        for b, s in np.ndindex(3, 50):
            for x, y in zip(quat[b, s].astype(float), made[b, s].astype(float), strict=True):
                if x == x and np.signbit(x) != np.signbit(y):
                    sign[b, s] = -1
        assert (sign < 0).any()
        got = unwrapped(lib, grad, quat, **options)
        assert got.dtype == quat.dtype
        np.testing.assert_array_equal(got.astype(float), sign * grad.astype(float))


# ----------------------------------------------------------------------------------------- errors


def test_second_derivatives_are_refused():
    for name in ("rotation_backward", "slerp_backward"):
        with pytest.raises(RuntimeError, match="no second derivative here: differentiate once"):
            Op.all[name].gradient((np.zeros(4),), {})


def test_unsorted_stamps_are_refused():
    with pytest.raises(RuntimeError, match="unsorted stamps: sort data and src_times first"):
        rotation_gradient(np.zeros((1, 1, 4)), np.zeros((1, 2, 4)), CLOCK[:2], TARGETS[:1, :1],
                          rotation="quat_xyzw", assume_sorted=False)  # fmt: skip


GIVEN = {
    "grad": np.zeros((2, 3, 4)), "data": np.zeros((2, 5, 4)),
    "index": np.zeros((2, 3), np.int32), "weight": np.zeros((2, 3)), "rotation": "quat_xyzw",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"grad": np.zeros((2, 3, 4), int)}, TypeError, "grad has dtype int64"),
        ({"grad": np.zeros((3, 3, 4))}, ValueError, r"grad has shape \(3, 3, 4\), expected \(2, 3"),
        ({"data": np.zeros((2, 5, 3))}, ValueError, r"data has shape .* expected \(B, S, 4\)"),
        ({"data": np.zeros((3, 5, 4))}, ValueError, "data has 3 rows, expected 2"),
        ({"index": np.zeros((2, 3))}, TypeError, "index has dtype float64, expected one of int32"),
        ({"index": np.zeros(3, np.int32)}, ValueError, r"index has shape \(3,\)"),
        ({"weight": np.zeros((2, 3), np.float32)}, TypeError, "weight has dtype float32, expected"),
        ({"weight": np.zeros((2, 4))}, ValueError, r"weight has shape \(2, 4\), expected \(2, 3\)"),
        ({"valid": np.zeros((2, 4), bool)}, ValueError, r"valid has shape \(2, 4\)"),
        ({"offsets": np.array([0, 1, 2])}, ValueError, r"data has shape .* expected \(N, 4\)"),
        ({"offsets": np.zeros(5, int), "data": np.zeros((5, 4))}, ValueError,
         r"offsets has shape \(5,\), expected \(3,\)"),
        ({"rotation": "rotvec"}, ValueError, "expected them to end in"),
        ({"dtype": "int8"}, TypeError, "dtype is int8"),
    ],
)  # fmt: skip
def test_errors(change, error, text):
    with pytest.raises(error, match=text):
        rotation_backward(**(GIVEN | change))


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"order": "xwyz"}, ValueError, "order is 'xwyz'"),
        ({"q0": np.zeros((3, 4))}, ValueError, r"q0 has shape \(3, 4\), expected \(2, 4\)"),
        ({"q1": np.zeros((2, 4), np.float32)}, TypeError, "q1 has dtype float32, expected one of"),
        ({"t": np.zeros(3)}, ValueError, r"t has shape \(3,\), expected \(2,\)"),
        ({"t": np.zeros(2, int)}, TypeError, "t has dtype int64"),
        ({"t": None}, TypeError, "t is None"),
    ],
)
def test_errors_of_slerp(change, error, text):
    given = {"grad": np.zeros((2, 4)), "q0": np.zeros((2, 4)), "q1": np.zeros((2, 4)), "t": 0.5}
    with pytest.raises(error, match=text):
        slerp_backward(**(given | change))


def test_gradients_through_torch(rng):
    """As a user meets them: recorded, and refused where they are asked for twice."""
    torch = pytest.importorskip("torch")

    def tensor(x):
        return torch.tensor(x, requires_grad=True)

    clock, targets = torch.tensor(CLOCK), torch.tensor(TARGETS)
    poses, quat = (tensor(rotations(rng, kind, (2, 5))) for kind in ("pos_rot6d", "quat_wxyz"))
    assert torch.autograd.gradcheck(
        lambda x: interpolate_poses(x, clock, targets, format="pos_rot6d", max_gap=1.0), (poses,)
    )
    turned = interpolate_quaternions(quat, clock, targets, order="wxyz", canonical=True)
    (once,) = torch.autograd.grad(turned[..., 1].sum(), quat, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative here: differentiate once"):
        once.sum().backward()
    q0, q1, t = (tensor(rng.normal(size=shape)) for shape in ((3, 1, 4), (4,), (5,)))
    assert torch.autograd.gradcheck(slerp, (q0, q1, t))
    (once,) = torch.autograd.grad(slerp(q0, q1, t)[..., 1].sum(), t, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative here: differentiate once"):
        once.sum().backward()
    assert torch.autograd.gradcheck(unwrap_quaternions, (quat,))
    assert torch.autograd.gradgradcheck(lambda x: unwrap_quaternions(x) ** 2, (quat,))
