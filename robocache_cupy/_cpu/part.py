"""Parts: columns of a stream that are made in one way, target by target.

dtypes are codes, as the kernels have them: the pairs that most data come in have code of their own,
the rest goes through arrays of numbers, a chunk of columns at a time.
"""

import functools

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from . import DType, _pointer, forced, inline, narrow, operand, row, widen
from .locate import (
    AKIMA,
    ANY,
    CATMULL_ROM,
    EMPTY,
    FILL,
    LEFT,
    LINEAR,
    MAKIMA,
    MAX,
    MEAN,
    NAN,
    NEAREST,
    PCHIP,
    RIGHT,
    SUM,
    locate,
)  # fmt: skip
from .normalize import normalised
from .rotation import (
    BLOCK,
    CANONICAL,
    NUMBERS,
    QUAT_WXYZ,
    as_stored,
    between_pairs,
    canonical,
    get_result,
    in_order,
    set_pair,
    turn,
)
from .time import INT64, elapsed, interval, is_nan, minus, position, stamp

apart = functools.partial(inline, forceinline=False)  # a call, also in what is forced inline

F16, BF16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64, BOOL = range(13)
TOLERANT, REFLECT, ONE_ROW = 16, 32, 64
CHUNK = 256  # columns that are computed together: their numbers stay in the nearest cache

_NAMES = ("float16", "bfloat16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8",
          "uint16", "uint32", "uint64", "bool")  # fmt: skip
(D_F16, D_BF16, D_F32, D_F64, D_I8, D_I16, D_I32, D_I64, D_U8, D_U16, D_U32, D_U64, D_BOOL) = (
    DType(name) for name in _NAMES
)


# What a level, a tag of its own, says: see `level_of` in _streams.py.


def everything(LEVEL):
    return int(LEVEL.dtype) & 1


def of_precision(LEVEL, both, single, double):
    return (both, single, double)[int(LEVEL.dtype) >> 1]


@inline
def size_of(code):
    if code in (F64, I64, U64):
        return 8
    if code in (F32, I32, U32):
        return 4
    return 2 if code in (F16, BF16, I16, U16) else 1


@inline
def is_wide(code):
    return code in (F64, I32, I64, U32, U64)


@inline
def nan_bits(code):
    if code == F16:
        return 0x7E00
    if code == BF16:
        return 0x7FFF
    if code == F32:
        return 0x7FC00000
    return 0x7FF8000000000000 if code == F64 else 0


@inline
def _read(address, i, n, numbers, k, X, C):
    x = row(address, i, n, X)
    for c in range(n):
        numbers[k + c] = widen(x[c], X, C)


def read(code, address, i, n, numbers, k, C):
    """n elements of any dtype as numbers of the computed type C, in `numbers` from k on."""
    raise NotImplementedError


@overload(read)
def _read_any(code, address, i, n, numbers, k, C):
    def single(code, address, i, n, numbers, k, C):
        if code == F32:
            _read(address, i, n, numbers, k, D_F32, C)
        elif code == BF16:
            _read(address, i, n, numbers, k, D_BF16, C)
        elif code == F16:
            _read(address, i, n, numbers, k, D_F16, C)
        elif code in (U8, BOOL):
            _read(address, i, n, numbers, k, D_U8, C)
        elif code == I8:
            _read(address, i, n, numbers, k, D_I8, C)
        elif code == I16:
            _read(address, i, n, numbers, k, D_I16, C)
        elif code == U16:
            _read(address, i, n, numbers, k, D_U16, C)

    def double(code, address, i, n, numbers, k, C):
        if code == F64:
            _read(address, i, n, numbers, k, D_F64, C)
        elif code == I32:
            _read(address, i, n, numbers, k, D_I32, C)
        elif code == U32:
            _read(address, i, n, numbers, k, D_U32, C)
        elif code == I64:
            _read(address, i, n, numbers, k, D_I64, C)
        elif code == U64:
            _read(address, i, n, numbers, k, D_U64, C)
        else:
            single_too(code, address, i, n, numbers, k, C)

    single_too = inline(single)
    return double if C.dtype == "float64" else single


def _narrowed(x, C):
    """As C: those that float cannot hold are never read with C float."""
    raise NotImplementedError


@overload(_narrowed)
def _narrowed_as(x, C):
    of = np.float64 if C.dtype == "float64" else np.float32
    return lambda x, C: of(x)


