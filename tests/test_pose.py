import ctypes
import itertools

import host_cuda
import ml_dtypes
import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

import robocache_cupy as rc
from robocache_cupy._core.kernel import Kernel, source
from robocache_cupy._core.plan import Op
from robocache_cupy._cpu import DType, row
from robocache_cupy._cpu import rotation as kinds
from robocache_cupy._cpu.rotation import (
    ANGLE,
    CANONICAL,
    LONG_WAY,
    MATRIX,
    NLERP,
    QUAT_WXYZ,
    QUAT_XYZW,
    ROT6D,
    ROTVEC,
)
from robocache_cupy.pose import slerp, unwrap_quaternions

FLOATS = ("float16", "bfloat16", "float32", "float64")
DEGREES = {"float16": 0.4, "bfloat16": 3.0, "float32": 8e-5, "float64": 2e-13}  # of error
COLUMNS = {QUAT_XYZW: 4, QUAT_WXYZ: 4, ROTVEC: 3, ROT6D: 6, MATRIX: 9, ANGLE: 1}
REFERENCE = Kernel.on_host  # before any lane takes its place
rng = np.random.default_rng


def dtype_of(name):
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def bits(x):
    return x.view(f"u{x.itemsize}")


def assert_same_bits(got, expected):
    """Equal in every bit, but for which NaN it is."""
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    nan = np.isnan(expected.astype(np.float64))
    np.testing.assert_array_equal(np.isnan(got.astype(np.float64)), nan)
    np.testing.assert_array_equal(bits(got)[~nan], bits(expected)[~nan])


def degrees_apart(p, q):
    """The angle of the rotation from one to the other, precise for any angle."""
    p, q = (x.astype(np.longdouble) for x in np.broadcast_arrays(p, q))
    p, q = (x / np.sqrt((x * x).sum(-1, keepdims=True)) for x in (p, q))
    q = np.where((p * q).sum(-1, keepdims=True) < 0, -q, q)
    return np.degrees(4 * np.arcsin(np.sqrt(((p - q) ** 2).sum(-1)) / 2).astype(np.float64))


def scipy_slerp(q0, q1, t):
    """What `scipy.spatial.transform.Slerp` computes, of many pairs and beyond them."""
    start, end = (Rotation.from_quat(np.asarray(q, np.float64)) for q in (q0, q1))
    turned = (start.inv() * end).as_rotvec() * np.asarray(t, np.float64).reshape(-1, 1)
    return (start * Rotation.from_rotvec(turned)).as_quat()


def test_the_oracle_is_scipys_slerp():
    random = rng(0)
    q0, q1, t = random.normal(size=(20, 4)), random.normal(size=(20, 4)), random.random(20)
    expected = scipy_slerp(q0, q1, t)
    for pair, w, q in zip(np.stack([q0, q1], 1), t, expected, strict=True):
        assert degrees_apart(Slerp([0, 1], Rotation.from_quat(pair))(w).as_quat(), q) < 1e-13


# ------------------------------------------------------------------------------ all kinds: `turn`


@numba.njit(error_model="numpy")
def _turns(kind, stride, flags, a, b, w, out, defined, columns, X):
    for i in range(len(w)):
        at, n = i * columns, columns
        defined[i] = kinds.turn(
            kind, stride, flags, row(a, at, n, X), row(b, at, n, X), w[i], row(out, at, n, X), X, X
        )


def turn_numba(kind, stride, flags, a, b, w, out, defined):
    _turns(
        kind, stride, flags, a.ctypes.data, b.ctypes.data, w, out.ctypes.data, defined,
        a.shape[1], DType(a.dtype.name),
    )  # fmt: skip


PROBE = """
template <typename X>
__global__ void probe(const X* a, const X* b, const Computed<X, X>* w, X* out, bool* defined,
                      int64 kind, int64 row, int64 flags, int64 columns, int64 n) {
    for (int64 i = blockIdx.x; i < n; i += gridDim.x)
        defined[i] = turn((int)kind, row, (int)flags, a + i * columns, b + i * columns, w[i],
                          out + i * columns);
}
"""


