#pragma once
// Windows of episodes. robocache_cupy/_cpu/windows.py defines what these do.

#include "time.cuh"

__device__ __forceinline__ int64 plus(int64 t, int64 duration) {
    return t == NAT ? t : (int64)((uint64)t + (uint64)duration);
}
__device__ __forceinline__ double plus(double t, double duration) { return t + duration; }

// Sample i of n, mirrored at the first and last of them as often as it takes.
__device__ __forceinline__ int64 mirrored_index(int64 i, int64 n) {
    const int64 period = 2 * (n - 1);
    if (period == 0) return 0;
    int64 k = i % period;
    if (k < 0) k += period;
    return k < n ? k : period - k;
}
