#pragma once
// Rotations and what lies between two of them. robocache_cupy/_cpu/rotation.py defines it.

#include "common.cuh"

enum Rotation { QUAT_XYZW = 1, QUAT_WXYZ, ROTVEC, ROT6D, MATRIX, ANGLE };
enum Turn { LONG_WAY = 1, NLERP = 2, CANONICAL = 4 };  // flags

// ------------------------------------------------------------------------------------ trigonometry
// Of + - * / and sqrt alone, so that it gives the same bits everywhere; the polynomials are minimax
// (Remez). The library's sine would need a stack for the reduction of large angles.

template <typename C> struct Limits;
template <> struct Limits<float> {
    static constexpr float epsilon = 1.1920929e-7f;
    static constexpr float low = 1e-30f, high = 1e30f;  // a sum of squares between is precise
    static constexpr float smallest = 1.1754944e-38f;   // that is not subnormal
    static constexpr float same = 1e-15f;               // |b - a| below has no useful square
};
template <> struct Limits<double> {
    static constexpr double epsilon = 2.220446049250313e-16;
    static constexpr double low = 1e-290, high = 1e290;
    static constexpr double smallest = 2.2250738585072014e-308;
    static constexpr double same = 1e-150;
};

// (sin x / x - 1) / z, z = x x, |x| <= pi / 4
__device__ __forceinline__ float sin_series(float z) {
    return -0.16666655f + z * (0.0083321781f + z * -0.00019517298f);
}
__device__ __forceinline__ double sin_series(double z) {
    return -0.16666666666666632 +
           z * (0.0083333333333224235 +
                z * (-0.00019841269829816287 +
                     z * (2.7557313695025849e-6 +
                          z * (-2.505075862492399e-8 + z * 1.5896826411278832e-10))));
}

// (cos x - 1 + z / 2) / z^2, z = x x, |x| <= pi / 4
__device__ __forceinline__ float cos_series(float z) {
    return 0.041666647f + z * (-0.0013887368f + z * 2.4438451e-5f);
}
__device__ __forceinline__ double cos_series(double z) {
    return 0.0416666666666666 +
           z * (-0.0013888888888874138 +
                z * (2.4801587289491666e-5 +
                     z * (-2.7557314355197698e-7 +
                          z * (2.0875723678611089e-9 + z * -1.1359669570936321e-11))));
}

// (atan x / x - 1) / z, z = x x, |x| <= tan(pi / 8)
__device__ __forceinline__ float atan_series(float z) {
    return -0.33333316f +
           z * (0.19998489f + z * (-0.14243849f + z * (0.10596f + z * -0.060834489f)));
}
__device__ __forceinline__ double atan_series(double z) {
    return -0.33333333333333199 +
           z * (0.19999999999954053 +
                z * (-0.14285714280246217 +
                     z * (0.11111110786044848 +
                          z * (-0.090908978342237589 +
                               z * (0.076920616036049016 +
                                    z * (-0.066631200575061554 +
                                         z * (0.058480068641049436 +
                                              z * (-0.050398374741167862 +
                                                   z * (0.038078142753658583 +
                                                        z * -0.017922108559941155)))))))));
}

// x - k pi / 2. The product of k and the first two parts of pi / 2 is exact.
__device__ __forceinline__ float less_quarters(float x, float k) {
    return ((x - k * 1.5703125f) - k * 0.0004837513f) - k * 7.54979e-8f;
}
__device__ __forceinline__ double less_quarters(double x, double k) {
    return ((x - k * 1.5707963267341256) - k * 6.077100506303966e-11) - k * 2.0222662487959506e-21;
}

template <typename C> __device__ __forceinline__ C not_a_number() {
    return of_bits<C>(sizeof(C) == 8 ? 0x7ff8000000000000ll : 0x7fc00000ll);
}

template <typename C> struct SinCos { C sin, cos; };

// NaN beyond 8192, where an angle that is the multiple of another means little.
template <typename C> __device__ __forceinline__ SinCos<C> sin_cos(C x) {
    const bool known = x <= (C)8192 && x >= (C)-8192;
    const C k = known ? (C)rint(x * (C)0.6366197723675814) : (C)0;
    const C r = less_quarters(x, k);
    const C z = r * r;
    C s = r + r * (z * sin_series(z));
    C c = (C)1 + (z * (C)-0.5 + z * (z * cos_series(z)));
    const int quadrant = (int)k & 3;
    if (quadrant & 1) {
        const C swapped = s;
        s = c;
        c = -swapped;
    }
    if (quadrant & 2) {
        s = -s;
        c = -c;
    }
    if (!known) s = c = not_a_number<C>();
    return {s, c};
}

