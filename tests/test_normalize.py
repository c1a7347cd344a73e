import copy
import pickle
import threading
from enum import Enum
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import robocache_cupy as rc
from robocache_cupy._core.plan import Op
from robocache_cupy.normalize import (
    CONVENTIONS,
    Normalization,
    compute_stats,
    normalization,
    normalize,
    unnormalize,
)

FLOATS = ("float16", "bfloat16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
DOUBLE = ("float64", "int32", "int64", "uint32", "uint64")
KEYS = {"min_max": ("min", "max"), "quantiles": ("q01", "q99"), "quantile10": ("q10", "q90")}
rng = np.random.default_rng


def dtype_of(name):
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def bits(x):
    return x.view(f"u{x.itemsize}")


def assert_same_bits(got, expected):
    """Equal in every bit, but for which NaN it is that arithmetic made."""
    assert (got.dtype, got.shape) == (expected.dtype, expected.shape)
    nan = np.isnan(expected.astype(np.float64))
    np.testing.assert_array_equal(np.isnan(got.astype(np.float64)), nan)
    np.testing.assert_array_equal(bits(got)[~nan], bits(expected)[~nan])


def expected_of(x, n, dtype):
    """The formula in the order and the types that are promised, and one rounding."""
    wide = np.float64 if str(x.dtype) in DOUBLE or dtype == "float64" else np.float32
    shift, scale, offset, low, high = n.table(wide is np.float64).values.reshape(5, *n.shift.shape)
    y = (x.astype(wide) - shift) * scale + offset
    with np.errstate(over="ignore"):  # to infinity
        return np.where(y < low, low, np.where(y > high, high, y)).astype(dtype_of(dtype))


# --------------------------------------------------------------------- what the projects compute
# Each as the project writes it, on NumPy arrays; `a` and `b` are mean and std, or the two bounds.


def lerobot(x, a, b, mode):
    if mode == "mean_std":
        return (x - a) / (b + 1e-8)
    denom = np.where(b - a == 0, 1e-8, b - a)
    return 2 * (x - a) / denom - 1


def lerobot_back(y, a, b, mode):
    if mode == "mean_std":
        return y * b + a
    denom = np.where(b - a == 0, 1e-8, b - a)
    return (y + 1) / 2 * denom + a


def openpi(x, a, b, mode):
    if mode == "mean_std":
        return (x - a) / (b + 1e-6)
    return (x - a) / (b - a + 1e-6) * 2.0 - 1.0


def openpi_back(y, a, b, mode):
    if mode == "mean_std":
        return y * (b + 1e-6) + a
    return (y + 1.0) / 2.0 * (b - a + 1e-6) + a


def octo(x, a, b, mode):
    if mode == "mean_std":
        return (x - a) / (b + 1e-8)
    return np.clip(2 * (x - a) / (b - a + 1e-8) - 1, -1, 1)


def octo_back(y, a, b, mode):
    if mode == "mean_std":
        return y * b + a
    return (y + 1) / 2 * (b - a + 1e-8) + a


def gr00t(x, a, b, mode):
    y = np.zeros_like(x)
    if mode == "mean_std":
        moves = b != 0
        y[..., moves] = (x[..., moves] - a[moves]) / b[moves]
        y[..., ~moves] = x[..., ~moves]
        return y
    moves = ~np.isclose(b, a)
    y[..., moves] = (x[..., moves] - a[moves]) / (b[moves] - a[moves])
    y[..., moves] = 2 * y[..., moves] - 1
    return y


def gr00t_back(y, a, b, mode):
    if mode == "mean_std":
        return np.where(b != 0, y * b + a, y)
    return (np.clip(y, -1.0, 1.0) + 1.0) / 2.0 * (b - a) + a


def _diffusion_policy(a, b, mode):
    if mode == "mean_std":
        scale = b.copy()
        scale[b < 1e-4] = 1
        scale = 1 / scale
        return scale, -a * scale
    span = b - a
    ignore = span < 1e-4
    span[ignore] = 1.0 - -1.0
    scale = (1.0 - -1.0) / span
    offset = -1.0 - scale * a
    offset[ignore] = (1.0 + -1.0) / 2 - a[ignore]
    return scale, offset


def diffusion_policy(x, a, b, mode):
    scale, offset = _diffusion_policy(a, b, mode)
    return x * scale + offset


def diffusion_policy_back(y, a, b, mode):
    scale, offset = _diffusion_policy(a, b, mode)
    return (y - offset) / scale


PROJECTS = {
    "lerobot": (lerobot, lerobot_back),
    "openpi": (openpi, openpi_back),
    "octo": (octo, octo_back),
    "gr00t": (gr00t, gr00t_back),
    "diffusion_policy": (diffusion_policy, diffusion_policy_back),
}


def statistics(mode, convention="lerobot"):
    """Columns that move, move little, hardly, and not at all."""
    center = np.array([0.5, -3.0, 100.0, 0.25, 0.0, -2.0])
    spread = np.array([1.0, 0.05, 30.0, 5e-5, 2e-9, 0.0])
    if mode == "mean_std":
        return {"mean": center, "std": spread}
    lo, hi = KEYS[mode]
    if convention == "octo" and mode == "quantiles":
        lo, hi = "p01", "p99"
    return {lo: center - spread, hi: center + spread, "count": [7]}


@pytest.mark.parametrize("mode", ["mean_std", *KEYS])
@pytest.mark.parametrize("convention", PROJECTS)
def test_a_convention_is_what_the_project_computes(lib, convention, mode):
    stats = statistics(mode, convention)
    a, b = [x for x in stats.values() if len(x) == 6]
    forward, back = PROJECTS[convention]
    x = a + rng(0).normal(size=(40, 6)) * np.array([1, 0.05, 30, 1e-4, 1e-8, 0.1])
    x[0] = a
    options = {"mode": mode, "convention": convention}

    expected = forward(x, a, b, mode)
    got = lib.numpy(normalize(lib.array(x), stats, **options))
    # Dividing by 1e-8 leaves few digits: those of x - a.
    slack = 4 * np.spacing(np.abs(a)) * np.abs(normalization(stats, **options).scale)
    assert np.all(np.abs(got - expected) <= 1e-13 * np.abs(expected) + slack + 4e-16)

    y = rng(1).normal(size=(40, 6))
    expected = back(y, a, b, mode)
    got = lib.numpy(unnormalize(lib.array(y), stats, **options))
    np.testing.assert_allclose(got, expected, rtol=1e-14, atol=1e-15 * np.abs(a).max())


def test_conventions_all_have_a_transcription():
    assert set(PROJECTS) == set(CONVENTIONS)


@pytest.mark.parametrize(
    ("convention", "mean_std", "min_max"),
    [
        ("lerobot", [0, 2e8], [-1, 4e8 - 1]),
        ("openpi", [0, 2e6], [-1, 4e6 - 1]),
        ("octo", [0, 2e8], [-1, 1]),
        ("gr00t", [3, 5], [0, 0]),
        ("diffusion_policy", [0, 2], [0, 2]),
    ],
)
def test_constant_columns(convention, mean_std, min_max):
    """At the constant, and 2 beyond it."""
    x = np.array([[3.0], [5.0]])
    y = normalize(x, {"mean": [3], "std": [0]}, convention=convention)
    np.testing.assert_allclose(y.ravel(), mean_std, rtol=1e-15)
    y = normalize(x, {"min": [3], "max": [3]}, "min_max", convention=convention)
    np.testing.assert_allclose(y.ravel(), min_max, rtol=1e-15)


@pytest.mark.parametrize("value", [0.1, -1000.1, 3.3e7 + 1])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_constant_column_stays_constant_though_rounded(dtype, value):
    """1e-8 in the denominator would make the rounding of 0.1 to float32 a 0.3."""
    x = np.full((3, 1), value, dtype)
    stats = {"mean": [value], "std": [0.0], "min": [value], "max": [value]}
    assert (normalize(x, stats) == 0).all()
    assert (normalize(x, stats, "min_max") == -1).all()
    assert (normalize(x, stats, "min_max", min_range=1e-3) == 0).all()


# -------------------------------------------------------------------------------------- min_range


def test_min_range_cures_openpi_814(lib):
    x = lib.array(np.array([[0.0, 0.5]]))
    stats = {"q01": [0.0016, 0.0], "q99": [0.0016, 1.0]}
    wild = lib.numpy(normalize(x, stats, "quantiles", convention="openpi"))
    np.testing.assert_allclose(wild, [[-3201, 0]], atol=1e-5)
    tame = lib.numpy(normalize(x, stats, "quantiles", convention="openpi", min_range=1e-4))
    np.testing.assert_allclose(tame, [[-0.0016, 0]], atol=1e-6)


@pytest.mark.parametrize("mode", ["mean_std", *KEYS])
@pytest.mark.parametrize("convention", PROJECTS)
def test_below_min_range_maps_to_zero_with_scale_one(convention, mode):
    stats = statistics(mode, convention)
    a, b = [x for x in stats.values() if len(x) == 6]
    n = normalization(stats, mode, convention=convention, min_range=1e-3)
    still = (b if mode == "mean_std" else b - a) < 1e-3
    assert still.sum() == 3
    assert (n.shift[still] == a[still]).all()
    assert (n.scale[still] == 1).all()
    assert (n.offset[still] == 0).all()
    own = normalization(stats, mode, convention=convention)
    for name in ("shift", "scale", "offset"):
        np.testing.assert_array_equal(getattr(n, name)[~still], getattr(own, name)[~still])
    x = a + 0.25
    options = {"convention": convention, "min_range": 1e-3}
    back = unnormalize(normalize(x, stats, mode, clip=False, **options), stats, mode, clip=False,
                       **options)  # fmt: skip
    np.testing.assert_allclose(back[still], x[still], rtol=1e-15)


def test_min_range_itself_still_counts_as_a_range():
    n = normalization({"min": [0, 0], "max": [0.5, 0.25]}, "min_max", min_range=0.5)
    assert n.scale.tolist() == [4, 1]


def test_diffusion_policy_takes_the_larger_of_its_own_and_min_range():
    stats = {"mean": [0, 0, 0], "std": [5e-5, 5e-3, 5e-1]}
    at = {"convention": "diffusion_policy"}
    assert normalization(stats, **at).scale.tolist() == [1, 200, 2]
    assert normalization(stats, **at, min_range=1e-2).scale.tolist() == [1, 1, 2]
    assert normalization(stats, **at, min_range=1e-9).scale.tolist() == [1, 200, 2]
    assert normalization(stats, **at, eps=1e-2).scale.tolist() == [1, 1, 2]


def test_eps_stands_in_place_of_the_convention_own():
    stats = {"mean": [0.0], "std": [0.5], "min": [0.0], "max": [0.0]}
    assert normalization(stats, eps=0.5).scale.tolist() == [1]
    assert normalization(stats, "min_max", eps=0.5).scale.tolist() == [4]
    assert normalization(stats, "min_max", convention="octo", eps=0.25).scale.tolist() == [8]


# ---------------------------------------------------------------------------------- clip and mask


@pytest.mark.parametrize(
    ("clip", "low", "high"),
    [(True, -1, 1), (2, -2, 2), (np.float32(0.5), -0.5, 0.5), ((-3, 0), -3, 0), ([0, 9], 0, 9)],
)
def test_clip(lib, clip, low, high):
    x = lib.array(np.array([[-100.0], [0.25], [100.0], [np.nan], [np.inf], [-np.inf]]))
    n = normalization({"mean": [0], "std": [2]}, convention="gr00t", clip=clip)
    y = lib.numpy(normalize(x, n)).ravel()
    np.testing.assert_array_equal(y, [low, min(0.125, high), high, np.nan, high, low])
    back = lib.numpy(unnormalize(x, n)).ravel()
    np.testing.assert_array_equal(
        back, [2 * low, min(0.5, 2 * high), 2 * high, np.nan, 2 * high, 2 * low]
    )


def test_clip_of_the_conventions():
    stats = {"min": [0.0], "max": [2.0], "mean": [1.0], "std": [1.0]}
    x = np.array([[3.0]])
    for convention in CONVENTIONS:
        at = {"convention": convention}
        there = normalize(x, stats, "min_max", **at).item()
        back = unnormalize(x, stats, "min_max", **at).item()
        assert there == (1 if convention == "octo" else pytest.approx(2)), convention
        assert back == (2 if convention == "gr00t" else pytest.approx(4)), convention
        for way in (normalize, unnormalize):
            assert way(x, stats, "min_max", clip=False, **at).item() == pytest.approx(
                2 if way is normalize else 4
            )
            assert way(x, stats, **at).item() == pytest.approx(2 if way is normalize else 4)


def test_a_falling_scale_swaps_the_bounds_of_the_way_back():
    n = normalization(scale=-2.0, bias=1.0, clip=(0, 4))
    assert (n.inverse().low.item(), n.inverse().high.item()) == (-1.5, 0.5)
    assert unnormalize(np.array([-9.0, 3.0, 9.0]), n).tolist() == [0.5, -1.0, -1.5]


def test_masked_columns_keep_their_bits(lib):
    x = np.array([[5.0, -0.0, 9.0], [0.0, np.inf, -9.0], [3.0, -np.inf, 1e-30]], np.float32)
    stats = {"q01": [1, 1, 1], "q99": [2, 2, 2]}
    options = {"convention": "octo", "mask": [True, False, False]}
    for way in (normalize, unnormalize):
        y = lib.numpy(way(lib.array(x), stats, "quantiles", clip=True, **options))
        assert_same_bits(y[:, 1:], x[:, 1:])
        assert not (y[:, 0] == x[:, 0]).any()


def test_the_mask_may_come_with_the_statistics():
    stats = {"mean": [1, 1], "std": [2, 2], "mask": [True, False]}
    x = np.array([[3.0, 3.0]])
    assert normalize(x, stats, convention="gr00t").tolist() == [[1, 3]]
    given = normalize(x, stats, convention="gr00t", mask=np.array([False, True]))
    assert given.tolist() == [[3, 1]]
    assert normalization(stats).mask.tolist() == [True, False]
    assert normalization({"mean": [1], "std": [1]}).mask is None


def test_what_is_masked_may_be_anything():
    stats = {"mean": [0.0, np.nan, 1.0], "std": [1.0, np.nan, -1.0]}
    x = np.array([[1.0, 2.0, 3.0]])
    y = normalize(x, stats, mask=[True, False, False], convention="gr00t")
    assert y.tolist() == [[1, 2, 3]]


def test_one_number_for_all_columns_and_a_mask_for_each():
    n = normalization({"mean": 1.0, "std": [2.0]}, mask=[True, False, True], convention="gr00t")
    assert n.scale.shape == (3,)
    assert normalize(np.array([5.0, 5.0, 3.0]), n).tolist() == [2, 5, 1]


# --------------------------------------------------------------------------------------- identity


def test_identity(lib):
    x = np.array([[-0.0, 3.0, np.inf]], np.float32)
    assert_same_bits(lib.numpy(normalize(lib.array(x), {}, "identity")), x)
    assert_same_bits(lib.numpy(unnormalize(lib.array(x), {}, "identity")), x)
    assert normalize(x, {}, "identity", clip=1).tolist() == [[0, 1, 1]]


def test_scale_and_bias(lib):
    n = normalization(scale=[0.5, 2.0], bias=[1.0, -1.0])
    x = np.array([[4, 8]], np.uint8)
    y = normalize(lib.array(x), n, dtype="float32")
    assert lib.numpy(y).tolist() == [[3, 15]]
    assert lib.numpy(unnormalize(y, n)).tolist() == [[4, 8]]
    images = rng(0).integers(0, 256, (2, 5, 7, 3)).astype(np.uint8)
    y = lib.numpy(normalize(lib.array(images), normalization(scale=1 / 255), dtype="float32"))
    np.testing.assert_array_equal(y, images * np.float32(1 / 255))
    assert (y.max(), y.min()) <= (1.0, 0.0)


# ----------------------------------------------------------------------------- shapes, steps, kinds


@pytest.mark.parametrize("shape", [(), (1,), (5,), (4, 3), (2, 3, 4), (0, 3), (2, 0)])
def test_one_statistic_fits_every_shape(lib, shape):
    x = np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)
    y = lib.numpy(normalize(lib.array(x), {"mean": 2.0, "std": 4.0}, convention="gr00t"))
    assert_same_bits(y, np.asarray((x - np.float32(2)) * np.float32(0.25)))


