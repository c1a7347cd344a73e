"""The definition of cuda_src/rotation_gradient.cu."""

import numpy as np

from . import DType, computed, inline, load, narrow, njit, row, widen
from .backward import first_above, numbers, row_of_sample
from .pose import read_four
from .rotation import (
    ANGLE,
    CANONICAL,
    LONG_WAY,
    MATRIX,
    NLERP,
    QUAT_WXYZ,
    QUAT_XYZW,
    ROT6D,
    ROTVEC,
    angle_of,
    as_stored,
    between,
    blend,
    dot,
    in_order,
    larger,
    like,
    limits,
    read_rotation,
    scaled,
    sin_cos,
    unit,
    wrap,
)
from .time import INT32, INT64

UINT8 = DType("uint8")


# ------------------------------------------------------------------------- products with Jacobians
# Each takes the gradient by a result, and gives that by what the result was made of.


@inline
def across(g, q):
    """What of g is at a right angle to the unit q."""
    return blend(g, like(q[0], 1), q, -dot(g, q))


@inline
def inverse_length(q):
    """1 / |q|, as `unit` finds it."""
    square = dot(q, q)
    _, low, high, smallest, _ = limits(square)
    most = like(square, 1)
    if not (square > low and square < high):
        most = larger(larger(larger(larger(like(square, 0), q[0]), q[1]), q[2]), q[3])
        if most < smallest:
            most = like(square, 0)
        q = (q[0] / most, q[1] / most, q[2] / most, q[3] / most)
        square = dot(q, q)
    return like(square, 1) / np.sqrt(square) / most


@inline
def unit_back(q, g):
    """By q, of a gradient by unit(q)."""
    return scaled(across(g, unit(q)), inverse_length(q))


@inline
def between_back(a, b, w, flags, q, g):
    """By a, b and w, of a gradient by the rotation q between them.

    A change at an end moves what lies between as Jacobi fields of the sphere do: along the arc in
    proportion to w, and across it as the sines of the angles. No digits cancel at any angle."""
    zero, one = like(w, 0), like(w, 1)
    c = dot(a, b)
    sign = one
    if c < 0 and not flags & LONG_WAY:
        sign = like(c, -1)
        b = scaled(b, sign)
        c = -c
    e = blend(b, one, a, -c)
    s = np.sqrt(dot(e, e))
    epsilon, _, _, _, same = limits(c)
    g = across(g, q)
    if c < 0 and s < like(c, 4) * epsilon:
        return g, (zero, zero, zero, zero), zero
    if flags & NLERP:
        h = scaled(g, inverse_length(blend(a, one - w, b, w)))
        by_w = dot(h, blend(b, one, a, -one))
        return scaled(h, one - w), scaled(h, w * sign), by_w
    angle, over = zero, zero
    u, v, sin, cos = one - w, w, zero, one
    if s > same:
        angle = angle_of(s, c)
        over = one / s
        u = sin_cos((one - w) * angle)[0] * over
        sin, cos = sin_cos(w * angle)
        v = sin * over
    n = scaled(e, over)  # the direction of the arc at a
    along = dot(g, blend(n, cos, a, -sin))
    g = blend(g, one, blend(n, cos, a, -sin), -along)
    by_a = blend(g, u, n, (one - w) * along)
    by_b = blend(g, v, blend(n, c, a, -s), w * along)
    return by_a, scaled(by_b, sign), angle * along


@inline
def of_rotvec_back(x, y, z, g):
    half = like(x, 0.5)
    angle = np.sqrt(x * x + y * y + z * z)
    k, bend = half, like(x, 0)
    if not angle < like(x, 1e-12):
        sin, cos = sin_cos(angle * half)
        k = sin / angle
        bend = (half * cos - k) / angle / angle
    by = (x * g[0] + y * g[1] + z * g[2]) * bend - half * k * g[3]
    return k * g[0] + x * by, k * g[1] + y * by, k * g[2] + z * by


@inline
def to_rotvec_back(q, g0, g1, g2):
    one, two = like(q[3], 1), like(q[3], 2)
    sign = -one if q[3] < 0 else one
    q = scaled(q, sign)
    s = np.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2])
    scale, bend = two, like(s, 0)
    if s > like(s, 1e-12):
        scale = two * angle_of(s, q[3]) / s
        bend = (two * q[3] - scale) / s / s
    along = q[0] * g0 + q[1] * g1 + q[2] * g2
    by = along * bend
    g = (scale * g0 + q[0] * by, scale * g1 + q[1] * by, scale * g2 + q[2] * by, -two * along)
    return scaled(g, sign)