// The angle in [0, pi] of the point (c, s) with s >= 0; 0 of the origin.
template <typename C> __device__ __forceinline__ C angle_of(C s, C c) {
    const C x = c < 0 ? -c : c;
    const bool steep = s > x;
    const C high = steep ? s : x, low = steep ? x : s;
    const bool middle = low > (C)0.4142135623730951 * high;  // tan(pi / 8)
    const C part = middle ? low - high : low, whole = middle ? low + high : high;
    const C a = whole > 0 ? part / whole : part;
    const C z = a * a;
    C angle = a + a * (z * atan_series(z));
    if (middle) angle = (C)0.7853981633974483 + angle;
    if (steep) angle = (C)1.5707963267948966 - angle;
    return c < 0 ? (C)3.141592653589793 - angle : angle;
}

// ------------------------------------------------------------------------------------- quaternions

template <typename C> struct Quaternion { C x, y, z, w; };

template <typename C>
__device__ __forceinline__ C dot(const Quaternion<C>& a, const Quaternion<C>& b) {
    return (a.x * b.x + a.y * b.y) + (a.z * b.z + a.w * b.w);
}
template <typename C>
__device__ __forceinline__ Quaternion<C> scaled(const Quaternion<C>& q, C by) {
    return {q.x * by, q.y * by, q.z * by, q.w * by};
}
template <typename C>
__device__ __forceinline__ Quaternion<C> blend(const Quaternion<C>& a, C u, const Quaternion<C>& b,
                                               C v) {
    return {a.x * u + b.x * v, a.y * u + b.y * v, a.z * u + b.z * v, a.w * u + b.w * v};
}

template <typename C> __device__ __forceinline__ C larger(C most, C x) {
    const C size = x < 0 ? -x : x;
    return size > most ? size : most;
}

// Of length 1; NaN throughout where it has no direction.
template <typename C> __device__ __forceinline__ Quaternion<C> unit(Quaternion<C> q) {
    C square = dot(q, q);
    if (!(square > Limits<C>::low && square < Limits<C>::high)) {
        C most = larger(larger(larger(larger((C)0, q.x), q.y), q.z), q.w);
        if (most < Limits<C>::smallest) most = 0;
        q = {q.x / most, q.y / most, q.z / most, q.w / most};
        square = dot(q, q);
    }
    return scaled(q, (C)1 / (C)sqrt(square));
}

// Scaled to length 1 by one step of Newton's method, which has all digits of a length so near.
template <typename C> __device__ __forceinline__ Quaternion<C> unit_again(const Quaternion<C>& q) {
    const C excess = dot(q, q) - (C)1;
    if (!(excess * excess < Limits<C>::epsilon * (C)0.0625)) return unit(q);
    return scaled(q, (C)1 - (C)0.5 * excess);
}

// The rotation at w between a (w = 0) and b (w = 1), or beyond them. `defined` is whether there is
// one. Shoemake's slerp with the angle from atan2, which has all digits at any angle (roma).
template <typename C>
__device__ __forceinline__ Quaternion<C> between(const Quaternion<C>& a, Quaternion<C> b, C w,
                                                 int flags, bool& defined) {
    C c = dot(a, b);
    if (c < 0 && !(flags & LONG_WAY)) {
        b = scaled(b, (C)-1);
        c = -c;
    }
    const Quaternion<C> e = blend(b, (C)1, a, -c);
    const C s = (C)sqrt(dot(e, e));
    if (c < 0 && s < 4 * Limits<C>::epsilon) {  // opposite, but for rounding: e is noise
        defined = false;
        return a;
    }
    Quaternion<C> q;
    if (flags & NLERP) {
        q = unit(blend(a, (C)1 - w, b, w));
    } else {
        C u = 1, v = w * 0;  // a and b are the same, and w may be NaN
        if (s > Limits<C>::same) {
            const C angle = angle_of(s, c);
            const C over = (C)1 / s;
            u = sin_cos(((C)1 - w) * angle).sin * over;
            v = sin_cos(w * angle).sin * over;
        }
        q = unit_again(blend(a, u, b, v));
    }
    defined = q.w == q.w;
    return q;
}

// ----------------------------------------------------------------------------------------- vectors