@pytest.mark.parametrize("T", [1, 4, 16])
@pytest.mark.parametrize("D", [1, 3, 7, 32])
def test_statistics_of_each_step(lib, T, D):
    chunks = rng(0).normal(size=(9, T, D)).astype(np.float32)
    stats = compute_stats(chunks, axis=0)
    n = normalization(stats, "min_max", convention="gr00t")
    assert n.shift.shape == (T, D)
    y = lib.numpy(normalize(lib.array(chunks), n))
    assert_same_bits(y, expected_of(chunks, n, "float32"))
    assert np.abs(y).max() <= 1 + 1e-6
    for t in range(T):
        alone = normalize(chunks[:, t], {k: x[t] for k, x in stats.items() if k != "count"},
                          "min_max", convention="gr00t")  # fmt: skip
        assert_same_bits(y[:, t], alone)
    back = lib.numpy(unnormalize(lib.array(y), n))
    np.testing.assert_allclose(back, chunks, atol=1e-6)


def drawn(x, name):
    """Numbers that a dtype holds, in a range that float16 holds."""
    if name in FLOATS:
        return (x * 8).astype(dtype_of(name))
    return np.abs(x * 20).astype(name) if name.startswith("u") else (x * 20).astype(name)


@pytest.mark.parametrize("y_dtype", FLOATS)
@pytest.mark.parametrize("x_dtype", [*FLOATS, *INTEGERS, "bool"])
def test_every_dtype(lib, x_dtype, y_dtype):
    x = drawn(rng(0).normal(size=(37, 11)), x_dtype)
    stats = {"mean": rng(1).normal(size=11), "std": 2.0 ** rng(2).integers(-1, 3, 11)}
    n = normalization(stats, convention="gr00t", clip=3)
    if y_dtype == "bfloat16" and (x_dtype in DOUBLE):
        # ml_dtypes rounds float64 to bfloat16 twice, so the numbers are to be exact here.
        x = np.abs(np.round(x.astype(np.float64))).astype(dtype_of(x_dtype))
        n = normalization({"mean": [3.0], "std": [4.0]}, convention="gr00t", clip=3)
    y = lib.numpy(normalize(lib.array(x), n, dtype=y_dtype))
    assert_same_bits(y, expected_of(x, n, y_dtype))
    assert len(np.unique(y.astype(np.float64))) > 1


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats_keep_their_dtype(lib, dtype):
    x = lib.array(np.ones((2, 3), dtype_of(dtype)))
    for way in (normalize, unnormalize):
        assert lib.numpy(way(x, {"mean": [1], "std": [1]})).dtype == dtype_of(dtype)