@inline
def of_matrix_back(r00, r01, r02, r10, r11, r12, r20, r21, r22, g):
    """In the order of the parameters."""
    one = like(r00, 1)
    trace = r00 + r11 + r22
    if trace >= r00 and trace >= r11 and trace >= r22:
        gx, gy, gz, gw = unit_back((r21 - r12, r02 - r20, r10 - r01, one + trace), g)
        return gw, -gz, gy, gz, gw, -gx, -gy, gx, gw
    if r00 >= r11 and r00 >= r22:
        q = (one + r00 - r11 - r22, r10 + r01, r20 + r02, r21 - r12)
        gx, gy, gz, gw = unit_back(q, g)
        return gx, gy, gz, gy, -gx, -gw, gz, gw, -gx
    if r11 >= r22:
        q = (r10 + r01, one - r00 + r11 - r22, r21 + r12, r02 - r20)
        gx, gy, gz, gw = unit_back(q, g)
        return -gy, gx, gw, gx, gy, gz, -gw, gz, -gy
    q = (r20 + r02, r21 + r12, one - r00 - r11 + r22, r10 - r01)
    gx, gy, gz, gw = unit_back(q, g)
    return -gz, -gw, gx, gw, -gz, gy, gx, gy, gz


@inline
def cross(a, b):
    return (
        a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0],
        like(a[0], 0),
    )  # fmt: skip


@inline
def of_rot6d_back(ax, ay, az, bx, by, bz, g):
    """By both columns."""
    zero, one = like(ax, 0), like(ax, 1)
    first, second = (ax, ay, az, zero), (bx, by, bz, zero)
    a, b = unit(first), unit(second)
    c = dot(a, b)
    rest = blend(b, one, a, -c)
    n = unit(rest)
    last = cross(a, n)
    r = of_matrix_back(
        a[0], n[0], last[0], a[1], n[1], last[1], a[2], n[2], last[2], g
    )  # fmt: skip
    by_last = (r[2], r[5], r[8], zero)
    by_a = blend((r[0], r[3], r[6], zero), one, cross(n, by_last), one)
    by_n = blend((r[1], r[4], r[7], zero), one, cross(by_last, a), one)
    by_rest = unit_back(rest, by_n)
    shared = dot(a, by_rest)
    by_a = blend(by_a, one, blend(by_rest, -c, b, -shared), one)
    by_b = blend(by_rest, one, a, -shared)
    return unit_back(first, by_a), unit_back(second, by_b)


@inline
def rotation_read_back(kind, row, x, g, out, X, C):
    """Write the gradient by the stored numbers, of one by the unit quaternion read from them."""
    x0, x1, x2 = widen(x[0], X, C), widen(x[1], X, C), widen(x[2], X, C)
    if kind == ROTVEC:
        out[0], out[1], out[2] = of_rotvec_back(x0, x1, x2, g)
    elif kind == ROT6D:
        by_a, by_b = of_rot6d_back(
            x0, x1, x2, widen(x[3], X, C), widen(x[4], X, C), widen(x[5], X, C), g
        )  # fmt: skip
        out[0], out[1], out[2], out[3], out[4], out[5] = (
            by_a[0], by_a[1], by_a[2], by_b[0], by_b[1], by_b[2],
        )  # fmt: skip
    elif kind == MATRIX:
        second, third = x[row:], x[2 * row :]
        r = of_matrix_back(
            x0, x1, x2, widen(second[0], X, C), widen(second[1], X, C), widen(second[2], X, C),
            widen(third[0], X, C), widen(third[1], X, C), widen(third[2], X, C), g,
        )  # fmt: skip
        out[0], out[1], out[2] = r[0], r[1], r[2]
        out[row], out[row + 1], out[row + 2] = r[3], r[4], r[5]
        out[2 * row], out[2 * row + 1], out[2 * row + 2] = r[6], r[7], r[8]
    else:
        q = in_order(kind, (x0, x1, x2, widen(x[3], X, C)))
        out[0], out[1], out[2], out[3] = as_stored(kind, unit_back(q, g))