@inline
def _put(address, i, n, numbers, k, Y):
    y = row(address, i, n, Y)
    for c in range(n):
        y[c] = narrow(numbers[k + c], Y)


def put(code, address, i, n, numbers, k, C):
    """n computed numbers, in `numbers` from k on, as elements of any dtype."""
    raise NotImplementedError


@overload(put)
def _put_any(code, address, i, n, numbers, k, C):
    def single(code, address, i, n, numbers, k, C):
        if code == F32:
            _put(address, i, n, numbers, k, D_F32)
        elif code == BF16:
            _put(address, i, n, numbers, k, D_BF16)
        elif code == F16:
            _put(address, i, n, numbers, k, D_F16)
        elif code == U8:
            _put(address, i, n, numbers, k, D_U8)
        elif code == I8:
            _put(address, i, n, numbers, k, D_I8)
        elif code == I16:
            _put(address, i, n, numbers, k, D_I16)
        elif code == U16:
            _put(address, i, n, numbers, k, D_U16)
        elif code == BOOL:
            _put(address, i, n, numbers, k, D_BOOL)

    def double(code, address, i, n, numbers, k, C):
        if code == F64:
            _put(address, i, n, numbers, k, D_F64)
        elif code == I32:
            _put(address, i, n, numbers, k, D_I32)
        elif code == U32:
            _put(address, i, n, numbers, k, D_U32)
        elif code == I64:
            _put(address, i, n, numbers, k, D_I64)
        elif code == U64:
            _put(address, i, n, numbers, k, D_U64)
        else:
            single_too(code, address, i, n, numbers, k, C)

    single_too = inline(single)
    return double if C.dtype == "float64" else single


@inline
def put_bits(code, address, i, n, bits):
    """The low bytes of a word, as many as an element has, as n elements."""
    size = size_of(code)
    for k in range(i, i + n):
        if size == 8:
            row(address, k, 1, D_I64)[0] = bits
        elif size == 4:
            row(address, k, 1, D_U32)[0] = np.uint32(bits)
        elif size == 2:
            row(address, k, 1, D_U16)[0] = np.uint16(bits)
        else:
            row(address, k, 1, D_U8)[0] = np.uint8(bits)


@intrinsic
def _copy_bytes(typingctx, source, target, n):
    def codegen(context, builder, signature, args):
        pointer = context.get_value_type(types.voidptr)
        source, target = (builder.inttoptr(x, pointer) for x in args[:2])
        cgutils.raw_memcpy(builder, target, source, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), codegen


@inline
def copy_bits(code, source, i, target, k, n):
    """n elements, bit by bit."""
    size = size_of(code)
    _copy_bytes(source + i * size, target + k * size, n * size)


# ----------------------------------------------------------------------------------------- curves


@inline
def stencil(clock, n, i0, i1, start, step, method, around, ratio, weight, C, W):
    """The neighbours of an interval, and what its slopes are made of: how many there are on each
    side, their samples in `around` (y[-2], y[-1], y[2], y[3]; then stand y[0] and y[1]), the length
    of the interval over theirs in `ratio` (-1, 1, -2, 2), and weights of slopes, two at each end. A
    repeated stamp is a jump, which ends a curve."""
    t0, t1 = stamp(clock, i0, W), stamp(clock, i1, W)
    h = _narrowed(elapsed(t1, t0, W), C)
    left, right, far_left, far_right = h, h, h, h
    lefts, rights = 0, 0
    two = _narrowed(2, C)
    if i0 > 0:
        t = stamp(clock, i0 - 1, W)
        if t < t0:
            lefts = 1
            left = _narrowed(elapsed(t0, t, W), C)
            around[1] = start + position(clock, i0 - 1) * step
            if i0 > 1 and method >= AKIMA:
                u = stamp(clock, i0 - 2, W)
                if u < t:
                    lefts = 2
                    far_left = _narrowed(elapsed(t, u, W), C)
                    around[0] = start + position(clock, i0 - 2) * step
    if i1 + 1 < n:
        t = stamp(clock, i1 + 1, W)
        if not is_nan(t, W) and t > t1:
            rights = 1
            right = _narrowed(elapsed(t, t1, W), C)
            around[2] = start + position(clock, i1 + 1) * step
            if i1 + 2 < n and method >= AKIMA:
                u = stamp(clock, i1 + 2, W)
                if not is_nan(u, W) and u > t:
                    rights = 2
                    far_right = _narrowed(elapsed(u, t, W), C)
                    around[3] = start + position(clock, i1 + 2) * step
    ratio[0], ratio[1], ratio[2], ratio[3] = h / left, h / right, h / far_left, h / far_right
    if method == CATMULL_ROM:
        weight[0], weight[2] = h / (h + left), h / (h + right)
    elif method == PCHIP:
        if lefts:
            w1, w2 = two * h + left, h + two * left
            weight[0], weight[1] = w1 / (w1 + w2), w2 / (w1 + w2)
        else:
            weight[0], weight[1] = (two * h + right) / (h + right), h / (h + right)
        if rights:
            w1, w2 = two * right + h, right + two * h
            weight[2], weight[3] = w1 / (w1 + w2), w2 / (w1 + w2)
        else:
            weight[2], weight[3] = (two * h + left) / (h + left), h / (h + left)
    return lefts, rights