@pytest.mark.parametrize("x_dtype", ["float16", "float32", "uint8", "int32", "int64"])
@pytest.mark.parametrize("columns", [1, 2, 3, 4, 6, 7, 8, 12, 63, 64, 65, 300, 5000])
def test_every_number_of_columns(lib, columns, x_dtype):
    """With rows that do not fill the last pack."""
    y_dtype = x_dtype if x_dtype.startswith("float") else "float32"
    stats = {"mean": rng(1).normal(size=columns), "std": 2.0 ** rng(2).integers(-2, 3, columns)}
    n = normalization(stats, clip=9)
    for rows in (1, 2, 5, 1001):
        if rows * columns > 10**6:
            continue
        x = drawn(rng(0).normal(size=(rows, columns)), x_dtype)
        y = lib.numpy(normalize(lib.array(x), n, dtype=y_dtype))
        assert_same_bits(y, expected_of(x, n, y_dtype))


@pytest.mark.parametrize(
    ("shape", "of", "x_dtype"),
    [
        ((200_001, 7), (7,), "float32"),  # two packs a thread, side by side
        ((401, 5000), (5000,), "float32"),  # three of them, in lines of ten tiles
        ((1_100_003, 2), (2,), "uint8"),  # four
        ((550_001, 3), (3,), "float64"),
        ((3, 3, 480, 639), (3, 1, 1), "uint8"),  # four in a line of one channel
        ((4, 3, 480, 640), (3, 1, 1), "float32"),
        ((3, 3, 391, 601), (3, 1, 1), "uint8"),  # one number after the other
    ],
)
def test_threads_of_several_packs(lib, shape, of, x_dtype):
    x = rng(0).integers(0, 255, shape).astype(x_dtype)
    y_dtype = "float32" if x_dtype == "uint8" else x_dtype
    n = normalization({"q01": rng(1).normal(size=of), "q99": rng(2).uniform(10, 99, of)},
                      "quantiles", convention="octo")  # fmt: skip
    given = lib.array(x)
    assert_same_bits(lib.numpy(normalize(given, n, dtype=y_dtype)), expected_of(x, n, y_dtype))
    if x_dtype == y_dtype and lib.name != "jax":  # in place: no element is written twice
        given = lib.array(np.array(x))
        assert_same_bits(lib.numpy(normalize(given, n, out=given)), expected_of(x, n, y_dtype))