def turn_cuda(kind, stride, flags, a, b, w, out, defined):
    """The text of rotation.cuh, which pose.cu includes, on the host."""
    c_type = {"float16": "__half", "bfloat16": "__nv_bfloat16", "float32": "float"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(host_cuda, "source", lambda module: source("pose") + PROBE)
        expression = f"probe<{c_type.get(a.dtype.name, 'double')}>"
        entry, _ = host_cuda._compile("turn", expression)
    types = [ctypes.c_longlong, *[ctypes.c_void_p] * 5, *[ctypes.c_longlong] * 5]
    pointers = [x.ctypes.data for x in (a, b, w, out, defined)]
    ctypes.CFUNCTYPE(None, *types)(entry)(1, *pointers, kind, stride, flags, a.shape[1], len(a))


def turn(a, b, w, kind=QUAT_XYZW, flags=0, dtype="float64", stride=3):
    """The result and whether it is defined, the same of both implementations."""
    a, b = (np.atleast_2d(np.asarray(x, np.float64)).astype(dtype_of(dtype)) for x in (a, b))
    w = np.broadcast_to(np.asarray(w, "float64" if dtype == "float64" else "float32"), len(a))
    results = []
    for implementation in (turn_numba, turn_cuda):
        out, defined = np.full_like(a, 7), np.zeros(len(a), bool)
        implementation(kind, stride, flags, a, b, w.copy(), out, defined)
        results.append((out, defined))
    (out, defined), (out_cuda, defined_cuda) = results
    assert_same_bits(out_cuda, out)
    np.testing.assert_array_equal(defined_cuda, defined)
    return out, defined


def stored(q, kind):
    """Quaternions xyzw as the kind."""
    rotation = Rotation.from_quat(q)
    if kind == QUAT_WXYZ:
        return np.roll(q, 1, axis=-1)
    if kind == ROTVEC:
        return rotation.as_rotvec()
    if kind == ROT6D:
        return rotation.as_matrix()[:, :, :2].transpose(0, 2, 1).reshape(-1, 6)
    return rotation.as_matrix().reshape(-1, 9) if kind == MATRIX else q


def as_quaternion(x, kind):
    x = x.astype(np.float64)
    if kind == QUAT_WXYZ:
        return np.roll(x, -1, axis=-1)
    if kind == ROTVEC:
        return Rotation.from_rotvec(x).as_quat()
    if kind == ROT6D:
        x, y = x[:, :3], x[:, 3:]
        x = np.stack([x, y, np.cross(x, y)], axis=-1)
    return Rotation.from_matrix(x.reshape(-1, 3, 3)).as_quat() if kind in (ROT6D, MATRIX) else x


ROTATIONS = (QUAT_XYZW, QUAT_WXYZ, ROTVEC, ROT6D, MATRIX)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("kind", ROTATIONS)
@given(seed=st.integers(0, 2**32), size=st.sampled_from([1e-9, 1e-7, 1e-3, 1.0]))
@settings(max_examples=15)
def test_random_rotations(kind, dtype, seed, size):
    random = rng(seed)
    q0 = random.normal(size=(50, 4))
    q1 = q0 * random.choice([-1, 1], (50, 1)) + size * random.normal(size=(50, 4))
    # What the kind stores is what is rounded, so the oracle starts from there.
    a, b = (stored(q, kind).astype(dtype_of(dtype)) for q in (q0, q1))
    w = random.random(50).astype("float64" if dtype == "float64" else "float32")
    out, defined = turn(a, b, w, kind, dtype=dtype)
    assert defined.all()
    expected = scipy_slerp(as_quaternion(a, kind), as_quaternion(b, kind), w)
    tolerance = DEGREES[dtype] * (3 if kind in (ROTVEC, ROT6D, MATRIX) else 1)
    assert degrees_apart(as_quaternion(out, kind), expected).max() < tolerance
    if kind in (QUAT_XYZW, QUAT_WXYZ):
        length = np.linalg.norm(out.astype(np.float64), axis=1)
        eps = float(ml_dtypes.finfo(out.dtype).eps)
        np.testing.assert_allclose(length, 1, rtol=2 * eps)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 3e-5), ("float64", 1e-13)])
def test_precision(dtype, tolerance):
    random = rng(1)
    q0, q1 = random.normal(size=(2, 3000, 4)).astype(dtype)
    w = random.random(3000).astype(dtype)
    for end in (q1, q0, -q0, (q0 + 1e-7 * q1).astype(dtype), (-q0 + 1e-7 * q1).astype(dtype)):
        out, _ = turn(q0, end, w, dtype=dtype)
        assert degrees_apart(out, scipy_slerp(q0, end, w)).max() < tolerance


