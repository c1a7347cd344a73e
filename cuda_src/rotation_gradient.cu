// The gradients of interpolated rotations. What each kernel computes is defined by the function of
// the same name and parameters in robocache_cupy/_cpu/rotation_gradient.py.

#include "rotation.cuh"
#include "samples.cuh"

// ------------------------------------------------------------------------- products with Jacobians
// Each takes the gradient by a result, and gives that by what the result was made of.

// What of g is at a right angle to the unit q.
template <typename C>
__device__ __forceinline__ Quaternion<C> across(const Quaternion<C>& g, const Quaternion<C>& q) {
    return blend(g, (C)1, q, -dot(g, q));
}

// 1 / |q|, as `unit` finds it.
template <typename C> __device__ __forceinline__ C inverse_length(Quaternion<C> q) {
    C square = dot(q, q), most = 1;
    if (!(square > Limits<C>::low && square < Limits<C>::high)) {
        most = larger(larger(larger(larger((C)0, q.x), q.y), q.z), q.w);
        if (most < Limits<C>::smallest) most = 0;
        q = {q.x / most, q.y / most, q.z / most, q.w / most};
        square = dot(q, q);
    }
    return (C)1 / (C)sqrt(square) / most;
}

// By q, of a gradient by unit(q).
template <typename C>
__device__ __forceinline__ Quaternion<C> unit_back(const Quaternion<C>& q,
                                                   const Quaternion<C>& g) {
    return scaled(across(g, unit(q)), inverse_length(q));
}

template <typename C> struct Ends {
    Quaternion<C> a, b;
    C w;
};

// By a, b and w, of a gradient by the rotation q between them. A change at an end moves what lies
// between as Jacobi fields of the sphere do: along the arc in proportion to w, and across it as the
// sines of the angles. No digits cancel at any angle.
template <typename C>
__device__ __forceinline__ Ends<C> between_back(const Quaternion<C>& a, Quaternion<C> b, C w,
                                                int flags, const Quaternion<C>& q,
                                                Quaternion<C> g) {
    C c = dot(a, b), sign = 1;
    if (c < 0 && !(flags & LONG_WAY)) {
        sign = -1;
        b = scaled(b, sign);
        c = -c;
    }
    const Quaternion<C> e = blend(b, (C)1, a, -c);
    const C s = (C)sqrt(dot(e, e));
    g = across(g, q);
    if (c < 0 && s < 4 * Limits<C>::epsilon) return {g, {(C)0, (C)0, (C)0, (C)0}, (C)0};
    if (flags & NLERP) {
        const Quaternion<C> h = scaled(g, inverse_length(blend(a, (C)1 - w, b, w)));
        const C by_w = dot(h, blend(b, (C)1, a, (C)-1));
        return {scaled(h, (C)1 - w), scaled(h, w * sign), by_w};
    }
    C angle = 0, over = 0, u = (C)1 - w, v = w;
    SinCos<C> at = {(C)0, (C)1};
    if (s > Limits<C>::same) {
        angle = angle_of(s, c);
        over = (C)1 / s;
        u = sin_cos(((C)1 - w) * angle).sin * over;
        at = sin_cos(w * angle);
        v = at.sin * over;
    }
    const Quaternion<C> n = scaled(e, over);  // the direction of the arc at a
    const Quaternion<C> there = blend(n, at.cos, a, -at.sin);
    const C along = dot(g, there);
    g = blend(g, (C)1, there, -along);
    const Quaternion<C> by_a = blend(g, u, n, ((C)1 - w) * along);
    const Quaternion<C> by_b = blend(g, v, blend(n, c, a, -s), w * along);
    return {by_a, scaled(by_b, sign), angle * along};
}

template <typename C>
__device__ __forceinline__ Vector<C> of_rotvec_back(C x, C y, C z, const Quaternion<C>& g) {
    const C angle = (C)sqrt(x * x + y * y + z * z);
    C k = (C)0.5, bend = 0;
    if (!(angle < (C)1e-12)) {
        const SinCos<C> half = sin_cos(angle * (C)0.5);
        k = half.sin / angle;
        bend = ((C)0.5 * half.cos - k) / angle / angle;
    }
    const C by = (x * g.x + y * g.y + z * g.z) * bend - (C)0.5 * k * g.w;
    return {k * g.x + x * by, k * g.y + y * by, k * g.z + z * by};
}