@pytest.mark.parametrize(
    ("shape", "of"),
    [
        ((3, 0, 5), (3, 1, 1)), ((3, 0, 1000), (3, 1, 1)), ((0, 3, 4, 4), (3, 1, 1)),
        ((5, 0), (1, 1)), ((2, 3, 0), (3, 1)), ((4, 0, 7), (1, 7)), ((2, 0, 7), (1, 1, 7)),
        ((0, 7), (7,)), ((0,), (1,)),
    ],
)  # fmt: skip
def test_sizes_of_zero(lib, shape, of):
    n = normalization({"mean": np.zeros(of), "std": np.ones(of)})
    got = lib.numpy(normalize(lib.array(np.zeros(shape, np.float32)), n))
    assert (got.shape, got.dtype) == (shape, np.float32)


@pytest.mark.parametrize("x_dtype", ["float32", "float16", "uint8"])
@pytest.mark.parametrize("offset", range(1, 9))
def test_misaligned(lib, x_dtype, offset):
    y_dtype = "float32" if x_dtype == "uint8" else x_dtype
    flat = drawn(rng(0).normal(size=8 * 21 + offset), x_dtype)
    x = lib.array(flat)[offset:].reshape(21, 8)
    n = normalization({"mean": np.arange(8), "std": np.arange(1, 9)})
    expected = expected_of(flat[offset:].reshape(21, 8), n, y_dtype)
    assert_same_bits(lib.numpy(normalize(x, n, dtype=y_dtype)), expected)
    if lib.name != "jax":
        out = lib.array(np.zeros(8 * 21 + offset, y_dtype))[offset:].reshape(21, 8)
        assert normalize(x, n, out=out) is out
        assert_same_bits(lib.numpy(out), expected)