@forced
def harmonic(a, b, wa, wb, C):
    """The slope at a sample between slopes a and b of its two intervals, 0 at an extremum."""
    inner = a * (b / (wa * b + wb * a))
    along = ((a > 0) & (b > 0)) | ((a < 0) & (b < 0))
    slope = inner if along else _narrowed(0, C)
    return slope if (a == a) & (b == b) else a + b  # choices and no branches: vectorised


@inline
def at_the_end(a, b, wa, wb, C):
    """The slope at the end of a curve, whose last interval has slope a and the one before b."""
    slope = wa * a - wb * b
    along = (slope > 0 and a > 0) or (slope < 0 and a < 0)
    opposed = not ((a > 0 and b > 0) or (a < 0 and b < 0) or (a == 0 and b == 0))
    if not along:
        return a + b if a != a or b != b else _narrowed(0, C)
    three = _narrowed(3, C)
    return three * a if opposed and abs(slope) > three * abs(a) else slope


@forced
def akima(m1, m2, m3, m4, modified, C):
    """The slope between slopes m2 and m3 of the two intervals beside a sample, m1 and m4 beyond.
    Slopes are equal where they are so beside those at hand: SciPy asks the whole series."""
    half = _narrowed(0.5, C)
    a, b = abs(m4 - m3), abs(m2 - m1)
    if modified:
        a = a + half * abs(m4 + m3)
        b = b + half * abs(m2 + m1)
    total = a + b
    largest = max(max(abs(m1), abs(m2)), max(abs(m3), abs(m4)))
    zero = _narrowed(0, C)
    between = zero if total == 0 else (a * m2 + b * m3) / total
    same = zero if modified else half * (m4 + m1)
    return same if total <= _equal(C) * largest else between


def _equal(C):
    """By how much slopes differ that are equal but for rounding."""
    raise NotImplementedError


@overload(_equal)
def _equal_but_for_rounding(C):
    bound = np.float64(1e-9) if C.dtype == "float64" else np.float32(1e-6)
    return lambda C: bound


@forced
def hermite(method, lefts, rights, ratio, weight, w, far_left, left, y0, y1, right, far_right, C):
    """The cubic of an interval, in units of its length."""
    two, three = _narrowed(2, C), _narrowed(3, C)
    m = y1 - y0
    d0, d1 = m, m
    if method == CATMULL_ROM:
        if lefts:
            d0 = (y1 - left) * weight[0]
        if rights:
            d1 = (right - y0) * weight[2]
    else:
        before, after = (y0 - left) * ratio[0], (right - y1) * ratio[1]
        if method == PCHIP:
            if lefts:
                d0 = harmonic(before, m, weight[0], weight[1], C)
            elif rights:
                d0 = at_the_end(m, after, weight[0], weight[1], C)
            if rights:
                d1 = harmonic(m, after, weight[2], weight[3], C)
            elif lefts:
                d1 = at_the_end(m, before, weight[2], weight[3], C)
        elif lefts or rights:
            # Beyond the ends the slopes go on as they changed last.
            if not lefts:
                before = two * m - after
            if not rights:
                after = two * m - before
            first = (left - far_left) * ratio[2] if lefts == 2 else two * before - m
            last = (far_right - right) * ratio[3] if rights == 2 else two * after - m
            d0 = akima(first, before, m, after, method == MAKIMA, C)
            d1 = akima(before, m, after, last, method == MAKIMA, C)
    v, ww = _narrowed(1, C) - w, w * w
    return y0 + (ww * (three - two * w) * m + (w * (v * v) * d0 - ww * v * d1))