template <typename C>
__device__ __forceinline__ Quaternion<C> to_rotvec_back(Quaternion<C> q, C g0, C g1, C g2) {
    const C sign = q.w < 0 ? (C)-1 : (C)1;
    q = scaled(q, sign);
    const C s = (C)sqrt(q.x * q.x + q.y * q.y + q.z * q.z);
    C scale = 2, bend = 0;
    if (s > (C)1e-12) {
        scale = (C)2 * angle_of(s, q.w) / s;
        bend = ((C)2 * q.w - scale) / s / s;
    }
    const C along = q.x * g0 + q.y * g1 + q.z * g2;
    const C by = along * bend;
    const Quaternion<C> g = {scale * g0 + q.x * by, scale * g1 + q.y * by, scale * g2 + q.z * by,
                             (C)-2 * along};
    return scaled(g, sign);
}

// A matrix by its columns.
template <typename C> struct Columns { Vector<C> x, y, z; };

template <typename C>
__device__ __forceinline__ Columns<C> of_matrix_back(C r00, C r01, C r02, C r10, C r11, C r12,
                                                     C r20, C r21, C r22,
                                                     const Quaternion<C>& g) {
    const C trace = r00 + r11 + r22;
    const int largest = trace >= r00 && trace >= r11 && trace >= r22 ? 3
                        : r00 >= r11 && r00 >= r22                   ? 0
                        : r11 >= r22                                 ? 1
                                                                     : 2;
    Quaternion<C> q;
    if (largest == 3) q = {r21 - r12, r02 - r20, r10 - r01, (C)1 + trace};
    else if (largest == 0) q = {(C)1 + r00 - r11 - r22, r10 + r01, r20 + r02, r21 - r12};
    else if (largest == 1) q = {r10 + r01, (C)1 - r00 + r11 - r22, r21 + r12, r02 - r20};
    else q = {r20 + r02, r21 + r12, (C)1 - r00 - r11 + r22, r10 - r01};
    const Quaternion<C> h = unit_back(q, g);
    if (largest == 3) return {{h.w, h.z, -h.y}, {-h.z, h.w, h.x}, {h.y, -h.x, h.w}};
    if (largest == 0) return {{h.x, h.y, h.z}, {h.y, -h.x, h.w}, {h.z, -h.w, -h.x}};
    if (largest == 1) return {{-h.y, h.x, -h.w}, {h.x, h.y, h.z}, {h.w, h.z, -h.y}};
    return {{-h.z, h.w, h.x}, {-h.w, -h.z, h.y}, {h.x, h.y, h.z}};
}

template <typename C>
__device__ __forceinline__ Quaternion<C> cross(const Quaternion<C>& a, const Quaternion<C>& b) {
    return {a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x, (C)0};
}

template <typename C> __device__ __forceinline__ Quaternion<C> lifted(const Vector<C>& v) {
    return {v.x, v.y, v.z, (C)0};
}

// By both columns.
template <typename C>
__device__ __forceinline__ Ends<C> of_rot6d_back(const Quaternion<C>& first,
                                                 const Quaternion<C>& second,
                                                 const Quaternion<C>& g) {
    const Quaternion<C> a = unit(first), b = unit(second);
    const C c = dot(a, b);
    const Quaternion<C> rest = blend(b, (C)1, a, -c);
    const Quaternion<C> n = unit(rest), last = cross(a, n);
    const Columns<C> r = of_matrix_back(a.x, n.x, last.x, a.y, n.y, last.y, a.z, n.z, last.z, g);
    const Quaternion<C> by_last = lifted(r.z);
    const Quaternion<C> by_n = blend(lifted(r.y), (C)1, cross(by_last, a), (C)1);
    const Quaternion<C> by_rest = unit_back(rest, by_n);
    const C shared = dot(a, by_rest);
    const Quaternion<C> by_a = blend(blend(lifted(r.x), (C)1, cross(n, by_last), (C)1), (C)1,
                                     blend(by_rest, -c, b, -shared), (C)1);
    return {unit_back(first, by_a), unit_back(second, blend(by_rest, (C)1, a, -shared)), (C)0};
}

template <typename C>
__device__ __forceinline__ void store(C* out, int64 step, const Vector<C>& v) {
    out[0] = v.x;
    out[step] = v.y;
    out[2 * step] = v.z;
}

