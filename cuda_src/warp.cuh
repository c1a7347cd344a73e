#pragma once
// The lanes of a warp. On the host a block is one thread, and its warp one lane.

#include "common.cuh"

#ifdef __CUDA_ARCH__
constexpr int WARP = 32;

__device__ __forceinline__ unsigned votes(bool yes) { return __ballot_sync(0xffffffff, yes); }
__device__ __forceinline__ bool same_in_warp(unsigned x) {
    return __all_sync(0xffffffff, x == __shfl_sync(0xffffffff, x, 0));
}

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
inline bool same_in_warp(unsigned) { return true; }
template <typename T> T max_of_warp(T x) { return x; }
#endif

template <> __device__ __forceinline__ int64 max_of_warp<int64>(int64 x) {
    const int high = max_of_warp((int)(x >> 32));
    const unsigned low = max_of_warp((int)(x >> 32) == high ? (unsigned)x : 0u);
    return (int64)((uint64)(unsigned)high << 32 | low);
}

__device__ __forceinline__ unsigned min_of_warp(unsigned x) { return ~max_of_warp(~x); }