@inline
def curved(method, lefts, rights, ratio, weight, w, numbers, n, C):
    """n columns, whose samples are in `numbers` as `around` has them, in the place of y[0]."""
    ratios = ratio[0], ratio[1], ratio[2], ratio[3]
    weights = weight[0], weight[1], weight[2], weight[3]
    if method == CATMULL_ROM:
        _curve(CATMULL_ROM, lefts, rights, ratios, weights, w, numbers, n, C)
    elif method == PCHIP and lefts and rights:
        _curve(PCHIP, 1, 1, ratios, weights, w, numbers, n, C)
    elif method == AKIMA and lefts == 2 and rights == 2:
        _curve(AKIMA, 2, 2, ratios, weights, w, numbers, n, C)
    elif method == MAKIMA and lefts == 2 and rights == 2:
        _curve(MAKIMA, 2, 2, ratios, weights, w, numbers, n, C)
    else:
        _curve(method, lefts, rights, ratios, weights, w, numbers, n, C)


@forced
def _curve(method, lefts, rights, ratio, weight, w, numbers, n, C):
    for c in range(n):
        numbers[4 * CHUNK + c] = hermite(
            method, lefts, rights, ratio, weight, w, numbers[c], numbers[CHUNK + c],
            numbers[4 * CHUNK + c], numbers[5 * CHUNK + c], numbers[2 * CHUNK + c],
            numbers[3 * CHUNK + c], C,
        )  # fmt: skip


@inline
def normalised_by(column, numbers, k, n, affine, size, C):
    """n columns from one on by their statistics; in `numbers` from k on."""
    a = row(affine, 0, 5 * size, C)
    if size == 1:
        shift, scale, offset, low, high = a[0], a[1], a[2], a[3], a[4]
        for c in range(n):
            numbers[k + c] = normalised(numbers[k + c], shift, scale, offset, low, high)
        return
    c = 0
    while c < n:
        i = (column + c) % size
        m = min(n - c, size - i)
        for d in range(m):
            numbers[k + c + d] = normalised(
                numbers[k + c + d], a[i + d], a[size + i + d], a[2 * size + i + d],
                a[3 * size + i + d], a[4 * size + i + d],
            )  # fmt: skip
        c += m


# ------------------------------------------------------------------------------------- reductions


@inline
def extreme(method, data, start, lo, n, step, d, clock, X):
    """The largest or smallest of 64-bit integers, which no float could hold."""
    best = row(data, start + position(clock, lo) * step + d, 1, X)[0]
    for k in range(1, n):
        v = row(data, start + position(clock, lo + k) * step + d, 1, X)[0]
        if (v > best) if method == MAX else (v < best):
            best = v
    return best


@inline
def reduced(method, x, data, start, lo, count, step, d, n, clock, numbers, C):
    """The samples of a span, in the order of time, so that sums repeat: columns from d on."""
    zero, one = _narrowed(0, C), _narrowed(1, C)
    for c in range(n):
        numbers[c] = zero
    for i in range(count):
        read(x, data, start + position(clock, lo + i) * step + d, n, numbers, CHUNK, C)
        if method < MAX:
            for c in range(n):
                numbers[c] = numbers[c] + numbers[CHUNK + c]
        elif method == ANY:
            for c in range(n):
                numbers[c] = one if numbers[CHUNK + c] != 0 else numbers[c]
        elif i == 0:
            for c in range(n):
                numbers[c] = numbers[CHUNK + c]
        else:  # the first NaN stays
            sign = one if method == MAX else -one
            for c in range(n):
                v, best = numbers[CHUNK + c], numbers[c]
                better = (sign * v > sign * best) | (v != v)
                numbers[c] = v if better & (best == best) else best
    if method == MEAN:
        total = _narrowed(count, C)
        for c in range(n):
            numbers[c] = numbers[c] / total


# ---------------------------------------------------------------------------------------- a target


