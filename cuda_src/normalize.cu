// Normalisation. What each kernel computes is defined by the function of the same name and
// parameters in robocache_cupy/_cpu/normalize.py.

#include "common.cuh"

// The statistics of V neighbouring columns; of one for all, where they are alike.
template <typename C, int V> struct Statistics {
    C shift[V], scale[V], offset[V], low[V], high[V];

    __device__ __forceinline__ Statistics(const C* __restrict__ table, int64 columns, int64 column,
                                          bool alike) {
        C* const rows[5] = {shift, scale, offset, low, high};
        constexpr int W = 16 / sizeof(C) < V ? 16 / sizeof(C) : V;
        if (alike) {
#pragma unroll
            for (int r = 0; r < 5; ++r) {
                const C one = __ldg(table + r * columns + column);
#pragma unroll
                for (int j = 0; j < V; ++j) rows[r][j] = one;
            }
        } else if (columns % V == 0) {
#pragma unroll
            for (int r = 0; r < 5; ++r)
#pragma unroll
                for (int k = 0; k < V; k += W) {
                    const Pack<C, W> pack = load_pack<C, W>(table + r * columns + column + k);
#pragma unroll
                    for (int j = 0; j < W; ++j) rows[r][k + j] = pack.at[j];
                }
        } else {
#pragma unroll
            for (int j = 0; j < V; ++j) {
#pragma unroll
                for (int r = 0; r < 5; ++r) rows[r][j] = __ldg(table + r * columns + column);
                if (++column == columns) column = 0;
            }
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

constexpr int AT_ONCE = 4;  // packs of a thread

// Packs of V elements, in lines of so many that the columns come again, short ones side by side. A
// tile is `own` packs of `depth` lines, each thread's one below the other:
//
//   x  │ 0 1 2 3│4 5 6 0│1 2 3 4│5 6 0 1│2 3 4 5│6 0 1 2│3 4 5 6│     7 columns, V = 4
//      │ 0 1 2 3│4 5 6 0│1 2 3 4│5 6 0 1│2 3 4 5│6 0 1 2│3 4 5 6│     `depth` lines
//      thread 0 │   1   │   2   │   3   │   4   │   5   │   6   │
//
// Or lines whose packs are all of one column, the pixels of a channel: then a tile is `own * depth`
// packs of one line, each thread's `own` apart. Either way a thread loads statistics once, for up to
// four packs that are all under way at once.
template <typename X, typename Y, int V>
__device__ __forceinline__ void write(const X* __restrict__ x,
                                      const Computed<X, Y>* __restrict__ table,
                                      Y* __restrict__ out, int64 packs, int64 columns, bool alike,
                                      unsigned tiles, unsigned own, unsigned across, int64 line,
                                      int depth) {
    typedef Computed<X, Y> C;
    for (unsigned tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        const unsigned row = across == 1 ? tile : tile / across, part = tile - row * across;
        for (unsigned t = threadIdx.x; t < own; t += blockDim.x) {
            const int64 place = (int64)part * own * (alike ? depth : 1) + t;
            const int64 first = (int64)row * line * (alike ? 1 : depth) + place;
            const int64 stride = alike ? own : line;
            if (place >= line) break;
            const int64 left = alike ? line - place : packs - first;
            Pack<X, V> read[AT_ONCE];
#pragma unroll
            for (int k = 0; k < AT_ONCE; ++k)
                if (k < depth && k * stride < left)
                    read[k] = load_pack<X, V>(x + (first + k * stride) * V);
            const int64 column = remainder_of(alike ? row : place * V, columns);
            const Statistics<C, V> of(table, columns, column, alike || columns == 1);
#pragma unroll
            for (int k = 0; k < AT_ONCE; ++k) {
                if (k >= depth || k * stride >= left) break;
                Pack<Y, V> made;
#pragma unroll
                for (int j = 0; j < V; ++j)
                    made.at[j] = Narrow<Y>::of(of(widen<C>(read[k].at[j]), j));
                store_pack<Y, V>(out + (first + k * stride) * V, made);
            }
        }
    }
}

// `out` may be x. Of 8 bytes to 4 a thread needs more registers than the compiler would give it.
template <typename X, typename Y>
__global__ void __launch_bounds__(128, sizeof(X) == 8 && sizeof(Y) == 4 ? 4 : 0)
    affine(const X* x, const Computed<X, Y>* __restrict__ table, Y* out, int64 items, int64 columns,
           int64 run, int64 aligned, int64 tiles, int64 own, int64 across, int64 line,
           int64 depth) {
    wait_for_stream();
    typedef Computed<X, Y> C;
    constexpr int V = sizeof(X) == 8 || sizeof(Y) == 8 ? 2 : 4;
    if (!aligned)
        return write<X, Y, 1>(x, table, out, items, columns, run > 1, tiles, own, across, line, depth);
    write<X, Y, V>(x, table, out, items / V, columns, run > 1, tiles, own, across, line, depth);
    if (blockIdx.x == 0)  // what is left
        for (int64 i = items / V * V + threadIdx.x; i < items; i += blockDim.x) {
            const Statistics<C, 1> of(table, columns, remainder_of(i, columns), false);
            out[i] = Narrow<Y>::of(of(widen<C>(x[i]), 0));
        }
}