template <typename C>
__device__ __forceinline__ Quaternion<C> of_rotvec(C x, C y, C z) {
    const C angle = (C)sqrt(x * x + y * y + z * z);
    SinCos<C> half = {(C)0.5, (C)1};
    if (!(angle < (C)1e-12)) {
        half = sin_cos(angle * (C)0.5);
        half.sin = half.sin / angle;
    }
    return {x * half.sin, y * half.sin, z * half.sin, half.cos};
}

template <typename C> struct Vector { C x, y, z; };

// Of length at most pi.
template <typename C> __device__ __forceinline__ Vector<C> to_rotvec(Quaternion<C> q) {
    if (q.w < 0) q = scaled(q, (C)-1);
    const C s = (C)sqrt(q.x * q.x + q.y * q.y + q.z * q.z);
    const C scale = s > (C)1e-12 ? 2 * angle_of(s, q.w) / s : (C)2;
    return {q.x * scale, q.y * scale, q.z * scale};
}

// ---------------------------------------------------------------------------------------- matrices

// Divides by the largest of w, x, y and z.
template <typename C>
__device__ __forceinline__ Quaternion<C> of_matrix(C r00, C r01, C r02, C r10, C r11, C r12, C r20,
                                                   C r21, C r22) {
    const C trace = r00 + r11 + r22;
    Quaternion<C> q;
    if (trace >= r00 && trace >= r11 && trace >= r22)
        q = {r21 - r12, r02 - r20, r10 - r01, (C)1 + trace};
    else if (r00 >= r11 && r00 >= r22)
        q = {(C)1 + r00 - r11 - r22, r10 + r01, r20 + r02, r21 - r12};
    else if (r11 >= r22)
        q = {r10 + r01, (C)1 - r00 + r11 - r22, r21 + r12, r02 - r20};
    else
        q = {r20 + r02, r21 + r12, (C)1 - r00 - r11 + r22, r10 - r01};
    const C det = r00 * (r11 * r22 - r12 * r21) - r01 * (r10 * r22 - r12 * r20) +
                  r02 * (r10 * r21 - r11 * r20);
    if (!(det > 0)) q.w = not_a_number<C>();  // no rotation, but zero or a mirror
    return unit(q);
}

// By Gram and Schmidt, of the first two columns.
template <typename C>
__device__ __forceinline__ Quaternion<C> of_rot6d(C ax, C ay, C az, C bx, C by, C bz) {
    const Quaternion<C> a = unit<C>({ax, ay, az, (C)0}), b = unit<C>({bx, by, bz, (C)0});
    const Quaternion<C> across = blend(b, (C)1, a, -dot(a, b));
    if (!(dot(across, across) > (16 * Limits<C>::epsilon) * Limits<C>::epsilon)) {
        const Quaternion<C> zero = {(C)0, (C)0, (C)0, (C)0};  // one column is the other's multiple
        return unit(zero);
    }
    const Quaternion<C> n = unit(across);
    return of_matrix(a.x, n.x, a.y * n.z - a.z * n.y, a.y, n.y, a.z * n.x - a.x * n.z, a.z, n.z,
                     a.x * n.y - a.y * n.x);
}

// ------------------------------------------------------------------------------------------ angles

// Into (-pi, pi]; NaN beyond 1 / epsilon, where numbers are too far apart for an angle.
template <typename C> __device__ __forceinline__ C wrap(C d) {
    constexpr C pi = (C)3.141592653589793, circle = (C)6.283185307179586;
    if (!(larger((C)0, d) * Limits<C>::epsilon < (C)1) || d != d) return not_a_number<C>();
    d = d - circle * (C)rint(d / circle);
    if (d <= -pi) d = d + circle;
    return d > pi ? d - circle : d;
}

// --------------------------------------------------------------------------------------- in memory

// A quaternion of its stored numbers, and the other way round.
template <typename C>
__device__ __forceinline__ Quaternion<C> in_order(int kind, const Quaternion<C>& q) {
    return kind == QUAT_WXYZ ? Quaternion<C>{q.y, q.z, q.w, q.x} : q;
}
template <typename C>
__device__ __forceinline__ Quaternion<C> as_stored(int kind, const Quaternion<C>& q) {
    return kind == QUAT_WXYZ ? Quaternion<C>{q.w, q.x, q.y, q.z} : q;
}

