#pragma once
// The lanes of a warp. On the host a block is one thread, and its warp one lane.

#include "common.cuh"

#ifdef __CUDA_ARCH__
constexpr int WARP = 32;

__device__ __forceinline__ unsigned votes(bool yes) { return __ballot_sync(0xffffffff, yes); }

template <typename T> __device__ __forceinline__ T max_of_warp(T x) {  // int and unsigned
#if __CUDA_ARCH__ >= 800
    return __reduce_max_sync(0xffffffff, x);
#else
    for (int step = 16; step > 0; step /= 2) x = max(x, __shfl_xor_sync(0xffffffff, x, step));
    return x;
#endif
}
#else
constexpr int WARP = 1;

inline unsigned votes(bool yes) { return yes; }
template <typename T> T max_of_warp(T x) { return x; }
#endif

template <> __device__ __forceinline__ int64 max_of_warp<int64>(int64 x) {
    const int high = max_of_warp((int)(x >> 32));
    const unsigned low = max_of_warp((int)(x >> 32) == high ? (unsigned)x : 0u);
    return (int64)((uint64)(unsigned)high << 32 | low);
}

__device__ __forceinline__ unsigned min_of_warp(unsigned x) { return ~max_of_warp(~x); }

// Rows of points, a lane each, whose three numbers of 4 bytes lie side by side in memory from `out` on:
// stored one by one they would write each sector in three parts. `out` and its rows begin at multiples
// of 16 bytes, and `stage` is shared memory of the warp's own, of STAGED numbers for each row.
constexpr int STAGED = 3 * WARP;

template <int ROWS, typename T>
__device__ __forceinline__ void store_points(T* out, int64 step, int rows, const T points[ROWS][3],
                                             T* stage) {
    static_assert(sizeof(T) == 4);
    constexpr int PACKS = STAGED / 4;
    const int lane = (int)threadIdx.x % WARP;
#pragma unroll
    for (int r = 0; r < ROWS; ++r)
#pragma unroll
        for (int k = 0; k < 3; ++k) stage[r * STAGED + lane * 3 + k] = points[r][k];
    __syncwarp();
#pragma unroll
    for (int i = lane; i < ROWS * PACKS; i += WARP) {
        const int r = i / PACKS, pack = i - r * PACKS;
        if (r < rows) store_raw<T, 4>(out + r * step + pack * 4, ((const Raw<T, 4>*)stage)[i]);
    }
    __syncwarp();
}