// Write the gradient by the stored numbers, of one by the unit quaternion read from them.
template <typename C, typename X>
__device__ __forceinline__ void rotation_read_back(int kind, int64 row, const X* x,
                                                   const Quaternion<C>& g, C* out) {
    const C x0 = widen<C>(x[0]), x1 = widen<C>(x[1]), x2 = widen<C>(x[2]);
    if (kind == ROTVEC) {
        store(out, 1, of_rotvec_back(x0, x1, x2, g));
    } else if (kind == ROT6D) {
        const Quaternion<C> first = {x0, x1, x2, (C)0};
        const Quaternion<C> second = {widen<C>(x[3]), widen<C>(x[4]), widen<C>(x[5]), (C)0};
        const Ends<C> by = of_rot6d_back(first, second, g);
        store(out, 1, Vector<C>{by.a.x, by.a.y, by.a.z});
        store(out + 3, 1, Vector<C>{by.b.x, by.b.y, by.b.z});
    } else if (kind == MATRIX) {
        const X *const second = x + row, *const third = second + row;
        const Columns<C> by = of_matrix_back(
            x0, x1, x2, widen<C>(second[0]), widen<C>(second[1]), widen<C>(second[2]),
            widen<C>(third[0]), widen<C>(third[1]), widen<C>(third[2]), g);
        store(out, row, by.x);
        store(out + 1, row, by.y);
        store(out + 2, row, by.z);
    } else {
        const Quaternion<C> q = in_order<C>(kind, {x0, x1, x2, widen<C>(x[3])});
        const Quaternion<C> by = as_stored(kind, unit_back(q, g));
        store(out, 1, Vector<C>{by.x, by.y, by.z});
        out[3] = by.w;
    }
}

// -1 for a quaternion that `canonical` negates.
template <typename C> __device__ __forceinline__ C sign_of(const Quaternion<C>& q) {
    const bool negative =
        q.w < 0 ||
        (q.w == 0 && (q.x < 0 || (q.x == 0 && (q.y < 0 || (q.y == 0 && q.z < 0)))));
    return negative ? (C)-1 : (C)1;
}

// By the unit quaternion q, of the gradient y by the stored numbers made of it.
template <typename C, typename Y>
__device__ __forceinline__ Quaternion<C> rotation_write_back(int kind, int64 row, int flags,
                                                             const Quaternion<C>& q, const Y* y) {
    const C y0 = widen<C>(y[0]), y1 = widen<C>(y[1]), y2 = widen<C>(y[2]);
    if (kind == ROTVEC) return to_rotvec_back(q, y0, y1, y2);
    if (kind == ROT6D || kind == MATRIX) {
        const int64 down = kind == ROT6D ? 1 : row, right = kind == ROT6D ? 3 : 1;
        const C two = 2;
        const C g00 = y0, g10 = widen<C>(y[down]), g20 = widen<C>(y[2 * down]);
        const C g01 = widen<C>(y[right]), g11 = widen<C>(y[right + down]),
                g21 = widen<C>(y[right + 2 * down]);
        C g02 = 0, g12 = 0, g22 = 0;
        if (kind == MATRIX) {
            g02 = y2;
            g12 = widen<C>(y[2 + down]);
            g22 = widen<C>(y[2 + 2 * down]);
        }
        const C xy = g10 + g01, xz = g20 + g02, yz = g21 + g12;
        const C x = g21 - g12, y = g02 - g20, z = g10 - g01;
        return {two * ((q.y * xy + q.z * xz) + (q.w * x - two * (q.x * (g11 + g22)))),
                two * ((q.x * xy + q.z * yz) + (q.w * y - two * (q.y * (g00 + g22)))),
                two * ((q.x * xz + q.y * yz) + (q.w * z - two * (q.z * (g00 + g11)))),
                two * (q.x * x + q.y * y + q.z * z)};
    }
    const Quaternion<C> g = in_order<C>(kind, {y0, y1, y2, widen<C>(y[3])});
    return flags & CANONICAL ? scaled(g, sign_of(q)) : g;
}

// --------------------------------------------------------------------------------------- resampling