@pytest.mark.parametrize("kind", ROTATIONS)
def test_half_a_circle_apart(kind):
    """Either way round is right."""
    random = rng(2)
    start = Rotation.random(200, rng=random)
    axes = random.normal(size=(200, 3))
    axes *= np.pi / np.linalg.norm(axes, axis=1, keepdims=True)
    q0, q1 = start.as_quat(), (start * Rotation.from_rotvec(axes)).as_quat()
    out, defined = turn(stored(q0, kind), stored(q1, kind), 0.25, kind)
    assert defined.all()
    q = as_quaternion(out, kind)
    np.testing.assert_allclose(degrees_apart(q0, q), 45, rtol=1e-12)
    np.testing.assert_allclose(degrees_apart(q, q1), 135, rtol=1e-12)


@pytest.mark.parametrize("kind", ROTATIONS)
def test_the_ends(kind):
    random = rng(3)
    q0, q1 = random.normal(size=(2, 100, 4))
    for w, q in ((0, q0), (1, q1)):
        out, _ = turn(stored(q0, kind), stored(q1, kind), w, kind)
        assert degrees_apart(as_quaternion(out, kind), q).max() < 2e-13


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 5e-4), ("float64", 1e-12)])
def test_beyond_the_ends(dtype, tolerance):
    random = rng(4)
    q0, q1 = random.normal(size=(2, 2000, 4)).astype(dtype)
    w = random.uniform(-10, 10, 2000).astype(dtype)
    out, defined = turn(q0, q1, w, dtype=dtype)
    assert defined.all()
    assert degrees_apart(out, scipy_slerp(q0, q1, w)).max() < tolerance
    close = (q0 + 1e-4 * q1).astype(dtype)
    w *= 100
    out, defined = turn(q0, close, w, dtype=dtype)
    assert defined.all()
    assert degrees_apart(out, scipy_slerp(q0, close, w)).max() < 2000 * tolerance


@pytest.mark.parametrize("dtype", FLOATS)
def test_opposite_quaternions_the_long_way(dtype):
    q = rng(5).normal(size=(300, 4))
    for scale in (1, 3, 0.1):
        out, defined = turn(q, -scale * q, 0.3, flags=LONG_WAY, dtype="float32")
        assert not defined.any()
        assert degrees_apart(out, q.astype(np.float32)).max() < 3e-5
    out, defined = turn(q, -q, 0.3, dtype=dtype)
    assert defined.all()
    assert degrees_apart(out, q.astype(dtype_of(dtype))).max() < DEGREES[dtype]


def test_the_long_way():
    half = np.sqrt(0.5)
    out, defined = turn([0, 0, 0, 1], [0, 0, -half, -half], 0.5, flags=LONG_WAY)
    assert defined.all()  # three quarters of a circle about -z, by half
    np.testing.assert_allclose(out, [[0, 0, -np.sin(3 * np.pi / 8), np.cos(3 * np.pi / 8)]])
    out, _ = turn([0, 0, 0, 1], [0, 0, half, half], 0.5, flags=LONG_WAY)  # which is the short one
    np.testing.assert_allclose(out, [[0, 0, np.sin(np.pi / 8), np.cos(np.pi / 8)]])
    for kind in (ROT6D, MATRIX):
        a, b = (stored(q, kind) for q in rng(6).normal(size=(2, 50, 4)))
        assert_same_bits(turn(a, b, 0.3, kind, LONG_WAY)[0], turn(a, b, 0.3, kind)[0])


def test_nlerp():
    q0, q1 = rng(7).normal(size=(2, 100, 4))
    out, defined = turn(q0, q1, 0.3, flags=NLERP)
    assert defined.all()
    a, b = (q / np.linalg.norm(q, axis=1, keepdims=True) for q in (q0, q1))
    b = np.where((a * b).sum(1, keepdims=True) < 0, -b, b)
    assert degrees_apart(out, 0.7 * a + 0.3 * b).max() < 1e-13
    assert degrees_apart(out, turn(q0, q1, 0.3)[0]).max() > 1


def test_canonical():
    q0, q1 = rng(8).normal(size=(2, 100, 4))
    plain, out = turn(q0, q1, 0.3)[0], turn(q0, q1, 0.3, flags=CANONICAL)[0]
    assert (plain[:, 3] < 0).any()
    assert (plain[:, 3] > 0).any()
    np.testing.assert_array_equal(out, plain * np.sign(plain[:, 3:]))
    for q in ([-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 0], [0, 0, 0, -1]):
        np.testing.assert_array_equal(turn(q, q, 0, flags=CANONICAL)[0], [np.abs(q)])