@inline
def rotation_write_back(kind, row, flags, q, y, Y, C):
    """By the unit quaternion q, of the gradient y by the stored numbers made of it."""
    y0, y1, y2 = widen(y[0], Y, C), widen(y[1], Y, C), widen(y[2], Y, C)
    if kind == ROTVEC:
        return to_rotvec_back(q, y0, y1, y2)
    if kind in (ROT6D, MATRIX):
        i, j, k, w = q
        two = like(w, 2)
        down, right = (1, 3) if kind == ROT6D else (row, 1)
        g00, g10, g20 = y0, widen(y[down], Y, C), widen(y[2 * down], Y, C)
        g01 = widen(y[right], Y, C)
        g11, g21 = widen(y[right + down], Y, C), widen(y[right + 2 * down], Y, C)
        zero = like(w, 0)
        g02, g12, g22 = zero, zero, zero
        if kind == MATRIX:
            g02, g12, g22 = y2, widen(y[2 + down], Y, C), widen(y[2 + 2 * down], Y, C)
        xy, xz, yz = g10 + g01, g20 + g02, g21 + g12
        x, y, z = g21 - g12, g02 - g20, g10 - g01
        return (
            two * ((j * xy + k * xz) + (w * x - two * (i * (g11 + g22)))),
            two * ((i * xy + k * yz) + (w * y - two * (j * (g00 + g22)))),
            two * ((i * xz + j * yz) + (w * z - two * (k * (g00 + g11)))),
            two * (i * x + j * y + k * z),
        )
    g = in_order(kind, (y0, y1, y2, widen(y[3], Y, C)))
    if flags & CANONICAL:
        g = scaled(g, sign_of(q))
    return g


@inline
def sign_of(q):
    """-1 for a quaternion that `canonical` negates."""
    x, y, z, w = q
    negative = w < 0 or (
        w == 0 and (x < 0 or (x == 0 and (y < 0 or (y == 0 and z < 0))))
    )  # fmt: skip
    return like(w, -1) if negative else like(w, 1)


# --------------------------------------------------------------------------------------- resampling


@njit
def order(index, first, disorder, T, B, lo, hi):
    """The largest index up to each target of a row, and whether any is less than one before it."""
    for b in range(lo, hi):
        i, up_to = row(index, b * T, T, INT32), row(first, b * T, T, INT32)
        most, falls = np.int32(-1), np.int32(0)
        for t in range(T):
            if i[t] >= 0 and i[t] < most:
                falls = np.int32(1)
            most = max(most, i[t])
            up_to[t] = most
        row(disorder, b, 1, INT32)[0] = falls