@inline
def turned(part, data, x0, x1, w, out, y, affine, fill_bits, a, b, r, C):
    """The rotations of a part, and whether all of them are defined."""
    defined = True
    width, gap = np.int64(part.width), np.int64(part.rotation_row) - 3
    run = 3 if gap else max(width, 1)  # elements that stand side by side
    for g in range(part.groups):
        d = g * part.stride + np.int64(part.column)
        for c in range(0, width, run):
            read(part.x, data, x0 + d + c // 3 * gap + c, run, a, c, C)
            if w != 0:
                read(part.x, data, x1 + d + c // 3 * gap + c, run, b, c, C)
        if w != 0:
            if not turn(part.rotation, 3, part.flags, a, b, w, r, C, C):
                defined = False
                if part.fill:
                    for c in range(0, width, run):
                        put_bits(part.y, out, y + d + c // 3 * gap + c, run, fill_bits)
                    continue
        else:
            for c in range(width):
                r[c] = a[c]
            if part.rotation <= QUAT_WXYZ and part.flags & CANONICAL:
                stored = (a[0], a[1], a[2], a[3])
                stored = as_stored(part.rotation, canonical(in_order(part.rotation, stored)))
                r[0], r[1], r[2], r[3] = stored
        for c in range(0, width, run):
            at = d + c // 3 * gap + c
            if affine != 0:
                normalised_by(at, r, c, run, affine, np.int64(part.affine_size), C)
            put(part.y, out, y + at, run, r, c, C)
    return defined


@apart
def put_later(parts, p, memory, x0, x1, w, y, flag, undefined, room, C, LEVEL):
    """Queue the quaternions of a part: `between_pairs` computes them by the block."""
    part, data = parts[p], memory[0][parts[p].data]
    ends = words(room, 8, C)
    numbers, waiting = queued(room, C), queue(room)
    for g in range(part.groups):
        d = g * part.stride + np.int64(part.column)
        n = waiting[0]
        if n == BLOCK or (n > 0 and parts[waiting[1]].flags != part.flags):
            finish(parts, memory, undefined, room, LEVEL)
            n = 0
        for k in range(2):
            read(part.x, data, (x1 if k else x0) + d, 4, ends, 4 * k, C)
        start = in_order(part.rotation, (ends[0], ends[1], ends[2], ends[3]))
        end = in_order(part.rotation, (ends[4], ends[5], ends[6], ends[7]))
        set_pair(numbers, n, start, end, w)
        waiting[1 + n], waiting[1 + BLOCK + n] = p, y
        waiting[1 + 2 * BLOCK + n], waiting[1 + 3 * BLOCK + n] = d, flag
        waiting[0] = n + 1


@apart
def put_queued(parts, memory, undefined, room, C):
    """Write the rotations that are queued. What has none gets `undefined` as its flag."""
    at, constants = memory
    numbers, waiting, r = queued(room, C), queue(room), words(room, 26, C)
    n = waiting[0]
    between_pairs(numbers, n, parts[waiting[1]].flags)
    first, width = np.int64(0), np.int64(4)
    for i in range(n):
        part = parts[waiting[1 + i]]
        y, d = waiting[1 + BLOCK + i], waiting[1 + 2 * BLOCK + i]
        q, defined = get_result(numbers, i)
        if not defined:
            flag = waiting[1 + 3 * BLOCK + i]
            if flag:
                row(flag, 0, 1, D_BOOL)[0] = undefined
            if part.fill:
                put_bits(part.y, at[part.out], y + d, width, constants[part.fill_value])
                continue
        if part.flags & CANONICAL:
            q = canonical(q)
        r[0], r[1], r[2], r[3] = as_stored(part.rotation, q)
        if at[part.affine] != 0:
            normalised_by(d, r, first, width, at[part.affine], np.int64(part.affine_size), C)
        put(part.y, at[part.out], y + d, width, r, first, C)
    waiting[0] = 0


@apart
def part_target(part, memory, clock, n, start, i0, i1, x0, x1, w, count, y, room, C, W):
    """Write a target that takes more than samples and lines; whether it is defined."""
    at, constants = memory
    data, out, affine = at[part.data], at[part.out], at[part.affine]
    around, ratio, weight = places(room), words(room, 0, C), words(room, 4, C)
    a, b, r = words(room, 8, C), words(room, 17, C), words(room, 26, C)
    numbers = chunks(room, C)
    method, x_code, y_code = part.method, part.x, part.y
    step, width, groups, stride = part.data_step, part.width, part.groups, part.stride
    column, lo = np.int64(part.column), i0
    if part.rotation:
        return turned(part, data, x0, x1, w, out, y, affine, constants[part.fill_value], a, b, r, C)
    if count > 0 and x_code == y_code and x_code in (I64, U64) and (
        affine == 0 and method >= MAX and method != ANY
    ):  # fmt: skip
        for g in range(groups):
            for d in range(g * stride + column, g * stride + column + width):
                if x_code == I64:
                    best = extreme(method, data, start, lo, count, step, d, clock, D_I64)
                    row(out, y + d, 1, D_I64)[0] = best
                else:
                    most = extreme(method, data, start, lo, count, step, d, clock, D_U64)
                    row(out, y + d, 1, D_U64)[0] = most
    else:
        lefts, rights = 0, 0
        if w != 0 and method >= CATMULL_ROM:
            lefts, rights = stencil(
                clock, n, i0, i1, start, step, method, around, ratio, weight, C, W
            )
        around[4], around[5] = x0, x1
        size = np.int64(part.affine_size)
        for g in range(groups):
            end = g * stride + column + width
            for d in range(g * stride + column, end, CHUNK):
                m = min(end - d, CHUNK)
                made = 0
                if count > 0:
                    reduced(method, x_code, data, start, lo, count, step, d, m, clock, numbers, C)
                else:
                    made = 4 * CHUNK
                    for k in range(2 - lefts, 6 if w != 0 else 5):
                        if k < 2 + rights or k >= 4:
                            read(x_code, data, around[k] + d, m, numbers, k * CHUNK, C)
                    if w != 0 and method >= CATMULL_ROM:
                        curved(method, lefts, rights, ratio, weight, w, numbers, m, C)
                    elif w != 0:
                        toward(numbers, m, w)
                if affine != 0:
                    normalised_by(d, numbers, made, m, affine, size, C)
                put(y_code, out, y + d, m, numbers, made, C)
    return True


def sample_part(part, memory, x0, code, y, room, C, LEVEL):
    """Write one sample, or the constant with this code, as all columns of a part."""
    raise NotImplementedError


@overload(sample_part)
def _sample_part(part, memory, x0, code, y, room, C, LEVEL):
    def plain(part, memory, x0, code, y, room, C, LEVEL):
        at, constants = memory
        data, out = at[part.data], at[part.out]
        if code >= 0:
            write_constant(part, -1 - code, out, y, constants)
        else:
            sampled(part, data, x0, x0, _narrowed(0, C), out, y, chunks(room, C), C)

    def full(part, memory, x0, code, y, room, C, LEVEL):
        at, constants = memory
        data, out, affine = at[part.data], at[part.out], at[part.affine]
        a, r, numbers = words(room, 8, C), words(room, 26, C), chunks(room, C)
        if code >= 0:
            write_constant(part, -1 - code, out, y, constants)
        elif part.rotation:
            turned(part, data, x0, x0, _narrowed(0, C), out, y, affine, 0, a, a, r, C)
        elif affine == 0:
            sampled(part, data, x0, x0, _narrowed(0, C), out, y, numbers, C)
        else:
            size = np.int64(part.affine_size)
            for g in range(part.groups):
                first = g * np.int64(part.stride) + np.int64(part.column)
                end = first + np.int64(part.width)
                for d in range(first, end, CHUNK):
                    n = min(end - d, CHUNK)
                    read(part.x, data, x0 + d, n, numbers, 0, C)
                    normalised_by(d, numbers, 0, n, affine, size, C)
                    put(part.y, out, y + d, n, numbers, 0, C)

    return full if everything(LEVEL) else plain


def linear(code, data, x0, x1, out, y, column, width, groups, stride, w, C):
    """Between two samples of the dtypes that most data come in; False for another."""
    raise NotImplementedError


@overload(linear)
def _linear_any(code, data, x0, x1, out, y, column, width, groups, stride, w, C):
    def single(code, data, x0, x1, out, y, column, width, groups, stride, w, C):
        if code == F32:
            _linear(data, x0, x1, out, y, column, width, groups, stride, w, D_F32)
        elif code == BF16:
            _linear(data, x0, x1, out, y, column, width, groups, stride, w, D_BF16)
        elif code == F16:
            _linear(data, x0, x1, out, y, column, width, groups, stride, w, D_F16)
        else:
            return False
        return True

    def double(code, data, x0, x1, out, y, column, width, groups, stride, w, C):
        if code == F64:
            _linear(data, x0, x1, out, y, column, width, groups, stride, w, D_F64)
        return code == F64

    return double if C.dtype == "float64" else single


@inline
def _linear(data, x0, x1, out, y, column, width, groups, stride, w, X):
    for g in range(groups):
        d = g * stride + column
        u, v, z = (
            row(data, x0 + d, width, X),
            row(data, x1 + d, width, X),
            row(out, y + d, width, X),
        )
        for c in range(width):
            first = operand(u[c], X, X)
            z[c] = narrow(first + w * (operand(v[c], X, X) - first), X)


@inline
def toward(numbers, n, w):
    """From y[0] to y[1], which stand in `numbers` as `around` has them."""
    for c in range(n):
        first = numbers[4 * CHUNK + c]
        numbers[4 * CHUNK + c] = first + w * (numbers[5 * CHUNK + c] - first)


@apart
def write_constant(part, i0, out, y, constants):
    """The constant with the code -1 - i0 in all columns of a part."""
    bits = 0
    if i0 == -1 - NAN:
        bits = nan_bits(part.y)
    elif i0 == -1 - LEFT:
        bits = constants[part.left_value]
    elif i0 == -1 - RIGHT:
        bits = constants[part.right_value]
    elif i0 == -1 - FILL:
        bits = constants[part.fill_value]
    width, gap = np.int64(part.width), np.int64(part.rotation_row) - 3
    run = 3 if part.rotation and gap else max(width, 1)
    for g in range(part.groups):
        d = g * np.int64(part.stride) + np.int64(part.column)
        for c in range(0, width, run):
            put_bits(part.y, out, y + d + c // 3 * gap * (run == 3) + c, run, bits)


@inline
def unlimited(stream, W):
    """How far the chosen sample may be."""
    return stream.tolerance if stream.flags & TOLERANT else _none(W)


@apart
def sampled(part, data, x0, x1, w, out, y, numbers, C):
    """All columns of a part from one sample, or linearly between two."""
    column = np.int64(part.column)
    width, groups, stride = np.int64(part.width), np.int64(part.groups), np.int64(part.stride)
    if w == 0 and part.x == part.y:
        for g in range(groups):
            d = g * stride + column
            copy_bits(part.x, data, x0 + d, out, y + d, width)
    elif w == 0 or part.x != part.y or not (
        linear(part.x, data, x0, x1, out, y, column, width, groups, stride, w, C)
    ):  # fmt: skip
        for g in range(groups):
            end = g * stride + column + width
            for d in range(g * stride + column, end, CHUNK):
                n = min(end - d, CHUNK)
                read(part.x, data, x0 + d, n, numbers, 4 * CHUNK, C)
                if w != 0:
                    read(part.x, data, x1 + d, n, numbers, 5 * CHUNK, C)
                    toward(numbers, n, w)
                put(part.y, out, y + d, n, numbers, 4 * CHUNK, C)


_WORDS = 40  # of room, between the chunks and the queue


@inline
def room_for():
    """What `write_part` works in."""
    return np.zeros(8 + _WORDS + 6 * CHUNK + NUMBERS * BLOCK + 1 + 4 * BLOCK, np.int64)


@inline
def place_in(room, k, T):
    """What begins at a word of room: a pointer, where an array is seven arguments of a call."""
    return _pointer(room + 8 * k, T)


@inline
def chunks(room, C):
    """Six chunks of numbers."""
    return place_in(room, 0, C)


@inline
def places(room):
    return place_in(room, 6 * CHUNK, INT64)


@inline
def words(room, k, C):
    """The numbers that there are besides, from one on."""
    return place_in(room, 6 * CHUNK + 8 + k, C)


@inline
def queued(room, C):
    """The pairs of quaternions that wait to be computed."""
    return place_in(room, 6 * CHUNK + 8 + _WORDS, C)


@inline
def queue(room):
    """How many pairs wait; of each its part, where the result goes, its column and its flag."""
    return place_in(room, 6 * CHUNK + 8 + _WORDS + NUMBERS * BLOCK, INT64)


@apart
def span(clock, n, before, q, after, j, W):
    return interval(clock, n, before, q, after, j, W)


def locate_part(stream, part, target, C, W, LEVEL):
    """What one target of a part is made of: as `locate`, and the number of samples from i0 on that
    are reduced. It is the same for all parts of a stream that have one method.

    `target`: the clock of the row and its number of samples; the target's time between those of its
    neighbours, which are NaN where there are none; how many samples are not after it; whether there
    is such a target.
    """
    raise NotImplementedError


@overload(locate_part, jit_options={"forceinline": True})
def _locate_part(stream, part, target, C, W, LEVEL):
    def plain(stream, part, target, C, W, LEVEL):
        clock, n, _, q, _, j, given = target
        i0, i1, w, ok = -1 - EMPTY, 0, _narrowed(0, C), False
        if given:
            i0, i1, w, ok = locate(
                clock, n, q, j, part.method, part.left, part.right, stream.tolerance,
                unlimited(stream, W), stream.max_gap, C, C, W,
            )  # fmt: skip
        if part.fill and not ok:
            i0, w = -1 - FILL, _narrowed(0, C)
        return i0, i1, w, ok, 0

    def full(stream, part, target, C, W, LEVEL):
        clock, n, before, q, after, j, given = target
        method = part.method
        located = method
        if method >= CATMULL_ROM:
            located = NEAREST if method >= MEAN else LINEAR
        i0, i1, w, ok, count = -1 - EMPTY, 0, _narrowed(0, C), False, 0
        if given:
            if method >= MEAN and not is_nan(q, W):
                lo, hi = span(clock, n, before, q, after, j, W)
                count = max(hi - lo, 0)
                if count > 0:
                    i0, i1, ok = lo, lo, True
            if count == 0 and (method not in (SUM, ANY) or is_nan(q, W)):
                i0, i1, w, ok = locate(
                    clock, n, q, j, located, part.left, part.right,
                    stream.tolerance if method < MEAN else minus(q, q, W),
                    unlimited(stream, W), stream.max_gap, C, C, W,
                )  # fmt: skip
                ok = ok and method < MEAN
        if part.fill and not ok:
            i0, w, count = -1 - FILL, _narrowed(0, C), 0
        return i0, i1, w, ok, count

    return full if everything(LEVEL) else plain


def write_part(parts, p, memory, found, place, undefined, room, C, W, LEVEL):
    """Write one target of a part, and return whether it is defined.

    `memory`: the addresses and the constants of the table. `found`: what `locate_part` gives.
    `place`: the clock of the row and its number of samples; where the row begins in data, where the
    result goes, and the address of its flag or 0. `room`: where to work. A quaternion may wait
    there for `finish`, which gives it the flag `undefined` if it turns out so.
    """
    raise NotImplementedError


@overload(write_part, jit_options={"forceinline": True})
def _write_part(parts, p, memory, found, place, undefined, room, C, W, LEVEL):
    def plain(parts, p, memory, found, place, undefined, room, C, W, LEVEL):
        part, (at, constants) = parts[p], memory
        i0, i1, w, _, _ = found
        clock, _, start, y, _ = place
        if i0 < 0:
            write_constant(part, i0, at[part.out], y, constants)
            return True
        step = part.data_step
        x0, x1 = start + position(clock, i0) * step, start + position(clock, i1) * step
        sampled(part, at[part.data], x0, x1, w, at[part.out], y, chunks(room, C), C)
        return True

    def full(parts, p, memory, found, place, undefined, room, C, W, LEVEL):
        part, (at, constants) = parts[p], memory
        i0, i1, w, _, count = found
        clock, n, start, y, flag = place
        if i0 < 0:
            write_constant(part, i0, at[part.out], y, constants)
            return True
        step = part.data_step
        x0, x1 = start + position(clock, i0) * step, start + position(clock, i1) * step
        quaternion = 0 < part.rotation <= QUAT_WXYZ
        if quaternion and w != 0:
            put_later(parts, p, memory, x0, x1, w, y, flag, undefined, room, C, LEVEL)
        elif (
            count > 0
            or at[part.affine] != 0
            or (part.flags & CANONICAL if quaternion else part.rotation)
            or not (w == 0 or part.method == LINEAR)
        ):
            return part_target(
                part, memory, clock, n, start, i0, i1, x0, x1, w, count, y, room, C, W
            )
        else:
            sampled(part, at[part.data], x0, x1, w, at[part.out], y, chunks(room, C), C)
        return True

    return full if everything(LEVEL) else plain


def finish(parts, memory, undefined, room, LEVEL):
    """Write what waits in room."""
    raise NotImplementedError


@overload(finish, jit_options={"forceinline": False})
def _finish(parts, memory, undefined, room, LEVEL):
    def plain(parts, memory, undefined, room, LEVEL):
        pass

    def full(parts, memory, undefined, room, LEVEL):
        waiting = queue(room)
        if waiting[0] > 0:
            part = parts[waiting[1]]
            if is_wide(part.x) or is_wide(part.y):
                put_queued(parts, memory, undefined, room, D_F64)
            else:
                put_queued(parts, memory, undefined, room, D_F32)

    return full if everything(LEVEL) else plain


def _none(W):
    """No limit."""
    raise NotImplementedError


@overload(_none)
def _no_limit(W):
    if W.dtype == "int64":
        return lambda W: np.int64(-1)
    return lambda W: -1.0