NO_ROTATION = {
    QUAT_XYZW: ([0, 0, 0, 0], [np.nan, 0, 0, 1], [0, np.inf, 0, 1]),
    QUAT_WXYZ: ([0, 0, 0, 0], [0, 0, 1, np.nan], [-np.inf, 0, 0, 1]),
    ROTVEC: ([np.nan, 0, 0], [0, 0, np.inf], [1e30, 0, 0]),
    ROT6D: (
        [0, 0, 0, 0, 1, 0],
        [1, 0, 0, 0, 0, 0],
        [1, 2, 3, -2, -4, -6],
        [1, 0, 0, 0, np.nan, 0],
        [np.inf, 0, 0, 0, 1, 0],
    ),
    MATRIX: ([0] * 9, [-1, 0, 0, 0, 1, 0, 0, 0, 1], [1, 0, 0, 0, np.nan, 0, 0, 0, 1]),
    ANGLE: ([np.nan], [np.inf], [1e30]),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("kind", "bad"), [(kind, bad) for kind, several in NO_ROTATION.items() for bad in several]
)
def test_what_is_no_rotation(kind, bad, dtype):
    good = [0.5] if kind == ANGLE else stored(np.array([[0.1, 0.2, 0.3, 0.9]]), kind)[0]
    for a, b in ((bad, good), (good, bad)):
        for flags in (0, NLERP, LONG_WAY):
            with np.errstate(over="ignore"):  # 1e30 as float16
                out, defined = turn(a, b, 0.5, kind, flags, dtype)
            assert not defined.any()
            assert np.isnan(out.astype(np.float64)).all()


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("w", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_no_number(kind, w):
    good = [0.5] if kind == ANGLE else stored(np.array([[0.1, 0.2, 0.3, 0.9]]), kind)[0]
    far = [1.5] if kind == ANGLE else stored(np.array([[0.3, -0.2, 0.3, 0.9]]), kind)[0]
    for end in (good, far):
        out, defined = turn(good, end, w, kind)
        assert not defined.any()
        assert np.isnan(out).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1e-25, 1e-18, 1e18, 1e25])
def test_lengths_whose_squares_are_out_of_range(scale, dtype):
    q0, q1 = rng(9).normal(size=(2, 100, 4)).astype(dtype)
    out, defined = turn(q0.astype(np.float64) * scale, q1, 0.3, dtype=dtype)
    assert defined.all()
    assert degrees_apart(out, scipy_slerp(q0, q1, np.full(100, 0.3))).max() < (
        1e-4 if dtype == "float32" else 1e-13
    )


def test_rotation_vectors_stay_short():
    v0, v1 = rng(10).normal(size=(2, 1000, 3)) * 4
    out, _ = turn(v0, v1, 0.5, ROTVEC)
    assert np.linalg.norm(out, axis=1).max() <= np.pi * (1 + 1e-15)
    v = np.array([[1e-9, 0, 0], [0, 1e-15, 0], [0, 0, 0], [1e-200, 0, 0]])
    out, defined = turn(v, v, 0.5, ROTVEC)
    assert defined.all()
    np.testing.assert_allclose(out, v, rtol=1e-14)


def test_columns_that_are_not_orthonormal():
    """Gram and Schmidt: the first column keeps its direction, the second its half plane."""
    first, second = rng(11).normal(size=(2, 100, 3))
    x = np.concatenate([first, second], 1)
    out, defined = turn(x, x, 0.5, ROT6D)
    assert defined.all()
    e1 = first / np.linalg.norm(first, axis=1, keepdims=True)
    e2 = second - (e1 * second).sum(1, keepdims=True) * e1
    e2 /= np.linalg.norm(e2, axis=1, keepdims=True)
    np.testing.assert_allclose(out, np.concatenate([e1, e2], 1), atol=1e-13)


def test_the_rotation_of_a_4_by_4_matrix():
    q0, q1 = rng(12).normal(size=(2, 50, 4))
    a, b = (np.full((50, 4, 4), 9.0) for _ in range(2))
    a[:, :3, :3], b[:, :3, :3] = (stored(q, MATRIX).reshape(-1, 3, 3) for q in (q0, q1))
    out, _ = turn(a.reshape(50, 16), b.reshape(50, 16), 0.3, MATRIX, stride=4)
    out = out.reshape(50, 4, 4)
    expected, _ = turn(stored(q0, MATRIX), stored(q1, MATRIX), 0.3, MATRIX)
    np.testing.assert_array_equal(out[:, :3, :3].reshape(50, 9), expected)
    assert (out[:, 3] == 7).all()  # untouched
    assert (out[:, :3, 3] == 7).all()


# -------------------------------------------------------------------------------------- angles


def wrapped(x):
    """Into (-pi, pi], naively."""
    return np.pi - np.mod(np.pi - x, 2 * np.pi)