// The largest index up to each target of a row, and whether any is less than one before it.
//
// A row to a block, a run of its targets to a thread: each finds the largest of its run, these are
// made the largest before each run, and each writes its run.
__global__ void __launch_bounds__(256) order(const int* __restrict__ index, int* __restrict__ first,
                                             int* __restrict__ disorder, int64 T, int64 B) {
    wait_for_stream();
    __shared__ int most[256];
    __shared__ int falls;
    const int me = threadIdx.x, threads = blockDim.x;
    const int64 run = (T + threads - 1) / threads;
    const int64 begin = clamp(me * run, 0, T), end = clamp(begin + run, 0, T);
    for (int64 b = blockIdx.x; b < B; b += gridDim.x) {
        int largest = -1;
        for (int64 t = begin; t < end; ++t) {
            const int i = index[b * T + t];
            if (i > largest) largest = i;
        }
        most[me] = largest;
        if (me == 0) falls = 0;
        __syncthreads();
        for (int distance = 1; distance < threads; distance *= 2) {
            const int other = me >= distance ? most[me - distance] : -1;
            __syncthreads();
            if (other > most[me]) most[me] = other;
            __syncthreads();
        }
        largest = me > 0 ? most[me - 1] : -1;
        for (int64 t = begin; t < end; ++t) {
            const int i = index[b * T + t];
            if (i >= 0 && i < largest) falls = 1;
            if (i > largest) largest = i;
            first[b * T + t] = largest;
        }
        __syncthreads();
        if (me == 0) disorder[b] = falls;
        __syncthreads();
    }
}

// What each target gives to the sample of its index, and to the one behind it.
template <typename X, typename Y>
__global__ void __launch_bounds__(256, 1) turn_back(
    const Y* __restrict__ grad, const X* __restrict__ data, const int* __restrict__ index,
    const Computed<X, Y>* __restrict__ weight, const unsigned char* __restrict__ valid,
    const void* __restrict__ offsets, Computed<X, Y>* __restrict__ pairs, int64 items, int64 T,
    int64 D, int64 data_row, int64 data_step, int64 offsets_width, int64 one_row, int64 kind,
    int64 rotation_row, int64 flags, int64 column, int64 width, int64 groups, int64 stride) {
    wait_for_stream();
    typedef Computed<X, Y> C;
    const int64 all = (int64)gridDim.x * blockDim.x, gap = kind == MATRIX ? rotation_row - 3 : 0;
    for (int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x; item < items; item += all) {
        const int64 target = item / groups, d = (item - target * groups) * stride + column;
        const int64 i = index[target];
        if (i < 0) continue;
        C *const p0 = pairs + 2 * target * D + d, *const p1 = p0 + D;
        const Y* const g = grad + target * D + d;
        const C w = weight[target];
        int64 start = target / T * data_row;
        if (offsets) {
            start = load<int64>(offsets, offsets_width, one_row ? 0 : target / T);
            start = (start > 0 ? start : 0) * data_step;
        }
        const X *const x0 = data + start + i * data_step + d, *const x1 = x0 + data_step;
        bool known = !valid || valid[target];
        if (known && w == 0) {
            C sign = 1;
            if ((kind == QUAT_XYZW || kind == QUAT_WXYZ) && flags & CANONICAL)
                sign = sign_of(in_order<C>((int)kind, {widen<C>(x0[0]), widen<C>(x0[1]),
                                                       widen<C>(x0[2]), widen<C>(x0[3])}));
            for (int64 c = 0; c < width; ++c) {
                const int64 at = c + c / 3 * gap;
                p0[at] = sign * widen<C>(g[at]);
            }
            continue;
        }
        if (known && (kind == 0 || kind == ANGLE)) {
            if (kind == ANGLE) {
                const C from = widen<C>(x0[0]), difference = widen<C>(x1[0]) - from;
                const C angle = wrap(from + w * (flags & LONG_WAY ? difference : wrap(difference)));
                known = angle == angle;
            }
            for (int64 c = 0; c < width; ++c) {
                const C v = known ? widen<C>(g[c]) : (C)0;
                p0[c] = ((C)1 - w) * v;
                p1[c] = w * v;
            }
            continue;
        }
        if (known) {
            const int way = (int)flags & (kind == ROT6D || kind == MATRIX ? ~LONG_WAY : ~0);
            const Quaternion<C> a = read_rotation<C>((int)kind, rotation_row, x0),
                                b = read_rotation<C>((int)kind, rotation_row, x1);
            bool defined;
            const Quaternion<C> q = between(a, b, w, way, defined);
            known = q.w == q.w && (defined || !valid);
            if (known) {
                const Quaternion<C> by_q = rotation_write_back((int)kind, rotation_row, way, q, g);
                const Ends<C> by = between_back(a, b, w, way, q, by_q);
                rotation_read_back((int)kind, rotation_row, x0, by.a, p0);
                rotation_read_back((int)kind, rotation_row, x1, by.b, p1);
            }
        }
        if (!known) {
            for (int64 c = 0; c < width; ++c) p0[c + c / 3 * gap] = p1[c + c / 3 * gap] = 0;
        }
    }
}

