"""The definition of cuda_src/rotation.cuh: rotations and what lies between two of them."""

import numpy as np
from numba import types
from numba.extending import overload

from . import forced, inline, narrow, widen

# What a rotation is stored as. ROT6D is the first two columns of the matrix, one after the other;
# MATRIX is stored by rows; ANGLE is one number. Angles are radians.
QUAT_XYZW, QUAT_WXYZ, ROTVEC, ROT6D, MATRIX, ANGLE = range(1, 7)

LONG_WAY, NLERP, CANONICAL = 1, 2, 4  # flags


def like(x, number):
    """A constant in the type of x."""
    raise NotImplementedError


@overload(like)
def _like(x, number):
    of = np.float64 if x == types.float64 else np.float32
    return lambda x, number: of(number)


# ------------------------------------------------------------------------------------ trigonometry
# Of + - * / and sqrt alone, so that it gives the same bits everywhere; the polynomials are minimax
# (Remez).


def _horner(of, coefficients):
    """The function z -> a + z * (b + z * (c + ...)), its coefficients in the type `of`."""
    names = {f"c{k}": of(x) for k, x in enumerate(coefficients)}
    # Written out, for a function in each place costs Numba a second in all.
    return inline(eval("lambda z: " + " + z * (".join(names) + ")" * (len(names) - 1), names))


def _polynomial(single, double):
    """A function for float and double, of the coefficients for each."""

    def polynomial(z):
        raise NotImplementedError

    of_single, of_double = _horner(np.float32, single), _horner(np.float64, double)

    @overload(polynomial)
    def _(z):
        found = of_double if z == types.float64 else of_single
        return lambda z: found(z)

    return polynomial


# (sin x / x - 1) / z, z = x x, |x| <= pi / 4
sin_series = _polynomial(
    (-0.16666655, 0.0083321781, -0.00019517298),
    (-0.16666666666666632, 0.0083333333333224235, -0.00019841269829816287, 2.7557313695025849e-6,
     -2.505075862492399e-8, 1.5896826411278832e-10),
)  # fmt: skip
# (cos x - 1 + z / 2) / z^2, z = x x, |x| <= pi / 4
cos_series = _polynomial(
    (0.041666647, -0.0013887368, 2.4438451e-5),
    (0.0416666666666666, -0.0013888888888874138, 2.4801587289491666e-5, -2.7557314355197698e-7,
     2.0875723678611089e-9, -1.1359669570936321e-11),
)  # fmt: skip
# (atan x / x - 1) / z, z = x x, |x| <= tan(pi / 8)
atan_series = _polynomial(
    (-0.33333316, 0.19998489, -0.14243849, 0.10596, -0.060834489),
    (-0.33333333333333199, 0.19999999999954053, -0.14285714280246217, 0.11111110786044848,
     -0.090908978342237589, 0.076920616036049016, -0.066631200575061554, 0.058480068641049436,
     -0.050398374741167862, 0.038078142753658583, -0.017922108559941155),
)  # fmt: skip


def less_quarters(x, k):
    """x - k pi / 2. The product of k and the first two parts of pi / 2 is exact."""
    raise NotImplementedError


@overload(less_quarters)
def _less_quarters(x, k):
    if x == types.float64:
        a, b, c = 1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21
    else:
        a, b, c = np.float32(1.5703125), np.float32(0.0004837513), np.float32(7.54979e-8)
    return lambda x, k: ((x - k * a) - k * b) - k * c


@inline
def sin_cos(x):
    """NaN beyond 8192, where an angle that is the multiple of another means little."""
    known = x <= like(x, 8192) and x >= like(x, -8192)
    k = np.rint(x * like(x, 0.6366197723675814)) if known else like(x, 0)
    r = less_quarters(x, k)
    z = r * r
    s = r + r * (z * sin_series(z))
    c = like(x, 1) + (z * like(x, -0.5) + z * (z * cos_series(z)))
    quadrant = np.int64(k) & 3
    if quadrant & 1:
        s, c = c, -s
    if quadrant & 2:
        s, c = -s, -c
    if not known:
        return like(x, np.nan), like(x, np.nan)
    return s, c