def test_alignment_is_part_of_the_plan(lib):
    """A view whose data start elsewhere must not meet 16-byte accesses."""
    flat = rng(0).normal(size=65).astype(np.float32)
    n = normalization({"mean": np.arange(8), "std": np.arange(1, 9)})
    x = lib.array(flat)
    for start in (0, 1, 0):
        got = lib.numpy(normalize(x[start : start + 64].reshape(8, 8), n))
        assert_same_bits(got, expected_of(flat[start : start + 64].reshape(8, 8), n, "float32"))


VIEWS = {
    "columns": lambda x: x[:, 1:8],
    "rows": lambda x: x[::2, :7],
    "transposed": lambda x: x[:7].T,
    "one row for all": lambda x: x[:1, :7],
}


@pytest.mark.parametrize("view", VIEWS)
def test_strides(lib, view):
    x = rng(0).normal(size=(12, 12)).astype(np.float32)
    n = normalization({"mean": np.arange(7), "std": np.arange(1, 8)})
    got = lib.numpy(normalize(VIEWS[view](lib.array(x)), n))
    assert_same_bits(got, expected_of(np.ascontiguousarray(VIEWS[view](x)), n, "float32"))


def test_negative_and_broadcast_strides():
    x = rng(0).normal(size=(5, 7))
    n = normalization({"mean": np.arange(7), "std": np.arange(1, 8)})
    for view in (x[::-1], x[:, ::-1], np.broadcast_to(x[0], (5, 7))):
        assert_same_bits(normalize(view, n), expected_of(view.copy(), n, "float64"))


def test_in_place(lib):
    if lib.name == "jax":
        pytest.skip("arrays of JAX cannot be written to")
    data = rng(0).normal(size=(50, 7)).astype(np.float32)
    n = normalization(compute_stats(data))
    x = lib.array(data.copy())
    assert normalize(x, n, out=x) is x
    assert_same_bits(lib.numpy(x), expected_of(data, n, "float32"))


def test_out_names_the_dtype(lib):
    if lib.name == "jax":
        with pytest.raises(TypeError, match="out must be left out"):
            normalize(lib.array(np.ones(2)), normalization(scale=2.0), out=lib.array(np.ones(2)))
        return
    out = lib.array(np.zeros((2, 3), np.float16))
    x = lib.array(np.ones((2, 3), np.int32))
    assert normalize(x, normalization(scale=0.5), out=out) is out
    assert lib.numpy(out).tolist() == [[0.5] * 3] * 2


def test_jax_inside_jit():
    jax = pytest.importorskip("jax")
    x = rng(0).normal(size=(6, 7)).astype(np.float32)
    n = normalization(compute_stats(x))
    y = jax.jit(lambda x: unnormalize(normalize(x, n), n))(jax.numpy.asarray(x))
    np.testing.assert_allclose(np.asarray(y), x, atol=1e-5)


# --------------------------------------------------------------------------------------- accuracy


@pytest.mark.parametrize("ratio", [1e2, 1e4, 1e5])
def test_float32_where_the_mean_is_much_larger_than_the_deviation(lib, ratio):
    """A mean that float32 does not hold, and data that differ from it in their last bits."""
    mean, std = ratio * 1.2345678901, 1.0
    x = (mean + rng(0).normal(size=(1000, 1)) * std).astype(np.float32)
    n = normalization({"mean": [mean], "std": [std]})
    exact = [float((Fraction(float(v)) - Fraction(mean)) / (Fraction(std + 1e-8)))
             for v in x.ravel()]  # fmt: skip
    y = lib.numpy(normalize(lib.array(x), n)).ravel().astype(np.float64)
    assert np.abs(y - exact).max() < 4e-7
    as_scale_and_bias = x.ravel() * np.float32(1 / std) - np.float32(mean / std)
    assert np.abs(as_scale_and_bias - exact).max() > 1e-6 or ratio == 1e2


@given(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=20),
    st.floats(-1e3, 1e3),
    st.floats(1e-3, 1e3),
    st.sampled_from(["openpi", "diffusion_policy"]),
    st.sampled_from(["mean_std", "min_max"]),
)
def test_there_and_back_again(numbers, first, second, convention, mode):
    """These conventions have an exact inverse."""
    x = np.array(numbers).reshape(-1, 1)
    stats = {"mean": [first], "std": [second], "min": [first], "max": [first + second]}
    n = normalization(stats, mode, convention=convention)
    back = unnormalize(normalize(x, n), n)
    np.testing.assert_allclose(back, x, rtol=1e-14, atol=1e-14 * (abs(first) + second))