@given(seed=st.integers(0, 2**32), size=st.sampled_from([1.0, 10.0, 100.0]))
@settings(max_examples=20)
def test_angles(seed, size):
    a, b = rng(seed).uniform(-size, size, (2, 50, 1))
    w = rng(seed).uniform(-0.5, 1.5, 50)
    out, defined = turn(a, b, w, ANGLE)
    assert defined.all()
    assert ((out > -np.pi) & (out <= np.pi)).all()
    expected = wrapped(a + w[:, None] * wrapped(b - a))
    np.testing.assert_allclose(wrapped(out - expected), 0, atol=1e-13 * size)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_angles_half_a_circle_apart_turn_to_the_left(dtype):
    pi = np.dtype(dtype).type(np.pi)
    starts, ends = [[0], [0]], [[pi], [-pi]]
    out, _ = turn(starts, ends, 0.5, ANGLE, dtype=dtype)
    np.testing.assert_allclose(out, np.pi / 2, rtol=1e-6)
    out, _ = turn(starts, ends, 1, ANGLE, dtype=dtype)
    np.testing.assert_array_equal(out, np.full((2, 1), pi))


def test_angles_across_the_seam():
    degrees = np.radians([[175.0], [-175.0], [175.0], [350.0]])
    ends = np.radians([[-175.0], [175.0], [185.0], [10.0]])
    out, _ = turn(degrees, ends, 0.4, ANGLE)
    np.testing.assert_allclose(np.degrees(out.ravel()), [179, -179, 179, -2], atol=1e-12)
    out, _ = turn(degrees, ends, 0.5, ANGLE, LONG_WAY)
    np.testing.assert_allclose(np.degrees(out.ravel()), [0, 0, 180, 180], atol=1e-12)


# --------------------------------------------------------------------------------------- slerp


def skip_unless_it_has(lib, *dtypes):
    if missing := lib.dtypes_missing.intersection(dtypes):
        pytest.skip(f"{lib.name} has no {', '.join(missing)}")


def run(lib, function, *args, **options):
    args = [lib.array(x) if isinstance(x, np.ndarray) else x for x in args]
    options = {k: lib.array(x) if isinstance(x, np.ndarray) else x for k, x in options.items()}
    return lib.numpy(function(*args, **options))