@inline
def angle_of(s, c):
    """The angle in [0, pi] of the point (c, s) with s >= 0; 0 of the origin."""
    x = -c if c < 0 else c
    steep = s > x
    high, low = (s, x) if steep else (x, s)
    middle = low > like(x, 0.4142135623730951) * high  # tan(pi / 8)
    part, whole = (low - high, low + high) if middle else (low, high)
    a = part / whole if whole > 0 else part
    z = a * a
    angle = a + a * (z * atan_series(z))
    if middle:
        angle = like(x, 0.7853981633974483) + angle
    if steep:
        angle = like(x, 1.5707963267948966) - angle
    return like(x, 3.141592653589793) - angle if c < 0 else angle


# ------------------------------------------------------------------------------------- quaternions
# (x, y, z, w)


def limits(x):
    """The epsilon of the type of x; between what a sum of squares is precise; the smallest number
    that is not subnormal; below what |b - a| has no useful square."""
    raise NotImplementedError


@overload(limits)
def _limits(x):
    if x == types.float64:
        found = (2.220446049250313e-16, 1e-290, 1e290, 2.2250738585072014e-308, 1e-150)
    else:
        found = tuple(map(np.float32, (1.1920929e-7, 1e-30, 1e30, 1.1754944e-38, 1e-15)))
    return lambda x: found


@inline
def dot(a, b):
    return (a[0] * b[0] + a[1] * b[1]) + (a[2] * b[2] + a[3] * b[3])


@inline
def scaled(q, by):
    return q[0] * by, q[1] * by, q[2] * by, q[3] * by


@inline
def blend(a, u, b, v):
    return (
        a[0] * u + b[0] * v, a[1] * u + b[1] * v, a[2] * u + b[2] * v, a[3] * u + b[3] * v,
    )  # fmt: skip


@inline
def larger(most, x):
    size = -x if x < 0 else x
    return size if size > most else most


@forced
def unit(q):
    """Of length 1; NaN throughout where it has no direction."""
    square = dot(q, q)
    _, low, high, smallest, _ = limits(square)
    if not (square > low and square < high):
        most = larger(larger(larger(larger(like(square, 0), q[0]), q[1]), q[2]), q[3])
        if most < smallest:
            most = like(square, 0)
        q = (q[0] / most, q[1] / most, q[2] / most, q[3] / most)
        square = dot(q, q)
    return scaled(q, like(square, 1) / np.sqrt(square))


@forced
def unit_again(q):
    """Scaled to length 1 by one step of Newton's method, which has all digits of a length so
    near."""
    one = like(q[0], 1)
    excess = dot(q, q) - one
    epsilon = limits(excess)[0]
    if not excess * excess < epsilon * like(excess, 0.0625):
        return unit(q)
    return scaled(q, one - like(excess, 0.5) * excess)


@forced
def between(a, b, w, flags):
    """The rotation at w between a (w = 0) and b (w = 1), or beyond them, and whether there is one.

    Shoemake's slerp with the angle from atan2, which has all digits at any angle (roma).
    """
    c = dot(a, b)
    one = like(c, 1)
    if c < 0 and not flags & LONG_WAY:
        b = scaled(b, like(c, -1))
        c = -c
    e = blend(b, one, a, -c)
    s = np.sqrt(dot(e, e))
    epsilon, _, _, _, same = limits(c)
    if c < 0 and s < like(c, 4) * epsilon:  # opposite, but for rounding: e is noise
        return a, False
    if flags & NLERP:
        q = unit(blend(a, one - w, b, w))
    else:
        u, v = one, w * like(c, 0)  # a and b are the same, and w may be NaN
        if s > same:
            angle = angle_of(s, c)
            over = one / s
            u = sin_cos((one - w) * angle)[0] * over
            v = sin_cos(w * angle)[0] * over
        q = unit_again(blend(a, u, b, v))
    return q, q[3] == q[3]


# ------------------------------------------------------------------------------------ many at once
# Pairs of a block stand in one array, the numbers of a kind side by side, so that the loop over
# them is vectorised: 7 ns a pair, where one after another they take 66.

BLOCK, NUMBERS = 64, 9  # pairs, and what each takes


@inline
def set_pair(numbers, i, a, b, w):
    numbers[i], numbers[BLOCK + i] = a[0], a[1]
    numbers[2 * BLOCK + i], numbers[3 * BLOCK + i] = a[2], a[3]
    numbers[4 * BLOCK + i], numbers[5 * BLOCK + i] = b[0], b[1]
    numbers[6 * BLOCK + i], numbers[7 * BLOCK + i] = b[2], b[3]
    numbers[8 * BLOCK + i] = w