@given(
    st.lists(st.floats(width=32, allow_subnormal=False), min_size=1, max_size=40),
    st.sampled_from(sorted(CONVENTIONS)),
    st.sampled_from(["mean_std", "min_max", "quantile10"]),
    st.sampled_from([None, True, (-2, 5)]),
)
def test_any_number_at_all(numbers, convention, mode, clip):
    x = np.array(numbers, np.float32).reshape(-1, 1)
    stats = {"mean": [1.0], "std": [3.0], "min": [-1.0], "max": [3.0], "q10": [0], "q90": [1]}
    n = normalization(stats, mode, convention=convention, clip=clip)
    with np.errstate(over="ignore", invalid="ignore"):
        expected = expected_of(x, n, "float32")
    assert_same_bits(normalize(x, n), expected)


def test_a_range_too_small_for_float32_does_not_make_nan():
    stats = {"min": [0.0], "max": [1e-300]}
    for dtype in ("float32", "float64"):
        assert normalize(np.zeros(1, dtype), stats, "min_max").tolist() == [-1]


# --------------------------------------------------------------------------------- Normalization


def test_it_does_not_change():
    n = normalization({"mean": [1, 2], "std": [3, 4]}, mask=[True, True])
    for x in (n.shift, n.scale, n.offset, n.low, n.high, n.mask, n.inverse().shift):
        assert not x.flags.writeable
    assert {x.dtype for x in (n.shift, n.scale, n.offset, n.low, n.high)} == {np.dtype(float)}
    with pytest.raises(AttributeError, match="scale is read-only"):
        n.scale = 1
    with pytest.raises(TypeError, match=r"made by normalization\("):
        Normalization()


def test_it_does_not_follow_the_arrays_it_was_made_from():
    mean = np.zeros(2)
    n = normalization({"mean": mean, "std": [1, 1]})
    mean += 5
    assert n.shift.tolist() == [0, 0]


def test_it_is_its_inverse_inverse_and_equal_to_itself_alone():
    n = normalization({"mean": [1, 2], "std": [3, 4]})
    assert n.inverse() is n.inverse()
    assert n.inverse().inverse() is n
    assert {n: 1}[n] == 1
    assert n != n.inverse()
    assert n != copy.deepcopy(n)


def test_it_is_pickled_with_its_inverse():
    n = normalization({"min": [0, 1], "max": [4, 3]}, "min_max", clip=2, mask=[True, False])
    n.table(False)
    for m, original in ((pickle.loads(pickle.dumps(n)), n),
                        (pickle.loads(pickle.dumps(n.inverse())), n.inverse())):  # fmt: skip
        assert m.inverse().inverse() is m
        assert repr(m) == repr(original)
        for ours, theirs in ((m, original), (m.inverse(), original.inverse())):
            for name in ("shift", "scale", "offset", "low", "high", "mask"):
                np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
                assert not getattr(ours, name).flags.writeable
        x = np.array([[9.0, 9.0]])
        assert normalize(x, m).tolist() == normalize(x, original).tolist()


def test_it_tells_what_it_is():
    stats = {"q01": [0, 1], "q99": [4, 3]}
    n = normalization(stats, "quantiles", convention="octo", eps=1e-3, clip=(0, 1), min_range=0.5,
                      mask=[True, False])  # fmt: skip
    assert repr(n) == ("<Normalization: quantiles, octo, eps 0.001, min_range 0.5, "
                       "clip (0.0, 1.0), masked, statistics of shape (2,)>")  # fmt: skip
    assert repr(n.inverse()).startswith("<Normalization: inverse of quantiles, octo")
    assert repr(normalization(scale=2)) == "<Normalization: scale, statistics of shape (1,)>"


def test_the_table_is_made_once():
    n = normalization({"mean": [1, 2, 3], "std": [3, 4, 5]}, clip=True)
    for double, dtype in ((True, np.float64), (False, np.float32)):
        table = n.table(double)
        assert n.table(double) is table
        assert table.values.dtype == dtype
        assert table.values.shape == (5, 3)
        np.testing.assert_allclose(
            table.values, [n.shift, n.scale, n.offset, n.low, n.high], rtol=1e-7
        )
    per_step = normalization({"mean": np.ones((4, 3)), "std": np.ones((4, 3))})
    assert per_step.table(False).values.shape == (5, 12)


def test_equal_statistics_in_another_dict_make_no_new_plan():
    cache = Op.all["normalize"].cache
    x = np.ones((3, 2), np.float32)
    sizes = []
    for _ in range(3):
        normalize(x, {"mean": [0.25, 7.5], "std": np.array([1.5, 2.5])}, clip=5, mask=[True, True])
        sizes.append(len(cache))
    assert sizes[0] == sizes[1] == sizes[2]