template <typename C, typename X>
__device__ __forceinline__ Quaternion<C> read_rotation(int kind, int64 row, const X* x) {
    const C x0 = widen<C>(x[0]), x1 = widen<C>(x[1]), x2 = widen<C>(x[2]);
    if (kind == ROTVEC) return of_rotvec(x0, x1, x2);
    if (kind == ROT6D) {
        return of_rot6d(x0, x1, x2, widen<C>(x[3]), widen<C>(x[4]), widen<C>(x[5]));
    }
    if (kind == MATRIX) {
        const X *const second = x + row, *const third = second + row;
        return of_matrix(x0, x1, x2, widen<C>(second[0]), widen<C>(second[1]), widen<C>(second[2]),
                         widen<C>(third[0]), widen<C>(third[1]), widen<C>(third[2]));
    }
    return unit(in_order<C>(kind, {x0, x1, x2, widen<C>(x[3])}));
}

// w >= 0, and where it is 0 the first of x, y and z that is not, is above it.
template <typename C>
__device__ __forceinline__ Quaternion<C> canonical(const Quaternion<C>& q) {
    const bool negative =
        q.w < 0 ||
        (q.w == 0 && (q.x < 0 || (q.x == 0 && (q.y < 0 || (q.y == 0 && q.z < 0)))));
    return negative ? scaled(q, (C)-1) : q;
}

template <typename C, typename Y>
__device__ __forceinline__ void write_rotation(int kind, int64 row, int flags, Quaternion<C> q,
                                               Y* y) {
    if (kind == ROTVEC) {
        const Vector<C> v = to_rotvec(q);
        y[0] = Narrow<Y>::of(v.x);
        y[1] = Narrow<Y>::of(v.y);
        y[2] = Narrow<Y>::of(v.z);
    } else if (kind == ROT6D || kind == MATRIX) {
        const C one = 1, two = 2;
        const Vector<C> x = {one - two * (q.y * q.y + q.z * q.z), two * (q.x * q.y + q.z * q.w),
                             two * (q.x * q.z - q.y * q.w)};  // the first column
        const Vector<C> second = {two * (q.x * q.y - q.z * q.w),
                                  one - two * (q.x * q.x + q.z * q.z),
                                  two * (q.y * q.z + q.x * q.w)};
        y[0] = Narrow<Y>::of(x.x);
        if (kind == ROT6D) {
            y[1] = Narrow<Y>::of(x.y);
            y[2] = Narrow<Y>::of(x.z);
            y[3] = Narrow<Y>::of(second.x);
            y[4] = Narrow<Y>::of(second.y);
            y[5] = Narrow<Y>::of(second.z);
            return;
        }
        Y *const below = y + row, *const last = below + row;
        below[0] = Narrow<Y>::of(x.y);
        last[0] = Narrow<Y>::of(x.z);
        y[1] = Narrow<Y>::of(second.x);
        below[1] = Narrow<Y>::of(second.y);
        last[1] = Narrow<Y>::of(second.z);
        y[2] = Narrow<Y>::of(two * (q.x * q.z + q.y * q.w));
        below[2] = Narrow<Y>::of(two * (q.y * q.z - q.x * q.w));
        last[2] = Narrow<Y>::of(one - two * (q.x * q.x + q.y * q.y));
    } else {
        if (flags & CANONICAL) q = canonical(q);
        q = as_stored(kind, q);
        y[0] = Narrow<Y>::of(q.x);
        y[1] = Narrow<Y>::of(q.y);
        y[2] = Narrow<Y>::of(q.z);
        y[3] = Narrow<Y>::of(q.w);
    }
}

// The rotation at w between those at a and b, and whether it is defined. `row` is the elements from
// row to row of a MATRIX.
template <typename X, typename Y>
__device__ __forceinline__ bool turn(int kind, int64 row, int flags, const X* a, const X* b,
                                     Computed<X, Y> w, Y* out) {
    typedef Computed<X, Y> C;
    if (kind == ANGLE) {
        const C from = widen<C>(a[0]), difference = widen<C>(b[0]) - from;
        const C angle = wrap(from + w * (flags & LONG_WAY ? difference : wrap(difference)));
        out[0] = Narrow<Y>::of(angle);
        return angle == angle;
    }
    if (kind == ROT6D || kind == MATRIX) flags &= ~LONG_WAY;  // they have no sign
    const Quaternion<C> from = read_rotation<C>(kind, row, a), to = read_rotation<C>(kind, row, b);
    bool defined;
    const Quaternion<C> q = between(from, to, w, flags, defined);
    write_rotation(kind, row, flags, q, out);
    return defined;
}