@inline
def clear(p, row, kind, width):
    """Zeros for the numbers of a rotation."""
    gap = row - 3 if kind == MATRIX else 0
    for c in range(width):
        p[c + c // 3 * gap] = 0


@njit
def turn_back(
    grad, data, index, weight, valid, offsets, pairs,
    items, T, D, data_row, data_step, offsets_width, one_row,
    kind, rotation_row, flags, column, width, groups, stride,
    lo, hi, X, Y,
):  # fmt: skip
    """What each target gives to the sample of its index, and to the one behind it."""
    for item in range(lo, hi):
        target, group = item // groups, item % groups
        i = np.int64(row(index, target, 1, INT32)[0])
        if i < 0:
            continue
        d, rest = group * stride + column, D - group * stride - column
        p0 = numbers(pairs, 2 * target * D + d, rest, X, Y)
        p1 = numbers(pairs, (2 * target + 1) * D + d, rest, X, Y)
        g = row(grad, target * D + d, rest, Y)
        if valid != 0 and row(valid, target, 1, UINT8)[0] == 0:
            clear(p0, rotation_row, kind, width)
            clear(p1, rotation_row, kind, width)
            continue
        w = numbers(weight, target, 1, X, Y)[0]
        start = target // T * data_row
        if offsets != 0:
            b = 0 if one_row != 0 else target // T
            start = max(load(offsets, offsets_width, b, INT64), 0) * data_step
        x0 = row(data, start + i * data_step + d, rest, X)
        gap = rotation_row - 3 if kind == MATRIX else 0
        if w == 0:
            sign = computed(1, X, Y)
            if kind in (QUAT_XYZW, QUAT_WXYZ) and flags & CANONICAL:
                q = (widen(x0[0], X, Y), widen(x0[1], X, Y), widen(x0[2], X, Y),
                     widen(x0[3], X, Y))  # fmt: skip
                sign = sign_of(in_order(kind, q))
            for c in range(width):
                at = c + c // 3 * gap
                p0[at] = sign * widen(g[at], Y, X)
            continue
        x1 = row(data, start + (i + 1) * data_step + d, rest, X)
        if kind == 0 or kind == ANGLE:
            known = True
            if kind == ANGLE:
                angle = widen(x0[0], X, Y)
                difference = widen(x1[0], X, Y) - angle
                if not flags & LONG_WAY:
                    difference = wrap(difference)
                angle = wrap(angle + w * difference)
                known = angle == angle
            for c in range(width):
                v = widen(g[c], Y, X) if known else computed(0, X, Y)
                p0[c], p1[c] = (computed(1, X, Y) - w) * v, w * v
            continue
        way = flags & ~LONG_WAY if kind in (ROT6D, MATRIX) else flags
        a = read_rotation(kind, rotation_row, x0, X, Y)
        b = read_rotation(kind, rotation_row, x1, X, Y)
        q, defined = between(a, b, w, way)
        if q[3] != q[3] or (not defined and valid != 0):
            clear(p0, rotation_row, kind, width)
            clear(p1, rotation_row, kind, width)
            continue
        by_q = rotation_write_back(kind, rotation_row, way, q, g, Y, X)
        by_a, by_b, _ = between_back(a, b, w, way, q, by_q)
        rotation_read_back(kind, rotation_row, x0, by_a, p0, X, Y)
        rotation_read_back(kind, rotation_row, x1, by_b, p1, X, Y)


@njit
def collect_pairs(
    pairs, index, first, weight, disorder, offsets, out,
    items, S, B, T, D, offsets_width, one_row, lo, hi, C, Z,
):  # fmt: skip
    """The gradient of each sample: the sum over its targets, in their order."""
    for item in range(lo, hi):
        place, d = item // D, item % D
        b, s = place // S, place % S
        n = S
        if offsets != 0:
            if one_row == 0:
                b, s = row_of_sample(offsets, offsets_width, B, place), place
            n = 0
            if 0 <= b < B:
                r = 0 if one_row != 0 else b
                begin = min(max(load(offsets, offsets_width, r, INT64), 0), S)
                n = min(max(load(offsets, offsets_width, r + 1, INT64) - begin, 0), S - begin)
                s -= begin
        total = computed(0, C, C)
        if 0 <= s < n:
            begin, end = 0, T
            if row(disorder, b, 1, INT32)[0] == 0:
                up_to = row(first, b * T, T, INT32)
                begin, end = first_above(up_to, T, s - 2), first_above(up_to, T, s)
            for t in range(begin, end):
                target = b * T + t
                i = row(index, target, 1, INT32)[0]
                if i == s:
                    total += row(pairs, 2 * target * D + d, 1, C)[0]
                elif i >= 0 and i == s - 1 and row(weight, target, 1, C)[0] != 0:
                    total += row(pairs, (2 * target + 1) * D + d, 1, C)[0]
        row(out, item, 1, Z)[0] = narrow(total, Z)


# -------------------------------------------------------------------------------------------- slerp


@njit
def slerp_back(grad, q0, q1, t, by_q0, by_q1, by_t, items, kind, flags, t_all, lo, hi, X, T):
    w = computed(t_all, X, X)
    for item in range(lo, hi):
        if t != 0:
            w = computed(widen(row(t, item, 1, T)[0], T, T), X, X)
        first = in_order(kind, read_four(q0, 4 * item, X))
        second = in_order(kind, read_four(q1, 4 * item, X))
        a, b = unit(first), unit(second)
        q, _ = between(a, b, w, flags)
        gw = computed(0, X, X)
        g0, g1 = (gw, gw, gw, gw), (gw, gw, gw, gw)
        if q[3] == q[3]:
            g = in_order(kind, read_four(grad, 4 * item, X))
            by_a, by_b, gw = between_back(a, b, w, flags, q, g)
            g0 = as_stored(kind, unit_back(first, by_a))
            g1 = as_stored(kind, unit_back(second, by_b))
        y0, y1 = row(by_q0, 4 * item, 4, X), row(by_q1, 4 * item, 4, X)
        for c in range(4):
            y0[c], y1[c] = narrow(g0[c], X), narrow(g1[c], X)
        if by_t != 0:
            row(by_t, item, 1, T)[0] = narrow(gw, T)
