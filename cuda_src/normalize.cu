// Normalisation. What each kernel computes is defined by the function of the same name and
// parameters in robocache_cupy/_cpu/normalize.py.

#include "common.cuh"

// The statistics of V neighbouring columns.
template <typename C, int V> struct Statistics {
    C shift[V], scale[V], offset[V], low[V], high[V];

    __device__ __forceinline__ Statistics(const C* __restrict__ table, int64 period, int64 column) {
#pragma unroll
        for (int j = 0; j < V; ++j) {
            const C* at = table + column;
            shift[j] = __ldg(at);
            scale[j] = __ldg(at + period);
            offset[j] = __ldg(at + 2 * period);
            low[j] = __ldg(at + 3 * period);
            high[j] = __ldg(at + 4 * period);
            if (++column == period) column = 0;
        }
    }
    __device__ __forceinline__ C operator()(C x, int j) const {
        const C y = (x - shift[j]) * scale[j] + offset[j];
        return y < low[j] ? low[j] : y > high[j] ? high[j] : y;
    }
};

__device__ __forceinline__ int64 remainder_of(int64 i, int64 n) {
    return (i | n) >> 31 ? i % n : (unsigned)i % (unsigned)n;  // 64 bits take ten times as long
}

constexpr int AT_ONCE = 4;

// Elements begin to end, V at a time. The grid's stride is a multiple of the period where the grid
// is that large: each thread then keeps its columns, and their statistics in registers.
//
//   x  │ 0 1 2 3│4 5 6 0│1 2 3 4│5 6 0 1│2 3 4 5│6 0 1 2│3 4 5 6│ 0 1 2 3│ ...    7 columns, V = 4
//      thread 0 │   1   │   2   │   3   │   4   │   5   │   6   │ thread 0 again
template <typename X, typename Y, int V>
__device__ __forceinline__ void write(const X* __restrict__ x,
                                      const Computed<X, Y>* __restrict__ table,
                                      Y* __restrict__ out, int64 begin, int64 end, int64 period) {
    typedef Computed<X, Y> C;
    const int64 threads = (int64)gridDim.x * blockDim.x;
    const int64 thread = (int64)blockIdx.x * blockDim.x + threadIdx.x;
    int64 i = begin + thread * V;
    if (i >= end) return;
    fetch_line(x + i);  // under way before the divisions that follow

    int64 common = period;  // threads that lead from a column back to it: period / gcd(period, V)
#pragma unroll
    for (int v = V; v > 1; v /= 2)
        if (common % 2 == 0) common /= 2;
    const bool keeps = threads >= common;
    const int64 active = keeps ? threads - remainder_of(threads, common) : threads;
    if (thread >= active) return;

    Statistics<C, V> of(table, period, remainder_of(i, period));
    const auto put = [&](const Pack<X, V>& from, int64 at) {
        Pack<Y, V> to;
#pragma unroll
        for (int j = 0; j < V; ++j) to.at[j] = Narrow<Y>::of(of(widen<C>(from.at[j]), j));
        store_pack<Y, V>(out + at, to);
    };
    const int64 step = active * V;
    // More bytes under way at once.
    for (; keeps && i + (AT_ONCE - 1) * step < end; i += AT_ONCE * step) {
        Pack<X, V> from[AT_ONCE];
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) from[k] = load_pack<X, V>(x + i + k * step);
#pragma unroll
        for (int k = 0; k < AT_ONCE; ++k) put(from[k], i + k * step);
    }
    while (i < end) {
        put(load_pack<X, V>(x + i), i);
        i += step;
        if (i >= end) return;
        if (!keeps) of = Statistics<C, V>(table, period, remainder_of(i, period));
    }
}

// `out` may be x.
template <typename X, typename Y>
__global__ void __launch_bounds__(256) affine(const X* x, const Computed<X, Y>* __restrict__ table,
                                              Y* out, int64 items, int64 period, int64 aligned) {
    wait_for_stream();
    constexpr int size = sizeof(X) > sizeof(Y) ? sizeof(X) : sizeof(Y);
    constexpr int V = size > 2 ? 16 / size : 8;
    const int64 packed = aligned ? items / V * V : 0;
    write<X, Y, V>(x, table, out, 0, packed, period);
    if (packed < items) write<X, Y, 1>(x, table, out, packed, items, period);
}