def test_threads_share_one_normalization():
    n = normalization({"mean": np.arange(7), "std": np.arange(1, 8)})
    x = rng(0).normal(size=(5000, 7)).astype(np.float32)
    expected, wrong = expected_of(x, n, "float32"), []

    def work():
        for _ in range(20):
            if not np.array_equal(normalize(x, n), expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


# ----------------------------------------------------------------------------------- compute_stats


def test_compute_stats(lib):
    x = rng(0).normal(size=(4, 50, 3)).astype(np.float32)
    stats = compute_stats(lib.array(x))
    flat = x.reshape(-1, 3).astype(np.float64)
    assert list(stats) == ["mean", "std", "min", "max", "q01", "q10", "q50", "q90", "q99", "count"]
    np.testing.assert_allclose(stats["mean"], flat.sum(0) / 200, atol=1e-15)
    np.testing.assert_allclose(
        stats["std"], np.sqrt(((flat - flat.mean(0)) ** 2).sum(0) / 200), rtol=1e-13
    )
    ordered = np.sort(flat, axis=0)
    np.testing.assert_array_equal(stats["min"], ordered[0])
    np.testing.assert_array_equal(stats["max"], ordered[-1])
    for name, q in (("q01", 0.01), ("q10", 0.1), ("q50", 0.5), ("q90", 0.9), ("q99", 0.99)):
        at = q * 199
        k = int(at)
        value = ordered[k] + (at - k) * (ordered[k + 1] - ordered[k])
        np.testing.assert_allclose(stats[name], value, atol=1e-14)
    assert stats["count"].tolist() == [200]
    y = normalize(x, stats)
    np.testing.assert_allclose(y.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((0, 1)), 1, atol=1e-5)


def test_compute_stats_of_steps():
    x = rng(0).normal(size=(9, 4, 3))
    stats = compute_stats(x, axis=0)
    assert stats["q99"].shape == (4, 3)
    assert stats["count"].tolist() == [9]
    with pytest.raises(ValueError, match=r"x has shape \(0, 3\), expected"):
        compute_stats(np.zeros((0, 3)))


# ------------------------------------------------------------------------------------------ inputs


class Mode(str, Enum):
    MEAN_STD = "MEAN_STD"


def test_lerobot_names_of_modes():
    stats = {"mean": [1.0], "std": [2.0]}
    assert normalization(stats, Mode.MEAN_STD) is normalization(stats)


def test_statistics_of_any_framework(lib):
    stats = {"mean": np.array([1.0, 2.0]), "std": np.array([2.0, 4.0])}
    n = normalization({k: lib.array(x.astype(np.float32)) for k, x in stats.items()},
                      mask=lib.array(np.array([True, True])))  # fmt: skip
    assert n is normalization(stats, mask=[True, True])


STATS = {"mean": [0.0, 1.0], "std": [1.0, 2.0], "q01": [0.0, 0.0], "q99": [1.0, 1.0]}


CHANNELS = {"mean": np.array([0.5, 1.0, -2.0]).reshape(3, 1, 1),
            "std": np.array([0.25, 2.0, 4.0]).reshape(3, 1, 1)}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "uint8", "float64"])
@pytest.mark.parametrize("size", [(4, 5), (1, 7), (3, 3), (8, 8), (16, 32), (23, 31), (60, 80)])
def test_statistics_of_channels_that_come_first(lib, dtype, size):
    image = rng(0).integers(0, 255, (6, 3, *size)).astype(dtype)
    to = "float32" if dtype == "uint8" else dtype
    per_channel = [normalization({k: v[c, 0, 0] for k, v in CHANNELS.items()}) for c in range(3)]
    expected = np.stack(
        [normalize(image[:, c], per_channel[c], dtype=to) for c in range(3)], axis=1
    )
    n = normalization(CHANNELS)
    assert_same_bits(lib.numpy(normalize(lib.array(image), n, dtype=to)), expected)
    assert_same_bits(lib.numpy(normalize(lib.array(image[0]), n, dtype=to)), expected[0])
    back = unnormalize(normalize(lib.array(image), n, dtype=to), n)
    np.testing.assert_allclose(lib.numpy(back), image, rtol=1e-5, atol=1e-4)

    x, t = lib.array(image), lib.array(np.arange(6.0))
    got = rc.resample_trajectories(x, t, t, normalize=n, dtype=to)
    assert_same_bits(lib.numpy(got), expected)
    got = rc.fuse_multimodal({"camera": rc.Stream(x, t, normalize=n)}, t, dtype=to, layout="dict")
    assert_same_bits(lib.numpy(got["camera"]), expected)
    got = rc.sample_windows(x, [0, 6], [2], delta_indices=[-1, 0, 1], normalize=n, dtype=to)
    assert_same_bits(lib.numpy(got.values), expected[None, 1:4])


@pytest.mark.parametrize("of", [(1, 1), (1, 1, 1), (2, 1), (2, 1, 1), (1, 2, 1), (1, 1, 25)])
@pytest.mark.parametrize("rows", [4, 24])
def test_axes_whose_statistics_are_one(lib, of, rows):
    x = rng(0).standard_normal((3, 2, rows, 25))
    x = x.reshape(3, 2, -1) if len(of) == 2 else x
    if of == (1, 2, 1):
        x = x.swapaxes(1, 2).copy()
    n = normalization({"mean": rng(1).normal(size=of), "std": rng(2).uniform(1, 2, of)})
    assert_same_bits(lib.numpy(normalize(lib.array(x), n)), expected_of(x, n, "float64"))


def test_a_mask_and_bounds_of_channels(lib):
    n = normalization(CHANNELS, clip=1.0, mask=np.array([True, False, True]).reshape(3, 1, 1))
    image = rng(1).standard_normal((2, 3, 2, 2)) * 3
    got = lib.numpy(normalize(lib.array(image), n))
    expected = np.clip((image - CHANNELS["mean"]) * (1 / (CHANNELS["std"] + 1e-8)), -1, 1)
    expected[:, 1] = image[:, 1]
    np.testing.assert_allclose(got, expected, rtol=1e-14)


@pytest.mark.parametrize("shape", [(6, 2, 4, 5), (10, 1), (3, 5), (4, 4, 3)])
def test_channels_must_be_there(shape):
    with pytest.raises(ValueError, match=r"expected \[..., 3, \*, \*\] for statistics of shape"):
        normalize(np.zeros(shape), CHANNELS)
    with pytest.raises(ValueError, match=r"statistics of shape \(3, 1, 1\).*broadcast"):
        rc.sample_windows(np.zeros(shape), [0, shape[0]], [0], delta_indices=[0],
                          normalize=normalization(CHANNELS))  # fmt: skip