// The gradient of each sample: the sum over its targets, in their order.
template <typename C, typename Z>
__global__ void __launch_bounds__(256, 4) collect_pairs(
    const C* __restrict__ pairs, const int* __restrict__ index, const int* __restrict__ first,
    const C* __restrict__ weight, const int* __restrict__ disorder,
    const void* __restrict__ offsets, Z* __restrict__ out, int64 items, int64 S, int64 B, int64 T,
    int64 D, int64 offsets_width, int64 one_row) {
    wait_for_stream();
    const int64 all = (int64)gridDim.x * blockDim.x;
    for (int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x; item < items; item += all) {
        const int64 place = item / D, d = item - place * D;
        int64 b = place / S, s = place - b * S, n = S;
        if (offsets) {
            if (!one_row) {
                b = row_of_sample(offsets, offsets_width, S, B, place);
                s = place;
            }
            n = 0;
            if (b >= 0 && b < B) {
                const int64 r = one_row ? 0 : b;
                const int64 begin = clamp(load<int64>(offsets, offsets_width, r), 0, S);
                n = load<int64>(offsets, offsets_width, r + 1) - begin;
                n = clamp(n, 0, S - begin);
                s -= begin;
            }
        }
        C total = 0;
        if (s >= 0 && s < n) {
            int64 t = 0, end = T;
            if (!disorder[b]) {
                t = first_above(first + b * T, T, s - 2);
                end = first_above(first + b * T, T, s);
            }
            for (; t < end; ++t) {
                const int64 target = b * T + t, i = index[target];
                if (i == s) total += pairs[2 * target * D + d];
                else if (i >= 0 && i == s - 1 && weight[target] != 0)
                    total += pairs[(2 * target + 1) * D + d];
            }
        }
        out[item] = Narrow<Z>::of(total);
    }
}

// -------------------------------------------------------------------------------------------- slerp

template <typename C, typename X>
__device__ __forceinline__ Quaternion<C> four(const X* q) {
    return {widen<C>(q[0]), widen<C>(q[1]), widen<C>(q[2]), widen<C>(q[3])};
}

template <typename X, typename C>
__device__ __forceinline__ void store_four(X* out, const Quaternion<C>& q) {
    out[0] = Narrow<X>::of(q.x);
    out[1] = Narrow<X>::of(q.y);
    out[2] = Narrow<X>::of(q.z);
    out[3] = Narrow<X>::of(q.w);
}

template <typename X, typename T>
__global__ void __launch_bounds__(256, 1)
    slerp_back(const X* __restrict__ grad, const X* __restrict__ q0, const X* __restrict__ q1,
               const T* __restrict__ t, X* __restrict__ by_q0, X* __restrict__ by_q1,
               T* __restrict__ by_t, int64 items, int64 kind, int64 flags, double t_all) {
    wait_for_stream();
    typedef Computed<X, X> C;
    const int64 all = (int64)gridDim.x * blockDim.x;
    for (int64 item = (int64)blockIdx.x * blockDim.x + threadIdx.x; item < items; item += all) {
        const C w = t ? widen<C>(t[item]) : (C)t_all;
        const Quaternion<C> first = in_order((int)kind, four<C>(q0 + 4 * item)),
                            second = in_order((int)kind, four<C>(q1 + 4 * item));
        const Quaternion<C> a = unit(first), b = unit(second);
        bool defined;
        const Quaternion<C> q = between(a, b, w, (int)flags, defined);
        const Quaternion<C> zero = {(C)0, (C)0, (C)0, (C)0};
        Ends<C> by = {zero, zero, (C)0};
        if (q.w == q.w) {
            const Quaternion<C> g = in_order((int)kind, four<C>(grad + 4 * item));
            by = between_back(a, b, w, (int)flags, q, g);
            by.a = as_stored((int)kind, unit_back(first, by.a));
            by.b = as_stored((int)kind, unit_back(second, by.b));
        }
        store_four(by_q0 + 4 * item, by.a);
        store_four(by_q1 + 4 * item, by.b);
        if (by_t) by_t[item] = Narrow<T>::of(by.w);
    }
}
