#pragma once
// What a target is made of, and the writing of rows. robocache_cupy/_cpu/locate.py defines it.

#include "time.cuh"

enum Method {
    LINEAR, NEAREST, PREVIOUS, NEXT, CATMULL_ROM, PCHIP, AKIMA, MAKIMA, MEAN, SUM, MAX, MIN, ANY
};
enum Edge { HOLD, CONSTANT, EXTRAPOLATE };
enum Constant { EMPTY, NOT_A_NUMBER, AT_LEFT, AT_RIGHT, FILLED };

// -------------------------------------------------------------------------------------- resampling

// What a target is made of: y[i0] + w * (y[i1] - y[i0]), the sample y[i0] itself where w is 0, or
// the constant with the code -1 - i0.
template <typename C> struct Blend {
    int64 i0, i1;
    C w;
    bool valid;
};

template <typename C, typename W> struct Locator {
    const Row<W>& row;
    int64 method, left, right;
    W tolerance, nearness, max_gap;
    bool single = false;  // C is double, but what is computed with is float

    static __device__ __forceinline__ Blend<C> sample(int64 i, bool valid) {
        return {i, 0, (C)0, valid};
    }
    static __device__ __forceinline__ Blend<C> constant(Constant code) {
        return {-1 - (int64)code, 0, (C)0, false};
    }
    template <typename D> __device__ __forceinline__ C ratio(D part, D whole) const {
        return single ? (C)((float)part / (float)whole) : (C)part / (C)whole;
    }

    // q, where j samples are not after it.
    __device__ __forceinline__ Blend<C> operator()(W q, int64 j) const {
        const bool has_before = j > 0;
        W before = 0, after = 0;
        bool has_after = j < row.n;
        if (has_before) before = row.at(j - 1);
        if (has_after) {
            after = row.at(j);
            has_after = !is_nan(after);
        }
        if (!(has_before || has_after)) return constant(EMPTY);
        if (is_nan(q)) return constant(NOT_A_NUMBER);
        if (has_before && before == q)
            return sample(method == NEXT ? row.first_at(j, q) : j - 1, true);
        if (has_before && has_after) {
            const auto gap = elapsed(after, before);
            const bool bridged = within(gap, max_gap);
            if (method == LINEAR) {
                const C w = ratio(elapsed(q, before), gap);
                if (w == 1) return sample(j, bridged);
                return {j - 1, j, w, bridged};
            }
            const auto since = elapsed(q, before), until = elapsed(after, q);
            if (method == PREVIOUS || (method == NEAREST && since <= until))  // a tie: the earlier
                return sample(j - 1, bridged && within(since, nearness));
            return sample(j, bridged && within(until, nearness));
        }
        return has_after ? before_first(q, j, after) : after_last(q, j, before);
    }

    __device__ __forceinline__ Blend<C> before_first(W q, int64 j, W first) const {
        const auto distance = elapsed(first, q);
        if (method == NEXT)  // looks ahead, which is no extrapolation
            return sample(j, within(distance, nearness) && within(distance, max_gap));
        const bool valid = within(distance, tolerance);
        if (left == CONSTANT && !valid) return constant(AT_LEFT);
        if (left == EXTRAPOLATE && method == LINEAR && row.n > 1) {
            const W second = row.at(1);
            if (!is_nan(second) && second > first)
                return {0, 1, -ratio(distance, elapsed(second, first)), valid};
        }
        return sample(0, valid);
    }

    __device__ __forceinline__ Blend<C> after_last(W q, int64 j, W last) const {
        const auto distance = elapsed(q, last);
        if (method == PREVIOUS)
            return sample(j - 1, within(distance, nearness) && within(distance, max_gap));
        const bool valid = within(distance, tolerance);
        if (right == CONSTANT && !valid) return constant(AT_RIGHT);
        if (right == EXTRAPOLATE && method == LINEAR && j > 1) {
            const W second = row.at(j - 2);
            if (second < last) {
                const C w = ratio(elapsed(q, second), elapsed(last, second));
                if (w == 1) return sample(j - 1, valid);
                return {j - 2, j - 1, w, valid};
            }
        }
        return sample(j - 1, valid);
    }
};

// A target between the two phases of a block: where its samples are in data, and its result in out.
template <typename C> struct Target {
    int64 x0, x1, y;  // in elements
    C w;
    int code;  // of a constant, or -1
};