def test_windows_with_statistics_of_each_step():
    x, n = rng(2).standard_normal((9, 2)), {"mean": np.ones((3, 2)), "std": np.full((3, 2), 2.0)}
    with pytest.raises(ValueError, match=r"statistics of shape \(3, 2\).*normalize the result"):
        rc.sample_windows(x, [0, 9], [4], delta_indices=[0, 1, 2], normalize=(n, "mean_std"))
    windows = rc.sample_windows(x, [0, 9], [4], delta_indices=[0, 1, 2])
    np.testing.assert_allclose(normalize(windows.values, n)[0], (x[4:7] - 1) / 2, rtol=1e-6)


def test_where_a_statistic_is_wrong():
    std = np.ones((3, 1, 1))
    std[1] = -1
    with pytest.raises(ValueError, match=r"std is -1.0 at \(1, 0, 0\), expected 0 or more"):
        normalization({"mean": np.zeros((3, 1, 1)), "std": std})


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: normalization(STATS, "min_max"), ValueError,
         r"stats has no 'min', which mode 'min_max' takes: it has 'mean', 'std', 'q01', 'q99'$"),
        (lambda: normalization({"action": STATS}), ValueError,
         r"stats has no 'mean', .* it has 'action', so pass the statistics of one feature"),
        (lambda: normalization({}), ValueError, "stats has no 'mean', .* it has nothing"),
        (lambda: normalization(), TypeError, "stats is None, expected a mapping"),
        (lambda: normalization([1, 2]), TypeError, "stats is a list, expected a mapping"),
        (lambda: normalization(STATS, convention="act"), ValueError,
         "convention is 'act', expected one of 'lerobot', 'openpi', 'octo', 'gr00t', 'diffusion"),
        (lambda: normalization(STATS, "zscore"), ValueError,
         "mode is 'zscore', expected one of 'mean_std', 'min_max', 'quantiles', 'quantile10', 'id"),
        (lambda: normalization(STATS, convention="gr00t", eps=1e-3), ValueError,
         "eps is 0.001, but convention 'gr00t' has none"),
        (lambda: normalization(STATS, eps=-1), ValueError, "eps is -1, expected a number of 0 or"),
        (lambda: normalization(STATS, min_range=np.nan), ValueError, "min_range is nan"),
        (lambda: normalization(STATS, clip=(1, -1)), ValueError, r"clip is \(1, -1\), expected"),
        (lambda: normalization(STATS, clip="yes"), ValueError, "clip is 'yes', expected"),
        (lambda: normalization(STATS, clip=-1), ValueError, "clip is -1, expected"),
        (lambda: normalization(STATS, mask=[1, 0]), TypeError, "mask has dtype int64, expected b"),
        (lambda: normalization(STATS, mask=[True] * 3), ValueError,
         r"the statistics and mask have shapes \(2,\), \(2,\), \(3,\), expected one shape"),
        (lambda: normalization({"mean": [0, 0], "std": [1, 1, 1]}), ValueError,
         r"have shapes \(2,\), \(3,\), expected one shape"),
        (lambda: normalization({"mean": np.zeros((3, 0)), "std": 1}), ValueError,
         r"stats\['mean'\] has shape \(3, 0\), expected \[D\], \[1\], \[T, D\] or \[C, 1, 1\]"),
        (lambda: normalization({"mean": "0", "std": 1}), TypeError, r"stats\['mean'\] is a str"),
        (lambda: normalization({"mean": [0, np.nan], "std": [1, 1]}), ValueError,
         "mean is nan in column 1, expected finite numbers"),
        (lambda: normalization({"mean": [0, 0], "std": [1, -1]}), ValueError,
         "std is -1.0 in column 1, expected 0 or more"),
        (lambda: normalization({"q01": [0, 2], "q99": [1, 1]}, "quantiles"), ValueError,
         "q99 is 1.0 in column 1, expected at least q01"),
        (lambda: normalization(STATS, scale=2), ValueError, "scale and bias stand in place of"),
        (lambda: normalization(scale=2, min_range=1), ValueError, "scale and bias stand in place"),
        (lambda: normalization(scale=[1, 0]), ValueError, "scale is 0.0 in column 1, expected ano"),
        (lambda: normalize(np.ones((3, 4)), STATS), ValueError,
         r"x has shape \(3, 4\), expected \[..., 2\] for statistics of shape \(2,\)"),
        (lambda: normalize(np.array(1.0), STATS), ValueError, r"x has shape \(\), expected"),
        (lambda: normalize(np.ones((3, 4)), {"mean": np.ones((2, 4)), "std": 1}), ValueError,
         r"x has shape \(3, 4\), expected \[..., 2, 4\]"),
        (lambda: normalize(np.ones(2, int), STATS), TypeError, "dtype is int64, expected one of f"),
        (lambda: normalize(np.ones(2), STATS, dtype="int8"), TypeError, "dtype is int8, expected"),
        (lambda: normalize(np.ones(2, complex), STATS), TypeError, "x has dtype complex128"),
        (lambda: normalize(np.ones(2), STATS, dtype="float32", out=np.ones(2)), TypeError,
         "out has dtype float64, expected float32"),
        (lambda: normalize(np.ones(2), STATS, out=np.ones((1, 2))), ValueError,
         r"out has shape \(1, 2\), expected that of x, \(2,\)"),
        (lambda: normalize(np.ones((3, 2)), STATS, out=np.ones((3, 4))[:, :2]), ValueError,
         r"out has strides \(4, 1\), expected a dense array"),
        (lambda: normalize(np.ones(2), normalization(STATS), "min_max"), ValueError,
         r"stats is <Normalization: .*, which has its options"),
        (lambda: unnormalize(np.ones(2), normalization(STATS), mask=[True, True]), ValueError,
         "which has its options"),
        (lambda: normalize(np.ones(2), STATS, backend="tpu"), ValueError, "backend is 'tpu'"),
    ],
)  # fmt: skip
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