@inline
def get_result(numbers, i):
    """As `between` of the directions of pair i."""
    q = (numbers[i], numbers[BLOCK + i], numbers[2 * BLOCK + i], numbers[3 * BLOCK + i])
    return q, numbers[8 * BLOCK + i] != 0


@inline
def between_pairs(numbers, n, flags):
    """Puts what is between the first n pairs in their place."""
    for i in range(n):
        a = (numbers[i], numbers[BLOCK + i], numbers[2 * BLOCK + i], numbers[3 * BLOCK + i])
        b = (numbers[4 * BLOCK + i], numbers[5 * BLOCK + i], numbers[6 * BLOCK + i],
             numbers[7 * BLOCK + i])  # fmt: skip
        q, defined = between(unit(a), unit(b), numbers[8 * BLOCK + i], flags)
        numbers[i], numbers[BLOCK + i], numbers[2 * BLOCK + i], numbers[3 * BLOCK + i] = q
        numbers[8 * BLOCK + i] = like(a[0], 1) if defined else like(a[0], 0)


# ----------------------------------------------------------------------------------------- vectors


@inline
def of_rotvec(x, y, z):
    angle = np.sqrt(x * x + y * y + z * z)
    sin, cos = like(x, 0.5), like(x, 1)
    if not angle < like(x, 1e-12):
        sin, cos = sin_cos(angle * like(x, 0.5))
        sin = sin / angle
    return x * sin, y * sin, z * sin, cos


@inline
def to_rotvec(q):
    """Of length at most pi."""
    if q[3] < 0:
        q = scaled(q, like(q[3], -1))
    s = np.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2])
    two = like(s, 2)
    scale = two * angle_of(s, q[3]) / s if s > like(s, 1e-12) else two
    return q[0] * scale, q[1] * scale, q[2] * scale


# ---------------------------------------------------------------------------------------- matrices


@inline
def of_matrix(r00, r01, r02, r10, r11, r12, r20, r21, r22):
    """Divides by the largest of w, x, y and z."""
    one = like(r00, 1)
    trace = r00 + r11 + r22
    if trace >= r00 and trace >= r11 and trace >= r22:
        x, y, z, w = r21 - r12, r02 - r20, r10 - r01, one + trace
    elif r00 >= r11 and r00 >= r22:
        x, y, z, w = one + r00 - r11 - r22, r10 + r01, r20 + r02, r21 - r12
    elif r11 >= r22:
        x, y, z, w = r10 + r01, one - r00 + r11 - r22, r21 + r12, r02 - r20
    else:
        x, y, z, w = r20 + r02, r21 + r12, one - r00 - r11 + r22, r10 - r01
    det = (
        r00 * (r11 * r22 - r12 * r21) - r01 * (r10 * r22 - r12 * r20)
        + r02 * (r10 * r21 - r11 * r20)
    )  # fmt: skip
    if not det > 0:
        w = like(r00, np.nan)  # no rotation, but zero or a mirror
    return unit((x, y, z, w))


@inline
def of_rot6d(ax, ay, az, bx, by, bz):
    """By Gram and Schmidt, of the first two columns."""
    zero = like(ax, 0)
    a, b = unit((ax, ay, az, zero)), unit((bx, by, bz, zero))
    across = blend(b, like(ax, 1), a, -dot(a, b))
    epsilon = limits(ax)[0]
    if not dot(across, across) > (like(ax, 16) * epsilon) * epsilon:
        return unit((zero, zero, zero, zero))  # one column is the other's multiple
    n = unit(across)
    return of_matrix(
        a[0], n[0], a[1] * n[2] - a[2] * n[1],
        a[1], n[1], a[2] * n[0] - a[0] * n[2],
        a[2], n[2], a[0] * n[1] - a[1] * n[0],
    )  # fmt: skip


# ------------------------------------------------------------------------------------------ angles