// The bits of a sample, or its values in another type.
template <typename X, typename Y, int V> struct Copy {
    static __device__ __forceinline__ Pack<Y, V> of(const Pack<X, V>& x) {
        typedef Computed<X, Y> C;
        Pack<Y, V> y;
#pragma unroll
        for (int v = 0; v < V; ++v) y.at[v] = Narrow<Y>::of(widen<C>(x.at[v]));
        return y;
    }
};
template <typename X, int V> struct Copy<X, X, V> {
    static __device__ __forceinline__ Pack<X, V> of(const Pack<X, V>& x) { return x; }
};

// The rows of n targets, a pack of V features at a time. A thread keeps to its columns and goes
// from target to target: a division for each pack made bfloat16 a fifth slower.
template <typename X, typename Y, int V>
__device__ __forceinline__ void write(const X* data, Y* out, const Target<Computed<X, Y>>* targets,
                                      const Y* constants, int n, int packs) {
    typedef Computed<X, Y> C;
    if (packs == 0) return;
    const int width = blockDim.x;
    const int rows = packs < width ? width / packs : 1;  // that the block writes at once
    const int row = packs < width ? threadIdx.x / packs : 0;
    if (row >= rows) return;
    for (int column = threadIdx.x - row * packs; column < packs; column += width) {
        const int64 d = (int64)column * V;
        for (int i = row; i < n; i += rows) {
            const C w = targets[i].w;
            Pack<Y, V> y;
            if (targets[i].code >= 0) {
#pragma unroll
                for (int v = 0; v < V; ++v) y.at[v] = constants[targets[i].code];
            } else {
                const Pack<X, V> x0 = load_pack<X, V>(data + targets[i].x0 + d);
                if (w == 0) {
                    y = Copy<X, Y, V>::of(x0);
                } else {
                    const Pack<X, V> x1 = load_pack<X, V>(data + targets[i].x1 + d);
#pragma unroll
                    for (int v = 0; v < V; ++v) {
                        const C a = widen<C>(x0.at[v]), b = widen<C>(x1.at[v]);
                        y.at[v] = Narrow<Y>::of(a + w * (b - a));
                    }
                }
            }
            store_pack<Y, V>(out + targets[i].y + d, y);
        }
        if (packs < width) break;
    }
}

// The same where all targets are made of samples or `constants`, there are samples, and targets are
// few: a thread loads for some of them at once, which do not wait for one another.
template <typename X, int V, int AT_ONCE>
__device__ __forceinline__ void write_few(const X* data, X* out,
                                          const Target<Computed<X, X>>* targets,
                                          const X* constants, int n, int packs) {
    typedef Computed<X, X> C;
    if (packs == 0) return;
    const int width = blockDim.x;
    const Rows rows(packs);
    if (rows.row >= rows.at_once) return;
    for (int column = threadIdx.x - rows.row * packs; column < packs; column += width) {
        const int64 d = (int64)column * V;
        for (int i = rows.row; i < n; i += rows.at_once * AT_ONCE) {
            Raw<X, V> x0[AT_ONCE], x1[AT_ONCE];
#pragma unroll
            for (int u = 0; u < AT_ONCE; ++u) {
                const Target<C>& target = targets[min(i + u * rows.at_once, n - 1)];
                x0[u] = load_raw<X, V>(data + target.x0 + d);
                x1[u] = x0[u];
                if (target.w != 0) x1[u] = load_raw<X, V>(data + target.x1 + d);
            }
#pragma unroll
            for (int u = 0; u < AT_ONCE; ++u) {
                if (u > 0 && i + u * rows.at_once >= n) break;
                const Target<C>& target = targets[i + u * rows.at_once];
                X* const y = out + target.y + d;
                if (target.code >= 0) {
                    Pack<X, V> filled;
#pragma unroll
                    for (int v = 0; v < V; ++v) filled.at[v] = constants[target.code];
                    store_pack<X, V>(y, filled);
                } else if (target.w == 0) {
                    store_raw<X, V>(y, x0[u]);
                } else {
                    C a[V], b[V];
                    widen_raw<X, V>(x0[u], a);
                    widen_raw<X, V>(x1[u], b);
#pragma unroll
                    for (int v = 0; v < V; ++v) a[v] = a[v] + target.w * (b[v] - a[v]);
                    store_raw<X, V>(y, narrow_raw<X, V>(a));
                }
            }
        }
        if (packs < width) break;
    }
}