def quaternions(*shape, dtype="float64", seed=0):
    return rng(seed).normal(size=(*shape, 4)).astype(dtype_of(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("weights", ["same", "float32", "float64", None])
@pytest.mark.parametrize("order", ["xyzw", "wxyz"])
def test_slerp_is_scipys(lib, dtype, weights, order):
    skip_unless_it_has(lib, dtype)
    q0, q1 = quaternions(60, dtype=dtype), quaternions(60, dtype=dtype, seed=1)
    t = 0.375
    if weights:
        t = rng(2).random(60).astype(dtype_of(dtype if weights == "same" else weights))
    out = run(lib, slerp, q0, q1, t, order=order)
    assert out.dtype == q0.dtype
    shift = 0 if order == "xyzw" else -1
    w = np.broadcast_to(t, 60)
    expected = scipy_slerp(np.roll(q0, shift, -1), np.roll(q1, shift, -1), w)
    assert degrees_apart(np.roll(out, shift, -1), expected).max() < DEGREES[dtype]
    assert_same_bits(out, slerp(q0, q1, t, order=order))
    flipped = slerp(np.roll(q0, 1, -1), np.roll(q1, 1, -1), t, order="wxyz")
    if order == "xyzw":
        assert_same_bits(np.roll(flipped, -1, -1), out)


SHAPES = [
    ((), (), ()),
    ((5,), (5,), (5,)),
    ((3, 1), (1, 5), ()),
    ((), (3, 5), (5,)),
    ((3, 5), (), (3, 1)),
    ((2, 1, 4), (1, 3, 1), (4,)),
    ((2, 1, 4, 1), (1, 3, 1, 5), (3, 1, 1)),
    ((2, 3, 4, 5, 6), (2, 3, 4, 5, 6), (6,)),
    ((1, 1), (1, 1), (1,)),
]


@pytest.mark.parametrize(("a", "b", "c"), SHAPES)
def test_slerp_broadcasts(lib, a, b, c):
    q0, q1 = quaternions(*a), quaternions(*b, seed=1)
    t = rng(2).random(c) if c else 0.3
    out = run(lib, slerp, q0, q1, t)
    shape = np.broadcast_shapes(a, b, c)
    x, y = (np.broadcast_to(q, (*shape, 4)).reshape(-1, 4) for q in (q0, q1))
    w = np.broadcast_to(t, shape).ravel().copy()
    assert_same_bits(out, slerp(x.copy(), y.copy(), w).reshape(*shape, 4))


def test_many_axes_that_do_not_lie_together(lib):
    q0, q1 = quaternions(2, 1, 3, 1, 2, 1), quaternions(1, 2, 1, 3, 1, 2, seed=1)
    with pytest.raises(ValueError, match=r"broadcast to \(2, 2, 3, 3, 2, 2\).*at most 4"):
        run(lib, slerp, q0, q1, 0.5)
    order = (4, 2, 0, 3, 1, 5, 6)
    q0 = quaternions(2, 2, 3, 3, 2, 2).transpose(order)
    q1 = quaternions(*q0.shape[:-1], seed=1)
    assert_same_bits(run(lib, slerp, q0, q1, 0.5), slerp(q0.copy(), q1, 0.5))


@pytest.mark.parametrize("shapes", [((0,), (0,), (0,)), ((3, 0), (1,), ()), ((2, 1), (1, 0), (0,))])
def test_slerp_of_nothing(lib, shapes):
    a, b, c = shapes
    out = run(lib, slerp, quaternions(*a), quaternions(*b), np.zeros(c) if c else 0.5)
    assert out.shape == (*np.broadcast_shapes(*shapes), 4)


@pytest.mark.parametrize("dtype", FLOATS)
def test_views(dtype):
    q0, q1 = quaternions(7, 9, dtype=dtype), quaternions(7, 9, dtype=dtype, seed=1)
    t = rng(2).random((7, 9)).astype("float32")
    expected = slerp(q0, q1, t)
    storage = np.zeros(7 * 9 * 4 + 1, q0.dtype)
    shifted = storage[1:].reshape(7, 9, 4)
    shifted[...] = q0
    rows = np.zeros((7, 9, 7), q0.dtype)
    rows[..., 2:6] = q0
    strided = np.zeros((7, 9, 8), q0.dtype)
    strided[..., ::2] = q0
    for view in (shifted, rows[..., 2:6], strided[..., ::2], q0[::-1, ::-1].copy()[::-1, ::-1],
                 np.asfortranarray(q0)):  # fmt: skip
        assert_same_bits(slerp(view, q1, t), expected)
        assert_same_bits(slerp(q1, view, 1 - t), slerp(q1, q0, 1 - t))
    assert_same_bits(slerp(q0, q1, np.asfortranarray(t)), expected)
    out = np.zeros((7, 9, 6), q0.dtype)[..., 1:5]
    assert slerp(q0, q1, t, out=out) is out
    assert_same_bits(out.copy(), expected)
    slerp(q0, q1, t, out=q0)
    assert_same_bits(q0, expected)


def test_t_changes_without_a_new_plan():
    q0, q1 = quaternions(5), quaternions(5, seed=1)
    slerp(q0, q1, 0.1)
    plans = len(Op.all["slerp"].cache)
    for t in (0.2, 1, np.float32(0.3), np.array(0.4), True):
        assert_same_bits(slerp(q0, q1, t), slerp(q0, q1, np.full(5, float(t))))
    assert len(Op.all["slerp"].cache) <= plans + 1


def test_t_as_a_list(lib):
    q0, q1 = quaternions(3), quaternions(3, seed=1)
    assert_same_bits(run(lib, slerp, q0, q1, [0.1, 0.2, 0.3]), slerp(q0, q1, np.r_[0.1, 0.2, 0.3]))


def test_slerp_of_what_is_no_rotation(lib):
    q0 = np.array([[0, 0, 0, 0], [np.nan, 0, 0, 1], [0, 0, 0, 2], [1, 2, 2, 4]], np.float32)
    q1 = np.array([[0, 0, 0, 1], [0, 0, 0, 1], [0, 0, 0, -3], [-1, -2, -2, -4]], np.float32)
    nan, one = [np.nan] * 4, [0, 0, 0, 1]
    expected = np.array([nan, nan, one, [0.2, 0.4, 0.4, 0.8]], np.float32)
    for shortest_path in (True, False):
        out = run(lib, slerp, q0, q1, 0.5, shortest_path=shortest_path)
        np.testing.assert_allclose(out, expected, rtol=3e-7)
    assert np.isnan(run(lib, slerp, q0, q1, np.full(4, np.nan))).all()
    half = np.sqrt(np.float32(0.5))
    a, b = np.array([0, 0, 0, 1], np.float32), np.array([0, 0, -half, -half], np.float32)
    long = run(lib, slerp, a, b, 0.5, shortest_path=False)
    np.testing.assert_allclose(
        long, [0, 0, -np.sin(3 * np.pi / 8), np.cos(3 * np.pi / 8)], rtol=1e-6
    )


def test_backends_agree_bit_for_bit(monkeypatch):
    cases = [
        (quaternions(4, 33, dtype=dtype), quaternions(33, dtype=dtype, seed=1), t, order, short)
        for dtype in FLOATS
        for t in (0.3, -2.5, rng(2).uniform(-1, 2, (4, 33)).astype("float32"))
        for order in ("xyzw", "wxyz")
        for short in (True, False)
    ]

    def results():
        return [slerp(a, b, t, order=o, shortest_path=s) for a, b, t, o, s in cases]

    monkeypatch.setattr(Kernel, "on_host", REFERENCE)  # the lane on the host may be in its place
    numba_results = results()
    monkeypatch.setattr(Kernel, "on_host", host_cuda.on_host)
    for got, expected in zip(results(), numba_results, strict=True):
        assert_same_bits(got, expected)


def test_slerp_errors(lib):
    q = quaternions(3)
    for error, match, args, options in [
        (ValueError, r"q0 has shape \(3, 3\), expected \(\.\.\., 4\)", (q[:, :3], q, 0.5), {}),
        (ValueError, r"q1 has shape \(4, 3\)", (q, quaternions(3).T, 0.5), {}),
        (TypeError, "q1 has dtype float32, expected one of float64", (q, q.astype("f4"), 0.5), {}),
        (TypeError, "q0 has dtype int32", (q.astype("i4"), q.astype("i4"), 0.5), {}),
        (TypeError, "t has dtype int32", (q, q, np.zeros(3, np.int32)), {}),
        (ValueError, r"broadcast: q0 \(3,\), q1 \(3,\), t \(2,\)", (q, q, np.zeros(2)), {}),
        (ValueError, r"broadcast: q0 \(3,\), q1 \(2,\)", (q, q[:2], 0.5), {}),
        (ValueError, "order is 'xzyw'", (q, q, 0.5), {"order": "xzyw"}),
        (TypeError, "t is None", (q, q, None), {}),
        (TypeError, "t is a tuple", (q, q, (0.1, 0.2, 0.3)), {}),
        (TypeError, "t is 'half'", (q, q, "half"), {}),
    ]:
        with pytest.raises(error, match=match):
            run(lib, slerp, *args, **options)


def test_out_errors():
    q = quaternions(3)
    with pytest.raises(ValueError, match=r"out has shape \(4, 4\), expected \(3, 4\)"):
        slerp(q, q, 0.5, out=np.zeros((4, 4)))
    with pytest.raises(TypeError, match="out has dtype float32"):
        slerp(q, q, 0.5, out=np.zeros((3, 4), np.float32))
    with pytest.raises(ValueError, match="do not lie together"):
        slerp(q, q, 0.5, out=np.zeros((3, 8))[:, ::2])
    with pytest.raises(ValueError, match="read-only"):
        unwrap_quaternions(q, out=np.broadcast_to(q, q.shape))


# ------------------------------------------------------------------------------------ unwrapping


def naive_unwrap(quat, lengths=None):
    """Sample after sample, from the definition; quat in small whole numbers."""
    out = quat.copy()
    for b, series in enumerate(out):
        sign = 1
        for s in range(1, len(series) if lengths is None else lengths[b]):
            candidate = sign * series[s].astype(np.float64)
            if (candidate * series[s - 1].astype(np.float64)).sum() < 0:
                sign = -sign
            if sign < 0:
                series[s] = -series[s]
    return out


@pytest.mark.parametrize("dtype", FLOATS)
@given(seed=st.integers(0, 2**32), S=st.sampled_from([1, 2, 3, 50, 700]))
@settings(max_examples=8)
def test_unwrap_is_the_definition(lib, dtype, seed, S):
    skip_unless_it_has(lib, dtype)
    random = rng(seed)
    quat = random.integers(-3, 3, (3, S, 4), endpoint=True).astype(dtype_of(dtype))
    lengths = random.integers(0, S, 3, endpoint=True).astype(random.choice(["int32", "int64"]))
    assert_same_bits(run(lib, unwrap_quaternions, quat), naive_unwrap(quat))
    out = run(lib, unwrap_quaternions, quat, lengths=lengths)
    assert_same_bits(out, naive_unwrap(quat, lengths))
    assert_same_bits(run(lib, unwrap_quaternions, quat[0]), naive_unwrap(quat[:1])[0])


def test_a_real_series(lib):
    """A slow turn through several circles, with the signs that SciPy gives."""
    angle = np.linspace(0, 20, 2000)
    quat = Rotation.from_rotvec(angle[:, None] * [0.6, 0.0, 0.8]).as_quat(canonical=True)
    assert (np.abs(np.diff(quat, axis=0)).max(1) > 1).sum() > 2
    out = run(lib, unwrap_quaternions, quat)
    assert np.abs(np.diff(out, axis=0)).max() < 0.006
    np.testing.assert_array_equal(np.abs(out), np.abs(quat))


def test_nan_flips_nothing(lib):
    one, nan = [0.0, 0, 0, 1], [np.nan] * 4
    quat = np.array([one, np.negative(one), nan, one, np.negative(one), [1, 0, 0, 0]])
    out = run(lib, unwrap_quaternions, quat)
    expected = np.array([one, one, nan, np.negative(one), np.negative(one), [1, 0, 0, 0]])
    np.testing.assert_array_equal(out, expected)


def test_unwrap_views():
    quat = quaternions(3, 40)
    expected = unwrap_quaternions(quat)
    storage = np.zeros((3, 41, 7))
    storage[:, 1:, 1:5] = quat
    view = storage[:, 1:, 1:5]
    assert_same_bits(unwrap_quaternions(view), expected)
    assert_same_bits(
        unwrap_quaternions(quat.transpose(1, 0, 2).copy().transpose(1, 0, 2)), expected
    )
    strided = np.zeros((3, 40, 8))
    strided[..., ::2] = quat
    assert_same_bits(unwrap_quaternions(strided[..., ::2]), expected)
    assert unwrap_quaternions(view, out=view) is view
    assert_same_bits(view.copy(), expected)
    assert (storage[:, 0] == 0).all()
    lengths = np.array([40, 0, 3, 0, 20, 0])[::2]
    assert_same_bits(unwrap_quaternions(quat, lengths=lengths), naive_unwrap(quat, lengths))


@pytest.mark.parametrize("shape", [(0,), (0, 5), (3, 0), (1, 1)])
def test_unwrap_of_little(lib, shape):
    quat = quaternions(*shape)
    assert_same_bits(run(lib, unwrap_quaternions, quat), quat)


def test_unwrap_errors(lib):
    quat = quaternions(3, 5)
    for error, match, args, options in [
        (ValueError, r"quat has shape \(4,\), expected \(B, S, 4\) or \(S, 4\)", (quat[0, 0],), {}),
        (ValueError, r"quat has shape \(3, 5, 3\), expected \(\.\.\., 4\)", (quat[..., :3],), {}),
        (TypeError, "quat has dtype int32", (quat.astype("i4"),), {}),
        (ValueError, r"lengths has shape \(2,\), expected \(3,\)", (quat,), {"lengths": [1, 2]}),
        (TypeError, "lengths has dtype float64", (quat,), {"lengths": [1.0, 2.0, 3.0]}),
    ]:
        with pytest.raises(error, match=match):
            run(lib, unwrap_quaternions, *args, **options)


def test_every_pair_of_counts_and_lengths():
    """Lengths beyond the row, or below 0, count as the row and as 0."""
    for S, n in itertools.product((1, 2, 5), (-1, 0, 1, 7)):
        quat = quaternions(1, S, seed=S)
        expected = naive_unwrap(quat, [min(max(n, 0), S)])
        assert_same_bits(unwrap_quaternions(quat, lengths=[n]), expected)


@pytest.mark.parametrize("clock", ["float32", "float64", "int32", "int64"])
def test_a_search_from_a_guess_finds_the_same(lib, clock):
    """Which only calls that leave all at its default have: with validity there is none."""
    random = rng(6)
    src = np.cumsum(random.integers(0, 20, (3, 80)), axis=1).astype(clock)
    tgt = random.uniform(-5, 800, (3, 70)).astype(clock)
    quat = random.standard_normal((3, 80, 4)).astype("f4")
    quat /= np.linalg.norm(quat, axis=-1, keepdims=True)
    given = [lib.array(x) for x in (quat, src, tgt)]
    unit = {} if clock.startswith("float") else {"time_unit": "s"}
    got = rc.interpolate_quaternions(*given, **unit)
    expected = rc.resample_trajectories(*given, rotation="quat_xyzw", return_valid=True, **unit)
    assert_same_bits(lib.numpy(got), lib.numpy(expected.values))