@inline
def wrap(d):
    """Into (-pi, pi]; NaN beyond 1 / epsilon, where numbers are too far apart for an angle."""
    pi, circle = like(d, 3.141592653589793), like(d, 6.283185307179586)
    epsilon = limits(d)[0]
    if not larger(like(d, 0), d) * epsilon < like(d, 1) or d != d:
        return like(d, np.nan)
    d = d - circle * np.rint(d / circle)
    if d <= -pi:
        d = d + circle
    return d - circle if d > pi else d


# --------------------------------------------------------------------------------------- in memory


@inline
def in_order(kind, q):
    """A quaternion of its stored numbers."""
    return (q[1], q[2], q[3], q[0]) if kind == QUAT_WXYZ else q


@inline
def as_stored(kind, q):
    return (q[3], q[0], q[1], q[2]) if kind == QUAT_WXYZ else q


@inline
def read_rotation(kind, row, x, X, Y):
    x0, x1, x2 = widen(x[0], X, Y), widen(x[1], X, Y), widen(x[2], X, Y)
    if kind == ROTVEC:
        return of_rotvec(x0, x1, x2)
    if kind == ROT6D:
        return of_rot6d(x0, x1, x2, widen(x[3], X, Y), widen(x[4], X, Y), widen(x[5], X, Y))
    if kind == MATRIX:
        second, third = row, 2 * row
        return of_matrix(
            x0, x1, x2,
            widen(x[second], X, Y), widen(x[second + 1], X, Y), widen(x[second + 2], X, Y),
            widen(x[third], X, Y), widen(x[third + 1], X, Y), widen(x[third + 2], X, Y),
        )  # fmt: skip
    return unit(in_order(kind, (x0, x1, x2, widen(x[3], X, Y))))


@inline
def canonical(q):
    """w >= 0, and where it is 0 the first of x, y and z that is not, is above it."""
    x, y, z, w = q
    negative = w < 0 or (
        w == 0 and (x < 0 or (x == 0 and (y < 0 or (y == 0 and z < 0))))
    )  # fmt: skip
    return scaled(q, like(w, -1)) if negative else q


@inline
def write_rotation(kind, row, flags, q, y, Y):
    if kind == ROTVEC:
        v = to_rotvec(q)
        y[0], y[1], y[2] = narrow(v[0], Y), narrow(v[1], Y), narrow(v[2], Y)
    elif kind in (ROT6D, MATRIX):
        i, j, k, w = q
        one, two = like(w, 1), like(w, 2)
        down, right = (1, 3) if kind == ROT6D else (row, 1)
        y[0] = narrow(one - two * (j * j + k * k), Y)
        y[down] = narrow(two * (i * j + k * w), Y)
        y[2 * down] = narrow(two * (i * k - j * w), Y)
        y[right] = narrow(two * (i * j - k * w), Y)
        y[right + down] = narrow(one - two * (i * i + k * k), Y)
        y[right + 2 * down] = narrow(two * (j * k + i * w), Y)
        if kind == MATRIX:
            y[2] = narrow(two * (i * k + j * w), Y)
            y[2 + down] = narrow(two * (j * k - i * w), Y)
            y[2 + 2 * down] = narrow(one - two * (i * i + j * j), Y)
    else:
        if flags & CANONICAL:
            q = canonical(q)
        q = as_stored(kind, q)
        y[0], y[1], y[2], y[3] = narrow(q[0], Y), narrow(q[1], Y), narrow(q[2], Y), narrow(q[3], Y)


@inline
def turn(kind, row, flags, a, b, w, out, X, Y):
    """The rotation at w between those at a and b, written to `out`; whether it is defined.

    a, b and out are arrays of elements, w is a computed number, `row` the elements from row to row
    of a MATRIX. Where the two are opposite and LONG_WAY leaves the axis open, `out` is a; without
    a rotation at a or at b it is NaN.
    """
    if kind == ANGLE:
        start = widen(a[0], X, Y)
        difference = widen(b[0], X, Y) - start
        if not flags & LONG_WAY:
            difference = wrap(difference)
        angle = wrap(start + w * difference)
        out[0] = narrow(angle, Y)
        return angle == angle
    if kind in (ROT6D, MATRIX):
        flags &= ~LONG_WAY  # they have no sign
    start, end = read_rotation(kind, row, a, X, Y), read_rotation(kind, row, b, X, Y)
    q, defined = between(start, end, w, flags)
    write_rotation(kind, row, flags, q, out, Y)
    return defined
